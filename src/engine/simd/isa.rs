//! The choice of an instruction set for this machine.

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::neon::Neon;
use super::operations::Simd;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
use super::scalar::Scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::wasm::Wasm;
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// An instruction set that this machine supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    /// No explicit vector instructions: the reference for the tests of the others, and the fallback for other machines.
    /// A WebAssembly module with SIMD never uses it outside of tests and does not contain it, because a browser would
    /// compile it in addition.
    #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
    Scalar(Scalar),
    /// WebAssembly's 128-bit vectors, with fused multiply-add and int8 dot product where the crate's feature
    /// `relaxed-simd` is on.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm(Wasm),
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 512-bit vectors with the int8 dot product.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// 128-bit vectors with fused multiply-add.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon(Neon<false>),
    /// The same with the int8 dot product.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    NeonDot(Neon<true>),
}

/// Work that is generic over the instruction set.
pub(crate) trait Task {
    /// The result.
    type Output;
    /// Runs the work. It is inlined into a function that enables the instruction set.
    fn run<S: Simd>(self, isa: S) -> Self::Output;
}

impl Isa {
    /// All instruction sets that this machine supports, the best one first.
    pub(crate) fn supported() -> Vec<Isa> {
        let mut supported = Vec::new();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        supported.push(Isa::Wasm(Wasm::new()));
        #[cfg(target_arch = "x86_64")]
        {
            supported.extend(Avx512::new().map(Isa::Avx512));
            supported.extend(Avx2::new().map(Isa::Avx2));
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        {
            supported.extend(Neon::<true>::new().map(Isa::NeonDot));
            supported.push(Isa::Neon(Neon::<false>::new()));
        }
        #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
        supported.push(Isa::Scalar(Scalar));
        supported
    }

    /// The fastest instruction set that this machine supports.
    pub(crate) fn best() -> Isa {
        Isa::supported()[0]
    }

    /// A name for the messages of tests.
    #[cfg(test)]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Scalar(_) => "scalar",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm(_) if cfg!(feature = "relaxed-simd") => "wasm-relaxed",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm(_) => "wasm-simd128",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::Neon(_) => "neon",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::NeonDot(_) => "neon-dot",
        }
    }

    /// Runs `task` with this instruction set.
    pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
        match self {
            #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
            Isa::Scalar(isa) => run(isa, task),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm(isa) => run(isa, task),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) => run(isa, task),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) => run(isa, task),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::Neon(isa) => run(isa, task),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::NeonDot(isa) => run(isa, task),
        }
    }

    /// [`Simd::PANEL`] of this instruction set.
    pub(crate) fn panel(self) -> usize {
        struct Panel;
        impl Task for Panel {
            type Output = usize;
            fn run<S: Simd>(self, _: S) -> usize {
                S::PANEL
            }
        }
        self.run(Panel)
    }

    /// [`Simd::LANES`] of this instruction set.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl Task for Lanes {
            type Output = usize;
            fn run<S: Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }
}

#[inline(always)]
fn run<S: Simd, T: Task>(isa: S, task: T) -> T::Output {
    isa.vectorize(
        #[inline(always)]
        move || task.run(isa),
    )
}
