//! The command line of `compress`.

#[cfg(feature = "train")]
mod allocator;
mod commands;

use clap::Parser;
use compress::Error;

/// Makes detectors: counts the cost of networks, trains, explores, prunes, quantises, evaluates and exports them.
#[derive(Parser)]
#[command(name = "compress", version)]
#[cfg_attr(
    not(feature = "train"),
    command(after_help = "train, distill, explore and prune need a build with `--features train`")
)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

/// What the system reports for a closed pipe: one code on Unix, two on Windows.
const CLOSED_PIPE: [&str; 3] = ["(os error 32)", "(os error 109)", "(os error 232)"];

/// Ends the program without an error if the reader of its output has ended, as in `compress cost | head -1`, and with an
/// error if the output cannot be written, as on a full disk. Otherwise `println!` panics.
fn end_with_the_output() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_output = |text: &'_ str| text.strip_prefix("failed printing to stdout: ").map(str::to_owned);
        let Some(why) = panic.payload_as_str().and_then(of_output) else { return report(panic) };
        if CLOSED_PIPE.iter().any(|closed| why.ends_with(closed)) {
            std::process::exit(0);
        }
        eprintln!("error: the standard output: {why}");
        std::process::exit(1);
    }));
}

fn main() -> std::process::ExitCode {
    end_with_the_output();
    let Cli { command } = Cli::parse();
    #[cfg(feature = "train")]
    if command.trains() {
        allocator::keep_freed_memory();
    }
    match command.run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
