//! A training run: replicas make steps together, until the end or an interrupt.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Deserialize;
use tch::Tensor;

use super::config::{
    MAY_CHANGE, TrainConfig, check_options, classes_without_boxes, loader_config, rate, read_data,
};
use super::log::{self, LogLine, RunLog};
use super::model::Layout;
use super::precision::{BadSteps, Fault, LossScale, device_and_kind};
use super::state::{RunState, follow_measured};
use super::worker::{Distiller, FRESH_STEPS, ReplicaResult, Run, TEACHER_FAULT, Turn, Worker, ended};
use crate::checkpoint;
use crate::data::{Dataset, Loader};
use crate::error::{Error, Result};
use crate::export::{self, Storage};
use crate::journal::Journal;
use crate::network::{Graph, Network};
use crate::quantize::{self, Method, Plan, Scale};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of images, including those before an interruption.
    pub images: u64,
    /// Seconds of training, including those before an interruption.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The averaged weights.
    pub model: PathBuf,
}

/// Trains `network` with the options `config`, until the end, an interrupt (`stop`) or an error.
///
/// # Errors
///
/// Data or options that cannot be used, a run folder of another network or recipe, a loss that is not finite, a full
/// disk. The last checkpoint stays.
pub fn train(network: &Network, config: &TrainConfig, stop: Arc<AtomicBool>) -> Result<Summary> {
    let graph = network.graph()?;
    check_options(&graph, network, config)?;
    std::fs::create_dir_all(&config.run).map_err(Error::io(&config.run))?;
    let (device, kind) = device_and_kind(&config.device, config.precision)?;
    let dataset = read_data(config, network)?;
    let network = &Network { names: dataset.classes.clone(), ..network.clone() };
    for problem in &dataset.skipped {
        eprintln!("skipped: {problem}");
    }
    println!("{} images, {} classes, {kind:?} on {device:?}", dataset.images.len(), dataset.classes.len());
    let unknown = classes_without_boxes(&dataset, config.teacher_min);
    if config.learns_labels() && !unknown.is_empty() {
        eprintln!("no boxes to learn of: {}", unknown.join(", "));
    }

    let layout = Layout::new(&graph);
    let mut state = RunState::start(network, &graph, &layout, config, device)?;
    check_folder(&config.run, state.step)?;
    let log_path = config.run.join("log.jsonl");
    let journal = Journal::open::<LogLine>(&log_path)?;
    // Made first, because the search of ranges takes longer than everything that can be wrong with a teacher.
    let distillers = (0..config.replicas).map(|_| Distiller::new(network, &graph, config, device, kind));
    let distillers = distillers.collect::<Result<Vec<_>>>()?;
    let int8 = if config.int8 { Some(int8_plan(network, &graph, &dataset, config)?) } else { None };
    begin_folder(network, config, &state)?;
    let journal = log::up_to(state.step, &log_path, journal)?;

    let share = config.batch / config.replicas;
    let first_batch = state.step * config.replicas as u64;
    let progress = progress_of(config, &state);
    let mut loader = Loader::start(dataset, loader_config(config, share, first_batch, progress))?;
    let mut log = RunLog::new(config, &graph, journal, state.images);
    let run = Run { network, graph: &graph, layout: &layout, config, device, kind, int8 };

    let result = std::thread::scope(|scope| -> Result<bool> {
        let mut workers = Vec::new();
        for distiller in distillers {
            let worker = Worker::spawn(scope, &run, &state, distiller)?;
            // One batch is prepared ahead of the current step.
            worker.send_batch.send(loader.next_batch()?).map_err(ended)?;
            workers.push(worker);
        }
        run.learn(&workers, &mut loader, &mut state, &mut log, &stop)
    });
    log.bar.finish_and_clear();
    Ok(Summary {
        stopped: result?,
        images: state.images,
        seconds: state.seconds,
        model: config.run.join("model.safetensors"),
    })
}

