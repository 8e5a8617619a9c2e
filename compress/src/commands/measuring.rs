//! The options of commands that measure the networks they train.

use compress::Result;
use compress::data::Dataset;
use compress::measure::Measure;
use compress::train::TrainConfig;

/// The set on which networks are measured.
#[derive(clap::Args)]
pub struct MeasuringArgs {
    /// The set to measure AP50 on, as `FILE.json` or `FILE.json:FOLDER`. Use another set than that of the final test.
    #[arg(long)]
    val: String,
    /// Measure on this many photographs of --val, evenly spread [default: all].
    #[arg(long)]
    val_images: Option<std::num::NonZeroUsize>,
}

impl MeasuringArgs {
    /// Creates the measurement at the last size in `config`.
    pub fn measure(&self, config: &TrainConfig) -> Result<Measure> {
        let mut measure = measure(&self.val, config)?;
        let set = &mut measure.set;
        if let Some(wanted) = self.val_images {
            let (wanted, all) = (wanted.get(), set.images.len());
            let mut index = 0..all;
            set.images.retain(|_| {
                // Takes the images at which a new one of `wanted` equal parts begins.
                index.next().is_some_and(|i| i == 0 || i * wanted / all != (i - 1) * wanted / all)
            });
        }
        measure.check()?;
        Ok(measure)
    }
}

/// Creates a measurement on a set in the form of `--data`, at the last size in `config`. Reports what was skipped, and
/// refuses a set without objects.
pub fn measure(set: &str, config: &TrainConfig) -> Result<Measure> {
    let (annotations, images) = super::annotations_and_images(set);
    let set = Dataset::read(&annotations, &images, config.bad_data)?;
    super::report_skipped(&set.skipped);
    let side_px = config.sizes.last().map_or(0, |size| size.0);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let measure = Measure { set, side_px, threads, bad_data: config.bad_data };
    measure.check()?;
    Ok(measure)
}
