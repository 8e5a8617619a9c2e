//! Writes the report of runs: Markdown and SVG figures, from the folders of runs or from stored data.
//!
//! The files of a folder determine the kind of run: `shard-*.jsonl` is an exploration, `round-000.safetensors` a
//! pruning, any other `log.jsonl` a training. A network's cost is counted from `model.safetensors`. Accuracy is read
//! from `evaluate*.json` (from `compress evaluate --json`), quantisation from `quantize*.json` (from `compress quantize
//! --json`).
//!
//! The folder of a run contains weights and does not belong in git. [`keep`] writes the data that the report needs to a
//! small JSON file. [`read`] accepts that file instead of the folder, and the report is identical.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use micro_yolo::{Detector, ImageView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checkpoint;
use crate::cost::{self, NetworkCost};
use crate::data::Photo;
use crate::error::{Error, Result};
use crate::explore;
use crate::figure::{self, Axis, Series, Titles};
use crate::journal;
use crate::network::Network;
use crate::prune::{self, Event};
use crate::zoo;

/// Side in pixels of the square input for which costs are given.
const SIDE: usize = 416;

/// The maximum number of log lines that are read from a training. A log has hundreds, more than the loss figure can
/// show, and they would be nearly all of the kept file.
const STEPS_MAX: usize = 200;

/// The maximum number of convolutions in the list of those with the largest loss when they alone are in int8.
const SENSITIVE_MAX: usize = 10;

/// Published networks: name, parameters in millions, COCO AP50 in percent, source of the figures.
const PUBLISHED: [(&str, f64, f64, &str); 5] = [
    ("YOLOv3-tiny", 8.86, 33.1, "Redmon & Farhadi 2018"),
    ("Micro-YOLO", 2.56, 32.4, "Hu & Li 2021"),
    ("YOLO-Lite", 0.65, 12.26, "Huang et al. 2018"),
    ("NanoDet-Plus-m-320", 1.17, 41.8, "its README"),
    ("PicoDet-S-320", 0.99, 43.4, "Yu et al. 2021"),
];

/// A Markdown file and its figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The text. Figures are linked by file name.
    pub markdown: String,
    /// Name and content of each figure.
    pub figures: Vec<(String, String)>,
}

/// The output of `compress evaluate --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Evaluated {
    ap: Option<f64>,
    ap50: Option<f64>,
    #[serde(default)]
    annotations: String,
    #[serde(default)]
    model: String,
    input: [u32; 2],
}

/// The output of `compress quantize --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Quantised {
    method: String,
    noise: f64,
    tried: BTreeMap<String, f64>,
    images: usize,
    imgsz: usize,
    #[serde(default)]
    float: Vec<String>,
    sensitivity: Vec<(String, f64)>,
}

/// A line of a training's log.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct LogStep {
    images: u64,
    seconds: f64,
    loss: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// At most [`STEPS_MAX`] steps.
    Training(Vec<LogStep>),
    Pruning(Vec<Event>),
    Exploration(explore::Results),
}

/// A network's name and its cost at [`SIDE`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Measures {
    name: String,
    parameters: u64,
    macs: u64,
}

/// The data of a run for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The name of the folder or of the kept file, so it is not stored in the file.
    #[serde(skip)]
    name: String,
    #[serde(flatten)]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<Measures>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evaluated: Vec<Evaluated>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quantised: Vec<Quantised>,
    /// The options of a training, from `config.json`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    recipe: Map<String, Value>,
}

impl Run {
    /// AP50 of a training on a set, in floats and at its best input size.
    fn best_on(&self, set: &str) -> Option<f64> {
        self.best_measured_on(set)?.ap50
    }

    /// The measurement at that input size.
    fn best_measured_on(&self, set: &str) -> Option<&Evaluated> {
        let fits = |figures: &&Evaluated| figures.annotations.starts_with(set) && !figures.model.contains("int8");
        let on_set = self.evaluated.iter().filter(fits);
        on_set
            .filter_map(|figures| Some((figures, figures.ap50?)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(figures, _)| figures)
    }
}

/// Options that affect only where and how fast a training runs, not its result.
const NOT_OF_THE_RECIPE: [&str; 7] =
    ["run", "device", "replicas", "loader_threads", "keep_gib", "log_every", "save_seconds"];

/// Reads a run from its folder or from the file that [`keep`] wrote.
///
/// # Errors
///
/// A folder that does not belong to a run, or a damaged file.
pub fn read(path: &Path) -> Result<Run> {
    if path.is_dir() {
        return read_folder(path);
    }
    let run: Run = json(path)?;
    Ok(Run { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), ..run })
}

