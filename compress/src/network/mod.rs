//! One description of a network, from which everything else follows.
//!
//! A [`Network`] is a list of [`Layer`]s in the terms of the paper (convolution, DSConv, MBConv …) and has a JSON form
//! that people edit. [`Graph`] is the same network in single operations: what the cost model counts, the trainer runs,
//! the pruner cuts and the exporter writes. Nothing about a network is written twice.

mod graph;
#[cfg(test)]
pub(crate) mod reference;

pub use graph::{Graph, NORM_EPSILON, Node, NodeId, Op};

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::error::{Error, Result};

/// A detector: its layers in the order they are computed, the last of them a [`LayerKind::Detect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// A short name, as in the zoo.
    pub name: String,
    /// Number of object classes, C.
    pub classes: usize,
    /// The classes' names in their order, once training data has given them; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// A layer with a name and its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique; tensors are named after it (`block1` → `block1.depthwise.conv.weight`).
    pub name: String,
    /// Names of the layers it reads. Empty: the layer before it (for the first layer, the image).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// What it computes.
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// The layers there are. Convolutions pad by `kernel / 2` on every side and are followed by batch normalisation and
/// the activation unless the field says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LayerKind {
    /// A dense k×k convolution.
    Conv {
        /// Output channels.
        out: usize,
        /// Side of the square kernel, k.
        kernel: usize,
        /// 1 or 2.
        stride: usize,
        /// After the normalisation.
        activation: Activation,
        /// Batch normalisation; without it the convolution has a bias.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        norm: bool,
    },
    /// Depthwise k×k, then pointwise 1×1, each with normalisation and activation (MobileNet v1; the paper's DSConv).
    DsConv {
        /// Output channels.
        out: usize,
        /// Side of the depthwise kernel, k.
        kernel: usize,
        /// Of the depthwise convolution.
        stride: usize,
        /// After both.
        activation: Activation,
    },
    /// 1×1 expansion, depthwise k×k, squeeze-and-excitation, 1×1 reduction without activation or residual: the
    /// paper's MBConv.
    MbConv {
        /// Channels between expansion and reduction (α·Cin).
        expansion: usize,
        /// Output channels.
        out: usize,
        /// Side of the depthwise kernel, k.
        kernel: usize,
        /// Of the depthwise convolution.
        stride: usize,
        /// Channels between the two layers of squeeze-and-excitation (α·Cin / β); 0 leaves it out.
        squeeze: usize,
        /// After expansion and depthwise, and inside squeeze-and-excitation.
        activation: Activation,
    },
    /// Half the output by a k×k convolution, the other half from that by a cheap depthwise 3×3, joined: the Ghost
    /// module (Han et al. 2020) with ratio 2.
    Ghost {
        /// Output channels, even.
        out: usize,
        /// Side of the first convolution's kernel.
        kernel: usize,
        /// Of the first convolution.
        stride: usize,
        /// After both.
        activation: Activation,
    },
    /// Each channel times a gate computed from the means of all (Hu et al. 2018); YOLO Nano's FCA.
    SqueezeExcite {
        /// Channels between its two layers.
        squeeze: usize,
        /// Between its two layers.
        activation: Activation,
    },
    /// k×k maximum. Stride 1 keeps the size (the border is padded with −∞, as in YOLOv3-tiny).
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// 1 or 2.
        stride: usize,
    },
    /// Nearest-neighbour upsampling.
    Upsample {
        /// How many times larger each side becomes.
        factor: usize,
    },
    /// Concatenation along channels.
    Concat,
    /// Sum of maps of one shape.
    Add,
    /// Turns the maps it reads into boxes and class scores; always the last layer.
    Detect {
        /// How the maps are read.
        #[serde(flatten)]
        head: Head,
    },
}

/// The form of the detection head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "head", rename_all = "snake_case")]
pub enum Head {
    /// Reads pairs of maps, one pair a stride: distances of the four sides from the cell's centre, `[4, h, w]` in
    /// the order left, top, right, bottom, as logarithms in units of the stride; and class logits, `[C, h, w]`.
    AnchorFree,
    /// YOLOv3's: reads one map a stride, `[A·(5 + C), h, w]`, and a list of A anchors (width, height in pixels of
    /// the network's input) for each.
    Anchors {
        /// One list a map, in the order of `from`.
        anchors: Vec<Vec<[f32; 2]>>,
    },
}

/// The activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The identity.
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6): keeps its range under int8.
    Relu6,
    /// x, or 0.1·x below zero (YOLOv3's).
    LeakyRelu,
    /// min(max(x/6 + 1/2, 0), 1): the gate of squeeze-and-excitation.
    HardSigmoid,
}

impl Activation {
    /// Its value at `x`.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Activation::None => x,
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::LeakyRelu => x.max(0.1 * x),
            Activation::HardSigmoid => (x / 6.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

fn yes() -> bool {
    true
}

fn is_true(flag: &bool) -> bool {
    *flag
}

impl Network {
    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not of the form, or the layers do not fit together (see [`Graph::new`]).
    pub fn read(path: impl AsRef<Path>) -> Result<Network> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let network: Network = serde_json::from_str(&text).map_err(Error::json(path))?;
        Graph::new(&network)?;
        Ok(network)
    }

    /// The JSON form, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Multiplies the head's anchors by `factor`, for inputs of another size than they were made for. A head without
    /// anchors stays as it is.
    pub fn scale_anchors(&mut self, factor: f32) {
        if let Some(LayerKind::Detect { head: Head::Anchors { anchors } }) =
            self.layers.last_mut().map(|layer| &mut layer.kind)
        {
            anchors.iter_mut().flatten().flatten().for_each(|side| *side *= factor);
        }
    }

    /// The same layers in single operations.
    ///
    /// # Errors
    ///
    /// See [`Graph::new`].
    pub fn graph(&self) -> Result<Graph> {
        Graph::new(self)
    }
}

impl LayerKind {
    /// What tables call it: `Conv`, `DSConv`, `MBConv` …
    pub fn label(&self) -> &'static str {
        match self {
            LayerKind::Conv { .. } => "Conv",
            LayerKind::DsConv { .. } => "DSConv",
            LayerKind::MbConv { .. } => "MBConv",
            LayerKind::Ghost { .. } => "Ghost",
            LayerKind::SqueezeExcite { .. } => "SE",
            LayerKind::MaxPool { .. } => "MaxPool",
            LayerKind::Upsample { .. } => "Upsample",
            LayerKind::Concat => "Concat",
            LayerKind::Add => "Add",
            LayerKind::Detect { .. } => "Detect",
        }
    }
}

impl Layer {
    /// A layer that reads the one before it.
    pub fn new(name: impl Into<String>, kind: LayerKind) -> Layer {
        Layer { name: name.into(), from: Vec::new(), kind }
    }

    /// The same layer, reading those named.
    pub fn from<const N: usize>(mut self, from: [&str; N]) -> Layer {
        self.from = from.map(String::from).to_vec();
        self
    }
}
