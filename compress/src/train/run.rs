//! A training run: replicas, schedule, log, checkpoints.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::criterion::{Criterion, Lesson};
use super::distill::{self, Hints, Stage};
use super::loss::Loss;
use super::model::{Layout, Replica, initial, last_frozen};
use super::optimizer::{AdamW, average_keep};
use super::replay::{Replay, Start};
use super::teacher::{Answer, Teacher};
use super::tensor::to_vec;
use crate::checkpoint::{self, Array, TensorSpec, Weights};
use crate::data::{BadData, Batch, Dataset, Loader, LoaderConfig};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::network::{Graph, Head, Network};
use crate::quantize::{self, Method, Plan};

/// What activations are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 16-bit floats on CUDA. On a CPU, bfloat16 if it supports that, else 32-bit floats.
    Auto,
    /// bfloat16.
    Bf16,
    /// 16-bit floats with loss scaling (Micikevicius et al. 2018). The fastest on CUDA, 1.4 times as fast as bfloat16,
    /// because cuDNN normalises them in fewer passes than libtorch does bfloat16. The slowest on a CPU.
    F16,
    /// 32-bit floats.
    F32,
}

/// Learning from another network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distillation {
    /// A checkpoint of ours, or a TorchScript module as docs/train-your-own.md describes.
    pub teacher: PathBuf,
    /// What is learned from it.
    pub stage: Stage,
    /// How many times an image serves with the teacher's answer to it.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub reuse: u64,
    /// Gibibytes of images and answers to keep for that.
    #[serde(default = "reuse_gib")]
    pub reuse_gib: f64,
}

impl Distillation {
    /// Of every image once.
    pub fn new(teacher: PathBuf, stage: Stage) -> Distillation {
        Distillation { teacher, stage, reuse: once(), reuse_gib: reuse_gib() }
    }
}

fn once() -> u64 {
    1
}

fn reuse_gib() -> f64 {
    2.0
}

fn is_once(times: &u64) -> bool {
    *times == 1
}

/// Everything that decides a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The run's folder.
    pub run: PathBuf,
    /// Annotation files with the folders of their images.
    pub data: Vec<(PathBuf, PathBuf)>,
    /// Folders of photographs without boxes, for learning from a teacher alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub photos: Vec<PathBuf>,
    /// Weights to start from: whatever fits by name and shape is taken.
    pub init: Option<PathBuf>,
    /// Learning rate of what was taken, as a share.
    pub init_rate: f32,
    /// The last layer that is not trained at all.
    pub freeze: Option<String>,
    /// Rounds weights and activations to the bytes that `compress quantize` would make of the network that the run
    /// starts from, so that it is trained with the rounding error.
    pub int8: bool,
    /// A network to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distillation>,
    /// Images to see; mosaics count as one.
    pub images: u64,
    /// Minutes after which the run must end; the schedule follows whichever is further, images or minutes.
    pub minutes: Option<f64>,
    /// Images a step, over all replicas.
    pub batch: usize,
    /// Sides in pixels with the progress (0–1) from which they are used.
    pub sizes: Vec<(usize, f32)>,
    /// Share of mosaics, and the progress from which there are none.
    pub mosaic: (f32, f32),
    /// Share of double exposures, while there are mosaics.
    pub mixup: f32,
    /// Share of samples of which parts are covered, while there are mosaics.
    pub cover: f32,
    /// Photographs of a class that less than this share of all photographs shows are drawn more often.
    pub rare: f32,
    /// How many times as often fully labelled photographs are drawn, and those with VOC's classes labelled.
    pub draw: [f32; 2],
    /// Teacher's boxes below this score are ignored.
    pub teacher_min: f32,
    /// Peak learning rate.
    pub rate: f64,
    /// Whether the rate is a share of each tensor's own size, its root mean square when the run starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative_rate: bool,
    /// Learning rate at the end, as a share of the peak.
    pub final_rate: f64,
    /// The share of all steps that the model is an average of, if that is more than the last thousand.
    pub average_over: f64,
    /// Weight decay of convolution weights.
    pub decay: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Decides everything random.
    pub seed: u64,
    /// Copies of the network, each on its own thread (CPU) with its share of the batch.
    pub replicas: usize,
    /// Threads that prepare batches.
    pub loader_threads: usize,
    /// Gibibytes of decoded photographs to keep.
    pub keep_gib: f64,
    /// What activations are computed in.
    pub precision: Precision,
    /// `cpu` or `cuda`.
    pub device: String,
    /// What to do about data that cannot be used.
    #[serde(skip)]
    pub bad_data: BadData,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Seconds between checkpoints.
    pub save_seconds: u64,
}

/// Fields of a [`TrainConfig`] that may change when a run is resumed. Some depend on the machine only. The length may
/// change, too: the schedule then follows the new length from the current point. With any other change the run could
/// not be reproduced.
const MAY_CHANGE: [&str; 10] = [
    "run",
    "images",
    "minutes",
    "replicas",
    "loader_threads",
    "keep_gib",
    "precision",
    "device",
    "log_every",
    "save_seconds",
];

