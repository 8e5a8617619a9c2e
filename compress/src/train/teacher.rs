//! The teacher: a trained network from which another one learns.
//!
//! A teacher processes the same augmented images as its student. It returns class scores and boxes of every cell, and
//! the inner maps that layers of the student name ([`Layer::teacher`](crate::network::Layer)). It is a checkpoint of
//! this project, or a TorchScript module with these methods:
//!
//! - `forward(images)`, with images RGB in 0–1, f32 `[batch, 3, H, W]`, H and W multiples of 32, returns a pair: class
//!   logits `[batch, C, N]` and boxes `[batch, 4, N]` (left, top, right, bottom in pixels of the input). N counts the
//!   cells of all strides, the finest stride first, row by row, `ceil(side / stride)²` of each;
//! - `features(images)`, optional, returns the same pair followed by any number of inner maps `[batch, channels, h,
//!   w]`, which are called `features.0`, `features.1` …

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::criterion::Geometry;
use super::model::{Layout, Predictions, Replica};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::network::{Graph, Head, Network, NodeId};

/// Side of the image that a module is tried on before a run begins.
const TRIAL_PX: i64 = 64;

/// What a teacher makes of a batch.
pub struct Answer {
    /// What it says of every place.
    pub places: Places,
    /// The inner maps that were asked for, `[batch, channels, h, w]` each, in the floats that the teacher computes in.
    pub maps: Vec<Tensor>,
}

/// What a teacher says of every place.
pub enum Places {
    /// Of a head without anchors, or a module.
    Boxes {
        /// f32, `[batch, C, N]`.
        logits: Tensor,
        /// Left, top, right, bottom in pixels, f32 `[batch, N, 4]`.
        ltrb: Tensor,
    },
    /// Of a head with anchors: see [`Predictions::Anchors`].
    Anchors(Tensor),
}

impl Answer {
    /// All of it: what it says of the places, then the maps.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let places = match &self.places {
            Places::Boxes { logits, ltrb } => vec![logits, ltrb],
            Places::Anchors(values) => vec![values],
        };
        places.into_iter().chain(&self.maps).collect()
    }

    /// How many images it is about.
    pub fn images(&self) -> i64 {
        let (Places::Boxes { logits: values, .. } | Places::Anchors(values)) = &self.places;
        values.size()[0]
    }

    /// One with other `tensors`, in the order of [`Answer::tensors`].
    pub fn with(&self, tensors: Vec<Tensor>) -> Answer {
        let mut tensors = tensors.into_iter();
        let mut next = || tensors.next().unwrap_or_default();
        let places = match &self.places {
            Places::Boxes { .. } => Places::Boxes { logits: next(), ltrb: next() },
            Places::Anchors(_) => Places::Anchors(next()),
        };
        Answer { places, maps: tensors.collect() }
    }
}

/// A teacher, as one thread asks it.
pub struct Teacher {
    path: PathBuf,
    kind: TeacherKind,
}

enum TeacherKind {
    Module { module: CModule, kind: Kind, features: Vec<usize> },
    Network { replica: Box<Replica>, geometry: Geometry, seen: Vec<NodeId>, order: Vec<usize> },
}

impl Teacher {
    /// The names of the classes of the teacher in `path`; none if it is a module, or its classes have no names.
    ///
    /// # Errors
    ///
    /// A checkpoint that cannot be read.
    pub fn class_names(path: &Path) -> Result<Vec<String>> {
        if checkpoint::is_named_so(path) {
            Ok(checkpoint::read_with_network(path)?.0.names)
        } else {
            Ok(Vec::new())
        }
    }

