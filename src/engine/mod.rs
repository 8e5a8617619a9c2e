//! The engine: fused operators for convolutional detectors.
//!
//! A network is a graph of the engine's own operators ([`net`]). Fusion ([`fuse`]) applies biases, activations and
//! requantisation while results are still in registers. [`plan`] plans memory and layout. Feature maps are stored as
//! NHWC; the layout changes once at the input of a network and once at its output. The arithmetic is in [`simd`].
//!
//! The engine does not depend on files or another runtime: [`lower`](crate::lower) translates ONNX operators to its
//! own.

mod fuse;
pub(crate) mod net;
mod plan;
#[cfg(feature = "profile")]
pub(crate) mod profile;
#[cfg_attr(
    not(target_family = "wasm"),
    expect(unsafe_code, reason = "kernels check all indices before the first load")
)]
mod simd;

use std::sync::Arc;

use net::{Net, Shape};
use plan::{Arena, Plan};
use simd::ThreadPool;
pub(crate) use simd::pool::PoolWindow;
pub(crate) use simd::scale_row;
#[cfg(feature = "tract")]
pub(crate) use simd::softmax::softmax;
pub(crate) use simd::{Activation, Isa};
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use simd::{help, round_address};

/// A network that the engine runs alone. Clones share its plan and weights.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Plan>);

/// The memory in which one caller runs a [`Network`]. It is reused for the next picture.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    arena: Arena,
    outputs: Vec<Vec<f32>>,
}

impl Memory {
    /// Memory for a caller, and a pool of `threads` threads including the caller's own.
    pub(crate) fn new(threads: usize) -> Memory {
        Memory { arena: Arena::of(ThreadPool::new(threads)), outputs: Vec::new() }
    }

    /// The number of threads that compute, the caller's own included.
    pub(crate) fn threads(&self) -> usize {
        self.arena.pool().threads()
    }
}

impl Network {
    /// Fuses and plans a graph for the best instruction set of this machine.
    pub(crate) fn new(net: Net) -> Network {
        Network::on(net, Isa::best())
    }

    /// Fuses and plans a graph for an instruction set, which must be one of [`Isa::supported`].
    pub(crate) fn on(mut net: Net, isa: Isa) -> Network {
        fuse::fuse(&mut net);
        Network(Arc::new(Plan::new(&net, isa)))
    }

    /// Bytes of memory for one caller, independent of the number of threads.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes()
    }

    /// Runs the network on `[1, 3, H, W]` and returns each output pixel by pixel (NHWC).
    pub(crate) fn run<'a>(&self, memory: &'a mut Memory, input: &[f32]) -> Vec<&'a [f32]> {
        let Memory { arena, outputs } = memory;
        let mut number = 0;
        self.0.run(arena, &[input], |output| {
            if outputs.len() == number {
                outputs.push(Vec::new());
            }
            let to = &mut outputs[number];
            number += 1;
            match output.pixels() {
                Some(pixels) => {
                    to.clear();
                    to.extend_from_slice(pixels);
                }
                None => {
                    let Shape { height, width, channels } = output.shape();
                    to.resize(height * width * channels, 0.0);
                    output.write(true, to);
                }
            }
        });
        outputs.iter().map(Vec::as_slice).collect()
    }

    /// Runs the network on images stored in planes, `[channels, height, width]` each. For each output, `finish` gets
    /// the shape in the same order, and a function that writes it in planes.
    #[cfg(feature = "tract")]
    pub(crate) fn run_in_planes(
        &self,
        memory: &mut Memory,
        inputs: &[&[f32]],
        mut take: impl FnMut([usize; 3], &dyn Fn(&mut [f32])),
    ) {
        self.0.run(&mut memory.arena, inputs, |output| {
            let Shape { height, width, channels } = output.shape();
            take([channels, height, width], &|to| output.write(false, to));
        });
    }
}
