//! Rounds weights to bytes, up or down, so that the output of a convolution changes as little as possible.
//!
//! Rounding to nearest is not optimal. Neighbouring activations are correlated, so errors of weights that add up matter
//! more than errors that cancel. Over the windows x that a convolution reads, an error e of a row of weights causes the
//! mean squared error (e·x)². Its constant part goes into the bias. The rest is eᵀ C e, where C is the covariance of
//! the windows. It is minimised weight by weight (the objective of Nagel et al. 2020, "Up or Down? Adaptive Rounding
//! for Post-Training Quantization").

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::export::{self, Folded};
use crate::network::{Network, Node, Op};

/// Longer rows are rounded to nearest, because their covariance would take too long.
const LONGEST: usize = 1024;
/// The maximum number of windows taken from a map.
const WINDOWS: usize = 96;
/// In rows up to this length, pairs of weights are also changed together.
const SHORT: usize = 64;
/// The maximum number of passes over all weights of a row. A few are enough.
const SWEEPS: usize = 32;
/// Added to the variances, as a share of their mean, because activations are rounded too and there are few photographs.
const DAMPING: f64 = 0.01;

/// Statistics of the windows that a convolution reads: for each group of its channels, the means and the covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    kernel: usize,
    stride: usize,
    groups: usize,
    /// Number of values in a window of one group.
    length: usize,
    count: usize,
    /// For each group, the sums of the values.
    sums: Vec<f64>,
    /// For each group, the sums of products, row-major; empty if windows are too long.
    products: Vec<f64>,
}

impl Windows {
    /// Empty statistics for the convolution `node`; `None` if it is not a convolution.
    pub fn new(node: &Node) -> Option<Windows> {
        let &Op::Conv { input, kernel, stride, groups, .. } = &node.op else { return None };
        let length = input / groups * kernel * kernel;
        let square = if length <= LONGEST { length * length } else { 0 };
        let (sums, products) = (vec![0.0; groups * length], vec![0.0; groups * square]);
        Some(Windows { kernel, stride, groups, length, count: 0, sums, products })
    }

    /// Statistics without data: weights are rounded to nearest.
    pub(crate) fn unseen(groups: usize, length: usize) -> Windows {
        let sums = vec![0.0; groups * length];
        Windows { kernel: 1, stride: 1, groups, length, count: 0, sums, products: vec![] }
    }

    /// Adds evenly spaced windows of `map`, `[C, height, width]`.
    pub fn add(&mut self, map: &[f32], height: usize, width: usize) {
        let (rows, columns) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        let every = (rows * columns).div_ceil(WINDOWS).max(1);
        let plane = height * width;
        let channels = map.len() / plane.max(1) / self.groups;
        let mut window = vec![0f64; self.length];
        // Starts at another window in each map.
        for place in (self.count % every..rows * columns).step_by(every) {
            let (y, x) = (place / columns * self.stride, place % columns * self.stride);
            for group in 0..self.groups {
                let mut numbers = window.iter_mut();
                for channel in 0..channels {
                    let map = &map[(group * channels + channel) * plane..][..plane];
                    for (down, right) in (0..self.kernel * self.kernel).map(|i| (i / self.kernel, i % self.kernel))
                    {
                        // Padding is zero. If the index is negative, `wrapping_sub` gives a value above any height.
                        let (y, x) =
                            ((y + down).wrapping_sub(self.kernel / 2), (x + right).wrapping_sub(self.kernel / 2));
                        let value = if y < height && x < width { map[y * width + x] } else { 0.0 };
                        if let Some(number) = numbers.next() {
                            *number = f64::from(value);
                        }
                    }
                }
                self.count_window(group, &window);
            }
            self.count += 1;
        }
    }

    fn count_window(&mut self, group: usize, window: &[f64]) {
        let sums = &mut self.sums[group * self.length..][..self.length];
        sums.iter_mut().zip(window).for_each(|(sum, value)| *sum += value);
        if self.products.is_empty() {
            return;
        }
        let square = self.length * self.length;
        let products = &mut self.products[group * square..][..square];
        for (row, a) in products.chunks_mut(self.length).zip(window).filter(|(_, a)| **a != 0.0) {
            row.iter_mut().zip(window).for_each(|(product, b)| *product += a * b);
        }
    }

