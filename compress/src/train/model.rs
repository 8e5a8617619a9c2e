//! A network in libtorch.

use std::collections::{BTreeSet, HashMap};

use tch::{Device, Kind, Tensor};

use super::depthwise::{self, Window};
use crate::checkpoint::{self, Array, TensorSpec, Weights};
use crate::error::{Error, Result};
use crate::network::{Activation, Graph, Head, NORM_EPSILON, Network, Node, NodeId, Op, PoolPadding, UpsampleMode};
use crate::quantize::{ACTIVATION_MAX, Plan};

/// The weight of a batch's statistics in the running statistics.
const NORM_MOMENTUM: f64 = 0.03;

/// The slope of [`Activation::LeakyRelu`] below zero.
const LEAKY_SLOPE: f32 = 0.1;

/// Tensors in the flat vectors begin at multiples of this number of values. CUDA kernels read four values at once and
/// fail at unaligned addresses, such as after the 255 biases of a YOLOv3 head.
const ALIGNMENT: usize = 4;

/// The position of each tensor in the two flat vectors: learned values and measured values. Gaps contain zeros.
#[derive(Debug, Clone)]
pub struct Layout {
    slots: Vec<(TensorSpec, i64)>,
    /// Length of the vector of learned values.
    pub learned: i64,
    /// Length of the vector of measured values.
    pub measured: i64,
}

impl Layout {
    /// Places the tensors of a network one after another, aligned.
    pub fn new(graph: &Graph) -> Layout {
        let mut ends = [0, 0];
        let mut slots = Vec::new();
        for spec in checkpoint::tensors(graph) {
            let end = &mut ends[usize::from(spec.learned)];
            let offset = *end;
            *end += spec.count().next_multiple_of(ALIGNMENT) as i64;
            slots.push((spec, offset));
        }
        Layout { slots, learned: ends[1], measured: ends[0] }
    }

    /// A vector of the learned values that has, for each tensor, the value that `of` returns.
    pub fn fill(&self, of: impl Fn(&TensorSpec) -> f32) -> Vec<f32> {
        let mut values = vec![0.0; self.learned as usize];
        for (spec, offset) in self.slots.iter().filter(|(spec, _)| spec.learned) {
            values[*offset as usize..][..spec.count()].fill(of(spec));
        }
        values
    }

    /// Copies weights by name into both vectors. Missing tensors keep their values. Returns the names of the copied
    /// tensors.
    pub fn gather(&self, weights: &Weights, learned: &mut [f32], measured: &mut [f32]) -> Vec<String> {
        let mut taken = Vec::new();
        for (spec, offset) in &self.slots {
            let Some(array) = weights.get(&spec.name).filter(|array| array.shape == spec.shape) else { continue };
            let to = if spec.learned { &mut *learned } else { &mut *measured };
            to[*offset as usize..][..spec.count()].copy_from_slice(&array.values);
            taken.push(spec.name.clone());
        }
        taken
    }

    /// Weights by name, from both vectors.
    pub fn scatter(&self, learned: &[f32], measured: &[f32]) -> Weights {
        let array = |(spec, offset): &(TensorSpec, i64)| {
            let from = if spec.learned { learned } else { measured };
            let values = from[*offset as usize..][..spec.count()].to_vec();
            (spec.name.clone(), Array { shape: spec.shape.clone(), values })
        };
        self.slots.iter().map(array).collect()
    }

    /// Views into a flat tensor, by name.
    fn views(&self, flat: &Tensor, learned: bool) -> HashMap<String, Tensor> {
        let view = |(spec, offset): &(TensorSpec, i64)| {
            let shape: Vec<i64> = spec.shape.iter().map(|&side| side as i64).collect();
            (spec.name.clone(), flat.narrow(0, *offset, spec.count() as i64).view(shape.as_slice()))
        };
        self.slots.iter().filter(|(spec, _)| spec.learned == learned).map(view).collect()
    }
}

/// Random initial weights: He's normal distribution for weights (for depthwise ones, the fan-out is that of their own
/// kernel), the identity for normalisation. The biases of objectness and class scores correspond to a probability of 1
/// %, so that the many empty cells do not dominate the first steps.
pub fn initial(graph: &Graph, seed: u64) -> Weights {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut normal = move || {
        // Box and Muller's method.
        let radius = (-2.0 * (1.0 - rng.f32()).ln()).sqrt();
        radius * (std::f32::consts::TAU * rng.f32()).cos()
    };
    // Maps with scores. The value is the period of channels of which the first four belong to a box, if there is one.
    let mut score_maps: HashMap<&str, Option<usize>> = HashMap::new();
    if let (Some(detect), Some(head)) = (graph.nodes.last(), graph.head()) {
        let names = detect.inputs.iter().map(|&id| graph.nodes[id].name.as_str());
        score_maps = match head {
            Head::AnchorFree | Head::Distribution { .. } => {
                names.skip(1).step_by(2).map(|name| (name, None)).collect()
            }
            Head::Anchors { .. } => names.map(|name| (name, Some(5 + graph.classes))).collect(),
        };
    }
    checkpoint::tensors(graph)
        .into_iter()
        .map(|spec| {
            let len = spec.count();
            let (node, part) = spec
                .name
                .rsplit_once('.')
                .map_or(("", ""), |(rest, last)| (rest.rsplit_once('.').map_or("", |pair| pair.0), last));
            let is_norm = spec.name.contains(".bn.");
            let values = match part {
                "weight" if !is_norm => {
                    let fan_in: usize = spec.shape[1..].iter().product();
                    let spread = if score_maps.contains_key(node) { 0.01 } else { (2.0 / fan_in as f32).sqrt() };
                    (0..len).map(|_| normal() * spread).collect()
                }
                "weight" | "running_var" => vec![1.0; len],
                "bias" => match score_maps.get(node) {
                    Some(&period) => {
                        let is_box = |channel: usize| period.is_some_and(|period| channel % period < 4);
                        (0..len).map(|channel| if is_box(channel) { 0.0 } else { -(99f32.ln()) }).collect()
                    }
                    None => vec![0.0; len],
                },
                _ => vec![0.0; len],
            };
            (spec.name.clone(), Array { shape: spec.shape, values })
        })
        .collect()
}

