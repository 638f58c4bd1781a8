//! The last row of each key since the last flush, where rows are never taken back: nothing is held beyond a flush.

use super::Spec;
use crate::runtime::operators::changes;
use crate::runtime::operators::partitions::Keys;
use crate::runtime::operators::stateful::Output;
use crate::runtime::operators::window::BATCH_ROWS;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use datafusion::error::Result;
use std::sync::Arc;

pub struct Latest {
    keys: Keys,
    batches: Vec<RecordBatch>,
    /// By number of the key: batch and row.
    last: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Latest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latest").field("n_keys", &self.last.len()).finish()
    }
}

impl Latest {
    pub fn new(spec: &Spec) -> Result<Self> {
        Ok(Self { keys: Keys::new(&spec.input, &spec.keys)?, batches: Vec::new(), last: Vec::new() })
    }

    pub fn process(&mut self, spec: &Spec, batch: &RecordBatch) -> Result<()> {
        let keys: Vec<ArrayRef> = spec.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        for (row, number) in self.keys.number(&keys, batch.num_rows())?.into_iter().enumerate() {
            if number >= self.last.len() {
                self.last.resize(number + 1, (0, 0));
            }
            self.last[number] = (self.batches.len(), row);
        }
        self.batches.push(batch.clone());
        Ok(())
    }

    pub fn flush(&mut self, spec: &Spec, out: &mut Output) -> Result<()> {
        let (batches, last) = (std::mem::take(&mut self.batches), std::mem::take(&mut self.last));
        self.keys.clear()?;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        for last in last.chunks(BATCH_ROWS) {
            let rows = interleave_record_batch(&batches, last)?;
            let mut columns = rows.columns().to_vec();
            columns.push(changes::all(1, last.len()));
            out.batches.push(RecordBatch::try_new(Arc::clone(&spec.output), columns)?);
        }
        Ok(())
    }

    pub fn memory_bytes(&self) -> usize {
        let batches: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        batches + self.keys.memory_bytes() + self.last.capacity() * size_of::<(usize, usize)>()
    }
}