    /// The means of a group's values.
    fn means(&self, group: usize) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        self.sums[group * self.length..][..self.length].iter().map(|sum| sum / count).collect()
    }

    /// The damped covariance of a group's values; `None` if windows are too long.
    fn covariance(&self, group: usize) -> Option<Vec<f64>> {
        if self.products.is_empty() {
            return None;
        }
        let (n, count, means) = (self.length, self.count.max(1) as f64, self.means(group));
        let products = &self.products[group * n * n..][..n * n];
        let mut covariance: Vec<f64> =
            products.iter().enumerate().map(|(i, sum)| sum / count - means[i / n] * means[i % n]).collect();
        let variance = (0..n).map(|i| covariance[i * n + i]).sum::<f64>() / n as f64;
        // Never 0, so that the weight of a constant value is rounded to nearest.
        (0..n).for_each(|i| covariance[i * n + i] += DAMPING * variance + 1e-12);
        Some(covariance)
    }
}

/// A convolution's weights as int8, `weight = byte * scale`, with one scale per output channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounded {
    /// OIHW.
    pub bytes: Vec<i8>,
    /// One per output channel.
    pub scales: Vec<f32>,
    /// One per output channel: the bias, corrected for the change of the channel's mean by rounding.
    pub bias: Vec<f32>,
}

impl Rounded {
    /// The same with scales that are large enough for the biases to fit 30 bits, in units of `step` times a channel's
    /// scale.
    pub(super) fn fitting(mut self, step: f32) -> Rounded {
        let row = self.bytes.len() / self.scales.len().max(1);
        let channels = self.bytes.chunks_mut(row.max(1)).zip(&mut self.scales).zip(&self.bias);
        for ((bytes, scale), bias) in channels {
            let least = bias.abs() / step / (1u32 << 30) as f32;
            if *scale < least {
                bytes.iter_mut().for_each(|byte| *byte = (f32::from(*byte) * (*scale / least)).round() as i8);
                *scale = least;
            }
        }
        self
    }
}

/// Rounds the weights of every convolution of `network` to `bits` bits, using statistics of their inputs (`windows`, by
/// node).
///
/// # Errors
///
/// Weights of another network.
pub fn round(
    network: &Network,
    weights: &Weights,
    windows: &[Option<Windows>],
    bits: u32,
) -> Result<Vec<Option<Rounded>>> {
    let graph = network.graph()?;
    let wrap = |problem| Error::Network { network: network.name.clone(), problem };
    let round = |(node, windows): (&Node, &Option<Windows>)| {
        let Some(windows) = windows else { return Ok(None) };
        let folded = export::fold(node, weights).map_err(wrap)?;
        Ok(Some(round_convolution(&folded, windows, bits)))
    };
    graph.nodes.iter().zip(windows).map(round).collect()
}

pub(super) fn round_convolution(folded: &Folded, windows: &Windows, bits: u32) -> Rounded {
    let channels = folded.bias.len();
    let mut rounded = Rounded { bytes: Vec::new(), scales: Vec::new(), bias: Vec::new() };
    let mut covariance = windows.covariance(0);
    for (channel, row) in folded.weight.chunks(windows.length).enumerate() {
        let group = channel * windows.groups / channels;
        if group > 0 && group * channels == channel * windows.groups {
            covariance = windows.covariance(group);
        }
        let (bytes, scale) = round_row(row, covariance.as_deref(), bits);
        let lost = row.iter().zip(&bytes).map(|(weight, byte)| f64::from(weight - f32::from(*byte) * scale));
        let lost: f64 = lost.zip(windows.means(group)).map(|(lost, mean)| lost * mean).sum();
        rounded.bias.push(folded.bias[channel] + lost as f32);
        rounded.bytes.extend(bytes);
        rounded.scales.push(scale);
    }
    rounded
}

