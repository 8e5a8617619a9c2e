//! The matrix product behind every convolution, written once for floats and bytes.
//!
//! A block of pixels is multiplied by one panel of weights after the other, in tiles. A tile is a few pixels by a few
//! vectors of output channels. Its sums stay in registers from the first input channel to the last. [`Simd::PANEL`] is
//! the width of a tile in vectors.

use core::ops::Range;
use core::sync::atomic::{Ordering, compiler_fence};

use super::image::{Hw, PixelLayout};
use super::isa::Task;
use super::operations::Simd;

/// The maximum number of pixels that are multiplied by all weights before the next block.
pub(crate) const BLOCK_PIXELS: usize = 56;
/// The number of lanes of the widest panel: two vectors of the widest instruction set.
const MAX_PANEL: usize = 32;

/// The first column and the width of each panel of `padded` columns.
///
/// Where panels have more than two vectors, all have at least four if that is possible, and the first are as wide as they
/// may be. Otherwise the last one has two, or one.
pub(super) fn panel_columns(padded: usize, lanes: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let comes_out = move |vectors: usize| 4 * vectors.div_ceil(most) <= vectors;
    let mut first = 0;
    std::iter::from_fn(move || {
        let vectors = match (padded - first) / lanes {
            0 => return None,
            left @ 4.. if most > 2 => {
                let wide = if comes_out(left) { left } else { left - 2 };
                (4..=most.min(wide)).rfind(|width| comes_out(wide - width)).unwrap_or(4)
            }
            left => left.min(2),
        };
        first += vectors * lanes;
        Some((first - vectors * lanes, vectors * lanes))
    })
}

/// The positions of the taps of each output pixel's window: a row of the im2col matrix, which is never built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Im2col {
    /// Output pixels.
    pub output: Hw,
    /// Index of the first element of the first window.
    pub origin: usize,
    /// Distance between the windows of two output rows and of two output pixels, in elements.
    pub row_step: usize,
    pub column_step: usize,
    /// Offset of each run of a window from its start.
    pub taps: Vec<usize>,
    /// Elements in each run.
    pub run: usize,
}

impl Im2col {
    /// One more than the highest index read.
    pub(super) fn end(&self) -> usize {
        let last = (self.output.height - 1) * self.row_step + (self.output.width - 1) * self.column_step;
        self.origin + last + self.taps.iter().max().unwrap_or(&0) + self.run
    }
}

/// The inputs of a matrix product, and how its sums are stored.
pub(super) trait Product: Copy {
    /// Type of the activations that are read.
    type In: Copy;
    /// Type of a packed weight. For every panel, in groups of [`GROUP`](Self::GROUP) inputs, there are vectors of its
    /// output channels.
    type Weight: Copy;
    /// Type of the activations that are written.
    type Out: Copy + Default;
    /// Number of inputs per multiplication. Each run of a window is padded to a multiple of it with weights of zero.
    const GROUP: usize;

    /// `LANES` sums.
    type Sum<S: Simd>: Copy;
    /// Weights of `LANES` output channels, in registers.
    type Weights<S: Simd>: Copy;
    /// A group of activations, in registers.
    type Activations<S: Simd>: Copy;
    /// Values for storing that stay in registers from tile to tile.
    type Ready<S: Simd>: Copy;

    fn window(&self) -> &Im2col;
    /// Number of channels of the depthwise convolution that runs first, if there is one.
    fn between(&self) -> Option<usize>;
    fn outputs(&self) -> usize;
    fn panels(&self) -> *const Self::Weight;
    fn to(&self) -> *mut Self::Out;

