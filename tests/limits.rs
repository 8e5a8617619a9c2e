//! Small files that ask for much are refused before they get it.
//!
//! The allocator of this program refuses memory above a limit, and the program ends where that is met: that it ends well is
//! part of every test.
#![cfg(not(target_family = "wasm"))]

mod common;

use std::alloc::System;
use std::time::{Duration, Instant};

use cap::Cap;
use common::graph::{floats, int_attribute, ints, ints_attribute, model, node, with};
use common::{form, read};
use micro_yolo::{Detector, Error, InputSize, Limits, Model};
use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Several tests run at once.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// What is said of a file, which has to be said soon.
fn refused(name: &str, onnx: &[u8], limits: Limits) -> Error {
    let started = Instant::now();
    let error = match Detector::builder().limits(limits).build(onnx) {
        Ok(_) => panic!("{name}: {} bytes loaded", onnx.len()),
        Err(error) => error,
    };
    assert_eq!(error.code(), "model-too-large", "{name}: {error:?}");
    assert!(error.is_model() && error.to_string().contains("`limits`"), "{name}: {error:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{name}: {:?}", started.elapsed());
    error
}

#[test]
fn tensors_of_gigabytes_are_refused() {
    let resize = |scale: f32| {
        let scales = [1.0, 1.0, scale, scale].map(f32::to_le_bytes).concat();
        let data_type = DataType::Float as i32;
        pb::TensorProto { name: "scales".into(), data_type, dims: vec![4], raw_data: scales, ..Default::default() }
    };
    let cases = [
        ("Resize", vec![node("Resize", &["x", "", "scales"], "last")], vec![resize(600.0)]),
        (
            "Pad",
            vec![node("Pad", &["x", "pads"], "last")],
            vec![ints("pads", &[0, 0, 10_000, 10_000, 0, 0, 10_000, 10_000])],
        ),
        ("Expand", vec![node("Expand", &["x", "shape"], "last")], vec![ints("shape", &[500_000, 3, 32, 32])]),
        ("Tile", vec![node("Tile", &["x", "times"], "last")], vec![ints("times", &[1, 1, 1000, 1000])]),
        (
            "ConstantOfShape",
            vec![node("ConstantOfShape", &["shape"], "ones"), node("Add", &["x", "ones"], "last")],
            vec![ints("shape", &[100_000, 3, 32, 32])],
        ),
        (
            "Conv of many channels",
            vec![with(node("Conv", &["x", "w"], "last"), &[ints_attribute("pads", &[400, 400, 400, 400])])],
            vec![floats("w", &[1000, 3, 1, 1], 0.5)],
        ),
        (
            "ConvTranspose of long steps",
            vec![with(node("ConvTranspose", &["x", "w"], "last"), &[ints_attribute("strides", &[900, 900])])],
            vec![floats("w", &[3, 5, 1, 1], 0.5)],
        ),
        (
            "MatMul of two long vectors",
            vec![
                node("Reshape", &["x", "column"], "a"),
                node("Tile", &["a", "times"], "b"),
                node("Transpose", &["b"], "c"),
                node("MatMul", &["b", "c"], "last"),
            ],
            vec![ints("column", &[3072, 1]), ints("times", &[20, 1])],
        ),
    ];
    for (name, nodes, weights) in cases {
        let onnx = model(32, nodes, weights);
        assert!(onnx.len() < 100_000, "{name}: {}", onnx.len());
        refused(name, &onnx, Limits::default());
    }
}

#[test]
fn many_tensors_of_megabytes_are_refused() {
    let count = 60;
    let names: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
    // Each alone is small enough; all are there when the last node reads them.
    let kept = |operator: &dyn Fn(usize, &str) -> pb::NodeProto, weights: Vec<pb::TensorProto>| {
        let mut nodes: Vec<_> = names.iter().enumerate().map(|(number, name)| operator(number, name)).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        nodes.push(with(node("Concat", &all, "all"), &[int_attribute("axis", 1)]));
        nodes.push(with(node("ReduceMax", &["all"], "last"), &[ints_attribute("axes", &[1])]));
        model(320, nodes, weights)
    };
    let side = 3 * 32 * 320 * 320;
    let cases = [
        (
            "activations in tract",
            kept(&|_, name| node("Tile", &["x", "times"], name), vec![ints("times", &[1, 32, 1, 1])]),
        ),
        (
            "constants",
            kept(
                &|_, name| node("ConstantOfShape", &["shape"], name),
                vec![ints("shape", &[1, side / 102_400, 320, 320])],
            ),
        ),
        (
            "constants that are computed of large weights",
            kept(
                &|_, name| node("Tile", &["w", "times"], name),
                vec![floats("w", &[1, 4, 320, 320], 1.0), ints("times", &[1, 24, 1, 1])],
            ),
        ),
        (
            "one weight of many convolutions",
            kept(
                &|_, name| with(node("Conv", &["x", "w"], name), &[ints_attribute("strides", &[64, 64])]),
                vec![floats("w", &[800, 3, 64, 64], 0.5)],
            ),
        ),
    ];
    for (name, onnx) in cases {
        assert!(onnx.len() < 64 << 20, "{name}: {}", onnx.len());
        let mut limits = Limits::default();
        limits.memory_bytes = 250_000_000;
        let error = refused(name, &onnx, limits);
        assert!(error.to_string().contains("MB of memory"), "{name}: {error}");
    }
}

