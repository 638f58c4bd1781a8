//! The first rows of each key in the order of rising event time, where no row is ever taken back: each is said once, when
//! the watermark has passed it, for nothing comes before it any more.
//!
//! Rows wait by time. When they are due the first of them are said, as many as their key still lacks; of a key that lacks
//! none the last row that was said is kept, to tell those that come too late to be among the first from those that never
//! would have been.
//!
//! Invariant: what is said depends on rows and watermarks alone, not on batches, the number of slices, or a checkpoint and
//! restore in between.
//!
//! Snapshots: a key is touched when a row waits for it, and when rows of it are due.

use crate::dataflow::Order;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::{
    Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external,
};
use crate::runtime::operators::touched::{Selection, selects};
use crate::runtime::operators::window::{BATCH_ROWS, TIME_LIMIT_US};
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state's only table.
const ROWS: &str = "rows";

/// How the operator was planned; see `Operator::TopN`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    pub order: Vec<Order>,
    pub limit: usize,
    pub rank: bool,
    pub time: usize,
    pub input: SchemaRef,
    /// The input's columns, then the rank where it is asked for.
    pub output: SchemaRef,
}

/// What was said of one key.
#[derive(Debug, Default)]
struct Said {
    n: usize,
    /// The last of these rows.
    last: Option<RowBytes>,
}

impl Partition for Said {
    fn is_empty(&self) -> bool {
        self.n == 0
    }
}

/// A row that the watermark has not passed.
#[derive(Debug)]
struct Waiting {
    /// Of the key.
    hash: u64,
    /// Whether it is in a snapshot.
    saved: bool,
    row: RowBytes,
}

#[derive(Debug)]
pub struct Settled {
    spec: Spec,
    rows: Encoding,
    waiting: BTreeMap<i64, Vec<Waiting>>,
    partitions: Partitions<Said>,
    rows_bytes: usize,
    watermark_us: i64,
}

impl Settled {
    pub fn new(mut spec: Spec) -> Result<Self> {
        let rises = spec.order.first().is_some_and(|by| by.column == spec.time && !by.options.descending);
        if !rises {
            let text = format!("rows settle only in rising order of column {}: {:?}", spec.time, spec.order);
            return Err(DataFusionError::Plan(text));
        }
        // A column that comes a second time decides nothing.
        let mut seen = BTreeSet::new();
        spec.order.retain(|by| seen.insert(by.column));
        let types = spec.input.fields().iter().map(|field| field.data_type().clone()).collect();
        Ok(Self {
            rows: Encoding::new(types, &spec.order)?,
            waiting: BTreeMap::new(),
            partitions: Partitions::new(&spec.input, &spec.keys)?,
            rows_bytes: 0,
            watermark_us: i64::MIN,
            spec,
        })
    }

    fn keys_of(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect()
    }

    /// Says of rows whose time has come those that are among the first of their key.
    fn say(&mut self, due: &[RowBytes], out: &mut Output) -> Result<()> {
        let columns = self.rows.decode(due.iter().map(|row| &**row))?;
        let numbers = self.partitions.number(&self.keys_of(&columns), due.len())?;
        let mut order: Vec<(usize, usize)> = numbers.into_iter().zip(0..).collect();
        order.sort_unstable_by(|(number, at), (other, other_at)| {
            number.cmp(other).then_with(|| due[*at].cmp(&due[*other_at]))
        });
        let mut ranked: Vec<(&RowBytes, u64)> = Vec::new();
        for (number, at) in order {
            let said = self.partitions.touch(number);
            if said.n < self.spec.limit {
                said.n += 1;
                ranked.push((&due[at], said.n as u64));
                self.rows_bytes += bytes_of(&due[at]);
                if let Some(before) = said.last.replace(RowBytes::clone(&due[at])) {
                    self.rows_bytes -= bytes_of(&before);
                }
            }
        }
        for ranked in ranked.chunks(BATCH_ROWS) {
            let mut columns = self.rows.decode(ranked.iter().map(|(row, _)| &***row))?;
            if self.spec.rank {
                columns.push(Arc::new(ranked.iter().map(|(_, rank)| Some(*rank)).collect::<UInt64Array>()));
            }
            out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        }
        let dirty = self.partitions.take_dirty();
        self.partitions.settle(&dirty)
    }

    fn state_schema(&self) -> SchemaRef {
        // How many rows of its key were said up to this one; none if it waits.
        Arc::new(Schema::new(self.rows.stored_fields([Field::new("said", DataType::Int64, false)])))
    }
}