impl Run<'_> {
    /// Makes steps until the run's end or `stop`, and saves the state. Returns whether it was stopped.
    fn learn(
        &self,
        workers: &[Worker],
        loader: &mut Loader,
        state: &mut RunState,
        log: &mut RunLog,
        stop: &AtomicBool,
    ) -> Result<bool> {
        let Run { network, layout, config, kind, .. } = *self;
        let scales = self.int8.as_ref().map(|plan| plan.scales(self.graph)).unwrap_or_default();
        let started = Instant::now();
        let earlier = state.seconds;
        let mut last_save = Instant::now();
        let mut bad_steps = BadSteps::default();
        let mut saved = state.step;
        let mut loss_scale = LossScale::of(kind);
        let reuse = config.distill.as_ref().map_or(1, |distill| distill.reuse);
        let first_step = state.step;
        // The image size and the learning rate of the last step, if no line of the log has it yet.
        let mut unlogged = None;
        loop {
            state.seconds = earlier + started.elapsed().as_secs_f64();
            let progress = progress_of(config, state);
            let stopped = stop.load(Ordering::Relaxed);
            if progress >= 1.0 || stopped {
                if let (Some(fault), false) = (bad_steps.at_end(state.step), stopped) {
                    return Err(diverged(fault, saved, config));
                }
                // Without a step there is nothing to continue, and the next command may have another recipe.
                if state.step > 0 {
                    state.save(network, layout, config, &scales)?;
                }
                // A short run would otherwise have no line at all.
                if let (Some((size, rate)), false) = (unlogged, stopped) {
                    log.write(state, progress, size, rate)?;
                }
                return Ok(stopped);
            }
            loader.set_progress(progress);
            let is_fresh = state.step - first_step < FRESH_STEPS || state.step.is_multiple_of(reuse);
            let taught = take_turn(workers, loader, Turn { scale: loss_scale.now, is_fresh })?;

            state.step += 1;
            state.images += config.batch as u64;
            let rate = rate(config, state.step, progress);
            let mut fault = taught.fault();
            let mut norm = f64::NAN;
            if fault.is_none() {
                norm = state.optimizer.step(&mut state.learned, taught.gradient, state.step, rate);
                fault =
                    (!norm.is_finite()).then_some("the gradient is not finite: lower --rate, in another folder");
            }
            loss_scale.follow(fault.is_none());
            let measured: Vec<&Tensor> = workers.iter().map(|worker| &worker.measured).collect();
            follow_measured(&mut state.measured, &measured, fault.is_none());
            if let Some(fault) = bad_steps.follow(state.step, fault) {
                return Err(diverged(fault, saved, config));
            }
            if fault.is_some() {
                continue;
            }
            state.follow_average(config.average_over);

            log.add(&taught.losses, norm, state.images);
            unlogged = Some((taught.size, rate));
            if state.step.is_multiple_of(config.log_every) {
                log.write(state, progress, taught.size, rate)?;
                unlogged = None;
            }
            if last_save.elapsed().as_secs() >= config.save_seconds {
                state.save(network, layout, config, &scales)?;
                saved = state.step;
                last_save = Instant::now();
            }
        }
    }
}

/// The error of a run that diverged. `saved` is the step of the last checkpoint, 0 if there is none.
fn diverged((step, fault): Fault, saved: u64, config: &TrainConfig) -> Error {
    if let (TEACHER_FAULT, Some(distill)) = (fault, &config.distill) {
        let problem = format!("from step {step} on {fault}");
        return Error::Teacher { path: distill.teacher.clone(), problem };
    }
    let kept = match saved {
        0 => "nothing is saved".to_owned(),
        saved => format!("the checkpoint of step {saved} stays in {}", config.run.display()),
    };
    Error::Diverged { step, cause: format!("{fault}; {kept}") }
}

/// One step of all replicas. Returns the mean of their results.
fn take_turn(workers: &[Worker], loader: &mut Loader, turn: Turn) -> Result<ReplicaResult> {
    for worker in workers {
        worker.start.send(turn).map_err(ended)?;
    }
    for worker in workers.iter().filter(|_| turn.is_fresh) {
        worker.send_batch.send(loader.next_batch()?).map_err(ended)?;
    }
    let mut size = 0;
    let mut teacher_fails = false;
    let mut losses = [0.0; 5];
    let mut gradient: Option<Tensor> = None;
    for worker in workers {
        let result = worker.results.recv().map_err(ended)??;
        size = result.size;
        teacher_fails |= result.teacher_fails;
        for (mean, value) in losses.iter_mut().zip(result.losses) {
            *mean += value / workers.len() as f64;
        }
        gradient = Some(match gradient {
            None => result.gradient,
            Some(sum) => sum + result.gradient,
        });
    }
    let Some(gradient) = gradient else { return Err(Error::Training("no replicas".into())) };
    Ok(ReplicaResult { size, gradient: gradient / workers.len() as f64, losses, teacher_fails })
}

