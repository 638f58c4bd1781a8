//! The rows of one side as columns, in chunks.
//!
//! Every batch that is kept becomes a chunk. Once there are some small ones they are put together while more rows come, each
//! row some few times, so that there are never many of them, and rows that soon go again are not moved. A row that goes leaves a hole; a chunk that is more hole than rows is
//! written anew, one without rows goes at once.
//!
//! Invariant: nothing here points into a batch that came in, or into a chunk that went: bytes that are counted are bytes
//! that are held.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use std::sync::Arc;

/// No slot, no chunk, no group.
pub const NONE: u32 = u32::MAX;

/// A chunk with this many rows is left alone: what is done per chunk no longer matters beside what is done per row.
const CHUNK_ROWS: usize = 4096;

/// Chunks that are too short and are left alone all the same.
const FEW: usize = 8;

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub chunk: u32,
    pub row: u32,
}

impl Place {
    pub const NOWHERE: Self = Self { chunk: NONE, row: NONE };
}

#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    /// By row: its slot, or `NONE` where the row went.
    slots: Vec<u32>,
    n_live: usize,
    bytes: usize,
}

impl Chunk {
    fn is_sparse(&self) -> bool {
        self.n_live * 2 < self.slots.len()
    }
}

/// Rows with a fixed number of columns; each belongs to a slot, whose number the owner chooses.
#[derive(Debug)]
pub struct Rows {
    n_columns: usize,
    chunks: Vec<Option<Chunk>>,
    free: Vec<u32>,
    /// Chunks that are still too short, the latest last.
    open: Vec<u32>,
    /// Chunks that have become sparse.
    sparse: Vec<u32>,
    bytes: usize,
}

impl Rows {
    pub fn new(n_columns: usize) -> Self {
        Self { n_columns, chunks: Vec::new(), free: Vec::new(), open: Vec::new(), sparse: Vec::new(), bytes: 0 }
    }

    /// Copies these rows of the columns; the n-th belongs to the n-th slot and lies in the n-th row of the chunk whose
    /// number comes back.
    pub fn append(&mut self, columns: &[ArrayRef], rows: &[u32], slots: Vec<u32>) -> Result<u32> {
        let rows = UInt32Array::from(rows.to_vec());
        let columns = columns.iter().map(|column| Ok(compact(take(column, &rows, None)?))).collect::<Result<_>>()?;
        Ok(self.push(columns, slots))
    }

    pub fn remove(&mut self, place: Place) {
        let Some(chunk) = &mut self.chunks[place.chunk as usize] else { return };
        let was_sparse = chunk.is_sparse();
        chunk.slots[place.row as usize] = NONE;
        chunk.n_live -= 1;
        if chunk.n_live == 0 {
            self.drop_chunk(place.chunk);
        } else if !was_sparse && chunk.is_sparse() {
            self.sparse.push(place.chunk);
        }
    }

    /// Puts together what is too short or too sparse, and says of each row that moved where it is now.
    pub fn tidy(&mut self, mut moved: impl FnMut(u32, Place)) -> Result<()> {
        for chunk in std::mem::take(&mut self.sparse) {
            // The chunk may have gone since, and its number may be another one's.
            if self.chunks[chunk as usize].as_ref().is_some_and(Chunk::is_sparse) {
                self.merge(&[chunk], &mut moved)?;
            }
        }
        while self.open.len() > FEW {
            // The latest chunks, as long as each is no larger than all after it: so a row is copied a number of times
            // that grows with the logarithm of a chunk's length only.
            let (mut from, mut n_rows) = (self.open.len(), 0);
            while from > 0 && n_rows < CHUNK_ROWS {
                let n_more = self.n_live(self.open[from - 1]);
                if n_rows > 0 && n_more > n_rows {
                    break;
                }
                from -= 1;
                n_rows += n_more;
            }
            if self.open.len() - from < 2 {
                return Ok(());
            }
            let chunks = self.open[from..].to_vec();
            self.merge(&chunks, &mut moved)?;
        }
        Ok(())
    }

