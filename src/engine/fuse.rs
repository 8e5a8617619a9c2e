//! Fuses operators of the engine's graph until no rule applies: activations into the operators before them, and float
//! operators between a DequantizeLinear and the next QuantizeLinear into int8 operators.
//!
//! Each rule preserves what the graph computes, up to float rounding. The int8 rules preserve every byte.

use super::net::{Id, Int8, Kind, Net, Node, Op, Quant, Weights, scale_of_zeros};
use super::simd::{Activation, LARGEST_RESULT};

/// Applies all rules until none applies.
pub(super) fn fuse(net: &mut Net) {
    net.tidy();
    loop {
        let mut changed = false;
        let mut uses = net.uses();
        // Rules append nodes, which are visited in the same pass.
        let mut id = 0;
        while id < net.nodes.len() {
            // A rule may enable another one at the same node.
            while apply(net, &uses, id) {
                uses = net.uses();
                changed = true;
            }
            id += 1;
        }
        net.tidy();
        if !changed {
            return;
        }
    }
}

/// Tries the rules for patterns that end at node `id`.
fn apply(net: &mut Net, uses: &[usize], id: Id) -> bool {
    if uses[id] == 0 {
        return false;
    }
    match net.nodes[id].op {
        Op::Unary(activation) => unary(net, uses, id, activation),
        Op::Mul => mul(net, id),
        Op::Quantize { low, high } => quantize(net, uses, id, low, high),
        Op::Conv(_) => conv_on_bytes(net, uses, id) || by_channel(net, uses, id),
        Op::MaxPool(_) | Op::Upsample | Op::Slice(_) | Op::Shuffle(_) | Op::Concat => {
            behind_dequantize(net, id) || narrow(net, id)
        }
        // The mean of bytes stays within their bounds, but is rounded. So the operator stays after its DequantizeLinear
        // until a QuantizeLinear follows.
        Op::Bilinear => narrow(net, id),
        Op::Mean => mean(net, id),
        _ => false,
    }
}

/// `after(before(x))` as one activation.
fn compose(before: Activation, after: Activation) -> Option<Activation> {
    use Activation::{Affine, Clamp, Exp, Gated, Leaky, Sigmoid, Silu};
    let parts = |activation| match activation {
        Clamp { low, high } => Some((1.0, 0.0, low, high)),
        Affine { scale, offset, low, high } => Some((scale, offset, low, high)),
        Gated { .. } | Leaky { .. } | Sigmoid | Silu | Exp { .. } => None,
    };
    if before == Activation::NONE {
        return Some(after);
    }
    if after == Activation::NONE {
        return Some(before);
    }
    if let (Clamp { low, high }, Exp { low: lowest, high: highest }) = (before, after) {
        let both = |bound: f32| bound.max(lowest).min(highest);
        return (low <= high && lowest <= highest).then(|| Exp { low: both(low), high: both(high) });
    }
    let (s1, o1, l1, h1) = parts(before)?;
    let (s2, o2, l2, h2) = parts(after)?;
    // If the slope of the second function is negative, or bounds are in the wrong order, the bounds would have to be
    // swapped.
    if !(s2 > 0.0 && l1 <= h1 && l2 <= h2) {
        return None;
    }
    let bound = |b: f32| (b * s2 + o2).max(l2).min(h2);
    let (scale, offset, low, high) = (s1 * s2, o1 * s2 + o2, bound(l1), bound(h1));
    Some(if (scale, offset) == (1.0, 0.0) { Clamp { low, high } } else { Affine { scale, offset, low, high } })
}

/// Fuses an activation into the operator before it.
fn unary(net: &mut Net, uses: &[usize], id: Id, activation: Activation) -> bool {
    let before = net.nodes[id].inputs[0];
    if activation == Activation::NONE {
        redirect(net, id, before);
        return true;
    }
    if uses[before] != 1 || net.nodes[before].kind != Kind::Float {
        return false;
    }
    let fused = match &mut net.nodes[before].op {
        Op::Unary(first) | Op::Add(first) => compose(*first, activation).map(|both| *first = both),
        Op::Conv(conv) => compose(conv.activation, activation).map(|both| conv.activation = both),
        _ => None,
    };
    if fused.is_none() {
        return false;
    }
    redirect(net, id, before);
    true
}

