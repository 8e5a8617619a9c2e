//! The parts of a network that can be replaced, and the candidates for each.
//!
//! A part is a chain of layers, of which the last names the teacher's map that it computes. The teacher also has the
//! input map of the part, so each part can learn alone.

use std::collections::HashMap;

use super::{ExploreConfig, Kind};
use crate::checkpoint::{self, Weights};
use crate::cost::{self, Cost};
use crate::error::{Error, Result};
use crate::network::{Activation, Graph, Layer, LayerKind, Network, NodeId};

/// A chain of layers that may be replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The name of its first layer.
    pub name: String,
    /// Indices of its layers in the network, ascending.
    pub layers: Vec<usize>,
    /// The teacher's map that it reproduces.
    pub teacher: String,
    /// The node of the network's graph that it reads.
    pub input: NodeId,
    /// Channels and stride of its input.
    pub from: (usize, usize),
    /// Channels and stride of its output.
    pub to: (usize, usize),
}

/// A replacement for a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// As in tables: `MBConv k=5 α=2 β=8`.
    pub name: String,
    /// Each layer reads the one before it.
    pub layers: Vec<Layer>,
    /// Its own cost.
    pub cost: Cost,
    /// Whether it is the teacher's own layers, which explain everything.
    pub taken_over: bool,
}

impl Candidate {
    /// A graph of its layers. Node 0 is the part's input map.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] for layers that do not fit together. `candidates` excludes these.
    pub fn graph(&self, part: &Part) -> Result<Graph> {
        Graph::chain(&self.layers, part.from.0, part.from.1).map_err(Error::Training)
    }
}

/// The name of a part's own layers among its candidates.
pub const AS_IT_IS: &str = "as it is";

/// The network with the name of the teacher's map at each layer that reproduces one.
///
/// A network that names maps stays as it is. Otherwise each layer corresponds to the teacher's layer of the same name.
/// A layer that only a pool reads forms one part with the pool.
///
/// # Errors
///
/// [`Error::Option`]: no layer names a map, and none has the name of a teacher's layer.
pub fn with_hints(mut network: Network, teacher: Option<&Network>) -> Result<Network> {
    if network.layers.iter().any(|layer| layer.teacher.is_some()) {
        return Ok(network);
    }
    let readers = readers(&network);
    let known = |name: &str| teacher.is_some_and(|teacher| teacher.layers.iter().any(|layer| layer.name == name));
    let behind_is_pool = |index: usize| match readers[index].as_slice() {
        &[reader] => matches!(network.layers[reader].kind, LayerKind::MaxPool { .. }),
        _ => false,
    };
    let count = network.layers.len().saturating_sub(1);
    let named: Vec<usize> =
        (0..count).filter(|&index| known(&network.layers[index].name) && !behind_is_pool(index)).collect();
    if named.is_empty() {
        let problem = format!(
            "no layer of `{}` names the teacher's map that it stands for (`teacher`), and none is called as one there",
            network.name
        );
        return Err(Error::Option { option: "--network", problem });
    }
    for index in named {
        network.layers[index].teacher = Some(network.layers[index].name.clone());
    }
    Ok(network)
}

/// For each layer, the indices of the layers that it reads; `None` is the image.
fn inputs(network: &Network) -> Vec<Vec<Option<usize>>> {
    let places: HashMap<&str, usize> =
        network.layers.iter().enumerate().map(|(index, layer)| (layer.name.as_str(), index)).collect();
    let of = |(index, layer): (usize, &Layer)| match layer.from.as_slice() {
        [] => vec![index.checked_sub(1)],
        names => names.iter().map(|name| places.get(name.as_str()).copied()).collect(),
    };
    network.layers.iter().enumerate().map(of).collect()
}

/// For each layer, the indices of the layers that read it.
fn readers(network: &Network) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); network.layers.len()];
    for (index, inputs) in inputs(network).into_iter().enumerate() {
        inputs.into_iter().flatten().for_each(|input| readers[input].push(index));
    }
    readers
}

