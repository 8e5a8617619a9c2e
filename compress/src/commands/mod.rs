//! The subcommands, one per file.

mod average;
mod cost;
mod data;
mod decouple;
#[cfg(feature = "train")]
mod distill;
mod equalize;
mod evaluate;
#[cfg(feature = "train")]
mod explore;
mod export;
mod import;
#[cfg(feature = "train")]
mod measuring;
mod new;
#[cfg(feature = "train")]
mod prune;
mod quantize;
mod report;
mod revive;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod training;
mod trim;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use compress::data::{BadData, Dataset};
use compress::network::{Graph, Network};
use compress::scale::Scales;
use compress::{Error, Result, zoo};
use indicatif::{ProgressBar, ProgressStyle};

/// The subcommands of `compress`.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Averages the weights of several runs.
    Average(average::Average),
    /// Counts parameters and multiply-accumulates.
    Cost(cost::Cost),
    /// Converts labels of other formats to COCO's, or makes a tiny data set.
    Data(data::Data),
    /// Replaces dense convolutions by depthwise separable ones that approximate them.
    Decouple(decouple::Decouple),
    #[cfg(not(feature = "train"))]
    #[command(flatten)]
    Training(Training),
    /// Trains a network. The same command continues an interrupted run.
    #[cfg(feature = "train")]
    Train(train::Train),
    /// Trains a student network to give a teacher's outputs.
    #[cfg(feature = "train")]
    Distill(distill::Distill),
    /// Rescales channels that share an int8 scale, without changing the output.
    Equalize(equalize::Equalize),
    /// Measures average precision of an ONNX file.
    Evaluate(evaluate::Evaluate),
    /// Writes a checkpoint as ONNX.
    Export(export::Export),
    /// Finds the best kinds of layers within budgets, by a teacher's maps.
    #[cfg(feature = "train")]
    Explore(Box<explore::Explore>),
    /// Imports a network trained with Darknet, or NanoDet-Plus-m.
    Import(import::Import),
    /// Writes a built-in network as JSON.
    New(new::New),
    /// Removes channels round by round, with training in between.
    #[cfg(feature = "train")]
    Prune(prune::Prune),
    /// Quantises a checkpoint or an ONNX file to an int8 ONNX file.
    Quantize(quantize::Quantize),
    /// Writes a report with figures from the logs of runs.
    Report(report::Report),
    /// Re-initialises dead channels.
    Revive(revive::Revive),
    /// Removes dead channels.
    Trim(trim::Trim),
}

/// The commands that need libtorch, in a build without it: to say so.
#[cfg(not(feature = "train"))]
#[derive(clap::Subcommand)]
pub enum Training {
    #[command(hide = true, disable_help_flag = true)]
    Train(Ignored),
    #[command(hide = true, disable_help_flag = true)]
    Distill(Ignored),
    #[command(hide = true, disable_help_flag = true)]
    Explore(Ignored),
    #[command(hide = true, disable_help_flag = true)]
    Prune(Ignored),
}

/// Any options.
#[cfg(not(feature = "train"))]
#[derive(clap::Args)]
pub struct Ignored {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<std::ffi::OsString>,
}

impl Command {
    /// Whether the command trains networks.
    #[cfg(feature = "train")]
    pub fn trains(&self) -> bool {
        matches!(self, Command::Train(_) | Command::Distill(_) | Command::Explore(_) | Command::Prune(_))
    }

    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self {
            Command::Average(command) => command.run(),
            Command::Cost(command) => command.run(),
            Command::Data(command) => command.run(),
            Command::Decouple(command) => command.run(),
            #[cfg(not(feature = "train"))]
            Command::Training(_) => Err(Error::Training(
                "this build has no libtorch: build with `--features train`, as docs/train-your-own.md shows".into(),
            )),
            #[cfg(feature = "train")]
            Command::Train(command) => command.run(),
            #[cfg(feature = "train")]
            Command::Distill(command) => command.run(),
            Command::Equalize(command) => command.run(),
            Command::Evaluate(command) => command.run(),
            Command::Export(command) => command.run(),
            #[cfg(feature = "train")]
            Command::Explore(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::New(command) => command.run(),
            #[cfg(feature = "train")]
            Command::Prune(command) => command.run(),
            Command::Quantize(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Revive(command) => command.run(),
            Command::Trim(command) => command.run(),
        }
    }
}

/// Number of classes of a built-in network if nothing else specifies it.
const COCO_CLASSES: usize = 80;

/// The network called `name`: a built-in network for `classes`, a JSON file, or the network of a checkpoint. The head
/// of a checkpoint is rebuilt for `classes` if given; otherwise it keeps its own classes.
fn network(name: &str, classes: Option<usize>) -> Result<Network> {
    if let Some(network) = zoo::network(name, classes.unwrap_or(COCO_CLASSES)) {
        return Ok(network);
    }
    let path = Path::new(name);
    if !path.exists() {
        let names: Vec<_> = zoo::names().collect();
        let problem = format!("`{name}` is neither a file nor one of {}", names.join(", "));
        return Err(Error::Option { option: "--network", problem });
    }
    if compress::checkpoint::is_named_so(path) {
        let network = compress::checkpoint::read_with_network(path)?.0;
        return match classes {
            Some(classes) if classes != network.classes => network.with_classes(classes),
            _ => Ok(network),
        };
    }
    Network::read(path)
}

/// Parses `FILE`, whose folder has the same name, or `FILE:FOLDER`.
fn annotations_and_images(set: &str) -> (PathBuf, PathBuf) {
    match set.split_once(".json:") {
        Some((stem, folder)) => (PathBuf::from(format!("{stem}.json")), PathBuf::from(folder)),
        None => (PathBuf::from(set), Path::new(set).with_extension("")),
    }
}

/// Training photographs that a command reads.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("sets").required(true).multiple(true))]
struct Photographs {
    /// Training photographs: an annotation file in COCO's format, as `train` takes it. Can be repeated.
    #[arg(long, group = "sets")]
    data: Vec<String>,
    /// A folder of photographs without annotations. Can be repeated.
    #[arg(long, value_name = "FOLDER", group = "sets")]
    photos: Vec<PathBuf>,
    /// Number of photographs to use.
    #[arg(long, default_value = "256")]
    images: NonZeroUsize,
    /// Side of the square input in pixels.
    #[arg(long, default_value_t = 416)]
    imgsz: usize,
    /// Seed of the choice of photographs and of other random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to do about images and boxes that cannot be used.
    #[arg(long, value_enum, default_value = "skip")]
    bad_data: BadData,
}

impl Photographs {
    /// `--images` plus `more` photographs of all sets, shuffled and letterboxed for the network's input.
    fn read(&self, more: usize) -> Result<Vec<Vec<f32>>> {
        self.read_at(more, self.imgsz)
    }

