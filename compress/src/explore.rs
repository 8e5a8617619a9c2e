//! Exploration: finds the best kind of layer, kernel, expansion, reduction and depth for each part of a network, within
//! budgets.
//!
//! A part is one or several layers that together compute a map of a teacher. All candidates for a part learn side by
//! side to compute the teacher's output map from its input map, with one forward pass of the teacher for all of them.
//! The share of the map's variance that a candidate does not reproduce is its unexplained variance. The table of the
//! candidates has this, their parameters, multiply-accumulates and milliseconds in the engine. From it [`choose()`]
//! finds the best combinations within the budgets exactly. They have the smallest sum of unexplained variances, in
//! which every part has the same weight. The best few are checked by a short distillation of the whole network.
//!
//! The folder of a run contains `config.json`, a log `shard-I-of-N.jsonl` for each of the N shards among which the
//! parts are distributed, the learned weights in `part-NAME.safetensors`, and a folder for each check. The logs alone
//! determine the remaining work. So any scheduler can run the shards, in any order, and again after an interruption. In
//! the end the folder contains `table.md`, `candidates.csv`, `combinations.json`, `bars.svg`, `network.json`, and
//! `model.safetensors` for further training.

mod choose;
mod parts;
mod table;
mod time;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::checkpoint::{self, Array, Precision, Weights};
use crate::cost;
use crate::error::{Error, Result};
use crate::journal::{self, Journal};
use crate::network::Network;

pub use choose::{Budget, Choice, Item, choose};
pub use parts::{AS_IT_IS, Candidate, Part, sources, with_hints};
pub use table::{bars, candidates_markdown, combinations_markdown, diverged_markdown};
pub use time::milliseconds;

/// Everything that decides a run, apart from how networks are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExploreConfig {
    /// The parts to explore, by the name of their first layer; all if empty.
    pub parts: Vec<String>,
    /// Kinds to try.
    pub kinds: Vec<Kind>,
    /// Kernels to try.
    pub kernels: Vec<usize>,
    /// Expansions α of MBConv to try.
    pub expansions: Vec<usize>,
    /// Reductions β of its squeeze-and-excitation to try; 0 means none.
    pub reductions: Vec<usize>,
    /// Numbers of consecutive blocks to try.
    pub depths: Vec<usize>,
    /// For parts that end with a pool: whether to also try blocks followed by that pool. Otherwise the block has the
    /// stride.
    pub pools: bool,
    /// Maximum parameters of the whole network.
    pub max_parameters: u64,
    /// Maximum multiply-accumulates of the whole network.
    pub max_macs: u64,
    /// Maximum sum of the milliseconds of all parts, in int8, on this machine.
    pub max_ms: Option<f64>,
    /// Side in pixels of the square input for which multiply-accumulates and milliseconds are counted.
    pub side_px: usize,
    /// Whether milliseconds are measured.
    pub time: bool,
    /// How many of the best combinations are checked by training the whole network.
    pub check: usize,
}

/// Options that may change when a run is continued: the table stays valid.
const MAY_CHANGE: [&str; 4] = ["max_parameters", "max_macs", "max_ms", "check"];

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

/// Which part of the work to do: `index` of `count`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: usize,
    /// The number of shards.
    pub count: usize,
}

impl Shard {
    /// The only shard.
    pub const ALL: Shard = Shard { index: 1, count: 1 };

    fn file(self) -> String {
        format!("shard-{}-of-{}.jsonl", self.index, self.count)
    }

    fn has(self, number: usize) -> bool {
        number % self.count == self.index - 1
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

/// A candidate that was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The part that it replaces.
    pub part: String,
    /// See [`Candidate::name`].
    pub candidate: String,
    /// The share of the variance of the teacher's map that it does not reproduce.
    pub unexplained: f64,
    /// See [`cost::Cost::parameters`].
    pub parameters: u64,
    /// See [`cost::Cost::macs`].
    pub macs: u64,
    /// Milliseconds of the engine, in int8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
}

/// A combination whose network was trained as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// By part, the candidate.
    pub picks: BTreeMap<String, String>,
    /// The result of the training.
    #[serde(flatten)]
    pub result: CheckResult,
}

/// A candidate whose training diverged. No combination has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diverged {
    /// The part that it would have replaced.
    pub part: String,
    /// See [`Candidate::name`].
    pub candidate: String,
    /// The step, from 1.
    pub step: u64,
}

/// The result of training a whole network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Number of training images.
    pub images: u64,
    /// Its loss at the end.
    pub loss: f64,
    /// The unexplained share of the teacher's maps, as the mean over all maps.
    pub unexplained: f64,
    /// AP50, 0 to 1, if a set to measure it on was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ap50: Option<f64>,
}

impl CheckResult {
    /// Larger is better: AP50 if it was measured, else the negated loss.
    fn merit(&self) -> f64 {
        self.ap50.unwrap_or(-self.loss)
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Line {
    /// The options that decide the results of a shard, see [`recipe`].
    Recipe {
        recipe: Value,
    },
    Candidate(Measured),
    Diverged(Diverged),
    Check(Checked),
    /// A check whose training diverged.
    DivergedCheck {
        picks: BTreeMap<String, String>,
        step: u64,
    },
}

/// A combination: one candidate per part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// `best`, `second` …, or the candidate that all parts have.
    pub name: String,
    /// By part, the candidate.
    pub picks: BTreeMap<String, String>,
    /// Mean over the parts.
    pub unexplained: f64,
    /// Of the whole network.
    pub parameters: u64,
    /// Of the whole network.
    pub macs: u64,
    /// Of the parts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Whether it is the chosen combination.
    pub best: bool,
    /// The result of training its whole network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<CheckResult>,
    /// Whether that training diverged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diverged: bool,
}

/// The results in a run's folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Results {
    /// Sorted by part and candidate.
    pub candidates: Vec<Measured>,
    /// The candidates that diverged, in the same order.
    pub diverged: Vec<Diverged>,
    /// The best combinations, and for comparison those with the same candidate for every part.
    pub combinations: Vec<Combination>,
}

/// A trained candidate's unexplained variance and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// See [`Measured::unexplained`].
    pub unexplained: f64,
    /// By name, as in its layers.
    pub weights: Weights,
    /// The step at which its training diverged. The other fields have no meaning then.
    pub diverged: Option<u64>,
}

