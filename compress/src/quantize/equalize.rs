//! Cross-layer equalisation: rescales channels that share a scale to similar ranges, without changing the network's
//! function.
//!
//! All channels of a map have the same scale, so a channel with small values uses only a few of the 128 levels. If
//! there are only positively homogeneous operations (convolutions, ReLU, LeakyReLU, pooling, upsampling, sums) between
//! the convolution that computes a channel and those that read it, the weights of the first can be multiplied by a
//! factor and those of the others divided by it. The function stays the same. See Nagel et al. 2019, "Data-Free
//! Quantization Through Weight Equalization and Bias Correction", section 4.1; here the ranges are measured.

use std::collections::HashMap;

use super::{places, watch};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::network::{Activation, Graph, Network, Op};
use crate::ties::Ties;

/// The largest factor of a channel, so that channels that are nearly always zero stay small.
const LARGEST_FACTOR: f64 = 256.0;

/// The exponent for channels that a dense convolution reads. Its rows have one scale for all channels, so weights lose
/// part of the precision that activations gain (Xiao et al. 2023, "SmoothQuant", equation 4). Depthwise convolutions
/// have a scale per channel, so nothing is lost.
const DENSE_EXPONENT: f64 = 0.5;

/// Returns weights with the same function as `weights` and more equal ranges of the channels of each map. Ranges are
/// measured on `images` (see [`super::letterboxed`]) of `side` × `side` pixels. Maps of layers that name a map of a
/// teacher keep their values.
///
/// # Errors
///
/// Weights of another network, a side that does not fit.
pub fn equalize(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    progress: &dyn Fn(usize),
) -> Result<Weights> {
    let graph = network.graph()?;
    let makers: Vec<usize> = (0..graph.nodes.len()).filter(|&id| is_measured(&graph.nodes[id].op)).collect();
    let mut largest: Vec<Vec<f64>> = graph.nodes.iter().map(|node| vec![0.0; node.channels]).collect();
    watch(network, weights, images, side, &makers, progress, |id, map, height, width| {
        for (largest, channel) in largest[id].iter_mut().zip(map.chunks(height * width)) {
            let most = channel.iter().fold(0f32, |most, value| most.max(value.abs()));
            *largest = largest.max(f64::from(most));
        }
    })?;
    let named = (0..network.layers.len()).filter(|&layer| network.layers[layer].teacher.is_some());
    let named: Vec<usize> = named.filter_map(|layer| graph.output_of(layer)).collect();
    let factors = factors(&graph, &makers, &largest, &named);
    let mut equalized = weights.clone();
    for (id, node) in graph.nodes.iter().enumerate() {
        let &Op::Conv { groups, norm, .. } = &node.op else { continue };
        let mut each = |part: &str, change: &dyn Fn(usize) -> f64| {
            if let Some(array) = equalized.get_mut(&format!("{}.{part}", node.name)) {
                for (i, value) in array.values.iter_mut().enumerate() {
                    *value = (f64::from(*value) * change(i)) as f32;
                }
            }
        };
        let (made, read) = (&factors[id], &factors[node.inputs[0]]);
        let size = weights[&format!("{}.conv.weight", node.name)].values.len() / node.channels;
        let area = size * groups / read.len();
        // With batch normalisation, only its gain and offset affect the scale of the output.
        each("conv.weight", &|i| {
            let (row, column) = (i / size, i % size / area);
            let input = if groups > 1 { row * read.len() / node.channels + column } else { column };
            (if norm { 1.0 } else { made[row] }) / read[input]
        });
        for part in if norm { &["bn.weight", "bn.bias"][..] } else { &["conv.bias"] } {
            each(part, &|i| made[i]);
        }
    }
    Ok(equalized)
}

/// Whether the values of a node are measured. The others follow from these.
fn is_measured(op: &Op) -> bool {
    matches!(op, Op::Conv { .. } | Op::Add)
}

