//! Networks as ONNX, in the form that the detector reads: input `images`, f32 `[1, 3, H, W]`, RGB in 0–1; output
//! `output0`, f32 `[1, 4 + C, N]`: centre x, centre y, width and height in pixels of the input, then class scores.
//!
//! Batch normalisation is folded into the convolutions. The file declares an input size, but the graph uses it only
//! through `Shape`. So a runtime can override the size with another multiple of the stride.

use crate::checkpoint::{Weights, fits_half};
use crate::error::{Error, Result};
use crate::network::{Activation, Graph, Head, NORM_EPSILON, Network, Node, NodeId, Op, PoolPadding, UpsampleMode};
use crate::onnx::{GraphBuilder, float, int, ints, text};

/// Logarithms of distances are limited to this (90 strides), here and in the trainer's loss. Larger ones would only
/// overflow.
pub(crate) const SIDE_MAX: f32 = 4.5;

/// The point in a cell from which an anchor-free head measures distances, in strides.
const CENTRE: f32 = 0.5;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Storage {
    /// 16-bit floats, widened by the runtime when it loads the model. Weights too large for them are stored in 32 bits.
    Half,
    /// 32-bit floats.
    Single,
}

/// A convolution's weights with the normalisation folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// OIHW.
    pub weight: Vec<f32>,
    /// The shape of `weight`.
    pub shape: [usize; 4],
    /// One per output channel.
    pub bias: Vec<f32>,
}

/// Folds the normalisation of the convolution `node` into its weights.
///
/// # Errors
///
/// A message naming the tensor that is missing or of another shape.
pub fn fold(node: &Node, weights: &Weights) -> std::result::Result<Folded, String> {
    let &Op::Conv { input, kernel, groups, norm, .. } = &node.op else {
        return Err(format!("`{}` is no convolution", node.name));
    };
    let get = |part: &str, len: usize| {
        let name = format!("{}.{part}", node.name);
        match weights.get(&name) {
            Some(array) if array.values.len() == len => Ok(&array.values),
            Some(array) => Err(format!("tensor `{name}` has {} values, not {len}", array.values.len())),
            None => Err(format!("has no tensor `{name}`")),
        }
    };
    let channels = node.channels;
    let shape = [channels, input / groups, kernel, kernel];
    let size = shape[1] * kernel * kernel;
    let mut weight = get("conv.weight", channels * size)?.clone();
    let bias = if norm {
        let (gain, offset) = (get("bn.weight", channels)?, get("bn.bias", channels)?);
        let (mean, variance) = (get("bn.running_mean", channels)?, get("bn.running_var", channels)?);
        let mut bias = Vec::with_capacity(channels);
        for channel in 0..channels {
            let scale = gain[channel] as f64 / (variance[channel] as f64 + NORM_EPSILON).sqrt();
            let part = &mut weight[channel * size..(channel + 1) * size];
            part.iter_mut().for_each(|value| *value = (*value as f64 * scale) as f32);
            bias.push((offset[channel] as f64 - mean[channel] as f64 * scale) as f32);
        }
        bias
    } else {
        get("conv.bias", channels)?.clone()
    };
    Ok(Folded { weight, shape, bias })
}

