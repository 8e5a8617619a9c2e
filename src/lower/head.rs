//! Networks cut in front of the head that their metadata describes.

use super::graph::{Lowered, Lowering, lower, needed, net};
use super::operators::Step;
use super::reason::ForeignNode;
use super::value::Value;
use crate::engine::Activation;
use crate::engine::net::{Kind, Net, Op, Shape};
use crate::error::Error;
use crate::layout::{Boxes, Cells, Parts, Scores};
use crate::limits::{Budget, product};
use crate::onnx::File;
use crate::onnx::head::{Head, HeadKind};
use crate::onnx::messages::ValueInfoProto;
use crate::size::InputSize;

/// A network up to the maps that its head reads, as the engine runs it.
pub(crate) struct UpToHead {
    pub net: Net,
    /// Of the answer in the file, `[1, 4 + C, N]`.
    pub shape: [usize; 3],
    /// How the outputs of `net` make it; they come pixel by pixel.
    pub parts: Parts,
}

/// Why a network cannot be cut at its head and run by the engine alone.
#[derive(Debug)]
pub(crate) enum NotAlone {
    /// The file does not say where its head begins.
    NoHead,
    /// What it says is not so.
    #[cfg_attr(feature = "tract", expect(dead_code))]
    Head(&'static str),
    /// The engine does not know a node before the head.
    #[cfg_attr(feature = "tract", expect(dead_code))]
    Node(ForeignNode),
    /// It is too large, however it is run.
    TooLarge(Error),
}

/// Start of the names of the sides of boxes behind their exponential function, which is no tensor of the file.
const DISTANCE: &str = "distance of ";

/// Cuts the network at its head. What the metadata says of the maps must be so.
pub(crate) fn up_to_head(
    file: &File,
    head: Option<&Head>,
    input: InputSize,
    budget: &mut Budget<'_>,
) -> Result<UpToHead, NotAlone> {
    // With tract, which gives the reason for each node, nothing more is to be found out.
    if cfg!(feature = "tract") && head.is_none() {
        return Err(NotAlone::NoHead);
    }
    let wrong = NotAlone::Head;
    let graph = &file.graph;
    let output = graph.output.first().ok_or(wrong("there is no output"))?;
    let levels = head.map_or(&[][..], |head| &head.levels);
    let names = levels.iter().flat_map(|level| &level.maps).map(String::as_str).collect::<Vec<_>>();
    let of_answer = needed(graph, &[&output.name]);
    let of_maps = if head.is_some() { needed(graph, &names) } else { of_answer.clone() };
    // Maps that the output does not depend on have no known meaning.
    if of_maps.iter().zip(&of_answer).any(|(map, answer)| *map && !*answer) {
        return Err(wrong("the output does not depend on one of its maps"));
    }
    let lowered = lower(graph, file.opset, input, &of_maps, None, budget).map_err(NotAlone::TooLarge)?;
    let Lowered { nodes, values, image, .. } = lowered;
    let mut steps: Vec<(&str, Step<'_>)> = Vec::with_capacity(graph.node.len());
    for (node, lowered) in graph.node.iter().zip(nodes) {
        match lowered {
            Some(Err(reason)) => return Err(NotAlone::Node(ForeignNode::new(node, reason, &values))),
            Some(Ok(Lowering::Steps(of_node))) => steps.extend(node.output.iter().map(String::as_str).zip(of_node)),
            Some(Ok(Lowering::Constant)) | None => (),
        }
    }
    let head = head.ok_or(NotAlone::NoHead)?;

    let mut classes = None;
    let (mut boxes, mut scores) = (Vec::new(), Vec::new());
    let (mut scales, mut anchors) = (Vec::new(), Vec::new());
    let mut distances: Vec<(String, &str, Shape, f32)> = Vec::new();
    let mut places = 0;
    for level in &head.levels {
        let sides = [input.height, input.width].map(|side| side.div_ceil(level.stride) as usize);
        let mut maps = Vec::with_capacity(2);
        for name in &level.maps {
            match values.get(name.as_str()) {
                Some(Value::Image(shape, Kind::Float)) if name != image => maps.push((name.as_str(), *shape)),
                _ => return Err(wrong("one of its maps is no feature map")),
            }
        }
        if maps.iter().any(|(_, shape)| [shape.height, shape.width] != sides) {
            return Err(wrong("a map is not as large as its stride says"));
        }
        let &(name, shape) = maps.first().ok_or(wrong("a level has no maps"))?;
        let (each, channels, offset) = match head.kind {
            HeadKind::Anchors => {
                let each = shape.channels.checked_div(level.anchors.len()).and_then(|each| each.checked_sub(5));
                let each = each.ok_or(wrong("a map has too few channels for its anchors"))?;
                (each, level.anchors.len() * (5 + each), 0.0)
            }
            HeadKind::AnchorFree { offset, .. } => (maps.get(1).map_or(0, |map| map.1.channels), 4, offset),
            HeadKind::Distribution { offset, bins } => {
                (maps.get(1).map_or(0, |map| map.1.channels), 4 * bins, offset)
            }
        };
        if shape.channels != channels || *classes.get_or_insert(each) != each {
            return Err(wrong("a map has another number of channels than its kind of head"));
        }
        let stride = level.stride as f32;
        let at = |index: usize| (index as f32 + offset) * stride;
        let centres = product(&[shape.height, shape.width, size_of::<[f32; 2]>()]);
        budget.take(centres, name).map_err(NotAlone::TooLarge)?;
        let cells = 0..shape.height * shape.width;
        let centres = cells.map(|cell| [at(cell % shape.width), at(cell / shape.width)]).collect();
        scales.push(Cells { stride, centres });
        anchors.push(level.anchors.clone());
        places += shape.height * shape.width * level.anchors.len().max(1);
        match head.kind {
            HeadKind::AnchorFree { limit, .. } => distances.push((format!("{DISTANCE}{name}"), name, shape, limit)),
            _ => boxes.push(name),
        }
        scores.extend(maps.get(1).map(|map| map.0));
    }
    for (distance, name, shape, limit) in &distances {
        let op = Op::Unary(Activation::Exp { low: f32::NEG_INFINITY, high: *limit });
        steps.push((distance, Step { op, inputs: vec![name], shape: *shape, kind: Kind::Float }));
        boxes.push(distance);
    }
    let classes = classes.unwrap_or(0);
    let maps = [boxes, scores].concat();
    // No exporter writes such a file, so the decoder need not allow for it.
    if classes == 0 || maps.iter().enumerate().any(|(i, name)| maps[..i].contains(name)) {
        return Err(wrong("a map is named twice, or there are no classes"));
    }

    // The answer that the file declares must be the one that the head makes.
    let is = |side: Option<&Option<i64>>, wanted: usize| {
        side.is_some_and(|side| side.is_none_or(|side| usize::try_from(side) == Ok(wanted)))
    };
    let (answer, declared_input) = (declared(output), graph.input.iter().find(|one| one.name == image));
    let declared_input = declared_input.map(declared).unwrap_or_default();
    let as_declared =
        is(declared_input.get(2), input.height as usize) && is(declared_input.get(3), input.width as usize);
    let sound = answer.is_empty() || is(answer.get(1), 4 + classes) && (is(answer.get(2), places) || !as_declared);
    if !sound {
        return Err(wrong("its maps do not make the output that the file declares"));
    }

    let boxes = match head.kind {
        HeadKind::AnchorFree { .. } => Boxes::Distances(scales.into()),
        HeadKind::Distribution { bins, .. } => Boxes::Distributions { bins, scales: scales.into() },
        HeadKind::Anchors => Boxes::Anchors(scales.into_iter().zip(anchors).collect()),
    };
    let (net, inputs) = net(steps.into_iter(), &maps, &values);
    if inputs != [image] || net.outputs.len() != maps.len() {
        return Err(wrong("one of its maps does not depend on the image"));
    }
    let parts = Parts { scores: Scores::Logits, boxes, channels_last: true };
    Ok(UpToHead { net, shape: [1, 4 + classes, places], parts })
}

/// The sides of a tensor in the file; `None` for one that it leaves open.
fn declared(value: &ValueInfoProto) -> Vec<Option<i64>> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    tensor.iter().flat_map(|tensor| &tensor.shape).flat_map(|shape| &shape.dim).map(|dim| dim.dim_value).collect()
}
