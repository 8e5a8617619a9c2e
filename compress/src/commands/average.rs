//! `compress average`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
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
        let mut all = Vec::with_capacity(self.checkpoint.len());
        let mut first = None;
        for path in &self.checkpoint {
            let (network, weights) = checkpoint::read_with_network(path)?;
            if first.get_or_insert_with(|| network.clone()).layers != network.layers {
                let problem = format!("is of another network than {}", self.checkpoint[0].display());
                return Err(Error::Checkpoint { path: path.clone(), problem });
            }
            all.push(weights);
        }
        let Some(network) = first else { return Ok(()) };
        checkpoint::write(&self.output, &network, &checkpoint::average(&all), Precision::Half)?;
        println!("{}: the average of {}", self.output.display(), all.len());
        Ok(())
    }
}
