//! The instruction sets: one trait, its forms, and the kernels written against it.
//!
//! All `unsafe` of the engine lives under this module. The kernels ([`gemm`], [`depthwise`], [`pool`]) are written
//! once, generic over [`Simd`]; each form of the trait says how its instruction set does the few operations they
//! need. What a kernel offers to the rest of the engine is a safe function that checks every index it will touch
//! before the first load, so that no size, however odd, can reach memory that is not its own.
//!
//! `core::arch` rather than a portable crate: the int8 dot product, the heart of half the engine, is in no portable
//! layer, and its operand order decides how weights are packed.

pub(crate) mod bilinear;
pub(crate) mod depthwise;
pub(crate) mod gemm;
pub(crate) mod layout;
#[cfg(feature = "profile")]
pub(crate) mod peak;
pub(crate) mod pool;
mod team;
mod tile;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use team::Team;
#[cfg(all(target_family = "wasm", feature = "threads"))]
pub(crate) use team::{help, round_address};

/// Vectors of [`LANES`](Simd::LANES) floats or 32-bit integers, and of four times as many bytes.
///
/// # Safety
///
/// An implementation's operations are run inside [`Simd::vectorize`] only, and only where [`Isa::supported`] lists
/// it; they must compute what their comment says. Pointers given to them must be valid for the bytes that the
/// comment names; none needs to be aligned.
pub(crate) unsafe trait Simd: Copy + 'static {
    /// Floats in a vector: a multiple of 4.
    const LANES: usize;
    /// Most vectors in a row of a matrix tile: 2, in tiles of six pixels, or 5, in tiles of two pixels (four if there are
    /// but one or two vectors).
    const PANEL: usize;

    /// Floats.
    type F: Copy;
    /// 32-bit integers.
    type I: Copy;
    /// `4 * LANES` weights of the int8 product, ready to multiply.
    type W: Copy;
    /// Four activations, repeated in the form that [`Self::W`] wants.
    type A: Copy;
    /// Bytes, `4 * LANES` of them.
    type B: Copy;
    /// What storing bytes needs beside them.
    type Pack: Copy;

    /// Runs `f` with the instruction set switched on. `f` must be inlined into it, so kernels are
    /// `#[inline(always)]` from here to the leaves, and it is itself never inlined: each use is a function of its own.
    /// Kernels use it again for their inner parts, since a WebAssembly compiler gives registers carelessly in functions
    /// of ten thousand instructions.
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R;

    /// `LANES` floats at `p`.
    unsafe fn load(p: *const f32) -> Self::F;
    /// `LANES` floats to `p`.
    unsafe fn store(p: *mut f32, v: Self::F);
    /// The same float in every lane.
    unsafe fn splat(x: f32) -> Self::F;
    /// The float at `p` in every lane.
    unsafe fn load_splat(p: *const f32) -> Self::F;
    /// `a * b + c`, rounded once or twice.
    unsafe fn mul_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a + b`
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller, as `if a < b { a } else { b }`; which one a NaN gives is left open.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The larger, likewise.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The bits of floats as integers.
    unsafe fn bits(a: Self::F) -> Self::I;
    /// The bits of integers as floats.
    unsafe fn from_bits(a: Self::I) -> Self::F;

    /// `LANES` integers at `p`.
    unsafe fn load_i32(p: *const i32) -> Self::I;
    /// The same integer in every lane.
    unsafe fn splat_i32(x: i32) -> Self::I;
    /// `a + b`, wrapping.
    unsafe fn add_i32(a: Self::I, b: Self::I) -> Self::I;
    /// `a << 23`: an exponent into its place.
    unsafe fn shl23(a: Self::I) -> Self::I;
    /// Integers to floats, to nearest even.
    unsafe fn to_f32(a: Self::I) -> Self::F;

    /// `4 * LANES` weights at `p`, which [`Self::weight_index`] put there.
    unsafe fn load_weights(p: *const i8) -> Self::W;
    /// Where, in the `4 * LANES` bytes that [`load_weights`](Self::load_weights) reads, the weight of column `lane`
    /// for the `k`-th of four activations is.
    fn weight_index(lane: usize, k: usize) -> usize {
        lane * 4 + k
    }
    /// Four activations at `p`.
    unsafe fn load_activations(p: *const u8) -> Self::A;
    /// `acc[lane] + sum over k in 0..4 of w[lane, k] * a[k]`, exact for activations in `0..=127`.
    unsafe fn dot(acc: Self::I, w: Self::W, a: Self::A) -> Self::I;

    /// `2 * LANES` bytes at `p`, in the order that [`interleave`](Self::interleave) wants.
    unsafe fn load_half(p: *const u8) -> Self::B;
    /// Byte vectors of four taps, `2 * LANES` channels each, to two vectors in which a channel's four taps lie side
    /// by side. Lane `l` of vector `v` is channel [`Self::channel`].
    unsafe fn interleave(taps: [Self::B; 4]) -> [Self::B; 2];
    /// `4 * LANES` bytes at `p`, in the order of [`interleave`](Self::interleave)'s results.
    unsafe fn load_bytes(p: *const i8) -> Self::B;
    /// `4 * LANES` bytes to `p`, for [`load_bytes`](Self::load_bytes) to read.
    unsafe fn store_bytes(p: *mut u8, v: Self::B);
    /// `acc[lane] + sum over k in 0..4 of w[4 * lane + k] * a[4 * lane + k]`, exact for `a` in `0..=127`.
    unsafe fn dot_bytes(acc: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// Which of `2 * LANES` channels is in lane `lane` of vector `vector` after interleaving. The byte order of
    /// vectors wider than 128 bits is that of their 128-bit parts.
    fn channel(vector: usize, lane: usize) -> usize {
        lane / 4 * 8 + vector * 4 + lane % 4
    }
    /// Whether [`store_u8`](Self::store_u8) and [`store_channels`](Self::store_channels) take any integers and clamp
    /// them, as bytes or words cost less to clamp than floats.
    const STORE_CLAMPS: bool = false;
    /// What the stores need for results between these two bytes; to be made outside of loops.
    unsafe fn pack(low: u8, high: u8) -> Self::Pack;
    /// `2 * LANES` integers, between the bytes that `pack` was made for unless `STORE_CLAMPS`, as bytes to `p`, first
    /// vector first.
    unsafe fn store_u8(p: *mut u8, v: [Self::I; 2], pack: Self::Pack);
    /// The same for one vector: `LANES` bytes.
    #[inline(always)]
    unsafe fn store_u8_single(p: *mut u8, v: Self::I, pack: Self::Pack) {
        let mut pair = [0u8; 32];
        // SAFETY: no instruction set has more than 16 lanes, and the caller vouches for `LANES` bytes at `p`.
        unsafe {
            Self::store_u8(pair.as_mut_ptr(), [v, v], pack);
            core::ptr::copy_nonoverlapping(pair.as_ptr(), p, Self::LANES);
        }
    }
    /// The same as [`store_u8`](Self::store_u8), for vectors whose lanes are channels in the order of [`Self::channel`].
    unsafe fn store_channels(p: *mut u8, v: [Self::I; 2], pack: Self::Pack);
}

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    /// No vector instructions asked for: the twin that the others are tested against, and the form for machines
    /// that the others do not know. A WebAssembly module with vectors never runs it outside of tests, and does not have
    /// it inside: a browser would compile it together with the form that it chose.
    #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
    Scalar,
    /// WebAssembly's 128-bit vectors, with fused multiply-add and int8 dot product where the crate's feature
    /// `relaxed-simd` is on.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors with the int8 dot product.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 128-bit vectors with fused multiply-add.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
    /// The same with the int8 dot product.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    NeonDot,
}

/// Work that is generic over the instruction set.
pub(crate) trait Task {
    /// What it gives back.
    type Output;
    /// Does it. Inlined into a function that has the instruction set switched on.
    ///
    /// # Safety
    ///
    /// Run inside [`Simd::vectorize`] of the same `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

