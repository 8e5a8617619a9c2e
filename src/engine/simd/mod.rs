//! Kernels, written once for all instruction sets.
//!
//! All `unsafe` of the engine is in this module. A kernel ([`gemm`], [`depthwise`], [`pool`]) is generic over the trait
//! [`Simd`](operations::Simd), which is implemented in one file per architecture. A value of such a type proves that
//! the processor supports its instructions, so arithmetic is safe. Loads, stores and functions that work on addresses
//! are `unsafe`. To the rest of the engine a kernel offers a safe function, which checks every index before the first
//! load, so that no size leads to an access out of bounds.
//!
//! The kernels use `core::arch` instead of a portable crate: no portable crate has the int8 dot product, and the order
//! of its operands decides how weights are packed.

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
pub(crate) mod scale_row;
#[cfg(any(test, feature = "tract"))]
pub(crate) mod softmax;
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
pub(crate) use thread_pool::{MAX_THREADS, ThreadPool};
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use thread_pool::{help, round_address};
