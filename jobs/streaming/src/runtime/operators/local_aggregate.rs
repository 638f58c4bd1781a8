//! What the rows of one slice amount to, before they go to the slices that own their keys: a key with many rows sends one
//! row per flush.
//!
//! With a window rows are aggregated by pane, and what is there goes on before a watermark that ends a window, so that
//! nothing comes later than its rows would have. Watermarks between two ends change nothing behind and go no further.
//! Without a window it goes on when the slice flushes.
//!
//! Invariant: nothing is kept over a flush, so a checkpoint has nothing of it.

use crate::dataflow::Window;
use crate::runtime::operators::groups::{Aggregation, Inputs, Live};
use crate::runtime::operators::stateful::{Output, Scope, Snapshot, Stateful};
use crate::runtime::operators::window::shape::Shape;
use crate::runtime::operators::window::{BATCH_ROWS, panes};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the operator was planned; see `Operator::LocalAggregate`.
#[derive(Debug)]
pub struct Spec {
    pub window: Option<(Window, usize)>,
    pub keys: Vec<usize>,
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    pub filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    pub input: SchemaRef,
    pub output: SchemaRef,
}

#[derive(Debug)]
struct Pane {
    groups: Live,
    /// By group.
    n_rows: Vec<i64>,
}

#[derive(Debug)]
pub struct LocalAggregate {
    spec: Spec,
    aggregation: Arc<Aggregation>,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    window: Option<(Shape, usize)>,
    /// By start; without a window there is one.
    panes: BTreeMap<i64, Pane>,
    n_pending: usize,
    /// With a window: when the last one ended.
    watermark_us: i64,
    /// What the watermark was when all had gone on.
    said_us: i64,
}

impl LocalAggregate {
    pub fn new(spec: Spec) -> Result<Self> {
        let aggregation = Arc::new(Aggregation::new(&spec.input, &spec.keys, spec.aggregates.clone())?);
        let window = match spec.window {
            Some((window, time)) => Some((Shape::of(window)?, time)),
            None => None,
        };
        Ok(Self {
            arguments: aggregation.arguments(),
            aggregation,
            window,
            panes: BTreeMap::new(),
            n_pending: 0,
            watermark_us: i64::MIN,
            said_us: i64::MIN,
            spec,
        })
    }

    fn take(&mut self, start: i64, inputs: &Inputs) -> Result<()> {
        let mut pane = match self.panes.remove(&start) {
            Some(pane) => pane,
            None => Pane { groups: Live::new(&self.aggregation)?, n_rows: Vec::new() },
        };
        pane.groups.update_with(inputs)?;
        pane.n_rows.resize(pane.groups.n_groups(), 0);
        pane.groups.groups().iter().for_each(|group| pane.n_rows[*group] += 1);
        self.panes.insert(start, pane);
        Ok(())
    }
}

impl Stateful for LocalAggregate {
    fn process(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        let inputs = Inputs::evaluate(batch, &self.spec.keys, &self.arguments, &self.spec.filters)?;
        self.n_pending += batch.num_rows();
        let Some((shape, time)) = self.window else { return self.take(0, &inputs) };
        // Whether a row is late is found where its window is.
        for (start, rows) in panes::assign(batch, time, shape, i64::MIN, out)? {
            match rows.len() == inputs.n_rows() {
                true => self.take(start, &inputs)?,
                false => self.take(start, &inputs.take(rows)?)?,
            }
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        let Some((shape, _)) = self.window else {
            self.watermark_us = self.watermark_us.max(watermark_us);
            return Ok(());
        };
        let ended_us = match watermark_us {
            i64::MIN | i64::MAX => watermark_us,
            watermark_us => shape.last_end_by(watermark_us),
        };
        if ended_us <= self.watermark_us {
            return Ok(());
        }
        self.watermark_us = ended_us;
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.n_pending = 0;
        self.said_us = self.watermark_us;
        let n_keys = self.spec.keys.len();
        for (start, Pane { groups, n_rows }) in std::mem::take(&mut self.panes) {
            let frozen = groups.freeze()?;
            let n_groups = frozen.n_groups;
            let mut columns: Vec<ArrayRef> = frozen.columns;
            if self.window.is_some() {
                let data_type = self.spec.output.field(n_keys).data_type();
                columns.insert(n_keys, panes::times(data_type, start, n_groups));
                columns.push(Arc::new(Int64Array::from(n_rows)));
            }
            let batch = RecordBatch::try_new(Arc::clone(&self.spec.output), columns)?;
            for offset in (0..n_groups).step_by(BATCH_ROWS) {
                out.batches.push(batch.slice(offset, BATCH_ROWS.min(n_groups - offset)));
            }
        }
        Ok(())
    }

    fn n_pending(&self) -> usize {
        self.n_pending
    }

    /// Behind it nothing is said of a window before its end.
    fn waits_for_flush(&self) -> bool {
        self.window.is_none() && self.n_pending > 0
    }

    fn output_watermark_us(&self) -> i64 {
        if self.n_pending > 0 { self.said_us } else { self.watermark_us }
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        Ok(Snapshot { touched: (scope == Scope::Touched).then(Vec::new), tables: Vec::new() })
    }

    /// Nothing, not even the watermark: that of a slice before an exchange is of its own splits, and these may be others now.
    fn restore(&mut self, _: i64, _: BTreeMap<String, RecordBatch>) -> Result<()> {
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let of = |pane: &Pane| pane.groups.memory_bytes() + pane.n_rows.capacity() * size_of::<i64>();
        self.panes.values().map(of).sum()
    }
}

#[cfg(test)]
mod tests;
