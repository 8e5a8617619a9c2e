//! Checks an ONNX file before the runtime gets it.
//!
//! A file may be untrusted. Its sizes, names and references are checked here against its content, because the runtime
//! does not check all of them, and on wasm a panic ends the whole instance.

use std::collections::HashSet;

use super::messages::{self as pb, AttributeType};
use super::tensor;
use crate::error::{Error, Kind, Result};

/// Makes all checks of `proto` that need no shapes. Returns the version of ONNX's operator set.
///
/// # Errors
///
/// `invalid-model` if the file contradicts itself, `unsupported-model` or `unsupported-operator` if it is valid but
/// this crate does not support it.
pub(super) fn validate(proto: &pb::ModelProto) -> Result<i64> {
    let Some(graph) = &proto.graph else {
        return Err(invalid("the bytes are no ONNX model: there is no graph in them"));
    };
    if graph.node.is_empty() || graph.output.is_empty() {
        return Err(invalid("the model's graph is empty"));
    }
    let opset = match opset(proto) {
        None => return Err(invalid("the model does not say which ONNX operator set it uses")),
        Some(version) if version < 9 => {
            let message = format!("the model uses ONNX operator set {version}; the oldest that works is 9");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
        Some(version) => version,
    };
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::new(Kind::UnsupportedModel, "the model has sparse weights; store them dense"));
    }

    let mut known = HashSet::new();
    for weight in &graph.initializer {
        if weight.name.is_empty() || !known.insert(weight.name.as_str()) {
            return Err(invalid(format!("the weight {:?} is there twice or has no name", weight.name)));
        }
        tensor::check(weight, &weight.name)?;
    }
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !inputs.insert(input.name.as_str()) {
            return Err(invalid(format!("the input {:?} is there twice or has no name", input.name)));
        }
        known.insert(&input.name);
    }
    for node in &graph.node {
        check_node(node, &mut known)?;
    }
    for output in &graph.output {
        if !known.contains(output.name.as_str()) {
            return Err(invalid(format!("nothing computes the output {:?}", output.name)));
        }
    }
    Ok(opset)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidModel, message)
}

fn is_onnx_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The version of ONNX's operator set that a file uses.
fn opset(proto: &pb::ModelProto) -> Option<i64> {
    proto.opset_import.iter().find(|import| is_onnx_domain(&import.domain)).map(|import| import.version)
}

/// Checks one node and adds its outputs to `known`. Nodes are in the order of execution ([`super::order`]), so their inputs
/// must already be known. That also excludes cycles.
fn check_node<'p>(node: &'p pb::NodeProto, known: &mut HashSet<&'p str>) -> Result<()> {
    let name = node.label();
    if !is_onnx_domain(&node.domain) {
        let message = format!(
            "the node {name:?} needs the operator {}.{}, which is not supported",
            node.domain, node.op_type
        );
        return Err(Error::new(Kind::UnsupportedOperator, message));
    }
    for attribute in &node.attribute {
        check_attribute(attribute, node, name)?;
    }
    for input in node.input.iter().filter(|input| !input.is_empty()) {
        if !known.contains(input.as_str()) {
            return Err(invalid(format!("the node {name:?} reads {input:?}, which nothing before it computes")));
        }
    }
    if node.output.iter().all(String::is_empty) {
        return Err(invalid(format!("the node {name:?} ({}) computes nothing", node.op_type)));
    }
    for output in node.output.iter().filter(|output| !output.is_empty()) {
        if !known.insert(output) {
            return Err(invalid(format!("{output:?} is computed twice")));
        }
    }
    Ok(())
}

fn check_attribute(attribute: &pb::AttributeProto, node: &pb::NodeProto, name: &str) -> Result<()> {
    let kind = AttributeType::try_from(attribute.r#type);
    let what = || format!("attribute {:?} of the node {name:?} ({})", attribute.name, node.op_type);
    match kind {
        Ok(AttributeType::Tensor) => match &attribute.t {
            Some(tensor) => tensor::check(tensor, &what()),
            None => Err(invalid(format!("the {} has no value", what()))),
        },
        Ok(AttributeType::Graph | AttributeType::Graphs) => {
            // Loops could run for ever, and branches have shapes that depend on the picture.
            let message = format!(
                "the {} is a graph of its own; control flow is not supported; onnxsim removes it where it is constant",
                what()
            );
            Err(Error::new(Kind::UnsupportedModel, message))
        }
        Ok(AttributeType::SparseTensor | AttributeType::SparseTensors) => {
            Err(Error::new(Kind::UnsupportedModel, format!("the {} is sparse; store it dense", what())))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("the {} has the unknown type {}", what(), attribute.r#type))),
    }
}
