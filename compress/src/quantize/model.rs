//! Quantises the ONNX file of another program: convolutions and the maps between them become int8, and the rest of the
//! graph stays as it is.
//!
//! A convolution with constant weights reads bytes. Its input is followed back through operators that only move or
//! select values (pooling, concatenation, resizing, slices). These tensors share one scale, so that a runtime moves
//! bytes there. If a convolution reads a sum, the inputs of the sum get bytes too, each with a scale of its own.
//! Everything else stays as it is.
//!
//! A depthwise convolution gets a quantised input only if its output is quantised directly, as with ReLU. If another
//! activation follows, such as SiLU, runtimes compute it in floats anyway, and a quantised input would cost accuracy:
//! it reads each channel alone, so rounding errors in a channel with a small range are not averaged over other
//! channels. Its weights are bytes in both cases.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::*;

use super::calibrate::{Runnable, run, values};
use super::rounding::{Rounded, Windows, round_convolution};
use super::write::{self, integers};
use super::{Histogram, Method, Scale, Scores};
use crate::error::{Error, Result};
use crate::export::Folded;
use crate::network::{Activation, Node, Op};
use crate::onnx::GraphBuilder;
use crate::ties::Ties;

/// The first operator set with a scale per channel.
const LEAST_OPSET: i64 = 13;

/// The longest side in pixels, ten times that of small detectors.
const MOST_SIDE: i64 = 4096;

