//! Imports NanoDet-Plus from the TorchScript module that distillation uses as a teacher.

use std::path::Path;

use tch::{CModule, Kind, Tensor};

use super::Imported;
use crate::checkpoint::{self, Array, Weights};
use crate::error::{Error, Result};
use crate::zoo::nanodet_plus::{BINS, BLOCKS, NanodetPlus, STRIDES, Widths};

/// The module subtracts these values from blue, green and red in 0–255 …
const MEAN: [f32; 3] = [103.53, 116.28, 123.675];
/// … and divides by these.
const DEVIATION: [f32; 3] = [57.375, 57.12, 58.395];
/// Prefix of the names of the module's convolutions.
const PREFIX: &str = "core.n.m.";

/// For each stage, the module's first convolutions: left depthwise and pointwise; right expansion, depthwise and
/// reduction. Then the numbers of the first 1×1 and the first depthwise convolution of its blocks.
const STAGES: [([&str; 5], [usize; 2]); 3] = [
    (["convdw_162", "convrelu_3", "convrelu_1", "convdw_163", "convrelu_2"], [4, 164]),
    (["convdw_167", "convrelu_12", "convrelu_10", "convdw_168", "convrelu_11"], [13, 169]),
    (["convdw_176", "convrelu_29", "convrelu_27", "convdw_177", "convrelu_28"], [30, 178]),
];

/// A step of the pyramid: both Ghost modules, and the DSConv parallel to them.
const GHOSTS: [(&str, [&str; 6]); 4] = [
    ("top16", ["convrelu_38", "convdwrelu_0", "conv_56", "convdw_182", "convdw_183", "conv_57"]),
    ("top8", ["convrelu_40", "convdwrelu_1", "conv_59", "convdw_185", "convdw_186", "conv_60"]),
    ("bottom16", ["convrelu_42", "convdwrelu_3", "conv_63", "convdw_189", "convdw_190", "conv_64"]),
    ("bottom32", ["convrelu_44", "convdwrelu_5", "conv_67", "convdw_193", "convdw_194", "conv_68"]),
];

/// The DSConv between the maps of the pyramid.
const SHRINKS: [(&str, [&str; 2]); 4] = [
    ("shrink8", ["convdwrelu_2", "convrelu_41"]),
    ("shrink16", ["convdwrelu_4", "convrelu_43"]),
    ("extra64", ["convdwrelu_6", "convrelu_46"]),
    ("shrink32", ["convdwrelu_7", "convrelu_45"]),
];

const LATERALS: [&str; 3] = ["convrelu_39", "convrelu_37", "convrelu_36"];

/// The heads, stride by stride: two DSConv, and the 1×1 convolution for scores and distances.
const HEADS: [[&str; 5]; 4] = [
    ["convdwrelu_8", "convrelu_47", "convdwrelu_9", "convrelu_54", "conv_73"],
    ["convdwrelu_10", "convrelu_48", "convdwrelu_11", "convrelu_53", "conv_76"],
    ["convdwrelu_12", "convrelu_49", "convdwrelu_13", "convrelu_52", "conv_79"],
    ["convdwrelu_14", "convrelu_50", "convdwrelu_15", "convrelu_51", "conv_82"],
];

/// Reads NanoDet-Plus-m as TorchScript, with the names of its ncnn form, as the built-in network `nanodet_plus`.
///
/// The result is the same, except at the image's border: the module pads the image with its mean colour, this network
/// with black.
///
/// # Errors
///
/// [`Error::Teacher`]: not a module, or one with other convolutions. [`Error::Option`]: names that do not fit.
pub fn nanodet(path: &Path, names: Option<&Path>) -> Result<Imported> {
    let wrong = |problem: String| Error::Teacher { path: path.to_owned(), problem };
    let module = CModule::load(path).map_err(|error| wrong(error.to_string()))?;
    let parameters = module.named_parameters().map_err(|error| wrong(error.to_string()))?;
    let mut found = Weights::new();
    for (name, tensor) in parameters {
        if let Some(name) = name.strip_prefix(PREFIX) {
            found.insert(name.to_owned(), array(&tensor).map_err(|error| wrong(error.to_string()))?);
        }
    }
    let (nanodet, weights) = take_over(&found).map_err(wrong)?;
    let mut network = nanodet.network;
    let mut notes = Vec::new();
    if let Some(path) = names {
        network.names = super::read_names(path, network.classes, &mut notes)?;
    }
    checkpoint::check(&network.graph()?, &weights)
        .map_err(|problem| Error::Teacher { path: path.to_owned(), problem })?;
    Ok(Imported { network, weights, input_px: (416, 416), notes })
}

