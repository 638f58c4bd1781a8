//! Which rows of a batch belong to which pane.
//!
//! Invariant: a row is late when a window that would hold it is settled, whatever else becomes of the row.

use super::shape::{Shape, TIME_LIMIT_US};
use crate::runtime::operators::stateful::Output;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// By the start of a pane its rows, without those that no window takes any more: those whose windows have all ended at or
/// before `settled_us`.
pub fn assign(
    batch: &RecordBatch,
    time: usize,
    shape: Shape,
    settled_us: i64,
    out: &mut Output,
) -> Result<BTreeMap<i64, Vec<u32>>> {
    let times = batch.column(time);
    let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Err(DataFusionError::Execution(format!("event time is of type {}", times.data_type())));
    };
    if let Some(pane) = only_pane(times, shape, settled_us) {
        return Ok(BTreeMap::from([(pane, (0..times.len() as u32).collect())]));
    }
    let mut rows_by_pane: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    let mut last: Option<(Pane, Vec<u32>)> = None;
    let mut late: Vec<u32> = Vec::new();
    for row in 0..times.len() {
        let time = times.value(row);
        if times.is_null(row) || !VALID.contains(&time) {
            out.n_timeless += 1;
            continue;
        }
        // Neighbours mostly fall into one pane: only when it changes is there anything to compute.
        let (pane, rows) = match &mut last {
            Some(same) if same.0.times.contains(&time) => same,
            _ => {
                if let Some((pane, rows)) = last.take() {
                    rows_by_pane.insert(pane.times.start, rows);
                }
                let pane = Pane::of(time, shape, settled_us);
                let rows = rows_by_pane.remove(&pane.times.start).unwrap_or_default();
                last.insert((pane, rows))
            }
        };
        if pane.is_late {
            late.push(row as u32);
        }
        if pane.is_taken {
            rows.push(row as u32);
        }
    }
    rows_by_pane.extend(last.map(|(pane, rows)| (pane.times.start, rows)));
    rows_by_pane.retain(|_, rows| !rows.is_empty());
    out.come_late(batch, late)?;
    Ok(rows_by_pane)
}

/// Event times that are not taken for mistakes.
const VALID: Range<i64> = -TIME_LIMIT_US..TIME_LIMIT_US;

struct Pane {
    times: Range<i64>,
    /// A window that holds it takes rows.
    is_taken: bool,
    /// A window that holds it takes none any more.
    is_late: bool,
}

impl Pane {
    fn of(time: i64, shape: Shape, settled_us: i64) -> Self {
        let start = shape.pane_of(time);
        let holds = shape.holds(start);
        Self {
            times: start..start + shape.pane_width(),
            is_taken: holds && shape.last_end(start) > settled_us,
            is_late: holds && shape.first_end(start) <= settled_us,
        }
    }
}

/// The pane of all rows, if there is one and none of them is late.
fn only_pane(times: &TimestampMicrosecondArray, shape: Shape, settled_us: i64) -> Option<i64> {
    let (first, last) = (min(times)?, max(times)?);
    if times.null_count() > 0 || !VALID.contains(&first) || !VALID.contains(&last) {
        return None;
    }
    let pane = Pane::of(first, shape, settled_us);
    (pane.times.contains(&last) && pane.is_taken && !pane.is_late).then_some(pane.times.start)
}

/// A column of one time.
pub fn times(data_type: &DataType, time_us: i64, n_rows: usize) -> ArrayRef {
    let times = TimestampMicrosecondArray::from(vec![time_us; n_rows]);
    match data_type {
        DataType::Timestamp(_, zone) => Arc::new(times.with_timezone_opt(zone.clone())),
        _ => Arc::new(times),
    }
}
