//! The record's bytes as they are, in the one column of the table.

use super::records::{Engine, Failure, Records, without_columns};
use crate::TableDef;
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use jobs::Diagnostic;
use std::ops::Range;
use std::sync::Arc;

pub struct RawEngine {
    schema: SchemaRef,
}

impl RawEngine {
    pub fn new(schema: SchemaRef, table: &TableDef) -> Result<Self, Diagnostic> {
        let fitting = |kind: &DataType| super::is_text(kind) || is_bytes(kind);
        if schema.fields().len() > 1 || schema.fields().iter().any(|field| !fitting(field.data_type())) {
            return Err(Diagnostic::new(format!(
                "table '{}' has format 'raw', which fills one column of type VARCHAR or VARBINARY",
                table.name
            ))
            .help("declare one such column, or use format = 'json'"));
        }
        Ok(Self { schema })
    }
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

impl Engine for RawEngine {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        _rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        let Some(field) = self.schema.fields().first() else {
            return Ok(without_columns(self.schema.clone(), range.len()));
        };
        if super::is_text(field.data_type())
            && let Some(at) = range.clone().find(|at| std::str::from_utf8(records.get(*at)).is_err())
        {
            return Err(Failure { record: Some(at), error: "is not UTF-8 text".to_owned() });
        }
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(range.map(|at| records.get(at))));
        let whole = |why: arrow::error::ArrowError| Failure { record: None, error: why.to_string() };
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let column = cast_with_options(bytes.as_ref(), field.data_type(), &strict).map_err(whole)?;
        assert_eq!(column.null_count(), 0, "valid text became null");
        RecordBatch::try_new(self.schema.clone(), vec![column]).map_err(whole)
    }
}
