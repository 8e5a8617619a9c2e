//! Augmentation of photographs: mosaics, scales, crops, flips, colours, mixup and cutout.
//!
//! The augmentation is strong enough for a set of some ten thousand photographs. With less augmentation, a network of
//! two million weights that sees each photograph fifty times overfits.

use fast_image_resize as fir;
use fir::images::{Image, ImageRef};

use super::photos::Photo;

/// The grey for areas without a photograph, equal to that of the detector's letterbox.
pub(super) const GREY: u8 = 114;

/// An object is ignored, not learned, if less than this share of it remains after a crop.
const VISIBLE_MIN: f32 = 0.35;

/// Objects with a side shorter than this, in pixels of the sample, cannot be learned at any stride.
const SIDE_MIN_PX: f32 = 3.0;

/// A square training image and its objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// 8-bit RGB, row-major, `[size, size, 3]`.
    pub rgb: Vec<u8>,
    /// Side in pixels.
    pub size: usize,
    /// The objects.
    pub targets: Vec<Target>,
}

/// An object to be learned or ignored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Index of the class.
    pub class: usize,
    /// Left, top, right, bottom in pixels of the sample.
    pub ltrb: [f32; 4],
    /// The weight of the object for a head with anchors; 1 for a box drawn by a person. With 0, every head ignores this
    /// area for this class.
    pub weight: f32,
    /// The probability that the object exists, 0–1; 1 for a box drawn by a person. A head without anchors learns this
    /// share of the score.
    pub certainty: f32,
}

/// A photograph to be placed into a sample, with its objects in its own pixels.
pub struct SourcePhoto<'a> {
    /// The pixels.
    pub photo: &'a Photo,
    /// The objects.
    pub targets: &'a [Target],
}

/// Makes samples. Its buffers are reused.
pub struct Augmenter {
    resizer: fir::Resizer,
    scratch: Vec<u8>,
}

impl Default for Augmenter {
    fn default() -> Self {
        Augmenter { resizer: fir::Resizer::new(), scratch: Vec::new() }
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy)]
struct Rect {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Augmenter {
    /// One photograph: its longer side becomes 0.5 to 1.6 times `size`, at a random place.
    pub fn single(&mut self, source: SourcePhoto, size: usize, rng: &mut fastrand::Rng) -> Sample {
        let mut sample = blank(size);
        let long = size as f32 * between(rng, 0.5, 1.6);
        self.lay(&mut sample, source, Rect { x: 0, y: 0, width: size, height: size }, long, rng);
        sample
    }

    /// Four photographs around a random centre (Bochkovskiy et al. 2020).
    pub fn mosaic(&mut self, sources: [SourcePhoto; 4], size: usize, rng: &mut fastrand::Rng) -> Sample {
        let mut sample = blank(size);
        let side = size as f32;
        let x = (side * between(rng, 0.3, 0.7)) as usize;
        let y = (side * between(rng, 0.3, 0.7)) as usize;
        let quarters = [(0, 0, x, y), (x, 0, size - x, y), (0, y, x, size - y), (x, y, size - x, size - y)];
        for (source, (x, y, width, height)) in sources.into_iter().zip(quarters) {
            let long = size as f32 * between(rng, 0.3, 1.3);
            self.lay(&mut sample, source, Rect { x, y, width, height }, long, rng);
        }
        sample
    }

    /// Blends two samples of the same size (mixup, Zhang et al. 2018). The objects of both are learned.
    pub fn mix(sample: &mut Sample, other: Sample, rng: &mut fastrand::Rng) {
        let share = between(rng, 0.35, 0.65);
        let (share, rest) = ((256.0 * share) as u32, 256 - (256.0 * share) as u32);
        for (value, other) in sample.rgb.iter_mut().zip(other.rgb) {
            *value = ((u32::from(*value) * share + u32::from(other) * rest) >> 8) as u8;
        }
        sample.targets.extend(other.targets);
    }

