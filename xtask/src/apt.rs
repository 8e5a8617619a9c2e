//! Packages of Debian and Ubuntu, which xtask installs where it runs as root (a container, CI).

use std::fs::File;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::{process, workspace};

/// A distribution whose packages xtask knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Debian, whose packages include browsers and a recent Rust.
    Debian,
    /// Ubuntu, whose browsers are snaps: those do not run in a container.
    Ubuntu,
}

/// The distribution, if packages can be installed without asking: the user is root and `apt-get` is installed.
pub fn distribution(sh: &Shell) -> Option<Distribution> {
    let is_root = || cmd!(sh, "id -u").quiet().ignore_stderr().read().is_ok_and(|uid| uid == "0");
    if process::which(sh, "apt-get").is_none() || !is_root() {
        return None;
    }
    parse(&std::fs::read_to_string("/etc/os-release").ok()?)
}

/// The distribution that a text like that of `/etc/os-release` names.
fn parse(os_release: &str) -> Option<Distribution> {
    let value = |key: &str| {
        let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value.trim_matches('"'))
    };
    let names = value("ID").into_iter().chain(value("ID_LIKE").unwrap_or_default().split(' '));
    names
        .filter_map(|name| match name {
            "debian" => Some(Distribution::Debian),
            "ubuntu" => Some(Distribution::Ubuntu),
            _ => None,
        })
        .next()
}

/// Installs those of the packages that are missing.
///
/// # Errors
///
/// If packages may not be installed on this machine, or `apt-get` fails.
pub fn install(sh: &Shell, packages: &[&str]) -> Result<()> {
    // `cargo xtask test` is two processes, and apt-get fails if another one runs.
    let lock_path = workspace::tools_dir()?.join("apt.lock");
    sh.create_dir(workspace::tools_dir()?)?;
    let lock = File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
    let missing: Vec<_> = packages.iter().filter(|package| !is_installed(sh, package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if distribution(sh).is_none() {
        bail!(
            "{} would have to be installed, and only on Debian or Ubuntu as root may xtask do that",
            packages.join(", ")
        );
    }
    static LISTS_UPDATED: OnceLock<()> = OnceLock::new();
    if LISTS_UPDATED.set(()).is_ok() {
        cmd!(sh, "apt-get update -qq").run()?;
    }
    let apt = cmd!(sh, "apt-get install -y -qq --no-install-recommends {missing...}");
    // Its progress output is not useful.
    apt.env("DEBIAN_FRONTEND", "noninteractive").ignore_stdout().run()?;
    Ok(())
}

fn is_installed(sh: &Shell, package: &str) -> bool {
    let format = "-f=${Status}";
    let query = cmd!(sh, "dpkg-query -W {format} {package}").quiet().ignore_stderr();
    query.read().is_ok_and(|status| status == "install ok installed")
}

/// Returns what `find` finds. If it finds nothing, installs packages where possible, and tries again.
///
/// # Errors
///
/// If it is still not found.
pub fn find_or_install<T>(sh: &Shell, find: impl Fn() -> Option<T>, packages: &[&str]) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    if distribution(sh).is_some() {
        install(sh, packages)?;
    }
    match find() {
        Some(found) => Ok(found),
        None => bail!("{} not found", packages.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_by_their_own_description() {
        let cases = [
            ("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n", Some(Distribution::Debian)),
            ("ID=ubuntu\nID_LIKE=debian\n", Some(Distribution::Ubuntu)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Distribution::Ubuntu)),
            ("ID=\"raspbian\"\nID_LIKE=debian\n", Some(Distribution::Debian)),
            ("ID=fedora\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let sh = Shell::new().unwrap();
        // apt-get would fail on such a name.
        let found = find_or_install(&sh, || Some(1), &["no-such-package-micro-yolo"]);
        assert_eq!(found.unwrap(), 1);
    }
}
