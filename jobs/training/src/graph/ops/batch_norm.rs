//! Normalisation of each channel over the rows of a batch and all places (Ioffe and Szegedy 2015).
//!
//! In training by the mean and variance of the rows that this rank holds; in scoring by their running means, which are the
//! statistics `mean` and `variance`. As in PyTorch values are divided by the deviation itself (n), and what is kept is the
//! variance's unbiased estimate (n - 1). Invariant: a batch of a single value by channel, which has no variance, leaves no
//! infinity behind: it keeps the variance that stands.

use super::{parts, shapes};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Backward, Built, Forward, Initial, Operation, Parameter, Pass, Role, Shape};
use crate::real::Real;

pub fn batch_norm(momentum: f64, epsilon: f64, inputs: &[Shape]) -> Result<Built, String> {
    let (places, channels) = shapes::places_and_channels(inputs)?;
    shapes::epsilon(epsilon)?;
    if !(0.0..1.0).contains(&momentum) {
        return Err(format!("momentum must be at least 0 and below 1, not {momentum}"));
    }
    let one = |name, value, role| Parameter { name, dims: vec![channels], initial: Initial::Constant(value), role };
    let parameters = vec![
        one("weight", 1.0, Role::Weight),
        one("bias", 0.0, Role::Weight),
        one("mean", 0.0, Role::Statistic { momentum }),
        one("variance", 1.0, Role::Statistic { momentum }),
    ];
    Ok(Built { output: inputs[0].clone(), parameters, kernel: Box::new(BatchNorm { places, channels, epsilon }) })
}

#[derive(Debug)]
struct BatchNorm {
    /// Of one row of the batch.
    places: usize,
    channels: usize,
    epsilon: f64,
}

impl BatchNorm {
    fn width(&self) -> usize {
        self.places * self.channels
    }

    fn rows_of_part(&self, rows: usize) -> usize {
        parts::rows_of_part(rows, 4 * self.width())
    }
}

impl<T: Real> Operation<T> for BatchNorm {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { pass, rows, inputs, parameters, output, saved } = call;
        let [weight, bias, running_mean, running_variance] = parameters else {
            unreachable!("batch norm has four parameters")
        };
        let input = inputs[0].reals();
        let (channels, width, of_part) = (self.channels, self.width(), self.rows_of_part(rows));
        let sums = parts::count(rows, of_part) * channels;
        let lens = [channels, channels, sums, sums, channels, channels];
        let [mean, variance, sums, blocks, factor, offset] = parts::arrays(&mut saved.reals, T::zero(), lens);
        if let Pass::Training(_) = pass {
            let count = T::from_f64((rows * self.places).max(1) as f64);
            for squares in [false, true] {
                let middle = &*mean;
                let by_part = [(&mut *sums, channels), (&mut *blocks, channels)];
                parts::for_each(rows, of_part, [], by_part, |row, [], [sum, block]| {
                    let values = &input[row * width..(row + of_part).min(rows) * width];
                    sum.fill(T::zero());
                    if squares {
                        add_squares(values, middle, sum, block);
                    } else {
                        parts::add_rows(values, sum, block);
                    }
                });
                let into = if squares { &mut *variance } else { &mut *mean };
                parts::add_up(sums, into);
                into.iter_mut().for_each(|sum| *sum /= count);
            }
        } else {
            mean.copy_from_slice(running_mean);
            variance.copy_from_slice(running_variance);
        }
        for channel in 0..channels {
            factor[channel] = weight[channel] / (variance[channel] + T::from_f64(self.epsilon)).sqrt();
            offset[channel] = bias[channel] - mean[channel] * factor[channel];
        }
        let (factor, offset) = (&*factor, &*offset);
        parts::for_each(rows, of_part, [(output, width)], [], |row, [output], []| {
            scaled(&input[row * width..][..output.len()], factor, offset, output);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { place, rows, inputs, parameters, saved, gradient, input_gradients, .. } = call;
        let input = inputs[0].reals();
        let (channels, width, of_part) = (self.channels, self.width(), self.rows_of_part(rows));
        let sums = parts::count(rows, of_part) * channels;
        let lens = [channels, channels, sums, sums, channels, channels];
        let [mean, variance, of_weights, of_biases, factor, offset] = parts::arrays(&mut saved.reals, T::zero(), lens);
        let (mean, gradient) = (&*mean, &*gradient);
        let by_part = [(&mut *of_weights, channels), (&mut *of_biases, channels)];
        parts::for_each(rows, of_part, [], by_part, |row, [], [of_weight, of_bias]| {
            let values = row * width..(row + of_part).min(rows) * width;
            of_parameters(&input[values.clone()], mean, &gradient[values], of_weight, of_bias);
        });
        let [of_weight, of_bias, of_mean, of_variance] = call.parameter_gradients else {
            unreachable!("batch norm has four parameters")
        };
        let (of_weight, of_bias) = (of_weight.whole(), of_bias.whole());
        parts::add_up(of_weights, of_weight);
        parts::add_up(of_biases, of_bias);

        let count = rows * self.places;
        let mean_of = T::one() / T::from_f64(count.max(1) as f64);
        let share = T::from_f64(place.share(rows));
        // n / (n - 1); a single value has no variance to tell of.
        let unbiased = (count > 1).then(|| T::from_f64(count as f64 / (count as f64 - 1.0)));
        // gradient · factor - (input - mean) · slope - level; `factor` is still that of the forward pass.
        let level = offset;
        let slope = &mut of_weights[..if rows > 0 { channels } else { 0 }];
        for channel in 0..channels {
            of_mean.whole()[channel] = share * mean[channel];
            let estimate = unbiased.map_or(parameters[3][channel], |unbiased| unbiased * variance[channel]);
            of_variance.whole()[channel] = share * estimate;
            let inverse = T::one() / (variance[channel] + T::from_f64(self.epsilon)).sqrt();
            if let Some(slope) = slope.get_mut(channel) {
                *slope = factor[channel] * inverse * inverse * of_weight[channel] * mean_of;
            }
            of_weight[channel] *= inverse;
            level[channel] = factor[channel] * of_bias[channel] * mean_of;
        }
        let Some(of_input) = &mut input_gradients[0] else { return };
        let (factor, slope, level) = (&*factor, &*slope, &*level);
        parts::for_each(rows, of_part, [(of_input, width)], [], |row, [of_input], []| {
            let values = row * width..row * width + of_input.len();
            backward(&input[values.clone()], &gradient[values], mean, [factor, slope, level], of_input);
        });
    }
}

lanes! {
    fn add_squares<T: Real>(values: &[T], mean: &[T], sum: &mut [T], of_block: &mut [T]) {
        for block in values.chunks(64 * mean.len()) {
            of_block.fill(T::zero());
            for row in block.chunks_exact(mean.len()) {
                for ((sum, value), mean) in of_block.iter_mut().zip(row).zip(mean) {
                    *sum += (*value - *mean) * (*value - *mean);
                }
            }
            parts::accumulate(of_block, sum);
        }
    }

    fn scaled<T: Real>(input: &[T], factor: &[T], offset: &[T], output: &mut [T]) {
        let width = factor.len();
        for (input, output) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            for (((output, input), factor), offset) in output.iter_mut().zip(input).zip(factor).zip(offset) {
                *output = *input * *factor + *offset;
            }
        }
    }

