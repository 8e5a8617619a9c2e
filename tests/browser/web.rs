//! Pictures of a page, each against the pixels that the same browser reads from it.

use js_sys::{Promise, Uint8Array};
use micro_yolo::{BoxXywh, Detection, Detector, ImageView, WebSource};
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::{HtmlCanvasElement, HtmlImageElement, HtmlVideoElement, ImageBitmap, ImageData, OffscreenCanvas};

use super::{CAT, MODEL};

/// The photograph from left to right, 320 x 240 px, 16 frames in 1.28 s.
const FILM: &[u8] = include_bytes!("../e2e/fixtures/cat.webm");
/// 400 x 200 px.
const ANIMATION: &[u8] = include_bytes!("../e2e/fixtures/pictures/animated.webp");

#[wasm_bindgen(inline_js = r#"
export const bitmap = (bytes) => createImageBitmap(new Blob([bytes]));

export function offscreen(image, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas;
}

export function canvas(image, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  if (width && height) canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas;
}

// The left third transparent, the rest half so; and the same over a colour.
export function faded(image, background) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  if (background) {
    context.fillStyle = background;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.globalAlpha = 0.75;
  const left = Math.round(image.width / 3);
  context.drawImage(image, left, 0, image.width - left, image.height, left, 0, image.width - left, image.height);
  return canvas;
}

// As large as this, a canvas has a size and no pixels.
export function huge() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 70_000, height: 10 });
  canvas.getContext("2d").fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

export function hugeOffscreen() {
  const canvas = new OffscreenCanvas(10, 70_000);
  canvas.getContext("2d").fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

export const address = (canvas) => canvas.toDataURL();

export const read = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);

export const settled = (element, ...events) => new Promise((resolve) => {
  for (const event of events) element.addEventListener(event, () => resolve(event), { once: true });
});

export function image(source) {
  const image = new Image();
  image.src = typeof source === "string" ? source : URL.createObjectURL(new Blob([source]));
  return image;
}

// The same server under another name: another site.
export const foreign = () => image(`http://localhost:${location.port}/data/samples/cat.jpg`);

export function video(bytes) {
  const video = Object.assign(document.createElement("video"), { muted: true, preload: "auto" });
  if (bytes) video.src = URL.createObjectURL(new Blob([bytes], { type: "video/webm" }));
  return video;
}

