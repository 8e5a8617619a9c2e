//! `compress export`.

use std::path::PathBuf;

use compress::export::{Storage, to_onnx};
use compress::{Result, checkpoint};

/// Writes a checkpoint as ONNX.
#[derive(clap::Args)]
pub struct Export {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The ONNX file.
    #[arg(long)]
    output: PathBuf,
    /// Side of the square input in pixels.
    #[arg(long, default_value_t = 416)]
    imgsz: usize,
    /// How weights are stored.
    #[arg(long, value_enum, default_value = "half")]
    storage: Storage,
}

impl Export {
    pub fn run(self) -> Result<()> {
        super::keep_inputs("--output", &self.output, [self.checkpoint.as_path()])?;
        let (network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let bytes = to_onnx(&network, &weights, (self.imgsz, self.imgsz), self.storage)?;
        checkpoint::write_whole(&self.output, &bytes)?;
        println!("{}: {} bytes", self.output.display(), bytes.len());
        Ok(())
    }
}
