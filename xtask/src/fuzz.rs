//! `cargo xtask fuzz`: runs mutated models and frames. `tests/fuzz` says what is checked.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use xshell::{Shell, cmd};

use crate::process;

/// Arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub struct FuzzArgs {
    /// How many cases
    #[arg(long, default_value_t = 20_000)]
    runs: u64,
    /// Seed of the first case; those after it have the seeds after it
    #[arg(long, default_value_t = 1_000_000)]
    seed: u64,
    /// How many run at once
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |n| n.get() as u64))]
    jobs: u64,
}

/// `cargo xtask fuzz`; fails if a case does.
///
/// # Errors
///
/// If cargo cannot be started.
pub fn run(sh: &Shell, args: &FuzzArgs) -> Result<ExitCode> {
    // Optimised, so that a million cases take hours, not days, but with the checks of a debug build: an addition that
    // overflows is a finding. The profile of the tests is changed, with the features of the whole workspace, so that
    // the dependencies compiled for the tests are reused.
    let optimised = "profile.dev.package.micro-yolo.opt-level=3";
    let [runs, seed, jobs] = [args.runs, args.seed, args.jobs].map(|number| number.to_string());
    let cargo = cmd!(sh, "cargo test --config {optimised} --workspace --test fuzz");
    let cargo = cargo.args(["--", "--runs", &runs, "--seed", &seed, "--jobs", &jobs]);
    Ok(if process::succeeds(cargo)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
