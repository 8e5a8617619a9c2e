//! Which cells learn which object: task-aligned assignment (Feng et al. 2021, TOOD).

use crate::data::augment::Target;

/// Cells per object.
const TOP: usize = 10;

/// Power of the overlap in the alignment score^1 · IoU^6.
const IOU_POWER: i32 = 6;

/// The centres of all cells, in the order of the network's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// x, y and stride, in pixels.
    pub centres: Vec<[f32; 3]>,
}

impl Cells {
    /// For a square input of `size` pixels: row by row, stride by stride.
    pub fn new(size: usize, strides: &[usize]) -> Cells {
        let mut centres = Vec::new();
        for &stride in strides {
            let side = size / stride;
            for y in 0..side {
                for x in 0..side {
                    let at = |i: usize| (i as f32 + 0.5) * stride as f32;
                    centres.push([at(x), at(y), stride as f32]);
                }
            }
        }
        Cells { centres }
    }
}

/// A cell that learns an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Positive {
    /// The cell.
    pub cell: usize,
    /// Index into the targets.
    pub target: usize,
    /// The score it learns, 0–1.
    pub score: f32,
}

/// What one image teaches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assignment {
    /// Cells that learn an object.
    pub positives: Vec<Positive>,
    /// (cell, class): neither hit nor miss.
    pub ignored: Vec<(usize, usize)>,
}

/// Assigns the targets of one image to cells.
///
/// `boxes` are the predictions, left, top, right, bottom in pixels, one a cell; `probability(cell, class)` the
/// predicted class probability.
pub fn assign(
    cells: &Cells,
    boxes: &[[f32; 4]],
    probability: impl Fn(usize, usize) -> f32,
    targets: &[Target],
) -> Assignment {
    struct Candidate {
        cell: usize,
        iou: f32,
        alignment: f32,
    }
    let mut assignment = Assignment::default();
    // The best claim on each cell: (target, IoU, alignment).
    let mut claims: Vec<Option<(usize, f32, f32)>> = vec![None; cells.centres.len()];
    let mut candidates = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let [l, t, r, b] = target.ltrb;
        if target.weight <= 0.0 {
            let inside = |centre: &[f32; 3]| centre[0] > l && centre[0] < r && centre[1] > t && centre[1] < b;
            let covered = cells.centres.iter().enumerate().filter(|(_, centre)| inside(centre));
            assignment.ignored.extend(covered.map(|(cell, _)| (cell, target.class)));
            continue;
        }
        candidates.clear();
        let (x, y) = ((l + r) / 2.0, (t + b) / 2.0);
        for (cell, &[cx, cy, stride]) in cells.centres.iter().enumerate() {
            // Objects smaller than a cell are given one cell's room, or they might have no candidate at all.
            let (half_width, half_height) = (((r - l) / 2.0).max(stride / 2.0), ((b - t) / 2.0).max(stride / 2.0));
            if (cx - x).abs() < half_width && (cy - y).abs() < half_height {
                let iou = iou(boxes[cell], target.ltrb);
                let alignment = probability(cell, target.class) * iou.powi(IOU_POWER);
                candidates.push(Candidate { cell, iou, alignment });
            }
        }
        candidates.sort_by(|a, b| b.alignment.total_cmp(&a.alignment).then(b.iou.total_cmp(&a.iou)));
        for candidate in candidates.iter().take(TOP) {
            let claim = &mut claims[candidate.cell];
            if claim.is_none_or(|other| other.1 < candidate.iou) {
                *claim = Some((index, candidate.iou, candidate.alignment));
            }
        }
    }

    // Scores: the alignment, scaled so that each object's best cell learns its IoU.
    let mut best = vec![(0f32, 0f32); targets.len()];
    for &(target, iou, alignment) in claims.iter().flatten() {
        best[target] = (best[target].0.max(alignment), best[target].1.max(iou));
    }
    for (cell, claim) in claims.iter().enumerate() {
        if let &Some((target, _, alignment)) = claim {
            let (top_alignment, top_iou) = best[target];
            let score = alignment / top_alignment.max(1e-9) * top_iou;
            assignment.positives.push(Positive { cell, target, score });
        }
    }
    assignment
}

/// Intersection over union of two boxes (left, top, right, bottom).
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let overlap = width * height;
    let area = |v: [f32; 4]| (v[2] - v[0]) * (v[3] - v[1]);
    overlap / (area(a) + area(b) - overlap).max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(class: usize, ltrb: [f32; 4], weight: f32) -> Target {
        Target { class, ltrb, weight, certainty: 1.0 }
    }

    /// Every cell predicts a box of two strides around its centre.
    fn boxes(cells: &Cells) -> Vec<[f32; 4]> {
        cells.centres.iter().map(|&[x, y, s]| [x - s, y - s, x + s, y + s]).collect()
    }

    #[test]
    fn the_cell_that_fits_best_learns_its_iou() {
        let cells = Cells::new(64, &[16, 32]);
        assert_eq!(cells.centres.len(), 16 + 4);
        // Exactly the prediction of the cell at (24, 24) with stride 16.
        let targets = [target(2, [8.0, 8.0, 40.0, 40.0], 1.0)];
        let result = assign(&cells, &boxes(&cells), |_, _| 0.5, &targets);
        let best = result.positives.iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
        assert_eq!((best.cell, best.target, best.score), (5, 0, 1.0));
        assert!(result.positives.len() <= TOP && result.ignored.is_empty());
    }

    #[test]
    fn an_object_smaller_than_a_cell_still_finds_one() {
        let cells = Cells::new(64, &[16, 32]);
        let targets = [target(0, [15.0, 15.0, 17.5, 17.5], 1.0)];
        let result = assign(&cells, &boxes(&cells), |_, _| 0.1, &targets);
        assert!(!result.positives.is_empty());
        assert!(result.positives.iter().all(|positive| positive.score.is_finite()));
    }

    #[test]
    fn a_cell_serves_the_object_it_overlaps_most() {
        let cells = Cells::new(64, &[32]);
        let near = target(0, [0.0, 0.0, 48.0, 48.0], 1.0);
        let far = target(1, [0.0, 0.0, 64.0, 20.0], 1.0);
        let result = assign(&cells, &boxes(&cells), |_, _| 0.5, &[far, near]);
        let first = result.positives.iter().find(|positive| positive.cell == 0).unwrap();
        assert_eq!(first.target, 1);
    }

    #[test]
    fn objects_of_no_weight_are_ignored_in_their_class_only() {
        let cells = Cells::new(64, &[32]);
        let result = assign(&cells, &boxes(&cells), |_, _| 0.5, &[target(7, [0.0, 0.0, 20.0, 20.0], 0.0)]);
        assert_eq!((result.positives.len(), result.ignored), (0, vec![(0, 7)]));
    }

    #[test]
    fn iou_of_squares_shifted_by_half() {
        // 10×10 each, shifted by (5, 5): overlap 25, union 175.
        let value = iou([0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 15.0, 15.0]);
        assert!((value - 1.0 / 7.0).abs() < 1e-6, "{value}");
    }
}
