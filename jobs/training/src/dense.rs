//! A fully connected layer as one operation: `x · weight + bias`, with `weight` of shape [inputs, units].
//!
//! The bias is laid down first and the product added to it, so the output is written once; and the gradient of an input
//! that nobody trains (the data itself) is never computed, which candle's own matrix product would do.

use crate::real;
use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape, Tensor, WithDType};
use gemm::Parallelism;

pub fn dense(input: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    input.apply_op3(weight, bias, Dense)
}

struct Dense;

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = input_layout.shape().dims2()?;
        let (weight_inputs, units) = weight_layout.shape().dims2()?;
        let biases = bias_layout.shape().dims1()?;
        if inputs != weight_inputs || units != biases {
            return Err(Error::Msg(format!(
                "input [{rows}, {inputs}] does not fit weight [{weight_inputs}, {units}] and bias [{biases}]"
            )));
        }
        let shape = Shape::from((rows, units));
        let output = match (input, weight, bias) {
            (CpuStorage::F32(x), CpuStorage::F32(w), CpuStorage::F32(b)) => CpuStorage::F32(multiply(
                Matrix::new(x, input_layout, rows, inputs)?,
                Matrix::new(w, weight_layout, inputs, units)?,
                real::contiguous(b, bias_layout)?,
            )),
            (CpuStorage::F64(x), CpuStorage::F64(w), CpuStorage::F64(b)) => CpuStorage::F64(multiply(
                Matrix::new(x, input_layout, rows, inputs)?,
                Matrix::new(w, weight_layout, inputs, units)?,
                real::contiguous(b, bias_layout)?,
            )),
            _ => return Err(Error::Msg("a dense layer got values of mixed or unsupported types".to_string())),
        };
        Ok((output, shape))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let of_input = if input.track_op() { Some(gradient.matmul(&weight.t()?)?) } else { None };
        let of_weight = input.t()?.matmul(&gradient)?;
        let of_bias = gradient.sum(0)?;
        Ok((of_input, Some(of_weight), Some(of_bias)))
    }
}

/// A contiguous row-major matrix.
struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
}

impl<'a, T> Matrix<'a, T> {
    fn new(values: &'a [T], layout: &Layout, rows: usize, columns: usize) -> Result<Self> {
        let values = real::contiguous(values, layout)?;
        assert_eq!(values.len(), rows * columns, "matrix {rows} x {columns}");
        Ok(Self { values, rows, columns })
    }
}

fn multiply<T: WithDType>(left: Matrix<'_, T>, right: Matrix<'_, T>, bias: &[T]) -> Vec<T> {
    assert_eq!((left.columns, bias.len()), (right.rows, right.columns), "shapes of a matrix product");
    let mut output = Vec::with_capacity(left.rows * bias.len());
    for _ in 0..left.rows {
        output.extend_from_slice(bias);
    }
    let threads = candle_core::utils::get_num_threads();
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the three matrices are contiguous and row-major, their lengths were asserted above to be those of their
    // shapes, and `output` is borrowed by nobody else. T is f32 or f64, for both of which gemm has kernels.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            output.as_mut_ptr(),
            1,
            right.columns as isize,
            true,
            left.values.as_ptr(),
            1,
            left.columns as isize,
            right.values.as_ptr(),
            1,
            right.columns as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
    output
}
