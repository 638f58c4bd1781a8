//! JSON objects, one per record, read in one pass straight into the columns that are wanted.
//!
//! A record's bytes are walked once: fields that are wanted are appended to their columns, all others are skipped
//! without being built. Wanting only some fields of a STRUCT is a schema whose struct has only those.
//!
//! Invariant: no record can reach into another: what a bad one has left in the columns is cut off before the next.
//! Invariant: nesting is bounded, so that a hostile record cannot exhaust the stack.
//! Invariant: what is read is valid UTF-8 and JSON by its grammar, except that control characters may stand unescaped
//! in text, and that escapes in skipped text are not looked into.

mod map;
mod object;
mod scalar;
mod take;
pub(super) mod walk;

pub use map::Map;
pub use object::Object;

use super::column;
use super::records::{Engine, Failure, Records, without_columns};
use super::timestamp::TimestampForm;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use jobs::Diagnostic;
use std::ops::Range;
use walk::Walk;

/// The engine for JSON records whose wanted columns are `schema`.
pub fn engine(schema: SchemaRef, form: TimestampForm) -> Result<Box<dyn Engine>, Diagnostic> {
    match JsonEngine::new(schema.clone(), form) {
        Some(engine) => Ok(Box::new(engine)),
        None => {
            let unread = |field: &&FieldRef| column::Column::new(field, form).is_none();
            let found = schema.fields().iter().find(unread);
            let (name, kind) = found.map_or(("?", &DataType::Null), |field| (field.name().as_str(), field.data_type()));
            Err(Diagnostic::new(format!("column '{name}' cannot be read from JSON: {kind} has no form there")))
        }
    }
}

pub struct JsonEngine {
    schema: SchemaRef,
    root: Object,
}

impl JsonEngine {
    /// None when a column is of a type that has no form in JSON.
    pub fn new(schema: SchemaRef, form: TimestampForm) -> Option<Self> {
        let root = Object::new(schema.fields(), form)?;
        Some(Self { schema, root })
    }

    /// Takes one record as row number `row`, or leaves the columns in need of [`Object::truncate`].
    fn take(&mut self, record: &[u8], row: usize) -> walk::Result<()> {
        let mut walk = Walk::new(record);
        walk.skip_space();
        if walk.at_end() {
            return Err(walk::wrong("is empty"));
        }
        if walk.peek() != b'{' {
            return Err(walk.expected("an object"));
        }
        self.root.take(&mut walk, row)?;
        walk.skip_space();
        if !walk.at_end() {
            return Err(walk::wrong("holds more than one JSON value"));
        }
        Ok(())
    }
}

impl Engine for JsonEngine {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        // One check over all records is much faster than one each; it holds for each where none begins in a character.
        let all = records.span(range.clone());
        let valid = std::str::from_utf8(all).is_ok()
            && range.clone().all(|at| records.get(at).first().is_none_or(|byte| !is_continuation(*byte)));
        let mut rows = 0;
        let mut bad = Vec::new();
        for at in range {
            let record = records.get(at);
            let taken = if valid || std::str::from_utf8(record).is_ok() {
                self.take(record, rows)
            } else {
                Err(walk::wrong("is not UTF-8 text"))
            };
            match taken {
                Ok(()) => rows += 1,
                Err(wrong) => {
                    self.root.truncate(rows);
                    bad.push((at, wrong.error));
                }
            }
        }
        let whole = |why| Failure { record: None, error: plain(&why) };
        let columns = self.root.finish(rows).map_err(|why| {
            self.root.truncate(0);
            whole(why)
        })?;
        let batch = if self.schema.fields().is_empty() {
            without_columns(self.schema.clone(), rows)
        } else {
            RecordBatch::try_new(self.schema.clone(), columns).map_err(whole)?
        };
        rejected.append(&mut bad);
        Ok(batch)
    }
}

/// Arrow's message without its "Json error: ".
pub fn plain(why: &ArrowError) -> String {
    match why {
        ArrowError::JsonError(text) | ArrowError::CsvError(text) | ArrowError::ParseError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A byte of UTF-8 that goes on a character.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests;
