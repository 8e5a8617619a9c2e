//! Converts the network's raw output to candidates: boxes with score and class.

use crate::detection::BoxLtrb;
use crate::error::{Error, Kind, Result};
use crate::layout::{Boxes, Cells, Layout, OutputForm, Parts, Scores};
use crate::nms::Candidate;

/// Which candidates [`Decoder::decode`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    /// Minimum score.
    pub score_min: f32,
    /// One flag per class; `None` keeps all classes.
    pub classes: Option<&'a [bool]>,
    /// Whether a cell gives a candidate for every class that reaches the score, not only for its best one.
    pub multi_label: bool,
}

impl Want<'_> {
    fn class(&self, class: usize) -> bool {
        self.classes.is_none_or(|flags| flags.get(class) == Some(&true))
    }

    /// The score, if it reaches the minimum. A value that is not a probability is noted in `wrong`.
    fn score(&self, score: f32, wrong: &mut Wrong) -> Option<f32> {
        if score.is_nan() || score > 1.0 + ROUNDING {
            *wrong = Wrong::Score(score);
            return None;
        }
        (score >= self.score_min).then(|| score.min(1.0))
    }
}

/// How far a probability may exceed 1 because of rounding: it may have been computed in half precision.
const ROUNDING: f32 = 1e-3;

/// All class scores of `outputs` as probabilities, `[C, N]`; `[N]` for end-to-end outputs.
pub(crate) fn scores(layout: &Layout, outputs: &[&[f32]]) -> Vec<f32> {
    let first = outputs.first().copied().unwrap_or_default();
    // For each cell, the scores of its classes.
    let mut places = Vec::new();
    let mut objects = |row: &[f32], score: &dyn Fn(f32) -> f32| {
        if let [_, _, _, _, object, classes @ ..] = row {
            places.push(classes.iter().map(|&class| score(*object) * score(class)).collect::<Vec<f32>>());
        }
    };
    match (&layout.parts, layout.form) {
        (Some(Parts { boxes: Boxes::Anchors(scales), .. }), _) => {
            for ((scale, anchors), part) in scales.iter().zip(outputs) {
                let numbers = part.len() / scale.centres.len();
                let each = numbers / anchors.len();
                for anchor in 0..anchors.len() {
                    let cells = part.chunks_exact(numbers).map(|cell| &cell[anchor * each..][..each]);
                    cells.for_each(|row| objects(row, &|logit| Scores::Logits.score(logit)));
                }
            }
        }
        (Some(parts), _) => {
            let (boxes, scores) = outputs.split_at(parts.boxes.parts());
            let count = boxes.iter().map(|part| part.len() / parts.boxes.numbers()).sum::<usize>();
            let classes = scores.iter().map(|part| part.len()).sum::<usize>() / count.max(1);
            // A file may have no classes.
            for part in scores.iter().filter(|_| classes > 0) {
                let columns = part.len() / classes;
                for place in 0..columns {
                    let at =
                        |class| if parts.channels_last { place * classes + class } else { class * columns + place };
                    places.push((0..classes).map(|class| parts.scores.score(part[at(class)])).collect());
                }
            }
        }
        (None, OutputForm::ClassRows) => return first[4 * layout.columns..].to_vec(),
        (None, OutputForm::Objectness) => {
            first.chunks_exact(layout.columns).for_each(|row| objects(row, &|score| score));
        }
        (None, OutputForm::EndToEnd) => return first.iter().skip(4).step_by(6).copied().collect(),
    }
    let classes = places.first().map_or(0, Vec::len);
    (0..classes).flat_map(|class| places.iter().map(move |place| place[class])).collect()
}

/// A value that no detector should output.
#[derive(Default)]
enum Wrong {
    #[default]
    Nothing,
    Score(f32),
    Box,
}

impl Wrong {
    #[inline(never)]
    fn check(self) -> Result<()> {
        let message = match self {
            Wrong::Nothing => return Ok(()),
            Wrong::Score(score) => format!(
                "the network gives {score} for a score, which must be from 0 to 1: it may lack its last sigmoid"
            ),
            Wrong::Box => "the network gives NaN for a side of a box".to_owned(),
        };
        Err(Error::new(Kind::Inference, message))
    }
}

/// Decodes outputs to candidates. Its buffer is reused from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// For each cell: the best score so far and its class.
    best: Vec<(f32, u32)>,
}

