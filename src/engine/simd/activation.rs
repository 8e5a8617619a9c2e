//! Activation functions, for vectors and for single numbers.

use super::operations::{MAX_LANES, Simd};
use super::quantize::ROUNDER;

/// The function that is applied to a sum before it is stored. A NaN stays NaN, so that a broken network is noticed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `clamp(x, low, high)`: ReLU, ReLU6, any Clip, or no activation if the bounds are infinite.
    Clamp { low: f32, high: f32 },
    /// `clamp(scale * x + offset, low, high)`: hard sigmoid.
    Affine { scale: f32, offset: f32, low: f32, high: f32 },
    /// `x * clamp(scale * x + offset, low, high)`: hard swish.
    Gated { scale: f32, offset: f32, low: f32, high: f32 },
    /// `x` above zero, `slope * x` below.
    Leaky { slope: f32 },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `exp(clamp(x, low, high))`: the sides of a box.
    Exp { low: f32, high: f32 },
}

impl Activation {
    /// Leaves its input as it is.
    pub(crate) const NONE: Activation = Activation::Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// Applies the activation to one number. Used by kernels that do not need vectors, and by the reference code of
    /// tests.
    pub(crate) fn apply_scalar(self, x: f32) -> f32 {
        let clamp = |x: f32, low: f32, high: f32| {
            let x = if low > x { low } else { x };
            if high < x { high } else { x }
        };
        match self {
            Activation::Clamp { low, high } => clamp(x, low, high),
            Activation::Affine { scale, offset, low, high } => clamp(x * scale + offset, low, high),
            Activation::Gated { scale, offset, low, high } => x * clamp(x * scale + offset, low, high),
            Activation::Leaky { slope } => {
                if x > 0.0 {
                    x
                } else {
                    x * slope
                }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Exp { low, high } => clamp(x, low, high).exp(),
        }
    }

    /// Applies the activation to `N` vectors.
    #[inline(always)]
    pub(crate) fn apply<S: Simd, const N: usize>(self, isa: S, v: [S::F; N]) -> [S::F; N] {
        match self {
            Activation::Clamp { low, high } => {
                let (low, high) = (isa.splat(low), isa.splat(high));
                v.map(
                    #[inline(always)]
                    |x| isa.min(high, isa.max(low, x)),
                )
            }
            Activation::Affine { scale, offset, low, high } => v.map(
                #[inline(always)]
                |x| affine(isa, x, scale, offset, low, high),
            ),
            Activation::Gated { scale, offset, low, high } => v.map(
                #[inline(always)]
                |x| isa.mul(x, affine(isa, x, scale, offset, low, high)),
            ),
            Activation::Leaky { slope } => {
                let (zero, slope) = (isa.splat(0.0), isa.splat(slope));
                v.map(
                    #[inline(always)]
                    |x| isa.mul_add(isa.min(zero, x), slope, isa.max(zero, x)),
                )
            }
            Activation::Sigmoid => v.map(
                #[inline(always)]
                |x| sigmoid(isa, x),
            ),
            Activation::Silu => v.map(
                #[inline(always)]
                |x| isa.mul(x, sigmoid(isa, x)),
            ),
            Activation::Exp { low, high } => v.map(
                #[inline(always)]
                |x| {
                    let x = isa.min(isa.splat(high), isa.max(isa.splat(low), x));
                    // Above 88, `exp` would no longer change, so the excess is added to make the result infinite.
                    let beyond = isa.max(isa.sub(x, isa.splat(88.0)), isa.splat(0.0));
                    isa.mul_add(beyond, isa.splat(f32::MAX), exp(isa, x))
                },
            ),
        }
    }
}

/// Applies an activation in place.
#[inline(always)]
pub(super) fn activate<S: Simd>(isa: S, activation: Activation, values: &mut [f32]) {
    let mut chunks = values.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        let [y] = activation.apply(isa, [isa.load_slice(chunk)]);
        isa.store_slice(chunk, y);
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        // Through a whole vector, so that a value's result does not depend on its position in a row.
        let mut whole = [0.0f32; MAX_LANES];
        whole[..tail.len()].copy_from_slice(tail);
        let [y] = activation.apply(isa, [isa.load_slice(&whole)]);
        isa.store_slice(&mut whole, y);
        tail.copy_from_slice(&whole[..tail.len()]);
    }
}

#[inline(always)]
fn affine<S: Simd>(isa: S, x: S::F, scale: f32, offset: f32, low: f32, high: f32) -> S::F {
    let y = isa.mul_add(x, isa.splat(scale), isa.splat(offset));
    isa.min(isa.splat(high), isa.max(isa.splat(low), y))
}

