//! Whatever the bytes of a model and the pixels of a frame: an error or detections, never a panic, a hang or memory
//! without bounds.
//!
//! Cases are made of seeds, one after the other. Processes of this program run them, so that one that is killed by the
//! system, or has to be killed, costs that case alone. `cargo test` runs a share that is always the same;
//! `cargo xtask fuzz --runs 1000000` goes on for hours. A failure is named by its seed: `cargo xtask fuzz --seed N`.

#![cfg_attr(target_family = "wasm", no_main)]
#![cfg(not(target_family = "wasm"))]

#[path = "../common/mod.rs"]
mod common;

mod case;
mod change;
mod small;

use std::alloc::System;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use cap::Cap;

use crate::case::Case;

/// Memory that a case may have, all in all. The models have 100 kB, and their largest pictures some MB.
const MOST_BYTES: usize = 512 << 20;

/// Time that a case may take by default, in an unoptimised build on a busy machine. Most take some milliseconds.
const MOST_TIME: Duration = Duration::from_secs(30);

/// How many times as long a case may take that gets no time to compute, as far as that is known.
const PATIENCE: u32 = 20;

/// Cases of a plain `cargo test`, unless the variable `MICRO_YOLO_FUZZ_RUNS` says how many.
const SHARE: u64 = 1000;

/// Refuses memory above a limit; the process then ends.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What the command line says.
#[derive(Debug, PartialEq)]
struct Settings {
    runs: u64,
    seed: u64,
    jobs: u64,
    seconds: u64,
}

impl Settings {
    /// `None` if the tests that are wanted are others: cargo gives every test program the same arguments.
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
        let share = std::env::var("MICRO_YOLO_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok());
        let mut settings =
            Settings { runs: share.unwrap_or(SHARE), seed: 0, jobs: 1, seconds: MOST_TIME.as_secs() };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let number = match &*argument {
                "--runs" => &mut settings.runs,
                "--seed" => &mut settings.seed,
                "--jobs" => &mut settings.jobs,
                "--seconds" => &mut settings.seconds,
                "--list" => return Ok(None),
                // Of cargo's own runner.
                option if option.starts_with('-') => continue,
                name if "fuzz".contains(name) => continue,
                _ => return Ok(None),
            };
            let text = arguments.next().unwrap_or_default();
            *number = text.parse().map_err(|_| format!("{argument} wants a number, not `{text}`"))?;
        }
        settings.jobs = settings.jobs.max(1);
        Ok(Some(settings))
    }
}

