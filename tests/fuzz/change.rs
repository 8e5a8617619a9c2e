//! Changes to a model: each leaves a file that is ONNX, and perhaps nonsense.

use proptest::prelude::*;
use tract_onnx::pb;

use crate::common;

/// One change to a graph. Numbers are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
pub enum Change {
    Operator { node: usize, like: usize },
    DropAttribute { node: usize, attribute: usize },
    SetInt { node: usize, attribute: usize, value: i64 },
    SetInts { node: usize, attribute: usize, values: Vec<i64> },
    SetFloat { node: usize, attribute: usize, value: f32 },
    DropInput { node: usize, input: usize },
    Rewire { node: usize, input: usize, from: usize },
    DropNode { node: usize },
    WeightDims { weight: usize, dims: Vec<i64> },
    WeightData { weight: usize, values: Vec<i64> },
    Output { node: usize },
    InputDims { dims: Vec<i64> },
    Metadata { property: usize, text: String },
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3i64..8,
        1 => -200i64..5000,
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 20, 1 << 32, 1 << 40, -(1 << 40)]),
    ]
}

pub fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    let ints = || prop::collection::vec(number(), 0..6);
    prop_oneof![
        (at(), at()).prop_map(|(node, like)| Change::Operator { node, like }),
        (at(), at()).prop_map(|(node, attribute)| Change::DropAttribute { node, attribute }),
        (at(), at(), number()).prop_map(|(node, attribute, value)| Change::SetInt { node, attribute, value }),
        (at(), at(), ints()).prop_map(|(node, attribute, values)| Change::SetInts { node, attribute, values }),
        (at(), at(), any::<f32>()).prop_map(|(node, attribute, value)| Change::SetFloat { node, attribute, value }),
        (at(), at()).prop_map(|(node, input)| Change::DropInput { node, input }),
        (at(), at(), at()).prop_map(|(node, input, from)| Change::Rewire { node, input, from }),
        at().prop_map(|node| Change::DropNode { node }),
        (at(), ints()).prop_map(|(weight, dims)| Change::WeightDims { weight, dims }),
        (at(), ints()).prop_map(|(weight, values)| Change::WeightData { weight, values }),
        at().prop_map(|node| Change::Output { node }),
        ints().prop_map(|dims| Change::InputDims { dims }),
        (at(), text()).prop_map(|(property, text)| Change::Metadata { property, text }),
    ]
}

/// What a property of a model may say: `names` is JSON or a Python literal, the others are numbers and words.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "{",
            "{}",
            "[]",
            "{0: 'a'}",
            "{0: 'a', 1: \"b\"}",
            "{\"0\": \"a\"}",
            "['a', 'b']",
            "{4294967295: 'a'}",
            "{-1: 'a'}",
            "{0: 'a', 0: 'b'}",
            "{0: '\\u12'}",
            "{0: '\\x'}",
            "{0: 'a\\",
            "((((((((",
            "[640, 640]",
            "[0, 0]",
            "[-32, 1e9]",
            "detect",
            "segment",
            "NaN",
            "99999999999999999999",
        ])
        .prop_map(str::to_owned),
        "[\\[\\]{}(),:'\"\\\\ux0-9a-f \\-]{0,40}",
        "\\PC{0,12}",
    ]
}

