//! Decoded photographs, kept in memory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::augment::GREY;
use super::coco::Annotated;
use crate::error::{Error, Result, undecodable};

/// The problem of a photograph whose boxes may belong to the stored picture or to the upright one.
pub(super) const IS_TURNED: &str =
    "is stored turned (EXIF orientation): save it upright, so that boxes and pixels agree";

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
    /// Decodes a JPEG, PNG or WebP file. As in the detector, its EXIF orientation is applied and transparent pixels are
    /// blended with grey.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is damaged or of another kind.
    pub fn read(path: &Path) -> Result<Photo> {
        let (mut image, orientation) = decode(path)?;
        image.apply_orientation(orientation);
        Ok(Photo::new(image))
    }

    fn new(image: DynamicImage) -> Photo {
        let (width, height) = (image.width(), image.height());
        let rgb = if image.color().has_alpha() {
            image.into_rgba8().pixels().flat_map(|pixel| blended(pixel.0)).collect()
        } else {
            image.into_rgb8().into_raw()
        };
        Photo { width, height, rgb }
    }

    /// The size of a photograph as [`Photo::read`] returns it, without decoding its pixels.
    ///
    /// # Errors
    ///
    /// As [`Photo::read`].
    pub(super) fn size(path: &Path) -> Result<(u32, u32)> {
        let mut decoder = Photo::decoder(path)?;
        Ok(upright(decoder.dimensions(), orientation(&mut decoder)))
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
    /// If it has an EXIF orientation, the annotated size says whether the boxes belong to the upright picture or to the
    /// stored one.
    ///
    /// # Errors
    ///
    /// See [`Photo::read`]; also a photograph whose size differs from the annotation, or is the same upright and as
    /// stored, because its boxes could be wrong.
    pub fn of(image: &Annotated) -> Result<Photo> {
        let wrong = |problem: String| Err(Error::Data { path: image.path.clone(), problem });
        let (mut picture, orientation) = decode(&image.path)?;
        let (annotated, stored) = ((image.width, image.height), (picture.width(), picture.height()));
        let upright = upright(stored, orientation);
        let is_turned = orientation != Orientation::NoTransforms;
        if is_turned && upright == stored && !image.objects.is_empty() {
            return wrong(IS_TURNED.into());
        }
        if annotated == upright {
            picture.apply_orientation(orientation);
        } else if annotated != stored {
            let (id, (width, height)) = (image.id, upright);
            return wrong(format!(
                "image {id} is {width}x{height} px, not {}x{} as annotated",
                image.width, image.height
            ));
        }
        Ok(Photo::new(picture))
    }
}

/// A decoded file as it is stored, and its EXIF orientation.
fn decode(path: &Path) -> Result<(DynamicImage, Orientation)> {
    let wrong = |error: ImageError| Error::Data { path: path.to_owned(), problem: undecodable(&error) };
    let mut decoder = Photo::decoder(path)?;
    let orientation = orientation(&mut decoder);
    // Before memory is allocated for a size that a damaged file declares.
    Limits::default().reserve(decoder.total_bytes()).map_err(wrong)?;
    Ok((DynamicImage::from_decoder(decoder).map_err(wrong)?, orientation))
}

/// The EXIF orientation of a file; none if it is damaged.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// The size that a picture stored with this orientation has upright.
fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    match orientation {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// A pixel over the grey that the detector puts behind transparent ones.
fn blended([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|value| ((u32::from(value) * alpha + u32::from(GREY) * (255 - alpha) + 127) / 255) as u8)
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
