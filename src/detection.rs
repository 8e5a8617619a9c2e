//! The result of a detector: class, score and box.

use std::sync::Arc;

/// An axis-aligned rectangle: top left corner and size, in pixels of its image.
///
/// Coordinates are continuous: the first pixel of the image reaches from 0 to 1. A box over a whole image of 640 x 480
/// px is `x: 0, y: 0, width: 640, height: 480`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BoxXywh {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// From the left edge to the right one, above 0.
    pub width: f32,
    /// From the top edge to the bottom one, above 0.
    pub height: f32,
}

impl BoxXywh {
    /// Intersection over union with `other`, 0 to 1. It is 0 if either has no area.
    ///
    /// ```
    /// use micro_yolo::BoxXywh;
    ///
    /// let a = BoxXywh { x: 0.0, y: 0.0, width: 10.0, height: 10.0 };
    /// let b = BoxXywh { x: 5.0, y: 5.0, width: 10.0, height: 10.0 };
    /// assert!((a.iou(&b) - 25.0 / 175.0).abs() < 1e-6);
    /// ```
    pub fn iou(&self, other: &BoxXywh) -> f32 {
        BoxLtrb::from(*self).iou(&BoxLtrb::from(*other))
    }

    /// Width times height, in square pixels.
    pub fn area(&self) -> f32 {
        self.width * self.height
    }
}

/// The same rectangle by its four edges. Suppression uses it, because the overlap of two boxes then needs no additions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BoxLtrb {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl BoxLtrb {
    pub fn from_cx_cy_w_h(cx: f32, cy: f32, w: f32, h: f32) -> BoxLtrb {
        BoxLtrb { left: cx - w / 2.0, top: cy - h / 2.0, right: cx + w / 2.0, bottom: cy + h / 2.0 }
    }

    pub fn is_finite(&self) -> bool {
        self.left.is_finite() && self.top.is_finite() && self.right.is_finite() && self.bottom.is_finite()
    }

    pub fn has_area(&self) -> bool {
        self.right > self.left && self.bottom > self.top
    }

    fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    pub fn iou(&self, other: &BoxLtrb) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let overlap = width * height;
        let union = self.area() + other.area() - overlap;
        if union > 0.0 { overlap / union } else { 0.0 }
    }
}

impl From<BoxXywh> for BoxLtrb {
    fn from(b: BoxXywh) -> BoxLtrb {
        BoxLtrb { left: b.x, top: b.y, right: b.x + b.width, bottom: b.y + b.height }
    }
}

impl From<BoxLtrb> for BoxXywh {
    fn from(b: BoxLtrb) -> BoxXywh {
        BoxXywh { x: b.left, y: b.top, width: b.right - b.left, height: b.bottom - b.top }
    }
}

/// One object found in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The number of the class in the model, from 0.
    pub class: usize,
    /// The name of the class, or its number if the model has no names. Cloning is cheap, because it is shared.
    pub label: Arc<str>,
    /// The score, 0 to 1.
    pub score: f32,
    /// The box in pixels of the image, clipped to it.
    pub bbox: BoxXywh,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square_at(x: f32, y: f32) -> BoxXywh {
        BoxXywh { x, y, width: 10.0, height: 10.0 }
    }

    #[test]
    fn iou_of_squares_shifted_by_half() {
        // Overlap 25, union 175. (The enclosing box has 225, which would give 1/9.)
        let iou = square_at(0.0, 0.0).iou(&square_at(5.0, 5.0));
        assert!((iou - 1.0 / 7.0).abs() < 1e-6, "{iou}");
    }

    #[test]
    fn iou_at_its_ends() {
        let a = square_at(3.0, 4.0);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&square_at(13.0, 4.0)), 0.0, "touching edges share no area");
        assert_eq!(a.iou(&square_at(100.0, 100.0)), 0.0);
        let empty = BoxXywh { width: 0.0, ..a };
        assert_eq!(empty.iou(&empty), 0.0, "no area, no division by zero");
    }

    #[test]
    fn corners_and_centre_describe_the_same_box() {
        let b = BoxXywh::from(BoxLtrb::from_cx_cy_w_h(20.0, 30.0, 8.0, 4.0));
        assert_eq!(b, BoxXywh { x: 16.0, y: 28.0, width: 8.0, height: 4.0 });
        assert_eq!(BoxXywh::from(BoxLtrb::from(b)), b);
    }
}
