//! Reads a table of the store from its beginning to its end.
//!
//! Invariant: a position is a number of rows in key order. Within one reading they are rows of one moment; a reading
//! that breaks off goes on at the same number, which is the same row only while the table stands still.

use super::client::Client;
use crate::{Error, Polled, Position, Result, SourceReader, SplitStart};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use reqwest::blocking::Response;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

pub struct TableReader {
    client: Client,
    wanted: SchemaRef,
    /// The columns to ask for; all of them when a name could be misread in the list.
    columns: Option<String>,
    next: Position,
    state: State,
}

enum State {
    Closed,
    Open(Box<StreamReader<BufReader<Response>>>),
    Ended,
}

impl TableReader {
    pub fn new(client: Client, wanted: Schema, splits: &[SplitStart]) -> Result<Self> {
        let (next, state) = match splits {
            [] => (0, State::Ended),
            [one] => (one.from.unwrap_or(0), State::Closed),
            more => {
                return Err(Error::Fatal(format!("table '{}' has one split, not {}", client.table(), more.len())));
            }
        };
        let names: Vec<&str> = wanted.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = names.iter().all(|name| !name.is_empty() && !name.contains(',')).then(|| names.join(","));
        Ok(Self { client, wanted: Arc::new(wanted), columns, next, state })
    }
}

/// Picks the wanted columns in their types: the store has one layout of text, a plan may want another.
pub fn fit(table: &str, wanted: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let unfit = |why: String| Error::Fatal(format!("table '{table}' of the table store is not as declared: {why}"));
    let mut columns = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let column =
            batch.column_by_name(field.name()).ok_or_else(|| unfit(format!("it has no '{}'", field.name())))?;
        columns.push(if column.data_type() == field.data_type() {
            column.clone()
        } else {
            cast(column, field.data_type()).map_err(|why| unfit(why.to_string()))?
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(wanted.clone(), columns, &options).map_err(|why| unfit(why.to_string()))
}

impl SourceReader for TableReader {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let mut stream = match std::mem::replace(&mut self.state, State::Closed) {
            State::Ended => {
                self.state = State::Ended;
                return Ok(Polled::End);
            }
            State::Open(stream) => stream,
            State::Closed => {
                let response = self.client.rows(self.columns.as_deref(), self.next)?;
                let stream = StreamReader::try_new(BufReader::new(response), None);
                Box::new(stream.map_err(|why| self.client.broken(why))?)
            }
        };
        match stream.next() {
            None => {
                self.state = State::Ended;
                Ok(Polled::SplitEnd { split: 0 })
            }
            Some(Err(why)) => Err(self.client.broken(why)),
            Some(Ok(batch)) => {
                let batch = fit(self.client.table(), &self.wanted, &batch)?;
                self.next += batch.num_rows() as u64;
                self.state = State::Open(stream);
                Ok(Polled::Batch { split: 0, batch, next: self.next, bad: Vec::new() })
            }
        }
    }
}