    /// Covers up to three rectangles with one colour each (Zhong et al. 2020). An object of which more than half is
    /// covered by one of them is ignored.
    pub fn cover(sample: &mut Sample, rng: &mut fastrand::Rng) {
        let side = sample.size as f32;
        for _ in 0..rng.usize(1..=3) {
            let (width, height) = (side * between(rng, 0.04, 0.25), side * between(rng, 0.04, 0.25));
            let (left, top) = (rng.f32() * (side - width), rng.f32() * (side - height));
            let colour = [rng.u8(..), rng.u8(..), rng.u8(..)];
            let (right, bottom) = (left + width, top + height);
            for row in top as usize..bottom as usize {
                let start = (row * sample.size + left as usize) * 3;
                let end = (row * sample.size + right as usize) * 3;
                sample.rgb[start..end].as_chunks_mut().0.fill(colour);
            }
            for target in &mut sample.targets {
                let [l, t, r, b] = target.ltrb;
                let covered_width = (r.min(right) - l.max(left)).max(0.0);
                let covered_height = (b.min(bottom) - t.max(top)).max(0.0);
                if covered_width * covered_height > 0.5 * (r - l) * (b - t) {
                    target.weight = 0.0;
                }
            }
        }
    }

    /// Places a photograph into a part of the sample, scaled so that its longer side is `long` pixels.
    fn lay(&mut self, sample: &mut Sample, source: SourcePhoto, area: Rect, long: f32, rng: &mut fastrand::Rng) {
        let photo = source.photo;
        let scale = long / photo.width.max(photo.height) as f32;
        // Slight changes of the aspect ratio.
        let stretch = between(rng, 0.85, 1.18);
        let scale_x = scale * stretch;
        let scale_y = scale / stretch;
        let (width, height) = (photo.width as f32 * scale_x, photo.height as f32 * scale_y);
        // If the photograph is larger than the area, a random part of it is visible; otherwise it lies at a random
        // position.
        let left = rng.f32() * (area.width as f32 - width);
        let top = rng.f32() * (area.height as f32 - height);
        let x0 = left.max(0.0).round() as usize;
        let y0 = top.max(0.0).round() as usize;
        let x1 = ((left + width).round() as usize).min(area.width);
        let y1 = ((top + height).round() as usize).min(area.height);
        if x1 <= x0 || y1 <= y0 {
            return;
        }
        let shown = Rect { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
        let crop_left = ((shown.x as f32 - left) / scale_x).clamp(0.0, photo.width as f32 - 1.0);
        let crop_top = ((shown.y as f32 - top) / scale_y).clamp(0.0, photo.height as f32 - 1.0);
        let crop_width = (shown.width as f32 / scale_x).min(photo.width as f32 - crop_left);
        let crop_height = (shown.height as f32 / scale_y).min(photo.height as f32 - crop_top);

        self.scratch.clear();
        self.scratch.resize(shown.width * shown.height * 3, 0);
        let view = ImageRef::new(photo.width, photo.height, &photo.rgb, fir::PixelType::U8x3);
        let target =
            Image::from_slice_u8(shown.width as u32, shown.height as u32, &mut self.scratch, fir::PixelType::U8x3);
        let (Ok(view), Ok(mut target)) = (view, target) else { return };
        // Bilinear, with a wider filter when the photograph is reduced, like the detector's letterbox.
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
            .crop(crop_left.into(), crop_top.into(), crop_width.into(), crop_height.into())
            .use_alpha(false);
        if self.resizer.resize(&view, &mut target, &options).is_err() {
            return; // The part stays grey and its objects are left out.
        }

        let flip = rng.bool();
        let colour = Colour::random(rng);
        for row in 0..shown.height {
            let from = &self.scratch[row * shown.width * 3..(row + 1) * shown.width * 3];
            let start = ((area.y + shown.y + row) * sample.size + area.x + shown.x) * 3;
            let to = &mut sample.rgb[start..start + shown.width * 3];
            colour.apply(from, to, flip);
        }

        let (dx, dy) = ((area.x + shown.x) as f32, (area.y + shown.y) as f32);
        let (shown_width, shown_height) = (shown.width as f32, shown.height as f32);
        for target in source.targets {
            let [l, t, r, b] = target.ltrb;
            let mut l = (l - crop_left) * scale_x;
            let mut r = (r - crop_left) * scale_x;
            let (t, b) = ((t - crop_top) * scale_y, (b - crop_top) * scale_y);
            if flip {
                (l, r) = (shown_width - r, shown_width - l);
            }
            let whole = (r - l) * (b - t);
            let (l, r) = (l.clamp(0.0, shown_width), r.clamp(0.0, shown_width));
            let (t, b) = (t.clamp(0.0, shown_height), b.clamp(0.0, shown_height));
            let visible = (r - l) * (b - t);
            if visible <= 0.0 {
                continue;
            }
            let too_little = visible < VISIBLE_MIN * whole || (r - l).min(b - t) < SIDE_MIN_PX;
            sample.targets.push(Target {
                class: target.class,
                ltrb: [l + dx, t + dy, r + dx, b + dy],
                weight: if too_little { 0.0 } else { target.weight },
                certainty: target.certainty,
            });
        }
    }
}

fn blank(size: usize) -> Sample {
    Sample { rgb: vec![GREY; size * size * 3], size, targets: Vec::new() }
}

fn between(rng: &mut fastrand::Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.f32()
}

/// An affine change of colour, in 1/256. Each row has an output channel's weights of red, green and blue, and an
/// offset.
struct Colour {
    rows: [[i32; 4]; 3],
}

impl Colour {
    /// Random changes: brightness 0.6 to 1.4, contrast 0.7 to 1.3, saturation 0.3 to 1.7 (grey in one of ten cases),
    /// hue by up to 20°, a slight tint.
    fn random(rng: &mut fastrand::Rng) -> Colour {
        let brightness = between(rng, 0.6, 1.4);
        let contrast = between(rng, 0.7, 1.3);
        let saturation = if rng.f32() < 0.1 { 0.0 } else { between(rng, 0.3, 1.7) };
        let luma = [0.299, 0.587, 0.114];
        // A rotation about the axis of greys.
        let (sin, cos) = between(rng, -20.0, 20.0).to_radians().sin_cos();
        let (third, side) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
        let turn = [cos + third, third - side, third + side];
        let mut rows = [[0; 4]; 3];
        for (row, line) in rows.iter_mut().enumerate() {
            let gain = 256.0 * contrast * brightness * between(rng, 0.9, 1.1);
            for column in 0..3 {
                let hue = turn[(column + 3 - row) % 3];
                line[column] = (gain * (saturation * hue + (1.0 - saturation) * luma[column])) as i32;
            }
            line[3] = (256.0 * f32::from(GREY) * (1.0 - contrast)) as i32;
        }
        Colour { rows }
    }

