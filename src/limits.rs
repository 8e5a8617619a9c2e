//! Limits for a model, and the accounting of what it needs before memory is allocated.

use crate::error::{Error, Kind, Result};

/// What a model may use at most. Its needs are computed from the file before memory is allocated. A model beyond a
/// limit is refused with the code `model-too-large`. To change a limit, start from [`Limits::default`].
///
/// ```
/// use micro_yolo::{Detector, Limits};
///
/// let mut limits = Limits::default();
/// limits.memory_bytes = 4 << 30;
/// let builder = Detector::builder().limits(limits);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Memory in bytes for everything that is made from the file: its parsed content, all copies of its weights,
    /// packed ones included, and the tensors between its layers. This is an upper estimate. It does not include the
    /// bytes of the file and the images, which the caller owns. Default: 1 GiB, which is enough for YOLOv8x at 640 px (68 million
    /// parameters).
    pub memory_bytes: u64,
    /// Nodes of the graph, its inputs, outputs and stored tensors together. Default: 20,000. The largest detectors have
    /// some thousand.
    pub nodes: u64,
    /// Multiply-accumulates for one image. Other operations count by the time they take. Default: 500 billion, four
    /// times those of YOLOv8x at 640 px. That takes about ten seconds on one core in the engine, and minutes with tract
    /// in a browser.
    pub macs: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { memory_bytes: 1 << 30, nodes: 20_000, macs: 500_000_000_000 }
    }
}

/// How much of the limits is used so far.
#[derive(Debug, Clone)]
pub(crate) struct Budget<'a> {
    limits: &'a Limits,
    memory: u64,
    macs: u64,
}

impl<'a> Budget<'a> {
    pub fn new(limits: &'a Limits) -> Budget<'a> {
        Budget { limits, memory: 0, macs: 0 }
    }

    /// The limit of memory in bytes.
    #[cfg(feature = "tract")]
    pub fn memory_limit(&self) -> u64 {
        self.limits.memory_bytes
    }

    /// Checks the number of nodes.
    ///
    /// # Errors
    ///
    /// `model-too-large` if there are more nodes than the limit.
    pub fn nodes(&self, count: usize) -> Result<()> {
        let (count, limit) = (count as u64, self.limits.nodes);
        if count > limit { Err(too_large(count, limit, "nodes and stored tensors", "")) } else { Ok(()) }
    }

    /// Counts memory that stays allocated. `at` names what needs it.
    ///
    /// # Errors
    ///
    /// `model-too-large` if the memory then exceeds the limit.
    #[inline(never)]
    pub fn take(&mut self, bytes: u64, at: &str) -> Result<()> {
        self.fits(bytes, at)?;
        self.memory = self.memory.saturating_add(bytes);
        Ok(())
    }

    /// Checks memory that is needed for a limited time. It is not added to the total.
    ///
    /// # Errors
    ///
    /// As [`take`](Budget::take).
    pub fn fits(&self, bytes: u64, at: &str) -> Result<()> {
        const MB: u64 = 1_000_000;
        let (memory, limit) = (self.memory.saturating_add(bytes), self.limits.memory_bytes);
        if memory > limit {
            return Err(too_large(memory.div_ceil(MB), limit / MB, "MB of memory", at));
        }
        Ok(())
    }

    /// Counts multiply-accumulates. `at` names what needs them.
    ///
    /// # Errors
    ///
    /// `model-too-large` if their number then exceeds the limit.
    pub fn work(&mut self, macs: u64, at: &str) -> Result<()> {
        const MILLION: u64 = 1_000_000;
        self.macs = self.macs.saturating_add(macs);
        let limit = self.limits.macs;
        if self.macs > limit {
            let unit = "million multiply-accumulates a picture";
            return Err(too_large(self.macs.div_ceil(MILLION), limit / MILLION, unit, at));
        }
        Ok(())
    }
}

fn too_large(needed: u64, limit: u64, unit: &str, at: &str) -> Error {
    let at = if at.is_empty() { String::new() } else { format!(" up to {at:?}") };
    let message = format!(
        "the model needs {needed} {unit}{at}, and the limit is {limit}; the option `limits` raises it, for a file that you trust"
    );
    Error::new(Kind::ModelTooLarge, message)
}

/// The product of sizes. An overflow gives the largest number.
#[inline(never)]
pub(crate) fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_work_add_up_to_their_limits() {
        let limits = Limits { memory_bytes: 10_000_000, nodes: 3, macs: 5_000_000 };
        let mut budget = Budget::new(&limits);
        budget.take(6_000_000, "a").unwrap();
        budget.fits(4_000_000, "b").unwrap();
        budget.take(4_000_000, "c").unwrap();
        let error = budget.take(1, "d").unwrap_err();
        assert_eq!(error.code(), "model-too-large");
        assert_eq!(
            error.to_string(),
            "the model needs 11 MB of memory up to \"d\", and the limit is 10; the option `limits` raises it, for a file that you trust"
        );
        budget.work(5_000_000, "e").unwrap();
        assert!(budget.work(u64::MAX, "f").unwrap_err().to_string().contains("up to \"f\", and the limit is 5;"));
        budget.nodes(3).unwrap();
        assert!(budget.nodes(4).unwrap_err().to_string().contains("needs 4 nodes and stored tensors, and"));
    }

    #[test]
    fn products_end_at_the_largest_number() {
        assert_eq!(product(&[3, 4, 5]), 60);
        assert_eq!(product(&[usize::MAX, usize::MAX, 7]), u64::MAX);
        assert_eq!(product(&[]), 1);
    }
}
