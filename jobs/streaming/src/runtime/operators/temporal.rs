//! Joins each row with the version of its key that was valid at its event time.
//!
//! A row of the right input is the version of its key from its event time on, until the next one. Rows of the left input
//! wait until the watermark of both inputs has passed them: then all versions of their time are there, and each is given
//! once, with the last version at or before it. Of two versions of one key at the same time the greater row is the later
//! one, compared by its columns from the first to the last with nulls first: what decides is what rows hold and not when
//! they came.
//!
//! A version is freed when a later one of its key is at or before the watermark, since no row to come is earlier than
//! that. A version that comes late is kept all the same, if it is the last one that rows to come can find: those that
//! were answered before stay as they are.
//!
//! Left rows may be a changelog as long as nothing is taken back of what the watermark has passed: what comes of a row
//! until then is added up ([`unsettled`]), and what is given is never taken back.
//!
//! Snapshots: a key is touched when a version of it comes, when a row comes for it, and when a row is given that a snapshot
//! had. Versions that are freed need not be told: a restore frees them again.
//!
//! Invariant: what is given depends on rows and watermarks alone, not on the order in which rows came between two
//! watermarks, on batches, the number of slices, or a checkpoint and restore in between.

mod unsettled;
mod versions;

use crate::dataflow::Temporal;
use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::join::residual::Residual;
use crate::runtime::operators::stateful::{
    Forgets, Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external,
};
use crate::runtime::operators::touched::{Selection, selects};
use crate::runtime::operators::window::{BATCH_ROWS, TIME_LIMIT_US};
use crate::state::hash;
use crate::state::hashes::Hashes;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use unsettled::{Change, Unsettled};
use versions::Versions;

/// The state's tables.
const WAITING: &str = "waiting";
const VERSIONS: &str = "versions";

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// How the operator was planned; see `Operator::Temporal`.
#[derive(Debug)]
pub struct Spec {
    pub join: Temporal,
    /// The weight last where it is a changelog.
    pub left: SchemaRef,
    pub left_changes: bool,
    pub right: SchemaRef,
    /// The columns of the left input and then of the right one.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct TemporalJoin {
    spec: Spec,
    residual: Option<Residual>,
    left: Encoding,
    right: Encoding,
    /// Left rows that the watermark has not passed, by time.
    waiting: BTreeMap<i64, Vec<Waiting>>,
    waiting_bytes: usize,
    /// Instead of these, where left rows may be taken back.
    unsettled: Unsettled,
    versions: Versions,
    watermark_us: i64,
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

impl TemporalJoin {
    pub fn new(spec: Spec) -> Result<Self> {
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let n_left = spec.left.fields().len() - usize::from(spec.left_changes);
        let left_data = spec.left.project(&(0..n_left).collect::<Vec<_>>())?;
        let (left, right): (Vec<DataType>, Vec<DataType>) = (types(&left_data), types(&spec.right));
        let Temporal { left_keys, right_keys, residual, .. } = &spec.join;
        let pick = |keys: &[usize], of: &[DataType]| keys.iter().map(|key| of.get(*key).cloned()).collect::<Vec<_>>();
        let keys = pick(left_keys, &left);
        if keys.is_empty() || keys.contains(&None) || keys != pick(right_keys, &right) {
            return Err(DataFusionError::Plan(format!(
                "versions are joined by equal keys of equal types: {left_keys:?} of {} and {right_keys:?} of {}",
                spec.left, spec.right
            )));
        }
        let plain =
            |schema: &Schema| schema.fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<Field>>();
        let residual = residual.as_ref();
        let residual = residual.map(|predicate| Residual::new(predicate, &plain(&left_data), &plain(&spec.right)));
        Ok(Self {
            residual: residual.transpose()?,
            versions: Versions::new(&spec.right, right_keys)?,
            left: Encoding::new(left, &[])?,
            right: Encoding::new(right, &[])?,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            unsettled: Unsettled::default(),
            watermark_us: i64::MIN,
            spec,
        })
    }
}

impl Stateful for TemporalJoin {
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        match input {
            LEFT if self.spec.left_changes => {
                let (columns, weights) = changes::split(batch, true)?;
                let weights = weights.into_iter().flat_map(|weights| weights.values().iter());
                self.add(columns, weights.map(|weight| i64::from(*weight)), false, out)
            }
            LEFT => self.wait(batch.columns(), false, out),
            _ => self.learn(batch.columns(), out),
        }
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        let later = self.waiting.split_off(&watermark_us);
        let due = std::mem::replace(&mut self.waiting, later);
        let saved = due.values().flatten().filter(|waiting| waiting.saved).map(|waiting| waiting.hash);
        self.versions.note_touched(saved);
        let mut due: Vec<(i64, RowBytes)> =
            due.into_iter().flat_map(|(time, rows)| rows.into_iter().map(move |waiting| (time, waiting.row))).collect();
        self.waiting_bytes -= due.iter().map(|(_, row)| bytes_of(row)).sum::<usize>();
        let (settled, told) = self.unsettled.settle(watermark_us);
        self.versions.note_touched(told);
        due.extend(settled);
        for due in due.chunks(BATCH_ROWS) {
            self.say(due, out)?;
        }
        self.versions.passed(watermark_us)
    }

