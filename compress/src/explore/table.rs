//! The table of a run, as Markdown, CSV and bar chart.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Checks, Choice, Combination, Diverged, Item, Measured, SearchSpace, Table, items};
use crate::checkpoint;
use crate::cost;
use crate::error::{Error, Result};
use crate::figure::{self, Bar};

/// The file with the combinations in a run's folder.
pub const COMBINATIONS: &str = "combinations.json";

const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// The folder of a combination's training. It depends only on the picks, not on the budget.
pub fn check_folder(picks: &BTreeMap<String, String>) -> String {
    let hash = Sha256::digest(format!("{picks:?}"));
    format!("check-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

/// The best combinations in their order, of which `best` is chosen, followed by those with the same candidate for every
/// part.
pub fn combinations(
    space: &SearchSpace,
    table: &Table,
    choices: &[Choice],
    best: usize,
    checks: &Checks,
) -> Vec<Combination> {
    let Some(items) = items(space, table) else { return Vec::new() };
    // None with a candidate that diverged.
    let combination = |name: String, picks: &[usize], best: bool| {
        let chosen = items.iter().zip(picks).map(|(items, &pick)| items[pick]).collect::<Option<Vec<Item>>>()?;
        let sum = |of: &dyn Fn(&Item) -> u64| chosen.iter().map(of).sum::<u64>();
        let picks = super::named(space, picks);
        Some(Combination {
            name,
            unexplained: chosen.iter().map(|item| item.loss).sum::<f64>() / items.len().max(1) as f64,
            parameters: space.rest.parameters + sum(&|item| item.parameters),
            macs: space.rest.macs + sum(&|item| item.macs),
            ms: space.config.time.then(|| chosen.iter().map(|item| item.ms).sum()),
            best,
            checked: checks.get(&picks).copied().flatten(),
            diverged: checks.get(&picks) == Some(&None),
            picks,
        })
    };
    let ordinal = |number: usize| ORDINALS.get(number).map_or(format!("{}th", number + 1), |name| (*name).into());
    let mut all: Vec<Combination> = choices
        .iter()
        .enumerate()
        .filter_map(|(number, choice)| combination(ordinal(number), &choice.picks, number == best))
        .collect();
    let Some((first, others)) = space.parts.split_first() else { return all };
    for (pick, candidate) in first.1.iter().enumerate() {
        let same = others.iter().map(|(_, all)| all.iter().position(|other| other.name == candidate.name));
        if let Some(picks) = [Some(pick)].into_iter().chain(same).collect::<Option<Vec<usize>>>() {
            all.extend(combination(candidate.name.clone(), &picks, false));
        }
    }
    all
}

/// A bar chart of combinations with their costs; the best is marked.
///
/// # Errors
///
/// A message, if there is nothing to draw.
pub fn bars(combinations: &[Combination]) -> Result<String, String> {
    let mut sorted: Vec<&Combination> = combinations.iter().collect();
    sorted.sort_by(|a, b| a.unexplained.total_cmp(&b.unexplained));
    let bar = |combination: &&Combination| Bar {
        name: combination.name.clone(),
        value: combination.unexplained,
        note: format!("{:.2} M {:.2} G", combination.parameters as f64 / 1e6, combination.macs as f64 / 1e9),
        marked: combination.best,
    };
    let bars: Vec<Bar> = sorted.iter().map(bar).collect();
    let axis = "unexplained variance, mean over the parts";
    figure::bars("Exploration: combinations, parameters, MACs", axis, &bars)
}

/// The candidates of a run as Markdown, those of the best combination in bold.
pub fn candidates_markdown(candidates: &[Measured], best: Option<&Combination>) -> String {
    let mut text = String::from(
        "| part | candidate | unexplained | parameters | MMAC | ms, int8 |\n|---|---|--:|--:|--:|--:|\n",
    );
    for measured in candidates {
        let Measured { part, candidate, unexplained, parameters, macs, ms } = measured;
        let chosen = best.is_some_and(|best| best.picks.get(part) == Some(candidate));
        let candidate = if chosen { format!("**{candidate}**") } else { candidate.clone() };
        let ms = ms.map_or(String::new(), |ms| format!("{ms:.3}"));
        let (parameters, mmac) = (cost::grouped(*parameters), *macs as f64 / 1e6);
        let _ = writeln!(text, "| {part} | {candidate} | {unexplained:.4} | {parameters} | {mmac:.2} | {ms} |");
    }
    text
}

/// Combinations as Markdown.
pub fn combinations_markdown(combinations: &[Combination]) -> String {
    let mut text = String::from(
        "| combination | unexplained | parameters | MMAC | ms, int8 | trained: images | loss | unexplained | AP50 |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for combination in combinations {
        let name = if combination.best { format!("**{}**", combination.name) } else { combination.name.clone() };
        let ms = combination.ms.map_or(String::new(), |ms| format!("{ms:.2}"));
        let unchecked = if combination.diverged { "diverged | | | " } else { " | | | " };
        let trained = combination.checked.map_or(unchecked.into(), |result| {
            let ap50 = result.ap50.map_or(String::new(), |ap50| format!("{:.1}", ap50 * 100.0));
            format!("{} | {:.3} | {:.4} | {ap50}", cost::grouped(result.images), result.loss, result.unexplained)
        });
        let _ = writeln!(
            text,
            "| {name} | {:.4} | {} | {:.1} | {ms} | {trained} |",
            combination.unexplained,
            cost::grouped(combination.parameters),
            combination.macs as f64 / 1e6,
        );
    }
    text
}

/// The candidates that diverged, as a sentence of Markdown; empty if there are none.
pub fn diverged_markdown(diverged: &[Diverged]) -> String {
    if diverged.is_empty() {
        return String::new();
    }
    let names: Vec<String> =
        diverged.iter().map(|lost| format!("{} for {} (step {})", lost.candidate, lost.part, lost.step)).collect();
    format!("\nDiverged and left out: {}.\n", names.join(", "))
}

/// The candidates as CSV.
fn csv(candidates: &[Measured]) -> String {
    let mut text = String::from("part,candidate,unexplained,parameters,macs,ms\n");
    for Measured { part, candidate, unexplained, parameters, macs, ms } in candidates {
        let ms = ms.map_or(String::new(), |ms| ms.to_string());
        let part = part.replace('"', "\"\"");
        let _ = writeln!(text, "\"{part}\",\"{candidate}\",{unexplained},{parameters},{macs},{ms}");
    }
    text
}

/// Writes the table as far as it exists.
pub fn write(run: &Path, space: &SearchSpace, table: &Table, combinations: &[Combination]) -> Result<()> {
    // In the network's order.
    let (mut candidates, mut diverged) = (Vec::new(), Vec::new());
    for (part, candidate) in space.parts.iter().flat_map(|(part, all)| all.iter().map(move |one| (part, one))) {
        match table.get(&(part.name.clone(), candidate.name.clone())) {
            Some(Ok(measured)) => candidates.push(measured.clone()),
            Some(Err(lost)) => diverged.push(lost.clone()),
            None => {}
        }
    }
    let best = combinations.iter().find(|combination| combination.best);
    let mut page = candidates_markdown(&candidates, best) + &diverged_markdown(&diverged);
    if !combinations.is_empty() {
        page = format!("{page}\n{}", combinations_markdown(combinations));
        let json = serde_json::to_string_pretty(combinations).map_err(Error::json(run.join(COMBINATIONS)))?;
        checkpoint::write_whole(&run.join(COMBINATIONS), (json + "\n").as_bytes())?;
        let svg = bars(combinations).map_err(Error::Figure)?;
        checkpoint::write_whole(&run.join("bars.svg"), svg.as_bytes())?;
    }
    checkpoint::write_whole(&run.join("candidates.csv"), csv(&candidates).as_bytes())?;
    checkpoint::write_whole(&run.join("table.md"), page.as_bytes())
}
