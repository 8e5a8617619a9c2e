//! Shapes and constants of the nodes that the engine does not support, inferred by tract.
//!
//! Nodes are inferred in the order of the file, which is an order of execution, so the shapes of a node's inputs are
//! known. A file that needs too much memory can thus be refused before tract computes a constant.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{DimLike, InferenceFact};

use super::check::{Known, MAX_SIZE, MAX_VOLUME, asked, check};
use super::rewrite::{Rewritten, gathered, rewritten};
use crate::engine::net::Shape;
use crate::error::{Error, Kind, Result};
use crate::limits::Budget;
use crate::lower::{self, Array, Value};
use crate::onnx::File;
use crate::onnx::messages::{DataType, NodeProto, TensorProto};
use crate::onnx::tensor::{self, Values as Stored};

/// Constants up to this size are evaluated, because they may be shapes. Of larger ones (weights) only the shape matters.
const MAX_CONSTANT_BYTES: usize = 1 << 20;

/// The largest cost that an expression of sizes may have by tract's own estimate. One more node multiplies it by five
/// and by the number of its inputs, which still fits in 32 bits.
const MAX_COST: u64 = 100_000;

/// Facts about tensors, by name.
pub(super) struct Inference<'a> {
    onnx: Onnx,
    /// A model that has only the file's operator sets.
    empty: pb::ModelProto,
    opset: i64,
    symbols: InferenceModel,
    facts: HashMap<&'a str, InferenceFact>,
    /// Tensors that are the same for each picture, although tract may compute them only when it loads its part.
    fixed: HashSet<&'a str>,
}

