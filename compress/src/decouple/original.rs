//! One convolution on patches of photographs, and its possible replacements.

use nalgebra::{DMatrix, DVector};

use super::moments::{CrossMoments, RIDGE, cholesky, eigenvectors, singular};
use super::refine::{Factors, Problem};
use super::{Asked, DecoupleConfig, FormCandidate, Separable, SourceNetwork, separable, unknown};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::export::fold;
use crate::network::{Graph, NodeId, Op};
use crate::prune::statistics::Statistics;

/// The most features of a least-squares fit: its cost grows with the cube of their number.
const FEATURES_MAX: usize = 1600;

/// Patches for each feature of the largest fit.
const PATCHES_A_FEATURE: usize = 12;

/// The most bytes of patches in memory.
const PATCH_BYTES: usize = 512 << 20;

/// One of this many patches is held out to measure errors.
const HELD_OUT: usize = 5;

/// Slices are multiples of this, so that pixels are copied in whole words.
const SLICE_MULTIPLE: usize = 4;

/// An original convolution with its outputs on patches of the photographs.
pub(super) struct Original {
    pub(super) name: String,
    /// The number of patches per photograph.
    pub(super) each: usize,
    /// Its output for each patch, before the activation: `[output, patches]`.
    pub(super) outputs: DMatrix<f32>,
    /// How much the network's outputs depend on each output channel.
    sensitivity: Vec<f64>,
    /// Its own weights, `[output, input · k²]`.
    weights: DMatrix<f32>,
    /// Number of taps of a kernel, k².
    pub(super) taps: usize,
    /// The map itself, then its projections.
    pub(super) bases: Vec<Basis>,
}

/// The input of the depthwise kernels.
pub(super) struct Basis {
    /// `[components, channels]`; `None` for the channels themselves.
    pub(super) projection: Option<DMatrix<f32>>,
    /// The requested number of components, as a share of the channels.
    share: Option<f64>,
    /// By channel or component.
    pub(super) kernels: Vec<Kernels>,
    /// Whether the channels are sorted by the number of kernels that they need.
    sorted: bool,
}

impl Basis {
    /// Output channels of the projection; `None` without one.
    fn projected(&self) -> Option<usize> {
        self.projection.as_ref().map(DMatrix::nrows)
    }
}

/// The depthwise kernels of one input channel.
#[derive(Clone)]
pub(super) struct Kernels {
    /// All k² kernels, one per column, sorted by how much they explain. Their outputs have a mean square of 1.
    pub(super) columns: DMatrix<f32>,
    /// How much of the output's variance each kernel explains.
    pub(super) explained: Vec<f64>,
}

impl Kernels {
    /// How much all kernels except the first explain.
    pub(super) fn rest(&self) -> f64 {
        self.explained[1..].iter().sum()
    }
}

impl Original {
    /// Creates the data of the convolution of node `id`.
    pub(super) fn new(
        source: &SourceNetwork,
        id: NodeId,
        statistics: &Statistics,
        sorted: bool,
    ) -> Result<(Original, DMatrix<f32>)> {
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
        let bases = vec![Basis {
            projection: None,
            share: None,
            kernels: kernels(&weights, &patches, &sensitivity, taps)?,
            sorted,
        }];
        Ok((Original { name, each, outputs, sensitivity, weights, taps, bases }, patches))
    }