/// The node with the output of the layer called `name`; 0 if there is none.
pub fn last_node(network: &Network, graph: &Graph, name: Option<&str>) -> NodeId {
    let layer = name.and_then(|name| network.layers.iter().position(|layer| layer.name == name));
    layer.and_then(|layer| graph.output_of(layer)).unwrap_or(0)
}

/// A copy of a network on one device, for one thread.
pub struct Replica {
    graph: Graph,
    parameters: HashMap<String, Tensor>,
    order: Vec<String>,
    buffers: HashMap<String, Tensor>,
    /// The measured values of this copy.
    pub measured: Tensor,
    device: Device,
    kind: Kind,
    /// Nodes up to this one are not trained. Their normalisation is folded into their weights.
    frozen: NodeId,
    folded: HashMap<usize, (Tensor, Tensor)>,
    /// For each concatenation whose inputs are copies of one map, which copies they are.
    copies: HashMap<NodeId, Copies>,
    /// What is rounded as in the int8 file, with `--int8`.
    int8: Option<Plan>,
    /// Depthwise convolutions of the last forward pass whose weight gradients are computed by
    /// [`super::depthwise`].
    pending: Vec<Pending>,
}

/// The data for the gradient of a depthwise convolution's weights, which is computed after the backward pass.
struct Pending {
    weight: String,
    map: Tensor,
    /// Zeros that were added to the output. Their gradient is that of the output.
    probe: Tensor,
    window: Window,
}

/// A concatenation of one map and slices of its first channels, as `decouple` makes it.
///
/// The gradient of a slice has all channels of the map, and libtorch adds as many such gradients as there are slices.
/// So the map is split where slices end, and the pieces are concatenated. Then every gradient is added once.
struct Copies {
    /// The map.
    of: NodeId,
    /// Numbers of channels of the pieces, in order. Together they are the map.
    pieces: Vec<i64>,
    /// For each copy, its number of pieces.
    counts: Vec<usize>,
}

/// The [`Copies`] of each concatenation that consists of copies.
fn copies(graph: &Graph) -> HashMap<NodeId, Copies> {
    let copies_of = |node: &Node| {
        let source = |id: NodeId| match graph.nodes[id].op {
            Op::Slice { start: 0 } => graph.nodes[id].inputs[0],
            _ => id,
        };
        let of = source(*node.inputs.first()?);
        if !matches!(node.op, Op::Concat) || node.inputs.len() < 2 || node.inputs.iter().any(|&id| source(id) != of)
        {
            return None;
        }
        let channels = |id: NodeId| graph.nodes[id].channels;
        let ends: BTreeSet<usize> = node.inputs.iter().map(|&id| channels(id)).chain([channels(of)]).collect();
        let ends: Vec<usize> = ends.into_iter().collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let pieces = ends.iter().zip(starts).map(|(end, start)| (end - start) as i64).collect();
        let count = |&id: &NodeId| ends.partition_point(|&end| end <= channels(id));
        Some(Copies { of, pieces, counts: node.inputs.iter().map(count).collect() })
    };
    graph.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, copies_of(node)?))).collect()
}

/// The error for a graph without a head.
fn no_head() -> Error {
    Error::Training("there is no head".into())
}

/// A network's outputs for a batch, by kind of head.
pub enum Predictions {
    /// Outputs of [`Head::AnchorFree`].
    AnchorFree {
        /// Logarithms of the sides' distances in units of the stride, f32, `[batch, 4, cells]`.
        sides: Tensor,
        /// Class logits, f32, `[batch, C, cells]`.
        logits: Tensor,
    },
    /// Outputs of [`Head::Distribution`].
    Distribution {
        /// Logits of each side's bins, f32, `[batch, 4·bins, cells]`, in the order of the head's maps.
        bins: Tensor,
        /// Class logits, f32, `[batch, C, cells]`.
        logits: Tensor,
    },
    /// Outputs of [`Head::Anchors`]: f32, `[batch, places, 5 + C]`. A place is an anchor of a cell, ordered by map,
    /// anchor and row. The five values are x and y in the cell before the sigmoid, the logarithms of width and height
    /// in units of the anchor, and the objectness logit. Class logits follow.
    Anchors(Tensor),
}

