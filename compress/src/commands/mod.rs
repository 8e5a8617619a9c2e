//! The subcommands, one a file.

mod cost;

use compress::network::Network;
use compress::zoo;
use compress::{Error, Result};

/// What `compress` can do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Counts parameters and multiply-accumulates.
    Cost(cost::Cost),
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<()> {
        match self {
            Command::Cost(command) => command.run(),
        }
    }
}

/// The network called `name` in the zoo, or else read from the file of that name.
fn network(name: &str, classes: usize) -> Result<Network> {
    if let Some(network) = zoo::network(name, classes) {
        return Ok(network);
    }
    let path = std::path::Path::new(name);
    if !path.exists() {
        let names: Vec<_> = zoo::names().collect();
        let problem = format!("`{name}` is neither a file nor one of {}", names.join(", "));
        return Err(Error::Option { option: "--network", problem });
    }
    Network::read(path)
}
