//! Convolutions as matrix products, float and int8.
//!
//! Activations are pixels by channels (NHWC), so a 1×1 convolution *is* the product of activations and weights, with
//! nothing to rearrange; a k×k convolution is the same product whose rows are gathered from the window's taps. One
//! tile therefore serves both: it takes the addresses of a few pixels, walks along their channels, tap by tap, and
//! keeps their sums with two or three vectors of output channels in registers: 6 × 2 natively; in WebAssembly 3 × 3, or
//! 4 × 2, which fit into the fifteen registers that V8 gives out on x86. Weights are packed once, in the order in which tiles read them.
//!
//! Where a depthwise convolution precedes a 1×1, the two run as one: a block of a few dozen pixels goes through the
//! first into a scratch that stays in the nearest cache, and from there through the second.

use core::ops::Range;

use super::depthwise::{DepthwiseF32, DepthwiseI8};
use super::team::{Apart, Team};
use super::{Activation, Isa, Requantize, Requantizer, Simd, Task};

/// Pixels that go through all weights before the next ones do.
const BLOCK_PIXELS: usize = 48;
/// The widest panel of weights: two vectors of the widest instruction set.
const MAX_PANEL: usize = 32;

/// Where the taps of each output pixel's window are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    /// Rows and columns of output pixels.
    pub out_height: usize,
    pub out_width: usize,
    /// Index of the first element of the first window.
    pub origin: usize,
    /// Elements from one output row's windows to the next one's, and from one output pixel's to the next one's.
    pub row_step: usize,
    pub column_step: usize,
    /// Distance of each run of a window from its start.
    pub taps: Vec<usize>,
    /// Elements in each run.
    pub run: usize,
}

impl Window {
    /// One more than the highest index read.
    fn end(&self) -> usize {
        let last = (self.out_height - 1) * self.row_step + (self.out_width - 1) * self.column_step;
        self.origin + last + self.taps.iter().max().unwrap_or(&0) + self.run
    }
}

/// Where output pixels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index of the first channel of the first pixel.
    pub origin: usize,
    /// Elements from row to row and from pixel to pixel.
    pub row: usize,
    pub pixel: usize,
}

impl Target {
    /// One more than the highest index written for `height` by `width` pixels of `channels`.
    pub(super) fn end(&self, height: usize, width: usize, channels: usize) -> usize {
        self.origin + (height - 1) * self.row + (width - 1) * self.pixel + channels
    }
}

