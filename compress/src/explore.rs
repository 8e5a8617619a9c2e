//! Exploration: which kind of layer, kernel, expansion and reduction does best, under a budget.
//!
//! A layer has a dozen choices, so all combinations cannot be tried. Two assumptions reduce the work. Layers affect
//! accuracy nearly independently, so each change is tried by itself against the base network (coordinate-wise); in
//! the end the good ones are combined and trained as one more trial. Bad changes show early, so trials run in rungs
//! (successive halving, Jamieson & Talwalkar 2016): all of them briefly, the better part
//! [`ExploreConfig::keep_one_in`] times as long, and so on. All trainings of a rung have the same length and seed.
//!
//! A run lives in a folder: `config.json` and a log `shard-I-of-N.jsonl` for each of the N shards that the trials are
//! spread over. The remaining work follows from the logs alone, so any scheduler can run the shards, in any order, and
//! again after a kill. A shard ends when the rest of a rung belongs to others. In the end: `network.json`, `bars.svg`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Weights};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::figure::{self, Bar};
use crate::journal::{self, Journal};
use crate::network::{Activation, Graph, LayerKind, Network};
use crate::trainer::Trainer;

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExploreConfig {
    /// The layers to change; all convolutional ones with normalisation but the first if empty.
    pub layers: Vec<String>,
    /// Kinds to try.
    pub kinds: Vec<Kind>,
    /// Kernels to try.
    pub kernels: Vec<usize>,
    /// Expansions α of MBConv to try.
    pub expansions: Vec<usize>,
    /// Reductions β of its squeeze-and-excitation to try; 0 leaves it out.
    pub reductions: Vec<usize>,
    /// Networks with more parameters are not tried.
    pub max_parameters: Option<u64>,
    /// Networks with more multiply-accumulates are not tried.
    pub max_macs: Option<u64>,
    /// Side of the square input in pixels that they are counted for.
    pub side_px: usize,
    /// Images of each training in the first rung.
    pub images: u64,
    /// Rungs.
    pub rungs: usize,
    /// A rung keeps one in so many trials, and trains them so many times as long.
    pub keep_one_in: usize,
}

/// A kind of layer to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Dense convolution.
    Conv,
    /// Depthwise and pointwise.
    Ds,
    /// Expansion, depthwise, squeeze-and-excitation, reduction.
    Mb,
    /// Ghost module.
    Ghost,
}

/// Which part of the trials to run: `index` of `count`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Shard {
    /// The only one.
    pub const ALL: Shard = Shard { index: 1, count: 1 };

    fn file(self) -> String {
        format!("shard-{}-of-{}.jsonl", self.index, self.count)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let wrong = || format!("`{text}` is not like 2/8: which shard, from 1, of how many");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index = index.trim().parse().map_err(|_| wrong())?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        if (1..=count).contains(&index) { Ok(Shard { index, count }) } else { Err(wrong()) }
    }
}

/// A finished trial: a line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 1; the combination of the best is one more than the last.
    pub rung: usize,
    /// `base`, `combined`, or the layer and what it was made.
    pub name: String,
    /// Images of its training.
    pub images: u64,
    /// See [`Cost::parameters`].
    pub parameters: u64,
    /// See [`Cost::macs`].
    pub macs: u64,
    /// As measured by [`Trainer::measure`].
    pub ap50: f64,
}

/// A network that differs from the base in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// `base`, or the layer and what it became.
    pub name: String,
    /// Index of the layer; none for the base.
    pub layer: Option<usize>,
    /// The network.
    pub network: Network,
    /// What it costs.
    pub cost: Cost,
}

/// The outcome of [`explore`] or [`merge`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// So many trials of the rung are up to other shards.
    Waiting {
        /// From 1.
        rung: usize,
        /// Trials without a result.
        missing: usize,
    },
    /// All is done.
    Done {
        /// The best network.
        network: Network,
        /// Its trial.
        best: Trial,
    },
}

