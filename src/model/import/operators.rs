//! What each ONNX operator means in tract's operators.
//!
//! The list is what detectors use: the YOLO family as PyTorch exports it, and its relatives. To add one, write what it
//! means in the file it belongs to, put its name into [`TABLE`], and add a case to `operators()` in
//! `tests/fixtures/make.py`, which compares it with onnxruntime.

mod arithmetic;
mod convolution;
mod elementwise;
mod layout;
mod quantize;
mod reduce;
mod resize;
mod select;
mod top_k;

use tract_core::internal::*;

use super::node::Node;

type Wire = fn(&mut Node<'_>) -> TractResult<TVec<OutletId>>;

/// Sorted by name.
const TABLE: &[(&str, Wire)] = &[
    ("Abs", elementwise::unary),
    ("Add", arithmetic::binary),
    ("And", arithmetic::logic),
    ("ArgMax", reduce::arg),
    ("ArgMin", reduce::arg),
    ("AveragePool", convolution::average_pool),
    ("BatchNormalization", arithmetic::batch_normalization),
    ("Cast", elementwise::cast),
    ("Ceil", elementwise::unary),
    ("Clip", elementwise::clip),
    ("Concat", layout::concat),
    ("Constant", layout::constant),
    ("ConstantOfShape", layout::constant_of_shape),
    ("Conv", convolution::conv),
    ("Cos", elementwise::unary),
    ("DepthToSpace", layout::depth_to_space),
    ("DequantizeLinear", quantize::dequantize),
    ("Div", arithmetic::binary),
    ("Dropout", layout::identity),
    ("Elu", elementwise::elu),
    ("Equal", arithmetic::compare),
    ("Erf", elementwise::unary),
    ("Exp", elementwise::unary),
    ("Expand", layout::expand),
    ("Flatten", layout::flatten),
    ("Floor", elementwise::unary),
    ("Gather", select::gather),
    ("GatherElements", select::gather_elements),
    ("Gelu", elementwise::gelu),
    ("Gemm", arithmetic::gemm),
    ("GlobalAveragePool", reduce::global_pool),
    ("GlobalMaxPool", reduce::global_pool),
    ("Greater", arithmetic::compare),
    ("GreaterOrEqual", arithmetic::compare),
    ("HardSigmoid", elementwise::hard_sigmoid),
    ("HardSwish", elementwise::unary),
    ("Identity", layout::identity),
    ("LayerNormalization", reduce::layer_normalization),
    ("LeakyRelu", elementwise::leaky_relu),
    ("Less", arithmetic::compare),
    ("LessOrEqual", arithmetic::compare),
    ("Log", elementwise::unary),
    ("MatMul", arithmetic::mat_mul),
    ("Max", arithmetic::nary),
    ("MaxPool", convolution::max_pool),
    ("Mean", arithmetic::nary),
    ("Min", arithmetic::nary),
    ("Mish", elementwise::mish),
    ("Mod", arithmetic::binary),
    ("Mul", arithmetic::binary),
    ("Neg", elementwise::unary),
    ("Not", arithmetic::not),
    ("Or", arithmetic::logic),
    ("PRelu", elementwise::p_relu),
    ("Pad", layout::pad),
    ("Pow", arithmetic::pow),
    ("QuantizeLinear", quantize::quantize),
    ("Range", layout::range),
    ("Reciprocal", elementwise::unary),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("Relu", elementwise::relu),
    ("Reshape", layout::reshape),
    ("Resize", resize::resize),
    ("Round", elementwise::unary),
    ("Shape", layout::shape),
    ("Sigmoid", elementwise::unary),
    ("Sign", elementwise::unary),
    ("Sin", elementwise::unary),
    ("Size", layout::size),
    ("Slice", select::slice),
    ("Softmax", reduce::softmax),
    ("Softplus", elementwise::softplus),
    ("SpaceToDepth", layout::space_to_depth),
    ("Split", select::split),
    ("Sqrt", elementwise::unary),
    ("Squeeze", layout::squeeze),
    ("Sub", arithmetic::binary),
    ("Sum", arithmetic::nary),
    ("Swish", elementwise::unary),
    ("Tanh", elementwise::unary),
    ("Tile", layout::tile),
    ("TopK", top_k::top_k),
    ("Transpose", layout::transpose),
    ("Unsqueeze", layout::unsqueeze),
    ("Upsample", resize::upsample),
    ("Where", arithmetic::choose),
];

fn find(operator: &str) -> Option<Wire> {
    let found = TABLE.binary_search_by(|(name, _)| (*name).cmp(operator)).ok()?;
    Some(TABLE[found].1)
}

pub(in crate::model) fn is_known(operator: &str) -> bool {
    find(operator).is_some()
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Wires what the node means and gives its results in order.
pub(super) fn wire(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let wire = find(node.operator()).with_context(|| format!("the operator {} is unknown", node.operator()))?;
    let wired = wire(node)?;
    // Results that nobody can name are left out; one that is named must be there.
    ensure!(wired.len() >= node.outputs(), "{} results are asked for; there are {}", node.outputs(), wired.len());
    Ok(wired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }
}