fn main() -> ExitCode {
    if let Ok(kind) = std::env::var(WORKER) {
        return work(&kind);
    }
    match Settings::parse(std::env::args().skip(1)) {
        Ok(Some(settings)) => run(&settings),
        Ok(None) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The variable that makes this program a worker, and says which kind.
const WORKER: &str = "MICRO_YOLO_FUZZ_WORKER";

/// The kind of worker that runs cases.
const CASES: &str = "cases";

/// Kinds of workers that do at the first seed what no case may, and the start of what is said of them.
const OFFENDERS: [(&str, &str); 4] =
    [("hang", "took more than"), ("memory", "ended with"), ("panic", "ended with"), ("recurse", "ended with")];

/// Runs the cases whose seeds come on standard input, one a line, and says `done` after each that passed.
fn work(kind: &str) -> ExitCode {
    ALLOCATOR.set_limit(MOST_BYTES).expect("nothing has been allocated yet");
    for seed in std::io::stdin().lines().map_while(Result::ok) {
        match kind {
            "hang" => loop {
                std::hint::spin_loop();
            },
            "memory" => drop(std::hint::black_box(vec![1u8; MOST_BYTES])),
            "panic" => panic!("as was asked for"),
            "recurse" => drop(std::hint::black_box(depth(u64::MAX))),
            _ => {}
        }
        let case = Case::new(seed.parse().expect("the other side sends numbers"));
        if let Err(why) = case.check() {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
        println!("done");
        // Each line at once, although it is a pipe.
        std::io::stdout().flush().expect("the other side listens");
    }
    ExitCode::SUCCESS
}

/// Overflows the stack.
fn depth(left: u64) -> u64 {
    if left == 0 { 0 } else { 1 + std::hint::black_box(depth(left - 1)) }
}

/// Whether a worker that hangs, takes too much memory or ends is noticed: where it is not, no case shows anything.
fn notices(kind: &str, expected: &str) -> bool {
    let limit = if kind == "hang" { Duration::from_millis(200) } else { MOST_TIME };
    // What these say on standard error frightens readers.
    let outcome = Worker::start(kind, Stdio::null()).run(0, limit);
    let is_noticed = outcome.as_ref().is_err_and(|why| why.starts_with(expected));
    if !is_noticed {
        println!("a worker that should be reported ({kind}) is not: {outcome:?}");
    }
    is_noticed
}

/// A process that runs cases.
struct Worker {
    process: Child,
    seeds: ChildStdin,
    answers: mpsc::Receiver<()>,
}

impl Worker {
    fn start(kind: &str, stderr: Stdio) -> Worker {
        let this = std::env::current_exe().expect("this program is a file");
        let mut command = Command::new(this);
        command.env(WORKER, kind).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().expect("this program can be started");
        let seeds = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for _ in output.lines().map_while(Result::ok) {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Worker { process, seeds, answers }
    }

    /// Runs a case; what went wrong is an error, after which this process is of no use.
    fn run(&mut self, seed: u64, limit: Duration) -> Result<(), String> {
        let (started, computed) = (Instant::now(), self.cpu_time());
        let sent = writeln!(self.seeds, "{seed}");
        let mut answer = self.answers.recv_timeout(limit);
        // On a machine that does something else too, a case gets its time later.
        while answer == Err(mpsc::RecvTimeoutError::Timeout)
            && started.elapsed() < PATIENCE * limit
            && let (Some(before), Some(now)) = (computed, self.cpu_time())
            && now - before < limit
        {
            answer = self.answers.recv_timeout(limit / 4);
        }
        match (sent, answer) {
            (Ok(()), Ok(())) => Ok(()),
            (_, Err(mpsc::RecvTimeoutError::Timeout)) => Err(format!("took more than {limit:?}")),
            _ => {
                let status =
                    self.process.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("ended with {status}, for the reason above"))
            }
        }
    }
}

impl Worker {
    /// What the process has computed so far, where the system tells (Linux).
    fn cpu_time(&self) -> Option<Duration> {
        const PER_SECOND: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).ok()?;
        // The name, in parentheses, may hold anything; of what follows, the 12th and 13th are the program's time and the system's.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / PER_SECOND))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(settings: &Settings) -> ExitCode {
    let Settings { runs, seed, jobs, seconds } = *settings;
    let limit = Duration::from_secs(seconds);
    let started = Instant::now();
    println!("\nrunning {runs} cases from seed {seed}");
    if !OFFENDERS.into_iter().all(|(kind, expected)| notices(kind, expected)) {
        println!("\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n");
        return ExitCode::FAILURE;
    }
    if let Err(why) = small::all_run() {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut worker = Worker::start(CASES, Stdio::inherit());
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= runs {
                        return;
                    }
                    let seed = seed.wrapping_add(index);
                    if let Err(why) = worker.run(seed, limit) {
                        report(seed, &why);
                        failures.lock().expect("no thread panics").push(seed);
                        worker = Worker::start(CASES, Stdio::inherit());
                    }
                    if index > 0 && index % 10_000 == 0 {
                        println!(
                            "{index} cases, {} failed, {:.0?}",
                            failures.lock().expect("no thread panics").len(),
                            started.elapsed()
                        );
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort_unstable();
    let (word, failed) = if failures.is_empty() { ("ok", 0) } else { ("FAILED", failures.len() as u64) };
    if failed > 0 {
        println!("seeds that failed: {failures:?}");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{runs} cases from seed {seed}, {jobs} at once, in {seconds:.0} s ({:.0} a second): {failed} failed",
        runs as f64 / seconds
    );
    // As cargo's own runner says it.
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {seconds:.2}s\n",
        runs - failed,
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what failed, and leaves its model in the folder for temporary files of tests.
fn report(seed: u64, why: &str) {
    let case = Case::new(seed);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{seed}.onnx"));
    let kept = match std::fs::write(&file, case.onnx()) {
        Ok(()) => format!("its model is {}", file.display()),
        Err(error) => format!("its model could not be written: {error}"),
    };
    println!("seed {seed}: {why}\n  {case:?}\n  {kept}\n  again: cargo xtask fuzz --runs 1 --seed {seed}");
}
