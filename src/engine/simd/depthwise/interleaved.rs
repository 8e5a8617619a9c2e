//! The taps of int8 windows in groups of four, as the dot product needs them.
//!
//! In memory a group has two vectors per block of `2 * LANES` channels: `[group, block, 2 vectors, 4 * LANES bytes]`.

use super::super::operations::Simd;
use super::super::tile::BLOCK_PIXELS;

/// Number of output pixels whose columns are interleaved together.
pub(super) const AT_ONCE: usize = BLOCK_PIXELS;
/// Maximum bytes of the interleaved columns: with stride 2, two groups per column, 128 bytes per group.
const SPAN: usize = ((AT_ONCE - 1) * 2 + 7) * 2 * 128;
/// Interleaved columns. They are aligned, because otherwise every fourth vector would cross a cache line.
#[repr(align(64))]
#[expect(dead_code, reason = "memory that is used by its address")]
pub(super) struct Columns([u8; SPAN]);

/// A tap of a group. It may only fill up the group; its weight is then zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub row: usize,
    pub column: usize,
    pub counts: bool,
}

/// Bytes from a group to the next one.
pub(super) const fn group_bytes<S: Simd>() -> usize {
    S::BLOCKS * 8 * S::LANES
}

/// Loads one tap of all channels that are interleaved together.
///
/// # Safety
///
/// `S::BLOCKS * 2 * LANES` bytes are readable at `at`.
#[inline(always)]
pub(super) unsafe fn load_tap<S: Simd>(isa: S, at: *const u8) -> S::B {
    // SAFETY: by this function's condition.
    unsafe { if S::BLOCKS == 2 { isa.load_bytes(at.cast()) } else { isa.load_half(at) } }
}

/// Interleaves one group of [`Columns`]. It takes loaded taps, because the compiler would put an array of addresses
/// into memory and read it back for each load.
///
/// # Safety
///
/// [`group_bytes`] bytes are writable at `to`.
#[inline(always)]
pub(super) unsafe fn interleave_group<S: Simd>(isa: S, taps: [S::B; 4], to: *mut u8) {
    let [first, second] = isa.interleave(taps);
    // SAFETY: by this function's condition.
    unsafe {
        isa.store_bytes(to, first);
        isa.store_bytes(to.add(4 * S::LANES), second);
        if S::BLOCKS == 2 {
            let [third, fourth] = isa.interleave_high(taps);
            isa.store_bytes(to.add(8 * S::LANES), third);
            isa.store_bytes(to.add(12 * S::LANES), fourth);
        }
    }
}
