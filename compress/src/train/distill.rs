//! The losses of distillation, which compare a student's outputs with its teacher's on the same images.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::criterion::Geometry;
use super::loss::{Loss, ciou};
use super::model::{Predictions, last_node};
use super::teacher::{Places, TeacherOutput};
use crate::error::{Error, Result};
use crate::network::{Graph, Network, NodeId};

/// How a student learns from its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Each part of the student is trained alone to compute the teacher's output map from the teacher's input map.
    Parts,
    /// The layers up to the last one that names a map of the teacher learn these maps (Romero et al. 2015, "FitNets").
    /// Later layers are neither computed nor trained.
    Maps,
    /// The whole student learns inner maps, scores and boxes in every cell.
    Whole,
    /// As `whole`, plus the ordinary loss for the labels of the photographs.
    Labels,
}

// The weights of the parts of the loss. They differ from those for labels, because cells are weighted by the teacher's
// scores, so the parts have other magnitudes.
const TEACHER_SCORE_GAIN: f64 = 1.5;
const TEACHER_BOX_GAIN: f64 = 2.0;
const TEACHER_MAP_GAIN: f64 = 2.0;

/// Cells in which the teacher's best score is below this have no box loss.
const SEEN_MIN: f64 = 0.05;

/// This share of a map's mean variance is added to each channel's, because some channels hardly vary.
const VARIANCE_FLOOR: f64 = 0.05;

/// The layers of a student that learn a teacher's maps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hints {
    /// The nodes with their outputs, ascending.
    pub nodes: Vec<NodeId>,
    /// Their names in the teacher.
    pub names: Vec<String>,
    /// Their names in the student.
    pub layers: Vec<String>,
    /// For each map of the teacher, the channels that the student has; if empty, all.
    pub channels: Vec<Vec<usize>>,
}

impl Hints {
    /// The hints of a network for the nodes after `first`, up to the layer `until` if there is one.
    pub fn new(network: &Network, graph: &Graph, first: NodeId, until: Option<&str>) -> Hints {
        let mut hints = Hints::default();
        let last = until.map_or(graph.nodes.len(), |until| last_node(network, graph, Some(until)));
        for (index, layer) in network.layers.iter().enumerate() {
            let node = graph.output_of(index).filter(|&node| node > first && node <= last);
            if let (Some(name), Some(node)) = (&layer.teacher, node) {
                hints.nodes.push(node);
                hints.names.push(name.clone());
                hints.layers.push(layer.name.clone());
                hints.channels.push(layer.teacher_channels.clone());
            }
        }
        hints
    }

    /// Selects the student's channels from the teacher's maps, `[batch, channels, h, w]` each.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] for a map with too few channels, naming layer and map.
    pub fn of(&self, maps: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut chosen = Vec::with_capacity(maps.len());
        for (index, map) in maps.into_iter().enumerate() {
            let channels: Vec<i64> = self.channels[index].iter().map(|&channel| channel as i64).collect();
            let Some(&last) = channels.iter().max() else {
                chosen.push(map);
                continue;
            };
            if last >= map.size()[1] {
                return Err(Error::Training(format!(
                    "layer `{}` has channel {last} of the teacher's `{}`, which is {:?}",
                    self.layers[index],
                    self.names[index],
                    map.size()
                )));
            }
            let channels = Tensor::from_slice(&channels).to_device(map.device());
            chosen.push(map.f_index_select(1, &channels)?);
        }
        Ok(chosen)
    }

    /// The mean over all hints of the unexplained variance: the share of the teacher's map that the student's map does
    /// not explain.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] for maps with different shapes, naming layer and map.
    pub fn unexplained(&self, student: &[Tensor], teacher: &[Tensor]) -> Result<Tensor> {
        let mut sum = Tensor::from(0.0);
        for (index, (ours, theirs)) in student.iter().zip(teacher).enumerate() {
            if ours.size() != theirs.size() {
                return Err(Error::Training(format!(
                    "layer `{}` gives {:?}, the teacher's `{}` is {:?}",
                    self.layers[index],
                    ours.size(),
                    self.names[index],
                    theirs.size()
                )));
            }
            sum = sum.to_device(ours.device()) + unexplained_variance(ours, theirs)?;
        }
        Ok(sum / self.nodes.len().max(1) as f64)
    }
}

/// The mean over channels of the squared error divided by the channel's variance, `[batch, channels, h, w]` each.
pub(super) fn unexplained_variance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    // Means of channels are computed first, so that little is computed per cell.
    let of_channel = |map: Tensor| map.f_mean_dim([0, 2, 3].as_slice(), false, Kind::Float);
    let teacher = teacher.to_kind(Kind::Float);
    let mean = of_channel(teacher.shallow_clone())?;
    let variance = of_channel((&teacher - mean.view([1, -1, 1, 1])).square())?;
    let floor = variance.mean(Kind::Float) * VARIANCE_FLOOR + 1e-9;
    let error = of_channel((student.to_kind(Kind::Float) - teacher).square())?;
    Ok((error / (variance + floor)).mean(Kind::Float))
}

