//! Replaces dense convolutions by depthwise separable ones that approximate them.
//!
//! For each input channel, a k×k convolution has a matrix of weights, `[output, k²]`. An approximation of rank T of
//! this matrix consists of T depthwise kernels and T columns of the 1×1 convolution behind them. This is Network
//! Decoupling (Guo et al. 2018, "Network Decoupling: From Regular to Depthwise Separable Convolutions"). In the
//! network, T copies of the map are concatenated ([`LayerKind::Concat`]), and a [`LayerKind::DsConv`] without an
//! activation in between reads them. With T = k² the output is the same as that of the original.
//!
//! Channels need different numbers of kernels. So the channels of a map are sorted by that number, and the second and
//! further copies are slices of the first channels ([`LayerKind::Slice`]). The mean number of kernels per channel is
//! called the *multiplier*.
//!
//! A 1×1 convolution without an activation may come first, the *projection*. Its outputs are the components of the map
//! on which the convolution's output depends most. Components need fewer kernels than channels. Projection, depthwise
//! and 1×1 convolution together have the form of an MBConv.
//!
//! The approximation minimises the error on photographs. Errors are weighted by the distribution of a channel's
//! patches, and by the effect of an output channel on the network's outputs ([`Statistics`]). The last 1×1 convolution is
//! then fitted to the original's output by least squares, together with the projection and the kernels. This is done
//! layer by layer, on the outputs of the layers that are already decoupled. [`choose`](crate::explore::choose) finds the
//! forms with the smallest sum of unexplained variances within the budget. Every layer has the same weight in this sum.

mod combinations;
mod moments;
mod original;
mod refine;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use nalgebra::DMatrix;

use crate::checkpoint::{self, Array, Weights};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::explore::{Combination, with_hints};
use crate::network::{Activation, Graph, Layer, LayerKind, Network, Node, NodeId, Op};
use crate::prune::statistics::Statistics;
use crate::quantize;
use moments::CrossMoments;
use original::Original;

/// The largest multiplier that can be requested: a kernel of 31 × 31.
const MULTIPLIER_MAX: f64 = 961.0;

/// The form of the replacement of a dense convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Separable {
    /// Output channels of the projection; `None` without one.
    pub projected: Option<usize>,
    /// The number of channels of each copy of the map.
    pub copies: Vec<usize>,
}

impl Separable {
    /// The mean number of kernels per channel.
    pub fn multiplier(&self) -> f64 {
        self.copies.iter().sum::<usize>() as f64 / self.copies.first().copied().unwrap_or(1) as f64
    }
}

/// A form as requested in [`DecoupleConfig`], the same for every layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// One of [`DecoupleConfig::projections`]; `None` without a projection.
    pub projection: Option<f64>,
    /// One of [`DecoupleConfig::multipliers`].
    pub multiplier: f64,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.projection {
            Some(share) => write!(f, "projection {share}, multiplier {}", self.multiplier),
            None => write!(f, "no projection, multiplier {}", self.multiplier),
        }
    }
}

/// The error and the cost of a layer in one form.
#[derive(Debug, Clone, PartialEq)]
pub struct FormCandidate {
    /// The layer.
    pub layer: String,
    /// `None` if it stays dense.
    pub form: Option<Separable>,
    /// The request that led to the form, whose values are rounded to numbers of channels.
    pub asked: Option<Asked>,
    /// The unexplained share of its output's variance. Output channels are weighted by their effect on the network's
    /// outputs.
    pub unexplained: f64,
    /// Parameters and multiply-accumulates of the layer.
    pub cost: Cost,
}

/// The budget of the network, and the forms to try.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoupleConfig {
    /// The layers that may change; all dense convolutions if empty.
    pub layers: Vec<String>,
    /// Multipliers to try, 1 or more. Those above k² are skipped, and those with which a layer costs more than before.
    /// Fractions are skipped if a map's channels cannot be reordered.
    pub multipliers: Vec<f64>,
    /// Projections to try, each with all multipliers: output channels as shares of the map's channels, above 0 to 1.
    pub projections: Vec<f64>,
    /// Maximum parameters of the whole network.
    pub max_parameters: u64,
    /// Maximum multiply-accumulates of the whole network.
    pub max_macs: u64,
    /// Side in pixels of the square input for which multiply-accumulates are counted.
    pub side_px: usize,
}

/// A decoupled network.
#[derive(Debug)]
pub struct Decoupled {
    /// The network. Layers keep their names. Layers that project or copy a map are named after its reader. Layers name
    /// the maps from which they learn: those of the dense network, if it names no others.
    pub network: Network,
    /// Its weights.
    pub weights: Weights,
    /// All candidates, layer by layer.
    pub candidates: Vec<FormCandidate>,
    /// The layers that are no longer dense, with their forms.
    pub chosen: BTreeMap<String, Separable>,
    /// The chosen combination, and others within the budget for comparison.
    pub combinations: Vec<Combination>,
}

