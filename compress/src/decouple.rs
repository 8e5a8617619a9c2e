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
//! The approximation minimises the error on photographs. Errors are weighted by the distribution of a channel's
//! patches, and by the effect of an output channel on the network's outputs ([`Statistics`]). The 1×1 convolution is
//! then fitted to the original's output by least squares. This is done layer by layer, on the outputs of the layers
//! that are already decoupled. [`choose`] finds the multipliers with the smallest sum of unexplained variances within
//! the budget. Every layer has the same weight in this sum.

use std::collections::BTreeMap;
use std::fmt::Write;

use nalgebra::{Cholesky, DMatrix, DVector, SymmetricEigen};

use crate::checkpoint::{self, Array, Weights};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::explore::{Budget, Item, choose};
use crate::export::fold;
use crate::network::{Activation, Graph, Layer, LayerKind, Network, Node, NodeId, Op};
use crate::prune::statistics::Statistics;
use crate::quantize;

/// Features of a least squares fit, at most: its cost grows with their cube.
const FEATURES_MAX: usize = 1600;

/// Patches for each feature of the largest fit.
const PATCHES_A_FEATURE: usize = 12;

/// Bytes of patches in memory, at most.
const PATCH_BYTES: usize = 512 << 20;

/// One of so many patches is held out to measure errors.
const HELD_OUT: usize = 5;

/// The largest multiplier that may be asked for: a kernel of 31 × 31.
const MULTIPLIER_MAX: f64 = 961.0;

/// Slices are multiples of this, so that pixels are copied in whole words.
const SLICE_MULTIPLE: usize = 4;

/// Share of the mean variance that is added to each patch's, and of its own to each feature's.
const RIDGE: f64 = 1e-4;

/// What a layer loses and costs with a multiplier.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The layer.
    pub layer: String,
    /// How many channels each copy of its map has; none if it stays dense.
    pub copies: Vec<usize>,
    /// The share of its output's variance that it does not give, output channels weighed by their effect on the
    /// network's answers.
    pub unexplained: f64,
    /// Parameters and multiply-accumulates of the layer.
    pub cost: Cost,
}

impl Candidate {
    /// The mean number of kernels of an input channel; `None` if the convolution stays dense.
    pub fn multiplier(&self) -> Option<f64> {
        Some(self.copies.iter().sum::<usize>() as f64 / *self.copies.first()? as f64)
    }
}

/// What the network is to cost, and which multipliers to try.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoupleConfig {
    /// The layers that may change; all that can if empty.
    pub layers: Vec<String>,
    /// Multipliers to try, 1 or more. Those above k², and those with which a layer costs more than it does, are passed
    /// over; so are fractions where a map's channels cannot be put in another order.
    pub multipliers: Vec<f64>,
    /// Parameters of the whole network, at most.
    pub max_parameters: u64,
    /// Its multiply-accumulates, at most.
    pub max_macs: u64,
    /// Side of the square input in pixels that multiply-accumulates are counted for.
    pub side_px: usize,
}

/// A decoupled network.
#[derive(Debug)]
pub struct Decoupled {
    /// The network. Its layers keep their names; those that copy a map are called after its reader.
    pub network: Network,
    /// Its weights.
    pub weights: Weights,
    /// All that was tried, layer by layer.
    pub candidates: Vec<Candidate>,
    /// How many channels each copy of the map has, of the layers that are no longer dense.
    pub chosen: BTreeMap<String, Vec<usize>>,
}

impl Decoupled {
    /// The candidates as a table in Markdown, the chosen ones in bold.
    pub fn markdown(&self) -> String {
        let mut text =
            String::from("| layer | multiplier | unexplained | parameters | MMAC |\n|---|---|--:|--:|--:|\n");
        for candidate in &self.candidates {
            let Candidate { layer, copies, unexplained, cost } = candidate;
            let mut name = candidate.multiplier().map_or("dense".into(), |multiplier| format!("{multiplier:.2}"));
            if self.chosen.get(layer).map_or(copies.is_empty(), |chosen| chosen == copies) {
                name = format!("**{name}**");
            }
            let (parameters, mmac) = (cost::grouped(cost.parameters), cost.macs as f64 / 1e6);
            let _ = writeln!(text, "| {layer} | {name} | {unexplained:.4} | {parameters} | {mmac:.1} |");
        }
        text
    }
}

