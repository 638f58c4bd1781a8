//! When each key was touched last, and which keys are next to be forgotten.
//!
//! Keys lie in buckets by the moment at which they are forgotten. A key that is touched again goes to another bucket and
//! is left in the earlier one, where it is passed over: moments are rounded, so there are few buckets.
//!
//! Invariant: every key with a moment is in the bucket of that moment. One that was touched since the last watermark and
//! whose rows have no event time is *open*, until the next watermark gives it its moment.

use super::rounded_us;
use crate::state::hashes::Hashes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::BTreeMap;

/// The rows of a key from a state that did not count them: more than can be taken back.
pub const ROWS_UNKNOWN: i64 = i64::MAX / 4;

/// With fewer changed keys than this nothing is saved by giving all.
const FEW: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Rounded, unless the key is open.
    pub touched_us: i64,
    pub is_open: bool,
    /// By weight, where they are counted.
    pub rows: i64,
}

#[derive(Debug)]
struct Known {
    hash: u64,
    life: Life,
    /// Whether the bucket of `touched_us` has it, and the last snapshot no other moment.
    is_filed: bool,
}

#[derive(Debug)]
pub struct Lives {
    ttl_us: i64,
    table: HashTable<Known>,
    open: Vec<u64>,
    /// By the moment from which on they are forgotten.
    due: BTreeMap<i64, Vec<u64>>,
    n_filed: usize,
    /// Whose moment has changed since the last snapshot, also those that were forgotten.
    changed: Hashes,
    /// There were too many of them.
    all_changed: bool,
}

impl Lives {
    pub fn new(ttl_us: i64) -> Self {
        Self {
            ttl_us,
            table: HashTable::new(),
            open: Vec::new(),
            due: BTreeMap::new(),
            n_filed: 0,
            changed: Hashes::default(),
            all_changed: false,
        }
    }

    /// A row of this key comes at `time_us`, or without a time. With a `weight` below zero the key must have as many rows:
    /// gives whether it has, and does nothing if not.
    pub fn touch(&mut self, hash: u64, time_us: Option<i64>, weight: i64) -> bool {
        let ttl_us = self.ttl_us;
        let mut found = match self.table.entry(place(hash), |known| known.hash == hash, |known| place(known.hash)) {
            Entry::Occupied(found) => found,
            Entry::Vacant(_) if weight < 0 => return false,
            Entry::Vacant(free) => {
                let life = Life { touched_us: i64::MIN, is_open: false, rows: 0 };
                free.insert(Known { hash, life, is_filed: false })
            }
        };
        let Known { life, is_filed, .. } = found.get_mut();
        if life.rows + weight < 0 {
            return false;
        }
        life.rows += weight;
        match time_us {
            // An open one gets its moment with the next watermark.
            Some(time_us) if life.is_open && time_us > life.touched_us => {
                (life.touched_us, *is_filed) = (time_us, false);
            }
            Some(_) if life.is_open => {}
            Some(time_us) => {
                let touched_us = rounded_us(time_us, ttl_us);
                if touched_us > life.touched_us {
                    life.touched_us = touched_us;
                    *is_filed = true;
                    self.file(hash, touched_us);
                }
            }
            None if !life.is_open => {
                life.is_open = true;
                self.open.push(hash);
            }
            None => {}
        }
        true
    }

    fn file(&mut self, hash: u64, touched_us: i64) {
        self.due.entry(touched_us.saturating_add(self.ttl_us)).or_default().push(hash);
        self.n_filed += 1;
        self.note(hash);
    }

    fn note(&mut self, hash: u64) {
        if self.all_changed {
            return;
        }
        self.changed.insert(hash);
        if self.changed.len() > 2 * self.table.len() + FEW {
            (self.changed, self.all_changed) = (Hashes::default(), true);
        }
    }

    /// Gives open keys their moment.
    pub fn date(&mut self, watermark_us: i64) {
        for hash in std::mem::take(&mut self.open) {
            let Some(known) = self.table.find_mut(place(hash), |known| known.hash == hash) else { continue };
            let touched_us = rounded_us(known.life.touched_us.max(watermark_us), self.ttl_us);
            let is_as_before = known.is_filed && known.life.touched_us == touched_us;
            known.life = Life { touched_us, is_open: false, ..known.life };
            known.is_filed = true;
            if !is_as_before {
                self.file(hash, touched_us);
            }
        }
    }

    /// The keys that are to be forgotten; they are not here any more.
    pub fn take_expired(&mut self, watermark_us: i64) -> Hashes {
        let mut expired = Hashes::default();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= watermark_us
        {
            let (until_us, hashes) = entry.remove_entry();
            self.n_filed -= hashes.len();
            for hash in hashes {
                let Ok(found) = self.table.find_entry(place(hash), |known| known.hash == hash) else { continue };
                let Life { touched_us, is_open, .. } = found.get().life;
                if !is_open && touched_us.saturating_add(self.ttl_us) == until_us {
                    found.remove();
                    expired.insert(hash);
                    self.note(hash);
                }
            }
        }
        if self.table.capacity() > FEW && self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to_fit(|known| place(known.hash));
        }
        expired
    }

    /// No watermark before this one lets half of the keys go. Where some are open the next one gives them their moment, and
    /// no later one would do.
    pub fn due_us(&self) -> Option<i64> {
        if !self.open.is_empty() {
            return Some(i64::MIN);
        }
        let mut n_gone = 0;
        let half = |(_, hashes): &(&i64, &Vec<u64>)| {
            n_gone += hashes.len();
            2 * n_gone >= self.n_filed
        };
        self.due.iter().find(half).map(|(until_us, _)| *until_us)
    }

    /// The keys whose lives have changed since the last snapshot, open ones among them; nothing where all are to be given.
    pub fn take_changed(&mut self) -> Option<Vec<u64>> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.extend(self.open.iter().copied());
        let changed = changed.into_sorted();
        (!std::mem::take(&mut self.all_changed)).then_some(changed)
    }

    /// What is open now was written so, and is to be written again once it has its moment.
    pub fn saved(&mut self) {
        for hash in &self.open {
            if let Some(known) = self.table.find_mut(place(*hash), |known| known.hash == *hash) {
                known.is_filed = false;
            }
        }
    }

    pub fn get(&self, hash: u64) -> Option<Life> {
        self.table.find(place(hash), |known| known.hash == hash).map(|known| known.life)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, Life)> {
        self.table.iter().map(|known| (known.hash, known.life))
    }

    /// Takes a life from a snapshot back.
    pub fn restore(&mut self, hash: u64, life: Life) {
        match life.is_open {
            true => self.open.push(hash),
            false => {
                self.due.entry(life.touched_us.saturating_add(self.ttl_us)).or_default().push(hash);
                self.n_filed += 1;
            }
        }
        let known = Known { hash, life, is_filed: !life.is_open };
        self.table.insert_unique(place(hash), known, |known| place(known.hash));
    }

    /// A key that a snapshot has something of, perhaps without a life.
    pub fn restore_unknown(&mut self, hash: u64) {
        if self.get(hash).is_none() {
            self.restore(hash, Life { touched_us: i64::MIN, is_open: true, rows: ROWS_UNKNOWN });
            self.note(hash);
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let filed: usize = self.due.values().map(|hashes| hashes.capacity()).sum();
        self.table.allocation_size()
            + (filed + self.open.capacity()) * size_of::<u64>()
            + self.changed.len() * 2 * size_of::<u64>()
    }
}

/// The highest bits of a key's hash say which slice owns it and the lowest ones which page, so others tell keys apart.
fn place(hash: u64) -> u64 {
    hash.rotate_right(20)
}
