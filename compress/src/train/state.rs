//! The saved state of a run.

use tch::{Device, Kind, Tensor};

use super::config::{Distillation, TrainConfig};
use super::distill::Stage;
use super::model::{Layout, initial};
use super::optimizer::{AdamW, average_keep};
use super::tensor::to_vec;
use crate::checkpoint::{self, Array, TensorSpec, Weights};
use crate::error::{Error, Result};
use crate::network::{Graph, Network};
use crate::scale::Scales;

/// The saved state of a run.
pub(super) struct RunState {
    pub(super) learned: Tensor,
    pub(super) average: Tensor,
    pub(super) measured: Tensor,
    pub(super) average_measured: Tensor,
    pub(super) optimizer: AdamW,
    pub(super) step: u64,
    pub(super) images: u64,
    pub(super) seconds: f64,
}

/// The indices of the layers that a run trains.
fn trained_layers(network: &Network, config: &TrainConfig) -> std::ops::Range<usize> {
    let behind = |name: &String| network.layers.iter().position(|layer| layer.name == *name).map(|place| place + 1);
    let first = config.freeze.as_ref().and_then(behind).unwrap_or(0);
    let all = network.layers.len();
    let end = match &config.distill {
        Some(Distillation { stage: Stage::Maps, until, .. }) => {
            let computed = &network.layers[..until.as_ref().and_then(behind).unwrap_or(all)];
            computed.iter().rposition(|layer| layer.teacher.is_some()).map_or(0, |last| last + 1)
        }
        _ => all,
    };
    first..end.max(first)
}

impl RunState {
    pub(super) fn start(
        network: &Network,
        graph: &Graph,
        layout: &Layout,
        config: &TrainConfig,
        device: Device,
    ) -> Result<RunState> {
        let mut learned = vec![0f32; layout.learned as usize];
        let mut measured = vec![0f32; layout.measured as usize];
        layout.gather(&initial(graph, config.seed), &mut learned, &mut measured);
        let mut taken = Vec::new();
        if let Some(path) = &config.init {
            let (weights, _) = checkpoint::read(path)?;
            if let Some((name, _)) = weights.iter().find(|(_, array)| is_damaged(array)) {
                let problem = format!("tensor `{name}` has values that are no numbers");
                return Err(Error::Checkpoint { path: path.clone(), problem });
            }
            taken = layout.gather(&weights, &mut learned, &mut measured);
            if taken.is_empty() {
                return Err(Error::Checkpoint {
                    path: path.clone(),
                    problem: "has no tensor that fits the network by name and shape".into(),
                });
            }
            let all = checkpoint::tensors(graph).len();
            println!(
                "{} of {all} tensors from {}: {}",
                taken.len(),
                path.display(),
                layers_of(network, graph, &taken)
            );
        }
        let taken: std::collections::HashSet<&String> = taken.iter().collect();
        // Frozen layers have no gradient, but weight decay would still shrink them.
        let trained = trained_layers(network, config);
        // By layer, not by name: names of layers may have dots, too.
        let is_frozen =
            |spec: &TensorSpec| !graph.nodes[spec.node].layer.is_some_and(|layer| trained.contains(&layer));
        let start = layout.scatter(&learned, &measured);
        let size = |spec: &TensorSpec| match start.get(&spec.name) {
            Some(array) if config.relative_rate => size(array),
            _ => 1.0,
        };
        let rates = layout.fill(|spec| match spec {
            spec if is_frozen(spec) => 0.0,
            spec if taken.contains(&spec.name) => config.init_rate * size(spec),
            spec => size(spec),
        });
        let decays = layout.fill(|spec| if spec.name.ends_with("conv.weight") { config.decay } else { 0.0 });
        let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
        let mut state = RunState {
            learned: tensor(&learned),
            average: tensor(&learned),
            measured: tensor(&measured),
            average_measured: tensor(&measured),
            optimizer: AdamW::new(&rates, &decays, device),
            step: 0,
            images: 0,
            seconds: 0.0,
        };
        let path = config.run.join("state.safetensors");
        if path.exists() {
            state.load(&path, layout, device)?;
        }
        Ok(state)
    }

    /// Updates the averages of learned and measured values after a step. `over` is [`TrainConfig::average_over`].
    pub(super) fn follow_average(&mut self, over: f64) {
        let keep = average_keep(self.step, over);
        tch::no_grad(|| {
            let _ = self.average.lerp_(&self.learned, 1.0 - keep);
            let _ = self.average_measured.lerp_(&self.measured, 1.0 - keep);
        });
    }

