//! Groups of channels that are removed together, and the network without them.

use std::collections::BTreeMap;

use crate::checkpoint::{Array, Weights};
use crate::error::{Error, Result};
use crate::network::{Graph, LayerKind, NORM_EPSILON, Network, NodeId, Op};
use crate::ties::Ties;

/// Channels of one or more nodes that can only be removed together: `(node, channel of its output)`, ascending.
///
/// These are for example a convolution's output, the depthwise convolution that reads it, its position in a
/// concatenation and in a slice, both sides of a sum, the map and the gate of squeeze-and-excitation.
pub type Channel = Vec<(NodeId, usize)>;

/// A width of the network: channels that pass through the same nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Unique: the convolution that makes the channels, or several joined by `+`. Slices may take only some channels of a
    /// convolution, so several groups may belong to the same convolutions. The second of them ends in `#2` and so on.
    pub name: String,
    /// In rising order.
    pub channels: Vec<Channel>,
}

impl Group {
    /// How many of its channels make `multiple` channels in a map that contains them. This is fewer if a map has each
    /// of them twice, as in a Ghost module.
    pub fn unit(&self, multiple: usize) -> usize {
        let Some(channel) = self.channels.first() else { return multiple };
        let times = |node: NodeId| channel.iter().filter(|&&(other, _)| other == node).count();
        let most = channel.iter().map(|&(node, _)| times(node)).max().unwrap_or(1);
        multiple.div_ceil(most.max(1)).max(1)
    }
}

/// The groups of a network, in its order. The image and the maps that the head reads belong to no group.
pub fn groups(graph: &Graph) -> Vec<Group> {
    let mut offsets = vec![0];
    for node in &graph.nodes {
        offsets.push(offsets[offsets.len() - 1] + node.channels);
    }
    let mut ties = Ties::new(offsets[graph.nodes.len()]);
    let mut fixed = vec![];
    for (id, node) in graph.nodes.iter().enumerate() {
        // Joins channel `from + i` of an input with channel `to + i` of this node.
        let mut tie = |input: NodeId, from: usize, to: usize, count: usize| {
            for i in 0..count {
                ties.join(offsets[input] + from + i, offsets[id] + to + i);
            }
        };
        match &node.op {
            Op::Image => fixed.extend(offsets[id]..offsets[id + 1]),
            Op::Conv { groups, .. } if *groups > 1 => tie(node.inputs[0], 0, 0, node.channels),
            Op::Conv { .. } => {}
            Op::MaxPool { .. } | Op::Upsample { .. } | Op::GlobalAveragePool | Op::Add | Op::Scale => {
                for &input in &node.inputs {
                    tie(input, 0, 0, node.channels);
                }
            }
            Op::Concat => {
                let mut to = 0;
                for &input in &node.inputs {
                    tie(input, 0, to, graph.nodes[input].channels);
                    to += graph.nodes[input].channels;
                }
            }
            &Op::Slice { start } => tie(node.inputs[0], start, 0, node.channels),
            Op::Detect { .. } => {
                for &input in &node.inputs {
                    fixed.extend(offsets[input]..offsets[input + 1]);
                }
            }
        }
    }
    let fixed: std::collections::BTreeSet<usize> = fixed.into_iter().map(|element| ties.root(element)).collect();
    let mut channels: BTreeMap<usize, Channel> = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Detect { .. }) {
            continue;
        }
        for channel in 0..node.channels {
            let root = ties.root(offsets[id] + channel);
            if !fixed.contains(&root) {
                channels.entry(root).or_default().push((id, channel));
            }
        }
    }
    // Of two channels that pass through the same nodes, a slice may contain one once and the other twice.
    let mut groups: BTreeMap<Vec<NodeId>, Vec<Channel>> = BTreeMap::new();
    for channel in channels.into_values() {
        let nodes: Vec<NodeId> = channel.iter().map(|&(node, _)| node).collect();
        groups.entry(nodes).or_default().push(channel);
    }
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let named = |(mut nodes, channels): (Vec<NodeId>, Vec<Channel>)| {
        nodes.dedup();
        let makers = nodes.iter().filter(|&&id| matches!(graph.nodes[id].op, Op::Conv { groups: 1, .. }));
        let mut name = makers.map(|&id| graph.nodes[id].name.as_str()).collect::<Vec<_>>().join("+");
        let count = known.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name += &format!("#{count}");
        }
        Group { name, channels }
    };
    groups.into_iter().map(named).collect()
}