    /// Writes `count` pixels of the depthwise convolution to `to`, without gaps.
    ///
    /// # Safety
    ///
    /// The windows are within what `source` points to, and the pixels at `to` are writable.
    unsafe fn depthwise<S: Simd>(
        &self,
        isa: S,
        source: *const Self::In,
        y: usize,
        x: usize,
        count: usize,
        to: *mut Self::In,
    );
    /// The initial sums of the `LANES` channels starting at `channel`.
    ///
    /// # Safety
    ///
    /// `channel` is a multiple of `LANES` below [`outputs`](Self::outputs).
    unsafe fn start<S: Simd>(&self, isa: S, channel: usize) -> Self::Sum<S>;
    /// # Safety
    ///
    /// `LANES` times a group of weights are readable at `p`.
    unsafe fn weights<S: Simd>(isa: S, p: *const Self::Weight) -> Self::Weights<S>;
    /// # Safety
    ///
    /// A group of activations is readable at `p`.
    unsafe fn activations<S: Simd>(isa: S, p: *const Self::In) -> Self::Activations<S>;
    /// Adds the product of a group to `sum`.
    fn multiply<S: Simd>(isa: S, sum: Self::Sum<S>, w: Self::Weights<S>, a: Self::Activations<S>) -> Self::Sum<S>;
    fn ready<S: Simd>(&self, isa: S) -> Self::Ready<S>;
    /// Stores the sums of a tile. They belong to the channels starting at `channel`, and each pixel goes to its address
    /// in `to`.
    ///
    /// # Safety
    ///
    /// `channel` is as for [`start`](Self::start), and `V * LANES` elements are writable at each place.
    unsafe fn store<S: Simd, const R: usize, const V: usize>(
        &self,
        isa: S,
        ready: &Self::Ready<S>,
        channel: usize,
        sums: [[Self::Sum<S>; V]; R],
        to: [*mut Self::Out; R],
    );
}

/// A task: computes rows of output pixels.
pub(super) struct Run<P: Product> {
    product: P,
    rows: Range<usize>,
    source: *const P::In,
    target: PixelLayout,
    scratch: *mut P::In,
}

impl<P: Product> Run<P> {
    /// `scratch` holds a block of pixels between the depthwise convolution and this one.
    ///
    /// # Safety
    ///
    /// All windows of `rows` lie in `source` (including what the last group reads beyond its run), and all pixels in
    /// [`to`](Product::to). If there is a depthwise convolution, `scratch` is as long as a block of its pixels plus
    /// what the last group reads. Nobody else accesses the pixels and the scratch until the task has run.
    pub(super) unsafe fn new(
        product: P,
        rows: Range<usize>,
        source: *const P::In,
        target: PixelLayout,
        scratch: *mut P::In,
    ) -> Run<P> {
        Run { product, rows, source, target, scratch }
    }
}

impl<P: Product> Task for Run<P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, isa: S) {
        let Run { product, rows, source, target, scratch } = self;
        let window = product.window();
        let between = product.between();
        let read_from = if between.is_some() { scratch.cast_const() } else { source };
        // Whole rows, or equal parts of one: for each part, a depthwise convolution computes again what neighbouring
        // windows share.
        let parts = window.output.width.div_ceil(BLOCK_PIXELS);
        let part = window.output.width.div_ceil(parts);
        let full = if parts == 1 { BLOCK_PIXELS / part * part } else { part };
        let mut block = Block { read: [0; BLOCK_PIXELS], write: [0; BLOCK_PIXELS], count: 0 };
        for y in rows {
            let mut x = 0;
            while x < window.output.width {
                let first = block.count;
                let count = (window.output.width - x).min(full - first);
                for i in 0..count {
                    block.read[first + i] = match between {
                        Some(pixel) => (first + i) * pixel,
                        None => window.origin + y * window.row_step + (x + i) * window.column_step,
                    };
                    block.write[first + i] = target.at(y, x + i);
                }
                if let Some(pixel) = between {
                    // SAFETY: by `new`'s condition.
                    unsafe { product.depthwise(isa, source, y, x, count, scratch.add(first * pixel)) };
                }
                block.count += count;
                x += count;
                if block.count == full || (parts > 1 && x == window.output.width) {
                    // SAFETY: as above.
                    unsafe { block.run(isa, product, read_from) };
                    block.count = 0;
                }
            }
        }
        if block.count > 0 {
            // SAFETY: as above.
            unsafe { block.run(isa, product, read_from) };
        }
    }
}

/// For each pixel of a block, its index in the input and in the output.
struct Block {
    read: [usize; BLOCK_PIXELS],
    write: [usize; BLOCK_PIXELS],
    count: usize,
}

