//! Layout changes between NCHW and the engine's NHWC, at the inputs and outputs of a network or region.
//!
//! Plain loops over slices: inside [`Isa::run`], the compiler vectorises them well enough.

use super::image::{Hw, PixelLayout, Shape};
use super::isa::{Isa, Task};
use super::operations::Simd;
use super::quantize::Quantize;

/// The layout of planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaneLayout {
    /// Index of the first plane's first element.
    pub origin: usize,
    /// Distance between two planes and between two rows, in elements.
    pub plane: usize,
    pub row: usize,
}

/// Copies planes of `height` by `width` into larger ones: element `(channel, y, x)` goes to
/// `origin + channel * plane + y * row + x`.
pub(crate) fn planes_into_planes(
    source: &[f32],
    Hw { height, width }: Hw,
    destination: &mut [f32],
    PlaneLayout { origin, plane, row }: PlaneLayout,
) {
    for (channel, image) in source.chunks_exact(height * width).enumerate() {
        for (y, line) in image.chunks_exact(width).enumerate() {
            let at = origin + channel * plane + y * row;
            destination[at..at + width].copy_from_slice(line);
        }
    }
}

/// Converts planes `[channels, height, width]` to pixels of `target`.
pub(crate) fn planes_into_pixels(
    isa: Isa,
    source: &[f32],
    Hw { height, width }: Hw,
    destination: &mut [f32],
    target: PixelLayout,
) {
    pixels(
        isa,
        source,
        Hw { height, width },
        destination,
        target,
        #[inline(always)]
        |x| x,
    );
}

/// Converts planes of floats to pixels of bytes. If the image is `alone`, bytes after a pixel's channels may be
/// overwritten.
pub(crate) fn planes_into_bytes(
    isa: Isa,
    source: &[f32],
    Hw { height, width }: Hw,
    destination: &mut [u8],
    target: PixelLayout,
    quantize: Quantize,
    alone: bool,
) {
    if alone
        && source.len() == 3 * height * width
        && target.pixel == 4
        && target.origin + height * target.row <= destination.len()
    {
        return picture(isa, source, Hw { height, width }, destination, target, quantize);
    }
    pixels(
        isa,
        source,
        Hw { height, width },
        destination,
        target,
        #[inline(always)]
        |x| quantize.byte(x),
    );
}

/// Converts the three planes of a picture to four bytes per pixel. The fourth byte is zero.
fn picture(
    isa: Isa,
    source: &[f32],
    Hw { height, width }: Hw,
    destination: &mut [u8],
    target: PixelLayout,
    quantize: Quantize,
) {
    struct Picture<'a>(&'a [f32], Hw, &'a mut [u8], PixelLayout, Quantize);
    impl Task for Picture<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Picture(source, Hw { height, width }, destination, target, quantize) = self;
            let (red, rest) = source.split_at(height * width);
            let (green, blue) = rest.split_at(height * width);
            for y in 0..height {
                let line = y * width..(y + 1) * width;
                let at = target.origin + y * target.row;
                let (pixels, _) = destination[at..at + 4 * width].as_chunks_mut::<4>();
                let planes = red[line.clone()].iter().zip(&green[line.clone()]).zip(&blue[line]);
                for (pixel, ((r, g), b)) in pixels.iter_mut().zip(planes) {
                    let [r, g, b] = [*r, *g, *b].map(|x| u32::from(quantize.byte(x)));
                    *pixel = (r | g << 8 | b << 16).to_le_bytes();
                }
            }
        }
    }
    isa.run(Picture(source, Hw { height, width }, destination, target, quantize));
}

fn pixels<T>(
    isa: Isa,
    source: &[f32],
    Hw { height, width }: Hw,
    destination: &mut [T],
    target: PixelLayout,
    convert: impl Fn(f32) -> T,
) {
    struct Pixels<'a, T, F>(&'a [f32], Hw, &'a mut [T], PixelLayout, F);
    impl<T, F: Fn(f32) -> T> Task for Pixels<'_, T, F> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Pixels(source, Hw { height, width }, destination, target, convert) = self;
            let channels = source.len() / (height * width);
            // The writes go pixel by pixel. The reads cover a few pixels at a time, so both stay in the cache.
            for y in 0..height {
                for first in (0..width).step_by(16) {
                    let count = (width - first).min(16);
                    for channel in 0..channels {
                        let from = (channel * height + y) * width + first;
                        let at = target.origin + y * target.row + first * target.pixel + channel;
                        for (i, x) in source[from..from + count].iter().enumerate() {
                            destination[at + i * target.pixel] = convert(*x);
                        }
                    }
                }
            }
        }
    }
    isa.run(Pixels(source, Hw { height, width }, destination, target, convert));
}

/// Converts pixels (`place` of `source`) to planes, `[channels, height, width]` of `destination`.
pub(crate) fn pixels_into_planes<T: Copy>(
    source: &[T],
    place: PixelLayout,
    Hw { height, width }: Hw,
    destination: &mut [f32],
    convert: impl Fn(T) -> f32,
) {
    let channels = destination.len() / (height * width);
    for y in 0..height {
        for first in (0..width).step_by(16) {
            let count = (width - first).min(16);
            for channel in 0..channels {
                let to = (channel * height + y) * width + first;
                let from = place.origin + y * place.row + first * place.pixel + channel;
                for (i, x) in destination[to..to + count].iter_mut().enumerate() {
                    *x = convert(source[from + i * place.pixel]);
                }
            }
        }
    }
}

/// Copies pixels (`place` of `source`) without gaps, `[height, width, channels]` of `destination`.
pub(crate) fn pixels_together<T: Copy>(
    source: &[T],
    place: PixelLayout,
    Shape { height, width, channels }: Shape,
    destination: &mut [f32],
    convert: impl Fn(T) -> f32,
) {
    for (number, pixel) in destination.chunks_exact_mut(channels).enumerate().take(height * width) {
        let from = place.origin + number / width * place.row + number % width * place.pixel;
        pixel.iter_mut().zip(&source[from..from + channels]).for_each(|(to, &from)| *to = convert(from));
    }
}

/// Sets the border of `halo` pixels around `height` by `width` pixels at `place`.
pub(crate) fn fill_halo<T: Copy>(
    destination: &mut [T],
    place: PixelLayout,
    Shape { height, width, channels }: Shape,
    halo: usize,
    value: T,
) {
    let corner = place.origin - halo * (place.row + place.pixel);
    let mut fill = |y: usize, x: usize, count: usize| {
        let start = corner + y * place.row + x * place.pixel;
        if channels == place.pixel {
            destination[start..start + count * channels].fill(value);
        } else {
            for i in 0..count {
                destination[start + i * place.pixel..][..channels].fill(value);
            }
        }
    };
    for y in 0..height + 2 * halo {
        if y < halo || y >= height + halo {
            fill(y, 0, width + 2 * halo);
        } else {
            fill(y, 0, halo);
            fill(y, halo + width, halo);
        }
    }
}
