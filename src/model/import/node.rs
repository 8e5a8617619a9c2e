//! One node of the file, with what its operator needs to read and to wire.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::model::pb::{AttributeProto, AttributeType, NodeProto};
use tract_core::internal::*;
use tract_core::ops::cast::cast;

use super::MAX_TENSOR_BYTES;

/// Whole numbers that stand for sizes are far below this; above it, arithmetic on them could overflow.
const MAX_SIZE: i64 = 1 << 31;

pub(super) struct Node<'a> {
    proto: &'a NodeProto,
    /// The version of the ONNX operator set.
    pub opset: i64,
    inputs: Vec<Option<OutletId>>,
    model: &'a mut TypedModel,
    ranked: &'a mut Ranked,
}

/// Constants that were given dimensions in front, by what they were and their rank: the two bounds of all Clips are the
/// same two numbers.
pub(super) type Ranked = HashMap<(OutletId, usize), OutletId>;

impl<'a> Node<'a> {
    pub fn new(
        proto: &'a NodeProto,
        opset: i64,
        outlets: &HashMap<&str, OutletId>,
        model: &'a mut TypedModel,
        ranked: &'a mut Ranked,
    ) -> Node<'a> {
        // `validate` has seen to it that every name is known; an empty one is an input left out.
        let inputs = proto.input.iter().map(|name| outlets.get(name.as_str()).copied()).collect();
        Node { proto, opset, inputs, model, ranked }
    }

    pub fn operator(&self) -> &'a str {
        &self.proto.op_type
    }

    pub fn describe(&self) -> String {
        let output = self.proto.output.first();
        let name = if self.proto.name.is_empty() { output.map_or("", String::as_str) } else { &self.proto.name };
        format!("{name:?} ({})", self.proto.op_type)
    }

    pub fn input_shapes(&self) -> String {
        let shapes = self.inputs.iter().map(|input| match input {
            Some(outlet) => self.shape(*outlet).map_or("?".to_owned(), |shape| format!("{:?}", &shape[..])),
            None => "-".to_owned(),
        });
        shapes.collect::<Vec<_>>().join(", ")
    }

    /// How many results the node must have.
    pub fn outputs(&self) -> usize {
        self.proto.output.len()
    }

    // Attributes

    fn attribute(&self, name: &str, kind: AttributeType) -> TractResult<Option<&'a AttributeProto>> {
        let Some(attribute) = self.proto.attribute.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        ensure!(attribute.r#type == kind as i32, "the attribute {name:?} has another type than {kind:?}");
        Ok(Some(attribute))
    }

    pub fn int(&self, name: &str, default: i64) -> TractResult<i64> {
        Ok(self.attribute(name, AttributeType::Int)?.map_or(default, |attribute| attribute.i))
    }

    pub fn flag(&self, name: &str, default: bool) -> TractResult<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub fn float(&self, name: &str, default: f32) -> TractResult<f32> {
        Ok(self.attribute(name, AttributeType::Float)?.map_or(default, |attribute| attribute.f))
    }

    pub fn text(&self, name: &str, default: &'a str) -> TractResult<&'a str> {
        match self.attribute(name, AttributeType::String)? {
            Some(attribute) => Ok(std::str::from_utf8(&attribute.s)?),
            None => Ok(default),
        }
    }

    pub fn ints(&self, name: &str) -> TractResult<Option<&'a [i64]>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|attribute| &attribute.ints[..]))
    }

    pub fn floats(&self, name: &str) -> TractResult<Option<&'a [f32]>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|attribute| &attribute.floats[..]))
    }

    pub fn tensor(&self, name: &str) -> TractResult<Option<Tensor>> {
        match self.attribute(name, AttributeType::Tensor)? {
            Some(attribute) => {
                let tensor = attribute.t.as_ref().with_context(|| format!("the attribute {name:?} is empty"))?;
                super::tensor::read(tensor).map(Some)
            }
            None => Ok(None),
        }
    }

    /// An attribute of `count` sizes (kernel, strides and so on), each from `least` to a million; `default` for
    /// all where there is none.
    pub fn sizes(&self, name: &str, count: usize, least: i64, default: usize) -> TractResult<TVec<usize>> {
        let Some(sizes) = self.ints(name)? else { return Ok(tvec!(default; count)) };
        ensure!(sizes.len() == count, "the attribute {name:?} has {} numbers; expected {count}", sizes.len());
        ensure!(
            sizes.iter().all(|size| (least..=1 << 20).contains(size)),
            "the attribute {name:?} is {sizes:?}; each must be at least {least}"
        );
        Ok(sizes.iter().map(|&size| size as usize).collect())
    }

    // Inputs

    pub fn input(&self, index: usize) -> TractResult<OutletId> {
        self.optional(index).with_context(|| format!("input {index} is missing"))
    }

    pub fn optional(&self, index: usize) -> Option<OutletId> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs, of which there must be at least one and none left out.
    pub fn all_inputs(&self) -> TractResult<TVec<OutletId>> {
        ensure!(!self.inputs.is_empty(), "there are no inputs");
        (0..self.inputs.len()).map(|index| self.input(index)).collect()
    }

    pub fn shape(&self, outlet: OutletId) -> TractResult<TVec<usize>> {
        let fact = self.model.outlet_fact(outlet)?;
        Ok(fact.shape.as_concrete().context("a shape depends on what is in the picture")?.into())
    }

    pub fn rank(&self, outlet: OutletId) -> TractResult<usize> {
        Ok(self.model.outlet_fact(outlet)?.rank())
    }

    pub fn datum_type(&self, outlet: OutletId) -> TractResult<DatumType> {
        Ok(self.model.outlet_fact(outlet)?.datum_type)
    }

    pub fn expect_f32(&self, outlet: OutletId) -> TractResult<()> {
        let found = self.datum_type(outlet)?;
        ensure!(found == f32::datum_type(), "an input is {found:?}; expected float32");
        Ok(())
    }

    pub fn constant(&self, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
        Ok(self.model.outlet_fact(outlet)?.konst.clone())
    }

    pub fn constant_f32(&self, outlet: OutletId, what: &str) -> TractResult<Vec<f32>> {
        let tensor = self.constant(outlet)?.with_context(|| format!("{what} must be constant"))?;
        let tensor = converted(&tensor, f32::datum_type())?;
        Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }

    /// A constant input of whole numbers: sizes, axes, positions. Clamped to what sizes can be, so that arithmetic
    /// on them is safe (`i64::MAX` stands for "to the end" in slices).
    pub fn constant_ints(&self, outlet: OutletId, what: &str) -> TractResult<Vec<i64>> {
        let tensor = self.constant(outlet)?.with_context(|| format!("{what} must be constant"))?;
        ensure!(tensor.datum_type().is_integer(), "{what} must be whole numbers, not {:?}", tensor.datum_type());
        let tensor = converted(&tensor, i64::datum_type())?;
        let values = tensor.try_as_plain_ram()?;
        Ok(values.as_slice::<i64>()?.iter().map(|value| (*value).clamp(-MAX_SIZE, MAX_SIZE)).collect())
    }

    /// Whole numbers from the attribute `name` (as old operator sets have them) or from input `index`.
    pub fn ints_or_input(&self, name: &str, index: usize) -> TractResult<Option<Vec<i64>>> {
        if let Some(ints) = self.ints(name)? {
            return Ok(Some(ints.iter().map(|value| (*value).clamp(-MAX_SIZE, MAX_SIZE)).collect()));
        }
        self.optional(index).map(|outlet| self.constant_ints(outlet, name)).transpose()
    }

    /// An axis that may count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> TractResult<usize> {
        let signed_rank = rank as i64;
        ensure!((-signed_rank..signed_rank).contains(&axis), "there is no axis {axis} in {rank} dimensions");
        Ok(axis.rem_euclid(signed_rank) as usize)
    }

    /// Several axes, sorted, each once.
    pub fn axes(&self, axes: &[i64], rank: usize) -> TractResult<TVec<usize>> {
        let mut found = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<TractResult<TVec<_>>>()?;
        found.sort_unstable();
        ensure!(found.windows(2).all(|pair| pair[0] != pair[1]), "an axis is named twice in {axes:?}");
        Ok(found)
    }

    // Wiring

    /// Adds one of tract's operators. If all it reads is constant, so is what it computes, and it is computed here.
    pub fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let op = op.into();
        let constants = {
            let facts = inputs.iter().map(|input| self.model.outlet_fact(*input));
            let facts = facts.collect::<TractResult<TVec<_>>>()?;
            for fact in op.output_facts(&facts)? {
                let shape = fact.shape.as_concrete().context("a shape depends on what is in the picture")?;
                check_size(shape, fact.datum_type)?;
            }
            let constants = facts.iter().map(|fact| fact.konst.clone().map(IntoTValue::into_tvalue));
            constants.collect::<Option<TVec<TValue>>>()
        };
        if let Some(constants) = constants
            && let Some(values) = op.eval_out_of_plan(constants)?
        {
            return values.into_iter().map(|value| self.add_const(value.into_tensor())).collect();
        }
        self.model.wire_node(self.unique_name(), op, inputs)
    }

    /// As [`wire`](Node::wire), for operators with one result.
    pub fn wire_one(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> TractResult<OutletId> {
        self.wire(op, inputs)?.first().copied().context("an operator without a result")
    }

    fn unique_name(&self) -> String {
        let output = self.proto.output.iter().find(|name| !name.is_empty()).map_or("node", String::as_str);
        self.model.unique_name(output).into_owned()
    }

    pub fn add_const(&mut self, tensor: impl IntoArcTensor) -> TractResult<OutletId> {
        self.model.add_const(self.unique_name(), tensor)
    }

    /// A constant that goes with `outlet` in element-wise operators: its type, its rank.
    pub fn scalar_like(&mut self, value: f32, outlet: OutletId) -> TractResult<OutletId> {
        let (kind, rank) = (self.datum_type(outlet)?, self.rank(outlet)?);
        self.add_const(converted(&tensor0(value), kind)?.into_owned().broadcast_into_rank(rank)?)
    }

    /// Adds dimensions of 1 in front until `outlet` has `rank` dimensions.
    pub fn with_rank(&mut self, outlet: OutletId, rank: usize) -> TractResult<OutletId> {
        let known = self.rank(outlet)?;
        if known >= rank {
            return Ok(outlet);
        }
        if let Some(tensor) = self.constant(outlet)? {
            if let Some(ranked) = self.ranked.get(&(outlet, rank)) {
                return Ok(*ranked);
            }
            let shape: TVec<usize> =
                tvec!(1; rank - known).into_iter().chain(tensor.shape().iter().copied()).collect();
            let ranked = self.add_const(tensor.into_tensor().into_shape(&shape)?)?;
            self.ranked.insert((outlet, rank), ranked);
            return Ok(ranked);
        }
        let mut outlet = outlet;
        for _ in known..rank {
            outlet = self.wire_one(AxisOp::Add(0), &[outlet])?;
        }
        Ok(outlet)
    }

    /// Brings all to the rank of the largest, as broadcasting does.
    pub fn same_rank(&mut self, outlets: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut rank = 0;
        for outlet in outlets {
            rank = rank.max(self.rank(*outlet)?);
        }
        outlets.iter().map(|outlet| self.with_rank(*outlet, rank)).collect()
    }

    pub fn cast(&mut self, outlet: OutletId, to: DatumType) -> TractResult<OutletId> {
        if self.datum_type(outlet)? == to {
            return Ok(outlet);
        }
        match self.constant(outlet)? {
            Some(tensor) => self.add_const(converted(&tensor, to)?.into_owned()),
            None => self.wire_one(cast(to), &[outlet]),
        }
    }
}

