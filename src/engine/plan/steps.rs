//! Builds the steps of each operator, with weights packed for the kernels.

use super::place::{Place, scale};
use super::planner::Planner;
use super::step::{Step, Work};
use crate::engine::net::{Conv, Id, Kind, Op, Quant, Shape};
use crate::engine::simd::depthwise::{DepthwiseF32, DepthwiseI8, Windows};
use crate::engine::simd::elementwise::ByteSum;
use crate::engine::simd::gemm::{ConvF32, ConvI8, OutputI8, WeightsF32, WeightsI8};
use crate::engine::simd::image::PixelLayout;
use crate::engine::simd::quantize::Quantize;
use crate::engine::simd::tile::Im2col;
use crate::engine::simd::{Activation, Requantize};

impl Planner<'_> {
    pub(super) fn steps_of(&self, id: Id, steps: &mut Vec<Step>) {
        let node = &self.net.nodes[id];
        let Some(output) = self.place_of(id) else { return };
        let mut push = |work, inputs: &[Id]| {
            let inputs: Vec<Place> = inputs.iter().filter_map(|input| self.place_of(*input)).collect();
            steps.push(Step { work, inputs, output: Some(output), halo: None });
        };
        match &node.op {
            Op::Input(number) if output.plane.is_some() => push(Work::ImportPlanes(*number), &[]),
            Op::Input(number) => push(Work::ImportPixels(*number), &[]),
            Op::Conv(conv) => {
                let (work, input) = self.convolution(id, conv);
                push(work, &[input]);
            }
            Op::Unary(activation) => push(Work::Unary(*activation), &node.inputs),
            Op::Mul => push(Work::Mul, &node.inputs),
            Op::Add(activation) => match node.kind {
                Kind::Float => push(Work::Add(*activation), &node.inputs),
                Kind::Byte(quant) => {
                    let read = [0, 1].map(|i| match self.net.nodes[node.inputs[i]].kind {
                        Kind::Byte(quant) => quant,
                        Kind::Float => unreachable!("a sum in bytes is one of bytes"),
                    });
                    let (low, high, slope) = bounds(*activation);
                    push(
                        Work::AddBytes(ByteSum {
                            scales: read.map(scale),
                            is_7_bit: read.iter().all(|quant| quant.is_7_bit()),
                            slope,
                            quantize: quantize(quant, low, high),
                        }),
                        &node.inputs,
                    );
                }
            },
            Op::Gate => {
                let quantize = match node.kind {
                    Kind::Byte(quant) => quantize(quant, f32::NEG_INFINITY, f32::INFINITY),
                    Kind::Float => Quantize { inverse_scale: 1.0, low: 0.0, high: 0.0, zero: 0 },
                };
                push(Work::Gate(quantize), &node.inputs);
            }
            Op::Mean => push(Work::Mean, &node.inputs),
            Op::MaxPool(window) => push(Work::MaxPool(*window), &node.inputs),
            Op::Upsample => push(Work::Upsample, &node.inputs),
            Op::Bilinear => push(Work::Bilinear, &node.inputs),
            Op::Shuffle(parts) => push(Work::Shuffle(*parts), &node.inputs),
            Op::Slice(_) => {}
            Op::Concat => {
                let (_, mut channel) = self.place[id].unwrap_or_default();
                for input in &node.inputs {
                    let part = &self.net.nodes[*input];
                    if self.place[*input] != Some((output.buffer, channel))
                        && let Some(from) = self.place_of(*input)
                    {
                        let target = self.buffers[output.buffer].target(channel);
                        let to = Place { target, shape: part.shape, ..output };
                        let inputs = vec![from];
                        steps.push(Step { work: Work::Copy, inputs, output: Some(to), halo: None });
                    }
                    channel += part.shape.channels;
                }
            }
            Op::Quantize { low, high } => {
                let Kind::Byte(quant) = node.kind else { return };
                let quantize = quantize(quant, *low, *high);
                let input = node.inputs[0];
                match (&self.net.nodes[input].op, self.net.nodes[input].kind) {
                    (Op::Input(number), _) if self.place[input].is_none() => {
                        let alone = self.buffers[output.buffer].shape == node.shape;
                        push(Work::ImportBytes(*number, quantize, alone), &[]);
                    }
                    (_, Kind::Float) => push(Work::Quantize(quantize), &node.inputs),
                    (_, Kind::Byte(from)) => {
                        let mut table = Box::new([0; 256]);
                        for (byte, entry) in table.iter_mut().enumerate() {
                            *entry = quantize.byte((byte as i32 - from.zero) as f32 * from.scale);
                        }
                        push(Work::Table(table), &node.inputs);
                    }
                }
            }
            Op::Dequantize => push(Work::Dequantize, &node.inputs),
        }
    }

    /// The step of a convolution, with the depthwise one before it if that runs inside, and the node that the step
    /// reads.
    fn convolution(&self, id: Id, conv: &Conv) -> (Work, Id) {
        let node = &self.net.nodes[id];
        let before = node.inputs[0];
        let out_kind = node.kind;
        if conv.depthwise {
            let Some(input) = self.place_of(before) else { unreachable!("what is read has a place") };
            let windows = self.windows(conv, input, node.shape);
            let work = match conv.int8 {
                Some(_) => Work::DepthwiseI8(Box::new(self.depthwise_i8(conv, windows, input.kind, out_kind))),
                None => Work::DepthwiseF32(Box::new(depthwise_f32(conv, windows))),
            };
            return (work, before);
        }
        if self.inside[before]
            && let Some(first) = self.conv(before)
            && let Some(input) = self.place_of(self.net.nodes[before].inputs[0])
        {
            let inner = &self.net.nodes[before];
            let channels = inner.shape.channels;
            let windows = self.windows(first, input, inner.shape);
            let window = Im2col {
                output: node.shape.size(),
                origin: 0,
                row_step: 0,
                column_step: channels,
                taps: vec![0],
                run: channels,
            };
            let reads = inner.inputs[0];
            if first.int8.is_some() {
                let depthwise = self.depthwise_i8(first, windows, input.kind, inner.kind);
                let (conv, sink) = self.conv_i8(conv, window, inner.kind, out_kind, |_, k| (k, 0, 0));
                return (Work::ConvI8(Box::new(ConvI8 { depthwise: Some(depthwise), ..conv }), sink), reads);
            }
            let weights = conv.weights.floats();
            let weights = WeightsF32::pack(self.isa, channels, &conv.bias, |o, k| weights[conv.at(o, k, 0, 0)]);
            let depthwise = Some(depthwise_f32(first, windows));
            let conv = ConvF32 { window, weights, activation: conv.activation, depthwise };
            return (Work::ConvF32(Box::new(conv)), reads);
        }
        let Some(input) = self.place_of(before) else { unreachable!("what is read has a place") };
        let (window, order) = dense_window(conv, input, node.shape);
        let (taps, run) = (window.taps.len(), window.run);
        if conv.int8.is_some() {
            let (conv, sink) = self.conv_i8(conv, window, input.kind, out_kind, order);
            return (Work::ConvI8(Box::new(conv), sink), before);
        }
        let weights = conv.weights.floats();
        let weights = WeightsF32::pack(self.isa, taps * run, &conv.bias, |o, k| {
            let (input, y, x) = order(k / run, k % run);
            weights[conv.at(o, input, y, x)]
        });
        let conv = ConvF32 { window, weights, activation: conv.activation, depthwise: None };
        (Work::ConvF32(Box::new(conv)), before)
    }

    fn windows(&self, conv: &Conv, input: Place, out: Shape) -> Windows {
        let PixelLayout { origin, row, pixel } = input.target;
        Windows {
            output: out,
            kernel: conv.kernel.into(),
            stride: conv.stride.into(),
            dilation: conv.dilation.into(),
            input: PixelLayout { origin: origin - conv.pad.0 * row - conv.pad.1 * pixel, row, pixel },
        }
    }

    fn depthwise_i8(&self, conv: &Conv, windows: Windows, input: Kind, output: Kind) -> DepthwiseI8 {
        let (bias, multiplier, zero) = sums(conv, input, output);
        let Some(int8) = &conv.int8 else { unreachable!("an int8 step has integers") };
        let requantize = requantize(conv, output);
        DepthwiseI8::new(self.isa, windows, zero, &bias, &multiplier, requantize, |c, y, x| {
            int8.weights[conv.at(c, 0, y, x)]
        })
    }

    fn conv_i8(
        &self,
        conv: &Conv,
        window: Im2col,
        input: Kind,
        output: Kind,
        order: impl Fn(usize, usize) -> (usize, usize, usize),
    ) -> (ConvI8, OutputI8) {
        let (bias, multiplier, zero) = sums(conv, input, output);
        let Some(int8) = &conv.int8 else { unreachable!("an int8 step has integers") };
        let weights =
            WeightsI8::pack(self.isa, window.taps.len(), window.run, zero, &bias, &multiplier, |o, tap, k| {
                let (input, y, x) = order(tap, k);
                // A pixel may have more bytes than channels.
                if input < conv.inputs() { int8.weights[conv.at(o, input, y, x)] } else { 0 }
            });
        let sink = match output {
            Kind::Byte(_) => OutputI8::Requantized(requantize(conv, output)),
            Kind::Float => OutputI8::Activated(conv.activation),
        };
        (ConvI8 { window, weights, depthwise: None }, sink)
    }
}

