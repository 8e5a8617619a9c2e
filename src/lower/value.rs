//! What is known about a tensor before the network runs.

use std::collections::HashMap;

use crate::engine::net::{Int8, Kind, Shape};
use crate::onnx::messages::{DataType, TensorProto};
use crate::onnx::tensor::{self, Values as Stored};

/// What is known about each tensor, by name.
pub(crate) type Values<'a> = HashMap<&'a str, Value<'a>>;

pub(crate) enum Value<'a> {
    /// `[1, channels, height, width]`, with other values for each picture.
    Image(Shape, Kind),
    /// A constant of the file. It was checked with the file.
    Stored(&'a TensorProto),
    Floats(Array<f32>),
    #[cfg_attr(not(feature = "tract"), expect(dead_code))]
    Ints(Array<i64>),
    /// int8 weights with zero points of 0, and their shape.
    Quantised(Vec<usize>, Int8),
    /// A tensor that the engine cannot use, with its shape if that does not depend on the content of the picture.
    Other(Option<Vec<usize>>),
}

/// Constants, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array<T> {
    pub shape: Vec<usize>,
    pub values: Vec<T>,
}

impl Value<'_> {
    pub fn shape(&self) -> Option<Vec<usize>> {
        Some(match self {
            Value::Image(Shape { height, width, channels }, _) => vec![1, *channels, *height, *width],
            Value::Stored(stored) => tensor::shape(stored),
            Value::Floats(array) => array.shape.clone(),
            Value::Ints(array) => array.shape.clone(),
            Value::Quantised(shape, _) => shape.clone(),
            Value::Other(shape) => return shape.clone(),
        })
    }

    /// Bytes of a constant that the file does not contain.
    pub fn own_bytes(&self) -> u64 {
        let bytes = match self {
            Value::Floats(array) => 4 * array.values.len(),
            Value::Ints(array) => 8 * array.values.len(),
            Value::Quantised(_, int8) => int8.weights.len(),
            Value::Image(..) | Value::Stored(_) | Value::Other(_) => 0,
        };
        bytes as u64
    }

    /// The stored values of a constant of the file.
    pub fn stored(&self) -> Option<Stored> {
        match self {
            Value::Stored(stored) => tensor::values(stored),
            _ => None,
        }
    }

    /// A constant of `float32`.
    pub fn floats(&self) -> Option<Array<f32>> {
        match self {
            Value::Stored(stored) if stored.data_type == DataType::Float as i32 => self.half_or_floats(),
            Value::Floats(array) => Some(array.clone()),
            _ => None,
        }
    }

    /// A constant of `float32` or `float16`.
    pub fn half_or_floats(&self) -> Option<Array<f32>> {
        match self {
            Value::Stored(stored) => match tensor::values(stored)? {
                Stored::F32(values) => Some(Array { shape: tensor::shape(stored), values }),
                _ => None,
            },
            Value::Floats(array) => Some(array.clone()),
            _ => None,
        }
    }

    /// A constant of `int64`.
    pub fn ints(&self) -> Option<Array<i64>> {
        match self {
            Value::Stored(stored) => match tensor::values(stored)? {
                Stored::I64(values) => Some(Array { shape: tensor::shape(stored), values }),
                _ => None,
            },
            Value::Ints(array) => Some(array.clone()),
            _ => None,
        }
    }
}