impl TrainConfig {
    /// What must not change when a run goes on.
    pub(crate) fn lasting(&self) -> serde_json::Value {
        let mut fields = serde_json::json!(self);
        if let Some(fields) = fields.as_object_mut() {
            MAY_CHANGE.iter().for_each(|name| {
                fields.remove(*name);
            });
        }
        fields
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Images seen, over all its parts.
    pub images: u64,
    /// Seconds of training, over all its parts.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The averaged weights.
    pub model: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct LogLine {
    images: u64,
    step: u64,
    seconds: f64,
    progress: f32,
    size: usize,
    rate: f64,
    loss: f64,
    class: f64,
    bbox: f64,
    /// Only of heads that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objectness: Option<f64>,
    /// The share of the teacher's inner maps that is not explained; only with a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maps: Option<f64>,
    gradient: f64,
    images_per_second: f64,
}

/// What is saved and resumed of a run.
struct RunState {
    learned: Tensor,
    average: Tensor,
    measured: Tensor,
    average_measured: Tensor,
    optimizer: AdamW,
    step: u64,
    images: u64,
    seconds: f64,
}

/// Trains `network` as `config` says, until its end, an interrupt (`stop`) or an error.
///
/// # Errors
///
/// Data or options that cannot be used, a run folder of another network or recipe, a loss that is no number, a full
/// disk. What was learned until the last checkpoint stays.
pub fn train(network: &Network, config: &TrainConfig, stop: Arc<AtomicBool>) -> Result<Summary> {
    let graph = network.graph()?;
    check_options(&graph, network, config)?;
    std::fs::create_dir_all(&config.run).map_err(Error::io(&config.run))?;
    let (device, kind) = device_and_kind(config)?;
    let dataset = read_data(config, network)?;
    let network = &Network { names: dataset.classes.clone(), ..network.clone() };
    for problem in &dataset.skipped {
        eprintln!("skipped: {problem}");
    }
    println!("{} images, {} classes, {kind:?} on {device:?}", dataset.images.len(), dataset.classes.len());

    let layout = Layout::new(&graph);
    let mut state = RunState::start(network, &graph, &layout, config, device)?;
    check_folder(&config.run, state.step)?;
    let int8 = if config.int8 { Some(int8_plan(network, &graph, &dataset, config)?) } else { None };
    begin_folder(network, config, &state)?;
    let lines = open_log(&config.run.join("log.jsonl"), state.step)?;

    let share = config.batch / config.replicas;
    let first_batch = state.step * config.replicas as u64;
    let progress = progress_of(config, &state);
    let mut loader = Loader::start(dataset, loader_config(config, share, first_batch, progress))?;
    let mut log = RunLog::new(config, &graph, lines, state.images);
    let run = Run { network, graph: &graph, layout: &layout, config, device, kind, int8 };

    let result = std::thread::scope(|scope| -> Result<bool> {
        let mut workers = Vec::new();
        for _ in 0..config.replicas {
            let worker = Worker::spawn(scope, &run, &state)?;
            // One batch ahead of the step that it is for.
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

/// What stays as it is during a run.
struct Run<'a> {
    network: &'a Network,
    graph: &'a Graph,
    layout: &'a Layout,
    config: &'a TrainConfig,
    device: Device,
    kind: Kind,
    int8: Option<Plan>,
}

impl Run<'_> {
    /// Takes steps until the run's end or `stop`, and saves the state; returns whether it was stopped.
    fn learn(
        &self,
        workers: &[Worker],
        loader: &mut Loader,
        state: &mut RunState,
        log: &mut RunLog,
        stop: &AtomicBool,
    ) -> Result<bool> {
        let Run { network, layout, config, kind, .. } = *self;
        let started = Instant::now();
        let earlier = state.seconds;
        let mut last_save = Instant::now();
        let mut bad_steps = 0;
        let mut loss_scale = LossScale::of(kind);
        let reuse = config.distill.as_ref().map_or(1, |distill| distill.reuse);
        let first_step = state.step;
        loop {
            state.seconds = earlier + started.elapsed().as_secs_f64();
            let progress = progress_of(config, state);
            let stopped = stop.load(Ordering::Relaxed);
            if progress >= 1.0 || stopped {
                // Without a step there is nothing to go on from, and the next command may have another recipe.
                if state.step > 0 {
                    state.save(network, layout, config)?;
                }
                return Ok(stopped);
            }
            loader.set_progress(progress);
            let is_fresh = state.step - first_step < FRESH_STEPS || state.step.is_multiple_of(reuse);
            let taught = take_turn(workers, loader, Turn { scale: loss_scale.now, is_fresh })?;

            state.step += 1;
            state.images += config.batch as u64;
            let rate = rate(config, state.step, progress);
            let norm = state.optimizer.step(&mut state.learned, taught.gradient, state.step, rate);
            loss_scale.follow(norm.is_finite());
            let measured: Vec<&Tensor> = workers.iter().map(|worker| &worker.measured).collect();
            follow_measured(&mut state.measured, &measured, norm.is_finite());
            if !norm.is_finite() {
                // A single overflow costs a step; a diverged run must not continue for hours.
                bad_steps += 1;
                if bad_steps > 20 {
                    return Err(Error::Training("the loss is no number any more: lower --rate".into()));
                }
                continue;
            }
            bad_steps = 0;
            state.follow_average(config.average_over);

            log.add(&taught.losses, norm, state.images);
            if state.step.is_multiple_of(config.log_every) {
                log.write(state, progress, taught.size, rate)?;
            }
            if last_save.elapsed().as_secs() >= config.save_seconds {
                state.save(network, layout, config)?;
                last_save = Instant::now();
            }
        }
    }
}

/// One step of all replicas: the means of what they give.
fn take_turn(workers: &[Worker], loader: &mut Loader, turn: Turn) -> Result<ReplicaResult> {
    for worker in workers {
        worker.start.send(turn).map_err(ended)?;
    }
    for worker in workers.iter().filter(|_| turn.is_fresh) {
        worker.send_batch.send(loader.next_batch()?).map_err(ended)?;
    }
    let mut size = 0;
    let mut losses = [0.0; 5];
    let mut gradient: Option<Tensor> = None;
    for worker in workers {
        let result = worker.results.recv().map_err(ended)??;
        size = result.size;
        for (mean, value) in losses.iter_mut().zip(result.losses) {
            *mean += value / workers.len() as f64;
        }
        gradient = Some(match gradient {
            None => result.gradient,
            Some(sum) => sum + result.gradient,
        });
    }
    let Some(gradient) = gradient else { return Err(Error::Training("no replicas".into())) };
    Ok(ReplicaResult { size, gradient: gradient / workers.len() as f64, losses })
}

/// The error of a channel whose other end is gone.
fn ended<E>(_: E) -> Error {
    Error::Training("a replica ended".into())
}

/// What a run tells: its log, and its progress on the terminal.
struct RunLog<'a> {
    config: &'a TrainConfig,
    has_objectness: bool,
    lines: Journal,
    bar: indicatif::ProgressBar,
    /// Over the steps since the last line: the losses of a [`ReplicaResult`], the gradient's length, and 1 for each.
    sums: [f64; 7],
    /// The ends of the last 200 steps and the images seen until then, for the speed.
    recent: VecDeque<(Instant, u64)>,
}

impl RunLog<'_> {
    fn new<'a>(config: &'a TrainConfig, graph: &Graph, lines: Journal, images: u64) -> RunLog<'a> {
        RunLog {
            config,
            has_objectness: matches!(graph.head(), Some(Head::Anchors { .. })),
            lines,
            bar: progress_bar(config.images, images),
            sums: [0.0; 7],
            recent: VecDeque::new(),
        }
    }