/// The network without the channels `removed`.
///
/// # Errors
///
/// [`Error::Network`] when the channels are not whole [`Channel`]s of [`groups`], or a layer would have none left.
pub fn thin(network: &Network, removed: &[&Channel]) -> Result<Network> {
    let graph = network.graph()?;
    thin_to(network, &graph, &keep(&graph, removed))
}

/// For each node, which channels stay.
pub(super) fn keep(graph: &Graph, removed: &[&Channel]) -> Vec<Vec<bool>> {
    let mut keep: Vec<Vec<bool>> = graph.nodes.iter().map(|node| vec![true; node.channels]).collect();
    for &(node, channel) in removed.iter().copied().flatten() {
        keep[node][channel] = false;
    }
    keep
}

fn thin_to(network: &Network, graph: &Graph, keep: &[Vec<bool>]) -> Result<Network> {
    let kept = |id: NodeId| keep[id].iter().filter(|&&kept| kept).count();
    let mut thin = network.clone();
    for (id, node) in graph.nodes.iter().enumerate() {
        let Some(layer) = node.layer else { continue };
        let layer = &mut thin.layers[layer];
        let part = node.name.strip_prefix(&layer.name).unwrap_or_default();
        match (&mut layer.kind, part) {
            (LayerKind::Conv { out, .. }, "")
            | (LayerKind::DsConv { out, .. }, ".pointwise")
            | (LayerKind::MbConv { out, .. }, ".project")
            | (LayerKind::Ghost { out, .. }, "") => *out = kept(id),
            (LayerKind::MbConv { expansion, .. }, ".expand") => *expansion = kept(id),
            (LayerKind::MbConv { squeeze, .. } | LayerKind::SqueezeExcite { squeeze, .. }, ".squeeze") => {
                *squeeze = kept(id)
            }
            (LayerKind::Slice { start, channels }, "") => {
                *start = keep[node.inputs[0]][..*start].iter().filter(|&&kept| kept).count();
                *channels = kept(id);
            }
            _ => {}
        }
    }
    for (index, layer) in thin.layers.iter_mut().enumerate().filter(|(_, layer)| layer.teacher.is_some()) {
        let output = graph.output_of(index);
        let Some(keep) = output.map(|id| &keep[id]).filter(|keep| keep.contains(&false)) else { continue };
        if layer.teacher_channels.is_empty() {
            layer.teacher_channels = (0..keep.len()).collect();
        }
        let mut kept = keep.iter();
        layer.teacher_channels.retain(|_| kept.next() == Some(&true));
    }
    let thin_graph = thin.graph()?;
    for (id, node) in graph.nodes.iter().enumerate() {
        if thin_graph.nodes[id].channels != kept(id) && !matches!(node.op, Op::Detect { .. }) {
            let widths = (kept(id), thin_graph.nodes[id].channels);
            let problem = format!("`{}` would keep {} channels, its layer {}", node.name, widths.0, widths.1);
            return Err(Error::Network { network: network.name.clone(), problem });
        }
    }
    Ok(thin)
}

/// The network and weights without the channels `removed`.
///
/// The result computes the same as the full network with these channels set to zero.
///
/// # Errors
///
/// Those of [`thin`].
pub fn cut(network: &Network, weights: &Weights, removed: &[&Channel]) -> Result<(Network, Weights)> {
    let graph = network.graph()?;
    let keep = keep(&graph, removed);
    let thin = thin_to(network, &graph, &keep)?;
    let mut thin_weights = Weights::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let Op::Conv { groups, .. } = node.op else { continue };
        let all = vec![true];
        let keep_input = if groups > 1 { &all } else { &keep[node.inputs[0]] };
        for part in ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"] {
            let name = format!("{}.{part}", node.name);
            if let Some(array) = weights.get(&name) {
                let array = select(array, &keep[id], if part == "conv.weight" { Some(keep_input) } else { None });
                thin_weights.insert(name, array);
            }
        }
    }
    Ok((thin, thin_weights))
}

