//! A network ready to run, on the engine alone or on tract with the engine in it, and its running.

#[cfg(feature = "tract")]
use std::sync::Arc;

#[cfg(feature = "tract")]
use tract_core::prelude::*;

use super::InputSize;
use crate::engine;
use crate::error::Result;
#[cfg(feature = "tract")]
use crate::error::{Error, Kind};

/// What a [`Model`](super::Model) runs. Clones share the weights.
#[derive(Clone)]
pub(super) enum Network {
    Engine(engine::Network),
    #[cfg(feature = "tract")]
    Tract(Arc<TypedRunnableModel>),
}

impl Network {
    /// What one caller needs to run it, on as many threads if the engine runs it by itself.
    ///
    /// # Errors
    ///
    /// Those of tract.
    pub fn session(&self, input: InputSize, threads: usize) -> Result<Session> {
        let shape = [1, 3, input.height as usize, input.width as usize];
        match self {
            Network::Engine(network) => {
                let memory = engine::Memory::new(threads);
                Ok(Session::Engine { network: network.clone(), memory, input: vec![0.0; shape.iter().product()] })
            }
            #[cfg(feature = "tract")]
            Network::Tract(plan) => {
                let failed = |error: TractError| {
                    Error::new(Kind::UnsupportedModel, "the network could not be made ready to run")
                        .with_source(error.into_boxed_dyn_error())
                };
                let state = plan.spawn().map_err(failed)?;
                let input = Arc::new(Tensor::zero::<f32>(&shape).map_err(failed)?);
                Ok(Session::Tract { state, input, outputs: TVec::new() })
            }
        }
    }
}

/// A running network with the buffers of one caller.
#[derive(Debug)]
pub(crate) enum Session {
    Engine {
        network: engine::Network,
        memory: engine::Memory,
        input: Vec<f32>,
    },
    #[cfg(feature = "tract")]
    Tract {
        state: TypedSimpleState,
        input: Arc<Tensor>,
        outputs: TVec<TValue>,
    },
}

impl Session {
    /// The picture to look at, `[1, 3, H, W]`, RGB, 0 to 1; the same memory each time.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn input(&mut self) -> Result<&mut [f32]> {
        match self {
            Session::Engine { input, .. } => Ok(input),
            #[cfg(feature = "tract")]
            Session::Tract { input, .. } => {
                let view = Arc::make_mut(input)
                    .to_plain_array_view_mut::<f32>()
                    .map_err(|error| failed("the input is not float32", error))?;
                view.into_slice().ok_or_else(|| Error::new(Kind::Inference, "the input is not in one piece"))
            }
        }
    }

    /// Threads that compute, the caller's own included.
    pub fn threads(&self) -> usize {
        match self {
            Session::Engine { memory, .. } => memory.threads(),
            #[cfg(feature = "tract")]
            Session::Tract { .. } => 1,
        }
    }

    /// Runs the network on [`input`](Session::input); gives what [`Layout`](crate::decode::Layout) says.
    ///
    /// # Errors
    ///
    /// `inference-failed` if it does not come to its end.
    pub fn run(&mut self) -> Result<Vec<&[f32]>> {
        super::contain_panics(|| match self {
            Session::Engine { network, memory, input } => Ok(network.run(memory, input)),
            #[cfg(feature = "tract")]
            Session::Tract { state, input, outputs } => {
                *outputs = state
                    .run(tvec!(input.clone().into_tvalue()))
                    .map_err(|error| failed("the network failed while running", error))?;
                outputs.iter().map(values).collect()
            }
        })
    }
}

/// The values of an output.
#[cfg(feature = "tract")]
fn values(output: &TValue) -> Result<&[f32]> {
    let values = output.try_as_plain_ram().and_then(|output| output.as_slice::<f32>());
    values.map_err(|error| failed("the output is not float32", error))
}

#[cfg(feature = "tract")]
fn failed(what: &str, error: TractError) -> Error {
    Error::new(Kind::Inference, what).with_source(error.into_boxed_dyn_error())
}
