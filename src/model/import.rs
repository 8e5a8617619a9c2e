//! ONNX graph → tract graph, node by node.
//!
//! tract's own ONNX reader brings every operator of the standard and a solver that infers shapes in any direction:
//! two thirds of the WebAssembly file, and in parts trusting. A detector has some sixty operators, and the shape of
//! its input is settled before the first node is read, so that every shape after it follows. This reader therefore
//! goes through the nodes once, checks each against the shapes it gets ([`Node`]), folds what is constant at once,
//! and puts tract's operators in place of ONNX's. What an operator means is in [`operators`].

mod node;
mod operators;
mod tensor;

use std::collections::HashMap;

use crate::model::pb;
use tract_core::internal::*;

use super::InputSize;
use crate::error::{Error, Kind, Result};
use node::Node;
pub(super) use operators::is_known;

/// What a tensor between two layers may take at most, in bytes. The largest layer of the largest YOLO at 1280 px has
/// half of it; a file that asks for more is damaged or hostile.
const MAX_TENSOR_BYTES: usize = 256 << 20;

/// Reads a graph that [`validate`](super::validate) has looked over, with the one input settled to `input`.
///
/// # Errors
///
/// `unsupported-model`, naming the node and the shapes it was given.
pub(super) fn import(proto: &pb::ModelProto, input: InputSize) -> Result<TypedModel> {
    let shape = [1, 3, input.height as usize, input.width as usize];
    read(proto, &|_| f32::fact(shape))
}

/// As [`import`]; `source` says what an input of the graph is.
fn read(proto: &pb::ModelProto, source: &dyn Fn(&pb::ValueInfoProto) -> TypedFact) -> Result<TypedModel> {
    let mut model = TypedModel::default();
    let failed = |what: &str, error: TractError| {
        Error::new(Kind::UnsupportedModel, what).with_source(error.into_boxed_dyn_error())
    };
    let Some(graph) = &proto.graph else {
        return Err(Error::new(Kind::InvalidModel, "the model has no graph"));
    };
    let opset = super::validate::opset(proto).unwrap_or(0);

    let mut outlets: HashMap<&str, OutletId> = HashMap::new();
    for weight in &graph.initializer {
        let named = |error| failed(&format!("the weight {:?} cannot be read", weight.name), error);
        let tensor = tensor::read(weight).map_err(named)?;
        let outlet = model.add_const(&weight.name, tensor).map_err(named)?;
        outlets.insert(&weight.name, outlet);
    }
    for input in &graph.input {
        // Old files list their weights among the inputs.
        if !outlets.contains_key(input.name.as_str()) {
            let outlet = model.add_source(&input.name, source(input));
            outlets.insert(&input.name, outlet.map_err(|error| failed("the input cannot be made", error))?);
        }
    }
    let mut ranked = node::Ranked::new();
    for proto in &graph.node {
        let mut node = Node::new(proto, opset, &outlets, &mut model, &mut ranked);
        match operators::wire(&mut node) {
            Ok(wired) => {
                for (name, outlet) in proto.output.iter().zip(wired).filter(|(name, _)| !name.is_empty()) {
                    outlets.insert(name, outlet);
                }
            }
            Err(error) => {
                let message =
                    format!("the node {} does not fit its inputs {}", node.describe(), node.input_shapes());
                return Err(failed(&message, error));
            }
        }
    }
    let outputs = graph.output.iter().filter_map(|output| outlets.get(output.name.as_str()).copied());
    let outputs: Vec<OutletId> = outputs.collect();
    if outputs.is_empty() {
        return Err(Error::new(Kind::InvalidModel, "nothing computes the output"));
    }
    model.select_output_outlets(&outputs).map_err(|error| failed("the output cannot be selected", error))?;
    Ok(model)
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests;