/// Operators whose output has only values of their first input (for `Concat`, of all inputs). `Resize` may also compute
/// means.
const MOVES: [&str; 10] =
    ["Concat", "Dropout", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose"];

/// An ONNX file of a detector with one image as input, `[1, 3, side, side]`.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    /// The file without the graph.
    shell: ModelProto,
    graph: GraphProto,
    side: usize,
    convolutions: Vec<Convolution>,
    /// Tensors that become int8, with the index of their scale.
    places: HashMap<String, usize>,
    floats: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
struct Convolution {
    /// Index of the node in the graph's list.
    node: usize,
    folded: Folded,
    /// Statistics of what the kernel reads; if empty, weights are rounded to nearest.
    windows: Windows,
    /// Whether `windows` can be collected for this form of convolution.
    watched: bool,
    /// Whether the convolution is depthwise.
    depthwise: bool,
}

/// Statistics of the activations of a model on some photographs.
#[derive(Debug, Clone)]
pub struct CalibrationData {
    histograms: Vec<Histogram>,
    windows: Vec<Windows>,
}

impl CalibrationData {
    /// The scales that `method` chooses, for [`Model::quantize`].
    pub fn scales(&self, method: Method) -> Vec<Scale> {
        self.histograms.iter().map(|histogram| histogram.scale(method)).collect()
    }
}

impl Model {
    /// Reads an ONNX file. `imgsz` is the side of its input if the file leaves it open.
    ///
    /// # Errors
    ///
    /// [`Error::Model`]: not an ONNX file, weights in separate files, an operator set below 13, several inputs or one
    /// that is not a square image, a model that is already quantised, no convolution with constant weights.
    pub fn read(path: &Path, imgsz: usize) -> Result<Model> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let wrong = |problem: String| Error::Model { path: path.to_owned(), problem };
        let mut shell =
            ModelProto::decode(&bytes[..]).map_err(|error| wrong(format!("is no ONNX file: {error}")))?;
        let Some(mut graph) = shell.graph.take() else {
            return Err(wrong("has no graph: it is no ONNX file".into()));
        };
        // tract refuses two nodes of one name. Without one, a node is called by its output.
        let mut names = HashSet::new();
        graph.node.iter_mut().filter(|node| !names.insert(node.name.clone())).for_each(|node| node.name.clear());
        let opset = shell.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&set.domain.as_str()));
        let opset = opset.map_or(0, |set| set.version);
        if opset < LEAST_OPSET {
            let problem =
                format!("has operator set {opset}, int8 needs {LEAST_OPSET}: export it with that or a later one");
            return Err(wrong(problem));
        }
        if let Some(node) = graph.node.iter().find(|node| node.op_type.ends_with("QuantizeLinear")) {
            return Err(wrong(format!("has bytes already: node `{}` is {}", node.name, node.op_type)));
        }
        let external = |tensor: &&TensorProto| tensor.data_location == Some(DataLocation::External as i32);
        if let Some(tensor) = graph.initializer.iter().find(external) {
            let problem = format!("keeps `{}` in another file: save it as a single file", tensor.name);
            return Err(wrong(problem));
        }
        let side = input_side(&graph, imgsz).map_err(wrong)?;
        let (convolutions, floats) = convolutions(&graph);
        if convolutions.is_empty() {
            let why = floats.first().map_or_else(String::new, |(name, why)| format!(": `{name}`: {why}"));
            return Err(wrong(format!("has no convolution that can get bytes{why}")));
        }
        let places = places(&graph, &convolutions);
        Ok(Model { path: path.to_owned(), shell, graph, side, convolutions, places, floats })
    }

    /// Side of the input in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Keeps the convolutions with these names in floats.
    ///
    /// # Errors
    ///
    /// [`Error::Option`]: a name that belongs to no quantised convolution.
    pub fn leave_in_floats(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            let found = self.convolutions.iter().position(|conv| named(&self.graph.node[conv.node]) == *name);
            let Some(found) = found else {
                let problem = format!("the model has no convolution `{name}` with constant weights");
                return Err(Error::Option { option: "--float", problem });
            };
            self.convolutions.remove(found);
            self.floats.push((name.clone(), "left in floats as `--float` says".into()));
        }
        self.places = places(&self.graph, &self.convolutions);
        Ok(())
    }

    /// The index of the image's scale, if a convolution reads the image.
    pub fn image_place(&self) -> Option<usize> {
        input(&self.graph).and_then(|input| self.places.get(&input.name)).copied()
    }

    /// Names of the convolutions whose weights and input become int8.
    pub fn convolutions(&self) -> Vec<String> {
        self.names(|conv| self.reads_bytes(conv))
    }

    /// Names of the convolutions of which only the weights become int8.
    pub fn weights_only(&self) -> Vec<String> {
        self.names(|conv| !self.reads_bytes(conv))
    }

    fn names(&self, is_meant: impl Fn(&Convolution) -> bool) -> Vec<String> {
        let meant = self.convolutions.iter().filter(|conv| is_meant(conv));
        meant.map(|conv| named(&self.graph.node[conv.node])).collect()
    }

    fn reads_bytes(&self, conv: &Convolution) -> bool {
        self.places.contains_key(&self.graph.node[conv.node].input[0])
    }

    /// Nodes with weights that stay completely in floats, each with the reason.
    pub fn floats(&self) -> &[(String, String)] {
        &self.floats
    }

    fn failed(&self, error: &TractError) -> Error {
        Error::Model { path: self.path.clone(), problem: format!("does not run: {error:#}") }
    }

    /// Runs the model on `images` (see [`super::letterboxed`]) and collects statistics of its activations.
    ///
    /// # Errors
    ///
    /// [`Error::Model`]: tract cannot run it.
    pub fn calibrate(&self, images: &[Vec<f32>], progress: &dyn Fn(usize)) -> Result<CalibrationData> {
        let count = self.places.values().max().map_or(0, |last| last + 1);
        let mut histograms = vec![Histogram::default(); count];
        let mut windows: Vec<Windows> = self.convolutions.iter().map(|conv| conv.windows.clone()).collect();
        let image = input(&self.graph).map(|input| input.name.as_str()).unwrap_or_default();
        let read = self.convolutions.iter().map(|conv| &self.graph.node[conv.node].input[0]);
        let mut watched: Vec<&String> = self.places.keys().chain(read).filter(|name| *name != image).collect();
        watched.sort();
        watched.dedup();
        let readers = |name: &str| -> Vec<usize> {
            let reads = |conv: &Convolution| conv.watched && self.graph.node[conv.node].input[0] == name;
            (0..self.convolutions.len()).filter(|&i| reads(&self.convolutions[i])).collect()
        };
        let mut take = |name: &str, values: &[f32], shape: &[usize]| {
            if let Some(&place) = self.places.get(name) {
                values.iter().for_each(|value| histograms[place].add(*value));
            }
            if let &[_, _, height, width] = shape {
                readers(name).into_iter().for_each(|conv| windows[conv].add(values, height, width));
            }
        };
        let watching =
            GraphProto { output: watched.iter().map(|name| output(name)).collect(), ..self.graph.clone() };
        let model = load(&self.with(watching), self.side).map_err(|error| self.failed(&error))?;
        for (i, pixels) in images.iter().enumerate() {
            take(image, pixels, &[1, 3, self.side, self.side]);
            let found = run(&model, pixels, self.side).map_err(|error| self.failed(&error))?;
            for (name, tensor) in watched.iter().zip(&found) {
                let values = values(tensor).map_err(|error| self.failed(&error))?;
                take(name, values, tensor.shape());
            }
            progress(i + 1);
        }
        if let Some(&place) = self.places.get(image) {
            // The range is that of any photograph, black to white, even if these photographs have a smaller one.
            [0.0, 1.0].iter().for_each(|value| histograms[place].add(*value));
        }
        Ok(CalibrationData { histograms, windows })
    }

    /// All float outputs of an ONNX file with the same input as this model, one list per image.
    ///
    /// # Errors
    ///
    /// [`Error::Model`]: tract cannot run it.
    pub fn outputs(&self, onnx: &[u8], images: &[Vec<f32>]) -> Result<Scores> {
        let proto = ModelProto::decode(onnx).map_err(|error| self.failed(&error.into()))?;
        let model = load(&proto, self.side).map_err(|error| self.failed(&error))?;
        let one = |pixels: &Vec<f32>| -> TractResult<Vec<f32>> {
            let mut all = Vec::new();
            for tensor in run(&model, pixels, self.side)? {
                if tensor.datum_type() == f32::datum_type() {
                    all.extend_from_slice(values(&tensor)?);
                }
            }
            Ok(all)
        };
        images.iter().map(|pixels| one(pixels).map_err(|error| self.failed(&error))).collect()
    }

    /// The original file.
    pub fn to_onnx(&self) -> Vec<u8> {
        self.with(self.graph.clone()).encode_to_vec()
    }

    /// The weights rounded to integers of `bits` bits, for [`Model::quantize`].
    pub fn round(&self, seen: &CalibrationData, bits: u32) -> Vec<Rounded> {
        let each = self.convolutions.iter().zip(&seen.windows);
        each.map(|(conv, windows)| round_convolution(&conv.folded, windows, bits)).collect()
    }

    /// The int8 file: standard QDQ, activations in 0…127 after a `Clip`, as written by [`super::to_onnx`].
    pub fn quantize(&self, rounded: &[Rounded], scales: &[Scale]) -> Vec<u8> {
        self.write(rounded, scales, |_| true, |_| true)
    }

    /// The same with only the convolution `name` in int8: its weights and its input.
    pub fn quantize_only(&self, rounded: &[Rounded], scales: &[Scale], name: &str) -> Vec<u8> {
        let is_meant = |node: &NodeProto| named(node) == name;
        let meant = self.convolutions.iter().map(|conv| &self.graph.node[conv.node]).find(|node| is_meant(node));
        let read = meant.and_then(|node| self.places.get(&node.input[0])).copied();
        self.write(rounded, scales, is_meant, |place| read == Some(place))
    }

    /// Writes the graph with these convolutions and tensors in int8.
    fn write(
        &self,
        rounded: &[Rounded],
        scales: &[Scale],
        is_meant: impl Fn(&NodeProto) -> bool,
        is_place_meant: impl Fn(usize) -> bool,
    ) -> Vec<u8> {
        let mut onnx = GraphBuilder::without_nodes_of(&self.graph);
        let mut bytes: HashMap<&str, String> = HashMap::new();
        let scale =
            |name: &str| self.places.get(name).filter(|place| is_place_meant(**place)).map(|&place| scales[place]);
        let image = input(&self.graph).map(|input| input.name.as_str()).unwrap_or_default();
        if let Some(scale) = scale(image) {
            bytes.insert(image, quantised(&mut onnx, image, scale, false));
        }
        let rounded: HashMap<usize, (&Convolution, &Rounded)> =
            self.convolutions.iter().zip(rounded).map(|(conv, rounded)| (conv.node, (conv, rounded))).collect();
        for (i, original) in self.graph.node.iter().enumerate() {
            let mut node = original.clone();
            if let Some(rounded) = rounded.get(&i).filter(|_| is_meant(original)) {
                let (conv, rounded) = *rounded;
                let read = scale(&node.input[0]);
                let [weight, bias] = integers(&mut onnx, &node.output[0], &conv.folded.shape, rounded, read);
                node.input.truncate(1);
                node.input.extend([weight, bias]);
            }
            for input in &mut node.input {
                if let Some(name) = bytes.get(input.as_str()) {
                    input.clone_from(name);
                }
            }
            onnx.node(node);
            let is_moved = MOVES.contains(&original.op_type.as_str());
            for name in &original.output {
                if let Some(scale) = scale(name) {
                    bytes.insert(name, quantised(&mut onnx, name, scale, is_moved));
                }
            }
        }
        let mut quantised = onnx.into_graph();
        let used: HashSet<String> = quantised.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
        let put_out: HashSet<String> = quantised.output.iter().map(|output| output.name.clone()).collect();
        quantised.initializer.retain(|tensor| used.contains(&tensor.name) || put_out.contains(&tensor.name));
        quantised
            .node
            .retain(|node| node.op_type != "Constant" || node.output.iter().any(|name| used.contains(name)));
        self.with(quantised).encode_to_vec()
    }

    fn with(&self, graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..self.shell.clone() }
    }
}