impl Isa {
    /// Every form that runs here, the best one first.
    pub(crate) fn supported() -> Vec<Isa> {
        let mut supported = Vec::new();
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        supported.push(Isa::Wasm);
        #[cfg(target_arch = "x86_64")]
        {
            if x86::Avx512::available() {
                supported.push(Isa::Avx512);
            }
            if x86::Avx2::available() {
                supported.push(Isa::Avx2);
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        {
            if neon::has_dot() {
                supported.push(Isa::NeonDot);
            }
            supported.push(Isa::Neon);
        }
        #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
        supported.push(Isa::Scalar);
        supported
    }

    /// The fastest form that runs here.
    pub(crate) fn best() -> Isa {
        Isa::supported()[0]
    }

    /// For the messages of tests.
    #[cfg(test)]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm if cfg!(feature = "relaxed-simd") => "wasm-relaxed",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Isa::Wasm => "wasm-simd128",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::Neon => "neon",
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Isa::NeonDot => "neon-dot",
        }
    }

    /// Runs `task` in this form.
    pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
        // SAFETY: an `Isa` other than `Scalar` comes only from `supported`, which looked for its instructions.
        unsafe {
            match self {
                #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
                Isa::Scalar => run::<scalar::Scalar, T>(task),
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                Isa::Wasm => run::<wasm::Wasm, T>(task),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => run::<x86::Avx2, T>(task),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => run::<x86::Avx512, T>(task),
                #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
                Isa::Neon => run::<neon::Neon<false>, T>(task),
                #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
                Isa::NeonDot => run::<neon::Neon<true>, T>(task),
            }
        }
    }

    /// [`Simd::PANEL`] of this form.
    pub(crate) fn panel(self) -> usize {
        struct Panel;
        impl Task for Panel {
            type Output = usize;
            unsafe fn run<S: Simd>(self) -> usize {
                S::PANEL
            }
        }
        self.run(Panel)
    }

    /// [`Simd::LANES`] of this form.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl Task for Lanes {
            type Output = usize;
            unsafe fn run<S: Simd>(self) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }
}