impl Block {
    /// # Safety
    ///
    /// Windows are readable at the block's indices, including what the last group reads beyond its run, and pixels are
    /// writable.
    #[inline(always)]
    unsafe fn run<S: Simd, P: Product>(&self, isa: S, product: P, source: *const P::In) {
        let outputs = product.outputs();
        let Im2col { taps, run, .. } = product.window();
        let inputs = taps.len() * run.next_multiple_of(P::GROUP);
        let mut weights = product.panels();
        for (first, width) in panel_columns(outputs.next_multiple_of(S::LANES), S::LANES, S::PANEL) {
            let panel = Panel { product, source, block: self, weights, first, columns: width.min(outputs - first) };
            // SAFETY: by this function's condition; panels have `inputs` rows of `width` weights each, one panel after the
            // other.
            unsafe {
                match width / S::LANES {
                    1 => panel.rows::<S, 1>(isa),
                    2 => panel.rows::<S, 2>(isa),
                    4 if S::PANEL > 2 => panel.rows::<S, 4>(isa),
                    5 if S::PANEL > 2 => panel.rows::<S, 5>(isa),
                    6 if S::PANEL == 6 => panel.rows::<S, 6>(isa),
                    vectors => unreachable!("no panel has {vectors} vectors"),
                }
                weights = weights.add(inputs * width);
            }
        }
    }
}

/// The pixels of a block and one panel of weights.
#[derive(Clone, Copy)]
struct Panel<'a, P: Product> {
    product: P,
    source: *const P::In,
    block: &'a Block,
    weights: *const P::Weight,
    /// The first output channel and the number of channels. The last vector may have fewer channels than lanes.
    first: usize,
    columns: usize,
}

impl<P: Product> Panel<'_, P> {
    /// # Safety
    ///
    /// As [`Block::run`], with `V` vectors of weights in each row of the panel.
    #[inline(always)]
    unsafe fn rows<S: Simd, const V: usize>(self, isa: S) {
        // SAFETY: by this function's condition.
        unsafe {
            if V > 2 {
                self.tiles::<S, 2, V>(isa);
            } else if S::PANEL > 2 {
                self.tiles::<S, 4, V>(isa);
            } else {
                self.tiles::<S, 6, V>(isa);
            }
        }
    }

    /// Computes tiles of `R` pixels. If the number of pixels is not a multiple, the last tile computes some for the
    /// second time.
    ///
    /// # Safety
    ///
    /// As [`rows`](Self::rows).
    #[inline(always)]
    unsafe fn tiles<S: Simd, const R: usize, const V: usize>(self, isa: S) {
        let (panel, count) = (&self, self.block.count);
        // SAFETY: by this function's condition.
        unsafe {
            if count >= R && self.columns == V * S::LANES {
                isa.vectorize(
                    #[inline(always)]
                    move || {
                        // Through an address that is opaque to the compiler. Otherwise it would keep the values in
                        // registers from tile to tile, and spill sums every few steps.
                        let ready = panel.product.ready(isa);
                        let ready = core::hint::black_box(&ready);
                        let mut i = 0;
                        while i < count {
                            panel.tile::<S, R, V, true>(isa, i.min(count - R), ready);
                            i += R;
                        }
                    },
                );
            } else {
                isa.vectorize(
                    #[inline(always)]
                    move || {
                        let ready = panel.product.ready(isa);
                        for i in (0..count).step_by(R) {
                            panel.tile::<S, R, V, false>(isa, i, &ready);
                        }
                    },
                );
            }
        }
    }

    /// Computes the pixels starting at `i`. If `WHOLE`, these are all `R` pixels and all columns. Nearly all tiles are
    /// whole; their code has no conditions and never keeps sums in memory.
    ///
    /// # Safety
    ///
    /// As [`rows`](Self::rows).
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(
        self,
        isa: S,
        i: usize,
        ready: &P::Ready<S>,
    ) {
        let Panel { product, source, block, mut weights, first, columns } = self;
        let Im2col { taps, run, .. } = product.window();
        // SAFETY: by this function's condition, and all indices below stay inside what it names. Pixels beyond the block's
        // last one repeat it and are not stored.
        unsafe {
            let mut sums = [product.start(isa, first); V];
            for (v, sum) in sums.iter_mut().enumerate().skip(1) {
                *sum = product.start(isa, first + v * S::LANES);
            }
            let mut sums = [sums; R];
            let mut starts = [source; R];
            for (r, start) in starts.iter_mut().enumerate() {
                let pixel = if WHOLE { i + r } else { (i + r).min(block.count - 1) };
                *start = source.add(*block.read.as_ptr().add(pixel));
            }
            let groups = run.div_ceil(P::GROUP);
            for &tap in taps {
                let mut at = starts;
                for start in &mut at {
                    *start = start.add(tap);
                }
                // One step per iteration: if it were unrolled, LLVM would sort the steps by sum, and each sum would
                // wait for its own result.
                for _ in 0..groups {
                    step::<S, P, R, V>(isa, &mut sums, &at, weights);
                    weights = weights.add(P::GROUP * V * S::LANES);
                    for start in &mut at {
                        *start = start.add(P::GROUP);
                    }
                }
            }
            let mut to = [product.to().add(first); R];
            if WHOLE {
                for (r, to) in to.iter_mut().enumerate() {
                    *to = to.add(*block.write.as_ptr().add(i + r));
                }
                product.store(isa, ready, first, sums, to);
            } else {
                let mut whole = [[P::Out::default(); MAX_PANEL]; R];
                let places = whole.each_mut().map(|pixel| pixel.as_mut_ptr());
                product.store(isa, ready, first, sums, places);
                for (to, (pixel, &write)) in to.iter().zip(whole.iter().zip(&block.write[i..block.count])) {
                    core::ptr::copy_nonoverlapping(pixel.as_ptr(), to.add(write), columns);
                }
            }
        }
    }
}