/// The loss of a student's `predictions` compared with its teacher's `output`. `maps` is the result of
/// [`Hints::unexplained`].
///
/// # Errors
///
/// [`Error::Training`] for a student and a teacher of different heads; libtorch's.
pub fn whole(
    predictions: &Predictions,
    output: &TeacherOutput,
    maps: Tensor,
    geometry: &mut Geometry,
    size: usize,
) -> Result<Loss> {
    let (class, bbox, object) = match (predictions, &output.places) {
        (Predictions::Anchors(ours), Places::Anchors(theirs)) => anchors(ours, theirs)?,
        (Predictions::Anchors(_), _) | (_, Places::Anchors(_)) => {
            return Err(Error::Training("student and teacher have different kinds of heads".into()));
        }
        (predictions, Places::Boxes { logits, ltrb }) => {
            let (ours, boxes) = geometry.boxes(predictions, size)?;
            // The cells of strides that only the teacher has come last.
            let count = ours.size()[2];
            let (class, bbox) = places(&ours, &boxes, &logits.narrow(2, 0, count), &ltrb.narrow(1, 0, count))?;
            let object = class.zeros_like();
            (class, bbox, object)
        }
    };
    let total = &class * TEACHER_SCORE_GAIN + &bbox * TEACHER_BOX_GAIN + &object + &maps * TEACHER_MAP_GAIN;
    Ok(Loss::new(total, [class, bbox, object]).with_maps(maps))
}

/// The loss of the inner maps alone. `maps` is the result of [`Hints::unexplained`].
pub fn maps_alone(maps: Tensor) -> Loss {
    let nothing = || maps.zeros_like();
    Loss::new(maps.shallow_clone(), [nothing(), nothing(), nothing()]).with_maps(maps)
}

/// The losses of scores and boxes of heads without anchors: logits `[batch, C, N]`, boxes left, top, right, bottom in
/// pixels, `[batch, N, 4]`.
///
/// The loss of the scores is the cross-entropy minus the teacher's own entropy. A cell is weighted by the teacher's
/// score and the error (as in quality focal loss, Li et al. 2020), because the many empty cells would otherwise
/// dominate. The loss of the boxes is CIoU, weighted by the teacher's best score.
fn places(ours: &Tensor, boxes: &Tensor, logits: &Tensor, ltrb: &Tensor) -> Result<(Tensor, Tensor)> {
    let scores = logits.sigmoid();
    let seen = scores.f_amax([1], false)?;
    let seen = &seen * seen.gt(SEEN_MIN).to_kind(Kind::Float);
    let norm = seen.sum(Kind::Float) + 1.0;
    let excess = cross_entropy(ours, &scores) - cross_entropy(logits, &scores);
    let importance = &scores + (&scores - ours.detach().sigmoid()).abs();
    let class = (excess * importance).sum(Kind::Float) / &norm;

    let seen = seen.f_flatten(0, 1)?;
    let index = seen.nonzero().f_flatten(0, 1)?;
    let pick = |boxes: &Tensor| boxes.f_reshape([-1, 4])?.f_index_select(0, &index);
    let miss: Tensor = 1.0 - ciou(&pick(boxes)?, &pick(ltrb)?);
    let bbox = (miss * seen.f_index_select(0, &index)?).sum(Kind::Float) / norm;
    Ok((class, bbox))
}

/// The cross-entropy of logits with target probabilities.
fn cross_entropy(logits: &Tensor, probabilities: &Tensor) -> Tensor {
    logits.softplus() - logits * probabilities
}

/// The losses of classes, boxes and objectness of YOLOv3's head, `[batch, places, 5 + C]` each (see
/// [`Predictions::Anchors`]). Classes and boxes are weighted by the teacher's objectness; objectness is learned
/// everywhere. All three are sums, divided by the sum of the teacher's objectness. Both heads have the same anchors and
/// scales of x and y.
fn anchors(ours: &Tensor, theirs: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let part = |values: &Tensor, first: i64, count: i64| values.narrow(2, first, count);
    let object = part(theirs, 4, 1).sigmoid();
    let norm = object.sum(Kind::Float) + 1.0;
    let seen = object / &norm;
    let excess = |first: i64, count: i64| {
        let (ours, theirs) = (part(ours, first, count), part(theirs, first, count));
        let truth = theirs.sigmoid();
        cross_entropy(&ours, &truth) - cross_entropy(&theirs, &truth)
    };
    let classes = ours.size()[2] - 5;
    let class = (excess(5, classes).f_sum_dim_intlist([2].as_slice(), true, Kind::Float)? * &seen).sum(Kind::Float);
    let centre = (part(ours, 0, 2).sigmoid() - part(theirs, 0, 2).sigmoid()).square() * 4.0;
    let size = (part(ours, 2, 2) - part(theirs, 2, 2)).square();
    let bbox = ((centre + size).f_sum_dim_intlist([2].as_slice(), true, Kind::Float)? * &seen).sum(Kind::Float);
    let object = excess(4, 1).sum(Kind::Float) / norm;
    Ok((class, bbox, object))
}