fn array(tensor: &Tensor) -> std::result::Result<Array, tch::TchError> {
    let tensor = tensor.detach().to_kind(Kind::Float).contiguous();
    let shape = tensor.size().into_iter().map(|length| length as usize).collect();
    Ok(Array { shape, values: Vec::try_from(tensor.flatten(0, -1))? })
}

/// The network for a module with these convolutions, and its weights.
fn take_over(module: &Weights) -> std::result::Result<(NanodetPlus, Weights), String> {
    let part = |original: &str, part: &str| {
        let name = format!("{original}.{part}");
        module.get(&name).cloned().ok_or_else(|| format!("has no `{PREFIX}{name}`: it is no NanoDet-Plus-m"))
    };
    let outputs = |original: &str| part(original, "bias").map(|bias| bias.values.len());
    let mut stages = [0; 3];
    for (width, ([_, left, ..], _)) in stages.iter_mut().zip(STAGES) {
        *width = 2 * outputs(left)?;
    }
    let widths = Widths { stem: outputs("convrelu_0")?, stages, pyramid: outputs(LATERALS[0])? };
    let classes = outputs(HEADS[0][4])?.checked_sub(4 * BINS).filter(|&classes| classes > 0);
    let classes = classes.ok_or_else(|| format!("`{}` has no outputs for classes", HEADS[0][4]))?;
    let nanodet = NanodetPlus::new(classes, &widths);
    let mut weights = Weights::new();
    let mut put = |node: &str, weight: Array, bias: Array| {
        weights.insert(format!("{node}.conv.weight"), weight);
        weights.insert(format!("{node}.conv.bias"), bias);
    };
    for (node, original) in pairs() {
        let (mut weight, mut bias) = (part(&original, "weight")?, part(&original, "bias")?);
        let (layer, step) = node.rsplit_once('.').unwrap_or((&node, ""));
        // In a DSConv both convolutions have as many channels as the input, in an MBConv only the expansion has.
        let is_ds_conv = layer.ends_with('l');
        match (nanodet.order.get(layer), step) {
            (Some(order), "depthwise") if is_ds_conv => (weight, bias) = (rows(&weight, order), rows(&bias, order)),
            (Some(order), "pointwise" | "expand" | "") => weight = columns(&weight, order),
            _ => {}
        }
        put(&node, weight, bias);
    }
    let (weight, bias) = rgb(&part("convrelu_0", "weight")?, &part("convrelu_0", "bias")?);
    put("stem", weight, bias);
    for (stride, names) in STRIDES.into_iter().zip(HEADS) {
        let (weight, bias) = (part(names[4], "weight")?, part(names[4], "bias")?);
        let both: Vec<usize> = (0..bias.values.len()).collect();
        let (scores, sides) = both.split_at(classes.min(both.len()));
        put(&format!("scores{stride}"), rows(&weight, scores), rows(&bias, scores));
        put(&format!("sides{stride}"), rows(&weight, sides), rows(&bias, sides));
    }
    Ok((nanodet, weights))
}

/// The convolutions that are copied, possibly with their channels in another order: our name and the module's.
fn pairs() -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut pair = |ours: String, original: &str| pairs.push((ours, original.to_owned()));
    for (stage, ((names, [first, depthwise]), blocks)) in (2..).zip(STAGES.into_iter().zip(BLOCKS)) {
        let ours = ["l.depthwise", "l.pointwise", "r.expand", "r.depthwise", "r.project"];
        for (part, original) in ours.into_iter().zip(names) {
            pair(format!("down{stage}{part}"), original);
        }
        for block in 0..blocks {
            let name = format!("block{stage}_{}", block + 1);
            pair(format!("{name}.expand"), &format!("convrelu_{}", first + 2 * block));
            pair(format!("{name}.depthwise"), &format!("convdw_{}", depthwise + block));
            pair(format!("{name}.project"), &format!("convrelu_{}", first + 2 * block + 1));
        }
    }
    for (stride, original) in STRIDES.into_iter().zip(LATERALS) {
        pair(format!("lateral{stride}"), original);
    }
    for (name, originals) in GHOSTS {
        let ours = ["a.primary", "a.cheap", "b.primary", "b.cheap", "s.depthwise", "s.pointwise"];
        ours.into_iter().zip(originals).for_each(|(part, original)| pair(format!("{name}{part}"), original));
    }
    for (name, [depthwise, pointwise]) in SHRINKS {
        pair(format!("{name}.depthwise"), depthwise);
        pair(format!("{name}.pointwise"), pointwise);
    }
    for (stride, originals) in STRIDES.into_iter().zip(HEADS) {
        let ours = ["a.depthwise", "a.pointwise", "b.depthwise", "b.pointwise"];
        ours.into_iter().zip(originals).for_each(|(part, original)| pair(format!("head{stride}{part}"), original));
    }
    pairs
}

