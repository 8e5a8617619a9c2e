//! Convolutions as matrix products, float and int8.
//!
//! Activations are NHWC, so a 1×1 convolution *is* the product of activations and weights, without any rearrangement. A
//! k×k convolution is the same product with rows gathered from the taps of the window. Both use the tiles of `tile.rs`,
//! which take the addresses of a few pixels and loop over their channels, tap by tap. Weights are packed once, in the
//! order in which tiles read them.
//!
//! A depthwise convolution and the 1×1 convolution after it run as one operator. The first writes a block of a few
//! dozen pixels into a buffer that stays in the L1 cache, and the second reads it from there.

use super::activation::{Activation, activate};
use super::depthwise::{DepthwiseF32, DepthwiseI8, PixelRun};
use super::image::{Hw, PixelLayout, Shape};
use super::isa::{Isa, Task};
use super::operations::Simd;
use super::quantize::{Requantize, Requantizer};
use super::thread_pool::{SendPtr, ThreadPool};
use super::tile::{BLOCK_PIXELS, Im2col, Product, Run, panel_columns};

/// Float weights in tile order: panels of a few vectors of output channels, each with one row per input element. Lanes
/// after the last channel are zero.
#[derive(Debug, Clone)]
pub(crate) struct WeightsF32 {
    lanes: usize,
    inputs: usize,
    outputs: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl WeightsF32 {
    /// Packs `weight(output, input)`. Inputs are numbered along the taps and runs of the window.
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

/// A float convolution with bias and activation, with an optional depthwise convolution before it.
#[derive(Debug, Clone)]
pub(crate) struct ConvF32 {
    pub window: Im2col,
    pub weights: WeightsF32,
    pub activation: Activation,
    /// Runs first, block by block. `window` then reads its pixels as one run of all channels.
    pub depthwise: Option<DepthwiseF32>,
}

impl ConvF32 {
    /// Convolves `source` into `target` of `destination`. `scratch` is grown as needed.
    ///
    /// # Panics
    ///
    /// If an index that the run accesses is outside its slice, or the weights do not match the window.
    pub(crate) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        source: &[f32],
        destination: &mut [f32],
        target: PixelLayout,
        scratch: &mut Vec<f32>,
    ) {
        let Im2col { output: Hw { height, width }, ref taps, run, .. } = self.window;
        assert_eq!(self.weights.inputs, taps.len() * run, "weights are for another window");
        assert_eq!(self.weights.lanes, isa.lanes(), "weights are packed for another instruction set");
        let end = target.end(Shape { height, width, channels: self.weights.outputs });
        assert!(end <= destination.len(), "target outside");
        match &self.depthwise {
            None => assert!(self.window.end() <= source.len(), "window outside"),
            Some(depthwise) => {
                depthwise.check(source.len());
                assert!(*taps == [0] && run == depthwise.channels(), "not the depthwise layer's channels");
                assert_eq!(self.window.output, depthwise.size(), "not the depthwise layer's pixels");
                let lengthened = BLOCK_PIXELS * run * pool.threads();
                if scratch.len() < lengthened {
                    scratch.resize(lengthened, 0.0);
                }
            }
        }
        // Each row of pixels and each thread's part of the scratch is accessed by one thread.
        let (destination, scratch) = (SendPtr::new(destination), SendPtr::new(scratch));
        pool.run_rows(height, |thread, rows| {
            let scratch = scratch.get().wrapping_add(thread * BLOCK_PIXELS * run);
            let product = ProductF32 { conv: self, to: destination.get() };
            // SAFETY: `run` checked all windows and pixels, and the scratch has a block of pixels for each thread.
            isa.run(unsafe { Run::new(product, rows, source.as_ptr(), target, scratch) });
        });
    }
}

/// [`Product`] of floats.
#[derive(Clone, Copy)]
struct ProductF32<'a> {
    conv: &'a ConvF32,
    to: *mut f32,
}

