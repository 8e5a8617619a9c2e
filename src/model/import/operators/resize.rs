//! Enlarging and shrinking feature maps.

use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::nn::resize::{CoordTransformer, Interpolator, Nearest, Resize};

use super::Node;
use crate::model::import::node::check_size;

/// The old operator: pixels are repeated, or mixed between their corners.
pub(super) fn upsample(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let scales = match node.floats("scales")? {
        Some(scales) => scales.to_vec(),
        None => node.constant_f32(node.input(1)?, "the scales")?,
    };
    let mode = node.text("mode", "nearest")?;
    by_scales(node, x, scales, mode, CoordTransformer::Asymmetric, "floor")
}

pub(super) fn resize(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let x = node.input(0)?;
    let mode = node.text("mode", "nearest")?;
    if node.opset < 11 {
        let scales = node.constant_f32(node.input(1)?, "the scales")?;
        return by_scales(node, x, scales, mode, CoordTransformer::Asymmetric, "floor");
    }
    ensure!(node.ints("axes")?.is_none(), "resizing of chosen axes is not supported");
    ensure!(!node.flag("antialias", false)?, "antialiasing is not supported");
    ensure!(!node.flag("exclude_outside", false)?, "exclude_outside is not supported");
    ensure!(node.text("keep_aspect_ratio_policy", "stretch")? == "stretch", "only stretching is supported");
    let transform = node.text("coordinate_transformation_mode", "half_pixel")?;
    let transform = CoordTransformer::parse(transform)?;
    let rounding = node.text("nearest_mode", "round_prefer_floor")?;

    let is_there = |node: &Node<'_>, index: usize| -> TractResult<Option<OutletId>> {
        // PyTorch fills the input it does not use with an empty tensor.
        match node.optional(index) {
            Some(outlet) if node.shape(outlet)?[..] != [0] => Ok(Some(outlet)),
            _ => Ok(None),
        }
    };
    if let Some(scales) = is_there(node, 2)? {
        let scales = node.constant_f32(scales, "the scales")?;
        return by_scales(node, x, scales, mode, transform, rounding);
    }
    let sizes = is_there(node, 3)?.context("there are neither scales nor sizes")?;
    let sizes = node.constant_ints(sizes, "the sizes")?;
    let from = node.shape(x)?;
    ensure!(sizes.len() == from.len(), "{} sizes are given for {} dimensions", sizes.len(), from.len());
    let scales = from.iter().zip(&sizes).map(|(&from, &to)| to as f32 / from as f32).collect();
    let sizes = sizes.iter().map(|&size| usize::try_from(size)).collect::<Result<TVec<_>, _>>()?;
    scale(node, x, scales, sizes, mode, transform, rounding)
}

fn by_scales(
    node: &mut Node<'_>,
    x: OutletId,
    scales: Vec<f32>,
    mode: &str,
    transform: CoordTransformer,
    rounding: &str,
) -> TractResult<TVec<OutletId>> {
    let from = node.shape(x)?;
    ensure!(scales.len() == from.len(), "{} scales are given for {} dimensions", scales.len(), from.len());
    ensure!(scales.iter().all(|scale| (1e-3..=1e3).contains(scale)), "the scales {scales:?} are beyond measure");
    let sizes = from.iter().zip(&scales).map(|(&from, &scale)| (from as f32 * scale) as usize).collect();
    scale(node, x, scales, sizes, mode, transform, rounding)
}

fn scale(
    node: &mut Node<'_>,
    x: OutletId,
    scales: Vec<f32>,
    to: TVec<usize>,
    mode: &str,
    transform: CoordTransformer,
    rounding: &str,
) -> TractResult<TVec<OutletId>> {
    node.expect_f32(x)?;
    let from = node.shape(x)?;
    ensure!(!from.contains(&0) && !to.contains(&0), "{:?} to {:?} px is nothing", &from[..], &to[..]);
    check_size(&to, f32::datum_type())?;
    match mode {
        "nearest" => nearest(node, x, &scales, &from, &to, &transform, rounding),
        "linear" | "cubic" => {
            let op = Resize {
                coord_transformer: transform,
                interpolator: Interpolator::parse(mode)?,
                nearest: Nearest::Floor,
                optional_scales_input: Some(1),
                optional_sizes_input: None,
            };
            // tract computes sizes from scales in its own way; it must come to the same.
            let scales = tensor1(&scales);
            let computed = op.compute_output_shape(&from, Some(&scales), None)?;
            ensure!(computed == to, "sizes {:?} are not supported", &to[..]);
            let scales = node.add_const(scales)?;
            node.wire(op, &[x, scales])
        }
        other => bail!("the mode {other:?} is not supported"),
    }
}

/// Each output position copies one input position, so it is a choice on each axis. Where that only repeats pixels, as
/// in most necks, it is tract's (and the engine's) own operator.
fn nearest(
    node: &mut Node<'_>,
    mut x: OutletId,
    scales: &[f32],
    from: &[usize],
    to: &[usize],
    transform: &CoordTransformer,
    rounding: &str,
) -> TractResult<TVec<OutletId>> {
    let chosen = |axis: usize| -> TractResult<Vec<i64>> {
        let last = from[axis] as i64 - 1;
        (0..to[axis])
            .map(|position| {
                let exact = transform.transform(position, scales[axis], from[axis], to[axis]);
                let rounded = match rounding {
                    "floor" => exact.floor(),
                    "ceil" => exact.ceil(),
                    "round_prefer_floor" => (exact - 0.5).ceil(),
                    "round_prefer_ceil" => (exact + 0.5).floor(),
                    other => bail!("the rounding {other:?} is unknown"),
                };
                Ok((rounded as i64).clamp(0, last))
            })
            .collect()
    };
    let axes: Vec<usize> = (0..from.len()).filter(|axis| from[*axis] != to[*axis]).collect();
    let choices = axes.iter().map(|&axis| chosen(axis)).collect::<TractResult<Vec<_>>>()?;
    let repeats = axes.iter().zip(&choices).all(|(&axis, choice)| {
        let times = to[axis] / from[axis];
        times * from[axis] == to[axis] && choice.iter().enumerate().all(|(i, &c)| c as usize == i / times)
    });
    if repeats && !axes.is_empty() {
        let factors: Vec<f32> = from.iter().zip(to).map(|(&from, &to)| (to / from) as f32).collect();
        let op = Resize {
            coord_transformer: CoordTransformer::Asymmetric,
            interpolator: Interpolator::Nearest,
            nearest: Nearest::Floor,
            optional_scales_input: Some(1),
            optional_sizes_input: None,
        };
        let factors = node.add_const(tensor1(&factors))?;
        return node.wire(op, &[x, factors]);
    }
    for (axis, choice) in axes.into_iter().zip(choices) {
        let choice = node.add_const(tensor1(&choice))?;
        x = node.wire_one(Gather::new(axis), &[x, choice])?;
    }
    Ok(tvec!(x))
}
