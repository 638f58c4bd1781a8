//! Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates), a whole sequence as one operation.
//!
//! Gates stand in the order of PyTorch: input, forget, cell, output, in the columns of `input_weight` [n, 4 units] and
//! `hidden_weight` [units, 4 units] (PyTorch's matrices transposed) and of `bias`, which is the sum of PyTorch's two. The state
//! starts at zero. Each thread takes its rows through all steps, so threads never wait for each other within a step; within
//! a part steps come first and rows second, so that what a step reads and writes lies together.

use super::{parts, recurrent};
use crate::graph::activate::sigmoid;
use crate::graph::lanes::lanes;
use crate::graph::matrix::{Matrix, Onto, multiply_scaled};
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;

/// `[length, n]` to `[units]`, the last step's output, or `[length, units]` with all steps'.
pub fn lstm(units: usize, sequences: bool, inputs: &[Shape]) -> Result<Built, String> {
    let (sequence, output) = recurrent::sequence(units, sequences, inputs)?;
    let parameters = recurrent::parameters(&sequence, 4, &["bias"]);
    Ok(Built { output, parameters, kernel: Box::new(Lstm(sequence)) })
}

#[derive(Debug)]
struct Lstm(recurrent::Sequence);

impl Lstm {
    fn rows_of_part(&self, rows: usize) -> usize {
        let Self(s) = self;
        parts::rows_of_part(rows, s.length * (s.inputs + s.units) * 4 * s.units)
    }
}