/// Float weights in tile order: panels of two or three vectors of output channels (the last one perhaps of one), each with
/// a row for every input element. Lanes beyond the last channel are zero.
#[derive(Debug, Clone)]
pub(crate) struct WeightsF32 {
    lanes: usize,
    inputs: usize,
    outputs: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl WeightsF32 {
    /// Packs `weight(output, input)`, inputs numbered along the taps and runs of the window.
    pub(crate) fn pack(isa: Isa, inputs: usize, bias: &[f32], weight: impl Fn(usize, usize) -> f32) -> WeightsF32 {
        let (lanes, outputs) = (isa.lanes(), bias.len());
        let padded = outputs.next_multiple_of(lanes);
        let mut panels = Vec::with_capacity(padded * inputs);
        for (first, width) in panel_columns(padded, lanes, isa.panel()) {
            for input in 0..inputs {
                panels.extend(
                    (first..first + width).map(|output| if output < outputs { weight(output, input) } else { 0.0 }),
                );
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(padded, 0.0);
        WeightsF32 { lanes, inputs, outputs, panels, bias }
    }
}

/// First column and width of each panel, of `most` vectors (2 or 3) if that leaves no single one over.
fn panel_columns(padded: usize, lanes: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let vectors = match (padded - first) / lanes {
            0 => return None,
            4 => 2,
            left => left.min(most),
        };
        first += vectors * lanes;
        Some((first - vectors * lanes, vectors * lanes))
    })
}

/// A float convolution with bias and activation, perhaps behind a depthwise one.
#[derive(Debug, Clone)]
pub(crate) struct ConvF32 {
    pub window: Window,
    pub weights: WeightsF32,
    pub activation: Activation,
    /// Runs first, block by block; `window` then reads its pixels: one run of all its channels.
    pub depthwise: Option<DepthwiseF32>,
}

impl ConvF32 {
    /// Convolves `source` into `target` of `destination`. `scratch` is grown as needed.
    ///
    /// # Panics
    ///
    /// If an index that will be touched is outside its slice, or the weights are not those of the window.
    pub(crate) fn run(
        &self,
        isa: Isa,
        team: &Team,
        source: &[f32],
        destination: &mut [f32],
        target: Target,
        scratch: &mut Vec<f32>,
    ) {
        let Window { out_height, out_width, ref taps, run, .. } = self.window;
        assert_eq!(self.weights.inputs, taps.len() * run, "weights are for another window");
        assert_eq!(self.weights.lanes, isa.lanes(), "weights are packed for another instruction set");
        assert!(target.end(out_height, out_width, self.weights.outputs) <= destination.len(), "target outside");
        match &self.depthwise {
            None => assert!(self.window.end() <= source.len(), "window outside"),
            Some(depthwise) => {
                depthwise.check(source.len());
                assert!(*taps == [0] && run == depthwise.channels(), "not the depthwise layer's channels");
                let lengthened = BLOCK_PIXELS * run * team.size();
                if scratch.len() < lengthened {
                    scratch.resize(lengthened, 0.0);
                }
            }
        }
        // Each row of pixels and each member's part of the scratch is touched by one member.
        let (destination, scratch) = (Apart::new(destination), Apart::new(scratch));
        team.rows(out_height, |member, rows| {
            let scratch = scratch.get().wrapping_add(member * BLOCK_PIXELS * run);
            isa.run(RunF32 { conv: self, rows, source, destination: destination.get(), target, scratch });
        });
    }
}

struct RunF32<'a> {
    conv: &'a ConvF32,
    rows: Range<usize>,
    source: &'a [f32],
    destination: *mut f32,
    target: Target,
    scratch: *mut f32,
}

/// Index of each pixel of a block, in what is read and in what is written.
struct Block {
    read: [usize; BLOCK_PIXELS],
    write: [usize; BLOCK_PIXELS],
    count: usize,
}

/// The output pixels of `rows` in blocks, each block's parts of rows given to `depthwise(y, x, count, first in block)` if there is
/// one.
#[inline(always)]
fn blocks(
    window: &Window,
    rows: Range<usize>,
    target: Target,
    scratch_pixel: Option<usize>,
    mut depthwise: impl FnMut(usize, usize, usize, usize),
    mut run: impl FnMut(&Block),
) {
    let mut block = Block { read: [0; BLOCK_PIXELS], write: [0; BLOCK_PIXELS], count: 0 };
    for y in rows {
        let mut x = 0;
        while x < window.out_width {
            let count = (window.out_width - x).min(BLOCK_PIXELS - block.count);
            for i in 0..count {
                block.read[block.count + i] = match scratch_pixel {
                    Some(pixel) => (block.count + i) * pixel,
                    None => window.origin + y * window.row_step + (x + i) * window.column_step,
                };
                block.write[block.count + i] = target.origin + y * target.row + (x + i) * target.pixel;
            }
            depthwise(y, x, count, block.count);
            block.count += count;
            x += count;
            if block.count == BLOCK_PIXELS {
                run(&block);
                block.count = 0;
            }
        }
    }
    if block.count > 0 {
        run(&block);
    }
}

