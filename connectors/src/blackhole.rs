//! The `blackhole` connector: takes every row and every change, keeps none, and tells how many came.

use crate::{
    Connector, Context, Delivery, Error, OptionInfo, Result, Sink, SourceReader, SplitStart, TableDef, Takes, changes,
};
use arrow::array::{Array, Int8Array, RecordBatch};

pub static CONNECTOR: BlackholeConnector = BlackholeConnector;

#[derive(Debug)]
pub struct BlackholeConnector;

impl Connector for BlackholeConnector {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn doc(&self) -> &'static str {
        "takes every row and keeps none, for measuring"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &[]
    }

    fn is_source(&self) -> bool {
        false
    }

    fn is_sink(&self) -> bool {
        true
    }

    fn bounded(&self, _table: &TableDef) -> bool {
        true
    }

    fn delivery(&self, _table: &TableDef) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn takes(&self, _table: &TableDef) -> Takes {
        Takes::Changes
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
        Err(Error::Fatal(format!("table '{}' has connector 'blackhole', which cannot be read", table.name)))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Ok(Box::new(BlackholeSink { table: table.name.clone(), ..BlackholeSink::default() }))
    }
}

#[derive(Debug, Default)]
struct BlackholeSink {
    table: String,
    /// Rows written and changes of rows.
    rows: u64,
    /// Of these, those that took a row back.
    taken_back: u64,
    bytes: u64,
}

impl Sink for BlackholeSink {
    /// Looks at the size of every column, so that none can be left unmade.
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for column in batch.columns() {
            self.bytes += column.to_data().get_slice_memory_size().unwrap_or(0) as u64;
        }
        Ok(())
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        self.taken_back += changes::there(&self.table, batch, weights)?.false_count() as u64;
        self.write(batch)
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        tracing::debug!(
            table = self.table,
            epoch,
            rows = self.rows,
            taken_back = self.taken_back,
            bytes = self.bytes,
            "rows went into the blackhole"
        );
        Ok(())
    }

    fn restore(&mut self, _epoch: u64, _states: Vec<Vec<u8>>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    #[test]
    fn rows_and_bytes_are_counted() {
        let mut sink = BlackholeSink::default();
        let column: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("a", column.clone()), ("b", column)]).unwrap();
        sink.write(&batch).unwrap();
        assert_eq!(sink.prepare(1).unwrap(), Vec::<u8>::new());
        sink.commit(1).unwrap();
        assert_eq!((sink.rows, sink.bytes), (10, 160));
        sink.change(&batch.slice(0, 3), &Int8Array::from(vec![1, -1, -1])).unwrap();
        assert_eq!((sink.rows, sink.taken_back, sink.bytes), (13, 2, 160 + 48));
    }
}
