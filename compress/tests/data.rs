//! `compress data`: other formats become COCO files that [`Dataset`] reads. The boxes were worked out by hand.
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.

use std::path::{Path, PathBuf};

use compress::data::{BadData, Converted, Dataset, Photo, from_voc, from_yolo};
use compress::{Error, Result};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn picture(&self, name: &str, width: u32, height: u32) {
        let path = self.file(name, "");
        image::RgbImage::new(width, height).save(path).unwrap();
    }

    /// What `train` and `evaluate` see of it.
    fn dataset(&self, converted: &Converted, images: &str) -> Dataset {
        let annotations = self.file("converted.json", converted.to_json());
        Dataset::read(&annotations, &self.path(images), BadData::Refuse).unwrap()
    }
}

/// A JPEG file that a camera held on its side would write.
fn turned(folder: &Folder, name: &str) {
    folder.picture(name, 32, 16);
    mark_turned(folder, name, 6);
}

/// Writes this EXIF orientation into a JPEG file.
fn mark_turned(folder: &Folder, name: &str, orientation: u8) {
    let mut jpeg = std::fs::read(folder.path(name)).unwrap();
    let tiff: [u8; 26] =
        [b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
    let length = (2 + 6 + tiff.len()) as u8;
    let segment = [&[0xff, 0xe1, 0, length][..], b"Exif\0\0", &tiff].concat();
    jpeg.splice(2..2, segment);
    folder.file(name, jpeg);
}

fn refused<T: std::fmt::Debug>(result: Result<T>, told: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Data { .. }), "{error}");
    assert!(told.iter().all(|told| error.to_string().contains(told)), "{told:?}: {error}");
}

fn yolo() -> Folder {
    let folder = Folder::new();
    folder.picture("set/images/train/b.png", 200, 100);
    folder.picture("set/images/train/inner/a.jpg", 40, 80);
    folder.picture("set/images/train/empty.PNG", 10, 10);
    folder.file("set/labels/train/b.txt", "1 0.5 0.5 0.2 0.4\r\n0 0.05 1 0.2 0.5\n\n");
    folder.file("set/labels/train/inner/a.txt", "1 0.25 0.25 0.5 0.5 0.75");
    folder.file("set/labels/train/classes.txt", "ignored");
    folder.file("set/data.yaml", "train: images/train\nnames:\n  0: cat\n  1: dog\n");
    folder
}

#[test]
fn yolos_labels_are_found_and_become_boxes() {
    let folder = yolo();
    let (images, names) = (folder.path("set/images/train"), folder.path("set/data.yaml"));
    let converted = from_yolo(&images, None, &names, BadData::Refuse).unwrap();
    let set = folder.dataset(&converted, "set/images/train");
    assert_eq!(set.classes, ["cat", "dog"]);
    let found: Vec<_> = set.images.iter().map(|image| (image.path.clone(), image.width, image.height)).collect();
    let expected = [("b.png", 200, 100), ("empty.PNG", 10, 10), ("inner/a.jpg", 40, 80)]
        .map(|(name, w, h)| (images.join(name), w, h));
    assert_eq!(found, expected);
    let boxes =
        |image: usize| set.images[image].objects.iter().map(|o| (o.class, o.ltrb, o.score)).collect::<Vec<_>>();
    // Half of 200 ± a tenth; the second is cut at the left and lower edge.
    assert_eq!(boxes(0), [(1, [80.0, 30.0, 120.0, 70.0], None), (0, [0.0, 75.0, 30.0, 100.0], None)]);
    assert_eq!(boxes(1), []);
    assert_eq!(boxes(2), [(1, [0.0, 0.0, 20.0, 40.0], Some(0.75))]);

    // Labels beside the photographs, and in a folder that is named.
    let flat = Folder::new();
    flat.picture("a.png", 20, 20);
    flat.file("a.txt", "0 0.5 0.5 1 1");
    let names = flat.file("a.names", "cat\n");
    let beside = from_yolo(&flat.path(""), None, &names, BadData::Refuse).unwrap();
    assert_eq!(beside.images[0].boxes[0].xywh, [0.0, 0.0, 20.0, 20.0]);
    flat.file("labels/a.txt", "0 0.5 0.5 0.5 1");
    let named = from_yolo(&flat.path(""), Some(&flat.path("labels")), &names, BadData::Refuse).unwrap();
    assert_eq!(named.images[0].boxes[0].xywh, [5.0, 0.0, 10.0, 20.0]);
}