impl<'a> Inference<'a> {
    pub fn new(file: &'a File) -> Inference<'a> {
        let opset_import = file
            .opsets
            .iter()
            .map(|set| pb::OperatorSetIdProto { domain: set.domain.clone(), version: set.version })
            .collect();
        let graph = Some(pb::GraphProto::default());
        let facts = file.graph.initializer.iter().map(|weight| (weight.name.as_str(), fact_of(weight)));
        Inference {
            onnx: tract_onnx::onnx(),
            empty: pb::ModelProto { opset_import, graph, ..Default::default() },
            opset: file.opset,
            symbols: InferenceModel::default(),
            facts: facts.collect(),
            fixed: file.graph.initializer.iter().map(|weight| weight.name.as_str()).collect(),
        }
    }

    /// The shape of the network's output.
    ///
    /// # Errors
    ///
    /// `unsupported-model` if it is not known, or not of `float32`.
    pub fn answer(&self, name: &str, output: &str) -> Result<Vec<usize>> {
        let fact = self.facts.get(name).cloned().unwrap_or_default();
        let Some(shape) = concrete(&fact) else {
            let sides = self.kind(name).map(|(_, sides)| sides).unwrap_or_default();
            let sides = sides.iter().map(|side| side.map_or("?".to_owned(), |side| side.to_string()));
            let message = format!(
                "{output} is [{}]; its shape must not depend on what is in the image: where the file suppresses \
                 overlapping boxes itself (NMS), export it without",
                sides.collect::<Vec<_>>().join(", ")
            );
            return Err(Error::new(Kind::UnsupportedModel, message));
        };
        match fact.datum_type.concretize() {
            Some(DatumType::F32) => Ok(shape),
            other => {
                let kind = other.map_or("of a type that is not known".to_owned(), |kind| format!("{kind:?}"));
                let message = format!("{output} is {kind}; expected float32");
                Err(Error::new(Kind::UnsupportedModel, message))
            }
        }
    }

    /// The value of the tensor, if it is known before the network runs.
    pub fn constant(&self, name: &str) -> Option<TensorProto> {
        stored(name, &*self.facts.get(name)?.value.concretize()?)
    }

    /// An integer with the type of the tensor `like`, stored under `name`.
    pub fn number(&self, name: &str, like: &str, number: i64) -> Option<TensorProto> {
        let kind = self.facts.get(like)?.datum_type.concretize()?;
        let kind = if kind == DatumType::TDim { DatumType::I64 } else { kind };
        stored(name, &*tensor0(number).cast_to_dt(kind).ok()?)
    }

    /// The size of a tensor in bytes; 0 if it is not known.
    pub fn bytes(&self, name: &str) -> u64 {
        self.facts.get(name).and_then(|fact| size(fact).ok()).unwrap_or(0)
    }

    pub fn is_constant(&self, name: &str) -> bool {
        self.facts.get(name).is_some_and(|fact| fact.value.concretize().is_some())
    }

    /// A slice by steps in another form, with the constants that this reads.
    pub fn gathered(&self, node: &NodeProto) -> Option<(Vec<NodeProto>, Vec<TensorProto>)> {
        gathered(node, &self.known(node, &self.inputs(node)))
    }

    /// The type and dimensions of a tensor. A dimension that depends on the content of the picture is `None`.
    pub fn kind(&self, name: &str) -> Option<(DataType, Vec<Option<usize>>)> {
        kind(self.facts.get(name)?)
    }

    /// The other form of a node, if tract does not compute it as it is.
    pub fn rewritten(&self, node: &NodeProto) -> Option<Rewritten> {
        rewritten(node, self.opset, &self.known(node, &self.inputs(node)))
    }

    /// The facts about a node's inputs; `None` for one that is omitted or unknown.
    fn inputs(&self, node: &NodeProto) -> Vec<Option<InferenceFact>> {
        node.input.iter().map(|name| self.facts.get(name.as_str()).cloned()).collect()
    }

    /// What is known about the node's outputs. The inner error means that they are too large.
    fn facts_of(
        &mut self,
        node: &NodeProto,
        inputs: &[Option<InferenceFact>],
        is_fixed: bool,
        budget: &mut Budget<'_>,
    ) -> TractResult<Result<Vec<InferenceFact>>> {
        let proto = pb::NodeProto::decode(&node.encode_to_vec()[..])?;
        let Some(build) = self.onnx.op_register.0.get(&node.op_type) else {
            // `infer` has already reported it.
            return Ok(Ok(Vec::new()));
        };
        let parents = self.empty.graph.iter().collect();
        let context = ParsingContext {
            onnx_operator_set_version: self.opset,
            framework: &self.onnx,
            model: &self.empty,
            parent_graphs: parents,
            model_dir: None,
            template: self.symbols.clone(),
        };
        let (mut op, _) = build(&context, &proto)?;
        let inputs: TVec<&InferenceFact> = node
            .input
            .iter()
            .zip(inputs)
            .filter(|(name, _)| !name.is_empty())
            .map(|(_, fact)| fact.as_ref().ok_or_else(|| TractError::msg("an input is unknown")))
            .collect::<TractResult<_>>()?;
        let unknown = InferenceFact::default();
        let wanted = node.output.iter().filter(|name| !name.is_empty()).count();
        let outputs: TVec<&InferenceFact> = tvec!(&unknown; wanted);
        let found = op.nboutputs()?;
        if found != wanted {
            return Err(TractError::msg(format!("{wanted} outputs are wanted of {found}")));
        }
        // First without values: constants are computed only once it is known that they fit into memory.
        let (_, found, _) = op.infer_facts(inputs.clone(), outputs.clone(), tvec!())?;
        if let Err(error) = charge(&found, is_fixed, budget, node.label())? {
            return Ok(Err(error));
        }
        let (_, found, _) = op.infer(inputs, outputs, tvec!())?;
        found.iter().try_for_each(|fact| size(fact).map(drop))?;
        Ok(Ok(found.into_vec()))
    }

    /// Whether the node's output is the same for each picture.
    fn is_fixed(&self, node: &NodeProto) -> bool {
        node.input.iter().all(|name| {
            let is_known = |fact: &InferenceFact| fact.value.concretize().is_some();
            name.is_empty()
                || self.fixed.contains(name.as_str())
                || self.facts.get(name.as_str()).is_some_and(is_known)
        })
    }

    fn shapes_of(&self, names: &[String]) -> Vec<Option<Vec<usize>>> {
        names.iter().map(|name| self.facts.get(name.as_str()).and_then(concrete)).collect()
    }

    fn shapes(&self, node: &NodeProto) -> String {
        let shapes = node.input.iter().map(|name| match self.facts.get(name.as_str()) {
            _ if name.is_empty() => "-".to_owned(),
            Some(fact) => concrete(fact).map_or("?".to_owned(), |shape| format!("{shape:?}")),
            None => "?".to_owned(),
        });
        shapes.collect::<Vec<_>>().join(", ")
    }

    /// What is known about the node's inputs, which have these facts; `None` for an omitted one.
    fn known(&self, node: &NodeProto, inputs: &[Option<InferenceFact>]) -> Vec<Option<Known>> {
        let of = |(name, fact): (&String, &Option<InferenceFact>)| {
            let fact = fact.as_ref()?;
            let is_constant = fact.value.concretize().is_some();
            let is_fixed = is_constant || self.fixed.contains(name.as_str());
            let sides = kind(fact).map(|(_, sides)| sides);
            let kind = fact.datum_type.concretize();
            let (shape, ints, floats, magnitudes) = (concrete(fact), ints(fact), floats(fact), magnitudes(fact));
            Some(Known { sides, shape, is_constant, is_fixed, ints, floats, magnitudes, kind })
        };
        node.input.iter().zip(inputs).map(of).collect()
    }
}

/// The type and dimensions of a tensor. A dimension that depends on the content of the picture is `None`.
fn kind(fact: &InferenceFact) -> Option<(DataType, Vec<Option<usize>>)> {
    let kind = data_type(fact.datum_type.concretize()?)?;
    let rank = usize::try_from(fact.shape.rank().concretize()?).ok()?;
    let side = |axis: usize| fact.shape.dim(axis)?.concretize()?.to_usize().ok();
    Some((kind, (0..rank).map(side).collect()))
}

/// The values of a constant of integers.
fn ints(fact: &InferenceFact) -> Option<Vec<i64>> {
    let value = fact.value.concretize()?;
    let kind = value.datum_type();
    if !(kind.is_integer() || kind == DatumType::TDim) {
        return None;
    }
    let value = value.cast_to_dt(DatumType::I64).ok()?;
    Some(value.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec())
}

/// The values of a constant of a few floats, such as one scale for each axis.
fn floats(fact: &InferenceFact) -> Option<Vec<f32>> {
    const FEW: usize = 64;
    let value =
        fact.value.concretize().filter(|value| value.len() <= FEW && value.datum_type() == DatumType::F32)?;
    Some(value.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec())
}

/// The values of a constant of sizes, with 1 in place of sizes that depend on the content of the picture.
fn magnitudes(fact: &InferenceFact) -> Option<Vec<u64>> {
    if let Some(ints) = ints(fact) {
        return Some(ints.iter().map(|int| int.unsigned_abs()).collect());
    }
    sizes(fact).map(|sizes| sizes.iter().map(magnitude).collect())
}

/// The values of a constant that tract keeps as expressions. Some may depend on the content of the picture.
fn sizes(fact: &InferenceFact) -> Option<Vec<TDim>> {
    let value = fact.value.concretize()?;
    Some(value.try_as_plain_ram().ok()?.as_slice::<TDim>().ok()?.to_vec())
}

/// An upper bound of an expression, with 1 in place of sizes that depend on the content of the picture.
fn magnitude(size: &TDim) -> u64 {
    let sum = |terms: &[TDim]| terms.iter().map(magnitude).fold(0, u64::saturating_add);
    match size {
        TDim::Val(value) => value.unsigned_abs(),
        TDim::Sym(_) | TDim::Ge(..) | TDim::Eq(..) => 1,
        TDim::Mul(factors) => factors.iter().map(magnitude).fold(1, u64::saturating_mul),
        TDim::MulInt(factor, size) => magnitude(size).saturating_mul(factor.unsigned_abs()),
        // The dividend is a value too, and must be within bounds.
        TDim::Div(size, by) => magnitude(size).max(*by),
        TDim::Add(terms) | TDim::Broadcast(terms) | TDim::Min(terms) | TDim::Max(terms) => sum(terms),
    }
}

/// tract's own cost estimate of an expression. tract computes it without overflow checks; this does not overflow.
fn cost(size: &TDim) -> u64 {
    let sum = |terms: &[TDim]| terms.iter().map(cost).fold(0, u64::saturating_add);
    let (factor, cost) = match size {
        TDim::Sym(_) | TDim::Val(_) => (1, 1),
        TDim::Add(terms) => (2, sum(terms)),
        TDim::Mul(terms) => (3, sum(terms)),
        TDim::Broadcast(terms) => (4, sum(terms)),
        TDim::Min(terms) | TDim::Max(terms) => (5, sum(terms)),
        TDim::Div(size, _) => (3, cost(size)),
        TDim::MulInt(_, size) => (2, cost(size)),
        TDim::Ge(a, b) | TDim::Eq(a, b) => (5, cost(a).saturating_add(cost(b))),
    };
    cost.saturating_mul(factor)
}

impl<'a> lower::Inference<'a> for Inference<'a> {
    fn image(&mut self, name: &'a str, Shape { height, width, channels }: Shape) {
        self.facts.insert(name, InferenceFact::dt_shape(DatumType::F32, [1, channels, height, width]));
    }

