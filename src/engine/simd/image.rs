//! Images in memory, in NHWC layout.

/// Height and width: of an image, a kernel, its stride or its dilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hw {
    pub height: usize,
    pub width: usize,
}

impl From<(usize, usize)> for Hw {
    fn from((height, width): (usize, usize)) -> Hw {
        Hw { height, width }
    }
}

/// The size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Shape {
    pub(crate) fn size(self) -> Hw {
        Hw { height: self.height, width: self.width }
    }
}

/// The layout of an image. The channels of each pixel are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelLayout {
    /// Index of the first channel of the first pixel.
    pub origin: usize,
    /// Distance between two rows and between two pixels, in elements.
    pub row: usize,
    pub pixel: usize,
}

impl PixelLayout {
    /// Index of a pixel's first channel.
    #[inline(always)]
    pub(super) fn at(self, y: usize, x: usize) -> usize {
        self.origin + y * self.row + x * self.pixel
    }

    /// One more than the highest index of an image.
    pub(super) fn end(self, Shape { height, width, channels }: Shape) -> usize {
        self.at(height - 1, width - 1) + channels
    }
}

/// An image that is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a, T> {
    pub data: &'a [T],
    pub layout: PixelLayout,
}

/// An image that is written.
#[derive(Debug)]
pub(crate) struct ViewMut<'a, T> {
    pub data: &'a mut [T],
    pub layout: PixelLayout,
}
