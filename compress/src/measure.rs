//! Measures the accuracy of networks in training, pruning and exploration on a set of photographs.

use crate::checkpoint::Weights;
use crate::data::{BadData, Dataset};
use crate::error::{Error, Result};
use crate::evaluate;
use crate::export::{self, Storage};
use crate::network::Network;

/// Measures with the detector on a set of photographs.
#[derive(Debug, Clone)]
pub struct Measure {
    /// The photographs and their objects.
    pub set: Dataset,
    /// Side of the square input in pixels.
    pub side_px: usize,
    /// Number of photographs processed at the same time.
    pub threads: usize,
    /// What to do about photographs that cannot be used.
    pub bad_data: BadData,
}

impl Measure {
    /// AP50 of a network, 0 to 1. Its classes are matched to those of the set by name. A network without names gets the
    /// set's names, in their order.
    ///
    /// # Errors
    ///
    /// The network does not run, or does not have the set's classes; a set without objects.
    pub fn ap50(&self, network: &Network, weights: &Weights) -> Result<f64> {
        let mut network = network.clone();
        network.adopt_names(&self.set.classes).map_err(|problem| Error::Option { option: "--val", problem })?;
        let onnx = export::to_onnx(&network, weights, (self.side_px, self.side_px), Storage::Single)?;
        let Measure { threads, bad_data, .. } = *self;
        let options = evaluate::Options { threads, bad_data, ..evaluate::Options::default() };
        let evaluation = evaluate::run(&onnx, &self.set, &options, &|_| ())?;
        // What was skipped in the set was reported when it was read.
        for sentence in &evaluation.skipped[self.set.skipped.len()..] {
            eprintln!("skipped: {sentence}");
        }
        evaluation.scores.ap50.ok_or_else(|| {
            let problem = "has no objects to find, so there is no AP50".into();
            Error::Option { option: "--val", problem }
        })
    }
}
