//! `micro-yolo detect`.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use micro_yolo::{Class, Detection, Detector, ImageView};
use serde_json::{Value, json};

use crate::args::DetectArgs;
use crate::draw;

const DEFAULT_MODEL: &str = "models/micro-yolo.onnx";

/// Usage errors end with clap's code.
const USAGE: u8 = 2;

pub fn run(args: &DetectArgs) -> ExitCode {
    if let Some(out) = args.draw.as_ref().filter(|out| args.images.len() > 1 && !out.is_dir()) {
        eprintln!(
            "error: --draw {} must be an existing folder, because there are {} images",
            out.display(),
            args.images.len()
        );
        return USAGE.into();
    }
    let mut detector = match load(args) {
        Ok(detector) => detector,
        Err(error) => {
            let is_option = error.downcast_ref::<micro_yolo::Error>().is_some_and(micro_yolo::Error::is_option);
            eprintln!("error: {}", with_causes(&*error));
            return if is_option { USAGE.into() } else { ExitCode::FAILURE };
        }
    };

    let mut failed = false;
    let mut answers = Vec::new();
    for path in &args.images {
        match detect(&mut detector, path, args) {
            Ok((image, found)) if args.json => answers.push(answer(path, &image, &found)),
            Ok((image, found)) => print(path, &image, &found),
            Err(error) => {
                failed = true;
                eprintln!("error: {}: {}", path.display(), with_causes(&*error));
                let code = error.downcast_ref().map_or("unreadable-file", micro_yolo::Error::code);
                answers.push(
                    json!({ "image": path.display().to_string(), "error": with_causes(&*error), "code": code }),
                );
            }
        }
    }
    if args.json {
        println!("{:#}", Value::Array(answers));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn load(args: &DetectArgs) -> Result<Detector, Box<dyn Error>> {
    let path = match &args.model {
        Some(path) => path.clone(),
        None => {
            default_model().ok_or_else(|| format!("there is no {DEFAULT_MODEL} here; name a model with --model"))?
        }
    };
    let limits = args.limits();
    let onnx = read(&path, limits.memory_bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut builder =
        Detector::builder().score_threshold(args.score).iou_threshold(args.iou).max_detections(args.max);
    builder = builder.threads(args.threads).limits(limits);
    if let Some(classes) = &args.classes {
        let class = |name: &String| name.parse().map_or_else(|_| Class::from(name.as_str()), Class::Index);
        builder = builder.classes(classes.iter().map(class));
    }
    if let Some((width, height)) = args.imgsz {
        builder = builder.input_size(width, height);
    }
    builder.build(&onnx).map_err(|error| match error.code() {
        // The library names its own option.
        "model-too-large" => {
            format!("{}: {error}; here it is --max-memory, --max-nodes or --max-work", path.display()).into()
        }
        _ => error.into(),
    })
}

/// Reads a file of at most so many bytes, also where the system does not tell its length (a pipe, a device).
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "it has more than the {most} bytes of memory that a model may take; --max-memory raises it"
        )
        .into());
    }
    Ok(bytes)
}

/// `models/micro-yolo.onnx` in the current folder, beside this program, or in a folder above either.
fn default_model() -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let mut found =
        starts.iter().flatten().flat_map(|start| start.ancestors()).map(|folder| folder.join(DEFAULT_MODEL));
    found.find(|path| path.is_file())
}

fn detect(
    detector: &mut Detector,
    path: &Path,
    args: &DetectArgs,
) -> Result<(DynamicImage, Vec<Detection>), Box<dyn Error>> {
    let image = open(path)?;
    let (width, height) = (image.width(), image.height());
    let found = if image.color().has_alpha() {
        let pixels = image.to_rgba8();
        detector.detect(ImageView::rgba(&pixels, width, height)?)?
    } else {
        let pixels = image.to_rgb8();
        detector.detect(ImageView::rgb(&pixels, width, height)?)?
    };
    if let Some(out) = &args.draw {
        let out = if out.is_dir() {
            out.join(path.file_stem().unwrap_or(path.as_os_str())).with_extension("png")
        } else {
            out.clone()
        };
        let mut canvas = image.to_rgb8();
        draw::draw(&mut canvas, &found);
        canvas.save(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    Ok((image, found))
}

/// Decodes an image file, turned the way its camera was held.
fn open(path: &Path) -> Result<DynamicImage, Box<dyn Error>> {
    // The format is taken from the content: endings lie.
    let mut decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn print(path: &Path, image: &DynamicImage, found: &[Detection]) {
    println!("{} ({} x {} px)", path.display(), image.width(), image.height());
    for Detection { label, score, bbox, .. } in found {
        println!(
            "  {label} {score:.2}  x {:.0}, y {:.0}, width {:.0}, height {:.0}",
            bbox.x, bbox.y, bbox.width, bbox.height
        );
    }
    if found.is_empty() {
        println!("  nothing found");
    }
}

fn answer(path: &Path, image: &DynamicImage, found: &[Detection]) -> Value {
    let objects = found.iter().map(|Detection { class, label, score, bbox }| {
        json!({
            "label": &**label,
            "classId": class,
            "score": score,
            "box": { "x": bbox.x, "y": bbox.y, "width": bbox.width, "height": bbox.height },
        })
    });
    json!({
        "image": path.display().to_string(),
        "width": image.width(),
        "height": image.height(),
        "objects": objects.collect::<Vec<_>>(),
    })
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
