//! The output of a run: its log, and its progress on the terminal.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::state::RunState;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::network::{Graph, Head};

#[derive(Serialize, Deserialize)]
pub(super) struct LogLine {
    images: u64,
    step: u64,
    seconds: f64,
    progress: f32,
    size: usize,
    rate: f64,
    loss: f64,
    class: f64,
    bbox: f64,
    /// Only for heads with objectness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objectness: Option<f64>,
    /// The unexplained share of the teacher's inner maps; only with a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maps: Option<f64>,
    gradient: f64,
    images_per_second: f64,
}

/// The output of a run: its log, and its progress on the terminal.
pub(super) struct RunLog<'a> {
    config: &'a TrainConfig,
    has_objectness: bool,
    lines: Journal,
    pub(super) bar: indicatif::ProgressBar,
    /// Over the steps since the last line: the losses of a [`ReplicaResult`](super::worker::ReplicaResult), the gradient's length, and 1 for each.
    sums: [f64; 7],
    /// The end times of the last 200 steps with the number of images, to compute the speed.
    recent: VecDeque<(Instant, u64)>,
}

impl RunLog<'_> {
    pub(super) fn new<'a>(config: &'a TrainConfig, graph: &Graph, lines: Journal, images: u64) -> RunLog<'a> {
        RunLog {
            config,
            has_objectness: matches!(graph.head(), Some(Head::Anchors { .. })),
            lines,
            bar: progress_bar(config.images, images),
            sums: [0.0; 7],
            recent: VecDeque::new(),
        }
    }

    /// Adds a step, after which `images` images were used.
    pub(super) fn add(&mut self, losses: &[f64; 5], gradient: f64, images: u64) {
        let values = losses.iter().copied().chain([gradient, 1.0]);
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.recent.push_back((Instant::now(), images));
        if self.recent.len() > 200 {
            self.recent.pop_front();
        }
        self.bar.set_position(images);
    }

    /// Writes a line with the means of the steps since the last one.
    pub(super) fn write(&mut self, state: &RunState, progress: f32, size: usize, rate: f64) -> Result<()> {
        let [loss, class, bbox, object, maps, gradient, count] = std::mem::take(&mut self.sums);
        let speed = match self.recent.front() {
            Some((then, images)) => (state.images - images) as f64 / then.elapsed().as_secs_f64().max(1e-9),
            None => 0.0,
        };
        let line = LogLine {
            images: state.images,
            step: state.step,
            seconds: state.seconds,
            progress,
            size,
            rate,
            loss: loss / count,
            class: class / count,
            bbox: bbox / count,
            objectness: self.has_objectness.then_some(object / count),
            maps: self.config.distill.is_some().then_some(maps / count),
            gradient: gradient / count,
            images_per_second: speed,
        };
        self.lines.write(&line)?;
        let left = seconds_left(self.config, state, progress, speed);
        let message = format!(
            "{:.0} images/s, loss {:.2} (boxes {:.3}), {size} px, {} left",
            speed,
            line.loss,
            line.bbox,
            indicatif::HumanDuration(Duration::from_secs_f64(left))
        );
        if self.bar.is_hidden() {
            println!("{} images, {message}", state.images);
        } else {
            self.bar.set_message(message);
        }
        Ok(())
    }
}

/// The `journal` at `path` with its `lines` up to `step`: steps after the last checkpoint are repeated, and must not be
/// logged twice.
pub(super) fn up_to(
    step: u64,
    path: &std::path::Path,
    (journal, lines): (Journal, Vec<LogLine>),
) -> Result<Journal> {
    if lines.iter().all(|line| line.step <= step) {
        return Ok(journal);
    }
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.step <= step) {
        text.push_str(&serde_json::to_string(line).map_err(Error::json(path))?);
        text.push('\n');
    }
    checkpoint::write_whole(path, text.as_bytes())?;
    Ok(Journal::open::<LogLine>(path)?.0)
}

fn progress_bar(images: u64, position: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(images).with_position(position);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn seconds_left(config: &TrainConfig, state: &RunState, progress: f32, speed: f64) -> f64 {
    let by_images = (config.images.saturating_sub(state.images)) as f64 / speed.max(1e-3);
    let by_time = config.minutes.map_or(f64::INFINITY, |minutes| (minutes * 60.0 - state.seconds).max(0.0));
    if progress >= 1.0 { 0.0 } else { by_images.min(by_time) }
}
