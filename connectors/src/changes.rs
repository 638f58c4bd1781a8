//! What connectors share about changelogs: who takes and gives them, and reading weights.
//!
//! Invariant: a weight is +1 or -1; anything else is an error of whoever gave it, never rounded to one of the two.

use crate::{Error, Gives, Result, TableDef, Takes, find, registry};
use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use std::sync::Arc;

/// The last column of what a source of changes gives.
pub(crate) fn weight_field() -> Field {
    Field::new("weight", DataType::Int8, false)
}

/// What the rows of a table are when it is read; rows, where the connector does not exist, which is told elsewhere.
pub fn gives(table: &TableDef) -> Gives {
    find(table.connector()).map_or(Gives::Rows, |connector| connector.gives(table))
}

/// Why this table cannot be written by a query that takes rows back, with the way out, in one sentence; `None` where it
/// can, and for a connector that does not exist, which is told elsewhere.
pub fn refuses_changes(table: &TableDef) -> Option<String> {
    let connector = find(table.connector())?;
    if connector.takes(table) != Takes::Append {
        return None;
    }
    let way_out = match connector.to_take_changes(table) {
        Some(order) => order.to_owned(),
        None => {
            let others = registry().iter().filter(|other| other.is_sink() && other.name() != connector.name());
            let names: Vec<String> = others.map(|other| format!("'{}'", other.name())).collect();
            format!("connector '{}' cannot; others can: {}", connector.name(), names.join(", "))
        }
    };
    Some(format!("table '{}' takes appended rows only, and the query takes rows back; {way_out}", table.name))
}

/// Which rows are there now; the others are there no longer.
pub(crate) fn there(table: &str, batch: &RecordBatch, weights: &Int8Array) -> Result<BooleanArray> {
    let unfit = |why: String| Error::Fatal(format!("changes of table '{table}' have unfit weights: {why}"));
    if weights.len() != batch.num_rows() || weights.null_count() > 0 {
        return Err(unfit(format!(
            "{} of them, {} null, for {} rows",
            weights.len(),
            weights.null_count(),
            batch.num_rows()
        )));
    }
    if let Some(odd) = weights.values().iter().find(|weight| !matches!(weight, 1 | -1)) {
        return Err(unfit(format!("{odd}, where +1 or -1 is due")));
    }
    Ok(BooleanArray::new(BooleanBuffer::from_iter(weights.values().iter().map(|weight| *weight > 0)), None))
}

/// Changes as rows for people: one column more, the first, is `op`: `+` for a row that is there now, `-` for one that is there
/// no longer.
pub(crate) struct Told {
    table: String,
    schema: SchemaRef,
}

impl Told {
    pub fn of(table: &TableDef) -> Self {
        let op: FieldRef = Arc::new(Field::new("op", DataType::Utf8, false));
        let fields: Vec<FieldRef> = std::iter::once(op).chain(table.schema.fields().iter().cloned()).collect();
        Self { table: table.name.clone(), schema: Arc::new(Schema::new(fields)) }
    }

    pub fn of_changes(&self, batch: &RecordBatch, weights: &Int8Array) -> Result<RecordBatch> {
        let there = there(&self.table, batch, weights)?;
        let op: StringArray = there.iter().map(|there| Some(if there == Some(true) { "+" } else { "-" })).collect();
        let op: ArrayRef = Arc::new(op);
        let columns = std::iter::once(op).chain(batch.columns().iter().cloned()).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|why| Error::Fatal(format!("rows do not fit table '{}': {why}", self.table)))
    }
}

/// The rows that are there now, and those that are there no longer, each in order.
pub(crate) fn halves(table: &str, batch: &RecordBatch, weights: &Int8Array) -> Result<(RecordBatch, RecordBatch)> {
    let there = there(table, batch, weights)?;
    if there.true_count() == batch.num_rows() {
        return Ok((batch.clone(), batch.slice(0, 0)));
    }
    let filtered = |keep: &BooleanArray| {
        filter_record_batch(batch, keep)
            .map_err(|why| Error::Fatal(format!("changes of table '{table}' cannot be told apart: {why}")))
    };
    let gone = not(&there).map_err(|why| Error::Fatal(why.to_string()))?;
    Ok((filtered(&there)?, filtered(&gone)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbered, table};
    use arrow::datatypes::DataType;

    #[test]
    fn a_table_that_appends_only_tells_the_way_out() {
        let with_key = |mut table: TableDef| {
            table.primary_key = vec![0];
            table
        };
        let columns = [("n", DataType::Int64)];
        let kafka = |options: &[(&str, &str)]| {
            let base = [("connector", "kafka"), ("topic", "t"), ("bootstrap.servers", "localhost:9092")];
            table(&columns, &base.iter().chain(options).copied().collect::<Vec<_>>())
        };
        for (takes, declared) in [
            (Takes::Append, table(&columns, &[])),
            (Takes::Upsert, with_key(table(&columns, &[]))),
            (Takes::Upsert, with_key(table(&columns, &[("connector", "cassandra")]))),
            (Takes::Append, table(&columns, &[("connector", "cassandra")])),
            (Takes::Append, with_key(kafka(&[]))),
            (Takes::Upsert, with_key(kafka(&[("changelog", "upsert")]))),
            (Takes::Changes, kafka(&[("changelog", "debezium")])),
            (Takes::Changes, table(&columns, &[("connector", "stdout")])),
            (Takes::Append, table(&columns, &[("connector", "stdout"), ("format", "raw")])),
            (Takes::Changes, table(&columns, &[("connector", "blackhole")])),
            (Takes::Append, with_key(table(&columns, &[("connector", "files"), ("path", "x")]))),
        ] {
            let connector = find(declared.connector()).unwrap();
            assert_eq!(connector.takes(&declared), takes, "{declared:?}");
            let told = refuses_changes(&declared);
            assert_eq!(told.is_some(), takes == Takes::Append, "{declared:?}");
            if let Some(told) = told {
                assert!(
                    told.starts_with("table 't' takes appended rows only, and the query takes rows back; "),
                    "{told}"
                );
                let word = match (connector.name(), declared.option("format")) {
                    ("files", _) => "others can: 'kafka', 'cassandra', 'table', 'stdout', 'sse', 'blackhole'",
                    ("kafka", _) => "changelog = 'upsert'",
                    ("stdout", _) => "format = 'raw'",
                    _ => "PRIMARY KEY",
                };
                assert!(told.contains(word), "{told}");
            }
        }
        assert_eq!(refuses_changes(&table(&columns, &[("connector", "nothing")])), None);
    }

    #[test]
    fn weights_part_the_rows_and_other_numbers_are_refused() {
        let batch = numbered(0..4);
        let (there, gone) = halves("t", &batch, &Int8Array::from(vec![1, -1, -1, 1])).unwrap();
        assert_eq!((there.num_rows(), gone), (2, batch.slice(1, 2)));
        assert_eq!(halves("t", &batch, &Int8Array::from(vec![1; 4])).unwrap(), (batch.clone(), batch.slice(0, 0)));
        for odd in [vec![Some(1); 3], vec![Some(1), Some(2), Some(1), Some(1)], vec![None; 4]] {
            assert!(matches!(halves("t", &batch, &Int8Array::from(odd)), Err(Error::Fatal(_))));
        }
    }
}