fn has_weights(kind: &LayerKind) -> bool {
    matches!(
        kind,
        LayerKind::Conv { .. }
            | LayerKind::DsConv { .. }
            | LayerKind::MbConv { .. }
            | LayerKind::Ghost { .. }
            | LayerKind::SqueezeExcite { .. }
    )
}

/// The last node of each layer.
fn ends(graph: &Graph, layers: usize) -> Vec<NodeId> {
    (0..layers).map(|i| graph.output_of(i).unwrap_or(0)).collect()
}

/// The parts of a network that names its teacher's maps, in its order: those in `wanted`, or all if it is empty.
///
/// Layers that compute boxes or scores belong to no part, and neither do layers that do not lead to a teacher's map.
/// These layers stay.
///
/// # Errors
///
/// [`Error::Option`]: a wanted part that does not exist, with the reason; no parts at all.
pub fn parts(network: &Network, wanted: &[String]) -> Result<Vec<Part>> {
    let graph = network.graph()?;
    let mut parts = Vec::new();
    let mut reasons = HashMap::new();
    for index in 0..network.layers.len() {
        if network.layers[index].teacher.is_some() {
            match part(network, &graph, index) {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => {}
                Err((name, reason)) => {
                    reasons.insert(name, reason);
                }
            }
        }
    }
    let wrong = |problem: String| Error::Option { option: "--parts", problem };
    for name in wanted {
        if !parts.iter().any(|part| part.name == *name) {
            let known = network.layers.iter().any(|layer| layer.name == *name);
            return Err(wrong(match reasons.remove(name) {
                Some(reason) => format!("`{name}` cannot be replaced: {reason}"),
                None if known => {
                    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
                    format!("no part begins with `{name}`: there are {}", names.join(", "))
                }
                None => format!("`{}` has no layer `{name}`", network.name),
            }));
        }
    }
    if !wanted.is_empty() {
        parts.retain(|part| wanted.contains(&part.name));
    }
    if parts.is_empty() {
        return Err(wrong(format!("`{}` has no layers that can be replaced", network.name)));
    }
    Ok(parts)
}

/// The part that ends with layer `end`. `None` if it has no weights. The error has the name and a reason.
fn part(network: &Network, graph: &Graph, end: usize) -> Result<Option<Part>, (String, String)> {
    let (inputs, readers) = (inputs(network), readers(network));
    let ends = ends(graph, network.layers.len());
    let layer = |index: usize| &network.layers[index];
    let is_chained = |index: usize| {
        let kind = &layer(index).kind;
        has_weights(kind) || matches!(kind, LayerKind::MaxPool { .. })
    };
    if !is_chained(end) {
        return Ok(None);
    }
    let mut layers = vec![end];
    let input = loop {
        let &[input] = inputs[layers[layers.len() - 1]].as_slice() else { return Ok(None) };
        match input {
            Some(before) if layer(before).teacher.is_none() && is_chained(before) && readers[before].len() == 1 => {
                layers.push(before);
            }
            other => break other,
        }
    };
    layers.reverse();
    // Pools at the beginning are not part of it.
    let pools = layers.iter().take_while(|&&index| !has_weights(&layer(index).kind)).count();
    let input = if pools == 0 { input } else { Some(layers[pools - 1]) };
    layers.drain(..pools);
    let Some(&first) = layers.first() else { return Ok(None) };
    let name = layer(first).name.clone();
    let refuse = |reason: String| Err((name.clone(), reason));
    if layers.iter().any(|&index| readers[index].iter().any(|&r| matches!(layer(r).kind, LayerKind::Detect { .. })))
    {
        return refuse("it gives boxes or scores".into());
    }
    let input = input.map_or(0, |index| ends[index]);
    if let Err(unknown) = sources(network, graph, input) {
        return refuse(format!("it reads `{unknown}`, which names no map of the teacher"));
    }
    let shape = |node: NodeId| (graph.nodes[node].channels, graph.nodes[node].stride);
    let (from, to) = (shape(input), shape(ends[end]));
    if to.1 == 0 || from.1 == 0 || ![1, 2, 4].contains(&(to.1 / from.1)) {
        return refuse(format!("it goes from stride {} to {}, more than two blocks do", from.1, to.1));
    }
    let teacher = layer(end).teacher.clone().unwrap_or_default();
    Ok(Some(Part { name, layers, teacher, input, from, to }))
}

