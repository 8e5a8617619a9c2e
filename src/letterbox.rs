//! Scales a frame of any size to the network's input, and maps boxes back to the frame.
//!
//! The frame is scaled to fit, keeping its proportions, and centred on grey. `compress` trains with a letterbox that
//! follows the same rules, and `compress evaluate` uses this one. Pixel centres are at half-integers. Enlarging is
//! bilinear. Reducing uses a triangle filter as wide as the step, which Pillow and torchvision call "bilinear with
//! antialias".

use crate::detection::BoxLtrb;
use crate::engine::scale_row::{BESIDE, Columns, Taps};
use crate::image::{ImageView, PixelFormat};

/// The grey around a letterboxed frame and behind transparent pixels, 0 to 255.
pub(crate) const GREY: u8 = 114;

/// The position of a frame in the network's input: it starts at (`left`, `top`) and is `width` x `height` pixels large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Size of the network's input, px.
    input_width: u32,
    input_height: u32,
    /// Size of the original frame, px.
    frame_width: u32,
    frame_height: u32,
    /// Size of the scaled frame within the input, px, each at least 1.
    width: u32,
    height: u32,
    /// Grey to the left of and above the frame, px.
    left: u32,
    top: u32,
}

impl Placement {
    /// Fits `frame` (width, height) into `input` (width, height). All sides must be at least 1.
    pub fn fit(frame: (u32, u32), input: (u32, u32)) -> Placement {
        let scale = (f64::from(input.0) / f64::from(frame.0)).min(f64::from(input.1) / f64::from(frame.1));
        let side = |frame: u32, input: u32| ((f64::from(frame) * scale).round() as u32).clamp(1, input);
        let (width, height) = (side(frame.0, input.0), side(frame.1, input.1));
        Placement {
            input_width: input.0,
            input_height: input.1,
            frame_width: frame.0,
            frame_height: frame.1,
            width,
            height,
            left: (input.0 - width) / 2,
            top: (input.1 - height) / 2,
        }
    }

    /// Maps a box from pixels of the network's input to pixels of the frame, clipped to the frame.
    ///
    /// Width and height are scaled by their own rounded ratios, so that the corners of the frame map exactly to
    /// themselves.
    pub fn back_to_frame(&self, b: BoxLtrb) -> BoxLtrb {
        let x = |x: f32| {
            let frame = self.frame_width as f32;
            ((x - self.left as f32) * (frame / self.width as f32)).clamp(0.0, frame)
        };
        let y = |y: f32| {
            let frame = self.frame_height as f32;
            ((y - self.top as f32) * (frame / self.height as f32)).clamp(0.0, frame)
        };
        BoxLtrb { left: x(b.left), top: y(b.top), right: x(b.right), bottom: y(b.bottom) }
    }
}

/// The weights of the vertical pass sum to this, so that rows of bytes can be summed in 16 bits.
const ROW_UNIT: u32 = 256;
/// The weights of the horizontal pass sum to this: 255 * 256 * 2^14 still fits into 31 bits.
const COLUMN_UNIT: u32 = 1 << 14;
/// Subtracted from sums of rows, so that they are signed 16-bit numbers, which processors multiply in pairs.
const MIDDLE: i32 = 1 << 15;
/// The stored form of a sum of zero.
const ZERO: i16 = -MIDDLE as i16;

/// Scales frames, and keeps its tables and buffers from frame to frame.
///
/// The vertical pass comes first. It touches every pixel of the frame, and summing whole rows, each with one weight,
/// runs 8 lanes wide in 16 bits. The horizontal pass then processes one row per row of the *output* and writes three
/// planes.
#[derive(Debug, Default)]
pub(crate) struct Letterbox {
    placement: Option<Placement>,
    rows: Taps<u16>,
    /// `None` if the width of the frame does not change.
    columns: Option<Columns>,
    /// The weighted sum of some rows of the frame, each value at most 255 * `ROW_UNIT`, minus [`MIDDLE`]. Behind them is
    /// room for the values that [`Columns::scale`] reads beyond the end of a row.
    sum: Vec<i16>,
    /// One row of the frame with transparent pixels blended with grey.
    composite: Vec<u8>,
}

