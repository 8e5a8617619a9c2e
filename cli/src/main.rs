//! The command `micro-yolo`: finds objects in image files.
//!
//! Exit codes: 0 if every image was searched, 1 if something failed (each failure is a line on standard error;
//! other images are still searched), 2 if the command line makes no sense. If the reader of standard output closes it
//! (`| head -1`), the command ends with 0.

mod args;
mod detect;
mod draw;
mod jpeg;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match args::Args::parse().command {
        args::Command::Detect(args) => detect::run(&args),
    }
}
