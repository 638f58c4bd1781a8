//! The keys of a page that have changed since the last checkpoint, as far as its operator does not know of them: those that
//! an earlier one knew of, before the page was last on disk.

use super::bytes::Parts;
use super::directory::Directory;
use crate::runtime::operators::paged::page::hashes_of;
use crate::state::hashes::Hashes;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::error::Result;

/// What a hash in a set takes, about.
const HASH_BYTES: usize = 16;

#[derive(Debug, Default)]
pub struct Changed {
    hashes: Hashes,
    /// More has changed than is told by key.
    all: bool,
}

impl Changed {
    /// What a snapshot said was touched.
    pub fn add(&mut self, touched: Option<Vec<u64>>) {
        match touched {
            Some(hashes) if !self.all => self.hashes.extend(hashes),
            Some(_) => {}
            None => *self = Self { hashes: Hashes::default(), all: true },
        }
    }

    pub fn is_all(&self) -> bool {
        self.all
    }

    pub fn is_empty(&self) -> bool {
        !self.all && self.hashes.is_empty()
    }

    pub fn memory_bytes(&self) -> usize {
        self.hashes.len() * HASH_BYTES
    }

    /// The hashes, sorted.
    pub fn into_sorted(self) -> Vec<u64> {
        self.hashes.into_sorted()
    }

    /// Adds the rows of these keys.
    pub fn select(&self, tables: Parts, parts: &mut Parts) -> Result<()> {
        for (name, batches) in tables {
            for batch in batches {
                let batch = self.rows_of(&batch)?;
                if batch.num_rows() > 0 {
                    parts.entry(name.clone()).or_default().push(batch);
                }
            }
        }
        Ok(())
    }

    fn rows_of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let own: BooleanArray = hashes_of(batch)?.iter().map(|hash| Some(self.hashes.contains(*hash))).collect();
        Ok(filter_record_batch(batch, &own)?)
    }

    /// By page: its part. `bits`: how many low bits of a hash do not count.
    pub fn dealt(self, directory: &Directory, bits: u32, n_pages: usize) -> Vec<Self> {
        let mut dealt: Vec<Self> = (0..n_pages).map(|_| Self { hashes: Hashes::default(), all: self.all }).collect();
        for hash in self.hashes.into_sorted() {
            dealt[directory.page_of(hash >> bits)].hashes.insert(hash);
        }
        dealt
    }
}
