//! Gated recurrent units (Cho et al. 2014), a whole sequence as one operation.
//!
//! As in PyTorch, and in Keras with `reset_after`: gates stand in the order reset, update, new, in the columns of
//! `input_weight` [n, 3 units] and `hidden_weight` [units, 3 units] (PyTorch's matrices transposed); the reset gate multiplies the
//! hidden product with its bias, so there are two biases. The state starts at zero. Threads and steps are as in [`super::lstm`].

use super::{parts, recurrent};
use crate::graph::activate::sigmoid;
use crate::graph::lanes::lanes;
use crate::graph::matrix::{Matrix, Onto, multiply_scaled};
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;

/// `[length, n]` to `[units]`, the last step's output, or `[length, units]` with all steps'.
pub fn gru(units: usize, sequences: bool, inputs: &[Shape]) -> Result<Built, String> {
    let (sequence, output) = recurrent::sequence(units, sequences, inputs)?;
    let parameters = recurrent::parameters(&sequence, 3, &["input_bias", "hidden_bias"]);
    Ok(Built { output, parameters, kernel: Box::new(Gru(sequence)) })
}

#[derive(Debug)]
struct Gru(recurrent::Sequence);

impl Gru {
    fn rows_of_part(&self, rows: usize) -> usize {
        let Self(s) = self;
        parts::rows_of_part(rows, s.length * (s.inputs + s.units) * 3 * s.units)
    }
}

