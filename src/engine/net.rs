//! The graph of the engine's own operators.
//!
//! Every node has one output, an image: height × width × channels, batch 1.

use std::borrow::Cow;

use super::simd::Activation;
pub(crate) use super::simd::image::Shape;
use super::simd::pool::PoolWindow;

/// Index of a node.
pub(crate) type Id = usize;

/// A convolution as in the file, together with what has been fused into it.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub dilation: (usize, usize),
    /// Zero pixels above and to the left of the image.
    pub pad: (usize, usize),
    /// Whether each output channel reads only its own input channel. Otherwise it reads all.
    pub depthwise: bool,
    pub weights: Weights,
    pub bias: Vec<f32>,
    pub activation: Activation,
    /// Set when the convolution runs on bytes.
    pub int8: Option<Int8>,
}

impl Conv {
    /// A 1×1 convolution in floats.
    pub fn of_pixels(depthwise: bool, weights: Vec<f32>, bias: Vec<f32>) -> Conv {
        Conv {
            kernel: (1, 1),
            stride: (1, 1),
            dilation: (1, 1),
            pad: (0, 0),
            depthwise,
            weights: Weights::Floats(weights),
            bias,
            activation: Activation::NONE,
            int8: None,
        }
    }

    /// Whether it only applies a factor and an offset to each channel.
    pub fn is_by_channel(&self) -> bool {
        self.depthwise && self.kernel == (1, 1) && self.stride == (1, 1) && self.pad == (0, 0)
    }

    /// The number of input channels that each output channel reads.
    pub fn inputs(&self) -> usize {
        self.weights.len() / (self.bias.len() * self.kernel.0 * self.kernel.1)
    }

    /// Index of a weight.
    pub fn at(&self, output: usize, input: usize, y: usize, x: usize) -> usize {
        ((output * self.inputs() + input) * self.kernel.0 + y) * self.kernel.1 + x
    }
}

/// A convolution's weights, `[outputs, inputs, rows, columns]` row-major, with one input per output if depthwise.
#[derive(Debug, Clone)]
pub(crate) enum Weights {
    Floats(Vec<f32>),
    /// As in a quantised file.
    Int8(Int8),
}

impl Weights {
    pub fn len(&self) -> usize {
        match self {
            Weights::Floats(weights) => weights.len(),
            Weights::Int8(int8) => int8.weights.len(),
        }
    }

    pub fn floats(&self) -> Cow<'_, [f32]> {
        match self {
            Weights::Floats(weights) => Cow::Borrowed(weights),
            Weights::Int8(Int8 { weights, scales }) => {
                let rows = weights.chunks(weights.len() / scales.len()).zip(scales);
                Cow::Owned(rows.flat_map(|(row, scale)| row.iter().map(move |w| f32::from(*w) * scale)).collect())
            }
        }
    }
}

/// The integers and scales of a quantised convolution's weights.
#[derive(Debug, Clone)]
pub(crate) struct Int8 {
    /// In the order of [`Weights`].
    pub weights: Vec<i8>,
    /// Scale of each output channel's weights.
    pub scales: Vec<f32>,
}

/// A scale for weights that are all zero. Any scale is valid; this one preserves the precision of the bias.
pub(crate) fn scale_of_zeros(bias: f32) -> f32 {
    bias.abs().max(1e-6) / 65536.0
}

impl Int8 {
    /// The same weights, with scales for rows of zeros that preserve the precision of these biases.
    pub fn with_scales_for(mut self, bias: &[f32]) -> Int8 {
        let rows = self.weights.chunks_exact(self.weights.len() / bias.len());
        for ((row, scale), bias) in rows.zip(&mut self.scales).zip(bias) {
            if row.iter().all(|weight| *weight == 0) {
                *scale = scale_of_zeros(*bias);
            }
        }
        self
    }

    /// For each output channel, a bound of the sums over bytes with the range of `from`, with these biases.
    fn bounds(&self, bias: &[f32], from: Quant) -> impl Iterator<Item = f64> {
        let reach = f64::from((from.high - from.zero).abs().max((from.low - from.zero).abs()));
        let outputs = self.weights.chunks_exact(self.weights.len() / bias.len()).zip(&self.scales).zip(bias);
        outputs.map(move |((weights, scale), bias)| {
            let sum: u64 = weights.iter().map(|weight| u64::from(weight.unsigned_abs())).sum();
            sum as f64 * reach + (f64::from(*bias) / (f64::from(*scale) * f64::from(from.scale))).abs()
        })
    }

