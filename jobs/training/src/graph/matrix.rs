//! Matrix products over slices.
//!
//! Invariant: no element outside of the slices is touched, which is asserted from shapes and strides; the same bits for the same
//! shapes and number of threads.

use crate::real::Real;
use gemm::Parallelism;

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
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: all elements lie within the slices: for the inputs it was asserted when they were made (a transposed view has the
    // same elements), for the output above. `out` is borrowed by nobody else. T is f32 or f64, for which gemm has kernels.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            stride as isize,
            onto == Onto::Add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            parallelism,
        );
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
    #[should_panic(expected = "matrix 5 x 8")]
    fn a_matrix_does_not_reach_beyond_its_slice() {
        Matrix::new(&[0.0f32; 39], 5, 8);
    }
}
