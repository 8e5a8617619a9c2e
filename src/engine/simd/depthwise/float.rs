//! The float kernels.

use core::ops::Range;

use super::super::activation::{Activation, activate};
use super::super::image::{Hw, PixelLayout, Shape};
use super::super::isa::{Isa, Task};
use super::super::operations::Simd;
use super::super::thread_pool::{SendPtr, ThreadPool};
use super::windows::{Kernel, PixelRun, Windows, dispatch};

/// Number of output pixels that are computed together.
const SHARED: usize = 4;

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
        assert_eq!(bias.len(), windows.output.channels, "one bias a channel");
        let mut weights =
            Vec::with_capacity(windows.kernel.height * windows.kernel.width * windows.output.channels);
        for y in 0..windows.kernel.height {
            for x in 0..windows.kernel.width {
                weights.extend((0..windows.output.channels).map(|channel| weight(channel, y, x)));
            }
        }
        DepthwiseF32 { bias: bias.to_vec(), windows, weights, activation }
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
    /// If a window is not within a source of this length.
    pub(in super::super) fn check(&self, source: usize) {
        assert!(self.windows.end() <= source, "window outside");
    }

    /// Convolves `source` into `target` of `destination`.
    ///
    /// # Panics
    ///
    /// If an index that will be touched is outside its slice.
    pub(crate) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        source: &[f32],
        destination: &mut [f32],
        target: PixelLayout,
    ) {
        struct Run<'a>(&'a DepthwiseF32, Range<usize>, &'a [f32], *mut f32, PixelLayout);
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
        self.check(source.len());
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
    pub(in super::super) unsafe fn pixels<S: Simd>(&self, isa: S, run: PixelRun<f32>) {
        // SAFETY: by this function's condition.
        unsafe {
            dispatch(self.windows.square(), KernelF32 { layer: self, isa, run });
            if !matches!(self.activation, Activation::Clamp { .. }) {
                for i in 0..run.count {
                    let values =
                        core::slice::from_raw_parts_mut(run.to.add(i * run.pixel), self.windows.output.channels);
                    activate(isa, self.activation, values);
                }
            }
        }
    }

    /// Computes the pixels of a run, a few at a time.
    ///
    /// # Safety
    ///
    /// As [`pixels`](Self::pixels).
    #[inline(always)]
    unsafe fn shared<S: Simd, const K: usize, const STRIDE: usize>(&self, isa: S, run: PixelRun<f32>) {
        let PixelRun { source, y, x, count, to, pixel } = run;
        let step = STRIDE * self.windows.input.pixel;
        let start = self.windows.start(y, x);
        // With a stride of 2, neighbours share fewer inputs: four of them would need more registers than V8 has.
        let together = if STRIDE == 1 { SHARED } else { 3 };
        let mut i = 0;
        while i < count {
            // SAFETY: as the caller.
            unsafe {
                let (source, to) = (source.add(start + i * step), to.add(i * pixel));
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

    /// Computes `X` neighbouring output pixels, all channels.
    ///
    /// # Safety
    ///
    /// The taps of their windows, starting at `source`, are readable, and the pixels starting at `to` writable.
    #[inline(always)]
    unsafe fn group<S: Simd, const K: usize, const STRIDE: usize, const X: usize>(
        &self,
        isa: S,
        source: *const f32,
        to: *mut f32,
        pixel: usize,
    ) {
        let channels = self.windows.output.channels;
        let mut c = 0;
        while c + S::LANES <= channels {
            // SAFETY: as the caller; a whole vector of channels is left at `c`.
            unsafe { self.vector::<S, K, STRIDE, X>(isa, source, c, to, pixel) };
            c += S::LANES;
        }
        if c < channels {
            if channels >= S::LANES {
                // The last whole vector. Some of its channels are computed for the second time.
                // SAFETY: as above.
                unsafe { self.vector::<S, K, STRIDE, X>(isa, source, channels - S::LANES, to, pixel) };
            } else {
                for j in 0..X {
                    // SAFETY: as the caller.
                    unsafe { self.any(isa, source.add(j * STRIDE * self.windows.input.pixel), to.add(j * pixel)) };
                }
            }
        }
    }

    /// The same for the vector of channels that starts at `c`.
    ///
    /// # Safety
    ///
    /// As [`group`](Self::group), and there are `LANES` channels starting at `c`.
    #[inline(always)]
    unsafe fn vector<S: Simd, const K: usize, const STRIDE: usize, const X: usize>(
        &self,
        isa: S,
        source: *const f32,
        c: usize,
        to: *mut f32,
        pixel: usize,
    ) {
        let Windows { output: Shape { channels, .. }, input, .. } = self.windows;
        // SAFETY: as the caller: every tap of every window lies in the source, and weights are `K * K` times the
        // channels.
        unsafe {
            let mut sums = [isa.load(self.bias.as_ptr().add(c)); X];
            let mut weights = self.weights.as_ptr().add(c);
            let mut source = source.add(c);
            // Always equal to `K`, but LLVM must not know that. It would unroll the loop and sort it by sum, and the
            // values that all sums share would no longer fit into the registers.
            for _ in 0..self.windows.kernel.height {
                let mut w = [isa.splat(0.0); K];
                for (k, w) in w.iter_mut().enumerate() {
                    *w = isa.load(weights.add(k * channels));
                }
                let mut at = source;
                for column in 0..(X - 1) * STRIDE + K {
                    let v = isa.load(at);
                    at = at.add(input.pixel);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        if j * STRIDE <= column && column < j * STRIDE + K {
                            *sum = isa.mul_add(v, w[column - j * STRIDE], *sum);
                        }
                    }
                }
                weights = weights.add(K * channels);
                source = source.add(input.row);
            }
            if let Activation::Clamp { low, high } = self.activation {
                // Without `apply`, because the compiler does not always inline its `map` for four vectors.
                let (low, high) = (isa.splat(low), isa.splat(high));
                for sum in &mut sums {
                    *sum = isa.min(high, isa.max(low, *sum));
                }
            }
            for (j, sum) in sums.iter().enumerate() {
                isa.store(to.add(j * pixel + c), *sum);
            }
        }
    }

    /// Computes one output pixel with any kernel.
    ///
    /// # Safety
    ///
    /// The taps of its window, the first of which is at `source`, are readable, and the pixel at `to` writable.
    #[inline(always)]
    unsafe fn any<S: Simd>(&self, isa: S, source: *const f32, to: *mut f32) {
        let Windows { output: Shape { channels, .. }, kernel, .. } = self.windows;
        // SAFETY: as the caller: every tap lies in the source, and weights are kernel rows × columns × channels.
        unsafe {
            let mut c = 0;
            while c + S::LANES <= channels {
                let mut sum = isa.load(self.bias.as_ptr().add(c));
                let mut weights = self.weights.as_ptr().add(c);
                for y in 0..kernel.height {
                    for x in 0..kernel.width {
                        let at = source.add(self.windows.offset(y, x) + c);
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
                for y in 0..kernel.height {
                    for x in 0..kernel.width {
                        let at = source.add(self.windows.offset(y, x) + c);
                        sum += *at * self.weights[(y * kernel.width + x) * channels + c];
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

/// A run of pixels of a float layer.
struct KernelF32<'a, S> {
    layer: &'a DepthwiseF32,
    isa: S,
    run: PixelRun<f32>,
}

impl<S: Simd> Kernel for KernelF32<'_, S> {
    #[inline(always)]
    unsafe fn square<const K: usize, const STRIDE: usize>(self) {
        let KernelF32 { layer, isa, run } = self;
        isa.vectorize(
            #[inline(always)]
            move || {
                // SAFETY: by the trait's condition.
                unsafe { layer.shared::<S, K, STRIDE>(isa, run) }
            },
        );
    }

    #[inline(always)]
    unsafe fn any(self) {
        let KernelF32 { layer, isa, run: PixelRun { source, y, x, count, to, pixel } } = self;
        for i in 0..count {
            // SAFETY: by the trait's condition.
            unsafe { layer.any(isa, source.add(layer.windows.start(y, x + i)), to.add(i * pixel)) };
        }
    }
}
