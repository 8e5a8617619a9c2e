//! Reads ONNX files: bytes to one checked graph, in ONNX's own terms. Does not depend on a runtime.

pub(crate) mod attributes;
mod footprint;
#[cfg(feature = "tract")]
mod half;
pub(crate) mod head;
pub(crate) mod input;
pub(crate) mod messages;
mod metadata;
mod names;
mod order;
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

impl File {
    /// The name in errors of the output that is read, the first.
    #[cfg(feature = "tract")]
    pub fn output(&self) -> String {
        match &self.graph.output[..] {
            [] => "the output".to_owned(),
            [only] => format!("the output {:?}", only.name),
            [first, others @ ..] => format!("the output {:?}, the first of {},", first.name, 1 + others.len()),
        }
    }
}

/// Reads a file and makes all checks that need no shapes.
///
/// # Errors
///
/// `invalid-model` if the bytes are not ONNX or contradict themselves, `unsupported-model` or `unsupported-operator` if
/// the file is valid but this crate does not support it, `model-too-large` if it exceeds the limits.
pub(crate) fn read(onnx: &[u8], budget: &mut Budget<'_>) -> Result<File> {
    if onnx.is_empty() {
        return Err(Error::new(Kind::InvalidModel, "the model is empty (0 bytes)"));
    }
    let Footprint { bytes, nodes } = Footprint::new(onnx);
    budget.nodes(nodes)?;
    budget.take(bytes, "")?;
    let mut proto = ModelProto::decode(onnx).map_err(|error| {
        let other = other_kind(onnx).map_or(String::new(), |kind| format!(": they are {kind}"));
        let message = format!("these {} bytes are not an intact ONNX file{other}", onnx.len());
        Error::new(Kind::InvalidModel, message).with_source(error)
    })?;
    if let Some(graph) = &mut proto.graph {
        order::sort(graph);
    }
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

/// Recognises other kinds of files that are often given as a model. Returns the kind, and what to do.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    let kinds = [
        (&b"PK\x03\x04"[..], "a zip archive, as checkpoints of PyTorch are; export the network as ONNX"),
        (b"\x1f\x8b", "compressed by gzip; unpack them"),
        (b"version https://git-lfs", "a pointer of Git LFS; fetch the file with `git lfs pull`"),
        (b"<", "a web page, as some servers send where a file is missing"),
    ];
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    kinds.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, kind)| *kind)
}

/// Removes empty names at the end of a node's inputs and outputs, which stand for omitted ones: tract would count them.
/// `Split` keeps its outputs, because their number says how many parts there are.
fn trim(node: &mut NodeProto) {
    let named = |names: &[String]| names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    node.input.truncate(named(&node.input));
    if node.op_type != "Split" {
        node.output.truncate(named(&node.output));
    }
}

/// Removes the name of a node if an earlier node has the same name. The node is then identified by its output, whose
/// name is unique.
fn name_once(nodes: &mut [NodeProto]) {
    let mut names = HashSet::new();
    for node in nodes {
        if !names.insert(node.name.clone()) {
            node.name.clear();
        }
    }
}
