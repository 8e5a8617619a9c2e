//! The implementation without vector instructions: arrays of four numbers, in the same order of operations as the
//! others.

use super::operations::{Simd, operations};

/// Four lanes in plain Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scalar;

type F = [f32; 4];
type I = [i32; 4];

#[inline(always)]
fn zip<A: Copy, B: Copy, C: Copy + Default>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> C) -> [C; 4] {
    let mut c = [C::default(); 4];
    for i in 0..4 {
        c[i] = f(a[i], b[i]);
    }
    c
}

// SAFETY: no instructions are needed; loads and stores touch the bytes that the trait names.
unsafe impl Simd for Scalar {
    const LANES: usize = 4;
    // As for WebAssembly, so that native tests cover its tile sizes.
    const PANEL: usize = 6;
    type F = F;
    type I = I;
    type W = [i8; 16];
    type A = [u8; 4];
    type B = [u8; 16];
    type Pack = ();

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    operations! {
        on plain values:
        fn splat(x: f32) -> F { [x; 4] }
        fn mul_add(a: F, b: F, c: F) -> F {{
            let mut r = c;
            for i in 0..4 {
                r[i] += a[i] * b[i];
            }
            r
        }}
        fn add(a: F, b: F) -> F { zip(a, b, |a, b| a + b) }
        fn sub(a: F, b: F) -> F { zip(a, b, |a, b| a - b) }
        fn mul(a: F, b: F) -> F { zip(a, b, |a, b| a * b) }
        fn div(a: F, b: F) -> F { zip(a, b, |a, b| a / b) }
        fn min(a: F, b: F) -> F { zip(a, b, |a, b| if a < b { a } else { b }) }
        fn max(a: F, b: F) -> F { zip(a, b, |a, b| if a > b { a } else { b }) }
        fn reinterpret_i32(a: F) -> I { a.map(|a| a.to_bits() as i32) }
        fn reinterpret_f32(a: I) -> F { a.map(|a| f32::from_bits(a as u32)) }
        fn splat_i32(x: i32) -> I { [x; 4] }
        fn add_i32(a: I, b: I) -> I { zip(a, b, i32::wrapping_add) }
        fn shl23(a: I) -> I { a.map(|a| a << 23) }
        fn to_f32(a: I) -> F { a.map(|a| a as f32) }
        fn dot(acc: I, w: [i8; 16], a: [u8; 4]) -> I {{
            let mut sums = acc;
            for (lane, sum) in sums.iter_mut().enumerate() {
                for k in 0..4 {
                    *sum = sum.wrapping_add(i32::from(w[lane * 4 + k]) * i32::from(a[k]));
                }
            }
            sums
        }}
        fn dot_bytes(acc: I, w: [u8; 16], a: [u8; 16]) -> I {{
            let mut sums = acc;
            for (lane, sum) in sums.iter_mut().enumerate() {
                for k in lane * 4..lane * 4 + 4 {
                    *sum = sum.wrapping_add(i32::from(w[k] as i8) * i32::from(a[k]));
                }
            }
            sums
        }}
        fn interleave(taps: [[u8; 16]; 4]) -> [[u8; 16]; 2] {{
            let mut out = [[0; 16]; 2];
            for (vector, out) in out.iter_mut().enumerate() {
                for lane in 0..4 {
                    for tap in 0..4 {
                        out[lane * 4 + tap] = taps[tap][vector * 4 + lane];
                    }
                }
            }
            out
        }}
    }
    operations! {
        on memory:
        fn load(p: *const f32) -> F { p.cast::<F>().read_unaligned() }
        fn store(p: *mut f32, v: F) { p.cast::<F>().write_unaligned(v) }
        fn load_splat(p: *const f32) -> F { [p.read_unaligned(); 4] }
        fn load_i32(p: *const i32) -> I { p.cast::<I>().read_unaligned() }
        fn load_weights(p: *const i8) -> [i8; 16] { p.cast::<[i8; 16]>().read() }
        fn load_activations(p: *const u8) -> [u8; 4] { p.cast::<[u8; 4]>().read() }
        fn load_half(p: *const u8) -> [u8; 16] {{
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&p.cast::<[u8; 8]>().read());
            bytes
        }}
        fn load_bytes(p: *const i8) -> [u8; 16] { p.cast::<[u8; 16]>().read() }
        fn store_bytes(p: *mut u8, v: [u8; 16]) { p.cast::<[u8; 16]>().write(v) }
        fn store_u8(p: *mut u8, v: [I; 2], _pack: ()) {{
            for (i, x) in v.as_flattened().iter().enumerate() {
                p.add(i).write(*x as u8);
            }
        }}
    }
    #[inline(always)]
    fn pack(self, _low: u8, _high: u8) {}
}