    fn load(&mut self, path: &std::path::Path, layout: &Layout, device: Device) -> Result<()> {
        let (arrays, _) = checkpoint::read(path)?;
        let bad = |problem: String| Error::Checkpoint { path: path.to_owned(), problem };
        let get = |name: &str, len: i64| -> Result<Tensor> {
            let array = arrays.get(name).ok_or_else(|| bad(format!("has no `{name}`")))?;
            if array.values.len() as i64 != len {
                return Err(bad(format!(
                    "`{name}` has {} values, not {len}: it belongs to another network",
                    array.values.len()
                )));
            }
            Ok(Tensor::from_slice(&array.values).to_device(device))
        };
        // The counts are stored in halves of 24 bits, which are exact as 32-bit floats.
        let counts = arrays.get("counts").ok_or_else(|| bad("has no `counts`".into()))?;
        let &[step_high, step_low, images_high, images_low, seconds] = counts.values.as_slice() else {
            return Err(bad("`counts` has not five values".into()));
        };
        let join = |high: f32, low: f32| ((high as u64) << 24) + low as u64;
        self.step = join(step_high, step_low);
        if self.step == 0 {
            return Ok(()); // The run starts again, and its initial values may have changed.
        }
        self.learned = get("learned", layout.learned)?;
        self.average = get("average", layout.learned)?;
        self.measured = get("measured", layout.measured)?;
        self.average_measured = get("average_measured", layout.measured)?;
        self.optimizer.moments = [get("first_moment", layout.learned)?, get("second_moment", layout.learned)?];
        self.images = join(images_high, images_low);
        self.seconds = seconds as f64;
        Ok(())
    }

    /// Writes the state, and the averaged weights with the int8 `scales` used in training.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] for values that are not finite: the files stay as they are. [`Error::Io`].
    pub(super) fn save(
        &self,
        network: &Network,
        layout: &Layout,
        config: &TrainConfig,
        scales: &Scales,
    ) -> Result<()> {
        let (learned, measured) = (to_vec(&self.learned)?, to_vec(&self.measured)?);
        let (average, average_measured) = (to_vec(&self.average)?, to_vec(&self.average_measured)?);
        let model = layout.scatter(&average, &average_measured);
        for weights in [&layout.scatter(&learned, &measured), &model] {
            if let Some((name, _)) = weights.iter().find(|(_, array)| is_damaged(array)) {
                let cause = format!("tensor `{name}` is not finite: lower --rate, in another folder");
                return Err(Error::Diverged { step: self.step, cause });
            }
        }
        let split = |count: u64| [(count >> 24) as f32, (count & 0xff_ffff) as f32];
        let counts = [split(self.step), split(self.images)].concat();
        let mut state = Weights::new();
        let mut put = |name: &str, values: Vec<f32>| {
            state.insert(name.to_owned(), Array { shape: vec![values.len()], values });
        };
        put("learned", learned);
        put("average", average);
        put("measured", measured);
        put("average_measured", average_measured);
        put("first_moment", to_vec(&self.optimizer.moments[0])?);
        put("second_moment", to_vec(&self.optimizer.moments[1])?);
        put("counts", [counts, vec![self.seconds as f32]].concat());
        let single = checkpoint::Precision::Single;
        checkpoint::write(&config.run.join("state.safetensors"), network, &state, single)?;
        let half = checkpoint::Precision::Half;
        checkpoint::write_with_scales(&config.run.join("model.safetensors"), network, &model, half, scales)
    }
}

/// Averages the measured statistics of the replicas' normalisations after a step. After a skipped step, which may have
/// left values that are not finite, the replicas get the previous statistics.
pub(super) fn follow_measured(mean: &mut Tensor, replicas: &[&Tensor], is_good: bool) {
    tch::no_grad(|| {
        if is_good {
            *mean = Tensor::stack(replicas, 0).mean_dim([0].as_slice(), false, Kind::Float);
        } else {
            for replica in replicas {
                replica.shallow_clone().copy_(mean);
            }
        }
    });
}

/// Whether values are not finite.
pub(super) fn is_damaged(array: &Array) -> bool {
    array.values.iter().any(|value| !value.is_finite())
}

/// The root mean square of a tensor's values, with a minimum: values that are nearly 0 must be able to change too.
fn size(array: &Array) -> f32 {
    let least = if array.shape.len() > 1 { 0.01 } else { 0.02 };
    let squares: f32 = array.values.iter().map(|value| value * value).sum();
    (squares / array.values.len().max(1) as f32).sqrt().max(least)
}

/// A short list of the layers to which tensors belong.
fn layers_of(network: &Network, graph: &Graph, names: &[String]) -> String {
    let taken = checkpoint::tensors(graph).into_iter().filter(|spec| names.contains(&spec.name));
    let layers = taken.filter_map(|spec| graph.nodes[spec.node].layer);
    let mut layers: Vec<&str> = layers.map(|layer| network.layers[layer].name.as_str()).collect();
    layers.dedup();
    match layers.as_slice() {
        [first, .., last] => format!("{first} … {last} ({} layers)", layers.len()),
        few => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_step_leaves_nothing_behind_in_what_is_measured() {
        let replicas = [Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[3f32, 6.0])];
        let mut mean = Tensor::zeros([2], tch::kind::FLOAT_CPU);
        let all: Vec<&Tensor> = replicas.iter().collect();
        follow_measured(&mut mean, &all, true);
        let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
        assert_eq!(values(&mean), [2.0, 4.0]);
        let _ = replicas[1].shallow_clone().fill_(f64::NAN);
        follow_measured(&mut mean, &all, false);
        assert!(all.iter().all(|replica| values(replica) == [2.0, 4.0]));
        assert_eq!(values(&mean), [2.0, 4.0]);
    }
}
