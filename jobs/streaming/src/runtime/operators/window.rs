//! Event-time windows over keyed rows.
//!
//! Rows are aggregated into *panes* of the greatest width that divides both the windows' width and their slide, so a
//! row is touched once however many windows overlap; a window is the merge of its panes. A tumbling window is one pane.
//! A window is emitted once, when the watermark passes its end; a pane goes when its last window went.
//! Windows that answer again, or whose rows are taken back, are another operator ([`updating`]).
//!
//! Invariant: what is emitted depends on the rows and the watermarks alone, not on how rows were cut into batches, on
//! the number of slices, or on a checkpoint and restore in between.
//!
//! Snapshots: a key is touched when a row comes for it. A pane that goes with its last window goes only because event time
//! passes: its rows say until when they count.

mod pane;
pub mod panes;
pub mod shape;
pub mod updating;

use crate::dataflow::Window;
use crate::runtime::operators::groups::{Aggregation, Frozen, Inputs, Live};
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful, Table, Timing, expect_schema};
use crate::runtime::operators::touched::{Selection, selected};
use crate::state::chain::with_until;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use pane::Pane;
use shape::Shape;
pub use shape::TIME_LIMIT_US;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Batches going on are no longer than this: small enough for a processor's cache and for an edge's queue to mean a
/// bounded number of bytes, long enough that the work per batch does not matter.
pub const BATCH_ROWS: usize = 8192;

/// The state's only table.
const PANES: &str = "panes";

/// How the operator was planned; see `Operator::WindowAggregate`.
#[derive(Debug)]
pub struct Spec {
    pub window: Window,
    pub time: usize,
    pub keys: Vec<usize>,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The input is what a local aggregation gives.
    pub partial: bool,
    pub input: SchemaRef,
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct WindowAggregate {
    spec: Spec,
    aggregation: Arc<Aggregation>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    shape: Shape,
    /// By the pane's start.
    panes: BTreeMap<i64, Pane>,
    /// Windows that end at or before this were emitted.
    watermark_us: i64,
}

impl WindowAggregate {
    pub fn new(spec: Spec) -> Result<Self> {
        let shape = Shape::of(spec.window)?;
        let aggregation = Arc::new(Aggregation::new(&spec.input, &spec.keys, spec.aggregates.clone())?);
        Ok(Self {
            arguments: aggregation.arguments(),
            aggregation,
            shape,
            panes: BTreeMap::new(),
            watermark_us: i64::MIN,
            spec,
        })
    }
}

impl Stateful for WindowAggregate {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        if self.spec.partial {
            return self.merge(batch, out);
        }
        let rows_by_pane = panes::assign(batch, self.spec.time, self.shape, self.watermark_us, out)?;
        if rows_by_pane.is_empty() {
            return Ok(());
        }
        let inputs = Inputs::evaluate(batch, &self.spec.keys, &self.arguments, &self.spec.filters)?;
        for (start, rows) in rows_by_pane {
            let pane = self.panes.entry(start).or_default();
            match rows.len() == inputs.n_rows() {
                true => pane.update(&self.aggregation, &inputs)?,
                false => pane.update(&self.aggregation, &inputs.take(rows)?)?,
            }
        }
        Ok(())
    }

