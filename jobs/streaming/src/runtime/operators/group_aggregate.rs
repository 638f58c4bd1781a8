//! Aggregates of all rows so far, one row per key, as a changelog.
//!
//! Rows go into states at once; what came of it is said at the next flush, for each group that rows came for: the row that
//! had been said is taken back, and the new one said, if they differ. The row that had been said is not kept: it is computed
//! from the state when the first row after a flush comes for its group, just before the state changes.
//!
//! Every state is a sum over rows by weight (see [`state::State`]), so that rows may be taken back in any order, also before
//! they came. DataFusion's accumulators cannot do that: they give their result by giving their state away, and take rows
//! back only in the order in which they came.
//!
//! Invariants: what is out, in sum, after a flush is one row for each key that has rows, with the result that DataFusion's
//! engine gives over these rows. A group whose rows cancel out leaves nothing behind: when more than half of all groups are
//! such, the others are moved together. Without keys there is one group, on one slice, which always has a row.
//!
//! Snapshots: a flush knows which groups rows came for; these are the touched ones. Nothing goes with event time, but for a
//! time to live ([`expiring`](super::expiring)).

mod aggregates;
pub mod coding;
mod count;
mod distinct;
mod edge;
mod extreme;
mod float;
mod general;
mod keys;
mod multiset;
mod ordered;
mod pending;
mod snapshot;
mod state;
mod sum;

use crate::runtime::operators::changes;
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Timing};
use crate::runtime::operators::touched::{Selection, Touched};
use crate::runtime::operators::window::BATCH_ROWS;
use crate::state::hashes::Hashes;
use aggregates::Aggregates;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, not, or};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use keys::{Keys, typed};
use pending::{Known, Pending, differ};
use state::Rows;
use std::collections::BTreeMap;
use std::sync::Arc;

/// With fewer groups than this nothing is moved together: it would not be worth the work.
const COMPACT_GROUPS: usize = 4096;

/// How the operator was planned; see `Operator::GroupAggregate`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// With the weight last where rows may be taken back.
    pub input: SchemaRef,
    /// Whether rows of the input may be taken back.
    pub changes: bool,
    /// Keys, one column per aggregate, the weight.
    pub output: SchemaRef,
    /// This slice owns hash 0: without keys exactly one slice holds the only group.
    pub owns_empty_key: bool,
    /// Snapshots are taken while something is unsaid, and what is said later is no change of the state: so groups are
    /// touched when rows come for them, and not when that is said.
    pub said_later: bool,
}

#[derive(Debug)]
pub struct GroupAggregate {
    spec: Spec,
    keys: Keys,
    /// By group: its rows, by weight.
    rows: Vec<i64>,
    aggregates: Aggregates,
    pending: Pending,
    /// By group: whether its rows had cancelled out at the last flush.
    dead: Vec<bool>,
    n_dead: usize,
    /// Since the last snapshot, up to the last flush.
    touched: Touched,
    watermark_us: i64,
    /// What the watermark was when all was said.
    said_us: i64,
}

impl GroupAggregate {
    pub fn new(spec: Spec) -> Result<Self> {
        let n_columns = spec.keys.len() + spec.aggregates.len() + 1;
        let weight = spec.output.fields().last().map(|field| field.data_type());
        if spec.filters.len() != spec.aggregates.len()
            || spec.output.fields().len() != n_columns
            || weight != Some(&DataType::Int8)
            || spec.keys.iter().any(|key| *key >= spec.input.fields().len())
        {
            return Err(DataFusionError::Plan(format!(
                "{} aggregates with {} filters by columns {:?} of {} do not give {}",
                spec.aggregates.len(),
                spec.filters.len(),
                spec.keys,
                spec.input,
                spec.output
            )));
        }
        let keys = Keys::new(spec.keys.iter().map(|key| spec.input.field(*key).data_type().clone()))?;
        let aggregates = Aggregates::new(&spec.input, &spec.aggregates, &spec.filters, spec.changes)?;
        let mut operator = Self {
            spec,
            keys,
            rows: Vec::new(),
            aggregates,
            pending: Pending::default(),
            dead: Vec::new(),
            n_dead: 0,
            touched: Touched::default(),
            watermark_us: i64::MIN,
            said_us: i64::MIN,
        };
        if operator.has_only_group() {
            // It has a row although no rows may ever come for it.
            operator.number(&[], 0)?;
            operator.pending.touch(&[0], |_| false);
        }
        Ok(operator)
    }

