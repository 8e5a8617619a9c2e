//! x86-64: AVX2 with FMA, and AVX-512 with the int8 dot product (VNNI).

use core::arch::x86_64::*;

use super::operations::{Simd, operations};

/// 256-bit vectors, on a processor that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// None if the processor lacks AVX2 or FMA.
    pub(super) fn new() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

/// 512-bit vectors, on a processor that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// None if the processor lacks one of AVX-512's parts F, BW, VL and VNNI.
    pub(super) fn new() -> Option<Avx512> {
        let supported = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        supported.then_some(Avx512(()))
    }
}

// SAFETY: `new` asks the processor; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Avx2 {
    const LANES: usize = 8;
    const PANEL: usize = 2;
    type F = __m256;
    type I = __m256i;
    type W = __m256i;
    type A = __m256i;
    type B = __m256i;
    type Pack = ();

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the token proves that the processor has both.
        unsafe { with_avx2(f) }
    }

    operations! {
        on registers:
        fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn reinterpret_i32(a: __m256) -> __m256i { _mm256_castps_si256(a) }
        fn reinterpret_f32(a: __m256i) -> __m256 { _mm256_castsi256_ps(a) }
        fn splat_i32(x: i32) -> __m256i { _mm256_set1_epi32(x) }
        fn add_i32(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        fn shl23(a: __m256i) -> __m256i { _mm256_slli_epi32::<23>(a) }
        fn to_f32(a: __m256i) -> __m256 { _mm256_cvtepi32_ps(a) }
        // There is no dot product. The pairs of `maddubs` cannot saturate while `a` is at most 127: 2 * 127 * 128 < 2^15.
        fn dot(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1)))
        }
        fn dot_bytes(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
            _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1)))
        }
        fn interleave(taps: [__m256i; 4]) -> [__m256i; 2] {{
            let [a, b, c, d] = taps;
            let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
            [_mm256_unpacklo_epi16(ab, cd), _mm256_unpackhi_epi16(ab, cd)]
        }}
    }
    operations! {
        on memory:
        fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        fn store(p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v) }
        fn load_splat(p: *const f32) -> __m256 { _mm256_set1_ps(p.read_unaligned()) }
        fn load_i32(p: *const i32) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn load_weights(p: *const i8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn load_activations(p: *const u8) -> __m256i { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
        // The low eight bytes go to the low half of the lower 128 bits, the high eight to the low half of the upper ones.
        fn load_half(p: *const u8) -> __m256i {
            _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(_mm_loadu_si128(p.cast())))
        }
        fn load_bytes(p: *const i8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn store_bytes(p: *mut u8, v: __m256i) { _mm256_storeu_si256(p.cast(), v) }
        // Packing leaves four-byte groups in the order 0 2 . . 1 3 . . (by halves of v[0], v[1]), which the permutation
        // puts right.
        fn store_u8(p: *mut u8, v: [__m256i; 2], _pack: ()) {{
            let words = _mm256_packus_epi32(v[0], v[1]);
            let bytes = _mm256_packus_epi16(words, words);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
        }}
        fn store_channels(p: *mut u8, v: [__m256i; 2], _pack: ()) {{
            let words = _mm256_packus_epi32(v[0], v[1]);
            let bytes = _mm256_packus_epi16(words, words);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b10_00>(bytes)));
        }}
    }
    #[inline(always)]
    fn pack(self, _low: u8, _high: u8) {}
}

// SAFETY: `new` asks the processor; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Avx512 {
    const LANES: usize = 16;
    const PANEL: usize = 2;
    type F = __m512;
    type I = __m512i;
    type W = __m512i;
    type A = __m512i;
    type B = __m512i;
    type Pack = ();

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        #[inline(never)]
        fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the token proves that the processor has all four.
        unsafe { with_avx512(f) }
    }

    operations! {
        on registers:
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn reinterpret_i32(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn reinterpret_f32(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn splat_i32(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn add_i32(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn shl23(a: __m512i) -> __m512i { _mm512_slli_epi32::<23>(a) }
        fn to_f32(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn dot(acc: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, a, w) }
        fn dot_bytes(acc: __m512i, w: __m512i, a: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, a, w) }
        fn interleave(taps: [__m512i; 4]) -> [__m512i; 2] {{
            let [a, b, c, d] = taps;
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            [_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd)]
        }}
    }
    operations! {
        on memory:
        fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn store(p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v) }
        fn load_splat(p: *const f32) -> __m512 { _mm512_set1_ps(p.read_unaligned()) }
        fn load_i32(p: *const i32) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn load_weights(p: *const i8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn load_activations(p: *const u8) -> __m512i { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
        // Each eight of the bytes go to the low half of 128 bits of their own.
        fn load_half(p: *const u8) -> __m512i {{
            let bytes = _mm512_castsi256_si512(_mm256_loadu_si256(p.cast()));
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), bytes)
        }}
        fn load_bytes(p: *const i8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn store_bytes(p: *mut u8, v: __m512i) { _mm512_storeu_si512(p.cast(), v) }
        fn store_u8(p: *mut u8, v: [__m512i; 2], _pack: ()) {{
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(v[0]));
            _mm_storeu_si128(p.add(16).cast(), _mm512_cvtepi32_epi8(v[1]));
        }}
        // Packing leaves, in each 128 bits, the eight bytes of that part in channel order.
        fn store_channels(p: *mut u8, v: [__m512i; 2], _pack: ()) {{
            let words = _mm512_packus_epi32(v[0], v[1]);
            let bytes = _mm512_packus_epi16(words, words);
            let order = _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6);
            let bytes = _mm512_permutexvar_epi64(order, bytes);
            _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(bytes));
        }}
    }
    #[inline(always)]
    fn pack(self, _low: u8, _high: u8) {}
}
