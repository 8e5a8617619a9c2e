//! Progressive channel pruning: each round removes a share of the network and trains the rest.
//!
//! A round computes statistics on photographs ([`Statistics`]). It removes the channels with the smallest error for the
//! cost that they save, from all layers at once ([`choose`]). It fits the convolutions that read them by least squares
//! ([`reduce`]), trains the pruned network and measures it. Rounds continue until the budget is met or accuracy would
//! fall below its minimum.
//!
//! The folder of a run contains `config.json`, `log.jsonl` (one [`Event`] per line), `round-NNN.safetensors` for each
//! round, `path.svg`, and in the end `network.json` and `model.safetensors`. The same command continues an interrupted
//! run. It repeats no round, and continues the interrupted one from `cut-NNN.safetensors` and the folder `work`.

pub mod groups;
pub mod least_squares;
pub mod statistics;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Precision, Weights};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::figure::{self, Axis, Series, Titles};
use crate::journal::Journal;
use crate::network::Network;
use crate::trainer::Trainer;
use groups::Channel;
use least_squares::{Target, choose, reduce};
use statistics::Statistics;

/// The start of a run.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The network to prune.
    pub network: &'a Network,
    /// Its weights.
    pub weights: &'a Weights,
    /// Photographs for the statistics, of [`PruneConfig::statistics_px`] (see [`crate::quantize::letterboxed`]).
    pub images: &'a [Vec<f32>],
}

/// All options of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneConfig {
    /// Side in pixels of the square input for which MACs are counted.
    pub side_px: usize,
    /// Maximum share of the parameters and MACs that a round removes. With a budget, all rounds remove equal shares.
    pub share: f64,
    /// Numbers of channels stay multiples of this, and at least this.
    pub multiple: usize,
    /// Stop at this many parameters or fewer.
    pub max_parameters: Option<u64>,
    /// Stop at this many multiply-accumulates or fewer.
    pub max_macs: Option<u64>,
    /// Stop before AP50 falls below this.
    pub min_ap50: Option<f64>,
    /// Number of photographs for the statistics of a round.
    pub statistics: usize,
    /// Side of their square input in pixels.
    pub statistics_px: usize,
    /// Number of training images after a round; 0 for none.
    pub round_images: u64,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The network that the run started from.
    Start {
        /// Its cost and accuracy.
        #[serde(flatten)]
        state: State,
    },
    /// A finished round.
    Round {
        /// From 1.
        round: usize,
        /// The widths that became smaller.
        cuts: Vec<Narrowed>,
        /// The network's cost and accuracy after it.
        #[serde(flatten)]
        state: State,
    },
    /// The end, and why.
    End {
        /// In words.
        reason: String,
    },
}

/// A width that became smaller in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Narrowed {
    /// The group's name.
    pub group: String,
    /// Channels of the group before and after.
    pub channels: [usize; 2],
}

/// Cost and accuracy of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// See [`Cost::parameters`].
    pub parameters: u64,
    /// See [`Cost::macs`].
    pub macs: u64,
    /// As measured by [`Trainer::measure`].
    pub ap50: f64,
}

impl State {
    fn new(network: &Network, side_px: usize, ap50: f64) -> Result<State> {
        let cost = cost::total(&network.graph()?, side_px, side_px);
        Ok(State { parameters: cost.parameters, macs: cost.macs, ap50 })
    }

