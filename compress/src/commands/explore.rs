//! `compress explore`.

use std::path::PathBuf;

use compress::checkpoint::{self, Weights};
use compress::explore::{ExploreConfig, ExploreOutcome, Kind, SearchSpace, Shard, explore, merge};
use compress::network::Network;
use compress::train::{Distillation, PartLearner, Stage};
use compress::{Error, Result};

use super::training::TrainingArgs;

/// Finds the best kind of layer for every part of a network, within budgets, by a teacher's inner maps. The same
/// command continues an interrupted run.
///
/// A part ends with a layer of --network that names a map of the teacher (`teacher` in its JSON), and begins after the
/// previous such layer. If no layer names one, each layer is a part, together with a pool behind it, and corresponds to
/// the teacher's layer of the same name. All candidates for a part learn side by side to compute the teacher's map. The
/// combination with the least unexplained variance, summed over the parts, is found exactly. The best few combinations
/// are trained as whole networks, as `distill` does with the same options.
///
/// To distribute the work, run `--shard 1/8` to `--shard 8/8`. Run them once more for the checks. `--merge` collects
/// the results.
#[derive(clap::Args)]
#[command(mut_arg("images", |arg| arg.default_value("8000").help("Images of the training that checks a combination")))]
pub struct Explore {
    #[command(flatten)]
    training: TrainingArgs,
    /// The teacher: a checkpoint, or a TorchScript module as docs/train-your-own.md describes.
    #[arg(long)]
    teacher: PathBuf,
    /// A folder of photographs without boxes, in addition to --data or instead of it. Can be repeated.
    #[arg(long)]
    photos: Vec<PathBuf>,
    /// Number of training images for the candidates of a part.
    #[arg(long, default_value_t = 4000)]
    part_images: u64,
    /// Do only this share of the work, such as 2/8.
    #[arg(long, conflicts_with = "merge")]
    shard: Option<String>,
    /// Only collect the results of all shards and draw the figures.
    #[arg(long)]
    merge: bool,
    /// The parts to explore, each named by its first layer, separated by commas [default: all].
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Kinds of layers to try, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "conv,ds,mb,ghost")]
    kinds: Vec<Kind>,
    /// Kernel sizes to try, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "3,5,7")]
    kernels: Vec<usize>,
    /// Expansions α to try, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    expansions: Vec<usize>,
    /// Reductions β of squeeze-and-excitation to try, separated by commas. 0 leaves it out.
    #[arg(long, value_delimiter = ',', default_value = "0,8")]
    reductions: Vec<usize>,
    /// Depths to try, separated by commas: numbers of blocks in sequence.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    depths: Vec<usize>,
    /// For parts that end with a pool, also try blocks followed by that pool. Otherwise the block has the stride.
    #[arg(long)]
    pools: bool,
    /// Maximum parameters of the whole network.
    #[arg(long, default_value_t = 2_560_000)]
    max_parameters: u64,
    /// Maximum multiply-accumulates of the whole network at --cost-imgsz.
    #[arg(long, default_value_t = 1_090_000_000)]
    max_macs: u64,
    /// Maximum sum of the milliseconds of all parts at --cost-imgsz, in this project's engine, in int8, on one thread
    /// of this machine.
    #[arg(long)]
    max_ms: Option<f64>,
    /// Do not measure milliseconds.
    #[arg(long)]
    no_time: bool,
    /// Side in pixels of the square input for which costs are counted.
    #[arg(long, default_value_t = 416)]
    cost_imgsz: usize,
    /// Number of the best combinations to train as whole networks. The best of them is taken.
    #[arg(long, default_value_t = 3)]
    check: usize,
    /// The set to measure AP50 on after these trainings, in the form of --data. Without it their loss decides. Use
    /// another set than that of the final test.
    #[arg(long)]
    val: Option<String>,
}

