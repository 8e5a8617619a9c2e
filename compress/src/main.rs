//! The command line of `compress`.
fn main() {}
