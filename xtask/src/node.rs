//! Node and the npm packages of the root `package.json` (linters, bundlers, browser drivers, wasm-opt).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::{Cmd, Shell, cmd};

use crate::{apt, process, workspace};

/// The oldest major version that the packages of `package.json` run on.
const MIN_MAJOR: u32 = 20;

/// The folder for node from the npm registry, in xtask's folder of tools.
const OWN: &str = "node";

/// Finds node and npm, or installs them, and returns the version of node. The shell then uses these.
///
/// If node is too old (Debian's), its npm installs a newer one, which the npm registry has as a package.
///
/// # Errors
///
/// If there is no node and none can be installed. The message says what to do.
pub fn ensure(sh: &Shell) -> Result<String> {
    if let Ok(version) = found(sh) {
        return Ok(version);
    }
    let own = workspace::tools_dir()?.join(OWN);
    let bin = own.join("node_modules/.bin");
    if !bin.is_dir() {
        let npm = || process::which(sh, "npm");
        let npm = apt::find_or_install(sh, npm, &["nodejs", "npm", "ca-certificates"]).with_context(|| {
            format!("node {MIN_MAJOR} or newer with npm is missing: install it from your system's packages or nodejs.org")
        })?;
        if let Ok(version) = found(sh) {
            return Ok(version);
        }
        eprintln!("xtask: installing a newer node with npm");
        cmd!(sh, "{npm} install --silent --no-audit --no-fund --prefix {own} node@22 npm@10").run()?;
    }
    process::push_path(sh, &bin)?;
    found(sh)
}

/// The version of the node on the shell's PATH.
fn found(sh: &Shell) -> Result<String> {
    let version = process::program(sh, "node").arg("--version").quiet().ignore_stderr().read();
    let version = version.ok().context("node is missing")?;
    if process::which(sh, "npm").is_none() {
        bail!("npm is missing: install it beside node {version}");
    }
    match major(&version) {
        Some(major) if major >= MIN_MAJOR => Ok(version),
        _ => bail!("node {version} is too old, {MIN_MAJOR} is needed: install a newer one from nodejs.org"),
    }
}

/// 20 for `v20.20.2`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Installs the npm packages of the repository, unless the installed ones match the lock file.
///
/// # Errors
///
/// If node is missing or npm fails.
pub fn install(sh: &Shell) -> Result<String> {
    install_in(sh, &workspace::root())
}

/// As [`install`], in a folder with its own `package-lock.json`.
///
/// # Errors
///
/// As [`install`].
pub fn install_in(sh: &Shell, folder: &Path) -> Result<String> {
    ensure(sh)?;
    let lock = folder.join("package-lock.json");
    // npm writes this file at the end of an installation.
    let installed = folder.join("node_modules/.package-lock.json");
    let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified());
    let wanted = modified(&lock).with_context(|| format!("reading {}", lock.display()))?;
    if !modified(&installed).is_ok_and(|installed| installed >= wanted) {
        eprintln!("xtask: installing the npm packages of {}", lock.display());
        let _in = sh.push_dir(folder);
        process::program(sh, "npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).run()?;
    }
    Ok("node_modules".to_owned())
}

/// A program of the npm packages.
///
/// # Errors
///
/// If the package is not installed.
pub fn program<'a>(sh: &'a Shell, name: &str) -> Result<Cmd<'a>> {
    let path = bin(name).with_context(|| format!("{name} is missing: `npm ci` installs it"))?;
    Ok(sh.cmd(path))
}

/// wasm-opt, from the npm packages or on PATH.
pub fn wasm_opt(sh: &Shell) -> Option<PathBuf> {
    bin("wasm-opt").filter(|_| ensure(sh).is_ok()).or_else(|| process::which(sh, "wasm-opt"))
}

/// The path of a program of the npm packages; on Windows it is `NAME.cmd`.
fn bin(name: &str) -> Option<PathBuf> {
    let folder = workspace::path("node_modules/.bin");
    which::which_in(name, Some(&folder), &folder).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_of_what_node_prints() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("20.20.2"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_node_that_is_too_old_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sh = Shell::new().unwrap();
        process::push_path(&sh, dir.path()).unwrap();
        let set = |version: &str| {
            process::write_script(dir.path(), "node", &format!("echo {version}")).unwrap();
            process::write_script(dir.path(), "npm", "").unwrap();
        };
        set("v18.19.0");
        assert!(found(&sh).unwrap_err().to_string().contains("too old"));
        set("v20.0.0");
        assert_eq!(found(&sh).unwrap(), "v20.0.0");
    }
}
