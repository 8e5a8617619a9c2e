//! Quantisation: converts a float network to an ONNX file with 7-bit activations and 8-bit weights, calibrated on
//! photographs.
//!
//! The file is standard QDQ ONNX:
//!
//! - Activations are unsigned, with one scale per tensor. A `Clip` in front of every `QuantizeLinear` keeps them in
//!   0…127, so that the instruction that multiplies signed by 7-bit unsigned bytes is exact.
//! - Weights are signed, with one scale per output channel. Biases are 32-bit integers in the scale of the sums.
//! - Maps that are only moved (pooled, upsampled, concatenated) keep the scale of their inputs, so that a runtime only
//!   moves bytes.
//! - Squeeze-and-excitation works on a single cell and stays in floats with 8-bit weights. So do the last sums in front
//!   of the head.
//!
//! Weights may use fewer than 8 bits of their bytes, for a file that compresses better.
//!
//! [`equalize()`] is cross-layer equalisation, [`calibrate()`] collects statistics of the float network, [`round`]
//! rounds weights to bytes, [`Plan::new`] chooses the scales of activations, [`search()`] improves them by the error of
//! the scores ([`noise`]), and [`to_onnx`] writes the file. [`Model`] quantises the ONNX file of any detector.

mod calibrate;
mod equalize;
mod histogram;
mod model;
mod rounding;
mod search;
mod write;

pub(crate) use calibrate::watch;
pub use calibrate::{Calibration, Scores, calibrate, letterboxed, noise, photographs, runs_in_engine, scores};
pub use equalize::equalize;
pub use histogram::Histogram;
pub use model::{CalibrationData, Model};
pub use rounding::{Rounded, Windows, round};
pub use search::search;
pub use write::to_onnx;

use std::collections::BTreeMap;

use crate::network::{Graph, Node, Op};
use crate::scale::Scales;
pub use crate::scale::{ACTIVATION_MAX, Scale};
use crate::ties::Ties;

/// The methods to choose the range of a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The range that contains this percentage of the values. The rest is cut off, half at each end.
    Percentile(f64),
    /// The range with the smallest mean squared error.
    Mse,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Method::Percentile(percentile) => write!(f, "percentile {percentile}"),
            Method::Mse => write!(f, "mse"),
        }
    }
}

/// The methods that `compress quantize` compares.
pub const METHODS: [Method; 4] =
    [Method::Mse, Method::Percentile(99.9), Method::Percentile(99.99), Method::Percentile(100.0)];

/// Which parts of a network are in int8. Any part may stay in floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// For each node, the scale of its output; `None` for floats.
    pub activations: Vec<Option<Scale>>,
    /// For each node, whether its weights are int8.
    pub weights: Vec<bool>,
    /// Number of bits that weights use of their 8, 2 to 8. Fewer bits do not make the file smaller, but it compresses
    /// better.
    pub weight_bits: u32,
}

impl Plan {
    /// Everything possible is in int8, with the scales that `method` chooses.
    pub fn new(graph: &Graph, calibration: &Calibration, method: Method) -> Plan {
        Plan::with_scales(graph, &calibration.scales(method))
    }

    /// Everything possible is in int8, with `scales` by index (see [`places`]).
    pub fn with_scales(graph: &Graph, scales: &[Scale]) -> Plan {
        Plan {
            activations: places(graph).into_iter().map(|place| place.map(|place| scales[place])).collect(),
            weights: graph.nodes.iter().map(|node| matches!(node.op, Op::Conv { .. })).collect(),
            weight_bits: 8,
        }
    }

    /// The scales by the names of their nodes.
    pub fn scales(&self, graph: &Graph) -> Scales {
        let named = |(node, scale): (&Node, &Option<Scale>)| scale.map(|scale| (node.name.clone(), scale));
        graph.nodes.iter().zip(&self.activations).filter_map(named).collect()
    }

