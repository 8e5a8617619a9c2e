//! Distillation as a user sees it: `cargo xtask test --only trainer` runs it, with libtorch.
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.
#![cfg(feature = "train")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{config, log_lines};
use compress::explore::{self, ExploreConfig, ExploreOutcome, Kind, SearchSpace, Shard, explore, merge};
use compress::network::{Activation, Head, Layer, LayerKind, Network};
use compress::train::{Distillation, PartLearner, Stage, TrainConfig, initial, train};
use compress::{Error, checkpoint, zoo};

fn module(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/distill").join(name)
}

fn distill(folder: &Path, run: &str, teacher: &Path, stage: Stage) -> TrainConfig {
    TrainConfig { distill: Some(Distillation::new(teacher.to_owned(), stage)), images: 160, ..config(folder, run) }
}

/// A field of the log's lines.
fn logged(config: &TrainConfig, field: &str) -> Vec<f64> {
    let log = std::fs::read_to_string(config.run.join("log.jsonl")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()[field].as_f64().unwrap())
        .collect()
}

/// Whether the mean of the last ten values is below `share` of that of the first ten.
fn falls(values: &[f64], share: f64) -> bool {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    mean(&values[values.len() - 10..]) < share * mean(&values[..10])
}

/// micro_yolo for two classes, trained a little.
fn teacher(folder: &Path) -> PathBuf {
    let network = zoo::network("micro_yolo", 2).unwrap();
    train(&network, &config(folder, "teacher"), Arc::default()).unwrap().model
}

/// micro_yolo with one MBConv for the six layers from `block6` on, and the layers that stand for the teacher's.
fn student() -> Network {
    let mut network = zoo::network("micro_yolo", 2).unwrap();
    network.layers.retain(|layer| !(7..=11).any(|block| layer.name == format!("block{block}")));
    for layer in &mut network.layers {
        match layer.name.as_str() {
            "block5" => layer.teacher = Some("block5".into()),
            "block6" => {
                let kind = LayerKind::mb_conv(64, 256, 3, 2, 0, Activation::Relu6);
                *layer = Layer { teacher: Some("block11".into()), ..Layer::new("block6", kind) };
            }
            "join" => layer.from = vec!["up".into(), "block6".into()],
            _ => {}
        }
    }
    network
}

#[test]
fn parts_learn_by_themselves_and_then_the_whole_from_photographs_without_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(folder.path());
    // Without names, as `new` makes it: it gets those of its teacher.
    let network = student();
    let photos = vec![config(folder.path(), "any").data.remove(0).1];
    let parts = TrainConfig {
        data: vec![],
        photos: photos.clone(),
        ..distill(folder.path(), "parts", &teacher, Stage::Parts)
    };
    let first = train(&network, &parts, Arc::default()).unwrap();
    let unexplained = logged(&parts, "maps");
    assert!(falls(&unexplained, 0.8), "{unexplained:?}");

    let whole = TrainConfig {
        data: vec![],
        photos,
        init: Some(first.model),
        ..distill(folder.path(), "whole", &teacher, Stage::Whole)
    };
    let model = train(&network, &whole, Arc::default()).unwrap().model;
    let loss = logged(&whole, "loss");
    assert!(falls(&loss, 0.9), "{loss:?}");
    assert_eq!(checkpoint::read_with_network(&model).unwrap().0.names, ["square", "circle"]);
}

