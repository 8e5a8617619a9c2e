//! Darknet's `.cfg`: sections of `key=value` lines, one section per layer, in the order of computation.
//!
//! Only sections and keys with a known equivalent are accepted. Everything else, including unknown keys, is an error
//! that names the line. Darknet ignores misspelled keys, but a network imported without such a key could give wrong
//! results.

use std::path::{Path, PathBuf};

use super::Masks;
use crate::error::{Error, Result};
use crate::network::{Activation, Head, Layer, LayerKind, Network, PoolPadding, XY_SCALES};

/// The maximum number of channels. Real networks have fewer.
const MOST_CHANNELS: usize = 1 << 14;
const LARGEST_KERNEL: usize = 31;

/// A consistent cfg.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Width and height.
    pub input_px: (usize, usize),
    /// In the order in which the weights file has them.
    pub convolutions: Vec<Convolution>,
    classes: usize,
    layers: Vec<Layer>,
    heads: Vec<YoloHead>,
    /// The line of `[net]`.
    net_line: usize,
}

/// The position and shape of a convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convolution {
    /// Darknet's number of the layer.
    pub index: usize,
    /// The line of its section.
    pub line: usize,
    /// The prefix of its tensors' names.
    pub node: String,
    /// Whether it has batch normalisation; otherwise it has a bias.
    pub norm: bool,
    /// OIHW.
    pub shape: [usize; 4],
}

/// A `[yolo]` section.
#[derive(Debug, Clone, PartialEq)]
struct YoloHead {
    map: String,
    stride: usize,
    anchors: Vec<[f32; 2]>,
    mask: Vec<usize>,
    /// `scale_x_y`.
    xy_scale: f32,
}

struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    line: usize,
}

struct Section<'a> {
    path: &'a Path,
    kind: &'a str,
    line: usize,
    entries: Vec<Entry<'a>>,
}

/// The output of a layer for later layers.
#[derive(Debug, Clone)]
enum Output {
    Map {
        /// The name of our layer that computes it.
        name: String,
        channels: usize,
        stride: usize,
    },
    /// The depthwise half of a DSConv, which has no name.
    Inside,
    /// Boxes.
    Boxes,
}

/// Keys for training and display, which are ignored.
const TRAINING: [&str; 8] = [
    "stopbackward",
    "dontsave",
    "onlyforward",
    "dontloadscales",
    "burnin_update",
    "train_only_bn",
    "learning_scale_policy",
    "receptive_field",
];
const TRAINING_CONVOLUTION: [&str; 3] = ["dot", "learning_rate", "grad_centr"];
const TRAINING_YOLO: [&str; 29] = [
    "jitter",
    "resize",
    "ignore_thresh",
    "truth_thresh",
    "iou_thresh",
    "iou_thresh_kind",
    "random",
    "max",
    "label_smooth_eps",
    "objectness_smooth",
    "iou_normalizer",
    "obj_normalizer",
    "cls_normalizer",
    "delta_normalizer",
    "uc_normalizer",
    "iou_loss",
    "focal_loss",
    "max_delta",
    "counters_per_class",
    "show_details",
    "map",
    // Darknet's options of suppression and tracking. The detector has its own.
    "nms_kind",
    "beta_nms",
    "track_history_size",
    "sim_thresh",
    "dets_for_track",
    "dets_for_show",
    "track_ciou_norm",
    "rescore",
];

impl<'a> Section<'a> {
    fn error(&self, line: usize, problem: impl std::fmt::Display) -> Error {
        Error::Cfg { path: self.path.to_owned(), line, problem: format!("[{}] {problem}", self.kind) }
    }

