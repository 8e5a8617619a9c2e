//! `compress new`.

use std::io::Write;

use compress::{Error, Result, zoo};

/// Writes a built-in network as JSON to the standard output. Edit it, and pass it to other commands as `--network`.
#[derive(clap::Args)]
pub struct New {
    /// The network's name.
    #[arg(long)]
    network: String,
    /// Number of object classes.
    #[arg(long, default_value_t = 80)]
    classes: usize,
}

impl New {
    pub fn run(self) -> Result<()> {
        let network = zoo::network(&self.network, self.classes).ok_or_else(|| {
            let names: Vec<_> = zoo::names().collect();
            let problem = format!("`{}` is none of {}", self.network, names.join(", "));
            Error::Option { option: "--network", problem }
        })?;
        network.graph()?;
        // `println!` would panic if the pipe is closed.
        writeln!(std::io::stdout(), "{}", network.to_json()).map_err(Error::io("the standard output"))
    }
}