/// Fuses a factor and an offset per channel into the convolution before them.
fn by_channel(net: &mut Net, uses: &[usize], id: Id) -> bool {
    let before = net.nodes[id].inputs[0];
    let Op::Conv(last) = &net.nodes[id].op else { return false };
    // Padding behind the last row or column shows only in the shape.
    let keeps_shape = net.nodes[before].shape == net.nodes[id].shape;
    let is_by_channel = last.is_by_channel() && last.int8.is_none() && keeps_shape;
    if !is_by_channel || uses[before] != 1 || net.nodes[before].kind != Kind::Float {
        return false;
    }
    let (factors, offsets, activation) = (last.weights.floats().into_owned(), last.bias.clone(), last.activation);
    let Op::Conv(first) = &mut net.nodes[before].op else { return false };
    let (scale, offset) = match first.activation {
        Activation::NONE => (1.0, 0.0),
        Activation::Affine { scale, offset, low: f32::NEG_INFINITY, high: f32::INFINITY } => (scale, offset),
        _ => return false,
    };
    // The weights of a quantised file stay as they are, to preserve every byte.
    let Weights::Floats(weights) = &mut first.weights else { return false };
    if first.int8.is_some() {
        return false;
    }
    let row = weights.len() / factors.len();
    for (output, factor) in factors.iter().enumerate() {
        weights[output * row..][..row].iter_mut().for_each(|weight| *weight *= scale * factor);
        first.bias[output] = (first.bias[output] * scale + offset) * factor + offsets[output];
    }
    first.activation = activation;
    redirect(net, id, before);
    true
}

/// Recognises products that have a name: SiLU, hard swish, a gate on channels.
fn mul(net: &mut Net, id: Id) -> bool {
    let [a, b] = net.nodes[id].inputs[..] else { return false };
    for (x, gate) in [(a, b), (b, a)] {
        let Op::Unary(activation) = net.nodes[gate].op else { continue };
        if net.nodes[gate].inputs[0] != x {
            continue;
        }
        let product = match activation {
            Activation::Sigmoid => Activation::Silu,
            Activation::Affine { scale, offset, low, high } => Activation::Gated { scale, offset, low, high },
            Activation::Clamp { low, high } => Activation::Gated { scale: 1.0, offset: 0.0, low, high },
            _ => continue,
        };
        net.nodes[id].op = Op::Unary(product);
        net.nodes[id].inputs = vec![x];
        return true;
    }
    false
}

/// Whether an int8 operator can apply an activation between its sums and its bytes.
fn ends_in_bytes(activation: Activation) -> bool {
    match activation {
        Activation::Clamp { .. } => true,
        Activation::Leaky { slope } => (0.0..=1.0).contains(&slope),
        _ => false,
    }
}

/// The rest of `activation` if its result, clamped to `low..=high`, is stored as bytes of `quant`; and which bytes
/// occur.
fn into_bytes(activation: Activation, quant: Quant, low: f32, high: f32) -> Option<(Activation, Kind)> {
    let (activation, low, high) = match activation {
        Activation::Clamp { low: l, high: h } => {
            let (low, high) = (l.max(low).min(high), h.min(high).max(low));
            (Activation::Clamp { low, high }, low, high)
        }
        leaky if ends_in_bytes(leaky) => (leaky, low, high),
        _ => return None,
    };
    Some((activation, Kind::Byte(quant.clamped(low, high))))
}

/// Makes all readers of `from` read `to`.
fn redirect(net: &mut Net, from: Id, to: Id) {
    for input in net.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(&mut net.outputs) {
        if *input == from {
            *input = to;
        }
    }
}

/// The bytes that a node dequantises, if it is a DequantizeLinear.
fn bytes_behind(net: &Net, id: Id) -> Option<(Id, Quant)> {
    let node = &net.nodes[id];
    let Op::Dequantize = node.op else { return None };
    let bytes = node.inputs[0];
    match net.nodes[bytes].kind {
        Kind::Byte(quant) => Some((bytes, quant)),
        Kind::Float => None,
    }
}