    /// The only entry with that key.
    fn find(&self, key: &str) -> Result<Option<&Entry<'a>>> {
        let mut found = self.entries.iter().filter(|entry| entry.key == key);
        let first = found.next();
        match (first, found.next()) {
            (Some(first), Some(second)) => {
                Err(self.error(second.line, format!("has `{key}` twice, first in line {}", first.line)))
            }
            _ => Ok(first),
        }
    }

    fn required(&self, key: &str) -> Result<&Entry<'a>> {
        self.find(key)?.ok_or_else(|| self.error(self.line, format!("has no `{key}`")))
    }

    fn parse<T: std::str::FromStr>(&self, entry: &Entry, text: &str) -> Result<T> {
        text.trim()
            .parse()
            .map_err(|_| self.error(entry.line, format!("`{}={}` is no number", entry.key, entry.value)))
    }

    /// An integer in `range`, or `default` if the section does not have it.
    fn number(&self, key: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        let Some(entry) = self.find(key)? else { return Ok(default) };
        let number: i64 = self.parse(entry, entry.value)?;
        usize::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let problem = format!("`{key}={number}`: {} to {} is supported", range.start(), range.end());
            self.error(entry.line, problem)
        })
    }

    fn list<T: std::str::FromStr>(&self, entry: &Entry) -> Result<Vec<T>> {
        // Some lists end with a comma.
        let value = entry.value.trim().trim_end_matches(',');
        value.split(',').map(|part| self.parse(entry, part)).collect()
    }

    /// Refuses unknown keys. `known` are read, `training` are ignored, and `fixed` must have the given values.
    fn check(&self, known: &[&str], training: &[&str], fixed: &[(&str, f64)]) -> Result<()> {
        for entry in &self.entries {
            if known.contains(&entry.key) || training.contains(&entry.key) || TRAINING.contains(&entry.key) {
                continue;
            }
            let Some((key, wanted)) = fixed.iter().find(|fixed| fixed.0 == entry.key) else {
                let problem = format!(
                    "has `{}`, which is not known here and could change what the network computes; if Darknet calls it \
                     unused, remove the line",
                    entry.key
                );
                return Err(self.error(entry.line, problem));
            };
            let value: f64 = self.parse(entry, entry.value)?;
            if value != *wanted {
                return Err(self.error(entry.line, format!("`{key}={}` is not supported", entry.value)));
            }
        }
        Ok(())
    }

    fn activation(&self, default: &str) -> Result<Activation> {
        let entry = self.find("activation")?;
        let (value, line) = entry.map_or((default, self.line), |entry| (entry.value, entry.line));
        match value {
            "leaky" => Ok(Activation::LeakyRelu),
            "linear" => Ok(Activation::None),
            "relu" => Ok(Activation::Relu),
            "relu6" => Ok(Activation::Relu6),
            other => {
                let problem = format!("activation `{other}` is not supported: leaky, linear, relu and relu6 are");
                Err(self.error(line, problem))
            }
        }
    }
}

/// Splits into sections, as Darknet does: spaces do not count, `#` and `;` start comments.
fn sections<'a>(path: &'a Path, text: &'a str) -> Result<Vec<Section<'a>>> {
    let mut sections: Vec<Section> = Vec::new();
    if text.contains('\0') {
        let problem = "is no text: is this a Darknet cfg?".into();
        return Err(Error::Cfg { path: path.to_owned(), line: 1, problem });
    }
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split(['#', ';']).next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let problem = |problem: String| Error::Cfg { path: path.to_owned(), line, problem };
        let shown = content.chars().take(40).collect::<String>();
        if let Some(kind) = content.strip_prefix('[') {
            let kind =
                kind.strip_suffix(']').ok_or_else(|| problem(format!("`{shown}` has no closing bracket")))?;
            sections.push(Section { path, kind, line, entries: Vec::new() });
            continue;
        }
        let Some((key, value)) = content.split_once('=') else {
            return Err(problem(format!("`{shown}` is neither [section] nor key=value: is this a Darknet cfg?")));
        };
        let Some(section) = sections.last_mut() else {
            return Err(problem(format!("`{shown}` stands before the first section")));
        };
        section.entries.push(Entry { key: key.trim(), value: value.trim(), line });
    }
    Ok(sections)
}

