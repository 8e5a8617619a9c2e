//! tract's graph → the engine's regions.
//!
//! The graph is read as tract builds it from the file, before it is decluttered: decluttering turns 1×1 convolutions into
//! matrix products and moves axes about, which makes the same network harder to recognise.

use std::collections::HashMap;

use tract_core::internal::*;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv as TractConv, KernelFormat, MaxPool, PoolSpec};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math;
use tract_core::ops::nn::{DataFormat, HardSwish, LeakyRelu, Reduce, Reducer, Sigmoid, Silu};
use tract_core::ops::quant::{DequantizeLinearF32, QuantizeLinearI8, QuantizeLinearU8};

use super::net::{Conv, Id, Kind, Net, Node, Op, Quant, Shape, Weights};
use super::simd::Activation;
use super::simd::pool::PoolWindow;

/// A part of the graph that the engine can run, with nothing of tract's between its nodes.
#[derive(Debug)]
pub(super) struct Region {
    pub net: Net,
    /// Outlets of the graph that it reads, in the order of [`Op::Input`].
    pub inputs: Vec<OutletId>,
    /// Outlets that it replaces, in the order of [`Net::outputs`].
    pub outputs: Vec<OutletId>,
}

/// What one node of the graph means, before it is known whether it will be taken.
struct Found {
    op: Op,
    /// The variable inputs.
    inputs: Vec<OutletId>,
    kind: Kind,
    /// Convolutions and pools are worth a change of layout; the others come along with them.
    heavy: bool,
}

/// Finds the regions of a graph.
pub(super) fn regions(model: &TypedModel) -> TractResult<Vec<Region>> {
    let order = model.eval_order()?;
    let mut found: HashMap<usize, Found> = HashMap::new();
    for &id in &order {
        if let Some(f) = recognise(model, id)? {
            found.insert(id, f);
        }
    }
    keep_what_pays(model, &order, &mut found);

    // Between two nodes of a region no path may lead through a node outside it. Counting how often a path has left the
    // taken nodes gives levels with just that property.
    let mut level: HashMap<usize, usize> = HashMap::new();
    let mut by_level: Vec<Vec<usize>> = Vec::new();
    for &id in &order {
        let taken = found.contains_key(&id);
        let above = model.node(id).inputs.iter().map(|input| {
            let from = level.get(&input.node).copied().unwrap_or(0);
            from + usize::from(!taken && found.contains_key(&input.node))
        });
        let own = above.max().unwrap_or(0);
        level.insert(id, own);
        if taken {
            by_level.resize_with(by_level.len().max(own + 1), Vec::new);
            by_level[own].push(id);
        }
    }
    by_level.iter().filter(|nodes| !nodes.is_empty()).map(|nodes| region(model, nodes, &mut found)).collect()
}

/// Drops nodes that would only be carried into the engine's layout and back, and quantised tensors that something else
/// reads, until nothing changes.
fn keep_what_pays(model: &TypedModel, order: &[usize], found: &mut HashMap<usize, Found>) {
    loop {
        let mut drop = Vec::new();
        // Behind a convolution, or leading into one through taken nodes alone.
        let mut behind: HashMap<usize, bool> = HashMap::new();
        for id in order {
            let Some(f) = found.get(id) else { continue };
            let is = f.heavy || f.inputs.iter().any(|input| behind.get(&input.node).copied().unwrap_or(false));
            behind.insert(*id, is);
        }
        let mut before: HashMap<usize, bool> = HashMap::new();
        for id in order.iter().rev() {
            let Some(f) = found.get(id) else { continue };
            let successors = &model.node(*id).outputs[0].successors;
            let leads = !successors.is_empty()
                && successors.iter().all(|s| before.get(&s.node).copied().unwrap_or(false))
                && !model.outputs.iter().any(|output| output.node == *id);
            before.insert(*id, f.heavy || leads);
        }
        for id in order {
            let Some(f) = found.get(id) else { continue };
            let outlet = &model.node(*id).outputs[0];
            let pays = f.heavy || behind[id] || before[id];
            let whole = match f.op {
                Op::Quantize { .. } => {
                    !model.outputs.iter().any(|output| output.node == *id)
                        && outlet.successors.iter().all(|s| {
                            found.get(&s.node).is_some_and(|successor| matches!(successor.op, Op::Dequantize))
                        })
                }
                Op::Dequantize => {
                    f.inputs.iter().all(|i| found.get(&i.node).is_some_and(|i| matches!(i.op, Op::Quantize { .. })))
                }
                _ => true,
            };
            if !(pays && whole) {
                drop.push(*id);
            }
        }
        if drop.is_empty() {
            return;
        }
        drop.iter().for_each(|id| {
            found.remove(id);
        });
    }
}

