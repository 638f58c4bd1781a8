//! The `stdout` connector: one JSON object per row on standard output.
//!
//! Promise: at least once; what a crashed job had printed since its last checkpoint is printed again. Changes have one
//! field more, the first: `"op"` is `"+"` for a row that is there now and `"-"` for one that is there no longer.

use crate::changes::Told;
use crate::formats::{self, Encoder, Format};
use crate::{Connector, Context, Delivery, Error, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef, Takes};
use arrow::array::{Int8Array, RecordBatch};
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

    /// A raw row is one column, which leaves no room for what became of it.
    fn takes(&self, table: &TableDef) -> Takes {
        if Format::of(table) == Ok(Format::Raw) { Takes::Append } else { Takes::Changes }
    }

    fn to_take_changes(&self, _table: &TableDef) -> Option<&'static str> {
        Some("leave out format = 'raw'")
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
        Ok(Box::new(LinesSink::new(table, std::io::stdout())?))
    }
}

struct LinesSink<W> {
    encoder: Encoder,
    told: Told,
    out: W,
    lines: Vec<u8>,
}

impl<W: Write> LinesSink<W> {
    fn new(table: &TableDef, out: W) -> Result<Self> {
        Ok(Self { encoder: Encoder::new(table)?, told: Told::of(table), out, lines: Vec::new() })
    }

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

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        let told = self.told.of_changes(batch, weights)?;
        self.write(&told)
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
        let mut sink = LinesSink::new(&table, Vec::new()).unwrap();
        let numbers = Int64Array::from(vec![Some(1), None]);
        let batch = RecordBatch::try_new(table.schema.clone(), vec![Arc::new(numbers)]).unwrap();
        sink.write(&batch).unwrap();
        sink.prepare(1).unwrap();
        assert_eq!(sink.out, b"{\"n\":1}\n{\"n\":null}\n");
        sink.out.clear();
        sink.change(&batch, &Int8Array::from(vec![1, -1])).unwrap();
        assert_eq!(sink.out, b"{\"op\":\"+\",\"n\":1}\n{\"op\":\"-\",\"n\":null}\n");
    }
}
