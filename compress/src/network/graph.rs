//! Layers split into single operations.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{Activation, Head, Layer, LayerKind, Network, PoolPadding, UpsampleMode};
use crate::error::{Error, Result};

/// Index of a [`Node`] in [`Graph::nodes`].
pub type NodeId = usize;

// Limits far above the values of detectors, and low enough that no count of parameters or operations overflows.
const MOST_CHANNELS: usize = 1 << 14;
const LARGEST_KERNEL: usize = 31;
const LARGEST_STRIDE: usize = 1 << 10;
const LARGEST_SIDE: usize = 1 << 12;
const MOST_BINS: usize = 1 << 8;

/// The range of a head's scales of x and y. Below 1, no centre could reach the border of its cell; above 2 (as in
/// YOLOv5), it could leave the neighbouring cells.
pub const XY_SCALES: RangeInclusive<f32> = 1.0..=2.0;

/// Names that no layer may have: the photograph, and the input and the output of the ONNX file.
const RESERVED: [&str; 3] = ["image", "images", "output0"];

/// Sides of the input must be multiples of this, or of less for networks without such a coarse map.
const USUAL_MULTIPLE: usize = 32;

/// A network as single operations, each after those that it reads. Node 0 is the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// In an order of execution. The last is [`Op::Detect`].
    pub nodes: Vec<Node>,
    /// Number of object classes, C.
    pub classes: usize,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique. A convolution's tensors are `NAME.conv.weight` (OIHW), `NAME.conv.bias` without normalisation, and
    /// `NAME.bn.{weight,bias,running_mean,running_var}` with it.
    pub name: String,
    /// The index of its layer in the [`Network`]; `None` for the image.
    pub layer: Option<usize>,
    /// The nodes that it reads.
    pub inputs: Vec<NodeId>,
    /// The operation.
    pub op: Op,
    /// Channels of its output.
    pub channels: usize,
    /// Width in input pixels of a cell of its output; 0 if the output is one cell (global pooling and what follows it)
    /// or not a map. See [`Node::map_size`].
    pub stride: usize,
}

impl Node {
    /// Width and height in cells of its output for an image of `width` × `height` pixels; `None` if it is not a map. A
    /// cell that the image covers only partly counts. Such cells exist for strides above [`Graph::input_multiple`].
    pub fn map_size(&self, width: usize, height: usize) -> Option<[usize; 2]> {
        (self.stride > 0).then(|| [width.div_ceil(self.stride), height.div_ceil(self.stride)])
    }
}

/// The kinds of operations.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image, RGB in 0–1, `[3, H, W]`.
    Image,
    /// Convolution with padding `kernel / 2`, then batch normalisation or bias, then the activation.
    Conv {
        /// Input channels.
        input: usize,
        /// Side of the square kernel.
        kernel: usize,
        /// 1 or 2.
        stride: usize,
        /// 1, or the number of channels for a depthwise convolution.
        groups: usize,
        /// Batch normalisation; without it a bias.
        norm: bool,
        /// The activation, which is applied last.
        activation: Activation,
    },
    /// k×k maximum. A side of `n` cells gives `n / stride` cells, rounded up.
    MaxPool {
        /// Side of the window.
        kernel: usize,
        /// 1 or 2.
        stride: usize,
        /// Where the border is padded.
        padding: PoolPadding,
    },
    /// Upsampling.
    Upsample {
        /// The factor for both sides.
        factor: usize,
        /// How new cells are computed.
        mode: UpsampleMode,
    },
    /// Concatenation along channels.
    Concat,
    /// Consecutive channels of the input. The node's `channels` is their number.
    Slice {
        /// The first of them.
        start: usize,
    },
    /// Sum.
    Add,
    /// Mean over the map, `[C, 1, 1]`.
    GlobalAveragePool,
    /// A map times a gate `[C, 1, 1]`: reads the map, then the gate.
    Scale,
    /// Converts maps to boxes and scores.
    Detect {
        /// How the maps are read.
        head: Head,
    },
}

/// The ε of batch normalisation with which the weights of the backbone were trained.
pub const NORM_EPSILON: f64 = 1e-3;

