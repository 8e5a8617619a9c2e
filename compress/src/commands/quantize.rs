//! `compress quantize`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use compress::network::{Graph, Op};
use compress::quantize::{self, METHODS, Method, Plan};
use compress::scale::{Scale, Scales};
use compress::{Error, Result, checkpoint, export};

use super::Photographs;

/// Letterboxed photographs.
type Images = Vec<Vec<f32>>;

/// The int8 file with the smallest error of the scores (`noise`).
struct Best {
    /// The method that chose its scales.
    method: String,
    /// By index of the scale.
    scales: Vec<Scale>,
    onnx: Vec<u8>,
    noise: f64,
}

/// The error by method.
type Tried = serde_json::Map<String, serde_json::Value>;

/// Quantises a checkpoint, or the ONNX file of any detector, to an int8 ONNX file. Calibrates on photographs.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["checkpoint", "model"]))]
pub struct Quantize {
    /// The checkpoint (`model.safetensors` of a run).
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Instead of a checkpoint, an ONNX file of any program: a detector with one input `[1, 3, side, side]`, RGB in
    /// 0–1.
    #[arg(long, conflicts_with = "no_equalize")]
    model: Option<PathBuf>,
    /// The ONNX file to write.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    photographs: Photographs,
    /// Number of further photographs, on which the error of the scores is measured.
    #[arg(long, default_value = "96")]
    held_out: NonZeroUsize,
    /// How the ranges of the maps are chosen. `auto` measures all methods, then changes the ranges of the best one map
    /// by map as long as the scores come closer to those in floats. A checkpoint trained with `--int8` contains its
    /// ranges: `auto` takes them, without `equalize`.
    #[arg(long, value_enum, default_value = "auto")]
    method: MethodName,
    /// The percentile of `--method percentile`, above 0 and up to 100.
    #[arg(long, default_value = "99.99", value_parser = percentile)]
    percentile: f64,
    /// Bits of the weights, 2 to 8. They are always stored in bytes, but fewer bits compress better.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=8))]
    weight_bits: u32,
    /// A layer, or one convolution of it, to leave in floats. With `--model`, the name of a convolution's node. Can be
    /// repeated.
    #[arg(long)]
    float: Vec<String>,
    /// Turns off cross-layer equalisation (`equalize`), which rescales channels that share a scale. Use it for weights
    /// that are equalised or rounded already, such as those of the released models.
    #[arg(long)]
    no_equalize: bool,
    /// Also measures the error with only one convolution in int8, for each of them, and prints a table.
    #[arg(long)]
    sensitivity: bool,
    /// Writes the measurements as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    Auto,
    Mse,
    Percentile,
}

fn percentile(text: &str) -> std::result::Result<f64, String> {
    let percentile: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if percentile > 0.0 && percentile <= 100.0 { Ok(percentile) } else { Err("not above 0 and up to 100".into()) }
}

impl Quantize {
    pub fn run(self) -> Result<()> {
        let sets = self.photographs.data.iter().map(|set| super::annotations_and_images(set).0);
        let inputs: Vec<PathBuf> = sets.chain(self.checkpoint.clone()).chain(self.model.clone()).collect();
        for (option, output) in [("--output", Some(&self.output)), ("--json", self.json.as_ref())] {
            let Some(output) = output else { continue };
            super::keep_inputs(option, output, inputs.iter().map(PathBuf::as_path))?;
            checkpoint::check_output(output)?;
        }
        match (&self.checkpoint, &self.model) {
            (Some(checkpoint), _) => self.checkpoint(checkpoint),
            (None, Some(model)) => self.model(model),
            (None, None) => Ok(()),
        }
    }

