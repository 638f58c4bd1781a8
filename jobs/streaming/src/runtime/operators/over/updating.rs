//! Rows of any order that may be taken back: each key that has changed is computed anew.
//!
//! Snapshots: a key is touched when a row comes to it or goes from it. Nothing goes with event time.

use super::{Evaluation, Spec};
use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::hashes::Hashes;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::Result;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state's only table.
const ROWS: &str = "rows";

/// A row and what the functions made of it.
type Said = (RowBytes, RowBytes);

/// The rows of one key.
#[derive(Debug, Default)]
struct OfKey {
    /// How often each row is there. Below zero: it was taken back before it came.
    rows: BTreeMap<RowBytes, i64>,
    /// What was said of the rows, sorted.
    said: Vec<Said>,
}

impl Partition for OfKey {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.said.is_empty()
    }
}

#[derive(Debug)]
pub struct Updating {
    spec: Spec,
    evaluation: Evaluation,
    /// Of the functions' columns.
    results: Encoding,
    partitions: Partitions<OfKey>,
    n_pending: usize,
    rows_bytes: usize,
    watermark_us: i64,
    /// What the watermark was when all was said.
    said_us: i64,
}

impl Updating {
    pub fn new(spec: Spec) -> Result<Self> {
        let evaluation = Evaluation::new(&spec)?;
        Ok(Self {
            results: Encoding::new(evaluation.types.clone(), &[])?,
            partitions: Partitions::new(&spec.input, &spec.keys)?,
            evaluation,
            spec,
            n_pending: 0,
            rows_bytes: 0,
            watermark_us: i64::MIN,
            said_us: i64::MIN,
        })
    }
}

impl Stateful for Updating {
    fn process(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<()> {
        let (columns, weights) = changes::split(batch, self.spec.changes)?;
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, batch.num_rows())?;
        let rows = self.evaluation.rows.encode(columns)?;
        for (row, number) in numbers.into_iter().enumerate() {
            let weight = weights.map_or(1, |weights| i64::from(weights.value(row)));
            self.change(number, rows.row(row).data(), weight);
        }
        self.n_pending += batch.num_rows();
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
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        let mut rest = dirty.as_slice();
        while !rest.is_empty() {
            // Many small keys are computed together, so that rows are decoded by the thousand.
            let (mut rows, mut lengths) = (Vec::new(), Vec::new());
            while let Some((number, others)) = rest.split_first()
                && rows.len() < BATCH_ROWS
            {
                let before = rows.len();
                for (row, count) in self.partitions.get(*number).rows.iter().filter(|(_, count)| **count > 0) {
                    rows.extend(std::iter::repeat_n(row, *count as usize).map(RowBytes::clone));
                }
                lengths.push((*number, rows.len() - before));
                rest = others;
            }
            self.say(rows, &lengths, &mut gone, &mut come)?;
        }
        self.partitions.settle(&dirty)?;
        self.emit(&gone, -1, out)?;
        self.emit(&come, 1, out)
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// What is kept back may be as old as the last flush. A row that is taken back may be of any age.
    fn output_watermark_us(&self) -> i64 {
        if self.n_pending > 0 { self.said_us } else { self.watermark_us }
    }

    /// What was said is written and not computed anew later: it must be taken back as it was.
    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let schema = self.state_schema();
        let selection = self.partitions.take_touched(scope, 0);
        let keys = || self.partitions.selected(selection.as_ref());
        let said: Vec<&Said> = keys().flat_map(|of_key| &of_key.said).collect();
        let owed = keys().flat_map(|of_key| &of_key.rows).filter(|(_, count)| **count < 0);
        let owed: Vec<(&RowBytes, i64)> = owed.map(|(row, count)| (row, *count)).collect();
        let mut batches = Vec::new();
        for said in said.chunks(BATCH_ROWS) {
            let mut extra = self.results.decode(said.iter().map(|(_, results)| &**results))?;
            extra.push(Arc::new(Int64Array::from_value(1, said.len())));
            let rows = said.iter().map(|(row, _)| &**row);
            batches.push(self.evaluation.rows.stored(&schema, &self.spec.keys, rows, extra)?);
        }
        for owed in owed.chunks(BATCH_ROWS) {
            let none = |data_type: &DataType| new_null_array(data_type, owed.len());
            let mut extra: Vec<ArrayRef> = self.evaluation.types.iter().map(none).collect();
            extra.push(Arc::new(owed.iter().map(|(_, count)| Some(*count)).collect::<Int64Array>()));
            let rows = owed.iter().map(|(row, _)| &***row);
            batches.push(self.evaluation.rows.stored(&schema, &self.spec.keys, rows, extra)?);
        }
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.said_us) = (watermark_us, watermark_us);
        let Some(own) = tables.remove(ROWS) else { return Ok(()) };
        expect_schema(&own, &self.state_schema())?;
        let (columns, rest) = own.columns()[1..].split_at(self.evaluation.rows.n_columns());
        let (results, counts) = rest.split_at(self.results.n_columns());
        let counts = counts[0].as_primitive::<Int64Type>().values();
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, own.num_rows())?;
        let rows = self.evaluation.rows.encode(columns)?;
        let results = self.results.encode(results)?;
        for (at, number) in numbers.into_iter().enumerate() {
            let row = self.change(number, rows.row(at).data(), counts[at]);
            if let Some(row) = row.filter(|_| counts[at] > 0) {
                let result = RowBytes::from(results.row(at).data());
                self.rows_bytes += said_bytes(&result);
                self.partitions.get_mut(number).said.push((row, result));
            }
        }
        let dirty = self.partitions.take_dirty();
        dirty.iter().for_each(|number| self.partitions.get_mut(*number).said.sort());
        self.partitions.forget_touched();
        self.partitions.settle(&dirty)
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

