//! Activations as one pass forward and one pass backward over the values.
//!
//! Candle builds these from several whole-tensor passes, and its GELU derivative carries six digits. Ours are exact to
//! rounding and touch each value once. Invariant: the slope is the derivative of the value (held against finite
//! differences); ReLU's slope at zero is zero.

use crate::real::{self, Real, with_reals};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};
use jobs::train::Activation;

pub fn apply(input: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Linear => Ok(input.clone()),
        other => input.apply_op1(Apply(other)),
    }
}

struct Apply(Activation);

impl CustomOp1 for Apply {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let output = with_reals!(storage, layout, values => value(self.0, values))?;
        Ok((output, layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        match input.dtype() {
            DType::F32 => chain::<f32>(self.0, input, output, &gradient),
            DType::F64 => chain::<f64>(self.0, input, output, &gradient),
            other => Err(real::unsupported(other)),
        }
        .map(Some)
    }
}

/// The gradient of the input from that of the output.
fn chain<T: Real>(activation: Activation, input: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let values = real::read::<T, _>(input, |input| {
        real::read::<T, _>(output, |output| {
            real::read::<T, _>(gradient, |gradient| slope(activation, input, output, gradient))
        })
    })???;
    Tensor::from_vec(values, input.shape(), &Device::Cpu)
}

// The match is outside of the loops, so that each loop is a straight line that the compiler can vectorise.
fn value<T: Real>(activation: Activation, input: &[T]) -> Vec<T> {
    let zero = T::zero();
    let one = T::one();
    match activation {
        Activation::Linear => input.to_vec(),
        Activation::Relu => input.iter().map(|&x| if x > zero { x } else { zero }).collect(),
        Activation::Tanh => input.iter().map(|&x| x.tanh()).collect(),
        Activation::Sigmoid => input.iter().map(|&x| sigmoid(x)).collect(),
        Activation::Gelu => {
            let half = T::from_f64(0.5);
            let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
            input.iter().map(|&x| half * x * (one + (x * scale).erf())).collect()
        }
        _ => panic!("not there yet"),
    }
}

fn slope<T: Real>(activation: Activation, input: &[T], output: &[T], gradient: &[T]) -> Vec<T> {
    let zero = T::zero();
    let one = T::one();
    let by_output = output.iter().zip(gradient);
    match activation {
        Activation::Linear => gradient.to_vec(),
        Activation::Relu => by_output.map(|(&y, &g)| if y > zero { g } else { zero }).collect(),
        Activation::Tanh => by_output.map(|(&y, &g)| g * (one - y * y)).collect(),
        Activation::Sigmoid => by_output.map(|(&y, &g)| g * y * (one - y)).collect(),
        Activation::Gelu => {
            let half = T::from_f64(0.5);
            let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
            // 1 / sqrt(2 pi)
            let density = T::from_f64(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
            let by_input = input.iter().zip(gradient);
            by_input
                .map(|(&x, &g)| g * (half * (one + (x * scale).erf()) + x * density * (-half * x * x).exp()))
                .collect()
        }
        _ => panic!("not there yet"),
    }
}

/// Never takes the exponential of a large positive number.
pub fn sigmoid<T: Real>(x: T) -> T {
    let one = T::one();
    if x >= T::zero() {
        one / (one + (-x).exp())
    } else {
        let e = x.exp();
        e / (one + e)
    }
}
