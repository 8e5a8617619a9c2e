//! Code shared by the readers of other formats: photographs with boxes, written as a COCO file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use image::ImageDecoder;
use image::metadata::Orientation;

use super::photos::IS_TURNED;
use super::{BadData, Photo};
use crate::error::{Error, Result, undecodable};

/// Photographs with boxes, as [`super::from_yolo()`] and [`super::from_voc()`] read them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Converted {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// In the order of their names.
    pub images: Vec<ConvertedImage>,
    /// What was skipped under [`BadData::Skip`], one sentence each.
    pub skipped: Vec<String>,
}

/// A photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertedImage {
    /// Relative to the folder of the photographs, with `/`.
    pub file_name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// In the order of the file.
    pub boxes: Vec<ConvertedBox>,
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertedBox {
    /// Index into [`Converted::classes`].
    pub class: usize,
    /// Left, top, width, height in pixels, inside the photograph.
    pub xywh: [f64; 4],
    /// A detector's confidence in 0–1; `None` for a box drawn by a person.
    pub score: Option<f64>,
    /// Neither a true nor a false positive.
    pub difficult: bool,
}

impl Converted {
    /// The COCO file that [`super::Dataset::read`] reads: ids count from 1, categories are in the order of the classes.
    pub fn to_json(&self) -> String {
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for (id, image) in (1..).zip(&self.images) {
            let ConvertedImage { file_name, width, height, boxes } = image;
            images.push(serde_json::json!({"id": id, "file_name": file_name, "width": width, "height": height}));
            for found in boxes {
                let mut annotation = serde_json::json!({
                    "id": annotations.len() + 1,
                    "image_id": id,
                    "category_id": found.class + 1,
                    "bbox": found.xywh,
                    "area": hundredths(found.xywh[2] * found.xywh[3]),
                    "iscrowd": 0,
                });
                if found.difficult {
                    annotation["difficult"] = 1.into();
                }
                if let Some(score) = found.score {
                    annotation["score"] = score.into();
                }
                annotations.push(annotation);
            }
        }
        let categories: Vec<_> =
            (1..).zip(&self.classes).map(|(id, name)| serde_json::json!({"id": id, "name": name})).collect();
        serde_json::json!({"images": images, "annotations": annotations, "categories": categories}).to_string()
            + "\n"
    }

    /// Returns a problem as an error or records it, depending on `bad_data`.
    pub(super) fn bad(&mut self, bad_data: BadData, path: &Path, problem: String) -> Result<()> {
        match bad_data {
            BadData::Refuse => Err(Error::Data { path: path.to_owned(), problem }),
            BadData::Skip => {
                self.skipped.push(format!("{}: {problem}", path.display()));
                Ok(())
            }
        }
    }

    /// Refuses duplicate names, which would be ambiguous later.
    pub(super) fn check_names(&self, path: &Path) -> Result<()> {
        let mut known = HashSet::new();
        match self.classes.iter().find(|name| !known.insert(*name)) {
            None => Ok(()),
            Some(name) => {
                Err(Error::Data { path: path.to_owned(), problem: format!("has the name `{name}` twice") })
            }
        }
    }
}

/// The part of a box inside a photograph as `[left, top, width, height]`, or `None` if that has no area.
pub(super) fn inside([left, top, right, bottom]: [f64; 4], width: u32, height: u32) -> Option<[f64; 4]> {
    let (width, height) = (f64::from(width), f64::from(height));
    let [left, right] = [left, right].map(|x| hundredths(x.clamp(0.0, width)));
    let [top, bottom] = [top, bottom].map(|y| hundredths(y.clamp(0.0, height)));
    (right > left && bottom > top).then(|| [left, top, hundredths(right - left), hundredths(bottom - top)])
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Width and height of a photograph, from its first bytes.
///
/// # Errors
///
/// The file cannot be read, is damaged or of an unsupported format, or has an EXIF rotation. Some programs apply it
/// before boxes are drawn, others do not, and the labels do not say which.
pub(super) fn size(path: &Path) -> Result<(u32, u32), String> {
    let mut decoder = Photo::decoder(path).map_err(|error| match error {
        Error::Data { problem, .. } => problem,
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    })?;
    if decoder.orientation().map_err(|error| undecodable(&error))? != Orientation::NoTransforms {
        return Err(IS_TURNED.into());
    }
    Ok(decoder.dimensions())
}

/// Whether a file has the extension of a picture, including unsupported formats.
fn is_picture(path: &Path) -> bool {
    const KINDS: [&str; 12] =
        ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "heic", "jp2", "ppm"];
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    KINDS.iter().any(|kind| extension.eq_ignore_ascii_case(kind))
}

/// All pictures in a folder and its subfolders, sorted by their paths relative to it. Links are followed.
pub(super) fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    // Links may lead in circles.
    let mut seen = HashSet::new();
    while let Some(relative) = folders.pop() {
        let path = folder.join(&relative);
        if !seen.insert(path.canonicalize().map_err(Error::io(&path))?) {
            continue;
        }
        for entry in std::fs::read_dir(&path).map_err(Error::io(&path))? {
            let entry = entry.map_err(Error::io(&path))?;
            let name = relative.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(name);
            } else if is_picture(&name) {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A relative path in the form of COCO files.
pub(super) fn file_name(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}