/// Builds the region of the nodes in `ids`, which are in evaluation order.
fn region(model: &TypedModel, ids: &[usize], found: &mut HashMap<usize, Found>) -> TractResult<Region> {
    let mut region = Region { net: Net::default(), inputs: Vec::new(), outputs: Vec::new() };
    let mut nodes: HashMap<OutletId, Id> = HashMap::new();
    for id in ids {
        let Some(f) = found.remove(id) else { continue };
        let mut inputs = Vec::with_capacity(f.inputs.len());
        for outlet in &f.inputs {
            let known = nodes.get(outlet).copied();
            inputs.push(match known {
                Some(node) => node,
                None => {
                    let node = region.net.nodes.len();
                    region.net.nodes.push(Node {
                        name: model.node(outlet.node).name.clone(),
                        op: Op::Input(region.inputs.len()),
                        inputs: Vec::new(),
                        shape: shape_of(model, *outlet)?.unwrap_or(Shape { height: 0, width: 0, channels: 0 }),
                        kind: Kind::Float,
                    });
                    region.inputs.push(*outlet);
                    nodes.insert(*outlet, node);
                    node
                }
            });
        }
        let outlet = OutletId::new(*id, 0);
        nodes.insert(outlet, region.net.nodes.len());
        region.net.nodes.push(Node {
            name: model.node(*id).name.clone(),
            op: f.op,
            inputs,
            shape: shape_of(model, outlet)?.unwrap_or(Shape { height: 0, width: 0, channels: 0 }),
            kind: f.kind,
        });
    }
    for id in ids {
        let outlet = OutletId::new(*id, 0);
        let Some(node) = nodes.get(&outlet) else { continue };
        let outside = model.node(*id).outputs[0].successors.iter().any(|s| !ids.contains(&s.node));
        if outside || model.outputs.contains(&outlet) {
            region.outputs.push(outlet);
            region.net.outputs.push(*node);
        }
    }
    Ok(region)
}