/// The only input that is not a weight.
fn input(graph: &GraphProto) -> Option<&ValueInfoProto> {
    let is_weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let mut inputs = graph.input.iter().filter(|input| !is_weight(&input.name));
    inputs.next().filter(|_| inputs.next().is_none())
}

/// The side of the input, `[1, 3, side, side]`.
fn input_side(graph: &GraphProto, imgsz: usize) -> std::result::Result<usize, String> {
    let input = input(graph).ok_or("has not one input: a detector reads one image")?;
    let shape = match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type == DataType::Float as i32 => &tensor.shape,
        _ => return Err(format!("its input `{}` is no float32 tensor", input.name)),
    };
    let dims: Vec<Option<i64>> = shape.iter().flat_map(|shape| &shape.dim).map(stated).collect();
    let &[batch, channels, height, width] = &dims[..] else {
        return Err(format!("its input `{}` has {} axes, not 4: [1, 3, H, W]", input.name, dims.len()));
    };
    let imgsz = imgsz as i64;
    let (height, width) = (height.unwrap_or(width.unwrap_or(imgsz)), width.unwrap_or(height.unwrap_or(imgsz)));
    match (batch.unwrap_or(1), channels.unwrap_or(3)) {
        (1, 3) if height == width && (1..=MOST_SIDE).contains(&height) => Ok(height as usize),
        (batch, channels) => Err(format!(
            "its input is [{batch}, {channels}, {height}, {width}]; photographs are [1, 3, side, side]"
        )),
    }
}

