//! How records become rows and rows become records: JSON, CSV, Avro, Protobuf and raw bytes, columnar from end to end.
//!
//! Invariant: a record that does not decode is set aside with its position, its bytes and the reason; it never takes a
//! neighbour with it and never disappears.
//! Invariant: batches hold exactly the wanted columns in their order, bound by written case; what a record has beyond
//! them is ignored and what it lacks is null. Where records are changes, a last column holds their weights.

pub(crate) mod avro;
mod binary;
mod binary_encode;
mod cells;
mod column;
mod columns;
mod csv;
mod encode;
mod envelope;
mod framing;
mod json;
mod plain_key;
mod protobuf;
mod raw;
mod records;
mod sampled;
mod schema_registry;
mod schemas;
mod split;
pub(crate) mod timestamp;
mod upserts;
mod wire;

pub(crate) use avro::columns as columns_of_avro;
pub use binary_encode::{BinaryEncoder, Encoded, header_name};
pub use columns::columns;
pub use encode::Encoder;
pub use sampled::Sample;
pub use schemas::{ALL as SCHEMA_OPTIONS, Part, beside};
pub use split::{LineSplitter, Lines};

use crate::{OptionInfo, Options, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
pub(crate) use binary::columns_of;
pub(crate) use cells::map_of_text;
use jobs::Diagnostic;
pub(crate) use json::Object;
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
/// Of records in a topic, each of which stands by itself.
pub const STREAM_FORMAT: OptionInfo = OptionInfo {
    kind: "json|csv|raw|avro|protobuf",
    doc: "how a record's value is written; avro and protobuf by the schemas of schema.registry.url, by one that the table \
          gives, or by one that its columns make",
    ..FORMAT
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
    kind: "plain|json|avro|protobuf",
    default: None,
    required: false,
    doc: "how a record's key is written: plain, the text of a key of one column; avro or protobuf, a record of the key's \
          columns; json, an object, for a source with changelog = 'upsert' only; default plain for one column, and the \
          table's format for several",
};

/// How the records of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Raw,
    /// In topics only, as the next.
    Avro,
    Protobuf,
}

impl Format {
    pub fn of(table: &TableDef) -> Result<Self, Diagnostic> {
        let all = ["json", "csv", "raw", "avro", "protobuf"];
        let known = if table.connector() == "kafka" { &all[..] } else { &all[..3] };
        Ok(match Options::new(table).one_of(FORMAT.name, known)? {
            Some("csv") => Self::Csv,
            Some("raw") => Self::Raw,
            Some("avro") => Self::Avro,
            Some("protobuf") => Self::Protobuf,
            _ => Self::Json,
        })
    }

    /// Whether records are by a schema.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }

    /// How the keys of a table's records are written, if not as text: of so many columns.
    pub fn of_keys(table: &TableDef, n_columns: usize) -> Result<Option<Self>, Diagnostic> {
        let format = Self::of(table)?;
        Ok(match Options::new(table).one_of(KEY_FORMAT.name, &["plain", "json", "avro", "protobuf"])? {
            Some("avro") => Some(Self::Avro),
            Some("protobuf") => Some(Self::Protobuf),
            None if n_columns > 1 && format.is_binary() => Some(format),
            _ => None,
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
    if let Ok(format) = Format::of(table) {
        wrong.extend(schemas::check(table, format));
        if wrong.is_empty() && (!format.is_binary() || schemas::is_at_hand(table)) {
            wrong.extend(Decoder::new(table.schema.clone(), table).err());
        }
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
        self.records.push(&[], record, position);
    }

    /// A record whose schema a header names, see [`header_name`]: as if that stood before it, as it then does where the
    /// record is a bad one.
    pub fn push_headed(&mut self, header: &[u8], record: &[u8], position: u64) {
        self.records.push(header, record, position);
    }

    /// A record with a key and without a value, where records are upserts; the header is as in
    /// [`Decoder::push_headed`], or empty.
    pub fn push_removal(&mut self, header: &[u8], key: &[u8], position: u64) {
        if let Some(upserts) = &mut self.upserts {
            upserts.removals.push(header, key, position);
        }
    }

    /// Asks for the schemas that records name and that are not known yet. On an error nothing is lost: the records stay,
    /// and the call may be made again.
    pub fn prepare(&mut self) -> crate::Result<()> {
        self.engine.prepare(&self.records)?;
        self.upserts.as_mut().map_or(Ok(()), Upserts::prepare)
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

    /// The good records as one batch, in order, and the bad ones, in order. Records that may name schemas were prepared.
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
        format @ (Format::Avro | Format::Protobuf) => {
            return schemas::engine(format, Part::Value, schema, table.schema.fields(), table);
        }
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
    let has = |info: OptionInfo| table.option(info.name).is_some();
    match Format::of(table) {
        Ok(Format::Json) => true,
        // A schema that the columns make is another with fewer fields.
        Ok(Format::Avro) => {
            [schemas::REGISTRY_URL, schemas::AVRO_SCHEMA, schemas::AVRO_SCHEMA_FILE].into_iter().any(has)
        }
        Ok(Format::Protobuf) => {
            [schemas::REGISTRY_URL, schemas::PROTOBUF_SCHEMA, schemas::PROTOBUF_SCHEMA_FILE].into_iter().any(has)
        }
        Ok(Format::Csv | Format::Raw) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