    fn output_watermark_us(&self) -> i64 {
        self.watermark_us
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        self.versions.free(self.watermark_us)?;
        let unsaved = self.unsettled.save();
        self.versions.note_touched(unsaved);
        let mut n_waiting = self.unsettled.n_rows();
        for waiting in self.waiting.values_mut().flatten() {
            n_waiting += 1;
            if !std::mem::replace(&mut waiting.saved, true) {
                self.versions.note_touched([waiting.hash]);
            }
        }
        let selection = self.versions.take_touched(scope, n_waiting);
        let selected = selection.as_ref();
        let waiting = self.waiting.values().flatten().filter(|waiting| selects(selected, waiting.hash));
        let waiting: Vec<&RowBytes> = waiting.map(|waiting| &waiting.row).collect();
        let versions: Vec<&RowBytes> = self.versions.selected(selected).collect();
        let left_keys = &self.spec.join.left_keys;
        let waiting = match self.spec.left_changes {
            false => table(WAITING, &self.left, left_keys, &waiting)?,
            true => self.unsettled_table(selected)?,
        };
        let tables = vec![waiting, table(VERSIONS, &self.right, &self.spec.join.right_keys, &versions)?];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        // Nothing that is kept is late or without a time.
        let none = &mut Output::default();
        if let Some(waiting) = tables.remove(WAITING) {
            match self.spec.left_changes {
                false => {
                    expect_schema(&waiting, &state_schema(&self.left))?;
                    self.wait(&waiting.columns()[1..], true, none)?;
                }
                true => {
                    expect_schema(&waiting, &unsettled_schema(&self.left))?;
                    let (weights, columns) = waiting.columns()[1..].split_last().ok_or_else(no_weights)?;
                    let weights = weights.as_primitive_opt::<Int64Type>().ok_or_else(no_weights)?;
                    self.add(columns, weights.values().iter().copied(), true, none)?;
                }
            }
        }
        if let Some(versions) = tables.remove(VERSIONS) {
            expect_schema(&versions, &state_schema(&self.right))?;
            self.learn(&versions.columns()[1..], none)?;
        }
        self.versions.forget_touched();
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.waiting_bytes + self.unsettled.memory_bytes() + self.versions.memory_bytes()
    }

    fn timing(&self) -> Timing {
        let waiting = self.waiting.first_key_value().map(|(time, _)| *time);
        let first = waiting.into_iter().chain(self.unsettled.first_us()).min();
        Timing { due_us: first.map(|time| time.saturating_add(1)), from_us: i64::MAX }
    }
}

impl Forgets for TemporalJoin {
    /// Rows that wait are of a time that is still to come, and stay.
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        self.versions.forget(keys)
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.versions.note_touched(keys.iter().copied());
    }
}

impl TemporalJoin {
    /// `saved`: the rows are in a snapshot.
    fn wait(&mut self, columns: &[ArrayRef], saved: bool, out: &mut Output) -> Result<()> {
        let times = times(columns, self.spec.join.left_time)?;
        let keys: Vec<ArrayRef> = self.spec.join.left_keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash::hash_rows(&keys, times.len()).map_err(external)?;
        let rows = self.left.encode(columns)?;
        for (at, hash) in hashes.into_iter().enumerate() {
            match usable(&times, at) {
                None => out.n_timeless += 1,
                Some(time) if time < self.watermark_us => out.n_late += 1,
                Some(time) => {
                    let row = RowBytes::from(rows.row(at).data());
                    self.waiting_bytes += bytes_of(&row);
                    self.waiting.entry(time).or_default().push(Waiting { hash, saved, row });
                }
            }
        }
        Ok(())
    }

    /// As [`Self::wait`], rows with their weights.
    fn add(
        &mut self,
        columns: &[ArrayRef],
        weights: impl Iterator<Item = i64>,
        saved: bool,
        out: &mut Output,
    ) -> Result<()> {
        let times = times(columns, self.spec.join.left_time)?;
        let keys: Vec<ArrayRef> = self.spec.join.left_keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash::hash_rows(&keys, times.len()).map_err(external)?;
        let rows = self.left.encode(columns)?;
        for (at, (hash, weight)) in hashes.into_iter().zip(weights).enumerate() {
            match usable(&times, at) {
                None => out.n_timeless += 1,
                Some(time) if time < self.watermark_us => out.n_late += 1,
                Some(time) => {
                    let told = self.unsettled.add(time, rows.row(at).data(), hash, weight, saved);
                    self.versions.note_touched(told);
                }
            }
        }
        Ok(())
    }

