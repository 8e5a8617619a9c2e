//! The command `micro-yolo`: finds objects in image files.
//!
//! Exit codes: 0 if every image was searched, 1 if something failed (each failure is a line on standard error;
//! other images are still searched), 2 if the command line makes no sense.

// A browser has no command line, but `cargo test` builds every binary.
#[cfg(target_family = "wasm")]
fn main() {}

#[cfg(not(target_family = "wasm"))]
mod args;
#[cfg(not(target_family = "wasm"))]
mod detect;
#[cfg(not(target_family = "wasm"))]
mod draw;

#[cfg(not(target_family = "wasm"))]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    match args::Args::parse().command {
        args::Command::Detect(args) => detect::run(&args),
    }
}