#[test]
fn maps_are_learned_by_the_layers_in_front_of_them_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(folder.path());
    let network = student();
    let start = initial(&network.graph().unwrap(), 9);
    let init = folder.path().join("start.safetensors");
    checkpoint::write(&init, &network, &start, checkpoint::Precision::Single).unwrap();
    let last = network.layers.iter().rfind(|layer| layer.teacher.is_some()).unwrap().name.clone();
    let first = network.layers.iter().find(|layer| layer.teacher.is_some()).unwrap().name.clone();
    assert_ne!(first, last);
    // What stands behind the last map is not trained, even if it may be.
    let head = network.layers[network.layers.len() - 2].name.clone();
    for (until, end) in [(None, &last), (Some(first.clone()), &first), (Some(head), &last)] {
        let run = format!("until-{}", until.as_deref().unwrap_or("the last"));
        let config = distill(folder.path(), &run, &teacher, Stage::Maps);
        let distill = config.distill.clone().map(|distill| Distillation { until: until.clone(), ..distill });
        // Nothing but weight decay could move the layers behind.
        let config = TrainConfig { distill, init: Some(init.clone()), decay: 0.1, ..config };
        let model = train(&network, &config, Arc::default()).unwrap().model;
        let unexplained = logged(&config, "maps");
        assert!(falls(&unexplained, 0.9), "{until:?}: {unexplained:?}");
        assert_eq!(logged(&config, "class"), vec![0.0; unexplained.len()]);
        let learned = checkpoint::read(&model).unwrap().0;
        let end = network.layers.iter().position(|layer| layer.name == *end).unwrap();
        for (name, array) in &learned {
            let layer = network.layers.iter().position(|layer| Some(layer.name.as_str()) == name.split('.').next());
            if name.ends_with("conv.weight") {
                // Weights are written in half precision.
                let moved = array
                    .values
                    .iter()
                    .zip(&start[name].values)
                    .any(|(a, b)| (a - b).abs() > 2e-3 * (1.0 + b.abs()));
                assert_eq!(moved, layer.unwrap() <= end, "{until:?}: {name}");
            }
        }
    }
}

#[test]
fn every_stage_ends_with_an_error_if_it_diverges() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(folder.path());
    let network = student();
    let with_huge = |name: &str, network: &Network| {
        let mut weights = initial(&network.graph().unwrap(), 9);
        weights.iter_mut().filter(|(name, _)| name.ends_with("conv.weight")).for_each(|(_, array)| {
            array.values.fill(3e38);
        });
        let path = folder.path().join(name);
        checkpoint::write(&path, network, &weights, checkpoint::Precision::Single).unwrap();
        path
    };
    let huge = with_huge("huge.safetensors", &network);
    let error_of = |run: &str, teacher: &Path, stage, init: Option<PathBuf>| {
        let config = TrainConfig { init, batch: 1, images: 24, ..distill(folder.path(), run, teacher, stage) };
        let error = train(&network, &config, Arc::default()).unwrap_err();
        assert!(!config.run.join("model.safetensors").exists());
        error
    };
    for stage in [Stage::Parts, Stage::Maps, Stage::Whole, Stage::Labels] {
        match error_of(&format!("{stage:?}"), &teacher, stage, Some(huge.clone())) {
            Error::Diverged { step: 1, cause } => {
                assert!(cause.contains("is not finite: lower --rate"), "{stage:?}: {cause}");
                assert!(cause.ends_with("nothing is saved"), "{stage:?}: {cause}");
            }
            other => panic!("{stage:?}: {other}"),
        }
    }
    // It is not the student's fault.
    let bad_teacher = with_huge("teacher.safetensors", &zoo::network("micro_yolo", 2).unwrap());
    let error = error_of("taught", &bad_teacher, Stage::Whole, None);
    assert!(matches!(&error, Error::Teacher { path, .. } if *path == bad_teacher), "{error}");
    assert!(error.to_string().contains("from step 1 on its outputs are not finite"), "{error}");
}

#[test]
fn a_student_that_is_its_teacher_has_nothing_to_learn_of_boxes_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = teacher(folder.path());
    let almost = TrainConfig {
        init: Some(teacher.clone()),
        // With its normalisation folded, as the teacher's is.
        freeze: Some("class16".into()),
        images: 8,
        ..distill(folder.path(), "same", &teacher, Stage::Whole)
    };
    train(&zoo::network("micro_yolo", 2).unwrap(), &almost, Arc::default()).unwrap();
    let first = logged(&almost, "class")[0];
    assert!(first.abs() < 0.05, "{first}");
}

