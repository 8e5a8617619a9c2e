//! Networks of a dozen nodes: between them every operator that detectors are exported with.

use micro_yolo::{Detector, ImageView};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

use crate::common::graph::{floats, int_attribute, ints, ints_attribute, model, node, with};

/// Pixels of a side of the pictures.
const SIDE: i64 = 32;

/// One for each group of operators. In each, eight channels of 4 x 4 come out of a convolution as the tensor `a`.
pub fn models() -> Vec<Vec<u8>> {
    [windows, shapes, selection, arithmetic, comparisons, matrices, quantized, dynamic, places]
        .map(|group| group(stem()))
        .into()
}

/// Nodes and weights.
type Parts = (Vec<pb::NodeProto>, Vec<pb::TensorProto>);

fn stem() -> Parts {
    let window = [("kernel_shape", [3, 3].as_slice()), ("strides", &[8, 8]), ("pads", &[1, 1, 1, 1])];
    let conv = with(node("Conv", &["x", "w", "b"], "c"), &window.map(|(name, sizes)| ints_attribute(name, sizes)));
    (vec![conv, node("Sigmoid", &["c"], "a")], vec![floats("w", &[8, 3, 3, 3], 0.01), floats("b", &[8], 0.1)])
}

fn finish((mut nodes, mut weights): Parts, more: Vec<pb::NodeProto>, stored: Vec<pb::TensorProto>) -> Vec<u8> {
    nodes.extend(more);
    weights.extend(stored);
    model(SIDE, nodes, weights)
}

