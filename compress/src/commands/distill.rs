//! `compress distill`.

use std::path::PathBuf;

use compress::Result;
use compress::train::{Distillation, Stage};

use super::training::TrainingArgs;

/// Trains a student network to give a teacher's outputs; the same command goes on after a kill.
#[derive(clap::Args)]
pub struct Distill {
    #[command(flatten)]
    training: TrainingArgs,
    /// The network to learn from: a checkpoint of ours, or a TorchScript module (docs/train-your-own.md has the
    /// contract).
    #[arg(long)]
    teacher: PathBuf,
    /// What is learned from it.
    #[arg(long, value_enum, default_value = "whole")]
    stage: Stage,
    /// A folder of photographs without boxes. Several times for several folders; beside --data or instead of it.
    #[arg(long)]
    photos: Vec<PathBuf>,
    /// How many times an image serves, in ever other batches, with the teacher's answer to it. 3 saves most of the time
    /// of the teacher and of reading photographs. Up to 2 GiB of images and answers are kept.
    #[arg(long, default_value_t = 1)]
    reuse: u64,
}

impl Distill {
    pub fn run(self) -> Result<()> {
        let Distill { training, teacher, stage, photos, reuse } = self;
        training.run(Some(Distillation { teacher, stage, reuse }), photos)
    }
}
