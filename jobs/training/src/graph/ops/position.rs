//! A learned vector for each place of a sequence, added.

use super::{parts, shapes};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Backward, Built, Forward, Initial, Operation, Parameter, Role, Shape};
use crate::real::Real;

/// `[length, n]` to the same; `weight` is `[length, n]`.
pub fn position(inputs: &[Shape]) -> Result<Built, String> {
    let dims = shapes::only_with::<2>("[length, n]", inputs)?;
    // The deviation that GPT-2 starts with.
    let initial = Initial::Normal(0.02);
    let parameters = vec![Parameter { name: "weight", dims: dims.to_vec(), initial, role: Role::Weight }];
    Ok(Built { output: inputs[0].clone(), parameters, kernel: Box::new(Position) })
}

#[derive(Debug)]
struct Position;

impl<T: Real> Operation<T> for Position {
    fn forward(&self, call: Forward<'_, T>) {
        let weight = call.parameters[0];
        let input = call.inputs[0].reals();
        let width = weight.len();
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(call.output, width)], [], |row, [output], []| {
            for (output, input) in output.chunks_exact_mut(width).zip(input[row * width..].chunks_exact(width)) {
                shifted(input, weight, output);
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        parts::add_up(call.gradient, call.parameter_gradients[0].whole());
        if let Some(of_input) = &mut call.input_gradients[0] {
            of_input.copy_from_slice(call.gradient);
        }
    }
}

lanes! {
    fn shifted<T: Real>(input: &[T], weight: &[T], output: &mut [T]) {
        for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
            *output = *input + *weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::check;

    #[test]
    fn gradients() {
        let inputs = [Shape::reals(&[3, 4])];
        check(&position(&inputs).unwrap(), &inputs);
    }

    #[test]
    fn it_reads_sequences() {
        let refused = position(&[Shape::reals(&[3])]).unwrap_err();
        assert_eq!(refused, "it reads [length, n], not [3]");
    }
}
