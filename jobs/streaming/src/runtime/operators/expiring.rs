//! Any operator whose state is told apart by key, with a time to live: a key that no row has touched for so long in event
//! time is forgotten.
//!
//! The operator inside knows nothing of it; it is told which keys to forget. It says nothing then: what it had said
//! stays, and rows of the key that come later begin anew. A row touches its key at its event time, or at the watermark
//! where that is later; where a row has lost its event time, at the watermark that follows it. Times are rounded up to a
//! [`SHARE`]th of the time to live, so that a key that is always in use is noted that often and no more; it is so much
//! longer that a key may be kept.
//!
//! Where rows may be taken back, the rows of each key are counted. A row that is taken back and is not there any more,
//! because its key was forgotten, is left out and counted as late. That is told by the number of a key's rows and not by
//! the rows, so here rows must come before they are taken back: they do behind every operator, and in a log that is
//! read in its order.
//!
//! Invariant: what is forgotten depends on rows and watermarks alone, not on batches, flushes, the number of slices, or a
//! checkpoint and restore in between. A state that was written without lives is taken for one that was touched just now.
//!
//! Snapshots: the lives are a table beside those of the operator. A key is touched when its time is noted, and when it is
//! forgotten; those that the operator has touched have their lives written too.

use super::changes;
use super::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external};
use super::window::TIME_LIMIT_US;
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::Result;
use lives::{Life, Lives, ROWS_UNKNOWN};
use std::collections::BTreeMap;
use std::sync::Arc;

mod lives;

/// The table of lives; no operator has one of this name.
const LIVES: &str = "lives";

/// See above.
pub const SHARE: i64 = 16;

/// A moment after which something has lived for so long; watermarks are compared with it.
pub fn rounded_us(touched_us: i64, ttl_us: i64) -> i64 {
    let step_us = (ttl_us / SHARE).max(1);
    match touched_us.rem_euclid(step_us) {
        0 => touched_us,
        rest => touched_us.saturating_add(step_us - rest),
    }
}

/// How an operator is wrapped.
#[derive(Debug)]
pub struct Spec {
    pub ttl_us: i64,
    /// By input.
    pub inputs: Vec<Input>,
}

#[derive(Debug)]
pub struct Input {
    /// The columns whose hash is that of the rows' keys in the operator's tables.
    pub keys: Vec<usize>,
    /// The columns of event time; the latest counts.
    pub times: Vec<usize>,
    /// Its last column is a weight, and rows that are taken back came before.
    pub counted: bool,
}

#[derive(Debug)]
pub struct Expiring {
    inner: Box<dyn Forgets>,
    spec: Spec,
    lives: Lives,
    watermark_us: i64,
}

impl Expiring {
    pub fn new(inner: Box<dyn Forgets>, spec: Spec) -> Self {
        Self { inner, lives: Lives::new(spec.ttl_us), spec, watermark_us: i64::MIN }
    }

    /// Notes what the rows touch; gives those that take back what is forgotten.
    fn touch(&mut self, input: &Input, batch: &RecordBatch) -> Result<Vec<u32>> {
        let n_rows = batch.num_rows();
        let keys: Vec<ArrayRef> = input.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let hashes = hash::hash_rows(&keys, n_rows).map_err(external)?;
        let times = latest_times(batch, &input.times, self.watermark_us);
        let weights = if input.counted { changes::split(batch, true)?.1 } else { None };
        let mut forgotten = Vec::new();
        for (row, hash) in hashes.into_iter().enumerate() {
            let time_us = times.as_ref().and_then(|times| times[row]);
            let weight = weights.map_or(0, |weights| i64::from(weights.value(row)));
            if !self.lives.touch(hash, time_us, weight) {
                forgotten.push(row as u32);
            }
        }
        Ok(forgotten)
    }

    /// Forgets what the watermark has passed. Nothing is pending inside.
    fn expire(&mut self, expired: &Hashes) -> Result<()> {
        if expired.is_empty() { Ok(()) } else { self.inner.forget(expired) }
    }
}

