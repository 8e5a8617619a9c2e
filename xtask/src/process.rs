//! Runs other programs, with a [`Shell`] in the repository's root folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use wait_timeout::ChildExt;
use xshell::{Cmd, Shell};

/// The path of a program on the shell's `PATH`, or of the file itself when `name` is a path.
///
/// On Windows it also finds `NAME.cmd` and similar, such as npm.
pub fn which(sh: &Shell, name: impl AsRef<std::ffi::OsStr>) -> Option<PathBuf> {
    which::which_in(name, sh.var_os("PATH"), sh.current_dir()).ok()
}

/// The first of `names` that exists.
pub fn which_any(sh: &Shell, names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| which(sh, name))
}

/// A command without arguments, found as by [`which()`]. If the program is missing, running the command fails.
pub fn program<'a>(sh: &'a Shell, name: &str) -> Cmd<'a> {
    sh.cmd(which(sh, name).unwrap_or_else(|| name.into()))
}

/// A variable that lists folders, such as `PATH`, with `dirs` in front.
///
/// # Errors
///
/// If the name of a folder contains the character that separates folders.
pub fn path_with(sh: &Shell, dirs: &[PathBuf], variable: &str) -> Result<OsString> {
    // An empty entry would mean the current folder.
    let rest = sh.var_os(variable).filter(|rest| !rest.is_empty());
    std::env::join_paths(dirs.iter().cloned().chain(rest.iter().flat_map(std::env::split_paths)))
        .with_context(|| format!("{dirs:?} cannot stand in {variable}"))
}

/// Puts a folder in front of the `PATH` of everything that the shell runs later.
///
/// # Errors
///
/// As [`path_with`].
pub fn push_path(sh: &Shell, dir: &Path) -> Result<()> {
    sh.set_var("PATH", path_with(sh, &[dir.to_owned()], "PATH")?);
    Ok(())
}

/// Runs a command with output on the terminal. Returns whether its exit code was 0.
///
/// # Errors
///
/// If the program cannot be started.
pub fn succeeds(cmd: Cmd<'_>) -> Result<bool> {
    let shown = cmd.to_string();
    let status = Command::from(cmd).stdin(Stdio::null()).status();
    Ok(status.with_context(|| format!("cannot run `{shown}`"))?.success())
}

/// Runs a command without output for at most `limit`. Returns whether it ended in time with exit code 0.
pub fn succeeds_within(cmd: Cmd<'_>, limit: Duration) -> bool {
    let mut command = Command::from(cmd);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = spawned else { return false };
    match child.wait_timeout(limit) {
        Ok(Some(status)) => status.success(),
        Ok(None) | Err(_) => {
            // It may have ended meanwhile; in either case it has ended after this.
            let _ = child.kill();
            let _ = child.wait();
            false
        }
    }
}

/// Writes a shell script into a folder, as a program of that name.
#[cfg(all(test, unix))]
pub fn write_script(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn which_finds_cargo_and_no_phantom() {
        let sh = Shell::new().unwrap();
        assert!(which(&sh, "cargo").is_some());
        assert_eq!(which(&sh, "no-such-program-micro-yolo"), None);
        assert_eq!(which_any(&sh, &["no-such-program-micro-yolo", "cargo"]), which(&sh, "cargo"));
        // A folder is no program, though it has the execute bit.
        assert_eq!(which(&sh, std::env::temp_dir()), None);
    }

    #[test]
    fn folders_go_in_front_of_what_is_there() {
        let sh = Shell::new().unwrap();
        let first = std::env::temp_dir();
        let path = path_with(&sh, std::slice::from_ref(&first), "PATH").unwrap();
        let expected: Vec<_> =
            std::iter::once(first.clone()).chain(std::env::split_paths(&sh.var_os("PATH").unwrap())).collect();
        assert_eq!(std::env::split_paths(&path).collect::<Vec<_>>(), expected);
        let alone = path_with(&sh, std::slice::from_ref(&first), "NO_SUCH_VARIABLE_MICRO_YOLO").unwrap();
        assert_eq!(alone, first);
        let separator = if cfg!(windows) { "a\"b" } else { "/with:colon" };
        assert!(path_with(&sh, &[separator.into()], "PATH").is_err());
    }

    #[test]
    fn a_program_of_a_pushed_folder_is_found_first() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("cargo{}", std::env::consts::EXE_SUFFIX);
        std::fs::copy(std::env::current_exe().unwrap(), dir.path().join(&name)).unwrap();
        let sh = Shell::new().unwrap();
        push_path(&sh, dir.path()).unwrap();
        assert_eq!(which(&sh, "cargo"), Some(dir.path().join(name)));
    }

    // Programs that every system with a POSIX shell has.
    #[cfg(unix)]
    #[test]
    fn a_slow_program_is_ended() {
        let sh = Shell::new().unwrap();
        let started = Instant::now();
        assert!(!succeeds_within(xshell::cmd!(sh, "sleep 30"), Duration::from_millis(100)));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(succeeds_within(xshell::cmd!(sh, "true"), Duration::from_secs(10)));
        assert!(!succeeds_within(xshell::cmd!(sh, "false"), Duration::from_secs(10)));
        assert!(!succeeds_within(xshell::cmd!(sh, "no-such-program-micro-yolo"), Duration::from_secs(10)));
    }
}
