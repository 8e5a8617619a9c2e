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
//! A 1×1 convolution without an activation may stand in front, the *projection*. Its outputs are the components of the
//! map that the convolution's output depends on most. Components need fewer kernels than channels do. Projection,
//! depthwise and 1×1 convolution together have the form of an MBConv.
//!
//! The approximation minimises the error on photographs. Errors are weighted by the distribution of a channel's
//! patches, and by the effect of an output channel on the network's outputs ([`Statistics`]). The last 1×1 convolution is
//! then fitted to the original's output by least squares, together with the projection and the kernels ([`refine`]).
//! This is done layer by layer, on the outputs of the layers that are already decoupled. [`choose`] finds the forms with the smallest sum of unexplained variances within the
//! budget. Every layer has the same weight in this sum.

mod refine;

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
use refine::{Factors, Problem};

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

/// What stands for a dense convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Separable {
    /// Channels that the projection gives; `None` without one.
    pub projected: Option<usize>,
    /// How many channels each copy of the map has.
    pub copies: Vec<usize>,
}

impl Separable {
    /// The mean number of kernels of a channel.
    pub fn multiplier(&self) -> f64 {
        self.copies.iter().sum::<usize>() as f64 / self.copies.first().copied().unwrap_or(1) as f64
    }
}

/// What a layer loses and costs in a form.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The layer.
    pub layer: String,
    /// `None` if it stays dense.
    pub form: Option<Separable>,
    /// The share of its output's variance that it does not give, output channels weighed by their effect on the
    /// network's answers.
    pub unexplained: f64,
    /// Parameters and multiply-accumulates of the layer.
    pub cost: Cost,
}

/// What the network is to cost, and which forms to try.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoupleConfig {
    /// The layers that may change; all that can if empty.
    pub layers: Vec<String>,
    /// Multipliers to try, 1 or more. Those above k², and those with which a layer costs more than it does, are passed
    /// over; so are fractions where a map's channels cannot be put in another order.
    pub multipliers: Vec<f64>,
    /// Projections to try, each with all multipliers: shares of the map's channels, above 0 to 1.
    pub projections: Vec<f64>,
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
    /// The network. Its layers keep their names; those that project or copy a map are called after its reader.
    pub network: Network,
    /// Its weights.
    pub weights: Weights,
    /// All that was tried, layer by layer.
    pub candidates: Vec<Candidate>,
    /// The layers that are no longer dense.
    pub chosen: BTreeMap<String, Separable>,
}

