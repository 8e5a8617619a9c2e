//! The command `micro-yolo`, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
fn draw_overwrites_no_image_and_no_drawing() {
    let folder = Folder::new("overwrite");
    let cat = path("data/samples/cat.jpg");
    for name in ["a", "b", "out"] {
        std::fs::create_dir(folder.0.join(name)).unwrap();
    }
    let inputs = ["cat.png", "cat.jpg", "a/x.jpg", "b/x.jpg", "x.1.jpg", "x.2.jpg"].map(|name| folder.file(name));
    for input in &inputs {
        std::fs::copy(&cat, input).unwrap();
    }
    let [png, jpg, a, b, first, second] = &inputs;
    let (beside, out, around) = (folder.file(""), folder.file("out"), folder.file("out/../cat.jpg"));
    let cases: [(&[&str], &str, &str); 6] = [
        (&[png], &beside, "overwrite the image"),
        (&[jpg, png], &beside, "overwrite the image"),
        (&[jpg], &around, "overwrite the image"),
        (&[jpg, png], &out, "twice"),
        (&[a, b], &out, "twice"),
        (&[a, a], &out, "twice"),
    ];
    let model = model();
    for (images, out, says) in cases {
        let output = run(&[&["detect", "--model", &model, "--draw", out], images].concat());
        assert_eq!(output.status.code(), Some(2), "{images:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{images:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    let original = std::fs::read(&cat).unwrap();
    assert!(inputs.iter().all(|input| std::fs::read(input).unwrap() == original));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);

    let output = run(&["detect", first, second, jpg, "--model", &model, "--draw", &out]);
    assert!(output.status.success(), "{}", stderr(&output));
    for name in ["x.1.png", "x.2.png", "cat.png"] {
        image::open(folder.0.join("out").join(name)).unwrap();
    }
}

#[test]
fn a_drawing_that_cannot_be_written_loses_no_answer() {
    let folder = Folder::new("unwritable");
    let cat = path("data/samples/cat.jpg");
    let out = folder.file("missing/out.png");
    let args = ["detect", &cat, "--model", &model(), "--draw", &out];
    let output = run(&[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write") && stderr(&output).contains("out.png"), "{}", stderr(&output));
    let image = &json(&output)[0];
    assert_eq!((&image["code"], &image["width"]), (&"unwritable-file".into(), &451.into()));
    assert!(image["error"].is_string());
    assert!(image["objects"].as_array().is_some_and(|objects| !objects.is_empty()));

    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout.clone()).unwrap().contains("\n  cat "), "{}", stderr(&output));
}

#[test]
fn a_drawing_of_no_known_format_is_refused_before_its_file_is_touched() {
    let folder = Folder::new("formats");
    let (cat, model) = (path("data/samples/cat.jpg"), model());
    for name in ["out.gif", "out.txt", "out"] {
        let out = folder.file(name);
        std::fs::write(&out, "kept").unwrap();
        let output = run(&["detect", &cat, "--model", &model, "--draw", &out]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains("must end in .png"), "{name}: {}", stderr(&output));
        assert_eq!(std::fs::read(&out).unwrap(), b"kept", "{name}");
    }
}

/// As `curl … | micro-yolo detect /dev/stdin` and `<(…)` of a shell give it.
#[cfg(unix)]
#[test]
fn an_image_may_come_through_a_pipe() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_micro-yolo"));
    command.args(["detect", "/dev/stdin", "--model", &model(), "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let bytes = std::fs::read(path("data/samples/cat.jpg")).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(&output)[0]["objects"][0]["label"], "cat");
}

/// As `| head -1` closes it.
#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let cat = path("data/samples/cat.jpg");
    let model = model();
    for json in [false, true] {
        let mut args = vec!["detect", &cat, &cat, "--model", &model];
        args.extend(json.then_some("--json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_micro-yolo"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.args(&args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(stderr(&output), "");
        assert_eq!(output.status.code(), Some(0));
    }
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
    let start = folder.file("start.jpg");
    std::fs::write(&start, b"\xff\xd8\xff").unwrap();

    let output = run(&["detect", &text, &missing, &truncated, &cat, &start, "--model", &model(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer[0]["code"], "unreadable-file");
    assert_eq!(answer[1]["code"], "unreadable-file");
    assert_eq!(answer[4]["code"], "unreadable-file");
    assert!(answer[3]["objects"].as_array().is_some_and(|objects| !objects.is_empty()));
    let errors = stderr(&output);
    let is_told = |line: &str| line.starts_with("error: ") || line.starts_with("warning: ");
    assert!(errors.lines().all(is_told), "each is told on one line: {errors}");
    assert!(
        errors.contains("text.png") && errors.contains("missing.jpg") && !errors.contains("panicked"),
        "{errors}"
    );
}

#[test]
fn a_jpeg_file_that_is_cut_is_searched_with_a_warning() {
    let folder = Folder::new("cut");
    let whole = std::fs::read(path("data/samples/cat.jpg")).unwrap();
    let (cut, other) = (folder.file("cut.jpg"), folder.file("whole.jpg"));
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&other, &whole).unwrap();
    let output = run(&["detect", &cut, &other, "--model", &model(), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.starts_with("warning: ") && said.contains("cut.jpg: ") && said.lines().count() == 1, "{said}");
    let answer = json(&output);
    assert_eq!((&answer[0]["width"], answer[0]["objects"].is_array()), (&451.into(), true));
    assert!(answer[0]["warning"].as_str().unwrap().contains("ends too early"), "{answer}");
    assert!(answer[1]["warning"].is_null(), "{answer}");
}

#[test]
fn a_format_that_is_not_read_comes_with_those_that_are() {
    let folder = Folder::new("formats");
    // The first bytes of a GIF file, of a HEIC file and of a page.
    for (name, bytes) in
        [("a.gif", &b"GIF89a\x01\0\x01\0"[..]), ("a.heic", b"\0\0\0\x18ftypheic"), ("a.jpg", b"<html>")]
    {
        let image = folder.file(name);
        std::fs::write(&image, bytes).unwrap();
        let output = run(&["detect", &image, "--model", &model()]);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains(name) && said.contains("JPEG, PNG or WebP") && said.lines().count() == 1, "{said}");
    }
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
fn sizes_that_a_file_only_declares_take_no_memory() {
    let folder = Folder::new("declared");
    // A whole header and no pixels.
    let png = |name: &str, width: u32, height: u32, bits: u8| {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let chunk = |kind: &[u8], content: &[u8]| {
            let body = [kind, content].concat();
            let check = crc32(&body).to_be_bytes();
            [&(content.len() as u32).to_be_bytes(), &body[..], &check].concat()
        };
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, 6, 0, 0, 0]].concat();
        bytes.extend([chunk(b"IHDR", &header), chunk(b"IDAT", b"\x78\x9c"), chunk(b"IEND", b"")].concat());
        let path = folder.file(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (long, wide) = (png("long.png", 60_000, 60_000, 8), png("wide.png", 16_384, 16_384, 16));
    let cat = path("data/samples/cat.jpg");
    let output = run(&["detect", &long, &wide, &cat, "--model", &model(), "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let answer = json(&output);
    for (image, says) in [(&answer[0], "at most 16384 px"), (&answer[1], "2147 MB")] {
        assert_eq!(image["code"], "image-too-large", "{image}");
        assert!(image["error"].as_str().unwrap().contains(says), "{image}");
    }
    assert!(answer[2]["objects"].as_array().is_some_and(|objects| !objects.is_empty()));
}

/// The check of a PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |check, byte| {
        (0..8).fold(check ^ u32::from(*byte), |check, _| (check >> 1) ^ (0xEDB8_8320 & (check & 1).wrapping_neg()))
    })
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
        (&["detect", &cat, "--model", &no_model], 1, "not an intact ONNX"),
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
