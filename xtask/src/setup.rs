//! `cargo xtask setup`: finds or installs what the other commands need, and lists it.
//!
//! `cargo xtask test` does the same for each part when it needs it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use xshell::Shell;

use crate::apt::Distribution;
use crate::browser::Browser;
use crate::{apt, cargo_tools, node, process, python, toolchain, wasm_toolchain};

/// `cargo xtask setup`.
///
/// # Errors
///
/// If standard output cannot be written. Missing tools that cannot be installed are listed, and the exit code is 1.
pub fn run(sh: &Shell) -> Result<ExitCode> {
    let path = |found: Result<std::path::PathBuf>| found.map(|path| path.display().to_string());
    let mut rows: Vec<(&str, Result<String>)> = vec![
        (
            "Rust for the browser",
            wasm_toolchain::ensure(sh).map(|toolchain| format!("{toolchain:?} toolchain").to_lowercase()),
        ),
        ("rustfmt", path(component(sh, Component::Format))),
        ("clippy", path(component(sh, Component::Lint))),
        ("wasm-pack", path(cargo_tools::wasm_pack(sh))),
        ("wasm-bindgen", path(cargo_tools::wasm_bindgen(sh))),
        ("node", node::ensure(sh)),
        ("npm packages", node::install(sh)),
        (
            "wasm-opt",
            path(node::wasm_opt(sh).context("comes with the npm packages; without it the module is larger")),
        ),
    ];
    for browser in [Browser::Chromium, Browser::Firefox] {
        let shown = browser.ensure_with_driver(sh).map(|found| match found.driver {
            Some(driver) => format!("{}, driver {}", found.program.display(), driver.display()),
            None => format!("{}, no driver", found.program.display()),
        });
        rows.push((browser.name(), shown));
    }
    rows.push(("Python", path(python::ensure(sh))));
    rows.push(("C++ compiler", path(cpp_compiler(sh))));
    let mut missing = 0;
    println!();
    for (name, result) in rows {
        match result {
            Ok(what) => println!("{name:<22}{what}"),
            Err(error) => {
                missing += 1;
                println!("{name:<22}MISSING: {error:#}");
            }
        }
    }
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Optional components of a Rust toolchain.
#[derive(Clone, Copy)]
pub enum Component {
    /// `cargo fmt`
    Format,
    /// `cargo clippy`
    Lint,
}

/// Finds a component of the Rust toolchain, or installs it with rustup or from Debian's packages.
///
/// # Errors
///
/// If it is missing and cannot be installed.
pub fn component(sh: &Shell, component: Component) -> Result<std::path::PathBuf> {
    let (name, program, package) = match component {
        Component::Format => ("rustfmt", "cargo-fmt", "rustfmt-web"),
        Component::Lint => ("clippy", "cargo-clippy", "rust-web-clippy"),
    };
    // rustup puts a proxy on PATH even if the component is missing.
    let found = || {
        let runs = process::program(sh, program).arg("--version").quiet().ignore_stderr().read().is_ok();
        process::which(sh, program).filter(|_| runs)
    };
    if let Some(path) = found() {
        return Ok(path);
    }
    toolchain::rustup(sh, &["component", "add", name]);
    if found().is_none() && apt::distribution(sh) == Some(Distribution::Debian) {
        apt::install(sh, &[package])?;
    }
    found().with_context(|| format!("{name} is missing: `rustup component add {name}`"))
}

/// A C++ compiler for `tch`. On Windows that is MSVC's `cl`, which build scripts find themselves.
///
/// # Errors
///
/// If there is none and none can be installed.
pub fn cpp_compiler(sh: &Shell) -> Result<std::path::PathBuf> {
    if cfg!(windows) {
        return Ok("cl".into());
    }
    apt::find_or_install(sh, || process::which_any(sh, &["c++", "g++", "clang++"]), &["g++"])
        .context("a C++ compiler is missing: install g++ or clang")
}
