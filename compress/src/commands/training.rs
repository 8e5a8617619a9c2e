//! The options of training that `train`, `distill`, `prune` and `explore` have in common.

use std::path::PathBuf;

use compress::data::{BadData, Dataset};
use compress::network::Network;
use compress::train::{Distillation, Precision, Stage, TrainConfig, train};
use compress::{Error, Result};

/// The network, the data and the schedule of a training.
#[derive(clap::Args)]
pub struct TrainingArgs {
    /// The folder of the run, for configuration, log and checkpoints.
    #[arg(long)]
    run: PathBuf,
    /// A built-in network, a JSON file or a checkpoint. A checkpoint gets a head for the classes of --data. Without
    /// --data it keeps its classes, and a built-in network has 80.
    #[arg(long, default_value = "micro_yolo")]
    network: String,
    /// Factor for the anchors of the network's head, if it has any. Those of built-in networks are for 416 px.
    #[arg(long, default_value_t = 1.0)]
    anchor_scale: f32,
    /// Weights to start from (safetensors). Tensors that fit by name and shape are used.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Learning rate of the tensors from --init, as a share of the others' learning rate.
    #[arg(long, default_value_t = 0.4)]
    init_rate: f32,
    /// Do not train the layers up to and including this one.
    #[arg(long)]
    freeze: Option<String>,
    /// Quantisation-aware training: rounds weights and activations as int8 does, starting from `--init`.
    #[arg(long, requires = "init")]
    int8: bool,
    /// Number of training images.
    #[arg(long, default_value_t = 300_000)]
    images: u64,
    /// End after this many minutes of training, even before --images.
    #[arg(long)]
    minutes: Option<f64>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// Data, augmentation and schedule, of any training.
#[derive(clap::Args)]
pub struct RecipeArgs {
    /// Annotation file in COCO's format. Its images are in the folder of the same name without `.json`, or in FOLDER if
    /// written as `FILE:FOLDER`. Can be repeated.
    #[arg(long)]
    data: Vec<String>,
    /// Images per step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Side of the square input in pixels. `192,256@0.5` changes from 192 to 256 after half of the training.
    #[arg(long, default_value = "256")]
    imgsz: String,
    /// Share of mosaics among the samples.
    #[arg(long, default_value_t = 0.5)]
    mosaic: f32,
    /// Progress (0–1) after which there are no mosaics.
    #[arg(long, default_value_t = 0.9)]
    mosaic_until: f32,
    /// Share of blended pairs (mixup) among the samples, as long as there are mosaics.
    #[arg(long, default_value_t = 0.15)]
    mixup: f32,
    /// Share of samples with covered parts (cutout), as long as there are mosaics.
    #[arg(long, default_value_t = 0.3)]
    cover: f32,
    /// Photographs of rare classes are drawn more often. A class is rare if less than this share of all photographs
    /// shows it.
    #[arg(long, default_value_t = 0.005)]
    rare: f32,
    /// Two factors: how many times as often photographs are drawn in which all classes are labelled, and those in which
    /// VOC's twenty are.
    #[arg(long, num_args = 2, default_values_t = [2.0, 1.5])]
    draw: Vec<f32>,
    /// Boxes in the annotations with a score (from a teacher) below this are ignored.
    #[arg(long, default_value_t = 0.3)]
    teacher_min: f32,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Multiply the learning rate of each tensor by the root mean square of its values at the start of the run. For
    /// networks without batch normalisation, whose tensors differ in size.
    #[arg(long)]
    relative_rate: bool,
    /// Learning rate at the end, as a share of the peak.
    #[arg(long, default_value_t = 0.01)]
    final_rate: f64,
    /// The model is the average of this share of all steps, instead of about the last thousand. With a high final rate,
    /// this is stochastic weight averaging.
    #[arg(long, default_value_t = 0.0)]
    average_over: f64,
    /// Weight decay.
    #[arg(long, default_value_t = 0.03)]
    decay: f32,
    /// Number of steps in which the learning rate rises at the start.
    #[arg(long, default_value_t = 500)]
    warmup: u64,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Copies of the network, with one thread each. --batch must be a multiple [default: the largest number up to that
    /// of the cores that divides --batch, or one on CUDA].
    #[arg(long)]
    replicas: Option<usize>,
    /// Threads that prepare batches [default: 1, or all but one core on CUDA].
    #[arg(long)]
    loader_threads: Option<usize>,
    /// Gibibytes of decoded photographs to keep in memory.
    #[arg(long, default_value_t = 6.0)]
    keep_gib: f64,
    /// Number format of the activations.
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What to do about images and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "refuse")]
    bad_data: BadData,
    /// Seconds between checkpoints.
    #[arg(long, default_value_t = 180)]
    save_seconds: u64,
}

impl TrainingArgs {
    /// Trains until the end or Ctrl-C. `distill` is what is learned from a teacher, `photos` are folders of photographs
    /// without boxes.
    pub fn run(self, distill: Option<Distillation>, photos: Vec<PathBuf>) -> Result<()> {
        let (network, config) = self.network_and_config(distill, photos)?;
        let summary = train(&network, &config, super::stop_on_interrupt()?)?;
        if summary.images == 0 {
            println!("stopped before the first step: nothing is saved");
            return Ok(());
        }
        let how = if summary.stopped { "stopped" } else { "done" };
        println!("{how} after {} images in {:.0} s: {}", summary.images, summary.seconds, summary.model.display());
        Ok(())
    }

