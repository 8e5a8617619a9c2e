//! The four steps in order: letterbox, network, decode, suppress.

use crate::decode::{self, Decoder, Want};
use crate::detection::{BoxXywh, Detection};
use crate::error::{Error, Kind, Result};
use crate::image::ImageView;
use crate::layout::OutputForm;
use crate::letterbox::Letterbox;
use crate::limits::Limits;
use crate::model::{Model, Session};
use crate::nms::{self, Candidate};
use crate::size::InputSize;

/// The default score threshold.
pub const DEFAULT_SCORE_THRESHOLD: f32 = 0.25;
/// The default threshold of the overlap (intersection over union) of two detections of one class.
pub const DEFAULT_IOU_THRESHOLD: f32 = 0.45;
/// The default maximum number of detections per image.
pub const DEFAULT_MAX_DETECTIONS: usize = 100;

/// A class, named by its number or its label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Class {
    /// The class's number, from 0.
    Index(usize),
    /// The class's name, exactly as the model has it.
    Label(String),
}

impl From<usize> for Class {
    fn from(index: usize) -> Class {
        Class::Index(index)
    }
}

impl From<&str> for Class {
    fn from(label: &str) -> Class {
        Class::Label(label.to_owned())
    }
}

impl From<String> for Class {
    fn from(label: String) -> Class {
        Class::Label(label)
    }
}

/// The options of a [`Detector`]. [`Detector::builder`] makes one, and [`build`](DetectorBuilder::build) checks the
/// values.
#[derive(Debug, Clone)]
pub struct DetectorBuilder {
    score_threshold: f32,
    iou_threshold: f32,
    max_detections: usize,
    classes: Option<Vec<Class>>,
    input_size: Option<InputSize>,
    multi_label: bool,
    threads: usize,
    limits: Limits,
}

impl Default for DetectorBuilder {
    fn default() -> DetectorBuilder {
        DetectorBuilder {
            score_threshold: DEFAULT_SCORE_THRESHOLD,
            iou_threshold: DEFAULT_IOU_THRESHOLD,
            max_detections: DEFAULT_MAX_DETECTIONS,
            classes: None,
            input_size: None,
            multi_label: false,
            threads: 1,
            limits: Limits::default(),
        }
    }
}

