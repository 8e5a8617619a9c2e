//! ONNX → the engine, without a graph of tract's in between.
//!
//! A network that consists of nothing but what the engine knows needs no other runtime. It is read node by node: what is
//! known while reading (weights, the centres of cells) is computed at once, and feature maps become nodes of the engine's
//! own graph. Where the network ends and its head begins the file's metadata says ([`Head`]); what comes behind is not
//! looked at. Of a file that says nothing the end is kept as an expression that is compared with the one form whose
//! meaning the decoder knows: the anchor-free head of this project's first exporter.
//!
//! Whatever is not exactly as expected makes this reader give up, and says nothing about the file: another one reads it.

use std::collections::HashMap;
use std::rc::Rc;

use super::net::{Conv, Id, Int8, Kind, Net, Node, Op, Quant, Shape, Weights};
use super::simd::Activation;
use super::simd::pool::PoolWindow;
use crate::decode::{Boxes, Parts, Scale, Scores};
use crate::model::InputSize;
use crate::model::head::{Head, HeadKind};
use crate::model::pb::{
    AttributeProto, AttributeType, DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto,
};
use crate::model::tensor::{self, Values};

/// The least operator set whose spellings are known here.
const LEAST_OPSET: i64 = 13;

/// The most numbers a map may have with its border; the largest layer of the largest YOLO at 1280 px has two thirds.
const MAX_NUMBERS: usize = 48 << 20;

/// The most numbers that are computed while reading; the centres of the cells of 1280 px are a hundredth.
const MAX_CONSTANTS: usize = 4 << 20;

/// The largest kernel, stride, dilation and padding.
const MAX_WINDOW: i64 = 64;

/// The most expressions inside another; the known form has seven.
const MAX_DEPTH: usize = 16;

/// A network as the engine runs it.
pub(super) struct Direct {
    pub net: Net,
    /// Of the answer in the file, `[1, 4 + C, N]`.
    pub shape: [usize; 3],
    /// How the outputs of `net` make it; they come pixel by pixel.
    pub parts: Parts,
}

/// Reads a graph that has passed `validate`, if all of it is known, as far as to its head.
pub(super) fn read(graph: &GraphProto, opset: i64, input: InputSize, head: Option<&Head>) -> Option<Direct> {
    if opset < LEAST_OPSET {
        return None;
    }
    head.and_then(|head| Reader::new(graph, input)?.up_to(head, graph, input))
        .or_else(|| Reader::new(graph, input)?.whole(graph))
}

/// The sides of a tensor in the file; `None` for one that it leaves open.
fn declared(value: &ValueInfoProto) -> Vec<Option<i64>> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    tensor.iter().flat_map(|tensor| &tensor.shape).flat_map(|shape| &shape.dim).map(|dim| dim.dim_value).collect()
}

/// By node, whether one of the tensors `names` is made of what it makes.
fn needed<'a>(graph: &GraphProto, names: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (id, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().map(|name| (name.as_str(), id)));
    }
    let mut needed = vec![false; graph.node.len()];
    let mut open: Vec<usize> = names.filter_map(|name| makers.get(name).copied()).collect();
    while let Some(id) = open.pop() {
        if !std::mem::replace(&mut needed[id], true) {
            open.extend(graph.node[id].input.iter().filter_map(|name| makers.get(name.as_str()).copied()));
        }
    }
    needed
}

/// What a name of the file stands for.
enum Value<'a> {
    Stored(&'a TensorProto),
    Floats(Array<f32>),
    Ints(Array<i64>),
    /// Weights in bytes.
    Whole(Vec<usize>, Int8),
    /// A feature map, `[1, channels, height, width]`.
    Image(Id),
    /// `[1, height, width]`, made of feature maps.
    Rows(Table),
}

/// Constants, row-major.
#[derive(Debug, Clone, PartialEq)]
struct Array<T> {
    shape: Vec<usize>,
    values: Vec<T>,
}

#[derive(Debug, Clone)]
struct Table {
    rows: Rc<Rows>,
    height: usize,
    width: usize,
    /// How many expressions lie in one another.
    depth: usize,
}

impl Table {
    /// `rows`, made of tables of which the deepest has `depth`.
    fn of(rows: Rows, height: usize, width: usize, depth: usize) -> Option<Table> {
        (depth < MAX_DEPTH).then(|| Table { rows: Rc::new(rows), height, width, depth: depth + 1 })
    }

    /// The same table after one more expression.
    fn then(&self, rows: Rows) -> Option<Table> {
        Table::of(rows, self.height, self.width, self.depth)
    }
}

/// What rows are made of. Two are the same if they are one in memory.
#[derive(Debug)]
enum Rows {
    /// The pixels of a feature map, one after the other; a row for each channel.
    Pixels(Id),
    Scaled(Rc<Rows>, f32),
    /// Side by side.
    Columns(Vec<Rc<Rows>>),
    /// Rows from one on to before another.
    Part(Rc<Rows>, usize, usize),
    Sum(Rc<Rows>, Rc<Rows>),
    Difference(Rc<Rows>, Rc<Rows>),
    Shifted(Rc<Rows>, Array<f32>),
    Sigmoid(Rc<Rows>),
    /// One below the other.
    Stack(Vec<Rc<Rows>>),
}

