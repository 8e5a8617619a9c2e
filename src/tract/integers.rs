//! Integer arithmetic as ONNX defines it: overflow wraps.
//!
//! tract adds, negates and sums with plain operators, which panic in builds with overflow checks. It also sums 64-bit
//! integers in 32 bits. ONNX does not define powers that overflow, so these are errors.
//!
//! tract also adds the zero point of a quantised value to the largest 32-bit integer if the quotient exceeds 32 bits.
//! This module computes that too.
//!
//! All types are computed as `i64` and truncated at the end. Only reading and writing values has code for each type;
//! otherwise the code would be eight times as large.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::num_traits::AsPrimitive;
use tract_onnx::tract_core::ops::array::CumSum;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::quant::{QuantizeLinearI8, QuantizeLinearU8};

/// An operation of a node in which tract would let integers overflow.
enum Arithmetic<'n> {
    Sum,
    Difference,
    /// The first input is subtracted from the second.
    Subtracted,
    Product,
    Quotient,
    Remainder,
    /// With the sign of the divisor.
    Modulus,
    Negative,
    Absolute,
    SumAlong(&'n [usize]),
    ProductAlong(&'n [usize]),
    Running(&'n CumSum),
}

/// Returns the value at a position of a tensor.
type Numbers<'t> = Box<dyn Fn(usize) -> i64 + 't>;

/// How to read and write values of a type. Values of `u64` from 2^63 on are read as negative.
struct Access {
    read: for<'t> fn(&'t Tensor) -> TractResult<Numbers<'t>>,
    /// Writes the result of the closure for each position, in order, truncated to the type.
    fill: fn(&mut Tensor, &mut dyn FnMut(usize) -> i64) -> TractResult<()>,
}

impl Access {
    fn to(kind: DatumType) -> Option<Self> {
        Some(match kind {
            DatumType::I8 => Self::new::<i8>(),
            DatumType::I16 => Self::new::<i16>(),
            DatumType::I32 => Self::new::<i32>(),
            DatumType::I64 => Self::new::<i64>(),
            DatumType::U8 => Self::new::<u8>(),
            DatumType::U16 => Self::new::<u16>(),
            DatumType::U32 => Self::new::<u32>(),
            DatumType::U64 => Self::new::<u64>(),
            _ => return None,
        })
    }

    fn new<T: Datum + AsPrimitive<i64>>() -> Self
    where
        i64: AsPrimitive<T>,
    {
        Self {
            read: |tensor| {
                let numbers = tensor.try_as_plain_ram()?.as_slice::<T>()?;
                Ok(Box::new(|at| numbers[at].as_()))
            },
            fill: |tensor, value| {
                for (at, number) in tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?.iter_mut().enumerate() {
                    *number = value(at).as_();
                }
                Ok(())
            },
        }
    }
}

/// The number of values of these dimensions. It is wrong on overflow, but then another dimension is 0.
fn count(sides: impl Iterator<Item = usize>) -> usize {
    sides.fold(1, usize::wrapping_mul)
}

/// The positions in a tensor of a walk over some dimensions, the last one fastest. After its end the walk starts again.
struct Places {
    /// For each dimension, its size and its stride in the tensor.
    axes: Vec<(usize, usize)>,
    at: Vec<usize>,
    place: usize,
}

impl Places {
    /// `sides` gives the length of the walk along each axis.
    fn new(shape: &[usize], sides: impl Fn(usize) -> usize) -> Self {
        let mut step = 1usize;
        let mut axes = vec![(1, 0); shape.len()];
        for (axis, side) in shape.iter().enumerate().rev() {
            axes[axis] = (sides(axis), step);
            step = step.wrapping_mul(*side);
        }
        Self { at: vec![0; axes.len()], axes, place: 0 }
    }

    /// A walk over the dimensions `wide`, to which the shape can be broadcast.
    fn broadcast(shape: &[usize], wide: &[usize]) -> Self {
        let more = wide.len() - shape.len();
        let mut places = Self::new(shape, |axis| wide[more + axis]);
        for (axis, side) in places.axes.iter_mut().zip(shape) {
            if *side == 1 {
                axis.1 = 0;
            }
        }
        places.axes.splice(0..0, wide[..more].iter().map(|side| (*side, 0)));
        places.at.resize(wide.len(), 0);
        places
    }

    fn next(&mut self) -> usize {
        let place = self.place;
        for ((side, step), at) in self.axes.iter().zip(&mut self.at).rev() {
            *at += 1;
            self.place += step;
            if *at < *side {
                break;
            }
            self.place -= *at * step;
            *at = 0;
        }
        place
    }
}

/// The output of such a node on integers; `None` for any other node.
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
    if let (Some(ElementWiseOp(op, None)), [input]) = (node.op_as::<ElementWiseOp>(), &inputs[..]) {
        if let Some(QuantizeLinearU8 { scale, zero_point }) = op.downcast_ref() {
            return quantized::<u8>(input, *scale, (*zero_point).into()).map(Some);
        }
        if let Some(QuantizeLinearI8 { scale, zero_point }) = op.downcast_ref() {
            return quantized::<i8>(input, *scale, (*zero_point).into()).map(Some);
        }
    }
    let Some(arithmetic) = arithmetic(node) else { return Ok(None) };
    let Some(first) = inputs.first() else { return Ok(None) };
    if first.datum_type() == TDim::datum_type() {
        return wide(&arithmetic, inputs);
    }
    if inputs.iter().any(|input| input.datum_type() != first.datum_type()) {
        return Ok(None);
    }
    // tract computes these correctly.
    if matches!(arithmetic, Arithmetic::Product | Arithmetic::Quotient | Arithmetic::Remainder) {
        return Ok(None);
    }
    Ok(compute(&arithmetic, inputs)?.map(|output| tvec!(output.into_tvalue())))
}

