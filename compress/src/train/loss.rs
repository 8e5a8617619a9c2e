//! The loss by the network's head. Here that of an anchor-free one: binary cross-entropy on task-aligned scores, and
//! CIoU. That of YOLOv3's is [`super::anchors`].

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::anchors::{self, Place};
use super::assign::{Cells, assign};
use super::model::Predictions;
use crate::data::augment::Target;
use crate::error::{Error, Result};
use crate::export::SIDE_MAX;
use crate::network::{Graph, Head};

/// Weight of CIoU beside the classes' cross-entropy.
pub(super) const BOX_GAIN: f64 = 4.0;

/// The loss of a batch and what it consists of.
pub struct Loss {
    /// What is differentiated.
    pub total: Tensor,
    /// Its classes' part.
    pub class: f64,
    /// Its boxes' part, before the gain.
    pub bbox: f64,
    /// Its objectness' part; 0 for a head that has none.
    pub object: f64,
}

/// What a network is taught by, as its head wants it.
pub struct Criterion {
    head: Head,
    strides: Vec<usize>,
    /// By side of the input in pixels.
    cells: HashMap<usize, Cells>,
    places: HashMap<usize, Vec<Place>>,
}

impl Criterion {
    /// That of the network's head; none for a graph without one.
    pub fn new(graph: &Graph) -> Option<Criterion> {
        let head = graph.head()?.clone();
        Some(Criterion { head, strides: graph.head_strides(), cells: HashMap::new(), places: HashMap::new() })
    }

    /// The loss of `predictions` for square inputs of `size` pixels; `targets` are those of each image.
    ///
    /// # Errors
    ///
    /// libtorch's; predictions of another head.
    pub fn loss(&mut self, predictions: &Predictions, size: usize, targets: &[Vec<Target>]) -> Result<Loss> {
        match (&self.head, predictions) {
            (Head::AnchorFree, Predictions::AnchorFree { sides, logits }) => {
                let cells = self.cells.entry(size).or_insert_with(|| Cells::new(size, &self.strides));
                loss(sides, logits, cells, targets)
            }
            (Head::Anchors { anchors }, Predictions::Anchors(values)) => {
                let places =
                    self.places.entry(size).or_insert_with(|| anchors::places(size, &self.strides, anchors));
                anchors::loss(values, places, targets)
            }
            _ => Err(Error::Training("the predictions are another head's".into())),
        }
    }
}

