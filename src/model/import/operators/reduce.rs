//! Many values to one: sums, maxima, means, and what is made of them.

use tract_core::internal::*;
use tract_core::ops::math::{add, div, mul, rsqrt, sub};
use tract_core::ops::nn::{Reduce, Reducer, Softmax};

use super::Node;

/// The mean over `axes`, which stay as sides of 1: a sum, and the division by how many there are.
fn mean(node: &mut Node<'_>, x: OutletId, axes: TVec<usize>) -> TractResult<OutletId> {
    let shape = node.shape(x)?;
    let count: usize = axes.iter().map(|axis| shape[*axis]).product();
    let sum = node.wire_one(Reduce { axes, reducer: Reducer::Sum }, &[x])?;
    let count = node.scalar_like(count as f32, sum)?;
    node.wire_one(div(), &[sum, count])
}

fn check_input(node: &Node<'_>, x: OutletId) -> TractResult<TVec<usize>> {
    let kind = node.datum_type(x)?;
    ensure!(matches!(kind, DatumType::F32 | DatumType::I64 | DatumType::I32), "it does not take {kind:?}");
    let shape = node.shape(x)?;
    ensure!(!shape.contains(&0), "the input is empty");
    Ok(shape)
}

fn without_axes(node: &mut Node<'_>, mut x: OutletId, axes: TVec<usize>) -> TractResult<OutletId> {
    for axis in axes.into_iter().rev() {
        x = node.wire_one(AxisOp::Rm(axis), &[x])?;
    }
    Ok(x)
}

pub(super) fn reduce(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let shape = check_input(node, x)?;
    let axes = node.ints_or_input("axes", 1)?.unwrap_or_default();
    let axes = if !axes.is_empty() {
        node.axes(&axes, shape.len())?
    } else if node.flag("noop_with_empty_axes", false)? {
        return Ok(tvec!(x));
    } else {
        (0..shape.len()).collect()
    };
    let reducer = match node.operator() {
        "ReduceMax" => Some(Reducer::Max),
        "ReduceMin" => Some(Reducer::Min),
        "ReduceProd" => Some(Reducer::Prod),
        "ReduceSum" => Some(Reducer::Sum),
        _ => None,
    };
    let y = match reducer {
        Some(reducer) => node.wire_one(Reduce { axes: axes.clone(), reducer }, &[x])?,
        None => {
            node.expect_f32(x)?;
            mean(node, x, axes.clone())?
        }
    };
    if node.flag("keepdims", true)? { Ok(tvec!(y)) } else { without_axes(node, y, axes).map(|y| tvec!(y)) }
}

pub(super) fn arg(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let shape = check_input(node, x)?;
    let axis = node.axis(node.int("axis", 0)?, shape.len())?;
    let last = node.flag("select_last_index", false)?;
    let reducer = if node.operator() == "ArgMax" { Reducer::ArgMax(last) } else { Reducer::ArgMin(last) };
    let y = node.wire_one(Reduce { axes: tvec!(axis), reducer }, &[x])?;
    if node.flag("keepdims", true)? { Ok(tvec!(y)) } else { without_axes(node, y, tvec!(axis)).map(|y| tvec!(y)) }
}

pub(super) fn global_pool(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    let shape = check_input(node, x)?;
    ensure!(shape.len() >= 3, "there are no pixels in {:?}", &shape[..]);
    let axes: TVec<usize> = (2..shape.len()).collect();
    let y = if node.operator() == "GlobalMaxPool" {
        node.wire_one(Reduce { axes, reducer: Reducer::Max }, &[x])?
    } else {
        mean(node, x, axes)?
    };
    Ok(tvec!(y))
}

/// Over one axis; before operator set 13 over all from that axis on.
pub(super) fn softmax(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    let shape = check_input(node, x)?;
    let axes = if node.opset < 13 {
        (node.axis(node.int("axis", 1)?, shape.len())?..shape.len()).collect()
    } else {
        tvec!(node.axis(node.int("axis", -1)?, shape.len())?)
    };
    node.wire(Softmax { axes, ..Softmax::default() }, &[x])
}

/// Mean 0 and variance 1 over the last axes, then scale and bias.
pub(super) fn layer_normalization(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, scale) = (node.input(0)?, node.input(1)?);
    node.expect_f32(x)?;
    node.expect_f32(scale)?;
    let shape = check_input(node, x)?;
    let axes: TVec<usize> = (node.axis(node.int("axis", -1)?, shape.len())?..shape.len()).collect();
    let epsilon = node.float("epsilon", 1e-5)?;
    let centre = mean(node, x, axes.clone())?;
    let off = node.wire_one(sub(), &[x, centre])?;
    let square = node.wire_one(mul(), &[off, off])?;
    let variance = mean(node, square, axes)?;
    let epsilon = node.scalar_like(epsilon, variance)?;
    let variance = node.wire_one(add(), &[variance, epsilon])?;
    let factor = node.wire_one(rsqrt(), &[variance])?;
    let y = node.wire_one(mul(), &[off, factor])?;
    let rank = shape.len();
    let scale = node.with_rank(scale, rank)?;
    ensure!(node.rank(scale)? == rank, "the scale has more dimensions than the input");
    let mut y = node.wire_one(mul(), &[y, scale])?;
    if let Some(bias) = node.optional(2) {
        node.expect_f32(bias)?;
        let bias = node.with_rank(bias, rank)?;
        ensure!(node.rank(bias)? == rank, "the bias has more dimensions than the input");
        y = node.wire_one(add(), &[y, bias])?;
    }
    Ok(tvec!(y))
}
