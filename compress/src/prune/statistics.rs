//! Statistics of a network's maps for pruning, measured on photographs by forward passes only.
//!
//! - **Moments.** For every map that dense convolutions read, the mean products of its channels. They determine how
//!   well a channel can be predicted from the others.
//! - **Sensitivity.** For every channel, the squared gradient of the network's outputs, summed over its map. It makes
//!   errors of different layers comparable. It is propagated backward from the head through squared weights and mean
//!   squared slopes of the activations, as if gradients had random signs (the diagonal approximation of Becker and
//!   LeCun 1988, "Improving the Convergence of Back-Propagation Learning with Second Order Methods").

use std::collections::BTreeMap;

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{Array1, Array2, Axis};

use super::groups::scales;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::network::{Activation, Graph, Head, Network, Node, NodeId, Op, UpsampleMode};
use crate::quantize;

/// The maximum number of cells of a map that are used per photograph.
const CELLS_MAX: usize = 2048;

/// The ridge, as a share of each channel's variance. It keeps weights small if channels are nearly equal. It is
/// relative, so that a channel's scale does not matter.
const RIDGE: f64 = 1e-5;

/// With fewer samples per channel than this, correlations are partly chance and count less.
const SAMPLES_A_CHANNEL: f64 = 10.0;

/// Cells whose best score is below this do not count for boxes.
const SEEN_MIN: f64 = 0.05;

/// Minimum variance of a score, so that classes that no photograph shows count a little.
const VARIANCE_MIN: f64 = 2e-4;

/// The mean products of a map's channels and of a constant 1, which comes last.
#[derive(Debug, Clone)]
pub struct Moments {
    /// `[channels + 1, channels + 1]`, sums of the means of each photograph.
    sums: Array2<f64>,
    photographs: usize,
    cells: usize,
}

impl Moments {
    fn new(channels: usize) -> Moments {
        Moments { sums: Array2::zeros((channels + 1, channels + 1)), photographs: 0, cells: 0 }
    }

    /// Adds a map, `[channels, cells]`.
    fn add(&mut self, map: &[f32], cells: usize, random: &mut fastrand::Rng) {
        let channels = self.sums.nrows() - 1;
        let places: Vec<usize> = if cells <= CELLS_MAX {
            (0..cells).collect()
        } else {
            (0..CELLS_MAX).map(|_| random.usize(..cells)).collect()
        };
        let mut values = Array2::from_elem((channels + 1, places.len()), 1.0);
        for (mut row, plane) in values.outer_iter_mut().zip(map.chunks(cells)) {
            row.iter_mut().zip(&places).for_each(|(value, &place)| *value = f64::from(plane[place]));
        }
        general_mat_mul(1.0 / places.len() as f64, &values, &values.t(), 1.0, &mut self.sums);
        self.photographs += 1;
        self.cells += places.len();
    }

    /// The inverse of the mean products, with a ridge. `1 / inverse[c, c]` is the mean squared error of channel `c` when
    /// all others and the constant predict it.
    pub(super) fn inverse(&self) -> Array2<f64> {
        let last = self.sums.nrows() - 1;
        let mut moments = &self.sums / self.photographs.max(1) as f64;
        let means: Array1<f64> = moments.row(last).to_owned();
        let scarce = 1.0 - self.cells as f64 / (SAMPLES_A_CHANNEL * last as f64);
        if scarce > 0.0 {
            for ((i, j), product) in moments.indexed_iter_mut().filter(|((i, j), _)| i != j) {
                let chance = means[i] * means[j];
                *product = chance + (*product - chance) * (1.0 - scarce);
            }
        }
        // If a channel never changes, the constant predicts it.
        let least = 1e-12 * (moments.diag().sum() + f64::MIN_POSITIVE);
        for i in 0..last {
            let square = moments[[i, i]];
            moments[[i, i]] += RIDGE * (square - means[i].powi(2)).max(0.0) + 1e-9 * square + least;
        }
        invert(&mut moments);
        moments
    }
}

/// The inverse of a positive definite matrix, in place: sweeps its columns one by one (Gauss and Jordan's method).
fn invert(matrix: &mut Array2<f64>) {
    for k in 0..matrix.nrows() {
        let pivot = matrix[[k, k]];
        let column = matrix.column(k).to_owned().insert_axis(Axis(1));
        general_mat_mul(-1.0 / pivot, &column, &column.t(), 1.0, matrix);
        let swept = column.remove_axis(Axis(1)) / pivot;
        matrix.column_mut(k).assign(&swept);
        matrix.row_mut(k).assign(&swept);
        matrix[[k, k]] = -1.0 / pivot;
    }
    matrix.mapv_inplace(|value| -value);
}