pub fn apply(model: &mut pb::ModelProto, change: &Change) {
    let Some(graph) = model.graph.as_mut() else { return };
    if graph.node.is_empty() || graph.initializer.is_empty() {
        return;
    }
    let nodes = graph.node.len();
    let attribute =
        |graph: &mut pb::GraphProto, node: usize, index: usize, edit: &dyn Fn(&mut pb::AttributeProto)| {
            let attributes = &mut graph.node[node % nodes].attribute;
            let count = attributes.len().max(1);
            if let Some(attribute) = attributes.get_mut(index % count) {
                edit(attribute);
            }
        };
    match change {
        Change::Operator { node, like } => {
            graph.node[node % nodes].op_type = graph.node[like % nodes].op_type.clone()
        }
        Change::DropAttribute { node, attribute } => {
            let attributes = &mut graph.node[node % nodes].attribute;
            if !attributes.is_empty() {
                attributes.remove(attribute % attributes.len());
            }
        }
        Change::SetInt { node, attribute: index, value } => attribute(graph, *node, *index, &|a| a.i = *value),
        Change::SetInts { node, attribute: index, values } => {
            attribute(graph, *node, *index, &|a| a.ints.clone_from(values));
        }
        Change::SetFloat { node, attribute: index, value } => attribute(graph, *node, *index, &|a| a.f = *value),
        Change::DropInput { node, input } => {
            let inputs = &mut graph.node[node % nodes].input;
            if !inputs.is_empty() {
                inputs.remove(input % inputs.len());
            }
        }
        Change::Rewire { node, input, from } => {
            // From an earlier node, or from a weight.
            let node = node % nodes;
            let sources = node + graph.initializer.len();
            let from = from % sources.max(1);
            let name = match graph.node[..node].get(from) {
                Some(earlier) => earlier.output[0].clone(),
                None => graph.initializer[(from - node) % graph.initializer.len()].name.clone(),
            };
            let inputs = &mut graph.node[node].input;
            let count = inputs.len().max(1);
            if let Some(input) = inputs.get_mut(input % count) {
                *input = name;
            }
        }
        Change::DropNode { node } => {
            // What read it reads its input now.
            let gone = graph.node.remove(node % nodes);
            if let (Some(from), Some(to)) = (gone.input.first(), gone.output.first()) {
                for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
                    if input == to {
                        input.clone_from(from);
                    }
                }
            }
        }
        Change::WeightDims { weight, dims } => {
            // With data to match where that is possible, so that the change gets past the first check.
            let mut constants: Vec<&mut pb::TensorProto> = tensors(graph);
            let count = constants.len();
            let tensor = &mut *constants[weight % count];
            let volume: Option<i64> = dims.iter().try_fold(1i64, |a, &b| a.checked_mul(b));
            if let Some(volume) = volume.filter(|volume| (0..1 << 16).contains(volume)) {
                let size = if tensor.data_type == pb::tensor_proto::DataType::Int64 as i32 { 8 } else { 4 };
                tensor.raw_data.resize(volume as usize * size, 0);
            }
            tensor.dims.clone_from(dims);
        }
        Change::WeightData { weight, values } => {
            // The whole numbers are shapes, axes and the like.
            let mut constants: Vec<&mut pb::TensorProto> = tensors(graph)
                .into_iter()
                .filter(|tensor| tensor.data_type == pb::tensor_proto::DataType::Int64 as i32)
                .collect();
            let count = constants.len();
            if count > 0 {
                let tensor = &mut *constants[weight % count];
                for (bytes, value) in tensor.raw_data.chunks_exact_mut(8).zip(values) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        Change::Output { node } => {
            let name = graph.node[node % nodes].output.first().cloned();
            if let (Some(output), Some(name)) = (graph.output.first_mut(), name) {
                output.name = name;
            }
        }
        Change::InputDims { dims: sizes } => {
            if let Some(input) = graph.input.first_mut() {
                *common::dims(input) = sizes.iter().map(|&size| common::dim(size)).collect();
            }
        }
        Change::Metadata { property, text } => {
            const KEYS: [&str; 4] = ["names", "stride", "imgsz", "task"];
            let key = KEYS[property % KEYS.len()];
            model.metadata_props.retain(|entry| entry.key != key);
            model.metadata_props.push(pb::StringStringEntryProto { key: key.to_owned(), value: text.clone() });
        }
    }
}

/// Weights, and the values of Constant nodes.
fn tensors(graph: &mut pb::GraphProto) -> Vec<&mut pb::TensorProto> {
    let constants = graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|a| a.t.as_mut());
    graph.initializer.iter_mut().chain(constants).collect()
}
