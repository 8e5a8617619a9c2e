//! Quantisation of floats and requantisation of 32-bit sums, with the same bytes on every machine.

use super::operations::Simd;

/// `1.5 * 2^23`: added to a float below `2^22` in magnitude, it leaves the nearest integer (ties to even) in the low
/// bits of the sum, on every machine alike.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// The number that a byte represents: `(byte - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub scale: f32,
    pub zero: i32,
}

impl Scale {
    #[inline(always)]
    pub(crate) fn number(self, byte: u8) -> f32 {
        (i32::from(byte) - self.zero) as f32 * self.scale
    }
}

/// The conversion of floats to bytes: `clamp(round(x * inverse_scale), low, high) + zero`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantize {
    /// One over the scale.
    pub inverse_scale: f32,
    /// Lowest and highest result, before the zero point is added.
    pub low: f32,
    pub high: f32,
    /// Zero point.
    pub zero: i32,
}

impl Quantize {
    #[inline(always)]
    pub(crate) fn byte(self, x: f32) -> u8 {
        let y = (x * self.inverse_scale).max(self.low).min(self.high);
        ((y + ROUNDER).to_bits() as i32 - (ROUNDER.to_bits() as i32 - self.zero)) as u8
    }
}

/// The conversion of a 32-bit sum to a byte: `clamp(round(leaky(sum) * multiplier), low, high) + zero`.
///
/// The product is one float multiplication and the rounding is to nearest even, so every instruction set gives the
/// same byte; it is also how onnxruntime does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Requantize {
    /// Lowest result, before the zero point is added.
    pub low: f32,
    /// Highest result, before the zero point is added.
    pub high: f32,
    /// Zero point of the result.
    pub zero: i32,
    /// The factor for negative sums, 0 to 1: leaky ReLU. 1 means none.
    pub slope: f32,
    /// Lowest and highest result, including the zero point.
    range: [u8; 2],
}

impl Requantize {
    /// `low` and `high` are the bounds before the zero point is added.
    pub(crate) fn new(low: f32, high: f32, zero: i32, slope: f32) -> Requantize {
        let byte = |bound: f32| (bound.round_ties_even() as i32).saturating_add(zero).clamp(0, 255) as u8;
        Requantize { low, high, zero, slope, range: [byte(low), byte(high)] }
    }

    /// Whether there is a leaky ReLU.
    pub(crate) fn leaks(self) -> bool {
        self.slope != 1.0
    }

    /// Loads the values into registers, for use in a loop.
    #[inline(always)]
    pub(crate) fn ready<S: Simd>(self, isa: S) -> Requantizer<S> {
        // V8 rebuilds a known constant at every use, in three instructions. A constant that is hidden from the compiler
        // is built once.
        let rounder = std::hint::black_box(ROUNDER);
        Requantizer {
            isa,
            low: isa.splat(self.low),
            high: isa.splat(self.high),
            rounder: isa.splat(rounder),
            shift: isa.splat_i32(self.zero - ROUNDER.to_bits() as i32),
            pack: isa.pack(self.range[0], self.range[1]),
            leaks: self.leaks(),
            slope: isa.splat(self.slope),
        }
    }

    /// The same for one number, for tests.
    #[cfg(test)]
    pub(crate) fn apply_scalar(self, sum: f32, multiplier: f32) -> u8 {
        let y = (sum.max(sum * self.slope) * multiplier).max(self.low).min(self.high);
        ((y + ROUNDER).to_bits() as i32 - (ROUNDER.to_bits() as i32 - self.zero)) as u8
    }
}

/// Numbers up to this size can be rounded by adding [`ROUNDER`], and remain recognisable as too large or too small.
pub(crate) const LARGEST_RESULT: f32 = 4_194_304.0;

/// [`Requantize`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct Requantizer<S: Simd> {
    isa: S,
    low: S::F,
    high: S::F,
    rounder: S::F,
    shift: S::I,
    /// Values for storing the result.
    pub pack: S::Pack,
    /// Whether there is a leaky ReLU.
    pub leaks: bool,
    slope: S::F,
}

impl<S: Simd> Requantizer<S> {
    #[inline(always)]
    pub(crate) fn apply(&self, x: S::F, multiplier: S::F) -> S::I {
        let isa = self.isa;
        let y = isa.min(isa.max(isa.mul(x, multiplier), self.low), self.high);
        isa.add_i32(isa.reinterpret_i32(isa.add(y, self.rounder)), self.shift)
    }

    /// The same for a product within ±[`LARGEST_RESULT`], in the form that the stores need. `LEAKS` must equal
    /// [`leaks`](Self::leaks); without it, the leaky ReLU is omitted.
    #[inline(always)]
    pub(crate) fn apply_to_sum<const LEAKS: bool>(&self, sum: S::F, multiplier: S::F) -> S::I {
        let isa = self.isa;
        // The multiplier is positive, so it can be applied after the leaky ReLU.
        let sum = if LEAKS { isa.max(sum, isa.mul(sum, self.slope)) } else { sum };
        if S::STORE_CLAMPS {
            isa.add_i32(isa.reinterpret_i32(isa.add(isa.mul(sum, multiplier), self.rounder)), self.shift)
        } else {
            self.apply(sum, multiplier)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn requantize_rounds_ties_to_even() {
        let requantize = Requantize::new(-10.0, 117.0, 10, 1.0);
        for (sum, byte) in [(-21.0, 0), (-1.0, 10), (1.0, 10), (3.0, 12), (5.0, 12), (7.0, 14), (500.0, 127)] {
            assert_eq!(requantize.apply_scalar(sum, 0.5), byte, "{sum}");
        }
        let leaky = Requantize::new(-10.0, 117.0, 10, 0.25);
        for (sum, byte) in [(-100.0, 0), (-21.0, 7), (-12.0, 8), (1.0, 10), (7.0, 14)] {
            assert_eq!(leaky.apply_scalar(sum, 0.5), byte, "{sum}");
        }
    }
}
