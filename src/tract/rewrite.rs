//! Writes nodes in forms that tract computes as ONNX defines them.
//!
//! For some forms tract panics, loses the shape, or refuses the node. Each has another form with the same result; it
//! may have constants in place of inputs. What has no other form is refused in [`check`](super::check).

use super::check::{Known, distinct, from_front};
use crate::onnx::attributes::Attributes;
use crate::onnx::messages::{AttributeProto, AttributeType, DataType, NodeProto, TensorProto};

/// The operators that [`rewritten`] reads.
const OPERATORS: [&str; 8] = ["Squeeze", "Pad", "Range", "Slice", "GatherND", "ScatterND", "CumSum", "Trilu"];

/// The most values of a range of floats.
const MAX_RANGE: f64 = 65_536.0;

/// The longest axis along which a slice by steps is gathered.
const MAX_SIDE: i64 = 1 << 20;

/// A node in another form, and the constants that it reads, by number of the input.
pub(super) struct Rewritten {
    pub node: NodeProto,
    pub constants: Vec<(usize, TensorProto)>,
}

/// The other form of a node; `None` if tract computes it as it is.
pub(super) fn rewritten(node: &NodeProto, opset: i64, inputs: &[Option<Known>]) -> Option<Rewritten> {
    if !OPERATORS.contains(&node.op_type.as_str()) {
        return None;
    }
    let mut new = Rewritten { node: node.clone(), constants: Vec::new() };
    let known = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let ints = |index: usize| known(index).and_then(|known| known.ints.as_deref());
    let sides = known(0).and_then(|known| known.sides.as_deref());
    let rank = sides.map_or(0, |sides| sides.len() as i64);
    match node.op_type.as_str() {
        // tract removes the axes from the last to the first of the list, so it must be sorted.
        "Squeeze" => {
            let sides = sides?;
            if opset >= 13 {
                new.replace(1, list(distinct(ints(1)?, rank)));
            } else if Attributes(node).has("axes") {
                new.set("axes", distinct(Attributes(node).ints("axes")?, rank));
            } else {
                let axes = sides.iter().enumerate().filter(|(_, side)| **side == Some(1));
                new.set("axes", axes.map(|(axis, _)| axis as i64).collect());
            }
        }
        // tract does not infer the other sides of a tensor padded along some axes.
        "Pad" if opset >= 11 => {
            if let (Some(axes), Some(pads), Some(sides)) = (ints(3), ints(1), sides) {
                let front = axes.iter().map(|axis| from_front(*axis, rank));
                let mut all = vec![0; 2 * sides.len()];
                for (number, axis) in front.enumerate() {
                    let at = usize::try_from(axis).ok().filter(|at| *at < sides.len())?;
                    all[at] = *pads.get(number)?;
                    all[at + sides.len()] = *pads.get(number + axes.len())?;
                }
                if pads.len() != 2 * axes.len() || distinct(axes, rank).len() != axes.len() {
                    return None;
                }
                new.replace(1, list(all));
                new.node.input.truncate(if known(2).is_some() { 3 } else { 2 });
            }
            if let Some([value]) = known(2).and_then(|value| value.floats.as_deref()) {
                new.replace(2, TensorProto { dims: Vec::new(), ..floats(vec![*value]) });
            }
        }
        // tract rounds a step of floats down to an integer when it infers the length.
        "Range" => {
            let number = |index: usize| match known(index)?.floats.as_deref()? {
                [number] => Some(f64::from(*number)),
                _ => None,
            };
            let (from, to, step) = (number(0)?, number(1)?, number(2)?);
            let count = Some(((to - from) / step).ceil()).filter(|count| step != 0.0 && *count <= MAX_RANGE)?;
            let numbers = (0..count.max(0.0) as u32).map(|place| (from + f64::from(place) * step) as f32);
            new.node.op_type = "Identity".to_owned();
            new.node.input.truncate(1);
            new.replace(0, floats(numbers.collect()));
        }
        // tract reads neither axes from the end nor ends before the first value.
        "Slice" if opset < 10 => {
            let get = |name: &str| Attributes(node).ints(name);
            let (starts, ends, sides) = (get("starts")?, get("ends")?, sides?);
            let axes = match get("axes")? {
                [] => (0..starts.len() as i64).collect(),
                axes => axes.iter().map(|axis| from_front(*axis, rank)).collect::<Vec<i64>>(),
            };
            let side = |axis: &i64| usize::try_from(*axis).ok().and_then(|axis| *sides.get(axis)?);
            let lengths = axes.iter().map(side).collect::<Option<Vec<usize>>>()?;
            if starts.len() != axes.len() || ends.len() != axes.len() {
                return None;
            }
            let place = |(at, side): (&i64, &usize)| from_front(*at, *side as i64).clamp(0, *side as i64);
            let starts: Vec<i64> = starts.iter().zip(&lengths).map(place).collect();
            let ends = ends.iter().zip(&lengths).map(place).zip(&starts).map(|(end, start)| end.max(*start));
            new.set("ends", ends.collect());
            new.set("starts", starts);
            new.set("axes", axes);
        }
        // tract counts constant indices from the front only.
        "GatherND" | "ScatterND" => {
            let (at, sides) = (ints(1).filter(|at| at.iter().any(|at| *at < 0))?, sides?);
            let shape = known(1)?.shape.as_deref()?;
            let batch = usize::try_from(Attributes(node).int("batch_dims", 0)?).ok()?;
            let count = *shape.last().filter(|count| **count > 0)?;
            let sides = sides.get(batch..batch.checked_add(count)?)?.iter().copied().collect::<Option<Vec<_>>>()?;
            let places =
                at.iter().zip(sides.iter().cycle()).map(|(at, side)| from_front(*at, *side as i64)).collect();
            let dims = shape.iter().map(|side| *side as i64).collect();
            new.replace(1, TensorProto { dims, ..list(places) });
        }
        // Other runtimes also read a list of one.
        "CumSum" | "Trilu" => {
            let &[number] = ints(1)? else { return None };
            new.replace(1, TensorProto { dims: Vec::new(), ..list(vec![number]) });
        }
        _ => return None,
    }
    Some(new)
}

