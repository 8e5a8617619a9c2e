//! What the folders of long runs have in common.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::network::Network;

/// Writes the run's `config.json` if there is none and `create` allows it, or refuses a folder that has another.
///
/// The options `may_change` by name do not make another recipe of it; the file then has their new values. Returns a
/// sentence for each that has changed.
pub(crate) fn same_recipe(
    network: &Network,
    config: &impl Serialize,
    run: &Path,
    create: bool,
    may_change: &[&str],
) -> Result<Vec<String>> {
    let path = run.join("config.json");
    let ours = serde_json::json!({"network": network, "config": config});
    let ours_text = format!("{ours:#}\n");
    if create && !path.exists() {
        checkpoint::write_whole(&path, ours_text.as_bytes())?;
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let mut theirs: Value = serde_json::from_str(&text).map_err(Error::json(&path))?;
    // Through the text as well: a number may come back from it in another last bit.
    let ours: Value = serde_json::from_str(&ours_text).map_err(Error::json(&path))?;
    let mut changed = Vec::new();
    for &name in may_change {
        let (Some(new), Some(old)) = (ours["config"].get(name), theirs["config"].get_mut(name)) else { continue };
        if old != new {
            changed.push(format!("{name} was {old}, is {new} from here on"));
            *old = new.clone();
        }
    }
    if theirs != ours {
        let problem = format!("{} holds a run of another network or recipe: take another folder", run.display());
        return Err(Error::Option { option: "--run", problem });
    }
    if !changed.is_empty() {
        checkpoint::write_whole(&path, ours_text.as_bytes())?;
    }
    Ok(changed)
}
