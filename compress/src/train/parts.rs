//! Trains the candidates of an exploration side by side, on the maps of a teacher.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Tensor};

use super::config::{self, Distillation, TrainConfig};
use super::distill::unexplained_variance;
use super::model::{Layout, Replica, initial, without_weights};
use super::optimizer::AdamW;
use super::precision::{self, BadSteps, LossScale, is_finite};
use super::run::train;
use super::state::{follow_measured, is_damaged};
use super::teacher::{Teacher, TeacherOutput};
use super::tensor::to_vec;
use crate::checkpoint::{self, Precision, Weights};
use crate::data::Loader;
use crate::error::{Error, Result};
use crate::explore::{Candidate, CheckResult, Learned, Learner, Part, SearchSpace, milliseconds, sources};
use crate::measure::Measure;
use crate::network::{Graph, Network, NodeId, Op};

/// The share of a part's steps that measure at the end, on batches that were not used for learning.
const MEASURED: f64 = 0.1;

/// The minimum number of batches for measuring.
const LEAST_MEASURED: u64 = 4;

/// The maximum share of a training's steps for the warm-up.
const WARMUP: f64 = 0.1;

/// The initial standard deviation of a candidate's channels, as a share of the teacher's. What is not learned yet would
/// only add to the error.
const FIRST_DEVIATION: f32 = 0.25;

/// Trains candidates with libtorch and a teacher.
pub struct PartLearner {
    /// How whole networks are trained in checks. Data, augmentation, rates, batch and precision are also used for the
    /// parts.
    pub training: TrainConfig,
    /// The teacher, and what whole networks learn from it.
    pub distill: Distillation,
    /// Number of images for the candidates of a part.
    pub part_images: u64,
    /// The set to measure AP50 on after a check.
    pub val: Option<Measure>,
    /// Set to stop the training.
    pub stop: Arc<AtomicBool>,
}

/// A candidate in training.
struct PartStudent {
    replica: Replica,
    layout: Layout,
    learned: Tensor,
    optimizer: AdamW,
    scale: LossScale,
    bad_steps: BadSteps,
    /// The first of the steps whose loss was not finite, if it learns no more because of them.
    diverged: Option<u64>,
    /// The sum over the measuring batches.
    unexplained: f64,
}

impl PartStudent {
    /// A candidate with random weights of this seed, and with this weight decay. The normalisation at its end has the means of the teacher's channels and a
    /// share of their standard deviations, because these may be far from 0 and 1 and would be learned slowly.
    fn new(
        part: &Part,
        candidate: &Candidate,
        (seed, decay): (u64, f32),
        spread: &ChannelSpread,
        device: Device,
        kind: Kind,
    ) -> Result<PartStudent> {
        let graph = candidate.graph(part)?;
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        let mut start = initial(&graph, seed);
        spread.set(&mut start, &graph);
        layout.gather(&start, &mut learned, &mut measured);
        let rates = layout.fill(|_| 1.0);
        let decays = layout.fill(|spec| if spec.name.ends_with("conv.weight") { decay } else { 0.0 });
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let learned = tensor(&learned);
        let replica = Replica::of_graph(graph, &layout, &learned, tensor(&measured), kind, 0, None)?;
        Ok(PartStudent {
            replica,
            layout,
            learned,
            optimizer: AdamW::new(&rates, &decays, device),
            scale: LossScale::of(kind),
            bad_steps: BadSteps::default(),
            diverged: None,
            unexplained: 0.0,
        })
    }

    /// Makes one step (from 1) towards the teacher's map, unless it has diverged.
    fn learn(&mut self, maps: &PartMaps, step: u64, rate: f64) -> Result<()> {
        if self.diverged.is_some() {
            return Ok(());
        }
        let mut before = self.replica.measured.copy();
        let unexplained = self.unexplained(maps)?;
        (&unexplained * self.scale.now).f_backward()?;
        let gradient = self.replica.take_gradients()? / self.scale.now;
        let norm = self.optimizer.step(&mut self.learned, gradient, step, rate);
        self.scale.follow(norm.is_finite());
        follow_measured(&mut before, &[&self.replica.measured], norm.is_finite());
        let fault = (!norm.is_finite()).then_some("the gradient");
        self.diverged = self.bad_steps.follow(step, fault).map(|(first, _)| first);
        Ok(())
    }

