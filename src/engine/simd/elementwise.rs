//! Elementwise operators: copies, sums, products, activations, channel gates.
//!
//! Plain loops over channels, as in [`layout`](super::layout).

use super::activation::{Activation, activate};
use super::image::{PixelLayout, Shape, View, ViewMut};
use super::isa::{Isa, Task};
use super::operations::{MAX_LANES, Simd};
use super::quantize::{Quantize, Requantize, Requantizer, Scale};

/// Processes one pixel after another: `f(source pixel, destination pixel)`.
pub(super) fn each_pixel<A, B>(
    isa: Isa,
    shape: Shape,
    source: View<'_, A>,
    destination: ViewMut<'_, B>,
    f: impl FnMut(&[A], &mut [B]),
) {
    struct Each<'a, A, B, F>(Shape, View<'a, A>, ViewMut<'a, B>, F);
    impl<A, B, F: FnMut(&[A], &mut [B])> Task for Each<'_, A, B, F> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Each(Shape { height, width, channels }, source, destination, mut f) = self;
            for y in 0..height {
                for x in 0..width {
                    let (from, to) = (source.layout.at(y, x), destination.layout.at(y, x));
                    f(&source.data[from..from + channels], &mut destination.data[to..to + channels]);
                }
            }
        }
    }
    isa.run(Each(shape, source, destination, f));
}

/// Copies an image.
pub(crate) fn copy<T: Copy>(isa: Isa, shape: Shape, source: View<'_, T>, destination: ViewMut<'_, T>) {
    // A part of a concatenation may have few channels per pixel. A copy whose length the compiler does not know is a
    // function call, which takes longer than the copy itself.
    match shape.channels {
        ..2 => copy_in_chunks::<T, 1>(isa, shape, source, destination),
        2..4 => copy_in_chunks::<T, 2>(isa, shape, source, destination),
        4..8 => copy_in_chunks::<T, 4>(isa, shape, source, destination),
        8..16 => copy_in_chunks::<T, 8>(isa, shape, source, destination),
        _ => copy_in_chunks::<T, 16>(isa, shape, source, destination),
    }
}

/// Copies an image of at least `N` channels, `N` at a time. The last chunk may overlap the one before.
fn copy_in_chunks<T: Copy, const N: usize>(
    isa: Isa,
    shape: Shape,
    source: View<'_, T>,
    destination: ViewMut<'_, T>,
) {
    each_pixel(
        isa,
        shape,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            let ((from, rest), (to, _)) = (a.as_chunks::<N>(), b.as_chunks_mut::<N>());
            for (from, to) in from.iter().zip(to) {
                *to = *from;
            }
            if !rest.is_empty()
                && let (Some(from), Some(to)) = (a.last_chunk::<N>(), b.last_chunk_mut::<N>())
            {
                *to = *from;
            }
        },
    );
}

/// Interleaves equal parts of the channels of each pixel.
pub(crate) fn shuffle<T: Copy>(
    isa: Isa,
    shape: Shape,
    parts: usize,
    source: View<'_, T>,
    destination: ViewMut<'_, T>,
) {
    each_pixel(
        isa,
        shape,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            for (part, a) in a.chunks_exact(shape.channels / parts).enumerate() {
                for (a, b) in a.iter().zip(b[part..].iter_mut().step_by(parts)) {
                    *b = *a;
                }
            }
        },
    );
}

/// `destination = f(source)` for every element.
pub(crate) fn map<A: Copy, B>(
    isa: Isa,
    shape: Shape,
    source: View<'_, A>,
    destination: ViewMut<'_, B>,
    f: impl Fn(A) -> B,
) {
    each_pixel(
        isa,
        shape,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            for (a, b) in a.iter().zip(b) {
                *b = f(*a);
            }
        },
    );
}

/// Quantises floats to bytes.
pub(crate) fn quantize(isa: Isa, shape: Shape, source: View<'_, f32>, destination: ViewMut<'_, u8>, by: Quantize) {
    struct Run<'a>(Shape, View<'a, f32>, ViewMut<'a, u8>, Quantize);
    impl Task for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Run(
                Shape { height, width, channels },
                View { data: source, layout: from },
                ViewMut { data: destination, layout: to },
                by,
            ) = self;
            let Quantize { inverse_scale, low, high, zero } = by;
            let (scale, ready) = (isa.splat(inverse_scale), Requantize::new(low, high, zero, 1.0).ready(isa));
            for y in 0..height {
                for x in 0..width {
                    let (a, b) = (from.at(y, x), to.at(y, x));
                    let mut source = source[a..a + channels].chunks_exact(2 * S::LANES);
                    let mut destination = destination[b..b + channels].chunks_exact_mut(2 * S::LANES);
                    for (a, b) in source.by_ref().zip(destination.by_ref()) {
                        let (first, second) = a.split_at(S::LANES);
                        // Not a closure: `map` would call it from a function without the instruction set.
                        let bytes =
                            [ready.apply(isa.load_slice(first), scale), ready.apply(isa.load_slice(second), scale)];
                        // SAFETY: a chunk has as many bytes.
                        unsafe { isa.store_u8(b.as_mut_ptr(), bytes, ready.pack) };
                    }
                    for (a, b) in source.remainder().iter().zip(destination.into_remainder()) {
                        *b = by.byte(*a);
                    }
                }
            }
        }
    }
    isa.run(Run(shape, source, destination, by));
}

