//! Normalisation of each place by itself, over the last dimension, with a learned scale (and shift).
//!
//! Layer norm (Ba et al. 2016) takes the mean off and divides by the deviation; RMS norm (Zhang and Sennrich 2019) divides by
//! the root of the mean square. Variances are those of the values themselves (divided by n), as in PyTorch.

use super::{parts, reduce, shapes};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Backward, Built, Forward, Initial, Operation, Parameter, Role, Shape};
use crate::real::Real;

pub fn layer_norm(epsilon: f64, inputs: &[Shape]) -> Result<Built, String> {
    normalised(true, epsilon, inputs)
}

pub fn rms_norm(epsilon: f64, inputs: &[Shape]) -> Result<Built, String> {
    normalised(false, epsilon, inputs)
}

fn normalised(centred: bool, epsilon: f64, inputs: &[Shape]) -> Result<Built, String> {
    let (places, width) = shapes::places_and_channels(inputs)?;
    shapes::epsilon(epsilon)?;
    let one =
        |name, value| Parameter { name, dims: vec![width], initial: Initial::Constant(value), role: Role::Weight };
    let mut parameters = vec![one("weight", 1.0)];
    if centred {
        parameters.push(one("bias", 0.0));
    }
    let kernel = Box::new(Norm { places, width, epsilon, centred });
    Ok(Built { output: inputs[0].clone(), parameters, kernel })
}

#[derive(Debug)]
struct Norm {
    /// Of one row of the batch.
    places: usize,
    width: usize,
    epsilon: f64,
    centred: bool,
}

impl Norm {
    fn rows_of_part(&self, rows: usize) -> usize {
        parts::rows_of_part(rows, 4 * self.places * self.width)
    }
}

impl<T: Real> Operation<T> for Norm {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { rows, inputs, parameters, output, saved, .. } = call;
        let input = inputs[0].reals();
        let width = self.places * self.width;
        let [means, scales] = parts::arrays(&mut saved.reals, T::zero(), [rows * self.places; 2]);
        let by_row = [(output, width), (means, self.places), (scales, self.places)];
        let bias = if self.centred { parameters[1] } else { &[] };
        parts::for_each(rows, self.rows_of_part(rows), by_row, [], |row, [output, means, scales], []| {
            let epsilon = T::from_f64(self.epsilon);
            let input = &input[row * width..][..output.len()];
            forward(input, parameters[0], bias, epsilon, output, means, scales);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { rows, inputs, parameters, saved, gradient, input_gradients, parameter_gradients, .. } = call;
        let input = inputs[0].reals();
        let width = self.places * self.width;
        let of_part = self.rows_of_part(rows);
        let parts = parts::count(rows, of_part);
        let lens = [rows * self.places, rows * self.places, parts * self.width, parts * self.width];
        let [means, scales, of_weight, of_bias] = parts::arrays(&mut saved.reals, T::zero(), lens);
        let (means, scales, gradient) = (&*means, &*scales, &*gradient);
        let asked = input_gradients[0].is_some();
        let of_input = input_gradients[0].as_deref_mut().unwrap_or_default();
        let by_row = [(of_input, if asked { width } else { 0 })];
        let by_part = [(&mut *of_weight, self.width), (&mut *of_bias, self.width)];
        parts::for_each(rows, of_part, by_row, by_part, |row, [of_input], [of_weight, of_bias]| {
            let values = row * width..(row + of_part).min(rows) * width;
            let places = row * self.places..(row + of_part).min(rows) * self.places;
            let (input, gradient) = (&input[values.clone()], &gradient[values]);
            let (means, scales) = (&means[places.clone()], &scales[places]);
            of_parameters(input, gradient, means, scales, of_weight, of_bias);
            if asked {
                backward(input, gradient, parameters[0], means, scales, self.centred, of_input);
            }
        });
        parts::add_up(of_weight, parameter_gradients[0].whole());
        if self.centred {
            parts::add_up(of_bias, parameter_gradients[1].whole());
        }
    }
}

lanes! {
    /// An empty `bias` stands for RMS norm, whose means are zero.
    fn forward<T: Real>(
        input: &[T],
        weight: &[T],
        bias: &[T],
        epsilon: T,
        output: &mut [T],
        means: &mut [T],
        scales: &mut [T],
    ) {
        let width = weight.len();
        let count = T::from_f64(width as f64);
        let places = input.chunks_exact(width).zip(output.chunks_exact_mut(width));
        for ((input, output), (mean, scale)) in places.zip(means.iter_mut().zip(scales)) {
            *mean = if bias.is_empty() { T::zero() } else { reduce::sum(input, |x| x) / count };
            let middle = *mean;
            let variance = reduce::sum(input, |x| (x - middle) * (x - middle)) / count;
            *scale = T::one() / (variance + epsilon).sqrt();
            for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
                *output = (*input - middle) * *scale * *weight;
            }
            parts::accumulate(bias, output);
        }
    }

    fn of_parameters<T: Real>(
        input: &[T],
        gradient: &[T],
        means: &[T],
        scales: &[T],
        of_weight: &mut [T],
        of_bias: &mut [T],
    ) {
        of_weight.fill(T::zero());
        of_bias.fill(T::zero());
        let width = of_weight.len();
        let places = input.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((input, gradient), (mean, scale)) in places.zip(means.iter().zip(scales)) {
            for ((of_weight, input), gradient) in of_weight.iter_mut().zip(input).zip(gradient) {
                *of_weight += *gradient * ((*input - *mean) * *scale);
            }
            parts::accumulate(gradient, of_bias);
        }
    }

    /// With y = (x - mean) · scale and h = gradient · weight: scale · (h - mean(h) - y · mean(h · y)); without mean(h) where
    /// nothing is centred.
    fn backward<T: Real>(
        input: &[T],
        gradient: &[T],
        weight: &[T],
        means: &[T],
        scales: &[T],
        centred: bool,
        of_input: &mut [T],
    ) {
        let width = weight.len();
        let count = T::from_f64(width as f64);
        let places = input.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(of_input.chunks_exact_mut(width));
        for (((input, gradient), of_input), (mean, scale)) in places.zip(means.iter().zip(scales)) {
            for ((of_input, gradient), weight) in of_input.iter_mut().zip(gradient).zip(weight) {
                *of_input = *gradient * *weight;
            }
            let off = if centred { reduce::sum(of_input, |h| h) / count } else { T::zero() };
            let slope = reduce::sum_of_two(of_input, input, |h, x| h * ((x - *mean) * *scale)) / count;
            for (of_input, input) in of_input.iter_mut().zip(input) {
                *of_input = *scale * (*of_input - off - (*input - *mean) * *scale * slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::check;

    #[test]
    fn gradients() {
        for dims in [&[3, 5][..], &[20], &[2, 2, 3]] {
            let inputs = [Shape::reals(dims)];
            check(&layer_norm(1e-3, &inputs).unwrap(), &inputs);
            check(&rms_norm(1e-3, &inputs).unwrap(), &inputs);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(layer_norm(0.0, &[Shape::reals(&[3])]).unwrap_err(), "epsilon must be above zero, not 0");
        let refused = rms_norm(1e-5, &[Shape::reals(&[])]).unwrap_err();
        assert_eq!(refused, "it reads [..., channels], not a single number");
    }
}