/// Numbers of another type. Pairs that detectors have among their constants are converted here, the rest by tract, whose
/// one function for all pairs is the largest that loading would have a browser compile.
pub(super) fn converted(tensor: &Tensor, to: DatumType) -> TractResult<Cow<'_, Tensor>> {
    let owned = match (tensor.datum_type(), to) {
        (from, to) if from == to => return Ok(Cow::Borrowed(tensor)),
        (DatumType::I64, DatumType::F32) => each(tensor, |x: i64| x as f32),
        (DatumType::I64, DatumType::F64) => each(tensor, |x: i64| x as f64),
        (DatumType::F64, DatumType::I64) => each(tensor, |x: f64| x as i64),
        (DatumType::I32, DatumType::I64) => each(tensor, |x: i32| i64::from(x)),
        (DatumType::I8, DatumType::I64) => each(tensor, |x: i8| i64::from(x)),
        (DatumType::U8, DatumType::I64) => each(tensor, |x: u8| i64::from(x)),
        _ => return tensor.cast_to_dt(to),
    };
    owned.map(Cow::Owned)
}

fn each<T: Datum + Copy, U: Datum + Copy>(tensor: &Tensor, convert: impl Fn(T) -> U) -> TractResult<Tensor> {
    let values: Vec<U> = tensor.try_as_plain_ram()?.as_slice::<T>()?.iter().map(|&value| convert(value)).collect();
    Tensor::from_shape(tensor.shape(), &values)
}

/// Refuses what does not fit into memory, before anybody asks for the memory.
pub(super) fn check_size(shape: &[usize], kind: DatumType) -> TractResult<()> {
    // A side of 0 does not excuse the others: strides are products of them all the same.
    let bytes = shape.iter().try_fold(kind.size_of(), |bytes, &side| bytes.checked_mul(side.max(1)));
    ensure!(
        bytes.is_some_and(|bytes| bytes <= MAX_TENSOR_BYTES),
        "a tensor of {shape:?} is larger than {} MB",
        MAX_TENSOR_BYTES >> 20
    );
    Ok(())
}
