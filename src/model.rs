//! ONNX bytes → a plan that runs.

#[cfg(feature = "tract")]
mod answer;
#[cfg(feature = "tract")]
mod graph;
pub(crate) mod head;
#[cfg(feature = "tract")]
mod import;
mod input;
mod metadata;
mod names;
mod network;
mod output;
pub(crate) mod pb;
pub(crate) mod tensor;
mod validate;

use std::fmt;
use std::sync::Arc;

use prost::Message;

use crate::decode::{Layout, OutputForm};
use crate::engine;
use crate::error::{Error, Kind, Result};
pub use metadata::Metadata;
use network::Network;
pub(crate) use network::Session;

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
    network: Network,
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
        let input_size = input::size(graph, size, metadata.imgsz)?;
        let recognise =
            |shape: &[usize]| output::recognise(shape, names.as_deref(), input_size, metadata.end_to_end);
        let (opset, head) = (validate::opset(&proto).unwrap_or(0), metadata.head());
        let network = match engine::Network::read(graph, opset, input_size, head.as_ref()) {
            Some((network, shape, parts)) => match recognise(&shape)? {
                (OutputForm::ClassRows, classes) => {
                    let layout = Layout { form: OutputForm::ClassRows, columns: shape[2], parts: Some(parts) };
                    Some((Network::Engine(network), layout, classes))
                }
                _ => None,
            },
            None => None,
        };
        let (network, layout, classes) = match network {
            Some(network) => network,
            #[cfg(feature = "tract")]
            None => {
                let graph = graph::Graph::read(&proto, input_size).map_err(|error| match size {
                    Some(_) => {
                        error.with_hint("another input size was asked for; some files work at their own only")
                    }
                    None => error,
                })?;
                // The weights are in `graph` by now.
                drop(proto);
                let (form, classes) = recognise(&graph.shape)?;
                let columns = graph.shape[2];
                let (plan, parts) = graph.runnable(form)?;
                (Network::Tract(plan), Layout { form, columns, parts }, classes)
            }
            #[cfg(not(feature = "tract"))]
            None => {
                let message = "the network has more than the engine runs by itself; it needs the build with tract";
                return Err(Error::new(Kind::NeedsTract, message));
            }
        };
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

    pub(crate) fn session(&self, threads: usize) -> Result<Session> {
        contain_panics(|| self.network.session(self.input_size, threads))
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

/// The last line of defence: a panic inside the runtime becomes an error where panics unwind. On wasm they
/// abort, so what a damaged file can do is caught in `validate` and where it is read; this is for what they missed.
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

    const RELEASED: [&str; 4] = ["micro-yolo", "micro-yolo-int8", "micro-yolo-s", "micro-yolo-s-int8"];

    /// Those whose head tract leaves to the decoder as well. Of distributions it computes the expectation, as the file says.
    #[cfg(feature = "tract")]
    const ANCHOR_FREE: [&str; 2] = ["micro-yolo-s", "micro-yolo-s-int8"];

    fn released(file: &str) -> Vec<u8> {
        std::fs::read(format!("{}/models/{file}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_released_models_run_on_the_engine_alone() {
        if crate::is_packaged() {
            return;
        }
        for file in RELEASED {
            let model = Model::from_onnx(&released(file)).unwrap();
            assert!(matches!(model.network, Network::Engine(_)), "{file}");
        }
        // The one that `tests/fuzz` changes.
        let onnx = include_bytes!("../tests/fixtures/every-form-int8.onnx");
        let model = Model::from_onnx(onnx).unwrap();
        assert!(matches!(model.network, Network::Engine(_)), "every form");
    }

    /// The same model, read by way of tract.
    #[cfg(feature = "tract")]
    fn through_tract(onnx: &[u8], model: &Model) -> Model {
        let proto = pb::ModelProto::decode(onnx).unwrap();
        let graph = graph::Graph::read(&proto, model.input_size).unwrap();
        let (form, columns) = (model.layout.form, graph.shape[2]);
        let (plan, parts) = graph.runnable(form).unwrap();
        let layout = Arc::new(Layout { form, columns, parts });
        Model { network: Network::Tract(plan), layout, ..model.clone() }
    }

    /// What else tract is given is quick for the same reasons.
    #[test]
    #[cfg(feature = "tract")]
    fn of_the_released_models_nothing_is_left_to_tract() {
        if crate::is_packaged() {
            return;
        }
        for file in ANCHOR_FREE {
            let onnx = released(file);
            let model = through_tract(&onnx, &Model::from_onnx(&onnx).unwrap());
            let Network::Tract(plan) = &model.network else { panic!("{file} is not tract's") };
            let operators = plan.model().nodes().iter().map(|node| node.op.name().into_owned());
            assert_eq!(operators.collect::<Vec<_>>(), ["Source", "MicroYoloRegion"], "{file}");
            assert!(model.layout().parts.as_ref().is_some_and(|parts| parts.pixels), "{file}");
        }
    }

    #[test]
    #[cfg(feature = "tract")]
    fn both_ways_of_reading_give_the_same_network() {
        if crate::is_packaged() {
            return;
        }
        for (file, side) in ANCHOR_FREE.into_iter().flat_map(|file| [(file, 96), (file, 160)]) {
            let onnx = released(file);
            let size = InputSize { width: side, height: 128 };
            let direct = Model::with_input_size(&onnx, size).unwrap();
            assert!(matches!(direct.network, Network::Engine(_)), "{file}");
            let other = through_tract(&onnx, &direct);
            assert_eq!(direct.layout.parts, other.layout.parts, "{file}");
            assert_eq!(direct.layout.columns, other.layout.columns, "{file}");
            let mut sessions = [direct.session(1).unwrap(), other.session(1).unwrap()];
            let outputs = sessions.each_mut().map(|session| {
                for (i, value) in session.input().unwrap().iter_mut().enumerate() {
                    *value = 0.5 + 0.5 * (i as f32 * 0.013).sin();
                }
                session.run().unwrap().concat()
            });
            let [direct, other] = &outputs;
            assert_eq!(direct.len(), other.len(), "{file}");
            let off = direct.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The file's scales, and the same found again from rounded products, differ in their last bit.
            let most = if file.ends_with("int8") { 0.3 } else { 0.0 };
            assert!(off <= most, "{file} at {side} px: off by {off}");
        }
    }

    const DISTRIBUTION: [&[u8]; 2] = [
        include_bytes!("../compress/tests/export/distribution.onnx"),
        include_bytes!("../tests/fixtures/distribution-int8.onnx"),
    ];

    /// What a model finds in a picture of waves.
    #[cfg(feature = "tract")]
    fn candidates(model: &Model) -> Vec<crate::nms::Candidate> {
        let mut session = model.session(1).unwrap();
        for (i, value) in session.input().unwrap().iter_mut().enumerate() {
            *value = 0.5 + 0.5 * (i as f32 * 0.013).sin();
        }
        let want = crate::decode::Want { score_min: 0.05, classes: None, multi_label: false };
        let mut candidates = Vec::new();
        crate::decode::Decoder::default().decode(&model.layout, &session.run().unwrap(), want, &mut candidates);
        candidates
    }

    #[cfg(feature = "tract")]
    fn assert_same(found: &[crate::nms::Candidate], expected: &[crate::nms::Candidate], off: f32, what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (a, b) in found.iter().zip(expected) {
            let sides = |c: &crate::nms::Candidate| [c.bbox.left, c.bbox.top, c.bbox.right, c.bbox.bottom];
            let apart = sides(a).iter().zip(sides(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(
                a.class == b.class && (a.score - b.score).abs() < off && apart < 64.0 * off,
                "{what}: {a:?} {b:?}"
            );
        }
    }

    /// The engine up to where the metadata says the head begins and the decoder behind it find what the graph computes.
    #[test]
    #[cfg(feature = "tract")]
    fn a_head_of_distributions_is_decoded_as_its_graph_computes_it() {
        for (onnx, off) in DISTRIBUTION.into_iter().zip([5e-4, 2e-2]) {
            for size in [None, Some(InputSize { width: 160, height: 96 })] {
                let direct = Model::load(onnx, size).unwrap();
                assert!(matches!(direct.network, Network::Engine(_)), "{off}");
                let parts = direct.layout.parts.as_ref().unwrap();
                assert!(matches!(parts.boxes, crate::decode::Boxes::Distributions { bins: 4, .. }), "{off}");
                let found = candidates(&direct);
                assert!(found.len() > 10);
                assert_same(&found, &candidates(&through_tract(onnx, &direct)), off, &format!("{size:?}"));
            }
        }
    }

    #[test]
    #[cfg(feature = "tract")]
    fn a_head_that_is_not_as_the_metadata_says_is_read_by_its_graph() {
        let onnx = DISTRIBUTION[0];
        let honest = candidates(&Model::from_onnx(onnx).unwrap());
        let changed = |from: &str, to: &str| {
            let mut proto = pb::ModelProto::decode(onnx).unwrap();
            let head = proto.metadata_props.iter_mut().find(|entry| entry.key == head::KEY).unwrap();
            assert!(head.value.contains(from), "{from} is not in {}", head.value);
            head.value = head.value.replace(from, to);
            proto.encode_to_vec()
        };
        let lies = [
            ("distribution", "anchor_free"),
            ("distribution", "magic"),
            ("\"bins\":4", "\"bins\":8"),
            ("\"bins\":4", "\"bins\":2"),
            ("[8,16,64]", "[16,8,64]"),
            ("[8,16,64]", "[8,16,32]"),
            ("[8,16,64]", "[8,16]"),
            ("\"bins8\"", "\"nothing\""),
            ("\"bins8\"", "\"bins16\""),
            ("\"bins8\"", "\"scores8\""),
            ("\"scores8\"", "\"images\""),
            ("\"scores8\"", "\"bins8\""),
            ("\"scores8\"", "\"output0\""),
            ("\"scores8\"", "\"stem.weight\""),
            ("[\"bins8\",\"scores8\"],", ""),
            ("{", ""),
        ];
        for (from, to) in lies {
            let model = Model::from_onnx(&changed(from, to)).unwrap();
            assert!(matches!(model.network, Network::Tract(_)), "{from} to {to}");
            assert_same(&candidates(&model), &honest, 5e-4, to);
        }
        // All but one level, strides and all: fewer places than the answer has.
        let fewer = changed("[\"bins8\",\"scores8\"],", "");
        let mut proto = pb::ModelProto::decode(&fewer[..]).unwrap();
        let head = proto.metadata_props.iter_mut().find(|entry| entry.key == head::KEY).unwrap();
        head.value = head.value.replace("[8,16,64]", "[16,64]");
        let model = Model::from_onnx(&proto.encode_to_vec()).unwrap();
        assert!(matches!(model.network, Network::Tract(_)));
    }
}