/// Reads a cfg.
///
/// # Errors
///
/// [`Error::Cfg`] with the line.
pub fn read(path: &Path, text: &str) -> Result<Description> {
    let sections = sections(path, text)?;
    let Some((net, layers)) = sections.split_first().filter(|(net, _)| ["net", "network"].contains(&net.kind))
    else {
        let problem = "does not start with [net]: is this a Darknet cfg?".into();
        return Err(Error::Cfg { path: path.to_owned(), line: sections.first().map_or(1, |s| s.line), problem });
    };
    net.number("channels", 3, 3..=3)?;
    let side = |key| net.required(key).and_then(|_| net.number(key, 0, 1..=4096));
    let mut reader = Reader {
        sections: layers,
        outputs: Vec::new(),
        read: Vec::new(),
        description: Description {
            input_px: (side("width")?, side("height")?),
            convolutions: Vec::new(),
            classes: 0,
            layers: Vec::new(),
            heads: Vec::new(),
            net_line: net.line,
        },
    };
    while reader.outputs.len() < layers.len() {
        reader.layer()?;
    }
    reader.finish(net)
}

struct Reader<'a> {
    sections: &'a [Section<'a>],
    /// Outputs of the layers so far, by Darknet's number.
    outputs: Vec<Output>,
    /// Whether something reads that output.
    read: Vec<bool>,
    description: Description,
}

impl<'a> Reader<'a> {
    fn layer(&mut self) -> Result<()> {
        let index = self.outputs.len();
        let section = &self.sections[index];
        let output = match section.kind {
            "convolutional" | "conv" => return self.convolution(section),
            "maxpool" | "max" => self.pool(section)?,
            "upsample" => self.upsample(section)?,
            "route" => self.route(section)?,
            "shortcut" => self.shortcut(section)?,
            "yolo" => self.yolo(section)?,
            "net" | "network" => return Err(section.error(section.line, "may only come first")),
            _ => {
                let problem = "is no section this import knows: net, convolutional, maxpool, upsample, route, shortcut \
                               and yolo are";
                return Err(section.error(section.line, problem));
            }
        };
        self.push(output);
        Ok(())
    }

    fn push(&mut self, output: Output) {
        self.outputs.push(output);
        self.read.push(false);
    }

    /// Channels and stride of a layer's output map, and the name of our layer.
    fn map(&mut self, section: &Section, line: usize, index: usize) -> Result<(String, usize, usize)> {
        match &self.outputs[index] {
            Output::Map { name, channels, stride } => {
                self.read[index] = true;
                Ok((name.clone(), *channels, *stride))
            }
            Output::Boxes => {
                let problem = format!("reads layer {index}, a [yolo]: put a [route] before it");
                Err(section.error(line, problem))
            }
            Output::Inside => {
                let problem = format!(
                    "reads layer {index}, a depthwise convolution, whose output only the 1×1 behind it may read"
                );
                Err(section.error(line, problem))
            }
        }
    }

    /// The map of the previous layer.
    fn before(&mut self, section: &Section) -> Result<(String, usize, usize)> {
        match self.outputs.len().checked_sub(1) {
            None => Ok(("image".into(), 3, 1)),
            Some(index) => self.map(section, section.line, index),
        }
    }

    /// The maps of the layers with Darknet's numbers. Negative numbers count back from this layer.
    fn named(&mut self, section: &Section, entry: &Entry) -> Result<Vec<(String, usize, usize)>> {
        let here = self.outputs.len();
        let mut maps = Vec::new();
        for number in section.list::<i64>(entry)? {
            let index = if number < 0 { (here as i64).saturating_add(number) } else { number };
            let Some(index) = usize::try_from(index).ok().filter(|&index| index < here) else {
                let problem = match number {
                    ..0 => format!("layer {number} from layer {here} on is before the first"),
                    _ => format!("layer {number} does not come before this one, layer {here}"),
                };
                return Err(section.error(entry.line, problem));
            };
            maps.push(self.map(section, entry.line, index)?);
        }
        Ok(maps)
    }

