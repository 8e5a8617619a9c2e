//! Decoded photographs, kept in memory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use image::{ImageDecoder, ImageReader};

use super::coco::Annotated;
use crate::error::{Error, Result, undecodable};

/// A decoded photograph: 8-bit RGB, row-major, `[height, width, 3]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Photo {
    /// Decodes a JPEG, PNG or WebP file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is damaged or of another kind.
    pub fn read(path: &Path) -> Result<Photo> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let image = image::load_from_memory(&bytes)
            .map_err(|error| Error::Data { path: path.to_owned(), problem: undecodable(&error) })?
            .into_rgb8();
        Ok(Photo { width: image.width(), height: image.height(), rgb: image.into_raw() })
    }

    /// Opens a photograph for decoding, by its content and independent of its extension. Its size and EXIF data are
    /// available without decoding the pixels.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a file that cannot be opened, [`Error::Data`] for one that is damaged or of another kind.
    pub(super) fn decoder(path: &Path) -> Result<impl ImageDecoder> {
        let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io(path))?;
        reader.into_decoder().map_err(|error| Error::Data { path: path.to_owned(), problem: undecodable(&error) })
    }

    /// Decodes an annotated photograph.
    ///
    /// # Errors
    ///
    /// See [`Photo::read`]; also a photograph whose size differs from the annotation, because its boxes would be wrong.
    pub fn of(image: &Annotated) -> Result<Photo> {
        let photo = Photo::read(&image.path)?;
        if (photo.width, photo.height) == (image.width, image.height) {
            return Ok(photo);
        }
        let problem = format!(
            "image {} is {}x{} px, not {}x{} as annotated: is it turned by its EXIF data?",
            image.id, photo.width, photo.height, image.width, image.height
        );
        Err(Error::Data { path: image.path.clone(), problem })
    }
}

/// Photographs by index, decoded at first use and kept as long as they fit into memory. A set that fits is decoded once
/// per run.
pub struct Photos {
    kept: Vec<OnceLock<Arc<Photo>>>,
    room: AtomicUsize,
}

impl Photos {
    /// For `count` photographs, keeping at most `bytes` of them.
    pub fn new(count: usize, bytes: usize) -> Photos {
        Photos { kept: (0..count).map(|_| OnceLock::new()).collect(), room: AtomicUsize::new(bytes) }
    }

    /// The photograph `index`, whose annotation is `image`.
    ///
    /// # Errors
    ///
    /// See [`Photo::of`].
    pub fn get(&self, index: usize, image: &Annotated) -> Result<Arc<Photo>> {
        if let Some(photo) = self.kept[index].get() {
            return Ok(photo.clone());
        }
        let photo = Arc::new(Photo::of(image)?);
        let size = photo.rgb.len();
        let take = |room: usize| room.checked_sub(size);
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            // Two threads may decode the same photograph; the second copy is dropped.
            let _ = self.kept[index].set(photo.clone());
        }
        Ok(photo)
    }
}