    fn infer(&mut self, node: &'a NodeProto, budget: &mut Budget<'_>) -> Result<Vec<Value<'a>>> {
        let name = node.label();
        if !self.onnx.op_register.0.contains_key(&node.op_type) {
            let only = match node.op_type.as_str() {
                "Upsample" => " but for nearest with a factor of 2; export with operator set 11 or later",
                _ => "",
            };
            let operator = &node.op_type;
            let message = format!("the node {name:?} needs the operator {operator}, which is not supported{only}");
            return Err(Error::new(Kind::UnsupportedOperator, message));
        }
        let misfit = || {
            let shapes = self.shapes(node);
            format!("the node {name:?} ({}) does not fit its inputs {shapes}", node.op_type)
        };
        let mut inputs = self.inputs(node);
        let mut known = self.known(node, &inputs);
        let new = rewritten(node, self.opset, &known);
        let mut form = node;
        if let Some(Rewritten { node, constants }) = &new {
            inputs.resize(node.input.len(), None);
            constants.iter().for_each(|(index, constant)| inputs[*index] = Some(fact_of(constant)));
            known = self.known(node, &inputs);
            form = node;
        }
        if let Err(what) = check(form, self.opset, &known) {
            let (operator, shapes) = (&node.op_type, self.shapes(node));
            let message = format!("the node {name:?} ({operator}) cannot run: {what} (inputs {shapes})");
            return Err(Error::new(Kind::UnsupportedModel, message));
        }
        // Must precede tract's own multiplication.
        budget.fits(asked(form, &known), name)?;
        let message = misfit();
        let is_fixed = self.is_fixed(node);
        let facts =
            self.facts_of(form, &inputs, is_fixed, budget).map_err(|error| unsupported(message, error))??;
        let mut facts = facts.into_iter();
        let outputs = node.output.iter().map(String::as_str);
        let values = outputs.map(|name| {
            if name.is_empty() {
                return Value::Other(None);
            }
            let fact = facts.next().unwrap_or_default();
            let value = value_of(&fact);
            self.facts.insert(name, fact);
            if is_fixed {
                self.fixed.insert(name);
            }
            value
        });
        let values = values.collect();
        budget
            .work(lower::cost_of_node(node, &self.shapes_of(&node.input), &self.shapes_of(&node.output)), name)?;
        Ok(values)
    }
}

