//! Runs a graph by the definition of each operation: slow and plain, for tests to hold the rest against.

use super::{Graph, NORM_EPSILON, Node, Op};
use crate::checkpoint::Weights;

/// A map, `[channels, height, width]` row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub values: Vec<f32>,
}

impl Map {
    fn at(&self, channel: usize, y: usize, x: usize) -> f32 {
        self.values[(channel * self.height + y) * self.width + x]
    }

    fn filled(
        channels: usize,
        height: usize,
        width: usize,
        mut value: impl FnMut(usize, usize, usize) -> f32,
    ) -> Map {
        let mut values = Vec::with_capacity(channels * height * width);
        for channel in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    values.push(value(channel, y, x));
                }
            }
        }
        Map { channels, height, width, values }
    }
}

/// The outputs of all nodes before [`Op::Detect`], in order.
///
/// Sums run over channels in rising order, so that a channel of zeros changes no bit of the result.
pub fn run(graph: &Graph, weights: &Weights, image: Map) -> Vec<Map> {
    let mut maps: Vec<Map> = Vec::new();
    for node in &graph.nodes {
        let input = |i: usize| &maps[node.inputs[i]];
        let map = match &node.op {
            Op::Image => image.clone(),
            Op::Conv { .. } => conv(node, weights, input(0)),
            &Op::MaxPool { kernel, stride } => {
                let map = input(0);
                Map::filled(map.channels, map.height / stride, map.width / stride, |channel, y, x| {
                    let mut best = f32::NEG_INFINITY;
                    for y in (y * stride..y * stride + kernel).take_while(|&y| y < map.height) {
                        for x in (x * stride..x * stride + kernel).take_while(|&x| x < map.width) {
                            best = best.max(map.at(channel, y, x));
                        }
                    }
                    best
                })
            }
            &Op::Upsample { factor } => {
                let map = input(0);
                Map::filled(map.channels, map.height * factor, map.width * factor, |channel, y, x| {
                    map.at(channel, y / factor, x / factor)
                })
            }
            Op::Concat => {
                let (height, width) = (input(0).height, input(0).width);
                let values = (0..node.inputs.len()).flat_map(|i| input(i).values.iter().copied()).collect();
                Map { channels: node.channels, height, width, values }
            }
            Op::Add => {
                let mut sum = input(0).clone();
                for i in 1..node.inputs.len() {
                    sum.values.iter_mut().zip(&input(i).values).for_each(|(sum, value)| *sum += value);
                }
                sum
            }
            Op::GlobalAveragePool => {
                let map = input(0);
                let cells = map.height * map.width;
                Map::filled(map.channels, 1, 1, |channel, _, _| {
                    map.values[channel * cells..][..cells].iter().sum::<f32>() / cells as f32
                })
            }
            Op::Scale => {
                let (map, gate) = (input(0), input(1));
                Map::filled(map.channels, map.height, map.width, |channel, y, x| {
                    map.at(channel, y, x) * gate.at(channel, 0, 0)
                })
            }
            Op::Detect { .. } => break,
        };
        maps.push(map);
    }
    maps
}

fn conv(node: &Node, weights: &Weights, map: &Map) -> Map {
    let Op::Conv { input, kernel, stride, groups, norm, activation } = node.op else {
        unreachable!("a convolution")
    };
    let tensor = |part: &str| &weights[&format!("{}.{part}", node.name)].values;
    let weight = tensor("conv.weight");
    let (group_input, group_output) = (input / groups, node.channels / groups);
    Map::filled(node.channels, map.height.div_ceil(stride), map.width.div_ceil(stride), |channel, y, x| {
        let mut sum = 0.0;
        for i in 0..group_input {
            let from = channel / group_output * group_input + i;
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let (y, x) = (y * stride + ky, x * stride + kx);
                    let border = kernel / 2;
                    if y < border || x < border || y - border >= map.height || x - border >= map.width {
                        continue;
                    }
                    let weight = weight[((channel * group_input + i) * kernel + ky) * kernel + kx];
                    sum += weight * map.at(from, y - border, x - border);
                }
            }
        }
        let value = if norm {
            let [scale, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
                .map(|part| tensor(&format!("bn.{part}"))[channel]);
            (sum - mean) / (variance + NORM_EPSILON as f32).sqrt() * scale + shift
        } else {
            sum + tensor("conv.bias")[channel]
        };
        activation.apply(value.into()) as f32
    })
}

/// Weights without meaning but with life: none so small that a channel dies by chance.
pub fn random_weights(graph: &Graph, seed: u64) -> Weights {
    let mut random = fastrand::Rng::with_seed(seed);
    crate::checkpoint::tensors(graph)
        .into_iter()
        .map(|spec| {
            let fan_in: usize = spec.shape.iter().skip(1).product();
            let scale = 1.0 / (fan_in as f32).sqrt();
            let values = (0..spec.len())
                .map(|_| {
                    let value = random.f32() * 2.0 - 1.0;
                    match spec.name.rsplit_once('.').map(|name| name.1) {
                        Some("running_var") => value.abs() + 0.5,
                        Some("weight") if spec.shape.len() == 1 => value.abs() + 0.5,
                        _ => value * scale,
                    }
                })
                .collect();
            (spec.name, crate::checkpoint::Array { shape: spec.shape, values })
        })
        .collect()
}
