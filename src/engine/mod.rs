//! Why it is fast: fused operators for what detectors consist of, convolutions with little around them.
//!
//! A network that is nothing else is read from the file straight into the engine's own graph ([`direct`]); that of any
//! other is tract's, in which [`optimize`] finds the parts that consist of operators the engine knows ([`read`]) and
//! leaves one operator in place of each ([`region`]). Either way the small graph ([`net`]) is rewritten ([`fuse`]) so that
//! biases, activations and requantisation happen before a result leaves its registers, and its memory and layout are
//! planned ([`plan`]). Inside, images are pixels by channels; they are turned once where a region begins and once where
//! it ends. The arithmetic is in [`simd`].
//!
//! Whatever it does not know stays tract's: any graph runs, those it knows run faster.

mod direct;
mod fuse;
mod net;
mod plan;
#[cfg(feature = "profile")]
pub(crate) mod profile;
#[cfg(feature = "tract")]
mod read;
#[cfg(feature = "tract")]
mod region;
mod simd;
#[cfg(feature = "tract")]
mod within;

use std::sync::Arc;

use plan::{Arena, Plan};
#[cfg(feature = "tract")]
pub(crate) use read::{floats, uniform};
use simd::{Isa, ThreadPool};
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use simd::{help, round_address};
#[cfg(feature = "tract")]
#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
pub(crate) use within::optimize_for_all;
#[cfg(feature = "tract")]
pub(crate) use within::{answer_in_pixels, left_little, optimize};

use crate::decode::Parts;
use crate::model::InputSize;
use crate::model::head::Head;
use crate::model::pb::GraphProto;

/// A network that the engine runs by itself. Clones share its plan and weights.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Plan>);

/// What one caller runs a [`Network`] in; used again for the next picture.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    arena: Arena,
    outputs: Vec<Vec<f32>>,
}

impl Memory {
    /// Memory for a caller that `threads` compute for, its own thread included.
    pub(crate) fn new(threads: usize) -> Memory {
        Memory { arena: Arena::of(ThreadPool::new(threads)), outputs: Vec::new() }
    }

    /// Threads that compute, the caller's own included.
    pub(crate) fn threads(&self) -> usize {
        self.arena.pool().threads()
    }
}

impl Network {
    /// Reads a graph that has passed `validate`, if all of it is known, as far as to where its metadata says that its
    /// `head` begins, and its answer is class rows in parts: the network, the answer's shape in the file,
    /// `[1, 4 + C, N]`, and how the parts make it.
    pub(crate) fn read(
        graph: &GraphProto,
        opset: i64,
        input: InputSize,
        head: Option<&Head>,
    ) -> Option<(Network, [usize; 3], Parts)> {
        // A build on tract alone runs what the file says.
        if cfg!(feature = "stock") {
            return None;
        }
        let direct::Direct { mut net, shape, parts } = direct::read(graph, opset, input, head)?;
        fuse::fuse(&mut net);
        Some((Network(Arc::new(Plan::new(&net, Isa::best()))), shape, parts))
    }

    /// Runs it on `[1, 3, H, W]`; gives each output pixel by pixel.
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
                    let net::Shape { height, width, channels } = output.shape();
                    to.resize(height * width * channels, 0.0);
                    output.write(true, to);
                }
            }
        });
        outputs.iter().map(Vec::as_slice).collect()
    }
}

#[cfg(test)]
#[cfg(feature = "tract")]
mod tests;
