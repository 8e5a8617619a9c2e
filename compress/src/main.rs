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

/// What the system says of a pipe that nobody reads any more: on Unix, and two on Windows.
const CLOSED_PIPE: [&str; 3] = ["(os error 32)", "(os error 109)", "(os error 232)"];

/// Ends quietly where what reads the output has ended, as in `compress cost | head -1`. `println!` panics then.
fn end_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_output = |text: &&str| text.starts_with("failed printing to stdout");
        if let Some(text) = panic.payload_as_str().filter(of_output)
            && CLOSED_PIPE.iter().any(|closed| text.ends_with(closed))
        {
            std::process::exit(0);
        }
        report(panic);
    }));
}

fn main() -> std::process::ExitCode {
    end_with_the_reader();
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
