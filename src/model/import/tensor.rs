//! Stored tensors: checked, then read.

use crate::model::pb::{DataType, EXTERNAL, TensorProto};
use tract_core::internal::*;

use crate::error::{Error, Kind, Result};

/// The most values one stored tensor may have. The largest layer of a large detector has some ten million.
const MAX_VALUES: usize = 1 << 28;

/// Checks that a stored tensor holds as many values as its dimensions say, of a type that can be read.
pub(in crate::model) fn check(tensor: &TensorProto, name: &str) -> Result<()> {
    let invalid = |message: String| Err(Error::new(Kind::InvalidModel, message));
    let Some(values) = volume(tensor) else {
        return invalid(format!("the tensor {name:?} has impossible dimensions {:?}", tensor.dims));
    };
    if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
        let message = format!("the tensor {name:?} is stored in another file; weights must be inside the model");
        return Err(Error::new(Kind::UnsupportedModel, message));
    }
    let (bytes_a_value, listed) = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => (4, tensor.float_data.len()),
        Ok(DataType::Double) => (8, tensor.double_data.len()),
        Ok(DataType::Int64) => (8, tensor.int64_data.len()),
        Ok(DataType::Int32) => (4, tensor.int32_data.len()),
        Ok(DataType::Float16) => (2, tensor.int32_data.len()),
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => (1, tensor.int32_data.len()),
        Ok(other) => {
            let message = format!("the tensor {name:?} holds {other:?} values, which are not supported");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
        Err(_) => return invalid(format!("the tensor {name:?} has the unknown type {}", tensor.data_type)),
    };
    let dims = &tensor.dims;
    if tensor.raw_data.is_empty() {
        if listed != values {
            return invalid(format!(
                "the tensor {name:?} has {listed} values; its dimensions {dims:?} need {values}"
            ));
        }
    } else if tensor.raw_data.len() != values * bytes_a_value {
        let (found, expected) = (tensor.raw_data.len(), values * bytes_a_value);
        return invalid(format!("the tensor {name:?} has {found} bytes; its dimensions {dims:?} need {expected}"));
    }
    Ok(())
}

/// How many values the dimensions make; `None` beyond measure. A side of 0 does not excuse the others: strides are
/// products of them all the same.
fn volume(tensor: &TensorProto) -> Option<usize> {
    let sides = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<usize>>>()?;
    let largest = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side.max(1)))?;
    (largest <= MAX_VALUES).then(|| sides.iter().product())
}

/// Reads a tensor. Half precision becomes `f32` at once: it is there to make files small.
///
/// # Errors
///
/// What [`check`] would refuse.
pub(super) fn read(tensor: &TensorProto) -> TractResult<Tensor> {
    check(tensor, &tensor.name)?;
    let shape: Vec<usize> = tensor.dims.iter().map(|&dim| dim as usize).collect();
    let raw = &tensor.raw_data;
    let is_raw = !raw.is_empty();
    match DataType::try_from(tensor.data_type)? {
        DataType::Float if is_raw => from_bytes(&shape, raw, f32::from_le_bytes),
        DataType::Float => Tensor::from_shape(&shape, &tensor.float_data),
        DataType::Double if is_raw => from_bytes(&shape, raw, f64::from_le_bytes),
        DataType::Double => Tensor::from_shape(&shape, &tensor.double_data),
        DataType::Int64 if is_raw => from_bytes(&shape, raw, i64::from_le_bytes),
        DataType::Int64 => Tensor::from_shape(&shape, &tensor.int64_data),
        DataType::Int32 if is_raw => from_bytes(&shape, raw, i32::from_le_bytes),
        DataType::Int32 => Tensor::from_shape(&shape, &tensor.int32_data),
        DataType::Float16 if is_raw => from_bytes(&shape, raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DataType::Float16 => from_list(&shape, &tensor.int32_data, |bits| f16::from_bits(bits as u16).to_f32()),
        DataType::Int8 if is_raw => from_bytes(&shape, raw, i8::from_le_bytes),
        DataType::Int8 => from_list(&shape, &tensor.int32_data, |value| value as i8),
        DataType::Uint8 if is_raw => from_bytes(&shape, raw, u8::from_le_bytes),
        DataType::Uint8 => from_list(&shape, &tensor.int32_data, |value| value as u8),
        DataType::Bool if is_raw => from_bytes(&shape, raw, |[byte]: [u8; 1]| byte != 0),
        DataType::Bool => from_list(&shape, &tensor.int32_data, |value| value != 0),
        other => bail!("{other:?} values are not supported"),
    }
}

fn from_bytes<T: Datum + Copy, const SIZE: usize>(
    shape: &[usize],
    bytes: &[u8],
    value: impl Fn([u8; SIZE]) -> T,
) -> TractResult<Tensor> {
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    Tensor::from_shape(shape, &chunks.iter().map(|&bytes| value(bytes)).collect::<Vec<T>>())
}

fn from_list<T: Datum + Copy>(shape: &[usize], list: &[i32], value: impl Fn(i32) -> T) -> TractResult<Tensor> {
    Tensor::from_shape(shape, &list.iter().map(|&item| value(item)).collect::<Vec<T>>())
}
