//! Sessions whose rows may be taken back.
//!
//! A row that goes may end a session earlier, begin it later or cut it in two, and no aggregate says what it would have
//! been without it. So the rows themselves are kept, with how often each is there, until their session goes; which sessions
//! there are, and what they come to, is worked out from them when the watermark comes to the end of one, and with allowed
//! lateness when rows of one that was answered have changed.
//!
//! A row, of either weight, from which the watermark is a gap away or more is late, unless it comes after the first row of
//! the sessions of its key that were open when event time moved last. So the two halves of an update are both in time or
//! both late, in whatever order they come.
//!
//! Invariant: what is said in sum depends on the rows and the watermarks alone, not on how rows were cut into batches, on
//! flushes, on the number of slices, or on a checkpoint and restore in between. Without lateness every row that is said
//! has weight one.
//!
//! Snapshots: a key is touched when a row of it comes, when an answer is given, and when a session of it goes.

use super::Spec;
use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::{Encoding, ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::groups::{Aggregation, Inputs, Live};
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external};
use crate::runtime::operators::touched::{Selection, selects};
use crate::runtime::operators::window::{BATCH_ROWS, TIME_LIMIT_US};
use crate::state::hash;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Rows and how often they are there.
const ROWS: &str = "rows";
/// By key, since when rows are in time that otherwise come late.
const OPEN: &str = "open";
/// With lateness: the answers that are out.
const ANSWERS: &str = "answers";

#[derive(Debug, Default)]
struct OfKey {
    hash: u64,
    /// By time and row; never zero. Below zero where a row was taken back before it came.
    rows: BTreeMap<(i64, RowBytes), i64>,
    /// The first row of the sessions that were open when event time moved last.
    open_from: Option<i64>,
    /// With lateness: the answers that are out, in order.
    said: BTreeSet<RowBytes>,
    /// When the key is looked at next: not after its next session is to be answered or goes.
    check_us: Option<i64>,
    /// Whether a row was taken back since event time moved last.
    shrank: bool,
    /// Since the last snapshot.
    touched: bool,
}

/// A session, as the rows of a key make it up.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: i64,
    last: i64,
}

#[derive(Debug)]
pub struct UpdatingSessions {
    spec: Spec,
    aggregation: Arc<Aggregation>,
    /// Of the keys; absent without keys.
    keys: Option<Encoding>,
    /// Of the input's rows without their weight.
    rows: Encoding,
    /// Of what is said, without the weight.
    answers: Encoding,
    plain: SchemaRef,
    by_key: HashMap<RowBytes, OfKey>,
    checks: BTreeSet<(i64, RowBytes)>,
    /// The keys for which rows have come since event time moved last, and with lateness those for which they have since it
    /// was said what there is.
    dirty: BTreeSet<RowBytes>,
    unsaid: BTreeSet<RowBytes>,
    /// How many keys have open sessions since when.
    open_from: BTreeMap<i64, usize>,
    /// The hashes of keys that went since the last snapshot.
    gone: Vec<u64>,
    bytes: usize,
    watermark_us: i64,
}

/// What is to be answered.
#[derive(Default)]
struct Asked {
    /// Key, first and last time.
    sessions: Vec<(RowBytes, Run)>,
    /// Their rows, and of each the session.
    rows: Vec<RowBytes>,
    owners: Vec<u64>,
}

impl UpdatingSessions {
    /// The output has a weight, whether it is a changelog or not.
    pub fn new(spec: Spec) -> Result<Self> {
        super::check(&spec)?;
        let without_weight = |schema: &SchemaRef| {
            let n_columns = schema.fields().len().saturating_sub(1);
            Schema::new(schema.fields().iter().take(n_columns).cloned().collect::<Vec<_>>())
        };
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let (plain, said) = (without_weight(&spec.input), without_weight(&spec.output));
        let key_types: Vec<DataType> = spec.keys.iter().map(|key| spec.input.field(*key).data_type().clone()).collect();
        let session = Schema::new(vec![Field::new("session", DataType::UInt64, false)]);
        Ok(Self {
            aggregation: Arc::new(Aggregation::new(&session, &[0], spec.aggregates.clone())?),
            keys: if key_types.is_empty() { None } else { Some(Encoding::new(key_types, &[])?) },
            rows: Encoding::new(types(&plain), &[])?,
            answers: Encoding::new(types(&said), &[])?,
            plain: Arc::new(plain),
            by_key: HashMap::new(),
            checks: BTreeSet::new(),
            dirty: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            open_from: BTreeMap::new(),
            gone: Vec::new(),
            bytes: 0,
            watermark_us: i64::MIN,
            spec,
        })
    }

