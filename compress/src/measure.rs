//! Measures the accuracy of networks in training, pruning and exploration on a set of photographs.

use crate::checkpoint::Weights;
use crate::data::{Annotated, BadData, Dataset, Photo};
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
    /// Checks whether the set has objects that count, so that there is an AP50. Takes no time.
    ///
    /// # Errors
    ///
    /// [`Error::Option`].
    pub fn check(&self) -> Result<()> {
        let mut truths = self.set.images.iter().flat_map(|image| evaluate::truths(0, image));
        if truths.any(|truth| !truth.crowd && !truth.ignore) { Ok(()) } else { Err(no_objects()) }
    }

    /// Checks whether all photographs can be decoded, for work that needs them only after hours.
    ///
    /// # Errors
    ///
    /// The first error of a photograph. Under [`BadData::Skip`] only if none can be decoded.
    pub fn check_photographs(&self) -> Result<()> {
        let images = &self.set.images;
        let share = images.len().div_ceil(self.threads.max(1)).max(1);
        let is_refused = self.bad_data == BadData::Refuse;
        // Whether one was decoded, and the first error.
        let look = |images: &[Annotated]| {
            let (mut is_any, mut first) = (false, None);
            for image in images {
                match Photo::of(image) {
                    Ok(_) => is_any = true,
                    Err(error) => first = first.or(Some(error)),
                }
                if (is_refused && first.is_some()) || (!is_refused && is_any) {
                    break;
                }
            }
            (is_any, first)
        };
        let looked: Vec<(bool, Option<Error>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = images.chunks(share).map(|images| scope.spawn(move || look(images))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        if !is_refused && looked.iter().any(|(is_any, _)| *is_any) {
            return Ok(());
        }
        looked.into_iter().find_map(|(_, error)| error).map_or(Ok(()), Err)
    }

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
        evaluation.scores.ap50.ok_or_else(no_objects)
    }
}

fn no_objects() -> Error {
    Error::Option { option: "--val", problem: "has no objects to find, so there is no AP50".into() }
}