    fn cost(&self) -> Cost {
        Cost { weights: 0, parameters: self.parameters, macs: self.macs }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The pruned network.
    pub network: Network,
    /// Its trained weights.
    pub weights: Weights,
    /// Its cost and accuracy.
    pub state: State,
    /// Number of finished rounds, including those before an interruption.
    pub rounds: usize,
    /// Why it ended, in words.
    pub reason: String,
}

/// Prunes a network in the folder `run`, until the budget is met, an error occurs, or `stop` is set (then
/// [`Error::Interrupted`]). `say` gets sentences about the progress.
///
/// # Errors
///
/// No target, a target that cannot be met, no photographs, a folder of another run, errors of the trainer, a full disk.
pub fn prune(
    start: &Start,
    config: &PruneConfig,
    run: &Path,
    trainer: &mut dyn Trainer,
    stop: &AtomicBool,
    say: &dyn Fn(String),
) -> Result<Outcome> {
    check(start, config)?;
    std::fs::create_dir_all(run).map_err(Error::io(run))?;
    crate::run::same_recipe(start.network, config, run, true, &[])?;
    crate::run::same_trainer(&trainer.recipe(), run)?;
    let (mut journal, events) = Journal::open::<Event>(&run.join("log.jsonl"))?;
    let mut rounds = Rounds::resume(start, config, run, events, trainer, &mut journal)?;
    let first = rounds.start.ap50;
    if let Some(floor) = config.min_ap50.filter(|&floor| first < floor) {
        let problem = format!("{floor} is above the AP50 of the network to prune, {first:.4}");
        return Err(Error::Option { option: "--min-ap50", problem });
    }
    let reason = loop {
        if let Some(reason) = rounds.ended.clone() {
            break reason;
        }
        if config.is_met(&rounds.state) {
            break "the budget is met".to_string();
        }
        if let Some(reason) = rounds.next(start.images, config, run, trainer, &mut journal, stop, say)? {
            break reason;
        }
        let figure = path_figure(&rounds.events).map_err(Error::Figure)?;
        checkpoint::write_whole(&run.join("path.svg"), figure.as_bytes())?;
    };
    checkpoint::write_whole(&run.join("network.json"), rounds.network.to_json().as_bytes())?;
    checkpoint::write(&run.join("model.safetensors"), &rounds.network, &rounds.weights, Precision::Half)?;
    if rounds.ended.is_none() {
        journal.write(&Event::End { reason: reason.clone() })?;
    }
    let Rounds { network, weights, state, round, .. } = rounds;
    Ok(Outcome { network, weights, state, rounds: round, reason })
}

impl PruneConfig {
    fn budget(&self) -> Target {
        Target {
            max_parameters: self.max_parameters,
            max_macs: self.max_macs,
            side_px: self.side_px,
            multiple: self.multiple,
        }
    }

    fn is_met(&self, state: &State) -> bool {
        let has_budget = self.max_parameters.is_some() || self.max_macs.is_some();
        has_budget && self.budget().is_met(&state.cost())
    }

