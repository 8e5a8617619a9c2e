//! The device and the number format of a run.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The number format of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 16-bit floats on CUDA. On a CPU, bfloat16 if it supports that, else 32-bit floats.
    Auto,
    /// bfloat16.
    Bf16,
    /// 16-bit floats with loss scaling (Micikevicius et al. 2018). This is the fastest format on CUDA, 1.4 times as
    /// fast as bfloat16, because cuDNN's batch normalisation needs fewer passes than libtorch's for bfloat16. It is the
    /// slowest on a CPU.
    F16,
    /// 32-bit floats.
    F32,
}

pub(super) fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        // cuDNN's benchmark of its algorithms is off: with it the first step took 20 to 40 seconds, without it 10.
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => Err(Error::Option {
            option: "--device",
            problem: "libtorch sees no CUDA device (preload libtorch_cuda.so where it is there)".into(),
        }),
        other => Err(Error::Option { option: "--device", problem: format!("`{other}` is neither cpu nor cuda") }),
    }
}

/// The device and the number format of a run.
///
/// # Errors
///
/// [`Error::Option`] for a format that is not safe in libtorch on this machine.
pub(super) fn device_and_kind(device_name: &str, precision: Precision) -> Result<(Device, Kind)> {
    let device = device(device_name)?;
    let kind = match (precision, device) {
        (Precision::F16, Device::Cpu) if !has_safe_f16() => {
            let problem =
                "libtorch's 16-bit kernels write beyond their memory on processors without AVX-512: take f32";
            return Err(Error::Option { option: "--precision", problem: problem.into() });
        }
        (Precision::F32, _) => Kind::Float,
        (Precision::F16, _) | (Precision::Auto, Device::Cuda(_)) => Kind::Half,
        (Precision::Auto, Device::Cpu) if !has_bf16() => Kind::Float,
        _ => Kind::BFloat16,
    };
    Ok((device, kind))
}

/// Whether this processor has bfloat16 multiplication. Without it, bfloat16 is several times slower than 32-bit floats.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether libtorch's 16-bit floats are safe on this machine. libtorch 2.11 corrupts the heap on processors with only
/// AVX2, as a few convolutions and their gradients in PyTorch show.
pub(super) fn has_safe_f16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

/// The factor of the loss that keeps gradients in the range of their number format. It is halved when a gradient
/// overflows, which costs a step, and doubled after a long time without overflow.
pub(super) struct LossScale {
    /// The factor for the next step.
    pub(super) now: f64,
    most: f64,
    good_steps: u32,
}

impl LossScale {
    pub(super) fn of(kind: Kind) -> LossScale {
        // Only 16-bit floats have a smaller range than gradients need.
        let (now, most) = if kind == Kind::Half { (16_384.0, 65_536.0) } else { (1.0, 1.0) };
        LossScale { now, most, good_steps: 0 }
    }

    /// Updates the factor after a step whose gradient was finite or not.
    pub(super) fn follow(&mut self, finite: bool) {
        self.good_steps = if finite { self.good_steps + 1 } else { 0 };
        if !finite {
            self.now = (self.now / 2.0).max(1.0);
        } else if self.good_steps.is_multiple_of(1000) {
            self.now = (self.now * 2.0).min(self.most);
        }
    }
}

/// Counts the steps in a row that have values that are not finite. A single overflow costs only a step, but a diverged
/// training must not continue for hours.
#[derive(Debug, Default)]
pub(super) struct BadSteps {
    count: u64,
    had_good: bool,
    /// Of the last step.
    fault: Option<&'static str>,
}

/// The first of the bad steps in a row, from 1, and what is not finite in the last.
pub(super) type Fault = (u64, &'static str);

impl BadSteps {
    /// A training ends after more bad steps in a row.
    const MOST: u64 = 20;

    /// Counts `step`. `fault` says what is not finite, if anything is not. Returns it if there are too many bad steps.
    pub(super) fn follow(&mut self, step: u64, fault: Option<&'static str>) -> Option<Fault> {
        self.count = if fault.is_some() { self.count + 1 } else { 0 };
        self.had_good |= fault.is_none();
        self.fault = fault;
        if self.count > BadSteps::MOST { self.of(step) } else { None }
    }

    /// The fault of a training that ends with `step` and had only bad steps, so nothing was learned.
    pub(super) fn at_end(&self, step: u64) -> Option<Fault> {
        if self.had_good { None } else { self.of(step) }
    }

    fn of(&self, step: u64) -> Option<Fault> {
        self.fault.map(|fault| (step + 1 - self.count, fault))
    }
}

/// Whether all values of a tensor are finite. Waits for the device.
pub(super) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bad_steps_in_a_row_end_a_training() {
        let mut bad = BadSteps::default();
        assert!((1..=20).all(|step| bad.follow(step, Some("the loss")).is_none()));
        assert_eq!(bad.follow(21, None), None);
        assert!((22..=41).all(|step| bad.follow(step, Some("the loss")).is_none()));
        assert_eq!(bad.at_end(41), None);
        assert_eq!(bad.follow(42, Some("the gradient")), Some((22, "the gradient")));
        // A short training may have no good step.
        let mut short = BadSteps::default();
        assert_eq!((short.at_end(0), short.follow(1, Some("the loss"))), (None, None));
        assert_eq!(short.at_end(1), Some((1, "the loss")));
    }

    #[test]
    fn a_single_value_makes_a_tensor_not_finite() {
        assert!(is_finite(&Tensor::from_slice(&[1f32, f32::MAX])));
        assert!([f32::NAN, f32::INFINITY].iter().all(|&bad| !is_finite(&Tensor::from_slice(&[1.0, bad]))));
    }

    #[test]
    fn the_loss_scale_halves_when_gradients_overflow_and_comes_back() {
        let mut scale = LossScale::of(Kind::Half);
        let first = scale.now;
        scale.follow(false);
        assert_eq!(scale.now, first / 2.0);
        (0..999).for_each(|_| scale.follow(true));
        assert_eq!(scale.now, first / 2.0);
        scale.follow(true);
        assert_eq!(scale.now, first);
        (0..100_000).for_each(|_| scale.follow(true));
        assert_eq!(scale.now, scale.most);
        (0..100).for_each(|_| scale.follow(false));
        assert_eq!(scale.now, 1.0);

        let mut wide = LossScale::of(Kind::BFloat16);
        wide.follow(false);
        (0..5000).for_each(|_| wide.follow(true));
        assert_eq!(wide.now, 1.0);
    }
}
