//! Which rows no later row can meet any more.
//!
//! Slots lie in buckets by deadline. A bucket is fine enough that going through the one that the watermark stands in,
//! at every watermark, costs little, and coarse enough that there are far fewer buckets than rows.
//!
//! Invariant: an entry may be stale, because its row was taken back and its slot may even be another row's by now; so
//! what counts is the deadline that the slot has when its bucket is due. Stale entries go with their bucket.

use std::collections::BTreeMap;

/// 2^16 µs: 65 ms of event time.
const BUCKET_BITS: u32 = 16;

#[derive(Debug, Default)]
pub struct Expiry {
    buckets: BTreeMap<i64, Vec<u32>>,
    n_entries: usize,
}

impl Expiry {
    pub fn insert(&mut self, deadline_us: i64, slot: u32) {
        self.buckets.entry(deadline_us >> BUCKET_BITS).or_default().push(slot);
        self.n_entries += 1;
    }

    /// Takes out the slots whose deadline the watermark has passed, in order of their numbers. `deadline_us`: that of a
    /// slot, if it has a row.
    pub fn take(&mut self, watermark_us: i64, deadline_us: impl Fn(u32) -> Option<i64>) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some(mut entry) = self.buckets.first_entry() {
            let bucket = *entry.key();
            if bucket > watermark_us >> BUCKET_BITS {
                break;
            }
            let slots = entry.get_mut();
            let n_before = slots.len();
            slots.retain(|slot| match deadline_us(*slot) {
                Some(deadline_us) if deadline_us >> BUCKET_BITS != bucket => false,
                // At the end of the input everything goes, also what would be kept for ever.
                Some(deadline_us) if deadline_us < watermark_us || watermark_us == i64::MAX => {
                    due.push(*slot);
                    false
                }
                Some(_) => true,
                None => false,
            });
            self.n_entries -= n_before - slots.len();
            if !slots.is_empty() {
                break;
            }
            entry.remove();
        }
        // A slot that was given to another row within one bucket stands there twice.
        due.sort_unstable();
        due.dedup();
        due
    }

    /// No watermark before this one takes anything out.
    pub fn next_us(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(bucket, _)| *bucket << BUCKET_BITS)
    }

    /// No watermark before this one takes half of the entries out.
    pub fn half_us(&self) -> Option<i64> {
        let mut n_due = 0;
        let half = |(_, slots): &(&i64, &Vec<u32>)| {
            n_due += slots.len();
            2 * n_due >= self.n_entries
        };
        self.buckets.iter().find(half).map(|(bucket, _)| *bucket << BUCKET_BITS)
    }

    pub fn n_entries(&self) -> usize {
        self.n_entries
    }

    pub fn memory_bytes(&self) -> usize {
        // A node of the tree holds up to eleven entries and is about two thirds full.
        let entry = size_of::<(i64, Vec<u32>)>() * 3 / 2;
        self.buckets.values().map(|slots| entry + slots.capacity() * size_of::<u32>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_is_due_once() {
        let mut expiry = Expiry::default();
        let mut deadlines = BTreeMap::from([(0, 5_i64), (1, 70_000), (2, 70_001), (3, i64::MAX), (4, -1)]);
        for (slot, deadline_us) in &deadlines {
            expiry.insert(*deadline_us, *slot);
        }
        // Row 4 was taken back, its slot given to another one, twice.
        for deadline_us in [70_002, 70_003] {
            deadlines.insert(4, deadline_us);
            expiry.insert(deadline_us, 4);
        }
        let mut take = |watermark_us| expiry.take(watermark_us, |slot| deadlines.get(&slot).copied());
        assert_eq!(take(5), [] as [u32; 0]);
        assert_eq!(take(6), [0]);
        assert_eq!(take(70_001), [1]);
        assert_eq!(take(80_000), [2, 4]);
        assert_eq!(take(i64::MAX - 1), [] as [u32; 0]);
        assert_eq!(take(i64::MAX), [3]);
        assert_eq!((expiry.n_entries(), expiry.memory_bytes()), (0, 0));
    }
}