/// Decouples the convolutions of `network` with the least unexplained variance within the budget.
///
/// `images` (see [`quantize::letterboxed`]) have `side` × `side` pixels. `progress` is told what is looked at.
///
/// # Errors
///
/// [`Error::Option`]: a layer that is no dense convolution behind another layer, no multiplier or one of 0, a budget
/// below the cheapest combination, no images. [`Error::Training`]: weights of another network. A side that does not fit.
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
    let ids = eligible(network, &graph, &config.layers)?;
    checkpoint::check(&graph, weights).map_err(Error::Training)?;
    let collect = |weights: &Weights| {
        progress("the network's answers");
        Statistics::collect(network, weights, images, side, &|_| ())
    };
    let source = Source { images, side, network, graph: &graph, weights };
    let (weights, sorted) = sorted(&source, &ids, &collect(weights)?, progress)?;
    let statistics = collect(&weights)?;
    let source = Source { weights: &weights, ..source };
    let (mut originals, mut candidates) = (Vec::new(), Vec::new());
    for &id in &ids {
        progress(&graph.nodes[id].name);
        let (original, patches) = Original::new(&source, id, &statistics, sorted.contains(&id))?;
        candidates.push(original.candidates(&source, id, &patches, config)?);
        originals.push(original);
    }
    let chosen = best(&graph, &candidates, config)?;
    originals.retain(|original| chosen.contains_key(&original.name));
    let (network, weights) = replace(&source, &originals, &chosen, progress)?;
    Ok(Decoupled { network, weights, candidates: candidates.into_iter().flatten().collect(), chosen })
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

/// The copies with the least unexplained variance within the budget.
fn best(graph: &Graph, all: &[Vec<Candidate>], config: &DecoupleConfig) -> Result<BTreeMap<String, Vec<usize>>> {
    let item = |Candidate { unexplained, cost, .. }: &Candidate| Item {
        loss: *unexplained,
        parameters: cost.parameters,
        macs: cost.macs,
        ms: 0.0,
    };
    let parts: Vec<Vec<Item>> = all.iter().map(|candidates| candidates.iter().map(item).collect()).collect();
    let sum = |of: &dyn Fn(&Vec<Item>) -> u64| parts.iter().map(of).sum::<u64>();
    let parameters = |part: &Vec<Item>| part.iter().map(|item| item.parameters).min().unwrap_or(0);
    let macs = |part: &Vec<Item>| part.iter().map(|item| item.macs).min().unwrap_or(0);
    let total = cost::total(graph, config.side_px, config.side_px);
    // The dense layer is the first of its candidates.
    let rest = (total.parameters - sum(&|part| part[0].parameters), total.macs - sum(&|part| part[0].macs));
    let DecoupleConfig { max_parameters, max_macs, .. } = *config;
    for (option, most, least, what) in [
        ("--max-parameters", max_parameters, rest.0 + sum(&parameters), "parameters"),
        ("--max-macs", max_macs, rest.1 + sum(&macs), "multiply-accumulates"),
    ] {
        if least > most {
            let problem = format!("{most}: the cheapest combination has {least} {what}");
            return Err(Error::Option { option, problem });
        }
    }
    let budget = Budget { parameters: max_parameters - rest.0, macs: max_macs - rest.1, ms: f64::INFINITY };
    let Some(choice) = choose(&parts, &budget, 1).into_iter().next() else {
        let problem = format!("{max_macs}: no combination with as few has at most {max_parameters} parameters");
        return Err(Error::Option { option: "--max-macs", problem });
    };
    let picked = all.iter().zip(choice.picks).map(|(candidates, pick)| &candidates[pick]);
    let separable = picked.filter(|candidate| !candidate.copies.is_empty());
    Ok(separable.map(|candidate| (candidate.layer.clone(), candidate.copies.clone())).collect())
}

