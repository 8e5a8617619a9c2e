//! The command `micro-yolo`, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the repository.
fn path(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}

fn model() -> String {
    path("tests/fixtures/forms/class-rows.onnx")
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_micro-yolo")).args(args).output().expect("the command was built")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

#[test]
fn json_has_the_documented_shape() {
    let cat = path("data/samples/cat.jpg");
    let output = run(&["detect", &cat, "--model", &model(), "--json", "--score", "0.2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let answer = json(&output);
    let image = &answer[0];
    assert_eq!(image["image"], cat);
    assert_eq!((&image["width"], &image["height"]), (&451.into(), &300.into()));
    let objects = image["objects"].as_array().unwrap();
    assert!(!objects.is_empty());
    for object in objects {
        assert!(object["label"].is_string() && object["classId"].is_u64());
        assert!((0.2..=1.0).contains(&object["score"].as_f64().unwrap()));
        let side = |name: &str| object["box"][name].as_f64().unwrap();
        assert!(side("x") >= 0.0 && side("x") + side("width") <= 451.01);
        assert!(side("y") >= 0.0 && side("y") + side("height") <= 300.01);
    }
}

#[test]
fn text_names_each_image_and_object() {
    let (cat, coffee) = (path("data/samples/cat.jpg"), path("data/samples/coffee.jpg"));
    let output = run(&["detect", &cat, &coffee, "--model", &model(), "--classes", "cat,3", "--max", "2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("cat.jpg (451 x 300 px)") && text.contains("coffee.jpg"));
    let objects = text.lines().filter(|line| line.starts_with("  ")).collect::<Vec<_>>();
    assert!((1..=4).contains(&objects.len()), "{text}");
    assert!(objects.iter().all(|line| line.starts_with("  cat ") || line.starts_with("  coffee ")), "{text}");
}

#[test]
fn draw_writes_the_image_with_boxes() {
    let folder = Folder::new("draw");
    let (cat, coffee) = (path("data/samples/cat.jpg"), path("data/samples/coffee.jpg"));
    let out = folder.file("out.png");
    let output = run(&["detect", &cat, "--model", &model(), "--draw", &out]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (drawn, before) = (image::open(&out).unwrap().to_rgb8(), image::open(&cat).unwrap().to_rgb8());
    assert_eq!(drawn.dimensions(), before.dimensions());
    let changed = drawn.pixels().zip(before.pixels()).filter(|(a, b)| a != b).count();
    assert!(changed > 500 && changed < 451 * 300 / 2, "{changed} pixels are drawn on");

    let both = run(&["detect", &cat, &coffee, "--model", &model(), "--draw", &folder.file("")]);
    assert!(both.status.success(), "{}", stderr(&both));
    assert!(folder.0.join("cat.png").is_file() && folder.0.join("coffee.png").is_file());
}

#[test]
fn exif_orientation_is_applied() {
    // The cat, stored on its side, with the tag that says so.
    let folder = Folder::new("exif");
    let cat = image::open(path("data/samples/cat.jpg")).unwrap();
    let mut bytes = Vec::new();
    cat.rotate270().write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
    // APP1: "Exif", big-endian TIFF, one entry: orientation (0x0112), short, one value, 6 = turn by 90 degrees.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    bytes.splice(2..2, exif.iter().copied());
    let turned = folder.file("turned.jpg");
    std::fs::write(&turned, &bytes).unwrap();

    let upright = path("data/samples/cat.jpg");
    let answer = json(&run(&["detect", &turned, &upright, "--model", &model(), "--json"]));
    for image in [&answer[0], &answer[1]] {
        assert_eq!((&image["width"], &image["height"]), (&451.into(), &300.into()));
    }
    let first =
        |image: &Value| (image["objects"][0]["label"].clone(), image["objects"][0]["box"]["y"].as_f64().unwrap());
    let (a, b) = (first(&answer[0]), first(&answer[1]));
    // JPEG is compressed once more, so nearly the same.
    assert!(a.0 == b.0 && (a.1 - b.1).abs() < 10.0, "{a:?} {b:?}");
}

#[test]
fn one_broken_image_does_not_stop_the_others() {
    let folder = Folder::new("broken");
    let truncated = folder.file("truncated.jpg");
    std::fs::write(&truncated, &std::fs::read(path("data/samples/cat.jpg")).unwrap()[..2000]).unwrap();
    let text = folder.file("text.png");
    std::fs::write(&text, "no picture").unwrap();
    let (missing, cat) = (folder.file("missing.jpg"), path("data/samples/cat.jpg"));

    let output = run(&["detect", &text, &missing, &truncated, &cat, "--model", &model(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer[0]["code"], "unreadable-file");
    assert_eq!(answer[1]["code"], "unreadable-file");
    assert!(answer[3]["objects"].as_array().is_some_and(|objects| !objects.is_empty()));
    let errors = stderr(&output);
    assert!(
        errors.contains("text.png") && errors.contains("missing.jpg") && !errors.contains("panicked"),
        "{errors}"
    );
}

#[test]
fn images_that_are_too_large_say_so() {
    let folder = Folder::new("large");
    let wide = folder.file("wide.png");
    image::RgbImage::new(20_000, 10).save(&wide).unwrap();
    let output = run(&["detect", &wide, "--model", &model(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)[0]["code"], "image-too-large");
}

#[test]
fn usage_errors_exit_with_2_and_failures_with_1() {
    let cat = path("data/samples/cat.jpg");
    let model = model();
    let no_model = path("data/samples/cat.jpg");
    let cases: [(&[&str], i32, &str); 8] = [
        (&[], 2, "Usage"),
        (&["detect"], 2, "IMAGE"),
        (&["detect", &cat, "--score", "high"], 2, "high"),
        (&["detect", &cat, "--model", &model, "--score", "NaN"], 2, "score_threshold"),
        (&["detect", &cat, "--model", &model, "--classes", "unicorn"], 2, "unicorn"),
        (&["detect", &cat, "--model", &model, "--imgsz", "100"], 2, "multiples of 32"),
        (&["detect", &cat, &cat, "--model", &model, "--draw", "nowhere/out.png"], 2, "folder"),
        (&["detect", &cat, "--model", &no_model], 1, "no intact ONNX"),
    ];
    for (args, code, says) in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn models_beyond_a_limit_are_refused() {
    let (cat, model) = (path("data/samples/cat.jpg"), model());
    // 1.7 MB, which are more once it is loaded.
    let released = path("models/micro-yolo-s.onnx");
    let with = |model: &str, option: &str, limit: &str| run(&["detect", &cat, "--model", model, option, limit]);
    let run = |option: &str, limit: &str| with(&model, option, limit);
    let cases = [
        (&released, "--max-memory", "2", "MB of memory, and the limit is 2;"),
        (&model, "--max-memory", "0", "more than the 0 bytes"),
        (&model, "--max-nodes", "10", "nodes and stored tensors, and the limit is 10"),
        (&model, "--max-work", "0.001", "million multiply-accumulates a picture"),
    ];
    for (model, option, limit, says) in cases {
        let output = with(model, option, limit);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{option} {limit}: {said}");
        assert!(said.contains(says) && said.contains("--max-memory"), "{option} {limit}: {said}");
    }
    for (option, limit) in
        [("--max-memory", "100"), ("--max-nodes", "1000"), ("--max-work", "0.5"), ("--max-work", "inf")]
    {
        let output = run(option, limit);
        assert!(output.status.success(), "{option} {limit}: {}", stderr(&output));
    }
    for limit in ["-1", "NaN", "much"] {
        assert_eq!(run("--max-work", limit).status.code(), Some(2));
    }
}