impl Decoupled {
    /// The candidates as a table in Markdown, the chosen ones in bold.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| layer | projection | multiplier | unexplained | parameters | MMAC |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for FormCandidate { layer, form, unexplained, cost, .. } in &self.candidates {
            let mut multiplier = form.as_ref().map_or("dense".into(), |form| format!("{:.2}", form.multiplier()));
            if self.chosen.get(layer) == form.as_ref() {
                multiplier = format!("**{multiplier}**");
            }
            let projected = form.as_ref().and_then(|form| form.projected);
            let projected = projected.map_or(String::new(), |channels| channels.to_string());
            let (parameters, mmac) = (cost::grouped(cost.parameters), cost.macs as f64 / 1e6);
            let _ = writeln!(
                text,
                "| {layer} | {projected} | {multiplier} | {unexplained:.4} | {parameters} | {mmac:.1} |"
            );
        }
        text
    }
}

/// Decouples the convolutions of `network` with the least unexplained variance within the budget.
///
/// `images` (see [`quantize::letterboxed`]) have `side` × `side` pixels. `progress` gets the name of the current work.
///
/// # Errors
///
/// [`Error::Option`]: a layer that is not a dense convolution behind another layer, no multiplier or one of 0, a
/// projection of 0, a budget below the cheapest combination, no images. [`Error::Training`]: weights of another
/// network. Also a side that does not fit.
pub fn decouple(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    config: &DecoupleConfig,
    progress: &dyn Fn(&str),
) -> Result<Decoupled> {
    let graph = network.graph()?;
    if config.multipliers.is_empty()
        || config.multipliers.iter().any(|value| !(1.0..=MULTIPLIER_MAX).contains(value))
    {
        let problem = format!("a multiplier is from 1 to {MULTIPLIER_MAX}");
        return Err(Error::Option { option: "--multipliers", problem });
    }
    if config.projections.iter().any(|share| !(*share > 0.0 && *share <= 1.0)) {
        let problem = "a projection is a share, above 0 to 1".into();
        return Err(Error::Option { option: "--projections", problem });
    }
    let ids = eligible(network, &graph, &config.layers)?;
    checkpoint::check(&graph, weights).map_err(Error::Training)?;
    let collect = |weights: &Weights| {
        progress("the network's answers");
        Statistics::collect(network, weights, images, side, &|_| ())
    };
    let source = SourceNetwork { images, side, network, graph: &graph, weights };
    let Sorted { weights, orders, behind: sorted } = sorted(&source, &ids, &collect(weights)?, progress)?;
    let statistics = collect(&weights)?;
    let network = &with_orders(with_hints(network.clone(), Some(network))?, &graph, &orders);
    let source = SourceNetwork { network, weights: &weights, ..source };
    let (mut originals, mut candidates) = (Vec::new(), Vec::new());
    for &id in &ids {
        progress(&graph.nodes[id].name);
        let (mut original, patches) = Original::new(&source, id, &statistics, sorted.contains(&id))?;
        original.project(&patches, &config.projections)?;
        candidates.push(original.candidates(&source, id, &patches, config)?);
        originals.push(original);
    }
    let (chosen, combinations) = combinations::within_budget(&graph, &candidates, config)?;
    originals.retain(|original| chosen.contains_key(&original.name));
    let (network, weights) = replace(&source, &originals, &chosen, progress)?;
    let candidates = candidates.into_iter().flatten().collect();
    Ok(Decoupled { network, weights, candidates, chosen, combinations })
}

/// The nodes of the dense convolutions that may change: all, or those of the layers `wanted`.
fn eligible(network: &Network, graph: &Graph, wanted: &[String]) -> Result<Vec<NodeId>> {
    let wrong = |problem: String| Err(Error::Option { option: "--layers", problem });
    let is_dense = |node: &Node| {
        let is_layer = node.layer.is_some_and(|layer| matches!(network.layers[layer].kind, LayerKind::Conv { .. }));
        is_layer && matches!(node.op, Op::Conv { kernel: 2.., .. }) && node.inputs[0] > 0
    };
    let mut all: Vec<NodeId> = (0..graph.nodes.len()).filter(|&id| is_dense(&graph.nodes[id])).collect();
    if all.is_empty() {
        return wrong(format!("`{}` has no dense convolution above 1×1 behind another layer", network.name));
    }
    let names: Vec<&str> = all.iter().map(|&id| graph.nodes[id].name.as_str()).collect();
    if let Some(name) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        let problem =
            format!("`{name}` is no dense convolution behind another layer; these are {}", names.join(", "));
        return wrong(problem);
    }
    all.retain(|&id| wanted.is_empty() || wanted.contains(&graph.nodes[id].name));
    Ok(all)
}

