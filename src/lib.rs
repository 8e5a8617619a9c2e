//! Object detection with small YOLO networks, natively and in the browser: pixels in, labelled boxes out.
//!
//! # Example: find what is in a photograph
//!
//! ```ignore-wasm32
//! # // The published crate has no models.
//! # if std::path::Path::new(".cargo_vcs_info.json").exists() { return Ok(()); }
//! use micro_yolo::{Detector, ImageView};
//!
//! let onnx = std::fs::read("models/micro-yolo.onnx")?;
//! let mut detector = Detector::builder().score_threshold(0.3).build(&onnx)?;
//!
//! let photo = image::open("data/samples/cat.jpg")?.to_rgb8();
//! let found = detector.detect(ImageView::rgb(&photo, photo.width(), photo.height())?)?;
//! for object in &found {
//!     println!("{} {:.2} at {:?}", object.label, object.score, object.bbox);
//! }
//! assert_eq!(&*found[0].label, "cat");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Detector`] holds a [`Model`], its options and the buffers it works in. It takes an [`ImageView`] and
//! answers with [`Detection`]s in pixels of that image; a [`Tracker`] follows them through a video. Everything that
//! can go wrong is an [`Error`].
//!
//! # Which models run?
//!
//! Those of this project, and detectors of the YOLO family as PyTorch exports them to ONNX: see [`Model`] for what the
//! file must have, and [`OutputForm`] for what may come out. A file is checked before it runs: whatever its bytes, the
//! answer is a detector that works or an error.
//!
//! # Features
//!
//! `cli` (on by default, without effect on wasm) builds the command `micro-yolo`. `tract` (on by default) runs any detector:
//! what the engine does not know, tract runs ([`Model::foreign_nodes`]). Without it only those load that this project's
//! exporter writes. A program that only wants the library says
//! `default-features = false, features = ["tract"]`.

mod decode;
mod detection;
mod detector;
mod engine;
mod error;
mod image;
mod layout;
mod letterbox;
mod lower;
mod model;
mod nms;
mod onnx;
mod size;
mod track;
#[cfg(feature = "tract")]
mod tract;
#[cfg(target_family = "wasm")]
mod wasm;

pub use crate::detection::{BoxXywh, Detection};
pub use crate::detector::{
    Class, DEFAULT_IOU_THRESHOLD, DEFAULT_MAX_DETECTIONS, DEFAULT_SCORE_THRESHOLD, Detector, DetectorBuilder,
};
pub use crate::error::{Error, Result};
pub use crate::image::{ImageView, MAX_SIDE_PX, PixelFormat};
pub use crate::layout::OutputForm;
pub use crate::lower::ForeignNode;
pub use crate::model::Model;
pub use crate::onnx::Metadata;
pub use crate::size::InputSize;
pub use crate::track::{Tracker, TrackerOptions};

/// Whether this is the crate as cargo packs it, which has no released models.
#[cfg(test)]
fn is_packaged() -> bool {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo_vcs_info.json")).exists()
}

/// The Rust code of README.md, compiled with the documentation's own examples; it reads files, which a browser has not.
#[cfg(all(doctest, not(target_family = "wasm")))]
#[doc = include_str!("../README.md")]
pub struct ReadmeExamples;
