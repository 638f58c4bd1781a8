//! What a slice remembers of a table outside: by key the rows that were found, or that there were none.
//!
//! Invariant: no more rows than allowed, of which a key without rows counts as one; the key that was used longest ago
//! goes first. An answer that is too old is none.

use crate::dataflow::LookupCache;
use crate::runtime::operators::encoding::{ROW_OVERHEAD_BYTES, RowBytes};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

#[derive(Debug)]
pub struct Cache {
    limits: LookupCache,
    answers: HashMap<RowBytes, Answer>,
    /// Keys by when they were used last.
    used: BTreeMap<u64, RowBytes>,
    clock: u64,
    n_rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    rows: Vec<RowBytes>,
    since: Instant,
    used: u64,
}

impl Answer {
    fn n_rows(&self) -> usize {
        self.rows.len().max(1)
    }

    fn bytes(&self, key: &RowBytes) -> usize {
        let rows: usize = self.rows.iter().map(|row| row.len() + ROW_OVERHEAD_BYTES).sum();
        rows + key.len() + ROW_OVERHEAD_BYTES + 2 * size_of::<RowBytes>() + size_of::<Self>()
    }
}

impl Cache {
    pub fn new(limits: LookupCache) -> Self {
        Self { limits, answers: HashMap::new(), used: BTreeMap::new(), clock: 0, n_rows: 0, bytes: 0 }
    }

    pub fn get(&mut self, key: &RowBytes, now: Instant) -> Option<Vec<RowBytes>> {
        let answer = self.answers.get_mut(key)?;
        if now.saturating_duration_since(answer.since) >= self.limits.ttl {
            self.remove(&RowBytes::clone(key));
            return None;
        }
        self.used.remove(&answer.used);
        self.clock += 1;
        answer.used = self.clock;
        self.used.insert(self.clock, RowBytes::clone(key));
        Some(answer.rows.clone())
    }

    pub fn put(&mut self, key: &RowBytes, rows: Vec<RowBytes>, now: Instant) {
        self.remove(key);
        self.clock += 1;
        let answer = Answer { rows, since: now, used: self.clock };
        if answer.n_rows() > self.limits.max_rows {
            return;
        }
        self.n_rows += answer.n_rows();
        self.bytes += answer.bytes(key);
        self.answers.insert(RowBytes::clone(key), answer);
        self.used.insert(self.clock, RowBytes::clone(key));
        while self.n_rows > self.limits.max_rows
            && let Some((_, oldest)) = self.used.first_key_value()
        {
            self.remove(&RowBytes::clone(oldest));
        }
    }

    fn remove(&mut self, key: &RowBytes) {
        if let Some(answer) = self.answers.remove(key) {
            self.used.remove(&answer.used);
            self.n_rows -= answer.n_rows();
            self.bytes -= answer.bytes(key);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_key_used_longest_ago_goes_and_old_answers_are_none() {
        let limits = LookupCache { max_rows: 4, ttl: Duration::from_secs(10) };
        let mut cache = Cache::new(limits);
        let bytes = |text: &str| RowBytes::from(text.as_bytes());
        let begin = Instant::now();
        cache.put(&bytes("none"), Vec::new(), begin);
        cache.put(&bytes("two"), vec![bytes("1"), bytes("2")], begin);
        cache.put(&bytes("one"), vec![bytes("1")], begin);
        assert_eq!(cache.get(&bytes("none"), begin), Some(Vec::new()));
        cache.put(&bytes("new"), vec![bytes("3")], begin + Duration::from_secs(5));
        // Two rows went, of the key that was used longest ago, though one would have done.
        assert_eq!(cache.get(&bytes("two"), begin), None);
        assert_eq!(cache.get(&bytes("one"), begin), Some(vec![bytes("1")]));
        assert_eq!((cache.n_rows, cache.answers.len(), cache.used.len()), (3, 3, 3));
        let late = begin + Duration::from_secs(10);
        assert_eq!(cache.get(&bytes("one"), late), None);
        assert_eq!(cache.get(&bytes("new"), late), Some(vec![bytes("3")]));
        // An answer that would fill the cache alone is not kept, and drives nothing out.
        cache.put(&bytes("many"), vec![bytes("row"); 5], late);
        assert_eq!((cache.get(&bytes("many"), late), cache.answers.len()), (None, 2));
        cache.remove(&bytes("new"));
        cache.remove(&bytes("none"));
        assert_eq!((cache.n_rows, cache.memory_bytes(), cache.used.len()), (0, 0, 0));
    }
}