    /// Measures the unexplained variance on the batch of `step`, which was not used for learning.
    fn measure(&mut self, maps: &PartMaps, step: u64) -> Result<()> {
        if self.diverged.is_some() {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let unexplained = self.unexplained(maps)?.double_value(&[]);
        self.unexplained += unexplained;
        self.diverged = (!unexplained.is_finite()).then_some(step);
        Ok(())
    }

    /// The result of `steps` of learning and `measured` batches.
    fn learned(&self, steps: u64, measured: u64) -> Result<Learned> {
        let weights = self.layout.scatter(&to_vec(&self.learned)?, &to_vec(&self.replica.measured)?);
        let only_bad = self.bad_steps.at_end(steps).map(|(first, _)| first);
        let is_damaged = weights.values().any(is_damaged).then_some(steps);
        let diverged = self.diverged.or(only_bad).or(is_damaged);
        Ok(Learned { unexplained: self.unexplained / measured as f64, weights, diverged })
    }

    fn unexplained(&mut self, maps: &PartMaps) -> Result<Tensor> {
        let map = self.replica.forward_from(&maps.input)?;
        unexplained_variance(&map, &maps.output)
    }
}

/// The teacher's input and output maps of a part, `[batch, channels, height, width]` each.
struct PartMaps {
    input: Tensor,
    output: Tensor,
}

/// The means of a map's channels, and [`FIRST_DEVIATION`] of their standard deviations.
struct ChannelSpread {
    means: Vec<f32>,
    deviations: Vec<f32>,
}

impl ChannelSpread {
    /// Computes them for `[batch, channels, height, width]`.
    fn of(map: &Tensor) -> Result<ChannelSpread> {
        let map = map.to_kind(Kind::Float);
        let (deviations, means) = map.f_std_mean_dim([0, 2, 3].as_slice(), false, false)?;
        Ok(ChannelSpread {
            means: to_vec(&means)?,
            deviations: to_vec(&(deviations * f64::from(FIRST_DEVIATION)))?,
        })
    }

    /// Sets the outputs of the last convolutions of `graph`, before their activation, to these means and deviations.
    fn set(&self, weights: &mut Weights, graph: &Graph) {
        let mut ends = vec![(graph.nodes.len() - 1, 0)];
        while let Some((id, first)) = ends.pop() {
            let node = &graph.nodes[id];
            let mut put = |part: &str, values: &[f32]| {
                if let Some(array) = weights.get_mut(&format!("{}.{part}", node.name)) {
                    array.values.copy_from_slice(&values[first..first + node.channels]);
                }
            };
            match node.op {
                Op::Conv { norm: true, .. } => {
                    put("bn.weight", &self.deviations);
                    put("bn.bias", &self.means);
                }
                Op::Conv { .. } => put("conv.bias", &self.means),
                Op::MaxPool { .. } => ends.push((node.inputs[0], first)),
                Op::Concat => {
                    let mut first = first;
                    for &input in &node.inputs {
                        ends.push((input, first));
                        first += graph.nodes[input].channels;
                    }
                }
                _ => {}
            }
        }
    }
}

/// The teacher of a part, which gives the maps that it learns from.
struct PartTeacher {
    teacher: Teacher,
    path: std::path::PathBuf,
    graph: Graph,
    part: Part,
    /// The nodes of the base whose maps the teacher returns, before the part's own output.
    known: Vec<NodeId>,
}

impl PartTeacher {
    fn new(base: &Network, part: &Part, path: &Path, device: Device, kind: Kind) -> Result<PartTeacher> {
        let graph = base.graph()?;
        let sources = sources(base, &graph, part.input).map_err(Error::Training)?;
        let wanted: Vec<&str> =
            sources.iter().map(|(_, map)| map.as_str()).chain([part.teacher.as_str()]).collect();
        let teacher = Teacher::load(path, base, &wanted, device, kind)?;
        let known = sources.iter().map(|(node, _)| *node).collect();
        Ok(PartTeacher { teacher, path: path.to_owned(), graph, part: part.clone(), known })
    }

