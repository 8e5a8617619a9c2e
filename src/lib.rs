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
//! A [`Detector`] holds a [`Model`], its options and its buffers. It takes an [`ImageView`] and returns [`Detection`]s
//! in pixels of that image. A [`Tracker`] follows them through a video. Everything that can fail returns an [`Error`].
//!
//! # Which models run?
//!
//! Those of this project, and detectors of the YOLO family as PyTorch exports them to ONNX. [`Model`] says what the
//! file must contain, and [`OutputForm`] which outputs are understood. Every file is checked before it runs: whatever
//! its bytes, the result is a working detector or an error. [`Limits`] bounds its memory and its work.
//!
//! # Features
//!
//! - `tract` (on by default): tract runs the operators that the engine lacks ([`Model::foreign_nodes`]). Without this
//!   feature only models written by this project's exporter load, and a WebAssembly module is a twelfth of the size
//!   (a ninth after gzip).
//! - `web` (wasm only) is for front ends in Rust: `Detector::detect_from` takes images, videos and canvases of the page
//!   as [`web-sys`](https://docs.rs/web-sys) types, through the type `WebSource`. The module then lacks the classes for
//!   the npm package.
//! - `relaxed-simd` and `threads` (wasm only) make modules for newer browsers.

// In WebAssembly wasm-bindgen's macros write some.
#![cfg_attr(not(target_family = "wasm"), deny(unsafe_code))]

#[cfg(target_family = "wasm")]
mod bytes;
mod decode;
mod detection;
mod detector;
mod engine;
mod error;
mod image;
mod layout;
mod letterbox;
mod limits;
mod lower;
mod model;
mod nms;
mod onnx;
mod size;
mod track;
#[cfg(feature = "tract")]
mod tract;
#[cfg(all(target_family = "wasm", not(feature = "web")))]
mod wasm;
#[cfg(all(target_family = "wasm", feature = "web"))]
mod web;

pub use crate::detection::{BoxXywh, Detection};
pub use crate::detector::{
    Class, DEFAULT_IOU_THRESHOLD, DEFAULT_MAX_DETECTIONS, DEFAULT_SCORE_THRESHOLD, Detector, DetectorBuilder,
};
pub use crate::error::{Error, Result};
pub use crate::image::{ImageView, MAX_SIDE_PX, PixelFormat};
pub use crate::layout::OutputForm;
pub use crate::limits::Limits;
pub use crate::lower::ForeignNode;
pub use crate::model::Model;
pub use crate::onnx::Metadata;
pub use crate::size::InputSize;
pub use crate::track::{Tracker, TrackerOptions};
#[cfg(all(target_family = "wasm", feature = "web"))]
pub use crate::web::WebSource;

/// Whether this is the crate as cargo packs it, which has no released models.
#[cfg(test)]
fn is_packaged() -> bool {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo_vcs_info.json")).exists()
}

/// The Rust code of README.md, compiled as a documentation test. It reads files, which is impossible in a browser.
#[cfg(all(doctest, not(target_family = "wasm")))]
#[doc = include_str!("../README.md")]
pub struct ReadmeExamples;
