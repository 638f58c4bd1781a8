//! The operators that do more than pass rows on.

pub mod changes;
pub mod groups;
pub mod stateful;
#[cfg(test)]
pub mod testing;
pub mod window;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use std::sync::Arc;

/// The value of an expression for every row.
pub fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

/// Whether the predicate is true; a null is not.
pub fn evaluate_predicate(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let value = evaluate(predicate, batch)?;
    let Some(mask) = value.as_boolean_opt() else {
        return Err(DataFusionError::Execution(format!("predicate {predicate} is of type {}", value.data_type())));
    };
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

pub fn filter(predicate: &Arc<dyn PhysicalExpr>, batch: RecordBatch) -> Result<RecordBatch> {
    let mask = evaluate_predicate(predicate, &batch)?;
    if mask.true_count() == mask.len() {
        return Ok(batch);
    }
    Ok(filter_record_batch(&batch, &mask)?)
}

/// `changes`: the rows have a weight, which stays with them.
pub fn project(
    exprs: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
    batch: &RecordBatch,
    changes: bool,
) -> Result<RecordBatch> {
    let mut columns = exprs.iter().map(|expr| evaluate(expr, batch)).collect::<Result<Vec<_>>>()?;
    if changes {
        columns.extend(batch.columns().last().cloned());
    }
    // The count is given because a projection may have no columns at all.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The same rows under the schema that the plan promised; unions and connectors may differ in names and nullability.
pub fn relabel(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch> {
    if Arc::ptr_eq(schema, batch.schema_ref()) {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// Appended rows as part of a changelog.
pub fn weighted(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(changes::all(1, batch.num_rows()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