/// The loss of an anchor-free head; see [`Predictions::AnchorFree`].
fn loss(sides: &Tensor, logits: &Tensor, cells: &Cells, targets: &[Vec<Target>]) -> Result<Loss> {
    let device = logits.device();
    let options = (Kind::Float, device);
    let count = cells.centres.len();
    let classes = logits.size()[1] as usize;

    // Boxes left, top, right, bottom in pixels, [batch, 4, cells].
    let column = |i: usize| {
        let values: Vec<f32> = cells.centres.iter().map(|centre| centre[i]).collect();
        Tensor::from_slice(&values).to_device(device)
    };
    let (x, y, stride) = (column(0), column(1), column(2));
    let distances = sides.clamp_max(f64::from(SIDE_MAX)).exp() * &stride;
    let side = |i: i64| distances.select(1, i);
    let boxes = Tensor::f_stack(&[&x - side(0), &y - side(1), &x + side(2), &y + side(3)], 2)?;

    let known_boxes = to_vec(&boxes.detach())?;
    let known_logits = to_vec(&logits.detach())?;
    let mut cell_index = Vec::new(); // Into [batch · cells].
    let mut truth: Vec<f32> = Vec::new();
    let mut box_weight: Vec<f32> = Vec::new();
    let mut logit_index = Vec::new(); // Into [batch · classes · cells].
    let mut logit_score: Vec<f32> = Vec::new();
    let mut logit_weight: Vec<f32> = Vec::new();
    for (image, targets) in targets.iter().enumerate() {
        let boxes: &[[f32; 4]] = known_boxes[image * count * 4..(image + 1) * count * 4].as_chunks().0;
        let logit = |cell: usize, class: usize| (image * classes + class) * count + cell;
        let probability = |cell: usize, class: usize| 1.0 / (1.0 + (-known_logits[logit(cell, class)]).exp());
        let assignment = assign(cells, boxes, probability, targets);
        for positive in assignment.positives {
            let target = &targets[positive.target];
            cell_index.push((image * count + positive.cell) as i64);
            truth.extend(target.ltrb);
            box_weight.push(positive.score * target.certainty);
            logit_index.push(logit(positive.cell, target.class) as i64);
            // An object that is there with some probability: so much of its score is to be learned.
            logit_score.push(positive.score * target.certainty);
            logit_weight.push(1.0);
        }
        for (cell, class) in assignment.ignored {
            logit_index.push(logit(cell, class) as i64);
            logit_score.push(0.0);
            logit_weight.push(0.0);
        }
    }
    // A place may be both learned and ignored, by two objects of a class, or ignored twice: the first one counts.
    let mut seen = std::collections::HashSet::new();
    let keep: Vec<bool> = logit_index.iter().map(|&index| seen.insert(index)).collect();
    retain(&mut logit_index, &keep);
    retain(&mut logit_score, &keep);
    retain(&mut logit_weight, &keep);

    let norm = box_weight.iter().sum::<f32>().max(1.0) as f64;

    // Cross-entropy of a logit x with score s is softplus(x) - s·x. Nearly all scores are 0: sum softplus over
    // everything, then correct the few others.
    let logits = logits.flatten(0, -1);
    let index = Tensor::from_slice(&logit_index).to_device(device);
    let few = logits.index_select(0, &index);
    let score: Tensor = Tensor::from_slice(&logit_score).to_device(device);
    let weight: Tensor = Tensor::from_slice(&logit_weight).to_device(device);
    let correction = (&weight - 1.0) * few.softplus() - &weight * score * &few;
    let class = (logits.softplus().sum(Kind::Float) + correction.sum(Kind::Float)) / norm;

    let bbox = if cell_index.is_empty() {
        Tensor::f_zeros([0], options)?.sum(Kind::Float)
    } else {
        let index = Tensor::from_slice(&cell_index).to_device(device);
        let predicted = boxes.flatten(0, 1).index_select(0, &index);
        let truth = Tensor::from_slice(&truth).view([-1, 4]).to_device(device);
        let weight = Tensor::from_slice(&box_weight).to_device(device);
        let miss: Tensor = 1.0 - ciou(&predicted, &truth);
        (miss * weight).sum(Kind::Float) / norm
    };
    let total = &class + &bbox * BOX_GAIN;
    Ok(Loss { class: class.double_value(&[]), bbox: bbox.double_value(&[]), object: 0.0, total })
}

/// Complete IoU (Zheng et al. 2020) of boxes left, top, right, bottom, `[n, 4]` each: `[n]`.
pub(super) fn ciou(a: &Tensor, b: &Tensor) -> Tensor {
    let side = |boxes: &Tensor, i: i64| boxes.select(1, i);
    let (al, at, ar, ab) = (side(a, 0), side(a, 1), side(a, 2), side(a, 3));
    let (bl, bt, br, bb) = (side(b, 0), side(b, 1), side(b, 2), side(b, 3));
    let (aw, ah) = (&ar - &al, &ab - &at);
    let (bw, bh) = (&br - &bl, &bb - &bt);
    let width = (ar.minimum(&br) - al.maximum(&bl)).clamp_min(0.0);
    let height = (ab.minimum(&bb) - at.maximum(&bt)).clamp_min(0.0);
    let overlap = width * height;
    let union = &aw * &ah + &bw * &bh - &overlap + 1e-7;
    let iou = overlap / union;

    let hull_width = ar.maximum(&br) - al.minimum(&bl);
    let hull_height = ab.maximum(&bb) - at.minimum(&bt);
    let diagonal = hull_width.square() + hull_height.square() + 1e-7;
    let offset = ((al + ar - bl - br).square() + (at + ab - bt - bb).square()) / 4.0;

    let angle = (bw / (bh + 1e-7)).atan() - (aw / (ah + 1e-7)).atan();
    let shape = angle.square() * (4.0 / std::f64::consts::PI.powi(2));
    let share = tch::no_grad(|| &shape / (1.0 - &iou + &shape + 1e-7));
    iou - offset / diagonal - share * shape
}