/// The shape, if it is known.
fn concrete(fact: &InferenceFact) -> Option<Vec<usize>> {
    fact.shape.as_concrete_finite().ok().flatten().map(|shape| shape.to_vec())
}

/// Counts the memory of a node's outputs: permanently if they are the same for each picture. For the others, tract says
/// later how many exist at the same time.
fn charge(
    outputs: &[InferenceFact],
    is_fixed: bool,
    budget: &mut Budget<'_>,
    name: &str,
) -> TractResult<Result<()>> {
    let sizes = outputs.iter().map(size).collect::<TractResult<Vec<u64>>>()?;
    let bytes = sizes.into_iter().fold(0, u64::saturating_add);
    // The value is stored here, and once more in tract's own copy.
    Ok(if is_fixed { budget.take(bytes.saturating_mul(2), name) } else { budget.fits(bytes, name) })
}

/// The size of a tensor in bytes; 0 if its shape depends on the content of the picture.
fn size(fact: &InferenceFact) -> TractResult<u64> {
    let sides: Vec<TDim> = fact.shape.dims().filter_map(Factoid::concretize).collect();
    let values = sizes(fact).unwrap_or_default();
    // tract multiplies the dimensions, and its nodes compute with the values.
    let is_symbolic = |size: &&TDim| size.to_i64().is_err();
    let volume = sides.iter().map(magnitude).fold(1, u64::saturating_mul);
    if sides.iter().any(|side| is_symbolic(&side)) && volume > MAX_VOLUME
        || values.iter().filter(is_symbolic).any(|value| magnitude(value) > MAX_SIZE as u64)
        || sides.iter().chain(&values).any(|size| cost(size) > MAX_COST)
    {
        return Err(TractError::msg("a size that depends on what is in the image is beyond bounds"));
    }
    for side in sides {
        match side.to_i64() {
            Ok(side) if side < 0 => return Err(TractError::msg("a tensor has a negative side")),
            // For dimensions 3 and 5 that must be equal, tract makes an expression, and computing with it takes
            // exponential time.
            Err(_) if side.symbols().is_empty() => return Err(TractError::msg("two sides do not go together")),
            _ => (),
        }
    }
    let Some(shape) = concrete(fact) else { return Ok(0) };
    let each = fact.datum_type.concretize().map_or(4, |kind| kind.size_of());
    // A dimension of 0 does not hide an overflow of the others, because strides are products of these.
    Ok(shape.iter().fold(each as u64, |bytes, side| bytes.saturating_mul((*side).max(1) as u64)))
}