    /// Takes a step, after which `images` have been seen.
    fn add(&mut self, losses: &[f64; 5], gradient: f64, images: u64) {
        let values = losses.iter().copied().chain([gradient, 1.0]);
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.recent.push_back((Instant::now(), images));
        if self.recent.len() > 200 {
            self.recent.pop_front();
        }
        self.bar.set_position(images);
    }

    /// Writes a line with the means of the steps since the last one.
    fn write(&mut self, state: &RunState, progress: f32, size: usize, rate: f64) -> Result<()> {
        let [loss, class, bbox, object, maps, gradient, count] = std::mem::take(&mut self.sums);
        let speed = match self.recent.front() {
            Some((then, images)) => (state.images - images) as f64 / then.elapsed().as_secs_f64().max(1e-9),
            None => 0.0,
        };
        let line = LogLine {
            images: state.images,
            step: state.step,
            seconds: state.seconds,
            progress,
            size,
            rate,
            loss: loss / count,
            class: class / count,
            bbox: bbox / count,
            objectness: self.has_objectness.then_some(object / count),
            maps: self.config.distill.is_some().then_some(maps / count),
            gradient: gradient / count,
            images_per_second: speed,
        };
        self.lines.write(&line)?;
        let left = seconds_left(self.config, state, progress, speed);
        let message = format!(
            "{:.0} images/s, loss {:.2} (boxes {:.3}), {size} px, {} left",
            speed,
            line.loss,
            line.bbox,
            indicatif::HumanDuration(Duration::from_secs_f64(left))
        );
        if self.bar.is_hidden() {
            println!("{} images, {message}", state.images);
        } else {
            self.bar.set_message(message);
        }
        Ok(())
    }
}

/// Whether [`train`] would begin: options, data and teacher fit the network. Writes nothing.
///
/// # Errors
///
/// As [`train`]'s.
pub fn check(network: &Network, config: &TrainConfig) -> Result<()> {
    let graph = network.graph()?;
    check_options(&graph, network, config)?;
    let (device, kind) = device_and_kind(config)?;
    let dataset = read_data(config, network)?;
    let network = Network { names: dataset.classes, ..network.clone() };
    Tutor::new(&network, &graph, config, device, kind).map(|_| ())
}

/// What a run computes on and in.
///
/// # Errors
///
/// [`Error::Option`] for floats that libtorch is not safe in here.
pub(super) fn device_and_kind(config: &TrainConfig) -> Result<(Device, Kind)> {
    let device = device(&config.device)?;
    let kind = match (config.precision, device) {
        (Precision::F16, Device::Cpu) if !has_safe_f16() => {
            let problem =
                "libtorch's 16-bit kernels write beyond their memory on processors without AVX-512: take f32";
            return Err(Error::Option { option: "--precision", problem: problem.into() });
        }
        (Precision::F32, _) => Kind::Float,
        (Precision::F16, _) | (Precision::Auto, Device::Cuda(_)) => Kind::Half,
        (Precision::Auto, Device::Cpu) if !has_bf16() => Kind::Float,
        _ => Kind::BFloat16,
    };
    Ok((device, kind))
}

