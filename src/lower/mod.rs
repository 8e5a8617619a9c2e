//! ONNX → the engine's graph.
//!
//! [`operators`] is the table that translates ONNX operators to those of the engine. [`graph`] applies it to a graph,
//! node by node, and makes an engine graph of supported nodes. If the file names the maps at which its head begins,
//! [`head`] cuts the network there. [`shuffle`] finds the only pattern that consists of several nodes.

mod cost;
mod graph;
pub(crate) mod head;
mod operators;
mod reason;
mod shuffle;
mod value;
mod window;

#[cfg(feature = "tract")]
pub(crate) use cost::of_node as cost_of_node;
#[cfg(feature = "tract")]
pub(crate) use graph::{Inference, Lowered, Lowering, lower, needed, net};
pub use reason::ForeignNode;
#[cfg(feature = "tract")]
pub(crate) use value::{Array, Value, Values};
#[cfg(feature = "tract")]
pub(crate) use {operators::Step, reason::Reason};

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests;