#[test]
fn yolos_labels_are_read_as_other_programs_write_them() {
    let folder = yolo();
    let (images, names) = (folder.path("set/images/train"), folder.path("set/data.yaml"));
    // With a byte order mark, and the class as a float.
    folder.file("set/labels/train/b.txt", "\u{feff}1.0 0.5 0.5 0.2 0.4\n");
    let converted = from_yolo(&images, None, &names, BadData::Refuse).unwrap();
    assert_eq!(
        (converted.images[0].boxes[0].class, converted.images[0].boxes[0].xywh),
        (1, [80.0, 30.0, 40.0, 40.0])
    );
}

#[cfg(unix)]
#[test]
fn photographs_behind_links_are_found_once() {
    let folder = yolo();
    let (images, names) = (folder.path("set/images/train"), folder.path("set/data.yaml"));
    folder.picture("elsewhere/c.png", 20, 20);
    folder.file("set/labels/train/linked/c.txt", "0 0.5 0.5 1 1");
    std::os::unix::fs::symlink(folder.path("elsewhere"), images.join("linked")).unwrap();
    std::os::unix::fs::symlink(&images, images.join("circle")).unwrap();
    let converted = from_yolo(&images, None, &names, BadData::Refuse).unwrap();
    let found: Vec<_> =
        converted.images.iter().map(|image| (image.file_name.as_str(), image.boxes.len())).collect();
    assert_eq!(found, [("b.png", 2), ("empty.PNG", 0), ("inner/a.jpg", 1), ("linked/c.png", 1)]);

    std::os::unix::fs::symlink(folder.path("nowhere"), images.join("gone.jpg")).unwrap();
    refused(from_yolo(&images, None, &names, BadData::Refuse), &["gone.jpg"]);
    let kept = from_yolo(&images, None, &names, BadData::Skip).unwrap();
    assert_eq!((kept.images.len(), kept.skipped.len()), (4, 1));
}

#[test]
fn yolo_sets_that_do_not_hold_together_are_refused_or_skipped() {
    let folder = yolo();
    let images = folder.path("set/images/train");
    let names = folder.path("set/data.yaml");
    let read = |bad_data| from_yolo(&images, None, &names, bad_data);
    folder.file("set/labels/train/b.txt", "1 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n");
    refused(read(BadData::Refuse), &["b.txt", "line 2", "class 2 has no name"]);
    let kept = read(BadData::Skip).unwrap();
    assert_eq!((kept.images[0].boxes.len(), kept.skipped.len()), (1, 1));
    folder.file("set/labels/train/b.txt", "1 100 50 40 40\n");
    refused(read(BadData::Refuse), &["b.txt", "line 1", "100 is no share"]);
    // UTF-16, as some editors on Windows save.
    folder.file("set/labels/train/b.txt", [0xff, 0xfe, b'0', 0, b' ', 0]);
    refused(read(BadData::Refuse), &["b.txt", "UTF-8"]);
    assert_eq!(read(BadData::Skip).unwrap().images.len(), 2, "no photograph whose objects are not known");
    std::fs::remove_file(folder.path("set/labels/train/b.txt")).unwrap();
    for damaged in ["set/images/train/c.jpg", "set/images/train/c.png", "set/images/train/c.tif"] {
        folder.file(damaged, "no picture");
        refused(read(BadData::Refuse), &[damaged]);
        assert_eq!(read(BadData::Refuse).unwrap_err().to_string().lines().count(), 1);
        assert_eq!(read(BadData::Skip).unwrap().images.len(), 3);
        std::fs::remove_file(folder.path(damaged)).unwrap();
    }
    turned(&folder, "set/images/train/side.jpg");
    refused(read(BadData::Refuse), &["side.jpg", "stored turned"]);
    std::fs::remove_file(folder.path("set/images/train/side.jpg")).unwrap();

    let labels = folder.path("set/images");
    refused(
        from_yolo(&images, Some(&labels), &names, BadData::Skip),
        &["no label file of any of the 3 photographs"],
    );
    folder.file("none/readme.txt", "");
    refused(from_yolo(&folder.path("none"), None, &names, BadData::Skip), &["none", "no photographs"]);
    let twice = folder.file("twice.names", "cat\ncat\n");
    refused(from_yolo(&images, None, &twice, BadData::Skip), &["twice.names", "`cat` twice"]);
    assert!(matches!(from_yolo(&folder.path("nowhere"), None, &names, BadData::Skip), Err(Error::Io { .. })));
    assert!(matches!(from_yolo(&images, None, &folder.path("nowhere"), BadData::Skip), Err(Error::Io { .. })));
}

