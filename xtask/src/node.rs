//! Node and the npm packages of the root `package.json` (linter, bundlers, browser drivers, wasm-opt).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// The oldest major version that the packages of `package.json` run on.
const MIN_MAJOR: u32 = 20;

/// The version of node.
///
/// # Errors
///
/// If node or npm is missing or node is too old, with what to do.
pub fn check() -> Result<String> {
    let missing = || {
        format!(
            "node {MIN_MAJOR} or newer with npm is missing: install it from your system's packages or nodejs.org"
        )
    };
    let version = process::output(Command::new("node").arg("--version")).ok().with_context(missing)?;
    if process::which("npm").is_none() {
        bail!("npm is missing: install it beside node {version}");
    }
    match major(&version) {
        Some(major) if major >= MIN_MAJOR => Ok(version),
        _ => bail!("node {version} is too old, {MIN_MAJOR} is needed: install a newer one from nodejs.org"),
    }
}

/// 20 of `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Installs the npm packages unless what is there fits the lock file.
///
/// # Errors
///
/// If node is missing or npm fails.
pub fn install() -> Result<String> {
    check()?;
    let lock = workspace::path("package-lock.json");
    // Written by npm at the end of an installation.
    let installed = workspace::path("node_modules/.package-lock.json");
    let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified());
    let wanted = modified(&lock).with_context(|| format!("reading {}", lock.display()))?;
    if !modified(&installed).is_ok_and(|installed| installed >= wanted) {
        eprintln!("xtask: installing the npm packages of package-lock.json");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(workspace::root());
        process::run(&mut npm)?;
    }
    Ok("node_modules".to_owned())
}

/// A program of the npm packages.
///
/// # Errors
///
/// If the package is not installed.
pub fn program(name: &str) -> Result<Command> {
    let path = workspace::path("node_modules/.bin").join(name);
    if !path.exists() {
        bail!("{name} is missing: `npm ci` installs it");
    }
    let mut command = Command::new(path);
    command.current_dir(workspace::root());
    Ok(command)
}

/// wasm-opt, from the npm packages or on PATH.
pub fn wasm_opt() -> Option<PathBuf> {
    let own = workspace::path("node_modules/.bin/wasm-opt");
    if own.exists() && check().is_ok() { Some(own) } else { process::which("wasm-opt") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_of_what_node_prints() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("20.20.2"), None);
    }
}
