//! `cargo xtask size`: measures what a visitor downloads for `Detector.load()`, against a budget that only a commit
//! raises.

mod parts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use xshell::Shell;

use crate::wasm::{self, Size};
use crate::workspace;

/// Growth that is accepted, because compilers and compressors differ a little.
const TOLERANCE: f64 = 0.03;

/// Modules of the package that `Detector.load()` does not load, and its other entries.
const ON_DEMAND: &[&str] =
    &["draw.js", "element.js", "helpers.js", "inline.js", "labels.js", "overlay.js", "small.js"];

/// The glue code of all engines, which the worker's script imports.
const GLUE: &[&str] = &["micro_yolo.js", "micro_yolo_full.js", "micro_yolo_threads.js"];

/// Arguments of `cargo xtask size`.
#[derive(Args, Default)]
pub struct SizeArgs {
    /// Make what was measured the new budget, and write it into docs/performance.md
    #[arg(long)]
    accept: bool,
    /// Also say which crates the engine's code is from, before wasm-opt
    #[arg(long)]
    crates: bool,
}

/// Bytes of what one visitor downloads, after gzip unless stated otherwise.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Download {
    /// The package's modules and the glue code, minified, each compressed separately.
    javascript: u64,
    /// The larger of the plain engines: a browser loads one.
    engine: u64,
    /// The larger of the full engines, which the default model does not need.
    full_engine: u64,
    /// The default model.
    model: u64,
    /// The entry `micro-yolo/inline`, which has all parts in one module.
    inline: u64,
    /// The same before gzip: base64 of compressed data, which gzip makes smaller by a quarter.
    inline_raw: u64,
}

