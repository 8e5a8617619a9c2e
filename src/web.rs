//! Pictures of a web page, for front ends in Rust.
//!
//! The browser draws a picture on a canvas, which is reused from picture to picture, and the pixels are read from
//! there. So every format that the browser supports works, and the orientation stored in a file is applied.
//! `pkg/source.js` and `pkg/pixels.js` do the same for JavaScript, where a call can wait. Here a call returns at once,
//! with `not-loaded` if there is nothing to see yet.

use std::cell::Cell;

use js_sys::{Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{
    HtmlCanvasElement, HtmlImageElement, HtmlMediaElement, HtmlVideoElement, ImageBitmap, ImageData, MediaError,
    OffscreenCanvas, VideoFrame, VideoFrameInit,
};

use crate::bytes;
use crate::error::{Error, Kind, Result};
use crate::{Detection, Detector, ImageView, InputSize};

/// A picture of a web page, for [`Detector::detect_from`]. `into()` makes one from a reference to an element or object.
///
/// Sizes are those that the user sees: the natural size of an image with the orientation of its file applied, and the
/// display size of a video. An image from `srcset` is read in full resolution, whatever its natural size.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum WebSource<'a> {
    /// Pixels with 8 bits per channel, used as they are, without scaling by the browser.
    ImageData(&'a ImageData),
    /// A canvas of the page.
    HtmlCanvas(&'a HtmlCanvasElement),
    /// A canvas that is not part of the page.
    OffscreenCanvas(&'a OffscreenCanvas),
    /// An image that has loaded.
    HtmlImage(&'a HtmlImageElement),
    /// The frame that a video shows.
    HtmlVideo(&'a HtmlVideoElement),
    /// A bitmap that has not been closed.
    ImageBitmap(&'a ImageBitmap),
}

macro_rules! from_references {
    ($($variant:ident: $type:ty),+ $(,)?) => {
        $(impl<'a> From<&'a $type> for WebSource<'a> {
            fn from(source: &'a $type) -> WebSource<'a> {
                WebSource::$variant(source)
            }
        })+
    };
}

from_references! {
    ImageData: ImageData,
    HtmlCanvas: HtmlCanvasElement,
    OffscreenCanvas: OffscreenCanvas,
    HtmlImage: HtmlImageElement,
    HtmlVideo: HtmlVideoElement,
    ImageBitmap: ImageBitmap,
}

impl Detector {
    /// Finds the objects in a picture of a web page, best score first. Boxes are in pixels of the picture as the user
    /// sees it. Needs the feature `web`, on wasm.
    ///
    /// Takes a reference to any of the types of [`WebSource`]. The browser scales down pictures that are more than
    /// twice as large as the model's input. Transparent pixels are blended with the grey of the letterbox border. It
    /// works in a worker too, if the browser has `OffscreenCanvas`.
    ///
    /// ```no_run
    /// # use wasm_bindgen::JsCast;
    /// # let mut detector = micro_yolo::Detector::from_onnx(&[])?;
    /// let document = web_sys::window().unwrap().document().unwrap();
    /// let photo: web_sys::HtmlImageElement = document.query_selector("img").unwrap().unwrap().unchecked_into();
    /// for found in detector.detect_from(&photo)? {
    ///     println!("{} {:.2} at {:?}", found.label, found.score, found.bbox);
    /// }
    /// # Ok::<(), micro_yolo::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - `not-loaded` ([`Error::is_not_loaded`]) if an image or video has nothing to show yet, or a video is seeking:
    ///   call again later. A fully transparent frame of a video counts as none.
    /// - `invalid-image` if the picture is empty or closed, or the browser cannot decode it; `image-too-large` if there
    ///   is not enough memory for its pixels, or a canvas is larger than the browser can hold; `network` if the rest of
    ///   a video could not be fetched.
    /// - `tainted` if it comes from another site without CORS.
    /// - `unsupported` if there is no canvas, or if the browser returns noise instead of pixels.
    /// - `inference-failed` as in [`detect`](Detector::detect).
    pub fn detect_from<'a>(&mut self, source: impl Into<WebSource<'a>>) -> Result<Vec<Detection>> {
        let mut reader = READER.take().unwrap_or_default();
        let found = reader.read(source.into(), self.model().input_size()).and_then(|size| {
            let mut found = self.detect(ImageView::rgba(&reader.pixels, size.read.0, size.read.1)?)?;
            if size.read != size.shown {
                let [x, y] =
                    [(size.shown.0, size.read.0), (size.shown.1, size.read.1)].map(|(a, b)| a as f32 / b as f32);
                for Detection { bbox, .. } in &mut found {
                    bbox.x *= x;
                    bbox.width *= x;
                    bbox.y *= y;
                    bbox.height *= y;
                }
            }
            Ok(found)
        });
        bytes::trim(&mut reader.pixels);
        READER.set(Some(reader));
        found
    }
}

thread_local! {
    /// Objects of JavaScript cannot leave their thread. A detector contains none, so that it can move to another
    /// thread.
    static READER: Cell<Option<Reader>> = const { Cell::new(None) };
}

/// The browser scales a frame down to at most this many times the model's input. The letterbox does the rest, with the
/// same filter as in training. `pkg/pixels.js` has the measurements.
const TIMES_INPUT: f64 = 2.0;

/// Width and height of a picture in pixels: as the user sees it, and as it was read.
#[derive(Debug, Clone, Copy)]
struct Size {
    shown: (u32, u32),
    read: (u32, u32),
}

#[derive(Default)]
struct Reader {
    surface: Option<Surface>,
    /// Straight RGBA of the picture read last.
    pixels: Vec<u8>,
    /// Kept only once it is true: a visitor may allow reading of pixels later.
    is_honest: bool,
}

impl Reader {
    /// Reads the pixels of a picture, not much larger than `input`.
    fn read(&mut self, source: WebSource<'_>, input: InputSize) -> Result<Size> {
        let shown = source.size()?;
        self.check_readback()?;
        if let WebSource::ImageData(data) = source {
            self.copy(data)?;
            return Ok(Size { shown, read: shown });
        }
        let (width, height) = (f64::from(shown.0), f64::from(shown.1));
        let times = |side: u32| TIMES_INPUT * f64::from(side);
        let most = if source.is_chosen() { f64::INFINITY } else { 1.0 };
        let scale = (times(input.width) / width).min(times(input.height) / height).min(most);
        let scaled = |side: f64| ((side * scale).round() as u32).max(1);
        let read = (scaled(width), scaled(height));
        self.draw(source.object(), read)?;
        if self.is_blank() {
            match source {
                WebSource::HtmlVideo(video) => self.draw_frame(video, read)?,
                WebSource::HtmlImage(image) => check_drawable(image)?,
                WebSource::HtmlCanvas(_) | WebSource::OffscreenCanvas(_) => check_canvas(shown)?,
                WebSource::ImageData(_) | WebSource::ImageBitmap(_) => {}
            }
        }
        Ok(Size { shown, read })
    }

    /// Draws a picture and reads its pixels.
    fn draw(&mut self, picture: &JsValue, (width, height): (u32, u32)) -> Result<()> {
        let surface = match self.surface.take() {
            Some(surface) => surface,
            None => Surface::new(width, height)?,
        };
        // A tainted canvas stays tainted, so it is not kept.
        let image = surface.draw(picture, width, height).map_err(draw_error)?;
        self.surface = Some(surface);
        self.copy(&image)
    }

    /// Draws the frame of a video when the first attempt drew nothing. The video may have no frame yet: Chromium
    /// reports one too early for a moment after loading. Chromium also sometimes draws nothing of a video, although it
    /// can make a `VideoFrame` of it.
    fn draw_frame(&mut self, video: &HtmlVideoElement, size: (u32, u32)) -> Result<()> {
        if let Ok(frame) = VideoFrame::new_with_html_video_element(video) {
            // Not every browser rotates the frames of a video that is stored rotated.
            let is_upright =
                (frame.display_width(), frame.display_height()) == (video.video_width(), video.video_height());
            let result = if is_upright { self.draw(&frame, size) } else { Ok(()) };
            frame.close();
            result?;
        }
        if self.is_blank() {
            return Err(not_loaded(
                "the browser shows no frame of the video yet; it gives none of a protected film",
            ));
        }
        Ok(())
    }

    /// Whether nothing was drawn.
    fn is_blank(&self) -> bool {
        self.pixels.chunks_exact(4).all(|pixel| pixel[3] == 0)
    }

    fn copy(&mut self, image: &ImageData) -> Result<()> {
        // Without web-sys, which would allocate a new vector for each frame.
        let data = Reflect::get(image, &"data".into()).map_err(draw_error)?;
        // Any kind of view has these two lengths.
        let data: Uint8Array = data.unchecked_into();
        if data.byte_length() != data.length() {
            return Err(Error::new(Kind::InvalidImage, "pixels must have 8 bits a channel"));
        }
        bytes::copy(&data, &mut self.pixels).map_err(|message| Error::new(Kind::ImageTooLarge, message))
    }

    /// Fails if pixels read from a canvas are not those that were drawn: Firefox with `privacy.resistFingerprinting`
    /// returns noise, in which nothing would ever be detected.
    fn check_readback(&mut self) -> Result<()> {
        const SIDE: u32 = 8;
        const COLORS: [[u8; 3]; 2] = [[200, 100, 50], [20, 150, 230]];
        if self.is_honest {
            return Ok(());
        }
        let surface = Surface::new(SIDE, SIDE)?;
        for ([r, g, b], y) in COLORS.into_iter().zip([0, SIDE / 2]) {
            surface.context.set_fill_style(&format!("rgb({r}, {g}, {b})"));
            surface.context.fill_rect(0.0, f64::from(y), SIDE.into(), f64::from(SIDE / 2));
        }
        let image = surface.context.get_image_data(0, 0, SIDE, SIDE).map_err(draw_error)?;
        self.copy(&image)?;
        let mut difference = 0;
        for (at, pixel) in self.pixels.chunks_exact(4).enumerate() {
            let color = COLORS[usize::from(at >= (SIDE * SIDE / 2) as usize)];
            difference += pixel.iter().zip(color).map(|(is, drawn)| u32::from(is.abs_diff(drawn))).sum::<u32>();
        }
        // Colours may differ by one, and weaker protections change a few lowest bits.
        if difference >= 16 * 3 * SIDE * SIDE {
            let message = "this browser gives noise instead of a picture's pixels, as a protection against \
                fingerprinting (in Firefox `privacy.resistFingerprinting`): the visitor may allow this site to read canvases";
            return Err(Error::new(Kind::Unsupported, message));
        }
        self.is_honest = true;
        Ok(())
    }
}

impl WebSource<'_> {
    /// The size that the user sees, in pixels, if there is anything to see.
    fn size(self) -> Result<(u32, u32)> {
        let (what, width, height) = match self {
            WebSource::ImageData(data) => ("ImageData", data.width(), data.height()),
            WebSource::HtmlCanvas(canvas) => ("canvas", canvas.width(), canvas.height()),
            WebSource::OffscreenCanvas(canvas) => ("OffscreenCanvas", canvas.width(), canvas.height()),
            WebSource::HtmlImage(image) => {
                check_image(image)?;
                ("image", image.natural_width(), image.natural_height())
            }
            WebSource::HtmlVideo(video) => {
                check_video(video)?;
                ("video", video.video_width(), video.video_height())
            }
            WebSource::ImageBitmap(bitmap) => ("ImageBitmap", bitmap.width(), bitmap.height()),
        };
        if width == 0 || height == 0 {
            let message = format!("the {what} is {width} x {height} px: empty, or closed");
            return Err(Error::new(Kind::InvalidImage, message));
        }
        Ok((width, height))
    }

    /// Whether the browser has chosen the image among several (`srcset`). The natural size of such an image is in CSS
    /// pixels and does not show the size of the file.
    fn is_chosen(&self) -> bool {
        let WebSource::HtmlImage(image) = self else { return false };
        let in_picture = || image.parent_element().is_some_and(|parent| parent.local_name() == "picture");
        !image.srcset().is_empty() || in_picture()
    }

    fn object(&self) -> &JsValue {
        match self {
            WebSource::ImageData(source) => source,
            WebSource::HtmlCanvas(source) => source,
            WebSource::OffscreenCanvas(source) => source,
            WebSource::HtmlImage(source) => source,
            WebSource::HtmlVideo(source) => source,
            WebSource::ImageBitmap(source) => source,
        }
    }
}

fn check_image(image: &HtmlImageElement) -> Result<()> {
    if !image.complete() {
        return Err(not_loaded("the image has not loaded yet; wait for its `load` event"));
    }
    if image.natural_width() == 0 {
        let source = image.current_src();
        if source.is_empty() {
            return Err(not_loaded("the image element has no picture; set its `src` first"));
        }
        let message = format!("not a picture the browser can show: {}", shown(&source));
        return Err(Error::new(Kind::InvalidImage, message));
    }
    Ok(())
}

/// Refuses an image of which nothing was drawn because it is broken: Chromium knows the size of some, and draws nothing
/// without an error. It makes no frame of them, but makes one of a transparent image.
fn check_drawable(image: &HtmlImageElement) -> Result<()> {
    if Reflect::get(&js_sys::global(), &"VideoFrame".into()).is_ok_and(|class| class.is_undefined()) {
        return Ok(());
    }
    let init = VideoFrameInit::new();
    init.set_timestamp(0);
    let frame = VideoFrame::new_with_html_image_element_and_video_frame_init(image, &init).map_err(draw_error)?;
    frame.close();
    Ok(())
}

/// Refuses a canvas of which nothing was drawn because the browser could not make it: it has a size, and no pixels.
/// Another one of that size has none either.
fn check_canvas((width, height): (u32, u32)) -> Result<()> {
    let surface = Surface::new(width, height)?;
    surface.context.fill_rect(0.0, 0.0, 1.0, 1.0);
    let pixel = surface.context.get_image_data(0, 0, 1, 1).map(|image| image.data());
    if pixel.as_ref().is_ok_and(|pixel| pixel[3] > 0) {
        return Ok(());
    }
    let message =
        format!("a canvas of {width} x {height} px is larger than the browser can hold: scale the picture down");
    Err(Error::new(Kind::ImageTooLarge, message))
}

fn check_video(video: &HtmlVideoElement) -> Result<()> {
    if let Some(error) = video.error() {
        let kind = if error.code() == MediaError::MEDIA_ERR_NETWORK { Kind::Network } else { Kind::InvalidImage };
        return Err(Error::new(kind, "the video cannot be played").with_source(error.message()));
    }
    if video.network_state() == HtmlMediaElement::NETWORK_NO_SOURCE {
        // This is so with every video for a moment, while the browser chooses a source.
        return Err(not_loaded("the browser can play none of the video's sources, so far at least"));
    }
    if video.seeking() {
        // Which frame would be shown depends on the browser.
        return Err(not_loaded("the video seeks; wait for its `seeked` event"));
    }
    if video.ready_state() < HtmlMediaElement::HAVE_CURRENT_DATA {
        return Err(not_loaded("the video has no frame yet; wait for its `loadeddata` event"));
    }
    if video.video_width() == 0 {
        return Err(not_loaded("the video has sound and no picture, so far at least"));
    }
    Ok(())
}

fn not_loaded(message: &str) -> Error {
    Error::new(Kind::NotLoaded, message)
}

/// A URL, shortened for messages: a `data:` URL of a picture can be very long.
fn shown(address: &str) -> String {
    let start: String = address.chars().take(200).collect();
    if start.len() == address.len() { start } else { format!("{start}…") }
}

/// The error when the browser does not draw a picture or does not return its pixels.
fn draw_error(cause: JsValue) -> Error {
    let property = |name: &str| Reflect::get(&cause, &name.into()).ok()?.as_string();
    let error = match property("name").as_deref() {
        Some("SecurityError") => Error::new(
            Kind::Tainted,
            "the picture comes from another site without CORS, so its pixels are secret; load it with \
             crossorigin=\"anonymous\"",
        ),
        _ => Error::new(Kind::InvalidImage, "the browser cannot decode this picture"),
    };
    error.with_source(property("message").unwrap_or_default())
}

/// A canvas to read pixels from.
struct Surface {
    canvas: Canvas,
    context: Context,
}

enum Canvas {
    Offscreen(OffscreenCanvas),
    Element(HtmlCanvasElement),
}

#[wasm_bindgen]
extern "C" {
    /// The 2D context of either kind of canvas. web-sys has a type for each, but some of their methods have other
    /// signatures if a front end enables unstable interfaces.
    type Context;

    #[wasm_bindgen(method, setter, js_name = fillStyle)]
    fn set_fill_style(this: &Context, color: &str);

    #[wasm_bindgen(method, js_name = fillRect)]
    fn fill_rect(this: &Context, x: f64, y: f64, width: f64, height: f64);

    #[wasm_bindgen(method, js_name = clearRect)]
    fn clear_rect(this: &Context, x: u32, y: u32, width: u32, height: u32);

    #[wasm_bindgen(method, setter, js_name = imageSmoothingQuality)]
    fn set_image_smoothing_quality(this: &Context, quality: &str);

    #[wasm_bindgen(method, catch, js_name = drawImage)]
    fn draw_image(this: &Context, image: &JsValue, x: u32, y: u32, w: u32, h: u32) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = getImageData)]
    fn get_image_data(this: &Context, x: u32, y: u32, w: u32, h: u32) -> Result<ImageData, JsValue>;
}

impl Surface {
    fn new(width: u32, height: u32) -> Result<Surface> {
        let unsupported = || Error::new(Kind::Unsupported, "this browser gave no canvas to read pixels with");
        // The pixels are read every time, so the canvas should not be on the GPU.
        let options = Object::new();
        Reflect::set(&options, &"willReadFrequently".into(), &true.into()).map_err(|_| unsupported())?;
        let (canvas, context) = if let Ok(canvas) = OffscreenCanvas::new(width, height) {
            let context = canvas.get_context_with_context_options("2d", &options);
            (Canvas::Offscreen(canvas), context)
        } else {
            let document = web_sys::window().and_then(|window| window.document()).ok_or_else(unsupported)?;
            let canvas = document.create_element("canvas").map_err(|_| unsupported())?;
            let canvas: HtmlCanvasElement = canvas.unchecked_into();
            canvas.set_width(width);
            canvas.set_height(height);
            let context = canvas.get_context_with_context_options("2d", &options);
            (Canvas::Element(canvas), context)
        };
        let context = context.ok().flatten().ok_or_else(unsupported)?.unchecked_into();
        Ok(Surface { canvas, context })
    }

    /// Draws `picture` on an empty canvas of this size, and returns the pixels as straight RGBA.
    fn draw(&self, picture: &JsValue, width: u32, height: u32) -> Result<ImageData, JsValue> {
        self.resize(width, height);
        self.context.clear_rect(0, 0, width, height);
        // Setting a size resets all settings.
        self.context.set_image_smoothing_quality("high");
        self.context.draw_image(picture, 0, 0, width, height)?;
        self.context.get_image_data(0, 0, width, height)
    }

    fn resize(&self, width: u32, height: u32) {
        match &self.canvas {
            Canvas::Offscreen(canvas) if (canvas.width(), canvas.height()) != (width, height) => {
                canvas.set_width(width);
                canvas.set_height(height);
            }
            Canvas::Element(canvas) if (canvas.width(), canvas.height()) != (width, height) => {
                canvas.set_width(width);
                canvas.set_height(height);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use js_sys::Function;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    // With `tract`, the tests of the engine cover this for all builds.
    #[cfg(not(feature = "tract"))]
    wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

    #[wasm_bindgen(inline_js = r#"
        export function withNoise() {
          const { prototype } = OffscreenCanvasRenderingContext2D;
          const real = prototype.getImageData;
          prototype.getImageData = function (...area) {
            const image = real.apply(this, area);
            crypto.getRandomValues(image.data);
            return image;
          };
          return () => (prototype.getImageData = real);
        }

        export function withoutOffscreenCanvas() {
          const real = OffscreenCanvas;
          delete globalThis.OffscreenCanvas;
          return () => (globalThis.OffscreenCanvas = real);
        }
    "#)]
    extern "C" {
        /// Each returns a function that undoes it.
        #[wasm_bindgen(js_name = withNoise)]
        fn with_noise() -> Function;
        #[wasm_bindgen(js_name = withoutOffscreenCanvas)]
        fn without_offscreen_canvas() -> Function;
    }

    #[wasm_bindgen_test]
    fn noise_instead_of_pixels_is_refused_until_the_visitor_allows_them() {
        let mut reader = Reader::default();
        let end = with_noise();
        let error = reader.check_readback().unwrap_err();
        end.call0(&JsValue::NULL).unwrap();
        assert_eq!(error.code(), "unsupported");
        assert!(error.to_string().contains("noise"), "{error}");
        assert!(reader.check_readback().is_ok());
    }

    #[wasm_bindgen_test]
    fn a_canvas_of_the_page_serves_where_there_is_no_other() {
        let end = without_offscreen_canvas();
        let surface = Surface::new(3, 2);
        let checked = Reader::default().check_readback();
        end.call0(&JsValue::NULL).unwrap();
        assert!(matches!(surface.unwrap().canvas, Canvas::Element(_)));
        checked.unwrap();
    }

    #[wasm_bindgen_test]
    fn long_addresses_are_cut() {
        assert_eq!(shown("cat.jpg"), "cat.jpg");
        assert_eq!(shown(&"ä".repeat(300)), format!("{}…", "ä".repeat(200)));
    }
}
