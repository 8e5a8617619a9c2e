//! The released model on real photographs.
#![cfg(not(target_family = "wasm"))]

mod common;

use common::{assert_same_objects, fixture, photo, read};
use micro_yolo::{BoxXywh, Detection, Detector, ImageView, OutputForm, Tracker};
use sha2::{Digest, Sha256};

const MODEL: &str = "models/micro-yolo.onnx";

fn detect(detector: &mut Detector, name: &str) -> Vec<Detection> {
    let image = photo(name);
    let view = ImageView::rgb(&image, image.width(), image.height()).expect("photographs are sound");
    detector.detect(view).expect("the model runs")
}

#[test]
fn the_cat_is_a_cat() {
    let mut detector = Detector::from_onnx(&read(MODEL)).unwrap();
    let found = detect(&mut detector, "cat.jpg");
    let best = found.first().expect("something is found");
    assert_eq!(&*best.label, "cat", "{found:#?}");
    // It fills the photograph, 451 x 300 px, nearly.
    let by_hand = BoxXywh { x: 5.0, y: 0.0, width: 430.0, height: 300.0 };
    assert!(best.bbox.iou(&by_hand) > 0.4, "{found:#?}");
}

#[test]
fn the_astronaut_is_a_person() {
    let mut detector = Detector::builder().classes(["person"]).build(&read(MODEL)).unwrap();
    let found = detect(&mut detector, "astronaut.jpg");
    let best = found.first().expect("a person is found").bbox;
    // She fills the left of the picture, 512 x 512 px.
    let by_hand = BoxXywh { x: 15.0, y: 10.0, width: 370.0, height: 502.0 };
    assert!(best.iou(&by_hand) > 0.35, "{found:#?}");
}

#[test]
fn detections_are_those_of_onnxruntime() {
    let (onnx, fixture) = (read(MODEL), fixture("micro-yolo"));
    let hash: String = Sha256::digest(&onnx).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        fixture["model_sha256"], hash,
        "the model is another one than onnxruntime was asked about: run `python tests/fixtures/make.py`"
    );
    let mut detector = Detector::from_onnx(&onnx).unwrap();
    for (name, expected) in fixture["photos"].as_object().unwrap() {
        // JPEG decoders differ by a level or two, and so do Pillow's bilinear filter and ours; a doubtful score can move
        // by 0.06 for it. On the same pixels the scores agree to four digits.
        assert_same_objects(&detect(&mut detector, name), expected, 0.08, name);
    }
}

#[test]
fn threads_change_no_answer() {
    for model in ["models/micro-yolo-s.onnx", "models/micro-yolo-s-int8.onnx"] {
        let onnx = read(model);
        let found = |threads: usize| {
            let mut detector = Detector::builder().threads(threads).score_threshold(0.02).build(&onnx).unwrap();
            assert_eq!(detector.threads(), threads);
            // Twice: helpers sleep in between.
            [detect(&mut detector, "cat.jpg"), detect(&mut detector, "coffee.jpg")]
        };
        let alone = found(1);
        assert!(alone[1].len() > 2, "{alone:?}");
        for threads in [2, 3, 5] {
            assert_eq!(found(threads), alone, "{model}, {threads} threads");
        }
    }
    assert_eq!(Detector::builder().threads(0).build(b"no model").unwrap_err().code(), "invalid-option");
    let foreign = read("tests/fixtures/forms/end-to-end.onnx");
    assert_eq!(Detector::builder().threads(2).build(&foreign).unwrap().threads(), 1, "tract runs it");
}

#[test]
fn the_model_is_what_its_card_promises() {
    let detector = Detector::from_onnx(&read(MODEL)).unwrap();
    let model = detector.model();
    assert_eq!(model.output_form(), OutputForm::ClassRows);
    assert_eq!(model.class_names().len(), 80);
    assert_eq!((&*model.class_names()[0], &*model.class_names()[15]), ("person", "cat"));
    assert!(model.metadata().license.is_some());
}

#[test]
fn the_input_size_can_be_chosen() {
    for (width, height) in [(256, 256), (320, 320), (416, 256)] {
        let mut detector =
            Detector::builder().input_size(width, height).score_threshold(0.1).build(&read(MODEL)).unwrap();
        let found = detect(&mut detector, "cat.jpg");
        assert!(found.iter().any(|object| &*object.label == "cat"), "{width} x {height}: {found:#?}");
    }
}

#[test]
fn a_cat_that_moves_keeps_its_number() {
    // The photograph pans by under a window of 300 x 300 px.
    let image = photo("cat.jpg");
    let mut detector = Detector::from_onnx(&read(MODEL)).unwrap();
    let mut tracker = Tracker::default();
    let mut numbers = Vec::new();
    for frame in 0..12 {
        let crop = image::imageops::crop_imm(&image, 10 + frame * 8, 0, 300, 300).to_image();
        let found = detector.detect(ImageView::rgb(&crop, 300, 300).unwrap()).unwrap();
        let ids = tracker.update(&found);
        let cat = found.iter().position(|object| &*object.label == "cat");
        numbers.push(cat.and_then(|cat| ids[cat]));
    }
    let known: Vec<u64> = numbers.iter().flatten().copied().collect();
    assert!(known.len() >= 6 && known.iter().all(|id| *id == known[0]), "{numbers:?}");
}
