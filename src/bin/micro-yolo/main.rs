//! The command `micro-yolo`.
fn main() {}