    /// Appends a layer that reads `from`.
    fn add(&mut self, name: &str, from: &[String], kind: LayerKind) {
        let layers = &mut self.description.layers;
        let follows = match (from, layers.last()) {
            ([one], Some(last)) => *one == last.name,
            ([one], None) => one == "image",
            _ => false,
        };
        let from = if follows { Vec::new() } else { from.to_vec() };
        layers.push(Layer { from, ..Layer::new(name, kind) });
    }

    fn convolution(&mut self, section: &'a Section<'a>) -> Result<()> {
        let index = self.outputs.len();
        let this = ConvolutionSection::read(section)?;
        let (input, channels, stride) = self.before(section)?;
        if this.groups == 1 {
            let name = format!("conv{index}");
            let &ConvolutionSection { filters, size, stride: step, norm, activation, .. } = &this;
            let kind = LayerKind::Conv { out: filters, kernel: size, stride: step, activation, norm };
            self.add(&name, &[input], kind);
            self.convolution_weights(index, section.line, &name, norm, [filters, channels, size, size]);
            self.push(Output::Map { name, channels: filters, stride: stride * step });
            return Ok(());
        }
        // A depthwise convolution and the following 1×1 convolution become one layer here.
        let refuse = |problem: &str| {
            let problem = format!(
                "has groups={}: only a depthwise convolution (as many groups as filters and input channels) with the \
                 1×1 convolution behind it, both with batch normalisation and the same activation, is supported; {problem}",
                this.groups
            );
            Err(section.error(section.line, problem))
        };
        if this.groups != channels || this.filters != channels {
            return refuse(&format!("it has {channels} input channels and {} filters", this.filters));
        }
        let next = match self.sections.get(index + 1) {
            Some(next) if ["convolutional", "conv"].contains(&next.kind) => next,
            _ => return refuse("no convolution follows"),
        };
        let pointwise = ConvolutionSection::read(next)?;
        if (pointwise.size, pointwise.stride, pointwise.groups) != (1, 1, 1)
            || !(this.norm && pointwise.norm)
            || this.activation != pointwise.activation
        {
            return refuse(&format!("the convolution of line {} is another", next.line));
        }
        let name = format!("dsconv{}", index + 1);
        let &ConvolutionSection { size, stride: step, activation, .. } = &this;
        self.add(&name, &[input], LayerKind::ds_conv(pointwise.filters, size, step, activation));
        let node = format!("{name}.depthwise");
        self.convolution_weights(index, section.line, &node, true, [channels, 1, size, size]);
        self.push(Output::Inside);
        self.read[index] = true;
        let node = format!("{name}.pointwise");
        self.convolution_weights(index + 1, next.line, &node, true, [pointwise.filters, channels, 1, 1]);
        self.push(Output::Map { name, channels: pointwise.filters, stride: stride * step });
        Ok(())
    }

    fn convolution_weights(&mut self, index: usize, line: usize, node: &str, norm: bool, shape: [usize; 4]) {
        self.description.convolutions.push(Convolution { index, line, node: node.into(), norm, shape });
    }

    fn pool(&mut self, section: &Section) -> Result<Output> {
        section.check(
            &["size", "stride", "stride_x", "stride_y", "padding"],
            &[],
            &[("maxpool_depth", 0.0), ("antialiasing", 0.0)],
        )?;
        let step = stride(section, 1)?;
        let size = section.number("size", step, 1..=LARGEST_KERNEL)?;
        // Darknet pads by `size - 1` in total, and by half of that, rounded down, at the top and left.
        let padding = match size {
            2 => PoolPadding::End,
            size if size >= step && size % 2 == 1 => PoolPadding::Both,
            _ => {
                return Err(
                    section.error(section.line, format!("a window of {size} is not supported: 2 and odd ones are"))
                );
            }
        };
        // A window of 2 with stride 2 never exceeds an even map.
        let least = if (size, step) == (2, 2) { 0 } else { size - 1 };
        section.number("padding", size - 1, least..=size - 1)?;
        let (input, channels, stride) = self.before(section)?;
        let name = format!("pool{}", self.outputs.len());
        self.add(&name, &[input], LayerKind::MaxPool { kernel: size, stride: step, padding });
        Ok(Output::Map { name, channels, stride: stride * step })
    }