fn stated(dimension: &Dimension) -> Option<i64> {
    match dimension.value {
        Some(dimension::Value::DimValue(side)) if side > 0 => Some(side),
        _ => None,
    }
}

/// The values of a 32-bit float constant.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    Some(tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The convolutions whose weights are constants, and other nodes with weights, with the reason why they stay in floats.
fn convolutions(graph: &GraphProto) -> (Vec<Convolution>, Vec<(String, String)>) {
    let mut constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for node in graph.node.iter().filter(|node| node.op_type == "Constant") {
        let value = attribute(node, "value").and_then(|attribute| attribute.t.as_ref());
        if let (Some(name), Some(tensor)) = (node.output.first(), value) {
            constants.insert(name, tensor);
        }
    }
    let converted: HashSet<&str> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Cast" && node.input.iter().all(|name| constants.contains_key(&name[..])))
        .flat_map(|node| node.output.iter().map(String::as_str))
        .collect();
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    for (index, node) in graph.node.iter().enumerate() {
        match node.op_type.as_str() {
            "Conv" => match convolution(node, index, &constants) {
                Ok(convolution) => found.push(convolution),
                // Weights in half precision, as written by `compress export`.
                Err(_) if node.input.get(1).is_some_and(|name| converted.contains(&name[..])) => {
                    let why = "its weights are stored in another type: export them as float32 (`--storage single`)";
                    rest.push((named(node), why.into()));
                }
                Err(why) => rest.push((named(node), why.into())),
            },
            "ConvTranspose" | "Gemm" | "MatMul"
                if node.input.iter().any(|name| constants.contains_key(&name[..])) =>
            {
                rest.push((named(node), format!("{} stays in floats, only Conv gets bytes", node.op_type)));
            }
            _ => {}
        }
    }
    (found, rest)
}

fn named(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

fn convolution(
    node: &NodeProto,
    index: usize,
    constants: &HashMap<&str, &TensorProto>,
) -> std::result::Result<Convolution, &'static str> {
    let constant = |input: usize| constants.get(node.input.get(input)?.as_str()).copied();
    let weight = constant(1).ok_or("its weights are not constant")?;
    let &[out, read, height, width] = &weight.dims[..] else { return Err("its weights have not 4 axes") };
    let values = floats(weight).ok_or("its weights are not 32-bit floats")?;
    let shape = [out, read, height, width].map(|side| usize::try_from(side).unwrap_or(0));
    if values.is_empty() || values.len() != shape.iter().product::<usize>() {
        return Err("its weights are empty or incomplete");
    }
    let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
        None => vec![0.0; shape[0]],
        Some(_) => constant(2).and_then(floats).ok_or("its bias is not constant 32-bit floats")?,
    };
    if bias.len() != shape[0] || constants.contains_key(node.input[0].as_str()) {
        return Err("its bias or its input has another form");
    }
    let list = |name: &str| attribute(node, name).map(|attribute| attribute.ints.clone()).unwrap_or_default();
    let all = |name: &str, side: i64| list(name).iter().all(|&value| value == side);
    let groups = attribute(node, "group").map_or(1, |attribute| attribute.i).max(1) as usize;
    let stride = list("strides").first().copied().unwrap_or(1);
    let padded = if height == 1 { all("pads", 0) } else { list("pads").len() == 4 && all("pads", height / 2) };
    let is_usual = height == width && height % 2 == 1 && padded && all("dilations", 1) && all("strides", stride);
    let kernel = shape[2];
    let op = Op::Conv {
        input: shape[1] * groups,
        kernel: if is_usual { kernel } else { 1 },
        stride: stride.max(1) as usize,
        groups,
        norm: false,
        activation: Activation::None,
    };
    let usual = Node { name: named(node), layer: None, inputs: vec![], op, channels: shape[0], stride: 0 };
    let length = shape[1] * shape[2] * shape[3];
    let windows = Windows::new(&usual).filter(|_| is_usual).unwrap_or_else(|| Windows::unseen(groups, length));
    let depthwise = groups > 1 && groups == shape[0] && shape[1] == 1;
    let folded = Folded { weight: values, shape, bias };
    Ok(Convolution { node: index, folded, windows, watched: is_usual, depthwise })
}

