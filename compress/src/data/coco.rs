//! The COCO annotation format, with additional fields of this project's data sets.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Photo;
use crate::error::{Error, Result, read_text};

/// What to do about an image or a box that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BadData {
    /// Stop with an error that names the file and the id.
    #[default]
    Refuse,
    /// Continue without it, and report it once.
    Skip,
}

/// The classes of which people have drawn all boxes in a photograph. Only for these does an area without a box
/// certainly count as background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// Every class: plain COCO, and images with `full80`.
    All,
    /// VOC's twenty (`voc20`).
    Voc20,
    /// None: all boxes are predictions of a teacher.
    None,
}

/// An object in a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Index into [`Dataset::classes`].
    pub class: usize,
    /// Left, top, right, bottom in pixels, clipped to the photograph. Training uses this.
    pub ltrb: [f32; 4],
    /// Left, top, width, height in pixels as in the file, possibly partly outside the photograph. Evaluation uses this,
    /// like pycocotools. It is 64-bit, because an overlap at exactly a threshold could fall on the other side of it in
    /// 32 bits.
    pub xywh: [f64; 4],
    /// A teacher's confidence in 0–1; `None` for a box drawn by a person.
    pub score: Option<f32>,
    /// COCO's `iscrowd`: one box around many.
    pub crowd: bool,
    /// `ignore` or `difficult`: neither a true nor a false positive.
    pub ignore: bool,
    /// COCO's `area` in pixels², or that of the box if the file has none. It decides whether an object is small, medium
    /// or large.
    pub area: f64,
}

/// A photograph and the objects in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotated {
    /// COCO's image id.
    pub id: u64,
    /// The file.
    pub path: PathBuf,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The classes that are labelled completely.
    pub labelled: Labelled,
    /// In the order of the file.
    pub objects: Vec<Object>,
}

/// A set of photographs with boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Class names, by ascending category id.
    pub classes: Vec<String>,
    /// COCO's category ids, in the same order.
    pub category_ids: Vec<u64>,
    /// In the order of the file.
    pub images: Vec<Annotated>,
    /// What was skipped under [`BadData::Skip`], one sentence each.
    pub skipped: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<ImageEntry>,
    #[serde(default)]
    annotations: Vec<AnnotationEntry>,
    categories: Vec<CategoryEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
    labelled: Option<String>,
}

#[derive(Deserialize)]
struct AnnotationEntry {
    #[serde(default)]
    id: u64,
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: bool,
    score: Option<f32>,
    #[serde(default, deserialize_with = "flag")]
    ignore: bool,
    #[serde(default, deserialize_with = "flag")]
    difficult: bool,
}

#[derive(Deserialize)]
struct CategoryEntry {
    id: u64,
    name: String,
}

impl ImageEntry {
    /// Why the image, in the file at `path`, cannot be used.
    fn problem(&self, path: &Path) -> Option<String> {
        if self.width == 0 || self.height == 0 {
            return Some(format!("image {} is {}x{} px", self.id, self.width, self.height));
        }
        (!path.is_file()).then(|| format!("image {} is missing", self.id))
    }

    fn annotated(self, path: PathBuf) -> Annotated {
        Annotated {
            id: self.id,
            path,
            width: self.width,
            height: self.height,
            labelled: match self.labelled.as_deref() {
                Some("voc20") => Labelled::Voc20,
                Some("none") => Labelled::None,
                _ => Labelled::All,
            },
            objects: Vec::new(),
        }
    }
}

/// The largest area of an object, in pixels². pycocotools silently ignores larger ones.
const MAX_AREA: f64 = 1e10;

