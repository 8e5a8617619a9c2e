//! Max pooling, and global average pooling.
//!
//! Plain loops over channels, as in [`layout`](super::layout).

use super::elementwise::each_pixel;
use super::image::{Hw, PixelLayout, Shape, View, ViewMut};
use super::isa::{Isa, Task};
use super::operations::Simd;
use super::quantize::Scale;

/// Writes the mean of each channel to the first `channels` of `means`. For floats.
pub(crate) fn means_of_floats(
    isa: Isa,
    shape: Shape,
    View { data: source, layout: from }: View<'_, f32>,
    means: &mut [f32],
) {
    let Shape { height, width, channels } = shape;
    let means = &mut means[..channels];
    means.fill(0.0);
    // All pixels are added to the same means: the target has a distance of 0 between pixels.
    let here = PixelLayout { origin: 0, row: 0, pixel: 0 };
    each_pixel(
        isa,
        shape,
        View { data: source, layout: from },
        ViewMut { data: &mut *means, layout: here },
        #[inline(always)]
        |pixel, sums| {
            for (sum, x) in sums.iter_mut().zip(pixel) {
                *sum += *x;
            }
        },
    );
    let share = 1.0 / (height * width) as f32;
    means.iter_mut().for_each(|mean| *mean *= share);
}

/// The same for bytes with a scale and zero point: `(sum - pixels * zero) * scale / pixels`.
pub(crate) fn means_of_bytes(
    isa: Isa,
    shape: Shape,
    View { data: source, layout: from }: View<'_, u8>,
    Scale { scale, zero }: Scale,
    sums: &mut Vec<i32>,
    means: &mut [f32],
) {
    let Shape { height, width, channels } = shape;
    sums.clear();
    sums.resize(channels, 0);
    let here = PixelLayout { origin: 0, row: 0, pixel: 0 };
    each_pixel(
        isa,
        shape,
        View { data: source, layout: from },
        ViewMut { data: sums, layout: here },
        #[inline(always)]
        |pixel, sums| {
            for (sum, x) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*x);
            }
        },
    );
    let pixels = height * width;
    for (mean, sum) in means[..channels].iter_mut().zip(sums) {
        *mean = (*sum - pixels as i32 * zero) as f32 * scale / pixels as f32;
    }
}

/// The window of a max-pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolWindow {
    /// Rows and columns of the window, from one window to the next, and outside the image before the first pixel.
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub pad: (usize, usize),
}

/// The maximum of each window. Pixels outside the image do not count. `scratch` grows as needed.
pub(crate) fn max_pool<T: Copy + Default + PartialOrd>(
    isa: Isa,
    window: PoolWindow,
    shape: Shape,
    source: View<'_, T>,
    out: Hw,
    destination: ViewMut<'_, T>,
    scratch: &mut Vec<T>,
) {
    struct Pool<'a, T>(PoolWindow, Shape, View<'a, T>, Hw, ViewMut<'a, T>, &'a mut [T]);
    impl<T: Copy + PartialOrd> Task for Pool<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Pool(
                window,
                Shape { height, width, channels },
                View { data: source, layout: from },
                out,
                ViewMut { data: destination, layout: to },
                largest_rows,
            ) = self;
            // Contiguous pixels are processed as one long pixel.
            let (pixels, run) = if from.pixel == channels { (1, width * channels) } else { (width, channels) };
            for out_y in 0..out.height {
                // First down, whole rows at a time, then across. This makes fewer and longer loops than going window by
                // window.
                for (number, y) in inside(out_y, window.kernel.0, window.stride.0, window.pad.0, height).enumerate()
                {
                    for x in 0..pixels {
                        let row = &source[from.at(y, x)..][..run];
                        let largest = &mut largest_rows[x * channels..][..run];
                        if number == 0 {
                            largest.copy_from_slice(row);
                        } else {
                            keep_larger(largest, row);
                        }
                    }
                }
                let across = Across { window, width, channels, out: out.width };
                let row = &mut destination[to.at(out_y, 0)..];
                match channels {
                    ..4 => across.run::<T, 1>(largest_rows, row, to.pixel),
                    4..8 => across.run::<T, 4>(largest_rows, row, to.pixel),
                    8..16 => across.run::<T, 8>(largest_rows, row, to.pixel),
                    _ => across.run::<T, 16>(largest_rows, row, to.pixel),
                }
            }
        }
    }
    let length = shape.width * shape.channels;
    if scratch.len() < length {
        scratch.resize(length, T::default());
    }
    isa.run(Pool(window, shape, source, out, destination, &mut scratch[..length]));
}

/// The second half of a max-pool: from the maximum of each column to the maximum of each window.
#[derive(Clone, Copy)]
struct Across {
    window: PoolWindow,
    width: usize,
    channels: usize,
    /// Number of windows in a row.
    out: usize,
}

impl Across {
    /// Processes at least `N` channels, `N` at a time. The last chunk may overlap the one before.
    #[inline(always)]
    fn run<T: Copy + PartialOrd, const N: usize>(self, columns: &[T], to: &mut [T], pixel: usize) {
        let Across { window, width, channels, out } = self;
        for out_x in 0..out {
            let inside = inside(out_x, window.kernel.1, window.stride.1, window.pad.1, width);
            let columns = &columns[inside.start * channels..inside.end * channels];
            let to = &mut to[out_x * pixel..][..channels];
            for first in (0..channels).step_by(N) {
                let first = first.min(channels - N);
                let mut columns =
                    columns.chunks_exact(channels).filter_map(|column| column[first..].first_chunk::<N>());
                let Some(mut largest) = columns.next().copied() else { continue };
                columns.for_each(|column| keep_larger(&mut largest, column));
                to[first..first + N].copy_from_slice(&largest);
            }
        }
    }
}

#[inline(always)]
fn keep_larger<T: Copy + PartialOrd>(largest: &mut [T], others: &[T]) {
    for (a, b) in largest.iter_mut().zip(others) {
        *a = if *b > *a { *b } else { *a };
    }
}

/// The part of a window that is inside the image.
#[inline(always)]
fn inside(out: usize, kernel: usize, stride: usize, pad: usize, length: usize) -> core::ops::Range<usize> {
    (out * stride).saturating_sub(pad)..(out * stride + kernel).saturating_sub(pad).min(length)
}
