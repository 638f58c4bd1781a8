//! What the unit tests of this crate share: table declarations in one line.

use crate::{Context, OptionEntry, TableDef};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use std::path::Path;
use std::sync::Arc;

/// A table `t` of nullable columns, whose options lie one after another in an imagined text.
pub fn table(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDef {
    let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    let mut at = 0;
    let options = options
        .iter()
        .map(|(key, value)| {
            let key_span = (at, at + key.len());
            let value_span = (key_span.1 + 1, key_span.1 + 1 + value.len());
            at = value_span.1 + 1;
            OptionEntry {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                key_span: Some(key_span),
                value_span: Some(value_span),
            }
        })
        .collect();
    TableDef { name: "t".to_owned(), schema: Arc::new(Schema::new(fields)), primary_key: Vec::new(), options }
}

pub fn context(base_dir: &Path) -> Context {
    Context {
        job: "group/job".to_owned(),
        generation: 1,
        claimed_us: 1,
        begun_us: 1,
        slot: 0,
        n_slots: 1,
        base_dir: base_dir.to_owned(),
        tables_endpoint: None,
        token: None,
    }
}

/// One column `n` with these numbers.
pub fn numbered(numbers: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).expect("one column makes a batch")
}