    /// Loads the teacher in `path`, a checkpoint (`.safetensors`) or a TorchScript module, for a `student` whose layers
    /// stand for the maps `wanted`.
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`]: no teacher by the contract above, other classes than the student's, another kind of head,
    /// fewer places than the student's strides have, a map that it does not have.
    pub fn load(path: &Path, student: &Network, wanted: &[&str], device: Device, kind: Kind) -> Result<Teacher> {
        let wrong = |problem: &str| Error::Teacher { path: path.to_owned(), problem: problem.into() };
        let graph = student.graph()?;
        if !checkpoint::is_named_so(path) {
            if has_anchors(&graph) {
                return Err(wrong("is a module without anchors, the student's head has some"));
            }
            return Teacher::module(path, student, &graph.head_strides(), wanted, device, kind);
        }
        let (network, weights) = read_for(path, student)?;
        let theirs = network.graph()?;
        // Outputs are compared before they are boxes, so the same must mean the same.
        let same_boxes = match (theirs.head(), graph.head()) {
            (Some(a @ Head::Anchors { anchors, .. }), Some(b @ Head::Anchors { anchors: others, .. })) => {
                anchors == others && (0..anchors.len()).all(|map| a.xy_scale(map) == b.xy_scale(map))
            }
            _ => !has_anchors(&theirs) && !has_anchors(&graph),
        };
        if !same_boxes {
            return Err(wrong(
                "has another kind of head, other anchors or another scale of x and y than the student",
            ));
        }
        if !theirs.head_strides().starts_with(&graph.head_strides()) {
            let (theirs, ours) = (theirs.head_strides(), graph.head_strides());
            return Err(wrong(&format!("answers at strides {theirs:?}, the student at {ours:?}")));
        }
        Teacher::network(path, &network, &theirs, weights, wanted, device, kind)
    }

    /// Loads a teacher that corrects the answers of another one (see [`super::correct`]).
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`]: no teacher by the contract above, other classes than the student's, a head with anchors.
    pub fn load_second(path: &Path, student: &Network, device: Device, kind: Kind) -> Result<Teacher> {
        if !checkpoint::is_named_so(path) {
            return Teacher::module(path, student, &[], &[], device, kind);
        }
        let (network, weights) = read_for(path, student)?;
        let graph = network.graph()?;
        if has_anchors(&graph) {
            let problem = "has a head with anchors, which a second teacher must not have".into();
            return Err(Error::Teacher { path: path.to_owned(), problem });
        }
        Teacher::network(path, &network, &graph, weights, &[], device, kind)
    }

    /// A TorchScript module, which has at least the places of `strides`.
    fn module(
        path: &Path,
        student: &Network,
        strides: &[usize],
        wanted: &[&str],
        device: Device,
        kind: Kind,
    ) -> Result<Teacher> {
        let wrong = |problem: String| Error::Teacher { path: path.to_owned(), problem };
        let mut module = CModule::load_on_device(path, device).map_err(|error| wrong(error.to_string()))?;
        module.set_eval();
        module.to(device, kind, false);
        let features = wanted.iter().map(|name| {
            let index = name.strip_prefix("features.").and_then(|index| index.parse().ok());
            index.ok_or_else(|| wrong(format!("is a module: its maps are features.0, features.1 …, not `{name}`")))
        });
        let features = features.collect::<Result<Vec<usize>>>()?;
        let teacher = Teacher { path: path.to_owned(), kind: TeacherKind::Module { module, kind, features } };
        teacher.try_out(student.classes, strides, device)?;
        Ok(teacher)
    }

    fn network(
        path: &Path,
        network: &Network,
        graph: &Graph,
        weights: checkpoint::Weights,
        wanted: &[&str],
        device: Device,
        kind: Kind,
    ) -> Result<Teacher> {
        let wrong = |problem: String| Error::Teacher { path: path.to_owned(), problem };
        let node_of = |name: &&str| {
            let layer = network.layers.iter().position(|layer| layer.name == *name);
            let node = layer.and_then(|layer| graph.output_of(layer));
            node.ok_or_else(|| wrong(format!("has no layer `{name}`")))
        };
        let nodes = wanted.iter().map(node_of).collect::<Result<Vec<_>>>()?;
        let mut seen = nodes.clone();
        seen.sort_unstable();
        seen.dedup();
        let order = nodes.iter().map(|node| seen.binary_search(node).unwrap_or_default()).collect();
        let layout = Layout::new(graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        let taken = layout.gather(&weights, &mut learned, &mut measured);
        let needed = checkpoint::tensors(graph).len();
        if taken.len() < needed {
            return Err(wrong(format!("has {} of {needed} tensors that fit its network", taken.len())));
        }
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let last = network.layers.last().map(|layer| layer.name.as_str());
        let replica = Replica::new(network, &layout, &tensor(&learned), tensor(&measured), kind, last, None)?;
        let geometry = Geometry::new(graph).ok_or_else(|| wrong("has no head".into()))?;
        let kind = TeacherKind::Network { replica: Box::new(replica), geometry, seen, order };
        Ok(Teacher { path: path.to_owned(), kind })
    }

    /// What it makes of 8-bit RGB, `[batch, size, size, 3]`.
    ///
    /// # Errors
    ///
    /// libtorch's; a module that does not keep the contract.
    pub fn look(&mut self, rgb: &Tensor) -> Result<Answer> {
        let _guard = tch::no_grad_guard();
        match &mut self.kind {
            TeacherKind::Module { module, kind, features } => {
                let image = (rgb.permute([0, 3, 1, 2]).to_kind(*kind) * (1.0 / 255.0)).to_kind(*kind);
                ask(module, features, &image).map_err(|problem| self.wrong(problem))
            }
            TeacherKind::Network { replica, geometry, seen, order } => {
                let (predictions, maps) = replica.forward_with(rgb, seen, None)?;
                let places = match predictions {
                    Predictions::Anchors(values) => Places::Anchors(values),
                    predictions => {
                        let (logits, ltrb) = geometry.boxes(&predictions, rgb.size()[1] as usize)?;
                        Places::Boxes { logits, ltrb }
                    }
                };
                let maps = order.iter().map(|&index| maps[index].shallow_clone()).collect();
                Ok(Answer { places, maps })
            }
        }
    }

    fn wrong(&self, problem: String) -> Error {
        Error::Teacher { path: self.path.clone(), problem }
    }

    /// Whether a module keeps the contract, on a grey image.
    fn try_out(&self, needed_classes: usize, strides: &[usize], device: Device) -> Result<()> {
        let TeacherKind::Module { module, kind, features } = &self.kind else { return Ok(()) };
        let image = Tensor::full([1, 3, TRIAL_PX, TRIAL_PX], 0.5, (*kind, device));
        let _guard = tch::no_grad_guard();
        let answer = ask(module, features, &image).map_err(|problem| self.wrong(problem))?;
        let Places::Boxes { logits, .. } = answer.places else { return Ok(()) };
        let (classes, places) = (logits.size()[1], logits.size()[2]);
        if classes != needed_classes as i64 {
            return Err(self.wrong(format!("knows {classes} classes, the student {needed_classes}")));
        }
        let cells = |stride: &usize| (TRIAL_PX as usize).div_ceil(*stride).pow(2) as i64;
        let needed: i64 = strides.iter().map(cells).sum();
        if places < needed {
            let problem = format!("answers at {places} places of {TRIAL_PX} px, strides {strides:?} have {needed}");
            return Err(self.wrong(problem));
        }
        Ok(())
    }
}

