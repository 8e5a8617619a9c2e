//! The size of a network's input.

use std::collections::HashSet;

use super::messages as pb;
use crate::error::{Error, Kind, Result};
use crate::size::InputSize;

/// The longest side of a network's input, px: ten times that of small detectors, and still small enough for memory.
pub(crate) const MAX_INPUT_SIDE_PX: u32 = 4096;

/// The size of the graph's only input, `[1, 3, H, W]`: from `asked`, else from the graph, else from the metadata
/// `imgsz`.
pub(crate) fn size(
    graph: &pb::GraphProto,
    asked: Option<InputSize>,
    imgsz: Option<InputSize>,
) -> Result<InputSize> {
    let unsupported = |message: String| Err(Error::new(Kind::UnsupportedModel, message));
    // Old files list their weights as inputs too.
    let weights: HashSet<_> = graph.initializer.iter().map(|weight| weight.name.as_str()).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|input| !weights.contains(input.name.as_str())).collect();
    let [input] = inputs[..] else {
        let names = inputs.iter().take(8).map(|input| format!("{:?}", input.name)).collect::<Vec<_>>().join(", ");
        let more = if inputs.len() > 8 { ", …" } else { "" };
        let message =
            format!("the model has {} inputs [{names}{more}]; a detector has one, the image", inputs.len());
        return unsupported(message);
    };
    let name = &input.name;
    let Some(tensor) = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return unsupported(format!("the input {name:?} is no tensor"));
    };
    // With tract, float16 has already been converted to float32.
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

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn graph(inputs: usize, weights: usize) -> pb::GraphProto {
        let value = |number: usize| pb::ValueInfoProto { name: format!("x{number}"), ..Default::default() };
        let weight = |number: usize| pb::TensorProto { name: format!("w{number}"), ..Default::default() };
        pb::GraphProto {
            input: (0..inputs).map(value).collect(),
            initializer: (0..weights).map(weight).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn of_many_inputs_the_first_are_named() {
        let says = |inputs: usize| size(&graph(inputs, 0), None, None).unwrap_err().to_string();
        assert_eq!(says(0), "the model has 0 inputs []; a detector has one, the image");
        assert_eq!(says(2), "the model has 2 inputs [\"x0\", \"x1\"]; a detector has one, the image");
        let nine = says(9);
        assert!(nine.starts_with("the model has 9 inputs [\"x0\", ") && nine.contains(", \"x7\", …];"), "{nine}");
        assert!(!nine.contains("x8"), "{nine}");
    }

    #[test]
    fn many_inputs_beside_many_weights_are_told_apart_soon() {
        let graph = graph(30_000, 30_000);
        let started = Instant::now();
        let error = size(&graph, None, None).unwrap_err();
        assert!(error.to_string().contains("30000 inputs"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
