//! Checks stored tensors, and reads them as plain values.

use half::f16;

use super::messages::{DataType, EXTERNAL, TensorProto};
use crate::error::{Error, Kind, Result};

/// The most values of one stored tensor. The largest layer of a large detector has some ten million.
const MAX_VALUES: usize = 1 << 28;

/// Checks that a stored tensor has as many values as its dimensions say, and a type that can be read.
pub(super) fn check(tensor: &TensorProto, name: &str) -> Result<()> {
    let invalid = |message: String| Err(Error::new(Kind::InvalidModel, message));
    let Some(values) = volume(tensor) else {
        return invalid(format!("the tensor {name:?} has impossible dimensions {:?}", tensor.dims));
    };
    if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
        let message = format!(
            "the tensor {name:?} is stored in another file; save the model with its weights inside (onnx.save)"
        );
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

/// The number of values that the dimensions imply; `None` on overflow. A dimension of 0 does not hide an overflow of
/// the others, because strides are products of these.
fn volume(tensor: &TensorProto) -> Option<usize> {
    let sides = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<usize>>>()?;
    let largest = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side.max(1)))?;
    (largest <= MAX_VALUES).then(|| sides.iter().product())
}

/// The dimensions of a tensor that [`check`] has passed.
pub(crate) fn shape(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&dim| dim as usize).collect()
}

/// The values of a stored tensor. Half precision is converted to `f32`; files use it only to be small.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Reads a tensor that [`check`] has accepted; `None` for a type that it refuses.
pub(crate) fn values(tensor: &TensorProto) -> Option<Values> {
    let raw = &tensor.raw_data;
    let is_raw = !raw.is_empty();
    let list = &tensor.int32_data;
    Some(match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float if is_raw => Values::F32(from_bytes(raw, f32::from_le_bytes)),
        DataType::Float => Values::F32(tensor.float_data.clone()),
        DataType::Double if is_raw => Values::F64(from_bytes(raw, f64::from_le_bytes)),
        DataType::Double => Values::F64(tensor.double_data.clone()),
        DataType::Int64 if is_raw => Values::I64(from_bytes(raw, i64::from_le_bytes)),
        DataType::Int64 => Values::I64(tensor.int64_data.clone()),
        DataType::Int32 if is_raw => Values::I32(from_bytes(raw, i32::from_le_bytes)),
        DataType::Int32 => Values::I32(list.clone()),
        DataType::Float16 if is_raw => Values::F32(from_bytes(raw, |bytes| f16::from_le_bytes(bytes).to_f32())),
        DataType::Float16 => Values::F32(from_list(list, |bits| f16::from_bits(bits as u16).to_f32())),
        DataType::Int8 if is_raw => Values::I8(from_bytes(raw, i8::from_le_bytes)),
        DataType::Int8 => Values::I8(from_list(list, |value| value as i8)),
        DataType::Uint8 if is_raw => Values::U8(raw.clone()),
        DataType::Uint8 => Values::U8(from_list(list, |value| value as u8)),
        DataType::Bool if is_raw => Values::Bool(from_bytes(raw, |[byte]: [u8; 1]| byte != 0)),
        DataType::Bool => Values::Bool(from_list(list, |value| value != 0)),
        _ => return None,
    })
}

fn from_bytes<T, const SIZE: usize>(bytes: &[u8], value: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    chunks.iter().map(|&bytes| value(bytes)).collect()
}

fn from_list<T>(list: &[i32], value: impl Fn(i32) -> T) -> Vec<T> {
    list.iter().map(|&item| value(item)).collect()
}