/// An equivalent network whose maps have their channels in another order.
struct Sorted {
    weights: Weights,
    /// By node: for each position the original number of the channel.
    orders: Vec<Vec<usize>>,
    /// The convolutions that read such a map.
    behind: Vec<NodeId>,
}

/// Sorts the channels of maps that the convolutions `ids` read by the number of kernels that they need.
fn sorted(
    source: &SourceNetwork,
    ids: &[NodeId],
    statistics: &Statistics,
    progress: &dyn Fn(&str),
) -> Result<Sorted> {
    let graph = source.graph;
    let (mut makers, mut behind) = (BTreeMap::new(), Vec::new());
    let mut weights = source.weights.clone();
    let mut orders: Vec<Vec<usize>> = graph.nodes.iter().map(|node| (0..node.channels).collect()).collect();
    for &id in ids {
        let mut maker = graph.nodes[id].inputs[0];
        while matches!(graph.nodes[maker].op, Op::MaxPool { .. } | Op::Upsample { .. }) {
            maker = graph.nodes[maker].inputs[0];
        }
        // If several convolutions read a map, the first one decides.
        if !matches!(graph.nodes[maker].op, Op::Conv { groups: 1, .. }) || makers.contains_key(&maker) {
            continue;
        }
        progress(&graph.nodes[id].name);
        let (original, _) = Original::new(source, id, statistics, false)?;
        let kernels = &original.bases[0].kernels;
        let mut order: Vec<usize> = (0..kernels.len()).collect();
        order.sort_by(|&a, &b| kernels[b].rest().total_cmp(&kernels[a].rest()));
        let mut more = makers.clone();
        more.insert(maker, order);
        if let Some(new) = reordered(graph, source.weights, &more) {
            (weights, orders) = new;
            makers = more;
            behind.push(id);
        }
    }
    Ok(Sorted { weights, orders, behind })
}

/// Adjusts the order of the channels of the teacher's maps to that of the network's own maps.
fn with_orders(mut network: Network, graph: &Graph, orders: &[Vec<usize>]) -> Network {
    for (index, layer) in network.layers.iter_mut().enumerate().filter(|(_, layer)| layer.teacher.is_some()) {
        let Some(node) = graph.output_of(index) else { continue };
        let order = &orders[node];
        if order.is_sorted() {
            continue;
        }
        let channels = std::mem::take(&mut layer.teacher_channels);
        layer.teacher_channels =
            order.iter().map(|&channel| channels.get(channel).copied().unwrap_or(channel)).collect();
    }
    network
}

/// The weights with the output channels of some dense convolutions in another order. `orders` has for each position the
/// number of the channel that moves there. Also returns the order of every node's channels. `None` if a slice, a sum or
/// the head would then read other channels.
fn reordered(
    graph: &Graph,
    weights: &Weights,
    orders: &BTreeMap<NodeId, Vec<usize>>,
) -> Option<(Weights, Vec<Vec<usize>>)> {
    let mut new = weights.clone();
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let same: Vec<usize> = (0..node.channels).collect();
        let read = |index: usize| &all[node.inputs[index]];
        let is_same = |order: &[usize]| order.iter().enumerate().all(|(place, channel)| place == *channel);
        let order = match &node.op {
            Op::Image => same,
            Op::Conv { groups: 1, .. } => orders.get(&id).cloned().unwrap_or(same),
            Op::Conv { .. } | Op::MaxPool { .. } | Op::Upsample { .. } | Op::GlobalAveragePool => read(0).clone(),
            Op::Concat => {
                let mut joined = Vec::with_capacity(node.channels);
                for index in 0..node.inputs.len() {
                    let start = joined.len();
                    joined.extend(read(index).iter().map(|channel| start + channel));
                }
                joined
            }
            Op::Slice { .. } | Op::Detect { .. } => {
                if !(0..node.inputs.len()).all(|index| is_same(read(index))) {
                    return None;
                }
                same
            }
            Op::Add | Op::Scale => {
                if (1..node.inputs.len()).any(|index| read(index) != read(0)) {
                    return None;
                }
                read(0).clone()
            }
        };
        if let &Op::Conv { groups, .. } = &node.op {
            let inputs: Vec<usize> = if groups == 1 { read(0).clone() } else { vec![0] };
            for part in ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"] {
                let Some(array) = new.get_mut(&format!("{}.{part}", node.name)) else { continue };
                let columns = if part == "conv.weight" { inputs.as_slice() } else { &[0] };
                let row = array.values.len() / order.len();
                let (old, column) = (std::mem::take(&mut array.values), row / columns.len());
                for &from in &order {
                    for &at in columns {
                        array.values.extend_from_slice(&old[from * row + at * column..][..column]);
                    }
                }
            }
        }
        all.push(order);
    }
    Some((new, all))
}

