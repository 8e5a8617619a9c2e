//! Builds ONNX graphs, for the exporter and the quantiser.

use std::collections::HashSet;

use half::f16;
use half::slice::HalfFloatSliceExt;
use prost::Message;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, tensor_proto, type_proto,
};

/// The operator set of all files that this crate writes.
const OPSET: i64 = 17;

/// The file format version that belongs to [`OPSET`].
const IR_VERSION: i64 = 8;

/// A graph under construction. Methods that add an operator return the name of its output. If a name is already in the
/// graph, a number is appended to the new one.
#[derive(Default)]
pub struct GraphBuilder {
    graph: GraphProto,
    counter: usize,
    /// Names in use.
    taken: HashSet<String>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> GraphBuilder {
        GraphBuilder { graph: GraphProto { name: name.into(), ..Default::default() }, ..Default::default() }
    }

    /// Starts with `graph` without its nodes, which are to be written again.
    pub fn without_nodes_of(graph: &GraphProto) -> GraphBuilder {
        let nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output).chain([&node.name]));
        let ends = graph.input.iter().chain(&graph.output).map(|end| &end.name);
        let constants = graph.initializer.iter().map(|tensor| &tensor.name);
        let taken = nodes.chain(ends).chain(constants).cloned().collect();
        let kept = GraphProto { node: Vec::new(), ..graph.clone() };
        GraphBuilder { graph: kept, counter: 0, taken }
    }

    /// `name`, or a similar name if it is in use.
    fn unique(&mut self, name: &str) -> String {
        let name = if self.taken.contains(name) { self.fresh(name) } else { name.to_owned() };
        self.taken.insert(name.clone());
        name
    }

    /// An unused name.
    fn fresh(&mut self, stem: &str) -> String {
        loop {
            self.counter += 1;
            let name = format!("{stem}_{}", self.counter);
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// The finished graph.
    pub fn into_graph(self) -> GraphProto {
        self.graph
    }

    /// Adds a node unchanged.
    pub fn node(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// Declares an f32 input with this shape.
    pub fn input(&mut self, name: &str, shape: &[i64]) {
        self.taken.insert(name.into());
        self.graph.input.push(value_info(name, shape));
    }

    /// Declares an f32 output with this shape.
    pub fn output(&mut self, name: &str, shape: &[i64]) {
        self.graph.output.push(value_info(name, shape));
    }

    /// Adds an operator with one output, named `name` unless that name is in use.
    pub fn op(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.unique(name);
        self.graph.node.push(NodeProto {
            name: name.clone(),
            op_type: op.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.clone()],
            attribute: attributes,
            ..Default::default()
        });
        name
    }

    /// Adds an operator with a generated name.
    pub fn step(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(&op.to_lowercase());
        self.op(op, &name, inputs, attributes)
    }

    /// A constant of 32-bit floats.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, shape, tensor_proto::DataType::Float, bytes)
    }

    /// A constant stored in 16-bit floats, which is converted when the model is loaded. This halves the download.
    pub fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        let bytes = halves.iter().flat_map(|value| value.to_le_bytes()).collect();
        let stored = self.initializer(&format!("{name}.f16"), shape, tensor_proto::DataType::Float16, bytes);
        self.op("Cast", name, &[&stored], vec![int("to", tensor_proto::DataType::Float as i64)])
    }

    /// A constant of 64-bit integers with one axis.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh("ints");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, &[values.len()], tensor_proto::DataType::Int64, bytes)
    }

    /// A scalar 64-bit integer.
    pub fn scalar_int(&mut self, value: i64) -> String {
        let name = self.fresh("int");
        self.initializer(&name, &[], tensor_proto::DataType::Int64, value.to_le_bytes().to_vec())
    }

    /// A scalar 32-bit float.
    pub fn scalar(&mut self, value: f32) -> String {
        let name = self.fresh("float");
        self.floats(&name, &[], &[value])
    }

    /// A constant given by its bytes, little-endian and row-major.
    pub fn initializer(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: tensor_proto::DataType,
        bytes: Vec<u8>,
    ) -> String {
        let name = self.unique(name);
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|&side| side as i64).collect(),
            data_type: kind as i32,
            raw_data: bytes,
            ..Default::default()
        });
        name
    }

    /// The file's bytes.
    pub fn finish(self, metadata: &[(&str, String)]) -> Vec<u8> {
        let entry =
            |(key, value): &(&str, String)| StringStringEntryProto { key: (*key).into(), value: value.clone() };
        let model = ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "micro-yolo".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            metadata_props: metadata.iter().map(entry).collect(),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

/// An integer attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = attribute_proto::AttributeType::Int as i32;
    AttributeProto { name: name.into(), i: value, r#type, ..Default::default() }
}

/// An attribute of integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = attribute_proto::AttributeType::Ints as i32;
    AttributeProto { name: name.into(), ints: values.to_vec(), r#type, ..Default::default() }
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> AttributeProto {
    let r#type = attribute_proto::AttributeType::Float as i32;
    AttributeProto { name: name.into(), f: value, r#type, ..Default::default() }
}

/// A text attribute.
pub fn text(name: &str, value: &str) -> AttributeProto {
    let r#type = attribute_proto::AttributeType::String as i32;
    AttributeProto { name: name.into(), s: value.into(), r#type, ..Default::default() }
}

fn value_info(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dimension = |&side: &i64| Dimension { value: Some(dimension::Value::DimValue(side)), ..Default::default() };
    let tensor = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
    };
    let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_graph_that_it_goes_on_with_are_not_used_again() {
        let mut first = GraphBuilder::new("first");
        let [one, two] = [first.scalar(1.0), first.scalar(2.0)];
        first.op("Clip", "clip_4", &["images", &one, &two], vec![]);
        let mut onnx = GraphBuilder::without_nodes_of(&first.into_graph());
        assert_eq!(onnx.scalar(1.0), "float_3");
        assert_eq!(onnx.step("Clip", &["a"], vec![]), "clip_5");
        assert_eq!(onnx.op("Clip", "images", &["a"], vec![]), "images_6");
        assert_eq!(onnx.floats("new", &[1], &[1.0]), "new");
        assert_eq!(onnx.op("Clip", "new", &["a"], vec![]), "new_7");
    }

    #[test]
    fn no_name_of_a_new_graph_is_used_twice() {
        let mut onnx = GraphBuilder::new("new");
        onnx.input("images", &[1]);
        assert_eq!(onnx.scalar(1.0), "float_1");
        // Layers may be called as generated names are.
        assert_eq!(onnx.op("Add", "float_1", &["images"], vec![]), "float_1_2");
        assert_eq!(onnx.op("Add", "add_3", &["images"], vec![]), "add_3");
        assert_eq!(onnx.step("Add", &["images"], vec![]), "add_4");
        assert_eq!(onnx.op("Relu", "images", &["add_4"], vec![]), "images_5");
    }
}
