//! Rows of a table, by whole number: one vector for each id, or their sum or mean.
//!
//! The gradient holds the rows that the batch names and no others, so its size is that of the batch and not of the table.

use crate::graph::operation::{
    Backward, Built, Forward, Gradient, Initial, Kind, Operation, Parameter, Role, Saved, Shape,
};
use crate::graph::parallel::over_rows;
use crate::graph::rows::place;
use crate::real::Real;
use jobs::train::Combine;

#[derive(Debug)]
struct Embedding {
    vocabulary: usize,
    units: usize,
    combine: Combine,
}

/// Keras draws the first rows from -0.05..0.05 whatever the size of the table.
const FIRST: f64 = 0.05;

pub fn embedding(vocabulary: usize, units: usize, combine: Combine, inputs: &[Shape]) -> Result<Built, String> {
    let [input] = inputs else { return Err(format!("it reads one input, not {}", inputs.len())) };
    let Kind::Ids { size } = input.kind else {
        return Err("it reads ids, not numbers".to_string());
    };
    if units == 0 {
        return Err("it has no units".to_string());
    }
    if size > vocabulary || u32::try_from(vocabulary).is_err() {
        return Err(format!("its input has ids below {size}, its vocabulary is {vocabulary}"));
    }
    let dims = match combine {
        Combine::None => [&input.dims[..], &[units]].concat(),
        Combine::Sum | Combine::Mean => {
            let (count, outer) = input.dims.split_last().ok_or("its input has no dimension")?;
            if *count == 0 {
                return Err("its input has no ids".to_string());
            }
            [outer, &[units]].concat()
        }
    };
    let table =
        Parameter { name: "table", dims: vec![vocabulary, units], initial: Initial::Uniform(FIRST), role: Role::Table };
    let kernel = Box::new(Embedding { vocabulary, units, combine });
    Ok(Built { output: Shape::reals(&dims), parameters: vec![table], kernel })
}

impl Embedding {
    /// Ids that make one vector of the output, and what their sum is multiplied with.
    fn group<T: Real>(&self, ids: usize, output: usize) -> (usize, T) {
        let count = (ids * self.units).checked_div(output).unwrap_or(1);
        match self.combine {
            Combine::Mean => (count, T::from_f64(1.0 / count as f64)),
            Combine::None | Combine::Sum => (count, T::one()),
        }
    }
}

#[inline(always)]
fn gather<T: Real, const N: usize>(table: &[T], ids: &[u32], count: usize, scale: T, output: &mut [T]) {
    for (ids, output) in ids.chunks_exact(count).zip(output.chunks_exact_mut(N)) {
        let mut sum = [T::zero(); N];
        for id in ids {
            for (sum, value) in sum.iter_mut().zip(&table[*id as usize * N..(*id as usize + 1) * N]) {
                *sum += *value;
            }
        }
        for (output, sum) in output.iter_mut().zip(sum) {
            *output = sum * scale;
        }
    }
}

fn gather_any<T: Real>(table: &[T], units: usize, ids: &[u32], count: usize, scale: T, output: &mut [T]) {
    match units {
        1 => gather::<T, 1>(table, ids, count, scale, output),
        4 => gather::<T, 4>(table, ids, count, scale, output),
        8 => gather::<T, 8>(table, ids, count, scale, output),
        16 => gather::<T, 16>(table, ids, count, scale, output),
        32 => gather::<T, 32>(table, ids, count, scale, output),
        _ => {
            for (ids, output) in ids.chunks_exact(count).zip(output.chunks_exact_mut(units)) {
                output.fill(T::zero());
                for id in ids {
                    let row = &table[*id as usize * units..(*id as usize + 1) * units];
                    output.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
                }
                output.iter_mut().for_each(|sum| *sum *= scale);
            }
        }
    }
}

/// The vector of output that each id belongs to is added to the sum of its row.
#[inline(always)]
fn scatter<T: Real, const N: usize>(
    places: &mut [u32],
    (rows, sums): (&mut Vec<u32>, &mut Vec<T>),
    (ids, count): (&[u32], usize),
    scale: T,
    gradient: &[T],
) {
    for (ids, gradient) in ids.chunks_exact(count).zip(gradient.chunks_exact(N)) {
        for id in ids {
            let (at, new) = place(places, rows, *id);
            if new {
                sums.extend(gradient.iter().map(|value| *value * scale));
            } else {
                for (sum, value) in sums[at * N..(at + 1) * N].iter_mut().zip(gradient) {
                    *sum += *value * scale;
                }
            }
        }
    }
}

impl<T: Real> Operation<T> for Embedding {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { inputs, parameters, output, .. } = call;
        let (ids, table) = (inputs[0].ids(), parameters[0]);
        let (count, scale) = self.group::<T>(ids.len(), output.len());
        over_rows(output, self.units, |first, part| {
            let ids = &ids[first * count..][..part.len() / self.units * count];
            gather_any(table, self.units, ids, count, scale, part);
        });
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Backward { inputs, saved, gradient, parameter_gradients, .. } = call;
        let Some(Gradient::Rows(into)) = parameter_gradients.first_mut() else {
            panic!("a table has gradients of rows");
        };
        let ids = inputs[0].ids();
        let (count, scale) = self.group::<T>(ids.len(), gradient.len());
        let places = Saved::id_array(saved, 0, self.vocabulary);
        into.rows.clear();
        into.values.clear();
        let (sums, ids) = ((&mut into.rows, &mut into.values), (ids, count));
        match self.units {
            1 => scatter::<T, 1>(places, sums, ids, scale, gradient),
            4 => scatter::<T, 4>(places, sums, ids, scale, gradient),
            8 => scatter::<T, 8>(places, sums, ids, scale, gradient),
            16 => scatter::<T, 16>(places, sums, ids, scale, gradient),
            32 => scatter::<T, 32>(places, sums, ids, scale, gradient),
            units => {
                let ((rows, sums), (ids, count)) = (sums, ids);
                for (ids, gradient) in ids.chunks_exact(count).zip(gradient.chunks_exact(units)) {
                    for id in ids {
                        let (at, new) = place(places, rows, *id);
                        if new {
                            sums.extend(gradient.iter().map(|value| *value * scale));
                        } else {
                            let sum = &mut sums[at * units..(at + 1) * units];
                            sum.iter_mut().zip(gradient.iter()).for_each(|(sum, value)| *sum += *value * scale);
                        }
                    }
                }
            }
        }
    }
}