impl Replica {
    /// A copy that reads the vector `learned` (shared by all copies on a device) and has its own `measured` values.
    ///
    /// `kind` is the number format of the activations; `freeze` is the name of the last layer that is not trained. What
    /// `int8` quantises is rounded in the forward pass; the backward pass ignores the rounding (Jacob et al. 2018).
    pub fn new(
        network: &Network,
        layout: &Layout,
        learned: &Tensor,
        measured: Tensor,
        kind: Kind,
        freeze: Option<&str>,
        int8: Option<Plan>,
    ) -> Result<Replica> {
        let graph = network.graph()?;
        let frozen = last_node(network, &graph, freeze);
        Replica::of_graph(graph, layout, learned, measured, kind, frozen, int8)
    }

    /// The same for a graph, which needs no head. Nodes up to `frozen` are not trained.
    pub(super) fn of_graph(
        graph: Graph,
        layout: &Layout,
        learned: &Tensor,
        measured: Tensor,
        kind: Kind,
        frozen: NodeId,
        int8: Option<Plan>,
    ) -> Result<Replica> {
        let parameters = layout
            .views(learned, true)
            .into_iter()
            .map(|(name, view)| (name, view.detach().set_requires_grad(true)))
            .collect();
        let order =
            layout.slots.iter().filter(|(spec, _)| spec.learned).map(|(spec, _)| spec.name.clone()).collect();
        let buffers = layout.views(&measured, false);
        let copies = copies(&graph);
        let mut replica = Replica {
            graph,
            copies,
            parameters,
            order,
            buffers,
            device: measured.device(),
            measured,
            kind,
            frozen,
            folded: HashMap::new(),
            int8,
            pending: Vec::new(),
        };
        replica.fold()?;
        Ok(replica)
    }

    fn fold(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for id in 1..=self.frozen {
            let node = &self.graph.nodes[id];
            let Op::Conv { norm, .. } = node.op else { continue };
            let parameter = |part: &str| self.parameters[&format!("{}.{part}", node.name)].detach();
            let buffer = |part: &str| &self.buffers[&format!("{}.{part}", node.name)];
            let (weight, bias) = if norm {
                let scale = parameter("bn.weight") / (buffer("bn.running_var") + NORM_EPSILON).sqrt();
                let bias = parameter("bn.bias") - buffer("bn.running_mean") * &scale;
                (parameter("conv.weight") * scale.view([-1, 1, 1, 1]), bias)
            } else {
                (parameter("conv.weight"), parameter("conv.bias"))
            };
            let weight = self.as_bytes(id, weight)?;
            self.folded.insert(id, (weight.to_kind(self.kind), bias.to_kind(self.kind)));
        }
        Ok(())
    }

    /// The weights of node `id`, rounded if they are int8. Normalisation may be folded in later, because it multiplies
    /// whole output channels, which have one scale each.
    fn as_bytes(&self, id: usize, weight: Tensor) -> Result<Tensor> {
        let Some(plan) = self.int8.as_ref().filter(|plan| plan.weights[id]) else { return Ok(weight) };
        let limit = (1i64 << (plan.weight_bits - 1)) - 1;
        let scale = (weight.detach().abs().f_amax([1, 2, 3], false)? / limit as f64).clamp_min(1e-9);
        let zero = scale.zeros_like().to_kind(Kind::Int);
        Ok(weight.f_fake_quantize_per_channel_affine(&scale, &zero, 0, -limit, limit)?)
    }

    /// The output of node `id`, rounded if it is int8. Maps that are only moved have already been rounded.
    fn as_activation(&self, id: usize, map: Tensor) -> Result<Tensor> {
        let moved = match self.graph.nodes[id].op {
            Op::MaxPool { .. } | Op::Concat | Op::Slice { .. } => true,
            Op::Upsample { mode, .. } => mode == UpsampleMode::Nearest,
            _ => false,
        };
        let scale = self.int8.as_ref().and_then(|plan| plan.activations[id]).filter(|_| !moved);
        let Some(scale) = scale else { return Ok(map) };
        let (zero, most) = (i64::from(scale.zero_point), i64::from(ACTIVATION_MAX));
        let rounded =
            map.to_kind(Kind::Float).f_fake_quantize_per_tensor_affine(scale.scale.into(), zero, 0, most)?;
        Ok(rounded.to_kind(self.kind))
    }

    /// Runs the network on 8-bit RGB, `[batch, size, size, 3]`, in training mode (normalisation by the batch's own
    /// statistics).
    pub fn forward(&mut self, rgb: &Tensor) -> Result<Predictions> {
        Ok(self.forward_with(rgb, &[], None)?.0)
    }

    /// Runs [`forward`](Replica::forward) and also returns the maps of the nodes `seen`, ascending, `[batch, channels,
    /// height, width]` each. With `given` (one map for each of these nodes), later nodes read the given maps instead.
    pub fn forward_with(
        &mut self,
        rgb: &Tensor,
        seen: &[NodeId],
        given: Option<&[Tensor]>,
    ) -> Result<(Predictions, Vec<Tensor>)> {
        let (predictions, maps) = self.run(vec![self.image(rgb)?], seen, given)?;
        Ok((predictions.ok_or_else(no_head)?, maps))
    }

    /// Returns the maps of the nodes `seen`, like [`forward_with`](Replica::forward_with). Later nodes are not
    /// computed.
    pub fn maps(&mut self, rgb: &Tensor, seen: &[NodeId]) -> Result<Vec<Tensor>> {
        Ok(self.run_until(vec![self.image(rgb)?], seen, None, seen.last().copied().unwrap_or(0))?.1)
    }

