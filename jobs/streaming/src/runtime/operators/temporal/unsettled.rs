//! Left rows that may be taken back until the watermark has passed them.
//!
//! Invariant: what is given once the watermark has passed a time is every row of that time as often as its weights add up
//! to, in the order of the rows; a row that came and went leaves nothing.

use super::bytes_of;
use crate::runtime::operators::encoding::RowBytes;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub struct Change {
    /// Of the key.
    pub hash: u64,
    pub weight: i64,
    /// Whether it is in a snapshot, as it is.
    pub saved: bool,
}

#[derive(Debug, Default)]
pub struct Unsettled {
    rows: BTreeMap<i64, HashMap<RowBytes, Change>>,
    bytes: usize,
}

impl Unsettled {
    /// Adds to the weight of a row; gives its key's hash where a snapshot has it otherwise.
    pub fn add(&mut self, time_us: i64, row: &[u8], hash: u64, weight: i64, saved: bool) -> Option<u64> {
        let rows = self.rows.entry(time_us).or_default();
        let Some(known) = rows.get_mut(row) else {
            self.bytes += bytes_of(row);
            rows.insert(RowBytes::from(row), Change { hash, weight, saved });
            return None;
        };
        let told = std::mem::replace(&mut known.saved, false);
        known.weight += weight;
        if known.weight == 0 {
            rows.remove(row);
            self.bytes -= bytes_of(row);
            if rows.is_empty() {
                self.rows.remove(&time_us);
            }
        }
        told.then_some(hash)
    }

    /// Takes out the rows before this watermark: those that are there, and the hashes of those that a snapshot has.
    pub fn settle(&mut self, watermark_us: i64) -> (Vec<(i64, RowBytes)>, Vec<u64>) {
        let later = self.rows.split_off(&watermark_us);
        let (mut settled, mut told) = (Vec::new(), Vec::new());
        for (time_us, rows) in std::mem::replace(&mut self.rows, later) {
            let mut rows: Vec<(RowBytes, Change)> = rows.into_iter().collect();
            rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            for (row, change) in rows {
                self.bytes -= bytes_of(&row);
                told.extend(change.saved.then_some(change.hash));
                let times = usize::try_from(change.weight).unwrap_or_default();
                settled.extend(std::iter::repeat_n((time_us, row), times));
            }
        }
        (settled, told)
    }

    pub fn n_rows(&self) -> usize {
        self.rows.values().map(HashMap::len).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RowBytes, &Change)> {
        self.rows.values().flatten()
    }

    /// All rows are in a snapshot now; gives the hashes of those that were not.
    pub fn save(&mut self) -> Vec<u64> {
        let rows = self.rows.values_mut().flat_map(HashMap::values_mut);
        rows.filter_map(|change| (!std::mem::replace(&mut change.saved, true)).then_some(change.hash)).collect()
    }

    pub fn first_us(&self) -> Option<i64> {
        self.rows.first_key_value().map(|(time_us, _)| *time_us)
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}
