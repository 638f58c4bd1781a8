//! JSON records through Arrow's own decoder, to hold ours against.
//!
//! Invariant: no record can reach into the next: after each one the decoder must stand between two rows, with exactly
//! one row more. Invariant: nesting is bounded, so that a hostile record cannot exhaust the stack.

use crate::formats::json::plain;
use crate::formats::records::{CHUNK_ROWS, Engine, Failure, Records, without_columns};
use crate::formats::timestamp::{self, TimestampForm};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use jobs::Diagnostic;
use std::ops::Range;
use std::sync::Arc;

/// Deeper records are refused; shorter ones than this many bytes cannot be deeper.
const MOST_DEPTH: usize = 1000;

pub struct TapeEngine {
    schema: SchemaRef,
    /// What the tape is read as: timestamps are text until [`timestamp::convert`].
    reading: SchemaRef,
    form: TimestampForm,
    /// Kept between chunks for its buffers; absent after a failure, which leaves a decoder in the middle of a record.
    decoder: Option<Decoder>,
}

impl TapeEngine {
    pub fn new(schema: SchemaRef, form: TimestampForm) -> Result<Self, Diagnostic> {
        let mut fields: Vec<Field> =
            schema.fields().iter().map(|field| timestamp::reading_field(field.as_ref())).collect();
        if fields.is_empty() {
            // The form of the records is still checked when no column is wanted.
            fields.push(Field::new("\0", DataType::Null, true));
        }
        let reading = Arc::new(Schema::new(fields));
        for field in reading.fields() {
            let one = Arc::new(Schema::new(vec![field.clone()]));
            ReaderBuilder::new(one).with_batch_size(1).build_decoder().map_err(|why| {
                Diagnostic::new(format!("column '{}' cannot be read from JSON: {}", field.name(), plain(&why)))
            })?;
        }
        Ok(Self { schema, reading, form, decoder: None })
    }

    fn new_decoder(&self, rows: usize) -> Result<Decoder, ArrowError> {
        // Numbers and booleans are kept as their text in VARCHAR columns.
        ReaderBuilder::new(self.reading.clone()).with_batch_size(rows).with_coerce_primitive(true).build_decoder()
    }
}

impl Engine for TapeEngine {
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
        // A decoder for few rows is cheap to make, so only the one for full chunks is worth keeping.
        let full = self.decoder.is_some() || range.len() > CHUNK_ROWS / 8;
        let mut decoder = match self.decoder.take() {
            Some(kept) => kept,
            None => self.new_decoder(if full { CHUNK_ROWS } else { range.len() }).map_err(whole)?,
        };
        for (done, at) in range.enumerate() {
            feed(&mut decoder, records.get(at), done).map_err(|error| Failure { record: Some(at), error })?;
        }
        let batch = decoder.flush().map_err(whole)?.ok_or_else(|| whole(ArrowError::JsonError("no record".into())))?;
        if full {
            self.decoder = Some(decoder);
        }
        if self.schema.fields().is_empty() {
            return Ok(without_columns(self.schema.clone(), batch.num_rows()));
        }
        timestamp::convert_batch(&batch, &self.schema, self.form).map_err(|error| Failure { record: None, error })
    }
}

/// Feeds one record to a decoder that has taken `done` whole ones.
fn feed(decoder: &mut Decoder, record: &[u8], done: usize) -> Result<(), String> {
    if record.len() > MOST_DEPTH && depth(record) > MOST_DEPTH {
        return Err(format!("nested deeper than {MOST_DEPTH} levels"));
    }
    let taken = decoder.decode(record).map_err(|why| plain(&why))?;
    if decoder.has_partial_record() {
        return Err("ends in the middle of a JSON value".to_owned());
    }
    match decoder.len() - done {
        0 if taken < record.len() => Err("holds more than one JSON value".to_owned()),
        0 => Err("is empty".to_owned()),
        // At the decoder's last row, what follows it stays unread.
        1 if record[taken..].iter().all(u8::is_ascii_whitespace) => Ok(()),
        _ => Err("holds more than one JSON value".to_owned()),
    }
}

fn depth(record: &[u8]) -> usize {
    let (mut depth, mut most, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for byte in record {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}