    /// Adds the hashes of the groups that were touched since it was asked last; gives whether more were than are told so.
    pub fn take_touched(&mut self, touched: &mut Vec<u64>) -> bool {
        self.touched.drain(self.keys.hashes(), touched)
    }

    /// Groups, those that hold nothing among them.
    pub fn n_groups(&self) -> usize {
        self.keys.len()
    }

    /// Takes all that is there for unsaid: the next flush says it.
    pub fn unsay(&mut self) {
        let groups: Vec<usize> = (0..self.keys.len()).collect();
        self.pending.touch(&groups, |_| false);
    }

    /// Whether this slice holds the only group that there is without keys.
    fn has_only_group(&self) -> bool {
        self.spec.keys.is_empty() && self.spec.owns_empty_key
    }

    /// Whether a row of this group should be out.
    fn is_there(&self, group: usize) -> bool {
        self.rows[group] > 0 || self.has_only_group()
    }

    /// Whether a group has anything that later rows depend on.
    fn is_kept(&self, group: usize) -> bool {
        self.rows[group] != 0 || self.has_only_group() || self.aggregates.hold(group)
    }

    /// Numbers the keys of some rows and makes room for new groups.
    fn number(&mut self, keys: &[ArrayRef], n_rows: usize) -> Result<()> {
        self.keys.number(keys, n_rows)?;
        let n_groups = self.keys.len();
        if n_groups > self.rows.len() {
            self.rows.resize(n_groups, 0);
            self.dead.resize(n_groups, false);
            self.aggregates.grow(n_groups);
            self.pending.grow(n_groups);
        }
        Ok(())
    }

    /// Says what these groups give: with weight -1 what they gave before, with 1 what they give now.
    fn emit(&self, groups: &[usize], results: &[ArrayRef], weight: i8, out: &mut Output) -> Result<()> {
        let n_rows = groups.len();
        if n_rows == 0 {
            return Ok(());
        }
        let mut columns = self.keys.columns(groups)?;
        columns.extend(results.iter().cloned());
        columns.push(changes::all(weight, n_rows));
        let fields = self.spec.output.fields().iter();
        let columns = columns.iter().zip(fields).map(|(column, field)| typed(column, field.data_type()));
        let batch = RecordBatch::try_new(Arc::clone(&self.spec.output), columns.collect::<Result<_>>()?)?;
        for start in (0..n_rows).step_by(BATCH_ROWS) {
            out.batches.push(batch.slice(start, BATCH_ROWS.min(n_rows - start)));
        }
        Ok(())
    }

    /// Notes which of the groups that rows came for are left with nothing, and moves the others together when those are
    /// too many.
    fn bury(&mut self, groups: impl Iterator<Item = usize>) -> Result<()> {
        for group in groups {
            if !self.is_kept(group) {
                self.aggregates.clear(group);
                self.dead[group] = true;
                self.n_dead += 1;
            }
        }
        self.compact()
    }

    /// Moves the groups that hold something together, if too many do not. Nothing is pending.
    fn compact(&mut self) -> Result<()> {
        self.aggregates.tidy();
        if self.keys.len() < COMPACT_GROUPS || self.n_dead <= self.keys.len() / 2 {
            return Ok(());
        }
        let alive = (0..self.keys.len()).filter(|group| !self.dead[*group]).collect();
        let hashes = self.keys.hashes().to_vec();
        let alive = self.keys.keep(alive)?;
        self.touched.renumber(&alive, &hashes);
        self.rows = alive.iter().map(|group| self.rows[*group]).collect();
        self.aggregates.keep(&alive);
        self.dead = vec![false; alive.len()];
        self.n_dead = 0;
        self.pending = Pending::default();
        self.pending.grow(alive.len());
        Ok(())
    }
}

impl Stateful for GroupAggregate {
    fn process(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (_, weights) = changes::split(batch, self.spec.changes)?;
        let weights = weights.map(|weights| &weights.values()[..]);
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        self.number(&keys, batch.num_rows())?;
        let groups = self.keys.groups();
        let mut pending = std::mem::take(&mut self.pending);
        let known = pending.touch(groups, |group| self.is_there(group));
        if !known.is_empty() {
            let results = self.aggregates.values(&known)?;
            pending.remember(known, results);
        }
        pending.n_rows += batch.num_rows();
        self.pending = pending;
        if self.spec.said_later {
            self.touched.mark_each(groups.iter().copied(), self.keys.len());
        }
        let rows = Rows { groups: self.keys.groups(), weights };
        rows.each(None, |group, _, weight| {
            self.rows[group] += weight;
            if self.dead[group] {
                self.dead[group] = false;
                self.n_dead -= 1;
            }
        });
        self.aggregates.update(batch, rows)
    }