fn windows(stem: Parts) -> Vec<u8> {
    let kernel = |side: i64| ints_attribute("kernel_shape", &[side, side]);
    let pads = ints_attribute("pads", &[1, 1, 1, 1]);
    let nodes = vec![
        with(node("MaxPool", &["a"], "max"), &[kernel(3), pads.clone(), ints_attribute("strides", &[1, 1])]),
        with(node("AveragePool", &["a"], "average"), &[kernel(3), pads, int_attribute("count_include_pad", 1)]),
        with(node("Concat", &["max", "average"], "both"), &[int_attribute("axis", 1)]),
        with(node("ConvTranspose", &["both", "up"], "wide"), &[kernel(2), ints_attribute("strides", &[2, 2])]),
        node("Resize", &["wide", "", "scales"], "wider"),
        node("Pad", &["wider", "edges"], "padded"),
        with(node("Conv", &["padded", "each"], "deep"), &[kernel(3), int_attribute("group", 5)]),
        node("GlobalAveragePool", &["deep"], "mean"),
        node("Mul", &["deep", "mean"], "last"),
    ];
    let mut scales = floats("scales", &[4], 1.0);
    scales.raw_data = [1f32, 1.0, 2.0, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let weights = vec![
        floats("up", &[16, 5, 2, 2], 0.02),
        scales,
        ints("edges", &[0, 0, 1, 1, 0, 0, 1, 1]),
        floats("each", &[5, 1, 3, 3], 0.1),
    ];
    finish(stem, nodes, weights)
}

fn shapes(stem: Parts) -> Vec<u8> {
    let value = pb::AttributeProto {
        name: "value".into(),
        t: Some(floats("", &[1], 0.0)),
        r#type: pb::attribute_proto::AttributeType::Tensor as i32,
        ..Default::default()
    };
    let nodes = vec![
        node("Shape", &["a"], "sides"),
        with(node("Gather", &["sides", "two"], "height"), &[int_attribute("axis", 0)]),
        node("Mul", &["height", "height"], "area"),
        with(node("Concat", &["ones", "area"], "flat"), &[int_attribute("axis", 0)]),
        node("Reshape", &["a", "flat"], "rows"),
        with(node("Transpose", &["rows"], "columns"), &[ints_attribute("perm", &[0, 2, 1])]),
        node("Unsqueeze", &["columns", "one"], "more"),
        node("Slice", &["more", "zero", "five", "three", "one"], "part"),
        node("Squeeze", &["part", "one"], "less"),
        with(node("Softmax", &["less"], "soft"), &[int_attribute("axis", -1)]),
        node("ReduceSum", &["soft", "two"], "sum"),
        node("Expand", &["sum", "wide"], "expanded"),
        node("Tile", &["soft", "twice"], "tiled"),
        with(node("Flatten", &["tiled"], "flattened"), &[int_attribute("axis", 1)]),
        with(node("ConstantOfShape", &["wide"], "zeros"), &[value]),
        node("Add", &["expanded", "zeros"], "added"),
        with(node("Concat", &["tiled", "added"], "last"), &[int_attribute("axis", 1)]),
    ];
    let weights = vec![
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("two", &[2]),
        ints("three", &[3]),
        ints("five", &[5]),
        ints("ones", &[1, 8]),
        ints("wide", &[1, 16, 5]),
        ints("twice", &[1, 2, 1]),
    ];
    finish(stem, nodes, weights)
}

fn selection(stem: Parts) -> Vec<u8> {
    let axis = |axis: i64| int_attribute("axis", axis);
    let mut split = with(node("Split", &["rows", "parts"], "boxes"), &[axis(1)]);
    split.output.push("scores".to_owned());
    let mut top = with(node("TopK", &["best", "count"], "values"), &[axis(-1)]);
    top.output.push("places".to_owned());
    let keep = int_attribute("keepdims", 0);
    let nodes = vec![
        node("Reshape", &["a", "flat"], "rows"),
        split,
        with(node("ReduceMax", &["scores"], "best"), &[ints_attribute("axes", &[1]), keep.clone()]),
        with(node("ArgMax", &["scores"], "classes"), &[axis(1), keep]),
        with(node("Cast", &["classes"], "numbers"), &[int_attribute("to", 1)]),
        top,
        node("Unsqueeze", &["places", "one"], "column"),
        node("Tile", &["column", "four"], "repeated"),
        with(node("GatherElements", &["boxes", "repeated"], "chosen"), &[axis(2)]),
        with(node("Gather", &["numbers", "at"], "few"), &[axis(1)]),
        node("Unsqueeze", &["few", "one"], "fews"),
        with(node("Concat", &["chosen", "fews"], "last"), &[axis(1)]),
    ];
    let weights = vec![
        ints("flat", &[1, 8, 16]),
        ints("parts", &[4, 4]),
        ints("count", &[7]),
        ints("one", &[1]),
        ints("four", &[1, 4, 1]),
        ints("at", &[0, 3, -1, 5, 7, 7, 2]),
    ];
    finish(stem, nodes, weights)
}

fn arithmetic(stem: Parts) -> Vec<u8> {
    let nodes = vec![
        node("Add", &["a", "b4"], "0"),
        node("Sub", &["0", "half"], "1"),
        node("Div", &["1", "half"], "2"),
        node("Pow", &["2", "two"], "3"),
        node("Exp", &["3"], "4"),
        node("Log", &["4"], "5"),
        node("Sqrt", &["5"], "6"),
        node("Abs", &["6"], "7"),
        node("Neg", &["7"], "8"),
        node("Relu", &["8"], "9"),
        node("LeakyRelu", &["8"], "10"),
        node("Tanh", &["10"], "11"),
        node("HardSigmoid", &["11"], "12"),
        node("Softplus", &["12"], "13"),
        node("Clip", &["13", "low", "high"], "14"),
        node("Floor", &["14"], "15"),
        node("Max", &["9", "14", "15"], "16"),
        node("Min", &["16", "a"], "17"),
        node("PRelu", &["17", "b4"], "18"),
        with(node("Concat", &["17", "18"], "joined"), &[int_attribute("axis", 1)]),
        node("Slice", &["joined", "start", "end", "axes"], "last"),
    ];
    let weights = vec![
        floats("b4", &[8, 1, 1], 0.1),
        floats("half", &[], 0.5),
        floats("two", &[1], 2.0),
        floats("low", &[], 0.0),
        floats("high", &[], 1.0),
        ints("start", &[-5]),
        ints("end", &[i64::MAX]),
        ints("axes", &[1]),
    ];
    finish(stem, nodes, weights)
}

fn comparisons(stem: Parts) -> Vec<u8> {
    let nodes = vec![
        node("Range", &["from", "to", "step"], "counted"),
        node("Reshape", &["counted", "grid"], "places"),
        with(node("Cast", &["places"], "floats"), &[int_attribute("to", 1)]),
        node("Greater", &["floats", "mid"], "above"),
        node("Less", &["floats", "mid"], "below"),
        node("Or", &["above", "below"], "either"),
        node("Not", &["either"], "neither"),
        node("Equal", &["floats", "mid"], "same"),
        node("And", &["same", "neither"], "all"),
        node("Where", &["all", "a", "floats"], "picked"),
        node("Mod", &["places", "five"], "rest"),
        with(node("Cast", &["rest"], "rests"), &[int_attribute("to", 1)]),
        node("Mul", &["picked", "rests"], "product"),
        with(node("ReduceMean", &["product"], "mean"), &[ints_attribute("axes", &[2])]),
        node("Sub", &["product", "mean"], "spread"),
        node("Sigmoid", &["spread"], "score"),
        node("Slice", &["score", "zero", "five", "one"], "last"),
    ];
    let scalar = |name: &str, value: i64| pb::TensorProto { dims: vec![], ..ints(name, &[value]) };
    let weights = vec![
        scalar("from", 0),
        scalar("to", 16),
        scalar("step", 1),
        ints("grid", &[4, 4]),
        floats("mid", &[], 7.0),
        ints("five", &[5]),
        ints("zero", &[0]),
        ints("one", &[1]),
    ];
    finish(stem, nodes, weights)
}

fn matrices(stem: Parts) -> Vec<u8> {
    let nodes = vec![
        node("BatchNormalization", &["a", "scale", "scale", "scale", "scale"], "normal"),
        node("InstanceNormalization", &["normal", "scale", "scale"], "instance"),
        node("Reshape", &["instance", "flat"], "rows"),
        with(node("Transpose", &["rows"], "columns"), &[ints_attribute("perm", &[0, 2, 1])]),
        node("MatMul", &["rows", "columns"], "squares"),
        with(node("Softmax", &["squares"], "soft"), &[int_attribute("axis", -1)]),
        node("MatMul", &["soft", "rows"], "attended"),
        node("Squeeze", &["attended", "zero"], "matrix"),
        with(node("Gemm", &["matrix", "m", "bias"], "product"), &[int_attribute("transB", 1)]),
        node("Sigmoid", &["product"], "last"),
    ];
    let weights = vec![
        floats("scale", &[8], 0.5),
        ints("flat", &[1, 8, 16]),
        ints("zero", &[0]),
        floats("m", &[10, 16], 0.1),
        floats("bias", &[10], 0.1),
    ];
    finish(stem, nodes, weights)
}

/// Bytes that are all the same.
fn bytes(name: &str, dims: &[i64], kind: DataType) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: kind as i32,
        dims: dims.to_vec(),
        raw_data: vec![3; dims.iter().product::<i64>() as usize],
        ..Default::default()
    }
}