/// Computes with 64-bit integers that tract treats as sizes, as it does after a cast. tract uses only the last 32 bits
/// of the second operand in products and remainders.
fn wide(arithmetic: &Arithmetic<'_>, inputs: &[TValue]) -> TractResult<Option<TVec<TValue>>> {
    // Some values may still be symbols for unknown sizes.
    let numbers = inputs.iter().map(|input| input.cast_to::<i64>().map(|input| input.into_owned().into_tvalue()));
    let Ok(numbers) = numbers.collect::<TractResult<Vec<_>>>() else { return Ok(None) };
    // The sign of a remainder is that of the divisor. tract takes care of that for other types only.
    let arithmetic = if let Arithmetic::Remainder = arithmetic { &Arithmetic::Modulus } else { arithmetic };
    match compute(arithmetic, &numbers)? {
        Some(output) => Ok(Some(tvec!(sizes(&output)?.into_tvalue()))),
        None => Ok(None),
    }
}

/// Values in tract's type for sizes. tract's own cast to that type has 32 bits.
fn sizes(numbers: &Tensor) -> TractResult<Tensor> {
    let numbers = numbers.cast_to::<i64>()?;
    let mut sizes = Tensor::zero_dt(TDim::datum_type(), numbers.shape())?;
    let values = numbers.try_as_plain_ram()?.as_slice::<i64>()?;
    for (size, value) in sizes.try_as_plain_ram_mut()?.as_slice_mut::<TDim>()?.iter_mut().zip(values) {
        *size = TDim::Val(*value);
    }
    Ok(sizes)
}

