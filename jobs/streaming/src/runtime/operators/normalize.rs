//! Behind a table that is read by key: upserts become a changelog.
//!
//! An upsert says what the row of a key is now, or that there is none; whoever adds rows up needs to know what it replaced.
//! So the last row of each key is held. A flush compares it with what was said and tells the difference: nothing for a
//! row that came again as it was, which makes records that are read twice harmless.
//!
//! Invariant: what is said adds up to exactly one row for each key whose last upsert was a row.

use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::hashes::Hashes;
use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state's only table.
const ROWS: &str = "rows";

/// How the operator was planned; see `Operator::Normalize`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    /// The columns, then the weight; of a row that is gone only the keys mean anything.
    pub input: SchemaRef,
    /// The same, as a changelog.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct Normalize {
    spec: Spec,
    encoding: Encoding,
    partitions: Partitions<OfKey>,
    n_pending: usize,
    rows_bytes: usize,
    watermark_us: i64,
    /// What the watermark was when all was said.
    said_us: i64,
}

/// The row of one key.
#[derive(Debug, Default)]
struct OfKey {
    now: Option<RowBytes>,
    said: Option<RowBytes>,
}

impl Partition for OfKey {
    fn is_empty(&self) -> bool {
        self.now.is_none() && self.said.is_none()
    }
}

impl Normalize {
    pub fn new(spec: Spec) -> Result<Self> {
        let n_columns = spec.input.fields().len() - 1;
        let types = spec.input.fields()[..n_columns].iter().map(|field| field.data_type().clone()).collect();
        Ok(Self {
            encoding: Encoding::new(types, &[])?,
            partitions: Partitions::new(&spec.input, &spec.keys)?,
            spec,
            n_pending: 0,
            rows_bytes: 0,
            watermark_us: i64::MIN,
            said_us: i64::MIN,
        })
    }

    fn state_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.encoding.stored_fields([])))
    }
}

impl Stateful for Normalize {
    fn process(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<()> {
        self.n_pending += batch.num_rows();
        let (columns, weights) = changes::split(batch, true)?;
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, batch.num_rows())?;
        let rows = self.encoding.encode(columns)?;
        for ((number, row), weight) in numbers.into_iter().zip(rows.iter()).zip(weights.into_iter().flatten()) {
            let there = weight.is_some_and(|weight| weight > 0);
            let of_key = self.partitions.touch(number);
            self.rows_bytes -= of_key.now.as_deref().map_or(0, bytes_of);
            of_key.now = there.then(|| RowBytes::from(row.data()));
            self.rows_bytes += of_key.now.as_deref().map_or(0, bytes_of);
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64, _: &mut Output) -> Result<()> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.n_pending = 0;
        self.said_us = self.watermark_us;
        let dirty = self.partitions.take_dirty();
        let mut said: Vec<(RowBytes, i8)> = Vec::with_capacity(dirty.len());
        for number in &dirty {
            let of_key = self.partitions.get_mut(*number);
            if of_key.now == of_key.said {
                continue;
            }
            let before = std::mem::replace(&mut of_key.said, of_key.now.clone());
            said.extend(before.map(|row| (row, -1)));
            said.extend(of_key.now.clone().map(|row| (row, 1)));
        }
        self.partitions.settle(&dirty)?;
        for said in said.chunks(BATCH_ROWS) {
            let mut columns = self.encoding.decode(said.iter().map(|(row, _)| &**row))?;
            columns.push(Arc::new(said.iter().map(|(_, weight)| Some(*weight)).collect::<Int8Array>()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        }
        Ok(())
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// What is kept back may be as old as the last flush. A row that was replaced may be of any age.
    fn output_watermark_us(&self) -> i64 {
        if self.n_pending > 0 { self.said_us } else { self.watermark_us }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let schema = self.state_schema();
        let selection = self.partitions.take_touched(scope, 0);
        let of_keys = self.partitions.selected(selection.as_ref());
        let rows: Vec<&RowBytes> = of_keys.filter_map(|of_key| of_key.said.as_ref()).collect();
        let batch = |rows: &[&RowBytes]| {
            let rows = rows.iter().map(|row| &***row);
            self.encoding.stored(&schema, &self.spec.keys, rows, Vec::new())
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.said_us) = (watermark_us, watermark_us);
        let Some(own) = tables.remove(ROWS) else { return Ok(()) };
        expect_schema(&own, &self.state_schema())?;
        let columns = &own.columns()[1..];
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, own.num_rows())?;
        let rows = self.encoding.encode(columns)?;
        for (number, row) in numbers.into_iter().zip(rows.iter()) {
            let row = RowBytes::from(row.data());
            self.rows_bytes += bytes_of(&row);
            *self.partitions.touch(number) = OfKey { now: Some(RowBytes::clone(&row)), said: Some(row) };
        }
        let dirty = self.partitions.take_dirty();
        self.partitions.settle(&dirty)?;
        self.partitions.forget_touched();
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.partitions.memory_bytes() + self.rows_bytes
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn timing(&self) -> Timing {
        Timing::NONE
    }
}

impl Forgets for Normalize {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let rows_bytes = &mut self.rows_bytes;
        self.partitions.forget(keys, |of_key| *rows_bytes -= of_key.now.as_deref().map_or(0, bytes_of))
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.partitions.note_all_touched(keys);
    }
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