    fn unsettled_table(&self, selection: Option<&Selection>) -> Result<Table> {
        let schema = unsettled_schema(&self.left);
        let rows: Vec<_> = self.unsettled.iter().filter(|(_, change)| selects(selection, change.hash)).collect();
        let batch = |rows: &[(&RowBytes, &Change)]| {
            let weights: Int64Array = rows.iter().map(|(_, change)| change.weight).collect();
            let bytes = rows.iter().map(|(row, _)| &***row);
            self.left.stored(&schema, &self.spec.join.left_keys, bytes, vec![Arc::new(weights)])
        };
        let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
        Ok(Table { name: WAITING, schema, batches })
    }

    fn learn(&mut self, columns: &[ArrayRef], out: &mut Output) -> Result<()> {
        let times = times(columns, self.spec.join.right_time)?;
        let rows = self.right.encode(columns)?;
        let keys: Vec<ArrayRef> = self.spec.join.right_keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
        let mut versions = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let time = usable(&times, row);
            out.n_timeless += u64::from(time.is_none());
            // The end of the input is no time that rows come after.
            out.n_late += u64::from(time.is_some_and(|time| time < self.watermark_us && self.watermark_us < i64::MAX));
            // A key with a null in it is equal to none.
            let is_whole = nulls.iter().all(|nulls| nulls.is_valid(row));
            versions.push(time.filter(|_| is_whole).map(|time| (time, RowBytes::from(rows.row(row).data()))));
        }
        self.versions.add(&keys, versions, self.watermark_us)
    }

    /// Gives rows that are due.
    fn say(&mut self, due: &[(i64, RowBytes)], out: &mut Output) -> Result<()> {
        let left = self.left.decode(due.iter().map(|(_, row)| &**row))?;
        let keys: Vec<ArrayRef> = self.spec.join.left_keys.iter().map(|key| Arc::clone(&left[*key])).collect();
        let times: Vec<i64> = due.iter().map(|(time, _)| *time).collect();
        let (valid, mut found) = self.versions.valid_at(&keys, &times)?;
        let right = match valid.is_empty() {
            true => self.spec.right.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect(),
            false => self.right.decode(valid.iter().map(|row| &**row))?,
        };
        if let Some(residual) = &self.residual {
            let pairs: Vec<u32> = (0..found.len() as u32).filter(|row| found[*row as usize].is_some()).collect();
            let of_right: UInt32Array = pairs.iter().map(|row| found[*row as usize]).collect();
            let of_left = UInt32Array::from(pairs);
            let left = take_some(&left, residual.columns(LEFT), &of_left)?;
            let holds = residual.holds(left, take_some(&right, residual.columns(RIGHT), &of_right)?, of_left.len())?;
            for (row, holds) in of_left.values().iter().zip(holds.values()) {
                found[*row as usize] = found[*row as usize].filter(|_| holds);
            }
        }
        let given: Vec<u32> =
            (0..found.len() as u32).filter(|row| self.spec.join.outer || found[*row as usize].is_some()).collect();
        if given.is_empty() {
            return Ok(());
        }
        let matches: UInt32Array = given.iter().map(|row| found[*row as usize]).collect();
        let given = UInt32Array::from(given);
        let mut columns = left.iter().map(|column| Ok(take(column, &given, None)?)).collect::<Result<Vec<_>>>()?;
        for column in &right {
            columns.push(take(column, &matches, None)?);
        }
        out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        Ok(())
    }
}

fn take_some(all: &[ArrayRef], columns: &[usize], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| Ok(take(&all[*column], rows, None)?)).collect()
}

fn times(columns: &[ArrayRef], time: usize) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let column = columns.get(time).ok_or_else(|| DataFusionError::Plan(format!("there is no column {time}")))?;
    let times = column.as_primitive_opt::<TimestampMicrosecondType>().cloned();
    times.ok_or_else(|| DataFusionError::Execution(format!("event time is of type {}", column.data_type())))
}

fn usable(times: &PrimitiveArray<TimestampMicrosecondType>, row: usize) -> Option<i64> {
    let time = times.is_valid(row).then(|| times.value(row))?;
    (-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time).then_some(time)
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<Waiting>()
}

fn state_schema(rows: &Encoding) -> SchemaRef {
    Arc::new(Schema::new(rows.stored_fields([])))
}

fn unsettled_schema(rows: &Encoding) -> SchemaRef {
    Arc::new(Schema::new(rows.stored_fields([Field::new("weight", DataType::Int64, false)])))
}

fn no_weights() -> DataFusionError {
    DataFusionError::Internal("rows of a changelog were kept without their weights".into())
}

fn table(name: &'static str, encoding: &Encoding, keys: &[usize], rows: &[&RowBytes]) -> Result<Table> {
    let schema = state_schema(encoding);
    let batch = |rows: &[&RowBytes]| encoding.stored(&schema, keys, rows.iter().map(|row| &***row), Vec::new());
    let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
    Ok(Table { name, schema, batches })
}

#[cfg(test)]
mod tests;