/// The order of what is kept: the weights of both inputs as one matrix, then by row and step what went in (the input and the
/// state before), the gates, the cells and their hyperbolic tangents.
impl<T: Real> Operation<T> for Lstm {
    fn forward(&self, call: Forward<'_, T>) {
        let Self(s) = self;
        let Forward { rows, inputs, parameters, output, saved, .. } = call;
        let [input_weight, hidden_weight, bias] = parameters else { unreachable!("an LSTM has three parameters") };
        let input = inputs[0].reals();
        let of_part = self.rows_of_part(rows);
        let (both, gates) = (s.inputs + s.units, 4 * s.units);
        let widths = [both, gates, s.units, s.units].map(|width| s.length * width);
        let [w0, w1, w2, w3] = widths.map(|width| rows * width);
        let [weight, joined, gated, cells, tangents] =
            parts::arrays(&mut saved.reals, T::zero(), [both * gates, w0, w1, w2, w3]);
        weight[..s.inputs * gates].copy_from_slice(input_weight);
        weight[s.inputs * gates..].copy_from_slice(hidden_weight);
        let weight = Matrix::new(weight, both, gates);
        let by_row =
            [(output, s.output()), (joined, widths[0]), (gated, widths[1]), (cells, widths[2]), (tangents, widths[3])];
        parts::for_each(rows, of_part, by_row, [], |row, [output, joined, gated, cells, tangents], []| {
            let rows = output.len() / s.output();
            let input = &input[row * s.input()..][..rows * s.input()];
            joined.fill(T::zero());
            s.by_step(input, joined, both);
            for step in 0..s.length {
                let joined_now = &joined[step * rows * both..][..rows * both];
                let gated = &mut gated[step * rows * gates..][..rows * gates];
                gated.chunks_exact_mut(gates).for_each(|gates| gates.copy_from_slice(bias));
                multiply_scaled((gated, gates), Onto::Add, T::one(), Matrix::new(joined_now, rows, both), weight, 1);
                let (before, now) = cells.split_at_mut(step * rows * s.units);
                let before = &before[(step.max(1) - 1) * rows * s.units..];
                let tangents = &mut tangents[step * rows * s.units..][..rows * s.units];
                remember(s.units, gated, before, &mut now[..rows * s.units], tangents);
                if step + 1 < s.length {
                    let next = &mut joined[(step + 1) * rows * both + s.inputs..];
                    expose(s.units, gated, tangents, next, both);
                }
                if let Some((start, stride)) = s.place_in_output(step) {
                    expose(s.units, gated, tangents, &mut output[start..], stride);
                }
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Self(s) = self;
        let Backward { rows, saved, gradient, input_gradients, parameter_gradients, .. } = call;
        let of_part = self.rows_of_part(rows);
        let parts = parts::count(rows, of_part);
        let (both, gates) = (s.inputs + s.units, 4 * s.units);
        let widths = [both, gates, s.units, s.units].map(|width| s.length * width);
        let [w0, w1, w2, w3] = widths.map(|width| rows * width);
        let states = rows * s.units;
        let sums = [parts * both * gates, parts * gates, parts * gates];
        let lens = [both * gates, w0, w1, w2, w3, both * gates, states, states, sums[0], sums[1], sums[2]];
        let [weight, joined, gated, cells, tangents, turned, of_state, of_cell, of_weight, of_bias, of_block] =
            parts::arrays(&mut saved.reals, T::zero(), lens);
        recurrent::transpose(weight, gates, turned);
        let turned = &*turned;
        let (joined, cells, tangents, gradient) = (&*joined, &*cells, &*tangents, &*gradient);
        let asked = input_gradients[0].is_some();
        let of_input = input_gradients[0].as_deref_mut().unwrap_or_default();
        let by_row = [
            (of_input, if asked { s.input() } else { 0 }),
            (gated, widths[1]),
            (of_state, s.units),
            (of_cell, s.units),
        ];
        let by_part = [(&mut *of_weight, both * gates), (&mut *of_bias, gates), (of_block, gates)];
        parts::for_each(rows, of_part, by_row, by_part, |row, [of_input, gated, of_state, of_cell], sums| {
            let [of_weight, of_bias, of_block] = sums;
            let rows = of_state.len() / s.units;
            let gradient = &gradient[row * s.output()..][..rows * s.output()];
            of_state.fill(T::zero());
            of_cell.fill(T::zero());
            for step in (0..s.length).rev() {
                s.add_gradient(step, gradient, of_state);
                let gated = &mut gated[step * rows * gates..][..rows * gates];
                let before = if step == 0 { &[][..] } else { s.of_step(cells, (row, rows), s.units, step - 1) };
                forget(s.units, s.of_step(tangents, (row, rows), s.units, step), before, of_state, of_cell, gated);
                let of_gates = Matrix::new(gated, rows, gates);
                if step > 0 {
                    let hidden = Matrix::strided(&turned[s.inputs..], (gates, s.units), both);
                    multiply_scaled((of_state, s.units), Onto::Overwrite, T::one(), of_gates, hidden, 1);
                }
                if asked {
                    let fed = Matrix::strided(turned, (gates, s.inputs), both);
                    let into = (&mut of_input[step * s.inputs..], s.input());
                    multiply_scaled(into, Onto::Overwrite, T::one(), of_gates, fed, 1);
                }
            }
            let all = s.length * rows;
            let joined = Matrix::new(&joined[row * widths[0]..][..all * both], all, both);
            let of_gates = Matrix::new(gated, all, gates);
            multiply_scaled((of_weight, gates), Onto::Overwrite, T::one(), joined.transposed(), of_gates, 1);
            of_bias.fill(T::zero());
            parts::add_rows(gated, of_bias, of_block);
        });
        // The sum goes where the weights were: the next forward pass lays them out anew.
        parts::add_up(of_weight, weight);
        let (fed, hidden) = weight.split_at(s.inputs * gates);
        parameter_gradients[0].whole().copy_from_slice(fed);
        parameter_gradients[1].whole().copy_from_slice(hidden);
        parts::add_up(of_bias, parameter_gradients[2].whole());
    }
}

lanes! {
    /// Takes the gates' activations and the cells from those before, which are zero in the first step (an empty slice).
    fn remember<T: Real>(units: usize, gates: &mut [T], before: &[T], cells: &mut [T], tangents: &mut [T]) {
        let rows = gates.chunks_exact_mut(4 * units).zip(cells.chunks_exact_mut(units));
        for (row, ((gates, cells), tangents)) in rows.zip(tangents.chunks_exact_mut(units)).enumerate() {
            let (sigmoids, rest) = gates.split_at_mut(2 * units);
            let (cell_gate, output_gate) = rest.split_at_mut(units);
            sigmoids.iter_mut().for_each(|x| *x = sigmoid(*x));
            cell_gate.iter_mut().for_each(|x| *x = x.tanh());
            output_gate.iter_mut().for_each(|x| *x = sigmoid(*x));
            let (input_gate, forget_gate) = sigmoids.split_at(units);
            for ((cell, input_gate), cell_gate) in cells.iter_mut().zip(input_gate).zip(&*cell_gate) {
                *cell = *input_gate * *cell_gate;
            }
            if let Some(before) = before.get(row * units..(row + 1) * units) {
                for ((cell, forget_gate), before) in cells.iter_mut().zip(forget_gate).zip(before) {
                    *cell += *forget_gate * *before;
                }
            }
            for (tangent, cell) in tangents.iter_mut().zip(&*cells) {
                *tangent = cell.tanh();
            }
        }
    }

    /// Output gate times tangent, into rows that are `stride` values apart.
    fn expose<T: Real>(units: usize, gates: &[T], tangents: &[T], into: &mut [T], stride: usize) {
        let rows = gates.chunks_exact(4 * units).zip(tangents.chunks_exact(units));
        for ((gates, tangents), into) in rows.zip(into.chunks_mut(stride)) {
            for ((into, gate), tangent) in into.iter_mut().zip(&gates[3 * units..]).zip(tangents) {
                *into = *gate * *tangent;
            }
        }
    }

    /// Turns gates into their gradients (before the activation) and the gradient of the cells into that of those before.
    fn forget<T: Real>(
        units: usize,
        tangents: &[T],
        before: &[T],
        of_state: &[T],
        of_cell: &mut [T],
        gates: &mut [T],
    ) {
        let one = T::one();
        let rows = gates.chunks_exact_mut(4 * units).zip(of_cell.chunks_exact_mut(units));
        let states = of_state.chunks_exact(units).zip(tangents.chunks_exact(units));
        for (row, ((gates, of_cell), (of_state, tangents))) in rows.zip(states).enumerate() {
            let (input, rest) = gates.split_at_mut(units);
            let (forget, rest) = rest.split_at_mut(units);
            let (cell, output) = rest.split_at_mut(units);
            let before = before.get(row * units..(row + 1) * units);
            for at in 0..units {
                let (i, f, g, o, t) = (input[at], forget[at], cell[at], output[at], tangents[at]);
                let of_cell_now = of_cell[at] + of_state[at] * o * (one - t * t);
                output[at] = of_state[at] * t * o * (one - o);
                input[at] = of_cell_now * g * i * (one - i);
                cell[at] = of_cell_now * i * (one - g * g);
                of_cell[at] = of_cell_now * f;
                // Times the cell before, below.
                forget[at] = of_cell_now * f * (one - f);
            }
            match before {
                Some(before) => forget.iter_mut().zip(before).for_each(|(forget, before)| *forget *= *before),
                None => forget.fill(T::zero()),
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
        for (length, sequences) in [(1, false), (3, false), (4, true)] {
            let inputs = [Shape::reals(&[length, 2])];
            let built = lstm(3, sequences, &inputs).unwrap();
            let expect: &[usize] = if sequences { &[length, 3] } else { &[3] };
            assert_eq!(built.output, Shape::reals(expect));
            check(&built, &inputs);
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(lstm(3, false, &[Shape::reals(&[3])]).unwrap_err(), "it reads [length, n], not [3]");
        assert_eq!(lstm(0, false, &[Shape::reals(&[3, 2])]).unwrap_err(), "units must be at least 1");
    }
}
