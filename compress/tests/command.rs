//! The command line, as a user types it.

use std::path::Path;
use std::process::{Command, Output};

use compress::network::Network;
use compress::{checkpoint, cost, export, quantize, scale, zoo};
use prost::Message;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

fn compress(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compress")).args(args).output().expect("the command was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ends with an error on one line, and nothing else.
fn refused(args: &[&str], told: &str) {
    let output = compress(args);
    let errors = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {output:?}");
    assert!(errors.starts_with("error: ") && errors.contains(told) && errors.lines().count() == 1, "{errors}");
}

#[test]
fn new_writes_what_the_other_commands_read() {
    let output = compress(&["new", "--network", "micro_yolo", "--classes", "3"]);
    assert!(output.status.success(), "{output:?}");
    let network: Network = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(network, zoo::network("micro_yolo", 3).unwrap());
    refused(&["new", "--network", "yolov9"], "`yolov9` is none of micro_yolo, ");
    refused(&["new", "--network", "micro_yolo", "--classes", "0"], "has 0 classes");
}

#[cfg(not(feature = "train"))]
#[test]
fn a_build_that_cannot_train_says_so() {
    for command in ["train", "distill", "explore", "prune"] {
        refused(&[command, "--run", "runs/a", "--data", "a.json"], "build with `--features train`");
        refused(&[command, "--help"], "build with `--features train`");
    }
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let samples = root.join("data/samples");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let checkpoint_path = path("a.safetensors");
    let network = zoo::network("micro_yolo", 2).unwrap();
    let weights = checkpoint::tensors(&network.graph().unwrap()).into_iter().map(|spec| {
        let values = vec![0.01; spec.count()];
        (spec.name, checkpoint::Array { shape: spec.shape, values })
    });
    checkpoint::write(Path::new(&checkpoint_path), &network, &weights.collect(), checkpoint::Precision::Half)
        .unwrap();
    // A folder cannot be made where a file is, and a file cannot where a folder is.
    for wrong in [path("a.safetensors/b"), path("")] {
        let photographs =
            ["--checkpoint", &checkpoint_path, "--photos", samples.to_str().unwrap(), "--imgsz", "64"];
        for command in ["trim", "revive", "equalize", "decouple", "quantize"] {
            refused(&[&[command, "--output", &wrong][..], &photographs].concat(), &format!("error: {wrong}: "));
        }
        let quantize = ["quantize", "--output", &path("a.onnx"), "--json", &wrong];
        refused(&[&quantize[..], &photographs].concat(), &format!("error: {wrong}: "));
    }
    let to = path("new/folder/b.safetensors");
    let output = compress(&["average", "--checkpoint", &checkpoint_path, "--output", &to]);
    assert!(output.status.success(), "{output:?}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a.safetensors", "new"], "nothing else is left");
}

#[test]
fn what_a_command_reads_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let checkpoint_path = path("a.safetensors");
    std::fs::write(&checkpoint_path, "weights").unwrap();
    let annotations = path("set.json");
    std::fs::write(&annotations, "{}").unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    let roundabout = path("inner/../set.json");
    refused(&["export", "--checkpoint", &checkpoint_path, "--output", &checkpoint_path], "option --output: ");
    for (option, output) in [("--output", &checkpoint_path), ("--json", &roundabout)] {
        let other = path("other.onnx");
        let mut args = vec!["quantize", "--checkpoint", &checkpoint_path, "--data", &annotations];
        args.extend(if option == "--json" { vec!["--output", &other] } else { vec![] });
        args.extend([option, output.as_str()]);
        refused(&args, &format!("option {option}: "));
    }
    for option in ["--json", "--detections"] {
        let args = ["evaluate", "--model", &checkpoint_path, "--annotations", &annotations, "--images", "."];
        refused(&[&args[..], &[option, &roundabout]].concat(), &format!("option {option}: "));
    }
    let args = ["data", "from-yolo", "--images", ".", "--names", &annotations, "--output", &annotations];
    refused(&args, "would be lost");
    assert_eq!(std::fs::read_to_string(&checkpoint_path).unwrap(), "weights");
    assert_eq!(std::fs::read_to_string(&annotations).unwrap(), "{}");
}