/// Writes `network` with `weights` for inputs of `width` × `height` pixels.
///
/// # Errors
///
/// A size that [`Graph::check_size`] refuses; weights of another network; an inconsistent network.
pub fn to_onnx(
    network: &Network,
    weights: &Weights,
    (width, height): (usize, usize),
    storage: Storage,
) -> Result<Vec<u8>> {
    let graph = network.graph()?;
    graph.check_size("--imgsz", width, height)?;
    let wrap = |problem| Error::Network { network: network.name.clone(), problem };
    let mut onnx = GraphBuilder::new(&network.name);
    onnx.input("images", &[1, 3, height as i64, width as i64]);

    // The name of each node in the file.
    let mut names: Vec<String> = vec!["images".into()];
    for node in &graph.nodes[1..] {
        let inputs: Vec<&str> = node.inputs.iter().map(|&id| names[id].as_str()).collect();
        let name = match &node.op {
            Op::Image => "images".into(),
            &Op::Conv { kernel, stride, groups, activation, .. } => {
                let Folded { weight, shape, bias } = fold(node, weights).map_err(wrap)?;
                let kernel_name = format!("{}.weight", node.name);
                let weight = match storage {
                    Storage::Half if fits_half(&weight) => onnx.halves(&kernel_name, &shape, &weight),
                    _ => onnx.floats(&kernel_name, &shape, &weight),
                };
                let bias = onnx.floats(&format!("{}.bias", node.name), &[bias.len()], &bias);
                let name =
                    if activation == Activation::None { node.name.clone() } else { format!("{}.conv", node.name) };
                let conv =
                    onnx.op("Conv", &name, &[inputs[0], &weight, &bias], conv_attributes(kernel, stride, groups));
                activate(&mut onnx, node, &conv, activation)
            }
            Op::Detect { head } => {
                detect(&mut onnx, &graph, node, &inputs, head);
                "output0".into()
            }
            _ => plain(&mut onnx, node, &inputs),
        };
        names.push(name);
    }
    let cells = cell_count(&graph, width, height);
    onnx.output("output0", &[1, (4 + network.classes) as i64, cells as i64]);
    Ok(onnx.finish(&metadata(network, &graph, (width, height), &names)))
}

/// Attributes of a square convolution with a padding of half its kernel.
pub fn conv_attributes(kernel: usize, stride: usize, groups: usize) -> Vec<tract_onnx::pb::AttributeProto> {
    let (side, stride, pad) = (kernel as i64, stride as i64, (kernel / 2) as i64);
    vec![
        ints("kernel_shape", &[side, side]),
        ints("strides", &[stride, stride]),
        ints("pads", &[pad, pad, pad, pad]),
        ints("dilations", &[1, 1]),
        int("group", groups as i64),
    ]
}

/// The number of predictions. With anchors, each anchor of a cell counts.
pub(crate) fn cell_count(graph: &Graph, width: usize, height: usize) -> usize {
    let per_cell = |index: usize| match graph.nodes.last().map(|node| &node.op) {
        Some(Op::Detect { head: Head::Anchors { anchors, .. } }) => anchors[index].len(),
        _ => 1,
    };
    let strides = graph.head_strides();
    let cells = |stride: usize| width.div_ceil(stride) * height.div_ceil(stride);
    strides.iter().enumerate().map(|(i, &stride)| cells(stride) * per_cell(i)).sum()
}

