//! What else must hold of two rows with equal keys.
//!
//! Only the columns that the condition reads are gathered for it; most candidates may fail it.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::runtime::operators::evaluate_predicate;

#[derive(Debug)]
pub struct Residual {
    /// Over the columns of both sides that are read, the left ones first.
    predicate: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// By side: the columns that are read.
    columns: [Vec<usize>; 2],
}

impl Residual {
    /// `predicate` is over all left fields and then all right ones.
    pub fn new(predicate: &Arc<dyn PhysicalExpr>, left: &[Field], right: &[Field]) -> Result<Self> {
        let read: BTreeSet<usize> = collect_columns(predicate).iter().map(Column::index).collect();
        let read: Vec<usize> = read.into_iter().collect();
        let fields = read.iter().map(|column| {
            left.iter().chain(right).nth(*column).cloned().ok_or_else(|| {
                DataFusionError::Plan(format!(
                    "the condition {predicate} reads column {column} of a join of {} and {} columns",
                    left.len(),
                    right.len()
                ))
            })
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let moved = Arc::clone(predicate).transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let position = read.partition_point(|each| *each < column.index());
            let column = Column::new(column.name(), position);
            Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
        })?;
        let n_left = left.len();
        let (left, right): (Vec<usize>, Vec<usize>) = read.iter().partition(|column| **column < n_left);
        let right = right.into_iter().map(|column| column - n_left).collect();
        Ok(Self { predicate: moved.data, schema, columns: [left, right] })
    }

    /// The columns of a side that [`Residual::holds`] wants.
    pub fn columns(&self, side: usize) -> &[usize] {
        &self.columns[side]
    }

    /// Of which pairs it holds.
    pub fn holds(&self, left: Vec<ArrayRef>, right: Vec<ArrayRef>, n_pairs: usize) -> Result<BooleanArray> {
        let columns = left.into_iter().chain(right).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(n_pairs));
        let pairs = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        evaluate_predicate(&self.predicate, &pairs)
    }
}
