//! Two teachers: the detections of the second correct the outputs of the first, whose head has anchors.
//!
//! A student with YOLOv3's head can so learn from a more accurate teacher without anchors. A place is an anchor of a
//! cell. In each image:
//!
//! 1. Each place in which the first teacher sees an object gets a score per class from the second: the largest score of
//!    its detections, times a factor from 0 to 1 for the IoU of the boxes.
//! 2. The logits of objectness and of the classes are mixed with the logits of these scores, and the box is mixed with
//!    that of the best detection. An object that only the first teacher sees gets a lower objectness.
//! 3. A detection that matches no place is written to the place in the cell of its centre whose anchor fits best.

use tch::Tensor;

use super::anchors::{self, Place, iou};
use super::teacher::{Places, TeacherOutput};
use super::tensor::to_vec;
use crate::error::{Error, Result};

/// Share of the second teacher in mixed logits and boxes.
const SHARE: f32 = 0.8;

/// A place with a lower objectness is not changed.
const OBJECT_MIN: f32 = 0.005;

/// Detections with a lower score are ignored.
const SCORE_MIN: f32 = 0.05;

/// Maximum number of detections per image, by descending score.
const DETECTIONS_MAX: usize = 300;

/// The factor for a detection's score rises from 0 at the first IoU to 1 at the second.
const OVERLAP: [f32; 2] = [0.4, 0.7];

/// Minimum IoU of a detection and a place that are the same object.
const SAME_BOX_IOU: f32 = 0.5;

/// From this score on, the share in class logits is [`SHARE`]; below, it falls in proportion to the score.
const CERTAIN: f32 = 0.3;

/// Minimum score of a detection that is written to a place if it matches none.
const NEW_SCORE_MIN: f32 = 0.3;

/// Minimum objectness of a place that a detection can match.
const MATCH_OBJECT_MIN: f32 = 0.1;

/// Minimum IoU of the shapes of a detection and an anchor.
const SHAPE_IOU_MIN: f32 = 0.25;

// Probabilities are clamped to this distance from 0 and from 1 before they become logits.
const OBJECT_MARGIN: f32 = 0.01;
const CLASS_MARGINS: [f32; 2] = [0.002, 0.02];
const CENTRE_MARGIN: f32 = 0.02;

/// Corrects the first teacher's `output` by the second's; `places` are those of the student's head.
///
/// # Errors
///
/// [`Error::Training`] if the first teacher has no anchors or the second has some; errors of libtorch.
pub fn correct(output: &mut TeacherOutput, second: &TeacherOutput, places: &[Place]) -> Result<()> {
    let (Places::Anchors(values), Places::Boxes { logits, ltrb }) = (&output.places, &second.places) else {
        return Err(Error::Training("only a teacher with anchors is corrected, by one without".into()));
    };
    output.places = Places::Anchors(corrected(values, places, logits, ltrb)?);
    Ok(())
}

/// Box and scores of one cell of the second teacher.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Detection<'a> {
    /// Left, top, right, bottom in pixels.
    ltrb: [f32; 4],
    /// One per class, 0–1.
    scores: &'a [f32],
    /// The largest of them.
    score: f32,
}

impl Detection<'_> {
    fn new(ltrb: [f32; 4], scores: &[f32]) -> Detection<'_> {
        Detection { ltrb, scores, score: scores.iter().copied().fold(0.0, f32::max) }
    }
}

/// Returns the corrected `values` of the first teacher, `[batch, places, 5 + C]` (see [`super::Predictions::Anchors`]).
/// The outputs of the second are class `logits`, `[batch, C, N]`, and boxes `ltrb` (left, top, right, bottom in pixels),
/// `[batch, N, 4]`.
///
/// # Errors
///
/// Errors of libtorch.
fn corrected(values: &Tensor, places: &[Place], logits: &Tensor, ltrb: &Tensor) -> Result<Tensor> {
    let boxes = to_vec(&anchors::boxes(values, places)?)?;
    let mut numbers = to_vec(values)?;
    let [batch, count, width] = [0, 1, 2].map(|axis| values.size()[axis] as usize);
    let (scores, theirs) = (to_vec(&logits.sigmoid().transpose(1, 2))?, to_vec(ltrb)?);
    let (each, classes) = (logits.size()[2] as usize, width - 5);
    for image in 0..batch {
        let scores = scores[image * each * classes..][..each * classes].chunks(classes);
        let theirs = theirs[image * each * 4..][..each * 4].as_chunks().0;
        let detections = scores.zip(theirs).map(|(scores, &ltrb)| Detection::new(ltrb, scores));
        let of_image = image * count..(image + 1) * count;
        let boxes = &boxes.as_chunks().0[of_image.clone()];
        correct_image(
            &mut numbers[of_image.start * width..of_image.end * width],
            places,
            boxes,
            detections.collect(),
        );
    }
    Ok(Tensor::f_from_slice(&numbers)?.view(&*values.size()).to_device(values.device()))
}

