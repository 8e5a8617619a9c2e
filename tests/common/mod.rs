//! What several test files need: fixtures, photographs, and models changed by hand.

// Every test file compiles this for itself and uses a part of it.
#![allow(dead_code)]

pub mod graph;

use std::path::{Path, PathBuf};

use image::RgbImage;
use micro_yolo::{BoxXywh, Detection};
use prost::Message;
use serde_json::Value;
use tract_onnx::pb;

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn read(path: &str) -> Vec<u8> {
    let path = repository(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One of the small networks of `tests/fixtures/forms`.
pub fn form(name: &str) -> Vec<u8> {
    read(&format!("tests/fixtures/forms/{name}.onnx"))
}

pub fn fixture(name: &str) -> Value {
    serde_json::from_slice(&read(&format!("tests/fixtures/{name}.json"))).expect("fixtures are JSON")
}

/// One of the sample photographs.
pub fn photo(name: &str) -> RgbImage {
    let path = repository("data/samples").join(name);
    image::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).to_rgb8()
}

/// A copy of `onnx` with something changed.
pub fn edited(onnx: &[u8], edit: impl FnOnce(&mut pb::ModelProto)) -> Vec<u8> {
    let mut proto = pb::ModelProto::decode(onnx).expect("fixtures are ONNX");
    edit(&mut proto);
    proto.encode_to_vec()
}

/// The dimensions of an input or output, to be changed.
pub fn dims(value: &mut pb::ValueInfoProto) -> &mut Vec<pb::tensor_shape_proto::Dimension> {
    let pb::type_proto::Value::TensorType(tensor) =
        value.r#type.as_mut().and_then(|t| t.value.as_mut()).expect("it has a type");
    &mut tensor.shape.as_mut().expect("it has a shape").dim
}

pub fn dim(size: i64) -> pb::tensor_shape_proto::Dimension {
    let value = Some(pb::tensor_shape_proto::dimension::Value::DimValue(size));
    pb::tensor_shape_proto::Dimension { value, ..Default::default() }
}

pub fn open_dim(name: &str) -> pb::tensor_shape_proto::Dimension {
    let value = Some(pb::tensor_shape_proto::dimension::Value::DimParam(name.to_owned()));
    pb::tensor_shape_proto::Dimension { value, ..Default::default() }
}

/// Compares detections with what a reference found: every expected object must be there, with nearly its score and
/// its box, and nothing else. Two runtimes and two ways of scaling differ in the last digits, so objects within
/// `score_tolerance` of the lowest expected score may be missing or extra.
pub fn assert_same_objects(found: &[Detection], expected: &Value, score_tolerance: f32, what: &str) {
    let expected: Vec<Detection> = expected
        .as_array()
        .expect("a list of objects")
        .iter()
        .map(|object| {
            let number = |value: &Value| value.as_f64().expect("a number") as f32;
            let side = |i: usize| number(&object["box"][i]);
            Detection {
                class: object["class"].as_u64().expect("a class") as usize,
                label: object["label"].as_str().expect("a label").into(),
                score: number(&object["score"]),
                bbox: BoxXywh { x: side(0), y: side(1), width: side(2), height: side(3) },
            }
        })
        .collect();
    let least = expected.iter().map(|object| object.score).fold(f32::INFINITY, f32::min);
    // A sliver left of a box in the border may be clipped away by one of the two.
    let counts = |object: &&Detection| {
        object.score > least + score_tolerance && object.bbox.width >= 2.0 && object.bbox.height >= 2.0
    };
    let same = |a: &Detection, b: &Detection| {
        a.class == b.class
            && a.label == b.label
            && (a.score - b.score).abs() <= score_tolerance
            && a.bbox.iou(&b.bbox) > 0.95
    };
    let missing: Vec<_> =
        expected.iter().filter(counts).filter(|object| !found.iter().any(|other| same(object, other))).collect();
    let extra: Vec<_> = found
        .iter()
        .filter(|object| {
            object.score > least + score_tolerance && !expected.iter().any(|other| same(object, other))
        })
        .collect();
    assert!(missing.is_empty() && extra.is_empty(), "{what}: missing {missing:#?}, extra {extra:#?}");
    assert!(expected.is_empty() || !found.is_empty(), "{what}: nothing found at all");
}
