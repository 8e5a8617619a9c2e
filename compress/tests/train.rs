//! Training as a user sees it: `cargo xtask test --only trainer` runs it, with libtorch.
#![cfg(feature = "train")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{config, log_lines};
use compress::train::{TrainConfig, train};
use compress::{Error, checkpoint, zoo};

#[test]
fn a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let whole = config(folder.path(), "whole");
    let summary = train(&network, &whole, Arc::default()).unwrap();
    assert_eq!((summary.images, summary.stopped), (48, false));

    let parts = config(folder.path(), "parts");
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, watched) = (stop.clone(), parts.clone());
    let watcher = std::thread::spawn(move || {
        while log_lines(&watched) < 4 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        flag.store(true, Ordering::Relaxed);
    });
    let first = train(&network, &parts, stop).unwrap();
    watcher.join().unwrap();
    assert!(first.stopped && first.images < 48, "{first:?}");
    let second = train(&network, &parts, Arc::default()).unwrap();
    assert_eq!((second.images, second.stopped), (48, false));

    let (carried, weights) = checkpoint::read_with_network(&summary.model).unwrap();
    assert_eq!(carried.names, ["square", "circle"]);
    assert_eq!(checkpoint::read_with_network(&second.model).unwrap().1, weights);
}

#[test]
fn more_replicas_a_frozen_start_and_rounding_to_int8_learn_too() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first = train(&network, &config(folder.path(), "first"), Arc::default()).unwrap();
    let (_, before) = checkpoint::read_with_network(&first.model).unwrap();

    let warm = TrainConfig {
        init: Some(first.model),
        freeze: Some("block3".into()),
        replicas: 2,
        ..config(folder.path(), "warm")
    };
    let second = train(&network, &warm, Arc::default()).unwrap();
    let (_, after) = checkpoint::read_with_network(&second.model).unwrap();
    for name in ["stem.conv.weight", "block3.pointwise.bn.weight", "block2.depthwise.bn.running_mean"] {
        assert_eq!(before[name], after[name], "{name} is frozen");
    }
    assert_ne!(before["block4.pointwise.conv.weight"], after["block4.pointwise.conv.weight"]);

    let rounded = TrainConfig { int8: true, run: folder.path().join("int8"), ..warm };
    let third = train(&network, &rounded, Arc::default()).unwrap();
    let (_, with_rounding) = checkpoint::read_with_network(&third.model).unwrap();
    assert_eq!(before["stem.conv.weight"], with_rounding["stem.conv.weight"]);
    assert_ne!(after["fuse.pointwise.conv.weight"], with_rounding["fuse.pointwise.conv.weight"]);

    // Its scales stay with the weights, and a training from them uses the same ones.
    let scales = checkpoint::read_scales(&third.model).unwrap();
    assert!(compress::quantize::scales_by_place(&network.graph().unwrap(), &scales).is_some());
    assert!(checkpoint::read_scales(&second.model).unwrap().is_empty());
    let again = TrainConfig { init: Some(third.model), run: folder.path().join("again"), images: 8, ..rounded };
    let fourth = train(&network, &again, Arc::default()).unwrap();
    assert_eq!(checkpoint::read_scales(&fourth.model).unwrap(), scales);
}

#[test]
fn every_layer_learns_whatever_its_name_is() {
    let folder = tempfile::tempdir().unwrap();
    // Names of its layers have dots, as `pep1.ep`.
    let network = zoo::network("yolo_nano", 2).unwrap();
    let trained = |name: &str, rate| {
        let config = TrainConfig { images: 4, batch: 2, warmup: 0, rate, ..config(folder.path(), name) };
        checkpoint::read_with_network(&train(&network, &config, Arc::default()).unwrap().model).unwrap().1
    };
    let (slow, fast) = (trained("slow", 1e-3), trained("fast", 2e-2));
    let kernels = slow.iter().filter(|(name, _)| name.ends_with("conv.weight"));
    let frozen: Vec<_> = kernels.filter(|(name, array)| fast[*name] == **array).map(|(name, _)| name).collect();
    assert!(frozen.is_empty(), "{frozen:?}");
}

#[test]
fn a_set_without_boxes_teaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let good = config(folder.path(), "run");
    let (annotations, images) = &good.data[0];
    let text = std::fs::read_to_string(annotations).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut set: serde_json::Value = serde_json::from_str(&text).unwrap();
        set["annotations"].as_array_mut().unwrap().iter_mut().for_each(change);
        let path = folder.path().join("changed.json");
        std::fs::write(&path, set.to_string()).unwrap();
        train(
            &network,
            &TrainConfig { data: vec![(path, images.clone())], images: 4, ..good.clone() },
            Arc::default(),
        )
    };
    for (field, value) in [("iscrowd", 1.0), ("ignore", 1.0), ("score", 0.29)] {
        let value = if field == "score" { value.into() } else { serde_json::Value::from(value as u8) };
        let error = with(&|annotation| annotation[field] = value.clone()).unwrap_err().to_string();
        assert!(error.contains("--data") && error.contains("no box that can be learned"), "{field}: {error}");
    }
    with(&|annotation| annotation["score"] = 0.3.into()).unwrap();
}

