//! `cargo xtask bench`: measurements in a headless browser, and natively.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use wasm_bindgen_cli_support::Bindgen;

use crate::tools::Browser;
use crate::{node, process, toolchain, wasm, workspace};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Show where a frame's time goes, step by step
    #[arg(long)]
    profile: bool,
    /// Compare with onnxruntime outside the browser
    #[arg(long, conflicts_with = "profile")]
    native: bool,
    /// Measure the same crate on tract alone, too
    #[arg(long, conflicts_with_all = ["profile", "native"])]
    stock: bool,
    /// Compare several threads with one, this many
    #[arg(long, value_name = "N", conflicts_with_all = ["profile", "native", "stock"])]
    threads: Option<u32>,
    /// Measure the build without relaxed SIMD, too
    #[arg(long, conflicts_with_all = ["profile", "native", "threads"])]
    simd128: bool,
    /// Sides of the networks' input in pixels, e.g. 416,320,256
    #[arg(long)]
    sizes: Option<String>,
    /// Among released, micro-yolo and yolov3-tiny, or NAME of a file NAME-SIZE.onnx in --models
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
    /// Also draw it
    #[arg(long, conflicts_with_all = ["profile", "native", "threads"])]
    svg: Option<PathBuf>,
}

impl BenchArgs {
    /// For benches/browser/run.mjs or benches/native.py, which have these by the same names.
    fn pass_on(&self, command: &mut Command) {
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
            ("--svg", path(&self.svg)),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                command.arg(option).arg(value);
            }
        }
        if self.simd128 {
            command.arg("--simd128");
        }
    }
}

/// `cargo xtask bench`: builds, then hands over to `benches/browser/run.mjs`, or to `benches/native.py`.
///
/// # Errors
///
/// If what it needs is missing (node and Chromium, or Python with onnxruntime), or the build fails.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    if args.models.is_none() {
        make_models()?;
    }
    if args.native {
        return run_natively(args);
    }
    let script = workspace::path("benches/browser/run.mjs");
    if !script.is_file() {
        bail!("{} is missing", script.display());
    }
    node::install()?;
    let chromium = Browser::Chromium.program().context("Chromium is missing: install it, or set CHROMIUM")?;
    let mut node = Command::new("node");
    node.arg(script);
    if args.profile {
        let folder = build("tract,relaxed-simd,profile", "micro_yolo_relaxed_bg.wasm")?;
        node.args(["--profile", "--ours"]).arg(folder);
    } else {
        wasm::build()?;
    }
    if args.stock {
        node.arg("--stock").arg(build("stock", "micro_yolo_bg.wasm")?);
    }
    args.pass_on(&mut node);
    node.current_dir(workspace::root()).env("CHROMIUM", chromium);
    let status = node.status().context("cannot run node")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A Python that has onnx and onnxruntime, it is hoped: `PYTHON`, or the first one on `PATH`.
fn python() -> Command {
    let mut python = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    python.current_dir(workspace::root());
    python
}

/// Makes the models that are measured unless they are there.
fn make_models() -> Result<()> {
    let folder = workspace::target_dir("bench-models")?;
    let made = |network: &str| folder.join(format!("{network}-256-int8.onnx")).is_file();
    if ["released", "micro-yolo", "yolov3-tiny"].into_iter().all(made) {
        return Ok(());
    }
    let mut command = python();
    command.arg("benches/standin.py").arg(&folder).args(["--size", "416", "320", "256"]);
    process::run(&mut command).context(
        "the models that the bench measures cannot be made; `pip install onnx onnxruntime`, and name the Python that has \
         them in the variable PYTHON",
    )
}

/// Hands over to `benches/native.py`.
fn run_natively(args: &BenchArgs) -> Result<ExitCode> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root()).args([
        "build",
        "--release",
        "--package",
        "micro-yolo",
        "--example",
        "native",
    ]);
    process::run(&mut cargo)?;
    let program =
        workspace::target_dir("release/examples")?.join("native").with_extension(std::env::consts::EXE_EXTENSION);
    let mut python = python();
    python.arg("benches/native.py").arg("--program").arg(program);
    args.pass_on(&mut python);
    let status =
        python.status().context("cannot run Python: name one that has onnxruntime in the variable PYTHON")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A module that no package has, with these features and under this name; returns the folder that it is in.
fn build(features: &str, name: &str) -> Result<PathBuf> {
    let toolchain = toolchain::ensure()?;
    let mut cargo = toolchain.command("cargo")?;
    cargo.current_dir(workspace::root());
    cargo.args(["build", "--package", "micro-yolo", "--lib", "--profile", wasm::PROFILE, "--no-default-features"]);
    cargo.args(["--target", toolchain::TARGET, "--features", features]);
    process::run(&mut cargo)?;
    let module = workspace::target_dir(toolchain::TARGET)?.join(wasm::PROFILE).join("micro_yolo.wasm");
    let folder = workspace::target_dir("wasm-bench")?.join(features);
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let bytes = std::fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
    let mut bindgen = Bindgen::new();
    let generated = bindgen.input_bytes("micro_yolo", bytes).typescript(false).web(true)?.generate(&folder);
    generated.context("wasm-bindgen cannot make the glue")?;
    optimize(&folder.join("micro_yolo_bg.wasm"), &folder.join(name))?;
    Ok(folder)
}

/// As the package's modules are optimised, or a plain copy without wasm-opt.
fn optimize(from: &Path, to: &Path) -> Result<()> {
    match node::wasm_opt() {
        Some(optimizer) => {
            let mut command = Command::new(optimizer);
            process::run(command.args(wasm::OPTIMIZATIONS).args(["--enable-relaxed-simd", "-o"]).arg(to).arg(from))
        }
        None if from == to => Ok(()),
        None => {
            std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
            Ok(())
        }
    }
}
