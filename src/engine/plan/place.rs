//! Where images are stored: buffers, positions in them, and borders around images.

use crate::engine::net::{Kind, Quant, Shape};
use crate::engine::simd::image::{PixelLayout, View};
use crate::engine::simd::layout;
use crate::engine::simd::quantize::Scale;
use crate::limits::product;

/// Elements after the last pixel that kernels may read together with it.
const SLACK: usize = 64;

/// Where an image is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) buffer: usize,
    pub(super) target: PixelLayout,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    /// Distance between the planes of two channels, if the image is stored in planes.
    pub(super) plane: Option<usize>,
}

impl Place {
    pub(super) fn scale(&self) -> Scale {
        match self.kind {
            Kind::Byte(quant) => scale(quant),
            Kind::Float => Scale { scale: 1.0, zero: 0 },
        }
    }

    /// The image in the arena's vectors of its type.
    pub(super) fn view<'a, T>(&self, memories: &'a [Vec<T>]) -> View<'a, T> {
        View { data: &memories[self.buffer][..], layout: self.target }
    }

    /// The values of an image of one pixel.
    pub(super) fn numbers<'a>(&self, memories: &'a [Vec<f32>]) -> &'a [f32] {
        &memories[self.buffer][self.target.origin..][..self.shape.channels]
    }
}

/// A buffer that has no memory assigned yet.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Distance between two pixels, in elements.
    pub(super) pixel: usize,
    pub(super) halo: usize,
    pub(super) planar: bool,
    /// `None` until the steps are known, or if no step uses the buffer.
    pub(super) lifetime: Option<Lifetime>,
    /// Whether a step already writes the border.
    pub(super) has_border: bool,
    /// The arena's vector in which the buffer lies, once it is assigned.
    pub(super) memory: usize,
}

impl Buffer {
    pub(super) fn row(&self) -> usize {
        (self.shape.width + 2 * self.halo) * if self.planar { 1 } else { self.pixel }
    }

    pub(super) fn plane(&self) -> usize {
        (self.shape.height + 2 * self.halo) * (self.shape.width + 2 * self.halo)
    }

    /// Saturates: a wide border around many channels may exceed 32 bits.
    pub(super) fn length(&self) -> usize {
        let Shape { height, width, channels } = self.shape;
        let pixel = if self.planar { channels } else { self.pixel };
        let numbers = product(&[height + 2 * self.halo, width + 2 * self.halo, pixel]);
        usize::try_from(numbers).unwrap_or(usize::MAX).saturating_add(SLACK)
    }

    /// Where the channels starting at `first` are stored.
    pub(super) fn target(&self, first: usize) -> PixelLayout {
        let (row, pixel) = (self.row(), if self.planar { 1 } else { self.pixel });
        PixelLayout { origin: self.halo * (row + pixel) + if self.planar { 0 } else { first }, row, pixel }
    }
}

/// The steps that need a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// The first step that writes it.
    pub(super) first: usize,
    /// The last step that uses it; `None` for an output, which is needed after all steps.
    pub(super) last: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Halo {
    pub(super) target: PixelLayout,
    pub(super) shape: Shape,
    pub(super) width: usize,
    /// Distance between two planes in elements, if the image is stored in planes.
    pub(super) plane: Option<usize>,
    pub(super) byte: u8,
}

impl Halo {
    pub(super) fn fill<T: Copy>(&self, memory: &mut [T], value: T) {
        match self.plane {
            None => layout::fill_halo(memory, self.target, self.shape, self.width, value),
            Some(distance) => {
                let shape = Shape { channels: 1, ..self.shape };
                for plane in 0..self.shape.channels {
                    let target = PixelLayout { origin: self.target.origin + plane * distance, ..self.target };
                    layout::fill_halo(memory, target, shape, self.width, value);
                }
            }
        }
    }
}

/// The scale and zero point as the kernels expect them.
pub(super) fn scale(Quant { scale, zero, .. }: Quant) -> Scale {
    Scale { scale, zero }
}
