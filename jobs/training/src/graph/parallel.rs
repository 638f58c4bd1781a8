//! Work over the elements of arrays, shared among the threads of the pool when there is enough of it.
//!
//! Invariant: what is done with an element does not depend on how the array was cut, so results are the same bits for any
//! number of threads.

use rayon::prelude::*;

/// From this many values on the work is shared; below it waking threads costs more than it saves.
pub const SHARED_FROM: usize = 1 << 15;

/// Calls `work` for runs of whole rows of `width` values with the index of the first row.
pub fn over_rows<T: Send>(values: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let threads = rayon::current_num_threads();
    if values.len() < SHARED_FROM || threads == 1 || width == 0 {
        return work(0, values);
    }
    let rows = values.len().div_ceil(width).div_ceil(threads);
    values.par_chunks_mut(rows * width).enumerate().for_each(|(index, part)| work(index * rows, part));
}

/// As [`over_rows`], over two arrays whose rows belong together.
pub fn over_rows_of_two<T: Send, U: Send>(
    (first, first_width): (&mut [T], usize),
    (second, second_width): (&mut [U], usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let threads = rayon::current_num_threads();
    if first.len() < SHARED_FROM || threads == 1 || first_width == 0 || second_width == 0 {
        return work(0, first, second);
    }
    let rows = first.len().div_ceil(first_width).div_ceil(threads);
    let parts = first.par_chunks_mut(rows * first_width).zip(second.par_chunks_mut(rows * second_width));
    parts.enumerate().for_each(|(index, (first, second))| work(index * rows, first, second));
}
