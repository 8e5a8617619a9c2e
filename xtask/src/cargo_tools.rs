//! Programs that cargo installs: wasm-pack, wasm-bindgen's test runner, geckodriver.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{process, workspace};

/// Finds a program in xtask's folder or on PATH, of exactly `version` if one is given.
pub fn find(sh: &Shell, program: &str, version: Option<&str>) -> Option<PathBuf> {
    let own = workspace::tools_dir().ok().map(|dir| dir.join("bin"));
    let own = own.and_then(|bin| which::which_in(program, Some(&bin), &bin).ok());
    let fits = |path: &PathBuf| match version {
        None => true,
        // `wasm-bindgen 0.2.130`
        Some(version) => cmd!(sh, "{path} --version")
            .quiet()
            .ignore_stderr()
            .read()
            .is_ok_and(|text| text.split_whitespace().nth(1) == Some(version)),
    };
    own.into_iter().chain(process::which(sh, program)).find(fits)
}

/// Finds the program of a crate, or installs the crate with cargo.
///
/// # Errors
///
/// If neither the crate's own lock file nor the newest versions of its dependencies build.
pub fn ensure(sh: &Shell, krate: &str, program: &str, version: Option<&str>) -> Result<PathBuf> {
    if let Some(found) = find(sh, program, version) {
        return Ok(found);
    }
    let spec = version.map_or(krate.to_owned(), |version| format!("{krate}@{version}"));
    eprintln!("xtask: installing {spec} with cargo (some minutes, once)");
    let root = workspace::tools_dir()?;
    // Outside this workspace, to avoid its compiler flags. The tool runs on this machine, so the toolchain that runs
    // xtask builds it.
    let _in = sh.push_dir(std::env::temp_dir());
    let install = |locked: &[&str]| {
        cmd!(sh, "cargo install --quiet {locked...} --root {root} {spec}").env_remove("CARGO_BUILD_TARGET").run()
    };
    // A lock file may name a release that was yanked since. That fails at once, before anything is compiled.
    install(&["--locked"]).or_else(|_| install(&[]))?;
    find(sh, program, version).with_context(|| format!("{spec} was installed but {program} is not there"))
}

/// `wasm-pack`, installed if missing.
///
/// # Errors
///
/// If cargo cannot install it.
pub fn wasm_pack(sh: &Shell) -> Result<PathBuf> {
    ensure(sh, "wasm-pack", "wasm-pack", None)
}

/// The test runner of wasm-bindgen in the locked version, which wasm-pack would otherwise download.
///
/// # Errors
///
/// If cargo cannot install it.
pub fn wasm_bindgen(sh: &Shell) -> Result<PathBuf> {
    let version = workspace::locked_version(sh, "wasm-bindgen")?;
    ensure(sh, "wasm-bindgen-cli", "wasm-bindgen", Some(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_version_is_not_found() {
        let sh = Shell::new().unwrap();
        assert_eq!(find(&sh, "cargo", Some("0.0.0")), None);
        assert!(find(&sh, "cargo", None).is_some());
    }
}
