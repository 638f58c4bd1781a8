//! A set of key hashes.
//!
//! Invariant: the members are hashes already, good ones, so they are not hashed again.

use hashbrown::HashTable;

#[derive(Debug, Default)]
pub struct Hashes {
    table: HashTable<u64>,
}

impl Hashes {
    pub fn insert(&mut self, hash: u64) {
        if !self.contains(hash) {
            self.table.insert_unique(hash, hash, |hash| *hash);
        }
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.table.find(hash, |other| *other == hash).is_some()
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
