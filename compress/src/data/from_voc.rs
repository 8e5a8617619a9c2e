//! Pascal VOC's annotations: one XML file per photograph.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::convert::{inside, size};
use super::{BadData, Converted, ConvertedBox, ConvertedImage, class_names};
use crate::error::{Error, Result, read_text};

/// The XML file of one photograph.
struct Annotation {
    path: PathBuf,
    /// The photograph's name in the folder of photographs.
    file_name: String,
    /// The size in the file. Some tools write 0.
    size: Option<(u32, u32)>,
    objects: Vec<VocObject>,
}

struct VocObject {
    name: String,
    /// Pixels are counted from 1, and the last one is inside the box.
    first: [f64; 2],
    last: [f64; 2],
    difficult: bool,
}

/// Reads Pascal VOC's annotations: the `.xml` files in `annotations`, for photographs in `images`. `list` is a file of
/// `ImageSets/Main`; only the photographs that it names are read. `names` gives the order of the classes, as
/// [`class_names`] reads it. Without it they are sorted.
///
/// VOC counts pixels from 1, and `xmax`, `ymax` are inside the box: `xmin` 1, `xmax` 10 means the first ten pixels.
/// `difficult` is kept; the parts of a person are not.
///
/// # Errors
///
/// A folder, the list or the names cannot be read; there are no annotations. Under [`BadData::Refuse`] also: a file
/// that is not such XML, an object without name or box, a name that is not in `names`, a box without area; a photograph
/// that is missing, cannot be read, has an EXIF rotation or another size than its annotation says.
pub fn from_voc(
    annotations: &Path,
    images: &Path,
    names: Option<&Path>,
    list: Option<&Path>,
    bad_data: BadData,
) -> Result<Converted> {
    let mut converted = Converted::default();
    let mut files = Vec::new();
    for path in annotation_files(annotations, list)? {
        match Annotation::read(&path, images) {
            Ok(annotation) => files.push(annotation),
            Err(problem) => converted.bad(bad_data, &path, problem)?,
        }
    }
    converted.classes = match names {
        Some(path) => class_names(path)?,
        None => {
            let all: BTreeSet<&String> =
                files.iter().flat_map(|file| &file.objects).map(|object| &object.name).collect();
            all.into_iter().cloned().collect()
        }
    };
    if let Some(path) = names {
        converted.check_names(path)?;
    }
    for file in files {
        let path = images.join(&file.file_name);
        let (width, height) = match size(&path) {
            Ok(size) => size,
            Err(problem) => {
                converted.bad(bad_data, &path, problem)?;
                continue;
            }
        };
        if let Some(said) = file.size.filter(|said| *said != (width, height)) {
            let problem = format!("says {}x{} px, but {} is {width}x{height}", said.0, said.1, path.display());
            converted.bad(bad_data, &file.path, problem)?;
            continue;
        }
        let mut boxes = Vec::new();
        for (number, object) in (1..).zip(&file.objects) {
            let VocObject { name, first, last, difficult } = object;
            let ltrb = [first[0] - 1.0, first[1] - 1.0, last[0], last[1]];
            let class = converted.classes.iter().position(|class| class == name);
            match (class, inside(ltrb, width, height)) {
                (Some(class), Some(xywh)) => {
                    boxes.push(ConvertedBox { class, xywh, score: None, difficult: *difficult });
                }
                (None, _) => {
                    converted.bad(
                        bad_data,
                        &file.path,
                        format!("object {number}: `{name}` is not among the names"),
                    )?;
                }
                (_, None) => {
                    let problem = format!("object {number}: the box has no area inside the photograph");
                    converted.bad(bad_data, &file.path, problem)?;
                }
            }
        }
        converted.images.push(ConvertedImage { file_name: file.file_name, width, height, boxes });
    }
    if converted.images.is_empty() || converted.classes.is_empty() {
        let problem = "has no annotations with objects that can be used".into();
        return Err(Error::Data { path: annotations.to_owned(), problem });
    }
    Ok(converted)
}

/// The XML files to read, sorted.
fn annotation_files(folder: &Path, list: Option<&Path>) -> Result<Vec<PathBuf>> {
    if let Some(list) = list {
        // The list of a class has 1 or -1 after each name, which says whether the class is present. Names may have spaces.
        let text = read_text(list)?;
        let file = |name: &str| folder.join(format!("{name}.xml"));
        let mut files = BTreeSet::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let name = line.rsplit_once(char::is_whitespace).map_or(line, |(name, _)| name.trim_end());
            let whole = file(line);
            files.insert(if whole.is_file() { whole } else { file(name) });
        }
        return Ok(files.into_iter().collect());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Annotation {
    fn read(path: &Path, images: &Path) -> Result<Annotation, String> {
        let text = read_text(path).map_err(|error| match error {
            Error::Data { problem, .. } => problem,
            other => other.to_string(),
        })?;
        let document = Document::parse(&text).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if root.tag_name().name() != "annotation" {
            return Err(format!("is <{}>, not VOC's <annotation>", root.tag_name().name()));
        }
        let objects = (1..)
            .zip(children(root, "object"))
            .map(|(number, object)| {
                VocObject::read(object).map_err(|problem| format!("object {number}: {problem}"))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let side =
            |name| child(root, "size").and_then(|size| text_of(size, name)).and_then(|text| text.parse().ok());
        let size = side("width").zip(side("height")).filter(|size| *size != (0, 0));
        let file_name = photograph(text_of(root, "filename").unwrap_or_default(), path, images)?;
        Ok(Annotation { path: path.to_owned(), file_name, size, objects })
    }
}

impl VocObject {
    fn read(object: Node) -> Result<VocObject, String> {
        let name = text_of(object, "name").filter(|name| !name.is_empty()).ok_or("has no <name>")?.to_owned();
        let corners = child(object, "bndbox").ok_or("has no <bndbox>")?;
        let value = |name: &str| {
            let text = text_of(corners, name).ok_or_else(|| format!("has no <{name}>"))?;
            let value: f64 = text.parse().map_err(|_| format!("<{name}> `{text}` is no number"))?;
            if value.is_finite() { Ok(value) } else { Err(format!("<{name}> `{text}` is no number")) }
        };
        let (first, last) = ([value("xmin")?, value("ymin")?], [value("xmax")?, value("ymax")?]);
        let difficult = text_of(object, "difficult").is_some_and(|text| text != "0");
        Ok(VocObject { name, first, last, difficult })
    }
}

/// The photograph of an annotation in the folder `images`: the one it names, or the one with the annotation's own name.
/// Many tools write absolute paths of another machine, or leave out the extension.
fn photograph(named: &str, annotation: &Path, images: &Path) -> Result<String, String> {
    let named = named.rsplit(['/', '\\']).next().unwrap_or_default();
    if !named.is_empty() && images.join(named).is_file() {
        return Ok(named.into());
    }
    let stem = annotation.file_stem().unwrap_or_default().to_string_lossy();
    let endings = ["jpg", "jpeg", "png", "webp", "JPG", "JPEG", "PNG"];
    endings
        .iter()
        .map(|ending| format!("{stem}.{ending}"))
        .find(|name| images.join(name).is_file())
        .ok_or_else(|| format!("its photograph `{named}` is not in {}", images.display()))
}

fn children<'a>(node: Node<'a, 'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

fn child<'a>(node: Node<'a, 'a>, name: &'static str) -> Option<Node<'a, 'a>> {
    children(node, name).next()
}

fn text_of<'a>(node: Node<'a, 'a>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.has_tag_name(name)).map(|child| child.text().unwrap_or_default().trim())
}
