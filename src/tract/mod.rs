//! Networks that the engine does not run alone: [tract](https://github.com/sonos/tract) runs the nodes that the engine
//! does not support.
//!
//! [`inference`] asks tract for the shapes and constants of these nodes, some of them in another form ([`rewrite`]).
//! [`partition`] divides all nodes into stages; each is either a region of the engine or a small ONNX model for tract.
//! [`session`] runs the stages one after the other, with [`runtime_check`] before each node that tract runs.
//! [`along_axis`] and [`integers`] compute some of these nodes instead of tract.

mod along_axis;
mod check;
mod inference;
mod integers;
mod partition;
mod rewrite;
mod runtime_check;
mod session;

use crate::error::{Error, Kind, Result};
use crate::limits::Budget;
use crate::lower::{self, ForeignNode};
use crate::onnx::File;
use crate::size::InputSize;
pub(crate) use session::{Network, Session};

/// Divides a network between the engine and tract. Also returns the shape of its first output and the nodes that tract
/// runs.
///
/// # Errors
///
/// `unsupported-operator` or `unsupported-model`, naming the node, if tract does not support it either or its inputs do
/// not fit; `unsupported-model` if the shape of the output is not fixed; `model-too-large` if it exceeds the limits.
pub(crate) fn load(
    file: &File,
    input: InputSize,
    budget: &mut Budget<'_>,
) -> Result<(Network, Vec<usize>, Vec<ForeignNode>)> {
    let graph = &file.graph;
    let Some(output) = graph.output.first() else {
        return Err(Error::new(Kind::InvalidModel, "the model has no output"));
    };
    let needed = lower::needed(graph, &[&output.name]);
    let mut inference = inference::Inference::new(file);
    let lowered = lower::lower(graph, file.opset, input, &needed, Some(&mut inference), budget)?;
    let shape = inference.answer(&output.name, &file.output())?;
    let (stages, foreign) = partition::partition(file, lowered, &inference, budget)?;
    Ok((Network::new(stages, input, &output.name, &shape, budget)?, shape, foreign))
}