impl Decoupled {
    /// The candidates as a table in Markdown, the chosen ones in bold.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| layer | projection | multiplier | unexplained | parameters | MMAC |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for Candidate { layer, form, unexplained, cost } in &self.candidates {
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
/// `images` (see [`quantize::letterboxed`]) have `side` × `side` pixels. `progress` is told what is looked at.
///
/// # Errors
///
/// [`Error::Option`]: a layer that is no dense convolution behind another layer, no multiplier or one of 0, a projection of
/// 0, a budget below the cheapest combination, no images. [`Error::Training`]: weights of another network. A side that does
/// not fit.
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
    let source = Source { images, side, network, graph: &graph, weights };
    let (weights, sorted) = sorted(&source, &ids, &collect(weights)?, progress)?;
    let statistics = collect(&weights)?;
    let source = Source { weights: &weights, ..source };
    let (mut originals, mut candidates) = (Vec::new(), Vec::new());
    for &id in &ids {
        progress(&graph.nodes[id].name);
        let (mut original, patches) = Original::new(&source, id, &statistics, sorted.contains(&id))?;
        original.project(&patches, &config.projections)?;
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

/// The forms with the least unexplained variance within the budget.
fn best(graph: &Graph, all: &[Vec<Candidate>], config: &DecoupleConfig) -> Result<BTreeMap<String, Separable>> {
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
    Ok(picked.filter_map(|candidate| Some((candidate.layer.clone(), candidate.form.clone()?))).collect())
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
        let kernels = &original.bases[0].kernels;
        let mut order: Vec<usize> = (0..kernels.len()).collect();
        order.sort_by(|&a, &b| kernels[b].rest().total_cmp(&kernels[a].rest()));
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
    /// Its own weights, `[output, input · k²]`.
    weights: DMatrix<f32>,
    /// Taps of a kernel, k².
    taps: usize,
    /// The map as it is, then its projections.
    bases: Vec<Basis>,
}

/// What the depthwise kernels read.
struct Basis {
    /// `[components, channels]`; `None` for the channels themselves.
    projection: Option<DMatrix<f32>>,
    /// By channel or component.
    kernels: Vec<Kernels>,
    /// Whether these are in the order of how many kernels they need.
    sorted: bool,
}

impl Basis {
    /// Channels that the projection gives; `None` without one.
    fn projected(&self) -> Option<usize> {
        self.projection.as_ref().map(DMatrix::nrows)
    }
}

/// The depthwise kernels of one input channel.
#[derive(Clone)]
struct Kernels {
    /// All k², a column each, those that explain most first. What they give has mean square 1.
    columns: DMatrix<f32>,
    /// What each explains of the output.
    explained: Vec<f64>,
}

impl Kernels {
    /// What all but the first explain.
    fn rest(&self) -> f64 {
        self.explained[1..].iter().sum()
    }
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
        let bases =
            vec![Basis { projection: None, kernels: kernels(&weights, &patches, &sensitivity, taps)?, sorted }];
        Ok((Original { name, each, outputs, sensitivity, weights, taps, bases }, patches))
    }

    /// Adds a basis for each share of the channels.
    ///
    /// With S = L·Lᵀ the mean products of the map's channels at a cell, and W the weights `[output · k², input]`, each row
    /// times the root of its output channel's sensitivity, the projections are the first columns of L⁻ᵀ·V for V the
    /// eigenvectors of (W·L)ᵀ·(W·L). Their components are uncorrelated, and weights of Wᵗ·L·V read them.
    fn project(&mut self, patches: &DMatrix<f32>, shares: &[f64]) -> Result<()> {
        let channels = self.weights.ncols() / self.taps;
        let mut counts: Vec<usize> = shares
            .iter()
            .map(|share| ((share * channels as f64) as usize).next_multiple_of(SLICE_MULTIPLE).min(channels))
            .collect();
        counts.sort_unstable();
        counts.dedup();
        let Some(&most) = counts.last() else { return Ok(()) };
        let mut products = DMatrix::<f32>::zeros(channels, channels);
        for tap in 0..self.taps {
            let at = rows(patches, tap, self.taps);
            products += &at * at.transpose();
        }
        let mut products = products.cast::<f64>() / (patches.ncols() * self.taps) as f64;
        let ridge = RIDGE * products.trace() / channels as f64 + f64::MIN_POSITIVE.sqrt();
        (0..channels).for_each(|channel| products[(channel, channel)] += ridge);
        let lower = cholesky(products)?.unpack();
        let roots = roots(&self.sensitivity);
        let mut on_map = DMatrix::<f64>::zeros(channels, channels);
        let by_tap: Vec<DMatrix<f64>> = (0..self.taps)
            .map(|tap| {
                let columns = (0..channels).map(|channel| channel * self.taps + tap);
                let weights = self.weights.select_columns(columns.collect::<Vec<_>>().iter()).cast::<f64>();
                let on_map_here = &weights * &lower;
                let mut weighed = on_map_here.clone();
                weighed.column_iter_mut().for_each(|mut column| column.component_mul_assign(&roots));
                on_map += weighed.transpose() * weighed;
                on_map_here
            })
            .collect();
        let (_, vectors) = eigenvectors(on_map);
        let vectors = vectors.columns(0, most).into_owned();
        let projection = lower.tr_solve_lower_triangular(&vectors).ok_or_else(singular)?.transpose().cast::<f32>();
        let mut weights = DMatrix::<f32>::zeros(self.weights.nrows(), most * self.taps);
        for (tap, on_map) in by_tap.iter().enumerate() {
            let on_components = (on_map * &vectors).cast::<f32>();
            for (component, column) in on_components.column_iter().enumerate() {
                weights.set_column(component * self.taps + tap, &column);
            }
        }
        let projected = projected(&projection, patches, self.taps);
        let all = kernels(&weights, &projected, &self.sensitivity, self.taps)?;
        for count in counts {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| all[b].rest().total_cmp(&all[a].rest()));
            let kernels = order.iter().map(|&component| all[component].clone()).collect();
            let projection = Some(projection.select_rows(&order));
            self.bases.push(Basis { projection, kernels, sorted: true });
        }
        Ok(())
    }

