//! The command line's arguments.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use micro_yolo::{DEFAULT_IOU_THRESHOLD, DEFAULT_MAX_DETECTIONS, DEFAULT_SCORE_THRESHOLD, Limits};

/// Finds objects in images with a small YOLO network.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Detect(DetectArgs),
}

/// Find the objects in image files (JPEG, PNG, WebP).
///
/// Prints one line per object: label, score, and the box in pixels of the image as a viewer shows it (EXIF
/// orientation applied). With --json, prints an array with one element per image:
///
///   [{"image": "cat.jpg", "width": 451, "height": 300, "objects":
///     [{"label": "cat", "classId": 15, "score": 0.93, "box": {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}}]}]
///
/// An image that cannot be read has "error" and "code" in place of width, height and objects. If only the drawn image
/// cannot be written, it has all of them, and the code is "unwritable-file". A JPEG file that ends too early
/// is processed all the same: "warning" says so, as does a line on standard error.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct DetectArgs {
    /// The image files.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// The model, an ONNX file. Default: models/micro-yolo.onnx in the current folder, in the folder of this
    /// program, or in a folder above either.
    #[arg(long, value_name = "ONNX")]
    pub model: Option<PathBuf>,
    /// Write the image with its boxes to this file (PNG, JPEG or WebP by its ending). For several images, a folder:
    /// cat.jpg becomes OUT/cat.png. None of the images is overwritten.
    #[arg(long, value_name = "OUT")]
    pub draw: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// The minimum score of a detection, 0 to 1.
    #[arg(long, value_name = "SCORE", default_value_t = DEFAULT_SCORE_THRESHOLD)]
    pub score: f32,
    /// The maximum overlap (intersection over union) of two detections of one class, 0 to 1.
    #[arg(long, value_name = "IOU", default_value_t = DEFAULT_IOU_THRESHOLD)]
    pub iou: f32,
    /// The maximum number of detections per image.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_MAX_DETECTIONS)]
    pub max: usize,
    /// Only these classes: labels or numbers, separated by commas.
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub classes: Option<Vec<String>>,
    /// The size in pixels to which images are scaled, multiples of 32: 320, or 416x256 (width x height).
    /// Default: the model's own.
    #[arg(long, value_name = "SIZE", value_parser = input_size)]
    pub imgsz: Option<(u32, u32)>,
    /// The number of threads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// The maximum memory for the model, in megabytes (1,000,000 bytes), computed before it is allocated.
    /// Default: 1,073, enough for YOLOv8x at 640 px. A model beyond a limit is refused with exit code 1.
    #[arg(long, value_name = "MB")]
    pub max_memory: Option<u64>,
    /// The maximum number of the model's nodes, inputs, outputs and stored tensors together. Default: 20,000.
    #[arg(long, value_name = "COUNT")]
    pub max_nodes: Option<u64>,
    /// The maximum work for one image, in billions of multiply-accumulates, counted before the model runs.
    /// Default: 500, about ten seconds on one core.
    #[arg(long, value_name = "BILLIONS", value_parser = billions)]
    pub max_work: Option<u64>,
}

/// Parses a number of billions.
fn billions(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(billions) if billions >= 0.0 => Ok((billions * 1e9) as u64), // Saturates; false for NaN.
        _ => Err("it is no number from 0".to_owned()),
    }
}

fn input_size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.trim().parse::<u32>().map_err(|_| format!("{text:?} is no number of pixels"));
    match text.split_once('x') {
        Some((width, height)) => Ok((side(width)?, side(height)?)),
        None => side(text).map(|side| (side, side)),
    }
}

impl DetectArgs {
    /// The limits for the model.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(megabytes) = self.max_memory {
            limits.memory_bytes = megabytes.saturating_mul(1_000_000);
        }
        limits.nodes = self.max_nodes.unwrap_or(limits.nodes);
        limits.macs = self.max_work.unwrap_or(limits.macs);
        limits
    }
}
