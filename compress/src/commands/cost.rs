//! `compress cost`.

use compress::Result;
use compress::cost::{self, NetworkCost};
use compress::zoo;

/// Counts parameters and multiply-accumulates, by layer and in total.
#[derive(clap::Args)]
pub struct Cost {
    /// A built-in network, a JSON file or a checkpoint. Without it, all built-in networks and kinds of layers are
    /// compared.
    #[arg(long)]
    network: Option<String>,
    /// Side of the square input in pixels.
    #[arg(long, default_value_t = 416)]
    imgsz: usize,
    /// Number of classes of a built-in network or a checkpoint [default: 80, or the checkpoint's own]. A JSON file has
    /// its own.
    #[arg(long)]
    classes: Option<usize>,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Md,
    Json,
}

impl Cost {
    pub fn run(self) -> Result<()> {
        let Some(name) = &self.network else { return self.compare() };
        let cost = NetworkCost::new(&super::network(name, self.classes)?, self.imgsz, self.imgsz)?;
        match self.format {
            Format::Md => println!("{}\n{}", cost.to_markdown(), cost.summary()),
            Format::Json => println!("{}", serde_json::json!(cost)),
        }
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let networks = zoo::names()
            .map(|name| NetworkCost::new(&super::network(name, self.classes)?, self.imgsz, self.imgsz))
            .collect::<Result<Vec<_>>>()?;
        match self.format {
            Format::Md => {
                println!("{}", cost::kinds_markdown());
                println!("Networks for {} classes:\n", self.classes.unwrap_or(super::COCO_CLASSES));
                println!("| network | parameters | MACs at {0}×{0} |\n|---|--:|--:|", self.imgsz);
                for network in &networks {
                    let total = network.total;
                    println!(
                        "| {} | {} | {} |",
                        network.network,
                        cost::grouped(total.parameters),
                        cost::grouped(total.macs)
                    );
                }
                println!();
                for network in &networks {
                    println!("{}", network.summary());
                }
            }
            Format::Json => {
                let kinds: serde_json::Map<_, _> = cost::kinds_table()
                    .into_iter()
                    .map(|(kind, weights)| (kind.to_string(), serde_json::json!(weights)))
                    .collect();
                let table = serde_json::json!({"input_channels": cost::TABLE_CHANNELS, "weights": kinds});
                println!("{}", serde_json::json!({"kinds": table, "networks": networks}));
            }
        }
        Ok(())
    }
}
