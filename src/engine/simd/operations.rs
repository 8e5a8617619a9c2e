//! The vector operations that kernels use.

/// An instruction set that the processor has, with vectors of [`LANES`](Simd::LANES) floats or 32-bit integers, and of
/// four times as many bytes.
///
/// A value is the proof of support: its module makes one only where the processor has the instructions. Operations on
/// registers are therefore safe. Loads and stores are not; none needs an aligned address.
///
/// # Safety
///
/// An implementation has no value on a processor without its instructions. Its operations compute what their comment
/// says, and loads and stores touch no other bytes than those that it names.
pub(crate) unsafe trait Simd: Copy + 'static {
    /// Floats in a vector: a multiple of 4.
    const LANES: usize;
    /// The maximum number of vectors in a row of a matrix tile. It is 2 for tiles of six pixels, and 5 or 6 for tiles
    /// of two pixels (four pixels if there are only one or two vectors).
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

    /// Runs `f` with the instruction set switched on. Everywhere else operations are right but slow: each is a call. `f`
    /// must be inlined into it, so kernels are `#[inline(always)]` from here to the leaves, and it is itself never
    /// inlined: each use is a function of its own.
    /// Kernels use it again for their inner parts, since a WebAssembly compiler gives registers carelessly in functions
    /// of ten thousand instructions.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// `LANES` floats at `p`.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// `LANES` floats to `p`.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// The same float in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// The float at `p` in every lane.
    unsafe fn load_splat(self, p: *const f32) -> Self::F;
    /// `a * b + c`, rounded once or twice.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller, as `if a < b { a } else { b }`. NaN if `b` is NaN; if only `a` is, either.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger, likewise.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The bits of floats as integers.
    fn reinterpret_i32(self, a: Self::F) -> Self::I;
    /// The bits of integers as floats.
    fn reinterpret_f32(self, a: Self::I) -> Self::F;

    /// `LANES` integers at `p`.
    unsafe fn load_i32(self, p: *const i32) -> Self::I;
    /// The same integer in every lane.
    fn splat_i32(self, x: i32) -> Self::I;
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a << 23`: an exponent into its place.
    fn shl23(self, a: Self::I) -> Self::I;
    /// Integers to floats, to nearest even.
    fn to_f32(self, a: Self::I) -> Self::F;

    /// `4 * LANES` weights at `p`, which [`Self::weight_index`] put there.
    unsafe fn load_weights(self, p: *const i8) -> Self::W;
    /// Where, in the `4 * LANES` bytes that [`load_weights`](Self::load_weights) reads, the weight of column `lane`
    /// for the `k`-th of four activations is.
    fn weight_index(lane: usize, k: usize) -> usize {
        lane * 4 + k
    }
    /// Four activations at `p`.
    unsafe fn load_activations(self, p: *const u8) -> Self::A;
    /// `acc[lane] + sum over k in 0..4 of w[lane, k] * a[k]`, exact for activations in `0..=127`.
    fn dot(self, acc: Self::I, w: Self::W, a: Self::A) -> Self::I;

    /// `2 * LANES` bytes at `p`, in the order that [`interleave`](Self::interleave) wants.
    unsafe fn load_half(self, p: *const u8) -> Self::B;
    /// Byte vectors of four taps, `2 * LANES` channels each, to two vectors in which a channel's four taps lie side
    /// by side. Lane `l` of vector `v` is channel [`Self::channel`].
    fn interleave(self, taps: [Self::B; 4]) -> [Self::B; 2];
    /// Blocks of `2 * LANES` channels that are interleaved at once. Two, if [`interleave_high`](Self::interleave_high) is
    /// there: it saves every other load.
    const BLOCKS: usize = 1;
    /// As [`interleave`](Self::interleave), for the second half of the `4 * LANES` channels that
    /// [`load_bytes`](Self::load_bytes) has read, in the plain order.
    fn interleave_high(self, _taps: [Self::B; 4]) -> [Self::B; 2] {
        unreachable!("one block at once")
    }
    /// `4 * LANES` bytes at `p`, in the order of [`interleave`](Self::interleave)'s results.
    unsafe fn load_bytes(self, p: *const i8) -> Self::B;
    /// `4 * LANES` bytes to `p`, for [`load_bytes`](Self::load_bytes) to read.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::B);
    /// `acc[lane] + sum over k in 0..4 of w[4 * lane + k] * a[4 * lane + k]`, exact for `a` in `0..=127`.
    fn dot_bytes(self, acc: Self::I, w: Self::B, a: Self::B) -> Self::I;
    /// Which of `2 * LANES` channels is in lane `lane` of vector `vector` after interleaving. The byte order of
    /// vectors wider than 128 bits is that of their 128-bit parts.
    fn channel(vector: usize, lane: usize) -> usize {
        lane / 4 * 8 + vector * 4 + lane % 4
    }
    /// Whether [`store_u8`](Self::store_u8) and [`store_channels`](Self::store_channels) take any integers and clamp
    /// them, as bytes or words cost less to clamp than floats.
    const STORE_CLAMPS: bool = false;
    /// What the stores need for results between these two bytes; to be made outside of loops.
    fn pack(self, low: u8, high: u8) -> Self::Pack;
    /// `2 * LANES` integers, between the bytes that `pack` was made for unless `STORE_CLAMPS`, as bytes to `p`, first
    /// vector first.
    unsafe fn store_u8(self, p: *mut u8, v: [Self::I; 2], pack: Self::Pack);
    /// The same for one vector: `LANES` bytes.
    #[inline(always)]
    unsafe fn store_u8_single(self, p: *mut u8, v: Self::I, pack: Self::Pack) {
        let mut pair = [0u8; 2 * MAX_LANES];
        // SAFETY: `pair` holds two vectors, and the caller vouches for `LANES` bytes at `p`.
        unsafe {
            self.store_u8(pair.as_mut_ptr(), [v, v], pack);
            core::ptr::copy_nonoverlapping(pair.as_ptr(), p, Self::LANES);
        }
    }
    /// The same as [`store_u8`](Self::store_u8), for vectors whose lanes are channels in the order of [`Self::channel`],
    /// which with four lanes is the plain one.
    #[inline(always)]
    unsafe fn store_channels(self, p: *mut u8, v: [Self::I; 2], pack: Self::Pack) {
        const { assert!(Self::LANES == 4, "wider vectors have an order of their own") };
        // SAFETY: by this function's condition.
        unsafe { self.store_u8(p, v, pack) }
    }

    /// The first `LANES` floats of a slice.
    ///
    /// # Panics
    ///
    /// If it has fewer.
    #[inline(always)]
    fn load_slice(self, from: &[f32]) -> Self::F {
        assert!(from.len() >= Self::LANES);
        // SAFETY: as many are there.
        unsafe { self.load(from.as_ptr()) }
    }
    /// `LANES` floats to the start of a slice.
    ///
    /// # Panics
    ///
    /// If it has fewer.
    #[inline(always)]
    fn store_slice(self, to: &mut [f32], v: Self::F) {
        assert!(to.len() >= Self::LANES);
        // SAFETY: there is room for as many.
        unsafe { self.store(to.as_mut_ptr(), v) }
    }
}

/// Lanes of the widest instruction set.
pub(super) const MAX_LANES: usize = 16;

/// Methods of [`Simd`] that are one expression each, all inlined. `on registers`: intrinsics, which are safe because the token
/// proves that they are there. `on plain values`: safe without that. `on memory`: loads and stores, unsafe.
macro_rules! operations {
    (on registers: $(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $result {
            // SAFETY: the token proves that the processor has the instructions.
            unsafe { $body }
        }
    )*};
    (on plain values: $(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $result {
            $body
        }
    )*};
    (on memory: $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($argument: $type),*) $(-> $result)? {
            // SAFETY: the token proves that the processor has the instructions, and the caller vouches for the bytes that
            // the trait names.
            unsafe { $body }
        }
    )*};
}
pub(super) use operations;
