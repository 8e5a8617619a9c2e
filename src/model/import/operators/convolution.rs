//! Convolution and pooling: a window that moves over the picture.

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::nn::DataFormat;

use super::Node;
use crate::model::import::MAX_TENSOR_BYTES;

/// Reads `pads` and `auto_pad`. tract knows two kinds of explicit padding, of which pools need the one that can round
/// up.
fn padding(node: &Node<'_>, spatial: usize, is_pool: bool) -> TractResult<PaddingSpec> {
    let round_up = is_pool && node.flag("ceil_mode", false)?;
    match node.text("auto_pad", "NOTSET")? {
        "NOTSET" => (),
        "VALID" if !round_up => return Ok(PaddingSpec::Valid),
        "SAME_UPPER" => return Ok(PaddingSpec::SameUpper),
        "SAME_LOWER" => return Ok(PaddingSpec::SameLower),
        other => bail!("the padding {other:?} is not supported"),
    }
    let pads = node.sizes("pads", 2 * spatial, 0, 0)?;
    let (before, after) = (pads[..spatial].into(), pads[spatial..].into());
    Ok(if is_pool {
        PaddingSpec::ExplicitOnnxPool(before, after, round_up)
    } else {
        PaddingSpec::Explicit(before, after)
    })
}

/// The window: checked, so that it fits into the padded input at least once.
fn window(
    node: &Node<'_>,
    input: &[usize],
    kernel: TVec<usize>,
    output_channels: usize,
    is_pool: bool,
) -> TractResult<PoolSpec> {
    let spatial = kernel.len();
    let padding = padding(node, spatial, is_pool)?;
    let strides = node.sizes("strides", spatial, 1, 1)?;
    let dilations = node.sizes("dilations", spatial, 1, 1)?;
    for axis in 0..spatial {
        ensure!(kernel[axis] >= 1 && kernel[axis] <= 1 << 12, "a window of {:?} is not supported", &kernel[..]);
        let reach = dilations[axis] * (kernel[axis] - 1) + 1;
        let side = input[2 + axis];
        ensure!(side >= 1, "the input is empty");
        let padded = match &padding {
            PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                ensure!(
                    !is_pool || (before[axis] < reach && after[axis] < reach),
                    "there are windows that see nothing but padding"
                );
                side + before[axis] + after[axis]
            }
            PaddingSpec::Valid => side,
            PaddingSpec::SameUpper | PaddingSpec::SameLower => reach.max(side),
        };
        ensure!(reach <= padded, "the window reaches over {reach} px; the padded input has {padded}");
    }
    Ok(PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: kernel,
        padding,
        dilations: Some(dilations),
        strides: Some(strides),
        input_channels: input[1],
        output_channels,
    })
}

pub(super) fn conv(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, weights) = (node.input(0)?, node.input(1)?);
    node.expect_f32(x)?;
    node.expect_f32(weights)?;
    ensure!(node.constant(weights)?.is_some(), "the weights must be constant");
    let (input, kernel) = (node.shape(x)?, node.shape(weights)?);
    ensure!(
        matches!(input.len(), 3 | 4) && kernel.len() == input.len(),
        "convolutions are over one or two dimensions"
    );
    let group =
        usize::try_from(node.int("group", 1)?).ok().filter(|group| *group >= 1).context("there are no groups")?;
    let [outputs, inputs_a_group] = [kernel[0], kernel[1]];
    ensure!(
        outputs >= 1
            && Some(input[1]) == inputs_a_group.checked_mul(group)
            && outputs % group == 0
            && input[1] >= 1,
        "{} channels in {group} groups do not fit these weights",
        input[1]
    );
    let spatial: TVec<usize> = kernel[2..].into();
    if let Some(declared) = node.ints("kernel_shape")? {
        let same = declared.len() == spatial.len() && declared.iter().zip(&spatial).all(|(&a, &b)| a == b as i64);
        ensure!(same, "kernel_shape is {declared:?}; the weights are {:?}", &kernel[..]);
    }
    let window = window(node, &input, spatial, outputs, false)?;

    // tract may lay the input out as one column for each output pixel.
    let output = window.output_shape(&input)?;
    let columns = output.hw_dims().iter().chain(&window.kernel_shape).try_fold(input[1], |a, &b| a.checked_mul(b));
    ensure!(
        columns.is_some_and(|columns| columns <= MAX_TENSOR_BYTES),
        "the convolution is too large ({:?} windows of {:?})",
        output.hw_dims(),
        &kernel[..]
    );

    let bias = match node.optional(2) {
        Some(bias) => {
            node.expect_f32(bias)?;
            ensure!(node.constant(bias)?.is_some(), "the bias must be constant");
            ensure!(
                node.shape(bias)?[..] == [outputs],
                "the bias is {:?} for {outputs} channels",
                node.shape(bias)?
            );
            // A bias of one channel is a scalar to tract.
            if outputs == 1 { node.wire_one(AxisOp::Rm(0), &[bias])? } else { bias }
        }
        None => node.add_const(tensor0(0f32))?,
    };
    node.wire(Conv::new(window, KernelFormat::OIHW, group, None), &[x, weights, bias])
}

fn pool(node: &mut Node<'_>) -> TractResult<(OutletId, PoolSpec)> {
    let x = node.input(0)?;
    node.expect_f32(x)?;
    let input = node.shape(x)?;
    ensure!(matches!(input.len(), 3 | 4) && input[1] >= 1, "pools are over one or two dimensions");
    ensure!(node.ints("kernel_shape")?.is_some(), "kernel_shape is missing");
    let kernel = node.sizes("kernel_shape", input.len() - 2, 1, 1)?;
    Ok((x, window(node, &input, kernel, input[1], true)?))
}

pub(super) fn max_pool(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    ensure!(node.outputs() == 1, "positions of maxima are not supported");
    let (x, window) = pool(node)?;
    node.wire(MaxPool { pool_spec: window, with_index_outputs: None }, &[x])
}

pub(super) fn average_pool(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, window) = pool(node)?;
    let count_include_pad = node.flag("count_include_pad", false)?;
    node.wire(SumPool { pool_spec: window, count_include_pad, normalize: true }, &[x])
}