impl Forgets for Updating {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let rows_bytes = &mut self.rows_bytes;
        self.partitions.forget(keys, |of_key| {
            *rows_bytes -= of_key.rows.keys().map(|row| row_bytes(row)).sum::<usize>();
            *rows_bytes -= of_key.said.iter().map(|(_, result)| said_bytes(result)).sum::<usize>();
        })
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.partitions.note_all_touched(keys);
    }
}

impl Updating {
    /// Gives the row as it is held now, if it is.
    fn change(&mut self, number: usize, row: &[u8], weight: i64) -> Option<RowBytes> {
        let rows = &mut self.partitions.touch(number).rows;
        match rows.get_mut(row) {
            Some(count) => {
                *count += weight;
                if *count == 0 {
                    rows.remove(row);
                    self.rows_bytes -= row_bytes(row);
                    return None;
                }
                rows.get_key_value(row).map(|(row, _)| RowBytes::clone(row))
            }
            None => {
                let row = RowBytes::from(row);
                self.rows_bytes += row_bytes(&row);
                rows.insert(RowBytes::clone(&row), weight);
                Some(row)
            }
        }
    }

    /// Computes keys anew and adds the difference to what is gone and what has come. `lengths`: by number of the key, how
    /// many of the rows are its own.
    fn say(
        &mut self,
        rows: Vec<RowBytes>,
        lengths: &[(usize, usize)],
        gone: &mut Vec<Said>,
        come: &mut Vec<Said>,
    ) -> Result<()> {
        let results = match rows.is_empty() {
            true => None,
            false => {
                let columns = self.evaluation.rows.decode(rows.iter().map(|row| &**row))?;
                let lengths: Vec<usize> =
                    lengths.iter().map(|(_, length)| *length).filter(|length| *length > 0).collect();
                Some(self.results.encode(
                    &self.evaluation.evaluate(&columns, &lengths, |_, rows| self.evaluation.evaluate_whole(rows))?,
                )?)
            }
        };
        let mut rows = rows.into_iter().enumerate();
        for (number, length) in lengths {
            let result = |at: usize| results.as_ref().map_or(&[][..], |results| results.row(at).data());
            let mut now: Vec<(RowBytes, &[u8])> =
                rows.by_ref().take(*length).map(|(at, row)| (row, result(at))).collect();
            now.sort();
            let of_key = self.partitions.get_mut(*number);
            let mut before = std::mem::take(&mut of_key.said).into_iter().peekable();
            let mut now = now.into_iter().peekable();
            of_key.said.reserve_exact(now.len());
            loop {
                let order = match (before.peek(), now.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((row, result)), Some((row_now, result_now))) => {
                        row.cmp(row_now).then_with(|| (**result).cmp(result_now))
                    }
                };
                let old = before.next_if(|_| order != Ordering::Greater);
                let new = now.next_if(|_| order != Ordering::Less);
                match (old, new) {
                    (Some(said), Some(_)) => of_key.said.push(said),
                    (old, new) => {
                        if let Some((row, result)) = old {
                            self.rows_bytes -= said_bytes(&result);
                            gone.push((row, result));
                        }
                        if let Some((row, result)) = new {
                            let result = RowBytes::from(result);
                            self.rows_bytes += said_bytes(&result);
                            come.push((RowBytes::clone(&row), RowBytes::clone(&result)));
                            of_key.said.push((row, result));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn emit(&self, said: &[Said], weight: i8, out: &mut Output) -> Result<()> {
        for said in said.chunks(BATCH_ROWS) {
            let mut columns = self.evaluation.rows.decode(said.iter().map(|(row, _)| &**row))?;
            columns.extend(self.results.decode(said.iter().map(|(_, result)| &**result))?);
            columns.push(changes::all(weight, said.len()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        }
        Ok(())
    }

    fn state_schema(&self) -> SchemaRef {
        let types = self.evaluation.types.iter().enumerate();
        let results = types.map(|(at, data_type)| Field::new(format!("result_{at}"), data_type.clone(), true));
        let count = Field::new("count", DataType::Int64, false);
        Arc::new(Schema::new(self.evaluation.rows.stored_fields(results.chain([count]))))
    }
}

fn row_bytes(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<(RowBytes, i64)>()
}

fn said_bytes(result: &[u8]) -> usize {
    result.len() + ROW_OVERHEAD_BYTES + size_of::<Said>()
}