/// Photographs, and the original network.
struct SourceNetwork<'a> {
    images: &'a [Vec<f32>],
    side: usize,
    network: &'a Network,
    graph: &'a Graph,
    weights: &'a Weights,
}

impl SourceNetwork<'_> {
    /// The inputs of convolution `name` of a network at some cells of its output, the same cells in each call: `[input
    /// · k², patches]`, with `each` patches per photograph.
    fn patches(&self, network: &Network, weights: &Weights, name: &str, each: usize) -> Result<DMatrix<f32>> {
        let graph = network.graph()?;
        let Some(node) = graph.nodes.iter().find(|node| node.name == name) else { return Err(unknown(name)) };
        let Op::Conv { input, kernel, stride, .. } = node.op else { return Err(unknown(name)) };
        let mut values: Vec<f32> = Vec::with_capacity(self.images.len() * each * input * kernel * kernel);
        let mut photograph = 0;
        quantize::watch(
            network,
            weights,
            self.images,
            self.side,
            &[node.inputs[0]],
            &|_| (),
            |_, map, height, width| {
                let mut random = fastrand::Rng::with_seed(photograph);
                photograph += 1;
                for _ in 0..each {
                    let (row, column) =
                        (random.usize(..height.div_ceil(stride)), random.usize(..width.div_ceil(stride)));
                    for plane in map.chunks(height * width) {
                        for tap in 0..kernel * kernel {
                            let (y, x) = (row * stride + tap / kernel, column * stride + tap % kernel);
                            // The map has a border of zeros of half a kernel.
                            let (y, x) = (y.wrapping_sub(kernel / 2), x.wrapping_sub(kernel / 2));
                            values.push(if y < height && x < width { plane[y * width + x] } else { 0.0 });
                        }
                    }
                }
            },
        )?;
        Ok(DMatrix::from_vec(input * kernel * kernel, self.images.len() * each, values))
    }
}

fn unknown(name: &str) -> Error {
    Error::Training(format!("`{name}` is no convolution"))
}

/// The network with the convolution `name` in a separable form.
fn separable(network: &Network, name: &str, form: &Separable) -> Result<Network> {
    let copies = &form.copies;
    let mut layers = Vec::with_capacity(network.layers.len() + 1);
    let mut before = String::from("image");
    for layer in &network.layers {
        let mut layer = layer.clone();
        if let (true, LayerKind::Conv { out, kernel, stride, activation, .. }) = (layer.name == name, &layer.kind) {
            let (out, kernel, stride, activation) = (*out, *kernel, *stride, *activation);
            let depthwise_activation = (activation != Activation::None).then_some(Activation::None);
            layer.kind = LayerKind::DsConv { out, kernel, stride, activation, depthwise_activation, norm: false };
            if let Some(out) = form.projected {
                let activation = Activation::None;
                let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation, norm: false };
                let projection =
                    Layer { from: std::mem::take(&mut layer.from), ..Layer::new(projection(name), kind) };
                before.clone_from(&projection.name);
                layers.push(projection);
            }
            if copies.len() > 1 {
                let input = layer.from.pop().unwrap_or_else(|| before.clone());
                let mut joined = Vec::new();
                for (copy, &channels) in copies.iter().enumerate() {
                    if channels == copies[0] {
                        joined.push(input.clone());
                        continue;
                    }
                    let slice = Layer::new(format!("{name}_slice{copy}"), LayerKind::Slice { start: 0, channels });
                    joined.push(slice.name.clone());
                    layers.push(Layer { from: vec![input.clone()], ..slice });
                }
                let concat = Layer::new(format!("{name}_copies"), LayerKind::Concat);
                layers.push(Layer { from: joined, ..concat });
            }
        }
        before.clone_from(&layer.name);
        layers.push(layer);
    }
    let network = Network { layers, ..network.clone() };
    network.graph()?;
    Ok(network)
}

/// The name of the projection in front of a layer.
fn projection(layer: &str) -> String {
    format!("{layer}_projection")
}

