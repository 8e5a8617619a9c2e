//! Removes dead channels from a network.
//!
//! A dead channel adds a constant to the layers that read it. The constant is moved into their bias, and the channel is
//! removed. The network becomes smaller, and its output stays the same.

use crate::checkpoint::Weights;
use crate::dead::{fold_constant, watch};
use crate::error::{Error, Result};
use crate::network::{Graph, Network, Node, NodeId, Op};
use crate::prune::groups::{Channel, cut, groups};

/// A trimmed network and the number of removed channels.
#[derive(Debug)]
pub struct Trimmed {
    /// The smaller network.
    pub network: Network,
    /// Its weights.
    pub weights: Weights,
    /// For each group of channels (see [`groups`]), how many were removed.
    pub cut: Vec<(String, usize)>,
}

/// Removes the channels of `network` that are dead on `images` (see [`crate::quantize::letterboxed`]) of `side` ×
/// `side` pixels. All readers must be 1×1 convolutions, because a larger kernel reads zeros next to the constant at the
/// border. The width of a group stays a multiple of `multiple`, if it is at least that, because processors compute this
/// number of channels at once.
///
/// # Errors
///
/// Weights of another network, a side that does not fit, fewer than two images, a multiple of 0.
pub fn trim(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    multiple: usize,
    progress: &dyn Fn(usize),
) -> Result<Trimmed> {
    if multiple == 0 {
        return Err(Error::Option { option: "--multiple", problem: "0 is no width".into() });
    }
    let graph = network.graph()?;
    let read: Vec<NodeId> = graph.nodes.iter().filter(|node| mixes(node)).map(|node| node.inputs[0]).collect();
    let wanted = |node: &Node| read.iter().any(|&id| id > 0 && graph.nodes[id].name == node.name);
    let seen = watch(network, weights, images, side, wanted, progress)?;
    let dead_of: Vec<Vec<usize>> =
        seen.iter().map(|seen| seen.as_ref().map_or_else(Vec::new, |seen| seen.dead())).collect();

    let mut weights = weights.clone();
    let groups = groups(&graph);
    let mut removed: Vec<&Channel> = Vec::new();
    let mut counts = Vec::new();
    for group in &groups {
        let is_dead = |channel: &&Channel| {
            let mut readers = readers(&graph, channel);
            readers.all(|(reader, id, channel)| {
                matches!(reader.op, Op::Conv { kernel: 1, .. }) && dead_of[id].contains(&channel)
            })
        };
        let mut dead: Vec<&Channel> = group.channels.iter().filter(is_dead).collect();
        let (all, alive) = (group.channels.len(), group.channels.len() - dead.len());
        dead.truncate(all - alive.max(1).next_multiple_of(multiple).min(all));
        for channel in &dead {
            for (reader, id, channel) in readers(&graph, channel) {
                if let Some(seen) = &seen[id] {
                    fold_constant(&mut weights, reader, channel, seen.mean(channel));
                }
            }
        }
        if !dead.is_empty() {
            counts.push((group.name.clone(), dead.len()));
        }
        removed.extend(dead);
    }
    let (network, weights) = cut(network, &weights, &removed)?;
    Ok(Trimmed { network, weights, cut: counts })
}

/// Whether each output channel of a node depends on all of its input channels.
fn mixes(node: &Node) -> bool {
    matches!(node.op, Op::Conv { groups: 1, .. })
}

