//! A small data set for a first run, made in seconds: objects cut from the sample photographs, on plain backgrounds.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::convert::{Converted, ConvertedBox, ConvertedImage};
use crate::error::{Error, Result};

/// Class, photograph, and the object's left, top, right and bottom in it, px.
const OBJECTS: [(&str, &str, [u32; 4]); 3] = [
    ("cat", "cat.jpg", [0, 0, 414, 300]),
    ("cup", "coffee.jpg", [169, 17, 421, 282]),
    ("person", "astronaut.jpg", [17, 8, 362, 512]),
];

/// Side of the pictures, px.
const SIDE: u32 = 192;

/// Writes `count` JPEG files to the folder `output`. Each shows one or two of a cat, a cup and a person cut from the
/// photographs in `samples`, at various sizes, positions and brightness, half of them mirrored. The same `seed` gives
/// the same pictures.
///
/// # Errors
///
/// A photograph is missing or damaged; a file cannot be written.
pub fn tiny(samples: &Path, output: &Path, count: usize, seed: u64) -> Result<Converted> {
    let mut objects = Vec::new();
    for (_, file, [left, top, right, bottom]) in OBJECTS {
        let path = samples.join(file);
        let bad = |error: image::ImageError| Error::Data { path: path.clone(), problem: error.to_string() };
        let photo = image::open(&path).map_err(bad)?.to_rgb8();
        if photo.width() < right || photo.height() < bottom {
            let problem = format!("is {}x{}, not the sample of that name", photo.width(), photo.height());
            return Err(Error::Data { path, problem });
        }
        objects.push(imageops::crop_imm(&photo, left, top, right - left, bottom - top).to_image());
    }
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut images = Vec::new();
    for index in 0..count {
        let (picture, boxes) = compose(&objects, &mut random);
        let file_name = format!("{index:04}.jpg");
        let path = output.join(&file_name);
        picture.save(&path).map_err(|error| Error::Data { path, problem: error.to_string() })?;
        images.push(ConvertedImage { file_name, width: SIDE, height: SIDE, boxes });
    }
    let classes = OBJECTS.iter().map(|(class, ..)| (*class).to_owned()).collect();
    Ok(Converted { classes, images, skipped: Vec::new() })
}

fn compose(objects: &[RgbImage], random: &mut fastrand::Rng) -> (RgbImage, Vec<ConvertedBox>) {
    let ground = Rgb([random.u8(60..200), random.u8(60..200), random.u8(60..200)]);
    let mut picture = RgbImage::from_pixel(SIDE, SIDE, ground);
    let two = random.bool();
    // Two objects get one half of the picture each, so that none covers the other.
    let room = if two { SIDE / 2 } else { SIDE };
    let first = random.usize(..objects.len());
    let mut boxes = Vec::new();
    for place in 0..if two { 2 } else { 1 } {
        let class = (first + place) % objects.len();
        let object = &objects[class];
        let longest = object.width().max(object.height()) as f32;
        let scale = room as f32 * (0.55 + 0.4 * random.f32()) / longest;
        let [width, height] = [object.width(), object.height()].map(|side| ((side as f32 * scale) as u32).max(8));
        let mut cut = imageops::resize(object, width, height, FilterType::Triangle);
        if random.bool() {
            imageops::flip_horizontal_in_place(&mut cut);
        }
        let cut = imageops::brighten(&cut, random.i32(-40..=40));
        let left = place as u32 * room + random.u32(..=room - width);
        let top = random.u32(..=SIDE - height);
        imageops::replace(&mut picture, &cut, i64::from(left), i64::from(top));
        let xywh = [left, top, width, height].map(f64::from);
        boxes.push(ConvertedBox { class, xywh, score: None, difficult: false });
    }
    (picture, boxes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{BadData, Dataset};

    #[test]
    fn it_is_a_data_set_like_any_other_and_always_the_same() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/samples");
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        let made = tiny(&samples, &a, 12, 1).unwrap();
        assert_eq!(made, tiny(&samples, &b, 12, 1).unwrap());
        assert_ne!(made, tiny(&samples, &c, 12, 2).unwrap());
        assert_eq!(std::fs::read(a.join("0003.jpg")).unwrap(), std::fs::read(b.join("0003.jpg")).unwrap());
        let file = folder.path().join("a.json");
        std::fs::write(&file, made.to_json()).unwrap();
        let set = Dataset::read(&file, &a, BadData::Refuse).unwrap();
        assert_eq!((set.classes.join(" "), set.images.len()), ("cat cup person".to_owned(), 12));
        for image in &made.images {
            assert!(!image.boxes.is_empty());
            for found in &image.boxes {
                let [left, top, width, height] = found.xywh;
                assert!(width >= 8.0 && height >= 8.0 && left + width <= 192.0 && top + height <= 192.0);
            }
        }
        let missing = tiny(folder.path(), &c, 1, 1).unwrap_err().to_string();
        assert!(missing.contains("cat.jpg"), "{missing}");
    }
}
