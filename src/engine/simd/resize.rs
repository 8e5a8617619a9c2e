//! Upsampling to twice the height and width, by nearest neighbour or bilinear. Bilinear is ONNX's Resize, linear, with
//! half-pixel coordinates, and PyTorch's bilinear interpolation without aligned corners.
//!
//! On each axis the centre of a new pixel is a quarter of a pixel from the centre of one old pixel and three quarters
//! from that of its neighbour. Their weights therefore are 3/4 and 1/4. Beyond the border the last pixel is repeated.
//!
//! Plain loops over channels, as in [`layout`](super::layout).

use super::elementwise::copy;
use super::image::{PixelLayout, Shape, View, ViewMut};
use super::isa::{Isa, Task};
use super::operations::Simd;

/// Doubles height and width. Each pixel is written four times.
pub(crate) fn upsample<T: Copy>(isa: Isa, shape: Shape, source: View<'_, T>, destination: ViewMut<'_, T>) {
    let ViewMut { data: to, layout: target } = destination;
    for y in 0..2 {
        for x in 0..2 {
            let origin = target.at(y, x);
            let part = PixelLayout { origin, row: 2 * target.row, pixel: 2 * target.pixel };
            copy(isa, shape, source, ViewMut { data: &mut *to, layout: part });
        }
    }
}

/// Bilinear upsampling of floats. `rows` grows as needed.
pub(crate) fn bilinear_floats(
    isa: Isa,
    shape: Shape,
    source: View<'_, f32>,
    destination: ViewMut<'_, f32>,
    rows: &mut Vec<f32>,
) {
    #[inline(always)]
    fn mix(near: f32, far: f32) -> f32 {
        near * 0.75 + far * 0.25
    }
    enlarge(isa, shape, source, destination, rows, mix, mix);
}

/// Bilinear upsampling of bytes that keep their scale. The exact mean is rounded to nearest, and ties to even counted
/// from `zero`, as a QuantizeLinear of the mean would round. `rows` grows as needed.
pub(crate) fn bilinear_bytes(
    isa: Isa,
    shape: Shape,
    source: View<'_, u8>,
    destination: ViewMut<'_, u8>,
    zero: i32,
    rows: &mut Vec<u16>,
) {
    let odd = (zero & 1) as u16;
    enlarge(
        isa,
        shape,
        source,
        destination,
        rows,
        #[inline(always)]
        |near: u8, far: u8| 3 * u16::from(near) + u16::from(far),
        #[inline(always)]
        move |near: u16, far: u16| {
            let sixteenths = 3 * near + far;
            ((sixteenths + 7 + (((sixteenths >> 4) ^ odd) & 1)) >> 4) as u8
        },
    );
}

