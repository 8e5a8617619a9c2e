//! Chooses the channels to remove, and fits the convolutions that read them.
//!
//! Every channel is predicted from the others of its map and a constant, by least squares. A convolution that read a
//! removed channel uses its prediction instead, which changes its other weights and its bias. The remaining error is
//! that of the prediction, times the weights, times the sensitivity to errors there ([`Statistics`]). This is Optimal
//! Brain Surgeon (Hassibi and Stork 1993) for whole channels.
//!
//! Channels are removed a few at a time, from all layers, where the error is smallest for the cost saved. After each
//! removal the errors of the remaining channels are updated: of two equal channels, removing the first costs nothing,
//! removing the second a lot.
//!
//! The prediction is made for each cell. So it is exact for 1×1 convolutions. For larger ones it is exact except at the
//! border, because padding does not include the constant.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{Array1, Array2, Axis, concatenate};

use super::groups::{Channel, Group, cut, groups, scales};
use super::statistics::{Moments, Statistics, is_dense};
use crate::checkpoint::Weights;
use crate::cost::{self, Cost};
use crate::error::Result;
use crate::network::{Graph, Network, NodeId, Op};

/// The largest share of a width that a round removes: the more a network changes, the less its statistics apply.
const SHARE_MAX: f64 = 1.0 / 3.0;

/// The target cost of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Maximum parameters.
    pub max_parameters: Option<u64>,
    /// Maximum multiply-accumulates.
    pub max_macs: Option<u64>,
    /// Side in pixels of the square input for which they are counted.
    pub side_px: usize,
    /// Numbers of channels stay multiples of this, and at least this.
    pub multiple: usize,
}

impl Target {
    /// Whether a network with that cost meets the target.
    pub fn is_met(&self, cost: &Cost) -> bool {
        self.max_parameters.is_none_or(|most| cost.parameters <= most)
            && self.max_macs.is_none_or(|most| cost.macs <= most)
    }

    /// The value of a cut: the saved share of the excess at the `start`, of parameters plus MACs.
    fn saving(&self, start: Cost, before: Cost, after: Cost) -> f64 {
        let part = |start: u64, before: u64, after: u64, most: Option<u64>| match most {
            Some(most) if before > most => (before - after) as f64 / (start - most) as f64,
            _ => 0.0,
        };
        part(start.parameters, before.parameters, after.parameters, self.max_parameters)
            + part(start.macs, before.macs, after.macs, self.max_macs)
    }
}

/// A map without some of its channels, which are predicted from the others.
#[derive(Debug, Clone)]
struct Map {
    /// Inverse of the moments of the remaining channels, the constant last.
    inverse: Array2<f64>,
    /// For each pair of channels, the products of the weights that read them, summed over all readers and weighted by
    /// the sensitivity of their outputs.
    products: Array2<f64>,
}

impl Map {
    fn new(graph: &Graph, weights: &Weights, statistics: &Statistics, id: NodeId, moments: &Moments) -> Map {
        let inverse = moments.inverse();
        let mut products = Array2::zeros(inverse.raw_dim());
        for (reader, node) in readers(graph, id) {
            let scales = scales(weights, &node.name, node.channels);
            let matters = statistics.sensitivity[reader].iter().zip(scales);
            let matters: Array1<f64> = matters.map(|(sensitivity, scale)| sensitivity.sqrt() * scale).collect();
            for taps in by_tap(node, weights) {
                let mut rows = Array2::zeros((node.channels, products.nrows()));
                let read = taps.ncols();
                rows.slice_axis_mut(Axis(1), (0..read).into())
                    .assign(&(taps * matters.view().insert_axis(Axis(1))));
                general_mat_mul(1.0, &rows.t(), &rows, 1.0, &mut products);
            }
        }
        Map { inverse, products }
    }

    /// The error caused by removing a channel.
    fn loss(&self, channel: usize) -> f64 {
        let certainty = self.inverse[[channel, channel]];
        if certainty > 0.0 { self.products[[channel, channel]].max(0.0) / certainty } else { 0.0 }
    }

