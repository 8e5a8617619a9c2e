//! Measures the machine's peak in multiply-accumulates per second, as a reference for kernels.

use super::isa::{Isa, Task};
use super::operations::{MAX_LANES, Simd};

/// Number of independent sums: enough to hide the latency, and few enough for the registers.
const SUMS: usize = 12;

struct Float(usize);

impl Task for Float {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, isa: S) -> usize {
        let (a, b) = (isa.load_slice(&std::hint::black_box([0.999f32; MAX_LANES])), isa.splat(1e-3));
        let mut sums = [a; SUMS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = isa.mul_add(*sum, a, b);
            }
        }
        keep(isa, sums);
        self.0 * SUMS * S::LANES
    }
}

/// Prevents the compiler from removing sums that nothing reads.
#[inline(always)]
fn keep<S: Simd>(isa: S, sums: [S::F; SUMS]) {
    for sum in sums {
        let mut numbers = [0.0f32; MAX_LANES];
        isa.store_slice(&mut numbers, sum);
        std::hint::black_box(numbers);
    }
}

struct Int8(usize);

impl Task for Int8 {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, isa: S) -> usize {
        let weights = std::hint::black_box([3i8; 4 * MAX_LANES]);
        let activations = std::hint::black_box([[1u8, 2, 3, 4], [5, 6, 7, 8]]);
        // SAFETY: the array holds a vector of every instruction set.
        let w = unsafe { isa.load_weights(weights.as_ptr()) };
        let mut sums = [isa.splat_i32(0); SUMS];
        for turn in 0..self.0 {
            // SAFETY: four of them are there.
            let a = unsafe { isa.load_activations(activations[turn % 2].as_ptr()) };
            for sum in &mut sums {
                *sum = isa.dot(*sum, w, a);
            }
        }
        let mut floats = [isa.splat(0.0); SUMS];
        for (float, sum) in floats.iter_mut().zip(sums) {
            *float = isa.to_f32(sum);
        }
        keep(isa, floats);
        self.0 * SUMS * S::LANES * 4
    }
}

/// Runs `turns` rounds of float multiply-adds and returns their number.
pub(crate) fn float(isa: Isa, turns: usize) -> usize {
    isa.run(Float(turns))
}

/// Runs `turns` rounds of int8 multiply-adds and returns their number.
pub(crate) fn int8(isa: Isa, turns: usize) -> usize {
    isa.run(Int8(turns))
}