/// The base and all its changes that keep the budget, in the order of the layers.
///
/// # Errors
///
/// A side that does not fit; a layer that is not there or cannot be changed; a base above the budget; nothing to try.
pub fn changes(base: &Network, config: &ExploreConfig) -> Result<Vec<Change>> {
    let graph = base.graph()?;
    graph.check_size("--cost-imgsz", config.side_px, config.side_px)?;
    let wrong = |option: &'static str, problem: String| Error::Option { option, problem };
    let fits = |cost: &Cost| {
        config.max_parameters.is_none_or(|most| cost.parameters <= most)
            && config.max_macs.is_none_or(|most| cost.macs <= most)
    };
    let cost = cost::total(&graph, config.side_px, config.side_px);
    if !fits(&cost) {
        let problem = format!(
            "`{}` has {} parameters and {} multiply-accumulates itself: thin it first or raise the budget",
            base.name, cost.parameters, cost.macs
        );
        return Err(wrong(if config.max_macs.is_some() { "--max-macs" } else { "--max-parameters" }, problem));
    }
    let mut changes = vec![Change { name: "base".into(), layer: None, network: base.clone(), cost }];
    for index in layers(base, config).map_err(|problem| wrong("--layers", problem))? {
        let input = input_channels(&graph, index);
        for (what, kind) in kinds(&base.layers[index].kind, input, config) {
            if kind == base.layers[index].kind {
                continue;
            }
            let mut network = base.clone();
            network.layers[index].kind = kind;
            // An odd width has no Ghost module, and an Add may not fit any more: such changes are none.
            let Ok(graph) = network.graph() else { continue };
            let cost = cost::total(&graph, config.side_px, config.side_px);
            if fits(&cost) {
                let name = format!("{}: {what}", base.layers[index].name);
                changes.push(Change { name, layer: Some(index), network, cost });
            }
        }
    }
    if changes.len() == 1 {
        return Err(wrong("--kinds", "no change of any layer keeps the budget".into()));
    }
    Ok(changes)
}

/// Indices of the layers to change.
fn layers(base: &Network, config: &ExploreConfig) -> Result<Vec<usize>, String> {
    let can_change = |kind: &LayerKind| {
        matches!(
            kind,
            LayerKind::Conv { norm: true, .. }
                | LayerKind::DsConv { norm: true, .. }
                | LayerKind::MbConv { norm: true, .. }
                | LayerKind::Ghost { norm: true, .. }
        )
    };
    if config.layers.is_empty() {
        // The first reads the photograph: three channels leave nothing to make cheaper.
        let all = base.layers.iter().enumerate().skip(1);
        return Ok(all.filter(|(_, layer)| can_change(&layer.kind)).map(|(index, _)| index).collect());
    }
    let find = |name: &String| match base.layers.iter().position(|layer| layer.name == *name) {
        Some(index) if can_change(&base.layers[index].kind) => Ok(index),
        Some(_) => Err(format!("`{name}` is no convolution with normalisation")),
        None => Err(format!("`{}` has no layer `{name}`", base.name)),
    };
    config.layers.iter().map(find).collect()
}

fn input_channels(graph: &Graph, layer: usize) -> usize {
    let first = graph.nodes.iter().find(|node| node.layer == Some(layer));
    first.map_or(0, |node| node.inputs.iter().map(|&input| graph.nodes[input].channels).sum())
}

/// All that a layer may become, with a name for each.
fn kinds(now: &LayerKind, input: usize, config: &ExploreConfig) -> Vec<(String, LayerKind)> {
    let (out, stride, activation) = match *now {
        LayerKind::Conv { out, stride, activation, .. }
        | LayerKind::DsConv { out, stride, activation, .. }
        | LayerKind::MbConv { out, stride, activation, .. }
        | LayerKind::Ghost { out, stride, activation, .. } => (out, stride, activation),
        _ => return vec![],
    };
    let activation = if activation == Activation::None { Activation::Relu6 } else { activation };
    let mut kinds = vec![];
    for kind in &config.kinds {
        for &kernel in &config.kernels {
            match kind {
                Kind::Conv => {
                    let conv = LayerKind::Conv { out, kernel, stride, activation, norm: true };
                    kinds.push((format!("Conv k={kernel}"), conv));
                }
                Kind::Ds => {
                    kinds.push((format!("DSConv k={kernel}"), LayerKind::ds_conv(out, kernel, stride, activation)));
                }
                Kind::Ghost => {
                    kinds.push((format!("Ghost k={kernel}"), LayerKind::ghost(out, kernel, stride, activation)));
                }
                Kind::Mb => {
                    for &alpha in &config.expansions {
                        for &beta in &config.reductions {
                            let expansion = alpha * input;
                            let squeeze = expansion.checked_div(beta).map_or(0, |squeeze| squeeze.max(1));
                            let what = match beta {
                                0 => format!("MBConv k={kernel} α={alpha} without SE"),
                                _ => format!("MBConv k={kernel} α={alpha} β={beta}"),
                            };
                            let kind = LayerKind::mb_conv(expansion, out, kernel, stride, squeeze, activation);
                            kinds.push((what, kind));
                        }
                    }
                }
            }
        }
    }
    kinds
}

