//! `cargo xtask`: builds, serves, tests and measures the workspace.
//!
//! ```text
//! cargo xtask serve    build what is missing and serve the page
//! cargo xtask test     run every check, ends with `N passed, N failed`
//! cargo xtask build    the WebAssembly module and its glue, and with --site a folder for any static host
//! cargo xtask pack     the npm tarball
//! cargo xtask bench    measure in the browser
//! cargo xtask size     what a visitor downloads, against the budget
//! cargo xtask setup    find or install what the above need
//! ```

mod bench;
mod debian;
mod libtorch;
mod node;
mod pack;
mod process;
mod serve;
mod site;
mod size;
mod test;
mod toolchain;
mod tools;
mod wasm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Makes the npm tarball, WebAssembly and model inside
    Pack(pack::PackArgs),
    /// Says what a visitor downloads and fails where that has grown
    Size(size::SizeArgs),
    /// Measures in a headless browser
    Bench(bench::BenchArgs),
    /// Finds or installs what the other commands need, and lists it
    Setup,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build(args) => wasm::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Size(args) => size::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Setup => tools::setup(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