pub(super) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0f32; tensor.numel()];
    let len = values.len();
    tensor.to_device(tch::Device::Cpu).contiguous().f_copy_data(&mut values, len)?;
    Ok(values)
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| *keep.next().unwrap_or(&true));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random predictions and two objects, for 64 px at strides 16 and 32 with 3 classes.
    fn case() -> ([Tensor; 2], Cells, Vec<Vec<Target>>) {
        tch::manual_seed(1);
        let cells = Cells::new(64, &[16, 32]);
        let count = cells.centres.len() as i64;
        let random = |channels| Tensor::randn([2, channels, count], tch::kind::FLOAT_CPU) * 0.3;
        let predictions = [random(4).set_requires_grad(true), (random(3) - 2.0).detach().set_requires_grad(true)];
        let target = |class, ltrb, weight| Target { class, ltrb, weight, certainty: 1.0 };
        let targets = vec![
            vec![target(0, [5.0, 5.0, 40.0, 30.0], 1.0), target(1, [30.0, 30.0, 60.0, 60.0], 0.0)],
            vec![target(2, [20.0, 10.0, 50.0, 60.0], 0.5)],
        ];
        (predictions, cells, targets)
    }

    #[test]
    fn following_the_gradient_fits_the_objects() {
        let (mut predictions, cells, targets) = case();
        let loss = |[sides, logits]: &[Tensor; 2]| loss(sides, logits, &cells, &targets).unwrap();
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
        // The boxes' part is weighed by scores that rise as they fit, so it does not go to zero.
        assert!(after.bbox < 0.25 * before.bbox, "boxes {} -> {}", before.bbox, after.bbox);
        assert!(after.class < 0.7 * before.class, "classes {} -> {}", before.class, after.class);
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
            loss(&sides.detach(), &logits, &cells, &targets).unwrap().total.backward();
            (logits.sigmoid() - logits.grad()).select(0, 0).select(0, 0).sum(Kind::Float).double_value(&[])
        };
        let (more, less) = (taught(0.1), taught(0.05));
        assert!(more > 0.01 && (less - more / 2.0).abs() < 1e-4, "{more}, {less}");
    }

    #[test]
    fn the_sparse_cross_entropy_is_the_dense_one() {
        let ([sides, logits], cells, _) = case();
        let none = loss(&sides, &logits, &cells, &[vec![], vec![]]).unwrap();
        let zeros = logits.zeros_like();
        let dense = logits.binary_cross_entropy_with_logits::<Tensor>(&zeros, None, None, tch::Reduction::Sum);
        assert!((none.class - dense.double_value(&[])).abs() < 1e-3 * none.class);
        assert_eq!(none.bbox, 0.0);
    }

    #[test]
    fn ciou_of_equal_boxes_is_one_and_of_far_ones_negative() {
        let a = Tensor::from_slice(&[0f32, 0.0, 10.0, 10.0, 0.0, 0.0, 10.0, 10.0]).view([2, 4]);
        let b = Tensor::from_slice(&[0f32, 0.0, 10.0, 10.0, 30.0, 0.0, 40.0, 10.0]).view([2, 4]);
        let values = ciou(&a, &b);
        assert!((values.double_value(&[0]) - 1.0).abs() < 1e-5);
        // IoU 0; centres 30 apart, hull 40×10: -900/1700.
        assert!((values.double_value(&[1]) + 900.0 / 1700.0).abs() < 1e-5);
    }
}
