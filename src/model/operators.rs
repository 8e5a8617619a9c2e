//! The operators a model may use.

use tract_onnx::Onnx;

/// tract's ONNX reader with the operators that detectors need.
pub(super) fn onnx() -> Onnx {
    tract_onnx::onnx().with_ignore_value_info(true)
}