fn voc_object(name: &str, [xmin, ymin, xmax, ymax]: [f64; 4], more: &str) -> String {
    format!(
        "<object><name>{name}</name>{more}<bndbox><xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymin> {ymin} </ymin>\
         <ymax>{ymax}</ymax></bndbox></object>"
    )
}

fn voc_file(file_name: &str, size: [u32; 2], objects: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<annotation><folder>VOC2007</folder><filename>{file_name}</filename>\
         <size><width>{}</width><height>{}</height><depth>3</depth></size>{}</annotation>",
        size[0],
        size[1],
        objects.concat()
    )
}

fn voc() -> Folder {
    let folder = Folder::new();
    folder.picture("JPEGImages/000001.jpg", 100, 50);
    folder.picture("JPEGImages/000002.png", 30, 30);
    folder.picture("JPEGImages/000003.jpg", 30, 30);
    let part = "<difficult>0</difficult><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>\
                <ymax>2</ymax></bndbox></part>";
    let objects = [
        voc_object("person", [1.0, 1.0, 10.0, 50.0], part),
        voc_object("cat", [21.0, 11.0, 100.0, 50.0], "<difficult>1</difficult>"),
    ];
    folder.file("Annotations/000001.xml", voc_file("000001.jpg", [100, 50], &objects));
    // The path of another machine without the ending, and no size.
    let objects = [voc_object("person", [5.5, 6.0, 9.5, 30.0], "")];
    folder.file("Annotations/000002.xml", voc_file("C:\\pictures\\000002", [0, 0], &objects));
    folder.file("Annotations/000003.xml", voc_file("000003.jpg", [30, 30], &[]));
    folder.file("ImageSets/Main/cat_train.txt", "000001  1\n000003 -1\n");
    folder
}

#[test]
fn vocs_boxes_are_counted_from_one_and_difficult_ones_kept() {
    let folder = voc();
    let (annotations, images) = (folder.path("Annotations"), folder.path("JPEGImages"));
    let converted = from_voc(&annotations, &images, None, None, BadData::Refuse).unwrap();
    let set = folder.dataset(&converted, "JPEGImages");
    assert_eq!(set.classes, ["cat", "person"]);
    let boxes =
        |image: usize| set.images[image].objects.iter().map(|o| (o.class, o.ltrb, o.ignore)).collect::<Vec<_>>();
    assert_eq!(boxes(0), [(1, [0.0, 0.0, 10.0, 50.0], false), (0, [20.0, 10.0, 100.0, 50.0], true)]);
    assert_eq!(boxes(1), [(1, [4.5, 5.0, 9.5, 30.0], false)]);
    assert_eq!((set.images[1].path.clone(), boxes(2).len()), (images.join("000002.png"), 0));

    let names = folder.file("voc.names", "person\ncat\nsheep\n");
    let list = folder.path("ImageSets/Main/cat_train.txt");
    let converted = from_voc(&annotations, &images, Some(&names), Some(&list), BadData::Refuse).unwrap();
    let set = folder.dataset(&converted, "JPEGImages");
    assert_eq!(set.classes, ["person", "cat", "sheep"]);
    assert_eq!(set.images.len(), 2);
    assert_eq!(set.images[0].objects[0].class, 0);
}

