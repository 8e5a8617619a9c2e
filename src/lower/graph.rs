//! Applies the table of operators to a graph, and builds engine graphs of the supported nodes.

use std::collections::HashMap;

use super::cost;
use super::operators::{self, Meaning, Step};
use super::reason::Reason;
use super::shuffle::{Part, Shuffles};
use super::value::{Value, Values};
use crate::engine::net::{Id, Kind, Net, Node, Op, Shape};
use crate::error::{Error, Result};
use crate::limits::Budget;
use crate::onnx::messages::{GraphProto, NodeProto};
use crate::size::InputSize;

/// Infers shapes and constants of nodes that the engine does not know.
pub(crate) trait Inference<'a> {
    /// Records the shape of the graph's input, or of an image that the engine computes.
    fn image(&mut self, name: &'a str, shape: Shape);

    /// Infers the outputs of `node`. All its inputs have been recorded or inferred.
    ///
    /// # Errors
    ///
    /// `unsupported-operator` or `unsupported-model`, naming the node; `model-too-large` if its outputs are too large.
    fn infer(&mut self, node: &'a NodeProto, budget: &mut Budget<'_>) -> Result<Vec<Value<'a>>>;
}

/// The result for a node that the table supports.
pub(crate) enum Lowering<'a> {
    /// Its output is among [`Lowered::values`].
    Constant,
    /// One step per output.
    Steps(Vec<Step<'a>>),
}

/// A graph with the meaning of each node for the engine.
pub(crate) struct Lowered<'a> {
    /// By node. `None` for nodes that were not examined, and for those that are part of a pattern with a later node.
    pub nodes: Vec<Option<Result<Lowering<'a>, Reason>>>,
    pub values: Values<'a>,
    /// Errors of `inference` for nodes that the table supports. The engine can run these nodes, but tract must not,
    /// because its behaviour for them is not checked.
    #[cfg_attr(not(feature = "tract"), expect(dead_code))]
    pub refused: HashMap<usize, Error>,
    /// The name of the one input that is not a weight.
    pub image: &'a str,
}

/// Applies the table to the `needed` nodes of a checked graph with one input. `inference` infers nodes that the table
/// does not support; without it, the tensors after such a node are unknown.
///
/// # Errors
///
/// Those of `inference`, and `model-too-large`.
pub(crate) fn lower<'a>(
    graph: &'a GraphProto,
    opset: i64,
    input: InputSize,
    needed: &[bool],
    inference: Option<&mut dyn Inference<'a>>,
    budget: &mut Budget<'_>,
) -> Result<Lowered<'a>> {
    lower_from(graph, opset, input, 3, needed, inference, budget)
}

