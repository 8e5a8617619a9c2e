//! `cargo xtask test`: every check of the repository, each counted.

mod count;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::count::Counts;
use crate::tools::Browser;
use crate::{libtorch, node, process, size, toolchain, tools, wasm, workspace};

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub struct TestArgs {
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// All but these parts, separated by commas
    #[arg(long, value_delimiter = ',', conflicts_with = "only")]
    skip: Vec<Part>,
}

/// A part of the tests. They run in this order: what is quick and fails often comes first.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Part {
    /// Rust formatting
    Format,
    /// Lints of all Rust code
    Clippy,
    /// The Rust documentation builds without a warning
    Docs,
    /// Unit, integration and documentation tests of all crates
    Native,
    /// Lints and tests of the trainer of `compress`, which needs libtorch
    Trainer,
    /// Lints of all JavaScript
    Eslint,
    /// Types of the npm package
    Types,
    /// The download has not grown beyond its budget
    Size,
    /// JavaScript tests that need no browser
    Js,
    /// `wasm-pack build` makes a module
    WasmPack,
    /// `wasm-pack test` in Chromium
    Chromium,
    /// `wasm-pack test` in Firefox
    Firefox,
    /// The page and the packed npm package in real browsers
    E2e,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// How a part ended.
enum Outcome {
    Ran(Counts),
    /// Something it needs is not on this machine.
    Missing(anyhow::Error),
}

/// `cargo xtask test`; prints `N passed, N failed` last.
///
/// # Errors
///
/// Only before the first part; what goes wrong in a part is counted as its failure.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let parts = Part::value_variants().iter().copied();
    let parts =
        parts.filter(|part| (args.only.is_empty() || args.only.contains(part)) && !args.skip.contains(part));

    let mut rows = Vec::new();
    let mut total = Counts::default();
    for part in parts {
        println!("\n== {} ==", part.name());
        let started = Instant::now();
        let (counts, note) = match run_part(part) {
            Ok(Outcome::Ran(counts)) => (counts, String::new()),
            // Elsewhere a missing browser is the user's choice; CI promises to have run everything.
            Ok(Outcome::Missing(why)) if is_ci => (Counts::failure(), format!("cannot run: {why:#}")),
            Ok(Outcome::Missing(why)) => (Counts::default(), format!("SKIPPED: {why:#}")),
            Err(error) => (Counts::failure(), format!("{error:#}")),
        };
        if !note.is_empty() {
            println!("xtask: {}: {note}", part.name());
        }
        total += counts;
        rows.push((part, counts, note, started.elapsed()));
    }

    println!("\n{:<12}{:>8}{:>8}{:>10}", "part", "passed", "failed", "time");
    for (part, counts, note, time) in rows {
        let Counts { passed, failed } = counts;
        println!("{:<12}{passed:>8}{failed:>8}{:>8.0} s  {note}", part.name(), time.as_secs_f64());
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_part(part: Part) -> Result<Outcome> {
    match part {
        Part::Format => check(cargo(&["fmt", "--all", "--check"])).map(Outcome::Ran),
        Part::Clippy => {
            check(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])).map(Outcome::Ran)
        }
        Part::Docs => {
            let mut cargo = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
            cargo.env("RUSTDOCFLAGS", "-D warnings");
            check(cargo).map(Outcome::Ran)
        }
        Part::Native => tests(cargo(&["test", "--workspace", "--no-fail-fast"])).map(Outcome::Ran),
        Part::Trainer => needs(libtorch::variables(), |variables| trainer(&variables)),
        Part::Eslint => needs(node::install(), |_| {
            let mut eslint = node::program("eslint")?;
            eslint.args(["--max-warnings", "0", "."]);
            check(eslint)
        }),
        Part::Types => needs(node::install(), |_| {
            // The glue's types are generated.
            wasm::build()?;
            let mut tsc = node::program("tsc")?;
            tsc.args(["--project", "tsconfig.json"]);
            check(tsc)
        }),
        Part::Size => needs(node::install(), |_| {
            size::run(&size::SizeArgs::default())?;
            Ok(Counts { passed: 1, failed: 0 })
        }),
        Part::Js => needs(node::install(), |_| {
            wasm::build()?;
            node_tests(&["pkg", "www", "tests/js", "benches"])
        }),
        Part::WasmPack => needs(wasm_pack(), |mut wasm_pack| {
            let out = workspace::target_dir("wasm-pack")?;
            wasm_pack.args(["build", ".", "--target", "web", "--no-opt", "--out-dir"]).arg(out);
            wasm_pack.args(["--profile", wasm::PROFILE]);
            check(wasm_pack)
        }),
        Part::Chromium => browser(Browser::Chromium),
        Part::Firefox => browser(Browser::Firefox),
        Part::E2e => needs(node::install().and_then(|_| both_browsers()), |browsers| {
            wasm::build()?;
            let mut node = node_command(&["tests/e2e"])?;
            node.envs(browsers).env("XTASK", std::env::current_exe().context("finding the running program")?);
            tests(node)
        }),
    }
}