/// The image that an outlet carries: `[1, channels, height, width]`, all known and none zero.
fn shape_of(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Shape>> {
    let shape = &model.outlet_fact(outlet)?.shape;
    Ok(match shape.as_concrete() {
        Some(&[1, channels, height, width]) if channels * height * width > 0 => {
            Some(Shape { height, width, channels })
        }
        _ => None,
    })
}

/// An image of floats.
fn float_image(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Shape>> {
    let fact = model.outlet_fact(outlet)?;
    if fact.datum_type != f32::datum_type() || fact.konst.is_some() {
        return Ok(None);
    }
    shape_of(model, outlet)
}

/// The constant that an outlet is, looking through a cast that changes nothing.
fn constant(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
    let fact = model.outlet_fact(outlet)?;
    if fact.konst.is_some() {
        return Ok(fact.konst.clone());
    }
    let node = model.node(outlet.node);
    if let Some(cast) = node.op_as::<Cast>() {
        let inner = model.outlet_fact(node.inputs[0])?;
        if inner.datum_type == cast.to {
            return constant(model, node.inputs[0]);
        }
    }
    Ok(None)
}

/// What a tensor of floats holds.
pub(crate) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    tensor.as_plain_ram()?.as_slice::<f32>().ok()
}

/// The one float that a tensor consists of.
pub(crate) fn uniform(tensor: &Tensor) -> Option<f32> {
    let (first, rest) = floats(tensor)?.split_first()?;
    rest.iter().all(|value| value == first).then_some(*first)
}

/// The one float that an outlet is, if it is a constant with the same value everywhere.
fn scalar(model: &TypedModel, outlet: OutletId) -> TractResult<Option<f32>> {
    let Some(tensor) = constant(model, outlet)? else { return Ok(None) };
    Ok(uniform(&tensor))
}

/// What a node means to the engine, if anything.
fn recognise(model: &TypedModel, id: usize) -> TractResult<Option<Found>> {
    let node = model.node(id);
    if node.outputs.len() != 1 || node.inputs.is_empty() {
        return Ok(None);
    }
    let outlet = OutletId::new(id, 0);
    let Some(shape) = shape_of(model, outlet)? else { return Ok(None) };
    let dt = node.outputs[0].fact.datum_type;
    let op: &dyn TypedOp = &*node.op;
    let light =
        |op, inputs: &[OutletId]| Ok(Some(Found { op, inputs: inputs.to_vec(), kind: Kind::Float, heavy: false }));
    let heavy =
        |op, inputs: &[OutletId]| Ok(Some(Found { op, inputs: inputs.to_vec(), kind: Kind::Float, heavy: true }));
    if let Some(ew) = op.downcast_ref::<ElementWiseOp>()
        && (ew.0.is::<QuantizeLinearU8>() || ew.0.is::<QuantizeLinearI8>())
    {
        return quantize(model, id, ew);
    }
    if dt != f32::datum_type() {
        return Ok(None);
    }
    if let Some(op) = op.downcast_ref::<DequantizeLinearF32>() {
        let input = model.outlet_fact(node.inputs[0])?.datum_type;
        let known = (input == u8::datum_type() || input == i8::datum_type()) && op.scale > 0.0;
        return if known { light(Op::Dequantize, &node.inputs) } else { Ok(None) };
    }
    let Some(input) = float_image(model, node.inputs[0])? else {
        // A sum or product may have its constant first.
        return if op.is::<TypedBinOp>() { binary(model, id) } else { Ok(None) };
    };
    if let Some(op) = op.downcast_ref::<TractConv>() {
        return match convolution(model, id, op, input)? {
            Some(conv) => heavy(Op::Conv(Box::new(conv)), &node.inputs[..1]),
            None => Ok(None),
        };
    }
    if op.is::<TypedBinOp>() {
        return binary(model, id);
    }
    if let Some(ew) = op.downcast_ref::<ElementWiseOp>() {
        let third = 1.0 / 6.0;
        let activation = if ew.1.is_some() {
            None
        } else if ew.0.is::<Sigmoid>() {
            Some(Activation::Sigmoid)
        } else if ew.0.is::<Silu>() {
            Some(Activation::Silu)
        } else if ew.0.is::<math::Exp>() {
            Some(Activation::Exp { low: f32::NEG_INFINITY, high: f32::INFINITY })
        } else if ew.0.is::<HardSwish>() {
            Some(Activation::Gated { scale: third, offset: 0.5, low: 0.0, high: 1.0 })
        } else {
            ew.0.downcast_ref::<LeakyRelu>().map(|leaky| Activation::Leaky { slope: leaky.alpha })
        };
        return match activation {
            Some(activation) => light(Op::Unary(activation), &node.inputs),
            None => Ok(None),
        };
    }
    if let Some(op) = op.downcast_ref::<MaxPool>() {
        if op.with_index_outputs.is_some() {
            return Ok(None);
        }
        return match pool(&op.pool_spec, input, shape) {
            Some(window) => heavy(Op::MaxPool(window), &node.inputs),
            None => Ok(None),
        };
    }
    if let Some(op) = op.downcast_ref::<Reduce>() {
        // The sum of all pixels; the division that makes it a mean is another node.
        let sum = op.reducer == Reducer::Sum && op.axes[..] == [2, 3];
        return if sum && mean_after(model, id, input)? { light(Op::Mean, &node.inputs) } else { Ok(None) };
    }
    if let Some(op) = op.downcast_ref::<TypedConcat>() {
        let images = node.inputs.iter().map(|input| float_image(model, *input)).collect::<TractResult<Vec<_>>>()?;
        return if op.axis == 1 && images.iter().all(Option::is_some) {
            light(Op::Concat, &node.inputs)
        } else {
            Ok(None)
        };
    }
    if let Some(op) = op.downcast_ref::<Slice>() {
        return match op.start.to_usize() {
            Ok(start) if op.axis == 1 => light(Op::Slice(start), &node.inputs),
            _ => Ok(None),
        };
    }
    if op.name() == "Resize"
        && let Some(op) = doubled(model, id, input, shape)?
    {
        return heavy(op, &node.inputs[..1]);
    }
    Ok(None)
}

/// Whether the sum over all pixels is only ever divided by their number.
fn mean_after(model: &TypedModel, id: usize, input: Shape) -> TractResult<bool> {
    let outlet = &model.node(id).outputs[0];
    if model.outputs.iter().any(|output| output.node == id) || outlet.successors.is_empty() {
        return Ok(false);
    }
    for successor in &outlet.successors {
        let node = model.node(successor.node);
        let divides = node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<math::Div>()) && successor.slot == 0;
        if !divides || scalar(model, node.inputs[1])? != Some((input.height * input.width) as f32) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A node of two inputs: an activation's part, a sum, a product, a gate, or the division that ends a mean.
fn binary(model: &TypedModel, id: usize) -> TractResult<Option<Found>> {
    let node = model.node(id);
    let Some(TypedBinOp(op, None)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    let &[a, b] = &node.inputs[..] else { return Ok(None) };
    let found =
        |op, inputs: &[OutletId]| Ok(Some(Found { op, inputs: inputs.to_vec(), kind: Kind::Float, heavy: false }));
    let shape = shape_of(model, OutletId::new(id, 0))?;
    let (float_a, float_b) = (float_image(model, a)?, float_image(model, b)?);
    let (add, mul) = (op.is::<math::Add>(), op.is::<math::Mul>());
    match (float_a, float_b) {
        (Some(sa), Some(sb)) if sa == sb && Some(sa) == shape => {
            if add {
                found(Op::Add(Activation::NONE), &[a, b])
            } else if mul {
                found(Op::Mul, &[a, b])
            } else {
                Ok(None)
            }
        }
        (Some(sa), Some(sb)) if mul => {
            let one_a_channel = |gate: Shape, image: Shape| {
                (gate.height, gate.width) == (1, 1) && gate.channels == image.channels && Some(image) == shape
            };
            if one_a_channel(sb, sa) {
                found(Op::Gate, &[a, b])
            } else if one_a_channel(sa, sb) {
                found(Op::Gate, &[b, a])
            } else {
                Ok(None)
            }
        }
        (Some(image), None) | (None, Some(image)) if Some(image) == shape => {
            let (variable, other, first) = if float_a.is_some() { (a, b, true) } else { (b, a, false) };
            let Some(c) = scalar(model, other)? else { return Ok(None) };
            let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
            let line = |scale, offset| Op::Unary(Activation::Affine { scale, offset, low, high });
            let op = if op.is::<math::Max>() {
                Op::Unary(Activation::Clamp { low: c, high })
            } else if op.is::<math::Min>() {
                Op::Unary(Activation::Clamp { low, high: c })
            } else if add {
                line(1.0, c)
            } else if mul {
                line(c, 0.0)
            } else if op.is::<math::Sub>() {
                if first { line(1.0, -c) } else { line(-1.0, c) }
            } else if op.is::<math::Div>() && first && c != 0.0 {
                let sum = model.node(variable.node);
                let ends_mean = match sum.op_as::<Reduce>() {
                    Some(_) => match float_image(model, sum.inputs[0])? {
                        Some(input) => mean_after(model, sum.id, input)?,
                        None => false,
                    },
                    None => false,
                };
                // The mean is taken where the sum was.
                if ends_mean { Op::Unary(Activation::NONE) } else { line(1.0 / c, 0.0) }
            } else {
                return Ok(None);
            };
            found(op, &[variable])
        }
        _ => Ok(None),
    }
}

fn quantize(model: &TypedModel, id: usize, op: &ElementWiseOp) -> TractResult<Option<Found>> {
    let node = model.node(id);
    if op.1.is_some() || float_image(model, node.inputs[0])?.is_none() {
        return Ok(None);
    }
    // Signed bytes are kept as unsigned ones, 128 higher.
    let (inverse, zero, shift) = if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
        (op.scale, i32::from(op.zero_point), 0)
    } else if let Some(op) = op.0.downcast_ref::<QuantizeLinearI8>() {
        (op.scale, i32::from(op.zero_point), 128)
    } else {
        return Ok(None);
    };
    if !(inverse > 0.0 && inverse.is_finite()) {
        return Ok(None);
    }
    // tract keeps one over the scale; the DequantizeLinear behind has the scale itself.
    let mut scale = 1.0 / inverse;
    for successor in &node.outputs[0].successors {
        if let Some(op) = model.node(successor.node).op_as::<DequantizeLinearF32>() {
            if op.zero_point != zero || (op.scale * inverse - 1.0).abs() > 1e-5 {
                return Ok(None);
            }
            scale = op.scale;
        }
    }
    let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
    Ok(Some(Found {
        op: Op::Quantize { low, high },
        inputs: vec![node.inputs[0]],
        kind: Kind::Byte(Quant { scale, zero: zero + shift, low: 0, high: 255 }),
        heavy: false,
    }))
}

fn convolution(model: &TypedModel, id: usize, op: &TractConv, input: Shape) -> TractResult<Option<Conv>> {
    let node = model.node(id);
    let spec = &op.pool_spec;
    let known = op.q_params.is_none()
        && op.kernel_fmt == KernelFormat::OIHW
        && spec.data_format == DataFormat::NCHW
        && node.inputs.len() == 3;
    let (Some(weights), Some(bias)) =
        (constant(model, node.inputs[1])?, if known { constant(model, node.inputs[2])? } else { None })
    else {
        return Ok(None);
    };
    let (&[outputs, inputs, rows, columns], Some(values), Some(bias)) =
        (weights.shape(), floats(&weights), floats(&bias))
    else {
        return Ok(None);
    };
    let depthwise = op.group == outputs && inputs == 1 && input.channels == outputs && op.group > 1;
    let dense = op.group == 1 && inputs == input.channels;
    if !(depthwise || dense) || spec.kernel_shape[..] != [rows, columns] || rows * columns == 0 {
        return Ok(None);
    }
    let bias = match bias.len() {
        1 => vec![bias[0]; outputs],
        n if n == outputs => bias.to_vec(),
        _ => return Ok(None),
    };
    let padding = spec.computed_padding(&[input.height, input.width]);
    Ok(Some(Conv {
        kernel: (rows, columns),
        stride: (spec.stride(0), spec.stride(1)),
        dilation: (spec.dilation(0), spec.dilation(1)),
        pad: (padding[0].pad_before, padding[1].pad_before),
        depthwise,
        weights: Weights::Floats(values.to_vec()),
        bias,
        activation: Activation::NONE,
        int8: None,
    }))
}

/// A max-pool whose every window holds at least a pixel.
fn pool(spec: &PoolSpec, input: Shape, output: Shape) -> Option<PoolWindow> {
    if spec.data_format != DataFormat::NCHW || spec.dilations().iter().any(|d| *d != 1) {
        return None;
    }
    let padding = spec.computed_padding(&[input.height, input.width]);
    let window = PoolWindow {
        kernel: (spec.kernel_shape[0], spec.kernel_shape[1]),
        stride: (spec.stride(0), spec.stride(1)),
        pad: (padding[0].pad_before, padding[1].pad_before),
    };
    let last = |out: usize, stride: usize, pad: usize, length: usize| (out - 1) * stride < length + pad;
    let whole = window.pad.0 < window.kernel.0
        && window.pad.1 < window.kernel.1
        && last(output.height, window.stride.0, window.pad.0, input.height)
        && last(output.width, window.stride.1, window.pad.1, input.width);
    whole.then_some(window)
}

/// What a Resize does to a map, if it doubles its sides in a way that the engine knows. Its modes are many; asking it about
/// one picture says it all.
fn doubled(model: &TypedModel, id: usize, input: Shape, output: Shape) -> TractResult<Option<Op>> {
    /// Pixels of the picture at most, so that their numbers are exact in floats.
    const MOST: usize = 1 << 22;
    let Shape { height, width, channels } = input;
    if output != (Shape { height: 2 * height, width: 2 * width, channels }) || height * width > MOST {
        return Ok(None);
    }
    let node = model.node(id);
    let mut others: TVec<TValue> = TVec::new();
    for other in &node.inputs[1..] {
        let Some(tensor) = constant(model, *other)? else { return Ok(None) };
        others.push(tensor.into_tvalue());
    }
    // Each pixel another number (an odd factor gives each another rest), and no slopes that one formula would follow as
    // well as another.
    let picture: Vec<f32> = (0..height * width).map(|i| ((i * 2_654_435) % MOST) as f32).collect();
    let repeated = |y: usize, x: usize| picture[y / 2 * width + x / 2];
    let mixed = |y: usize, x: usize| {
        let beside = |at: usize, length: usize| match at % 2 {
            0 => (at / 2).saturating_sub(1),
            _ => (at / 2 + 1).min(length - 1),
        };
        let row = |y: usize| 0.75 * picture[y * width + x / 2] + 0.25 * picture[y * width + beside(x, width)];
        0.75 * row(y / 2) + 0.25 * row(beside(y, height))
    };
    let ask = |channels: usize| -> TractResult<Option<Op>> {
        let numbers = Tensor::from_shape(&[1, channels, height, width], &picture.repeat(channels))?;
        let mut inputs: TVec<TValue> = TVec::from_iter([numbers.into_tvalue()]);
        inputs.extend(others.iter().cloned());
        let Ok(Some(outputs)) = node.op.eval_out_of_plan(inputs) else { return Ok(None) };
        let Some(result) = floats(&outputs[0]).filter(|result| result.len() == 4 * channels * height * width)
        else {
            return Ok(None);
        };
        // Another order of sums may round a few of the largest numbers otherwise.
        let is = |expected: &dyn Fn(usize, usize) -> f32, off: f32| {
            result
                .iter()
                .enumerate()
                .all(|(i, value)| (value - expected(i / (2 * width) % (2 * height), i % (2 * width))).abs() <= off)
        };
        Ok(if is(&repeated, 0.0) {
            Some(Op::Upsample)
        } else if is(&mixed, 4.0) {
            Some(Op::Bilinear)
        } else {
            None
        })
    };
    // One channel says it of all, in a fraction of the time, where the enlargement is given by its factors. Sizes name
    // the channels as well.
    Ok(match ask(1)? {
        None => ask(channels)?,
        found => found,
    })
}