    /// Some columns of the rows at these places, of which there is at least one.
    pub fn gather(&self, places: impl ExactSizeIterator<Item = Place>, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let mut position = vec![NONE; self.chunks.len()];
        let mut chunks = Vec::new();
        let mut indices = Vec::with_capacity(places.len());
        for Place { chunk, row } in places {
            let position = &mut position[chunk as usize];
            if *position == NONE {
                *position = chunks.len() as u32;
                chunks.extend(&self.chunks[chunk as usize]);
            }
            indices.push((*position as usize, row as usize));
        }
        if let [chunk] = chunks.as_slice() {
            let rows: UInt32Array = indices.iter().map(|(_, row)| *row as u32).collect::<Vec<_>>().into();
            return columns.iter().map(|column| Ok(take(&chunk.columns[*column], &rows, None)?)).collect();
        }
        let gathered = |column: &usize| {
            let arrays: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.columns[*column].as_ref()).collect();
            Ok(interleave(&arrays, &indices)?)
        };
        columns.iter().map(gathered).collect()
    }

    /// The columns of each chunk, and by row its slot, `NONE` where the row went.
    pub fn chunks(&self) -> impl Iterator<Item = (&[ArrayRef], &[u32])> {
        self.chunks.iter().flatten().map(|chunk| (chunk.columns.as_slice(), chunk.slots.as_slice()))
    }

    /// The slots have new numbers: by the old one.
    pub fn renumber(&mut self, numbers: &[u32]) {
        for slot in self.chunks.iter_mut().flatten().flat_map(|chunk| &mut chunk.slots) {
            if *slot != NONE {
                *slot = numbers[*slot as usize];
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.chunks.capacity() * size_of::<Option<Chunk>>()
    }

    fn n_live(&self, chunk: u32) -> usize {
        self.chunks[chunk as usize].as_ref().map_or(0, |chunk| chunk.n_live)
    }

    fn push(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>) -> u32 {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        let bytes = bytes + slots.capacity() * size_of::<u32>();
        let n_live = slots.len();
        let chunk = Some(Chunk { columns, slots, n_live, bytes });
        self.bytes += bytes;
        let number = match self.free.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                self.chunks.push(chunk);
                (self.chunks.len() - 1) as u32
            }
        };
        if n_live < CHUNK_ROWS {
            self.open.push(number);
        }
        number
    }

    fn drop_chunk(&mut self, number: u32) {
        if let Some(chunk) = self.chunks[number as usize].take() {
            self.bytes -= chunk.bytes;
            self.free.push(number);
            self.open.retain(|open| *open != number);
        }
    }

    /// The rows of these chunks become one chunk.
    fn merge(&mut self, numbers: &[u32], moved: &mut impl FnMut(u32, Place)) -> Result<()> {
        let chunks: Vec<&Chunk> = numbers.iter().filter_map(|number| self.chunks[*number as usize].as_ref()).collect();
        let n_rows = chunks.iter().map(|chunk| chunk.n_live).sum();
        let (mut indices, mut slots) = (Vec::with_capacity(n_rows), Vec::with_capacity(n_rows));
        for (position, chunk) in chunks.iter().enumerate() {
            for (row, slot) in chunk.slots.iter().enumerate().filter(|(_, slot)| **slot != NONE) {
                indices.push((position, row));
                slots.push(*slot);
            }
        }
        let merged = |column: usize| {
            let arrays: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
            Ok(compact(interleave(&arrays, &indices)?))
        };
        let columns = (0..self.n_columns).map(merged).collect::<Result<Vec<_>>>()?;
        for number in numbers {
            self.drop_chunk(*number);
        }
        let number = self.push(columns, slots);
        if let Some(merged) = &self.chunks[number as usize] {
            for (row, slot) in merged.slots.iter().enumerate() {
                moved(*slot, Place { chunk: number, row: row as u32 });
            }
        }
        Ok(())
    }
}

/// Views point into buffers that may hold much else.
fn compact(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Each step adds rows and removes some.
        #[test]
        fn every_row_stays_where_it_is_said_to_be(
            steps in proptest::collection::vec((0_usize..3000, 0_usize..3, 1_usize..5), 1..40),
        ) {
            let mut rows = Rows::new(1);
            let mut places: BTreeMap<u32, Place> = BTreeMap::new();
            let mut next = 0_u32;
            for (n_rows, spread, part) in steps {
                let n_rows = n_rows >> (spread * 4);
                let slots: Vec<u32> = (next..next + n_rows as u32).collect();
                next += n_rows as u32;
                let values: ArrayRef = Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| i64::from(*slot))));
                let all: Vec<u32> = (0..n_rows as u32).collect();
                if n_rows > 0 {
                    let chunk = rows.append(&[values], &all, slots.clone()).expect("append");
                    places.extend(slots.iter().zip(all).map(|(slot, row)| (*slot, Place { chunk, row })));
                }
                let gone: Vec<u32> = places.keys().copied().filter(|slot| (slot / 700) as usize % part == 1).collect();
                for slot in gone {
                    rows.remove(places.remove(&slot).expect("a place"));
                }
                rows.tidy(|slot, place| {
                    places.insert(slot, place);
                })
                .expect("tidy");
                if !places.is_empty() {
                    let found = rows.gather(places.values().copied(), &[0]).expect("gather");
                    let found: Vec<i64> = found[0].as_primitive::<Int64Type>().values().to_vec();
                    let expected: Vec<i64> = places.keys().map(|slot| i64::from(*slot)).collect();
                    prop_assert_eq!(found, expected);
                }
                prop_assert!(rows.open.len() <= 30, "{} short chunks", rows.open.len());
                let n_held: usize = rows.chunks().map(|(_, slots)| slots.len()).sum();
                prop_assert!(n_held <= 2 * places.len(), "{n_held} for {}", places.len());
            }
            for place in places.into_values() {
                rows.remove(place);
            }
            prop_assert_eq!(rows.bytes, 0);
        }
    }
}