/// The order of what is kept, by row and step: inputs, gates, hidden products, states (one more than steps).
impl<T: Real> Operation<T> for Gru {
    fn forward(&self, call: Forward<'_, T>) {
        let Self(s) = self;
        let Forward { rows, inputs, parameters, output, saved, .. } = call;
        let [input_weight, hidden_weight, input_bias, hidden_bias] = parameters else {
            unreachable!("a GRU has four parameters")
        };
        let input = inputs[0].reals();
        let width = 3 * s.units;
        let fed = Matrix::new(input_weight, s.inputs, width);
        let hidden = Matrix::new(hidden_weight, s.units, width);
        let widths = [s.input(), s.length * width, s.length * width, (s.length + 1) * s.units];
        let [ordered, gated, products, states] = parts::arrays(&mut saved.reals, T::zero(), widths.map(|w| rows * w));
        let by_row = [
            (output, s.output()),
            (ordered, widths[0]),
            (gated, widths[1]),
            (products, widths[2]),
            (states, widths[3]),
        ];
        parts::for_each(rows, self.rows_of_part(rows), by_row, [], |row, by_row, []| {
            let [output, ordered, gated, products, states] = by_row;
            let rows = output.len() / s.output();
            s.by_step(&input[row * s.input()..][..rows * s.input()], ordered, s.inputs);
            gated.chunks_exact_mut(width).for_each(|gates| gates.copy_from_slice(input_bias));
            let all = Matrix::new(ordered, s.length * rows, s.inputs);
            multiply_scaled((gated, width), Onto::Add, T::one(), all, fed, 1);
            products.chunks_exact_mut(width).for_each(|products| products.copy_from_slice(hidden_bias));
            states[..rows * s.units].fill(T::zero());
            for step in 0..s.length {
                let (before, now) = states.split_at_mut((step + 1) * rows * s.units);
                let before = &before[step * rows * s.units..];
                let now = &mut now[..rows * s.units];
                let gated = &mut gated[step * rows * width..][..rows * width];
                let products = &mut products[step * rows * width..][..rows * width];
                let state = Matrix::new(before, rows, s.units);
                multiply_scaled((products, width), Onto::Add, T::one(), state, hidden, 1);
                renew(s.units, gated, products, before, now);
                if let Some((start, stride)) = s.place_in_output(step) {
                    let places = output[start..].chunks_mut(stride).zip(now.chunks_exact(s.units));
                    places.for_each(|(output, state)| output[..s.units].copy_from_slice(state));
                }
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Self(s) = self;
        let Backward { rows, parameters, saved, gradient, input_gradients, parameter_gradients, .. } = call;
        let of_part = self.rows_of_part(rows);
        let parts = parts::count(rows, of_part);
        let width = 3 * s.units;
        let widths = [s.input(), s.length * width, s.length * width, (s.length + 1) * s.units];
        let [w0, w1, w2, w3] = widths.map(|width| rows * width);
        let (of_fed, of_hidden) = (s.inputs * width, s.units * width);
        let lens = [
            w0,
            w1,
            w2,
            w3,
            rows * s.units,
            of_fed,
            of_hidden,
            parts * of_fed,
            parts * of_hidden,
            parts * width,
            parts * width,
            parts * width,
        ];
        let [ordered, gated, products, states, of_state, fed, hidden, sums @ ..] =
            parts::arrays(&mut saved.reals, T::zero(), lens);
        recurrent::transpose(parameters[0], width, fed);
        recurrent::transpose(parameters[1], width, hidden);
        let fed = Matrix::new(fed, width, s.inputs);
        let hidden = Matrix::new(hidden, width, s.units);
        let (ordered, states, gradient) = (&*ordered, &*states, &*gradient);
        let asked = input_gradients[0].is_some();
        let of_input = input_gradients[0].as_deref_mut().unwrap_or_default();
        let by_row = [
            (of_input, if asked { s.input() } else { 0 }),
            (gated, widths[1]),
            (products, widths[2]),
            (of_state, s.units),
        ];
        let [fed_sums, hidden_sums, fed_bias, hidden_bias, blocks] = sums;
        let by_part = [
            (&mut *fed_sums, of_fed),
            (&mut *hidden_sums, of_hidden),
            (&mut *fed_bias, width),
            (&mut *hidden_bias, width),
            (blocks, width),
        ];
        parts::for_each(rows, of_part, by_row, by_part, |row, [of_input, gated, products, of_state], sums| {
            let [of_fed, of_hidden, of_fed_bias, of_hidden_bias, block] = sums;
            let rows = of_state.len() / s.units;
            let states = &states[row * widths[3]..][..rows * widths[3]];
            let gradient = &gradient[row * s.output()..][..rows * s.output()];
            of_state.fill(T::zero());
            for step in (0..s.length).rev() {
                s.add_gradient(step, gradient, of_state);
                let gated = &mut gated[step * rows * width..][..rows * width];
                let products = &mut products[step * rows * width..][..rows * width];
                undo(s.units, &states[step * rows * s.units..][..rows * s.units], gated, products, of_state);
                let of_products = Matrix::new(products, rows, width);
                multiply_scaled((of_state, s.units), Onto::Add, T::one(), of_products, hidden, 1);
                if asked {
                    let into = (&mut of_input[step * s.inputs..], s.input());
                    multiply_scaled(into, Onto::Overwrite, T::one(), Matrix::new(gated, rows, width), fed, 1);
                }
            }
            let all = s.length * rows;
            let inputs = Matrix::new(&ordered[row * widths[0]..][..all * s.inputs], all, s.inputs).transposed();
            let of_gates = Matrix::new(gated, all, width);
            multiply_scaled((of_fed, width), Onto::Overwrite, T::one(), inputs, of_gates, 1);
            let before = Matrix::new(&states[..all * s.units], all, s.units).transposed();
            let of_products = Matrix::new(products, all, width);
            multiply_scaled((of_hidden, width), Onto::Overwrite, T::one(), before, of_products, 1);
            of_fed_bias.fill(T::zero());
            parts::add_rows(gated, of_fed_bias, block);
            of_hidden_bias.fill(T::zero());
            parts::add_rows(products, of_hidden_bias, block);
        });
        let sums = [&*fed_sums, hidden_sums, fed_bias, hidden_bias];
        for (sums, gradient) in sums.into_iter().zip(parameter_gradients) {
            parts::add_up(sums, gradient.whole());
        }
    }
}

lanes! {
    /// Takes the gates' activations and the next state.
    fn renew<T: Real>(units: usize, gates: &mut [T], products: &[T], before: &[T], now: &mut [T]) {
        let rows = gates.chunks_exact_mut(3 * units).zip(products.chunks_exact(3 * units));
        let states = before.chunks_exact(units).zip(now.chunks_exact_mut(units));
        for ((gates, products), (before, now)) in rows.zip(states) {
            let (both, new) = gates.split_at_mut(2 * units);
            for (gate, product) in both.iter_mut().zip(products) {
                *gate = sigmoid(*gate + *product);
            }
            let (reset, update) = both.split_at(units);
            for ((new, reset), product) in new.iter_mut().zip(reset).zip(&products[2 * units..]) {
                *new = (*new + *reset * *product).tanh();
            }
            for (((now, before), update), new) in now.iter_mut().zip(before).zip(update).zip(&*new) {
                *now = *new + *update * (*before - *new);
            }
        }
    }

    /// Turns gates and hidden products into their gradients, and the gradient of a state into what of it goes past the gates to
    /// the state before.
    fn undo<T: Real>(units: usize, before: &[T], gates: &mut [T], products: &mut [T], of_state: &mut [T]) {
        let one = T::one();
        let rows = gates.chunks_exact_mut(3 * units).zip(products.chunks_exact_mut(3 * units));
        let states = before.chunks_exact(units).zip(of_state.chunks_exact_mut(units));
        for ((gates, products), (before, of_state)) in rows.zip(states) {
            let (reset, rest) = gates.split_at_mut(units);
            let (update, new) = rest.split_at_mut(units);
            let (of_both, product) = products.split_at_mut(2 * units);
            for at in 0..units {
                let (r, z, n, h) = (reset[at], update[at], new[at], of_state[at]);
                let of_new = h * (one - z) * (one - n * n);
                update[at] = h * (before[at] - n) * z * (one - z);
                new[at] = of_new;
                reset[at] = of_new * product[at] * r * (one - r);
                product[at] = of_new * r;
                of_state[at] = h * z;
            }
            of_both[..units].copy_from_slice(reset);
            of_both[units..].copy_from_slice(update);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::check;

    #[test]
    fn gradients() {
        for (length, sequences) in [(1, false), (3, false), (4, true)] {
            let inputs = [Shape::reals(&[length, 2])];
            let built = gru(3, sequences, &inputs).unwrap();
            let expect: &[usize] = if sequences { &[length, 3] } else { &[3] };
            assert_eq!(built.output, Shape::reals(expect));
            check(&built, &inputs);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(gru(3, true, &[Shape::reals(&[2, 3, 4])]).unwrap_err(), "it reads [length, n], not [2, 3, 4]");
        assert_eq!(gru(0, true, &[Shape::reals(&[3, 2])]).unwrap_err(), "units must be at least 1");
    }
}