    /// The outputs of frozen layers that trained layers read, for 8-bit RGB: `[batch, channels, height, width]` each.
    /// They are always the same for an image.
    pub fn frozen_maps(&self, rgb: &Tensor) -> Result<Vec<Tensor>> {
        let _guard = tch::no_grad_guard();
        let mut maps = vec![self.image(rgb)?];
        for id in 1..=self.frozen {
            let map = self.map_of(id, &maps, &mut Vec::new())?;
            maps.push(map);
        }
        Ok(self.border().into_iter().map(|id| maps[id].shallow_clone()).collect())
    }

    /// Like [`forward_with`](Replica::forward_with), but starts from [`frozen_maps`](Replica::frozen_maps). All nodes
    /// `seen` must be trained.
    pub fn forward_behind(&mut self, frozen: &[Tensor], seen: &[NodeId]) -> Result<(Predictions, Vec<Tensor>)> {
        // Nothing reads the other maps.
        let mut maps: Vec<Tensor> = (0..=self.frozen).map(|_| Tensor::new()).collect();
        for (id, map) in self.border().into_iter().zip(frozen) {
            maps[id] = map.shallow_clone();
        }
        let (predictions, maps) = self.run(maps, seen, None)?;
        Ok((predictions.ok_or_else(no_head)?, maps))
    }