impl DetectorBuilder {
    /// The minimum score of a detection, 0 to 1. Default: [`DEFAULT_SCORE_THRESHOLD`].
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.score_threshold = score;
        self
    }

    /// The maximum overlap (intersection over union) of two detections of one class, 0 to 1. Of two that overlap more,
    /// the one with the lower score is dropped. Default: [`DEFAULT_IOU_THRESHOLD`]. It has no effect on models with NMS
    /// inside the network.
    pub fn iou_threshold(mut self, iou: f32) -> Self {
        self.iou_threshold = iou;
        self
    }

    /// The maximum number of detections per image. Those with the best scores are kept. Default:
    /// [`DEFAULT_MAX_DETECTIONS`].
    pub fn max_detections(mut self, count: usize) -> Self {
        self.max_detections = count;
        self
    }

    /// The classes to look for, by number or by label. Default: all.
    ///
    /// ```
    /// # use micro_yolo::Detector;
    /// let cats_and_dogs = Detector::builder().classes(["cat", "dog"]);
    /// let people = Detector::builder().classes([0]);
    /// ```
    pub fn classes<C: Into<Class>>(mut self, classes: impl IntoIterator<Item = C>) -> Self {
        self.classes = Some(classes.into_iter().map(Into::into).collect());
        self
    }

    /// The size in pixels to which images are scaled, multiples of 32. Default: what the model declares. Smaller is
    /// faster, larger finds smaller objects.
    pub fn input_size(mut self, width_px: u32, height_px: u32) -> Self {
        self.input_size = Some(InputSize { width: width_px, height: height_px });
        self
    }

    /// Whether one cell of the network's output may give several detections, one per class that reaches the score
    /// threshold. Default: false, only the best class, which suits users. Average precision is usually measured with
    /// true, because extra classes with low scores do not reduce it.
    pub fn multi_label(mut self, multi_label: bool) -> Self {
        self.multi_label = multi_label;
        self
    }

    /// The number of threads that compute, the caller's included. Default: 1. Values above 16 have no further effect.
    /// The other threads keep their cores busy while an image is processed, sleep otherwise, and end with the detector.
    ///
    /// This is an upper limit. [`Detector::threads`] says how many there are. Networks that tract runs use one thread.
    /// So does WebAssembly, except in a build with the feature `threads`, for which the npm package starts the other
    /// threads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// What the model may use of memory and work. Default: [`Limits::default`], which is enough for large detectors and
    /// refuses files that are made to exhaust memory.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Loads the model and creates the detector.
    ///
    /// # Errors
    ///
    /// `invalid-option` for a threshold that is NaN or outside 0 to 1, a class that the model does not have, 0 threads
    /// or an invalid input size; for the model, the errors of [`Model::from_onnx`].
    pub fn build(&self, onnx: &[u8]) -> Result<Detector> {
        // Before the model: a wrong threshold should not take a second to be found.
        check_fraction("score_threshold", self.score_threshold)?;
        check_fraction("iou_threshold", self.iou_threshold)?;
        self.check_threads()?;
        self.build_with_model(&Model::load(onnx, self.input_size, &self.limits)?)
    }

    /// Creates a detector for a model that is already loaded. Several detectors can share the weights of one model.
    ///
    /// # Errors
    ///
    /// `invalid-option` as in [`build`](DetectorBuilder::build), and if [`input_size`](DetectorBuilder::input_size) was
    /// set to another size than that of the loaded model.
    pub fn build_with_model(&self, model: &Model) -> Result<Detector> {
        if let Some(asked) = self.input_size.filter(|&asked| asked != model.input_size()) {
            let message = format!("the model is loaded for {} px, not for {asked} px", model.input_size());
            return Err(Error::new(Kind::InvalidOption, message));
        }
        self.check_threads()?;
        let mut detector = Detector {
            session: model.session(self.threads)?,
            model: model.clone(),
            score_threshold: DEFAULT_SCORE_THRESHOLD,
            iou_threshold: DEFAULT_IOU_THRESHOLD,
            max_detections: self.max_detections,
            classes: None,
            multi_label: self.multi_label,
            letterbox: Letterbox::default(),
            decoder: Decoder::default(),
            candidates: Vec::new(),
        };
        detector.set_score_threshold(self.score_threshold)?;
        detector.set_iou_threshold(self.iou_threshold)?;
        if let Some(classes) = &self.classes {
            detector.set_classes(Some(classes.iter().cloned()))?;
        }
        Ok(detector)
    }

    fn check_threads(&self) -> Result<()> {
        if self.threads == 0 {
            return Err(Error::new(Kind::InvalidOption, "threads is 0: the caller's own is one"));
        }
        Ok(())
    }
}

/// Finds objects in images: a loaded model with its options and buffers.
///
/// Detecting needs `&mut self` because buffers are reused from image to image. To detect in several threads, create one
/// detector for each from one [`Model`].
#[derive(Debug)]
pub struct Detector {
    model: Model,
    session: Session,
    score_threshold: f32,
    iou_threshold: f32,
    max_detections: usize,
    /// One flag per class; `None` means all classes.
    classes: Option<Vec<bool>>,
    multi_label: bool,
    letterbox: Letterbox,
    decoder: Decoder,
    candidates: Vec<Candidate>,
}

impl Detector {
    /// Creates a detector with default options.
    ///
    /// # Errors
    ///
    /// Those of [`Model::from_onnx`].
    pub fn from_onnx(onnx: &[u8]) -> Result<Detector> {
        Detector::builder().build(onnx)
    }

    /// A builder to set options before the model is loaded.
    pub fn builder() -> DetectorBuilder {
        DetectorBuilder::default()
    }

    /// Finds the objects in `image`, best score first.
    ///
    /// # Errors
    ///
    /// `inference-failed` if the network fails while it runs, or gives scores that are NaN or above 1, or boxes that
    /// are NaN. The image itself cannot cause an error here: it was checked when the [`ImageView`] was created.
    pub fn detect(&mut self, image: ImageView<'_>) -> Result<Vec<Detection>> {
        self.detect_in_steps(image, &mut || {})
    }

