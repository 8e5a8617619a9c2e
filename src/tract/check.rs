//! Checks a node against what is known about its inputs, before tract gets it.
//!
//! tract does not check everything in a file, and panics if something is wrong. On wasm a panic ends the whole
//! instance. So axes, windows and indices are checked here against the shapes.

use tract_onnx::prelude::{Datum, DatumType, TDim};

use super::integers::{powers_fit, range};
use crate::onnx::attributes::Attributes;
use crate::onnx::messages::NodeProto;

/// Integers that stand for sizes must be below this. Arithmetic on larger ones could overflow, because tract keeps some
/// of them in 32 bits.
pub(super) const MAX_SIZE: i64 = 1 << 31;

/// Tensors must have fewer values than this. Such a number can still be multiplied by a dimension without overflow.
pub(super) const MAX_VOLUME: u64 = 1 << 32;

/// The largest step of a slice: tract adds the length of the axis to it, in 32 bits.
const LARGEST_STEP: i64 = 1 << 30;

/// The most axes: tract uses one bit per axis.
const MAX_RANK: usize = 64;

/// ONNX's numbers of data types.
const UNDEFINED: i64 = 0;
const UNSIGNED_BYTE: i64 = 2;

/// What is known about an input.
pub(super) struct Known {
    /// The dimensions, if their number is known. A dimension that depends on the content of the picture is `None`.
    pub sides: Option<Vec<Option<usize>>>,
    /// The dimensions, if all of them are known.
    pub shape: Option<Vec<usize>>,
    pub is_constant: bool,
    /// Whether the input is the same for each picture: a constant, or a tensor that is too large to be evaluated here.
    pub is_fixed: bool,
    /// The values of a constant of integers.
    pub ints: Option<Vec<i64>>,
    /// The values of a constant of a few floats.
    pub floats: Option<Vec<f32>>,
    /// For a constant of sizes: the value of each, with 1 in place of sizes that depend on the content of the picture.
    pub magnitudes: Option<Vec<u64>>,
    /// tract's data type of the input.
    pub kind: Option<DatumType>,
}

/// Operators with an input that is the shape of the result or the number of repetitions.
const SHAPES: [&str; 4] = ["Expand", "Tile", "ConstantOfShape", "Range"];

/// The least number of values that a node makes, as far as one of its inputs shows it.
pub(super) fn asked(node: &NodeProto, inputs: &[Option<Known>]) -> u64 {
    let ints = |index: usize| inputs.get(index)?.as_ref()?.ints.as_deref();
    match (node.op_type.as_str(), ints(0), ints(1), ints(2)) {
        ("Range", Some([from]), Some([to]), Some([step])) => to.abs_diff(*from) / step.unsigned_abs().max(1),
        ("ConstantOfShape", Some(sides), ..) | ("Expand" | "Tile", _, Some(sides), _) => volume(sides),
        _ => 0,
    }
}

/// The product of dimensions. An overflow gives the largest number.
fn volume(sides: &[i64]) -> u64 {
    sides.iter().fold(1, |product: u64, side| product.saturating_mul(side.unsigned_abs()))
}

/// Checks a node.
///
/// # Errors
///
/// The message continues a sentence that begins with the name of the node.
pub(super) fn check(node: &NodeProto, opset: i64, inputs: &[Option<Known>]) -> Result<(), &'static str> {
    let node = Node { attributes: Attributes(node), proto: node, opset, inputs };
    let has_many_axes = |known: &Known| {
        let of_shape = known.shape.as_ref().map_or(0, Vec::len);
        of_shape.max(known.sides.as_ref().map_or(0, Vec::len)) > MAX_RANK
    };
    if inputs.iter().flatten().any(has_many_axes) {
        return Err("its input has more than 64 axes");
    }
    node.sizes()?;
    node.shape_is_a_list()?;
    let Some(first) = node.known(0) else {
        let has_none = node.proto.op_type == "Constant" || node.proto.op_type.starts_with("Random");
        return if has_none { Ok(()) } else { Err("its first input is missing") };
    };
    if node.has_too_many_inputs() {
        return Err("it has more inputs than the operator takes");
    }
    if node.proto.op_type == "Pow" && !node.has_common_kind() {
        return Err("its base and exponent have no type in common");
    }
    if node.varies_in_size() {
        return Err("its size depends on what is in the image");
    }
    node.integers()?;
    node.form()?;
    node.numbers()?;
    // What is not known about these is checked while the network runs.
    match node.proto.op_type.as_str() {
        "Div" | "Mod" => node.division()?,
        "Pow" => node.power()?,
        "Scatter" | "ScatterElements" => return node.scatter(),
        "ScatterND" => return node.nested(0),
        "GatherND" => {
            let batch = node.attributes.int("batch_dims", 0).and_then(|batch| usize::try_from(batch).ok());
            return batch.map_or(Err("its batch_dims is negative"), |batch| node.nested(batch));
        }
        _ => (),
    }
    // The shape depends on the content of the picture.
    let Some(shape) = first.shape.as_deref() else {
        return if node.has_window() {
            Err("the size of its input depends on what is in the image")
        } else {
            Ok(())
        };
    };
    node.shaped(shape)
}

struct Node<'n> {
    proto: &'n NodeProto,
    attributes: Attributes<'n>,
    opset: i64,
    inputs: &'n [Option<Known>],
}

