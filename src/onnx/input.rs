//! The size of a network's input.

use super::messages as pb;
use crate::error::{Error, Kind, Result};
use crate::size::InputSize;

/// The longest side of a network's input, px: ten times what small detectors use, and small enough for memory.
pub(crate) const MAX_INPUT_SIDE_PX: u32 = 4096;

/// The size of the one input of the graph, `[1, 3, H, W]`: from `asked`, else from the graph, else from `imgsz`.
pub(crate) fn size(
    graph: &pb::GraphProto,
    asked: Option<InputSize>,
    imgsz: Option<InputSize>,
) -> Result<InputSize> {
    let unsupported = |message: String| Err(Error::new(Kind::UnsupportedModel, message));
    // Old files list their weights among the inputs.
    let is_weight = |name: &str| graph.initializer.iter().any(|weight| weight.name == name);
    let inputs: Vec<_> = graph.input.iter().filter(|input| !is_weight(&input.name)).collect();
    let [input] = inputs[..] else {
        let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
        let message = format!("the model has {} inputs {names:?}; a detector has one, the image", names.len());
        return unsupported(message);
    };
    let name = &input.name;
    let Some(tensor) = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return unsupported(format!("the input {name:?} is no tensor"));
    };
    // With tract it has become float32.
    #[cfg(not(feature = "tract"))]
    if tensor.elem_type == pb::DataType::Float16 as i32 {
        let message = format!("the input {name:?} is float16, which this build does not read");
        return Err(Error::new(Kind::NeedsTract, message));
    }
    if tensor.elem_type != pb::DataType::Float as i32 {
        let found = pb::DataType::try_from(tensor.elem_type)
            .map_or_else(|_| format!("type {}", tensor.elem_type), |kind| format!("{kind:?}").to_lowercase());
        return unsupported(format!("the input {name:?} is {found}; expected float32 or float16, in 0 to 1"));
    }
    let dims: Vec<Option<i64>> =
        tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.dim_value).collect();
    let shown = dims.iter().map(|dim| dim.map_or("?".to_owned(), |value| value.to_string())).collect::<Vec<_>>();
    let shown = format!("[{}]", shown.join(", "));
    let fits = |dim: Option<i64>, wanted: i64| dim.is_none_or(|dim| dim == wanted);
    let &[batch, channels, height, width] = &dims[..] else {
        return unsupported(format!("the input {name:?} is {shown}; expected [1, 3, H, W]"));
    };
    if !fits(batch, 1) || !fits(channels, 3) {
        return unsupported(format!("the input {name:?} is {shown}; expected [1, 3, H, W]"));
    }
    if let Some(size) = asked {
        return Ok(size);
    }
    let side = |stated: Option<i64>, declared: Option<u32>| {
        let side = stated.map_or(declared, |side| u32::try_from(side).ok());
        side.filter(|side| (1..=MAX_INPUT_SIDE_PX).contains(side))
    };
    match (side(width, imgsz.map(|size| size.width)), side(height, imgsz.map(|size| size.height))) {
        (Some(width), Some(height)) => Ok(InputSize { width, height }),
        _ => unsupported(format!(
            "the input {name:?} is {shown}, and sides must be from 1 to {MAX_INPUT_SIDE_PX} px; where the file leaves them open, give an input size"
        )),
    }
}