    /// What becomes the gradient of the weight is not yet divided by the deviation.
    fn of_parameters<T: Real>(input: &[T], mean: &[T], gradient: &[T], of_weight: &mut [T], of_bias: &mut [T]) {
        let width = mean.len();
        of_weight.fill(T::zero());
        of_bias.fill(T::zero());
        for (input, gradient) in input.chunks_exact(width).zip(gradient.chunks_exact(width)) {
            for (((sum, input), mean), gradient) in of_weight.iter_mut().zip(input).zip(mean).zip(gradient) {
                *sum += *gradient * (*input - *mean);
            }
            parts::accumulate(gradient, of_bias);
        }
    }

    fn backward<T: Real>(input: &[T], gradient: &[T], mean: &[T], by_channel: [&[T]; 3], of_input: &mut [T]) {
        let width = mean.len();
        let [factor, slope, level] = by_channel.map(|values| &values[..width]);
        let places = input.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(of_input.chunks_exact_mut(width));
        for ((input, gradient), of_input) in places {
            for channel in 0..width {
                of_input[channel] = gradient[channel] * factor[channel]
                    - (input[channel] - mean[channel]) * slope[channel]
                    - level[channel];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::{Case, check_training, compare};
    use crate::graph::operation::Saved;

    #[test]
    fn gradients() {
        for dims in [&[3, 2][..], &[4], &[2, 2, 3]] {
            let inputs = [Shape::reals(dims)];
            check_training(&batch_norm(0.9, 1e-3, &inputs).unwrap(), &inputs);
        }
    }

    /// By hand: the values 1, 3 and 8 have mean 4 and squares 9 + 1 + 16 around it.
    #[test]
    fn statistics_are_what_the_batch_says_times_its_share() {
        let inputs = [Shape::reals(&[1])];
        let built = batch_norm(0.9, 1e-3, &inputs).unwrap();
        let mut case = Case::new(&built, &inputs, 3);
        case.inputs[0] = vec![1.0, 3.0, 8.0];
        // These rows are three out of seven.
        let step = case.run(&case.inputs, &case.parameters, &mut Saved::default(), |_| true);
        assert!((step.parameters[2][0] - 4.0 * 3.0 / 7.0).abs() < 1e-12);
        assert!((step.parameters[3][0] - 13.0 * 3.0 / 7.0).abs() < 1e-12);
        case.parameters = vec![vec![2.0], vec![1.0], vec![4.0], vec![13.0]];
        let scored = case.forward(Pass::Inference, &case.inputs, &case.parameters, &mut Saved::default());
        let expect = [-3.0, -1.0, 4.0].map(|off: f64| 1.0 + 2.0 * off / 13.001f64.sqrt());
        assert!(scored.iter().zip(expect).all(|(got, expect): (&f64, f64)| (got - expect).abs() < 1e-12));
    }

    #[test]
    fn a_single_value_keeps_the_variance_that_stands() {
        let inputs = [Shape::reals(&[2])];
        let built = batch_norm(0.9, 1e-3, &inputs).unwrap();
        let mut case = Case::new(&built, &inputs, 1);
        case.parameters[3] = vec![0.5, 7.0];
        let step = case.run(&case.inputs, &case.parameters, &mut Saved::default(), |_| true);
        let near = |what, got: &[f64], expect: &[f64]| compare(what, got, expect, 1e-12);
        near("a fifth of what stands", &step.parameters[3], &[0.1, 1.4]);
        near("what is left of a single value is the shift", &step.output, &case.parameters[1]);
        near("its gradient", step.inputs[0].as_ref().unwrap(), &[0.0; 2]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |momentum, epsilon| batch_norm(momentum, epsilon, &[Shape::reals(&[3])]).unwrap_err();
        assert_eq!(of(1.0, 1e-3), "momentum must be at least 0 and below 1, not 1");
        assert_eq!(of(0.9, -1.0), "epsilon must be above zero, not -1");
    }
}