    /// The network and its training configuration.
    pub fn network_and_config(
        self,
        distill: Option<Distillation>,
        photos: Vec<PathBuf>,
    ) -> Result<(Network, TrainConfig)> {
        let mut network = self.network()?;
        let learns_labels = distill.as_ref().is_none_or(|distill| distill.stage == Stage::Labels);
        if learns_labels && !self.recipe.data.is_empty() {
            network.names.clear(); // The training data give the names of the new classes.
        }
        Ok((network, self.config(distill, photos)?))
    }

    fn network(&self) -> Result<Network> {
        let classes = match self.recipe.data.first().map(|set| super::annotations_and_images(set)) {
            Some((annotations, images)) => Some(Dataset::read(&annotations, &images, BadData::Skip)?.classes.len()),
            None => None,
        };
        let mut network = super::network(&self.network, classes)?;
        if !(self.anchor_scale > 0.0 && self.anchor_scale.is_finite()) {
            let problem = format!("{} leaves no anchors", self.anchor_scale);
            return Err(Error::Option { option: "--anchor-scale", problem });
        }
        network.scale_anchors(self.anchor_scale);
        Ok(network)
    }

    fn config(self, distill: Option<Distillation>, photos: Vec<PathBuf>) -> Result<TrainConfig> {
        Ok(TrainConfig {
            run: self.run,
            init: self.init,
            init_rate: self.init_rate,
            freeze: self.freeze,
            int8: self.int8,
            images: self.images,
            minutes: self.minutes,
            ..self.recipe.config(distill, photos)?
        })
    }
}

impl RecipeArgs {
    /// A training configuration for a network that starts from given weights. The caller sets the folder, the weights
    /// and the length.
    pub fn config(self, distill: Option<Distillation>, photos: Vec<PathBuf>) -> Result<TrainConfig> {
        let args = self;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let cpu = args.device == "cpu";
        Ok(TrainConfig {
            run: PathBuf::new(),
            data: args.data.iter().map(|set| super::annotations_and_images(set)).collect(),
            photos,
            init: None,
            init_rate: 1.0,
            freeze: None,
            int8: false,
            distill,
            images: 0,
            minutes: None,
            batch: args.batch,
            sizes: sizes(&args.imgsz)?,
            mosaic: (args.mosaic, args.mosaic_until),
            mixup: args.mixup,
            cover: args.cover,
            rare: args.rare,
            draw: [args.draw[0], args.draw[1]],
            teacher_min: args.teacher_min,
            rate: args.rate,
            relative_rate: args.relative_rate,
            final_rate: args.final_rate,
            average_over: args.average_over,
            decay: args.decay,
            warmup: args.warmup,
            seed: args.seed,
            replicas: args.replicas.unwrap_or(if cpu { replicas(cores, args.batch) } else { 1 }),
            loader_threads: args.loader_threads.unwrap_or(if cpu { 1 } else { cores.saturating_sub(1).max(1) }),
            keep_gib: args.keep_gib,
            precision: args.precision,
            device: args.device,
            bad_data: args.bad_data,
            log_every: 50,
            save_seconds: args.save_seconds,
        })
    }
}

/// The largest number of replicas, at most one per core, that divides the batch.
fn replicas(cores: usize, batch: usize) -> usize {
    (1..=cores.min(batch)).rev().find(|&count| batch.is_multiple_of(count)).unwrap_or(1)
}

/// Parses `192,256@0.5` to [(192, 0), (256, 0.5)].
fn sizes(text: &str) -> Result<Vec<(usize, f32)>> {
    let wrong = || Error::Option {
        option: "--imgsz",
        problem: format!("`{text}` is not like 256 or 192,256@0.5 with rising shares below 1"),
    };
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let (size, from) = part.split_once('@').unwrap_or((part, "0"));
        let size = size.trim().parse().map_err(|_| wrong())?;
        let from: f32 = from.trim().parse().map_err(|_| wrong())?;
        let follows = sizes.last().is_none_or(|last: &(usize, f32)| last.1 < from);
        if !follows || !(0.0..1.0).contains(&from) {
            return Err(wrong());
        }
        sizes.push((size, from));
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_replicas_divide_the_batch() {
        let of_sixteen =
            [(1, 1), (2, 2), (6, 4), (10, 8), (12, 8), (14, 8), (16, 16), (20, 16), (24, 16), (32, 16)];
        for (cores, count) in of_sixteen {
            assert_eq!(replicas(cores, 16), count, "{cores} cores");
        }
        assert_eq!((replicas(8, 12), replicas(8, 7), replicas(4, 7), replicas(4, 0)), (6, 7, 1, 1));
    }

    #[test]
    fn sizes_are_read_as_documented() {
        assert_eq!(sizes("256").unwrap(), [(256, 0.0)]);
        assert_eq!(sizes("192,256@0.5").unwrap(), [(192, 0.0), (256, 0.5)]);
        for wrong in ["", "a", "192,256", "192@0.5,256@0.2", "192@2"] {
            assert!(matches!(sizes(wrong), Err(Error::Option { .. })), "{wrong}");
        }
    }
}
