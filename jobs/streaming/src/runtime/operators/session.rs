//! Session windows over keyed rows: a session is a run of rows of one key in which neighbours are less than the gap
//! apart; it lasts from its first row until one gap after its last, and is emitted once, when the watermark has come to
//! its end.
//!
//! Which sessions there are is plain bookkeeping of times ([`open`]). What their rows aggregate to lies in *fragments*,
//! groups of shared accumulators ([`layers`]): a session has one or several, and when two sessions become one, so do
//! their lists of fragments and nothing is computed. Fragments are merged when their session is over.
//!
//! A row from which the watermark is a gap away, or more, would be a session that is over. It is late, unless it lies
//! within a session that is still open. It cannot begin such a session earlier: its start has been promised to those who
//! read it, and what is late must not depend on the order of rows between two watermarks.
//!
//! With allowed lateness sessions are kept for that long after their end, with the answers that are out, and a late row, or
//! sessions that it makes one, lets them be answered again ([`answers`]): what is written above about sessions that are over
//! holds of those that end a lateness before the watermark. Sessions whose rows may be taken back are another operator
//! ([`updating`]).
//!
//! Invariant: what is emitted depends on the rows and the watermarks alone, not on how rows were cut into batches, on
//! the number of slices, or on a checkpoint and restore in between.
//!
//! Snapshots: a key is touched when a row comes for it. A session that is over goes only because event time passes: its
//! rows say until when they count, those written before it grew or became part of another one no longer than the last.
//! With lateness a key is touched by an answer too, and when a session goes whose answers do not say that.

use crate::runtime::operators::changes;
use crate::runtime::operators::encoding::Encoding;
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema, external};
use crate::runtime::operators::touched::Selection;
use crate::runtime::operators::window::{BATCH_ROWS, TIME_LIMIT_US};
use crate::runtime::operators::{evaluate, evaluate_predicate};
use crate::state::chain::with_until;
use crate::state::hash;
use answers::Answers;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use layers::Layers;
use open::{Listed, Open};
use std::collections::BTreeMap;
use std::sync::Arc;

mod answers;
mod layers;
mod open;
pub mod updating;

/// The table of sessions; with lateness there is one of answers too.
const SESSIONS: &str = "sessions";

/// How the operator was planned; see `Operator::WindowAggregate`.
#[derive(Debug)]
pub struct Spec {
    pub gap_us: i64,
    pub time: usize,
    pub keys: Vec<usize>,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    pub lateness_us: i64,
    pub input: SchemaRef,
    /// Keys, start, end, one column per aggregate, with lateness the weight.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct SessionAggregate {
    spec: Spec,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    /// Of the keys; absent without keys.
    keys: Option<Encoding>,
    key_types: Vec<DataType>,
    open: Open,
    layers: Layers,
    /// With allowed lateness.
    answers: Option<Answers>,
    /// Sessions that end at or before this were emitted.
    watermark_us: i64,
}

impl SessionAggregate {
    pub fn new(spec: Spec) -> Result<Self> {
        check(&spec)?;
        let answers = if spec.lateness_us > 0 { Some(Answers::new(&spec.output, spec.keys.len())?) } else { None };
        let key_types: Vec<DataType> = spec.keys.iter().map(|key| spec.input.field(*key).data_type().clone()).collect();
        let keys = if key_types.is_empty() { None } else { Some(Encoding::new(key_types.clone(), &[])?) };
        let layers = Layers::new(spec.aggregates.clone())?;
        Ok(Self {
            arguments: layers.aggregation().arguments(),
            keys,
            key_types,
            open: Open::new(spec.gap_us, answers.is_some()),
            layers,
            answers,
            watermark_us: i64::MIN,
            spec,
        })
    }
}

fn check(spec: &Spec) -> Result<()> {
    if spec.gap_us <= 0 || spec.gap_us > TIME_LIMIT_US / 2 {
        return Err(DataFusionError::Plan(format!("sessions with a gap of {} µs are not possible", spec.gap_us)));
    }
    if !(0..TIME_LIMIT_US / 2).contains(&spec.lateness_us) {
        return Err(DataFusionError::Plan(format!("a lateness of {} µs is not possible", spec.lateness_us)));
    }
    Ok(())
}

