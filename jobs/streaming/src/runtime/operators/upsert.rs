//! Before a table that is written by key: at most one row per key and flush, so that the table holds, for each key, the
//! latest row that is still there.
//!
//! The two halves of an update may come from different slices, in any order; written as they come, the old row's
//! retraction could erase the new row. So the rows of each key are held in the order in which they came, and a flush
//! says the latest one left, as an insertion that overwrites what was said before, or that none is left, by taking back
//! what was said last. What is said is therefore not a changelog to be added up, but one to be written by key.
//!
//! Every key that rows came for since the last flush is told, also one whose row is what was said last, and one that came
//! and went: a table that is written at once may hold what a process wrote that was killed before its next checkpoint,
//! and only what is said again puts that right.
//!
//! A row that comes again counts as new, so it is the older one of two equal rows that is taken back. Where rows are
//! never taken back nothing is held at all ([`Latest`]).
//!
//! Snapshots: a key is touched when a row comes to it or goes from it. Nothing goes with event time.

use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::hashes::Hashes;
use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::error::Result;
use latest::Latest;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod latest;

/// The state's only table.
const ROWS: &str = "rows";

/// Rows that are there no longer may fill this many places of a key's order, and as many as there are rows besides.
const STALE_ENOUGH: usize = 8;

/// How the operator was planned; see `Operator::Upsert`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    pub input: SchemaRef,
    /// Whether rows of the input may be taken back.
    pub changes: bool,
    /// The input's columns without its weight, then the weight.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct Upsert {
    spec: Spec,
    rows: Rows,
    n_pending: usize,
    watermark_us: i64,
    /// What the watermark was when all was said.
    said_us: i64,
}

#[derive(Debug)]
enum Rows {
    Latest(Latest),
    Counted(Box<Counted>),
}

impl Upsert {
    pub fn new(spec: Spec) -> Result<Self> {
        let rows = match spec.changes {
            true => Rows::Counted(Box::new(Counted::new(&spec)?)),
            false => Rows::Latest(Latest::new(&spec)?),
        };
        Ok(Self { spec, rows, n_pending: 0, watermark_us: i64::MIN, said_us: i64::MIN })
    }
}

impl Stateful for Upsert {
    fn process(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<()> {
        self.n_pending += batch.num_rows();
        match &mut self.rows {
            Rows::Latest(latest) => latest.process(&self.spec, batch),
            Rows::Counted(counted) => counted.process(&self.spec, batch),
        }
    }

    fn advance(&mut self, watermark_us: i64, _: &mut Output) -> Result<()> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.n_pending = 0;
        self.said_us = self.watermark_us;
        match &mut self.rows {
            Rows::Latest(latest) => latest.flush(&self.spec, out),
            Rows::Counted(counted) => counted.flush(&self.spec, out),
        }
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// What is kept back may be as old as the last flush. A row that was covered by a later one may be of any age.
    fn output_watermark_us(&self) -> i64 {
        if self.n_pending > 0 { self.said_us } else { self.watermark_us }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        match &mut self.rows {
            Rows::Latest(_) => Ok(Snapshot { touched: (scope == Scope::Touched).then(Vec::new), tables: Vec::new() }),
            Rows::Counted(counted) => counted.snapshot(&self.spec, scope),
        }
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.said_us) = (watermark_us, watermark_us);
        match (&mut self.rows, tables.remove(ROWS)) {
            (Rows::Counted(counted), Some(own)) => counted.restore(&self.spec, &own),
            _ => Ok(()),
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.rows {
            Rows::Latest(latest) => latest.memory_bytes(),
            Rows::Counted(counted) => counted.memory_bytes(),
        }
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn timing(&self) -> Timing {
        Timing::NONE
    }
}

impl Forgets for Upsert {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        match &mut self.rows {
            Rows::Latest(_) => Ok(()),
            Rows::Counted(counted) => counted.forget(keys),
        }
    }

    fn note_touched(&mut self, keys: &[u64]) {
        if let Rows::Counted(counted) = &mut self.rows {
            counted.partitions.note_all_touched(keys);
        }
    }
}

/// How often a row is there; below zero: it was taken back before it came.
#[derive(Debug)]
struct Count {
    n: i64,
    /// When it last came.
    sequence: u64,
}

/// The rows of one key.
#[derive(Debug, Default)]
struct OfKey {
    /// The order in which rows came. A place counts only if the row is there and did not come again later.
    order: Vec<(u64, RowBytes)>,
    /// Rows that were taken back before they came; those that have come since go with the next flush.
    owed: Vec<RowBytes>,
    /// Different rows that have a count.
    n_rows: usize,
    /// What was said last.
    said: Option<RowBytes>,
    /// The last row to go since the last flush.
    gone: Option<RowBytes>,
}

impl Partition for OfKey {
    fn is_empty(&self) -> bool {
        self.n_rows == 0 && self.said.is_none() && self.gone.is_none()
    }
}

/// Rows as a multiset with an order. A row's bytes hold its key, so one table serves all keys, and each key has only
/// the order of its own rows.
#[derive(Debug)]
struct Counted {
    encoding: Encoding,
    partitions: Partitions<OfKey>,
    counts: HashMap<RowBytes, Count>,
    next_sequence: u64,
    rows_bytes: usize,
}

impl Counted {
    fn new(spec: &Spec) -> Result<Self> {
        let fields = &spec.input.fields()[..spec.input.fields().len() - 1];
        Ok(Self {
            encoding: Encoding::new(fields.iter().map(|field| field.data_type().clone()).collect(), &[])?,
            partitions: Partitions::new(&spec.input, &spec.keys)?,
            counts: HashMap::new(),
            next_sequence: 0,
            rows_bytes: 0,
        })
    }

