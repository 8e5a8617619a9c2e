//! Divides a graph between the engine and tract.
//!
//! Nodes that the engine supports form regions, the others small ONNX models. Both are stages. They are ordered so that
//! no stage reads the output of a later one.

use std::collections::{HashMap, HashSet};

use super::check::from_front;
use super::inference::Inference;
use super::rewrite::Rewritten;
use crate::engine::net::{Net, Op};
use crate::error::{Error, Kind, Result};
use crate::limits::{Budget, product};
use crate::lower::{self, ForeignNode, Lowered, Lowering, Reason, Step, Values};
use crate::onnx::File;
use crate::onnx::attributes::Attributes;
use crate::onnx::messages::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TensorType, TypeProto,
    ValueInfoProto,
};

/// A part of the network.
pub(super) struct Stage {
    pub work: Work,
    /// Names of its input tensors, in its own order.
    pub inputs: Vec<String>,
    /// Names of its outputs that later stages read, or that are outputs of the network.
    pub outputs: Vec<String>,
}

pub(super) enum Work {
    /// Reads and writes images of floats.
    Engine(Net),
    Tract(ModelProto),
}

/// How many copies of a constant exist while tract loads its part: here, in the bytes of the part, as parsed by tract,
/// as a tensor of tract, and packed.
const COPIES: u64 = 5;

/// The version of the file format in models for tract, which reads any version.
const IR_VERSION: i64 = 8;

/// Divides a graph. Also returns the nodes that are left to tract.
///
/// # Errors
///
/// `unsupported-model` if a tensor between two stages has an unknown type or rank; `model-too-large` if too many
/// constants are read; the stored error of a node that tract must not run, if the engine does not run it.
pub(super) fn partition(
    file: &File,
    lowered: Lowered<'_>,
    inference: &Inference<'_>,
    budget: &mut Budget<'_>,
) -> Result<(Vec<Stage>, Vec<ForeignNode>)> {
    let graph = &file.graph;
    let Lowered { nodes, values, mut refused, image } = lowered;
    let answer = graph.output.first().map_or("", |output| output.name.as_str());
    // Nodes whose outputs are all known before the network runs belong to no stage: their readers get constants.
    let mut steps: HashMap<usize, Vec<Step<'_>>> = HashMap::new();
    let mut reasons: HashMap<usize, Reason> = HashMap::new();
    let mut constants: HashSet<usize> = HashSet::new();
    for (id, (node, lowering)) in graph.node.iter().zip(nodes).enumerate() {
        let outputs = || node.output.iter().filter(|name| !name.is_empty());
        match lowering {
            None => (),
            Some(Ok(Lowering::Constant)) => drop(constants.insert(id)),
            Some(Ok(Lowering::Steps(of_node))) => drop(steps.insert(id, of_node)),
            Some(Err(_)) if outputs().all(|name| inference.is_constant(name) && name != answer) => {
                constants.insert(id);
            }
            Some(Err(reason)) => drop(reasons.insert(id, reason)),
        }
    }
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (id, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().map(|name| (name.as_str(), id)));
        if steps.contains_key(&id) || reasons.contains_key(&id) {
            let names = node.input.iter().map(String::as_str).chain(read_by_step(&steps, id));
            names.for_each(|name| readers.entry(name).or_default().push(id));
        }
    }
    let links = Links { graph, readers, makers, answer };
    keep_what_pays(&links, &mut steps, &mut reasons);

    // A path between two nodes of a region must not lead through a node outside it. Counting how often a path has left
    // the regions gives levels with this property: in each level, tract's nodes run first, then the region.
    let mut levels: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    let mut level: HashMap<usize, usize> = HashMap::new();
    for (id, node) in graph.node.iter().enumerate() {
        let taken = steps.contains_key(&id);
        if !(taken || reasons.contains_key(&id)) {
            continue;
        }
        let names = node.input.iter().map(String::as_str).chain(read_by_step(&steps, id));
        let above = names.filter_map(|name| links.makers.get(name)).map(|maker| {
            let from = level.get(maker).copied().unwrap_or(0);
            from + usize::from(!taken && steps.contains_key(maker))
        });
        let own = above.max().unwrap_or(0);
        level.insert(id, own);
        levels.resize_with(levels.len().max(own + 1), Default::default);
        if taken { levels[own].1.push(id) } else { levels[own].0.push(id) }
    }
    let foreign = graph.node.iter().enumerate();
    let foreign =
        foreign.filter_map(|(id, node)| Some(ForeignNode::new(node, *reasons.get(&id)?, &values))).collect();
    let mut stages = Vec::new();
    for (of_tract, of_engine) in levels {
        if !of_tract.is_empty() {
            let of_tract = Part { nodes: &of_tract, constants: &constants, refused: &mut refused };
            stages.push(model(file, &links, of_tract, image, inference, budget)?);
        }
        if !of_engine.is_empty() {
            stages.push(region(&links, &of_engine, &mut steps, &values));
        }
    }
    Ok((stages, foreign))
}