fn depthwise_f32(conv: &Conv, windows: Windows) -> DepthwiseF32 {
    let weights = conv.weights.floats();
    DepthwiseF32::new(windows, &conv.bias, conv.activation, |c, y, x| weights[conv.at(c, 0, y, x)])
}

/// The bias in units of the sums, the multiplier of the sums, and the zero point of the input.
fn sums(conv: &Conv, input: Kind, output: Kind) -> (Vec<i32>, Vec<f32>, i32) {
    let (Some(int8), Kind::Byte(quant)) = (&conv.int8, input) else { unreachable!("an int8 step reads bytes") };
    let units = int8.scales.iter().map(|scale| scale * quant.scale);
    let bias = conv.bias.iter().zip(units.clone()).map(|(bias, unit)| (bias / unit).round() as i32).collect();
    let multiplier = match output {
        Kind::Byte(out) => units.map(|unit| unit / out.scale).collect(),
        Kind::Float => units.collect(),
    };
    (bias, multiplier, quant.zero)
}

fn requantize(conv: &Conv, output: Kind) -> Requantize {
    let Kind::Byte(quant) = output else { unreachable!("floats are not requantised") };
    let (low, high, slope) = bounds(conv.activation);
    let Quantize { low, high, zero, .. } = quantize(quant, low, high);
    Requantize::new(low, high, zero, slope)
}

