//! libtorch, which the trainer of `compress` runs on. PyPI has it for every system, in the wheel of PyTorch.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, process, tools};

/// The version that `tch` in Cargo.lock is made for.
const VERSION: &str = "2.11.0";

/// Where the dynamic linker looks first.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// The variables by which `tch` finds libtorch: none where the user has set one, else those of the one in xtask's folder,
/// installed if missing.
///
/// # Errors
///
/// If there is no C++ compiler or no Python with pip, or pip cannot install it.
pub fn variables() -> Result<Vec<(&'static str, OsString)>> {
    check_compiler()?;
    if ["LIBTORCH", "LIBTORCH_USE_PYTORCH"].iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(Vec::new());
    }
    let root = installed()?.join("torch");
    let library_path = process::path_with(&[root.join("lib")], LIBRARY_PATH)?;
    Ok(vec![("LIBTORCH", root.into_os_string()), (LIBRARY_PATH, library_path)])
}

/// The folder that holds the wheel's packages.
fn installed() -> Result<PathBuf> {
    let folder = tools::dir()?.join(format!("libtorch-{VERSION}"));
    if folder.exists() {
        return Ok(folder);
    }
    let python = python()?;
    eprintln!(
        "xtask: installing libtorch {VERSION} from PyPI (on Linux some GB, once; `--skip trainer` does without)"
    );
    // Under another name until it is whole: what an interrupted installation leaves is not taken for it.
    let unfinished = folder.with_extension("part");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).with_context(|| format!("removing {}", unfinished.display()))?;
    }
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"]);
    pip.arg(&unfinished).arg(format!("torch=={VERSION}"));
    process::run(&mut pip)?;
    std::fs::rename(&unfinished, &folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

/// A Python that has pip.
fn python() -> Result<&'static str> {
    let has_pip = |python: &&str| process::output(Command::new(python).args(["-m", "pip", "--version"])).is_ok();
    let found = || ["python3", "python"].into_iter().find(has_pip);
    let why =
        "install Python 3 with pip, which brings libtorch, or set LIBTORCH to the folder of one of that version";
    or_from_debian(found, &["python3", "python3-pip"])
        .with_context(|| format!("libtorch {VERSION} is missing: {why}"))
}

/// What compiles the C++ side of `tch`.
fn check_compiler() -> Result<()> {
    let found = || process::which_any(&["c++", "g++", "clang++"]);
    or_from_debian(found, &["g++"]).map(drop).context("a C++ compiler is missing: install g++ or clang")
}

/// What `find` finds, if need be after installing packages, where nobody needs to be asked.
fn or_from_debian<T>(find: impl Fn() -> Option<T>, packages: &[&str]) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    if debian::can_install() {
        debian::install(packages)?;
    }
    find().with_context(|| format!("{} not found", packages.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_tch_wants() {
        let tch = crate::workspace::locked_version("tch").unwrap().unwrap();
        // tch 0.24 is for libtorch 2.11: whoever moves one moves both.
        assert_eq!((tch.as_str(), VERSION), ("0.24.0", "2.11.0"));
    }
}
