//! Rows that a query holds itself, VALUES and a SELECT without FROM: a source like any other, which soon ends.

use super::errors::Place;
use super::lower::{Lowered, Lowering, Slot, Stream, canonical_fields, planner};
use super::refuse::{at, find};
use crate::dataflow::Operator;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchemaRef, DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, Values};
use jobs::Diagnostic;
use std::sync::Arc;

impl Lowering<'_> {
    pub(crate) fn values(&mut self, values: &Values, places: &[Place<'_>]) -> Lowered<Stream> {
        let fields = canonical_fields(values.schema.fields());
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let cells = values.values.iter().map(|row| literal(&row[index], places)).collect::<Lowered<Vec<_>>>()?;
            let column = ScalarValue::iter_to_array(cells).map_err(|error| planner(&error, places))?;
            let column = cast(&column, field.data_type()).map_err(DataFusionError::from);
            columns.push(column.map_err(|error| planner(&error, places))?);
        }
        self.held(fields, columns, values.values.len(), Arc::clone(&values.schema), places)
    }

    /// One row without columns, or none.
    pub(crate) fn no_table(&mut self, one_row: bool, schema: DFSchemaRef, places: &[Place<'_>]) -> Lowered<Stream> {
        // Rows are counted by a column.
        let n_rows = usize::from(one_row);
        let mut fields = canonical_fields(schema.fields());
        let mut columns: Vec<ArrayRef> =
            fields.iter().map(|field| arrow::array::new_null_array(field.data_type(), n_rows)).collect();
        fields.push(Field::new("row", DataType::Boolean, true));
        columns.push(Arc::new(BooleanArray::from(vec![true; n_rows])));
        self.held(fields, columns, n_rows, schema, places)
    }

    fn held(
        &mut self,
        fields: Vec<Field>,
        columns: Vec<ArrayRef>,
        n_rows: usize,
        schema: DFSchemaRef,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields.clone())), columns, &options);
        let rows = rows.map_err(|error| planner(&DataFusionError::from(error), places))?;
        let table = connectors::values(&rows);
        let table = table.map_err(|error| at(Diagnostic::new(error.to_string()), find(places, &[&["VALUES"]])))?;
        let does = table.options.iter().map(|entry| entry.value.as_str()).collect::<Vec<_>>().join(" ");
        let operator = Operator::Source { table, projection: (0..fields.len()).collect(), watermark: None };
        let node = self.graph.add("values", &does, Vec::new(), fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let slots = (0..schema.fields().len()).map(Slot::Column).collect();
        Ok(Stream { node, schema, slots, open: None, row: None })
    }
}

fn literal(expr: &Expr, places: &[Place<'_>]) -> Lowered<ScalarValue> {
    match expr.clone().unalias() {
        Expr::Literal(value, _) => Ok(value),
        other => {
            let error = Diagnostic::new(format!("{other} in VALUES is no constant"));
            Err(at(error.help("write SELECT … instead"), find(places, &[&["VALUES"]])))
        }
    }
}