impl Graph {
    /// Builds the graph of `network`.
    ///
    /// # Errors
    ///
    /// [`Error::Network`], naming the layer, for: a duplicate or reserved name, an input that is not an earlier layer
    /// (which excludes cycles), maps whose sizes or channels do not fit, a width of zero, an even kernel, a stride
    /// other than 1 or 2, a head whose maps have other channels than it reads, no [`LayerKind::Detect`] at the end, a
    /// slice of channels that its input does not have, bilinear upsampling by another factor than 2, a pool with an
    /// even window padded on both sides, bins or an offset out of range, and channels, kernels or strides far above
    /// those of any detector.
    pub fn new(network: &Network) -> Result<Graph> {
        let image =
            Node { name: "image".into(), layer: None, inputs: Vec::new(), op: Op::Image, channels: 3, stride: 1 };
        let mut builder =
            Builder { nodes: vec![image], outputs: HashMap::new(), classes: network.classes, layer: 0 };
        let wrap = |problem: String| Error::Network { network: network.name.clone(), problem };
        if !(1..=MOST_CHANNELS).contains(&network.classes) {
            return Err(wrap(format!("has {} classes: 1 to {MOST_CHANNELS} are supported", network.classes)));
        }
        for (index, layer) in network.layers.iter().enumerate() {
            builder.layer = index;
            let last = index + 1 == network.layers.len();
            if last != matches!(layer.kind, LayerKind::Detect { .. }) {
                return Err(wrap(format!("layer `{}`: detect must be the last layer, and only that", layer.name)));
            }
            let output =
                builder.layer(layer).map_err(|problem| wrap(format!("layer `{}`: {problem}", layer.name)))?;
            builder.outputs.insert(layer.name.clone(), output);
        }
        if network.layers.is_empty() {
            return Err(wrap("has no layers".into()));
        }
        Ok(Graph { nodes: builder.nodes, classes: network.classes })
    }

    /// Builds a chain of layers without a head. Each reads the one before it, and the first reads a map of `channels`
    /// at `stride`, which is node 0.
    ///
    /// # Errors
    ///
    /// A message naming the layer, as [`Graph::new`].
    pub fn chain(layers: &[Layer], channels: usize, stride: usize) -> Result<Graph, String> {
        let input = Node { name: "image".into(), layer: None, inputs: Vec::new(), op: Op::Image, channels, stride };
        let mut builder = Builder { nodes: vec![input], outputs: HashMap::new(), classes: 1, layer: 0 };
        for (index, layer) in layers.iter().enumerate() {
            builder.layer = index;
            let layer = Layer { from: Vec::new(), ..layer.clone() };
            let output = builder.layer(&layer).map_err(|problem| format!("layer `{}`: {problem}", layer.name))?;
            builder.outputs.insert(layer.name, output);
        }
        Ok(Graph { nodes: builder.nodes, classes: 1 })
    }

    /// How the head reads its maps; `None` without a head.
    pub fn head(&self) -> Option<&Head> {
        match self.nodes.last() {
            Some(Node { op: Op::Detect { head }, .. }) => Some(head),
            _ => None,
        }
    }

    /// The node with the output of layer `layer`, which is its last node; `None` if there is no such layer.
    pub fn output_of(&self, layer: usize) -> Option<NodeId> {
        self.nodes.iter().rposition(|node| node.layer == Some(layer))
    }

    /// The strides of the maps that the head reads, ascending, one per scale.
    pub fn head_strides(&self) -> Vec<usize> {
        let Some(Node { op: Op::Detect { head }, inputs, .. }) = self.nodes.last() else { return Vec::new() };
        inputs.iter().step_by(head.maps_per_stride()).map(|&id| self.nodes[id].stride).collect()
    }

    /// The number of which the input's sides must be multiples: the largest stride up to 32.
    ///
    /// A map with a larger stride is rounded up to whole cells (at 416 px, one of stride 64 has 7 per side). Its stride
    /// counts only if it is upsampled again, because the result would otherwise not fit other maps of its stride.
    pub fn input_multiple(&self) -> usize {
        let needed = |node: &Node| match node.op {
            Op::Upsample { .. } => self.nodes[node.inputs[0]].stride,
            _ if node.stride <= USUAL_MULTIPLE => node.stride,
            _ => USUAL_MULTIPLE,
        };
        self.nodes.iter().map(needed).max().unwrap_or(1)
    }