    /// [`detect`](Detector::detect), which calls `ran` after the network has run and before the boxes are decoded.
    pub(crate) fn detect_in_steps(
        &mut self,
        image: ImageView<'_>,
        ran: &mut dyn FnMut(),
    ) -> Result<Vec<Detection>> {
        let InputSize { width, height } = self.model.input_size();
        let input = self.session.input()?;
        let placement = phase("letterbox", || self.letterbox.fill(image, (width, height), input));
        let outputs = phase("network", || self.session.run())?;
        ran();
        let want = Want {
            score_min: self.score_threshold,
            classes: self.classes.as_deref(),
            multi_label: self.multi_label,
        };
        let layout = self.model.layout();
        phase("decode", || self.decoder.decode(layout, &outputs, want, &mut self.candidates))?;
        phase("suppress", || {
            if layout.form == OutputForm::EndToEnd {
                nms::best(&mut self.candidates, self.max_detections);
            } else {
                nms::suppress(&mut self.candidates, self.iou_threshold, self.max_detections);
            }
        });
        let found = self.candidates.iter().map(|candidate| (candidate, placement.back_to_frame(candidate.bbox)));
        Ok(found
            // A box that lies completely in the grey border has no area in the frame.
            .filter(|(_, bbox)| bbox.has_area())
            .map(|(candidate, bbox)| Detection {
                class: candidate.class as usize,
                label: self.model.label(candidate.class as usize),
                score: candidate.score,
                bbox: BoxXywh::from(bbox),
            })
            .collect())
    }

    /// The class scores of all cells before thresholds and NMS, `[C, N]`; `[N]` for an end-to-end model.
    ///
    /// `input` is what the network reads: `[3, H, W]` of [`Model::input_size`], RGB in 0–1.
    ///
    /// # Errors
    ///
    /// `invalid-image` if `input` has another length, `inference-failed` if the network fails while it runs.
    #[doc(hidden)]
    pub fn scores(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        let place = self.session.input()?;
        if place.len() != input.len() {
            let message = format!("{} numbers for an input of {}", input.len(), place.len());
            return Err(Error::new(Kind::InvalidImage, message));
        }
        place.copy_from_slice(input);
        Ok(decode::scores(self.model.layout(), &self.session.run()?))
    }

    /// The number of threads that compute, the caller's included: what [`DetectorBuilder::threads`] asked for, or
    /// fewer.
    pub fn threads(&self) -> usize {
        self.session.threads()
    }

    /// The model: its input size, class names and metadata.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The minimum score of a detection.
    pub fn score_threshold(&self) -> f32 {
        self.score_threshold
    }

    /// Sets the minimum score of a detection, from the next image on.
    ///
    /// # Errors
    ///
    /// `invalid-option` if it is NaN or outside 0 to 1; the old value stays.
    pub fn set_score_threshold(&mut self, score: f32) -> Result<()> {
        self.score_threshold = check_fraction("score_threshold", score)?;
        Ok(())
    }

    /// The maximum overlap (intersection over union) of two detections of one class.
    pub fn iou_threshold(&self) -> f32 {
        self.iou_threshold
    }

    /// Sets the maximum overlap (intersection over union) of two detections of one class, from the next image on.
    ///
    /// # Errors
    ///
    /// `invalid-option` if it is NaN or outside 0 to 1; the old value stays.
    pub fn set_iou_threshold(&mut self, iou: f32) -> Result<()> {
        self.iou_threshold = check_fraction("iou_threshold", iou)?;
        Ok(())
    }

    /// The maximum number of detections per image.
    pub fn max_detections(&self) -> usize {
        self.max_detections
    }

    /// Sets the maximum number of detections per image, from the next image on.
    pub fn set_max_detections(&mut self, count: usize) {
        self.max_detections = count;
    }