#[test]
fn a_module_teaches_too_beside_labels_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = zoo::network("micro_yolo", 2).unwrap();
    let map = LayerKind::Conv { out: 4, kernel: 1, stride: 1, activation: Activation::None, norm: false };
    let place = network.layers.iter().position(|layer| layer.name == "block6").unwrap();
    let hint = Layer { teacher: Some("features.0".into()), ..Layer::new("hint", map).from(["block5"]) };
    network.layers.insert(place, hint);
    network.layers[place + 1].from = vec!["block5".into()];
    for stage in [Stage::Whole, Stage::Labels] {
        let config = distill(folder.path(), &format!("{stage:?}"), &module("teacher.pt"), stage);
        train(&network, &config, Arc::default()).unwrap();
        let loss = logged(&config, "loss");
        assert!(falls(&loss, 0.9), "{stage:?}: {loss:?}");
    }
}

#[test]
fn a_second_teacher_corrects_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo_anchors", 2).unwrap();
    let start = folder.path().join("start.safetensors");
    let weights = initial(&network.graph().unwrap(), 1);
    checkpoint::write(&start, &network, &weights, checkpoint::Precision::Single).unwrap();
    // The student is the first teacher: only from the second it has something to learn.
    let with = |run: &str, second: Option<PathBuf>| {
        let config = distill(folder.path(), run, &start, Stage::Whole);
        let distill = config.distill.clone().map(|distill| Distillation { second: second.clone(), ..distill });
        let config = TrainConfig { distill, init: Some(start.clone()), ..config };
        train(&network, &config, Arc::default()).unwrap();
        logged(&config, "loss")
    };
    let (alone, corrected) = (with("alone", None), with("corrected", Some(module("teacher.pt"))));
    assert!(corrected[0] > 4.0 * alone[0].abs(), "{} beside {}", corrected[0], alone[0]);
    assert!(falls(&corrected, 0.9), "{corrected:?}");
}

#[test]
fn images_serve_more_than_once_and_rates_follow_the_size_of_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let with = |stage, reuse| {
        let config = distill(folder.path(), &format!("{stage:?}-{reuse}"), &module("teacher.pt"), stage);
        let distill = config.distill.clone().map(|distill| Distillation { reuse, ..distill });
        TrainConfig { distill, relative_rate: true, rate: 0.05, ..config }
    };
    let thrice = with(Stage::Whole, 3);
    let summary = train(&network, &thrice, Arc::default()).unwrap();
    assert_eq!(summary.images, 160);
    let loss = logged(&thrice, "loss");
    assert!(falls(&loss, 0.9), "{loss:?}");
    for (stage, reuse) in [(Stage::Whole, 0), (Stage::Labels, 2)] {
        let error = train(&network, &with(stage, reuse), Arc::default()).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--reuse", .. }), "{error}");
    }
    let mut no_memory = with(Stage::Whole, 2);
    no_memory.distill.as_mut().unwrap().reuse_gib = 0.0;
    let error = train(&network, &no_memory, Arc::default()).unwrap_err();
    assert!(matches!(error, Error::Option { option: "--reuse-gib", .. }), "{error}");
}

#[test]
fn maps_of_frozen_layers_serve_more_than_once() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let own = teacher(folder.path());
    let config = distill(folder.path(), "frozen", &own, Stage::Whole);
    let distill = config.distill.clone().map(|distill| Distillation { reuse: 3, ..distill });
    // `join` reads `block5`, so what learns reads several maps of what does not.
    let freeze = Some("block8".into());
    let config = TrainConfig { distill, freeze, relative_rate: true, rate: 0.05, init: None, ..config };
    let (weights, start) = {
        let short = TrainConfig { images: 4, run: folder.path().join("start"), ..config.clone() };
        train(&network, &config, Arc::default()).unwrap();
        train(&network, &short, Arc::default()).unwrap();
        let read = |config: &TrainConfig| checkpoint::read(&config.run.join("model.safetensors")).unwrap().0;
        (read(&config), read(&short))
    };
    let loss = logged(&config, "loss");
    assert!(falls(&loss, 0.9), "{loss:?}");
    let is_frozen = |name: &str| {
        let layer = name.split('.').next().unwrap();
        network.layers.iter().position(|one| one.name == layer).unwrap()
            <= network.layers.iter().position(|one| one.name == "block8").unwrap()
    };
    for (name, array) in weights.iter().filter(|(name, _)| name.ends_with("conv.weight")) {
        assert_eq!(array.values == start[name].values, is_frozen(name), "{name}");
    }
}