/// The convolutions that mix `channel` with others, each with the node that it reads and the channel's number there.
fn readers<'a>(graph: &'a Graph, channel: &'a Channel) -> impl Iterator<Item = (&'a Node, NodeId, usize)> {
    channel.iter().flat_map(|&(id, channel)| {
        let readers = graph.nodes.iter().filter(move |node| mixes(node) && node.inputs[0] == id);
        readers.map(move |reader| (reader, id, channel))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::NetworkCost;
    use crate::export::{Storage, to_onnx};
    use crate::reference::random_weights;
    use crate::{quantize, zoo};

    #[test]
    fn without_its_dead_channels_a_network_gives_the_same_output() {
        let side = 64;
        let network = zoo::network("micro_yolo", 3).unwrap();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        let gains = weights.iter_mut().filter(|(name, _)| name.ends_with("bn.weight"));
        gains.for_each(|(_, gain)| gain.values.iter_mut().for_each(|gain| *gain *= 3.0));
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..4).map(|_| (0..3 * side * side).map(|_| random.f32()).collect()).collect();
        // Sums far below zero or above six: constants 0 and 6.
        for (name, channel, sum) in [("block3.depthwise.bn.bias", 2, -100.0), ("box16.pointwise.bn.bias", 1, 100.0)]
        {
            weights.get_mut(name).unwrap().values[channel] = sum;
        }
        let squeeze = weights.get_mut("context.squeeze.conv.bias").unwrap();
        let inner = squeeze.values.len();
        squeeze.values.iter_mut().enumerate().for_each(|(i, bias)| *bias = if i % 2 == 0 { -100.0 } else { 100.0 });

        let scores = |network: &Network, weights: &Weights| {
            let onnx = to_onnx(network, weights, (side, side), Storage::Single).unwrap();
            quantize::scores(&onnx, &images, side).unwrap()
        };
        let trimmed = trim(&network, &weights, &images, side, 4, &|_| ()).unwrap();
        let count = |name: &str| trimmed.cut.iter().find(|(group, _)| group == name).map_or(0, |(_, count)| *count);
        assert_eq!(count("context.squeeze"), inner - 4, "{:?}", trimmed.cut);
        // The input of a removed depthwise channel is removed too: its group has block2's name.
        assert!(count("block2.pointwise") >= 4 && count("box16.pointwise") >= 4, "{:?}", trimmed.cut);
        let noise = quantize::noise(&scores(&network, &weights), &scores(&trimmed.network, &trimmed.weights));
        // A dead channel may vary by 0.02.
        assert!(noise < 1e-6, "{noise}");
        let parameters = |network: &Network| NetworkCost::new(network, side, side).unwrap().total.parameters;
        assert!(parameters(&trimmed.network) < parameters(&network) * 97 / 100);
    }

    #[test]
    fn dead_channels_go_from_every_slice_that_has_them() {
        let side = 64;
        let text = include_str!("../tests/export/distribution.json");
        let network: Network = serde_json::from_str(text).unwrap();
        let mut weights = random_weights(&network.graph().unwrap(), 5);
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..2).map(|_| (0..3 * side * side).map(|_| random.f32()).collect()).collect();
        // Always 0 in channels 0 and 6 of `sum`: the left slice has the first, the right one the second.
        let dead = [("ghost.primary", 6, 0), ("ghost.cheap", 6, 0), ("shortcut.pointwise", 12, 0)];
        for (name, channels, channel) in dead.into_iter().chain([("shortcut.pointwise", 12, 6)]) {
            for part in ["conv.weight", "conv.bias"] {
                let values = &mut weights.get_mut(&format!("{name}.{part}")).unwrap().values;
                let row = values.len() / channels;
                values[channel * row..][..row].fill(0.0);
            }
        }
        let trimmed = trim(&network, &weights, &images, side, 1, &|_| ()).unwrap();
        let slices: Vec<(usize, usize)> = trimmed
            .network
            .layers
            .iter()
            .filter_map(|layer| match layer.kind {
                crate::network::LayerKind::Slice { start, channels } => Some((start, channels)),
                _ => None,
            })
            .collect();
        assert_eq!(slices[..2], [(0, 5), (3, 7)], "{:?}", trimmed.cut);
        let scores = |network: &Network, weights: &Weights| {
            let onnx = to_onnx(network, weights, (side, side), Storage::Single).unwrap();
            quantize::scores(&onnx, &images, side).unwrap()
        };
        let noise = quantize::noise(&scores(&network, &weights), &scores(&trimmed.network, &trimmed.weights));
        // A dead channel may vary by 0.02.
        assert!(noise < 1e-6, "{noise}");
    }

    #[test]
    fn a_constant_that_a_wide_convolution_reads_stays() {
        let (side, channels) = (64, 4..8);
        let network = zoo::network("micro_yolo", 3).unwrap();
        let mut weights = random_weights(&network.graph().unwrap(), 5);
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..2).map(|_| (0..3 * side * side).map(|_| random.f32()).collect()).collect();
        // Always 6; the mean of 25 such is 6 inside and less at the border, where it sees zeros.
        let set = |weights: &mut Weights, name: &str, at: std::ops::Range<usize>, value: f32| {
            weights.get_mut(name).unwrap().values[at].fill(value);
        };
        set(&mut weights, "lateral.bn.bias", channels.clone(), 100.0);
        set(&mut weights, "fuse.depthwise.conv.weight", channels.start * 25..channels.end * 25, 0.02);
        for (part, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            set(&mut weights, &format!("fuse.depthwise.bn.{part}"), channels.clone(), value);
        }
        let cut = |weights: &Weights| {
            let trimmed = trim(&network, weights, &images, side, 4, &|_| ()).unwrap();
            trimmed.cut.iter().find(|(group, _)| group == "lateral").map_or(0, |(_, count)| *count)
        };
        let kept = cut(&weights);
        // With that convolution dead as well, the constant has no effect.
        set(&mut weights, "fuse.depthwise.bn.bias", channels.clone(), -100.0);
        assert_eq!(cut(&weights), kept + channels.len());
    }
}