/// The teacher's maps from which `node` of a network's graph is computed without weights: nodes and names of the maps.
/// The image is not a map of the teacher.
///
/// # Errors
///
/// The name of a layer in between that has weights but names no map.
pub fn sources(network: &Network, graph: &Graph, node: NodeId) -> Result<Vec<(NodeId, String)>, String> {
    let Some(index) = graph.nodes[node].layer else { return Ok(Vec::new()) };
    let layer = &network.layers[index];
    if let Some(map) = &layer.teacher {
        return Ok(vec![(node, map.clone())]);
    }
    if has_weights(&layer.kind) {
        return Err(layer.name.clone());
    }
    let mut all = Vec::new();
    for &input in &graph.nodes[node].inputs {
        // Two slices may belong to one map.
        for source in sources(network, graph, input)? {
            if !all.contains(&source) {
                all.push(source);
            }
        }
    }
    Ok(all)
}

/// All candidates for a part, its own layers first. `teacher` is the network of the teacher, if the teacher is a
/// checkpoint.
///
/// # Errors
///
/// Only those of an inconsistent network.
pub fn candidates(
    network: &Network,
    part: &Part,
    config: &ExploreConfig,
    teacher: Option<(&Network, &Weights)>,
) -> Result<Vec<Candidate>> {
    let own: Vec<Layer> = part.layers.iter().map(|&index| network.layers[index].clone()).collect();
    let mut all = Vec::new();
    let mut add = |name: String, layers: Vec<Layer>, taken_over: bool| {
        // A Ghost module needs an even width; other candidates are dropped.
        let Ok(graph) = Graph::chain(&layers, part.from.0, part.from.1) else { return };
        let cost = cost::total(&graph, config.side_px, config.side_px);
        all.push(Candidate { name, layers, cost, taken_over });
    };
    let taken_over = teacher.is_some_and(|(teacher, weights)| {
        let same =
            |layer: &Layer| teacher.layers.iter().any(|other| other.name == layer.name && other.kind == layer.kind);
        let graph = Graph::chain(&own, part.from.0, part.from.1);
        own.iter().all(same)
            && own.last().is_some_and(|last| last.name == part.teacher)
            && graph.is_ok_and(|graph| checkpoint::check(&graph, weights).is_ok())
    });
    add(AS_IT_IS.into(), own.clone(), taken_over);

    let pool = own.last().filter(|layer| matches!(layer.kind, LayerKind::MaxPool { .. }));
    let activation = own.iter().rev().find_map(|layer| activation(&layer.kind)).unwrap_or_default();
    for &depth in &config.depths {
        for &kind in &config.kinds {
            for &kernel in &config.kernels {
                for (what, block) in blocks(kind, kernel, config) {
                    let what = if depth == 1 { what } else { format!("{depth} × {what}") };
                    let ends = [None, pool.filter(|_| config.pools)];
                    for (number, pool) in ends.into_iter().enumerate() {
                        if number > 0 && pool.is_none() {
                            continue;
                        }
                        let stride = part.to.1 / part.from.1 / pool.map_or(1, |pool| stride(&pool.kind));
                        let Some(mut layers) = chain(part, depth, stride, activation, &block) else { continue };
                        let mut what = what.clone();
                        if let Some(pool) = pool {
                            what += " + pool";
                            layers.push(Layer { from: Vec::new(), ..pool.clone() });
                        }
                        let last = layers.len() - 1;
                        layers.iter_mut().for_each(|layer| layer.teacher = None);
                        layers[last].teacher = Some(part.teacher.clone());
                        // The part's own layers.
                        let is_own = layers.len() == own.len()
                            && layers.iter().zip(&own).all(|(layer, own)| layer.kind == own.kind);
                        if !is_own {
                            add(what, layers, false);
                        }
                    }
                }
            }
        }
    }
    Ok(all)
}

