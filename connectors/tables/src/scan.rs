//! Reading a table's rows in key order, a batch at a time.
//!
//! Invariant: a scan sees the table as it was when the scan began.

use crate::Error;
use crate::Result;
use crate::codec::decode;
use crate::schema::TableInfo;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use redb::{AccessGuard, Range, ReadOnlyTable};
use std::sync::Arc;

const BATCH_ROWS: usize = 8192;

/// An iterator of batches; each has at least one row.
pub struct Scan {
    rows: Range<'static, &'static [u8], &'static [u8]>,
    stored: SchemaRef,
    columns: Vec<usize>,
    schema: SchemaRef,
    left: u64,
}

impl Scan {
    pub(crate) fn new(
        info: &TableInfo,
        table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        columns: Option<&[usize]>,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<Self> {
        let all: Vec<usize> = (0..info.schema.fields().len()).collect();
        let columns = columns.map_or(all, <[usize]>::to_vec);
        let schema: Schema = info.schema.project(&columns).map_err(|why| Error::Invalid(why.to_string()))?;
        let mut rows = table.range::<&[u8]>(..)?;
        for _ in 0..offset {
            match rows.next() {
                Some(skipped) => drop(skipped?),
                None => break,
            }
        }
        let left = limit.unwrap_or(u64::MAX);
        Ok(Self { rows, stored: info.schema.clone(), columns, schema: Arc::new(schema), left })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut guards: Vec<AccessGuard<'_, &'static [u8]>> = Vec::new();
        while self.left > 0 && guards.len() < BATCH_ROWS {
            let Some(entry) = self.rows.next() else { break };
            guards.push(entry?.1);
            self.left -= 1;
        }
        if guards.is_empty() {
            return Ok(None);
        }
        let rows: Vec<&[u8]> = guards.iter().map(AccessGuard::value).collect();
        let arrays = decode(&rows, &self.stored, &self.columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map(Some)
            .map_err(|why| Error::Corrupt(why.to_string()))
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
