//! The table that translates ONNX operators to those of the engine.
//!
//! [`meaning`] is its only entry point. The function of an operator gets the node and what is known about its inputs
//! (shape, constant value). It returns an operation of the engine for each output, a constant, or the reason why the
//! engine does not support the node.

use super::reason::Reason;
use super::value::{Array, Value, Values};
use super::window::{MAX_NUMBERS, Window};
use crate::engine::net::{Conv, Int8, Kind, Op, Quant, Shape, Weights};
use crate::engine::{Activation, PoolWindow};
use crate::onnx::attributes::Attributes;
use crate::onnx::messages::{AttributeType, DataType, NodeProto};
use crate::onnx::tensor::{self, Values as Stored};

/// What a node means to the engine.
pub(crate) enum Meaning<'a> {
    /// A constant, known before the network runs.
    Constant(Value<'a>),
    /// One step per output.
    Steps(Vec<Step<'a>>),
}

/// One operation of the engine, not yet assigned to a region.
pub(crate) struct Step<'a> {
    pub op: Op,
    /// Names of the images that it reads.
    pub inputs: Vec<&'a str>,
    pub shape: Shape,
    pub kind: Kind,
}

impl Step<'_> {
    /// Whether the step alone justifies a change of layout. Other steps run on the engine only together with such
    /// steps. A shuffle always justifies it, because nothing else computes its inner nodes.
    #[cfg(feature = "tract")]
    pub fn is_heavy(&self) -> bool {
        match &self.op {
            Op::Conv(conv) => conv.kernel != (1, 1) || !conv.depthwise && conv.inputs() > FEW_CHANNELS,
            op => matches!(op, Op::MaxPool(_) | Op::Upsample | Op::Bilinear | Op::Shuffle(_)),
        }
    }
}

/// The most channels of an input image. With so few, any selection of channels is cheap as a convolution.
const FEW_CHANNELS: usize = 4;

const LOW: f32 = f32::NEG_INFINITY;
const HIGH: f32 = f32::INFINITY;

