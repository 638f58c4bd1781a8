//! Buffered records, and the search for the bad ones among them.
//!
//! Invariant: every pushed record ends up either as one row (as some, where records are changes) or as one rejection, in
//! order. An engine decodes a whole
//! range at once. Bad records that it finds by themselves it sets aside on the way; otherwise it gives up as a whole, and
//! only a range that fails is taken apart, so that good input pays nothing and `k` bad records among `n` cost about
//! `n log k` more.

use super::Rejected;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::ops::Range;

/// Rows decoded at once: large enough for column kernels, small enough that one chunk stays in the cache.
pub const CHUNK_ROWS: usize = 8192;
/// Text offsets within one chunk are 32 bits wide; this stays far below.
const CHUNK_BYTES: usize = 256 << 20;

/// Records back to back.
#[derive(Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    positions: Vec<u64>,
}

impl Records {
    /// A record of two parts, of which the first may be empty.
    pub fn push(&mut self, head: &[u8], record: &[u8], position: u64) {
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
        self.positions.push(position);
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.positions.clear();
    }

    /// The bytes of a range of records, one after another.
    pub fn span(&self, range: Range<usize>) -> &[u8] {
        if range.is_empty() { &[] } else { &self.bytes[self.start(range.start)..self.ends[range.end - 1]] }
    }

    pub fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at]]
    }

    /// The record at a position.
    pub fn at_position(&self, position: u64) -> Option<usize> {
        self.positions.binary_search(&position).ok()
    }

    /// The positions of those that were not rejected.
    pub fn good_positions(&self, rejected: &[Rejected]) -> Vec<u64> {
        let mut rejected = rejected.iter().map(|(position, ..)| *position).peekable();
        self.positions.iter().copied().filter(|position| rejected.next_if_eq(position).is_none()).collect()
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] }
    }

    /// The end of the chunk that begins at `from`: never empty, even when one record is larger than a chunk.
    fn chunk_end(&self, from: usize) -> usize {
        let most = (from + CHUNK_ROWS).min(self.len());
        let limit = self.start(from) + CHUNK_BYTES;
        let fitting = self.ends[from..most].partition_point(|end| *end <= limit);
        from + fitting.max(1)
    }
}

/// Why a range did not decode.
pub struct Failure {
    /// The record at fault where that is known; all before it in the range are sound in their form.
    pub record: Option<usize>,
    pub error: String,
}

/// Decodes ranges of records of one format.
pub trait Engine: Send {
    fn schema(&self) -> &SchemaRef;

    /// Gets what is needed to decode these records from outside; nothing is decoded yet. May be called again.
    fn prepare(&mut self, _records: &Records) -> crate::Result<()> {
        Ok(())
    }

    /// All of the range as rows, one for each record unless records are changes, less the records that it adds to `rejected` in their order; or nothing, and nothing is
    /// added then. Must not be confused by an earlier failure.
    fn decode(
        &mut self,
        records: &Records,
        range: Range<usize>,
        rejected: &mut Vec<(usize, String)>,
    ) -> Result<RecordBatch, Failure>;
}

pub fn decode_all(records: &Records, engine: &mut dyn Engine) -> (RecordBatch, Vec<Rejected>) {
    let mut found = Found { batches: Vec::new(), rejected: Vec::new() };
    let mut from = 0;
    while from < records.len() {
        let to = records.chunk_end(from);
        found.decode(records, engine, from..to);
        from = to;
    }
    (concat(engine.schema(), found.batches), found.rejected)
}

struct Found {
    batches: Vec<RecordBatch>,
    rejected: Vec<Rejected>,
}

impl Found {
    fn decode(&mut self, records: &Records, engine: &mut dyn Engine, mut range: Range<usize>) {
        while !range.is_empty() {
            let mut rejected = Vec::new();
            let Failure { record, error } = match engine.decode(records, range.clone(), &mut rejected) {
                Ok(batch) => {
                    for (at, error) in rejected {
                        self.reject(records, at, error);
                    }
                    return self.batches.push(batch);
                }
                Err(failure) => failure,
            };
            match record {
                Some(at) => {
                    assert!(range.contains(&at), "record {at} is blamed outside of {range:?}");
                    self.decode(records, engine, range.start..at);
                    self.reject(records, at, error);
                    range.start = at + 1;
                }
                None if range.len() == 1 => return self.reject(records, range.start, error),
                None => {
                    let middle = range.start + range.len() / 2;
                    self.decode(records, engine, range.start..middle);
                    range.start = middle;
                }
            }
        }
    }

    fn reject(&mut self, records: &Records, at: usize, error: String) {
        self.rejected.push((records.positions[at], records.get(at).to_vec(), error));
    }
}

fn concat(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> RecordBatch {
    if batches.len() == 1 {
        return batches.swap_remove(0);
    }
    if schema.fields().is_empty() {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        return without_columns(schema.clone(), rows);
    }
    concat_batches(schema, &batches).expect("batches of one engine have one schema")
}

/// A batch that only counts, for queries that want no column.
pub fn without_columns(schema: SchemaRef, rows: usize) -> RecordBatch {
    RecordBatch::try_new_with_options(schema, Vec::new(), &RecordBatchOptions::new().with_row_count(Some(rows)))
        .expect("a row count is all that a batch without columns has")
}