impl Stateful for Settled {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let column = batch.column(self.spec.time);
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("event time is of type {}", column.data_type())));
        };
        let keys = self.keys_of(batch.columns());
        let hashes = hash::hash_rows(&keys, batch.num_rows()).map_err(external)?;
        let numbers = self.partitions.number(&keys, batch.num_rows())?;
        let rows = self.rows.encode(batch.columns())?;
        for (row, number) in numbers.into_iter().enumerate() {
            let time = times.value(row);
            if times.is_null(row) || !(-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time) {
                out.n_timeless += 1;
                continue;
            }
            let bytes = rows.row(row).data();
            let said = self.partitions.get(number);
            if said.n >= self.spec.limit && said.last.as_deref().is_some_and(|last| last <= bytes) {
                continue;
            }
            if time < self.watermark_us {
                out.n_late += 1;
                continue;
            }
            let row = Waiting { hash: hashes[row], saved: false, row: RowBytes::from(bytes) };
            self.rows_bytes += bytes_of(&row.row);
            self.waiting.entry(time).or_default().push(row);
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        let later = self.waiting.split_off(&watermark_us);
        let due = std::mem::replace(&mut self.waiting, later);
        let due: Vec<RowBytes> = due.into_values().flatten().map(|waiting| waiting.row).collect();
        self.rows_bytes -= due.iter().map(|row| bytes_of(row)).sum::<usize>();
        if due.is_empty() { Ok(()) } else { self.say(&due, out) }
    }

    fn output_watermark_us(&self) -> i64 {
        self.watermark_us
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let schema = self.state_schema();
        let mut n_waiting = 0;
        for waiting in self.waiting.values_mut().flatten() {
            n_waiting += 1;
            if !std::mem::replace(&mut waiting.saved, true) {
                self.partitions.note_touched(waiting.hash);
            }
        }
        let selection = self.partitions.take_touched(scope, n_waiting);
        let selected = selection.as_ref();
        let last = |said: &Said| said.last.as_ref().map(|row| (RowBytes::clone(row), said.n as i64));
        let waiting = self.waiting.values().flatten().filter(|waiting| selects(selected, waiting.hash));
        let waiting = waiting.map(|waiting| (RowBytes::clone(&waiting.row), 0));
        let rows: Vec<(RowBytes, i64)> = self.partitions.selected(selected).filter_map(last).chain(waiting).collect();
        let batch = |rows: &[(RowBytes, i64)]| {
            let said: ArrayRef = Arc::new(rows.iter().map(|(_, said)| Some(*said)).collect::<Int64Array>());
            self.rows.stored(&schema, &self.spec.keys, rows.iter().map(|(row, _)| &**row), vec![said])
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        let Some(own) = tables.remove(ROWS) else { return Ok(()) };
        expect_schema(&own, &self.state_schema())?;
        let n_columns = self.rows.n_columns();
        let columns = &own.columns()[1..=n_columns];
        let hashes = own.column(0).as_primitive::<UInt64Type>().values();
        let said = own.column(n_columns + 1).as_primitive::<Int64Type>();
        let times = columns[self.spec.time].as_primitive::<TimestampMicrosecondType>();
        let numbers = self.partitions.number(&self.keys_of(columns), own.num_rows())?;
        let rows = self.rows.encode(columns)?;
        for (at, number) in numbers.into_iter().enumerate() {
            let row = RowBytes::from(rows.row(at).data());
            self.rows_bytes += bytes_of(&row);
            match usize::try_from(said.value(at)) {
                Ok(n) if n > 0 => *self.partitions.touch(number) = Said { n, last: Some(row) },
                _ => {
                    let waiting = Waiting { hash: hashes[at], saved: true, row };
                    self.waiting.entry(times.value(at)).or_default().push(waiting);
                }
            }
        }
        let dirty = self.partitions.take_dirty();
        self.partitions.forget_touched();
        self.partitions.settle(&dirty)
    }

    fn memory_bytes(&self) -> usize {
        self.partitions.memory_bytes() + self.rows_bytes
    }

    fn timing(&self) -> Timing {
        let first = self.waiting.first_key_value().map(|(time, _)| *time);
        Timing { due_us: first.map(|time| time.saturating_add(1)), from_us: i64::MAX }
    }
}

impl Forgets for Settled {
    /// Rows that wait are of a time that is still to come, and stay.
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let rows_bytes = &mut self.rows_bytes;
        self.partitions.forget(keys, |said| *rows_bytes -= said.last.as_deref().map_or(0, bytes_of))
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.partitions.note_all_touched(keys);
    }
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<Waiting>()
}

#[cfg(test)]
mod tests;
