//! `compress data`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use compress::checkpoint::write_whole;
use compress::data::{BadData, Converted, from_voc, from_yolo, tiny};
use compress::{Error, Result};

/// Makes the COCO file that `train` and `evaluate` read, from labels in other formats. It can also make a tiny data set
/// for a first try.
#[derive(clap::Args)]
pub struct Data {
    #[command(subcommand)]
    format: Format,
}

#[derive(clap::Subcommand)]
enum Format {
    /// YOLO: one text file per photograph, one line per object.
    FromYolo(FromYolo),
    /// Pascal VOC: one XML file per photograph.
    FromVoc(FromVoc),
    /// A tiny set: a cat, a cup and a person, cut from the sample photographs and varied.
    Tiny(Tiny),
}

#[derive(clap::Args)]
struct Tiny {
    /// The folder with the sample photographs.
    #[arg(long, default_value = "data/samples")]
    samples: PathBuf,
    /// Number of pictures.
    #[arg(long, default_value = "200")]
    count: NonZeroUsize,
    /// Seed of the random variations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The COCO file to write. The pictures go to the folder of the same name without `.json`.
    #[arg(long)]
    output: PathBuf,
}

#[derive(clap::Args)]
struct FromYolo {
    /// The folder with the photographs, also in folders inside it.
    #[arg(long)]
    images: PathBuf,
    /// The folder with the labels [default: the path of the photographs with `images` replaced by `labels`, else the
    /// folder of the photographs].
    #[arg(long)]
    labels: Option<PathBuf>,
    /// The names of the classes: `data.yaml`, or a text file with one name per line.
    #[arg(long)]
    names: PathBuf,
    /// The COCO file to write.
    #[arg(long)]
    output: PathBuf,
    /// What to do about photographs and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "refuse")]
    bad_data: BadData,
}

#[derive(clap::Args)]
struct FromVoc {
    /// The folder with the XML files (`Annotations`).
    #[arg(long)]
    annotations: PathBuf,
    /// The folder with the photographs (`JPEGImages`).
    #[arg(long)]
    images: PathBuf,
    /// Only the photographs named in this file (`ImageSets/Main/train.txt`).
    #[arg(long)]
    list: Option<PathBuf>,
    /// A text file with the classes in their order, one per line [default: the classes found, sorted].
    #[arg(long)]
    names: Option<PathBuf>,
    /// The COCO file to write.
    #[arg(long)]
    output: PathBuf,
    /// What to do about photographs and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "refuse")]
    bad_data: BadData,
}

impl Data {
    pub fn run(self) -> Result<()> {
        match self.format {
            Format::FromYolo(FromYolo { images, labels, names, output, bad_data }) => {
                super::keep_inputs("--output", &output, [names.as_path()])?;
                write(&from_yolo(&images, labels.as_deref(), &names, bad_data)?, &images, &output)
            }
            Format::FromVoc(FromVoc { annotations, images, list, names, output, bad_data }) => {
                super::keep_inputs("--output", &output, list.iter().chain(&names).map(PathBuf::as_path))?;
                let converted = from_voc(&annotations, &images, names.as_deref(), list.as_deref(), bad_data)?;
                write(&converted, &images, &output)
            }
            Format::Tiny(Tiny { samples, count, seed, output }) => {
                if output.extension().is_none_or(|extension| extension != "json") {
                    let problem = format!("`{}` does not end in .json", output.display());
                    return Err(Error::Option { option: "--output", problem });
                }
                let folder = output.with_extension("");
                write(&tiny(&samples, &folder, count.get(), seed)?, &folder, &output)
            }
        }
    }
}

fn write(converted: &Converted, images: &Path, output: &Path) -> Result<()> {
    super::report_skipped(&converted.skipped);
    write_whole(output, converted.to_json().as_bytes())?;
    let boxes: usize = converted.images.iter().map(|image| image.boxes.len()).sum();
    let empty = converted.images.iter().filter(|image| image.boxes.is_empty()).count();
    println!(
        "{}:{}: {} photographs ({empty} without objects), {boxes} boxes, {} classes",
        output.display(),
        images.display(),
        converted.images.len(),
        converted.classes.len()
    );
    Ok(())
}
