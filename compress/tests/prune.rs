//! Pruning with training after each round: `cargo xtask test --only trainer` runs it, with libtorch.
#![allow(clippy::unwrap_used)] // Clippy allows it in tests, not in what they call.
#![cfg(feature = "train")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::config;
use compress::checkpoint::{self, Weights};
use compress::data::{self, BadData, Dataset};
use compress::export::{Storage, to_onnx};
use compress::measure::Measure;
use compress::network::{Activation, Graph, Head, Layer, LayerKind, Network};
use compress::prune::{Outcome, PruneConfig, Start, prune};
use compress::train::{Distillation, Stage, TrainConfig, check, initial};
use compress::trainer::{Local, Trainer};
use compress::{Error, cost, quantize, zoo};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn macs(graph: &Graph) -> u64 {
    cost::total(graph, 64, 64).macs
}

/// One round that takes a fifth of the multiply-accumulates.
fn one_round(network: &Network, recipe: &TrainConfig) -> PruneConfig {
    PruneConfig {
        side_px: 64,
        share: 0.3,
        multiple: 8,
        max_parameters: None,
        max_macs: Some(macs(&network.graph().unwrap()) * 4 / 5),
        min_ap50: None,
        statistics: 16,
        statistics_px: recipe.sizes[0].0,
        round_images: recipe.images,
    }
}

/// A small network for two classes, with the random weights of a training's start.
fn small() -> (Network, Weights) {
    let activation = Activation::Relu6;
    let ds = |name: &str, out, stride| Layer::new(name, LayerKind::ds_conv(out, 3, stride, activation));
    let to_head = |name: &str, out| {
        let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false };
        Layer::new(name, kind).from(["block3"])
    };
    let layers = vec![
        Layer::new("stem", LayerKind::Conv { out: 16, kernel: 3, stride: 2, activation, norm: true }),
        ds("block1", 32, 2),
        ds("block2", 48, 2),
        ds("block3", 48, 2),
        to_head("sides", 4),
        to_head("scores", 2),
        Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
    ];
    let network = Network { name: "small".into(), classes: 2, names: Vec::new(), layers };
    let weights = initial(&network.graph().unwrap(), 1);
    (network, weights)
}

fn photographs(folder: &Path, side: usize) -> Vec<Vec<f32>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    quantize::photographs(files, 16, side, 1, BadData::Refuse).unwrap()
}

/// Trains and measures as `prune` does, and keeps what it was given to train last.
struct Watched {
    local: Local,
    given: Option<Weights>,
}

impl Trainer for Watched {
    fn train(&mut self, network: &Network, start: &Weights, images: u64, work: &Path) -> compress::Result<Weights> {
        self.given = Some(start.clone());
        self.local.train(network, start, images, work)
    }

    fn measure(&mut self, network: &Network, weights: &Weights) -> compress::Result<f64> {
        self.local.measure(network, weights)
    }

    fn recipe(&self) -> serde_json::Value {
        self.local.recipe()
    }
}

/// Prunes; with the outcome come the weights that training began with.
fn run(
    (network, weights): (&Network, &Weights),
    images: &[Vec<f32>],
    recipe: &TrainConfig,
    stop: &Arc<AtomicBool>,
) -> compress::Result<(Outcome, Weights)> {
    let (annotations, folder) = common::squares(recipe.run.parent().unwrap());
    let mut set = Dataset::read(&annotations, &folder, BadData::Refuse).unwrap();
    // What is measured does not matter here, but classes must be the network's.
    if !network.names.is_empty() {
        set.classes.clone_from(&network.names);
    }
    let measure = Measure { set, side_px: recipe.sizes[0].0, threads: 1, bad_data: BadData::Refuse };
    let local = Local { measure, recipe: recipe.clone(), stop: stop.clone() };
    let mut trainer = Watched { local, given: None };
    let start = Start { network, weights, images };
    let outcome = prune(&start, &one_round(network, recipe), &recipe.run, &mut trainer, stop, &|_| ())?;
    Ok((outcome, trainer.given.unwrap_or_default()))
}

#[test]
fn a_round_that_learns_from_the_start_ends_closer_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let side = 96;
    let teacher = root().join("models/micro-yolo.safetensors");
    let (network, weights) = checkpoint::read_with_network(&teacher).unwrap();
    let [photos, others] = ["photos", "others"].map(|name| folder.path().join(name));
    data::tiny(&root().join("data/samples"), &photos, 32, 1).unwrap();
    data::tiny(&root().join("data/samples"), &others, 16, 2).unwrap();
    let recipe = TrainConfig {
        data: Vec::new(),
        photos: vec![photos.clone()],
        distill: Some(Distillation::new(teacher, Stage::Whole)),
        images: 200,
        batch: 8,
        sizes: vec![(side, 0.0)],
        rate: 2e-4,
        decay: 0.0,
        mixup: 0.0,
        cover: 0.0,
        ..config(folder.path(), "run")
    };
    let images = photographs(&photos, side);
    let held_out = photographs(&others, side);
    let answers = |network: &Network, weights: &Weights| {
        let onnx = to_onnx(network, weights, (side, side), Storage::Single).unwrap();
        quantize::scores(&onnx, &held_out, side).unwrap()
    };
    let exact = answers(&network, &weights);
    let (outcome, cut) = run((&network, &weights), &images, &recipe, &Arc::default()).unwrap();
    assert_eq!((outcome.rounds, outcome.reason.as_str()), (1, "the budget is met"));
    assert!(!recipe.run.join("work").exists());
    let off = |weights: &Weights| quantize::noise(&exact, &answers(&outcome.network, weights));
    let (cut, tuned) = (off(&cut), off(&outcome.weights));
    println!("{cut} before training, {tuned} behind it");
    assert!(tuned < 0.95 * cut, "{cut} before training, {tuned} behind it");
}

