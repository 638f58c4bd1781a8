//! Rows that may be taken back: a changelog is a stream of rows with a weight.
//!
//! Invariant: a batch of a changelog has one column more than its rows, the last one: the weight, +1 for a row that is
//! there now and -1 for one that is there no longer. What a stream says is the sum of its rows by weight; operators must
//! not depend on the order in which the two halves of an update come.

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

/// The name of the weight column, for people; it is found by its place.
pub const WEIGHT: &str = "weight";

/// The column that tells people whether a row came or went.
pub const OP: &str = "op";

pub fn weight_field() -> Field {
    Field::new(WEIGHT, DataType::Int8, false)
}

/// The weights of a changelog's batch.
pub fn weights(batch: &RecordBatch) -> Result<&Int8Array> {
    let last = batch.columns().last().and_then(|column| column.as_primitive_opt::<Int8Type>());
    last.filter(|weights| weights.null_count() == 0)
        .ok_or_else(|| DataFusionError::Internal(format!("a changelog without weights: {}", batch.schema())))
}

/// A batch's columns without the weight, and the weights; `changes`: whether it has any.
pub fn split(batch: &RecordBatch, changes: bool) -> Result<(&[ArrayRef], Option<&Int8Array>)> {
    if !changes {
        return Ok((batch.columns(), None));
    }
    Ok((&batch.columns()[..batch.num_columns() - 1], Some(weights(batch)?)))
}

/// The weight column of `n_rows` rows that are all there, or all taken back.
pub fn all(weight: i8, n_rows: usize) -> ArrayRef {
    Arc::new(Int8Array::from_value(weight, n_rows))
}

/// A changelog's batch for people: the weight becomes a first column `op`, `+` or `-`.
pub fn shown(batch: &RecordBatch) -> Result<RecordBatch> {
    let (columns, weights) = split(batch, true)?;
    let ops = weights.into_iter().flatten().flatten();
    let ops: StringArray = ops.map(|weight| Some(if weight > 0 { "+" } else { "-" })).collect();
    let schema = batch.schema();
    let mut fields = vec![Arc::new(Field::new(OP, DataType::Utf8, false))];
    fields.extend(schema.fields().iter().take(columns.len()).cloned());
    let columns: Vec<ArrayRef> = std::iter::once(Arc::new(ops) as ArrayRef).chain(columns.iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
