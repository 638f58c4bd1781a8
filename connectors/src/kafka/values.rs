//! The values of records, one per row, without a copy of each.
//!
//! Invariant: rows come in order, each exactly once.

use crate::api::{Result, TableDef};
use crate::formats::{BinaryEncoder, Encoded, Encoder, Format, Part};
use arrow::array::RecordBatch;

pub enum ValueEncoder {
    /// JSON escapes line ends, so lines are rows. They are kept, so that their room is allocated once.
    Lines(Encoder, Vec<u8>),
    /// Other text is asked for row by row.
    Rows(Encoder),
    /// The records are kept as the lines are.
    Binary(Box<BinaryEncoder>, Encoded),
}

impl ValueEncoder {
    pub fn new(table: &TableDef) -> Result<Self> {
        Ok(match Format::of(table)? {
            Format::Json => Self::Lines(Encoder::new(table)?, Vec::new()),
            Format::Csv | Format::Raw => Self::Rows(Encoder::new(table)?),
            format @ (Format::Avro | Format::Protobuf) => {
                let encoder = BinaryEncoder::open(format, Part::Value, table, &table.schema)?;
                Self::Binary(Box::new(encoder), Encoded::default())
            }
        })
    }

    /// The header of each record that names its schema.
    pub fn header(&self) -> Option<(&'static str, &[u8])> {
        match self {
            Self::Binary(encoder, _) => encoder.header(),
            Self::Lines(..) | Self::Rows(_) => None,
        }
    }

    /// Calls `take` with each row's index and value.
    pub fn each(&mut self, batch: &RecordBatch, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let (encoder, lines) = match self {
            Self::Lines(encoder, lines) => (encoder, lines),
            Self::Rows(encoder) => {
                let rows = encoder.encode_rows(batch)?;
                return rows.iter().enumerate().try_for_each(|(row, value)| take(row, value));
            }
            Self::Binary(encoder, records) => {
                encoder.encode(batch, records)?;
                return (0..records.len()).try_for_each(|row| take(row, records.get(row)));
            }
        };
        lines.clear();
        encoder.encode_lines(batch, lines)?;
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut rows = 0;
        for value in lines.split(|byte| *byte == b'\n') {
            take(rows, value)?;
            rows += 1;
        }
        assert_eq!(rows, batch.num_rows(), "lines of a batch and its rows");
        Ok(())
    }
}