impl Task for RunF32<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let RunF32 { conv, rows, source, destination, target, scratch } = self;
        let source = source.as_ptr();
        let pixel = conv.depthwise.as_ref().map(DepthwiseF32::channels);
        let read_from = if pixel.is_some() { scratch.cast_const() } else { source };
        blocks(
            &conv.window,
            rows,
            target,
            pixel,
            #[inline(always)]
            |y, x, count, first| {
                if let Some(depthwise) = &conv.depthwise {
                    // SAFETY: `ConvF32::run` checked the depthwise windows against the source and made the scratch long
                    // enough for a block.
                    unsafe {
                        let to = scratch.add(first * depthwise.channels());
                        depthwise.pixels::<S>(source, y, x, count, to, depthwise.channels());
                    }
                }
            },
            #[inline(always)]
            |block| {
                // SAFETY: `ConvF32::run` checked that every window and every target pixel lies inside.
                unsafe { block_f32::<S>(conv, read_from, destination, block) }
            },
        );
    }
}

/// # Safety
///
/// Inside `vectorize`; the windows at the block's indices are readable, its target pixels writable.
#[inline(always)]
unsafe fn block_f32<S: Simd>(conv: &ConvF32, source: *const f32, destination: *mut f32, block: &Block) {
    let weights = &conv.weights;
    let mut panel = weights.panels.as_ptr();
    for (first, width) in panel_columns(weights.bias.len(), S::LANES, S::PANEL) {
        let columns = width.min(weights.outputs - first);
        // SAFETY: the panels have `inputs` rows of `width` floats each, one panel after the other, and the bias is as
        // long as all panels are wide.
        unsafe {
            let bias = weights.bias.as_ptr().add(first);
            let to = destination.add(first);
            if width == S::LANES {
                S::vectorize(
                    #[inline(always)]
                    || panel_f32::<S, 1>(conv, source, to, block, panel, bias, columns),
                );
            } else if S::PANEL == 3 && width == 3 * S::LANES {
                S::vectorize(
                    #[inline(always)]
                    || panel_f32::<S, 3>(conv, source, to, block, panel, bias, columns),
                );
            } else {
                S::vectorize(
                    #[inline(always)]
                    || panel_f32::<S, 2>(conv, source, to, block, panel, bias, columns),
                );
            }
            panel = panel.add(weights.inputs * width);
        }
    }
}

/// # Safety
///
/// As [`block_f32`], with `V` vectors of weights in each row at `panel`, of which `columns` columns are real.
#[inline(always)]
unsafe fn panel_f32<S: Simd, const V: usize>(
    conv: &ConvF32,
    source: *const f32,
    destination: *mut f32,
    block: &Block,
    panel: *const f32,
    bias: *const f32,
    columns: usize,
) {
    let mut i = 0;
    while i < block.count {
        let rows = (block.count - i).min(if V == 3 { 3 } else { S::ROWS });
        // SAFETY: by this function's condition. Rows beyond the block's end repeat its last pixel and are not stored.
        unsafe {
            if rows == 1 {
                tile_f32::<S, 1, V>(conv, source, destination, block, i, rows, panel, bias, columns);
            } else if V == 3 {
                tile_f32::<S, 3, V>(conv, source, destination, block, i, rows, panel, bias, columns);
            } else if S::ROWS == 4 {
                tile_f32::<S, 4, V>(conv, source, destination, block, i, rows, panel, bias, columns);
            } else {
                tile_f32::<S, 6, V>(conv, source, destination, block, i, rows, panel, bias, columns);
            }
        }
        i += rows;
    }
}