struct Reader<'a> {
    net: Net,
    values: HashMap<&'a str, Value<'a>>,
}

impl<'a> Reader<'a> {
    /// One that has read nothing but the image.
    fn new(graph: &'a GraphProto, input: InputSize) -> Option<Reader<'a>> {
        let mut reader = Reader { net: Net::default(), values: HashMap::new() };
        for weight in &graph.initializer {
            reader.values.insert(&weight.name, Value::Stored(weight));
        }
        let mut inputs = graph.input.iter().filter(|input| !reader.values.contains_key(input.name.as_str()));
        let (Some(image), None) = (inputs.next(), inputs.next()) else { return None };
        let shape = Shape { height: input.height as usize, width: input.width as usize, channels: 3 };
        let id = reader.push(&image.name, Op::Input(0), vec![], shape, Kind::Float)?;
        reader.values.insert(&image.name, Value::Image(id));
        Some(reader)
    }

    /// Reads those nodes.
    fn nodes(&mut self, nodes: impl Iterator<Item = &'a NodeProto>) -> Option<()> {
        for node in nodes {
            let [name] = &node.output[..] else { return None };
            let value = self.node(node)?;
            self.values.insert(name, value);
        }
        Some(())
    }

    /// The whole network, its end by what it computes.
    fn whole(mut self, graph: &'a GraphProto) -> Option<Direct> {
        self.nodes(graph.node.iter())?;
        let Value::Rows(answer) = self.values.get(graph.output.first()?.name.as_str())? else { return None };
        let (outputs, parts) = self.answer(&answer.rows)?;
        let shape = [1, answer.height, answer.width];
        self.net.outputs = outputs;
        Some(Direct { net: self.net, shape, parts })
    }

    /// The network up to the maps that its head reads. What the head's description says of them must be so.
    fn up_to(mut self, head: &Head, graph: &'a GraphProto, input: InputSize) -> Option<Direct> {
        let output = graph.output.first()?;
        let names = || head.levels.iter().flat_map(|level| &level.maps).map(String::as_str);
        let (of_answer, of_maps) = (needed(graph, [output.name.as_str()].into_iter()), needed(graph, names()));
        let nodes = || graph.node.iter().zip(&of_maps).filter(|(_, needed)| **needed).map(|(node, _)| node);
        // Of maps that have nothing to do with the answer nobody knows what they are for.
        let unused = of_maps.iter().zip(&of_answer).any(|(map, answer)| *map && !*answer);
        (!unused).then_some(())?;
        self.nodes(nodes())?;

        let mut classes = None;
        let (mut boxes, mut scores) = (Vec::new(), Vec::new());
        let (mut scales, mut anchors) = (Vec::new(), Vec::new());
        let mut places = 0;
        for level in &head.levels {
            let sides = [input.height, input.width].map(|side| side.div_ceil(level.stride) as usize);
            let mut maps = Vec::with_capacity(2);
            for name in &level.maps {
                let Value::Image(id) = *self.values.get(name.as_str())? else { return None };
                let Node { shape, kind: Kind::Float, .. } = self.net.nodes[id] else { return None };
                ([shape.height, shape.width] == sides).then_some(())?;
                maps.push((id, shape));
            }
            let (id, shape) = *maps.first()?;
            let each = match head.kind {
                HeadKind::Anchors => shape.channels.checked_div(level.anchors.len())?.checked_sub(5)?,
                _ => maps.get(1)?.1.channels,
            };
            let channels = match head.kind {
                HeadKind::AnchorFree { .. } => 4,
                HeadKind::Distribution { bins, .. } => 4 * bins,
                HeadKind::Anchors => level.anchors.len() * (5 + each),
            };
            (shape.channels == channels && *classes.get_or_insert(each) == each).then_some(())?;
            let (stride, offset) = match head.kind {
                HeadKind::AnchorFree { offset, .. } | HeadKind::Distribution { offset, .. } => {
                    (level.stride as f32, offset)
                }
                HeadKind::Anchors => (level.stride as f32, 0.0),
            };
            let at = |index: usize| (index as f32 + offset) * stride;
            let cells = 0..shape.height * shape.width;
            let centres = cells.map(|cell| [at(cell % shape.width), at(cell / shape.width)]).collect();
            scales.push(Scale { stride, centres });
            anchors.push(level.anchors.clone());
            places += shape.height * shape.width * level.anchors.len().max(1);
            boxes.push(match head.kind {
                HeadKind::AnchorFree { limit, .. } => {
                    let distance = Activation::Exp { low: f32::NEG_INFINITY, high: limit };
                    self.push(&level.maps[0], Op::Unary(distance), vec![id], shape, Kind::Float)?
                }
                _ => id,
            });
            scores.extend(maps.get(1).map(|map| map.0));
        }
        let classes = classes?;
        let outputs = [boxes, scores].concat();
        // A file that nobody makes, and not worth a thought in the decoder.
        let twice = outputs.iter().enumerate().any(|(i, id)| outputs[..i].contains(id));

        // The answer that the file declares must be the one that the head makes.
        let is = |side: Option<&Option<i64>>, wanted: usize| {
            side.is_some_and(|side| side.is_none_or(|side| usize::try_from(side) == Ok(wanted)))
        };
        let (answer, image) = (
            declared(output),
            graph
                .input
                .iter()
                .find(|image| matches!(self.values.get(image.name.as_str()), Some(Value::Image(_))))?,
        );
        let image = declared(image);
        let as_declared = is(image.get(2), input.height as usize) && is(image.get(3), input.width as usize);
        let sound =
            answer.is_empty() || is(answer.get(1), 4 + classes) && (is(answer.get(2), places) || !as_declared);
        if twice || !sound || classes == 0 {
            return None;
        }

        let boxes = match head.kind {
            HeadKind::AnchorFree { .. } => Boxes::Distances(scales.into()),
            HeadKind::Distribution { bins, .. } => Boxes::Distributions { bins, scales: scales.into() },
            HeadKind::Anchors => Boxes::Anchors(scales.into_iter().zip(anchors).collect()),
        };
        self.net.outputs = outputs;
        let parts = Parts { scores: Scores::Logits, boxes, pixels: true };
        Some(Direct { net: self.net, shape: [1, 4 + classes, places], parts })
    }

    fn node(&mut self, node: &'a NodeProto) -> Option<Value<'a>> {
        let node = &Attributes(node);
        match node.0.op_type.as_str() {
            "Cast" => self.cast(node),
            "Shape" => self.shape(node),
            "Gather" => self.gather(node),
            "Range" => self.range(node),
            "Expand" => self.expand(node),
            "Reshape" => self.reshape(node),
            "Concat" => self.concat(node),
            "Slice" => self.slice(node),
            "Add" | "Sub" | "Mul" | "Min" => self.binary(node),
            "Conv" => self.conv(node),
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "MaxPool" => self.max_pool(node),
            "Resize" => self.resize(node),
            "GlobalAveragePool" => {
                let (x, Shape { channels, .. }) = self.image(node.only(&[])?, 0)?;
                let cell = Shape { height: 1, width: 1, channels };
                self.map(node, Op::Mean, vec![x], cell)
            }
            _ => self.activation(node),
        }
    }

    // What a node reads

    fn input(&self, node: &Attributes<'a>, index: usize) -> Option<&Value<'a>> {
        self.values.get(node.0.input.get(index)?.as_str())
    }

    fn image(&self, node: &Attributes<'a>, index: usize) -> Option<(Id, Shape)> {
        match self.input(node, index)? {
            Value::Image(id) if self.net.nodes[*id].kind == Kind::Float => Some((*id, self.net.nodes[*id].shape)),
            _ => None,
        }
    }

    fn floats(&self, node: &Attributes<'a>, index: usize) -> Option<Array<f32>> {
        match self.input(node, index)? {
            Value::Floats(array) => Some(array.clone()),
            Value::Stored(stored) if stored.data_type == DataType::Float as i32 => match tensor::values(stored)? {
                Values::F32(values) => Some(Array { shape: tensor::shape(stored), values }),
                _ => None,
            },
            _ => None,
        }
    }

    fn ints(&self, node: &Attributes<'a>, index: usize) -> Option<Array<i64>> {
        match self.input(node, index)? {
            Value::Ints(array) => Some(array.clone()),
            Value::Stored(stored) => match tensor::values(stored)? {
                Values::I64(values) => Some(Array { shape: tensor::shape(stored), values }),
                _ => None,
            },
            _ => None,
        }
    }

    fn scalar(&self, node: &Attributes<'a>, index: usize) -> Option<f32> {
        match self.floats(node, index)?.values[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    // What becomes of it

    fn push(&mut self, name: &str, op: Op, inputs: Vec<Id>, shape: Shape, kind: Kind) -> Option<Id> {
        let Shape { height, width, channels } = shape;
        let numbers = height.checked_mul(width)?.checked_mul(channels)?;
        (1..=MAX_NUMBERS).contains(&numbers).then_some(())?;
        self.net.nodes.push(Node { name: name.to_owned(), op, inputs, shape, kind });
        Some(self.net.nodes.len() - 1)
    }

    fn map(&mut self, node: &Attributes<'a>, op: Op, inputs: Vec<Id>, shape: Shape) -> Option<Value<'a>> {
        self.push(&node.0.output[0], op, inputs, shape, Kind::Float).map(Value::Image)
    }

    // Constants

    fn cast(&self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["to"])?;
        if node.int("to", 0)? != DataType::Float as i64 {
            return None;
        }
        let (shape, values) = match self.input(node, 0)? {
            Value::Ints(array) => (array.shape.clone(), array.values.iter().map(|value| *value as f32).collect()),
            Value::Floats(array) => (array.shape.clone(), array.values.clone()),
            Value::Stored(stored) => match tensor::values(stored)? {
                Values::F32(values) => (tensor::shape(stored), values),
                _ => return None,
            },
            _ => return None,
        };
        Some(Value::Floats(Array { shape, values }))
    }

    fn shape(&self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["start", "end"])?;
        let Value::Image(id) = self.input(node, 0)? else { return None };
        let Shape { height, width, channels } = self.net.nodes[*id].shape;
        let sides = [1, channels, height, width].map(|side| side as i64);
        let clamped = |name: &str, default: i64| {
            let index = node.int(name, default)?;
            Some((if index < 0 { index + 4 } else { index }).clamp(0, 4) as usize)
        };
        let values = sides.get(clamped("start", 0)?..clamped("end", 4)?)?.to_vec();
        Some(Value::Ints(Array { shape: vec![values.len()], values }))
    }

    fn gather(&self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["axis"])?;
        let (from, at) = (self.ints(node, 0)?, self.ints(node, 1)?);
        let ([_], [], [at], 0) = (&from.shape[..], &at.shape[..], &at.values[..], node.int("axis", 0)?) else {
            return None;
        };
        let value = *from.values.get(usize::try_from(*at).ok()?)?;
        Some(Value::Ints(Array { shape: vec![], values: vec![value] }))
    }

    fn range(&self, node: &Attributes<'a>) -> Option<Value<'a>> {
        let all = [0, 1, 2].map(|index| Some(self.ints(node.only(&[])?, index)?.values));
        let [Some(start), Some(end), Some(step)] = &all else { return None };
        let (&[start], &[end], [1]) = (&start[..], &end[..], &step[..]) else { return None };
        (0..=MAX_CONSTANTS as i64).contains(&end.checked_sub(start)?).then_some(())?;
        let values: Vec<i64> = (start..end).collect();
        Some(Value::Ints(Array { shape: vec![values.len()], values }))
    }

    fn expand(&self, node: &Attributes<'a>) -> Option<Value<'a>> {
        let (from, to) = (self.floats(node.only(&[])?, 0)?, self.ints(node, 1)?);
        let shape = to.values.iter().map(|side| usize::try_from(*side).ok()).collect::<Option<Vec<usize>>>()?;
        from.broadcast(&shape).map(Value::Floats)
    }

    fn reshape(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        let to = self.ints(node.only(&[])?, 1)?.values;
        match self.input(node, 0)? {
            Value::Image(id) if self.net.nodes[*id].kind == Kind::Float => {
                let Shape { height, width, channels } = self.net.nodes[*id].shape;
                let pixels = height * width;
                let same = match to[..] {
                    [1, rows, columns] => {
                        usize::try_from(rows) == Ok(channels) && (columns == -1 || columns == pixels as i64)
                    }
                    _ => false,
                };
                if same { Table::of(Rows::Pixels(*id), channels, pixels, 0).map(Value::Rows) } else { None }
            }
            Value::Floats(array) => {
                let known: usize = to.iter().filter(|side| **side != -1).try_fold(1usize, |product, side| {
                    // A 0 means that a side stays; nobody needs it here.
                    usize::try_from(*side).ok().filter(|side| *side > 0)?.checked_mul(product)
                })?;
                let open = to.iter().filter(|side| **side == -1).count();
                let rest = array.values.len() / known;
                if open > 1 || rest * known != array.values.len() || (open == 0 && rest != 1) {
                    return None;
                }
                let shape = to.iter().map(|side| usize::try_from(*side).unwrap_or(rest)).collect();
                Some(Value::Floats(Array { shape, values: array.values.clone() }))
            }
            _ => None,
        }
    }

    // Maps and rows

    fn concat(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["axis"])?;
        let axis = node.int("axis", 0)?;
        let indices = 0..node.0.input.len();
        match self.input(node, 0)? {
            Value::Image(_) => {
                let images = indices.map(|index| self.image(node, index)).collect::<Option<Vec<_>>>()?;
                let &(_, first) = images.first()?;
                let alike = |(_, s): &(Id, Shape)| (s.height, s.width) == (first.height, first.width);
                if axis != 1 || !images.iter().all(alike) {
                    return None;
                }
                let channels = images.iter().map(|(_, shape)| shape.channels).sum();
                let inputs = images.into_iter().map(|(id, _)| id).collect();
                self.map(node, Op::Concat, inputs, Shape { channels, ..first })
            }
            Value::Rows(_) => {
                let tables = indices.map(|index| match self.input(node, index)? {
                    Value::Rows(table) => Some(table.clone()),
                    _ => None,
                });
                let tables = tables.collect::<Option<Vec<Table>>>()?;
                let parts = tables.iter().map(|table| table.rows.clone()).collect();
                let Table { height, width, .. } = *tables.first()?;
                let depth = tables.iter().map(|table| table.depth).max()?;
                let table = match axis {
                    1 if tables.iter().all(|table| table.width == width) => {
                        let height = tables.iter().map(|table| table.height).sum();
                        Table::of(Rows::Stack(parts), height, width, depth)
                    }
                    2 if tables.iter().all(|table| table.height == height) => {
                        let width = tables.iter().map(|table| table.width).sum();
                        Table::of(Rows::Columns(parts), height, width, depth)
                    }
                    _ => None,
                };
                table.map(Value::Rows)
            }
            _ => {
                let arrays = indices.map(|index| self.floats(node, index)).collect::<Option<Vec<_>>>()?;
                Array::joined(&arrays, usize::try_from(axis).ok()?).map(Value::Floats)
            }
        }
    }

    fn slice(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&[])?;
        let one = |index: usize| match self.ints(node, index)?.values[..] {
            [value] => Some(value),
            _ => None,
        };
        let steps = if node.0.input.len() > 4 { one(4)? } else { 1 };
        let (start, end) = (usize::try_from(one(1)?).ok()?, usize::try_from(one(2)?).ok()?);
        if one(3)? != 1 || steps != 1 || start >= end {
            return None;
        }
        if let Some((x, shape)) = self.image(node, 0) {
            let cut = Shape { channels: end - start, ..shape };
            return if end <= shape.channels { self.map(node, Op::Slice(start), vec![x], cut) } else { None };
        }
        let Value::Rows(table) = self.input(node, 0)? else { return None };
        (end <= table.height).then_some(())?;
        let rows = Rows::Part(table.rows.clone(), start, end);
        Table::of(rows, end - start, table.width, table.depth).map(Value::Rows)
    }

    fn binary(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&[])?;
        let [_, _] = &node.0.input[..] else { return None };
        let op = node.0.op_type.as_str();
        match (self.input(node, 0)?, self.input(node, 1)?) {
            (Value::Image(_), Value::Image(_)) => {
                let ((a, of_a), (b, of_b)) = (self.image(node, 0)?, self.image(node, 1)?);
                let gates = |gate: Shape, image: Shape| {
                    (gate.height, gate.width) == (1, 1) && gate.channels == image.channels
                };
                match op {
                    "Add" if of_a == of_b => self.map(node, Op::Add(Activation::NONE), vec![a, b], of_a),
                    "Mul" if of_a == of_b => self.map(node, Op::Mul, vec![a, b], of_a),
                    "Mul" if gates(of_b, of_a) => self.map(node, Op::Gate, vec![a, b], of_a),
                    "Mul" if gates(of_a, of_b) => self.map(node, Op::Gate, vec![b, a], of_b),
                    _ => None,
                }
            }
            (Value::Image(_), _) => {
                let ((x, shape), number) = (self.image(node, 0)?, self.scalar(node, 1)?);
                let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
                let activation = match op {
                    "Min" => Activation::Clamp { low, high: number },
                    "Mul" => Activation::Affine { scale: number, offset: 0.0, low, high },
                    "Add" => Activation::Affine { scale: 1.0, offset: number, low, high },
                    _ => Activation::Affine { scale: 1.0, offset: -number, low, high },
                };
                self.map(node, Op::Unary(activation), vec![x], shape)
            }
            (Value::Rows(a), Value::Rows(b)) => {
                ((a.height, a.width) == (b.height, b.width)).then_some(())?;
                let rows = match op {
                    "Add" => Rows::Sum(a.rows.clone(), b.rows.clone()),
                    "Sub" => Rows::Difference(a.rows.clone(), b.rows.clone()),
                    _ => return None,
                };
                Table::of(rows, a.height, a.width, a.depth.max(b.depth)).map(Value::Rows)
            }
            (Value::Rows(table), _) if op == "Min" => {
                let (table, high) = (table.clone(), self.scalar(node, 1)?);
                self.on_pixels(node, &table, Activation::Clamp { low: f32::NEG_INFINITY, high })
            }
            (Value::Rows(table), _) => self.shifted_or_scaled(op, table, self.floats(node, 1)?),
            (_, Value::Rows(table)) if op != "Sub" => self.shifted_or_scaled(op, table, self.floats(node, 0)?),
            _ => {
                let (a, number) = (self.floats(node, 0)?, self.scalar(node, 1)?);
                let with: fn(f32, f32) -> f32 = match op {
                    "Add" => |a, b| a + b,
                    "Sub" => |a, b| a - b,
                    "Mul" => |a, b| a * b,
                    _ => f32::min,
                };
                let values = a.values.iter().map(|value| with(*value, number)).collect();
                Some(Value::Floats(Array { shape: a.shape, values }))
            }
        }
    }

    fn shifted_or_scaled(&self, op: &str, table: &Table, by: Array<f32>) -> Option<Value<'a>> {
        let rows = match (op, &by.values[..]) {
            ("Mul", &[factor]) if by.shape.len() <= 3 => Rows::Scaled(table.rows.clone(), factor),
            ("Add", _) if by.shape == [1, table.height, table.width] => Rows::Shifted(table.rows.clone(), by),
            _ => return None,
        };
        table.then(rows).map(Value::Rows)
    }

    /// An activation of pixels side by side is one of the map that they are of.
    fn on_pixels(&mut self, node: &Attributes<'a>, table: &Table, activation: Activation) -> Option<Value<'a>> {
        let Rows::Pixels(id) = *table.rows else { return None };
        let shape = self.net.nodes[id].shape;
        let activated = self.push(&node.0.output[0], Op::Unary(activation), vec![id], shape, Kind::Float)?;
        Table::of(Rows::Pixels(activated), table.height, table.width, 0).map(Value::Rows)
    }

    fn activation(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        let activation = match node.0.op_type.as_str() {
            "Clip" => {
                node.only(&[])?;
                let bound = |index: usize, none: f32| match node.0.input.get(index).map(String::as_str) {
                    None | Some("") => Some(none),
                    Some(_) => self.scalar(node, index),
                };
                Activation::Clamp { low: bound(1, low)?, high: bound(2, high)? }
            }
            "Relu" => Activation::Clamp { low: node.only(&[]).map(|_| 0.0)?, high },
            "LeakyRelu" => Activation::Leaky { slope: node.only(&["alpha"])?.float("alpha", 0.01)? },
            "Exp" => node.only(&[]).map(|_| Activation::Exp { low, high })?,
            "Sigmoid" => {
                node.only(&[])?;
                if let Value::Rows(table) = self.input(node, 0)? {
                    return table.then(Rows::Sigmoid(table.rows.clone())).map(Value::Rows);
                }
                Activation::Sigmoid
            }
            "HardSigmoid" => {
                node.only(&["alpha", "beta"])?;
                let (scale, offset) = (node.float("alpha", 0.2)?, node.float("beta", 0.5)?);
                Activation::Affine { scale, offset, low: 0.0, high: 1.0 }
            }
            _ => return None,
        };
        if let Value::Rows(table) = self.input(node, 0)? {
            let table = table.clone();
            return self.on_pixels(node, &table, activation);
        }
        let (x, shape) = self.image(node, 0)?;
        self.map(node, Op::Unary(activation), vec![x], shape)
    }

    fn conv(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["kernel_shape", "strides", "pads", "dilations", "group", "auto_pad"])?;
        let (x, input) = self.image(node, 0)?;
        let (shape, weights) = match self.input(node, 1)? {
            Value::Whole(shape, int8) => (shape.clone(), Weights::Whole(int8.clone())),
            _ => {
                let Array { shape, values } = self.floats(node, 1)?;
                (shape, Weights::Floats(values))
            }
        };
        let [outputs, inputs, rows, columns] = shape[..] else { return None };
        let bias = match node.0.input.get(2).map(String::as_str) {
            None | Some("") => vec![0.0; outputs],
            Some(_) => self.floats(node, 2).filter(|bias| bias.shape == [outputs])?.values,
        };
        let group = usize::try_from(node.int("group", 1)?).ok()?;
        let depthwise = group > 1 && group == outputs && inputs == 1 && input.channels == outputs;
        if !(depthwise || (group == 1 && inputs == input.channels)) || outputs * inputs == 0 {
            return None;
        }
        let window = node.window(Some([rows, columns]), input, false)?;
        let conv = Conv {
            kernel: (rows, columns),
            stride: (window.stride[0], window.stride[1]),
            dilation: (window.dilation[0], window.dilation[1]),
            pad: (window.before[0], window.before[1]),
            depthwise,
            weights,
            bias,
            activation: Activation::NONE,
            int8: None,
        };
        let out = Shape { height: window.out[0], width: window.out[1], channels: outputs };
        self.map(node, Op::Conv(Box::new(conv)), vec![x], out)
    }

    fn max_pool(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode", "storage_order"])?;
        let (x, input) = self.image(node, 0)?;
        let window = node.window(None, input, true)?;
        (node.int("ceil_mode", 0)? == 0 && window.dilation == [1, 1]).then_some(())?;
        let pool = PoolWindow {
            kernel: (window.kernel[0], window.kernel[1]),
            stride: (window.stride[0], window.stride[1]),
            pad: (window.before[0], window.before[1]),
        };
        let out = Shape { height: window.out[0], width: window.out[1], ..input };
        self.map(node, Op::MaxPool(pool), vec![x], out)
    }

    fn resize(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["mode", "nearest_mode", "coordinate_transformation_mode"])?;
        let places = node.text("coordinate_transformation_mode", "half_pixel")?;
        let op = match node.text("mode", "nearest")? {
            "nearest" if node.text("nearest_mode", "round_prefer_floor")? == "floor" && places == "asymmetric" => {
                Op::Upsample
            }
            // The two are the same but for results of one pixel.
            "linear" if matches!(places, "half_pixel" | "pytorch_half_pixel") => Op::Bilinear,
            _ => return None,
        };
        let no_region = node.0.input.get(1).is_some_and(String::is_empty);
        let doubles = self.floats(node, 2)?.values == [1.0, 1.0, 2.0, 2.0] && node.0.input.len() == 3;
        if !(no_region && doubles) {
            return None;
        }
        let (x, Shape { height, width, channels }) = self.image(node, 0)?;
        self.map(node, op, vec![x], Shape { height: 2 * height, width: 2 * width, channels })
    }