    fn upsample(&mut self, section: &Section) -> Result<Output> {
        section.check(&["stride"], &[], &[("scale", 1.0)])?;
        let factor = section.number("stride", 2, 2..=32)?;
        let (input, channels, stride) = self.before(section)?;
        if !stride.is_multiple_of(factor) {
            let problem = format!("cannot enlarge a map of stride {stride} {factor} times");
            return Err(section.error(section.line, problem));
        }
        let name = format!("upsample{}", self.outputs.len());
        self.add(&name, &[input], LayerKind::upsample(factor));
        Ok(Output::Map { name, channels, stride: stride / factor })
    }

    fn route(&mut self, section: &Section) -> Result<Output> {
        section.check(&["layers", "groups", "group_id"], &[], &[])?;
        let entry = section.required("layers")?;
        let groups = section.number("groups", 1, 1..=MOST_CHANNELS)?;
        let group = section.number("group_id", 0, 0..=groups - 1)?;
        let mut maps = self.named(section, entry)?;
        let several = maps.len() > 1;
        // Of each map, one of this many equal parts.
        for (index, (map, channels, _)) in maps.iter_mut().enumerate().filter(|_| groups > 1) {
            if !channels.is_multiple_of(groups) {
                let problem = format!("divides the {channels} channels of `{map}` into {groups} groups");
                return Err(section.error(section.line, problem));
            }
            *channels /= groups;
            let mut name = format!("route{}", self.outputs.len());
            if several {
                name += &format!("_{index}");
            }
            let kind = LayerKind::Slice { start: group * *channels, channels: *channels };
            self.add(&name, &[std::mem::replace(map, name.clone())], kind);
        }
        let (first, channels, stride) = maps[0].clone();
        if let [_] = maps.as_slice() {
            return Ok(Output::Map { name: first, channels, stride });
        }
        if let Some(other) = maps.iter().find(|map| map.2 != stride) {
            let problem = format!("joins maps of strides {stride} and {}", other.2);
            return Err(section.error(entry.line, problem));
        }
        let channels = maps.iter().map(|map| map.1).sum();
        let name = format!("route{}", self.outputs.len());
        let from: Vec<String> = maps.into_iter().map(|map| map.0).collect();
        self.add(&name, &from, LayerKind::Concat);
        Ok(Output::Map { name, channels, stride })
    }

    fn shortcut(&mut self, section: &Section) -> Result<Output> {
        section.check(&["from", "activation"], &[], &[])?;
        if section.activation("linear")? != Activation::None {
            return Err(section.error(section.line, "an activation behind a sum is not supported: linear is"));
        }
        let entry = section.required("from")?;
        let mut maps = vec![self.before(section)?];
        maps.extend(self.named(section, entry)?);
        let (_, channels, stride) = maps[0].clone();
        if let Some((_, other, other_stride)) = maps.iter().find(|map| (map.1, map.2) != (channels, stride)) {
            let problem =
                format!("adds {other} channels at stride {other_stride} to {channels} channels at stride {stride}");
            return Err(section.error(entry.line, problem));
        }
        let name = format!("shortcut{}", self.outputs.len());
        let from: Vec<String> = maps.into_iter().map(|map| map.0).collect();
        self.add(&name, &from, LayerKind::Add);
        Ok(Output::Map { name, channels, stride })
    }