/// Corrects the `values` of one image, `places × (5 + C)`, which decode to `boxes`.
fn correct_image(values: &mut [f32], places: &[Place], boxes: &[[f32; 4]], mut detections: Vec<Detection<'_>>) {
    let width = values.len() / places.len();
    detections.retain(|detection| detection.score > SCORE_MIN);
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    detections.truncate(DETECTIONS_MAX);
    let mut standing = Vec::new();
    for ((values, place), &bbox) in values.chunks_mut(width).zip(places).zip(boxes) {
        if sigmoid(values[4]) < OBJECT_MIN {
            continue;
        }
        let bbox = correct_place(values, place, bbox, &detections);
        if sigmoid(values[4]) > MATCH_OBJECT_MIN {
            standing.push(bbox);
        }
    }
    let mut found: Vec<&Detection<'_>> = Vec::new();
    for detection in detections.iter().take_while(|detection| detection.score > NEW_SCORE_MIN) {
        let overlaps = |other: &[f32; 4]| iou(*other, detection.ltrb) >= SAME_BOX_IOU;
        if found.iter().any(|other| overlaps(&other.ltrb)) {
            continue;
        }
        found.push(detection);
        if !standing.iter().any(overlaps)
            && let Some((index, fit)) = anchors::best_place(places, detection.ltrb)
            && fit >= SHAPE_IOU_MIN
        {
            let values = &mut values[index * width..(index + 1) * width];
            values[..4].copy_from_slice(&encoded(&places[index], detection.ltrb));
            values[4] = logit(detection.score, [OBJECT_MARGIN; 2]);
            for (value, score) in values[5..].iter_mut().zip(detection.scores) {
                *value = logit(score / detection.score, CLASS_MARGINS);
            }
        }
    }
}

/// Corrects the values of one place, which decode to `bbox`. Returns the box of the object that it then stands for.
fn correct_place(values: &mut [f32], place: &Place, bbox: [f32; 4], detections: &[Detection<'_>]) -> [f32; 4] {
    let mut scores = vec![0.0_f32; values.len() - 5];
    let mut best: Option<(f32, [f32; 4])> = None;
    for detection in detections {
        let overlap = iou(bbox, detection.ltrb);
        let counts = ((overlap - OVERLAP[0]) / (OVERLAP[1] - OVERLAP[0])).clamp(0.0, 1.0);
        if counts > 0.0 {
            scores.iter_mut().zip(detection.scores).for_each(|(score, other)| *score = score.max(counts * other));
        }
        let rank = (overlap - SAME_BOX_IOU) * detection.score;
        if rank > 0.0 && best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, detection.ltrb));
        }
    }
    let score = scores.iter().copied().fold(0.0, f32::max);
    let mix = |value: &mut f32, other: f32, share: f32| *value += share * (other - *value);
    mix(&mut values[4], logit(score, [OBJECT_MARGIN; 2]), SHARE);
    let certain = SHARE * (score / CERTAIN).min(1.0);
    if certain > 0.0 {
        for (value, other) in values[5..].iter_mut().zip(&scores) {
            mix(value, logit(other / score, CLASS_MARGINS), certain);
        }
    }
    let Some((_, ltrb)) = best else { return bbox };
    let other = encoded(place, ltrb);
    values[..4].iter_mut().zip(other).for_each(|(value, other)| mix(value, other, SHARE));
    ltrb
}