impl Letterbox {
    /// Writes `image` into `input`: planes red, green, blue of `input_height * input_width` values, 0 to 1.
    ///
    /// # Panics
    ///
    /// If `input` is not `3 * input_width * input_height` long.
    pub fn fill(&mut self, image: ImageView<'_>, input_size: (u32, u32), input: &mut [f32]) -> Placement {
        let placement = Placement::fit((image.width(), image.height()), input_size);
        assert_eq!(input.len(), 3 * input_size.0 as usize * input_size.1 as usize);
        if self.placement != Some(placement) {
            self.rows = plan(placement.frame_height, placement.height, ROW_UNIT);
            self.columns = (placement.frame_width != placement.width)
                .then(|| Columns::new(&plan(placement.frame_width, placement.width, COLUMN_UNIT)));
            self.placement = Some(placement);
        }
        let Placement { input_width, input_height, width, height, left, top, .. } = placement;
        let (input_width, left, width) = (input_width as usize, left as usize, width as usize);
        let grey = f32::from(GREY) / 255.0;

        let plane = input_width * input_height as usize;
        let (red, rest) = input.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let covered = top as usize * input_width..(top + height) as usize * input_width;
        for plane in [&mut *red, green, blue] {
            plane[..covered.start].fill(grey);
            plane[covered.end..].fill(grey);
            for row in plane[covered.clone()].chunks_exact_mut(input_width) {
                row[..left].fill(grey);
                row[left + width..].fill(grey);
            }
        }

        for y in 0..height as usize {
            self.sum_rows(image, y);
            let start = covered.start + y * input_width + left;
            let out = [&mut red[start..][..width], &mut green[start..][..width], &mut blue[start..][..width]];
            match image.format() {
                PixelFormat::Rgb => scale_row::<3>(self.columns.as_ref(), &self.sum, out),
                PixelFormat::Rgba => scale_row::<4>(self.columns.as_ref(), &self.sum, out),
            }
        }
        placement
    }

    /// Sums the rows of the frame that row `y` of the scaled frame consists of into `self.sum`.
    fn sum_rows(&mut self, image: ImageView<'_>, y: usize) {
        let (first, weights) = self.rows.of(y);
        let length = image.width() as usize * image.format().channels();
        self.sum.resize(length + BESIDE, ZERO);
        for (number, (row, &weight)) in (first..).zip(weights).enumerate() {
            add_row(&mut self.sum, image.row(row), weight, number == 0);
        }
        // The sum of alpha is full only if every pixel with a weight was opaque. So an opaque frame costs one pass over
        // a row for transparency, and none over the whole picture.
        let opaque = ZERO.wrapping_add((255 * ROW_UNIT) as i16);
        if image.format() == PixelFormat::Rgba && least_alpha(&self.sum[..length]) != opaque {
            for (number, (row, &weight)) in (first..).zip(weights).enumerate() {
                composite_over_grey(image.row(row), &mut self.composite);
                add_row(&mut self.sum, &self.composite, weight, number == 0);
            }
        }
    }
}

// The loops over a row are separate functions: a browser optimises one function at a time, and optimises these within
// the first frame.

/// `sum += row * weight`, starting at [`ZERO`] for the first row. The weights of all rows together are at most
/// `ROW_UNIT`, so nothing overflows.
#[inline(never)]
fn add_row(sum: &mut [i16], row: &[u8], weight: u16, is_first: bool) {
    let weighted = |value: u8| u16::from(value).wrapping_mul(weight) as i16;
    let sums = sum.iter_mut().zip(row);
    if is_first {
        sums.for_each(|(sum, &value)| *sum = ZERO.wrapping_add(weighted(value)));
    } else {
        sums.for_each(|(sum, &value)| *sum = sum.wrapping_add(weighted(value)));
    }
}

/// The smallest value of the fourth channel. All four channels are compared, which lets the compiler vectorise the
/// loop.
#[inline(never)]
fn least_alpha(sum: &[i16]) -> i16 {
    let (pixels, _) = sum.as_chunks::<4>();
    let least = pixels.iter().fold([i16::MAX; 4], |least, pixel| std::array::from_fn(|i| least[i].min(pixel[i])));
    least[3]
}

/// Blends straight-alpha pixels with grey: red, green, blue, and full alpha.
#[inline(never)]
fn composite_over_grey(row: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend(row.chunks_exact(4).flat_map(|pixel| {
        let alpha = u32::from(pixel[3]);
        let over = |value: u8| ((u32::from(value) * alpha + u32::from(GREY) * (255 - alpha) + 127) / 255) as u8;
        [over(pixel[0]), over(pixel[1]), over(pixel[2]), 255]
    }));
}

/// Scales one row of `CHANNELS` interleaved values and splits it into red, green and blue, each 0 to 1.
fn scale_row<const CHANNELS: usize>(columns: Option<&Columns>, row: &[i16], out: [&mut [f32]; 3]) {
    const TO_UNIT: f32 = 1.0 / (255.0 * ROW_UNIT as f32 * COLUMN_UNIT as f32);
    match columns {
        Some(columns) => columns.scale::<CHANNELS>(row, MIDDLE * COLUMN_UNIT as i32, TO_UNIT, out),
        None => split_row::<CHANNELS>(row, out),
    }
}

