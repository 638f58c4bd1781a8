//! What a call makes of the rows of each group.

use super::layout::Source;
use super::rows::{Rows, Sorted};
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{Array, ArrayRef, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::sync::Arc;

#[derive(Debug)]
pub enum Finish {
    /// The first argument of one row.
    Pick(Pick),
    /// The first arguments of all rows.
    List,
    /// What DataFusion's accumulator gives, which gets the rows in order.
    Call(Arc<AggregateFunctionExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pick {
    /// Counted from 1 on, or from the end by numbers below zero.
    Nth(i64),
    /// The first one that has this share of the rows up to itself.
    Share(f64),
    /// The first one of those whose first argument comes most often.
    MostOften,
}

impl Finish {
    /// The results of the first `n` groups.
    pub fn results(&self, rows: &mut Rows, n: usize, data_type: &DataType) -> Result<ArrayRef> {
        let sorted = rows.sorted()?;
        let results = match self {
            Self::Pick(pick) => picked(*pick, rows, &sorted, n)?,
            Self::List => lists(rows, &sorted, n, data_type)?,
            Self::Call(call) => called(call, rows, &sorted, n)?,
        };
        Ok(if results.data_type() == data_type { results } else { cast(&results, data_type)? })
    }
}

/// Where the first argument is kept.
fn first_argument(rows: &Rows) -> Result<usize> {
    match rows.layout.sources.first() {
        Some(Source::Kept(at)) => Ok(*at),
        _ => Err(DataFusionError::Internal("an aggregate in an order without arguments".into())),
    }
}

fn picked(pick: Pick, rows: &Rows, sorted: &Sorted, n: usize) -> Result<ArrayRef> {
    let values = &sorted.columns[first_argument(rows)?];
    let keys = match pick {
        Pick::MostOften if !sorted.rows.is_empty() => Some(rows.layout.keys(&sorted.columns)?),
        _ => None,
    };
    let of_group = |(start, end): (usize, usize)| -> Option<u32> {
        let of_group = &sorted.rows[start..end];
        let place = match pick {
            Pick::Nth(0) => None,
            Pick::Nth(n @ 1..) => usize::try_from(n - 1).ok(),
            Pick::Nth(n) => usize::try_from(n.unsigned_abs()).ok().and_then(|n| of_group.len().checked_sub(n)),
            Pick::Share(share) => Some(((share * of_group.len() as f64).ceil() as usize).saturating_sub(1)),
            Pick::MostOften => keys.as_ref().map(|keys| longest_run(of_group, |a, b| keys.row(a) == keys.row(b))),
        };
        place.and_then(|place| of_group.get(place).copied())
    };
    let places: UInt32Array = sorted.ranges().take(n).map(of_group).collect();
    Ok(take(values, &places, None)?)
}

/// Where the longest run of equal rows begins, the first of several.
fn longest_run(rows: &[u32], equal: impl Fn(usize, usize) -> bool) -> usize {
    let (mut longest, mut start) = ((0, 0), 0);
    for at in 1..=rows.len() {
        if at == rows.len() || !equal(rows[at - 1] as usize, rows[at] as usize) {
            if at - start > longest.1 {
                longest = (start, at - start);
            }
            start = at;
        }
    }
    longest.0
}

fn lists(rows: &Rows, sorted: &Sorted, n: usize, data_type: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = data_type else {
        return Err(DataFusionError::Internal(format!("a list of rows as {data_type}")));
    };
    let lengths: Vec<usize> = sorted.ranges().take(n).map(|(start, end)| end - start).collect();
    let some = lengths.iter().map(|length| *length > 0).collect();
    let values = sorted.column(first_argument(rows)?)?;
    let n_rows = lengths.iter().sum();
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(Arc::clone(field), offsets, values.slice(0, n_rows), Some(NullBuffer::new(some)))?;
    Ok(Arc::new(list))
}

fn called(call: &Arc<AggregateFunctionExpr>, rows: &Rows, sorted: &Sorted, n: usize) -> Result<ArrayRef> {
    let mut accumulator: Box<dyn GroupsAccumulator> = match call.groups_accumulator_supported() {
        true => call.create_groups_accumulator()?,
        false => {
            let call = Arc::clone(call);
            Box::new(GroupsAccumulatorAdapter::new(move || call.create_accumulator()))
        }
    };
    let n_wanted = rows.layout.n_arguments + call.order_bys().len();
    let n_rows = sorted.rows.len();
    let argument = |source: &Source| match source {
        Source::Kept(at) => sorted.column(*at),
        Source::Literal(value) => value.to_array_of_size(n_rows),
    };
    let arguments = rows.layout.sources[..n_wanted].iter().map(argument).collect::<Result<Vec<_>>>()?;
    // Accumulators take it that each group has a row: those without any are none of theirs.
    let (mut groups, mut n_filled) = (Vec::with_capacity(n_rows), 0);
    let mut places: Vec<Option<u32>> = Vec::with_capacity(n);
    for (start, end) in sorted.ranges() {
        groups.extend(std::iter::repeat_n(n_filled, end - start));
        places.push((end > start).then_some(n_filled as u32));
        n_filled += usize::from(end > start);
    }
    for start in (0..n_rows).step_by(BATCH_ROWS) {
        let length = BATCH_ROWS.min(n_rows - start);
        let some: Vec<ArrayRef> = arguments.iter().map(|argument| argument.slice(start, length)).collect();
        accumulator.update_batch(&some, &groups[start..start + length], None, n_filled)?;
    }
    places.truncate(n);
    let empty = call.create_accumulator()?.evaluate()?.to_array()?;
    if n_filled == 0 {
        return Ok(take(&empty, &UInt32Array::from(vec![0; places.len()]), None)?);
    }
    let results = accumulator.evaluate(EmitTo::All)?;
    if places.iter().enumerate().all(|(at, place)| *place == Some(at as u32)) {
        return Ok(results.slice(0, places.len()));
    }
    let empty = if empty.data_type() == results.data_type() { empty } else { cast(&empty, results.data_type())? };
    let results = concat(&[results.as_ref(), empty.as_ref()])?;
    let places: UInt32Array = places.into_iter().map(|place| Some(place.unwrap_or(n_filled as u32))).collect();
    Ok(take(&results, &places, None)?)
}

/// The only value of a result.
pub fn only(results: &ArrayRef) -> Result<ScalarValue> {
    ScalarValue::try_from_array(results, 0)
}
