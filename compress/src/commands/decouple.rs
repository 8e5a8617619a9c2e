//! `compress decouple`.

use std::path::PathBuf;

use compress::checkpoint::{self, Precision};
use compress::decouple::{DecoupleConfig, decouple};
use compress::explore::bars;
use compress::{Error, Result, cost};
use indicatif::ProgressBar;

use super::Photographs;

/// Replaces dense convolutions by depthwise separable ones that approximate them.
///
/// A convolution becomes a depthwise convolution on several copies of its input, followed by a 1×1 convolution. Another
/// 1×1 convolution may stand in front: the projection, which gives the components of the input that matter most. The best
/// combination within both budgets is found exactly, by the errors on photographs. Each layer of the new network names the
/// map of the old network that it replaces, so that `compress distill --relative-rate` can train it further.
#[derive(clap::Args)]
pub struct Decouple {
    /// The checkpoint (`model.safetensors` of a run, or of `import`).
    #[arg(long)]
    checkpoint: PathBuf,
    /// The checkpoint to write.
    #[arg(long)]
    output: PathBuf,
    /// An SVG file to draw the combination in, beside others within the budget.
    #[arg(long)]
    figure: Option<PathBuf>,
    /// Maximum parameters of the whole network.
    #[arg(long, default_value_t = 2_560_000)]
    max_parameters: u64,
    /// Maximum multiply-accumulates of the whole network at --cost-imgsz.
    #[arg(long, default_value_t = 1_090_000_000)]
    max_macs: u64,
    /// Side in pixels of the square input for which multiply-accumulates are counted.
    #[arg(long, default_value_t = 416)]
    cost_imgsz: usize,
    /// The layers that may change, separated by commas [default: all dense convolutions except those that read the
    /// image].
    #[arg(long, value_delimiter = ',')]
    layers: Vec<String>,
    /// Multipliers to try, separated by commas: mean numbers of depthwise kernels per input channel.
    #[arg(long, value_delimiter = ',', default_value = "1,1.25,1.5,1.75,2,2.25,2.5,2.75,3,3.5,4,4.5,5,5.5,6")]
    multipliers: Vec<f64>,
    /// Projections to try, separated by commas: their outputs as shares of the input's channels. The form without a
    /// projection is always tried.
    #[arg(long, value_delimiter = ',', default_value = "0.375,0.5,0.75,1")]
    projections: Vec<f64>,
    #[command(flatten)]
    photographs: Photographs,
}

impl Decouple {
    pub fn run(self) -> Result<()> {
        checkpoint::check_output(&self.output)?;
        self.figure.as_deref().map_or(Ok(()), checkpoint::check_output)?;
        let (network, weights) = checkpoint::read_with_network(&self.checkpoint)?;
        let imgsz = self.photographs.imgsz;
        network.graph()?.check_size("--imgsz", imgsz, imgsz)?;
        super::report_dropped_scales(&self.checkpoint)?;
        let images = self.photographs.read(0)?;
        let config = DecoupleConfig {
            layers: self.layers,
            multipliers: self.multipliers,
            projections: self.projections,
            max_parameters: self.max_parameters,
            max_macs: self.max_macs,
            side_px: self.cost_imgsz,
        };
        let spinner = ProgressBar::new_spinner();
        let show = |what: &str| {
            spinner.set_message(what.to_owned());
            spinner.tick();
        };
        let decoupled = decouple(&network, &weights, &images, imgsz, &config, &show)?;
        spinner.finish_and_clear();
        print!("{}", decoupled.markdown());
        let cost = cost::NetworkCost::new(&decoupled.network, self.cost_imgsz, self.cost_imgsz)?;
        println!("{}", cost.summary());
        if let Some(path) = &self.figure {
            let svg = bars(&decoupled.combinations).map_err(Error::Figure)?;
            checkpoint::write_whole(path, svg.as_bytes())?;
        }
        checkpoint::write(&self.output, &decoupled.network, &decoupled.weights, Precision::Half)
    }
}
