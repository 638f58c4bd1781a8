//! Sums of rows by row number: what many places of a batch, or many ranks, say about the rows of one table.
//!
//! Invariant: rows stand in the order in which they were first added, and each is summed in the order of adding, so the sums are
//! the same bits whenever the same is added in the same order. Neither sorts nor hashes: for each row of the table it is
//! remembered where in the sums it might stand, which is believed only if the sums have that row there (Briggs and Torczon
//! 1993), so nothing is ever cleared.

use crate::graph::operation::RowGradients;
use crate::real::Real;

/// Places of the rows of one table; of as many numbers as the table has rows.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<u32>);

impl Places {
    /// For a table of `rows` rows.
    pub fn of(rows: usize) -> Self {
        Self(vec![0; rows])
    }

    /// Whether the table has this row.
    pub fn has(&self, row: u32) -> bool {
        (row as usize) < self.0.len()
    }
}

/// Where `row` stands among `rows`, after putting it there if it is new.
#[inline(always)]
pub fn place(places: &mut [u32], rows: &mut Vec<u32>, row: u32) -> (usize, bool) {
    let place = &mut places[row as usize];
    if rows.get(*place as usize) == Some(&row) {
        return (*place as usize, false);
    }
    *place = rows.len() as u32;
    rows.push(row);
    (rows.len() - 1, true)
}

/// Adds `values`, of one row each, to `sums`.
pub fn add<T: Real>(sums: &mut RowGradients<T>, places: &mut Places, rows: &[u32], values: &[T]) {
    if rows.is_empty() {
        return;
    }
    let width = values.len() / rows.len();
    for (row, values) in rows.iter().zip(values.chunks_exact(width)) {
        let (at, new) = place(&mut places.0, &mut sums.rows, *row);
        if new {
            sums.values.extend_from_slice(values);
        } else {
            for (sum, value) in sums.values[at * width..(at + 1) * width].iter_mut().zip(values) {
                *sum += *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn sums_are_those_of_a_map(
            batches in prop::collection::vec(prop::collection::vec((0u32..9, -8i32..8), 0..20), 1..6)
        ) {
            let mut places = Places::of(9);
            let mut sums = RowGradients::<f64>::default();
            for batch in batches {
                sums.rows.clear();
                sums.values.clear();
                let mut expect: BTreeMap<u32, f64> = BTreeMap::new();
                let mut first: Vec<u32> = Vec::new();
                for (row, value) in &batch {
                    if !first.contains(row) {
                        first.push(*row);
                    }
                    *expect.entry(*row).or_default() += f64::from(*value);
                    let value = f64::from(*value);
                    add(&mut sums, &mut places, &[*row], &[value, 2.0 * value]);
                }
                prop_assert_eq!(&sums.rows, &first);
                for (row, values) in sums.rows.iter().zip(sums.values.chunks_exact(2)) {
                    prop_assert_eq!(values, &[expect[row], 2.0 * expect[row]]);
                }
            }
        }
    }
}
