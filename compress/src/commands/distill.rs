//! `compress distill`.

use std::path::PathBuf;

use compress::Result;
use compress::train::{Distillation, Stage};

use super::training::TrainingArgs;

/// Trains a student network to give a teacher's outputs. The same command continues an interrupted run.
#[derive(clap::Args)]
pub struct Distill {
    #[command(flatten)]
    training: TrainingArgs,
    /// The teacher: a checkpoint, or a TorchScript module as docs/train-your-own.md describes.
    #[arg(long)]
    teacher: PathBuf,
    /// A second teacher, without anchors, whose detections correct the outputs of the first. For students whose head has
    /// anchors, with `--stage whole` or `labels`.
    #[arg(long)]
    second_teacher: Option<PathBuf>,
    /// What the student learns.
    #[arg(long, value_enum, default_value = "whole")]
    stage: Stage,
    /// With `--stage maps`, the last layer that learns [default: the last that names a map of the teacher].
    #[arg(long)]
    until: Option<String>,
    /// A folder of photographs without boxes, in addition to --data or instead of it. Can be repeated.
    #[arg(long)]
    photos: Vec<PathBuf>,
    /// How many times an image is used, in different batches, with one output of the teacher. 3 saves two thirds of the
    /// time for the teacher, for reading photographs and for the layers up to --freeze.
    #[arg(long, default_value_t = 1)]
    reuse: u64,
    /// Gibibytes of images and outputs that --reuse keeps in memory. With fewer, the uses of an image follow each other
    /// more closely.
    #[arg(long, default_value_t = 2.0)]
    reuse_gib: f64,
}

impl Distill {
    pub fn run(self) -> Result<()> {
        let Distill { training, teacher, second_teacher: second, stage, until, photos, reuse, reuse_gib } = self;
        training.run(Some(Distillation { teacher, second, stage, until, reuse, reuse_gib }), photos)
    }
}