    /// The frozen nodes that trained nodes read, ascending.
    fn border(&self) -> Vec<NodeId> {
        let read = self.graph.nodes[self.frozen + 1..].iter().flat_map(|node| node.inputs.iter().copied());
        read.filter(|&id| id <= self.frozen).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The output of node 0 for 8-bit RGB.
    fn image(&self, rgb: &Tensor) -> Result<Tensor> {
        // Permuting the channels of interleaved pixels gives libtorch's channels-last layout for free.
        let image = (rgb.permute([0, 3, 1, 2]).to_kind(self.kind) * (1.0 / 255.0)).to_kind(self.kind);
        self.as_activation(0, image)
    }

    /// Runs the graph on an output of its node 0, `[batch, channels, height, width]`, and returns the map of its last
    /// node.
    pub(super) fn forward_from(&mut self, map: &Tensor) -> Result<Tensor> {
        let last = self.graph.nodes.len() - 1;
        let start = self.as_activation(0, map.to_kind(self.kind))?;
        let (_, mut maps) = self.run(vec![start], &[last], None)?;
        maps.pop().ok_or_else(|| Error::Training("there are no layers".into()))
    }

    /// Like [`forward_with`](Replica::forward_with), but starts from the maps of the first nodes. Returns no
    /// predictions if there is no head.
    fn run(
        &mut self,
        maps: Vec<Tensor>,
        seen: &[NodeId],
        given: Option<&[Tensor]>,
    ) -> Result<(Option<Predictions>, Vec<Tensor>)> {
        self.run_until(maps, seen, given, self.graph.nodes.len() - 1)
    }

    /// The same up to the node `last`.
    fn run_until(
        &mut self,
        mut maps: Vec<Tensor>,
        seen: &[NodeId],
        given: Option<&[Tensor]>,
        last: NodeId,
    ) -> Result<(Option<Predictions>, Vec<Tensor>)> {
        let mut pending = Vec::new();
        let mut seen_maps = Vec::with_capacity(seen.len());
        let mut predictions = None;
        for id in maps.len()..=last {
            if let Op::Detect { head } = &self.graph.nodes[id].op {
                let inputs: Vec<&Tensor> = self.graph.nodes[id].inputs.iter().map(|&id| &maps[id]).collect();
                predictions = Some(self.predictions(head, &inputs)?);
                break;
            }
            let mut map = self.map_of(id, &maps, &mut pending)?;
            if seen.get(seen_maps.len()) == Some(&id) {
                let given = given.and_then(|given| given.get(seen_maps.len()));
                let next = given.map_or_else(|| map.shallow_clone(), |given| given.to_kind(self.kind));
                seen_maps.push(std::mem::replace(&mut map, next));
            }
            maps.push(map);
        }
        self.pending = pending;
        Ok((predictions, seen_maps))
    }

    /// Converts the `maps` of a head to predictions.
    fn predictions(&self, head: &Head, maps: &[&Tensor]) -> Result<Predictions> {
        if let Head::Anchors { anchors, .. } = head {
            let values = 5 + self.graph.classes as i64;
            let places = |(map, anchors): (&&Tensor, &Vec<[f32; 2]>)| {
                let count = anchors.len() as i64;
                let (batch, cells) = (map.size()[0], map.size()[2] * map.size()[3]);
                let split = map.to_kind(Kind::Float).f_reshape([batch, count, values, cells])?;
                split.permute([0, 1, 3, 2]).f_reshape([batch, count * cells, values])
            };
            let all = maps.iter().zip(anchors).map(places);
            let all = all.collect::<std::result::Result<Vec<_>, tch::TchError>>()?;
            return Ok(Predictions::Anchors(Tensor::f_cat(&all, 1)?));
        }
        // The first or the second maps of all pairs, concatenated.
        let flat = |part: usize| -> Result<Tensor> {
            let parts = maps.iter().skip(part).step_by(2).map(|map| map.to_kind(Kind::Float).f_flatten(2, 3));
            Ok(Tensor::f_cat(&parts.collect::<std::result::Result<Vec<_>, _>>()?, 2)?)
        };
        let (first, logits) = (flat(0)?, flat(1)?);
        Ok(match head {
            Head::Distribution { .. } => Predictions::Distribution { bins: first, logits },
            _ => Predictions::AnchorFree { sides: first, logits },
        })
    }

    /// Computes the map of node `id`, which is not a head, from the earlier maps.
    fn map_of(&self, id: NodeId, maps: &[Tensor], pending: &mut Vec<Pending>) -> Result<Tensor> {
        let node = &self.graph.nodes[id];
        if let Some(Copies { of, pieces, counts }) = self.copies.get(&id) {
            let pieces = maps[*of].f_split_with_sizes(pieces, 1)?;
            let copies: Vec<&Tensor> = counts.iter().flat_map(|&count| &pieces[..count]).collect();
            return Ok(Tensor::f_cat(&copies, 1)?);
        }
        let &Op::Conv { kernel, stride, groups, norm, activation, .. } = &node.op else {
            let inputs: Vec<&Tensor> = node.inputs.iter().map(|&id| &maps[id]).collect();
            return self.as_activation(id, without_weights(node, &inputs)?);
        };
        let input = &maps[node.inputs[0]];
        let (sides, padding) = ([stride as i64; 2], [(kernel / 2) as i64; 2]);
        let conv = |map: &Tensor, weight: &Tensor, bias: Option<&Tensor>| {
            map.f_conv2d(weight, bias, sides, padding, [1, 1], groups as i64)
        };
        if let Some((weight, bias)) = self.folded.get(&id) {
            let _guard = tch::no_grad_guard();
            return self.as_activation(id, activate(conv(input, weight, Some(bias))?, activation));
        }
        let parameter = |part: &str| &self.parameters[&format!("{}.{part}", node.name)];
        let weight = &self.as_bytes(id, parameter("conv.weight").shallow_clone())?;
        let bias = (!norm).then(|| parameter("conv.bias").to_kind(self.kind));
        let is_depthwise = groups > 1 && self.device == Device::Cpu;
        let window = Window { kernel, stride };
        let mut map = if is_depthwise && window.is_slow_in_libtorch() {
            let map = conv(input, &weight.detach().to_kind(self.kind), bias.as_ref())?;
            let probe = map.zeros_like().set_requires_grad(true);
            let map = map + &probe;
            let weight = format!("{}.conv.weight", node.name);
            pending.push(Pending { weight, map: input.detach(), probe, window });
            map
        } else if is_depthwise && stride > 1 {
            // With a stride, libtorch's gradient of the input is slow in any format except f32.
            let bias = bias.map(|bias| bias.to_kind(Kind::Float));
            conv(&input.to_kind(Kind::Float), weight, bias.as_ref())?.to_kind(self.kind)
        } else {
            conv(input, &weight.to_kind(self.kind), bias.as_ref())?
        };
        if norm {
            let buffer = |part: &str| &self.buffers[&format!("{}.{part}", node.name)];
            map = map.f_batch_norm(
                Some(parameter("bn.weight")),
                Some(parameter("bn.bias")),
                Some(buffer("bn.running_mean")),
                Some(buffer("bn.running_var")),
                true,
                NORM_MOMENTUM,
                NORM_EPSILON,
                true,
            )?;
        }
        self.as_activation(id, activate(map, activation))
    }

    /// Returns the gradients as one vector in the layout of the learned values, and clears them.
    pub fn take_gradients(&mut self) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut ours = HashMap::new();
        for Pending { weight, map, probe, window } in self.pending.drain(..) {
            let gradient = probe.grad();
            // Undefined if nothing after it took part in the loss: a batch without an object does not use the boxes.
            if gradient.defined() {
                ours.insert(weight, depthwise::weight_gradient(&map, &gradient, window)?);
            }
        }
        let mut parts = Vec::with_capacity(self.order.len());
        for name in &self.order {
            let parameter = &self.parameters[name];
            let gradient = parameter.grad();
            parts.push(if let Some(gradient) = ours.get(name) {
                gradient.f_flatten(0, -1)?
            } else if gradient.defined() {
                gradient.f_flatten(0, -1)?
            } else {
                Tensor::f_zeros([parameter.numel() as i64], (Kind::Float, self.device))?
            });
            let gap = parameter.numel().next_multiple_of(ALIGNMENT) - parameter.numel();
            if gap > 0 {
                parts.push(Tensor::f_zeros([gap as i64], (Kind::Float, self.device))?);
            }
        }
        let flat = Tensor::f_cat(&parts, 0)?;
        self.parameters.values_mut().for_each(Tensor::zero_grad);
        Ok(flat)
    }
}