/// First down (each row of pixels with its nearer neighbour), then across.
fn enlarge<T: Copy, M: Copy + Default>(
    isa: Isa,
    shape: Shape,
    source: View<'_, T>,
    destination: ViewMut<'_, T>,
    rows: &mut Vec<M>,
    down: impl Fn(T, T) -> M,
    across: impl Fn(M, M) -> T,
) {
    struct Enlarge<'a, T, M, D, A> {
        shape: Shape,
        source: View<'a, T>,
        destination: ViewMut<'a, T>,
        row: &'a mut [M],
        down: D,
        across: A,
    }
    impl<T: Copy, M: Copy, D: Fn(T, T) -> M, A: Fn(M, M) -> T> Task for Enlarge<'_, T, M, D, A> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            let Enlarge { shape: Shape { height, width, channels }, source, destination, row, down, across } = self;
            let (View { data: source, layout: from }, ViewMut { data: destination, layout: to }) =
                (source, destination);
            // Contiguous pixels are processed as one long pixel.
            let (pixels, run) = if from.pixel == channels { (1, width * channels) } else { (width, channels) };
            for y in 0..2 * height {
                let near = from.at(y / 2, 0);
                let beyond = if y % 2 == 0 { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(height - 1) };
                let far = from.at(beyond, 0);
                for x in 0..pixels {
                    let near = &source[near + x * from.pixel..][..run];
                    let far = &source[far + x * from.pixel..][..run];
                    for ((mixed, near), far) in row[x * channels..][..run].iter_mut().zip(near).zip(far) {
                        *mixed = down(*near, *far);
                    }
                }
                for x in 0..width {
                    let here = &row[x * channels..][..channels];
                    let left = &row[x.saturating_sub(1) * channels..][..channels];
                    let right = &row[(x + 1).min(width - 1) * channels..][..channels];
                    let at = to.at(y, 2 * x);
                    for (at, beside) in [(at, left), (at + to.pixel, right)] {
                        let pixel = &mut destination[at..at + channels];
                        for ((pixel, here), beside) in pixel.iter_mut().zip(here).zip(beside) {
                            *pixel = across(*here, *beside);
                        }
                    }
                }
            }
        }
    }
    let length = shape.width * shape.channels;
    if rows.len() < length {
        rows.resize(length, M::default());
    }
    isa.run(Enlarge { shape, source, destination, row: &mut rows[..length], down, across });
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The sources of position `place` on a side of `length` pixels: two pixels and the weight of the second.
    fn around(place: usize, length: usize) -> (usize, usize, f64) {
        let at = ((place as f64 + 0.5) / 2.0 - 0.5).max(0.0);
        (at as usize, (at as usize + 1).min(length - 1), at.fract())
    }

    fn mean(image: &[f64], Shape { height, width, channels }: Shape, y: usize, x: usize, channel: usize) -> f64 {
        let ((top, bottom, down), (left, right, across)) = (around(y, height), around(x, width));
        let at = |y: usize, x: usize| image[(y * width + x) * channels + channel];
        let row = |y: usize| at(y, left) * (1.0 - across) + at(y, right) * across;
        row(top) * (1.0 - down) + row(bottom) * down
    }

    /// Sizes with sides of 1, odd sides, channels that are not multiples of the vectors, and gaps between pixels.
    const SIZES: [(Shape, usize); 5] = [
        (Shape { height: 1, width: 1, channels: 3 }, 3),
        (Shape { height: 1, width: 4, channels: 24 }, 24),
        (Shape { height: 5, width: 3, channels: 7 }, 7),
        (Shape { height: 3, width: 5, channels: 33 }, 40),
        (Shape { height: 2, width: 2, channels: 96 }, 96),
    ];

    fn place(Shape { width, .. }: Shape, pixel: usize) -> PixelLayout {
        PixelLayout { origin: 5, row: width * pixel + 2, pixel }
    }

    #[test]
    fn floats_agree_with_the_definition_on_every_isa() {
        for isa in Isa::supported() {
            for (shape, pixel) in SIZES {
                let Shape { height, width, channels } = shape;
                let image: Vec<f64> =
                    (0..height * width * channels).map(|i| (i * 37 % 101) as f64 - 50.0).collect();
                let from = place(shape, pixel);
                let mut source = vec![f32::NAN; 5 + height * from.row + 64];
                for (i, value) in image.iter().enumerate() {
                    let (y, x) = (i / (width * channels), i / channels % width);
                    source[from.at(y, x) + i % channels] = *value as f32;
                }
                let to = place(Shape { height: 2 * height, width: 2 * width, channels }, channels);
                let mut result = vec![7.0; 5 + 2 * height * to.row];
                bilinear_floats(
                    isa,
                    shape,
                    View { data: &source, layout: from },
                    ViewMut { data: &mut result, layout: to },
                    &mut Vec::new(),
                );
                for y in 0..2 * height {
                    for x in 0..2 * width {
                        for channel in 0..channels {
                            let value = result[to.at(y, x) + channel];
                            // Halves and quarters of integers are exact.
                            let expected = mean(&image, shape, y, x, channel);
                            assert_eq!(f64::from(value), expected, "{} {shape:?} at {y}, {x}", isa.name());
                        }
                    }
                }
                assert!(result[..5].iter().all(|value| *value == 7.0));
            }
        }
    }

    #[test]
    fn bytes_are_rounded_as_a_quantize_linear_rounds_on_every_isa() {
        for isa in Isa::supported() {
            for ((shape, pixel), zero) in SIZES.into_iter().flat_map(|size| [(size, 0), (size, 13)]) {
                let Shape { height, width, channels } = shape;
                let image: Vec<u8> = (0..height * width * channels).map(|i| (i * 89 % 128) as u8).collect();
                let numbers: Vec<f64> = image.iter().map(|byte| f64::from(*byte) - f64::from(zero)).collect();
                let from = place(shape, pixel);
                let mut source = vec![255; 5 + height * from.row + 64];
                for (i, value) in image.iter().enumerate() {
                    let (y, x) = (i / (width * channels), i / channels % width);
                    source[from.at(y, x) + i % channels] = *value;
                }
                let to = place(Shape { height: 2 * height, width: 2 * width, channels }, channels);
                let mut result = vec![0; 5 + 2 * height * to.row];
                bilinear_bytes(
                    isa,
                    shape,
                    View { data: &source, layout: from },
                    ViewMut { data: &mut result, layout: to },
                    zero,
                    &mut Vec::new(),
                );
                for y in 0..2 * height {
                    for x in 0..2 * width {
                        for channel in 0..channels {
                            let byte = result[to.at(y, x) + channel];
                            let expected = mean(&numbers, shape, y, x, channel).round_ties_even() + f64::from(zero);
                            assert_eq!(f64::from(byte), expected, "{} {shape:?} at {y}, {x}", isa.name());
                        }
                    }
                }
            }
        }
    }
}
