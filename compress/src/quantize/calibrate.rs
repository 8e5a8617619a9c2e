//! Runs the float network to find the ranges of its activations and the error of quantisation.

use std::io::Cursor;
use std::path::PathBuf;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use micro_yolo::{Detector, InputSize};
use tract_onnx::prelude::*;

use super::{Histogram, Method, Scale, Windows, places};
use crate::checkpoint::Weights;
use crate::data::{BadData, Photo};
use crate::error::{Error, Result};
use crate::export::{self, Storage};
use crate::network::Network;

/// Statistics of a network's activations on some photographs.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// For each node, the index of its output's scale; see [`places`].
    pub places: Vec<Option<usize>>,
    /// For each scale, the values of its activations.
    pub histograms: Vec<Histogram>,
    /// For each node, statistics of the windows that a convolution reads.
    pub windows: Vec<Option<Windows>>,
}

impl Calibration {
    /// For each index, the scale that `method` chooses.
    pub fn scales(&self, method: Method) -> Vec<Scale> {
        self.histograms.iter().map(|histogram| histogram.scale(method)).collect()
    }
}

/// A photograph, letterboxed as in training for a network of `side` × `side` pixels: `[1, 3, side, side]`, RGB in 0–1,
/// centred on a grey of 114/255.
///
/// `micro_yolo`'s letterbox follows the same rules but does not round to bytes, so its values differ slightly. This one
/// is kept, because the scales of the released models were chosen with it.
pub fn letterboxed(photo: &Photo, side: usize) -> Result<Vec<f32>, String> {
    let longest = photo.width.max(photo.height) as f32;
    let scaled = |length: u32| ((length as f32 * side as f32 / longest).round() as u32).clamp(1, side as u32);
    let (width, height) = (scaled(photo.width), scaled(photo.height));
    let source =
        ImageRef::new(photo.width, photo.height, &photo.rgb, PixelType::U8x3).map_err(|e| e.to_string())?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| e.to_string())?;
    let mut planes = vec![114.0 / 255.0; 3 * side * side];
    let (left, top) = ((side - width as usize) / 2, (side - height as usize) / 2);
    for (y, row) in target.buffer().chunks(3 * width as usize).enumerate() {
        for (x, pixel) in row.chunks(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                planes[(channel * side + top + y) * side + left + x] = f32::from(*value) / 255.0;
            }
        }
    }
    Ok(planes)
}

pub(super) type Runnable = std::sync::Arc<TypedRunnableModel>;

/// Loads an ONNX file of this project so that it returns the tensors `outputs`.
fn load(onnx: &[u8], outputs: &[String]) -> TractResult<Runnable> {
    let mut model = tract_onnx::onnx().model_for_read(&mut Cursor::new(onnx))?;
    if !outputs.is_empty() {
        model.select_outputs_by_name(outputs)?;
    }
    model.into_optimized()?.into_runnable()
}

pub(super) fn run(model: &Runnable, image: &[f32], side: usize) -> TractResult<TVec<TValue>> {
    model.run(tvec!(Tensor::from_shape(&[1, 3, side, side], image)?.into_tvalue()))
}

pub(super) fn values(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

fn failed(what: &str) -> impl Fn(TractError) -> Error + '_ {
    move |error| Error::Quantisation(format!("{what}: {error:#}"))
}

/// At most `count` of the photographs in `files`, chosen by `seed` and letterboxed.
///
/// # Errors
///
/// A damaged photograph under [`BadData::Refuse`]. Otherwise it is reported and skipped.
pub fn photographs(
    mut files: Vec<PathBuf>,
    count: usize,
    side: usize,
    seed: u64,
    bad_data: BadData,
) -> Result<Vec<Vec<f32>>> {
    fastrand::Rng::with_seed(seed).shuffle(&mut files);
    let mut images = Vec::new();
    for file in files {
        if images.len() == count {
            break;
        }
        let image = Photo::read(&file).and_then(|photo| {
            letterboxed(&photo, side).map_err(|problem| Error::Data { path: file.clone(), problem })
        });
        match (image, bad_data) {
            (Ok(image), _) => images.push(image),
            (Err(error), BadData::Skip) => eprintln!("skipped: {error}"),
            (Err(error), BadData::Refuse) => return Err(error),
        }
    }
    Ok(images)
}

