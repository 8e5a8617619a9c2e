//! A network that is ready to run, on the engine alone or on the engine and tract, and a session that runs it.

use crate::engine;
use crate::error::{Kind, Result};
use crate::size::InputSize;
#[cfg(feature = "tract")]
use crate::tract;

/// What a [`Model`](super::Model) runs. Clones share the weights.
#[derive(Clone)]
pub(super) enum Network {
    Engine(engine::Network),
    #[cfg(feature = "tract")]
    Divided(tract::Network),
}

impl Network {
    /// Creates what one caller needs to run the network. The number of threads counts only if the engine runs it alone.
    ///
    /// # Errors
    ///
    /// Those of tract.
    pub fn session(&self, input: InputSize, threads: usize) -> Result<Session> {
        match self {
            Network::Engine(network) => {
                let numbers = 3 * input.height as usize * input.width as usize;
                let memory = engine::Memory::new(threads);
                Ok(Session::Engine { network: network.clone(), memory, input: vec![0.0; numbers] })
            }
            #[cfg(feature = "tract")]
            Network::Divided(network) => network.session().map(Session::Divided),
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
    Divided(tract::Session),
}

impl Session {
    /// The input image, `[1, 3, H, W]`, RGB, 0 to 1, in the same memory for each call.
    ///
    /// # Errors
    ///
    /// `inference-failed` if tract changed the form of the input tensor.
    pub fn input(&mut self) -> Result<&mut [f32]> {
        match self {
            Session::Engine { input, .. } => Ok(input),
            #[cfg(feature = "tract")]
            Session::Divided(session) => session.input(),
        }
    }

    /// Threads that compute, the caller's own included.
    pub fn threads(&self) -> usize {
        match self {
            Session::Engine { memory, .. } => memory.threads(),
            #[cfg(feature = "tract")]
            Session::Divided(_) => 1,
        }
    }

    /// Runs the network on [`input`](Session::input). The outputs are as [`Layout`](crate::layout::Layout) describes.
    ///
    /// # Errors
    ///
    /// `inference-failed` if the network fails while it runs.
    pub fn run(&mut self) -> Result<Vec<&[f32]>> {
        super::contain_panics(Kind::Inference, || match self {
            Session::Engine { network, memory, input } => Ok(network.run(memory, input)),
            #[cfg(feature = "tract")]
            Session::Divided(session) => Ok(vec![session.run()?]),
        })
    }
}