    fn process(&mut self, spec: &Spec, batch: &RecordBatch) -> Result<()> {
        let (columns, weights) = changes::split(batch, true)?;
        let keys: Vec<ArrayRef> = spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, batch.num_rows())?;
        let rows = self.encoding.encode(columns)?;
        for (row, number) in numbers.into_iter().enumerate() {
            let weight = weights.map_or(1, |weights| i64::from(weights.value(row)));
            self.change(number, rows.row(row).data(), weight);
        }
        Ok(())
    }

    fn change(&mut self, number: usize, row: &[u8], weight: i64) {
        let of_key = self.partitions.touch(number);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let Some(count) = self.counts.get_mut(row) else {
            let row = RowBytes::from(row);
            self.rows_bytes += bytes_of(&row);
            of_key.n_rows += 1;
            match weight > 0 {
                true => of_key.order.push((sequence, RowBytes::clone(&row))),
                false => of_key.owed.push(RowBytes::clone(&row)),
            }
            self.counts.insert(row, Count { n: weight, sequence });
            return;
        };
        count.n += weight;
        if count.n == 0 {
            of_key.gone = self.counts.remove_entry(row).map(|(row, _)| row);
            self.rows_bytes -= bytes_of(row);
            of_key.n_rows -= 1;
        } else if weight > 0 && count.n > 0 {
            count.sequence = sequence;
            // The bytes are shared with the table's key.
            if let Some((row, _)) = self.counts.get_key_value(row) {
                of_key.order.push((sequence, RowBytes::clone(row)));
            }
        }
    }

