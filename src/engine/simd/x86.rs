//! x86-64: AVX2 with FMA, and AVX-512 with the int8 dot product (VNNI).

use core::arch::x86_64::*;

use super::Simd;

/// 256-bit vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2;

impl Avx2 {
    pub(super) fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

/// 512-bit vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512;

impl Avx512 {
    pub(super) fn available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    }
}

/// `acc + dot` without a dot product instruction. The pairs of `maddubs` cannot saturate while `a` is at most 127:
/// `2 * 127 * 128 < 2^15`.
#[inline(always)]
unsafe fn dot_avx2(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: inside `vectorize`, as the caller is.
    unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1))) }
}

// SAFETY: run where `available` said so; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Avx2 {
    const LANES: usize = 8;
    const PANEL: usize = 2;
    type F = __m256;
    type I = __m256i;
    type W = __m256i;
    type A = __m256i;
    type B = __m256i;
    type Pack = ();

    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: inside `vectorize`; the caller vouches for eight floats at `p`.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: as `load`.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> __m256 {
        // SAFETY: inside `vectorize`; the caller vouches for a float at `p`.
        unsafe { _mm256_set1_ps(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn bits(a: __m256) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    unsafe fn from_bits(a: __m256i) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_castsi256_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_i32(p: *const i32) -> __m256i {
        // SAFETY: inside `vectorize`; the caller vouches for eight integers at `p`.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn add_i32(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shl23(a: __m256i) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_slli_epi32::<23>(a) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: __m256i) -> __m256 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> __m256i {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_activations(p: *const u8) -> __m256i {
        // SAFETY: inside `vectorize`; the caller vouches for 4 bytes at `p`.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { dot_avx2(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u8) -> __m256i {
        // SAFETY: inside `vectorize`; the caller vouches for 16 bytes at `p`. The low eight go to the low half of the
        // lower 128 bits, the high eight to the low half of the upper ones.
        unsafe { _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn interleave(taps: [__m256i; 4]) -> [__m256i; 2] {
        let [a, b, c, d] = taps;
        // SAFETY: inside `vectorize`.
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
            [_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd)]
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> __m256i {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m256i) {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`.
        unsafe { _mm256_storeu_si256(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        // SAFETY: inside `vectorize`.
        unsafe { dot_avx2(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn pack(_low: u8, _high: u8) {}
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: [__m256i; 2], _pack: ()) {
        // SAFETY: inside `vectorize`; the caller vouches for 16 bytes at `p`. Packing leaves four-byte groups in the
        // order 0 2 . . 1 3 . . (by halves of v[0], v[1]), which the permutation puts right.
        unsafe {
            let words = _mm256_packus_epi32(v[0], v[1]);
            let bytes = _mm256_packus_epi16(words, words);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
        }
    }
    #[inline(always)]
    unsafe fn store_channels(p: *mut u8, v: [__m256i; 2], _pack: ()) {
        // SAFETY: inside `vectorize`; the caller vouches for 16 bytes at `p`.
        unsafe {
            let words = _mm256_packus_epi32(v[0], v[1]);
            let bytes = _mm256_packus_epi16(words, words);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b10_00>(bytes)));
        }
    }
}

// SAFETY: run where `available` said so; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Avx512 {
    const LANES: usize = 16;
    const PANEL: usize = 2;
    type F = __m512;
    type I = __m512i;
    type W = __m512i;
    type A = __m512i;
    type B = __m512i;
    type Pack = ();

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn vectorize<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: inside `vectorize`; the caller vouches for 16 floats at `p`.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: as `load`.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> __m512 {
        // SAFETY: inside `vectorize`; the caller vouches for a float at `p`.
        unsafe { _mm512_set1_ps(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn bits(a: __m512) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    unsafe fn from_bits(a: __m512i) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_i32(p: *const i32) -> __m512i {
        // SAFETY: inside `vectorize`; the caller vouches for 16 integers at `p`.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn add_i32(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shl23(a: __m512i) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_slli_epi32::<23>(a) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: __m512i) -> __m512 {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> __m512i {
        // SAFETY: inside `vectorize`; the caller vouches for 64 bytes at `p`.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_activations(p: *const u8) -> __m512i {
        // SAFETY: inside `vectorize`; the caller vouches for 4 bytes at `p`.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_dpbusd_epi32(acc, a, w) }
    }
    #[inline(always)]
    unsafe fn load_half(p: *const u8) -> __m512i {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`. Each eight of them go to the low half of
        // 128 bits of their own.
        unsafe {
            let bytes = _mm512_castsi256_si512(_mm256_loadu_si256(p.cast()));
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), bytes)
        }
    }
    #[inline(always)]
    unsafe fn interleave(taps: [__m512i; 4]) -> [__m512i; 2] {
        let [a, b, c, d] = taps;
        // SAFETY: inside `vectorize`.
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            [_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd)]
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8) -> __m512i {
        // SAFETY: inside `vectorize`; the caller vouches for 64 bytes at `p`.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m512i) {
        // SAFETY: inside `vectorize`; the caller vouches for 64 bytes at `p`.
        unsafe { _mm512_storeu_si512(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: __m512i, w: __m512i, a: __m512i) -> __m512i {
        // SAFETY: inside `vectorize`.
        unsafe { _mm512_dpbusd_epi32(acc, a, w) }
    }
    #[inline(always)]
    unsafe fn pack(_low: u8, _high: u8) {}
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: [__m512i; 2], _pack: ()) {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`.
        unsafe {
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(v[0]));
            _mm_storeu_si128(p.add(16).cast(), _mm512_cvtepi32_epi8(v[1]));
        }
    }
    #[inline(always)]
    unsafe fn store_channels(p: *mut u8, v: [__m512i; 2], _pack: ()) {
        // SAFETY: inside `vectorize`; the caller vouches for 32 bytes at `p`. Packing leaves, in each 128 bits, the
        // eight bytes of that part in channel order.
        unsafe {
            let words = _mm512_packus_epi32(v[0], v[1]);
            let bytes = _mm512_packus_epi16(words, words);
            let order = _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6);
            let bytes = _mm512_permutexvar_epi64(order, bytes);
            _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(bytes));
        }
    }
}