/// The tensors that the engine's steps for a node read. They may be outputs of earlier nodes than those that the node
/// itself reads.
fn read_by_step<'s, 'a>(steps: &'s HashMap<usize, Vec<Step<'a>>>, id: usize) -> impl Iterator<Item = &'a str> + 's {
    steps.get(&id).into_iter().flatten().flat_map(|step| step.inputs.iter().copied())
}

/// The producer and the readers of each tensor.
struct Links<'a> {
    graph: &'a GraphProto,
    readers: HashMap<&'a str, Vec<usize>>,
    makers: HashMap<&'a str, usize>,
    answer: &'a str,
}

impl<'a> Links<'a> {
    fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    fn outputs(&self, id: usize) -> impl Iterator<Item = &'a str> {
        self.graph.node[id].output.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The outputs of nodes that other nodes read, or that are outputs of the network.
    fn wanted(&self, ids: &[usize]) -> Vec<&'a str> {
        let inside: HashSet<usize> = ids.iter().copied().collect();
        let outputs = ids.iter().flat_map(|id| self.outputs(*id));
        outputs
            .filter(|name| *name == self.answer || self.readers(name).iter().any(|reader| !inside.contains(reader)))
            .collect()
    }
}

/// Drops steps that would only be converted to the engine's layout and back, and quantised tensors that a step outside
/// reads. Repeats this until nothing changes.
fn keep_what_pays(
    links: &Links<'_>,
    steps: &mut HashMap<usize, Vec<Step<'_>>>,
    reasons: &mut HashMap<usize, Reason>,
) {
    let order: Vec<usize> = (0..links.graph.node.len()).collect();
    loop {
        let is = |marks: &HashMap<usize, bool>, id: &usize| marks.get(id).copied().unwrap_or(false);
        let heavy = |of_node: &[Step<'_>]| of_node.iter().any(Step::is_heavy);
        let read = |of_node: &[Step<'_>]| -> Vec<usize> {
            let names = of_node.iter().flat_map(|step| &step.inputs);
            names.filter_map(|name| links.makers.get(name).copied()).collect()
        };
        // Steps after a convolution, or before one with only engine steps in between.
        let (mut behind, mut before) = (HashMap::new(), HashMap::new());
        for id in &order {
            let Some(of_node) = steps.get(id) else { continue };
            behind.insert(*id, heavy(of_node) || read(of_node).iter().any(|maker| is(&behind, maker)));
        }
        for id in order.iter().rev() {
            let Some(of_node) = steps.get(id) else { continue };
            let mut readers = links.outputs(*id).flat_map(|name| links.readers(name)).peekable();
            let leads = readers.peek().is_some()
                && readers.all(|reader| is(&before, reader))
                && links.outputs(*id).all(|name| name != links.answer);
            before.insert(*id, heavy(of_node) || leads);
        }
        let drop = order.iter().filter(|id| {
            let Some(of_node) = steps.get(id) else { return false };
            let pays = is(&behind, id) || is(&before, id);
            let op_of = |id: &usize| steps.get(id).and_then(|of_node| of_node.first()).map(|step| &step.op);
            let whole = match of_node.first().map(|step| &step.op) {
                Some(Op::Quantize { .. }) => links.outputs(**id).all(|name| {
                    let readers = links.readers(name);
                    name != links.answer
                        && readers.iter().all(|reader| matches!(op_of(reader), Some(Op::Dequantize)))
                }),
                Some(Op::Dequantize) => {
                    read(of_node).iter().all(|maker| matches!(op_of(maker), Some(Op::Quantize { .. })))
                }
                _ => true,
            };
            !(pays && whole)
        });
        let drop: Vec<usize> = drop.copied().collect();
        if drop.is_empty() {
            return;
        }
        for id in drop {
            steps.remove(&id);
            reasons.insert(id, Reason::Alone);
        }
    }
}

/// The region of the nodes `ids`, which are in an order of execution.
fn region<'a>(
    links: &Links<'a>,
    ids: &[usize],
    steps: &mut HashMap<usize, Vec<Step<'a>>>,
    values: &Values<'a>,
) -> Stage {
    let of_region = ids.iter().flat_map(|id| links.outputs(*id).zip(steps.remove(id).unwrap_or_default()));
    let outputs = links.wanted(ids);
    let (net, inputs) = lower::net(of_region, &outputs, values);
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Stage { work: Work::Engine(net), inputs: owned(inputs), outputs: owned(outputs) }
}

/// Nodes for tract.
struct Part<'p> {
    nodes: &'p [usize],
    /// Nodes whose outputs are known before the network runs.
    constants: &'p HashSet<usize>,
    /// Errors of nodes that tract must not run.
    refused: &'p mut HashMap<usize, Error>,
}

