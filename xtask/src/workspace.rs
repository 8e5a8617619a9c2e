//! Paths of the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// The repository root.
pub fn root() -> PathBuf {
    // Known when xtask was compiled; cargo compiles a moved checkout again.
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir).to_owned()
}

/// A file or folder of the repository, by its path from the root.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// A folder below the target folder, made if missing.
///
/// # Errors
///
/// If it cannot be made.
pub fn target_dir(name: &str) -> Result<PathBuf> {
    // target/debug/xtask: two up is the target folder, wherever CARGO_TARGET_DIR put it.
    let exe = std::env::current_exe().context("finding the running program")?;
    let target = exe.parent().and_then(Path::parent).context("xtask does not run from a target folder")?;
    let dir = target.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// Where xtask keeps the programs that it installs: outside the checkout, so that a fresh one finds them, and out of the
/// way of those the user installed.
///
/// # Errors
///
/// If the system does not say where the user's files are.
pub fn tools_dir() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = if cfg!(windows) { variable("LOCALAPPDATA") } else { variable("XDG_CACHE_HOME") };
    let cache = cache.or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(cache.context("the variable HOME is not set")?.join("micro-yolo").join("tools"))
}

/// The version of a crate in Cargo.lock.
///
/// # Errors
///
/// If the lock file names no such crate, or several versions of it.
pub fn locked_version(sh: &Shell, crate_name: &str) -> Result<String> {
    // `registry+https://…#wasm-bindgen@0.2.130`
    let id = cmd!(sh, "cargo pkgid {crate_name}").quiet().read()?;
    let (_, version) = id.rsplit_once('@').with_context(|| format!("`{id}` names no version"))?;
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let sh = Shell::new().unwrap();
        let version = locked_version(&sh, "wasm-bindgen").unwrap();
        assert!(version.starts_with("0.2."), "{version}");
        assert!(locked_version(&sh, "no-such-crate-micro-yolo").is_err());
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(path("Cargo.lock").is_file());
        assert!(path("xtask/Cargo.toml").is_file());
    }
}
