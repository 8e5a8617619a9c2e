//! Looks an ONNX file over before the runtime sees it.
//!
//! A file may come from anywhere. What it claims (sizes, names, references) is checked here against what is in
//! it, because the runtime takes some of that on trust, and on wasm a panic would take the whole instance down.

use std::collections::HashSet;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use crate::error::{Error, Kind, Result};

/// The most values one stored tensor may have. The largest layer of a large detector has some ten million.
const MAX_TENSOR_VALUES: usize = 1 << 28;

/// Checks everything about `proto` that needs no shapes.
///
/// # Errors
///
/// `invalid-model` where the file contradicts itself, `unsupported-model` or `unsupported-operator` where it is
/// sound but beyond what this crate runs.
pub(super) fn validate(proto: &pb::ModelProto, operators: &OnnxOpRegister) -> Result<()> {
    let Some(graph) = &proto.graph else {
        return Err(invalid("the bytes are no ONNX model: there is no graph in them"));
    };
    if graph.node.is_empty() || graph.output.is_empty() {
        return Err(invalid("the model's graph is empty"));
    }
    let opset = proto.opset_import.iter().find(|import| is_onnx_domain(&import.domain));
    match opset.map(|import| import.version) {
        None => return Err(invalid("the model does not say which ONNX operator set it uses")),
        Some(version) if version < 9 => {
            let message = format!("the model uses ONNX operator set {version}; the oldest that works is 9");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
        Some(_) => (),
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::new(Kind::UnsupportedModel, "the model has sparse weights; store them dense"));
    }

    let mut known = HashSet::new();
    for weight in &graph.initializer {
        if weight.name.is_empty() || !known.insert(weight.name.as_str()) {
            return Err(invalid(format!("the weight {:?} is there twice or has no name", weight.name)));
        }
        check_tensor(weight, &weight.name)?;
    }
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !inputs.insert(input.name.as_str()) {
            return Err(invalid(format!("the input {:?} is there twice or has no name", input.name)));
        }
        known.insert(&input.name);
    }
    for node in &graph.node {
        check_node(node, &mut known, operators)?;
    }
    for output in &graph.output {
        if !known.contains(output.name.as_str()) {
            return Err(invalid(format!("nothing computes the output {:?}", output.name)));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidModel, message)
}

fn is_onnx_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Checks one node and adds what it computes to `known`. Nodes stand in the order they run in, so what they read
/// must be there already; that also rules cycles out.
fn check_node<'p>(node: &'p pb::NodeProto, known: &mut HashSet<&'p str>, operators: &OnnxOpRegister) -> Result<()> {
    let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    if !is_onnx_domain(&node.domain) || !operators.0.contains_key(&node.op_type) {
        let domain = if is_onnx_domain(&node.domain) { String::new() } else { format!("{}.", node.domain) };
        let message =
            format!("the node {name:?} needs the operator {domain}{}, which is not supported", node.op_type);
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
            Some(tensor) => check_tensor(tensor, &what()),
            None => Err(invalid(format!("the {} has no value", what()))),
        },
        Ok(AttributeType::Graph | AttributeType::Graphs) => {
            // Loops could run for ever, and branches give shapes that depend on the picture.
            let message = format!("the {} is a graph of its own; control flow is not supported", what());
            Err(Error::new(Kind::UnsupportedModel, message))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("the {} has the unknown type {}", what(), attribute.r#type))),
    }
}

/// Checks that a stored tensor holds as many values as its dimensions say.
fn check_tensor(tensor: &pb::TensorProto, name: &str) -> Result<()> {
    let values = tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
        .filter(|&values| values <= MAX_TENSOR_VALUES);
    let Some(values) = values else {
        return Err(invalid(format!("the tensor {name:?} has impossible dimensions {:?}", tensor.dims)));
    };
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        let message = format!("the tensor {name:?} is stored in another file; weights must be inside the model");
        return Err(Error::new(Kind::UnsupportedModel, message));
    }
    let kind = DataType::try_from(tensor.data_type)
        .map_err(|_| invalid(format!("the tensor {name:?} has the unknown type {}", tensor.data_type)))?;
    let (bytes_a_value, listed) = match kind {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 | DataType::Uint64 => (8, tensor.int64_data.len().max(tensor.uint64_data.len())),
        DataType::Int32 | DataType::Uint32 => (4, tensor.int32_data.len().max(tensor.uint64_data.len())),
        DataType::Float16 | DataType::Int16 | DataType::Uint16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        other => {
            let message = format!("the tensor {name:?} holds {other:?} values, which are not supported");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
    };
    let expected = values * bytes_a_value;
    if tensor.raw_data.is_empty() {
        if listed != values {
            return Err(invalid(format!(
                "the tensor {name:?} has {listed} values; its dimensions {:?} need {values}",
                tensor.dims
            )));
        }
    } else if tensor.raw_data.len() != expected {
        return Err(invalid(format!(
            "the tensor {name:?} has {} bytes; its dimensions {:?} need {expected}",
            tensor.raw_data.len(),
            tensor.dims
        )));
    }
    Ok(())
}
