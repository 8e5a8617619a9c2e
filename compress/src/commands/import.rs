//! `compress import`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
use compress::import::{self, Options};
use compress::{Error, Result};

/// Imports a trained network: writes a checkpoint, and the network as JSON beside it.
///
/// It reads YOLOv3-tiny, YOLOv4-tiny and similar networks from Darknet (`--cfg` and `--weights`), or NanoDet-Plus-m
/// (`--nanodet`).
#[derive(clap::Args)]
pub struct Import {
    /// Darknet's description of the network (cfg file).
    #[arg(long, requires = "weights", required_unless_present = "nanodet")]
    cfg: Option<PathBuf>,
    /// The weights that were trained with this cfg.
    #[arg(long, requires = "cfg")]
    weights: Option<PathBuf>,
    /// NanoDet-Plus-m, as the TorchScript module that `distill --teacher` takes. Needs the feature `train`.
    #[arg(long, conflicts_with_all = ["cfg", "weights", "masks"])]
    nanodet: Option<PathBuf>,
    /// A text file with the names of the classes, one per line (`coco.names`). Without it classes are numbered.
    #[arg(long)]
    names: Option<PathBuf>,
    /// The numbers of the anchors of each [yolo] section, instead of the cfg's masks, such as `3,4,5;1,2,3`.
    #[arg(long)]
    masks: Option<String>,
    /// The checkpoint to write (`NAME.safetensors`). The network is written to `NAME.json`.
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
        let imported = match (&self.nanodet, &self.cfg, &self.weights) {
            (None, Some(cfg), Some(weights)) => {
                let masks = self.masks.as_deref().map(import::parse_masks).transpose()?;
                import::darknet(cfg, weights, &Options { names: self.names, masks })?
            }
            #[cfg(feature = "train")]
            (Some(module), ..) => import::nanodet(module, self.names.as_deref())?,
            _ => {
                let problem = "reads TorchScript: build with --features train".into();
                return Err(Error::Option { option: "--nanodet", problem });
            }
        };
        for note in &imported.notes {
            eprintln!("note: {note}");
        }
        let network = &imported.network;
        checkpoint::write(&self.output, network, &imported.weights, Precision::Single)?;
        checkpoint::write_whole(&description, format!("{}\n", network.to_json()).as_bytes())?;
        let (width, height) = imported.input_px;
        println!(
            "{} and {}: {} classes, {} layers, for {width}x{height} px",
            self.output.display(),
            description.display(),
            network.classes,
            network.layers.len()
        );
        Ok(())
    }
}