/// # Safety
///
/// The machine has the instructions of `S`.
#[inline(always)]
unsafe fn run<S: Simd, T: Task>(task: T) -> T::Output {
    // SAFETY: by this function's own condition; the closure runs inside `vectorize`.
    unsafe {
        S::vectorize(
            #[inline(always)]
            || task.run::<S>(),
        )
    }
}

/// What happens to a sum before it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    /// `clamp(x, low, high)`: nothing at all with infinite bounds, ReLU, ReLU6, any Clip.
    Clamp { low: f32, high: f32 },
    /// `clamp(scale * x + offset, low, high)`: hard sigmoid.
    Affine { scale: f32, offset: f32, low: f32, high: f32 },
    /// `x * clamp(scale * x + offset, low, high)`: hard swish.
    Gated { scale: f32, offset: f32, low: f32, high: f32 },
    /// `x` above zero, `slope * x` below.
    Leaky { slope: f32 },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `exp(clamp(x, low, high))`: the sides of a box.
    Exp { low: f32, high: f32 },
}

impl Activation {
    /// Leaves its input as it is.
    pub(crate) const NONE: Activation = Activation::Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// The activation of one number, for kernels that are not worth vectors and for the tests' naive twins.
    pub(crate) fn apply_scalar(self, x: f32) -> f32 {
        let clamp = |x: f32, low: f32, high: f32| x.max(low).min(high);
        match self {
            Activation::Clamp { low, high } => clamp(x, low, high),
            Activation::Affine { scale, offset, low, high } => clamp(x * scale + offset, low, high),
            Activation::Gated { scale, offset, low, high } => x * clamp(x * scale + offset, low, high),
            Activation::Leaky { slope } => {
                if x > 0.0 {
                    x
                } else {
                    x * slope
                }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Exp { low, high } => clamp(x, low, high).exp(),
        }
    }

    /// The activation of `N` vectors.
    ///
    /// # Safety
    ///
    /// Run inside [`Simd::vectorize`].
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd, const N: usize>(self, v: [S::F; N]) -> [S::F; N] {
        // SAFETY: arithmetic on registers, inside `vectorize` by this function's condition.
        unsafe {
            match self {
                Activation::Clamp { low, high } => {
                    let (low, high) = (S::splat(low), S::splat(high));
                    v.map(
                        #[inline(always)]
                        |x| S::min(S::max(x, low), high),
                    )
                }
                Activation::Affine { scale, offset, low, high } => v.map(
                    #[inline(always)]
                    |x| affine::<S>(x, scale, offset, low, high),
                ),
                Activation::Gated { scale, offset, low, high } => v.map(
                    #[inline(always)]
                    |x| S::mul(x, affine::<S>(x, scale, offset, low, high)),
                ),
                Activation::Leaky { slope } => {
                    let (zero, slope) = (S::splat(0.0), S::splat(slope));
                    v.map(
                        #[inline(always)]
                        |x| S::mul_add(S::min(x, zero), slope, S::max(x, zero)),
                    )
                }
                Activation::Sigmoid => v.map(
                    #[inline(always)]
                    |x| sigmoid::<S>(x),
                ),
                Activation::Silu => v.map(
                    #[inline(always)]
                    |x| S::mul(x, sigmoid::<S>(x)),
                ),
                Activation::Exp { low, high } => v.map(
                    #[inline(always)]
                    |x| {
                        let x = S::min(S::max(x, S::splat(low)), S::splat(high));
                        // What `exp` cannot tell from 88 any more grows into infinity.
                        let beyond = S::max(S::sub(x, S::splat(88.0)), S::splat(0.0));
                        S::mul_add(beyond, S::splat(f32::MAX), exp::<S>(x))
                    },
                ),
            }
        }
    }
}

#[inline(always)]
unsafe fn affine<S: Simd>(x: S::F, scale: f32, offset: f32, low: f32, high: f32) -> S::F {
    // SAFETY: arithmetic on registers, inside `vectorize` as the caller is.
    unsafe {
        let y = S::mul_add(x, S::splat(scale), S::splat(offset));
        S::min(S::max(y, S::splat(low)), S::splat(high))
    }
}

/// `1 / (1 + exp(-x))` within 2e-7.
#[inline(always)]
unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    // SAFETY: arithmetic on registers, inside `vectorize` as the caller is.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// `exp(x)` within 3e-7 of itself for `x` in -87 to 88, and beyond them what it is there.
///
/// `exp(x) = 2^n * exp(r)` with `n` the nearest integer to `x / ln 2`: adding `1.5 * 2^23` leaves it in the low bits
/// of the sum, so shifting them up 23 places gives `2^n` without a conversion. `exp(r)` for `|r| <= ln 2 / 2` is its
/// Taylor polynomial of degree 6, whose next term is below 1.2e-7.
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: arithmetic on registers, inside `vectorize` as the caller is.
    unsafe {
        // Within these bounds 2^n is a normal number.
        let x = S::min(S::max(x, S::splat(-87.0)), S::splat(88.0));
        let magic = S::splat(ROUNDER);
        let shifted = S::mul_add(x, S::splat(std::f32::consts::LOG2_E), magic);
        let n = S::sub(shifted, magic);
        // ln 2 in two parts, the first one short enough for its product with n to be exact.
        let r = S::mul_add(n, S::splat(-0.693_359_4), x);
        let r = S::mul_add(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.0 / 720.0);
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = S::mul_add(p, r, S::splat(c));
        }
        S::from_bits(S::add_i32(S::bits(p), S::shl23(S::bits(shifted))))
    }
}

