//! The description of a network that all commands use.
//!
//! A [`Network`] is a list of [`Layer`]s in the terms of the paper (convolution, DSConv, MBConv …), with a JSON form
//! for editing. [`Graph`] is the same network as single operations, which the cost model counts, the trainer runs, the
//! pruner reduces and the exporter writes.

mod graph;

pub use graph::{Graph, NORM_EPSILON, Node, NodeId, Op, XY_SCALES};

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::error::{Error, Result, read_text};

/// A detector: its layers in the order of computation. The last one is a [`LayerKind::Detect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// A short name.
    pub name: String,
    /// Number of object classes, C.
    pub classes: usize,
    /// The names of the classes in their order. Empty until training data provide them.
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
    /// Names of the layers it reads. If empty, it reads the previous layer (the first layer reads the image).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The map of a teacher that this layer learns to compute in `compress distill`: the name of a layer of the
    /// teacher, or `features.3` for the fourth inner map of a TorchScript module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// The numbers of the channels of that map that remain after pruning. If empty, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teacher_channels: Vec<usize>,
    /// What it computes.
    #[serde(flatten)]
    pub kind: LayerKind,
}

/// The kinds of layers. Convolutions are padded by `kernel / 2` on every side. Batch normalisation and the activation
/// follow, unless a field says otherwise.
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
        /// Whether batch normalisation follows; otherwise the convolution has a bias.
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
        /// The activation after the depthwise convolution, if it differs from `activation`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depthwise_activation: Option<Activation>,
        /// Whether batch normalisation follows; otherwise both convolutions have a bias.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        norm: bool,
    },
    /// 1×1 expansion, depthwise k×k, squeeze-and-excitation, 1×1 reduction, without residual: the paper's MBConv,
    /// whose reduction has no activation.
    MbConv {
        /// Channels between expansion and reduction (α·Cin).
        expansion: usize,
        /// Output channels.
        out: usize,
        /// Side of the depthwise kernel, k.
        kernel: usize,
        /// Of the depthwise convolution.
        stride: usize,
        /// Channels between the two layers of squeeze-and-excitation (α·Cin / β); 0 means none.
        squeeze: usize,
        /// After expansion and depthwise, and inside squeeze-and-excitation.
        activation: Activation,
        /// The activation after the depthwise convolution, if it differs from `activation`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        depthwise_activation: Option<Activation>,
        /// After the reduction.
        #[serde(default, skip_serializing_if = "Activation::is_none")]
        out_activation: Activation,
        /// Whether batch normalisation follows; otherwise all three convolutions have a bias. The layers of
        /// squeeze-and-excitation always have a bias.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        norm: bool,
    },
    /// The Ghost module (Han et al. 2020) with ratio 2: half of the output by a k×k convolution, the other half from
    /// the first by a depthwise 3×3.
    Ghost {
        /// Output channels, even.
        out: usize,
        /// Side of the first convolution's kernel.
        kernel: usize,
        /// Of the first convolution.
        stride: usize,
        /// After both.
        activation: Activation,
        /// Whether batch normalisation follows; otherwise both convolutions have a bias.
        #[serde(default = "yes", skip_serializing_if = "is_true")]
        norm: bool,
    },
    /// Multiplies each channel by a gate computed from the means of all channels (Hu et al. 2018). YOLO Nano's FCA.
    SqueezeExcite {
        /// Channels between its two layers.
        squeeze: usize,
        /// Between its two layers.
        activation: Activation,
    },
    /// k×k maximum, the border padded with −∞. Stride 1 keeps the size.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// 1 or 2.
        stride: usize,
        /// Where the border is padded.
        #[serde(default, skip_serializing_if = "is_default")]
        padding: PoolPadding,
    },
    /// Upsampling.
    Upsample {
        /// The factor for both sides.
        factor: usize,
        /// How the values of new cells are computed.
        #[serde(default, skip_serializing_if = "is_default")]
        mode: UpsampleMode,
    },
    /// Concatenation along channels.
    Concat,
    /// The channels `start..start + channels` of its input.
    Slice {
        /// The first of them.
        start: usize,
        /// How many, at least one.
        channels: usize,
    },
    /// Sum of maps with the same shape.
    Add,
    /// Converts maps to boxes and class scores. Always the last layer.
    Detect {
        /// The form of the head.
        #[serde(flatten)]
        head: Head,
    },
}

