//! `compress prune`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use compress::data::Dataset;
use compress::prune::{PruneConfig, Start, prune};
use compress::train::{Distillation, Stage, check};
use compress::trainer::Local;
use compress::{Error, Result, checkpoint, quantize};

use super::measuring::MeasuringArgs;
use super::training::RecipeArgs;

/// Removes channels round by round, those whose removal costs least accuracy, and trains the network after each round.
/// The same command continues an interrupted run.
#[derive(clap::Args)]
#[command(mut_arg("rate", |arg| arg.default_value("5e-4")), mut_arg("warmup", |arg| arg.default_value("20")))]
pub struct Prune {
    /// The folder of the run, for configuration, log, checkpoints and figure.
    #[arg(long)]
    run: PathBuf,
    /// The checkpoint to start from (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// Stop at this many parameters.
    #[arg(long)]
    max_parameters: Option<u64>,
    /// Stop at this many multiply-accumulates at --cost-imgsz.
    #[arg(long)]
    max_macs: Option<u64>,
    /// Stop before AP50 falls below this, 0 to 1.
    #[arg(long)]
    min_ap50: Option<f64>,
    /// Side in pixels of the square input for which multiply-accumulates are counted.
    #[arg(long, default_value_t = 416)]
    cost_imgsz: usize,
    /// Maximum share of the parameters and multiply-accumulates that one round removes.
    #[arg(long, default_value_t = 0.15)]
    share: f64,
    /// Numbers of channels stay multiples of this.
    #[arg(long, default_value_t = 8)]
    multiple: usize,
    /// Number of photographs on which a round chooses the channels.
    #[arg(long, default_value = "128")]
    statistics: NonZeroUsize,
    /// Number of training images after a round. 0 only prunes and measures.
    #[arg(long, default_value_t = 8000)]
    round_images: u64,
    /// The teacher for the training after a round, as `distill` takes it: often the checkpoint to start from. Without
    /// it, the network is trained on the boxes of --data.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// A folder of photographs without boxes, to learn from the teacher, in addition to --data or instead of it. Can be
    /// repeated.
    #[arg(long, requires = "teacher")]
    photos: Vec<PathBuf>,
    /// How many times an image is used with one output of the teacher, as in `distill`.
    #[arg(long, default_value_t = 1, requires = "teacher")]
    reuse: u64,
    #[command(flatten)]
    measuring: MeasuringArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Prune {
    pub fn run(self) -> Result<()> {
        let (mut network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let distill = self
            .teacher
            .map(|teacher| Distillation { reuse: self.reuse, ..Distillation::new(teacher, Stage::Whole) });
        let recipe = self.recipe.config(distill, self.photos)?;
        let measure = self.measuring.measure(&recipe)?;
        let mut files = Vec::new();
        for (annotations, folder) in &recipe.data {
            let set = Dataset::read(annotations, folder, recipe.bad_data)?;
            let other = |problem| Error::Data { path: annotations.clone(), problem };
            network.adopt_names(&set.classes).map_err(other)?;
            files.extend(super::files_of(set));
        }
        for folder in &recipe.photos {
            files.extend(super::files_of(Dataset::of_folder(folder, &[], recipe.bad_data)?));
        }
        network.adopt_names(&measure.set.classes).map_err(|problem| Error::Option { option: "--val", problem })?;
        if self.round_images > 0 {
            check(&network, &compress::train::TrainConfig { images: self.round_images, ..recipe.clone() })?;
        }
        let (count, side) = (self.statistics.get(), measure.side_px);
        network.graph()?.check_size("--imgsz", side, side)?;
        let images = quantize::photographs(files, count, side, recipe.seed, recipe.bad_data)?;
        let config = PruneConfig {
            side_px: self.cost_imgsz,
            share: self.share,
            multiple: self.multiple,
            max_parameters: self.max_parameters,
            max_macs: self.max_macs,
            min_ap50: self.min_ap50,
            statistics: count,
            statistics_px: side,
            round_images: self.round_images,
        };
        let stop = super::stop_on_interrupt()?;
        let mut trainer = Local { measure, recipe, stop: stop.clone() };
        let start = Start { network: &network, weights: &weights, images: &images };
        let outcome = prune(&start, &config, &self.run, &mut trainer, &stop, &|sentence| println!("{sentence}"))?;
        println!("{} after {} rounds", outcome.reason, outcome.rounds);
        println!("parameters {}", outcome.state.parameters);
        println!("macs {}", outcome.state.macs);
        println!("AP50 {:.3}", outcome.state.ap50);
        Ok(())
    }
}