/// Runs this shard's part of the trials, rung after rung, as far as it can; `say` gets a sentence about each.
///
/// # Errors
///
/// A budget that nothing keeps, a folder of another run, what the trainer says, a full disk; [`Error::Interrupted`]
/// after `stop`.
#[allow(clippy::too_many_arguments)] // A run's own parts; a struct of them would serve this one call.
pub fn explore(
    base: &Network,
    start: &Weights,
    config: &ExploreConfig,
    run: &Path,
    shard: Shard,
    trainer: &mut dyn Trainer,
    stop: &AtomicBool,
    say: &dyn Fn(String),
) -> Result<Outcome> {
    let changes = changes(base, config)?;
    check(config)?;
    std::fs::create_dir_all(run).map_err(Error::io(run))?;
    crate::run::same_recipe(base, config, run, true, &[])?;
    crate::run::same_trainer(&trainer.recipe(), run)?;
    let (mut journal, _) = Journal::open::<Trial>(&run.join(shard.file()))?;
    let start = &without_explored(base, config, start)?;
    loop {
        let results = results(run)?;
        let rung = match progress(&changes, config, &results) {
            Progress::Rung(rung) => rung,
            Progress::Done(combined) => return finish(&changes, config, run, &results, combined),
        };
        let missing: Vec<&(usize, Change)> = rung
            .trials
            .iter()
            .filter(|(_, change)| !results.contains_key(&(rung.number, change.name.clone())))
            .collect();
        let mine: Vec<&Change> = missing
            .iter()
            .filter(|(index, _)| index % shard.count == shard.index - 1)
            .map(|(_, change)| change)
            .collect();
        if mine.is_empty() {
            return Ok(Outcome::Waiting { rung: rung.number, missing: missing.len() });
        }
        for change in mine {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let work = run.join(format!("work-{}-of-{}", shard.index, shard.count));
            let weights = trainer.train(&change.network, start, rung.images, &work)?;
            let trial = Trial {
                rung: rung.number,
                name: change.name.clone(),
                images: rung.images,
                parameters: change.cost.parameters,
                macs: change.cost.macs,
                ap50: trainer.measure(&change.network, &weights)?,
            };
            journal.write(&trial)?;
            say(format!(
                "rung {}: {}: AP50 {:.4}, {:.3} M parameters, {:.3} GMAC",
                trial.rung,
                trial.name,
                trial.ap50,
                trial.parameters as f64 / 1e6,
                trial.macs as f64 / 1e9
            ));
        }
    }
}

/// `start` without the weights of the explored layers: every trial learns them from random weights, since the base
/// would have an advantage otherwise.
fn without_explored(base: &Network, config: &ExploreConfig, start: &Weights) -> Result<Weights> {
    let layers = layers(base, config).map_err(|problem| Error::Option { option: "--layers", problem })?;
    let explored = |tensor: &str| layers.iter().any(|&i| tensor.split('.').next() == Some(&*base.layers[i].name));
    let kept = start.iter().filter(|(tensor, _)| !explored(tensor));
    Ok(kept.map(|(tensor, array)| (tensor.clone(), array.clone())).collect())
}

/// Collects what all shards have done, and draws it as far as it is.
///
/// # Errors
///
/// A folder of another run, or of none.
pub fn merge(base: &Network, config: &ExploreConfig, run: &Path) -> Result<Outcome> {
    let changes = changes(base, config)?;
    crate::run::same_recipe(base, config, run, false, &[])?;
    let results = results(run)?;
    match progress(&changes, config, &results) {
        Progress::Done(combined) => finish(&changes, config, run, &results, combined),
        Progress::Rung(rung) => {
            let missing = |change: &Change| !results.contains_key(&(rung.number, change.name.clone()));
            let missing = rung.trials.iter().filter(|(_, change)| missing(change)).count();
            if !results.is_empty() {
                draw(run, &results, None)?;
            }
            Ok(Outcome::Waiting { rung: rung.number, missing })
        }
    }
}

fn check(config: &ExploreConfig) -> Result<()> {
    let wrong = |option: &'static str, problem: &str| Err(Error::Option { option, problem: problem.into() });
    if config.rungs == 0 {
        return wrong("--rungs", "there must be at least one");
    }
    if config.keep_one_in < 2 {
        return wrong("--keep-one-in", "a rung that keeps all is none: take 2 or more");
    }
    Ok(())
}

