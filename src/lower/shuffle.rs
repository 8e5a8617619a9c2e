//! Channel shuffles (ShuffleNet, Zhang et al. 2018): three nodes of a file that become one operation of the engine.
//!
//! A Reshape splits the channels of an image into groups, a Transpose swaps groups and channels, and a second Reshape
//! restores the shape of the image. The tensors in between are not images, so the table cannot translate the nodes one
//! by one.

use std::collections::HashMap;

use super::operators::Step;
use super::value::{Value, Values};
use crate::engine::net::{Kind, Op, Shape};
use crate::onnx::attributes::Attributes;
use crate::onnx::messages::{GraphProto, NodeProto};
use crate::onnx::tensor::{self, Values as Stored};

/// The transposition of `[1, groups, channels, height, width]`.
const PERMUTATION: [i64; 5] = [0, 2, 1, 3, 4];

/// The shuffles of a graph. Nodes are examined in order.
pub(super) struct Shuffles<'a> {
    graph: &'a GraphProto,
    /// By index of the first node: the second and the third.
    triples: HashMap<usize, [usize; 2]>,
    /// Results for second and third nodes.
    known: HashMap<usize, Part<'a>>,
}

/// The role of a node in a shuffle.
pub(super) enum Part<'a> {
    /// The first or the second node.
    Inner,
    Last(Step<'a>),
}

impl<'a> Shuffles<'a> {
    pub fn new(graph: &'a GraphProto) -> Shuffles<'a> {
        // The only reader of a tensor; `None` if there are several, or if the tensor is the output.
        let mut readers: HashMap<&str, Option<usize>> = HashMap::new();
        for (id, node) in graph.node.iter().enumerate() {
            for name in &node.input {
                readers.entry(name).and_modify(|reader| *reader = None).or_insert(Some(id));
            }
        }
        for output in &graph.output {
            readers.insert(&output.name, None);
        }
        let behind = |node: &NodeProto, operator: &str| {
            let [output] = &node.output[..] else { return None };
            let id = readers.get(output.as_str()).copied().flatten()?;
            let reader = &graph.node[id];
            (reader.op_type == operator && reader.input.first() == Some(output)).then_some(id)
        };
        let triple = |(first, node): (usize, &'a NodeProto)| {
            let second = (node.op_type == "Reshape").then(|| behind(node, "Transpose")).flatten()?;
            let is_swap = Attributes(&graph.node[second]).ints("perm") == Some(&PERMUTATION);
            let third = is_swap.then(|| behind(&graph.node[second], "Reshape")).flatten()?;
            Some((first, [second, third]))
        };
        let triples = graph.node.iter().enumerate().filter_map(triple).collect();
        Shuffles { graph, triples, known: HashMap::new() }
    }

    /// The role of node `id` in a shuffle, if it has one. Call it for every node in order, with what is known about the
    /// tensors before the node.
    pub fn part(&mut self, id: usize, values: &Values<'a>) -> Option<Part<'a>> {
        if let Some([second, third]) = self.triples.remove(&id) {
            let step = self.step(id, third, values)?;
            self.known.insert(second, Part::Inner);
            self.known.insert(third, Part::Last(step));
            return Some(Part::Inner);
        }
        self.known.remove(&id)
    }

    fn step(&self, first: usize, third: usize, values: &Values<'a>) -> Option<Step<'a>> {
        let node = &self.graph.node[first];
        let image = node.input.first()?.as_str();
        let Some(&Value::Image(shape, Kind::Float)) = values.get(image) else { return None };
        let Shape { height, width, channels } = shape;
        let whole = [1, channels, height, width];
        let [1, groups, of_group, h, w] = self.target(node, &whole, values)?[..] else { return None };
        if (groups * of_group, h, w) != (channels, height, width) {
            return None;
        }
        let turned = [1, of_group, groups, height, width];
        if self.target(&self.graph.node[third], &turned, values)? != whole {
            return None;
        }
        Some(Step { op: Op::Shuffle(groups), inputs: vec![image], shape, kind: Kind::Float })
    }

    /// The shape of the output of a Reshape of a tensor of shape `from`.
    fn target(&self, node: &NodeProto, from: &[usize], values: &Values<'a>) -> Option<Vec<usize>> {
        let keeps_zeros = Attributes(node).int("allowzero", 0)? != 0;
        let wanted = self.ints(node.input.get(1)?, values)?;
        let mut shape = Vec::with_capacity(wanted.len());
        for (axis, &side) in wanted.iter().enumerate() {
            shape.push(match side {
                0 if !keeps_zeros => *from.get(axis)?,
                // Filled in below.
                -1 => 0,
                side => usize::try_from(side).ok()?,
            });
        }
        if let Some(open) = wanted.iter().position(|side| *side == -1) {
            let others = shape.iter().enumerate().filter(|(axis, _)| *axis != open).map(|(_, side)| side);
            let others = others.copied().try_fold(1usize, usize::checked_mul).filter(|others| *others > 0)?;
            shape[open] = from.iter().product::<usize>() / others;
        }
        let product = shape.iter().copied().try_fold(1usize, usize::checked_mul)?;
        (product == from.iter().product::<usize>()).then_some(shape)
    }

    /// Integers that are known, or that are in a constant node not examined yet.
    fn ints(&self, name: &str, values: &Values<'a>) -> Option<Vec<i64>> {
        if let Some(value) = values.get(name) {
            return value.ints().map(|array| array.values);
        }
        let maker =
            self.graph.node.iter().find(|node| {
                node.op_type == "Constant" && node.output.first().is_some_and(|output| output == name)
            })?;
        let [attribute] = &maker.attribute[..] else { return None };
        match tensor::values(attribute.t.as_ref()?)? {
            Stored::I64(values) => Some(values),
            _ => None,
        }
    }
}
