//! `compress equalize`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
use compress::{Result, quantize};

use super::Photographs;

/// Rescales channels that share an int8 scale to similar ranges. The network's output stays the same.
///
/// `quantize` does this too. Use this command before `train --int8` or `distill --int8`, so that training starts from
/// the weights that int8 rounds best. Maps of layers that name a map of a teacher keep their values.
#[derive(clap::Args)]
pub struct Equalize {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint to write.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    photographs: Photographs,
}

impl Equalize {
    pub fn run(self) -> Result<()> {
        checkpoint::check_output(&self.output)?;
        let (network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let imgsz = self.photographs.imgsz;
        network.graph()?.check_size("--imgsz", imgsz, imgsz)?;
        super::report_dropped_scales(&self.checkpoint)?;
        let images = self.photographs.read(0)?;
        let bar = super::progress(images.len(), "equalising");
        let weights =
            quantize::equalize(&network, &weights, &images, imgsz, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        checkpoint::write(&self.output, &network, &weights, Precision::Half)
    }
}