    fn remove(&mut self, channel: usize) {
        let others = predict(&mut self.inverse, channel);
        // Weights w become w + w[channel]·others, which is 0 for the channel itself.
        let row = self.products.row(channel).to_owned();
        let rest = &row + &others * row[channel];
        let column = |values: Array1<f64>| values.insert_axis(Axis(1));
        let (a, b) = ([column(others.clone()), column(rest)], [column(row), column(others)]);
        let (Ok(a), Ok(b)) = (
            concatenate(Axis(1), &a.each_ref().map(|part| part.view())),
            concatenate(Axis(1), &b.each_ref().map(|part| part.view())),
        ) else {
            return; // Columns of one length always fit together.
        };
        general_mat_mul(1.0, &a, &b.t(), 1.0, &mut self.products);
    }
}

/// Removes `channel` from the inverse of the moments. Returns the least-squares coefficients that predict it from the
/// others and the constant; −1 for itself.
fn predict(inverse: &mut Array2<f64>, channel: usize) -> Array1<f64> {
    let row = inverse.row(channel).to_owned();
    let certainty = row[channel];
    let column = row.view().insert_axis(Axis(1));
    general_mat_mul(-1.0 / certainty, &column, &column.t(), 1.0, inverse);
    inverse.row_mut(channel).fill(0.0);
    inverse.column_mut(channel).fill(0.0);
    let mut others = row / -certainty;
    others[channel] = -1.0;
    others
}

/// The dense convolutions that read node `id`.
fn readers(graph: &Graph, id: NodeId) -> impl Iterator<Item = (NodeId, &crate::network::Node)> {
    graph.nodes.iter().enumerate().filter(move |(_, node)| is_dense(node) && node.inputs[0] == id)
}

/// The weights of a dense convolution, `[output, input]`, for each tap of its kernel.
fn by_tap(node: &crate::network::Node, weights: &Weights) -> Vec<Array2<f64>> {
    let Op::Conv { input, kernel, .. } = node.op else { return Vec::new() };
    let (values, taps) = (&weights[&format!("{}.conv.weight", node.name)].values, kernel * kernel);
    let at = |tap: usize| {
        Array2::from_shape_fn((node.channels, input), |(row, column)| {
            f64::from(values[(row * input + column) * taps + tap])
        })
    };
    (0..taps).map(at).collect()
}

/// The channels to remove in one round: those with the smallest error for the cost that they save, until `target` is
/// met or no more channels can be removed.
///
/// # Errors
///
/// Weights of another network.
pub fn choose(
    network: &Network,
    weights: &Weights,
    statistics: &Statistics,
    target: &Target,
) -> Result<Vec<Channel>> {
    let graph = network.graph()?;
    let mut maps = BTreeMap::new();
    let mut widths: Vec<Width> = Vec::new();
    for group in groups(&graph) {
        let nodes: BTreeSet<NodeId> = group.channels[0].iter().map(|&(node, _)| node).collect();
        for &id in &nodes {
            if let Some(moments) = &statistics.moments[id] {
                maps.entry(id).or_insert_with(|| Map::new(&graph, weights, statistics, id, moments));
            }
        }
        let maps = nodes.into_iter().filter(|id| maps.contains_key(id)).collect();
        widths.push(Width { unit: group.unit(target.multiple), group, maps, gone: BTreeSet::new(), next: None });
    }
    let side = target.side_px;
    let mut channels: Vec<usize> = graph.nodes.iter().map(|node| node.channels).collect();
    let start = cost::total(&graph, side, side);
    let mut before = start;
    while !target.is_met(&before) {
        let mut best: Option<(f64, usize, Cost)> = None;
        for (index, width) in widths.iter_mut().enumerate() {
            let count = width.spare();
            if count == 0 {
                continue;
            }
            if width.next.is_none() {
                width.next = Some(width.step(&maps, count));
            }
            let Some(next) = &width.next else { continue };
            let mut narrow = channels.clone();
            next.channels.iter().for_each(|&channel| width.take(channel, &mut narrow));
            let after = cost::total_with(&graph, &narrow, side, side);
            let saving = target.saving(start, before, after);
            let price = next.loss / saving;
            if saving > 0.0 && best.is_none_or(|(least, ..)| price < least) {
                best = Some((price, index, after));
            }
        }
        let Some((_, index, after)) = best else { break };
        before = after;
        let Some(step) = widths[index].next.take() else { break };
        for &channel in &step.channels {
            widths[index].take(channel, &mut channels);
            widths[index].gone.insert(channel);
        }
        let changed: BTreeSet<NodeId> = step.maps.keys().copied().collect();
        maps.extend(step.maps);
        // Results for other widths that share a map with it are no longer valid.
        for width in widths.iter_mut().filter(|width| !width.maps.is_disjoint(&changed)) {
            width.next = None;
        }
    }
    let gone = |width: Width| {
        let channels = width.group.channels.into_iter().enumerate();
        channels.filter(move |(index, _)| width.gone.contains(index)).map(|(_, channel)| channel)
    };
    Ok(widths.into_iter().flat_map(gone).collect())
}