#[test]
fn messages_without_content_are_counted_before_they_are_made() {
    // Two bytes each; as nodes of a graph they would have hundreds.
    let model = |field: &[u8], count: usize, inside: &[u8]| {
        let content: Vec<u8> = std::iter::repeat_n(field, count).flatten().copied().collect();
        let wrap = |tag: &[u8], content: &[u8]| {
            let mut length = Vec::new();
            prost::encode_length_delimiter(content.len(), &mut length).unwrap();
            [tag, &length, content].concat()
        };
        let inner = if inside.is_empty() { content } else { wrap(inside, &content) };
        wrap(&[7 << 3 | 2], &inner)
    };
    let nodes = refused("nodes", &model(&[1 << 3 | 2, 0], 100_000, &[]), Limits::default());
    assert!(nodes.to_string().contains("100000 nodes and stored tensors"), "{nodes}");
    let mut limits = Limits::default();
    limits.memory_bytes = 30_000_000;
    for (name, field) in [("attributes", 5), ("names of inputs", 1)] {
        let error = refused(name, &model(&[field << 3 | 2, 0], 400_000, &[1 << 3 | 2]), limits.clone());
        assert!(error.to_string().contains("MB of memory"), "{name}: {error}");
    }
}

#[test]
fn metadata_that_grows_when_it_is_parsed_is_refused() {
    let mut limits = Limits::default();
    limits.memory_bytes = 50_000_000;
    for key in ["names", "imgsz", "micro_yolo.head"] {
        let mut model = pb::ModelProto::decode(&read("tests/fixtures/distribution-int8.onnx")[..]).unwrap();
        model.metadata_props.retain(|entry| entry.key != key);
        let value = format!("[{}]", "{1:1},".repeat(200_000));
        model.metadata_props.push(pb::StringStringEntryProto { key: key.to_owned(), value });
        let error = refused(key, &model.encode_to_vec(), limits.clone());
        assert!(error.to_string().contains("MB of memory"), "{key}: {error}");
    }
}

#[test]
fn inputs_and_outputs_count_like_nodes() {
    let with = |input: bool| {
        let mut model = pb::ModelProto::decode(&model(32, vec![], vec![])[..]).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let values = if input { &mut graph.input } else { &mut graph.output };
        values.extend(
            (0..30_000).map(|number| pb::ValueInfoProto { name: format!("{number}"), ..Default::default() }),
        );
        model.encode_to_vec()
    };
    for input in [true, false] {
        let error = refused("many values", &with(input), Limits::default());
        assert!(error.to_string().contains("nodes and stored tensors"), "{error}");
    }
}

#[test]
fn work_without_end_is_refused() {
    let weight = floats("w", &[16, 16, 64, 64], 0.5);
    let first = with(node("Conv", &["x", "first"], "t0"), &[ints_attribute("pads", &[60, 60, 60, 60])]);
    let convs = (1..=20).map(|number| {
        let (from, to) =
            (format!("t{}", number - 1), if number == 20 { "last".into() } else { format!("t{number}") });
        with(node("Conv", &[&from, "w"], &to), &[ints_attribute("pads", &[31, 31, 32, 32])])
    });
    let nodes = [first].into_iter().chain(convs).collect();
    let onnx = model(1280, nodes, vec![floats("first", &[16, 3, 1, 1], 0.5), weight]);
    let error = refused("convolutions", &onnx, Limits::default());
    assert!(error.to_string().contains("million multiply-accumulates"), "{error}");

    // Boxes of which each is held against each.
    let nodes = vec![
        node("Reshape", &["x", "boxes"], "b"),
        node("Tile", &["b", "times"], "many"),
        node("Reshape", &["x", "scores"], "few"),
        node("Tile", &["few", "times over"], "s"),
        node("NonMaxSuppression", &["many", "s", "most"], "kept"),
        with(node("Cast", &["kept"], "floats"), &[int_attribute("to", DataType::Float as i64)]),
        node("ReduceSum", &["floats"], "sum"),
        node("Add", &["x", "sum"], "last"),
    ];
    let weights = vec![
        ints("boxes", &[1, 768, 4]),
        ints("times", &[1, 2000, 1]),
        ints("scores", &[1, 1, 3072]),
        ints("times over", &[1, 1, 500]),
        ints("most", &[2_000_000]),
    ];
    let error = refused("suppression", &model(32, nodes, weights), Limits::default());
    assert!(error.to_string().contains("up to \"kept\""), "{error}");
}