/// Makes a block from input and output channels, stride and activation.
type Block = Box<dyn Fn(usize, usize, usize, Activation) -> LayerKind>;

/// The blocks of a kind and kernel, with their names.
fn blocks(kind: Kind, kernel: usize, config: &ExploreConfig) -> Vec<(String, Block)> {
    match kind {
        Kind::Conv => {
            let block =
                move |_, out, stride, activation| LayerKind::Conv { out, kernel, stride, activation, norm: true };
            vec![(format!("Conv k={kernel}"), Box::new(block))]
        }
        Kind::Ds => {
            let block = move |_, out, stride, activation| LayerKind::ds_conv(out, kernel, stride, activation);
            vec![(format!("DSConv k={kernel}"), Box::new(block))]
        }
        Kind::Ghost => {
            let block = move |_, out, stride, activation| LayerKind::ghost(out, kernel, stride, activation);
            vec![(format!("Ghost k={kernel}"), Box::new(block))]
        }
        Kind::Mb => {
            let pairs = config.expansions.iter().flat_map(|&a| config.reductions.iter().map(move |&b| (a, b)));
            let named = |(alpha, beta): (usize, usize)| -> (String, Block) {
                let what = match beta {
                    0 => format!("MBConv k={kernel} α={alpha}"),
                    _ => format!("MBConv k={kernel} α={alpha} β={beta}"),
                };
                let block = move |input: usize, out, stride, activation| {
                    let expansion = alpha.saturating_mul(input);
                    let squeeze = expansion.checked_div(beta).map_or(0, |squeeze| squeeze.max(1));
                    let mut kind = LayerKind::mb_conv(expansion, out, kernel, stride, squeeze, activation);
                    if let LayerKind::MbConv { out_activation, .. } = &mut kind {
                        // As in the original: a map that is never negative would be hard to learn without it.
                        *out_activation = activation;
                    }
                    kind
                };
                (what, Box::new(block))
            };
            pairs.map(named).collect()
        }
    }
}

/// `depth` blocks for a part. The first ones have its strides; `None` if there are too few blocks.
fn chain(part: &Part, depth: usize, stride: usize, activation: Activation, block: &Block) -> Option<Vec<Layer>> {
    let halvings = stride.checked_ilog2()? as usize;
    if halvings > depth {
        return None;
    }
    let layer = |number: usize| {
        let input = if number == 0 { part.from.0 } else { part.to.0 };
        // Only the last block may end without an activation.
        let between = if activation == Activation::None { Activation::Relu6 } else { activation };
        let mut kind = block(input, part.to.0, if number < halvings { 2 } else { 1 }, between);
        if number + 1 == depth {
            end_with(&mut kind, activation);
        }
        let name = if depth == 1 { part.name.clone() } else { format!("{}_{}", part.name, number + 1) };
        Layer::new(name, kind)
    };
    Some((0..depth).map(layer).collect())
}

/// Sets the activation at the end of a block.
fn end_with(kind: &mut LayerKind, last: Activation) {
    match kind {
        LayerKind::Conv { activation, .. } => *activation = last,
        LayerKind::DsConv { activation, depthwise_activation, .. } if *activation != last => {
            *depthwise_activation = Some(*activation);
            *activation = last;
        }
        LayerKind::MbConv { out_activation, .. } => *out_activation = last,
        // Both halves of a Ghost module have an activation, and the second half is computed from the first.
        _ => {}
    }
}

fn activation(kind: &LayerKind) -> Option<Activation> {
    match *kind {
        LayerKind::Conv { activation, .. }
        | LayerKind::DsConv { activation, .. }
        | LayerKind::Ghost { activation, .. } => Some(activation),
        LayerKind::MbConv { out_activation, .. } => Some(out_activation),
        _ => None,
    }
}

fn stride(kind: &LayerKind) -> usize {
    match *kind {
        LayerKind::MaxPool { stride, .. } => stride,
        _ => 1,
    }
}