impl Stateful for SessionAggregate {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let (rows, fragments) = self.assign(batch, out)?;
        if rows.is_empty() {
            return Ok(());
        }
        let all = |exprs: &Vec<Arc<dyn PhysicalExpr>>| exprs.iter().map(|expr| evaluate(expr, batch)).collect();
        let mut arguments = self.arguments.iter().map(all).collect::<Result<Vec<Vec<ArrayRef>>>>()?;
        let filter = |filter: &Option<Arc<dyn PhysicalExpr>>| {
            filter.as_ref().map(|predicate| evaluate_predicate(predicate, batch)).transpose()
        };
        let mut filters = self.spec.filters.iter().map(filter).collect::<Result<Vec<_>>>()?;
        if rows.len() < batch.num_rows() {
            let rows = UInt32Array::from(rows);
            for column in arguments.iter_mut().flatten() {
                *column = take(column, &rows, None)?;
            }
            for mask in filters.iter_mut().flatten() {
                *mask = take(mask, &rows, None)?.as_boolean().clone();
            }
        }
        self.layers.update(fragments, &arguments, &filters)
    }

    /// Emits the sessions that the watermark has come to the end of, in the order of their ends.
    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = watermark_us;
        if self.answers.is_some() {
            self.open.advance(watermark_us);
            self.answer(out)?;
        }
        let closed = self.open.close(self.settled_us());
        for closed in closed.chunks(BATCH_ROWS).filter(|_| self.answers.is_none()) {
            let fragments = closed.iter().map(|closed| closed.session.fragments.as_slice());
            let results = self.layers.finish(fragments)?;
            let times = closed.iter().map(|closed| (closed.session.first, closed.session.last)).collect();
            out.batches.push(self.output(closed.iter().map(|closed| &*closed.key), times, results, None)?);
        }
        if !closed.is_empty() && self.layers.worth_compacting(self.open.n_sessions()) {
            self.layers.compact(self.open.fragments_mut(None))?;
        }
        Ok(())
    }

    /// A session that is still to come out begins with a row that is still to come, less than a gap before the
    /// watermark, or is open now.
    fn output_watermark_us(&self) -> i64 {
        match self.settled_us() {
            i64::MIN => i64::MIN,
            i64::MAX => i64::MAX,
            settled_us => {
                let next = settled_us.saturating_sub(self.spec.gap_us).saturating_add(1);
                self.open.first_start().map_or(next, |first| first.min(next))
            }
        }
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.answer(out)
    }

    fn n_pending(&self) -> usize {
        self.open.n_touched()
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let touched = self.open.touched_keys();
        let keys = self.key_columns(touched.iter().map(|key| &**key))?;
        let mut hashes = hash::hash_rows(&keys, touched.len()).map_err(external)?;
        self.open.settle(&touched, &hashes);
        hashes.extend(self.open.take_gone());
        let selection = Selection::new(scope, hashes, self.open.n_keys());
        let schema = with_until(&self.state_schema());
        let listed = self.open.list(selection.as_ref());
        let mut tables = Vec::new();
        if !listed.is_empty() {
            let kept_us = self.spec.gap_us + self.spec.lateness_us;
            let column = |of: fn(&Listed, i64) -> i64| -> ArrayRef {
                Arc::new(listed.iter().map(|listed| Some(of(listed, kept_us))).collect::<Int64Array>())
            };
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(listed.iter().map(|listed| Some(listed.hash)).collect::<UInt64Array>()),
                column(|listed, kept_us| listed.last + kept_us),
            ];
            columns.extend(self.key_columns(listed.iter().map(|listed| &*listed.key))?);
            columns.extend([column(|listed, _| listed.first), column(|listed, _| listed.last)]);
            // Afterwards there is one fragment per session, in the order in which sessions are listed.
            let fragments = self.open.fragments_mut(selection.as_ref());
            columns.extend(match &selection {
                None => self.layers.compact(fragments)?,
                Some(_) => self.layers.gather(fragments)?,
            });
            let batches = vec![RecordBatch::try_new(Arc::clone(&schema), columns)?];
            tables.push(Table { name: SESSIONS, schema, batches });
        }
        if self.layers.worth_compacting(self.open.n_sessions()) {
            self.layers.compact(self.open.fragments_mut(None))?;
        }
        let answers = self.answers.as_ref().map(|answers| answers.save(&self.open, selection.as_ref()));
        tables.extend(answers.transpose()?);
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        if let Some(own) = tables.remove(SESSIONS) {
            self.restore_sessions(&own)?;
        }
        if let Some(answers) = &self.answers {
            answers.load(tables.remove(answers::TABLE), self.keys.as_ref(), &mut self.open)?;
        }
        self.open.restored(watermark_us);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.open.memory_bytes() + self.layers.memory_bytes()
    }

    fn timing(&self) -> Timing {
        // Sessions go a lateness after their ends.
        let gone_us = self.open.next_check().map(|check_us| check_us.saturating_add(self.spec.lateness_us));
        let due_us = gone_us.into_iter().chain(self.open.next_due()).min();
        Timing { due_us, from_us: self.open.first_start().unwrap_or(i64::MAX) }
    }
}