/// The weights with the channels of maps that the convolutions `ids` read in the order of how many kernels they need, and
/// which of `ids` read such a map. The network computes the same.
fn sorted(
    source: &Source,
    ids: &[NodeId],
    statistics: &Statistics,
    progress: &dyn Fn(&str),
) -> Result<(Weights, Vec<NodeId>)> {
    let graph = source.graph;
    let (mut orders, mut sorted) = (BTreeMap::new(), Vec::new());
    for &id in ids {
        let mut maker = graph.nodes[id].inputs[0];
        while matches!(graph.nodes[maker].op, Op::MaxPool { .. } | Op::Upsample { .. }) {
            maker = graph.nodes[maker].inputs[0];
        }
        // The first reader decides.
        if !matches!(graph.nodes[maker].op, Op::Conv { groups: 1, .. }) || orders.contains_key(&maker) {
            continue;
        }
        progress(&graph.nodes[id].name);
        let (original, _) = Original::new(source, id, statistics, false)?;
        let rest = |channel: &usize| original.kernels[*channel].explained[1..].iter().sum::<f64>();
        let mut order: Vec<usize> = (0..original.kernels.len()).collect();
        order.sort_by(|a, b| rest(b).total_cmp(&rest(a)));
        let mut more = orders.clone();
        more.insert(maker, order);
        if reordered(graph, source.weights, &more).is_some() {
            orders = more;
            sorted.push(id);
        }
    }
    let weights = reordered(graph, source.weights, &orders).unwrap_or_else(|| source.weights.clone());
    Ok((weights, sorted))
}

/// The weights with the output channels of the dense convolutions `orders` in another order: for each place the channel
/// that comes there. `None` where a slice, a sum or the head would read other channels.
fn reordered(graph: &Graph, weights: &Weights, orders: &BTreeMap<NodeId, Vec<usize>>) -> Option<Weights> {
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
                if read(0) != read(1) {
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
    Some(new)
}

/// Photographs, and the network as it was.
struct Source<'a> {
    images: &'a [Vec<f32>],
    side: usize,
    network: &'a Network,
    graph: &'a Graph,
    weights: &'a Weights,
}

impl Source<'_> {
    /// What convolution `name` of a network reads at some cells of its output, the same cells in each call:
    /// `[input · k², patches]`, with `each` patches of every photograph.
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
                            // Half a kernel of zeros around the map.
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

/// A convolution as it was, on patches of the photographs.
struct Original {
    name: String,
    /// Patches of every photograph.
    each: usize,
    /// What it gives for each patch, before the activation: `[output, patches]`.
    outputs: DMatrix<f32>,
    /// How much the network's answers depend on each output channel.
    sensitivity: Vec<f64>,
    /// By input channel.
    kernels: Vec<Kernels>,
    /// Whether the channels of its input are in the order of how many kernels they need.
    sorted: bool,
}

/// The depthwise kernels of one input channel.
struct Kernels {
    /// All k², a column each, those that explain most first. What they give has mean square 1.
    columns: DMatrix<f32>,
    /// What each explains of the output.
    explained: Vec<f64>,
}

impl Original {
    /// The convolution of node `id` with its patches.
    fn new(source: &Source, id: NodeId, statistics: &Statistics, sorted: bool) -> Result<(Original, DMatrix<f32>)> {
        let node = &source.graph.nodes[id];
        let Op::Conv { input, kernel, .. } = node.op else { return Err(unknown(&node.name)) };
        let (name, taps) = (node.name.clone(), kernel * kernel);
        let wanted = PATCHES_A_FEATURE * (taps * input).min(FEATURES_MAX);
        let room = PATCH_BYTES / (size_of::<f32>() * input * taps);
        let each = wanted.min(room).div_ceil(source.images.len()).max(1);
        let patches = source.patches(source.network, source.weights, &name, each)?;
        let folded = fold(node, source.weights).map_err(Error::Training)?;
        let weights = DMatrix::from_row_slice(node.channels, input * taps, &folded.weight);
        let bias = DVector::from_vec(folded.bias);
        let mut outputs = &weights * &patches;
        outputs.column_iter_mut().for_each(|mut column| column += &bias);
        let sensitivity = statistics.sensitivity[id].clone();
        let kernels = kernels(&weights, &patches, &sensitivity, taps)?;
        Ok((Original { name, each, outputs, sensitivity, kernels, sorted }, patches))
    }

