//! The dimensions of a row in another order.

use super::{parts, shapes};
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;

/// `order` says for each dimension of the output which of the input it is, from 1 as in Keras.
pub fn permute(order: &[usize], inputs: &[Shape]) -> Result<Built, String> {
    let dims = shapes::only(inputs)?;
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if order.is_empty() || !sorted.iter().copied().eq(1..=dims.len()) {
        return Err(format!("{order:?} is no order of the dimensions 1 to {} of {dims:?}", dims.len()));
    }
    let mut strides = vec![1; dims.len()];
    for at in (1..dims.len()).rev() {
        strides[at - 1] = strides[at] * dims[at];
    }
    let of = |values: &[usize]| order.iter().map(|dim| values[dim - 1]).collect::<Vec<usize>>();
    let kernel = Permute { sizes: of(dims), strides: of(&strides) };
    Ok(Built { output: Shape::reals(&kernel.sizes), parameters: Vec::new(), kernel: Box::new(kernel) })
}

/// Of each dimension of the output: its size, and how far apart its places are in the input.
#[derive(Debug)]
struct Permute {
    sizes: Vec<usize>,
    strides: Vec<usize>,
}

impl Permute {
    fn width(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Calls `visit` with the place in the input where each run of the output's last dimension begins, in order.
    fn runs(&self, mut visit: impl FnMut(usize)) {
        let outer = self.sizes.len() - 1;
        let mut at = vec![0; outer];
        let mut place = 0;
        loop {
            visit(place);
            let mut dim = outer;
            loop {
                if dim == 0 {
                    return;
                }
                dim -= 1;
                at[dim] += 1;
                place += self.strides[dim];
                if at[dim] < self.sizes[dim] {
                    break;
                }
                place -= at[dim] * self.strides[dim];
                at[dim] = 0;
            }
        }
    }

    /// Size and stride of the last dimension.
    fn last(&self) -> (usize, usize) {
        let last = self.sizes.len() - 1;
        (self.sizes[last], self.strides[last])
    }
}

impl<T: Real> Operation<T> for Permute {
    fn forward(&self, call: Forward<'_, T>) {
        let (input, width, (size, stride)) = (call.inputs[0].reals(), self.width(), self.last());
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(call.output, width)], [], |row, [output], []| {
            for (output, input) in output.chunks_exact_mut(width).zip(input[row * width..].chunks_exact(width)) {
                let mut runs = output.chunks_exact_mut(size);
                self.runs(|place| {
                    let values = input[place..].iter().step_by(stride);
                    runs.next().into_iter().flatten().zip(values).for_each(|(into, value)| *into = *value);
                });
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some(of_input) = &mut call.input_gradients[0] else { return };
        let (gradient, width, (size, stride)) = (&*call.gradient, self.width(), self.last());
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(of_input, width)], [], |row, [of_input], []| {
            for (into, gradient) in of_input.chunks_exact_mut(width).zip(gradient[row * width..].chunks_exact(width)) {
                let mut runs = gradient.chunks_exact(size);
                self.runs(|place| {
                    let values = runs.next().into_iter().flatten();
                    into[place..].iter_mut().step_by(stride).zip(values).for_each(|(into, value)| *into = *value);
                });
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