/// The form of the detection head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "head", rename_all = "snake_case")]
pub enum Head {
    /// Reads one pair of maps per stride. The first has the distances of the four sides from the centre of the cell,
    /// `[4, h, w]` in the order left, top, right, bottom, as logarithms in units of the stride. The second has class
    /// logits, `[C, h, w]`.
    AnchorFree,
    /// The head of YOLOv3 and v4: reads one map per stride, `[A·(5 + C), h, w]`, each with a list of A anchors (width,
    /// height in pixels of the network's input).
    Anchors {
        /// One list per map, in the order of `from`.
        anchors: Vec<Vec<[f32; 2]>>,
        /// YOLOv4's scale s of the position in the cell, one per map: s·sigmoid(t) − (s − 1)/2 cells, so that a centre
        /// can lie on the border of its cell. Empty: 1 for every map, as in YOLOv3.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        xy_scales: Vec<f32>,
    },
    /// The head of Generalized Focal Loss (Li et al. 2020): reads one pair of maps per stride. The first has logits of
    /// each side's distance, `[4·bins, h, w]`, all bins of the left side first, then those of the top, the right and
    /// the bottom. The second has class logits, `[C, h, w]`. A distance is the expectation of the softmax over its
    /// bins, whose values are 0, 1 … bins − 1 strides.
    Distribution {
        /// Bins per side, 2 or more.
        bins: usize,
        /// The point in the cell from which distances are measured, in units of the stride: 0.5 is the centre, 0.0 the
        /// left upper corner (NanoDet).
        #[serde(default = "half", skip_serializing_if = "is_half")]
        offset: f32,
    },
}

/// Where a pool's border is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPadding {
    /// Only below and to the right, as in YOLOv3-tiny.
    #[default]
    End,
    /// By `kernel / 2` on every side, for an odd kernel. The window is centred on its cell, as in a convolution.
    Both,
}

/// How the new cells of an upsampled map are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleMode {
    /// The value of the cell in which they lie.
    #[default]
    Nearest,
    /// A mean of the four cells around, weighted by the distance from their centres; border cells are repeated outside
    /// (PyTorch's `align_corners=False`, ONNX's `half_pixel`). For factor 2.
    Bilinear,
}

/// The activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6), whose range is well suited to int8.
    Relu6,
    /// x, or 0.1·x below zero (YOLOv3's).
    LeakyRelu,
    /// min(max(x/6 + 1/2, 0), 1): the gate of squeeze-and-excitation.
    HardSigmoid,
}

impl Activation {
    /// Whether it is the identity.
    pub fn is_none(&self) -> bool {
        *self == Activation::None
    }

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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn half() -> f32 {
    0.5
}

fn is_half(offset: &f32) -> bool {
    *offset == half()
}

impl Head {
    /// The point in a cell from which a head without anchors measures, in units of the stride; 0.5 is the centre.
    pub fn offset(&self) -> f32 {
        match self {
            Head::Distribution { offset, .. } => *offset,
            Head::AnchorFree | Head::Anchors { .. } => half(),
        }
    }

    /// The scale of the position in the cells of map number `map`; see [`Head::Anchors`].
    pub fn xy_scale(&self, map: usize) -> f32 {
        match self {
            Head::Anchors { xy_scales, .. } => xy_scales.get(map).copied().unwrap_or(1.0),
            Head::AnchorFree | Head::Distribution { .. } => 1.0,
        }
    }

    /// How many maps it reads at each stride.
    pub fn maps_per_stride(&self) -> usize {
        match self {
            Head::AnchorFree | Head::Distribution { .. } => 2,
            Head::Anchors { .. } => 1,
        }
    }
}

impl Network {
    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not of the form, or the layers do not fit together (see [`Graph::new`]).
    pub fn read(path: impl AsRef<Path>) -> Result<Network> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let network: Network = serde_json::from_str(&text).map_err(Error::json(path))?;
        Graph::new(&network)?;
        Ok(network)
    }

