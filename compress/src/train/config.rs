//! The options of a training run.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::distill::Stage;
use super::precision::Precision;
use super::teacher::Teacher;
use crate::data::{BadData, Dataset, LoaderConfig};
use crate::error::{Error, Result};
use crate::network::{Graph, Head, Network};

/// Options of learning from another network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distillation {
    /// A checkpoint of this project, or a TorchScript module as docs/train-your-own.md describes.
    pub teacher: PathBuf,
    /// Another teacher, without anchors, that corrects the outputs of the first. Only for heads with anchors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<PathBuf>,
    /// What is learned from the teacher.
    pub stage: Stage,
    /// With [`Stage::Maps`], the last layer that learns. Without it, the last layer that names a map of the teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How many times an image is used with one output of the teacher.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub reuse: u64,
    /// Gibibytes of images and outputs to keep for that. It depends on the machine, so it is not part of the recipe.
    #[serde(skip, default = "reuse_gib")]
    pub reuse_gib: f64,
}

impl Distillation {
    /// Distillation that uses every image once.
    pub fn new(teacher: PathBuf, stage: Stage) -> Distillation {
        Distillation { teacher, second: None, stage, until: None, reuse: once(), reuse_gib: reuse_gib() }
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

/// All options of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The run's folder.
    pub run: PathBuf,
    /// Annotation files with the folders of their images.
    pub data: Vec<(PathBuf, PathBuf)>,
    /// Folders of photographs without boxes, for learning from a teacher alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub photos: Vec<PathBuf>,
    /// Weights to start from. Tensors that fit by name and shape are used.
    pub init: Option<PathBuf>,
    /// Learning rate of these tensors, as a share of the others' rate.
    pub init_rate: f32,
    /// The last layer that is not trained.
    pub freeze: Option<String>,
    /// Whether weights and activations are rounded as `compress quantize` would round those of the initial network, so
    /// that training adapts to the rounding errors.
    pub int8: bool,
    /// The teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distillation>,
    /// Number of training images; a mosaic counts as one.
    pub images: u64,
    /// Minutes after which the run ends. The schedule follows the images or the minutes, whichever are further.
    pub minutes: Option<f64>,
    /// Images per step, over all replicas.
    pub batch: usize,
    /// Sides in pixels with the progress (0–1) from which they are used.
    pub sizes: Vec<(usize, f32)>,
    /// Share of mosaics, and the progress from which there are none.
    pub mosaic: (f32, f32),
    /// Share of blended pairs (mixup), while there are mosaics.
    pub mixup: f32,
    /// Share of samples with covered parts (cutout), while there are mosaics.
    pub cover: f32,
    /// Photographs of a class that less than this share of all photographs shows are drawn more often.
    pub rare: f32,
    /// Factors by which photographs are drawn more often: fully labelled ones, and those with VOC's classes labelled.
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
    /// The model is the average over this share of all steps, if that is more than about the last thousand.
    pub average_over: f64,
    /// Weight decay of convolution weights.
    pub decay: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Seed of all random choices.
    pub seed: u64,
    /// Copies of the network, each on its own thread (CPU) with its share of the batch.
    pub replicas: usize,
    /// Threads that prepare batches.
    pub loader_threads: usize,
    /// Gibibytes of decoded photographs to keep.
    pub keep_gib: f64,
    /// The number format of the activations.
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

/// Fields of a [`TrainConfig`] that may change when a run is resumed. Some depend only on the machine. The length may
/// change too: the schedule then follows the new length from the current point. With any other change the run could not
/// be reproduced.
pub(super) const MAY_CHANGE: [&str; 10] = [
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
    /// Whether the boxes of the photographs are learned.
    pub(super) fn learns_labels(&self) -> bool {
        self.distill.as_ref().is_none_or(|distill| distill.stage == Stage::Labels)
    }

    /// The options that must not change when a run is continued.
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

/// The options of the loader for batches of `batch` samples, starting with batch `first_batch`, at the run's
/// `progress`.
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

/// The learning rate: a linear warm-up, then a cosine to the final rate.
pub(super) fn rate(config: &TrainConfig, step: u64, progress: f32) -> f64 {
    let warm = (step as f64 / config.warmup.max(1) as f64).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress as f64).cos());
    config.rate * warm * (config.final_rate + (1.0 - config.final_rate) * cosine)
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
    if config.learns_labels() && !config.photos.is_empty() {
        return wrong("--photos", "photographs without boxes teach no labels: take another --stage".into());
    }
    if let Some(distill) = &config.distill {
        check_distillation(graph, network, distill)?;
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
    for (option, value) in
        [("--init-rate", config.init_rate), ("--decay", config.decay), ("--teacher-min", config.teacher_min)]
    {
        if !(value >= 0.0 && value.is_finite()) {
            return wrong(option, format!("{value} is not a number from 0"));
        }
    }
    if let Some(name) = &config.freeze
        && !network.layers.iter().any(|layer| layer.name == *name)
    {
        return wrong("--freeze", format!("`{name}` is no layer of `{}`", network.name));
    }
    Ok(())
}

fn check_distillation(graph: &Graph, network: &Network, distill: &Distillation) -> Result<()> {
    let wrong = |option, problem: String| Err(Error::Option { option, problem });
    let &Distillation { reuse, reuse_gib, stage, .. } = distill;
    if let Some(until) = &distill.until {
        if stage != Stage::Maps {
            return wrong("--until", "all layers learn in this stage: take --stage maps".into());
        }
        if !network.layers.iter().any(|layer| layer.name == *until) {
            return wrong("--until", format!("`{until}` is no layer of `{}`", network.name));
        }
    }
    if distill.second.is_some() {
        if !matches!(stage, Stage::Whole | Stage::Labels) {
            return wrong("--second-teacher", "it corrects scores and boxes: take --stage whole or labels".into());
        }
        if !matches!(graph.head(), Some(Head::Anchors { .. })) {
            let problem = format!("it corrects heads with anchors, `{}` has another one", network.name);
            return wrong("--second-teacher", problem);
        }
    }
    if !(reuse_gib > 0.0 && reuse_gib.is_finite()) {
        return wrong("--reuse-gib", format!("{reuse_gib} GiB keep no images"));
    }
    if reuse == 0 {
        return wrong("--reuse", "an image serves at least once".into());
    }
    if reuse > 1 && stage == Stage::Labels {
        return wrong("--reuse", "labels are not kept: take another --stage".into());
    }
    Ok(())
}

/// All sets combined. If the network has class names, they are matched by name. Photographs without boxes have the
/// classes of the first set with boxes, else the network's, else its teacher's.
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
        // Another number of names is an error, which is reported when the teacher is loaded.
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
    let all = all.ok_or_else(|| Error::Option { option: "--data", problem: "name at least one set".into() })?;
    if config.learns_labels() && classes_without_boxes(&all, config.teacher_min).len() == all.classes.len() {
        let problem = "has no box that can be learned: without boxes everything is background".into();
        return Err(Error::Option { option: "--data", problem });
    }
    Ok(all)
}

/// The classes of which a set has no box that is learned, see [`TrainConfig::teacher_min`].
pub(super) fn classes_without_boxes(set: &Dataset, teacher_min: f32) -> Vec<&str> {
    let objects = set.images.iter().flat_map(|image| &image.objects);
    let learned = objects
        .filter(|object| !object.crowd && !object.ignore && object.score.is_none_or(|score| score >= teacher_min));
    let known: HashSet<usize> = learned.map(|object| object.class).collect();
    let unknown = set.classes.iter().enumerate().filter(|(class, _)| !known.contains(class));
    unknown.map(|(_, name)| name.as_str()).collect()
}
