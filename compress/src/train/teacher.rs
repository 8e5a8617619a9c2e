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

/// Side of the image with which a module is tested before a run begins.
const TRIAL_PX: i64 = 64;

/// A teacher's outputs for a batch.
pub struct TeacherOutput {
    /// The outputs of every cell or anchor.
    pub places: Places,
    /// The requested inner maps, `[batch, channels, h, w]` each, in the teacher's number format.
    pub maps: Vec<Tensor>,
}

/// A teacher's outputs for every cell or anchor.
pub enum Places {
    /// Outputs of a head without anchors, or of a module.
    Boxes {
        /// Class logits, f32 `[batch, C, N]`.
        logits: Tensor,
        /// Boxes: left, top, right, bottom in pixels, f32 `[batch, N, 4]`.
        ltrb: Tensor,
    },
    /// Outputs of a head with anchors; see [`Predictions::Anchors`].
    Anchors(Tensor),
}

impl TeacherOutput {
    /// All tensors: the outputs of the cells, then the maps.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let places = match &self.places {
            Places::Boxes { logits, ltrb } => vec![logits, ltrb],
            Places::Anchors(values) => vec![values],
        };
        places.into_iter().chain(&self.maps).collect()
    }

    /// The number of images.
    pub fn images(&self) -> i64 {
        let (Places::Boxes { logits: values, .. } | Places::Anchors(values)) = &self.places;
        values.size()[0]
    }

    /// The same kind with other `tensors`, in the order of [`TeacherOutput::tensors`].
    pub fn with(&self, tensors: Vec<Tensor>) -> TeacherOutput {
        let mut tensors = tensors.into_iter();
        let mut next = || tensors.next().unwrap_or_default();
        let places = match &self.places {
            Places::Boxes { .. } => Places::Boxes { logits: next(), ltrb: next() },
            Places::Anchors(_) => Places::Anchors(next()),
        };
        TeacherOutput { places, maps: tensors.collect() }
    }
}

/// A teacher for use by one thread.
pub struct Teacher {
    path: PathBuf,
    kind: TeacherKind,
}

enum TeacherKind {
    Module { module: CModule, kind: Kind, features: Vec<usize> },
    Network { replica: Box<Replica>, geometry: Geometry, seen: Vec<NodeId>, order: Vec<usize> },
}

impl Teacher {
    /// The class names of the teacher in `path`; empty for a module, or if its classes have no names.
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

    /// Loads the teacher in `path`, a checkpoint (`.safetensors`) or a TorchScript module. `wanted` are the names of
    /// the maps that layers of the `student` learn.
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`]: not a teacher as described above, other classes than the student's, another kind of head,
    /// fewer cells than the student's strides have, a missing map.
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
        // Outputs are compared before they are converted to boxes, so equal values must mean equal boxes.
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
            return Err(wrong(&format!("outputs at strides {theirs:?}, the student at {ours:?}")));
        }
        Teacher::network(path, &network, &theirs, weights, wanted, device, kind)
    }

    /// Loads a teacher that corrects the outputs of another one (see [`super::correct`]).
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`]: not a teacher as described above, other classes than the student's, a head with anchors.
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

    /// Loads a TorchScript module, which must have at least the cells of `strides`.
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

    /// The outputs for 8-bit RGB, `[batch, size, size, 3]`.
    ///
    /// # Errors
    ///
    /// libtorch's, or a module whose outputs are not as described above.
    pub fn forward(&mut self, rgb: &Tensor) -> Result<TeacherOutput> {
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
                Ok(TeacherOutput { places, maps })
            }
        }
    }

    fn wrong(&self, problem: String) -> Error {
        Error::Teacher { path: self.path.clone(), problem }
    }

    /// Checks on a grey image whether a module is as described above.
    fn try_out(&self, needed_classes: usize, strides: &[usize], device: Device) -> Result<()> {
        let TeacherKind::Module { module, kind, features } = &self.kind else { return Ok(()) };
        let image = Tensor::full([1, 3, TRIAL_PX, TRIAL_PX], 0.5, (*kind, device));
        let _guard = tch::no_grad_guard();
        let output = ask(module, features, &image).map_err(|problem| self.wrong(problem))?;
        let Places::Boxes { logits, .. } = output.places else { return Ok(()) };
        let (classes, places) = (logits.size()[1], logits.size()[2]);
        if classes != needed_classes as i64 {
            return Err(self.wrong(format!("knows {classes} classes, the student {needed_classes}")));
        }
        let cells = |stride: &usize| (TRIAL_PX as usize).div_ceil(*stride).pow(2) as i64;
        let needed: i64 = strides.iter().map(cells).sum();
        if places < needed {
            let problem = format!("outputs at {places} places of {TRIAL_PX} px, strides {strides:?} have {needed}");
            return Err(self.wrong(problem));
        }
        Ok(())
    }
}

fn has_anchors(graph: &Graph) -> bool {
    matches!(graph.head(), Some(Head::Anchors { .. }))
}

/// Reads the checkpoint of a teacher, which must have the student's classes.
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

/// Runs a module and returns its outputs and the inner maps with these numbers. The error says in words what is not as
/// described above.
fn ask(module: &CModule, features: &[usize], image: &Tensor) -> std::result::Result<TeacherOutput, String> {
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
    Ok(TeacherOutput { places: Places::Boxes { logits, ltrb: boxes.transpose(1, 2) }, maps })
}