/// Makes the convolutions `originals` of the network separable. Each is fitted on the output of the ones before it.
fn replace(
    source: &SourceNetwork,
    originals: &[Original],
    chosen: &BTreeMap<String, Separable>,
    progress: &dyn Fn(&str),
) -> Result<(Network, Weights)> {
    let (mut network, mut weights) = (source.network.clone(), source.weights.clone());
    for original in originals {
        let (name, form) = (&original.name, &chosen[&original.name]);
        progress(name);
        let taps = original.taps;
        let patches = source.patches(&network, &weights, name, original.each)?;
        let basis = &original.refined(original.basis(form)?, &patches, &form.copies)?;
        let fitted = CrossMoments::new(&original.features(basis, &patches, &form.copies), &original.outputs)
            .fit()?
            .cast::<f32>();
        let graph = network.graph()?;
        for spec in checkpoint::tensors(&graph).iter().filter(|spec| graph.nodes[spec.node].name == *name) {
            weights.remove(&spec.name);
        }
        network = separable(&network, name, form)?;
        let (outputs, features) = (fitted.nrows(), fitted.ncols() - 1);
        let depthwise = form.copies.iter().enumerate().flat_map(|(copy, &channels)| {
            let kernels = basis.kernels[..channels].iter();
            kernels.flat_map(move |kernels| kernels.columns.column(copy).iter().copied().collect::<Vec<f32>>())
        });
        let side = taps.isqrt();
        let pointwise = fitted.columns(0, features).transpose();
        let bias: Vec<f32> = fitted.column(features).iter().copied().collect();
        for (tensor, shape, values) in [
            ("depthwise.conv.weight", vec![features, 1, side, side], depthwise.collect()),
            ("depthwise.conv.bias", vec![features], vec![0.0; features]),
            ("pointwise.conv.weight", vec![outputs, features, 1, 1], pointwise.as_slice().to_vec()),
            ("pointwise.conv.bias", vec![outputs], bias),
        ] {
            weights.insert(format!("{name}.{tensor}"), Array { shape, values });
        }
        if let Some(matrix) = &basis.projection {
            let (components, channels) = matrix.shape();
            let values = matrix.transpose().as_slice().to_vec();
            let weight = Array { shape: vec![components, channels, 1, 1], values };
            let bias = Array { shape: vec![components], values: vec![0.0; components] };
            weights.insert(format!("{}.conv.weight", projection(name)), weight);
            weights.insert(format!("{}.conv.bias", projection(name)), bias);
        }
    }
    Ok((network, weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Head;
    use crate::reference::{Map, random_weights, run};

    const SIDE: usize = 16;

    fn conv(name: &str, out: usize, kernel: usize, stride: usize, activation: Activation, norm: bool) -> Layer {
        Layer::new(name, LayerKind::Conv { out, kernel, stride, activation, norm })
    }

    /// Convolutions with and without normalisation, with stride, with a larger kernel, and after a concatenated skip
    /// connection.
    fn network() -> Network {
        let (leaky, none) = (Activation::LeakyRelu, Activation::None);
        let layers = vec![
            conv("stem", 4, 3, 2, leaky, true),
            conv("deep", 6, 3, 1, leaky, true),
            conv("wide", 5, 5, 1, leaky, false),
            Layer::new("join", LayerKind::Concat).from(["wide", "stem"]),
            conv("down", 8, 3, 2, none, true),
            conv("sides", 4, 1, 1, none, false).from(["down"]),
            conv("scores", 3, 1, 1, none, false).from(["down"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        Network { name: "dense".into(), classes: 3, names: Vec::new(), layers }
    }

    fn photographs(count: usize) -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(3);
        (0..count).map(|_| (0..3 * SIDE * SIDE).map(|_| random.f32()).collect()).collect()
    }

    /// The maps that the head reads, as one list.
    fn answers(network: &Network, weights: &Weights, image: &[f32]) -> Vec<f32> {
        let graph = network.graph().unwrap();
        let map = Map { channels: 3, height: SIDE, width: SIDE, values: image.to_vec() };
        let maps = run(&graph, weights, map);
        graph.nodes[graph.nodes.len() - 1].inputs.iter().flat_map(|&id| maps[id].values.clone()).collect()
    }

    fn all_within(budget: u64) -> DecoupleConfig {
        DecoupleConfig {
            layers: Vec::new(),
            multipliers: vec![1.0, 1.5, 2.0, 3.0, 4.0],
            projections: vec![0.5, 1.0],
            max_parameters: budget,
            max_macs: u64::MAX,
            side_px: SIDE,
        }
    }

    #[test]
    fn as_many_kernels_as_taps_compute_the_same() {
        let network = network();
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, 4);
        let images = photographs(300);
        let source =
            SourceNetwork { images: &images, side: SIDE, network: &network, graph: &graph, weights: &weights };
        let statistics = Statistics::collect(&network, &weights, &images, SIDE, &|_| ()).unwrap();
        let ids = eligible(&network, &graph, &[]).unwrap();
        let original = |id: &NodeId| {
            let (mut original, patches) = Original::new(&source, *id, &statistics, false).unwrap();
            original.project(&patches, &[1.0]).unwrap();
            original
        };
        let originals: Vec<Original> = ids.iter().map(original).collect();
        // With all channels, or all components of the map.
        let chosen = [("deep", None, vec![4; 9]), ("wide", Some(6), vec![6; 25]), ("down", Some(9), vec![9; 9])];
        let chosen = chosen.map(|(name, projected, copies)| (name.into(), Separable { projected, copies })).into();
        let (separable, fitted) = replace(&source, &originals, &chosen, &|_| ()).unwrap();
        assert_eq!(checkpoint::check(&separable.graph().unwrap(), &fitted), Ok(()));
        let kinds = separable.layers.iter().filter(|layer| matches!(layer.kind, LayerKind::DsConv { .. })).count();
        assert_eq!(kinds, 3);
        assert_eq!(separable.layers.len(), network.layers.len() + 3 + 2, "copies and projections");
        for image in &images[..3] {
            let (before, after) = (answers(&network, &weights, image), answers(&separable, &fitted, image));
            let largest = before.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let off = before.iter().zip(&after).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
            // The ridge prevents an exact result.
            assert!(off < 0.01 * largest, "{off} of {largest}");
        }
    }

    #[test]
    fn kernels_of_low_rank_are_found() {
        let network = network();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        // All kernels of an input channel of `deep` are mixtures of two.
        let mut random = fastrand::Rng::with_seed(8);
        let two: Vec<[f32; 18]> = (0..4).map(|_| std::array::from_fn(|_| random.f32() - 0.5)).collect();
        let deep = &mut weights.get_mut("deep.conv.weight").unwrap().values;
        for (index, kernel) in deep.chunks_mut(9).enumerate() {
            let shares = [random.f32() - 0.5, random.f32() - 0.5];
            let two = &two[index % 4];
            kernel.iter_mut().enumerate().for_each(|(tap, value)| {
                *value = shares[0] * two[tap] + shares[1] * two[9 + tap];
            });
        }
        let multipliers = vec![1.0, 2.0];
        let (layers, projections) = (vec!["deep".into()], Vec::new());
        let config = DecoupleConfig { layers, multipliers, projections, ..all_within(u64::MAX) };
        let decoupled = decouple(&network, &weights, &photographs(200), SIDE, &config, &|_| ()).unwrap();
        let unexplained: Vec<f64> = decoupled.candidates.iter().map(|candidate| candidate.unexplained).collect();
        // Dense, then by multiplier.
        assert!(unexplained[0] == 0.0 && unexplained[1] > 0.03 && unexplained[2] < 1e-4, "{unexplained:?}");
        assert_eq!(unexplained.len(), 3);
        let mut same = decoupled.network.clone();
        same.layers.iter_mut().for_each(|layer| (layer.teacher, layer.teacher_channels) = (None, Vec::new()));
        assert!(decoupled.chosen.is_empty() && same == network, "nothing limits it");
    }

    #[test]
    fn components_that_nothing_reads_are_left_out() {
        let network = network();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 10);
        // All taps of `wide` read the same three mixtures of the six channels of `deep`.
        let mut random = fastrand::Rng::with_seed(11);
        let three: [[f32; 6]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| random.f32() - 0.5));
        let wide = &mut weights.get_mut("wide.conv.weight").unwrap().values;
        for output in wide.chunks_mut(6 * 25) {
            for tap in 0..25 {
                let shares: [f32; 3] = std::array::from_fn(|_| random.f32() - 0.5);
                for channel in 0..6 {
                    output[channel * 25 + tap] = (0..3).map(|one| shares[one] * three[one][channel]).sum();
                }
            }
        }
        let (layers, multipliers) = (vec!["wide".into()], vec![2.0, 5.0]);
        let config = DecoupleConfig { layers, multipliers, ..all_within(u64::MAX) };
        let decoupled = decouple(&network, &weights, &photographs(300), SIDE, &config, &|_| ()).unwrap();
        let of = |projected: Option<usize>, copies: usize| {
            let form = |one: &FormCandidate| one.form.clone().map(|form| (form.projected, form.copies.len()));
            decoupled.candidates.iter().find(|one| form(one) == Some((projected, copies))).unwrap()
        };
        // Half of the six channels, rounded up to four. Five outputs have no more than five kernels a component.
        let (all, components) = (of(None, 2), of(Some(4), 5));
        assert!(components.unexplained < 1e-4 && all.unexplained > 1e-3, "{all:?} {components:?}");
    }

    #[test]
    fn the_combination_with_the_least_unexplained_variance_is_taken() {
        let network = network();
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, 6);
        let images = photographs(200);
        let dense = cost::total(&graph, SIDE, SIDE);
        let config = all_within(dense.parameters * 2 / 3);
        let decoupled = decouple(&network, &weights, &images, SIDE, &config, &|_| ()).unwrap();
        let total = cost::total(&decoupled.network.graph().unwrap(), SIDE, SIDE);
        assert!(total.parameters <= config.max_parameters, "{total:?}");
        // All combinations, one by one.
        let of = |layer: &'static str| decoupled.candidates.iter().filter(move |one| one.layer == layer);
        let mut least = f64::INFINITY;
        for deep in of("deep") {
            for wide in of("wide") {
                for down in of("down") {
                    let all = [deep, wide, down];
                    let saved = |one: &FormCandidate| of_dense(&decoupled, &one.layer) - one.cost.parameters as i64;
                    let parameters = dense.parameters as i64 - all.into_iter().map(saved).sum::<i64>();
                    if parameters <= config.max_parameters as i64 {
                        least = least.min(all.into_iter().map(|one| one.unexplained).sum());
                    }
                }
            }
        }
        let chosen = |one: &&FormCandidate| decoupled.chosen.get(&one.layer) == one.form.as_ref();
        let loss: f64 = decoupled.candidates.iter().filter(chosen).map(|one| one.unexplained).sum();
        assert!((loss - least).abs() < 1e-9 * least, "{loss} {least}");
        let saved: u64 = decoupled
            .candidates
            .iter()
            .filter(chosen)
            .map(|one| of_dense(&decoupled, &one.layer) as u64 - one.cost.parameters)
            .sum();
        assert_eq!(total.parameters, dense.parameters - saved);
        let bold = decoupled.markdown().matches("**").count();
        assert_eq!(bold, 2 * 3, "one of each layer");
        // The figure's combinations: the best, and the best of each kind and of one form, which are no better.
        let (best, others) = decoupled.combinations.split_first().unwrap();
        assert!(best.best && (best.unexplained * 3.0 - least).abs() < 1e-9 * least, "{best:?}");
        assert_eq!(best.parameters, total.parameters);
        assert!(others.iter().all(|one| !one.best && one.unexplained >= best.unexplained), "{others:?}");
        assert!(others.iter().all(|one| one.parameters <= config.max_parameters), "{others:?}");
        let names: Vec<&str> = others.iter().map(|one| one.name.as_str()).collect();
        assert!(
            names.contains(&"best with no projection") && names.contains(&"best with projection 0.5"),
            "{names:?}"
        );
        let same = others.iter().find(|one| one.name.starts_with("no projection, multiplier")).unwrap();
        assert!(same.picks.len() == 3 && same.picks.values().all(|pick| *pick == same.name), "{same:?}");
    }

    #[test]
    fn channels_that_need_more_kernels_come_first_and_get_them() {
        let network = network();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 9);
        // The second and the fifth channel of `deep` are read with one kernel only, the others with random ones.
        let wide = &mut weights.get_mut("wide.conv.weight").unwrap().values;
        let one: Vec<f32> = wide[..25].to_vec();
        for (index, kernel) in wide.chunks_mut(25).enumerate().filter(|(index, _)| [1, 4].contains(&(index % 6))) {
            kernel.iter_mut().zip(&one).for_each(|(value, one)| *value = one * (index as f32 * 0.7).sin());
        }
        let images = photographs(200);
        let statistics = Statistics::collect(&network, &weights, &images, SIDE, &|_| ()).unwrap();
        let ids = eligible(&network, &graph, &["wide".into()]).unwrap();
        let source =
            SourceNetwork { images: &images, side: SIDE, network: &network, graph: &graph, weights: &weights };
        let Sorted { weights: ordered, behind: which, .. } = sorted(&source, &ids, &statistics, &|_| ()).unwrap();
        assert_eq!(which, ids);
        assert_ne!(ordered, weights);
        for image in &images[..3] {
            let (before, after) = (answers(&network, &weights, image), answers(&network, &ordered, image));
            assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4), "the answers stay");
        }
        let source = SourceNetwork { weights: &ordered, ..source };
        let (original, _) = Original::new(&source, ids[0], &statistics, true).unwrap();
        let basis = &original.bases[0];
        let needs: Vec<f64> = basis.kernels.iter().map(|one| one.explained[1] / one.explained[0]).collect();
        assert!(
            needs[..4].iter().all(|need| *need > 0.01) && needs[4..].iter().all(|need| *need < 1e-3),
            "{needs:?}"
        );
        assert_eq!(original.copies(basis, 1.7), Some(vec![6, 4]));
        assert_eq!(original.copies(basis, 1.0), Some(vec![6]));
        // The head needs the original order.
        let scores = graph.nodes.iter().position(|node| node.name == "scores").unwrap();
        assert_eq!(reordered(&graph, &weights, &BTreeMap::from([(scores, vec![2, 1, 0])])), None);
    }

    #[test]
    fn maps_in_another_order_learn_from_the_channels_that_they_have() {
        let network = network();
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, 9);
        let images = photographs(60);
        // Everything stays dense, because nothing limits it, but the order of channels changes.
        let config = DecoupleConfig { multipliers: vec![1.5], projections: Vec::new(), ..all_within(u64::MAX) };
        let decoupled = decouple(&network, &weights, &images, SIDE, &config, &|_| ()).unwrap();
        let maps = |network: &Network, weights: &Weights| {
            let map = Map { channels: 3, height: SIDE, width: SIDE, values: images[0].clone() };
            run(&network.graph().unwrap(), weights, map)
        };
        let (before, after) = (maps(&network, &weights), maps(&decoupled.network, &decoupled.weights));
        let mut others = 0;
        for (index, layer) in decoupled.network.layers.iter().enumerate() {
            let Some(teacher) = &layer.teacher else { continue };
            assert_eq!(*teacher, layer.name);
            let node = graph.output_of(index).unwrap();
            let (before, after) = (&before[node], &after[node]);
            let area = after.height * after.width;
            others += usize::from(!layer.teacher_channels.is_empty());
            for channel in 0..after.channels {
                let from = layer.teacher_channels.get(channel).copied().unwrap_or(channel);
                let (ours, theirs) =
                    (&after.values[channel * area..][..area], &before.values[from * area..][..area]);
                let off = ours.iter().zip(theirs).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
                assert!(off < 1e-4, "{} {channel}: {off}", layer.name);
            }
        }
        assert!(others >= 2, "{others} maps have another order");
    }

    #[test]
    fn a_sum_of_any_number_of_maps_needs_one_order_of_all() {
        let conv = |name: &str, out| {
            let activation = Activation::None;
            Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation, norm: false })
        };
        let sum = |terms: &[&str]| {
            let from = terms.iter().map(|term| term.to_string()).collect();
            let layers = vec![
                conv("a", 2),
                conv("b", 2).from(["a"]),
                conv("c", 2).from(["a"]),
                Layer { from, ..Layer::new("sum", LayerKind::Add) },
                conv("sides", 4).from(["sum"]),
                conv("scores", 2).from(["sum"]),
                Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
            ];
            Network { name: "sum".into(), classes: 2, names: Vec::new(), layers }
        };
        let turned = |terms: &[&str], names: &[&str]| {
            let graph = sum(terms).graph().unwrap();
            let weights = random_weights(&graph, 12);
            let id = |name: &str| graph.nodes.iter().position(|node| node.name == name).unwrap();
            let orders = names.iter().map(|name| (id(name), vec![1, 0])).collect();
            reordered(&graph, &weights, &orders).map(|(new, _)| new != weights)
        };
        assert_eq!(turned(&["a", "b", "c"], &["a", "b", "c"]), Some(true));
        assert_eq!(turned(&["a", "b", "c"], &["a", "b"]), None, "`c` has another order");
        assert_eq!(turned(&["a"], &["a"]), Some(true));
    }

    fn of_dense(decoupled: &Decoupled, layer: &str) -> i64 {
        let dense = decoupled.candidates.iter().find(|one| one.layer == layer && one.form.is_none());
        dense.map_or(0, |dense| dense.cost.parameters as i64)
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_option() {
        let network = network();
        let weights = random_weights(&network.graph().unwrap(), 7);
        let images = photographs(2);
        let refused = |config: DecoupleConfig, expected: &str, told: &str| {
            let error = decouple(&network, &weights, &images, SIDE, &config, &|_| ()).unwrap_err();
            assert!(matches!(&error, Error::Option { option, .. } if *option == expected), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        };
        let config = all_within(u64::MAX);
        refused(all_within(100), "--max-parameters", "the cheapest combination has");
        refused(DecoupleConfig { max_macs: 9, ..config.clone() }, "--max-macs", "multiply-accumulates");
        refused(DecoupleConfig { multipliers: vec![0.0, 2.0], ..config.clone() }, "--multipliers", "from 1 to");
        refused(DecoupleConfig { projections: vec![1.5], ..config.clone() }, "--projections", "a share");
        let layers = vec!["stem".into()];
        refused(DecoupleConfig { layers, ..config.clone() }, "--layers", "`stem` is no dense convolution");
        let none = decouple(&network, &weights, &[], SIDE, &config, &|_| ()).unwrap_err();
        assert!(matches!(none, Error::Option { option: "--statistics", .. }), "{none}");
        let missing = decouple(&network, &Weights::new(), &images, SIDE, &config, &|_| ()).unwrap_err();
        assert!(matches!(missing, Error::Training(_)), "{missing}");
    }
}