/// Runs `part` with what it needs; where that is missing, says so.
fn needs<T>(found: Result<T>, part: impl FnOnce(T) -> Result<Counts>) -> Result<Outcome> {
    match found {
        Ok(found) => part(found).map(Outcome::Ran),
        Err(why) => Ok(Outcome::Missing(why)),
    }
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace::root());
    command
}

/// What the feature `train` adds: the rest of `compress` was the turn of `Clippy` and `Native`.
fn trainer(libtorch: &[(&'static str, OsString)]) -> Result<Counts> {
    let with_libtorch = |program: &str, args: &[&str]| {
        let mut cargo = cargo(&[program, "--package", "compress", "--features", "train"]);
        cargo.args(args).envs(libtorch.iter().map(|(name, value)| (name, value)));
        cargo
    };
    let mut total = check(with_libtorch("clippy", &["--all-targets", "--", "-D", "warnings"]))?;
    total += tests(with_libtorch("test", &["--no-fail-fast", "--lib", "--bins", "--", "train::"]))?;
    total += tests(with_libtorch("test", &["--test", "train"]))?;
    Ok(total)
}

fn wasm_pack() -> Result<Command> {
    let program = tools::wasm_pack()?;
    tools::wasm_bindgen()?;
    let mut command = toolchain::ensure()?.command(&program.to_string_lossy())?;
    command.current_dir(workspace::root());
    Ok(command)
}

fn found(browser: Browser) -> Result<PathBuf> {
    let name = browser.name();
    browser.program().with_context(|| {
        format!("{name} is missing: install it, or say where it is in the variable {}", browser.variables().0)
    })
}

/// The variables by which end-to-end tests find the browsers.
fn both_browsers() -> Result<Vec<(&'static str, PathBuf)>> {
    [Browser::Chromium, Browser::Firefox].into_iter().map(|b| Ok((b.variables().0, found(b)?))).collect()
}

fn browser(browser: Browser) -> Result<Outcome> {
    needs(found(browser).and_then(|_| wasm_pack()), |_| {
        let mut total = Counts::default();
        // The crate from outside and its kernels from inside, in both builds of the package. Cargo has one place for
        // either: the second browser begins with the build that the first one ended with.
        let builds = match browser {
            Browser::Chromium => ["", "relaxed-simd"],
            Browser::Firefox => ["relaxed-simd", ""],
        };
        for features in builds {
            let mut wasm_pack = wasm_pack()?;
            wasm_pack.args(["test", "--headless", browser.wasm_pack_option()]);
            if let Some(driver) = browser.driver() {
                wasm_pack.arg(if browser == Browser::Chromium { "--chromedriver" } else { "--geckodriver" });
                wasm_pack.arg(driver);
            }
            // The profile of the page: what is tested is what ships, and nothing is compiled twice. The other test
            // files are native, and each documentation example would link the whole runtime once more. Unit tests
            // alone would have cargo compile all dependencies anew, for the linker only.
            wasm_pack.args([".", "--profile", wasm::PROFILE, "--lib", "--test", "browser", "--features", features]);
            // Seconds without a word from the browser; a network is loaded and run meanwhile, on a machine that may
            // be busy.
            wasm_pack.env("WASM_BINDGEN_TEST_TIMEOUT", "300");
            total += tests(wasm_pack)?;
        }
        Ok(total)
    })
}

/// Node's test runner on all `*.test.js` and `*.test.mjs` below some folders.
fn node_tests(folders: &[&str]) -> Result<Counts> {
    tests(node_command(folders)?)
}

fn node_command(folders: &[&str]) -> Result<Command> {
    let mut files = Vec::new();
    for folder in folders {
        collect_tests(&workspace::path(folder), &mut files)?;
    }
    files.sort();
    if files.is_empty() {
        bail!("no *.test.js or *.test.mjs below {}", folders.join(", "));
    }
    let mut node = Command::new("node");
    // One file at a time: they share one machine with a browser or two.
    node.args(["--test", "--test-concurrency=1", "--test-timeout=300000", "--test-reporter=spec"]);
    node.args(files).current_dir(workspace::root()).env("NO_COLOR", "1").env_remove("FORCE_COLOR");
    Ok(node)
}

fn collect_tests(folder: &std::path::Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "node_modules" && !name.starts_with('.') {
                collect_tests(&path, files)?;
            }
        } else if name.ends_with(".test.js") || name.ends_with(".test.mjs") {
            files.push(path);
        }
    }
    Ok(())
}

