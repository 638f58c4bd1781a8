//! Rows of a table, by whole number: one vector for each id, or their sum or mean.
//!
//! The gradient holds the rows that the batch names and no others, so its size is that of the batch and not of the table. Threads
//! share the table, each a part of its rows: a row is summed by one thread, in the order of the batch, so the sums are the same
//! bits for any number of threads; only the order in which rows stand differs.

use crate::graph::operation::{
    Backward, Built, Forward, Gradient, Initial, Kind, Operation, Parameter, Role, RowGradients, Saved, Shape,
};
use crate::graph::parallel::{SHARED_FROM, over_costly_rows};
use crate::graph::rows::place;
use crate::pages;
use crate::real::Real;
use jobs::train::Combine;
use rayon::prelude::*;
use std::mem::take;

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

/// What one part of the table has to do with a batch.
struct Part<'a, T> {
    /// The first row, and the places of the rows from there on.
    start: usize,
    places: &'a mut [u32],
    /// Ids of this part, each with the number of its vector of output.
    named: &'a mut Vec<u32>,
    sums: &'a mut RowGradients<T>,
}

impl<T: Real> Part<'_, T> {
    /// Finds the ids that lie here. There is no branch in it: whether one does is as good as random.
    fn find(&mut self, ids: &[u32], count: usize) {
        self.named.resize(2 * ids.len() + 2, 0);
        let (start, len) = (self.start as u32, self.places.len() as u32);
        let mut found = 0;
        for (group, ids) in ids.chunks_exact(count).enumerate() {
            for id in ids {
                self.named[found] = *id;
                self.named[found + 1] = group as u32;
                found += 2 * usize::from(id.wrapping_sub(start) < len);
            }
        }
        self.named.truncate(found);
    }

    /// Adds the vector of output that each id belongs to, times `scale`, to the sum of its row. `UNITS` is how long it is where
    /// the compiler is to know it, or 0.
    #[inline(always)]
    fn add<const UNITS: usize>(&mut self, units: usize, scale: T, gradient: &[T]) {
        let units = if UNITS > 0 { UNITS } else { units };
        let RowGradients { rows, values } = &mut *self.sums;
        // Of the largest length that there can be, and cut at the end: nothing grows on the way.
        let mut len = 0;
        rows.resize(self.named.len() / 2, 0);
        values.resize(self.named.len() / 2 * units, T::zero());
        for named in self.named.chunks_exact(2) {
            let (id, group) = (named[0], named[1] as usize);
            let gradient = &gradient[group * units..(group + 1) * units];
            let (at, new) = place(&mut self.places[id as usize - self.start], rows, &mut len, id);
            let sum = &mut values[at * units..(at + 1) * units];
            if new {
                sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum = *value * scale);
            } else {
                sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += *value * scale);
            }
        }
        rows.truncate(len);
        values.truncate(len * units);
    }

    fn add_any(&mut self, units: usize, scale: T, gradient: &[T]) {
        match units {
            1 => self.add::<1>(units, scale, gradient),
            8 => self.add::<8>(units, scale, gradient),
            16 => self.add::<16>(units, scale, gradient),
            32 => self.add::<32>(units, scale, gradient),
            _ => self.add::<0>(units, scale, gradient),
        }
    }
}

/// What a lookup costs beside passing over a value: its row is rarely in a near cache.
const LOOKUP: usize = 8;

impl<T: Real> Operation<T> for Embedding {
    fn forward(&self, call: Forward<'_, T>) {
        let Forward { inputs, parameters, output, .. } = call;
        let (ids, table) = (inputs[0].ids(), parameters[0]);
        let (count, scale) = self.group::<T>(ids.len(), output.len());
        over_costly_rows(output, self.units, count * (self.units + LOOKUP), |first, part| {
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
        let threads = rayon::current_num_threads();
        let parts = if ids.len() * (self.units + LOOKUP) < SHARED_FROM { 1 } else { threads };
        // The places of the table's rows, then for each part what it is named by, and for each but the first its sums.
        let Saved { reals, ids: kept } = saved;
        reals.resize_with(parts, Vec::new);
        kept.resize_with(1 + 2 * parts, Vec::new);
        let (places, kept) = kept.split_at_mut(1);
        if places[0].len() != self.vocabulary {
            places[0] = pages::filled(self.vocabulary, 0);
        }
        let mut others: Vec<RowGradients<T>> = (1..parts)
            .map(|part| RowGradients { rows: take(&mut kept[parts + part]), values: take(&mut reals[part]) })
            .collect();
        let of_part = self.vocabulary.div_ceil(parts);
        let work: Vec<Part<'_, T>> = places[0]
            .chunks_mut(of_part)
            .zip(kept.iter_mut())
            .zip(std::iter::once(&mut **into).chain(&mut others))
            .enumerate()
            .map(|(index, ((places, named), sums))| Part { start: index * of_part, places, named, sums })
            .collect();
        let gradient = &*gradient;
        let one = |mut part: Part<'_, T>| {
            part.find(ids, count);
            part.add_any(self.units, scale, gradient);
        };
        if parts == 1 {
            work.into_iter().for_each(one);
        } else {
            work.into_par_iter().for_each(one);
        }
        for (part, RowGradients { rows, values }) in (1..).zip(others) {
            into.rows.extend_from_slice(&rows);
            into.values.extend_from_slice(&values);
            (kept[parts + part], reals[part]) = (rows, values);
        }
    }
}
