//! One input, each value for itself: activation functions, rounding, casts.

use crate::model::pb::DataType;
use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{
    abs, add, ceil, cos, div, erf, exp, floor, ln, max, min, mul, neg, recip, round_half_to_even, sign, sin, sqrt,
    sub, tanh,
};
use tract_core::ops::nn::silu::silu;
use tract_core::ops::nn::{hard_swish, leaky_relu as leaky, sigmoid};

use super::Node;

/// What tract has an operator for.
pub(super) fn unary(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let op: ElementWiseOp = match node.operator() {
        "Abs" => abs(),
        "Ceil" => ceil(),
        "Cos" => cos(),
        "Erf" => erf(),
        "Exp" => exp(),
        "Floor" => floor(),
        "HardSwish" => hard_swish(),
        "Log" => ln(),
        "Neg" => neg(),
        "Reciprocal" => recip(),
        "Round" => round_half_to_even(),
        "Sigmoid" => sigmoid(),
        "Sign" => sign(),
        "Sin" => sin(),
        "Sqrt" => sqrt(),
        "Swish" => silu(),
        "Tanh" => tanh(),
        other => bail!("{other} is no element-wise operator"),
    };
    let x = node.input(0)?;
    let kind = node.datum_type(x)?;
    let integers = matches!(node.operator(), "Abs" | "Neg" | "Sign") && kind.is_signed();
    ensure!(kind.is_float() || integers, "it takes floats, not {kind:?}");
    if node.operator() == "Swish" {
        ensure!(node.float("alpha", 1.0)? == 1.0, "only an alpha of 1 is supported");
    }
    node.wire(op, &[x])
}

fn float_input(node: &Node<'_>) -> TractResult<OutletId> {
    let x = node.input(0)?;
    let kind = node.datum_type(x)?;
    ensure!(kind.is_float(), "it takes floats, not {kind:?}");
    Ok(x)
}

pub(super) fn relu(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let zero = node.scalar_like(0.0, x)?;
    node.wire(max(), &[x, zero])
}

pub(super) fn leaky_relu(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let alpha = node.float("alpha", 0.01)?;
    node.wire(leaky(alpha), &[x])
}

/// max(x, 0) + slope · min(x, 0), the slope for each channel.
pub(super) fn p_relu(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let slope = node.input(1)?;
    ensure!(node.datum_type(slope)? == node.datum_type(x)?, "the slope has another type");
    let rank = node.rank(x)?;
    let slope = node.with_rank(slope, rank)?;
    ensure!(node.rank(slope)? == rank, "the slope has more dimensions than the input");
    let zero = node.scalar_like(0.0, x)?;
    let above = node.wire_one(max(), &[x, zero])?;
    let below = node.wire_one(min(), &[x, zero])?;
    let below = node.wire_one(mul(), &[below, slope])?;
    node.wire(add(), &[above, below])
}

/// x above 0, alpha · (eˣ − 1) below.
pub(super) fn elu(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let alpha = node.float("alpha", 1.0)?;
    let (zero, one, alpha) = (node.scalar_like(0.0, x)?, node.scalar_like(1.0, x)?, node.scalar_like(alpha, x)?);
    let above = node.wire_one(max(), &[x, zero])?;
    let below = node.wire_one(min(), &[x, zero])?;
    let below = node.wire_one(exp(), &[below])?;
    let below = node.wire_one(sub(), &[below, one])?;
    let below = node.wire_one(mul(), &[below, alpha])?;
    node.wire(add(), &[above, below])
}

/// max(0, min(1, alpha · x + beta)).
pub(super) fn hard_sigmoid(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let (alpha, beta) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
    let (alpha, beta) = (node.scalar_like(alpha, x)?, node.scalar_like(beta, x)?);
    let (zero, one) = (node.scalar_like(0.0, x)?, node.scalar_like(1.0, x)?);
    let y = node.wire_one(mul(), &[alpha, x])?;
    let y = node.wire_one(add(), &[beta, y])?;
    let y = node.wire_one(min(), &[one, y])?;
    node.wire(max(), &[zero, y])
}

