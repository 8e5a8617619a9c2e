//! What is wrong gets a documented error, never a panic.
#![cfg(not(target_family = "wasm"))]

mod common;

use common::graph::{floats, int_attribute, ints, ints_attribute, model, node, with};
use common::{dim, dims, edited, form, photo};
use micro_yolo::{Detector, Error, ImageView};
use prost::Message;
use tract_onnx::pb;

fn load_error(onnx: &[u8]) -> Error {
    match Detector::from_onnx(onnx) {
        Ok(_) => panic!("the model loaded"),
        Err(error) => error,
    }
}

#[test]
fn files_that_are_no_models() {
    let good = form("class-rows");
    let photo = common::read("data/samples/cat.jpg");
    let cases: [(&str, &[u8]); 7] = [
        ("empty", b""),
        ("text", b"<!doctype html><title>404 Not Found</title>"),
        ("a photograph", &photo),
        ("zeros", &[0; 1000]),
        ("ones", &[255; 1000]),
        ("half a model", &good[..good.len() / 2]),
        ("a model but for its last byte", &good[..good.len() - 1]),
    ];
    for (name, bytes) in cases {
        let error = load_error(bytes);
        assert_eq!(error.code(), "invalid-model", "{name}: {error:?}");
        assert!(error.is_model() && !error.is_image());
    }
}