/// Trains and measures for an exploration.
pub trait Learner {
    /// Trains all candidates of a part of `base` side by side. Returns one result each, in their order.
    ///
    /// # Errors
    ///
    /// A teacher that does not fit, failed training, or [`Error::Interrupted`].
    fn learn(&mut self, base: &Network, part: &Part, candidates: &[Candidate]) -> Result<Vec<Learned>>;

    /// Milliseconds of the engine for a candidate, in int8, in a network with an input of `side_px`.
    ///
    /// # Errors
    ///
    /// The engine does not run it.
    fn milliseconds(&mut self, part: &Part, candidate: &Candidate, side_px: usize) -> Result<f64>;

    /// Trains the whole network from `start`, in `folder`. A killed training is continued from there.
    ///
    /// # Errors
    ///
    /// As [`Learner::learn`].
    fn check(&mut self, network: &Network, start: &Weights, folder: &Path) -> Result<(CheckResult, Weights)>;

    /// The settings of the learner, as a JSON object. A resumed run must use the same.
    fn recipe(&self) -> serde_json::Value;
}

/// The outcome of [`explore`] or [`merge`].
#[derive(Debug, Clone, PartialEq)]
pub enum ExploreOutcome {
    /// The remaining work belongs to other shards.
    Waiting {
        /// Number of candidates that are not trained yet.
        candidates: usize,
        /// The parts to which they belong, by name.
        parts: Vec<String>,
        /// Number of best combinations that are not checked yet, as far as they are known.
        checks: usize,
    },
    /// All is done.
    Done {
        /// The best network.
        network: Network,
        /// Its combination.
        best: Combination,
    },
}

/// The network, its parts and the candidates for each.
pub struct SearchSpace {
    base: Network,
    /// Weights by name for layers that no candidate replaces.
    start: Weights,
    config: ExploreConfig,
    parts: Vec<(Part, Vec<Candidate>)>,
    /// The cost of the layers that belong to no part.
    rest: cost::Cost,
}

impl SearchSpace {
    /// Creates the search space of `base`. `teacher` is the teacher's network and weights, if the teacher is a
    /// checkpoint. `start` are weights for the layers that stay; missing ones are taken from the teacher.
    ///
    /// Candidates that fit into no combination within the budget are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Option`]: a network that names no map of the teacher, unknown parts, a side that does not fit, a budget
    /// that no combination meets, nothing to try.
    pub fn new(
        base: Network,
        teacher: Option<(&Network, &Weights)>,
        mut start: Weights,
        config: ExploreConfig,
    ) -> Result<SearchSpace> {
        check(&config)?;
        let base = with_hints(base, teacher.map(|teacher| teacher.0))?;
        let graph = base.graph()?;
        graph.check_size("--cost-imgsz", config.side_px, config.side_px)?;
        if let Some((_, weights)) = teacher {
            for spec in checkpoint::tensors(&graph) {
                if let Some(array) = weights.get(&spec.name).filter(|array| array.shape == spec.shape) {
                    start.entry(spec.name).or_insert_with(|| array.clone());
                }
            }
        }
        let with_candidates = |part: Part| {
            let all = parts::candidates(&base, &part, &config, teacher)?;
            Ok((part, all))
        };
        let parts = parts::parts(&base, &config.parts)?.into_iter().map(with_candidates);
        let parts = parts.collect::<Result<Vec<(Part, Vec<Candidate>)>>>()?;
        let mut rest = cost::total(&graph, config.side_px, config.side_px);
        for (_, candidates) in &parts {
            rest.parameters -= candidates[0].cost.parameters;
            rest.macs -= candidates[0].cost.macs;
        }
        let mut space = SearchSpace { base, start, config, parts, rest };
        space.keep_affordable()?;
        // Each budget alone can be met; together they may still be too small.
        let costs = |(_, all): &(Part, Vec<Candidate>)| all.iter().map(|candidate| Some(item(candidate))).collect();
        let items: Vec<Vec<Option<Item>>> = space.parts.iter().map(costs).collect();
        space.choose(&items, 1)?;
        Ok(space)
    }

    /// Drops the candidates that exceed the budget even with the cheapest candidates for all other parts.
    fn keep_affordable(&mut self) -> Result<()> {
        let costs = |(_, all): &(Part, Vec<Candidate>)| all.iter().map(item).collect();
        let all: Vec<Vec<Item>> = self.parts.iter().map(costs).collect();
        let least = choose::least(&all);
        let parameters = least.parameters + self.rest.parameters;
        let macs = least.macs + self.rest.macs;
        let ExploreConfig { max_parameters, max_macs, .. } = self.config;
        let wrong = |option, problem| Err(Error::Option { option, problem });
        if parameters > max_parameters {
            let problem = format!("{max_parameters}: the cheapest combination has {parameters} parameters");
            return wrong("--max-parameters", problem);
        }
        if macs > max_macs {
            let problem = format!("{max_macs}: the cheapest combination has {macs} multiply-accumulates");
            return wrong("--max-macs", problem);
        }
        for ((_, candidates), all) in self.parts.iter_mut().zip(&all) {
            let least = choose::least(std::slice::from_ref(all));
            candidates.retain(|Candidate { cost, .. }| {
                parameters - least.parameters + cost.parameters <= max_parameters
                    && macs - least.macs + cost.macs <= max_macs
            });
        }
        if self.parts.iter().all(|(_, candidates)| candidates.len() < 2) {
            return wrong("--kinds", "there is nothing to choose from within the budget".into());
        }
        Ok(())
    }

    /// The `count` best combinations of candidates with these items, at least one. Candidates without an item are in
    /// none.
    ///
    /// # Errors
    ///
    /// [`Error::Option`]: a budget that no combination meets. [`Error::Training`]: a part without items.
    fn choose(&self, items: &[Vec<Option<Item>>], count: usize) -> Result<Vec<Choice>> {
        let ExploreConfig { max_parameters, max_macs, max_ms, .. } = self.config;
        let mut numbers = Vec::new();
        let mut present = Vec::new();
        for ((part, _), all) in self.parts.iter().zip(items) {
            let known = all.iter().enumerate().filter_map(|(number, item)| Some((number, (*item)?)));
            let (of_part, items): (Vec<usize>, Vec<Item>) = known.unzip();
            if items.is_empty() {
                let problem =
                    format!("all candidates for `{}` diverged: lower --rate, in another folder", part.name);
                return Err(Error::Training(problem));
            }
            numbers.push(of_part);
            present.push(items);
        }
        let budget = Budget {
            parameters: max_parameters.saturating_sub(self.rest.parameters),
            macs: max_macs.saturating_sub(self.rest.macs),
            ms: max_ms.unwrap_or(f64::INFINITY),
        };
        let mut choices = choose(&present, &budget, count);
        for choice in &mut choices {
            choice.picks.iter_mut().zip(&numbers).for_each(|(pick, numbers)| *pick = numbers[*pick]);
        }
        if !choices.is_empty() {
            return Ok(choices);
        }
        let least = choose::least(&present).ms;
        Err(match max_ms {
            Some(ms) if least > ms => Error::Option {
                option: "--max-ms",
                problem: format!("{ms}: the fastest combination takes {least:.3} ms"),
            },
            _ => Error::Option {
                option: "--max-macs",
                problem: "no combination keeps all budgets together: raise one of them".into(),
            },
        })
    }