#[test]
fn it_ends_quietly_where_nobody_reads_its_output() {
    for args in [&["cost"][..], &["cost", "--network", "micro_yolo"], &["new", "--network", "micro_yolo"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_compress")).args(args).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    for args in [&["cost"][..], &["new", "--network", "micro_yolo"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_compress")).args(args).stdout(full).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        assert!(errors.starts_with("error: the standard output: ") && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn import_writes_a_checkpoint_and_its_network() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let (cfg, weights) = (fixtures.join("tiny.cfg"), fixtures.join("tiny.weights"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [cfg, weights] = [&cfg, &weights].map(|path| path.to_str().unwrap());
    fn joined<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [base, more].concat()
    }
    let base = ["import", "--cfg", cfg, "--weights", weights];
    let checkpoint_path = path("tiny.safetensors");
    let output = compress(&joined(&base, &["--output", &checkpoint_path, "--masks", "3,4;1,2;0"]));
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("2 classes") && text(&output.stdout).contains("64x32"), "{output:?}");
    let (network, _) = checkpoint::read_with_network(Path::new(&checkpoint_path)).unwrap();
    assert_eq!(Network::read(path("tiny.json")).unwrap(), network);

    let before = std::fs::read(&checkpoint_path).unwrap();
    refused(
        &joined(&base, &["--output", &checkpoint_path, "--masks", "9,9;9,9;9"]),
        "option --masks: 9 names none",
    );
    refused(&joined(&base, &["--output", &checkpoint_path, "--names", cfg]), "option --names");
    refused(&joined(&base, &["--output", &path("tiny.json")]), "option --output");
    refused(
        &["import", "--cfg", weights, "--weights", weights, "--output", &checkpoint_path],
        "is this a Darknet cfg?",
    );
    refused(&["import", "--cfg", cfg, "--weights", cfg, "--output", &checkpoint_path], "does not fit the cfg");
    assert_eq!(std::fs::read(&checkpoint_path).unwrap(), before, "an error leaves what was there");
}

#[test]
fn decouple_writes_a_cheaper_network_that_names_what_it_stands_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let fixtures = root.join("compress/tests/import");
    let (cfg, weights) = (fixtures.join("tiny.cfg"), fixtures.join("tiny.weights"));
    let samples = root.join("data/samples");
    let folder = tempfile::tempdir().unwrap();
    let [dense, thin] = ["dense", "thin"].map(|name| folder.path().join(format!("{name}.safetensors")));
    let [cfg, weights, samples, dense, thin] =
        [&cfg, &weights, &samples, &dense, &thin].map(|path| path.to_str().unwrap());
    let import = ["import", "--cfg", cfg, "--weights", weights, "--masks", "3,4;1,2;0", "--output", dense];
    assert!(compress(&import).status.success());
    let (before, _) = checkpoint::read_with_network(Path::new(dense)).unwrap();
    let whole = cost::total(&before.graph().unwrap(), 64, 64);
    let most = (whole.parameters * 9 / 10).to_string();
    let args = ["decouple", "--checkpoint", dense, "--photos", samples, "--imgsz", "64", "--cost-imgsz", "64"];
    let figure = folder.path().join("bars.svg");
    let to = ["--output", thin, "--figure", figure.to_str().unwrap(), "--max-parameters", &most];
    let output = compress(&[&args[..], &to].concat());
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read_to_string(&figure).unwrap().contains("best of all"));
    assert!(text(&output.stdout).contains("| multiplier |") && text(&output.stdout).contains("**dense**"));
    let (after, weights) = checkpoint::read_with_network(Path::new(thin)).unwrap();
    let graph = after.graph().unwrap();
    assert_eq!(checkpoint::check(&graph, &weights), Ok(()));
    assert!(cost::total(&graph, 64, 64).parameters <= whole.parameters * 9 / 10);
    let names = |network: &Network| network.layers.iter().filter(|layer| layer.teacher.is_some()).count();
    assert!(names(&before) == 0 && names(&after) > 3, "what to distil from");
    refused(&[&args[..], &["--output", thin, "--max-parameters", "10"]].concat(), "option --max-parameters: 10");
    refused(&[&args[..], &["--output", thin, "--layers", "x"]].concat(), "option --layers: `x` is no dense");
}

