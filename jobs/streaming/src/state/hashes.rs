//! A set of key hashes.
//!
//! Most of those that are asked for are no members: all keys of a state against the few that were touched. So a small
//! bitmap that fits a processor's cache is asked first.
//!
//! Invariant: the members are hashes already, good ones, so they are not hashed again.

use hashbrown::HashTable;

/// Bits of the bitmap for each member, at least.
const BITS_EACH: usize = 16;

#[derive(Debug, Default)]
pub struct Hashes {
    table: HashTable<u64>,
    /// A power of two of words, or none; the bit of every member is set.
    bits: Vec<u64>,
}

impl Hashes {
    pub fn insert(&mut self, hash: u64) {
        if self.contains(hash) {
            return;
        }
        self.table.insert_unique(hash, hash, |hash| *hash);
        let n_words = (self.table.len() * BITS_EACH).div_ceil(64).next_power_of_two();
        if n_words > self.bits.len() {
            self.bits = vec![0; 2 * n_words];
            let members: Vec<u64> = self.table.iter().copied().collect();
            members.into_iter().for_each(|hash| self.mark(hash));
        } else {
            self.mark(hash);
        }
    }

    pub fn contains(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
            && self.table.find(hash, |other| *other == hash).is_some()
    }

    fn mark(&mut self, hash: u64) {
        let (word, bit) = self.place(hash);
        self.bits[word] |= bit;
    }

    /// The highest bits say which slice owns a hash and the lowest ones which page, so others tell members apart.
    fn place(&self, hash: u64) -> (usize, u64) {
        let middle = (hash >> 16) as usize;
        ((middle >> 6) & self.bits.len().saturating_sub(1), 1 << (middle & 63))
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn into_sorted(self) -> Vec<u64> {
        let mut hashes: Vec<u64> = self.table.into_iter().collect();
        hashes.sort_unstable();
        hashes
    }
}

impl Extend<u64> for Hashes {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, hashes: I) {
        hashes.into_iter().for_each(|hash| self.insert(hash));
    }
}

impl FromIterator<u64> for Hashes {
    fn from_iter<I: IntoIterator<Item = u64>>(hashes: I) -> Self {
        let mut this = Self::default();
        this.extend(hashes);
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let hash = |number: u64| xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes());
        let mut expected = BTreeSet::new();
        let mut hashes = Hashes::default();
        assert!(!hashes.contains(hash(0)) && hashes.is_empty());
        for number in (0..5_000).chain(0..100) {
            hashes.insert(hash(number));
            expected.insert(hash(number));
            assert!(hashes.contains(hash(number)) && !hashes.contains(hash(number + 5_000)));
        }
        assert_eq!(hashes.len(), expected.len());
        assert!((0..5_000).all(|number| hashes.contains(hash(number))));
        assert_eq!(hashes.into_sorted(), expected.into_iter().collect::<Vec<u64>>());
    }
}