/// The same for a row whose length does not change.
#[inline(never)]
fn split_row<const CHANNELS: usize>(row: &[i16], out: [&mut [f32]; 3]) {
    // Equal to the factor after scaling up to a power of two, so the floats are the same.
    const TO_UNIT: f32 = 1.0 / (255.0 * ROW_UNIT as f32);
    let (pixels, _) = row.as_chunks::<CHANNELS>();
    // Plane by plane, in loops that the compiler vectorises.
    for (channel, out) in out.into_iter().enumerate() {
        for (out, pixel) in out.iter_mut().zip(pixels) {
            *out = (i32::from(pixel[channel]) + MIDDLE) as f32 * TO_UNIT;
        }
    }
}

/// The taps that resample an axis from `from` to `to` positions. The weights of each output sum to `unit` exactly, so
/// that a picture of one colour keeps its colour.
fn plan(from: u32, to: u32, unit: u32) -> Taps<u16> {
    let mut taps = Taps::default();
    let step = f64::from(from) / f64::from(to);
    let radius = step.max(1.0);
    for output in 0..to {
        let centre = (f64::from(output) + 0.5) * step - 0.5;
        // Positions at a distance of a whole radius have no weight.
        let first = ((centre - radius).floor() + 1.0).max(0.0) as u32;
        let last = ((centre + radius).ceil() as u32).saturating_sub(1).min(from - 1);
        let weight = |input: u32| (1.0 - ((f64::from(input) - centre) / radius).abs()).max(0.0);
        let total: f64 = (first..=last).map(weight).sum();
        // Rounding the running sum instead of each weight makes the total exact. No weight is off by more than one.
        let (mut running, mut given) = (0.0, 0);
        let weights = (first..=last).map(|input| {
            running += weight(input);
            let until = (running / total * f64::from(unit)).round() as u32;
            (until - std::mem::replace(&mut given, until)) as u16
        });
        taps.push(first as usize, weights);
    }
    taps
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letterboxes `image` and returns rows of RGB bytes, like the fixtures.
    fn bytes(image: ImageView<'_>, size: (u32, u32)) -> Vec<u8> {
        let plane = (size.0 * size.1) as usize;
        let mut input = vec![f32::NAN; 3 * plane];
        Letterbox::default().fill(image, size, &mut input);
        (0..3 * plane).map(|i| (input[i % 3 * plane + i / 3] * 255.0).round() as u8).collect()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn agrees_with_pillow() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/letterbox.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let side = |name: &str| case[name].as_u64().unwrap() as u32;
            let (width, height) = (side("width"), side("height"));
            let size = (side("input_width"), side("input_height"));
            let pixels = from_hex(case["pixels"].as_str().unwrap());
            let expected = from_hex(case["letterboxed"].as_str().unwrap());

            let found = bytes(ImageView::rgb(&pixels, width, height).unwrap(), size);
            let off = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // Both round after each of two passes, but in different order.
            assert!(off <= 2, "{width} x {height} in {size:?} is off by {off}");
            let mean = found.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
                / found.len() as f64;
            assert!(mean < 0.3, "{width} x {height} in {size:?} is off by {mean} on average");

            let rgba: Vec<u8> = pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
            assert_eq!(bytes(ImageView::rgba(&rgba, width, height).unwrap(), size), found, "alpha changes nothing");
        }
    }

    #[test]
    fn flat_pictures_stay_flat_and_the_border_is_grey() {
        // 64 x 16 in 32 x 32: 8 rows of picture, 12 of grey above and below.
        let pixels = [200u8, 100, 50].repeat(64 * 16);
        let found = bytes(ImageView::rgb(&pixels, 64, 16).unwrap(), (32, 32));
        for (row, pixels) in found.chunks_exact(32 * 3).enumerate() {
            let expected = if (12..20).contains(&row) { [200, 100, 50] } else { [GREY; 3] };
            assert!(pixels.chunks_exact(3).all(|pixel| pixel == expected), "row {row}");
        }
    }

    #[test]
    fn transparent_pixels_show_grey() {
        let clear = bytes(ImageView::rgba(&[255, 0, 0, 0], 1, 1).unwrap(), (32, 32));
        assert!(clear.iter().all(|&value| value == GREY));

        let half = bytes(ImageView::rgba(&[255, 0, 0, 128], 1, 1).unwrap(), (32, 32));
        // (255 * 128 + 114 * 127) / 255 = 184.8; (0 + 114 * 127) / 255 = 56.8
        assert_eq!(half[..3], [185, 57, 57]);
    }

    #[test]
    fn a_frame_leaves_nothing_behind_for_the_next() {
        let mut letterbox = Letterbox::default();
        let mut input = vec![f32::NAN; 3 * 32 * 32];
        let frames: [(&[u8], u32, u32); 3] =
            [(&[9; 3 * 64 * 10], 64, 10), (&[200; 3 * 10 * 64], 10, 64), (&[77; 3], 1, 1)];
        for (pixels, width, height) in frames {
            letterbox.fill(ImageView::rgb(pixels, width, height).unwrap(), (32, 32), &mut input);
            let mut fresh = vec![f32::NAN; 3 * 32 * 32];
            Letterbox::default().fill(ImageView::rgb(pixels, width, height).unwrap(), (32, 32), &mut fresh);
            assert_eq!(input, fresh, "{width} x {height}");
        }
    }

    #[test]
    fn the_longest_strip_fits() {
        let pixels = vec![10; 3 * 16_384];
        for (width, height) in [(16_384, 1), (1, 16_384)] {
            let found = bytes(ImageView::rgb(&pixels, width, height).unwrap(), (416, 416));
            let covered = found.iter().filter(|&&value| value == 10).count();
            assert_eq!(covered, 3 * 416, "one line of 416 px");
        }
    }

    fn sides() -> impl Strategy<Value = (u32, u32)> {
        (1u32..=16_384, 1u32..=16_384)
    }

    proptest! {
        #[test]
        fn letterbox_and_back_is_the_identity(
            frame in sides(),
            input in (1u32..=64, 1u32..=64).prop_map(|(w, h)| (w * 32, h * 32)),
            corner in (0.0f32..1.0, 0.0f32..1.0),
            far in (0.0f32..1.0, 0.0f32..1.0),
        ) {
            let placement = Placement::fit(frame, input);
            // The box in the letterboxed picture, computed from the proportions of the picture alone.
            let (w, h) = (frame.0 as f32, frame.1 as f32);
            let bbox = BoxLtrb {
                left: corner.0.min(far.0) * w,
                top: corner.1.min(far.1) * h,
                right: corner.0.max(far.0) * w,
                bottom: corner.1.max(far.1) * h,
            };
            let x = |x: f32| placement.left as f32 + x / w * placement.width as f32;
            let y = |y: f32| placement.top as f32 + y / h * placement.height as f32;
            let there = BoxLtrb { left: x(bbox.left), top: y(bbox.top), right: x(bbox.right), bottom: y(bbox.bottom) };
            let back = placement.back_to_frame(there);
            for (found, expected) in [
                (back.left, bbox.left),
                (back.top, bbox.top),
                (back.right, bbox.right),
                (back.bottom, bbox.bottom),
            ] {
                prop_assert!((found - expected).abs() < 0.5, "{found} for {expected} in {placement:?}");
            }
        }

        #[test]
        fn the_picture_fills_the_input_in_one_direction(frame in sides(), input in sides()) {
            let p = Placement::fit(frame, input);
            prop_assert!(p.width == input.0 || p.height == input.1);
            prop_assert!(p.left + p.width <= input.0 && p.top + p.height <= input.1);
            // Centred; an odd pixel of grey is on the right or at the bottom.
            prop_assert!(input.0 - p.width - 2 * p.left <= 1 && input.1 - p.height - 2 * p.top <= 1);
        }

        #[test]
        fn weights_sum_to_one(from in 1u32..5000, to in 1u32..700) {
            for unit in [ROW_UNIT, COLUMN_UNIT] {
                let taps = plan(from, to, unit);
                for output in 0..to as usize {
                    let (first, weights) = taps.of(output);
                    prop_assert!(first + weights.len() <= from as usize);
                    prop_assert_eq!(weights.iter().map(|&w| u32::from(w)).sum::<u32>(), unit);
                }
            }
        }
    }

    /// Printed, not asserted: `cargo test --release --lib -- --ignored --nocapture takes`.
    #[test]
    #[ignore = "a measurement"]
    fn how_long_letterboxing_takes() {
        for (width, height) in [(640, 480), (1280, 720), (1920, 1080)] {
            let pixels: Vec<u8> =
                (0..width * height * 4).map(|i| if i % 4 == 3 { 255 } else { (i * 7 / 3) as u8 }).collect();
            let image = ImageView::rgba(&pixels, width, height).unwrap();
            let (mut letterbox, mut input) = (Letterbox::default(), vec![0.0; 3 * 416 * 416]);
            let mut times = Vec::new();
            for _ in 0..50 {
                let start = std::time::Instant::now();
                letterbox.fill(image, (416, 416), &mut input);
                times.push(start.elapsed());
            }
            times.sort();
            println!("{width} x {height} px to 416 x 416: {:?}", times[times.len() / 2]);
        }
    }
}