#[test]
fn a_distillation_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let short = TrainConfig { images: 16, ..distill(folder.path(), "run", &module("teacher.pt"), Stage::Whole) };
    train(&network, &short, Arc::default()).unwrap();
    assert_eq!(log_lines(&short), 4);
    let longer = TrainConfig { images: 32, ..short };
    let summary = train(&network, &longer, Arc::default()).unwrap();
    assert_eq!((summary.images, log_lines(&longer)), (32, 8));
    let other = TrainConfig { distill: None, images: 48, ..longer };
    assert!(matches!(train(&network, &other, Arc::default()).unwrap_err(), Error::Option { option: "--run", .. }));
}

#[test]
fn teachers_that_do_not_fit_are_refused_and_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let two = zoo::network("micro_yolo", 2).unwrap();
    let own = teacher(folder.path());
    let refused = |network: &Network, teacher: &Path, change: &dyn Fn(&mut TrainConfig), told: &[&str]| {
        let mut config = distill(folder.path(), "refused", teacher, Stage::Whole);
        change(&mut config);
        let error = train(network, &config, Arc::default()).unwrap_err().to_string();
        assert!(told.iter().all(|told| error.contains(told)), "{error} should tell {told:?}");
    };
    let none = |_: &mut TrainConfig| ();
    let parts = |config: &mut TrainConfig| config.distill.as_mut().unwrap().stage = Stage::Parts;
    let named = |name: &str| {
        let mut network = two.clone();
        network.layers[3].teacher = Some(name.into());
        network
    };
    refused(&two, &folder.path().join("none.pt"), &none, &["teacher", "none.pt"]);
    refused(&two, &folder.path().join("none.safetensors"), &none, &["none.safetensors"]);
    refused(&two, &module("make.py"), &none, &["teacher", "make.py"]);
    refused(&two, &module("no-pair.pt"), &none, &["tuple of tensors"]);
    refused(&two, &own, &parts, &["--stage", "name the teacher's map"]);
    let maps = |config: &mut TrainConfig| config.distill.as_mut().unwrap().stage = Stage::Maps;
    refused(&two, &own, &maps, &["--stage", "name the teacher's map"]);
    let until = |config: &mut TrainConfig| config.distill.as_mut().unwrap().until = Some("block3".into());
    refused(&two, &own, &until, &["--until", "--stage maps"]);
    let nowhere = |config: &mut TrainConfig| {
        maps(config);
        config.distill.as_mut().unwrap().until = Some("nothing".into());
    };
    refused(&two, &own, &nowhere, &["--until", "no layer"]);
    refused(&named("block99"), &own, &none, &["no layer `block99`"]);
    refused(&named("block1"), &own, &none, &["layer `block3`", "`block1`"]);
    refused(&named("block1"), &module("teacher.pt"), &none, &["features.0", "`block1`"]);
    refused(&named("features.7"), &module("teacher.pt"), &none, &["1 inner maps", "`features.7`"]);
    let anchors = zoo::network("micro_yolo_anchors", 2).unwrap();
    refused(&anchors, &module("teacher.pt"), &none, &["anchors"]);
    refused(&anchors, &own, &none, &["another kind of head"]);
    // A second teacher corrects scores and boxes of heads with anchors, and has none itself.
    let first = folder.path().join("first.safetensors");
    let weights = initial(&anchors.graph().unwrap(), 1);
    checkpoint::write(&first, &anchors, &weights, checkpoint::Precision::Half).unwrap();
    let second = |second: &Path| {
        let second = second.to_owned();
        move |config: &mut TrainConfig| config.distill.as_mut().unwrap().second = Some(second.clone())
    };
    refused(&anchors, &first, &second(&first), &["first.safetensors", "must not have"]);
    refused(&anchors, &first, &second(&module("no-pair.pt")), &["no-pair.pt", "tuple of tensors"]);
    refused(&two, &own, &second(&module("teacher.pt")), &["--second-teacher", "heads with anchors"]);
    let maps_too = |config: &mut TrainConfig| {
        maps(config);
        second(&module("teacher.pt"))(config);
    };
    refused(&anchors, &first, &maps_too, &["--second-teacher", "--stage whole"]);
    // The same maps would be other boxes.
    let scaled = folder.path().join("scaled.safetensors");
    let mut network = anchors.clone();
    match &mut network.layers.last_mut().unwrap().kind {
        LayerKind::Detect { head: Head::Anchors { anchors, xy_scales } } => *xy_scales = vec![1.05; anchors.len()],
        other => panic!("{other:?}"),
    }
    let weights = initial(&network.graph().unwrap(), 1);
    checkpoint::write(&scaled, &network, &weights, checkpoint::Precision::Half).unwrap();
    refused(&anchors, &scaled, &none, &["another scale of x and y"]);
    let photos = |config: &mut TrainConfig| {
        config.photos = vec![config.data.remove(0).1];
        config.distill.as_mut().unwrap().stage = Stage::Labels;
    };
    refused(&two, &module("teacher.pt"), &photos, &["--photos", "no labels"]);

    // Other classes, in number and by name.
    let three = zoo::network("micro_yolo", 3).unwrap();
    let of_folder = |config: &mut TrainConfig| config.photos = vec![config.data.remove(0).1];
    refused(&three, &own, &of_folder, &["2 classes, the student 3"]);
    refused(&three, &module("teacher.pt"), &of_folder, &["2 classes, the student 3"]);
    let three_anchors = zoo::network("micro_yolo_anchors", 3).unwrap();
    let weights = initial(&three_anchors.graph().unwrap(), 1);
    checkpoint::write(&first, &three_anchors, &weights, checkpoint::Precision::Half).unwrap();
    let second_of_folder = |config: &mut TrainConfig| {
        of_folder(config);
        second(&module("teacher.pt"))(config);
    };
    refused(&three_anchors, &first, &second_of_folder, &["2 classes, the student 3"]);
    let (network, weights) = checkpoint::read_with_network(&own).unwrap();
    let renamed = folder.path().join("renamed.safetensors");
    let network = Network { names: vec!["square".into(), "disc".into()], ..network };
    checkpoint::write(&renamed, &network, &weights, checkpoint::Precision::Half).unwrap();
    refused(&two, &renamed, &none, &["calls `disc` what the data calls `circle`"]);
}

