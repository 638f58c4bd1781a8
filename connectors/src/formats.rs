//! How records become rows and rows become records: JSON, CSV and raw bytes, columnar from end to end.
//!
//! Invariant: a record that does not decode is set aside with its position, its bytes and the reason; it never takes a
//! neighbour with it and never disappears.
//! Invariant: batches hold exactly the wanted columns in their order, bound by written case; what a record has beyond
//! them is ignored and what it lacks is null. Where records are changes, a last column holds their weights.

mod csv;
mod encode;
mod envelope;
mod json;
mod plain_key;
mod raw;
mod records;
mod split;
pub(crate) mod timestamp;
mod upserts;

pub use encode::Encoder;
pub use split::{LineSplitter, Lines};

use crate::{OptionInfo, Options, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use jobs::Diagnostic;
pub(crate) use records::without_columns;
use records::{Engine, Records};
use timestamp::TimestampForm;
use upserts::Upserts;

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

/// How the keys of records are written, where a record without a value is told by its key.
pub const KEY_FORMAT: OptionInfo = OptionInfo {
    name: "key.format",
    kind: "plain|json",
    default: None,
    required: false,
    doc: "source, changelog = 'upsert': how a record's key is written: plain, the text of a key of one column, or json, an \
          object; default plain for one column, and the table's format for several",
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
    /// Where records are upserts.
    upserts: Option<Upserts>,
}

impl Decoder {
    /// `schema` holds the columns wanted. For CSV, fields are bound to the columns of `table` by their order.
    pub fn new(schema: SchemaRef, table: &TableDef) -> Result<Self, Diagnostic> {
        let names: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
        Self::with_csv_columns(schema, table, &names)
    }

    /// Like [`Decoder::new`], for CSV whose fields come in the order of `names`, for example of a header line.
    pub fn with_csv_columns(schema: SchemaRef, table: &TableDef, names: &[String]) -> Result<Self, Diagnostic> {
        Ok(Self { records: Records::default(), engine: engine(schema, table, names)?, upserts: None })
    }

    /// For records that are changes in Debezium's envelope; a last column holds their weights. With a primary key they are
    /// upserts, see [`crate::Gives::Upserts`], and its columns are among those of `schema`.
    pub fn for_envelopes(schema: SchemaRef, table: &TableDef) -> Result<Self, Diagnostic> {
        let keys = upserts::key_places(&schema, table)?;
        let engine = envelope::EnvelopeEngine::new(schema, keys, TimestampForm::of(table)?)?;
        Ok(Self { records: Records::default(), engine: Box::new(engine), upserts: None })
    }

    /// For records that are upserts by primary key, whose columns are among those of `schema`; a last column holds their
    /// weights. `key_columns`: the table's columns that records' keys hold, in that order.
    pub fn for_upserts(schema: SchemaRef, table: &TableDef, key_columns: &[usize]) -> Result<Self, Diagnostic> {
        let upserts = Upserts::new(&schema, table, key_columns)?;
        Ok(Self { upserts: Some(upserts), ..Self::new(schema, table)? })
    }

    pub fn push(&mut self, record: &[u8], position: u64) {
        self.records.push(record, position);
    }

    /// A record with a key and without a value, where records are upserts.
    pub fn push_removal(&mut self, key: &[u8], position: u64) {
        if let Some(upserts) = &mut self.upserts {
            upserts.removals.push(key, position);
        }
    }

    /// Records pushed since the last flush, good and bad.
    pub fn len(&self) -> usize {
        self.records.len() + self.upserts.as_ref().map_or(0, |upserts| upserts.removals.len())
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
        let decoded = match &mut self.upserts {
            Some(upserts) => upserts.merged(&self.records, decoded),
            None => decoded,
        };
        self.records.clear();
        decoded
    }
}

/// What reads the values of a table's records.
fn engine(schema: SchemaRef, table: &TableDef, names: &[String]) -> Result<Box<dyn Engine>, Diagnostic> {
    Ok(match Format::of(table)? {
        Format::Json => json::engine(schema, TimestampForm::of(table)?)?,
        Format::Csv => Box::new(csv::CsvEngine::new(schema, csv::delimiter(table)?, names)?),
        Format::Raw => Box::new(raw::RawEngine::new(schema, table)?),
    })
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