/// [`lower`] for an input with any number of channels.
pub(super) fn lower_from<'a>(
    graph: &'a GraphProto,
    opset: i64,
    input: InputSize,
    channels: usize,
    needed: &[bool],
    mut inference: Option<&mut dyn Inference<'a>>,
    budget: &mut Budget<'_>,
) -> Result<Lowered<'a>> {
    let mut values: Values<'a> =
        graph.initializer.iter().map(|weight| (weight.name.as_str(), Value::Stored(weight))).collect();
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let image = inputs.into_iter().find(|name| !values.contains_key(name)).unwrap_or_default();
    let shape = Shape { height: input.height as usize, width: input.width as usize, channels };
    values.insert(image, Value::Image(shape, Kind::Float));
    if let Some(inference) = &mut inference {
        inference.image(image, shape);
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut refused = HashMap::new();
    let mut shuffles = Shuffles::new(graph);
    for (id, (node, needed)) in graph.node.iter().zip(needed).enumerate() {
        if !needed {
            nodes.push(None);
            continue;
        }
        let meaning = match shuffles.part(id, &values) {
            Some(Part::Inner) => {
                nodes.push(None);
                continue;
            }
            Some(Part::Last(step)) => Ok(Meaning::Steps(vec![step])),
            None => operators::meaning(node, opset, &values),
        };
        let are_floats = |steps: &[Step<'_>]| steps.iter().all(|step| step.kind == Kind::Float);
        let inferred = match &meaning {
            Ok(Meaning::Steps(steps)) if are_floats(steps) => None,
            _ => inference.as_mut().map(|inference| inference.infer(node, budget)),
        };
        let inferred = match inferred {
            Some(Err(error)) if meaning.is_ok() => {
                refused.insert(id, error);
                None
            }
            inferred => inferred,
        };
        let names = node.output.iter().map(String::as_str);
        nodes.push(Some(match meaning {
            Ok(Meaning::Steps(steps)) => {
                for (name, step) in names.zip(&steps) {
                    budget.work(cost::of_step(&step.op, step.shape), name)?;
                    if let Op::Conv(conv) = &step.op {
                        budget.take(cost::weights(conv), name)?;
                    }
                    let each = if step.kind == Kind::Float { 4 } else { 1 };
                    budget.fits(cost::numbers(step.shape).saturating_mul(each), name)?;
                    values.insert(name, Value::Image(step.shape, step.kind));
                    if let (Some(inference), Kind::Float) = (&mut inference, step.kind) {
                        inference.image(name, step.shape);
                    }
                }
                Ok(Lowering::Steps(steps))
            }
            Ok(Meaning::Constant(value)) => {
                budget.take(value.own_bytes(), node.label())?;
                values.extend(names.take(1).zip([value]));
                Ok(Lowering::Constant)
            }
            Err(reason) => {
                match inferred {
                    Some(inferred) => values.extend(names.zip(inferred?)),
                    None => values.extend(names.map(|name| (name, Value::Other(None)))),
                }
                Err(reason)
            }
        }));
    }
    Ok(Lowered { nodes, values, refused, image })
}

/// For each node, whether one of the tensors `names` depends on its output.
pub(crate) fn needed(graph: &GraphProto, names: &[&str]) -> Vec<bool> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (id, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().map(|name| (name.as_str(), id)));
    }
    let mut needed = vec![false; graph.node.len()];
    let mut open: Vec<usize> = names.iter().filter_map(|name| makers.get(name).copied()).collect();
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut needed[id], true) {
            let inputs = graph.node[id].input.iter().filter(|name| !name.is_empty());
            open.extend(inputs.filter_map(|name| makers.get(name.as_str()).copied()));
        }
    }
    needed
}

/// Builds an engine graph from `steps`. Each step has the name of its output, and their order is executable. A tensor
/// that none of them computes becomes an input. The names of the inputs are returned in the order of [`Op::Input`].
pub(crate) fn net<'a>(
    steps: impl Iterator<Item = (&'a str, Step<'a>)>,
    outputs: &[&'a str],
    values: &Values<'a>,
) -> (Net, Vec<&'a str>) {
    let mut net = Net::default();
    let mut inputs = Vec::new();
    let mut ids: HashMap<&str, Id> = HashMap::new();
    for (name, Step { op, inputs: read, shape, kind }) in steps {
        let read = read.into_iter().map(|name| {
            *ids.entry(name).or_insert_with(|| {
                let shape = match values.get(name) {
                    Some(Value::Image(shape, _)) => *shape,
                    _ => Shape { height: 0, width: 0, channels: 0 },
                };
                let op = Op::Input(inputs.len());
                inputs.push(name);
                net.nodes.push(Node { name: name.to_owned(), op, inputs: Vec::new(), shape, kind: Kind::Float });
                net.nodes.len() - 1
            })
        });
        let read = read.collect();
        net.nodes.push(Node { name: name.to_owned(), op, inputs: read, shape, kind });
        ids.insert(name, net.nodes.len() - 1);
    }
    net.outputs = outputs.iter().filter_map(|name| ids.get(name).copied()).collect();
    (net, inputs)
}