/// The integers and the scale of one output channel's weights: symmetric, with `bits` bits. Without a `covariance`,
/// each weight is rounded to nearest.
fn round_row(weights: &[f32], covariance: Option<&[f64]>, bits: u32) -> (Vec<i8>, f32) {
    let limit = f64::from((1i32 << (bits.clamp(2, 8) - 1)) - 1);
    let largest = f64::from(weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs())));
    // Scales down to 0.6 of the full range: they clip a few weights, but have finer steps for all others.
    let scales = (0..=20).map(|step| (largest / limit * (1.0 - 0.02 * f64::from(step))).max(1e-9));
    let exact = |scale: f64| weights.iter().map(|weight| f64::from(*weight) / scale).collect::<Vec<f64>>();
    let nearest = |exact: &[f64]| -> Vec<f64> {
        exact.iter().map(|weight| weight.round_ties_even().clamp(-limit, limit)).collect()
    };
    let n = weights.len();
    let best_for_nearest = |importance: &dyn Fn(usize) -> f64| -> f64 {
        let cost = |scale: f64| -> f64 {
            let exact = exact(scale);
            let squares = exact.iter().zip(nearest(&exact)).map(|(exact, byte)| (exact - byte).powi(2));
            squares.enumerate().map(|(i, square)| square * importance(i)).sum::<f64>() * scale * scale
        };
        let costs = scales.clone().map(|scale| (cost(scale), scale));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, scale)| scale)
    };
    let plain = |_| 1.0;
    let tried: Vec<f64> = match covariance {
        None => vec![best_for_nearest(&plain)],
        Some(_) if n <= SHORT => scales.clone().collect(),
        // For long rows, rounding to nearest selects the promising scales, because trying all takes too long. The
        // unclipped scale is always included, so that the result is never worse than rounding to nearest.
        Some(of) => {
            let mut tried = vec![best_for_nearest(&|i| of[i * n + i]), best_for_nearest(&plain)];
            tried.dedup();
            tried
        }
    };
    let descended = |scale: f64| -> (f64, Vec<f64>, f64) {
        let exact = exact(scale);
        let mut bytes = nearest(&exact);
        let cost = covariance.map_or(0.0, |covariance| descend(&exact, &mut bytes, covariance, limit));
        (cost * scale * scale, bytes, scale)
    };
    let best = tried.into_iter().map(descended).min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, bytes, scale) = best.unwrap_or_else(|| (0.0, vec![0.0; n], 1.0));
    (bytes.into_iter().map(|byte| byte as i8).collect(), scale as f32)
}

