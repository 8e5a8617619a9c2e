//! How the outputs of a network are laid out.

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

/// How scores are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scores {
    /// Probabilities, as in the output of the file.
    #[cfg_attr(not(any(feature = "tract", test)), expect(dead_code))]
    Probabilities,
    /// Logits; the decoder computes the sigmoid.
    Logits,
}

impl Scores {
    /// A lower bound of the values whose score reaches `score`. It is slightly too low, to allow for rounding.
    pub fn least(self, score: f32) -> f32 {
        match self {
            Scores::Probabilities => score,
            // In 32-bit floats the sigmoid of 17 is 1.
            Scores::Logits => (score / (1.0 - score)).ln().min(16.0) - 1e-3,
        }
    }

    /// The score that corresponds to `value`.
    pub fn score(self, value: f32) -> f32 {
        match self {
            Scores::Probabilities => value,
            Scores::Logits => 1.0 / (1.0 + (-value).exp()),
        }
    }
}

/// How to read the outputs of a network.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The form of the output in the file.
    pub form: OutputForm,
    /// The last dimension of that output.
    pub columns: usize,
    /// Set if class rows come in parts. Otherwise the first output is the whole output.
    pub parts: Option<Parts>,
}

/// Class rows in parts: first boxes in one or more parts, `[4, n]` or as [`Boxes`] says, then scores, `[C, n]` each.
/// Each part has some of the cells, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parts {
    pub scores: Scores,
    pub boxes: Boxes,
    /// Whether parts are stored cell by cell instead, `[n, 4]` and `[n, C]`. Always so with [`Boxes::Anchors`].
    pub channels_last: bool,
}

/// How boxes are represented.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Boxes {
    /// Centre x, centre y, width, height in pixels of the input, in one part.
    #[cfg_attr(not(any(feature = "tract", test)), expect(dead_code))]
    CentreSize,
    /// Distances of the left, top, right and bottom side from the centre of a cell; one part per scale.
    Distances(Arc<[Cells]>),
    /// The same distances as distributions: `bins` logits for each side, one part `[4 * bins, n]` per scale. The
    /// distance is the expectation over 0 to `bins - 1`.
    Distributions { bins: usize, scales: Arc<[Cells]> },
    /// YOLOv3's: one part per scale and no others, `[n, A, 5 + C]`. x and y are offsets from the cells' `centres` in
    /// units of `stride`. Width and height are logarithms in units of the anchor. Then come objectness and classes. All
    /// but the logarithms are logits.
    Anchors(Arc<[(Cells, Vec<[f32; 2]>)]>),
}

impl Boxes {
    /// The number of outputs with boxes. They come before those with scores.
    pub fn parts(&self) -> usize {
        match self {
            Boxes::CentreSize => 1,
            Boxes::Distances(scales) | Boxes::Distributions { scales, .. } => scales.len(),
            Boxes::Anchors(scales) => scales.len(),
        }
    }

    /// How many values a box has; with anchors, how many of its values are not scores.
    pub fn numbers(&self) -> usize {
        match self {
            Boxes::CentreSize | Boxes::Distances(_) | Boxes::Anchors(_) => 4,
            Boxes::Distributions { bins, .. } => 4 * bins,
        }
    }
}

/// The cells of one level of the head.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cells {
    /// The unit of distances, in pixels of the input.
    pub stride: f32,
    /// For each cell, the point from which its box is measured: x and y in pixels of the input.
    pub centres: Vec<[f32; 2]>,
}
