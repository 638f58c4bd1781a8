//! CSV (RFC 4180), one record per message or line. An empty field is null.
//!
//! Invariant: no record can reach into the next: each must use up exactly one row of the decoder.

use super::records::{CHUNK_ROWS, Engine, Failure, Records, without_columns};
use super::timestamp::{self, TimestampForm};
use super::{CSV_DELIMITER, json::plain, split::Scan};
use crate::{Options, TableDef};
use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use jobs::Diagnostic;
use std::ops::Range;
use std::sync::Arc;

pub fn delimiter(table: &TableDef) -> Result<u8, Diagnostic> {
    let options = Options::new(table);
    match options.text(CSV_DELIMITER.name).map(str::as_bytes) {
        None => Ok(b','),
        Some(b"\\t") => Ok(b'\t'),
        Some([one]) if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => Ok(*one),
        Some(_) => Err(options
            .wrong(CSV_DELIMITER.name, "option 'csv.delimiter' must be one ASCII character")
            .help("for example ';' or '\\t'")),
    }
}

pub struct CsvEngine {
    schema: SchemaRef,
    /// All fields of a record in their order, timestamps and unwanted ones as text.
    reading: SchemaRef,
    projection: Vec<usize>,
    delimiter: u8,
    decoder: Option<Decoder>,
    line: Vec<u8>,
}

impl CsvEngine {
    pub fn new(schema: SchemaRef, delimiter: u8, names: &[String]) -> Result<Self, Diagnostic> {
        let fields: Vec<Field> = names
            .iter()
            .map(|name| match schema.field_with_name(name) {
                Ok(field) => timestamp::reading_field(field),
                Err(_) => Field::new(name, DataType::Utf8, true),
            })
            .collect();
        let mut projection = Vec::new();
        for field in schema.fields() {
            if field.data_type().is_nested() {
                return Err(Diagnostic::new(format!(
                    "column '{}' has type {}, which CSV cannot hold",
                    field.name(),
                    field.data_type()
                ))
                .help("use format = 'json'"));
            }
            let at = names.iter().position(|name| name == field.name()).ok_or_else(|| {
                Diagnostic::new(format!("column '{}' is not among the CSV's columns", field.name()))
                    .suggest(field.name(), names.iter().map(String::as_str))
            })?;
            projection.push(at);
        }
        Ok(Self { schema, reading: Arc::new(Schema::new(fields)), projection, delimiter, decoder: None, line: vec![] })
    }

    fn new_decoder(&self, rows: usize) -> Decoder {
        let projection = if self.projection.is_empty() { vec![0] } else { self.projection.clone() };
        ReaderBuilder::new(self.reading.clone())
            .with_header(false)
            .with_delimiter(self.delimiter)
            .with_batch_size(rows)
            .with_projection(projection)
            .build_decoder()
    }
}

impl Engine for CsvEngine {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        _rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure> {
        let whole = |why: ArrowError| Failure { record: None, error: plain(&why) };
        let full = self.decoder.is_some() || range.len() > CHUNK_ROWS / 8;
        let mut decoder =
            self.decoder.take().unwrap_or_else(|| self.new_decoder(if full { CHUNK_ROWS } else { range.len() }));
        for at in range {
            self.line.clear();
            self.line.extend_from_slice(records.get(at));
            while matches!(self.line.last(), Some(b'\n' | b'\r')) {
                self.line.pop();
            }
            if self.line.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
                && holds_many_lines(&self.line, self.delimiter)
            {
                return Err(Failure { record: Some(at), error: "holds more than one line".to_owned() });
            }
            self.line.push(b'\n');
            feed(&mut decoder, &self.line).map_err(|error| Failure { record: Some(at), error })?;
        }
        let batch = decoder.flush().map_err(whole)?.ok_or_else(|| whole(ArrowError::CsvError("no record".into())))?;
        if full {
            self.decoder = Some(decoder);
        }
        if self.schema.fields().is_empty() {
            return Ok(without_columns(self.schema.clone(), batch.num_rows()));
        }
        timestamp::convert_batch(&batch, &self.schema, TimestampForm::Auto)
            .map_err(|error| Failure { record: None, error })
    }
}

fn feed(decoder: &mut Decoder, line: &[u8]) -> Result<(), String> {
    let before = decoder.capacity();
    let taken = decoder.decode(line).map_err(|why| plain(&why))?;
    match before - decoder.capacity() {
        1 if taken == line.len() => Ok(()),
        0 if line == b"\n" => Err("is empty".to_owned()),
        0 => Err("ends within quotes".to_owned()),
        more => Err(format!("was taken for {more} rows")),
    }
}

fn holds_many_lines(record: &[u8], delimiter: u8) -> bool {
    let mut scan = Scan::default();
    record.iter().any(|byte| scan.ends_record(*byte, delimiter))
}