#[test]
fn what_is_skipped_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let weights = checkpoint::tensors(&network.graph().unwrap()).into_iter().map(|spec| {
        let values = vec![0.01; spec.count()];
        (spec.name, checkpoint::Array { shape: spec.shape, values })
    });
    let (dense, thin, photos, set) =
        (path("a.safetensors"), path("b.safetensors"), path("photos"), path("set.json"));
    checkpoint::write(Path::new(&dense), &network, &weights.collect(), checkpoint::Precision::Half).unwrap();
    std::fs::create_dir(&photos).unwrap();
    std::fs::copy(root.join("data/samples/cat.jpg"), folder.path().join("photos/cat.jpg")).unwrap();
    std::fs::write(folder.path().join("photos/cut.jpg"), "damaged").unwrap();
    let (width, height) = image::image_dimensions(root.join("data/samples/cat.jpg")).unwrap();
    let entry =
        |id: u32, name: &str| serde_json::json!({"id": id, "file_name": name, "width": width, "height": height});
    let annotations = serde_json::json!({
        "images": [entry(1, "cat.jpg"), entry(2, "missing.jpg")],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cup"}],
    });
    std::fs::write(&set, annotations.to_string()).unwrap();
    for command in ["trim", "revive"] {
        let data = format!("{set}:{photos}");
        let args = [command, "--checkpoint", &dense, "--output", &thin, "--photos", &photos, "--data", &data];
        let told = compress(&[&args[..], &["--imgsz", "64", "--bad-data", "skip"]].concat());
        assert!(told.status.success(), "{told:?}");
        let errors = text(&told.stderr);
        let skipped: Vec<&str> = errors.lines().filter(|line| line.starts_with("skipped: ")).collect();
        assert_eq!(skipped.len(), 2, "{errors}");
        assert!(skipped[0].contains("image 2 is missing") && skipped[1].contains("cut.jpg"), "{errors}");
    }
}

#[test]
fn data_writes_a_coco_file_and_says_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    image::RgbImage::new(20, 10).save(path("a.png")).unwrap();
    std::fs::write(path("a.txt"), "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n").unwrap();
    std::fs::write(path("a.names"), "cat\n").unwrap();
    let (images, names, set) = (path(""), path("a.names"), path("set.json"));
    let args = ["data", "from-yolo", "--images", &images, "--names", &names, "--output", &set];
    refused(&args, "line 2: class 1 has no name");
    assert!(!Path::new(&set).exists());
    let output = compress(&[&args[..], &["--bad-data", "skip"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).starts_with("skipped: "), "{output:?}");
    assert!(
        text(&output.stdout).ends_with("1 photographs (0 without objects), 1 boxes, 1 classes\n"),
        "{output:?}"
    );
    refused(
        &["data", "from-voc", "--annotations", &images, "--images", &images, "--output", &set],
        "no annotations",
    );
}