/// The progress of a run, 0–1: the share of its images or of its minutes, whichever is further.
fn progress_of(config: &TrainConfig, state: &RunState) -> f32 {
    let by_time = config.minutes.map_or(0.0, |minutes| state.seconds / (minutes * 60.0));
    (state.images as f64 / config.images as f64).max(by_time).min(1.0) as f32
}

/// After a step, the mean of what the replicas' normalisations have measured. After a step that was skipped, which may
/// have left values that are no numbers, the replicas get back what was measured before it.
fn follow_measured(mean: &mut Tensor, replicas: &[&Tensor], is_good: bool) {
    tch::no_grad(|| {
        if is_good {
            *mean = Tensor::stack(replicas, 0).mean_dim([0].as_slice(), false, Kind::Float);
        } else {
            for replica in replicas {
                replica.shallow_clone().copy_(mean);
            }
        }
    });
}

/// How batches of `batch` samples are made, from the `first_batch`th on, at a run's `progress`.
pub(super) fn loader_config(config: &TrainConfig, batch: usize, first_batch: u64, progress: f32) -> LoaderConfig {
    LoaderConfig {
        batch,
        first_batch,
        progress,
        seed: config.seed,
        threads: config.loader_threads,
        keep_bytes: (config.keep_gib * (1u64 << 30) as f64) as usize,
        draw: config.draw,
        teacher_min: config.teacher_min,
        mosaic: config.mosaic,
        mixup: config.mixup,
        cover: config.cover,
        rare: config.rare,
        sizes: config.sizes.clone(),
        bad_data: config.bad_data,
    }
}

/// Whether the folder of a run whose last checkpoint is of `step` (0: none) has nothing of another kind of run, which
/// would be lost. Changes nothing.
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

/// Makes the folder of a run that starts, or checks that the recipe of one that goes on is the same, and says what has
/// changed.
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

/// The log up to `step`: steps after the last checkpoint are repeated, and must not be logged twice.
fn open_log(path: &std::path::Path, step: u64) -> Result<Journal> {
    let (journal, lines) = Journal::open::<LogLine>(path)?;
    if lines.iter().all(|line| line.step <= step) {
        return Ok(journal);
    }
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.step <= step) {
        text.push_str(&serde_json::to_string(line).map_err(Error::json(path))?);
        text.push('\n');
    }
    checkpoint::write_whole(path, text.as_bytes())?;
    Ok(Journal::open::<LogLine>(path)?.0)
}

/// The threads of a replica, as the run sees them.
struct Worker {
    send_batch: mpsc::SyncSender<Batch>,
    /// Begins a step: the weights are those of the step before until then.
    start: mpsc::SyncSender<Turn>,
    results: mpsc::Receiver<Result<ReplicaResult>>,
    /// Of its normalisations.
    measured: Tensor,
}

impl Worker {
    /// Starts the threads of a replica that learns the weights of `state`.
    fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, run: &Run, state: &RunState) -> Result<Worker> {
        let Run { network, graph, layout, config, device, kind, ref int8 } = *run;
        let measured = state.measured.copy();
        let replica = Replica::new(
            network,
            layout,
            &state.learned,
            measured.shallow_clone(),
            kind,
            config.freeze.as_deref(),
            int8.clone(),
        )?;
        let (send_batch, batches) = mpsc::sync_channel(1);
        let (send_lesson, lessons) = mpsc::sync_channel(1);
        let (start, starts) = mpsc::sync_channel(1);
        let (send_result, results) = mpsc::sync_channel(1);
        let criterion = Criterion::new(graph).ok_or_else(|| Error::Training("there is no head".into()))?;
        let pupil = Pupil { replica, criterion, tutor: Tutor::new(network, graph, config, device, kind)? };
        let classes = network.classes;
        scope.spawn(move || carrier(classes, device, batches, send_lesson));
        scope.spawn(move || worker(pupil, device, lessons, starts, send_result));
        Ok(Worker { send_batch, start, results, measured })
    }
}

/// Steps at the start of a run whose images are all new ones, so that there are some to serve again.
const FRESH_STEPS: u64 = 16;

/// A step of a replica.
#[derive(Clone, Copy)]
struct Turn {
    /// What the loss is multiplied by.
    scale: f64,
    /// Whether it takes a new batch, instead of images that the teacher has seen already.
    is_fresh: bool,
}

/// A replica's result for its share of a batch, or the mean of all replicas'.
struct ReplicaResult {
    size: usize,
    gradient: Tensor,
    /// Total, classes, boxes, objectness, a teacher's maps.
    losses: [f64; 5],
}

/// A replica and what it learns by.
struct Pupil {
    replica: Replica,
    criterion: Criterion,
    tutor: Option<Tutor>,
}

/// A teacher and what a student learns from it.
struct Tutor {
    teacher: Teacher,
    stage: Stage,
    hints: Hints,
    /// Only where images serve more than once.
    replay: Option<Replay>,
    /// Whether it is the maps of frozen layers that serve more than once.
    keeps_frozen: bool,
}