    /// The target of the next round of a run that began at `start`.
    fn target(&self, start: &State, now: &State) -> Target {
        let keep = 1.0 - self.share;
        if self.max_parameters.is_none() && self.max_macs.is_none() {
            return Target { max_macs: Some((now.macs as f64 * keep) as u64), ..self.budget() };
        }
        let pairs = [(start.parameters, self.max_parameters), (start.macs, self.max_macs)];
        // From the current cost to the budget in rounds with equal factors.
        let needed = pairs.iter().filter_map(|&(from, most)| {
            let most = most.filter(|&most| most < from)?;
            Some(((most as f64 / from as f64).ln() / keep.ln()).ceil() as i32)
        });
        let rounds = needed.max().unwrap_or(1).max(1);
        let after = |round: i32| {
            let aim = |from: u64, most: Option<u64>| {
                let most = most?;
                let left = (most as f64 / from as f64).min(1.0).powf(f64::from(round) / f64::from(rounds));
                Some(if round < rounds { ((from as f64 * left) as u64).max(most) } else { most })
            };
            Target {
                max_parameters: aim(start.parameters, self.max_parameters),
                max_macs: aim(start.macs, self.max_macs),
                ..self.budget()
            }
        };
        // A round may have removed more than its target.
        (1..rounds).map(after).find(|target| !target.is_met(&now.cost())).unwrap_or_else(|| after(rounds))
    }
}

fn check(start: &Start, config: &PruneConfig) -> Result<()> {
    let network = start.network;
    let graph = network.graph()?;
    checkpoint::check(&graph, start.weights)
        .map_err(|problem| Error::Network { network: network.name.clone(), problem })?;
    let wrong = |option: &'static str, problem: String| Err(Error::Option { option, problem });
    if config.max_parameters.is_none() && config.max_macs.is_none() && config.min_ap50.is_none() {
        return wrong("--max-parameters", "give a budget of parameters or MACs, or a floor of AP50".into());
    }
    if !(config.share > 0.0 && config.share < 1.0) {
        return wrong("--share", format!("{} is not between 0 and 1", config.share));
    }
    if config.multiple == 0 {
        return wrong("--multiple", "0 is no width".into());
    }
    if config.min_ap50.is_some_and(|floor| !(0.0..=1.0).contains(&floor)) {
        return wrong("--min-ap50", "AP50 is from 0 to 1".into());
    }
    graph.check_size("--cost-imgsz", config.side_px, config.side_px)?;
    Statistics::check(&graph, start.images, config.statistics_px)?;
    // The smallest possible cost: every group at its minimum.
    let groups = groups::groups(&graph);
    let spare = |group: &groups::Group| group.channels.len().saturating_sub(group.unit(config.multiple));
    let removed: Vec<&Channel> = groups.iter().flat_map(|group| group.channels.iter().take(spare(group))).collect();
    if removed.is_empty() {
        let problem = format!("no width of `{}` can go: none is above {}", network.name, config.multiple);
        return wrong("--multiple", problem);
    }
    let least = groups::thin(network, &removed)?;
    let least = cost::total(&least.graph()?, config.side_px, config.side_px);
    for (option, most, least) in
        [("--max-parameters", config.max_parameters, least.parameters), ("--max-macs", config.max_macs, least.macs)]
    {
        if let Some(most) = most.filter(|&most| most < least) {
            let narrowest = config.multiple;
            let problem = format!("{most} cannot be met: with every width at {narrowest} there are still {least}");
            return wrong(option, problem);
        }
    }
    Ok(())
}

/// The state of a run.
struct Rounds {
    network: Network,
    weights: Weights,
    /// What the run began with.
    start: State,
    state: State,
    /// Number of finished rounds.
    round: usize,
    events: Vec<Event>,
    ended: Option<String>,
}

fn round_file(run: &Path, round: usize) -> PathBuf {
    run.join(format!("round-{round:03}.safetensors"))
}

impl Rounds {
    /// Continues from the log, or starts it.
    fn resume(
        start: &Start,
        config: &PruneConfig,
        run: &Path,
        mut events: Vec<Event>,
        trainer: &mut dyn Trainer,
        journal: &mut Journal,
    ) -> Result<Rounds> {
        if events.is_empty() {
            checkpoint::write(&round_file(run, 0), start.network, start.weights, Precision::Single)?;
            let ap50 = trainer.measure(start.network, start.weights)?;
            events.push(Event::Start { state: State::new(start.network, config.side_px, ap50)? });
            journal.write(&events[0])?;
        }
        let (mut round, mut first, mut last, mut ended) = (0, None, None, None);
        for event in &events {
            match event {
                Event::Start { state } => (first, last) = (Some(*state), Some(*state)),
                Event::Round { round: done, state: after, .. } => (round, last) = (*done, Some(*after)),
                Event::End { reason } => ended = Some(reason.clone()),
            }
        }
        let path = round_file(run, round);
        let (Some(start), Some(state)) = (first, last) else {
            return Err(Error::Checkpoint { path, problem: "the log does not begin with a start".into() });
        };
        let (network, weights) = checkpoint::read_with_network(&path)?;
        Ok(Rounds { network, weights, start, state, round, events, ended })
    }