impl Stateful for Expiring {
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        // The spec is lent out, so that the lives can be changed meanwhile.
        let inputs = std::mem::take(&mut self.spec.inputs);
        let forgotten = inputs.get(input).map_or(Ok(Vec::new()), |input| self.touch(input, batch));
        self.spec.inputs = inputs;
        let forgotten = forgotten?;
        if forgotten.is_empty() {
            return self.inner.process(input, batch, out);
        }
        out.n_late += forgotten.len() as u64;
        let mut left = forgotten.iter().peekable();
        let others = (0..batch.num_rows() as u32).filter(|row| left.next_if(|gone| **gone == *row).is_none());
        let others: UInt32Array = others.collect::<Vec<u32>>().into();
        let columns = batch.columns().iter().map(|column| Ok(take(column, &others, None)?));
        let options = RecordBatchOptions::new().with_row_count(Some(others.len()));
        let batch = RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<Vec<_>>>()?, &options)?;
        if batch.num_rows() == 0 { Ok(()) } else { self.inner.process(input, &batch, out) }
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        self.inner.advance(watermark_us, out)?;
        // The end of the input is no time that anything could be older than.
        if watermark_us == i64::MAX {
            return Ok(());
        }
        self.lives.date(watermark_us);
        let expired = self.lives.take_expired(watermark_us);
        if !expired.is_empty() {
            // What came of its last rows is still said.
            self.inner.flush(out)?;
        }
        self.expire(&expired)
    }

    fn input_ended(&mut self, input: usize) -> Result<()> {
        self.inner.input_ended(input)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.inner.flush(out)
    }

    fn n_pending(&self) -> usize {
        self.inner.n_pending()
    }

    fn output_watermark_us(&self) -> i64 {
        self.inner.output_watermark_us()
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let changed = self.lives.take_changed();
        let scope = if changed.is_some() { scope } else { Scope::All };
        self.inner.note_touched(&changed.unwrap_or_default());
        let Snapshot { touched, mut tables } = self.inner.snapshot(scope)?;
        let lives: Vec<(u64, Life)> = match &touched {
            None => self.lives.iter().collect(),
            Some(hashes) => hashes.iter().filter_map(|hash| Some((*hash, self.lives.get(*hash)?))).collect(),
        };
        self.lives.saved();
        tables.push(table(&lives)?);
        Ok(Snapshot { touched, tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        if let Some(own) = tables.remove(LIVES) {
            expect_schema(&own, &schema())?;
            let hashes = own.column(0).as_primitive::<UInt64Type>().values();
            let touched = own.column(1).as_primitive::<Int64Type>().values();
            let (is_open, rows) = (own.column(2).as_boolean(), own.column(3).as_primitive::<Int64Type>().values());
            for (at, hash) in hashes.iter().enumerate() {
                let life = Life { touched_us: touched[at], is_open: is_open.value(at), rows: rows[at] };
                self.lives.restore(*hash, life);
            }
        }
        for own in tables.values() {
            if let Some(hashes) = own.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>()) {
                hashes.values().iter().for_each(|hash| self.lives.restore_unknown(*hash));
            }
        }
        self.inner.restore(watermark_us, tables)?;
        // What was on disk when the checkpoint was taken had not been looked through.
        let expired = self.lives.take_expired(watermark_us);
        self.expire(&expired)
    }

    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes() + self.lives.memory_bytes()
    }

    /// Forgetting says nothing, so it may wait until it is worth reading what lies on disk: until half of it is to go. What
    /// was touched just now cannot wait for its moment.
    fn timing(&self) -> Timing {
        let Timing { due_us, from_us } = self.inner.timing();
        Timing { due_us: due_us.into_iter().chain(self.lives.due_us()).min(), from_us }
    }
}

/// By row: the latest event time, not before the watermark; nothing where the input has none at all.
pub fn latest_times(batch: &RecordBatch, columns: &[usize], watermark_us: i64) -> Option<Vec<Option<i64>>> {
    let columns = columns.iter().filter_map(|column| {
        batch.columns().get(*column).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    });
    let mut latest: Option<Vec<Option<i64>>> = None;
    for column in columns {
        let latest = latest.get_or_insert_with(|| vec![None; batch.num_rows()]);
        for (row, latest) in latest.iter_mut().enumerate() {
            let time_us = column.is_valid(row).then(|| column.value(row));
            if let Some(time_us) = time_us.filter(|time_us| (-TIME_LIMIT_US..TIME_LIMIT_US).contains(time_us)) {
                *latest = Some(latest.unwrap_or(i64::MIN).max(time_us).max(watermark_us));
            }
        }
    }
    latest
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key_hash", DataType::UInt64, false),
        Field::new("touched_us", DataType::Int64, false),
        Field::new("is_open", DataType::Boolean, false),
        Field::new("rows", DataType::Int64, false),
    ]))
}

fn table(lives: &[(u64, Life)]) -> Result<Table> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(lives.iter().map(|(hash, _)| *hash))),
        Arc::new(Int64Array::from_iter_values(lives.iter().map(|(_, life)| life.touched_us))),
        Arc::new(lives.iter().map(|(_, life)| Some(life.is_open)).collect::<BooleanArray>()),
        Arc::new(Int64Array::from_iter_values(lives.iter().map(|(_, life)| life.rows.min(ROWS_UNKNOWN)))),
    ];
    let batches = if lives.is_empty() { Vec::new() } else { vec![RecordBatch::try_new(schema(), columns)?] };
    Ok(Table { name: LIVES, schema: schema(), batches })
}
