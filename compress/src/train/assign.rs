//! Task-aligned assignment of objects to cells (Feng et al. 2021, TOOD).
//!
//! It handles all objects of a batch at once, in tensors of fixed sizes, so that a GPU never waits for the CPU.

use tch::{Device, Kind, Tensor};

use super::tensor::to_device;
use crate::data::augment::Target;
use crate::error::Result;

/// The maximum number of cells that learn an object.
const TOP: i64 = 10;

/// Power of the overlap in the alignment score^1 · IoU^6.
const IOU_POWER: i64 = 6;

/// The positions of all cells, in the order of the network's output; f32, `[cells]` each, in pixels.
#[derive(Debug)]
pub struct Cells {
    /// x of the centres.
    pub x: Tensor,
    /// y of the centres.
    pub y: Tensor,
    /// The unit of the distances to a box's sides.
    pub stride: Tensor,
}

impl Cells {
    /// The cells of a square input of `size` pixels, row by row, stride by stride. `offset` is the point in a cell from
    /// which distances are measured; 0.5 is the centre.
    pub fn new(size: usize, strides: &[usize], offset: f32, device: Device) -> Cells {
        let mut centres: [Vec<f32>; 3] = Default::default();
        for &stride in strides {
            let side = size.div_ceil(stride);
            for cell in 0..side * side {
                let at = |i: usize| (i as f32 + offset) * stride as f32;
                for (column, value) in centres.iter_mut().zip([at(cell % side), at(cell / side), stride as f32]) {
                    column.push(value);
                }
            }
        }
        let [x, y, stride] = centres.map(|column| Tensor::from_slice(&column).to_device(device));
        Cells { x, y, stride }
    }

    /// The number of cells.
    pub fn count(&self) -> i64 {
        self.x.size()[0]
    }

    /// Which cells are inside boxes (left, top, right, bottom), `[n, 4]`: bool, `[n, cells]`. A side shorter than
    /// `room` strides is extended to that, because the smallest objects might otherwise contain no centre.
    pub fn inside(&self, boxes: &Tensor, room: f64) -> Tensor {
        let within = |centre: &Tensor, low: i64| {
            let (low, high) = (boxes.narrow(1, low, 1), boxes.narrow(1, low + 2, 1));
            let half = ((&high - &low) / 2.0).maximum(&(&self.stride * (room / 2.0)));
            (centre - (low + high) / 2.0).abs().lt_tensor(&half)
        };
        within(&self.x, 0).logical_and(&within(&self.y, 1))
    }
}

/// The objects of a batch, on the device of the training.
#[derive(Debug)]
pub struct Objects {
    /// Index of the image in the batch, i64 `[n]`.
    pub image: Tensor,
    /// image · classes + class, i64 `[n]`.
    pub row: Tensor,
    /// Left, top, right, bottom in pixels, f32 `[n, 4]`.
    pub ltrb: Tensor,
    /// See [`Target::certainty`], f32 `[n]`.
    pub certainty: Tensor,
}

impl Objects {
    /// The targets of each image that are learned, and those that are ignored.
    pub fn split(targets: &[Vec<Target>], classes: usize, device: Device) -> Result<[Objects; 2]> {
        let objects = |learned: bool| -> Result<Objects> {
            let (mut image, mut row, mut ltrb, mut certainty) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (index, targets) in targets.iter().enumerate() {
                for target in targets.iter().filter(|target| (target.weight > 0.0) == learned) {
                    image.push(index as i64);
                    row.push((index * classes + target.class) as i64);
                    ltrb.extend(target.ltrb);
                    certainty.push(target.certainty);
                }
            }
            Ok(Objects {
                image: to_device(Tensor::f_from_slice(&image)?, device)?,
                row: to_device(Tensor::f_from_slice(&row)?, device)?,
                ltrb: to_device(Tensor::f_from_slice(&ltrb)?.f_view([ltrb.len() as i64 / 4, 4])?, device)?,
                certainty: to_device(Tensor::f_from_slice(&certainty)?, device)?,
            })
        };
        Ok([objects(true)?, objects(false)?])
    }

    /// The number of objects.
    pub fn count(&self) -> i64 {
        self.image.size()[0]
    }
}

/// For each object the cells that may learn it, `[n, top]`.
#[derive(Debug)]
pub struct Assignment {
    /// Indices of the cells, i64.
    pub cells: Tensor,
    /// Whether the cell learns the object, f32: 1 or 0.
    pub learns: Tensor,
    /// The score that the cell learns, 0–1; 0 if it does not learn the object.
    pub scores: Tensor,
}