    /// Whether the sums over bytes with the range of `from`, with these biases, fit 32 bits.
    pub fn fits_32_bits(&self, bias: &[f32], from: Quant) -> bool {
        self.bounds(bias, from).all(|bound| bound < f64::from(i32::MAX))
    }

    /// A bound of these sums in units of the scale of `to`.
    pub fn largest_result(&self, bias: &[f32], from: Quant, to: Quant) -> f32 {
        let in_quanta =
            |(bound, scale): (f64, &f32)| bound * f64::from(*scale) * f64::from(from.scale) / f64::from(to.scale);
        self.bounds(bias, from).zip(&self.scales).map(in_quanta).fold(0.0, f64::max) as f32
    }
}

/// The number that a byte represents, `(byte - zero) * scale`, and which bytes occur.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quant {
    pub scale: f32,
    pub zero: i32,
    pub low: i32,
    pub high: i32,
}

impl Quant {
    /// Whether the same bytes represent the same numbers.
    pub fn same_scale(self, other: Quant) -> bool {
        self.scale == other.scale && self.zero == other.zero
    }

    /// Whether the int8 kernels can read it.
    pub fn is_7_bit(self) -> bool {
        self.low >= 0 && self.high <= 127
    }

    /// The range of bytes for numbers clamped to `low..=high`.
    pub fn clamped(self, low: f32, high: f32) -> Quant {
        // `as` saturates, so infinite bounds have no effect.
        let byte = |x: f32| ((x / self.scale).round_ties_even() as i32).saturating_add(self.zero);
        Quant { low: self.low.max(byte(low).min(self.high)), high: self.high.min(byte(high).max(self.low)), ..self }
    }
}

/// The type in which a node's output is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Float,
    Byte(Quant),
}

/// The operation of a node.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Input image of the network, by number.
    Input(usize),
    Conv(Box<Conv>),
    Unary(Activation),
    /// Product of two images with the same shape.
    Mul,
    /// Product of an image and the second input, which has one number per channel.
    Gate,
    /// Sum of two images, with an activation.
    Add(Activation),
    /// Mean of each channel.
    Mean,
    MaxPool(PoolWindow),
    /// Twice the height and width, each pixel four times.
    Upsample,
    /// Twice the height and width, each pixel a mean of the four around it.
    Bilinear,
    /// Channels of all inputs, one after the other.
    Concat,
    /// Some of the channels, starting at this one.
    Slice(usize),
    /// Interleaves this number of equal parts of the channels: the first of each part, the second of each, and so on.
    Shuffle(usize),
    /// Floats, clamped, to bytes; or bytes to bytes with another scale. The scale is that of the node's [`Kind`].
    Quantize {
        low: f32,
        high: f32,
    },
    Dequantize,
}

/// An operation with its inputs and the shape and type of its output.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The name of the tensor in the file.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<Id>,
    pub shape: Shape,
    pub kind: Kind,
}

/// A network or a part of one: nodes in an order of execution, and those whose outputs are read outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net {
    pub nodes: Vec<Node>,
    pub outputs: Vec<Id>,
}

impl Net {
    /// For each node, the number of node inputs and network outputs that read it.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for id in self.nodes.iter().flat_map(|node| &node.inputs).chain(&self.outputs) {
            uses[*id] += 1;
        }
        uses
    }

    /// Removes nodes that no output needs and sorts the others into an order of execution.
    pub fn tidy(&mut self) {
        let mut place = vec![None; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        // Depth first without recursion: files can be deep.
        let mut stack: Vec<(Id, bool)> = self.outputs.iter().rev().map(|id| (*id, false)).collect();
        while let Some((id, inputs_done)) = stack.pop() {
            if place[id].is_some() {
                continue;
            }
            if inputs_done {
                place[id] = Some(order.len());
                order.push(id);
            } else {
                stack.push((id, true));
                stack.extend(self.nodes[id].inputs.iter().rev().map(|input| (*input, false)));
            }
        }
        let moved = |id: Id| place[id].unwrap_or(0);
        // Taken, not copied: a node may carry megabytes of weights.
        let mut old: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        for id in order {
            let Some(mut node) = old[id].take() else { continue };
            node.inputs.iter_mut().for_each(|input| *input = moved(*input));
            self.nodes.push(node);
        }
        self.outputs.iter_mut().for_each(|output| *output = moved(*output));
    }
}
