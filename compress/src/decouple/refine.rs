//! Fits the projection and the depthwise kernels of a separable convolution together.
//!
//! The kernels of [`super::original`] are optimal for each component alone. If all are fitted together, the error on
//! the photographs is smaller. It depends only on second moments of patches and outputs, so the patches are not read
//! again. For any projection and kernels, least squares gives the best 1×1 convolution and the gradient of the error.
//! Adam (Kingma and Ba 2015) follows this gradient, with one scale for each component and kernel, because their lengths
//! do not matter.

use nalgebra::{DMatrix, DVector};

use super::moments::{RIDGE, eigenvectors, solve};
use crate::error::Result;

/// Number of gradient steps.
const STEPS: usize = 30;

/// The length of the first steps, as a share of the length of a component or kernel. It decreases to a twentieth.
const RATE: f32 = 0.08;

/// The weights of the last gradient and of its square in the running means.
const MOMENTUM: [f32; 2] = [0.2, 0.1];

/// Second moments, all centred. Outputs are multiplied by the square root of their sensitivity.
pub(super) struct Problem {
    /// Of the patches, `[input · k², input · k²]`.
    patches: DMatrix<f32>,
    /// Of patches and outputs, `[input · k², output]`.
    both: DMatrix<f32>,
    /// Variance of all outputs.
    variance: f64,
    taps: usize,
}

/// The factors of the features that the 1×1 convolution reads.
#[derive(Clone)]
pub(super) struct Factors {
    /// One component of the map per column, `[input, component]`.
    pub components: DMatrix<f32>,
    /// One kernel per column, `[k², feature]`.
    pub kernels: DMatrix<f32>,
    /// The component that each kernel reads.
    pub reads: Vec<usize>,
}

impl Problem {
    /// Computes the moments of patches `[input · k², patches]` and outputs `[output, patches]`.
    pub fn new(patches: &DMatrix<f32>, outputs: &DMatrix<f32>, sensitivity: &[f64], taps: usize) -> Problem {
        let count = patches.ncols().max(1) as f32;
        let (mean, mut of_outputs) = (patches.column_mean(), outputs.column_mean());
        let mut weighed = outputs.clone();
        for (output, value) in sensitivity.iter().enumerate() {
            let root = value.sqrt() as f32;
            of_outputs[output] *= root;
            weighed.row_mut(output).iter_mut().for_each(|value| *value *= root);
        }
        let variance = f64::from(weighed.norm_squared() / count) - f64::from(of_outputs.norm_squared());
        let both = patches * weighed.transpose() / count - &mean * of_outputs.transpose();
        let mut patches = patches * patches.transpose() / count - &mean * mean.transpose();
        let ridge = RIDGE as f32 * patches.trace() / patches.nrows() as f32 + f32::MIN_POSITIVE;
        (0..patches.nrows()).for_each(|row| patches[(row, row)] += ridge);
        Problem { patches, both, variance, taps }
    }