/// The network with a candidate for each part.
///
/// # Errors
///
/// [`Error::Network`] if a new layer has the name of another one.
pub fn with_candidates(network: &Network, chosen: &[(&Part, &Candidate)]) -> Result<Network> {
    let mut layers: Vec<Vec<Layer>> = Vec::new();
    let mut renamed: HashMap<&str, String> = HashMap::new();
    // Inputs are named explicitly, so that they do not depend on the order of layers.
    let explicit = |(index, inputs): (usize, Vec<Option<usize>>)| {
        let name = |input: Option<usize>| input.map_or("image".into(), |input| network.layers[input].name.clone());
        vec![Layer { from: inputs.into_iter().map(name).collect(), ..network.layers[index].clone() }]
    };
    layers.extend(inputs(network).into_iter().enumerate().map(explicit));
    for (part, candidate) in chosen {
        let (Some(&first), Some(&last)) = (part.layers.first(), part.layers.last()) else { continue };
        let mut from = layers[first][0].from.clone();
        part.layers.iter().for_each(|&index| layers[index].clear());
        for layer in &candidate.layers {
            layers[last]
                .push(Layer { from: std::mem::replace(&mut from, vec![layer.name.clone()]), ..layer.clone() });
        }
        renamed.insert(&network.layers[last].name, from[0].clone());
    }
    let mut new = Network { name: format!("{}_explored", network.name), layers: Vec::new(), ..network.clone() };
    for mut layer in layers.into_iter().flatten() {
        for name in &mut layer.from {
            // The inner layers of a candidate have new names, except those that stay the same.
            if let Some(now) = renamed.get(name.as_str()) {
                name.clone_from(now);
            }
        }
        let before = new.layers.last().map_or("image", |before| before.name.as_str());
        if layer.from == [before] {
            layer.from.clear();
        }
        new.layers.push(layer);
    }
    new.graph()?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::zoo;

    fn tiny() -> Network {
        let network = zoo::network("yolov3_tiny", 3).unwrap();
        with_hints(network.clone(), Some(&network)).unwrap()
    }

    #[test]
    fn a_convolution_and_the_pool_that_alone_reads_it_are_a_part() {
        let network = tiny();
        let parts = parts(&network, &[]).unwrap();
        let names: Vec<(&str, usize, &str)> =
            parts.iter().map(|part| (part.name.as_str(), part.layers.len(), part.teacher.as_str())).collect();
        assert_eq!(
            names,
            [
                ("conv1", 2, "pool1"),
                ("conv2", 2, "pool2"),
                ("conv3", 2, "pool3"),
                ("conv4", 2, "pool4"),
                // A second layer reads it.
                ("conv5", 1, "conv5"),
                ("conv6", 2, "pool6"),
                ("conv7", 1, "conv7"),
                ("conv8", 1, "conv8"),
                ("conv9", 1, "conv9"),
                ("conv10", 1, "conv10"),
                ("conv11", 1, "conv11"),
            ]
        );
        assert_eq!((parts[0].from, parts[0].to), ((3, 1), (16, 2)));
        assert_eq!((parts[5].from, parts[5].to), ((256, 32), (512, 32)));
        let error = |name: &str| super::parts(&network, &[name.into()]).unwrap_err().to_string();
        assert!(error("head32").contains("boxes or scores"), "{}", error("head32"));
        assert!(error("pool5").contains("conv1, conv2"), "{}", error("pool5"));
        assert!(error("conv99").contains("no layer `conv99`"), "{}", error("conv99"));
    }

    #[test]
    fn several_layers_that_name_one_map_are_a_part() {
        let mut network = zoo::network("micro_yolo", 3).unwrap();
        for layer in &mut network.layers {
            if ["block3", "block5", "block11", "lateral"].contains(&layer.name.as_str()) {
                layer.teacher = Some(format!("features.{}", layer.name.len()));
            }
        }
        let hinted = with_hints(network.clone(), None).unwrap();
        assert_eq!(hinted, network, "what names its maps keeps them");
        let parts = parts(&network, &[]).unwrap();
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        // `lateral` reads what names no map.
        assert_eq!(names, ["stem", "block4", "block6"]);
        assert_eq!((parts[2].layers.len(), parts[2].from, parts[2].to), (6, (128, 8), (256, 16)));
        let error = super::parts(&network, &["lateral".into()]).unwrap_err().to_string();
        assert!(error.contains("`context`, which names no map"), "{error}");
        let bare = zoo::network("micro_yolo", 3).unwrap();
        let mut other = bare.clone();
        other.layers.iter_mut().for_each(|layer| layer.name.insert_str(0, "other_"));
        for teacher in [None, Some(&other)] {
            let error = with_hints(bare.clone(), teacher).unwrap_err();
            assert!(matches!(error, Error::Option { option: "--network", .. }), "{error}");
        }
    }

    #[test]
    fn candidates_have_the_shape_of_what_they_stand_for() {
        let network = tiny();
        let config = config();
        for part in parts(&network, &[]).unwrap() {
            let all = candidates(&network, &part, &config, None).unwrap();
            assert_eq!(all[0].name, AS_IT_IS);
            assert!(all.len() > 10, "{}: {}", part.name, all.len());
            for candidate in &all {
                let graph = candidate.graph(&part).unwrap();
                let last = graph.nodes.last().unwrap();
                assert_eq!((last.channels, last.stride), part.to, "{}: {}", part.name, candidate.name);
            }
            let mut names: Vec<&str> = all.iter().map(|candidate| candidate.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all.len());
            let pooled = all.iter().filter(|candidate| candidate.name.ends_with("+ pool")).count();
            assert_eq!(pooled > 0, part.layers.len() == 2, "{}", part.name);
        }
    }

    #[test]
    fn a_network_of_candidates_costs_what_they_do() {
        let network = tiny();
        let config = config();
        let parts = parts(&network, &[]).unwrap();
        let all: Vec<Vec<Candidate>> =
            parts.iter().map(|part| candidates(&network, part, &config, None).unwrap()).collect();
        let total = |network: &Network| cost::total(&network.graph().unwrap(), 416, 416);
        let sum = |pick: &dyn Fn(&[Candidate]) -> usize| {
            all.iter()
                .map(|all| all[pick(all)].cost)
                .fold((0, 0), |sum, cost| (sum.0 + cost.parameters, sum.1 + cost.macs))
        };
        let own = sum(&|_| 0);
        let base = total(&network);
        for number in 0..40 {
            let pick = |all: &[Candidate]| number * 7 % all.len();
            let chosen: Vec<(&Part, &Candidate)> =
                parts.iter().zip(&all).map(|(part, all)| (part, &all[pick(all)])).collect();
            let explored = with_candidates(&network, &chosen).unwrap();
            let cost = total(&explored);
            let added = sum(&pick);
            assert_eq!(cost.parameters + own.0, base.parameters + added.0);
            assert_eq!(cost.macs + own.1, base.macs + added.1);
            // Every part still names its map.
            let hints = |network: &Network| {
                network.layers.iter().filter_map(|layer| layer.teacher.clone()).collect::<Vec<_>>()
            };
            assert_eq!(hints(&explored), hints(&network));
        }
        // Choosing the existing layers changes nothing.
        let same: Vec<(&Part, &Candidate)> = parts.iter().zip(&all).map(|(part, all)| (part, &all[0])).collect();
        let same = with_candidates(&network, &same).unwrap();
        assert_eq!(same.layers, network.layers);
    }

    #[test]
    fn what_the_teacher_has_itself_is_taken_over() {
        let network = tiny();
        let weights = crate::reference::random_weights(&network.graph().unwrap(), 1);
        let config = config();
        let part = &parts(&network, &["conv5".into()]).unwrap()[0];
        let taken = |teacher: &Network, weights: &Weights| {
            candidates(&network, part, &config, Some((teacher, weights))).unwrap()[0].taken_over
        };
        assert!(taken(&network, &weights));
        assert!(!taken(&zoo::network("micro_yolo", 3).unwrap(), &weights));
        assert!(!taken(&network, &Weights::new()));
        // The same convolution is not tried a second time.
        let all = candidates(&network, part, &config, None).unwrap();
        assert!(all.iter().all(|candidate| candidate.name != "Conv k=3"));
    }
}
