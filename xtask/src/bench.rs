//! `cargo xtask bench`: measurements in a headless browser, and natively.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use wasm_bindgen_cli_support::Bindgen;
use xshell::{Cmd, Shell, cmd};

use crate::browser::Browser;
use crate::toolchain::TARGET;
use crate::{node, process, python, wasm, wasm_toolchain, workspace};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Show where a frame's time goes, step by step
    #[arg(long)]
    profile: bool,
    /// Compare with onnxruntime outside the browser
    #[arg(long, conflicts_with = "profile")]
    native: bool,
    /// Compare with tract-onnx instead of onnxruntime
    #[arg(long, requires = "native")]
    tract: bool,
    /// Compare several threads with one, this many
    #[arg(long, value_name = "N", conflicts_with_all = ["profile", "native"])]
    threads: Option<u32>,
    /// Measure the build without relaxed SIMD, too
    #[arg(long, conflicts_with_all = ["profile", "native", "threads"])]
    simd128: bool,
    /// Sides of the networks' input in pixels, e.g. 416,320,256
    #[arg(long)]
    sizes: Option<String>,
    /// Among micro-yolo and micro-yolo-s, or NAME of a file NAME-SIZE.onnx in --models
    #[arg(long)]
    networks: Option<String>,
    /// How often each takes its turn
    #[arg(long)]
    rounds: Option<u32>,
    /// Folder of other models
    #[arg(long)]
    models: Option<PathBuf>,
    /// Folder of other modules than those of pkg/wasm
    #[arg(long, conflicts_with_all = ["profile", "native"])]
    ours: Option<PathBuf>,
    /// Also write what was measured as JSON
    #[arg(long, conflicts_with_all = ["profile", "native", "threads"])]
    json: Option<PathBuf>,
    /// Also put it into docs/performance.md and draw it
    #[arg(long, conflicts_with_all = ["profile", "native", "threads"])]
    write: bool,
}

impl BenchArgs {
    /// The options for benches/browser/run.mjs or benches/native.py, which use the same names.
    fn options(&self) -> Vec<OsString> {
        let number = |number: Option<u32>| number.map(|number| OsString::from(number.to_string()));
        let path = |path: &Option<PathBuf>| path.as_ref().map(OsString::from);
        let options = [
            ("--threads", number(self.threads)),
            ("--sizes", self.sizes.as_ref().map(OsString::from)),
            ("--networks", self.networks.as_ref().map(OsString::from)),
            ("--rounds", number(self.rounds)),
            ("--models", path(&self.models)),
            ("--ours", path(&self.ours)),
            ("--json", path(&self.json)),
        ];
        let given = options.into_iter().filter_map(|(option, value)| Some([option.into(), value?]));
        let flags = [(self.simd128, "--simd128"), (self.tract, "--tract"), (self.write, "--write")];
        let flags = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.into());
        given.flatten().chain(flags).collect()
    }
}

/// `cargo xtask bench`: builds, then runs `benches/browser/run.mjs` or `benches/native.py`. Installs what these need:
/// npm packages, a browser, Python packages.
///
/// # Errors
///
/// If something needed is missing and cannot be installed, or the build fails.
pub fn run(sh: &Shell, args: &BenchArgs) -> Result<ExitCode> {
    if args.models.is_none() {
        make_models(sh, args.sizes.as_deref().unwrap_or("416,320,256"))?;
    }
    let options = args.options();
    if args.native {
        return run_natively(sh, &options);
    }
    node::install(sh)?;
    node::install_in(sh, &workspace::path("benches/browser"))?;
    let chromium = Browser::Chromium.ensure(sh)?;
    let mut node = process::program(sh, "node").arg("benches/browser/run.mjs");
    if args.profile {
        let folder = build(sh, "tract,relaxed-simd,profile", "micro_yolo_full_relaxed_bg.wasm")?;
        node = node.args(["--profile", "--ours"]).arg(folder);
    } else {
        wasm::build(sh)?;
    }
    exit_code(node.args(options).env("CHROMIUM", chromium))
}

fn exit_code(cmd: Cmd<'_>) -> Result<ExitCode> {
    Ok(if process::succeeds(cmd)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A Python with onnx and onnxruntime: the one that the variable `PYTHON` names, else xtask's own.
fn python(sh: &Shell) -> Result<PathBuf> {
    if let Some(python) = sh.var_os("PYTHON") {
        return Ok(python.into());
    }
    let environment = python::environment(sh, "bench", &workspace::path("benches/requirements.txt")).context(
        "the bench needs Python with onnx and onnxruntime; the variable PYTHON may name one that has them",
    )?;
    environment.program("python").context("the virtual environment has no Python")
}

/// Exports the released models at the sizes to be measured.
fn make_models(sh: &Shell, sizes: &str) -> Result<()> {
    let folder = workspace::target_dir("bench-models")?;
    let python = python(sh)?;
    let sizes = sizes.split(',').map(str::trim);
    cmd!(sh, "{python} benches/models.py {folder} --size {sizes...}").run()?;
    Ok(())
}

/// Runs `benches/native.py`.
fn run_natively(sh: &Shell, options: &[OsString]) -> Result<ExitCode> {
    cmd!(sh, "cargo build --release --package micro-yolo --example native").run()?;
    let program =
        workspace::target_dir("release/examples")?.join("native").with_extension(std::env::consts::EXE_EXTENSION);
    let python = python(sh)?;
    exit_code(cmd!(sh, "{python} benches/native.py --program {program} {options...}"))
}

/// Builds a module that is not in the package, with these features and this name, and returns its folder.
fn build(sh: &Shell, features: &str, name: &str) -> Result<PathBuf> {
    let cargo = wasm_toolchain::ensure(sh)?.command(sh, "cargo")?;
    let cargo = cargo.args(["build", "--package", "micro-yolo", "--lib", "--profile", wasm::PROFILE]);
    let cargo = cargo.args(["--no-default-features", "--target", TARGET, "--features", features]);
    let module = wasm::compiled_module(cargo.args(wasm::MESSAGES))?;
    let folder = workspace::target_dir("wasm-bench")?.join(features);
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let bytes = std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
    let mut bindgen = Bindgen::new();
    let generated = bindgen.input_bytes("micro_yolo_full", bytes).typescript(false).web(true)?.generate(&folder);
    generated.context("wasm-bindgen cannot make the glue")?;
    optimize(sh, &folder.join("micro_yolo_full_bg.wasm"), &folder.join(name))?;
    Ok(folder)
}

/// Optimises a module like those of the package, or copies it if there is no wasm-opt.
fn optimize(sh: &Shell, from: &Path, to: &Path) -> Result<()> {
    match node::wasm_opt(sh) {
        Some(optimizer) => {
            let options = wasm::OPTIMIZATIONS;
            cmd!(sh, "{optimizer} {options...} --enable-relaxed-simd -o {to} {from}").quiet().run()?;
        }
        None if from == to => {}
        None => {
            sh.copy_file(from, to)?;
        }
    }
    Ok(())
}
