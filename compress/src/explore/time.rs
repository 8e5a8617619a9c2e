//! Measures the milliseconds of a candidate alone, in int8, in this project's engine.

use std::time::Instant;

use micro_yolo::{Detector, ImageView};

use super::{Candidate, Part};
use crate::checkpoint::{self, Array, Weights};
use crate::error::Result;
use crate::network::{Activation, Graph, Head, Layer, LayerKind, Network, Op};
use crate::quantize::{self, Plan, Scale, Windows};

/// Number of frames. The median of their times is used.
const FRAMES: usize = 9;

/// The milliseconds of a candidate in a network with an input of `side_px` × `side_px` pixels, on one thread of this
/// machine. It is the time of a small network with the candidate, minus that of the same network without it.
///
/// The engine's speed does not depend on values, so weights are random.
///
/// # Errors
///
/// A side that does not fit, or an error of the detector.
pub fn milliseconds(part: &Part, candidate: &Candidate, side_px: usize) -> Result<f64> {
    let (channels, stride) = part.from;
    let factor = part.to.1 / stride;
    let side = side_px.div_ceil(stride).next_multiple_of(factor);
    let conv = |name: &str, out, stride, norm| {
        let activation = if norm { Activation::Relu6 } else { Activation::None };
        Layer::new(name, LayerKind::Conv { out, kernel: 1, stride, activation, norm })
    };
    // Makes a map with as many channels as the part reads.
    let mut with = if channels == 3 { Vec::new() } else { vec![conv("reach", channels, 1, true)] };
    with.extend(candidate.layers.iter().map(|layer| Layer { from: Vec::new(), ..layer.clone() }));
    let with = median(with, side)?;
    let without = median(vec![conv("reach", channels, factor, true)], side)?;
    Ok((with - without).max(0.0))
}

/// The milliseconds of a frame of `side` × `side` pixels for these layers followed by a head.
fn median(mut layers: Vec<Layer>, side: usize) -> Result<f64> {
    let Some(last) = layers.last().map(|layer| layer.name.clone()) else { return Ok(0.0) };
    let to_head = |name: &str, out| {
        let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false };
        Layer { from: vec![last.clone()], ..Layer::new(name, kind) }
    };
    let head = [to_head("to_sides", 4), to_head("to_scores", 1)];
    let detect = LayerKind::Detect { head: Head::AnchorFree };
    layers.extend(head);
    layers.push(Layer::new("to_boxes", detect).from(["to_sides", "to_scores"]));
    let network = Network { name: "part".into(), classes: 1, names: Vec::new(), layers };
    let onnx = int8(&network, side)?;
    let mut detector = Detector::builder().threads(1).score_threshold(1.0).build(&onnx)?;
    let pixels: Vec<u8> = (0..side * side * 3).map(|i| (i * 37 % 251) as u8).collect();
    let image = ImageView::rgb(&pixels, side as u32, side as u32)?;
    let mut times = Vec::with_capacity(FRAMES);
    // The first frame is a warm-up.
    for frame in 0..=FRAMES {
        let started = Instant::now();
        std::hint::black_box(detector.detect(image)?);
        if frame > 0 {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[FRAMES / 2])
}

/// A network with random weights as an int8 file.
fn int8(network: &Network, side: usize) -> Result<Vec<u8>> {
    let graph = network.graph()?;
    let weights = random(&graph);
    let windows: Vec<Option<Windows>> = graph
        .nodes
        .iter()
        .map(|node| match node.op {
            Op::Conv { input, kernel, groups, .. } => {
                Some(Windows::unseen(groups, input / groups * kernel * kernel))
            }
            _ => None,
        })
        .collect();
    let rounded = quantize::round(network, &weights, &windows, 8)?;
    let plan = Plan {
        activations: quantize::places(&graph)
            .iter()
            .map(|place| place.map(|_| Scale::spanning(0.0, 6.0)))
            .collect(),
        weights: graph.nodes.iter().map(|node| matches!(node.op, Op::Conv { .. })).collect(),
        weight_bits: 8,
    };
    quantize::to_onnx(network, &weights, &rounded, (side, side), &plan)
}

fn random(graph: &Graph) -> Weights {
    let mut random = fastrand::Rng::with_seed(1);
    let mut array = |spec: checkpoint::TensorSpec| {
        let spread = (6.0 / spec.shape[1..].iter().product::<usize>().max(1) as f32).sqrt();
        let values = (0..spec.count())
            .map(|_| match spec.name.as_str() {
                name if name.ends_with("conv.weight") => (random.f32() * 2.0 - 1.0) * spread,
                name if name.ends_with("bn.weight") || name.ends_with("running_var") => 1.0,
                _ => 0.0,
            })
            .collect();
        (spec.name, Array { shape: spec.shape, values })
    };
    checkpoint::tensors(graph).into_iter().map(&mut array).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::super::{ExploreConfig, parts};
    use super::*;
    use crate::zoo;

    #[test]
    fn every_kind_has_a_time_and_a_larger_map_takes_more() {
        let network = zoo::network("yolov3_tiny", 3).unwrap();
        let network = parts::with_hints(network.clone(), Some(&network)).unwrap();
        let config = ExploreConfig { kernels: vec![5], expansions: vec![1], ..config() };
        for name in ["conv1", "conv4", "conv6"] {
            let part = &parts::parts(&network, &[name.into()]).unwrap()[0];
            let all = parts::candidates(&network, part, &config, None).unwrap();
            for candidate in all.iter().filter(|candidate| candidate.cost.parameters < 200_000) {
                let ms = milliseconds(part, candidate, 32).unwrap();
                assert!(ms.is_finite() && ms < 10_000.0, "{name}: {}: {ms}", candidate.name);
            }
        }
        let part = &parts::parts(&network, &["conv5".into()]).unwrap()[0];
        let all = parts::candidates(&network, part, &config, None).unwrap();
        let candidate = all.iter().find(|candidate| candidate.name == parts::AS_IT_IS).unwrap();
        let [small, large] = [32, 128].map(|side| milliseconds(part, candidate, side).unwrap());
        // With 16 times the work, so that other load on the machine does not matter.
        assert!(small < large, "{small} {large}");
    }

    #[test]
    fn the_engine_runs_all_of_it_by_itself() {
        let conv = LayerKind::mb_conv(32, 16, 5, 2, 4, Activation::LeakyRelu);
        let heads = LayerKind::Conv { out: 4, kernel: 1, stride: 1, activation: Activation::None, norm: false };
        let network = Network {
            name: "part".into(),
            classes: 4,
            names: vec![],
            layers: vec![
                Layer::new("block", conv),
                Layer::new("sides", heads.clone()).from(["block"]),
                Layer::new("scores", heads).from(["block"]),
                Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
            ],
        };
        let model = micro_yolo::Model::from_onnx(&int8(&network, 64).unwrap()).unwrap();
        assert!(model.foreign_nodes().is_empty(), "{:?}", model.foreign_nodes());
    }
}
