//! Photographs with boxes: reading, caching, augmentation and batches.

pub mod augment;
mod coco;
mod convert;
mod from_voc;
mod from_yolo;
// Of the command `micro-yolo`, which warns where training refuses.
#[path = "../../../cli/src/jpeg.rs"]
mod jpeg;
mod loader;
mod names;
mod photos;
mod tiny;

pub use coco::{Annotated, BadData, Dataset, Labelled, Object};
pub use convert::{Converted, ConvertedBox, ConvertedImage};
pub use from_voc::from_voc;
pub use from_yolo::from_yolo;
pub use loader::{Batch, Loader, LoaderConfig};
pub use names::class_names;
pub use photos::{Photo, Photos};
pub use tiny::tiny;
