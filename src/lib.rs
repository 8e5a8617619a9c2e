//! Object detection with small YOLO networks, natively and in the browser: pixels in, labelled boxes out.
//!
//! # Example: find what is in a photograph
//!
//! ```no_run
//! use micro_yolo::{Detector, ImageView};
//!
//! let onnx = std::fs::read("models/micro-yolo.onnx")?;
//! let mut detector = Detector::builder().score_threshold(0.4).build(&onnx)?;
//!
//! let photo = image::open("cat.jpg")?.to_rgb8();
//! for found in detector.detect(ImageView::rgb(&photo, photo.width(), photo.height())?)? {
//!     println!("{} {:.2} at {:?}", found.label, found.score, found.bbox);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Detector`] holds a [`Model`], its options and the buffers it works in. It takes an [`ImageView`] and
//! answers with [`Detection`]s in pixels of that image; everything that can go wrong is an [`Error`].

mod decode;
mod detection;
mod detector;
mod error;
mod image;
mod letterbox;
mod model;
mod nms;
mod track;
#[cfg(target_family = "wasm")]
mod wasm;

pub use crate::decode::OutputForm;
pub use crate::detection::{BoxXywh, Detection};
pub use crate::detector::{
    Class, DEFAULT_IOU_THRESHOLD, DEFAULT_MAX_DETECTIONS, DEFAULT_SCORE_THRESHOLD, Detector, DetectorBuilder,
};
pub use crate::error::{Error, Result};
pub use crate::image::{ImageView, MAX_SIDE_PX, PixelFormat};
pub use crate::model::{InputSize, Metadata, Model};
pub use crate::track::{Tracker, TrackerOptions};