/// The output of an operation without weights that is not a head, from its input maps.
pub(super) fn without_weights(node: &Node, inputs: &[&Tensor]) -> Result<Tensor> {
    Ok(match &node.op {
        &Op::MaxPool { kernel, stride, padding } => {
            let (kernel, stride) = (kernel as i64, stride as i64);
            let pool = |map: &Tensor, border: i64| {
                map.f_max_pool2d([kernel, kernel], [stride, stride], [border, border], [1, 1], false)
            };
            // The border extends as far as the last window.
            let border = |side: i64| kernel - stride + side % stride;
            let size = inputs[0].size();
            let (below, right) = (border(size[2]), border(size[3]));
            match padding {
                PoolPadding::Both => pool(inputs[0], kernel / 2)?,
                PoolPadding::End if below + right == 0 => pool(inputs[0], 0)?,
                PoolPadding::End => {
                    pool(&inputs[0].f_pad([0, right, 0, below], "constant", f64::NEG_INFINITY)?, 0)?
                }
            }
        }
        &Op::Upsample { factor, mode } => {
            let size = inputs[0].size();
            let size = [size[2] * factor as i64, size[3] * factor as i64];
            match mode {
                UpsampleMode::Nearest => inputs[0].f_upsample_nearest2d(size, None, None)?,
                UpsampleMode::Bilinear => inputs[0].f_upsample_bilinear2d(size, false, None, None)?,
            }
        }
        Op::Concat => Tensor::f_cat(inputs, 1)?,
        &Op::Slice { start } => inputs[0].f_narrow(1, start as i64, node.channels as i64)?,
        Op::Add => {
            let mut sum = inputs[0].shallow_clone();
            for input in &inputs[1..] {
                sum = sum.f_add(input)?;
            }
            sum
        }
        Op::GlobalAveragePool => inputs[0].f_adaptive_avg_pool2d([1, 1])?,
        Op::Scale => inputs[0].f_mul(inputs[1])?,
        Op::Image | Op::Conv { .. } | Op::Detect { .. } => {
            return Err(Error::Training("an operation has weights, or is no map".into()));
        }
    })
}

