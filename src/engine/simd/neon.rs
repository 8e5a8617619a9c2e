//! aarch64's 128-bit vectors, with the int8 dot product where the processor has it (ARMv8.2's `dotprod`).

use core::arch::aarch64::*;
use core::arch::asm;

use super::Simd;

/// 128-bit vectors; with `DOT` one instruction for the int8 product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neon<const DOT: bool>;

/// Whether this processor has the int8 dot product. Vectors every aarch64 has.
pub(super) fn has_dot() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

// SAFETY: every aarch64 has these vectors, which is all that "on registers" below asks for, and `DOT` runs where
// `has_dot` said so; loads and stores touch the bytes that the trait names.
unsafe impl<const DOT: bool> Simd for Neon<DOT> {
    const LANES: usize = 4;
    const PANEL: usize = 2;
    type F = float32x4_t;
    type I = int32x4_t;
    type W = int8x16_t;
    type A = int8x16_t;
    type B = int8x16_t;
    /// Lowest and highest result, as words.
    type Pack = [int16x8_t; 2];
    const STORE_CLAMPS: bool = true;

    #[inline(never)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for four floats at `p`.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: as `load`.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for a float at `p`.
        unsafe { vdupq_n_f32(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers. The number, where the other one is a NaN, as with the other instruction sets' clamps.
        unsafe { vminnmq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vmaxnmq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn bits(a: float32x4_t) -> int32x4_t {
        // SAFETY: on registers.
        unsafe { vreinterpretq_s32_f32(a) }
    }
    #[inline(always)]
    unsafe fn from_bits(a: int32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vreinterpretq_f32_s32(a) }
    }
    #[inline(always)]
    unsafe fn load_i32(p: *const i32) -> int32x4_t {
        // SAFETY: the caller vouches for four integers at `p`.
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> int32x4_t {
        // SAFETY: on registers.
        unsafe { vdupq_n_s32(x) }
    }
    #[inline(always)]
    unsafe fn add_i32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: on registers.
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn shl23(a: int32x4_t) -> int32x4_t {
        // SAFETY: on registers.
        unsafe { vshlq_n_s32::<23>(a) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: int32x4_t) -> float32x4_t {
        // SAFETY: on registers.
        unsafe { vcvtq_f32_s32(a) }
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> int8x16_t {
        // SAFETY: the caller vouches for 16 bytes at `p`.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn load_activations(p: *const u8) -> int8x16_t {
        // SAFETY: the caller vouches for 4 bytes at `p`. Up to 127 they are the same with a sign.
        unsafe { vreinterpretq_s8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        if DOT {
            let mut sum = acc;
            // SAFETY: an instruction on registers, which `has_dot` looked for. Written out because its intrinsic is not
            // stable.
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
    #[inline(always)]
    unsafe fn load_half(p: *const u8) -> int8x16_t {
        // SAFETY: the caller vouches for 8 bytes at `p`.
        unsafe { vcombine_s8(vld1_s8(p.cast()), vdup_n_s8(0)) }
    }
    #[inline(always)]
    unsafe fn interleave(taps: [int8x16_t; 4]) -> [int8x16_t; 2] {
        // SAFETY: on registers.
        unsafe {
            let [a, b, c, d] = taps;
            let ab = vreinterpretq_s16_s8(vzip1q_s8(a, b));
            let cd = vreinterpretq_s16_s8(vzip1q_s8(c, d));
            [vreinterpretq_s8_s16(vzip1q_s16(ab, cd)), vreinterpretq_s8_s16(vzip2q_s16(ab, cd))]
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> int8x16_t {
        // SAFETY: the caller vouches for 16 bytes at `p`.
        unsafe { vld1q_s8(p) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: int8x16_t) {
        // SAFETY: the caller vouches for 16 bytes at `p`.
        unsafe { vst1q_s8(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        // SAFETY: as `dot`: four activations are repeated as bytes, so that the two are one.
        unsafe { Self::dot(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn pack(low: u8, high: u8) -> [int16x8_t; 2] {
        // SAFETY: on registers.
        unsafe { [vdupq_n_s16(low.into()), vdupq_n_s16(high.into())] }
    }
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: [int32x4_t; 2], [low, high]: [int16x8_t; 2]) {
        // SAFETY: the caller vouches for 8 bytes at `p`.
        unsafe {
            let words = vcombine_s16(vqmovn_s32(v[0]), vqmovn_s32(v[1]));
            vst1_u8(p, vqmovun_s16(vminq_s16(vmaxq_s16(words, low), high)))
        }
    }
    #[inline(always)]
    unsafe fn store_channels(p: *mut u8, v: [int32x4_t; 2], pack: [int16x8_t; 2]) {
        // SAFETY: as `store_u8`; with 4 lanes `channel` is the plain order.
        unsafe { Self::store_u8(p, v, pack) }
    }
}