/// Converts the first convolution to RGB in 0–1 from normalised BGR in 0–255.
fn rgb(weight: &Array, bias: &Array) -> (Array, Array) {
    let mut weight = columns(weight, &[2, 1, 0]);
    let mut bias = bias.clone();
    let taps = weight.shape[2..].iter().product::<usize>();
    for (filter, bias) in weight.values.chunks_mut(3 * taps).zip(&mut bias.values) {
        for (colour, kernel) in filter.chunks_mut(taps).enumerate() {
            let (mean, deviation) = (MEAN[2 - colour], DEVIATION[2 - colour]);
            *bias -= kernel.iter().sum::<f32>() * mean / deviation;
            kernel.iter_mut().for_each(|value| *value *= 255.0 / deviation);
        }
    }
    (weight, bias)
}

/// The outputs with these numbers. Missing ones are left out, which [`checkpoint::check`] reports.
fn rows(array: &Array, order: &[usize]) -> Array {
    let row = array.values.len() / array.shape[0].max(1);
    let rows = order.iter().filter_map(|&index| array.values.chunks_exact(row).nth(index));
    let values: Vec<f32> = rows.flatten().copied().collect();
    let shape = [&[order.len()], &array.shape[1..]].concat();
    Array { shape, values }
}

/// The inputs with these numbers of a convolution's weights.
fn columns(weight: &Array, order: &[usize]) -> Array {
    let taps = weight.shape[2..].iter().product::<usize>();
    let row = weight.shape[1] * taps;
    let mut values = Vec::with_capacity(weight.values.len());
    for row in weight.values.chunks_exact(row.max(1)) {
        let taken = order.iter().filter_map(|&index| row.chunks_exact(taps).nth(index));
        values.extend(taken.flatten());
    }
    let shape = [&[weight.shape[0], order.len()], &weight.shape[2..]].concat();
    Array { shape, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Map, run};

    const WIDTHS: Widths = Widths { stem: 4, stages: [12, 20, 28], pyramid: 8 };
    const CLASSES: usize = 3;

    /// Convolutions of a module with few channels, with random values.
    fn module() -> Weights {
        let nanodet = NanodetPlus::new(CLASSES, &WIDTHS);
        let specs = checkpoint::tensors(&nanodet.network.graph().unwrap());
        let shape = |name: &str| specs.iter().find(|spec| spec.name == name).unwrap().shape.clone();
        let mut random = fastrand::Rng::with_seed(3);
        let mut module = Weights::new();
        let mut put = |name: &str, shape: Vec<usize>| {
            let inputs: usize = shape[1..].iter().product();
            let mut values = |count: usize, most: f32| -> Vec<f32> {
                (0..count).map(|_| (random.f32() * 2.0 - 1.0) * most).collect()
            };
            let weights = values(shape.iter().product(), (6.0 / inputs as f32).sqrt());
            module.insert(format!("{name}.bias"), Array { shape: vec![shape[0]], values: values(shape[0], 0.1) });
            module.insert(format!("{name}.weight"), Array { shape, values: weights });
        };
        put("convrelu_0", shape("stem.conv.weight"));
        for (ours, original) in pairs() {
            put(&original, shape(&format!("{ours}.conv.weight")));
        }
        for names in HEADS {
            put(names[4], vec![CLASSES + 4 * BINS, WIDTHS.pyramid, 1, 1]);
        }
        module
    }

    /// The outputs of ShuffleNetV2's stages, as its authors define them: halves, and a shuffle after each block.
    fn stages(module: &Weights, image: Tensor) -> Vec<Tensor> {
        let conv = |x: &Tensor, name: &str, stride: i64, leaky: bool| {
            let (weight, bias) = (&module[&format!("{name}.weight")], &module[&format!("{name}.bias")]);
            let shape: Vec<i64> = weight.shape.iter().map(|&length| length as i64).collect();
            let groups = if shape[1] == 1 { shape[0] } else { 1 };
            let pad = shape[2] / 2;
            let weight = Tensor::from_slice(&weight.values).reshape(&shape);
            let out =
                x.conv2d(&weight, Some(Tensor::from_slice(&bias.values)), [stride; 2], [pad; 2], [1; 2], groups);
            if leaky { out.maximum(&(&out * 0.1)) } else { out }
        };
        let shuffle = |halves: [Tensor; 2]| {
            let (batch, half, height, width) = halves[0].size4().unwrap();
            Tensor::stack(&halves, 2).reshape([batch, 2 * half, height, width])
        };
        let mut x = image;
        let mut stages = Vec::new();
        for ((names, [first, depthwise]), blocks) in STAGES.into_iter().zip(BLOCKS) {
            let left = conv(&conv(&x, names[0], 2, false), names[1], 1, true);
            let right = conv(&conv(&conv(&x, names[2], 1, true), names[3], 2, false), names[4], 1, true);
            x = shuffle([left, right]);
            for block in 0..blocks {
                let [passed, taken]: [Tensor; 2] = x.chunk(2, 1).try_into().unwrap();
                let inside = conv(&taken, &format!("convrelu_{}", first + 2 * block), 1, true);
                let inside = conv(&inside, &format!("convdw_{}", depthwise + block), 1, false);
                let out = conv(&inside, &format!("convrelu_{}", first + 2 * block + 1), 1, true);
                x = shuffle([passed, out]);
            }
            stages.push(x.shallow_clone());
        }
        for (x, name) in stages.iter_mut().zip(LATERALS) {
            *x = conv(x, name, 1, true);
        }
        stages
    }

    #[test]
    fn slices_and_concatenations_compute_what_splits_and_shuffles_do() {
        let module = module();
        let (nanodet, weights) = take_over(&module).unwrap();
        let graph = nanodet.network.graph().unwrap();
        checkpoint::check(&graph, &weights).unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let image =
            Map { channels: 3, height: 64, width: 64, values: (0..3 * 64 * 64).map(|_| random.f32()).collect() };
        let maps = run(&graph, &weights, image);
        let of = |name: &str| {
            let node = graph.nodes.iter().position(|node| node.name == name).unwrap();
            let Map { channels, height, width, values } = &maps[node];
            Tensor::from_slice(values).reshape([1, *channels as i64, *height as i64, *width as i64])
        };
        for (expected, name) in stages(&module, of("pool")).into_iter().zip(["lateral8", "lateral16", "lateral32"])
        {
            let error = (of(name) - &expected).abs().max().double_value(&[]);
            let size = expected.abs().max().double_value(&[]);
            assert!(size > 0.0 && error < 1e-4 * size, "{name}: {error} of {size}");
        }
    }

    #[test]
    fn the_stem_takes_rgb_from_0_to_1() {
        let weight = Array { shape: vec![1, 3, 1, 1], values: vec![1.0, 10.0, 100.0] };
        let bias = Array { shape: vec![1], values: vec![0.5] };
        let (ours, shift) = rgb(&weight, &bias);
        let colour = [0.2, 0.4, 0.6];
        let normalised = |bgr: usize| (colour[2 - bgr] * 255.0 - MEAN[bgr]) / DEVIATION[bgr];
        let expected: f32 = 0.5 + normalised(0) + 10.0 * normalised(1) + 100.0 * normalised(2);
        let actual: f32 = shift.values[0] + ours.values.iter().zip(colour).map(|(w, x)| w * x).sum::<f32>();
        assert!((actual - expected).abs() < 1e-3, "{actual}, not {expected}");
    }

    #[test]
    fn another_module_is_refused_by_what_it_lacks() {
        let mut module = module();
        module.remove("convdw_170.weight");
        let problem = take_over(&module).err().unwrap();
        assert!(problem.contains("convdw_170.weight") && problem.contains("NanoDet-Plus"), "{problem}");
        let (_, weights) = take_over(&self::module()).unwrap();
        assert!(weights.len() > 100);
    }
}