/// A small dense network with one class scale, its layers called as `named` says.
fn dense(named: impl Fn(&str) -> String) -> Network {
    let conv = |name: &str, out, stride| {
        let kind = LayerKind::Conv { out, kernel: 3, stride, activation: Activation::LeakyRelu, norm: true };
        Layer::new(named(name), kind)
    };
    let head = |name: &str, out| {
        let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false };
        Layer { from: vec![named("three")], ..Layer::new(name, kind) }
    };
    let layers = vec![
        conv("one", 16, 2),
        conv("two", 32, 1),
        Layer::new(named("pool"), LayerKind::max_pool(2, 2)),
        conv("three", 32, 2),
        head("sides", 4),
        head("scores", 2),
        Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
    ];
    let names = vec!["square".into(), "circle".into()];
    Network { name: "dense".into(), classes: 2, names, layers }
}

/// What is explored in the tests here: two parts, dense and depthwise.
fn two_kinds() -> ExploreConfig {
    ExploreConfig {
        parts: vec!["my_two".into(), "my_three".into()],
        kinds: vec![Kind::Ds],
        kernels: vec![3],
        expansions: vec![1],
        reductions: vec![0],
        depths: vec![1],
        pools: false,
        max_parameters: 1_000_000,
        max_macs: 1_000_000_000,
        max_ms: None,
        side_px: 64,
        time: true,
        check: 1,
    }
}