impl AnnotationEntry {
    /// The object, limited to its image, or the reason why it cannot be used.
    fn object(&self, class: usize, image: &Annotated) -> std::result::Result<Object, String> {
        let [x, y, width, height] = self.bbox;
        let (image_width, image_height) = (f64::from(image.width), f64::from(image.height));
        // Boxes drawn by hand sometimes exceed the image by a pixel.
        let ltrb = [
            x.clamp(0.0, image_width),
            y.clamp(0.0, image_height),
            (x + width).clamp(0.0, image_width),
            (y + height).clamp(0.0, image_height),
        ]
        .map(|side| side as f32);
        // Written so that NaN fails.
        if !(ltrb[2] > ltrb[0] && ltrb[3] > ltrb[1]) {
            let (id, bbox) = (self.id, self.bbox);
            return Err(format!("annotation {id}: box {bbox:?} has no area inside image {}", image.id));
        }
        let area = self.area.unwrap_or(width * height);
        if !(0.0..=MAX_AREA).contains(&area) {
            return Err(format!("annotation {}: its area is {area}, not that of an object in an image", self.id));
        }
        if let Some(score) = self.score.filter(|score| !(0.0..=1.0).contains(score)) {
            return Err(format!("annotation {}: its score is {score}; it must be from 0 to 1", self.id));
        }
        Ok(Object {
            class,
            ltrb,
            xywh: self.bbox,
            score: self.score,
            crowd: self.iscrowd,
            ignore: self.ignore || self.difficult,
            area,
        })
    }
}

/// Flags are 0 and 1 in some files, false and true in others. `null` is the same as no flag.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(u8),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => false,
        Some(Flag::Bool(flag)) => flag,
        Some(Flag::Number(number)) => number != 0,
    })
}

impl Dataset {
    /// Reads `annotations`, whose `file_name`s are relative to the folder `images`.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not COCO JSON; the set has no images or no categories. Under [`BadData::Refuse`]
    /// also: a missing image file, a size of 0, a duplicate id, a box of an unknown image or category, outside its
    /// image, without area or not a number, an invalid `area` or score.
    pub fn read(annotations: &Path, images: &Path, bad_data: BadData) -> Result<Dataset> {
        let text = read_text(annotations)?;
        // serde would read it as a `File` without names.
        if text.trim_start().starts_with('[') {
            let problem = "is a list, as detections are: annotations have `images`, `annotations` and `categories`";
            return Err(Error::Data { path: annotations.to_owned(), problem: problem.into() });
        }
        let file: File = serde_json::from_str(&text).map_err(Error::json(annotations))?;
        let mut skipped = Vec::new();
        let mut bad = |path: &Path, problem: String| match bad_data {
            BadData::Refuse => Err(Error::Data { path: path.to_owned(), problem }),
            BadData::Skip => {
                skipped.push(format!("{}: {problem}", path.display()));
                Ok(())
            }
        };

        let mut categories = file.categories;
        categories.sort_by_key(|category| category.id);
        if categories.is_empty() {
            return Err(Error::Data { path: annotations.to_owned(), problem: "has no categories".into() });
        }
        let class_of: HashMap<u64, usize> =
            categories.iter().enumerate().map(|(class, category)| (category.id, class)).collect();
        if class_of.len() != categories.len() {
            return Err(Error::Data { path: annotations.to_owned(), problem: "uses a category id twice".into() });
        }

        // Classes are matched by name: the second would have no objects, or never be found.
        let mut names = HashSet::new();
        if let Some(category) = categories.iter().find(|category| !names.insert(category.name.as_str())) {
            let problem = format!("has the category name `{}` twice", category.name);
            return Err(Error::Data { path: annotations.to_owned(), problem });
        }

        let mut index = HashMap::new();
        let mut known = HashSet::new();
        let mut kept: Vec<Annotated> = Vec::new();
        for entry in file.images {
            let path = images.join(&entry.file_name);
            let problem = if !known.insert(entry.id) {
                Some(format!("image id {} is used twice", entry.id))
            } else {
                entry.problem(&path)
            };
            match problem {
                Some(problem) => bad(&path, problem)?,
                None => {
                    index.insert(entry.id, kept.len());
                    kept.push(entry.annotated(path));
                }
            }
        }

        for entry in file.annotations {
            let Some(&image) = index.get(&entry.image_id) else {
                if !known.contains(&entry.image_id) {
                    bad(annotations, format!("annotation {}: there is no image {}", entry.id, entry.image_id))?;
                }
                continue; // The image of this box was skipped.
            };
            let image = &mut kept[image];
            let Some(&class) = class_of.get(&entry.category_id) else {
                bad(annotations, format!("annotation {}: there is no category {}", entry.id, entry.category_id))?;
                continue;
            };
            match entry.object(class, image) {
                Ok(object) => image.objects.push(object),
                Err(problem) => bad(&image.path, problem)?,
            }
        }
        if kept.is_empty() {
            let problem = match skipped.first() {
                None => "has no images".into(),
                Some(first) => format!("has no images that can be used: {first}"),
            };
            return Err(Error::Data { path: annotations.to_owned(), problem });
        }
        Ok(Dataset {
            category_ids: categories.iter().map(|category| category.id).collect(),
            classes: categories.into_iter().map(|category| category.name).collect(),
            images: kept,
            skipped,
        })
    }