/// Makes a convolution of dequantised bytes an int8 convolution, if its weights are multiples of a scale.
fn conv_on_bytes(net: &mut Net, uses: &[usize], id: Id) -> bool {
    let Some((bytes, quant)) = bytes_behind(net, net.nodes[id].inputs[0]) else { return false };
    if !quant.is_7_bit() {
        return false;
    }
    let Op::Conv(conv) = &net.nodes[id].op else { return false };
    // The int8 depthwise kernel only writes bytes.
    let bytes_behind = || {
        let alone = ends_in_bytes(conv.activation) && uses[id] == 1;
        let reader = net.nodes.iter().find(|n| matches!(n.op, Op::Quantize { .. }) && n.inputs == [id]);
        match reader.filter(|_| alone)?.kind {
            Kind::Byte(quant) => Some(quant),
            Kind::Float => None,
        }
    };
    // A Clip before the QuantizeLinear may not be fused yet. The rule is tried again once it is.
    let behind = if conv.depthwise { bytes_behind() } else { None };
    if conv.int8.is_some() || (conv.depthwise && behind.is_none()) {
        return false;
    }
    let int8 = match &conv.weights {
        Weights::Int8(int8) => Some(int8.clone().with_scales_for(&conv.bias)),
        Weights::Floats(weights) => integers(weights, &conv.bias),
    };
    let Some(int8) = int8 else { return false };
    if !int8.fits_32_bits(&conv.bias, quant) {
        return false;
    }
    if behind.is_some_and(|behind| int8.largest_result(&conv.bias, quant, behind) > LARGEST_RESULT) {
        return false;
    }
    if let Op::Conv(conv) = &mut net.nodes[id].op {
        conv.int8 = Some(int8);
    }
    net.nodes[id].inputs = vec![bytes];
    true
}

/// Finds integers in `-128..=127` and a scale for each output channel whose products are the weights. They exist if a
/// DequantizeLinear made the weights.
fn integers(weights: &[f32], bias: &[f32]) -> Option<Int8> {
    let mut int8 = Int8 { weights: Vec::with_capacity(weights.len()), scales: Vec::with_capacity(bias.len()) };
    for (weights, bias) in weights.chunks_exact(weights.len() / bias.len()).zip(bias) {
        let largest = weights.iter().fold(0.0f32, |m, w| if w.abs() > m.abs() { *w } else { m });
        if largest == 0.0 {
            int8.scales.push(scale_of_zeros(*bias));
            int8.weights.extend(weights.iter().map(|_| 0));
            continue;
        }
        // Quantisers map the largest weight to 127. Other integers are tried for files whose scales were rounded up.
        let first = int8.weights.len();
        let found = (1..=128).rev().map(|i| if i == 1 { 128 } else { i - 1 }).find_map(|top| {
            if top == 128 && largest > 0.0 {
                return None;
            }
            let scale = largest.abs() / top as f32;
            int8.weights.truncate(first);
            // A few weights at a time, because a wrong scale shows at once.
            weights.chunks(64).all(|few| whole_multiples(few, scale, &mut int8.weights)).then_some(scale)
        })?;
        int8.scales.push(found);
    }
    Some(int8)
}

/// Appends weights as multiples of `scale`; returns whether all of them are. The loop has no branch, so it can be
/// vectorised. It is a separate function, because a browser optimises it while the rest of loading still runs
/// unoptimised.
#[inline(never)]
fn whole_multiples(weights: &[f32], scale: f32, whole: &mut Vec<i8>) -> bool {
    let mut off = false;
    whole.extend(weights.iter().map(|w| {
        let nearest = (w / scale).round_ties_even();
        // A NaN is near nothing. 128 is not an int8, but occurs if all weights have the same absolute value.
        let is_near = (w / scale - nearest).abs() < 1e-3 && nearest < 128.0;
        off |= !is_near;
        nearest as i8
    }));
    !off
}