/// Runs the float network on `images` (see [`letterboxed`]) and collects histograms of its activations.
///
/// # Errors
///
/// Weights of another network, a side that does not fit, no images.
pub fn calibrate(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    progress: &dyn Fn(usize),
) -> Result<Calibration> {
    let graph = network.graph()?;
    if images.is_empty() {
        return Err(Error::Option {
            option: "--images",
            problem: "calibration needs at least one photograph".into(),
        });
    }
    let places = places(&graph);
    let count = places.iter().flatten().max().map_or(0, |last| last + 1);
    let mut histograms = vec![Histogram::default(); count];
    let mut windows: Vec<Option<Windows>> = graph.nodes.iter().map(Windows::new).collect();
    let is_read = |id: usize| {
        graph.nodes.iter().zip(&windows).any(|(node, windows)| windows.is_some() && node.inputs[0] == id)
    };
    let watched: Vec<usize> = (1..graph.nodes.len())
        .filter(|&id| is_read(id) || places[id].is_some() && is_computed(&graph, id))
        .collect();
    let mut take = |id: usize, values: &[f32], height: usize, width: usize| {
        // Maps that are only moved have the values of their inputs.
        if let Some(place) = places[id].filter(|_| is_computed(&graph, id)) {
            values.iter().for_each(|value| histograms[place].add(*value));
        }
        for (node, windows) in graph.nodes.iter().zip(&mut windows) {
            if let Some(windows) = windows.as_mut().filter(|_| node.inputs[0] == id) {
                windows.add(values, height, width);
            }
        }
    };
    images.iter().for_each(|image| take(0, image, side, side));
    watch(network, weights, images, side, &watched, progress, take)?;
    if let Some(place) = places[0] {
        // The input range is that of any photograph, black to white.
        [0.0, 1.0].iter().for_each(|value| histograms[place].add(*value));
    }
    Ok(Calibration { places, histograms, windows })
}

/// Runs the float network on `images` (see [`letterboxed`]). Passes the outputs of the nodes `watched` to `take`: the
/// node, its map `[C, height, width]`, height and width.
///
/// # Errors
///
/// Weights of another network, a side that does not fit.
pub(crate) fn watch(
    network: &Network,
    weights: &Weights,
    images: &[Vec<f32>],
    side: usize,
    watched: &[usize],
    progress: &dyn Fn(usize),
    mut take: impl FnMut(usize, &[f32], usize, usize),
) -> Result<()> {
    let graph = network.graph()?;
    let names: Vec<String> = watched.iter().map(|&id| graph.nodes[id].name.clone()).collect();
    let onnx = export::to_onnx(network, weights, (side, side), Storage::Single)?;
    let model = load(&onnx, &names).map_err(failed("the float network does not load"))?;
    for (i, image) in images.iter().enumerate() {
        let outputs = run(&model, image, side).map_err(failed("the float network does not run"))?;
        for (id, output) in watched.iter().zip(&outputs) {
            let shape = output.shape();
            take(*id, values(output).map_err(failed("an activation is no float"))?, shape[2], shape[3]);
        }
        progress(i + 1);
    }
    Ok(())
}

/// Whether a node computes values instead of moving them.
fn is_computed(graph: &crate::network::Graph, id: usize) -> bool {
    use crate::network::Op;
    !matches!(graph.nodes[id].op, Op::MaxPool { .. } | Op::Upsample { .. } | Op::Concat | Op::Slice { .. })
}

/// The class scores of a network, one list per image.
pub type Scores = Vec<Vec<f32>>;

/// Runs an ONNX file in the detector's engine on `images` (see [`letterboxed`]) and returns its class scores.
///
/// # Errors
///
/// The file does not load or run.
pub fn scores(onnx: &[u8], images: &[Vec<f32>], side: usize) -> Result<Scores> {
    let mut detector = Detector::builder().build_with_model(&load_at(onnx, side)?)?;
    images.iter().map(|image| Ok(detector.scores(image)?)).collect()
}

/// Whether the detector's engine runs an ONNX file alone, without tract.
pub fn runs_in_engine(onnx: &[u8], side: usize) -> bool {
    load_at(onnx, side).is_ok_and(|model| model.foreign_nodes().is_empty())
}

/// Loads an ONNX file for an input of `side` × `side` pixels. The size is only requested if the file declares another
/// size or none, because some files do not load with a requested size, even if it is their own.
fn load_at(onnx: &[u8], side: usize) -> micro_yolo::Result<micro_yolo::Model> {
    let size = InputSize { width: side as u32, height: side as u32 };
    match micro_yolo::Model::from_onnx(onnx) {
        Ok(model) if model.input_size() == size => Ok(model),
        _ => micro_yolo::Model::with_input_size(onnx, size),
    }
}

/// The relative error of `scores`: the sum of the squared differences to `exact`, divided by the sum of the squares of
/// `exact`.
pub fn noise(exact: &Scores, scores: &Scores) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (exact, score) in exact.iter().flatten().zip(scores.iter().flatten()) {
        off += f64::from(exact - score).powi(2);
        all += f64::from(*exact).powi(2);
    }
    if all > 0.0 { off / all } else { 0.0 }
}
