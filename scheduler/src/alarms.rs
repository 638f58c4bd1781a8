//! Things to be done at a time.
//!
//! Invariant: one time for each key; setting it again replaces it, so nothing stale ever fires and memory is bounded
//! by the number of keys.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct Alarms<K> {
    at: BTreeMap<K, u64>,
    order: BTreeSet<(u64, K)>,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Alarms<K> {
    pub fn set(&mut self, key: K, at_ms: u64) {
        if let Some(before) = self.at.insert(key.clone(), at_ms) {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at_ms, key));
    }

    pub fn cancel(&mut self, key: &K) {
        if let Some(at_ms) = self.at.remove(key) {
            self.order.remove(&(at_ms, key.clone()));
        }
    }

    pub fn is_set(&self, key: &K) -> bool {
        self.at.contains_key(key)
    }

    /// Takes the earliest that is due.
    pub fn due(&mut self, now_ms: u64) -> Option<K> {
        if self.next()? > now_ms {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }

    pub fn next(&self) -> Option<u64> {
        self.order.first().map(|(at_ms, _)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_counts() {
        let mut alarms = Alarms::default();
        alarms.set("a", 5);
        alarms.set("b", 6);
        alarms.set("a", 9);
        assert_eq!((alarms.due(5), alarms.next()), (None, Some(6)));
        assert_eq!((alarms.due(9), alarms.due(9), alarms.due(9)), (Some("b"), Some("a"), None));
        alarms.set("c", 1);
        alarms.cancel(&"c");
        assert_eq!((alarms.next(), alarms.due(9)), (None, None));
    }
}
