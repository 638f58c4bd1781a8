//! A fully connected layer, `activation(x · weight + bias)` with `weight` of shape [inputs, units], over the last dimension.
//!
//! The product is written once; one more pass over it adds the bias and takes the activation, and one pass backward takes the
//! slope and sums up the gradient of the bias. The gradient of an input that nobody trains is never computed.

use crate::graph::activate;
use crate::graph::lanes::lanes;
use crate::graph::matrix::{Matrix, Onto, multiply};
use crate::graph::operation::{
    Backward, Built, Forward, Gradient, Initial, Kind, Operation, Parameter, Pass, Role, Shape,
};
use crate::graph::parallel::{over_rows, over_rows_of_two};
use crate::real::Real;
use jobs::train::Activation;

#[derive(Debug)]
struct Dense {
    inputs: usize,
    units: usize,
    activation: Activation,
    bias: bool,
}

pub fn dense(units: usize, activation: Activation, bias: bool, inputs: &[Shape]) -> Result<Built, String> {
    let [input] = inputs else { return Err(format!("it reads one input, not {}", inputs.len())) };
    if input.kind != Kind::Reals {
        return Err("it reads numbers, not ids; put an embedding before it".to_string());
    }
    let Some((width, outer)) = input.dims.split_last() else {
        return Err("its input has no dimension".to_string());
    };
    let (width, mut dims) = (*width, outer.to_vec());
    dims.push(units);
    let initial = match activation {
        Activation::Relu | Activation::LeakyRelu | Activation::Gelu => Initial::he(width),
        _ => Initial::glorot(width, units),
    };
    let mut parameters = vec![Parameter { name: "weight", dims: vec![width, units], initial, role: Role::Weight }];
    if bias {
        let initial = Initial::Constant(0.0);
        parameters.push(Parameter { name: "bias", dims: vec![units], initial, role: Role::Weight });
    }
    let kernel = Box::new(Dense { inputs: width, units, activation, bias });
    Ok(Built { output: Shape::reals(&dims), parameters, kernel })
}

lanes! {
    fn add_bias<T: Real>(values: &mut [T], bias: &[T]) {
        for row in values.chunks_exact_mut(bias.len()) {
            for (value, bias) in row.iter_mut().zip(bias) {
                *value += *bias;
            }
        }
    }

    fn add_rows<T: Real>(sum: &mut [T], rows: &[T]) {
        for row in rows.chunks_exact(sum.len()) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += *value;
            }
        }
    }
}

/// Rows whose sum is taken on its own: as many as keep a part's work well above the cost of handing it out, and always the
/// same for the same shapes.
const PARTS: usize = 8;

impl<T: Real> Operation<T> for Dense {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { pass, inputs, parameters, output, saved, .. } = call;
        let (input, weight) = (inputs[0].reals(), parameters[0]);
        let places = output.len() / self.units;
        multiply(
            output,
            Onto::Overwrite,
            Matrix::new(input, places, self.inputs),
            Matrix::new(weight, self.inputs, self.units),
        );
        let bias = if self.bias { Some(parameters[1]) } else { None };
        let finish = |part: &mut [T]| {
            if let Some(bias) = bias {
                add_bias(part, bias);
            }
        };
        if activate::needs_input(self.activation) && matches!(pass, Pass::Training(_)) {
            let before = saved.array(0, output.len());
            over_rows_of_two((output, self.units), (before, self.units), |_, part, before| {
                finish(part);
                before.copy_from_slice(part);
                activate::apply_in_place(self.activation, part);
            });
        } else if bias.is_some() || self.activation != Activation::Linear {
            over_rows(output, self.units, |_, part| {
                finish(part);
                activate::apply_in_place(self.activation, part);
            });
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { inputs, parameters, output, saved, gradient, input_gradients, parameter_gradients, .. } = call;
        let places = gradient.len() / self.units;
        let rows = places.div_ceil(PARTS).max(1);
        let before_len = if activate::needs_input(self.activation) { output.len() } else { 0 };
        saved.array(1, PARTS * self.units);
        let [before, sums, ..] = &mut saved.reals[..] else { panic!("two arrays were asked for") };
        let before: &[T] = if before_len > 0 { before } else { &[] };
        sums.fill(T::zero());
        let width = rows * self.units;
        over_rows_of_two((gradient, width), (sums, self.units), |first, gradient, sums| {
            for (index, gradient) in gradient.chunks_mut(width).enumerate() {
                let at = (first + index) * width..(first + index) * width + gradient.len();
                let before = if before.is_empty() { before } else { &before[at.clone()] };
                activate::slope(self.activation, before, &output[at], gradient);
                if self.bias {
                    add_rows(&mut sums[index * self.units..(index + 1) * self.units], gradient);
                }
            }
        });
        let (of_weight, rest) = parameter_gradients.split_first_mut().expect("a weight");
        if let (true, [Gradient::Whole(of_bias)]) = (self.bias, rest) {
            of_bias.fill(T::zero());
            add_rows(of_bias, sums);
        }
        let right = Matrix::new(gradient, places, self.units);
        if let Gradient::Whole(of_weight) = of_weight {
            multiply(
                of_weight,
                Onto::Overwrite,
                Matrix::new(inputs[0].reals(), places, self.inputs).transposed(),
                right,
            );
        }
        if let Some(of_input) = &mut input_gradients[0] {
            multiply(
                of_input,
                Onto::Overwrite,
                right,
                Matrix::new(parameters[0], self.inputs, self.units).transposed(),
            );
        }
    }
}
