//! Cuts networks in front of the head that their metadata describes.

use super::graph::{Lowered, Lowering, lower, needed, net};
use super::operators::Step;
use super::reason::ForeignNode;
use super::value::{Value, Values};
use crate::engine::Activation;
use crate::engine::net::{Kind, Net, Op, Shape};
use crate::error::Error;
use crate::layout::{Boxes, Cells, Parts, Scores};
use crate::limits::{Budget, product};
use crate::onnx::File;
use crate::onnx::head::{Head, HeadKind, Level};
use crate::onnx::messages::ValueInfoProto;
use crate::size::InputSize;

/// A network up to the maps that its head reads, for the engine.
pub(crate) struct UpToHead {
    pub net: Net,
    /// Shape of the output in the file, `[1, 4 + C, N]`.
    pub shape: [usize; 3],
    /// How the outputs of `net` correspond to that output. They are stored pixel by pixel (NHWC).
    pub parts: Parts,
}

/// Why a network cannot be cut at its head and run by the engine alone.
#[derive(Debug)]
pub(crate) enum NotAlone {
    /// The file does not say where its head begins.
    NoHead,
    /// The description does not agree with the graph.
    #[cfg_attr(feature = "tract", expect(dead_code))]
    Head(&'static str),
    /// The engine does not support a node before the head.
    #[cfg_attr(feature = "tract", expect(dead_code))]
    Node(ForeignNode),
    /// The network is too large in any case.
    TooLarge(Error),
}

/// Prefix of the names of the exponentials of box sides. They are not tensors of the file.
const DISTANCE: &str = "distance of ";

/// Cuts the network at its head. The metadata must agree with the maps.
pub(crate) fn up_to_head(
    file: &File,
    head: Option<&Head>,
    input: InputSize,
    budget: &mut Budget<'_>,
) -> Result<UpToHead, NotAlone> {
    // With tract, the reason for each node is reported anyway, so there is nothing to find out here.
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
    // Maps on which the output does not depend have no known meaning.
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

    let levels = Levels::of(head, &values, image, input, budget)?;
    // The engine computes the exponential function of distances as well.
    let distances: Vec<String> = match head.kind {
        HeadKind::AnchorFree { .. } => levels.boxes.iter().map(|(name, _)| format!("{DISTANCE}{name}")).collect(),
        HeadKind::Distribution { .. } | HeadKind::Anchors => Vec::new(),
    };
    let mut boxes: Vec<&str> = levels.boxes.iter().map(|(name, _)| *name).collect();
    if let HeadKind::AnchorFree { limit, .. } = head.kind {
        boxes = distances.iter().map(String::as_str).collect();
        for (distance, (name, shape)) in boxes.iter().zip(&levels.boxes) {
            let op = Op::Unary(Activation::Exp { low: f32::NEG_INFINITY, high: limit });
            steps.push((distance, Step { op, inputs: vec![name], shape: *shape, kind: Kind::Float }));
        }
    }
    let maps = [&boxes[..], &levels.scores].concat();
    // No exporter writes such a file, so the decoder need not support it.
    if levels.classes == 0 || maps.iter().enumerate().any(|(i, name)| maps[..i].contains(name)) {
        return Err(wrong("a map is named twice, or there are no classes"));
    }
    let declared_input = graph.input.iter().find(|one| one.name == image);
    if !is_declared(output, declared_input, input, [4 + levels.classes, levels.places]) {
        return Err(wrong("its maps do not make the output that the file declares"));
    }

    let cells = levels.cells;
    let boxes = match head.kind {
        HeadKind::AnchorFree { .. } => Boxes::Distances(cells.into()),
        HeadKind::Distribution { bins, .. } => Boxes::Distributions { bins, scales: cells.into() },
        HeadKind::Anchors => {
            let anchors = head.levels.iter().map(|level| level.anchors.clone());
            Boxes::Anchors(cells.into_iter().zip(anchors).collect())
        }
    };
    let (net, inputs) = net(steps.into_iter(), &maps, &values);
    if inputs != [image] || net.outputs.len() != maps.len() {
        return Err(wrong("one of its maps does not depend on the image"));
    }
    let parts = Parts { scores: Scores::Logits, boxes, channels_last: true };
    Ok(UpToHead { net, shape: [1, 4 + levels.classes, levels.places], parts })
}

/// The maps that a head reads, and their properties, level by level.
struct Levels<'a> {
    /// Names and shapes of the maps of boxes. With anchors, these maps also have the scores.
    boxes: Vec<(&'a str, Shape)>,
    /// The maps of scores alone.
    scores: Vec<&'a str>,
    cells: Vec<Cells>,
    classes: usize,
    /// Number of boxes of all levels.
    places: usize,
}

impl<'a> Levels<'a> {
    /// Reads the description and checks it against the maps.
    fn of(
        head: &'a Head,
        values: &Values<'a>,
        image: &str,
        input: InputSize,
        budget: &mut Budget<'_>,
    ) -> Result<Levels<'a>, NotAlone> {
        let wrong = NotAlone::Head;
        let mut levels = Levels { boxes: Vec::new(), scores: Vec::new(), cells: Vec::new(), classes: 0, places: 0 };
        for (number, level) in head.levels.iter().enumerate() {
            let maps = maps_of(level, values, image, input)?;
            let &(name, shape) = maps.first().ok_or(wrong("a level has no maps"))?;
            let second = maps.get(1).map_or(0, |(_, shape)| shape.channels);
            let (classes, channels, offset) = match head.kind {
                HeadKind::Anchors => {
                    let each = shape.channels.checked_div(level.anchors.len()).and_then(|each| each.checked_sub(5));
                    let each = each.ok_or(wrong("a map has too few channels for its anchors"))?;
                    (each, level.anchors.len() * (5 + each), (1.0 - level.xy_scale) / 2.0)
                }
                HeadKind::AnchorFree { offset, .. } => (second, 4, offset),
                HeadKind::Distribution { offset, bins } => (second, 4 * bins, offset),
            };
            if shape.channels != channels || number > 0 && levels.classes != classes {
                return Err(wrong("a map has another number of channels than its kind of head"));
            }
            let bytes = product(&[shape.height, shape.width, size_of::<[f32; 2]>()]);
            budget.take(bytes, name).map_err(NotAlone::TooLarge)?;
            levels.classes = classes;
            let stride = level.stride as f32;
            levels.cells.push(Cells { stride: level.xy_scale * stride, centres: centres(shape, stride, offset) });
            levels.places += shape.height * shape.width * level.anchors.len().max(1);
            levels.boxes.push((name, shape));
            levels.scores.extend(maps.get(1).map(|(name, _)| *name));
        }
        Ok(levels)
    }
}