/// See [the module](self).
#[derive(Debug, Clone)]
pub struct Statistics {
    /// By node; only for nodes that dense convolutions read.
    pub(super) moments: Vec<Option<Moments>>,
    /// By node and channel: for convolutions before the activation, for other nodes of their output.
    pub(crate) sensitivity: Vec<Vec<f64>>,
}

impl Statistics {
    /// Checks whether [`collect`](Self::collect) can use these images.
    ///
    /// # Errors
    ///
    /// No images, a side that does not fit.
    pub fn check(graph: &Graph, images: &[Vec<f32>], side: usize) -> Result<()> {
        if images.is_empty() {
            let problem = "pruning needs photographs to look at".into();
            return Err(Error::Option { option: "--statistics", problem });
        }
        graph.check_size("--imgsz", side, side)
    }

    /// Runs the network on `images` (see [`quantize::letterboxed`]) of `side` × `side` pixels.
    ///
    /// # Errors
    ///
    /// No images, weights of another network, a side that does not fit.
    pub fn collect(
        network: &Network,
        weights: &Weights,
        images: &[Vec<f32>],
        side: usize,
        progress: &dyn Fn(usize),
    ) -> Result<Statistics> {
        let graph = network.graph()?;
        Statistics::check(&graph, images, side)?;
        let last = graph.nodes.len() - 1;
        let mut moments: Vec<Option<Moments>> = vec![None; graph.nodes.len()];
        for node in graph.nodes.iter().filter(|node| is_dense(node)) {
            let input = node.inputs[0];
            moments[input] = (input > 0).then(|| Moments::new(graph.nodes[input].channels));
        }
        let zeros: Vec<Vec<f64>> = graph.nodes.iter().map(|node| vec![0.0; node.channels]).collect();
        let mut means = Means { squares: zeros.clone(), slopes: zeros.clone() };
        let mut answers = zeros;
        let mut head: BTreeMap<NodeId, Vec<f32>> = BTreeMap::new();
        let head_maps: std::collections::BTreeSet<NodeId> = graph.nodes[last].inputs.iter().copied().collect();
        let mut random = fastrand::Rng::with_seed(1);
        let watched: Vec<NodeId> = (1..last).collect();
        quantize::watch(network, weights, images, side, &watched, progress, |id, map, height, width| {
            let cells = height * width;
            if let Some(moments) = &mut moments[id] {
                moments.add(map, cells, &mut random);
            }
            means.add(&graph, id, map, cells);
            if head_maps.contains(&id) {
                head.insert(id, map.to_vec());
            }
            if head.len() == head_maps.len() {
                add_answers(&graph, &head, &mut answers);
                head.clear();
            }
        })?;
        let count = images.len() as f64;
        for values in [&mut means.squares, &mut means.slopes, &mut answers] {
            values.iter_mut().flatten().for_each(|value| *value /= count);
        }
        let sensitivity = sensitivity(&graph, weights, answers, &means, side);
        Ok(Statistics { moments, sensitivity })
    }
}

/// Whether each output channel of a node reads all of its input channels.
pub(super) fn is_dense(node: &Node) -> bool {
    matches!(node.op, Op::Conv { groups: 1, .. })
}

/// For each node and channel, sums over photographs of means over the map.
struct Means {
    /// Means of the squared values.
    squares: Vec<Vec<f64>>,
    /// Means of the squared slopes of the activation that computed them.
    slopes: Vec<Vec<f64>>,
}

impl Means {
    fn add(&mut self, graph: &Graph, id: NodeId, map: &[f32], cells: usize) {
        let activation = match graph.nodes[id].op {
            Op::Conv { activation, .. } => activation,
            _ => Activation::None,
        };
        for (channel, plane) in map.chunks(cells).enumerate() {
            let square: f32 = plane.iter().map(|value| value * value).sum();
            self.squares[id][channel] += f64::from(square) / cells as f64;
            self.slopes[id][channel] += match activation {
                Activation::None => 1.0,
                _ => plane.iter().map(|&value| slope(activation, value).powi(2)).sum::<f64>() / cells as f64,
            };
        }
    }
}

