//! The windows of a depthwise convolution, and the choice of the kernel that processes them.

use super::super::image::{Hw, PixelLayout, Shape};

/// The positions of the windows of a depthwise convolution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Windows {
    /// Number of output pixels, and of channels of input and output.
    pub output: Shape,
    pub kernel: Hw,
    /// Distance between two windows, in input pixels.
    pub stride: Hw,
    /// Distance between two taps, in input pixels.
    pub dilation: Hw,
    /// The layout of the input. Its origin is the first tap of the first window.
    pub input: PixelLayout,
}

impl Windows {
    /// One more than the highest index read.
    pub(super) fn end(&self) -> usize {
        let last = |count: usize, stride: usize, taps: usize, dilation: usize| {
            (count - 1) * stride + (taps - 1) * dilation
        };
        let Windows { output, kernel, stride, dilation, input } = self;
        let y = last(output.height, stride.height, kernel.height, dilation.height);
        let x = last(output.width, stride.width, kernel.width, dilation.width);
        input.at(y, x) + output.channels
    }

    /// Index of the first channel of a window.
    pub(super) fn start(&self, y: usize, x: usize) -> usize {
        self.input.at(y * self.stride.height, x * self.stride.width)
    }

    /// Offset of a tap from the window's start.
    pub(super) fn offset(&self, row: usize, column: usize) -> usize {
        row * self.dilation.height * self.input.row + column * self.dilation.width * self.input.pixel
    }

    /// Kernel size and stride, if there is specialised code for them.
    pub(super) fn square(&self) -> Option<Square> {
        let (side, stride) = (self.kernel.height, self.stride.height);
        let square = self.kernel.width == side && self.stride.width == stride && self.dilation == Hw::from((1, 1));
        (square && matches!(side, 3 | 5 | 7) && matches!(stride, 1 | 2)).then_some(Square { side, stride })
    }
}

/// A square kernel without dilation, with the same stride in both directions: side 3, 5 or 7, stride 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Square {
    side: usize,
    stride: usize,
}

/// Neighbouring output pixels of one row, with their input and output addresses.
#[derive(Clone, Copy)]
pub(in super::super) struct PixelRun<T> {
    /// The image to which the indices of [`Windows`] refer.
    pub source: *const T,
    /// Row, first column and number of columns.
    pub y: usize,
    pub x: usize,
    pub count: usize,
    /// The first pixel.
    pub to: *mut T,
    /// Distance between two pixels, in elements.
    pub pixel: usize,
}

/// Code for a run of pixels. For a [`Square`], the kernel's size is a constant.
pub(super) trait Kernel {
    /// For side `K`.
    ///
    /// # Safety
    ///
    /// The run's windows lie in its source and its pixels may be written.
    unsafe fn square<const K: usize, const STRIDE: usize>(self);

    /// For any kernel.
    ///
    /// # Safety
    ///
    /// As [`square`](Self::square).
    unsafe fn any(self);
}

/// Runs the code for `square`.
///
/// # Safety
///
/// As [`Kernel::square`], whose kernel is `square`.
#[inline(always)]
pub(super) unsafe fn dispatch(square: Option<Square>, kernel: impl Kernel) {
    // SAFETY: by this function's condition.
    unsafe {
        match square {
            Some(Square { side: 3, stride: 1 }) => kernel.square::<3, 1>(),
            Some(Square { side: 3, .. }) => kernel.square::<3, 2>(),
            Some(Square { side: 5, stride: 1 }) => kernel.square::<5, 1>(),
            Some(Square { side: 5, .. }) => kernel.square::<5, 2>(),
            Some(Square { stride: 1, .. }) => kernel.square::<7, 1>(),
            Some(_) => kernel.square::<7, 2>(),
            None => kernel.any(),
        }
    }
}