    /// The factors with the smallest error on the path from `start`. Without a projection the components do not change.
    ///
    /// # Errors
    ///
    /// If the moments are not finite.
    pub fn refine(&self, start: &Factors, is_projected: bool) -> Result<Factors> {
        let (of_map, of_window) = (self.map_roots(), self.window_roots());
        let mut components = Directions::new(&of_map[0] * &start.components);
        let mut kernels = Directions::new(&of_window[0] * &start.kernels);
        let mut best = (f64::INFINITY, start.clone());
        for step in 0..=STEPS {
            let now = Factors {
                components: if is_projected { &of_map[1] * &components.columns } else { start.components.clone() },
                kernels: &of_window[1] * &kernels.columns,
                reads: start.reads.clone(),
            };
            let (error, slopes) = self.error(&now)?;
            if step == STEPS {
                if error < best.0 {
                    best = (error, now);
                }
                break;
            }
            let [of_components, of_kernels] = self.gradients(&now, &slopes);
            if error < best.0 {
                best = (error, now);
            }
            let progress = step as f32 / STEPS as f32;
            let rate = RATE * (0.05 + 0.95 * 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()));
            if is_projected {
                components.step(&of_map[1] * of_components, rate, step);
            }
            kernels.step(&of_window[1] * of_kernels, rate, step);
        }
        Ok(self.to_unit(best.1))
    }

    /// The share of the outputs' variance that remains with the best 1×1 convolution, and its gradient with respect to
    /// the weights of the features, `[input · k², feature]`.
    fn error(&self, factors: &Factors) -> Result<(f64, DMatrix<f32>)> {
        let features = factors.features();
        let given = &self.patches * &features;
        // `tr_mul` is many times slower than a product with the transposed matrix.
        let turned = features.transpose();
        let products = (&turned * &given).cast::<f64>();
        let both = (turned * &self.both).cast::<f64>();
        let pointwise = solve(products, &both)?;
        let error = 1.0 - pointwise.dot(&both) / self.variance.max(f64::MIN_POSITIVE);
        let pointwise = pointwise.cast::<f32>();
        let slopes = (given * &pointwise - &self.both) * pointwise.transpose();
        Ok((error, slopes))
    }

    /// The gradients with respect to components and kernels.
    fn gradients(&self, factors: &Factors, slopes: &DMatrix<f32>) -> [DMatrix<f32>; 2] {
        let Factors { components, kernels, reads } = factors;
        let mut of_components = DMatrix::zeros(components.nrows(), components.ncols());
        let mut of_kernels = DMatrix::zeros(kernels.nrows(), kernels.ncols());
        for (feature, &component) in reads.iter().enumerate() {
            let column = slopes.column(feature);
            let slopes = column.as_slice().chunks_exact(self.taps).enumerate();
            for (channel, slopes) in slopes {
                let weight = components[(channel, component)];
                for (tap, slope) in slopes.iter().enumerate() {
                    of_components[(channel, component)] += slope * kernels[(tap, feature)];
                    of_kernels[(tap, feature)] += slope * weight;
                }
            }
        }
        [of_components, of_kernels]
    }

    /// The square root of the mean products of the map's channels at a cell, and its inverse.
    fn map_roots(&self) -> [DMatrix<f32>; 2] {
        let channels = self.patches.nrows() / self.taps;
        let at = |a: usize, b: usize| {
            let products = (0..self.taps).map(|tap| self.patches[(a * self.taps + tap, b * self.taps + tap)]);
            f64::from(products.sum::<f32>()) / self.taps as f64
        };
        roots_of(DMatrix::from_fn(channels, channels, at), 1e-7)
    }

    /// The same for the cells of a window, averaged over all channels.
    fn window_roots(&self) -> [DMatrix<f32>; 2] {
        let channels = self.patches.nrows() / self.taps;
        let at = |a: usize, b: usize| {
            let products = (0..channels).map(|one| self.patches[(one * self.taps + a, one * self.taps + b)]);
            f64::from(products.sum::<f32>()) / channels as f64
        };
        roots_of(DMatrix::from_fn(self.taps, self.taps, at), 1e-4)
    }

    /// Rescales the kernels so that their features have variance 1.
    fn to_unit(&self, mut factors: Factors) -> Factors {
        let features = factors.features();
        let given = &self.patches * &features;
        for (feature, mut kernel) in factors.kernels.column_iter_mut().enumerate() {
            let variance = features.column(feature).dot(&given.column(feature));
            kernel /= variance.max(f32::MIN_POSITIVE).sqrt();
        }
        factors
    }
}

impl Factors {
    /// The weights of each feature, `[input · k², feature]`.
    fn features(&self) -> DMatrix<f32> {
        let taps = self.kernels.nrows();
        DMatrix::from_fn(self.components.nrows() * taps, self.reads.len(), |row, feature| {
            self.components[(row / taps, self.reads[feature])] * self.kernels[(row % taps, feature)]
        })
    }
}

/// The state of Adam for columns of length 1.
struct Directions {
    columns: DMatrix<f32>,
    gradients: DMatrix<f32>,
    squares: DVector<f32>,
}

impl Directions {
    fn new(columns: DMatrix<f32>) -> Directions {
        let gradients = DMatrix::zeros(columns.nrows(), columns.ncols());
        let squares = DVector::zeros(columns.ncols());
        let mut directions = Directions { columns, gradients, squares };
        directions.normalise();
        directions
    }

    fn normalise(&mut self) {
        for mut column in self.columns.column_iter_mut() {
            let length = column.norm().max(f32::MIN_POSITIVE);
            column /= length;
        }
    }

    /// One step of Adam. The component of a gradient along its column is removed, because the length does not matter.
    fn step(&mut self, gradient: DMatrix<f32>, rate: f32, step: usize) {
        let [of_gradient, of_square] = MOMENTUM;
        let unbiased = [of_gradient, of_square].map(|share| 1.0 - (1.0 - share).powi(step as i32 + 1));
        for (index, column) in self.columns.column_iter().enumerate() {
            let mut across = gradient.column(index).into_owned();
            across -= column * column.dot(&across);
            self.squares[index] += of_square * (across.norm_squared() - self.squares[index]);
            let mut mean = self.gradients.column_mut(index);
            mean += (across - &mean) * of_gradient;
        }
        let lengths = self.squares.map(|square| (square / unbiased[1]).sqrt());
        let floor = 0.1 * lengths.mean() + f32::MIN_POSITIVE;
        for (index, mut column) in self.columns.column_iter_mut().enumerate() {
            column -= self.gradients.column(index) * (rate / unbiased[0] / (lengths[index] + floor));
        }
        self.normalise();
    }
}