impl Product for ProductF32<'_> {
    type In = f32;
    type Weight = f32;
    type Out = f32;
    const GROUP: usize = 1;
    type Sum<S: Simd> = S::F;
    type Weights<S: Simd> = S::F;
    type Activations<S: Simd> = S::F;
    type Ready<S: Simd> = ();

    fn window(&self) -> &Im2col {
        &self.conv.window
    }
    fn between(&self) -> Option<usize> {
        self.conv.depthwise.as_ref().map(DepthwiseF32::channels)
    }
    fn outputs(&self) -> usize {
        self.conv.weights.outputs
    }
    fn panels(&self) -> *const f32 {
        self.conv.weights.panels.as_ptr()
    }
    fn to(&self) -> *mut f32 {
        self.to
    }

    #[inline(always)]
    unsafe fn depthwise<S: Simd>(
        &self,
        isa: S,
        source: *const f32,
        y: usize,
        x: usize,
        count: usize,
        to: *mut f32,
    ) {
        if let Some(depthwise) = &self.conv.depthwise {
            // SAFETY: by the trait's condition.
            unsafe { depthwise.pixels(isa, PixelRun { source, y, x, count, to, pixel: depthwise.channels() }) };
        }
    }
    #[inline(always)]
    unsafe fn start<S: Simd>(&self, isa: S, channel: usize) -> S::F {
        // SAFETY: the bias is filled up to whole vectors.
        unsafe { isa.load(self.conv.weights.bias.as_ptr().add(channel)) }
    }
    #[inline(always)]
    unsafe fn weights<S: Simd>(isa: S, p: *const f32) -> S::F {
        // SAFETY: by the trait's condition.
        unsafe { isa.load(p) }
    }
    #[inline(always)]
    unsafe fn activations<S: Simd>(isa: S, p: *const f32) -> S::F {
        // SAFETY: by the trait's condition.
        unsafe { isa.load_splat(p) }
    }
    #[inline(always)]
    fn multiply<S: Simd>(isa: S, sum: S::F, w: S::F, a: S::F) -> S::F {
        isa.mul_add(a, w, sum)
    }
    #[inline(always)]
    fn ready<S: Simd>(&self, _isa: S) {}
    #[inline(always)]
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        isa: S,
        (): &(),
        _channel: usize,
        sums: [[S::F; V]; R],
        to: [*mut f32; R],
    ) {
        // SAFETY: by the trait's condition.
        unsafe { store_activated(isa, self.conv.activation, sums, to) };
    }
}

/// Stores a tile's pixels after the activation. A cheap activation is applied in registers, others in place, because
/// they would otherwise be unrolled for every shape of tile.
///
/// # Safety
///
/// `V * LANES` floats are writable at each place.
#[inline(always)]
unsafe fn store_activated<S: Simd, const R: usize, const V: usize>(
    isa: S,
    activation: Activation,
    pixels: [[S::F; V]; R],
    to: [*mut f32; R],
) {
    // SAFETY: by this function's condition.
    unsafe {
        let clamps = matches!(activation, Activation::Clamp { .. });
        for (pixel, to) in pixels.iter().zip(&to) {
            let pixel = if clamps { activation.apply(isa, *pixel) } else { *pixel };
            for (v, value) in pixel.iter().enumerate() {
                isa.store(to.add(v * S::LANES), *value);
            }
        }
        if !clamps {
            for to in to {
                activate(isa, activation, core::slice::from_raw_parts_mut(to, V * S::LANES));
            }
        }
    }
}

/// Int8 weights in tile order: as [`WeightsF32`], but in groups of four input elements, which one instruction
/// multiplies by four activations. Each run of the window is padded with zeros to a multiple of four, so that
/// activations read beyond a run's end have no effect.
#[derive(Debug, Clone)]
pub(crate) struct WeightsI8 {
    isa: Isa,
    run: usize,
    taps: usize,
    outputs: usize,
    panels: Vec<i8>,
    /// The start of each sum: the bias, minus the activations' zero point times the weights.
    bias: Vec<i32>,
    /// The multiplier of each sum.
    multiplier: Vec<f32>,
}

