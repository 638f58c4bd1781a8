//! Several inputs as one: added element by element, or side by side.

use super::{parts, shapes};
use crate::graph::lanes::lanes;
use crate::graph::operation::{Backward, Built, Forward, Operation, Shape};
use crate::real::Real;

/// Inputs of one shape, added.
pub fn add(inputs: &[Shape]) -> Result<Built, String> {
    let (first, _) = all(inputs)?;
    if let Some(other) = inputs.iter().find(|input| input.dims != first.dims) {
        return Err(format!("it reads inputs of one shape, not {:?} and {:?}", first.dims, other.dims));
    }
    Ok(Built { output: first.clone(), parameters: Vec::new(), kernel: Box::new(Add) })
}

/// Inputs side by side along the last dimension.
pub fn concat(inputs: &[Shape]) -> Result<Built, String> {
    let (first, widths) = all(inputs)?;
    let outer = &first.dims[..first.dims.len() - 1];
    if let Some(other) = inputs.iter().find(|input| &input.dims[..input.dims.len() - 1] != outer) {
        return Err(format!(
            "it reads inputs that differ in the last dimension only, not {:?} and {:?}",
            first.dims, other.dims
        ));
    }
    let mut dims = first.dims.clone();
    dims[outer.len()] = widths.iter().sum();
    Ok(Built { output: Shape::reals(&dims), parameters: Vec::new(), kernel: Box::new(Concat { widths }) })
}

/// The first input and the last dimension of each.
fn all(inputs: &[Shape]) -> Result<(&Shape, Vec<usize>), String> {
    let [first, _, ..] = inputs else {
        return Err(format!("it reads two inputs or more, not {}", inputs.len()));
    };
    let widths = inputs.iter().map(|input| {
        let dims = shapes::reals(input)?;
        dims.last().copied().ok_or_else(|| "it reads [..., n], not a single number".to_string())
    });
    Ok((first, widths.collect::<Result<_, _>>()?))
}

#[derive(Debug)]
struct Add;

impl<T: Real> Operation<T> for Add {
    fn forward(&self, call: Forward<'_, T>) {
        let [first, rest @ ..] = call.inputs else { unreachable!("add was built with two inputs") };
        let width = call.output.len() / call.rows.max(1);
        let of_part = parts::rows_of_part(call.rows, width);
        parts::for_each(call.rows, of_part, [(call.output, width)], [], |row, [output], []| {
            let piece = row * width..row * width + output.len();
            sum(&first.reals()[piece.clone()], &rest[0].reals()[piece.clone()], output);
            for input in &rest[1..] {
                plus(&input.reals()[piece.clone()], output);
            }
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        for of_input in call.input_gradients.iter_mut().flatten() {
            of_input.copy_from_slice(call.gradient);
        }
    }
}

lanes! {
    fn sum<T: Real>(left: &[T], right: &[T], out: &mut [T]) {
        for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
            *out = *left + *right;
        }
    }

    fn plus<T: Real>(values: &[T], out: &mut [T]) {
        parts::accumulate(values, out);
    }
}

#[derive(Debug)]
struct Concat {
    widths: Vec<usize>,
}

impl Concat {
    fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// Each input's width and the column it starts at.
    fn columns(&self) -> impl Iterator<Item = (usize, usize)> {
        self.widths.iter().scan(0, |end, width| {
            *end += width;
            Some((*width, *end - width))
        })
    }
}

impl<T: Real> Operation<T> for Concat {
    fn forward(&self, call: Forward<'_, T>) {
        for (input, (width, start)) in call.inputs.iter().zip(self.columns()) {
            let places = call.output.chunks_exact_mut(self.width()).zip(input.reals().chunks_exact(width));
            places.for_each(|(output, values)| output[start..start + width].copy_from_slice(values));
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        for (of_input, (width, start)) in call.input_gradients.iter_mut().zip(self.columns()) {
            if let Some(of_input) = of_input {
                let places = call.gradient.chunks_exact(self.width()).zip(of_input.chunks_exact_mut(width));
                places.for_each(|(gradient, values)| values.copy_from_slice(&gradient[start..start + width]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradient_check::check;
    use crate::graph::operation::Kind;

    #[test]
    fn gradients() {
        let inputs = [Shape::reals(&[2, 3]), Shape::reals(&[2, 3]), Shape::reals(&[2, 3])];
        check(&add(&inputs[..2]).unwrap(), &inputs[..2]);
        check(&add(&inputs).unwrap(), &inputs);
        let inputs = [Shape::reals(&[2, 3]), Shape::reals(&[2, 1]), Shape::reals(&[2, 4])];
        let built = concat(&inputs).unwrap();
        assert_eq!(built.output, Shape::reals(&[2, 8]));
        check(&built, &inputs);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let of = |dims: [&[usize]; 2]| dims.map(Shape::reals);
        assert_eq!(add(&of([&[2, 3], &[3, 2]])).unwrap_err(), "it reads inputs of one shape, not [2, 3] and [3, 2]");
        assert_eq!(
            concat(&of([&[2, 3], &[3, 3]])).unwrap_err(),
            "it reads inputs that differ in the last dimension only, not [2, 3] and [3, 3]"
        );
        assert_eq!(add(&[Shape::reals(&[2])]).unwrap_err(), "it reads two inputs or more, not 1");
        let ids = Shape { kind: Kind::Ids { size: 9 }, dims: vec![3] };
        assert_eq!(
            concat(&[Shape::reals(&[2]), ids]).unwrap_err(),
            "it reads numbers, not ids [3] below 9; put an embedding before it"
        );
    }
}
