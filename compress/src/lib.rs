//! Makes detectors: describes networks, counts their cost, trains, explores, prunes, quantises, evaluates and exports
//! them.
//!
//! Everything starts from a [`network::Network`]. [`zoo`] has the built-in ones.

pub mod checkpoint;
pub mod cost;
pub mod data;
mod dead;
pub mod decouple;
pub mod error;
pub mod evaluate;
pub mod explore;
pub mod export;
pub mod figure;
pub mod import;
pub mod journal;
pub mod measure;
pub mod network;
pub mod onnx;
pub mod prune;
pub mod quantize;
#[cfg(test)]
mod reference;
pub mod report;
pub mod revive;
mod run;
pub mod scale;
mod ties;
#[cfg(feature = "train")]
pub mod train;
pub mod trainer;
pub mod trim;
pub mod zoo;

pub use error::{Error, Result};