    /// Adds a basis for each share.
    ///
    /// With S = L·Lᵀ the mean products of the map's channels at a cell, and W the weights `[output · k², input]`, each
    /// row multiplied by the square root of its output channel's sensitivity, the projections are the first columns of
    /// L⁻ᵀ·V, where V are the eigenvectors of (W·L)ᵀ·(W·L). Their components are uncorrelated, and the weights that
    /// read them are Wᵗ·L·V.
    pub(super) fn project(&mut self, patches: &DMatrix<f32>, shares: &[f64]) -> Result<()> {
        let channels = self.weights.ncols() / self.taps;
        let count =
            |share: f64| ((share * channels as f64) as usize).next_multiple_of(SLICE_MULTIPLE).min(channels);
        let mut counts: Vec<(usize, f64)> = shares.iter().map(|share| (count(*share), *share)).collect();
        counts.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        counts.dedup_by_key(|(count, _)| *count);
        let Some(&(most, _)) = counts.last() else { return Ok(()) };
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
        for (count, share) in counts {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| all[b].rest().total_cmp(&all[a].rest()));
            let kernels = order.iter().map(|&component| all[component].clone()).collect();
            let projection = Some(projection.select_rows(&order));
            self.bases.push(Basis { projection, share: Some(share), kernels, sorted: true });
        }
        Ok(())
    }

    /// A basis whose projection and kernels are fitted together, for these numbers of channels of each copy.
    pub(super) fn refined(&self, basis: &Basis, patches: &DMatrix<f32>, copies: &[usize]) -> Result<Basis> {
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
            share: basis.share,
            kernels: basis.kernels.iter().enumerate().map(of_channel).collect(),
            sorted: basis.sorted,
        })
    }

    /// The basis that belongs to a form.
    pub(super) fn basis(&self, form: &Separable) -> Result<&Basis> {
        let found = self.bases.iter().find(|basis| basis.projected() == form.projected);
        found.ok_or_else(|| unknown(&self.name))
    }

    /// Error and cost of the unchanged layer, which comes first, and of the layer with each multiplier.
    pub(super) fn candidates(
        &self,
        source: &SourceNetwork,
        id: NodeId,
        patches: &DMatrix<f32>,
        config: &DecoupleConfig,
    ) -> Result<Vec<FormCandidate>> {
        let total = |graph: &Graph| cost::total(graph, config.side_px, config.side_px);
        let whole = total(source.graph);
        let dense = cost::of(source.graph, id, config.side_px, config.side_px);
        let layer = self.name.clone();
        let mut all = vec![FormCandidate { layer, form: None, asked: None, unexplained: 0.0, cost: dense }];
        let samples = patches.ncols();
        let seen = samples - samples / HELD_OUT;
        for basis in &self.bases {
            let copies = |&multiplier: &f64| Some((self.copies(basis, multiplier)?, multiplier));
            let mut tried: Vec<(Vec<usize>, f64)> = config.multipliers.iter().filter_map(copies).collect();
            tried.retain(|(copies, _)| copies.iter().sum::<usize>() <= FEATURES_MAX);
            tried.sort_by(|a, b| a.1.total_cmp(&b.1));
            tried.dedup_by(|a, b| a.0 == b.0);
            let mut affordable = Vec::new();
            for (copies, multiplier) in tried {
                let asked = Asked { projection: basis.share, multiplier };
                let form = Separable { projected: basis.projected(), copies };
                let after = total(&separable(source.network, &self.name, &form)?.graph()?);
                let cost = Cost {
                    weights: dense.weights + after.weights - whole.weights,
                    parameters: dense.parameters + after.parameters - whole.parameters,
                    macs: dense.macs + after.macs - whole.macs,
                };
                if cost.parameters < dense.parameters || cost.macs < dense.macs {
                    affordable.push((form, asked, cost));
                }
            }
            // All features of all forms; each form uses some of them.
            let copy =
                |(form, ..): &(Separable, Asked, Cost), copy: usize| form.copies.get(copy).copied().unwrap_or(0);
            let most: Vec<usize> = (0..self.taps)
                .map(|at| affordable.iter().map(|one| copy(one, at)).max().unwrap_or(0))
                .take_while(|channels| *channels > 0)
                .collect();
            let features = self.features(basis, patches, &most);
            let part = |from: usize, count: usize| {
                CrossMoments::new(
                    &features.columns(from, count).into_owned(),
                    &self.outputs.columns(from, count).into_owned(),
                )
            };
            let (learn, check) = (part(0, seen), part(seen, samples - seen));
            for (form, asked, cost) in affordable {
                let starts = most.iter().scan(0, |end, channels| Some(std::mem::replace(end, *end + channels)));
                let chosen = starts.zip(&form.copies).flat_map(|(start, channels)| start..start + channels);
                let chosen: Vec<usize> = chosen.chain([most.iter().sum()]).collect();
                let fitted = learn.select(&chosen).fit()?;
                let (loss, variance) = check.select(&chosen).errors(&fitted, &learn.means(), &self.sensitivity);
                let unexplained = loss / variance.max(f64::MIN_POSITIVE);
                let (layer, form, asked) = (self.name.clone(), Some(form), Some(asked));
                all.push(FormCandidate { layer, form, asked, unexplained, cost });
            }
        }
        Ok(all)
    }

    /// The numbers of first channels that each copy of the map has. Together they have about `multiplier` times the
    /// channels and explain the most; `None` if that is impossible.
    pub(super) fn copies(&self, Basis { kernels, sorted, .. }: &Basis, multiplier: f64) -> Option<Vec<usize>> {
        let (channels, taps) = (kernels.len(), self.taps);
        if multiplier > taps as f64 {
            return None;
        }
        if !sorted {
            return (multiplier.fract() == 0.0).then(|| vec![channels; multiplier as usize]);
        }
        // Each copy has the number of channels that explains most, minus a price per channel.
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
        // Finds the lowest price that does not exceed the requested number.
        let (mut low, mut high) = (0.0, most);
        for _ in 0..60 {
            let price = (low + high) / 2.0;
            if with_price(price).iter().sum::<usize>() > wanted { low = price } else { high = price }
        }
        Some(with_price(high))
    }

    /// The outputs of the depthwise kernels for each patch, one copy of the map after the other, and a constant
    /// feature: `[channels of all copies + 1, patches]`.
    pub(super) fn features(&self, basis: &Basis, patches: &DMatrix<f32>, copies: &[usize]) -> DMatrix<f32> {
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

/// The square roots of sensitivities.
fn roots(sensitivity: &[f64]) -> DVector<f64> {
    DVector::from_iterator(sensitivity.len(), sensitivity.iter().map(|value| value.sqrt()))
}

/// The depthwise kernels of each input channel; see [`Basis::kernels`].
///
/// With S = L·Lᵀ the mean products of a channel's patches, and W its weights `[output, k²]`, each row multiplied by the
/// square root of its output channel's sensitivity, the best approximation of rank T of W on these patches has the
/// kernels L⁻ᵀ·u, where u are the first T eigenvectors of (W·L)ᵀ·(W·L).
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
