//! Half precision → single precision.
//!
//! The kernels compute in single precision. So a `float16` network is converted to the same network in `float32`. Its
//! results differ only because intermediate results are not rounded to half precision.

use super::messages::{AttributeProto, AttributeType, DataType, GraphProto, TensorProto, ValueInfoProto};
use super::tensor::{self, Values};
use crate::error::Result;
use crate::limits::{Budget, product};

const HALF: i32 = DataType::Float16 as i32;
const SINGLE: i32 = DataType::Float as i32;

/// Converts everything of type `float16` in a checked graph to `float32`.
///
/// # Errors
///
/// `model-too-large` if the converted values exceed the memory limit.
pub(super) fn widen(graph: &mut GraphProto, budget: &mut Budget<'_>) -> Result<()> {
    for weight in &mut graph.initializer {
        widen_tensor(weight, budget)?;
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if let Some(tensor) = &mut attribute.t {
            widen_tensor(tensor, budget)?;
        }
        if names_half(attribute) {
            attribute.i = SINGLE.into();
        }
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        widen_type(value);
    }
    Ok(())
}

fn widen_tensor(tensor: &mut TensorProto, budget: &mut Budget<'_>) -> Result<()> {
    if tensor.data_type != HALF {
        return Ok(());
    }
    budget.take(product(&tensor::shape(tensor)).saturating_mul(4), &tensor.name)?;
    if let Some(Values::F32(values)) = tensor::values(tensor) {
        tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor.int32_data = Vec::new();
        tensor.data_type = SINGLE;
    }
    Ok(())
}

/// Whether the attribute sets the result type of a node to half precision, as in Cast, EyeLike and the Random
/// operators.
fn names_half(attribute: &AttributeProto) -> bool {
    let is_type = matches!(attribute.name.as_str(), "to" | "dtype");
    is_type && attribute.r#type == AttributeType::Int as i32 && attribute.i == i64::from(HALF)
}

fn widen_type(value: &mut ValueInfoProto) {
    let tensor = value.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut());
    if let Some(tensor) = tensor.filter(|tensor| tensor.elem_type == HALF) {
        tensor.elem_type = SINGLE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::onnx::messages::{NodeProto, TensorType, TypeProto};

    #[test]
    fn tensors_types_and_casts_become_single() {
        // 1, -2 and a third, in both ways of storing them.
        let listed = TensorProto {
            dims: vec![3],
            data_type: HALF,
            int32_data: vec![0x3c00, 0xc000, 0x3555],
            ..Default::default()
        };
        let raw_data = vec![0x00, 0x3c, 0x00, 0xc0, 0x55, 0x35];
        let raw = TensorProto { dims: vec![3], data_type: HALF, raw_data, ..Default::default() };
        let int = |name: &str, i: i64| AttributeProto {
            name: name.into(),
            i,
            r#type: AttributeType::Int as i32,
            ..Default::default()
        };
        let value = AttributeProto { name: "value".into(), t: Some(raw.clone()), ..Default::default() };
        let attribute = vec![int("to", 10), int("axis", 10), int("dtype", 1), value];
        let tensor_type = Some(TensorType { elem_type: HALF, shape: None });
        let input = ValueInfoProto { name: "x".into(), r#type: Some(TypeProto { tensor_type }) };
        let mut graph = GraphProto {
            initializer: vec![listed, raw],
            node: vec![NodeProto { attribute, ..Default::default() }],
            input: vec![input.clone()],
            output: vec![input, ValueInfoProto::default()],
            ..Default::default()
        };
        let limits = Limits { memory_bytes: 36, ..Limits::default() };
        widen(&mut graph, &mut Budget::new(&limits)).unwrap();
        let attributes = &graph.node[0].attribute;
        for tensor in graph.initializer.iter().chain(&attributes[3].t) {
            tensor::check(tensor, "wide").unwrap();
            let Some(Values::F32(values)) = tensor::values(tensor) else { panic!("{tensor:?}") };
            assert_eq!(values, [1.0, -2.0, 0.333_251_95]);
        }
        assert_eq!(attributes[..3].iter().map(|attribute| attribute.i).collect::<Vec<_>>(), [1, 10, 1]);
        let types = graph
            .input
            .iter()
            .chain(&graph.output[..1])
            .map(|value| value.r#type.clone().unwrap().tensor_type.unwrap().elem_type);
        assert_eq!(types.collect::<Vec<_>>(), [SINGLE; 2]);

        graph.initializer[0].data_type = HALF;
        graph.initializer[0].raw_data = vec![0; 6];
        assert_eq!(
            widen(&mut graph, &mut Budget::new(&Limits { memory_bytes: 11, ..limits })).unwrap_err().code(),
            "model-too-large"
        );
    }
}
