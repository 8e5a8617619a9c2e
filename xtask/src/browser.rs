//! The browsers that tests drive, and their drivers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::apt::Distribution;
use crate::{apt, cargo_tools, node, process, workspace};

/// Time limit for the download of a browser: enough for 200 MB on a slow connection, but no endless retries without a
/// network.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// Libraries that Firefox links to. Ubuntu has no Firefox package that depends on them.
const LIBRARIES_OF_FIREFOX: &[&str] = &["libgtk-3-0", "libdbus-glib-1-2", "libxt6"];

/// A browser that tests can drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Browser {
    Chromium,
    Firefox,
}

/// The paths of an installed browser.
pub struct Installed {
    /// Its program.
    pub program: PathBuf,
    /// Its WebDriver. Without one, wasm-pack tries to download it.
    pub driver: Option<PathBuf>,
}

impl Browser {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Browser::Chromium => "Chromium",
            Browser::Firefox => "Firefox",
        }
    }

    /// Options of `wasm-pack test`: the browser, and its driver.
    pub fn wasm_pack_options(self) -> [&'static str; 2] {
        match self {
            Browser::Chromium => ["--chrome", "--chromedriver"],
            Browser::Firefox => ["--firefox", "--geckodriver"],
        }
    }

    /// The environment variables that name its program and its driver.
    pub fn variables(self) -> [&'static str; 2] {
        match self {
            Browser::Chromium => ["CHROMIUM", "CHROMEDRIVER"],
            Browser::Firefox => ["FIREFOX", "GECKODRIVER"],
        }
    }

    /// Usual names and paths of its program.
    fn names(self) -> &'static [&'static str] {
        match self {
            Browser::Chromium => &[
                "chromium",
                "chromium-browser",
                "google-chrome",
                "google-chrome-stable",
                "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
                "/Applications/Chromium.app/Contents/MacOS/Chromium",
                r"C:\Program Files\Google\Chrome\Application\chrome.exe",
                r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
            ],
            Browser::Firefox => &[
                "firefox",
                "firefox-esr",
                "/Applications/Firefox.app/Contents/MacOS/firefox",
                r"C:\Program Files\Mozilla Firefox\firefox.exe",
            ],
        }
    }

    fn driver_name(self) -> &'static str {
        match self {
            Browser::Chromium => "chromedriver",
            Browser::Firefox => "geckodriver",
        }
    }

    /// Its name for `@puppeteer/browsers`, and the name of its program there.
    fn download_name(self) -> (&'static str, &'static str) {
        match self {
            Browser::Chromium => {
                ("chrome", if cfg!(target_os = "macos") { "Google Chrome for Testing" } else { "chrome" })
            }
            Browser::Firefox => ("firefox", "firefox"),
        }
    }

    /// The browser's program: the one its variable names, else at the usual names and paths, else the one that xtask
    /// downloaded.
    pub fn program(self, sh: &Shell) -> Option<PathBuf> {
        let named = sh.var_os(self.variables()[0]).and_then(|name| process::which(sh, name));
        let (download, program) = self.download_name();
        named.or_else(|| process::which_any(sh, self.names())).or_else(|| downloaded(download, program))
    }

    /// Its WebDriver.
    pub fn driver(self, sh: &Shell) -> Option<PathBuf> {
        let named = sh.var_os(self.variables()[1]).and_then(|name| process::which(sh, name));
        named
            .or_else(|| cargo_tools::find(sh, self.driver_name(), None))
            .or_else(|| downloaded("chromedriver", self.driver_name()))
    }

    /// Finds the browser, or installs it: from Debian's packages, else with `@puppeteer/browsers`.
    ///
    /// # Errors
    ///
    /// If it is not found and cannot be installed. The message says what to do.
    pub fn ensure(self, sh: &Shell) -> Result<PathBuf> {
        if let Some(program) = self.program(sh) {
            return Ok(program);
        }
        let installed = match (apt::distribution(sh), self) {
            // A virtual screen is included, because videos are decoded in another way with a window.
            (Some(Distribution::Debian), Browser::Chromium) => {
                apt::install(sh, &["chromium", "chromium-driver", "xvfb"])
            }
            // Firefox uses this library to play H.264.
            (Some(Distribution::Debian), Browser::Firefox) => {
                apt::install(sh, &["firefox-esr", "libavcodec-extra"])
            }
            (distribution, _) => self.download(sh, distribution.is_some()),
        };
        let [variable, _] = self.variables();
        let hint =
            || format!("{} is missing: install it, or name its program in the variable {variable}", self.name());
        installed.with_context(hint)?;
        self.program(sh).with_context(hint)
    }

    /// Finds the browser and its driver, or installs them. Only `wasm-pack test` needs the driver.
    ///
    /// # Errors
    ///
    /// As [`ensure`](Browser::ensure), and if Firefox's driver does not compile.
    pub fn ensure_with_driver(self, sh: &Shell) -> Result<Installed> {
        let program = self.ensure(sh)?;
        if let Some(driver) = self.driver(sh) {
            return Ok(Installed { program, driver: Some(driver) });
        }
        let driver = match self {
            // Debian 12 has no package of it; crates.io has it for all systems.
            Browser::Firefox => Some(cargo_tools::ensure(sh, "geckodriver", "geckodriver", None)?),
            Browser::Chromium => {
                let installed = if apt::distribution(sh) == Some(Distribution::Debian) {
                    apt::install(sh, &["chromium-driver"])
                } else {
                    // A driver works with only one major version of the browser.
                    let version =
                        cmd!(sh, "{program} --version").quiet().ignore_stderr().read().unwrap_or_default();
                    let version = major(&version).map_or("stable".to_owned(), |major| major.to_string());
                    download(sh, "chromedriver", &version, false)
                };
                if let Err(error) = installed {
                    eprintln!("xtask: {error:#}; wasm-pack looks for a driver");
                }
                self.driver(sh)
            }
        };
        Ok(Installed { program, driver })
    }

    fn download(self, sh: &Shell, with_libraries: bool) -> Result<()> {
        if with_libraries && self == Browser::Firefox {
            apt::install(sh, LIBRARIES_OF_FIREFOX)?;
        }
        let (name, _) = self.download_name();
        download(sh, name, "stable", with_libraries && self == Browser::Chromium)
    }
}