    /// Checks whether the network can run on an image of `width` × `height` pixels. `option` is the option that set
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] if a side is 0, above 4096 (the detector's limit) or not a multiple of
    /// [`Graph::input_multiple`].
    pub fn check_size(&self, option: &'static str, width: usize, height: usize) -> Result<()> {
        let multiple = self.input_multiple();
        let fits = |side: &usize| (1..=LARGEST_SIDE).contains(side) && side.is_multiple_of(multiple);
        if [width, height].iter().all(fits) {
            return Ok(());
        }
        let problem = format!("{width}x{height}: sides must be multiples of {multiple} up to {LARGEST_SIDE}");
        Err(Error::Option { option, problem })
    }
}

struct Builder {
    nodes: Vec<Node>,
    outputs: HashMap<String, NodeId>,
    classes: usize,
    layer: usize,
}

type LayerResult<T = NodeId> = Result<T, String>;

impl Builder {
    fn layer(&mut self, layer: &Layer) -> LayerResult {
        if layer.name.is_empty()
            || RESERVED.contains(&layer.name.as_str())
            || self.outputs.contains_key(&layer.name)
        {
            return Err("its name is empty, reserved or used twice".into());
        }
        let inputs = match layer.from.as_slice() {
            [] => vec![self.nodes.len() - 1],
            names => names.iter().map(|name| self.find(name)).collect::<LayerResult<Vec<_>>>()?,
        };
        let reads_many = matches!(layer.kind, LayerKind::Concat | LayerKind::Add | LayerKind::Detect { .. });
        if !reads_many && inputs.len() != 1 {
            return Err(format!("reads one layer, not {}", inputs.len()));
        }
        let input = inputs[0];
        let name = layer.name.as_str();
        match &layer.kind {
            &LayerKind::Conv { out, kernel, stride, activation, norm } => {
                self.conv(name.into(), input, out, kernel, stride, 1, norm, activation)
            }
            &LayerKind::DsConv { out, kernel, stride, activation, depthwise_activation, norm } => {
                let between = depthwise_activation.unwrap_or(activation);
                let depthwise =
                    self.depthwise(format!("{name}.depthwise"), input, kernel, stride, norm, between)?;
                self.conv(format!("{name}.pointwise"), depthwise, out, 1, 1, 1, norm, activation)
            }
            &LayerKind::MbConv {
                expansion,
                out,
                kernel,
                stride,
                squeeze,
                activation,
                depthwise_activation,
                out_activation,
                norm,
            } => {
                let between = depthwise_activation.unwrap_or(activation);
                let expand = self.conv(format!("{name}.expand"), input, expansion, 1, 1, 1, norm, activation)?;
                let mut map = self.depthwise(format!("{name}.depthwise"), expand, kernel, stride, norm, between)?;
                if squeeze > 0 {
                    map = self.squeeze_excite(name, map, squeeze, activation)?;
                }
                self.conv(format!("{name}.project"), map, out, 1, 1, 1, norm, out_activation)
            }
            &LayerKind::Ghost { out, kernel, stride, activation, norm } => {
                if !out.is_multiple_of(2) {
                    return Err(format!(
                        "a Ghost module makes half of {out} channels from the other half: take an even number"
                    ));
                }
                let primary =
                    self.conv(format!("{name}.primary"), input, out / 2, kernel, stride, 1, norm, activation)?;
                let cheap = self.depthwise(format!("{name}.cheap"), primary, 3, 1, norm, activation)?;
                let cell = self.nodes[primary].stride;
                self.push(name.into(), vec![primary, cheap], Op::Concat, out, cell)
            }
            &LayerKind::SqueezeExcite { squeeze, activation } => {
                self.squeeze_excite(name, input, squeeze, activation)
            }
            &LayerKind::MaxPool { kernel, stride, padding } => {
                if !(1..=2).contains(&stride) || !(stride..=LARGEST_KERNEL).contains(&kernel) {
                    return Err(format!("a window of {kernel} with stride {stride} is not supported"));
                }
                if padding == PoolPadding::Both && kernel.is_multiple_of(2) {
                    return Err(format!("a window of {kernel} padded on both sides: take an odd one"));
                }
                let (channels, cell) = self.map(input)?;
                let op = Op::MaxPool { kernel, stride, padding };
                self.push(name.into(), vec![input], op, channels, cell * stride)
            }
            &LayerKind::Upsample { factor, mode } => {
                let (channels, cell) = self.map(input)?;
                if factor < 2 || cell % factor != 0 {
                    return Err(format!("cannot enlarge a map of stride {cell} {factor} times"));
                }
                if mode == UpsampleMode::Bilinear && factor != 2 {
                    return Err(format!("bilinear upsampling is by 2, not by {factor}"));
                }
                self.push(name.into(), vec![input], Op::Upsample { factor, mode }, channels, cell / factor)
            }
            LayerKind::Concat => {
                let maps = inputs.iter().map(|&id| self.map(id)).collect::<LayerResult<Vec<_>>>()?;
                let stride = maps[0].1;
                if let Some(other) = maps.iter().find(|map| map.1 != stride) {
                    return Err(format!("joins maps of strides {stride} and {}", other.1));
                }
                let channels = maps.iter().map(|map| map.0).sum();
                self.push(name.into(), inputs, Op::Concat, channels, stride)
            }
            &LayerKind::Slice { start, channels } => {
                let (all, stride) = self.map(input)?;
                let end = start.checked_add(channels).filter(|&end| channels > 0 && end <= all);
                if end.is_none() {
                    return Err(format!(
                        "takes {channels} channels from {start} on: its input has {all}, counted from 0"
                    ));
                }
                self.push(name.into(), vec![input], Op::Slice { start }, channels, stride)
            }
            LayerKind::Add => {
                let first = self.map(input)?;
                for &id in &inputs {
                    let map = self.map(id)?;
                    if map != first {
                        return Err(format!(
                            "adds {} channels at stride {} to {} at stride {}",
                            map.0, map.1, first.0, first.1
                        ));
                    }
                }
                self.push(name.into(), inputs, Op::Add, first.0, first.1)
            }
            LayerKind::Detect { head } => self.detect(name, inputs, head),
        }
    }