/// The indices of `cells`, `[n, top]`, in concatenated maps with `count` cells each. Object n belongs to map `maps[n]`.
/// i64, `[n · top]`.
pub fn places(cells: &Tensor, maps: &Tensor, count: i64) -> Result<Tensor> {
    Ok((cells + maps.f_unsqueeze(1)? * count).f_flatten(0, 1)?)
}

/// Assigns `objects` to cells.
///
/// `boxes` are the predictions, left, top, right, bottom in pixels, f32 `[batch, cells, 4]`; `logits` those of the
/// classes, f32 `[batch, classes, cells]`.
///
/// # Errors
///
/// libtorch's.
pub fn assign(cells: &Cells, boxes: &Tensor, logits: &Tensor, objects: &Objects) -> Result<Assignment> {
    let _guard = tch::no_grad_guard();
    let probability = logits.f_flatten(0, 1)?.f_index_select(0, &objects.row)?.f_sigmoid()?;
    let overlap = iou(&boxes.f_index_select(0, &objects.image)?, &objects.ltrb.f_unsqueeze(1)?);
    // If the sixth power of the overlap underflows, the overlap itself decides.
    let alignment = probability * overlap.pow_tensor_scalar(IOU_POWER) + &overlap * 1e-12;
    let alignment = alignment.f_masked_fill(&cells.inside(&objects.ltrb, 1.0).f_logical_not()?, -1.0)?;
    let (alignment, index) = alignment.f_topk(TOP.min(cells.count()), 1, true, true)?;
    let overlap = overlap.f_gather(1, &index, false)?;

    // A cell learns the object that it overlaps most; the first, if several are equal.
    let outside = alignment.lt(0.0);
    let claim = overlap.f_masked_fill(&outside, -1.0)?.f_flatten(0, 1)?;
    let places = places(&index, &objects.image, cells.count())?;
    let count = boxes.size()[0] * cells.count();
    let best = |start: Tensor, values: &Tensor, how: &str| -> Result<Tensor> {
        Ok(start.f_internal_scatter_reduce(0, &places, values, how, true)?.f_gather(0, &places, false)?)
    };
    let lowest = Tensor::f_full([count], -1.0, (Kind::Float, boxes.device()))?;
    let won = claim.f_ge_tensor(&best(lowest, &claim, "amax")?)?.f_logical_and(&claim.ge(0.0))?;
    let order = Tensor::f_arange(objects.count(), (Kind::Int64, boxes.device()))?;
    let order = order.f_unsqueeze(1)?.f_expand_as(&index)?.f_flatten(0, 1)?;
    let none = Tensor::f_full([count], objects.count(), (Kind::Int64, boxes.device()))?;
    let claimant = order.f_masked_fill(&won.f_logical_not()?, objects.count())?;
    let learns = won.f_logical_and(&order.f_eq_tensor(&best(none, &claimant, "amin")?)?)?;
    let learns = learns.f_view_as(&index)?.to_kind(Kind::Float);

    // The scores are the alignment, scaled so that the best cell of each object learns its IoU.
    let most = |of: &Tensor| -> Result<Tensor> { Ok((of * &learns).f_amax([1], true)?) };
    let scores = &alignment / most(&alignment)?.clamp_min(1e-9) * most(&overlap)? * &learns;
    Ok(Assignment { cells: index, learns, scores })
}