    /// Runs one more round. Returns the reason if the run has ended.
    #[allow(clippy::too_many_arguments)] // The run's own parts, as `prune` has them.
    fn next(
        &mut self,
        images: &[Vec<f32>],
        config: &PruneConfig,
        run: &Path,
        trainer: &mut dyn Trainer,
        journal: &mut Journal,
        stop: &AtomicBool,
        say: &dyn Fn(String),
    ) -> Result<Option<String>> {
        let round = self.round + 1;
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let cut_file = run.join(format!("cut-{round:03}.safetensors"));
        if !cut_file.exists() {
            let looked = |done: usize| {
                if done == images.len() {
                    say(format!("round {round}: has looked at {done} photographs"));
                }
            };
            let statistics =
                Statistics::collect(&self.network, &self.weights, images, config.statistics_px, &looked)?;
            let target = config.target(&self.start, &self.state);
            let removed = choose(&self.network, &self.weights, &statistics, &target)?;
            if removed.is_empty() {
                return Ok(Some("no width can spare more channels".into()));
            }
            let removed: Vec<&Channel> = removed.iter().collect();
            let (network, weights) = reduce(&self.network, &self.weights, &statistics, &removed)?;
            checkpoint::write(&cut_file, &network, &weights, Precision::Single)?;
        }
        let (network, mut weights) = checkpoint::read_with_network(&cut_file)?;
        let cuts = narrowed(&self.network, &network)?;
        for Narrowed { group, channels: [before, after] } in &cuts {
            say(format!("round {round}: {group} {before} → {after}"));
        }
        let work = run.join("work");
        if config.round_images > 0 {
            weights = trainer.train(&network, &weights, config.round_images, &work)?;
        }
        let state = State::new(&network, config.side_px, trainer.measure(&network, &weights)?)?;
        say(format!(
            "round {round}: AP50 {:.4}, {:.3} M parameters, {:.4} GMAC",
            state.ap50,
            state.parameters as f64 / 1e6,
            state.macs as f64 / 1e9
        ));
        let is_kept = config.min_ap50.is_none_or(|floor| state.ap50 >= floor);
        if is_kept {
            checkpoint::write(&round_file(run, round), &network, &weights, Precision::Single)?;
            let event = Event::Round { round, cuts, state };
            journal.write(&event)?;
            self.events.push(event);
            (self.network, self.weights, self.state, self.round) = (network, weights, state, round);
        }
        // If this fails, the file only wastes space.
        let _ = std::fs::remove_file(&cut_file);
        let _ = std::fs::remove_dir_all(&work);
        Ok((!is_kept).then(|| "the next round would fall below the floor of AP50".into()))
    }
}

/// The widths that are smaller in the network `after`.
fn narrowed(before: &Network, after: &Network) -> Result<Vec<Narrowed>> {
    let [before, after] = [groups::groups(&before.graph()?), groups::groups(&after.graph()?)];
    let pairs = before.into_iter().filter_map(|group| {
        let thin = after.iter().find(|thin| thin.name == group.name)?;
        let channels = [group.channels.len(), thin.channels.len()];
        (channels[1] < channels[0]).then_some(Narrowed { group: group.name, channels })
    });
    Ok(pairs.collect())
}

/// A figure of a run: AP50 against MACs.
///
/// # Errors
///
/// A message, if there is nothing to draw.
pub fn path_figure(events: &[Event]) -> Result<String, String> {
    let point = |event: &Event| match event {
        Event::Start { state } => Some((state.macs as f64, state.ap50, "start".to_string())),
        Event::Round { state, .. } => Some((state.macs as f64, state.ap50, String::new())),
        Event::End { .. } => None,
    };
    let points = events.iter().filter_map(point).collect();
    let titles = Titles { title: "Progressive channel pruning", x: "multiply-accumulates", y: "AP50" };
    let series = Series { name: "after each round".into(), points, line: true };
    figure::plot(titles, &[series], Axis::Linear, Axis::Linear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Head, Layer, LayerKind};
    use crate::reference::random_weights;
    use crate::zoo;

    /// A trainer whose accuracy falls with the share of removed channels. Its training changes nothing, but is counted.
    struct Formula {
        full: Vec<(String, usize)>,
        trained: u64,
        measured: usize,
        /// Fails at this measurement, like a kill.
        breaks_at: usize,
    }

    impl Formula {
        fn new(network: &Network) -> Formula {
            let full = groups::groups(&network.graph().unwrap());
            let full = full.into_iter().map(|group| (group.name, group.channels.len())).collect();
            Formula { full, trained: 0, measured: 0, breaks_at: usize::MAX }
        }
    }

    impl Trainer for Formula {
        fn train(&mut self, _: &Network, weights: &Weights, images: u64, _: &Path) -> Result<Weights> {
            self.trained += images;
            Ok(weights.clone())
        }

        fn measure(&mut self, network: &Network, _: &Weights) -> Result<f64> {
            self.measured += 1;
            if self.measured == self.breaks_at {
                return Err(Error::Interrupted);
            }
            let now = groups::groups(&network.graph().unwrap());
            let lost: f64 = now
                .iter()
                .zip(&self.full)
                .map(|(group, (name, full))| {
                    assert_eq!(&group.name, name);
                    0.01 * (1.0 - group.channels.len() as f64 / *full as f64)
                })
                .sum();
            Ok(0.5 - lost)
        }

        fn recipe(&self) -> serde_json::Value {
            serde_json::json!({})
        }
    }

    /// A chain with squeeze-and-excitation and a concatenated skip connection, with a few thousand weights.
    fn small() -> (Network, Weights) {
        let activation = Activation::Relu6;
        let ds = |name: &str, out, stride| Layer::new(name, LayerKind::ds_conv(out, 3, stride, activation));
        let to_head = |name: &str, out| {
            let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false };
            Layer::new(name, kind).from(["join"])
        };
        let context = LayerKind::mb_conv(64, 32, 3, 1, 16, activation);
        let layers = vec![
            Layer::new("stem", LayerKind::Conv { out: 16, kernel: 3, stride: 2, activation, norm: true }),
            ds("block1", 32, 2),
            ds("block2", 48, 1),
            ds("block3", 48, 1),
            Layer::new("context", context),
            Layer::new("join", LayerKind::Concat).from(["context", "block2"]),
            to_head("sides", 4),
            to_head("scores", 3),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        let network = Network { name: "small".into(), classes: 3, names: Vec::new(), layers };
        let weights = random_weights(&network.graph().unwrap(), 1);
        (network, weights)
    }

    fn config() -> PruneConfig {
        PruneConfig {
            side_px: 64,
            share: 0.15,
            multiple: 8,
            max_parameters: None,
            max_macs: None,
            min_ap50: None,
            statistics: 4,
            statistics_px: 32,
            round_images: 100,
        }
    }

    fn images() -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(4);
        (0..4).map(|_| (0..3 * 32 * 32).map(|_| random.f32()).collect()).collect()
    }