    /// The network, whose layers name the teacher's maps.
    pub fn base(&self) -> &Network {
        &self.base
    }

    /// The parts and their candidates.
    pub fn parts(&self) -> &[(Part, Vec<Candidate>)] {
        &self.parts
    }

    /// The network of a combination and its initial weights: the trained weights of its candidates, and the base's for
    /// the rest.
    fn network(&self, picks: &[usize], run: &Path) -> Result<(Network, Weights)> {
        let chosen: Vec<(&Part, &Candidate)> =
            self.parts.iter().zip(picks).map(|((part, all), &pick)| (part, &all[pick])).collect();
        let network = parts::with_candidates(&self.base, &chosen)?;
        let mut weights = self.start.clone();
        for (part, candidate) in chosen {
            if !candidate.taken_over {
                let prefix = format!("{}/", candidate.name);
                let path = part_file(run, part);
                let learned = checkpoint::read(&path)?.0.into_iter();
                let own: Weights =
                    learned.filter_map(|(name, array)| Some((name.strip_prefix(&prefix)?.into(), array))).collect();
                // The files of several machines may have been copied over each other.
                checkpoint::check(&candidate.graph(part)?, &own).map_err(|problem| {
                    let problem = format!("`{}`, which a log has, {problem}", candidate.name);
                    Error::Checkpoint { path, problem }
                })?;
                weights.extend(own);
            }
        }
        // Removes weights that the network does not have.
        let names: Vec<String> = checkpoint::tensors(&network.graph()?).into_iter().map(|spec| spec.name).collect();
        weights.retain(|name, _| names.contains(name));
        Ok((network, weights))
    }
}

/// The cost of a candidate that is not measured.
fn item(Candidate { cost, .. }: &Candidate) -> Item {
    Item { parameters: cost.parameters, macs: cost.macs, ..Item::default() }
}

fn check(config: &ExploreConfig) -> Result<()> {
    let wrong = |option: &'static str, problem: &str| Err(Error::Option { option, problem: problem.into() });
    if config.kinds.is_empty() || config.kernels.is_empty() {
        return wrong("--kinds", "there is nothing to try");
    }
    if config.depths.iter().any(|depth| !(1..=4).contains(depth)) || config.depths.is_empty() {
        return wrong("--depths", "a part is 1 to 4 blocks deep");
    }
    if config.kinds.contains(&Kind::Mb) && (config.expansions.is_empty() || config.expansions.contains(&0)) {
        return wrong("--expansions", "an expansion is 1 or more");
    }
    if let Some(ms) = config.max_ms {
        if !config.time {
            return wrong("--max-ms", "needs measured times: leave out --no-time");
        }
        if !(ms > 0.0 && ms.is_finite()) {
            return wrong("--max-ms", "is a time above zero");
        }
    }
    Ok(())
}

fn part_file(run: &Path, part: &Part) -> std::path::PathBuf {
    run.join(format!("part-{}.safetensors", part.name.replace(['/', '\\'], "_")))
}

/// By part and candidate.
type Table = BTreeMap<(String, String), Result<Measured, Diverged>>;
/// By picks, the result; `None` if the training diverged.
type Checks = BTreeMap<BTreeMap<String, String>, Option<CheckResult>>;

/// The log entries of all shards. If several shards have an entry, which can happen if their numbers changed, the first
/// one by the name of the file counts.
fn logged(run: &Path) -> Result<(Table, Checks)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(run).map_err(Error::io(run))? {
        let path = entry.map_err(Error::io(run))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("shard-") && name.ends_with(".jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut table, mut checks) = (Table::new(), Checks::new());
    let mut first: Option<(Value, &Path)> = None;
    for path in &paths {
        for line in journal::read::<Line>(path)? {
            match line {
                Line::Recipe { recipe } => match &first {
                    Some((known, of)) if *known != recipe => {
                        let problem = format!(
                            "{} and {} are of runs with different options ({}): take one of them away",
                            of.display(),
                            path.display(),
                            crate::run::differences(known, &recipe)
                        );
                        return Err(Error::Option { option: "--run", problem });
                    }
                    Some(_) => {}
                    None => first = Some((recipe, path.as_path())),
                },
                Line::Candidate(measured) => {
                    let key = (measured.part.clone(), measured.candidate.clone());
                    table.entry(key).or_insert(Ok(measured));
                }
                Line::Diverged(diverged) => {
                    let key = (diverged.part.clone(), diverged.candidate.clone());
                    table.entry(key).or_insert(Err(diverged));
                }
                Line::Check(Checked { picks, result }) => {
                    checks.entry(picks).or_insert(Some(result));
                }
                Line::DivergedCheck { picks, .. } => {
                    checks.entry(picks).or_insert(None);
                }
            }
        }
    }
    Ok((table, checks))
}

/// The candidates and combinations in a run's folder, as far as they exist.
///
/// # Errors
///
/// A file cannot be read or has another format.
pub fn results(run: &Path) -> Result<Results> {
    let (mut candidates, mut diverged) = (Vec::new(), Vec::new());
    for result in logged(run)?.0.into_values() {
        match result {
            Ok(measured) => candidates.push(measured),
            Err(lost) => diverged.push(lost),
        }
    }
    let path = run.join(table::COMBINATIONS);
    let combinations = if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map_err(Error::json(&path))?
    } else {
        Vec::new()
    };
    Ok(Results { candidates, diverged, combinations })
}

