//! The work of a node, estimated from the shapes of its inputs and outputs.

use crate::engine::net::{Conv, Op, Shape};
use crate::limits::product;
#[cfg(feature = "tract")]
use crate::onnx::{attributes::Attributes, messages::NodeProto};

/// Weights are padded to a multiple of at most this number of channels when they are packed.
const MOST_LANES: usize = 16;

/// The number of values of an image.
pub(super) fn numbers(Shape { height, width, channels }: Shape) -> u64 {
    product(&[height, width, channels])
}

/// Multiply-accumulates of an operation of the engine, or the number of values that it touches.
#[inline(never)]
pub(super) fn of_step(op: &Op, out: Shape) -> u64 {
    let each = match op {
        Op::Conv(conv) => product(&[conv.inputs(), conv.kernel.0, conv.kernel.1]),
        Op::MaxPool(pool) => (pool.kernel.0 + pool.kernel.1) as u64,
        _ => 1,
    };
    each.saturating_mul(numbers(out))
}

/// Bytes of a convolution's weights, as stored in the file and as packed for the kernels.
#[inline(never)]
pub(super) fn weights(conv: &Conv) -> u64 {
    let outputs = conv.bias.len();
    let packed = product(&[conv.inputs(), conv.kernel.0, conv.kernel.1, outputs.next_multiple_of(MOST_LANES), 4]);
    packed.saturating_add(4 * conv.weights.len() as u64)
}

/// An upper estimate of the multiply-accumulates of a node that tract runs, or of the values that it touches. Sizes
/// that depend on the content of the picture count as 0.
#[cfg(feature = "tract")]
pub(crate) fn of_node(node: &NodeProto, inputs: &[Option<Vec<usize>>], outputs: &[Option<Vec<usize>>]) -> u64 {
    let volume = |shape: Option<&Vec<usize>>| shape.map_or(0, |shape| product(shape));
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let side = |index: usize, axis_from_end: usize| {
        let shape = input(index)?;
        shape.len().checked_sub(axis_from_end).map(|axis| shape[axis])
    };
    let attributes = Attributes(node);
    let out = volume(outputs.first().and_then(Option::as_ref));
    let all =
        |shapes: &[Option<Vec<usize>>]| shapes.iter().fold(0u64, |sum, s| sum.saturating_add(volume(s.as_ref())));
    let touched = all(inputs).saturating_add(all(outputs));
    // The weights of one output channel.
    let of_channel = |index: usize| volume(input(index)) / input(index).map_or(1, |shape| shape[0].max(1)) as u64;
    let work = match node.op_type.as_str() {
        "Conv" | "ConvInteger" => out.saturating_mul(of_channel(1)),
        "QLinearConv" => out.saturating_mul(of_channel(3)),
        "ConvTranspose" => volume(input(0)).saturating_mul(of_channel(1)),
        "MatMul" | "MatMulInteger" => out.saturating_mul(side(0, 1).unwrap_or(1) as u64),
        "QLinearMatMul" => out.saturating_mul(side(0, 1).unwrap_or(1) as u64),
        "Gemm" => {
            let transposed = attributes.int("transA", 0).is_some_and(|flag| flag != 0);
            out.saturating_mul(side(0, if transposed { 2 } else { 1 }).unwrap_or(1) as u64)
        }
        "Einsum" => einsum(attributes.text("equation", "").unwrap_or_default(), inputs),
        "MaxPool" | "AveragePool" | "LpPool" => {
            let kernel = attributes.ints("kernel_shape").unwrap_or_default();
            kernel.iter().fold(out, |work, side| work.saturating_mul(side.unsigned_abs()))
        }
        "LRN" => out.saturating_mul(attributes.int("size", 1).unwrap_or(1).unsigned_abs()),
        // Compares each candidate with each box that stays.
        "NonMaxSuppression" => {
            let boxes = side(0, 2).unwrap_or(0) as u64;
            volume(input(1)).saturating_mul(boxes)
        }
        // These compute step by step along an axis, and each step has a cost.
        "LSTM" | "GRU" | "RNN" => {
            let steps = input(0).map_or(0, |shape| product(&shape[..shape.len().min(2)]));
            let weights = volume(input(1)).saturating_add(volume(input(2)));
            steps.saturating_mul(weights.saturating_add(1000))
        }
        "CumSum" => touched.saturating_mul(100),
        "TopK" => touched.saturating_mul(16),
        _ => 0,
    };
    work.saturating_add(touched)
}

