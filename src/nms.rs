//! Reduces candidates to detections by greedy non-maximum suppression, class by class.
//!
//! Cluster-NMS, which Micro-YOLO+ uses, keeps the same boxes but computes them with matrix products, which is faster on
//! a GPU. Here each candidate is compared only with the boxes kept so far, at most `max_detections`. So the greedy form
//! needs no matrix and is faster.

use crate::detection::BoxLtrb;

/// A box that may become a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// In pixels of the network's input.
    pub bbox: BoxLtrb,
    pub class: u32,
    pub score: f32,
}

/// Sorts by score, best first. Scores are finite. Candidates with equal scores are ordered by class and position, so
/// that the same picture gives the same result on every machine.
fn sort_by_score(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by(|a, b| {
        (b.score.total_cmp(&a.score))
            .then(a.class.cmp(&b.class))
            .then(a.bbox.left.total_cmp(&b.bbox.left))
            .then(a.bbox.top.total_cmp(&b.bbox.top))
    });
}

/// Keeps in `candidates` the boxes that become detections, best score first. A box is dropped if a better one of its
/// class overlaps it by more than `iou_max`. At most `count_max` boxes stay.
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

/// For candidates that the network itself has suppressed: keeps the best `count_max`, best score first.
pub(crate) fn best(candidates: &mut Vec<Candidate>, count_max: usize) {
    sort_by_score(candidates);
    candidates.truncate(count_max);
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(left: f32, class: u32, score: f32) -> Candidate {
        Candidate { bbox: BoxLtrb { left, top: 0.0, right: left + 10.0, bottom: 10.0 }, class, score }
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        // Shifted by 5 of 10: overlap 50, union 150.
        let mut candidates = vec![candidate(0.0, 0, 0.5), candidate(5.0, 0, 0.9)];
        suppress(&mut candidates, 0.3, 100);
        assert_eq!(candidates, [candidate(5.0, 0, 0.9)]);

        let mut candidates = vec![candidate(0.0, 0, 0.5), candidate(5.0, 0, 0.9)];
        suppress(&mut candidates, 0.34, 100);
        assert_eq!(candidates, [candidate(5.0, 0, 0.9), candidate(0.0, 0, 0.5)], "an overlap of 1/3 is allowed");
    }

    #[test]
    fn other_classes_do_not_suppress() {
        let mut candidates = vec![candidate(0.0, 0, 0.5), candidate(0.0, 1, 0.9)];
        suppress(&mut candidates, 0.3, 100);
        assert_eq!(candidates.len(), 2);
    }

    #[test]
    fn a_suppressed_box_suppresses_nothing() {
        // A row of boxes, each overlapping its neighbours only: the first and the third stay.
        let mut candidates = vec![candidate(0.0, 0, 0.9), candidate(4.0, 0, 0.8), candidate(8.0, 0, 0.7)];
        suppress(&mut candidates, 0.2, 100);
        assert_eq!(candidates, [candidate(0.0, 0, 0.9), candidate(8.0, 0, 0.7)]);
    }

    #[test]
    fn agrees_with_torchvision() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nms.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
        for (i, case) in cases.as_array().unwrap().iter().enumerate() {
            let boxes = case["boxes_ltrb"].as_array().unwrap();
            let all: Vec<Candidate> = (0..boxes.len())
                .map(|b| Candidate {
                    bbox: BoxLtrb {
                        left: number(&boxes[b][0]),
                        top: number(&boxes[b][1]),
                        right: number(&boxes[b][2]),
                        bottom: number(&boxes[b][3]),
                    },
                    class: case["classes"][b].as_u64().unwrap() as u32,
                    score: number(&case["scores"][b]),
                })
                .collect();
            let expected: Vec<Candidate> =
                case["kept"].as_array().unwrap().iter().map(|b| all[b.as_u64().unwrap() as usize]).collect();
            let mut found = all.clone();
            suppress(&mut found, number(&case["iou_max"]), usize::MAX);
            assert_eq!(found, expected, "case {i}");
        }
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0.0f32..100.0, 0.0f32..100.0, 1.0f32..40.0, 1.0f32..40.0, 0u32..4, 0.0f32..=1.0);
        let one = one.prop_map(|(left, top, w, h, class, score)| Candidate {
            bbox: BoxLtrb { left, top, right: left + w, bottom: top + h },
            class,
            score,
        });
        proptest::collection::vec(one, 0..80)
    }

    proptest! {
        #[test]
        fn no_two_boxes_of_a_class_overlap_too_much(all in candidates(), iou_max in 0.0f32..=1.0, most in 0usize..60) {
            let mut kept = all.clone();
            suppress(&mut kept, iou_max, most);
            prop_assert!(kept.len() <= most);
            prop_assert!(kept.is_sorted_by(|a, b| a.score >= b.score));
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(all.contains(a));
                for b in &kept[..i] {
                    prop_assert!(a.class != b.class || a.bbox.iou(&b.bbox) <= iou_max);
                }
            }
            // A dropped box was covered by a better one that stayed, unless the maximum was reached.
            if kept.len() < most {
                for gone in all.iter().filter(|c| !kept.contains(c)) {
                    let covers =
                        |k: &Candidate| k.class == gone.class && k.score >= gone.score && k.bbox.iou(&gone.bbox) > iou_max;
                    prop_assert!(kept.iter().any(covers));
                }
            }
        }

        #[test]
        fn order_of_candidates_does_not_matter(all in candidates(), seed in any::<u64>()) {
            let mut shuffled = all.clone();
            let count = shuffled.len();
            for i in 0..count {
                shuffled.swap(i, (seed as usize).wrapping_mul(i + 1) % count);
            }
            let (mut a, mut b) = (all, shuffled);
            suppress(&mut a, 0.45, 100);
            suppress(&mut b, 0.45, 100);
            prop_assert_eq!(a, b);
        }
    }
}
