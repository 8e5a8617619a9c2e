//! `compress report`.

use std::path::PathBuf;

use compress::report::{Run, keep, read, report};
use compress::{Error, Result, checkpoint};

/// Writes the compression report with its figures from the folders of runs, or from what was kept of them.
#[derive(clap::Args)]
pub struct Report {
    /// A run's folder: of `train`, `explore` or `prune`, with what `evaluate --json` and `quantize --json` wrote into it
    /// as `evaluate*.json` and `quantize*.json`; or a file that --keep wrote of it. Several, in the report's order.
    #[arg(long, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Also writes what the report needs of each run to this folder, `NAME.json`: small files that can take the place of
    /// the runs' folders later.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The Markdown file; figures go into the folder of the same name without `.md`.
    #[arg(long, default_value = "docs/compression.md")]
    output: PathBuf,
    /// An ONNX file to show on --sample.
    #[arg(long, requires = "sample")]
    model: Option<PathBuf>,
    /// A photograph (JPEG) to show detections on. Several times for several.
    #[arg(long, requires = "model")]
    sample: Vec<PathBuf>,
}

impl Report {
    pub fn run(self) -> Result<()> {
        let folder = self.output.with_extension("");
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let samples = self.model.as_deref().map(|model| (model, self.sample.as_slice()));
        let runs = self.run.iter().map(|path| read(path)).collect::<Result<Vec<Run>>>()?;
        let kept = self.keep.as_deref().map(|kept| {
            let beside = self.output.parent().and_then(|parent| kept.strip_prefix(parent).ok());
            beside.unwrap_or(kept).display().to_string()
        });
        let report = report(&runs, &name, kept.as_deref(), samples)?;
        if let Some(kept) = &self.keep {
            keep(&runs, kept)?;
        }
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        for (name, svg) in &report.figures {
            checkpoint::write_whole(&folder.join(name), svg.as_bytes())?;
        }
        checkpoint::write_whole(&self.output, report.markdown.as_bytes())?;
        println!("{} and {} figures", self.output.display(), report.figures.len());
        Ok(())
    }
}