fn activate(mut map: Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::None => map,
        Activation::Relu => map.relu_(),
        // In place, because the backward pass of normalisation needs only its own input.
        Activation::Relu6 => map.relu6_(),
        // tch supports only a slope of 0.01 in `leaky_relu`. As the maximum of two maps it would need ten backward
        // passes.
        Activation::LeakyRelu => {
            map.prelu(&Tensor::from_slice(&[LEAKY_SLOPE]).to_device(map.device()).to_kind(map.kind()))
        }
        Activation::HardSigmoid => map.hardsigmoid(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Activation, Layer, LayerKind};

    /// Two branches of a 5×5 DSConv each, sides and scores, at stride 2.
    fn network() -> Network {
        let conv = |name: &str, out, stride, norm| {
            let kind = LayerKind::Conv { out, kernel: 1, stride, activation: Activation::None, norm };
            Layer::new(name, kind)
        };
        let branch = |name: &str| {
            // No kinks, because a slope is measured.
            let kind = LayerKind::ds_conv(5, 5, 1, Activation::None);
            Layer::new(name, kind).from(["stem"])
        };
        let detect = LayerKind::Detect { head: Head::AnchorFree };
        let layers = vec![
            conv("stem", 8, 2, true),
            branch("box"),
            conv("sides", 4, 1, false),
            branch("class"),
            conv("scores", 3, 1, false),
            Layer::new("detect", detect).from(["sides", "scores"]),
        ];
        Network { name: "branches".into(), classes: 3, names: Vec::new(), layers }
    }

    /// A loss of the scores alone: the box branch takes no part in it.
    fn loss(network: &Network, layout: &Layout, learned: &[f32], rgb: &Tensor) -> (Tensor, Tensor) {
        let measured = tch::Tensor::ones([layout.measured], tch::kind::FLOAT_CPU);
        let learned = Tensor::from_slice(learned);
        let mut replica = Replica::new(network, layout, &learned, measured, Kind::Float, None, None).unwrap();
        let Predictions::AnchorFree { logits, .. } = replica.forward(rgb).unwrap() else {
            panic!("it has no anchors")
        };
        let loss = logits.square().sum(Kind::Double);
        loss.backward();
        (loss.detach(), replica.take_gradients().unwrap())
    }

    #[test]
    fn gradients_are_the_slope_of_the_loss_and_zero_where_nothing_was_lost() {
        // On processors with only AVX2, libtorch 2.11 corrupts the heap in the gradient of so few channels, also in
        // 32-bit floats (in oneDNN's `convolution_backward_weights`).
        if !crate::train::precision::has_safe_f16() {
            return;
        }
        let network = network();
        let graph = network.graph().unwrap();
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&crate::reference::random_weights(&graph, 3), &mut learned, &mut measured);
        let pixels: Vec<u8> = (0..2 * 12 * 12 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([2, 12, 12, 3]);

        let (_, gradient) = loss(&network, &layout, &learned, &rgb);
        let gradient: Vec<f32> = Vec::try_from(gradient).unwrap();
        let place = |name: &str| {
            let (spec, offset) = layout.slots.iter().find(|(spec, _)| spec.name == name).unwrap();
            *offset as usize..*offset as usize + spec.count()
        };
        let depthwise = place("class.depthwise.conv.weight");
        // Behind tensors of five numbers, and the gaps that align what follows them.
        let scores = place("scores.conv.weight");
        assert_eq!(scores.start % ALIGNMENT, 0);
        for weight in [depthwise.start, depthwise.start + 12, depthwise.end - 1, scores.start, scores.end - 1] {
            let at = |step: f32| {
                let mut moved = learned.clone();
                moved[weight] += step;
                loss(&network, &layout, &moved, &rgb).0.double_value(&[])
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            let ours = f64::from(gradient[weight]);
            assert!((slope - ours).abs() < 0.02 * (1.0 + slope.abs()), "{weight}: {ours}, measured {slope}");
        }
        assert!(gradient[place("box.depthwise.conv.weight")].iter().all(|g| *g == 0.0));
    }

    #[test]
    fn frozen_convolutions_have_no_gradient_with_normalisation_or_without() {
        let mut network = network();
        for layer in &mut network.layers {
            if let LayerKind::Conv { norm, .. } = &mut layer.kind {
                *norm = false;
            }
        }
        let layout = Layout::new(&network.graph().unwrap());
        let learned = Tensor::ones([layout.learned], tch::kind::FLOAT_CPU) * 0.1;
        let measured = Tensor::ones([layout.measured], tch::kind::FLOAT_CPU);
        let mut replica =
            Replica::new(&network, &layout, &learned, measured, Kind::Float, Some("class"), None).unwrap();
        let rgb = Tensor::ones([1, 12, 12, 3], (Kind::Uint8, Device::Cpu)) * 100;
        let Predictions::AnchorFree { sides, logits } = replica.forward(&rgb).unwrap() else {
            panic!("it has no anchors")
        };
        (sides.sum(Kind::Float) + logits.square().sum(Kind::Float)).backward();
        for (name, parameter) in &replica.parameters {
            assert_eq!(parameter.grad().defined(), name.starts_with("scores."), "{name}");
        }
        let gradient: Vec<f32> = Vec::try_from(replica.take_gradients().unwrap()).unwrap();
        let (_, first) = layout.slots.iter().find(|(spec, _)| spec.name == "scores.conv.weight").unwrap();
        assert!(gradient[..*first as usize].iter().all(|value| *value == 0.0));
        assert!(gradient[*first as usize..].iter().any(|value| *value != 0.0));
    }

    #[test]
    fn maps_of_frozen_layers_stand_for_the_image() {
        let network = include_str!("../../tests/export/distribution.json");
        let network: Network = serde_json::from_str(network).unwrap();
        let graph = network.graph().unwrap();
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&crate::reference::random_weights(&graph, 24), &mut learned, &mut measured);
        let (learned, measured) = (Tensor::from_slice(&learned), Tensor::from_slice(&measured));
        let pixels: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([1, 64, 64, 3]);
        let mut maps_read = std::collections::BTreeSet::new();
        for layer in &network.layers[..network.layers.len() - 1] {
            let freeze = Some(layer.name.as_str());
            let measured = measured.copy();
            let mut replica =
                Replica::new(&network, &layout, &learned, measured, Kind::Float, freeze, None).unwrap();
            let learns: Vec<usize> = (replica.frozen + 1..graph.nodes.len() - 1).collect();
            let (_, expected) = replica.forward_with(&rgb, &learns, None).unwrap();
            let frozen = replica.frozen_maps(&rgb).unwrap();
            maps_read.insert(frozen.len());
            let (_, actual) = replica.forward_behind(&frozen, &learns).unwrap();
            assert_eq!(actual.len(), learns.len());
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_eq!(actual, expected, "{freeze:?}");
            }
        }
        assert!(maps_read.contains(&1) && maps_read.len() > 1, "{maps_read:?}");
    }

    #[test]
    fn copies_of_a_map_have_the_gradient_of_its_slices() {
        let none = Activation::None;
        let conv = |name: &str, out| {
            let kind =
                LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::LeakyRelu, norm: false };
            Layer::new(name, kind)
        };
        let slice =
            |name: &str, start, channels| Layer::new(name, LayerKind::Slice { start, channels }).from(["map"]);
        let network = |first: usize| Network {
            layers: vec![
                conv("map", 10),
                slice("some", 0, 7),
                slice("few", first, 3),
                Layer::new("copies", LayerKind::Concat).from(["map", "some", "map", "few", "some"]),
                Layer::new("deep", LayerKind::ds_conv(6, 3, 1, none)),
                conv("sides", 4).from(["deep"]),
                conv("scores", 3).from(["deep"]),
                Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
            ],
            ..network()
        };
        let layout = Layout::new(&network(0).graph().unwrap());
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        let weights = crate::reference::random_weights(&network(0).graph().unwrap(), 3);
        layout.gather(&weights, &mut learned, &mut measured);
        let (learned, measured) = (Tensor::from_slice(&learned), Tensor::from_slice(&measured));
        let replica = |network: &Network| {
            Replica::new(network, &layout, &learned, measured.copy(), Kind::Float, None, None).unwrap()
        };
        let pixels: Vec<u8> = (0..2 * 12 * 12 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([2, 12, 12, 3]);
        let gradient = |replica: &mut Replica| {
            let Predictions::AnchorFree { sides, logits } = replica.forward(&rgb).unwrap() else {
                panic!("it has no anchors")
            };
            (sides.square().sum(Kind::Float) + logits.square().sum(Kind::Float)).backward();
            replica.take_gradients().unwrap()
        };
        let (mut split, mut sliced) = (replica(&network(0)), replica(&network(0)));
        assert_eq!(std::mem::take(&mut sliced.copies).len(), 1);
        let (split, sliced) = (gradient(&mut split), gradient(&mut sliced));
        let off = ((&split - &sliced).norm() / sliced.norm()).double_value(&[]);
        assert!(off < 1e-5, "{off}");
        // A slice of other channels is no copy of the first.
        assert!(replica(&network(7)).copies.is_empty());
    }

    #[test]
    fn every_operation_gives_what_the_reference_gives() {
        let network = include_str!("../../tests/export/distribution.json");
        let network: Network = serde_json::from_str(network).unwrap();
        let graph = network.graph().unwrap();
        let weights = crate::reference::random_weights(&graph, 24);
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&weights, &mut learned, &mut measured);
        // Everything is frozen, so normalisation uses the measured values.
        let (learned, measured) = (Tensor::from_slice(&learned), Tensor::from_slice(&measured));
        let mut replica =
            Replica::new(&network, &layout, &learned, measured, Kind::Float, Some("scores64"), None).unwrap();
        let (width, height) = (96, 64);
        let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([1, height as i64, width as i64, 3]);
        let nodes: Vec<usize> = (1..graph.nodes.len() - 1).collect();
        let (_, maps) = replica.forward_with(&rgb, &nodes, None).unwrap();

        let values = (0..pixels.len()).map(|i| f32::from(pixels[i % (width * height) * 3 + i / (width * height)]));
        let values = values.map(|value| value / 255.0).collect();
        let image = crate::reference::Map { channels: 3, height, width, values };
        let expected = crate::reference::run(&graph, &weights, image);
        for (id, map) in nodes.into_iter().zip(maps) {
            let (name, expected) = (&graph.nodes[id].name, &expected[id]);
            let shape = [1, expected.channels, expected.height, expected.width].map(|side| side as i64);
            assert_eq!(map.size(), shape, "{name}");
            let actual: Vec<f32> = Vec::try_from(map.contiguous().flatten(0, -1)).unwrap();
            let off = actual.iter().zip(&expected.values).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(off < 1e-4, "{name}: {off}");
        }
    }

    #[test]
    fn sixteen_bit_gradients_of_a_small_loss_need_its_scale() {
        if !crate::train::precision::has_safe_f16() {
            return;
        }
        let network = network();
        let graph = network.graph().unwrap();
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&crate::reference::random_weights(&graph, 3), &mut learned, &mut measured);
        let pixels: Vec<u8> = (0..2 * 12 * 12 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([2, 12, 12, 3]);
        let gradient = |kind, scale: f64| -> Tensor {
            let measured = Tensor::ones([layout.measured], tch::kind::FLOAT_CPU);
            let learned = Tensor::from_slice(&learned);
            let mut replica = Replica::new(&network, &layout, &learned, measured, kind, None, None).unwrap();
            let Predictions::AnchorFree { logits, .. } = replica.forward(&rgb).unwrap() else {
                panic!("it has no anchors")
            };
            // As small as the part of one cell in a batch's loss.
            (logits.square().sum(Kind::Float) * 1e-8 * scale).backward();
            replica.take_gradients().unwrap() / scale
        };
        let exact = gradient(Kind::Float, 1.0);
        let off = |other: Tensor| ((&exact - other).norm() / exact.norm()).double_value(&[]);
        let (scaled, unscaled) = (off(gradient(Kind::Half, 65_536.0)), off(gradient(Kind::Half, 1.0)));
        assert!(scaled < 0.02 && unscaled > 0.1, "{scaled} with a scale, {unscaled} without");
    }

    fn logits(learned: &[f32], int8: Option<Plan>) -> Vec<f32> {
        let network = network();
        let layout = Layout::new(&network.graph().unwrap());
        let measured = Tensor::ones([layout.measured], tch::kind::FLOAT_CPU);
        let learned = Tensor::from_slice(learned);
        let mut replica = Replica::new(&network, &layout, &learned, measured, Kind::Float, None, int8).unwrap();
        let pixels: Vec<u8> = (0..2 * 12 * 12 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let rgb = Tensor::from_slice(&pixels).view([2, 12, 12, 3]);
        let Predictions::AnchorFree { logits, .. } = replica.forward(&rgb).unwrap() else {
            panic!("it has no anchors")
        };
        Vec::try_from(logits.flatten(0, -1)).unwrap()
    }

    #[test]
    fn rounded_weights_and_activations_are_those_of_bytes() {
        let graph = network().graph().unwrap();
        let layout = Layout::new(&graph);
        let (mut learned, mut measured) = (vec![0.0; layout.learned as usize], vec![0.0; layout.measured as usize]);
        layout.gather(&crate::reference::random_weights(&graph, 3), &mut learned, &mut measured);
        let nodes = graph.nodes.len();
        let weights_alone = Plan { activations: vec![None; nodes], weights: vec![true; nodes], weight_bits: 4 };

        // The same as rounding each output channel to seven steps either side by hand.
        let mut rounded = learned.clone();
        for (spec, offset) in &layout.slots {
            if spec.name.ends_with("conv.weight") {
                let values = &mut rounded[*offset as usize..][..spec.count()];
                for channel in values.chunks_mut(spec.count() / spec.shape[0]) {
                    let largest = channel.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
                    let step = largest / 7.0;
                    channel.iter_mut().for_each(|weight| *weight = (*weight / step).round() * step);
                }
            }
        }
        let (exact, bytes, by_hand) =
            (logits(&learned, None), logits(&learned, Some(weights_alone.clone())), logits(&rounded, None));
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off(&bytes, &by_hand) < 1e-4 && off(&bytes, &exact) > 1e-2);

        // With steps so wide that every activation rounds to zero, only the bias remains.
        let wide = crate::quantize::Scale { scale: 1e6, zero_point: 0 };
        let nothing = Plan { activations: vec![Some(wide); nodes], weights: vec![false; nodes], weight_bits: 8 };
        let logits = logits(&learned, Some(nothing));
        assert!(logits.chunks(36).all(|map| map.iter().all(|value| (value - map[0]).abs() < 1e-6)));
    }
}