/// For each node and channel, the factor of its values. The nodes `kept` have none.
fn factors(graph: &Graph, makers: &[usize], largest: &[Vec<f64>], kept: &[usize]) -> Vec<Vec<f64>> {
    let mut offsets = vec![0];
    for node in &graph.nodes {
        offsets.push(offsets[offsets.len() - 1] + node.channels);
    }
    let mut ties = Ties::new(offsets[graph.nodes.len()]);
    let mut fixed: Vec<usize> = kept.iter().flat_map(|&id| offsets[id]..offsets[id + 1]).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        let own = offsets[id]..offsets[id + 1];
        match node.op {
            Op::Image => fixed.extend(own),
            Op::Conv { activation: Activation::Relu6 | Activation::HardSigmoid, .. } => fixed.extend(own),
            Op::Conv { .. } => {}
            Op::Detect { .. } => node.inputs.iter().for_each(|&map| fixed.extend(offsets[map]..offsets[map + 1])),
            // A gate is a factor itself; its activation fixes its range.
            Op::Scale => {
                own.clone().for_each(|element| ties.join(element, offsets[node.inputs[0]] + element - own.start))
            }
            Op::Concat => {
                let parts = node.inputs.iter().flat_map(|&map| offsets[map]..offsets[map + 1]);
                own.zip(parts).for_each(|(element, part)| ties.join(element, part));
            }
            Op::Slice { start } => {
                let first = offsets[node.inputs[0]] + start;
                own.clone().for_each(|element| ties.join(element, first + element - own.start));
            }
            Op::MaxPool { .. } | Op::Upsample { .. } | Op::GlobalAveragePool | Op::Add => {
                for &map in &node.inputs {
                    own.clone().for_each(|element| ties.join(element, offsets[map] + element - own.start));
                }
            }
        }
    }
    let fixed: std::collections::HashSet<usize> = fixed.into_iter().map(|element| ties.root(element)).collect();

    // The largest value of a channel, and of all channels with the same scale.
    let places = places(graph);
    let mut of_channel: HashMap<usize, f64> = HashMap::new();
    for &id in makers {
        for (channel, &most) in largest[id].iter().enumerate() {
            let known = of_channel.entry(ties.root(offsets[id] + channel)).or_default();
            *known = known.max(most);
        }
    }
    let mut of_place: HashMap<usize, f64> = HashMap::new();
    for &id in makers {
        let Some(place) = places[id] else { continue };
        let most = (offsets[id]..offsets[id + 1]).map(|element| of_channel[&ties.root(element)]);
        let known = of_place.entry(place).or_default();
        *known = most.fold(*known, f64::max);
    }
    let mut read_by_dense = std::collections::HashSet::new();
    for node in &graph.nodes {
        if let Op::Conv { groups: 1, .. } = node.op {
            let map = node.inputs[0];
            read_by_dense.extend((offsets[map]..offsets[map + 1]).map(|element| ties.root(element)));
        }
    }
    let mut factor: HashMap<usize, f64> = HashMap::new();
    for &id in makers {
        let Some(most) = places[id].map(|place| of_place[&place]) else { continue };
        for element in offsets[id]..offsets[id + 1] {
            let channel = ties.root(element);
            if fixed.contains(&channel) || most == 0.0 {
                continue;
            }
            let exponent = if read_by_dense.contains(&channel) { DENSE_EXPONENT } else { 1.0 };
            let possible = (most / of_channel[&channel].max(most / LARGEST_FACTOR)).powf(exponent);
            // If a channel has several scales, the smallest possible factor is used.
            factor.entry(channel).and_modify(|known| *known = known.min(possible)).or_insert(possible);
        }
    }
    (0..graph.nodes.len())
        .map(|id| {
            let elements = offsets[id]..offsets[id + 1];
            elements.map(|element| factor.get(&ties.root(element)).copied().unwrap_or(1.0)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{self, Storage};
    use crate::quantize::{self, Method, Plan};
    use crate::reference::random_weights;

    const SIDE: usize = 64;

    fn images(count: usize) -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut image = || {
            let (step, phase) = (random.f32() * 0.3, random.f32() * 6.0);
            (0..3 * SIDE * SIDE).map(|i| 0.5 + 0.5 * (i as f32 * step + phase).sin()).collect()
        };
        (0..count).map(|_| image()).collect()
    }

    /// The same function with two channels of each of two maps made `times` smaller, and the weights that read them
    /// larger.
    fn made_uneven(network: &Network, weights: &Weights, times: f32) -> Weights {
        let graph = network.graph().unwrap();
        let node = |name: &str| graph.nodes.iter().find(|node| node.name == name).unwrap();
        let mut weights = weights.clone();
        for (maker, reader) in [("unit8.expand", "unit8.depthwise"), ("ghost.primary", "ghost.cheap")] {
            assert_eq!(node(reader).inputs.len(), 1);
            for part in ["conv.weight", "conv.bias"] {
                let array = weights.get_mut(&format!("{maker}.{part}")).unwrap();
                let size = array.values.len() / node(maker).channels;
                array.values[..2 * size].iter_mut().for_each(|value| *value /= times);
            }
            let array = weights.get_mut(&format!("{reader}.conv.weight")).unwrap();
            let size = array.values.len() / node(reader).channels;
            array.values[..2 * size].iter_mut().for_each(|value| *value *= times);
        }
        weights
    }

    fn network() -> Network {
        serde_json::from_str(include_str!("../../tests/export/distribution.json")).unwrap()
    }

    #[test]
    fn the_function_stays_and_int8_is_closer_to_it() {
        let network = network();
        let graph = network.graph().unwrap();
        let weights = made_uneven(&network, &random_weights(&graph, 10), 100.0);
        let images = images(4);
        let equalized = equalize(&network, &weights, &images[..2], SIDE, &|_| ()).unwrap();
        let onnx = |weights: &Weights| export::to_onnx(&network, weights, (SIDE, SIDE), Storage::Single).unwrap();
        let scores = |onnx: &[u8]| quantize::scores(onnx, &images[2..], SIDE).unwrap();
        let exact = scores(&onnx(&weights));
        assert!(quantize::noise(&exact, &scores(&onnx(&equalized))) < 1e-9);
        let int8_noise = |weights: &Weights| {
            let calibration = quantize::calibrate(&network, weights, &images[..2], SIDE, &|_| ()).unwrap();
            let rounded = quantize::round(&network, weights, &calibration.windows, 8).unwrap();
            let plan = Plan::new(&graph, &calibration, Method::Percentile(100.0));
            let int8 = quantize::to_onnx(&network, weights, &rounded, (SIDE, SIDE), &plan).unwrap();
            quantize::noise(&exact, &scores(&int8))
        };
        let (before, after) = (int8_noise(&weights), int8_noise(&equalized));
        assert!(after < before * 0.7, "{before} {after}");
    }

    #[test]
    fn channels_that_only_depthwise_convolutions_read_fill_their_scale() {
        let network = network();
        let graph = network.graph().unwrap();
        let weights = made_uneven(&network, &random_weights(&graph, 5), 10.0);
        let images = images(2);
        let id = graph.nodes.iter().position(|node| node.name == "unit8.expand").unwrap();
        let largest = |weights: &Weights| {
            let mut largest = vec![0f32; graph.nodes[id].channels];
            watch(&network, weights, &images, SIDE, &[id], &|_| (), |_, map, height, width| {
                for (largest, channel) in largest.iter_mut().zip(map.chunks(height * width)) {
                    *largest = channel.iter().fold(*largest, |most, value| most.max(value.abs()));
                }
            })
            .unwrap();
            largest
        };
        let spread = |largest: &[f32]| {
            largest.iter().copied().fold(0.0, f32::max) / largest.iter().copied().fold(f32::INFINITY, f32::min)
        };
        assert!(spread(&largest(&weights)) > 20.0);
        let equalized = equalize(&network, &weights, &images, SIDE, &|_| ()).unwrap();
        let even = largest(&equalized);
        assert!(spread(&even) < 1.01, "{even:?}");
    }

    #[test]
    fn a_map_that_is_to_be_a_teachers_keeps_its_values() {
        let mut network = network();
        let graph = network.graph().unwrap();
        let weights = made_uneven(&network, &random_weights(&graph, 10), 100.0);
        let images = images(2);
        let ghost = network.layers.iter().position(|layer| layer.name == "ghost").unwrap();
        let rescaled = |network: &Network| {
            let equalized = equalize(network, &weights, &images, SIDE, &|_| ()).unwrap();
            let is_other = |name: &str| equalized[name].values != weights[name].values;
            [is_other("ghost.primary.conv.bias"), is_other("unit8.expand.conv.bias")]
        };
        assert_eq!(rescaled(&network), [true, true]);
        network.layers[ghost].teacher = Some("ghost".into());
        assert_eq!(rescaled(&network), [false, true]);
    }

    #[test]
    fn what_cannot_be_scaled_stays_as_it_is() {
        // With ReLU6 everywhere, only channels of linear convolutions may change.
        let network = crate::zoo::network("micro_yolo", 3).unwrap();
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, 5);
        let equalized = equalize(&network, &weights, &images(1), SIDE, &|_| ()).unwrap();
        for node in &graph.nodes {
            if let Op::Conv { activation: Activation::Relu6, .. } = node.op {
                let name = format!("{}.bn.bias", node.name);
                assert_eq!(equalized.get(&name), weights.get(&name), "{name}");
            }
        }
    }
}
