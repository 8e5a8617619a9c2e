//! Boxes and labels on a picture.

use image::{Rgb, RgbImage};
use micro_yolo::Detection;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Draws the best detection last, so that its label lies on top.
pub fn draw(canvas: &mut RgbImage, found: &[Detection]) {
    let style = Style::for_size(canvas.width(), canvas.height());
    for detection in found.iter().rev() {
        let colour = colour_of(detection.class);
        let frame = frame_of(detection);
        outline(canvas, frame, style.line_px, colour);
        label(canvas, frame, &style, colour, &format!("{} {:.0}%", detection.label, detection.score * 100.0));
    }
}

/// Sizes that stay readable from thumbnails to posters.
struct Style {
    line_px: i64,
    height: RasterHeight,
    /// Integer scale of the letters, so that their edges are sharp.
    zoom: i64,
}

impl Style {
    fn for_size(width: u32, height: u32) -> Style {
        let side = width.min(height);
        let (height, zoom) = match side {
            0..500 => (RasterHeight::Size16, 1),
            500..800 => (RasterHeight::Size20, 1),
            800..1200 => (RasterHeight::Size24, 1),
            _ => (RasterHeight::Size32, (i64::from(side) / 1200).clamp(1, 8)),
        };
        Style { line_px: (i64::from(side) / 200).clamp(2, 24), height, zoom }
    }
}

/// Left, top, right, bottom in whole pixels; right and bottom are exclusive.
type Frame = (i64, i64, i64, i64);

fn frame_of(detection: &Detection) -> Frame {
    let b = detection.bbox;
    (b.x.round() as i64, b.y.round() as i64, (b.x + b.width).round() as i64, (b.y + b.height).round() as i64)
}

/// The colour of a class. Neighbouring classes have very different hues.
fn colour_of(class: usize) -> Rgb<u8> {
    let golden_angle = 137.508;
    let hue = (class as f32 * golden_angle + 200.0) % 360.0;
    // HSL with full saturation, written out: https://en.wikipedia.org/wiki/HSL_and_HSV#HSL_to_RGB_alternative
    let (saturation, lightness) = (0.9, 0.55f32);
    let channel = |n: f32| {
        let k = (n + hue / 30.0) % 12.0;
        let value =
            lightness - saturation * lightness.min(1.0 - lightness) * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    };
    Rgb([channel(0.0), channel(8.0), channel(4.0)])
}

/// Black or white, whichever reads better on `colour`.
fn ink_on(Rgb([r, g, b]): Rgb<u8>) -> Rgb<u8> {
    let luma = 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b);
    if luma > 140.0 { Rgb([0; 3]) } else { Rgb([255; 3]) }
}

fn fill(canvas: &mut RgbImage, (left, top, right, bottom): Frame, colour: Rgb<u8>) {
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    for y in top.clamp(0, height)..bottom.clamp(0, height) {
        for x in left.clamp(0, width)..right.clamp(0, width) {
            canvas.put_pixel(x as u32, y as u32, colour);
        }
    }
}

fn outline(canvas: &mut RgbImage, (left, top, right, bottom): Frame, line: i64, colour: Rgb<u8>) {
    fill(canvas, (left, top, right, top + line), colour);
    fill(canvas, (left, bottom - line, right, bottom), colour);
    fill(canvas, (left, top, left + line, bottom), colour);
    fill(canvas, (right - line, top, right, bottom), colour);
}

/// Writes `text` on a filled rectangle above the frame, or inside if there is no room above.
fn label(canvas: &mut RgbImage, (left, top, ..): Frame, style: &Style, colour: Rgb<u8>, text: &str) {
    let letter_width = get_raster_width(FontWeight::Bold, style.height) as i64 * style.zoom;
    let padding = style.line_px;
    let plate_width = text.chars().count() as i64 * letter_width + 2 * padding;
    let plate_height = style.height.val() as i64 * style.zoom + padding;
    let x = left.min(i64::from(canvas.width()) - plate_width).max(0);
    let y = if top >= plate_height { top - plate_height } else { top };
    fill(canvas, (x, y, x + plate_width, y + plate_height), colour);
    for (i, letter) in text.chars().enumerate() {
        write(canvas, letter, (x + padding + i as i64 * letter_width, y + padding / 2), style, colour);
    }
}

fn write(canvas: &mut RgbImage, letter: char, (left, top): (i64, i64), style: &Style, plate: Rgb<u8>) {
    let raster = |letter| get_raster(letter, FontWeight::Bold, style.height);
    // The font has Latin letters only. Other letters are drawn as question marks; the printed text has them.
    let Some(raster) = raster(letter).or_else(|| raster('?')) else { return };
    let ink = ink_on(plate);
    for (row, line) in (0..).zip(raster.raster()) {
        for (column, &cover) in (0..).zip(*line) {
            let mix = |ink: u8, plate: u8| {
                ((u32::from(ink) * u32::from(cover) + u32::from(plate) * u32::from(255 - cover) + 127) / 255) as u8
            };
            let colour = Rgb(std::array::from_fn(|i| mix(ink.0[i], plate.0[i])));
            let (x, y) = (left + column * style.zoom, top + row * style.zoom);
            fill(canvas, (x, y, x + style.zoom, y + style.zoom), colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_yolo::BoxXywh;

    fn detection(x: f32, y: f32, width: f32, height: f32) -> Detection {
        Detection { class: 15, label: "cat".into(), score: 0.9, bbox: BoxXywh { x, y, width, height } }
    }

    #[test]
    fn the_outline_lies_on_the_edges_and_the_middle_stays() {
        let mut canvas = RgbImage::from_pixel(200, 200, Rgb([9, 9, 9]));
        draw(&mut canvas, &[detection(50.0, 60.0, 100.0, 80.0)]);
        let colour = colour_of(15);
        for (x, y) in [(50, 60), (149, 139), (51, 100), (148, 100), (100, 61), (100, 138)] {
            assert_eq!(*canvas.get_pixel(x, y), colour, "{x}, {y}");
        }
        for (x, y) in [(100, 100), (150, 100), (100, 140), (49, 100)] {
            assert_eq!(*canvas.get_pixel(x, y), Rgb([9, 9, 9]), "{x}, {y}");
        }
    }

    #[test]
    fn the_label_is_written_in_a_readable_colour() {
        let mut canvas = RgbImage::new(200, 200);
        draw(&mut canvas, &[detection(50.0, 60.0, 100.0, 80.0)]);
        let plate = canvas.enumerate_pixels().filter(|(x, y, _)| (50..80).contains(x) && (42..60).contains(y));
        let inked = plate.filter(|(.., pixel)| **pixel == ink_on(colour_of(15))).count();
        assert!(inked > 10, "{inked} pixels of full ink");
    }

    #[test]
    fn boxes_at_and_over_the_edges_do_not_panic() {
        for (width, height) in [(1, 1), (3, 200), (200, 3), (4000, 3000)] {
            let mut canvas = RgbImage::new(width, height);
            let (w, h) = (width as f32, height as f32);
            draw(&mut canvas, &[detection(0.0, 0.0, w, h), detection(w - 0.4, h - 0.4, 0.4, 0.4)]);
        }
    }

    #[test]
    fn every_class_has_ink_that_stands_out() {
        for class in 0..200 {
            let (plate, ink) = (colour_of(class), ink_on(colour_of(class)));
            let apart: i32 = (0..3).map(|i| (i32::from(plate.0[i]) - i32::from(ink.0[i])).abs()).sum();
            assert!(apart > 200, "class {class}: {ink:?} on {plate:?}");
        }
    }
}