    fn apply(&self, from: &[u8], to: &mut [u8], flip: bool) {
        let paint = |from: &[u8], to: &mut [u8]| {
            let [r, g, b] = [i32::from(from[0]), i32::from(from[1]), i32::from(from[2])];
            for (row, to) in self.rows.iter().zip(to) {
                *to = ((row[0] * r + row[1] * g + row[2] * b + row[3]) >> 8).clamp(0, 255) as u8;
            }
        };
        let from = from.chunks_exact(3);
        if flip {
            from.zip(to.chunks_exact_mut(3).rev()).for_each(|(from, to)| paint(from, to));
        } else {
            from.zip(to.chunks_exact_mut(3)).for_each(|(from, to)| paint(from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey photograph with a white object at `ltrb`.
    fn photo_with_object(width: u32, height: u32, ltrb: [u32; 4]) -> (Photo, Target) {
        let mut rgb = vec![40; (width * height * 3) as usize];
        for y in ltrb[1]..ltrb[3] {
            for x in ltrb[0]..ltrb[2] {
                let at = ((y * width + x) * 3) as usize;
                rgb[at..at + 3].fill(250);
            }
        }
        (
            Photo { width, height, rgb },
            Target { class: 1, ltrb: ltrb.map(|v| v as f32), weight: 1.0, certainty: 1.0 },
        )
    }

    /// Checks that a target's box is brighter than its surroundings, wherever the object was moved.
    fn assert_boxes_are_where_the_objects_are(sample: &Sample) {
        let at = |x: f32, y: f32| sample.rgb[(y as usize * sample.size + x as usize) * 3 + 1];
        for target in sample.targets.iter().filter(|target| target.weight > 0.0) {
            let [l, t, r, b] = target.ltrb;
            let centre = at((l + r) / 2.0, (t + b) / 2.0);
            for (x, y) in [(l + 2.0, t + 2.0), (r - 2.0, b - 2.0)] {
                assert!(at(x, y) > 100, "{target:?}: {} inside at {x},{y}", at(x, y));
            }
            assert!(centre > 100, "{target:?}");
            // In a mosaic, an object of another photograph may be directly beside this one.
            let taken = |x: f32, y: f32| {
                sample.targets.iter().any(|other| {
                    let [l, t, r, b] = other.ltrb;
                    other != target && x > l - 2.0 && x < r + 2.0 && y > t - 2.0 && y < b + 2.0
                })
            };
            let inside = |v: f32| v > 0.0 && v < sample.size as f32;
            for (x, y) in [(l - 3.0, t - 3.0), (r + 3.0, b + 3.0)] {
                if inside(x) && inside(y) && !taken(x, y) {
                    assert!(at(x, y) < 120, "{target:?}: {} outside at {x},{y}", at(x, y));
                }
            }
        }
    }

    #[test]
    fn boxes_follow_their_objects() {
        let (photo, target) = photo_with_object(120, 80, [30, 20, 70, 60]);
        let targets = [target];
        let mut augmenter = Augmenter::default();
        let mut taught = 0;
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let source = || SourcePhoto { photo: &photo, targets: &targets };
            let single = augmenter.single(source(), 128, &mut rng);
            let mosaic = augmenter.mosaic([source(), source(), source(), source()], 160, &mut rng);
            for sample in [single, mosaic] {
                assert_boxes_are_where_the_objects_are(&sample);
                taught += sample.targets.iter().filter(|target| target.weight > 0.0).count();
            }
        }
        assert!(taught > 400, "only {taught} objects left of 1000");
    }

    #[test]
    fn a_double_exposure_shows_both_and_keeps_all_objects() {
        let sample = |value: u8, class| {
            let target = Target { class, ltrb: [1.0, 1.0, 5.0, 5.0], weight: 1.0, certainty: 0.5 };
            Sample { rgb: vec![value; 8 * 8 * 3], size: 8, targets: vec![target] }
        };
        for seed in 0..20 {
            let mut mixed = sample(0, 1);
            Augmenter::mix(&mut mixed, sample(200, 2), &mut fastrand::Rng::with_seed(seed));
            assert!(mixed.rgb.iter().all(|value| (60..140).contains(value)), "{:?}", &mixed.rgb[..3]);
            assert_eq!(mixed.targets.iter().map(|target| target.class).collect::<Vec<_>>(), [1, 2]);
        }
    }

    #[test]
    fn an_object_that_is_mostly_covered_is_ignored() {
        let size = 64;
        let (mut ignored, mut taught) = (0, 0);
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (x, y) = (rng.f32() * 52.0, rng.f32() * 52.0);
            let ltrb = [x, y, x + 10.0, y + 10.0].map(f32::round);
            let mut sample = blank(size);
            sample.targets.push(Target { class: 0, ltrb, weight: 1.0, certainty: 1.0 });
            Augmenter::cover(&mut sample, &mut rng);
            let grey = |x: usize, y: usize| sample.rgb[(y * size + x) * 3..][..3] == [GREY; 3];
            let covered = (0..size * size).filter(|i| !grey(i % size, i / size)).count();
            assert!(covered > 0, "nothing is covered");
            let [l, t, r, b] = ltrb.map(|v| v as usize);
            let hidden = (t..b).flat_map(|y| (l..r).map(move |x| (x, y))).filter(|&(x, y)| !grey(x, y)).count();
            if sample.targets[0].weight == 0.0 {
                ignored += 1;
                assert!(hidden > 40, "{hidden} of 100 pixels are hidden");
            } else {
                taught += 1;
            }
            if hidden == 0 {
                assert_eq!(sample.targets[0].weight, 1.0);
            }
        }
        assert!(ignored > 3 && taught > 100, "{ignored} ignored, {taught} taught");
    }
}
