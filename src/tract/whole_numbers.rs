//! Arithmetic of whole numbers as ONNX defines it: what is beyond the type wraps.
//!
//! tract adds, negates and sums with plain operators, which panic in builds with overflow checks. It also sums 64-bit
//! numbers in 32 bits. A power that overflows has no meaning in ONNX, and is an error.

use tract_onnx::prelude::tract_ndarray::{ArrayD, ArrayViewD, Axis, Zip};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::num_traits::{One, WrappingAdd, WrappingMul, WrappingNeg, WrappingSub, Zero};
use tract_onnx::tract_core::ops::array::CumSum;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

/// What a node computes that tract would let overflow.
enum Arithmetic<'n> {
    Sum,
    Difference,
    /// The first from the second.
    Subtracted,
    Product,
    Quotient,
    Remainder,
    Negative,
    Absolute,
    SumAlong(&'n [usize]),
    ProductAlong(&'n [usize]),
    Running(&'n CumSum),
}

trait Whole: Datum + Copy + PartialOrd + Zero + One + WrappingAdd + WrappingMul + WrappingNeg + WrappingSub {}

impl<T> Whole for T where
    T: Datum + Copy + PartialOrd + Zero + One + WrappingAdd + WrappingMul + WrappingNeg + WrappingSub
{
}

/// The output of such a node on whole numbers; `None` for any other node.
///
/// # Errors
///
/// Those of tract.
pub(super) fn eval(node: &TypedNode, inputs: &TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
    if let (Some(cast), [input]) = (node.op_as::<Cast>(), &inputs[..])
        && cast.to == TDim::datum_type()
        && (input.datum_type().is_float() || input.datum_type().is_integer())
    {
        return Ok(Some(tvec!(sizes(input)?.into_tvalue())));
    }
    let Some(arithmetic) = arithmetic(node) else { return Ok(None) };
    let Some(first) = inputs.first() else { return Ok(None) };
    if first.datum_type() == TDim::datum_type() {
        return wide(&arithmetic, inputs);
    }
    if inputs.iter().any(|input| input.datum_type() != first.datum_type()) {
        return Ok(None);
    }
    let output = match first.datum_type() {
        DatumType::I8 => compute::<i8>(&arithmetic, inputs),
        DatumType::I16 => compute::<i16>(&arithmetic, inputs),
        DatumType::I32 => compute::<i32>(&arithmetic, inputs),
        DatumType::I64 => compute::<i64>(&arithmetic, inputs),
        DatumType::U8 => compute::<u8>(&arithmetic, inputs),
        DatumType::U16 => compute::<u16>(&arithmetic, inputs),
        DatumType::U32 => compute::<u32>(&arithmetic, inputs),
        DatumType::U64 => compute::<u64>(&arithmetic, inputs),
        _ => return Ok(None),
    };
    Ok(output?.map(|output| tvec!(output.into_tvalue())))
}

/// What a node computes of 64-bit numbers that tract takes for sizes, which is what it makes of any that are cast. It
/// multiplies these by, and divides them for their remainder by, the last 32 bits of the other.
fn wide(arithmetic: &Arithmetic<'_>, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
    // Some may still stand for a size that is not known.
    let numbers = inputs.iter().map(|input| input.cast_to::<i64>().map(|input| input.into_owned().into_tvalue()));
    let Ok(numbers) = numbers.collect::<TractResult<Vec<_>>>() else { return Ok(None) };
    let output = match arithmetic {
        Arithmetic::Product => pairwise(&numbers, i64::wrapping_mul)?,
        // `runtime_check` has refused zeros; what is left is the least number by -1.
        Arithmetic::Quotient => pairwise(&numbers, |a: i64, b| a.checked_div(b).unwrap_or(a.wrapping_neg()))?,
        Arithmetic::Remainder => pairwise(&numbers, |a: i64, b| a.checked_rem(b).unwrap_or(0))?,
        other => match compute::<i64>(other, &numbers)? {
            Some(output) => output,
            None => return Ok(None),
        },
    };
    Ok(Some(tvec!(sizes(&output)?.into_tvalue())))
}

/// The numbers as tract keeps sizes. Its own cast to that type has 32 bits.
fn sizes(numbers: &Tensor) -> TractResult<Tensor> {
    let numbers = numbers.cast_to::<i64>()?;
    Ok(numbers.to_plain_array_view::<i64>()?.mapv(TDim::Val).into_tensor())
}

fn arithmetic(node: &TypedNode) -> Option<Arithmetic<'_>> {
    if let Some(TypedBinOp(op, None)) = node.op_as::<TypedBinOp>() {
        return match op.name() {
            "Add" => Some(Arithmetic::Sum),
            "Sub" => Some(Arithmetic::Difference),
            "SubF" => Some(Arithmetic::Subtracted),
            "Mul" => Some(Arithmetic::Product),
            "Div" => Some(Arithmetic::Quotient),
            "Rem" => Some(Arithmetic::Remainder),
            _ => None,
        };
    }
    if let Some(ElementWiseOp(op, None)) = node.op_as::<ElementWiseOp>() {
        return match &*op.name() {
            "Neg" => Some(Arithmetic::Negative),
            "Abs" => Some(Arithmetic::Absolute),
            _ => None,
        };
    }
    if let Some(Reduce { axes, reducer }) = node.op_as::<Reduce>() {
        return match reducer {
            Reducer::Sum => Some(Arithmetic::SumAlong(axes)),
            Reducer::Prod => Some(Arithmetic::ProductAlong(axes)),
            _ => None,
        };
    }
    node.op_as::<CumSum>().map(Arithmetic::Running)
}

/// `None` for what tract computes as it should.
fn compute<T: Whole>(arithmetic: &Arithmetic<'_>, inputs: &[TValue]) -> TractResult<Option<Tensor>> {
    let first = || inputs[0].to_plain_array_view::<T>();
    let along = |axes: &[usize], neutral: T, combine: fn(&T, &T) -> T| {
        let mut result = first()?.to_owned();
        for &axis in axes {
            result = result.fold_axis(Axis(axis), neutral, combine).insert_axis(Axis(axis));
        }
        TractResult::Ok(result.into_tensor())
    };
    let result = match *arithmetic {
        Arithmetic::Product | Arithmetic::Quotient | Arithmetic::Remainder => return Ok(None),
        Arithmetic::Sum => pairwise(inputs, |a: T, b| a.wrapping_add(&b))?,
        Arithmetic::Difference => pairwise(inputs, |a: T, b| a.wrapping_sub(&b))?,
        Arithmetic::Subtracted => pairwise(inputs, |a: T, b| b.wrapping_sub(&a))?,
        Arithmetic::Negative => first()?.mapv(|value| value.wrapping_neg()).into_tensor(),
        Arithmetic::Absolute => {
            let absolute = |value: T| if value < T::zero() { value.wrapping_neg() } else { value };
            first()?.mapv(absolute).into_tensor()
        }
        Arithmetic::SumAlong(axes) => along(axes, T::zero(), T::wrapping_add)?,
        Arithmetic::ProductAlong(axes) => along(axes, T::one(), T::wrapping_mul)?,
        Arithmetic::Running(sum) => running(sum, first()?.to_owned()).into_tensor(),
    };
    Ok(Some(result))
}

fn running<T: Whole>(sum: &CumSum, mut values: ArrayD<T>) -> ArrayD<T> {
    for mut lane in values.lanes_mut(Axis(sum.axis)) {
        if sum.reverse {
            lane.invert_axis(Axis(0));
        }
        let mut before = T::zero();
        for value in lane {
            let after = before.wrapping_add(value);
            *value = if sum.exclusive { before } else { after };
            before = after;
        }
    }
    values
}

fn pairwise<T: Whole>(inputs: &[TValue], combine: impl Fn(T, T) -> T) -> TractResult<Tensor> {
    let [a, b] = inputs else { return Err(TractError::msg("it has not two inputs")) };
    let shape = multi_broadcast(&[a.shape(), b.shape()])?;
    let mut result = ArrayD::zeros(&*shape);
    Zip::from(&mut result)
        .and_broadcast(a.to_plain_array_view::<T>()?)
        .and_broadcast(b.to_plain_array_view::<T>()?)
        .for_each(|result, a, b| *result = combine(*a, *b));
    Ok(result.into_tensor())
}

/// Whether each power is a whole number from `least` to `most`. tract reads exponents as 32 bits without a sign.
pub(super) fn powers_fit(
    base: &ArrayViewD<'_, i64>,
    exponent: &ArrayViewD<'_, i64>,
    least: i64,
    most: i64,
) -> bool {
    let Ok(shape) = multi_broadcast(&[base.shape(), exponent.shape()]) else { return false };
    let (Some(base), Some(exponent)) = (base.broadcast(&*shape), exponent.broadcast(&*shape)) else { return false };
    Zip::from(base).and(exponent).all(|base, exponent| {
        let power = u32::try_from(*exponent).ok().and_then(|exponent| base.checked_pow(exponent));
        power.is_some_and(|power| (least..=most).contains(&power))
    })
}

/// The least and the largest whole number of a type; `None` for other types, and those of which `i64` does not have all.
pub(super) fn range(kind: DatumType) -> Option<(i64, i64)> {
    Some(match kind {
        DatumType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DatumType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DatumType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DatumType::I64 => (i64::MIN, i64::MAX),
        DatumType::U8 => (0, u8::MAX.into()),
        DatumType::U16 => (0, u16::MAX.into()),
        DatumType::U32 => (0, u32::MAX.into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the node computes of its input, by `eval` alone.
    fn of(op: impl Into<Box<dyn TypedOp>>, inputs: &[Tensor]) -> Tensor {
        let mut model = TypedModel::default();
        let sources: Vec<OutletId> = inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                let fact = input.datum_type().fact(input.shape());
                model.add_source(format!("{at}"), fact).unwrap()
            })
            .collect();
        let outlet = model.wire_node("node", op, &sources).unwrap()[0];
        let values = inputs.iter().cloned().map(IntoTValue::into_tvalue).collect();
        eval(model.node(outlet.node), &values).unwrap().unwrap().remove(0).into_tensor()
    }

    #[test]
    fn whole_numbers_wrap() {
        use tract_onnx::tract_core::ops::math::{abs, add, neg, sub};
        assert_eq!(of(add(), &[tensor1(&[i64::MAX, 1]), tensor1(&[1i64, 2])]), tensor1(&[i64::MIN, 3]));
        assert_eq!(of(add(), &[tensor1(&[200u8, 3]), tensor1(&[100u8])]), tensor1(&[44u8, 103]));
        assert_eq!(of(sub(), &[tensor1(&[1u8]), tensor1(&[2u8, 1])]), tensor1(&[255u8, 0]));
        assert_eq!(of(neg(), &[tensor1(&[i32::MIN, 5])]), tensor1(&[i32::MIN, -5]));
        assert_eq!(of(abs(), &[tensor1(&[i32::MIN, -5])]), tensor1(&[i32::MIN, 5]));
    }

    #[test]
    fn sums_along_axes_wrap_at_the_end_of_their_type_only() {
        let reduce = |reducer: Reducer, axes: &[usize]| Reduce::new(axes.into(), reducer);
        // tract alone sums these in 32 bits: 1410065408.
        let large = tensor2(&[[5_000_000_000i64, 1], [5_000_000_000, 2]]);
        assert_eq!(
            of(reduce(Reducer::Sum, &[0]), std::slice::from_ref(&large)),
            tensor2(&[[10_000_000_000i64, 3]])
        );
        assert_eq!(of(reduce(Reducer::Sum, &[0, 1]), &[large]), tensor2(&[[10_000_000_003i64]]));
        assert_eq!(of(reduce(Reducer::Sum, &[0]), &[tensor1(&[i32::MAX, 1])]), tensor1(&[i32::MIN]));
        assert_eq!(of(reduce(Reducer::Prod, &[0]), &[tensor1(&[i32::MAX, 2])]), tensor1(&[-2i32]));
    }

    #[test]
    fn sizes_are_64_bit_numbers() {
        use tract_onnx::tract_core::ops::cast::cast;
        use tract_onnx::tract_core::ops::math::{add, div, mul, rem};
        let sizes = |values: &[i64]| sizes(&tensor1(values)).unwrap();
        // tract alone multiplies by 0, and panics at a remainder of 0.
        assert_eq!(of(mul(), &[sizes(&[3, -3]), sizes(&[1 << 32])]), sizes(&[3 << 32, -3 << 32]));
        assert_eq!(of(rem(), &[sizes(&[7, -7]), sizes(&[1 << 32])]), sizes(&[7, -7]));
        assert_eq!(of(div(), &[sizes(&[-7, i64::MIN]), sizes(&[2, -1])]), sizes(&[-3, i64::MIN]));
        assert_eq!(of(add(), &[sizes(&[i64::MAX]), sizes(&[1])]), sizes(&[i64::MIN]));
        // tract alone casts to 32 bits first.
        assert_eq!(of(cast(TDim::datum_type()), &[tensor1(&[-1.5f32, 8e9])]), sizes(&[-1, 8_000_000_000]));
    }

    #[test]
    fn running_sums_wrap() {
        let sum = |exclusive: bool, reverse: bool| CumSum { axis: 0, exclusive, reverse };
        let input = [tensor1(&[100i8, 27, 1, 2])];
        assert_eq!(of(sum(false, false), &input), tensor1(&[100i8, 127, -128, -126]));
        assert_eq!(of(sum(true, false), &input), tensor1(&[0i8, 100, 127, -128]));
        assert_eq!(of(sum(false, true), &input), tensor1(&[-126i8, 30, 3, 2]));
        assert_eq!(of(sum(true, true), &input), tensor1(&[30i8, 3, 2, 0]));
    }

    #[test]
    fn powers_fit_their_type() {
        let fit = |base: i64, exponent: i64, kind: DatumType| {
            let (least, most) = range(kind).unwrap();
            let (base, exponent) = ([base], [exponent]);
            let view = |values| ArrayViewD::from_shape(vec![1], values).unwrap();
            powers_fit(&view(&base), &view(&exponent), least, most)
        };
        assert!(fit(2, 62, DatumType::I64) && fit(-2, 63, DatumType::I64) && fit(0, 0, DatumType::I64));
        assert!(fit(1, i64::from(u32::MAX), DatumType::I64));
        assert!(!fit(2, 63, DatumType::I64) && !fit(2, -1, DatumType::I64) && !fit(1, 1 << 32, DatumType::I64));
        assert!(fit(2, 30, DatumType::I32) && !fit(2, 31, DatumType::I32));
    }
}
