//! The last steps of a network are left to whoever reads its answer.
//!
//! Class rows end in a concatenation of boxes, and below them the sigmoid of the logits of each scale. Of a hundred
//! thousand scores a few dozen matter, and they can be told by what goes into the sigmoid: it rises, so a threshold on
//! the probability is one on the logit. Computing all of them and laying them side by side took a seventh of the
//! quickest network's time. Boxes, too, are wanted of those few places only, where the network says them as distances
//! from the centres of its cells.

use tract_core::internal::DimLike;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Mul, Sub};
use tract_core::ops::nn::Sigmoid;
use tract_core::prelude::*;

use crate::decode::{Boxes, Parts, Scale, Scores};
use crate::engine::{floats, uniform};

/// If the first output is boxes above scores, `[1, 4 + C, N]`, gives the network these outputs instead: the boxes,
/// `[1, 4, N]`, or the distances that they are made of, in one or more parts, then the scores in one or more parts,
/// `[1, C, n]` or `[1, C, h, w]` each, whose places add up to `N`.
///
/// # Errors
///
/// Those of tract if the graph is not consistent.
pub(super) fn take_apart(model: &mut TypedModel) -> TractResult<Option<Parts>> {
    let &[output, ..] = &model.outputs[..] else { return Ok(None) };
    let Some((rows, scores)) = boxes_above_scores(model, output)? else { return Ok(None) };
    let (kind, scores) = match sigmoid_of(model, scores) {
        Some(logits) => (Scores::Logits, logits),
        None => (Scores::Probabilities, scores),
    };
    let scores = concatenated(model, scores, 2).map_or_else(|| vec![scores], <[OutletId]>::to_vec);
    let (mut outputs, boxes) = match distances(model, &rows)? {
        Some((parts, scales)) => (parts, Boxes::Distances(scales.into())),
        None => match rows[..] {
            [one] => (vec![one], Boxes::CentreSize),
            _ => (vec![model.wire_node("boxes", TypedConcat::new(1), &rows)?[0]], Boxes::CentreSize),
        },
    };
    outputs.extend(scores);
    outputs.iter_mut().for_each(|outlet| *outlet = image_of(model, *outlet));
    // Twice the same part, or an empty one: files that nobody makes, and not worth a thought in the decoder.
    for (i, part) in outputs.iter().enumerate() {
        let is_empty = model.outlet_fact(*part)?.shape.iter().any(|side| side.to_usize().unwrap_or(0) == 0);
        if outputs[..i].contains(part) || is_empty {
            return Ok(None);
        }
    }
    model.select_output_outlets(&outputs)?;
    model.compact()?;
    Ok(Some(Parts { scores: kind, boxes, pixels: false }))
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

/// The image whose pixels, row by row, are the columns of `outlet`; `outlet` itself if there is none.
fn image_of(model: &TypedModel, outlet: OutletId) -> OutletId {
    let node = model.node(outlet.node);
    match node.op_as::<AxisOp>() {
        Some(AxisOp::Reshape(2, from, to)) if from.len() == 2 && to.len() == 1 => node.inputs[0],
        _ => outlet,
    }
}

/// Boxes as our exporter and its relatives make them: with the distances l, t, r, b of the sides from the centre of a
/// cell, in cells or in pixels, `centre + ((r, b) - (l, t)) / 2` above `(l, t) + (r, b)`. Gives the parts of the
/// distances, `[1, 4, n]` each, and what each is measured in.
fn distances(model: &TypedModel, rows: &[OutletId]) -> TractResult<Option<(Vec<OutletId>, Vec<Scale>)>> {
    let &[middle, size] = rows else { return Ok(None) };
    let found = || -> Option<(OutletId, Arc<Tensor>)> {
        let [near, far] = operands::<Add>(model, size)?;
        let (source, behind) = (half(model, near, 0)?, half(model, far, 2)?);
        let (centres, offset) = with_constant::<Add>(model, middle)?;
        let (factor, difference) = with_constant::<Mul>(model, offset)?;
        let same = operands::<Sub>(model, difference)? == [far, near];
        (source == behind && same && uniform(&factor)? == 0.5).then_some((source, centres))
    };
    let Some((source, centres)) = found() else { return Ok(None) };
    let places = model.outlet_fact(source)?.shape[2].to_usize()?;
    let Some(values) = floats(&centres).filter(|_| centres.shape() == [1, 2, places]) else { return Ok(None) };
    let (x, y) = values.split_at(places);
    let mut centres = x.iter().zip(y).map(|(x, y)| [*x, *y]);
    let parts = concatenated(model, source, 2).map_or_else(|| vec![source], <[OutletId]>::to_vec);
    let mut scales = Vec::with_capacity(parts.len());
    let mut outlets = Vec::with_capacity(parts.len());
    for part in parts {
        let scaled = with_constant::<Mul>(model, part).and_then(|(by, other)| Some((uniform(&by)?, other)));
        let (stride, outlet) = scaled.unwrap_or((1.0, part));
        let columns = model.outlet_fact(part)?.shape[2].to_usize()?;
        // A broadcast may have made the columns.
        if model.outlet_fact(outlet)?.shape != model.outlet_fact(part)?.shape {
            return Ok(None);
        }
        scales.push(Scale { stride, centres: centres.by_ref().take(columns).collect() });
        outlets.push(outlet);
    }
    Ok(Some((outlets, scales)))
}

fn operands<O: BinMiniOp>(model: &TypedModel, outlet: OutletId) -> Option<[OutletId; 2]> {
    let node = model.node(outlet.node);
    let TypedBinOp(op, None) = node.op_as::<TypedBinOp>()? else { return None };
    op.is::<O>().then_some(())?;
    node.inputs[..].try_into().ok()
}

/// The constant operand, and the other one.
fn with_constant<O: BinMiniOp>(model: &TypedModel, outlet: OutletId) -> Option<(Arc<Tensor>, OutletId)> {
    let [a, b] = operands::<O>(model, outlet)?;
    let constant = |outlet: OutletId| model.outlet_fact(outlet).ok()?.konst.clone();
    constant(a).map(|value| (value, b)).or_else(|| constant(b).map(|value| (value, a)))
}

/// What `outlet` is two rows of, from row `start` on, if that has four.
fn half(model: &TypedModel, outlet: OutletId, start: usize) -> Option<OutletId> {
    let node = model.node(outlet.node);
    let slice = node.op_as::<Slice>()?;
    let rows = [slice.start.to_usize().ok()?, slice.end.to_usize().ok()?];
    let of_four = model.outlet_fact(node.inputs[0]).ok()?.shape[1].to_usize().ok()? == 4;
    (slice.axis == 1 && rows == [start, start + 2] && of_four).then(|| node.inputs[0])
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
        let parts = take_apart(&mut model)?;
        assert_eq!(parts, Some(Parts { scores: Scores::Logits, boxes: Boxes::CentreSize, pixels: false }));
        let shape = |outlet: &OutletId| {
            model.outlet_fact(*outlet).map(|fact| fact.shape.as_concrete().map(<[usize]>::to_vec))
        };
        let shapes = model.outputs.iter().map(shape).collect::<TractResult<Vec<_>>>()?;
        assert_eq!(shapes, [[1, 4, 7], [1, 3, 5], [1, 3, 2]].map(|shape| Some(shape.to_vec())));
        assert!(model.nodes().iter().all(|node| !node.op_is::<ElementWiseOp>()));
        Ok(())
    }

    /// Two scales of two and one places, four distances each, as the exporter writes them; `half` is a half there.
    fn by_distance(half: f32) -> TractResult<TypedModel> {
        use tract_core::ops::math::{add, mul, sub};
        let mut model = TypedModel::default();
        let mut distances = tvec!();
        let mut scores = tvec!();
        for (name, stride, width) in [("fine", 8f32, 2), ("coarse", 16.0, 1)] {
            let mut flat = |name: String, rows: usize| -> TractResult<OutletId> {
                let map = model.add_source(format!("{name}.map"), f32::fact([1, rows, 1, width]))?;
                let op = AxisOp::Reshape(2, tvec!(1.to_dim(), width.to_dim()), tvec!(width.to_dim()));
                Ok(model.wire_node(name, op, &[map])?[0])
            };
            let sides = flat(format!("{name}.sides"), 4)?;
            scores.push(flat(format!("{name}.scores"), 3)?);
            let stride = model.add_const(format!("{name}.stride"), Tensor::from_shape(&[1, 1, 1], &[stride])?)?;
            distances.push(model.wire_node(format!("{name}.px"), mul(), &[sides, stride])?[0]);
        }
        let distances = model.wire_node("distances", TypedConcat::new(2), &distances)?[0];
        let near = model.wire_node("near", Slice::new(1, 0, 2), &[distances])?[0];
        let far = model.wire_node("far", Slice::new(1, 2, 4), &[distances])?[0];
        let difference = model.wire_node("difference", sub(), &[far, near])?[0];
        let half = model.add_const("half", Tensor::from_shape(&[1, 1, 1], &[half])?)?;
        let offset = model.wire_node("offset", mul(), &[difference, half])?[0];
        let centres = Tensor::from_shape(&[1, 2, 3], &[4f32, 12.0, 8.0, 5.0, 6.0, 7.0])?;
        let centres = model.add_const("centres", centres)?;
        let middle = model.wire_node("middle", add(), &[centres, offset])?[0];
        let size = model.wire_node("size", add(), &[near, far])?[0];
        let scores = model.wire_node("scores", TypedConcat::new(2), &scores)?[0];
        let answer = model.wire_node("answer", TypedConcat::new(1), &[middle, size, scores])?;
        model.select_output_outlets(&answer)?;
        Ok(model)
    }

    #[test]
    fn distances_from_the_centres_of_cells_are_left_to_the_decoder() -> TractResult<()> {
        let mut model = by_distance(0.5)?;
        let scales = [
            Scale { stride: 8.0, centres: vec![[4.0, 5.0], [12.0, 6.0]] },
            Scale { stride: 16.0, centres: vec![[8.0, 7.0]] },
        ];
        let boxes = Boxes::Distances(scales.to_vec().into());
        assert_eq!(take_apart(&mut model)?, Some(Parts { scores: Scores::Probabilities, boxes, pixels: false }));
        let names = model.outputs.iter().map(|outlet| model.node(outlet.node).name.as_str());
        let expected = ["fine.sides.map", "coarse.sides.map", "fine.scores.map", "coarse.scores.map"];
        assert_eq!(names.collect::<Vec<_>>(), expected);

        // Nearly the same is not the same.
        let mut other = by_distance(0.25)?;
        assert_eq!(take_apart(&mut other)?.map(|parts| parts.boxes), Some(Boxes::CentreSize));
        Ok(())
    }

    #[test]
    fn probabilities_that_someone_else_made_stay() -> TractResult<()> {
        let mut model = class_rows(&[4], |_, logits| Ok(logits))?;
        assert_eq!(take_apart(&mut model)?.map(|parts| parts.scores), Some(Scores::Probabilities));
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
