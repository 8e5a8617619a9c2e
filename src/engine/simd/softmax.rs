//! Softmax along an axis that is not the last, as in heads with distance distributions.

use super::activation::{Activation, activate};
use super::isa::{Isa, Task};
use super::operations::Simd;

/// Softmax along the middle axis of `[outer, length, inner]`, in place.
///
/// Rows of `inner` values are processed together: a softmax of only 8 or 16 values is too short for vectors.
///
/// # Panics
///
/// If `length` or `inner` is 0.
pub(crate) fn softmax(isa: Isa, values: &mut [f32], length: usize, inner: usize) {
    struct Run<'a>(&'a mut [f32], usize, usize);
    impl Task for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Run(values, length, inner) = self;
            let mut row = vec![0f32; inner];
            for block in values.chunks_exact_mut(length * inner) {
                row.fill(f32::NEG_INFINITY);
                for values in block.chunks_exact(inner) {
                    for (most, value) in row.iter_mut().zip(values) {
                        *most = if *value > *most { *value } else { *most };
                    }
                }
                for values in block.chunks_exact_mut(inner) {
                    for (value, most) in values.iter_mut().zip(&row) {
                        *value -= most;
                    }
                }
                activate(isa, Activation::Exp { low: f32::NEG_INFINITY, high: 0.0 }, block);
                row.fill(0.0);
                for values in block.chunks_exact(inner) {
                    for (sum, value) in row.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
                for sum in &mut row {
                    *sum = 1.0 / *sum;
                }
                for values in block.chunks_exact_mut(inner) {
                    for (value, factor) in values.iter_mut().zip(&row) {
                        *value *= factor;
                    }
                }
            }
        }
    }
    isa.run(Run(values, length, inner));
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn agrees_with_its_definition() {
        let (outer, length, inner) = (3, 5, 13);
        let input: Vec<f32> =
            (0..outer * length * inner).map(|at| (at * 7919 % 401) as f32 / 10.0 - 20.0).collect();
        for isa in Isa::supported() {
            let mut output = input.clone();
            softmax(isa, &mut output, length, inner);
            for block in 0..outer {
                for column in 0..inner {
                    let at = |row: usize| (block * length + row) * inner + column;
                    let exps: Vec<f64> = (0..length).map(|row| f64::from(input[at(row)]).exp()).collect();
                    let sum: f64 = exps.iter().sum();
                    for (row, exp) in exps.iter().enumerate() {
                        let off = (f64::from(output[at(row)]) - exp / sum).abs();
                        assert!(off < 1e-6, "{isa:?}: {} for {}", output[at(row)], exp / sum);
                    }
                }
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        for isa in Isa::supported() {
            let mut values = vec![1e30, 0.0, -1e30, 300.0, 300.0, f32::MIN];
            softmax(isa, &mut values, 3, 2);
            for (value, expected) in values.iter().zip([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]) {
                assert!((value - expected).abs() < 1e-30, "{isa:?}: {values:?}");
            }
        }
    }
}
