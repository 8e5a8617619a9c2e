//! The int8 kernels.

use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::{Ordering, compiler_fence};

use super::super::image::{Hw, PixelLayout, Shape};
use super::super::isa::{Isa, Task};
use super::super::operations::Simd;
use super::super::quantize::{Requantize, Requantizer};
use super::super::thread_pool::{SendPtr, ThreadPool};
use super::int8_5x5;
use super::interleaved::{AT_ONCE, Columns, Tap, group_bytes, interleave_group, load_tap};
use super::windows::{Kernel, PixelRun, Windows, dispatch};

/// Number of pixels that are summed together. A weight is loaded once for all of them.
const AT_A_TIME: usize = 6;

/// The groups of four taps of a window: column by column, each with four rows, the last group padded.
fn groups(Hw { height: rows, width: columns }: Hw) -> Vec<[Tap; 4]> {
    if (rows, columns) == (5, 5) {
        return int8_5x5::groups();
    }
    let group = |column: usize, first: usize| {
        // Beyond the kernel the weights are zero, so any tap will do.
        [0, 1, 2, 3].map(|r| Tap { row: (first + r).min(rows - 1), column, counts: first + r < rows })
    };
    (0..columns).flat_map(|column| (0..rows).step_by(4).map(move |first| group(column, first))).collect()
}

/// The distance, in groups, from a window's first column to the `n`-th group of a square kernel.
const fn place_of(side: usize, n: usize) -> usize {
    match side {
        5 => int8_5x5::place_of(n),
        _ => n,
    }
}

/// An int8 depthwise convolution from bytes in `0..=127` to bytes.
///
/// The dot product needs four taps of a channel side by side. So the taps of a window are taken in groups of four (see
/// [`groups`]) and interleaved by shuffles. For square kernels this is done in a separate pass. Each interleaved column
/// then serves every output pixel whose window contains it, and a window is a few consecutive vectors.
#[derive(Debug, Clone)]
pub(crate) struct DepthwiseI8 {
    isa: Isa,
    windows: Windows,
    requantize: Requantize,
    /// The first channel of each block of `2 * LANES` channels. The last block may overlap the one before, so that no
    /// block exceeds the channels, unless there are fewer than one block.
    blocks: Vec<usize>,
    /// The channels that are interleaved together.
    units: Vec<Unit>,
    /// For a square kernel: bytes from a window's first interleaved column to each group.
    places: Vec<usize>,
    /// `[block, group, 2 vectors, 4 * LANES]`
    weights: Vec<i8>,
    /// `[block, 2 vectors, LANES]`, in the channel order of the interleaved vectors.
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    /// For each group, the offsets of its four taps from the window's start.
    groups: Vec<[usize; 4]>,
}

