//! `cargo xtask`: builds, serves, tests and measures the workspace.
//!
//! ```text
//! cargo xtask serve    build what is missing and serve the page
//! cargo xtask test     run every check, ends with `N passed, N failed`
//! cargo xtask build    the WebAssembly module and its glue, and with --site a folder for any static host
//! cargo xtask pack     the npm tarball and the crate, checked
//! cargo xtask fuzz     mutated models and frames
//! cargo xtask bench    measure in the browser
//! cargo xtask size     what a visitor downloads, against the budget
//! cargo xtask setup    find or install what the above need
//! ```

mod apt;
mod audit;
mod bench;
mod browser;
mod cargo_tools;
#[cfg(test)]
mod circles;
mod fuzz;
mod libtorch;
mod node;
mod pack;
mod process;
mod python;
mod serve;
mod setup;
mod site;
mod size;
mod test;
mod toolchain;
mod wasm;
mod wasm_toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xshell::Shell;

/// Builds, serves, tests and measures micro-yolo.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the WebAssembly module and its JavaScript glue into pkg/wasm
    Build(wasm::BuildArgs),
    /// Builds what is missing and serves the page on this machine only
    Serve(serve::ServeArgs),
    /// Runs every check; the last line is `N passed, N failed`
    Test(test::TestArgs),
    /// Makes the npm tarball and the crate, checks both, and prints the sizes of their parts
    Pack(pack::PackArgs),
    /// Runs mutated models and frames through the detector
    Fuzz(fuzz::FuzzArgs),
    /// Measures what a visitor downloads, and fails if it has grown
    Size(size::SizeArgs),
    /// Measures in a headless browser
    Bench(bench::BenchArgs),
    /// Finds or installs what the other commands need, and lists it
    Setup,
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("xtask: error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    let sh = Shell::new()?;
    sh.change_dir(workspace::root());
    match command {
        Command::Build(args) => wasm::run(&sh, &args),
        Command::Serve(args) => serve::run(&sh, &args),
        Command::Test(args) => test::run(&sh, &args),
        Command::Pack(args) => pack::run(&sh, &args),
        Command::Fuzz(args) => fuzz::run(&sh, &args),
        Command::Size(args) => size::run(&sh, &args),
        Command::Bench(args) => bench::run(&sh, &args),
        Command::Setup => setup::run(&sh),
    }
}
