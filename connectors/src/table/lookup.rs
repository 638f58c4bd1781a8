//! Looks rows of the store up by key: one request for many keys.
//!
//! Invariant: an answer is of one moment per request; a row that is committed meanwhile is seen by a later request or
//! not at all.

use super::client::Client;
use super::read::fit;
use crate::{Error, Found, Lookup, Result, TableDef};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef, UInt32Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use std::io::BufReader;
use std::sync::Arc;

/// Keys of one request: its answer is held in memory at both ends, and keys that are not whole may have many rows.
const KEYS_AT_ONCE: usize = 4096;

pub struct TableLookup {
    client: Client,
    keys: SchemaRef,
    wanted: SchemaRef,
}

impl TableLookup {
    pub fn new(client: Client, keys: Schema, wanted: Schema) -> Self {
        Self { client, keys: Arc::new(keys), wanted: Arc::new(wanted) }
    }

    /// Finds out whether the table can be asked so. One that the store does not have is made: the job that writes it may
    /// begin later than the one that asks.
    pub fn begin(&mut self, table: &TableDef) -> Result<()> {
        if !self.client.exists()? {
            self.client.create(&table.schema, &table.primary_key)?;
        }
        let none = RecordBatch::new_empty(Arc::clone(&self.keys));
        self.ask(&none, 0, &mut Vec::new(), &mut Vec::new())
    }

    /// Keys from `first` on.
    fn ask(&self, keys: &RecordBatch, first: usize, found: &mut Vec<RecordBatch>, of: &mut Vec<u32>) -> Result<()> {
        let part = keys.slice(first, KEYS_AT_ONCE.min(keys.num_rows() - first));
        let unfit = |why: String| {
            Error::Fatal(format!("keys of table '{}' cannot be sent to the table store: {why}", self.client.table()))
        };
        // The names by which the table knows its columns.
        let part = RecordBatch::try_new(Arc::clone(&self.keys), part.columns().to_vec());
        let body = part.and_then(|part| {
            let mut writer = StreamWriter::try_new(Vec::new(), &self.keys)?;
            writer.write(&part)?;
            writer.into_inner()
        });
        let columns: Vec<&str> = self.wanted.fields().iter().map(|field| field.name().as_str()).collect();
        let response = self.client.lookup(&columns, body.map_err(|why| unfit(why.to_string()))?)?;
        let stream = StreamReader::try_new(BufReader::new(response), None).map_err(|why| self.client.broken(why))?;
        for batch in stream {
            let batch = batch.map_err(|why| self.client.broken(why))?;
            let numbers = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt32Type>());
            let numbers = numbers.ok_or_else(|| self.client.broken("the answer does not say which keys it is for"))?;
            of.extend(numbers.values().iter().map(|number| number + first as u32));
            let rows: Vec<usize> = (1..batch.num_columns()).collect();
            let rows = batch.project(&rows).map_err(|why| self.client.broken(why))?;
            found.push(fit(self.client.table(), &self.wanted, &rows)?);
        }
        Ok(())
    }
}

impl Lookup for TableLookup {
    fn get(&mut self, keys: &RecordBatch) -> Result<Found> {
        let (mut found, mut of) = (Vec::new(), Vec::new());
        for first in (0..keys.num_rows()).step_by(KEYS_AT_ONCE) {
            self.ask(keys, first, &mut found, &mut of)?;
        }
        let rows = concat_batches(&self.wanted, &found)
            .map_err(|why| Error::Fatal(format!("rows of table '{}': {why}", self.client.table())))?;
        Ok(Found { rows, keys: of })
    }
}
