//! Re-initialises dead channels.
//!
//! If the sums of a channel with ReLU6 are below zero, or above six, on every photograph, it has no gradient, so
//! training cannot change it. If all inner channels of a squeeze-and-excitation are dead, its gates are constant. Dead
//! channels get new random weights here, and the layers that read them get weights of zero. The network's output stays
//! the same, and further training can use the channels.
//!
//! Two kinds of channels are treated: the inner channels of squeeze-and-excitation with their saturated gates, and the
//! channels of convolutions with normalisation that only 1×1 convolutions read, directly or through slices and
//! concatenations. A larger kernel would read zeros next to the constant at the border.

use crate::checkpoint::Weights;
use crate::dead::{ChannelStatistics, fold_constant, tensor, watch};
use crate::error::Result;
use crate::network::{Activation, Graph, Network, Node, NodeId, Op};

/// The logit to which saturated gates are set (or its negative). It is a sixth away from the end of the range with a
/// gradient.
const OPEN_LOGIT: f32 = 2.0;

/// The channels and gates that were re-initialised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revived {
    /// For each convolution, the number of channels with new weights.
    pub channels: Vec<(String, usize)>,
    /// For each convolution, the number of gates that were saturated.
    pub gates: Vec<(String, usize)>,
}

/// Re-initialises the channels of `network` that are dead on `images` (see [`crate::quantize::letterboxed`]) of `side`
/// × `side` pixels. Changes `weights`, with random numbers from `seed`.
///
/// # Errors
///
/// Weights of another network, a side that does not fit, fewer than two images.
pub fn revive(
    network: &Network,
    weights: &mut Weights,
    images: &[Vec<f32>],
    side: usize,
    seed: u64,
    progress: &dyn Fn(usize),
) -> Result<Revived> {
    let graph = network.graph()?;
    let wanted = |node: &Node| matches!(node.op, Op::Conv { .. } | Op::GlobalAveragePool);
    let seen = watch(network, weights, images, side, wanted, progress)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut revived = Revived::default();
    for (id, node) in graph.nodes.iter().enumerate() {
        let (Op::Conv { norm, activation, .. }, Some(own)) = (&node.op, &seen[id]) else { continue };
        if !matches!(activation, Activation::Relu | Activation::Relu6) {
            continue;
        }
        let dead = own.dead();
        let mut count = 0;
        if matches!(graph.nodes[node.inputs[0]].op, Op::GlobalAveragePool) {
            let (Some(pooled), Some(reader)) = (&seen[node.inputs[0]], only_reader(&graph, id)) else { continue };
            count = dead.len();
            for &channel in &dead {
                fold_constant(weights, reader, channel, own.mean(channel));
                start_squeeze(weights, node, channel, pooled, &mut random);
            }
            let excite = graph.nodes.iter().position(|other| other.name == reader.name);
            let gates = excite.map_or(0, |id| open_gates(&graph, weights, id, seen[id].as_ref()));
            if gates > 0 {
                revived.gates.push((reader.name.clone(), gates));
            }
        } else if *norm {
            let alive: Vec<usize> = (0..node.channels).filter(|channel| !dead.contains(channel)).collect();
            for &channel in dead.iter().filter(|_| !alive.is_empty()) {
                let Some(readers) = readers(&graph, id, channel).filter(|readers| !readers.is_empty()) else {
                    continue;
                };
                for (reader, place) in readers {
                    fold_constant(weights, reader, place, own.mean(channel));
                }
                count += 1;
                start_convolution(weights, node, channel, alive[random.usize(..alive.len())], &mut random);
            }
        }
        if count > 0 {
            revived.channels.push((node.name.clone(), count));
        }
    }
    Ok(revived)
}

/// The 1×1 convolution that reads node `id`, if it is the only reader.
fn only_reader(graph: &Graph, id: usize) -> Option<&Node> {
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&id));
    let (reader, None) = (readers.next()?, readers.next()) else { return None };
    matches!(reader.op, Op::Conv { kernel: 1, groups: 1, .. }).then_some(reader)
}

/// The 1×1 convolutions that read a channel of node `id`, each with the channel's number in its input. `None` if
/// anything else reads it, because a constant could then not be moved into a bias.
fn readers(graph: &Graph, id: NodeId, channel: usize) -> Option<Vec<(&Node, usize)>> {
    let mut found = Vec::new();
    for (next, node) in graph.nodes.iter().enumerate() {
        let mut first = 0;
        for &input in &node.inputs {
            // The offset of an input in a concatenation.
            let place = first + channel;
            first += graph.nodes[input].channels;
            if input != id {
                continue;
            }
            match &node.op {
                Op::Conv { kernel: 1, groups: 1, .. } => found.push((node, channel)),
                Op::Slice { start } if (*start..start + node.channels).contains(&channel) => {
                    found.extend(readers(graph, next, channel - start)?);
                }
                Op::Slice { .. } => (),
                Op::Concat => found.extend(readers(graph, next, place)?),
                _ => return None,
            }
        }
    }
    Some(found)
}

