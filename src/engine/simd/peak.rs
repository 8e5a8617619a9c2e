//! How many multiply-accumulates the machine does at most: what the kernels are compared with.

use super::{Isa, Simd, Task};

/// Sums at once: enough for the latency, and few enough for the registers.
const SUMS: usize = 12;

struct Float(usize);

impl Task for Float {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        // SAFETY: arithmetic on registers, inside `vectorize`; the array holds a vector of every instruction set.
        unsafe {
            let numbers = std::hint::black_box([0.999f32; 16]);
            let (a, b) = (S::load(numbers.as_ptr()), S::splat(1e-3));
            let mut sums = [a; SUMS];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = S::mul_add(*sum, a, b);
                }
            }
            for sum in sums {
                let mut numbers = [0.0f32; 16];
                S::store(numbers.as_mut_ptr(), sum);
                std::hint::black_box(numbers);
            }
        }
        self.0 * SUMS * S::LANES
    }
}

struct Int8(usize);

impl Task for Int8 {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        // SAFETY: arithmetic on registers, inside `vectorize`; the arrays hold a vector of every instruction set.
        unsafe {
            let weights = std::hint::black_box([3i8; 64]);
            let activations = std::hint::black_box([[1u8, 2, 3, 4], [5, 6, 7, 8]]);
            let w = S::load_weights(weights.as_ptr());
            let mut sums = [S::splat_i32(0); SUMS];
            for turn in 0..self.0 {
                let a = S::load_activations(activations[turn % 2].as_ptr());
                for sum in &mut sums {
                    *sum = S::dot(*sum, w, a);
                }
            }
            for sum in sums {
                let mut numbers = [0.0f32; 16];
                S::store(numbers.as_mut_ptr(), S::to_f32(sum));
                std::hint::black_box(numbers);
            }
        }
        self.0 * SUMS * S::LANES * 4
    }
}

/// Runs `turns` of float multiply-adds and says how many.
pub(crate) fn float(isa: Isa, turns: usize) -> usize {
    isa.run(Float(turns))
}

/// Runs `turns` of int8 multiply-adds and says how many.
pub(crate) fn int8(isa: Isa, turns: usize) -> usize {
    isa.run(Int8(turns))
}
