//! Candidates → detections: greedy non-maximum suppression, class by class.
//!
//! Cluster-NMS, which Micro-YOLO+ names, reaches the same set of boxes by matrix products, which pays on a
//! GPU. Here a candidate is compared with the boxes kept so far only, at most `max_detections` of them, so
//! the greedy form needs no matrix and is the faster one.

use crate::detection::BoxLtrb;

/// A box that may become a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// In pixels of the network's input.
    pub bbox: BoxLtrb,
    pub class: u32,
    pub score: f32,
}

/// Sorts by score, best first. Scores are finite here; equal ones keep the order of class and position, so
/// that the same picture gives the same answer everywhere.
fn sort_by_score(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by(|a, b| {
        (b.score.total_cmp(&a.score))
            .then(a.class.cmp(&b.class))
            .then(a.bbox.left.total_cmp(&b.bbox.left))
            .then(a.bbox.top.total_cmp(&b.bbox.top))
    });
}

/// Leaves in `candidates` the boxes that detection keeps, best score first: a box goes if a better one of
/// its class overlaps it by more than `iou_max`, and at most `count_max` stay.
pub(crate) fn suppress(candidates: &mut Vec<Candidate>, iou_max: f32, count_max: usize) {
    sort_by_score(candidates);
    let mut kept = 0;
    for next in 0..candidates.len() {
        if kept == count_max {
            break;
        }
        let candidate = candidates[next];
        let covered =
            |better: &Candidate| better.class == candidate.class && better.bbox.iou(&candidate.bbox) > iou_max;
        if !candidates[..kept].iter().any(covered) {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

/// For candidates already suppressed inside the network: the best `count_max`, best score first.
pub(crate) fn best(candidates: &mut Vec<Candidate>, count_max: usize) {
    sort_by_score(candidates);
    candidates.truncate(count_max);
}
