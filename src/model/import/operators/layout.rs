//! Shapes and where values lie; nothing is computed here. Also the operators that make tensors out of nothing.

use tract_core::internal::*;
use tract_core::ops::array::{MultiBroadcastTo, Pad, PadMode, Tile, TypedConcat};
use tract_core::ops::change_axes::{perm_to_ops, to_axis_ops_with_onnx_rules};

use super::Node;
use crate::model::import::node::{check_size, converted};

pub(super) fn identity(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    ensure!(node.outputs() == 1, "a mask is asked for");
    node.input(0).map(|x| tvec!(x))
}

pub(super) fn constant(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let value = if let Some(tensor) = node.tensor("value")? {
        tensor
    } else if let Some(ints) = node.ints("value_ints")? {
        tensor1(ints)
    } else if let Some(floats) = node.floats("value_floats")? {
        tensor1(floats)
    } else {
        // Of the two scalars the one that differs from its default is there; both 0 is 0 either way but for the type.
        match node.int("value_int", i64::MIN)? {
            i64::MIN => tensor0(node.float("value_float", 0.0)?),
            int => tensor0(int),
        }
    };
    node.add_const(value).map(|y| tvec!(y))
}

pub(super) fn constant_of_shape(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let shape = node.input(0)?;
    let shape = sizes(&node.constant_ints(shape, "the shape")?)?;
    let value = node.tensor("value")?.unwrap_or_else(|| tensor1(&[0f32]));
    ensure!(value.len() == 1, "the value must be one number");
    check_size(&shape, value.datum_type())?;
    let value = value.into_shape(&[])?.broadcast_scalar_to_shape(&shape)?;
    node.add_const(value).map(|y| tvec!(y))
}

fn sizes(values: &[i64]) -> TractResult<TVec<usize>> {
    ensure!(values.iter().all(|&value| value >= 0), "{values:?} are no sizes");
    Ok(values.iter().map(|&value| value as usize).collect())
}

pub(super) fn range(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (start, limit, delta) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let kind = node.datum_type(start)?;
    let one = |node: &Node<'_>, outlet, what| -> TractResult<f64> {
        let tensor = node.constant(outlet)?.with_context(|| format!("{what} must be constant"))?;
        ensure!(tensor.len() == 1 && tensor.datum_type() == kind, "{what} must be one number of the same type");
        Ok(converted(&tensor, f64::datum_type())?.try_as_plain_ram()?.as_slice::<f64>()?[0])
    };
    let (start, limit, delta) =
        (one(node, start, "start")?, one(node, limit, "limit")?, one(node, delta, "delta")?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    ensure!(delta != 0.0 && count.is_finite(), "a range from {start} to {limit} by {delta} has no end");
    check_size(&[count as usize], f64::datum_type())?;
    let values: Vec<f64> = (0..count as usize).map(|i| start + i as f64 * delta).collect();
    let values = converted(&tensor1(&values), kind)?.into_owned();
    node.add_const(values).map(|y| tvec!(y))
}

pub(super) fn shape(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let shape = node.shape(x)?;
    let rank = shape.len() as i64;
    let position = |position: i64| {
        (if position < 0 { position.saturating_add(rank) } else { position }).clamp(0, rank) as usize
    };
    let (start, end) = (position(node.int("start", 0)?), position(node.int("end", rank)?));
    let sides: Vec<i64> = shape[start..end.max(start)].iter().map(|&side| side as i64).collect();
    node.add_const(tensor1(&sides)).map(|y| tvec!(y))
}

pub(super) fn size(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let size: usize = node.shape(x)?.iter().product();
    node.add_const(tensor0(size as i64)).map(|y| tvec!(y))
}

/// To a shape in which 0 copies a side and one -1 is what is left.
pub(super) fn reshape(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, target) = (node.input(0)?, node.input(1)?);
    let from = node.shape(x)?;
    let copies_zero = !node.flag("allowzero", false)?;
    let mut target = node.constant_ints(target, "the shape")?;
    for (axis, side) in target.iter_mut().enumerate().filter(|(_, side)| copies_zero && **side == 0) {
        *side = *from.get(axis).with_context(|| format!("there is no side {axis} to copy"))? as i64;
    }
    let volume: usize = from.iter().product();
    let mut known = target.iter().filter(|side| **side != -1);
    let known = known.try_fold(1usize, |volume, &side| volume.checked_mul(usize::try_from(side).ok()?));
    if let Some(open) = target.iter().position(|side| *side == -1) {
        let known = known.filter(|known| *known > 0 && volume.is_multiple_of(*known));
        target[open] =
            known.map(|known| (volume / known) as i64).with_context(|| format!("no side fits into {target:?}"))?;
    }
    into_shape(node, x, &sizes(&target)?)
}