    fn find(&self, name: &str) -> LayerResult {
        if name == "image" {
            return Ok(0);
        }
        self.outputs.get(name).copied().ok_or_else(|| format!("reads `{name}`, which is no layer before it"))
    }

    /// Channels and stride of a node that is a map.
    fn map(&self, id: NodeId) -> LayerResult<(usize, usize)> {
        let node = &self.nodes[id];
        if node.stride == 0 { Err(format!("`{}` is no map", node.name)) } else { Ok((node.channels, node.stride)) }
    }

    fn push(&mut self, name: String, inputs: Vec<NodeId>, op: Op, channels: usize, stride: usize) -> LayerResult {
        if channels > MOST_CHANNELS || stride > LARGEST_STRIDE {
            return Err(format!(
                "has {channels} channels at stride {stride}: up to {MOST_CHANNELS} and {LARGEST_STRIDE} are supported"
            ));
        }
        // Otherwise two convolutions would have the same tensors.
        if self.nodes.iter().any(|node| node.name == name) {
            return Err(format!(
                "has an operation `{name}`, and so has another layer: give one of them another name"
            ));
        }
        self.nodes.push(Node { name, layer: Some(self.layer), inputs, op, channels, stride });
        Ok(self.nodes.len() - 1)
    }

    #[allow(clippy::too_many_arguments)] // The fields of `Op::Conv`, which the caller would only name to unpack again.
    fn conv(
        &mut self,
        name: String,
        input: NodeId,
        out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        norm: bool,
        activation: Activation,
    ) -> LayerResult {
        let Node { channels, stride: cell, .. } = self.nodes[input];
        if out == 0 {
            return Err("has no output channels".into());
        }
        if kernel.is_multiple_of(2) || kernel > LARGEST_KERNEL {
            return Err(format!(
                "a kernel of side {kernel}: take an odd one (one with a centre) up to {LARGEST_KERNEL}"
            ));
        }
        if !(1..=2).contains(&stride) {
            return Err(format!("stride {stride} is not 1 or 2"));
        }
        let op = Op::Conv { input: channels, kernel, stride, groups, norm, activation };
        self.push(name, vec![input], op, out, cell * stride)
    }

