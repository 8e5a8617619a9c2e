//! ONNX bytes → a plan that runs.

mod answer;
mod import;
mod metadata;
mod names;
mod output;
mod pb;
mod plan;
mod validate;

use std::fmt;
use std::sync::Arc;

use prost::Message;
use tract_core::prelude::*;

use crate::decode::{Layout, OutputForm};
use crate::error::{Error, Kind, Result};
pub use metadata::Metadata;

/// Width and height of a network's input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputSize {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// A detector network, loaded and planned for one input size. Cloning is cheap: clones share the weights.
///
/// # What a model file must be
///
/// ONNX, operator set 9 or later, weights inside the file, with
/// - one input, `f32` `[1, 3, H, W]`, red, green, blue in 0 to 1, letterboxed on 114/255;
/// - one output (more are ignored), `f32`, in one of the three forms of [`OutputForm`].
///
/// An input side that the file leaves open is taken from [`with_input_size`](Model::with_input_size) or from
/// the `imgsz` of its metadata.
///
/// `metadata_props` are read as Ultralytics writes them; `names` (JSON or a Python literal) gives the class
/// names. Without names classes are numbered.
#[derive(Clone)]
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    input_size: InputSize,
    layout: Arc<Layout>,
    names: Arc<[Arc<str>]>,
    metadata: Arc<Metadata>,
}

impl Model {
    /// Loads a model at the input size it declares.
    ///
    /// # Errors
    ///
    /// `invalid-model` if the bytes are no intact ONNX file, `unsupported-model` if the network is no detector
    /// as described [above](Model), `unsupported-operator` if it has an operator that the runtime lacks.
    pub fn from_onnx(onnx: &[u8]) -> Result<Model> {
        Model::load(onnx, None)
    }

    /// Loads a model for another input size: smaller is faster, larger sees smaller objects.
    ///
    /// Works where the graph computes its shapes, as the models of this project do; a file with fixed shapes
    /// inside gives an error.
    ///
    /// # Errors
    ///
    /// As [`from_onnx`](Model::from_onnx), and `invalid-option` if a side is no multiple of 32 or not in 32 to
    /// 4,096.
    pub fn with_input_size(onnx: &[u8], size: InputSize) -> Result<Model> {
        Model::load(onnx, Some(size))
    }

    pub(crate) fn load(onnx: &[u8], size: Option<InputSize>) -> Result<Model> {
        if let Some(size) = size {
            check_size_option(size)?;
        }
        contain_panics(|| Model::load_unguarded(onnx, size))
    }

    fn load_unguarded(onnx: &[u8], size: Option<InputSize>) -> Result<Model> {
        if onnx.is_empty() {
            return Err(Error::new(Kind::InvalidModel, "the model is empty (0 bytes)"));
        }
        let proto = pb::ModelProto::decode(onnx).map_err(|error| {
            let message = format!("these {} bytes are no intact ONNX file", onnx.len());
            Error::new(Kind::InvalidModel, message).with_source(error)
        })?;
        validate::validate(&proto)?;
        let metadata = Metadata::read(&proto);
        let names = metadata.class_names()?;
        if let Some(task) = metadata.task.as_deref().filter(|task| *task != "detect") {
            let message = format!("the model's task is {task:?}; this crate runs \"detect\" models");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }

        let Some(graph) = &proto.graph else {
            return Err(Error::new(Kind::InvalidModel, "the model has no graph"));
        };
        let input_size = plan::input_size(graph, size, metadata.imgsz)?;
        let mut typed = import::import(&proto, input_size).map_err(|error| match size {
            Some(_) => error.with_hint("another input size was asked for; some files work at their own only"),
            None => error,
        })?;
        // The weights are in `typed` by now.
        drop(proto);
        let shape = plan::output_shape(&typed)?;
        let (form, classes) = output::recognise(&shape, names.as_deref(), input_size, metadata.end_to_end)?;
        let names = match (names, classes) {
            (Some(names), _) => names,
            (None, Some(classes)) => (0..classes).map(|class| class.to_string().into()).collect(),
            (None, None) => Vec::new(),
        };
        let mut parts = match form {
            // A build on tract alone runs what the file says.
            OutputForm::ClassRows if !cfg!(feature = "stock") => answer::take_apart(&mut typed)
                .map_err(|error| plan::failed("the end of the network cannot be changed", error))?,
            _ => None,
        };
        Ok(Model {
            plan: plan::runnable(typed, parts.as_mut())?,
            input_size,
            layout: Arc::new(Layout { form, columns: shape[2], parts }),
            names: names.into(),
            metadata: Arc::new(metadata),
        })
    }