/// Quantised bytes, with values out of range clamped. `scale` is the factor with which tract multiplies.
fn quantized<T: Datum + Copy>(input: &Tensor, scale: f32, zero: i32) -> TractResult<TVec<TValue>>
where
    i32: AsPrimitive<T>,
{
    let (least, most) = range(T::datum_type()).unwrap_or_default();
    let numbers = input.cast_to::<f32>()?;
    let mut bytes = Tensor::zero_dt(T::datum_type(), numbers.shape())?;
    let values = numbers.try_as_plain_ram()?.as_slice::<f32>()?;
    for (byte, value) in bytes.try_as_plain_ram_mut()?.as_slice_mut::<T>()?.iter_mut().zip(values) {
        let quotient = (value * scale).round_ties_even() as i32;
        *byte = quotient.saturating_add(zero).clamp(least as i32, most as i32).as_();
    }
    Ok(tvec!(bytes.into_tvalue()))
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

/// `None` for types that are not integers.
fn compute(arithmetic: &Arithmetic<'_>, inputs: &[TValue]) -> TractResult<Option<Tensor>> {
    let kind = inputs[0].datum_type();
    let Some(Access { read, fill }) = Access::to(kind) else { return Ok(None) };
    let shape = inputs[0].shape();
    let first = read(&inputs[0])?;
    let filled = |shape: &[usize], value: &mut dyn FnMut(usize) -> i64| {
        let mut output = Tensor::zero_dt(kind, shape)?;
        fill(&mut output, value)?;
        TractResult::Ok(output)
    };
    let pairwise = |combine: fn(i64, i64) -> i64| {
        let [a, b] = inputs else { return Err(TractError::msg("it has not two inputs")) };
        let wide = multi_broadcast(&[a.shape(), b.shape()])?;
        let second = read(b)?;
        let (mut a, mut b) = (Places::broadcast(a.shape(), &wide), Places::broadcast(b.shape(), &wide));
        filled(&wide, &mut |_| combine(first(a.next()), second(b.next())))
    };
    let along = |axes: &[usize], neutral: i64, combine: fn(i64, i64) -> i64| {
        let side = |axis: usize, inside: bool| if axes.contains(&axis) == inside { shape[axis] } else { 1 };
        let output: TVec<usize> = (0..shape.len()).map(|axis| side(axis, false)).collect();
        let count = count((0..shape.len()).map(|axis| side(axis, true)));
        let mut outer = Places::new(shape, |axis| side(axis, false));
        let mut inner = Places::new(shape, |axis| side(axis, true));
        filled(&output, &mut |_| {
            let from = outer.next();
            (0..count).fold(neutral, |result, _| combine(result, first(from + inner.next())))
        })
    };
    let output = match *arithmetic {
        Arithmetic::Sum => pairwise(i64::wrapping_add)?,
        Arithmetic::Difference => pairwise(i64::wrapping_sub)?,
        Arithmetic::Subtracted => pairwise(|a, b| b.wrapping_sub(a))?,
        Arithmetic::Product => pairwise(i64::wrapping_mul)?,
        // `runtime_check` has refused zeros. What remains is the smallest integer divided by -1.
        Arithmetic::Quotient => pairwise(|a, b| a.checked_div(b).unwrap_or(a.wrapping_neg()))?,
        Arithmetic::Remainder => pairwise(|a, b| a.checked_rem(b).unwrap_or(0))?,
        Arithmetic::Modulus => pairwise(|a, b| {
            let rest = a.checked_rem(b).unwrap_or(0);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        })?,
        Arithmetic::Negative => filled(shape, &mut |at| first(at).wrapping_neg())?,
        Arithmetic::Absolute if kind.is_unsigned() => filled(shape, &mut |at| first(at))?,
        Arithmetic::Absolute => filled(shape, &mut |at| first(at).wrapping_abs())?,
        Arithmetic::SumAlong(axes) => along(axes, 0, i64::wrapping_add)?,
        Arithmetic::ProductAlong(axes) => along(axes, 1, i64::wrapping_mul)?,
        Arithmetic::Running(sum) => filled(shape, &mut running(sum, shape, &first))?,
    };
    Ok(Some(output))
}

/// The running sum at each position. Call it for the positions in order.
fn running<'t>(sum: &CumSum, shape: &[usize], numbers: &'t Numbers<'t>) -> impl FnMut(usize) -> i64 + 't {
    let &CumSum { axis, exclusive, reverse } = sum;
    // A block has `inner` lanes side by side.
    let inner = count(shape[axis + 1..].iter().copied());
    let block = inner.wrapping_mul(shape[axis]);
    let mut sums = Vec::new();
    move |at| {
        if at % block == 0 {
            sums.clear();
            sums.resize(inner, 0i64);
            // From the back, it is the total minus the values already passed.
            if reverse {
                for place in at..at + block {
                    let sum = &mut sums[place % inner];
                    *sum = sum.wrapping_add(numbers(place));
                }
            }
        }
        let sum = &mut sums[at % inner];
        let before = *sum;
        let number = numbers(at);
        *sum = if reverse { before.wrapping_sub(number) } else { before.wrapping_add(number) };
        if exclusive == reverse { *sum } else { before }
    }
}

/// Whether each power is an integer from `least` to `most`. tract reads exponents as unsigned 32-bit integers.
///
/// Each argument is a shape with its values.
pub(super) fn powers_fit(
    (base_shape, base): (&[usize], &[i64]),
    (exponent_shape, exponent): (&[usize], &[i64]),
    least: i64,
    most: i64,
) -> bool {
    let Ok(shape) = multi_broadcast(&[base_shape, exponent_shape]) else { return false };
    let mut bases = Places::broadcast(base_shape, &shape);
    let mut exponents = Places::broadcast(exponent_shape, &shape);
    let Some(count) = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side)) else { return false };
    (0..count).all(|_| {
        let (Some(base), Some(exponent)) = (base.get(bases.next()), exponent.get(exponents.next())) else {
            return false;
        };
        let power = u32::try_from(*exponent).ok().and_then(|exponent| base.checked_pow(exponent));
        power.is_some_and(|power| (least..=most).contains(&power))
    })
}

