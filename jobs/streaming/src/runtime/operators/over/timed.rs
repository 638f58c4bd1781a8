//! Rows of rising event time that are never taken back, under functions that do not look ahead: each is said once, when
//! the watermark has passed it.
//!
//! Rows wait by time. When they are due they are appended to what is kept of their key, and the functions are given both;
//! of the rows before, only those are kept that a frame can still reach. Where that is all of them, the functions of a key
//! with a long past are carried on ([`running`](super::running)), and its rows are kept for checkpoints.
//!
//! Snapshots: a key is touched when a row comes for it, when a row of it is said, and when rows of it are forgotten because
//! no frame reaches them. The last two happen only because event time passes, but a restore could not tell which of a
//! key's last rows that concerns.

use super::reach::Reach;
use super::running::{FUNCTION_BYTES, Running};
use super::{Evaluation, Spec};
use crate::runtime::operators::encoding::{ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::{
    Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external,
};
use crate::runtime::operators::touched::{Selection, selects};
use crate::runtime::operators::window::{BATCH_ROWS, TIME_LIMIT_US};
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state's only table.
const ROWS: &str = "rows";

/// Below this many rows before, computing all anew is cheaper in time or memory than carrying on.
const LONG: usize = if cfg!(test) { 4 } else { 64 };

#[derive(Debug, Default)]
struct OfKey {
    /// What is kept of the rows that were said: their times and themselves, sorted.
    before: Vec<(i64, RowBytes)>,
    /// The functions after all these rows, if they are carried on.
    running: Option<Box<Running>>,
}

impl Partition for OfKey {
    fn is_empty(&self) -> bool {
        self.before.is_empty()
    }
}

#[derive(Debug)]
pub struct Timed {
    spec: Spec,
    evaluation: Evaluation,
    time: usize,
    reach: Reach,
    /// Rows that the watermark has not passed, by time.
    waiting: BTreeMap<i64, Vec<Waiting>>,
    partitions: Partitions<OfKey>,
    rows_bytes: usize,
    n_running: usize,
    watermark_us: i64,
    /// What the watermark was when all keys were looked through for rows that are out of reach.
    swept_us: i64,
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

/// Rows whose time has come, ordered by key and within it.
struct Due {
    rows: Vec<(i64, RowBytes)>,
    columns: Vec<ArrayRef>,
    /// Number of the key and row, sorted.
    order: Vec<(usize, usize)>,
}

impl Timed {
    pub fn new(spec: Spec, time: usize) -> Result<Self> {
        let rises = spec.order.first().is_some_and(|by| by.column == time && !by.options.descending);
        if !rises || spec.changes {
            return Err(DataFusionError::Plan(format!(
                "rows settle only in rising order of column {time} and if they stay: {:?}",
                spec.order
            )));
        }
        Ok(Self {
            evaluation: Evaluation::new(&spec)?,
            reach: Reach::of(&spec.functions)?,
            waiting: BTreeMap::new(),
            partitions: Partitions::new(&spec.input, &spec.keys)?,
            time,
            spec,
            rows_bytes: 0,
            n_running: 0,
            watermark_us: i64::MIN,
            swept_us: i64::MIN,
        })
    }
}

impl Stateful for Timed {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let column = batch.column(self.time);
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("event time is of type {}", column.data_type())));
        };
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let hashes = hash::hash_rows(&keys, batch.num_rows()).map_err(external)?;
        let rows = self.evaluation.rows.encode(batch.columns())?;
        for (row, hash) in hashes.into_iter().enumerate() {
            let time = times.value(row);
            if times.is_null(row) || !(-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time) {
                out.n_timeless += 1;
            } else if time < self.watermark_us {
                out.n_late += 1;
            } else {
                let row = RowBytes::from(rows.row(row).data());
                self.rows_bytes += bytes_of(&row);
                self.waiting.entry(time).or_default().push(Waiting { hash, saved: false, row });
            }
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
        let due: Vec<(i64, RowBytes)> =
            due.into_iter().flat_map(|(time, rows)| rows.into_iter().map(move |waiting| (time, waiting.row))).collect();
        let since_us = self.reach.since_us(watermark_us);
        if !due.is_empty() {
            let due = self.by_key(due)?;
            let mut rest = due.order.as_slice();
            while !rest.is_empty() {
                rest = self.say(&due, rest, since_us, out)?;
            }
            let dirty = self.partitions.take_dirty();
            self.partitions.settle(&dirty)?;
        }
        // Keys without new rows keep what is out of reach until all are looked through; that is worth it once nothing is
        // within reach that was there the last time.
        if self.reach.spans_time() && (since_us > self.swept_us || watermark_us == i64::MAX) {
            self.swept_us = watermark_us;
            self.sweep(since_us)?;
        }
        Ok(())
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
        let of_keys = self.partitions.selected(selected);
        let before = of_keys.flat_map(|of_key| of_key.before.iter().map(|(_, row)| (row, true)));
        let waiting = self.waiting.values().flatten().filter(|waiting| selects(selected, waiting.hash));
        let waiting = waiting.map(|waiting| (&waiting.row, false));
        let rows: Vec<(&RowBytes, bool)> = before.chain(waiting).collect();
        let batch = |rows: &[(&RowBytes, bool)]| {
            let said: BooleanArray = rows.iter().map(|(_, said)| Some(*said)).collect();
            let own = rows.iter().map(|(row, _)| &***row);
            self.evaluation.rows.stored(&schema, &self.spec.keys, own, vec![Arc::new(said)])
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        let tables = vec![Table { name: ROWS, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.swept_us) = (watermark_us, watermark_us);
        let Some(own) = tables.remove(ROWS) else { return Ok(()) };
        expect_schema(&own, &self.state_schema())?;
        let n_columns = self.evaluation.rows.n_columns();
        let columns = &own.columns()[1..=n_columns];
        let hashes = own.column(0).as_primitive::<UInt64Type>().values();
        let said = own.column(n_columns + 1).as_boolean();
        let times = columns[self.time].as_primitive::<TimestampMicrosecondType>();
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, own.num_rows())?;
        let rows = self.evaluation.rows.encode(columns)?;
        for (at, number) in numbers.into_iter().enumerate() {
            let row = RowBytes::from(rows.row(at).data());
            self.rows_bytes += bytes_of(&row);
            match said.value(at) {
                true => self.partitions.touch(number).before.push((times.value(at), row)),
                false => {
                    let waiting = Waiting { hash: hashes[at], saved: true, row };
                    self.waiting.entry(times.value(at)).or_default().push(waiting);
                }
            }
        }
        let dirty = self.partitions.take_dirty();
        dirty.iter().for_each(|number| self.partitions.get_mut(*number).before.sort());
        self.partitions.forget_touched();
        self.partitions.settle(&dirty)
    }

    fn memory_bytes(&self) -> usize {
        let running = self.n_running * self.spec.functions.len() * FUNCTION_BYTES;
        self.partitions.memory_bytes() + self.rows_bytes + running
    }

    fn timing(&self) -> Timing {
        let first = self.waiting.first_key_value().map(|(time, _)| *time);
        Timing { due_us: first.map(|time| time.saturating_add(1)), from_us: i64::MAX }
    }
}

