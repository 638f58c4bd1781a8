//! The same values under other dimensions: no operation, a graph only gives the array another shape.

use super::shapes;
use crate::graph::operation::Shape;

/// All dimensions as one.
pub fn flatten(inputs: &[Shape]) -> Result<Shape, String> {
    let dims = shapes::only(inputs)?;
    Ok(Shape::reals(&[dims.iter().product()]))
}

pub fn reshape(dims: &[usize], inputs: &[Shape]) -> Result<Shape, String> {
    let from = shapes::only(inputs)?;
    let (values, wanted) = (inputs[0].size(), dims.iter().product::<usize>());
    if values != wanted {
        return Err(format!("{dims:?} has {wanted} values, but its input {from:?} has {values}"));
    }
    Ok(Shape::reals(dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_change_and_values_do_not() {
        let input = [Shape::reals(&[2, 3, 2])];
        assert_eq!(flatten(&input), Ok(Shape::reals(&[12])));
        assert_eq!(reshape(&[4, 3], &input), Ok(Shape::reals(&[4, 3])));
    }

    #[test]
    fn values_must_be_as_many() {
        let refused = reshape(&[4, 4], &[Shape::reals(&[2, 3, 2])]).unwrap_err();
        assert_eq!(refused, "[4, 4] has 16 values, but its input [2, 3, 2] has 12");
    }
}