type Results = BTreeMap<(usize, String), Trial>;

/// All trials in the logs of all shards.
///
/// # Errors
///
/// A log cannot be read.
pub fn results(run: &Path) -> Result<Results> {
    let mut results = Results::new();
    for entry in std::fs::read_dir(run).map_err(Error::io(run))? {
        let path = entry.map_err(Error::io(run))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("shard-") && name.ends_with(".jsonl") {
            for trial in journal::read::<Trial>(&path)? {
                results.insert((trial.rung, trial.name.clone()), trial);
            }
        }
    }
    Ok(results)
}

/// Trainings that are equal.
struct Rung {
    number: usize,
    images: u64,
    /// With the number that spreads them over shards.
    trials: Vec<(usize, Change)>,
}

enum Progress {
    /// This rung has trials without a result.
    Rung(Rung),
    /// Everything has a result; with the combination, if there was one.
    Done(Option<Change>),
}

/// The first rung that is not done.
fn progress(changes: &[Change], config: &ExploreConfig, results: &Results) -> Progress {
    let mut kept: Vec<usize> = (0..changes.len()).collect();
    let mut images = config.images;
    let result = |rung: usize, index: usize| results.get(&(rung, changes[index].name.clone()));
    for number in 1..=config.rungs {
        if kept.iter().any(|&index| result(number, index).is_none()) {
            let trials = kept.iter().enumerate().map(|(i, &index)| (i, changes[index].clone())).collect();
            return Progress::Rung(Rung { number, images, trials });
        }
        if number == config.rungs {
            break;
        }
        let ap50 = |index: usize| result(number, index).map_or(0.0, |trial| trial.ap50);
        let mut order = kept.clone();
        order.sort_by(|&a, &b| ap50(b).total_cmp(&ap50(a)));
        order.truncate(kept.len().div_ceil(config.keep_one_in).max(2));
        // The base stays, for comparison.
        if !order.contains(&0) {
            order.pop();
            order.push(0);
        }
        order.sort_unstable();
        kept = order;
        images *= config.keep_one_in as u64;
    }
    let Some(combined) = combine(changes, &kept, config, &|index| result(config.rungs, index)) else {
        return Progress::Done(None);
    };
    if results.contains_key(&(config.rungs + 1, combined.name.clone())) {
        return Progress::Done(Some(combined));
    }
    Progress::Rung(Rung { number: config.rungs + 1, images, trials: vec![(0, combined)] })
}

/// The changes that beat the base, best first, one a layer, as far as the budget goes. None for fewer than two.
fn combine<'a>(
    changes: &[Change],
    kept: &[usize],
    config: &ExploreConfig,
    result: &dyn Fn(usize) -> Option<&'a Trial>,
) -> Option<Change> {
    let ap50 = |index: usize| result(index).map_or(0.0, |trial| trial.ap50);
    let mut better: Vec<usize> =
        kept.iter().copied().filter(|&index| index != 0 && ap50(index) > ap50(0)).collect();
    better.sort_by(|&a, &b| ap50(b).total_cmp(&ap50(a)));
    let mut combined = Change { name: "combined".into(), ..changes[0].clone() };
    let mut changed: Vec<usize> = vec![];
    for index in better {
        let Some(layer) = changes[index].layer.filter(|layer| !changed.contains(layer)) else { continue };
        let mut network = combined.network.clone();
        network.layers[layer].kind = changes[index].network.layers[layer].kind.clone();
        let Ok(graph) = network.graph() else { continue };
        let cost = cost::total(&graph, config.side_px, config.side_px);
        let fits = config.max_parameters.is_none_or(|most| cost.parameters <= most)
            && config.max_macs.is_none_or(|most| cost.macs <= most);
        if fits {
            combined = Change { network, cost, ..combined };
            changed.push(layer);
        }
    }
    (changed.len() > 1).then_some(combined)
}

/// Writes what came out and returns it.
fn finish(
    changes: &[Change],
    config: &ExploreConfig,
    run: &Path,
    results: &Results,
    combined: Option<Change>,
) -> Result<Outcome> {
    // Only trainings of the same length are compared.
    let last = results.values().filter(|trial| trial.rung >= config.rungs);
    let Some(best) = last.max_by(|a, b| a.ap50.total_cmp(&b.ap50)).cloned() else {
        return Ok(Outcome::Waiting { rung: 1, missing: changes.len() });
    };
    let network = combined
        .iter()
        .chain(changes)
        .find(|change| change.name == best.name)
        .map_or_else(|| changes[0].network.clone(), |change| change.network.clone());
    checkpoint::write_whole(&run.join("network.json"), network.to_json().as_bytes())?;
    draw(run, results, Some(&best))?;
    Ok(Outcome::Done { network, best })
}