#[test]
fn files_that_are_often_taken_for_models_are_named() {
    for (bytes, says) in [
        (&b"<!doctype html>"[..], "a web page"),
        (b"\xef\xbb\xbf\n <html>", "a web page"),
        (b"PK\x03\x04\0\0", "a zip archive"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ] {
        let error = load_error(bytes);
        assert_eq!(error.code(), "invalid-model", "{says}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
    assert!(!load_error(&[255; 100]).to_string().contains("they are"));
}

/// Some programs append nodes that belong before others; onnxruntime sorts them.
#[test]
fn nodes_in_another_order_compute_the_same() {
    let image = photo("cat.jpg");
    let view = ImageView::rgb(&image, image.width(), image.height()).unwrap();
    for name in ["class-rows", "objectness"] {
        let found = |onnx: &[u8]| {
            let mut detector = Detector::builder().score_threshold(0.2).build(onnx).unwrap();
            detector.detect(view).unwrap()
        };
        let expected = found(&form(name));
        let reversed = edited(&form(name), |proto| proto.graph.as_mut().unwrap().node.reverse());
        assert!(!expected.is_empty());
        assert_eq!(found(&reversed), expected, "{name}");
    }
}

#[test]
fn models_that_are_no_detectors_are_told_what_is_expected() {
    struct Case {
        name: &'static str,
        edit: fn(&mut pb::GraphProto),
        code: &'static str,
        says: &'static str,
    }
    let cases = [
        Case {
            name: "flat input",
            edit: |graph| *dims(&mut graph.input[0]) = vec![dim(1), dim(27648)],
            code: "unsupported-model",
            says: "[1, 27648]; expected [1, 3, H, W]",
        },
        Case {
            name: "grey input",
            edit: |graph| dims(&mut graph.input[0])[1] = dim(1),
            code: "unsupported-model",
            says: "[1, 1, 96, 96]; expected [1, 3, H, W]",
        },
        Case {
            name: "channels last",
            edit: |graph| *dims(&mut graph.input[0]) = vec![dim(1), dim(96), dim(96), dim(3)],
            code: "unsupported-model",
            says: "[1, 96, 96, 3]; expected [1, 3, H, W]",
        },
        Case {
            name: "a batch of 8",
            edit: |graph| dims(&mut graph.input[0])[0] = dim(8),
            code: "unsupported-model",
            says: "[8, 3, 96, 96]",
        },
        Case {
            name: "a negative side",
            edit: |graph| dims(&mut graph.input[0])[2] = dim(-5),
            code: "unsupported-model",
            says: "-5",
        },
        Case {
            name: "an endless side",
            edit: |graph| dims(&mut graph.input[0])[2] = dim(i64::MAX),
            code: "unsupported-model",
            says: "9223372036854775807",
        },
        Case {
            name: "bytes in place of floats",
            edit: |graph| {
                let pb::type_proto::Value::TensorType(tensor) =
                    graph.input[0].r#type.as_mut().unwrap().value.as_mut().unwrap();
                tensor.elem_type = pb::tensor_proto::DataType::Uint8 as i32;
            },
            code: "unsupported-model",
            says: "uint8; expected float32 or float16",
        },
        Case {
            name: "two inputs",
            edit: |graph| {
                let mut second = graph.input[0].clone();
                second.name = "im_shape".to_owned();
                graph.input.push(second);
            },
            code: "unsupported-model",
            says: "2 inputs [\"images\", \"im_shape\"]",
        },
        Case {
            name: "no input",
            edit: |graph| graph.input.clear(),
            code: "invalid-model",
            says: "reads \"images\"",
        },
        Case {
            name: "an inner tensor as output",
            edit: |graph| {
                let conv = graph.node.iter().find(|node| node.op_type == "Conv").unwrap().output[0].clone();
                graph.output[0].name = conv;
            },
            code: "unsupported-model",
            says: "must have three dimensions",
        },
        Case {
            name: "several outputs, of which the first is no answer",
            edit: |graph| {
                let conv = graph.node.iter().find(|node| node.op_type == "Conv").unwrap().output[0].clone();
                graph.output.insert(0, pb::ValueInfoProto { name: conv, ..Default::default() });
            },
            code: "unsupported-model",
            says: ", the first of 2, is [",
        },
        Case {
            name: "an output that nothing computes",
            edit: |graph| graph.output[0].name = "nothing".to_owned(),
            code: "invalid-model",
            says: "\"nothing\"",
        },
        Case {
            name: "an unknown operator",
            edit: |graph| graph.node[0].op_type = "Transmogrify".to_owned(),
            code: "unsupported-operator",
            says: "operator Transmogrify",
        },
        Case {
            name: "an operator of another domain",
            edit: |graph| graph.node[0].domain = "com.example".to_owned(),
            code: "unsupported-operator",
            says: "com.example.",
        },
        Case {
            name: "a cycle",
            edit: |graph| {
                let last = graph.output[0].name.clone();
                graph.node[0].input[0] = last;
            },
            code: "invalid-model",
            says: "which nothing before it computes",
        },
        Case {
            name: "weights in another file",
            edit: |graph| {
                graph.initializer[0].data_location = Some(pb::tensor_proto::DataLocation::External as i32);
            },
            code: "unsupported-model",
            says: "another file",
        },
        Case {
            name: "weights that are too short",
            edit: |graph| {
                let weight = graph.initializer.iter_mut().find(|w| w.raw_data.len() > 8).unwrap();
                weight.raw_data.truncate(8);
            },
            code: "invalid-model",
            says: "has 8 bytes",
        },
        Case {
            name: "weights of astronomic size",
            edit: |graph| graph.initializer[0].dims = vec![1 << 40, 1 << 40],
            code: "invalid-model",
            says: "impossible dimensions",
        },
    ];
    for Case { name, edit, code, says } in cases {
        let error = load_error(&edited(&form("class-rows"), |proto| edit(proto.graph.as_mut().unwrap())));
        assert_eq!(error.code(), code, "{name}: {error:?}");
        assert!(error.to_string().contains(says), "{name}: {error:?}");
    }
}

#[test]
fn metadata_that_does_not_fit_the_network() {
    let with = |key: &str, value: &str| {
        let error = load_error(&edited(&form("class-rows"), |proto| {
            proto.metadata_props.retain(|entry| entry.key != key);
            proto.metadata_props.push(pb::StringStringEntryProto { key: key.into(), value: value.into() });
        }));
        assert_eq!(error.code(), "unsupported-model", "{key} = {value}: {error:?}");
        error.to_string()
    };
    assert!(with("names", "['one', 'two']").contains("[1, 6, N]"));
    assert!(with("names", "{}").contains("no classes"));
    assert!(with("names", "{0: 'a'").contains("class names"));
    assert!(with("task", "segment").contains("\"segment\""));
}

#[test]
fn every_cut_of_a_model_is_refused() {
    let good = form("anchors");
    for end in (0..good.len()).step_by(577) {
        let error = load_error(&good[..end]);
        assert!(error.is_model(), "{end}: {error:?}");
    }
}

#[test]
fn thresholds_outside_zero_to_one() {
    let onnx = form("class-rows");
    let mut detector = Detector::from_onnx(&onnx).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.001, 1.001] {
        for builder in [Detector::builder().score_threshold(bad), Detector::builder().iou_threshold(bad)] {
            let error = builder.build(&onnx).unwrap_err();
            assert_eq!(error.code(), "invalid-option", "{bad}");
            assert!(error.is_option());
        }
        assert_eq!(detector.set_score_threshold(bad).unwrap_err().code(), "invalid-option");
        assert_eq!(detector.set_iou_threshold(bad).unwrap_err().code(), "invalid-option");
    }
    assert_eq!(detector.score_threshold(), micro_yolo::DEFAULT_SCORE_THRESHOLD, "a refused value changes nothing");
    for good in [0.0, 0.5, 1.0] {
        detector.set_score_threshold(good).unwrap();
        detector.set_iou_threshold(good).unwrap();
        assert_eq!((detector.score_threshold(), detector.iou_threshold()), (good, good));
    }
}

#[test]
fn impossible_input_sizes_and_classes() {
    let onnx = form("class-rows");
    for (width, height) in [(0, 0), (0, 96), (33, 96), (96, 100), (8192, 96), (u32::MAX, u32::MAX)] {
        let error = Detector::builder().input_size(width, height).build(&onnx).unwrap_err();
        assert_eq!(error.code(), "invalid-option", "{width} x {height}: {error:?}");
    }
    let error = Detector::builder().classes(["cat", "unicorn"]).build(&onnx).unwrap_err();
    assert_eq!(error.code(), "invalid-option");
    assert!(error.to_string().contains("unicorn") && error.to_string().contains("person"), "{error}");
    assert!(Detector::builder().classes([5]).build(&onnx).unwrap_err().is_option());
    assert!(Detector::builder().classes([usize::MAX]).build(&onnx).unwrap_err().is_option());
}

#[test]
fn tiny_and_extreme_images_are_searched() {
    let mut detector = Detector::builder().score_threshold(0.0).build(&form("class-rows")).unwrap();
    for (width, height) in [(1, 1), (2, 1), (1, 700), (16_384, 1), (16_384, 2), (3, 16_384)] {
        let pixels = vec![200; width as usize * height as usize * 4];
        let found = detector.detect(ImageView::rgba(&pixels, width, height).unwrap()).unwrap();
        assert!(!found.is_empty(), "{width} x {height}");
        for object in found {
            let b = object.bbox;
            assert!(b.width > 0.0 && b.height > 0.0 && b.x >= 0.0 && b.y >= 0.0);
            assert!(b.x + b.width <= width as f32 * 1.0001 && b.y + b.height <= height as f32 * 1.0001);
        }
    }
    assert_eq!(ImageView::rgba(&[], 0, 0).unwrap_err().code(), "invalid-image");
    assert_eq!(ImageView::rgba(&vec![0; 800_000], 20_000, 10).unwrap_err().code(), "image-too-large");
    assert_eq!(ImageView::rgb(&[0; 7], 1, 2).unwrap_err().code(), "invalid-image");
}

#[test]
fn a_transparent_image_looks_like_the_border() {
    let mut detector = Detector::builder().score_threshold(0.0).build(&form("class-rows")).unwrap();
    let clear = [255, 0, 0, 0].repeat(96 * 96);
    let grey = [114, 114, 114].repeat(96 * 96);
    let clear = detector.detect(ImageView::rgba(&clear, 96, 96).unwrap()).unwrap();
    let grey = detector.detect(ImageView::rgb(&grey, 96, 96).unwrap()).unwrap();
    assert_eq!(clear, grey);
}

#[test]
fn a_detector_works_on_after_a_refused_image() {
    let mut detector = Detector::builder().score_threshold(0.2).build(&form("objectness")).unwrap();
    let image = photo("cat.jpg");
    let view = ImageView::rgb(&image, image.width(), image.height()).unwrap();
    let before = detector.detect(view).unwrap();
    assert!(ImageView::rgb(&image, image.width(), image.height() + 1).is_err());
    detector.detect(ImageView::rgb(&[1, 2, 3], 1, 1).unwrap()).unwrap();
    assert_eq!(detector.detect(view).unwrap(), before);
    assert!(!before.is_empty());
}

#[test]
fn options_of_a_live_detector_take_effect() {
    let mut detector = Detector::builder().score_threshold(0.2).build(&form("class-rows")).unwrap();
    let image = photo("astronaut.jpg");
    let view = ImageView::rgb(&image, image.width(), image.height()).unwrap();
    let all = detector.detect(view).unwrap();
    assert!(all.len() > 4 && all.is_sorted_by(|a, b| a.score >= b.score));

    detector.set_max_detections(2);
    assert_eq!(detector.detect(view).unwrap(), all[..2]);
    detector.set_max_detections(0);
    assert_eq!(detector.detect(view).unwrap(), []);
    detector.set_max_detections(100);

    let score = all[3].score;
    detector.set_score_threshold(score).unwrap();
    assert_eq!(detector.detect(view).unwrap(), all[..4]);
    detector.set_score_threshold(0.2).unwrap();

    detector.set_classes(Some(["cat"])).unwrap();
    let cats = detector.detect(view).unwrap();
    assert!(!cats.is_empty() && cats.iter().all(|object| &*object.label == "cat" && object.class == 1));
    detector.set_classes(None::<[usize; 0]>).unwrap();
    assert_eq!(detector.detect(view).unwrap(), all);

    detector.set_iou_threshold(1.0).unwrap();
    assert!(detector.detect(view).unwrap().len() > all.len(), "nothing is suppressed");
}

#[test]
fn a_model_without_an_operator_set_is_invalid() {
    let error = load_error(&edited(&form("class-rows"), |proto| proto.opset_import.clear()));
    assert_eq!(error.code(), "invalid-model");
    let error = load_error(&edited(&form("class-rows"), |proto| proto.opset_import[0].version = 7));
    assert_eq!(error.code(), "unsupported-model");
    let empty = pb::ModelProto::default().encode_to_vec();
    assert_eq!(load_error(&empty).code(), "invalid-model");
}

/// A network whose `nodes` follow on a convolution's 8 channels of 4 x 4, the tensor `a`.
fn network(nodes: Vec<pb::NodeProto>, weights: Vec<pb::TensorProto>) -> Vec<u8> {
    let sizes = [("kernel_shape", [3, 3].as_slice()), ("strides", &[8, 8]), ("pads", &[1, 1, 1, 1])];
    let conv = with(node("Conv", &["x", "w"], "a"), &sizes.map(|(name, sizes)| ints_attribute(name, sizes)));
    let nodes = [vec![conv], nodes].concat();
    model(32, nodes, [vec![floats("w", &[8, 3, 3, 3], 0.01)], weights].concat())
}

/// A network whose `nodes` compute the whole number `result`, also from `seven`, which is then added to `a`.
fn whole(nodes: Vec<pb::NodeProto>, result: &str, weights: Vec<pb::TensorProto>) -> Vec<u8> {
    let last = vec![
        with(node("Cast", &[result], "number"), &[int_attribute("to", 1)]),
        node("Add", &["a", "number"], "last"),
    ];
    network([nodes, last].concat(), [vec![ints("seven", &[7])], weights].concat())
}

#[test]
fn nodes_that_do_not_fit_their_inputs_are_named() {
    let axis = |axis: i64| int_attribute("axis", axis);
    let ones = || ints_attribute("kernel_shape", &[1, 1]);
    let place = |numbers: &[i64]| pb::TensorProto { dims: vec![1, numbers.len() as i64], ..ints("place", numbers) };
    let quantize = |input: &str| {
        let mut node = node("DynamicQuantizeLinear", &[input], &format!("{input} q"));
        node.output.extend([format!("{input} step"), format!("{input} zero")]);
        node
    };
    let list = |length: i64| floats("list", &[length], 0.5);
    let one = || floats("one", &[1], 1.0);
    let cases = [
        (
            "one dividend and many divisors, which tract exchanges",
            network(
                vec![
                    with(node("Cast", &["a"], "whole"), &[int_attribute("to", 7)]),
                    node("Mod", &["seven", "whole"], "rest"),
                    with(node("Cast", &["rest"], "floats"), &[int_attribute("to", 1)]),
                    node("Sigmoid", &["floats"], "last"),
                ],
                vec![ints("seven", &[7])],
            ),
            "its dividend has fewer values than its divisor",
        ),
        (
            "a step of a slice at the end of 32 bits",
            network(
                vec![node("Slice", &["a", "from", "to", "one", "step"], "last")],
                vec![ints("from", &[0]), ints("to", &[8]), ints("one", &[1]), ints("step", &[i64::from(i32::MAX)])],
            ),
            "its step is 0 or too large",
        ),
        (
            "sides of 4 and 16 side by side, which tract takes for an expression that it computes with for hours",
            network(
                vec![
                    node("Sigmoid", &["sixteen"], "other"),
                    node("Add", &["a", "other"], "sum"),
                    with(node("Conv", &["sum", "one"], "last"), &[ones()]),
                ],
                vec![floats("sixteen", &[16], 1.0), floats("one", &[5, 8, 1, 1], 1.0)],
            ),
            "two sides do not go together",
        ),
        (
            "a convolution of as many channels as there are objects",
            network(
                vec![
                    node("NonZero", &["a"], "places"),
                    with(node("Cast", &["places"], "numbers"), &[int_attribute("to", 1)]),
                    node("Unsqueeze", &["numbers", "outer"], "image"),
                    with(node("Conv", &["image", "one"], "last"), &[ones()]),
                ],
                vec![ints("outer", &[0, 3]), floats("one", &[5, 4, 1, 1], 1.0)],
            ),
            "depends on what is in the image",
        ),
        (
            "channels of a list",
            network(
                vec![
                    node("Sigmoid", &["eight"], "list"),
                    node("BatchNormalization", &["list", "eight", "eight", "eight", "eight"], "last"),
                ],
                vec![floats("eight", &[8], 1.0)],
            ),
            "its input has no channels",
        ),
        (
            "factors for other channels",
            network(
                vec![node("InstanceNormalization", &["a", "four", "four"], "last")],
                vec![floats("four", &[4], 1.0)],
            ),
            "its scale, bias, mean or variance is not one number for each channel",
        ),
        (
            "the best along an axis that is none",
            network(
                vec![
                    with(node("ArgMax", &["a"], "best"), &[axis(4)]),
                    with(node("Cast", &["best"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![],
            ),
            "its input has no such axis",
        ),
        (
            "an edge of less than nothing",
            network(vec![node("Pad", &["a", "edges"], "last")], vec![ints("edges", &[0, -1, 0, 0, 0, 0, 0, 0])]),
            "its pads are negative, or not two for each axis",
        ),
        (
            "a slice of more axes than tract has bits for",
            network(
                vec![
                    node("Reshape", &["a", "sides"], "many"),
                    node("Slice", &["many", "zero", "one", "zero"], "last"),
                ],
                vec![ints("sides", &[&[8, 4, 4][..], &[1; 62]].concat()), ints("zero", &[0]), ints("one", &[1])],
            ),
            "its input has more than 64 axes",
        ),
        (
            "an axis that is none, of a node that the engine could run if there were a layer beside it",
            network(
                vec![
                    node("Sqrt", &["a"], "before"),
                    with(node("QuantizeLinear", &["before", "step", "zero"], "bytes"), &[axis(9)]),
                    node("DequantizeLinear", &["bytes", "step", "zero"], "after"),
                    node("Sqrt", &["after"], "root"),
                    node("Slice", &["root", "from", "to", "one"], "last"),
                ],
                vec![
                    ints("from", &[0]),
                    ints("to", &[5]),
                    ints("one", &[1]),
                    floats("step", &[], 0.5),
                    pb::TensorProto { name: "zero".into(), data_type: 2, raw_data: vec![0], ..Default::default() },
                ],
            ),
            "its input has no such axis",
        ),
        (
            "a range that goes away from its end",
            whole(
                vec![
                    node("Shape", &["a"], "sides"),
                    node("Gather", &["sides", "two"], "side"),
                    node("Range", &["zero", "side", "down"], "range"),
                    node("ReduceSum", &["range"], "sum"),
                ],
                "sum",
                [("zero", 0), ("two", 2), ("down", -2)]
                    .map(|(name, number)| pb::TensorProto { dims: vec![], ..ints(name, &[number]) })
                    .to_vec(),
            ),
            "it never comes to its end",
        ),
        (
            "a factor at the end of the 32 bits in which tract keeps it",
            whole(vec![node("Mul", &["seven", "end"], "product")], "product", vec![ints("end", &[1 << 31])]),
            "a size is beyond bounds",
        ),
        (
            "whole numbers that overflow",
            network(
                vec![
                    node("Mul", &["huge", "huge"], "product"),
                    with(node("Cast", &["product"], "number"), &[int_attribute("to", 1)]),
                    node("Mul", &["a", "number"], "last"),
                ],
                vec![ints("huge", &[1 << 40])],
            ),
            "a size is beyond bounds",
        ),
        (
            "a power of whole numbers, the exponent below zero",
            whole(vec![node("Pow", &["seven", "exponent"], "power")], "power", vec![ints("exponent", &[-1])]),
            "a power of whole numbers is beyond their type",
        ),
        (
            "a power of whole numbers that overflows",
            whole(vec![node("Pow", &["seven", "exponent"], "power")], "power", vec![ints("exponent", &[23])]),
            "a power of whole numbers is beyond their type",
        ),
        (
            "a sum of bytes that overflows",
            whole(
                vec![
                    with(node("Cast", &["large"], "byte"), &[int_attribute("to", 2)]),
                    node("Add", &["byte", "byte"], "sum"),
                ],
                "sum",
                vec![ints("large", &[200])],
            ),
            "its whole numbers overflow",
        ),
        (
            "the negative of the least 32-bit number",
            whole(
                vec![
                    with(node("Cast", &["least"], "narrow"), &[int_attribute("to", 6)]),
                    node("Neg", &["narrow"], "negative"),
                ],
                "negative",
                vec![ints("least", &[i64::from(i32::MIN)])],
            ),
            "its whole numbers overflow",
        ),
        (
            "a sum along an axis beyond the 32 bits in which tract sums",
            whole(
                vec![node("ReduceSum", &["large"], "sum")],
                "sum",
                vec![ints("large", &[i64::from(i32::MAX), 1])],
            ),
            "its whole numbers overflow",
        ),
        (
            "a shift by all bits",
            whole(vec![node("BitShift", &["seven", "bits"], "shifted")], "shifted", vec![ints("bits", &[64])]),
            "its whole numbers overflow",
        ),
        (
            "a shape that is an image of floats",
            network(vec![node("Reshape", &["a", "shape"], "last")], vec![floats("shape", &[1, 1, 180], 8.0)]),
            "its shape is no list of whole numbers",
        ),
        (
            "axes that are floats",
            network(vec![node("Unsqueeze", &["a", "w"], "last")], vec![]),
            "its axes or steps are no constants",
        ),
        (
            "parts that are floats",
            network(vec![node("Split", &["a", "w"], "last")], vec![]),
            "the sizes of its parts are no constants",
        ),
        (
            "places that are floats",
            network(vec![node("Gather", &["a", "far"], "last")], vec![floats("far", &[2], 10.0)]),
            "its indices are no whole numbers",
        ),
        (
            "sides whose product overflows",
            network(vec![node("Reshape", &["a", "sides"], "last")], vec![ints("sides", &[i64::from(i32::MAX); 4])]),
            "its shape has a negative side, or is too large",
        ),
        (
            "a transposition of two maps",
            network(
                vec![with(node("Transpose", &["a", "w"], "last"), &[ints_attribute("perm", &[0, 2, 1, 3])])],
                vec![],
            ),
            "it has more inputs than the operator takes",
        ),
        (
            "scales for no channels",
            network(
                vec![
                    quantize("a"),
                    node("Slice", &["a q", "zero", "zero", "axis"], "none"),
                    node("DequantizeLinear", &["none", "scales"], "numbers"),
                    node("Add", &["a", "numbers"], "last"),
                ],
                vec![ints("zero", &[0]), ints("axis", &[1]), floats("scales", &[0], 1.0)],
            ),
            "its scale or zero point does not fit its input",
        ),
        (
            "a power of truth values",
            network(
                vec![
                    node("Greater", &["a", "two"], "truth"),
                    node("Pow", &["truth", "two"], "power"),
                    with(node("Cast", &["power"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![floats("two", &[], 2.0)],
            ),
            "its base and exponent have no type in common",
        ),
        (
            "a side to the power of a float",
            network(
                vec![
                    node("Shape", &["a"], "sides"),
                    node("Pow", &["sides", "two"], "power"),
                    with(node("Cast", &["power"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![floats("two", &[], 2.0)],
            ),
            "its base and exponent have no type in common",
        ),
        (
            "a mean over no columns",
            network(
                vec![
                    node("Slice", &["a", "zero", "zero", "last axis"], "none"),
                    with(node("ReduceMean", &["none"], "mean"), &[ints_attribute("axes", &[3])]),
                    node("Add", &["a", "mean"], "last"),
                ],
                vec![ints("zero", &[0]), ints("last axis", &[3])],
            ),
            "it has no values to reduce",
        ),
        (
            "a mean over no pixels",
            network(
                vec![
                    node("ConstantOfShape", &["no pixels"], "none"),
                    node("GlobalAveragePool", &["none"], "mean"),
                    node("Add", &["a", "mean"], "last"),
                ],
                vec![ints("no pixels", &[1, 2, 1, 0])],
            ),
            "its input has no values",
        ),
        (
            "whole matrices of no axes",
            network(
                vec![
                    quantize("a"),
                    node("MatMulInteger", &["a q", "a zero"], "sums"),
                    with(node("Cast", &["sums"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![],
            ),
            "its inputs have",
        ),
        (
            "a convolution of a whole number",
            network(
                vec![
                    quantize("a"),
                    node("ConvInteger", &["a zero", "a q"], "sums"),
                    with(node("Cast", &["sums"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![],
            ),
            "its input has fewer than three axes",
        ),
        (
            "a convolution of whole numbers with weights for other channels",
            network(
                vec![
                    quantize("a"),
                    with(node("ConvInteger", &["a q", "q one"], "sums"), &[ones()]),
                    with(node("Cast", &["sums"], "last"), &[int_attribute("to", 1)]),
                ],
                vec![pb::TensorProto {
                    name: "q one".into(),
                    data_type: pb::tensor_proto::DataType::Uint8 as i32,
                    dims: vec![5, 4, 1, 1],
                    raw_data: vec![1; 20],
                    ..Default::default()
                }],
            ),
            "its weights do not fit the channels of its input",
        ),
        (
            "a place of two numbers beyond the second axis",
            network(vec![node("GatherND", &["a", "place"], "last")], vec![place(&[0, 8])]),
            "its indices are beyond its input",
        ),
        (
            "a place before the first of the second axis",
            network(vec![node("GatherND", &["a", "place"], "last")], vec![place(&[0, -9])]),
            "its indices are beyond its input",
        ),
        (
            "a place of more numbers than there are axes",
            network(vec![node("GatherND", &["a", "place"], "last")], vec![place(&[0, 0, 0, 0, 0])]),
            "its indices have more numbers than its input has axes",
        ),
        (
            "a batch of more axes than the places have",
            network(
                vec![with(node("GatherND", &["a", "place"], "last"), &[int_attribute("batch_dims", 2)])],
                vec![place(&[0])],
            ),
            "its indices have more numbers than its input has axes",
        ),
        (
            "a number that is no place",
            network(
                vec![node("GatherND", &["a", "place"], "last")],
                vec![pb::TensorProto { dims: vec![], ..ints("place", &[1]) }],
            ),
            "the shape of its indices is not known",
        ),
        (
            "writing beyond a tensor",
            network(vec![node("ScatterND", &["list", "place", "one"], "last")], vec![place(&[8]), list(8), one()]),
            "its indices are beyond its input",
        ),
        (
            "writing more than there are places",
            network(vec![node("ScatterND", &["list", "place", "list"], "last")], vec![place(&[7]), list(8)]),
            "its updates do not fit its indices",
        ),
        (
            "writing beyond an axis",
            network(
                vec![with(node("ScatterElements", &["list", "at", "one"], "last"), &[axis(0)])],
                vec![ints("at", &[-9]), list(8), one()],
            ),
            "its indices are beyond its input",
        ),
        (
            "writing along no axis",
            network(
                vec![with(node("ScatterElements", &["list", "at", "one"], "last"), &[axis(1)])],
                vec![ints("at", &[0]), list(8), one()],
            ),
            "its input has no such axis",
        ),
        (
            "writing fewer values than there are places",
            network(
                vec![node("ScatterElements", &["list", "at", "one"], "last")],
                vec![ints("at", &[0, 1]), list(8), one()],
            ),
            "its indices do not fit its input",
        ),
        (
            "a scale of no numbers",
            network(vec![node("QuantizeLinear", &["a", "none"], "last")], vec![floats("none", &[4, 0], 1.0)]),
            "its scale or zero point does not fit its input",
        ),
        (
            "a size of nothing",
            network(vec![node("Resize", &["a", "", "scales"], "last")], vec![floats("scales", &[0, 2, 6], 1.0)]),
            "it has neither scales nor sizes",
        ),
    ];
    for (name, onnx, says) in cases {
        let started = std::time::Instant::now();
        let error = load_error(&onnx);
        assert_eq!(error.code(), "unsupported-model", "{name}: {error:?}");
        let words = format!("{error:?}");
        assert!(words.contains(says) && !words.contains("gave up"), "{name}: {words}");
        assert!(started.elapsed().as_secs() < 10, "{name}: {:?}", started.elapsed());
    }
}

/// tract would give other numbers than onnxruntime for these, or panic.
#[test]
fn forms_that_tract_does_not_compute_as_onnx_are_refused() {
    let text = |name: &str, value: &str| pb::AttributeProto {
        name: name.into(),
        s: value.as_bytes().to_vec(),
        r#type: pb::attribute_proto::AttributeType::String as i32,
        ..Default::default()
    };
    let float = |name: &str, f: f32| pb::AttributeProto {
        name: name.into(),
        f,
        r#type: pb::attribute_proto::AttributeType::Float as i32,
        ..Default::default()
    };
    let list = |name: &str, values: &[f32]| {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        pb::TensorProto { dims: vec![values.len() as i64], raw_data, ..floats(name, &[0], 0.0) }
    };
    let resize = || node("Resize", &["a", "", "scales"], "last");
    let places = |mode: &str| text("coordinate_transformation_mode", mode);
    let scales = |down: f32, across: f32| list("scales", &[1.0, 1.0, down, across]);
    let number = |name: &str, value: i64| pb::TensorProto { dims: vec![], ..ints(name, &[value]) };
    let bytes = with(node("QuantizeLinear", &["a", "one"], "bytes"), &[int_attribute("output_dtype", 3)]);
    let numbers = node("DequantizeLinear", &["bytes", "one"], "last");
    let one_hot = node("OneHot", &["at", "depth", "values"], "rows");
    let transposed = node("ConvTranspose", &["a", "w2"], "last");
    let sample = node("GridSample", &["a", "grid"], "last");
    let cases = [
        (17, vec![with(node("Celu", &["a"], "last"), &[float("alpha", 0.5)])], vec![], "alpha other than 1"),
        (17, vec![node("GlobalLpPool", &["a"], "last")], vec![], "GlobalLpPool is not supported"),
        (21, vec![bytes, numbers], vec![floats("one", &[], 0.1)], "output_dtype other than uint8"),
        (
            16,
            vec![with(sample, &[text("mode", "bicubic"), text("padding_mode", "border")])],
            vec![floats("grid", &[1, 5, 2, 2], 0.3)],
            "cubic sampling with a repeated border",
        ),
        (10, vec![node("Resize", &["a", "scales"], "last")], vec![scales(3.0, 1.0)], "only a scale of 2"),
        (11, vec![with(resize(), &[text("mode", "cubic")])], vec![scales(2.0, 2.0)], "its input roi is missing"),
        (
            13,
            vec![with(node("Resize", &["a", "roi", "scales"], "last"), &[places("tf_crop_and_resize")])],
            vec![list("roi", &[0.0, 0.0, 0.2, 0.2, 1.0, 1.0, 0.8, 1.3]), scales(1.0, 1.0)],
            "tf_crop_and_resize is not supported",
        ),
        (13, vec![with(resize(), &[places("align_corners")])], vec![scales(1.3, 1.0)], "leave part of a pixel"),
        (
            17,
            vec![with(node("LRN", &["a"], "last"), &[int_attribute("size", 0)])],
            vec![],
            "its size must be above 0",
        ),
        (
            17,
            vec![with(node("DepthToSpace", &["a"], "last"), &[int_attribute("blocksize", 0)])],
            vec![],
            "its blocksize must be above 0",
        ),
        (
            21,
            vec![with(node("GroupNormalization", &["a", "one", "one"], "last"), &[int_attribute("num_groups", 0)])],
            vec![floats("one", &[8], 1.0)],
            "must be above 0",
        ),
        (
            17,
            vec![with(transposed, &[ints_attribute("output_shape", &[6, 6])])],
            vec![floats("w2", &[8, 5, 2, 2], 1.0)],
            "output_shape is not supported",
        ),
        (17, vec![node("Trilu", &["a", "k"], "last")], vec![number("k", i64::MAX)], "a size is beyond bounds"),
        (
            17,
            vec![node("Range", &["start", "end", "step"], "range"), node("Add", &["a", "range"], "last")],
            vec![floats("start", &[], 0.0), floats("end", &[], 4.0), floats("step", &[], 0.0)],
            "its step is 0",
        ),
        (
            17,
            vec![one_hot, node("Add", &["a", "rows"], "last")],
            vec![ints("at", &[1, 2, 3, 4]), number("depth", 4), list("values", &[0.0, 1.0])],
            "its indices are beyond its depth",
        ),
        (17, vec![with(node("Einsum", &["a"], "last"), &[text("equation", "abcd -> ")])], vec![], "use ReduceSum"),
        (
            17,
            vec![
                with(node("Cast", &["a"], "whole"), &[int_attribute("to", 7)]),
                with(node("Mod", &["whole", "three"], "rest"), &[int_attribute("fmod", 1)]),
                with(node("Cast", &["rest"], "last"), &[int_attribute("to", 1)]),
            ],
            vec![ints("three", &[3])],
            "cast them to int32",
        ),
        (
            18,
            vec![node("Pad", &["a", "pads", "", "axes"], "last")],
            vec![ints("pads", &[1, 1]), ints("axes", &[4])],
            "not each an axis",
        ),
        (
            17,
            vec![node("Range", &["start", "end", "step"], "range"), node("Add", &["a", "range"], "last")],
            vec![floats("start", &[], 0.0), floats("end", &[], 4.0), floats("step", &[], 1e-5)],
            "more than 65536 values",
        ),
        (
            17,
            vec![node("TopK", &["one", "k"], "last")],
            vec![floats("one", &[3], f32::NAN), ints("k", &[2])],
            "sorts constant floats",
        ),
    ];
    for (opset, nodes, weights, says) in cases {
        let model = edited(&network(nodes, weights), |proto| proto.opset_import[0].version = opset);
        let error = load_error(&model);
        assert_eq!(error.code(), "unsupported-model", "{says}: {error:?}");
        assert!(format!("{error:?}").contains(says), "{says}: {error:?}");
    }
}

/// Where a node reads is computed, and only the picture tells whether it is within.
#[test]
fn places_beyond_a_tensor_are_those_at_its_end() {
    for axis in [1, -1] {
        let axis = int_attribute("axis", axis);
        let nodes = vec![
            node("Reshape", &["a", "flat"], "rows"),
            node("Mul", &["rows", "thousand"], "far"),
            with(node("Cast", &["far"], "places"), &[int_attribute("to", 7)]),
            with(node("GatherElements", &["rows", "places"], "read"), &[axis]),
            node("Sigmoid", &["read"], "scores"),
            node("Slice", &["scores", "from", "to", "one"], "last"),
        ];
        let weights = vec![
            ints("flat", &[1, 8, 16]),
            floats("thousand", &[], 1e4),
            ints("from", &[0]),
            ints("to", &[5]),
            ints("one", &[1]),
        ];
        let mut detector = Detector::from_onnx(&network(nodes, weights)).unwrap();
        let pixels = [200; 3 * 32 * 32];
        detector.detect(ImageView::rgb(&pixels, 32, 32).unwrap()).unwrap();
    }
}

/// A network that reads or writes with `operator` at the places `factor` times `a`, whole numbers.
fn at_places(operator: pb::NodeProto, factor: f32) -> Vec<u8> {
    let nodes = vec![
        node("Reshape", &["a", "flat"], "list"),
        node("Mul", &["list", "factor"], "far"),
        with(node("Cast", &["far"], "places"), &[int_attribute("to", 7)]),
        node("Unsqueeze", &["places", "one"], "column"),
        operator,
        node("Sigmoid", &["read"], "scores"),
        node("Slice", &["scores", "zero", "end"], "last"),
    ];
    let weights = vec![
        ints("flat", &[128]),
        floats("factor", &[], factor),
        ints("zero", &[0]),
        ints("end", &[125]),
        ints("one", &[1]),
    ];
    network(nodes, weights)
}

/// Where a node reads or writes is computed, and only the picture tells that it is beyond.
#[test]
fn computed_places_beyond_a_tensor_are_an_error() {
    let pixels: Vec<u8> = (0..3 * 32 * 32).map(|at| (at * 7 % 256) as u8).collect();
    let detect = |operator: &pb::NodeProto, factor: f32| {
        let builder = Detector::builder().score_threshold(0.0).iou_threshold(1.0);
        let mut detector = builder.build(&at_places(operator.clone(), factor)).unwrap();
        detector.detect(ImageView::rgb(&pixels, 32, 32).unwrap())
    };
    let along = node("GatherElements", &["list", "places"], "read");
    let nested = node("GatherND", &["list", "column"], "read");
    let write_along = node("ScatterElements", &["list", "places", "far"], "read");
    let write_nested = node("ScatterND", &["list", "column", "far"], "read");
    // Those below zero count from the end.
    for factor in [1.0, 40.0, -40.0] {
        assert_eq!(detect(&nested, factor).unwrap(), detect(&along, factor).unwrap(), "{factor}");
        assert_eq!(detect(&write_nested, factor).unwrap(), detect(&write_along, factor).unwrap(), "{factor}");
    }
    for operator in [nested, write_along, write_nested] {
        for factor in [1e4, -1e4, f32::MAX] {
            let error = detect(&operator, factor).unwrap_err();
            assert_eq!(error.code(), "inference-failed", "{}: {error:?}", operator.op_type);
            let words = format!("{error:?}");
            assert!(words.contains("is beyond an axis of 128"), "{}: {words}", operator.op_type);
        }
    }
}

/// Places of a one-hot and of a grid that samples are computed, and only the picture tells that they are beyond.
#[test]
fn computed_places_beyond_a_depth_or_a_picture_are_an_error() {
    let picture = [200; 3 * 32 * 32];
    for (operator, says) in [("OneHot", "is beyond an axis of 5"), ("GridSample", "far beyond its input")] {
        for (factor, fails) in [(1.0, false), (1e9, true)] {
            let at = match operator {
                "OneHot" => vec![
                    with(node("Cast", &["far"], "whole"), &[int_attribute("to", 7)]),
                    node("OneHot", &["whole", "depth", "values"], "read"),
                ],
                _ => vec![node("Reshape", &["far", "pairs"], "grid"), node("GridSample", &["a", "grid"], "read")],
            };
            let before = vec![node("Mul", &["a", "factor"], "far")];
            let after = vec![
                node("Sigmoid", &["read"], "scores"),
                node("Reshape", &["scores", "flat"], "row"),
                node("Slice", &["row", "zero", "end"], "last"),
            ];
            let weights = vec![
                floats("factor", &[], factor),
                pb::TensorProto { dims: vec![], ..ints("depth", &[5]) },
                floats("values", &[2], 0.5),
                ints("pairs", &[1, 8, 8, 2]),
                ints("flat", &[-1]),
                ints("zero", &[0]),
                ints("end", &[125]),
            ];
            let mut detector = Detector::from_onnx(&network([before, at, after].concat(), weights)).unwrap();
            let found = detector.detect(ImageView::rgb(&picture, 32, 32).unwrap());
            if !fails {
                found.unwrap();
                continue;
            }
            let error = found.unwrap_err();
            assert_eq!(error.code(), "inference-failed", "{operator}: {error:?}");
            assert!(format!("{error:?}").contains(says), "{operator}: {error:?}");
        }
    }
}

/// How many values there are to sum is computed, and only the picture tells that there are none.
#[test]
fn sums_of_no_values_are_an_error() {
    for operator in ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare"] {
        // Over the boxes with scores of at least `least`.
        let nodes = vec![
            node("Reshape", &["a", "by four"], "boxes"),
            node("Slice", &["a", "zero", "two", "one"], "few"),
            node("Reshape", &["few", "in a row"], "boxes' scores"),
            node("NonMaxSuppression", &["boxes", "boxes' scores", "most", "overlap", "least"], "kept"),
            with(node("Cast", &["kept"], "rows"), &[int_attribute("to", 1)]),
            node(operator, &["rows"], "sum"),
            node("Add", &["a", "sum"], "sums"),
            node("Sigmoid", &["sums"], "scores"),
            node("Reshape", &["scores", "flat"], "row"),
            node("Slice", &["row", "zero", "end"], "last"),
        ];
        let detector = |least: f32| {
            let weights = vec![
                ints("by four", &[1, 32, 4]),
                ints("in a row", &[1, 1, 32]),
                ints("flat", &[128]),
                ints("most", &[8]),
                floats("overlap", &[1], 1.0),
                floats("least", &[1], least),
                ints("zero", &[0]),
                ints("two", &[2]),
                ints("one", &[1]),
                ints("end", &[125]),
            ];
            Detector::from_onnx(&network(nodes.clone(), weights)).unwrap()
        };
        let bright = ImageView::rgb(&[200; 3 * 32 * 32], 32, 32).unwrap();
        let black = ImageView::rgb(&[0; 3 * 32 * 32], 32, 32).unwrap();
        let fails = |detector: &mut Detector, picture: ImageView| {
            let error = detector.detect(picture).unwrap_err();
            assert_eq!(error.code(), "inference-failed", "{operator}: {error:?}");
            assert!(format!("{error:?}").contains("has no values to sum"), "{operator}: {error:?}");
        };
        let expected = detector(f32::MIN).detect(bright).unwrap();
        fails(&mut detector(f32::MAX), bright);
        // What a failed run knew of sizes is forgotten.
        let mut between = detector(0.01);
        fails(&mut between, black);
        assert_eq!(between.detect(bright).unwrap(), expected, "{operator}");
        fails(&mut between, black);
    }
}

/// What a node divides by is computed, and only the picture tells that it is zero.
#[test]
fn numbers_of_which_one_is_nan_are_not_sorted() {
    let mut sort = node("TopK", &["logs", "k"], "last");
    sort.output.push("places".into());
    let nodes = vec![
        node("Reshape", &["a", "flat"], "row"),
        node("Sub", &["row", "large"], "below"),
        node("Log", &["below"], "logs"),
        sort,
    ];
    let weights = vec![ints("flat", &[128]), floats("large", &[1], 1e3), ints("k", &[125])];
    let mut detector = Detector::from_onnx(&network(nodes, weights)).unwrap();
    let error = detector.detect(ImageView::rgb(&[0; 3 * 32 * 32], 32, 32).unwrap()).unwrap_err();
    assert_eq!(error.code(), "inference-failed");
    assert!(format!("{error:?}").contains("one is NaN"), "{error:?}");
}

#[test]
fn whole_numbers_divided_by_zero_are_an_error() {
    for (operator, dividend) in [("Div", "seven"), ("Mod", "whole")] {
        let nodes = vec![
            with(node("Cast", &["a"], "whole"), &[int_attribute("to", 7)]),
            node(operator, &[dividend, "whole"], "shares"),
            with(node("Cast", &["shares"], "floats"), &[int_attribute("to", 1)]),
            node("Sigmoid", &["floats"], "scores"),
            node("Reshape", &["scores", "flat"], "row"),
            node("Slice", &["row", "zero", "end"], "last"),
        ];
        let weights = vec![ints("seven", &[7]), ints("flat", &[128]), ints("zero", &[0]), ints("end", &[125])];
        let mut detector = Detector::from_onnx(&network(nodes, weights)).unwrap();
        let black = [0; 3 * 32 * 32];
        let error = detector.detect(ImageView::rgb(&black, 32, 32).unwrap()).unwrap_err();
        assert_eq!(error.code(), "inference-failed", "{operator}: {error:?}");
        assert!(format!("{error:?}").contains("divides a whole number by zero"), "{operator}: {error:?}");
    }
}

/// A network of `nodes` that compute `result` from `whole`, which is 7 in 32 bits everywhere in a picture that is not black.
fn of_sevens(nodes: Vec<pb::NodeProto>, weights: Vec<pb::TensorProto>) -> Vec<u8> {
    let before = vec![
        with(node("Cast", &["a"], "truths"), &[int_attribute("to", 9)]),
        with(node("Cast", &["truths"], "ones"), &[int_attribute("to", 1)]),
        node("Mul", &["ones", "seven"], "sevens"),
        with(node("Cast", &["sevens"], "whole"), &[int_attribute("to", 6)]),
        with(node("Cast", &["sevens"], "wide"), &[int_attribute("to", 7)]),
    ];
    let after = vec![
        with(node("Cast", &["result"], "floats"), &[int_attribute("to", 1)]),
        node("Sigmoid", &["floats"], "scores"),
        node("Reshape", &["scores", "flat"], "row"),
        node("Slice", &["row", "zero", "end"], "last"),
    ];
    let own = vec![floats("seven", &[1], 7.0), ints("flat", &[128]), ints("zero", &[0]), ints("end", &[125])];
    network([before, nodes, after].concat(), [own, weights].concat())
}

/// The base, or what is shifted, is computed, and only the picture tells that the result is beyond its type.
#[test]
fn powers_and_shifts_of_whole_numbers_beyond_their_type_are_an_error() {
    let cases = [
        ("Pow", 11, None),
        ("Pow", 12, Some("a power of whole numbers is beyond their type")),
        ("Pow", -1, Some("a power of whole numbers is beyond their type")),
        ("BitShift", 31, None),
        ("BitShift", 32, Some("it shifts by more bits than there are")),
    ];
    for (operator, number, expected) in cases {
        let narrow = with(node("Cast", &["number"], "second"), &[int_attribute("to", 6)]);
        let nodes = vec![narrow, node(operator, &["whole", "second"], "result")];
        let mut detector = Detector::from_onnx(&of_sevens(nodes, vec![ints("number", &[number])])).unwrap();
        let found = detector.detect(ImageView::rgb(&[200; 3 * 32 * 32], 32, 32).unwrap());
        let Some(expected) = expected else {
            found.unwrap();
            continue;
        };
        let error = found.unwrap_err();
        assert_eq!(error.code(), "inference-failed", "{operator} {number}: {error:?}");
        assert!(format!("{error:?}").contains(expected), "{operator} {number}: {error:?}");
    }
}

/// Whole numbers wrap in ONNX. In tract they panic in builds with overflow checks, such as this one.
#[test]
fn computed_whole_numbers_wrap() {
    for kind in ["whole", "wide"] {
        // Of 32 bits the product is 7 * 2^28, of 64 bits 7 * 2^56: four times as much is beyond them.
        let to = if kind == "whole" { 6 } else { 7 };
        let large = [
            with(node("Cast", &["factor"], "large"), &[int_attribute("to", to)]),
            node("Mul", &[kind, "large"], "product"),
            if kind == "whole" {
                with(node("Cast", &["product"], "huge"), &[int_attribute("to", to)])
            } else {
                node("Mul", &["product", "large"], "huge")
            },
        ];
        let cases = [
            vec![node("Add", &["huge", "huge"], "two"), node("Add", &["two", "two"], "result")],
            vec![
                node("Neg", &["huge"], "one"),
                node("Sub", &["one", "huge"], "two"),
                node("Sub", &["two", "huge"], "result"),
            ],
            vec![node("Sum", &["huge", "huge", "huge"], "result")],
            vec![node("ReduceSum", &["huge"], "sum"), node("Add", &["huge", "sum"], "result")],
            vec![node("ReduceProd", &["huge"], "power"), node("Add", &["huge", "power"], "result")],
            vec![node("CumSum", &["huge", "axis"], "result")],
        ];
        for nodes in cases {
            let words = format!("{kind}: {:?}", nodes.iter().map(|node| &node.op_type).collect::<Vec<_>>());
            let axis = pb::TensorProto { dims: vec![], ..ints("axis", &[1]) };
            let model = of_sevens([&large[..], &nodes].concat(), vec![axis, ints("factor", &[1 << 28])]);
            let mut detector = Detector::from_onnx(&model).unwrap_or_else(|error| panic!("{words}: {error:?}"));
            let found = detector.detect(ImageView::rgb(&[200; 3 * 32 * 32], 32, 32).unwrap());
            found.unwrap_or_else(|error| panic!("{words}: {error:?}"));
        }
    }
}