impl Tutor {
    /// That of a run; none for one without a teacher.
    fn new(
        network: &Network,
        graph: &Graph,
        config: &TrainConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Option<Tutor>> {
        let Some(Distillation { teacher, stage, reuse, reuse_gib }) = &config.distill else { return Ok(None) };
        let frozen = last_frozen(network, graph, config.freeze.as_deref());
        // Parts learn from the teacher's maps, of frozen layers as well.
        let hints = Hints::new(network, graph, if *stage == Stage::Parts { 0 } else { frozen });
        if *stage == Stage::Parts && hints.nodes.is_empty() {
            let problem = "`parts` needs layers that name the teacher's map that they stand for (`teacher`)".into();
            return Err(Error::Option { option: "--stage", problem });
        }
        let wanted: Vec<&str> = hints.names.iter().map(String::as_str).collect();
        let teacher = Teacher::load(teacher, network, &wanted, device, kind)?;
        let bytes = (reuse_gib * (1u64 << 30) as f64) as usize / config.replicas;
        let replay = (*reuse > 1).then(|| Replay::new(bytes, config.seed));
        let keeps_frozen = replay.is_some() && frozen > 0 && *stage == Stage::Whole;
        Ok(Some(Tutor { teacher, stage: *stage, hints, replay, keeps_frozen }))
    }

    /// What a forward pass of the student, `replica`, begins with and the teacher's answer: to the images of `lesson`, or
    /// to ones it has seen.
    fn start(&mut self, lesson: Option<&Lesson>, replica: &mut Replica) -> Result<(Start, Answer)> {
        if let Some(Lesson { rgb, size, .. }) = lesson {
            let answer = self.teacher.look(rgb)?;
            let start = if self.keeps_frozen {
                Start::Frozen { maps: replica.frozen_maps(rgb)?, size: *size }
            } else {
                Start::Images(rgb.shallow_clone())
            };
            if let Some(replay) = &mut self.replay {
                replay.keep(&start, &answer);
            }
            return Ok((start, answer));
        }
        let drawn = self.replay.as_mut().map(Replay::draw).transpose()?.flatten();
        drawn.ok_or_else(|| Error::Training("there are no images to serve again".into()))
    }
}

impl Pupil {
    /// What is to be learned from a lesson, or without one from images that the teacher has seen already, and their side
    /// in pixels.
    fn loss(&mut self, lesson: Option<&Lesson>) -> Result<(Loss, usize)> {
        let Pupil { replica, criterion, tutor } = self;
        let no_lesson = || Error::Training("there is no lesson".into());
        let Some(tutor) = tutor else {
            let lesson = lesson.ok_or_else(no_lesson)?;
            let predictions = replica.forward(&lesson.rgb)?;
            return Ok((criterion.loss(&predictions, lesson)?, lesson.size));
        };
        let (start, mut answer) = tutor.start(lesson, replica)?;
        let size = start.size();
        let Tutor { stage, hints, .. } = tutor;
        answer.maps = hints.of(answer.maps)?;
        let given = (*stage == Stage::Parts).then_some(&answer.maps[..]);
        let (predictions, maps) = match &start {
            Start::Images(rgb) => replica.forward_with(rgb, &hints.nodes, given)?,
            Start::Frozen { maps, .. } => replica.forward_behind(maps, &hints.nodes)?,
        };
        let unexplained = hints.unexplained(&maps, &answer.maps)?;
        let whole = distill::whole(&predictions, &answer, unexplained, &mut criterion.geometry, size)?;
        let loss = match stage {
            Stage::Parts | Stage::Whole => whole,
            Stage::Labels => whole.and(criterion.loss(&predictions, lesson.ok_or_else(no_lesson)?)?),
        };
        Ok((loss, size))
    }
}

/// Takes batches to the device while the replica learns from an earlier one.
fn carrier(
    classes: usize,
    device: Device,
    batches: mpsc::Receiver<Batch>,
    lessons: mpsc::SyncSender<Result<Lesson>>,
) {
    for batch in batches {
        if lessons.send(Lesson::new(batch, classes, device)).is_err() {
            return;
        }
    }
}

fn worker(
    mut pupil: Pupil,
    device: Device,
    lessons: mpsc::Receiver<Result<Lesson>>,
    starts: mpsc::Receiver<Turn>,
    results: mpsc::SyncSender<Result<ReplicaResult>>,
) {
    // Parallelism is over replicas: on two cores, two with one thread each are faster than one with two threads.
    if device == Device::Cpu {
        tch::set_num_threads(1);
    }
    let mut learn = |lesson: Option<&Lesson>, scale: f64| -> Result<ReplicaResult> {
        let (loss, size) = pupil.loss(lesson)?;
        (&loss.total * scale).f_backward()?;
        Ok(ReplicaResult {
            size,
            gradient: pupil.replica.take_gradients()? / scale,
            losses: [loss.total.double_value(&[]), loss.class(), loss.bbox(), loss.object(), loss.maps()],
        })
    };
    for Turn { scale, is_fresh } in starts {
        let result = if is_fresh {
            let Ok(lesson) = lessons.recv() else { return };
            lesson.and_then(|lesson| learn(Some(&lesson), scale))
        } else {
            learn(None, scale)
        };
        if results.send(result).is_err() {
            return;
        }
    }
}

/// What the loss is multiplied by, so that gradients stay in the range of the floats that they are computed in: halved
/// when one leaves it, which costs a step, and doubled when none has for long.
pub(super) struct LossScale {
    /// What it is for the next step.
    pub(super) now: f64,
    most: f64,
    good_steps: u32,
}

impl LossScale {
    pub(super) fn of(kind: Kind) -> LossScale {
        // Of the floats here only 16-bit ones have a smaller range than gradients need.
        let (now, most) = if kind == Kind::Half { (16_384.0, 65_536.0) } else { (1.0, 1.0) };
        LossScale { now, most, good_steps: 0 }
    }