/// New weights for a channel of `squeeze`: its sum is positive for half of the photographs, with a standard deviation
/// of 1.
fn start_squeeze(
    weights: &mut Weights,
    squeeze: &Node,
    channel: usize,
    pooled: &ChannelStatistics,
    random: &mut fastrand::Rng,
) {
    let inputs = pooled.low.len();
    let mut row: Vec<f32> = (0..inputs)
        .map(|input| match pooled.deviation(input) {
            deviation if deviation > 1e-3 => normal(random) / deviation,
            _ => 0.0,
        })
        .collect();
    let sum = |means: &Vec<f32>| means.iter().zip(&row).map(|(mean, weight)| mean * weight).sum::<f32>();
    let sums: Vec<f32> = pooled.means.iter().map(sum).collect();
    let mean = sums.iter().sum::<f32>() / sums.len() as f32;
    let deviation = (sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f32>() / sums.len() as f32).sqrt().max(1e-6);
    row.iter_mut().for_each(|weight| *weight /= deviation);
    tensor(weights, squeeze, "conv.weight")[channel * inputs..][..inputs].copy_from_slice(&row);
    tensor(weights, squeeze, "conv.bias")[channel] = -mean / deviation;
}

/// New weights for a channel of a convolution, with the size and the normalisation of a channel `live`. Training
/// measures its mean and variance.
fn start_convolution(weights: &mut Weights, node: &Node, channel: usize, live: usize, random: &mut fastrand::Rng) {
    let weight = tensor(weights, node, "conv.weight");
    let length = weight.len() / node.channels;
    let squares: f32 = weight[live * length..][..length].iter().map(|weight| weight * weight).sum();
    let size = (squares / length as f32).sqrt();
    weight[channel * length..][..length].iter_mut().for_each(|weight| *weight = normal(random) * size);
    for part in ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"] {
        let values = tensor(weights, node, part);
        values[channel] = values[live];
    }
}

/// Moves the gates of the convolution `excite` that are saturated on every photograph back to a value with a gradient,
/// and compensates for that in the convolution that reads the scaled channels. Returns their number.
fn open_gates(graph: &Graph, weights: &mut Weights, excite: usize, seen: Option<&ChannelStatistics>) -> usize {
    let node = &graph.nodes[excite];
    let scale = graph.nodes.iter().position(|other| other.op == Op::Scale && other.inputs.get(1) == Some(&excite));
    let (Some(seen), Some(project)) = (seen, scale.and_then(|scale| only_reader(graph, scale))) else { return 0 };
    let Op::Conv { input, activation: Activation::HardSigmoid, .. } = node.op else { return 0 };
    let gate = |logit: f32| Activation::HardSigmoid.apply(f64::from(logit)) as f32;
    let mut opened = 0;
    for channel in seen.dead() {
        let row = &weights[&format!("{}.conv.weight", node.name)].values[channel * input..][..input];
        let depends = row.iter().any(|weight| *weight != 0.0);
        let logit = &mut tensor(weights, node, "conv.bias")[channel];
        if depends || logit.abs() <= OPEN_LOGIT {
            continue;
        }
        let (was, now) = (gate(*logit), gate(logit.clamp(-OPEN_LOGIT, OPEN_LOGIT)));
        *logit = logit.clamp(-OPEN_LOGIT, OPEN_LOGIT);
        let column = tensor(weights, project, "conv.weight").iter_mut().skip(channel).step_by(node.channels);
        column.for_each(|weight| *weight *= was / now);
        opened += 1;
    }
    opened
}