    fn flush(&mut self, spec: &Spec, out: &mut Output) -> Result<()> {
        let dirty = self.partitions.take_dirty();
        let mut said: Vec<(RowBytes, i8)> = Vec::with_capacity(dirty.len());
        for number in &dirty {
            let of_key = self.partitions.get_mut(*number);
            of_key.forget_stale(&self.counts);
            let latest = of_key.order.last().map(|(_, row)| RowBytes::clone(row));
            let gone = of_key.gone.take();
            let before = std::mem::replace(&mut of_key.said, latest.clone());
            match (latest, before.or(gone)) {
                (Some(row), _) => said.push((row, 1)),
                (None, Some(row)) => said.push((row, -1)),
                // Nothing but retractions of rows that have not come yet.
                (None, None) => {}
            }
        }
        self.partitions.settle(&dirty)?;
        for said in said.chunks(BATCH_ROWS) {
            let mut columns = self.encoding.decode(said.iter().map(|(row, _)| &**row))?;
            columns.push(Arc::new(said.iter().map(|(_, weight)| Some(*weight)).collect::<Int8Array>()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&spec.output), columns)?);
        }
        Ok(())
    }

    fn snapshot(&mut self, spec: &Spec, scope: Scope) -> Result<Snapshot> {
        let schema = self.state_schema();
        let selection = self.partitions.take_touched(scope, 0);
        let of_keys = self.partitions.selected(selection.as_ref());
        let rows: Vec<(&RowBytes, &Count)> = of_keys.flat_map(|of_key| of_key.rows(&self.counts)).collect();
        let batch = |rows: &[(&RowBytes, &Count)]| {
            let counts: Int64Array = rows.iter().map(|(_, count)| Some(count.n)).collect();
            let sequences: UInt64Array = rows.iter().map(|(_, count)| Some(count.sequence)).collect();
            let extra: Vec<ArrayRef> = vec![Arc::new(counts), Arc::new(sequences)];
            self.encoding.stored(&schema, &spec.keys, rows.iter().map(|(row, _)| &***row), extra)
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    /// What was said before the checkpoint is the latest row that was there.
    fn restore(&mut self, spec: &Spec, own: &RecordBatch) -> Result<()> {
        expect_schema(own, &self.state_schema())?;
        let n_columns = self.encoding.n_columns();
        let columns = &own.columns()[1..=n_columns];
        let counts = own.column(n_columns + 1).as_primitive::<Int64Type>().values();
        let sequences = own.column(n_columns + 2).as_primitive::<UInt64Type>().values();
        let keys: Vec<ArrayRef> = spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, own.num_rows())?;
        let rows = self.encoding.encode(columns)?;
        // Sequences of different slices say nothing about each other, but all rows of a key were on one.
        let mut order: Vec<usize> = (0..own.num_rows()).collect();
        order.sort_by_key(|row| sequences[*row]);
        for at in order {
            let row = RowBytes::from(rows.row(at).data());
            self.rows_bytes += bytes_of(&row);
            let of_key = self.partitions.touch(numbers[at]);
            of_key.n_rows += 1;
            if counts[at] > 0 {
                of_key.order.push((sequences[at], RowBytes::clone(&row)));
                of_key.said = Some(RowBytes::clone(&row));
            } else {
                of_key.owed.push(RowBytes::clone(&row));
            }
            self.counts.insert(row, Count { n: counts[at], sequence: sequences[at] });
            self.next_sequence = self.next_sequence.max(sequences[at] + 1);
        }
        let dirty = self.partitions.take_dirty();
        self.partitions.forget_touched();
        self.partitions.settle(&dirty)
    }

    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let Self { partitions, counts, rows_bytes, .. } = self;
        partitions.forget(keys, |of_key| {
            for row in of_key.order.into_iter().map(|(_, row)| row).chain(of_key.owed) {
                if counts.remove(&row).is_some() {
                    *rows_bytes -= bytes_of(&row);
                }
            }
        })
    }

    fn state_schema(&self) -> SchemaRef {
        let count = Field::new("count", DataType::Int64, false);
        let sequence = Field::new("sequence", DataType::UInt64, false);
        Arc::new(Schema::new(self.encoding.stored_fields([count, sequence])))
    }

    fn memory_bytes(&self) -> usize {
        self.partitions.memory_bytes() + self.rows_bytes
    }
}

impl OfKey {
    /// All rows that have a count, each once.
    fn rows<'a>(&'a self, counts: &'a HashMap<RowBytes, Count>) -> impl Iterator<Item = (&'a RowBytes, &'a Count)> {
        let order = self.order.iter().filter_map(|(sequence, row)| {
            counts.get_key_value(row).filter(|(_, count)| count.n > 0 && count.sequence == *sequence)
        });
        order.chain(self.owed.iter().filter_map(|row| counts.get_key_value(row).filter(|(_, count)| count.n < 0)))
    }

    /// Afterwards the last place, if there is one, is the latest row that is there.
    fn forget_stale(&mut self, counts: &HashMap<RowBytes, Count>) {
        let counts_now = |(sequence, row): &(u64, RowBytes)| {
            counts.get(row).is_some_and(|count| count.n > 0 && count.sequence == *sequence)
        };
        self.owed.retain(|row| counts.get(row).is_some_and(|count| count.n < 0));
        self.owed.sort_unstable();
        self.owed.dedup();
        if self.owed.is_empty() {
            self.owed = Vec::new();
        }
        while self.order.pop_if(|place| !counts_now(place)).is_some() {}
        if self.order.len() > 2 * self.n_rows + STALE_ENOUGH {
            self.order.retain(counts_now);
        }
        if self.order.is_empty() {
            self.order = Vec::new();
        }
    }
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<(RowBytes, Count)>() + size_of::<(u64, RowBytes)>()
}

#[cfg(test)]
mod tests;
