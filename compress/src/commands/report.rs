//! `compress report`.

use std::path::{Path, PathBuf};

use compress::report::{Run, keep, read, report};
use compress::{Result, checkpoint};

/// Writes a report of runs, with figures, from their folders or from the files that --keep wrote.
#[derive(clap::Args)]
pub struct Report {
    /// The folder of a run of `train`, `distill`, `explore` or `prune`, or a file that --keep wrote. The folder may
    /// contain files `evaluate*.json` and `quantize*.json`, written by `evaluate --json` and `quantize --json`. Can be
    /// repeated; the report keeps the order.
    #[arg(long, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Also writes the data that the report needs of each run to this folder, as `NAME.json`. --run takes these small
    /// files in place of the folders.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The Markdown file to write. Its figures are written beside it.
    #[arg(long, default_value = "docs/compression/log.md")]
    output: PathBuf,
    /// An ONNX file to show on --sample.
    #[arg(long, requires = "sample")]
    model: Option<PathBuf>,
    /// A photograph (JPEG) to show detections on. Can be repeated.
    #[arg(long, requires = "model")]
    sample: Vec<PathBuf>,
}

impl Report {
    pub fn run(self) -> Result<()> {
        let folder = self.output.parent().unwrap_or(Path::new(""));
        let samples = self.model.as_deref().map(|model| (model, self.sample.as_slice()));
        let runs = self.run.iter().map(|path| read(path)).collect::<Result<Vec<Run>>>()?;
        let kept = self.keep.as_deref().map(|kept| kept.strip_prefix(folder).unwrap_or(kept).display().to_string());
        let report = report(&runs, kept.as_deref(), samples)?;
        if let Some(kept) = &self.keep {
            keep(&runs, kept)?;
        }
        for (name, svg) in &report.figures {
            checkpoint::write_whole(&folder.join(name), svg.as_bytes())?;
        }
        checkpoint::write_whole(&self.output, report.markdown.as_bytes())?;
        println!("{} and {} figures", self.output.display(), report.figures.len());
        Ok(())
    }
}