impl Decoder {
    /// Decodes `outputs` (row-major) and replaces the content of `candidates`.
    ///
    /// A cell gives at most one candidate, its best wanted class, unless `want` is multi-label. A box that is infinite
    /// or has no area is left out.
    ///
    /// # Errors
    ///
    /// `inference-failed` if a wanted class has a score that is NaN or above 1, or if a box with a wanted score is NaN.
    pub fn decode(
        &mut self,
        layout: &Layout,
        outputs: &[&[f32]],
        want: Want<'_>,
        candidates: &mut Vec<Candidate>,
    ) -> Result<()> {
        candidates.clear();
        let mut taken = Taken { candidates, wrong: Wrong::default() };
        match (&layout.parts, outputs) {
            (Some(parts), _) => self.class_rows(parts, outputs, want, &mut taken),
            #[cfg(any(feature = "tract", test))]
            (None, [first, ..]) => self.whole(layout, first, want, &mut taken),
            (None, _) => (),
        }
        taken.wrong.check()
    }

    /// An output in one piece. Only networks that the engine does not run alone have it.
    #[cfg(any(feature = "tract", test))]
    fn whole(&mut self, layout: &Layout, answer: &[f32], want: Want<'_>, taken: &mut Taken<'_>) {
        match layout.form {
            OutputForm::ClassRows => {
                let (boxes, scores) = answer.split_at(4 * layout.columns);
                let whole = Parts { scores: Scores::Probabilities, boxes: Boxes::CentreSize, channels_last: false };
                self.class_rows(&whole, &[boxes, scores], want, taken);
            }
            OutputForm::Objectness => objectness(answer, layout.columns, want, taken),
            OutputForm::EndToEnd => end_to_end(answer, want, taken),
        }
    }

    fn class_rows(&mut self, layout: &Parts, outputs: &[&[f32]], want: Want<'_>, taken: &mut Taken<'_>) {
        if let Boxes::Anchors(scales) = &layout.boxes {
            return anchors(scales, outputs, want, taken);
        }
        let numbers = layout.boxes.numbers();
        let (boxes, parts) = outputs.split_at(layout.boxes.parts());
        let places = boxes.iter().map(|part| part.len() / numbers).sum::<usize>();
        let classes = parts.iter().map(|part| part.len()).sum::<usize>() / places;
        if classes == 0 {
            return; // A file may have no classes.
        }
        let mut take = |place: usize, class: usize, value: f32| {
            if let Some(score) = want.score(layout.scores.score(value), &mut taken.wrong) {
                taken.push(layout.bbox(boxes, place), class as u32, score);
            }
        };
        let least = layout.scores.least(want.score_min);
        // A NaN is not below the threshold either, and must be noticed.
        let may_pass = |value: f32| value >= least || value.is_nan();
        let mut first = 0;
        for part in parts {
            let columns = part.len() / classes;
            self.best.clear();
            self.best.resize(columns, (f32::NEG_INFINITY, 0));
            let best = &mut self.best;
            let mut found = |place: usize, class: usize, value: f32| {
                if !may_pass(value) {
                    return;
                }
                if want.multi_label || value.is_nan() {
                    take(first + place, class, value);
                } else if value > best[place].0 {
                    best[place] = (value, class as u32);
                }
            };
            // Nearly every score is below the threshold, so whole chunks are skipped by comparisons that the compiler
            // vectorises. A maximum would not be vectorised, because of NaN.
            let any = |chunk: &[f32]| chunk.iter().fold(false, |any, &value| any | may_pass(value));
            if layout.channels_last {
                for (place, scores) in part.chunks_exact(classes).enumerate().filter(|(_, scores)| any(scores)) {
                    let wanted = scores.iter().enumerate().filter(|(class, _)| want.class(*class));
                    wanted.for_each(|(class, &value)| found(place, class, value));
                }
            } else {
                const CHUNK: usize = 32;
                let rows = part.chunks_exact(columns).enumerate().filter(|(class, _)| want.class(*class));
                for (class, row) in rows {
                    for (number, chunk) in row.chunks(CHUNK).enumerate().filter(|(_, chunk)| any(chunk)) {
                        let places = number * CHUNK..;
                        places.zip(chunk).for_each(|(place, &value)| found(place, class, value));
                    }
                }
            }
            for (column, &(value, class)) in self.best.iter().enumerate() {
                if value != f32::NEG_INFINITY {
                    take(first + column, class as usize, value);
                }
            }
            first += columns;
        }
    }
}