/// The metadata that Ultralytics' exporter writes, for programs that expect it, and the description of the head.
/// `names` are the names of the nodes in the file.
pub fn metadata(
    network: &Network,
    graph: &Graph,
    (width, height): (usize, usize),
    names: &[String],
) -> Vec<(&'static str, String)> {
    let head = head(graph, names);
    let classes: Vec<String> = match network.names.as_slice() {
        [] => (0..network.classes).map(|class| format!("{class}: 'class{class}'")).collect(),
        names => names.iter().enumerate().map(|(class, name)| format!("{class}: {}", quoted(name))).collect(),
    };
    vec![
        ("description", format!("{} by micro-yolo", network.name)),
        ("author", "the micro-yolo authors".into()),
        ("license", "MIT OR Apache-2.0".into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("task", "detect".into()),
        ("stride", graph.input_multiple().to_string()),
        ("batch", "1".into()),
        ("imgsz", format!("[{height}, {width}]")),
        ("names", format!("{{{}}}", classes.join(", "))),
        ("micro_yolo.head", head),
    ]
}

/// A name as Python writes it.
fn quoted(name: &str) -> String {
    let quote = if name.contains('\'') && !name.contains('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for letter in name.chars() {
        match letter {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' => text.push_str("\\\\"),
            letter if letter == quote => text.extend(['\\', quote]),
            letter => text.push(letter),
        }
    }
    text.push(quote);
    text
}

/// The description of the head for readers that decode by themselves: JSON, as documented in `src/onnx/head.rs` of the
/// detector.
fn head(graph: &Graph, names: &[String]) -> String {
    let Some(Node { op: Op::Detect { head }, inputs, .. }) = graph.nodes.last() else { return String::new() };
    let maps: Vec<Vec<&String>> =
        inputs.chunks(head.maps_per_stride()).map(|maps| maps.iter().map(|&id| &names[id]).collect()).collect();
    let mut value = serde_json::json!({ "maps": maps, "strides": graph.head_strides() });
    match head {
        Head::AnchorFree => {
            value["kind"] = "anchor_free".into();
            value["offset"] = CENTRE.into();
            value["limit"] = SIDE_MAX.into();
        }
        Head::Distribution { bins, offset } => {
            value["kind"] = "distribution".into();
            value["offset"] = (*offset).into();
            value["bins"] = (*bins).into();
        }
        Head::Anchors { anchors, xy_scales } => {
            value["kind"] = "anchors".into();
            value["anchors"] = serde_json::json!(anchors);
            if !xy_scales.is_empty() {
                value["xy_scales"] = serde_json::json!(xy_scales);
            }
        }
    }
    value.to_string()
}

/// Writes an operation without weights that is not part of the head.
pub(crate) fn plain(onnx: &mut GraphBuilder, node: &Node, inputs: &[&str]) -> String {
    match &node.op {
        &Op::MaxPool { kernel, stride, padding } => {
            let (kernel, stride) = (kernel as i64, stride as i64);
            let (before, after) = match padding {
                PoolPadding::Both => (kernel / 2, kernel / 2),
                // Pads one more cell than an even side needs, because the side may be odd: its last cell counts too.
                PoolPadding::End if node.stride > 32 => (0, kernel - 1),
                PoolPadding::End => (0, kernel - stride),
            };
            let attributes = vec![
                ints("kernel_shape", &[kernel, kernel]),
                ints("strides", &[stride, stride]),
                ints("pads", &[before, before, after, after]),
            ];
            onnx.op("MaxPool", &node.name, inputs, attributes)
        }
        &Op::Upsample { factor, mode } => {
            let factor = factor as f32;
            let scales = onnx.floats(&format!("{}.scales", node.name), &[4], &[1.0, 1.0, factor, factor]);
            let attributes = match mode {
                UpsampleMode::Nearest => vec![
                    text("mode", "nearest"),
                    text("nearest_mode", "floor"),
                    text("coordinate_transformation_mode", "asymmetric"),
                ],
                UpsampleMode::Bilinear => {
                    vec![text("mode", "linear"), text("coordinate_transformation_mode", "half_pixel")]
                }
            };
            onnx.op("Resize", &node.name, &[inputs[0], "", &scales], attributes)
        }
        Op::Concat => onnx.op("Concat", &node.name, inputs, vec![int("axis", 1)]),
        &Op::Slice { start } => {
            let [starts, ends, axes] = [start, start + node.channels, 1].map(|value| onnx.ints(&[value as i64]));
            onnx.op("Slice", &node.name, &[inputs[0], &starts, &ends, &axes], vec![])
        }
        Op::Add => {
            let mut sum = inputs[0].to_owned();
            for (i, input) in inputs.iter().enumerate().skip(1) {
                let last = i + 1 == inputs.len();
                let name = if last { node.name.clone() } else { format!("{}.{i}", node.name) };
                sum = onnx.op("Add", &name, &[&sum, input], vec![]);
            }
            sum
        }
        Op::GlobalAveragePool => onnx.op("GlobalAveragePool", &node.name, inputs, vec![]),
        Op::Scale => onnx.op("Mul", &node.name, inputs, vec![]),
        Op::Image | Op::Conv { .. } | Op::Detect { .. } => unreachable!("written by those who know their tensors"),
    }
}

/// Writes an activation, named after its node.
pub(crate) fn activate(onnx: &mut GraphBuilder, node: &Node, map: &str, activation: Activation) -> String {
    match activation {
        Activation::None => map.to_owned(),
        Activation::Relu => onnx.op("Relu", &node.name, &[map], vec![]),
        Activation::Relu6 => {
            let (low, high) = (onnx.scalar(0.0), onnx.scalar(6.0));
            onnx.op("Clip", &node.name, &[map, &low, &high], vec![])
        }
        Activation::LeakyRelu => onnx.op("LeakyRelu", &node.name, &[map], vec![float("alpha", 0.1)]),
        Activation::HardSigmoid => {
            let attributes = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
            onnx.op("HardSigmoid", &node.name, &[map], attributes)
        }
    }
}

/// Writes the head, ending in `output0`.
pub fn detect(onnx: &mut GraphBuilder, graph: &Graph, node: &Node, inputs: &[&str], head: &Head) {
    match head {
        Head::AnchorFree => {
            let limit = onnx.scalar(SIDE_MAX);
            let four = onnx.ints(&[1, 4, -1]);
            sides_and_classes(onnx, graph, inputs, CENTRE, |onnx, map| {
                // Directly after the convolution, so that a runtime can fuse it like an activation.
                let sides = onnx.step("Min", &[map, &limit], vec![]);
                let sides = onnx.step("Exp", &[&sides], vec![]);
                onnx.step("Reshape", &[&sides, &four], vec![])
            });
        }
        &Head::Distribution { bins, offset } => {
            let split = onnx.ints(&[1, 4, bins as i64, -1]);
            let axis = onnx.ints(&[2]);
            let steps: Vec<f32> = (0..bins).map(|bin| bin as f32).collect();
            let steps = onnx.floats("bins", &[1, 1, bins, 1], &steps);
            sides_and_classes(onnx, graph, inputs, offset, |onnx, map| {
                let bins = onnx.step("Reshape", &[map, &split], vec![]);
                let bins = onnx.step("Softmax", &[&bins], vec![int("axis", 2)]);
                let bins = onnx.step("Mul", &[&bins, &steps], vec![]);
                onnx.step("ReduceSum", &[&bins, &axis], vec![int("keepdims", 0)])
            });
        }
        Head::Anchors { anchors, .. } => {
            let map = |(index, &id): (usize, &NodeId)| (graph.nodes[id].stride as f32, head.xy_scale(index));
            let maps: Vec<(f32, f32)> = node.inputs.iter().enumerate().map(map).collect();
            with_anchors(onnx, graph.classes as i64, inputs, &maps, anchors);
        }
    }
}

/// The centres of a map's cells in input pixels, `[1, 2, cells]`: x, then y.
fn centres(onnx: &mut GraphBuilder, map: &str, stride: f32, offset: f32) -> String {
    let shape = onnx.step("Shape", &[map], vec![int("start", 2), int("end", 4)]);
    let (zero, one) = (onnx.scalar_int(0), onnx.scalar_int(1));
    let offset = onnx.scalar(offset);
    let stride = onnx.scalar(stride);
    let line = |onnx: &mut GraphBuilder, axis: &str| {
        let count = onnx.step("Gather", &[&shape, axis], vec![int("axis", 0)]);
        let steps = onnx.step("Range", &[&zero, &count, &one], vec![]);
        let steps = onnx.step("Cast", &[&steps], vec![int("to", 1)]);
        let steps = onnx.step("Add", &[&steps, &offset], vec![]);
        onnx.step("Mul", &[&steps, &stride], vec![])
    };
    let flat = onnx.ints(&[1, 1, -1]);
    let column = onnx.ints(&[-1, 1]);
    let x = line(onnx, &one);
    let x = onnx.step("Expand", &[&x, &shape], vec![]);
    let x = onnx.step("Reshape", &[&x, &flat], vec![]);
    let y = line(onnx, &zero);
    let y = onnx.step("Reshape", &[&y, &column], vec![]);
    let y = onnx.step("Expand", &[&y, &shape], vec![]);
    let y = onnx.step("Reshape", &[&y, &flat], vec![]);
    onnx.step("Concat", &[&x, &y], vec![int("axis", 1)])
}

fn slice(onnx: &mut GraphBuilder, map: &str, axis: i64, start: i64, end: i64) -> String {
    let (start, end, axis) = (onnx.ints(&[start]), onnx.ints(&[end]), onnx.ints(&[axis]));
    onnx.step("Slice", &[map, &start, &end, &axis], vec![])
}

fn join(onnx: &mut GraphBuilder, parts: &[String], axis: i64) -> String {
    match parts {
        [one] => one.clone(),
        parts => {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            onnx.step("Concat", &parts, vec![int("axis", axis)])
        }
    }
}

/// Writes a head with pairs of maps. `distances` writes how the four distances of a map's cells, `[1, 4, cells]` in
/// strides, are computed from the first map of a pair. `offset` is the point in the cell from which they are measured.
fn sides_and_classes(
    onnx: &mut GraphBuilder,
    graph: &Graph,
    inputs: &[&str],
    offset: f32,
    distances: impl Fn(&mut GraphBuilder, &str) -> String,
) {
    let classes = onnx.ints(&[1, graph.classes as i64, -1]);
    let (mut all_sides, mut all_scores, mut all_centres) = (Vec::new(), Vec::new(), Vec::new());
    for (pair, stride) in inputs.chunks(2).zip(graph.head_strides()) {
        let sides = distances(onnx, pair[0]);
        let stride_name = onnx.scalar(stride as f32);
        all_sides.push(onnx.step("Mul", &[&sides, &stride_name], vec![]));
        all_scores.push(onnx.step("Reshape", &[pair[1], &classes], vec![]));
        all_centres.push(centres(onnx, pair[0], stride as f32, offset));
    }
    let sides = join(onnx, &all_sides, 2);
    let scores = join(onnx, &all_scores, 2);
    let centres = join(onnx, &all_centres, 2);
    let before = slice(onnx, &sides, 1, 0, 2);
    let after = slice(onnx, &sides, 1, 2, 4);
    let half = onnx.scalar(0.5);
    let shift = onnx.step("Sub", &[&after, &before], vec![]);
    let shift = onnx.step("Mul", &[&shift, &half], vec![]);
    let centre = onnx.step("Add", &[&centres, &shift], vec![]);
    let size = onnx.step("Add", &[&before, &after], vec![]);
    let scores = onnx.step("Sigmoid", &[&scores], vec![]);
    onnx.op("Concat", "output0", &[&centre, &size, &scores], vec![int("axis", 1)]);
}

/// Writes a head with anchors (YOLOv3, Redmon & Farhadi 2018, section 2.1). A class's score is its probability times
/// the objectness. `maps` are the stride of each map and the scale of x and y (YOLOv4, Bochkovskiy et al. 2020, section
/// 3.3).
fn with_anchors(
    onnx: &mut GraphBuilder,
    classes: i64,
    inputs: &[&str],
    maps: &[(f32, f32)],
    anchors: &[Vec<[f32; 2]>],
) {
    let mut all = Vec::new();
    for ((map, &(stride, xy_scale)), anchors) in inputs.iter().zip(maps).zip(anchors) {
        let count = anchors.len() as i64;
        let split = onnx.ints(&[1, count, 5 + classes, -1]);
        let map4 = onnx.step("Reshape", &[map, &split], vec![]);
        // The position for a sigmoid of 0, [1, 2, cells], broadcast to [1, A, 2, cells]: the corner of the cell, or
        // outside it.
        let corner = centres(onnx, map, stride, (1.0 - xy_scale) / 2.0);
        let corner_shape = onnx.ints(&[1, 1, 2, -1]);
        let corner = onnx.step("Reshape", &[&corner, &corner_shape], vec![]);
        let range = onnx.scalar(xy_scale * stride);
        let centre = slice(onnx, &map4, 2, 0, 2);
        let centre = onnx.step("Sigmoid", &[&centre], vec![]);
        let centre = onnx.step("Mul", &[&centre, &range], vec![]);
        let centre = onnx.step("Add", &[&centre, &corner], vec![]);
        let sizes: Vec<f32> = anchors.iter().flatten().copied().collect();
        let name = format!("{map}.anchors");
        let sizes = onnx.floats(&name, &[1, anchors.len(), 2, 1], &sizes);
        let size = slice(onnx, &map4, 2, 2, 4);
        let size = onnx.step("Exp", &[&size], vec![]);
        let size = onnx.step("Mul", &[&size, &sizes], vec![]);
        let object = slice(onnx, &map4, 2, 4, 5);
        let object = onnx.step("Sigmoid", &[&object], vec![]);
        let scores = slice(onnx, &map4, 2, 5, 5 + classes);
        let scores = onnx.step("Sigmoid", &[&scores], vec![]);
        let scores = onnx.step("Mul", &[&scores, &object], vec![]);
        let cells = onnx.step("Concat", &[&centre, &size, &scores], vec![int("axis", 2)]);
        // [1, A, 4 + C, cells] → [1, 4 + C, A · cells].
        let cells = onnx.step("Transpose", &[&cells], vec![ints("perm", &[0, 2, 1, 3])]);
        let flat = onnx.ints(&[1, 4 + classes, -1]);
        all.push(onnx.step("Reshape", &[&cells, &flat], vec![]));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    onnx.op("Concat", "output0", &all, vec![int("axis", 2)]);
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, IntoTValue, Tensor, tvec};

    use super::*;
    use crate::reference::{Map, random_weights, run};

    const SIZE: (usize, usize) = (96, 64);

    fn image() -> Vec<f32> {
        (0..3 * SIZE.0 * SIZE.1).map(|i| ((i * 37) % 256) as f32 / 255.0).collect()
    }

    fn distribution() -> Network {
        let network: Network = serde_json::from_str(include_str!("../tests/export/distribution.json")).unwrap();
        network.graph().unwrap();
        network
    }

    /// The rows of the output of an ONNX file.
    fn answer(onnx: &[u8]) -> Vec<Vec<f32>> {
        let model = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(onnx)).unwrap();
        let model = model.into_optimized().unwrap().into_runnable().unwrap();
        let image = Tensor::from_shape(&[1, 3, SIZE.1, SIZE.0], &image()).unwrap();
        let output = model.run(tvec!(image.into_tvalue())).unwrap();
        let values = output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap();
        values.chunks(output[0].shape()[2]).map(<[f32]>::to_vec).collect()
    }

    /// The distribution head by its definition, cell by cell.
    fn decoded(graph: &Graph, maps: &[Map]) -> Vec<Vec<f32>> {
        let Some(&Head::Distribution { bins, offset }) = graph.head() else { panic!("another head") };
        let mut rows = vec![Vec::new(); 4 + graph.classes];
        for pair in graph.nodes.last().unwrap().inputs.chunks(2) {
            let (sides, scores, stride) = (&maps[pair[0]], &maps[pair[1]], graph.nodes[pair[0]].stride as f32);
            let cells = sides.width * sides.height;
            for cell in 0..cells {
                let [l, t, r, b] = [0, 1, 2, 3].map(|side| {
                    let powers = (0..bins).map(|bin| sides.values[(side * bins + bin) * cells + cell].exp());
                    let powers: Vec<f32> = powers.collect();
                    let mean: f32 = powers.iter().enumerate().map(|(bin, power)| bin as f32 * power).sum();
                    mean / powers.iter().sum::<f32>() * stride
                });
                let [x, y] = [cell % sides.width, cell / sides.width].map(|at| (at as f32 + offset) * stride);
                let box_ = [x + (r - l) / 2.0, y + (b - t) / 2.0, l + r, t + b];
                let scores =
                    (0..graph.classes).map(|class| 1.0 / (1.0 + (-scores.values[class * cells + cell]).exp()));
                rows.iter_mut().zip(box_.into_iter().chain(scores)).for_each(|(row, value)| row.push(value));
            }
        }
        rows
    }

    fn off(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
        assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), b.iter().map(Vec::len).collect::<Vec<_>>());
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// A pool padded on both sides, bilinear upsampling, blocks with a depthwise convolution without activation and
    /// without normalisation, a map of stride 64 that the image covers partly, and distributions.
    #[test]
    fn a_network_of_new_forms_is_what_onnxruntime_made_of_it() {
        let network = distribution();
        let graph = network.graph().unwrap();
        assert_eq!((graph.input_multiple(), graph.head_strides()), (32, vec![8, 16, 64]));
        let weights = random_weights(&graph, 24);
        let onnx = to_onnx(&network, &weights, SIZE, Storage::Single).unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(folder.join("distribution.onnx"), &onnx).unwrap();
            panic!("written: now run make.py");
        }
        let text = std::fs::read_to_string(folder.join("distribution-answer.json")).unwrap();
        let expected: Vec<Vec<f32>> = serde_json::from_str(&text).unwrap();
        // 12x8 cells, 6x4, and of stride 64 one and a half by one: 2x1.
        assert_eq!(expected[0].len(), 96 + 24 + 2);
        assert!(expected[4..].iter().flatten().any(|score| (score - expected[4][0]).abs() > 0.05));
        assert!(off(&answer(&onnx), &expected) < 1e-3);
        let image = Map { channels: 3, width: SIZE.0, height: SIZE.1, values: image() };
        assert!(off(&decoded(&graph, &run(&graph, &weights, image)), &expected) < 1e-3);
    }

    #[test]
    fn names_of_classes_come_back_whatever_is_in_them() {
        let names = ["it's", "the \"big\" one", "it's \"big\"", "a\\b", "two\nlines\t", "Ampel-grün 信号"];
        let mut network = crate::zoo::network("micro_yolo", names.len()).unwrap();
        network.names = names.map(String::from).to_vec();
        let weights = random_weights(&network.graph().unwrap(), 3);
        let onnx = to_onnx(&network, &weights, (64, 64), Storage::Half).unwrap();
        let model = micro_yolo::Model::from_onnx(&onnx).unwrap();
        let read: Vec<&str> = model.class_names().iter().map(|name| &**name).collect();
        assert_eq!(read, names);
    }

    #[test]
    fn weights_too_large_for_half_precision_stay_in_32_bits() {
        let network = distribution();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 24);
        let convolutions = graph.nodes.iter().filter(|node| matches!(node.op, Op::Conv { .. }));
        let names: Vec<&str> = convolutions.map(|node| node.name.as_str()).collect();
        weights.get_mut(&format!("{}.conv.weight", names[1])).unwrap().values[0] = 1e5;
        let onnx = to_onnx(&network, &weights, SIZE, Storage::Half).unwrap();
        let stored = tract_onnx::pb::ModelProto::decode(onnx.as_slice()).unwrap().graph.unwrap().initializer;
        let is_there = |name: String| stored.iter().any(|tensor| tensor.name == name);
        for name in names.iter().copied() {
            let [whole, half] = [format!("{name}.weight"), format!("{name}.weight.f16")].map(is_there);
            assert_eq!((whole, half), (name == names[1], name != names[1]), "{name}");
        }
    }

    #[test]
    fn half_a_map_of_stride_64_is_counted_but_not_asked_for() {
        let graph = distribution().graph().unwrap();
        for side in [32, 96, 416] {
            graph.check_size("--imgsz", side, side).unwrap();
        }
        assert!(graph.check_size("--imgsz", 48, 48).is_err());
        assert_eq!(cell_count(&graph, 416, 416), 52 * 52 + 26 * 26 + 7 * 7);
        let names: Vec<String> = graph.nodes.iter().map(|node| node.name.clone()).collect();
        let metadata = metadata(&distribution(), &graph, (416, 416), &names);
        assert!(metadata.contains(&("stride", "32".into())));
        let (_, head) = metadata.iter().find(|(key, _)| *key == "micro_yolo.head").unwrap();
        let expected = serde_json::json!({
            "kind": "distribution", "bins": 4, "offset": 0.0, "strides": [8, 16, 64],
            "maps": [["bins8", "scores8"], ["bins16", "scores16"], ["bins64", "scores64"]],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(head).unwrap(), expected);
    }
}