/// Moves an operator that only moves or selects bytes in front of the DequantizeLinear.
fn behind_dequantize(net: &mut Net, id: Id) -> bool {
    let mut inputs = Vec::with_capacity(net.nodes[id].inputs.len());
    for input in &net.nodes[id].inputs {
        let Some(found) = bytes_behind(net, *input) else { return false };
        inputs.push(found);
    }
    let Some(&(_, first)) = inputs.first() else { return false };
    if inputs.iter().any(|(_, quant)| !quant.same_scale(first)) {
        return false;
    }
    let (low, high) = bounds(first, inputs.iter().map(|(_, quant)| *quant));
    let node = &net.nodes[id];
    let on_bytes = Node {
        inputs: inputs.iter().map(|(bytes, _)| *bytes).collect(),
        kind: Kind::Byte(Quant { low, high, ..first }),
        ..node.clone()
    };
    net.nodes.push(on_bytes);
    net.nodes[id].op = Op::Dequantize;
    net.nodes[id].inputs = vec![net.nodes.len() - 1];
    // `tidy` puts the new node in its place. The uses are counted again after that.
    true
}

/// The lowest and the highest byte of several images. `first` is one of them.
fn bounds(first: Quant, images: impl Iterator<Item = Quant>) -> (i32, i32) {
    images.fold((first.low, first.high), |(low, high), image| (low.min(image.low), high.max(image.high)))
}

/// Narrows the bounds of an operator that only moves or selects bytes to those of its inputs. A QuantizeLinear that
/// moved in front of it may have left it with the full range of a byte.
fn narrow(net: &mut Net, id: Id) -> bool {
    let Kind::Byte(kind) = net.nodes[id].kind else { return false };
    let inputs = net.nodes[id].inputs.iter().map(|input| match net.nodes[*input].kind {
        Kind::Byte(quant) => Some(quant),
        Kind::Float => None,
    });
    let Some(inputs) = inputs.collect::<Option<Vec<Quant>>>() else { return false };
    let Some(&first) = inputs.first() else { return false };
    let (low, high) = bounds(first, inputs.into_iter());
    let narrower = Quant { low: low.max(kind.low), high: high.min(kind.high), ..kind };
    net.nodes[id].kind = Kind::Byte(narrower);
    narrower != kind
}

/// Computes the mean of dequantised bytes from the bytes.
fn mean(net: &mut Net, id: Id) -> bool {
    let Some((bytes, _)) = bytes_behind(net, net.nodes[id].inputs[0]) else { return false };
    net.nodes[id].inputs = vec![bytes];
    true
}