#[test]
fn limits_can_be_lower_and_higher() {
    let onnx = read("tests/fixtures/distribution-int8.onnx");
    let foreign = form("class-rows");
    type Lower = fn(&mut Limits);
    let lower: [(Lower, &str); 3] = [
        (|limits| limits.memory_bytes = 200_000, "MB of memory"),
        (|limits| limits.nodes = 20, "nodes and stored tensors"),
        (|limits| limits.macs = 1000, "million multiply-accumulates"),
    ];
    for (lower, says) in lower {
        let mut limits = Limits::default();
        lower(&mut limits);
        for onnx in [&onnx, &foreign] {
            let error = refused(says, onnx, limits.clone());
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(Model::with_limits(onnx, None, &limits).unwrap_err().to_string(), error.to_string());
        }
    }
    let mut limits = Limits::default();
    (limits.memory_bytes, limits.nodes, limits.macs) = (u64::MAX, u64::MAX, u64::MAX);
    for onnx in [&onnx, &foreign] {
        Model::with_limits(onnx, None, &limits).unwrap();
    }
    // A larger input needs more.
    limits.memory_bytes = 40_000_000;
    Model::with_limits(&onnx, None, &limits).unwrap();
    let large = InputSize { width: 2048, height: 2048 };
    assert_eq!(Model::with_limits(&onnx, Some(large), &limits).unwrap_err().code(), "model-too-large");
}

#[test]
fn tensors_that_grow_with_what_is_in_the_picture_are_held_to_the_limit() {
    // As many boxes as the suppression keeps, each against each: 38 MB.
    let axes = ints_attribute("axes", &[0, 1]);
    let nodes = vec![
        node("Reshape", &["x", "by four"], "few"),
        node("Tile", &["few", "times"], "boxes"),
        node("Reshape", &["x", "in a row"], "scores"),
        node("NonMaxSuppression", &["boxes", "scores", "most", "overlap"], "kept"),
        with(node("Cast", &["kept"], "rows"), &[int_attribute("to", DataType::Float as i64)]),
        with(node("Transpose", &["rows"], "columns"), &[ints_attribute("perm", &[1, 0])]),
        node("MatMul", &["rows", "columns"], "all"),
        with(node("ReduceMax", &["all"], "largest"), &[axes]),
        node("Mul", &["largest", "little"], "less"),
        node("Add", &["x", "less"], "sum"),
        node("Reshape", &["sum", "flat"], "row"),
        node("Slice", &["row", "start", "end"], "last"),
    ];
    let weights = vec![
        ints("by four", &[1, 768, 4]),
        ints("times", &[1, 4, 1]),
        ints("in a row", &[1, 1, 3072]),
        ints("most", &[3072]),
        floats("overlap", &[1], 1.0),
        floats("little", &[1], 1e-9),
        ints("flat", &[3072]),
        ints("start", &[0]),
        ints("end", &[3070]),
    ];
    let onnx = model(32, nodes, weights);
    let detect = |memory_bytes: u64| {
        let mut limits = Limits::default();
        limits.memory_bytes = memory_bytes;
        let mut detector = Detector::builder().limits(limits).build(&onnx).unwrap();
        detector.detect(micro_yolo::ImageView::rgb(&[90; 3 * 32 * 32], 32, 32).unwrap())
    };
    detect(100_000_000).unwrap();
    let error = detect(20_000_000).unwrap_err();
    assert_eq!(error.code(), "inference-failed");
    assert!(format!("{error:?}").contains("larger than the limit of memory"), "{error:?}");
}

/// Concatenations that read the one before them twice: paths through them double with each.
#[test]
fn deep_graphs_are_planned_soon() {
    let mut nodes = Vec::new();
    let mut from = "x".to_owned();
    for level in 0..3000 {
        let (both, half) = (format!("both{level}"), format!("half{level}"));
        nodes.push(with(node("Concat", &[&from, &from], &both), &[int_attribute("axis", 1)]));
        nodes.push(node("Slice", &[&both, "start", "end", "axis"], &half));
        from = half;
    }
    nodes.push(node("Conv", &[&from, "w"], "conv"));
    // As wide as it can be made.
    let many: Vec<&str> = std::iter::repeat_n("conv", 3000).collect();
    nodes.push(with(node("Concat", &many, "last"), &[int_attribute("axis", 1)]));
    let weights =
        vec![ints("start", &[0]), ints("end", &[3]), ints("axis", &[1]), floats("w", &[5, 3, 1, 1], 0.01)];
    let started = Instant::now();
    let mut detector = Detector::from_onnx(&model(32, nodes, weights)).unwrap();
    let pixels = [90u8; 3 * 20 * 10];
    detector.detect(micro_yolo::ImageView::rgb(&pixels, 20, 10).unwrap()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
