//! A Rust toolchain that can build for `wasm32-unknown-unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{debian, process, tools, workspace};

/// The target of the page and the npm package.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How long `rustup target add` may take: 30 MB over a slow line, but no endless retries without one.
const RUSTUP_LIMIT: Duration = Duration::from_secs(240);

/// Which toolchain builds for the browser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Toolchain {
    /// The one that runs this program.
    Current,
    /// The distribution's own, in /usr/bin, although rustup comes first on PATH.
    System,
}

impl Toolchain {
    /// A command that uses this toolchain, `cargo` and `rustc` of whatever it starts in turn included.
    pub fn command(self, program: &str) -> Result<Command> {
        let mut command = match (self, program) {
            // `Command` looks a program up by this process's PATH, not by the child's.
            (Toolchain::System, "cargo" | "rustc") => Command::new(Path::new("/usr/bin").join(program)),
            _ => Command::new(program),
        };
        let mut path = vec![tools::dir()?.join("bin")];
        if self == Toolchain::System {
            path.insert(0, PathBuf::from("/usr/bin"));
            for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO"] {
                command.env_remove(name);
            }
        }
        command.env("PATH", process::path_with(&path, "PATH")?);
        // They would replace the flags of .cargo/config.toml, and with them compile everything anew.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Whether it compiles and links a module that needs `std`.
    fn builds_wasm(self) -> bool {
        let Ok(dir) = workspace::target_dir("xtask") else { return false };
        let source = dir.join("probe.rs");
        let program = "#[unsafe(no_mangle)] pub extern \"C\" fn probe() -> usize { vec![1u8; 3].len() }\n";
        if std::fs::write(&source, program).is_err() {
            return false;
        }
        let Ok(mut rustc) = self.command("rustc") else { return false };
        rustc.args(["--edition", "2024", "--crate-type", "cdylib", "--target", TARGET, "-o"]);
        rustc.arg(dir.join("probe.wasm")).arg(&source).current_dir(dir);
        process::succeeds_within(&mut rustc, Duration::from_secs(60))
    }

    /// Whether it is new enough for the workspace.
    fn is_recent(self) -> bool {
        let Ok(mut rustc) = self.command("rustc") else { return false };
        let version = process::output(rustc.arg("--version")).unwrap_or_default();
        let wanted = env!("CARGO_PKG_RUST_VERSION");
        matches!((minor(&version), minor(wanted)), (Some(have), Some(need)) if have >= need)
    }
}

/// 91 of `1.91` or `rustc 1.91.0 (…)`.
fn minor(version: &str) -> Option<u32> {
    version.split("1.").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Finds a toolchain for the browser, or makes one.
///
/// In this order: the current one; the distribution's; the current one after `rustup target add`; Debian's, made to.
///
/// # Errors
///
/// One line that says what to do, where none can be had.
pub fn ensure() -> Result<Toolchain> {
    if Toolchain::Current.builds_wasm() {
        return Ok(Toolchain::Current);
    }
    let has_system = Path::new("/usr/bin/rustc").exists() && Path::new("/usr/bin/cargo").exists();
    if has_system && Toolchain::System.is_recent() && Toolchain::System.builds_wasm() {
        return Ok(Toolchain::System);
    }
    if process::which("rustup").is_some() {
        eprintln!("xtask: adding the target {TARGET} with rustup");
        let added = process::succeeds_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_LIMIT);
        if added && Toolchain::Current.builds_wasm() {
            return Ok(Toolchain::Current);
        }
        eprintln!("xtask: rustup could not add {TARGET}");
    }
    if debian::can_install() {
        debian::install_wasm_toolchain()?;
        for toolchain in [Toolchain::Current, Toolchain::System] {
            if toolchain.builds_wasm() {
                return Ok(toolchain);
            }
        }
    }
    bail!(
        "no Rust toolchain here can build for {TARGET}: run `rustup target add {TARGET}`, \
         or install your distribution's package of it (Fedora: rust-std-static-{TARGET}, Arch: rust-wasm)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_version_of_rustc_and_of_a_manifest() {
        assert_eq!(minor("1.91"), Some(91));
        assert_eq!(minor("rustc 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)"), Some(96));
        assert_eq!(minor("rustc"), None);
    }

    #[test]
    fn the_system_toolchain_is_called_by_path_and_without_overrides() {
        let command = Toolchain::System.command("cargo").unwrap();
        assert_eq!(command.get_program(), "/usr/bin/cargo");
        let path = command.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value).unwrap();
        assert!(path.to_string_lossy().starts_with("/usr/bin:"), "{path:?}");
        assert!(command.get_envs().any(|(key, value)| key == "RUSTUP_TOOLCHAIN" && value.is_none()));
    }

    #[test]
    fn flags_of_the_environment_do_not_reach_wasm_builds() {
        let command = Toolchain::Current.command("cargo").unwrap();
        assert!(command.get_envs().any(|(key, value)| key == "RUSTFLAGS" && value.is_none()));
    }
}