    /// The JSON form, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Multiplies the head's anchors by `factor`, for inputs of another size than the anchors were made for. Does
    /// nothing for a head without anchors.
    pub fn scale_anchors(&mut self, factor: f32) {
        if let Some(LayerKind::Detect { head: Head::Anchors { anchors, .. } }) =
            self.layers.last_mut().map(|layer| &mut layer.kind)
        {
            anchors.iter_mut().flatten().flatten().for_each(|side| *side *= factor);
        }
    }

    /// The same network for another number of classes: the last convolutions of the scores get new numbers of outputs.
    /// The names of the classes are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] if the scores do not come from a convolution.
    pub fn with_classes(mut self, classes: usize) -> Result<Network> {
        let Some(Layer { kind: LayerKind::Detect { head }, mut from, .. }) = self.layers.last().cloned() else {
            return Ok(self); // Building the graph reports the missing head.
        };
        if from.is_empty() {
            from.extend(self.layers.iter().rev().nth(1).map(|layer| layer.name.clone()));
        }
        let widths: Vec<(&String, usize)> = match &head {
            Head::Anchors { anchors, .. } => {
                from.iter().zip(anchors).map(|(name, anchors)| (name, anchors.len() * (5 + classes))).collect()
            }
            _ => from.iter().skip(1).step_by(2).map(|name| (name, classes)).collect(),
        };
        for (name, width) in widths {
            match self.layers.iter_mut().find(|layer| layer.name == *name).map(|layer| &mut layer.kind) {
                Some(LayerKind::Conv { out, .. }) => *out = width,
                _ => {
                    let problem = format!("`{name}`, which gives the scores, is no convolution: its classes stay");
                    return Err(Error::Network { network: self.name, problem });
                }
            }
        }
        self.classes = classes;
        self.names.clear();
        Ok(self)
    }

    /// Sets the names of the classes from a set of photographs, if the network has none.
    ///
    /// # Errors
    ///
    /// The difference as text: another number, other names, or the same names in another order.
    pub fn adopt_names(&mut self, names: &[String]) -> std::result::Result<(), String> {
        if names.len() != self.classes {
            return Err(format!("has {} categories, the network {} classes", names.len(), self.classes));
        }
        let first = self.names.iter().zip(names).position(|(ours, theirs)| ours != theirs);
        if let Some(class) = first {
            let (ours, theirs) = (&self.names[class], &names[class]);
            return Err(format!(
                "calls class {class} `{theirs}`, the network calls it `{ours}`: names and order must be the same"
            ));
        }
        self.names = names.to_vec();
        Ok(())
    }

    /// The same network as a graph of single operations.
    ///
    /// # Errors
    ///
    /// See [`Graph::new`].
    pub fn graph(&self) -> Result<Graph> {
        Graph::new(self)
    }
}

impl LayerKind {
    /// A [`LayerKind::DsConv`] with normalisation and one activation.
    pub fn ds_conv(out: usize, kernel: usize, stride: usize, activation: Activation) -> LayerKind {
        LayerKind::DsConv { out, kernel, stride, activation, depthwise_activation: None, norm: true }
    }

    /// The paper's [`LayerKind::MbConv`]: with normalisation, without an activation behind the reduction.
    pub fn mb_conv(
        expansion: usize,
        out: usize,
        kernel: usize,
        stride: usize,
        squeeze: usize,
        activation: Activation,
    ) -> LayerKind {
        let (depthwise_activation, out_activation) = (None, Activation::None);
        LayerKind::MbConv {
            expansion,
            out,
            kernel,
            stride,
            squeeze,
            activation,
            depthwise_activation,
            out_activation,
            norm: true,
        }
    }

    /// A [`LayerKind::Ghost`] with normalisation.
    pub fn ghost(out: usize, kernel: usize, stride: usize, activation: Activation) -> LayerKind {
        LayerKind::Ghost { out, kernel, stride, activation, norm: true }
    }

    /// YOLOv3-tiny's pool.
    pub fn max_pool(kernel: usize, stride: usize) -> LayerKind {
        LayerKind::MaxPool { kernel, stride, padding: PoolPadding::End }
    }

    /// Nearest-neighbour upsampling.
    pub fn upsample(factor: usize) -> LayerKind {
        LayerKind::Upsample { factor, mode: UpsampleMode::Nearest }
    }

