//! The gradient of a depthwise convolution's weights on a CPU.
//!
//! libtorch has a fast kernel for this up to 3×3. For larger kernels it uses its kernel for grouped convolutions, which
//! took more than half of the training time. This implementation needs a twentieth of that.

use tch::{Kind, Tensor};

use super::tensor::to_vec;
use crate::error::Result;

/// Number of channels that are summed together.
const LANES: usize = 16;

/// The size of a depthwise convolution.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in pixels.
    pub stride: usize,
}

impl Window {
    /// Width of the border of zeros around the map.
    fn padding(self) -> usize {
        self.kernel / 2
    }

    /// Whether libtorch would use its slow kernel.
    pub fn is_slow_in_libtorch(self) -> bool {
        self.kernel > 3
    }
}

/// The gradient of the weights, f32, `[C, 1, kernel, kernel]`. It is computed from the input map, `[batch, C, height,
/// width]`, and the gradient of the output, `[batch, C, out height, out width]`, both on the CPU.
///
/// It is fastest if both have the channels-last layout.
///
/// # Errors
///
/// libtorch's.
pub fn weight_gradient(map: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
    let (batch, channels, height, width) = map.size4()?;
    let (_, _, out_height, out_width) = gradient.size4()?;
    let flat = |tensor: &Tensor| to_vec(&tensor.permute([0, 2, 3, 1]).to_kind(Kind::Float));
    let (map, gradient) = (flat(map)?, flat(gradient)?);
    let shape = Shape {
        batch: batch as usize,
        channels: channels as usize,
        size: [height as usize, width as usize],
        out: [out_height as usize, out_width as usize],
    };
    let sums = pulp::Arch::new().dispatch(Sums { map: &map, gradient: &gradient, shape, window });
    let kernel = window.kernel as i64;
    Ok(Tensor::f_from_slice(&sums)?.f_view([kernel, kernel, channels])?.permute([2, 0, 1]).f_unsqueeze(1)?)
}

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    channels: usize,
    /// Height and width of the map.
    size: [usize; 2],
    /// Height and width of the gradient.
    out: [usize; 2],
}

/// Sums map · gradient over all outputs, `[kernel, kernel, C]`; both NHWC.
struct Sums<'a> {
    map: &'a [f32],
    gradient: &'a [f32],
    shape: Shape,
    window: Window,
}

impl pulp::NullaryFnOnce for Sums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        match self.window.kernel {
            3 => self.sums::<3>(),
            5 => self.sums::<5>(),
            7 => self.sums::<7>(),
            // One tap after another.
            _ => self.sums::<1>(),
        }
    }
}

impl Sums<'_> {
    /// Sums `TAPS` neighbouring weights in a row of the kernel together.
    #[inline(always)]
    fn sums<const TAPS: usize>(&self) -> Vec<f32> {
        let Shape { batch, channels, size: [height, width], out: [out_height, out_width] } = self.shape;
        let Window { kernel, stride } = self.window;
        let padding = self.window.padding();
        let mut sums = vec![0f32; kernel * kernel * channels];
        for image in 0..batch {
            for out_y in 0..out_height {
                let gradient = &self.gradient[(image * out_height + out_y) * out_width * channels..];
                let gradient = &gradient[..out_width * channels];
                for i in 0..kernel {
                    let Some(y) = (out_y * stride + i).checked_sub(padding).filter(|&y| y < height) else {
                        continue;
                    };
                    let map = &self.map[(image * height + y) * width * channels..][..width * channels];
                    for j in (0..kernel).step_by(TAPS) {
                        let sums = &mut sums[(i * kernel + j) * channels..][..TAPS * channels];
                        for channel in (0..channels).step_by(LANES) {
                            row::<TAPS>(
                                map,
                                gradient,
                                sums,
                                channel,
                                channels,
                                stride,
                                padding as isize - j as isize,
                            );
                        }
                    }
                }
            }
        }
        sums
    }
}

/// Adds the contribution of a row of outputs to `TAPS` neighbouring weights of at most [`LANES`] channels starting at
/// `channel`. The input of the first weight begins `before` pixels left of the row.
#[inline(always)]
fn row<const TAPS: usize>(
    map: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
    channel: usize,
    channels: usize,
    stride: usize,
    before: isize,
) {
    let lanes = LANES.min(channels - channel);
    let load = |row: &[f32], x: usize| -> [f32; LANES] {
        let values = &row[x * channels + channel..];
        match values.first_chunk::<LANES>() {
            Some(values) if lanes == LANES => *values,
            _ => {
                let mut some = [0.0; LANES];
                some[..lanes].copy_from_slice(&values[..lanes]);
                some
            }
        }
    };
    let mut partial = [[0f32; LANES]; TAPS];
    let width = (map.len() / channels) as isize;
    for x in 0..gradient.len() / channels {
        let taught = load(gradient, x);
        let first = (x * stride) as isize - before;
        if first >= 0 && first + TAPS as isize <= width {
            for (tap, partial) in partial.iter_mut().enumerate() {
                let seen = load(map, first as usize + tap);
                for lane in 0..LANES {
                    partial[lane] += seen[lane] * taught[lane];
                }
            }
        } else {
            for (tap, partial) in partial.iter_mut().enumerate() {
                let at = first + tap as isize;
                if at < 0 || at >= width {
                    continue;
                }
                let seen = load(map, at as usize);
                for lane in 0..LANES {
                    partial[lane] += seen[lane] * taught[lane];
                }
            }
        }
    }
    for (tap, partial) in partial.iter().enumerate() {
        let to = &mut sums[tap * channels + channel..][..lanes];
        to.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libtorch() {
        tch::manual_seed(5);
        let shapes = [(3, 1), (5, 1), (5, 2), (7, 1), (9, 2)];
        for ((kernel, stride), channels) in shapes.into_iter().zip([16, 24, 7, 33, 16]) {
            let options = (Kind::Float, tch::Device::Cpu);
            let map = Tensor::randn([2, channels, 11, 6], options);
            let weight = Tensor::randn([channels, 1, kernel, kernel], options).set_requires_grad(true);
            let out = map.conv2d(&weight, None::<Tensor>, [stride, stride], [kernel / 2; 2], [1, 1], channels);
            let gradient = Tensor::randn(out.size(), options);
            (&out * &gradient).sum(Kind::Float).backward();
            let window = Window { kernel: kernel as usize, stride: stride as usize };
            let ours = weight_gradient(&map, &gradient, window).unwrap();
            let difference = (ours - weight.grad()).abs().max().double_value(&[]);
            assert!(difference < 1e-4, "{kernel}×{kernel}, stride {stride}: {difference}");
        }
    }
}