    fn advance(&mut self, watermark_us: i64, _: &mut Output) -> Result<()> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.said_us = self.watermark_us;
        if self.pending.is_empty() {
            self.pending.n_rows = 0;
            return Ok(());
        }
        let (fresh, Known { groups: known, results: before }) = self.pending.take()?;
        if !self.spec.said_later {
            self.touched.mark_each(fresh.iter().chain(&known).copied(), self.keys.len());
        }
        // Of what is there now, first what was there before.
        let stays: BooleanArray = known.iter().map(|group| Some(self.is_there(*group))).collect();
        let mut now: Vec<usize> = known.iter().copied().filter(|group| self.is_there(*group)).collect();
        let n_stay = now.len();
        now.extend(fresh.iter().copied().filter(|group| self.is_there(*group)));
        let results = if now.is_empty() { Vec::new() } else { self.aggregates.values(&now)? };

        let stayed = before.iter().map(|column| Ok(filter(column, &stays)?)).collect::<Result<Vec<_>>>()?;
        let current: Vec<ArrayRef> = results.iter().map(|column| column.slice(0, n_stay)).collect();
        let differs = differ(&stayed, &current, n_stay)?;
        let mut of_stayed = differs.values().iter();
        let changed: BooleanArray =
            stays.values().iter().map(|stays| Some(stays && of_stayed.next().unwrap_or(false))).collect();
        let gone = or(&not(&stays)?, &changed)?;
        let added = BooleanBuffer::collect_bool(now.len(), |at| at >= n_stay || differs.value(at));
        let added = BooleanArray::new(added, None);

        let some = |columns: &[ArrayRef], rows: &BooleanArray| {
            columns.iter().map(|column| Ok(filter(column, rows)?)).collect::<Result<Vec<_>>>()
        };
        let which = |groups: &[usize], rows: &BooleanArray| rows.values().set_indices().map(|at| groups[at]).collect();
        let groups: Vec<usize> = which(&known, &gone);
        self.emit(&groups, &some(&before, &gone)?, -1, out)?;
        let groups: Vec<usize> = which(&now, &added);
        self.emit(&groups, &some(&results, &added)?, 1, out)?;
        if self.spec.changes {
            self.bury(known.into_iter().chain(fresh))?;
        }
        Ok(())
    }

    fn n_pending(&self) -> usize {
        self.pending.n_rows.max(usize::from(!self.pending.is_empty()))
    }

    /// What is kept back may be of any time since all was said.
    fn output_watermark_us(&self) -> i64 {
        if self.pending.is_empty() { self.watermark_us } else { self.said_us }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let selection = self.touched.take(scope, self.keys.hashes(), self.keys.len() - self.n_dead);
        let tables = self.save(selection.as_ref())?;
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        (self.watermark_us, self.said_us) = (watermark_us, watermark_us);
        for (table, rows) in tables {
            self.restore_part(&table, rows)?;
        }
        self.touched.clear();
        Ok(())
    }

    fn restore_part(&mut self, table: &str, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        if !self.load(table, &rows)? {
            return Ok(Some(rows));
        }
        if rows.num_rows() > 0 {
            // What was written down had been said; that holds for the only group too.
            self.pending.take()?;
        }
        Ok(None)
    }

    fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes()
            + self.rows.capacity() * size_of::<i64>()
            + self.dead.capacity()
            + self.touched.memory_bytes()
            + self.aggregates.memory_bytes()
            + self.pending.memory_bytes()
    }

    fn is_timeless(&self) -> bool {
        true
    }

    fn timing(&self) -> Timing {
        Timing::NONE
    }
}

impl Forgets for GroupAggregate {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        if self.has_only_group() {
            return Ok(());
        }
        let gone: Vec<bool> = self.keys.hashes().iter().map(|hash| keys.contains(*hash)).collect();
        self.aggregates.forget(&gone);
        for group in state::marked(&gone).collect::<Vec<_>>() {
            self.rows[group] = 0;
            self.touched.mark(group);
            self.n_dead += usize::from(!std::mem::replace(&mut self.dead[group], true));
        }
        self.compact()
    }

    fn note_touched(&mut self, keys: &[u64]) {
        keys.iter().for_each(|hash| self.touched.note(*hash));
    }
}

#[cfg(test)]
mod tests;
