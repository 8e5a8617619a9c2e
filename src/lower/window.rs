//! The window of a convolution or a pool.

use super::reason::Reason;
use crate::engine::net::Shape;
use crate::onnx::attributes::Attributes;

/// The most values of a map with its border. The largest layer of the largest YOLO at 1280 px has two thirds of this.
pub(super) const MAX_NUMBERS: usize = 48 << 20;

/// The largest kernel, stride, dilation and padding.
const MAX_WINDOW: i64 = 64;

/// A window that moves over a map, rows first.
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Pixels of border above and on the left.
    pub before: [usize; 2],
    /// Pixels of border below and on the right.
    after: [usize; 2],
    /// Number of positions, which is the size of the output.
    pub out: [usize; 2],
}

impl Window {
    /// The window of a convolution of this kernel, or of a pool, over `input`.
    pub fn new(attributes: Attributes<'_>, kernel: Option<[usize; 2]>, input: Shape) -> Result<Window, Reason> {
        let declared =
            sizes::<2>(attributes, "kernel_shape", 1)?.or(kernel).ok_or(Reason::Attribute("kernel_shape"))?;
        if kernel.is_some_and(|kernel| kernel != declared || kernel.contains(&0)) {
            return Err(Reason::Attribute("kernel_shape"));
        }
        let stride = sizes(attributes, "strides", 1)?.unwrap_or([1, 1]);
        let dilation = sizes(attributes, "dilations", 1)?.unwrap_or([1, 1]);
        let reach = [0, 1].map(|axis: usize| dilation[axis] * (declared[axis] - 1) + 1);
        let sides = [input.height, input.width];
        let auto = attributes.text("auto_pad", "NOTSET").ok_or(Reason::Attribute("auto_pad"))?;
        let [top, left, bottom, right] = match auto {
            "NOTSET" => sizes(attributes, "pads", 0)?.unwrap_or([0; 4]),
            "VALID" => [0; 4],
            "SAME_UPPER" | "SAME_LOWER" => {
                let [rows, columns] = [0, 1].map(|axis: usize| {
                    let out = sides[axis].div_ceil(stride[axis]);
                    let all = ((out - 1) * stride[axis] + reach[axis]).saturating_sub(sides[axis]);
                    let less = all / 2;
                    if auto == "SAME_UPPER" { [less, all - less] } else { [all - less, less] }
                });
                [rows[0], columns[0], rows[1], columns[1]]
            }
            _ => return Err(Reason::Attribute("auto_pad")),
        };
        let (before, after) = ([top, left], [bottom, right]);
        let border = 2 * top.max(left).max(bottom).max(right);
        let numbers = (input.height + border).checked_mul(input.width + border);
        if numbers.and_then(|pixels| pixels.checked_mul(input.channels)).is_none_or(|all| all > MAX_NUMBERS) {
            return Err(Reason::Size);
        }
        let mut out = [0; 2];
        for axis in 0..2 {
            let room = (sides[axis] + before[axis] + after[axis]).checked_sub(reach[axis]);
            out[axis] = room.ok_or(Reason::Form("its kernel is larger than its input"))? / stride[axis] + 1;
        }
        Ok(Window { kernel: declared, stride, dilation, before, after, out })
    }

    pub fn always_holds_a_pixel(&self) -> bool {
        let reach = |axis: usize| self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        (0..2).all(|axis| self.before[axis] < reach(axis) && self.after[axis] < reach(axis))
    }
}

/// `N` integers, each at least `least`, if the node has the attribute.
fn sizes<const N: usize>(
    attributes: Attributes<'_>,
    name: &'static str,
    least: i64,
) -> Result<Option<[usize; N]>, Reason> {
    let found = attributes.ints(name).ok_or(Reason::Attribute(name))?;
    if !attributes.has(name) {
        return Ok(None);
    }
    if !found.iter().all(|size| (least..=MAX_WINDOW).contains(size)) {
        return Err(Reason::Attribute(name));
    }
    let sizes: Vec<usize> = found.iter().map(|size| *size as usize).collect();
    sizes.try_into().map(Some).map_err(|_| Reason::Attribute(name))
}
