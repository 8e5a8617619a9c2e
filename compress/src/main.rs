//! The command line of `compress`.

mod commands;

use clap::Parser;

/// Makes Micro-YOLO models: counts, trains, explores, prunes, quantises, evaluates and exports networks.
#[derive(Parser)]
#[command(name = "compress", version)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