fn has_anchors(graph: &Graph) -> bool {
    matches!(graph.head(), Some(Head::Anchors { .. }))
}

/// The checkpoint of a teacher of the student's classes.
fn read_for(path: &Path, student: &Network) -> Result<(Network, checkpoint::Weights)> {
    let wrong = |problem: String| Error::Teacher { path: path.to_owned(), problem };
    let (network, weights) = checkpoint::read_with_network(path)?;
    if network.classes != student.classes {
        return Err(wrong(format!("knows {} classes, the student {}", network.classes, student.classes)));
    }
    match network.names.iter().zip(&student.names).find(|(theirs, ours)| theirs != ours) {
        Some((theirs, ours)) => Err(wrong(format!("calls `{theirs}` what the data calls `{ours}`"))),
        None => Ok((network, weights)),
    }
}

/// Asks a module for its answer and the inner maps of these numbers. What is not as the contract says is an error in
/// words.
fn ask(module: &CModule, features: &[usize], image: &Tensor) -> std::result::Result<Answer, String> {
    let inputs = [IValue::Tensor(image.shallow_clone())];
    let value = match features {
        [] => module.forward_is(&inputs),
        _ => module.method_is("features", &inputs),
    };
    let not_a_tuple = || "does not return a tuple of tensors: class logits, boxes, inner maps".to_owned();
    let values = match value.map_err(|error| error.to_string())? {
        IValue::Tuple(values) => values,
        _ => return Err(not_a_tuple()),
    };
    let tensors = values.into_iter().map(|value| match value {
        IValue::Tensor(tensor) => Ok(tensor.to_kind(Kind::Float)),
        _ => Err(not_a_tuple()),
    });
    let mut tensors = tensors.collect::<std::result::Result<Vec<_>, _>>()?;
    if tensors.len() < 2 {
        return Err(not_a_tuple());
    }
    let inner = tensors.split_off(2);
    let [logits, boxes] = [tensors.remove(0), tensors.remove(0)];
    match (&*logits.size(), &*boxes.size()) {
        (&[batch, _, places], &[other, 4, others]) if (batch, places) == (other, others) => {}
        (logits, boxes) => {
            return Err(format!("returns {logits:?} and {boxes:?}, not [batch, C, N] and [batch, 4, N]"));
        }
    }
    let map = |&index: &usize| match inner.get(index) {
        Some(map) if map.dim() == 4 => Ok(map.shallow_clone()),
        Some(map) => Err(format!("`features.{index}` is {:?}, no map", map.size())),
        None => Err(format!("has {} inner maps, no `features.{index}`", inner.len())),
    };
    let maps = features.iter().map(map).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Answer { places: Places::Boxes { logits, ltrb: boxes.transpose(1, 2) }, maps })
}