    // Bytes

    /// The scale and the byte of zero of a tensor of bytes.
    fn grid(&self, node: &Attributes<'a>) -> Option<(f32, u8)> {
        let scale = self.scalar(node, 1).filter(|scale| *scale > 0.0 && scale.recip().is_finite())?;
        let zero = match self.input(node, 2)? {
            Value::Stored(stored) => tensor::values(stored)?,
            _ => return None,
        };
        match zero {
            Values::U8(zero) if zero.len() == 1 => Some((scale, zero[0])),
            _ => None,
        }
    }

    fn quantize(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["axis"])?;
        let (x, shape) = self.image(node, 0)?;
        let (scale, zero) = self.grid(node)?;
        let kind = Kind::Byte(Quant { scale, zero: i32::from(zero), low: 0, high: 255 });
        let op = Op::Quantize { low: f32::NEG_INFINITY, high: f32::INFINITY };
        self.push(&node.0.output[0], op, vec![x], shape, kind).map(Value::Image)
    }

    fn dequantize(&mut self, node: &Attributes<'a>) -> Option<Value<'a>> {
        node.only(&["axis"])?;
        let stored = match self.input(node, 0)? {
            Value::Image(id) => {
                let (id, Node { kind, shape, .. }) = (*id, &self.net.nodes[*id]);
                let (Kind::Byte(quant), shape) = (*kind, *shape) else { return None };
                let (scale, zero) = self.grid(node)?;
                let same = quant.scale == scale && quant.zero == i32::from(zero);
                return if same { self.map(node, Op::Dequantize, vec![id], shape) } else { None };
            }
            Value::Stored(stored) => stored,
            _ => return None,
        };
        let shape = tensor::shape(stored);
        let &[outputs, ..] = &shape[..] else { return None };
        let scales = self.floats(node, 1)?.values;
        let by_output = scales.len() == outputs && (outputs == 1 || node.int("axis", 1)? == 0);
        let sound = by_output && scales.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        let no_shift = match self.input(node, 2) {
            None => true,
            Some(Value::Stored(zero)) => match tensor::values(zero)? {
                Values::I8(zeros) => zeros.iter().all(|zero| *zero == 0),
                Values::I32(zeros) => zeros.iter().all(|zero| *zero == 0),
                _ => false,
            },
            Some(_) => false,
        };
        if !(sound && no_shift) || outputs == 0 {
            return None;
        }
        match tensor::values(stored)? {
            Values::I8(weights) => Some(Value::Whole(shape, Int8 { weights, scales })),
            Values::I32(sums) => {
                let rows = sums.chunks((sums.len() / outputs).max(1)).zip(&scales);
                let values = rows.flat_map(|(row, scale)| row.iter().map(move |sum| *sum as f32 * scale)).collect();
                Some(Value::Floats(Array { shape, values }))
            }
            _ => None,
        }
    }

    // The end

    /// The maps that the answer is made of, boxes first, and how.
    fn answer(&self, rows: &Rows) -> Option<(Vec<Id>, Parts)> {
        let Rows::Stack(parts) = rows else { return None };
        let [middle, size, scores] = &parts[..] else { return None };
        let (source, centres) = distances(middle, size)?;
        let (kind, scores) = match &**scores {
            Rows::Sigmoid(logits) => (Scores::Logits, logits),
            _ => (Scores::Probabilities, scores),
        };
        let mut outputs = Vec::new();
        let mut scales = Vec::new();
        let mut centres = centres.into_iter();
        for part in columns(&source) {
            let (stride, pixels) = match &**part {
                Rows::Scaled(pixels, stride) => (*stride, pixels),
                _ => (1.0, part),
            };
            let Rows::Pixels(id) = **pixels else { return None };
            let Shape { height, width, channels: 4 } = self.net.nodes[id].shape else { return None };
            scales.push(Scale { stride, centres: centres.by_ref().take(height * width).collect() });
            outputs.push(id);
        }
        for part in columns(scores) {
            let Rows::Pixels(id) = **part else { return None };
            outputs.push(id);
        }
        // A file that nobody makes, and not worth a thought in the decoder.
        let twice = outputs.iter().enumerate().any(|(i, id)| outputs[..i].contains(id));
        let parts = Parts { scores: kind, boxes: Boxes::Distances(scales.into()), pixels: true };
        (!twice).then_some((outputs, parts))
    }
}

