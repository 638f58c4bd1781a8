//! All rows of one key, where rows may be taken back.

use super::Difference;
use crate::runtime::operators::encoding::{ROW_OVERHEAD_BYTES, RowBytes};
use crate::runtime::operators::partitions::Partition;
use std::cmp::Ordering;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct All {
    /// How often each row is there. Below zero: it was taken back before it came.
    rows: BTreeMap<RowBytes, i64>,
    /// The first rows as they were last said.
    said: Vec<RowBytes>,
}

impl Partition for All {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.said.is_empty()
    }
}

impl All {
    /// Gives by how many bytes this has grown.
    pub fn change(&mut self, row: &[u8], weight: i64) -> isize {
        let bytes = bytes_of(row) as isize;
        match self.rows.get_mut(row) {
            Some(count) => {
                *count += weight;
                if *count != 0 {
                    return 0;
                }
                self.rows.remove(row);
                -bytes
            }
            None if weight == 0 => 0,
            None => {
                self.rows.insert(row.into(), weight);
                bytes
            }
        }
    }

    pub fn say(&mut self, limit: usize, rank: bool, difference: &mut Difference) {
        let there = self.rows.iter().filter(|(_, count)| **count > 0);
        let times = there.flat_map(|(row, count)| std::iter::repeat_n(row, *count as usize));
        let now: Vec<RowBytes> = times.take(limit).map(RowBytes::clone).collect();
        let before = std::mem::replace(&mut self.said, now);
        let now = &self.said;
        if rank {
            let ranked = |rows: &[RowBytes], at: usize| (RowBytes::clone(&rows[at]), at as u64 + 1);
            for at in 0..before.len().max(now.len()) {
                if before.get(at) == now.get(at) {
                    continue;
                }
                difference.gone.extend((at < before.len()).then(|| ranked(&before, at)));
                difference.come.extend((at < now.len()).then(|| ranked(now, at)));
            }
            return;
        }
        let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
        loop {
            let order = match (before.peek(), now.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(now)) => before.cmp(now),
            };
            let gone = before.next_if(|_| order != Ordering::Greater);
            let come = now.next_if(|_| order != Ordering::Less);
            if order != Ordering::Equal {
                difference.gone.extend(gone.map(|row| (RowBytes::clone(row), 1)));
                difference.come.extend(come.map(|row| (RowBytes::clone(row), 1)));
            }
        }
    }

    /// What the rows take.
    pub fn bytes(&self) -> usize {
        self.rows.keys().map(|row| bytes_of(row)).sum()
    }

    /// Rows and how often they are there.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.rows.iter().map(|(row, count)| (&**row, *count))
    }
}

fn bytes_of(row: &[u8]) -> usize {
    row.len() + ROW_OVERHEAD_BYTES + size_of::<(RowBytes, i64)>()
}
