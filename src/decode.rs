//! The network's raw output → candidates.

use crate::detection::BoxLtrb;
use crate::nms::Candidate;

/// How a network lays its answer out. `C` is the number of classes, `N` of places looked at (anchors),
/// `M` of boxes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputForm {
    /// `[1, 4 + C, N]`: rows centre x, centre y, width, height in input pixels, then a probability for each
    /// class. What this project exports; Ultralytics v8 and later.
    ClassRows,
    /// `[1, N, 5 + C]`: centre x, centre y, width, height in input pixels, objectness, then class
    /// probabilities, to be multiplied. YOLOv5, YOLOX.
    Objectness,
    /// `[1, M, 6]`: left, top, right, bottom in input pixels, score, class; already suppressed. YOLOv10 and
    /// other end-to-end detectors.
    EndToEnd,
}

/// Which candidates are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    /// Scores must be at least this.
    pub score_min: f32,
    /// One flag a class; `None` wants all of them.
    pub classes: Option<&'a [bool]>,
}

impl Want<'_> {
    fn class(&self, class: usize) -> bool {
        self.classes.is_none_or(|flags| flags.get(class) == Some(&true))
    }

    fn score(&self, score: f32) -> bool {
        score >= self.score_min && score.is_finite()
    }
}

/// Output → candidates; keeps its buffer from one frame to the next.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// For each place: the best score so far and its class.
    best: Vec<(f32, u32)>,
}

impl Decoder {
    /// Reads `output`, row-major values of the shape that `form` says with `columns` as its last dimension,
    /// and puts what is wanted into `candidates`, whose old content goes.
    ///
    /// A place gives at most one candidate: its best wanted class. Whatever is not finite or has no area is
    /// left out.
    pub fn decode(
        &mut self,
        form: OutputForm,
        output: &[f32],
        columns: usize,
        want: Want<'_>,
        candidates: &mut Vec<Candidate>,
    ) {
        candidates.clear();
        match form {
            OutputForm::ClassRows => self.class_rows(output, columns, want, candidates),
            OutputForm::Objectness => objectness(output, columns, want, candidates),
            OutputForm::EndToEnd => end_to_end(output, want, candidates),
        }
    }

    fn class_rows(&mut self, output: &[f32], places: usize, want: Want<'_>, candidates: &mut Vec<Candidate>) {
        let (boxes, scores) = output.split_at(4 * places);
        self.best.clear();
        self.best.resize(places, (f32::NEG_INFINITY, 0));
        for (class, row) in scores.chunks_exact(places).enumerate().filter(|(class, _)| want.class(*class)) {
            // Nearly every score is below the threshold, so whole chunks are passed over by comparisons that
            // the compiler turns into vector instructions; a maximum would not be, because of NaN.
            const CHUNK: usize = 32;
            for (chunk, best) in row.chunks(CHUNK).zip(self.best.chunks_mut(CHUNK)) {
                if !chunk.iter().fold(false, |any, &score| any | (score >= want.score_min)) {
                    continue;
                }
                for (&score, best) in chunk.iter().zip(best) {
                    if want.score(score) && score > best.0 {
                        *best = (score, class as u32);
                    }
                }
            }
        }
        for (place, &(score, class)) in self.best.iter().enumerate() {
            if score != f32::NEG_INFINITY {
                let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| boxes[row * places + place]);
                push(candidates, BoxLtrb::from_cx_cy_w_h(cx, cy, w, h), class, score);
            }
        }
    }
}

fn objectness(output: &[f32], columns: usize, want: Want<'_>, candidates: &mut Vec<Candidate>) {
    for row in output.chunks_exact(columns) {
        let [cx, cy, w, h, object, ref classes @ ..] = *row else { return };
        // Class probabilities are at most 1, so the product cannot be above the objectness.
        if !want.score(object) {
            continue;
        }
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, &probability) in classes.iter().enumerate() {
            let score = object * probability;
            if score > best.0 && want.score(score) && want.class(class) {
                best = (score, class as u32);
            }
        }
        if best.0 != f32::NEG_INFINITY {
            push(candidates, BoxLtrb::from_cx_cy_w_h(cx, cy, w, h), best.1, best.0);
        }
    }
}

fn end_to_end(output: &[f32], want: Want<'_>, candidates: &mut Vec<Candidate>) {
    let (rows, _) = output.as_chunks::<6>();
    for &[left, top, right, bottom, score, class] in rows {
        // Unused rows are padded with zeros or with class -1.
        if want.score(score) && class >= 0.0 && class.is_finite() && want.class(class as usize) {
            push(candidates, BoxLtrb { left, top, right, bottom }, class as u32, score);
        }
    }
}

fn push(candidates: &mut Vec<Candidate>, bbox: BoxLtrb, class: u32, score: f32) {
    if bbox.is_finite() && bbox.has_area() {
        candidates.push(Candidate { bbox, class, score });
    }
}