/// Applies an activation to every element.
pub(crate) fn activation(
    isa: Isa,
    shape: Shape,
    source: View<'_, f32>,
    ViewMut { data: destination, layout: to }: ViewMut<'_, f32>,
    activation: Activation,
) {
    copy(isa, shape, source, ViewMut { data: &mut *destination, layout: to });
    activate_all(isa, shape, ViewMut { data: destination, layout: to }, activation);
}

/// Applies an activation in place.
fn activate_all(isa: Isa, shape: Shape, image: ViewMut<'_, f32>, activation: Activation) {
    struct Activate<'a>(Shape, ViewMut<'a, f32>, Activation);
    impl Task for Activate<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Activate(Shape { height, width, channels }, ViewMut { data, layout }, activation) = self;
            for y in 0..height {
                for x in 0..width {
                    activate(isa, activation, &mut data[layout.at(y, x)..][..channels]);
                }
            }
        }
    }
    isa.run(Activate(shape, image, activation));
}

/// `destination = activation(a + b)`, float.
pub(crate) fn sum(
    isa: Isa,
    shape: Shape,
    [a, b]: [View<'_, f32>; 2],
    ViewMut { data: destination, layout: to }: ViewMut<'_, f32>,
    then: Activation,
) {
    copy(isa, shape, a, ViewMut { data: &mut *destination, layout: to });
    each_pixel(
        isa,
        shape,
        b,
        ViewMut { data: &mut *destination, layout: to },
        #[inline(always)]
        |b, sum| {
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum += *b;
            }
        },
    );
    if then != Activation::NONE {
        activate_all(isa, shape, ViewMut { data: destination, layout: to }, then);
    }
}

/// The addition of two images of bytes: `quantize(leaky((a - zero) * scale + (b - zero) * scale))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ByteSum {
    pub scales: [Scale; 2],
    /// Whether all bytes of both images are at most 127.
    pub is_7_bit: bool,
    /// The factor for negative sums, 0 to 1.
    pub slope: f32,
    /// The quantisation of the sum.
    pub quantize: Quantize,
}

impl ByteSum {
    #[inline(always)]
    fn byte(self, a: u8, b: u8) -> u8 {
        let [of_a, of_b] = self.scales;
        let sum = of_a.number(a) + of_b.number(b);
        let leaky = sum * self.slope;
        self.quantize.byte(if sum > leaky { sum } else { leaky })
    }

    /// Loads the values into registers, for use in a loop.
    #[inline(always)]
    fn ready<S: Simd>(self, isa: S) -> ReadySum<S> {
        const TAPS: [[i8; 4 * MAX_LANES]; 2] = [of_tap(0), of_tap(1)];
        let Quantize { inverse_scale, low, high, zero } = self.quantize;
        let [a, b] = self.scales;
        ReadySum {
            isa,
            by: self,
            requantizer: Requantize::new(low, high, zero, 1.0).ready(isa),
            inverse_scale: isa.splat(inverse_scale),
            slope: isa.splat(self.slope),
            scales: [isa.splat(a.scale), isa.splat(b.scale)],
            zeros: [isa.splat_i32(-a.zero), isa.splat_i32(-b.zero)],
            // SAFETY: they are as long as the longest vectors.
            taps: unsafe { [isa.load_bytes(TAPS[0].as_ptr()), isa.load_bytes(TAPS[1].as_ptr())] },
        }
    }
}

/// [`ByteSum`] in registers.
struct ReadySum<S: Simd> {
    isa: S,
    by: ByteSum,
    requantizer: Requantizer<S>,
    inverse_scale: S::F,
    slope: S::F,
    scales: [S::F; 2],
    /// The negated zero points.
    zeros: [S::I; 2],
    /// Weights that select the first or the second of four bytes.
    taps: [S::B; 2],
}

impl<S: Simd> ReadySum<S> {
    /// `sums[i] = byte(a[i], b[i])`.
    #[inline(always)]
    fn add(&self, [a, b]: [&[u8]; 2], sums: &mut [u8]) {
        let vectors = if self.by.is_7_bit { a.len() - a.len() % (2 * S::LANES) } else { 0 };
        self.add_vectors([&a[..vectors], &b[..vectors]], &mut sums[..vectors]);
        for ((sum, a), b) in sums[vectors..].iter_mut().zip(&a[vectors..]).zip(&b[vectors..]) {
            *sum = self.by.byte(*a, *b);
        }
    }