/// The slope of an activation at the output `value`.
fn slope(activation: Activation, value: f32) -> f64 {
    let inside = match activation {
        Activation::None => true,
        Activation::Relu | Activation::LeakyRelu => value > 0.0,
        Activation::Relu6 => value > 0.0 && value < 6.0,
        Activation::HardSigmoid => value > 0.0 && value < 1.0,
    };
    match activation {
        Activation::LeakyRelu if !inside => 0.1,
        Activation::HardSigmoid if inside => 1.0 / 6.0,
        _ if inside => 1.0,
        _ => 0.0,
    }
}

fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

fn variance(probability: f64) -> f64 {
    (probability * (1.0 - probability)).max(VARIANCE_MIN)
}

/// Adds the sensitivity to changes of the head's maps (`head`, by node) to `answers`, by node and channel, summed over
/// each map. For scores it is their variance; for boxes it grows with the best score of the cell.
fn add_answers(graph: &Graph, head: &BTreeMap<NodeId, Vec<f32>>, answers: &mut [Vec<f64>]) {
    let Some(Node { op: Op::Detect { head: form }, inputs, .. }) = graph.nodes.last() else { return };
    if let Head::Anchors { .. } = form {
        for id in inputs {
            let (map, sums) = (&head[id], &mut answers[*id]);
            let (cells, values) = (map.len() / sums.len(), 5 + graph.classes);
            for (index, value) in map.iter().enumerate() {
                let (channel, cell) = (index / cells, index % cells);
                let (anchor, part) = (channel / values, channel % values);
                let object = sigmoid(map[(anchor * values + 4) * cells + cell]);
                sums[channel] += match part {
                    // Positions in the cell, after a sigmoid whose slope is at most 1/4.
                    0 | 1 => 4.0 * object * sigmoid(*value) * (1.0 - sigmoid(*value)),
                    2 | 3 => object,
                    4 => variance(object),
                    _ => object * variance(sigmoid(*value)),
                };
            }
        }
        return;
    }
    for pair in inputs.chunks(2) {
        let (sides, scores) = (&head[&pair[0]], &head[&pair[1]]);
        let cells = scores.len() / graph.classes;
        let mut seen = vec![0f64; cells];
        for (index, logit) in scores.iter().enumerate() {
            let probability = sigmoid(*logit);
            answers[pair[1]][index / cells] += variance(probability);
            seen[index % cells] = seen[index % cells].max(probability);
        }
        seen.iter_mut().filter(|seen| **seen <= SEEN_MIN).for_each(|seen| *seen = 0.0);
        let bins = if let Head::Distribution { bins, .. } = form { *bins } else { 1 };
        for (side, logits) in sides.chunks(bins * cells).enumerate() {
            for (cell, seen) in seen.iter().enumerate().filter(|(_, seen)| **seen > 0.0) {
                if bins == 1 {
                    answers[pair[0]][side] += seen; // Logarithms of distances.
                    continue;
                }
                // The slope of the expectation with respect to a logit is its probability times its distance from the
                // expectation.
                let logit = |bin: usize| f64::from(logits[bin * cells + cell]);
                let most = (0..bins).map(logit).fold(f64::NEG_INFINITY, f64::max);
                let shares: Vec<f64> = (0..bins).map(|bin| (logit(bin) - most).exp()).collect();
                let all: f64 = shares.iter().sum();
                let mean = shares.iter().enumerate().map(|(bin, share)| bin as f64 * share).sum::<f64>() / all;
                for (bin, share) in shares.iter().enumerate() {
                    answers[pair[0]][side * bins + bin] += seen * (share / all * (bin as f64 - mean)).powi(2);
                }
            }
        }
    }
}

