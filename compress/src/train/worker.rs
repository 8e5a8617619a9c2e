//! The threads of a replica, which learns from labelled batches or from a teacher's outputs.

use std::sync::mpsc;
use std::thread::Scope;

use tch::{Device, Kind, Tensor};

use super::config::{Distillation, TrainConfig};
use super::correct::correct;
use super::criterion::{Criterion, LabelledBatch};
use super::distill::{self, Hints, Stage};
use super::loss::Loss;
use super::model::{Layout, Replica, last_node};
use super::precision::is_finite;
use super::replay::{Replay, StudentInput};
use super::state::RunState;
use super::teacher::{Teacher, TeacherOutput};
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
    /// Starts the threads of a replica that trains the weights of `state`, with a `distiller` if there is a teacher.
    pub(super) fn spawn<'scope>(
        scope: &'scope Scope<'scope, '_>,
        run: &Run,
        state: &RunState,
        distiller: Option<Distiller>,
    ) -> Result<Worker> {
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
        let (send_labelled, labelled) = mpsc::sync_channel(1);
        let (start, starts) = mpsc::sync_channel(1);
        let (send_result, results) = mpsc::sync_channel(1);
        let criterion = Criterion::new(graph).ok_or_else(|| Error::Training("there is no head".into()))?;
        let student = Student { replica, criterion, distiller };
        let classes = network.classes;
        scope.spawn(move || carrier(classes, device, batches, send_labelled));
        scope.spawn(move || worker(student, device, labelled, starts, send_result));
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
    /// Whether the teacher's outputs are the reason why a loss is not finite.
    pub(super) teacher_fails: bool,
}

/// The fault of a step whose loss is not finite because of the teacher.
pub(super) const TEACHER_FAULT: &str = "its outputs are not finite: check it, or take --precision f32";

impl ReplicaResult {
    /// What is not finite and what to do about it, except for the gradient. Then the gradient is of no use, even if it
    /// is finite.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.teacher_fails {
            return Some(TEACHER_FAULT);
        }
        let names = [
            "the loss is not finite: lower --rate, in another folder",
            "the loss of the classes is not finite: lower --rate, in another folder",
            "the loss of the boxes is not finite: lower --rate, in another folder",
            "the loss of the objectness is not finite: lower --rate, in another folder",
            "the loss of the teacher's maps is not finite: lower --rate, in another folder",
        ];
        // The total comes last, because its parts say more.
        let is_bad = |&index: &usize| !self.losses[index].is_finite();
        [1, 2, 3, 4, 0].into_iter().find(is_bad).map(|index| names[index])
    }
}

/// A replica with its loss functions.
struct Student {
    replica: Replica,
    criterion: Criterion,
    distiller: Option<Distiller>,
}

