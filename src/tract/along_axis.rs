//! Operators along an axis that is not the last. tract computes these one value at a time, each through a view of the
//! whole tensor. In heads with distance distributions (NanoDet-Plus, YOLOv8), that takes most of the head's time.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use crate::engine::{self, Isa};

/// The outputs of a softmax of floats along an axis that is not the last; `None` for any other node.
///
/// # Errors
///
/// Those of tract.
pub(super) fn eval(isa: Isa, node: &TypedNode, inputs: &TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
    let (Some(op), [input]) = (node.op_as::<Softmax>(), &inputs[..]) else { return Ok(None) };
    let [axis] = op.axes[..] else { return Ok(None) };
    let is_plain = op.kind == SoftmaxKind::Softmax && input.datum_type() == f32::datum_type();
    let Some((&length, behind)) = input.shape().get(axis..).and_then(<[usize]>::split_first) else {
        return Ok(None);
    };
    let inner: usize = behind.iter().product();
    if !is_plain || inner < 2 || length == 0 || input.strides() != &*Tensor::natural_strides(input.shape()) {
        return Ok(None);
    }
    let mut output = input.clone().into_tensor();
    engine::softmax(isa, output.try_as_plain_ram_mut()?.as_slice_mut()?, length, inner);
    Ok(Some(tvec!(output.into_tvalue())))
}