/// The fact about a tensor of the file.
fn fact_of(weight: &TensorProto) -> InferenceFact {
    let shape = tensor::shape(weight);
    let kind = DataType::try_from(weight.data_type).ok().and_then(datum_type).unwrap_or(DatumType::F32);
    let bytes = shape.iter().product::<usize>() * kind.size_of();
    let value = (bytes <= MAX_CONSTANT_BYTES).then(|| tensor_of(weight, &shape)).flatten();
    match value {
        Some(value) => InferenceFact::from(value),
        None => InferenceFact::dt_shape(kind, &shape[..]),
    }
}

fn tensor_of(weight: &TensorProto, shape: &[usize]) -> Option<Tensor> {
    let is_half = weight.data_type == DataType::Float16 as i32;
    let tensor = match tensor::values(weight)? {
        Stored::F32(values) => Tensor::from_shape(shape, &values),
        Stored::F64(values) => Tensor::from_shape(shape, &values),
        Stored::I64(values) => Tensor::from_shape(shape, &values),
        Stored::I32(values) => Tensor::from_shape(shape, &values),
        Stored::I8(values) => Tensor::from_shape(shape, &values),
        Stored::U8(values) => Tensor::from_shape(shape, &values),
        Stored::Bool(values) => Tensor::from_shape(shape, &values),
    };
    let tensor = tensor.ok()?;
    if is_half { tensor.cast_to_dt(DatumType::F16).ok().map(|half| half.into_owned()) } else { Some(tensor) }
}

