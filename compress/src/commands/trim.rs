//! `compress trim`.

use std::path::PathBuf;

use compress::Result;
use compress::checkpoint::{self, Precision};
use compress::trim::{Trimmed, trim};

use super::Photographs;

/// Removes dead channels (constant on all photographs). The network gets smaller, its output stays the same.
#[derive(clap::Args)]
pub struct Trim {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint to write.
    #[arg(long)]
    output: PathBuf,
    /// Numbers of channels stay multiples of this. Other numbers are slow in large maps: with 12 channels instead of 16
    /// in its first layer, an earlier `micro-yolo` took 1.2 times as long.
    #[arg(long, default_value_t = 16)]
    multiple: usize,
    #[command(flatten)]
    photographs: Photographs,
}

impl Trim {
    pub fn run(self) -> Result<()> {
        checkpoint::check_output(&self.output)?;
        let (network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let imgsz = self.photographs.imgsz;
        let graph = network.graph()?;
        graph.check_size("--imgsz", imgsz, imgsz)?;
        // The remaining channels keep their values, so the ranges stay valid.
        let scales = super::trained_scales(&self.checkpoint, &graph)?;
        let images = self.photographs.read(0)?;
        let bar = super::progress(images.len(), "looking");
        let trimmed =
            trim(&network, &weights, &images, imgsz, self.multiple, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        for (name, count) in &trimmed.cut {
            println!("{name}: {count} channels");
        }
        if trimmed.cut.is_empty() {
            println!("no dead channels");
        }
        let Trimmed { network, weights, .. } = trimmed;
        checkpoint::write_with_scales(&self.output, &network, &weights, Precision::Half, &scales)
    }
}
