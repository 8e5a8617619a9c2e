//! Photographs with boxes: read, kept in memory, varied and put into batches.

pub mod augment;
mod coco;
mod loader;
mod photos;

pub use coco::{Annotated, BadData, Dataset, Labelled, Object};
pub use loader::{Batch, Loader, LoaderConfig};
pub use photos::{Photo, Photos};