    /// Sessions that end at or before this take no more rows.
    fn settled_us(&self) -> i64 {
        match self.watermark_us {
            i64::MAX => i64::MAX,
            watermark_us => watermark_us.saturating_sub(self.spec.lateness_us),
        }
    }

    /// Says what the sessions of keys have to say. `moved`: event time has moved, so those that are settled go, and it is
    /// noted which are open.
    fn look(&mut self, keys: BTreeSet<RowBytes>, moved: bool, out: &mut Output) -> Result<()> {
        let mut asked = Asked::default();
        let mut of_key: Vec<(RowBytes, Vec<Run>, usize)> = Vec::new();
        for key in keys {
            let Some(state) = self.by_key.get(&key) else { continue };
            let runs = runs(&state.rows, self.spec.gap_us);
            let is_over = |run: &&Run| run.last + self.spec.gap_us <= self.watermark_us;
            let over: Vec<Run> = runs.iter().take_while(is_over).copied().collect();
            for run in &over {
                let session = asked.sessions.len() as u64;
                let from = (run.first, RowBytes::from([]));
                for ((_, row), count) in state.rows.range(from..).take_while(|((time, _), _)| *time <= run.last) {
                    let n = usize::try_from(*count).unwrap_or(0);
                    asked.rows.extend(std::iter::repeat_n(row, n).cloned());
                    asked.owners.extend(std::iter::repeat_n(session, n));
                }
                asked.sessions.push((RowBytes::clone(&key), *run));
            }
            of_key.push((key, runs, over.len()));
        }
        let said = self.answer(&asked)?;
        let mut said = said.into_iter();
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for (key, runs, n_over) in of_key {
            let now: Vec<RowBytes> = said.by_ref().take(n_over).collect();
            self.difference(&key, &now, (&mut come, &mut gone));
            if moved {
                self.settle(&key, &runs, n_over);
            }
        }
        self.emit(&gone, -1, out)?;
        self.emit(&come, 1, out)
    }

    /// What the sessions come to, as rows.
    fn answer(&self, asked: &Asked) -> Result<Vec<RowBytes>> {
        if asked.sessions.is_empty() {
            return Ok(Vec::new());
        }
        let mut live = Live::new(&self.aggregation)?;
        let arguments = self.aggregation.arguments();
        for (rows, owners) in asked.rows.chunks(BATCH_ROWS).zip(asked.owners.chunks(BATCH_ROWS)) {
            let columns = self.rows.decode(rows.iter().map(|row| &**row))?;
            let batch = RecordBatch::try_new(Arc::clone(&self.plain), columns)?;
            let inputs = Inputs::evaluate(&batch, &[], &arguments, &self.spec.filters)?;
            live.update_with(&inputs.with_keys(vec![Arc::new(UInt64Array::from(owners.to_vec()))]))?;
        }
        let (numbers, mut results, n_sessions) = live.finish()?;
        // Sessions have rows, and rows come in their order; so do numbers.
        let numbers = numbers.first().map(|numbers| numbers.as_primitive::<UInt64Type>().values().to_vec());
        if n_sessions != asked.sessions.len() {
            return Err(DataFusionError::Internal(format!("{n_sessions} of {} sessions", asked.sessions.len())));
        }
        let mut places = vec![0_u32; n_sessions];
        for (at, number) in numbers.iter().flatten().enumerate() {
            places[*number as usize] = at as u32;
        }
        let places = UInt32Array::from(places);
        for column in &mut results {
            *column = take(column, &places, None)?;
        }
        let n_keys = self.spec.keys.len();
        let keys = asked.sessions.iter().map(|(key, _)| &**key);
        let mut columns = self.keys.as_ref().map_or(Ok(Vec::new()), |encoding| encoding.decode(keys))?;
        let bound = |at: usize, time: fn(&Run, i64) -> i64| -> ArrayRef {
            let times = asked.sessions.iter().map(|(_, run)| Some(time(run, self.spec.gap_us)));
            let times: TimestampMicrosecondArray = times.collect();
            match self.spec.output.field(at).data_type() {
                DataType::Timestamp(_, zone) => Arc::new(times.with_timezone_opt(zone.clone())),
                _ => Arc::new(times),
            }
        };
        columns.push(bound(n_keys, |run, _| run.first));
        columns.push(bound(n_keys + 1, |run, gap_us| run.last + gap_us));
        columns.extend(results);
        Ok(self.answers.encode(&columns)?.iter().map(|row| RowBytes::from(row.data())).collect())
    }

