//! `cargo xtask test`: every check of the repository, each counted.

mod count;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use walkdir::WalkDir;
use xshell::{Cmd, Shell, cmd};

use self::count::Counts;
use crate::browser::Browser;
use crate::setup::{self, Component};
use crate::{audit, cargo_tools, libtorch, node, pack, process, size, wasm, wasm_toolchain, workspace};

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

/// A part of the tests. In each [`Lane`] they run in this order: fast parts that fail often come first.
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
    /// Licences, sources and known weaknesses of all crates
    Deny,
    /// Lints and tests of the trainer of `compress`, which needs libtorch
    Trainer,
    /// Lints of all JavaScript
    Eslint,
    /// Markdown formatting
    Markdown,
    /// Types of the npm package
    Types,
    /// The packed npm package as tools see it, and known weaknesses of the packages that it is made with
    Npm,
    /// The download has not grown beyond its budget
    Size,
    /// JavaScript tests that need no browser
    Js,
    /// `wasm-pack build` makes a module, and the example in Rust
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

    fn lane(self) -> Lane {
        match self {
            Part::Format | Part::Clippy | Part::Docs | Part::Native | Part::Deny | Part::Trainer => Lane::Native,
            Part::E2e => Lane::Last,
            _ => Lane::Web,
        }
    }
}

/// How a part ended.
enum Outcome {
    Ran(Counts),
    /// Something that the part needs is missing on this machine.
    Missing(anyhow::Error),
}

/// `cargo xtask test`; prints `N passed, N failed` last.
///
/// # Errors
///
/// Only before the first part. An error in a part counts as its failure.
pub fn run(sh: &Shell, args: &TestArgs) -> Result<ExitCode> {
    let parts = Part::value_variants().iter().copied();
    let parts: Vec<Part> = parts
        .filter(|part| (args.only.is_empty() || args.only.contains(part)) && !args.skip.contains(part))
        .collect();
    let of = |lane: Lane| parts.iter().copied().filter(move |part| part.lane() == lane);
    let (native, web): (Vec<_>, Vec<_>) = (of(Lane::Native).collect(), of(Lane::Web).collect());

    let mut report = Report { parts: parts.clone(), rows: Vec::new() };
    let beside = (!native.is_empty() && !web.is_empty()).then(|| Beside::start(&web)).transpose()?;
    native.iter().for_each(|&part| report.run(sh, part));
    match beside {
        Some(beside) => report.rows.push(beside.finish()?),
        None => web.iter().for_each(|&part| report.run(sh, part)),
    }
    of(Lane::Last).for_each(|part| report.run(sh, part));
    Ok(report.print())
}

/// Parts of one lane run one after the other. The first two lanes run in parallel, because the web parts mostly wait
/// for link-time optimisation, which uses one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lane {
    /// Everything that needs no browser and no JavaScript.
    Native,
    /// The package and its tests.
    Web,
    /// Tests in browsers that depend on time, without other load.
    Last,
}

/// A row of the table at the end of a run.
struct Row {
    name: String,
    counts: Counts,
    note: String,
    time: Duration,
}

/// The results of all parts.
struct Report {
    parts: Vec<Part>,
    rows: Vec<Row>,
}

impl Report {
    /// Runs one part.
    fn run(&mut self, sh: &Shell, part: Part) {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        println!("\n== {} ==", part.name());
        let started = Instant::now();
        let (counts, note) = match run_part(sh, part, &self.parts) {
            Ok(Outcome::Ran(counts)) => (counts, String::new()),
            // CI must run everything. On other machines a missing browser is the user's choice.
            Ok(Outcome::Missing(why)) if is_ci => (Counts::failure(), format!("cannot run: {why:#}")),
            Ok(Outcome::Missing(why)) => (Counts::default(), format!("SKIPPED: {why:#}")),
            Err(error) => (Counts::failure(), format!("{error:#}")),
        };
        if !note.is_empty() {
            println!("xtask: {}: {note}", part.name());
        }
        self.rows.push(Row { name: part.name(), counts, note, time: started.elapsed() });
    }

