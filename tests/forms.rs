//! Foreign detectors: the forms of output that other projects export, against onnxruntime.
#![cfg(not(target_family = "wasm"))]

mod common;

use common::{assert_same_objects, dim, dims, edited, fixture, form, open_dim, photo};
use micro_yolo::{Detector, ImageView, InputSize, Model, OutputForm};
use tract_onnx::pb;

const PHOTOS: [&str; 3] = ["astronaut.jpg", "cat.jpg", "coffee.jpg"];

/// RGB bytes of 96 x 96 px, as tests/fixtures/half.py makes them.
fn pattern() -> Vec<u8> {
    let pixel = |at: usize| {
        let (y, x, channel) = (at / 288, at / 3 % 96, at % 3);
        (7 * x + 3 * y + 50 * channel + x * y % 17 * 5) as u8
    };
    (0..96 * 96 * 3).map(pixel).collect()
}

#[test]
fn every_form_finds_what_onnxruntime_finds() {
    let fixture = fixture("forms");
    for (name, photos) in fixture["expected"].as_object().unwrap() {
        let mut detector = Detector::builder()
            .score_threshold(fixture["score_threshold"].as_f64().unwrap() as f32)
            .iou_threshold(fixture["iou_threshold"].as_f64().unwrap() as f32)
            .max_detections(fixture["max_detections"].as_u64().unwrap() as usize)
            .build(&form(name))
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        for photo_name in PHOTOS {
            let image = photo(photo_name);
            let view = ImageView::rgb(&image, image.width(), image.height()).unwrap();
            let found = detector.detect(view).unwrap();
            assert_same_objects(&found, &photos[photo_name], 0.02, &format!("{name} on {photo_name}"));
        }
    }
}

#[test]
fn a_network_in_half_precision_finds_what_onnxruntime_finds() {
    let (onnx, fixture) = (common::read("tests/fixtures/half.onnx"), fixture("half"));
    let mut detector = Detector::builder()
        .score_threshold(fixture["score_threshold"].as_f64().unwrap() as f32)
        .iou_threshold(1.0)
        .max_detections(fixture["max_detections"].as_u64().unwrap() as usize)
        .build(&onnx)
        .unwrap();
    let found = detector.detect(ImageView::rgb(&pattern(), 96, 96).unwrap()).unwrap();
    assert_same_objects(&found, &fixture["expected"], 0.01, "half precision");
    assert_eq!(found.len(), 20);
    // It is the same network as in single precision, and runs on the same engine.
    let operators =
        |model: &Model| -> Vec<String> { model.foreign_nodes().iter().map(|node| node.operator.clone()).collect() };
    assert_eq!(operators(detector.model()), operators(&Model::from_onnx(&form("class-rows")).unwrap()));

    // Types that are neither are named.
    let with_type = |kind: pb::tensor_proto::DataType| {
        let onnx = edited(&onnx, |proto| {
            let graph = proto.graph.as_mut().unwrap();
            let pb::type_proto::Value::TensorType(tensor) =
                graph.input[0].r#type.as_mut().unwrap().value.as_mut().unwrap();
            tensor.elem_type = kind as i32;
        });
        Model::from_onnx(&onnx).unwrap_err()
    };
    for (kind, name) in
        [(pb::tensor_proto::DataType::Bfloat16, "bfloat16"), (pb::tensor_proto::DataType::Double, "double")]
    {
        let error = with_type(kind);
        assert_eq!(error.code(), "unsupported-model");
        assert!(
            error.to_string().contains(&format!("is {name}; expected float32 or float16, in 0 to 1")),
            "{error}"
        );
    }
}

#[test]
fn networks_in_dynamic_int8_find_what_onnxruntime_finds() {
    let fixture = fixture("dynamic");
    let networks = [
        ("dynamic-conv", ["DynamicQuantizeLinear", "ConvInteger"]),
        ("dynamic-matmul", ["DynamicQuantizeLinear", "MatMulInteger"]),
    ];
    for (name, operators) in networks {
        let mut detector = Detector::builder()
            .score_threshold(fixture["score_threshold"].as_f64().unwrap() as f32)
            .iou_threshold(1.0)
            .max_detections(fixture["max_detections"].as_u64().unwrap() as usize)
            .build(&common::read(&format!("tests/fixtures/{name}.onnx")))
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let foreign = detector.model().foreign_nodes();
        assert!(
            operators.iter().all(|one| foreign.iter().any(|node| node.operator == *one)),
            "{name}: {foreign:?}"
        );
        let found = detector.detect(ImageView::rgb(&pattern(), 96, 96).unwrap()).unwrap();
        assert_same_objects(&found, &fixture["expected"][name], 0.01, name);
        assert_eq!(found.len(), 20, "{name}");
    }
}

/// tract alone would refuse these, panic, or compute other numbers (`tests/fixtures/rewritten.py`). The second picture is
/// the first one again.
#[test]
fn rare_forms_compute_what_onnxruntime_computes() {
    let picture: Vec<f32> = (0..3 * 8 * 8).map(|at| (at * 37 % 256) as f32 / 256.0).collect();
    for case in fixture("rewritten").as_array().unwrap() {
        let (name, hex) = (&case["name"], case["onnx"].as_str().unwrap());
        let onnx: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut detector = Detector::from_onnx(&onnx).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let expected: Vec<f32> = serde_json::from_value(case["scores"].clone()).unwrap();
        for _ in 0..2 {
            let found = detector.scores(&picture).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(found.len(), expected.len(), "{name}");
            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
            assert!(found.iter().zip(&expected).all(is_near), "{name}: {found:?}, not {expected:?}");
        }
    }
}

