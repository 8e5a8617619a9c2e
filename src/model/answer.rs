//! The last steps of a network are left to whoever reads its answer.
//!
//! Class rows end in a concatenation of boxes, and below them the sigmoid of the logits of each scale. Of a hundred
//! thousand scores a few dozen matter, and they can be told by what goes into the sigmoid: it rises, so a threshold on
//! the probability is one on the logit. Computing all of them and laying them side by side took a seventh of the
//! quickest network's time.

use tract_core::internal::DimLike;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::Sigmoid;
use tract_core::prelude::*;

use crate::decode::Scores;

/// If the first output is boxes above scores, `[1, 4 + C, N]`, gives the network these outputs instead: the boxes,
/// `[1, 4, N]`, then the scores in one or more parts, `[1, C, n]`, whose `n` add up to `N`. Says what kind of scores
/// they are.
///
/// # Errors
///
/// Those of tract if the graph is not consistent.
pub(super) fn take_apart(model: &mut TypedModel) -> TractResult<Option<Scores>> {
    let &[output, ..] = &model.outputs[..] else { return Ok(None) };
    let Some((boxes, scores)) = boxes_above_scores(model, output)? else { return Ok(None) };
    let (kind, scores) = match sigmoid_of(model, scores) {
        Some(logits) => (Scores::Logits, logits),
        None => (Scores::Probabilities, scores),
    };
    let parts = match concatenated(model, scores, 2) {
        Some(parts) => parts.to_vec(),
        None => vec![scores],
    };
    // Twice the same part, or an empty one: files that nobody makes, and not worth a thought in the decoder.
    for (i, part) in parts.iter().enumerate() {
        if parts[..i].contains(part) || boxes.contains(part) || model.outlet_fact(*part)?.shape[2].to_usize()? == 0
        {
            return Ok(None);
        }
    }
    let boxes = match boxes[..] {
        [one] => one,
        _ => model.wire_node("boxes", TypedConcat::new(1), &boxes)?[0],
    };
    let mut outputs = vec![boxes];
    outputs.extend(parts);
    model.select_output_outlets(&outputs)?;
    model.compact()?;
    Ok(Some(kind))
}

/// The inputs of a concatenation along `axis`.
fn concatenated(model: &TypedModel, outlet: OutletId, axis: usize) -> Option<&[OutletId]> {
    let node = model.node(outlet.node);
    node.op_as::<TypedConcat>().filter(|concat| concat.axis == axis).map(|_| &node.inputs[..])
}

/// The parts of the four rows of boxes, and the rows below them.
fn boxes_above_scores(model: &TypedModel, output: OutletId) -> TractResult<Option<(Vec<OutletId>, OutletId)>> {
    let Some((&scores, boxes)) = concatenated(model, output, 1).and_then(<[OutletId]>::split_last) else {
        return Ok(None);
    };
    let mut rows = 0;
    for outlet in boxes {
        rows += model.outlet_fact(*outlet)?.shape[1].to_usize()?;
    }
    Ok((rows == 4).then(|| (boxes.to_vec(), scores)))
}

/// What goes into a sigmoid.
fn sigmoid_of(model: &TypedModel, outlet: OutletId) -> Option<OutletId> {
    let node = model.node(outlet.node);
    let op = node.op_as::<ElementWiseOp>()?;
    (op.0.is::<Sigmoid>() && op.1.is_none()).then(|| node.inputs[0])
}

#[cfg(test)]
mod tests {
    use tract_core::ops::nn::sigmoid;

    use super::*;

    /// Two rows of boxes, two more, and below them what `below` makes of the logits of `widths` places.
    fn class_rows(
        widths: &[usize],
        below: impl Fn(&mut TypedModel, OutletId) -> TractResult<OutletId>,
    ) -> TractResult<TypedModel> {
        let places: usize = widths.iter().sum();
        let mut model = TypedModel::default();
        let centres = model.add_source("centres", f32::fact([1, 2, places]))?;
        let sides = model.add_source("sides", f32::fact([1, 2, places]))?;
        let parts = widths.iter().enumerate();
        let parts = parts.map(|(i, width)| model.add_source(format!("logits.{i}"), f32::fact([1, 3, *width])));
        let parts = parts.collect::<TractResult<TVec<OutletId>>>()?;
        let logits = model.wire_node("logits", TypedConcat::new(2), &parts)?[0];
        let scores = below(&mut model, logits)?;
        let answer = model.wire_node("answer", TypedConcat::new(1), &[centres, sides, scores])?;
        model.select_output_outlets(&answer)?;
        Ok(model)
    }

    fn with_sigmoid(model: &mut TypedModel, logits: OutletId) -> TractResult<OutletId> {
        Ok(model.wire_node("scores", sigmoid(), &[logits])?[0])
    }

    #[test]
    fn boxes_and_the_logits_of_each_scale_are_what_is_left() -> TractResult<()> {
        let mut model = class_rows(&[5, 2], with_sigmoid)?;
        assert_eq!(take_apart(&mut model)?, Some(Scores::Logits));
        let shape = |outlet: &OutletId| {
            model.outlet_fact(*outlet).map(|fact| fact.shape.as_concrete().map(<[usize]>::to_vec))
        };
        let shapes = model.outputs.iter().map(shape).collect::<TractResult<Vec<_>>>()?;
        assert_eq!(shapes, [[1, 4, 7], [1, 3, 5], [1, 3, 2]].map(|shape| Some(shape.to_vec())));
        assert!(model.nodes().iter().all(|node| !node.op_is::<ElementWiseOp>()));
        Ok(())
    }

    #[test]
    fn probabilities_that_someone_else_made_stay() -> TractResult<()> {
        let mut model = class_rows(&[4], |_, logits| Ok(logits))?;
        assert_eq!(take_apart(&mut model)?, Some(Scores::Probabilities));
        assert_eq!(model.outputs.len(), 2);
        Ok(())
    }

    #[test]
    fn parts_that_are_empty_or_there_twice_are_left_alone() -> TractResult<()> {
        let mut empty = class_rows(&[4, 0], with_sigmoid)?;
        assert_eq!(take_apart(&mut empty)?, None);
        let mut model = TypedModel::default();
        let boxes = model.add_source("boxes", f32::fact([1, 4, 6]))?;
        let logits = model.add_source("logits", f32::fact([1, 3, 3]))?;
        let scores = model.wire_node("twice", TypedConcat::new(2), &[logits, logits])?[0];
        let answer = model.wire_node("answer", TypedConcat::new(1), &[boxes, scores])?;
        model.select_output_outlets(&answer)?;
        assert_eq!(take_apart(&mut model)?, None);
        Ok(())
    }

    #[test]
    fn another_answer_is_left_alone() -> TractResult<()> {
        let mut model = class_rows(&[4], with_sigmoid)?;
        let answer = model.outputs[0];
        let turned = model.wire_node("turned", tract_core::ops::change_axes::AxisOp::Move(1, 2), &[answer])?;
        model.select_output_outlets(&turned)?;
        assert_eq!(take_apart(&mut model)?, None);
        assert_eq!(model.outputs.len(), 1);
        Ok(())
    }
}