    /// The same for an input of `side` × `side` pixels.
    fn read_at(&self, more: usize, side: usize) -> Result<Vec<Vec<f32>>> {
        let mut files = Vec::new();
        for set in &self.data {
            let (annotations, folder) = annotations_and_images(set);
            files.extend(files_of(Dataset::read(&annotations, &folder, self.bad_data)?));
        }
        for folder in &self.photos {
            files.extend(files_of(Dataset::of_folder(folder, &[], self.bad_data)?));
        }
        let count = self.images.get().saturating_add(more);
        compress::quantize::photographs(files, count, side, self.seed, self.bad_data)
    }
}

/// The photographs of a set. Reports what was skipped.
fn files_of(set: Dataset) -> impl Iterator<Item = PathBuf> {
    report_skipped(&set.skipped);
    set.images.into_iter().map(|image| image.path)
}

/// The int8 ranges that a checkpoint of a network with this graph was trained with. Empty if it was trained in floats.
fn trained_scales(checkpoint: &Path, graph: &Graph) -> Result<Scales> {
    let scales = compress::checkpoint::read_scales(checkpoint)?;
    if !scales.is_empty() && compress::quantize::scales_by_place(graph, &scales).is_none() {
        let problem = "its int8 scales are those of another network".into();
        return Err(Error::Checkpoint { path: checkpoint.to_owned(), problem });
    }
    Ok(scales)
}

/// Reports that the output has no int8 ranges, for a command that changes the values to which those of `checkpoint`
/// belong.
fn report_dropped_scales(checkpoint: &Path) -> Result<()> {
    if !compress::checkpoint::read_scales(checkpoint)?.is_empty() {
        eprintln!(
            "{}: its int8 ranges do not fit the changed weights and are left out: `quantize` and `--int8` choose new ones",
            checkpoint.display()
        );
    }
    Ok(())
}

/// Reports what was skipped in a set because of `--bad-data skip`.
fn report_skipped(sentences: &[String]) {
    for sentence in sentences {
        eprintln!("skipped: {sentence}");
    }
}

/// Refuses to write to a file that the command reads, because its content would be lost.
fn keep_inputs<'a>(option: &'static str, output: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    // Devices and pipes are not replaced. A file that does not exist yet is no input.
    let place = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    let Some(output_place) = place(output) else { return Ok(()) };
    if inputs.into_iter().any(|input| place(input).as_ref() == Some(&output_place)) {
        let problem =
            format!("`{}` is read by this command and would be lost: take another name", output.display());
        return Err(Error::Option { option, problem });
    }
    Ok(())
}

fn progress(count: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count as u64).with_style(style).with_message(what)
}

/// A flag that Ctrl-C sets, for work that can stop cleanly. A second Ctrl-C ends the process.
#[cfg(feature = "train")]
fn stop_on_interrupt() -> Result<std::sync::Arc<std::sync::atomic::AtomicBool>> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to end at once");
    })
    .map_err(|error| Error::Training(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_classes_unless_others_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let own = network("micro_yolo", Some(3)).unwrap();
        assert_eq!((own.classes, network("micro_yolo", None).unwrap().classes), (3, 80));
        let weights = compress::checkpoint::tensors(&own.graph().unwrap()).into_iter().map(|spec| {
            let values = vec![0.5; spec.shape.iter().product()];
            (spec.name, compress::checkpoint::Array { shape: spec.shape, values })
        });
        let (checkpoint, json) = (folder.path().join("a.safetensors"), folder.path().join("a.json"));
        let half = compress::checkpoint::Precision::Half;
        compress::checkpoint::write(&checkpoint, &own, &weights.collect(), half).unwrap();
        std::fs::write(&json, own.to_json()).unwrap();
        let classes = |path: &Path, asked| network(path.to_str().unwrap(), asked).unwrap().classes;
        assert_eq!((classes(&checkpoint, None), classes(&json, None)), (3, 3));
        assert_eq!((classes(&checkpoint, Some(5)), classes(&json, Some(5))), (5, 3));
    }

    #[test]
    fn sets_are_read_as_documented() {
        assert_eq!(annotations_and_images("d/a.json"), ("d/a.json".into(), "d/a".into()));
        assert_eq!(annotations_and_images("d/a.json:e/f"), ("d/a.json".into(), "e/f".into()));
    }
}
