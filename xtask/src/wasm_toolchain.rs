//! Finds or builds a Rust toolchain for the browser.
//!
//! Rust for the browser comes from rustup nearly everywhere. Where rustup cannot download (a Debian container behind a
//! mirror of its packages), Debian's `rustc-web` is a recent compiler without a standard library for the browser; that
//! library is built here from `rust-web-src`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::apt::Distribution;
use crate::toolchain::{self, TARGET, Toolchain};
use crate::{apt, process, workspace};

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";

/// Finds or builds a toolchain for the browser.
///
/// Tries in this order: the current one, the distribution's, the current one after `rustup target add`, Debian's with a
/// standard library built here.
///
/// # Errors
///
/// If there is none and none can be built. The message is one line that says what to do.
pub fn ensure(sh: &Shell) -> Result<Toolchain> {
    if Toolchain::Current.builds_wasm(sh) {
        return Ok(Toolchain::Current);
    }
    let has_system = Path::new(RUSTC).exists() && Path::new(CARGO).exists();
    if has_system && Toolchain::System.is_recent(sh) && Toolchain::System.builds_wasm(sh) {
        return Ok(Toolchain::System);
    }
    if toolchain::rustup(sh, &["target", "add", TARGET]) && Toolchain::Current.builds_wasm(sh) {
        return Ok(Toolchain::Current);
    }
    if apt::distribution(sh) == Some(Distribution::Debian) {
        install_from_debian(sh)?;
        for toolchain in [Toolchain::Current, Toolchain::System] {
            if toolchain.builds_wasm(sh) {
                return Ok(toolchain);
            }
        }
    }
    bail!(
        "no Rust toolchain here can build for {TARGET}: run `rustup target add {TARGET}`, \
         or install your distribution's package of it (Fedora: rust-std-static-{TARGET}, Arch: rust-wasm)"
    )
}

/// Debian's recent Rust with a linker and a standard library for the browser.
fn install_from_debian(sh: &Shell) -> Result<()> {
    apt::install(sh, &["rustc-web", "cargo-web", "rust-web-src"])?;
    let version = cmd!(sh, "{RUSTC} -vV").quiet().read()?;
    let llvm = llvm_major(&version).context("rustc does not say its LLVM version")?;
    let linker = format!("lld-{llvm}");
    apt::install(sh, &[&linker])?;

    // The target needs `rust-lld` on PATH. With this name, no project has to set a linker.
    if process::which(sh, "rust-lld").is_none() {
        let linker = Path::new("/usr/bin").join(&linker);
        cmd!(sh, "ln -s {linker} /usr/local/bin/rust-lld").run()?;
    }
    build_std(sh)
}

/// Builds `std` for the browser and puts it next to the compiler's own.
fn build_std(sh: &Shell) -> Result<()> {
    eprintln!("xtask: building the Rust standard library for the browser (a minute or two, once)");
    let dir = workspace::target_dir("xtask/wasm-std")?;
    // An empty crate whose dependencies are std's. It is its own workspace, so that cargo does not use ours.
    let manifest = "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    sh.write_file(dir.join("Cargo.toml"), manifest)?;
    sh.write_file(dir.join("src/lib.rs"), "")?;

    {
        let _in = sh.push_dir(&dir);
        let cargo = Toolchain::System.command(sh, "cargo")?;
        let cargo = cargo.args(["build", "--quiet", "--release", "--target", TARGET]);
        // Includes `test`, because `cargo test` links against it.
        let cargo = cargo.args(["-Z", "build-std=std,panic_abort,test", "--target-dir", "target"]);
        // build-std is unstable; the variable makes the stable compiler accept it. Its own std was built in the same way.
        cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO", CARGO).env("RUSTC", RUSTC).run()?;
    }

    let sysroot = cmd!(sh, "{RUSTC} --print sysroot").quiet().read()?;
    let to = PathBuf::from(sysroot).join("lib/rustlib").join(TARGET).join("lib");
    // Removes the files of an older compiler: two copies of `core` would not link.
    sh.remove_path(&to)?;
    let from = dir.join("target").join(TARGET).join("release/deps");
    let mut copied = 0;
    for path in sh.read_dir(&from)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("lib") && name.ends_with(".rlib") && !name.starts_with("libempty-") {
            sh.create_dir(&to)?;
            sh.copy_file(&path, to.join(&*name))?;
            copied += 1;
        }
    }
    if copied == 0 {
        bail!("the standard library built, but {} holds no .rlib", from.display());
    }
    Ok(())
}

/// 22 for `LLVM version: 22.1.8`.
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