/// The ONNX model of a part, with the constants that it reads.
fn model(
    file: &File,
    links: &Links<'_>,
    part: Part<'_>,
    image: &str,
    inference: &Inference<'_>,
    budget: &mut Budget<'_>,
) -> Result<Stage> {
    let graph = &file.graph;
    let Part { nodes: ids, constants, refused } = part;
    let weights: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let mut nodes: Vec<usize> = ids.to_vec();
    let mut initializer = Vec::new();
    let mut inputs = Vec::new();
    let mut seen: HashSet<&str> = ids.iter().flat_map(|id| links.outputs(*id)).collect();
    let mut open: Vec<&str> = ids.iter().flat_map(|id| names(&graph.node[*id])).collect();
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        let maker = links.makers.get(name).copied();
        if weights.contains_key(name) || maker.is_some_and(|id| constants.contains(&id)) {
            budget.take(COPIES.saturating_mul(inference.bytes(name)), name)?;
        }
        if let Some(weight) = weights.get(name) {
            initializer.push((*weight).clone());
        } else if let Some(id) = maker.filter(|id| constants.contains(id)) {
            match inference.constant(name) {
                Some(constant) => initializer.push(constant),
                // The constant is too large to be computed here: tract computes it when it loads the model.
                None => {
                    nodes.push(id);
                    open.extend(names(&graph.node[id]));
                }
            }
        } else {
            debug_assert!(maker.is_some() || name == image);
            inputs.push(name);
        }
    }
    inputs.sort_unstable();
    nodes.sort_unstable();
    nodes.dedup();
    if let Some(error) = nodes.iter().find_map(|id| refused.remove(id)) {
        return Err(error);
    }
    let outputs = links.wanted(ids);
    let info = |name: &str| {
        let Some((kind, sides)) = inference.kind(name) else {
            let message = format!("the type of {name:?}, which is between two parts of the network, is not known");
            return Err(Error::new(Kind::UnsupportedModel, message));
        };
        Ok(value_info(name, kind, &sides))
    };
    let mut forms = Vec::with_capacity(nodes.len());
    for node in nodes.iter().map(|id| &graph.node[*id]) {
        let node = match inference.rewritten(node) {
            Some(Rewritten { node, constants }) => {
                initializer.extend(constants.into_iter().map(|(_, constant)| constant));
                node
            }
            None => node.clone(),
        };
        match inference.gathered(&node) {
            Some((gathers, constants)) => {
                let numbers = constants.iter().map(|constant| constant.int64_data.len()).sum::<usize>();
                budget.take(COPIES.saturating_mul(product(&[numbers, size_of::<i64>()])), node.label())?;
                initializer.extend(constants);
                forms.extend(gathers);
            }
            None => forms.extend(within(node, inference, &mut initializer)),
        }
    }
    let proto = GraphProto {
        name: "part".to_owned(),
        node: forms,
        initializer,
        input: inputs.iter().map(|name| info(name)).collect::<Result<_>>()?,
        output: outputs.iter().map(|name| ValueInfoProto { name: (*name).to_owned(), r#type: None }).collect(),
        ..Default::default()
    };
    let proto = ModelProto {
        ir_version: IR_VERSION,
        graph: Some(proto),
        opset_import: file.opsets.clone(),
        ..Default::default()
    };
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Ok(Stage { work: Work::Tract(proto), inputs: owned(inputs), outputs: owned(outputs) })
}

/// The node; and before it, if it reads at indices that depend on the content of the picture, nodes that clamp the
/// indices to the size of its input. tract panics at indices out of bounds. `runtime_check` handles the other operators
/// with indices.
fn within(mut node: NodeProto, inference: &Inference<'_>, initializer: &mut Vec<TensorProto>) -> Vec<NodeProto> {
    let [data, at] = &node.input[..] else { return vec![node] };
    let axis = match node.op_type.as_str() {
        "Gather" | "GatherElements" => Attributes(&node).int("axis", 0).unwrap_or_default(),
        "ArrayFeatureExtractor" => -1,
        _ => return vec![node],
    };
    if inference.is_constant(at) {
        return vec![node];
    }
    let sides = inference.kind(data).map(|(_, sides)| sides).unwrap_or_default();
    let axis = from_front(axis, sides.len() as i64);
    let Some(&Some(side)) = sides.get(axis as usize) else { return vec![node] };
    let mut nodes = Vec::with_capacity(3);
    let mut at = at.clone();
    for (operator, bound) in [("Max", -(side as i64)), ("Min", side as i64 - 1)] {
        // Named after the output of the node, whose name is unique.
        let output = format!("{} within {operator}", node.output[0]);
        let limit = format!("{output} of");
        let Some(number) = inference.number(&limit, &node.input[1], bound) else { return vec![node] };
        initializer.push(number);
        let input = vec![at, limit];
        nodes.push(NodeProto {
            op_type: operator.to_owned(),
            input,
            output: vec![output.clone()],
            ..Default::default()
        });
        at = output;
    }
    node.input[1] = at;
    nodes.push(node);
    nodes
}

/// The names of the tensors that a node reads.
fn names(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.input.iter().map(String::as_str).filter(|name| !name.is_empty())
}

fn value_info(name: &str, kind: DataType, sides: &[Option<usize>]) -> ValueInfoProto {
    let dim = sides.iter().map(|side| Dimension { dim_value: side.map(|side| side as i64) }).collect();
    let tensor_type = TensorType { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
