//! Depthwise convolutions, float and int8: each output channel reads only its own input channel.
//!
//! Vectors run along channels, so lanes are independent. For the common square kernels (3, 5, 7 with stride 1 or 2), a
//! few output pixels of a row are computed together and share loads. Any other kernel goes pixel by pixel through a
//! list of taps.

mod float;
mod int8;
mod int8_5x5;
mod interleaved;
mod windows;

pub(crate) use float::DepthwiseF32;
pub(crate) use int8::DepthwiseI8;
pub(super) use windows::PixelRun;
pub(crate) use windows::Windows;
