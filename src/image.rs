//! Borrowed pixels, checked once when the view is created.

use crate::error::{Error, Kind, Result};

/// The longest side an image may have, in pixels: 16,384. So the number of its bytes fits into 32 bits, the `usize` of
/// WebAssembly.
pub const MAX_SIDE_PX: u32 = 16_384;

/// The order of the bytes of an [`ImageView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Red, green, blue: 3 bytes per pixel.
    Rgb,
    /// Red, green, blue, alpha (not premultiplied): 4 bytes per pixel, as a canvas gives them.
    Rgba,
}

impl PixelFormat {
    /// Bytes per pixel: 3 or 4.
    pub fn channels(self) -> usize {
        match self {
            PixelFormat::Rgb => 3,
            PixelFormat::Rgba => 4,
        }
    }
}

/// A borrowed image: 8-bit sRGB, rows from top to bottom without padding.
///
/// The sizes are checked when the view is created, so later accesses stay in bounds.
///
/// ```
/// use micro_yolo::ImageView;
///
/// let pixels = [255, 0, 0, 255, 0, 255, 0, 255]; // a red and a green pixel
/// let image = ImageView::rgba(&pixels, 2, 1)?;
/// assert_eq!((image.width(), image.height()), (2, 1));
///
/// assert_eq!(ImageView::rgba(&pixels, 3, 1).unwrap_err().code(), "invalid-image");
/// # Ok::<(), micro_yolo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ImageView<'a> {
    pixels: &'a [u8],
    width: u32,
    height: u32,
    format: PixelFormat,
}

impl<'a> ImageView<'a> {
    /// Pixels of 4 bytes: red, green, blue, alpha (straight, not premultiplied).
    ///
    /// The detector blends transparent pixels with the grey (114, 114, 114) of the letterbox border, so that
    /// transparent parts show nothing to detect.
    ///
    /// # Errors
    ///
    /// `invalid-image` if a side is 0 or `pixels` is not `width * height * 4` bytes long;
    /// `image-too-large` if a side is above [`MAX_SIDE_PX`].
    pub fn rgba(pixels: &'a [u8], width: u32, height: u32) -> Result<Self> {
        ImageView::new(pixels, width, height, PixelFormat::Rgba)
    }

    /// Pixels of 3 bytes: red, green, blue.
    ///
    /// # Errors
    ///
    /// `invalid-image` if a side is 0 or `pixels` is not `width * height * 3` bytes long;
    /// `image-too-large` if a side is above [`MAX_SIDE_PX`].
    pub fn rgb(pixels: &'a [u8], width: u32, height: u32) -> Result<Self> {
        ImageView::new(pixels, width, height, PixelFormat::Rgb)
    }

    fn new(pixels: &'a [u8], width: u32, height: u32, format: PixelFormat) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::new(
                Kind::InvalidImage,
                format!("the image is {width} x {height} px; it needs at least one pixel"),
            ));
        }
        if width > MAX_SIDE_PX || height > MAX_SIDE_PX {
            return Err(Error::new(
                Kind::ImageTooLarge,
                format!(
                    "the image is {width} x {height} px; a side may have at most {MAX_SIDE_PX} px, so scale it down first"
                ),
            ));
        }
        // Both sides are at most 2^14, so the product fits into 32 bits, the usize of wasm.
        let expected = width as usize * height as usize * format.channels();
        if pixels.len() != expected {
            return Err(Error::new(
                Kind::InvalidImage,
                format!(
                    "{} bytes of pixels were given; {width} x {height} px with {} bytes a pixel are {expected}",
                    pixels.len(),
                    format.channels()
                ),
            ));
        }
        Ok(ImageView { pixels, width, height, format })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The order of the bytes.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// All bytes: `height` rows of `width` pixels.
    pub fn pixels(&self) -> &'a [u8] {
        self.pixels
    }

    /// The bytes of row `y`, counted from the top.
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        let stride = self.width as usize * self.format.channels();
        &self.pixels[y * stride..][..stride]
    }
}

impl std::fmt::Debug for ImageView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageView({} x {} px, {:?})", self.width, self.height, self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_images_name_both_sides_of_the_mismatch() {
        struct Case {
            name: &'static str,
            bytes: usize,
            width: u32,
            height: u32,
            code: &'static str,
            says: &'static str,
        }
        let cases = [
            Case { name: "0 x 0", bytes: 0, width: 0, height: 0, code: "invalid-image", says: "0 x 0" },
            Case { name: "no height", bytes: 0, width: 7, height: 0, code: "invalid-image", says: "7 x 0" },
            Case {
                name: "20,000 x 10",
                bytes: 800_000,
                width: 20_000,
                height: 10,
                code: "image-too-large",
                says: "16384",
            },
            Case { name: "one byte short", bytes: 15, width: 2, height: 2, code: "invalid-image", says: "16" },
            Case { name: "one byte long", bytes: 17, width: 2, height: 2, code: "invalid-image", says: "17 bytes" },
            Case {
                name: "product above 32 bits",
                bytes: 4,
                width: u32::MAX,
                height: u32::MAX,
                code: "image-too-large",
                says: "4294967295",
            },
        ];
        for case in cases {
            let error = ImageView::rgba(&vec![0; case.bytes], case.width, case.height).unwrap_err();
            assert_eq!(error.code(), case.code, "{}", case.name);
            assert!(error.is_image(), "{}", case.name);
            assert!(error.to_string().contains(case.says), "{}: {error}", case.name);
        }
    }

    #[test]
    fn rows_are_cut_at_the_width() {
        let pixels: Vec<u8> = (0..18).collect();
        let image = ImageView::rgb(&pixels, 2, 3).unwrap();
        assert_eq!(image.row(1), [6, 7, 8, 9, 10, 11]);
    }
}