/** One that the browser chooses for a screen of so many pixels a CSS pixel. */
export function dense(bytes, density) {
  const image = new Image();
  image.srcset = `${URL.createObjectURL(new Blob([bytes]))} ${density}x`;
  return image;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
"#)]
extern "C" {
    async fn bitmap(bytes: &[u8]) -> JsValue;
    fn offscreen(image: &JsValue, width: u32, height: u32) -> OffscreenCanvas;
    fn canvas(image: &JsValue, width: u32, height: u32) -> HtmlCanvasElement;
    fn faded(image: &JsValue, background: Option<&str>) -> OffscreenCanvas;
    fn huge() -> HtmlCanvasElement;
    #[wasm_bindgen(js_name = hugeOffscreen)]
    fn huge_offscreen() -> OffscreenCanvas;
    fn address(canvas: &HtmlCanvasElement) -> String;
    fn read(canvas: &JsValue) -> ImageData;
    #[wasm_bindgen(variadic)]
    fn settled(element: &JsValue, events: Vec<JsValue>) -> Promise;
    #[wasm_bindgen(js_name = image)]
    fn image_at(address: &str) -> HtmlImageElement;
    #[wasm_bindgen(js_name = image)]
    fn image_of(bytes: Uint8Array) -> HtmlImageElement;
    fn foreign() -> HtmlImageElement;
    fn dense(bytes: Uint8Array, density: u32) -> HtmlImageElement;
    fn video(bytes: Option<Uint8Array>) -> HtmlVideoElement;
    async fn pause(ms: u32) -> JsValue;
}

async fn cat() -> ImageBitmap {
    bitmap(CAT).await.unchecked_into()
}

/// The first of these events.
async fn first(element: &JsValue, events: &[&str]) -> String {
    let events = events.iter().map(|&event| event.into()).collect();
    wasm_bindgen_futures::JsFuture::from(settled(element, events)).await.unwrap().as_string().unwrap()
}

/// Small and quick; wide enough that the photograph is read as it is.
fn detector() -> Detector {
    Detector::builder().input_size(256, 256).score_threshold(0.2).build(MODEL).unwrap()
}

fn of_pixels(detector: &mut Detector, pixels: &ImageData) -> Vec<Detection> {
    let found = detector.detect(ImageView::rgba(&pixels.data(), pixels.width(), pixels.height()).unwrap()).unwrap();
    assert!(!found.is_empty());
    found
}

/// The same objects in the same places, but for a part of the size and of the score.
fn assert_near(found: &[Detection], expected: &[Detection], times: f32, what: &str) {
    assert!(!found.is_empty(), "{what}: nothing");
    // The best, which no threshold and no suppression takes away.
    let (found, expected) = (&found[0], &expected[0]);
    let BoxXywh { x, y, width, height } = expected.bbox;
    let grown = BoxXywh { x: x * times, y: y * times, width: width * times, height: height * times };
    assert_eq!(found.label, expected.label, "{what}");
    assert!((found.score - expected.score).abs() < 0.1, "{what}: {found:?}, {expected:?}");
    assert!(found.bbox.iou(&grown) > 0.9, "{what}: {found:?}, {expected:?}");
}

fn code<'a>(detector: &mut Detector, source: impl Into<WebSource<'a>>) -> &'static str {
    match detector.detect_from(source) {
        Ok(found) => panic!("found {found:?}"),
        Err(error) => {
            assert_eq!(error.is_not_loaded(), error.code() == "not-loaded");
            error.code()
        }
    }
}

#[wasm_bindgen_test]
async fn every_kind_of_picture_is_seen_as_its_pixels_are() {
    let mut detector = detector();
    let bitmap = cat().await;
    let (width, height) = (bitmap.width(), bitmap.height());
    let offscreen = offscreen(&bitmap, width, height);
    let pixels = read(&offscreen);
    let expected = of_pixels(&mut detector, &pixels);
    assert_eq!(&*expected[0].label, "cat");

    assert_eq!(detector.detect_from(&pixels).unwrap(), expected, "ImageData");
    assert_eq!(detector.detect_from(&offscreen).unwrap(), expected, "OffscreenCanvas");
    assert_eq!(detector.detect_from(&canvas(&bitmap, width, height)).unwrap(), expected, "HTMLCanvasElement");
    assert_eq!(detector.detect_from(&bitmap).unwrap(), expected, "ImageBitmap");
    let image = image_of(Uint8Array::from(CAT));
    assert_eq!(first(&image, &["load", "error"]).await, "load");
    assert_eq!(detector.detect_from(&image).unwrap(), expected, "HTMLImageElement");
    assert_eq!(detector.detect_from(&pixels).unwrap(), expected, "after others");
}