    /// After a step whose gradient was finite, or not.
    pub(super) fn follow(&mut self, finite: bool) {
        self.good_steps = if finite { self.good_steps + 1 } else { 0 };
        if !finite {
            self.now = (self.now / 2.0).max(1.0);
        } else if self.good_steps.is_multiple_of(1000) {
            self.now = (self.now * 2.0).min(self.most);
        }
    }
}

/// Linear warm-up, then a cosine down to the final rate.
pub(super) fn rate(config: &TrainConfig, step: u64, progress: f32) -> f64 {
    let warm = (step as f64 / config.warmup.max(1) as f64).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress as f64).cos());
    config.rate * warm * (config.final_rate + (1.0 - config.final_rate) * cosine)
}

fn seconds_left(config: &TrainConfig, state: &RunState, progress: f32, speed: f64) -> f64 {
    let by_images = (config.images.saturating_sub(state.images)) as f64 / speed.max(1e-3);
    let by_time = config.minutes.map_or(f64::INFINITY, |minutes| (minutes * 60.0 - state.seconds).max(0.0));
    if progress >= 1.0 { 0.0 } else { by_images.min(by_time) }
}

fn progress_bar(images: u64, position: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(images).with_position(position);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Whether this processor multiplies bfloat16; without, it is several times slower than 32-bit floats.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether libtorch computes in 16-bit floats here without damage: 2.11 corrupts the heap where there is only AVX2, as a few
/// convolutions and their gradients in PyTorch show.
pub(super) fn has_safe_f16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

pub(super) fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        // Without cuDNN's trials of its algorithms: the first step took 20 to 40 seconds with them, 10 without.
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => Err(Error::Option {
            option: "--device",
            problem: "libtorch sees no CUDA device (preload libtorch_cuda.so where it is there)".into(),
        }),
        other => Err(Error::Option { option: "--device", problem: format!("`{other}` is neither cpu nor cuda") }),
    }
}

pub(super) fn check_options(graph: &Graph, network: &Network, config: &TrainConfig) -> Result<()> {
    let wrong = |option, problem: String| Err(Error::Option { option, problem });
    if config.replicas == 0 || config.batch == 0 || !config.batch.is_multiple_of(config.replicas) {
        return wrong("--batch", format!("{} is no multiple of {} replicas", config.batch, config.replicas));
    }
    match config.sizes.first() {
        Some((_, 0.0)) => {}
        _ => return wrong("--imgsz", "needs a size that is used from the start".into()),
    }
    for &(size, _) in &config.sizes {
        graph.check_size("--imgsz", size, size)?;
    }
    for (option, share) in [
        ("--mosaic", config.mosaic.0),
        ("--mosaic-until", config.mosaic.1),
        ("--mixup", config.mixup),
        ("--cover", config.cover),
        ("--rare", config.rare),
    ] {
        if !(0.0..=1.0).contains(&share) {
            return wrong(option, format!("{share} is not between 0 and 1"));
        }
    }
    let learns_labels = config.distill.as_ref().is_none_or(|distill| distill.stage == Stage::Labels);
    if learns_labels && !config.photos.is_empty() {
        return wrong("--photos", "photographs without boxes teach no labels: take --stage whole or parts".into());
    }
    if let Some(Distillation { reuse, reuse_gib, stage, .. }) = config.distill {
        if !(reuse_gib > 0.0 && reuse_gib.is_finite()) {
            return wrong("--reuse-gib", format!("{reuse_gib} GiB keep no images"));
        }
        if reuse == 0 {
            return wrong("--reuse", "an image serves at least once".into());
        }
        if reuse > 1 && stage == Stage::Labels {
            return wrong("--reuse", "labels are not kept: take --stage whole or parts".into());
        }
    }
    if config.images == 0 {
        return wrong("--images", "0 images teach nothing".into());
    }
    if let Some(minutes) = config.minutes.filter(|minutes| !(*minutes > 0.0 && minutes.is_finite())) {
        return wrong("--minutes", format!("{minutes} minutes teach nothing"));
    }
    for (option, share) in [("--final-rate", config.final_rate), ("--average-over", config.average_over)] {
        if !(0.0..=1.0).contains(&share) {
            return wrong(option, format!("{share} is not between 0 and 1"));
        }
    }
    if !(config.rate > 0.0 && config.rate < 1.0) {
        return wrong("--rate", format!("{} is not between 0 and 1", config.rate));
    }
    if let Some(name) = &config.freeze
        && !network.layers.iter().any(|layer| layer.name == *name)
    {
        return wrong("--freeze", format!("`{name}` is no layer of `{}`", network.name));
    }
    Ok(())
}

