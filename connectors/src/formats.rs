//! How records become rows and rows become records: JSON, CSV and raw bytes, columnar from end to end.
//!
//! Invariant: a record that does not decode is set aside with its position, its bytes and the reason; it never takes a
//! neighbour with it and never disappears.
//! Invariant: batches hold exactly the wanted columns in their order, bound by written case; what a record has beyond
//! them is ignored and what it lacks is null.

mod csv;
mod encode;
mod json;
mod raw;
mod records;
mod split;
pub(crate) mod timestamp;

pub use encode::Encoder;
pub use split::{LineSplitter, Lines};

use crate::{OptionInfo, Options, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use jobs::Diagnostic;
use records::{Engine, Records};
use timestamp::TimestampForm;

pub const FORMAT: OptionInfo = OptionInfo {
    name: "format",
    kind: "json|csv|raw",
    default: Some("json"),
    required: false,
    doc: "how a record is written",
};
pub const JSON_TIMESTAMP_FORMAT: OptionInfo = OptionInfo {
    name: "json.timestamp_format",
    kind: "auto|rfc3339|millis|micros|seconds",
    default: Some("auto"),
    required: false,
    doc: "how timestamps are written; auto reads text as RFC 3339 and numbers as milliseconds since 1970",
};
pub const CSV_DELIMITER: OptionInfo = OptionInfo {
    name: "csv.delimiter",
    kind: "text",
    default: Some(","),
    required: false,
    doc: "the one character between two fields; \\t is a tab",
};
pub const CSV_HEADER: OptionInfo = OptionInfo {
    name: "csv.header",
    kind: "bool",
    default: Some("true"),
    required: false,
    doc: "whether a file begins with a line of column names, by which columns are then bound",
};

/// How the records of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Raw,
}

impl Format {
    pub fn of(table: &TableDef) -> Result<Self, Diagnostic> {
        Ok(match Options::new(table).one_of(FORMAT.name, &["json", "csv", "raw"])? {
            Some("csv") => Self::Csv,
            Some("raw") => Self::Raw,
            _ => Self::Json,
        })
    }
}

/// The mistakes in the format options of a table, for [`crate::Connector::check`].
pub fn check(table: &TableDef) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    wrong.extend(Format::of(table).err());
    wrong.extend(TimestampForm::of(table).err());
    wrong.extend(csv::delimiter(table).err());
    wrong.extend(Options::new(table).bool(CSV_HEADER.name).err());
    if wrong.is_empty() {
        wrong.extend(Decoder::new(table.schema.clone(), table).err());
    }
    wrong
}

/// A record that did not decode: its position, its bytes, and why.
pub type Rejected = (u64, Vec<u8>, String);

/// Collects records and turns them into one batch.
///
/// Flush after some thousand records or some megabytes; the buffered bytes are what bounds the memory.
pub struct Decoder {
    records: Records,
    engine: Box<dyn Engine>,
}

impl Decoder {
    /// `schema` holds the columns wanted. For CSV, fields are bound to the columns of `table` by their order.
    pub fn new(schema: SchemaRef, table: &TableDef) -> Result<Self, Diagnostic> {
        let names: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
        Self::with_csv_columns(schema, table, &names)
    }

    /// Like [`Decoder::new`], for CSV whose fields come in the order of `names`, for example of a header line.
    pub fn with_csv_columns(schema: SchemaRef, table: &TableDef, names: &[String]) -> Result<Self, Diagnostic> {
        let engine: Box<dyn Engine> = match Format::of(table)? {
            Format::Json => json::engine(schema, TimestampForm::of(table)?)?,
            Format::Csv => Box::new(csv::CsvEngine::new(schema, csv::delimiter(table)?, names)?),
            Format::Raw => Box::new(raw::RawEngine::new(schema, table)?),
        };
        Ok(Self { records: Records::default(), engine })
    }

    pub fn push(&mut self, record: &[u8], position: u64) {
        self.records.push(record, position);
    }

    /// Records pushed since the last flush, good and bad.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes pushed since the last flush.
    pub fn buffered_bytes(&self) -> usize {
        self.records.bytes().len()
    }

    /// The good records as one batch, in order, and the bad ones, in order.
    pub fn flush(&mut self) -> (RecordBatch, Vec<Rejected>) {
        let decoded = records::decode_all(&self.records, self.engine.as_mut());
        self.records.clear();
        decoded
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

/// Text columns, whichever way Arrow lays them out.
pub(crate) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether records can be read by fewer fields than they have, also within structs.
pub fn reads_fields(table: &TableDef) -> bool {
    table.option(FORMAT.name).is_none_or(|format| format == "json")
}

#[cfg(test)]
mod tests;
