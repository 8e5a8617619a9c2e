//! Depthwise convolutions, float and int8: each channel has a window of its own.
//!
//! Vectors run along channels, so neighbouring lanes never meet. For the common square kernels (3, 5, 7 with stride 1 or
//! 2) four output pixels of a row are worked on together and share what they load; any other kernel goes pixel by pixel
//! through a list of taps.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::activation::{Activation, activate};
use super::image::Target;
use super::isa::{Isa, Task};
use super::operations::Simd;
use super::quantize::Requantize;
use super::thread_pool::{Apart, Team};

/// Output pixels worked on together, in floats.
const SHARED: usize = 4;
/// Output pixels whose columns are interleaved at once, in int8.
const AT_ONCE: usize = 48;
/// Most groups of four taps in a shared form: two in each column of a 7x7 window.
const MOST_GROUPS: usize = 14;
/// Bytes of the interleaved columns of one vector, of 64 bytes at most: with stride 2, two groups a column.
const SPAN: usize = ((AT_ONCE - 1) * 2 + 7) * 2 * 64;
/// Interleaved columns of both vectors.
type Columns = [u8; 2 * SPAN];

/// Where the windows of a depthwise convolution are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Windows {
    /// Rows and columns of output pixels.
    pub out_height: usize,
    pub out_width: usize,
    pub channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
    /// Input rows and columns from one output pixel to the next.
    pub stride: (usize, usize),
    /// Input rows and columns from one tap to the next.
    pub dilation: (usize, usize),
    /// Index of the first channel of the first window's first pixel.
    pub origin: usize,
    /// Elements from input row to input row and from input pixel to input pixel.
    pub row: usize,
    pub pixel: usize,
}

impl Windows {
    fn end(&self) -> usize {
        let last_row = (self.out_height - 1) * self.stride.0 + (self.kernel.0 - 1) * self.dilation.0;
        let last_column = (self.out_width - 1) * self.stride.1 + (self.kernel.1 - 1) * self.dilation.1;
        self.origin + last_row * self.row + last_column * self.pixel + self.channels
    }

    fn start(&self, y: usize, x: usize) -> usize {
        self.origin + y * self.stride.0 * self.row + x * self.stride.1 * self.pixel
    }

    /// Side and stride if the kernel is one of the shared forms.
    fn shared_form(&self) -> Option<(usize, usize)> {
        let (side, stride) = (self.kernel.0, self.stride.0);
        let square = self.kernel.1 == side && self.stride.1 == stride && self.dilation == (1, 1);
        (square && matches!(side, 3 | 5 | 7) && matches!(stride, 1 | 2)).then_some((side, stride))
    }
}

/// A float depthwise convolution with bias and activation.
#[derive(Debug, Clone)]
pub(crate) struct DepthwiseF32 {
    windows: Windows,
    /// `[kernel rows, kernel columns, channels]`
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl DepthwiseF32 {
    /// `weight(channel, kernel row, kernel column)`
    pub(crate) fn new(
        windows: Windows,
        bias: &[f32],
        activation: Activation,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> DepthwiseF32 {
        assert_eq!(bias.len(), windows.channels, "one bias a channel");
        let mut weights = Vec::with_capacity(windows.kernel.0 * windows.kernel.1 * windows.channels);
        for y in 0..windows.kernel.0 {
            for x in 0..windows.kernel.1 {
                weights.extend((0..windows.channels).map(|channel| weight(channel, y, x)));
            }
        }
        DepthwiseF32 { bias: bias.to_vec(), windows, weights, activation }
    }

    pub(crate) fn channels(&self) -> usize {
        self.windows.channels
    }

    #[cfg(feature = "profile")]
    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// # Panics
    ///
    /// If a window does not lie in a source of this length.
    pub(super) fn check(&self, source: usize) {
        assert!(self.windows.end() <= source, "window outside");
    }

    /// Convolves `source` into `target` of `destination`.
    ///
    /// # Panics
    ///
    /// If an index that will be touched is outside its slice.
    pub(crate) fn run(&self, isa: Isa, team: &Team, source: &[f32], destination: &mut [f32], target: Target) {
        struct Run<'a>(&'a DepthwiseF32, Range<usize>, &'a [f32], *mut f32, Target);
        impl Task for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, isa: S) {
                let Run(layer, rows, source, destination, target) = self;
                for y in rows {
                    // SAFETY: `run` checked all windows and target pixels.
                    unsafe {
                        let to = destination.add(target.origin + y * target.row);
                        layer.pixels(isa, source.as_ptr(), y, 0, layer.windows.out_width, to, target.pixel);
                    }
                }
            }
        }
        self.check(source.len());
        let Windows { out_height, out_width, channels, .. } = self.windows;
        assert!(target.end(out_height, out_width, channels) <= destination.len(), "target outside");
        // Each row is written by one member.
        let destination = Apart::new(destination);
        team.rows(out_height, |_, rows| isa.run(Run(self, rows, source, destination.get(), target)));
    }

