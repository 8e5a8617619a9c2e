//! Between floats and bytes.

use tract_core::internal::*;
use tract_core::ops::math::{add, div, max, min, mul, round_half_to_even, sub};
use tract_core::ops::quant::{DequantizeLinearF32, quantize_linear_i8, quantize_linear_u8};

use super::Node;

/// Scale and zero point: one of each, or one of each for every place of an axis.
struct Grid {
    scales: Vec<f32>,
    zero_points: Vec<i32>,
    /// The type of the bytes.
    kind: DatumType,
    axis: usize,
}

fn grid(node: &mut Node<'_>, shape: &[usize], bytes: Option<DatumType>) -> TractResult<Grid> {
    ensure!(node.int("block_size", 0)? == 0, "blocks are not supported");
    let scale = node.input(1)?;
    node.expect_f32(scale)?;
    let scales = node.constant_f32(scale, "the scale")?;
    ensure!(
        !scales.is_empty() && scales.iter().all(|scale| scale.is_finite() && *scale > 0.0),
        "scales must be finite and above 0"
    );
    let (kind, zero_points) = match node.optional(2) {
        Some(zero) => (node.datum_type(zero)?, node.constant_ints(zero, "the zero point")?),
        None => (bytes.unwrap_or(u8::datum_type()), vec![0]),
    };
    ensure!(bytes.is_none_or(|bytes| bytes == kind), "the zero point has another type than the input");
    ensure!(matches!(kind, DatumType::U8 | DatumType::I8 | DatumType::I32), "{kind:?} is not supported");
    let zero_points: Vec<i32> = zero_points.into_iter().map(|zero| zero as i32).collect();
    let count = scales.len().max(zero_points.len());
    let axis = if count > 1 { node.axis(node.int("axis", 1)?, shape.len())? } else { 0 };
    let fits = |len: usize| len == 1 || len == count;
    ensure!(
        fits(scales.len()) && fits(zero_points.len()) && (count == 1 || count == shape[axis]),
        "{count} scales do not fit the shape {shape:?}"
    );
    Ok(Grid { scales, zero_points, kind, axis })
}

impl Grid {
    fn is_single(&self) -> bool {
        self.scales.len() == 1 && self.zero_points.len() == 1
    }

    /// The floats that stored bytes stand for. Weights are most of a file: three operators of tract for them, each over
    /// all of it, were half the time that loading took.
    fn floats(&self, bytes: &Tensor) -> TractResult<Tensor> {
        match self.kind {
            DatumType::U8 => self.floats_of(bytes, |byte: u8| f32::from(byte)),
            DatumType::I8 => self.floats_of(bytes, |byte: i8| f32::from(byte)),
            _ => self.floats_of(bytes, |byte: i32| byte as f32),
        }
    }

    fn floats_of<T: Datum + Copy>(&self, bytes: &Tensor, float: impl Fn(T) -> f32) -> TractResult<Tensor> {
        let shape = bytes.shape();
        let inner = shape.iter().skip(self.axis + 1).product::<usize>().max(1);
        let length = shape.get(self.axis).copied().unwrap_or(1);
        let of = |index: usize, count: usize| if count == 1 { 0 } else { index };
        let mut floats = Tensor::zero::<f32>(shape)?;
        let mut ram = floats.try_as_plain_ram_mut()?;
        let rows = ram.as_slice_mut::<f32>()?.chunks_mut(inner);
        for (row, (floats, bytes)) in rows.zip(bytes.try_as_plain_ram()?.as_slice::<T>()?.chunks(inner)).enumerate()
        {
            let place = row % length.max(1);
            let scale = self.scales[of(place, self.scales.len())];
            let zero = self.zero_points[of(place, self.zero_points.len())] as f32;
            for (to, &byte) in floats.iter_mut().zip(bytes) {
                *to = (float(byte) - zero) * scale;
            }
        }
        Ok(floats)
    }

    /// Scales and zero points as floats that broadcast along the axis.
    fn wire(&self, node: &mut Node<'_>, rank: usize) -> TractResult<(OutletId, OutletId)> {
        let along = |values: Vec<f32>| {
            let mut shape = tvec!(1; rank);
            if values.len() > 1 {
                shape[self.axis] = values.len();
            }
            Tensor::from_shape(&shape, &values)
        };
        let zero_points = along(self.zero_points.iter().map(|&zero| zero as f32).collect())?;
        Ok((node.add_const(along(self.scales.clone())?)?, node.add_const(zero_points)?))
    }
}

pub(super) fn quantize(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    let shape = node.shape(x)?;
    let grid = grid(node, &shape, None)?;
    let (low, high) = match grid.kind {
        DatumType::U8 => (0.0, 255.0),
        DatumType::I8 => (-128.0, 127.0),
        kind => bail!("{kind:?} is not supported"),
    };
    if grid.is_single() {
        let inverse = grid.scales[0].recip();
        ensure!(inverse.is_finite(), "the scale {} is too small", grid.scales[0]);
        let op = match grid.kind {
            DatumType::U8 => quantize_linear_u8(inverse, grid.zero_points[0] as u8),
            _ => quantize_linear_i8(inverse, grid.zero_points[0] as i8),
        };
        return node.wire(op, &[x]);
    }
    let (scales, zero_points) = grid.wire(node, shape.len())?;
    let (low, high) = (node.scalar_like(low, x)?, node.scalar_like(high, x)?);
    let y = node.wire_one(div(), &[x, scales])?;
    let y = node.wire_one(round_half_to_even(), &[y])?;
    let y = node.wire_one(add(), &[y, zero_points])?;
    let y = node.wire_one(max(), &[y, low])?;
    let y = node.wire_one(min(), &[y, high])?;
    node.cast(y, grid.kind).map(|y| tvec!(y))
}

pub(super) fn dequantize(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let (shape, kind) = (node.shape(x)?, node.datum_type(x)?);
    let grid = grid(node, &shape, Some(kind))?;
    if let Some(weights) = node.constant(x)? {
        let floats = grid.floats(&weights)?;
        return Ok(tvec!(node.add_const(floats)?));
    }
    if grid.is_single() {
        return node.wire(DequantizeLinearF32::new(grid.scales[0], grid.zero_points[0]), &[x]);
    }
    let (scales, zero_points) = grid.wire(node, shape.len())?;
    let y = node.cast(x, f32::datum_type())?;
    let y = node.wire_one(sub(), &[y, zero_points])?;
    node.wire(mul(), &[y, scales])
}
