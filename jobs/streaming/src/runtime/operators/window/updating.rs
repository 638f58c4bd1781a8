//! Event-time windows whose rows may come late or be taken back.
//!
//! Each window has group states of its own, out of which rows can be taken again (see [`GroupAggregate`]), and a row goes to
//! every window that holds it: panes would have to be merged anew for each late row. A window says nothing until the
//! watermark passes its end, then what is there; after that, with each flush, the difference that late rows make. It goes
//! when the watermark has passed its end by the allowed lateness.
//!
//! Snapshots: a key is touched when a row comes for it. A window goes only because event time passes: its rows say until when
//! they count.
//!
//! Invariant: what is said in sum depends on the rows and the watermarks alone, not on how rows were cut into batches, on
//! flushes, on the number of slices, or on a checkpoint and restore in between. Without lateness every row that is said
//! has weight one.

use super::panes;
use super::shape::{Shape, TIME_LIMIT_US};
use crate::dataflow::Window;
use crate::runtime::operators::group_aggregate::{self, GroupAggregate};
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, Table, Timing};
use crate::runtime::operators::touched::Selection;
use crate::state::chain::{UNTIL, with_until};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the operator was planned; see `Operator::WindowAggregate`.
#[derive(Debug)]
pub struct Spec {
    pub window: Window,
    pub time: usize,
    pub keys: Vec<usize>,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    pub lateness_us: i64,
    /// With the weight last where rows may be taken back.
    pub input: SchemaRef,
    /// Whether rows of the input may be taken back.
    pub changes: bool,
    /// Keys, start, end, one column per aggregate, the weight.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct UpdatingWindows {
    spec: Spec,
    shape: Shape,
    /// What one window's groups give: the output without the window's bounds.
    of_window: SchemaRef,
    /// By end and start. Those that end at or before the watermark have been answered.
    windows: BTreeMap<(i64, i64), GroupAggregate>,
    watermark_us: i64,
    /// Rows that came for windows that had been answered, since the last flush.
    n_pending: usize,
    /// The state is from files with other columns, to which nothing can be added.
    written_otherwise: bool,
}

impl UpdatingWindows {
    pub fn new(spec: Spec) -> Result<Self> {
        let shape = Shape::of(spec.window)?;
        if !(0..TIME_LIMIT_US / 2).contains(&spec.lateness_us) {
            return Err(DataFusionError::Plan(format!("a lateness of {} µs is not possible", spec.lateness_us)));
        }
        let n_keys = spec.keys.len();
        let bounds = n_keys..n_keys + 2;
        let fields = spec.output.fields().iter().enumerate().filter(|(at, _)| !bounds.contains(at));
        let of_window = Schema::new(fields.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>());
        let windows = BTreeMap::new();
        let of_window = Arc::new(of_window);
        Ok(Self { spec, shape, of_window, windows, watermark_us: i64::MIN, n_pending: 0, written_otherwise: false })
    }

    /// Windows that end at or before this take no more rows.
    fn settled_us(&self) -> i64 {
        match self.watermark_us {
            i64::MAX => i64::MAX,
            watermark_us => watermark_us.saturating_sub(self.spec.lateness_us),
        }
    }

    fn groups(&self) -> Result<GroupAggregate> {
        GroupAggregate::new(group_aggregate::Spec {
            keys: self.spec.keys.clone(),
            aggregates: self.spec.aggregates.clone(),
            filters: self.spec.filters.clone(),
            input: Arc::clone(&self.spec.input),
            changes: self.spec.changes,
            output: Arc::clone(&self.of_window),
            // A window without rows has no answer.
            owns_empty_key: false,
            said_later: true,
        })
    }

    fn window(&mut self, start: i64, end: i64) -> Result<&mut GroupAggregate> {
        if !self.windows.contains_key(&(end, start)) {
            let groups = self.groups()?;
            self.windows.insert((end, start), groups);
        }
        self.windows.get_mut(&(end, start)).ok_or_else(|| DataFusionError::Internal("a window that is gone".into()))
    }

    /// Says what the windows that end after `after_us`, up to the watermark, have not said yet, in the order of their ends.
    fn answer(&mut self, after_us: Option<i64>, out: &mut Output) -> Result<()> {
        let from = match after_us {
            Some(after_us) => (after_us.saturating_add(1), i64::MIN),
            None => (i64::MIN, i64::MIN),
        };
        let n_keys = self.spec.keys.len();
        for ((end, start), groups) in self.windows.range_mut(from..=(self.watermark_us, i64::MAX)) {
            let mut said = Output::default();
            groups.flush(&mut said)?;
            for batch in said.batches {
                let bound =
                    |at: usize, time: i64| panes::times(self.spec.output.field(at).data_type(), time, batch.num_rows());
                let mut columns = batch.columns().to_vec();
                columns.insert(n_keys, bound(n_keys, *start));
                columns.insert(n_keys + 1, bound(n_keys + 1, *end));
                out.batches.push(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?);
            }
        }
        Ok(())
    }
}

