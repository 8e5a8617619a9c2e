//! WebAssembly's 128-bit vectors.
//!
//! With the feature `relaxed-simd`, multiply-add becomes one instruction, the int8 dot product one instead of eight, and
//! the result of a minimum or maximum with a NaN depends on the processor. A browser refuses a module with an unknown
//! instruction, so there are two builds, and the page loads the one that its browser accepts. Only this crate is
//! compiled twice, because [`Simd::vectorize`] enables the instructions, not a compiler flag for all crates.

use core::arch::wasm32::*;

use super::operations::{Simd, operations};

/// 128-bit vectors. A browser that runs this module has them: it validated the whole module first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Wasm(());

impl Wasm {
    pub(super) fn new() -> Wasm {
        Wasm(())
    }
}

/// Lowest and highest result, as 16-bit words.
#[cfg(not(feature = "relaxed-simd"))]
type Pack = [v128; 2];
/// The same, and the position of a word's low byte. The compiler knows that a clamped word is a byte, and narrows by a
/// shuffle. V8 rebuilds the mask of a shuffle at every use, in five instructions, unless the mask is a variable.
#[cfg(feature = "relaxed-simd")]
type Pack = ([v128; 2], v128);

/// Narrows words to bytes with clamping. Only the lower half is used.
#[inline(always)]
fn to_bytes(words: v128, pack: Pack) -> v128 {
    #[cfg(not(feature = "relaxed-simd"))]
    let [low, high] = pack;
    #[cfg(feature = "relaxed-simd")]
    let ([low, high], bytes) = pack;
    let words = i16x8_min(i16x8_max(words, low), high);
    #[cfg(not(feature = "relaxed-simd"))]
    return u8x16_narrow_i16x8(words, words);
    #[cfg(feature = "relaxed-simd")]
    i8x16_relaxed_swizzle(words, bytes)
}