#[test]
fn quantize_takes_an_onnx_file_of_any_detector() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("int8.onnx");
    let (output, samples) = (output.to_str().unwrap(), root.join("data/samples"));
    let samples = samples.to_str().unwrap();
    for form in ["anchors", "class-rows", "end-to-end", "objectness"] {
        let model = root.join(format!("tests/fixtures/forms/{form}.onnx"));
        let model = model.to_str().unwrap();
        let sizes = ["--images", "2", "--held-out", "1", "--method", "mse"];
        let args = ["quantize", "--model", model, "--output", output, "--photos", samples];
        let told = compress(&[&args[..], &sizes].concat());
        assert!(told.status.success(), "{form}: {told:?}");
        assert!(text(&told.stdout).contains("convolutions get bytes"), "{told:?}");
        let int8 = std::fs::read(output).unwrap();
        let mut detector = micro_yolo::Detector::builder().build(&int8).unwrap();
        let grey = [114; 3 * 64 * 64];
        detector.detect(micro_yolo::ImageView::rgb(&grey, 64, 64).unwrap()).unwrap();
    }
    // All nodes with one name, as some programs write them.
    let mut same =
        ModelProto::decode(&std::fs::read(root.join("tests/fixtures/forms/anchors.onnx")).unwrap()[..]).unwrap();
    same.graph.as_mut().unwrap().node.iter_mut().for_each(|node| node.name = "same".into());
    let named = folder.path().join("same.onnx");
    std::fs::write(&named, same.encode_to_vec()).unwrap();
    let args = ["quantize", "--model", named.to_str().unwrap(), "--output", output, "--photos", samples];
    let told = compress(&[&args[..], &["--images", "2", "--held-out", "1", "--method", "mse"]].concat());
    assert!(told.status.success(), "{told:?}");
    // `report` reads the measurements of both kinds of file.
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("log.jsonl"), "").unwrap();
    let json = run.join("quantize.json");
    let model = root.join("tests/fixtures/forms/anchors.onnx");
    let graph = ModelProto::decode(&std::fs::read(&model).unwrap()[..]).unwrap().graph.unwrap();
    let node = graph.node.iter().find(|node| node.op_type == "Conv").unwrap();
    let name = if node.name.is_empty() { &node.output[0] } else { &node.name };
    let (model, json) = (model.to_str().unwrap(), json.to_str().unwrap());
    let args = ["quantize", "--model", model, "--output", output, "--photos", samples, "--json", json];
    let told = compress(&[&args[..], &["--float", name, "--images", "2", "--held-out", "1"]].concat());
    assert!(told.status.success(), "{told:?}");
    let page = folder.path().join("report/log.md");
    let [run, page] = [&run, &page].map(|path| path.to_str().unwrap());
    let told = compress(&["report", "--run", run, "--output", page]);
    assert!(told.status.success(), "{told:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("## Int8: run") && page.contains(&format!("Left in floats: {name}")), "{page}");
    refused(&["quantize", "--model", samples, "--output", output, "--photos", samples], "error: ");
    let nothing = compress(&["quantize", "--output", output, "--photos", samples]);
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("--checkpoint"), "{nothing:?}");
}

/// The class-rows model of the fixtures, `[1, 4 + C, N]`, whose boxes are `times` as large.
fn with_larger_boxes(onnx: &[u8], times: f32) -> Vec<u8> {
    let mut model = ModelProto::decode(onnx).expect("it is an ONNX file");
    let graph = model.graph.as_mut().expect("it has a graph");
    let last = graph.node.iter_mut().find(|node| node.output == ["output0"]).expect("it has an output");
    last.output = vec!["before".into()];
    let float_data = [vec![times; 4], vec![1.0; 5]].concat();
    let dims = vec![1, float_data.len() as i64, 1];
    let data_type = tract_onnx::pb::tensor_proto::DataType::Float as i32;
    graph.initializer.push(TensorProto { name: "times".into(), dims, data_type, float_data, ..Default::default() });
    graph.node.push(NodeProto {
        op_type: "Mul".into(),
        input: vec!["before".into(), "times".into()],
        output: vec!["output0".into()],
        ..Default::default()
    });
    model.encode_to_vec()
}