    /// Sets the classes to look for, by number or by label, from the next image on; `None` looks for all.
    ///
    /// ```no_run
    /// # let mut detector = micro_yolo::Detector::from_onnx(&[])?;
    /// detector.set_classes(Some(["cat", "dog"]))?;
    /// // All again. The compiler asks for a type.
    /// detector.set_classes(None::<[usize; 0]>)?;
    /// # Ok::<(), micro_yolo::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `invalid-option` if the model does not have one of them; the old choice stays.
    pub fn set_classes<C: Into<Class>>(&mut self, classes: Option<impl IntoIterator<Item = C>>) -> Result<()> {
        let Some(classes) = classes else {
            self.classes = None;
            return Ok(());
        };
        let names = self.model.class_names();
        let mut flags = vec![false; names.len()];
        for class in classes {
            let index = match class.into() {
                // If the model does not say how many classes it has, any number is allowed.
                Class::Index(index) if names.is_empty() && index < MAX_UNNAMED_CLASSES => {
                    flags.resize(flags.len().max(index + 1), false);
                    index
                }
                Class::Index(index) if index < names.len() => index,
                Class::Index(index) => {
                    let message = format!("there is no class {index}; the model has {}", names.len());
                    return Err(Error::new(Kind::InvalidOption, message));
                }
                Class::Label(label) => names.iter().position(|name| **name == *label).ok_or_else(|| {
                    let known = names.iter().take(8).map(|name| &**name).collect::<Vec<_>>().join(", ");
                    let more = if names.len() > 8 { ", …" } else { "" };
                    Error::new(
                        Kind::InvalidOption,
                        format!("there is no class {label:?}; the model has {}: {known}{more}", names.len()),
                    )
                })?,
            };
            flags[index] = true;
        }
        self.classes = Some(flags);
        Ok(())
    }
}

/// Upper limit of class numbers if the model does not say how many classes it has.
const MAX_UNNAMED_CLASSES: usize = 1 << 16;

/// Runs a part of [`Detector::detect`], with time measurement if the feature `profile` is on.
fn phase<R>(name: &str, f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "profile")]
    return crate::engine::profile::timed(name.to_owned(), 0, f);
    #[cfg(not(feature = "profile"))]
    {
        let _ = name;
        f()
    }
}

fn check_fraction(name: &str, value: f32) -> Result<f32> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::new(Kind::InvalidOption, format!("{name} is {value}; it must be from 0 to 1")))
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;

    fn onnx() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/forms/class-rows.onnx");
        std::fs::read(path).unwrap()
    }

    #[test]
    fn detectors_can_move_to_another_thread() {
        fn check<T: Send>() {}
        fn check_shared<T: Send + Sync>() {}
        check::<Detector>();
        check_shared::<Model>();
        check_shared::<DetectorBuilder>();
    }

    #[test]
    fn the_input_is_used_again() {
        let mut detector = Detector::from_onnx(&onnx()).unwrap();
        let input = detector.session.input().unwrap().as_ptr();
        for side in [1, 2, 3] {
            let pixels = vec![50; 3 * side * side];
            detector.detect(ImageView::rgb(&pixels, side as u32, side as u32).unwrap()).unwrap();
            assert_eq!(detector.session.input().unwrap().as_ptr(), input);
        }
    }

    #[test]
    fn classes_by_number_and_by_label() {
        let mut detector = Detector::builder().classes(["cat", "café"]).build(&onnx()).unwrap();
        assert_eq!(detector.classes, Some(vec![false, true, false, false, true]));
        detector.set_classes(Some([0, 3])).unwrap();
        assert_eq!(detector.classes, Some(vec![true, false, false, true, false]));
        assert!(detector.set_classes(Some([Class::Index(0), Class::from("dog")])).is_err());
        assert_eq!(
            detector.classes,
            Some(vec![true, false, false, true, false]),
            "a refused choice changes nothing"
        );
        detector.set_classes(Some(Vec::<usize>::new())).unwrap();
        assert_eq!(detector.classes, Some(vec![false; 5]), "none at all");
        detector.set_classes(None::<[usize; 0]>).unwrap();
        assert_eq!(detector.classes, None);
    }
}