/// `1.5 * 2^23`: added to a float below `2^22` in magnitude, it leaves the nearest integer (ties to even) in the low
/// bits of the sum, on every machine alike.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// From a 32-bit sum to a byte: `clamp(round(leaky(sum) * multiplier), low, high) + zero`.
///
/// The product is one float multiplication and the rounding is to nearest even, so every instruction set gives the
/// same byte; it is also how onnxruntime does it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Requantize {
    /// Lowest result, before the zero point is added.
    pub low: f32,
    /// Highest result, before the zero point is added.
    pub high: f32,
    /// Zero point of the result.
    pub zero: i32,
    /// What sums below zero are multiplied with, 0 to 1: leaky ReLU. 1 leaves them.
    pub slope: f32,
}

impl Requantize {
    /// In registers, for use in a loop.
    ///
    /// # Safety
    ///
    /// Run inside [`Simd::vectorize`].
    #[inline(always)]
    pub(crate) unsafe fn ready<S: Simd>(self) -> Requantizer<S> {
        // V8 makes a constant anew, in three instructions, wherever it is used. One that the compiler does not know is
        // made once.
        let rounder = std::hint::black_box(ROUNDER);
        let byte = |bound: f32| (bound.round_ties_even() as i32).saturating_add(self.zero).clamp(0, 255) as u8;
        // SAFETY: arithmetic on registers, inside `vectorize` by this function's condition.
        unsafe {
            Requantizer {
                low: S::splat(self.low),
                high: S::splat(self.high),
                rounder: S::splat(rounder),
                shift: S::splat_i32(self.zero - ROUNDER.to_bits() as i32),
                pack: S::pack(byte(self.low), byte(self.high)),
                leaks: self.slope != 1.0,
                slope: S::splat(self.slope),
            }
        }
    }

    /// The same for one number, for tests.
    #[cfg(test)]
    pub(crate) fn apply_scalar(self, sum: f32, multiplier: f32) -> u8 {
        let y = (sum.max(sum * self.slope) * multiplier).max(self.low).min(self.high);
        ((y + ROUNDER).to_bits() as i32 - (ROUNDER.to_bits() as i32 - self.zero)) as u8
    }
}

