//! Loads ONNX bytes as a network that can run.

mod network;
/// Recognises the forms of whole outputs, which occur only with tract.
#[cfg(feature = "tract")]
mod output;

use std::fmt;
use std::sync::Arc;

use crate::engine;
use crate::error::{Error, Kind, Result};
use crate::layout::{Layout, OutputForm};
use crate::limits::{Budget, Limits, product};
use crate::lower::ForeignNode;
use crate::lower::head::{self, NotAlone, UpToHead};
use crate::onnx::{self, File, Metadata, input};
use crate::size::InputSize;
#[cfg(feature = "tract")]
use crate::tract;
use network::Network;
pub(crate) use network::Session;

/// A detector network, loaded and planned for one input size. Cloning is cheap, because clones share the weights.
///
/// # What a model file must be
///
/// ONNX, operator set 9 or later, weights inside the file, with
/// - one input, `f32` or `f16`, `[1, 3, H, W]`, red, green, blue in 0 to 1, letterboxed on 114/255;
/// - one output, `f32` or `f16`, in one of the three forms of [`OutputForm`]; further outputs are ignored.
///
/// A network in `f16` is computed in `f32`.
///
/// If the file leaves H or W open, it is taken from [`with_input_size`](Model::with_input_size) or from `imgsz` in the
/// metadata.
///
/// `metadata_props` are read as Ultralytics writes them. `names` (JSON or a Python literal) contains the class names.
/// Without it, classes are numbered.
#[derive(Clone)]
pub struct Model {
    network: Network,
    input_size: InputSize,
    layout: Arc<Layout>,
    names: Arc<[Arc<str>]>,
    metadata: Arc<Metadata>,
    foreign: Arc<[ForeignNode]>,
}

impl Model {
    /// Loads a model at the input size it declares.
    ///
    /// # Errors
    ///
    /// `invalid-model` if the bytes are not an intact ONNX file, `unsupported-model` if the network is not a detector
    /// as [described](Model), `unsupported-operator` if it has an operator that neither the engine nor tract supports,
    /// `needs-tract` if only tract could run it and this build lacks tract, `model-too-large` if it needs more than the
    /// default [`Limits`].
    pub fn from_onnx(onnx: &[u8]) -> Result<Model> {
        Model::load(onnx, None, &Limits::default())
    }

    /// Loads a model for another input size. Smaller is faster, larger finds smaller objects.
    ///
    /// This works if the graph computes its shapes, as the models of this project do. A file with fixed shapes inside
    /// gives an error.
    ///
    /// # Errors
    ///
    /// As [`from_onnx`](Model::from_onnx), and `invalid-option` if a side is not a multiple of 32 from 32 to 4,096.
    pub fn with_input_size(onnx: &[u8], size: InputSize) -> Result<Model> {
        Model::load(onnx, Some(size), &Limits::default())
    }

    /// Loads a model within `limits`, at the input size that it declares or at `size`.
    ///
    /// # Errors
    ///
    /// As [`from_onnx`](Model::from_onnx) and [`with_input_size`](Model::with_input_size).
    pub fn with_limits(onnx: &[u8], size: Option<InputSize>, limits: &Limits) -> Result<Model> {
        Model::load(onnx, size, limits)
    }

    pub(crate) fn load(onnx: &[u8], size: Option<InputSize>, limits: &Limits) -> Result<Model> {
        if let Some(size) = size {
            check_size_option(size)?;
        }
        contain_panics(Kind::UnsupportedModel, || Model::load_unguarded(onnx, size, limits))
    }

