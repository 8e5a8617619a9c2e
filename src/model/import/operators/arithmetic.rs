//! Two inputs and more, broadcast against each other; matrix products.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::logic::{Iff, and, comp_eq, comp_gt, comp_gte, comp_lt, comp_lte, not as negate, or};
use tract_core::ops::math::{add, div, max, min, mul, pow as power, rem, sub};

use super::Node;
use crate::model::import::node::{check_size, converted};

/// Two inputs of one type and one rank.
fn operands(node: &mut Node<'_>) -> TractResult<(OutletId, OutletId, DatumType)> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (kind, other) = (node.datum_type(a)?, node.datum_type(b)?);
    ensure!(kind == other, "one input is {kind:?}, the other {other:?}");
    let both = node.same_rank(&[a, b])?;
    Ok((both[0], both[1], kind))
}

pub(super) fn binary(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (a, b, kind) = operands(node)?;
    ensure!(kind.is_float() || kind.is_integer(), "it takes numbers, not {kind:?}");
    if kind.is_integer() {
        if let (Some(a), Some(b)) = (node.constant(a)?, node.constant(b)?) {
            let folded = fold_integers(node.operator(), &a, &b)?;
            return node.add_const(converted(&folded, kind)?.into_owned()).map(|y| tvec!(y));
        }
        if matches!(node.operator(), "Div" | "Mod") {
            // Rounds towards zero in one, down in the other; the same for what is not negative. A divisor of zero
            // would end the program.
            let divisor = node.constant_ints(b, "the divisor")?;
            ensure!(divisor.iter().all(|&value| value > 0), "whole numbers can only be divided by positive ones");
        }
    }
    let op = match node.operator() {
        "Add" => add(),
        "Sub" => sub(),
        "Mul" => mul(),
        "Div" => div(),
        "Mod" if kind.is_integer() => {
            let y = node.wire_one(rem(), &[a, b])?;
            let y = node.wire_one(add(), &[y, b])?;
            return node.wire(rem(), &[y, b]);
        }
        "Mod" => {
            ensure!(node.flag("fmod", false)?, "Mod of floats needs fmod = 1");
            rem()
        }
        other => bail!("{other} is no arithmetic operator"),
    };
    node.wire(op, &[a, b])
}