    /// The sessions of a key that are over are answered so now. Adds what is to be said.
    fn difference(&mut self, key: &RowBytes, now: &[RowBytes], (come, gone): (&mut Vec<RowBytes>, &mut Vec<RowBytes>)) {
        let Some(state) = self.by_key.get_mut(key) else { return };
        let before = std::mem::take(&mut state.said);
        state.said = now.iter().cloned().collect();
        let (n_come, n_gone) = (come.len(), gone.len());
        gone.extend(before.difference(&state.said).cloned());
        come.extend(state.said.difference(&before).cloned());
        state.touched |= come.len() > n_come || gone.len() > n_gone;
        self.bytes += state.said.iter().map(|row| bytes_of(row)).sum::<usize>();
        self.bytes -= before.iter().map(|row| bytes_of(row)).sum::<usize>();
    }

    /// Lets the sessions of a key go that are settled, the first ones; the first `n_over` are answered.
    fn settle(&mut self, key: &RowBytes, runs: &[Run], n_over: usize) {
        let (gap_us, lateness_us, settled_us) = (self.spec.gap_us, self.spec.lateness_us, self.settled_us());
        let Some(state) = self.by_key.get_mut(key) else { return };
        let (gone, kept) = runs.split_at(runs.partition_point(|run| run.last + gap_us <= settled_us));
        let open_from = kept.first().map(|run| run.first);
        let mut n_bytes = 0;
        state.rows.retain(|(time, row), _| {
            let is_kept = open_from.is_some_and(|from| from <= *time) || time + gap_us > settled_us;
            n_bytes += if is_kept { 0 } else { bytes_of(row) };
            is_kept
        });
        // The answers of one key are in the order of their sessions: behind the key comes the start.
        let n_kept = n_over.saturating_sub(gone.len());
        if n_kept == 0 {
            n_bytes += state.said.iter().map(|row| bytes_of(row)).sum::<usize>();
            state.said.clear();
        } else {
            while state.said.len() > n_kept {
                n_bytes += state.said.pop_first().map_or(0, |row| bytes_of(&row));
            }
        }
        state.touched |= n_bytes > 0;
        state.shrank = false;
        let check_us = next_check(&state.rows, kept, n_kept, (gap_us, lateness_us));
        let is_empty = state.rows.is_empty();
        let hash = state.hash;
        self.bytes -= n_bytes;
        self.check_at(key, check_us);
        self.open_at(key, open_from);
        if is_empty {
            self.by_key.remove(key);
            self.bytes -= bytes_of(key);
            self.gone.push(hash);
        }
    }

    fn check_at(&mut self, key: &RowBytes, check_us: Option<i64>) {
        let Some(state) = self.by_key.get_mut(key) else { return };
        let before = std::mem::replace(&mut state.check_us, check_us);
        if before == check_us {
            return;
        }
        if let Some(before) = before {
            self.checks.remove(&(before, RowBytes::clone(key)));
        }
        if let Some(check_us) = check_us {
            self.checks.insert((check_us, RowBytes::clone(key)));
        }
    }