    /// A basis whose projection and kernels are fitted together, for so many channels of each copy.
    fn refined(&self, basis: &Basis, patches: &DMatrix<f32>, copies: &[usize]) -> Result<Basis> {
        let reads: Vec<usize> = copies.iter().flat_map(|&channels| 0..channels).collect();
        let starts = copies.iter().enumerate().flat_map(|(copy, &channels)| std::iter::repeat_n(copy, channels));
        let kernel = |(copy, &channel): (usize, &usize)| basis.kernels[channel].columns.column(copy).into_owned();
        let columns: Vec<DVector<f32>> = starts.zip(&reads).map(kernel).collect();
        let channels = self.weights.ncols() / self.taps;
        let components = match &basis.projection {
            Some(projection) => projection.transpose(),
            None => DMatrix::identity(channels, channels),
        };
        let start = Factors { components, kernels: DMatrix::from_columns(&columns), reads };
        let problem = Problem::new(patches, &self.outputs, &self.sensitivity, self.taps);
        let Factors { components, kernels, reads } = problem.refine(&start, basis.projection.is_some())?;
        let of_channel = |(channel, before): (usize, &Kernels)| {
            let features: Vec<usize> = (0..reads.len()).filter(|&feature| reads[feature] == channel).collect();
            Kernels { columns: kernels.select_columns(&features), explained: before.explained.clone() }
        };
        Ok(Basis {
            projection: basis.projection.is_some().then(|| components.transpose()),
            kernels: basis.kernels.iter().enumerate().map(of_channel).collect(),
            sorted: basis.sorted,
        })
    }

    /// The basis of a form.
    fn basis(&self, form: &Separable) -> Result<&Basis> {
        let found = self.bases.iter().find(|basis| basis.projected() == form.projected);
        found.ok_or_else(|| unknown(&self.name))
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
        let mut all = vec![Candidate { layer, form: None, unexplained: 0.0, cost: dense }];
        let samples = patches.ncols();
        let seen = samples - samples / HELD_OUT;
        for basis in &self.bases {
            let mut tried: Vec<Vec<usize>> =
                config.multipliers.iter().filter_map(|one| self.copies(basis, *one)).collect();
            tried.retain(|copies| copies.iter().sum::<usize>() <= FEATURES_MAX);
            tried.sort_by_key(|copies| copies.iter().sum::<usize>());
            tried.dedup();
            let mut affordable = Vec::new();
            for copies in tried {
                let form = Separable { projected: basis.projected(), copies };
                let after = total(&separable(source.network, &self.name, &form)?.graph()?);
                let cost = Cost {
                    weights: dense.weights + after.weights - whole.weights,
                    parameters: dense.parameters + after.parameters - whole.parameters,
                    macs: dense.macs + after.macs - whole.macs,
                };
                if cost.parameters < dense.parameters || cost.macs < dense.macs {
                    affordable.push((form, cost));
                }
            }
            // All features of any of them; those of each are some of these.
            let copy = |(form, _): &(Separable, Cost), copy: usize| form.copies.get(copy).copied().unwrap_or(0);
            let most: Vec<usize> = (0..self.taps)
                .map(|at| affordable.iter().map(|one| copy(one, at)).max().unwrap_or(0))
                .take_while(|channels| *channels > 0)
                .collect();
            let features = self.features(basis, patches, &most);
            let part = |from: usize, count: usize| {
                Moments::new(
                    &features.columns(from, count).into_owned(),
                    &self.outputs.columns(from, count).into_owned(),
                )
            };
            let (learn, check) = (part(0, seen), part(seen, samples - seen));
            for (form, cost) in affordable {
                let starts = most.iter().scan(0, |end, channels| Some(std::mem::replace(end, *end + channels)));
                let chosen = starts.zip(&form.copies).flat_map(|(start, channels)| start..start + channels);
                let chosen: Vec<usize> = chosen.chain([most.iter().sum()]).collect();
                let fitted = learn.select(&chosen).fit()?;
                let (loss, variance) = check.select(&chosen).errors(&fitted, &learn.means(), &self.sensitivity);
                let unexplained = loss / variance.max(f64::MIN_POSITIVE);
                all.push(Candidate { layer: self.name.clone(), form: Some(form), unexplained, cost });
            }
        }
        Ok(all)
    }