/// The maps of a level. Each must have the size that its stride implies.
fn maps_of<'a>(
    level: &'a Level,
    values: &Values<'a>,
    image: &str,
    input: InputSize,
) -> Result<Vec<(&'a str, Shape)>, NotAlone> {
    let sides = [input.height, input.width].map(|side| side.div_ceil(level.stride) as usize);
    let mut maps = Vec::with_capacity(2);
    for name in &level.maps {
        match values.get(name.as_str()) {
            Some(Value::Image(shape, Kind::Float)) if name != image => maps.push((name.as_str(), *shape)),
            _ => return Err(NotAlone::Head("one of its maps is no feature map")),
        }
    }
    if maps.iter().any(|(_, shape)| [shape.height, shape.width] != sides) {
        return Err(NotAlone::Head("a map is not as large as its stride says"));
    }
    Ok(maps)
}

/// The centres of a map's cells, row by row.
fn centres(shape: Shape, stride: f32, offset: f32) -> Vec<[f32; 2]> {
    let at = |index: usize| (index as f32 + offset) * stride;
    (0..shape.height * shape.width).map(|cell| [at(cell % shape.width), at(cell / shape.width)]).collect()
}

/// Whether the file declares the output that the head makes: rows for a box and its classes, columns for cells. The
/// number of cells is that of the declared input size, which may differ from the size that is used.
fn is_declared(
    output: &ValueInfoProto,
    image: Option<&ValueInfoProto>,
    input: InputSize,
    [rows, places]: [usize; 2],
) -> bool {
    let is = |side: Option<&Option<i64>>, wanted: usize| {
        side.is_some_and(|side| side.is_none_or(|side| usize::try_from(side) == Ok(wanted)))
    };
    let (answer, image) = (declared(output), image.map(declared).unwrap_or_default());
    let as_declared = is(image.get(2), input.height as usize) && is(image.get(3), input.width as usize);
    answer.is_empty() || is(answer.get(1), rows) && (is(answer.get(2), places) || !as_declared)
}

/// The dimensions of a tensor in the file; `None` for one that the file leaves open.
fn declared(value: &ValueInfoProto) -> Vec<Option<i64>> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    tensor.iter().flat_map(|tensor| &tensor.shape).flat_map(|shape| &shape.dim).map(|dim| dim.dim_value).collect()
}