/// # Safety
///
/// As [`panel_f32`]; `first + rows` is at most the block's count.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "registers of the innermost loop, not an interface")]
unsafe fn tile_f32<S: Simd, const R: usize, const V: usize>(
    conv: &ConvF32,
    source: *const f32,
    destination: *mut f32,
    block: &Block,
    first: usize,
    rows: usize,
    panel: *const f32,
    bias: *const f32,
    columns: usize,
) {
    // SAFETY: by this function's condition, and all indices below stay inside what it names.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        for v in 0..V {
            let bias = S::load(bias.add(v * S::LANES));
            for row in &mut sums {
                row[v] = bias;
            }
        }
        let mut starts = [source; R];
        for (r, start) in starts.iter_mut().enumerate() {
            *start = source.add(*block.read.as_ptr().add(first + r.min(rows - 1)));
        }
        let mut weights = panel;
        let run = conv.window.run;
        for &tap in &conv.window.taps {
            let mut at = starts;
            for start in &mut at {
                *start = start.add(tap);
            }
            // One step a turn: unrolled, LLVM sorts the steps by sum, and the sums no longer fit into the registers.
            for _ in 0..run {
                step_f32::<S, R, V>(&mut sums, &at, weights);
                weights = weights.add(V * S::LANES);
                for start in &mut at {
                    *start = start.add(1);
                }
            }
        }
        // The cheap activation in registers, the others once the tile is stored: they would be unrolled for every
        // tile shape otherwise.
        if let Activation::Clamp { .. } = conv.activation {
            for row in &mut sums {
                *row = conv.activation.apply::<S, V>(*row);
            }
            // The usual tile by itself: its stores ask nothing.
            if rows == R && columns == V * S::LANES {
                for (r, row) in sums.iter().enumerate() {
                    let to = destination.add(*block.write.as_ptr().add(first + r));
                    for (v, sum) in row.iter().enumerate() {
                        S::store(to.add(v * S::LANES), *sum);
                    }
                }
                return;
            }
        }
        for (r, row) in sums.iter().enumerate().take(rows) {
            let to = destination.add(block.write[first + r]);
            if columns == V * S::LANES {
                for (v, sum) in row.iter().enumerate() {
                    S::store(to.add(v * S::LANES), *sum);
                }
            } else {
                let mut whole = [0.0f32; MAX_PANEL];
                for (v, sum) in row.iter().enumerate() {
                    S::store(whole.as_mut_ptr().add(v * S::LANES), *sum);
                }
                core::ptr::copy_nonoverlapping(whole.as_ptr(), to, columns);
            }
        }
        if !matches!(conv.activation, Activation::Clamp { .. }) {
            for r in 0..rows {
                let to = destination.add(block.write[first + r]);
                activate::<S>(conv.activation, core::slice::from_raw_parts_mut(to, columns));
            }
        }
    }
}

#[inline(always)]
unsafe fn step_f32<S: Simd, const R: usize, const V: usize>(
    sums: &mut [[S::F; V]; R],
    at: &[*const f32; R],
    weights: *const f32,
) {
    // SAFETY: the caller has `V` vectors of weights and a float at each row.
    unsafe {
        let mut w = [S::splat(0.0); V];
        for (v, w) in w.iter_mut().enumerate() {
            *w = S::load(weights.add(v * S::LANES));
        }
        for r in 0..R {
            let a = S::load_splat(at[r]);
            for v in 0..V {
                sums[r][v] = S::mul_add(a, w[v], sums[r][v]);
            }
        }
    }
}

/// Applies an activation in place.
///
/// # Safety
///
/// Inside `vectorize`.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(activation: Activation, values: &mut [f32]) {
    let mut chunks = values.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        // SAFETY: a chunk has LANES floats.
        unsafe {
            let [y] = activation.apply::<S, 1>([S::load(chunk.as_ptr())]);
            S::store(chunk.as_mut_ptr(), y);
        }
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        // Through a whole vector, so that a value's result does not depend on where in a row it is.
        let mut whole = [0.0f32; MAX_PANEL];
        whole[..tail.len()].copy_from_slice(tail);
        // SAFETY: `whole` holds at least LANES floats.
        unsafe {
            let [y] = activation.apply::<S, 1>([S::load(whole.as_ptr())]);
            S::store(whole.as_mut_ptr(), y);
        }
        tail.copy_from_slice(&whole[..tail.len()]);
    }
}

