//! The horizontal pass of the letterbox: one row of a frame, scaled and split into planes.

/// Number of values that are read after the last pixel of a row. They have no effect.
pub(crate) const BESIDE: usize = 4;

/// For each output along an axis: the first input that has a weight, and the weights.
#[derive(Debug)]
pub(crate) struct Taps<W> {
    /// For each output, its first input and the end of its weights in `weights`. They start at the end of the previous
    /// ones.
    outputs: Vec<(usize, usize)>,
    weights: Vec<W>,
}

impl<W> Default for Taps<W> {
    fn default() -> Taps<W> {
        Taps { outputs: Vec::new(), weights: Vec::new() }
    }
}

impl<W> Taps<W> {
    /// Adds an output.
    pub(crate) fn push(&mut self, first: usize, weights: impl IntoIterator<Item = W>) {
        self.weights.extend(weights);
        self.outputs.push((first, self.weights.len()));
    }

    pub(crate) fn of(&self, output: usize) -> (usize, &[W]) {
        let start = if output == 0 { 0 } else { self.outputs[output - 1].1 };
        let (first, end) = self.outputs[output];
        (first, &self.weights[start..end])
    }

    fn len(&self) -> usize {
        self.outputs.len()
    }
}

/// The pixels of a row that each output consists of.
///
/// Taps come in pairs, because processors multiply pairs of 16-bit numbers. If their number is odd, a weight of zero is
/// added.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    taps: Taps<[i16; 2]>,
    /// Number of pixels that are read, including one that may have a weight of zero.
    reach: usize,
}

impl Columns {
    /// Weights are at most `i16::MAX`.
    pub(crate) fn new(taps: &Taps<u16>) -> Columns {
        let mut columns = Columns::default();
        for (first, weights) in (0..taps.len()).map(|output| taps.of(output)) {
            let pair = |weights: &[u16]| [weights[0] as i16, weights.get(1).map_or(0, |weight| *weight as i16)];
            columns.taps.push(first, weights.chunks(2).map(pair));
            columns.reach = columns.reach.max(first + weights.len().next_multiple_of(2));
        }
        columns
    }

