//! Scales of int8 activations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Scales by the name of the node to whose output they belong.
pub type Scales = BTreeMap<String, Scale>;

/// The largest byte of an activation.
pub const ACTIVATION_MAX: u8 = 127;

/// The quantisation of a tensor of activations: `(byte - zero_point) * scale`, with bytes in 0…[`ACTIVATION_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The difference between two neighbouring values.
    pub scale: f32,
    /// The byte that represents zero.
    pub zero_point: u8,
}

impl Scale {
    /// The scale whose bytes cover `low..=high` and zero.
    pub fn spanning(low: f64, high: f64) -> Scale {
        let (low, high) = (low.min(0.0), high.max(0.0));
        if high - low < 1e-12 {
            return Scale { scale: 1.0 / f32::from(ACTIVATION_MAX), zero_point: 0 };
        }
        let scale = (high - low) / f64::from(ACTIVATION_MAX);
        Scale { scale: scale as f32, zero_point: (-low / scale).round() as u8 }
    }

    /// Whether the scale is a positive number and the zero point is in the range of activations.
    pub fn is_valid(self) -> bool {
        self.scale.is_finite() && self.scale > 0.0 && self.zero_point <= ACTIVATION_MAX
    }

    /// The value of byte 0.
    pub fn low(self) -> f32 {
        -f32::from(self.zero_point) * self.scale
    }

    /// The value of byte [`ACTIVATION_MAX`].
    pub fn high(self) -> f32 {
        f32::from(ACTIVATION_MAX - self.zero_point) * self.scale
    }

    /// `value` after quantisation and dequantisation.
    pub fn rounded(self, value: f64) -> f64 {
        let (scale, zero) = (f64::from(self.scale), f64::from(self.zero_point));
        let byte = ((value / scale).round_ties_even() + zero).clamp(0.0, f64::from(ACTIVATION_MAX));
        (byte - zero) * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_span_their_range_with_zero_exact() {
        let relu6 = Scale::spanning(0.0, 6.0);
        assert_eq!((relu6.zero_point, relu6.low(), relu6.rounded(6.0)), (0, 0.0, f64::from(relu6.scale) * 127.0));
        let signed = Scale::spanning(-1.0, 3.0);
        assert_eq!(signed.zero_point, 32);
        assert_eq!(signed.rounded(0.0), 0.0);
        assert!((signed.rounded(100.0) - f64::from(signed.high())).abs() < 1e-6);
        assert_eq!(Scale::spanning(0.0, 0.0).rounded(0.0), 0.0);
    }
}
