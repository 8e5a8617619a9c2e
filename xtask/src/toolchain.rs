//! The Rust toolchains of this machine: which one builds for `wasm32-unknown-unknown`, and how it is invoked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use xshell::{Cmd, Shell, cmd};

use crate::{process, workspace};

/// The target of the page and the npm package.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The folder of a distribution's own compiler.
const SYSTEM_DIR: &str = "/usr/bin";

/// Which toolchain builds for the browser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Toolchain {
    /// The toolchain that runs this program.
    Current,
    /// The distribution's own, in /usr/bin, although rustup is first on PATH.
    System,
}

impl Toolchain {
    /// A command that uses this toolchain. Programs that it starts also use this `cargo` and `rustc`.
    ///
    /// # Errors
    ///
    /// If the path of xtask's folder of tools cannot be part of `PATH`.
    pub fn command<'a>(self, sh: &'a Shell, program: impl AsRef<Path>) -> Result<Cmd<'a>> {
        let program = program.as_ref();
        // Some systems look up a program in the PATH of this process, not in that of the child.
        let is_of_toolchain = program == Path::new("cargo") || program == Path::new("rustc");
        let mut cmd = match self {
            Toolchain::System if is_of_toolchain => sh.cmd(Path::new(SYSTEM_DIR).join(program)),
            _ => sh.cmd(program),
        };
        let mut path = vec![workspace::tools_dir()?.join("bin")];
        if self == Toolchain::System {
            path.insert(0, PathBuf::from(SYSTEM_DIR));
            for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO"] {
                cmd = cmd.env_remove(name);
            }
        }
        cmd = cmd.env("PATH", process::path_with(sh, &path, "PATH")?);
        // These variables would replace the flags of .cargo/config.toml, and everything would be compiled again.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cmd = cmd.env_remove(name);
        }
        Ok(cmd)
    }

    /// Whether it is installed and new enough for the workspace.
    pub fn is_recent(self, sh: &Shell) -> bool {
        let version = |cmd: Cmd| cmd.arg("--version").quiet().ignore_stderr().read().ok();
        let Some(version) = self.command(sh, "rustc").ok().and_then(version) else { return false };
        let wanted = env!("CARGO_PKG_RUST_VERSION");
        matches!((minor(&version), minor(wanted)), (Some(have), Some(need)) if have >= need)
    }

    /// Whether it compiles and links a module that needs `std`.
    pub fn builds_wasm(self, sh: &Shell) -> bool {
        let Ok(dir) = workspace::target_dir("xtask") else { return false };
        let (source, module) = (dir.join("probe.rs"), dir.join("probe.wasm"));
        let program = "#[unsafe(no_mangle)] pub extern \"C\" fn probe() -> usize { vec![1u8; 3].len() }\n";
        if std::fs::write(&source, program).is_err() {
            return false;
        }
        let Ok(rustc) = self.command(sh, "rustc") else { return false };
        let rustc = rustc.args(["--edition", "2024", "--crate-type", "cdylib", "--target", TARGET, "-o"]);
        process::succeeds_within(rustc.arg(module).arg(source), Duration::from_secs(60))
    }
}

/// Adds a component or a target with rustup. False if rustup is missing or cannot reach its server.
pub fn rustup(sh: &Shell, args: &[&str]) -> bool {
    if process::which(sh, "rustup").is_none() {
        return false;
    }
    eprintln!("xtask: rustup {}", args.join(" "));
    // Enough for 30 MB on a slow connection, but no endless retries without a network.
    let succeeded = process::succeeds_within(cmd!(sh, "rustup {args...}"), Duration::from_secs(240));
    if !succeeded {
        eprintln!("xtask: `rustup {}` failed", args.join(" "));
    }
    succeeded
}

/// 91 for `1.91` or `rustc 1.91.0 (…)`.
fn minor(version: &str) -> Option<u32> {
    let number = version.strip_prefix("rustc ").unwrap_or(version).strip_prefix("1.")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn minor_version_of_rustc_and_of_a_manifest() {
        assert_eq!(minor("1.91"), Some(91));
        assert_eq!(minor("rustc 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor("rustc 1.101.0 (0123abcde 2027-01-01)"), Some(101));
        assert_eq!(minor("rustc"), None);
    }

    #[test]
    fn the_system_toolchain_is_called_by_path_and_without_overrides() {
        let sh = Shell::new().unwrap();
        let command = Command::from(Toolchain::System.command(&sh, "cargo").unwrap());
        assert_eq!(command.get_program(), Path::new("/usr/bin").join("cargo").as_os_str());
        let path = command.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value).unwrap();
        assert_eq!(std::env::split_paths(path).next(), Some(PathBuf::from("/usr/bin")));
        assert!(command.get_envs().any(|(key, value)| key == "RUSTUP_TOOLCHAIN" && value.is_none()));
    }

    #[test]
    fn flags_of_the_environment_do_not_reach_wasm_builds() {
        let sh = Shell::new().unwrap();
        let command = Command::from(Toolchain::Current.command(&sh, "cargo").unwrap());
        assert!(command.get_envs().any(|(key, value)| key == "RUSTFLAGS" && value.is_none()));
    }
}