/// Does this shard's part of the work as far as possible. `say` gets a sentence about each result.
///
/// # Errors
///
/// A folder of another run, errors of the learner, a limit of milliseconds that no combination meets, a full disk;
/// [`Error::Interrupted`] after `stop`.
pub fn explore(
    space: &SearchSpace,
    run: &Path,
    shard: Shard,
    learner: &mut dyn Learner,
    stop: &AtomicBool,
    say: &dyn Fn(String),
) -> Result<ExploreOutcome> {
    std::fs::create_dir_all(run).map_err(Error::io(run))?;
    for sentence in crate::run::same_recipe(&space.base, &space.config, run, true, &MAY_CHANGE)? {
        say(sentence);
    }
    crate::run::same_trainer(&learner.recipe(), run)?;
    let (mut journal, lines) = Journal::open::<Line>(&run.join(shard.file()))?;
    if lines.is_empty() {
        journal.write(&Line::Recipe { recipe: recipe(space, &learner.recipe())? })?;
    }
    let times = times(space, &logged(run)?.0, learner)?;
    for (number, (part, candidates)) in space.parts.iter().enumerate() {
        if !shard.has(number) {
            continue;
        }
        let (table, _) = logged(run)?;
        let is_missing = |candidate: &&Candidate| !table.contains_key(&(part.name.clone(), candidate.name.clone()));
        let missing: Vec<Candidate> = candidates.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        for result in measure(space, run, part, &missing, learner, &times)? {
            match result {
                Ok(measured) => {
                    say(format!(
                        "{}: {}: {:.4} unexplained, {} parameters, {:.2} MMAC{}",
                        part.name,
                        measured.candidate,
                        measured.unexplained,
                        cost::grouped(measured.parameters),
                        measured.macs as f64 / 1e6,
                        measured.ms.map_or(String::new(), |ms| format!(", {ms:.3} ms"))
                    ));
                    journal.write(&Line::Candidate(measured))?;
                }
                Err(lost) => {
                    say(format!("{}: {}: diverged at step {}, left out", part.name, lost.candidate, lost.step));
                    journal.write(&Line::Diverged(lost))?;
                }
            }
        }
    }
    let (table, checks) = logged(run)?;
    if let Some(choices) = best(space, &table)? {
        for (number, choice) in choices.iter().enumerate().take(space.config.check) {
            let picks = named(space, &choice.picks);
            if !shard.has(number) || checks.contains_key(&picks) {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let (network, start) = space.network(&choice.picks, run)?;
            say(format!("checking combination {} by training the whole", number + 1));
            let folder = run.join(table::check_folder(&picks));
            let (result, weights) = match learner.check(&network, &start, &folder) {
                Err(Error::Diverged { step, cause }) => {
                    say(format!("combination {}: diverged at step {step}: {cause}", number + 1));
                    journal.write(&Line::DivergedCheck { picks, step })?;
                    continue;
                }
                other => other?,
            };
            checkpoint::write(&folder.join(CHECKED), &network, &weights, Precision::Half)?;
            say(format!(
                "combination {}: loss {:.3}, {:.4} unexplained{}",
                number + 1,
                result.loss,
                result.unexplained,
                result.ap50.map_or(String::new(), |ap50| format!(", AP50 {ap50:.4}"))
            ));
            journal.write(&Line::Check(Checked { picks, result }))?;
        }
    }
    finish(space, run)
}

/// The name of the file with the weights of a check.
const CHECKED: &str = "checked.safetensors";

/// The options on which the results of a shard depend, as one object. The shards of a run may come from several machines,
/// so it has no paths.
fn recipe(space: &SearchSpace, trainer: &Value) -> Result<Value> {
    let json = |error| Error::json("the recipe")(error);
    let mut fields = serde_json::to_value(&space.config).map_err(json)?;
    let hash = Sha256::digest(space.base.to_json());
    if let Some(fields) = fields.as_object_mut() {
        MAY_CHANGE.iter().for_each(|name| {
            fields.remove(*name);
        });
        fields.insert("network".into(), hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into());
        let numbers = trainer.as_object().into_iter().flatten();
        fields.extend(numbers.filter_map(|(name, value)| Some((name.clone(), without_texts(value)?))));
    }
    Ok(fields)
}

/// A JSON value without the texts in it; `None` for a text.
fn without_texts(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => None,
        Value::Array(values) => Some(values.iter().filter_map(without_texts).collect()),
        Value::Object(fields) => {
            let kept = fields.iter().filter_map(|(name, value)| Some((name.clone(), without_texts(value)?)));
            Some(Value::Object(kept.collect()))
        }
        other => Some(other.clone()),
    }
}

/// Milliseconds by part and candidate.
type Times = BTreeMap<(String, String), f64>;

/// If there is a limit of milliseconds, the times of the candidates that `table` does not have.
///
/// # Errors
///
/// [`Error::Option`] if no combination meets the limit: that must be known before the hours of learning. Errors of the
/// learner.
fn times(space: &SearchSpace, table: &Table, learner: &mut dyn Learner) -> Result<Times> {
    let mut times = Times::new();
    if space.config.max_ms.is_none() {
        return Ok(times);
    }
    let mut items = Vec::new();
    for (part, candidates) in &space.parts {
        let mut of_part = Vec::new();
        for candidate in candidates {
            let key = (part.name.clone(), candidate.name.clone());
            let known = match table.get(&key) {
                Some(Ok(measured)) => measured.ms,
                Some(Err(_)) => {
                    of_part.push(None);
                    continue;
                }
                None => None,
            };
            let ms = match known {
                Some(ms) => ms,
                None => learner.milliseconds(part, candidate, space.config.side_px)?,
            };
            of_part.push(Some(Item { ms, ..item(candidate) }));
            times.insert(key, ms);
        }
        items.push(of_part);
    }
    space.choose(&items, 1)?;
    Ok(times)
}