/// Whole numbers are mostly sizes; a file can make them overflow, which must be an error.
fn fold_integers(operator: &str, a: &Tensor, b: &Tensor) -> TractResult<Tensor> {
    let shape = tract_core::broadcast::multi_broadcast(&[a.shape(), b.shape()])?;
    check_size(&shape, i64::datum_type())?;
    let expand = |tensor: &Tensor| -> TractResult<Vec<i64>> {
        let tensor = converted(tensor, i64::datum_type())?.broadcast_to_shape(&shape)?;
        Ok(tensor.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
    };
    let (a, b) = (expand(a)?, expand(b)?);
    let values = a.into_iter().zip(b).map(|(a, b)| match operator {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        // The result has the sign of the divisor.
        "Mod" => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        _ => None,
    });
    let values = values.collect::<Option<Vec<i64>>>().context("whole numbers overflow")?;
    Tensor::from_shape(&shape, &values)
}

/// One input or more, one after the other.
pub(super) fn nary(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let inputs = node.all_inputs()?;
    let kind = node.datum_type(inputs[0])?;
    for input in &inputs {
        let other = node.datum_type(*input)?;
        ensure!(other == kind, "one input is {kind:?}, another {other:?}");
    }
    let extremes = matches!(node.operator(), "Max" | "Min");
    ensure!(kind.is_float() || (extremes && kind.is_integer()), "it does not take {kind:?}");
    let op = match node.operator() {
        "Max" => max(),
        "Min" => min(),
        _ => add(),
    };
    let inputs = node.same_rank(&inputs)?;
    let mut y = inputs[0];
    for input in &inputs[1..] {
        y = node.wire_one(op.clone(), &[y, *input])?;
    }
    if node.operator() == "Mean" {
        let count = node.scalar_like(inputs.len() as f32, y)?;
        y = node.wire_one(div(), &[y, count])?;
    }
    Ok(tvec!(y))
}

/// Powers of floats; the exponent may be a whole number, which PyTorch likes to write.
pub(super) fn pow(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (base, exponent) = (node.input(0)?, node.input(1)?);
    let kind = node.datum_type(base)?;
    ensure!(kind.is_float(), "it takes powers of floats, not of {kind:?}");
    let exponent = node.cast(exponent, kind)?;
    let both = node.same_rank(&[base, exponent])?;
    node.wire(power(), &both)
}

pub(super) fn compare(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (a, b, _) = operands(node)?;
    let op = match node.operator() {
        "Equal" => comp_eq(),
        "Greater" => comp_gt(),
        "GreaterOrEqual" => comp_gte(),
        "Less" => comp_lt(),
        "LessOrEqual" => comp_lte(),
        other => bail!("{other} is no comparison"),
    };
    node.wire(TypedBinOp(op, None), &[a, b])
}

pub(super) fn logic(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (a, b, kind) = operands(node)?;
    ensure!(kind == bool::datum_type(), "it takes truth values, not {kind:?}");
    let op = if node.operator() == "And" { and() } else { or() };
    node.wire(op, &[a, b])
}

pub(super) fn not(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let kind = node.datum_type(x)?;
    ensure!(kind == bool::datum_type(), "it takes truth values, not {kind:?}");
    node.wire(negate(), &[x])
}

pub(super) fn choose(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (condition, a, b) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let kinds = (node.datum_type(condition)?, node.datum_type(a)?, node.datum_type(b)?);
    ensure!(kinds.0 == bool::datum_type() && kinds.1 == kinds.2, "the types {kinds:?} do not fit together");
    let inputs = node.same_rank(&[condition, a, b])?;
    node.wire(Iff, &inputs)
}

pub(super) fn mat_mul(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    product(node, a, b, false, false).map(|y| tvec!(y))
}

fn product(node: &mut Node<'_>, a: OutletId, b: OutletId, flip_a: bool, flip_b: bool) -> TractResult<OutletId> {
    node.expect_f32(a)?;
    node.expect_f32(b)?;
    ensure!(node.rank(a)? >= 2 && node.rank(b)? >= 2, "products of vectors are not supported");
    let both = node.same_rank(&[a, b])?;
    let (shape_a, shape_b) = (node.shape(both[0])?, node.shape(both[1])?);
    let rank = shape_a.len();
    let inner = (shape_a[rank - 1 - usize::from(flip_a)], shape_b[rank - 2 + usize::from(flip_b)]);
    ensure!(inner.0 == inner.1, "the inner sides are {} and {}", inner.0, inner.1);
    let axes = AxesMapping::for_numpy_matmul(rank, flip_a, flip_b, false)?;
    node.wire_one(EinSum::new(axes, f32::datum_type()), &both)
}

/// alpha · A · B + beta · C.
pub(super) fn gemm(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    ensure!(node.rank(a)? == 2 && node.rank(b)? == 2, "it takes matrices");
    let (flip_a, flip_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let mut y = product(node, a, b, flip_a, flip_b)?;
    if alpha != 1.0 {
        let alpha = node.scalar_like(alpha, y)?;
        y = node.wire_one(mul(), &[y, alpha])?;
    }
    if let Some(mut c) = node.optional(2) {
        node.expect_f32(c)?;
        c = node.with_rank(c, 2)?;
        ensure!(node.rank(c)? == 2, "C has more than two dimensions");
        if beta != 1.0 {
            let beta = node.scalar_like(beta, c)?;
            c = node.wire_one(mul(), &[c, beta])?;
        }
        y = node.wire_one(add(), &[y, c])?;
    }
    Ok(tvec!(y))
}

/// With its statistics fixed it is one factor and one summand for each channel.
pub(super) fn batch_normalization(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    ensure!(!node.flag("training_mode", false)?, "the statistics are not fixed (training_mode)");
    let shape = node.shape(x)?;
    ensure!(shape.len() >= 2, "the input has no channels");
    let channels = shape[1];
    let mut parameters = Vec::new();
    for (index, name) in ["scale", "bias", "mean", "variance"].into_iter().enumerate() {
        let outlet = node.input(index + 1)?;
        let values = node.constant_f32(outlet, name)?;
        ensure!(values.len() == channels, "there are {} values of {name} for {channels} channels", values.len());
        parameters.push(values);
    }
    let epsilon = node.float("epsilon", 1e-5)?;
    let [scale, bias, mean, variance] = &parameters[..] else { bail!("four parameters are needed") };
    let factor: Vec<f32> = scale.iter().zip(variance).map(|(scale, v)| scale / (v + epsilon).sqrt()).collect();
    let summand: Vec<f32> = bias.iter().zip(mean).zip(&factor).map(|((bias, mean), f)| bias - mean * f).collect();
    let mut side = tvec!(1; shape.len());
    side[1] = channels;
    let factor = node.add_const(Tensor::from_shape(&side, &factor)?)?;
    let summand = node.add_const(Tensor::from_shape(&side, &summand)?)?;
    let y = node.wire_one(mul(), &[x, factor])?;
    node.wire(add(), &[y, summand])
}