/// Int8 weights in tile order: as [`WeightsF32`], but four input elements at a time, which one instruction multiplies
/// with four activations. Each run of the window is filled up with zeros to a multiple of four; the activations read
/// beside a run's end therefore do not count.
#[derive(Debug, Clone)]
pub(crate) struct WeightsI8 {
    isa: Isa,
    run: usize,
    taps: usize,
    outputs: usize,
    panels: Vec<i8>,
    /// Start of each sum: bias, less the activations' zero point times the weights.
    bias: Vec<i32>,
    /// What each sum is multiplied with.
    multiplier: Vec<f32>,
}

impl WeightsI8 {
    /// Packs `weight(output, tap, element of the run)`. `zero` is the zero point of the activations.
    pub(crate) fn pack(
        isa: Isa,
        (taps, run): (usize, usize),
        zero: i32,
        bias: &[i32],
        multiplier: &[f32],
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> WeightsI8 {
        struct Pack<'a, W> {
            taps: usize,
            run: usize,
            outputs: usize,
            weight: &'a W,
        }
        impl<W: Fn(usize, usize, usize) -> i8> Task for Pack<'_, W> {
            type Output = Vec<i8>;
            unsafe fn run<S: Simd>(self) -> Vec<i8> {
                let groups = self.run.div_ceil(4);
                let padded = self.outputs.next_multiple_of(S::LANES);
                let vector = 4 * S::LANES;
                let mut panels = vec![0; self.taps * groups * 4 * padded];
                let mut at = 0;
                for (first, width) in panel_columns(padded, S::LANES, 2) {
                    for tap in 0..self.taps {
                        for group in 0..groups {
                            for column in (0..width).step_by(S::LANES) {
                                for lane in 0..S::LANES.min(self.outputs.saturating_sub(first + column)) {
                                    for k in 0..4.min(self.run - group * 4) {
                                        panels[at + S::weight_index(lane, k)] =
                                            (self.weight)(first + column + lane, tap, group * 4 + k);
                                    }
                                }
                                at += vector;
                            }
                        }
                    }
                }
                panels
            }
        }
        assert_eq!(bias.len(), multiplier.len(), "one multiplier an output channel");
        let (outputs, padded) = (bias.len(), bias.len().next_multiple_of(isa.lanes()));
        let panels = isa.run(Pack { taps, run, outputs, weight: &weight });
        let mut starts: Vec<i32> = bias
            .iter()
            .enumerate()
            .map(|(output, &bias)| {
                let sum: i32 = (0..taps)
                    .flat_map(|tap| (0..run).map(move |k| (tap, k)))
                    .map(|(t, k)| i32::from(weight(output, t, k)))
                    .sum();
                bias.wrapping_sub(zero.wrapping_mul(sum))
            })
            .collect();
        starts.resize(padded, 0);
        let mut multiplier = multiplier.to_vec();
        multiplier.resize(padded, 0.0);
        WeightsI8 { isa, run, taps, outputs, panels, bias: starts, multiplier }
    }
}

/// An int8 convolution, perhaps behind a depthwise one. Activations are bytes in `0..=127`.
#[derive(Debug, Clone)]
pub(crate) struct ConvI8 {
    pub window: Window,
    pub weights: WeightsI8,
    /// Runs first, block by block; `window` then reads its pixels: one run of all its channels.
    pub depthwise: Option<DepthwiseI8>,
}

