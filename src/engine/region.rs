//! A planned region as one operator of tract's graph.

use std::sync::Mutex;

use tract_core::internal::*;

use super::net::Shape;
use super::plan::{Arena, Output, Plan};

/// Runs a region of the graph: images of floats in, images of floats out.
///
/// Clones share the plan and its weights. The memory of a run is kept for the next one; runs at the same time, from
/// several threads, each have their own.
#[derive(Debug, Clone)]
pub(super) struct RegionOp {
    shared: Arc<Shared>,
    /// Whether it gives pixels by channels instead of planes.
    in_pixels: bool,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    arenas: Mutex<Vec<Arena>>,
}

impl RegionOp {
    pub(super) fn new(plan: Plan) -> RegionOp {
        RegionOp { shared: Arc::new(Shared { plan, arenas: Mutex::default() }), in_pixels: false }
    }

    /// The same region with its results as pixels, `[1, height, width, channels]`, instead of planes.
    pub(super) fn in_pixels(&self) -> RegionOp {
        RegionOp { shared: self.shared.clone(), in_pixels: true }
    }

    fn tensor(&self, output: &Output<'_>) -> TractResult<Tensor> {
        let shape = shape_of(output.shape(), self.in_pixels);
        if self.in_pixels
            && let Some(pixels) = output.pixels()
        {
            return Tensor::from_shape(&shape, pixels);
        }
        let mut tensor = Tensor::zero::<f32>(&shape)?;
        output.write(self.in_pixels, tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(tensor)
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

fn shape_of(shape: Shape, in_pixels: bool) -> [usize; 4] {
    let Shape { height, width, channels } = shape;
    if in_pixels { [1, height, width, channels] } else { [1, channels, height, width] }
}

fn slices(inputs: &[TValue]) -> TractResult<Vec<&[f32]>> {
    inputs.iter().map(|input| input.as_plain_ram().context("not in plain memory")?.as_slice::<f32>()).collect()
}

impl PartialEq for RegionOp {
    fn eq(&self, other: &RegionOp) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.in_pixels == other.in_pixels
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
            let mut result = Ok(());
            plan.run(arena, &slices, |output| match self.tensor(&output) {
                Ok(tensor) => outputs.push(tensor.into_tvalue()),
                Err(error) => result = Err(error),
            });
            result
        })?;
        Ok(outputs)
    }
}

impl TypedOp for RegionOp {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes = self.shared.plan.output_shapes();
        Ok(shapes.map(|shape| f32::fact(shape_of(shape, self.in_pixels))).collect())
    }

    as_op!();
}