fn quantized(stem: Parts) -> Vec<u8> {
    let nodes = vec![
        node("QuantizeLinear", &["a", "step", "zero"], "q"),
        node("DequantizeLinear", &["q", "step", "zero"], "d"),
        with(node("DequantizeLinear", &["w8", "steps"], "weights"), &[int_attribute("axis", 0)]),
        with(node("Conv", &["d", "weights"], "e"), &[ints_attribute("kernel_shape", &[1, 1])]),
        node("HardSigmoid", &["e"], "f"),
        node("Mul", &["e", "f"], "g"),
        node("Slice", &["g", "start", "end", "axes"], "last"),
    ];
    let weights = vec![
        floats("step", &[], 0.01),
        bytes("zero", &[], DataType::Uint8),
        bytes("w8", &[8, 8, 1, 1], DataType::Int8),
        floats("steps", &[8], 0.01),
        ints("start", &[0]),
        ints("end", &[5]),
        ints("axes", &[1]),
    ];
    finish(stem, nodes, weights)
}

/// Scales that are measured while the network runs.
fn dynamic(stem: Parts) -> Vec<u8> {
    let quantize = |input: &str| {
        let mut node = node("DynamicQuantizeLinear", &[input], &format!("{input} q"));
        node.output.extend([format!("{input} step"), format!("{input} zero")]);
        node
    };
    let nodes = vec![
        quantize("a"),
        with(
            node("ConvInteger", &["a q", "w8", "a zero", "zero"], "i"),
            &[ints_attribute("kernel_shape", &[1, 1])],
        ),
        with(node("Cast", &["i"], "f"), &[int_attribute("to", 1)]),
        node("Mul", &["a step", "step"], "steps"),
        node("Mul", &["f", "steps"], "sums"),
        node("Reshape", &["sums", "flat"], "rows"),
        with(node("Transpose", &["rows"], "columns"), &[ints_attribute("perm", &[0, 2, 1])]),
        quantize("columns"),
        node("MatMulInteger", &["columns q", "m8", "columns zero", "zero"], "j"),
        with(node("Cast", &["j"], "g"), &[int_attribute("to", 1)]),
        node("Mul", &["columns step", "step"], "both"),
        node("Mul", &["g", "both"], "h"),
        node("Sigmoid", &["h"], "last"),
    ];
    let weights = vec![
        floats("step", &[], 0.01),
        bytes("zero", &[], DataType::Uint8),
        bytes("w8", &[8, 8, 1, 1], DataType::Uint8),
        bytes("m8", &[8, 5], DataType::Uint8),
        ints("flat", &[1, 8, 16]),
    ];
    finish(stem, nodes, weights)
}

