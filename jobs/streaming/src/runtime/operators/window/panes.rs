//! Which rows of a batch belong to which pane.
//!
//! Invariant: a row is late when a window that would hold it is settled, whatever else becomes of the row.

use super::shape::{Shape, TIME_LIMIT_US};
use crate::runtime::operators::stateful::Output;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
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
    let mut rows_by_pane: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    let mut last: Option<(i64, Vec<u32>)> = None;
    let mut late: Vec<u32> = Vec::new();
    for row in 0..times.len() {
        let time = times.value(row);
        if times.is_null(row) || !(-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time) {
            out.n_timeless += 1;
            continue;
        }
        let pane = shape.pane_of(time);
        if !shape.holds(pane) {
            continue;
        }
        if shape.first_end(pane) <= settled_us {
            late.push(row as u32);
        }
        if shape.last_end(pane) <= settled_us {
            continue;
        }
        // Neighbours mostly fall into one pane: the map is asked only when the pane changes.
        match &mut last {
            Some((start, rows)) if *start == pane => rows.push(row as u32),
            _ => {
                let rows = rows_by_pane.remove(&pane).unwrap_or_default();
                if let Some((start, rows)) = last.replace((pane, rows)) {
                    rows_by_pane.insert(start, rows);
                }
                if let Some((_, rows)) = &mut last {
                    rows.push(row as u32);
                }
            }
        }
    }
    rows_by_pane.extend(last);
    out.come_late(batch, late)?;
    Ok(rows_by_pane)
}

/// A column of one time.
pub fn times(data_type: &DataType, time_us: i64, n_rows: usize) -> ArrayRef {
    let times = TimestampMicrosecondArray::from(vec![time_us; n_rows]);
    match data_type {
        DataType::Timestamp(_, zone) => Arc::new(times.with_timezone_opt(zone.clone())),
        _ => Arc::new(times),
    }
}