    /// The same for bytes up to 127, in a multiple of `2 * LANES`. The dot product of the convolutions selects one of
    /// two interleaved bytes and subtracts its zero point, in one instruction.
    #[inline(always)]
    fn add_vectors(&self, [a, b]: [&[u8]; 2], sums: &mut [u8]) {
        let ReadySum { isa, scales: [scale_a, scale_b], zeros: [zero_a, zero_b], taps, .. } = *self;
        let chunks = a.chunks_exact(2 * S::LANES).zip(b.chunks_exact(2 * S::LANES));
        // SAFETY: a chunk has as many bytes as are loaded from it or stored to it.
        unsafe {
            for (sums, (a, b)) in sums.chunks_exact_mut(2 * S::LANES).zip(chunks) {
                let [a, b] = [isa.load_half(a.as_ptr()), isa.load_half(b.as_ptr())];
                let both = isa.interleave([a, b, a, b]);
                let mut bytes = [zero_a; 2];
                for (bytes, both) in bytes.iter_mut().zip(both) {
                    let a = isa.mul(isa.to_f32(isa.dot_bytes(zero_a, taps[0], both)), scale_a);
                    let b = isa.mul(isa.to_f32(isa.dot_bytes(zero_b, taps[1], both)), scale_b);
                    let sum = isa.add(a, b);
                    let leaky = isa.max(sum, isa.mul(sum, self.slope));
                    *bytes = self.requantizer.apply(leaky, self.inverse_scale);
                }
                isa.store_channels(sums.as_mut_ptr(), bytes, self.requantizer.pack);
            }
        }
    }
}

/// Weights that select one of four bytes.
const fn of_tap(tap: usize) -> [i8; 4 * MAX_LANES] {
    let mut weights = [0; 4 * MAX_LANES];
    let mut group = 0;
    while group < MAX_LANES {
        weights[group * 4 + tap] = 1;
        group += 1;
    }
    weights
}

/// The sum of two images of bytes, as bytes.
pub(crate) fn sum_of_bytes(
    isa: Isa,
    shape: Shape,
    [a, b]: [View<'_, u8>; 2],
    destination: ViewMut<'_, u8>,
    by: ByteSum,
) {
    struct Sum<'a>(Shape, [View<'a, u8>; 2], ViewMut<'a, u8>, ByteSum);
    impl Task for Sum<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Sum(
                Shape { height, width, channels },
                [View { data: a, layout: of_a }, View { data: b, layout: of_b }],
                ViewMut { data: destination, layout: to },
                by,
            ) = self;
            // Contiguous pixels are processed as one long pixel.
            let dense = [of_a, of_b, to].iter().all(|place| place.pixel == channels);
            let (width, channels) = if dense { (1, width * channels) } else { (width, channels) };
            let ready = by.ready(isa);
            for y in 0..height {
                for x in 0..width {
                    let at = |place: PixelLayout| place.at(y, x);
                    let (a, b) = (&a[at(of_a)..][..channels], &b[at(of_b)..][..channels]);
                    let sums = &mut destination[at(to)..][..channels];
                    ready.add([a, b], sums);
                }
            }
        }
    }
    isa.run(Sum(shape, [a, b], destination, by));
}

/// `destination = source * gate[channel]`, float.
pub(crate) fn gate_floats(
    isa: Isa,
    shape: Shape,
    source: View<'_, f32>,
    gate: &[f32],
    destination: ViewMut<'_, f32>,
) {
    each_pixel(
        isa,
        shape,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            for ((b, a), gate) in b.iter_mut().zip(a).zip(gate) {
                *b = a * gate;
            }
        },
    );
}

/// `destination = quantize((source - zero) * scale * gate[channel])`, bytes.
pub(crate) fn gate_bytes(
    isa: Isa,
    shape: Shape,
    source: View<'_, u8>,
    scale: Scale,
    gate: &[f32],
    destination: ViewMut<'_, u8>,
    quantize: Quantize,
) {
    each_pixel(
        isa,
        shape,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            for ((b, a), gate) in b.iter_mut().zip(a).zip(gate) {
                *b = quantize.byte(scale.number(*a) * gate);
            }
        },
    );
}

/// `destination = a * b`, float.
pub(crate) fn product(
    isa: Isa,
    shape: Shape,
    [a, b]: [View<'_, f32>; 2],
    ViewMut { data: destination, layout: to }: ViewMut<'_, f32>,
) {
    copy(isa, shape, a, ViewMut { data: &mut *destination, layout: to });
    each_pixel(
        isa,
        shape,
        b,
        ViewMut { data: destination, layout: to },
        #[inline(always)]
        |b, product| {
            for (product, b) in product.iter_mut().zip(b) {
                *product *= *b;
            }
        },
    );
}
