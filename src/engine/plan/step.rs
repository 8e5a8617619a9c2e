//! The steps of a plan.

use super::place::{Halo, Place};
use crate::engine::net::Shape;
#[cfg(feature = "profile")]
use crate::engine::simd::depthwise::Windows;
use crate::engine::simd::depthwise::{DepthwiseF32, DepthwiseI8};
use crate::engine::simd::elementwise::ByteSum;
use crate::engine::simd::gemm::{ConvF32, ConvI8, OutputI8};
use crate::engine::simd::pool::PoolWindow;
use crate::engine::simd::quantize::Quantize;
use crate::engine::simd::tile::BLOCK_PIXELS;
#[cfg(feature = "profile")]
use crate::engine::simd::tile::Im2col;
use crate::engine::simd::{Activation, MAX_THREADS};
use crate::limits::product;

/// The operation of a step.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Copies the input with this number into planes of floats with a border.
    ImportPlanes(usize),
    ImportPixels(usize),
    /// Converts the input to pixels of bytes. The flag says that the buffer has no other content, so bytes after a
    /// pixel's channels may be overwritten.
    ImportBytes(usize, Quantize, bool),
    ConvF32(Box<ConvF32>),
    /// The output is requantised bytes or activated floats.
    ConvI8(Box<ConvI8>, OutputI8),
    DepthwiseF32(Box<DepthwiseF32>),
    DepthwiseI8(Box<DepthwiseI8>),
    Unary(Activation),
    Mul,
    Add(Activation),
    AddBytes(ByteSum),
    Gate(Quantize),
    Mean,
    MaxPool(PoolWindow),
    Upsample,
    Bilinear,
    Copy,
    /// Interleaves this number of parts of the channels.
    Shuffle(usize),
    Quantize(Quantize),
    /// Maps bytes to bytes with a table.
    Table(Box<[u8; 256]>),
    Dequantize,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) work: Work,
    pub(super) inputs: Vec<Place>,
    pub(super) output: Option<Place>,
    /// The border that must be written before the step.
    pub(super) halo: Option<Halo>,
}

impl Step {
    /// The most scratch values that the step needs with the maximum number of threads.
    pub(super) fn scratch(&self) -> u64 {
        let Some(Place { shape: Shape { width, channels, .. }, .. }) = self.inputs.first() else { return 0 };
        // A pool or a resize needs rows, a fused depthwise convolution a block of pixels.
        let pixels = match &self.work {
            Work::ConvF32(conv) if conv.depthwise.is_some() => BLOCK_PIXELS * MAX_THREADS,
            Work::ConvI8(conv, _) if conv.depthwise.is_some() => BLOCK_PIXELS * MAX_THREADS,
            Work::MaxPool(_) | Work::Bilinear => *width,
            _ => 0,
        };
        product(&[pixels, *channels])
    }
}

#[cfg(feature = "profile")]
impl Step {
    /// A description (kind and shape) and the number of multiply-accumulates.
    pub(super) fn describe(&self) -> (String, usize) {
        let Some(Place { shape: out, .. }) = self.output else { return (String::new(), 0) };
        let pixels = out.height * out.width;
        let input = self.inputs.first().map_or(0, |place| place.shape.channels);
        let depthwise = |windows: &Windows| {
            let Windows { output, kernel, stride, .. } = windows;
            let macs = output.height * output.width * output.channels * kernel.height * kernel.width;
            (format!("depthwise {}x{}/{}", kernel.height, kernel.width, stride.height), macs)
        };
        let dense = |name: &str, first: Option<(String, usize)>, window: &Im2col| {
            let inputs = window.taps.len() * window.run;
            let (name, before) = match first {
                Some((first, macs)) => (format!("{first} + {name}"), macs),
                None => (format!("{name} of {inputs}"), 0),
            };
            (name, before + pixels * inputs * out.channels)
        };
        let (name, macs) = match &self.work {
            Work::ImportPlanes(_) => ("import planes".to_owned(), 0),
            Work::ImportPixels(_) => ("import pixels".to_owned(), 0),
            Work::ImportBytes(..) => ("import bytes".to_owned(), 0),
            Work::ConvF32(c) => dense("conv", c.depthwise.as_ref().map(|d| depthwise(d.windows())), &c.window),
            Work::ConvI8(c, _) => {
                dense("int8 conv", c.depthwise.as_ref().map(|d| depthwise(d.windows())), &c.window)
            }
            Work::DepthwiseF32(layer) => depthwise(layer.windows()),
            Work::DepthwiseI8(layer) => depthwise(layer.windows()),
            Work::Unary(_) => ("activation".to_owned(), 0),
            Work::Mul => ("product".to_owned(), 0),
            Work::Add(_) => ("sum".to_owned(), 0),
            Work::AddBytes(_) => ("int8 sum".to_owned(), 0),
            Work::Gate(_) => ("gate".to_owned(), 0),
            Work::Mean => ("mean".to_owned(), 0),
            Work::MaxPool(_) => ("max pool".to_owned(), 0),
            Work::Upsample => ("upsample".to_owned(), 0),
            Work::Bilinear => ("bilinear".to_owned(), 0),
            Work::Copy => ("copy".to_owned(), 0),
            Work::Shuffle(_) => ("shuffle".to_owned(), 0),
            Work::Quantize(_) => ("quantize".to_owned(), 0),
            Work::Table(_) => ("table".to_owned(), 0),
            Work::Dequantize => ("dequantize".to_owned(), 0),
        };
        (format!("{name}, {input} to {} at {}x{}", out.channels, out.width, out.height), macs)
    }
}
