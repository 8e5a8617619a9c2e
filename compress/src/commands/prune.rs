//! `compress prune`.

use std::path::PathBuf;

use compress::prune::{PruneConfig, prune};
use compress::{Error, Result, checkpoint};

use super::trainer::TrainerArgs;

/// Thins a network channel by channel; the same command goes on after a kill.
#[derive(clap::Args)]
pub struct Prune {
    /// The run's folder: config, log, checkpoints, figure.
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
    /// Stop before AP50 falls below this.
    #[arg(long)]
    min_ap50: Option<f64>,
    /// Side of the square input in pixels that multiply-accumulates are counted for.
    #[arg(long, default_value_t = 416)]
    cost_imgsz: usize,
    /// Share of a group's channels that a cut removes.
    #[arg(long, default_value_t = 0.125)]
    share: f64,
    /// Widths stay multiples of this.
    #[arg(long, default_value_t = 8)]
    multiple: usize,
    /// Images of fine-tuning in a trial; 0 only cuts and measures.
    #[arg(long, default_value_t = 1000)]
    trial_images: u64,
    /// Images of fine-tuning after a round.
    #[arg(long, default_value_t = 4000)]
    round_images: u64,
    /// Groups that a round tries, those whose cut promises most [default: all].
    #[arg(long)]
    candidates: Option<usize>,
    #[command(flatten)]
    trainer: TrainerArgs,
}

impl Prune {
    pub fn run(self) -> Result<()> {
        let (network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        if self.trainer.classes()? != network.classes {
            let problem = format!("has other categories than `{}`, which has {}", network.name, network.classes);
            return Err(Error::Option { option: "--val", problem });
        }
        let config = PruneConfig {
            side_px: self.cost_imgsz,
            share: self.share,
            multiple: self.multiple,
            max_parameters: self.max_parameters,
            max_macs: self.max_macs,
            min_ap50: self.min_ap50,
            trial_images: self.trial_images,
            round_images: self.round_images,
            candidates: self.candidates,
        };
        let stop = super::stop_on_interrupt()?;
        let mut trainer = self.trainer.trainer(stop.clone())?;
        let outcome =
            prune(&network, &weights, &config, &self.run, &mut trainer, &stop, &|sentence| println!("{sentence}"))?;
        println!("{} after {} rounds", outcome.reason, outcome.rounds);
        println!("parameters {}", outcome.state.parameters);
        println!("macs {}", outcome.state.macs);
        println!("AP50 {:.3}", outcome.state.ap50);
        Ok(())
    }
}
