//! Stored tensors as tract's.

use tract_core::internal::*;

use crate::model::pb::TensorProto;
use crate::model::tensor::{self, Values};

/// Reads a tensor. Half precision becomes `f32` at once.
///
/// # Errors
///
/// What [`tensor::check`] would refuse.
pub(super) fn read(stored: &TensorProto) -> TractResult<Tensor> {
    tensor::check(stored, &stored.name)?;
    let shape = tensor::shape(stored);
    match tensor::values(stored).context("its type is not supported")? {
        Values::F32(values) => Tensor::from_shape(&shape, &values),
        Values::F64(values) => Tensor::from_shape(&shape, &values),
        Values::I64(values) => Tensor::from_shape(&shape, &values),
        Values::I32(values) => Tensor::from_shape(&shape, &values),
        Values::I8(values) => Tensor::from_shape(&shape, &values),
        Values::U8(values) => Tensor::from_shape(&shape, &values),
        Values::Bool(values) => Tensor::from_shape(&shape, &values),
    }
}
