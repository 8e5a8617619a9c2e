//! ONNX → the engine's graph.
//!
//! [`operators`] is the table that says what each operator means to the engine; [`lower`] applies it to a graph, node by
//! node, and [`net`] makes one of the engine's graphs of nodes that it knows. Where the file says at which maps its head
//! begins, [`head`] cuts the network there.

mod graph;
pub(crate) mod head;
mod operators;
mod reason;
mod value;
mod window;

#[cfg(feature = "tract")]
pub(crate) use graph::{Inference, Lowering, net};
pub(crate) use graph::{Lowered, lower, needed};
pub use reason::ForeignNode;
#[cfg(feature = "tract")]
pub(crate) use value::{Array, Value, Values};
#[cfg(feature = "tract")]
pub(crate) use {operators::Step, reason::Reason};

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests;