    /// The same with only the convolution `node` in int8: its weights, its input and its output.
    pub fn only(&self, graph: &Graph, calibration: &Calibration, node: usize) -> Plan {
        let near = [Some(graph.nodes[node].inputs[0]), Some(node)];
        let places: Vec<usize> = near.into_iter().flatten().filter_map(|id| calibration.places[id]).collect();
        let is_near = |id: usize| calibration.places[id].is_some_and(|place| places.contains(&place));
        Plan {
            activations: (0..graph.nodes.len()).map(|id| self.activations[id].filter(|_| is_near(id))).collect(),
            weights: (0..graph.nodes.len()).map(|id| id == node).collect(),
            weight_bits: self.weight_bits,
        }
    }

    /// The same with the weights and the output of the convolution `node` in floats.
    pub fn without(mut self, calibration: &Calibration, node: usize) -> Plan {
        self.weights[node] = false;
        if let Some(place) = calibration.places[node] {
            for (activation, other) in self.activations.iter_mut().zip(&calibration.places) {
                if *other == Some(place) {
                    *activation = None;
                }
            }
        }
        self
    }
}

/// The scales of `named` by index (see [`places`]); `None` if one is missing.
pub fn scales_by_place(graph: &Graph, named: &Scales) -> Option<Vec<Scale>> {
    let places = places(graph);
    let mut scales = vec![None; places.iter().flatten().max().map_or(0, |last| last + 1)];
    for (node, place) in graph.nodes.iter().zip(places) {
        if let (Some(place), Some(&scale)) = (place, named.get(&node.name)) {
            scales[place] = Some(scale);
        }
    }
    scales.into_iter().collect()
}

