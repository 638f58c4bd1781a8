//! What the recurrent layers share: shapes, parameters, and the ways between rows and steps.

use super::{parts, shapes};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Initial, Parameter, Role, Shape};
use crate::real::Real;

#[derive(Debug)]
pub struct Sequence {
    pub length: usize,
    /// Values that go in at a step.
    pub inputs: usize,
    pub units: usize,
    /// Whether all steps come out.
    pub sequences: bool,
}

/// `[length, n]` to `[units]` or `[length, units]`.
pub fn sequence(units: usize, sequences: bool, inputs: &[Shape]) -> Result<(Sequence, Shape), String> {
    let [length, inputs] = *shapes::only_with::<2>("[length, n]", inputs)?;
    shapes::positive("units", units)?;
    let output = if sequences { Shape::reals(&[length, units]) } else { Shape::reals(&[units]) };
    Ok((Sequence { length, inputs, units, sequences }, output))
}

/// `input_weight`, `hidden_weight` and biases, for so many gates; within the bounds that PyTorch starts with.
pub fn parameters(sequence: &Sequence, gates: usize, biases: &[&'static str]) -> Vec<Parameter> {
    let width = gates * sequence.units;
    let initial = Initial::Uniform(1.0 / (sequence.units as f64).sqrt());
    let weight = |name, inputs| Parameter { name, dims: vec![inputs, width], initial, role: Role::Weight };
    let bias = |name: &&'static str| Parameter {
        name,
        dims: vec![width],
        initial: Initial::Constant(0.0),
        role: Role::Weight,
    };
    let weights = [weight("input_weight", sequence.inputs), weight("hidden_weight", sequence.units)];
    weights.into_iter().chain(biases.iter().map(bias)).collect()
}

impl Sequence {
    /// Values of a row that go in.
    pub fn input(&self) -> usize {
        self.length * self.inputs
    }

    /// Values of a row that come out.
    pub fn output(&self) -> usize {
        if self.sequences { self.length * self.units } else { self.units }
    }

    /// Where the first row's output of a step lies, and how far it is to the next row's; nowhere for steps that do not come out.
    pub fn place_in_output(&self, step: usize) -> Option<(usize, usize)> {
        match (self.sequences, step + 1 == self.length) {
            (true, _) => Some((step * self.units, self.output())),
            (false, true) => Some((0, self.units)),
            (false, false) => None,
        }
    }

    /// Adds the gradient of what came out at a step to that of the state.
    pub fn add_gradient<T: Real>(&self, step: usize, gradient: &[T], of_state: &mut [T]) {
        if let Some((start, stride)) = self.place_in_output(step) {
            add_strided(&gradient[start..], stride, self.units, of_state);
        }
    }

    /// What an array, with parts one after the other, holds for a step of the part that begins at `first` and has `rows` rows.
    pub fn of_step<'a, T>(&self, array: &'a [T], (first, rows): (usize, usize), width: usize, step: usize) -> &'a [T] {
        &array[(first * self.length + step * rows) * width..][..rows * width]
    }

    /// Copies inputs, which have their steps row by row, to the front of each `width` values, row by row within steps.
    pub fn by_step<T: Real>(&self, input: &[T], into: &mut [T], width: usize) {
        let rows = input.len() / self.input();
        for (row, input) in input.chunks_exact(self.input()).enumerate() {
            for (step, input) in input.chunks_exact(self.inputs).enumerate() {
                into[(step * rows + row) * width..][..self.inputs].copy_from_slice(input);
            }
        }
    }
}

lanes! {
    fn add_strided<T: Real>(from: &[T], stride: usize, width: usize, into: &mut [T]) {
        for (from, into) in from.chunks(stride).zip(into.chunks_exact_mut(width)) {
            parts::accumulate(from, into);
        }
    }
}

/// `into` becomes the transpose of a matrix of so many columns.
pub fn transpose<T: Real>(matrix: &[T], columns: usize, into: &mut [T]) {
    let rows = matrix.len() / columns;
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            into[column * rows + row] = *value;
        }
    }
}
