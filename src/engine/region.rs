//! A planned region as one operator of tract's graph.

use std::sync::Mutex;

use tract_core::internal::*;

use super::plan::{Arena, Plan};

/// Runs a region of the graph: images of floats in, images of floats out.
///
/// Clones share the plan and its weights. The memory of a run is kept for the next one; runs at the same time, from
/// several threads, each have their own.
#[derive(Debug, Clone)]
pub(super) struct RegionOp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    arenas: Mutex<Vec<Arena>>,
}

impl RegionOp {
    pub(super) fn new(plan: Plan) -> RegionOp {
        RegionOp { shared: Arc::new(Shared { plan, arenas: Mutex::default() }) }
    }

    fn with_arena<R>(&self, f: impl FnOnce(&Plan, &mut Arena) -> R) -> R {
        // A panic elsewhere leaves nothing half done in a list of arenas.
        let lock = || self.shared.arenas.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut arena = lock().pop().unwrap_or_default();
        let result = f(&self.shared.plan, &mut arena);
        lock().push(arena);
        result
    }
}

fn slices(inputs: &[TValue]) -> TractResult<Vec<&[f32]>> {
    inputs.iter().map(|input| input.as_plain_ram().context("not in plain memory")?.as_slice::<f32>()).collect()
}

impl PartialEq for RegionOp {
    fn eq(&self, other: &RegionOp) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for RegionOp {}

impl Op for RegionOp {
    fn name(&self) -> StaticName {
        "MicroYoloRegion".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for RegionOp {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let slices = slices(&inputs)?;
        let mut outputs = TVec::new();
        self.with_arena(|plan, arena| {
            let shapes: Vec<_> = plan.output_shapes().collect();
            let mut result = Ok(());
            plan.run(arena, &slices, |number, write| {
                let tensor = Tensor::zero::<f32>(&shapes[number]).and_then(|mut tensor| {
                    write(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
                    Ok(tensor)
                });
                match tensor {
                    Ok(tensor) => outputs.push(tensor.into_tvalue()),
                    Err(error) => result = Err(error),
                }
            });
            result
        })?;
        Ok(outputs)
    }
}

impl TypedOp for RegionOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.shared.plan.output_shapes().map(f32::fact).collect())
    }

    as_op!();
}