impl Parts {
    /// The box of the cell with index `place` in the order of all outputs.
    fn bbox(&self, parts: &[&[f32]], place: usize) -> BoxLtrb {
        let (scales, bins) = match &self.boxes {
            Boxes::CentreSize => {
                let row = |i: usize| {
                    parts[0][if self.channels_last { place * 4 + i } else { i * (parts[0].len() / 4) + place }]
                };
                return BoxLtrb::from_cx_cy_w_h(row(0), row(1), row(2), row(3));
            }
            Boxes::Distances(scales) => (scales, 1),
            Boxes::Distributions { bins, scales } => (scales, *bins),
            Boxes::Anchors(_) => return NOWHERE,
        };
        let mut place = place;
        for (scale, part) in scales.iter().zip(parts) {
            let places = scale.centres.len();
            if place < places {
                let row =
                    |i: usize| part[if self.channels_last { place * 4 * bins + i } else { i * places + place }];
                // In the same order of operations as the graph in the file, so that results are equal to the bit.
                let [l, t, r, b] = [0, 1, 2, 3].map(|side| {
                    let distance = match self.boxes {
                        Boxes::Distributions { .. } => expectation(bins, |bin| row(side * bins + bin)),
                        _ => row(side),
                    };
                    distance * scale.stride
                });
                let [x, y] = scale.centres[place];
                return BoxLtrb::from_cx_cy_w_h(x + (r - l) * 0.5, y + (b - t) * 0.5, l + r, t + b);
            }
            place -= places;
        }
        NOWHERE
    }
}

/// Stands for a box that is left out.
const NOWHERE: BoxLtrb = BoxLtrb { left: 0.0, top: 0.0, right: 0.0, bottom: 0.0 };

/// The mean of 0, 1 … `bins - 1`, weighted by the softmax of `logit`.
fn expectation(bins: usize, logit: impl Fn(usize) -> f32) -> f32 {
    let largest = (0..bins).map(&logit).fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighed) = (0.0, 0.0);
    for bin in 0..bins {
        let power = (logit(bin) - largest).exp();
        sum += power;
        weighed += power * bin as f32;
    }
    weighed / sum
}

/// Decodes YOLOv3's maps (Redmon & Farhadi 2018, section 2.1), scale by scale, anchor by anchor, cell by cell.
fn anchors(scales: &[(Cells, Vec<[f32; 2]>)], parts: &[&[f32]], want: Want<'_>, taken: &mut Taken<'_>) {
    let sigmoid = |logit| Scores::Logits.score(logit);
    let least = Scores::Logits.least(want.score_min);
    for ((scale, anchors), part) in scales.iter().zip(parts) {
        let numbers = part.len() / scale.centres.len();
        let each = numbers / anchors.len();
        for (index, &[width, height]) in anchors.iter().enumerate() {
            for (cell, &[x, y]) in part.chunks_exact(numbers).zip(&scale.centres) {
                let [cx, cy, w, h, object, ref classes @ ..] = cell[index * each..][..each] else { return };
                // A score is the product of two probabilities, so both must reach the threshold.
                if object < least {
                    continue;
                }
                let Some(object) = want.score(sigmoid(object), &mut taken.wrong) else { continue };
                let bbox = BoxLtrb::from_cx_cy_w_h(
                    sigmoid(cx) * scale.stride + x,
                    sigmoid(cy) * scale.stride + y,
                    w.exp() * width,
                    h.exp() * height,
                );
                let mut best = (f32::NEG_INFINITY, 0);
                for (class, &logit) in classes.iter().enumerate().filter(|(class, _)| want.class(*class)) {
                    if logit < least {
                        continue;
                    }
                    let Some(score) = want.score(sigmoid(logit) * object, &mut taken.wrong) else { continue };
                    if want.multi_label {
                        taken.push(bbox, class as u32, score);
                    } else if score > best.0 {
                        best = (score, class as u32);
                    }
                }
                if best.0 != f32::NEG_INFINITY {
                    taken.push(bbox, best.1, best.0);
                }
            }
        }
    }
}

#[cfg(any(feature = "tract", test))]
fn objectness(output: &[f32], columns: usize, want: Want<'_>, taken: &mut Taken<'_>) {
    for row in output.chunks_exact(columns) {
        let [cx, cy, w, h, object, ref classes @ ..] = *row else { return };
        // Class probabilities are at most 1, so the product cannot be above the objectness.
        let Some(object) = want.score(object, &mut taken.wrong) else { continue };
        let bbox = BoxLtrb::from_cx_cy_w_h(cx, cy, w, h);
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, &probability) in classes.iter().enumerate().filter(|(class, _)| want.class(*class)) {
            // Both factors are checked separately: their product may be below 1 although one of them is above.
            let Some(probability) = want.score(probability, &mut taken.wrong) else { continue };
            let Some(score) = want.score(object * probability, &mut taken.wrong) else { continue };
            if want.multi_label {
                taken.push(bbox, class as u32, score);
            } else if score > best.0 {
                best = (score, class as u32);
            }
        }
        if best.0 != f32::NEG_INFINITY {
            taken.push(bbox, best.1, best.0);
        }
    }
}

