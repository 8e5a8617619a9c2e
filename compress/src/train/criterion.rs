//! The loss function of a network's head. This module has the loss of heads without anchors: binary cross-entropy on
//! task-aligned scores, and CIoU. [`super::anchors`] has that of YOLOv3.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::anchors::{self, Place};
use super::assign::{Assignment, Cells, Objects, assign, places};
use super::loss::{LABEL_BOX_GAIN, Loss, ciou};
use super::model::Predictions;
use super::tensor::to_device;
use crate::data::Batch;
use crate::data::augment::Target;
use crate::error::{Error, Result};
use crate::export::SIDE_MAX;
use crate::network::{Graph, Head};

/// The cells of a head without anchors, and the conversion of its outputs to boxes.
pub struct Geometry {
    head: Head,
    strides: Vec<usize>,
    /// For each input side in pixels.
    cells: HashMap<usize, Cells>,
}

impl Geometry {
    /// The geometry of the network's head; `None` for a graph without a head.
    pub fn new(graph: &Graph) -> Option<Geometry> {
        Some(Geometry { head: graph.head()?.clone(), strides: graph.head_strides(), cells: HashMap::new() })
    }

    /// The cells of a square input of `size` pixels.
    fn cells(&mut self, size: usize, device: Device) -> &Cells {
        let Geometry { head, strides, cells } = self;
        cells.entry(size).or_insert_with(|| Cells::new(size, strides, head.offset(), device))
    }

    /// Converts the outputs of a network without anchors, for square images of `size` pixels, to class logits `[batch,
    /// C, N]` and boxes `[batch, N, 4]` (left, top, right, bottom in pixels).
    ///
    /// # Errors
    ///
    /// libtorch's; predictions of another head.
    pub fn boxes(&mut self, predictions: &Predictions, size: usize) -> Result<(Tensor, Tensor)> {
        let (logits, distances) = match predictions {
            Predictions::AnchorFree { sides, logits } => (logits, sides.clamp_max(f64::from(SIDE_MAX)).exp()),
            Predictions::Distribution { bins, logits } => {
                // Expectations over the bins, [batch, 4, cells].
                let [batch, _, cells] = bins.size()[..] else {
                    return Err(Error::Training("distances are no [batch, bins, cells]".into()));
                };
                let shares = bins.f_view([batch, 4, -1, cells])?.f_softmax(2, Kind::Float)?;
                let count = shares.size()[2];
                let values = Tensor::f_arange(count, (Kind::Float, bins.device()))?.view([1, 1, -1, 1]);
                (logits, (shares * values).f_sum_dim_intlist([2].as_slice(), false, Kind::Float)?)
            }
            Predictions::Anchors(_) => return Err(Error::Training("the predictions have anchors".into())),
        };
        let Cells { x, y, stride } = self.cells(size, logits.device());
        let distances = distances * stride;
        let side = |i: i64| distances.select(1, i);
        let boxes = Tensor::f_stack(&[x - side(0), y - side(1), x + side(2), y + side(3)], 2)?;
        Ok((logits.shallow_clone(), boxes))
    }
}

/// The loss function of a network's head.
pub struct Criterion {
    /// The cells of heads without anchors.
    pub(super) geometry: Geometry,
    /// For each input side in pixels; only for heads with anchors.
    places: HashMap<usize, Vec<Place>>,
}

impl Criterion {
    /// The loss function of the network's head; `None` for a graph without a head.
    pub fn new(graph: &Graph) -> Option<Criterion> {
        Some(Criterion { geometry: Geometry::new(graph)?, places: HashMap::new() })
    }

    /// The places of a square input of `size` pixels; none for heads without anchors.
    pub(super) fn places(&mut self, size: usize) -> &[Place] {
        let Geometry { head, strides, .. } = &self.geometry;
        self.places.entry(size).or_insert_with(|| anchors::places(size, strides, head))
    }

    /// The loss of `predictions` for the images of `batch`.
    ///
    /// # Errors
    ///
    /// libtorch's; predictions of another head.
    pub fn loss(&mut self, predictions: &Predictions, batch: &LabelledBatch) -> Result<Loss> {
        let size = batch.size;
        match (&self.geometry.head, predictions) {
            (Head::Anchors { .. }, Predictions::Anchors(values)) => {
                anchors::loss(values, self.places(size), &batch.targets)
            }
            (Head::Anchors { .. }, _) => Err(Error::Training("the predictions are another head's".into())),
            _ => {
                let (logits, boxes) = self.geometry.boxes(predictions, size)?;
                let cells = self.geometry.cells(size, logits.device());
                loss(&boxes, &logits, cells, &batch.learned, &batch.ignored)
            }
        }
    }
}

