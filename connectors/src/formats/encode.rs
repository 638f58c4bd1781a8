//! Rows to records: one JSON object, CSV line or byte string per row.
//!
//! Invariant: every row becomes exactly one record, in order. Nulls are written out, timestamps are RFC 3339 in UTC.

use super::split::Scan;
use super::{Format, csv, is_text, timestamp};
use crate::{Error, Result, TableDef};
use arrow::array::TimestampMicrosecondArray;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, NullableEncoder};
use arrow::json::{Encoder as ColumnEncoder, EncoderFactory, EncoderOptions, WriterBuilder};
use jobs::Diagnostic;
use std::sync::Arc;

#[derive(Debug)]
pub struct Encoder {
    format: Format,
    delimiter: u8,
    table: String,
}

impl Encoder {
    pub fn new(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        Ok(Self { format: Format::of(table)?, delimiter: csv::delimiter(table)?, table: table.name.clone() })
    }

    /// One record per row, without line ends.
    pub fn encode_rows(&self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        if self.format == Format::Raw {
            return self.raw_rows(batch);
        }
        let mut lines = Vec::new();
        self.encode_lines(batch, &mut lines)?;
        let mut rows = Vec::with_capacity(batch.num_rows());
        let (mut begin, mut scan) = (0, Scan::default());
        for (at, byte) in lines.iter().enumerate() {
            let ends = match self.format {
                Format::Csv => scan.ends_record(*byte, self.delimiter),
                _ => *byte == b'\n',
            };
            if ends {
                rows.push(lines[begin..at].to_vec());
                begin = at + 1;
            }
        }
        assert_eq!(rows.len(), batch.num_rows(), "rows and records of table '{}' differ", self.table);
        Ok(rows)
    }

    /// Appends one line per row.
    pub fn encode_lines(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let failed = |why: ArrowError| Error::Fatal(format!("rows of table '{}' cannot be written: {why}", self.table));
        match self.format {
            Format::Json => {
                // A writer is made anew for each batch; what it holds is a few hundred bytes.
                let mut writer = WriterBuilder::new()
                    .with_explicit_nulls(true)
                    .with_encoder_factory(Arc::new(Timestamps))
                    .build::<_, LineDelimited>(out);
                writer.write(batch).map_err(failed)?;
                writer.finish().map_err(failed)
            }
            Format::Csv => arrow::csv::WriterBuilder::new()
                .with_header(false)
                .with_delimiter(self.delimiter)
                .build(out)
                .write(batch)
                .map_err(failed),
            Format::Avro | Format::Protobuf => {
                Err(Error::Fatal(format!("table '{}' has a format of records that are no lines", self.table)))
            }
            Format::Raw => {
                for row in self.raw_rows(batch)? {
                    out.extend_from_slice(&row);
                    out.push(b'\n');
                }
                Ok(())
            }
        }
    }

    /// The line of column names with which a CSV file begins.
    pub fn header(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        arrow::csv::WriterBuilder::new()
            .with_header(true)
            .with_delimiter(self.delimiter)
            .build(out)
            .write(&batch.slice(0, 0))
            .map_err(|why| Error::Fatal(format!("header of table '{}' cannot be written: {why}", self.table)))
    }

    fn raw_rows(&self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        let unfit = || {
            Error::Fatal(format!(
                "table '{}' has format 'raw', which writes one column of type VARCHAR or VARBINARY",
                self.table
            ))
        };
        let [column] = batch.columns() else { return Err(unfit()) };
        let bytes: ArrayRef = match column.data_type() {
            kind if is_text(kind) => cast(column, &DataType::Utf8).and_then(|text| cast(&text, &DataType::Binary)),
            _ => cast(column, &DataType::Binary),
        }
        .map_err(|_| unfit())?;
        Ok(bytes.as_binary::<i32>().iter().map(|value| value.unwrap_or_default().to_vec()).collect())
    }
}

/// Writes timestamps digit by digit; going through a formatter costs several times as much.
#[derive(Debug)]
struct Timestamps;

impl EncoderFactory for Timestamps {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !matches!(array.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_))) {
            return Ok(None);
        }
        let column = array.as_primitive::<TimestampMicrosecondType>();
        Ok(Some(NullableEncoder::new(Box::new(TimestampColumn(column)), array.nulls().cloned())))
    }
}

struct TimestampColumn<'a>(&'a TimestampMicrosecondArray);

impl ColumnEncoder for TimestampColumn<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        timestamp::write(self.0.value(row), out);
        out.push(b'"');
    }
}
