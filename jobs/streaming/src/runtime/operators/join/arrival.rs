//! The rows of one batch that can meet others.

use super::shape::Horizon;
use super::{Join, Side};
use crate::runtime::operators::changes;
use crate::runtime::operators::stateful::Output;
use crate::runtime::operators::window::TIME_LIMIT_US;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::{DataFusionError, Result};

#[derive(Debug, Default)]
pub struct Arrival {
    /// Without weights.
    pub columns: Vec<ArrayRef>,
    pub n_rows: usize,
    /// By row; empty where every row is there once.
    pub weights: Vec<i64>,
    /// By row: event time, where there are bounds; where there is a time to live, the moment at which it is forgotten.
    pub times: Vec<i64>,
    /// By row: the group of its key.
    pub groups: Vec<usize>,
    /// By row: the sum of the weights of its matches. Empty where nobody asks.
    pub matches: Vec<i64>,
}

impl Arrival {
    pub fn weight(&self, row: usize) -> i64 {
        if self.weights.is_empty() { 1 } else { self.weights[row] }
    }

    pub fn matches(&self, row: usize) -> i64 {
        if self.matches.is_empty() { 0 } else { self.matches[row] }
    }

    pub fn gather(&self, rows: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let rows = UInt32Array::from(rows.to_vec());
        columns.iter().map(|column| Ok(take(&self.columns[*column], &rows, None)?)).collect()
    }

    pub fn columns(&self, columns: &[usize]) -> Vec<ArrayRef> {
        columns.iter().map(|column| ArrayRef::clone(&self.columns[*column])).collect()
    }

    pub fn select(&self, rows: &[u32]) -> Result<Self> {
        let some = |values: &[i64]| match values.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|row| values[*row as usize]).collect(),
        };
        let all: Vec<usize> = (0..self.columns.len()).collect();
        Ok(Self {
            columns: self.gather(rows, &all)?,
            n_rows: rows.len(),
            weights: some(&self.weights),
            times: some(&self.times),
            ..Self::default()
        })
    }
}

impl Join {
    /// Sorts out a batch: the rows that can meet others, and those that cannot because a key is null. What is late or
    /// has no event time is only counted.
    pub(super) fn admit(&self, side: usize, batch: &RecordBatch, out: &mut Output) -> Result<(Arrival, Arrival)> {
        let spec: &Side = self.spec.side(side);
        if batch.num_columns() != spec.schema.fields().len() {
            return Err(DataFusionError::Internal(format!(
                "a join of rows of {} is given {}",
                spec.schema,
                batch.schema()
            )));
        }
        let (columns, weights) = changes::split(batch, spec.changes)?;
        let weights = weights.map(|weights| weights.values().iter().map(|weight| i64::from(*weight)).collect());
        let n_rows = batch.num_rows();
        let mut all =
            Arrival { columns: columns.to_vec(), n_rows, weights: weights.unwrap_or_default(), ..Arrival::default() };
        all.times = self.moments(side, batch);
        let nulls = self.null_keys(side, &all);
        let times = self.shape.horizon.as_ref().map(|horizon| Times::of(horizon, side, &all)).transpose()?;
        if nulls.is_none() && times.is_none() {
            return Ok((all, Arrival::default()));
        }
        let (mut usable, mut keyless) = (Vec::with_capacity(n_rows), Vec::new());
        for row in 0..n_rows {
            if let Some(times) = &times {
                match times.at(row) {
                    // Null is within no bounds, so such a row meets none, like one whose key is null.
                    None if times.is_null(row) => {
                        keyless.push(row as u32);
                        continue;
                    }
                    None => {
                        out.n_timeless += 1;
                        continue;
                    }
                    Some(time_us) if times.horizon.is_late(side, time_us, self.watermark_us) => {
                        out.n_late += 1;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            match &nulls {
                Some(nulls) if nulls.is_null(row) => keyless.push(row as u32),
                _ => usable.push(row as u32),
            }
        }
        if let Some(times) = times {
            all.times = times.values.to_vec();
        }
        let keyless = if keyless.is_empty() { Arrival::default() } else { all.select(&keyless)? };
        let usable = if usable.len() == n_rows { all } else { all.select(&usable)? };
        Ok((usable, keyless))
    }

    /// Which rows have a null among their keys, where such rows meet none.
    fn null_keys(&self, side: usize, arrival: &Arrival) -> Option<NullBuffer> {
        if self.spec.join.nulls_equal {
            return None;
        }
        let keys = self.spec.keys(side).iter();
        keys.fold(None, |nulls, key| NullBuffer::union(nulls.as_ref(), arrival.columns[*key].logical_nulls().as_ref()))
    }
}

/// The event times of a batch.
struct Times<'a> {
    horizon: &'a Horizon,
    values: arrow::buffer::ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl<'a> Times<'a> {
    fn of(horizon: &'a Horizon, side: usize, arrival: &Arrival) -> Result<Self> {
        let column = &arrival.columns[horizon.times[side]];
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("event time is of type {}", column.data_type())));
        };
        Ok(Self { horizon, values: times.values().clone(), nulls: times.nulls().cloned() })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn at(&self, row: usize) -> Option<i64> {
        Some(self.values[row]).filter(|time_us| !self.is_null(row) && (-TIME_LIMIT_US..TIME_LIMIT_US).contains(time_us))
    }
}