/// A normally distributed random number (Box and Muller 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let (radius, angle) = ((1.0 - random.f32()).ln(), random.f32() * std::f32::consts::TAU);
    (-2.0 * radius).sqrt() * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Head, Layer, LayerKind};
    use crate::reference::random_weights;
    use crate::{Error, quantize, zoo};

    fn scores(network: &Network, weights: &Weights, images: &[Vec<f32>], side: usize) -> quantize::Scores {
        let onnx = crate::export::to_onnx(network, weights, (side, side), crate::export::Storage::Single).unwrap();
        quantize::scores(&onnx, images, side).unwrap()
    }

    #[test]
    fn dead_channels_get_weights_and_the_output_stays() {
        let side = 64;
        let network = zoo::network("micro_yolo", 3).unwrap();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        // Gains large enough that outputs differ between images.
        let gains = weights.iter_mut().filter(|(name, _)| name.ends_with("bn.weight"));
        gains.for_each(|(_, gain)| gain.values.iter_mut().for_each(|gain| *gain *= 3.0));
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..4)
            .map(|_| {
                let light = random.f32();
                (0..3 * side * side).map(|_| light * random.f32()).collect()
            })
            .collect();
        // Sums far below zero, or far above six.
        for (name, channel, sum) in [("block3.depthwise.bn.bias", 2, -100.0), ("box16.pointwise.bn.bias", 1, 100.0)]
        {
            weights.get_mut(name).unwrap().values[channel] = sum;
        }
        let squeeze = weights.get_mut("context.squeeze.conv.bias").unwrap();
        let inner = squeeze.values.len();
        squeeze.values.iter_mut().enumerate().for_each(|(i, bias)| *bias = if i % 2 == 0 { -100.0 } else { 100.0 });
        let excite = weights.get_mut("context.excite.conv.bias").unwrap();
        excite.values[0] = 1000.0;
        excite.values[1] = -1000.0;

        let before = scores(&network, &weights, &images, side);
        let revived = revive(&network, &mut weights, &images, side, 7, &|_| ()).unwrap();
        for wanted in [("block3.depthwise", 1), ("box16.pointwise", 1), ("context.squeeze", inner)] {
            // With random weights, other channels are dead too.
            let found = revived.channels.iter().any(|(name, count)| name == wanted.0 && *count >= wanted.1);
            assert!(found, "{wanted:?}: {revived:?}");
        }
        assert!(revived.gates.iter().any(|(name, count)| name == "context.excite" && *count >= 2), "{revived:?}");
        let after = scores(&network, &weights, &images, side);
        let noise = quantize::noise(&before, &after);
        // A dead channel may vary by 0.02.
        assert!(noise < 1e-6, "{noise}");

        // Without normalisation the effect is immediate.
        let seen =
            watch(&network, &weights, &images, side, |node| node.name == "context.squeeze", &|_| ()).unwrap();
        let dead = |name: &str| {
            let id = graph.nodes.iter().position(|node| node.name == name).unwrap();
            seen[id].as_ref().unwrap().dead()
        };
        assert!(dead("context.squeeze").len() < inner / 4, "{:?}", dead("context.squeeze"));
        let gates = &weights["context.excite.conv.bias"].values;
        assert!(gates.iter().all(|logit| logit.abs() <= OPEN_LOGIT));
    }

    #[test]
    fn dead_channels_behind_slices_get_weights_and_the_output_stays() {
        let side = 32;
        let conv = |name: &str, out, kernel, activation| {
            Layer::new(name, LayerKind::Conv { out, kernel, stride: 1, activation, norm: name == "stem" })
        };
        let slice =
            |name: &str, start, channels| Layer::new(name, LayerKind::Slice { start, channels }).from(["stem"]);
        let layers = vec![
            conv("stem", 10, 3, Activation::Relu6),
            slice("left", 0, 4),
            slice("right", 2, 6),
            slice("wide", 8, 1),
            conv("wider", 4, 3, Activation::Relu6),
            Layer::new("join", LayerKind::Concat).from(["wider", "right", "left"]),
            conv("sides", 4, 1, Activation::None),
            conv("scores", 2, 1, Activation::None).from(["join"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        let network = Network { name: "slices".into(), classes: 2, names: Vec::new(), layers };
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        // So that none is dead by chance.
        for (name, values) in &mut weights {
            if name.starts_with("stem.bn.") {
                let value = f32::from(name.ends_with("weight") || name.ends_with("var") || name.ends_with("bias"));
                values.values.fill(value);
            }
        }
        // Channel 8 is read by a 3×3, 9 by nobody.
        let dead = [(0, 100.0), (3, 100.0), (7, -100.0), (8, 100.0), (9, 100.0)];
        for (channel, sum) in dead {
            weights.get_mut("stem.bn.bias").unwrap().values[channel] = sum;
        }
        // Without normalisation, the size of new weights is unknown.
        weights.get_mut("wider.conv.bias").unwrap().values[1] = 100.0;
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..3).map(|_| (0..3 * side * side).map(|_| random.f32()).collect()).collect();
        let (before, old) = (scores(&network, &weights, &images, side), weights.clone());
        let revived = revive(&network, &mut weights, &images, side, 7, &|_| ()).unwrap();
        assert_eq!(revived.channels, [("stem".to_owned(), 3)]);
        let kernel =
            |weights: &Weights, channel: usize| weights["stem.conv.weight"].values[channel * 27..][..27].to_vec();
        for channel in 0..10 {
            let is_new = kernel(&weights, channel) != kernel(&old, channel);
            assert_eq!(is_new, [0, 3, 7].contains(&channel), "channel {channel}");
        }
        // Behind the four channels of `wider`: 2 to 7 of the stem, then 0 to 3.
        for place in 0..14 {
            let is_zero = |name: &str| weights[name].values.chunks(14).all(|row| row[place] == 0.0);
            let zero = [4 + 1, 4 + 5, 10, 10 + 3].contains(&place);
            assert_eq!([is_zero("sides.conv.weight"), is_zero("scores.conv.weight")], [zero; 2], "{place}");
        }
        let noise = quantize::noise(&before, &scores(&network, &weights, &images, side));
        assert!(noise < 1e-6, "{noise}");
    }

    #[test]
    fn one_photograph_is_not_enough() {
        let network = zoo::network("micro_yolo", 3).unwrap();
        let mut weights = random_weights(&network.graph().unwrap(), 5);
        let image = vec![0.5; 3 * 64 * 64];
        assert!(matches!(
            revive(&network, &mut weights, &[image], 64, 1, &|_| ()),
            Err(Error::Option { option: "--images", .. })
        ));
    }
}