/// What stands side by side in some rows.
fn columns(rows: &Rc<Rows>) -> &[Rc<Rows>] {
    match &**rows {
        Rows::Columns(parts) => parts,
        _ => std::slice::from_ref(rows),
    }
}

/// The distances l, t, r, b of the sides of boxes from the centres of cells that make `centre + ((r, b) - (l, t)) / 2`
/// and `(l, t) + (r, b)`, and the centres.
fn distances(middle: &Rows, size: &Rows) -> Option<(Rc<Rows>, Vec<[f32; 2]>)> {
    let Rows::Sum(near, far) = size else { return None };
    let (Rows::Part(source, 0, 2), Rows::Part(behind, 2, 4)) = (&**near, &**far) else { return None };
    let Rows::Shifted(offset, centres) = middle else { return None };
    let Rows::Scaled(difference, 0.5) = &**offset else { return None };
    let Rows::Difference(b, a) = &**difference else { return None };
    let same = Rc::ptr_eq(source, behind) && Rc::ptr_eq(a, near) && Rc::ptr_eq(b, far);
    let (x, y) = centres.values.split_at(centres.values.len() / 2);
    same.then(|| (source.clone(), x.iter().zip(y).map(|(x, y)| [*x, *y]).collect()))
}

impl Array<f32> {
    fn broadcast(&self, to: &[usize]) -> Option<Array<f32>> {
        let missing = to.len().checked_sub(self.shape.len())?;
        let from: Vec<usize> = std::iter::repeat_n(1, missing).chain(self.shape.iter().copied()).collect();
        // As ONNX has it, a side of one in `to` leaves a longer one as it is.
        let shape: Vec<usize> = from.iter().zip(to).map(|(from, to)| if *to == 1 { *from } else { *to }).collect();
        if !from.iter().zip(&shape).all(|(from, to)| from == to || *from == 1) {
            return None;
        }
        let count = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
        (count <= MAX_CONSTANTS).then_some(())?;
        let value = |index: usize| {
            let (mut rest, mut at, mut step) = (index, 0, 1);
            for (from, to) in from.iter().zip(&shape).rev() {
                if *from > 1 {
                    at += rest % to * step;
                }
                rest /= to;
                step *= from;
            }
            self.values[at]
        };
        Some(Array { values: (0..count).map(value).collect(), shape })
    }