    fn depthwise(
        &mut self,
        name: String,
        input: NodeId,
        kernel: usize,
        stride: usize,
        norm: bool,
        activation: Activation,
    ) -> LayerResult {
        let (channels, _) = self.map(input)?;
        self.conv(name, input, channels, kernel, stride, channels, norm, activation)
    }

    /// Squeeze-and-excitation (Hu et al. 2018) with a hard-sigmoid gate.
    fn squeeze_excite(&mut self, name: &str, map: NodeId, squeeze: usize, activation: Activation) -> LayerResult {
        let (channels, stride) = self.map(map)?;
        let pooled = self.push(format!("{name}.pool"), vec![map], Op::GlobalAveragePool, channels, 0)?;
        let reduced = self.conv(format!("{name}.squeeze"), pooled, squeeze, 1, 1, 1, false, activation)?;
        let gate =
            self.conv(format!("{name}.excite"), reduced, channels, 1, 1, 1, false, Activation::HardSigmoid)?;
        self.push(format!("{name}.scale"), vec![map, gate], Op::Scale, channels, stride)
    }

    fn detect(&mut self, name: &str, inputs: Vec<NodeId>, head: &Head) -> LayerResult {
        let maps = inputs.iter().map(|&id| self.map(id)).collect::<LayerResult<Vec<_>>>()?;
        match head {
            Head::AnchorFree => self.pairs(&maps, 4)?,
            &Head::Distribution { bins, offset } => {
                if !(2..=MOST_BINS).contains(&bins) {
                    return Err(format!("has {bins} bins a side: 2 to {MOST_BINS} are supported"));
                }
                if !(0.0..=1.0).contains(&offset) {
                    return Err(format!("has its places at {offset} of a cell: 0 to 1 are supported"));
                }
                self.pairs(&maps, 4 * bins)?;
            }
            Head::Anchors { anchors, xy_scales } => {
                if anchors.len() != maps.len() {
                    return Err(format!("has {} lists of anchors for {} maps", anchors.len(), maps.len()));
                }
                if !xy_scales.is_empty() && xy_scales.len() != maps.len() {
                    return Err(format!("has {} scales of x and y for {} maps", xy_scales.len(), maps.len()));
                }
                if let Some(scale) = xy_scales.iter().find(|scale| !XY_SCALES.contains(scale)) {
                    let (least, most) = XY_SCALES.into_inner();
                    return Err(format!("scales x and y by {scale}: {least} to {most} is supported"));
                }
                for (map, anchors) in maps.iter().zip(anchors) {
                    let needed = anchors.len() * (5 + self.classes);
                    if map.0 != needed || anchors.is_empty() {
                        return Err(format!(
                            "needs {needed} channels for {} anchors, has {}",
                            anchors.len(),
                            map.0
                        ));
                    }
                }
            }
        }
        self.push(name.into(), inputs, Op::Detect { head: head.clone() }, 4 + self.classes, 0)
    }

