//! Activations: one pass over the values forward, one backward.
//!
//! Invariant: the slope is the derivative of the value (held against finite differences); at a kink it is the derivative from
//! the left. Leaky ReLU lets a hundredth through, ELU's scale is 1, as in PyTorch.

use crate::graph::lanes::lanes;
use crate::real::Real;
use jobs::train::Activation;

const LEAK: f64 = 0.01;

/// Whether [`slope`] reads what went in; of the others it follows from what came out.
pub fn needs_input(activation: Activation) -> bool {
    matches!(activation, Activation::Gelu | Activation::Silu)
}

pub fn apply<T: Real>(activation: Activation, input: &[T], output: &mut [T]) {
    // In blocks that stay in the nearest cache between the two passes.
    const BLOCK: usize = 2048;
    for (input, output) in input.chunks(BLOCK).zip(output.chunks_mut(BLOCK)) {
        output.copy_from_slice(input);
        apply_in_place(activation, output);
    }
}

#[inline(always)]
fn each<T: Real>(values: &mut [T], value: impl Fn(T) -> T) {
    for x in values {
        *x = value(*x);
    }
}

#[inline(always)]
fn times<T: Real>(gradient: &mut [T], of: &[T], slope: impl Fn(T) -> T) {
    for (gradient, x) in gradient.iter_mut().zip(of) {
        *gradient *= slope(*x);
    }
}

/// Never infinite, and no branch that would keep a loop narrow: exp(-x) runs to infinity where the answer is zero.
#[inline(always)]
pub fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

// The match is outside of the loops, so that each loop is a straight line that the compiler can vectorise.
lanes! {
    pub fn apply_in_place<T: Real>(activation: Activation, values: &mut [T]) {
        let (zero, one) = (T::zero(), T::one());
        match activation {
            Activation::Linear => {}
            Activation::Relu => each(values, |x| if x > zero { x } else { zero }),
            Activation::LeakyRelu => {
                let leak = T::from_f64(LEAK);
                each(values, |x| if x > zero { x } else { leak * x });
            }
            Activation::Elu => each(values, |x| if x > zero { x } else { x.exp() - one }),
            Activation::Silu => each(values, |x| x * sigmoid(x)),
            Activation::Tanh => each(values, |x| x.tanh()),
            Activation::Sigmoid => each(values, |x| sigmoid(x)),
            Activation::Gelu => {
                let half = T::from_f64(0.5);
                let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
                each(values, |x| half * x * (one + (x * scale).erf()));
            }
            Activation::Softplus => each(values, |x| {
                let above = if x > zero { x } else { zero };
                above + (-x.abs()).exp().ln_1p()
            }),
        }
    }

    /// Turns the gradient of the output into that of the input. `input` may be empty unless [`needs_input`].
    pub fn slope<T: Real>(activation: Activation, input: &[T], output: &[T], gradient: &mut [T]) {
        let (zero, one) = (T::zero(), T::one());
        match activation {
            Activation::Linear => {}
            Activation::Relu => {
                for (gradient, y) in gradient.iter_mut().zip(output) {
                    *gradient = if *y > zero { *gradient } else { zero };
                }
            }
            Activation::LeakyRelu => {
                let leak = T::from_f64(LEAK);
                times(gradient, output, |y| if y > zero { one } else { leak });
            }
            Activation::Elu => times(gradient, output, |y| if y > zero { one } else { y + one }),
            Activation::Silu => times(gradient, input, |x| {
                let s = sigmoid(x);
                s * (one + x * (one - s))
            }),
            Activation::Tanh => times(gradient, output, |y| one - y * y),
            Activation::Sigmoid => times(gradient, output, |y| y * (one - y)),
            Activation::Gelu => {
                let half = T::from_f64(0.5);
                let scale = T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
                // 1 / sqrt(2 pi)
                let density = T::from_f64(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
                times(gradient, input, |x| {
                    half * (one + (x * scale).erf()) + x * density * (-half * x * x).exp()
                });
            }
            // The slope is the sigmoid of what went in, which is 1 - exp(-y).
            Activation::Softplus => times(gradient, output, |y| one - (-y).exp()),
        }
    }
}
