//! Running other programs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The path of a program on `PATH`, or of the file itself when `name` holds a slash.
pub fn which(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return is_program(Path::new(name)).then(|| PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

/// The first of `names` that is there.
pub fn which_any(names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| which(name))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A variable that lists folders, `PATH` say, with `dirs` in front.
pub fn path_with(dirs: &[PathBuf], variable: &str) -> Result<OsString> {
    // An empty one would add the current folder.
    let rest = std::env::var_os(variable).filter(|rest| !rest.is_empty());
    std::env::join_paths(dirs.iter().cloned().chain(rest.iter().flat_map(std::env::split_paths)))
        .with_context(|| format!("{dirs:?} cannot stand in {variable}"))
}

/// The command as one would type it.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs to the end, output on the terminal.
///
/// # Errors
///
/// If the program cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = display(command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and returns what it wrote to standard output, trimmed.
///
/// # Errors
///
/// If the program cannot be started, or does not exit with 0 (with the end of its error stream).
pub fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim().lines().last().unwrap_or_default();
        bail!("`{shown}` failed ({}): {last}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs quietly for at most `limit`; true if it ended in time with 0.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = spawned else { return false };
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if started.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                // It may have ended by itself meanwhile; either way it is gone after this.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_finds_sh_and_no_phantom() {
        assert!(which("sh").is_some());
        assert_eq!(which("no-such-program-micro-yolo"), None);
        assert_eq!(which_any(&["no-such-program-micro-yolo", "sh"]), which("sh"));
        // A folder is no program, though it has the execute bit.
        assert_eq!(which("/tmp"), None);
    }

    #[test]
    fn folders_go_in_front_of_what_is_there() {
        let path = path_with(&["/first".into()], "PATH").unwrap();
        let whole = format!("/first:{}", std::env::var("PATH").unwrap());
        assert_eq!(path.to_str(), Some(whole.as_str()));
        assert_eq!(path_with(&["/first".into()], "NO_SUCH_VARIABLE_MICRO_YOLO").unwrap(), "/first");
        assert!(path_with(&["/with:colon".into()], "PATH").is_err());
    }

    #[test]
    fn a_slow_program_is_ended() {
        let started = Instant::now();
        assert!(!succeeds_within(Command::new("sleep").arg("30"), Duration::from_millis(100)));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(succeeds_within(&mut Command::new("true"), Duration::from_secs(10)));
        assert!(!succeeds_within(&mut Command::new("false"), Duration::from_secs(10)));
    }

    #[test]
    fn a_failure_shows_the_command_and_its_last_words() {
        let error = output(Command::new("sh").args(["-c", "echo first >&2; echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains('3') && text.ends_with("why"), "{text}");
    }
}