impl Stateful for UpdatingWindows {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let settled_us = self.settled_us();
        let rows_by_pane = panes::assign(batch, self.spec.time, self.shape, settled_us, out)?;
        for (pane, rows) in rows_by_pane {
            let n_rows = rows.len();
            let part = match n_rows == batch.num_rows() {
                true => batch.clone(),
                false => take_record_batch(batch, &UInt32Array::from(rows))?,
            };
            let windows: Vec<(i64, i64)> = self.shape.windows(pane).filter(|(_, end)| *end > settled_us).collect();
            for (start, end) in windows {
                self.window(start, end)?.process(0, &part, out)?;
                if end <= self.watermark_us {
                    self.n_pending += n_rows;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        // What late rows changed is said before their windows go.
        self.flush(out)?;
        let before = std::mem::replace(&mut self.watermark_us, watermark_us);
        self.answer(Some(before), out)?;
        let settled_us = self.settled_us();
        while self.windows.first_key_value().is_some_and(|((end, _), _)| *end <= settled_us) {
            self.windows.pop_first();
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        if self.n_pending > 0 {
            self.n_pending = 0;
            self.answer(None, out)?;
        }
        Ok(())
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// The start of the first window that may still say something.
    fn output_watermark_us(&self) -> i64 {
        match self.watermark_us {
            i64::MIN | i64::MAX => self.watermark_us,
            _ => self.shape.first_start_after(self.settled_us()),
        }
    }

    /// The tables of all windows' groups, with the time at which a window goes and its bounds behind the hash.
    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let (mut touched, mut n_groups) = (Vec::new(), 0);
        let mut more = std::mem::take(&mut self.written_otherwise);
        for groups in self.windows.values_mut() {
            n_groups += groups.n_groups();
            more |= groups.take_touched(&mut touched);
        }
        let selection = Selection::new(if more { Scope::All } else { scope }, touched, n_groups);
        let mut tables: BTreeMap<&'static str, Table> = BTreeMap::new();
        for ((end, start), groups) in &self.windows {
            let until = end.saturating_add(self.spec.lateness_us);
            for Table { name, schema, batches } in groups.save(selection.as_ref())? {
                let schema = with_until(&with_bounds(&schema));
                let all = tables.entry(name).or_insert_with(|| Table { name, schema, batches: Vec::new() });
                for batch in batches {
                    let time = |time: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![time; batch.num_rows()])) };
                    let mut columns = batch.columns().to_vec();
                    columns.splice(1..1, [time(until), time(*start), time(*end)]);
                    all.batches.push(RecordBatch::try_new(Arc::clone(&all.schema), columns)?);
                }
            }
        }
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables: tables.into_values().collect() })
    }

    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        let mut by_window: BTreeMap<(i64, i64), BTreeMap<String, RecordBatch>> = BTreeMap::new();
        for (name, rows) in tables {
            let schema = rows.schema();
            // An earlier version did not say when a window goes.
            let says_until = schema.fields().get(1).is_some_and(|field| field.name() == UNTIL);
            self.written_otherwise |= !says_until;
            let at = 1 + usize::from(says_until);
            let names: Vec<&str> = schema.fields().iter().skip(at).take(2).map(|field| field.name().as_str()).collect();
            let types = schema.fields().iter().skip(at).take(2).all(|field| *field.data_type() == DataType::Int64);
            if names != BOUNDS || !types {
                return Err(DataFusionError::Execution(format!(
                    "the state has columns {schema}, without the bounds of windows; start without this checkpoint"
                )));
            }
            let (starts, ends) =
                (rows.column(at).as_primitive::<Int64Type>(), rows.column(at + 1).as_primitive::<Int64Type>());
            let mut of_window: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
            for (row, (start, end)) in starts.values().iter().zip(ends.values()).enumerate() {
                of_window.entry((*start, *end)).or_default().push(row as u32);
            }
            let columns: Vec<usize> = (0..rows.num_columns()).filter(|column| !(1..at + 2).contains(column)).collect();
            let rows = rows.project(&columns)?;
            for (window, of) in of_window {
                let own = take_record_batch(&rows, &UInt32Array::from(of))?;
                by_window.entry(window).or_default().insert(name.clone(), own);
            }
        }
        let settled_us = self.settled_us();
        for ((start, end), tables) in by_window.into_iter().filter(|((_, end), _)| *end > settled_us) {
            let groups = self.window(start, end)?;
            groups.restore(watermark_us, tables)?;
            if end > watermark_us {
                groups.unsay();
            }
        }
        Ok(())
    }

    /// A window is answered at its end, and goes a lateness later.
    fn timing(&self) -> Timing {
        let next = |(end, _): &(i64, i64)| match *end > self.watermark_us {
            true => *end,
            false => end.saturating_add(self.spec.lateness_us),
        };
        Timing { due_us: self.windows.keys().map(next).min(), from_us: i64::MAX }
    }

    fn memory_bytes(&self) -> usize {
        self.windows.values().map(GroupAggregate::memory_bytes).sum()
    }
}

const BOUNDS: [&str; 2] = ["window_start_us", "window_end_us"];

fn with_bounds(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.splice(1..1, BOUNDS.map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;
