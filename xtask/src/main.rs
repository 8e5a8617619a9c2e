//! `cargo xtask`: builds, serves, tests and measures the workspace.
fn main() {}
