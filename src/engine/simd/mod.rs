//! The instruction sets: one trait, its forms, and the kernels written against it.
//!
//! All `unsafe` of the engine lives under this module. The kernels ([`gemm`], [`depthwise`], [`pool`]) are written
//! once, generic over [`operations::Simd`]; each form of the trait says how its instruction set does the few operations they
//! need. What a kernel offers to the rest of the engine is a safe function that checks every index it will touch
//! before the first load, so that no size, however odd, can reach memory that is not its own.
//!
//! `core::arch` rather than a portable crate: the int8 dot product, the heart of half the engine, is in no portable
//! layer, and its operand order decides how weights are packed.

mod activation;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod image;
mod isa;
pub(crate) mod layout;
mod operations;
#[cfg(feature = "profile")]
pub(crate) mod peak_throughput;
pub(crate) mod pool;
pub(crate) mod quantize;
pub(crate) mod resize;
mod thread_pool;
pub(crate) mod tile;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use activation::Activation;
pub(crate) use isa::Isa;
pub(crate) use quantize::{LARGEST_RESULT, Requantize};
pub(crate) use thread_pool::ThreadPool;
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use thread_pool::{help, round_address};
