//! Code shared by the losses of all kinds of heads.

use tch::Tensor;

/// The weight of the CIoU with labelled boxes, relative to the cross-entropy of the classes. The weights for a teacher
/// are in [`super::distill`], whose class loss is normalised in another way.
pub(super) const LABEL_BOX_GAIN: f64 = 4.0;

/// The loss of a batch and its parts.
pub struct Loss {
    /// The value that is differentiated.
    pub total: Tensor,
    /// Its parts: classes, boxes before the gain, objectness, a teacher's inner maps. Reading one waits for the device.
    parts: [Tensor; 4],
}

impl Loss {
    /// A loss with these parts: classes, boxes before the gain, objectness.
    pub(super) fn new(total: Tensor, parts: [Tensor; 3]) -> Loss {
        let [class, bbox, object] = parts.map(|part| part.detach());
        let maps = total.detach().zeros_like();
        Loss { total, parts: [class, bbox, object, maps] }
    }

    /// The same with the part of a teacher's inner maps, which is already in the total.
    pub(super) fn with_maps(mut self, maps: Tensor) -> Loss {
        self.parts[3] = maps.detach();
        self
    }

    /// The sum of both losses.
    pub(super) fn and(self, other: Loss) -> Loss {
        let mut others = other.parts.into_iter();
        let parts = self.parts.map(|part| others.next().map_or(part.shallow_clone(), |other| part + other));
        Loss { total: self.total + other.total, parts }
    }

    /// The unexplained share of a teacher's inner maps; 0 without a teacher.
    pub fn maps(&self) -> f64 {
        self.parts[3].double_value(&[])
    }

    /// The classes' part.
    pub fn class(&self) -> f64 {
        self.parts[0].double_value(&[])
    }

    /// The boxes' part, before the gain.
    pub fn bbox(&self) -> f64 {
        self.parts[1].double_value(&[])
    }

    /// The part of the objectness; 0 for a head without objectness.
    pub fn object(&self) -> f64 {
        self.parts[2].double_value(&[])
    }
}

/// Complete IoU (Zheng et al. 2020) of boxes left, top, right, bottom, `[n, 4]` each. Returns `[n]`.
pub(super) fn ciou(a: &Tensor, b: &Tensor) -> Tensor {
    let side = |boxes: &Tensor, i: i64| boxes.select(1, i);
    let (al, at, ar, ab) = (side(a, 0), side(a, 1), side(a, 2), side(a, 3));
    let (bl, bt, br, bb) = (side(b, 0), side(b, 1), side(b, 2), side(b, 3));
    let (aw, ah) = (&ar - &al, &ab - &at);
    let (bw, bh) = (&br - &bl, &bb - &bt);
    let width = (ar.minimum(&br) - al.maximum(&bl)).clamp_min(0.0);
    let height = (ab.minimum(&bb) - at.maximum(&bt)).clamp_min(0.0);
    let overlap = width * height;
    let union = &aw * &ah + &bw * &bh - &overlap + 1e-7;
    let iou = overlap / union;

    let hull_width = ar.maximum(&br) - al.minimum(&bl);
    let hull_height = ab.maximum(&bb) - at.minimum(&bt);
    let diagonal = hull_width.square() + hull_height.square() + 1e-7;
    let offset = ((al + ar - bl - br).square() + (at + ab - bt - bb).square()) / 4.0;

    let angle = (bw / (bh + 1e-7)).atan() - (aw / (ah + 1e-7)).atan();
    let shape = angle.square() * (4.0 / std::f64::consts::PI.powi(2));
    let share = tch::no_grad(|| &shape / (1.0 - &iou + &shape + 1e-7));
    iou - offset / diagonal - share * shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciou_of_equal_boxes_is_one_and_of_far_ones_negative() {
        let a = Tensor::from_slice(&[0f32, 0.0, 10.0, 10.0, 0.0, 0.0, 10.0, 10.0]).view([2, 4]);
        let b = Tensor::from_slice(&[0f32, 0.0, 10.0, 10.0, 30.0, 0.0, 40.0, 10.0]).view([2, 4]);
        let values = ciou(&a, &b);
        assert!((values.double_value(&[0]) - 1.0).abs() < 1e-5);
        // IoU 0; centres 30 apart, hull 40×10: -900/1700.
        assert!((values.double_value(&[1]) + 900.0 / 1700.0).abs() < 1e-5);
    }
}
