//! Chooses the ranges of a network's maps one by one, by the error of its scores.
//!
//! A method that uses only the values of one map, such as the smallest mean squared error, does not know which of the
//! values matter: the largest ones may belong to channels that later layers hardly use. Here the range of each map is
//! made narrower or wider as long as the scores of the whole network in int8 come closer to those in floats.

use super::Scale;
use super::calibrate::{noise, scores};
use crate::error::Result;

/// The factor by which a range is narrowed in one step.
const STEP: f64 = 0.8;

/// A change must lower the error to this share of it, or the old range stays.
const GAIN: f64 = 0.999;

/// The maximum number of photographs: the search runs the network some hundred times on each.
const IMAGES: usize = 24;

/// An end of a range.
#[derive(Debug, Clone, Copy)]
enum End {
    Low,
    High,
}

impl Scale {
    /// The scale after multiplying one end of the range by `factor`.
    fn stretched(self, end: End, factor: f64) -> Scale {
        let (low, high) = (f64::from(self.low()), f64::from(self.high()));
        match end {
            End::Low => Scale::spanning(low * factor, high),
            End::High => Scale::spanning(low, high * factor),
        }
    }
}

/// Improves the scales `start`: the scores of the file that `write` makes come closer to those of `float`, an ONNX file
/// of the network in floats. Uses at most 24 of `images` (see [`super::letterboxed`]), of `side` × `side` pixels. The
/// scale with the index `image` stays, because the range of the image is known. `progress` gets the number of finished
/// scales.
///
/// # Errors
///
/// What `write` returns; a file that the detector does not run.
pub fn search(
    float: &[u8],
    start: &[Scale],
    image: Option<usize>,
    images: &[Vec<f32>],
    side: usize,
    write: impl Fn(&[Scale]) -> Result<Vec<u8>>,
    progress: &dyn Fn(usize),
) -> Result<Vec<Scale>> {
    let images = &images[..images.len().min(IMAGES)];
    let exact = scores(float, images, side)?;
    let mut scales = start.to_vec();
    descend(&mut scales, image, |scales| Ok(noise(&exact, &scores(&write(scales)?, images, side)?)), progress)?;
    Ok(scales)
}

/// Changes the ranges of `scales` one by one, in order and except `fixed`, and keeps changes that lower `error`.
/// Returns the lowest error.
fn descend(
    scales: &mut [Scale],
    fixed: Option<usize>,
    mut error: impl FnMut(&[Scale]) -> Result<f64>,
    progress: &dyn Fn(usize),
) -> Result<f64> {
    let mut least = error(scales)?;
    for place in 0..scales.len() {
        let ends = [End::High, End::Low].into_iter().filter(|_| fixed != Some(place));
        for end in ends {
            let mut walk =
                |factor| walk(scales, place, |scale| scale.stretched(end, factor), &mut least, &mut error);
            // Wider only if narrower did not help.
            if !walk(STEP)? {
                walk(1.0 / STEP)?;
            }
        }
        progress(place + 1);
    }
    Ok(least)
}

/// Applies `step` repeatedly to the scale at `place` as long as that lowers `error` below `least`. Returns whether it
/// did.
fn walk(
    scales: &mut [Scale],
    place: usize,
    step: impl Fn(Scale) -> Scale,
    least: &mut f64,
    error: &mut impl FnMut(&[Scale]) -> Result<f64>,
) -> Result<bool> {
    let mut improved = false;
    loop {
        let before = scales[place];
        scales[place] = step(before);
        if scales[place] == before {
            return Ok(improved);
        }
        let now = error(scales)?;
        if now >= *least * GAIN {
            scales[place] = before;
            return Ok(improved);
        }
        (*least, improved) = (now, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_error_is_least() {
        // Twice too wide above, twice too narrow below; the second is fixed, the third right.
        let wanted = [(-2.0, 4.0), (-1.0, 1.0), (0.0, 3.0)];
        let start = [(-1.0, 8.0), (-4.0, 4.0), (0.0, 3.0)];
        let mut scales = start.map(|(low, high)| Scale::spanning(low, high));
        let mut calls = 0;
        let error = |scales: &[Scale]| {
            calls += 1;
            let off = |(scale, (low, high)): (&Scale, (f64, f64))| {
                (f64::from(scale.low()) - low).abs() + (f64::from(scale.high()) - high).abs()
            };
            Ok(scales.iter().zip(wanted).map(off).sum())
        };
        let least = descend(&mut scales, Some(1), error, &|_| ()).unwrap();
        let near = |scale: Scale, low: f32, high: f32| {
            assert!((scale.low() - low).abs() < 0.25 && (scale.high() - high).abs() < 0.45, "{scale:?}");
        };
        near(scales[0], -2.0, 4.0);
        assert_eq!(scales[1], Scale::spanning(-4.0, 4.0));
        assert_eq!(scales[2], Scale::spanning(0.0, 3.0));
        // The fixed one is off by 6.
        assert!((6.0..6.7).contains(&least), "{least}");
        assert!(calls < 30, "{calls}");
    }

    #[test]
    fn an_error_that_nothing_changes_keeps_all() {
        let mut scales = [Scale::spanning(-1.0, 1.0), Scale::spanning(0.0, 6.0)];
        let before = scales;
        assert_eq!(descend(&mut scales, None, |_| Ok(0.5), &|_| ()).unwrap(), 0.5);
        assert_eq!(scales, before);
    }
}
