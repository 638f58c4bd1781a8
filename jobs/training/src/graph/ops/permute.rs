//! The dimensions of a row in another order.

use super::{parts, shapes};
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;

/// `order` says for each dimension of the output which of the input it is, from 1 as in Keras.
pub fn permute(order: &[usize], inputs: &[Shape]) -> Result<Built, String> {
    let dims = shapes::only(inputs)?;
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(1..=dims.len()) {
        return Err(format!("{order:?} is no order of the dimensions 1 to {} of {dims:?}", dims.len()));
    }
    let mut strides = vec![1; dims.len()];
    for at in (1..dims.len()).rev() {
        strides[at - 1] = strides[at] * dims[at];
    }
    // Outermost first: each dimension repeats what is there so far, a stride further each time.
    let mut from = vec![0u32];
    for dim in order {
        let (size, stride) = (dims[dim - 1], strides[dim - 1]);
        from = from.iter().flat_map(|place| (0..size).map(move |at| place + (at * stride) as u32)).collect();
    }
    let output = Shape::reals(&order.iter().map(|dim| dims[dim - 1]).collect::<Vec<_>>());
    Ok(Built { output, parameters: Vec::new(), kernel: Box::new(Permute { from }) })
}

#[derive(Debug)]
struct Permute {
    /// For each place of a row of the output, that in the input.
    from: Vec<u32>,
}

impl<T: Real> Operation<T> for Permute {
    fn forward(&self, call: Forward<'_, T>) {
        let (input, width) = (call.inputs[0].reals(), self.from.len());
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(call.output, width)], [], |row, [output], []| {
            for (output, input) in output.chunks_exact_mut(width).zip(input[row * width..].chunks_exact(width)) {
                for (value, from) in output.iter_mut().zip(&self.from) {
                    *value = input[*from as usize];
                }
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some(of_input) = &mut call.input_gradients[0] else { return };
        let (gradient, width) = (&*call.gradient, self.from.len());
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(of_input, width)], [], |row, [of_input], []| {
            for (into, gradient) in of_input.chunks_exact_mut(width).zip(gradient[row * width..].chunks_exact(width)) {
                for (gradient, from) in gradient.iter().zip(&self.from) {
                    into[*from as usize] = *gradient;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::{Case, check};
    use crate::graph::operation::Saved;

    #[test]
    fn gradients() {
        for order in [&[1, 2, 3][..], &[3, 1, 2], &[2, 3, 1], &[3, 2, 1]] {
            let inputs = [Shape::reals(&[2, 3, 4])];
            let built = permute(order, &inputs).unwrap();
            assert_eq!(built.output.dims, order.iter().map(|dim| dim + 1).collect::<Vec<_>>());
            check(&built, &inputs);
        }
    }

    #[test]
    fn rows_become_columns() {
        let inputs = [Shape::reals(&[2, 3])];
        let built = permute(&[2, 1], &inputs).unwrap();
        let case = Case::new(&built, &inputs, 1);
        let step = case.run(&[vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], &[], &mut Saved::default(), |_| true);
        assert_eq!(step.output, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |order: &[usize]| permute(order, &[Shape::reals(&[2, 3])]).unwrap_err();
        assert_eq!(of(&[1, 3]), "[1, 3] is no order of the dimensions 1 to 2 of [2, 3]");
        assert_eq!(of(&[1]), "[1] is no order of the dimensions 1 to 2 of [2, 3]");
        assert_eq!(of(&[1, 1]), "[1, 1] is no order of the dimensions 1 to 2 of [2, 3]");
    }
}