/// Trains and measures candidates. The trained weights are on disk when it returns.
fn measure(
    space: &SearchSpace,
    run: &Path,
    part: &Part,
    candidates: &[Candidate],
    learner: &mut dyn Learner,
    times: &Times,
) -> Result<Vec<Result<Measured, Diverged>>> {
    let pupils: Vec<Candidate> = candidates.iter().filter(|candidate| !candidate.taken_over).cloned().collect();
    let learned = if pupils.is_empty() { Vec::new() } else { learner.learn(&space.base, part, &pupils)? };
    let path = part_file(run, part);
    let mut weights = if path.exists() { checkpoint::read(&path)?.0 } else { Weights::new() };
    for (candidate, learned) in pupils.iter().zip(&learned).filter(|(_, learned)| learned.diverged.is_none()) {
        let named = |(name, array): (&String, &Array)| (format!("{}/{name}", candidate.name), array.clone());
        weights.extend(learned.weights.iter().map(named));
    }
    checkpoint::write(&path, &space.base, &weights, Precision::Half)?;
    let mut learned = learned.iter();
    let mut all = Vec::new();
    for candidate in candidates {
        let learned = if candidate.taken_over { None } else { learned.next() };
        if let Some(step) = learned.and_then(|learned| learned.diverged) {
            let (part, candidate) = (part.name.clone(), candidate.name.clone());
            all.push(Err(Diverged { part, candidate, step }));
            continue;
        }
        let unexplained = learned.map_or(0.0, |learned| learned.unexplained);
        if !unexplained.is_finite() {
            // It could not be read from the log.
            let problem = format!("`{}` of `{}`: what it explains is not finite", candidate.name, part.name);
            return Err(Error::Training(problem));
        }
        let ms = match (space.config.time, times.get(&(part.name.clone(), candidate.name.clone()))) {
            (false, _) => None,
            (true, Some(&ms)) => Some(ms),
            (true, None) => Some(learner.milliseconds(part, candidate, space.config.side_px)?),
        };
        all.push(Ok(Measured {
            part: part.name.clone(),
            candidate: candidate.name.clone(),
            unexplained,
            parameters: candidate.cost.parameters,
            macs: candidate.cost.macs,
            ms,
        }));
    }
    Ok(all)
}

/// For each part, the loss and the cost of its candidates, of which those that diverged have none; `None` if a candidate
/// is not measured yet.
fn items(space: &SearchSpace, table: &Table) -> Option<Vec<Vec<Option<Item>>>> {
    let item = |part: &Part, candidate: &Candidate| {
        let result = table.get(&(part.name.clone(), candidate.name.clone()))?;
        Some(result.as_ref().ok().map(|measured| {
            let Measured { unexplained: loss, parameters, macs, ms, .. } = *measured;
            Item { loss, parameters, macs, ms: ms.unwrap_or(0.0) }
        }))
    };
    let of = |(part, all): &(Part, Vec<Candidate>)| all.iter().map(|candidate| item(part, candidate)).collect();
    space.parts.iter().map(of).collect()
}

/// The best combinations, at least one; `None` if a candidate is not measured yet.
fn best(space: &SearchSpace, table: &Table) -> Result<Option<Vec<Choice>>> {
    let Some(items) = items(space, table) else { return Ok(None) };
    space.choose(&items, space.config.check.max(1)).map(Some)
}

fn named(space: &SearchSpace, picks: &[usize]) -> BTreeMap<String, String> {
    let name =
        |((part, all), &pick): (&(Part, Vec<Candidate>), &usize)| (part.name.clone(), all[pick].name.clone());
    space.parts.iter().zip(picks).map(name).collect()
}

/// Collects the results of all shards and writes them as far as they exist.
///
/// # Errors
///
/// A folder of another run or without a run; a limit of milliseconds that no combination meets.
pub fn merge(space: &SearchSpace, run: &Path) -> Result<ExploreOutcome> {
    crate::run::same_recipe(&space.base, &space.config, run, false, &MAY_CHANGE)?;
    finish(space, run)
}