impl Explore {
    pub fn run(self) -> Result<()> {
        let shard = match &self.shard {
            None => Shard::ALL,
            Some(text) => text.parse().map_err(|problem| Error::Option { option: "--shard", problem })?,
        };
        let config = ExploreConfig {
            parts: self.parts,
            kinds: self.kinds,
            kernels: self.kernels,
            expansions: self.expansions,
            reductions: self.reductions,
            depths: self.depths,
            pools: self.pools,
            max_parameters: self.max_parameters,
            max_macs: self.max_macs,
            max_ms: self.max_ms,
            side_px: self.cost_imgsz,
            time: !self.no_time,
            check: self.check,
        };
        let check = config.check;
        let distill = Distillation::new(self.teacher, Stage::Whole);
        let (mut network, training) = self.training.network_and_config(Some(distill.clone()), self.photos)?;
        let run = training.run.clone();
        let start = match &training.init {
            None => Weights::new(),
            Some(path) => checkpoint::read(path)?.0,
        };
        let val = match &self.val {
            None => None,
            Some(set) => Some(super::measuring::measure(set, &training)?),
        };
        let teacher = if checkpoint::is_named_so(&distill.teacher) {
            Some(checkpoint::read_with_network(&distill.teacher)?)
        } else {
            None
        };
        let stop = super::stop_on_interrupt()?;
        let mut learner = PartLearner { training, distill, part_images: self.part_images, val, stop: stop.clone() };
        if let Some(measure) = &learner.val {
            network
                .adopt_names(&measure.set.classes)
                .map_err(|problem| Error::Option { option: "--val", problem })?;
        }
        let network = Network { names: learner.names(&network)?, ..network };
        let teacher = teacher.as_ref().map(|(network, weights)| (network, weights));
        let space = SearchSpace::new(network, teacher, start, config)?;
        let outcome = if self.merge {
            merge(&space, &run)?
        } else {
            learner.try_out(&space)?;
            if let Some(measure) = learner.val.as_ref().filter(|_| check > 0) {
                measure.check_photographs()?;
            }
            explore(&space, &run, shard, &mut learner, &stop, &|sentence| println!("{sentence}"))?
        };
        match outcome {
            // For those who go on with the result.
            ExploreOutcome::Waiting { candidates: 0, checks, .. } if self.merge => {
                let problem = format!("{checks} checks are missing: run the shards once more for them");
                return Err(Error::Option { option: "--merge", problem });
            }
            ExploreOutcome::Waiting { candidates, parts, .. } if self.merge => {
                let problem = format!(
                    "{candidates} candidates are missing, for {}: run the shards that have these parts",
                    parts.join(", ")
                );
                return Err(Error::Option { option: "--merge", problem });
            }
            ExploreOutcome::Waiting { candidates: 0, checks, .. } => {
                println!("waiting for {checks} checks of other shards")
            }
            ExploreOutcome::Waiting { candidates, .. } => {
                println!("waiting for {candidates} candidates of other shards")
            }
            ExploreOutcome::Done { best, .. } => {
                for (part, candidate) in &best.picks {
                    println!("{part}: {candidate}");
                }
                println!("parameters {}", best.parameters);
                println!("macs {}", best.macs);
                println!("in {}", run.join("model.safetensors").display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        explore: Explore,
    }

    #[test]
    fn options_are_read_as_documented() {
        Line::command().debug_assert();
        let needed = ["", "--run", "a", "--teacher", "b", "--photos", "c"];
        let Line { explore } = Line::parse_from(needed.into_iter().chain(["--kinds", "ds,mb", "--kernels", "3,7"]));
        assert_eq!((explore.kinds, explore.kernels), (vec![Kind::Ds, Kind::Mb], vec![3, 7]));
        // Shorter than the default of `distill`.
        let (_, training) = explore.training.network_and_config(None, explore.photos).unwrap();
        assert_eq!(training.images, 8000);
        assert!(Line::try_parse_from(needed.into_iter().chain(["--merge", "--shard", "1/2"])).is_err());
    }
}
