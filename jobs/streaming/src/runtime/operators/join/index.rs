//! Finds the rows of a changelog again.
//!
//! Invariant: every row that is kept has one slot here.

use super::arrival::Arrival;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

/// Finds a row of a changelog by all of its columns. 128 bits stand for the row: among a billion rows, chances that any
/// two differ and hash alike are one in 10^20.
#[derive(Debug)]
pub struct Index {
    converter: RowConverter,
    /// By slot.
    hashes: Vec<u128>,
    slots: HashTable<u32>,
}

impl Index {
    pub fn new(types: &[DataType]) -> Result<Self> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)?, hashes: Vec::new(), slots: HashTable::new() })
    }

    pub fn hash(&self, arrival: &Arrival) -> Result<Vec<u128>> {
        if arrival.columns.is_empty() {
            return Ok(vec![0; arrival.n_rows]);
        }
        let rows = self.converter.convert_columns(&arrival.columns)?;
        Ok(rows.iter().map(|row| xxh3_128(row.data())).collect())
    }

    pub fn find(&self, hash: u128) -> Option<u32> {
        self.slots.find(hash as u64, |slot| self.hashes[*slot as usize] == hash).copied()
    }

    pub fn insert(&mut self, hash: u128, slot: u32) {
        let at = slot as usize;
        if at == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[at] = hash;
        }
        let hashes = &self.hashes;
        self.slots.insert_unique(hash as u64, slot, |slot| hashes[*slot as usize] as u64);
    }

    pub fn remove(&mut self, slot: u32) {
        let hash = self.hashes[slot as usize] as u64;
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    /// `taken`: the old numbers of the slots, by their new ones.
    pub fn renumber(&mut self, taken: &[usize]) {
        self.hashes = taken.iter().map(|slot| self.hashes[*slot]).collect();
        let hashes = &self.hashes;
        self.slots = HashTable::with_capacity(hashes.len());
        for (slot, hash) in hashes.iter().enumerate() {
            self.slots.insert_unique(*hash as u64, slot as u32, |slot| hashes[*slot as usize] as u64);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.converter.size() + self.hashes.capacity() * size_of::<u128>() + self.slots.allocation_size()
    }
}