fn into_shape(node: &mut Node<'_>, x: OutletId, shape: &[usize]) -> TractResult<TVec<OutletId>> {
    let from = node.shape(x)?;
    let volume = |shape: &[usize]| shape.iter().try_fold(1usize, |volume, &side| volume.checked_mul(side));
    ensure!(volume(&from) == volume(shape), "{:?} values do not fit into {shape:?}", &from[..]);
    let dims = |shape: &[usize]| shape.iter().map(|side| side.to_dim()).collect::<TVec<TDim>>();
    let mut y = x;
    for op in to_axis_ops_with_onnx_rules(&dims(&from), &dims(shape), true)? {
        y = node.wire_one(op, &[y])?;
    }
    Ok(tvec!(y))
}

pub(super) fn flatten(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let shape = node.shape(x)?;
    let rank = shape.len() as i64;
    let axis = node.int("axis", 1)?;
    ensure!((-rank..=rank).contains(&axis), "there is no axis {axis} in {rank} dimensions");
    let (rows, columns) = shape.split_at(if axis < 0 { axis + rank } else { axis } as usize);
    into_shape(node, x, &[rows.iter().product(), columns.iter().product()])
}

pub(super) fn squeeze(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let mut x = node.input(0)?;
    let shape = node.shape(x)?;
    let axes = match node.ints_or_input("axes", 1)? {
        Some(axes) => node.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    for axis in axes.into_iter().rev() {
        ensure!(shape[axis] == 1, "axis {axis} has {} places; only one of 1 can go", shape[axis]);
        x = node.wire_one(AxisOp::Rm(axis), &[x])?;
    }
    Ok(tvec!(x))
}

pub(super) fn unsqueeze(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let mut x = node.input(0)?;
    let axes = node.ints_or_input("axes", 1)?.context("the axes are missing")?;
    let rank = node.rank(x)? + axes.len();
    ensure!(rank <= 8, "{rank} dimensions are too many");
    for axis in node.axes(&axes, rank)? {
        x = node.wire_one(AxisOp::Add(axis), &[x])?;
    }
    Ok(tvec!(x))
}

pub(super) fn transpose(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let rank = node.rank(x)?;
    let order = match node.ints("perm")? {
        Some(order) => {
            ensure!(order.len() == rank, "{} axes are named; the input has {rank}", order.len());
            node.axes(order, rank)?;
            order.iter().map(|&axis| node.axis(axis, rank)).collect::<TractResult<TVec<_>>>()?
        }
        None => (0..rank).rev().collect(),
    };
    permute(node, x, &order).map(|y| tvec!(y))
}

fn permute(node: &mut Node<'_>, mut x: OutletId, order: &[usize]) -> TractResult<OutletId> {
    for op in perm_to_ops(order) {
        x = node.wire_one(op, &[x])?;
    }
    Ok(x)
}

pub(super) fn concat(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let inputs = node.all_inputs()?;
    let first = node.shape(inputs[0])?;
    let kind = node.datum_type(inputs[0])?;
    let axis = node.axis(node.int("axis", i64::MIN)?, first.len())?;
    for input in &inputs {
        let shape = node.shape(*input)?;
        let others = |shape: &[usize]| {
            shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, s)| *s).collect::<Vec<_>>()
        };
        ensure!(shape.len() == first.len() && others(&shape) == others(&first), "the sides differ");
        ensure!(node.datum_type(*input)? == kind, "the types differ");
    }
    if let [only] = inputs[..] {
        return Ok(tvec!(only));
    }
    node.wire(TypedConcat { axis }, &inputs)
}

