//! A batch cut into parts of neighbouring rows, one for each thread, and memory for them.
//!
//! Invariant: the cut depends on the rows, the work and the number of threads only; sums over parts are taken in their order,
//! so results are the same bits for the same number of threads.

use crate::graph::lanes::lanes;
use crate::real::Real;
use rayon::prelude::*;

/// Multiplications, roughly, below which a thread is not worth waking: some 10 µs.
const WORTH_A_THREAD: usize = 1 << 16;

/// Rows of a part, at least 1, when a row takes about `work` multiplications.
pub fn rows_of_part(rows: usize, work: usize) -> usize {
    let parts = rayon::current_num_threads().min(rows.saturating_mul(work) / WORTH_A_THREAD).max(1);
    rows.div_ceil(parts).max(1)
}

/// How many parts of so many rows there are.
pub fn count(rows: usize, rows_of_part: usize) -> usize {
    rows.div_ceil(rows_of_part)
}

/// Arrays of exactly these lengths, several at once; what stands in them is what was left there.
pub fn arrays<V: Copy, const N: usize>(all: &mut Vec<Vec<V>>, zero: V, lens: [usize; N]) -> [&mut [V]; N] {
    if all.len() < N {
        all.resize_with(N, Vec::new);
    }
    let mut rest = &mut all[..];
    lens.map(|len| {
        let (array, others) = std::mem::take(&mut rest).split_first_mut().expect("there are N arrays");
        rest = others;
        array.resize(len, zero);
        &mut array[..]
    })
}

/// Runs `body` for each part with the index of its first row, its rows of each of the arrays `by_row` (given with the width of
/// a row) and its own piece of each of the arrays `by_part` (given with the length of a piece).
pub fn for_each<T: Real, const N: usize, const M: usize>(
    rows: usize,
    rows_of_part: usize,
    by_row: [(&mut [T], usize); N],
    by_part: [(&mut [T], usize); M],
    body: impl Fn(usize, [&mut [T]; N], [&mut [T]; M]) + Sync,
) {
    if rows == 0 {
        return;
    }
    if rows <= rows_of_part {
        let whole = |(array, width): (_, usize)| piece(&mut { array }, rows * width);
        return body(0, by_row.map(whole), by_part.map(|(array, len)| piece(&mut { array }, len)));
    }
    let (mut by_row, mut by_part) = (by_row, by_part);
    let mut parts = Vec::with_capacity(count(rows, rows_of_part));
    for first in (0..rows).step_by(rows_of_part) {
        let len = rows_of_part.min(rows - first);
        let of_rows = by_row.each_mut().map(|(array, width)| piece(array, len * *width));
        let of_part = by_part.each_mut().map(|(array, len)| piece(array, *len));
        parts.push((first, of_rows, of_part));
    }
    parts.into_par_iter().for_each(|(first, of_rows, of_part)| body(first, of_rows, of_part));
}

/// Takes `len` values off the front.
fn piece<'a, T>(array: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (piece, others) = std::mem::take(array).split_at_mut(len);
    *array = others;
    piece
}

lanes! {
    /// `sum` becomes the sum of arrays of its length that lie one after the other, in their order; zero if there are none.
    pub fn add_up<T: Real>(parts: &[T], sum: &mut [T]) {
        let mut parts = parts.chunks_exact(sum.len().max(1));
        match parts.next() {
            Some(first) => sum.copy_from_slice(first),
            None => sum.fill(T::zero()),
        }
        for part in parts {
            accumulate(part, sum);
        }
    }

    /// Adds rows of the length of `sum` to it, in their order, by 64 at a time: a sum of sums rounds less than one long sum.
    pub fn add_rows<T: Real>(rows: &[T], sum: &mut [T], of_block: &mut [T]) {
        let width = sum.len().max(1);
        for block in rows.chunks(64 * width) {
            of_block.fill(T::zero());
            for row in block.chunks_exact(width) {
                accumulate(row, of_block);
            }
            accumulate(of_block, sum);
        }
    }
}

#[inline(always)]
pub fn accumulate<T: Real>(values: &[T], sum: &mut [T]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += *value;
    }
}
