//! Progressive channel pruning: round by round, the cut that costs the least accuracy for what it saves.
//!
//! A round tries, for each [group](groups::Group) of channels, the network without a small share of the group's least important
//! ones: cut, fine-tuned briefly, measured. The best cut stays, is fine-tuned a little more, and the next round starts
//! from there, until the budget is met or accuracy would fall below its floor.
//!
//! A run lives in a folder: `config.json`, `log.jsonl` (an [`Event`] a line), `round-NNN.safetensors` after each round,
//! `path.svg`, and in the end `network.json` and `model.safetensors`. The same command continues a killed
//! run; neither a round nor a trial is repeated.

pub mod groups;

use std::collections::BTreeSet;
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

/// Everything that decides a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneConfig {
    /// Side of the square input in pixels that MACs are counted for.
    pub side_px: usize,
    /// Share of a group's channels that a cut removes.
    pub share: f64,
    /// Widths are cut to multiples of this, and never below it.
    pub multiple: usize,
    /// Stop at this many parameters or fewer.
    pub max_parameters: Option<u64>,
    /// Stop at this many multiply-accumulates or fewer.
    pub max_macs: Option<u64>,
    /// Stop before AP50 falls below this.
    pub min_ap50: Option<f64>,
    /// Images of fine-tuning in a trial; 0 for none.
    pub trial_images: u64,
    /// Images of fine-tuning after a round; 0 for none.
    pub round_images: u64,
    /// Groups that a round tries, those whose cut promises most for its importance; all without.
    pub candidates: Option<usize>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The network that the run started from.
    Start {
        /// What it costs and finds.
        #[serde(flatten)]
        state: State,
    },
    /// A cut that was tried.
    Trial {
        /// From 1.
        round: usize,
        /// The group's name.
        group: String,
        /// Channels of the group before and after.
        channels: [usize; 2],
        /// What the cut network costs and finds.
        #[serde(flatten)]
        state: State,
    },
    /// The cut that stays.
    Round {
        /// From 1.
        round: usize,
        /// The group's name.
        group: String,
        /// Channels of the group before and after.
        channels: [usize; 2],
        /// What the network costs and finds now.
        #[serde(flatten)]
        state: State,
    },
    /// The end, and why.
    End {
        /// In words.
        reason: String,
    },
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
    fn new(cost: Cost, ap50: f64) -> State {
        State { parameters: cost.parameters, macs: cost.macs, ap50 }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The thin network.
    pub network: Network,
    /// Its weights, fine-tuned.
    pub weights: Weights,
    /// What it costs and finds.
    pub state: State,
    /// Rounds done, over all parts of the run.
    pub rounds: usize,
    /// Why it ended, in words.
    pub reason: String,
}