impl WeightsI8 {
    /// Packs `weight(output, tap, element of the run)`. `zero` is the zero point of the activations.
    pub(crate) fn pack(
        isa: Isa,
        taps: usize,
        run: usize,
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
            fn run<S: Simd>(self, _: S) -> Vec<i8> {
                let groups = self.run.div_ceil(4);
                let padded = self.outputs.next_multiple_of(S::LANES);
                let vector = 4 * S::LANES;
                let mut panels = vec![0; self.taps * groups * 4 * padded];
                let mut at = 0;
                for (first, width) in panel_columns(padded, S::LANES, S::PANEL) {
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

/// An int8 convolution, with an optional depthwise convolution before it. Activations are bytes in `0..=127`.
#[derive(Debug, Clone)]
pub(crate) struct ConvI8 {
    pub window: Im2col,
    pub weights: WeightsI8,
    /// Runs first, block by block. `window` then reads its pixels as one run of all channels.
    pub depthwise: Option<DepthwiseI8>,
}

/// The type of the results of an int8 convolution, without their destination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OutputI8 {
    /// Requantised to bytes.
    Requantized(Requantize),
    /// Floats: multiplied by the channel's multiplier, then activated.
    Activated(Activation),
}

/// The type and the destination of the results of an int8 convolution.
pub(crate) enum SinkI8<'a> {
    /// Requantised to bytes.
    U8(Requantize, &'a mut [u8]),
    /// Floats: multiplied by the channel's multiplier, then activated.
    F32(Activation, &'a mut [f32]),
}

impl ConvI8 {
    /// Convolves `source` into `target` of `sink`. `scratch` is grown as needed.
    ///
    /// # Panics
    ///
    /// If an index that the run accesses is outside its slice, or the weights do not match the window.
    pub(crate) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        source: &[u8],
        sink: SinkI8<'_>,
        target: PixelLayout,
        scratch: &mut Vec<u8>,
    ) {
        let Im2col { output: Hw { height, width }, ref taps, run, .. } = self.window;
        assert!(self.weights.taps == taps.len() && self.weights.run == run, "weights are for another window");
        assert_eq!(self.weights.isa, isa, "weights are packed for another instruction set");
        let end = target.end(Shape { height, width, channels: self.weights.outputs });
        let length = match &sink {
            SinkI8::U8(_, to) => to.len(),
            SinkI8::F32(_, to) => to.len(),
        };
        assert!(end <= length, "target outside");
        match &self.depthwise {
            // Up to three bytes after the last run are also read.
            None => assert!(self.window.end() + 3 <= source.len(), "window outside"),
            Some(depthwise) => {
                depthwise.check(isa, source.len());
                assert!(*taps == [0] && run == depthwise.channels(), "not the depthwise layer's channels");
                assert_eq!(self.window.output, depthwise.size(), "not the depthwise layer's pixels");
                let lengthened = self.scratch() * pool.threads();
                if scratch.len() < lengthened {
                    scratch.resize(lengthened, 0);
                }
            }
        }
        // Each row of pixels and each thread's part of the scratch is accessed by one thread.
        let scratch = SendPtr::new(scratch);
        let scratch = |thread: usize| scratch.get().wrapping_add(thread * self.scratch());
        match sink {
            SinkI8::U8(requantize, to) => {
                let to = SendPtr::new(to);
                pool.run_rows(height, |thread, rows| {
                    let product = ProductI8 { conv: self, sink: requantize, to: to.get() };
                    // SAFETY: `run` checked all windows and pixels, and the scratch has a block of pixels for each thread.
                    isa.run(unsafe { Run::new(product, rows, source.as_ptr(), target, scratch(thread)) });
                });
            }
            SinkI8::F32(activation, to) => {
                let to = SendPtr::new(to);
                pool.run_rows(height, |thread, rows| {
                    let product = ProductI8 { conv: self, sink: activation, to: to.get() };
                    // SAFETY: `run` checked all windows and pixels, and the scratch has a block of pixels for each thread.
                    isa.run(unsafe { Run::new(product, rows, source.as_ptr(), target, scratch(thread)) });
                });
            }
        }
    }

    /// Bytes of scratch for one thread, including those that are read after the last run.
    fn scratch(&self) -> usize {
        BLOCK_PIXELS * self.window.run + 3
    }
}

/// [`Product`] of bytes.
#[derive(Clone, Copy)]
struct ProductI8<'a, K: Sink> {
    conv: &'a ConvI8,
    sink: K,
    to: *mut K::Out,
}

/// How the sums of an int8 convolution are stored.
trait Sink: Copy {
    type Out: Copy + Default;
    /// Values that stay in registers from tile to tile.
    type Ready<S: Simd>: Copy;
    fn ready<S: Simd>(self, isa: S) -> Self::Ready<S>;
    /// Stores a tile's sums, multiplied by the multiplier of each channel.
    ///
    /// # Safety
    ///
    /// `V * LANES` elements are writable at each place.
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        self,
        isa: S,
        ready: &Self::Ready<S>,
        sums: [[S::F; V]; R],
        multipliers: [S::F; V],
        to: [*mut Self::Out; R],
    );
}

impl Sink for Requantize {
    type Out = u8;
    type Ready<S: Simd> = Requantizer<S>;
    #[inline(always)]
    fn ready<S: Simd>(self, isa: S) -> Requantizer<S> {
        Requantize::ready(self, isa)
    }
    #[inline(always)]
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        self,
        isa: S,
        ready: &Requantizer<S>,
        sums: [[S::F; V]; R],
        multipliers: [S::F; V],
        to: [*mut u8; R],
    ) {
        // SAFETY: by the trait's condition.
        unsafe {
            if ready.leaks {
                store_requantized::<S, R, V, true>(isa, ready, sums, multipliers, to);
            } else {
                store_requantized::<S, R, V, false>(isa, ready, sums, multipliers, to);
            }
        }
    }
}