/// Checks whether [`train`] would start: options, data and teacher fit the network. Writes nothing.
///
/// # Errors
///
/// As for [`train`].
pub fn check(network: &Network, config: &TrainConfig) -> Result<()> {
    let graph = network.graph()?;
    check_options(&graph, network, config)?;
    let (device, kind) = device_and_kind(&config.device, config.precision)?;
    let dataset = read_data(config, network)?;
    let network = Network { names: dataset.classes, ..network.clone() };
    Distiller::new(&network, &graph, config, device, kind).map(|_| ())
}

/// The progress of a run, 0–1: the share of its images or of its minutes, whichever is larger.
fn progress_of(config: &TrainConfig, state: &RunState) -> f32 {
    let by_time = config.minutes.map_or(0.0, |minutes| state.seconds / (minutes * 60.0));
    (state.images as f64 / config.images as f64).max(by_time).min(1.0) as f32
}

/// Checks that the folder contains no files of another kind of run, which would be lost. `step` is that of the last
/// checkpoint (0: none). Changes nothing.
fn check_folder(run: &std::path::Path, step: u64) -> Result<()> {
    let foreign = |what: &str| {
        let problem = format!("{} holds {what}: take another folder", run.display());
        Err(Error::Option { option: "--run", problem })
    };
    let read = |name: &str| std::fs::read_to_string(run.join(name));
    if let Ok(config) = read("config.json")
        && step == 0
    {
        let config: serde_json::Value =
            serde_json::from_str(&config).map_err(Error::json(run.join("config.json")))?;
        if TrainConfig::deserialize(&config["config"]).is_err() {
            return foreign("another kind of run than a training");
        }
    }
    let log = run.join("log.jsonl");
    if log.exists() && crate::journal::read::<LogLine>(&log).is_err() {
        return foreign("a `log.jsonl` of another kind of run");
    }
    if run.join("model.safetensors").exists() && !run.join("state.safetensors").exists() {
        return foreign("a `model.safetensors` without the `state.safetensors` of a training");
    }
    Ok(())
}

/// Creates the folder of a new run. For a continued run, checks that the recipe is the same and reports permitted
/// changes.
fn begin_folder(network: &Network, config: &TrainConfig, state: &RunState) -> Result<()> {
    if state.step == 0 {
        // A run killed before its first checkpoint starts again.
        let path = config.run.join("config.json");
        if path.exists() {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    } else {
        println!("going on after {} images", state.images);
    }
    for change in crate::run::same_recipe(network, config, &config.run, true, &MAY_CHANGE)? {
        println!("{change}");
    }
    Ok(())
}

/// Number of photographs for choosing int8 scales.
const CALIBRATION_IMAGES: usize = 64;

/// The scales with which `--init` was trained. If it was trained in floats, scales for it at the network's last input
/// size. A resumed run gets the same ones.
fn int8_plan(network: &Network, graph: &Graph, dataset: &Dataset, config: &TrainConfig) -> Result<Plan> {
    let Some(init) = &config.init else {
        let problem = "needs --init: a trained network, whose scales can be chosen".into();
        return Err(Error::Option { option: "--int8", problem });
    };
    if let Some(scales) = quantize::scales_by_place(graph, &checkpoint::read_scales(init)?) {
        return Ok(Plan::with_scales(graph, &scales));
    }
    let (weights, _) = checkpoint::read(init)?;
    let side = config.sizes[config.sizes.len() - 1].0;
    let files = dataset.images.iter().map(|image| image.path.clone()).collect();
    let images = quantize::photographs(files, CALIBRATION_IMAGES, side, config.seed, config.bad_data)?;
    let calibration = quantize::calibrate(network, &weights, &images, side, &|_| ())?;
    // Without clipping, one outlier would use up the range of all other values.
    let start = calibration.scales(Method::Percentile(99.99));
    let float = export::to_onnx(network, &weights, (side, side), Storage::Single)?;
    let rounded = quantize::round(network, &weights, &calibration.windows, 8)?;
    let plan = |scales: &[Scale]| Plan::with_scales(graph, scales);
    let write = |scales: &[Scale]| quantize::to_onnx(network, &weights, &rounded, (side, side), &plan(scales));
    println!("searching the ranges of int8");
    let scales = quantize::search(&float, &start, calibration.places[0], &images, side, write, &|_| ())?;
    Ok(plan(&scales))
}
