//! Reads Darknet's `.weights`: a header, then the values of every convolution as little-endian 32-bit floats, in the
//! order of the cfg. With batch normalisation, bias, scale, mean and variance come first; without it, the bias. Then
//! come the kernels, OIHW.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::cfg::Convolution;
use crate::checkpoint::{Array, Weights};
use crate::error::{Error, Result};
use crate::network::NORM_EPSILON;

/// Major, minor and revision, four bytes each.
const VERSION_BYTES: usize = 12;

/// The version of Darknet that wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    major: i32,
    minor: i32,
    revision: i32,
}

impl Version {
    fn read(bytes: &[u8; VERSION_BYTES]) -> Version {
        let [major, minor, revision] =
            [0, 4, 8].map(|at| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        Version { major, minor, revision }
    }

    /// Includes the number of images seen, which has 64 bits since version 0.2.
    fn header_bytes(self) -> usize {
        let sixty_four =
            i64::from(self.major) * 10 + i64::from(self.minor) >= 2 && self.major < 1000 && self.minor < 1000;
        VERSION_BYTES + if sixty_four { 8 } else { 4 }
    }

    /// The divisor that Darknet uses for a channel with this variance.
    ///
    /// The original (0.1.0, 0.2.0) adds 10⁻⁶ to the square root; its successor (0.2.5) adds 10⁻⁵ to the variance. This
    /// matters if a channel is nearly constant.
    fn deviation(self, variance: f64) -> f64 {
        if self.revision > 0 { (variance + 1e-5).sqrt() } else { variance.sqrt() + 1e-6 }
    }
}

impl Convolution {
    /// The parts in the order of the file, each with its number of values.
    fn parts(&self) -> Vec<(&'static str, usize)> {
        let channels = self.shape[0];
        let mut parts = vec![("bias", channels)];
        if self.norm {
            parts.extend([("scale", channels), ("mean", channels), ("variance", channels)]);
        }
        parts.push(("weights", self.shape.iter().product()));
        parts
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.1).sum()
    }
}

/// Reads a file for these `convolutions`. Its length is checked before anything is read.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::DarknetWeights`] with the layer at which the file ends, or the number of extra bytes.
pub fn read(path: &Path, convolutions: &[Convolution]) -> Result<Vec<u8>> {
    let bad = |problem: String| Error::DarknetWeights { path: path.to_owned(), problem };
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(bad("is no file".into()));
    }
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = metadata.len();
    let mut version = [0; VERSION_BYTES];
    if length < VERSION_BYTES as u64 {
        return Err(bad(format!("has {length} bytes: too short for the header")));
    }
    file.read_exact(&mut version).map_err(Error::io(path))?;
    let version = Version::read(&version);
    let Version { major, minor, revision } = version;
    let header = version.header_bytes() as u64;
    // Limited by the cfg: at most 2^14 channels each way and 31×31 kernels in every layer.
    let expected: u64 = convolutions.iter().map(|convolution| convolution.len() as u64).sum();
    let values = length.saturating_sub(header) / 4;
    let of_version = format!("(its header says version {major}.{minor}.{revision})");
    if values < expected {
        let mut left = values;
        let place = convolutions.iter().find_map(|convolution| {
            let len = convolution.len() as u64;
            if left < len {
                return Some((convolution, left, len));
            }
            left -= len;
            None
        });
        let (convolution, has, len) = place.ok_or_else(|| bad("is too short".into()))?;
        return Err(bad(format!(
            "does not fit the cfg: {} of {expected} values are missing; it ends in layer {} (line {} of the cfg), which has \
             {has} of {len} {of_version}",
            expected - values,
            convolution.index,
            convolution.line
        )));
    }
    if values > expected || length != header + 4 * expected {
        let over = length.saturating_sub(header + 4 * expected);
        return Err(bad(format!(
            "does not fit the cfg: {over} bytes ({} values) are left over after the {expected} values of its {} \
             convolutions {of_version}",
            over / 4,
            convolutions.len()
        )));
    }
    std::fs::read(path).map_err(Error::io(path))
}

/// The tensors of a file that [`read`] has accepted.
///
/// Our networks divide by the square root of the variance plus [`NORM_EPSILON`], which is far more than Darknet adds.
/// To get the same results, each channel's scale is multiplied by the ratio of the two divisors. (The variance could be
/// lowered instead, but would be negative for many channels, and no longer the measured value.)
///
/// # Errors
///
/// [`Error::DarknetWeights`], naming the layer: a value that is not finite, a negative variance, a channel whose scale
/// becomes too large.
pub fn tensors(path: &Path, bytes: &[u8], convolutions: &[Convolution]) -> Result<Weights> {
    let bad = |problem: String| Error::DarknetWeights { path: path.to_owned(), problem };
    let (version, _) = bytes.split_first_chunk().ok_or_else(|| bad("is too short for the header".into()))?;
    let version = Version::read(version);
    let mut rest = bytes.get(version.header_bytes()..).unwrap_or_default();
    let mut weights = Weights::new();
    for convolution in convolutions {
        let &Convolution { index, line, norm, shape, .. } = convolution;
        let place = format!("layer {index} (line {line} of the cfg)");
        let mut parts = Vec::new();
        for (part, len) in convolution.parts() {
            let (head, tail) =
                rest.split_at_checked(4 * len).ok_or_else(|| bad(format!("ends in {place}, {part}")))?;
            rest = tail;
            let values: Vec<f32> =
                head.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let wrong = values.iter().filter(|value| !value.is_finite()).count();
            if wrong > 0 {
                return Err(bad(format!("{place}, {part}: {wrong} of {len} values are no numbers")));
            }
            parts.push(values);
        }
        let mut put = |tensor: &str, shape: Vec<usize>, values: Vec<f32>| {
            weights.insert(format!("{}.{tensor}", convolution.node), Array { shape, values });
        };
        let channels = vec![shape[0]];
        let kernels = parts.pop().unwrap_or_default();
        put("conv.weight", shape.to_vec(), kernels);
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        if !norm {
            put("conv.bias", channels, next());
            continue;
        }
        let (bias, mut scale, mean, variance) = (next(), next(), next(), next());
        if let Some(channel) = variance.iter().position(|variance| *variance < 0.0) {
            return Err(bad(format!("{place}: the variance of channel {channel} is {}", variance[channel])));
        }
        for (channel, (scale, &variance)) in scale.iter_mut().zip(&variance).enumerate() {
            let variance = f64::from(variance);
            let ratio = (variance + NORM_EPSILON).sqrt() / version.deviation(variance);
            *scale = (f64::from(*scale) * ratio) as f32;
            if !scale.is_finite() {
                return Err(bad(format!("{place}: the scale of channel {channel} is too large for its variance")));
            }
        }
        put("bn.weight", channels.clone(), scale);
        put("bn.bias", channels.clone(), bias);
        put("bn.running_mean", channels.clone(), mean);
        put("bn.running_var", channels, variance);
    }
    Ok(weights)
}
