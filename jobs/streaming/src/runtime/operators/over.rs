//! Adds columns that are computed over the rows of the same key, in an order. Rows that are equal in the order are
//! sorted by all they hold.
//!
//! The functions are DataFusion's own; each is given the sorted rows of one key. In general a new row may change what was
//! said of any other row of its key, so a flush computes each key that has changed anew and says the difference, as a
//! changelog ([`updating`]). Where the order is rising event time, rows are never taken back and no function looks ahead,
//! a row is final as soon as the watermark has passed it, and is said once ([`timed`]).
//!
//! Invariant: what is said, in sum, depends on rows and watermarks alone, not on the order in which rows came, on
//! batches, flushes, the number of slices, or a checkpoint and restore in between. So what rows leave a trace in when they
//! leave a frame is computed anew for each frame ([`gathered`](super::gathered)).

use crate::dataflow::Order;
use crate::runtime::operators::encoding::Encoding;
use crate::runtime::operators::stateful::{Forgets, Output, Scope, Snapshot, Stateful, Timing};
use crate::state::hashes::Hashes;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::window::WindowExpr;
use reach::Reach;
use std::collections::BTreeMap;
use std::sync::Arc;
use timed::Timed;
use updating::Updating;

mod reach;
mod running;
mod timed;
mod updating;

/// How the operator was planned; see `Operator::Over`.
#[derive(Debug)]
pub struct Spec {
    pub keys: Vec<usize>,
    pub order: Vec<Order>,
    pub functions: Vec<Arc<dyn WindowExpr>>,
    pub time: Option<usize>,
    pub input: SchemaRef,
    /// Whether rows of the input may be taken back.
    pub changes: bool,
    /// The input's columns without its weight, then one per function, then the weight unless there is a `time`.
    pub output: SchemaRef,
}

#[derive(Debug)]
pub struct Over(Box<dyn Forgets>);

impl Over {
    pub fn new(spec: Spec) -> Result<Self> {
        Ok(Self(match spec.time {
            Some(time) => Box::new(Timed::new(spec, time)?),
            None => Box::new(Updating::new(spec)?),
        }))
    }
}

impl Stateful for Over {
    fn process(&mut self, input: usize, batch: &RecordBatch, out: &mut Output) -> Result<()> {
        self.0.process(input, batch, out)
    }

    fn advance(&mut self, watermark_us: i64, out: &mut Output) -> Result<()> {
        self.0.advance(watermark_us, out)
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        self.0.flush(out)
    }

    fn n_pending(&self) -> usize {
        self.0.n_pending()
    }

    fn output_watermark_us(&self) -> i64 {
        self.0.output_watermark_us()
    }

    fn snapshot(&mut self, scope: Scope) -> Result<Snapshot> {
        self.0.snapshot(scope)
    }

    fn restore(&mut self, watermark_us: i64, tables: BTreeMap<String, RecordBatch>) -> Result<()> {
        self.0.restore(watermark_us, tables)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn is_timeless(&self) -> bool {
        self.0.is_timeless()
    }

    fn timing(&self) -> Timing {
        self.0.timing()
    }
}

impl Forgets for Over {
    fn forget(&mut self, keys: &Hashes) -> Result<()> {
        self.0.forget(keys)
    }

    fn note_touched(&mut self, keys: &[u64]) {
        self.0.note_touched(keys);
    }
}

/// Whether event time lets all rows go that these functions, over rising event time, have seen.
pub fn forgets(functions: &[Arc<dyn WindowExpr>]) -> bool {
    matches!(Reach::of(functions), Ok(Reach::Last { rows: 0, .. }))
}

/// Rows, and what the functions make of them.
#[derive(Debug)]
struct Evaluation {
    rows: Encoding,
    functions: Vec<Arc<dyn WindowExpr>>,
    /// The input without its weight.
    input: SchemaRef,
    /// Of the functions' columns.
    types: Vec<DataType>,
}

impl Evaluation {
    fn new(spec: &Spec) -> Result<Self> {
        let n_columns = spec.input.fields().len() - usize::from(spec.changes);
        let fields: Vec<_> = spec.input.fields().iter().take(n_columns).cloned().collect();
        let types = fields.iter().map(|field| field.data_type().clone()).collect();
        let results = spec.output.fields().iter().skip(n_columns).take(spec.functions.len());
        let results: Vec<DataType> = results.map(|field| field.data_type().clone()).collect();
        if results.len() != spec.functions.len() {
            return Err(DataFusionError::Plan(format!(
                "{} functions over {n_columns} columns do not give {}",
                spec.functions.len(),
                spec.output
            )));
        }
        Ok(Self {
            rows: Encoding::new(types, &spec.order)?,
            functions: spec.functions.clone(),
            input: Arc::new(Schema::new(fields)),
            types: results,
        })
    }

    /// One column per function, over rows of several keys that follow each other: `lengths` are how many each key has,
    /// none of them zero. `evaluate_key` is asked for the columns of one key, by its place among the lengths.
    fn evaluate(
        &self,
        columns: &[ArrayRef],
        lengths: &[usize],
        mut evaluate_key: impl FnMut(usize, &RecordBatch) -> Result<Vec<ArrayRef>>,
    ) -> Result<Vec<ArrayRef>> {
        let batch = RecordBatch::try_new(Arc::clone(&self.input), columns.to_vec())?;
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(lengths.len()); self.functions.len()];
        let mut offset = 0;
        for (at, length) in lengths.iter().enumerate() {
            let of_key = evaluate_key(at, &batch.slice(offset, *length))?;
            parts.iter_mut().zip(of_key).for_each(|(parts, column)| parts.push(column));
            offset += length;
        }
        let whole = |(parts, data_type): (Vec<ArrayRef>, &DataType)| {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            let whole = concat(&parts)?;
            if whole.data_type() != data_type {
                return Err(DataFusionError::Internal(format!(
                    "a window function gives {} and not {data_type}",
                    whole.data_type()
                )));
            }
            Ok(whole)
        };
        parts.into_iter().zip(&self.types).map(whole).collect()
    }

    /// One column per function, of all rows of a key.
    fn evaluate_whole(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.functions.iter().map(|function| function.evaluate(rows)).collect()
    }
}

#[cfg(test)]
mod tests;
