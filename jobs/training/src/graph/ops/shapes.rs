//! What inputs an operation takes, and the words for what it does not. They follow the name of the layer and a colon.

use crate::graph::operation::{Kind, Shape};

/// As in `[28, 28, 1]` or `ids [4] below 100`.
pub fn text(shape: &Shape) -> String {
    match shape.kind {
        Kind::Reals => format!("{:?}", shape.dims),
        Kind::Ids { size } => format!("ids {:?} below {size}", shape.dims),
    }
}

/// The dimensions of the only input, which must be numbers.
pub fn only(inputs: &[Shape]) -> Result<&[usize], String> {
    match inputs {
        [input] => reals(input),
        _ => Err(format!("it reads one input, not {}", inputs.len())),
    }
}

/// The dimensions of the only input, which must be so many.
pub fn only_with<'a, const N: usize>(form: &str, inputs: &'a [Shape]) -> Result<&'a [usize; N], String> {
    let dims = only(inputs)?;
    dims.try_into().map_err(|_| format!("it reads {form}, not {dims:?}"))
}

/// The product of all dimensions of the only input but the last, and the last.
pub fn places_and_channels(inputs: &[Shape]) -> Result<(usize, usize), String> {
    match only(inputs)?.split_last() {
        Some((channels, places)) => Ok((places.iter().product(), *channels)),
        None => Err("it reads [..., channels], not a single number".to_string()),
    }
}

pub fn reals(input: &Shape) -> Result<&[usize], String> {
    if input.kind != Kind::Reals {
        return Err(format!("it reads numbers, not {}; put an embedding before it", text(input)));
    }
    if input.dims.contains(&0) {
        return Err(format!("it cannot read {:?}: a dimension is zero", input.dims));
    }
    Ok(&input.dims)
}

/// For a setting that must not be zero.
pub fn positive(setting: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{setting} must be at least 1")) } else { Ok(()) }
}

/// For the number that keeps a division by a variance from that by zero.
pub fn epsilon(value: f64) -> Result<(), String> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("epsilon must be above zero, not {value}")) }
}
