//! Why it is fast: a pass over tract's graph that puts the engine's fused operators in.
//!
//! Detectors are convolutions with little around them. [`optimize`] finds the parts of a graph that consist of
//! operators it knows ([`read`]), rewrites them ([`fuse`]) so that biases, activations and requantisation happen before
//! a result leaves its registers, plans memory and layout ([`plan`]), and leaves one operator in place of each part
//! ([`region`]). Inside, images are pixels by channels; they are turned once where a region begins and once where it
//! ends. The arithmetic is in [`simd`].
//!
//! Whatever it does not know stays tract's: any graph runs, those it knows run faster.

mod fuse;
mod net;
mod plan;
#[cfg(feature = "profile")]
pub(crate) mod profile;
mod read;
mod region;
mod simd;

use std::collections::BTreeSet;

use tract_core::internal::{TypedModelPatch, TypedOp};
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;
use tract_core::prelude::*;

use plan::Plan;
use region::RegionOp;
use simd::Isa;

/// Replaces what the engine can run in a graph as it comes from a file, typed but not yet decluttered.
///
/// # Errors
///
/// Those of tract if the graph is not consistent.
pub(crate) fn optimize(model: TypedModel) -> TractResult<TypedModel> {
    optimize_for(model, Isa::best())
}

/// What [`optimize`] makes of a graph for each instruction set of this machine, with its name.
#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
pub(crate) fn optimize_for_all(model: &TypedModel) -> TractResult<Vec<(&'static str, TypedModel)>> {
    Isa::supported().into_iter().map(|isa| Ok((isa.name(), optimize_for(model.clone(), isa)?))).collect()
}

fn optimize_for(mut model: TypedModel, isa: Isa) -> TractResult<TypedModel> {
    // A patch renumbers the graph, so the remaining regions are looked for again after each.
    for number in 0.. {
        let Some(mut region) = read::regions(&model)?.into_iter().next() else { break };
        fuse::fuse(&mut region.net);
        let op = RegionOp::new(Plan::new(&region.net, isa));
        let mut patch = TypedModelPatch::new("micro-yolo engine");
        let inputs = patch.taps(&model, &region.inputs)?;
        let outputs = patch.wire_node(format!("engine.{number}"), op, &inputs)?;
        for (outlet, by) in region.outputs.iter().zip(outputs) {
            patch.shunt_outside(&model, *outlet, by)?;
        }
        patch.apply(&mut model)?;
        model.compact()?;
    }
    Ok(model)
}

/// If all outputs of the graph come straight from regions, makes them pixels by channels, `[1, height, width, channels]`,
/// as they are inside: who reads them is spared the turning. Says whether.
///
/// # Errors
///
/// Those of tract if the graph is not consistent.
pub(crate) fn answer_in_pixels(model: &mut TypedModel) -> TractResult<bool> {
    let regions: BTreeSet<usize> = model.outputs.iter().map(|outlet| outlet.node).collect();
    let straight = regions.iter().all(|&id| {
        let outlets = 0..model.node(id).outputs.len();
        let for_nobody_else = |slot: usize| {
            let outlet = OutletId::new(id, slot);
            model.outputs.contains(&outlet) && model.outlet_successors(outlet).is_empty()
        };
        model.node(id).op_is::<RegionOp>() && outlets.into_iter().all(for_nobody_else)
    });
    for &id in regions.iter().filter(|_| straight) {
        let Some(op) = model.node(id).op_as::<RegionOp>().map(RegionOp::in_pixels) else { continue };
        for (slot, fact) in op.output_facts(&[])?.into_iter().enumerate() {
            model.set_outlet_fact(OutletId::new(id, slot), fact)?;
        }
        model.node_mut(id).op = Box::new(op);
    }
    Ok(straight)
}

/// Whether what the engine left to tract only moves and combines a few numbers, so that simplifying it would take longer
/// than it saves.
pub(crate) fn left_little(model: &TypedModel) -> bool {
    model.nodes().iter().all(|node| {
        node.op_is::<RegionOp>() || node.op_is::<TypedSource>() || node.op_is::<Const>() || node.op_is::<AxisOp>()
    })
}

#[cfg(test)]
mod tests;