    fn open_at(&mut self, key: &RowBytes, open_from: Option<i64>) {
        let Some(state) = self.by_key.get_mut(key) else { return };
        let before = std::mem::replace(&mut state.open_from, open_from);
        if before == open_from {
            return;
        }
        state.touched = true;
        if let Some(before) = before
            && let Some(count) = self.open_from.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.open_from.remove(&before);
            }
        }
        if let Some(open_from) = open_from {
            *self.open_from.entry(open_from).or_default() += 1;
        }
    }

    fn emit(&self, rows: &[RowBytes], weight: i8, out: &mut Output) -> Result<()> {
        for rows in rows.chunks(BATCH_ROWS) {
            let mut columns = self.answers.decode(rows.iter().map(|row| &**row))?;
            columns.push(changes::all(weight, rows.len()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
        }
        Ok(())
    }

    /// The columns of keys, as rows of a table have them: the hash and then the keys.
    fn key_columns<'a>(&self, keys: impl Iterator<Item = (&'a RowBytes, u64)>) -> Result<Vec<ArrayRef>> {
        let (keys, hashes): (Vec<&RowBytes>, Vec<u64>) = keys.unzip();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(hashes))];
        if let Some(encoding) = &self.keys {
            columns.extend(encoding.decode(keys.into_iter().map(|key| &**key))?);
        }
        Ok(columns)
    }

    fn rows_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.rows.stored_fields([Field::new("count", DataType::Int64, false)])))
    }

    fn open_schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new("key_hash", DataType::UInt64, false)];
        let keys = self.spec.keys.iter().enumerate();
        fields.extend(
            keys.map(|(at, key)| {
                Field::new(format!("key_{at}"), self.spec.input.field(*key).data_type().clone(), true)
            }),
        );
        fields.push(Field::new("open_from_us", DataType::Int64, false));
        Arc::new(Schema::new(fields))
    }

    fn answers_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.answers.stored_fields([])))
    }

    /// The bytes of the keys in these columns.
    fn encoded(&self, columns: &[ArrayRef], n_rows: usize) -> Result<Vec<RowBytes>> {
        match &self.keys {
            None => Ok(vec![RowBytes::from([]); n_rows]),
            Some(encoding) => Ok(encoding.encode(columns)?.iter().map(|row| RowBytes::from(row.data())).collect()),
        }
    }

    fn known(&mut self, key: &RowBytes, hash: u64) -> &mut OfKey {
        if !self.by_key.contains_key(key) {
            self.bytes += bytes_of(key);
        }
        self.by_key.entry(RowBytes::clone(key)).or_insert_with(|| OfKey { hash, ..OfKey::default() })
    }
}

/// The sessions that rows make up, in order.
fn runs(rows: &BTreeMap<(i64, RowBytes), i64>, gap_us: i64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for ((time, _), _) in rows.iter().filter(|(_, count)| **count > 0) {
        match runs.last_mut().filter(|run| *time < run.last + gap_us) {
            Some(run) => run.last = *time,
            None => runs.push(Run { first: *time, last: *time }),
        }
    }
    runs
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<(i64, RowBytes, i64)>()
}

