//! Parts of tensors.

use tract_core::internal::*;
use tract_core::ops::Downsample;
use tract_core::ops::array::{Gather, GatherElements, Slice};
use tract_core::ops::math::{max, min};

use super::Node;

/// From start to end by steps, on some axes. Positions count from the end where they are negative and may lie beyond it.
pub(super) fn slice(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let mut x = node.input(0)?;
    let shape = node.shape(x)?;
    let starts = node.ints_or_input("starts", 1)?.context("the starts are missing")?;
    let ends = node.ints_or_input("ends", 2)?.context("the ends are missing")?;
    let axes = node.ints_or_input("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match node.optional(4) {
        Some(steps) => node.constant_ints(steps, "the steps")?,
        None => vec![1; starts.len()],
    };
    ensure!(
        [ends.len(), axes.len(), steps.len()] == [starts.len(); 3],
        "there are {} starts, {} ends, {} axes and {} steps",
        starts.len(),
        ends.len(),
        axes.len(),
        steps.len()
    );
    node.axes(&axes, shape.len())?;
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = node.axis(axis, shape.len())?;
        let side = shape[axis] as i64;
        let from_end = |position: i64| if position < 0 { position + side } else { position };
        ensure!(step != 0, "a step of 0 has no end");
        if step > 0 {
            let start = from_end(start).clamp(0, side);
            let end = from_end(end).clamp(start, side);
            if (start, end) != (0, side) {
                x = node.wire_one(Slice::new(axis, start as usize, end as usize), &[x])?;
            }
            if step > 1 {
                x = node.wire_one(Downsample { axis, stride: step as isize, modulo: 0 }, &[x])?;
            }
        } else {
            let (first, last) = (from_end(start).clamp(-1, side - 1), from_end(end).clamp(-1, side - 1));
            let mut positions = Vec::new();
            let mut position = first;
            while position > last {
                positions.push(position);
                position += step;
            }
            let positions = node.add_const(tensor1(&positions))?;
            x = node.wire_one(Gather::new(axis), &[x, positions])?;
        }
    }
    Ok(tvec!(x))
}

/// Into parts along one axis: of given lengths, or equal but for the last.
pub(super) fn split(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let shape = node.shape(x)?;
    let axis = node.axis(node.int("axis", 0)?, shape.len())?;
    let parts = node.outputs();
    ensure!(parts >= 1, "there are no parts");
    let lengths = match node.ints_or_input("split", 1)? {
        Some(lengths) => lengths,
        None => {
            let length = shape[axis].div_ceil(parts);
            (0..parts).map(|part| shape[axis].saturating_sub(part * length).min(length) as i64).collect()
        }
    };
    let fits = lengths.len() == parts && lengths.iter().all(|length| *length >= 0);
    ensure!(
        fits && lengths.iter().sum::<i64>() == shape[axis] as i64,
        "{lengths:?} do not add up to {}",
        shape[axis]
    );
    let mut start = 0;
    let mut wired = tvec!();
    for length in lengths {
        let end = start + length as usize;
        wired.push(node.wire_one(Slice::new(axis, start, end), &[x])?);
        start = end;
    }
    Ok(wired)
}

/// Positions as `i64` within `-side..side`. The network may have computed them, so what is outside is moved to the edge
/// before it is used: constants outside are an error.
fn positions(node: &mut Node<'_>, positions: OutletId, side: usize) -> TractResult<OutletId> {
    let kind = node.datum_type(positions)?;
    ensure!(kind.is_integer(), "positions must be whole numbers, not {kind:?}");
    let range = -(side as i64)..side as i64;
    ensure!(!range.is_empty(), "there is nothing to choose from");
    if node.constant(positions)?.is_some() {
        let values = node.constant_ints(positions, "positions")?;
        ensure!(values.iter().all(|value| range.contains(value)), "a position is outside of {range:?}");
        return node.cast(positions, i64::datum_type());
    }
    let positions = node.cast(positions, i64::datum_type())?;
    let bound = |node: &mut Node<'_>, value: i64| {
        let rank = node.rank(positions)?;
        node.add_const(tensor0(value).broadcast_into_rank(rank)?)
    };
    let (low, high) = (bound(node, range.start)?, bound(node, range.end - 1)?);
    let positions = node.wire_one(max(), &[positions, low])?;
    node.wire_one(min(), &[positions, high])
}

pub(super) fn gather(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, chosen) = (node.input(0)?, node.input(1)?);
    let shape = node.shape(x)?;
    let axis = node.axis(node.int("axis", 0)?, shape.len())?;
    let chosen = positions(node, chosen, shape[axis])?;
    // One side of a shape, which every grid begins with, is not worth the compiling of tract's Gather.
    if let (Some(sides), Some(place)) = (node.constant(x)?, node.constant(chosen)?)
        && sides.datum_type() == i64::datum_type()
        && (sides.rank(), place.rank()) == (1, 0)
    {
        let place = node.axis(node.constant_ints(chosen, "the position")?[0], sides.len())?;
        let side = sides.try_as_plain_ram()?.as_slice::<i64>()?[place];
        return node.add_const(tensor0(side)).map(|side| tvec!(side));
    }
    node.wire(Gather::new(axis), &[x, chosen])
}

pub(super) fn gather_elements(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, chosen) = (node.input(0)?, node.input(1)?);
    let (shape, positions_shape) = (node.shape(x)?, node.shape(chosen)?);
    let axis = node.axis(node.int("axis", 0)?, shape.len())?;
    let same = |a: usize| a == axis || positions_shape[a] <= shape[a];
    ensure!(shape.len() == positions_shape.len() && (0..shape.len()).all(same), "the positions have another shape");
    let chosen = positions(node, chosen, shape[axis])?;
    node.wire(GatherElements::new(axis), &[x, chosen])
}
