//! One case of the fuzzer: what is made of a seed, and what must hold for it.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use micro_yolo::{Detection, Detector, Error, ImageView, Limits};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use prost::Message;
use tract_onnx::pb;

use crate::change::{Change, apply, change};
use crate::common;
use crate::small;

/// Networks of a dozen nodes, in which a change is seldom far from what matters, and which take a tenth of the time.
static SMALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(small::models);

/// Whole networks of every form of output, read with tract, and two that the engine reads by itself.
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let forms = ["class-rows", "objectness", "objectness-one-class", "anchors", "end-to-end"].map(common::form);
    let own = ["every-form-int8", "distribution-int8"];
    forms.into_iter().chain(own.map(|name| common::read(&format!("tests/fixtures/{name}.onnx")))).collect()
});

/// Of so many cases one changes a whole network.
const WHOLE_EACH: usize = 16;

/// What a model or a frame looks like. Numbers are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
pub enum Case {
    /// A model with other bytes at some places.
    Bytes { model: usize, changes: Vec<(usize, u8)> },
    /// A model that ends early, or lacks a part in the middle.
    Cut { model: usize, from: usize, to: usize, keep: bool },
    /// A model whose graph or properties say something else.
    Graph { model: usize, changes: Vec<Change> },
    /// A model as it is, and a frame and options of any kind.
    Frame { model: usize, frame: Frame, options: Options },
}

#[derive(Debug, Clone)]
pub struct Frame {
    width: u32,
    height: u32,
    is_rgba: bool,
    /// How many bytes are missing, or too many.
    excess: i32,
    /// The bytes are a run of these, again and again.
    pattern: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Options {
    score: f32,
    iou: f32,
    max_detections: usize,
    classes: Option<Vec<usize>>,
    input_size: Option<(u32, u32)>,
    multi_label: bool,
    threads: usize,
}

fn frame() -> impl Strategy<Value = Frame> {
    let side = || {
        prop_oneof![
            6 => 1u32..200,
            1 => prop::sample::select(vec![0, 1, 2, 3, 31, 32, 33, 1023, 4096, 16_383, 16_384, 16_385, u32::MAX]),
        ]
    };
    let excess = prop_oneof![8 => Just(0), 1 => -9i32..9];
    let pattern = prop::collection::vec(any::<u8>(), 1..64);
    (side(), side(), any::<bool>(), excess, pattern).prop_map(|(width, height, is_rgba, excess, pattern)| Frame {
        width,
        height,
        is_rgba,
        excess,
        pattern,
    })
}

fn options() -> impl Strategy<Value = Options> {
    let fraction = || {
        prop_oneof![
            6 => 0f32..=1.0,
            1 => prop::sample::select(vec![0.0, 1.0, -0.0, f32::MIN_POSITIVE, -1.0, 1.1, f32::NAN, f32::INFINITY]),
        ]
    };
    let max = prop_oneof![4 => 0usize..300, 1 => Just(usize::MAX)];
    let classes = prop::option::weighted(0.2, prop::collection::vec(0usize..100, 0..4));
    let size = || prop_oneof![4 => (1u32..8).prop_map(|blocks| 32 * blocks), 1 => any::<u32>(), 1 => 0u32..70];
    let input_size = prop::option::weighted(0.3, (size(), size()));
    (fraction(), fraction(), max, classes, input_size, any::<bool>(), 0usize..4).prop_map(
        |(score, iou, max_detections, classes, input_size, multi_label, threads)| Options {
            score,
            iou,
            max_detections,
            classes,
            input_size,
            multi_label,
            threads,
        },
    )
}

/// Far below what a process may have: the estimate need not be exact, but of the right size.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.memory_bytes = 128 << 20;
    limits.macs = 5_000_000_000;
    limits
}

impl Case {
    /// The case of a seed: always the same one.
    pub fn new(seed: u64) -> Case {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
        let at = any::<usize>;
        let strategy = prop_oneof![
            2 => (at(), prop::collection::vec((at(), any::<u8>()), 1..6))
                .prop_map(|(model, changes)| Case::Bytes { model, changes }),
            1 => (at(), at(), at(), any::<bool>())
                .prop_map(|(model, from, to, keep)| Case::Cut { model, from, to, keep }),
            5 => (at(), prop::collection::vec(change(), 1..4))
                .prop_map(|(model, changes)| Case::Graph { model, changes }),
            2 => (at(), frame(), options()).prop_map(|(model, frame, options)| Case::Frame { model, frame, options }),
        ];
        strategy.new_tree(&mut runner).expect("no strategy here rejects a value").current()
    }

