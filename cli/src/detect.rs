//! `micro-yolo detect`.

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use micro_yolo::{Class, Detection, Detector, ImageView, MAX_SIDE_PX};
use serde_json::{Value, json};

use crate::args::DetectArgs;
use crate::{draw, jpeg};

const DEFAULT_MODEL: &str = "models/micro-yolo.onnx";

/// The largest image file, as in the npm package.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Usage errors end with clap's code.
const USAGE: u8 = 2;

/// Why an image has no result, or no drawn image.
struct Failure {
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

impl From<micro_yolo::Error> for Failure {
    fn from(error: micro_yolo::Error) -> Failure {
        Failure::new(error.code(), with_causes(&error))
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        let hint = match error {
            ImageError::Unsupported(_) => "; convert it to JPEG, PNG or WebP",
            _ => "",
        };
        Failure::new("unreadable-file", with_causes(&error) + hint)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new("unreadable-file", with_causes(&error))
    }
}

pub fn run(args: &DetectArgs) -> ExitCode {
    let outputs = match outputs(args) {
        Ok(outputs) => outputs,
        Err(error) => {
            report(error);
            return USAGE.into();
        }
    };
    let mut detector = match load(args) {
        Ok(detector) => detector,
        Err(error) => {
            let is_option = error.downcast_ref::<micro_yolo::Error>().is_some_and(micro_yolo::Error::is_option);
            report(with_causes(&*error));
            return if is_option { USAGE.into() } else { ExitCode::FAILURE };
        }
    };
    match search(&mut detector, args, &outputs, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The output file of each drawn image; empty without `--draw`. The error names an output that would overwrite another
/// file of this call.
fn outputs(args: &DetectArgs) -> Result<Vec<PathBuf>, String> {
    let Some(out) = &args.draw else { return Ok(Vec::new()) };
    let is_folder = out.is_dir();
    if args.images.len() > 1 && !is_folder {
        let count = args.images.len();
        return Err(format!(
            "--draw {} must be an existing folder, because there are {count} images",
            out.display()
        ));
    }
    // Must come before a file of that name is created, or an existing one is emptied.
    if !is_folder && !ImageFormat::from_path(out).is_ok_and(|format| format.writing_enabled()) {
        return Err(format!("--draw {} must end in .png, .jpg or .webp, or be an existing folder", out.display()));
    }
    let output = |image: &PathBuf| {
        if !is_folder {
            return out.clone();
        }
        let mut name = image.file_stem().unwrap_or_default().to_owned();
        name.push(".png");
        out.join(name)
    };
    // Two paths can name one file. A file that does not exist yet has only the given path.
    let place = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let images: HashSet<_> = args.images.iter().map(place).collect();
    let outputs: Vec<_> = args.images.iter().map(output).collect();
    let mut taken = HashSet::new();
    for (image, output) in args.images.iter().zip(&outputs) {
        let place = place(output);
        if images.contains(&place) {
            return Err(format!("--draw would overwrite the image {}; name another place", output.display()));
        }
        if !taken.insert(place) {
            return Err(format!(
                "--draw would write {} twice, the second time for {}; draw images of one name into separate folders",
                output.display(),
                image.display()
            ));
        }
    }
    Ok(outputs)
}

/// Searches all images and prints the results. Returns whether everything succeeded. The error is that of `out`.
fn search(
    detector: &mut Detector,
    args: &DetectArgs,
    outputs: &[PathBuf],
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut succeeded = true;
    let mut answers = Vec::new();
    for (number, path) in args.images.iter().enumerate() {
        let mut answer = json!({ "image": path.display().to_string() });
        let result = match detect(detector, path) {
            Ok((Photo { image, is_cut }, found)) => {
                if is_cut {
                    let warning = "the file ends too early: the rest of the image is grey";
                    tell("warning", format_args!("{}: {warning}", path.display()));
                    answer["warning"] = warning.into();
                }
                // Printed before the image is drawn, so that a full disk does not lose it.
                if args.json {
                    add_objects(&mut answer, &image, &found);
                } else {
                    print(out, path, &image, &found)?;
                }
                outputs.get(number).map_or(Ok(()), |output| draw(output, &image, &found))
            }
            Err(error) => Err(error),
        };
        if let Err(Failure { code, message }) = result {
            succeeded = false;
            report(format_args!("{}: {message}", path.display()));
            answer["error"] = message.into();
            answer["code"] = code.into();
        }
        answers.push(answer);
    }
    if args.json {
        writeln!(out, "{:#}", Value::Array(answers))?;
    }
    out.flush()?;
    Ok(succeeded)
}

/// Reports an error.
fn report(message: impl Display) {
    tell("error", message);
}

/// Writes a line to standard error. If that is closed, nothing is written.
fn tell(what: &str, message: impl Display) {
    let _ = writeln!(io::stderr(), "{what}: {message}");
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
    let onnx = onnx.ok_or_else(|| {
        format!(
            "{}: it has more than the {} bytes of memory that a model may take; --max-memory raises it",
            path.display(),
            limits.memory_bytes
        )
    })?;
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
        // The library's message names the library's option, so replace it.
        "model-too-large" => {
            format!("{}: {error}; here it is --max-memory, --max-nodes or --max-work", path.display()).into()
        }
        _ if error.is_option() => error.into(),
        _ => format!("{}: {}", path.display(), with_causes(&error)).into(),
    })
}

/// Reads a file of at most `most` bytes. This works too if the system does not know its length (a pipe, a device).
/// `None` for a longer file.
fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// `models/micro-yolo.onnx` in the current folder, beside this program, or in a folder above either.
fn default_model() -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let mut found =
        starts.iter().flatten().flat_map(|start| start.ancestors()).map(|folder| folder.join(DEFAULT_MODEL));
    found.find(|path| path.is_file())
}