    fn go(config: &PruneConfig, run: &Path, trainer: &mut Formula) -> Result<Outcome> {
        let (network, weights) = small();
        let start = Start { network: &network, weights: &weights, images: &images() };
        prune(&start, config, run, trainer, &AtomicBool::new(false), &|_| ())
    }

    #[test]
    fn rounds_go_on_to_the_budget() {
        let folder = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let mut trainer = Formula::new(&network);
        let config = PruneConfig { max_parameters: Some(10_000), ..config() };
        let outcome = go(&config, folder.path(), &mut trainer).unwrap();
        assert!(outcome.state.parameters <= 10_000 && outcome.state.parameters > 8_500, "{outcome:?}");
        assert_eq!(outcome.reason, "the budget is met");
        assert!(outcome.rounds > 1);
        assert_eq!(trainer.trained, 100 * outcome.rounds as u64);
        for group in groups::groups(&outcome.network.graph().unwrap()) {
            assert_eq!(group.channels.len() % 8, 0, "{group:?}");
        }
        // The result is the pruned network, ready for training.
        let (again, _) = checkpoint::read_with_network(&folder.path().join("model.safetensors")).unwrap();
        assert_eq!(again, outcome.network);
        assert_eq!(Network::read(folder.path().join("network.json")).unwrap(), outcome.network);
        assert!(std::fs::read_to_string(folder.path().join("path.svg")).unwrap().contains("<svg"));
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(files.into_iter().all(|name| !name.to_string_lossy().starts_with("cut-")));
        let (_, events) = Journal::open::<Event>(&folder.path().join("log.jsonl")).unwrap();
        let cuts = |event: &Event| if let Event::Round { cuts, .. } = event { cuts.len() } else { 0 };
        assert!(events.iter().map(cuts).sum::<usize>() >= outcome.rounds, "{events:?}");
    }

