//! The versions of each key, in order of their time.
//!
//! Invariant: of the versions at or before the watermark only the last one of a key can be found by a row to come. The
//! others are freed when a version of their key comes, and those of all keys whenever there are twice as many versions as
//! there were after the last time.

use super::bytes_of;
use crate::runtime::operators::encoding::RowBytes;
use crate::runtime::operators::partitions::{Partition, Partitions};
use crate::runtime::operators::stateful::Scope;
use crate::runtime::operators::touched::Selection;
use crate::state::hashes::Hashes;
use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use datafusion::error::Result;
use std::collections::HashMap;

/// Below this many, versions that nobody can find are not worth a walk over all keys.
const WORTH: usize = if cfg!(test) { 4 } else { 1024 };

#[derive(Debug, Default)]
struct OfKey {
    /// By time, and at one time by row.
    versions: Vec<(i64, RowBytes)>,
}

impl Partition for OfKey {
    fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}

impl OfKey {
    /// Frees what no row from the watermark on can find; gives how many versions and bytes that were.
    fn free(&mut self, watermark_us: i64) -> (usize, usize) {
        let passed = self.versions.partition_point(|(time, _)| *time <= watermark_us);
        let n_freed = passed.saturating_sub(1);
        let bytes = self.versions.drain(..n_freed).map(|(_, row)| bytes_of(&row)).sum();
        (n_freed, bytes)
    }
}

#[derive(Debug)]
pub struct Versions {
    keys: Partitions<OfKey>,
    n_versions: usize,
    /// What there were when those of all keys were freed.
    n_freed_to: usize,
    bytes: usize,
}

impl Versions {
    pub fn new(schema: &Schema, keys: &[usize]) -> Result<Self> {
        Ok(Self { keys: Partitions::new(schema, keys)?, n_versions: 0, n_freed_to: 0, bytes: 0 })
    }

    /// By row: its version, or none that counts.
    pub fn add(&mut self, keys: &[ArrayRef], versions: Vec<Option<(i64, RowBytes)>>, watermark_us: i64) -> Result<()> {
        let numbers = self.keys.number(keys, versions.len())?;
        for (number, version) in numbers.into_iter().zip(versions) {
            let Some(version) = version else { continue };
            self.n_versions += 1;
            self.bytes += bytes_of(&version.1);
            let of_key = self.keys.touch(number);
            // Mostly the last one.
            let place = of_key.versions.partition_point(|other| *other <= version);
            of_key.versions.insert(place, version);
            self.forget_of(number, watermark_us);
        }
        let dirty = self.keys.take_dirty();
        self.keys.settle(&dirty)
    }

    /// By row: which of the versions that are given is the last of its key at or before its time.
    pub fn valid_at(&mut self, keys: &[ArrayRef], times: &[i64]) -> Result<(Vec<RowBytes>, Vec<Option<u32>>)> {
        let numbers = self.keys.number(keys, times.len())?;
        let (mut given, mut known) = (Vec::new(), HashMap::new());
        let found = numbers.iter().zip(times).map(|(number, time)| {
            let versions = &self.keys.get(*number).versions;
            let place = versions.partition_point(|(other, _)| other <= time).checked_sub(1)?;
            Some(*known.entry((*number, place)).or_insert_with(|| {
                given.push(RowBytes::clone(&versions[place].1));
                given.len() as u32 - 1
            }))
        });
        let found = found.collect();
        // Keys without versions were numbered too.
        self.keys.settle(&[])?;
        Ok((given, found))
    }

    /// The watermark has come to there.
    pub fn passed(&mut self, watermark_us: i64) -> Result<()> {
        match self.n_versions > 2 * self.n_freed_to + WORTH || watermark_us == i64::MAX {
            true => self.free(watermark_us),
            false => Ok(()),
        }
    }

    /// Frees what no row to come can find.
    pub fn free(&mut self, watermark_us: i64) -> Result<()> {
        (0..self.keys.n_slots()).for_each(|number| self.forget_of(number, watermark_us));
        self.n_freed_to = self.n_versions;
        self.keys.settle(&[])
    }

    fn forget_of(&mut self, number: usize, watermark_us: i64) {
        let (n_freed, bytes) = self.keys.get_mut(number).free(watermark_us);
        self.n_versions -= n_freed;
        self.bytes -= bytes;
    }

    /// Forgets all versions of these keys, told by hash.
    pub fn forget(&mut self, keys: &Hashes) -> Result<()> {
        let (n_versions, bytes) = (&mut self.n_versions, &mut self.bytes);
        self.keys.forget(keys, |of_key| {
            *n_versions -= of_key.versions.len();
            *bytes -= of_key.versions.iter().map(|(_, row)| bytes_of(row)).sum::<usize>();
        })
    }

    /// Keys count as touched in the next snapshot, told by hash.
    pub fn note_touched(&mut self, hashes: impl IntoIterator<Item = u64>) {
        hashes.into_iter().for_each(|hash| self.keys.note_touched(hash));
    }

    /// What a snapshot of this scope selects; `n_others`: rows that are not held here.
    pub fn take_touched(&mut self, scope: Scope, n_others: usize) -> Option<Selection> {
        self.keys.take_touched(scope, n_others)
    }

    /// The versions are as files say.
    pub fn forget_touched(&mut self) {
        self.keys.forget_touched();
    }

    /// The versions of the selected keys.
    pub fn selected<'a>(&'a self, selection: Option<&'a Selection>) -> impl Iterator<Item = &'a RowBytes> {
        self.keys.selected(selection).flat_map(|of_key| of_key.versions.iter().map(|(_, row)| row))
    }

    pub fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.bytes
    }
}
