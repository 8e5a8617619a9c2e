//! Depthwise convolutions, float and int8: each channel has a window of its own.
//!
//! Vectors run along channels, so neighbouring lanes never meet. For the common square kernels (3, 5, 7 with stride 1 or
//! 2) a few output pixels of a row are worked on together and share what they load; any other kernel goes pixel by pixel
//! through a list of taps.

mod float;
mod int8;
mod int8_5x5;
mod interleaved;
mod windows;

pub(crate) use float::DepthwiseF32;
pub(crate) use int8::DepthwiseI8;
pub(super) use windows::PixelRun;
pub(crate) use windows::Windows;