pub(super) fn expand(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, target) = (node.input(0)?, node.input(1)?);
    let target = sizes(&node.constant_ints(target, "the shape")?)?;
    let from = node.shape(x)?;
    let shape = tract_core::broadcast::multi_broadcast(&[&from[..], &target[..]])?;
    check_size(&shape, node.datum_type(x)?)?;
    let x = node.with_rank(x, shape.len())?;
    node.wire(MultiBroadcastTo { shape: ShapeFact::from_dims(shape.iter().map(|side| side.to_dim())) }, &[x])
}

pub(super) fn tile(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, repeats) = (node.input(0)?, node.input(1)?);
    let repeats = sizes(&node.constant_ints(repeats, "the repeats")?)?;
    let shape = node.shape(x)?;
    ensure!(repeats.len() == shape.len(), "{} repeats are given for {} dimensions", repeats.len(), shape.len());
    let sides = shape.iter().zip(&repeats).map(|(side, times)| side.checked_mul(*times));
    let sides: Vec<usize> = sides.collect::<Option<_>>().context("the result is too large")?;
    check_size(&sides, node.datum_type(x)?)?;
    node.wire(Tile { multipliers: repeats.iter().map(|times| times.to_dim()).collect() }, &[x])
}

pub(super) fn pad(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    let shape = node.shape(x)?;
    ensure!(node.optional(3).is_none(), "padding of chosen axes is not supported");
    let pads = sizes(&node.ints_or_input("pads", 1)?.context("the pads are missing")?)?;
    ensure!(pads.len() == 2 * shape.len(), "{} pads are given for {} dimensions", pads.len(), shape.len());
    let pads: Vec<(usize, usize)> = (0..shape.len()).map(|axis| (pads[axis], pads[axis + shape.len()])).collect();
    let sides: Vec<usize> = shape.iter().zip(&pads).map(|(side, (before, after))| side + before + after).collect();
    check_size(&sides, f32::datum_type())?;
    let mode = match node.text("mode", "constant")? {
        "constant" => {
            let value = match node.optional(2) {
                Some(value) => {
                    node.constant_f32(value, "the value")?.first().copied().context("the value is empty")?
                }
                None => node.float("value", 0.0)?,
            };
            PadMode::Constant(rctensor0(value))
        }
        mode @ ("reflect" | "edge") => {
            let fits = shape.iter().zip(&pads).all(|(side, (before, after))| before.max(after) < side);
            ensure!(fits, "the pads {pads:?} are larger than the input");
            if mode == "reflect" { PadMode::Reflect } else { PadMode::Edge }
        }
        other => bail!("the mode {other:?} is not supported"),
    };
    node.wire(Pad { pads, mode }, &[x])
}

/// Channels become pixels: `[N, C·b², H, W]` → `[N, C, H·b, W·b]`.
pub(super) fn depth_to_space(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, [n, c, h, w], b) = blocks(node)?;
    ensure!(c % (b * b) == 0, "{c} channels are no multiple of {b} squared");
    let deep = c / (b * b);
    let (split, order) = match node.text("mode", "DCR")? {
        "DCR" => ([n, b, b, deep, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, deep, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => bail!("the mode {other:?} is unknown"),
    };
    let y = into_shape(node, x, &split)?[0];
    let y = permute(node, y, &order)?;
    into_shape(node, y, &[n, deep, h * b, w * b])
}

/// Pixels become channels: `[N, C, H·b, W·b]` → `[N, C·b², H, W]`.
pub(super) fn space_to_depth(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, [n, c, h, w], b) = blocks(node)?;
    ensure!(h % b == 0 && w % b == 0, "{h} x {w} px cannot be cut into blocks of {b}");
    let y = into_shape(node, x, &[n, c, h / b, b, w / b, b])?[0];
    let y = permute(node, y, &[0, 3, 5, 1, 2, 4])?;
    into_shape(node, y, &[n, c * b * b, h / b, w / b])
}

fn blocks(node: &Node<'_>) -> TractResult<(OutletId, [usize; 4], usize)> {
    let x = node.input(0)?;
    let shape = node.shape(x)?;
    let &[n, c, h, w] = &shape[..] else { bail!("it takes four dimensions") };
    let block = usize::try_from(node.int("blocksize", 0)?).ok().filter(|block| (1..=64).contains(block));
    Ok((x, [n, c, h, w], block.context("blocksize must be from 1 to 64")?))
}