    /// `count` output pixels of row `y` from column `x` on, to `to`, `pixel` elements apart.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) passed for what `source` points to, and the pixels at `to` are writable.
    #[inline(always)]
    pub(super) unsafe fn pixels<S: Simd>(
        &self,
        isa: S,
        source: *const f32,
        y: usize,
        x: usize,
        count: usize,
        to: *mut f32,
        pixel: usize,
    ) {
        // SAFETY: by this function's condition.
        unsafe {
            match self.windows.shared_form() {
                Some((3, 1)) => self.outlined::<S, 3, 1>(isa, source, y, x, count, to, pixel),
                Some((3, _)) => self.outlined::<S, 3, 2>(isa, source, y, x, count, to, pixel),
                Some((5, 1)) => self.outlined::<S, 5, 1>(isa, source, y, x, count, to, pixel),
                Some((5, _)) => self.outlined::<S, 5, 2>(isa, source, y, x, count, to, pixel),
                Some((_, 1)) => self.outlined::<S, 7, 1>(isa, source, y, x, count, to, pixel),
                Some(_) => self.outlined::<S, 7, 2>(isa, source, y, x, count, to, pixel),
                None => {
                    for i in 0..count {
                        self.any(isa, source.add(self.windows.start(y, x + i)), to.add(i * pixel));
                    }
                }
            }
            if !matches!(self.activation, Activation::Clamp { .. }) {
                for i in 0..count {
                    let values = core::slice::from_raw_parts_mut(to.add(i * pixel), self.windows.channels);
                    activate(isa, self.activation, values);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn outlined<S: Simd, const K: usize, const STRIDE: usize>(
        &self,
        isa: S,
        source: *const f32,
        y: usize,
        x: usize,
        count: usize,
        to: *mut f32,
        pixel: usize,
    ) {
        // SAFETY: as the caller.
        unsafe {
            isa.vectorize(
                #[inline(always)]
                || self.shared::<S, K, STRIDE>(isa, source, y, x, count, to, pixel),
            );
        }
    }

    #[inline(always)]
    unsafe fn shared<S: Simd, const K: usize, const STRIDE: usize>(
        &self,
        isa: S,
        source: *const f32,
        y: usize,
        x: usize,
        count: usize,
        to: *mut f32,
        pixel: usize,
    ) {
        // With a stride of 2 neighbours share less: four of them would need more registers than V8 has.
        let together = if STRIDE == 1 { SHARED } else { 3 };
        let mut i = 0;
        while i < count {
            // SAFETY: as the caller.
            unsafe {
                let (source, to) = (source.add(self.windows.start(y, x + i)), to.add(i * pixel));
                if i + together > count {
                    self.group::<S, K, STRIDE, 1>(isa, source, to, pixel);
                    i += 1;
                } else {
                    if STRIDE == 1 {
                        self.group::<S, K, STRIDE, SHARED>(isa, source, to, pixel);
                    } else {
                        self.group::<S, K, STRIDE, 3>(isa, source, to, pixel);
                    }
                    i += together;
                }
            }
        }
    }

    /// `X` neighbouring output pixels, all channels.
    #[inline(always)]
    unsafe fn group<S: Simd, const K: usize, const STRIDE: usize, const X: usize>(
        &self,
        isa: S,
        source: *const f32,
        to: *mut f32,
        pixel: usize,
    ) {
        let channels = self.windows.channels;
        let mut c = 0;
        while c + S::LANES <= channels {
            // SAFETY: as the caller; a whole vector of channels is left at `c`.
            unsafe { self.vector::<S, K, STRIDE, X>(isa, source, c, to, pixel) };
            c += S::LANES;
        }
        if c < channels {
            if channels >= S::LANES {
                // The last whole vector, some of it for the second time.
                // SAFETY: as above.
                unsafe { self.vector::<S, K, STRIDE, X>(isa, source, channels - S::LANES, to, pixel) };
            } else {
                for j in 0..X {
                    // SAFETY: as the caller.
                    unsafe { self.any(isa, source.add(j * STRIDE * self.windows.pixel), to.add(j * pixel)) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<S: Simd, const K: usize, const STRIDE: usize, const X: usize>(
        &self,
        isa: S,
        source: *const f32,
        c: usize,
        to: *mut f32,
        pixel: usize,
    ) {
        let Windows { channels, row, pixel: input_pixel, .. } = self.windows;
        // SAFETY: as the caller: every tap of every window lies in the source, and weights are `K * K` times the
        // channels.
        unsafe {
            let mut sums = [isa.load(self.bias.as_ptr().add(c)); X];
            let mut weights = self.weights.as_ptr().add(c);
            let mut source = source.add(c);
            // As many as `K`, but LLVM must not know it: unrolled, the loop is sorted by sum, and what all sums share no
            // longer fits into the registers.
            for _ in 0..self.windows.kernel.0 {
                let mut w = [isa.splat(0.0); K];
                for (k, w) in w.iter_mut().enumerate() {
                    *w = isa.load(weights.add(k * channels));
                }
                let mut at = source;
                for column in 0..(X - 1) * STRIDE + K {
                    let v = isa.load(at);
                    at = at.add(input_pixel);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        if j * STRIDE <= column && column < j * STRIDE + K {
                            *sum = isa.mul_add(v, w[column - j * STRIDE], *sum);
                        }
                    }
                }
                weights = weights.add(K * channels);
                source = source.add(row);
            }
            if let Activation::Clamp { .. } = self.activation {
                sums = self.activation.apply(isa, sums);
            }
            for (j, sum) in sums.iter().enumerate() {
                isa.store(to.add(j * pixel + c), *sum);
            }
        }
    }

    /// One output pixel of any kernel.
    #[inline(always)]
    unsafe fn any<S: Simd>(&self, isa: S, source: *const f32, to: *mut f32) {
        let Windows { channels, kernel, dilation, row, pixel, .. } = self.windows;
        // SAFETY: as the caller: every tap lies in the source, and weights are kernel rows × columns × channels.
        unsafe {
            let mut c = 0;
            while c + S::LANES <= channels {
                let mut sum = isa.load(self.bias.as_ptr().add(c));
                let mut weights = self.weights.as_ptr().add(c);
                for y in 0..kernel.0 {
                    for x in 0..kernel.1 {
                        let at = source.add(y * dilation.0 * row + x * dilation.1 * pixel + c);
                        sum = isa.mul_add(isa.load(at), isa.load(weights), sum);
                        weights = weights.add(channels);
                    }
                }
                if let Activation::Clamp { .. } = self.activation {
                    [sum] = self.activation.apply(isa, [sum]);
                }
                isa.store(to.add(c), sum);
                c += S::LANES;
            }
            for c in c..channels {
                let mut sum = self.bias[c];
                for y in 0..kernel.0 {
                    for x in 0..kernel.1 {
                        let at = source.add(y * dilation.0 * row + x * dilation.1 * pixel + c);
                        sum += *at * self.weights[(y * kernel.1 + x) * channels + c];
                    }
                }
                if let Activation::Clamp { .. } = self.activation {
                    sum = self.activation.apply_scalar(sum);
                }
                *to.add(c) = sum;
            }
        }
    }
}

/// A tap of a group, which may be there for its neighbours' sake only: its weight then is zero.
#[derive(Debug, Clone, Copy)]
struct Tap {
    row: usize,
    column: usize,
    counts: bool,
}

/// The groups of four taps that make up a window.
///
/// Column by column, each of four rows, the last one filled up. In a 5x5 window that would leave a row by itself, a group
/// for each of its taps: there the fifth row is taken along the row, four taps from the first column and, in the group
/// that starts at the second one, the last.
fn groups(kernel: (usize, usize)) -> Vec<[Tap; 4]> {
    let mut groups = Vec::new();
    for column in 0..kernel.1 {
        for first in (0..kernel.0).step_by(4) {
            if kernel != (5, 5) || first == 0 {
                groups.push([0, 1, 2, 3].map(|r| {
                    // Beyond the kernel the weights are zero, so any tap will do.
                    let row = (first + r).min(kernel.0 - 1);
                    Tap { row, column, counts: first + r < kernel.0 }
                }));
            } else if column < 2 {
                groups.push([0, 1, 2, 3].map(|c| Tap {
                    row: 4,
                    column: column + c,
                    counts: column == 0 || c == 3,
                }));
            }
        }
    }
    groups
}

/// How many groups [`groups`] makes of a shared form, and where, in vectors from a window's first column, the `n`-th is.
const fn group_of_shared(side: usize, n: usize) -> (usize, usize) {
    match side {
        3 => (3, n),
        5 => (7, if n < 5 { n } else { 2 * n - 4 }),
        _ => (14, n),
    }
}

/// An int8 depthwise convolution: bytes in `0..=127` to bytes.
///
/// The dot product wants four taps of a channel side by side. The taps of a window are taken in groups of four (see
/// [`groups`]) and interleaved by shuffles. In the shared forms that happens in a pass
/// of its own, so that an interleaved column serves every output pixel whose window it lies in, and a window then is a
/// few vectors in a row.
#[derive(Debug, Clone)]
pub(crate) struct DepthwiseI8 {
    isa: Isa,
    windows: Windows,
    requantize: Requantize,
    /// First channel of each block of `2 * LANES` channels; the last block may overlap the one before, so that none
    /// reaches beyond the channels unless there are fewer than that.
    blocks: Vec<usize>,
    /// `[block, 2 vectors, group, 4 * LANES]`
    weights: Vec<i8>,
    /// `[block, 2 vectors, LANES]`, in the channel order of the interleaved vectors.
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    /// Distance of each group's four taps from the window's start.
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
        type Packed = (Vec<usize>, Vec<i8>, Vec<i32>, Vec<f32>);
        impl<W: Fn(usize, usize, usize) -> i8> Task for Pack<'_, W> {
            type Output = Packed;
            fn run<S: Simd>(self, _: S) -> Packed {
                let Windows { channels, kernel: (rows, columns), .. } = *self.windows;
                let width = 2 * S::LANES;
                let mut blocks: Vec<usize> = (0..channels).step_by(width).collect();
                if let Some(last) = blocks.last_mut() {
                    *last = (*last).min(channels.saturating_sub(width));
                }
                let (mut weights, mut bias, mut multiplier) = (Vec::new(), Vec::new(), Vec::new());
                for &block in &blocks {
                    let channel = |vector, lane| Some(block + S::channel(vector, lane)).filter(|c| *c < channels);
                    for vector in 0..2 {
                        for group in self.groups {
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
                (blocks, weights, bias, multiplier)
            }
        }
        assert!(bias.len() == windows.channels && multiplier.len() == windows.channels, "one bias a channel");
        let (blocks, weights, bias, multiplier) = isa.run(Pack {
            windows: &windows,
            zero,
            bias,
            multiplier,
            weight: &weight,
            groups: &groups(windows.kernel),
        });
        let Windows { kernel, dilation, row, pixel, .. } = windows;
        let offset = |tap: Tap| tap.row * dilation.0 * row + tap.column * dilation.1 * pixel;
        let groups = groups(kernel).into_iter().map(|group| group.map(offset)).collect();
        DepthwiseI8 { isa, windows, requantize, blocks, weights, bias, multiplier, groups }
    }

    pub(crate) fn channels(&self) -> usize {
        self.windows.channels
    }

    #[cfg(feature = "profile")]
    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// # Panics
    ///
    /// If a window, with what is read beside its last pixel, does not lie in a source of this length.
    pub(super) fn check(&self, isa: Isa, source: usize) {
        assert_eq!(self.isa, isa, "weights are packed for another instruction set");
        let beside = (2 * isa.lanes()).saturating_sub(self.windows.channels);
        assert!(self.windows.end() + beside <= source, "window outside");
    }

    /// Convolves `source` into `target` of `destination`.
    ///
    /// # Panics
    ///
    /// If an index that will be touched is outside its slice.
    pub(crate) fn run(&self, isa: Isa, team: &Team, source: &[u8], destination: &mut [u8], target: Target) {
        struct Run<'a>(&'a DepthwiseI8, Range<usize>, &'a [u8], *mut u8, Target);
        impl Task for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, isa: S) {
                let Run(layer, rows, source, destination, target) = self;
                for y in rows {
                    // SAFETY: `run` checked all windows and target pixels.
                    unsafe {
                        let to = destination.add(target.origin + y * target.row);
                        layer.pixels(isa, source.as_ptr(), y, 0, layer.windows.out_width, to, target.pixel);
                    }
                }
            }
        }
        self.check(isa, source.len());
        let Windows { out_height, out_width, channels, .. } = self.windows;
        assert!(target.end(out_height, out_width, channels) <= destination.len(), "target outside");
        // Each row is written by one member.
        let destination = Apart::new(destination);
        team.rows(out_height, |_, rows| isa.run(Run(self, rows, source, destination.get(), target)));
    }

    /// `count` output pixels of row `y` from column `x` on, to `to`, `pixel` elements apart.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) passed for what `source` points to, and the pixels at `to` are writable.
    #[inline(always)]
    pub(super) unsafe fn pixels<S: Simd>(
        &self,
        isa: S,
        source: *const u8,
        y: usize,
        x: usize,
        count: usize,
        to: *mut u8,
        pixel: usize,
    ) {
        // Too few channels for a block would have to be stored one by one.
        let shared = self.windows.shared_form().filter(|_| self.windows.channels >= 2 * S::LANES);
        // SAFETY: by this function's condition.
        unsafe {
            match shared {
                Some((3, 1)) => self.outlined::<S, 3, 1>(isa, source, y, x, count, to, pixel),
                Some((3, _)) => self.outlined::<S, 3, 2>(isa, source, y, x, count, to, pixel),
                Some((5, 1)) => self.outlined::<S, 5, 1>(isa, source, y, x, count, to, pixel),
                Some((5, _)) => self.outlined::<S, 5, 2>(isa, source, y, x, count, to, pixel),
                Some((_, 1)) => self.outlined::<S, 7, 1>(isa, source, y, x, count, to, pixel),
                Some(_) => self.outlined::<S, 7, 2>(isa, source, y, x, count, to, pixel),
                None => self.outlined::<S, 0, 0>(isa, source, y, x, count, to, pixel),
            }
        }
    }

    /// The pixels by the shared form for a kernel of side `K`, or one by one for `K` of 0.
    #[inline(always)]
    unsafe fn outlined<S: Simd, const K: usize, const STRIDE: usize>(
        &self,
        isa: S,
        source: *const u8,
        y: usize,
        x: usize,
        count: usize,
        to: *mut u8,
        pixel: usize,
    ) {
        let mut columns = MaybeUninit::<Columns>::uninit();
        let columns = columns.as_mut_ptr().cast::<u8>();
        for block in 0..self.blocks.len() {
            // SAFETY: as the caller; `Columns` has room for all that `AT_ONCE` windows need.
            unsafe {
                let source = source.add(self.windows.start(y, x) + self.blocks[block]);
                if K == 0 {
                    isa.vectorize(
                        #[inline(always)]
                        || {
                            for i in 0..count {
                                let source = source.add(i * self.windows.stride.1 * self.windows.pixel);
                                self.any(isa, block, source, to.add(i * pixel + self.blocks[block]));
                            }
                        },
                    );
                    continue;
                }
                for first in (0..count).step_by(AT_ONCE) {
                    let count = (count - first).min(AT_ONCE);
                    let (source, to) = (
                        source.add(first * STRIDE * self.windows.pixel),
                        to.add(first * pixel + self.blocks[block]),
                    );
                    isa.vectorize(
                        #[inline(always)]
                        || self.interleave::<S, K>(isa, source, (count - 1) * STRIDE + K, columns),
                    );
                    if K == 5 {
                        isa.vectorize(
                            #[inline(always)]
                            || self.interleave_row(isa, source, (count - 1) * STRIDE + 2, columns),
                        );
                    }
                    if K == 3 {
                        isa.vectorize(
                            #[inline(always)]
                            || self.sum_both::<S, K, STRIDE>(isa, block, columns, count, to, pixel),
                        );
                    } else {
                        // All weights of one vector fill the registers.
                        let mut halves = MaybeUninit::<[[f32; 16]; AT_ONCE]>::uninit();
                        let halves = halves.as_mut_ptr().cast::<f32>();
                        isa.vectorize(
                            #[inline(always)]
                            || self.sum_one::<S, K, STRIDE, false>(isa, block, columns, count, halves, to, pixel),
                        );
                        isa.vectorize(
                            #[inline(always)]
                            || self.sum_one::<S, K, STRIDE, true>(isa, block, columns, count, halves, to, pixel),
                        );
                    }
                }
            }
        }
    }

    /// Interleaves `columns` columns of `K` rows: `[2 vectors, column, group]` vectors, the second half `SPAN` behind.
    #[inline(always)]
    unsafe fn interleave<S: Simd, const K: usize>(&self, isa: S, source: *const u8, columns: usize, to: *mut u8) {
        // SAFETY: as the caller: every tap lies in the source, and the columns fit.
        unsafe {
            let mut at = [source; K];
            for (r, at) in at.iter_mut().enumerate() {
                *at = source.add(r * self.windows.row);
            }
            let mut to = to;
            for _ in 0..columns {
                for group in 0..if K == 5 { 1 } else { K.div_ceil(4) } {
                    let mut taps = [isa.load_half(at[group * 4]); 4];
                    for (r, tap) in taps.iter_mut().enumerate().skip(1) {
                        *tap = isa.load_half(at[(group * 4 + r).min(K - 1)]);
                    }
                    let [low, high] = isa.interleave(taps);
                    isa.store_bytes(to, low);
                    isa.store_bytes(to.add(SPAN), high);
                    to = to.add(4 * S::LANES);
                }
                if K == 5 {
                    to = to.add(4 * S::LANES);
                }
                for at in &mut at {
                    *at = at.add(self.windows.pixel);
                }
            }
        }
    }

    /// The second groups of a 5x5 window's columns: taps of the fifth row.
    #[inline(always)]
    unsafe fn interleave_row<S: Simd>(&self, isa: S, source: *const u8, columns: usize, to: *mut u8) {
        let Windows { row, pixel, .. } = self.windows;
        // SAFETY: as `interleave`; the last group ends at the last window's last column.
        unsafe {
            let (mut at, mut to) = (source.add(4 * row), to.add(4 * S::LANES));
            for _ in 0..columns {
                let taps = [0, 1, 2, 3].map(
                    #[inline(always)]
                    |c| isa.load_half(at.add(c * pixel)),
                );
                let [low, high] = isa.interleave(taps);
                isa.store_bytes(to, low);
                isa.store_bytes(to.add(SPAN), high);
                to = to.add(8 * S::LANES);
                at = at.add(pixel);
            }
        }
    }

    /// Sums of one vector's windows, requantised: the first vector's to `halves`, the second one's, with those, to `to`.
    #[inline(always)]
    unsafe fn sum_one<S: Simd, const K: usize, const STRIDE: usize, const SECOND: bool>(
        &self,
        isa: S,
        block: usize,
        columns: *const u8,
        count: usize,
        halves: *mut f32,
        to: *mut u8,
        pixel: usize,
    ) {
        let groups = group_of_shared(K, 0).0;
        // SAFETY: as the caller; weights have two vectors for every group of a block.
        unsafe {
            let vector = block * 2 + usize::from(SECOND);
            let weights = self.weights.as_ptr().add(vector * groups * 4 * S::LANES);
            let mut w = [isa.load_bytes(weights); MOST_GROUPS];
            for (group, w) in w.iter_mut().enumerate().take(groups) {
                *w = isa.load_bytes(weights.add(group * 4 * S::LANES));
            }
            let bias = isa.load_i32(self.bias.as_ptr().add(vector * S::LANES));
            let multiplier = isa.load(self.multiplier.as_ptr().add(vector * S::LANES));
            let requantize = self.requantize.ready(isa);
            let mut at = columns.add(if SECOND { SPAN } else { 0 });
            let (mut half, mut to) = (halves, to);
            for _ in 0..count {
                let mut sum = bias;
                for (group, w) in w.iter().enumerate().take(groups) {
                    let place = group_of_shared(K, group).1 * 4 * S::LANES;
                    sum = isa.dot_bytes(sum, *w, isa.load_bytes(at.add(place).cast()));
                }
                let bytes = requantize.apply_to_sum(isa.to_f32(sum), multiplier);
                if SECOND {
                    isa.store_channels(to, [isa.bits(isa.load(half)), bytes], requantize.pack);
                    to = to.add(pixel);
                } else {
                    isa.store(half, isa.from_bits(bytes));
                }
                half = half.add(S::LANES);
                at = at.add(STRIDE * K.div_ceil(4) * 4 * S::LANES);
            }
        }
    }

    /// As [`sum_one`](Self::sum_one), both vectors at once.
    #[inline(always)]
    unsafe fn sum_both<S: Simd, const K: usize, const STRIDE: usize>(
        &self,
        isa: S,
        block: usize,
        columns: *const u8,
        count: usize,
        to: *mut u8,
        pixel: usize,
    ) {
        // SAFETY: as `sum_one`.
        unsafe {
            let weights = self.weights.as_ptr().add(block * 2 * K * 4 * S::LANES);
            let mut w = [[isa.load_bytes(weights); K]; 2];
            for (group, w) in w.as_flattened_mut().iter_mut().enumerate() {
                *w = isa.load_bytes(weights.add(group * 4 * S::LANES));
            }
            let bias = self.start(isa, block);
            let multiplier = self.multiplier.as_ptr().add(block * 2 * S::LANES);
            let multiplier = [isa.load(multiplier), isa.load(multiplier.add(S::LANES))];
            let requantize = self.requantize.ready(isa);
            let (mut at, mut to) = (columns, to);
            for _ in 0..count {
                let mut bytes = bias;
                for v in 0..2 {
                    for (group, w) in w[v].iter().enumerate() {
                        let taps = isa.load_bytes(at.add(v * SPAN + group * 4 * S::LANES).cast());
                        bytes[v] = isa.dot_bytes(bytes[v], *w, taps);
                    }
                    bytes[v] = requantize.apply_to_sum(isa.to_f32(bytes[v]), multiplier[v]);
                }
                isa.store_channels(to, bytes, requantize.pack);
                to = to.add(pixel);
                at = at.add(STRIDE * 4 * S::LANES);
            }
        }
    }

    #[inline(always)]
    unsafe fn start<S: Simd>(&self, isa: S, block: usize) -> [S::I; 2] {
        // SAFETY: the bias has `2 * LANES` integers for every block.
        unsafe {
            let bias = self.bias.as_ptr().add(block * 2 * S::LANES);
            [isa.load_i32(bias), isa.load_i32(bias.add(S::LANES))]
        }
    }

    /// One output pixel of any kernel.
    #[inline(always)]
    unsafe fn any<S: Simd>(&self, isa: S, block: usize, source: *const u8, to: *mut u8) {
        // SAFETY: as the caller: every tap lies in the source; weights have two vectors for every group of a block.
        unsafe {
            let vector = self.groups.len() * 4 * S::LANES;
            let mut weights = self.weights.as_ptr().add(block * 2 * vector);
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
                weights = weights.add(4 * S::LANES);
            }
            let requantize = self.requantize.ready(isa);
            let multiplier = self.multiplier.as_ptr().add(block * 2 * S::LANES);
            for (v, sum) in sums.iter_mut().enumerate() {
                let multiplier = isa.load(multiplier.add(v * S::LANES));
                *sum = requantize.apply_to_sum(isa.to_f32(*sum), multiplier);
            }
            if self.windows.channels >= 2 * S::LANES {
                isa.store_channels(to, sums, requantize.pack);
            } else {
                let mut whole = [0u8; 32];
                isa.store_channels(whole.as_mut_ptr(), sums, requantize.pack);
                core::ptr::copy_nonoverlapping(whole.as_ptr(), to, self.windows.channels);
            }
        }
    }
}