/// `1 / (1 + exp(-x))` within 2e-7.
#[inline(always)]
fn sigmoid<S: Simd>(isa: S, x: S::F) -> S::F {
    let one = isa.splat(1.0);
    isa.div(one, isa.add(one, exp(isa, isa.sub(isa.splat(0.0), x))))
}

/// `exp(x)` with a relative error of at most 3e-7 for `x` in -87 to 88. Beyond these bounds, the result is that at the
/// bound.
///
/// `exp(x) = 2^n * exp(r)` with `n` the nearest integer to `x / ln 2`: adding `1.5 * 2^23` leaves it in the low bits
/// of the sum, so shifting them up 23 places gives `2^n` without a conversion. `exp(r)` for `|r| <= ln 2 / 2` is its
/// Taylor polynomial of degree 6, whose next term is below 1.2e-7.
#[inline(always)]
fn exp<S: Simd>(isa: S, x: S::F) -> S::F {
    // Within these bounds 2^n is a normal number.
    let x = isa.min(isa.splat(88.0), isa.max(isa.splat(-87.0), x));
    let magic = isa.splat(ROUNDER);
    let shifted = isa.mul_add(x, isa.splat(std::f32::consts::LOG2_E), magic);
    let n = isa.sub(shifted, magic);
    // ln 2 in two parts, the first one short enough for its product with n to be exact.
    let r = isa.mul_add(n, isa.splat(-0.693_359_4), x);
    let r = isa.mul_add(n, isa.splat(2.121_944_4e-4), r);
    let mut p = isa.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = isa.mul_add(p, r, isa.splat(c));
    }
    isa.reinterpret_f32(isa.add_i32(isa.reinterpret_i32(p), isa.shl23(isa.reinterpret_i32(shifted))))
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Task};
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Apply<'a>(Activation, &'a mut [f32]);
    impl Task for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            activate(isa, self.0, self.1);
        }
    }

    #[test]
    fn a_nan_stays_nan() {
        let bounded = [Activation::NONE, Activation::Clamp { low: 0.0, high: 6.0 }, Activation::Sigmoid];
        let line = Activation::Affine { scale: 0.2, offset: 0.5, low: 0.0, high: 1.0 };
        let gated = Activation::Gated { scale: 0.2, offset: 0.5, low: 0.0, high: 1.0 };
        let exp = Activation::Exp { low: -50.0, high: 5.0 };
        let others = [line, gated, exp, Activation::Leaky { slope: 0.1 }, Activation::Silu];
        // With relaxed SIMD the compiler also makes relaxed minima of the scalar loops, and loses the NaN. No network runs
        // on them there.
        let is_relaxed = cfg!(all(target_arch = "wasm32", feature = "relaxed-simd"));
        for isa in Isa::supported().into_iter().filter(|isa| !is_relaxed || !matches!(isa, Isa::Scalar(_))) {
            for case in bounded.into_iter().chain(others) {
                let mut ys = [f32::NAN; 17];
                isa.run(Apply(case, &mut ys));
                assert!(ys.iter().all(|y| y.is_nan()), "{} {case:?}: {ys:?}", isa.name());
                assert!(case.apply_scalar(f32::NAN).is_nan(), "{case:?}");
            }
        }
    }

    #[test]
    fn activations_agree_with_the_scalar_form_on_every_isa() {
        let cases = [
            Activation::NONE,
            Activation::Clamp { low: 0.0, high: 6.0 },
            Activation::Affine { scale: 1.0 / 6.0, offset: 0.5, low: 0.0, high: 1.0 },
            Activation::Gated { scale: 1.0 / 6.0, offset: 0.5, low: 0.0, high: 1.0 },
            Activation::Leaky { slope: 0.1 },
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Exp { low: -50.0, high: 5.0 },
            Activation::Exp { low: f32::NEG_INFINITY, high: f32::INFINITY },
        ];
        let xs: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.025).chain([0.0; 16]).collect();
        for isa in Isa::supported() {
            for case in cases {
                let mut ys = xs.clone();
                isa.run(Apply(case, &mut ys));
                for (x, y) in xs.iter().zip(&ys).take(8000) {
                    let expected = case.apply_scalar(*x);
                    if (88.0..89.0).contains(x) && expected > 1e38 {
                        continue; // The exponential is only known to be large.
                    }
                    let close =
                        *y == expected || (y - expected).abs() <= 3e-7 * expected.abs().max(1.0) * x.abs().max(1.0);
                    assert!(close, "{} {case:?} of {x}: {y}, expected {expected}", isa.name());
                    if case == Activation::Sigmoid {
                        assert!((0.0..=1.0).contains(y), "sigmoid of {x} is {y}");
                    }
                }
            }
        }
    }
}