impl<'n> Node<'n> {
    /// Refuses forms for which tract's result differs from ONNX.
    fn form(&self) -> Result<(), &'static str> {
        let text = |name, default| self.attributes.text(name, default);
        match self.proto.op_type.as_str() {
            // tract ignores `alpha` inside the exponential.
            "Celu" if self.attributes.float("alpha", 1.0) != Some(1.0) => {
                Err("an alpha other than 1 is not supported")
            }
            // tract divides by the number of pixels.
            "GlobalLpPool" => Err("GlobalLpPool is not supported"),
            // tract repeats the border for the whole window, not for each pixel.
            "GridSample"
                if matches!(text("mode", "linear"), Some("cubic" | "bicubic"))
                    && text("padding_mode", "zeros") == Some("border") =>
            {
                Err("cubic sampling with a repeated border is not supported")
            }
            // tract makes unsigned bytes if there is no zero point.
            "QuantizeLinear"
                if self.known(2).is_none()
                    && !matches!(self.attributes.int("output_dtype", 0), Some(UNDEFINED | UNSIGNED_BYTE)) =>
            {
                Err("an output_dtype other than uint8 without a zero point is not supported")
            }
            // tract does not sum a single input.
            "Einsum"
                if self.inputs.len() == 1 && text("equation", "").is_some_and(|e| e.trim_end().ends_with("->")) =>
            {
                Err("a sum of all values is not supported; use ReduceSum")
            }
            "Mod" if self.attributes.int("fmod", 0) != Some(0) && self.has_sizes() => {
                Err("fmod of computed int64 numbers is not supported; cast them to int32")
            }
            "Resize" => self.resized(),
            _ => Ok(()),
        }
    }

    /// Whether an input has tract's type for sizes, with values that the picture determines.
    fn has_sizes(&self) -> bool {
        let is_size = |known: &Known| !known.is_fixed && known.kind == Some(TDim::datum_type());
        self.inputs.iter().flatten().any(is_size)
    }

    fn resized(&self) -> Result<(), &'static str> {
        let places = self.attributes.text("coordinate_transformation_mode", "half_pixel");
        let scales = self.known(if self.opset < 11 { 1 } else { 2 }).and_then(|known| known.floats.as_deref());
        let is_nearest = self.attributes.text("mode", "nearest") == Some("nearest");
        // Scales for which the nearest pixel is the same with rounded positions (tract) and with truncated ones (other
        // runtimes).
        let agrees = |scale: &f32| *scale == 2.0 || scale.recip().fract() == 0.0;
        if self.opset < 11 && is_nearest && !scales.is_some_and(|scales| scales.iter().all(agrees)) {
            return Err("before operator set 11, only a scale of 2 is supported; export with a newer one");
        }
        // tract finds the scales by the number of inputs.
        if matches!(self.opset, 11 | 12) && self.known(1).is_none() {
            return Err("its input roi is missing");
        }
        // tract counts fractions of a pixel in the size of the result.
        let shape = self.shape(0).filter(|shape| scales.is_some_and(|scales| scales.len() == shape.len()));
        let has_part = |(axis, scale): (usize, &f32)| {
            let side = shape.map_or(1.0, |shape| shape[axis] as f32);
            scale.fract() != 0.0 && (scale * side).fract() != 0.0
        };
        match places {
            Some("tf_crop_and_resize") => Err("tf_crop_and_resize is not supported"),
            Some("align_corners") if scales.is_some_and(|scales| scales.iter().enumerate().any(has_part)) => {
                Err("align_corners with scales that leave part of a pixel is not supported; give sizes instead")
            }
            _ => Ok(()),
        }
    }

    /// Refuses values at which tract panics.
    fn numbers(&self) -> Result<(), &'static str> {
        let is_positive = |name: &str| self.attributes.int(name, 0).is_some_and(|int| int > 0);
        match self.proto.op_type.as_str() {
            "LRN" if !is_positive("size") => Err("its size must be above 0"),
            "DepthToSpace" | "SpaceToDepth" if !is_positive("blocksize") => Err("its blocksize must be above 0"),
            "GroupNormalization" if !is_positive("num_groups") => Err("its num_groups must be above 0"),
            "ConvTranspose" if self.attributes.has("output_shape") => {
                Err("output_shape is not supported; give pads and output_padding instead")
            }
            "OneHot" => self.one_hot(),
            _ => Ok(()),
        }
    }

    /// Checks that constant indices are within the depth.
    fn one_hot(&self) -> Result<(), &'static str> {
        if !self.known(0).is_some_and(|at| at.is_fixed) {
            return Ok(());
        }
        let (Some(places), Some([depth])) =
            (self.known(0).and_then(|at| at.ints.as_ref()), self.known(1).and_then(|depth| depth.ints.as_deref()))
        else {
            return Err("its indices or its depth are no constant whole numbers");
        };
        if places.iter().all(|at| (-depth..*depth).contains(at)) {
            Ok(())
        } else {
            Err("its indices are beyond its depth")
        }
    }

    /// Checks a node whose first input has a known shape.
    fn shaped(&self, shape: &[usize]) -> Result<(), &'static str> {
        let rank = shape.len() as i64;
        if let Some(axis) = self.attributes.int("axis", 0)
            // Some operators also allow the position after the last axis.
            && !(-rank - 1..=rank).contains(&axis)
        {
            return Err("its input has no such axis");
        }
        match self.proto.op_type.as_str() {
            // Axes
            "Squeeze" => self.axes(rank),
            "Unsqueeze" => self.axes(rank + self.ints("axes", 1).map_or(0, |axes| axes.len() as i64)),
            name if name.starts_with("Reduce") => self.reduce(shape),
            "Transpose" => self.transpose(rank),
            "ArgMax" | "ArgMin" if self.axis(rank).is_none() => Err("its input has no such axis"),
            "Softmax" | "LogSoftmax" | "Hardmax" if self.axis_or(rank, -1).is_none() => {
                Err("its input has no such axis")
            }
            // Parts of a tensor
            "Slice" => self.slice(rank),
            "Split" => self.split(shape),
            "Concat" => self.concat(shape),
            "Gather" | "GatherElements" | "ArrayFeatureExtractor" => self.gather(shape),
            "TopK" => self.top_k(shape),
            // Sizes
            "Reshape" => self.reshape(),
            "Pad" => self.pad(shape),
            "Resize" if !self.says_how_large() => Err("it has neither scales nor sizes"),
            "Tile" | "Resize" | "Upsample" => self.factors_of_axes(rank),
            "Range" => self.range(),
            // Images
            "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" => self.window(shape, true),
            _ if self.has_window() => self.window(shape, false),
            name if name.starts_with("Global") && rank < 3 => Err("its input has fewer than three axes"),
            // tract divides by the number of pixels, of integers too.
            name if name.starts_with("Global") && shape[2..].contains(&0) => Err("its input has no values"),
            "BatchNormalization" => self.factors(shape, 5),
            "InstanceNormalization" => self.factors(shape, 3),
            // Quantisation
            "QuantizeLinear" | "DequantizeLinear" => self.scale(shape),
            // Matrices
            "MatMul" => self.matrices(shape),
            "MatMulInteger" => self.whole_matrices(shape, 1, &[2], &[3]),
            "QLinearMatMul" => self.whole_matrices(shape, 3, &[1, 2, 6, 7], &[4, 5]),
            "Gemm" if rank != 2 || self.shape(1).is_some_and(|shape| shape.len() != 2) => {
                Err("its inputs have not two axes")
            }
            _ => Ok(()),
        }
    }

    fn known(&self, index: usize) -> Option<&'n Known> {
        self.inputs.get(index)?.as_ref()
    }

    fn shape(&self, index: usize) -> Option<&'n [usize]> {
        self.known(index)?.shape.as_deref()
    }

    /// Integers from the attribute `name`, or from input `index` if they are known.
    fn ints(&self, name: &str, index: usize) -> Option<Vec<i64>> {
        if self.attributes.has(name) {
            return self.attributes.ints(name).map(<[i64]>::to_vec);
        }
        self.known(index)?.ints.clone()
    }

    fn axis_or(&self, rank: i64, default: i64) -> Option<usize> {
        let axis = self.attributes.int("axis", default)?;
        (-rank..rank).contains(&axis).then(|| axis.rem_euclid(rank) as usize)
    }

    fn axis(&self, rank: i64) -> Option<usize> {
        self.axis_or(rank, 0)
    }

    /// Whether it is a convolution or a pool, except global pools.
    fn has_window(&self) -> bool {
        matches!(
            self.proto.op_type.as_str(),
            "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "MaxPool" | "AveragePool" | "LpPool"
        )
    }

    /// Whether an operator of one or two inputs has more: tract takes its rules from the first ones, but counts all.
    fn has_too_many_inputs(&self) -> bool {
        let most = match self.proto.op_type.as_str() {
            "Transpose"
            | "Cast"
            | "Identity"
            | "Flatten"
            | "Shape"
            | "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "Relu"
            | "LeakyRelu"
            | "Elu"
            | "Selu"
            | "Celu"
            | "ThresholdedRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Mish"
            | "Tanh"
            | "Softplus"
            | "Softsign"
            | "Erf"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Neg"
            | "Abs"
            | "Sign"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Not"
            | "Sin"
            | "Cos"
            | "MaxPool"
            | "AveragePool"
            | "LpPool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "GlobalLpPool"
            | "LRN"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "ArgMax"
            | "ArgMin"
            | "NonZero"
            | "DynamicQuantizeLinear" => 1,
            "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Mod"
            | "MatMul"
            | "PRelu"
            | "Equal"
            | "Greater"
            | "Less"
            | "GreaterOrEqual"
            | "LessOrEqual"
            | "And"
            | "Or"
            | "Xor"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "ArrayFeatureExtractor"
            | "Expand"
            | "Reshape"
            | "Squeeze"
            | "Unsqueeze" => 2,
            _ => return false,
        };
        self.proto.input.iter().rposition(|name| !name.is_empty()).is_some_and(|last| last >= most)
    }

    /// Whether tract can compute a power of these types: one is an integer type and the other is not, or they have a
    /// common supertype.
    fn has_common_kind(&self) -> bool {
        let kind = |index: usize| self.known(index)?.kind;
        let (Some(base), Some(exponent)) = (kind(0), kind(1)) else { return true };
        base.is_integer() != exponent.is_integer() || base.common_super_type(exponent).is_some()
    }

    /// Whether an input that determines the size of the result is not a constant.
    fn varies_in_size(&self) -> bool {
        if !matches!(
            self.proto.op_type.as_str(),
            "Tile" | "Expand" | "Resize" | "Upsample" | "Pad" | "OneHot" | "ConstantOfShape"
        ) {
            return false;
        }
        let first = usize::from(self.proto.op_type != "ConstantOfShape");
        let last = if self.proto.op_type == "Resize" { 3 } else { first };
        (first..=last).any(|index| self.known(index).is_some_and(|known| !known.is_constant))
    }

    /// Checks axes of a tensor of `rank`: each exists and is named only once.
    fn axes(&self, rank: i64) -> Result<(), &'static str> {
        match self.ints("axes", 1) {
            Some(axes) => fit(&distinct(&axes, rank), rank),
            None if self.known(1).is_some() => Err("its axes or steps are no constants"),
            None => Ok(()),
        }
    }

    fn reduce(&self, shape: &[usize]) -> Result<(), &'static str> {
        self.axes(shape.len() as i64)?;
        if shape.contains(&0) { Err("it has no values to reduce") } else { Ok(()) }
    }

    fn transpose(&self, rank: i64) -> Result<(), &'static str> {
        match self.attributes.ints("perm") {
            Some([]) => Ok(()),
            Some(order) if order.len() as i64 == rank => fit(&distinct(order, rank), rank),
            _ => Err("its perm does not name each axis once"),
        }
    }

    fn split(&self, shape: &[usize]) -> Result<(), &'static str> {
        let side = self.axis(shape.len() as i64).and_then(|axis| shape.get(axis));
        let side = *side.ok_or("its input has no such axis")?;
        match self.ints("split", 1) {
            Some(parts) => {
                let sum = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(*part).filter(|_| *part >= 0));
                let fits = sum == Some(side as i64) && parts.len() == self.proto.output.len();
                if fits { Ok(()) } else { Err("its parts do not add up to its input") }
            }
            None if self.known(1).is_some() => Err("the sizes of its parts are no constants"),
            None if side < self.proto.output.len() => Err("its input is too short for its parts"),
            None => Ok(()),
        }
    }

    fn top_k(&self, shape: &[usize]) -> Result<(), &'static str> {
        let count = self.known(1).and_then(|known| known.ints.as_deref());
        match (count, self.axis_or(shape.len() as i64, -1)) {
            // One of them could be NaN, at which tract panics.
            _ if self.known(0).is_some_and(|known| known.is_fixed && known.kind.is_some_and(|k| k.is_float())) => {
                Err("it sorts constant floats")
            }
            (Some([count]), Some(axis)) if (0..=shape[axis] as i64).contains(count) => Ok(()),
            _ => Err("its k is no constant, or larger than the axis"),
        }
    }

    /// Checks repetitions or scale factors, one per axis.
    fn factors_of_axes(&self, rank: i64) -> Result<(), &'static str> {
        match self.shape(1) {
            Some([0]) | None => Ok(()),
            Some([length]) if *length as i64 == rank || self.proto.op_type == "Resize" => Ok(()),
            _ => Err("it has not one number for each axis"),
        }
    }

    fn range(&self) -> Result<(), &'static str> {
        if (0..3).any(|index| !self.known(index).is_some_and(|known| known.is_constant)) {
            return Err("its length depends on what is in the image");
        }
        let number = |index: usize| match self.known(index)?.ints.as_deref()? {
            [number] => Some(*number),
            _ => None,
        };
        // Other ranges of floats are written as constants.
        if (0..3).any(|index| self.known(index).and_then(|known| known.kind).is_some_and(|kind| kind.is_float())) {
            return Err("its numbers are not float32, its step is 0, or it has more than 65536 values");
        }
        match (number(0), number(1), number(2)) {
            (_, _, Some(0)) => Err("its step is 0"),
            // tract uses the length as a dimension.
            (Some(start), Some(end), Some(step)) if start != end && (start < end) != (step > 0) => {
                Err("it never comes to its end")
            }
            _ => Ok(()),
        }
    }

    fn matrices(&self, shape: &[usize]) -> Result<(), &'static str> {
        match (shape, self.shape(1)) {
            ([.., _, inner], Some([.., other, _])) if inner != other => Err("its matrices do not fit each other"),
            ([], _) | (_, Some([])) => Err("its inputs have fewer than two axes"),
            _ => Ok(()),
        }
    }

    /// Whether a `Resize` has scales or sizes. These are lists, one of which may be empty.
    fn says_how_large(&self) -> bool {
        let sides = |index: usize| self.shape(index).unwrap_or_default();
        // The only list besides the image, or those after the region of interest.
        let lists: &[usize] = if self.inputs.len() < 3 { &[1] } else { &[2, 3] };
        let mut lists = lists.iter().map(|index| sides(*index));
        lists.clone().all(|sides| sides.len() <= 1)
            && lists.any(|sides| sides.first().is_some_and(|side| *side > 0))
    }

    /// tract does not crop, and cannot mirror more pixels than there are.
    fn pad(&self, shape: &[usize]) -> Result<(), &'static str> {
        let Some(pads) = self.ints("pads", 1) else { return Ok(()) };
        let (rank, has_axes) = (shape.len(), self.known(3).is_some());
        if has_axes {
            return Err("its axes are no constants, or not each an axis of its input");
        }
        if pads.iter().any(|pad| *pad < 0) || pads.len() != 2 * rank {
            return Err("its pads are negative, or not two for each axis");
        }
        let fits = |(at, pad): (usize, &i64)| *pad < shape[at % rank] as i64;
        let mirrors = self.attributes.text("mode", "constant") == Some("reflect");
        if !mirrors || pads.iter().enumerate().all(fits) { Ok(()) } else { Err("it reflects more than its input") }
    }

    /// Checks that scale and zero point are one number, or one per position along the axis.
    fn scale(&self, shape: &[usize]) -> Result<(), &'static str> {
        let along = self.axis_or(shape.len() as i64, 1).and_then(|axis| shape.get(axis));
        let fits = |numbers: &[usize]| match numbers {
            [] | [1] => true,
            // One per position along the axis, and at least one, because tract reads the first.
            [count] => *count > 0 && along == Some(count),
            sides => sides.iter().all(|side| *side == 1),
        };
        let fits = self.shape(1).is_some_and(fits) && self.shape(2).is_none_or(fits);
        if fits { Ok(()) } else { Err("its scale or zero point does not fit its input") }
    }

    /// Checks that a normalisation has `count` inputs, and that all but the first have one number per channel.
    fn factors(&self, shape: &[usize], count: usize) -> Result<(), &'static str> {
        let Some(channels) = shape.get(1) else { return Err("its input has no channels") };
        let fits = (1..count).all(|index| self.shape(index) == Some(&[*channels]));
        if fits && self.inputs.len() == count {
            Ok(())
        } else {
            Err("its scale, bias, mean or variance is not one number for each channel")
        }
    }

    /// Refuses sizes with which later arithmetic could overflow.
    fn sizes(&self) -> Result<(), &'static str> {
        // Slices use the largest integer to mean "to the end".
        let ends = |name: &str| matches!(name, "starts" | "ends");
        let beyond = |int: &i64| !(-MAX_SIZE..MAX_SIZE).contains(int);
        for attribute in self.proto.attribute.iter().filter(|attribute| !ends(&attribute.name)) {
            if attribute.ints.iter().chain([&attribute.i]).any(beyond) {
                return Err("a size is beyond bounds");
            }
        }
        let operator = self.proto.op_type.as_str();
        let is_size = SHAPES.contains(&operator)
            || matches!(operator, "Pad" | "Resize" | "Upsample" | "OneHot" | "Reshape" | "Gather" | "Trilu")
            || matches!(operator, "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Neg" | "Abs");
        let mut sizes = self.inputs.iter().flatten().filter_map(|known| known.ints.as_ref()).filter(|_| is_size);
        if sizes.any(|ints| ints.iter().any(beyond)) { Err("a size is beyond bounds") } else { Ok(()) }
    }

    fn slice(&self, rank: i64) -> Result<(), &'static str> {
        let count = self.ints("starts", 1).map(|starts| starts.len());
        for (name, index) in [("ends", 2), ("axes", 3), ("steps", 4)] {
            if let (Some(ints), Some(count)) = (self.ints(name, index), count)
                && ints.len() != count
            {
                return Err("it has not as many starts as ends, axes and steps");
            }
        }
        if self
            .ints("steps", 4)
            .is_some_and(|steps| steps.iter().any(|step| !(1..=LARGEST_STEP).contains(&step.saturating_abs())))
        {
            return Err("its step is 0 or too large");
        }
        if [3, 4].into_iter().any(|index| self.known(index).is_some_and(|known| known.ints.is_none())) {
            return Err("its axes or steps are no constants");
        }
        match self.ints("axes", 3) {
            Some(axes) => fit(&distinct(&axes, rank), rank),
            None if count.is_some_and(|count| count as i64 > rank) => Err("its input has no such axis"),
            None => Ok(()),
        }
    }

    fn gather(&self, shape: &[usize]) -> Result<(), &'static str> {
        let rank = shape.len() as i64;
        let axis =
            if self.proto.op_type == "ArrayFeatureExtractor" { self.axis_or(rank, -1) } else { self.axis(rank) };
        let side = axis.and_then(|axis| shape.get(axis));
        let side = *side.ok_or("its input has no such axis")? as i64;
        // Along the other axes, both tensors are read at the same positions.
        if self.proto.op_type == "GatherElements"
            && let Some(at) = self.shape(1)
        {
            let axis = self.axis(shape.len() as i64);
            let inside = |(number, (at, side)): (usize, (&usize, &usize))| at <= side || Some(number) == axis;
            let reads = !at.contains(&0);
            if at.len() != shape.len() || reads && (side == 0 || !at.iter().zip(shape).enumerate().all(inside)) {
                return Err("its indices are beyond its input");
            }
        }
        let at = self.known(1);
        match at.and_then(|known| known.ints.as_ref()) {
            None if at.is_some_and(|known| known.is_constant) => Err("its indices are no whole numbers"),
            Some(at) if at.iter().any(|at| !(-side..side).contains(at)) => Err("its indices are beyond its input"),
            _ => Ok(()),
        }
    }

    /// The dimensions of an input.
    fn sides(&self, index: usize) -> Option<&'n [Option<usize>]> {
        self.known(index)?.sides.as_deref()
    }

    /// Checks integer division and remainder, also without known shapes.
    fn division(&self) -> Result<(), &'static str> {
        let (Some(dividend), Some(divisor)) = (self.known(0), self.known(1)) else { return Ok(()) };
        if divisor.ints.as_deref().is_some_and(|by| by.contains(&0)) {
            return Err("it divides by zero");
        }
        // tract treats a remainder as commutative and puts the larger operand first.
        let count = |known: &Known| known.shape.as_ref().map(|shape| shape.iter().product::<usize>());
        match (count(dividend), count(divisor)) {
            (Some(dividends), Some(divisors)) if self.proto.op_type == "Mod" && dividends < divisors => {
                Err("its dividend has fewer values than its divisor")
            }
            _ => Ok(()),
        }
    }

    /// Checks that a constant shape is a list of integers: tract also reads floats and matrices.
    fn shape_is_a_list(&self) -> Result<(), &'static str> {
        let index = match self.proto.op_type.as_str() {
            "ConstantOfShape" => 0,
            "Reshape" | "Expand" | "Tile" => 1,
            _ => return Ok(()),
        };
        let Some(shape) = self.known(index).filter(|known| known.is_constant) else { return Ok(()) };
        let is_list = shape.magnitudes.is_some() && shape.shape.as_ref().is_some_and(|sides| sides.len() == 1);
        if is_list { Ok(()) } else { Err("its shape is no list of whole numbers") }
    }

    fn reshape(&self) -> Result<(), &'static str> {
        let Some(shape) = self.known(1) else { return Ok(()) };
        // One dimension may be -1; it is computed from the others.
        let is_below = shape.ints.as_ref().is_some_and(|sides| sides.iter().any(|side| *side < -1));
        let volume = shape.magnitudes.iter().flatten().fold(1, |volume: u64, side| volume.saturating_mul(*side));
        if is_below || volume > MAX_VOLUME { Err("its shape has a negative side, or is too large") } else { Ok(()) }
    }

    /// Checks that tract can compute with integers that are the same for each picture. tract does this when it loads
    /// the model, before `runtime_check` and `integers` could act.
    fn integers(&self) -> Result<(), &'static str> {
        let operator = self.proto.op_type.as_str();
        let is_arithmetic = operator.starts_with("Reduce")
            || matches!(operator, "Add" | "Sub" | "Div" | "Mod" | "Pow" | "Sum" | "Mean")
            || matches!(operator, "Neg" | "Abs" | "CumSum" | "BitShift");
        let is_whole = |known: &&Known| known.is_fixed && known.kind.is_some_and(|kind| kind.is_integer());
        if !is_arithmetic || !self.inputs.iter().flatten().all(|known| is_whole(&known)) {
            return Ok(());
        }
        const UNCHECKED: &str = "it computes with constant whole numbers that cannot be checked";
        let (mut inputs, mut least, mut most) = (Vec::new(), i64::MAX, i64::MIN);
        for known in self.inputs.iter().flatten() {
            let range = known.kind.and_then(range).ok_or(UNCHECKED)?;
            (least, most) = (least.min(range.0), most.max(range.1));
            inputs.push(known.ints.as_deref().ok_or(UNCHECKED)?);
        }
        let (least, most) = (i128::from(least), i128::from(most));
        let lowest =
            |index: usize| inputs.get(index).and_then(|ints| ints.iter().min()).map_or(0, |int| i128::from(*int));
        let highest =
            |index: usize| inputs.get(index).and_then(|ints| ints.iter().max()).map_or(0, |int| i128::from(*int));
        let all = || 0..inputs.len();
        let magnitudes = || inputs.iter().take(1).copied().flatten().map(|int| u128::from(int.unsigned_abs()));
        let limit = most.unsigned_abs();
        let fits = match operator {
            "Add" | "Sum" | "Mean" => {
                all().map(lowest).sum::<i128>() >= least && all().map(highest).sum::<i128>() <= most
            }
            "Sub" => lowest(0) - highest(1) >= least && highest(0) - lowest(1) <= most,
            "Neg" | "Abs" => -lowest(0) <= most,
            "BitShift" => lowest(1) >= 0 && highest(1) < i128::from((most - least).ilog2()) + 1,
            "CumSum" => magnitudes().sum::<u128>() <= limit,
            "ReduceProd" => magnitudes().fold(1, |product: u128, by| product.saturating_mul(by.max(1))) <= limit,
            // tract sums integers of any type in 32 bits.
            "ReduceSum" | "ReduceMean" | "ReduceL1" => magnitudes().sum::<u128>() <= limit.min(i32::MAX as u128),
            _ => true,
        };
        if fits { Ok(()) } else { Err("its whole numbers overflow") }
    }

    /// Checks powers of integers if both inputs are constants.
    fn power(&self) -> Result<(), &'static str> {
        let (Some(base), Some(exponent)) = (self.known(0), self.known(1)) else { return Ok(()) };
        let numbers = |known: &'n Known| {
            let (shape, numbers) = (known.shape.as_deref()?, known.ints.as_deref()?);
            let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side))?;
            (count == numbers.len()).then_some((shape, numbers))
        };
        let (Some(bases), Some(exponents)) = (numbers(base), numbers(exponent)) else { return Ok(()) };
        // tract computes in the larger of both types.
        let range = |known: &Known| known.kind.and_then(range).unwrap_or((i64::MIN, i64::MAX));
        let (base, exponent) = (range(base), range(exponent));
        let fits = powers_fit(bases, exponents, base.0.min(exponent.0), base.1.max(exponent.1));
        if fits { Ok(()) } else { Err("a power of whole numbers is beyond their type") }
    }

    /// Checks indices that are one number each, along an axis. Negative indices count from its end.
    fn scatter(&self) -> Result<(), &'static str> {
        const MISFIT: &str = "its indices do not fit its input";
        let (Some(data), Some(at), Some(updates)) = (self.sides(0), self.sides(1), self.sides(2)) else {
            return Err(MISFIT);
        };
        let axis = self.axis(data.len() as i64).ok_or("its input has no such axis")?;
        let is_within = |(number, (side, at)): (usize, (&Option<usize>, &Option<usize>))| {
            number == axis || side.zip(*at).is_none_or(|(side, at)| at <= side)
        };
        if data.len() != at.len() || !data.iter().zip(at).enumerate().all(is_within) || !alike(at, updates) {
            return Err(MISFIT);
        }
        self.fixed_places(&data[axis..=axis], true)
    }

    /// Checks indices that are several numbers each, one for each of the input's first axes after the batch axes.
    fn nested(&self, batch: usize) -> Result<(), &'static str> {
        let (Some(data), Some((&Some(count), outer))) = (self.sides(0), self.sides(1).and_then(<[_]>::split_last))
        else {
            return Err("the shape of its indices is not known");
        };
        if outer.len() < batch || count == 0 || batch.saturating_add(count) > data.len() {
            return Err("its indices have more numbers than its input has axes");
        }
        if !alike(&outer[..batch], &data[..batch]) {
            return Err("its indices have another batch than its input");
        }
        if self.proto.op_type == "ScatterND"
            && !self.sides(2).is_some_and(|updates| alike(&[outer, &data[count..]].concat(), updates))
        {
            return Err("its updates do not fit its indices");
        }
        // tract treats a single index, if it is constant, as one without batch axes.
        if batch > 0 && self.known(1).is_some_and(|at| at.is_fixed) {
            return Err("its indices are constants within a batch");
        }
        self.fixed_places(&data[batch..batch + count], false)
    }

    /// Checks indices that are the same for each picture: tract may read them before the network runs.
    fn fixed_places(&self, sides: &[Option<usize>], from_end: bool) -> Result<(), &'static str> {
        let Some(at) = self.known(1).filter(|at| at.is_fixed) else { return Ok(()) };
        let Some(ints) = &at.ints else { return Err("its indices are no constant whole numbers") };
        let is_within = |(at, side): (&i64, &Option<usize>)| {
            side.is_some_and(|side| (if from_end { -(side as i64) } else { 0 }..side as i64).contains(at))
        };
        let is_within = ints.chunks(sides.len()).all(|place| place.iter().zip(sides).all(is_within));
        if is_within { Ok(()) } else { Err("its indices are beyond its input") }
    }

    fn concat(&self, first: &[usize]) -> Result<(), &'static str> {
        let axis = self.axis(first.len() as i64).ok_or("its input has no such axis")?;
        let others = (1..self.inputs.len()).filter_map(|index| self.shape(index));
        let alike = |shape: &[usize]| {
            let mut sides = shape.iter().zip(first).enumerate();
            shape.len() == first.len() && sides.all(|(at, (a, b))| at == axis || a == b)
        };
        if others.into_iter().all(alike) { Ok(()) } else { Err("the shapes of its inputs do not fit each other") }
    }

    /// Whether the inputs, if present, are one number each, or a list of `count`.
    fn are_numbers(&self, inputs: &[usize], count: usize) -> bool {
        inputs.iter().all(|index| match self.known(*index).map(|known| known.shape.as_deref()) {
            None | Some(Some([] | [1])) => true,
            Some(Some([length])) => *length == count,
            Some(_) => false,
        })
    }

    /// Checks products of integer matrices. The second matrix is input `other`. Scales and zero points of the first,
    /// inputs `of_first`, are one number; those of the second, `of_second`, may be one per column.
    fn whole_matrices(
        &self,
        shape: &[usize],
        other: usize,
        of_first: &[usize],
        of_second: &[usize],
    ) -> Result<(), &'static str> {
        let ([outer @ .., _, inner], Some([others @ .., rows, columns])) = (shape, self.shape(other)) else {
            return Err("its inputs have fewer than two axes");
        };
        let repeats = |(a, b): (&usize, &usize)| a == b || *a == 1 || *b == 1;
        if inner != rows || !outer.iter().rev().zip(others.iter().rev()).all(repeats) {
            return Err("its matrices do not fit each other");
        }
        let fits = self.are_numbers(of_first, 1) && self.are_numbers(of_second, *columns);
        if fits { Ok(()) } else { Err("its scale or zero point does not fit its input") }
    }

    /// Checks the window of a convolution or a pool over all axes except the first two.
    fn window(&self, shape: &[usize], is_conv: bool) -> Result<(), &'static str> {
        const LARGEST: i64 = 1 << 20;
        let Some([batch, channels, sides @ ..]) = Some(shape) else {
            return Err("its input has fewer than three axes, or no values");
        };
        let count = sides.len();
        if count == 0 || *batch == 0 || *channels == 0 || sides.contains(&0) {
            return Err("its input has fewer than three axes, or no values");
        }
        let ints = |name: &str, least: i64, count: usize, default: i64| match self.attributes.ints(name) {
            Some([]) if !self.attributes.has(name) => Ok(vec![default; count]),
            Some(ints) if ints.len() == count && ints.iter().all(|int| (least..=LARGEST).contains(int)) => {
                Ok(ints.to_vec())
            }
            _ => Err("its kernel_shape, strides, dilations or pads are invalid"),
        };
        let mut kernel = ints("kernel_shape", 1, count, 0)?;
        if is_conv {
            let (weights, bias) = if self.proto.op_type == "QLinearConv" { (3, 8) } else { (1, 2) };
            let Some([outputs, inputs, weights @ ..]) = self.shape(weights) else {
                return Err("its weights are not known, or have fewer than two axes");
            };
            let of_weights: Vec<i64> = weights.iter().map(|side| *side as i64).collect();
            if self.attributes.has("kernel_shape") && kernel != of_weights || of_weights.len() != count {
                return Err("its kernel_shape is not that of its weights");
            }
            kernel = of_weights;
            let group = self.attributes.int("group", 1).filter(|group| (1..=LARGEST).contains(group));
            let group = group.ok_or("its group must be above 0")? as usize;
            let (from, to) =
                if self.proto.op_type == "ConvTranspose" { (*outputs, group) } else { (inputs * group, *outputs) };
            if from != *channels || to % group != 0 || *outputs == 0 || *inputs == 0 {
                return Err("its weights do not fit the channels of its input");
            }
            if let Some(bias) = self.shape(bias)
                && matches!(self.proto.op_type.as_str(), "Conv" | "QLinearConv")
                && *bias != [*outputs]
            {
                return Err("its bias does not fit its weights");
            }
            // Scales and zero points of maps and weights.
            let fits = match self.proto.op_type.as_str() {
                "ConvInteger" => self.are_numbers(&[2], 1) && self.are_numbers(&[3], *outputs),
                "QLinearConv" => self.are_numbers(&[1, 2, 6, 7], 1) && self.are_numbers(&[4, 5], *outputs),
                _ => true,
            };
            if !fits {
                return Err("its scale or zero point does not fit its input");
            }
        }
        if kernel.iter().any(|side| !(1..=LARGEST).contains(side)) {
            return Err("its kernel_shape, strides, dilations or pads are invalid");
        }
        ints("strides", 1, count, 1)?;
        let dilations = ints("dilations", 1, count, 1)?;
        let pads = ints("pads", 0, 2 * count, 0)?;
        let automatic = !matches!(self.attributes.text("auto_pad", "NOTSET"), Some("NOTSET" | "VALID"));
        let fits = (0..count).all(|axis| {
            let room = sides[axis] as i64 + pads[axis] + pads[axis + count];
            dilations[axis] * (kernel[axis] - 1) < room
        });
        if fits || automatic || self.proto.op_type == "ConvTranspose" {
            Ok(())
        } else {
            Err("its kernel is larger than its padded input")
        }
    }
}