impl DepthwiseI8 {
    /// `weight(channel, kernel row, kernel column)`; `zero` is the zero point of the activations.
    pub(crate) fn new(
        isa: Isa,
        windows: Windows,
        zero: i32,
        bias: &[i32],
        multiplier: &[f32],
        requantize: Requantize,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> DepthwiseI8 {
        struct Pack<'a, W> {
            windows: &'a Windows,
            zero: i32,
            bias: &'a [i32],
            multiplier: &'a [f32],
            weight: &'a W,
            groups: &'a [[Tap; 4]],
        }
        type Packed = (Vec<usize>, Vec<Unit>, Vec<usize>, Vec<i8>, Vec<i32>, Vec<f32>);
        impl<W: Fn(usize, usize, usize) -> i8> Task for Pack<'_, W> {
            type Output = Packed;
            fn run<S: Simd>(self, _: S) -> Packed {
                let Windows { output: Shape { channels, .. }, kernel: Hw { height: rows, width: columns }, .. } =
                    *self.windows;
                let width = 2 * S::LANES;
                let mut blocks: Vec<usize> = (0..channels).step_by(width).collect();
                if let Some(last) = blocks.last_mut() {
                    *last = (*last).min(channels.saturating_sub(width));
                }
                let (mut weights, mut bias, mut multiplier) = (Vec::new(), Vec::new(), Vec::new());
                for &block in &blocks {
                    let channel = |vector, lane| Some(block + S::channel(vector, lane)).filter(|c| *c < channels);
                    for group in self.groups {
                        for vector in 0..2 {
                            for lane in 0..S::LANES {
                                weights.extend(group.map(|tap| match channel(vector, lane) {
                                    Some(channel) if tap.counts => (self.weight)(channel, tap.row, tap.column),
                                    _ => 0,
                                }));
                            }
                        }
                    }
                    for vector in 0..2 {
                        for lane in 0..S::LANES {
                            let channel = channel(vector, lane);
                            bias.push(channel.map_or(0, |channel| {
                                let sum: i32 = (0..rows * columns)
                                    .map(|tap| i32::from((self.weight)(channel, tap / columns, tap % columns)))
                                    .sum();
                                self.bias[channel].wrapping_sub(self.zero.wrapping_mul(sum))
                            }));
                            multiplier.push(channel.map_or(0.0, |channel| self.multiplier[channel]));
                        }
                    }
                }
                let units = units(&blocks, width, S::BLOCKS);
                let place = |group| place_of(rows, group) * group_bytes::<S>();
                let places = (0..self.groups.len()).map(place).collect();
                (blocks, units, places, weights, bias, multiplier)
            }
        }
        assert!(
            bias.len() == windows.output.channels && multiplier.len() == windows.output.channels,
            "one bias a channel"
        );
        let (blocks, units, places, weights, bias, multiplier) = isa.run(Pack {
            windows: &windows,
            zero,
            bias,
            multiplier,
            weight: &weight,
            groups: &groups(windows.kernel),
        });
        let offset = |tap: Tap| windows.offset(tap.row, tap.column);
        let groups = groups(windows.kernel).into_iter().map(|group| group.map(offset)).collect();
        DepthwiseI8 { isa, windows, requantize, blocks, units, places, weights, bias, multiplier, groups }
    }

    pub(crate) fn channels(&self) -> usize {
        self.windows.output.channels
    }

    /// Height and width of the output.
    pub(in super::super) fn size(&self) -> Hw {
        self.windows.output.size()
    }

    #[cfg(feature = "profile")]
    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// # Panics
    ///
    /// If a window, with what is read beyond its last pixel, is not within a source of this length.
    pub(in super::super) fn check(&self, isa: Isa, source: usize) {
        assert_eq!(self.isa, isa, "weights are packed for another instruction set");
        let beside = (2 * isa.lanes()).saturating_sub(self.windows.output.channels);
        assert!(self.windows.end() + beside <= source, "window outside");
    }

    /// Convolves `source` into `target` of `destination`.
    ///
    /// # Panics
    ///
    /// If an index that the run accesses is outside its slice.
    pub(crate) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        source: &[u8],
        destination: &mut [u8],
        target: PixelLayout,
    ) {
        struct Run<'a>(&'a DepthwiseI8, Range<usize>, &'a [u8], *mut u8, PixelLayout);
        impl Task for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, isa: S) {
                let Run(layer, rows, source, destination, target) = self;
                for y in rows {
                    // SAFETY: `run` checked all windows and target pixels.
                    unsafe {
                        let to = destination.add(target.origin + y * target.row);
                        let (source, count) = (source.as_ptr(), layer.windows.output.width);
                        layer.pixels(isa, PixelRun { source, y, x: 0, count, to, pixel: target.pixel });
                    }
                }
            }
        }
        self.check(isa, source.len());
        let output = self.windows.output;
        assert!(target.end(output) <= destination.len(), "target outside");
        // Each row is written by one thread.
        let destination = SendPtr::new(destination);
        pool.run_rows(output.height, |_, rows| isa.run(Run(self, rows, source, destination.get(), target)));
    }

    /// Computes the pixels of a run.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) passed for the run's source, and its pixels are writable.
    #[inline(always)]
    pub(in super::super) unsafe fn pixels<S: Simd>(&self, isa: S, run: PixelRun<u8>) {
        // With fewer channels than a unit, values would have to be loaded and stored one by one.
        let square = self.windows.square().filter(|_| self.windows.output.channels >= 2 * S::LANES * S::BLOCKS);
        // SAFETY: by this function's condition.
        unsafe { dispatch(square, KernelI8 { layer: self, isa, run }) };
    }

    /// Interleaves `columns` columns of `K` rows; for a 5x5 kernel with [`int8_5x5`].
    ///
    /// # Safety
    ///
    /// Every tap lies in the source, and the columns fit.
    #[inline(always)]
    unsafe fn interleave<S: Simd, const K: usize>(&self, isa: S, source: *const u8, columns: usize, to: *mut u8) {
        // SAFETY: by this function's condition.
        unsafe {
            let mut at = [source; K];
            for (r, at) in at.iter_mut().enumerate() {
                *at = source.add(r * self.windows.input.row);
            }
            let mut to = to;
            for _ in 0..columns {
                for group in 0..K.div_ceil(4) {
                    // Beyond the kernel the weights are zero, so any tap will do.
                    let mut taps = [load_tap(isa, at[group * 4]); 4];
                    for (r, tap) in taps.iter_mut().enumerate().skip(1) {
                        *tap = load_tap(isa, at[(group * 4 + r).min(K - 1)]);
                    }
                    interleave_group(isa, taps, to);
                    to = to.add(group_bytes::<S>());
                }
                for at in &mut at {
                    *at = at.add(self.windows.input.pixel);
                }
            }
        }
    }

    /// Sums and requantises 3x3 windows of one block. Their weights stay in registers.
    ///
    /// # Safety
    ///
    /// As [`sum`](Self::sum).
    #[inline(always)]
    unsafe fn sum_3x3<S: Simd, const STRIDE: usize, const LEAKS: bool>(&self, isa: S, run: BlockRun) {
        let BlockRun { block, columns, count, to, pixel } = run;
        let vector = 4 * S::LANES;
        // SAFETY: by this function's condition; weights, bias and multipliers have two vectors for every block.
        unsafe {
            let weights = self.weights.as_ptr().add(block * 2 * 3 * vector);
            let mut w = [[isa.load_bytes(weights); 2]; 3];
            for (n, w) in w.as_flattened_mut().iter_mut().enumerate() {
                *w = isa.load_bytes(weights.add(n * vector));
            }
            let start = self.start(isa, block);
            let multiplier = self.multiplier(isa, block);
            let ready = self.requantize.ready(isa);
            let (mut at, mut to) = (columns, to);
            for _ in 0..count {
                let mut bytes = start;
                for v in 0..2 {
                    for (group, w) in w.iter().enumerate() {
                        let taps = isa.load_bytes(at.add(group * group_bytes::<S>() + v * vector).cast());
                        bytes[v] = isa.dot_bytes(bytes[v], w[v], taps);
                    }
                    bytes[v] = ready.apply_to_sum::<LEAKS>(isa.to_f32(bytes[v]), multiplier[v]);
                }
                isa.store_channels(to, bytes, ready.pack);
                to = to.add(pixel);
                at = at.add(STRIDE * group_bytes::<S>());
            }
        }
    }

    /// Sums and requantises windows of one block.
    ///
    /// # Safety
    ///
    /// The pixels of `run` are writable, and its columns are those of its windows.
    #[inline(always)]
    unsafe fn sum<S: Simd, const K: usize, const STRIDE: usize, const LEAKS: bool>(&self, isa: S, run: BlockRun) {
        if K == 3 {
            // SAFETY: by this function's condition.
            return unsafe { self.sum_3x3::<S, STRIDE, LEAKS>(isa, run) };
        }
        // Through an address that is opaque to the compiler, as in a tile of a matrix product.
        let ready = self.requantize.ready(isa);
        let ready = core::hint::black_box(&ready);
        // SAFETY: by this function's condition.
        unsafe {
            if run.count < AT_A_TIME {
                for pixel in 0..run.count {
                    self.sum_pixels::<S, K, STRIDE, LEAKS, 1>(isa, run, pixel, ready);
                }
            } else {
                for pixel in (0..run.count).step_by(AT_A_TIME) {
                    let first = pixel.min(run.count - AT_A_TIME);
                    self.sum_pixels::<S, K, STRIDE, LEAKS, AT_A_TIME>(isa, run, first, ready);
                }
            }
        }
    }

    /// Computes `N` pixels of a run, starting at `first`.
    ///
    /// # Safety
    ///
    /// As [`sum`](Self::sum), and the run has these pixels.
    #[inline(always)]
    unsafe fn sum_pixels<S: Simd, const K: usize, const STRIDE: usize, const LEAKS: bool, const N: usize>(
        &self,
        isa: S,
        BlockRun { block, columns, to, pixel, .. }: BlockRun,
        first: usize,
        ready: &Requantizer<S>,
    ) {
        let vector = 4 * S::LANES;
        let column = const { K.div_ceil(4) * group_bytes::<S>() };
        // SAFETY: by this function's condition; weights, bias and multipliers have two vectors for every block.
        unsafe {
            let mut weights = self.weights.as_ptr().add(block * 2 * self.places.len() * vector);
            let start = self.start(isa, block);
            let mut sums = [start; N];
            let columns = columns.add(first * STRIDE * column);
            // Not unrolled: all taps of a window do not fit into the registers.
            for place in &self.places {
                let at = columns.add(*place);
                let w = [isa.load_bytes(weights), isa.load_bytes(weights.add(vector))];
                for (n, sums) in sums.iter_mut().enumerate() {
                    for v in 0..2 {
                        compiler_fence(Ordering::SeqCst);
                        let taps = isa.load_bytes(at.add(n * STRIDE * column + v * vector).cast());
                        sums[v] = isa.dot_bytes(sums[v], w[v], taps);
                    }
                }
                weights = weights.add(2 * vector);
            }
            let multiplier = self.multiplier(isa, block);
            let mut to = to.add(first * pixel);
            for sums in sums {
                let low = ready.apply_to_sum::<LEAKS>(isa.to_f32(sums[0]), multiplier[0]);
                let high = ready.apply_to_sum::<LEAKS>(isa.to_f32(sums[1]), multiplier[1]);
                isa.store_channels(to, [low, high], ready.pack);
                to = to.add(pixel);
            }
        }
    }

    /// The initial sums of a block.
    ///
    /// # Safety
    ///
    /// The block exists.
    #[inline(always)]
    unsafe fn start<S: Simd>(&self, isa: S, block: usize) -> [S::I; 2] {
        // SAFETY: the bias has `2 * LANES` integers for every block.
        unsafe {
            let bias = self.bias.as_ptr().add(block * 2 * S::LANES);
            [isa.load_i32(bias), isa.load_i32(bias.add(S::LANES))]
        }
    }

    /// The multipliers of the sums of a block.
    ///
    /// # Safety
    ///
    /// The block exists.
    #[inline(always)]
    unsafe fn multiplier<S: Simd>(&self, isa: S, block: usize) -> [S::F; 2] {
        // SAFETY: there are `2 * LANES` multipliers for every block.
        unsafe {
            let multiplier = self.multiplier.as_ptr().add(block * 2 * S::LANES);
            [isa.load(multiplier), isa.load(multiplier.add(S::LANES))]
        }
    }

    /// Computes one output pixel with any kernel, for one block of its channels.
    ///
    /// # Safety
    ///
    /// The taps of its window, the first of which is at `source`, are readable, with `2 * LANES` bytes each, and the block's
    /// channels at `to` writable.
    #[inline(always)]
    unsafe fn any<S: Simd>(&self, isa: S, block: usize, source: *const u8, to: *mut u8) {
        // SAFETY: as the caller: every tap lies in the source; weights have two vectors for every group of a block.
        unsafe {
            let vector = 4 * S::LANES;
            let mut weights = self.weights.as_ptr().add(block * 2 * self.groups.len() * vector);
            let mut sums = self.start(isa, block);
            for group in &self.groups {
                let mut taps = [isa.load_half(source.add(group[0])); 4];
                for (tap, offset) in taps.iter_mut().zip(group).skip(1) {
                    *tap = isa.load_half(source.add(*offset));
                }
                let taps = isa.interleave(taps);
                for v in 0..2 {
                    sums[v] = isa.dot_bytes(sums[v], isa.load_bytes(weights.add(v * vector)), taps[v]);
                }
                weights = weights.add(2 * vector);
            }
            let requantize = self.requantize.ready(isa);
            let multiplier = self.multiplier.as_ptr().add(block * 2 * S::LANES);
            for (v, sum) in sums.iter_mut().enumerate() {
                let multiplier = isa.load(multiplier.add(v * S::LANES));
                // A slope of 1 does not change the sums. Here the two extra instructions do not matter.
                *sum = requantize.apply_to_sum::<true>(isa.to_f32(*sum), multiplier);
            }
            if self.windows.output.channels >= 2 * S::LANES {
                isa.store_channels(to, sums, requantize.pack);
            } else {
                let mut whole = [0u8; 32];
                isa.store_channels(whole.as_mut_ptr(), sums, requantize.pack);
                core::ptr::copy_nonoverlapping(whole.as_ptr(), to, self.windows.output.channels);
            }
        }
    }
}