#[test]
fn the_log_ends_with_the_last_step() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let steps = |log_every, name| {
        let config = TrainConfig { log_every, images: 28, ..config(folder.path(), name) };
        train(&network, &config, Arc::default()).unwrap();
        train(&network, &config, Arc::default()).unwrap(); // Nothing is left to do or to log.
        let log = std::fs::read_to_string(config.run.join("log.jsonl")).unwrap();
        let line = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap();
        log.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(steps(3, "three"), [3, 6, 7]);
    assert_eq!(steps(7, "seven"), [7]);
    assert_eq!(steps(50, "fifty"), [7]);
}

#[test]
fn a_start_that_is_no_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first =
        train(&network, &TrainConfig { images: 4, ..config(folder.path(), "first") }, Arc::default()).unwrap();
    let (_, mut weights) = checkpoint::read_with_network(&first.model).unwrap();
    weights.get_mut("stem.conv.weight").unwrap().values[3] = f32::NAN;
    let init = folder.path().join("damaged.safetensors");
    checkpoint::write(&init, &network, &weights, checkpoint::Precision::Half).unwrap();
    let error = train(&network, &TrainConfig { init: Some(init), ..config(folder.path(), "run") }, Arc::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("damaged.safetensors") && error.contains("`stem.conv.weight`"), "{error}");
}

/// Sets values of a run's state.
fn poison(config: &TrainConfig, name: &str, value: f32) {
    let path = config.run.join("state.safetensors");
    let (mut state, network) = checkpoint::read(&path).expect("the run has a state");
    state.get_mut(name).expect("it has these values").values.fill(value);
    checkpoint::write(&path, &network.expect("and a network"), &state, checkpoint::Precision::Single)
        .expect("the folder is ours");
}

#[test]
fn a_run_that_diverges_ends_and_its_last_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let files = |config: &TrainConfig| {
        ["state.safetensors", "model.safetensors"].map(|name| std::fs::read(config.run.join(name)).unwrap())
    };
    let diverged = |name: &str, value: f32, images: u64| {
        let config = TrainConfig { images: 8, save_seconds: 0, ..config(folder.path(), name) };
        train(&network, &config, Arc::default()).unwrap();
        poison(&config, name, value);
        let before = files(&config);
        let error = train(&network, &TrainConfig { images, ..config.clone() }, Arc::default()).unwrap_err();
        assert!(files(&config) == before, "{name}: the checkpoint was overwritten");
        // It can be read again.
        let log = std::fs::read_to_string(config.run.join("log.jsonl")).unwrap();
        assert!(!log.contains("null"), "{log}");
        match error {
            Error::Diverged { step, cause } => (step, cause),
            other => panic!("{other}"),
        }
    };
    // Two steps are good; the next 21 are not, or all of the few that there are.
    for images in [200, 16] {
        let (step, cause) = diverged("learned", 3e38, images);
        assert_eq!(step, 3, "{cause}");
        assert!(cause.contains("is not finite: lower --rate") && cause.contains("of step 2 stays"), "{cause}");
        std::fs::remove_dir_all(folder.path().join("learned")).unwrap();
    }
    // Training does not read the running statistics, so its loss is finite.
    let (step, cause) = diverged("measured", f32::INFINITY, 12);
    assert_eq!(step, 3, "{cause}");
    assert!(cause.contains("running_mean` is not finite"), "{cause}");
}

#[cfg(not(windows))]
#[test]
fn a_folder_serves_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first = config(folder.path(), "run");
    train(&network, &TrainConfig { images: 8, ..first.clone() }, Arc::default()).unwrap();
    let recipe = || std::fs::read_to_string(first.run.join("config.json")).unwrap();
    let (before, log) = (recipe(), std::fs::File::open(first.run.join("log.jsonl")).unwrap());
    log.lock().unwrap();
    let error = train(&network, &first, Arc::default()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    assert_eq!(recipe(), before);
    drop(log);
    assert_eq!(train(&network, &first, Arc::default()).unwrap().images, 48);
}