/// Photographs to choose the scales of int8 by.
const CALIBRATION_IMAGES: usize = 64;

/// The scales of the network as the run starts, for its last size. A run that goes on finds the same ones.
fn int8_plan(network: &Network, graph: &Graph, dataset: &Dataset, config: &TrainConfig) -> Result<Plan> {
    let Some(init) = &config.init else {
        let problem = "needs --init: a trained network, whose scales can be chosen".into();
        return Err(Error::Option { option: "--int8", problem });
    };
    let (weights, _) = checkpoint::read(init)?;
    let side = config.sizes[config.sizes.len() - 1].0;
    let files = dataset.images.iter().map(|image| image.path.clone()).collect();
    let images = quantize::photographs(files, CALIBRATION_IMAGES, side, config.seed, config.bad_data)?;
    let calibration = quantize::calibrate(network, &weights, &images, side, &|_| ())?;
    // Without a cut one outlier takes the bytes of all others.
    Ok(Plan::new(graph, &calibration, Method::Percentile(99.99)))
}

/// All sets in one, whose classes are the network's by name if it has names. Photographs without boxes have the classes
/// of the first set with boxes, or else the network's, or else its teacher's.
pub(super) fn read_data(config: &TrainConfig, network: &Network) -> Result<Dataset> {
    let mut all: Option<Dataset> = None;
    let mut add = |set: Dataset, path: &PathBuf| match &mut all {
        None => {
            let wrong = |problem| Error::Data { path: path.clone(), problem };
            network.clone().adopt_names(&set.classes).map_err(wrong)?;
            all = Some(set);
            Ok(())
        }
        Some(all) => all.extend(set, path),
    };
    let mut classes = network.names.clone();
    for (annotations, images) in &config.data {
        let set = Dataset::read(annotations, images, config.bad_data)?;
        classes.clone_from(&set.classes);
        add(set, annotations)?;
    }
    if let (true, Some(distill)) = (classes.is_empty(), &config.distill) {
        let names = Teacher::class_names(&distill.teacher)?;
        // Another number of them is an error of the teacher's, once that is loaded.
        if names.len() == network.classes {
            classes = names;
        }
    }
    if classes.is_empty() {
        classes = (0..network.classes).map(|class| class.to_string()).collect();
    }
    for folder in &config.photos {
        add(Dataset::of_folder(folder, &classes, config.bad_data)?, folder)?;
    }
    all.ok_or_else(|| Error::Option { option: "--data", problem: "name at least one set".into() })
}

impl RunState {
    fn start(
        network: &Network,
        graph: &Graph,
        layout: &Layout,
        config: &TrainConfig,
        device: Device,
    ) -> Result<RunState> {
        let mut learned = vec![0f32; layout.learned as usize];
        let mut measured = vec![0f32; layout.measured as usize];
        layout.gather(&initial(graph, config.seed), &mut learned, &mut measured);
        let mut taken = Vec::new();
        if let Some(path) = &config.init {
            let (weights, _) = checkpoint::read(path)?;
            taken = layout.gather(&weights, &mut learned, &mut measured);
            if taken.is_empty() {
                return Err(Error::Checkpoint {
                    path: path.clone(),
                    problem: "has no tensor that fits the network by name and shape".into(),
                });
            }
            let all = checkpoint::tensors(graph).len();
            println!("{} of {all} tensors from {}: {}", taken.len(), path.display(), layers_of(&taken));
        }
        let taken: std::collections::HashSet<&String> = taken.iter().collect();
        // Frozen layers have no gradient, but weight decay would shrink them all the same.
        let last = config.freeze.as_ref().and_then(|name| network.layers.iter().position(|l| l.name == *name));
        let frozen = &network.layers[..last.map_or(0, |last| last + 1)];
        let is_frozen =
            |tensor: &str| frozen.iter().any(|layer| Some(layer.name.as_str()) == tensor.split('.').next());
        let start = layout.scatter(&learned, &measured);
        let size = |spec: &TensorSpec| match start.get(&spec.name) {
            Some(array) if config.relative_rate => size(array),
            _ => 1.0,
        };
        let rates = layout.fill(|spec| match spec.name.as_str() {
            name if is_frozen(name) => 0.0,
            _ if taken.contains(&spec.name) => config.init_rate * size(spec),
            _ => size(spec),
        });
        let decays = layout.fill(|spec| if spec.name.ends_with("conv.weight") { config.decay } else { 0.0 });
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let mut state = RunState {
            learned: tensor(&learned),
            average: tensor(&learned),
            measured: tensor(&measured),
            average_measured: tensor(&measured),
            optimizer: AdamW::new(&rates, &decays, device),
            step: 0,
            images: 0,
            seconds: 0.0,
        };
        let path = config.run.join("state.safetensors");
        if path.exists() {
            state.load(&path, layout, device)?;
        }
        Ok(state)
    }

