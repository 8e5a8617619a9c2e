//! Histograms of activations.

use super::{Method, Scale};

const BINS: usize = 4096;

/// Counts of values in equal bins around zero. The range doubles when a value is outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// From `-range` to `range`.
    counts: Vec<u64>,
    range: f64,
    low: f64,
    high: f64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        // Contains the range of a ReLU6 without growing.
        Histogram { counts: vec![0; BINS], range: 8.0, low: f64::INFINITY, high: f64::NEG_INFINITY }
    }
}

impl Histogram {
    /// Counts a value. NaN is ignored.
    pub fn add(&mut self, value: f32) {
        let value = f64::from(value);
        if !value.is_finite() {
            return;
        }
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        while value.abs() >= self.range {
            self.double();
        }
        let bin = ((value / self.range + 1.0) * (BINS / 2) as f64) as usize;
        self.counts[bin.min(BINS - 1)] += 1;
    }

    fn double(&mut self) {
        let mut counts = vec![0; BINS];
        for (bin, count) in self.counts.iter().enumerate() {
            counts[BINS / 4 + bin / 2] += count;
        }
        self.counts = counts;
        self.range *= 2.0;
    }

    /// The scale that `method` chooses for these values.
    pub fn scale(&self, method: Method) -> Scale {
        match method {
            Method::Percentile(percentile) => {
                let (low, high) = self.percentile(percentile);
                Scale::spanning(low, high)
            }
            Method::Mse => {
                let (low, high) = (self.low.min(0.0), self.high.max(0.0));
                let candidates = (2..=100).map(|step| f64::from(step) / 100.0);
                let scales = candidates.map(|share| Scale::spanning(low * share, high * share));
                let best = scales.map(|scale| (self.error(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0));
                best.map_or(Scale::spanning(low, high), |(_, scale)| scale)
            }
        }
    }

    /// The range that contains `percentile` percent of the values. Equal shares are cut off at both ends.
    fn percentile(&self, percentile: f64) -> (f64, f64) {
        let total: u64 = self.counts.iter().sum();
        let mut cut = total as f64 * (100.0 - percentile.clamp(0.0, 100.0)) / 100.0;
        // If no value is negative, as after a ReLU, everything is cut off at the upper end.
        if self.low < 0.0 {
            cut /= 2.0;
        }
        let width = 2.0 * self.range / BINS as f64;
        let edge = |from_above: bool| {
            let mut seen = 0.0;
            (0..BINS).map(|i| if from_above { BINS - 1 - i } else { i }).find(|&bin| {
                seen += self.counts[bin] as f64;
                seen > cut
            })
        };
        let first = edge(false).map_or(0.0, |bin| bin as f64 * width - self.range);
        let last = edge(true).map_or(0.0, |bin| (bin + 1) as f64 * width - self.range);
        (first.max(self.low.min(0.0)), last.min(self.high.max(0.0)))
    }

    /// The sum of the squared errors of all values with `scale`.
    fn error(&self, scale: Scale) -> f64 {
        let width = 2.0 * self.range / BINS as f64;
        let square = |(bin, &count): (usize, &u64)| {
            let value = (bin as f64 + 0.5) * width - self.range;
            count as f64 * (value - scale.rounded(value)).powi(2)
        };
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(square).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f32>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn a_range_grows_and_nothing_is_lost() {
        let histogram = of((0..1000).map(|i| i as f32 - 500.0).chain([f32::NAN]));
        assert_eq!(histogram.counts.iter().sum::<u64>(), 1000);
        let scale = histogram.scale(Method::Percentile(100.0));
        assert!((scale.high() - 499.0).abs() < 4.0 && (scale.low() + 500.0).abs() < 4.0, "{scale:?}");
    }

    #[test]
    fn a_percentile_cuts_outliers() {
        // One in a thousand is 100, the rest up to 1.
        let histogram = of((0..10_000).map(|i| if i % 1000 == 0 { 100.0 } else { (i % 100) as f32 / 99.0 }));
        assert!((histogram.scale(Method::Percentile(99.8)).high() - 1.0).abs() < 0.1);
        assert!((histogram.scale(Method::Percentile(100.0)).high() - 100.0).abs() < 0.1);
    }

    #[test]
    fn least_error_weighs_outliers_against_steps() {
        // For uniform values, clipping costs most, so the range stays. A single outlier costs less than coarse steps
        // for all.
        let even = of((0..=10_000).map(|i| i as f32 / 2000.0));
        assert!(even.scale(Method::Mse).high() > 4.8);
        let outlier = of((0..1_000_000).map(|i| (i % 1000) as f32 / 1000.0).chain([20.0]));
        assert!(outlier.scale(Method::Mse).high() < 5.0);
    }

    #[test]
    fn nothing_seen_gives_a_scale_all_the_same() {
        for method in [Method::Mse, Method::Percentile(99.9)] {
            assert!(Histogram::default().scale(method).scale > 0.0);
        }
    }
}
