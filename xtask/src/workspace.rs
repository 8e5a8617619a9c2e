//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository root.
pub fn root() -> PathBuf {
    // Known when xtask was compiled; a checkout that was moved since is compiled anew by cargo.
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir).to_owned()
}

/// A file or folder of the repository, by its path from the root.
pub fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// A folder below the target folder, made if missing.
pub fn target_dir(name: &str) -> Result<PathBuf> {
    // target/debug/xtask: two up is the target folder, wherever CARGO_TARGET_DIR put it.
    let exe = std::env::current_exe().context("finding the running program")?;
    let target = exe.parent().and_then(Path::parent).context("xtask does not run from a target folder")?;
    let dir = target.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// The version of a locked crate, or `None` if the lock file does not name it.
pub fn locked_version(crate_name: &str) -> Result<Option<String>> {
    let path = path("Cargo.lock");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(version_in_lock(&lock, crate_name))
}

fn version_in_lock(lock: &str, crate_name: &str) -> Option<String> {
    let name_line = format!("name = \"{crate_name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name_line).skip(1);
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lookup_takes_the_whole_name() {
        let lock = "[[package]]\nname = \"wasm-bindgen-shared\"\nversion = \"9.9.9\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"x\"\n";
        assert_eq!(version_in_lock(lock, "wasm-bindgen").as_deref(), Some("0.2.130"));
        assert_eq!(version_in_lock(lock, "wasm"), None);
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(path("Cargo.lock").is_file());
        assert!(path("xtask/Cargo.toml").is_file());
    }
}