    /// The table, and the line with the totals.
    fn print(self) -> ExitCode {
        let mut total = Counts::default();
        println!("\n{:<12}{:>8}{:>8}{:>10}", "part", "passed", "failed", "time");
        for Row { name, counts, note, time } in self.rows {
            total += counts;
            let Counts { passed, failed } = counts;
            println!("{name:<12}{passed:>8}{failed:>8}{:>8.0} s  {note}", time.as_secs_f64());
        }
        println!("{} passed, {} failed", total.passed, total.failed);
        if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A lane that runs in its own process, so that its output does not mix with the other lane's.
struct Beside {
    child: Child,
    output: PathBuf,
    started: Instant,
}

impl Beside {
    fn start(parts: &[Part]) -> Result<Beside> {
        let output = workspace::target_dir("xtask")?.join("beside.log");
        let file = File::create(&output).with_context(|| format!("creating {}", output.display()))?;
        let names: Vec<String> = parts.iter().map(|part| part.name()).collect();
        println!("xtask: at the same time, {}; their output follows later: {}", names.join(", "), output.display());
        let mut command = Command::new(std::env::current_exe().context("where is xtask?")?);
        let command = command.args(["test", "--only", &names.join(",")]).stdin(Stdio::null());
        let child = command.stdout(file.try_clone()?).stderr(file).spawn().context("starting xtask once more")?;
        Ok(Beside { child, output, started: Instant::now() })
    }

    /// Waits for the end, and prints the output.
    fn finish(mut self) -> Result<Row> {
        let status = self.child.wait()?;
        let output = std::fs::read(&self.output).with_context(|| format!("reading {}", self.output.display()))?;
        let output = String::from_utf8_lossy(&output);
        println!("\n{}", output.trim_end());
        let (counts, note) = match output.lines().next_back().and_then(Counts::totals) {
            Some(counts) => (counts, "see the table above".to_owned()),
            None => (Counts::failure(), format!("ended without a count: {status}")),
        };
        Ok(Row { name: "web".to_owned(), counts, note, time: self.started.elapsed() })
    }
}

/// Runs one of the requested `parts`.
fn run_part(sh: &Shell, part: Part, parts: &[Part]) -> Result<Outcome> {
    match part {
        Part::Format => {
            needs(setup::component(sh, Component::Format), |_| check(cmd!(sh, "cargo fmt --all --check")))
        }
        Part::Clippy => needs(setup::component(sh, Component::Lint), |_| {
            check(cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings"))
        }),
        Part::Docs => {
            let cargo = cmd!(sh, "cargo doc --workspace --no-deps --document-private-items");
            check(cargo.env("RUSTDOCFLAGS", "-D warnings")).map(Outcome::Ran)
        }
        Part::Native => {
            // Includes the trainer if its part runs too: with other features, cargo would compile most crates again.
            let trainer = if parts.contains(&Part::Trainer) { libtorch(sh).ok() } else { None };
            let features: &[&str] = if trainer.is_some() { &WITH_TRAINER } else { &[] };
            let cargo = cmd!(sh, "cargo test --workspace {features...} --no-fail-fast");
            tests(cargo.envs(trainer.unwrap_or_default())).map(Outcome::Ran)
        }
        Part::Deny => needs(audit::cargo_deny(sh), |cargo_deny| check(audit::crates(sh, &cargo_deny))),
        Part::Trainer => needs(libtorch(sh), |variables| trainer(sh, &variables, parts.contains(&Part::Native))),
        Part::Eslint => {
            needs(node::install(sh), |_| check(node::program(sh, "eslint")?.args(["--max-warnings", "0", "."])))
        }
        Part::Markdown => {
            // .prettierignore says which files are excluded.
            needs(node::install(sh), |_| check(node::program(sh, "prettier")?.args(["--check", "."])))
        }
        Part::Types => needs(node::install(sh), |_| {
            // The types of the glue code are generated.
            wasm::build(sh)?;
            check(node::program(sh, "tsc")?.args(["--project", "tsconfig.json"]))
        }),
        Part::Npm => needs(node::install(sh), |_| {
            let tarball = pack::npm_tarball(sh, &workspace::target_dir("npm")?)?;
            let mut total = Counts::default();
            for linter in pack::npm_linters(sh, &tarball)? {
                total += check(linter)?;
            }
            if audit::npm_packages(sh)? {
                total += Counts { passed: 1, failed: 0 };
            } else {
                println!("xtask: the npm registry gave no list of known weaknesses: not checked");
            }
            Ok(total)
        }),
        Part::Size => needs(node::install(sh), |_| {
            size::run(sh, &size::SizeArgs::default())?;
            Ok(Counts { passed: 1, failed: 0 })
        }),
        Part::Js => needs(node::install(sh), |_| {
            wasm::build(sh)?;
            tests(node_tests(sh, "tests/js")?)
        }),
        Part::WasmPack => needs(wasm_pack(sh), |wasm_pack| {
            let out = workspace::target_dir("wasm-pack")?;
            let wasm_pack = wasm_pack.args(["build", ".", "--target", "web", "--no-opt", "--out-dir"]).arg(out);
            let mut total = check(wasm_pack.args(["--profile", wasm::PROFILE]))?;
            total += check(example(sh)?)?;
            Ok(total)
        }),
        Part::Chromium => browser(sh, Browser::Chromium),
        Part::Firefox => browser(sh, Browser::Firefox),
        Part::E2e => needs(node::install(sh).and_then(|_| both_browsers(sh)), |browsers| {
            // It has 110 MB, so it is separate from the packages of the repository.
            node::install_in(sh, &workspace::path("tests/e2e/parcel"))?;
            wasm::build(sh)?;
            tests(node_tests(sh, "tests/e2e")?.envs(browsers))
        }),
    }
}

/// Runs `part` with what it needs. If that is missing, the outcome says so.
fn needs<T>(found: Result<T>, part: impl FnOnce(T) -> Result<Counts>) -> Result<Outcome> {
    match found {
        Ok(found) => part(found).map(Outcome::Ran),
        Err(why) => Ok(Outcome::Missing(why)),
    }
}

/// Cargo's options for `compress` with the trainer.
const WITH_TRAINER: [&str; 2] = ["--features", "compress/train"];

/// The variables that compiling and running the trainer needs.
fn libtorch(sh: &Shell) -> Result<Vec<(&'static str, OsString)>> {
    setup::cpp_compiler(sh).and_then(|_| libtorch::variables(sh))
}

/// What the feature `train` adds to `Clippy`, and to `Native` unless that has tested it.
fn trainer(sh: &Shell, libtorch: &[(&'static str, OsString)], is_tested: bool) -> Result<Counts> {
    let variables = || libtorch.iter().map(|(name, value)| (name, value));
    let mut total = check(
        cmd!(sh, "cargo clippy --workspace {WITH_TRAINER...} --all-targets -- -D warnings").envs(variables()),
    )?;
    if !is_tested {
        let cargo = || cmd!(sh, "cargo test --workspace {WITH_TRAINER...} --no-fail-fast").envs(variables());
        total += tests(cargo().args(["--lib", "--bins", "--", "train::", "commands::", "import::nanodet::"]))?;
        total += tests(cargo().args(["--test", "train", "--test", "distill", "--test", "prune"]))?;
    }
    Ok(total)
}

fn wasm_pack(sh: &Shell) -> Result<Cmd<'_>> {
    let program = cargo_tools::wasm_pack(sh)?;
    cargo_tools::wasm_bindgen(sh)?;
    wasm_toolchain::ensure(sh)?.command(sh, program)
}

/// Builds the example in Rust for its end-to-end test.
fn example(sh: &Shell) -> Result<Cmd<'_>> {
    let out = workspace::target_dir("example-rust")?;
    let wasm_pack = wasm_pack(sh)?.args(["build", "examples/rust", "--target", "web", "--no-opt", "--out-dir"]);
    Ok(wasm_pack.arg(out).args(["--profile", wasm::PROFILE]))
}

/// The variables by which end-to-end tests find the browsers.
fn both_browsers(sh: &Shell) -> Result<Vec<(&'static str, PathBuf)>> {
    [Browser::Chromium, Browser::Firefox].into_iter().map(|b| Ok((b.variables()[0], b.ensure(sh)?))).collect()
}

fn browser(sh: &Shell, browser: Browser) -> Result<Outcome> {
    let found = browser.ensure_with_driver(sh).and_then(|found| wasm_pack(sh).map(|_| found));
    needs(found, |found| {
        let [browser_option, driver_option] = browser.wasm_pack_options();
        let mut total = Counts::default();
        // Tests of the crate from outside and of its kernels from inside, in both builds of the package. Cargo keeps
        // only one of the builds. So the second browser begins with the build with which the first one ended.
        let builds = match browser {
            Browser::Chromium => ["web", "web,relaxed-simd"],
            Browser::Firefox => ["web,relaxed-simd", "web"],
        };
        for features in builds {
            let mut wasm_pack = wasm_pack(sh)?.args(["test", "--headless", browser_option]);
            if let Some(driver) = &found.driver {
                wasm_pack = wasm_pack.arg(driver_option).arg(driver);
            }
            // The profile of the page: the tests use what is published, and nothing is compiled twice. The other test
            // files are native, and each documentation example would link the whole runtime again. Unit tests alone
            // would make cargo compile all dependencies again.
            wasm_pack = wasm_pack.args([".", "--profile", wasm::PROFILE, "--lib", "--test", "browser"]);
            wasm_pack = wasm_pack.args(["--features", features]);
            // Seconds without output from the browser, which runs a network on a machine that may be busy.
            let wasm_pack = wasm_pack.env("WASM_BINDGEN_TEST_TIMEOUT", "300");
            // One test needs a picture of another site, which a cross-origin isolated page may not show.
            total += tests(wasm_pack.env("WASM_BINDGEN_TEST_NO_ORIGIN_ISOLATION", "1"))?;
        }
        Ok(total)
    })
}

/// Runs Node's test runner on all `*.test.js` and `*.test.mjs` below a folder.
fn node_tests<'a>(sh: &'a Shell, folder: &str) -> Result<Cmd<'a>> {
    let files = test_files(&workspace::path(folder))?;
    if files.is_empty() {
        bail!("no *.test.js or *.test.mjs below {folder}");
    }
    // One file at a time, because each uses one or two browsers.
    let node = process::program(sh, "node").args(["--test", "--test-concurrency=1", "--test-timeout=300000"]);
    Ok(node.arg("--test-reporter=spec").args(files).env("NO_COLOR", "1").env_remove("FORCE_COLOR"))
}

/// The test files below a folder, sorted.
fn test_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_left_out = |name: &str| name == "node_modules" || name.starts_with('.');
    let entries = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
    let mut files = Vec::new();
    for entry in entries.filter_entry(|entry| !is_left_out(&entry.file_name().to_string_lossy())) {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type().is_file() && (name.ends_with(".test.js") || name.ends_with(".test.mjs")) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Runs a command that is one check: it passes or fails.
fn check(cmd: Cmd<'_>) -> Result<Counts> {
    println!("$ {cmd}");
    cmd.quiet().run()?;
    Ok(Counts { passed: 1, failed: 0 })
}

/// Runs a test runner and reads its counts from its output.
fn tests(cmd: Cmd<'_>) -> Result<Counts> {
    let shown = cmd.to_string();
    println!("$ {shown}");
    let mut child = Command::from(cmd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = child.stdout.take().context("the test runner has no output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // As bytes, because a test may print invalid UTF-8.
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
    // A browser that did not end may hold the stream open, so do not wait for its end.
    while let Ok(line) = receiver.recv_timeout(Duration::from_secs(10)) {
        counts += Counts::in_line(&line);
    }
    if counts.failed == 0 && !status.success() {
        // It did not compile, or ended before it printed counts.
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

    /// A program that prints `text` and exits with `code`, on every system: this one, whose test `echo` does that.
    fn runner(text: &str, code: i32) -> Result<Counts> {
        let sh = Shell::new().unwrap();
        let this = std::env::current_exe().unwrap();
        let cmd = cmd!(sh, "{this} --exact test::tests::echo --ignored --nocapture --quiet");
        tests(cmd.env("XTASK_ECHO", text).env("XTASK_EXIT", code.to_string()))
    }

    #[test]
    #[ignore = "the program that other tests run"]
    fn echo() {
        let Ok(text) = std::env::var("XTASK_ECHO") else { return };
        println!("{text}");
        std::process::exit(std::env::var("XTASK_EXIT").unwrap().parse().unwrap());
    }

    #[test]
    fn counts_of_several_binaries_add_up() {
        let text =
            "test result: ok. 2 passed; 0 failed; 0 ignored\ntest result: FAILED. 1 passed; 3 failed; 0 ignored";
        assert_eq!(runner(text, 101).unwrap(), Counts { passed: 3, failed: 3 });
    }

    #[test]
    fn a_runner_that_dies_without_counting_has_failed() {
        assert_eq!(runner("error: could not compile", 101).unwrap(), Counts { passed: 0, failed: 1 });
        let text = "test result: ok. 2 passed; 0 failed; 0 ignored";
        assert_eq!(runner(text, 1).unwrap(), Counts { passed: 2, failed: 1 });
    }

    #[test]
    fn a_runner_without_a_test_is_an_error() {
        assert!(runner("", 0).is_err());
        assert!(runner("test result: ok. 0 passed; 0 failed; 0 ignored", 0).is_err());
    }

    #[test]
    fn a_failed_check_is_an_error_and_a_missing_program_too() {
        let sh = Shell::new().unwrap();
        assert!(check(cmd!(sh, "cargo no-such-command-micro-yolo")).is_err());
        assert!(check(cmd!(sh, "no-such-program-micro-yolo")).is_err());
        assert_eq!(check(cmd!(sh, "cargo --version")).unwrap(), Counts { passed: 1, failed: 0 });
    }

    #[test]
    fn test_files_are_found_below_folders() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.test.mjs", "deep/b.test.js", "c.js", "node_modules/d.test.js"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(
            test_files(dir.path()).unwrap(),
            [dir.path().join("a.test.mjs"), dir.path().join("deep/b.test.js")]
        );
        assert!(test_files(&dir.path().join("missing")).is_err());
    }
}
