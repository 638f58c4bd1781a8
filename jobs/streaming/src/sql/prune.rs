//! Which fields of struct columns a plan reads, so that a source need not decode the others.
//!
//! Invariant: a field is left out only where every expression above the table takes the struct apart, up to where no more
//! is seen of it; a struct that is passed on as a whole, or into a join, is read as a whole.

use super::catalog::script_table;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is read of a column: all of it, or the fields of these names, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Fields(BTreeSet<String>),
}

impl Part {
    fn add(&mut self, more: &Self) {
        match (&mut *self, more) {
            (Self::Fields(fields), Self::Fields(more)) => fields.extend(more.iter().cloned()),
            (read, Self::Whole) => *read = Self::Whole,
            (Self::Whole, _) => {}
        }
    }
}

/// What is read of the rows of one node, by column.
type Read = BTreeMap<String, Part>;

/// By table, both tables and columns in lower case.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tables: BTreeMap<String, Read>,
}

impl Parts {
    /// Adds what a plan reads.
    pub(crate) fn add(&mut self, plan: &LogicalPlan) {
        self.walk(plan, None);
    }

    /// Adds what an expression over a table's columns reads.
    pub(crate) fn add_expr(&mut self, table: &str, expr: &Expr) {
        of_expr(expr, self.tables.entry(table.to_string()).or_default());
    }

    /// The table's schema with those struct columns narrowed of which only some fields are read.
    pub(crate) fn narrowed(&self, table: &str, schema: &SchemaRef) -> SchemaRef {
        let Some(read) = self.tables.get(table) else { return Arc::clone(schema) };
        let narrow = |field: &Arc<Field>| match (field.data_type(), read.get(&field.name().to_lowercase())) {
            (DataType::Struct(inner), Some(Part::Fields(wanted))) => {
                let kept = inner.iter().filter(|field| wanted.contains(&field.name().to_lowercase()));
                Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(kept.cloned().collect())))
            }
            _ => Arc::clone(field),
        };
        Arc::new(Schema::new(schema.fields().iter().map(narrow).collect::<Vec<_>>()))
    }

    /// `above`: what is read of this node's rows; all of them where nothing is known.
    fn walk(&mut self, plan: &LogicalPlan, above: Option<Read>) {
        match plan {
            LogicalPlan::Projection(projection) => {
                let mut read = Read::new();
                for (expr, field) in projection.expr.iter().zip(projection.schema.fields()) {
                    match (plain(expr), &above) {
                        // What is passed on is read as far as it is read above.
                        (Some(column), Some(above)) => {
                            if let Some(part) = above.get(&field.name().to_lowercase()) {
                                note(&mut read, column, part);
                            }
                        }
                        _ => of_expr(expr, &mut read),
                    }
                }
                self.walk(&projection.input, Some(read));
            }
            LogicalPlan::Aggregate(aggregate) => {
                let mut read = Read::new();
                aggregate.group_expr.iter().chain(&aggregate.aggr_expr).for_each(|expr| of_expr(expr, &mut read));
                self.walk(&aggregate.input, Some(read));
            }
            LogicalPlan::Filter(filter) => {
                let above = above.map(|mut above| {
                    of_expr(&filter.predicate, &mut above);
                    above
                });
                self.walk(&filter.input, above);
            }
            LogicalPlan::SubqueryAlias(alias) => self.walk(&alias.input, above),
            LogicalPlan::TableScan(scan) => {
                let Some(table) = script_table(scan) else { return };
                let read = self.tables.entry(table.statement.name.key()).or_default();
                match above {
                    Some(above) => above.iter().for_each(|(column, part)| note(read, column, part)),
                    None => scan.projected_schema.fields().iter().for_each(|f| note(read, f.name(), &Part::Whole)),
                }
            }
            other => other.inputs().into_iter().for_each(|input| self.walk(input, None)),
        }
    }
}

fn note(read: &mut Read, column: &str, part: &Part) {
    read.entry(column.to_lowercase()).or_insert_with(|| Part::Fields(BTreeSet::new())).add(part);
}

fn of_expr(expr: &Expr, read: &mut Read) {
    // The closure never fails, so neither does the walk.
    let _ = expr.apply(|expr| {
        if let Some((column, field)) = field_of(expr) {
            note(read, column, &Part::Fields(BTreeSet::from([field.to_lowercase()])));
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Expr::Column(column) = expr {
            note(read, &column.name, &Part::Whole);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// The column that an expression passes on.
fn plain(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

/// The column and the field of `column.field`, also where more is taken apart of that.
fn field_of(expr: &Expr) -> Option<(&str, &str)> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match (call.func.name(), call.args.as_slice()) {
        ("get_field", [Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(field)), _), ..]) => {
            Some((&column.name, field))
        }
        _ => None,
    }
}