/// A batch on the device of the training.
pub struct LabelledBatch {
    /// 8-bit RGB, `[samples, size, size, 3]`.
    pub rgb: Tensor,
    /// Side in pixels.
    pub size: usize,
    targets: Vec<Vec<Target>>,
    learned: Objects,
    ignored: Objects,
}

impl LabelledBatch {
    /// Copies a batch for a network with `classes` to `device`. Does not wait for pending work of a GPU.
    ///
    /// # Errors
    ///
    /// libtorch's, such as out of memory.
    pub fn new(batch: Batch, classes: usize, device: Device) -> Result<LabelledBatch> {
        let side = batch.size as i64;
        let shape = [batch.targets.len() as i64, side, side, 3];
        let rgb = to_device(Tensor::f_from_data_size(&batch.rgb, &shape, Kind::Uint8)?, device)?;
        let [learned, ignored] = Objects::split(&batch.targets, classes, device)?;
        Ok(LabelledBatch { rgb, size: batch.size, targets: batch.targets, learned, ignored })
    }
}

/// The loss of a head without anchors. `boxes` are left, top, right, bottom in pixels, `[batch, cells, 4]`; `logits`
/// are class logits, `[batch, C, cells]`.
fn loss(boxes: &Tensor, logits: &Tensor, cells: &Cells, learned: &Objects, ignored: &Objects) -> Result<Loss> {
    let (count, rows) = (cells.count(), logits.size()[0] * logits.size()[1]);
    let options = (Kind::Float, logits.device());

    let Assignment { cells: index, learns, scores } = assign(cells, &boxes.detach(), &logits.detach(), learned)?;
    // If an object exists only with some probability, this share of its score is learned.
    let scores = scores * learned.certainty.f_unsqueeze(1)?;
    let norm = scores.sum(Kind::Float).clamp_min(1.0);
    let place = places(&index, &learned.row, count)?; // Into [batch · classes · cells].

    // A cell that learns an object is not ignored, even if an ignored object is there too.
    let ignored = {
        let _guard = tch::no_grad_guard();
        let lies_there = cells.inside(&ignored.ltrb, 0.0).to_kind(Kind::Float);
        let ignored = Tensor::f_zeros([rows, count], options)?.f_index_add(0, &ignored.row, &lies_there)?;
        // More than the number of objects in one cell.
        ignored.f_flatten(0, 1)?.f_scatter_add(0, &place, &(learns * -1e6).f_flatten(0, 1)?)?.gt(0.0)
    };
    // The cross-entropy of a logit x with score s is softplus(x) - s·x. Nearly all scores are 0. In ignored cells the
    // logit is set so low that softplus is 0 too.
    let logits = logits.f_flatten(0, -1)?;
    let class = logits.f_masked_fill(&ignored, -100.0)?.softplus().sum(Kind::Float)
        - (logits.f_index_select(0, &place)? * scores.f_flatten(0, 1)?).sum(Kind::Float);
    let class = class / &norm;

    let predicted = boxes.f_flatten(0, 1)?.f_index_select(0, &places(&index, &learned.image, count)?)?;
    let top = index.size()[1];
    let truth = learned.ltrb.f_repeat_interleave_self_int(top, 0, learned.count() * top)?;
    let miss: Tensor = 1.0 - ciou(&predicted, &truth);
    let bbox = (miss * scores.f_flatten(0, 1)?).sum(Kind::Float) / norm;

    let total = &class + &bbox * LABEL_BOX_GAIN;
    let object = Tensor::f_zeros([], options)?;
    Ok(Loss::new(total, [class, bbox, object]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random predictions and two objects, for 64 px at strides 16 and 32 with 3 classes.
    fn case() -> ([Tensor; 2], Cells, Vec<Vec<Target>>) {
        tch::manual_seed(1);
        let cells = Cells::new(64, &[16, 32], 0.5, Device::Cpu);
        let count = cells.count();
        let random = |channels| Tensor::randn([2, channels, count], tch::kind::FLOAT_CPU) * 0.3;
        let predictions = [random(4).set_requires_grad(true), (random(3) - 2.0).detach().set_requires_grad(true)];
        let target = |class, ltrb, weight| Target { class, ltrb, weight, certainty: 1.0 };
        let targets = vec![
            vec![target(0, [5.0, 5.0, 40.0, 30.0], 1.0), target(1, [30.0, 30.0, 60.0, 60.0], 0.0)],
            vec![target(2, [20.0, 10.0, 50.0, 60.0], 0.5)],
        ];
        (predictions, cells, targets)
    }

    fn loss_of(sides: &Tensor, logits: &Tensor, cells: &Cells, targets: &[Vec<Target>]) -> Loss {
        let [learned, ignored] = Objects::split(targets, 3, Device::Cpu).unwrap();
        let mut geometry = Geometry { head: Head::AnchorFree, strides: vec![16, 32], cells: HashMap::new() };
        let predictions = Predictions::AnchorFree { sides: sides.shallow_clone(), logits: logits.shallow_clone() };
        let (logits, boxes) = geometry.boxes(&predictions, 64).unwrap();
        loss(&boxes, &logits, cells, &learned, &ignored).unwrap()
    }

    #[test]
    fn following_the_gradient_fits_the_objects() {
        let (mut predictions, cells, targets) = case();
        let loss = |[sides, logits]: &[Tensor; 2]| loss_of(sides, logits, &cells, &targets);
        let before = loss(&predictions);
        for _ in 0..300 {
            let step = loss(&predictions);
            step.total.backward();
            tch::no_grad(|| {
                for tensor in &mut predictions {
                    let gradient = tensor.grad();
                    let _ = tensor.g_add_(&(gradient * -0.2));
                    tensor.zero_grad();
                }
            });
        }
        let after = loss(&predictions);
        // The boxes' part is weighted by scores that rise with the fit, so it does not fall to zero.
        assert!(after.bbox() < 0.25 * before.bbox(), "boxes {} -> {}", before.bbox(), after.bbox());
        assert!(after.class() < 0.7 * before.class(), "classes {} -> {}", before.class(), after.class());
    }

    #[test]
    fn of_an_uncertain_object_a_part_of_the_score_is_learned() {
        let ([sides, logits], cells, mut targets) = case();
        targets.truncate(1);
        targets.push(vec![]);
        // The gradient of the cross-entropy is sigmoid - score while all scores together are below 1.
        let mut taught = |certainty: f32| {
            targets[0].truncate(1);
            targets[0][0].certainty = certainty;
            let logits = logits.detach().set_requires_grad(true);
            loss_of(&sides.detach(), &logits, &cells, &targets).total.backward();
            (logits.sigmoid() - logits.grad()).select(0, 0).select(0, 0).sum(Kind::Float).double_value(&[])
        };
        let (more, less) = (taught(0.1), taught(0.05));
        assert!(more > 0.01 && (less - more / 2.0).abs() < 1e-4, "{more}, {less}");
    }

    #[test]
    fn an_ignored_place_teaches_nothing_unless_it_is_learned() {
        let ([sides, logits], cells, mut targets) = case();
        let untaught = |targets: &[Vec<Target>], class: i64| {
            let logits = logits.detach().set_requires_grad(true);
            loss_of(&sides.detach(), &logits, &cells, targets).total.backward();
            let taught: Vec<bool> = logits.grad().get(0).get(class).not_equal(0.0).try_into().unwrap();
            taught.iter().filter(|taught| !**taught).count()
        };
        // 30 to 60: of the centres 8, 24, 40 and 56 two a side, of 16 and 48 one.
        assert_eq!(untaught(&targets, 1), 4 + 1);
        assert_eq!(untaught(&targets, 0), 0, "of other classes it is background");
        let learned = Target { weight: 1.0, ..targets[0][1] };
        targets[0].push(learned);
        assert_eq!(untaught(&targets, 1), 0, "all five are among the ten that learn the same box");
    }

    #[test]
    fn the_sparse_cross_entropy_is_the_dense_one() {
        let ([sides, logits], cells, _) = case();
        let none = loss_of(&sides, &logits, &cells, &[vec![], vec![]]);
        let zeros = logits.zeros_like();
        let dense = logits.binary_cross_entropy_with_logits::<Tensor>(&zeros, None, None, tch::Reduction::Sum);
        assert!((none.class() - dense.double_value(&[])).abs() < 1e-3 * none.class());
        assert_eq!(none.bbox(), 0.0);
    }
}
