//! A record's key of one column, written as the plain text of its value.
//!
//! Invariant: what a sink writes as such a key is read back as the same value.

use super::records::{Engine, Failure, Records};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use std::ops::Range;
use std::sync::Arc;

pub struct PlainKeyEngine {
    /// The one column.
    schema: SchemaRef,
}

impl PlainKeyEngine {
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    fn column(&self, records: &Records, range: Range<usize>) -> Result<ArrayRef, ArrowError> {
        let kind = self.schema.field(0).data_type();
        let keys: ArrayRef = match kind {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Arc::new(BinaryArray::from_iter_values(range.map(|at| records.get(at))))
            }
            _ => Arc::new(range.map(|at| std::str::from_utf8(records.get(at)).ok()).collect::<StringArray>()),
        };
        // What is no value of the type becomes null, and is told below.
        cast_with_options(&keys, kind, &CastOptions { safe: true, ..CastOptions::default() })
    }
}

impl Engine for PlainKeyEngine {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        let whole = |why: ArrowError| Failure { record: None, error: why.to_string() };
        let column = self.column(records, range.clone()).map_err(whole)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::clone(&column)]).map_err(whole)?;
        if column.null_count() == 0 {
            return Ok(batch);
        }
        let good = filter_record_batch(&batch, &is_not_null(&column).map_err(whole)?).map_err(whole)?;
        let field = self.schema.field(0);
        rejected.extend(range.enumerate().filter(|(row, _)| column.is_null(*row)).map(|(_, at)| {
            let key = String::from_utf8_lossy(records.get(at));
            (at, format!("the key '{key}' is no {} for column '{}'", field.data_type(), field.name()))
        }));
        Ok(good)
    }
}