    /// The model of this case.
    pub fn onnx(&self) -> Vec<u8> {
        let (Case::Bytes { model, .. }
        | Case::Cut { model, .. }
        | Case::Graph { model, .. }
        | Case::Frame { model, .. }) = self;
        let (kind, number) = (model % WHOLE_EACH, model / WHOLE_EACH);
        let originals = if kind == 0 { &WHOLE } else { &SMALL };
        let original = &originals[number % originals.len()];
        match self {
            Case::Bytes { changes, .. } => {
                let mut onnx = original.clone();
                for (at, byte) in changes {
                    let at = at % onnx.len();
                    onnx[at] = *byte;
                }
                onnx
            }
            Case::Cut { from, to, keep, .. } => {
                let (from, to) = (from % original.len(), to % original.len());
                let rest = if *keep { &original[to..] } else { &[] };
                [&original[..from], rest].concat()
            }
            Case::Graph { changes, .. } => {
                let mut proto = pb::ModelProto::decode(&original[..]).expect("fixtures are ONNX");
                for change in changes {
                    apply(&mut proto, change);
                }
                proto.encode_to_vec()
            }
            Case::Frame { .. } => original.clone(),
        }
    }

    /// Loads the model and looks at a frame.
    ///
    /// # Errors
    ///
    /// What should not have happened. A panic, too much memory and too much time are for the caller to notice.
    pub fn check(&self) -> Result<(), String> {
        let onnx = self.onnx();
        if let Case::Frame { frame, options, .. } = self {
            return frame.check(options, &onnx);
        }
        let outcome =
            Detector::builder().score_threshold(0.0).limits(limits()).build(&onnx).and_then(|mut detector| {
                let pixels = [90u8; 3 * 20 * 10];
                detector.detect(ImageView::rgb(&pixels, 20, 10)?)
            });
        match outcome {
            Ok(found) => check_detections(&found, 0.0..=1.0, 20, 10),
            Err(error) => check_error(
                &error,
                &[
                    "invalid-model",
                    "unsupported-model",
                    "unsupported-operator",
                    "model-too-large",
                    "needs-tract",
                    "inference-failed",
                ],
            ),
        }
    }
}

impl Frame {
    fn check(&self, options: &Options, onnx: &[u8]) -> Result<(), String> {
        let channels = if self.is_rgba { 4 } else { 3 };
        let exact = (u64::from(self.width) * u64::from(self.height)).saturating_mul(channels);
        // A buffer of its full length only where that is a few MB.
        let length =
            usize::try_from(exact).unwrap_or(usize::MAX).min(1 << 22).saturating_add_signed(self.excess as isize);
        let pixels: Vec<u8> = self.pattern.iter().copied().cycle().take(length).collect();
        let new = if self.is_rgba { ImageView::rgba } else { ImageView::rgb };
        let image = match new(&pixels, self.width, self.height) {
            Ok(image) if length as u64 == exact => image,
            Ok(_) => return Err(format!("{length} bytes pass for {} x {} px", self.width, self.height)),
            Err(error) => return check_error(&error, &["invalid-image", "image-too-large"]),
        };
        let mut builder = Detector::builder()
            .score_threshold(options.score)
            .iou_threshold(options.iou)
            .max_detections(options.max_detections)
            .multi_label(options.multi_label)
            .threads(options.threads)
            .limits(limits());
        if let Some(classes) = &options.classes {
            builder = builder.classes(classes.iter().copied());
        }
        if let Some((width_px, height_px)) = options.input_size {
            builder = builder.input_size(width_px, height_px);
        }
        let mut detector = match builder.build(onnx) {
            Ok(detector) => detector,
            // A size that the network does not take is found where its shapes are worked out.
            Err(error) => {
                return check_error(
                    &error,
                    &[
                        "invalid-option",
                        "invalid-model",
                        "unsupported-model",
                        "model-too-large",
                        "inference-failed",
                    ],
                );
            }
        };
        // Twice: the buffers are used again.
        let first = detector.detect(image).map_err(|error| format!("{error:?}"))?;
        let second = detector.detect(image).map_err(|error| format!("{error:?}"))?;
        if format!("{first:?}") != format!("{second:?}") {
            return Err(format!("the same frame gives {first:?}, then {second:?}"));
        }
        if first.len() > options.max_detections {
            return Err(format!("{} detections, at most {} were wanted", first.len(), options.max_detections));
        }
        check_detections(&first, options.score..=1.0, self.width, self.height)
    }
}

fn check_error(error: &Error, codes: &[&str]) -> Result<(), String> {
    // Natively a panic inside the runtime is caught; on wasm it would not be.
    if error.to_string().contains("gave up") {
        return Err(format!("a panic was caught: {error:?}"));
    }
    if !codes.contains(&error.code()) {
        return Err(format!("an error of the wrong kind ({}): {error:?}", error.code()));
    }
    Ok(())
}

fn check_detections(
    found: &[Detection],
    scores: RangeInclusive<f32>,
    width: u32,
    height: u32,
) -> Result<(), String> {
    // Corners are rounded once or twice in single precision.
    let slack = 1e-3 * width.max(height) as f32;
    for one in found {
        let bbox = one.bbox;
        let is_inside = bbox.x >= -slack
            && bbox.y >= -slack
            && bbox.width >= 0.0
            && bbox.height >= 0.0
            && bbox.x + bbox.width <= width as f32 + slack
            && bbox.y + bbox.height <= height as f32 + slack;
        if !(is_inside && scores.contains(&one.score)) {
            return Err(format!("{one:?} in a picture of {width} x {height} px, with scores of {scores:?}"));
        }
    }
    Ok(())
}
