//! Runs a graph by the definition of each operation. Slow and simple, as a reference for tests.

use crate::checkpoint::Weights;
use crate::network::{Graph, NORM_EPSILON, Node, Op, PoolPadding, UpsampleMode};

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
/// Sums run over channels in ascending order, so that a channel of zeros changes no bit of the result.
pub fn run(graph: &Graph, weights: &Weights, image: Map) -> Vec<Map> {
    let mut maps: Vec<Map> = Vec::new();
    for node in &graph.nodes {
        let input = |i: usize| &maps[node.inputs[i]];
        let map = match &node.op {
            Op::Image => image.clone(),
            Op::Conv { .. } => conv(node, weights, input(0)),
            &Op::MaxPool { kernel, stride, padding } => {
                let map = input(0);
                let before = if padding == PoolPadding::Both { kernel / 2 } else { 0 };
                let inside = |cell: usize, side: usize| {
                    (cell * stride).saturating_sub(before)..(cell * stride + kernel - before).min(side)
                };
                let (height, width) = (map.height.div_ceil(stride), map.width.div_ceil(stride));
                Map::filled(map.channels, height, width, |channel, y, x| {
                    let mut best = f32::NEG_INFINITY;
                    for y in inside(y, map.height) {
                        for x in inside(x, map.width) {
                            best = best.max(map.at(channel, y, x));
                        }
                    }
                    best
                })
            }
            &Op::Upsample { factor, mode: UpsampleMode::Bilinear } => {
                let map = input(0);
                // The two cells around a position, and the weight of the second.
                let around = |place: usize, side: usize| {
                    let at = ((place as f32 + 0.5) / factor as f32 - 0.5).max(0.0);
                    let first = at as usize;
                    (first, (first + 1).min(side - 1), at - first as f32)
                };
                Map::filled(map.channels, map.height * factor, map.width * factor, |channel, y, x| {
                    let ((top, bottom, down), (left, right, across)) =
                        (around(y, map.height), around(x, map.width));
                    let row =
                        |y: usize| map.at(channel, y, left) * (1.0 - across) + map.at(channel, y, right) * across;
                    row(top) * (1.0 - down) + row(bottom) * down
                })
            }
            &Op::Upsample { factor, mode: UpsampleMode::Nearest } => {
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
            &Op::Slice { start } => {
                let map = input(0);
                Map::filled(node.channels, map.height, map.width, |channel, y, x| map.at(start + channel, y, x))
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

/// Random weights, large enough that no channel is dead by chance.
pub fn random_weights(graph: &Graph, seed: u64) -> Weights {
    let mut random = fastrand::Rng::with_seed(seed);
    crate::checkpoint::tensors(graph)
        .into_iter()
        .map(|spec| {
            let fan_in: usize = spec.shape.iter().skip(1).product();
            let scale = 1.0 / (fan_in as f32).sqrt();
            let values = (0..spec.count())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Head, Layer, LayerKind, Network};

    /// The output of one layer of `kind` for `values` with rows of `width`.
    fn made(kind: LayerKind, width: usize, values: &[f32]) -> Map {
        let conv = |name: &str, out| {
            let activation = crate::network::Activation::None;
            Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 2, activation, norm: false })
        };
        let layers = vec![
            conv("first", 1),
            Layer::new("layer", kind),
            conv("sides", 4).from(["layer"]),
            conv("scores", 1).from(["layer"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        let network = Network { name: "one".into(), classes: 1, names: Vec::new(), layers };
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 1);
        // The first layer takes every second pixel of the image's first channel.
        weights.get_mut("first.conv.weight").unwrap().values = vec![1.0, 0.0, 0.0];
        weights.get_mut("first.conv.bias").unwrap().values = vec![0.0];
        let height = values.len() / width;
        let image = Map::filled(3, 2 * height, 2 * width, |_, y, x| values[y / 2 * width + x / 2]);
        run(&graph, &weights, image)[2].clone()
    }

    #[test]
    fn bilinear_is_pytorchs() {
        // torch.nn.functional.interpolate(…, scale_factor=2, mode="bilinear", align_corners=False)
        let kind = LayerKind::Upsample { factor: 2, mode: UpsampleMode::Bilinear };
        let map = made(kind, 3, &[1.0, 4.0, 9.0, 16.0, 25.0, 36.0]);
        #[rustfmt::skip]
        let expected = [
            1.0, 1.75, 3.25, 5.25, 7.75, 9.0,
            4.75, 5.875, 8.125, 10.875, 14.125, 15.75,
            12.25, 14.125, 17.875, 22.125, 26.875, 29.25,
            16.0, 18.25, 22.75, 27.75, 33.25, 36.0,
        ];
        assert_eq!((map.height, map.width, map.values), (4, 6, expected.to_vec()));
    }

    #[test]
    fn pools_pad_where_they_are_told() {
        #[rustfmt::skip]
        let values = [
            -12.0, -5.0, -9.0, -2.0, -6.0,
            -10.0, -3.0, -7.0, -11.0, -4.0,
            -8.0, -12.0, -5.0, -9.0, -2.0,
            -6.0, -10.0, -3.0, -7.0, -11.0,
        ];
        // torch.nn.functional.max_pool2d(…, 3, 2, 1), and with −∞ on the right and below alone.
        let pool = |padding| made(LayerKind::MaxPool { kernel: 3, stride: 2, padding }, 5, &values);
        assert_eq!(pool(PoolPadding::Both).values, [-3.0, -2.0, -2.0, -3.0, -3.0, -2.0]);
        assert_eq!(pool(PoolPadding::End).values, [-3.0, -2.0, -2.0, -3.0, -2.0, -2.0]);
    }
}
