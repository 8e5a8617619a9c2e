//! Channels that say nothing: which they are, and a network that no longer listens to them.

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::network::{Network, Node, Op};
use crate::quantize;

/// A channel that moves by no more than this between and within photographs says nothing.
const SILENCE: f32 = 0.02;

/// What a node's channels were on some photographs.
pub(crate) struct Seen {
    /// Of each channel.
    pub low: Vec<f32>,
    /// Of each channel.
    pub high: Vec<f32>,
    /// Of each photograph the means of all channels.
    pub means: Vec<Vec<f32>>,
}

impl Seen {
    pub fn mean(&self, channel: usize) -> f32 {
        self.means.iter().map(|means| means[channel]).sum::<f32>() / self.means.len() as f32
    }

    pub fn deviation(&self, channel: usize) -> f32 {
        let mean = self.mean(channel);
        let squares: f32 = self.means.iter().map(|means| (means[channel] - mean).powi(2)).sum();
        (squares / self.means.len() as f32).sqrt()
    }

    pub fn silent(&self) -> Vec<usize> {
        (0..self.low.len()).filter(|&channel| self.high[channel] - self.low[channel] <= SILENCE).collect()
    }
}

/// Runs the network on `images` (see [`quantize::letterboxed`]) of `side` × `side` pixels and keeps what the nodes that are
/// `wanted` put out, by node.
///
/// # Errors
///
/// Weights of another network, a side that does not fit, fewer than two images.
pub(crate) fn watch(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    wanted: impl Fn(&Node) -> bool,
    progress: &dyn Fn(usize),
) -> Result<Vec<Option<Seen>>> {
    if images.len() < 2 {
        let problem = "needs two photographs: channels are silent if these make no difference".into();
        return Err(Error::Option { option: "--images", problem });
    }
    let graph = network.graph()?;
    let watched: Vec<usize> = (0..graph.nodes.len()).filter(|&id| wanted(&graph.nodes[id])).collect();
    let mut seen: Vec<Option<Seen>> = graph
        .nodes
        .iter()
        .map(|node| {
            let (low, high) = (vec![f32::INFINITY; node.channels], vec![f32::NEG_INFINITY; node.channels]);
            wanted(node).then_some(Seen { low, high, means: Vec::new() })
        })
        .collect();
    quantize::watch(network, weights, images, side, &watched, progress, |id, map, height, width| {
        let Some(seen) = &mut seen[id] else { return };
        let planes = map.chunks(height * width);
        let means = planes.enumerate().map(|(channel, plane)| {
            for &value in plane {
                seen.low[channel] = seen.low[channel].min(value);
                seen.high[channel] = seen.high[channel].max(value);
            }
            plane.iter().sum::<f32>() / plane.len() as f32
        });
        let means = means.collect();
        seen.means.push(means);
    })?;
    Ok(seen)
}

/// The values of a tensor of `node`'s.
pub(crate) fn tensor<'a>(weights: &'a mut Weights, node: &Node, part: &str) -> &'a mut Vec<f32> {
    &mut weights.entry(format!("{}.{part}", node.name)).or_default().values
}

/// Has `reader`, a 1×1 convolution, no longer listen to `channel`, which has always been `value`.
pub(crate) fn mute(weights: &mut Weights, reader: &Node, channel: usize, value: f32) {
    let Op::Conv { input, norm, .. } = reader.op else { return };
    let column = tensor(weights, reader, "conv.weight").iter_mut().skip(channel).step_by(input);
    let said: Vec<f32> = column.map(|weight| std::mem::take(weight) * value).collect();
    // What normalisation subtracts, or else the bias.
    let (part, sign) = if norm { ("bn.running_mean", -1.0) } else { ("conv.bias", 1.0) };
    let sums = tensor(weights, reader, part).iter_mut();
    sums.zip(said).for_each(|(sum, said)| *sum += sign * said);
}
