//! Programs beside the compiler: browsers and their drivers, wasm-pack, node.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{debian, node, process, toolchain, workspace};

/// Where xtask keeps the programs it installs with cargo: outside the checkout, so that a fresh one finds them,
/// and out of the way of those the user installed.
pub fn dir() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("micro-yolo/tools"))
}

/// Finds a program that cargo installs, in its folder or on PATH, of exactly `version` if one is given.
fn find(program: &str, version: Option<&str>) -> Option<PathBuf> {
    let own = dir().ok().map(|dir| dir.join("bin").join(program)).filter(|path| path.exists());
    let fits = |path: &PathBuf| match version {
        None => true,
        Some(version) => process::output(Command::new(path).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().nth(1) == Some(version)),
    };
    own.into_iter().chain(process::which(program)).find(fits)
}

/// Installs a crate's programs with cargo.
///
/// # Errors
///
/// If neither the crate's own lock file nor today's versions of its dependencies build.
fn cargo_install(krate: &str, version: Option<&str>) -> Result<()> {
    let spec = version.map_or(krate.to_owned(), |version| format!("{krate}@{version}"));
    eprintln!("xtask: installing {spec} with cargo (some minutes, once)");
    let root = dir()?;
    let install = |locked: &[&str]| {
        // The tool runs here, so the toolchain that runs xtask builds it.
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet"]).args(locked).arg("--root").arg(&root).arg(&spec);
        cargo.current_dir(std::env::temp_dir()).env_remove("CARGO_BUILD_TARGET");
        process::run(&mut cargo)
    };
    // A lock file may name a release that was withdrawn since; that shows at once, before anything is compiled.
    install(&["--locked"]).or_else(|_| install(&[]))
}

/// `wasm-pack`, installed if missing.
///
/// # Errors
///
/// If cargo cannot install it.
pub fn wasm_pack() -> Result<PathBuf> {
    if find("wasm-pack", None).is_none() {
        cargo_install("wasm-pack", None)?;
    }
    find("wasm-pack", None).context("wasm-pack was installed but is not there")
}

/// The test runner of wasm-bindgen in the locked version, which wasm-pack would otherwise download.
///
/// # Errors
///
/// If Cargo.lock has no wasm-bindgen or cargo cannot install it.
pub fn wasm_bindgen() -> Result<PathBuf> {
    let version = workspace::locked_version("wasm-bindgen")?.context("Cargo.lock has no wasm-bindgen")?;
    if find("wasm-bindgen", Some(&version)).is_none() {
        cargo_install("wasm-bindgen-cli", Some(&version))?;
    }
    find("wasm-bindgen", Some(&version)).context("wasm-bindgen was installed but is not there")
}

/// A browser that tests can drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Browser {
    Chromium,
    Firefox,
}

impl Browser {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Browser::Chromium => "Chromium",
            Browser::Firefox => "Firefox",
        }
    }

    /// Option of `wasm-pack test`.
    pub fn wasm_pack_option(self) -> &'static str {
        match self {
            Browser::Chromium => "--chrome",
            Browser::Firefox => "--firefox",
        }
    }

    /// The environment variables that name its program and its driver.
    pub fn variables(self) -> (&'static str, &'static str) {
        match self {
            Browser::Chromium => ("CHROMIUM", "CHROMEDRIVER"),
            Browser::Firefox => ("FIREFOX", "GECKODRIVER"),
        }
    }

    /// The browser's program: what its variable says, else the usual names and places.
    pub fn program(self) -> Option<PathBuf> {
        let named = std::env::var(self.variables().0).ok().and_then(|name| process::which(&name));
        named.or_else(|| {
            process::which_any(match self {
                Browser::Chromium => &[
                    "chromium",
                    "chromium-browser",
                    "google-chrome",
                    "google-chrome-stable",
                    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
                    "/Applications/Chromium.app/Contents/MacOS/Chromium",
                ],
                Browser::Firefox => &["firefox", "firefox-esr", "/Applications/Firefox.app/Contents/MacOS/firefox"],
            })
        })
    }

    /// Its WebDriver, or `None`: wasm-pack then looks for one to download.
    pub fn driver(self) -> Option<PathBuf> {
        let (variable, program) = match self {
            Browser::Chromium => ("CHROMEDRIVER", "chromedriver"),
            Browser::Firefox => ("GECKODRIVER", "geckodriver"),
        };
        let named = std::env::var(variable).ok().and_then(|name| process::which(&name));
        named.or_else(|| find(program, None))
    }

    /// Installs the browser and its driver where that needs nobody's leave (Debian as root).
    fn install(self) -> Result<()> {
        match self {
            Browser::Chromium => {
                if self.program().is_none() || self.driver().is_none() {
                    debian::install(&["chromium", "chromium-driver"])?;
                }
                // A screen for windows: films take another path there than without.
                if process::which("Xvfb").is_none() {
                    debian::install(&["xvfb"])?;
                }
                Ok(())
            }
            Browser::Firefox => {
                if self.program().is_none() {
                    // The library is what it plays H.264 with.
                    debian::install(&["firefox-esr", "libavcodec-extra"])?;
                }
                if self.driver().is_none() {
                    // In no Debian 12 package.
                    cargo_install("geckodriver", None)?;
                }
                Ok(())
            }
        }
    }
}

/// `cargo xtask setup`: finds or installs everything, and lists it.
///
/// # Errors
///
/// If something needed is missing and cannot be installed here; the list says what.
pub fn setup() -> Result<ExitCode> {
    if debian::can_install() {
        // One that fails is listed as missing below, with the others.
        let report = |result: Result<()>| {
            if let Err(error) = result {
                eprintln!("xtask: {error:#}");
            }
        };
        if process::which("cargo-fmt").is_none() {
            report(debian::install(&["rustfmt-web"]));
        }
        if process::which("cargo-clippy").is_none() {
            report(debian::install(&["rust-web-clippy"]));
        }
        report(Browser::Chromium.install());
        report(Browser::Firefox.install());
        report(wasm_bindgen().map(drop));
    }

    let found = |path: Option<PathBuf>, hint: &str| match path {
        Some(path) => Ok(path.display().to_string()),
        None => bail!("{hint}"),
    };
    let mut rows = vec![
        (
            "Rust for the browser",
            toolchain::ensure().map(|toolchain| format!("{toolchain:?} toolchain").to_lowercase()),
        ),
        ("rustfmt", found(process::which("cargo-fmt"), "`rustup component add rustfmt`")),
        ("clippy", found(process::which("cargo-clippy"), "`rustup component add clippy`")),
        ("wasm-pack", wasm_pack().map(|path| path.display().to_string())),
        ("node", node::check()),
        ("npm packages", node::install()),
        ("wasm-opt", found(node::wasm_opt(), "comes with the npm packages; without it the module is larger")),
    ];
    for browser in [Browser::Chromium, Browser::Firefox] {
        rows.push((browser.name(), found(browser.program(), "install it with your system's package manager")));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_version_is_not_found() {
        // `sh --version` prints no 0.0.0 as its second word, if it prints anything.
        assert_eq!(find("sh", Some("0.0.0")), None);
        assert!(find("sh", None).is_some());
    }
}
