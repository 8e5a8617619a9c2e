//! Tests which part of a network runs where, and that this does not change the results.

use super::*;
#[cfg(feature = "tract")]
use prost::Message;

#[cfg(feature = "tract")]
use crate::nms::Candidate;
#[cfg(feature = "tract")]
use crate::onnx::messages::ModelProto;

const RELEASED: [&str; 4] = ["micro-yolo", "micro-yolo-int8", "micro-yolo-s", "micro-yolo-s-int8"];

/// The model that `tests/fuzz` mutates.
const EVERY_FORM: &[u8] = include_bytes!("../../tests/fixtures/every-form-int8.onnx");

fn read(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_released_models_run_on_the_engine_alone() {
    let model = Model::from_onnx(EVERY_FORM).unwrap();
    assert!(matches!(model.network, Network::Engine(_)), "every form");
    if crate::is_packaged() {
        return;
    }
    for file in RELEASED {
        let model = Model::from_onnx(&read(&format!("models/{file}.onnx"))).unwrap();
        assert!(matches!(model.network, Network::Engine(_)), "{file}");
        assert_eq!(model.foreign_nodes(), [], "{file}");
    }
}

/// The same model with the graph of its head, which runs on tract.
#[cfg(feature = "tract")]
fn with_its_graph(onnx: &[u8], model: &Model) -> Model {
    let file = onnx::read(onnx, &mut Budget::new(&Limits::default())).unwrap();
    let limits = Limits::default();
    let budget = &mut Budget::new(&limits);
    let loaded = whole(&file, Some(model.class_names()), model.input_size, None, NotAlone::NoHead, budget).unwrap();
    assert_eq!((loaded.layout.form, loaded.layout.columns), (model.layout.form, model.layout.columns));
    Model {
        network: loaded.network,
        layout: Arc::new(loaded.layout),
        foreign: loaded.foreign.into(),
        ..model.clone()
    }
}

/// The detections of a model in a picture of waves.
#[cfg(feature = "tract")]
fn candidates(model: &Model, score_min: f32) -> Vec<Candidate> {
    let mut session = model.session(1).unwrap();
    for (i, value) in session.input().unwrap().iter_mut().enumerate() {
        *value = 0.5 + 0.5 * (i as f32 * 0.013).sin();
    }
    let want = crate::decode::Want { score_min, classes: None, multi_label: false };
    let mut candidates = Vec::new();
    crate::decode::Decoder::default()
        .decode(&model.layout, &session.run().unwrap(), want, &mut candidates)
        .unwrap();
    candidates
}

#[cfg(feature = "tract")]
fn assert_same(found: &[Candidate], expected: &[Candidate], off: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        let sides = |c: &Candidate| [c.bbox.left, c.bbox.top, c.bbox.right, c.bbox.bottom];
        let apart = sides(a).iter().zip(sides(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(a.class == b.class && (a.score - b.score).abs() < off && apart < 64.0 * off, "{what}: {a:?} {b:?}");
    }
}

/// The engine with the decoder, and the graph of the file run to its end, give the same detections.
#[test]
#[cfg(feature = "tract")]
fn a_head_is_decoded_as_its_graph_computes_it() {
    let mut files =
        vec![("tests/fixtures/every-form-int8.onnx", 2e-2), ("tests/fixtures/distribution-int8.onnx", 2e-2)];
    if !crate::is_packaged() {
        files.push(("compress/tests/export/distribution.onnx", 5e-4));
        files.push(("compress/tests/import/csp-with-scaled-centres.onnx", 5e-4));
        files.extend([("models/micro-yolo.onnx", 5e-4), ("models/micro-yolo-s.onnx", 5e-4)]);
    }
    for (path, off) in files {
        let onnx = read(path);
        for size in [InputSize { width: 96, height: 128 }, InputSize { width: 160, height: 96 }] {
            let direct = Model::with_input_size(&onnx, size).unwrap();
            assert!(matches!(direct.network, Network::Engine(_)), "{path}");
            let divided = with_its_graph(&onnx, &direct);
            assert!(divided.foreign_nodes().iter().all(|node| node.operator != "Conv"), "{path}");
            // A trained model is not confident about waves.
            let score_min = if path.starts_with("models") { 0.01 } else { 0.05 };
            let (found, expected) = (candidates(&direct, score_min), candidates(&divided, score_min));
            assert!(!found.is_empty(), "{path}");
            assert_same(&found, &expected, off, &format!("{path} at {size}"));
        }
    }
}

/// tract gets exactly the nodes that the engine does not support.
#[test]
#[cfg(feature = "tract")]
fn of_foreign_detectors_the_engine_runs_the_layers() {
    let form = |name: &str| Model::from_onnx(&read(&format!("tests/fixtures/forms/{name}.onnx"))).unwrap();
    for name in ["class-rows", "objectness", "objectness-one-class", "anchors", "end-to-end"] {
        let model = form(name);
        let foreign = model.foreign_nodes();
        for layer in ["Conv", "MaxPool", "Resize", "LeakyRelu"] {
            // One convolution of a distribution head reads a reshaped tensor; as an image, it still runs on the engine.
            assert!(foreign.iter().all(|node| node.operator != layer), "{name}: {foreign:#?}");
        }
        let Network::Divided(network) = &model.network else { panic!("{name} is the engine's alone") };
        assert_eq!(
            network.stages().iter().filter(|is_engine| **is_engine).count(),
            1 + usize::from(matches!(name, "class-rows" | "end-to-end")),
            "{name}"
        );
    }
    let model = form("anchors");
    let transposed = model.foreign_nodes().iter().find(|node| node.operator == "Transpose").unwrap();
    assert!(transposed.to_string().contains("(Transpose): the engine does not have the operator"), "{transposed}");
}

/// Without tract, the error for a model that needs it names the node.
#[test]
#[cfg(not(feature = "tract"))]
fn a_foreign_network_is_refused_with_its_first_foreign_node() {
    let error = Model::from_onnx(&read("tests/fixtures/forms/anchors.onnx")).unwrap_err();
    assert_eq!(error.code(), "needs-tract");
    assert!(error.to_string().contains("the engine does not have the operator"), "{error}");
}

#[test]
#[cfg(feature = "tract")]
fn a_head_that_is_not_as_the_metadata_says_is_read_by_its_graph() {
    if crate::is_packaged() {
        return;
    }
    let onnx = &read("compress/tests/export/distribution.onnx")[..];
    let honest = candidates(&Model::from_onnx(onnx).unwrap(), 0.05);
    let changed = |from: &str, to: &str| {
        let mut proto = ModelProto::decode(onnx).unwrap();
        let head = proto.metadata_props.iter_mut().find(|entry| entry.key == onnx::head::KEY).unwrap();
        assert!(head.value.contains(from), "{from} is not in {}", head.value);
        head.value = head.value.replace(from, to);
        proto.encode_to_vec()
    };
    let lies = [
        ("distribution", "anchor_free"),
        ("distribution", "magic"),
        ("\"bins\":4", "\"bins\":8"),
        ("\"bins\":4", "\"bins\":2"),
        ("[8,16,64]", "[16,8,64]"),
        ("[8,16,64]", "[8,16,32]"),
        ("[8,16,64]", "[8,16]"),
        ("\"bins8\"", "\"nothing\""),
        ("\"bins8\"", "\"bins16\""),
        ("\"bins8\"", "\"scores8\""),
        ("\"scores8\"", "\"images\""),
        ("\"scores8\"", "\"bins8\""),
        ("\"scores8\"", "\"output0\""),
        ("\"scores8\"", "\"stem.weight\""),
        ("[\"bins8\",\"scores8\"],", ""),
        ("{", ""),
    ];
    for (from, to) in lies {
        let model = Model::from_onnx(&changed(from, to)).unwrap();
        assert!(matches!(model.network, Network::Divided(_)), "{from} to {to}");
        assert_same(&candidates(&model, 0.05), &honest, 5e-4, to);
    }
    // Without one level and its stride: fewer cells than the output has.
    let fewer = changed("[\"bins8\",\"scores8\"],", "");
    let mut proto = ModelProto::decode(&fewer[..]).unwrap();
    let head = proto.metadata_props.iter_mut().find(|entry| entry.key == onnx::head::KEY).unwrap();
    head.value = head.value.replace("[8,16,64]", "[16,64]");
    let model = Model::from_onnx(&proto.encode_to_vec()).unwrap();
    assert!(matches!(model.network, Network::Divided(_)));
}