    /// Scales a row of pixels with `CHANNELS` values. The first three channels go to the planes `out`, as the weighted
    /// sum plus `start`, times `unit`.
    ///
    /// # Panics
    ///
    /// If the row, including [`BESIDE`] values after it, is shorter than what is read, or if the length of a plane is
    /// not the number of outputs.
    pub(crate) fn scale<const CHANNELS: usize>(&self, row: &[i16], start: i32, unit: f32, out: [&mut [f32]; 3]) {
        assert!(self.reach.saturating_sub(1) * CHANNELS + BESIDE <= row.len(), "pixels beyond the row");
        assert!(out.iter().all(|plane| plane.len() == self.taps.len()), "planes of another length");
        let [red, green, blue] = out;
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        let done = wasm::scale::<CHANNELS>(self, row, start, unit, [red, green, blue]);
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        let done = 0;
        for x in done..self.taps.len() {
            let (first, pairs) = self.taps.of(x);
            let mut sum = [start; 3];
            for (pair, pixels) in pairs.iter().zip(row[first * CHANNELS..].chunks(2 * CHANNELS)) {
                for (c, sum) in sum.iter_mut().enumerate() {
                    let second = pixels.get(CHANNELS + c).map_or(0, |value| i32::from(*value));
                    *sum += i32::from(pixels[c]) * i32::from(pair[0]) + second * i32::from(pair[1]);
                }
            }
            (red[x], green[x], blue[x]) = (sum[0] as f32 * unit, sum[1] as f32 * unit, sum[2] as f32 * unit);
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use core::arch::wasm32::*;

    use super::Columns;

    /// Computes the first outputs, four at a time, and returns their number.
    #[inline(never)]
    pub(super) fn scale<const CHANNELS: usize>(
        columns: &Columns,
        row: &[i16],
        start: i32,
        unit: f32,
        out: [&mut [f32]; 3],
    ) -> usize {
        let outputs = columns.taps.len() - columns.taps.len() % 4;
        for x in (0..outputs).step_by(4) {
            let mut pixels = [f32x4_splat(0.0); 4];
            for (n, pixel) in pixels.iter_mut().enumerate() {
                let (first, pairs) = columns.taps.of(x + n);
                let mut sum = i32x4_splat(start);
                for (i, pair) in pairs.iter().enumerate() {
                    // SAFETY: `Columns::scale` checked that all pixels that are read lie in the row, with four values each.
                    unsafe {
                        let at = row.as_ptr().add((first + 2 * i) * CHANNELS);
                        let (a, b) = (v128_load64_zero(at.cast()), v128_load64_zero(at.add(CHANNELS).cast()));
                        let both = i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b);
                        let weights = v128_load32_splat(pair.as_ptr().cast());
                        sum = i32x4_add(sum, i32x4_dot_i16x8(both, weights));
                    }
                }
                *pixel = f32x4_mul(f32x4_convert_i32x4(sum), f32x4_splat(unit));
            }
            // Converts pixels to planes.
            let [a, b, c, d] = pixels;
            let ab = i32x4_shuffle::<0, 4, 1, 5>(a, b);
            let cd = i32x4_shuffle::<0, 4, 1, 5>(c, d);
            let blue =
                i32x4_shuffle::<0, 1, 4, 5>(i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
            let planes = [i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd), blue];
            // SAFETY: `Columns::scale` checked that each plane has as many values as there are outputs.
            unsafe {
                v128_store(out[0].as_mut_ptr().add(x).cast(), planes[0]);
                v128_store(out[1].as_mut_ptr().add(x).cast(), planes[1]);
                v128_store(out[2].as_mut_ptr().add(x).cast(), planes[2]);
            }
        }
        outputs
    }
}

#[cfg(test)]
mod tests {
    use super::{BESIDE, Columns, Taps};
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Scales a row in the middle of `WIDTH` pixels; each output has `taps` taps.
    fn agrees<const CHANNELS: usize>(outputs: usize, taps: usize) {
        const WIDTH: usize = 23;
        const START: i32 = 1 << 29;
        let value = |i: usize| (i * 7919 % 65_281) as i32 - 32_768;
        let mut row: Vec<i16> = (0..WIDTH * CHANNELS).map(|i| value(i) as i16).collect();
        row.extend([i16::MAX; BESIDE]);
        let first = |output: usize| output * 5 % (WIDTH - taps + 1);
        let weight = |output: usize, tap: usize| ((output * 31 + tap * 577) % 2_500) as u16;
        let weights: Vec<Vec<u16>> =
            (0..outputs).map(|output| (0..taps).map(|tap| weight(output, tap)).collect()).collect();
        let mut all = Taps::default();
        weights.iter().enumerate().for_each(|(output, weights)| all.push(first(output), weights.iter().copied()));
        let columns = Columns::new(&all);
        let mut planes = [vec![f32::NAN; outputs], vec![f32::NAN; outputs], vec![f32::NAN; outputs]];
        columns.scale::<CHANNELS>(&row, START, 0.25, planes.each_mut().map(|plane| &mut plane[..]));
        for (channel, plane) in planes.iter().enumerate() {
            for (output, found) in plane.iter().enumerate() {
                let tap = |tap| value((first(output) + tap) * CHANNELS + channel) * i32::from(weight(output, tap));
                let expected = (START + (0..taps).map(tap).sum::<i32>()) as f32 * 0.25;
                assert_eq!(
                    *found, expected,
                    "{outputs} outputs of {taps} taps, {CHANNELS} channels: {output}, {channel}"
                );
            }
        }
    }

    #[test]
    fn rows_of_any_length_are_weighted_sums() {
        for outputs in [1, 2, 3, 4, 5, 8, 11, 16, 23] {
            for taps in [1, 2, 3, 4, 5, 8, 23] {
                agrees::<3>(outputs, taps);
                agrees::<4>(outputs, taps);
            }
        }
    }

    #[test]
    #[cfg(not(target_family = "wasm"))]
    #[should_panic(expected = "pixels beyond the row")]
    fn a_row_that_is_too_short_is_refused() {
        let mut taps = Taps::default();
        taps.push(2, [1, 1, 1]);
        let columns = Columns::new(&taps);
        columns.scale::<4>(&[0; 5 * 4], 0, 1.0, [&mut [0.0], &mut [0.0], &mut [0.0]]);
    }
}