    /// What it loses and costs as it is, which comes first, and with each multiplier.
    fn candidates(
        &self,
        source: &Source,
        id: NodeId,
        patches: &DMatrix<f32>,
        config: &DecoupleConfig,
    ) -> Result<Vec<Candidate>> {
        let total = |graph: &Graph| cost::total(graph, config.side_px, config.side_px);
        let whole = total(source.graph);
        let dense = cost::of(source.graph, id, config.side_px, config.side_px);
        let layer = self.name.clone();
        let mut all = vec![Candidate { layer, copies: Vec::new(), unexplained: 0.0, cost: dense }];
        let samples = patches.ncols();
        let seen = samples - samples / HELD_OUT;
        let held_out = self.outputs.columns(seen, samples - seen);
        let means = self.outputs.column_mean();
        let deviations = DMatrix::from_columns(&held_out.column_iter().map(|y| y - &means).collect::<Vec<_>>());
        let variance = self.weighed(&deviations);
        let mut tried: Vec<Vec<usize>> = config.multipliers.iter().filter_map(|one| self.copies(*one)).collect();
        tried.sort_by_key(|copies| copies.iter().sum::<usize>());
        tried.dedup();
        for copies in tried {
            let count: usize = copies.iter().sum();
            if count > FEATURES_MAX {
                continue;
            }
            let after = total(&separable(source.network, &self.name, &copies)?.graph()?);
            let cost = Cost {
                weights: dense.weights + after.weights - whole.weights,
                parameters: dense.parameters + after.parameters - whole.parameters,
                macs: dense.macs + after.macs - whole.macs,
            };
            if cost.parameters >= dense.parameters && cost.macs >= dense.macs {
                continue;
            }
            let features = self.features(patches, &copies);
            let fitted = fit(&features.columns(0, seen).into_owned(), &self.outputs.columns(0, seen).into_owned())?;
            let loss = self.weighed(&(held_out - fitted * features.columns(seen, samples - seen)));
            let unexplained = loss / variance.max(f64::MIN_POSITIVE);
            all.push(Candidate { layer: self.name.clone(), copies, unexplained, cost });
        }
        Ok(all)
    }

    /// How many of the first channels each copy of the map has, so that together they are about `multiplier` times the
    /// channels and explain most; none where that cannot be.
    fn copies(&self, multiplier: f64) -> Option<Vec<usize>> {
        let channels = self.kernels.len();
        let taps = self.kernels.first()?.explained.len();
        if multiplier > taps as f64 {
            return None;
        }
        if !self.sorted {
            return (multiplier.fract() == 0.0).then(|| vec![channels; multiplier as usize]);
        }
        // As many channels of each copy as explain most, less a price for each.
        let with_price = |price: f64| {
            let mut copies = vec![channels];
            for copy in 1..taps {
                let (mut sum, mut best) = (0.0, (0.0, 0));
                for start in (0..copies[copy - 1]).step_by(SLICE_MULTIPLE) {
                    let end = (start + SLICE_MULTIPLE).min(channels);
                    sum += self.kernels[start..end].iter().map(|one| one.explained[copy] - price).sum::<f64>();
                    if sum > best.0 {
                        best = (sum, end);
                    }
                }
                if best.1 == 0 {
                    break;
                }
                copies.push(best.1);
            }
            copies
        };
        let wanted = (multiplier * channels as f64) as usize;
        let most =
            self.kernels.iter().flat_map(|one| &one.explained).fold(0.0, |most: f64, value| most.max(*value));
        // The lowest price that keeps to what is wanted.
        let (mut low, mut high) = (0.0, most);
        for _ in 0..60 {
            let price = (low + high) / 2.0;
            if with_price(price).iter().sum::<usize>() > wanted { low = price } else { high = price }
        }
        Some(with_price(high))
    }

