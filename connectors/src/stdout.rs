//! The `stdout` connector: one JSON object per row on standard output.
//!
//! Promise: at least once; what a crashed job had printed since its last checkpoint is printed again.

use crate::formats::{self, Encoder};
use crate::{Connector, Context, Delivery, Error, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef};
use arrow::array::RecordBatch;
use jobs::Diagnostic;
use std::io::Write;

static OPTIONS: [OptionInfo; 2] = [formats::FORMAT, formats::CSV_DELIMITER];

pub static CONNECTOR: StdoutConnector = StdoutConnector;

#[derive(Debug)]
pub struct StdoutConnector;

impl Connector for StdoutConnector {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn doc(&self) -> &'static str {
        "prints rows, one JSON object a line"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        formats::check(table)
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn splits(&self, _table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn open_source(
        &self,
        table: &TableDef,
        _projection: &[usize],
        _splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        Err(Error::Fatal(format!("table '{}' has connector 'stdout', which cannot be read", table.name)))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(LinesSink { encoder: Encoder::new(table)?, out: std::io::stdout(), lines: Vec::new() }))
    }
}

struct LinesSink<W> {
    encoder: Encoder,
    out: W,
    lines: Vec<u8>,
}

impl<W: Write> LinesSink<W> {
    fn put(&mut self, lines: &[u8]) -> Result<()> {
        self.out
            .write_all(lines)
            .and_then(|()| self.out.flush())
            .map_err(|why| Error::Fatal(format!("standard output cannot be written: {why}")))
    }
}

impl<W: Write + Send> Sink for LinesSink<W> {
    /// One write per batch, so that lines of several slices do not mix.
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        self.encoder.encode_lines(batch, &mut lines)?;
        self.put(&lines)?;
        self.lines = lines;
        Ok(())
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _epoch: u64) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, _epoch: u64, _states: Vec<Vec<u8>>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::array::Int64Array;
    use arrow::datatypes::DataType;
    use std::sync::Arc;

    #[test]
    fn a_row_is_a_line() {
        let table = table(&[("n", DataType::Int64)], &[]);
        let mut sink = LinesSink { encoder: Encoder::new(&table).unwrap(), out: Vec::new(), lines: Vec::new() };
        let numbers = Int64Array::from(vec![Some(1), None]);
        sink.write(&RecordBatch::try_new(table.schema.clone(), vec![Arc::new(numbers)]).unwrap()).unwrap();
        sink.prepare(1).unwrap();
        assert_eq!(sink.out, b"{\"n\":1}\n{\"n\":null}\n");
    }
}