/// What becomes of an int8 convolution's sums.
pub(crate) enum SinkI8<'a> {
    /// Bytes again.
    U8(Requantize, &'a mut [u8]),
    /// Floats, multiplied with the channel's multiplier and then activated.
    F32(Activation, &'a mut [f32]),
}

impl ConvI8 {
    /// Convolves `source` into `target` of `sink`. `scratch` is grown as needed.
    ///
    /// # Panics
    ///
    /// If an index that will be touched is outside its slice, or the weights are not those of the window.
    pub(crate) fn run(
        &self,
        isa: Isa,
        team: &Team,
        source: &[u8],
        sink: SinkI8<'_>,
        target: Target,
        scratch: &mut Vec<u8>,
    ) {
        let Window { out_height, out_width, ref taps, run, .. } = self.window;
        assert!(self.weights.taps == taps.len() && self.weights.run == run, "weights are for another window");
        assert_eq!(self.weights.isa, isa, "weights are packed for another instruction set");
        let end = target.end(out_height, out_width, self.weights.outputs);
        let length = match &sink {
            SinkI8::U8(_, to) => to.len(),
            SinkI8::F32(_, to) => to.len(),
        };
        assert!(end <= length, "target outside");
        match &self.depthwise {
            // Up to three bytes beside the last run are read, too.
            None => assert!(self.window.end() + 3 <= source.len(), "window outside"),
            Some(depthwise) => {
                depthwise.check(isa, source.len());
                assert!(*taps == [0] && run == depthwise.channels(), "not the depthwise layer's channels");
                let lengthened = self.scratch() * team.size();
                if scratch.len() < lengthened {
                    scratch.resize(lengthened, 0);
                }
            }
        }
        // Each row of pixels and each member's part of the scratch is touched by one member.
        let scratch = Apart::new(scratch);
        let scratch = |member: usize| scratch.get().wrapping_add(member * self.scratch());
        match sink {
            SinkI8::U8(requantize, to) => {
                let to = Apart::new(to);
                team.rows(out_height, |member, rows| {
                    let store = StoreU8 { requantize, to: to.get() };
                    isa.run(RunI8 { conv: self, rows, source, store, target, scratch: scratch(member) });
                });
            }
            SinkI8::F32(activation, to) => {
                let to = Apart::new(to);
                team.rows(out_height, |member, rows| {
                    let store = StoreF32 { activation, to: to.get() };
                    isa.run(RunI8 { conv: self, rows, source, store, target, scratch: scratch(member) });
                });
            }
        }
    }

    /// Bytes of scratch for one member, with those that are read beside the last run.
    fn scratch(&self) -> usize {
        BLOCK_PIXELS * self.window.run + 3
    }
}

/// Where a tile's sums go.
trait Store: Copy {
    /// What it keeps in registers from tile to tile.
    type Ready<S: Simd>: Copy;
    /// Makes it.
    ///
    /// # Safety
    ///
    /// Inside `vectorize`.
    unsafe fn ready<S: Simd>(self) -> Self::Ready<S>;
    /// Stores `columns` of the `V` vectors at element `at`.
    ///
    /// # Safety
    ///
    /// Inside `vectorize`; that many elements there are writable.
    unsafe fn store<S: Simd, const V: usize>(
        self,
        ready: &Self::Ready<S>,
        at: usize,
        sums: [S::F; V],
        multiplier_and_columns: ([S::F; V], usize),
    );
}

#[derive(Clone, Copy)]
struct StoreU8 {
    requantize: Requantize,
    to: *mut u8,
}

impl Store for StoreU8 {
    type Ready<S: Simd> = Requantizer<S>;
    #[inline(always)]
    unsafe fn ready<S: Simd>(self) -> Requantizer<S> {
        // SAFETY: inside `vectorize`, as the caller is.
        unsafe { self.requantize.ready::<S>() }
    }
    #[inline(always)]
    unsafe fn store<S: Simd, const V: usize>(
        self,
        ready: &Self::Ready<S>,
        at: usize,
        sums: [S::F; V],
        (multiplier, columns): ([S::F; V], usize),
    ) {
        // SAFETY: by the trait's condition.
        unsafe {
            let mut bytes = [S::splat_i32(0); 2];
            for (v, (byte, sum)) in bytes.iter_mut().zip(sums).enumerate() {
                *byte = ready.apply_to_sum(sum, multiplier[v]);
            }
            let to = self.to.add(at);
            if columns == 2 * S::LANES {
                S::store_u8(to, bytes, ready.pack);
            } else {
                let mut whole = [0u8; MAX_PANEL];
                S::store_u8(whole.as_mut_ptr(), bytes, ready.pack);
                core::ptr::copy_nonoverlapping(whole.as_ptr(), to, columns);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct StoreF32 {
    activation: Activation,
    to: *mut f32,
}

impl Store for StoreF32 {
    type Ready<S: Simd> = ();
    #[inline(always)]
    unsafe fn ready<S: Simd>(self) {}
    #[inline(always)]
    unsafe fn store<S: Simd, const V: usize>(
        self,
        _ready: &(),
        at: usize,
        sums: [S::F; V],
        (multiplier, columns): ([S::F; V], usize),
    ) {
        // SAFETY: by the trait's condition.
        unsafe {
            let mut whole = [0.0f32; MAX_PANEL];
            for (v, sum) in sums.iter().enumerate() {
                let y = S::mul(*sum, multiplier[v]);
                S::store(whole.as_mut_ptr().add(v * S::LANES), y);
            }
            activate::<S>(self.activation, &mut whole[..V * S::LANES]);
            core::ptr::copy_nonoverlapping(whole.as_ptr(), self.to.add(at), columns);
        }
    }
}

struct RunI8<'a, T> {
    conv: &'a ConvI8,
    rows: Range<usize>,
    source: &'a [u8],
    store: T,
    target: Target,
    scratch: *mut u8,
}

impl<T: Store> Task for RunI8<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let RunI8 { conv, rows, source, store, target, scratch } = self;
        let source = source.as_ptr();
        let pixel = conv.depthwise.as_ref().map(DepthwiseI8::channels);
        let read_from = if pixel.is_some() { scratch.cast_const() } else { source };
        blocks(
            &conv.window,
            rows,
            target,
            pixel,
            #[inline(always)]
            |y, x, count, first| {
                if let Some(depthwise) = &conv.depthwise {
                    // SAFETY: `ConvI8::run` checked the depthwise windows against the source and made the scratch long
                    // enough for a block.
                    unsafe {
                        let to = scratch.add(first * depthwise.channels());
                        depthwise.pixels::<S>(source, y, x, count, to, depthwise.channels());
                    }
                }
            },
            #[inline(always)]
            |block| {
                // SAFETY: `ConvI8::run` checked that every window and every target pixel lies inside.
                unsafe { block_i8::<S, T>(conv, read_from, store, block) }
            },
        );
    }
}

/// # Safety
///
/// Inside `vectorize`; the windows at the block's indices are readable with three bytes more, its target pixels
/// writable.
#[inline(always)]
unsafe fn block_i8<S: Simd, T: Store>(conv: &ConvI8, source: *const u8, store: T, block: &Block) {
    let weights = &conv.weights;
    let inputs = weights.taps * weights.run.next_multiple_of(4);
    let mut panel = weights.panels.as_ptr();
    for (first, width) in panel_columns(weights.bias.len(), S::LANES, 2) {
        let columns = width.min(weights.outputs - first);
        // SAFETY: by this function's condition; the panels have `inputs` rows of `width` bytes each, one panel after the
        // other.
        unsafe {
            if width == S::LANES {
                S::vectorize(
                    #[inline(always)]
                    || panel_i8::<S, T, 1>(conv, source, store, block, panel, (first, columns)),
                );
            } else {
                S::vectorize(
                    #[inline(always)]
                    || panel_i8::<S, T, 2>(conv, source, store, block, panel, (first, columns)),
                );
            }
        }
        // SAFETY: the next panel starts where this one ends.
        panel = unsafe { panel.add(inputs * width) };
    }
}

/// # Safety
///
/// As [`block_i8`], with `V` vectors of weights in each row at `panel`, for `columns` real columns from `first` on.
#[inline(always)]
unsafe fn panel_i8<S: Simd, T: Store, const V: usize>(
    conv: &ConvI8,
    source: *const u8,
    store: T,
    block: &Block,
    panel: *const i8,
    (first, columns): (usize, usize),
) {
    // SAFETY: inside `vectorize`.
    let ready = unsafe { store.ready::<S>() };
    let mut i = 0;
    while i < block.count {
        let rows = (block.count - i).min(S::I8_ROWS);
        let tile = Tile { conv, source, block, i, rows, panel, first, columns };
        // SAFETY: by this function's condition. Rows beyond the block's end repeat its last pixel and are not stored.
        unsafe {
            if rows == 1 {
                tile.run::<S, T, 1, V>(store, &ready);
            } else if S::I8_ROWS == 4 {
                tile.run::<S, T, 4, V>(store, &ready);
            } else {
                tile.run::<S, T, 6, V>(store, &ready);
            }
        }
        i += rows;
    }
}

struct Tile<'a> {
    conv: &'a ConvI8,
    source: *const u8,
    block: &'a Block,
    i: usize,
    rows: usize,
    panel: *const i8,
    first: usize,
    columns: usize,
}

impl Tile<'_> {
    /// # Safety
    ///
    /// As [`block_i8`]; `R` is at least `rows`, and the panel is `V` vectors wide.
    #[inline(always)]
    unsafe fn run<S: Simd, T: Store, const R: usize, const V: usize>(self, store: T, ready: &T::Ready<S>) {
        let Tile { conv, source, block, i, rows, panel, first, columns } = self;
        // SAFETY: by this function's condition, and all indices below stay inside what it names.
        unsafe {
            let mut sums = [[S::splat_i32(0); V]; R];
            for v in 0..V {
                let bias = S::load_i32(conv.weights.bias.as_ptr().add(first + v * S::LANES));
                for row in &mut sums {
                    row[v] = bias;
                }
            }
            let mut starts = [source; R];
            for (r, start) in starts.iter_mut().enumerate() {
                *start = source.add(*block.read.as_ptr().add(i + r.min(rows - 1)));
            }
            let mut weights = panel;
            let groups = conv.window.run.div_ceil(4);
            for &tap in &conv.window.taps {
                let mut at = starts;
                for start in &mut at {
                    *start = start.add(tap);
                }
                // One step a turn, as in the float tile.
                for _ in 0..groups {
                    step_i8::<S, R, V>(&mut sums, &at, weights);
                    weights = weights.add(4 * V * S::LANES);
                    for start in &mut at {
                        *start = start.add(4);
                    }
                }
            }
            let mut multiplier = [S::splat(0.0); V];
            for (v, multiplier) in multiplier.iter_mut().enumerate() {
                *multiplier = S::load(conv.weights.multiplier.as_ptr().add(first + v * S::LANES));
            }
            // The usual tile by itself: its stores ask nothing.
            if rows == R && columns == V * S::LANES {
                for (r, row) in sums.iter().enumerate() {
                    let mut floats = [S::splat(0.0); V];
                    for v in 0..V {
                        floats[v] = S::to_f32(row[v]);
                    }
                    let at = *block.write.as_ptr().add(i + r) + first;
                    store.store::<S, V>(ready, at, floats, (multiplier, V * S::LANES));
                }
                return;
            }
            for (r, row) in sums.iter().enumerate().take(rows) {
                let mut floats = [S::splat(0.0); V];
                for v in 0..V {
                    floats[v] = S::to_f32(row[v]);
                }
                store.store::<S, V>(ready, block.write[i + r] + first, floats, (multiplier, columns));
            }
        }
    }
}

#[inline(always)]
unsafe fn step_i8<S: Simd, const R: usize, const V: usize>(
    sums: &mut [[S::I; V]; R],
    at: &[*const u8; R],
    weights: *const i8,
) {
    // SAFETY: the caller has `V` vectors of weights and four bytes at each row.
    unsafe {
        let mut w = [S::load_weights(weights); V];
        for (v, w) in w.iter_mut().enumerate().skip(1) {
            *w = S::load_weights(weights.add(v * 4 * S::LANES));
        }
        for r in 0..R {
            let a = S::load_activations(at[r]);
            for v in 0..V {
                sums[r][v] = S::dot(sums[r][v], w[v], a);
            }
        }
    }
}
