//! ONNX files: bytes → one checked graph, in ONNX's own terms. Does not depend on a runtime.

pub(crate) mod attributes;
mod footprint;
#[cfg(feature = "tract")]
mod half;
pub(crate) mod head;
pub(crate) mod input;
pub(crate) mod messages;
mod metadata;
mod names;
pub(crate) mod tensor;
mod validate;

use std::collections::HashSet;

use prost::Message;

use crate::error::{Error, Kind, Result};
use crate::limits::Budget;
use footprint::Footprint;
use messages::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
pub use metadata::Metadata;

/// A file whose sizes, names and references have been checked.
pub(crate) struct File {
    pub graph: GraphProto,
    /// The version of ONNX's operator set.
    pub opset: i64,
    /// The operator sets as the file lists them.
    #[cfg_attr(not(feature = "tract"), expect(dead_code))]
    pub opsets: Vec<OperatorSetIdProto>,
    pub metadata: Metadata,
}

/// Reads a file and checks everything about it that needs no shapes.
///
/// # Errors
///
/// `invalid-model` where the bytes are no ONNX or contradict themselves, `unsupported-model` or `unsupported-operator`
/// where the file is sound but beyond what this crate runs, `model-too-large` where it is beyond the limits.
pub(crate) fn read(onnx: &[u8], budget: &mut Budget<'_>) -> Result<File> {
    if onnx.is_empty() {
        return Err(Error::new(Kind::InvalidModel, "the model is empty (0 bytes)"));
    }
    let Footprint { bytes, nodes } = Footprint::new(onnx);
    budget.nodes(nodes)?;
    budget.take(bytes, "")?;
    let proto = ModelProto::decode(onnx).map_err(|error| {
        let message = format!("these {} bytes are not an intact ONNX file", onnx.len());
        Error::new(Kind::InvalidModel, message).with_source(error)
    })?;
    let opset = validate::validate(&proto)?;
    let metadata = Metadata::read(&proto);
    let ModelProto { graph, opset_import: opsets, .. } = proto;
    let Some(mut graph) = graph else {
        return Err(Error::new(Kind::InvalidModel, "the model has no graph"));
    };
    graph.node.iter_mut().for_each(trim);
    name_once(&mut graph.node);
    #[cfg(feature = "tract")]
    half::widen(&mut graph, budget)?;
    Ok(File { graph, opset, opsets, metadata })
}

/// Removes empty names at the end of a node's inputs and outputs, which stand for those that are left out: tract counts
/// them. The outputs of `Split` say how many parts there are.
fn trim(node: &mut NodeProto) {
    let named = |names: &[String]| names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    node.input.truncate(named(&node.input));
    if node.op_type != "Split" {
        node.output.truncate(named(&node.output));
    }
}

/// Removes the name of a node where another before it has the same. It is then called by its output, of which there is one.
fn name_once(nodes: &mut [NodeProto]) {
    let mut names = HashSet::new();
    for node in nodes {
        if !names.insert(node.name.clone()) {
            node.name.clear();
        }
    }
}