fn learner(folder: &Path, teacher: &Path) -> PartLearner {
    PartLearner {
        training: TrainConfig { mosaic: (0.0, 1.0), rate: 1e-2, ..config(folder, "explored") },
        distill: Distillation::new(teacher.to_owned(), Stage::Whole),
        part_images: 640,
        val: None,
        stop: Arc::default(),
    }
}

/// The dense network with random weights as the teacher in a file, and one with other layer names, so that nothing is
/// taken over.
fn dense_pair(teacher: &Path) -> (Network, checkpoint::Weights, Network) {
    let network = dense(str::to_owned);
    let weights = initial(&network.graph().unwrap(), 5);
    checkpoint::write(teacher, &network, &weights, checkpoint::Precision::Single).unwrap();
    let mut base = dense(|name| format!("my_{name}"));
    for (layer, map) in [(0, "one"), (2, "pool"), (3, "three")] {
        base.layers[layer].teacher = Some(map.into());
    }
    (network, weights, base)
}

#[test]
fn shards_give_the_result_of_a_single_run() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = folder.path().join("dense.safetensors");
    let (network, weights, base) = dense_pair(&teacher);
    // Times differ from run to run.
    let config = ExploreConfig { time: false, ..two_kinds() };
    let space = SearchSpace::new(base, Some((&network, &weights)), Default::default(), config).unwrap();
    let mut learner = learner(folder.path(), &teacher);
    learner.part_images = 16;
    learner.training.images = 8;
    let mut go = |run: &str, index, count| {
        let shard = Shard { index, count };
        explore(&space, &folder.path().join(run), shard, &mut learner, &AtomicBool::new(false), &|_| ()).unwrap()
    };
    let whole = go("whole", 1, 1);
    assert!(matches!(whole, ExploreOutcome::Done { .. }), "{whole:?}");
    // The second and the first once more: checks begin when all is learned.
    for index in [2, 1, 1] {
        go("shards", index, 2);
    }
    let [run, shards] = ["whole", "shards"].map(|run| folder.path().join(run));
    assert_eq!(merge(&space, &shards).unwrap(), whole);
    assert_eq!(explore::results(&shards).unwrap(), explore::results(&run).unwrap());
    let weights = |run: &Path| checkpoint::read(&run.join("model.safetensors")).unwrap();
    assert_eq!(weights(&shards), weights(&run));
}

#[test]
fn a_merge_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (teacher, network, run, photos) = (path("a.safetensors"), path("net.json"), path("run"), path("squares"));
    let (_, _, base) = dense_pair(Path::new(&teacher));
    std::fs::write(&network, base.to_json()).unwrap();
    let (annotations, _) = common::squares(folder.path());
    let explore = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_compress"));
        command.args(["explore", "--run", &run, "--network", &network, "--teacher", &teacher, "--photos", &photos]);
        command.args(["--part-images", "4", "--batch", "4", "--imgsz", "64", "--cost-imgsz", "64", "--no-time"]);
        command.args(["--kinds", "ds", "--kernels", "3", "--depths", "1"]);
        let output = command.args(args).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // What would be noticed only in the first check.
    let mut set: serde_json::Value = serde_json::from_slice(&std::fs::read(&annotations).unwrap()).unwrap();
    set["annotations"] = serde_json::json!([]);
    std::fs::write(path("empty.json"), set.to_string()).unwrap();
    let (_, told) = explore(&["--val", &format!("{}:{photos}", path("empty.json"))]);
    assert!(told.starts_with("error: option --val: has no objects"), "{told}");
    std::fs::create_dir(path("damaged")).unwrap();
    for entry in std::fs::read_dir(&photos).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, Path::new(&path("damaged")).join(from.file_name().unwrap())).unwrap();
    }
    std::fs::write(path("damaged/3.png"), "no picture").unwrap();
    let val = format!("{}:{}", annotations.to_str().unwrap(), path("damaged"));
    let (_, told) = explore(&["--val", &val]);
    assert!(told.contains("3.png"), "{told}");
    assert!(!Path::new(&run).exists());

    assert_eq!(explore(&["--check", "0", "--shard", "1/2"]), (true, String::new()));
    let (succeeds, told) = explore(&["--check", "0", "--merge"]);
    assert!(!succeeds && told.contains("option --merge: 2 candidates are missing, for my_two: "), "{told}");
    assert_eq!(explore(&["--check", "0", "--shard", "2/2"]), (true, String::new()));
    assert_eq!(explore(&["--check", "0", "--merge"]), (true, String::new()));
}