    /// The name of the kind in tables: `Conv`, `DSConv`, `MBConv` …
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
            LayerKind::Slice { .. } => "Slice",
            LayerKind::Add => "Add",
            LayerKind::Detect { .. } => "Detect",
        }
    }
}

impl Layer {
    /// A layer that reads the previous one.
    pub fn new(name: impl Into<String>, kind: LayerKind) -> Layer {
        Layer { name: name.into(), from: Vec::new(), teacher: None, teacher_channels: Vec::new(), kind }
    }

    /// The same layer with these inputs.
    pub fn from<const N: usize>(mut self, from: [&str; N]) -> Layer {
        self.from = from.map(String::from).to_vec();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_adopted_once_and_others_are_refused() {
        let mut network = crate::zoo::network("micro_yolo", 2).unwrap();
        let names = |all: &[&str]| all.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert!(network.adopt_names(&names(&["cat"])).unwrap_err().contains("has 1 categories"));
        network.adopt_names(&names(&["cat", "cup"])).unwrap();
        network.adopt_names(&names(&["cat", "cup"])).unwrap();
        for other in [["cup", "cat"], ["cat", "dog"]] {
            let problem = network.adopt_names(&names(&other)).unwrap_err();
            assert!(problem.contains("names and order must be the same"), "{problem}");
        }
        assert_eq!(network.names, ["cat", "cup"]);
    }

    #[test]
    fn fields_that_are_as_ever_are_neither_needed_nor_written() {
        let old = r#"[
            {"name":"a","kind":"ds_conv","out":8,"kernel":3,"stride":2,"activation":"relu6"},
            {"name":"b","kind":"mb_conv","expansion":8,"out":8,"kernel":3,"stride":1,"squeeze":0,"activation":"relu6"},
            {"name":"c","kind":"ghost","out":8,"kernel":3,"stride":1,"activation":"relu6"},
            {"name":"d","kind":"max_pool","kernel":2,"stride":2},
            {"name":"e","kind":"upsample","factor":2},
            {"name":"f","kind":"detect","head":"anchor_free"}
        ]"#;
        let layers: Vec<Layer> = serde_json::from_str(old).unwrap();
        let relu6 = Activation::Relu6;
        assert_eq!(layers[0].kind, LayerKind::ds_conv(8, 3, 2, relu6));
        assert_eq!(layers[1].kind, LayerKind::mb_conv(8, 8, 3, 1, 0, relu6));
        assert_eq!(layers[2].kind, LayerKind::ghost(8, 3, 1, relu6));
        assert_eq!(layers[3].kind, LayerKind::max_pool(2, 2));
        assert_eq!(layers[4].kind, LayerKind::upsample(2));
        let (old, new): (serde_json::Value, _) =
            (serde_json::from_str(old).unwrap(), serde_json::to_value(&layers).unwrap());
        assert_eq!(new, old);
    }

    #[test]
    fn a_network_gets_other_classes() {
        for name in crate::zoo::names() {
            let (few, many) = (crate::zoo::network(name, 3).unwrap(), crate::zoo::network(name, 80).unwrap());
            let named = Network { names: vec!["a".into(); 80], ..many };
            assert_eq!(named.with_classes(3).unwrap(), few, "{name}");
        }
        let mut odd = crate::zoo::network("micro_yolo", 80).unwrap();
        let scores = odd.layers.iter_mut().find(|layer| layer.name == "scores16").unwrap();
        scores.kind = LayerKind::ds_conv(80, 3, 1, Activation::None);
        let error = odd.with_classes(3).unwrap_err().to_string();
        assert!(error.contains("`scores16`"), "{error}");
    }

    #[test]
    fn every_field_comes_back() {
        let text = include_str!("../../tests/export/distribution.json");
        let network: Network = serde_json::from_str(text).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&network).unwrap(), value);
        let centre = Layer::new("detect", LayerKind::Detect { head: Head::Distribution { bins: 8, offset: 0.5 } });
        let json = serde_json::to_string(&centre).unwrap();
        assert!(!json.contains("offset"), "{json}");
        assert_eq!(serde_json::from_str::<Layer>(&json).unwrap(), centre);
        let wrong = json.replace("distribution", "anchors");
        assert!(serde_json::from_str::<Layer>(&wrong).is_err());
    }
}