/// A command that is one check: it passes or not.
fn check(mut command: Command) -> Result<Counts> {
    println!("$ {}", process::display(&command));
    process::run(command.stdin(Stdio::null()))?;
    Ok(Counts { passed: 1, failed: 0 })
}

/// A test runner, whose own counts are read from its output.
fn tests(mut command: Command) -> Result<Counts> {
    let shown = process::display(&command);
    println!("$ {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = child.stdout.take().context("the test runner has no output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Bytes, for a test may print what is no UTF-8.
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    let mut counts = Counts::default();
    // The stream ends with its last writer. A browser left behind holds it open: no reason to wait for ever.
    while let Ok(line) = receiver.recv_timeout(Duration::from_secs(10)) {
        counts += Counts::in_line(&line);
    }
    if counts.failed == 0 && !status.success() {
        // It did not compile, or died before it counted.
        println!("xtask: `{shown}` failed ({status})");
        counts.failed = 1;
    }
    if counts == Counts::default() {
        bail!("`{shown}` ran no test");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Result<Counts> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        tests(command)
    }

    #[test]
    fn counts_of_several_binaries_add_up() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo 'test result: FAILED. 1 passed; 3 failed; 0 ignored'; exit 101";
        assert_eq!(sh(script).unwrap(), Counts { passed: 3, failed: 3 });
    }

    #[test]
    fn a_runner_that_dies_without_counting_has_failed() {
        assert_eq!(sh("echo error: could not compile; exit 101").unwrap(), Counts { passed: 0, failed: 1 });
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 1";
        assert_eq!(sh(script).unwrap(), Counts { passed: 2, failed: 1 });
    }

    #[test]
    fn a_runner_without_a_test_is_an_error() {
        assert!(sh("true").is_err());
        assert!(sh("echo 'test result: ok. 0 passed; 0 failed; 0 ignored'").is_err());
    }

    #[test]
    fn a_failed_check_is_an_error_and_a_missing_program_too() {
        assert!(check(Command::new("false")).is_err());
        assert!(check(Command::new("no-such-program-micro-yolo")).is_err());
        assert_eq!(check(Command::new("true")).unwrap(), Counts { passed: 1, failed: 0 });
    }

    #[test]
    fn test_files_are_found_below_folders() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.test.mjs", "deep/b.test.js", "c.js", "node_modules/d.test.js"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let mut files = Vec::new();
        collect_tests(dir.path(), &mut files).unwrap();
        files.sort();
        assert_eq!(files, [dir.path().join("a.test.mjs"), dir.path().join("deep/b.test.js")]);
    }
}