// SAFETY: `simd128` is on for the whole crate wherever this module is compiled, and a module with `relaxed-simd` runs only
// where the browser knows it; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Wasm {
    const LANES: usize = 4;
    // V8 allocates fifteen registers: two pixels of six vectors need 12 sums, 2 activations and a weight. A dot product
    // takes four or five clocks, and two start in each, so fewer than ten sums would stall. Where a product is several
    // instructions, it needs registers itself.
    const PANEL: usize = if cfg!(feature = "relaxed-simd") { 6 } else { 5 };
    type F = v128;
    type I = v128;
    #[cfg(feature = "relaxed-simd")]
    type W = v128;
    #[cfg(not(feature = "relaxed-simd"))]
    type W = [v128; 2];
    #[cfg(feature = "relaxed-simd")]
    type A = v128;
    #[cfg(not(feature = "relaxed-simd"))]
    type A = [v128; 2];
    type B = v128;
    type Pack = Pack;
    const STORE_CLAMPS: bool = true;
    const BLOCKS: usize = 2;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg_attr(feature = "relaxed-simd", target_feature(enable = "simd128,relaxed-simd"))]
        #[cfg_attr(not(feature = "relaxed-simd"), target_feature(enable = "simd128"))]
        #[inline(never)]
        fn with_vectors<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        with_vectors(f)
    }

    // Vectors of WebAssembly are safe where they compile.
    operations! {
        on plain values:
        fn splat(x: f32) -> v128 { f32x4_splat(x) }
        fn add(a: v128, b: v128) -> v128 { f32x4_add(a, b) }
        fn sub(a: v128, b: v128) -> v128 { f32x4_sub(a, b) }
        fn mul(a: v128, b: v128) -> v128 { f32x4_mul(a, b) }
        fn div(a: v128, b: v128) -> v128 { f32x4_div(a, b) }
        fn reinterpret_i32(a: v128) -> v128 { a }
        fn reinterpret_f32(a: v128) -> v128 { a }
        fn splat_i32(x: i32) -> v128 { i32x4_splat(x) }
        fn add_i32(a: v128, b: v128) -> v128 { i32x4_add(a, b) }
        fn shl23(a: v128) -> v128 { i32x4_shl(a, 23) }
        fn to_f32(a: v128) -> v128 { f32x4_convert_i32x4(a) }
        fn interleave(taps: [v128; 4]) -> [v128; 2] {{
            let [a, b, c, d] = taps;
            let ab = i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
            let cd = i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(c, d);
            [i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(ab, cd), i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(ab, cd)]
        }}
        fn interleave_high(taps: [v128; 4]) -> [v128; 2] {{
            let [a, b, c, d] = taps;
            let ab = i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
            let cd = i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(c, d);
            [i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(ab, cd), i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(ab, cd)]
        }}
    }
    operations! {
        on memory:
        fn load(p: *const f32) -> v128 { v128_load(p.cast()) }
        fn store(p: *mut f32, v: v128) { v128_store(p.cast(), v) }
        fn load_splat(p: *const f32) -> v128 { v128_load32_splat(p.cast()) }
        fn load_i32(p: *const i32) -> v128 { v128_load(p.cast()) }
        fn load_half(p: *const u8) -> v128 { v128_load64_zero(p.cast()) }
        fn load_bytes(p: *const i8) -> v128 { v128_load(p.cast()) }
        fn store_bytes(p: *mut u8, v: v128) { v128_store(p.cast(), v) }
        fn store_u8(p: *mut u8, v: [v128; 2], pack: Pack) {
            v128_store64_lane::<0>(to_bytes(i16x8_narrow_i32x4(v[0], v[1]), pack), p.cast())
        }
        fn store_u8_single(p: *mut u8, v: v128, pack: Pack) {
            v128_store32_lane::<0>(to_bytes(i16x8_narrow_i32x4(v, v), pack), p.cast())
        }
    }

    #[cfg(feature = "relaxed-simd")]
    operations! {
        on plain values:
        // With one NaN, x86 gives the second operand and ARM gives NaN. From pmin and pmax the compiler would make the
        // same instructions, with the operands in the other order.
        fn min(a: v128, b: v128) -> v128 { f32x4_relaxed_min(a, b) }
        fn max(a: v128, b: v128) -> v128 { f32x4_relaxed_max(a, b) }
        fn mul_add(a: v128, b: v128, c: v128) -> v128 { f32x4_relaxed_madd(a, b, c) }
        // Exact, and the same on every machine, while its second operand is in 0..=127.
        fn dot(acc: v128, w: v128, a: v128) -> v128 { i32x4_relaxed_dot_i8x16_i7x16_add(w, a, acc) }
        fn dot_bytes(acc: v128, w: v128, a: v128) -> v128 { i32x4_relaxed_dot_i8x16_i7x16_add(w, a, acc) }
    }
    #[cfg(feature = "relaxed-simd")]
    operations! {
        on memory:
        fn load_weights(p: *const i8) -> v128 { v128_load(p.cast()) }
        fn load_activations(p: *const u8) -> v128 { v128_load32_splat(p.cast()) }
    }
    #[cfg(feature = "relaxed-simd")]
    #[inline(always)]
    fn pack(self, low: u8, high: u8) -> Pack {
        let bytes = std::hint::black_box([0u8, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0]);
        // SAFETY: the array is a vector's bytes.
        let bytes = unsafe { v128_load(bytes.as_ptr().cast()) };
        ([i16x8_splat(low.into()), i16x8_splat(high.into())], bytes)
    }

    // Without the relaxed dot product: two products of 16-bit pairs. The bytes of a vector are ordered so that
    // widening the low half gives activations 0 and 1 of all four columns, and the high half 2 and 3.
    #[cfg(not(feature = "relaxed-simd"))]
    fn weight_index(lane: usize, k: usize) -> usize {
        k / 2 * 8 + lane * 2 + k % 2
    }
    #[cfg(not(feature = "relaxed-simd"))]
    operations! {
        on plain values:
        // pmin(x, y) is `y < x ? y : x`, one instruction. f32x4.min must handle NaN and takes more.
        fn min(a: v128, b: v128) -> v128 { f32x4_pmin(b, a) }
        fn max(a: v128, b: v128) -> v128 { f32x4_pmax(b, a) }
        fn mul_add(a: v128, b: v128, c: v128) -> v128 { f32x4_add(f32x4_mul(a, b), c) }
        fn dot(acc: v128, w: [v128; 2], a: [v128; 2]) -> v128 {
            i32x4_add(i32x4_add(acc, i32x4_dot_i16x8(w[0], a[0])), i32x4_dot_i16x8(w[1], a[1]))
        }
        // Adds neighbouring products, then neighbouring sums.
        fn dot_bytes(acc: v128, w: v128, a: v128) -> v128 {{
            let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(w), i16x8_extend_low_u8x16(a));
            let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(w), i16x8_extend_high_u8x16(a));
            let even = i32x4_shuffle::<0, 2, 4, 6>(low, high);
            let odd = i32x4_shuffle::<1, 3, 5, 7>(low, high);
            i32x4_add(acc, i32x4_add(even, odd))
        }}
        fn pack(low: u8, high: u8) -> Pack { [i16x8_splat(low.into()), i16x8_splat(high.into())] }
    }
    #[cfg(not(feature = "relaxed-simd"))]
    operations! {
        on memory:
        fn load_weights(p: *const i8) -> [v128; 2] { [i16x8_load_extend_i8x8(p), i16x8_load_extend_i8x8(p.add(8))] }
        fn load_activations(p: *const u8) -> [v128; 2] {{
            let pairs = i16x8_extend_low_u8x16(v128_load32_splat(p.cast()));
            [i32x4_shuffle::<0, 0, 0, 0>(pairs, pairs), i32x4_shuffle::<1, 1, 1, 1>(pairs, pairs)]
        }}
    }
}