#[test]
fn vocs_lists_name_files_with_spaces_and_flags() {
    let folder = voc();
    let (annotations, images) = (folder.path("Annotations"), folder.path("JPEGImages"));
    for name in ["a 1", "a -1", "b c"] {
        folder.picture(&format!("JPEGImages/{name}.png"), 30, 30);
        let objects = [voc_object("cat", [1.0, 1.0, 10.0, 10.0], "")];
        folder.file(&format!("Annotations/{name}.xml"), voc_file(&format!("{name}.png"), [30, 30], &objects));
    }
    let list = folder.file("list.txt", "\u{feff}000001\r\n\r\na 1\nb c -1\n000002  1\n");
    let converted = from_voc(&annotations, &images, None, Some(&list), BadData::Refuse).unwrap();
    let found: Vec<_> = converted.images.iter().map(|image| image.file_name.as_str()).collect();
    assert_eq!(found, ["000001.jpg", "000002.png", "a 1.png", "b c.png"]);
}

#[test]
fn voc_sets_that_do_not_hold_together_are_refused_or_skipped() {
    let folder = voc();
    let (annotations, images) = (folder.path("Annotations"), folder.path("JPEGImages"));
    let read = |names: Option<&Path>, bad_data| from_voc(&annotations, &images, names, None, bad_data);
    let fine = voc_object("cat", [1.0, 1.0, 10.0, 10.0], "");
    let wrong = |content: &str, told: &[&str]| {
        folder.file("Annotations/000003.xml", content);
        refused(read(None, BadData::Refuse), &[&["000003.xml"][..], told].concat());
        let kept = read(None, BadData::Skip).unwrap();
        assert!(kept.images.len() >= 2 && kept.skipped.len() == 1, "{:?}", kept.skipped);
    };
    wrong("", &[]);
    wrong("no xml", &[]);
    wrong("<annotation><object></annotation>", &[]);
    wrong("<html></html>", &["<html>"]);
    wrong("<!DOCTYPE a [<!ENTITY b \"c\">]><annotation>&b;</annotation>", &[]);
    wrong(&voc_file("000003.jpg", [30, 31], std::slice::from_ref(&fine)), &["says 30x31 px", "30x30"]);
    wrong(&voc_file("000003.jpg", [30, 30], &[fine.replace("bndbox", "robndbox")]), &["object 1: has no <bndbox>"]);
    wrong(&voc_file("000003.jpg", [30, 30], &[fine.replace("<name>cat</name>", "")]), &["object 1: has no <name>"]);
    let word = fine.replace("<xmax>10<", "<xmax>ten<");
    wrong(&voc_file("000003.jpg", [30, 30], &[fine.clone(), word]), &["object 2: <xmax> `ten` is no number"]);
    let nan = fine.replace("<xmax>10<", "<xmax>nan<");
    wrong(&voc_file("000003.jpg", [30, 30], &[nan]), &["object 1: <xmax> `nan`"]);
    let outside = voc_object("cat", [40.0, 1.0, 50.0, 10.0], "");
    wrong(&voc_file("000003.jpg", [30, 30], &[outside]), &["object 1: the box has no area"]);
    folder.file("Annotations/000003.xml", voc_file("000003.jpg", [30, 30], &[fine]));
    let names = folder.file("voc.names", "person\n");
    refused(read(Some(&names), BadData::Refuse), &["000001.xml", "object 2: `cat` is not among the names"]);
    std::fs::remove_file(images.join("000003.jpg")).unwrap();
    refused(read(None, BadData::Refuse), &["000003.xml", "`000003.jpg` is not in"]);
    let list = folder.file("list.txt", "000009\n");
    refused(from_voc(&annotations, &images, None, Some(&list), BadData::Refuse), &["000009.xml"]);
    refused(from_voc(&annotations, &images, None, Some(&list), BadData::Skip), &["Annotations", "no annotations"]);
    refused(from_voc(&images, &images, None, None, BadData::Skip), &["no annotations"]);
    assert!(matches!(from_voc(&folder.path("none"), &images, None, None, BadData::Skip), Err(Error::Io { .. })));
}