    #[test]
    fn rounds_are_equal_steps_to_both_budgets() {
        let config = PruneConfig { max_parameters: Some(500), max_macs: Some(2_000), share: 0.3, ..config() };
        let state = |parameters, macs| State { parameters, macs, ap50: 0.5 };
        let start = state(1000, 2_500);
        // ln 0.5 / ln 0.7 = 1.94: two rounds.
        let first = config.target(&start, &start);
        assert_eq!((first.max_parameters, first.max_macs), (Some(707), Some(2_236)));
        // Of two targets of which one is already met, the other counts.
        let last = config.target(&start, &state(700, 2_100));
        assert_eq!((last.max_parameters, last.max_macs), (Some(500), Some(2_000)));
        let floor = PruneConfig { max_parameters: None, max_macs: None, ..config };
        assert_eq!(floor.target(&start, &state(700, 2_000)).max_macs, Some(1_400));
    }

    #[test]
    fn a_killed_run_goes_on_without_doing_anything_twice() {
        let whole = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let config = PruneConfig { max_macs: Some(1_000_000), ..config() };
        let mut trainer = Formula::new(&network);
        let expected = go(&config, whole.path(), &mut trainer).unwrap();
        assert!(expected.rounds > 2);
        let measured = trainer.measured;

        let folder = tempfile::tempdir().unwrap();
        let mut all = 0;
        for breaks_at in [1, 2, 2, 1, usize::MAX] {
            let mut trainer = Formula { breaks_at, ..Formula::new(&network) };
            let result = go(&config, folder.path(), &mut trainer);
            all += trainer.measured - usize::from(breaks_at != usize::MAX);
            match result {
                Ok(outcome) => {
                    assert_eq!(outcome, expected);
                    assert_eq!(breaks_at, usize::MAX);
                }
                Err(error) => assert!(matches!(error, Error::Interrupted), "{error}"),
            }
        }
        assert_eq!(all, measured);
        let log = |folder: &Path| std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
        assert_eq!(log(folder.path()), log(whole.path()));
        // Repeated: there is nothing left to do.
        let mut trainer = Formula::new(&network);
        assert_eq!(go(&config, folder.path(), &mut trainer).unwrap(), expected);
        assert_eq!((trainer.measured, trainer.trained), (0, 0));
    }

    #[test]
    fn a_round_that_was_cut_is_not_cut_again() {
        let folder = tempfile::tempdir().unwrap();
        let (network, weights) = small();
        let config = PruneConfig { min_ap50: Some(0.49), ..config() };
        let mut killed = Formula { breaks_at: 2, ..Formula::new(&network) };
        assert!(matches!(go(&config, folder.path(), &mut killed), Err(Error::Interrupted)));
        // Another cut than the round would choose.
        let group = groups::groups(&network.graph().unwrap()).remove(0);
        let removed: Vec<&Channel> = group.channels[..8].iter().collect();
        let (thin, thin_weights) = groups::cut(&network, &weights, &removed).unwrap();
        checkpoint::write(&folder.path().join("cut-001.safetensors"), &thin, &thin_weights, Precision::Single)
            .unwrap();
        go(&config, folder.path(), &mut Formula::new(&network)).unwrap();
        let (first, _) = checkpoint::read_with_network(&round_file(folder.path(), 1)).unwrap();
        assert_eq!(first, thin);
    }

