//! From a checked file to a plan: the input's shape is settled, shapes are inferred, the graph simplified.

use std::sync::Arc;

use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::prelude::{DatumType, IntoRunnable, TractError, TypedModel, TypedRunnableModel};

use super::InputSize;
use crate::error::{Error, Kind, Result};

/// The longest side of a network's input, px: ten times what small detectors use, and small enough for memory.
pub(super) const MAX_INPUT_SIDE_PX: u32 = 4096;

/// Gives the one input of the graph its full shape, `[1, 3, H, W]`: from `asked`, else from the graph, else from
/// `imgsz`. Shapes that the file states for inner and output tensors are forgotten, since they may belong to
/// another input size; they are inferred anew.
pub(super) fn fix_input(
    proto: &mut pb::ModelProto,
    asked: Option<InputSize>,
    imgsz: Option<InputSize>,
) -> Result<InputSize> {
    let unsupported = |message: String| Err(Error::new(Kind::UnsupportedModel, message));
    let Some(graph) = proto.graph.as_mut() else { return unsupported("the model has no graph".to_owned()) };
    graph.value_info.clear();
    // What follows the first output (segmentation masks, raw heads) is not ours.
    graph.output.truncate(1);

    let pb::GraphProto { input, initializer, .. } = graph;
    // Old files list their weights among the inputs.
    let mut inputs: Vec<_> = input.iter_mut().filter(|i| initializer.iter().all(|w| w.name != i.name)).collect();
    let input = match &mut inputs[..] {
        [input] => input,
        several => {
            let names: Vec<_> = several.iter().map(|input| input.name.as_str()).collect();
            return unsupported(format!(
                "the model has {} inputs {names:?}; a detector has one, the image",
                names.len()
            ));
        }
    };
    let name = &input.name;
    let Some(Type::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        return unsupported(format!("the input {name:?} is no tensor"));
    };
    if tensor.elem_type != pb::tensor_proto::DataType::Float as i32 {
        let found = pb::tensor_proto::DataType::try_from(tensor.elem_type)
            .map_or_else(|_| format!("type {}", tensor.elem_type), |t| format!("{t:?}").to_lowercase());
        return unsupported(format!("the input {name:?} is {found}; expected float32 in 0 to 1"));
    }
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match &dim.value {
        Some(Dim::DimValue(value)) => Some(*value),
        _ => None,
    });
    let dims: Vec<Option<i64>> = dims.collect();
    let shown = dims.iter().map(|dim| dim.map_or("?".to_owned(), |value| value.to_string())).collect::<Vec<_>>();
    let shown = format!("[{}]", shown.join(", "));
    let &[batch, channels, height, width] = &dims[..] else {
        return unsupported(format!("the input {name:?} is {shown}; expected [1, 3, H, W]"));
    };
    if batch.is_some_and(|batch| batch != 1) || channels.is_some_and(|channels| channels != 3) {
        return unsupported(format!("the input {name:?} is {shown}; expected [1, 3, H, W]"));
    }
    let side = |value: Option<i64>, declared: Option<u32>| match value {
        Some(value) => u32::try_from(value).ok().filter(|side| (1..=MAX_INPUT_SIDE_PX).contains(side)),
        None => declared.filter(|side| (1..=MAX_INPUT_SIDE_PX).contains(side)),
    };
    let size = match asked {
        Some(size) => size,
        None => match (side(width, imgsz.map(|s| s.width)), side(height, imgsz.map(|s| s.height))) {
            (Some(width), Some(height)) => InputSize { width, height },
            _ => {
                return unsupported(format!(
                    "the input {name:?} is {shown}, and sides must be from 1 to {MAX_INPUT_SIDE_PX} px; where the file leaves them open, give an input size"
                ));
            }
        },
    };
    let dims = [1, 3, i64::from(size.height), i64::from(size.width)];
    tensor.shape = Some(pb::TensorShapeProto {
        dim: dims.map(|dim| Dimension { value: Some(Dim::DimValue(dim)), ..Default::default() }).into(),
    });
    Ok(size)
}

/// The shape of the first output, which must be `f32` and known in full.
pub(super) fn output_shape(model: &TypedModel) -> Result<Vec<usize>> {
    let fact = model.output_fact(0).map_err(|error| failed("the network has no output", error))?;
    let Some(shape) = fact.shape.as_concrete() else {
        let message = format!(
            "the output is [{}]; its shape must not depend on what is in the image",
            fact.shape.iter().map(|dim| dim.to_string()).collect::<Vec<_>>().join(", ")
        );
        return Err(Error::new(Kind::UnsupportedModel, message));
    };
    if fact.datum_type != DatumType::F32 {
        let message = format!("the output is {:?}; expected float32", fact.datum_type);
        return Err(Error::new(Kind::UnsupportedModel, message));
    }
    Ok(shape.to_vec())
}

/// Simplifies the graph, chooses operators and fixes their order.
pub(super) fn runnable(model: TypedModel) -> Result<Arc<TypedRunnableModel>> {
    let failed = |error| failed("the network cannot be made ready to run", error);
    let model = model.into_decluttered().map_err(failed)?;
    let model = model.into_optimized().map_err(failed)?;
    model.into_runnable().map_err(failed)
}

fn failed(what: &str, error: TractError) -> Error {
    Error::new(Kind::UnsupportedModel, what).with_source(error.into_boxed_dyn_error())
}
