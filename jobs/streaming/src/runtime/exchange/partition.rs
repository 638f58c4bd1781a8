//! Cuts a batch into one part per slice, by the hash of its keys.

use crate::state::hash;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

/// The non-empty parts, each with the slice that owns it; rows keep their order.
pub fn partition(batch: &RecordBatch, keys: &[usize], n_slots: u32) -> Result<Vec<(u32, RecordBatch)>> {
    if n_slots == 1 {
        return Ok(vec![(0, batch.clone())]);
    }
    let columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    let hashes =
        hash::hash_rows(&columns, batch.num_rows()).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut rows_by_slot = vec![Vec::new(); n_slots as usize];
    for (row, hash) in hashes.into_iter().enumerate() {
        rows_by_slot[hash::slot_of(hash, n_slots) as usize].push(row as u32);
    }
    let mut parts = Vec::with_capacity(n_slots as usize);
    for (slot, rows) in rows_by_slot.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let part = match rows.len() == batch.num_rows() {
            true => batch.clone(),
            false => take_record_batch(batch, &UInt32Array::from(rows))?,
        };
        parts.push((slot as u32, part));
    }
    Ok(parts)
}