/// Fuses a QuantizeLinear into the operator before it.
fn quantize(net: &mut Net, uses: &[usize], id: Id, low: f32, high: f32) -> bool {
    let Kind::Byte(quant) = net.nodes[id].kind else { return false };
    let before = net.nodes[id].inputs[0];
    let alone = uses[before] == 1;
    if let Some((bytes, source)) = bytes_behind(net, before) {
        net.nodes[id].inputs = vec![bytes];
        let clamps = source.clamped(low, high);
        if source.same_scale(quant) && clamps == source {
            redirect(net, id, bytes);
        }
        return true;
    }
    match &net.nodes[before].op {
        &Op::Unary(Activation::Clamp { low: l, high: h }) if l <= h => {
            // Other nodes may read the clamp too, so it is also applied while quantising.
            let (low, high) = (low.max(l).min(high), high.min(h).max(low));
            net.nodes[id].inputs = net.nodes[before].inputs.clone();
            net.nodes[id].op = Op::Quantize { low, high };
            net.nodes[id].kind = Kind::Byte(quant.clamped(low, high));
            true
        }
        Op::Conv(conv) if alone && conv.int8.is_some() => {
            let Some((activation, kind)) = into_bytes(conv.activation, quant, low, high) else { return false };
            let Kind::Byte(read) = net.nodes[net.nodes[before].inputs[0]].kind else { return false };
            let largest = conv.int8.as_ref().map(|int8| int8.largest_result(&conv.bias, read, quant));
            if largest.is_none_or(|largest| largest > LARGEST_RESULT) {
                return false;
            }
            let node = &mut net.nodes[before];
            if let Op::Conv(conv) = &mut node.op {
                conv.activation = activation;
            }
            node.kind = kind;
            redirect(net, id, before);
            true
        }
        Op::Add(activation) if alone => {
            let Some((activation, kind)) = into_bytes(*activation, quant, low, high) else { return false };
            let bytes = net.nodes[before].inputs.iter().map(|input| bytes_behind(net, *input).map(|found| found.0));
            let Some(bytes) = bytes.collect::<Option<Vec<Id>>>() else { return false };
            let node = &mut net.nodes[before];
            (node.op, node.inputs, node.kind) = (Op::Add(activation), bytes, kind);
            redirect(net, id, before);
            true
        }
        Op::Bilinear if alone => {
            // The mean of bytes is rounded once, here. Its scale stays that of the bytes, and no result exceeds their
            // range.
            let Some((bytes, source)) = bytes_behind(net, net.nodes[before].inputs[0]) else { return false };
            if !source.same_scale(quant) || source.clamped(low, high) != source {
                return false;
            }
            let node = &mut net.nodes[before];
            (node.inputs, node.kind) = (vec![bytes], Kind::Byte(source));
            redirect(net, id, before);
            true
        }
        Op::Gate if alone => {
            let [x, gate] = net.nodes[before].inputs[..] else { return false };
            let Some((bytes, _)) = bytes_behind(net, x) else { return false };
            let node = &mut net.nodes[before];
            node.inputs = vec![bytes, gate];
            node.kind = Kind::Byte(quant.clamped(low, high));
            redirect(net, id, before);
            true
        }
        Op::Concat | Op::Upsample | Op::MaxPool(_) | Op::Slice(_) | Op::Shuffle(_) if alone => {
            // Each input is quantised separately. Concatenation does not change the rounding.
            let inputs = net.nodes[before].inputs.clone();
            let (name, kind) = (net.nodes[id].name.clone(), net.nodes[id].kind);
            let mut quantised = Vec::with_capacity(inputs.len());
            for input in inputs {
                quantised.push(net.nodes.len());
                let shape = net.nodes[input].shape;
                net.nodes.push(Node {
                    name: name.clone(),
                    op: Op::Quantize { low, high },
                    inputs: vec![input],
                    shape,
                    kind,
                });
            }
            net.nodes[before].inputs = quantised;
            net.nodes[before].kind = kind;
            redirect(net, id, before);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_activations_are_the_composition() {
        let relu6 = Activation::Clamp { low: 0.0, high: 6.0 };
        let hard_sigmoid = Activation::Affine { scale: 0.2, offset: 0.5, low: 0.0, high: 1.0 };
        let narrow = Activation::Clamp { low: -1.0, high: 2.5 };
        let line = Activation::Affine { scale: 3.0, offset: -1.0, low: f32::NEG_INFINITY, high: f32::INFINITY };
        for before in [relu6, hard_sigmoid, narrow, line] {
            for after in [relu6, hard_sigmoid, narrow, line, Activation::NONE] {
                let both = compose(before, after).expect("both are clamped lines");
                for i in -400..400 {
                    let x = i as f32 * 0.05;
                    let expected = after.apply_scalar(before.apply_scalar(x));
                    let found = both.apply_scalar(x);
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{before:?} then {after:?} of {x}: {found}, not {expected}"
                    );
                }
            }
        }
        assert_eq!(compose(relu6, Activation::Sigmoid), None);
        let exp = Activation::Exp { low: f32::NEG_INFINITY, high: f32::INFINITY };
        assert_eq!(compose(relu6, exp), Some(Activation::Exp { low: 0.0, high: 6.0 }));
        assert_eq!(compose(exp, relu6), None);
        let falling = Activation::Affine { scale: -1.0, offset: 0.0, low: -9.0, high: 9.0 };
        assert_eq!(compose(relu6, falling), None);
    }

    #[test]
    fn integers_behind_dequantised_weights_are_found() {
        let (a, b) = (0.003_712f32, 0.25f32);
        let quantised = [[127, -3, 0, 64, 90], [-100, 7, 3, -9, 1], [0, 0, 0, 0, 0], [-128, 127, 1, 2, 3]];
        let scales = [a, b, 1.0, a];
        let weights: Vec<f32> =
            quantised.iter().zip(scales).flat_map(|(row, s)| row.map(|q| q as f32 * s)).collect();
        let found = integers(&weights, &[0.0; 4]).expect("they are multiples of a scale");
        for ((row, scale), (expected, expected_scale)) in
            found.weights.chunks(5).zip(&found.scales).zip(quantised.iter().zip(scales))
        {
            for (q, e) in row.iter().zip(expected) {
                let (w, we) = (f32::from(*q) * scale, *e as f32 * expected_scale);
                assert!((w - we).abs() <= 1e-6 * we.abs(), "{w}, not {we}");
            }
        }
    }

    #[test]
    fn the_largest_result_is_a_bound_in_quanta() {
        let int8 = Int8 { weights: vec![127, -128, 1, 1], scales: vec![0.5, 0.25] };
        let from = Quant { scale: 0.1, zero: 27, low: 0, high: 127 };
        let to = Quant { scale: 2.0, ..from };
        // Bytes are at most 100 from their zero point: 255 · 100 · 0.5 · 0.1 + 10 and 2 · 100 · 0.25 · 0.1 + 3.
        let largest = int8.largest_result(&[-10.0, 3.0], from, to);
        assert!((largest - (1275.0 + 10.0) / 2.0).abs() < 1e-3, "{largest}");
    }

    #[test]
    fn float_weights_are_not_taken_for_integers() {
        let weights: Vec<f32> = (0..32).map(|i| (i as f32 * 0.77).sin()).collect();
        assert!(integers(&weights, &[0.0; 4]).is_none());
    }

    /// Fuses the network of a file up to its head.
    fn fused(onnx: &[u8], width: u32, height: u32) -> Net {
        let limits = crate::Limits::default();
        let budget = &mut crate::limits::Budget::new(&limits);
        let file = crate::onnx::read(onnx, budget).unwrap();
        let (head, size) = (file.metadata.head(), crate::InputSize { width, height });
        let mut net = crate::lower::head::up_to_head(&file, head.as_ref(), size, budget).unwrap().net;
        fuse(&mut net);
        net
    }

    #[test]
    fn released_networks_run_on_bytes() {
        if crate::is_packaged() {
            return;
        }
        for (name, side) in [("micro-yolo-int8", 416), ("micro-yolo-s-int8", 416)] {
            let path = format!("{}/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
            let net = fused(&std::fs::read(path).unwrap(), side, side);
            let floats: Vec<&str> =
                net.nodes.iter().filter(|node| is_float_map(&net, node)).map(|n| &n.name[..]).collect();
            assert!(floats.is_empty(), "{name}: {floats:?} read floats");
        }
    }

    /// Leaky ReLU, layers without activation, padded pools, bilinear upsampling and sums.
    #[test]
    fn of_a_network_of_units_nothing_but_its_ends_is_in_floats() {
        let net = fused(include_bytes!("../../tests/fixtures/distribution-int8.onnx"), 64, 96);
        let is_end = |id: Id| matches!(net.nodes[id].op, Op::Input(_)) || net.outputs.contains(&id);
        let floats = (0..net.nodes.len()).filter(|id| {
            let Node { shape, kind, .. } = &net.nodes[*id];
            // Squeeze-and-excitation works on one cell.
            *kind == Kind::Float && !is_end(*id) && shape.height * shape.width > 1
        });
        let floats: Vec<&str> = floats.map(|id| &net.nodes[id].name[..]).collect();
        assert!(floats.is_empty(), "{floats:?} are floats");
        assert!(net.nodes.iter().any(|node| matches!(node.op, Op::Bilinear) && node.kind != Kind::Float));
        assert!(net.nodes.iter().any(|node| matches!(node.op, Op::Add(_)) && node.kind != Kind::Float));
    }

    /// Whether it is a convolution that reads floats, except those of squeeze-and-excitation, which have one pixel.
    fn is_float_map(net: &Net, node: &Node) -> bool {
        let read = node.inputs.first().map(|id| net.nodes[*id].kind);
        matches!(node.op, Op::Conv(_)) && node.shape.height > 1 && read == Some(Kind::Float)
    }
}