/// Intersection over union of boxes (left, top, right, bottom in the last dimension).
fn iou(a: &Tensor, b: &Tensor) -> Tensor {
    let side = |boxes: &Tensor, i: i64| boxes.select(-1, i);
    let width = (side(a, 2).minimum(&side(b, 2)) - side(a, 0).maximum(&side(b, 0))).clamp_min(0.0);
    let height = (side(a, 3).minimum(&side(b, 3)) - side(a, 1).maximum(&side(b, 1))).clamp_min(0.0);
    let overlap = width * height;
    let area = |boxes: &Tensor| (side(boxes, 2) - side(boxes, 0)) * (side(boxes, 3) - side(boxes, 1));
    let union = area(a) + area(b) - &overlap;
    overlap / union.clamp_min(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(class: usize, ltrb: [f32; 4], weight: f32) -> Target {
        Target { class, ltrb, weight, certainty: 1.0 }
    }

    /// Cell, target and score of what learns in a batch of one image, by cell.
    fn positives(
        cells: &Cells,
        boxes: &[[f32; 4]],
        probability: &[f32],
        targets: &[Target],
    ) -> Vec<(i64, usize, f32)> {
        let count = cells.count();
        let boxes = Tensor::from_slice(boxes.as_flattened()).view([1, count, 4]);
        let classes = probability.len() as i64 / count;
        let logits = Tensor::from_slice(probability).logit(None).view([1, classes, count]);
        let [learned, _] = Objects::split(&[targets.to_vec()], classes as usize, Device::Cpu).unwrap();
        let assignment = assign(cells, &boxes, &logits, &learned).unwrap();
        let mut positives = Vec::new();
        for object in 0..learned.count() {
            for place in 0..assignment.cells.size()[1] {
                if assignment.learns.double_value(&[object, place]) > 0.0 {
                    let cell = assignment.cells.int64_value(&[object, place]);
                    positives.push((
                        cell,
                        object as usize,
                        assignment.scores.double_value(&[object, place]) as f32,
                    ));
                }
            }
        }
        positives.sort_by_key(|positive| positive.0);
        positives
    }

    fn centres(cells: &Cells) -> Vec<[f32; 3]> {
        let at = |column: &Tensor, i| column.double_value(&[i]) as f32;
        (0..cells.count()).map(|i| [at(&cells.x, i), at(&cells.y, i), at(&cells.stride, i)]).collect()
    }

    /// Every cell predicts a box of two strides around its centre.
    fn boxes(cells: &Cells) -> Vec<[f32; 4]> {
        centres(cells).iter().map(|&[x, y, s]| [x - s, y - s, x + s, y + s]).collect()
    }

    fn halves(cells: &Cells, classes: usize) -> Vec<f32> {
        vec![0.5; classes * cells.count() as usize]
    }

    #[test]
    fn the_cell_that_fits_best_learns_its_iou() {
        let cells = Cells::new(64, &[16, 32], 0.5, Device::Cpu);
        assert_eq!(cells.count(), 16 + 4);
        // Exactly the prediction of the cell at (24, 24) with stride 16.
        let targets = [target(2, [8.0, 8.0, 40.0, 40.0], 1.0)];
        let result = positives(&cells, &boxes(&cells), &halves(&cells, 3), &targets);
        let best = result.iter().max_by(|a, b| a.2.total_cmp(&b.2)).unwrap();
        assert_eq!((best.0, best.1), (5, 0));
        assert!((best.2 - 1.0).abs() < 1e-6, "{best:?}");
        assert!(result.len() <= TOP as usize);
    }

    #[test]
    fn an_object_smaller_than_a_cell_still_finds_one() {
        let cells = Cells::new(64, &[16, 32], 0.5, Device::Cpu);
        let targets = [target(0, [15.0, 15.0, 17.5, 17.5], 1.0)];
        let result = positives(&cells, &boxes(&cells), &[0.1; 20], &targets);
        assert!(!result.is_empty());
        assert!(result.iter().all(|positive| positive.2.is_finite()));
    }

    #[test]
    fn a_cell_serves_the_object_it_overlaps_most_and_of_equal_ones_the_first() {
        let cells = Cells::new(64, &[32], 0.5, Device::Cpu);
        let near = target(0, [0.0, 0.0, 48.0, 48.0], 1.0);
        let far = target(1, [0.0, 0.0, 64.0, 20.0], 1.0);
        let served = |targets: &[Target]| {
            let result = positives(&cells, &boxes(&cells), &halves(&cells, 2), targets);
            result.iter().find(|positive| positive.0 == 0).unwrap().1
        };
        assert_eq!(served(&[far, near]), 1);
        assert_eq!(served(&[near, near]), 0);
    }

    #[test]
    fn objects_of_no_weight_learn_nothing() {
        let foreign = [target(7, [0.0, 0.0, 20.0, 20.0], 0.0), target(3, [0.0, 0.0, 20.0, 20.0], 1.0)];
        let [learned, ignored] = Objects::split(&[vec![], foreign.to_vec()], 10, Device::Cpu).unwrap();
        assert_eq!((learned.count(), ignored.count()), (1, 1));
        assert_eq!((learned.row.int64_value(&[0]), ignored.row.int64_value(&[0])), (13, 17));
        let cells = Cells::new(64, &[32], 0.5, Device::Cpu);
        let inside: Vec<bool> = cells.inside(&ignored.ltrb, 0.0).flatten(0, 1).try_into().unwrap();
        assert_eq!(inside, [true, false, false, false]);
    }

    #[test]
    fn iou_of_squares_shifted_by_half() {
        // 10×10 each, shifted by (5, 5): overlap 25, union 175.
        let square = |at: f32| Tensor::from_slice(&[at, at, at + 10.0, at + 10.0]);
        let value = iou(&square(0.0), &square(5.0)).double_value(&[]);
        assert!((value - 1.0 / 7.0).abs() < 1e-6, "{value}");
    }

    /// The same rule, one object and one cell at a time.
    fn one_by_one(
        centres: &[[f32; 3]],
        boxes: &[[f32; 4]],
        probability: impl Fn(usize, usize) -> f32,
        targets: &[Target],
    ) -> Vec<(i64, usize, f32)> {
        let mut claims: Vec<Option<(usize, f32, f32)>> = vec![None; centres.len()];
        for (index, target) in targets.iter().enumerate() {
            let [l, t, r, b] = target.ltrb;
            let (x, y) = ((l + r) / 2.0, (t + b) / 2.0);
            let mut candidates = Vec::new();
            for (cell, &[cx, cy, stride]) in centres.iter().enumerate() {
                let (half_width, half_height) =
                    (((r - l) / 2.0).max(stride / 2.0), ((b - t) / 2.0).max(stride / 2.0));
                if (cx - x).abs() < half_width && (cy - y).abs() < half_height {
                    let iou = crate::train::anchors::iou(boxes[cell], target.ltrb);
                    candidates.push((cell, iou, probability(cell, target.class) * iou.powi(IOU_POWER as i32)));
                }
            }
            candidates.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.1.total_cmp(&a.1)));
            for &(cell, iou, alignment) in candidates.iter().take(TOP as usize) {
                if claims[cell].is_none_or(|other| other.1 < iou) {
                    claims[cell] = Some((index, iou, alignment));
                }
            }
        }
        let mut best = vec![(0f32, 0f32); targets.len()];
        for &(target, iou, alignment) in claims.iter().flatten() {
            best[target] = (best[target].0.max(alignment), best[target].1.max(iou));
        }
        let learns = |(cell, claim): (usize, &Option<(usize, f32, f32)>)| {
            let &(target, _, alignment) = claim.as_ref()?;
            Some((cell as i64, target, alignment / best[target].0.max(1e-9) * best[target].1))
        };
        claims.iter().enumerate().filter_map(learns).collect()
    }

    #[test]
    fn all_at_once_is_the_same_as_one_by_one() {
        let cells = Cells::new(96, &[8, 16, 32], 0.5, Device::Cpu);
        let centres = centres(&cells);
        let classes = 4;
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let boxes: Vec<[f32; 4]> = centres
                .iter()
                .map(|&[x, y, s]| {
                    let mut side = || s * (0.3 + 2.0 * rng.f32());
                    [x - side(), y - side(), x + side(), y + side()]
                })
                .collect();
            let probability: Vec<f32> = (0..classes * centres.len()).map(|_| 0.01 + 0.9 * rng.f32()).collect();
            let targets: Vec<Target> = (0..rng.usize(1..12))
                .map(|_| {
                    let (l, t) = (rng.f32() * 70.0, rng.f32() * 70.0);
                    let (w, h) = (2.0 + rng.f32() * 40.0, 2.0 + rng.f32() * 40.0);
                    target(rng.usize(0..classes), [l, t, l + w, t + h], 1.0)
                })
                .collect();
            let ours = positives(&cells, &boxes, &probability, &targets);
            let expected =
                one_by_one(&centres, &boxes, |cell, class| probability[class * centres.len() + cell], &targets);
            // Cells with very small scores may be exchanged with cells without any.
            let close =
                |a: &(i64, usize, f32), b: &(i64, usize, f32)| a.0 == b.0 && a.1 == b.1 && (a.2 - b.2).abs() < 1e-4;
            let of_weight = |list: &[(i64, usize, f32)]| -> Vec<(i64, usize, f32)> {
                list.iter().copied().filter(|positive| positive.2 > 1e-4).collect()
            };
            let (ours, expected) = (of_weight(&ours), of_weight(&expected));
            assert_eq!(ours.len(), expected.len(), "seed {seed}");
            assert!(ours.iter().zip(&expected).all(|(a, b)| close(a, b)), "{ours:?}, not {expected:?}");
        }
    }
}
