//! Finds dead channels, which are constant on all images, and removes their influence on later layers.

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::network::{Network, Node, Op};
use crate::quantize;

/// The largest range of values of a dead channel, over all pixels of all images.
const DEAD_RANGE_MAX: f32 = 0.02;

/// Statistics of a node's channels on some images.
pub(crate) struct ChannelStatistics {
    /// The smallest value of each channel.
    pub low: Vec<f32>,
    /// The largest value of each channel.
    pub high: Vec<f32>,
    /// The means of all channels, per image.
    pub means: Vec<Vec<f32>>,
}

impl ChannelStatistics {
    pub fn mean(&self, channel: usize) -> f32 {
        self.means.iter().map(|means| means[channel]).sum::<f32>() / self.means.len() as f32
    }

    pub fn deviation(&self, channel: usize) -> f32 {
        let mean = self.mean(channel);
        let squares: f32 = self.means.iter().map(|means| (means[channel] - mean).powi(2)).sum();
        (squares / self.means.len() as f32).sqrt()
    }

    /// The dead channels.
    pub fn dead(&self) -> Vec<usize> {
        (0..self.low.len()).filter(|&channel| self.high[channel] - self.low[channel] <= DEAD_RANGE_MAX).collect()
    }
}

/// Runs the network on `images` (see [`quantize::letterboxed`]) of `side` × `side` pixels and returns the statistics of the
/// outputs of all `wanted` nodes, by node.
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
) -> Result<Vec<Option<ChannelStatistics>>> {
    if images.len() < 2 {
        let problem = "needs two photographs: a channel is dead if its values are the same on all".into();
        return Err(Error::Option { option: "--images", problem });
    }
    let graph = network.graph()?;
    let watched: Vec<usize> = (0..graph.nodes.len()).filter(|&id| wanted(&graph.nodes[id])).collect();
    let mut seen: Vec<Option<ChannelStatistics>> = graph
        .nodes
        .iter()
        .map(|node| {
            let (low, high) = (vec![f32::INFINITY; node.channels], vec![f32::NEG_INFINITY; node.channels]);
            wanted(node).then_some(ChannelStatistics { low, high, means: Vec::new() })
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

/// The values of a tensor of `node`.
pub(crate) fn tensor<'a>(weights: &'a mut Weights, node: &Node, part: &str) -> &'a mut Vec<f32> {
    &mut weights.entry(format!("{}.{part}", node.name)).or_default().values
}

/// Sets the weights of `reader`, a 1×1 convolution, for `channel` to zero. The channel is always `value`, so its
/// contribution moves into the bias.
pub(crate) fn fold_constant(weights: &mut Weights, reader: &Node, channel: usize, value: f32) {
    let Op::Conv { input, norm, .. } = reader.op else { return };
    let column = tensor(weights, reader, "conv.weight").iter_mut().skip(channel).step_by(input);
    let contributions: Vec<f32> = column.map(|weight| std::mem::take(weight) * value).collect();
    // Normalisation subtracts its mean; without normalisation there is a bias.
    let (part, sign) = if norm { ("bn.running_mean", -1.0) } else { ("conv.bias", 1.0) };
    let sums = tensor(weights, reader, part).iter_mut();
    sums.zip(contributions).for_each(|(sum, contribution)| *sum += sign * contribution);
}
