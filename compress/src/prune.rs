//! Progressive channel pruning.

pub mod groups;
