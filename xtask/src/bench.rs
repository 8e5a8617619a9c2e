//! `cargo xtask bench`: measurements in a headless browser.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::tools::Browser;
use crate::{node, wasm, workspace};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Passed on to benches/browser/run.mjs
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// `cargo xtask bench`: builds, then hands over to `benches/browser/run.mjs`.
///
/// # Errors
///
/// If node or Chromium is missing, or the build fails.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let script = workspace::path("benches/browser/run.mjs");
    if !script.is_file() {
        bail!("{} is missing", script.display());
    }
    node::install()?;
    let chromium = Browser::Chromium.program().context("Chromium is missing: install it, or set CHROMIUM")?;
    wasm::build()?;
    let mut node = Command::new("node");
    node.arg(script).args(&args.args).current_dir(workspace::root()).env("CHROMIUM", chromium);
    let status = node.status().context("cannot run node")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