#[test]
fn a_round_that_was_stopped_in_training_goes_on_there() {
    let folder = tempfile::tempdir().unwrap();
    let (network, weights) = small();
    let recipe = |run: &str| TrainConfig { mosaic: (0.5, 0.9), ..config(folder.path(), run) };
    let images = photographs(&recipe("any").data[0].1, 64);
    let start = (&network, &weights);
    let (expected, _) = run(start, &images, &recipe("whole"), &Arc::default()).unwrap();

    let parts = recipe("parts");
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, log) = (stop.clone(), parts.run.join("work/log.jsonl"));
    let lines = |log: &Path| std::fs::read_to_string(log).map_or(0, |text| text.lines().count());
    let watched = log.clone();
    let watcher = std::thread::spawn(move || {
        while lines(&watched) < 4 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        flag.store(true, Ordering::Relaxed);
    });
    assert!(matches!(run(start, &images, &parts, &stop), Err(Error::Interrupted)));
    watcher.join().unwrap();
    assert!((4..12).contains(&lines(&log)), "{}", lines(&log));
    let (outcome, _) = run(start, &images, &parts, &Arc::default()).unwrap();
    assert_eq!(outcome, expected);
}

#[test]
fn a_teacher_that_does_not_fit_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let teacher = root().join("models/micro-yolo.safetensors");
    let distill = Some(Distillation::new(teacher, Stage::Whole));
    let recipe = TrainConfig { distill, ..config(folder.path(), "run") };
    let error = check(&network, &recipe).unwrap_err();
    assert!(matches!(&error, Error::Teacher { problem, .. } if problem.contains("80 classes")), "{error}");
    assert!(!recipe.run.exists());
    check(&network, &config(folder.path(), "run")).unwrap();
}

#[test]
fn classes_of_other_names_or_in_another_order_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut network, weights) = small();
    network.names = vec!["circle".into(), "square".into()];
    let (annotations, images) = common::squares(folder.path());
    let checkpoint = folder.path().join("turned.safetensors");
    checkpoint::write(&checkpoint, &network, &weights, checkpoint::Precision::Half).unwrap();
    let (run, photos, val) = (folder.path().join("run"), &images, format!("{}", annotations.display()));
    let prune = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_compress"));
        command.arg("prune").arg("--run").arg(&run).arg("--checkpoint").arg(&checkpoint);
        let output = command.args(["--max-macs", "1000", "--round-images", "0"]).args(args).output().unwrap();
        assert!(!output.status.success() && !run.exists(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let photos = photos.to_str().unwrap();
    let told = prune(&["--val", &val, "--teacher", checkpoint.to_str().unwrap(), "--photos", photos]);
    assert!(told.starts_with("error: option --val: calls class 0 `square`"), "{told}");
    let told = prune(&["--val", &val, "--data", &val]);
    assert!(told.contains("squares.json: calls class 0 `square`, the network calls it `circle`"), "{told}");
    // Also where a network is measured without the command.
    let set = Dataset::read(&annotations, &images, BadData::Refuse).unwrap();
    let measure = Measure { set, side_px: 64, threads: 1, bad_data: BadData::Refuse };
    assert!(matches!(measure.ap50(&network, &weights), Err(Error::Option { option: "--val", .. })));
    network.names.reverse();
    measure.ap50(&network, &weights).unwrap();
    // AP50 of no objects is not 0.
    let mut empty = measure.clone();
    empty.set.images.iter_mut().for_each(|image| image.objects.clear());
    let error = empty.ap50(&network, &weights).unwrap_err().to_string();
    assert!(error.contains("--val") && error.contains("no objects"), "{error}");
}

#[test]
fn measuring_skips_bad_photographs_only_if_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (network, weights) = small();
    let (annotations, images) = common::squares(folder.path());
    std::fs::write(images.join("3.png"), "damaged").unwrap();
    let set = Dataset::read(&annotations, &images, BadData::Refuse).unwrap();
    let measure = Measure { set, side_px: 64, threads: 1, bad_data: BadData::Refuse };
    assert!(matches!(measure.ap50(&network, &weights), Err(Error::Data { .. })));
    Measure { bad_data: BadData::Skip, ..measure }.ap50(&network, &weights).unwrap();
}

#[test]
fn a_pruned_student_learns_the_channels_that_it_has_of_its_teachers_map() {
    let folder = tempfile::tempdir().unwrap();
    let (mut network, weights) = small();
    let teacher = folder.path().join("teacher.safetensors");
    checkpoint::write(&teacher, &network, &weights, checkpoint::Precision::Single).unwrap();
    network.layers[2].teacher = Some("block2".into());
    let distill = Some(Distillation::new(teacher, Stage::Whole));
    let recipe = TrainConfig { distill, images: 16, ..config(folder.path(), "run") };
    let images = photographs(&recipe.data[0].1, 64);
    let (outcome, _) = run((&network, &weights), &images, &recipe, &Arc::default()).unwrap();
    let width = |network: &Network| {
        let graph = network.graph().unwrap();
        graph.nodes.iter().find(|node| node.name == "block2.pointwise").unwrap().channels
    };
    assert!(width(&outcome.network) < width(&network), "{:?}", outcome.network);
    assert_eq!(outcome.network.layers[2].teacher_channels.len(), width(&outcome.network));

    // Of a map that the teacher has not in that width.
    network.layers[2].teacher_channels = (900..948).collect();
    let error = run(
        (&network, &weights),
        &images,
        &TrainConfig { run: folder.path().join("more"), ..recipe },
        &Arc::default(),
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("layer `block2`") && error.contains("channel 947"), "{error}");
}