/// Writes the data of each run for the report to `folder`, as `NAME.json` for [`read`].
///
/// # Errors
///
/// [`Error::Option`] if two runs have one name, [`Error::Io`].
pub fn keep(runs: &[Run], folder: &Path) -> Result<()> {
    let mut names = BTreeSet::new();
    if let Some(twice) = runs.iter().find(|run| !names.insert(&run.name)) {
        let problem = format!("two runs are called `{}`: leave one out or rename it", twice.name);
        return Err(Error::Option { option: "--keep", problem });
    }
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for run in runs {
        let path = folder.join(format!("{}.json", run.name));
        checkpoint::write_whole(&path, lines(run).map_err(Error::json(&path))?.as_bytes())?;
    }
    Ok(())
}

/// A run as JSON, with one line for each field and for each value of a list or option of the recipe. It is small, and a
/// diff shows what changed.
fn lines(run: &Run) -> serde_json::Result<String> {
    let block = |open: char, values: Vec<String>, close: char| {
        if values.is_empty() {
            return format!("{open}{close}");
        }
        format!("{open}\n{}\n{close}", values.join(",\n"))
    };
    let field = |name: &str, value: String| format!("{}: {value}", Value::from(name));
    let value = |value: &Value| match value {
        Value::Array(list) => block('[', list.iter().map(Value::to_string).collect(), ']'),
        Value::Object(map) => {
            block('{', map.iter().map(|(name, value)| field(name, value.to_string())).collect(), '}')
        }
        other => other.to_string(),
    };
    let fields = serde_json::to_value(run)?;
    let fields = fields.as_object().into_iter().flatten();
    Ok(block('{', fields.map(|(name, content)| field(name, value(content))).collect(), '}') + "\n")
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(Error::json(path))
}

fn read_folder(folder: &Path) -> Result<Run> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        names.push(entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let log = folder.join("log.jsonl");
    let kind = if names.iter().any(|name| name.starts_with("shard-")) {
        Kind::Exploration(explore::results(folder)?)
    } else if names.iter().any(|name| name == "round-000.safetensors") {
        Kind::Pruning(journal::read(&log)?)
    } else {
        Kind::Training(thinned(&journal::read(&log)?))
    };
    let model = folder.join("model.safetensors");
    let description = folder.join("network.json");
    let network = if model.exists() {
        checkpoint::read(&model)?.1
    } else if description.exists() {
        Some(Network::read(&description)?)
    } else {
        None
    };
    let all = |prefix: &str| -> Vec<PathBuf> {
        let fits = |name: &&String| name.starts_with(prefix) && name.ends_with(".json");
        names.iter().filter(fits).map(|name| folder.join(name)).collect()
    };
    let mut quantised: Vec<Quantised> = all("quantize").iter().map(|path| json(path)).collect::<Result<_>>()?;
    quantised.iter_mut().for_each(|quantised| quantised.sensitivity.truncate(SENSITIVE_MAX));
    let run = Run {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        kind,
        network: network.as_ref().map(measures).transpose()?,
        evaluated: all("evaluate").iter().map(|path| json(path)).collect::<Result<_>>()?,
        quantised,
        recipe: recipe(folder)?,
    };
    // Rounded like the values of a kept file, so that both give the same report.
    let mut fields = serde_json::to_value(&run).map_err(Error::json(folder))?;
    single_precision(&mut fields);
    Ok(Run { name: run.name, ..serde_json::from_value(fields).map_err(Error::json(folder))? })
}

/// At most [`STEPS_MAX`] of the steps, evenly spaced, including the first and the last.
fn thinned(steps: &[LogStep]) -> Vec<LogStep> {
    if steps.len() <= STEPS_MAX {
        return steps.to_vec();
    }
    (0..STEPS_MAX).map(|i| steps[i * (steps.len() - 1) / (STEPS_MAX - 1)]).collect()
}

fn measures(network: &Network) -> Result<Measures> {
    let cost = NetworkCost::new(network, SIDE, SIDE)?.total;
    Ok(Measures { name: network.name.clone(), parameters: cost.parameters, macs: cost.macs })
}

/// The recipe of a training, from the `config.json` in its folder.
fn recipe(folder: &Path) -> Result<Map<String, Value>> {
    let path = folder.join("config.json");
    let mut recipe: Map<String, Value> = if path.exists() { json(&path)? } else { Map::new() };
    // Older files contain only the recipe; newer ones also contain the network.
    if let Some(Value::Object(inner)) = recipe.remove("config") {
        recipe = inner;
    }
    recipe.retain(|option, _| !NOT_OF_THE_RECIPE.contains(&option.as_str()));
    recipe.values_mut().for_each(without_machine);
    Ok(recipe)
}