/// Stores a tile's pixels, requantised. `LEAKS` is a constant, so that there is no branch per vector.
///
/// # Safety
///
/// `V * LANES` bytes are writable at each place.
#[inline(always)]
unsafe fn store_requantized<S: Simd, const R: usize, const V: usize, const LEAKS: bool>(
    isa: S,
    ready: &Requantizer<S>,
    sums: [[S::F; V]; R],
    multipliers: [S::F; V],
    to: [*mut u8; R],
) {
    // SAFETY: by this function's condition.
    unsafe {
        for (sums, to) in sums.iter().zip(&to) {
            for v in (0..V - V % 2).step_by(2) {
                // Not a closure: `map` would call it from a function without the instruction set.
                let first = ready.apply_to_sum::<LEAKS>(sums[v], multipliers[v]);
                let second = ready.apply_to_sum::<LEAKS>(sums[v + 1], multipliers[v + 1]);
                isa.store_u8(to.add(v * S::LANES), [first, second], ready.pack);
            }
            if V % 2 == 1 {
                let last = ready.apply_to_sum::<LEAKS>(sums[V - 1], multipliers[V - 1]);
                isa.store_u8_single(to.add((V - 1) * S::LANES), last, ready.pack);
            }
        }
    }
}

impl Sink for Activation {
    type Out = f32;
    type Ready<S: Simd> = ();
    #[inline(always)]
    fn ready<S: Simd>(self, _isa: S) {}
    #[inline(always)]
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        self,
        isa: S,
        (): &(),
        mut sums: [[S::F; V]; R],
        multipliers: [S::F; V],
        to: [*mut f32; R],
    ) {
        for sums in &mut sums {
            for (sum, multiplier) in sums.iter_mut().zip(&multipliers) {
                *sum = isa.mul(*sum, *multiplier);
            }
        }
        // SAFETY: by the trait's condition.
        unsafe { store_activated(isa, self, sums, to) };
    }
}

impl<K: Sink> Product for ProductI8<'_, K> {
    type In = u8;
    type Weight = i8;
    type Out = K::Out;
    const GROUP: usize = 4;
    type Sum<S: Simd> = S::I;
    type Weights<S: Simd> = S::W;
    type Activations<S: Simd> = S::A;
    type Ready<S: Simd> = K::Ready<S>;

    fn window(&self) -> &Im2col {
        &self.conv.window
    }
    fn between(&self) -> Option<usize> {
        self.conv.depthwise.as_ref().map(DepthwiseI8::channels)
    }
    fn outputs(&self) -> usize {
        self.conv.weights.outputs
    }
    fn panels(&self) -> *const i8 {
        self.conv.weights.panels.as_ptr()
    }
    fn to(&self) -> *mut K::Out {
        self.to
    }

    #[inline(always)]
    unsafe fn depthwise<S: Simd>(&self, isa: S, source: *const u8, y: usize, x: usize, count: usize, to: *mut u8) {
        if let Some(depthwise) = &self.conv.depthwise {
            // SAFETY: by the trait's condition.
            unsafe { depthwise.pixels(isa, PixelRun { source, y, x, count, to, pixel: depthwise.channels() }) };
        }
    }
    #[inline(always)]
    unsafe fn start<S: Simd>(&self, isa: S, channel: usize) -> S::I {
        // SAFETY: the bias is filled up to whole vectors.
        unsafe { isa.load_i32(self.conv.weights.bias.as_ptr().add(channel)) }
    }
    #[inline(always)]
    unsafe fn weights<S: Simd>(isa: S, p: *const i8) -> S::W {
        // SAFETY: by the trait's condition.
        unsafe { isa.load_weights(p) }
    }
    #[inline(always)]
    unsafe fn activations<S: Simd>(isa: S, p: *const u8) -> S::A {
        // SAFETY: by the trait's condition.
        unsafe { isa.load_activations(p) }
    }
    #[inline(always)]
    fn multiply<S: Simd>(isa: S, sum: S::I, w: S::W, a: S::A) -> S::I {
        isa.dot(sum, w, a)
    }
    #[inline(always)]
    fn ready<S: Simd>(&self, isa: S) -> K::Ready<S> {
        self.sink.ready(isa)
    }
    #[inline(always)]
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        isa: S,
        ready: &K::Ready<S>,
        channel: usize,
        sums: [[S::I; V]; R],
        to: [*mut K::Out; R],
    ) {
        // SAFETY: by the trait's condition; the multipliers are filled up to whole vectors.
        unsafe {
            let multiplier = self.conv.weights.multiplier.as_ptr().add(channel);
            let mut multipliers = [isa.load(multiplier); V];
            for (v, loaded) in multipliers.iter_mut().enumerate().skip(1) {
                *loaded = isa.load(multiplier.add(v * S::LANES));
            }
            let mut floats = [[multipliers[0]; V]; R];
            for (floats, sums) in floats.iter_mut().zip(&sums) {
                for (float, sum) in floats.iter_mut().zip(sums) {
                    *float = isa.to_f32(*sum);
                }
            }
            self.sink.store(isa, ready, floats, multipliers, to);
        }
    }
}
