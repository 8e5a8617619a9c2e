//! AdamW over one flat vector, and the running average of the weights.

use tch::{Device, Kind, Tensor};

/// AdamW (Loshchilov & Hutter 2019) with a learning rate and a weight decay for each value.
pub struct AdamW {
    /// First and second moments.
    pub moments: [Tensor; 2],
    rates: Tensor,
    decays: Tensor,
}

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;

/// Gradients with a larger norm are clipped to this norm.
const CLIP_NORM: f64 = 10.0;

impl AdamW {
    /// `rates` has a factor of the learning rate for each value, `decays` the weight decay of each value.
    pub fn new(rates: &[f32], decays: &[f32], device: Device) -> AdamW {
        let zeros = || Tensor::zeros([rates.len() as i64], (Kind::Float, device));
        AdamW {
            moments: [zeros(), zeros()],
            rates: Tensor::from_slice(rates).to_device(device),
            decays: Tensor::from_slice(decays).to_device(device),
        }
    }

    /// Makes step number `step` (from 1) with learning rate `rate`. Returns the norm of the gradient before clipping.
    pub fn step(&mut self, values: &mut Tensor, gradient: Tensor, step: u64, rate: f64) -> f64 {
        let _guard = tch::no_grad_guard();
        let norm = gradient.square().sum(Kind::Float).double_value(&[]).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let gradient = gradient * (CLIP_NORM / norm.max(CLIP_NORM));
        let [first, second] = &mut self.moments;
        let _ = first.lerp_(&gradient, 1.0 - BETAS[0]);
        let _ = second.lerp_(&gradient.square(), 1.0 - BETAS[1]);
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let first = &*first / correction(BETAS[0]);
        let second = (&*second / correction(BETAS[1])).sqrt() + EPSILON;
        let change = (first / second + &self.decays * &*values) * &self.rates * -rate;
        let _ = values.g_add_(&change);
        norm
    }
}

/// The weight of the old average at step `step` (from 1). It is smaller at first, to forget the initial weights. The
/// result is an average of about the last thousand steps, or of the share `over` of all steps so far, if that is more
/// (polynomial-decay averaging, Shamir & Zhang 2013).
pub fn average_keep(step: u64, over: f64) -> f64 {
    let step = step as f64;
    let last_thousand = (0.999f64).min((1.0 + step) / (10.0 + step));
    if over > 0.0 { last_thousand.max(1.0 - 1.0 / (over * step).max(1.0)) } else { last_thousand }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_a_parabola_and_decays_what_has_no_gradient() {
        let mut values = Tensor::from_slice(&[5f32, 5.0, 5.0]);
        let mut optimizer = AdamW::new(&[1.0, 1.0, 0.0], &[0.0, 0.5, 0.5], Device::Cpu);
        for step in 1..=500 {
            let gradient = (&values - 2.0) * Tensor::from_slice(&[1f32, 0.0, 1.0]);
            optimizer.step(&mut values, gradient, step, 0.05);
        }
        let values: Vec<f32> = values.try_into().unwrap();
        assert!((values[0] - 2.0).abs() < 0.05, "{values:?}");
        assert!(values[1] < 0.01, "{values:?}");
        assert_eq!(values[2], 5.0);
    }

    #[test]
    fn an_average_over_a_share_of_the_steps_follows_them_at_that_distance() {
        let mean_age = |over: f64, steps: u64| {
            // For a line that rises by 1 per step.
            let average = (1..=steps).fold(0.0, |average, step| {
                let keep = average_keep(step, over);
                average * keep + step as f64 * (1.0 - keep)
            });
            steps as f64 - average
        };
        assert!((mean_age(0.0, 20_000) - 1000.0).abs() < 20.0, "{}", mean_age(0.0, 20_000));
        for (over, steps) in [(0.5, 20_000), (0.5, 40_000), (0.25, 40_000)] {
            // Weights like t^(1/over - 1) put the mean at 1 / (1 + over) of the way.
            let (age, expected) = (mean_age(over, steps), steps as f64 * over / (1.0 + over));
            assert!((age / expected - 1.0).abs() < 0.02, "{over} of {steps}: {age}, not {expected}");
        }
    }

    #[test]
    fn a_gradient_that_is_no_number_changes_nothing() {
        let mut values = Tensor::from_slice(&[1f32]);
        let mut optimizer = AdamW::new(&[1.0], &[0.0], Device::Cpu);
        assert!(optimizer.step(&mut values, Tensor::from_slice(&[f32::NAN]), 1, 0.1).is_nan());
        assert_eq!(values.double_value(&[0]), 1.0);
    }
}
