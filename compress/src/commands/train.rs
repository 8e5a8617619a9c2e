//! `compress train`.

use std::path::PathBuf;

use compress::Result;
use compress::train::{Distillation, Stage};

use super::training::TrainingArgs;

/// Trains a network on photographs with boxes. The same command continues an interrupted run.
#[derive(clap::Args)]
pub struct Train {
    #[command(flatten)]
    training: TrainingArgs,
    /// A teacher to learn from in addition to the boxes, as `distill` takes it.
    #[arg(long)]
    teacher: Option<PathBuf>,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let distill = self.teacher.map(|teacher| Distillation::new(teacher, Stage::Labels));
        self.training.run(distill, Vec::new())
    }
}