/// What `node` means to the engine, or why the engine cannot run it.
pub(super) fn meaning<'a>(node: &'a NodeProto, opset: i64, values: &Values<'a>) -> Result<Meaning<'a>, Reason> {
    let node = &Node { attributes: Attributes(node), proto: node, opset, values };
    match node.proto.op_type.as_str() {
        // Constants
        "Constant" => node.constant(),
        "Cast" => node.cast(),
        // Layers
        "Conv" => node.conv(),
        "MaxPool" => node.max_pool(),
        "BatchNormalization" => node.batch_normalization(),
        "GlobalAveragePool" => node.global_average_pool(),
        "ReduceMean" => node.reduce_mean(),
        "Resize" => node.resize(),
        "Upsample" => node.upsample(),
        "Concat" => node.concat(),
        "Slice" => node.slice(),
        "Split" => node.split(),
        // Quantisation
        "QuantizeLinear" => node.quantize(),
        "DequantizeLinear" => node.dequantize(),
        // Arithmetic
        "Add" => node.binary(Binary::Add),
        "Sub" => node.binary(Binary::Sub),
        "Mul" => node.binary(Binary::Mul),
        "Div" => node.binary(Binary::Div),
        "Max" => node.binary(Binary::Max),
        "Min" => node.binary(Binary::Min),
        // Activations
        "Identity" => node.identity(),
        "Clip" => node.clip(),
        "Relu" => node.activation(&[], Activation::Clamp { low: 0.0, high: HIGH }),
        "Sigmoid" => node.activation(&[], Activation::Sigmoid),
        "Exp" => node.activation(&[], Activation::Exp { low: LOW, high: HIGH }),
        "HardSwish" => {
            node.activation(&[], Activation::Gated { scale: 1.0 / 6.0, offset: 0.5, low: 0.0, high: 1.0 })
        }
        "LeakyRelu" => node.activation(&["alpha"], Activation::Leaky { slope: node.float("alpha", 0.01)? }),
        "HardSigmoid" => {
            let (scale, offset) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
            node.activation(&["alpha", "beta"], Activation::Affine { scale, offset, low: 0.0, high: 1.0 })
        }
        _ => Err(Reason::Operator),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Binary {
    /// The factor and offset that an arithmetic operator with the constant `number` (input `index`) applies to the
    /// other input.
    fn line(self, number: f32, index: usize) -> Result<(f32, f32), Reason> {
        match (self, index) {
            (Binary::Add, _) => Ok((1.0, number)),
            (Binary::Sub, 0) => Ok((-1.0, number)),
            (Binary::Sub, _) => Ok((1.0, -number)),
            (Binary::Mul, _) => Ok((number, 0.0)),
            (Binary::Div, 1..) if number != 0.0 => Ok((1.0 / number, 0.0)),
            (Binary::Div, _) => Err(Reason::Form("it divides by an image, or by 0")),
            (Binary::Max | Binary::Min, _) => Err(Reason::Differs(index)),
        }
    }
}

struct Node<'n, 'a> {
    proto: &'a NodeProto,
    attributes: Attributes<'a>,
    opset: i64,
    values: &'n Values<'a>,
}

/// The result of most functions here.
type Found<'a> = Result<Meaning<'a>, Reason>;

impl<'a> Node<'_, 'a> {
    // Access to inputs and attributes

    /// Refuses attributes that are not in the list.
    fn only(&self, known: &[&str]) -> Result<(), Reason> {
        match self.attributes.other_than(known) {
            Some(index) => Err(Reason::UnknownAttribute(index)),
            None => Ok(()),
        }
    }

    fn int(&self, name: &'static str, default: i64) -> Result<i64, Reason> {
        self.attributes.int(name, default).ok_or(Reason::Attribute(name))
    }

    fn float(&self, name: &'static str, default: f32) -> Result<f32, Reason> {
        self.attributes.float(name, default).ok_or(Reason::Attribute(name))
    }

    fn text(&self, name: &'static str, default: &'static str) -> Result<&'a str, Reason> {
        self.attributes.text(name, default).ok_or(Reason::Attribute(name))
    }

    fn ints_attribute(&self, name: &'static str) -> Result<&'a [i64], Reason> {
        self.attributes.ints(name).ok_or(Reason::Attribute(name))
    }

    fn has_input(&self, index: usize) -> bool {
        self.proto.input.get(index).is_some_and(|name| !name.is_empty())
    }

    fn input(&self, index: usize) -> Result<(&'a str, &Value<'a>), Reason> {
        let name = self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or(Reason::Missing(index))?;
        Ok((name, self.values.get(name).ok_or(Reason::Missing(index))?))
    }

    /// A feature map of floats, by name and shape.
    fn image(&self, index: usize) -> Result<(&'a str, Shape), Reason> {
        match self.input(index)? {
            (name, Value::Image(shape, Kind::Float)) => Ok((name, *shape)),
            _ => Err(Reason::NoImage(index)),
        }
    }

    fn floats(&self, index: usize) -> Result<Array<f32>, Reason> {
        let (_, value) = self.input(index)?;
        value.floats().ok_or(Reason::Variable(index))
    }

    fn ints(&self, index: usize) -> Result<Array<i64>, Reason> {
        let (_, value) = self.input(index)?;
        value.ints().ok_or(Reason::Variable(index))
    }

    /// A constant with the same value everywhere.
    fn scalar(&self, index: usize) -> Result<f32, Reason> {
        let values = self.floats(index)?.values;
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => Ok(*first),
            _ => Err(Reason::Differs(index)),
        }
    }

    /// Integers from the attribute `name`, as in old operator sets, or from input `index`.
    fn ints_or_input(&self, name: &'static str, index: usize) -> Result<Option<Vec<i64>>, Reason> {
        if self.attributes.has(name) {
            return self.ints_attribute(name).map(|ints| Some(ints.to_vec()));
        }
        if self.has_input(index) { self.ints(index).map(|array| Some(array.values)) } else { Ok(None) }
    }

    // Results

    fn step(&self, op: Op, inputs: Vec<&'a str>, shape: Shape) -> Found<'a> {
        self.stored(op, inputs, shape, Kind::Float)
    }

    fn stored(&self, op: Op, inputs: Vec<&'a str>, shape: Shape, kind: Kind) -> Found<'a> {
        match self.proto.output.len() {
            1 => Ok(Meaning::Steps(vec![Step { op, inputs, shape: checked(shape)?, kind }])),
            _ => Err(Reason::Form("more than one output is wanted")),
        }
    }

    // Constants

    fn constant(&self) -> Found<'a> {
        let [attribute] = &self.proto.attribute[..] else {
            return Err(Reason::Form("it has more or fewer values than one"));
        };
        let stored = attribute.name == "value" && attribute.r#type == AttributeType::Tensor as i32;
        match &attribute.t {
            Some(tensor) if stored => Ok(Meaning::Constant(Value::Stored(tensor))),
            _ => Err(Reason::UnknownAttribute(0)),
        }
    }

    /// Weights in half precision have already been converted to floats.
    fn cast(&self) -> Found<'a> {
        self.only(&["to", "saturate"])?;
        if self.int("to", 0)? != DataType::Float as i64 {
            return Err(Reason::Attribute("to"));
        }
        let (name, value) = self.input(0)?;
        if let Value::Image(shape, Kind::Float) = value {
            return self.step(Op::Unary(Activation::NONE), vec![name], *shape);
        }
        let floats = match value.ints() {
            Some(ints) => {
                Some(Array { values: ints.values.iter().map(|value| *value as f32).collect(), shape: ints.shape })
            }
            None => value.half_or_floats(),
        };
        let floats = floats.ok_or(Reason::Variable(0))?;
        Ok(Meaning::Constant(Value::Floats(floats)))
    }

    // Layers

    fn conv(&self) -> Found<'a> {
        self.only(&["kernel_shape", "strides", "pads", "dilations", "group", "auto_pad"])?;
        let (x, input) = self.image(0)?;
        let (_, value) = self.input(1)?;
        let (shape, weights) = match value {
            Value::Quantised(shape, int8) => (shape.clone(), Weights::Int8(int8.clone())),
            _ => {
                let Array { shape, values } = self.floats(1)?;
                (shape, Weights::Floats(values))
            }
        };
        let [outputs, inputs, rows, columns] = shape[..] else {
            return Err(Reason::Form("its kernel is not of two dimensions"));
        };
        let bias = if self.has_input(2) {
            let bias = self.floats(2)?;
            if bias.shape != [outputs] {
                return Err(Reason::Form("its bias is not one number for each output channel"));
            }
            bias.values
        } else {
            vec![0.0; outputs]
        };
        let group = usize::try_from(self.int("group", 1)?).map_err(|_| Reason::Attribute("group"))?;
        let depthwise = group > 1 && group == outputs && inputs == 1 && input.channels == outputs;
        if !(depthwise || (group == 1 && inputs == input.channels)) || outputs * inputs == 0 {
            return Err(Reason::Form(
                "its channels are grouped in another way than all together or each by itself",
            ));
        }
        let window = Window::new(self.attributes, Some([rows, columns]), input)?;
        let conv = Conv {
            kernel: (rows, columns),
            stride: (window.stride[0], window.stride[1]),
            dilation: (window.dilation[0], window.dilation[1]),
            pad: (window.before[0], window.before[1]),
            depthwise,
            weights,
            bias,
            activation: Activation::NONE,
            int8: None,
        };
        let out = Shape { height: window.out[0], width: window.out[1], channels: outputs };
        self.step(Op::Conv(Box::new(conv)), vec![x], out)
    }

    fn max_pool(&self) -> Found<'a> {
        self.only(&["kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode", "storage_order"])?;
        let (x, input) = self.image(0)?;
        let window = Window::new(self.attributes, None, input)?;
        if self.int("ceil_mode", 0)? != 0 {
            return Err(Reason::Attribute("ceil_mode"));
        }
        if window.dilation != [1, 1] {
            return Err(Reason::Attribute("dilations"));
        }
        if !window.always_holds_a_pixel() {
            return Err(Reason::Form("a window may lie in the border"));
        }
        let pool = PoolWindow {
            kernel: (window.kernel[0], window.kernel[1]),
            stride: (window.stride[0], window.stride[1]),
            pad: (window.before[0], window.before[1]),
        };
        let out = Shape { height: window.out[0], width: window.out[1], ..input };
        self.step(Op::MaxPool(pool), vec![x], out)
    }

    /// Uses the running statistics, as in inference.
    fn batch_normalization(&self) -> Found<'a> {
        self.only(&["epsilon", "momentum", "spatial", "training_mode"])?;
        let (x, shape) = self.image(0)?;
        if self.int("training_mode", 0)? != 0 || self.int("spatial", 1)? != 1 {
            return Err(Reason::Form("it does not normalise by channels with running statistics"));
        }
        let epsilon = self.float("epsilon", 1e-5)?;
        let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|index| self.floats(index));
        let (scale, bias, mean, variance) = (scale?.values, bias?.values, mean?.values, variance?.values);
        if [&scale, &bias, &mean, &variance].iter().any(|values| values.len() != shape.channels) {
            return Err(Reason::Form("its factors are not one for each channel"));
        }
        let scale: Vec<f32> = scale.iter().zip(variance).map(|(one, of)| one / (of + epsilon).sqrt()).collect();
        let offset = bias.iter().zip(&scale).zip(mean).map(|((bias, scale), mean)| bias - mean * scale).collect();
        self.by_channel(x, shape, scale, offset)
    }

    fn global_average_pool(&self) -> Found<'a> {
        self.only(&[])?;
        let (x, Shape { channels, .. }) = self.image(0)?;
        self.step(Op::Mean, vec![x], Shape { height: 1, width: 1, channels })
    }

    fn reduce_mean(&self) -> Found<'a> {
        self.only(&["axes", "keepdims", "noop_with_empty_axes"])?;
        let (x, Shape { channels, .. }) = self.image(0)?;
        let axes = self.ints_or_input("axes", 1)?.unwrap_or_default();
        let of_pixels = matches!(axes[..], [2 | -2, 3 | -1] | [3 | -1, 2 | -2]);
        if !of_pixels || self.int("keepdims", 1)? != 1 {
            return Err(Reason::Form("the mean is not that of all pixels, one a channel"));
        }
        self.step(Op::Mean, vec![x], Shape { height: 1, width: 1, channels })
    }

    fn resize(&self) -> Found<'a> {
        self.only(&[
            "mode",
            "nearest_mode",
            "coordinate_transformation_mode",
            // Attributes of other modes, or without effect when the size doubles.
            "cubic_coeff_a",
            "extrapolation_value",
            "antialias",
        ])?;
        let (x, input) = self.image(0)?;
        if self.opset < 11 {
            return Err(Reason::Form("before operator set 11 it computes another thing"));
        }
        let Shape { height, width, channels } = input;
        let doubles = if self.has_input(3) {
            let sides = [1, channels, 2 * height, 2 * width].map(|side| side as i64);
            !self.has_input(2) && self.ints(3)?.values == sides
        } else {
            self.floats(2)?.values == [1.0, 1.0, 2.0, 2.0]
        };
        let places = self.text("coordinate_transformation_mode", "half_pixel")?;
        let nearest = self.text("nearest_mode", "round_prefer_floor")?;
        // Modes that read the same pixels when the size doubles. Results of one pixel, which some modes treat
        // differently, do not occur.
        let op = match (self.text("mode", "nearest")?, places, nearest) {
            ("nearest", "asymmetric", "floor" | "round_prefer_floor") => Op::Upsample,
            (
                "nearest",
                "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric",
                "round_prefer_floor" | "round_prefer_ceil",
            ) => Op::Upsample,
            ("nearest", "tf_half_pixel_for_nn", "floor") => Op::Upsample,
            ("linear", "half_pixel" | "pytorch_half_pixel" | "half_pixel_symmetric", _) => Op::Bilinear,
            _ => return Err(Reason::Form("its mode is neither nearest nor bilinear as the engine knows them")),
        };
        self.doubled(op, x, input, doubles)
    }

    /// Operator sets 9 and 10.
    fn upsample(&self) -> Found<'a> {
        self.only(&["mode"])?;
        let (x, input) = self.image(0)?;
        if self.text("mode", "nearest")? != "nearest" {
            return Err(Reason::Attribute("mode"));
        }
        let doubles = self.floats(1)?.values == [1.0, 1.0, 2.0, 2.0];
        self.doubled(Op::Upsample, x, input, doubles)
    }

    fn doubled(&self, op: Op, x: &'a str, input: Shape, doubles: bool) -> Found<'a> {
        if !doubles {
            return Err(Reason::Form("its sides do not double"));
        }
        let Shape { height, width, channels } = input;
        self.step(op, vec![x], Shape { height: 2 * height, width: 2 * width, channels })
    }

    fn concat(&self) -> Found<'a> {
        self.only(&["axis"])?;
        let images = (0..self.proto.input.len()).map(|index| self.image(index)).collect::<Result<Vec<_>, _>>()?;
        let &(_, first) = images.first().ok_or(Reason::Missing(0))?;
        let alike = |(_, s): &(&str, Shape)| (s.height, s.width) == (first.height, first.width);
        if !matches!(self.int("axis", 0)?, 1 | -3) || !images.iter().all(alike) {
            return Err(Reason::Form("it does not join channels"));
        }
        let channels = images.iter().map(|(_, shape)| shape.channels).sum();
        let inputs = images.into_iter().map(|(name, _)| name).collect();
        self.step(Op::Concat, inputs, Shape { channels, ..first })
    }

    fn slice(&self) -> Found<'a> {
        self.only(&["starts", "ends", "axes"])?;
        let (x, shape) = self.image(0)?;
        let one = |name: &'static str, index: usize, default: Option<i64>| match self
            .ints_or_input(name, index)?
            .as_deref()
        {
            Some([value]) => Ok(*value),
            None => default.ok_or(Reason::Missing(index)),
            Some(_) => Err(Reason::Form("it is of more than one axis")),
        };
        let channels = shape.channels as i64;
        let at = |value: i64| if value < 0 { value.saturating_add(channels) } else { value }.clamp(0, channels);
        let (start, end) = (one("starts", 1, None)?, one("ends", 2, None)?);
        let (is_of_channels, step) = (matches!(one("axes", 3, Some(0))?, 1 | -3), one("steps", 4, Some(1))?);
        // RGB to BGR, for networks trained with that order.
        let is_all = matches!(start, -1) || start >= channels - 1;
        if is_of_channels && step == -1 && is_all && end < -channels && shape.channels <= FEW_CHANNELS {
            return self.reversed(x, shape);
        }
        let (start, end) = (at(start), at(end));
        if !is_of_channels || step != 1 || start >= end {
            return Err(Reason::Form("it is not one of neighbouring channels"));
        }
        self.step(Op::Slice(start as usize), vec![x], Shape { channels: (end - start) as usize, ..shape })
    }

    /// The channels in reversed order.
    fn reversed(&self, x: &'a str, shape: Shape) -> Found<'a> {
        let channels = shape.channels;
        let mut weights = vec![0.0; channels * channels];
        (0..channels).for_each(|output| weights[output * channels + channels - 1 - output] = 1.0);
        self.step(Op::Conv(Box::new(Conv::of_pixels(false, weights, vec![0.0; channels]))), vec![x], shape)
    }

    fn split(&self) -> Found<'a> {
        self.only(&["axis", "split", "num_outputs"])?;
        let (x, shape) = self.image(0)?;
        if !matches!(self.int("axis", 0)?, 1 | -3) {
            return Err(Reason::Attribute("axis"));
        }
        let parts = self.proto.output.len();
        let sizes = match self.ints_or_input("split", 1)? {
            Some(sizes) => sizes.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect(),
            None if shape.channels.is_multiple_of(parts) => vec![shape.channels / parts; parts],
            None => return Err(Reason::Form("its parts are not all of one size")),
        };
        let sum = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        if sizes.len() != parts || sizes.contains(&0) || sum != Some(shape.channels) {
            return Err(Reason::Form("its parts are not the channels of its input"));
        }
        let mut start = 0;
        let steps = sizes.into_iter().map(|channels| {
            let step = Step {
                op: Op::Slice(start),
                inputs: vec![x],
                shape: Shape { channels, ..shape },
                kind: Kind::Float,
            };
            start += channels;
            step
        });
        Ok(Meaning::Steps(steps.collect()))
    }

    // Arithmetic

    fn binary(&self, op: Binary) -> Found<'a> {
        self.only(&[])?;
        let [_, _] = &self.proto.input[..] else { return Err(Reason::Form("it has not two inputs")) };
        match (self.image(0), self.image(1)) {
            (Ok(a), Ok(b)) => self.of_two_images(op, a, b),
            (Ok((x, shape)), Err(_)) => {
                self.fits(1)?;
                self.with_constant(op, x, shape, 1)
            }
            (Err(_), Ok((x, shape))) => {
                self.fits(0)?;
                self.with_constant(op, x, shape, 0)
            }
            (Err(reason), Err(_)) => Err(reason),
        }
    }

    /// Refuses a constant whose broadcasting would enlarge the image.
    fn fits(&self, index: usize) -> Result<(), Reason> {
        let (_, value) = self.input(index)?;
        let shape = value.shape().unwrap_or_default();
        let (_, Shape { height, width, channels }) = self.image(1 - index)?;
        let sides = [width, height, channels, 1];
        let fits = shape.iter().rev().zip(sides).all(|(side, of_image)| *side == 1 || *side == of_image);
        if fits && shape.len() <= sides.len() { Ok(()) } else { Err(Reason::Differs(index)) }
    }

    fn of_two_images(&self, op: Binary, (a, of_a): (&'a str, Shape), (b, of_b): (&'a str, Shape)) -> Found<'a> {
        let gates = |gate: Shape, image: Shape| {
            (gate.height, gate.width) == (1, 1) && gate.channels == image.channels && gate != image
        };
        match op {
            Binary::Add if of_a == of_b => self.step(Op::Add(Activation::NONE), vec![a, b], of_a),
            Binary::Mul if of_a == of_b => self.step(Op::Mul, vec![a, b], of_a),
            Binary::Mul if gates(of_b, of_a) => self.step(Op::Gate, vec![a, b], of_a),
            Binary::Mul if gates(of_a, of_b) => self.step(Op::Gate, vec![b, a], of_b),
            Binary::Add | Binary::Mul => Err(Reason::Form("its images are of two shapes")),
            _ => Err(Reason::Form("both its inputs are images")),
        }
    }

    /// With the constant input `index`: one number, or one per channel.
    fn with_constant(&self, op: Binary, x: &'a str, shape: Shape, index: usize) -> Found<'a> {
        match self.scalar(index) {
            Ok(number) => {
                let activation = match op {
                    Binary::Max => Activation::Clamp { low: number, high: HIGH },
                    Binary::Min => Activation::Clamp { low: LOW, high: number },
                    _ => {
                        let (scale, offset) = op.line(number, index)?;
                        Activation::Affine { scale, offset, low: LOW, high: HIGH }
                    }
                };
                self.step(Op::Unary(activation), vec![x], shape)
            }
            Err(Reason::Differs(_)) => {
                let Array { shape: sides, values } = self.floats(index)?;
                let is_by_channel =
                    values.len() == shape.channels && sides.len() >= 3 && sides[sides.len() - 3] == shape.channels;
                if !is_by_channel {
                    return Err(Reason::Differs(index));
                }
                let lines = values.into_iter().map(|number| op.line(number, index));
                let (scale, offset) = lines.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
                self.by_channel(x, shape, scale, offset)
            }
            Err(reason) => Err(reason),
        }
    }

    /// `x * scale[channel] + offset[channel]`.
    fn by_channel(&self, x: &'a str, shape: Shape, scale: Vec<f32>, offset: Vec<f32>) -> Found<'a> {
        self.step(Op::Conv(Box::new(Conv::of_pixels(shape.channels > 1, scale, offset))), vec![x], shape)
    }

    // Activations

    fn activation(&self, attributes: &[&str], activation: Activation) -> Found<'a> {
        self.only(attributes)?;
        let (x, shape) = self.image(0)?;
        self.step(Op::Unary(activation), vec![x], shape)
    }

    fn identity(&self) -> Found<'a> {
        match self.input(0)? {
            (_, Value::Stored(stored)) => Ok(Meaning::Constant(Value::Stored(stored))),
            _ => self.activation(&[], Activation::NONE),
        }
    }

    fn clip(&self) -> Found<'a> {
        self.only(&["min", "max"])?;
        let (x, shape) = self.image(0)?;
        let bound = |index: usize, attribute: &'static str, none: f32| {
            if self.has_input(index) { self.scalar(index) } else { self.float(attribute, none) }
        };
        let (low, high) = (bound(1, "min", LOW)?, bound(2, "max", HIGH)?);
        self.step(Op::Unary(Activation::Clamp { low, high }), vec![x], shape)
    }

    // Quantisation

    /// The scale and the zero point as the engine stores it: signed bytes are stored as unsigned ones, 128 higher.
    fn grid(&self) -> Result<Quant, Reason> {
        let scale = self.scalar(1)?;
        if !(scale > 0.0 && scale.recip().is_finite()) {
            return Err(Reason::Form("its scale is not a positive number"));
        }
        if !self.has_input(2) {
            return Ok(Quant { scale, zero: 0, low: 0, high: 255 });
        }
        let zero = match self.input(2)?.1.stored() {
            Some(Stored::U8(zero)) if zero.len() == 1 => i32::from(zero[0]),
            Some(Stored::I8(zero)) if zero.len() == 1 => i32::from(zero[0]) + 128,
            _ => return Err(Reason::Form("its zero point is not one byte")),
        };
        Ok(Quant { scale, zero, low: 0, high: 255 })
    }

    fn quantize(&self) -> Found<'a> {
        self.only(&["axis", "saturate"])?;
        let (x, shape) = self.image(0)?;
        self.stored(Op::Quantize { low: LOW, high: HIGH }, vec![x], shape, Kind::Byte(self.grid()?))
    }

    fn dequantize(&self) -> Found<'a> {
        self.only(&["axis"])?;
        let (name, value) = self.input(0)?;
        let stored = match value {
            Value::Image(shape, Kind::Byte(quant)) => {
                if !self.grid()?.same_scale(*quant) {
                    return Err(Reason::Form("its scale or zero point is not that of its bytes"));
                }
                return self.step(Op::Dequantize, vec![name], *shape);
            }
            Value::Stored(stored) => *stored,
            _ => return Err(Reason::NoImage(0)),
        };
        let shape = tensor::shape(stored);
        let &[outputs, ..] = &shape[..] else { return Err(Reason::Form("its weights have no channels")) };
        let scales = self.floats(1)?.values;
        let by_output = scales.len() == outputs && (outputs == 1 || self.int("axis", 1)? == 0);
        if !by_output || outputs == 0 || scales.iter().any(|scale| !(scale.is_finite() && *scale > 0.0)) {
            return Err(Reason::Form("its scales are not one for each output channel"));
        }
        let no_shift = !self.has_input(2)
            || match self.input(2)?.1.stored() {
                Some(Stored::I8(zeros)) => zeros.iter().all(|zero| *zero == 0),
                Some(Stored::I32(zeros)) => zeros.iter().all(|zero| *zero == 0),
                _ => false,
            };
        if !no_shift {
            return Err(Reason::Form("the zero point of its weights is not 0"));
        }
        let constant = match tensor::values(stored) {
            Some(Stored::I8(weights)) => Value::Quantised(shape, Int8 { weights, scales }),
            Some(Stored::I32(sums)) => {
                let rows = sums.chunks((sums.len() / outputs).max(1)).zip(&scales);
                let values = rows.flat_map(|(row, scale)| row.iter().map(move |sum| *sum as f32 * scale)).collect();
                Value::Floats(Array { shape, values })
            }
            _ => return Err(Reason::Form("its weights are neither int8 nor int32")),
        };
        Ok(Meaning::Constant(constant))
    }
}

/// The shape, unless a map of it is empty or too large.
pub(super) fn checked(shape: Shape) -> Result<Shape, Reason> {
    let Shape { height, width, channels } = shape;
    let numbers = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
    match numbers {
        Some(numbers) if (1..=MAX_NUMBERS).contains(&numbers) => Ok(shape),
        _ => Err(Reason::Size),
    }
}
