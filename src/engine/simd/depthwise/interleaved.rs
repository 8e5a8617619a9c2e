//! The taps of int8 windows in groups of four, as the dot product wants them.
//!
//! In memory a group is a vector for each half of a block of `2 * LANES` channels: `[2 vectors, group, 4 * LANES bytes]`, the
//! second vectors [`SPAN`] bytes behind the first.

use super::super::operations::{MAX_LANES, Simd};

/// Output pixels whose columns are interleaved at once.
pub(super) const AT_ONCE: usize = 48;
/// Bytes of the interleaved columns of one vector, of 64 bytes at most: with stride 2, two groups a column.
pub(super) const SPAN: usize = ((AT_ONCE - 1) * 2 + 7) * 2 * 64;
/// Interleaved columns of both vectors. Aligned, or every fourth vector would lie across two cache lines.
#[repr(align(64))]
#[expect(dead_code, reason = "memory that is used by its address")]
pub(super) struct Columns([u8; 2 * SPAN]);

/// Sums of the first vectors of [`AT_ONCE`] pixels, aligned likewise.
#[repr(align(64))]
#[expect(dead_code, reason = "memory that is used by its address")]
pub(super) struct Halves([[f32; MAX_LANES]; AT_ONCE]);

/// A tap of a group, which may be there for its neighbours' sake only: its weight then is zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub row: usize,
    pub column: usize,
    pub counts: bool,
}

/// Interleaves one group of [`Columns`]. It takes the taps loaded: their addresses, as an array, the compiler would put into
/// memory and read back for each load.
///
/// # Safety
///
/// `4 * LANES` bytes are writable at `to` and `SPAN` behind it.
#[inline(always)]
pub(super) unsafe fn interleave_group<S: Simd>(isa: S, taps: [S::B; 4], to: *mut u8) {
    let [first, second] = isa.interleave(taps);
    // SAFETY: by this function's condition.
    unsafe {
        isa.store_bytes(to, first);
        isa.store_bytes(to.add(SPAN), second);
    }
}
