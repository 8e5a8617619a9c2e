//! `compress evaluate`.

use std::path::{Path, PathBuf};

use compress::data::{BadData, Dataset};
use compress::evaluate::{self, Evaluation};
use compress::{Error, Result, checkpoint};
use indicatif::{ProgressBar, ProgressStyle};

/// Measures average precision of an ONNX file by the COCO protocol. The last two lines are `AP` and `AP50`.
#[derive(clap::Args)]
pub struct Evaluate {
    /// The ONNX file.
    #[arg(long)]
    model: PathBuf,
    /// Annotations in COCO's format. Categories are matched to the model's classes by name.
    #[arg(long)]
    annotations: PathBuf,
    /// The folder to which the file names in the annotations are relative.
    #[arg(long)]
    images: PathBuf,
    /// Side of the square input in pixels [default: the model's own].
    #[arg(long)]
    imgsz: Option<u32>,
    /// IoU threshold: of two detections of one class that overlap more, the one with the lower score is dropped.
    #[arg(long, default_value_t = evaluate::IOU_THRESHOLD)]
    iou_threshold: f32,
    /// Threads [default: all cores].
    #[arg(long)]
    threads: Option<usize>,
    /// What to do about images and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "refuse")]
    bad_data: BadData,
    /// Also writes all figures as JSON, including those of each category.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also writes all detections in COCO's results format.
    #[arg(long)]
    detections: Option<PathBuf>,
}

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let onnx = std::fs::read(&self.model).map_err(Error::io(&self.model))?;
        for (option, output) in [("--json", &self.json), ("--detections", &self.detections)] {
            let Some(output) = output else { continue };
            super::keep_inputs(option, output, [self.model.as_path(), &self.annotations])?;
            checkpoint::check_output(output)?;
        }
        let set = Dataset::read(&self.annotations, &self.images, self.bad_data)?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let options = evaluate::Options {
            side_px: self.imgsz,
            iou_threshold: self.iou_threshold,
            threads: self.threads.unwrap_or(cores),
            bad_data: self.bad_data,
        };
        let bar = ProgressBar::new(set.images.len() as u64).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} images, {per_sec}, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let evaluation = evaluate::run(&onnx, &set, &options, &|done| bar.set_position(done as u64))
            .map_err(Error::model(&self.model))?;
        bar.finish_and_clear();
        for sentence in &evaluation.skipped {
            eprintln!("skipped: {sentence}");
        }
        if !evaluation.unknown.is_empty() {
            eprintln!("the model does not know: {}", evaluation.unknown.join(", "));
        }
        let scores = &evaluation.scores;
        for (name, figure) in [
            ("AP75", scores.ap75),
            ("APsmall", scores.ap_small),
            ("APmedium", scores.ap_medium),
            ("APlarge", scores.ap_large),
            ("AR100", scores.ar100),
            ("AP", scores.ap),
            ("AP50", scores.ap50),
        ] {
            match figure {
                Some(figure) => println!("{name} {figure:.3}"),
                None => println!("{name} none: no such object"),
            }
        }
        if let Some(path) = &self.json {
            checkpoint::write_whole(path, format!("{:#}\n", self.figures(&evaluation, &set)).as_bytes())?;
        }
        if let Some(path) = &self.detections {
            checkpoint::write_whole(path, detections(&evaluation, &set).to_string().as_bytes())?;
        }
        Ok(())
    }

    fn figures(&self, evaluation: &Evaluation, set: &Dataset) -> serde_json::Value {
        let mut figures = serde_json::json!(evaluation.scores);
        figures["categories"] = set
            .classes
            .iter()
            .zip(&evaluation.scores.categories)
            .map(|(name, scores)| {
                let mut category = serde_json::json!(scores);
                category["name"] = name.as_str().into();
                category
            })
            .collect();
        figures["images"] = evaluation.image_ids.len().into();
        figures["input"] = serde_json::json!(evaluation.input_px);
        figures["iou_threshold"] = self.iou_threshold.into();
        figures["model"] = name(&self.model).into();
        figures["annotations"] = name(&self.annotations).into();
        figures
    }
}

fn detections(evaluation: &Evaluation, set: &Dataset) -> serde_json::Value {
    evaluation
        .found
        .iter()
        .map(|found| {
            serde_json::json!({
                "image_id": evaluation.image_ids[found.image],
                "category_id": set.category_ids[found.category],
                "bbox": [found.bbox.x, found.bbox.y, found.bbox.width, found.bbox.height],
                "score": found.score,
            })
        })
        .collect()
}

/// A file's name without its folder and ending.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
