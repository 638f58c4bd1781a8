//! The operators that do more than pass rows on.

pub mod canonical;
pub mod changes;
pub mod encoding;
pub mod expiring;
pub mod gathered;
pub mod group_aggregate;
pub mod groups;
pub mod in_order;
pub mod join;
pub mod local_aggregate;
pub mod lookup;
pub mod normalize;
pub mod over;
pub mod paged;
pub mod partitions;
pub mod plan;
pub mod session;
pub mod stateful;
pub mod temporal;
#[cfg(test)]
pub mod testing;
pub mod top_n;
pub mod touched;
pub mod unnest;
pub mod upsert;
pub mod window;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
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
    let columns = conform_all(schema, columns)?;
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
    let columns = conform_all(schema, batch.columns().to_vec())?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn conform_all(schema: &SchemaRef, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if field.data_type().is_nested() {
            *column = conform(column, field.data_type())?;
        }
    }
    Ok(columns)
}

/// The same values with the names within structs and lists that `wanted` has. Other differences stay, and are found by
/// who puts the column into a batch.
fn conform(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    Ok(match (column.data_type(), wanted) {
        (DataType::Struct(has), DataType::Struct(fields)) if has.len() == fields.len() && !has.is_empty() => {
            let array = column.as_struct();
            let parts = array.columns().iter().zip(fields);
            let parts = parts.map(|(part, field)| conform(part, field.data_type())).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), parts, array.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let array = column.as_list::<i32>();
            let values = conform(array.values(), item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), array.offsets().clone(), values, array.nulls().cloned())?)
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let array = column.as_map();
            let of_entries: ArrayRef = Arc::new(array.entries().clone());
            let of_entries = conform(&of_entries, entries.data_type())?.as_struct().clone();
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, of_entries, nulls, *sorted)?)
        }
        _ => Arc::clone(column),
    })
}

/// Appended rows as part of a changelog.
pub fn weighted(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(changes::all(1, batch.num_rows()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
