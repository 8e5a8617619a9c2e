//! The threads of a replica, which learns from labelled batches or from a teacher's outputs.

use std::sync::mpsc;
use std::thread::Scope;

use tch::{Device, Kind, Tensor};

use super::config::{Distillation, TrainConfig};
use super::correct::correct;
use super::criterion::{Criterion, Lesson};
use super::distill::{self, Hints, Stage};
use super::loss::Loss;
use super::model::{Layout, Replica, last_node};
use super::replay::{Replay, Start};
use super::state::RunState;
use super::teacher::{Answer, Teacher};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::network::{Graph, Network};
use crate::quantize::Plan;

/// What does not change during a run.
pub(super) struct Run<'a> {
    pub(super) network: &'a Network,
    pub(super) graph: &'a Graph,
    pub(super) layout: &'a Layout,
    pub(super) config: &'a TrainConfig,
    pub(super) device: Device,
    pub(super) kind: Kind,
    pub(super) int8: Option<Plan>,
}

/// The threads of a replica, as used by the run.
pub(super) struct Worker {
    pub(super) send_batch: mpsc::SyncSender<Batch>,
    /// Starts a step. Until then, the weights are those of the previous step.
    pub(super) start: mpsc::SyncSender<Turn>,
    pub(super) results: mpsc::Receiver<Result<ReplicaResult>>,
    /// The measured statistics of its normalisations.
    pub(super) measured: Tensor,
}

impl Worker {
    /// Starts the threads of a replica that trains the weights of `state`.
    pub(super) fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, run: &Run, state: &RunState) -> Result<Worker> {
        let Run { network, graph, layout, config, device, kind, ref int8 } = *run;
        let measured = state.measured.copy();
        let replica = Replica::new(
            network,
            layout,
            &state.learned,
            measured.shallow_clone(),
            kind,
            config.freeze.as_deref(),
            int8.clone(),
        )?;
        let (send_batch, batches) = mpsc::sync_channel(1);
        let (send_lesson, lessons) = mpsc::sync_channel(1);
        let (start, starts) = mpsc::sync_channel(1);
        let (send_result, results) = mpsc::sync_channel(1);
        let criterion = Criterion::new(graph).ok_or_else(|| Error::Training("there is no head".into()))?;
        let pupil = Pupil { replica, criterion, tutor: Tutor::new(network, graph, config, device, kind)? };
        let classes = network.classes;
        scope.spawn(move || carrier(classes, device, batches, send_lesson));
        scope.spawn(move || worker(pupil, device, lessons, starts, send_result));
        Ok(Worker { send_batch, start, results, measured })
    }
}

/// Number of steps at the start of a run with only new images, so that some are stored for reuse.
pub(super) const FRESH_STEPS: u64 = 16;

/// A step of a replica.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// The factor of the loss.
    pub(super) scale: f64,
    /// Whether it uses a new batch instead of stored images.
    pub(super) is_fresh: bool,
}

/// A replica's result for its share of a batch, or the mean of all replicas'.
pub(super) struct ReplicaResult {
    pub(super) size: usize,
    pub(super) gradient: Tensor,
    /// Total, classes, boxes, objectness, a teacher's maps.
    pub(super) losses: [f64; 5],
}

/// A replica with its loss functions.
struct Pupil {
    replica: Replica,
    criterion: Criterion,
    tutor: Option<Tutor>,
}

/// A teacher, and what a student learns from it.
pub(super) struct Tutor {
    teacher: Teacher,
    /// Corrects the outputs of the first.
    second: Option<Teacher>,
    stage: Stage,
    hints: Hints,
    /// Only if images are used more than once.
    replay: Option<Replay>,
    /// Whether the maps of frozen layers are stored instead of images.
    keeps_frozen: bool,
}