    /// What the depthwise kernels give for each patch, one copy of the map after the other, and a constant one:
    /// `[channels of all copies + 1, patches]`.
    fn features(&self, patches: &DMatrix<f32>, copies: &[usize]) -> DMatrix<f32> {
        let count: usize = copies.iter().sum();
        let mut features = DMatrix::from_element(count + 1, patches.ncols(), 1.0);
        for (channel, kernels) in self.kernels.iter().enumerate() {
            let taps = kernels.columns.nrows();
            let own = copies.iter().take_while(|&&copy| copy > channel).count();
            let given = kernels.columns.columns(0, own).transpose() * patches.rows(channel * taps, taps);
            for (copy, row) in given.row_iter().enumerate() {
                features.set_row(copies[..copy].iter().sum::<usize>() + channel, &row);
            }
        }
        features
    }

    /// Mean over the patches of squared errors, `[output, patches]`, that count by the sensitivity of their channel.
    fn weighed(&self, errors: &DMatrix<f32>) -> f64 {
        let mean = |row: nalgebra::RowDVector<f32>| f64::from(row.norm_squared()) / row.len().max(1) as f64;
        errors
            .row_iter()
            .zip(&self.sensitivity)
            .map(|(row, sensitivity)| mean(row.into_owned()) * sensitivity)
            .sum()
    }
}

/// The depthwise kernels of each input channel; see [`Original::kernels`].
///
/// With S = L·Lᵀ the mean products of a channel's patches and W its weights `[output, k²]`, each row times the root of its
/// channel's sensitivity, the best approximation of rank T of W on these patches has the kernels L⁻ᵀ·u of the first T
/// eigenvectors u of (W·L)ᵀ·(W·L).
fn kernels(
    weights: &DMatrix<f32>,
    patches: &DMatrix<f32>,
    sensitivity: &[f64],
    taps: usize,
) -> Result<Vec<Kernels>> {
    let ridge = RIDGE * f64::from(patches.norm_squared()) / patches.len() as f64 + f64::MIN_POSITIVE.sqrt();
    let roots = DVector::from_iterator(sensitivity.len(), sensitivity.iter().map(|value| value.sqrt()));
    let of_channel = |channel: usize| {
        let own = patches.rows(channel * taps, taps);
        let products = (own * own.transpose()).cast::<f64>() / patches.ncols() as f64;
        let lower = cholesky(products + DMatrix::identity(taps, taps) * ridge)?.unpack();
        let mut rows = weights.columns(channel * taps, taps).into_owned().cast::<f64>();
        rows.column_iter_mut().for_each(|mut column| column.component_mul_assign(&roots));
        let on_patches = rows * &lower;
        let eigen = SymmetricEigen::new(on_patches.transpose() * &on_patches);
        let mut order: Vec<usize> = (0..taps).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let vectors = eigen.eigenvectors.select_columns(&order);
        let columns = lower.tr_solve_lower_triangular(&vectors).ok_or_else(singular)?.cast::<f32>();
        let explained = order.into_iter().map(|index| eigen.eigenvalues[index]).collect();
        Ok(Kernels { columns, explained })
    };
    (0..patches.nrows() / taps).map(of_channel).collect()
}

/// The matrix `[output, feature]` that gives `outputs` of `features` with the least squares of errors.
fn fit(features: &DMatrix<f32>, outputs: &DMatrix<f32>) -> Result<DMatrix<f32>> {
    let count = features.ncols() as f64;
    let mut products = (features * features.transpose()).cast::<f64>() / count;
    for i in 0..products.nrows() {
        products[(i, i)] += products[(i, i)] * RIDGE + f64::MIN_POSITIVE.sqrt();
    }
    let both = (features * outputs.transpose()).cast::<f64>() / count;
    Ok(cholesky(products)?.solve(&both).transpose().cast::<f32>())
}

