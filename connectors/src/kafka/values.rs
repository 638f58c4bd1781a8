//! The values of records, one per row, without a copy of each.
//!
//! Invariant: rows come in order, each exactly once.

use crate::api::{Result, TableDef};
use crate::formats::{Encoder, Format};
use arrow::array::RecordBatch;

pub struct ValueEncoder {
    encoder: Encoder,
    /// JSON escapes line ends, so lines are rows; other formats are asked for rows one by one.
    by_line: bool,
    /// Kept, so that its room is allocated once.
    lines: Vec<u8>,
}

impl ValueEncoder {
    pub fn new(table: &TableDef) -> Result<Self> {
        Ok(Self { encoder: Encoder::new(table)?, by_line: Format::of(table)? == Format::Json, lines: Vec::new() })
    }

    /// Calls `take` with each row's index and value.
    pub fn each(&mut self, batch: &RecordBatch, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        if !self.by_line {
            let rows = self.encoder.encode_rows(batch)?;
            return rows.iter().enumerate().try_for_each(|(row, value)| take(row, value));
        }
        self.lines.clear();
        self.encoder.encode_lines(batch, &mut self.lines)?;
        let lines = self.lines.strip_suffix(b"\n").unwrap_or(&self.lines);
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