#[test]
fn what_could_be_the_teacher_itself_explains_more_than_what_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = folder.path().join("dense.safetensors");
    let (network, weights, base) = dense_pair(&teacher);
    let space =
        SearchSpace::new(base.clone(), Some((&network, &weights)), Default::default(), two_kinds()).unwrap();
    let mut learner = learner(folder.path(), &teacher);
    let run = folder.path().join("run");
    let outcome = explore(&space, &run, Shard::ALL, &mut learner, &AtomicBool::new(false), &|_| ()).unwrap();
    let ExploreOutcome::Done { network: explored, best } = outcome else { panic!("{outcome:?}") };
    let candidates = explore::results(&run).unwrap().candidates;
    assert_eq!(candidates.len(), 4, "{candidates:?}");
    for part in ["my_two", "my_three"] {
        let of = |name: &str| candidates.iter().find(|c| c.part == part && c.candidate == name).unwrap();
        let (own, ds) = (of("as it is"), of("DSConv k=3"));
        assert!(own.unexplained < 0.7 * ds.unexplained, "{part}: {own:?}, {ds:?}");
        assert!(ds.unexplained < 1.5 && ds.parameters < own.parameters && ds.ms.is_some(), "{ds:?}");
    }
    // The budget allows what explains most.
    assert!(best.picks.values().all(|pick| pick == "as it is"), "{best:?}");
    assert!(best.checked.unwrap().loss.is_finite());
    let (same, weights) = checkpoint::read_with_network(&run.join("model.safetensors")).unwrap();
    assert_eq!(same.layers, explored.layers);
    assert!(checkpoint::check(&explored.graph().unwrap(), &weights).is_ok());

    // A smaller budget takes what was learned, and learns nothing again.
    let least = candidates.iter().filter(|c| c.part == "my_two").map(|c| c.parameters).min().unwrap();
    let less = best.parameters - least;
    let config = ExploreConfig { max_parameters: less, check: 0, ..two_kinds() };
    let space = SearchSpace::new(base.clone(), Some((&network, &weights)), Default::default(), config).unwrap();
    let ExploreOutcome::Done { best, .. } = merge(&space, &run).unwrap() else { panic!("all has been learned") };
    assert!(best.parameters <= less && best.picks.values().any(|pick| pick == "DSConv k=3"), "{best:?}");

    // Maps that there are not, and others than they should be.
    for (layer, map, told) in
        [(3, "four", "no layer `four`"), (2, "two", "`my_two` stands for"), (0, "two", "`my_two` reads")]
    {
        let mut wrong = base.clone();
        wrong.layers[layer].teacher = Some(map.into());
        let space = SearchSpace::new(wrong, Some((&network, &weights)), Default::default(), two_kinds()).unwrap();
        let error = learner.try_out(&space).unwrap_err();
        assert!(matches!(error, Error::Teacher { .. }) && error.to_string().contains(told), "{error}");
    }
}
