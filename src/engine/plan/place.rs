//! Where images lie: buffers, places in them, and borders around images.

use crate::engine::net::{Kind, Quant, Shape};
use crate::engine::simd::image::{PixelLayout, View};
use crate::engine::simd::layout;
use crate::engine::simd::quantize::Scale;
use crate::limits::product;

/// Elements behind the last pixel that kernels may read along with it.
const SLACK: usize = 64;

/// Where an image lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) buffer: usize,
    pub(super) target: PixelLayout,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    /// Distance of a channel's plane from the next one's, where the image is stored plane by plane.
    pub(super) plane: Option<usize>,
}

impl Place {
    pub(super) fn scale(&self) -> Scale {
        match self.kind {
            Kind::Byte(quant) => scale(quant),
            Kind::Float => Scale { scale: 1.0, zero: 0 },
        }
    }

    /// It among the arena's vectors of its kind.
    pub(super) fn view<'a, T>(&self, memories: &'a [Vec<T>]) -> View<'a, T> {
        View { data: &memories[self.buffer][..], layout: self.target }
    }

    /// Its numbers, if it is one pixel.
    pub(super) fn numbers<'a>(&self, memories: &'a [Vec<f32>]) -> &'a [f32] {
        &memories[self.buffer][self.target.origin..][..self.shape.channels]
    }
}

/// A buffer before it is known which memory it gets.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// Elements from pixel to pixel.
    pub(super) pixel: usize,
    pub(super) halo: usize,
    pub(super) planar: bool,
    /// None until the steps are known, and if none of them touches it.
    pub(super) lifetime: Option<Lifetime>,
    /// Whether a step has been told to write the border.
    pub(super) has_border: bool,
    /// Which of the arena's vectors it lies in, once that is known.
    pub(super) memory: usize,
}

impl Buffer {
    pub(super) fn row(&self) -> usize {
        (self.shape.width + 2 * self.halo) * if self.planar { 1 } else { self.pixel }
    }

    pub(super) fn plane(&self) -> usize {
        (self.shape.height + 2 * self.halo) * (self.shape.width + 2 * self.halo)
    }

    /// Saturates: a wide border around many channels is more than 32 bits count.
    pub(super) fn length(&self) -> usize {
        let Shape { height, width, channels } = self.shape;
        let pixel = if self.planar { channels } else { self.pixel };
        let numbers = product(&[height + 2 * self.halo, width + 2 * self.halo, pixel]);
        usize::try_from(numbers).unwrap_or(usize::MAX).saturating_add(SLACK)
    }

    /// Where the channels from `first` on lie.
    pub(super) fn target(&self, first: usize) -> PixelLayout {
        let (row, pixel) = (self.row(), if self.planar { 1 } else { self.pixel });
        PixelLayout { origin: self.halo * (row + pixel) + if self.planar { 0 } else { first }, row, pixel }
    }
}

/// Steps that need a buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// The one that writes it first.
    pub(super) first: usize,
    /// The one that touches it last; None for an output, which outlives all of them.
    pub(super) last: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Halo {
    pub(super) target: PixelLayout,
    pub(super) shape: Shape,
    pub(super) width: usize,
    /// Elements from plane to plane, where the image is stored plane by plane.
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

/// What a byte stands for.
pub(super) fn scale(Quant { scale, zero, .. }: Quant) -> Scale {
    Scale { scale, zero }
}