impl SessionAggregate {
    fn restore_sessions(&mut self, own: &RecordBatch) -> Result<()> {
        expect_schema(own, &with_until(&self.state_schema()))?;
        let hashes = own.column(0).as_primitive::<UInt64Type>().values();
        let (keys, rest) = own.columns()[2..].split_at(self.key_types.len());
        let (times, states) = rest.split_at(2);
        let (first, last) = (times[0].as_primitive::<Int64Type>(), times[1].as_primitive::<Int64Type>());
        let keys = self.keys.as_ref().map(|encoding| encoding.encode(keys)).transpose()?;
        let fragments = self.layers.restore(states.to_vec(), own.num_rows());
        for (row, fragment) in fragments.into_iter().enumerate() {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            self.open.restore(key, hashes[row], (first.value(row), last.value(row)), fragment);
        }
        Ok(())
    }

    /// Sessions that end at or before this take no more rows.
    fn settled_us(&self) -> i64 {
        match self.watermark_us {
            i64::MAX => i64::MAX,
            watermark_us => watermark_us.saturating_sub(self.spec.lateness_us),
        }
    }

    /// The rows that belong to sessions, and their fragments in the live layer.
    fn assign(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<(Vec<u32>, Vec<u64>)> {
        let column = batch.column(self.spec.time);
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Execution(format!("event time is of type {}", column.data_type())));
        };
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let keys = self.keys.as_ref().map(|encoding| encoding.encode(&keys)).transpose()?;
        let settled_us = self.settled_us();
        let mut late = Vec::new();
        let (mut rows, mut fragments) = (Vec::with_capacity(batch.num_rows()), Vec::with_capacity(batch.num_rows()));
        for row in 0..batch.num_rows() {
            let time = times.value(row);
            if times.is_null(row) || !(-TIME_LIMIT_US..TIME_LIMIT_US).contains(&time) {
                out.n_timeless += 1;
                continue;
            }
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            match self.open.place(key, time, settled_us, &mut self.layers) {
                Some(fragment) => {
                    rows.push(row as u32);
                    fragments.push(u64::from(fragment));
                }
                None => late.push(row as u32),
            }
        }
        out.come_late(batch, late)?;
        Ok((rows, fragments))
    }

    fn key_columns<'a>(&'a self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.keys.as_ref().map_or(Ok(Vec::new()), |encoding| encoding.decode(keys))
    }

    /// Sessions with their first and last times and results, and with lateness a weight.
    fn output<'a>(
        &'a self,
        keys: impl Iterator<Item = &'a [u8]>,
        times: Vec<(i64, i64)>,
        results: Vec<ArrayRef>,
        weight: Option<i8>,
    ) -> Result<RecordBatch> {
        let mut columns = self.key_columns(keys)?;
        let n_keys = columns.len();
        let bound = |at: usize, times: TimestampMicrosecondArray| -> ArrayRef {
            match self.spec.output.field(at).data_type() {
                DataType::Timestamp(_, zone) => Arc::new(times.with_timezone_opt(zone.clone())),
                _ => Arc::new(times),
            }
        };
        let starts = times.iter().map(|(first, _)| Some(*first));
        let ends = times.iter().map(|(_, last)| Some(last + self.spec.gap_us));
        columns.push(bound(n_keys, starts.collect()));
        columns.push(bound(n_keys + 1, ends.collect()));
        columns.extend(results);
        columns.extend(weight.map(|weight| changes::all(weight, times.len())));
        Ok(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?)
    }

    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new("key_hash", DataType::UInt64, false)];
        let keys = self.key_types.iter().enumerate();
        fields.extend(keys.map(|(at, data_type)| Field::new(format!("key_{at}"), data_type.clone(), true)));
        fields.extend(["first_us", "last_us"].map(|name| Field::new(name, DataType::Int64, false)));
        fields.extend(self.layers.aggregation().frozen_fields().into_iter().skip(1));
        Arc::new(Schema::new(fields))
    }
}

#[cfg(test)]
mod tests;
