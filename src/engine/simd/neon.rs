//! aarch64's 128-bit vectors, with the int8 dot product where the processor has it (ARMv8.2's `dotprod`).

use core::arch::aarch64::*;
use core::arch::asm;

use super::operations::{Simd, operations};

/// 128-bit vectors. With `DOT`, the int8 product is one instruction, which the processor must support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Neon<const DOT: bool>(());

impl Neon<false> {
    /// Every aarch64 processor supports these vectors.
    pub(super) fn new() -> Neon<false> {
        Neon(())
    }
}

impl Neon<true> {
    /// None if the processor lacks the int8 dot product.
    pub(super) fn new() -> Option<Neon<true>> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Neon(()))
    }
}

// SAFETY: every aarch64 has these vectors, and for the dot product `new` asks the processor; loads and stores touch the
// bytes that the trait names.
unsafe impl<const DOT: bool> Simd for Neon<DOT> {
    const LANES: usize = 4;
    const PANEL: usize = 2;
    type F = float32x4_t;
    type I = int32x4_t;
    type W = int8x16_t;
    type A = int8x16_t;
    type B = int8x16_t;
    /// Lowest and highest result, as 16-bit integers.
    type Pack = [int16x8_t; 2];
    const STORE_CLAMPS: bool = true;

    #[inline(never)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    operations! {
        on registers:
        fn splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
        fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        // With one NaN, the result is NaN.
        fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vminq_f32(a, b) }
        fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmaxq_f32(a, b) }
        fn reinterpret_i32(a: float32x4_t) -> int32x4_t { vreinterpretq_s32_f32(a) }
        fn reinterpret_f32(a: int32x4_t) -> float32x4_t { vreinterpretq_f32_s32(a) }
        fn splat_i32(x: i32) -> int32x4_t { vdupq_n_s32(x) }
        fn add_i32(a: int32x4_t, b: int32x4_t) -> int32x4_t { vaddq_s32(a, b) }
        fn shl23(a: int32x4_t) -> int32x4_t { vshlq_n_s32::<23>(a) }
        fn to_f32(a: int32x4_t) -> float32x4_t { vcvtq_f32_s32(a) }
        fn interleave(taps: [int8x16_t; 4]) -> [int8x16_t; 2] {{
            let [a, b, c, d] = taps;
            let ab = vreinterpretq_s16_s8(vzip1q_s8(a, b));
            let cd = vreinterpretq_s16_s8(vzip1q_s8(c, d));
            [vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd))]
        }}
        fn pack(low: u8, high: u8) -> [int16x8_t; 2] { [vdupq_n_s16(low.into()), vdupq_n_s16(high.into())] }
    }
    operations! {
        on memory:
        fn load(p: *const f32) -> float32x4_t { vld1q_f32(p) }
        fn store(p: *mut f32, v: float32x4_t) { vst1q_f32(p, v) }
        fn load_splat(p: *const f32) -> float32x4_t { vdupq_n_f32(p.read_unaligned()) }
        fn load_i32(p: *const i32) -> int32x4_t { vld1q_s32(p) }
        fn load_weights(p: *const i8) -> int8x16_t { vld1q_s8(p) }
        // Up to 127, unsigned and signed bytes are the same.
        fn load_activations(p: *const u8) -> int8x16_t {
            vreinterpretq_s8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned()))
        }
        fn load_half(p: *const u8) -> int8x16_t { vcombine_s8(vld1_s8(p.cast()), vdup_n_s8(0)) }
        fn load_bytes(p: *const i8) -> int8x16_t { vld1q_s8(p) }
        fn store_bytes(p: *mut u8, v: int8x16_t) { vst1q_s8(p.cast(), v) }
        fn store_u8(p: *mut u8, v: [int32x4_t; 2], pack: [int16x8_t; 2]) {{
            let words = vcombine_s16(vqmovn_s32(v[0]), vqmovn_s32(v[1]));
            vst1_u8(p, vqmovun_s16(vminq_s16(vmaxq_s16(words, pack[0]), pack[1])))
        }}
    }
    #[inline(always)]
    fn dot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        if DOT {
            let mut sum = acc;
            // SAFETY: an instruction on registers, which the token proves. Written in assembly, because its intrinsic
            // is not stable.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {w:v}.16b, {a:v}.16b",
                    sum = inout(vreg) sum,
                    w = in(vreg) w,
                    a = in(vreg) a,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sum
        } else {
            // SAFETY: on registers. Sums of two products stay within 16 bits while `a` is at most 127:
            // 2 * 127 * 128 < 2^15.
            unsafe {
                let pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)), vmull_high_s8(w, a));
                vpadalq_s16(acc, pairs)
            }
        }
    }
    /// Equal to `dot`: activations are repeated as bytes, so both need the same instruction.
    #[inline(always)]
    fn dot_bytes(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        self.dot(acc, w, a)
    }
}
