//! Second moments, and the least-squares fits and matrix roots based on them.

use nalgebra::{Cholesky, DMatrix, SymmetricEigen};

use crate::error::{Error, Result};

/// The ridge: this share of the mean variance is added to each patch's, and of its own variance to each feature's.
pub(super) const RIDGE: f64 = 1e-4;

/// Mean products of features with features and with outputs.
pub(super) struct CrossMoments {
    /// `[feature, feature]`.
    products: DMatrix<f64>,
    /// `[feature, output]`.
    both: DMatrix<f64>,
    /// Mean squares of the outputs.
    squares: Vec<f64>,
}

impl CrossMoments {
    /// Computes the moments of `[feature, patches]` and `[output, patches]`. A constant feature is appended.
    pub(super) fn new(features: &DMatrix<f32>, outputs: &DMatrix<f32>) -> CrossMoments {
        let count = features.ncols().max(1) as f64;
        let squares = outputs.row_iter().map(|row| f64::from(row.into_owned().norm_squared()) / count).collect();
        CrossMoments {
            products: (features * features.transpose()).cast::<f64>() / count,
            both: (features * outputs.transpose()).cast::<f64>() / count,
            squares,
        }
    }

    /// The moments of these features alone.
    pub(super) fn select(&self, features: &[usize]) -> CrossMoments {
        CrossMoments {
            products: self.products.select_rows(features).select_columns(features),
            both: self.both.select_rows(features),
            squares: self.squares.clone(),
        }
    }

    /// The matrix `[output, feature]` that predicts the outputs with the least squared error.
    pub(super) fn fit(&self) -> Result<DMatrix<f64>> {
        Ok(solve(self.products.clone(), &self.both)?.transpose())
    }

    /// Means of the outputs.
    pub(super) fn means(&self) -> Vec<f64> {
        self.both.row_iter().last().map(|row| row.iter().copied().collect()).unwrap_or_default()
    }

    /// The mean squared errors of a fit, and the mean squared distances from `means`. Both are summed over the outputs,
    /// weighted by their sensitivity.
    pub(super) fn errors(&self, fit: &DMatrix<f64>, means: &[f64], sensitivity: &[f64]) -> (f64, f64) {
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

/// The solution of `products · x = both` with a ridge.
pub(super) fn solve(mut products: DMatrix<f64>, both: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    for i in 0..products.nrows() {
        products[(i, i)] += products[(i, i)] * RIDGE + f64::MIN_POSITIVE.sqrt();
    }
    Ok(cholesky(products)?.solve(both))
}

/// Eigenvalues and eigenvectors of a symmetric matrix, sorted from the largest eigenvalue.
pub(super) fn eigenvectors(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let eigen = SymmetricEigen::new(matrix);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    (order.iter().map(|&index| eigen.eigenvalues[index]).collect(), eigen.eigenvectors.select_columns(&order))
}

pub(super) fn cholesky(matrix: DMatrix<f64>) -> Result<Cholesky<f64, nalgebra::Dyn>> {
    Cholesky::new(matrix).ok_or_else(singular)
}

/// The error for a fit without a solution. Few photographs have fewer different patches than a kernel has values.
pub(super) fn singular() -> Error {
    let problem =
        "the fit has no solution: take more --images; if that does not help, the network's maps are not finite";
    Error::Training(problem.into())
}
