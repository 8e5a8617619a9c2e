//! Checks the inputs of a node while the network runs, where tract would panic: indices out of bounds, reductions over
//! no values, scores that are NaN and must be sorted, integer division by zero, integer powers that overflow, and shifts
//! by at least the number of bits.
//!
//! `check` has checked what is known before the network runs. For `Gather` and `GatherElements`, extra nodes clamp the
//! indices, see `partition`.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::{GatherElements, GatherNd, OneHot, ScatterElements, ScatterNd};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::nn::{GridSample, Reduce, Reducer};

use super::integers::{powers_fit, range};

/// The largest position in a `GridSample`, where 1 is the edge of the picture. tract counts pixels in 32 bits.
const MAX_PLACE: f32 = 1e4;

/// Checks the inputs of a node and returns them. Negative indices are converted to count from the front, as tract
/// expects.
///
/// # Errors
///
/// If indices are out of bounds, if shapes do not fit together, if a reduction has no values, if a NaN must be sorted, if
/// an integer is divided by zero, or if an integer power or shift exceeds its type.
pub(super) fn inputs(node: &TypedNode, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
    if let Some(op) = node.op_as::<GatherElements>() {
        let [data, at] = &inputs[..] else { return Ok(inputs) };
        other_axes(op.axis, data.shape(), at.shape())?;
    } else if let Some(op) = node.op_as::<ScatterElements>() {
        let [data, at, updates] = &inputs[..] else { return Ok(inputs) };
        other_axes(op.axis, data.shape(), at.shape())?;
        if at.shape() != updates.shape() {
            return Err(misfit(at.shape(), updates.shape()));
        }
        counted_from_front(at, &data.shape()[op.axis..=op.axis])?;
    } else if let Some(op) = node.op_as::<GatherNd>() {
        let [data, at] = &inputs[..] else { return Ok(inputs) };
        inputs[1] = nested(op.batch_dims, data.shape(), at)?;
    } else if node.op_is::<ScatterNd>() {
        let [data, at, updates] = &inputs[..] else { return Ok(inputs) };
        let places = nested(0, data.shape(), at)?;
        let outer = at.rank() - 1;
        let expected = [&at.shape()[..outer], &data.shape()[at.shape()[outer]..]].concat();
        if updates.shape() != expected {
            return Err(misfit(&expected, updates.shape()));
        }
        inputs[1] = places;
    } else if let Some(op) = node.op_as::<OneHot>() {
        counted_from_front(&inputs[0], &[op.dim])?;
    } else if node.op_is::<GridSample>() {
        let [_, grid] = &inputs[..] else { return Ok(inputs) };
        let places = grid.cast_to::<f32>()?;
        if !places.try_as_plain_ram()?.as_slice::<f32>()?.iter().all(|place| place.abs() <= MAX_PLACE) {
            return Err(TractError::msg("its grid has places far beyond its input"));
        }
    } else if let Some(op) = node.op_as::<Reduce>() {
        let [data] = &inputs[..] else { return Ok(inputs) };
        let is_sum = matches!(op.reducer, Reducer::Sum | Reducer::MeanOfSquares);
        if is_sum && op.axes.iter().any(|axis| data.shape().get(*axis) == Some(&0)) {
            return Err(TractError::msg(format!("{:?} has no values to sum", data.shape())));
        }
    } else if let Some(op) = node.op_as::<TypedBinOp>() {
        let [first, second] = &inputs[..] else { return Ok(inputs) };
        match op.0.name() {
            "Div" | "Rem" if has_whole_zero(second)? => {
                return Err(TractError::msg("it divides a whole number by zero"));
            }
            "Pow" => power(first, second)?,
            "ShiftLeft" | "ShiftRight" => shift(first, second)?,
            _ => (),
        }
    } else if matches!(&*node.op().name(), "Topk" | "NonMaxSuppression") {
        for input in inputs.iter().filter(|input| input.datum_type().is_float()) {
            let numbers = input.cast_to::<f32>()?;
            if numbers.try_as_plain_ram()?.as_slice::<f32>()?.iter().any(|number| number.is_nan()) {
                return Err(TractError::msg("it sorts numbers of which one is NaN"));
            }
        }
    }
    Ok(inputs)
}

/// Checks powers of integers. Both inputs have one type.
fn power(base: &TValue, exponent: &TValue) -> TractResult<()> {
    let Some((least, most)) = range(base.datum_type()) else { return Ok(()) };
    let (base, exponent) = (base.cast_to::<i64>()?, exponent.cast_to::<i64>()?);
    let bases = (base.shape(), base.try_as_plain_ram()?.as_slice()?);
    let exponents = (exponent.shape(), exponent.try_as_plain_ram()?.as_slice()?);
    if powers_fit(bases, exponents, least, most) {
        Ok(())
    } else {
        Err(TractError::msg("a power of whole numbers is beyond their type"))
    }
}

/// Checks shifts: ONNX does not define shifts by at least the number of bits.
fn shift(values: &TValue, by: &TValue) -> TractResult<()> {
    let bits = 8 * values.datum_type().size_of() as i64;
    let by = by.cast_to::<i64>()?;
    if by.try_as_plain_ram()?.as_slice::<i64>()?.iter().all(|by| (0..bits).contains(by)) {
        Ok(())
    } else {
        Err(TractError::msg("it shifts by more bits than there are"))
    }
}

/// Whether one of the values is the integer zero. Floats may be divided by zero.
fn has_whole_zero(values: &TValue) -> TractResult<bool> {
    if values.datum_type() == TDim::datum_type() {
        return Ok(values.try_as_plain_ram()?.as_slice::<TDim>()?.contains(&TDim::Val(0)));
    }
    if !values.datum_type().is_integer() {
        return Ok(false);
    }
    Ok(values.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.contains(&0))
}

/// Checks that the indices are not larger than the data along the other axes, where both are read at the same
/// positions.
fn other_axes(axis: usize, data: &[usize], at: &[usize]) -> TractResult<()> {
    let is_within = |(number, (at, side)): (usize, (&usize, &usize))| at <= side || number == axis;
    let fits = data.len() == at.len() && axis < data.len() && at.iter().zip(data).enumerate().all(is_within);
    if fits { Ok(()) } else { Err(misfit(data, at)) }
}

/// Converts indices of several numbers each to count from the front.
fn nested(batch: usize, data: &[usize], at: &TValue) -> TractResult<TValue> {
    let Some((&count, outer)) = at.shape().split_last() else { return Err(misfit(data, &[])) };
    let sides = batch.checked_add(count).and_then(|end| data.get(batch..end));
    match sides {
        Some(sides) if count > 0 && outer.starts_with(&data[..batch]) => {
            Ok(counted_from_front(at, sides)?.into_tvalue())
        }
        _ => Err(misfit(data, at.shape())),
    }
}

/// Converts indices, each with one number per element of `sides`, to count from the front. Negative numbers count from
/// the end.
fn counted_from_front(at: &TValue, sides: &[usize]) -> TractResult<Tensor> {
    let mut places = at.cast_to::<i64>()?.into_owned();
    for place in places.try_as_plain_ram_mut()?.as_slice_mut::<i64>()?.chunks_mut(sides.len()) {
        for (at, side) in place.iter_mut().zip(sides) {
            let side = *side as i64;
            if !(-side..side).contains(at) {
                return Err(TractError::msg(format!("place {at} is beyond an axis of {side}")));
            }
            *at = at.rem_euclid(side);
        }
    }
    Ok(places)
}

fn misfit(data: &[usize], other: &[usize]) -> TractError {
    TractError::msg(format!("{data:?} and {other:?} do not go together"))
}