#[cfg(any(feature = "tract", test))]
fn end_to_end(output: &[f32], want: Want<'_>, taken: &mut Taken<'_>) {
    let (rows, _) = output.as_chunks::<6>();
    for &[left, top, right, bottom, score, class] in rows {
        // Unused rows are padded with zeros or with class -1.
        let is_class = class >= 0.0 && class.is_finite() && want.class(class as usize);
        if is_class && let Some(score) = want.score(score, &mut taken.wrong) {
            taken.push(BoxLtrb { left, top, right, bottom }, class as u32, score);
        }
    }
}

/// The candidates found so far, and an invalid value if there was one.
struct Taken<'a> {
    candidates: &'a mut Vec<Candidate>,
    wrong: Wrong,
}

impl Taken<'_> {
    fn push(&mut self, bbox: BoxLtrb, class: u32, score: f32) {
        let BoxLtrb { left, top, right, bottom } = bbox;
        if [left, top, right, bottom].iter().any(|side| side.is_nan()) {
            self.wrong = Wrong::Box;
        } else if bbox.is_finite() && bbox.has_area() {
            self.candidates.push(Candidate { bbox, class, score });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Want<'_> = Want { score_min: 0.25, classes: None, multi_label: false };

    fn decode(form: OutputForm, output: &[f32], columns: usize, want: Want<'_>) -> Vec<Candidate> {
        try_decode(form, output, columns, want).unwrap()
    }

    fn try_decode(form: OutputForm, output: &[f32], columns: usize, want: Want<'_>) -> Result<Vec<Candidate>> {
        let mut candidates =
            vec![Candidate { bbox: BoxLtrb::from_cx_cy_w_h(0.0, 0.0, 1.0, 1.0), class: 9, score: 9.0 }];
        let layout = Layout { form, columns, parts: None };
        Decoder::default().decode(&layout, &[output], want, &mut candidates).map(|()| candidates)
    }

    fn candidate(left: f32, top: f32, right: f32, bottom: f32, class: u32, score: f32) -> Candidate {
        Candidate { bbox: BoxLtrb { left, top, right, bottom }, class, score }
    }

    #[rustfmt::skip]
    const CLASS_ROWS: [f32; 15] = [
        // Three cells, one class: centre x, centre y, width, height, score.
        10.0, 20.0, 30.0,
        40.0, 50.0, 60.0,
         4.0,  6.0,  8.0,
         2.0,  2.0,  2.0,
         0.3,  0.2,  0.9,
    ];

    #[test]
    fn class_rows_by_hand() {
        let found = decode(OutputForm::ClassRows, &CLASS_ROWS, 3, ALL);
        assert_eq!(found, [candidate(8.0, 39.0, 12.0, 41.0, 0, 0.3), candidate(26.0, 59.0, 34.0, 61.0, 0, 0.9)]);
    }

    #[test]
    fn a_place_gives_its_best_wanted_class() {
        let output = [5.0, 5.0, 2.0, 2.0, 0.4, 0.8, 0.6];
        let best = |classes| decode(OutputForm::ClassRows, &output, 1, Want { classes, ..ALL });
        assert_eq!(best(None), [candidate(4.0, 4.0, 6.0, 6.0, 1, 0.8)]);
        assert_eq!(best(Some(&[true, false, true])), [candidate(4.0, 4.0, 6.0, 6.0, 2, 0.6)]);
        assert_eq!(best(Some(&[false, false, false])), []);
    }

    #[test]
    fn a_place_gives_every_class_it_is_asked_for() {
        let want = Want { multi_label: true, classes: Some(&[true, true, false]), ..ALL };
        let both = |scores: [f32; 2]| {
            [(0, scores[0]), (1, scores[1])].map(|(class, score)| candidate(4.0, 4.0, 6.0, 6.0, class, score))
        };
        let rows = [5.0, 5.0, 2.0, 2.0, 0.4, 0.8, 0.6];
        assert_eq!(decode(OutputForm::ClassRows, &rows, 1, want), both([0.4, 0.8]));
        let place = [5.0, 5.0, 2.0, 2.0, 0.5, 0.8, 0.6, 0.9];
        assert_eq!(decode(OutputForm::Objectness, &place, 8, want), both([0.4, 0.3]));
        let strict = Want { score_min: 0.5, ..want };
        assert_eq!(decode(OutputForm::ClassRows, &rows, 1, strict), both([0.4, 0.8])[1..]);
    }

    #[test]
    fn objectness_multiplies() {
        #[rustfmt::skip]
        let output = [
            10.0, 10.0, 4.0, 4.0,  0.5,  0.4, 0.9,
            20.0, 20.0, 4.0, 4.0,  0.5,  0.4, 0.45, // 0.225: too little
            30.0, 30.0, 4.0, 4.0,  0.2,  1.0, 1.0,
        ];
        assert_eq!(decode(OutputForm::Objectness, &output, 7, ALL), [candidate(8.0, 8.0, 12.0, 12.0, 1, 0.45)]);
    }

    #[test]
    fn end_to_end_has_corners_and_padding() {
        #[rustfmt::skip]
        let output = [
            1.0, 2.0, 3.0, 4.0,  0.9,  7.0,
            1.0, 2.0, 3.0, 4.0,  0.9, -1.0,
            0.0, 0.0, 0.0, 0.0,  0.0,  0.0,
        ];
        assert_eq!(decode(OutputForm::EndToEnd, &output, 6, ALL), [candidate(1.0, 2.0, 3.0, 4.0, 7, 0.9)]);
        let want = Want { score_min: 0.0, classes: Some(&[true]), ..ALL };
        assert_eq!(
            decode(OutputForm::EndToEnd, &output, 6, want),
            [],
            "class 7 is not wanted, padding has no area"
        );
    }

    fn parts(boxes: Boxes, outputs: &[&[f32]], want: Want<'_>) -> Vec<Candidate> {
        let parts = Some(Parts { scores: Scores::Logits, boxes, channels_last: true });
        let layout = Layout { form: OutputForm::ClassRows, columns: 0, parts };
        let mut candidates = Vec::new();
        Decoder::default().decode(&layout, outputs, want, &mut candidates).unwrap();
        candidates
    }

    fn logit(probability: f32) -> f32 {
        (probability / (1.0 - probability)).ln()
    }

    #[test]
    fn distributions_by_hand() {
        let scale = |stride: f32, centres: &[[f32; 2]]| Cells { stride, centres: centres.to_vec() };
        let scales = [scale(8.0, &[[4.0, 4.0], [12.0, 4.0]]), scale(16.0, &[[8.0, 8.0]])];
        let boxes = Boxes::Distributions { bins: 3, scales: scales.to_vec().into() };
        // Left is all in bin 1, top half in 0 and half in 2, right in quarters and a half, bottom uniform.
        #[rustfmt::skip]
        let sure = [
            0.0, 90.0, 0.0,
            50.0, -50.0, 50.0,
            0.25f32.ln(), 0.25f32.ln(), 0.5f32.ln(),
            7.0, 7.0, 7.0,
        ];
        // A cell below the threshold may have any box.
        let fine: Vec<f32> = [[f32::NAN; 12], sure].concat();
        let large = [1000.0, 0.0, -1000.0].repeat(4);
        let (fine_scores, coarse_scores) =
            ([logit(0.1), logit(0.2), logit(0.6), logit(0.7)], [logit(0.9), logit(0.3)]);
        let found = parts(boxes, &[&fine, &large, &fine_scores, &coarse_scores], ALL);
        // The coarse cell is certain of bin 0 for every side: a box without area.
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!((one.score - 0.7).abs() < 1e-6 && one.class == 1, "{one:?}");
        let BoxLtrb { left, top, right, bottom } = one.bbox;
        let expected = [12.0 - 8.0, 4.0 - 8.0, 12.0 + 1.25 * 8.0, 4.0 + 8.0];
        for (found, expected) in [left, top, right, bottom].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{one:?}, not {expected:?}");
        }
    }

    #[test]
    fn anchors_by_hand() {
        let scale = Cells { stride: 16.0, centres: vec![[0.0, 0.0], [16.0, 0.0]] };
        let boxes = Boxes::Anchors(vec![(scale, vec![[10.0, 20.0], [40.0, 30.0]])].into());
        let none = [0.0, 0.0, 0.0, 0.0, logit(0.1), 90.0, 90.0];
        // In the second cell, with the second anchor: in the middle of the cell, twice as wide as the anchor.
        let one = [0.0, 0.0, 2f32.ln(), 0.0, logit(0.8), logit(0.5), logit(0.9)];
        // In the first cell: a score of 0.24 from two probabilities that are each above the threshold.
        let weak = [0.0, 0.0, 0.0, 0.0, logit(0.6), logit(0.4), logit(0.1)];
        let cells = [none, weak, none, one].concat();
        let found = parts(boxes.clone(), &[&cells], ALL);
        let [best] = &found[..] else { panic!("{found:?}") };
        assert!((best.score - 0.72).abs() < 1e-5 && best.class == 1, "{best:?}");
        let expected = BoxLtrb::from_cx_cy_w_h(24.0, 8.0, 80.0, 30.0);
        assert!((best.bbox.left - expected.left).abs() < 1e-3 && (best.bbox.bottom - expected.bottom).abs() < 1e-3);
        let all = Want { multi_label: true, score_min: 0.2, ..ALL };
        let classes = parts(boxes, &[&cells], all).iter().map(|one| one.class).collect::<Vec<_>>();
        assert_eq!(classes, [0, 0, 1]);
    }

    #[test]
    fn all_scores_come_without_a_threshold_in_every_form() {
        let whole = |form, columns, output: &[f32]| scores(&Layout { form, columns, parts: None }, &[output]);
        assert_eq!(whole(OutputForm::ClassRows, 3, &CLASS_ROWS), CLASS_ROWS[12..]);
        let place = [5.0, 5.0, 2.0, 2.0, 0.5, 0.8, 0.6];
        assert_eq!(whole(OutputForm::Objectness, 7, &[place, place].concat()), [0.4, 0.4, 0.3, 0.3]);
        let found = [1.0, 2.0, 3.0, 4.0, 0.9, 7.0];
        assert_eq!(whole(OutputForm::EndToEnd, 6, &[found, [0.0; 6]].concat()), [0.9, 0.0]);
        let in_parts = |boxes, outputs: &[&[f32]], expected: &[f32]| {
            let parts = Some(Parts { scores: Scores::Logits, boxes, channels_last: true });
            let found = scores(&Layout { form: OutputForm::ClassRows, columns: 0, parts }, outputs);
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{found:?}"));
        };
        let scale = Cells { stride: 16.0, centres: vec![[0.0, 0.0], [16.0, 0.0]] };
        let logits = [0.1, 0.7, 0.6, 0.2].map(logit);
        let distances = Boxes::Distances(vec![scale.clone()].into());
        in_parts(distances.clone(), &[&[1.0; 8], &logits], &[0.1, 0.6, 0.7, 0.2]);
        in_parts(distances, &[&[1.0; 8], &[]], &[]);
        let row = |object, class| [0.0, 0.0, 0.0, 0.0, logit(object), logit(class)];
        let cells = [row(0.5, 0.8), row(0.1, 0.5), row(0.9, 0.9), row(0.2, 0.4)].concat();
        let anchors = Boxes::Anchors(vec![(scale, vec![[10.0, 20.0], [40.0, 30.0]])].into());
        in_parts(anchors, &[&cells], &[0.4, 0.81, 0.05, 0.08]);
    }

    #[test]
    fn scores_that_are_none_are_errors_in_every_form() {
        let wrong = [f32::NAN, f32::INFINITY, 2.63, 1.01];
        let fine = [(f32::NEG_INFINITY, None), (-1.0, None), (0.1, None), (1.0, Some(1.0)), (1.0005, Some(1.0))];
        // One class, several classes, objectness with classes, and an output after NMS.
        type Answer = fn(f32) -> Vec<f32>;
        let forms: [(OutputForm, usize, Answer); 5] = [
            (OutputForm::ClassRows, 1, |score| vec![5.0, 5.0, 2.0, 2.0, score]),
            (OutputForm::ClassRows, 1, |score| vec![5.0, 5.0, 2.0, 2.0, 0.0, score, 0.0]),
            (OutputForm::Objectness, 6, |score| vec![5.0, 5.0, 2.0, 2.0, score, 1.0]),
            (OutputForm::Objectness, 7, |score| vec![5.0, 5.0, 2.0, 2.0, 1.0, 0.0, score]),
            (OutputForm::EndToEnd, 6, |score| vec![4.0, 4.0, 6.0, 6.0, score, 0.0]),
        ];
        for (form, columns, answer) in forms {
            for multi_label in [false, true] {
                let want = Want { multi_label, ..ALL };
                for score in wrong {
                    let error = try_decode(form, &answer(score), columns, want).unwrap_err();
                    assert_eq!(error.code(), "inference-failed", "{form:?}: {score}");
                    assert!(error.to_string().contains(&format!("gives {score} for a score")), "{error}");
                }
                for (score, expected) in fine {
                    let found = decode(form, &answer(score), columns, want);
                    assert_eq!(found.first().map(|one| one.score), expected, "{form:?}: {score}");
                }
            }
        }
        // A valid value hides an invalid one in the product.
        for pair in [[2.63, 0.3], [0.3, 2.63], [f32::NAN, 0.9], [0.9, f32::NAN]] {
            let answer = [5.0, 5.0, 2.0, 2.0, pair[0], pair[1]];
            assert!(try_decode(OutputForm::Objectness, &answer, 6, ALL).is_err(), "{pair:?}");
        }
        // The score of an unwanted class is not checked.
        let want = Want { classes: Some(&[false, true]), ..ALL };
        let found = decode(OutputForm::ClassRows, &[5.0, 5.0, 2.0, 2.0, 7.0, 0.8], 1, want);
        assert_eq!(found, [candidate(4.0, 4.0, 6.0, 6.0, 1, 0.8)]);
    }

    #[test]
    fn logits_are_probabilities_unless_they_are_nan() {
        let boxes = || Boxes::Distances([Cells { stride: 8.0, centres: vec![[4.0, 4.0]] }].into());
        let decode = |boxes, outputs: &[&[f32]]| {
            let parts = Some(Parts { scores: Scores::Logits, boxes, channels_last: true });
            let mut candidates = Vec::new();
            let layout = Layout { form: OutputForm::ClassRows, columns: 0, parts };
            Decoder::default().decode(&layout, outputs, ALL, &mut candidates).map(|()| candidates)
        };
        let sides = [1.0; 4];
        assert_eq!(decode(boxes(), &[&sides, &[f32::INFINITY]]).unwrap()[0].score, 1.0);
        assert_eq!(decode(boxes(), &[&sides, &[f32::NEG_INFINITY]]).unwrap(), []);
        assert_eq!(decode(boxes(), &[&sides, &[f32::NAN]]).unwrap_err().code(), "inference-failed");
        let scale = Cells { stride: 8.0, centres: vec![[0.0, 0.0]] };
        let anchors = Boxes::Anchors(vec![(scale, vec![[10.0, 20.0]])].into());
        for (object, class) in [(f32::NAN, 3.0), (3.0, f32::NAN)] {
            let cell = [0.0, 0.0, 0.0, 0.0, object, class];
            assert_eq!(decode(anchors.clone(), &[&cell]).unwrap_err().code(), "inference-failed");
        }
        let sure = [0.0, 0.0, 0.0, 0.0, f32::INFINITY, 40.0];
        assert_eq!(decode(anchors, &[&sure]).unwrap()[0].score, 1.0);
    }

    #[test]
    fn boxes_that_are_nan_are_errors_and_infinite_ones_are_left_out() {
        for at in 0..4 {
            let forms = [
                (OutputForm::ClassRows, 1, vec![5.0, 5.0, 2.0, 2.0, 0.8]),
                (OutputForm::Objectness, 6, vec![5.0, 5.0, 2.0, 2.0, 0.8, 0.9]),
                (OutputForm::EndToEnd, 6, vec![5.0, 5.0, 7.0, 7.0, 0.8, 1.0]),
            ];
            for (form, columns, mut output) in forms {
                for infinite in [f32::INFINITY, f32::NEG_INFINITY] {
                    output[at] = infinite;
                    assert_eq!(decode(form, &output, columns, ALL), [], "{form:?}: {infinite} at {at}");
                }
                output[at] = f32::NAN;
                let error = try_decode(form, &output, columns, ALL).unwrap_err();
                assert_eq!(error.code(), "inference-failed", "{form:?} at {at}");
                assert!(error.to_string().contains("NaN for a side of a box"), "{error}");
                // The box of an unwanted class is not checked.
                output[4] = 0.1;
                assert_eq!(decode(form, &output, columns, ALL), [], "{form:?} at {at}");
            }
        }
    }

    #[test]
    fn a_threshold_of_zero_takes_every_place_with_area() {
        let mut output = CLASS_ROWS;
        output[12..].fill(0.0);
        let found = decode(OutputForm::ClassRows, &output, 3, Want { score_min: 0.0, ..ALL });
        assert_eq!(found.len(), 3);
    }

    /// `[rows, columns]` to `[columns, rows]`.
    fn turned(values: &[f32], columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|column| values.chunks(columns).map(move |row| row[column])).collect()
    }

    #[test]
    fn parts_and_logits_and_distances_give_what_the_whole_gives() {
        // Seven cells with three classes; the second part has two of the cells.
        let scales = [(8.0, 0..5), (16.0, 5..7)];
        let logits =
            [-40.0, -1.098_612_3, -1.0, 0.0, 2.0, 16.7, 40.0, -9.0, 0.3, 7.0].map(|x: f32| [x, x - 1.0, -x]);
        let logits: Vec<f32> = logits.as_flattened()[..21].to_vec();
        let sigmoid = |x: &f32| 1.0 / (1.0 + (-x).exp());
        let distances: Vec<f32> = (0..28).map(|i| 0.3 + i as f32 * 0.17).collect();
        let centre = |place: usize| [place as f32 * 8.0 + 4.0, 28.0];
        let columns = |rows: &[f32], range: &std::ops::Range<usize>| -> Vec<f32> {
            rows.chunks(7).flat_map(|row| row[range.clone()].to_vec()).collect()
        };
        // As the exporter computes it.
        let mut boxes = vec![0.0; 28];
        for (stride, places) in scales.clone() {
            for place in places {
                let [l, t, r, b] = [0, 1, 2, 3].map(|row| distances[row * 7 + place] * stride);
                let [x, y] = centre(place);
                let rows = [x + (r - l) * 0.5, y + (b - t) * 0.5, l + r, t + b];
                rows.into_iter().enumerate().for_each(|(row, value)| boxes[row * 7 + place] = value);
            }
        }
        let whole = [boxes.clone(), logits.iter().map(sigmoid).collect()].concat();
        let of_scale =
            scales.clone().map(|(stride, places)| Cells { stride, centres: places.map(centre).collect() });
        for (score_min, multi_label) in [(0.0, true), (0.25, false), (0.5, true), (0.9999, false), (1.0, true)] {
            let want = Want { score_min, multi_label, ..ALL };
            let found = |parts, outputs: &[&[f32]]| {
                let mut candidates = Vec::new();
                let layout = Layout { form: OutputForm::ClassRows, columns: 7, parts };
                Decoder::default().decode(&layout, outputs, want, &mut candidates).unwrap();
                candidates.sort_by_key(|c| (c.bbox.left as i32, c.class));
                candidates
            };
            let expected = found(None, &[&whole]);
            assert!(!expected.is_empty());
            for channels_last in [false, true] {
                let laid = |part: Vec<f32>, columns| if channels_last { turned(&part, columns) } else { part };
                let parts = |rows: &[f32]| scales.clone().map(|(_, at)| laid(columns(rows, &at), at.len()));
                let ([left, right], [near, far]) = (parts(&logits), parts(&distances));
                let boxes = laid(boxes.clone(), 7);
                let of = |boxes| Some(Parts { scores: Scores::Logits, boxes, channels_last });
                assert_eq!(found(of(Boxes::CentreSize), &[&boxes, &left, &right]), expected, "from {score_min}");
                let by_distance = of(Boxes::Distances(of_scale.to_vec().into()));
                assert_eq!(found(by_distance, &[&near, &far, &left, &right]), expected, "from {score_min}");
            }
        }
    }

    #[test]
    fn boxes_without_classes_are_no_candidates() {
        assert_eq!(decode(OutputForm::ClassRows, &[5.0, 5.0, 2.0, 2.0], 1, Want { score_min: 0.0, ..ALL }), []);
    }

    #[test]
    fn chunks_do_not_lose_places() {
        for places in [1, 31, 32, 33, 100] {
            for hit in 0..places {
                let mut output = vec![1.0; 4 * places];
                output.resize(6 * places, 0.1);
                output[5 * places + hit] = 0.6;
                let found = decode(OutputForm::ClassRows, &output, places, ALL);
                assert_eq!(found, [candidate(0.5, 0.5, 1.5, 1.5, 1, 0.6)], "{hit} of {places}");
            }
        }
    }

    /// Printed, not asserted: `cargo test --release --lib -- --ignored --nocapture takes`.
    #[test]
    #[ignore = "a measurement"]
    fn how_long_decoding_and_suppression_takes() {
        const PLACES: usize = 3549;
        // About thirty objects of different classes, each in a dozen cells; noise below the threshold elsewhere.
        let mut output = vec![0.0; 84 * PLACES];
        for place in 0..PLACES {
            let object = place / 120;
            output[place] = 10.0 + 13.0 * object as f32 + (place % 7) as f32;
            output[PLACES + place] = 200.0 + (place % 5) as f32;
            output[2 * PLACES + place] = 40.0;
            output[3 * PLACES + place] = 30.0;
            for class in 0..80 {
                output[(4 + class) * PLACES + place] = (place * (class + 3) % 97) as f32 / 97.0 * 0.2;
            }
            if place % 120 < 12 {
                output[(4 + object % 80) * PLACES + place] = 0.3 + (place % 12) as f32 / 20.0;
            }
        }
        let layout = Layout { form: OutputForm::ClassRows, columns: PLACES, parts: None };
        let (mut decoder, mut candidates) = (Decoder::default(), Vec::new());
        let mut times = Vec::new();
        for _ in 0..200 {
            let start = std::time::Instant::now();
            decoder.decode(&layout, &[&output], ALL, &mut candidates).unwrap();
            let found = candidates.len();
            crate::nms::suppress(&mut candidates, 0.45, 100);
            times.push(start.elapsed());
            assert!(found > 300 && candidates.len() >= 30);
        }
        times.sort();
        println!("decode and suppress, 80 classes x {PLACES} places: {:?}", times[times.len() / 2]);
    }
}