/// The smallest and the largest integer of a type; `None` for other types, and for types that `i64` does not cover.
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

    /// The output of the node, computed by `eval` alone.
    fn of(op: impl Into<Box<dyn TypedOp>>, inputs: &[Tensor]) -> Tensor {
        let mut model = TypedModel::default();
        let rank = inputs.iter().map(Tensor::rank).max().unwrap();
        let sources: Vec<OutletId> = inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                // tract needs equal ranks, `eval` does not.
                let shape = [vec![1; rank - input.rank()], input.shape().to_vec()].concat();
                model.add_source(format!("{at}"), input.datum_type().fact(shape)).unwrap()
            })
            .collect();
        let outlet = model.wire_node("node", op, &sources).unwrap()[0];
        let values = inputs.iter().cloned().map(IntoTValue::into_tvalue).collect();
        eval(model.node(outlet.node), &values).unwrap().unwrap().remove(0).into_tensor()
    }

    #[test]
    fn integers_wrap() {
        use tract_onnx::tract_core::ops::math::{abs, add, neg, sub};
        assert_eq!(of(add(), &[tensor1(&[i64::MAX, 1]), tensor1(&[1i64, 2])]), tensor1(&[i64::MIN, 3]));
        assert_eq!(of(add(), &[tensor1(&[200u8, 3]), tensor1(&[100u8])]), tensor1(&[44u8, 103]));
        assert_eq!(of(sub(), &[tensor1(&[1u8]), tensor1(&[2u8, 1])]), tensor1(&[255u8, 0]));
        assert_eq!(of(neg(), &[tensor1(&[i32::MIN, 5])]), tensor1(&[i32::MIN, -5]));
        assert_eq!(of(abs(), &[tensor1(&[i32::MIN, -5])]), tensor1(&[i32::MIN, 5]));
    }

    #[test]
    fn all_of_u64_is_computed() {
        use tract_onnx::tract_core::ops::math::{abs, add, sub};
        const LARGE: u64 = u64::MAX - 1;
        assert_eq!(of(abs(), &[tensor1(&[LARGE, 5])]), tensor1(&[LARGE, 5]));
        assert_eq!(of(add(), &[tensor1(&[LARGE, 5]), tensor1(&[3u64])]), tensor1(&[1u64, 8]));
        assert_eq!(of(sub(), &[tensor1(&[LARGE, 1]), tensor1(&[3u64])]), tensor1(&[LARGE - 3, LARGE]));
    }

    #[test]
    fn shapes_are_broadcast() {
        use tract_onnx::tract_core::ops::math::sub;
        fn shaped<T: Datum + Copy>(shape: &[usize], values: &[T]) -> Tensor {
            Tensor::from_shape(shape, values).unwrap()
        }
        fn minus<T: Datum + Copy>(a: (&[usize], &[T]), b: (&[usize], &[T]), result: (&[usize], &[T])) {
            let inputs = [shaped(a.0, a.1), shaped(b.0, b.1)];
            assert_eq!(of(sub(), &inputs), shaped(result.0, result.1));
        }
        let six = [2, 1, 3];
        minus::<i8>((&six, &[-128, 0, 1, 2, 3, 4]), (&[3], &[1, 2, 3]), (&six, &[127, -2, -2, 1, 1, 1]));
        minus::<u8>((&[3], &[1, 2, 3]), (&six, &[0, 1, 2, 3, 4, 255]), (&six, &[1, 1, 1, 254, 254, 4]));
        minus::<u64>((&[2, 2, 1], &[0, 1, 2, 3]), (&[2], &[0, 1]), (&[2, 2, 2], &[0, u64::MAX, 1, 0, 2, 1, 3, 2]));
        // Each is broadcast along another axis.
        minus::<u8>(
            (&[1, 2, 1], &[10, 20]),
            (&[2, 1, 2], &[1, 2, 3, 21]),
            (&[2, 2, 2], &[9, 8, 19, 18, 7, 245, 17, 255]),
        );
        minus::<u8>((&[0, 1, 2], &[]), (&[2], &[1, 2]), (&[0, 1, 2], &[]));
    }

    #[test]
    fn two_of_three_axes_are_summed() {
        fn along<T: Datum + Copy>(reducer: Reducer, axes: &[usize], values: &[T; 12], output: ([usize; 3], &[T])) {
            let input = Tensor::from_shape(&[2, 3, 2], values).unwrap();
            let output = Tensor::from_shape(&output.0, output.1).unwrap();
            assert_eq!(of(Reduce::new(axes.into(), reducer), &[input]), output);
        }
        let small = [1i8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 100];
        along(Reducer::Sum, &[0, 2], &small, ([1, 3, 1], &[18, 26, 122]));
        along(Reducer::Sum, &[0, 1], &small, ([1, 1, 2], &[36, -126]));
        along(Reducer::Sum, &[1, 2], &small, ([2, 1, 1], &[21, -111]));
        along(Reducer::Prod, &[0, 2], &small.map(|value| value as u8), ([1, 3, 1], &[112, 56, 232]));
        let large = small.map(|value| u64::MAX - value as u64);
        along(Reducer::Sum, &[0, 2], &large, ([1, 3, 1], &[18u64, 26, 122].map(|sum| 0u64.wrapping_sub(sum + 4))));
        let none = Tensor::zero::<u8>(&[0, 2, 3]).unwrap();
        assert_eq!(of(Reduce::new(tvec![0, 2], Reducer::Prod), &[none]), tensor3(&[[[1u8], [1]]]));
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
        assert_eq!(of(rem(), &[sizes(&[7, -7]), sizes(&[1 << 32])]), sizes(&[7, (1 << 32) - 7]));
        assert_eq!(of(rem(), &[sizes(&[7, -7, 6]), sizes(&[-3])]), sizes(&[-2, -1, 0]));
        assert_eq!(of(rem(), &[sizes(&[i64::MIN, 5]), sizes(&[-1, i64::MAX])]), sizes(&[0, 5]));
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
        // Each row is a block with two lanes.
        let middle = |exclusive: bool, reverse: bool| CumSum { axis: 1, exclusive, reverse };
        let input = [tensor3(&[[[1u64, 2], [3, 4]], [[5, 6], [u64::MAX, 8]]])];
        assert_eq!(of(middle(false, false), &input), tensor3(&[[[1u64, 2], [4, 6]], [[5, 6], [4, 14]]]));
        assert_eq!(of(middle(true, true), &input), tensor3(&[[[3u64, 4], [0, 0]], [[u64::MAX, 8], [0, 0]]]));
        assert_eq!(of(middle(false, true), &input), tensor3(&[[[4u64, 6], [3, 4]], [[4, 14], [u64::MAX, 8]]]));
        let none = Tensor::zero::<i32>(&[2, 0, 1 << 30]).unwrap();
        assert_eq!(of(middle(false, true), std::slice::from_ref(&none)), none);
    }

    #[test]
    fn quantised_numbers_beyond_the_bytes_are_the_last_ones() {
        use tract_onnx::tract_core::ops::quant::{quantize_linear_i8, quantize_linear_u8};
        let input = [tensor1(&[1e30f32, -1e30, f32::INFINITY, 0.5, 1.5, -0.1])];
        // tract alone gives 0 for the first.
        assert_eq!(of(quantize_linear_u8(1.0, 3), &input), tensor1(&[255u8, 0, 255, 3, 5, 3]));
        assert_eq!(of(quantize_linear_i8(10.0, -3), &input), tensor1(&[127i8, -128, 127, 2, 12, -4]));
    }

    #[test]
    fn powers_fit_their_type() {
        let fit = |base: i64, exponent: i64, kind: DatumType| {
            let (least, most) = range(kind).unwrap();
            powers_fit((&[1], &[base]), (&[], &[exponent]), least, most)
        };
        assert!(fit(2, 62, DatumType::I64) && fit(-2, 63, DatumType::I64) && fit(0, 0, DatumType::I64));
        assert!(fit(1, i64::from(u32::MAX), DatumType::I64));
        assert!(!fit(2, 63, DatumType::I64) && !fit(2, -1, DatumType::I64) && !fit(1, 1 << 32, DatumType::I64));
        assert!(fit(2, 30, DatumType::I32) && !fit(2, 31, DatumType::I32));
    }
}
