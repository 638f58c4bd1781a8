//! The functions of one key with a long past, carried on from row to row.
//!
//! A function over all rows so far would otherwise be computed from the first row on whenever there is a new one. What is
//! carried on is in memory only: it is had again by giving the functions all rows of the key once.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::window_state::PartitionBatchState;
use datafusion::physical_expr::window::{
    PartitionBatches, PartitionKey, PartitionWindowAggStates, WindowEvalContext, WindowExpr,
};
use std::sync::Arc;

/// About what the state of one function and its last rows take.
pub const FUNCTION_BYTES: usize = 2048;

#[derive(Debug)]
pub struct Running {
    /// By function.
    states: Vec<PartitionWindowAggStates>,
    /// The last rows: those that a frame can still reach.
    rows: Option<RecordBatch>,
}

impl Running {
    pub fn new(functions: &[Arc<dyn WindowExpr>]) -> Self {
        Self { states: functions.iter().map(|_| PartitionWindowAggStates::default()).collect(), rows: None }
    }

    /// One column per function, for rows that follow those given before and have no equals in the order among later ones.
    pub fn evaluate(&mut self, functions: &[Arc<dyn WindowExpr>], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let batch = match &self.rows {
            Some(before) => concat_batches(rows.schema_ref(), [before, rows])?,
            None => rows.clone(),
        };
        let n_rows = batch.num_rows();
        // All functions of one `Running` are of one key, so its name does not matter.
        let key = PartitionKey::new();
        let mut partition = PartitionBatchState::new_with_batch(batch);
        // No frame looks beyond the rows that are here.
        partition.is_end = true;
        let mut partitions = PartitionBatches::default();
        partitions.insert(key.clone(), partition);
        let mut results = Vec::with_capacity(functions.len());
        let mut n_gone = n_rows;
        for (function, states) in functions.iter().zip(&mut self.states) {
            function.evaluate_stateful(&partitions, states, &WindowEvalContext::default())?;
            let Some(state) = states.get_mut(&key).map(|window| &mut window.state) else {
                return Err(DataFusionError::Internal(format!("{} keeps no state", function.name())));
            };
            let none = ScalarValue::try_from(state.out_col.data_type())?.to_array_of_size(0)?;
            results.push(std::mem::replace(&mut state.out_col, none));
            n_gone = n_gone.min(state.window_frame_range.start).min(state.last_calculated_index);
        }
        for states in &mut self.states {
            if let Some(window) = states.get_mut(&key) {
                window.state.prune_state(n_gone);
            }
        }
        // A copy, so that a few rows do not hold the whole batch they came with.
        let left: UInt32Array = (n_gone as u32..n_rows as u32).collect();
        self.rows = match partitions.get(&key) {
            Some(partition) if !left.is_empty() => Some(take_record_batch(&partition.record_batch, &left)?),
            _ => None,
        };
        Ok(results)
    }
}