    /// The photographs in a folder (JPEG, PNG, WebP; not in subfolders), sorted by name and without boxes, for learning
    /// from a teacher alone. `classes` are the teacher's classes.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read or has no photographs. Under [`BadData::Refuse`] also a file that is damaged.
    pub fn of_folder(folder: &Path, classes: &[String], bad_data: BadData) -> Result<Dataset> {
        let is_photo = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
            extension.is_some_and(|extension| ["jpg", "jpeg", "png", "webp"].contains(&extension.as_str()))
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            paths.push(entry.map_err(Error::io(folder))?.path());
        }
        paths.retain(is_photo);
        paths.sort();
        let mut set = Dataset {
            classes: classes.to_vec(),
            category_ids: (1..=classes.len() as u64).collect(),
            images: Vec::new(),
            skipped: Vec::new(),
        };
        for (index, path) in paths.into_iter().enumerate() {
            let (width, height) = match Photo::size(&path) {
                Ok(size) => size,
                Err(error) if bad_data == BadData::Skip => {
                    set.skipped.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            set.images.push(Annotated {
                id: index as u64,
                path,
                width,
                height,
                labelled: Labelled::None,
                objects: Vec::new(),
            });
        }
        if set.images.is_empty() {
            let problem = "has no photographs (JPEG, PNG or WebP)".into();
            return Err(Error::Data { path: folder.to_owned(), problem });
        }
        Ok(set)
    }

    /// Appends the images of `other`, whose classes must have the same names in the same order.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] when the classes differ.
    pub fn extend(&mut self, other: Dataset, path: &Path) -> Result<()> {
        if other.classes != self.classes {
            return Err(Error::Data {
                path: path.to_owned(),
                problem: "has other categories than the first set".into(),
            });
        }
        self.images.extend(other.images);
        self.skipped.extend(other.skipped);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, bad_data: BadData) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("set.json"), json).unwrap();
        std::fs::write(folder.path().join("a.png"), b"").unwrap();
        Dataset::read(&folder.path().join("set.json"), folder.path(), bad_data)
    }

    fn set(images: &str, annotations: &str) -> String {
        format!(
            r#"{{"images":[{images}],"annotations":[{annotations}],
               "categories":[{{"id":7,"name":"cat"}},{{"id":3,"name":"cup"}}]}}"#
        )
    }

    const A: &str = r#"{"id":1,"file_name":"a.png","width":10,"height":20}"#;

    #[test]
    fn classes_follow_the_category_ids_and_boxes_become_corners() {
        let box_ = r#"{"id":1,"image_id":1,"category_id":7,"bbox":[-1,2,4,30],"score":0.5,"difficult":1}"#;
        let set = read(&format!("\u{feff}{}", set(A, box_)), BadData::Refuse).unwrap();
        assert_eq!(set.classes, ["cup", "cat"]);
        let object = &set.images[0].objects[0];
        assert_eq!((object.class, object.ltrb), (1, [0.0, 2.0, 3.0, 20.0]));
        assert_eq!((object.xywh, object.area), ([-1.0, 2.0, 4.0, 30.0], 120.0));
        assert_eq!((object.score, object.ignore, object.crowd), (Some(0.5), true, false));
        assert_eq!(set.images[0].labelled, Labelled::All);
    }

    #[test]
    fn crowds_are_marked_by_numbers_or_truth_values() {
        for (flag, crowd) in [("0", false), ("1", true), ("false", false), ("true", true), ("null", false)] {
            let box_ = format!(r#"{{"image_id":1,"category_id":7,"bbox":[0,0,1,1],"iscrowd":{flag}}}"#);
            let set = read(&set(A, &box_), BadData::Refuse).unwrap();
            assert_eq!(set.images[0].objects[0].crowd, crowd, "{flag}");
        }
    }

    #[test]
    fn bad_data_is_named_and_refused_or_skipped() {
        let cases = [
            (set(r#"{"id":9,"file_name":"b.png","width":10,"height":20}"#, ""), "image 9 is missing"),
            (set(&format!("{A},{A}"), ""), "image id 1 is used twice"),
            (set(&A.replace("20", "0"), ""), "image 1 is 10x0 px"),
            (
                set(A, r#"{"id":5,"image_id":2,"category_id":7,"bbox":[0,0,1,1]}"#),
                "annotation 5: there is no image 2",
            ),
            (
                set(A, r#"{"id":5,"image_id":1,"category_id":4,"bbox":[0,0,1,1]}"#),
                "annotation 5: there is no category 4",
            ),
            (set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[11,0,1,1]}"#), "annotation 5: box"),
            (set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[1,1,0,1]}"#), "annotation 5: box"),
            (
                set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[0,0,1,1],"area":-1}"#),
                "annotation 5: its area is -1",
            ),
            (
                set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[0,0,1,1],"area":1e11}"#),
                "annotation 5: its area is 1",
            ),
            (
                set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[0,0,1,1],"score":1.5}"#),
                "annotation 5: its score is 1.5",
            ),
            (
                set(A, r#"{"id":5,"image_id":1,"category_id":7,"bbox":[0,0,1,1],"score":1e39}"#),
                "annotation 5: its score is inf",
            ),
        ];
        for (json, problem) in cases {
            let message = read(&json, BadData::Refuse).unwrap_err().to_string();
            assert!(message.contains(problem), "{message} should say: {problem}");
            match read(&json, BadData::Skip) {
                Ok(set) => assert!(set.skipped[0].contains(problem), "{:?}", set.skipped),
                Err(error) => assert!(error.to_string().contains("has no images"), "{error}"),
            }
        }
    }

    #[test]
    fn a_folder_of_photographs_is_a_set_without_boxes() {
        let folder = tempfile::tempdir().unwrap();
        let classes = ["cat".to_owned(), "cup".to_owned()];
        let read = |bad_data| Dataset::of_folder(folder.path(), &classes, bad_data);
        std::fs::write(folder.path().join("notes.txt"), b"none").unwrap();
        assert!(read(BadData::Refuse).unwrap_err().to_string().contains("has no photographs"));
        image::RgbImage::new(6, 4).save(folder.path().join("b.png")).unwrap();
        image::RgbImage::new(3, 5).save(folder.path().join("a.png")).unwrap();
        let set = read(BadData::Refuse).unwrap();
        let sizes: Vec<_> = set.images.iter().map(|image| (image.width, image.height)).collect();
        assert_eq!((sizes, set.classes), (vec![(3, 5), (6, 4)], classes.to_vec()));
        assert!(set.images.iter().all(|image| image.objects.is_empty() && image.labelled == Labelled::None));
        // The content decides, not the extension.
        std::fs::copy(folder.path().join("a.png"), folder.path().join("d.jpg")).unwrap();
        assert_eq!(read(BadData::Refuse).unwrap().images[2].width, 3);
        std::fs::write(folder.path().join("c.jpg"), b"damaged").unwrap();
        assert!(matches!(read(BadData::Refuse).unwrap_err(), Error::Data { .. }));
        assert_eq!(read(BadData::Skip).unwrap().skipped.len(), 1);
    }

    #[test]
    fn an_empty_set_and_a_file_of_another_kind_are_refused() {
        assert!(read(&set("", ""), BadData::Skip).unwrap_err().to_string().contains("has no images"));
        assert!(matches!(read("{", BadData::Skip).unwrap_err(), Error::Json { .. }));
        assert!(matches!(read(r#"{"images":3}"#, BadData::Skip).unwrap_err(), Error::Json { .. }));
    }
}
