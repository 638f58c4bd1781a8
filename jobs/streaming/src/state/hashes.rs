//! A set of key hashes.
//!
//! Most of those that are asked for are no members: all keys of a state against the few that were touched. So a small
//! bitmap that fits a processor's cache is asked first; two bits of one word tell nearly all of them.
//!
//! Invariant: the members are hashes already, good ones, so they are not hashed again.

use hashbrown::HashTable;

/// Bits of the bitmap for each member, at least.
const BITS_EACH: usize = 32;

#[derive(Debug, Default)]
pub struct Hashes {
    table: HashTable<u64>,
    /// A power of two of words, or none; the bits of every member are set.
    bits: Vec<u64>,
}

impl Hashes {
    pub fn insert(&mut self, hash: u64) {
        if self.contains(hash) {
            return;
        }
        self.table.insert_unique(within(hash), hash, |hash| within(*hash));
        if !self.widen(self.table.len(), 2) {
            self.mark(hash);
        }
    }

    /// Makes room for so many more.
    fn reserve(&mut self, n_more: usize) {
        if n_more > 0 {
            self.table.reserve(n_more, |hash| within(*hash));
            self.widen(self.table.len() + n_more, 1);
        }
    }

    /// A wider bitmap, so many times as wide as it must be, if this one is too narrow for so many members.
    fn widen(&mut self, n_members: usize, times: usize) -> bool {
        let n_words = (n_members * BITS_EACH).div_ceil(64).next_power_of_two();
        let is_narrow = n_words > self.bits.len();
        if is_narrow {
            self.bits = vec![0; times * n_words];
            let members: Vec<u64> = self.table.iter().copied().collect();
            members.into_iter().for_each(|hash| self.mark(hash));
        }
        is_narrow
    }

    pub fn contains(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.bits.get(word).is_some_and(|word| word & bits == bits) && self.holds(hash)
    }

    /// The places of members among these.
    pub fn members_among(&self, hashes: &[u64]) -> Vec<usize> {
        let mut found = Vec::with_capacity(self.len());
        if self.bits.is_empty() {
            return found;
        }
        for (at, block) in hashes.chunks(64).enumerate() {
            // Without a branch for each, which the processor would guess wrong for every member.
            let maybe = block.iter().enumerate().fold(0_u64, |maybe, (at, hash)| {
                let (word, bits) = self.place(*hash);
                maybe | u64::from(self.bits[word] & bits == bits) << at
            });
            let mut left = maybe;
            while left != 0 {
                let place = left.trailing_zeros() as usize;
                left &= left - 1;
                if self.holds(block[place]) {
                    found.push(64 * at + place);
                }
            }
        }
        found
    }

    fn holds(&self, hash: u64) -> bool {
        self.table.find(within(hash), |other| *other == hash).is_some()
    }

    fn mark(&mut self, hash: u64) {
        let (word, bits) = self.place(hash);
        self.bits[word] |= bits;
    }

    /// See [`within`] for why the bits are these.
    fn place(&self, hash: u64) -> (usize, u64) {
        let word = (hash >> 28) as usize & self.bits.len().saturating_sub(1);
        (word, 1 << ((hash >> 16) & 63) | 1 << ((hash >> 22) & 63))
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

/// What a table makes its own hash of. It looks at the highest and at the lowest bits; but the highest ones say which slice
/// owns a hash and the lowest ones which page, so that others tell the members of one set apart.
fn within(hash: u64) -> u64 {
    hash.rotate_left(32)
}

impl Extend<u64> for Hashes {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, hashes: I) {
        let hashes = hashes.into_iter();
        self.reserve(hashes.size_hint().0);
        hashes.for_each(|hash| self.insert(hash));
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
        let all: Vec<u64> = (4_900..5_100).map(hash).collect();
        assert_eq!(hashes.members_among(&all), (0..100).collect::<Vec<usize>>());
        assert_eq!(Hashes::default().members_among(&all), [0_usize; 0]);
        // Asked for with room made before, one by one, and all at once: the same.
        let at_once: Hashes = (0..5_000).map(hash).collect();
        assert_eq!(at_once.members_among(&all), hashes.members_among(&all));
        assert!((0..5_000).all(|number| hashes.contains(hash(number))));
        assert_eq!(hashes.into_sorted(), expected.into_iter().collect::<Vec<u64>>());
    }
}
