//! `compress explore`.

use std::path::PathBuf;

use compress::checkpoint::{self, Weights};
use compress::explore::{ExploreConfig, Kind, Outcome, Shard, explore, merge};
use compress::trainer::Local;
use compress::{Error, Result};

use super::measuring::MeasuringArgs;
use super::training::RecipeArgs;

/// Tries kinds of layers, kernels, expansions and reductions under a budget; the same command goes on after a kill.
///
/// A job array runs `--shard 1/8` to `--shard 8/8`, once for each rung; `--merge` collects the results.
#[derive(clap::Args)]
pub struct Explore {
    /// The run's folder: config, logs, figure, the best network.
    #[arg(long)]
    run: PathBuf,
    /// The network to change: of the zoo, or a JSON file.
    #[arg(long, default_value = "micro_yolo")]
    network: String,
    /// Run this part of the trials, say 2/8.
    #[arg(long, conflicts_with = "merge")]
    shard: Option<String>,
    /// Only collect and draw what all shards have done.
    #[arg(long)]
    merge: bool,
    /// Weights that every training starts from: whatever fits by name and shape. The layers to change start from random
    /// weights in every trial, since the base would have an advantage otherwise.
    #[arg(long)]
    init: Option<PathBuf>,
    /// The layers to change, with commas [default: all convolutional ones but the first].
    #[arg(long, value_delimiter = ',')]
    layers: Vec<String>,
    /// Kinds to try, with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "conv,ds,mb,ghost")]
    kinds: Vec<Kind>,
    /// Kernels to try, with commas.
    #[arg(long, value_delimiter = ',', default_value = "3,5,7")]
    kernels: Vec<usize>,
    /// Expansions α to try, with commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    expansions: Vec<usize>,
    /// Reductions β of squeeze-and-excitation to try, with commas; 0 leaves it out.
    #[arg(long, value_delimiter = ',', default_value = "8")]
    reductions: Vec<usize>,
    /// Do not try networks with more parameters.
    #[arg(long, default_value_t = 2_560_000)]
    max_parameters: u64,
    /// Do not try networks with more multiply-accumulates at --cost-imgsz.
    #[arg(long, default_value_t = 1_090_000_000)]
    max_macs: u64,
    /// Side of the square input in pixels that multiply-accumulates are counted for.
    #[arg(long, default_value_t = 416)]
    cost_imgsz: usize,
    /// Images of each training in the first rung.
    #[arg(long, default_value_t = 2000)]
    images: u64,
    /// Rungs: each keeps the better part of the trials and trains them longer.
    #[arg(long, default_value_t = 3)]
    rungs: usize,
    /// Keep one in so many, and train it so many times as long.
    #[arg(long, default_value_t = 3)]
    keep_one_in: usize,
    #[command(flatten)]
    measuring: MeasuringArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Explore {
    pub fn run(self) -> Result<()> {
        let recipe = self.recipe.config(None, Vec::new())?;
        let measure = self.measuring.measure(&recipe)?;
        let base = super::network(&self.network, measure.set.classes.len())?;
        let config = ExploreConfig {
            layers: self.layers,
            kinds: self.kinds,
            kernels: self.kernels,
            expansions: self.expansions,
            reductions: self.reductions,
            max_parameters: Some(self.max_parameters),
            max_macs: Some(self.max_macs),
            side_px: self.cost_imgsz,
            images: self.images,
            rungs: self.rungs,
            keep_one_in: self.keep_one_in,
        };
        let outcome = if self.merge {
            merge(&base, &config, &self.run)?
        } else {
            let shard = match &self.shard {
                None => Shard::ALL,
                Some(text) => text.parse().map_err(|problem| Error::Option { option: "--shard", problem })?,
            };
            let start = match &self.init {
                None => Weights::new(),
                Some(path) => checkpoint::read(path)?.0,
            };
            let stop = super::stop_on_interrupt()?;
            let mut trainer = Local { measure, recipe, stop: stop.clone() };
            explore(&base, &start, &config, &self.run, shard, &mut trainer, &stop, &|sentence| {
                println!("{sentence}")
            })?
        };
        match outcome {
            Outcome::Waiting { rung, missing } => {
                println!("rung {rung} waits for {missing} trials of other shards");
            }
            Outcome::Done { best, .. } => {
                println!("best: {}, in {}", best.name, self.run.join("network.json").display());
                println!("parameters {}", best.parameters);
                println!("macs {}", best.macs);
                println!("AP50 {:.3}", best.ap50);
            }
        }
        Ok(())
    }
}