    /// Checks that `maps` (channels and stride) are pairs: one map with `sides` channels, one with a channel per class.
    fn pairs(&self, maps: &[(usize, usize)], sides: usize) -> LayerResult<()> {
        if maps.is_empty() || !maps.len().is_multiple_of(2) {
            return Err("reads pairs of maps: sides, then classes".into());
        }
        for pair in maps.chunks(2) {
            if pair[0].0 != sides || pair[1].0 != self.classes || pair[0].1 != pair[1].1 {
                return Err(format!(
                    "needs {sides} and {} channels of one stride, has {} and {} of strides {} and {}",
                    self.classes, pair[0].0, pair[1].0, pair[0].1, pair[1].1
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELU6: Activation = Activation::Relu6;

    fn conv(name: &str, out: usize, kernel: usize, stride: usize) -> Layer {
        Layer::new(name, LayerKind::Conv { out, kernel, stride, activation: RELU6, norm: true })
    }

    /// A valid network: two concatenated strides, with a head for three classes.
    fn sound() -> Network {
        let layers = vec![
            conv("stem", 8, 3, 2),
            conv("down", 8, 3, 2),
            Layer::new("up", LayerKind::upsample(2)),
            Layer::new("join", LayerKind::Concat).from(["up", "stem"]),
            Layer::new("gate", LayerKind::SqueezeExcite { squeeze: 4, activation: RELU6 }),
            conv("sides", 4, 1, 1).from(["gate"]),
            conv("scores", 3, 1, 1).from(["gate"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        Network { name: "sound".into(), classes: 3, names: Vec::new(), layers }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_the_layers_name() {
        assert_eq!(sound().graph().unwrap().head_strides(), [2]);
        let refused = |what: &str, change: &dyn Fn(&mut Network), told: &[&str]| {
            let mut network = sound();
            change(&mut network);
            let error = network.graph().unwrap_err();
            assert!(matches!(error, Error::Network { .. }), "{what}: {error}");
            assert!(told.iter().all(|told| error.to_string().contains(told)), "{what}: {error}");
        };
        refused("a cycle", &|network| network.layers[1].from = vec!["join".into()], &["`down`", "reads `join`"]);
        refused("itself", &|network| network.layers[1].from = vec!["down".into()], &["`down`", "reads `down`"]);
        refused(
            "nothing there",
            &|network| network.layers[1].from = vec!["top".into()],
            &["`down`", "reads `top`"],
        );
        refused("a name twice", &|network| network.layers[1].name = "stem".into(), &["`stem`", "used twice"]);
        for name in ["image", "images", "output0"] {
            refused(name, &|network| network.layers[1].name = name.into(), &[name, "reserved"]);
        }
        refused(
            "a name of an operation",
            &|network| network.layers[1].name = "gate.squeeze".into(),
            &["`gate`", "`gate.squeeze`", "another layer"],
        );
        refused(
            "two inputs",
            &|network| network.layers[4] = network.layers[4].clone().from(["up", "stem"]),
            &["`gate`", "one layer, not 2"],
        );
        refused(
            "sizes",
            &|network| network.layers[3] = network.layers[3].clone().from(["down", "stem"]),
            &["`join`", "strides 4 and 2"],
        );
        refused(
            "widths added",
            &|network| network.layers[4] = Layer::new("gate", LayerKind::Add).from(["join", "stem"]),
            &["`gate`", "adds 8 channels", "to 16"],
        );
        refused("widths of the head", &|network| network.classes = 2, &["`detect`", "needs 4 and 2 channels"]);
        refused("too small to enlarge", &|network| network.layers[2].kind = LayerKind::upsample(8), &["`up`"]);
        refused(
            "layers after the head",
            &|network| network.layers.push(conv("more", 8, 1, 1)),
            &["`detect`", "last"],
        );
        refused("no layers", &|network| network.layers.clear(), &["no layers"]);
        refused(
            "no channels",
            &|network| network.layers[0] = conv("stem", 0, 3, 2),
            &["`stem`", "no output channels"],
        );
        refused("an even kernel", &|network| network.layers[0] = conv("stem", 8, 4, 2), &["`stem`", "side 4"]);
        refused("a stride", &|network| network.layers[0] = conv("stem", 8, 3, 3), &["`stem`", "stride 3"]);
        for classes in [0, usize::MAX] {
            refused("classes", &|network| network.classes = classes, &["classes"]);
        }
    }

    #[test]
    fn what_a_field_cannot_be_is_refused() {
        let refused = |at: usize, kind: LayerKind, told: &str| {
            let mut network = sound();
            network.layers[at].kind = kind;
            let error = network.graph().unwrap_err().to_string();
            assert!(error.contains(&network.layers[at].name) && error.contains(told), "{error}");
        };
        refused(2, LayerKind::Upsample { factor: 4, mode: UpsampleMode::Bilinear }, "bilinear upsampling is by 2");
        refused(1, LayerKind::MaxPool { kernel: 2, stride: 2, padding: PoolPadding::Both }, "odd");
        for (start, channels) in [(0, 0), (8, 0), (0, 9), (3, 6), (8, 1), (usize::MAX, 2), (2, usize::MAX)] {
            let told = format!("{channels} channels from {start} on: its input has 8");
            refused(2, LayerKind::Slice { start, channels }, &told);
        }
        for (bins, offset, told) in
            [(1, 0.5, "1 bins"), (usize::MAX, 0.5, "bins"), (8, f32::NAN, "NaN"), (8, 1.5, "1.5")]
        {
            refused(7, LayerKind::Detect { head: Head::Distribution { bins, offset } }, told);
        }
        refused(
            7,
            LayerKind::Detect { head: Head::Distribution { bins: 8, offset: 0.5 } },
            "needs 32 and 3 channels",
        );
    }

    #[test]
    fn scales_of_x_and_y_are_one_for_each_map_and_from_1_to_2() {
        let with = |xy_scales: &[f32]| {
            let mut network = crate::zoo::network("yolov3_tiny", 3).unwrap();
            match &mut network.layers.last_mut().unwrap().kind {
                LayerKind::Detect { head: Head::Anchors { xy_scales: own, .. } } => *own = xy_scales.to_vec(),
                other => panic!("{other:?}"),
            }
            network.graph().map_err(|error| error.to_string())
        };
        assert_eq!(with(&[1.05, 2.0]).unwrap().head().unwrap().xy_scale(1), 2.0);
        assert_eq!(with(&[]).unwrap().head().unwrap().xy_scale(1), 1.0);
        let error = with(&[1.05]).unwrap_err();
        assert!(error.contains("1 scales of x and y for 2 maps"), "{error}");
        for wrong in [0.0, -1.05, 0.99, 2.01, f32::INFINITY, f32::NAN] {
            let error = with(&[1.05, wrong]).unwrap_err();
            assert!(error.contains(&format!("scales x and y by {wrong}: 1 to 2")), "{error}");
        }
    }

    #[test]
    fn inputs_are_multiples_of_32_unless_a_coarser_map_is_enlarged() {
        let halves = |count: usize| {
            let mut network = sound();
            network.layers.splice(..2, (0..count).map(|i| conv(&format!("half{i}"), 8, 3, 2)));
            network
        };
        let mut plain = halves(7);
        plain.layers.splice(
            7..,
            [
                conv("sides", 4, 1, 1).from(["half6"]),
                conv("scores", 3, 1, 1).from(["half6"]),
                Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
            ],
        );
        let graph = plain.graph().unwrap();
        assert_eq!((graph.head_strides(), graph.input_multiple()), (vec![128], 32));
        assert_eq!(graph.nodes[6].map_size(416, 32), Some([7, 1]));

        let mut enlarged = plain.clone();
        enlarged.layers.splice(
            7..9,
            [
                Layer::new("up", LayerKind::upsample(2)),
                Layer::new("join", LayerKind::Concat).from(["up", "half5"]),
                conv("sides", 4, 1, 1).from(["join"]),
                conv("scores", 3, 1, 1).from(["join"]),
            ],
        );
        let graph = enlarged.graph().unwrap();
        assert_eq!((graph.head_strides(), graph.input_multiple()), (vec![64], 128));
        assert!(graph.check_size("--imgsz", 416, 416).is_err());
        assert_eq!(sound().graph().unwrap().input_multiple(), 4);
    }

    #[test]
    fn numbers_that_no_count_could_hold_are_refused() {
        let refused = |at: usize, layer: Layer| {
            let mut network = sound();
            network.layers[at] = layer;
            let error = network.graph().unwrap_err().to_string();
            assert!(error.contains(&network.layers[at].name), "{error}");
        };
        for huge in [MOST_CHANNELS + 1, usize::MAX] {
            refused(0, conv("stem", huge, 3, 2));
            let block = LayerKind::mb_conv(huge, 8, 3, 2, 0, RELU6);
            refused(1, Layer::new("down", block));
            refused(4, Layer::new("gate", LayerKind::SqueezeExcite { squeeze: huge, activation: RELU6 }));
            refused(2, Layer::new("up", LayerKind::upsample(huge)));
        }
        for kernel in [LARGEST_KERNEL + 2, usize::MAX] {
            refused(0, conv("stem", 8, kernel, 2));
            refused(1, Layer::new("down", LayerKind::max_pool(kernel, 2)));
        }
        // Halved until the stride itself would overflow.
        let mut deep = sound();
        let halves = (0..70).map(|index| conv(&format!("half{index}"), 8, 3, 2));
        deep.layers.splice(..0, halves);
        let error = deep.graph().unwrap_err().to_string();
        assert!(error.contains("half10") && error.contains("stride 2048"), "{error}");
    }
}
