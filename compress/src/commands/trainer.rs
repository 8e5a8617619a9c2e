//! What the commands that train many networks ask for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use compress::data::{BadData, Dataset};
use compress::trainer::{Local, Measure};
use compress::{Error, Result};

/// How networks are trained and measured.
#[derive(clap::Args)]
pub struct TrainerArgs {
    /// Training sets, as `train` takes them: `FILE.json` or `FILE.json:FOLDER`. Several times for several.
    #[arg(long)]
    data: Vec<String>,
    /// The set to measure AP50 on, in the same form. Take one that is not the test of the final model.
    #[arg(long)]
    val: String,
    /// Measure on this many photographs of it, spread evenly [default: all].
    #[arg(long)]
    val_images: Option<usize>,
    /// Side of the square input in pixels for training and measuring.
    #[arg(long, default_value_t = 256)]
    imgsz: usize,
    /// Images a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 5e-4)]
    rate: f64,
    /// Learning rate of what is taken from the start, as a share.
    #[arg(long, default_value_t = 1.0)]
    init_rate: f32,
    /// Share of mosaics among the samples.
    #[arg(long, default_value_t = 0.5)]
    mosaic: f32,
    /// Steps of warm-up.
    #[arg(long, default_value_t = 20)]
    warmup: u64,
    /// Seed of all trainings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What to do about images and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "refuse")]
    bad_data: BadData,
}

impl TrainerArgs {
    /// Reads the set to measure on and makes the trainer.
    pub fn trainer(self, stop: Arc<AtomicBool>) -> Result<Local> {
        let (annotations, images) = super::annotations_and_images(&self.val);
        let mut set = Dataset::read(&annotations, &images, self.bad_data)?;
        if let Some(wanted) = self.val_images {
            if wanted == 0 {
                let problem = "0 photographs measure nothing".into();
                return Err(Error::Option { option: "--val-images", problem });
            }
            let all = set.images.len();
            let mut index = 0..all;
            set.images.retain(|_| {
                // Every image whose number begins another of `wanted` even parts.
                index.next().is_some_and(|i| i == 0 || i * wanted / all != (i - 1) * wanted / all)
            });
        }
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let measure = Measure { set, side_px: self.imgsz, threads: cores };
        Ok(Local {
            measure,
            #[cfg(feature = "train")]
            recipe: self.recipe(cores),
            stop,
        })
    }

    /// The classes of the set to measure on: those of the networks.
    pub fn classes(&self) -> Result<usize> {
        let (annotations, images) = super::annotations_and_images(&self.val);
        Ok(Dataset::read(&annotations, &images, BadData::Skip)?.classes.len())
    }

    #[cfg(feature = "train")]
    fn recipe(self, cores: usize) -> compress::train::TrainConfig {
        let cpu = self.device == "cpu";
        compress::train::TrainConfig {
            run: Default::default(),
            data: self.data.iter().map(|set| super::annotations_and_images(set)).collect(),
            photos: Vec::new(),
            init: None,
            init_rate: self.init_rate,
            freeze: None,
            int8: false,
            distill: None,
            images: 0,
            minutes: None,
            batch: self.batch,
            sizes: vec![(self.imgsz, 0.0)],
            mosaic: (self.mosaic, 0.75),
            // Such short trainings do not overfit.
            mixup: 0.0,
            cover: 0.0,
            rare: 0.0,
            draw: [4.0, 2.5],
            teacher_min: 0.3,
            rate: self.rate,
            decay: 0.03,
            warmup: self.warmup,
            final_rate: 0.01,
            relative_rate: false,
            average_over: 0.0,
            seed: self.seed,
            replicas: if cpu { cores } else { 1 },
            loader_threads: if cpu { 1 } else { cores.saturating_sub(1).max(1) },
            keep_gib: 6.0,
            precision: compress::train::Precision::Auto,
            device: self.device,
            bad_data: self.bad_data,
            log_every: 50,
            save_seconds: 600,
        }
    }
}