/// ln(1 + eˣ), written so that large x do not overflow: max(x, 0) + ln(1 + e^−|x|).
fn softplus_of(node: &mut Node<'_>, x: OutletId) -> TractResult<OutletId> {
    let (zero, one) = (node.scalar_like(0.0, x)?, node.scalar_like(1.0, x)?);
    let above = node.wire_one(max(), &[x, zero])?;
    let size = node.wire_one(abs(), &[x])?;
    let small = node.wire_one(neg(), &[size])?;
    let small = node.wire_one(exp(), &[small])?;
    let small = node.wire_one(add(), &[small, one])?;
    let small = node.wire_one(ln(), &[small])?;
    node.wire_one(add(), &[above, small])
}

pub(super) fn softplus(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    softplus_of(node, x).map(|y| tvec!(y))
}

/// x · tanh(softplus(x)).
pub(super) fn mish(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let y = softplus_of(node, x)?;
    let y = node.wire_one(tanh(), &[y])?;
    node.wire(mul(), &[x, y])
}

/// x · Φ(x), exactly, or by the usual approximation with tanh.
pub(super) fn gelu(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = float_input(node)?;
    let (one, half) = (node.scalar_like(1.0, x)?, node.scalar_like(0.5, x)?);
    let y = match node.text("approximate", "none")? {
        "none" => {
            let root = node.scalar_like(std::f32::consts::SQRT_2, x)?;
            let y = node.wire_one(div(), &[x, root])?;
            node.wire_one(erf(), &[y])?
        }
        "tanh" => {
            // tanh(√(2/π) · (x + 0.044715 · x³))
            let (cubic, scale) = (node.scalar_like(0.044_715, x)?, node.scalar_like(0.797_884_6, x)?);
            let square = node.wire_one(mul(), &[x, x])?;
            let y = node.wire_one(mul(), &[square, x])?;
            let y = node.wire_one(mul(), &[y, cubic])?;
            let y = node.wire_one(add(), &[x, y])?;
            let y = node.wire_one(mul(), &[y, scale])?;
            node.wire_one(tanh(), &[y])?
        }
        other => bail!("the approximation {other:?} is unknown"),
    };
    let y = node.wire_one(add(), &[y, one])?;
    let y = node.wire_one(mul(), &[y, x])?;
    node.wire(mul(), &[y, half])
}

/// The bounds are attributes in operator sets before 11, inputs after, and each may be left out.
pub(super) fn clip(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let mut x = node.input(0)?;
    let kind = node.datum_type(x)?;
    let bound = |node: &mut Node<'_>, name: &str, index: usize, none: f32| -> TractResult<Option<OutletId>> {
        if node.opset < 11 {
            let value = node.float(name, none)?;
            return if value == none { Ok(None) } else { node.scalar_like(value, x).map(Some) };
        }
        let Some(bound) = node.optional(index) else { return Ok(None) };
        let volume: usize = node.shape(bound)?.iter().product();
        ensure!(volume == 1 && node.rank(bound)? <= 1, "a bound must be one number");
        ensure!(node.datum_type(bound)? == kind, "a bound has another type than the input");
        let rank = node.rank(x)?;
        if node.rank(bound)? > rank {
            bail!("a bound has more dimensions than the input")
        }
        node.with_rank(bound, rank).map(Some)
    };
    let (low, high) = (bound(node, "min", 1, f32::MIN)?, bound(node, "max", 2, f32::MAX)?);
    if let Some(low) = low {
        x = node.wire_one(max(), &[x, low])?;
    }
    if let Some(high) = high {
        x = node.wire_one(min(), &[x, high])?;
    }
    Ok(tvec!(x))
}

pub(super) fn cast(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let kind = i32::try_from(node.int("to", 0)?)?;
    let to = match DataType::try_from(kind) {
        // Half precision is for storage; the arithmetic is in single precision throughout.
        Ok(DataType::Float | DataType::Float16) => f32::datum_type(),
        Ok(DataType::Double) => f64::datum_type(),
        Ok(DataType::Int64) => i64::datum_type(),
        Ok(DataType::Int32) => i32::datum_type(),
        Ok(DataType::Int8) => i8::datum_type(),
        Ok(DataType::Uint8) => u8::datum_type(),
        Ok(DataType::Bool) => bool::datum_type(),
        Ok(other) => bail!("casts to {other:?} are not supported"),
        Err(_) => bail!("there is no data type {kind}"),
    };
    node.cast(x, to).map(|y| tvec!(y))
}