/// Propagates `answers`, the sensitivity of the head's maps, backward to all nodes.
fn sensitivity(
    graph: &Graph,
    weights: &Weights,
    answers: Vec<Vec<f64>>,
    means: &Means,
    side: usize,
) -> Vec<Vec<f64>> {
    let mut sensitivity = answers;
    let add = |sums: &mut [f64], values: &mut dyn Iterator<Item = f64>| {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    };
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        let mut own = std::mem::take(&mut sensitivity[id]);
        match &node.op {
            Op::Image | Op::Detect { .. } => {}
            &Op::Conv { kernel, groups, .. } => {
                own.iter_mut().zip(&means.slopes[id]).for_each(|(own, slope)| *own *= slope);
                let input = &mut sensitivity[node.inputs[0]];
                let weight = &weights[&format!("{}.conv.weight", node.name)].values;
                let scales = scales(weights, &node.name, node.channels);
                for (row, cells) in weight.chunks(weight.len() / node.channels).enumerate() {
                    let factor = own[row] * scales[row].powi(2);
                    let squares = cells.chunks(kernel * kernel);
                    let squares = squares.map(|taps| taps.iter().map(|tap| f64::from(*tap).powi(2)).sum::<f64>());
                    let first = if groups > 1 { row } else { 0 };
                    add(&mut input[first..], &mut squares.map(|square| factor * square));
                }
            }
            // Each value of the output is one value of the input.
            Op::MaxPool { .. } | Op::Upsample { mode: UpsampleMode::Nearest, .. } | Op::Add => {
                for &input in &node.inputs {
                    add(&mut sensitivity[input], &mut own.iter().copied());
                }
            }
            // A mean of two cells with weights 3/4 and 1/4, in both directions.
            Op::Upsample { mode: UpsampleMode::Bilinear, .. } => {
                add(&mut sensitivity[node.inputs[0]], &mut own.iter().map(|own| own * (0.625f64).powi(2)));
            }
            Op::Concat => {
                let mut parts = own.iter().copied();
                for &input in &node.inputs {
                    add(&mut sensitivity[input], &mut parts.by_ref().take(graph.nodes[input].channels));
                }
            }
            &Op::Slice { start } => {
                add(&mut sensitivity[node.inputs[0]][start..], &mut own.iter().copied());
            }
            Op::GlobalAveragePool => {
                let input = node.inputs[0];
                let cells = graph.nodes[input].map_size(side, side).map_or(1, |[width, height]| width * height);
                add(&mut sensitivity[input], &mut own.iter().map(|own| own / cells as f64));
            }
            Op::Scale => {
                for (input, other) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
                    let factors = own.iter().zip(&means.squares[other]);
                    add(&mut sensitivity[input], &mut factors.map(|(own, square)| own * square));
                }
            }
        }
        sensitivity[id] = own;
    }
    sensitivity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Layer, LayerKind};
    use crate::reference::random_weights;

    #[test]
    fn the_inverse_is_one() {
        let mut random = fastrand::Rng::with_seed(1);
        let rows = Array2::from_shape_simple_fn((7, 7), || random.f64() - 0.5);
        let matrix = rows.dot(&rows.t()) + Array2::<f64>::eye(7) * 0.1;
        let mut inverse = matrix.clone();
        invert(&mut inverse);
        let off = matrix.dot(&inverse) - Array2::<f64>::eye(7);
        assert!(off.iter().all(|off| off.abs() < 1e-9), "{off}");
    }

    /// Two branches of one depthwise and one 1×1 convolution each, concatenated before the head.
    fn branches() -> Network {
        let conv = |name: &str, out, kernel, activation| {
            Layer::new(name, LayerKind::Conv { out, kernel, stride: 1, activation, norm: false })
        };
        let ds = |name: &str| Layer::new(name, LayerKind::ds_conv(6, 3, 1, Activation::LeakyRelu)).from(["stem"]);
        let layers = vec![
            conv("stem", 4, 3, Activation::Relu6),
            ds("left"),
            ds("right"),
            Layer::new("join", LayerKind::Concat).from(["left", "right"]),
            conv("sides", 4, 1, Activation::None),
            conv("scores", 2, 1, Activation::None).from(["join"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        Network { name: "branches".into(), classes: 2, names: Vec::new(), layers }
    }

    #[test]
    fn what_the_head_hardly_reads_matters_little() {
        let network = branches();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 3);
        for (name, classes) in [("sides", 4), ("scores", 2)] {
            let weight = &mut weights.get_mut(&format!("{name}.conv.weight")).unwrap().values;
            // Channels 6 to 11 are the right branch's.
            (0..classes * 12).filter(|i| i % 12 >= 6).for_each(|i| weight[i] *= 0.1);
        }
        let mut random = fastrand::Rng::with_seed(2);
        let images: Vec<Vec<f32>> = (0..2).map(|_| (0..3 * 8 * 8).map(|_| random.f32()).collect()).collect();
        let statistics = Statistics::collect(&network, &weights, &images, 8, &|_| ()).unwrap();
        let of = |name: &str| {
            let id = graph.nodes.iter().position(|node| node.name == name).unwrap();
            statistics.sensitivity[id].iter().sum::<f64>()
        };
        let (left, right) = (of("left.pointwise"), of("right.pointwise"));
        assert!(left > 20.0 * right && right > 0.0, "{left} {right}");
        assert!(of("left.depthwise") > 20.0 * of("right.depthwise"));
        assert!(of("scores") > 0.0 && of("stem") > 0.0);
        let none = Statistics::collect(&network, &weights, &[], 8, &|_| ());
        assert!(matches!(none, Err(Error::Option { option: "--statistics", .. })));
    }
}
