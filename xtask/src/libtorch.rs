//! libtorch, which the trainer of `compress` needs. PyPI has it for every system, in the wheel of PyTorch.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{process, python, workspace};

/// The version that the version of `tch` in Cargo.lock needs.
const VERSION: &str = "2.11.0";

/// The variable with the folders that the dynamic linker searches first.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") {
    "DYLD_LIBRARY_PATH"
} else if cfg!(windows) {
    "PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// The variables by which `tch` finds libtorch. Empty if the user has set one. Otherwise for the libtorch in xtask's
/// folder, which is installed if missing.
///
/// # Errors
///
/// If there is no Python with pip, or pip cannot install it.
pub fn variables(sh: &Shell) -> Result<Vec<(&'static str, OsString)>> {
    if ["LIBTORCH", "LIBTORCH_USE_PYTORCH"].iter().any(|name| sh.var_os(name).is_some()) {
        return Ok(Vec::new());
    }
    let root = installed(sh)?.join("torch");
    let library_path = process::path_with(sh, &[root.join("lib")], LIBRARY_PATH)?;
    Ok(vec![("LIBTORCH", root.into_os_string()), (LIBRARY_PATH, library_path)])
}

/// The folder that contains the wheel's packages.
fn installed(sh: &Shell) -> Result<PathBuf> {
    let folder = workspace::tools_dir()?.join(format!("libtorch-{VERSION}"));
    if folder.exists() {
        return Ok(folder);
    }
    let python = python::ensure(sh).with_context(|| {
        format!(
            "libtorch {VERSION} is missing, which pip installs; LIBTORCH may name the folder of one of that version"
        )
    })?;
    eprintln!(
        "xtask: installing libtorch {VERSION} from PyPI (on Linux some GB, once; `--skip trainer` does without)"
    );
    // Installed under another name and renamed at the end, so that an interrupted installation is not used.
    let unfinished = folder.with_extension("part");
    sh.remove_path(&unfinished)?;
    let pip = cmd!(sh, "{python} -m pip install --quiet --disable-pip-version-check --no-compile");
    pip.arg("--target").arg(&unfinished).arg(format!("torch=={VERSION}")).run()?;
    std::fs::rename(&unfinished, &folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_tch_wants() {
        let sh = Shell::new().unwrap();
        let tch = workspace::locked_version(&sh, "tch").unwrap();
        // tch 0.24 is for libtorch 2.11: change both together.
        assert_eq!((tch.as_str(), VERSION), ("0.24.0", "2.11.0"));
    }
}