/// Encodes a box for a place: x and y before the sigmoid, the logarithms of width and height in units of the anchor.
/// A centre outside the place's range is moved into it.
fn encoded(place: &Place, [l, t, r, b]: [f32; 4]) -> [f32; 4] {
    let centre = |at: f32, corner: f32| {
        let in_range = ((at - corner) / place.stride + (place.xy_scale - 1.0) / 2.0) / place.xy_scale;
        logit(in_range, [CENTRE_MARGIN; 2])
    };
    let size = |side: f32, anchor: f32| (side.max(1.0) / anchor).ln();
    [
        centre((l + r) / 2.0, place.corner[0]),
        centre((t + b) / 2.0, place.corner[1]),
        size(r - l, place.anchor[0]),
        size(b - t, place.anchor[1]),
    ]
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Returns the logit of a probability, after clamping it to distance `low` from 0 and `high` from 1.
fn logit(probability: f32, [low, high]: [f32; 2]) -> f32 {
    let probability = probability.clamp(low, 1.0 - high);
    (probability / (1.0 - probability)).ln()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::network::Head;

    const CLASSES: usize = 3;
    const WIDTH: usize = 5 + CLASSES;

    /// 64 px at strides 16 and 32, two anchors each: 2·16 + 2·4 places.
    fn head() -> Head {
        let anchors = vec![vec![[8.0, 8.0], [16.0, 8.0]], vec![[32.0, 32.0], [24.0, 60.0]]];
        Head::Anchors { anchors, xy_scales: vec![] }
    }

    /// Values with objects only in the places `seen`, given with objectness and class logits. Boxes are the anchors in the
    /// middle of the cell.
    fn head_outputs(seen: &[(usize, f32, [f32; CLASSES])]) -> Vec<f32> {
        let mut values = [0.0, 0.0, 0.0, 0.0, -8.0, 0.0, 0.0, 0.0].repeat(40);
        for (place, object, classes) in seen {
            values[place * WIDTH + 4] = *object;
            values[place * WIDTH + 5..(place + 1) * WIDTH].copy_from_slice(classes);
        }
        values
    }

    fn boxes(values: &[f32], places: &[Place]) -> Vec<[f32; 4]> {
        let values = Tensor::from_slice(values).view([1, places.len() as i64, WIDTH as i64]);
        to_vec(&anchors::boxes(&values, places).unwrap()).unwrap().as_chunks().0.to_vec()
    }

    fn corrected_by(values: &[f32], detections: &[Detection<'_>]) -> Vec<f32> {
        let places = anchors::places(64, &[16, 32], &head());
        let mut corrected = values.to_vec();
        correct_image(&mut corrected, &places, &boxes(values, &places), detections.to_vec());
        corrected
    }

    fn detection(ltrb: [f32; 4], scores: &[f32; CLASSES]) -> Detection<'_> {
        Detection::new(ltrb, scores)
    }

    fn close(ours: &[f32], right: &[f32]) -> bool {
        ours.len() == right.len() && ours.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-4)
    }

    #[test]
    fn what_the_second_does_not_see_loses_objectness_alone() {
        let values = head_outputs(&[(34, 2.0, [1.0, -1.0, 0.0])]);
        let corrected = corrected_by(&values, &[]);
        let mut right = values;
        // 0.2 · 2 + 0.8 · ln(0.01 / 0.99).
        right[34 * WIDTH + 4] = 0.4 + 0.8 * -4.595_12;
        assert!(close(&corrected, &right), "{:?}", &corrected[34 * WIDTH..35 * WIDTH]);
    }

    #[test]
    fn scores_and_box_are_mixed_with_those_of_the_detection() {
        // The box of place 34 is 32×32 around (16, 48). That of the detection is 40×32 around (18, 48): IoU
        // 32·32 / (40·32) = 0.8, so all of its score counts.
        let values = head_outputs(&[(34, 2.0, [1.0, -1.0, 0.0])]);
        let corrected = corrected_by(&values, &[detection([-2.0, 32.0, 38.0, 64.0], &[0.1, 0.6, 0.0])]);
        let mix = |first: f32, second: f32| 0.2 * first + 0.8 * second;
        let right = [
            mix(0.0, (18.0_f32 / 14.0).ln()), // 18 of 32.
            0.0,
            mix(0.0, 1.25_f32.ln()),
            0.0,
            mix(2.0, 1.5_f32.ln()),             // 0.6 of 1.
            mix(1.0, 0.2_f32.ln()),             // A sixth of 1.
            mix(-1.0, 49.0_f32.ln()),           // 0.98, the most.
            mix(0.0, (0.002_f32 / 0.998).ln()), // The least.
        ];
        assert!(close(&corrected[34 * WIDTH..35 * WIDTH], &right), "{:?}", &corrected[34 * WIDTH..35 * WIDTH]);
        assert!(close(&corrected[..34 * WIDTH], &values[..34 * WIDTH]));
        // A score of 0.15 mixes classes by half of the share, and with an IoU of 0.55 only half of the score counts:
        // 32×32 and 58.18×32, the smaller inside.
        let corrected = corrected_by(&values, &[detection([0.0, 32.0, 58.181_82, 64.0], &[0.3, 0.0, 0.0])]);
        let class = 1.0 + 0.4 * (49.0_f32.ln() - 1.0);
        assert!(close(&corrected[34 * WIDTH + 4..][..2], &[mix(2.0, (0.15_f32 / 0.85).ln()), class]), "{class}");
    }

    #[test]
    fn an_object_that_the_first_does_not_see_gets_a_place() {
        // 14×8 around (40, 21): cell (2, 1) of the fine map, second anchor, 16 + 1·4 + 2.
        let new = detection([33.0, 17.0, 47.0, 25.0], &[0.0, 0.0, 0.8]);
        let weaker = detection([34.0, 17.0, 48.0, 25.0], &[0.0, 0.7, 0.0]); // Overlaps it by 0.87.
        let faint = detection([0.0, 0.0, 30.0, 30.0], &[0.25, 0.0, 0.0]);
        let long = detection([0.0, 60.0, 64.0, 62.0], &[0.0, 0.9, 0.0]); // Fits no anchor.
        let places = anchors::places(64, &[16, 32], &head());
        let values = head_outputs(&[]);
        let corrected = corrected_by(&values, &[weaker, faint, new, long]);
        let place = &corrected[22 * WIDTH..23 * WIDTH];
        assert!(close(&place[4..], &[4.0_f32.ln(), -6.212_606, -6.212_606, 49.0_f32.ln()]), "{place:?}");
        assert!(close(&boxes(&corrected, &places)[22], &new.ltrb));
        let changed = values.chunks(WIDTH).zip(corrected.chunks(WIDTH)).filter(|(before, after)| before != after);
        assert_eq!(changed.count(), 1);
        // One that a place stands for gets no other.
        let values = head_outputs(&[(34, 2.0, [1.0, -1.0, 0.0])]);
        let corrected = corrected_by(&values, &[detection([0.0, 32.0, 32.0, 64.0], &[0.9, 0.0, 0.0])]);
        let changed = values.chunks(WIDTH).zip(corrected.chunks(WIDTH)).filter(|(before, after)| before != after);
        assert_eq!(changed.count(), 1);
    }

    #[test]
    fn every_image_of_a_batch_is_corrected_by_its_own_detections() {
        let places = anchors::places(64, &[16, 32], &head());
        let values = Tensor::from_slice(&head_outputs(&[]).repeat(2)).view([2, 40, WIDTH as i64]);
        // Two places an image, [batch, C, 2]: in the first image both see nothing, in the second the latter does.
        let logits = Tensor::full([2, CLASSES as i64, 2], -9.0, (Kind::Float, Device::Cpu));
        let _ = logits.get(1).get(2).get(1).fill_(1.386_294); // 0.8
        let ltrb = Tensor::from_slice(&[33.0_f32, 17.0, 47.0, 25.0]).view([1, 1, 4]).repeat([2, 2, 1]);
        let corrected = corrected(&values, &places, &logits, &ltrb).unwrap();
        assert_eq!(corrected.size(), values.size());
        assert_eq!(corrected.get(0), values.get(0));
        assert!(close(&[corrected.double_value(&[1, 22, 4]) as f32], &[4.0_f32.ln()]));
    }
}