impl Rewritten {
    /// Sets an attribute of integers.
    fn set(&mut self, name: &str, ints: Vec<i64>) {
        self.node.attribute.retain(|attribute| attribute.name != name);
        let r#type = AttributeType::Ints as i32;
        self.node.attribute.push(AttributeProto { name: name.to_owned(), ints, r#type, ..Default::default() });
    }

    /// Puts a constant in place of an input, named after the output of the node, whose name is unique.
    fn replace(&mut self, index: usize, constant: TensorProto) {
        let output = self.node.output.first().map_or("", String::as_str);
        let name = format!("{output} of {index}");
        self.node.input[index] = name.clone();
        self.constants.push((index, TensorProto { name, ..constant }));
    }
}

fn list(ints: Vec<i64>) -> TensorProto {
    let (dims, data_type) = (vec![ints.len() as i64], DataType::Int64 as i32);
    TensorProto { dims, data_type, int64_data: ints, ..Default::default() }
}

fn floats(floats: Vec<f32>) -> TensorProto {
    let (dims, data_type) = (vec![floats.len() as i64], DataType::Float as i32);
    TensorProto { dims, data_type, float_data: floats, ..Default::default() }
}

/// A slice by steps as nodes that gather along one axis each, after a slice of the other axes; and the constants that
/// they read. tract cannot run a slice by steps behind a change of shape. `None` for a node without steps, and if they
/// are not known.
pub(super) fn gathered(node: &NodeProto, inputs: &[Option<Known>]) -> Option<(Vec<NodeProto>, Vec<TensorProto>)> {
    if node.op_type != "Slice" {
        return None;
    }
    let known = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let ints = |index: usize| known(index).and_then(|known| known.ints.as_deref());
    let (starts, ends, steps) = (ints(1)?, ints(2)?, ints(4)?);
    let sides = known(0)?.sides.as_deref()?;
    let axes = ints(3).map_or_else(|| (0..starts.len() as i64).collect(), <[i64]>::to_vec);
    if steps.iter().all(|step| *step == 1) {
        return None;
    }
    let (mut nodes, mut constants, mut plain) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    let output = &node.output[0];
    let mut from = node.input[0].clone();
    let mut push = |mut new: NodeProto, lists: Vec<TensorProto>| {
        new.input = vec![from.clone()];
        for (number, list) in lists.into_iter().enumerate() {
            let name = format!("{output} at {} of {number}", nodes.len());
            new.input.push(name.clone());
            constants.push(TensorProto { name, ..list });
        }
        from = format!("{output} at {}", nodes.len());
        new.output = vec![from.clone()];
        nodes.push(new);
    };
    let mut gathers = Vec::new();
    for (((axis, step), start), end) in axes.iter().zip(steps).zip(starts).zip(ends) {
        let axis = from_front(*axis, sides.len() as i64);
        let side = usize::try_from(axis).ok().and_then(|axis| *sides.get(axis)?)? as i64;
        if *step == 1 {
            plain.iter_mut().zip([*start, *end, axis]).for_each(|(list, number)| list.push(number));
            continue;
        }
        if side > MAX_SIDE {
            return None;
        }
        let (lowest, highest) = if *step < 0 { (-1, side - 1) } else { (0, side) };
        let end = from_front(*end, side).clamp(lowest, highest);
        let start = from_front(*start, side).max(0).min(highest);
        let places = std::iter::successors(Some(start), |at| at.checked_add(*step));
        let places = places.take_while(|at| if *step < 0 { *at > end } else { *at < end }).collect();
        let r#type = AttributeType::Int as i32;
        let attribute = vec![AttributeProto { name: "axis".to_owned(), i: axis, r#type, ..Default::default() }];
        let gather = NodeProto { op_type: "Gather".to_owned(), attribute, ..Default::default() };
        gathers.push((gather, vec![list(places)]));
    }
    if !plain[0].is_empty() {
        push(NodeProto { op_type: "Slice".to_owned(), ..Default::default() }, plain.map(list).to_vec());
    }
    gathers.into_iter().for_each(|(gather, places)| push(gather, places));
    nodes.last_mut()?.output = vec![output.clone()];
    Some((nodes, constants))
}