/// Prunes `network` in the folder `run`, until the budget, an error, or `stop` (then [`Error::Interrupted`]). `say`
/// gets sentences about the progress.
///
/// # Errors
///
/// No target, a target that cannot be met, a folder of another run, what the trainer says, a full disk.
pub fn prune(
    network: &Network,
    weights: &Weights,
    config: &PruneConfig,
    run: &Path,
    trainer: &mut dyn Trainer,
    stop: &AtomicBool,
    say: &dyn Fn(String),
) -> Result<Outcome> {
    check(network, weights, config)?;
    std::fs::create_dir_all(run).map_err(Error::io(run))?;
    crate::run::same_recipe(network, config, run, true, &[])?;
    crate::run::same_trainer(&trainer.recipe(), run)?;
    let (mut journal, events) = Journal::open::<Event>(&run.join("log.jsonl"))?;
    let mut rounds = Rounds::resume(network, weights, config, run, events, trainer, &mut journal)?;
    let reason = loop {
        if let Some(reason) = rounds.ended.clone() {
            break reason;
        }
        if config.is_met(&rounds.state) {
            break "the budget is met".to_string();
        }
        if !rounds.next(config, run, trainer, &mut journal, stop, say)? {
            break "no cut is left that keeps the floor".to_string();
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
    fn is_met(&self, state: &State) -> bool {
        let has_budget = self.max_parameters.is_some() || self.max_macs.is_some();
        has_budget
            && self.max_parameters.is_none_or(|most| state.parameters <= most)
            && self.max_macs.is_none_or(|most| state.macs <= most)
    }

    /// What a cut is worth: the share it saves of what is above each budget; of all MACs where there is only a floor.
    fn saving(&self, before: Cost, after: Cost) -> f64 {
        let part = |before: u64, after: u64, most: Option<u64>| match most {
            Some(most) if before > most => (before - after) as f64 / (before - most) as f64,
            _ => 0.0,
        };
        if self.max_parameters.is_none() && self.max_macs.is_none() {
            return (before.macs - after.macs) as f64 / before.macs as f64;
        }
        part(before.parameters, after.parameters, self.max_parameters)
            + part(before.macs, after.macs, self.max_macs)
    }

    /// Channels that a cut leaves of `width`; `None` where it can take none.
    fn narrower(&self, width: usize) -> Option<usize> {
        let left = (width as f64 * (1.0 - self.share)) as usize / self.multiple * self.multiple;
        // A share below one multiple takes one multiple.
        let left = left.max(self.multiple);
        (left < width).then_some(left)
    }
}

fn check(network: &Network, weights: &Weights, config: &PruneConfig) -> Result<()> {
    let graph = network.graph()?;
    checkpoint::check(&graph, weights)
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
    // The least there can be: every group at its narrowest.
    let groups = groups::groups(&graph);
    let removed: Vec<&Channel> =
        groups.iter().flat_map(|group| group.channels.iter().skip(config.multiple)).collect();
    let least = groups::thin(network, &removed)?;
    let least = cost::total(&least.graph()?, config.side_px, config.side_px);
    if let Some(most) = config.max_parameters.filter(|&most| most < least.parameters) {
        let problem = format!(
            "{most} cannot be met: with every width at {} there are still {}",
            config.multiple, least.parameters
        );
        return wrong("--max-parameters", problem);
    }
    if let Some(most) = config.max_macs.filter(|&most| most < least.macs) {
        let problem =
            format!("{most} cannot be met: with every width at {} there are still {}", config.multiple, least.macs);
        return wrong("--max-macs", problem);
    }
    Ok(())
}

/// Where a run stands.
struct Rounds {
    network: Network,
    weights: Weights,
    state: State,
    /// Rounds done.
    round: usize,
    events: Vec<Event>,
    ended: Option<String>,
}

fn round_file(run: &Path, round: usize) -> PathBuf {
    run.join(format!("round-{round:03}.safetensors"))
}

fn trial_file(run: &Path, round: usize, group: &str) -> PathBuf {
    run.join(format!("trial-{round:03}-{group}.safetensors"))
}

impl Rounds {
    /// Goes on from the log, or starts it.
    fn resume(
        network: &Network,
        weights: &Weights,
        config: &PruneConfig,
        run: &Path,
        mut events: Vec<Event>,
        trainer: &mut dyn Trainer,
        journal: &mut Journal,
    ) -> Result<Rounds> {
        if events.is_empty() {
            checkpoint::write(&round_file(run, 0), network, weights, Precision::Single)?;
            let ap50 = trainer.measure(network, weights)?;
            let state = State::new(cost::total(&network.graph()?, config.side_px, config.side_px), ap50);
            events.push(Event::Start { state });
            journal.write(&events[0])?;
        }
        let (mut round, mut state, mut ended) = (0, None, None);
        for event in &events {
            match event {
                Event::Start { state: start } => state = Some(*start),
                Event::Round { round: done, state: after, .. } => (round, state) = (*done, Some(*after)),
                Event::Trial { .. } => {}
                Event::End { reason } => ended = Some(reason.clone()),
            }
        }
        let path = round_file(run, round);
        let Some(state) = state else {
            return Err(Error::Checkpoint { path, problem: "the log does not begin with a start".into() });
        };
        let (network, weights) = checkpoint::read_with_network(&path)?;
        Ok(Rounds { network, weights, state, round, events, ended })
    }

    /// One more round; false where no cut is left that keeps the floor.
    fn next(
        &mut self,
        config: &PruneConfig,
        run: &Path,
        trainer: &mut dyn Trainer,
        journal: &mut Journal,
        stop: &AtomicBool,
        say: &dyn Fn(String),
    ) -> Result<bool> {
        let round = self.round + 1;
        let graph = self.network.graph()?;
        let before = cost::total(&graph, config.side_px, config.side_px);
        let mut cuts = self.cuts(config, before)?;
        if let Some(most) = config.candidates {
            cuts.sort_by(|a, b| a.price.total_cmp(&b.price));
            cuts.truncate(most);
        }
        let work = run.join("work");
        for cut in &cuts {
            let known = |event: &Event| matches!(event, Event::Trial { round: r, group, .. } if *r == round && *group == cut.group);
            if self.events.iter().any(known) {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let removed: Vec<&Channel> = cut.removed.iter().collect();
            let (network, mut weights) = groups::cut(&self.network, &self.weights, &removed)?;
            if config.trial_images > 0 {
                weights = trainer.train(&network, &weights, config.trial_images, &work)?;
            }
            let state = State::new(cut.cost, trainer.measure(&network, &weights)?);
            let path = trial_file(run, round, &cut.group);
            checkpoint::write(&path, &network, &weights, Precision::Single)?;
            let event = Event::Trial { round, group: cut.group.clone(), channels: cut.channels, state };
            journal.write(&event)?;
            self.events.push(event);
            say(format!(
                "round {round}: {} {} → {}: AP50 {:.4}, {:.3} M parameters, {:.4} GMAC",
                cut.group,
                cut.channels[0],
                cut.channels[1],
                state.ap50,
                state.parameters as f64 / 1e6,
                state.macs as f64 / 1e9
            ));
            self.forget_losers(config, run, before, round)?;
        }
        let Some((group, channels, mut state)) = self.best(config, before, round) else { return Ok(false) };
        let (network, mut weights) = checkpoint::read_with_network(&trial_file(run, round, &group))?;
        if config.round_images > 0 {
            weights = trainer.train(&network, &weights, config.round_images, &work)?;
            state.ap50 = trainer.measure(&network, &weights)?;
        }
        checkpoint::write(&round_file(run, round), &network, &weights, Precision::Single)?;
        let event = Event::Round { round, group: group.clone(), channels, state };
        journal.write(&event)?;
        self.events.push(event);
        say(format!("round {round}: {group} stays at {}: AP50 {:.4}", channels[1], state.ap50));
        let _ = std::fs::remove_file(trial_file(run, round, &group)); // Only a waste of room if it stays.
        (self.network, self.weights, self.state, self.round) = (network, weights, state, round);
        Ok(true)
    }

    /// The cuts that a round may try.
    fn cuts(&self, config: &PruneConfig, before: Cost) -> Result<Vec<Cut>> {
        let graph = self.network.graph()?;
        let groups = groups::groups(&graph);
        let importance = groups::importance(&graph, &self.weights, &groups);
        let mut cuts = vec![];
        for (group, importance) in groups.into_iter().zip(importance) {
            let width = group.channels.len();
            let Some(left) = config.narrower(width) else { continue };
            let mut order: Vec<usize> = (0..width).collect();
            order.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]));
            order.truncate(width - left);
            let all: f64 = importance.iter().sum();
            let lost = order.iter().map(|&i| importance[i]).sum::<f64>() / all.max(f64::MIN_POSITIVE);
            let removed: Vec<Channel> = order.iter().map(|&i| group.channels[i].clone()).collect();
            let network = groups::thin(&self.network, &removed.iter().collect::<Vec<_>>())?;
            let cost = cost::total(&network.graph()?, config.side_px, config.side_px);
            let saving = config.saving(before, cost);
            if saving > 0.0 {
                cuts.push(Cut { group: group.name, channels: [width, left], removed, cost, price: lost / saving });
            }
        }
        Ok(cuts)
    }

    /// The trial of `round` with the least AP50 lost for what it saves. Of those that lose nothing, the one that saves
    /// most.
    fn best(&self, config: &PruneConfig, before: Cost, round: usize) -> Option<(String, [usize; 2], State)> {
        let price = |state: &State| {
            let cost = Cost { weights: 0, parameters: state.parameters, macs: state.macs };
            let (lost, saving) = (self.state.ap50 - state.ap50, config.saving(before, cost));
            if lost > 0.0 { lost / saving } else { -saving }
        };
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Trial { round: r, group, channels, state } if *r == round => Some((group, channels, state)),
                _ => None,
            })
            .filter(|(_, _, state)| config.min_ap50.is_none_or(|floor| state.ap50 >= floor))
            .min_by(|a, b| price(a.2).total_cmp(&price(b.2)))
            .map(|(group, channels, state)| (group.clone(), *channels, *state))
    }

    /// Removes the files of this round's trials but the best one's.
    fn forget_losers(&self, config: &PruneConfig, run: &Path, before: Cost, round: usize) -> Result<()> {
        let best = self.best(config, before, round).map(|(group, ..)| group);
        let tried: BTreeSet<&String> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Trial { round: r, group, .. } if *r == round => Some(group),
                _ => None,
            })
            .collect();
        for group in tried.into_iter().filter(|group| Some(*group) != best.as_ref()) {
            let path = trial_file(run, round, group);
            if path.exists() {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

/// A cut that may be tried.
struct Cut {
    group: String,
    channels: [usize; 2],
    removed: Vec<Channel>,
    cost: Cost,
    /// Share of the group's importance lost for what is saved.
    price: f64,
}

/// The way of a run: AP50 against MACs, of what stayed and of what was tried.
///
/// # Errors
///
/// A message, if there is nothing to draw.
pub fn path_figure(events: &[Event]) -> Result<String, String> {
    let (mut stayed, mut tried) = (vec![], vec![]);
    for event in events {
        match event {
            Event::Start { state } => stayed.push((state.macs as f64, state.ap50, "start".to_string())),
            Event::Round { state, .. } => stayed.push((state.macs as f64, state.ap50, String::new())),
            Event::Trial { state, .. } => tried.push((state.macs as f64, state.ap50, String::new())),
            Event::End { .. } => {}
        }
    }
    let titles = Titles { title: "Progressive channel pruning", x: "multiply-accumulates", y: "AP50" };
    let mut series = vec![Series { name: "after each round".into(), points: stayed, line: true }];
    if !tried.is_empty() {
        series.push(Series { name: "tried".into(), points: tried, line: false });
    }
    figure::plot(titles, &series, Axis::Linear, Axis::Linear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::reference::random_weights;
    use crate::network::{Activation, Head, Layer, LayerKind};
    use crate::zoo;

    /// Accuracy falls with the share of each group's channels that are gone, most where `dear` says; training gives back
    /// nothing but is counted.
    struct Formula {
        full: Vec<(String, usize)>,
        dear: &'static str,
        trained: u64,
        measured: usize,
        /// Fails at this measurement, as a kill would.
        breaks_at: usize,
    }

    impl Formula {
        fn new(network: &Network, dear: &'static str) -> Formula {
            let full = groups::groups(&network.graph().unwrap());
            let full = full.into_iter().map(|group| (group.name, group.channels.len())).collect();
            Formula { full, dear, trained: 0, measured: 0, breaks_at: usize::MAX }
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
                    let gone = 1.0 - group.channels.len() as f64 / *full as f64;
                    gone * if name.contains(self.dear) { 0.1 } else { 0.001 }
                })
                .sum();
            Ok(0.5 - lost)
        }

        fn recipe(&self) -> serde_json::Value {
            serde_json::json!({})
        }
    }

    /// A chain with squeeze-and-excitation and a joined skip, a few thousand weights.
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
            share: 0.25,
            multiple: 8,
            max_parameters: None,
            max_macs: None,
            min_ap50: None,
            trial_images: 10,
            round_images: 100,
            candidates: Some(4),
        }
    }

    fn go(config: &PruneConfig, run: &Path, trainer: &mut Formula) -> Result<Outcome> {
        let (network, weights) = small();
        prune(&network, &weights, config, run, trainer, &AtomicBool::new(false), &|_| ())
    }

    #[test]
    fn rounds_go_on_to_the_budget_and_spare_what_is_dear() {
        let folder = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let mut trainer = Formula::new(&network, "context");
        let config = PruneConfig { max_parameters: Some(10_000), candidates: None, ..config() };
        let outcome = go(&config, folder.path(), &mut trainer).unwrap();
        assert!(outcome.state.parameters <= 10_000, "{outcome:?}");
        assert_eq!(outcome.reason, "the budget is met");
        assert!(outcome.state.ap50 > 0.49, "cheap channels were to be had: {}", outcome.state.ap50);
        let context = |network: &Network| {
            groups::groups(&network.graph().unwrap()).into_iter().find(|g| g.name.contains("expand")).unwrap()
        };
        assert_eq!(context(&outcome.network).channels.len(), context(&network).channels.len());
        // What is left behind is the thin network, ready to train.
        let (again, _) = checkpoint::read_with_network(&folder.path().join("model.safetensors")).unwrap();
        assert_eq!(again, outcome.network);
        assert_eq!(Network::read(folder.path().join("network.json")).unwrap(), outcome.network);
        assert!(std::fs::read_to_string(folder.path().join("path.svg")).unwrap().contains("<svg"));
        let trials = std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("trial-"));
        assert_eq!(trials.count(), 0);
    }

    #[test]
    fn a_killed_run_goes_on_without_doing_anything_twice() {
        let whole = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let config = PruneConfig { max_macs: Some(1_000_000), ..config() };
        let mut trainer = Formula::new(&network, "block");
        let expected = go(&config, whole.path(), &mut trainer).unwrap();
        assert!(expected.rounds > 2);
        let measured = trainer.measured;

        let folder = tempfile::tempdir().unwrap();
        let mut all = 0;
        for breaks_at in [1, 2, 5, 7, usize::MAX] {
            let mut trainer = Formula { breaks_at, ..Formula::new(&network, "block") };
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
        // Once more: nothing is left to do.
        let mut trainer = Formula::new(&network, "block");
        assert_eq!(go(&config, folder.path(), &mut trainer).unwrap(), expected);
        assert_eq!((trainer.measured, trainer.trained), (0, 0));
    }

    #[test]
    fn the_floor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (network, _) = small();
        let config = PruneConfig { min_ap50: Some(0.499), ..config() };
        let outcome = go(&config, folder.path(), &mut Formula::new(&network, "block")).unwrap();
        assert!(outcome.state.ap50 >= 0.499 && outcome.rounds > 0, "{outcome:?}");
        assert_eq!(outcome.reason, "no cut is left that keeps the floor");
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
            (PruneConfig { min_ap50: Some(0.1), side_px: 1 << 40, ..config() }, "--cost-imgsz"),
        ];
        for (config, expected) in cases {
            match go(&config, folder.path(), &mut Formula::new(&network, "block")) {
                Err(Error::Option { option, .. }) => assert_eq!(option, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        // A folder of another run, and weights of another network.
        let first = PruneConfig { min_ap50: Some(0.4999), ..config() };
        go(&first, folder.path(), &mut Formula::new(&network, "block")).unwrap();
        let other = PruneConfig { min_ap50: Some(0.3), ..config() };
        let error = go(&other, folder.path(), &mut Formula::new(&network, "block")).unwrap_err();
        assert!(matches!(error, Error::Option { option: "--run", .. }), "{error}");
        let tiny = zoo::network("yolov3_tiny", 3).unwrap();
        let mut trainer = Formula::new(&tiny, "conv");
        let error = prune(&tiny, &weights, &first, folder.path(), &mut trainer, &AtomicBool::new(false), &|_| ());
        assert!(matches!(error, Err(Error::Network { .. })));
    }
}