    #[test]
    fn the_floor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let config = PruneConfig { min_ap50: Some(0.48), ..config() };
        let outcome = go(&config, folder.path(), &mut Formula::new(&network)).unwrap();
        assert!(outcome.state.ap50 >= 0.48 && outcome.rounds > 0, "{outcome:?}");
        assert!(outcome.reason.contains("floor"), "{}", outcome.reason);
        // A network that is below it from the start would be trained for a round in vain.
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = Formula::new(&network);
        let above = PruneConfig { min_ap50: Some(0.51), ..config.clone() };
        let error = go(&above, folder.path(), &mut trainer).unwrap_err().to_string();
        assert!(error.contains("--min-ap50: 0.51 is above") && error.contains("0.5000"), "{error}");
        assert_eq!((trainer.trained, trainer.measured), (0, 1));
        // Without a minimum that applies, it continues until nothing can be removed.
        let folder = tempfile::tempdir().unwrap();
        let config = PruneConfig { min_ap50: Some(0.0), ..config };
        let outcome = go(&config, folder.path(), &mut Formula::new(&network)).unwrap();
        assert_eq!(outcome.reason, "no width can spare more channels");
        let widths = groups::groups(&outcome.network.graph().unwrap());
        assert!(widths.iter().all(|group| group.channels.len() == 8), "{widths:?}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (network, weights) = small();
        let cases = [
            (config(), "--max-parameters"),
            (PruneConfig { max_parameters: Some(100), ..config() }, "--max-parameters"),
            (PruneConfig { max_macs: Some(1000), ..config() }, "--max-macs"),
            (PruneConfig { min_ap50: Some(2.0), ..config() }, "--min-ap50"),
            (PruneConfig { min_ap50: Some(0.1), share: f64::NAN, ..config() }, "--share"),
            (PruneConfig { min_ap50: Some(0.1), multiple: 0, ..config() }, "--multiple"),
            (PruneConfig { min_ap50: Some(0.1), multiple: 64, ..config() }, "--multiple"),
            (PruneConfig { min_ap50: Some(0.1), side_px: 1 << 40, ..config() }, "--cost-imgsz"),
            (PruneConfig { min_ap50: Some(0.1), statistics_px: 33, ..config() }, "--imgsz"),
        ];
        for (config, expected) in cases {
            match go(&config, folder.path(), &mut Formula::new(&network)) {
                Err(Error::Option { option, .. }) => assert_eq!(option, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        // A folder of another run, no photographs, and weights of another network.
        let first = PruneConfig { min_ap50: Some(0.4999), ..config() };
        go(&first, folder.path(), &mut Formula::new(&network)).unwrap();
        let other = PruneConfig { min_ap50: Some(0.3), ..config() };
        let error = go(&other, folder.path(), &mut Formula::new(&network)).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--run", .. }), "{error}");
        let refused = |start: Start| {
            let mut trainer = Formula::new(start.network);
            prune(&start, &first, folder.path(), &mut trainer, &AtomicBool::new(false), &|_| ()).unwrap_err()
        };
        let none = refused(Start { network: &network, weights: &weights, images: &[] });
        assert!(matches!(none, Error::Option { option: "--statistics", .. }), "{none}");
        let tiny = zoo::network("yolov3_tiny", 3).unwrap();
        let foreign = refused(Start { network: &tiny, weights: &weights, images: &images() });
        assert!(matches!(foreign, Error::Network { .. }), "{foreign}");
    }
}