/// Changes `bytes`, one or two at a time, as long as eᵀ C e decreases, with e = `bytes - exact`. Returns the final
/// value.
fn descend(exact: &[f64], bytes: &mut [f64], covariance: &[f64], limit: f64) -> f64 {
    let n = exact.len();
    let column = |i: usize| &covariance[i * n..][..n];
    // C e.
    let mut slope: Vec<f64> = vec![0.0; n];
    let change = |slope: &mut [f64], i: usize, by: f64| {
        slope.iter_mut().zip(column(i)).for_each(|(slope, covariance)| *slope += by * covariance);
    };
    for i in 0..n {
        change(&mut slope, i, bytes[i] - exact[i]);
    }
    let diagonal: Vec<f64> = (0..n).map(|i| column(i)[i]).collect();
    // The minimum decrease of a step, so that the loop ends.
    let least = 1e-9 * diagonal.iter().sum::<f64>() / n as f64;
    for _ in 0..SWEEPS {
        let mut changed = false;
        for i in 0..n {
            let by = (bytes[i] - slope[i] / diagonal[i]).round().clamp(-limit, limit) - bytes[i];
            if by * (2.0 * slope[i] + by * diagonal[i]) < -least {
                bytes[i] += by;
                change(&mut slope, i, by);
                changed = true;
            }
        }
        for i in 0..if n <= SHORT { n } else { 0 } {
            let mut best = (-least, 0, 0.0, 0.0);
            for a in [1.0, -1.0] {
                if (bytes[i] + a).abs() > limit {
                    continue;
                }
                let (own, row) = (a * (2.0 * slope[i] + a * diagonal[i]), column(i));
                for j in 0..i {
                    // After a change of i, only the direction of j that lowers the error is tried: the other would be
                    // worse than i alone.
                    let pull = slope[j] + a * row[j];
                    let cost = own + diagonal[j] - 2.0 * pull.abs();
                    let b = -pull.signum();
                    if cost < best.0 && (bytes[j] + b).abs() <= limit {
                        best = (cost, j, a, b);
                    }
                }
            }
            let (cost, j, a, b) = best;
            if cost < -least {
                bytes[i] += a;
                bytes[j] += b;
                change(&mut slope, i, a);
                change(&mut slope, j, b);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    slope.iter().zip(bytes.iter().zip(exact)).map(|(slope, (byte, exact))| slope * (byte - exact)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::Activation;

    fn convolution(input: usize, channels: usize, kernel: usize, stride: usize, groups: usize) -> Node {
        let op = Op::Conv { input, kernel, stride, groups, norm: false, activation: Activation::None };
        Node { name: "conv".into(), layer: None, inputs: vec![0], op, channels, stride }
    }

    fn cost(weights: &[f32], (bytes, scale): &(Vec<i8>, f32), covariance: &[f64]) -> f64 {
        let off = |i: usize| f64::from(f32::from(bytes[i]) * scale - weights[i]);
        let n = weights.len();
        (0..n * n).map(|i| off(i / n) * off(i % n) * covariance[i]).sum()
    }

    /// `count` windows of `n` values that are nearly equal.
    fn alike(n: usize, count: usize, seed: u64) -> Vec<f64> {
        let mut windows = Windows::new(&convolution(n, 1, 1, 1, 1)).unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..count {
            let level = random.f64() * 6.0;
            let window: Vec<f64> = (0..n).map(|_| level + random.f64() * 0.5).collect();
            windows.count_window(0, &window);
            windows.count += 1;
        }
        windows.covariance(0).unwrap()
    }

    proptest! {
        #[test]
        fn it_costs_no_more_than_the_nearest_bytes(
            weights in prop::collection::vec(-3f32..3.0, 1..80), bits in 3u32..=8, seed in 0u64..1000,
        ) {
            let covariance = alike(weights.len(), 100, seed);
            let rounded = round_row(&weights, Some(&covariance), bits);
            let nearest = round_row(&weights, None, bits);
            let most = (1i32 << (bits - 1)) - 1;
            prop_assert!(rounded.0.iter().all(|byte| i32::from(*byte).abs() <= most));
            let (ours, theirs) = (cost(&weights, &rounded, &covariance), cost(&weights, &nearest, &covariance));
            prop_assert!(ours <= theirs * 1.0001 + 1e-9, "{ours} {theirs}");
        }

        #[test]
        fn without_windows_weights_come_back_within_half_a_step_or_are_cut(
            weights in prop::collection::vec(-3f32..3.0, 1..60), bits in 2u32..=8,
        ) {
            let (bytes, scale) = round_row(&weights, None, bits);
            for (weight, byte) in weights.iter().zip(bytes) {
                let off = (weight - f32::from(byte) * scale).abs();
                let cut = u32::from(byte.unsigned_abs()) == (1 << (bits - 1)) - 1;
                prop_assert!(off <= scale * 0.501 || cut, "{weight} {byte} {scale}");
            }
        }
    }

    #[test]
    fn long_rows_cost_no_more_either_where_variances_prefer_another_scale() {
        // Seeds of rows, one in 500, for which the scale by variances alone gave worse results than rounding to
        // nearest.
        for seed in [8, 207, 528, 2906, 3392, 4747] {
            let mut random = fastrand::Rng::with_seed(seed);
            let weights: Vec<f32> = (0..SHORT + 11).map(|_| random.f32() * 6.0 - 3.0).collect();
            let covariance = alike(weights.len(), 100, seed);
            let [ours, theirs] = [Some(covariance.as_slice()), None]
                .map(|windows| cost(&weights, &round_row(&weights, windows, 3), &covariance));
            assert!(ours <= theirs * 1.0001, "{seed}: {ours} {theirs}");
        }
    }

    #[test]
    fn where_windows_are_alike_errors_cancel() {
        // Sixteen weights a quarter of a step above an integer: rounded to nearest, their sum is four steps too small.
        let mut weights = vec![10.25f32; 16];
        weights[0] = 127.0;
        let covariance = alike(16, 500, 1);
        let (rounded, nearest) = (round_row(&weights, Some(&covariance), 8), round_row(&weights, None, 8));
        let short = |(bytes, scale): &(Vec<i8>, f32)| -> f32 {
            weights.iter().zip(bytes).map(|(weight, byte)| weight - f32::from(*byte) * scale).sum()
        };
        assert!(
            short(&nearest).abs() > 3.0 && short(&rounded).abs() < 0.6,
            "{} {}",
            short(&nearest),
            short(&rounded)
        );
        assert!(cost(&weights, &rounded, &covariance) < cost(&weights, &nearest, &covariance) / 20.0);
    }

    #[test]
    fn the_best_of_all_is_found_where_it_can_be_looked_up() {
        let mut random = fastrand::Rng::with_seed(9);
        for seed in 0..50 {
            let exact: Vec<f64> = (0..6).map(|_| random.f64() * 20.0 - 10.0).collect();
            let covariance = alike(6, 60, seed);
            let of = |bytes: &[f64]| -> f64 {
                let off = |i: usize| bytes[i] - exact[i];
                (0..36).map(|i| off(i / 6) * off(i % 6) * covariance[i]).sum()
            };
            // Each one or two steps below or above.
            let all = (0..4usize.pow(6)).map(|mut choice| -> f64 {
                let bytes = exact.iter().map(|exact| {
                    let byte = exact.floor() - 1.0 + (choice % 4) as f64;
                    choice /= 4;
                    byte
                });
                of(&bytes.collect::<Vec<f64>>())
            });
            let best = all.fold(f64::INFINITY, f64::min);
            let mut bytes: Vec<f64> = exact.iter().map(|exact| exact.round_ties_even()).collect();
            let nearest = of(&bytes);
            let found = descend(&exact, &mut bytes, &covariance, 127.0);
            assert!((found - of(&bytes)).abs() < 1e-6);
            // Changing one or two at a time may end slightly above the optimum.
            assert!(
                found >= best - 1e-9 && found <= (best * 2.0).min(nearest) + 1e-9,
                "{found}, best {best}, {nearest}"
            );
        }
    }

    #[test]
    fn windows_are_what_the_convolution_reads() {
        // Two channels of 3x3, padded, every second pixel: four windows.
        let map: Vec<f32> = (1..=18).map(|i| i as f32).collect();
        let mut dense = Windows::new(&convolution(2, 4, 3, 2, 1)).unwrap();
        dense.add(&map, 3, 3);
        assert_eq!((dense.count, dense.length), (4, 18));
        // The centre of the first channel's windows: its four corners; right below it: what the padding leaves of
        // the middle.
        let means = dense.means(0);
        assert_eq!((means[4], means[8], means[13]), ((1.0 + 3.0 + 7.0 + 9.0) / 4.0, 5.0 / 4.0, 56.0 / 4.0));
        let covariance = dense.covariance(0).unwrap();
        let expected = (1.0 * 10.0 + 3.0 * 12.0 + 7.0 * 16.0 + 9.0 * 18.0) / 4.0 - 5.0 * 14.0;
        assert!((covariance[4 * 18 + 13] - expected).abs() < 1e-9);

        let mut depthwise = Windows::new(&convolution(2, 2, 3, 2, 2)).unwrap();
        depthwise.add(&map, 3, 3);
        assert_eq!((depthwise.means(0), depthwise.means(1)), (means[..9].to_vec(), means[9..].to_vec()));
        assert!((depthwise.covariance(1).unwrap()[8] - covariance[9 * 18 + 9 + 8]).abs() < 1e-9);
    }

    #[test]
    fn a_map_that_never_changes_loses_nothing() {
        let node = convolution(3, 2, 1, 1, 1);
        let mut windows = Windows::new(&node).unwrap();
        windows.add(&[2.0, 2.0, 5.0, 5.0, 0.5, 0.5], 1, 2);
        let folded =
            Folded { weight: vec![0.3, -0.7, 1.1, 0.0, 0.0, 0.0], shape: [2, 3, 1, 1], bias: vec![0.25, 5.0] };
        let rounded = round_convolution(&folded, &windows, 3);
        for (channel, row) in folded.weight.chunks(3).enumerate() {
            let sum = |weight: &dyn Fn(usize) -> f32| weight(0) * 2.0 + weight(1) * 5.0 + weight(2) * 0.5;
            let exact = folded.bias[channel] + sum(&|i| row[i]);
            let bytes = &rounded.bytes[channel * 3..];
            let ours = rounded.bias[channel] + sum(&|i| f32::from(bytes[i]) * rounded.scales[channel]);
            assert!((exact - ours).abs() < 1e-5, "{exact} {ours}");
        }
        // A bias far above weights that are all zero: their scale grows until the bias fits.
        let rounded = rounded.fitting(1e-6);
        assert!(rounded.scales[1] > 0.0 && rounded.bytes[3..] == [0, 0, 0]);
        assert!(rounded.bias.iter().zip(&rounded.scales).all(|(bias, scale)| bias / (scale * 1e-6) < 1.1e9));
    }
}
