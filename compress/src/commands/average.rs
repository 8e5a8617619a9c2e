//! `compress average`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
use compress::scale::Scales;
use compress::{Error, Result};

/// Averages the weights of several runs of the same network. The runs must have started from the same weights, or from
/// each other.
#[derive(clap::Args)]
pub struct Average {
    /// A checkpoint (`model.safetensors` of a run). Can be repeated.
    #[arg(long, required = true)]
    checkpoint: Vec<PathBuf>,
    /// The checkpoint to write.
    #[arg(long)]
    output: PathBuf,
}

impl Average {
    pub fn run(self) -> Result<()> {
        checkpoint::check_output(&self.output)?;
        let mut all = Vec::with_capacity(self.checkpoint.len());
        let mut first = None;
        let mut scales = Vec::with_capacity(self.checkpoint.len());
        for path in &self.checkpoint {
            let (network, weights) = checkpoint::read_with_network(path)?;
            if first.get_or_insert_with(|| network.clone()).layers != network.layers {
                let problem = format!("is of another network than {}", self.checkpoint[0].display());
                return Err(Error::Checkpoint { path: path.clone(), problem });
            }
            scales.push(super::trained_scales(path, &network.graph()?)?);
            all.push(weights);
        }
        let Some(network) = first else { return Ok(()) };
        // Weights that were trained with other ranges do not fit those of the first.
        let (kept, others) =
            scales.split_first().map_or((Scales::new(), &[][..]), |(one, rest)| (one.clone(), rest));
        let kept = if others.iter().all(|other| *other == kept) {
            kept
        } else {
            eprintln!(
                "the checkpoints were trained with different int8 ranges, or some in floats: the average has no ranges, \
                 and `quantize` and `--int8` choose new ones"
            );
            Scales::new()
        };
        let weights = checkpoint::average(&all);
        checkpoint::write_with_scales(&self.output, &network, &weights, Precision::Half, &kept)?;
        println!("{}: the average of {}", self.output.display(), all.len());
        Ok(())
    }
}
