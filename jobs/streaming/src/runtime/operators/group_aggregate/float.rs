//! Sums and averages of floats that rows can be taken out of again.
//!
//! A plain sum drifts: after adding and taking away 1e20 a 1 is gone. Here a sum is two floats, the second holding what the
//! first rounded off, some 106 bits together: exact for all values that lie within 2^53 of each other. NaN, the
//! infinities, and values so large that a sum of them could overflow on the way, would stay in a sum for ever; they are
//! counted, or summed up scaled down, beside it.

use super::state::{EntryPart, PART_ENTRIES, Rows, State, kept, marked, mask, only, primitive};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Finite values from here on are summed up apart; 2^64 smaller ones cannot overflow.
const LARGE: f64 = f64::from_bits((1023 + 958) << 52);
/// What large values are scaled by, 2^-64, exactly.
const LARGE_SCALE: f64 = f64::from_bits((1023 - 64) << 52);
/// A remainder this small, against the greatest value ever added, is rounding: 2^-80.
const ROUNDING: f64 = f64::from_bits((1023 - 80) << 52);

/// A sum as a float and what it rounded off.
#[derive(Clone, Copy, Debug, Default)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    #[inline]
    fn add(&mut self, value: f64) {
        // Knuth's sum without error, then the parts put back in order.
        let sum = self.high + value;
        let taken = sum - self.high;
        let error = (self.high - (sum - taken)) + (value - taken) + self.low;
        self.high = sum + error;
        self.low = error - (self.high - sum);
    }
}

/// What a plain sum cannot give back.
#[derive(Clone, Copy, Debug, Default)]
struct Special {
    nan: i64,
    infinite: i64,
    negative_infinite: i64,
    /// Scaled by [`LARGE_SCALE`].
    large: Double,
    n_large: i64,
}

impl Special {
    fn add(&mut self, value: f64, weight: i64) {
        match value {
            value if value.is_nan() => self.nan += weight,
            f64::INFINITY => self.infinite += weight,
            f64::NEG_INFINITY => self.negative_infinite += weight,
            value => {
                self.large.add(value * LARGE_SCALE * weight as f64);
                self.n_large += weight;
            }
        }
    }

    fn is_empty(&self) -> bool {
        (self.nan, self.infinite, self.negative_infinite, self.n_large) == (0, 0, 0, 0) && self.large.high == 0.0
    }

    fn total(&self, rest: f64) -> f64 {
        match (self.nan != 0, self.infinite != 0, self.negative_infinite != 0) {
            (true, _, _) | (_, true, true) => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => (self.large.high + rest * LARGE_SCALE) / LARGE_SCALE,
        }
    }
}

#[derive(Debug)]
pub struct FloatSum {
    average: bool,
    sums: Vec<Double>,
    /// The greatest magnitude in the sum so far.
    greatest: Vec<f64>,
    /// Values that are not null.
    counts: Vec<i64>,
    /// By group, where there are any.
    special: BTreeMap<usize, Special>,
}

impl FloatSum {
    /// `average`: instead of the sum.
    pub fn new(average: bool) -> Self {
        Self { average, sums: Vec::new(), greatest: Vec::new(), counts: Vec::new(), special: BTreeMap::new() }
    }

    fn value(&self, group: usize) -> Option<f64> {
        let count = self.counts[group];
        if count == 0 {
            return None;
        }
        let sum = self.sums[group].high;
        let sum = self.special.get(&group).map_or(sum, |special| special.total(sum));
        Some(if self.average { sum / count as f64 } else { sum })
    }
}

impl State for FloatSum {
    fn grow(&mut self, n_groups: usize) {
        self.sums.resize(n_groups, Double::default());
        self.greatest.resize(n_groups, 0.0);
        self.counts.resize(n_groups, 0);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let values = primitive::<Float64Type>(only(arguments)?)?.values();
        let mask = mask(filters[0], arguments);
        rows.each(mask.as_ref(), |group, row, weight| {
            let value = values[row];
            self.counts[group] += weight;
            // False for NaN as well.
            if value.abs() < LARGE {
                self.greatest[group] = self.greatest[group].max(value.abs());
                self.sums[group].add(value * weight as f64);
                return;
            }
            let special = self.special.entry(group).or_default();
            special.add(value, weight);
            if special.is_empty() {
                self.special.remove(&group);
            }
        });
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let values: Float64Array = groups.iter().map(|group| self.value(*group)).collect();
        Ok(vec![Arc::new(values)])
    }

    fn holds(&self, group: usize) -> bool {
        self.counts[group] != 0
            || self.sums[group].high.abs() > self.greatest[group] * ROUNDING
            || self.special.contains_key(&group)
    }

    fn clear(&mut self, group: usize) {
        self.sums[group] = Double::default();
        self.greatest[group] = 0.0;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.sums = kept(&self.sums, groups);
        self.greatest = kept(&self.greatest, groups);
        self.counts = kept(&self.counts, groups);
        let special = |(now, group): (usize, &usize)| Some((now, *self.special.get(group)?));
        self.special = groups.iter().enumerate().filter_map(special).collect();
    }

