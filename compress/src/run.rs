//! Files that all run folders contain.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::network::Network;

/// Writes the run's `config.json` if it does not exist and `create` allows it. Returns an error if the folder has
/// another recipe.
///
/// The options named in `may_change` may differ; the file then gets their new values. Returns one sentence for each
/// change.
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
    // Compared after conversion to JSON text, which may change the last bit of a number.
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
        let problem = format!(
            "{} holds a run of another network or recipe ({}): take another folder",
            run.display(),
            match theirs["network"] == ours["network"] {
                true => differences(&theirs["config"], &ours["config"]),
                false => "network".into(),
            }
        );
        return Err(Error::Option { option: "--run", problem });
    }
    if !changed.is_empty() {
        checkpoint::write_whole(&path, ours_text.as_bytes())?;
    }
    Ok(changed)
}

/// Writes `trainer.json`, which says how the run's networks are trained and measured. Returns an error if the folder
/// has another one, because the figures of one run must be comparable.
pub(crate) fn same_trainer(recipe: &Value, run: &Path) -> Result<()> {
    let path = run.join("trainer.json");
    let text = format!("{recipe:#}\n");
    if !path.exists() {
        return checkpoint::write_whole(&path, text.as_bytes());
    }
    let theirs = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let theirs: Value = serde_json::from_str(&theirs).map_err(Error::json(&path))?;
    let ours: Value = serde_json::from_str(&text).map_err(Error::json(&path))?;
    if theirs == ours {
        return Ok(());
    }
    let problem = format!(
        "{} holds a run that trains or measures otherwise ({}): give the options that it began with, or another folder",
        run.display(),
        differences(&theirs, &ours)
    );
    Err(Error::Option { option: "--run", problem })
}

/// The names of the fields in which two objects differ, separated by commas.
pub(crate) fn differences(theirs: &Value, ours: &Value) -> String {
    let names = |value: &Value| value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mut all: std::collections::BTreeSet<String> = names(theirs);
    all.append(&mut names(ours));
    let names: Vec<String> = all.into_iter().filter(|name| theirs.get(name) != ours.get(name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_trainer() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = |rate: f64| serde_json::json!({"rate": rate, "imgsz": 256});
        same_trainer(&recipe(0.1 + 0.2), folder.path()).unwrap();
        same_trainer(&recipe(0.1 + 0.2), folder.path()).unwrap();
        let error = same_trainer(&recipe(0.01), folder.path()).unwrap_err().to_string();
        assert!(error.contains("(rate)") && !error.contains("imgsz"), "{error}");
    }
}
