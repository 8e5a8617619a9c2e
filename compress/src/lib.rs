//! Makes Micro-YOLO models: describes networks, counts their cost, trains, explores, prunes, quantises, evaluates and
//! exports them.
//!
//! Everything starts from a [`network::Network`]; [`zoo`] has the ones with names.

pub mod cost;
pub mod error;
pub mod evaluate;
pub mod network;
pub mod zoo;

pub use error::{Error, Result};
