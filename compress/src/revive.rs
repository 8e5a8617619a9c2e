//! A new start for channels that say nothing.
//!
//! A channel behind ReLU6 whose sums are below zero, or above six, on every photograph has no gradient, and training
//! cannot bring it back. The two convolutions of a squeeze-and-excitation die of it as a whole: then it weights channels by
//! constants, and the network knows nothing of the photograph as a whole. Such channels get new random weights here, and
//! those who read them weights of zero, so that the network computes what it did before; training again gives them a
//! meaning.
//!
//! It looks at two places: the inner channels of squeeze-and-excitation, with the gates that stand at their ends, and the
//! channels of convolutions with normalisation that a single 1×1 convolution reads.

use crate::checkpoint::Weights;
use crate::error::Result;
use crate::network::{Activation, Graph, Network, Node, Op};
use crate::silence::{Seen, mute, tensor, watch};

/// Where gates that stand at their ends are set: a sixth away from either, in the middle of what has a gradient.
const OPEN_LOGIT: f32 = 2.0;

/// The channels that were given a new start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revived {
    /// By convolution, those of its channels that said nothing.
    pub channels: Vec<(String, usize)>,
    /// By convolution, those of its gates that stood at an end.
    pub gates: Vec<(String, usize)>,
}

/// Gives the silent channels of `network` a new start in `weights`, as they are on `images` (see
/// [`crate::quantize::letterboxed`]) of `side` × `side` pixels; random by `seed`.
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
        let Some(reader) = only_reader(&graph, id) else { continue };
        if !matches!(activation, Activation::Relu | Activation::Relu6) {
            continue;
        }
        let silent = own.silent();
        let squeezes = matches!(graph.nodes[node.inputs[0]].op, Op::GlobalAveragePool);
        if squeezes && let Some(pooled) = &seen[node.inputs[0]] {
            for &channel in &silent {
                mute(weights, reader, channel, own.mean(channel));
                start_squeeze(weights, node, channel, pooled, &mut random);
            }
            let excite = graph.nodes.iter().position(|other| other.name == reader.name);
            let gates = excite.map_or(0, |id| open_gates(&graph, weights, id, seen[id].as_ref()));
            if gates > 0 {
                revived.gates.push((reader.name.clone(), gates));
            }
        } else if *norm {
            let alive: Vec<usize> = (0..node.channels).filter(|channel| !silent.contains(channel)).collect();
            for &channel in silent.iter().filter(|_| !alive.is_empty()) {
                mute(weights, reader, channel, own.mean(channel));
                start_convolution(weights, node, channel, alive[random.usize(..alive.len())], &mut random);
            }
        }
        if !silent.is_empty() {
            revived.channels.push((node.name.clone(), silent.len()));
        }
    }
    Ok(revived)
}

/// The 1×1 convolution that reads node `id`, if it alone does.
fn only_reader(graph: &Graph, id: usize) -> Option<&Node> {
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&id));
    let (reader, None) = (readers.next()?, readers.next()) else { return None };
    matches!(reader.op, Op::Conv { kernel: 1, groups: 1, .. }).then_some(reader)
}

/// New weights for a channel of `squeeze`, such that it is above zero for half of the photographs and moves by about one.
fn start_squeeze(weights: &mut Weights, squeeze: &Node, channel: usize, pooled: &Seen, random: &mut fastrand::Rng) {
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

/// New weights for a channel of a convolution, of the size and with the normalisation of a `live` one; training measures
/// its mean and variance.
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

/// Takes the gates of the convolution `excite` that stand at an end, whatever the photograph, back to where they have a
/// gradient, and makes up for it in the convolution that reads what they weight. Says how many.
fn open_gates(graph: &Graph, weights: &mut Weights, excite: usize, seen: Option<&Seen>) -> usize {
    let node = &graph.nodes[excite];
    let scale = graph.nodes.iter().position(|other| other.op == Op::Scale && other.inputs.get(1) == Some(&excite));
    let (Some(seen), Some(project)) = (seen, scale.and_then(|scale| only_reader(graph, scale))) else { return 0 };
    let Op::Conv { input, activation: Activation::HardSigmoid, .. } = node.op else { return 0 };
    let gate = |logit: f32| Activation::HardSigmoid.apply(f64::from(logit)) as f32;
    let mut opened = 0;
    for channel in seen.silent() {
        let row = &weights[&format!("{}.conv.weight", node.name)].values[channel * input..][..input];
        let listens = row.iter().any(|weight| *weight != 0.0);
        let logit = &mut tensor(weights, node, "conv.bias")[channel];
        if listens || logit.abs() <= OPEN_LOGIT {
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

/// A number of the normal distribution (Box and Muller 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let (radius, angle) = ((1.0 - random.f32()).ln(), random.f32() * std::f32::consts::TAU);
    (-2.0 * radius).sqrt() * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::reference::random_weights;
    use crate::{Error, quantize, zoo};

    fn scores(network: &Network, weights: &Weights, images: &[Vec<f32>], side: usize) -> quantize::Scores {
        let onnx = crate::export::to_onnx(network, weights, (side, side), crate::export::Storage::Single).unwrap();
        quantize::scores(&onnx, images, side).unwrap()
    }

    #[test]
    fn what_was_dead_lives_and_nothing_else_changes() {
        let side = 64;
        let network = zoo::network("micro_yolo", 3).unwrap();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        // Lively enough that photographs differ at the end.
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
            // Random weights leave others silent, too.
            let found = revived.channels.iter().any(|(name, count)| name == wanted.0 && *count >= wanted.1);
            assert!(found, "{wanted:?}: {revived:?}");
        }
        assert!(revived.gates.iter().any(|(name, count)| name == "context.excite" && *count >= 2), "{revived:?}");
        let after = scores(&network, &weights, &images, side);
        let noise = quantize::noise(&before, &after);
        // A silent channel may move by 0.02.
        assert!(noise < 1e-6, "{noise}");

        // What has no normalisation lives at once.
        let seen =
            watch(&network, &weights, &images, side, |node| node.name == "context.squeeze", &|_| ()).unwrap();
        let silent = |name: &str| {
            let id = graph.nodes.iter().position(|node| node.name == name).unwrap();
            seen[id].as_ref().unwrap().silent()
        };
        assert!(silent("context.squeeze").len() < inner / 4, "{:?}", silent("context.squeeze"));
        let gates = &weights["context.excite.conv.bias"].values;
        assert!(gates.iter().all(|logit| logit.abs() <= OPEN_LOGIT));
    }

    #[test]
    fn one_photograph_tells_nothing() {
        let network = zoo::network("micro_yolo", 3).unwrap();
        let mut weights = random_weights(&network.graph().unwrap(), 5);
        let image = vec![0.5; 3 * 64 * 64];
        assert!(matches!(
            revive(&network, &mut weights, &[image], 64, 1, &|_| ()),
            Err(Error::Option { option: "--images", .. })
        ));
    }
}