    /// Emits, in order of their ends, the windows that the watermark has passed.
    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        if watermark_us <= self.watermark_us {
            return Ok(());
        }
        let before = self.watermark_us;
        // No window that has ended holds a pane that begins later.
        let begun = self.panes.range(..watermark_us).map(|(pane, _)| *pane);
        let due = begun.flat_map(|pane| self.shape.windows(pane));
        let due = due.filter(|(_, end)| (before + 1..=watermark_us).contains(end)).map(|(start, end)| (end, start));
        let due: BTreeSet<(i64, i64)> = due.collect();
        self.watermark_us = watermark_us;
        for (end, start) in due {
            let groups = self.groups_of(start, end)?;
            let (keys, results, n_groups) = groups.finish()?;
            if n_groups > 0 {
                let batch = self.output((start, end), keys, results, n_groups)?;
                for offset in (0..n_groups).step_by(BATCH_ROWS) {
                    out.batches.push(batch.slice(offset, BATCH_ROWS.min(n_groups - offset)));
                }
            }
        }
        // A pane goes with its last window; panes are in order of start and so are their last windows.
        while let Some((start, _)) = self.panes.first_key_value() {
            if self.shape.last_end(*start) > watermark_us {
                break;
            }
            self.panes.pop_first();
        }
        Ok(())
    }

    /// The start of the first window not yet emitted, so that both the start and the end of a window can serve as the
    /// event time of what follows.
    fn output_watermark_us(&self) -> i64 {
        match self.watermark_us {
            i64::MIN | i64::MAX => self.watermark_us,
            watermark_us => self.shape.first_start_after(watermark_us),
        }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        let (mut touched, mut n_groups) = (Vec::new(), 0);
        for pane in self.panes.values_mut() {
            n_groups += pane.settle(&self.aggregation, &mut touched)?;
        }
        let selection = Selection::new(scope, touched, n_groups);
        let schema = with_until(&self.state_schema());
        let mut batches = Vec::with_capacity(self.panes.len());
        for (start, pane) in &mut self.panes {
            let hashes = pane.hashes();
            let rows = selected(selection.as_ref(), hashes).into_iter();
            let rows: Vec<u32> = rows.map(|row| row as u32).collect();
            if rows.is_empty() {
                continue;
            }
            let n_rows = rows.len();
            let own: UInt64Array = rows.iter().map(|row| Some(hashes[*row as usize])).collect();
            let is_whole = n_rows == hashes.len();
            let of_row = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value; n_rows])) };
            let mut columns: Vec<ArrayRef> = vec![Arc::new(own), of_row(self.shape.last_end(*start)), of_row(*start)];
            let rows = UInt32Array::from(rows);
            for column in &pane.frozen(&self.aggregation)?.columns {
                columns.push(if is_whole { Arc::clone(column) } else { take(column, &rows, None)? });
            }
            batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        }
        let tables = vec![Table { name: PANES, schema, batches }];
        Ok(Snapshot { touched: selection.map(Selection::into_sorted), tables })
    }

    fn restore(&mut self, watermark_us: i64, mut tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.watermark_us = watermark_us;
        let Some(own) = tables.remove(PANES) else { return Ok(()) };
        expect_schema(&own, &with_until(&self.state_schema()))?;
        let mut rows_by_pane: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, start) in own.column(2).as_primitive::<Int64Type>().values().iter().enumerate() {
            rows_by_pane.entry(*start).or_default().push(row as u32);
        }
        for (start, rows) in rows_by_pane {
            let n_groups = rows.len();
            let rows = UInt32Array::from(rows);
            let columns = &own.columns()[3..];
            let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?;
            self.panes.insert(start, Pane::restored(&self.aggregation, &Frozen { columns, n_groups })?);
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.panes.values().map(Pane::memory_bytes).sum()
    }

    fn timing(&self) -> Timing {
        let due_us = self.panes.keys().filter_map(|pane| self.shape.next_end(*pane, self.watermark_us)).min();
        Timing { due_us, from_us: i64::MAX }
    }
}

impl WindowAggregate {
    /// Takes what a local aggregation gave.
    fn merge(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let mut came = Output { wants_late: true, ..Output::default() };
        let rows_by_pane = panes::assign(batch, self.spec.time, self.shape, self.watermark_us, &mut came)?;
        let n_keys = self.aggregation.n_keys();
        let n_columns = batch.num_columns();
        for late in &came.late {
            let n_rows = late.column(n_columns - 1).as_primitive::<Int64Type>().values();
            out.n_late += n_rows.iter().sum::<i64>().unsigned_abs();
        }
        let columns = batch.columns()[..n_keys].iter().chain(&batch.columns()[n_keys + 1..n_columns - 1]);
        let columns: Vec<&ArrayRef> = columns.collect();
        for (start, rows) in rows_by_pane {
            let n_groups = rows.len();
            let rows = UInt32Array::from(rows);
            let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<_>>()?;
            let frozen = Frozen { columns, n_groups };
            self.panes.entry(start).or_default().merge(&self.aggregation, &frozen)?;
        }
        Ok(())
    }

    /// All groups of one window, ready to be finished.
    fn groups_of(&mut self, start: i64, end: i64) -> Result<Live> {
        if self.shape.panes_are_windows() {
            // No other window needs this pane.
            return match self.panes.remove(&start) {
                Some(pane) => pane.into_live(&self.aggregation),
                None => Live::new(&self.aggregation),
            };
        }
        let mut merged = Live::new(&self.aggregation)?;
        for (_, pane) in self.panes.range_mut(start..end) {
            merged.merge(pane.frozen(&self.aggregation)?)?;
        }
        Ok(merged)
    }

    fn output(
        &self,
        (start, end): (i64, i64),
        keys: Vec<ArrayRef>,
        results: Vec<ArrayRef>,
        n_groups: usize,
    ) -> Result<RecordBatch> {
        let n_keys = keys.len();
        let bound = |at: usize, time: i64| panes::times(self.spec.output.field(at).data_type(), time, n_groups);
        let mut columns = keys;
        columns.push(bound(n_keys, start));
        columns.push(bound(n_keys + 1, end));
        columns.extend(results);
        Ok(RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?)
    }

    fn state_schema(&self) -> SchemaRef {
        let mut fields =
            vec![Field::new("key_hash", DataType::UInt64, false), Field::new("pane_start_us", DataType::Int64, false)];
        fields.extend(self.aggregation.frozen_fields());
        Arc::new(Schema::new(fields))
    }
}

#[cfg(test)]
mod tests;