#[test]
fn every_kind_of_head_trains_and_runs_in_the_detector() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["micro_yolo", "micro_yolo_anchors"] {
        let mut network = zoo::network(name, 2).unwrap();
        network.scale_anchors(64.0 / 416.0);
        let config =
            TrainConfig { images: 240, mosaic: (0.0, 0.0), mixup: 0.0, cover: 0.0, ..config(folder.path(), name) };
        let summary = train(&network, &config, Arc::default()).unwrap();
        let log = std::fs::read_to_string(config.run.join("log.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let loss = |part: &[serde_json::Value]| part.iter().map(|line| line["loss"].as_f64().unwrap()).sum::<f64>();
        let (first, last) = (loss(&lines[..10]), loss(&lines[lines.len() - 10..]));
        assert!(last < 0.9 * first, "{name}: {first} -> {last}");
        assert_eq!(lines[0]["objectness"].is_number(), name == "micro_yolo_anchors");

        let (network, weights) = checkpoint::read_with_network(&summary.model).unwrap();
        let storage = compress::export::Storage::Single;
        let onnx = compress::export::to_onnx(&network, &weights, (64, 64), storage).unwrap();
        let mut detector = micro_yolo::Detector::from_onnx(&onnx).unwrap();
        let grey = vec![114; 96 * 64 * 3];
        detector.detect(micro_yolo::ImageView::rgb(&grey, 96, 64).unwrap()).unwrap();
    }
}

#[test]
fn a_folder_goes_on_only_with_its_own_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first = config(folder.path(), "run");
    train(&network, &first, Arc::default()).unwrap();
    let others = [
        TrainConfig { rate: 1e-3, ..first.clone() },
        TrainConfig { sizes: vec![(96, 0.0)], ..first.clone() },
        TrainConfig { data: [first.data.clone(), first.data.clone()].concat(), ..first.clone() },
    ];
    for other in others {
        let error = train(&network, &other, Arc::default()).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--run", .. }), "{error}");
    }
    // Longer, and on another machine.
    let longer = TrainConfig { images: 64, loader_threads: 1, ..first.clone() };
    let summary = train(&network, &longer, Arc::default()).unwrap();
    assert_eq!((summary.images, log_lines(&first)), (64, 16));
    let text = std::fs::read_to_string(first.run.join("config.json")).unwrap();
    let recipe: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&recipe["config"]["images"], &recipe["network"]["name"]), (&64.into(), &"micro_yolo".into()));
    // What was logged after the last checkpoint is not logged twice; before the first, anything may still change.
    std::fs::remove_file(first.run.join("state.safetensors")).unwrap();
    std::fs::remove_file(first.run.join("model.safetensors")).unwrap();
    train(&network, &TrainConfig { rate: 1e-3, ..first.clone() }, Arc::default()).unwrap();
    assert_eq!(log_lines(&first), 12);
}

#[test]
fn a_folder_of_something_else_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let foreign = [
        ("config.json", r#"{"network":{},"config":{"share":0.15}}"#),
        ("log.jsonl", "{\"event\":\"end\",\"reason\":\"the budget is met\"}\n"),
        ("model.safetensors", "weights"),
    ];
    for (name, text) in foreign {
        let config = config(folder.path(), name);
        std::fs::create_dir(&config.run).unwrap();
        std::fs::write(config.run.join(name), text).unwrap();
        let error = train(&network, &config, Arc::default()).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--run", .. }), "{name}: {error}");
        let files: Vec<_> = std::fs::read_dir(&config.run).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [name]);
        assert_eq!(std::fs::read_to_string(config.run.join(name)).unwrap(), text);
    }
}

#[test]
fn a_run_stopped_before_its_first_step_leaves_nothing_to_go_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first = config(folder.path(), "run");
    let summary = train(&network, &first, Arc::new(AtomicBool::new(true))).unwrap();
    assert!(summary.stopped && summary.images == 0);
    assert!(!first.run.join("state.safetensors").exists() && !summary.model.exists());
    // Another recipe and another start: as if there had been no first command.
    let other = TrainConfig { seed: 4, images: 8, ..first };
    let after = train(&network, &other, Arc::default()).unwrap();
    let alone = TrainConfig { run: folder.path().join("alone"), ..other };
    let expected = train(&network, &alone, Arc::default()).unwrap();
    let weights = |model| checkpoint::read_with_network(model).unwrap().1;
    assert_eq!(weights(&after.model), weights(&expected.model));
}