    /// How many of the first channels each copy of the map has, so that together they are about `multiplier` times the
    /// channels and explain most; none where that cannot be.
    fn copies(&self, Basis { kernels, sorted, .. }: &Basis, multiplier: f64) -> Option<Vec<usize>> {
        let (channels, taps) = (kernels.len(), self.taps);
        if multiplier > taps as f64 {
            return None;
        }
        if !sorted {
            return (multiplier.fract() == 0.0).then(|| vec![channels; multiplier as usize]);
        }
        // As many channels of each copy as explain most, less a price for each.
        let with_price = |price: f64| {
            let mut copies = vec![channels];
            for copy in 1..taps {
                let (mut sum, mut best) = (0.0, (0.0, 0));
                for start in (0..copies[copy - 1]).step_by(SLICE_MULTIPLE) {
                    let end = (start + SLICE_MULTIPLE).min(channels);
                    sum += kernels[start..end].iter().map(|one| one.explained[copy] - price).sum::<f64>();
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
        let most = kernels.iter().flat_map(|one| &one.explained).fold(0.0, |most: f64, value| most.max(*value));
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
    fn features(&self, basis: &Basis, patches: &DMatrix<f32>, copies: &[usize]) -> DMatrix<f32> {
        let of_components = basis.projection.as_ref().map(|matrix| projected(matrix, patches, self.taps));
        let (patches, taps) = (of_components.as_ref().unwrap_or(patches), self.taps);
        let count: usize = copies.iter().sum();
        let mut features = DMatrix::from_element(count + 1, patches.ncols(), 1.0);
        for (channel, kernels) in basis.kernels.iter().enumerate() {
            let own = copies.iter().take_while(|&&copy| copy > channel).count();
            let given = kernels.columns.columns(0, own).transpose() * patches.rows(channel * taps, taps);
            for (copy, row) in given.row_iter().enumerate() {
                features.set_row(copies[..copy].iter().sum::<usize>() + channel, &row);
            }
        }
        features
    }
}

/// The rows of tap `tap` of patches: the map's channels at one cell.
fn rows(patches: &DMatrix<f32>, tap: usize, taps: usize) -> DMatrix<f32> {
    patches.select_rows((tap..patches.nrows()).step_by(taps).collect::<Vec<_>>().iter())
}

/// The patches of the projected map, `[components · k², patches]`.
fn projected(projection: &DMatrix<f32>, patches: &DMatrix<f32>, taps: usize) -> DMatrix<f32> {
    let mut all = DMatrix::zeros(projection.nrows() * taps, patches.ncols());
    for tap in 0..taps {
        let here = projection * rows(patches, tap, taps);
        for (component, row) in here.row_iter().enumerate() {
            all.set_row(component * taps + tap, &row);
        }
    }
    all
}

/// The roots of sensitivities.
fn roots(sensitivity: &[f64]) -> DVector<f64> {
    DVector::from_iterator(sensitivity.len(), sensitivity.iter().map(|value| value.sqrt()))
}

/// Eigenvalues and eigenvectors of a symmetric matrix, the largest first.
fn eigenvectors(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let eigen = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    (order.iter().map(|&index| eigen.eigenvalues[index]).collect(), eigen.eigenvectors.select_columns(&order))
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
    let roots = roots(sensitivity);
    let of_channel = |channel: usize| {
        let own = patches.rows(channel * taps, taps);
        let products = (own * own.transpose()).cast::<f64>() / patches.ncols() as f64;
        let lower = cholesky(products + DMatrix::identity(taps, taps) * ridge)?.unpack();
        let mut rows = weights.columns(channel * taps, taps).into_owned().cast::<f64>();
        rows.column_iter_mut().for_each(|mut column| column.component_mul_assign(&roots));
        let on_patches = rows * &lower;
        let (explained, vectors) = eigenvectors(on_patches.transpose() * &on_patches);
        let columns = lower.tr_solve_lower_triangular(&vectors).ok_or_else(singular)?.cast::<f32>();
        Ok(Kernels { columns, explained })
    };
    (0..patches.nrows() / taps).map(of_channel).collect()
}

/// Mean products of features and outputs.
struct Moments {
    /// `[feature, feature]`.
    products: DMatrix<f64>,
    /// `[feature, output]`.
    both: DMatrix<f64>,
    /// Mean squares of the outputs.
    squares: Vec<f64>,
}

impl Moments {
    /// Of `[feature, patches]` and `[output, patches]`. The last feature is a constant one.
    fn new(features: &DMatrix<f32>, outputs: &DMatrix<f32>) -> Moments {
        let count = features.ncols().max(1) as f64;
        let squares = outputs.row_iter().map(|row| f64::from(row.into_owned().norm_squared()) / count).collect();
        Moments {
            products: (features * features.transpose()).cast::<f64>() / count,
            both: (features * outputs.transpose()).cast::<f64>() / count,
            squares,
        }
    }

    /// Of these features alone.
    fn select(&self, features: &[usize]) -> Moments {
        Moments {
            products: self.products.select_rows(features).select_columns(features),
            both: self.both.select_rows(features),
            squares: self.squares.clone(),
        }
    }

    /// The matrix `[output, feature]` that gives the outputs with the least squares of errors.
    fn fit(&self) -> Result<DMatrix<f64>> {
        let mut products = self.products.clone();
        for i in 0..products.nrows() {
            products[(i, i)] += products[(i, i)] * RIDGE + f64::MIN_POSITIVE.sqrt();
        }
        Ok(cholesky(products)?.solve(&self.both).transpose())
    }

    /// Means of the outputs.
    fn means(&self) -> Vec<f64> {
        self.both.row_iter().last().map(|row| row.iter().copied().collect()).unwrap_or_default()
    }

    /// Mean squares of the errors of a fit, and of the distances from `means`, summed over the outputs, each of which counts
    /// by its sensitivity.
    fn errors(&self, fit: &DMatrix<f64>, means: &[f64], sensitivity: &[f64]) -> (f64, f64) {
        let given = fit * &self.products;
        let own = self.means();
        let mut sums = (0.0, 0.0);
        for (output, weight) in sensitivity.iter().enumerate() {
            let square = self.squares[output];
            let row = fit.row(output);
            let error = square - 2.0 * row.transpose().dot(&self.both.column(output)) + given.row(output).dot(&row);
            sums.0 += weight * error.max(0.0);
            sums.1 += weight * (square - 2.0 * own[output] * means[output] + means[output].powi(2));
        }
        sums
    }
}

fn cholesky(matrix: DMatrix<f64>) -> Result<Cholesky<f64, nalgebra::Dyn>> {
    Cholesky::new(matrix).ok_or_else(singular)
}

/// Weights or maps that are not finite.
fn singular() -> Error {
    Error::Training("the network's maps are not finite".into())
}

/// The network with the convolution `name` in another form.
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

/// What the projection in front of a layer is called.
fn projection(layer: &str) -> String {
    format!("{layer}_projection")
}

/// The network with the `originals` depthwise separable, each fitted on what those in front of it give.
fn replace(
    source: &Source,
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
        let fitted =
            Moments::new(&original.features(basis, &patches, &form.copies), &original.outputs).fit()?.cast::<f32>();
        network = separable(&network, name, form)?;
        let (outputs, features) = (fitted.nrows(), fitted.ncols() - 1);
        let depthwise = form.copies.iter().enumerate().flat_map(|(copy, &channels)| {
            let kernels = basis.kernels[..channels].iter();
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
        let source = Source { images: &images, side: SIDE, network: &network, graph: &graph, weights: &weights };
        let statistics = Statistics::collect(&network, &weights, &images, SIDE, &|_| ()).unwrap();
        let ids = eligible(&network, &graph, &[]).unwrap();
        let original = |id: &NodeId| {
            let (mut original, patches) = Original::new(&source, *id, &statistics, false).unwrap();
            original.project(&patches, &[1.0]).unwrap();
            original
        };
        let originals: Vec<Original> = ids.iter().map(original).collect();
        // With all channels as they are, and with all components of the map.
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
        let (layers, projections) = (vec!["deep".into()], Vec::new());
        let config = DecoupleConfig { layers, multipliers, projections, ..all_within(u64::MAX) };
        let decoupled = decouple(&network, &weights, &photographs(200), SIDE, &config, &|_| ()).unwrap();
        let unexplained: Vec<f64> = decoupled.candidates.iter().map(|candidate| candidate.unexplained).collect();
        // Dense, then by multiplier.
        assert!(unexplained[0] == 0.0 && unexplained[1] > 0.03 && unexplained[2] < 1e-4, "{unexplained:?}");
        assert_eq!(unexplained.len(), 3);
        assert!(decoupled.chosen.is_empty() && decoupled.network == network, "nothing limits it");
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
            let form = |one: &Candidate| one.form.clone().map(|form| (form.projected, form.copies.len()));
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
                    let saved = |one: &Candidate| of_dense(&decoupled, &one.layer) - one.cost.parameters as i64;
                    let parameters = dense.parameters as i64 - all.into_iter().map(saved).sum::<i64>();
                    if parameters <= config.max_parameters as i64 {
                        least = least.min(all.into_iter().map(|one| one.unexplained).sum());
                    }
                }
            }
        }
        let chosen = |one: &&Candidate| decoupled.chosen.get(&one.layer) == one.form.as_ref();
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
        let basis = &original.bases[0];
        let needs: Vec<f64> = basis.kernels.iter().map(|one| one.explained[1] / one.explained[0]).collect();
        assert!(
            needs[..4].iter().all(|need| *need > 0.01) && needs[4..].iter().all(|need| *need < 1e-3),
            "{needs:?}"
        );
        assert_eq!(original.copies(basis, 1.7), Some(vec![6, 4]));
        assert_eq!(original.copies(basis, 1.0), Some(vec![6]));
        // The head needs the order that it has.
        let scores = graph.nodes.iter().position(|node| node.name == "scores").unwrap();
        assert_eq!(reordered(&graph, &weights, &BTreeMap::from([(scores, vec![2, 1, 0])])), None);
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