/// The square root of a symmetric matrix and its inverse. Eigenvalues below a share of the largest are raised to that
/// share.
fn roots_of(matrix: DMatrix<f64>, least: f64) -> [DMatrix<f32>; 2] {
    let (values, vectors) = eigenvectors(matrix);
    let floor = values.first().copied().unwrap_or_default() * least + f64::MIN_POSITIVE.sqrt();
    [0.5, -0.5].map(|power| {
        let mut scaled = vectors.clone();
        for (mut column, value) in scaled.column_iter_mut().zip(&values) {
            column *= value.max(floor).powf(power);
        }
        (scaled * vectors.transpose()).cast::<f32>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three components with one kernel each are recovered from a perturbed start.
    #[test]
    fn factors_are_found_again() {
        let (channels, taps, outputs, samples) = (6, 9, 7, 900);
        let mut random = fastrand::Rng::with_seed(12);
        let mut matrix = |rows, columns| DMatrix::<f32>::from_fn(rows, columns, |_, _| random.f32() - 0.5);
        // Neighbouring pixels are correlated, and so are channels.
        let patches = {
            let (own, of_channels, of_all) =
                (matrix(channels * taps, samples), matrix(channels, samples), matrix(1, samples));
            DMatrix::from_fn(channels * taps, samples, |row, sample| {
                own[(row, sample)] + 2.0 * of_channels[(row / taps, sample)] + of_all[(0, sample)] + 3.0
            })
        };
        let reads = vec![0, 1, 2, 0];
        let truth = Factors { components: matrix(channels, 3), kernels: matrix(taps, 4), reads: reads.clone() };
        let given = matrix(outputs, 4) * truth.features().transpose() * &patches;
        let sensitivity: Vec<f64> = (0..outputs).map(|output| 1.0 + output as f64).collect();
        let problem = Problem::new(&patches, &given, &sensitivity, taps);
        assert!(problem.error(&truth).unwrap().0 < 1e-3);
        let start = Factors {
            components: truth.components.clone() + matrix(channels, 3) * 0.5,
            kernels: truth.kernels.clone() + matrix(taps, 4) * 0.5,
            reads,
        };
        let [before, kernels_alone, after] = [None, Some(false), Some(true)].map(|is_projected| {
            let factors = is_projected.map_or(start.clone(), |both| problem.refine(&start, both).unwrap());
            assert_eq!(factors.components == start.components, is_projected != Some(true));
            problem.error(&factors).unwrap().0
        });
        assert!(
            before > 0.02 && kernels_alone < 0.9 * before && after < 0.2 * before,
            "{before} {kernels_alone} {after}"
        );
    }

    /// The gradient agrees with finite differences.
    #[test]
    fn gradients_are_slopes() {
        let mut random = fastrand::Rng::with_seed(13);
        let mut matrix = |rows, columns| DMatrix::<f32>::from_fn(rows, columns, |_, _| random.f32() - 0.5);
        let (patches, outputs) = (matrix(3 * 4, 200), matrix(5, 200));
        let problem = Problem::new(&patches, &outputs, &[1.0, 2.0, 0.5, 1.0, 3.0], 4);
        let factors = Factors { components: matrix(3, 2), kernels: matrix(4, 3), reads: vec![0, 1, 1] };
        let slopes = problem.error(&factors).unwrap().1;
        let [of_components, of_kernels] = problem.gradients(&factors, &slopes);
        let moved = |change: &dyn Fn(&mut Factors, f32)| {
            let [up, down] = [1.0, -1.0].map(|sign| {
                let mut factors = factors.clone();
                change(&mut factors, sign * 1e-2);
                problem.error(&factors).unwrap().0
            });
            // The error is a share of the variance, the gradient half of that of the whole.
            (up - down) / 2e-2 * problem.variance / 2.0
        };
        for (row, column) in [(0, 0), (2, 1), (1, 0)] {
            let slope = moved(&|factors, by| factors.components[(row, column)] += by);
            let ours = f64::from(of_components[(row, column)]);
            assert!((slope - ours).abs() < 0.03 * slope.abs() + 1e-4, "{slope} {ours}");
            let slope = moved(&|factors, by| factors.kernels[(row, column)] += by);
            let ours = f64::from(of_kernels[(row, column)]);
            assert!((slope - ours).abs() < 0.03 * slope.abs() + 1e-4, "{slope} {ours}");
        }
    }
}
