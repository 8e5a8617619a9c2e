//! Training and measuring for pruning and exploration. Both need many short runs, each of which returns trained weights
//! and their accuracy.

use std::path::Path;

use crate::checkpoint::Weights;
#[cfg(feature = "train")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "train")]
use crate::measure::Measure;
use crate::network::Network;

/// Trains and measures networks.
pub trait Trainer {
    /// Trains `network` on about `images` images, starting from the tensors of `start` that fit by name and shape.
    /// `work` is a folder for files of the training. If it is called again with the same arguments after a kill, it
    /// continues.
    ///
    /// # Errors
    ///
    /// Failed training, or [`Interrupted`](crate::Error::Interrupted).
    fn train(&mut self, network: &Network, start: &Weights, images: u64, work: &Path) -> Result<Weights>;

    /// AP50, 0 to 1.
    ///
    /// # Errors
    ///
    /// The network does not run.
    fn measure(&mut self, network: &Network, weights: &Weights) -> Result<f64>;

    /// The settings of both, as a JSON object. A resumed run must use the same.
    fn recipe(&self) -> serde_json::Value;
}

/// Trains on this machine with libtorch, and measures with the detector.
#[cfg(feature = "train")]
pub struct Local {
    /// How networks are measured.
    pub measure: Measure,
    /// The training options. The run folder, the start and the number of images are set for each training.
    pub recipe: crate::train::TrainConfig,
    /// Set to stop training.
    pub stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

#[cfg(feature = "train")]
impl Trainer for Local {
    fn train(&mut self, network: &Network, start: &Weights, images: u64, work: &Path) -> Result<Weights> {
        use crate::checkpoint::{self, Precision};
        let init = work.join(format!("start-for-{images}.safetensors"));
        let known = checkpoint::read(&init).ok();
        if !known.is_some_and(|(weights, known)| known.as_ref() == Some(network) && weights == *start) {
            // Files of another training.
            if work.exists() {
                std::fs::remove_dir_all(work).map_err(Error::io(work))?;
            }
            std::fs::create_dir_all(work).map_err(Error::io(work))?;
            checkpoint::write(&init, network, start, Precision::Single)?;
        }
        let config = crate::train::TrainConfig {
            run: work.to_owned(),
            init: (!start.is_empty()).then_some(init),
            images,
            ..self.recipe.clone()
        };
        let summary = crate::train::train(network, &config, self.stop.clone())?;
        if summary.stopped {
            return Err(Error::Interrupted);
        }
        Ok(checkpoint::read_with_network(&summary.model)?.1)
    }

    fn measure(&mut self, network: &Network, weights: &Weights) -> Result<f64> {
        self.measure.ap50(network, weights)
    }

    fn recipe(&self) -> serde_json::Value {
        let Measure { set, side_px, .. } = &self.measure;
        let first = set.images.first().map(|image| &image.path);
        let mut recipe = self.recipe.lasting();
        recipe["measured_on"] = serde_json::json!([first, set.images.len(), side_px]);
        recipe
    }
}