/// Neighbouring channels that are interleaved together: [`Simd::BLOCKS`] blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    /// The first channel.
    channel: usize,
    /// The blocks of these channels; `None` if a block is not needed or does not exist.
    blocks: [Option<usize>; 2],
}

/// The units for blocks of `width` channels with these first channels. In a unit of two, a block without a following
/// neighbour is the second one, so that no unit exceeds the channels.
fn units(blocks: &[usize], width: usize, in_unit: usize) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut next = 0;
    while let Some(&channel) = blocks.get(next) {
        let unit = match blocks.get(next + 1) {
            _ if in_unit == 1 => Unit { channel, blocks: [Some(next), None] },
            Some(&second) if second == channel + width => Unit { channel, blocks: [Some(next), Some(next + 1)] },
            _ => Unit { channel: channel.saturating_sub(width), blocks: [None, Some(next)] },
        };
        next += unit.blocks.iter().flatten().count();
        units.push(unit);
    }
    units
}

/// One block of channels of up to [`AT_ONCE`] pixels, interleaved.
#[derive(Clone, Copy)]
struct BlockRun {
    block: usize,
    columns: *const u8,
    count: usize,
    /// The block's channels of the first pixel.
    to: *mut u8,
    /// Elements from pixel to pixel.
    pixel: usize,
}