/// A group of channels in the course of a round.
struct Width {
    group: Group,
    /// The number of channels that are removed together.
    unit: usize,
    /// The maps that contain its channels.
    maps: BTreeSet<NodeId>,
    /// Removed channels, by their number in the group.
    gone: BTreeSet<usize>,
    /// The next cut, if it is known.
    next: Option<NextCut>,
}

/// Some channels of a group, and the error and cost after their removal.
struct NextCut {
    channels: Vec<usize>,
    loss: f64,
    maps: BTreeMap<NodeId, Map>,
}

impl Width {
    /// How many channels may be removed next: as many as make a multiple, or 0 at the limit of a round.
    fn spare(&self) -> usize {
        let all = self.group.channels.len();
        let left = all - self.gone.len();
        let count = match left % self.unit {
            0 => self.unit,
            odd => odd,
        };
        let may = left >= count + self.unit && (self.gone.len() as f64) < SHARE_MAX * all as f64;
        if may { count } else { 0 }
    }

    /// The `count` channels with the smallest errors, one after the other.
    fn step(&self, maps: &BTreeMap<NodeId, Map>, count: usize) -> NextCut {
        let maps = self.maps.iter().filter_map(|id| Some((*id, maps.get(id)?.clone())));
        let mut step = NextCut { channels: Vec::new(), loss: 0.0, maps: maps.collect() };
        for _ in 0..count {
            let loss = |channel: &Channel| -> f64 {
                channel.iter().filter_map(|(id, at)| Some(step.maps.get(id)?.loss(*at))).sum()
            };
            let left = self.group.channels.iter().enumerate();
            let left = left.filter(|(index, _)| !self.gone.contains(index) && !step.channels.contains(index));
            let losses = left.map(|(index, channel)| (loss(channel), index));
            let Some((_, index)) = losses.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            for (id, at) in &self.group.channels[index] {
                if let Some(map) = step.maps.get_mut(id) {
                    step.loss += map.loss(*at);
                    map.remove(*at);
                }
            }
            step.channels.push(index);
        }
        step
    }

    /// Subtracts a channel of the group from the widths of its nodes.
    fn take(&self, channel: usize, widths: &mut [usize]) {
        self.group.channels[channel].iter().for_each(|&(node, _)| widths[node] -= 1);
    }
}

/// The network and weights without the channels `removed`. The convolutions that read them are fitted again.
///
/// # Errors
///
/// Those of [`cut`]; weights of another network.
pub fn reduce(
    network: &Network,
    weights: &Weights,
    statistics: &Statistics,
    removed: &[&Channel],
) -> Result<(Network, Weights)> {
    let graph = network.graph()?;
    let mut fitted = weights.clone();
    let mut gone: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
    for &(id, channel) in removed.iter().copied().flatten() {
        gone.entry(id).or_default().insert(channel);
    }
    for (id, gone) in gone {
        let Some(moments) = &statistics.moments[id] else { continue };
        let mut inverse = moments.inverse();
        // For each channel, its prediction from the remaining channels and the constant.
        let mut substitutes = Array2::<f64>::eye(inverse.nrows());
        for channel in gone {
            let others = predict(&mut inverse, channel).insert_axis(Axis(0));
            let share = substitutes.column(channel).to_owned().insert_axis(Axis(1));
            general_mat_mul(1.0, &share, &others, 1.0, &mut substitutes);
        }
        for (_, reader) in readers(&graph, id) {
            substitute(reader, &mut fitted, &substitutes);
        }
    }
    cut(network, &fitted, removed)
}

