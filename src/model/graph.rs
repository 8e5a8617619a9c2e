//! Networks that need tract: from a checked file to a plan. Shapes are inferred, the engine takes what it knows, the rest
//! is simplified.

use std::sync::Arc;

use tract_core::prelude::{DatumType, IntoRunnable, TractError, TractResult, TypedModel, TypedRunnableModel};

use super::{InputSize, answer, import, pb};
use crate::decode::{OutputForm, Parts};
use crate::engine;
use crate::error::{Error, Kind, Result};

/// A network as tract has it, its shape of answer known.
pub(super) struct Graph {
    model: TypedModel,
    /// Of the first output.
    pub shape: Vec<usize>,
}

impl Graph {
    /// Reads a graph that [`validate`](super::validate) has looked over.
    ///
    /// # Errors
    ///
    /// `unsupported-model` for a node that does not fit its inputs, and for an answer of no fixed shape.
    pub fn read(proto: &pb::ModelProto, input: InputSize) -> Result<Graph> {
        let model = import::import(proto, input)?;
        Ok(Graph { shape: output_shape(&model)?, model })
    }

    /// Makes it ready to run; says how class rows come in parts, if they do.
    ///
    /// # Errors
    ///
    /// Those of tract if the graph is not consistent.
    pub fn runnable(mut self, form: OutputForm) -> Result<(Arc<TypedRunnableModel>, Option<Parts>)> {
        let mut parts = match form {
            // A build on tract alone runs what the file says.
            OutputForm::ClassRows if !cfg!(feature = "stock") => answer::take_apart(&mut self.model)
                .map_err(|error| failed("the end of the network cannot be changed", error))?,
            _ => None,
        };
        Ok((runnable(self.model, parts.as_mut())?, parts))
    }
}

/// The shape of the first output, which must be `f32` and known in full.
fn output_shape(model: &TypedModel) -> Result<Vec<usize>> {
    let fact = model.output_fact(0).map_err(|error| failed("the network has no output", error))?;
    let Some(shape) = fact.shape.as_concrete() else {
        let message = format!(
            "the output is [{}]; its shape must not depend on what is in the image",
            fact.shape.iter().map(|dim| dim.to_string()).collect::<Vec<_>>().join(", ")
        );
        return Err(Error::new(Kind::UnsupportedModel, message));
    };
    if fact.datum_type != DatumType::F32 {
        let message = format!("the output is {:?}; expected float32", fact.datum_type);
        return Err(Error::new(Kind::UnsupportedModel, message));
    }
    Ok(shape.to_vec())
}

/// Simplifies the graph, chooses operators and fixes their order. An answer in parts may come out place by place.
fn runnable(model: TypedModel, answer: Option<&mut Parts>) -> Result<Arc<TypedRunnableModel>> {
    let failed = |error| failed("the network cannot be made ready to run", error);
    if cfg!(feature = "stock") {
        return simplified(model).and_then(TypedModel::into_runnable).map_err(failed);
    }
    let mut model = engine::optimize(model).map_err(failed)?;
    if let Some(answer) = answer {
        answer.pixels = engine::answer_in_pixels(&mut model).map_err(failed)?;
    }
    // tract's own passes take as long as all else that loading does, and find nothing where the engine took it all.
    let model = if engine::left_little(&model) { model } else { simplified(model).map_err(failed)? };
    model.into_runnable().map_err(failed)
}

fn simplified(model: TypedModel) -> TractResult<TypedModel> {
    model.into_decluttered()?.into_optimized()
}

fn failed(what: &str, error: TractError) -> Error {
    Error::new(Kind::UnsupportedModel, what).with_source(error.into_boxed_dyn_error())
}
