//! `cargo xtask pack`: the npm tarball.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use xshell::Shell;

use crate::{node, process, wasm, workspace};

/// Arguments of `cargo xtask pack`.
#[derive(Args)]
pub struct PackArgs {
    /// Folder for the tarball
    #[arg(long, default_value = "target/npm")]
    out: PathBuf,
}

/// `cargo xtask pack`.
///
/// # Errors
///
/// If node is missing, the build fails, or the tarball lacks something that a user of the package needs.
pub fn run(sh: &Shell, args: &PackArgs) -> Result<ExitCode> {
    node::install(sh)?;
    check_manifest(&workspace::path("pkg/package.json"))?;
    wasm::build(sh)?;
    let out = workspace::root().join(&args.out);
    std::fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;

    let answer = {
        let _in = sh.push_dir("pkg");
        process::program(sh, "npm").args(["pack", "--json", "--pack-destination"]).arg(&out).quiet().read()?
    };
    let answer: serde_json::Value = serde_json::from_str(&answer).context("npm pack did not answer in JSON")?;
    // npm 7 to 11 answer with a list; a later one may with the packages by name.
    let package =
        answer.get(0).or_else(|| answer.as_object()?.values().next()).context("npm pack packed nothing")?;
    let files = package["files"].as_array().context("npm pack does not list its files")?;
    let names: Vec<_> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    for extension in [".wasm", ".onnx", ".d.ts", "README.md"] {
        if !names.iter().any(|name| name.ends_with(extension)) {
            bail!("the tarball holds no {extension}");
        }
    }
    let name = package["filename"].as_str().context("npm pack does not name its file")?;
    for file in files {
        println!("{:>10} bytes  {}", file["size"], file["path"].as_str().unwrap_or_default());
    }
    let tarball = out.join(name);
    let size = tarball.metadata().with_context(|| format!("reading {}", tarball.display()))?.len();
    println!("{}: {size} bytes", tarball.display());
    Ok(ExitCode::SUCCESS)
}

/// That the package is ours: `wasm-pack build` without `--out-dir` writes its own into pkg/.
///
/// # Errors
///
/// If the manifest is missing or has no `exports`.
fn check_manifest(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let manifest: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    if manifest.get("exports").is_none() {
        bail!(
            "{} was overwritten, most likely by `wasm-pack build`, whose default folder it is: \
             bring it back with `git checkout pkg`, and give wasm-pack `--out-dir target/wasm-pack`",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_wasm_pack_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("package.json");
        std::fs::write(&path, r#"{"name":"micro-yolo","main":"micro_yolo.js"}"#).unwrap();
        assert!(check_manifest(&path).unwrap_err().to_string().contains("--out-dir"));
        std::fs::write(&path, r#"{"name":"micro-yolo","exports":{}}"#).unwrap();
        assert!(check_manifest(&path).is_ok());
        std::fs::write(&path, "{").unwrap();
        assert!(check_manifest(&path).is_err());
    }
}