#[test]
fn quantize_measures_the_scores_of_an_onnx_file_not_the_pixels_of_its_boxes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let onnx = std::fs::read(root.join("tests/fixtures/forms/class-rows.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [model, output, json] = ["a.onnx", "int8.onnx", "a.json"].map(|name| folder.path().join(name));
    let samples = root.join("data/samples");
    let noise = |onnx: &[u8]| {
        std::fs::write(&model, onnx).unwrap();
        let [model, output, json, samples] = [&model, &output, &json, &samples].map(|path| path.to_str().unwrap());
        let args = ["quantize", "--model", model, "--output", output, "--json", json, "--photos", samples];
        let told = compress(&[&args[..], &["--images", "2", "--held-out", "1", "--method", "mse"]].concat());
        assert!(told.status.success(), "{told:?}");
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        report["noise"].as_f64().unwrap()
    };
    let (small, large) = (noise(&onnx), noise(&with_larger_boxes(&onnx, 1000.0)));
    assert!(small > 0.0 && small == large, "{small} {large}");
}

#[test]
fn quantize_searches_ranges_and_takes_those_of_a_training() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let network: Network = serde_json::from_str(include_str!("export/distribution.json")).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut array = |spec: checkpoint::TensorSpec| {
        let least = if spec.name.ends_with("running_var") { 0.5 } else { -0.3 };
        let values = (0..spec.count()).map(|_| random.f32() * 0.6 + least).collect();
        (spec.name, checkpoint::Array { shape: spec.shape, values })
    };
    let weights = checkpoint::tensors(&network.graph().unwrap()).into_iter().map(&mut array).collect();
    let [path, output, json] = ["a.safetensors", "int8.onnx", "a.json"].map(|name| folder.path().join(name));
    let photos = root.join("data/samples");
    let quantize = |method: &str| -> serde_json::Value {
        let [checkpoint, output, json, photos] =
            [&path, &output, &json, &photos].map(|path| path.to_str().unwrap());
        let paths = ["--checkpoint", checkpoint, "--output", output, "--json", json, "--photos", photos];
        let sizes = ["--imgsz", "32", "--images", "2", "--held-out", "1", "--method", method];
        let told = compress(&[&["quantize"], &paths[..], &sizes].concat());
        assert!(told.status.success(), "{told:?}");
        serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
    };
    let half = checkpoint::Precision::Half;
    checkpoint::write(&path, &network, &weights, half).unwrap();
    let searched = quantize("auto");
    let tried = searched["tried"].as_object().unwrap();
    assert!(tried.len() == 5 && tried.keys().any(|method| method.ends_with(", searched")), "{tried:?}");

    // Ranges that no method would choose.
    let graph = network.graph().unwrap();
    let wide = quantize::Scale { scale: 0.71875, zero_point: 60 };
    let scales = graph.nodes.iter().map(|node| (node.name.clone(), wide)).collect();
    checkpoint::write_with_scales(&path, &network, &weights, half, &scales).unwrap();
    let trained = quantize("auto");
    assert_eq!(trained["method"], "trained");
    let in_file = |value: f32| {
        let proto = ModelProto::decode(&std::fs::read(&output).unwrap()[..]).unwrap();
        let is_scale = |t: &TensorProto| t.float_data == [value] || t.raw_data == value.to_le_bytes();
        proto.graph.unwrap().initializer.iter().any(is_scale)
    };
    assert!(in_file(wide.scale));
    assert_eq!(quantize("mse")["method"], "mse");
    assert!(!in_file(wide.scale));
    let none = scale::Scales::from([("other".to_owned(), wide)]);
    checkpoint::write_with_scales(&path, &network, &weights, half, &none).unwrap();
    let [checkpoint, output, photos] = [&path, &output, &photos].map(|path| path.to_str().unwrap());
    let args = ["quantize", "--checkpoint", checkpoint, "--output", output, "--photos", photos, "--imgsz", "32"];
    refused(&args, "another network");
}

/// The network of `export/distribution.json` with random weights, of which some make dead channels.
fn with_dead_channels() -> (Network, checkpoint::Weights) {
    let network: Network = serde_json::from_str(include_str!("export/distribution.json")).expect("it is a network");
    let mut random = fastrand::Rng::with_seed(5);
    let specs = checkpoint::tensors(&network.graph().expect("it is one"));
    let mut weights: checkpoint::Weights = specs
        .into_iter()
        .map(|spec| {
            let least = if spec.name.ends_with("running_var") { 0.5 } else { -0.3 };
            let values = (0..spec.count()).map(|_| random.f32() * 0.6 + least).collect();
            (spec.name, checkpoint::Array { shape: spec.shape, values })
        })
        .collect();
    for (name, channels, channel) in [
        ("ghost.primary", 6, 0),
        ("ghost.cheap", 6, 0),
        ("shortcut.pointwise", 12, 0),
        ("shortcut.pointwise", 12, 6),
    ] {
        for part in ["conv.weight", "conv.bias"] {
            let values = &mut weights.get_mut(&format!("{name}.{part}")).expect("it is there").values;
            let row = values.len() / channels;
            values[channel * row..][..row].fill(0.0);
        }
    }
    (network, weights)
}