/// For each node, the index of its output's scale. Maps that are only moved share the scale of their inputs. `None` for
/// outputs that are not maps and for those that the head reads.
pub fn places(graph: &Graph) -> Vec<Option<usize>> {
    let mut ties = Ties::new(graph.nodes.len());
    let mut wanted: Vec<bool> = graph.nodes.iter().map(|node| node.stride > 0).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        match node.op {
            Op::MaxPool { .. } | Op::Upsample { .. } | Op::Concat | Op::Slice { .. } => {
                node.inputs.iter().for_each(|&input| ties.join(id, input));
            }
            Op::Detect { .. } => node.inputs.iter().for_each(|&input| wanted[input] = false),
            _ => {}
        }
    }
    let mut numbers = BTreeMap::new();
    (0..graph.nodes.len())
        .map(|id| {
            wanted[id].then(|| {
                let next = numbers.len();
                *numbers.entry(ties.root(id)).or_insert(next)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn moved_maps_share_a_scale_and_the_head_stays_in_floats() {
        let graph = zoo::network("micro_yolo", 80).unwrap().graph().unwrap();
        let places = places(&graph);
        let place = |name: &str| places[graph.nodes.iter().position(|node| node.name == name).unwrap()];
        assert_eq!(place("lateral"), place("join"));
        assert_eq!(place("block11.pointwise"), place("join"));
        assert_ne!(place("block12.depthwise"), place("join"));
        assert!(place("image").is_some() && place("context.scale").is_some() && place("fuse.pointwise").is_some());
        for name in ["sides16", "scores32", "context.pool", "context.squeeze", "context.excite", "detect"] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    /// Random weights, and images of smooth noise.
    fn example(name: &str, side: usize) -> (crate::network::Network, crate::checkpoint::Weights, Vec<Vec<f32>>) {
        let network = zoo::network(name, 3).unwrap();
        let weights = crate::reference::random_weights(&network.graph().unwrap(), 5);
        let mut random = fastrand::Rng::with_seed(5);
        let mut image = || {
            let (step, phase) = (random.f32() * 0.3, random.f32() * 6.0);
            (0..3 * side * side).map(|i| 0.5 + 0.5 * (i as f32 * step + phase).sin()).collect()
        };
        (network, weights, vec![image(), image(), image()])
    }

    #[test]
    fn integers_come_close_to_floats_on_every_network() {
        for name in zoo::names() {
            let side = 64;
            let (network, weights, images) = example(name, side);
            let graph = network.graph().unwrap();
            let calibration = calibrate(&network, &weights, &images[..2], side, &|_| ()).unwrap();
            let float =
                crate::export::to_onnx(&network, &weights, (side, side), crate::export::Storage::Single).unwrap();
            let exact = scores(&float, &images[2..], side).unwrap();
            let plan = Plan::new(&graph, &calibration, Method::Percentile(100.0));
            let rounded = round(&network, &weights, &calibration.windows, 8).unwrap();
            let onnx = to_onnx(&network, &weights, &rounded, (side, side), &plan).unwrap();
            if let Ok(folder) = std::env::var("KEEP_MODELS") {
                std::fs::write(format!("{folder}/{name}-int8.onnx"), &onnx).unwrap();
            }
            let off = noise(&exact, &scores(&onnx, &images[2..], side).unwrap());
            assert!(off > 0.0 && off < 0.02, "{name}: {off}");
            assert!(onnx.len() < float.len() / 3, "{name}: {} bytes, {} in floats", onnx.len(), float.len());
            // With everything in floats, nothing changes.
            let none = Plan {
                activations: vec![None; graph.nodes.len()],
                weights: vec![false; graph.nodes.len()],
                weight_bits: 8,
            };
            let again = to_onnx(&network, &weights, &rounded, (side, side), &none).unwrap();
            assert!(noise(&exact, &scores(&again, &images[2..], side).unwrap()) < 1e-9, "{name}");
        }
    }

    #[test]
    fn a_file_for_another_size_runs_at_that_of_the_images() {
        let (network, weights, images) = example("micro_yolo", 96);
        let at = |side| {
            let onnx = crate::export::to_onnx(&network, &weights, (side, side), crate::export::Storage::Single);
            scores(&onnx.unwrap(), &images, 96).unwrap()
        };
        assert_eq!(at(64), at(96));
    }

    #[test]
    fn one_convolution_alone_loses_less_than_all() {
        let side = 64;
        let (network, weights, images) = example("micro_yolo", side);
        let graph = network.graph().unwrap();
        let calibration = calibrate(&network, &weights, &images[..2], side, &|_| ()).unwrap();
        let float =
            crate::export::to_onnx(&network, &weights, (side, side), crate::export::Storage::Single).unwrap();
        let exact = scores(&float, &images[2..], side).unwrap();
        let rounded = round(&network, &weights, &calibration.windows, 8).unwrap();
        let off = |plan: &Plan| {
            let onnx = to_onnx(&network, &weights, &rounded, (side, side), plan).unwrap();
            noise(&exact, &scores(&onnx, &images[2..], side).unwrap())
        };
        let all = Plan::new(&graph, &calibration, Method::Mse);
        let node = graph.nodes.iter().position(|node| node.name == "block3.pointwise").unwrap();
        let only = all.only(&graph, &calibration, node);
        assert_eq!(only.weights.iter().filter(|&&quantised| quantised).count(), 1);
        assert_eq!(only.activations.iter().flatten().count(), 2);
        assert!(off(&only) < off(&all));
        let without = all.clone().without(&calibration, node);
        assert!(!without.weights[node] && without.activations[node].is_none());
        assert!(without.activations.iter().flatten().count() < all.activations.iter().flatten().count());
    }

    /// Every form that the writer supports: a moved map, a concatenation, squeeze-and-excitation, LeakyReLU, a map with
    /// negative values.
    fn every_form() -> crate::network::Network {
        use crate::network::{Activation, Head, Layer, LayerKind};
        let relu6 = Activation::Relu6;
        let conv = |name: &str, out, kernel, stride, activation, norm| {
            Layer::new(name, LayerKind::Conv { out, kernel, stride, activation, norm })
        };
        let context = LayerKind::mb_conv(24, 16, 5, 2, 6, relu6);
        let layers = vec![
            conv("stem", 8, 3, 2, relu6, true),
            Layer::new("block", LayerKind::ds_conv(12, 3, 2, relu6)),
            Layer::new("context", context),
            conv("leaky", 8, 1, 1, Activation::LeakyRelu, true),
            Layer::new("pool", LayerKind::max_pool(3, 1)),
            Layer::new("up", LayerKind::upsample(2)),
            Layer::new("join", LayerKind::Concat).from(["up", "block"]),
            conv("sides", 4, 1, 1, Activation::None, false).from(["join"]),
            conv("scores", 3, 3, 1, Activation::None, false).from(["join"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        crate::network::Network { name: "every_form".into(), classes: 3, names: vec![], layers }
    }

    /// Operators, names and connections of a file.
    pub(super) fn nodes(onnx: &[u8]) -> Vec<[String; 4]> {
        use prost::Message;
        let graph = tract_onnx::pb::ModelProto::decode(onnx).unwrap().graph.unwrap();
        let line = |node: tract_onnx::pb::NodeProto| {
            [node.op_type, node.name, node.input.join(" "), node.output.join(" ")]
        };
        graph.node.into_iter().map(line).collect()
    }

    /// `tests/quantize/make.py` ran the files in onnxruntime. `BLESS=1` writes them again, for the script.
    #[test]
    fn the_files_are_what_onnxruntime_ran_and_give_what_it_gave() {
        let distribution = include_str!("../tests/export/distribution.json");
        // In the second network, one of 127 bytes that rounds the other way moves a score by up to 0.002.
        let networks = [
            ("every-form", every_form(), 1e-4),
            ("distribution", serde_json::from_str(distribution).unwrap(), 3e-3),
        ];
        for (name, network, tolerance) in &networks {
            let side = 32;
            let graph = network.graph().unwrap();
            let weights = crate::reference::random_weights(&graph, 21);
            let image: Vec<f32> = (0..3 * side * side).map(|i| ((i * 37) % 256) as f32 / 255.0).collect();
            let images = [image];
            let calibration = calibrate(network, &weights, &images, side, &|_| ()).unwrap();
            let plan = Plan::new(&graph, &calibration, Method::Percentile(100.0));
            let rounded = round(network, &weights, &calibration.windows, 8).unwrap();
            let onnx = to_onnx(network, &weights, &rounded, (side, side), &plan).unwrap();
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quantize");
            let file = folder.join(format!("{name}-int8.onnx"));
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(&file, &onnx).unwrap();
                continue;
            }
            // Both runtimes run the same file, so that a scale that rounds differently on another machine does not
            // matter.
            let file = std::fs::read(file).unwrap();
            assert_eq!((onnx.len(), nodes(&onnx)), (file.len(), nodes(&file)), "{name}");
            let text = std::fs::read_to_string(folder.join(format!("{name}-int8.json"))).unwrap();
            let expected: Vec<f32> = serde_json::from_str(&text).unwrap();
            let actual = &scores(&file, &images, side).unwrap()[0];
            assert_eq!(actual.len(), expected.len(), "{name}");
            let off = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < *tolerance, "{name}: scores are off by {off}");
            let (low, high) = expected.iter().fold((1f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
            assert!(high - low > 0.01, "{name}: scores that are all alike show nothing: {low} to {high}");
            // The integer network agrees with the float network.
            let exact = crate::export::to_onnx(network, &weights, (side, side), crate::export::Storage::Single);
            let lost = noise(&scores(&exact.unwrap(), &images, side).unwrap(), &[actual.clone()].to_vec());
            assert!(lost < 0.01, "{name}: {lost}");
        }
        assert!(std::env::var_os("BLESS").is_none(), "written: now run make.py");
    }
}