/// A run of pixels of an int8 layer.
struct KernelI8<'a, S> {
    layer: &'a DepthwiseI8,
    isa: S,
    run: PixelRun<u8>,
}

impl<S: Simd> Kernel for KernelI8<'_, S> {
    #[inline(always)]
    unsafe fn square<const K: usize, const STRIDE: usize>(self) {
        let KernelI8 { layer, isa, run: PixelRun { source, y, x, count, to, pixel } } = self;
        let input = layer.windows.input;
        let mut columns = MaybeUninit::<Columns>::uninit();
        let columns = columns.as_mut_ptr().cast::<u8>();
        for unit in &layer.units {
            // SAFETY: by the trait's condition; `Columns` has room for all that `AT_ONCE` windows need.
            unsafe {
                let source = source.add(layer.windows.start(y, x) + unit.channel);
                for first in (0..count).step_by(AT_ONCE) {
                    let count = (count - first).min(AT_ONCE);
                    let source = source.add(first * STRIDE * input.pixel);
                    let last = (count - 1) * STRIDE;
                    if K == 5 {
                        isa.vectorize(
                            #[inline(always)]
                            move || int8_5x5::interleave_columns(isa, source, input, last + K, columns),
                        );
                        isa.vectorize(
                            #[inline(always)]
                            move || int8_5x5::interleave_fifth_row(isa, source, input, last + 2, columns),
                        );
                    } else {
                        isa.vectorize(
                            #[inline(always)]
                            move || layer.interleave::<S, K>(isa, source, last + K, columns),
                        );
                    }
                    for (n, block) in unit.blocks.iter().enumerate().take(S::BLOCKS) {
                        let Some(block) = *block else { continue };
                        let to = to.add(first * pixel + layer.blocks[block]);
                        let columns = columns.add(n * 2 * 4 * S::LANES);
                        let run = BlockRun { block, columns, count, to, pixel };
                        if layer.requantize.leaks() {
                            isa.vectorize(
                                #[inline(always)]
                                move || layer.sum::<S, K, STRIDE, true>(isa, run),
                            );
                        } else {
                            isa.vectorize(
                                #[inline(always)]
                                move || layer.sum::<S, K, STRIDE, false>(isa, run),
                            );
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn any(self) {
        let KernelI8 { layer, isa, run: PixelRun { source, y, x, count, to, pixel } } = self;
        let step = layer.windows.stride.width * layer.windows.input.pixel;
        for (block, &channel) in layer.blocks.iter().enumerate() {
            // SAFETY: by the trait's condition.
            unsafe {
                let source = source.add(layer.windows.start(y, x) + channel);
                isa.vectorize(
                    #[inline(always)]
                    move || {
                        for i in 0..count {
                            layer.any(isa, block, source.add(i * step), to.add(i * pixel + channel));
                        }
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Unit, units};
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn units_cover_every_block_once_and_stay_inside_the_channels() {
        let of = |channel, blocks| Unit { channel, blocks };
        let (both, second) = (|n| [Some(n), Some(n + 1)], |n| [None, Some(n)]);
        assert_eq!(units(&[0, 8, 16, 24], 8, 2), [of(0, both(0)), of(16, both(2))], "32 channels");
        assert_eq!(units(&[0, 8, 16], 8, 2), [of(0, both(0)), of(8, second(2))], "24 channels");
        assert_eq!(units(&[0, 8, 12], 8, 2), [of(0, both(0)), of(4, second(2))], "20 channels");
        let overlapping = [of(0, both(0)), of(8, second(2)), of(12, second(3))];
        assert_eq!(units(&[0, 8, 16, 20], 8, 2), overlapping, "28 channels");
        assert_eq!(units(&[0, 8, 12], 8, 1), [0, 1, 2].map(|n| of([0, 8, 12][n], [Some(n), None])), "one at once");
    }
}