#[test]
fn forms_and_class_names_are_recognised() {
    struct Case {
        name: &'static str,
        form: OutputForm,
        classes: &'static [&'static str],
    }
    let named = &["person", "cat", "dog's bed", "coffee", "café"];
    let cases = [
        Case { name: "class-rows", form: OutputForm::ClassRows, classes: named },
        Case { name: "objectness", form: OutputForm::Objectness, classes: named },
        Case { name: "objectness-one-class", form: OutputForm::Objectness, classes: &["thing"] },
        Case { name: "anchors", form: OutputForm::Objectness, classes: &["0", "1", "2", "3", "4"] },
        Case { name: "end-to-end", form: OutputForm::EndToEnd, classes: named },
    ];
    for case in cases {
        let model = Model::from_onnx(&form(case.name)).unwrap();
        assert_eq!(model.output_form(), case.form, "{}", case.name);
        assert_eq!(model.input_size(), InputSize { width: 96, height: 96 }, "{}", case.name);
        let classes: Vec<&str> = model.class_names().iter().map(|name| &**name).collect();
        assert_eq!(classes, case.classes, "{}", case.name);
    }
    let metadata = Model::from_onnx(&form("class-rows")).unwrap().metadata().clone();
    assert_eq!(metadata.task.as_deref(), Some("detect"));
    assert_eq!(metadata.stride, Some(16));
}

#[test]
fn an_end_to_end_model_without_names_numbers_its_classes() {
    let onnx = edited(&form("end-to-end"), |proto| proto.metadata_props.clear());
    let mut detector = Detector::builder().score_threshold(0.2).build(&onnx).unwrap();
    assert_eq!(detector.model().output_form(), OutputForm::EndToEnd);
    assert!(detector.model().class_names().is_empty(), "the shape does not tell how many there are");
    let image = photo("cat.jpg");
    let view = ImageView::rgb(&image, image.width(), image.height()).unwrap();
    let found = detector.detect(view).unwrap();
    assert!(!found.is_empty());
    for object in &found {
        assert_eq!(*object.label, object.class.to_string());
    }
    detector.set_classes(Some([found[0].class])).unwrap();
    let only = detector.detect(view).unwrap();
    assert!(!only.is_empty() && only.iter().all(|object| object.class == found[0].class));
}

#[test]
fn open_input_sides_come_from_the_options_or_the_metadata() {
    let open = |keep_imgsz: bool| {
        edited(&form("class-rows"), |proto| {
            let input = &mut proto.graph.as_mut().unwrap().input[0];
            *dims(input) = vec![open_dim("batch"), dim(3), open_dim("height"), open_dim("width")];
            proto.metadata_props.retain(|entry| keep_imgsz || entry.key != "imgsz");
        })
    };
    let size = InputSize { width: 96, height: 96 };
    assert_eq!(Model::from_onnx(&open(true)).unwrap().input_size(), size);
    assert_eq!(Model::with_input_size(&open(false), size).unwrap().input_size(), size);
    let error = Model::from_onnx(&open(false)).unwrap_err();
    assert_eq!(error.code(), "unsupported-model");
    assert!(error.to_string().contains("[?, 3, ?, ?]"), "{error}");
}

#[test]
fn a_size_that_the_graph_does_not_allow_is_an_error() {
    // This network has its anchor grid as constants for 96 px.
    let error = Detector::builder().input_size(128, 128).build(&form("class-rows")).unwrap_err();
    assert_eq!(error.code(), "unsupported-model");
    assert!(error.to_string().contains("input size"), "{error}");
}

/// As other tools write them; ONNX and onnxruntime read both.
#[test]
fn nodes_may_have_one_name_and_leave_out_what_is_optional() {
    let image = photo("coffee.jpg");
    let search = |onnx: &[u8]| {
        let mut detector = Detector::builder().score_threshold(0.2).build(onnx).unwrap();
        detector.detect(ImageView::rgb(&image, image.width(), image.height()).unwrap()).unwrap()
    };
    for name in ["class-rows", "end-to-end", "objectness"] {
        let edited = |change: &dyn Fn(&mut pb::NodeProto)| {
            edited(&form(name), |proto| proto.graph.as_mut().unwrap().node.iter_mut().for_each(change))
        };
        let expected = search(&form(name));
        assert_eq!(search(&edited(&|node| node.name = "node".into())), expected, "{name}");
        let left_out = edited(&|node| {
            if node.op_type != "Split" {
                node.input.push(String::new());
                node.output.push(String::new());
            }
        });
        assert_eq!(search(&left_out), expected, "{name}");
    }
}

#[test]
fn one_model_serves_many_detectors() {
    let model = Model::from_onnx(&form("class-rows")).unwrap();
    let image = photo("coffee.jpg");
    let search = |model: &Model| {
        let mut detector = Detector::builder().score_threshold(0.2).build_with_model(model).unwrap();
        detector.detect(ImageView::rgb(&image, image.width(), image.height()).unwrap()).unwrap()
    };
    let expected = search(&model);
    let threads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| search(&model))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(!expected.is_empty() && threads.iter().all(|found| *found == expected));

    let other_size = Detector::builder().input_size(64, 64).build_with_model(&model);
    assert_eq!(other_size.unwrap_err().code(), "invalid-option");
}
