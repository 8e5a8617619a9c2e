//! Models made node by node.

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use super::dim;

/// A stored list of whole numbers.
pub fn ints(name: &str, values: &[i64]) -> pb::TensorProto {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims = vec![values.len() as i64];
    pb::TensorProto { name: name.into(), data_type: DataType::Int64 as i32, dims, raw_data, ..Default::default() }
}

/// A stored tensor that has one value everywhere.
pub fn floats(name: &str, dims: &[i64], value: f32) -> pb::TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    let raw_data = std::iter::repeat_n(value.to_le_bytes(), count).flatten().collect();
    let data_type = DataType::Float as i32;
    pb::TensorProto { name: name.into(), data_type, dims: dims.to_vec(), raw_data, ..Default::default() }
}

pub fn int_attribute(name: &str, i: i64) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.into(), i, r#type, ..Default::default() }
}

pub fn ints_attribute(name: &str, ints: &[i64]) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), ints: ints.to_vec(), r#type, ..Default::default() }
}

/// A node of one output.
pub fn node(operator: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    pb::NodeProto {
        op_type: operator.to_owned(),
        input: owned(inputs),
        output: owned(&[output]),
        ..Default::default()
    }
}

/// The node with attributes.
pub fn with(mut node: pb::NodeProto, attributes: &[pb::AttributeProto]) -> pb::NodeProto {
    node.attribute.extend_from_slice(attributes);
    node
}

/// A model of pictures of `side` x `side` px, whose answer is `[1, 5, n]` of the tensor `last`.
pub fn model(side: i64, mut nodes: Vec<pb::NodeProto>, mut weights: Vec<pb::TensorProto>) -> Vec<u8> {
    let value = |name: &str, dims: &[i64]| {
        let shape = Some(pb::TensorShapeProto { dim: dims.iter().map(|side| dim(*side)).collect() });
        let tensor = pb::type_proto::Tensor { elem_type: DataType::Float as i32, shape };
        let value = Some(pb::type_proto::Value::TensorType(tensor));
        pb::ValueInfoProto {
            name: name.into(),
            r#type: Some(pb::TypeProto { value, ..Default::default() }),
            ..Default::default()
        }
    };
    nodes.push(node("Reshape", &["last", "answer shape"], "answer"));
    weights.push(ints("answer shape", &[1, 5, -1]));
    let mut graph = pb::GraphProto {
        node: nodes,
        initializer: weights,
        input: vec![value("x", &[1, 3, side, side])],
        output: vec![value("answer", &[])],
        ..Default::default()
    };
    graph.output[0].r#type = None;
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
    pb::ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Default::default() }
        .encode_to_vec()
}