/// Whether two shapes may be equal, as far as they are known.
fn alike(a: &[Option<usize>], b: &[Option<usize>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || a.is_none() || b.is_none())
}

/// An axis or position counted from the front, where negative ones count from the end of `length`.
pub(super) fn from_front(at: i64, length: i64) -> i64 {
    if at < 0 { at.saturating_add(length) } else { at }
}

/// The axes counted from the front, each once. Invalid axes stay as they are.
pub(super) fn distinct(axes: &[i64], rank: i64) -> Vec<i64> {
    let mut axes: Vec<i64> = axes.iter().map(|axis| from_front(*axis, rank)).collect();
    axes.sort_unstable();
    // An axis that is named twice is made invalid.
    if axes.windows(2).any(|pair| pair[0] == pair[1]) { vec![rank] } else { axes }
}

fn fit(axes: &[i64], rank: i64) -> Result<(), &'static str> {
    if axes.iter().all(|axis| (0..rank).contains(axis)) { Ok(()) } else { Err("its input has no such axis") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::messages::{AttributeProto, AttributeType};

    #[test]
    fn elements_are_gathered_from_within() {
        let fits = |data: &[usize], at: &[usize], axis: i64| {
            let r#type = AttributeType::Int as i32;
            let axis = AttributeProto { name: "axis".into(), i: axis, r#type, ..Default::default() };
            let node = NodeProto { op_type: "GatherElements".into(), attribute: vec![axis], ..Default::default() };
            let known = [data, at].map(|shape| {
                let sides = Some(shape.iter().copied().map(Some).collect());
                Some(Known {
                    sides,
                    shape: Some(shape.to_vec()),
                    is_constant: false,
                    is_fixed: false,
                    ints: None,
                    floats: None,
                    magnitudes: None,
                    kind: None,
                })
            });
            check(&node, 17, &known).is_ok()
        };
        assert!(fits(&[1, 180, 7], &[1, 20, 7], 1));
        assert!(fits(&[1, 180, 7], &[1, 500, 7], -2), "one may be read several times");
        assert!(!fits(&[1, 180, 7], &[1, 20, 8], 1));
        assert!(!fits(&[1, 180, 0], &[1, 20, 1], 2));
        assert!(!fits(&[1, 180, 7], &[20, 7], 1));
        assert!(fits(&[1, 180, 0], &[1, 0, 4], 2));
    }
}