/// The product of all dimensions that the equation names, each counted once.
#[cfg(feature = "tract")]
fn einsum(equation: &str, inputs: &[Option<Vec<usize>>]) -> u64 {
    let terms = equation.split("->").next().unwrap_or_default();
    let mut sides: Vec<(char, usize)> = Vec::new();
    let mut others = 1u64;
    for (term, shape) in terms.split(',').zip(inputs) {
        let Some(shape) = shape else { continue };
        let letters: Vec<char> = term.chars().filter(|letter| letter.is_alphabetic()).collect();
        if letters.len() != shape.len() {
            // With an ellipsis, the names of the dimensions are not known here.
            others = others.saturating_mul(product(shape));
            continue;
        }
        for (letter, &side) in letters.into_iter().zip(shape) {
            match sides.iter_mut().find(|(known, _)| *known == letter) {
                Some((_, known)) => *known = (*known).max(side),
                None => sides.push((letter, side)),
            }
        }
    }
    sides.into_iter().fold(others, |work, (_, side)| work.saturating_mul(side as u64))
}

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests {
    use super::*;
    use crate::onnx::messages::{AttributeProto, AttributeType};

    fn cost(operator: &str, attribute: Option<AttributeProto>, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let node = NodeProto {
            op_type: operator.into(),
            attribute: attribute.into_iter().collect(),
            ..Default::default()
        };
        let shapes = inputs.iter().map(|shape| Some(shape.to_vec())).collect::<Vec<_>>();
        of_node(&node, &shapes, &[Some(output.to_vec())])
    }

    #[test]
    fn work_by_hand() {
        // 5 x 4 x 4 outputs of 3 x 3 x 3 each; 3 x 36 numbers in, 5 x 27 weights, 80 numbers out.
        assert_eq!(cost("Conv", None, &[&[1, 3, 6, 6], &[5, 3, 3, 3]], &[1, 5, 4, 4]), 80 * 27 + 108 + 135 + 80);
        assert_eq!(
            cost("ConvTranspose", None, &[&[1, 3, 2, 2], &[3, 5, 2, 2]], &[1, 5, 4, 4]),
            12 * 20 + 12 + 60 + 80
        );
        assert_eq!(cost("MatMul", None, &[&[2, 3, 7], &[7, 5]], &[2, 3, 5]), 30 * 7 + 42 + 35 + 30);
        assert_eq!(cost("NonMaxSuppression", None, &[&[1, 100, 4], &[1, 2, 100]], &[]), 200 * 100 + 400 + 200 + 1);
        assert_eq!(cost("Relu", None, &[&[1, 10]], &[1, 10]), 20);
        let equation = |s: &[u8]| {
            let text = AttributeType::String as i32;
            Some(AttributeProto { name: "equation".into(), s: s.to_vec(), r#type: text, ..Default::default() })
        };
        let inputs: [&[usize]; 2] = [&[2, 3, 4], &[2, 4, 5]];
        assert_eq!(cost("Einsum", equation(b"bij, bjk -> bik"), &inputs, &[2, 3, 5]), 120 + 24 + 40 + 30);
        assert_eq!(cost("Einsum", equation(b"...ij, ...jk"), &inputs, &[2, 3, 5]), 24 * 40 + 24 + 40 + 30);
    }
}
