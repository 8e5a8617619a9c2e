//! Images in memory: pixels by channels.

/// Where output pixels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index of the first channel of the first pixel.
    pub origin: usize,
    /// Elements from row to row and from pixel to pixel.
    pub row: usize,
    pub pixel: usize,
}

impl Target {
    /// One more than the highest index written for `height` by `width` pixels of `channels`.
    pub(super) fn end(&self, height: usize, width: usize, channels: usize) -> usize {
        self.origin + (height - 1) * self.row + (width - 1) * self.pixel + channels
    }
}

/// Height, width and channels of an image.
pub(crate) type Extent = (usize, usize, usize);
/// Memory, and where in it an image begins.
pub(crate) type Source<'a> = (&'a [f32], Target);
