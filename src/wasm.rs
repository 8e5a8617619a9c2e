//! The detector's JavaScript interface: conversions only. A build with the feature `web` leaves it out, because a
//! program in Rust would export it together with its own functions.
//!
//! The hand-written package in `pkg/` is what users see; its `engine.js` is the only caller.

use std::sync::Once;

use js_sys::{Array, Error as JsError, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::bytes;
use crate::error::{Error, Kind};
use crate::{Class, Detection, Detector, ImageView, Limits, Tracker};

/// Values per object in the result of [`Engine::detect`].
const ROW: usize = 7;

/// Tells the package that this module runs any network. The package checks whether the export exists; nobody calls it.
#[cfg(feature = "tract")]
#[wasm_bindgen(js_name = withTract)]
pub fn with_tract() {}

/// Address of the 32-bit counter on which helper threads sleep. It is odd while an image is processed. The scripts in
/// `pkg/` change it.
#[cfg(feature = "threads")]
#[wasm_bindgen(js_name = roundAddress)]
pub fn round_address() -> usize {
    crate::engine::round_address()
}

/// For helper threads: works on the image of the detecting thread until the counter is even. Member numbers start at 1.
#[cfg(feature = "threads")]
#[wasm_bindgen]
pub fn help(member: usize) {
    crate::engine::help(member);
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// A detector and its trackers, with the buffer that pixels are copied into.
#[wasm_bindgen]
pub struct Engine {
    detector: Detector,
    /// Each with the number of its video. There are few, and a map would add 5 kB of code.
    trackers: Vec<(u32, Tracker)>,
    pixels: Vec<u8>,
    /// The time when the network of the last picture had finished, by the clock of `performance`.
    ran: f64,
}

impl Engine {
    /// The tracker of a video; a new one if there is none.
    fn tracker(&mut self, video: u32) -> &mut Tracker {
        let known = self.trackers.iter().position(|(number, _)| *number == video);
        let at = known.unwrap_or_else(|| {
            self.trackers.push((video, Tracker::default()));
            self.trackers.len() - 1
        });
        &mut self.trackers[at].1
    }
}

#[wasm_bindgen]
impl Engine {
    /// Loads an ONNX model. Defaults: the model's own input size, one thread (the caller's), the crate's limits.
    ///
    /// # Errors
    ///
    /// Throws a JavaScript `Error` with the crate's error code as its `code`, as do all methods.
    #[wasm_bindgen(constructor)]
    pub fn new(
        onnx: &Uint8Array,
        input_width_px: Option<u32>,
        input_height_px: Option<u32>,
        threads: Option<u32>,
        memory_bytes: Option<f64>,
        nodes: Option<f64>,
        macs: Option<f64>,
    ) -> Result<Engine, JsError> {
        speak_when_panicking();
        let mut model = Vec::new();
        bytes::copy(onnx, &mut model).map_err(|message| js_error(Error::new(Kind::ModelTooLarge, message)))?;
        let mut limits = Limits::default();
        let wanted =
            [(memory_bytes, &mut limits.memory_bytes), (nodes, &mut limits.nodes), (macs, &mut limits.macs)];
        for (number, limit) in wanted {
            if let Some(number) = number {
                *limit = number as u64; // Saturates.
            }
        }
        let mut builder = Detector::builder().threads(threads.unwrap_or(1) as usize).limits(limits);
        if let (Some(width), Some(height)) = (input_width_px, input_height_px) {
            builder = builder.input_size(width, height);
        }
        let detector = builder.build(&model).map_err(js_error)?;
        Ok(Engine { detector, trackers: Vec::new(), pixels: Vec::new(), ran: 0.0 })
    }

    /// Which of the package's modules this is.
    #[wasm_bindgen(getter)]
    pub fn build(&self) -> String {
        match (cfg!(feature = "relaxed-simd"), cfg!(feature = "threads")) {
            (_, true) => "threads",
            (true, false) => "relaxed-simd",
            (false, false) => "simd128",
        }
        .to_owned()
    }

    /// The number of threads that compute, the caller's included.
    #[wasm_bindgen(getter)]
    pub fn threads(&self) -> u32 {
        self.detector.threads() as u32
    }

    /// The time of each step since the last call, as JSON; see `engine::profile`.
    #[cfg(feature = "profile")]
    pub fn profile(&self) -> String {
        crate::engine::profile::take()
    }

    /// The machine's peak in multiply-accumulates per second: float, int8.
    #[cfg(feature = "profile")]
    pub fn peaks(&self) -> Vec<f64> {
        crate::engine::profile::peaks().to_vec()
    }

    /// The width in pixels to which frames are scaled.
    #[wasm_bindgen(getter = inputWidth)]
    pub fn input_width(&self) -> u32 {
        self.detector.model().input_size().width
    }

    /// The height in pixels to which frames are scaled.
    #[wasm_bindgen(getter = inputHeight)]
    pub fn input_height(&self) -> u32 {
        self.detector.model().input_size().height
    }

    /// Names of the classes, in the order of their numbers.
    pub fn labels(&self) -> Vec<String> {
        self.detector.model().class_names().iter().map(ToString::to_string).collect()
    }

    /// Name, operator and reason of each node that tract runs, one after the other.
    #[cfg(feature = "tract")]
    pub fn foreign(&self) -> Vec<String> {
        let nodes = self.detector.model().foreign_nodes().iter();
        nodes.flat_map(|node| [&node.name, &node.operator, &node.reason]).cloned().collect()
    }

    /// Finds the objects in `width` x `height` pixels of straight RGBA.
    ///
    /// The result has seven values per object, best score first: class, score, x, y, width, height (these four in
    /// pixels), and the number of its track, or -1. Objects are tracked within one video, whose number is `track`.
    pub fn detect(
        &mut self,
        rgba: &Uint8Array,
        width: u32,
        height: u32,
        track: Option<u32>,
    ) -> Result<Vec<f32>, JsError> {
        bytes::copy(rgba, &mut self.pixels)
            .map_err(|message| js_error(Error::new(Kind::ImageTooLarge, message)))?;
        let found = ImageView::rgba(&self.pixels, width, height)
            .and_then(|image| self.detector.detect_in_steps(image, &mut || self.ran = now()));
        bytes::trim(&mut self.pixels);
        let found = found.map_err(js_error)?;
        let tracks = match track {
            Some(video) => self.tracker(video).update(&found),
            None => vec![None; found.len()],
        };
        Ok(rows(&found, &tracks))
    }

    /// The time when the network of the last picture had finished and decoding began, by `performance.now()`.
    #[wasm_bindgen(getter)]
    pub fn ran(&self) -> f64 {
        self.ran
    }

    /// Forgets the tracks of the video with the number `track`.
    #[wasm_bindgen(js_name = endTracks)]
    pub fn end_tracks(&mut self, track: u32) {
        self.trackers.retain(|(video, _)| *video != track);
    }

    /// Sets the minimum score of a detection, 0 to 1.
    #[wasm_bindgen(js_name = setScoreThreshold)]
    pub fn set_score_threshold(&mut self, score: f32) -> Result<(), JsError> {
        self.detector.set_score_threshold(score).map_err(js_error)
    }

    /// Sets the maximum overlap (IoU) of two detections of one class, 0 to 1.
    #[wasm_bindgen(js_name = setIouThreshold)]
    pub fn set_iou_threshold(&mut self, iou: f32) -> Result<(), JsError> {
        self.detector.set_iou_threshold(iou).map_err(js_error)
    }

    /// Sets the maximum number of detections per frame.
    #[wasm_bindgen(js_name = setMaxDetections)]
    pub fn set_max_detections(&mut self, count: u32) {
        self.detector.set_max_detections(count as usize);
    }

    /// Sets the classes to look for, labels and numbers mixed; `undefined` selects all.
    #[wasm_bindgen(js_name = setClasses)]
    pub fn set_classes(&mut self, classes: Option<Array>) -> Result<(), JsError> {
        let classes = match classes {
            Some(classes) => Some(classes.iter().map(class).collect::<Result<Vec<_>, _>>().map_err(js_error)?),
            None => None,
        };
        self.detector.set_classes(classes).map_err(js_error)
    }
}

fn class(value: JsValue) -> Result<Class, Error> {
    if let Some(label) = value.as_string() {
        return Ok(Class::Label(label));
    }
    match value.as_f64() {
        Some(index) if index >= 0.0 && index.fract() == 0.0 && index <= f64::from(u32::MAX) => {
            Ok(Class::Index(index as usize))
        }
        _ => Err(Error::new(Kind::InvalidOption, "a class is a label or a whole number from 0")),
    }
}

fn rows(found: &[Detection], tracks: &[Option<u64>]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(found.len() * ROW);
    for (Detection { class, score, bbox, .. }, track) in found.iter().zip(tracks) {
        let track = track.map_or(-1.0, |track| track as f32);
        rows.extend([*class as f32, *score, bbox.x, bbox.y, bbox.width, bbox.height, track]);
    }
    rows
}

/// Converts an error: the causes are appended to the message, and the code is a property.
fn js_error(error: Error) -> JsError {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    let js = JsError::new(&message);
    // Fails only on frozen objects, and this one is new.
    let _ = Reflect::set(&js, &"code".into(), &error.code().into());
    js
}

/// A panic ends in a trap, which JavaScript sees only as `unreachable`. This throws the message and the location of the
/// panic instead. The console gets both, with the call stack.
///
/// In either case the instance must not be used again. No input is known that causes a panic.
fn speak_when_panicking() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            console_error_panic_hook::hook(panic);
            wasm_bindgen::throw_str(&panic.to_string())
        }));
    });
}