/// `cargo xtask size`; fails if a part exceeds its budget.
///
/// # Errors
///
/// If the build fails or a part exceeds its budget.
pub fn run(sh: &Shell, args: &SizeArgs) -> Result<ExitCode> {
    wasm::build(sh)?;
    let download = Download::measure(&wasm::package(sh)?)?;
    let path = budget_path();
    if args.accept {
        let text = serde_json::to_string_pretty(&download)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        let document = document_path();
        let text = std::fs::read_to_string(&document).with_context(|| format!("reading {}", document.display()))?;
        std::fs::write(&document, download.document(&text)?)
            .with_context(|| format!("writing {}", document.display()))?;
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let budget: Download = serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    println!("{:<12}{:>12}{:>12}", "gzip, bytes", "now", "budget");
    for (name, now, allowed) in download.beside(budget) {
        println!("{name:<12}{now:>12}{allowed:>12}");
    }
    println!("{:<12}{:>12}", "together", download.together());
    if args.crates {
        for variant in wasm::VARIANTS.iter().filter(|variant| !variant.is_relaxed()) {
            let module = wasm::raw_module(variant)?;
            let bytes = std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
            let crates = parts::code_by_crate(&bytes)?;
            let all: usize = crates.iter().map(|(_, size)| size).sum();
            println!("\n{}\n{:<24}{:>12}{:>8}", variant.file, "code, raw bytes", all, "100 %");
            for (name, size) in crates.iter().take(20) {
                println!("{name:<24}{size:>12}{:>6.1} %", 100.0 * *size as f64 / all as f64);
            }
        }
    }
    download.check(budget)?;
    Ok(ExitCode::SUCCESS)
}

fn budget_path() -> PathBuf {
    workspace::path("xtask/size-budget.json")
}

/// The document that shows the budget between the lines [`BEGIN`] and [`END`].
fn document_path() -> PathBuf {
    workspace::path("docs/performance.md")
}

const BEGIN: &str = "<!-- begin: cargo xtask size --accept -->\n";
const END: &str = "<!-- end -->\n";

impl Download {
    /// Measures the package in this folder, as it is published.
    fn measure(package: &Path) -> Result<Download> {
        let gzip = |path: &Path| Ok::<u64, anyhow::Error>(Size::of(path)?.gzip);
        let mut javascript = 0;
        for name in GLUE {
            javascript += gzip(&package.join("wasm").join(name))?;
        }
        for entry in std::fs::read_dir(package).with_context(|| format!("reading {}", package.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".js") && !ON_DEMAND.contains(&&*name) {
                javascript += gzip(&path)?;
            }
        }
        let (mut engine, mut full_engine) = (0, 0);
        for variant in wasm::VARIANTS {
            let largest = if variant.is_full() { &mut full_engine } else { &mut engine };
            *largest = gzip(&package.join("wasm").join(variant.file))?.max(*largest);
        }
        let inline = Size::of(&package.join("inline.js"))?;
        Ok(Download {
            javascript,
            engine,
            full_engine,
            model: gzip(&package.join("wasm").join(wasm::DEFAULT_MODEL))?,
            inline: inline.gzip,
            inline_raw: inline.raw,
        })
    }

    /// What a visitor downloads for the default model.
    fn together(self) -> u64 {
        self.javascript + self.engine + self.model
    }

    /// The document `text` with these figures in its table, formatted as by Prettier.
    fn document(self, text: &str) -> Result<String> {
        let rows = [
            ("JavaScript", self.javascript),
            ("engine", self.engine),
            ("model", self.model),
            ("together", self.together()),
            ("full engine, if a model needs it", self.full_engine),
            ("or `micro-yolo/inline`", self.inline),
            ("the same before gzip", self.inline_raw),
        ]
        .map(|(name, bytes)| (name, grouped(bytes)));
        let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let width = rows.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default().max("bytes".len());
        let mut table = format!("\n| {:<name_width$} | {:>width$} |\n", "part", "bytes");
        table += &format!("| {} | {}: |\n", "-".repeat(name_width), "-".repeat(width - 1));
        for (name, bytes) in rows {
            table += &format!("| {name:<name_width$} | {bytes:>width$} |\n");
        }
        let (before, rest) = text.split_once(BEGIN).context("the document has no place for the sizes")?;
        let (_, after) = rest.split_once(END).context("the place for the sizes has no end")?;
        Ok(format!("{before}{BEGIN}{table}\n{END}{after}"))
    }

    fn parts(self) -> [(&'static str, u64); 6] {
        [
            ("javascript", self.javascript),
            ("engine", self.engine),
            ("full engine", self.full_engine),
            ("model", self.model),
            ("inline", self.inline),
            ("inline, raw", self.inline_raw),
        ]
    }

    fn beside(self, budget: Download) -> impl Iterator<Item = (&'static str, u64, u64)> {
        self.parts().into_iter().zip(budget.parts()).map(|((name, now), (_, allowed))| (name, now, allowed))
    }

    fn check(self, budget: Download) -> Result<()> {
        for (name, now, allowed) in self.beside(budget) {
            if now as f64 > allowed as f64 * (1.0 + TOLERANCE) {
                bail!(
                    "{name} has grown from {allowed} to {now} bytes: find out why, \
                     or `cargo xtask size --accept` and say why in the commit"
                );
            }
        }
        Ok(())
    }
}

/// `1,204,049`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_tolerance_is_refused() {
        let budget = Download {
            javascript: 1000,
            engine: 10_000,
            full_engine: 30_000,
            model: 10_000,
            inline: 20_000,
            inline_raw: 30_000,
        };
        assert!(Download { engine: 10_300, ..budget }.check(budget).is_ok());
        let message = Download { engine: 10_301, ..budget }.check(budget).unwrap_err().to_string();
        assert!(message.contains("engine") && message.contains("--accept"), "{message}");
        assert!(Download { model: 20_000, ..budget }.check(budget).is_err());
        assert!(Download { inline: 20_601, ..budget }.check(budget).is_err());
        assert!(Download { inline_raw: 30_901, ..budget }.check(budget).is_err());
        let smaller = Download { javascript: 1, engine: 1, full_engine: 1, model: 1, inline: 1, inline_raw: 1 };
        assert!(smaller.check(budget).is_ok());
    }

    #[test]
    fn the_budget_in_the_repository_is_readable() {
        let text = std::fs::read_to_string(budget_path()).unwrap();
        let budget: Download = serde_json::from_str(&text).unwrap();
        assert!(budget.parts().iter().all(|(_, bytes)| *bytes > 0));
    }

    #[test]
    fn the_document_shows_the_budget() {
        let budget = serde_json::from_str::<Download>(&std::fs::read_to_string(budget_path()).unwrap()).unwrap();
        let text = std::fs::read_to_string(document_path()).unwrap();
        assert_eq!(budget.document(&text).unwrap(), text, "`cargo xtask size --accept` writes it");
        let other = Download { engine: 1_234_567, ..budget }.document(&text).unwrap();
        assert!(other.contains(" 1,234,567 |"), "{other}");
        assert!(budget.document("no place").is_err() && budget.document(BEGIN).is_err());
        assert_eq!([0, 999, 1000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
    }
}