    /// The part's maps for 8-bit RGB, `[batch, size, size, 3]`.
    fn of(&mut self, rgb: &Tensor) -> Result<PartMaps> {
        let TeacherOutput { mut maps, .. } = self.teacher.forward(rgb)?;
        let _guard = tch::no_grad_guard();
        let output = maps.pop().ok_or_else(|| Error::Training("the teacher gives no map".into()))?;
        let input = self.map(self.part.input, &maps, rgb)?;
        let side = rgb.size()[1];
        let check = |map: &Tensor, (channels, stride): (usize, usize), what: &str| {
            let cells = (side as usize).div_ceil(stride) as i64;
            let expected = [rgb.size()[0], channels as i64, cells, cells];
            if map.size() == expected {
                return Ok(());
            }
            let problem = format!(
                "its map that `{}` {what} is {:?} for {side} px, the network's is {expected:?}",
                self.part.name,
                map.size()
            );
            Err(Error::Teacher { path: self.path.clone(), problem })
        };
        check(&input, self.part.from, "reads")?;
        check(&output, self.part.to, "stands for")?;
        Ok(PartMaps { input, output })
    }

    /// The map of a node of the base, computed from the maps that the teacher returns.
    fn map(&self, node: NodeId, given: &[Tensor], rgb: &Tensor) -> Result<Tensor> {
        if node == 0 {
            return Ok(rgb.permute([0, 3, 1, 2]).to_kind(Kind::Float) * (1.0 / 255.0));
        }
        if let Some(place) = self.known.iter().position(|&known| known == node) {
            return Ok(given[place].shallow_clone());
        }
        let of = &self.graph.nodes[node];
        let inputs = of.inputs.iter().map(|&input| self.map(input, given, rgb)).collect::<Result<Vec<Tensor>>>()?;
        without_weights(of, &inputs.iter().collect::<Vec<_>>())
    }
}

/// Runs the same work for each candidate, on as many threads as there are replicas in a training.
fn each(
    students: &mut [PartStudent],
    threads: usize,
    maps: &PartMaps,
    device: Device,
    work: impl Fn(&mut PartStudent, &PartMaps) -> Result<()> + Sync,
) -> Result<()> {
    let share = students.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let mut running = Vec::new();
        for students in students.chunks_mut(share) {
            // Tensors are passed on, not shared.
            let maps = PartMaps { input: maps.input.shallow_clone(), output: maps.output.shallow_clone() };
            running.push(scope.spawn(move || {
                if device == Device::Cpu {
                    tch::set_num_threads(1);
                }
                students.iter_mut().try_for_each(|student| work(student, &maps))
            }));
        }
        running
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| Error::Training("a thread ended".into()))?)
    })
}

impl PartLearner {
    /// Reads the data once, for the names of the network's classes and to refuse what cannot be used.
    ///
    /// # Errors
    ///
    /// Data or options that cannot be used.
    pub fn names(&self, base: &Network) -> Result<Vec<String>> {
        config::check_options(&base.graph()?, base, &self.config())?;
        if self.part_images < self.training.batch as u64 {
            let problem = format!("{} are less than a batch of {}", self.part_images, self.training.batch);
            return Err(Error::Option { option: "--part-images", problem });
        }
        Ok(config::read_data(&self.training, base)?.classes)
    }