fn cholesky(matrix: DMatrix<f64>) -> Result<Cholesky<f64, nalgebra::Dyn>> {
    Cholesky::new(matrix).ok_or_else(singular)
}

/// Weights or maps that are not finite.
fn singular() -> Error {
    Error::Training("the network's maps are not finite".into())
}

/// The network with the convolution `name` depthwise separable, behind so many copies of its map.
fn separable(network: &Network, name: &str, copies: &[usize]) -> Result<Network> {
    let mut layers = Vec::with_capacity(network.layers.len() + 1);
    let mut before = String::from("image");
    for layer in &network.layers {
        let mut layer = layer.clone();
        if let (true, LayerKind::Conv { out, kernel, stride, activation, .. }) = (layer.name == name, &layer.kind) {
            let (out, kernel, stride, activation) = (*out, *kernel, *stride, *activation);
            let depthwise_activation = (activation != Activation::None).then_some(Activation::None);
            layer.kind = LayerKind::DsConv { out, kernel, stride, activation, depthwise_activation, norm: false };
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

/// The network with the `originals` depthwise separable, each fitted on what those in front of it give.
fn replace(
    source: &Source,
    originals: &[Original],
    chosen: &BTreeMap<String, Vec<usize>>,
    progress: &dyn Fn(&str),
) -> Result<(Network, Weights)> {
    let (mut network, mut weights) = (source.network.clone(), source.weights.clone());
    for original in originals {
        let (name, copies) = (&original.name, &chosen[&original.name]);
        progress(name);
        let patches = source.patches(&network, &weights, name, original.each)?;
        let fitted = fit(&original.features(&patches, copies), &original.outputs)?;
        network = separable(&network, name, copies)?;
        let (outputs, features) = (fitted.nrows(), fitted.ncols() - 1);
        let taps = original.kernels[0].columns.nrows();
        let depthwise = copies.iter().enumerate().flat_map(|(copy, &channels)| {
            let kernels = original.kernels[..channels].iter();
            kernels.flat_map(move |kernels| kernels.columns.column(copy).iter().copied().collect::<Vec<f32>>())
        });
        let side = taps.isqrt();
        let pointwise = fitted.columns(0, features).transpose();
        let bias: Vec<f32> = fitted.column(features).iter().copied().collect();
        weights.retain(|tensor, _| !tensor.starts_with(&format!("{name}.")));
        for (tensor, shape, values) in [
            ("depthwise.conv.weight", vec![features, 1, side, side], depthwise.collect()),
            ("depthwise.conv.bias", vec![features], vec![0.0; features]),
            ("pointwise.conv.weight", vec![outputs, features, 1, 1], pointwise.as_slice().to_vec()),
            ("pointwise.conv.bias", vec![outputs], bias),
        ] {
            weights.insert(format!("{name}.{tensor}"), Array { shape, values });
        }
    }
    Ok((network, weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Head;
    use crate::network::reference::{Map, random_weights, run};

    const SIDE: usize = 16;

    fn conv(name: &str, out: usize, kernel: usize, stride: usize, activation: Activation, norm: bool) -> Layer {
        Layer::new(name, LayerKind::Conv { out, kernel, stride, activation, norm })
    }

    /// Convolutions with and without normalisation, with stride, with a larger kernel, behind a joined skip.
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

    /// What the head reads, as one list.
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
        let source = Source { images: &images, side: SIDE, network: &network, graph: &graph, weights: &weights };
        let statistics = Statistics::collect(&network, &weights, &images, SIDE, &|_| ()).unwrap();
        let ids = eligible(&network, &graph, &[]).unwrap();
        let originals: Vec<Original> =
            ids.iter().map(|&id| Original::new(&source, id, &statistics, false).unwrap().0).collect();
        let chosen = [("deep", vec![4; 9]), ("wide", vec![6; 25]), ("down", vec![9; 9])];
        let chosen = chosen.into_iter().map(|(name, copies)| (name.into(), copies)).collect();
        let (separable, fitted) = replace(&source, &originals, &chosen, &|_| ()).unwrap();
        assert_eq!(checkpoint::check(&separable.graph().unwrap(), &fitted), Ok(()));
        let kinds = separable.layers.iter().filter(|layer| matches!(layer.kind, LayerKind::DsConv { .. })).count();
        assert_eq!(kinds, 3);
        for image in &images[..3] {
            let (before, after) = (answers(&network, &weights, image), answers(&separable, &fitted, image));
            let largest = before.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let off = before.iter().zip(&after).fold(0f32, |off, (a, b)| off.max((a - b).abs()));
            // The ridge keeps it from being exact.
            assert!(off < 0.01 * largest, "{off} of {largest}");
        }
    }

    #[test]
    fn kernels_of_low_rank_are_found() {
        let network = network();
        let graph = network.graph().unwrap();
        let mut weights = random_weights(&graph, 5);
        // All kernels of an input channel of `deep` are mixed of two.
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
        let config = DecoupleConfig { layers: vec!["deep".into()], multipliers, ..all_within(u64::MAX) };
        let decoupled = decouple(&network, &weights, &photographs(200), SIDE, &config, &|_| ()).unwrap();
        let unexplained: Vec<f64> = decoupled.candidates.iter().map(|candidate| candidate.unexplained).collect();
        // Dense, then by multiplier.
        assert!(unexplained[0] == 0.0 && unexplained[1] > 0.03 && unexplained[2] < 1e-4, "{unexplained:?}");
        assert!(decoupled.chosen.is_empty() && decoupled.network == network, "nothing limits it");
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
                    let saved = |one: &Candidate| of_dense(&decoupled, &one.layer) - one.cost.parameters as i64;
                    let parameters = dense.parameters as i64 - all.into_iter().map(saved).sum::<i64>();
                    if parameters <= config.max_parameters as i64 {
                        least = least.min(all.into_iter().map(|one| one.unexplained).sum());
                    }
                }
            }
        }
        let chosen = |one: &&Candidate| {
            decoupled.chosen.get(&one.layer).map_or(one.copies.is_empty(), |copies| *copies == one.copies)
        };
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
        let source = Source { images: &images, side: SIDE, network: &network, graph: &graph, weights: &weights };
        let (ordered, which) = sorted(&source, &ids, &statistics, &|_| ()).unwrap();
        assert_eq!(which, ids);
        assert_ne!(ordered, weights);
        for image in &images[..3] {
            let (before, after) = (answers(&network, &weights, image), answers(&network, &ordered, image));
            assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4), "the answers stay");
        }
        let source = Source { weights: &ordered, ..source };
        let (original, _) = Original::new(&source, ids[0], &statistics, true).unwrap();
        let needs: Vec<f64> = original.kernels.iter().map(|one| one.explained[1] / one.explained[0]).collect();
        assert!(
            needs[..4].iter().all(|need| *need > 0.01) && needs[4..].iter().all(|need| *need < 1e-3),
            "{needs:?}"
        );
        assert_eq!(original.copies(1.7), Some(vec![6, 4]));
        assert_eq!(original.copies(1.0), Some(vec![6]));
        // The head needs the order that it has.
        let scores = graph.nodes.iter().position(|node| node.name == "scores").unwrap();
        assert_eq!(reordered(&graph, &weights, &BTreeMap::from([(scores, vec![2, 1, 0])])), None);
    }

    fn of_dense(decoupled: &Decoupled, layer: &str) -> i64 {
        let dense = decoupled.candidates.iter().find(|one| one.layer == layer && one.copies.is_empty());
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
        let layers = vec!["stem".into()];
        refused(DecoupleConfig { layers, ..config.clone() }, "--layers", "`stem` is no dense convolution");
        let none = decouple(&network, &weights, &[], SIDE, &config, &|_| ()).unwrap_err();
        assert!(matches!(none, Error::Option { option: "--statistics", .. }), "{none}");
        let missing = decouple(&network, &Weights::new(), &images, SIDE, &config, &|_| ()).unwrap_err();
        assert!(matches!(missing, Error::Training(_)), "{missing}");
    }
}