    /// The size frames are scaled to before the network sees them.
    pub fn input_size(&self) -> InputSize {
        self.input_size
    }

    /// The names of the classes, in the order of their numbers. Without names in the file, the numbers; empty
    /// where an already suppressed output (`[1, M, 6]`) does not even tell how many there are.
    pub fn class_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// How the network lays its answer out.
    pub fn output_form(&self) -> OutputForm {
        self.layout.form
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The name of class `class`, its number where it has none.
    pub(crate) fn label(&self, class: usize) -> Arc<str> {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string().into())
    }

    pub(crate) fn session(&self) -> Result<Session> {
        contain_panics(|| {
            let state = self.plan.spawn().map_err(|error| {
                Error::new(Kind::UnsupportedModel, "the network could not be made ready to run")
                    .with_source(error.into_boxed_dyn_error())
            })?;
            Ok(Session { state })
        })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("input_size", &self.input_size)
            .field("output_form", &self.layout.form)
            .field("classes", &self.names.len())
            .finish_non_exhaustive()
    }
}

/// A running model: its plan with the buffers of one caller.
#[derive(Debug)]
pub(crate) struct Session {
    state: TypedSimpleState,
}

impl Session {
    /// Runs the network on `[1, 3, H, W]`; gives what [`Layout`] says.
    pub fn run(&mut self, input: TValue) -> Result<TVec<TValue>> {
        contain_panics(|| {
            let failed = |error: TractError| {
                Error::new(Kind::Inference, "the network failed while running")
                    .with_source(error.into_boxed_dyn_error())
            };
            self.state.run(tvec!(input)).map_err(failed)
        })
    }
}

fn check_size_option(size: InputSize) -> Result<()> {
    let fits = |side: u32| side.is_multiple_of(32) && (32..=plan::MAX_INPUT_SIDE_PX).contains(&side);
    if fits(size.width) && fits(size.height) {
        return Ok(());
    }
    let message = format!(
        "an input of {size} px was asked for; both sides must be multiples of 32 from 32 to {}",
        plan::MAX_INPUT_SIDE_PX
    );
    Err(Error::new(Kind::InvalidOption, message))
}

/// The last line of defence: a panic inside the runtime becomes an error where panics unwind. On wasm they
/// abort, so what a damaged file can do is caught in `validate` and `plan`; this is for what they missed.
#[cfg(panic = "unwind")]
fn contain_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::new(Kind::UnsupportedModel, format!("the runtime gave up on this network: {words}")))
    })
}

#[cfg(not(panic = "unwind"))]
fn contain_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
#[cfg(not(feature = "stock"))]
mod tests {
    use super::*;

    /// What loading and running owe their speed to.
    #[test]
    fn of_the_released_models_nothing_is_left_to_tract() {
        for file in ["micro-yolo", "micro-yolo-int8", "micro-yolo-s", "micro-yolo-s-int8"] {
            let onnx = std::fs::read(format!("{}/models/{file}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let model = Model::from_onnx(&onnx).unwrap();
            let operators = model.plan.model().nodes().iter().map(|node| node.op.name().into_owned());
            assert_eq!(operators.collect::<Vec<_>>(), ["Source", "MicroYoloRegion"], "{file}");
            assert!(model.layout().parts.as_ref().is_some_and(|parts| parts.pixels), "{file}");
        }
    }
}
