//! YOLO's labels: one text file per photograph, one line per object.

use std::path::{Component, Path, PathBuf};

use super::convert::{file_name, inside, pictures, size};
use super::{BadData, Converted, ConvertedBox, ConvertedImage, class_names};
use crate::error::{Error, Result, read_text};

/// Reads photographs with YOLO's labels: `class x y width height` per line, centre and size relative to the photograph.
/// A sixth number is a detector's confidence. A polygon (`class x y x y x y …`) becomes its bounding box.
///
/// The labels of `images/a/b.jpg` are `labels/a/b.txt`. If `labels` is `None`, the folder is the path of the
/// photographs with its last `images` replaced by `labels`, if that folder exists; otherwise it is the folder of the
/// photographs. A photograph without a label file has no objects. `names` is as [`class_names`] reads it.
///
/// # Errors
///
/// A folder or the names cannot be read; no photograph has labels; a name is used twice. Under [`BadData::Refuse`]
/// also, with the line: a value that is not a number, an unknown class, values outside 0–1, a box without area; a
/// photograph that cannot be read or has an EXIF rotation.
pub fn from_yolo(images: &Path, labels: Option<&Path>, names: &Path, bad_data: BadData) -> Result<Converted> {
    let mut converted = Converted { classes: class_names(names)?, ..Converted::default() };
    converted.check_names(names)?;
    let labels = labels.map_or_else(|| beside(images), Path::to_owned);
    let mut labelled = 0;
    for relative in pictures(images)? {
        let path = images.join(&relative);
        let (width, height) = match size(&path) {
            Ok(size) => size,
            Err(problem) => {
                converted.bad(bad_data, &path, problem)?;
                continue;
            }
        };
        let label = labels.join(relative.with_extension("txt"));
        let mut boxes = Vec::new();
        if label.is_file() {
            labelled += 1;
            let text = match read_text(&label) {
                Ok(text) => text,
                Err(Error::Data { problem, .. }) => {
                    converted.bad(bad_data, &label, problem)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
                match object(line, converted.classes.len(), width, height) {
                    Ok(found) => boxes.push(found),
                    Err(problem) => converted.bad(bad_data, &label, format!("line {number}: {problem}"))?,
                }
            }
        }
        converted.images.push(ConvertedImage { file_name: file_name(&relative), width, height, boxes });
    }
    if converted.images.is_empty() {
        return Err(Error::Data { path: images.to_owned(), problem: "has no photographs that can be read".into() });
    }
    if labelled == 0 {
        let problem =
            format!("has no label file of any of the {} photographs: name its folder", converted.images.len());
        return Err(Error::Data { path: labels, problem });
    }
    Ok(converted)
}

/// The folder where YOLO's programs look for the labels of a folder of photographs.
fn beside(images: &Path) -> PathBuf {
    let mut parts: Vec<Component> = images.components().collect();
    if let Some(part) = parts.iter_mut().rev().find(|part| part.as_os_str() == "images") {
        *part = Component::Normal("labels".as_ref());
        let labels: PathBuf = parts.iter().collect();
        if labels.is_dir() {
            return labels;
        }
    }
    images.to_owned()
}

/// The number of a class, which some programs write as a float (`1.0`, `1e+00`).
fn class_number(word: &str) -> Option<usize> {
    let number: f64 = word.parse().ok()?;
    (number >= 0.0 && number.fract() == 0.0).then_some(number as usize)
}

/// The object, or what is wrong with its line.
fn object(line: &str, classes: usize, width: u32, height: u32) -> Result<ConvertedBox, String> {
    let mut words = line.split_whitespace();
    let class = words.next().unwrap_or_default();
    let class = class_number(class).ok_or_else(|| format!("`{class}` is no class's number"))?;
    if class >= classes {
        return Err(format!("class {class} has no name: there are {classes}"));
    }
    let values = words
        .map(|word| word.parse::<f64>().map_err(|_| format!("`{word}` is no number")))
        .collect::<Result<Vec<_>, _>>()?;
    // Boxes drawn by hand may exceed the photograph by a hundredth.
    if let Some(value) = values.iter().find(|value| !(-0.01..=1.01).contains(*value)) {
        return Err(format!("{value} is no share of the photograph, 0 to 1"));
    }
    let mut score = None;
    let ltrb = match *values.as_slice() {
        [x, y, w, h] => [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0],
        [x, y, w, h, confidence] => {
            score = Some(confidence.clamp(0.0, 1.0));
            [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
        }
        ref outline if outline.len() >= 6 && outline.len() % 2 == 0 => {
            outline.chunks_exact(2).fold([f64::MAX, f64::MAX, f64::MIN, f64::MIN], |[l, t, r, b], point| {
                [l.min(point[0]), t.min(point[1]), r.max(point[0]), b.max(point[1])]
            })
        }
        _ => return Err(format!("has {} numbers after the class: 4 are needed", values.len())),
    };
    let (across, down) = (f64::from(width), f64::from(height));
    let [left, top, right, bottom] = ltrb;
    let xywh = inside([left * across, top * down, right * across, bottom * down], width, height)
        .ok_or_else(|| "the box has no area inside the photograph".to_owned())?;
    Ok(ConvertedBox { class, xywh, score, difficult: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_boxes() {
        let read = |line: &str| object(line, 3, 200, 100);
        let plain = read("1 0.5 0.5 0.2 0.4").unwrap();
        assert_eq!((plain.class, plain.xywh, plain.score), (1, [80.0, 30.0, 40.0, 40.0], None));
        // Clipped to the photograph.
        assert_eq!(read("0 0.05 1.0 0.2 0.5").unwrap().xywh, [0.0, 75.0, 30.0, 25.0]);
        assert_eq!(read("0\t0.5 0.5 1 1 0.25").unwrap().score, Some(0.25));
        assert_eq!(read("2 0.1 0.2 0.3 0.9 0.2 0.4").unwrap().xywh, [20.0, 20.0, 40.0, 70.0]);
        assert_eq!(read("1.0 0.5 0.5 0.2 0.4").unwrap(), plain);
        assert_eq!(read("1.000000e+00 0.5 0.5 0.2 0.4").unwrap(), plain);
        for (line, told) in [
            ("0.5 0.5 0.5 0.2 0.4", "`0.5` is no class's number"),
            ("nan 0.5 0.5 0.2 0.4", "`nan` is no class's number"),
            ("inf 0.5 0.5 0.2 0.4", "`inf` is no class's number"),
            ("3 0.5 0.5 0.2 0.4", "class 3 has no name"),
            ("-1 0.5 0.5 0.2 0.4", "`-1` is no class's number"),
            ("cat 0.5 0.5 0.2 0.4", "`cat`"),
            ("0 0.5 0.5 0.2", "has 3 numbers"),
            ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 7 numbers"),
            ("0", "has 0 numbers"),
            ("0 80 30 40 40", "80 is no share"),
            ("0 0.5 0.5 nan 0.4", "NaN is no share"),
            ("0 0.5 0.5 inf 0.4", "inf is no share"),
            ("0 0.5 x 0.2 0.4", "`x` is no number"),
            ("0 0.5 0.5 0 0.4", "no area"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