/// Makes a convolution read predictions of the channels of its input: `[channel, channel]`, the constant last.
fn substitute(node: &crate::network::Node, weights: &mut Weights, substitutes: &Array2<f64>) {
    let mut constants = Array1::<f64>::zeros(node.channels);
    let taps = by_tap(node, weights);
    let (count, last) = (taps.len(), substitutes.ncols() - 1);
    let Some(array) = weights.get_mut(&format!("{}.conv.weight", node.name)) else { return };
    for (tap, read) in taps.into_iter().enumerate() {
        let read = read.dot(&substitutes.slice_axis(Axis(0), (0..last).into()));
        constants += &read.column(last);
        for ((row, column), weight) in read.indexed_iter().filter(|((_, column), _)| *column < last) {
            array.values[(row * last + column) * count + tap] = *weight as f32;
        }
    }
    // Normalisation subtracts its mean; a bias is added.
    let (part, sign) = if weights.contains_key(&format!("{}.conv.bias", node.name)) {
        ("conv.bias", 1.0)
    } else {
        ("bn.running_mean", -1.0)
    };
    if let Some(array) = weights.get_mut(&format!("{}.{part}", node.name)) {
        array.values.iter_mut().zip(constants).for_each(|(value, constant)| *value += (sign * constant) as f32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::{Storage, to_onnx};
    use crate::network::{Activation, Head, Layer, LayerKind};
    use crate::prune::groups::tests::{any_network, head_maps};
    use crate::quantize;
    use crate::reference::random_weights;

    fn noise(count: usize, side: usize) -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(9);
        (0..count).map(|_| (0..3 * side * side).map(|_| random.f32()).collect()).collect()
    }

    /// Makes channel `copy` of a group equal to channel `original`.
    fn duplicate(graph: &Graph, weights: &mut Weights, original: &Channel, copy: &Channel) {
        for (&(id, from), &(other, to)) in original.iter().zip(copy) {
            assert_eq!(id, other);
            let node = &graph.nodes[id];
            let parts = ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
            for part in parts {
                let Some(array) = weights.get_mut(&format!("{}.{part}", node.name)) else { continue };
                let row = array.values.len() / node.channels;
                array.values.copy_within(from * row..(from + 1) * row, to * row);
            }
        }
    }

    /// The largest difference between two networks' outputs, relative to the largest output.
    fn off(a: (&Network, &Weights), b: (&Network, &Weights), side: usize) -> f32 {
        let [a, b] = [a, b].map(|(network, weights)| head_maps(network, weights, side));
        let values = || a.iter().zip(&b).flat_map(|(a, b)| a.values.iter().zip(&b.values));
        let largest = values().fold(1e-3f32, |largest, (a, _)| largest.max(a.abs()));
        values().fold(0f32, |off, (a, b)| off.max((a - b).abs())) / largest
    }

    /// Depthwise convolutions, a Ghost module, a sum, a concatenated skip connection, squeeze-and-excitation, a 3×3
    /// convolution that reads pruned channels.
    fn every_form() -> Network {
        let activation = Activation::LeakyRelu;
        let conv = |name: &str, out, kernel, stride, activation, norm| {
            Layer::new(name, LayerKind::Conv { out, kernel, stride, activation, norm })
        };
        let layers = vec![
            conv("stem", 8, 3, 2, activation, true),
            Layer::new("left", LayerKind::ds_conv(12, 3, 1, activation)),
            Layer::new("right", LayerKind::ghost(12, 1, 1, activation)).from(["stem"]),
            Layer::new("sum", LayerKind::Add).from(["left", "right"]),
            Layer::new("context", LayerKind::mb_conv(16, 8, 3, 1, 4, activation)),
            Layer::new("join", LayerKind::Concat).from(["context", "sum"]),
            conv("fuse", 8, 3, 1, activation, false),
            conv("sides", 4, 1, 1, Activation::None, false).from(["fuse"]),
            conv("scores", 3, 1, 1, Activation::None, false).from(["fuse"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        Network { name: "every_form".into(), classes: 3, names: Vec::new(), layers }
    }

    #[test]
    fn equal_channels_go_first_and_leave_the_answers_as_they_were() {
        let (network, side) = (every_form(), 16);
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 2);
        let groups = groups(&graph);
        for group in &groups {
            // The first quarter of each width twice.
            let quarter = group.channels.len() / 4;
            for channel in 0..quarter {
                duplicate(&graph, &mut weights, &group.channels[channel], &group.channels[channel + quarter]);
            }
        }
        let statistics = Statistics::collect(&network, &weights, &noise(200, side), side, &|_| ()).unwrap();
        let start = cost::total(&graph, side, side);
        let target = |share: f64| Target {
            max_parameters: Some((start.parameters as f64 * share) as u64),
            max_macs: None,
            side_px: side,
            multiple: 1,
        };
        let chosen = choose(&network, &weights, &statistics, &target(0.8)).unwrap();
        // One of every pair, and none of the others, except where gates hardly depend on them.
        for group in &groups {
            let quarter = group.channels.len() / 4;
            let gone = |index: usize| chosen.contains(&group.channels[index]);
            for index in 0..quarter {
                assert!(!gone(index) || !gone(index + quarter), "{}: {index}", group.name);
            }
            let others = (2 * quarter..group.channels.len()).filter(|&index| gone(index)).count();
            assert!(others == 0 || group.name.starts_with("context"), "{}: {others}", group.name);
        }
        assert!(chosen.len() >= 6, "{chosen:?}");
        let (thin, fitted) = reduce(&network, &weights, &statistics, &chosen.iter().collect::<Vec<_>>()).unwrap();
        let same = off((&network, &weights), (&thin, &fitted), side);
        assert!(same < 2e-3, "{same}");
        let (cut_network, cut_weights) = cut(&network, &weights, &chosen.iter().collect::<Vec<_>>()).unwrap();
        let without = off((&network, &weights), (&cut_network, &cut_weights), side);
        assert!(without > 0.05, "{without}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_channel_that_equals_another_can_go_from_any_network(network in any_network(), seed: u64, pick: usize) {
            let (graph, side) = (network.graph().unwrap(), 8);
            let mut weights = random_weights(&graph, seed);
            let groups: Vec<Group> = groups(&graph).into_iter().filter(|group| group.channels.len() > 1).collect();
            prop_assume!(!groups.is_empty());
            let channels = &groups[pick % groups.len()].channels;
            let (original, copy) = (&channels[0], &channels[1]);
            // Larger kernels read a border, where a channel differs from its prediction.
            let reads_cells = |node: &crate::network::Node| matches!(node.op, Op::Conv { kernel: 1, .. });
            prop_assume!(original.iter().all(|&(id, _)| readers(&graph, id).all(|(_, node)| reads_cells(node))));
            duplicate(&graph, &mut weights, original, copy);
            // Enough that no correlation counts as chance, also for means over maps.
            let widest = graph.nodes.iter().map(|node| node.channels).max().unwrap_or(0);
            let images = noise(10 * widest.max(12), side);
            let statistics = Statistics::collect(&network, &weights, &images, side, &|_| ()).unwrap();
            let (thin, fitted) = reduce(&network, &weights, &statistics, &[copy]).unwrap();
            let off = off((&network, &weights), (&thin, &fitted), side);
            prop_assert!(off < 2e-3, "{}", off);
        }

        #[test]
        fn any_network_becomes_as_small_as_it_can(network in any_network(), seed: u64, multiple in 1usize..4) {
            let (graph, side) = (network.graph().unwrap(), 8);
            let weights = random_weights(&graph, seed);
            let statistics = Statistics::collect(&network, &weights, &noise(4, side), side, &|_| ()).unwrap();
            let target = Target { max_parameters: Some(0), max_macs: None, side_px: side, multiple };
            let chosen = choose(&network, &weights, &statistics, &target).unwrap();
            let (thin, fitted) = reduce(&network, &weights, &statistics, &chosen.iter().collect::<Vec<_>>()).unwrap();
            let thin = thin.graph().unwrap();
            prop_assert_eq!(crate::checkpoint::check(&thin, &fitted), Ok(()));
            for group in groups(&graph) {
                let unit = group.unit(multiple);
                let gone = group.channels.iter().filter(|channel| chosen.contains(channel)).count();
                let (all, left) = (group.channels.len(), group.channels.len() - gone);
                prop_assert!(gone == 0 || left % unit == 0, "{} {:?}", gone, group);
                prop_assert!(gone < all.div_ceil(3) + unit && left >= unit.min(all), "{} {:?}", gone, group);
            }
        }
    }

    /// The released network on photographs: channels by least squares against those with the smallest weights.
    #[test]
    fn on_a_trained_network_it_loses_much_less_than_by_the_size_of_weights() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (network, weights) =
            crate::checkpoint::read_with_network(&root.join("models/micro-yolo.safetensors")).unwrap();
        let graph = network.graph().unwrap();
        let side = 128;
        let folder = tempfile::tempdir().unwrap();
        crate::data::tiny(&root.join("data/samples"), folder.path(), 16, 1).unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.extend(["cat", "coffee", "astronaut"].map(|name| root.join(format!("data/samples/{name}.jpg"))));
        let images = quantize::photographs(files, 19, side, 1, crate::data::BadData::Refuse).unwrap();
        let (seen, held_out) = images.split_at(15);
        let statistics = Statistics::collect(&network, &weights, seen, side, &|_| ()).unwrap();
        let start = cost::total(&graph, side, side);
        let target =
            Target { max_parameters: None, max_macs: Some(start.macs * 9 / 10), side_px: side, multiple: 8 };
        let chosen = choose(&network, &weights, &statistics, &target).unwrap();
        let chosen: Vec<&Channel> = chosen.iter().collect();

        // The same widths, by the norm of the weights that make each channel.
        let groups = groups(&graph);
        let norm = |channel: &Channel| -> f64 {
            let makers = channel.iter().filter(|(id, _)| is_dense(&graph.nodes[*id]));
            let square = |&(id, at): &(NodeId, usize)| {
                let values = &weights[&format!("{}.conv.weight", graph.nodes[id].name)].values;
                let row = values.len() / graph.nodes[id].channels;
                values[at * row..][..row].iter().map(|weight| f64::from(*weight).powi(2)).sum::<f64>()
            };
            makers.map(square).sum()
        };
        let mut smallest: Vec<&Channel> = Vec::new();
        for group in &groups {
            let count = group.channels.iter().filter(|channel| chosen.contains(channel)).count();
            let mut channels: Vec<&Channel> = group.channels.iter().collect();
            channels.sort_by(|a, b| norm(a).total_cmp(&norm(b)));
            smallest.extend(&channels[..count]);
        }
        assert_eq!(smallest.len(), chosen.len());

        let scores = |(network, weights): &(Network, Weights)| {
            let onnx = to_onnx(network, weights, (side, side), Storage::Single).unwrap();
            quantize::scores(&onnx, held_out, side).unwrap()
        };
        let exact = scores(&(network.clone(), weights.clone()));
        let lost = |thin: &(Network, Weights)| quantize::noise(&exact, &scores(thin));
        let ours = lost(&reduce(&network, &weights, &statistics, &chosen).unwrap());
        let cut_alone = lost(&cut(&network, &weights, &chosen).unwrap());
        let by_size = lost(&cut(&network, &weights, &smallest).unwrap());
        println!("least squares {ours}, without fitting {cut_alone}, by size {by_size}");
        assert!(ours < 0.5 * cut_alone && ours < 0.25 * by_size, "{ours} {cut_alone} {by_size}");
    }
}
