//! Matrix products over slices.
//!
//! Invariant: no element outside of the slices is touched, which is asserted from shapes and strides; the same bits for the same
//! shapes and number of threads.

use crate::real::Real;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// A matrix in a slice: element (i, j) lies at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row-major and contiguous.
    pub fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(values, (rows, columns), columns)
    }

    /// Row-major, with `row_stride` values from one row to the next: some columns of a wider matrix.
    pub fn strided(values: &'a [T], (rows, columns): (usize, usize), row_stride: usize) -> Self {
        assert_within(values.len(), rows, columns, row_stride);
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// What becomes of the values that stand where the product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    Overwrite,
    Add,
}

/// `out`, row-major and contiguous, becomes `left · right`, on all threads of the pool.
pub fn multiply<T: Real>(out: &mut [T], onto: Onto, left: Matrix<'_, T>, right: Matrix<'_, T>) {
    let stride = right.columns;
    multiply_scaled((out, stride), onto, T::one(), left, right, rayon::current_num_threads());
}

/// As [`multiply`], times `scale`, into rows that are `stride` values apart, on so many threads of the pool.
pub fn multiply_scaled<T: Real>(
    (out, stride): (&mut [T], usize),
    onto: Onto,
    scale: T,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
    threads: usize,
) {
    assert_eq!(left.columns, right.rows, "inner sizes of a matrix product");
    assert_within(out.len(), left.rows, right.columns, stride);
    if left.rows == 0 || right.columns == 0 {
        return;
    }
    let flops = left.rows * left.columns * right.columns;
    let parts = if flops < SHARED_FROM { 1 } else { threads };
    let whole = Product { out: out.as_mut_ptr(), stride, onto, scale, left, right };
    if parts == 1 {
        return whole.run(0..left.rows, 0..right.columns);
    }
    // Each thread takes a run of the rows, or of the columns if there are more of them, a whole number of vectors long. The
    // products of a thread are then as large as can be: gemm's own way of sharing is slower by a tenth, and by half where one
    // side is short.
    let by_rows = left.rows >= right.columns;
    let long = if by_rows { left.rows } else { right.columns };
    let part = long.div_ceil(parts).next_multiple_of(VECTOR);
    (0..long.div_ceil(part)).into_par_iter().for_each(|index| {
        let run = index * part..((index + 1) * part).min(long);
        if by_rows { whole.run(run, 0..right.columns) } else { whole.run(0..left.rows, run) }
    });
}

/// Multiplications from which on a product is shared among threads; below it waking them costs more than it saves.
const SHARED_FROM: usize = 48 * 48 * 256;
/// Values of the widest vectors.
const VECTOR: usize = 16;

/// A product whose parts are computed by any thread.
struct Product<'a, T> {
    out: *mut T,
    stride: usize,
    onto: Onto,
    scale: T,
    left: Matrix<'a, T>,
    right: Matrix<'a, T>,
}

// SAFETY: threads read the inputs and write disjoint parts of the output, which nobody else has borrowed.
unsafe impl<T: Sync> Sync for Product<'_, T> {}

impl<T: Real> Product<'_, T> {
    /// Computes some rows and columns, which lie within.
    fn run(&self, rows: Range<usize>, columns: Range<usize>) {
        let Self { out, stride, onto, scale, left, right } = self;
        assert!(rows.end <= left.rows && columns.end <= right.columns, "a part of a product");
        // SAFETY: all elements lie within the slices: for the inputs it was asserted when they were made (a transposed view has
        // the same elements), for the output by whoever made this, and the rows and columns lie within by the line above. Runs
        // that are computed at the same time have no element in common. T is f32 or f64, for which gemm has kernels.
        unsafe {
            gemm::gemm(
                rows.len(),
                columns.len(),
                left.columns,
                out.add(rows.start * stride + columns.start),
                1,
                *stride as isize,
                *onto == Onto::Add,
                left.values.as_ptr().add(rows.start * left.row_stride),
                left.column_stride as isize,
                left.row_stride as isize,
                right.values.as_ptr().add(columns.start * right.column_stride),
                right.column_stride as isize,
                right.row_stride as isize,
                T::one(),
                *scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

fn assert_within(len: usize, rows: usize, columns: usize, row_stride: usize) {
    if rows > 0 && columns > 0 {
        let needed = (rows - 1) * row_stride + columns;
        assert!(columns <= row_stride || rows == 1, "rows of {columns} values every {row_stride}");
        assert!(needed <= len, "matrix {rows} x {columns} with rows every {row_stride} in {len} values");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 37 + seed * 11) % 19) as f64 - 9.0).collect()
    }

    #[test]
    fn products_of_all_forms() {
        let (rows, inner, columns) = (5, 7, 3);
        let left = numbers(rows * inner, 1);
        let right = numbers(inner * columns, 2);
        let expect: Vec<f64> = (0..rows * columns)
            .map(|at| (0..inner).map(|i| left[at / columns * inner + i] * right[i * columns + at % columns]).sum())
            .collect();
        let mut out = vec![0.0; rows * columns];
        let (x, y) = (Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns));
        multiply(&mut out, Onto::Overwrite, x, y);
        assert_eq!(out, expect);
        multiply(&mut out, Onto::Add, x, y);
        assert!(out.iter().zip(&expect).all(|(got, expect)| *got == 2.0 * expect));
        let mut turned = vec![0.0; rows * columns];
        multiply(&mut turned, Onto::Overwrite, y.transposed(), x.transposed());
        for (at, expect) in expect.iter().enumerate() {
            assert_eq!(turned[at % columns * rows + at / columns], *expect);
        }
        let mut within = vec![0.5; rows * 4];
        multiply_scaled((&mut within, 4), Onto::Overwrite, 0.5, x, y, 1);
        assert_eq!(within[4], 0.5 * expect[3]);
        assert_eq!(within[3], 0.5, "between the rows nothing is touched");
    }

    #[test]
    fn a_shared_product_has_the_same_bits() {
        for (rows, inner, columns) in [(150, 100, 70), (70, 100, 150)] {
            let (left, right) = (numbers(rows * inner, 3), numbers(inner * columns, 4));
            let of_left: Vec<f32> = left.iter().map(|x| *x as f32 / 7.0).collect();
            let of_right: Vec<f32> = right.iter().map(|x| *x as f32 / 3.0).collect();
            let on = |threads| {
                let mut out = vec![0.0; rows * columns];
                let (x, y) = (Matrix::new(&of_left, rows, inner), Matrix::new(&of_right, inner, columns));
                multiply_scaled((&mut out, columns), Onto::Overwrite, 1.0, x, y, threads);
                out
            };
            let expect = on(1);
            for threads in [2, 3, 40] {
                assert!(on(threads) == expect, "{threads} threads");
            }
        }
    }

    #[test]
    #[should_panic(expected = "matrix 5 x 8")]
    fn a_matrix_does_not_reach_beyond_its_slice() {
        Matrix::new(&[0.0f32; 39], 5, 8);
    }
}
