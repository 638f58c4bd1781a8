//! The hashes that several keys have.
//!
//! Of ten million keys two have the same 64 bits once in hundreds of thousands of runs; it must be known all the same.
//!
//! Invariant: after [`Twins::look_at`] all of them are known. Keys are numbered from zero on; the next ones come behind.

use crate::state::hashes::Hashes;

/// When more than this share of all keys are new, all are sorted.
const MANY: usize = 16;

#[derive(Debug, Default)]
pub struct Twins {
    /// Keys whose hashes were compared with all others.
    n_seen: usize,
    /// Rising.
    hashes: Vec<u64>,
}

impl Twins {
    /// Compares the hashes of new keys with those of all; `hashes` by number.
    pub fn look_at(&mut self, hashes: &[u64]) {
        if hashes.len() < self.n_seen {
            *self = Self::default();
        }
        let new = &hashes[self.n_seen..];
        if new.is_empty() {
            return;
        }
        if new.len() > hashes.len() / MANY {
            self.hashes = repeated(hashes.to_vec());
        } else {
            let found: Hashes = new.iter().copied().collect();
            let found = found.members_among(hashes);
            // Each finds itself.
            if found.len() > new.len() {
                let found = repeated(found.into_iter().map(|number| hashes[number]).collect());
                self.hashes.extend(found);
                self.hashes.sort_unstable();
                self.hashes.dedup();
            }
        }
        self.n_seen = hashes.len();
    }

    pub fn any_among(&self, hashes: &Hashes) -> bool {
        self.hashes.iter().any(|hash| hashes.contains(*hash))
    }

    pub fn memory_bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>()
    }
}

/// Each hash that is there more than once, once.
fn repeated(mut hashes: Vec<u64>) -> Vec<u64> {
    hashes.sort_unstable();
    let mut repeated: Vec<u64> = hashes.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
    repeated.dedup();
    repeated
}
