//! What the folders of long runs have in common.

use std::path::Path;

use serde::Serialize;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::network::Network;

/// Writes the run's `config.json` if there is none and `create` allows it, or refuses a folder that has another.
pub(crate) fn same_recipe(network: &Network, config: &impl Serialize, run: &Path, create: bool) -> Result<()> {
    let path = run.join("config.json");
    let ours = serde_json::json!({"network": network, "config": config});
    if create && !path.exists() {
        return checkpoint::write_whole(&path, format!("{ours:#}\n").as_bytes());
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let theirs: serde_json::Value = serde_json::from_str(&text).map_err(Error::json(&path))?;
    if theirs != ours {
        let problem = format!("{} holds a run of another network or recipe: take another folder", run.display());
        return Err(Error::Option { option: "--run", problem });
    }
    Ok(())
}
