//! The engine inside a graph of tract's.

use std::collections::BTreeSet;

use tract_core::internal::{TypedModelPatch, TypedOp};
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;
use tract_core::prelude::*;

use super::plan::Plan;
use super::region::RegionOp;
use super::simd::Isa;
use super::{fuse, read};

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

pub(super) fn optimize_for(mut model: TypedModel, isa: Isa) -> TractResult<TypedModel> {
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
        let mut outlets = 0..model.node(id).outputs.len();
        let for_nobody_else = |slot: usize| {
            let outlet = OutletId::new(id, slot);
            model.outputs.contains(&outlet) && model.outlet_successors(outlet).is_empty()
        };
        model.node(id).op_is::<RegionOp>() && outlets.all(for_nobody_else)
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
