//! Networks whose head the engine leaves to its decoder, from pixels to boxes, against onnxruntime, which ran the whole
//! graph (`compress/tests/export/make.py`, `compress/tests/quantize/make.py`), or PyTorch
//! (`compress/tests/import/make.py`).
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.
#![cfg(not(target_family = "wasm"))]

mod common;

use common::{edited, read};
use micro_yolo::{Detection, Detector, ImageView};

/// The picture that the scripts gave the other runtime, as interleaved pixels; each multiplies by a prime of its own.
fn picture(width: usize, height: usize, prime: usize) -> Vec<u8> {
    let byte = |i: usize| {
        let (pixel, channel) = (i / 3, i % 3);
        ((channel * height * width + pixel) * prime % 256) as u8
    };
    (0..3 * width * height).map(byte).collect()
}

/// All that a model finds, one object a place.
fn detect(file: &str, (width, height): (usize, usize), prime: usize, score_min: f32) -> Vec<Detection> {
    let mut detector = Detector::builder()
        .score_threshold(score_min)
        .iou_threshold(1.0)
        .max_detections(1000)
        .build(&read(file))
        .unwrap_or_else(|error| panic!("{file}: {error:?}"));
    let pixels = picture(width, height, prime);
    detector.detect(ImageView::rgb(&pixels, width as u32, height as u32).unwrap()).unwrap()
}

fn numbers(file: &str) -> serde_json::Value {
    serde_json::from_slice(&read(file)).unwrap()
}

#[test]
fn a_head_of_distributions_finds_the_boxes_of_onnxruntime() {
    let (size, score_min) = ((96, 64), 0.3);
    let found = detect("compress/tests/export/distribution.onnx", size, 37, score_min);
    let rows: Vec<Vec<f32>> =
        serde_json::from_value(numbers("compress/tests/export/distribution-answer.json")).unwrap();
    assert_boxes(&found, &rows, size, score_min);
}

/// As training that diverged leaves it. Each of the first convolution's outputs becomes NaN, and so all scores.
#[test]
fn a_network_with_nan_among_its_weights_is_noticed() {
    let onnx = edited(&read("compress/tests/export/distribution.onnx"), |proto| {
        let graph = proto.graph.as_mut().unwrap();
        let first = graph.node.iter().find(|node| node.op_type == "Conv").unwrap().input[1].clone();
        let weight = graph.initializer.iter_mut().find(|weight| weight.name == first).unwrap();
        weight.raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let pixels = picture(96, 64, 37);
    let mut detector = Detector::from_onnx(&onnx).unwrap();
    assert_eq!(detector.model().foreign_nodes(), []);
    let error = detector.detect(ImageView::rgb(&pixels, 96, 64).unwrap()).unwrap_err();
    assert_eq!(error.code(), "inference-failed");
    assert!(error.to_string().contains("NaN"), "{error}");
}

/// Two heads of other scales, as YOLOv4 has them.
#[test]
fn a_head_of_anchors_with_scaled_centres_finds_the_boxes_of_pytorch() {
    let (size, score_min) = ((64, 96), 0.3);
    let found = detect("compress/tests/import/csp-with-scaled-centres.onnx", size, 7919, score_min);
    let answer = numbers("compress/tests/import/csp-with-scaled-centres.json");
    let values: Vec<f32> = serde_json::from_value(answer["output0"]["0.2.5"].clone()).unwrap();
    let rows: Vec<Vec<f32>> = values.chunks(values.len() / 7).map(<[f32]>::to_vec).collect();
    assert_boxes(&found, &rows, size, score_min);
}

/// `rows` are centre x, centre y, width, height and the scores of all places.
fn assert_boxes(found: &[Detection], rows: &[Vec<f32>], (width, height): (usize, usize), score_min: f32) {
    let mut expected = Vec::new();
    for place in 0..rows[0].len() {
        let best = (4..rows.len()).max_by(|a, b| rows[*a][place].total_cmp(&rows[*b][place])).unwrap();
        let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| rows[row][place]);
        let (left, right) = ((cx - w / 2.0).max(0.0), (cx + w / 2.0).min(width as f32));
        let (top, bottom) = ((cy - h / 2.0).max(0.0), (cy + h / 2.0).min(height as f32));
        if rows[best][place] >= score_min && right > left && bottom > top {
            expected.push((best - 4, rows[best][place], [left, top, right - left, bottom - top]));
        }
    }
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(found.len(), expected.len());
    for object in found {
        let sides = [object.bbox.x, object.bbox.y, object.bbox.width, object.bbox.height];
        let same = expected.iter().any(|(class, score, other)| {
            let apart = sides.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            *class == object.class && (score - object.score).abs() < 1e-4 && apart < 0.02
        });
        assert!(same, "{object:?}");
    }
}

#[test]
fn in_int8_it_finds_the_scores_of_onnxruntime() {
    let found = detect("compress/tests/quantize/distribution-int8.onnx", (32, 32), 37, 0.0);
    let scores: Vec<f32> =
        serde_json::from_value(numbers("compress/tests/quantize/distribution-int8.json")).unwrap();
    let places = scores.len() / 3;
    let best = |place: usize| (0..3).map(|class| scores[class * places + place]).fold(0f32, f32::max);
    let mut expected: Vec<f32> = (0..places).map(best).collect();
    expected.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(found.len(), places);
    for (object, expected) in found.iter().zip(expected) {
        // A byte in the middle of two goes here to one and there to the other.
        assert!((object.score - expected).abs() < 5e-3, "{object:?}, not {expected}");
    }
}

/// Depthwise convolutions between floats, others between bytes.
#[test]
fn depthwise_silu_in_int8_finds_the_boxes_of_onnxruntime() {
    let found = detect("compress/tests/quantize/depthwise-like-int8.onnx", (32, 32), 37, 0.0);
    let rows: Vec<f32> =
        serde_json::from_value(numbers("compress/tests/quantize/depthwise-like-int8.json")).unwrap();
    let places = rows.len() / 7;
    assert_eq!((places, found.len()), (64, 64));
    for object in &found {
        let same = (0..places).any(|place| {
            let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| rows[row * places + place]);
            let (left, right) = ((cx - w / 2.0).max(0.0), (cx + w / 2.0).min(32.0));
            let (top, bottom) = ((cy - h / 2.0).max(0.0), (cy + h / 2.0).min(32.0));
            let sides = [object.bbox.x, object.bbox.y, object.bbox.width, object.bbox.height];
            let apart = |(a, b): (&f32, f32)| (a - b).abs();
            let apart = sides.iter().zip([left, top, right - left, bottom - top]).map(apart).fold(0.0, f32::max);
            // A byte in the middle of two goes here to one and there to the other.
            apart < 0.1 && (object.score - rows[(4 + object.class) * places + place]).abs() < 3e-3
        });
        assert!(same, "{object:?}");
    }
}