/// The rows of `array` that `rows` keeps, and in each the columns (second axis) that `columns` keeps.
fn select(array: &Array, rows: &[bool], columns: Option<&Vec<bool>>) -> Array {
    let row = array.values.len() / rows.len();
    let mut shape = array.shape.clone();
    shape[0] = rows.iter().filter(|&&kept| kept).count();
    let mut values = Vec::new();
    for (values_of_row, _) in array.values.chunks(row).zip(rows).filter(|(_, kept)| **kept) {
        match columns {
            None => values.extend_from_slice(values_of_row),
            Some(columns) => {
                let column = row / columns.len();
                for (values_of_column, _) in values_of_row.chunks(column).zip(columns).filter(|(_, kept)| **kept) {
                    values.extend_from_slice(values_of_column);
                }
            }
        }
    }
    if let Some(columns) = columns {
        shape[1] = columns.iter().filter(|&&kept| kept).count();
    }
    Array { shape, values }
}

/// The factor by which batch normalisation multiplies each channel of a convolution; 1 without normalisation.
pub(super) fn scales(weights: &Weights, node: &str, channels: usize) -> Vec<f64> {
    let tensor = |part: &str| weights.get(&format!("{node}.bn.{part}")).map(|array| &array.values);
    match (tensor("weight"), tensor("running_var")) {
        (Some(scale), Some(variance)) => {
            let fold =
                |(scale, variance): (&f32, &f32)| f64::from(*scale) / (f64::from(*variance) + NORM_EPSILON).sqrt();
            scale.iter().zip(variance).map(fold).collect()
        }
        _ => vec![1.0; channels],
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::{Activation, Head, Layer, PoolPadding};
    use crate::reference::{Map, random_weights, run};
    use crate::zoo;

    /// Sets the outputs of the channels' convolutions to zero.
    fn zeroed(graph: &Graph, weights: &Weights, removed: &[&Channel]) -> Weights {
        let mut weights = weights.clone();
        for &(id, channel) in removed.iter().copied().flatten() {
            let node = &graph.nodes[id];
            for part in ["conv.weight", "conv.bias", "bn.weight", "bn.bias"] {
                if let Some(array) = weights.get_mut(&format!("{}.{part}", node.name)) {
                    let row = array.values.len() / node.channels;
                    array.values[channel * row..][..row].fill(0.0);
                }
            }
        }
        weights
    }

    /// The maps that the head reads, on an image of noise.
    pub(in crate::prune) fn head_maps(network: &Network, weights: &Weights, side: usize) -> Vec<Map> {
        let graph = network.graph().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let values = (0..3 * side * side).map(|_| random.f32()).collect();
        let maps = run(&graph, weights, Map { channels: 3, height: side, width: side, values });
        graph.nodes[graph.nodes.len() - 1].inputs.iter().map(|&id| maps[id].clone()).collect()
    }

    /// Cuts random channels of the groups numbered `picks` and compares.
    fn check_cut(network: &Network, seed: u64, picks: &[usize], side: usize) {
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, seed);
        let groups = groups(&graph);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut removed = vec![];
        for pick in picks {
            let group = &groups[pick % groups.len()];
            let count = random.usize(0..group.channels.len());
            removed.extend(random.choose_multiple(&group.channels, count));
        }
        removed.sort();
        removed.dedup();
        // Two picks of one group may leave it empty.
        for group in &groups {
            if group.channels.iter().all(|channel| removed.contains(&channel)) {
                removed.retain(|channel| *channel != &group.channels[0]);
            }
        }
        let (thin, thin_weights) = cut(network, &weights, &removed).unwrap();
        crate::checkpoint::check(&thin.graph().unwrap(), &thin_weights).unwrap();
        let expected = head_maps(network, &zeroed(&graph, &weights, &removed), side);
        let actual = head_maps(&thin, &thin_weights, side);
        assert_eq!(actual, expected);
        let alive = expected.iter().flat_map(|map| &map.values).any(|value| *value != 0.0);
        assert!(alive, "a network that gives nothing but zeros shows nothing");
    }

    /// Networks with every kind of layer in random order: a concatenated skip connection, a summed one, a block that
    /// reads a slice and is concatenated with another block. The slices may overlap or leave channels that nobody
    /// reads.
    pub(in crate::prune) fn any_network() -> impl Strategy<Value = Network> {
        let layer = (0..9usize, 1..7usize, prop::sample::select(vec![1usize, 3, 5]), 1..9usize);
        prop::collection::vec(layer, 1..7).prop_map(|choices| {
            let activation = Activation::LeakyRelu;
            let conv = |out, norm, activation| LayerKind::Conv { out, kernel: 3, stride: 2, activation, norm };
            let mut layers = vec![Layer::new("stem", conv(4, true, activation))];
            let mut channels = 4;
            for (i, (choice, out, kernel, middle)) in choices.into_iter().enumerate() {
                let name = format!("layer{i}");
                let before = layers[layers.len() - 1].name.clone();
                let squeeze = middle / 2;
                if choice > 6 {
                    let (name, right) = (name.as_str(), format!("right{i}"));
                    let slice = |start, channels| LayerKind::Slice { start, channels };
                    let (end, start) = (1 + middle % channels, out % channels);
                    layers.push(Layer::new(format!("left{i}"), slice(0, end)));
                    layers.push(Layer::new(name, LayerKind::ds_conv(out, kernel, 1, activation)));
                    layers.push(Layer::new(&right, slice(start, channels - start)).from([before.as_str()]));
                    layers.push(Layer::new(format!("join{i}"), LayerKind::Concat).from([&right, name]));
                    channels += out - start;
                    continue;
                }
                let kind = match choice {
                    0 => LayerKind::ds_conv(out, kernel, 1, activation),
                    1 => LayerKind::MbConv {
                        expansion: middle,
                        out,
                        kernel,
                        stride: 1,
                        squeeze,
                        activation,
                        depthwise_activation: (kernel == 5).then_some(Activation::None),
                        out_activation: if kernel == 3 { activation } else { Activation::None },
                        norm: kernel != 3,
                    },
                    2 => LayerKind::ghost(2 * out, kernel, 1, activation),
                    3 => LayerKind::SqueezeExcite { squeeze: middle, activation },
                    4 if kernel == 1 => LayerKind::max_pool(2, 1),
                    4 => LayerKind::MaxPool { kernel, stride: 1, padding: PoolPadding::Both },
                    _ => LayerKind::Conv { out, kernel, stride: 1, activation, norm: choice == 5 },
                };
                let made = match choice {
                    2 => 2 * out,
                    3 | 4 => channels,
                    _ => out,
                };
                layers.push(Layer::new(&name, kind));
                let join = format!("join{i}");
                if made == channels && choice != 3 {
                    layers.push(Layer::new(join, LayerKind::Add).from([before.as_str(), name.as_str()]));
                } else if middle % 2 == 0 {
                    layers.push(Layer::new(join, LayerKind::Concat).from([name.as_str(), before.as_str()]));
                    channels += made;
                    continue;
                }
                channels = made;
            }
            let last = layers[layers.len() - 1].name.clone();
            let to_head = |name: &str, out| {
                let kind = LayerKind::Conv { out, kernel: 1, stride: 1, activation: Activation::None, norm: false };
                Layer::new(name, kind).from([last.as_str()])
            };
            layers.extend([to_head("sides", 4), to_head("scores", 2)]);
            let detect = LayerKind::Detect { head: Head::AnchorFree };
            layers.push(Layer::new("detect", detect).from(["sides", "scores"]));
            Network { name: "any".into(), classes: 2, names: Vec::new(), layers }
        })
    }

    proptest! {
        #[test]
        fn a_cut_network_computes_what_the_full_one_does_with_those_channels_at_zero(
            network in any_network(), seed: u64, picks in prop::collection::vec(0usize..100, 1..5),
        ) {
            check_cut(&network, seed, &picks, 8);
        }
    }

    #[test]
    fn so_do_the_networks_of_the_zoo_cut_everywhere() {
        for name in zoo::names() {
            let network = zoo::network(name, 3).unwrap();
            let everywhere: Vec<usize> = (0..groups(&network.graph().unwrap()).len()).collect();
            check_cut(&network, 11, &everywhere, 32);
        }
    }

    #[test]
    fn groups_of_micro_yolo_reach_through_depthwise_concatenation_and_squeeze_excitation() {
        let graph = zoo::network("micro_yolo", 80).unwrap().graph().unwrap();
        let groups = groups(&graph);
        let nodes = |name: &str| {
            let group = groups.iter().find(|group| group.name == name).unwrap();
            group.channels[0].iter().map(|&(id, _)| graph.nodes[id].name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(nodes("stem"), ["stem", "block1.depthwise"]);
        assert_eq!(nodes("lateral"), ["lateral", "up", "join", "fuse.depthwise"]);
        assert_eq!(
            nodes("block11.pointwise"),
            ["block11.pointwise", "block12.depthwise", "join", "fuse.depthwise"]
        );
        let expand = nodes("context.expand+context.excite");
        assert_eq!(
            expand,
            ["context.expand", "context.depthwise", "context.pool", "context.excite", "context.scale"]
        );
        assert_eq!(nodes("context.squeeze"), ["context.squeeze"]);
        assert!(!groups.iter().any(|group| group.name.starts_with("sides") || group.name.starts_with("scores")));
    }

    #[test]
    fn a_layer_that_stands_for_a_teachers_map_knows_which_of_its_channels_are_left() {
        let mut network = zoo::network("micro_yolo", 3).unwrap();
        network.layers[2].teacher = Some("features.0".into());
        let name = format!("{}.pointwise", network.layers[2].name);
        let without = |network: &Network, gone: &[usize]| {
            let groups = groups(&network.graph().unwrap());
            let group = groups.into_iter().find(|group| group.name == name).unwrap();
            let removed: Vec<&Channel> = gone.iter().map(|&channel| &group.channels[channel]).collect();
            thin(network, &removed).unwrap()
        };
        let thin = without(&network, &[0, 2]);
        assert_eq!(thin.layers[2].teacher_channels[..3], [1, 3, 4]);
        let thinner = without(&thin, &[1]);
        assert_eq!(thinner.layers[2].teacher_channels[..3], [1, 4, 5]);
        assert!(thinner.layers[3].teacher_channels.is_empty());
    }

    #[test]
    fn slices_take_those_of_their_channels_that_are_left() {
        let conv = |name: &str, out| {
            let activation = Activation::LeakyRelu;
            Layer::new(name, LayerKind::Conv { out, kernel: 1, stride: 1, activation, norm: false })
        };
        let slice =
            |name: &str, start, channels| Layer::new(name, LayerKind::Slice { start, channels }).from(["stem"]);
        let layers = vec![
            conv("stem", 9),
            slice("left", 0, 4),
            slice("right", 2, 6),
            Layer::new("join", LayerKind::Concat).from(["right", "left"]),
            conv("sides", 4).from(["join"]),
            conv("scores", 2).from(["join"]),
            Layer::new("detect", LayerKind::Detect { head: Head::AnchorFree }).from(["sides", "scores"]),
        ];
        let network = Network { name: "slices".into(), classes: 2, names: Vec::new(), layers };
        let graph = network.graph().unwrap();
        let groups = groups(&graph);
        let named: Vec<(&str, usize)> =
            groups.iter().map(|group| (group.name.as_str(), group.channels.len())).collect();
        // Of channels 2 and 3 both slices have one, of 0 and 1 the left, of 4 to 7 the right, of the last none.
        let mut widths: Vec<usize> = named.iter().map(|group| group.1).collect();
        assert_eq!(named.iter().map(|group| group.0).collect::<Vec<_>>(), ["stem", "stem#2", "stem#3", "stem#4"]);
        widths.sort_unstable();
        assert_eq!(widths, [1, 2, 2, 4]);

        let of_stem = |gone: &[usize]| -> Vec<&Channel> {
            let channels = groups.iter().flat_map(|group| &group.channels);
            channels.filter(|channel| gone.contains(&channel[0].1)).collect()
        };
        let kinds = |network: &Network| [1, 2].map(|index: usize| network.layers[index].kind.clone());
        let thinner = thin(&network, &of_stem(&[0, 3, 7])).unwrap();
        let expected = [LayerKind::Slice { start: 0, channels: 2 }, LayerKind::Slice { start: 1, channels: 4 }];
        assert_eq!(kinds(&thinner), expected);
        let none = thin(&network, &of_stem(&[0, 1, 2, 3])).unwrap_err().to_string();
        assert!(none.contains("`left`") && none.contains("takes 0 channels"), "{none}");
    }

    #[test]
    fn half_a_channel_is_refused() {
        let network = zoo::network("micro_yolo", 3).unwrap();
        let graph = network.graph().unwrap();
        let weights = random_weights(&graph, 3);
        let half = vec![groups(&graph)[0].channels[0][0]];
        assert!(matches!(cut(&network, &weights, &[&half]), Err(Error::Network { .. })));
    }
}