    /// After a step, moves the averages towards what is learned and measured; `over` is [`TrainConfig::average_over`].
    fn follow_average(&mut self, over: f64) {
        let keep = average_keep(self.step, over);
        tch::no_grad(|| {
            let _ = self.average.lerp_(&self.learned, 1.0 - keep);
            let _ = self.average_measured.lerp_(&self.measured, 1.0 - keep);
        });
    }

    fn load(&mut self, path: &std::path::Path, layout: &Layout, device: Device) -> Result<()> {
        let (arrays, _) = checkpoint::read(path)?;
        let bad = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
        let get = |name: &str, len: i64| -> Result<Tensor> {
            let array = arrays.get(name).ok_or_else(|| bad(format!("has no `{name}`")))?;
            if array.values.len() as i64 != len {
                return Err(bad(format!(
                    "`{name}` has {} values, not {len}: it belongs to another network",
                    array.values.len()
                )));
            }
            Ok(Tensor::from_slice(&array.values).to_device(device))
        };
        // Counts in 24-bit halves, each exact as a 32-bit float.
        let counts = arrays.get("counts").ok_or_else(|| bad("has no `counts`".into()))?;
        let &[step_high, step_low, images_high, images_low, seconds] = counts.values.as_slice() else {
            return Err(bad("`counts` has not five values".into()));
        };
        let join = |high: f32, low: f32| ((high as u64) << 24) + low as u64;
        self.step = join(step_high, step_low);
        if self.step == 0 {
            return Ok(()); // What the run begins with, which may have changed.
        }
        self.learned = get("learned", layout.learned)?;
        self.average = get("average", layout.learned)?;
        self.measured = get("measured", layout.measured)?;
        self.average_measured = get("average_measured", layout.measured)?;
        self.optimizer.moments = [get("first_moment", layout.learned)?, get("second_moment", layout.learned)?];
        self.images = join(images_high, images_low);
        self.seconds = seconds as f64;
        Ok(())
    }

    fn save(&self, network: &Network, layout: &Layout, config: &TrainConfig) -> Result<()> {
        let split = |count: u64| [(count >> 24) as f32, (count & 0xff_ffff) as f32];
        let counts = [split(self.step), split(self.images)].concat();
        let mut state = Weights::new();
        let mut put = |name: &str, values: Vec<f32>| {
            state.insert(name.to_owned(), Array { shape: vec![values.len()], values });
        };
        put("learned", to_vec(&self.learned)?);
        put("average", to_vec(&self.average)?);
        put("measured", to_vec(&self.measured)?);
        put("average_measured", to_vec(&self.average_measured)?);
        put("first_moment", to_vec(&self.optimizer.moments[0])?);
        put("second_moment", to_vec(&self.optimizer.moments[1])?);
        put("counts", [counts, vec![self.seconds as f32]].concat());
        let single = checkpoint::Precision::Single;
        checkpoint::write(&config.run.join("state.safetensors"), network, &state, single)?;
        let model = layout.scatter(&to_vec(&self.average)?, &to_vec(&self.average_measured)?);
        checkpoint::write(&config.run.join("model.safetensors"), network, &model, checkpoint::Precision::Half)
    }
}

/// The size of a tensor's values, their root mean square. One whose values are nearly 0 has to leave them, too.
fn size(array: &Array) -> f32 {
    let least = if array.shape.len() > 1 { 0.01 } else { 0.02 };
    let squares: f32 = array.values.iter().map(|value| value * value).sum();
    (squares / array.values.len().max(1) as f32).sqrt().max(least)
}

/// The layers that tensors belong to, shortly.
fn layers_of(names: &[String]) -> String {
    let mut layers: Vec<&str> = names.iter().filter_map(|name| name.split('.').next()).collect();
    layers.dedup();
    match layers.as_slice() {
        [first, .., last] => format!("{first} … {last} ({} layers)", layers.len()),
        few => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_step_leaves_nothing_behind_in_what_is_measured() {
        let replicas = [Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[3f32, 6.0])];
        let mut mean = Tensor::zeros([2], tch::kind::FLOAT_CPU);
        let all: Vec<&Tensor> = replicas.iter().collect();
        follow_measured(&mut mean, &all, true);
        let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
        assert_eq!(values(&mean), [2.0, 4.0]);
        let _ = replicas[1].shallow_clone().fill_(f64::NAN);
        follow_measured(&mut mean, &all, false);
        assert!(all.iter().all(|replica| values(replica) == [2.0, 4.0]));
        assert_eq!(values(&mean), [2.0, 4.0]);
    }

    #[test]
    fn the_loss_scale_halves_when_gradients_overflow_and_comes_back() {
        let mut scale = LossScale::of(Kind::Half);
        let first = scale.now;
        scale.follow(false);
        assert_eq!(scale.now, first / 2.0);
        (0..999).for_each(|_| scale.follow(true));
        assert_eq!(scale.now, first / 2.0);
        scale.follow(true);
        assert_eq!(scale.now, first);
        (0..100_000).for_each(|_| scale.follow(true));
        assert_eq!(scale.now, scale.most);
        (0..100).for_each(|_| scale.follow(false));
        assert_eq!(scale.now, 1.0);

        let mut wide = LossScale::of(Kind::BFloat16);
        wide.follow(false);
        (0..5000).for_each(|_| wide.follow(true));
        assert_eq!(wide.now, 1.0);
    }
}
