//! `compress import`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
use compress::import::{self, Options};
use compress::{Error, Result};

/// Reads a network that Darknet has trained, YOLOv3-tiny or a relative of it: writes a checkpoint, and the network as
/// JSON beside it.
#[derive(clap::Args)]
pub struct Import {
    /// Darknet's description of the network.
    #[arg(long)]
    cfg: PathBuf,
    /// What was trained with that cfg.
    #[arg(long)]
    weights: PathBuf,
    /// The names of the classes, one a line (`coco.names`); without it they are numbered.
    #[arg(long)]
    names: Option<PathBuf>,
    /// Anchors of each [yolo] section, by their numbers, instead of the cfg's masks: `3,4,5;1,2,3`.
    #[arg(long)]
    masks: Option<String>,
    /// The checkpoint to write (`NAME.safetensors`); the network becomes `NAME.json`.
    #[arg(long)]
    output: PathBuf,
}

impl Import {
    pub fn run(self) -> Result<()> {
        let description = self.output.with_extension("json");
        if description == self.output {
            let problem = "is the checkpoint, which does not end in .json".into();
            return Err(Error::Option { option: "--output", problem });
        }
        let masks = self.masks.as_deref().map(import::parse_masks).transpose()?;
        let imported = import::darknet(&self.cfg, &self.weights, &Options { names: self.names, masks })?;
        for note in &imported.notes {
            eprintln!("note: {note}");
        }
        let network = &imported.network;
        checkpoint::write(&self.output, network, &imported.weights, Precision::Single)?;
        checkpoint::write_whole(&description, format!("{}\n", network.to_json()).as_bytes())?;
        let (width, height) = imported.input_px;
        println!(
            "{} and {}: {} classes, {} layers; the cfg's input is {width}x{height} px",
            self.output.display(),
            description.display(),
            network.classes,
            network.layers.len()
        );
        Ok(())
    }
}
