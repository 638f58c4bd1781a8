//! The best rows of one key, where no row is ever taken back.

use super::{Difference, Ranked};
use crate::runtime::operators::encoding::{ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::Partition;
use smallvec::SmallVec;

#[derive(Debug)]
struct Entry {
    row: RowBytes,
    /// The rank under which the row was last said; zero if it was not.
    said: u64,
}

/// Sorted, no more than the limit. Many keys never have a second row, and their only one stands here.
#[derive(Debug, Default)]
pub struct Best {
    entries: SmallVec<[Entry; 1]>,
}

impl Partition for Best {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Best {
    /// Whether no row with these bytes of the order can be among the best: they are the beginning of the row's bytes.
    pub fn refuses(&self, order: &[u8], limit: usize) -> bool {
        let worst = self.entries.last().filter(|_| self.entries.len() >= limit);
        worst.is_some_and(|worst| order > &worst.row[..order.len().min(worst.row.len())])
    }

    /// Where the row belongs, if it is among the best.
    pub fn place(&self, row: &[u8], limit: usize) -> Option<usize> {
        let at = self.entries.partition_point(|entry| &*entry.row <= row);
        (at < limit).then_some(at)
    }

    /// Puts a row in its place; gives by how many bytes this has grown. The row that this displaces goes to `displaced`
    /// if it was said.
    pub fn insert(&mut self, at: usize, row: &[u8], limit: usize, displaced: &mut Vec<Ranked>) -> isize {
        let mut grown = bytes_of(row);
        if self.entries.len() >= limit
            && let Some(Entry { row, said }) = self.entries.pop()
        {
            grown -= bytes_of(&row);
            if said > 0 {
                displaced.push((row, said));
            }
        }
        self.entries.insert(at, Entry { row: row.into(), said: 0 });
        grown
    }

    pub fn say(&mut self, rank: bool, difference: &mut Difference) {
        for (at, entry) in self.entries.iter_mut().enumerate() {
            let now = if rank { at as u64 + 1 } else { 1 };
            if entry.said == now {
                continue;
            }
            if entry.said > 0 {
                difference.gone.push((RowBytes::clone(&entry.row), entry.said));
            }
            difference.come.push((RowBytes::clone(&entry.row), now));
            entry.said = now;
        }
    }

    /// What the rows take.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| bytes_of(&entry.row).unsigned_abs()).sum()
    }

    /// Rows and how often they are there.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.entries.iter().map(|entry| (&*entry.row, 1))
    }
}

fn bytes_of(row: &[u8]) -> isize {
    (row.len() + ROW_OVERHEAD_BYTES + size_of::<Entry>()) as isize
}
