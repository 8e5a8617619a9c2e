//! The crate in a real browser: `wasm-pack test --headless --chrome` or `--firefox`.
//!
//! The photograph is decoded by the browser, as on a page. The JavaScript face over it is tested from the outside, in
//! `tests/e2e`.
#![cfg(target_family = "wasm")]
// Clippy does not know tests of this kind, in which it would allow that.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "web")]
#[path = "browser/web.rs"]
mod web;

use js_sys::{Reflect, Uint8Array, Uint8ClampedArray};
use micro_yolo::{Detection, Detector, ImageView, InputSize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

const MODEL: &[u8] = include_bytes!("../models/micro-yolo.onnx");
/// 451 x 300 px; the cat fills nearly all of it.
const CAT: &[u8] = include_bytes!("../data/samples/cat.jpg");
/// Finds the one red rectangle in a picture; input 160 x 160, no weights.
const RED_SPOT: &[u8] = include_bytes!("e2e/fixtures/red-spot.onnx");

#[wasm_bindgen(inline_js = r#"
export async function decode(bytes) {
  const bitmap = await createImageBitmap(new Blob([bytes]));
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
"#)]
extern "C" {
    async fn decode(bytes: Uint8Array) -> JsValue;
}

/// Straight RGBA, width, height.
async fn pixels(photo: &[u8]) -> (Vec<u8>, u32, u32) {
    let image = decode(Uint8Array::from(photo)).await;
    let property = |name: &str| Reflect::get(&image, &name.into()).unwrap();
    let side = |name: &str| property(name).as_f64().unwrap() as u32;
    (property("data").unchecked_into::<Uint8ClampedArray>().to_vec(), side("width"), side("height"))
}

/// The best cat, which must fill a good part of the picture, as the cat in the photograph does.
fn assert_cat(found: &[Detection]) {
    let cat = found.iter().find(|one| one.label.as_ref() == "cat");
    let cat = cat.unwrap_or_else(|| panic!("no cat among {found:?}"));
    assert_eq!(cat.class, 15, "COCO's number for it");
    assert!(cat.bbox.x >= 0.0 && cat.bbox.y >= 0.0, "{cat:?}");
    assert!(cat.bbox.x + cat.bbox.width <= 451.0 && cat.bbox.y + cat.bbox.height <= 300.0, "{cat:?}");
    assert!(cat.bbox.area() > 0.3 * 451.0 * 300.0, "{cat:?}");
}

#[wasm_bindgen_test]
async fn the_cat_is_a_cat() {
    let (rgba, width, height) = pixels(CAT).await;
    assert_eq!((width, height), (451, 300));
    let mut detector = Detector::from_onnx(MODEL).unwrap();
    let image = ImageView::rgba(&rgba, width, height).unwrap();
    let found = detector.detect(image).unwrap();
    assert_cat(&found);
    assert_eq!(detector.detect(image).unwrap(), found, "buffers that are used again change nothing");
}

#[wasm_bindgen_test]
async fn the_cat_is_a_cat_at_a_smaller_size() {
    let (rgba, width, height) = pixels(CAT).await;
    let mut detector = Detector::builder().input_size(320, 224).build(MODEL).unwrap();
    assert_eq!(detector.model().input_size(), InputSize { width: 320, height: 224 });
    assert_cat(&detector.detect(ImageView::rgba(&rgba, width, height).unwrap()).unwrap());
}

#[wasm_bindgen_test]
async fn an_empty_picture_holds_no_cat() {
    let mut detector = Detector::builder().score_threshold(0.5).build(MODEL).unwrap();
    for (width, height) in [(1, 1), (640, 1), (300, 300)] {
        let transparent = vec![0; (width * height * 4) as usize];
        let found = detector.detect(ImageView::rgba(&transparent, width, height).unwrap()).unwrap();
        assert_eq!(found, [], "{width} x {height}");
    }
}

#[wasm_bindgen_test]
fn a_box_is_in_pixels_of_the_picture() {
    let mut detector = Detector::from_onnx(RED_SPOT).unwrap();
    let (width, height) = (400, 200);
    let mut rgba = [110, 120, 130, 255].repeat(width * height);
    for y in 40..130 {
        for x in 120..280 {
            rgba[(y * width + x) * 4..][..4].copy_from_slice(&[255, 0, 0, 255]);
        }
    }
    let found = detector.detect(ImageView::rgba(&rgba, width as u32, height as u32).unwrap()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let bbox = found[0].bbox;
    // One and a half pixels of the model's input, which is 2.5 times smaller.
    for (is, expected) in [(bbox.x, 120.0), (bbox.y, 40.0), (bbox.width, 160.0), (bbox.height, 90.0)] {
        assert!((is - expected).abs() < 4.0_f32, "{bbox:?}");
    }
}

#[wasm_bindgen_test]
fn damaged_models_are_errors_and_no_traps() {
    let code = |bytes: &[u8]| Detector::from_onnx(bytes).err().map(|error| error.code());
    assert_eq!(code(&[]), Some("invalid-model"));
    assert_eq!(code(b"<!doctype html>"), Some("invalid-model"));
    for end in (1..RED_SPOT.len()).step_by(97) {
        let code = code(&RED_SPOT[..end]);
        assert!(code.is_some(), "the first {end} bytes made a detector");
    }
    assert_eq!(code(&MODEL[..MODEL.len() / 2]), Some("invalid-model"));
    // A trap would have ended the instance: it still works.
    assert_eq!(code(RED_SPOT), None);
}

#[wasm_bindgen_test]
fn wrong_pictures_and_options_are_errors_with_a_code() {
    let image = |bytes: usize, width, height| {
        ImageView::rgba(&vec![0; bytes], width, height).err().map(|error| error.code())
    };
    assert_eq!(image(0, 0, 0), Some("invalid-image"));
    assert_eq!(image(15, 2, 2), Some("invalid-image"));
    assert_eq!(image(800_000, 20_000, 10), Some("image-too-large"));
    assert_eq!(image(16, 2, 2), None);

    let mut detector = Detector::from_onnx(RED_SPOT).unwrap();
    assert_eq!(detector.set_score_threshold(f32::NAN).unwrap_err().code(), "invalid-option");
    assert_eq!(detector.set_iou_threshold(-1.0).unwrap_err().code(), "invalid-option");
    assert_eq!(detector.set_classes(Some(["unicorn"])).unwrap_err().code(), "invalid-option");
    let size = Detector::builder().input_size(33, 32).build(RED_SPOT);
    assert_eq!(size.err().map(|error| error.code()), Some("invalid-option"));
}