/// Multiplies one group of inputs of each pixel by its weights.
///
/// # Safety
///
/// `V` vectors of weights and a group of activations of each pixel are readable.
#[inline(always)]
unsafe fn step<S: Simd, P: Product, const R: usize, const V: usize>(
    isa: S,
    sums: &mut [[P::Sum<S>; V]; R],
    at: &[*const P::In; R],
    weights: *const P::Weight,
) {
    let vector = P::GROUP * S::LANES;
    // SAFETY: by this function's condition.
    unsafe {
        if R < V {
            // Activations stay in registers; weights are loaded one by one. LLVM would load all of them at once if it
            // could reorder loads, and a browser does not have enough registers for that.
            let mut activations = [P::activations(isa, at[0]); R];
            for (a, at) in activations.iter_mut().zip(at).skip(1) {
                *a = P::activations(isa, *at);
            }
            for v in 0..V {
                compiler_fence(Ordering::SeqCst);
                let w = P::weights(isa, weights.add(v * vector));
                for (pixel, a) in sums.iter_mut().zip(&activations) {
                    pixel[v] = P::multiply(isa, pixel[v], w, *a);
                }
            }
        } else {
            let mut w = [P::weights(isa, weights); V];
            for (v, w) in w.iter_mut().enumerate().skip(1) {
                *w = P::weights(isa, weights.add(v * vector));
            }
            for (pixel, at) in sums.iter_mut().zip(at) {
                let a = P::activations(isa, *at);
                for (sum, w) in pixel.iter_mut().zip(&w) {
                    *sum = P::multiply(isa, *sum, *w, a);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::panel_columns;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn panels_lie_one_behind_the_other_and_are_as_wide_as_tiles_are() {
        for most in [2, 5, 6] {
            for vectors in 1..200 {
                let mut next = 0;
                for (first, width) in panel_columns(vectors * 4, 4, most) {
                    assert_eq!(first, next, "{vectors} vectors, at most {most}");
                    assert!(
                        width / 4 <= most && [1, 2, 4, 5, 6].contains(&(width / 4)),
                        "{width} of {vectors} vectors"
                    );
                    assert!(most == 2 || vectors < 12 || width >= 16, "{width} of {vectors} vectors");
                    next += width;
                }
                assert_eq!(next, vectors * 4);
            }
        }
        let widths =
            |vectors: usize| panel_columns(vectors * 4, 4, 6).map(|(_, width)| width / 4).collect::<Vec<_>>();
        assert_eq!([widths(7), widths(13), widths(29)], [vec![5, 2], vec![5, 4, 4], vec![6, 6, 6, 6, 5]]);
    }
}