    fn yolo(&mut self, section: &Section) -> Result<Output> {
        section.check(
            &["mask", "anchors", "classes", "num", "scale_x_y"],
            &TRAINING_YOLO,
            // With new_coords=1, sizes would be squares instead of exponentials, and scores would already be
            // probabilities.
            &[("new_coords", 0.0)],
        )?;
        let classes_line = section.required("classes")?.line;
        let classes = section.number("classes", 0, 1..=MOST_CHANNELS)?;
        let entry = section.required("anchors")?;
        let anchors = section.list::<f32>(entry)?;
        let num = section.number("num", anchors.len() / 2, 1..=MOST_CHANNELS)?;
        if anchors.len() != 2 * num || !anchors.iter().all(|side| *side > 0.0 && side.is_finite()) {
            let problem = format!("has {} anchors' sides above 0 where num={num} needs {}", anchors.len(), 2 * num);
            return Err(section.error(entry.line, problem));
        }
        let anchors: Vec<[f32; 2]> = anchors.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        let (mask, mask_line) = match section.find("mask")? {
            Some(entry) => (section.list::<usize>(entry)?, entry.line),
            None => ((0..num).collect(), section.line),
        };
        if let Some(number) = mask.iter().find(|number| **number >= num) {
            let problem = format!("mask {number} names none of the {num} anchors: they count from 0");
            return Err(section.error(mask_line, problem));
        }
        if !self.description.heads.is_empty() && classes != self.description.classes {
            let problem = format!("has {classes} classes, the [yolo] before it {}", self.description.classes);
            return Err(section.error(classes_line, problem));
        }
        self.description.classes = classes;
        let xy_scale = match section.find("scale_x_y")? {
            None => 1.0,
            Some(entry) => {
                let scale = section.parse::<f32>(entry, entry.value)?;
                if !XY_SCALES.contains(&scale) {
                    let (least, most) = XY_SCALES.into_inner();
                    let problem = format!("`scale_x_y={}`: {least} to {most} is supported", entry.value);
                    return Err(section.error(entry.line, problem));
                }
                scale
            }
        };
        let (map, channels, stride) = self.before(section)?;
        let needed = mask.len() * (5 + classes);
        if channels != needed {
            let problem =
                format!("reads {channels} filters; {} anchors of 5 + {classes} values need {needed}", mask.len());
            return Err(section.error(section.line, problem));
        }
        self.description.heads.push(YoloHead { map, stride, anchors, mask, xy_scale });
        Ok(Output::Boxes)
    }

    fn finish(self, net: &Section) -> Result<Description> {
        if self.description.heads.is_empty() {
            return Err(net.error(net.line, "no [yolo] section follows: this is no YOLOv3 detector"));
        }
        for (index, section) in self.sections.iter().enumerate() {
            // A layer that only a route names counts as read if the route is read.
            if !self.read[index] && !matches!(self.outputs[index], Output::Boxes) {
                return Err(section.error(section.line, format!("nothing reads this, layer {index}")));
            }
        }
        Ok(self.description)
    }
}

struct ConvolutionSection {
    filters: usize,
    size: usize,
    stride: usize,
    groups: usize,
    norm: bool,
    activation: Activation,
}

impl ConvolutionSection {
    fn read(section: &Section) -> Result<ConvolutionSection> {
        let known = [
            "batch_normalize",
            "filters",
            "size",
            "stride",
            "stride_x",
            "stride_y",
            "pad",
            "padding",
            "groups",
            "activation",
        ];
        let fixed = [
            ("dilation", 1.0),
            ("antialiasing", 0.0),
            ("binary", 0.0),
            ("xnor", 0.0),
            ("bin_output", 0.0),
            ("flipped", 0.0),
            ("coordconv", 0.0),
            ("cbn", 0.0),
            ("dontload", 0.0),
        ];
        section.check(&known, &TRAINING_CONVOLUTION, &fixed)?;
        section.required("filters")?;
        let filters = section.number("filters", 0, 1..=MOST_CHANNELS)?;
        let size = section.number("size", 1, 1..=LARGEST_KERNEL)?;
        if size.is_multiple_of(2) {
            let line = section.find("size")?.map_or(section.line, |entry| entry.line);
            return Err(section.error(line, format!("a kernel of side {size} is not supported: odd ones are")));
        }
        let padding = match section.number("pad", 0, 0..=1)? {
            1 => size / 2,
            _ => section.number("padding", 0, 0..=LARGEST_KERNEL)?,
        };
        if padding != size / 2 {
            let problem =
                format!("a border of {padding} for a kernel of {size} is not supported: {} (pad=1) is", size / 2);
            return Err(section.error(section.line, problem));
        }
        Ok(ConvolutionSection {
            filters,
            size,
            stride: stride(section, 1)?,
            groups: section.number("groups", 1, 1..=MOST_CHANNELS)?,
            norm: section.number("batch_normalize", 0, 0..=1)? == 1,
            // Darknet's default.
            activation: section.activation("logistic")?,
        })
    }
}