/// Reading and writing at places, computed ones and constants.
fn places(stem: Parts) -> Vec<u8> {
    let axis = int_attribute("axis", 0);
    let nodes = vec![
        node("Reshape", &["a", "flat"], "list"),
        node("Mul", &["list", "hundred"], "far"),
        with(node("Cast", &["far"], "at"), &[int_attribute("to", 7)]),
        node("Unsqueeze", &["at", "one"], "column"),
        node("GatherND", &["list", "column"], "0"),
        with(node("ScatterElements", &["0", "at", "list"], "1"), std::slice::from_ref(&axis)),
        node("ScatterND", &["1", "column", "0"], "2"),
        with(node("GatherElements", &["2", "at"], "3"), &[axis]),
        node("Reshape", &["3", "batch"], "4"),
        node("Reshape", &["at", "nested"], "5"),
        node("Mod", &["5", "sixteen"], "6"),
        with(node("GatherND", &["4", "6"], "7"), &[int_attribute("batch_dims", 1)]),
        node("GatherND", &["7", "fixed"], "8"),
        node("ScatterND", &["8", "second", "few"], "9"),
        with(node("ScatterElements", &["9", "few places", "fewer"], "last"), &[int_attribute("axis", 1)]),
    ];
    let weights = vec![
        ints("flat", &[128]),
        floats("hundred", &[], 100.0),
        ints("one", &[1]),
        ints("batch", &[8, 16]),
        ints("nested", &[8, 16, 1]),
        ints("sixteen", &[16]),
        pb::TensorProto { dims: vec![5, 1], ..ints("fixed", &[0, 7, 3, 3, 1]) },
        pb::TensorProto { dims: vec![2, 2], ..ints("second", &[1, 0, 4, 15]) },
        floats("few", &[2], 0.5),
        pb::TensorProto { dims: vec![2, 2], ..ints("few places", &[-1, 15, 0, 3]) },
        floats("fewer", &[2, 2], 0.25),
    ];
    finish(stem, nodes, weights)
}

/// Whether each network loads and answers as it is: one that does not would show nothing when it is changed.
pub fn all_run() -> Result<(), String> {
    let pixels = [90u8; 3 * 20 * 10];
    let run = |onnx: &[u8]| {
        let mut detector = Detector::builder().score_threshold(0.0).build(onnx)?;
        detector.detect(ImageView::rgb(&pixels, 20, 10)?)
    };
    let failed: Vec<_> =
        models().iter().map(|onnx| run(onnx)).enumerate().filter(|(_, found)| found.is_err()).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("small networks do not run as they are: {failed:#?}")) }
}
