//! `compress revive`.

use std::path::PathBuf;

use compress::checkpoint::Precision;
use compress::revive::revive;
use compress::{Result, checkpoint};

use super::Photographs;

/// Re-initialises dead channels (constant on all photographs) with random weights. The layers that read them get
/// weights of zero, so the output stays the same. Training can then use the channels again.
#[derive(clap::Args)]
pub struct Revive {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint to write, for `train --init`.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    photographs: Photographs,
}

impl Revive {
    pub fn run(self) -> Result<()> {
        checkpoint::check_output(&self.output)?;
        let (network, mut weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let Photographs { imgsz, seed, .. } = self.photographs;
        network.graph()?.check_size("--imgsz", imgsz, imgsz)?;
        super::report_dropped_scales(&self.checkpoint)?;
        let images = self.photographs.read(0)?;
        let bar = super::progress(images.len(), "looking");
        let revived = revive(&network, &mut weights, &images, imgsz, seed, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        for (name, count) in &revived.channels {
            println!("{name}: {count} channels");
        }
        for (name, count) in &revived.gates {
            println!("{name}: {count} gates");
        }
        if revived.channels.is_empty() && revived.gates.is_empty() {
            println!("no dead channels that could be re-initialised");
        }
        checkpoint::write(&self.output, &network, &weights, Precision::Half)
    }
}