fn detect(detector: &mut Detector, path: &Path) -> Result<(Photo, Vec<Detection>), Failure> {
    let photo = open(path)?;
    let image = &photo.image;
    let (width, height) = (image.width(), image.height());
    let found = if image.color().has_alpha() {
        let pixels = image.to_rgba8();
        detector.detect(ImageView::rgba(&pixels, width, height)?)?
    } else {
        let pixels = image.to_rgb8();
        detector.detect(ImageView::rgb(&pixels, width, height)?)?
    };
    Ok((photo, found))
}

fn draw(out: &Path, image: &DynamicImage, found: &[Detection]) -> Result<(), Failure> {
    let mut canvas = image.to_rgb8();
    draw::draw(&mut canvas, found);
    canvas.save(out).map_err(|error| {
        Failure::new("unwritable-file", format!("cannot write {}: {}", out.display(), with_causes(&error)))
    })
}

/// An image file.
struct Photo {
    /// With its EXIF orientation applied.
    image: DynamicImage,
    /// Whether a part of it is missing.
    is_cut: bool,
}

/// Decodes an image file and applies its EXIF orientation.
fn open(path: &Path) -> Result<Photo, Failure> {
    // A pipe can be read only once, but decoders seek.
    let Some(bytes) = read(path, MAX_FILE_BYTES)? else {
        return Err(Failure::new("image-too-large", format!("the file has more than {MAX_FILE_BYTES} bytes")));
    };
    let is_cut = jpeg::is_cut(&bytes);
    // The format is taken from the content, because file extensions can be wrong.
    let mut decoder = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?.into_decoder()?;
    // `from_decoder` allocates memory for the size that the file declares.
    let (width, height) = decoder.dimensions();
    let too_large =
        |why: String| Failure::new("image-too-large", format!("the image is {width} x {height} px; {why}"));
    if width.max(height) > MAX_SIDE_PX {
        return Err(too_large(format!("a side may have at most {MAX_SIDE_PX} px, so scale it down first")));
    }
    let bytes = decoder.total_bytes();
    if Limits::default().reserve(bytes).is_err() {
        return Err(too_large(format!(
            "its pixels take {} MB, which is too much, so scale it down first",
            bytes / 1_000_000
        )));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(Photo { image, is_cut })
}

fn print(out: &mut impl Write, path: &Path, image: &DynamicImage, found: &[Detection]) -> io::Result<()> {
    writeln!(out, "{} ({} x {} px)", path.display(), image.width(), image.height())?;
    for Detection { label, score, bbox, .. } in found {
        writeln!(
            out,
            "  {label} {score:.2}  x {:.0}, y {:.0}, width {:.0}, height {:.0}",
            bbox.x, bbox.y, bbox.width, bbox.height
        )?;
    }
    if found.is_empty() {
        writeln!(out, "  nothing found")?;
    }
    Ok(())
}

fn add_objects(answer: &mut Value, image: &DynamicImage, found: &[Detection]) {
    let objects = found.iter().map(|Detection { class, label, score, bbox }| {
        json!({
            "label": &**label,
            "classId": class,
            "score": score,
            "box": { "x": bbox.x, "y": bbox.y, "width": bbox.width, "height": bbox.height },
        })
    });
    answer["objects"] = objects.collect();
    answer["width"] = image.width().into();
    answer["height"] = image.height().into();
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some messages already contain their cause.
        let why = error.to_string();
        if !text.contains(why.trim()) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text.trim().to_owned()
}