/// The tensors that become int8, with the index of their scale: inputs of convolutions, but of depthwise ones only if
/// their output becomes int8 too.
fn places(graph: &GraphProto, convolutions: &[Convolution]) -> HashMap<String, usize> {
    let (mut left, mut reading): (Vec<_>, Vec<_>) =
        convolutions.iter().map(|conv| (&graph.node[conv.node], conv)).partition(|(_, conv)| conv.depthwise);
    loop {
        let places = places_before(graph, reading.iter().map(|(node, _)| node.input[0].as_str()));
        // The input of one depthwise convolution may be the output of another.
        let (ends_in_bytes, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(node, _)| places.contains_key(clamped(graph, &node.output[0])));
        if ends_in_bytes.is_empty() {
            return places;
        }
        reading.extend(ends_in_bytes);
        left = others;
    }
}

/// The output of an activation that a runtime applies while it quantises the tensor `name`, or `name` itself.
fn clamped<'a>(graph: &'a GraphProto, name: &'a str) -> &'a str {
    let mut readers = graph.node.iter().filter(|node| node.input.iter().any(|input| input == name));
    match (readers.next(), readers.next()) {
        (Some(node), None) if ["Clip", "LeakyRelu", "Relu"].contains(&node.op_type.as_str()) => &node.output[0],
        _ => name,
    }
}

/// The tensors that become int8 if the tensors `read` do.
fn places_before<'a>(graph: &'a GraphProto, read: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let is_map =
        |name: &str| !constants.contains(name) && makers.get(name).is_none_or(|node| node.op_type != "Constant");
    // In the order in which they are found. The position in the list is a tensor's number.
    let mut tensors: Vec<&str> = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut ties = Vec::new();
    let mut add = |tensors: &mut Vec<&'a str>, name: &'a str| {
        *numbers.entry(name).or_insert_with(|| {
            tensors.push(name);
            tensors.len() - 1
        })
    };
    for name in read {
        add(&mut tensors, name);
    }
    let mut next = 0;
    while next < tensors.len() {
        if let Some(node) = makers.get(tensors[next]) {
            let inputs = match node.op_type.as_str() {
                "Add" | "Concat" => &node.input[..],
                op if MOVES.contains(&op) => &node.input[..1],
                _ => &[],
            };
            if inputs.iter().all(|input| is_map(input)) {
                for input in inputs {
                    let number = add(&mut tensors, input);
                    if node.op_type != "Add" {
                        ties.push((next, number));
                    }
                }
            }
        }
        next += 1;
    }
    let mut sets = Ties::new(tensors.len());
    ties.into_iter().for_each(|(a, b)| sets.join(a, b));
    let mut places: HashMap<usize, usize> = HashMap::new();
    let of = |(number, name): (usize, &&str)| {
        let next = places.len();
        (name.to_string(), *places.entry(sets.root(number)).or_insert(next))
    };
    tensors.iter().enumerate().map(of).collect()
}