impl Forgets for Timed {
    /// Rows that wait are of a time that is still to come, and stay.
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let (rows_bytes, n_running) = (&mut self.rows_bytes, &mut self.n_running);
        self.partitions.forget(keys, |of_key| {
            *rows_bytes -= of_key.before.iter().map(|(_, row)| bytes_of(row)).sum::<usize>();
            *n_running -= usize::from(of_key.running.is_some());
        })
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.partitions.note_all_touched(keys);
    }
}

impl Timed {
    fn by_key(&mut self, rows: Vec<(i64, RowBytes)>) -> Result<Due> {
        let columns = self.evaluation.rows.decode(rows.iter().map(|(_, row)| &**row))?;
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let numbers = self.partitions.number(&keys, rows.len())?;
        let mut order: Vec<(usize, usize)> = numbers.into_iter().zip(0..).collect();
        order.sort_unstable_by(|(number, at), (other, other_at)| {
            number.cmp(other).then_with(|| rows[*at].1.cmp(&rows[*other_at].1))
        });
        Ok(Due { rows, columns, order })
    }

    /// Says what is due of some keys, and gives the rest.
    fn say<'a>(
        &mut self,
        due: &Due,
        mut rest: &'a [(usize, usize)],
        since_us: i64,
        out: &mut Output,
    ) -> Result<&'a [(usize, usize)]> {
        // Rows of the first array are due, those of the second were said before.
        let (mut picks, mut lengths, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        let mut before: Vec<RowBytes> = Vec::new();
        // By key: what is carried on.
        let mut running: Vec<Option<(usize, Box<Running>)>> = Vec::new();
        while let Some((number, _)) = rest.first()
            && picks.len() < BATCH_ROWS
        {
            let (own, others) = rest.split_at(rest.partition_point(|(other, _)| other == number));
            if self.reach == Reach::All && self.partitions.get(*number).before.len() >= LONG {
                running.push(Some((*number, self.running(*number)?)));
            } else {
                running.push(None);
            }
            let of_key = self.partitions.touch(*number);
            let n_before = if matches!(running.last(), Some(Some(_))) { 0 } else { of_key.before.len() };
            picks.extend((0..n_before).map(|at| (1, before.len() + at)));
            before.extend(of_key.before[..n_before].iter().map(|(_, row)| RowBytes::clone(row)));
            fresh.extend((picks.len()..picks.len() + own.len()).map(|at| at as u32));
            picks.extend(own.iter().map(|(_, at)| (0, *at)));
            lengths.push(n_before + own.len());
            of_key.before.extend(own.iter().map(|(_, at)| due.rows[*at].clone()));
            self.rows_bytes -= of_key.forget(&self.reach, since_us);
            rest = others;
        }
        let kept = self.evaluation.rows.decode(before.iter().map(|row| &**row))?;
        let columns = due.columns.iter().zip(&kept);
        let columns = columns.map(|(due, kept)| Ok(interleave(&[due.as_ref(), kept.as_ref()], &picks)?));
        let mut columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let results = self.evaluation.evaluate(&columns, &lengths, |at, rows| match &mut running[at] {
            Some((_, running)) => running.evaluate(&self.evaluation.functions, rows),
            None => self.evaluation.evaluate_whole(rows),
        })?;
        columns.extend(results);
        for (number, running) in running.into_iter().flatten() {
            self.partitions.get_mut(number).running = Some(running);
        }
        if fresh.len() < picks.len() {
            let fresh = UInt32Array::from(fresh);
            columns = columns.iter().map(|column| Ok(take(column, &fresh, None)?)).collect::<Result<_>>()?;
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?;
        for offset in (0..batch.num_rows()).step_by(BATCH_ROWS) {
            out.batches.push(batch.slice(offset, BATCH_ROWS.min(batch.num_rows() - offset)));
        }
        Ok(rest)
    }

    /// The functions of a key after all that was said of it.
    fn running(&mut self, number: usize) -> Result<Box<Running>> {
        let of_key = self.partitions.get_mut(number);
        if let Some(running) = of_key.running.take() {
            return Ok(running);
        }
        let mut running = Box::new(Running::new(&self.evaluation.functions));
        let columns = self.evaluation.rows.decode(of_key.before.iter().map(|(_, row)| &**row))?;
        let rows = RecordBatch::try_new(Arc::clone(&self.evaluation.input), columns)?;
        running.evaluate(&self.evaluation.functions, &rows)?;
        self.n_running += 1;
        Ok(running)
    }

    fn sweep(&mut self, since_us: i64) -> Result<()> {
        let all: Vec<usize> = (0..self.partitions.n_slots()).collect();
        for number in &all {
            let forgotten = self.partitions.get_mut(*number).forget(&self.reach, since_us);
            if forgotten > 0 {
                self.rows_bytes -= forgotten;
                self.partitions.mark_touched(*number);
            }
        }
        self.partitions.settle(&all)
    }

    fn state_schema(&self) -> SchemaRef {
        let said = Field::new("said", DataType::Boolean, false);
        Arc::new(Schema::new(self.evaluation.rows.stored_fields([said])))
    }
}

impl OfKey {
    /// Drops what is out of reach; gives how many bytes that were.
    fn forget(&mut self, reach: &Reach, since_us: i64) -> usize {
        let Reach::Last { rows, .. } = reach else { return 0 };
        let too_old = self.before.partition_point(|(time, _)| *time < since_us);
        let too_many = self.before.len().saturating_sub(*rows);
        let gone = self.before.drain(..too_old.min(too_many)).map(|(_, row)| bytes_of(&row)).sum();
        if self.before.capacity() > 2 * self.before.len() {
            self.before.shrink_to_fit();
        }
        gone
    }
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<Waiting>()
}