    /// Checks on a grey image whether the teacher has the input and output maps of the parts.
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`]: not a teacher, one that does not fit the network, a missing map or one with another shape.
    pub fn try_out(&self, space: &SearchSpace) -> Result<()> {
        let device = precision::device(&self.training.device)?;
        let side = self.training.sizes.first().map_or(64, |size| size.0) as i64;
        let grey = Tensor::full([1, side, side, 3], 128, (Kind::Uint8, device));
        for (part, _) in space.parts() {
            PartTeacher::new(space.base(), part, &self.distill.teacher, device, Kind::Float)?.of(&grey)?;
        }
        Ok(())
    }

    /// The training options of a check.
    fn config(&self) -> TrainConfig {
        let steps = self.training.images / self.training.batch.max(1) as u64;
        TrainConfig {
            distill: Some(self.distill.clone()),
            warmup: self.training.warmup.min((steps as f64 * WARMUP) as u64).max(1),
            log_every: self.training.log_every.min(steps / 20).max(1),
            ..self.training.clone()
        }
    }
}

impl Learner for PartLearner {
    fn learn(&mut self, base: &Network, part: &Part, candidates: &[Candidate]) -> Result<Vec<Learned>> {
        let (device, kind) = precision::device_and_kind(&self.training.device, self.training.precision)?;
        let batch = self.training.batch;
        let steps = self.part_images / batch as u64;
        let config = TrainConfig {
            warmup: self.training.warmup.min((steps as f64 * WARMUP) as u64).max(1),
            ..self.training.clone()
        };
        let mut teacher = PartTeacher::new(base, part, &self.distill.teacher, device, kind)?;
        let dataset = config::read_data(&config, base)?;
        let mut loader = Loader::start(dataset, config::loader_config(&config, batch, 0, 0.0))?;
        let mut next = |progress: f32| -> Result<PartMaps> {
            loader.set_progress(progress);
            let samples = loader.next_batch()?;
            let side = samples.size as i64;
            let rgb = Tensor::f_from_data_size(&samples.rgb, &[batch as i64, side, side, 3], Kind::Uint8)?;
            teacher.of(&rgb.to_device(device))
        };
        let no_map = || {
            let problem = format!("its map `{}` is not finite: check it, or take --precision f32", part.teacher);
            Error::Teacher { path: self.distill.teacher.clone(), problem }
        };
        let first = next(0.0)?.output;
        if !is_finite(&first) {
            return Err(no_map());
        }
        let spread = ChannelSpread::of(&first)?;
        let recipe = (config.seed, config.decay);
        let students = candidates.iter().map(|one| PartStudent::new(part, one, recipe, &spread, device, kind));
        let mut students = students.collect::<Result<Vec<PartStudent>>>()?;
        let (mut bad_batches, mut measured) = (BadSteps::default(), 0);
        let measuring = ((steps as f64 * MEASURED) as u64).max(LEAST_MEASURED);
        let bar = indicatif::ProgressBar::new(steps + measuring);
        if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(format!("batches for {} candidates of {}", students.len(), part.name));
        for step in 1..=steps + measuring {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let progress = (step as f32 / steps as f32).min(1.0);
            let maps = next(progress)?;
            bar.inc(1);
            // Not the fault of the candidates.
            let is_good = is_finite(&maps.input) && is_finite(&maps.output);
            let fault = (!is_good).then_some("the teacher's maps");
            if bad_batches.follow(step, fault).is_some() {
                return Err(no_map());
            }
            if fault.is_some() {
                continue;
            }
            if step <= steps {
                let rate = config::rate(&config, step, progress);
                each(&mut students, config.replicas, &maps, device, |student, maps| {
                    student.learn(maps, step, rate)
                })?;
            } else {
                measured += 1;
                each(&mut students, config.replicas, &maps, device, |student, maps| student.measure(maps, step))?;
            }
        }
        bar.finish_and_clear();
        if measured == 0 {
            return Err(no_map());
        }
        students.iter().map(|student| student.learned(steps, measured)).collect()
    }

    fn milliseconds(&mut self, part: &Part, candidate: &Candidate, side_px: usize) -> Result<f64> {
        milliseconds(part, candidate, side_px)
    }

    fn check(&mut self, network: &Network, start: &Weights, folder: &Path) -> Result<(CheckResult, Weights)> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let init = folder.join("start.safetensors");
        checkpoint::write(&init, network, start, Precision::Single)?;
        let config = TrainConfig { run: folder.to_owned(), init: Some(init), ..self.config() };
        let summary = train(network, &config, self.stop.clone())?;
        if summary.stopped {
            return Err(Error::Interrupted);
        }
        let (trained, weights) = checkpoint::read_with_network(&summary.model)?;
        let (loss, unexplained) = end_of_log(&folder.join("log.jsonl"))?;
        let ap50 = match &self.val {
            None => None,
            Some(measure) => Some(measure.ap50(&trained, &weights)?),
        };
        Ok((CheckResult { images: summary.images, loss, unexplained, ap50 }, weights))
    }

    fn recipe(&self) -> serde_json::Value {
        let mut recipe = self.config().lasting();
        recipe["images"] = self.training.images.into();
        recipe["part_images"] = self.part_images.into();
        recipe["measured_on"] = match &self.val {
            Some(Measure { set, .. }) => {
                serde_json::json!([set.images.first().map(|image| &image.path), set.images.len()])
            }
            None => serde_json::Value::Null,
        };
        recipe
    }
}

/// The mean loss and the unexplained share of the maps over the last tenth of a training.
fn end_of_log(path: &Path) -> Result<(f64, f64)> {
    #[derive(serde::Deserialize)]
    struct Line {
        loss: f64,
        #[serde(default)]
        maps: f64,
    }
    let lines = crate::journal::read::<Line>(path)?;
    let last = &lines[lines.len() - lines.len().div_ceil(10)..];
    if last.is_empty() {
        return Err(Error::Training(format!("{} has no line: train on more --images", path.display())));
    }
    let mean = |of: fn(&Line) -> f64| last.iter().map(of).sum::<f64>() / last.len() as f64;
    Ok((mean(|line| line.loss), mean(|line| line.maps)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::{self, ExploreConfig};
    use crate::zoo;

    #[test]
    fn a_candidate_that_diverges_leaves_the_others_alone() {
        let network = zoo::network("yolov3_tiny", 2).unwrap();
        let config = ExploreConfig {
            parts: vec!["conv2".into()],
            kinds: vec![explore::Kind::Ds],
            kernels: vec![3],
            expansions: vec![1],
            reductions: vec![0],
            depths: vec![1],
            pools: false,
            max_parameters: u64::MAX / 2,
            max_macs: u64::MAX / 2,
            max_ms: None,
            side_px: 64,
            time: false,
            check: 0,
        };
        let space = SearchSpace::new(network.clone(), Some((&network, &Weights::new())), Weights::new(), config);
        let space = space.unwrap();
        let (part, candidates) = &space.parts()[0];
        let mut random = fastrand::Rng::with_seed(1);
        let mut map = |(channels, stride): (usize, usize)| {
            let cells = 64 / stride;
            let values: Vec<f32> = (0..2 * channels * cells * cells).map(|_| random.f32()).collect();
            Tensor::from_slice(&values).view([2, channels as i64, cells as i64, cells as i64])
        };
        let maps = PartMaps { input: map(part.from), output: map(part.to) };
        let spread = ChannelSpread::of(&maps.output).unwrap();
        let start = |candidate| PartStudent::new(part, candidate, (1, 0.0), &spread, Device::Cpu, Kind::Float);
        let mut students: Vec<PartStudent> = candidates.iter().map(|one| start(one).unwrap()).collect();
        assert_eq!(students.len(), 2);
        let _ = students[0].learned.fill_(3e38);
        for step in 1..=22 {
            each(&mut students, 2, &maps, Device::Cpu, |student, maps| student.learn(maps, step, 1e-3)).unwrap();
        }
        each(&mut students, 2, &maps, Device::Cpu, |student, maps| student.measure(maps, 23)).unwrap();
        let [lost, good] = [&students[0], &students[1]].map(|student| student.learned(22, 1).unwrap());
        assert_eq!((lost.diverged, good.diverged), (Some(1), None));
        assert!(good.unexplained.is_finite() && good.unexplained > 0.0, "{}", good.unexplained);
        assert!(!good.weights.values().any(is_damaged));

        // A single bad batch costs a step.
        let mut student = start(&candidates[1]).unwrap();
        let bad = PartMaps { input: &maps.input * f64::INFINITY, output: maps.output.shallow_clone() };
        student.learn(&maps, 1, 1e-3).unwrap();
        student.learn(&bad, 2, 1e-3).unwrap();
        student.measure(&maps, 3).unwrap();
        let learned = student.learned(2, 1).unwrap();
        assert!(learned.diverged.is_none() && !learned.weights.values().any(is_damaged), "{:?}", learned.diverged);
    }
}