    /// Returns the file with the smallest error on held-out photographs, and the errors of all methods.
    ///
    /// `trained` are scales to use unchanged. `by_method` returns scales for a method, `write` makes the file, `noise`
    /// measures it on the held-out photographs. `search` improves given scales, if that is possible.
    fn best(
        &self,
        trained: Option<Vec<Scale>>,
        by_method: impl Fn(Method) -> Vec<Scale>,
        write: impl Fn(&[Scale]) -> Result<Vec<u8>>,
        noise: impl Fn(&[u8]) -> Result<f64>,
        search: impl FnOnce(&[Scale], &dyn Fn(usize)) -> Result<Option<Vec<Scale>>>,
    ) -> Result<(Option<Best>, Tried)> {
        let methods = match self.method {
            MethodName::Auto => METHODS.to_vec(),
            MethodName::Mse => vec![Method::Mse],
            MethodName::Percentile => vec![Method::Percentile(self.percentile)],
        };
        let mut best: Option<Best> = None;
        let mut tried = Tried::new();
        let mut take = |method: String, scales: Vec<Scale>, best: &mut Option<Best>| -> Result<()> {
            let onnx = write(&scales)?;
            let noise = noise(&onnx)?;
            println!("{method}: noise {noise:.5}");
            tried.insert(method.clone(), noise.into());
            if best.as_ref().is_none_or(|best| noise < best.noise) {
                *best = Some(Best { method, scales, onnx, noise });
            }
            Ok(())
        };
        if let Some(scales) = trained {
            take("trained".into(), scales, &mut best)?;
            return Ok((best, tried));
        }
        for method in methods {
            take(method.to_string(), by_method(method), &mut best)?;
        }
        if self.method == MethodName::Auto
            && let Some(start) = &best
        {
            let bar = super::progress(start.scales.len(), "searching ranges");
            let found = search(&start.scales, &|done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
            if let Some(scales) = found {
                take(format!("{}, searched", start.method), scales, &mut best)?;
            }
        }
        Ok((best, tried))
    }

    /// Photographs for calibration, and others for measurement.
    fn photographs(&self, side: usize) -> Result<(Images, Images)> {
        let mut images = self.photographs.read_at(self.held_out.get(), side)?;
        if images.len() < 2 {
            let problem = "needs two photographs: one to calibrate on, one to measure on".into();
            return Err(Error::Option { option: "--data", problem });
        }
        let held_out = images.split_off(images.len() - self.held_out.get().min(images.len() / 2));
        Ok((images, held_out))
    }

    /// Quantises the ONNX file of another program.
    fn model(&self, path: &Path) -> Result<()> {
        let mut model = quantize::Model::read(path, self.photographs.imgsz)?;
        model.leave_in_floats(&self.float)?;
        let (convolutions, weights_only) = (model.convolutions(), model.weights_only());
        println!("{}: {} convolutions get bytes", path.display(), convolutions.len());
        if !weights_only.is_empty() {
            println!(
                "of {} depthwise convolutions only the weights get bytes, as the activation behind them is computed in \
                 floats: {}",
                weights_only.len(),
                weights_only.join(", ")
            );
        }
        for (node, why) in model.floats() {
            println!("{node}: {why}");
        }
        let (images, held_out) = self.photographs(model.side())?;
        let bar = super::progress(images.len(), "calibrating");
        let seen = model.calibrate(&images, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let rounded = model.round(&seen, self.weight_bits);
        // If the detector reads the output, only its class scores count: pixels of boxes would outweigh them by far.
        let has_scores = quantize::scores(&model.to_onnx(), &held_out[..1], model.side()).is_ok();
        let outputs = |onnx: &[u8]| match has_scores {
            true => quantize::scores(onnx, &held_out, model.side()),
            false => model.outputs(onnx, &held_out),
        };
        let exact = outputs(&model.to_onnx())?;
        let write = |scales: &[Scale]| Ok(model.quantize(&rounded, scales));
        let noise = |onnx: &[u8]| Ok(quantize::noise(&exact, &outputs(onnx)?));
        let search = |start: &[Scale], progress: &dyn Fn(usize)| {
            // Only for models that the engine runs alone; with tract it would take hours.
            let side = model.side();
            if !quantize::runs_in_engine(&model.to_onnx(), side) || !quantize::runs_in_engine(&write(start)?, side)
            {
                println!("the detector's engine does not run this network alone, so ranges are not searched");
                return Ok(None);
            }
            let image = model.image_place();
            quantize::search(&model.to_onnx(), start, image, &images, side, write, progress).map(Some)
        };
        let (best, tried) = self.best(None, |method| seen.scales(method), write, noise, search)?;
        let Some(Best { method, scales, onnx, noise: least }) = best else { return Ok(()) };
        let table =
            self.sensitivity(convolutions.clone(), |name| noise(&model.quantize_only(&rounded, &scales, name)))?;
        checkpoint::write_whole(&self.output, &onnx)?;
        if let Some(path) = &self.json {
            let names: Vec<&String> = model.floats().iter().map(|(node, _)| node).collect();
            let report = serde_json::json!({
                "method": method, "noise": least, "tried": tried, "weight_bits": self.weight_bits,
                "images": images.len(), "imgsz": model.side(),
                "bytes": convolutions, "weights_only": weights_only, "float": names,
                "float_reasons": model.floats(), "sensitivity": table,
            });
            checkpoint::write_whole(path, format!("{report:#}\n").as_bytes())?;
        }
        println!("{}: {} bytes, {method}, noise {least:.5}", self.output.display(), onnx.len());
        Ok(())
    }

    fn checkpoint(&self, path: &Path) -> Result<()> {
        let (mut network, mut weights) = checkpoint::read_with_network(path)?;
        // No training follows, so inner maps need not keep their values.
        network.layers.iter_mut().for_each(|layer| layer.teacher = None);
        let graph = network.graph()?;
        let imgsz = self.photographs.imgsz;
        graph.check_size("--imgsz", imgsz, imgsz)?;
        let float_nodes = self.float_nodes(&graph)?;
        let trained = match self.method {
            MethodName::Auto => super::trained_scales(path, &graph)?,
            MethodName::Mse | MethodName::Percentile => Scales::new(),
        };
        let trained = if trained.is_empty() { None } else { quantize::scales_by_place(&graph, &trained) };
        let (images, held_out) = self.photographs(imgsz)?;
        let size = (imgsz, imgsz);

        let float = export::to_onnx(&network, &weights, size, export::Storage::Single)?;
        let exact = quantize::scores(&float, &held_out, imgsz)?;
        if !self.no_equalize && trained.is_none() {
            let bar = super::progress(images.len(), "equalising");
            weights =
                quantize::equalize(&network, &weights, &images, imgsz, &|done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
        }
        let bar = super::progress(images.len(), "calibrating");
        let calibration =
            quantize::calibrate(&network, &weights, &images, imgsz, &|done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let rounded = quantize::round(&network, &weights, &calibration.windows, self.weight_bits)?;
        let write = |plan: &Plan| quantize::to_onnx(&network, &weights, &rounded, size, plan);
        let noise = |onnx: &[u8]| Ok(quantize::noise(&exact, &quantize::scores(onnx, &held_out, imgsz)?));
        let plan = |scales: &[Scale]| {
            let plan = Plan { weight_bits: self.weight_bits, ..Plan::with_scales(&graph, scales) };
            float_nodes.iter().fold(plan, |plan, &node| plan.without(&calibration, node))
        };
        let search = |start: &[Scale], progress: &dyn Fn(usize)| {
            let write = |scales: &[Scale]| write(&plan(scales));
            let image = calibration.places[0];
            quantize::search(&float, start, image, &images, imgsz, write, progress).map(Some)
        };
        let by_method = |method| calibration.scales(method);
        let (best, tried) = self.best(trained, by_method, |scales| write(&plan(scales)), noise, search)?;
        let Some(Best { method, scales, onnx, noise: least }) = best else { return Ok(()) };
        let plan = plan(&scales);

        let convolutions = (0..graph.nodes.len()).filter(|&id| plan.weights[id]);
        let names = convolutions.map(|id| graph.nodes[id].name.clone()).collect();
        let table = self.sensitivity(names, |name| {
            let id = graph.nodes.iter().position(|node| node.name == name).unwrap_or_default();
            noise(&write(&plan.only(&graph, &calibration, id))?)
        })?;
        checkpoint::write_whole(&self.output, &onnx)?;
        if let Some(path) = &self.json {
            let report = serde_json::json!({
                "method": method, "noise": least, "tried": tried, "float": self.float,
                "weight_bits": self.weight_bits, "scales": plan.scales(&graph),
                "images": images.len(), "imgsz": imgsz,
                "sensitivity": table,
            });
            checkpoint::write_whole(path, format!("{report:#}\n").as_bytes())?;
        }
        println!("{}: {} bytes, {method}, noise {least:.5}", self.output.display(), onnx.len());
        Ok(())
    }

    /// With `--sensitivity`, computes and prints the `noise` with each convolution alone in int8, the largest first.
    fn sensitivity(
        &self,
        convolutions: Vec<String>,
        noise: impl Fn(&str) -> Result<f64>,
    ) -> Result<Vec<(String, f64)>> {
        let mut table = Vec::new();
        if !self.sensitivity {
            return Ok(table);
        }
        let bar = super::progress(convolutions.len(), "measuring layers");
        for name in convolutions {
            let noise = noise(&name)?;
            table.push((name, noise));
            bar.inc(1);
        }
        bar.finish_and_clear();
        table.sort_by(|a, b| b.1.total_cmp(&a.1));
        println!("\n| convolution alone in int8 | noise |\n|---|--:|");
        for (name, noise) in &table {
            println!("| {name} | {noise:.6} |");
        }
        println!();
        Ok(table)
    }

    /// The convolutions that `--float` names.
    fn float_nodes(&self, graph: &Graph) -> Result<Vec<usize>> {
        let mut nodes = Vec::new();
        for name in &self.float {
            let before = nodes.len();
            nodes.extend(graph.nodes.iter().enumerate().filter_map(|(id, node)| {
                let rest = node.name.strip_prefix(name.as_str())?;
                let named = rest.is_empty() || rest.starts_with('.');
                (named && matches!(node.op, Op::Conv { .. })).then_some(id)
            }));
            if nodes.len() == before {
                let problem = format!("the network has no convolution `{name}`");
                return Err(Error::Option { option: "--float", problem });
            }
        }
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        quantize: Quantize,
    }

    #[test]
    fn numbers_that_measure_nothing_are_refused() {
        Line::command().debug_assert();
        let parse = |option: &str, value: &str| {
            let needed = ["", "--checkpoint", "a", "--output", "b", "--data", "c"];
            Line::try_parse_from(needed.into_iter().chain([option, value]))
        };
        assert_eq!(parse("--percentile", "99.9").unwrap().quantize.percentile, 99.9);
        for (option, value) in [
            ("--percentile", "NaN"),
            ("--percentile", "0"),
            ("--percentile", "100.1"),
            ("--images", "0"),
            ("--held-out", "0"),
            ("--weight-bits", "9"),
        ] {
            let Err(error) = parse(option, value) else { panic!("{option} {value} was taken") };
            assert!(error.to_string().contains(option), "{error}");
        }
    }
}