    /// All of them one after the other along `axis`.
    fn joined(arrays: &[Array<f32>], axis: usize) -> Option<Array<f32>> {
        let first = arrays.first()?;
        let others = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            *shape.get_mut(axis)? = 0;
            Some(shape)
        };
        let alike = others(&first.shape)?;
        if !arrays.iter().all(|array| others(&array.shape).as_ref() == Some(&alike)) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[axis] = arrays.iter().map(|array| array.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        let mut values = Vec::with_capacity(arrays.iter().map(|array| array.values.len()).sum());
        for row in 0..outer {
            for array in arrays {
                let length = array.values.len() / outer;
                values.extend_from_slice(&array.values[row * length..(row + 1) * length]);
            }
        }
        Some(Array { shape, values })
    }
}

/// A window that moves over a map: down, across.
struct Moving {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    out: [usize; 2],
}

/// A node and its attributes. An attribute of another type than it should have gives `None`.
struct Attributes<'a>(&'a NodeProto);

impl<'a> Attributes<'a> {
    /// Itself, if it has no attributes but these.
    fn only(&self, known: &[&str]) -> Option<&Self> {
        self.0.attribute.iter().all(|attribute| known.contains(&attribute.name.as_str())).then_some(self)
    }

    fn get<T>(
        &self,
        name: &str,
        kind: AttributeType,
        default: T,
        f: impl Fn(&'a AttributeProto) -> T,
    ) -> Option<T> {
        match self.0.attribute.iter().find(|attribute| attribute.name == name) {
            None => Some(default),
            Some(attribute) => (attribute.r#type == kind as i32).then(|| f(attribute)),
        }
    }

    fn int(&self, name: &str, default: i64) -> Option<i64> {
        self.get(name, AttributeType::Int, default, |attribute| attribute.i)
    }

    fn float(&self, name: &str, default: f32) -> Option<f32> {
        self.get(name, AttributeType::Float, default, |attribute| attribute.f)
    }

    fn text(&self, name: &str, default: &'static str) -> Option<&'a str> {
        self.get(name, AttributeType::String, Some(default), |attribute| str::from_utf8(&attribute.s).ok())?
    }

    /// Sizes of at least `least`, as many as there are in `default`.
    fn sizes<const N: usize>(&self, name: &str, least: i64, default: Option<[usize; N]>) -> Option<[usize; N]> {
        let found = self.get(name, AttributeType::Ints, None, |attribute| Some(&attribute.ints[..]))?;
        let Some(found) = found else { return default };
        let sound = found.iter().all(|size| (least..=MAX_WINDOW).contains(size));
        let sizes: Vec<usize> = found.iter().filter(|_| sound).map(|size| *size as usize).collect();
        sizes.try_into().ok()
    }

    /// The window of a convolution of this kernel, or of a pool, over `input`. A pool's must hold a pixel everywhere.
    fn window(&self, kernel: Option<[usize; 2]>, input: Shape, is_pool: bool) -> Option<Moving> {
        let declared = self.sizes("kernel_shape", 1, kernel)?;
        let stride = self.sizes("strides", 1, Some([1, 1]))?;
        let dilation = self.sizes("dilations", 1, Some([1, 1]))?;
        let [top, left, bottom, right] = self.sizes("pads", 0, Some([0; 4]))?;
        if kernel.is_some_and(|kernel| kernel != declared || kernel.contains(&0))
            || self.text("auto_pad", "NOTSET")? != "NOTSET"
        {
            return None;
        }
        let border = 2 * top.max(left).max(bottom).max(right);
        let numbers = (input.height + border).checked_mul(input.width + border)?.checked_mul(input.channels)?;
        (numbers <= MAX_NUMBERS).then_some(())?;
        let mut out = [0; 2];
        let sides = [(input.height, top, bottom), (input.width, left, right)];
        for (axis, (side, before, after)) in sides.into_iter().enumerate() {
            let reach = dilation[axis] * (declared[axis].checked_sub(1)?) + 1;
            if is_pool && (before >= reach || after >= reach) {
                return None;
            }
            out[axis] = (side + before + after).checked_sub(reach)? / stride[axis] + 1;
        }
        Some(Moving { kernel: declared, stride, dilation, before: [top, left], out })
    }
}