/// Where downloaded browsers and drivers are stored: `NAME/SYSTEM-VERSION/…`.
fn downloads() -> Result<PathBuf> {
    Ok(workspace::tools_dir()?.join("browsers"))
}

/// The program of a downloaded browser or driver.
fn downloaded(name: &str, program: &str) -> Option<PathBuf> {
    program_below(&downloads().ok()?.join(name), program)
}

fn program_below(folder: &Path, program: &str) -> Option<PathBuf> {
    let program = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let mut files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    files.find(|file| file.file_type().is_file() && *file.file_name() == *program).map(walkdir::DirEntry::into_path)
}

/// Downloads a browser or driver with `@puppeteer/browsers`, one of the npm packages.
fn download(sh: &Shell, name: &str, version: &str, with_libraries: bool) -> Result<()> {
    node::install(sh)?;
    let to = downloads()?;
    eprintln!("xtask: downloading {name}@{version}");
    let mut browsers =
        node::program(sh, "browsers")?.arg("install").arg(format!("{name}@{version}")).arg("--path").arg(to);
    if with_libraries {
        browsers = browsers.arg("--install-deps");
    }
    if !process::succeeds_within(browsers, DOWNLOAD_LIMIT) {
        bail!("{name}@{version} could not be downloaded");
    }
    Ok(())
}

/// 131 for `Google Chrome 131.0.6778.85` or `Chromium 131.0.6778.85 built on Debian`.
fn major(version: &str) -> Option<u32> {
    version.split_whitespace().find_map(|word| word.split_once('.')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_of_a_browser() {
        assert_eq!(major("Google Chrome 131.0.6778.85"), Some(131));
        assert_eq!(major("Chromium 156.0.8078.108 built on Debian GNU/Linux 12 (bookworm)"), Some(156));
        assert_eq!(major(""), None);
    }

    #[test]
    fn a_downloaded_program_is_found_below_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(program_below(dir.path(), "chrome"), None);
        let folder = dir.path().join("linux-131.0.1/chrome-linux64");
        std::fs::create_dir_all(folder.join("chrome")).unwrap();
        assert_eq!(program_below(dir.path(), "chrome"), None, "a folder is no program");
        std::fs::remove_dir(folder.join("chrome")).unwrap();
        let program = folder.join(format!("chrome{}", std::env::consts::EXE_SUFFIX));
        std::fs::write(&program, "").unwrap();
        assert_eq!(program_below(dir.path(), "chrome"), Some(program));
    }
}
