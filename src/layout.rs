//! How a network's answer is laid out.

use std::sync::Arc;

/// The form of a network's output. `C` is the number of classes, `N` the number of cells (anchors), `M` the number of
/// boxes after NMS, which must be the same for each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputForm {
    /// `[1, 4 + C, N]`: rows centre x, centre y, width, height in input pixels, then one probability per class.
    /// Exported by this project and by Ultralytics v8 and later.
    ClassRows,
    /// `[1, N, 5 + C]`: centre x, centre y, width, height in input pixels, objectness, then class probabilities. The
    /// score is objectness times class probability. YOLOv5, YOLOX.
    Objectness,
    /// `[1, M, 6]`: left, top, right, bottom in input pixels, score, class, after NMS. YOLOv10 and other end-to-end
    /// detectors.
    EndToEnd,
}

/// What scores are given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scores {
    /// Probabilities, as files have them.
    #[cfg_attr(not(any(feature = "tract", test)), expect(dead_code))]
    Probabilities,
    /// Logits, with the sigmoid left to the decoder.
    Logits,
}

impl Scores {
    /// A value that none is below whose score is `score`; a little lower than need be, against rounding.
    pub fn least(self, score: f32) -> f32 {
        match self {
            Scores::Probabilities => score,
            // In 32-bit floats the sigmoid of 17 is 1.
            Scores::Logits => (score / (1.0 - score)).ln().min(16.0) - 1e-3,
        }
    }

    /// The score that `value` says.
    pub fn score(self, value: f32) -> f32 {
        match self {
            Scores::Probabilities => value,
            Scores::Logits => 1.0 / (1.0 + (-value).exp()),
        }
    }
}

/// How a network's outputs are to be read.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// That of the answer as the file has it.
    pub form: OutputForm,
    /// The answer's last dimension.
    pub columns: usize,
    /// Where class rows come in parts. Else the first output is the answer.
    pub parts: Option<Parts>,
}

/// Class rows in parts: boxes in one or more, `[4, n]` or as [`Boxes`] says, then the scores of some of the places after
/// the other, `[C, n]` each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parts {
    pub scores: Scores,
    pub boxes: Boxes,
    /// Whether parts are cell by cell instead, `[n, 4]` and `[n, C]`. Always with [`Boxes::Anchors`].
    pub channels_last: bool,
}

/// How boxes are given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Boxes {
    /// Centre x, centre y, width, height in pixels of the input, in one part.
    #[cfg_attr(not(any(feature = "tract", test)), expect(dead_code))]
    CentreSize,
    /// Distances of the left, top, right and bottom side from the centre of a cell; a part for each scale.
    Distances(Arc<[Cells]>),
    /// The same distances as logits of `bins` values each, 0 to `bins - 1`, of which a distance is the expectation:
    /// `[4 * bins, n]`, a part for each scale.
    Distributions { bins: usize, scales: Arc<[Cells]> },
    /// YOLOv3's: a part for each scale and no others, `[n, A, 5 + C]`: x and y from the cells' `centres` on in units of
    /// their `stride`, logarithms of width and height in units of the anchor, objectness, classes, all but the
    /// logarithms as logits.
    Anchors(Arc<[(Cells, Vec<[f32; 2]>)]>),
}

impl Boxes {
    /// The number of outputs that boxes come in, the first ones.
    pub fn parts(&self) -> usize {
        match self {
            Boxes::CentreSize => 1,
            Boxes::Distances(scales) | Boxes::Distributions { scales, .. } => scales.len(),
            Boxes::Anchors(scales) => scales.len(),
        }
    }

    /// How many numbers a box is; for anchors, those of them that are no scores.
    pub fn numbers(&self) -> usize {
        match self {
            Boxes::CentreSize | Boxes::Distances(_) | Boxes::Anchors(_) => 4,
            Boxes::Distributions { bins, .. } => 4 * bins,
        }
    }
}

/// The cells of one of a head's levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cells {
    /// What distances are measured in, in pixels of the input.
    pub stride: f32,
    /// x and y of the place in each cell that boxes are told from, in pixels of the input.
    pub centres: Vec<[f32; 2]>,
}