impl Tutor {
    /// The tutor of a run; `None` without a teacher.
    pub(super) fn new(
        network: &Network,
        graph: &Graph,
        config: &TrainConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Option<Tutor>> {
        let Some(Distillation { teacher, second, stage, until, reuse, reuse_gib }) = &config.distill else {
            return Ok(None);
        };
        let frozen = last_node(network, graph, config.freeze.as_deref());
        // Parts learn from the teacher's maps, including those of frozen layers.
        let first = if *stage == Stage::Parts { 0 } else { frozen };
        let hints = Hints::new(network, graph, first, until.as_deref());
        if matches!(stage, Stage::Parts | Stage::Maps) && hints.nodes.is_empty() {
            let problem =
                "this stage needs layers that name the teacher's map that they stand for (`teacher`)".into();
            return Err(Error::Option { option: "--stage", problem });
        }
        let wanted: Vec<&str> = hints.names.iter().map(String::as_str).collect();
        let teacher = Teacher::load(teacher, network, &wanted, device, kind)?;
        let second =
            second.as_deref().map(|second| Teacher::load_second(second, network, device, kind)).transpose()?;
        let bytes = (reuse_gib * (1u64 << 30) as f64) as usize / config.replicas;
        let replay = (*reuse > 1).then(|| Replay::new(bytes, config.seed));
        let keeps_frozen = replay.is_some() && frozen > 0 && *stage == Stage::Whole;
        Ok(Some(Tutor { teacher, second, stage: *stage, hints, replay, keeps_frozen }))
    }

    /// The input of the student's (`replica`) forward pass and the teacher's outputs, for the images of `lesson` or for
    /// stored images.
    fn start(
        &mut self,
        lesson: Option<&Lesson>,
        replica: &Replica,
        criterion: &mut Criterion,
    ) -> Result<(Start, Answer)> {
        if let Some(Lesson { rgb, size, .. }) = lesson {
            let mut answer = self.teacher.look(rgb)?;
            if let Some(second) = &mut self.second {
                correct(&mut answer, &second.look(rgb)?, criterion.places(*size))?;
            }
            let start = if self.keeps_frozen {
                Start::Frozen { maps: replica.frozen_maps(rgb)?, size: *size }
            } else {
                Start::Images(rgb.shallow_clone())
            };
            if let Some(replay) = &mut self.replay {
                replay.keep(&start, &answer);
            }
            return Ok((start, answer));
        }
        let drawn = self.replay.as_mut().map(Replay::draw).transpose()?.flatten();
        drawn.ok_or_else(|| Error::Training("there are no images to serve again".into()))
    }
}

impl Pupil {
    /// The loss on a lesson, or without one on stored images, and the side of the images in pixels.
    fn loss(&mut self, lesson: Option<&Lesson>) -> Result<(Loss, usize)> {
        let Pupil { replica, criterion, tutor } = self;
        let no_lesson = || Error::Training("there is no lesson".into());
        let Some(tutor) = tutor else {
            let lesson = lesson.ok_or_else(no_lesson)?;
            let predictions = replica.forward(&lesson.rgb)?;
            return Ok((criterion.loss(&predictions, lesson)?, lesson.size));
        };
        let (start, mut answer) = tutor.start(lesson, replica, criterion)?;
        let size = start.size();
        let Tutor { stage, hints, .. } = tutor;
        answer.maps = hints.of(answer.maps)?;
        let given = (*stage == Stage::Parts).then_some(&answer.maps[..]);
        if *stage == Stage::Maps {
            let Start::Images(rgb) = &start else { return Err(no_lesson()) };
            let maps = replica.maps(rgb, &hints.nodes)?;
            return Ok((distill::maps_alone(hints.unexplained(&maps, &answer.maps)?), size));
        }
        let (predictions, maps) = match &start {
            Start::Images(rgb) => replica.forward_with(rgb, &hints.nodes, given)?,
            Start::Frozen { maps, .. } => replica.forward_behind(maps, &hints.nodes)?,
        };
        let unexplained = hints.unexplained(&maps, &answer.maps)?;
        let whole = distill::whole(&predictions, &answer, unexplained, &mut criterion.geometry, size)?;
        let loss = match stage {
            Stage::Parts | Stage::Maps | Stage::Whole => whole,
            Stage::Labels => whole.and(criterion.loss(&predictions, lesson.ok_or_else(no_lesson)?)?),
        };
        Ok((loss, size))
    }
}

/// Copies batches to the device while the replica learns from an earlier one.
fn carrier(
    classes: usize,
    device: Device,
    batches: mpsc::Receiver<Batch>,
    lessons: mpsc::SyncSender<Result<Lesson>>,
) {
    for batch in batches {
        if lessons.send(Lesson::new(batch, classes, device)).is_err() {
            return;
        }
    }
}

fn worker(
    mut pupil: Pupil,
    device: Device,
    lessons: mpsc::Receiver<Result<Lesson>>,
    starts: mpsc::Receiver<Turn>,
    results: mpsc::SyncSender<Result<ReplicaResult>>,
) {
    // Replicas run in parallel: on two cores, two replicas with one thread each are faster than one with two threads.
    if device == Device::Cpu {
        tch::set_num_threads(1);
    }
    let mut learn = |lesson: Option<&Lesson>, scale: f64| -> Result<ReplicaResult> {
        let (loss, size) = pupil.loss(lesson)?;
        (&loss.total * scale).f_backward()?;
        Ok(ReplicaResult {
            size,
            gradient: pupil.replica.take_gradients()? / scale,
            losses: [loss.total.double_value(&[]), loss.class(), loss.bbox(), loss.object(), loss.maps()],
        })
    };
    for Turn { scale, is_fresh } in starts {
        let result = if is_fresh {
            let Ok(lesson) = lessons.recv() else { return };
            lesson.and_then(|lesson| learn(Some(&lesson), scale))
        } else {
            learn(None, scale)
        };
        if results.send(result).is_err() {
            return;
        }
    }
}

/// The error for a channel whose other end was closed.
pub(super) fn ended<E>(_: E) -> Error {
    Error::Training("a replica ended".into())
}
