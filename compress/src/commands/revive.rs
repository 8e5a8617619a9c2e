//! `compress revive`.

use std::path::PathBuf;

use compress::checkpoint::Precision;
use compress::data::BadData;
use compress::revive::revive;
use compress::{Result, checkpoint, export};

/// Gives channels that say nothing on any photograph new random weights, and their readers weights of zero: the network
/// answers as before, and training can use them again.
#[derive(clap::Args)]
pub struct Revive {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint to write, for `train --init`.
    #[arg(long)]
    output: PathBuf,
    /// Training photographs: an annotation file in COCO's format, as `train` takes it. Several times for several sets.
    #[arg(long, required = true)]
    data: Vec<String>,
    /// Photographs to look at.
    #[arg(long, default_value_t = 256)]
    images: usize,
    /// Side of the square input in pixels.
    #[arg(long, default_value_t = 416)]
    imgsz: usize,
    /// Seed of the choice of photographs and of the new weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to do about images and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "skip")]
    bad_data: BadData,
}

impl Revive {
    pub fn run(self) -> Result<()> {
        let (network, mut weights) = checkpoint::read_with_network(&self.checkpoint)?;
        export::check_size(&network.graph()?, self.imgsz, self.imgsz)?;
        let images = super::photographs(&self.data, self.images, self.imgsz, self.seed, self.bad_data)?;
        let bar = super::progress(images.len(), "looking");
        let revived =
            revive(&network, &mut weights, &images, self.imgsz, self.seed, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        for (name, count) in &revived.channels {
            println!("{name}: {count} channels");
        }
        for (name, count) in &revived.gates {
            println!("{name}: {count} gates");
        }
        if revived.channels.is_empty() && revived.gates.is_empty() {
            println!("every channel says something");
        }
        checkpoint::write(&self.output, &network, &weights, Precision::Half)
    }
}
