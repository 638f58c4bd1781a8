//! Changes that wait for the checkpoint that ends their epoch to become durable.
//!
//! What a query takes back within an epoch may depend on how its rows were cut into batches, so a process that is started
//! again need not say of every key what a killed one had said of it. Changes are therefore written only when no process
//! will ever compute their epoch again; until then they ride in the checkpoint.

use crate::api::{Error, Result};
use crate::kept::{self, Part};
use arrow::array::{ArrayRef, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::sync::Arc;

/// In the order in which they came.
#[derive(Debug, Default)]
pub struct Held {
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    /// Unknown until the epoch ends.
    epoch: Option<u64>,
    batch: RecordBatch,
    weights: Int8Array,
}

impl Held {
    pub fn push(&mut self, batch: &RecordBatch, weights: &Int8Array) {
        self.changes.push(Change { epoch: None, batch: batch.clone(), weights: weights.clone() });
    }

    /// Ends an epoch: what came since the one before belongs to it. Gives what the checkpoint keeps.
    pub fn end(&mut self, epoch: u64, table: &str) -> Result<Vec<u8>> {
        for change in &mut self.changes {
            change.epoch.get_or_insert(epoch);
        }
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        let parts = self.changes.iter().zip(0..).map(|(change, number)| {
            let body = encode(change).map_err(|why| why.to_string())?;
            Ok(Part { epoch: change.epoch, number, changes: true, body })
        });
        let kept = parts.collect::<std::result::Result<Vec<Part>, String>>().and_then(|parts| kept::encode("", &parts));
        kept.map_err(|why| Error::Fatal(format!("changes of table '{table}' cannot be kept: {why}")))
    }

    /// Takes what the slices of an earlier life kept. Rows of one key were on one slice, so the order is within a state.
    pub fn inherit(&mut self, states: &[Vec<u8>], table: &str) -> Result<()> {
        for state in states.iter().filter(|state| !state.is_empty()) {
            let changes = kept::decode(state).and_then(|(_, parts)| {
                let changes = parts.iter().map(|part| decode(part).map_err(|why| why.to_string()));
                changes.collect::<std::result::Result<Vec<Change>, String>>()
            });
            self.changes.extend(changes.map_err(|why| {
                Error::Fatal(format!("the checkpoint holds no readable changes of table '{table}': {why}"))
            })?);
        }
        Ok(())
    }

    /// The changes of this epoch and of those before it, in order.
    pub fn due(&self, epoch: u64) -> impl Iterator<Item = (&RecordBatch, &Int8Array)> {
        let due = self.changes.iter().filter(move |change| change.epoch.is_some_and(|of| of <= epoch));
        due.map(|change| (&change.batch, &change.weights))
    }

    pub fn forget(&mut self, epoch: u64) {
        self.changes.retain(|change| change.epoch.is_none_or(|of| of > epoch));
    }
}

/// The rows as an Arrow IPC stream, the weight last.
fn encode(change: &Change) -> std::result::Result<Vec<u8>, ArrowError> {
    let schema = change.batch.schema();
    let weight = Field::new("weight", DataType::Int8, false);
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain([weight]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut columns = change.batch.columns().to_vec();
    columns.push(Arc::new(change.weights.clone()) as ArrayRef);
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    writer.into_inner()
}

fn decode(part: &Part) -> std::result::Result<Change, ArrowError> {
    let wrong = |text: &str| ArrowError::SchemaError(text.to_string());
    let mut batches = StreamReader::try_new(part.body.as_slice(), None)?;
    let batch = batches.next().ok_or_else(|| wrong("a part without rows"))??;
    let n_columns = batch.num_columns().checked_sub(1).ok_or_else(|| wrong("rows without a weight"))?;
    let weights = arrow::array::AsArray::as_primitive_opt::<Int8Type>(batch.column(n_columns));
    let weights = weights.ok_or_else(|| wrong("rows without a weight"))?.clone();
    let batch = batch.project(&(0..n_columns).collect::<Vec<_>>())?;
    Ok(Change { epoch: part.epoch, batch, weights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    #[test]
    fn changes_wait_for_their_epoch_and_come_back_from_its_checkpoint() {
        let column = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let batch = |n| RecordBatch::try_from_iter([("n", column(n))]).unwrap();
        let mut held = Held::default();
        assert_eq!(held.end(1, "t").unwrap(), Vec::<u8>::new());
        held.push(&batch(1), &Int8Array::from(vec![1]));
        held.end(2, "t").unwrap();
        held.push(&batch(2), &Int8Array::from(vec![-1]));
        let state = held.end(3, "t").unwrap();
        held.push(&batch(3), &Int8Array::from(vec![1]));
        let due = |held: &Held, epoch| {
            held.due(epoch).map(|(batch, weights)| (batch.clone(), weights.value(0))).collect::<Vec<_>>()
        };
        assert_eq!(due(&held, 2), [(batch(1), 1)]);
        held.forget(2);
        assert_eq!(due(&held, 3), [(batch(2), -1)]);

        let mut next = Held::default();
        next.inherit(&[state.clone(), Vec::new()], "t").unwrap();
        assert_eq!(due(&next, 3), [(batch(1), 1), (batch(2), -1)]);
        assert!(next.inherit(&[state[..state.len() - 1].to_vec()], "t").is_err());
    }
}
