//! The k greatest (or least) values and where they are.
//!
//! tract has this operator too, but it sorts by a comparison that NaN breaks, for which Rust's sort may panic, and a
//! network with damaged weights computes NaN.

use tract_core::internal::*;

use super::Node;

#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct TopK {
    axis: usize,
    k: usize,
    largest: bool,
}

impl Op for TopK {
    fn name(&self) -> StaticName {
        "TopK".into()
    }

    op_as_typed_op!();
}

impl EvalOp for TopK {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let shape = input.shape();
        ensure!(shape.get(self.axis).is_some_and(|side| *side >= self.k), "{} of {shape:?} cannot be had", self.k);
        let values = input.try_as_plain_ram()?;
        let values = values.as_slice::<f32>()?;
        let (side, inner) = (shape[self.axis], shape[self.axis + 1..].iter().product::<usize>());
        let outer: usize = shape[..self.axis].iter().product();

        let mut best = vec![0f32; outer * self.k * inner];
        let mut positions = vec![0i64; best.len()];
        let mut order: Vec<(f32, usize)> = Vec::with_capacity(side);
        for outer in 0..outer {
            for inner_at in 0..inner {
                let line = (0..side).map(|at| (values[(outer * side + at) * inner + inner_at], at));
                order.clear();
                order.extend(line);
                order.sort_unstable_by(|a, b| {
                    let by_value = if self.largest { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) };
                    by_value.then(a.1.cmp(&b.1))
                });
                for (rank, (value, at)) in order[..self.k].iter().enumerate() {
                    let place = (outer * self.k + rank) * inner + inner_at;
                    best[place] = *value;
                    positions[place] = *at as i64;
                }
            }
        }
        let mut shape: TVec<usize> = shape.into();
        shape[self.axis] = self.k;
        Ok(tvec!(
            Tensor::from_shape(&shape, &best)?.into_tvalue(),
            Tensor::from_shape(&shape, &positions)?.into_tvalue()
        ))
    }
}

impl TypedOp for TopK {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.clone();
        shape.set(self.axis, self.k.to_dim());
        Ok(tvec!(f32::fact(shape.clone()), i64::fact(shape)))
    }

    as_op!();
}

pub(super) fn top_k(node: &mut Node<'_>) -> TractResult<TVec<OutletId>> {
    let (x, k) = (node.input(0)?, node.input(1)?);
    node.expect_f32(x)?;
    let shape = node.shape(x)?;
    let axis = node.axis(node.int("axis", -1)?, shape.len())?;
    let k = node.constant_ints(k, "k")?;
    let &[k] = &k[..] else { bail!("k must be one number") };
    ensure!((0..=shape[axis] as i64).contains(&k), "{k} of {} cannot be had", shape[axis]);
    let largest = node.flag("largest", true)?;
    node.wire(TopK { axis, k: k as usize, largest }, &[x])
}