/// 1 or 2, the same in both directions.
fn stride(section: &Section, default: usize) -> Result<usize> {
    let stride = section.number("stride", default, 1..=2)?;
    for key in ["stride_x", "stride_y"] {
        if section.number(key, stride, 1..=2)? != stride {
            return Err(section.error(section.line, "strides that differ by direction are not supported"));
        }
    }
    Ok(stride)
}

impl Description {
    /// The masks of all heads, in the order of the cfg.
    pub fn masks(&self) -> Masks {
        self.heads.iter().map(|head| head.mask.clone()).collect()
    }

    /// Assigns other anchors of the cfg to the heads.
    ///
    /// # Errors
    ///
    /// [`Error::Option`]: the number of lists or the length of a list is wrong, or an anchor is not in the cfg.
    pub fn set_masks(&mut self, masks: &Masks) -> Result<()> {
        let refuse = |problem: String| Err(Error::Option { option: "--masks", problem });
        if masks.len() != self.heads.len() {
            return refuse(format!("has {} lists, the cfg {} [yolo] sections", masks.len(), self.heads.len()));
        }
        for (i, (head, mask)) in self.heads.iter().zip(masks).enumerate() {
            if mask.len() != head.mask.len() {
                return refuse(format!(
                    "list {} has {} numbers, its head {} anchors",
                    i + 1,
                    mask.len(),
                    head.mask.len()
                ));
            }
            if let Some(number) = mask.iter().find(|number| **number >= head.anchors.len()) {
                return refuse(format!(
                    "{number} names none of the {} anchors: they count from 0",
                    head.anchors.len()
                ));
            }
        }
        for (head, mask) in self.heads.iter_mut().zip(masks) {
            head.mask.clone_from(mask);
        }
        Ok(())
    }

    /// Converts the network to our own description.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] if the layers are inconsistent, [`Error::Cfg`] if the input size is not a multiple of the
    /// largest stride.
    pub fn network(&self, path: &Path, name: String) -> Result<Network> {
        // Our heads read the finest map first, Darknet's mostly the coarsest.
        let mut heads: Vec<&YoloHead> = self.heads.iter().collect();
        heads.sort_by_key(|head| head.stride);
        let anchors =
            heads.iter().map(|head| head.mask.iter().map(|&number| head.anchors[number]).collect()).collect();
        let mut layers = self.layers.clone();
        let mut xy_scales: Vec<f32> = heads.iter().map(|head| head.xy_scale).collect();
        if xy_scales.iter().all(|scale| *scale == 1.0) {
            xy_scales.clear(); // As in YOLOv3, whose description has none.
        }
        let kind = LayerKind::Detect { head: Head::Anchors { anchors, xy_scales } };
        let from = heads.iter().map(|head| head.map.clone()).collect();
        layers.push(Layer { from, ..Layer::new("detect", kind) });
        let network = Network { name, classes: self.classes, names: Vec::new(), layers };
        let (width, height) = self.input_px;
        let graph = network.graph()?;
        if let Err(error) = graph.check_size("[net] width and height", width, height) {
            let problem = error.to_string();
            let problem = problem.trim_start_matches("option ").to_owned();
            return Err(Error::Cfg { path: PathBuf::from(path), line: self.net_line, problem });
        }
        Ok(network)
    }
}