#[test]
fn the_ranges_of_a_training_stay_where_they_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (network, weights) = with_dead_channels();
    let graph = network.graph().unwrap();
    let scales_of = |scale: f32| -> scale::Scales {
        let scale = scale::Scale { scale, zero_point: 60 };
        graph.nodes.iter().map(|node| (node.name.clone(), scale)).collect()
    };
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, scales: &scale::Scales| {
        let half = checkpoint::Precision::Half;
        checkpoint::write_with_scales(Path::new(&path(name)), &network, &weights, half, scales).unwrap();
        path(name)
    };
    let read = |path: &str| checkpoint::read_scales(Path::new(path)).unwrap();
    let trained = scales_of(0.25);
    let (int8, other, float) = (write("a", &trained), write("b", &scales_of(0.5)), write("c", &Default::default()));
    let photos = root.join("data/samples");
    let photos = ["--photos", photos.to_str().unwrap(), "--imgsz", "64", "--images", "2"];

    let output = path("trimmed");
    let args = ["trim", "--checkpoint", &int8, "--output", &output, "--multiple", "1"];
    let told = compress(&[&args[..], &photos].concat());
    assert!(told.status.success() && told.stderr.is_empty(), "{told:?}");
    let (trimmed, _) = checkpoint::read_with_network(Path::new(&output)).unwrap();
    assert_ne!(trimmed.layers, network.layers);
    assert!(quantize::scales_by_place(&trimmed.graph().unwrap(), &read(&output)).is_some());
    assert_eq!(read(&output), trained);
    let foreign = write("d", &scale::Scales::from([("other".to_owned(), trained["ghost.cheap"])]));
    refused(&[&["trim", "--checkpoint", &foreign, "--output", &output][..], &photos].concat(), "another network");

    let average = |paths: &[&String]| {
        let checkpoints = paths.iter().flat_map(|path| ["--checkpoint", path.as_str()]);
        let args: Vec<&str> = ["average", "--output", &output].into_iter().chain(checkpoints).collect();
        let told = compress(&args);
        assert!(told.status.success(), "{told:?}");
        (read(&output), text(&told.stderr))
    };
    assert_eq!(average(&[&int8, &int8]), (trained, String::new()));
    assert_eq!(average(&[&float, &float]), Default::default());
    for paths in [[&int8, &other], [&int8, &float], [&float, &int8]] {
        let (kept, told) = average(&paths);
        assert!(kept.is_empty() && told.contains("the average has no ranges"), "{paths:?}: {told}");
    }
    // These change the values in the maps.
    for command in ["equalize", "revive"] {
        for (checkpoint, is_told) in [(&int8, true), (&float, false)] {
            let args = [command, "--checkpoint", checkpoint, "--output", &output];
            let told = compress(&[&args[..], &photos].concat());
            assert!(told.status.success(), "{told:?}");
            assert_eq!(text(&told.stderr).contains("its int8 ranges"), is_told, "{told:?}");
            assert!(read(&output).is_empty());
        }
    }
}

#[test]
fn equalize_changes_the_weights_and_not_the_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut network, weights) =
        checkpoint::read_with_network(&root.join("models/micro-yolov3-tiny.safetensors")).unwrap();
    for layer in &mut network.layers {
        layer.teacher = (layer.name == "conv8").then(|| "conv8".into());
    }
    let before = folder.path().join("before.safetensors");
    checkpoint::write(&before, &network, &weights, checkpoint::Precision::Half).unwrap();
    let after = folder.path().join("equalized.safetensors");
    let photos = root.join("data/samples");
    let [before_text, after_text, photos] = [&before, &after, &photos].map(|path| path.to_str().unwrap());
    let base = ["equalize", "--checkpoint", before_text, "--output", after_text, "--photos", photos];
    refused(&[&base[..], &["--imgsz", "100"]].concat(), "--imgsz");
    let output = compress(&[&base[..], &["--images", "3", "--imgsz", "96"]].concat());
    assert!(output.status.success(), "{output:?}");

    let (same, equalized) = checkpoint::read_with_network(&after).unwrap();
    assert_eq!(same, network);
    let changed = weights.iter().filter(|(name, array)| equalized[*name].values != array.values).count();
    assert!(changed > weights.len() / 3, "{changed} of {}", weights.len());
    let grey = vec![vec![0.4; 3 * 96 * 96]];
    let scores = |network: &Network, weights: &checkpoint::Weights| {
        let onnx = export::to_onnx(network, weights, (96, 96), export::Storage::Single).unwrap();
        quantize::scores(&onnx, &grey, 96).unwrap()
    };
    let noise = quantize::noise(&scores(&network, &weights), &scores(&same, &equalized));
    // Weights are stored in half precision.
    assert!(noise < 1e-3, "{noise}");
}