#[test]
fn a_run_goes_on_at_the_size_of_its_progress() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let first = TrainConfig { sizes: vec![(64, 0.0), (96, 0.25)], images: 8, ..config(folder.path(), "run") };
    train(&network, &first, Arc::default()).unwrap();
    train(&network, &TrainConfig { images: 16, ..first.clone() }, Arc::default()).unwrap();
    let log = std::fs::read_to_string(first.run.join("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sizes: Vec<_> = lines.iter().map(|line| line["size"].as_u64().unwrap()).collect();
    assert_eq!((sizes.len(), &sizes[2..]), (4, &[96, 96][..]));
}

#[test]
fn what_cannot_work_is_refused_with_the_options_name() {
    let folder = tempfile::tempdir().unwrap();
    let network = zoo::network("micro_yolo", 2).unwrap();
    let good = config(folder.path(), "refused");
    let cases = [
        (TrainConfig { batch: 3, replicas: 2, ..good.clone() }, "--batch"),
        (TrainConfig { sizes: vec![(100, 0.0)], ..good.clone() }, "--imgsz"),
        (TrainConfig { sizes: vec![(96, 0.0), (1 << 40, 0.5)], ..good.clone() }, "--imgsz"),
        (TrainConfig { images: 0, ..good.clone() }, "--images"),
        (TrainConfig { minutes: Some(0.0), ..good.clone() }, "--minutes"),
        (TrainConfig { rate: f64::NAN, ..good.clone() }, "--rate"),
        (TrainConfig { decay: f32::NAN, ..good.clone() }, "--decay"),
        (TrainConfig { decay: f32::INFINITY, ..good.clone() }, "--decay"),
        (TrainConfig { init_rate: f32::NAN, ..good.clone() }, "--init-rate"),
        (TrainConfig { teacher_min: f32::NAN, ..good.clone() }, "--teacher-min"),
        (TrainConfig { mixup: f32::NAN, ..good.clone() }, "--mixup"),
        (TrainConfig { int8: true, init: None, ..good.clone() }, "--int8"),
        (TrainConfig { freeze: Some("nothing".into()), ..good.clone() }, "--freeze"),
        (TrainConfig { device: "abacus".into(), ..good.clone() }, "--device"),
        (TrainConfig { data: vec![], ..good.clone() }, "--data"),
    ];
    for (config, option) in cases {
        let error = train(&network, &config, Arc::default()).unwrap_err();
        assert!(error.to_string().contains(option), "{error} should name {option}");
    }
    let other = zoo::network("micro_yolo", 3).unwrap();
    assert!(matches!(train(&other, &good, Arc::default()), Err(Error::Data { .. })), "three classes, a set of two");
    let turned = compress::network::Network { names: vec!["circle".into(), "square".into()], ..network.clone() };
    assert!(matches!(train(&turned, &good, Arc::default()), Err(Error::Data { .. })), "names in another order");

    std::fs::create_dir_all(&good.run).unwrap();
    std::fs::write(good.run.join("state.safetensors"), b"cut").unwrap();
    assert!(matches!(train(&network, &good, Arc::default()), Err(Error::Checkpoint { .. })));
}

/// The first run of docs/train-your-own.md, with fewer and smaller images.
#[test]
fn the_commands_of_the_tutorial_give_a_model_that_finds_things() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let compress = |line: &str| {
        let program = env!("CARGO_BIN_EXE_compress");
        let released = root.join("models/micro-yolo.safetensors").to_str().unwrap().to_owned();
        let samples = root.join("data/samples").to_str().unwrap().to_owned();
        let words = line.split_whitespace().map(|word| match word {
            "RELEASED" => released.clone(),
            "SAMPLES" => samples.clone(),
            word => word.to_owned(),
        });
        let output = std::process::Command::new(program).args(words).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    compress("data tiny --samples SAMPLES --output tiny.json");
    compress("data tiny --samples SAMPLES --output tiny-val.json --count 50 --seed 2");
    compress(
        "train --run first --data tiny.json --network RELEASED --init RELEASED --init-rate 0.2 --rate 2e-3 --decay 0 \
         --warmup 5 --images 480 --imgsz 96",
    );
    compress("export --checkpoint first/model.safetensors --output first.onnx --imgsz 96");
    let told = compress("evaluate --model first.onnx --annotations tiny-val.json --images tiny-val");
    let ap50 = told.lines().find_map(|line| line.strip_prefix("AP50 ")).unwrap_or_else(|| panic!("{told}"));
    // A trial gave 0.84; random boxes give nothing.
    assert!(ap50.trim().parse::<f32>().unwrap() > 0.5, "{told}");
}

/// Page faults take a third of the time where tensors are returned to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_command_keeps_freed_memory_in_its_process() {
    let folder = tempfile::tempdir().unwrap();
    // A pipe that nobody writes to: the command waits for its annotations.
    let pipe = folder.path().join("data.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_compress"));
    command.arg("train").arg("--run").arg(folder.path().join("run")).arg("--data").arg(&pipe);
    let mut child = command.env_remove("MALLOC_ARENA_MAX").spawn().unwrap();
    let environment = || std::fs::read_to_string(format!("/proc/{}/environ", child.id())).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !environment().contains("MALLOC_ARENA_MAX=1\0") && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let found = environment();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found.contains("MALLOC_ARENA_MAX=1\0") && found.contains("MALLOC_TRIM_THRESHOLD_="), "{found}");
}