#[wasm_bindgen_test]
async fn a_video_is_seen_once_it_has_a_frame() {
    let mut detector = detector();
    let film = video(Some(Uint8Array::from(FILM)));
    assert_eq!(code(&mut detector, &film), "not-loaded");
    assert_eq!(first(&film, &["loadeddata", "error"]).await, "loadeddata");
    let mut seen = None;
    // A frame may come some time after the event.
    for _ in 0..100 {
        match detector.detect_from(&film) {
            Ok(found) => {
                seen = Some(found);
                break;
            }
            Err(error) => assert!(error.is_not_loaded(), "{error:?}"),
        }
        pause(20).await;
    }
    // Chromium sometimes draws nothing of a video for a moment, although a frame can be made of it.
    let mut drawn = read(&offscreen(&film, 320, 240));
    for _ in 0..100 {
        if drawn.data().chunks(4).any(|pixel| pixel[3] > 0) {
            break;
        }
        pause(20).await;
        drawn = read(&offscreen(&film, 320, 240));
    }
    let expected = of_pixels(&mut detector, &drawn);
    assert_near(&seen.expect("a frame within two seconds"), &expected, 1.0, "film");

    film.set_current_time(0.5);
    assert_eq!(code(&mut detector, &film), "not-loaded");
    first(&film, &["seeked"]).await;

    // The browser says that it has a frame, and shows none.
    let hollow = video(None);
    for (name, value) in [("readyState", 4), ("videoWidth", 320), ("videoHeight", 240), ("networkState", 1)] {
        let getter = js_sys::Object::new();
        js_sys::Reflect::set(&getter, &"value".into(), &value.into()).unwrap();
        js_sys::Object::define_property(&hollow, &name.into(), &getter);
    }
    assert_eq!(code(&mut detector, &hollow), "not-loaded");
}

#[wasm_bindgen_test]
async fn a_large_picture_is_drawn_smaller_and_its_boxes_are_in_its_own_pixels() {
    let mut detector = detector();
    let bitmap = cat().await;
    let (width, height) = (bitmap.width(), bitmap.height());
    let expected = of_pixels(&mut detector, &read(&offscreen(&bitmap, width, height)));
    let large = offscreen(&bitmap, 4 * width, 4 * height);
    let found = detector.detect_from(&large).unwrap();
    assert_near(&found, &expected, 4.0, "four times");
    // Pixels given as such are searched as they are, by the crate's own filter.
    let pixels = read(&large);
    assert_eq!(detector.detect_from(&pixels).unwrap(), of_pixels(&mut detector, &pixels));
    // No side vanishes.
    let line = canvas(&bitmap, 9000, 1);
    assert!(detector.detect_from(&line).is_ok());
}

#[wasm_bindgen_test]
async fn an_image_of_a_set_is_read_with_the_pixels_of_its_file() {
    let mut detector = detector();
    let bitmap = cat().await;
    let expected = detector.detect_from(&bitmap).unwrap();
    let image = dense(Uint8Array::from(CAT), 10);
    assert_eq!(first(&image, &["load", "error"]).await, "load");
    assert!(image.natural_width() < bitmap.width() / 9, "{} px", image.natural_width());
    let times = image.natural_width() as f32 / bitmap.width() as f32;
    assert_near(&detector.detect_from(&image).unwrap(), &expected, times, "srcset");
}

#[wasm_bindgen_test]
async fn a_photograph_is_turned_as_its_file_says() {
    // APP1: "Exif", big-endian TIFF, one entry: orientation (0x0112), short, one value, 6 = turn by 90 degrees.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&CAT[..2], exif, &CAT[2..]].concat();
    let image = image_of(Uint8Array::from(&turned[..]));
    assert_eq!(first(&image, &["load", "error"]).await, "load");
    assert_eq!((image.natural_width(), image.natural_height()), (300, 451));

    let bitmap = cat().await;
    let upright = read(&offscreen(&bitmap, 451, 300)).data();
    // Row y of the file becomes the column y from the right.
    let mut rgba = vec![0; upright.len()];
    for (at, pixel) in upright.chunks_exact(4).enumerate() {
        let (x, y) = (at % 451, at / 451);
        rgba[(x * 300 + 299 - y) * 4..][..4].copy_from_slice(pixel);
    }
    let mut detector = Detector::builder().input_size(256, 256).score_threshold(0.05).build(MODEL).unwrap();
    let expected = detector.detect(ImageView::rgba(&rgba, 300, 451).unwrap()).unwrap();
    assert_near(&detector.detect_from(&image).unwrap(), &expected, 1.0, "turned");
}