/// The conversion for a Quantize node that clamps floats to `low..=high`.
fn quantize(quant: Quant, low: f32, high: f32) -> Quantize {
    let inverse_scale = 1.0 / quant.scale;
    Quantize {
        inverse_scale,
        low: (low * inverse_scale).max((quant.low - quant.zero) as f32),
        high: (high * inverse_scale).min((quant.high - quant.zero) as f32),
        zero: quant.zero,
    }
}

/// The bounds of an activation before quantisation, and its factor for negative numbers.
fn bounds(activation: Activation) -> (f32, f32, f32) {
    match activation {
        Activation::Clamp { low, high } => (low, high, 1.0),
        Activation::Leaky { slope } => (f32::NEG_INFINITY, f32::INFINITY, slope),
        other => unreachable!("{other:?} does not end in bytes"),
    }
}

/// The memory offsets of the taps of a dense convolution, and the weight for element `k` of the run at tap `t`: input
/// channel, kernel row, kernel column.
fn dense_window(
    conv: &Conv,
    input: Place,
    out: Shape,
) -> (Im2col, impl Fn(usize, usize) -> (usize, usize, usize) + use<>) {
    let PixelLayout { origin, row, pixel } = input.target;
    let (rows, columns) = conv.kernel;
    let (down, right) = conv.dilation;
    let channels = input.shape.channels;
    // Neighbouring taps of a row are contiguous in memory if there is nothing between them.
    enum Runs {
        /// One row of a plane.
        Planes,
        /// The channels of one tap.
        Tap,
        /// A row of taps, with this number of elements per pixel.
        Row(usize),
    }
    let bytes = input.kind != Kind::Float;
    let padded = bytes && pixel == channels.next_multiple_of(4);
    let runs = match input.plane {
        Some(_) => Runs::Planes,
        None if right == 1 && (pixel == channels || padded) => Runs::Row(pixel),
        None => Runs::Tap,
    };
    let (taps, run) = match (&runs, input.plane) {
        (Runs::Planes, Some(plane)) => {
            let (columns, run) = if right == 1 { (1, columns) } else { (columns, 1) };
            let taps = (0..channels).flat_map(|c| {
                (0..rows).flat_map(move |y| (0..columns).map(move |x| c * plane + y * down * row + x * right))
            });
            (taps.collect(), run)
        }
        (Runs::Row(width), _) => ((0..rows).map(|y| y * down * row).collect(), columns * width),
        _ => {
            let taps = (0..rows).flat_map(|y| (0..columns).map(move |x| y * down * row + x * right * pixel));
            (taps.collect(), channels)
        }
    };
    let window = Im2col {
        output: out.size(),
        origin: origin - conv.pad.0 * row - conv.pad.1 * pixel,
        row_step: conv.stride.0 * row,
        column_step: conv.stride.1 * pixel,
        taps,
        run,
    };
    let order = move |t: usize, k: usize| match runs {
        Runs::Planes if run == columns => (t / rows, t % rows, k),
        Runs::Planes => (t / (rows * columns), t / columns % rows, t % columns),
        Runs::Row(width) => (k % width, t, k / width),
        Runs::Tap => (k, t / columns, t % columns),
    };
    (window, order)
}