    fn load_unguarded(onnx: &[u8], size: Option<InputSize>, limits: &Limits) -> Result<Model> {
        let mut budget = Budget::new(limits);
        let file = onnx::read(onnx, &mut budget)?;
        let names = file.metadata.class_names()?;
        if let Some(task) = file.metadata.task.as_deref().filter(|task| *task != "detect") {
            let message = format!("the model's task is {task:?}; this crate runs \"detect\" models");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
        let input_size = input::size(&file.graph, size, file.metadata.imgsz)?;
        budget.take(product(&[3, input_size.width as usize, input_size.height as usize, 4]), "")?;
        let has_names = |classes: usize| names.as_ref().is_none_or(|names| names.len() == classes);
        let suppressed = file.metadata.end_to_end == Some(true);
        // A copy: if the engine does not run the network alone, the network is loaded in another way and counted again.
        let mut alone = budget.clone();
        let loaded = match head::up_to_head(&file, file.metadata.head().as_ref(), input_size, &mut alone) {
            Ok(UpToHead { net, shape, parts }) if has_names(shape[1] - 4) && !suppressed => {
                let network = engine::Network::new(net);
                alone.take(network.memory_bytes(), "")?;
                Loaded {
                    network: Network::Engine(network),
                    layout: Layout { form: OutputForm::ClassRows, columns: shape[2], parts: Some(parts) },
                    classes: Some(shape[1] - 4),
                    foreign: Vec::new(),
                }
            }
            Err(NotAlone::TooLarge(error)) => return Err(error),
            other => {
                let reason = if suppressed {
                    "the file says that it suppresses overlapping boxes itself"
                } else {
                    "its classes are not those that the file names"
                };
                let why = other.err().unwrap_or(NotAlone::Head(reason));
                whole(&file, names.as_deref(), input_size, size, why, &mut budget)?
            }
        };
        let Loaded { network, layout, classes, foreign } = loaded;
        let names = match (names, classes) {
            (Some(names), _) => names,
            (None, Some(classes)) => (0..classes).map(|class| class.to_string().into()).collect(),
            (None, None) => Vec::new(),
        };
        Ok(Model {
            network,
            input_size,
            layout: Arc::new(layout),
            names: names.into(),
            metadata: Arc::new(file.metadata),
            foreign: foreign.into(),
        })
    }

    /// The size to which images are scaled before the network runs.
    pub fn input_size(&self) -> InputSize {
        self.input_size
    }

    /// The names of the classes, in the order of their numbers. If the file has no names, these are the numbers as
    /// text. Empty if the file has no names and its output is [`OutputForm::EndToEnd`], which does not show the number
    /// of classes.
    pub fn class_names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The form of the network's output.
    pub fn output_form(&self) -> OutputForm {
        self.layout.form
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The nodes that tract runs because the engine does not support them, each with the reason. Empty if the engine
    /// runs the whole network, which is several times as fast.
    pub fn foreign_nodes(&self) -> &[ForeignNode] {
        &self.foreign
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The name of class `class`, or its number if it has no name.
    pub(crate) fn label(&self, class: usize) -> Arc<str> {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string().into())
    }

    pub(crate) fn session(&self, threads: usize) -> Result<Session> {
        contain_panics(Kind::UnsupportedModel, || self.network.session(self.input_size, threads))
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

/// A network and what is known about its output.
struct Loaded {
    network: Network,
    layout: Layout,
    /// The number of classes, if the output shows it.
    classes: Option<usize>,
    foreign: Vec<ForeignNode>,
}

/// Loads the whole graph of the file, including the head.
#[cfg(feature = "tract")]
fn whole(
    file: &File,
    names: Option<&[Arc<str>]>,
    input: InputSize,
    asked: Option<InputSize>,
    _: NotAlone,
    budget: &mut Budget<'_>,
) -> Result<Loaded> {
    let (network, shape, foreign) = tract::load(file, input, budget).map_err(|error| match asked {
        Some(_) if error.code() == "unsupported-model" => {
            error.with_hint("another input size was asked for; some files work at their own only")
        }
        _ => error,
    })?;
    let (form, classes) = output::recognise(&file.output(), &shape, names, input, file.metadata.end_to_end)?;
    let layout = Layout { form, columns: shape[2], parts: None };
    Ok(Loaded { network: Network::Divided(network), layout, classes, foreign })
}

/// Without tract, a network can run on the engine alone or not at all.
#[cfg(not(feature = "tract"))]
fn whole(
    _: &File,
    _: Option<&[Arc<str>]>,
    _: InputSize,
    _: Option<InputSize>,
    why: NotAlone,
    _: &mut Budget<'_>,
) -> Result<Loaded> {
    let why = match why {
        NotAlone::Node(node) => node.to_string(),
        NotAlone::Head(what) => format!("the metadata `{}` is not so: {what}", onnx::head::KEY),
        NotAlone::TooLarge(error) => return Err(error),
        NotAlone::NoHead => format!("it has no metadata `{}`", onnx::head::KEY),
    };
    let message = format!("the engine does not run this network alone, and this build has no tract: {why}");
    Err(Error::new(Kind::NeedsTract, message))
}

fn check_size_option(size: InputSize) -> Result<()> {
    let fits = |side: u32| side.is_multiple_of(32) && (32..=input::MAX_INPUT_SIDE_PX).contains(&side);
    if fits(size.width) && fits(size.height) {
        return Ok(());
    }
    let message = format!(
        "an input of {size} px was asked for; both sides must be multiples of 32 from 32 to {}",
        input::MAX_INPUT_SIDE_PX
    );
    Err(Error::new(Kind::InvalidOption, message))
}

/// A last safeguard: where panics unwind, a panic in the runtime becomes an error of `kind`. On wasm a panic aborts. So
/// damaged files are refused in [`onnx`] and wherever values are read; this catches what these checks missed.
#[cfg(panic = "unwind")]
fn contain_panics<T>(kind: Kind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::new(kind, format!("the runtime gave up on this network: {words}")))
    })
}

#[cfg(not(panic = "unwind"))]
fn contain_panics<T>(_: Kind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests;
