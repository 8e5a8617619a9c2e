//! Element by element: copies, sums, products, activations, channel gates.
//!
//! Plain loops over channels, as in [`layout`](super::layout).

use super::activation::{Activation, activate};
use super::image::{Extent, Source, Target};
use super::isa::{Isa, Task};
use super::operations::Simd;
use super::quantize::{Quantize, Requantize};

/// Work on one pixel after another: `f(source pixel, destination pixel)`.
pub(super) fn each_pixel<A, B>(
    isa: Isa,
    (height, width, channels): Extent,
    (source, from): (&[A], Target),
    (destination, to): (&mut [B], Target),
    f: impl FnMut(&[A], &mut [B]),
) {
    struct Each<'a, A, B, F>(Extent, (&'a [A], Target), (&'a mut [B], Target), F);
    impl<A, B, F: FnMut(&[A], &mut [B])> Task for Each<'_, A, B, F> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Each((height, width, channels), (source, from), (destination, to), mut f) = self;
            for y in 0..height {
                for x in 0..width {
                    let a = from.origin + y * from.row + x * from.pixel;
                    let b = to.origin + y * to.row + x * to.pixel;
                    f(&source[a..a + channels], &mut destination[b..b + channels]);
                }
            }
        }
    }
    isa.run(Each((height, width, channels), (source, from), (destination, to), f));
}

/// Copies an image.
pub(crate) fn copy<T: Copy>(isa: Isa, extent: Extent, source: (&[T], Target), destination: (&mut [T], Target)) {
    each_pixel(
        isa,
        extent,
        source,
        destination,
        #[inline(always)]
        |a, b| b.copy_from_slice(a),
    );
}

/// `destination = f(source)` for every element.
pub(crate) fn map<A: Copy, B>(
    isa: Isa,
    extent: Extent,
    source: (&[A], Target),
    destination: (&mut [B], Target),
    f: impl Fn(A) -> B,
) {
    each_pixel(
        isa,
        extent,
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

/// Floats to bytes.
pub(crate) fn quantize(
    isa: Isa,
    extent: Extent,
    source: Source<'_>,
    destination: (&mut [u8], Target),
    by: Quantize,
) {
    struct Run<'a>(Extent, Source<'a>, (&'a mut [u8], Target), Quantize);
    impl Task for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Run((height, width, channels), (source, from), (destination, to), by) = self;
            let Quantize { inverse_scale, low, high, zero } = by;
            let (scale, ready) = (isa.splat(inverse_scale), Requantize { low, high, zero, slope: 1.0 }.ready(isa));
            for y in 0..height {
                for x in 0..width {
                    let (a, b) =
                        (from.origin + y * from.row + x * from.pixel, to.origin + y * to.row + x * to.pixel);
                    let mut source = source[a..a + channels].chunks_exact(2 * S::LANES);
                    let mut destination = destination[b..b + channels].chunks_exact_mut(2 * S::LANES);
                    for (a, b) in source.by_ref().zip(destination.by_ref()) {
                        let (first, second) = a.split_at(S::LANES);
                        // No closure: `map` would call it from a function without the instruction set.
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
    isa.run(Run(extent, source, destination, by));
}

/// Applies an activation to every element.
pub(crate) fn activation(
    isa: Isa,
    extent: Extent,
    source: (&[f32], Target),
    (destination, to): (&mut [f32], Target),
    activation: Activation,
) {
    struct Activate<'a>(Extent, &'a mut [f32], Target, Activation);
    impl Task for Activate<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, isa: S) {
            let Activate((height, width, channels), values, place, activation) = self;
            for y in 0..height {
                for x in 0..width {
                    let at = place.origin + y * place.row + x * place.pixel;
                    activate(isa, activation, &mut values[at..at + channels]);
                }
            }
        }
    }
    copy(isa, extent, source, (&mut *destination, to));
    isa.run(Activate(extent, destination, to, activation));
}

/// `destination = activation(a + b)`, float.
pub(crate) fn sum(
    isa: Isa,
    extent: Extent,
    [a, b]: [Source<'_>; 2],
    (destination, to): (&mut [f32], Target),
    then: Activation,
) {
    copy(isa, extent, a, (&mut *destination, to));
    each_pixel(
        isa,
        extent,
        b,
        (&mut *destination, to),
        #[inline(always)]
        |b, sum| {
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum += *b;
            }
        },
    );
    if then != Activation::NONE {
        struct Activate<'a>(Extent, &'a mut [f32], Target, Activation);
        impl Task for Activate<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, isa: S) {
                let Activate((height, width, channels), values, place, activation) = self;
                for y in 0..height {
                    for x in 0..width {
                        let at = place.origin + y * place.row + x * place.pixel;
                        activate(isa, activation, &mut values[at..at + channels]);
                    }
                }
            }
        }
        isa.run(Activate(extent, destination, to, then));
    }
}