impl Stateful for UpdatingSessions {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let (columns, Some(weights)) = changes::split(batch, true)? else {
            return Err(DataFusionError::Internal("sessions of changes without weights".into()));
        };
        let column = &columns[self.spec.time];
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("event time is of type {}", column.data_type())));
        };
        let n_rows = batch.num_rows();
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
        let hashes = hash::hash_rows(&keys, n_rows).map_err(external)?;
        let keys = self.encoded(&keys, n_rows)?;
        let rows = self.rows.encode(columns)?;
        let (gap_us, settled_us, again) = (self.spec.gap_us, self.settled_us(), self.spec.lateness_us > 0);
        let mut late = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let time = times.value(at);
            if times.is_null(at) || !(-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time) {
                out.n_timeless += 1;
                continue;
            }
            let is_open = |state: &OfKey| state.open_from.is_some_and(|from| from <= time);
            if time + gap_us <= settled_us && !self.by_key.get(&key).is_some_and(is_open) {
                late.push(at as u32);
                continue;
            }
            let weight = i64::from(weights.value(at));
            let row = RowBytes::from(rows.row(at).data());
            let bytes = bytes_of(&row);
            let state = self.known(&key, hashes[at]);
            state.touched = true;
            state.shrank |= weight < 0;
            let check_us = state.check_us.map_or(time + gap_us, |check_us| check_us.min(time + gap_us));
            let place = (time, row);
            let before = state.rows.get(&place).copied().unwrap_or(0);
            match before + weight {
                0 => state.rows.remove(&place),
                count => state.rows.insert(place, count),
            };
            match (before, before + weight) {
                (0, _) => self.bytes += bytes,
                (_, 0) => self.bytes -= bytes,
                _ => {}
            }
            self.check_at(&key, Some(check_us));
            if again && !self.unsaid.contains(&key) {
                self.unsaid.insert(RowBytes::clone(&key));
            }
            if !self.dirty.contains(&key) {
                self.dirty.insert(key);
            }
        }
        out.come_late(batch, late)
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        let mut keys = std::mem::take(&mut self.unsaid);
        while self.checks.first().is_some_and(|(check_us, _)| *check_us <= watermark_us) {
            let Some((_, key)) = self.checks.pop_first() else { break };
            if let Some(state) = self.by_key.get_mut(&key) {
                state.check_us = None;
            }
            keys.insert(key);
        }
        for key in std::mem::take(&mut self.dirty) {
            let Some(state) = self.by_key.get(&key) else { continue };
            if state.shrank || state.rows.is_empty() {
                keys.insert(key);
            } else if !keys.contains(&key) {
                // Rows have only come, and no session is over.
                let first = first_of(&state.rows);
                self.open_at(&key, first);
            }
        }
        self.look(keys, true, out)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        let keys = std::mem::take(&mut self.unsaid);
        self.look(keys, false, out)
    }

    fn n_pending(&self) -> usize {
        self.unsaid.len()
    }

    /// A session that is still to come out begins with a row that is still to come, less than a gap before the watermark,
    /// or is open now.
    fn output_watermark_us(&self) -> i64 {
        match self.settled_us() {
            i64::MIN => i64::MIN,
            i64::MAX => i64::MAX,
            settled_us => {
                let next = settled_us.saturating_sub(self.spec.gap_us).saturating_add(1);
                self.open_from.first_key_value().map_or(next, |(first, _)| (*first).min(next))
            }
        }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let mut touched = std::mem::take(&mut self.gone);
        for state in self.by_key.values_mut().filter(|state| state.touched) {
            touched.push(state.hash);
            state.touched = false;
        }
        let selection = Selection::new(scope, touched, self.by_key.len());
        let mut tables = Vec::new();
        {
            let selected = || self.by_key.iter().filter(|(_, state)| selects(selection.as_ref(), state.hash));
            let rows: Vec<(&RowBytes, i64)> =
                selected().flat_map(|(_, state)| state.rows.iter().map(|((_, row), count)| (row, *count))).collect();
            let schema = self.rows_schema();
            let batch = |rows: &[(&RowBytes, i64)]| {
                let counts: ArrayRef = Arc::new(rows.iter().map(|(_, count)| Some(*count)).collect::<Int64Array>());
                self.rows.stored(&schema, &self.spec.keys, rows.iter().map(|(row, _)| &***row), vec![counts])
            };
            let batches = rows.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
            tables.push(Table { name: ROWS, schema: Arc::clone(&schema), batches });

            let open: Vec<(&RowBytes, u64, i64)> =
                selected().filter_map(|(key, state)| Some((key, state.hash, state.open_from?))).collect();
            let schema = self.open_schema();
            let batch = |open: &[(&RowBytes, u64, i64)]| {
                let mut columns = self.key_columns(open.iter().map(|(key, hash, _)| (*key, *hash)))?;
                columns.push(Arc::new(open.iter().map(|(_, _, from)| Some(*from)).collect::<Int64Array>()));
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            };
            let batches = open.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
            tables.push(Table { name: OPEN, schema: Arc::clone(&schema), batches });

            let said: Vec<&RowBytes> = selected().flat_map(|(_, state)| &state.said).collect();
            let schema = self.answers_schema();
            let keys: Vec<usize> = (0..self.spec.keys.len()).collect();
            let batch =
                |said: &[&RowBytes]| self.answers.stored(&schema, &keys, said.iter().map(|row| &***row), Vec::new());
            let batches = said.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
            tables.push(Table { name: ANSWERS, schema: Arc::clone(&schema), batches });
        }
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        let n_keys = self.spec.keys.len();
        if let Some(own) = tables.remove(ROWS) {
            expect_schema(&own, &self.rows_schema())?;
            let hashes = own.column(0).as_primitive::<UInt64Type>();
            let columns = &own.columns()[1..=self.rows.n_columns()];
            let counts = own.column(self.rows.n_columns() + 1).as_primitive::<Int64Type>();
            let times = columns[self.spec.time].as_primitive::<TimestampMicrosecondType>();
            let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(&columns[*key])).collect();
            let keys = self.encoded(&keys, own.num_rows())?;
            let rows: Vec<RowBytes> = self.rows.encode(columns)?.iter().map(|row| RowBytes::from(row.data())).collect();
            for (at, (key, row)) in keys.iter().zip(rows).enumerate() {
                self.bytes += bytes_of(&row);
                self.known(key, hashes.value(at)).rows.insert((times.value(at), row), counts.value(at));
            }
        }
        if let Some(own) = tables.remove(OPEN) {
            expect_schema(&own, &self.open_schema())?;
            let hashes = own.column(0).as_primitive::<UInt64Type>();
            let from = own.column(1 + n_keys).as_primitive::<Int64Type>();
            for (at, key) in self.encoded(&own.columns()[1..=n_keys], own.num_rows())?.iter().enumerate() {
                self.known(key, hashes.value(at));
                self.open_at(key, Some(from.value(at)));
            }
        }
        if let Some(own) = tables.remove(ANSWERS) {
            expect_schema(&own, &self.answers_schema())?;
            let hashes = own.column(0).as_primitive::<UInt64Type>();
            let said: Vec<RowBytes> =
                self.answers.encode(&own.columns()[1..])?.iter().map(|row| RowBytes::from(row.data())).collect();
            let keys = self.encoded(&own.columns()[1..=n_keys], own.num_rows())?;
            for (at, (key, row)) in keys.iter().zip(said).enumerate() {
                self.bytes += bytes_of(&row);
                self.known(key, hashes.value(at)).said.insert(row);
            }
        }
        let times = (self.spec.gap_us, self.spec.lateness_us);
        let mut checks = Vec::with_capacity(self.by_key.len());
        for (key, state) in &mut self.by_key {
            state.touched = false;
            let runs = runs(&state.rows, self.spec.gap_us);
            // All was said before the checkpoint. Without lateness what is over was not: it goes with being said.
            let is_answered = |run: &Run| self.spec.lateness_us > 0 && run.last + self.spec.gap_us <= watermark_us;
            let n_answered = runs.partition_point(is_answered);
            checks.push((RowBytes::clone(key), next_check(&state.rows, &runs, n_answered, times)));
            if state.open_from != first_of(&state.rows) {
                self.dirty.insert(RowBytes::clone(key));
            }
        }
        checks.iter().for_each(|(key, check_us)| self.check_at(key, *check_us));
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let entries = self.checks.len() + self.dirty.len() + self.unsaid.len();
        self.bytes
            + self.by_key.capacity() * size_of::<(RowBytes, OfKey)>()
            + entries * (size_of::<(i64, RowBytes)>() + ROW_OVERHEAD_BYTES)
    }

    fn timing(&self) -> Timing {
        let dirty = || self.dirty.iter().filter_map(|key| self.by_key.get(key));
        let at_once = dirty().any(|state| state.shrank).then_some(i64::MIN);
        let first = dirty().filter_map(|state| first_of(&state.rows)).chain(self.open_from.keys().next().copied());
        Timing {
            due_us: at_once.or(self.checks.first().map(|(check_us, _)| *check_us)),
            from_us: first.min().unwrap_or(i64::MAX),
        }
    }
}

/// When the next of these sessions is to be answered, or goes; the first `n_answered` are answered. What was taken back
/// before it came goes too.
fn next_check(
    rows: &BTreeMap<(i64, RowBytes), i64>,
    runs: &[Run],
    n_answered: usize,
    (gap_us, lateness_us): (i64, i64),
) -> Option<i64> {
    let next = |(at, run): (usize, &Run)| run.last + gap_us + if at < n_answered { lateness_us } else { 0 };
    let owed = rows.iter().find(|(_, count)| **count < 0).map(|((time, _), _)| time + gap_us + lateness_us);
    runs.iter().enumerate().map(next).chain(owed).min()
}

/// When the first row is that is there.
fn first_of(rows: &BTreeMap<(i64, RowBytes), i64>) -> Option<i64> {
    rows.iter().find(|(_, count)| **count > 0).map(|((time, _), _)| *time)
}

#[cfg(test)]
mod tests;
