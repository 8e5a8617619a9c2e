//! Debian as root (a container, CI): what xtask may install there by itself.
//!
//! Rust for the browser comes from rustup everywhere else. Where rustup cannot download, Debian's `rustc-web` is a
//! recent compiler without a standard library for the browser; that library is built here from `rust-web-src`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::{process, toolchain, workspace};

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";

/// Whether packages can be installed without asking anyone: Debian, and we are root.
pub fn can_install() -> bool {
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0");
    is_root && Path::new("/etc/debian_version").exists() && process::which("apt-get").is_some()
}

/// Installs those packages that are missing.
///
/// # Errors
///
/// If `apt-get` fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    static LISTS_UPDATED: OnceLock<()> = OnceLock::new();
    if LISTS_UPDATED.set(()).is_ok() {
        process::run(Command::new("apt-get").args(["update", "-qq"]))?;
    }
    eprintln!("xtask: installing {}", missing.iter().map(|p| **p).collect::<Vec<_>>().join(" "));
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(missing);
    apt.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    process::run(&mut apt)
}

fn is_installed(package: &str) -> bool {
    let query = process::output(Command::new("dpkg-query").args(["-W", "-f=${Status}", package]));
    query.is_ok_and(|status| status == "install ok installed")
}

/// Debian's recent Rust with a linker and a standard library for the browser.
///
/// # Errors
///
/// If a package cannot be installed or the library does not build.
pub fn install_wasm_toolchain() -> Result<()> {
    install(&["rustc-web", "cargo-web", "rust-web-src"])?;
    let version = process::output(Command::new(RUSTC).arg("-vV"))?;
    let llvm = llvm_major(&version).context("rustc does not say its LLVM version")?;
    let linker = format!("lld-{llvm}");
    install(&[&linker])?;

    // The target asks for `rust-lld` on PATH; the name keeps every project's own flags free of a linker.
    let link = Path::new("/usr/local/bin/rust-lld");
    if process::which("rust-lld").is_none() {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(&linker), link)
            .with_context(|| format!("linking {}", link.display()))?;
    }
    build_std()
}

/// Builds `std` for the browser and puts it beside the compiler's own.
fn build_std() -> Result<()> {
    eprintln!("xtask: building the Rust standard library for the browser (a minute or two, once)");
    let dir = workspace::target_dir("xtask/wasm-std")?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    std::fs::create_dir_all(dir.join("src")).context("creating the folder of an empty crate")?;
    // An empty crate whose dependencies are std's; a workspace of its own, or cargo would look for ours.
    write("Cargo.toml", "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n")?;
    write("src/lib.rs", "")?;

    let mut cargo = toolchain::Toolchain::System.command("cargo")?;
    cargo.current_dir(&dir).args(["build", "--quiet", "--release", "--target", toolchain::TARGET]);
    // `test` as well: `cargo test` links against it.
    cargo.args(["-Z", "build-std=std,panic_abort,test", "--target-dir", "target"]);
    // build-std is not stable; the variable makes the stable compiler, which built its own std so, take it.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO", CARGO).env("RUSTC", RUSTC);
    process::run(&mut cargo)?;

    let sysroot = process::output(Command::new(RUSTC).args(["--print", "sysroot"]))?;
    let to = PathBuf::from(sysroot).join("lib/rustlib").join(toolchain::TARGET).join("lib");
    // Not the leftovers of an older compiler: two copies of `core` would not link.
    if to.exists() {
        std::fs::remove_dir_all(&to).with_context(|| format!("removing {}", to.display()))?;
    }
    std::fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
    let from = dir.join("target").join(toolchain::TARGET).join("release/deps");
    let mut copied = 0;
    for entry in std::fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("lib") && name.ends_with(".rlib") && !name.starts_with("libempty-") {
            std::fs::copy(entry.path(), to.join(&*name)).with_context(|| format!("copying {name}"))?;
            copied += 1;
        }
    }
    if copied == 0 {
        bail!("the standard library built, but {} holds no .rlib", from.display());
    }
    Ok(())
}

/// 22 of `LLVM version: 22.1.8`.
fn llvm_major(rustc_version: &str) -> Option<u32> {
    let line = rustc_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_of_a_distribution_compiler() {
        let text = "rustc 1.96.0 (30a34c682 2026-05-25) (built from a source tarball)\nhost: x86_64\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(text), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