/// Replaces absolute paths, which are specific to one machine, by file names.
fn without_machine(value: &mut Value) {
    match value {
        Value::String(text) if Path::new(text.as_str()).is_absolute() => {
            if let Some(name) = Path::new(text.as_str()).file_name() {
                *text = name.to_string_lossy().into_owned();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(without_machine),
        _ => {}
    }
}

/// Rounds numbers to single precision, from which most of them were converted: 0.029999999329447743 becomes 0.03.
/// Unlike numbers with 17 digits, these do not change in repeated conversions to JSON.
fn single_precision(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let short = number.as_f64().and_then(|wide| (wide as f32).to_string().parse::<f64>().ok());
            if let Some(short) = short.and_then(serde_json::Number::from_f64) {
                *number = short;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(single_precision),
        Value::Object(fields) => fields.values_mut().for_each(single_precision),
        _ => {}
    }
}

/// Writes the report of some runs. `kept` is the folder to which [`keep`] wrote, as named in the text. `samples` are an
/// ONNX file of a detector and photographs on which to show its detections.
///
/// # Errors
///
/// A model or a photograph cannot be read, a figure cannot be drawn.
pub fn report(runs: &[Run], kept: Option<&str>, samples: Option<(&Path, &[PathBuf])>) -> Result<Report> {
    let mut page = Report::default();
    page.text("# Log of the runs\n");
    let written = "Written by `compress report`; do not edit it.";
    page.text(&match kept {
        Some(kept) => format!("{written} The data of each run are in `{kept}/`.\n"),
        None => format!("{written}\n"),
    });
    costs(&mut page)?;
    results(&mut page, runs)?;
    trainings(&mut page, runs)?;
    comparisons(&mut page, runs);
    explorations(&mut page, runs)?;
    prunings(&mut page, runs)?;
    integers(&mut page, runs);
    if let Some((model, photographs)) = samples {
        detections(&mut page, model, photographs)?;
    }
    Ok(page)
}

impl Report {
    fn text(&mut self, text: &str) {
        self.markdown.push_str(text);
        self.markdown.push('\n');
    }

    fn figure(&mut self, name: &str, describes: &str, svg: Result<String, String>) -> Result<()> {
        let svg = svg.map_err(Error::Figure)?;
        self.figures.push((name.to_string(), svg));
        self.text(&format!("![{describes}]({name})\n"));
        Ok(())
    }
}

fn costs(page: &mut Report) -> Result<()> {
    page.text("## Cost of each kind of layer\n");
    page.text(
        "Multiply-accumulates for kernel size k, Cin input and Cout output channels, an output of W×H pixels, expansion \
         α and reduction β:\n\n\
         - Convolution: `k²·Cin·Cout·W·H`\n\
         - DSConv (depthwise, then pointwise): `(k² + Cout)·Cin·W·H`\n\
         - MBConv: `(Cin + k² + Cout)·αCin·W·H`, and `2·(αCin)²/β` once for squeeze-and-excitation\n\
         - Ghost module: `(k²·Cin + 9)·Cout/2·W·H`\n\n\
         The number of weights is the same without W·H. `compress cost` prints this table and the next.\n",
    );
    page.text(&cost::kinds_markdown());
    let series: Vec<Series> = cost::kinds_table()
        .into_iter()
        .map(|(kind, weights)| Series {
            name: kind.into(),
            points: cost::TABLE_CHANNELS
                .iter()
                .zip(weights)
                .map(|(&channels, weights)| (channels as f64, weights as f64, String::new()))
                .collect(),
            line: true,
        })
        .collect();
    let titles = Titles { title: "Parameters by kind of layer", x: "input channels", y: "parameters" };
    page.figure(
        "kinds.svg",
        "Parameters by kind of layer and input channels",
        figure::plot(titles, &series, Axis::Log, Axis::Log),
    )?;
    page.text("## Built-in networks\n");
    page.text(&format!(
        "For 80 classes at {SIDE}×{SIDE} px, with the statistics of batch normalisation counted.\n"
    ));
    page.text("| network | parameters | MACs | fewer parameters | fewer MACs |\n|---|--:|--:|--:|--:|");
    let tiny = zoo_cost("yolov3_tiny")?;
    for name in zoo::names() {
        let total = zoo_cost(name)?.total;
        page.text(&format!(
            "| {name} | {} | {} | {:.2}× | {:.2}× |",
            cost::grouped(total.parameters),
            cost::grouped(total.macs),
            tiny.total.parameters as f64 / total.parameters as f64,
            tiny.total.macs as f64 / total.macs as f64
        ));
    }
    page.text("\nIn the paper, Micro-YOLO has 3.46× fewer parameters and 2.55× fewer MACs than YOLOv3-tiny, and Micro-YOLO+ 3.18× and 2.44×.\n");
    Ok(())
}

fn zoo_cost(name: &str) -> Result<NetworkCost> {
    let unknown = || Error::Option { option: "--network", problem: format!("there is no `{name}`") };
    NetworkCost::new(&zoo::network(name, 80).ok_or_else(unknown)?, SIDE, SIDE)
}

fn percent(figure: Option<f64>) -> String {
    figure.map_or("–".into(), |figure| format!("{:.1}", 100.0 * figure))
}

fn results(page: &mut Report, runs: &[Run]) -> Result<()> {
    page.text("## Accuracy\n");
    let with_figures: Vec<&Run> = runs.iter().filter(|run| !run.evaluated.is_empty()).collect();
    if with_figures.is_empty() {
        page.text("None of the runs has been evaluated.\n");
    } else {
        page.text("AP and AP50 in percent, by the COCO protocol, measured with the detector crate.\n");
        page.text("| run | file | parameters | MACs | images seen | set | input | AP | AP50 |\n|---|---|--:|--:|--:|---|--:|--:|--:|");
        for run in &with_figures {
            let cost = run.network.clone().unwrap_or_default();
            let seen = match &run.kind {
                Kind::Training(steps) => steps.last().map_or("–".into(), |step| cost::grouped(step.images)),
                _ => "–".into(),
            };
            for figures in &run.evaluated {
                page.text(&format!(
                    "| {} | {} | {} | {} | {seen} | {} | {}×{} | {} | {} |",
                    run.name,
                    figures.model,
                    cost::grouped(cost.parameters),
                    cost::grouped(cost.macs),
                    figures.annotations,
                    figures.input[0],
                    figures.input[1],
                    percent(figures.ap),
                    percent(figures.ap50)
                ));
            }
        }
        page.text("");
    }
    page.text("Published AP50 on COCO, of networks trained on its 118,000 photographs.\n");
    page.text("| network | parameters | AP50 | from |\n|---|--:|--:|---|");
    for (name, parameters, ap50, from) in PUBLISHED {
        page.text(&format!("| {name} | {parameters} M | {ap50} | {from} |"));
    }
    page.text("");
    let published = PUBLISHED.map(|(name, millions, ap50, _)| (millions * 1e6, ap50, name.to_string()));
    let mut series = vec![Series { name: "published, on COCO".into(), points: published.to_vec(), line: false }];
    let mut ours = vec![];
    for run in with_figures {
        if let (Some(cost), Some(ap50)) = (&run.network, run.best_on("coco")) {
            ours.push((cost.parameters as f64, 100.0 * ap50, run.name.clone()));
        }
    }
    if !ours.is_empty() {
        series.push(Series { name: "these runs, on coco-val".into(), points: ours, line: false });
    }
    let titles = Titles { title: "Accuracy against size", x: "parameters", y: "COCO AP50 in percent" };
    page.figure(
        "accuracy.svg",
        "AP50 against parameters, with published networks",
        figure::plot(titles, &series, Axis::Log, Axis::Linear),
    )
}

fn trainings(page: &mut Report, runs: &[Run]) -> Result<()> {
    let mut series = vec![];
    let mut table = String::new();
    let is_training = |run: &&Run| matches!(run.kind, Kind::Training(_));
    let recipes: Vec<_> = runs.iter().filter(is_training).map(|run| &run.recipe).collect();
    for run in runs {
        let Kind::Training(steps) = &run.kind else { continue };
        let Some(last) = steps.last() else { continue };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {:.1} | {:.0} | {:.2} | {} | {} | {} |",
            run.name,
            run.network.as_ref().map_or("–", |network| &network.name),
            cost::grouped(last.images),
            last.seconds / 3600.0,
            last.images as f64 / last.seconds.max(1.0),
            last.loss,
            percent(run.best_on("coco")),
            percent(run.best_on("voc")),
            particular(&run.recipe, &recipes),
        );
        let points = steps.iter().map(|step| (step.images as f64, step.loss, String::new())).collect();
        series.push(Series { name: run.name.clone(), points, line: true });
    }
    if series.is_empty() {
        return Ok(());
    }
    page.text("## Training\n");
    page.text(
        "AP50 is that of the best input size measured. The last column has the options that differ between runs.\n",
    );
    page.text("| run | network | images | hours | images/s | loss | COCO AP50 | VOC AP50 | recipe |");
    page.text("|---|---|--:|--:|--:|--:|--:|--:|---|");
    page.text(&table);
    let titles = Titles { title: "Loss", x: "images seen", y: "loss" };
    page.figure("training.svg", "Loss against images seen", figure::plot(titles, &series, Axis::Linear, Axis::Log))
}

/// The options of a recipe that differ between recipes, as `name value`, with paths shortened to file names.
fn particular(recipe: &Map<String, Value>, all: &[&Map<String, Value>]) -> String {
    fn short(value: &Value) -> String {
        match value {
            Value::Null => "none".into(),
            Value::String(text) => {
                let name = Path::new(text).file_stem().map(|name| name.to_string_lossy().into_owned());
                name.unwrap_or_else(|| text.clone())
            }
            // For a pair of an annotation file and its folder, the first is enough.
            Value::Array(values) => match values.as_slice() {
                [one @ Value::String(_), Value::String(_)] => short(one),
                values => values.iter().map(short).collect::<Vec<_>>().join(" "),
            },
            other => other.to_string(),
        }
    }
    let differs = |option: &&String| all.iter().any(|other| other.get(*option) != recipe.get(*option));
    let shown = recipe.keys().filter(differs).map(|option| format!("{option} {}", short(&recipe[option])));
    shown.collect::<Vec<_>>().join(", ")
}

/// Compares networks that were trained with the same options, each with the largest.
fn comparisons(page: &mut Report, runs: &[Run]) {
    let trained: Vec<&Run> =
        runs.iter().filter(|run| matches!(run.kind, Kind::Training(_)) && !run.recipe.is_empty()).collect();
    for (index, first) in trained.iter().enumerate() {
        if trained[..index].iter().any(|before| before.recipe == first.recipe) {
            continue;
        }
        let mut alike = vec![];
        for run in trained.iter().filter(|run| run.recipe == first.recipe) {
            alike.extend(run.network.as_ref().map(|network| (*run, network)));
        }
        alike.sort_by_key(|(_, network)| std::cmp::Reverse(network.parameters));
        let [(_, largest), _, ..] = alike[..] else { continue };
        let names: Vec<&str> = alike.iter().map(|(run, _)| run.name.as_str()).collect();
        page.text(&format!("## Same recipe, {} networks: {}\n", alike.len(), names.join(", ")));
        page.text("| run | network | parameters | fewer | MACs | fewer | COCO AP | AP50 | VOC AP50 |\n|---|---|--:|--:|--:|--:|--:|--:|--:|");
        for (run, network) in &alike {
            page.text(&format!(
                "| {} | {} | {} | {:.2}× | {} | {:.2}× | {} | {} | {} |",
                run.name,
                network.name,
                cost::grouped(network.parameters),
                largest.parameters as f64 / network.parameters as f64,
                cost::grouped(network.macs),
                largest.macs as f64 / network.macs as f64,
                percent(run.best_measured_on("coco").and_then(|figures| figures.ap)),
                percent(run.best_on("coco")),
                percent(run.best_on("voc")),
            ));
        }
        page.text("\nAP is at the input size of the best AP50.\n");
        if largest.name == "yolov3_tiny" {
            page.text("In the paper: 8.86 M → 2.56 M parameters (3.46× fewer), 2.78 G → 1.09 G (2.55× fewer), AP50 33.1 → 32.4 on COCO.\n");
        }
    }
}

fn explorations(page: &mut Report, runs: &[Run]) -> Result<()> {
    for run in runs {
        let Kind::Exploration(explore::Results { candidates, diverged, combinations }) = &run.kind else {
            continue;
        };
        page.text(&format!("## Exploration: {}\n", run.name));
        page.text(
            "Each candidate learned by itself to give the teacher's map from the teacher's input map; what it does not \
             give is unexplained. A combination has one candidate for each part. Its milliseconds are those of the \
             parts together, in int8.\n",
        );
        if !combinations.is_empty() {
            let name = format!("exploration-{}.svg", run.name);
            page.figure(
                &name,
                "Unexplained variance of combinations, with their costs",
                explore::bars(combinations),
            )?;
            page.text(&explore::combinations_markdown(combinations));
        }
        let best = combinations.iter().find(|combination| combination.best);
        page.text(&explore::candidates_markdown(candidates, best));
        if !diverged.is_empty() {
            page.text(&explore::diverged_markdown(diverged));
        }
    }
    Ok(())
}

fn prunings(page: &mut Report, runs: &[Run]) -> Result<()> {
    for run in runs {
        let Kind::Pruning(events) = &run.kind else { continue };
        page.text(&format!("## Pruning: {}\n", run.name));
        page.figure(
            &format!("pruning-{}.svg", run.name),
            "AP50 against MACs, round by round",
            prune::path_figure(events),
        )?;
        page.text("| round | cut | channels | parameters | MACs | AP50 |\n|--:|---|--:|--:|--:|--:|");
        for event in events {
            let (round, group, channels, state) = match event {
                Event::Start { state } => (0, String::new(), String::new(), state),
                Event::Round { round, cuts, state } => {
                    let channels = |i: usize| cuts.iter().map(|cut| cut.channels[i]).sum::<usize>();
                    let groups = match cuts.as_slice() {
                        [cut] => cut.group.clone(),
                        cuts => format!("{} widths", cuts.len()),
                    };
                    (*round, groups, format!("{} → {}", channels(0), channels(1)), state)
                }
                Event::End { .. } => continue,
            };
            page.text(&format!(
                "| {round} | {group} | {channels} | {} | {} | {} |",
                cost::grouped(state.parameters),
                cost::grouped(state.macs),
                percent(Some(state.ap50))
            ));
        }
        page.text("");
    }
    Ok(())
}

fn integers(page: &mut Report, runs: &[Run]) {
    for run in runs {
        for quantised in &run.quantised {
            page.text(&format!("## Int8: {}\n", run.name));
            page.text(&format!(
                "Calibrated on {} training photographs at {2}×{2} px. Noise is the energy of the error of the class \
                 scores divided by their energy, on held-out photographs. Chosen: {1}, with {3:.5}.\n",
                quantised.images, quantised.method, quantised.imgsz, quantised.noise
            ));
            page.text("| ranges by | noise |\n|---|--:|");
            for (method, noise) in &quantised.tried {
                page.text(&format!("| {method} | {noise:.5} |"));
            }
            page.text("");
            if !quantised.float.is_empty() {
                page.text(&format!("Left in floats: {}.\n", quantised.float.join(", ")));
            }
            if !quantised.sensitivity.is_empty() {
                page.text("The convolutions that add the most noise when they alone are in integers:\n");
                page.text("| convolution | noise |\n|---|--:|");
                for (name, noise) in &quantised.sensitivity {
                    page.text(&format!("| {name} | {noise:.6} |"));
                }
                page.text("");
            }
        }
    }
}

/// Photographs with the model's detections, as SVG with embedded pictures.
fn detections(page: &mut Report, model: &Path, photographs: &[PathBuf]) -> Result<()> {
    use base64::Engine;
    page.text("## Detections on the samples\n");
    let onnx = std::fs::read(model).map_err(Error::io(model))?;
    let mut detector = Detector::builder().score_threshold(0.3).build(&onnx)?;
    for path in photographs {
        let photo = Photo::read(path)?;
        let found = detector.detect(ImageView::rgb(&photo.rgb, photo.width, photo.height)?)?;
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\">\n\
             <image width=\"{0}\" height=\"{1}\" href=\"data:image/jpeg;base64,{2}\"/>\n",
            photo.width,
            photo.height,
            base64::engine::general_purpose::STANDARD.encode(bytes)
        );
        let mut words = vec![];
        for object in &found {
            let (bbox, label) = (object.bbox, format!("{} {:.2}", object.label, object.score));
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" stroke=\"#d55e00\" \
                 stroke-width=\"3\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" font-family=\"sans-serif\" font-size=\"16\" \
                 fill=\"#fff\" stroke=\"#000\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
                bbox.x,
                bbox.y,
                bbox.width,
                bbox.height,
                bbox.x + 4.0,
                (bbox.y + 18.0).max(18.0),
                escaped(&label)
            );
            words.push(label);
        }
        svg.push_str("</svg>\n");
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let describes = if words.is_empty() {
            format!("{stem}: nothing found")
        } else {
            format!("{stem}: {}", words.join(", "))
        };
        page.figure(&format!("sample-{stem}.svg"), &describes, Ok(svg))?;
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Precision;
    use crate::prune::State;
    use crate::reference::random_weights;

    #[test]
    fn every_kind_of_run_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let network = zoo::network("micro_yolo", 3).unwrap();
        let weights = random_weights(&network.graph().unwrap(), 1);
        let run = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };

        let training = run("first");
        checkpoint::write(&training.join("model.safetensors"), &network, &weights, Precision::Half).unwrap();
        let line =
            |images: u64| format!("{{\"images\":{images},\"seconds\":{images}.5,\"loss\":3.5,\"rate\":0.1}}\n");
        std::fs::write(training.join("log.jsonl"), line(1000) + &line(20000)).unwrap();
        std::fs::write(
            training.join("evaluate-coco.json"),
            r#"{"ap":0.1,"ap50":0.234,"annotations":"coco-val","model":"m","input":[320,320],"images":192}"#,
        )
        .unwrap();
        std::fs::write(
            training.join("quantize.json"),
            r#"{"method":"mse","noise":0.001,"tried":{"mse":0.001,"percentile 99.9":0.002},"images":64,"imgsz":416,
               "float":["stem"],"sensitivity":[["block1.depthwise",0.0004]]}"#,
        )
        .unwrap();

        // The same recipe, another network, and a third recipe.
        let tiny = zoo::network("yolov3_tiny", 3).unwrap();
        let baseline = run("baseline");
        let tiny_weights = random_weights(&tiny.graph().unwrap(), 1);
        checkpoint::write(&baseline.join("model.safetensors"), &tiny, &tiny_weights, Precision::Half).unwrap();
        // Longer than the number of steps that are read.
        let log: String = (1..=1000).map(|i| line(20 * i)).collect();
        std::fs::write(baseline.join("log.jsonl"), log).unwrap();
        let other = run("other");
        std::fs::write(other.join("log.jsonl"), line(500)).unwrap();
        // The first as an older program wrote it: bare, and with a number that is the same in single precision.
        let recipe = |folder: &Path, frozen: &str, rate: &str| {
            format!(
                r#"{{"run":{folder:?},"freeze":{frozen},"data":[["a/hand.json",{:?}]],"rate":{rate}}}"#,
                folder.with_file_name("hand")
            )
        };
        std::fs::write(training.join("config.json"), recipe(&training, "null", "0.0010000000474974513")).unwrap();
        for (folder, frozen) in [(&baseline, "null"), (&other, r#""block3""#)] {
            let config = recipe(folder, frozen, "0.001");
            std::fs::write(folder.join("config.json"), format!(r#"{{"network":{{}},"config":{config}}}"#)).unwrap();
        }

        let pruning = run("thinner");
        checkpoint::write(&pruning.join("round-000.safetensors"), &network, &weights, Precision::Half).unwrap();
        let state = State { parameters: 1_700_000, macs: 700_000_000, ap50: 0.2 };
        let events = [
            Event::Start { state },
            Event::Round {
                round: 1,
                cuts: vec![prune::Narrowed { group: "stem".into(), channels: [16, 8] }],
                state: State { macs: 600_000_000, ..state },
            },
            Event::Round {
                round: 2,
                cuts: [[32, 24], [64, 48]]
                    .map(|channels| prune::Narrowed { group: "block".into(), channels })
                    .to_vec(),
                state: State { macs: 500_000_000, ..state },
            },
        ];
        let log: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
        std::fs::write(pruning.join("log.jsonl"), log).unwrap();

        let exploration = run("kinds");
        let measured = serde_json::json!({
            "what": "candidate", "part": "block1", "candidate": "Ghost k=5", "unexplained": 0.1,
            "parameters": 1_000_000, "macs": 500_000_000,
        });
        std::fs::write(exploration.join("shard-1-of-1.jsonl"), measured.to_string() + "\n").unwrap();
        let combination = serde_json::json!([{
            "name": "first", "picks": {"block1": "Ghost k=5"}, "unexplained": 0.1, "parameters": 2_000_000,
            "macs": 600_000_000, "ms": 12.0, "best": true,
        }]);
        std::fs::write(exploration.join("combinations.json"), combination.to_string()).unwrap();

        let read_all = |paths: &[PathBuf]| -> Vec<Run> { paths.iter().map(|path| read(path).unwrap()).collect() };
        let runs = read_all(&[training, baseline, other, pruning, exploration]);
        let report = |runs: &[Run]| report(runs, Some("runs"), None).unwrap();
        let first = report(&runs);
        for text in [
            "| yolov3_tiny | 8,858,734 |",
            "| first | m |",
            "| coco-val | 320×320 | 10.0 | 23.4 |",
            "| 1 | stem | 16 → 8 |",
            "| 2 | 2 widths | 96 → 72 |",
            "| block1 | **Ghost k=5** | 0.1000 | 1,000,000 |",
            "| **first** | 0.1000 | 2,000,000 | 600.0 | 12.00 |",
            "| percentile 99.9 | 0.00200 |",
            "Left in floats: stem.",
            "| block1.depthwise | 0.000400 |",
            "| 3.50 | 23.4 | – | freeze none |",
            "| 3.50 | – | – | freeze block3 |",
            "## Same recipe, 2 networks: baseline, first\n",
            "In the paper: 8.86 M",
            "| baseline | yolov3_tiny | 8,",
            "× | 10.0 | 23.4 | – |",
            "| baseline | yolov3_tiny | 20,000 |",
            "are in `runs/`",
        ] {
            assert!(first.markdown.contains(text), "no `{text}` in\n{}", first.markdown);
        }
        let names: Vec<&str> = first.figures.iter().map(|figure| figure.0.as_str()).collect();
        let expected =
            ["kinds.svg", "accuracy.svg", "training.svg", "exploration-kinds.svg", "pruning-thinner.svg"];
        assert_eq!(names, expected);
        for name in names {
            assert!(first.markdown.contains(&format!("]({name})")), "{name}");
        }

        // The paper compressed YOLOv3-tiny, so it is named beside that network only.
        let mut others = runs.clone();
        others[1].network.as_mut().unwrap().name = "yolo_nano".into();
        let others = report(&others).markdown;
        assert!(others.contains("## Same recipe, 2 networks") && !others.contains("8.86 M →"), "{others}");

        // The kept files give the same report, and are written the same again.
        let kept = folder.path().join("kept");
        keep(&runs, &kept).unwrap();
        let files: Vec<PathBuf> = runs.iter().map(|run| kept.join(format!("{}.json", run.name))).collect();
        let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        let texts: Vec<String> = files.iter().map(text).collect();
        let again = read_all(&files);
        assert_eq!(again, runs);
        assert_eq!(report(&again), first);
        keep(&again, &kept).unwrap();
        assert_eq!(files.iter().map(text).collect::<Vec<_>>(), texts);
        assert_eq!(texts[1].matches("\"loss\"").count(), STEPS_MAX);
        let machine = folder.path().to_str().unwrap();
        assert!(texts.iter().all(|text| !text.contains(machine)), "{texts:?}");

        assert!(matches!(keep(&[runs[0].clone(), runs[0].clone()], &kept), Err(Error::Option { .. })));
        for damaged in [&texts[0][..texts[0].len() / 2], "{}", &texts[0].replace("\"loss\"", "\"lost\"")] {
            std::fs::write(&files[0], damaged).unwrap();
            let error = read(&files[0]).unwrap_err();
            assert!(matches!(&error, Error::Json { path, .. } if *path == files[0]), "{error}");
        }
    }

    #[test]
    fn the_log_of_the_repository_is_that_of_its_runs_and_its_model() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = root.join("docs/compression");
        let entries = std::fs::read_dir(folder.join("runs")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort_by_key(|path| path.file_name().unwrap().to_owned());
        let runs: Vec<Run> = paths.iter().map(|path| read(path).unwrap()).collect();
        let photographs = ["cat", "astronaut", "coffee"].map(|name| root.join(format!("data/samples/{name}.jpg")));
        let model = root.join("models/micro-yolo.onnx");
        let fresh = report(&runs, Some("runs"), Some((model.as_path(), &photographs[..]))).unwrap();

        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        // The last digit of a score may depend on the processor.
        let in_parts = |log: &str| {
            let (tables, detections) = log.split_once("## Detections").unwrap();
            (tables.to_owned(), detections.replace(|sign: char| sign.is_ascii_digit(), ""))
        };
        assert!(
            in_parts(&text("log.md")) == in_parts(&fresh.markdown),
            "CONTRIBUTING.md says how to update docs/compression/log.md"
        );
        for (name, figure) in fresh.figures.iter().filter(|(name, _)| !name.starts_with("sample-")) {
            assert!(text(name) == *figure, "{name}");
        }
    }

    #[test]
    fn without_runs_the_costs_are_reported() {
        let report = report(&[], None, None).unwrap();
        assert!(report.markdown.contains("None of the runs has been evaluated"));
        assert!(!report.markdown.contains("are in `"));
        assert!(matches!(read(Path::new("nowhere")), Err(Error::Io { .. })));
    }
}