/// A teacher, and what a student learns from it.
pub(super) struct Distiller {
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

impl Distiller {
    /// The distiller of a run; `None` without a teacher.
    pub(super) fn new(
        network: &Network,
        graph: &Graph,
        config: &TrainConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Option<Distiller>> {
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
        Ok(Some(Distiller { teacher, second, stage: *stage, hints, replay, keeps_frozen }))
    }

    /// The input of the student's (`replica`) forward pass and the teacher's outputs, for the images of `batch` or for
    /// stored images.
    fn next_pair(
        &mut self,
        batch: Option<&LabelledBatch>,
        replica: &Replica,
        criterion: &mut Criterion,
    ) -> Result<(StudentInput, TeacherOutput)> {
        if let Some(LabelledBatch { rgb, size, .. }) = batch {
            let mut output = self.teacher.forward(rgb)?;
            if let Some(second) = &mut self.second {
                correct(&mut output, &second.forward(rgb)?, criterion.places(*size))?;
            }
            let input = if self.keeps_frozen {
                StudentInput::Frozen { maps: replica.frozen_maps(rgb)?, size: *size }
            } else {
                StudentInput::Images(rgb.shallow_clone())
            };
            if let Some(replay) = &mut self.replay {
                replay.keep(&input, &output);
            }
            return Ok((input, output));
        }
        let drawn = self.replay.as_mut().map(Replay::draw).transpose()?.flatten();
        drawn.ok_or_else(|| Error::Training("there are no images to serve again".into()))
    }
}

impl Student {
    /// The loss on a labelled batch, or without one on stored images, the side of the images in pixels, and the
    /// teacher's outputs if there is a teacher.
    fn loss(&mut self, batch: Option<&LabelledBatch>) -> Result<(Loss, usize, Option<TeacherOutput>)> {
        let Student { replica, criterion, distiller } = self;
        let no_batch = || Error::Training("there is no batch".into());
        let Some(distiller) = distiller else {
            let batch = batch.ok_or_else(no_batch)?;
            let predictions = replica.forward(&batch.rgb)?;
            return Ok((criterion.loss(&predictions, batch)?, batch.size, None));
        };
        let (input, mut output) = distiller.next_pair(batch, replica, criterion)?;
        let size = input.size();
        let Distiller { stage, hints, .. } = distiller;
        output.maps = hints.of(output.maps)?;
        let given = (*stage == Stage::Parts).then_some(&output.maps[..]);
        if *stage == Stage::Maps {
            let StudentInput::Images(rgb) = &input else { return Err(no_batch()) };
            let maps = replica.maps(rgb, &hints.nodes)?;
            return Ok((distill::maps_alone(hints.unexplained(&maps, &output.maps)?), size, Some(output)));
        }
        let (predictions, maps) = match &input {
            StudentInput::Images(rgb) => replica.forward_with(rgb, &hints.nodes, given)?,
            StudentInput::Frozen { maps, .. } => replica.forward_behind(maps, &hints.nodes)?,
        };
        let unexplained = hints.unexplained(&maps, &output.maps)?;
        let whole = distill::whole(&predictions, &output, unexplained, &mut criterion.geometry, size)?;
        let loss = match stage {
            Stage::Parts | Stage::Maps | Stage::Whole => whole,
            Stage::Labels => whole.and(criterion.loss(&predictions, batch.ok_or_else(no_batch)?)?),
        };
        Ok((loss, size, Some(output)))
    }
}

/// Copies batches to the device while the replica learns from an earlier one.
fn carrier(
    classes: usize,
    device: Device,
    batches: mpsc::Receiver<Batch>,
    labelled: mpsc::SyncSender<Result<LabelledBatch>>,
) {
    for batch in batches {
        if labelled.send(LabelledBatch::new(batch, classes, device)).is_err() {
            return;
        }
    }
}

fn worker(
    mut student: Student,
    device: Device,
    labelled: mpsc::Receiver<Result<LabelledBatch>>,
    starts: mpsc::Receiver<Turn>,
    results: mpsc::SyncSender<Result<ReplicaResult>>,
) {
    // Replicas run in parallel: on two cores, two replicas with one thread each are faster than one with two threads.
    if device == Device::Cpu {
        tch::set_num_threads(1);
    }
    let mut learn = |batch: Option<&LabelledBatch>, scale: f64| -> Result<ReplicaResult> {
        let (loss, size, taught) = student.loss(batch)?;
        (&loss.total * scale).f_backward()?;
        let gradient = student.replica.take_gradients()? / scale;
        let losses = [loss.total.double_value(&[]), loss.class(), loss.bbox(), loss.object(), loss.maps()];
        let is_bad = losses.iter().any(|loss| !loss.is_finite());
        let teacher_fails = is_bad && taught.is_some_and(|output| !output.tensors().into_iter().all(is_finite));
        Ok(ReplicaResult { size, gradient, losses, teacher_fails })
    };
    for Turn { scale, is_fresh } in starts {
        let result = if is_fresh {
            let Ok(batch) = labelled.recv() else { return };
            batch.and_then(|batch| learn(Some(&batch), scale))
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