fn output(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

fn load(proto: &ModelProto, side: usize) -> TractResult<Runnable> {
    let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
    model.set_input_fact(0, f32::fact([1, 3, side, side]).into())?;
    model.into_optimized()?.into_runnable()
}

/// Quantises and dequantises the tensor `name`. A tensor that is only moved needs no clip.
fn quantised(onnx: &mut GraphBuilder, name: &str, scale: Scale, is_moved: bool) -> String {
    let prefix = format!("{name}.int8");
    if is_moved {
        write::quantised(onnx, &prefix, name, scale)
    } else {
        write::bytes(onnx, &prefix, name, scale, write::UNBOUNDED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{int, ints};

    const SIDE: usize = 32;
    const CLASSES: usize = 3;

    struct Weights {
        onnx: GraphBuilder,
        random: fastrand::Rng,
        /// How many times as large weights are, and those of the first channel once more; these are positive if not 1.
        gain: f32,
        first_channel: f32,
    }

    impl Weights {
        fn new(name: &str, seed: u64) -> Weights {
            let random = fastrand::Rng::with_seed(seed);
            Weights { onnx: GraphBuilder::new(name), random, gain: 1.0, first_channel: 1.0 }
        }

        fn conv(&mut self, name: &str, input: &str, form: [usize; 3], stride: i64) -> String {
            self.grouped(name, input, form, stride, 1)
        }

        fn grouped(
            &mut self,
            name: &str,
            input: &str,
            [out, read, kernel]: [usize; 3],
            stride: i64,
            groups: usize,
        ) -> String {
            let range = (3.0 / (read * kernel * kernel) as f32).sqrt();
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| (self.random.f32() * 2.0 - 1.0) * range).collect()
            };
            let (mut weight, bias) = (values(out * read * kernel * kernel), values(out));
            weight.iter_mut().for_each(|value| *value *= self.gain);
            if self.first_channel != 1.0 {
                let first = &mut weight[..read * kernel * kernel];
                first.iter_mut().for_each(|value| *value = value.abs() * self.first_channel);
            }
            let weight = self.onnx.floats(&format!("{name}.weight"), &[out, read, kernel, kernel], &weight);
            let bias = self.onnx.floats(&format!("{name}.bias"), &[out], &bias);
            let (kernel, pad) = (kernel as i64, kernel as i64 / 2);
            let mut attributes = vec![
                ints("kernel_shape", &[kernel, kernel]),
                ints("pads", &[pad; 4]),
                ints("strides", &[stride, stride]),
            ];
            if groups > 1 {
                attributes.push(int("group", groups as i64));
            }
            self.onnx.op("Conv", &format!("{name}.conv"), &[input, &weight, &bias], attributes)
        }

        fn silu(&mut self, name: &str, input: &str, form: [usize; 3], stride: i64) -> String {
            let conv = self.conv(name, input, form, stride);
            self.gated(name, &conv)
        }

        fn gated(&mut self, name: &str, conv: &str) -> String {
            let gate = self.onnx.op("Sigmoid", &format!("{name}.sigmoid"), &[conv], vec![]);
            self.onnx.op("Mul", name, &[conv, &gate], vec![])
        }

        fn split(&mut self, input: &str, parts: [&str; 2], sizes: [i64; 2]) {
            let sizes = self.onnx.ints(&sizes);
            self.onnx.node(NodeProto {
                op_type: "Split".into(),
                input: vec![input.into(), sizes],
                output: parts.map(String::from).to_vec(),
                attribute: vec![int("axis", 1)],
                ..Default::default()
            });
        }
    }

    /// The forms in YOLOv8's exports: SiLU, a split with a shortcut, concatenated pools, upsampling, class rows.
    fn v8_like() -> Vec<u8> {
        let mut net = Weights::new("v8-like", 8);
        net.onnx.input("images", &[1, 3, SIDE as i64, SIDE as i64]);
        let stem = net.silu("stem", "images", [8, 3, 3], 2);
        let wide = net.silu("wide", &stem, [8, 8, 1], 1);
        net.split(&wide, ["left", "right"], [4, 4]);
        let branch = net.silu("branch", "right", [4, 4, 3], 1);
        let sum = net.onnx.op("Add", "sum", &["right", &branch], vec![]);
        let joined = net.onnx.op("Concat", "joined", &["left", &sum], vec![int("axis", 1)]);
        let narrow = net.silu("narrow", &joined, [8, 8, 1], 2);
        let pool = vec![ints("kernel_shape", &[5, 5]), ints("pads", &[2; 4]), ints("strides", &[1, 1])];
        let pooled = net.onnx.op("MaxPool", "pooled", &[&narrow], pool);
        let scales = net.onnx.floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
        let enlarged = net.onnx.op("Resize", "enlarged", &[&pooled, "", &scales], vec![]);
        let both = net.onnx.op("Concat", "both", &[&enlarged, &wide], vec![int("axis", 1)]);
        let head = net.silu("head", &both, [8, 16, 3], 1);
        let maps = net.conv("maps", &head, [4 + CLASSES, 8, 1], 1);
        let shape = net.onnx.ints(&[1, (4 + CLASSES) as i64, -1]);
        let rows = net.onnx.op("Reshape", "rows", &[&maps, &shape], vec![]);
        net.split(&rows, ["boxes", "logits"], [4, CLASSES as i64]);
        let scores = net.onnx.op("Sigmoid", "scores", &["logits"], vec![]);
        net.onnx.op("Concat", "output0", &["boxes", &scores], vec![int("axis", 1)]);
        net.onnx.output("output0", &[1, (4 + CLASSES) as i64, (SIDE * SIDE / 4) as i64]);
        net.onnx.finish(&[])
    }

    /// The forms in YOLOX-Nano: depthwise convolutions, most with SiLU, and a stem in which one channel is much larger
    /// than the others, until the following depthwise convolution equalises it.
    fn depthwise_like() -> Vec<u8> {
        let mut net = Weights::new("depthwise-like", 9);
        net.onnx.input("images", &[1, 3, SIDE as i64, SIDE as i64]);
        (net.gain, net.first_channel) = (1.6, 20.0);
        let stem = net.silu("stem", "images", [8, 3, 3], 2);
        net.first_channel = 0.05;
        let gated = net.grouped("gated", &stem, [8, 1, 3], 1, 8);
        let gated = net.gated("gated", &gated);
        net.first_channel = 1.0;
        let wide = net.silu("wide", &gated, [16, 8, 1], 1);
        let plain = net.grouped("plain", &wide, [16, 1, 3], 2, 16);
        let plain = net.onnx.op("Relu", "plain", &[&plain], vec![]);
        let head = net.silu("head", &plain, [16, 16, 1], 1);
        let maps = net.conv("maps", &head, [4 + CLASSES, 16, 1], 1);
        let shape = net.onnx.ints(&[1, (4 + CLASSES) as i64, -1]);
        let rows = net.onnx.op("Reshape", "rows", &[&maps, &shape], vec![]);
        let shares = net.onnx.op("Sigmoid", "shares", &[&rows], vec![]);
        net.split(&shares, ["of_sides", "scores"], [4, CLASSES as i64]);
        let side = net.onnx.scalar(SIDE as f32);
        let boxes = net.onnx.op("Mul", "boxes", &["of_sides", &side], vec![]);
        net.onnx.op("Concat", "output0", &[&boxes, "scores"], vec![int("axis", 1)]);
        net.onnx.output("output0", &[1, (4 + CLASSES) as i64, (SIDE * SIDE / 16) as i64]);
        net.onnx.finish(&[])
    }

    fn read(onnx: &[u8]) -> Result<Model> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), onnx).unwrap();
        Model::read(file.path(), 64)
    }

    fn image() -> Vec<f32> {
        (0..3 * SIDE * SIDE).map(|i| ((i * 37) % 256) as f32 / 255.0).collect()
    }

    fn int8(model: &Model) -> Vec<u8> {
        let seen = model.calibrate(&[image()], &|_| ()).unwrap();
        model.quantize(&model.round(&seen, 8), &seen.scales(Method::Percentile(100.0)))
    }

    #[test]
    fn names_that_the_model_has_already_are_not_given_twice() {
        let mut net = Weights::new("names", 10);
        net.onnx.input("images", &[1, 3, SIDE as i64, SIDE as i64]);
        // As this project names its convolutions: the output has the prefix of the weights' names.
        for (name, input, read) in [("a", "images", 3), ("b", "a", 8)] {
            let values = |count: usize| (0..count).map(|i| (i as f32 * 0.7).sin() * 0.3).collect::<Vec<f32>>();
            let weight = net.onnx.floats(&format!("{name}.weight"), &[8, read, 1, 1], &values(8 * read));
            let bias = net.onnx.floats(&format!("{name}.bias"), &[8], &values(8));
            net.onnx.op("Conv", name, &[input, &weight, &bias], vec![ints("kernel_shape", &[1, 1])]);
        }
        net.onnx.op("Relu", "output0", &["b"], vec![]);
        // Keeps the weights in floats, too.
        net.onnx.op("Identity", "kept", &["a.weight"], vec![]);
        net.onnx.output("output0", &[1, 8, SIDE as i64, SIDE as i64]);
        net.onnx.output("kept", &[8, 3, 1, 1]);
        let quantised = ModelProto::decode(&int8(&read(&net.onnx.finish(&[])).unwrap())[..]).unwrap();
        let graph = quantised.graph.unwrap();
        let mut names: Vec<&String> = graph.initializer.iter().map(|tensor| &tensor.name).collect();
        names.extend(graph.input.iter().map(|input| &input.name));
        names.extend(graph.node.iter().flat_map(|node| &node.output));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(names.iter().any(|name| *name == "a.weight"), "{names:?}");
    }

    #[test]
    fn what_convolutions_read_gets_bytes_and_what_is_moved_shares_their_scale() {
        let model = read(&v8_like()).unwrap();
        assert_eq!((model.side(), model.convolutions().len(), model.floats()), (SIDE, 6, &[][..]));
        let place = |name: &str| model.places.get(name).copied();
        assert!(place("images").is_some() && place("stem").is_some() && place("head").is_some());
        assert_eq!(place("left"), place("wide"));
        assert_eq!(place("right"), place("wide"));
        assert_eq!(place("joined"), place("wide"));
        assert_eq!(place("pooled"), place("both"));
        assert_eq!(place("narrow"), place("wide"), "they meet in `both`");
        assert!(place("branch").is_some() && place("branch") != place("sum"), "each side of a sum has its own");
        for name in ["stem.conv", "stem.sigmoid", "maps.conv", "rows", "output0"] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    fn noise(model: &Model, onnx: &[u8]) -> f64 {
        let outputs = |onnx: &[u8]| model.outputs(onnx, &[image()]).unwrap();
        crate::quantize::noise(&outputs(&model.to_onnx()), &outputs(onnx))
    }

    #[test]
    fn depthwise_convolutions_read_bytes_only_where_they_give_bytes() {
        let model = read(&depthwise_like()).unwrap();
        let place = |name: &str| model.places.get(name).copied();
        assert_eq!(place("stem"), None, "SiLU is behind what reads it");
        assert!(place("gated").is_some() && place("wide").is_some() && place("plain").is_some());
        assert_eq!(place("plain.conv"), None);
        assert_eq!(model.convolutions(), ["stem.conv", "wide.conv", "plain.conv", "head.conv", "maps.conv"]);
        assert_eq!(model.weights_only(), ["gated.conv"]);
        // If everything is quantised, the small channels of the stem are smaller than the steps of the large one.
        let mut everywhere = model.clone();
        everywhere.convolutions.iter_mut().for_each(|conv| conv.depthwise = false);
        everywhere.places = places(&everywhere.graph, &everywhere.convolutions);
        assert!(everywhere.weights_only().is_empty());
        let (few, all) = (noise(&model, &int8(&model)), noise(&everywhere, &int8(&everywhere)));
        assert!(few > 0.0 && 10.0 * few < all, "{few} {all}");
    }

    #[test]
    fn a_convolution_can_be_left_in_floats_and_measured_alone() {
        let mut model = read(&v8_like()).unwrap();
        let all = noise(&model, &int8(&model));
        let seen = model.calibrate(&[image()], &|_| ()).unwrap();
        let rounded = model.round(&seen, 8);
        let alone = |name: &str| {
            let onnx = model.quantize_only(&rounded, &seen.scales(Method::Percentile(100.0)), name);
            let graph = ModelProto::decode(&onnx[..]).unwrap().graph.unwrap();
            let bytes = graph.initializer.iter().filter(|tensor| tensor.name.ends_with(".weight.int8"));
            assert_eq!(bytes.count(), 1, "{name}");
            noise(&model, &onnx)
        };
        for name in model.convolutions() {
            let alone = alone(&name);
            assert!(alone > 0.0 && alone < all, "{name}: {alone} {all}");
        }
        let refused = model.clone().leave_in_floats(&["nothing".into()]).unwrap_err().to_string();
        assert!(refused.contains("--float") && refused.contains("`nothing`"), "{refused}");
        model.leave_in_floats(&["stem.conv".into()]).unwrap();
        assert_eq!((model.convolutions().len(), model.floats()[0].0.as_str()), (5, "stem.conv"));
        assert!(!model.places.contains_key("images"));
        assert!(noise(&model, &int8(&model)) < all);
    }

    /// `tests/quantize/make.py` ran the files in onnxruntime. `BLESS=1` writes them anew, for the script to run again.
    #[test]
    fn the_files_of_any_model_are_what_onnxruntime_ran_and_close_to_floats() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantize");
        for (name, float, first) in
            [("v8-like-int8", v8_like(), 4 * SIDE * SIDE / 4), ("depthwise-like-int8", depthwise_like(), 0)]
        {
            let model = read(&float).unwrap();
            let onnx = int8(&model);
            let file = folder.join(format!("{name}.onnx"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&file, &onnx).unwrap();
                continue;
            }
            let written = std::fs::read(&file).unwrap();
            let nodes = super::super::tests::nodes;
            assert_eq!((onnx.len(), nodes(&onnx)), (written.len(), nodes(&written)), "{name}");
            let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let expected: Vec<f32> = serde_json::from_str(&text).unwrap();
            let found = &model.outputs(&written, &[image()]).unwrap()[0][first..];
            assert_eq!(found.len(), expected.len(), "{name}");
            let off =
                found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
            assert!(off < 3e-3, "{name} is off by {off}");
            let noise = noise(&model, &onnx);
            assert!(noise > 0.0 && noise < 0.01, "{name}: {noise}");
        }
        assert!(std::env::var_os("BLESS").is_none(), "written: now run make.py");
    }

    #[test]
    fn models_that_cannot_get_bytes_are_refused_with_the_reason() {
        let float = ModelProto::decode(&v8_like()[..]).unwrap();
        let changed = |change: &dyn Fn(&mut ModelProto)| {
            let mut model = float.clone();
            change(&mut model);
            read(&model.encode_to_vec()).unwrap_err().to_string()
        };
        // As in half-precision files.
        let store_weights_apart = |graph: &mut GraphProto| {
            let GraphProto { node, initializer, .. } = graph;
            for tensor in initializer.iter_mut().filter(|tensor| tensor.dims.len() == 4) {
                let stored = format!("{}.stored", tensor.name);
                let (input, output) = (vec![stored.clone()], vec![std::mem::replace(&mut tensor.name, stored)]);
                node.insert(0, NodeProto { op_type: "Cast".into(), input, output, ..Default::default() });
            }
        };
        let graph = |change: &dyn Fn(&mut GraphProto)| changed(&|model| change(model.graph.as_mut().unwrap()));
        for (found, told) in [
            (read(b"no model").unwrap_err().to_string(), "is no ONNX file"),
            (changed(&|model| model.graph = None), "has no graph"),
            (changed(&|model| model.opset_import[0].version = 11), "operator set 11, int8 needs 13"),
            (read(&int8(&read(&v8_like()).unwrap())).unwrap_err().to_string(), "has bytes already"),
            (graph(&|graph| graph.initializer[0].data_location = Some(1)), "keeps `stem.weight` in another file"),
            (graph(&|graph| graph.input.clear()), "has not one input"),
            (graph(&|graph| graph.node.retain(|node| node.op_type != "Conv")), "no convolution"),
            (graph(&store_weights_apart), "`stem.conv`: its weights are stored in another type"),
        ] {
            assert!(found.starts_with("model ") && found.contains(told), "{found}");
        }
        // One convolution whose weights are computed stays in floats and is named.
        let mut model = float.clone();
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.retain(|tensor| tensor.name != "branch.weight");
        let model = read(&model.encode_to_vec()).unwrap();
        assert_eq!(model.convolutions().len(), 5);
        assert_eq!(model.floats(), [("branch.conv".to_owned(), "its weights are not constant".to_owned())]);
    }
}