#[test]
fn what_is_no_annotation_file_is_told_from_one() {
    let folder = Folder::new();
    let read = |content: &str| Dataset::read(&folder.file("a.json", content), &folder.path(""), BadData::Skip);
    refused(
        read(r#" [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]"#),
        &["a.json", "detections"],
    );
    refused(read("[]"), &["a.json", "a list"]);
    let set = r#"{"images": [{"id": 1, "file_name": "b.png", "width": 2, "height": 2}], "categories": [{"id": 1, "name": "x"}]}"#;
    refused(read(set), &["a.json", "no images that can be used", "b.png: image 1 is missing"]);
    let twice = r#"{"images": [], "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}"#;
    refused(read(twice), &["a.json", "category name `x` twice"]);
    let path = folder.file("a.json", b"{\xff}");
    refused(Dataset::read(&path, &folder.path(""), BadData::Skip), &["a.json", "UTF-8"]);
}

/// A COCO file with one photograph of this size, and with a box if `boxed`.
fn coco_of_one(folder: &Folder, name: &str, (width, height): (u32, u32), boxed: bool) -> Dataset {
    let annotations = if boxed { r#"{"image_id":1,"category_id":1,"bbox":[1,1,4,4]}"# } else { "" };
    let json = format!(
        r#"{{"images":[{{"id":1,"file_name":"{name}","width":{width},"height":{height}}}],
            "annotations":[{annotations}],"categories":[{{"id":1,"name":"cat"}}]}}"#
    );
    Dataset::read(&folder.file("one.json", json), &folder.path(""), BadData::Refuse).unwrap()
}

#[test]
fn the_annotated_size_says_whether_boxes_belong_to_the_upright_photograph() {
    let folder = Folder::new();
    // White on the left as stored. Turned clockwise, the left is at the top.
    let picture = image::RgbImage::from_fn(32, 16, |x, _| image::Rgb([if x < 16 { 255 } else { 0 }; 3]));
    picture.save(folder.file("side.jpg", "")).unwrap();
    mark_turned(&folder, "side.jpg", 6);
    let corners = |photo: &Photo| {
        let at = |x: u32, y: u32| photo.rgb[((y * photo.width + x) * 3) as usize] > 128;
        let (right, bottom) = (photo.width - 1, photo.height - 1);
        [at(0, 0), at(right, 0), at(0, bottom), at(right, bottom)]
    };
    let of = |set: Dataset| Photo::of(&set.images[0]);
    let upright = of(coco_of_one(&folder, "side.jpg", (16, 32), true)).unwrap();
    assert_eq!((upright.width, upright.height, corners(&upright)), (16, 32, [true, true, false, false]));
    let stored = of(coco_of_one(&folder, "side.jpg", (32, 16), true)).unwrap();
    assert_eq!((stored.width, stored.height, corners(&stored)), (32, 16, [true, false, true, false]));
    refused(of(coco_of_one(&folder, "side.jpg", (32, 32), true)), &["16x32 px", "32x32 as annotated"]);

    // Upside down, the size says nothing.
    picture.save(folder.file("down.jpg", "")).unwrap();
    mark_turned(&folder, "down.jpg", 3);
    refused(of(coco_of_one(&folder, "down.jpg", (32, 16), true)), &["down.jpg", "stored turned"]);
    let down = of(coco_of_one(&folder, "down.jpg", (32, 16), false)).unwrap();
    assert_eq!(corners(&down), [false, true, false, true]);

    // Without boxes, as the detector sees them.
    let set = Dataset::of_folder(&folder.path(""), &["cat".into()], BadData::Refuse).unwrap();
    assert_eq!((set.images[1].width, set.images[1].height), (16, 32));
    assert_eq!(Photo::of(&set.images[1]).unwrap(), Photo::read(&folder.path("side.jpg")).unwrap());
    assert_eq!(Photo::of(&set.images[0]).unwrap(), down);
}

#[test]
fn transparent_pixels_are_grey_as_in_the_detector() {
    let folder = Folder::new();
    let path = folder.file("a.png", "");
    let pixels = [[255, 0, 0, 0], [255, 0, 0, 255], [10, 20, 30, 51]];
    image::RgbaImage::from_fn(3, 1, |x, _| image::Rgba(pixels[x as usize])).save(&path).unwrap();
    // 114·0.8 + 10·0.2 = 93.2, and so on.
    assert_eq!(Photo::read(&path).unwrap().rgb, [114, 114, 114, 255, 0, 0, 93, 95, 97]);
    let grey = image::GrayAlphaImage::from_fn(1, 1, |_, _| image::LumaA([200, 0]));
    grey.save(&path).unwrap();
    assert_eq!(Photo::read(&path).unwrap().rgb, [114; 3]);
}
