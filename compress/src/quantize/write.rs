//! Writes the QDQ file.

use tract_onnx::pb::tensor_proto::DataType;

use super::{ACTIVATION_MAX, Plan, Rounded, Scale};
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::export;
use crate::network::{Activation, Network, Op};
use crate::onnx::{GraphBuilder, int};

/// The bounds of values without limits.
pub(super) const UNBOUNDED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// Writes `network` with `weights` for inputs of `width` × `height` pixels. The parts in `plan` are in int8 (weights
/// from `rounded`, by node), the rest in 32-bit floats.
///
/// # Errors
///
/// Those of [`export::to_onnx`].
pub fn to_onnx(
    network: &Network,
    weights: &Weights,
    rounded: &[Option<Rounded>],
    size: (usize, usize),
    plan: &Plan,
) -> Result<Vec<u8>> {
    let graph = network.graph()?;
    graph.check_size("--imgsz", size.0, size.1)?;
    let wrap = |problem| Error::Network { network: network.name.clone(), problem };
    let mut onnx = GraphBuilder::new(&network.name);
    onnx.input("images", &[1, 3, size.1 as i64, size.0 as i64]);
    let mut names: Vec<String> = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<&str> = node.inputs.iter().map(|&id| names[id].as_str()).collect();
        let scale = plan.activations[id];
        let name = match &node.op {
            Op::Image => match scale {
                Some(scale) => bytes(&mut onnx, "images", "images", scale, (0.0, 1.0)),
                None => "images".into(),
            },
            &Op::Conv { kernel, stride, groups, activation, .. } => {
                let folded = export::fold(node, weights).map_err(wrap)?;
                let read = plan.activations[node.inputs[0]];
                let [weight, bias] = match &rounded[id] {
                    Some(rounded) if plan.weights[id] => {
                        integers(&mut onnx, &node.name, &folded.shape, rounded, read)
                    }
                    _ => [
                        onnx.floats(&format!("{}.weight", node.name), &folded.shape, &folded.weight),
                        onnx.floats(&format!("{}.bias", node.name), &[folded.bias.len()], &folded.bias),
                    ],
                };
                let attributes = export::conv_attributes(kernel, stride, groups);
                let conv =
                    onnx.op("Conv", &format!("{}.conv", node.name), &[inputs[0], &weight, &bias], attributes);
                let bounds = match activation {
                    Activation::Relu => Some((0.0, f32::INFINITY)),
                    Activation::Relu6 => Some((0.0, 6.0)),
                    Activation::None => Some(UNBOUNDED),
                    Activation::LeakyRelu | Activation::HardSigmoid => None,
                };
                match (scale, bounds) {
                    // One Clip serves for the activation and for the range of the bytes.
                    (Some(scale), Some(bounds)) => bytes(&mut onnx, &node.name, &conv, scale, bounds),
                    (Some(scale), None) => {
                        let map = export::activate(&mut onnx, node, &conv, activation);
                        bytes(&mut onnx, &node.name, &map, scale, UNBOUNDED)
                    }
                    (None, _) => export::activate(&mut onnx, node, &conv, activation),
                }
            }
            Op::Detect { head } => {
                export::detect(&mut onnx, &graph, node, &inputs, head);
                "output0".into()
            }
            op => {
                let map = export::plain(&mut onnx, node, &inputs);
                match (scale, op) {
                    // Bytes that are only moved need no clip.
                    (Some(scale), Op::MaxPool { .. } | Op::Upsample { .. } | Op::Concat | Op::Slice { .. }) => {
                        quantised(&mut onnx, &node.name, &map, scale)
                    }
                    (Some(scale), _) => bytes(&mut onnx, &node.name, &map, scale, UNBOUNDED),
                    (None, _) => map,
                }
            }
        };
        names.push(name);
    }
    let cells = export::cell_count(&graph, size.0, size.1);
    onnx.output("output0", &[1, (4 + network.classes) as i64, cells as i64]);
    Ok(onnx.finish(&export::metadata(network, &graph, size, &names)))
}

/// Weights and bias of the convolution `name` as integers, dequantised.
pub(super) fn integers(
    onnx: &mut GraphBuilder,
    name: &str,
    shape: &[usize],
    rounded: &Rounded,
    read: Option<Scale>,
) -> [String; 2] {
    let Rounded { bytes, scales, bias } = match read {
        Some(scale) => &rounded.clone().fitting(scale.scale),
        None => rounded,
    };
    let channels = bias.len();
    let name = |part: &str| format!("{name}.{part}");
    let bytes = bytes.iter().map(|byte| *byte as u8).collect();
    let weight = onnx.initializer(&name("weight.int8"), shape, DataType::Int8, bytes);
    let scale = onnx.floats(&name("weight.scale"), &[channels], scales);
    let zero = onnx.initializer(&name("weight.zero"), &[channels], DataType::Int8, vec![0; channels]);
    let weight = onnx.op("DequantizeLinear", &name("weight"), &[&weight, &scale, &zero], vec![int("axis", 0)]);
    let Some(Scale { scale: step, .. }) = read else {
        return [weight, onnx.floats(&name("bias"), &[channels], bias)];
    };
    let steps: Vec<f32> = scales.iter().map(|scale| scale * step).collect();
    let sums = bias.iter().zip(&steps).map(|(bias, step)| (bias / step).round_ties_even() as i32);
    let sums = sums.flat_map(i32::to_le_bytes).collect();
    let bias = onnx.initializer(&name("bias.int32"), &[channels], DataType::Int32, sums);
    let scale = onnx.floats(&name("bias.scale"), &[channels], &steps);
    [weight, onnx.op("DequantizeLinear", &name("bias"), &[&bias, &scale], vec![int("axis", 0)])]
}

/// Clips `map` to the range of the bytes and to `bounds`, then quantises and dequantises it.
pub(super) fn bytes(onnx: &mut GraphBuilder, name: &str, map: &str, scale: Scale, bounds: (f32, f32)) -> String {
    let (low, high) = (onnx.scalar(scale.low().max(bounds.0)), onnx.scalar(scale.high().min(bounds.1)));
    let clipped = onnx.op("Clip", &format!("{name}.clip"), &[map, &low, &high], vec![]);
    quantised(onnx, name, &clipped, scale)
}

/// Quantises and dequantises `map`.
pub(super) fn quantised(onnx: &mut GraphBuilder, name: &str, map: &str, scale: Scale) -> String {
    debug_assert!(scale.zero_point <= ACTIVATION_MAX);
    let step = onnx.scalar(scale.scale);
    let zero = onnx.initializer(&format!("{name}.zero"), &[], DataType::Uint8, vec![scale.zero_point]);
    let bytes = onnx.op("QuantizeLinear", &format!("{name}.uint8"), &[map, &step, &zero], vec![]);
    onnx.op("DequantizeLinear", &format!("{name}.float"), &[&bytes, &step, &zero], vec![])
}