fn draw(run: &Path, results: &Results, best: Option<&Trial>) -> Result<()> {
    let svg = bars(results.values(), best).map_err(Error::Figure)?;
    checkpoint::write_whole(&run.join("bars.svg"), svg.as_bytes())
}

/// All trials as bars, each by its longest training, its cost beside it, the best marked.
///
/// # Errors
///
/// A message, if there is nothing to draw.
pub fn bars<'a>(trials: impl Iterator<Item = &'a Trial>, best: Option<&Trial>) -> Result<String, String> {
    let mut longest: BTreeMap<&str, &Trial> = BTreeMap::new();
    for trial in trials {
        let known = longest.entry(&trial.name).or_insert(trial);
        if trial.rung > known.rung {
            *known = trial;
        }
    }
    let mut trials: Vec<&Trial> = longest.into_values().collect();
    // Short trainings below long ones: their figures are not comparable.
    trials.sort_by(|a, b| b.images.cmp(&a.images).then(b.ap50.total_cmp(&a.ap50)));
    let bars: Vec<Bar> = trials
        .into_iter()
        .map(|trial| Bar {
            name: format!("{} ({} k)", trial.name, trial.images.div_ceil(1000)),
            value: trial.ap50,
            note: format!("{:.2} M {:.2} G", trial.parameters as f64 / 1e6, trial.macs as f64 / 1e9),
            marked: best.is_some_and(|best| best == trial),
        })
        .collect();
    figure::bars("Exploration: AP50, parameters, MACs (images of training)", "AP50", &bars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    /// Accuracy by the layers alone: kernels of 5 are good, and more so in `context`; a longer training adds to all.
    struct Formula {
        trained: Vec<(String, u64)>,
        breaks_at: usize,
    }

    impl Formula {
        fn new() -> Formula {
            Formula { trained: vec![], breaks_at: usize::MAX }
        }
    }

    impl Trainer for Formula {
        fn train(&mut self, network: &Network, _: &Weights, images: u64, _: &Path) -> Result<Weights> {
            if self.trained.len() == self.breaks_at {
                return Err(Error::Interrupted);
            }
            self.trained.push((network.to_json(), images));
            Ok(Weights::new())
        }

        fn measure(&mut self, network: &Network, _: &Weights) -> Result<f64> {
            let good = |layer: &crate::network::Layer| match layer.kind {
                LayerKind::DsConv { kernel: 5, .. } if layer.name.starts_with("block1") => 0.01,
                LayerKind::MbConv { kernel: 7, .. } => 0.02,
                LayerKind::Ghost { .. } => -0.02,
                _ => 0.0,
            };
            let images = self.trained.last().map_or(0, |last| last.1);
            Ok(0.3 + network.layers.iter().map(good).sum::<f64>() + images as f64 * 1e-6)
        }

        fn recipe(&self) -> serde_json::Value {
            serde_json::json!({})
        }
    }

    fn config() -> ExploreConfig {
        ExploreConfig {
            layers: ["block1", "block12", "context"].map(String::from).to_vec(),
            kinds: vec![Kind::Ds, Kind::Mb, Kind::Ghost],
            kernels: vec![3, 5, 7],
            expansions: vec![1],
            reductions: vec![8],
            max_parameters: Some(2_560_000),
            max_macs: Some(1_090_000_000),
            side_px: 416,
            images: 100,
            rungs: 2,
            keep_one_in: 3,
        }
    }

    fn base() -> Network {
        zoo::network("micro_yolo", 3).unwrap()
    }

    fn go(run: &Path, shard: Shard, trainer: &mut Formula) -> Result<Outcome> {
        explore(&base(), &Weights::new(), &config(), run, shard, trainer, &AtomicBool::new(false), &|_| ())
    }

    #[test]
    fn changes_keep_the_budget_and_change_one_layer() {
        let (base, config) = (base(), config());
        let changes = changes(&base, &config).unwrap();
        assert_eq!(changes[0].name, "base");
        assert!(changes.len() > 15, "{}", changes.len());
        for change in &changes[1..] {
            let differ = change.network.layers.iter().zip(&base.layers).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 1, "{}", change.name);
            assert!(change.cost.parameters <= 2_560_000 && change.cost.macs <= 1_090_000_000, "{}", change.name);
        }
        let tight = ExploreConfig { max_macs: Some(1000), ..config.clone() };
        assert!(matches!(super::changes(&base, &tight), Err(Error::Option { option: "--max-macs", .. })));
        let vast = ExploreConfig { side_px: 1 << 40, ..config.clone() };
        assert!(matches!(super::changes(&base, &vast), Err(Error::Option { option: "--cost-imgsz", .. })));
        let unknown = ExploreConfig { layers: vec!["none".into()], ..config };
        assert!(matches!(super::changes(&base, &unknown), Err(Error::Option { option: "--layers", .. })));
    }

    #[test]
    fn explored_layers_start_from_nothing_in_every_trial() {
        let base = base();
        let empty = |shape| checkpoint::Array { shape, values: vec![] };
        let specs = checkpoint::tensors(&base.graph().unwrap());
        let start: Weights = specs.into_iter().map(|spec| (spec.name, empty(spec.shape))).collect();
        let kept = without_explored(&base, &config(), &start).unwrap();
        assert!(kept.len() < start.len());
        let gone: Vec<&String> = start.keys().filter(|name| !kept.contains_key(*name)).collect();
        assert!(
            gone.iter().all(|name| ["block1", "block12", "context"].contains(&name.split('.').next().unwrap()))
        );
        // `block1` is no prefix of names here: `block10` keeps its weights.
        assert!(kept.keys().any(|name| name.starts_with("block10.")));
        assert!(!kept.keys().any(|name| name.starts_with("block1.") || name.starts_with("context.")));
    }

    #[test]
    fn the_best_changes_are_found_and_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = Formula::new();
        let Outcome::Done { network, best } = go(folder.path(), Shard::ALL, &mut trainer).unwrap() else {
            panic!()
        };
        assert_eq!(best.name, "combined");
        let kind = |name: &str| network.layers.iter().find(|layer| layer.name == name).unwrap().kind.clone();
        // α of 1 with a kernel of 7 was the best for all three.
        for name in ["block1", "block12", "context"] {
            assert!(matches!(kind(name), LayerKind::MbConv { kernel: 7, .. }), "{name}: {:?}", kind(name));
        }
        // A third of the first rung was trained three times as long.
        let long = trainer.trained.iter().filter(|(_, images)| *images == 300).count();
        let all = changes(&base(), &config()).unwrap().len();
        assert_eq!(long, all.div_ceil(3) + 1);
        assert_eq!(trainer.trained.len(), all + long);
        assert_eq!(Network::read(folder.path().join("network.json")).unwrap(), network);
        assert!(std::fs::read_to_string(folder.path().join("bars.svg")).unwrap().contains("combined"));
    }

    #[test]
    fn shards_and_kills_come_to_the_same() {
        let whole = tempfile::tempdir().unwrap();
        let mut trainer = Formula::new();
        let expected = go(whole.path(), Shard::ALL, &mut trainer).unwrap();
        let all = trainer.trained.len();

        let folder = tempfile::tempdir().unwrap();
        let mut trained = 0;
        let mut killed = Formula { breaks_at: 2, ..Formula::new() };
        let first = Shard { index: 1, count: 3 };
        assert!(matches!(go(folder.path(), first, &mut killed), Err(Error::Interrupted)));
        trained += killed.trained.len();
        let waiting = merge(&base(), &config(), folder.path()).unwrap();
        assert!(matches!(waiting, Outcome::Waiting { rung: 1, .. }), "{waiting:?}");
        for _ in 0..4 {
            for index in [2, 1, 3] {
                let mut trainer = Formula::new();
                go(folder.path(), Shard { index, count: 3 }, &mut trainer).unwrap();
                trained += trainer.trained.len();
            }
        }
        assert_eq!(merge(&base(), &config(), folder.path()).unwrap(), expected);
        assert_eq!(trained, all, "nothing twice");
    }

    #[test]
    fn shards_are_read_as_documented() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for wrong in ["", "2", "0/3", "4/3", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_of_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        go(folder.path(), Shard::ALL, &mut Formula::new()).unwrap();
        let other = ExploreConfig { images: 7, ..config() };
        assert!(matches!(merge(&base(), &other, folder.path()), Err(Error::Option { option: "--run", .. })));
    }
}