/// Numbers up to this size are rounded by adding [`ROUNDER`] and still known for too large or too small.
pub(crate) const LARGEST_RESULT: f32 = 4_194_304.0;

/// [`Requantize`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct Requantizer<S: Simd> {
    low: S::F,
    high: S::F,
    rounder: S::F,
    shift: S::I,
    /// For storing the result.
    pub pack: S::Pack,
    leaks: bool,
    slope: S::F,
}

impl<S: Simd> Requantizer<S> {
    /// # Safety
    ///
    /// Run inside [`Simd::vectorize`].
    #[inline(always)]
    pub(crate) unsafe fn apply(&self, x: S::F, multiplier: S::F) -> S::I {
        // SAFETY: arithmetic on registers, inside `vectorize` by this function's condition.
        unsafe {
            let y = S::min(S::max(S::mul(x, multiplier), self.low), self.high);
            S::add_i32(S::bits(S::add(y, self.rounder)), self.shift)
        }
    }

    /// The same for a product within ±[`LARGEST_RESULT`], ready for the stores alone, after the leaky ReLU.
    ///
    /// # Safety
    ///
    /// Run inside [`Simd::vectorize`].
    #[inline(always)]
    pub(crate) unsafe fn apply_to_sum(&self, sum: S::F, multiplier: S::F) -> S::I {
        // SAFETY: as `apply`.
        unsafe {
            // The multiplier is above zero, so it does not matter that it comes second.
            let sum = if self.leaks { S::max(sum, S::mul(sum, self.slope)) } else { sum };
            if S::STORE_CLAMPS {
                S::add_i32(S::bits(S::add(S::mul(sum, multiplier), self.rounder)), self.shift)
            } else {
                self.apply(sum, multiplier)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Apply<'a>(Activation, &'a mut [f32]);
    impl Task for Apply<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for chunk in self.1.chunks_exact_mut(S::LANES) {
                // SAFETY: a chunk has LANES floats.
                unsafe {
                    let [y] = self.0.apply::<S, 1>([S::load(chunk.as_ptr())]);
                    S::store(chunk.as_mut_ptr(), y);
                }
            }
        }
    }

    #[test]
    fn activations_agree_with_the_scalar_form_on_every_isa() {
        let cases = [
            Activation::NONE,
            Activation::Clamp { low: 0.0, high: 6.0 },
            Activation::Affine { scale: 1.0 / 6.0, offset: 0.5, low: 0.0, high: 1.0 },
            Activation::Gated { scale: 1.0 / 6.0, offset: 0.5, low: 0.0, high: 1.0 },
            Activation::Leaky { slope: 0.1 },
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Exp { low: -50.0, high: 5.0 },
            Activation::Exp { low: f32::NEG_INFINITY, high: f32::INFINITY },
        ];
        let xs: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.025).chain([0.0; 16]).collect();
        for isa in Isa::supported() {
            for case in cases {
                let mut ys = xs.clone();
                isa.run(Apply(case, &mut ys));
                for (x, y) in xs.iter().zip(&ys).take(8000) {
                    let expected = case.apply_scalar(*x);
                    if (88.0..89.0).contains(x) && expected > 1e38 {
                        continue; // The exponential is only known to be large.
                    }
                    let close =
                        *y == expected || (y - expected).abs() <= 3e-7 * expected.abs().max(1.0) * x.abs().max(1.0);
                    assert!(close, "{} {case:?} of {x}: {y}, expected {expected}", isa.name());
                    if case == Activation::Sigmoid {
                        assert!((0.0..=1.0).contains(y), "sigmoid of {x} is {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn requantize_rounds_ties_to_even() {
        let requantize = Requantize { low: -10.0, high: 117.0, zero: 10, slope: 1.0 };
        for (sum, byte) in [(-21.0, 0), (-1.0, 10), (1.0, 10), (3.0, 12), (5.0, 12), (7.0, 14), (500.0, 127)] {
            assert_eq!(requantize.apply_scalar(sum, 0.5), byte, "{sum}");
        }
        let leaky = Requantize { slope: 0.25, ..requantize };
        for (sum, byte) in [(-100.0, 0), (-21.0, 7), (-12.0, 8), (1.0, 10), (7.0, 14)] {
            assert_eq!(leaky.apply_scalar(sum, 0.5), byte, "{sum}");
        }
    }
}
