//! The order of the taps of a 5x5 window in the int8 kernel.
//!
//! Groups of four rows would leave the fifth row, with one group for each of its taps. So its taps are grouped along
//! the row instead. A window then has seven groups, `A` to `G`, not ten:
//!
//! ```text
//!          column   0  1  2  3  4
//!          row 0    A  C  E  F  G
//!              1    A  C  E  F  G
//!              2    A  C  E  F  G
//!              3    A  C  E  F  G
//!              4    B  B  B  B  D      the other taps of D are columns 1 to 3 again, with weights of zero
//! ```
//!
//! In memory each column has two groups: its rows 0 to 3, and the taps of the fifth row in this column and the next
//! three. A window reads seven of the nine groups that start at its first column. The other two belong to later
//! windows.
//!
//! ```text
//! column of the window    0      1      2      3      4
//! place                   0  1   2  3   4  5   6  7   8
//! group                   A  B   C  D   E  .   F  .   G
//! ```

use super::super::image::PixelLayout;
use super::super::operations::Simd;
use super::interleaved::{Tap, group_bytes, interleave_group, load_tap};

/// Groups per column.
pub(super) const COLUMN_PLACES: usize = 2;

/// The taps of each group, `A` first.
pub(super) fn groups() -> Vec<[Tap; 4]> {
    let down = |column| [0, 1, 2, 3].map(|row| Tap { row, column, counts: true });
    let along =
        |first: usize| [0, 1, 2, 3].map(|c| Tap { row: 4, column: first + c, counts: first == 0 || c == 3 });
    vec![down(0), along(0), down(1), along(1), down(2), down(3), down(4)]
}

/// The distance, in groups, from a window's first column to its `n`-th group.
pub(super) const fn place_of(n: usize) -> usize {
    if n < 5 { n } else { 2 * n - 4 }
}

/// Interleaves the first group of each of `columns` columns of an image, starting at `source`.
///
/// # Safety
///
/// The taps are readable from `source` on, and the columns fit at `to`.
#[inline(always)]
pub(super) unsafe fn interleave_columns<S: Simd>(
    isa: S,
    source: *const u8,
    image: PixelLayout,
    columns: usize,
    to: *mut u8,
) {
    // SAFETY: by this function's condition.
    unsafe {
        let (mut at, mut to, row) = (source, to, image.row);
        for _ in 0..columns {
            let mut taps = [load_tap(isa, at); 4];
            for (r, tap) in taps.iter_mut().enumerate().skip(1) {
                *tap = load_tap(isa, at.add(r * row));
            }
            interleave_group(isa, taps, to);
            to = to.add(COLUMN_PLACES * group_bytes::<S>());
            at = at.add(image.pixel);
        }
    }
}

/// Interleaves the second groups of the first `columns` columns only. The last group ends at the last column of the
/// last window.
///
/// # Safety
///
/// As [`interleave_columns`].
#[inline(always)]
pub(super) unsafe fn interleave_fifth_row<S: Simd>(
    isa: S,
    source: *const u8,
    image: PixelLayout,
    columns: usize,
    to: *mut u8,
) {
    // SAFETY: by this function's condition.
    unsafe {
        let (mut at, mut to) = (source.add(4 * image.row), to.add(group_bytes::<S>()));
        for _ in 0..columns {
            let pixel = image.pixel;
            let mut taps = [load_tap(isa, at); 4];
            for (c, tap) in taps.iter_mut().enumerate().skip(1) {
                *tap = load_tap(isa, at.add(c * pixel));
            }
            interleave_group(isa, taps, to);
            to = to.add(COLUMN_PLACES * group_bytes::<S>());
            at = at.add(pixel);
        }
    }
}