/// A fact in the form that the table of operators uses.
fn value_of<'a>(fact: &InferenceFact) -> Value<'a> {
    let shape = concrete(fact);
    let kind = fact.datum_type.concretize();
    if let (Some(value), Some(shape)) = (fact.value.concretize(), &shape) {
        match kind {
            Some(DatumType::F32) => {
                if let Ok(values) = value.try_as_plain_ram().and_then(|value| Ok(value.as_slice::<f32>()?.to_vec()))
                {
                    return Value::Floats(Array { shape: shape.clone(), values });
                }
            }
            Some(kind) if kind == DatumType::I64 || kind == DatumType::TDim => {
                if let Some(values) = ints(fact) {
                    return Value::Ints(Array { shape: shape.clone(), values });
                }
            }
            _ => (),
        }
        return Value::Other(Some(shape.clone()));
    }
    match (kind, shape.as_deref()) {
        (Some(DatumType::F32), Some(&[1, channels, height, width])) if channels * height * width > 0 => {
            Value::Image(Shape { height, width, channels }, crate::engine::net::Kind::Float)
        }
        _ => Value::Other(shape),
    }
}

fn datum_type(kind: DataType) -> Option<DatumType> {
    Some(match kind {
        DataType::Float => DatumType::F32,
        DataType::Double => DatumType::F64,
        DataType::Float16 => DatumType::F16,
        DataType::Int64 => DatumType::I64,
        DataType::Int32 => DatumType::I32,
        DataType::Int8 => DatumType::I8,
        DataType::Uint8 => DatumType::U8,
        DataType::Bool => DatumType::Bool,
        _ => return None,
    })
}

/// tract has a separate type for integers computed from shapes.
fn data_type(kind: DatumType) -> Option<DataType> {
    Some(match kind.unquantized() {
        DatumType::F32 => DataType::Float,
        DatumType::F64 => DataType::Double,
        DatumType::F16 => DataType::Float16,
        DatumType::I64 | DatumType::TDim => DataType::Int64,
        DatumType::I32 => DataType::Int32,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::Bool => DataType::Bool,
        _ => return None,
    })
}

/// A tensor as a file stores it.
fn stored(name: &str, tensor: &Tensor) -> Option<TensorProto> {
    let kind = data_type(tensor.datum_type())?;
    let tensor = tensor.cast_to_dt(datum_type(kind)?).ok()?;
    Some(TensorProto {
        name: name.to_owned(),
        data_type: kind as i32,
        dims: tensor.shape().iter().map(|side| *side as i64).collect(),
        raw_data: tensor.try_as_plain_ram().ok()?.as_bytes().to_vec(),
        ..Default::default()
    })
}

/// The error for a model that tract refuses.
pub(super) fn unsupported(what: impl Into<String>, error: TractError) -> Error {
    Error::new(Kind::UnsupportedModel, what).with_source(error.into_boxed_dyn_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_tract_could_not_compute_with_are_refused() {
        let count = TDim::Sym(SymbolScope::default().sym("n"));
        let is_refused = |sides: &[TDim]| {
            let error = size(&InferenceFact::dt_shape(DatumType::F32, sides)).err();
            error.is_some_and(|error| format!("{error:?}").contains("beyond bounds"))
        };
        let large = TDim::MulInt(1 << 20, Box::new(count.clone()));
        assert!(!is_refused(&[count.clone(), large.clone()]));
        assert!(is_refused(&[large.clone(), large]));
        // Each division triples tract's cost estimate.
        let divided = |times: usize| (0..times).fold(count.clone(), |size, _| TDim::Div(Box::new(size), 3));
        assert!(!is_refused(&[divided(10)]));
        assert!(is_refused(&[divided(41)]), "this is beyond 64 bits");
    }
}