/// How two images of bytes are added: `quantize(leaky((a - zero) * scale + (b - zero) * scale))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ByteSum {
    /// Scale and zero point of each.
    pub scales: [(f32, i32); 2],
    /// What sums below zero are multiplied with, 0 to 1.
    pub slope: f32,
    /// What becomes of the sum.
    pub quantize: Quantize,
}

impl ByteSum {
    #[inline(always)]
    fn byte(self, a: u8, b: u8) -> u8 {
        let [(scale_a, zero_a), (scale_b, zero_b)] = self.scales;
        let sum = (i32::from(a) - zero_a) as f32 * scale_a + (i32::from(b) - zero_b) as f32 * scale_b;
        let leaky = sum * self.slope;
        self.quantize.byte(if sum > leaky { sum } else { leaky })
    }
}

/// The sum of two images of bytes, bytes again.
pub(crate) fn sum_of_bytes(
    isa: Isa,
    extent: Extent,
    [a, b]: [(&[u8], Target); 2],
    destination: (&mut [u8], Target),
    by: ByteSum,
) {
    struct Sum<'a>(Extent, [(&'a [u8], Target); 2], (&'a mut [u8], Target), ByteSum);
    impl Task for Sum<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Sum((height, width, channels), [(a, of_a), (b, of_b)], (destination, to), by) = self;
            // Pixels that lie side by side are one long one.
            let dense = [of_a, of_b, to].iter().all(|place| place.pixel == channels);
            let (width, channels) = if dense { (1, width * channels) } else { (width, channels) };
            for y in 0..height {
                for x in 0..width {
                    let at = |place: Target| place.origin + y * place.row + x * place.pixel;
                    let (a, b) = (&a[at(of_a)..][..channels], &b[at(of_b)..][..channels]);
                    let sums = &mut destination[at(to)..][..channels];
                    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                        *sum = by.byte(*a, *b);
                    }
                }
            }
        }
    }
    isa.run(Sum(extent, [a, b], destination, by));
}

/// `destination = source * gate[channel]`, float.
pub(crate) fn gate_floats(
    isa: Isa,
    extent: Extent,
    source: (&[f32], Target),
    gate: &[f32],
    destination: (&mut [f32], Target),
) {
    each_pixel(
        isa,
        extent,
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
    extent: Extent,
    source: (&[u8], Target),
    (scale, zero): (f32, i32),
    gate: &[f32],
    destination: (&mut [u8], Target),
    quantize: Quantize,
) {
    each_pixel(
        isa,
        extent,
        source,
        destination,
        #[inline(always)]
        |a, b| {
            for ((b, a), gate) in b.iter_mut().zip(a).zip(gate) {
                *b = quantize.byte((i32::from(*a) - zero) as f32 * scale * gate);
            }
        },
    );
}

/// `destination = a * b`, float.
pub(crate) fn product(isa: Isa, extent: Extent, [a, b]: [Source<'_>; 2], (destination, to): (&mut [f32], Target)) {
    copy(isa, extent, a, (&mut *destination, to));
    each_pixel(
        isa,
        extent,
        b,
        (destination, to),
        #[inline(always)]
        |b, product| {
            for (product, b) in product.iter_mut().zip(b) {
                *product *= *b;
            }
        },
    );
}