#[wasm_bindgen_test]
async fn through_transparent_pixels_the_grey_is_seen() {
    let mut detector = Detector::builder().input_size(256, 256).score_threshold(0.05).build(MODEL).unwrap();
    let bitmap = cat().await;
    let expected = of_pixels(&mut detector, &read(&faded(&bitmap, Some("rgb(114 114 114)"))));
    assert_near(&detector.detect_from(&faded(&bitmap, None)).unwrap(), &expected, 1.0, "faded");
    let on_black = of_pixels(&mut detector, &read(&faded(&bitmap, Some("black"))));
    assert_ne!(on_black[0], expected[0], "the background makes a difference");
}

#[wasm_bindgen_test]
async fn what_is_not_there_is_an_error_with_a_code() {
    let mut detector = detector();
    let bitmap = cat().await;
    assert_eq!(code(&mut detector, &canvas(&bitmap, 0, 7)), "invalid-image");
    bitmap.close();
    assert_eq!(code(&mut detector, &bitmap), "invalid-image");

    assert_eq!(code(&mut detector, &image_at("")), "not-loaded");
    let broken = image_at("data:image/png;base64,AAAA");
    assert_eq!(first(&broken, &["load", "error"]).await, "error");
    assert_eq!(code(&mut detector, &broken), "invalid-image");
    let late = image_of(Uint8Array::from(CAT));
    assert_eq!(code(&mut detector, &late), "not-loaded");
    first(&late, &["load"]).await;
    assert!(detector.detect_from(&late).is_ok(), "the same call succeeds later");

    assert_eq!(code(&mut detector, &video(None)), "not-loaded");
    let broken = video(Some(Uint8Array::from(&FILM[..20])));
    assert_eq!(first(&broken, &["loadeddata", "error"]).await, "error");
    assert_eq!(code(&mut detector, &broken), "invalid-image");
}

#[wasm_bindgen_test]
async fn what_cannot_be_drawn_is_told_from_what_is_transparent() {
    let mut detector = detector();
    assert_eq!(code(&mut detector, &huge()), "image-too-large");
    assert_eq!(code(&mut detector, &huge_offscreen()), "image-too-large");

    let clear = canvas(&JsValue::NULL, 0, 0);
    clear.set_width(9);
    clear.set_height(9);
    assert_eq!(detector.detect_from(&clear).unwrap(), [], "canvas");
    assert_eq!(detector.detect_from(&OffscreenCanvas::new(9, 9).unwrap()).unwrap(), [], "OffscreenCanvas");
    let image = image_at(&address(&clear));
    assert_eq!(first(&image, &["load", "error"]).await, "load");
    assert_eq!(detector.detect_from(&image).unwrap(), [], "image");

    // Of the first frame, Chromium knows the size and draws nothing. Firefox draws what is there of it.
    let cut = image_of(Uint8Array::from(&ANIMATION[..800]));
    first(&cut, &["load", "error"]).await;
    assert_eq!((cut.natural_width(), cut.natural_height()), (400, 200));
    if read(&offscreen(&cut, 9, 9)).data().chunks(4).all(|pixel| pixel[3] == 0) {
        assert_eq!(code(&mut detector, &cut), "invalid-image");
    } else {
        assert!(detector.detect_from(&cut).is_ok());
    }
}

#[wasm_bindgen_test]
async fn pictures_of_another_site_are_tainted_and_taint_no_later_one() {
    let mut detector = detector();
    let image = foreign();
    let event = first(&image, &["load", "error"]).await;
    assert_eq!(event, "load", "the test server isolates origins: set WASM_BINDGEN_TEST_NO_ORIGIN_ISOLATION");
    assert_eq!(code(&mut detector, &image), "tainted");
    assert_eq!(code(&mut detector, &canvas(&image, 451, 300)), "tainted");
    assert_eq!(&*detector.detect_from(&cat().await).unwrap()[0].label, "cat");
}
