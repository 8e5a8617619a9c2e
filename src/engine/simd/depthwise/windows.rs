//! Where windows are, and which kernel goes through them.

/// Where the windows of a depthwise convolution are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Windows {
    /// Rows and columns of output pixels.
    pub out_height: usize,
    pub out_width: usize,
    pub channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
    /// Input rows and columns from one output pixel to the next.
    pub stride: (usize, usize),
    /// Input rows and columns from one tap to the next.
    pub dilation: (usize, usize),
    /// Index of the first channel of the first window's first pixel.
    pub origin: usize,
    /// Elements from input row to input row and from input pixel to input pixel.
    pub row: usize,
    pub pixel: usize,
}

impl Windows {
    /// One more than the highest index read.
    pub(super) fn end(&self) -> usize {
        let last_row = (self.out_height - 1) * self.stride.0 + (self.kernel.0 - 1) * self.dilation.0;
        let last_column = (self.out_width - 1) * self.stride.1 + (self.kernel.1 - 1) * self.dilation.1;
        self.origin + last_row * self.row + last_column * self.pixel + self.channels
    }

    /// Index of a window's first channel.
    pub(super) fn start(&self, y: usize, x: usize) -> usize {
        self.origin + y * self.stride.0 * self.row + x * self.stride.1 * self.pixel
    }

    /// Side and stride, if there is a kernel for just these.
    pub(super) fn square(&self) -> Option<Square> {
        let (side, stride) = (self.kernel.0, self.stride.0);
        let square = self.kernel.1 == side && self.stride.1 == stride && self.dilation == (1, 1);
        (square && matches!(side, 3 | 5 | 7) && matches!(stride, 1 | 2)).then_some(Square { side, stride })
    }
}

/// A kernel as high as wide, without dilation, whose stride is the same both ways: side 3, 5 or 7, stride 1 or 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Square {
    side: usize,
    stride: usize,
}

/// Neighbouring output pixels of one row: what they are made of and where they go.
#[derive(Clone, Copy)]
pub(in super::super) struct PixelRun<T> {
    /// The image that [`Windows`] counts in.
    pub source: *const T,
    /// Row and first column, and how many columns.
    pub y: usize,
    pub x: usize,
    pub count: usize,
    /// The first pixel.
    pub to: *mut T,
    /// Elements from pixel to pixel.
    pub pixel: usize,
}

/// Code for a run of pixels, with the kernel's size as constants where it is a [`Square`].
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