/// Writes the table, and the result if everything is done.
fn finish(space: &SearchSpace, run: &Path) -> Result<ExploreOutcome> {
    let (table, checks) = logged(run)?;
    let is_known =
        |part: &Part, candidate: &Candidate| table.contains_key(&(part.name.clone(), candidate.name.clone()));
    let missing = |(part, all): &(Part, Vec<Candidate>)| all.iter().filter(|c| !is_known(part, c)).count();
    let missing = space.parts.iter().map(|part| (part.0.name.clone(), missing(part)));
    let (parts, counts): (Vec<String>, Vec<usize>) = missing.filter(|(_, count)| *count > 0).unzip();
    let Some(choices) = best(space, &table)? else {
        table::write(run, space, &table, &[])?;
        let candidates = counts.iter().sum();
        return Ok(ExploreOutcome::Waiting { candidates, parts, checks: space.config.check });
    };
    let result = |choice: &Choice| checks.get(&named(space, &choice.picks)).copied();
    let unchecked = choices.iter().take(space.config.check).filter(|choice| result(choice).is_none()).count();
    if space.config.check > 0 && choices.iter().all(|choice| result(choice) == Some(None)) {
        let problem = "all checks of combinations diverged: lower --rate, in another folder".into();
        return Err(Error::Training(problem));
    }
    let merit = |choice: &Choice| result(choice).flatten().map_or(f64::NEG_INFINITY, |result| result.merit());
    // The first of several equal ones, which is the best by the table if nothing was checked.
    let best =
        (1..choices.len()).fold(0, |best, i| if merit(&choices[i]) > merit(&choices[best]) { i } else { best });
    let combinations = table::combinations(space, &table, &choices, best, &checks);
    table::write(run, space, &table, &combinations)?;
    if unchecked > 0 {
        return Ok(ExploreOutcome::Waiting { candidates: 0, parts, checks: unchecked });
    }
    let (network, mut weights) = space.network(&choices[best].picks, run)?;
    let trained = run.join(table::check_folder(&named(space, &choices[best].picks))).join(CHECKED);
    if space.config.check > 0 {
        weights = checkpoint::read(&trained)?.0;
    }
    checkpoint::write_whole(&run.join("network.json"), network.to_json().as_bytes())?;
    // A TorchScript module has no weights by name, so the layers that stay have weights only after a check.
    if checkpoint::check(&network.graph()?, &weights).is_ok() {
        checkpoint::write(&run.join("model.safetensors"), &network, &weights, Precision::Half)?;
    }
    Ok(ExploreOutcome::Done { network, best: combinations[best].clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LayerKind;
    use crate::zoo;

    /// A learner whose results depend only on the layers: more parameters explain more, kernels of 5 a bit more.
    #[derive(Default)]
    struct Formula {
        learned: Vec<String>,
        checked: usize,
        breaks_at: Option<usize>,
        /// Whether a candidate diverges.
        diverges: Option<fn(&Part, &Candidate) -> bool>,
        /// The checks that diverge, by their number from 1.
        diverging_checks: Vec<usize>,
        timed: usize,
        rate: i32,
    }

    impl Learner for Formula {
        fn learn(&mut self, _: &Network, part: &Part, candidates: &[Candidate]) -> Result<Vec<Learned>> {
            if self.breaks_at == Some(self.learned.len()) {
                return Err(Error::Interrupted);
            }
            self.learned.push(part.name.clone());
            let learned = |candidate: &Candidate| {
                let good = if candidate.name.contains("k=5") { 0.05 } else { 0.0 };
                let unexplained = 1.0 / (1.0 + candidate.cost.parameters as f64 / 200.0).sqrt() - good;
                let specs = checkpoint::tensors(&candidate.graph(part)?);
                let array = |shape: Vec<usize>| Array { values: vec![0.5; shape.iter().product()], shape };
                let weights = specs.into_iter().map(|spec| (spec.name, array(spec.shape))).collect();
                let diverged = self.diverges.is_some_and(|diverges| diverges(part, candidate)).then_some(30);
                let unexplained = if diverged.is_some() { f64::NAN } else { unexplained };
                Ok(Learned { unexplained, weights, diverged })
            };
            candidates.iter().map(learned).collect()
        }

        fn milliseconds(&mut self, _: &Part, candidate: &Candidate, _: usize) -> Result<f64> {
            self.timed += 1;
            Ok(candidate.cost.macs as f64 / 1e8)
        }

        fn check(&mut self, network: &Network, start: &Weights, folder: &Path) -> Result<(CheckResult, Weights)> {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
            self.checked += 1;
            if self.diverging_checks.contains(&self.checked) {
                return Err(Error::Diverged { step: 9, cause: "the loss is not finite".into() });
            }
            // Training reverses the order: a network with more layers is better.
            let loss = 10.0 - network.layers.len() as f64 + start.len() as f64 * 1e-6;
            Ok((CheckResult { images: 7, loss, unexplained: 0.1, ap50: None }, start.clone()))
        }

        fn recipe(&self) -> serde_json::Value {
            serde_json::json!({"rate": self.rate, "data": [["here/a.json", "here/a"]]})
        }
    }

    pub(super) fn config() -> ExploreConfig {
        ExploreConfig {
            parts: Vec::new(),
            kinds: vec![Kind::Conv, Kind::Ds, Kind::Mb, Kind::Ghost],
            kernels: vec![3, 5],
            expansions: vec![1, 2],
            reductions: vec![0, 8],
            depths: vec![1, 2],
            pools: true,
            max_parameters: 2_560_000,
            max_macs: 1_090_000_000,
            max_ms: None,
            side_px: 416,
            time: true,
            check: 3,
        }
    }

    fn small() -> ExploreConfig {
        let parts = ["conv4", "conv7", "conv9", "conv11"].map(String::from).to_vec();
        ExploreConfig { parts, max_parameters: 80_000, max_macs: 40_000_000, ..config() }
    }

    /// YOLOv3-tiny at an eighth of its widths: what the tests write and read is small.
    fn thin() -> Network {
        let mut network = zoo::network("yolov3_tiny", 3).unwrap();
        for layer in &mut network.layers {
            if let LayerKind::Conv { out, norm: true, .. } = &mut layer.kind {
                *out /= 8;
            }
        }
        network
    }

    fn space_of(config: ExploreConfig) -> Result<SearchSpace> {
        let network = thin();
        let shapes = checkpoint::tensors(&network.graph().unwrap());
        let array = |shape: Vec<usize>| Array { values: vec![0.5; shape.iter().product()], shape };
        let weights: Weights = shapes.into_iter().map(|spec| (spec.name, array(spec.shape))).collect();
        SearchSpace::new(network.clone(), Some((&network, &weights)), Weights::new(), config)
    }

    fn go(space: &SearchSpace, run: &Path, shard: Shard, learner: &mut Formula) -> Result<ExploreOutcome> {
        explore(space, run, shard, learner, &AtomicBool::new(false), &|_| ())
    }

    #[test]
    fn the_best_combination_under_the_budget_is_found_checked_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let space = space_of(small()).unwrap();
        let mut learner = Formula::default();
        let ExploreOutcome::Done { network, best } = go(&space, run, Shard::ALL, &mut learner).unwrap() else {
            panic!()
        };
        assert_eq!((learner.learned.len(), learner.checked), (4, 3), "one pass a part, three checks");
        let cost = cost::total(&network.graph().unwrap(), 416, 416);
        assert_eq!((cost.parameters, cost.macs), (best.parameters, best.macs));
        assert!(cost.parameters <= 80_000 && cost.macs <= 40_000_000, "{cost:?}");

        let Results { candidates, combinations, .. } = results(run).unwrap();
        let all: usize = space.parts().iter().map(|(_, all)| all.len()).sum();
        assert_eq!(candidates.len(), all);
        let checked: Vec<&Combination> = combinations.iter().filter(|c| c.checked.is_some()).collect();
        assert_eq!(checked.len(), 3);
        assert!(checked.windows(2).all(|pair| pair[0].unexplained <= pair[1].unexplained));
        // The checks decide among them.
        let loss = |combination: &Combination| combination.checked.unwrap().loss;
        assert!(checked.iter().all(|combination| loss(&best) <= loss(combination)));
        assert_eq!(combinations.iter().filter(|combination| combination.best).count(), 1);
        // A combination with the same candidate for all parts is there for comparison.
        assert!(combinations.iter().any(|combination| combination.name == "DSConv k=3"), "{combinations:?}");

        assert_eq!(Network::read(run.join("network.json")).unwrap(), network);
        let (same, weights) = checkpoint::read_with_network(&run.join("model.safetensors")).unwrap();
        assert_eq!(same, network);
        assert!(checkpoint::check(&network.graph().unwrap(), &weights).is_ok(), "it is whole: {weights:?}");
        let table = std::fs::read_to_string(run.join("table.md")).unwrap();
        assert!(table.contains("| conv7 |") && table.contains("DSConv k=5"), "{table}");
        let csv = std::fs::read_to_string(run.join("candidates.csv")).unwrap();
        assert_eq!(csv.lines().count(), all + 1);
        let bars = std::fs::read_to_string(run.join("bars.svg")).unwrap();
        assert!(bars.contains("first") && bars.contains("DSConv k=3"));
    }

    #[test]
    fn a_time_changes_the_choice_without_learning_again() {
        let folder = tempfile::tempdir().unwrap();
        let space = space_of(ExploreConfig { check: 0, ..small() }).unwrap();
        let ExploreOutcome::Done { best, .. } =
            go(&space, folder.path(), Shard::ALL, &mut Formula::default()).unwrap()
        else {
            panic!()
        };
        let faster = best.ms.unwrap() * 0.5;
        let space = space_of(ExploreConfig { max_ms: Some(faster), check: 0, ..small() }).unwrap();
        let mut learner = Formula::default();
        let ExploreOutcome::Done { best: fast, .. } = go(&space, folder.path(), Shard::ALL, &mut learner).unwrap()
        else {
            panic!()
        };
        assert!(learner.learned.is_empty());
        assert!(fast.ms.unwrap() <= faster && fast.unexplained > best.unexplained, "{fast:?}");
        let space = space_of(ExploreConfig { max_ms: Some(1e-6), check: 0, ..small() }).unwrap();
        let error = merge(&space, folder.path()).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--max-ms", .. }), "{error}");
    }

    #[test]
    fn a_limit_of_time_that_cannot_be_met_is_refused_before_anything_is_learned() {
        let folder = tempfile::tempdir().unwrap();
        let mut learner = Formula::default();
        let space = space_of(ExploreConfig { max_ms: Some(1e-6), check: 0, ..small() }).unwrap();
        let error = go(&space, folder.path(), Shard::ALL, &mut learner).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--max-ms", .. }), "{error}");
        assert!(learner.learned.is_empty());
        // Otherwise each time is measured once.
        let space = space_of(ExploreConfig { max_ms: Some(1e6), check: 0, ..small() }).unwrap();
        learner.timed = 0;
        go(&space, folder.path(), Shard::ALL, &mut learner).unwrap();
        assert_eq!(learner.timed, space.parts().iter().map(|(_, all)| all.len()).sum::<usize>());
    }

    #[test]
    fn candidates_that_diverge_do_not_spoil_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let space = space_of(small()).unwrap();
        let is_lost = |_: &Part, candidate: &Candidate| candidate.name == "DSConv k=5";
        let mut learner = Formula { diverges: Some(is_lost), ..Formula::default() };
        let ExploreOutcome::Done { best, .. } = go(&space, run, Shard::ALL, &mut learner).unwrap() else {
            panic!()
        };
        let all = space.parts().iter().flat_map(|(part, all)| all.iter().map(move |candidate| (part, candidate)));
        let (lost, kept): (Vec<_>, Vec<_>) = all.partition(|(part, candidate)| is_lost(part, candidate));
        let Results { candidates, diverged, combinations } = results(run).unwrap();
        assert_eq!((candidates.len(), diverged.len()), (kept.len(), lost.len()));
        assert!(diverged.len() > 1 && diverged.iter().all(|lost| lost.step == 30), "{diverged:?}");
        // The rest is as if they had not been tried.
        let names = |combination: &Combination| combination.picks.values().cloned().collect::<Vec<_>>();
        assert!(combinations.iter().all(|one| !names(one).contains(&"DSConv k=5".to_owned())), "{combinations:?}");
        let whole = tempfile::tempdir().unwrap();
        go(&space, whole.path(), Shard::ALL, &mut Formula::default()).unwrap();
        let good = results(whole.path()).unwrap().candidates;
        assert!(candidates.iter().all(|candidate| good.contains(candidate)));
        let table = std::fs::read_to_string(run.join("table.md")).unwrap();
        assert!(table.contains("Diverged and left out: DSConv k=5 for conv4 (step 30)"), "{table}");
        // Nothing is repeated.
        let mut again = Formula::default();
        let ExploreOutcome::Done { best: same, .. } = go(&space, run, Shard::ALL, &mut again).unwrap() else {
            panic!()
        };
        assert_eq!((same, again.learned.len(), again.checked), (best, 0, 0));
        // Their weights are of no use.
        let weights = checkpoint::read(&part_file(run, &space.parts()[0].0)).unwrap().0;
        assert!(weights.keys().any(|name| name.starts_with("DSConv k=3/")));
        assert!(!weights.keys().any(|name| name.starts_with("DSConv k=5/")));

        let folder = tempfile::tempdir().unwrap();
        let all_of_one = |part: &Part, candidate: &Candidate| part.name == "conv7" && !candidate.taken_over;
        let mut learner = Formula { diverges: Some(all_of_one), ..Formula::default() };
        let error = go(&space, folder.path(), Shard::ALL, &mut learner).unwrap_err().to_string();
        assert!(error.contains("all candidates for `conv7` diverged"), "{error}");
    }

    #[test]
    fn a_check_that_diverges_leaves_the_choice_to_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let space = space_of(small()).unwrap();
        let mut learner = Formula { diverging_checks: vec![2], ..Formula::default() };
        let ExploreOutcome::Done { best, .. } = go(&space, folder.path(), Shard::ALL, &mut learner).unwrap() else {
            panic!()
        };
        assert!(best.checked.is_some() && !best.diverged);
        let combinations = results(folder.path()).unwrap().combinations;
        let is_checked = |combination: &&Combination| combination.checked.is_some();
        assert_eq!((combinations.iter().filter(is_checked).count(), learner.checked), (2, 3));
        assert!(combinations[1].diverged && combinations.iter().filter(|one| one.diverged).count() == 1);
        let table = std::fs::read_to_string(folder.path().join("table.md")).unwrap();
        assert!(table.contains("| diverged |"), "{table}");

        let folder = tempfile::tempdir().unwrap();
        let mut learner = Formula { diverging_checks: vec![1, 2, 3], ..Formula::default() };
        for _ in 0..2 {
            let error = go(&space, folder.path(), Shard::ALL, &mut learner).unwrap_err().to_string();
            assert!(error.contains("all checks"), "{error}");
        }
        assert_eq!(learner.checked, 3);
    }

    #[test]
    fn logs_of_other_shards_and_of_other_options() {
        let space = space_of(ExploreConfig { check: 0, ..small() }).unwrap();
        let whole = tempfile::tempdir().unwrap();
        let expected = go(&space, whole.path(), Shard::ALL, &mut Formula::default()).unwrap();
        // The number of shards may change: what one has learned, another does not learn again.
        let folder = tempfile::tempdir().unwrap();
        let mut learner = Formula::default();
        for (index, count) in [(1, 2), (1, 3), (2, 3), (3, 3)] {
            go(&space, folder.path(), Shard { index, count }, &mut learner).unwrap();
        }
        assert_eq!(learner.learned.len(), 4, "{:?}", learner.learned);
        assert_eq!(merge(&space, folder.path()).unwrap(), expected);
        // Of two results the first by the name of the file counts, not by the order in the folder.
        let log = std::fs::read_to_string(folder.path().join("shard-1-of-2.jsonl")).unwrap();
        let others = log.replace("\"unexplained\":0.", "\"unexplained\":0.9");
        assert_ne!(others, log);
        std::fs::write(folder.path().join("shard-2-of-2.jsonl"), others).unwrap();
        assert_eq!(merge(&space, folder.path()).unwrap(), expected);
        // Weights of a result that are not in the folder.
        let taken = part_file(folder.path(), &space.parts()[1].0);
        let whole = std::fs::read(&taken).unwrap();
        checkpoint::write(&taken, space.base(), &Weights::new(), Precision::Half).unwrap();
        let error = merge(&space, folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Checkpoint { path, .. } if *path == taken), "{error}");
        assert!(error.to_string().contains("which a log has, has no tensor"), "{error}");
        std::fs::write(&taken, whole).unwrap();
        // Results of a training with other options are not compared with these, but paths may be other ones.
        for (rate, is_same) in [(0, true), (7, false)] {
            let alone = tempfile::tempdir().unwrap();
            let mut learner = Formula { rate, ..Formula::default() };
            go(&space, alone.path(), Shard { index: 2, count: 2 }, &mut learner).unwrap();
            let log = "shard-2-of-2.jsonl";
            let text = std::fs::read_to_string(alone.path().join(log)).unwrap().replace("here", "there");
            std::fs::write(folder.path().join(log), text).unwrap();
            match merge(&space, folder.path()) {
                Ok(outcome) => assert!(is_same && outcome == expected, "{outcome:?}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!is_same && told.contains("different options (rate)") && told.contains(log), "{told}");
                }
            }
        }
    }

    #[test]
    fn shards_and_kills_come_to_the_same() {
        let space = space_of(small()).unwrap();
        let whole = tempfile::tempdir().unwrap();
        let expected = go(&space, whole.path(), Shard::ALL, &mut Formula::default()).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let mut killed = Formula { breaks_at: Some(1), ..Formula::default() };
        let first = Shard { index: 1, count: 2 };
        assert!(matches!(go(&space, folder.path(), first, &mut killed), Err(Error::Interrupted)));
        let waiting = merge(&space, folder.path()).unwrap();
        assert!(matches!(waiting, ExploreOutcome::Waiting { candidates: 1.., .. }), "{waiting:?}");
        let (mut learned, mut checked) = (killed.learned.clone(), 0);
        for _ in 0..3 {
            for index in [2, 1] {
                let mut learner = Formula::default();
                go(&space, folder.path(), Shard { index, count: 2 }, &mut learner).unwrap();
                learned.extend(learner.learned);
                checked += learner.checked;
            }
        }
        assert_eq!(merge(&space, folder.path()).unwrap(), expected);
        learned.sort();
        assert_eq!((learned, checked), (["conv11", "conv4", "conv7", "conv9"].map(String::from).to_vec(), 3));
        // A line truncated by a kill is computed again.
        let log = folder.path().join("shard-2-of-2.jsonl");
        let text = std::fs::read_to_string(&log).unwrap();
        let cut = text.lines().position(|line| line.contains("\"part\":\"conv11\"")).unwrap();
        let kept: Vec<&str> = text.lines().take(cut).collect();
        std::fs::write(&log, kept.join("\n") + "\n{\"what\":\"candi").unwrap();
        let mut again = Formula::default();
        go(&space, folder.path(), Shard { index: 2, count: 2 }, &mut again).unwrap();
        assert_eq!(again.learned, ["conv11"]);
    }

    #[test]
    fn shards_are_read_as_documented() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for wrong in ["", "2", "0/3", "4/3", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_explored_is_refused() {
        let refused = |config: ExploreConfig, option: &str| match space_of(config) {
            Err(Error::Option { option: told, problem }) => assert_eq!(told, option, "{problem}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{option} was taken"),
        };
        refused(ExploreConfig { max_parameters: 1000, ..small() }, "--max-parameters");
        refused(ExploreConfig { max_macs: 1000, ..small() }, "--max-macs");
        refused(ExploreConfig { side_px: 100, ..small() }, "--cost-imgsz");
        refused(ExploreConfig { kinds: vec![], ..small() }, "--kinds");
        // The only remaining candidate is the layer itself.
        let same =
            ExploreConfig { parts: vec!["conv4".into()], kinds: vec![Kind::Conv], kernels: vec![3], ..small() };
        let free = ExploreConfig { max_parameters: u64::MAX / 2, max_macs: u64::MAX / 2, ..same };
        refused(ExploreConfig { depths: vec![1], parts: vec!["conv5".into()], ..free }, "--kinds");
        refused(ExploreConfig { parts: vec!["none".into()], ..small() }, "--parts");
        refused(ExploreConfig { depths: vec![0], ..small() }, "--depths");
        refused(ExploreConfig { expansions: vec![0], ..small() }, "--expansions");
        refused(ExploreConfig { time: false, max_ms: Some(1.0), ..small() }, "--max-ms");
        refused(ExploreConfig { max_ms: Some(f64::NAN), ..small() }, "--max-ms");
    }

    #[test]
    fn candidates_beyond_the_budget_do_not_learn() {
        let space = space_of(small()).unwrap();
        let (_, conv7) = space.parts().iter().find(|(part, _)| part.name == "conv7").unwrap();
        assert!(conv7.iter().all(|candidate| candidate.cost.parameters < 60_000), "{conv7:?}");
        assert!(conv7.iter().any(|candidate| matches!(candidate.layers[0].kind, LayerKind::DsConv { .. })));
    }

    #[test]
    fn a_folder_of_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let space = space_of(small()).unwrap();
        go(&space, folder.path(), Shard::ALL, &mut Formula::default()).unwrap();
        let other = space_of(ExploreConfig { kernels: vec![7], ..small() }).unwrap();
        for error in [
            merge(&other, folder.path()).unwrap_err(),
            go(&other, folder.path(), Shard::ALL, &mut Formula::default()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Option { option: "--run", .. }), "{error}");
        }
        assert!(merge(&space, Path::new("nowhere")).is_err());
    }
}