    fn forget(&mut self, gone: &[bool]) {
        for group in marked(gone) {
            self.clear(group);
            self.counts[group] = 0;
            self.special.remove(&group);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<Double>()
            + (self.greatest.capacity() + self.counts.capacity()) * size_of::<i64>()
            + self.special.len() * 2 * size_of::<(usize, Special)>()
    }

    fn types(&self) -> Vec<DataType> {
        vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let of = |value: fn(&Double) -> f64| -> ArrayRef {
            Arc::new(groups.iter().map(|group| Some(value(&self.sums[*group]))).collect::<Float64Array>())
        };
        Ok(vec![
            of(|sum| sum.high),
            of(|sum| sum.low),
            Arc::new(Float64Array::from(kept(&self.greatest, groups))),
            Arc::new(Int64Array::from(kept(&self.counts, groups))),
        ])
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let [high, low, greatest, counts] = columns else {
            return Err(DataFusionError::Internal(format!("{} columns of a sum of floats", columns.len())));
        };
        let (high, low) = (primitive::<Float64Type>(high)?, primitive::<Float64Type>(low)?);
        let (greatest, counts) = (primitive::<Float64Type>(greatest)?, primitive::<Int64Type>(counts)?);
        for (row, group) in groups.iter().enumerate() {
            self.sums[*group] = Double { high: high.value(row), low: low.value(row) };
            self.greatest[*group] = greatest.value(row);
            self.counts[*group] = counts.value(row);
        }
        Ok(())
    }

    fn entry_types(&self) -> Vec<DataType> {
        let counts = [DataType::Int64, DataType::Int64, DataType::Int64, DataType::Int64];
        counts.into_iter().chain([DataType::Float64, DataType::Float64]).collect()
    }

    fn save_entries(&self, groups: &[usize], part: &mut EntryPart<'_>) -> Result<()> {
        if self.special.is_empty() {
            return Ok(());
        }
        let found = |(at, group): (usize, &usize)| Some((at as u32, self.special.get(group)?));
        let found: Vec<(u32, &Special)> = groups.iter().enumerate().filter_map(found).collect();
        for found in found.chunks(PART_ENTRIES) {
            let count = |of: fn(&Special) -> i64| -> ArrayRef {
                Arc::new(found.iter().map(|(_, special)| Some(of(special))).collect::<Int64Array>())
            };
            let float = |of: fn(&Special) -> f64| -> ArrayRef {
                Arc::new(found.iter().map(|(_, special)| Some(of(special))).collect::<Float64Array>())
            };
            let columns = vec![
                count(|special| special.nan),
                count(|special| special.infinite),
                count(|special| special.negative_infinite),
                count(|special| special.n_large),
                float(|special| special.large.high),
                float(|special| special.large.low),
            ];
            part(found.iter().map(|(at, _)| *at).collect(), columns)?;
        }
        Ok(())
    }

    fn load_entries(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let [nan, infinite, negative_infinite, n_large, high, low] = columns else {
            return Err(DataFusionError::Internal(format!("{} columns beside a sum of floats", columns.len())));
        };
        let (nan, infinite) = (primitive::<Int64Type>(nan)?, primitive::<Int64Type>(infinite)?);
        let (negative_infinite, n_large) =
            (primitive::<Int64Type>(negative_infinite)?, primitive::<Int64Type>(n_large)?);
        let (high, low) = (primitive::<Float64Type>(high)?, primitive::<Float64Type>(low)?);
        for (row, group) in groups.iter().enumerate() {
            let special = Special {
                nan: nan.value(row),
                infinite: infinite.value(row),
                negative_infinite: negative_infinite.value(row),
                large: Double { high: high.value(row), low: low.value(row) },
                n_large: n_large.value(row),
            };
            self.special.insert(*group, special);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: &[(f64, i8)]) -> (Option<f64>, bool) {
        let mut sum = FloatSum::new(false);
        sum.grow(1);
        let values: ArrayRef = Arc::new(rows.iter().map(|(value, _)| Some(*value)).collect::<Float64Array>());
        let weights: Vec<i8> = rows.iter().map(|(_, weight)| *weight).collect();
        let groups = vec![0; rows.len()];
        sum.update(Rows { groups: &groups, weights: Some(&weights) }, &[values], &[None]).expect("floats");
        (sum.value(0), sum.holds(0))
    }

    #[test]
    fn nothing_stays_of_what_was_taken_back() {
        assert_eq!(run(&[(1.0, 1), (1e20, 1), (1e20, -1)]).0, Some(1.0));
        assert_eq!(run(&[(0.1, 1), (f64::NAN, 1), (f64::NAN, -1)]).0, Some(0.1));
        assert_eq!(run(&[(0.1, 1), (f64::INFINITY, -1), (f64::INFINITY, 1)]).0, Some(0.1));
        assert_eq!(run(&[(2.0, 1), (f64::MAX, 1), (f64::MAX, 1), (f64::MAX, -1), (f64::MAX, -1)]).0, Some(2.0));
        assert_eq!(run(&[(f64::MAX, 1), (f64::MAX, 1), (f64::MAX, -1)]).0, Some(f64::MAX));
        assert_eq!(run(&[(f64::MAX, 1), (f64::MAX, 1)]).0, Some(f64::INFINITY));
        assert!(run(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 1)]).0.expect("a value").is_nan());
        let values: Vec<f64> = (0..1000).map(|at| (f64::from(at) * 0.37).exp2() / 3.0).collect();
        let both = |weight: i8| values.iter().map(move |value| (*value, weight));
        assert_eq!(run(&both(1).chain(both(-1)).collect::<Vec<_>>()), (None, false));
    }
}
