//! The rows of one side that later rows can meet.
//!
//! Each row has a slot; the slots of a group form a list in both directions, so that a row goes without its group being
//! searched. Of a changelog equal rows share a slot and their weights are added up, so a slot's weight may be above one,
//! and below zero while a row was taken back that has not come yet; a slot goes when its weight is zero.
//!
//! Invariant: a group's list holds exactly the rows whose weight is not zero and whose time has not run out.

use super::arrival::Arrival;
use super::expiry::Expiry;
use super::rows::{NONE, Place, Rows};
use super::shape::Horizon;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

/// Fewer dead slots or groups than this are not worth a rebuild.
pub const DEAD_MIN: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Slot {
    place: Place,
    /// `NONE` where the slot is free.
    group: u32,
    next: u32,
    previous: u32,
}

impl Slot {
    const FREE: Self = Self { place: Place::NOWHERE, group: NONE, next: NONE, previous: NONE };
}

/// What a side keeps of its rows.
#[derive(Clone, Debug)]
pub struct Layout {
    /// 0 is left, 1 is right.
    pub side: usize,
    /// Without the weight.
    pub types: Vec<DataType>,
    pub changes: bool,
    pub counted: bool,
    pub horizon: Option<Horizon>,
}

#[derive(Debug)]
pub struct Store {
    layout: Layout,
    rows: Rows,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By group: its first slot.
    heads: Vec<u32>,
    /// By slot; empty unless the side is a changelog.
    weights: Vec<i64>,
    /// By slot: the sum of the weights of its matches. Empty unless they are counted.
    matches: Vec<i64>,
    /// By slot; empty without bounds.
    times: Vec<i64>,
    index: Option<Index>,
    expiry: Option<Expiry>,
}

impl Store {
    pub fn new(layout: Layout) -> Result<Self> {
        let index = if layout.changes { Some(Index::new(&layout.types)?) } else { None };
        Ok(Self {
            rows: Rows::new(layout.types.len()),
            slots: Vec::new(),
            free: Vec::new(),
            heads: Vec::new(),
            weights: Vec::new(),
            matches: Vec::new(),
            times: Vec::new(),
            index,
            expiry: layout.horizon.is_some().then(Expiry::default),
            layout,
        })
    }

    /// As if no row had come yet.
    pub fn fresh(&self) -> Result<Self> {
        Self::new(self.layout.clone())
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn n_columns(&self) -> usize {
        self.layout.types.len()
    }

    /// Rows that are kept; equal rows of a changelog count as one.
    pub fn n_rows(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// There are so many groups now.
    pub fn grow(&mut self, n_groups: usize) {
        if n_groups > self.heads.len() {
            self.heads.resize(n_groups, NONE);
        }
    }

    pub fn first(&self, group: usize) -> u32 {
        self.heads[group]
    }

    pub fn next(&self, slot: u32) -> u32 {
        self.slots[slot as usize].next
    }

    pub fn weight(&self, slot: u32) -> i64 {
        if self.layout.changes { self.weights[slot as usize] } else { 1 }
    }

    pub fn matches(&self, slot: u32) -> i64 {
        if self.layout.counted { self.matches[slot as usize] } else { 0 }
    }

    pub fn time_us(&self, slot: u32) -> i64 {
        self.times[slot as usize]
    }

    /// Whether the row now has matches and had none, or the other way round.
    pub fn add_matches(&mut self, slot: u32, weight: i64) -> bool {
        let matches = &mut self.matches[slot as usize];
        let before = *matches;
        *matches += weight;
        (before > 0) != (*matches > 0)
    }

    pub fn gather(&self, slots: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        self.rows.gather(slots.iter().map(|slot| self.slots[*slot as usize].place), columns)
    }

    /// Keeps these rows of a batch, or adds their weights to those of equal rows.
    pub fn insert(&mut self, arrival: &Arrival, rows: Vec<u32>) -> Result<()> {
        if self.slots.len() + rows.len() >= NONE as usize {
            return Err(DataFusionError::ResourcesExhausted("a join keeps more than 2^32 rows on one slice".into()));
        }
        let (rows, slots) = match self.layout.changes {
            false => {
                let slots = rows.iter().map(|row| self.link(arrival, *row as usize)).collect();
                (rows, slots)
            }
            true => self.add_weights(arrival, &rows)?,
        };
        if rows.is_empty() {
            return Ok(());
        }
        let places: Vec<usize> = slots.iter().map(|slot: &u32| *slot as usize).collect();
        let chunk = self.rows.append(&arrival.columns, &rows, slots)?;
        for (row, slot) in places.into_iter().enumerate() {
            self.slots[slot].place = Place { chunk, row: row as u32 };
        }
        Ok(())
    }

    pub fn remove(&mut self, slot: u32) {
        let Slot { place, group, next, previous } = std::mem::replace(&mut self.slots[slot as usize], Slot::FREE);
        match previous {
            NONE => self.heads[group as usize] = next,
            previous => self.slots[previous as usize].next = next,
        }
        if next != NONE {
            self.slots[next as usize].previous = previous;
        }
        if place != Place::NOWHERE {
            self.rows.remove(place);
        }
        if let Some(index) = &mut self.index {
            index.remove(slot);
        }
        self.free.push(slot);
    }

    /// The slots that the watermark has passed the deadline of. They are to be removed.
    pub fn expired(&mut self, watermark_us: i64) -> Vec<u32> {
        let (Some(horizon), Some(expiry)) = (&self.layout.horizon, &mut self.expiry) else { return Vec::new() };
        let (slots, times, side) = (&self.slots, &self.times, self.layout.side);
        expiry.take(watermark_us, |slot| {
            let slot = slot as usize;
            (slots[slot].group != NONE).then(|| horizon.deadline_us(side, times[slot]))
        })
    }

    /// No watermark before this one lets a row go.
    pub fn next_expiry(&self) -> Option<i64> {
        self.expiry.as_ref().and_then(Expiry::next_us)
    }

    /// Puts in order what many removals and small batches leave behind.
    pub fn tidy(&mut self) -> Result<()> {
        let slots = &mut self.slots;
        self.rows.tidy(|slot, place| slots[slot as usize].place = place)?;
        if self.free.len() > self.n_rows() + DEAD_MIN {
            self.renumber();
        }
        let n_rows = self.n_rows();
        if let (Some(horizon), Some(expiry)) = (&self.layout.horizon, &mut self.expiry)
            && expiry.n_entries() > 2 * n_rows + DEAD_MIN
        {
            *expiry = Expiry::default();
            for (slot, _) in self.slots.iter().enumerate().filter(|(_, slot)| slot.group != NONE) {
                expiry.insert(horizon.deadline_us(self.layout.side, self.times[slot]), slot as u32);
            }
        }
        Ok(())
    }

    /// One slot of each group that has any, and the group.
    pub fn representatives(&self) -> impl Iterator<Item = (u32, usize)> {
        self.heads.iter().enumerate().filter(|(_, slot)| **slot != NONE).map(|(group, slot)| (*slot, group))
    }

    /// The groups have new numbers: by the old one; `NONE` for those without rows on either side.
    pub fn regroup(&mut self, numbers: &[u32], n_groups: usize) {
        let mut heads = vec![NONE; n_groups];
        for (slot, group) in self.representatives() {
            heads[numbers[group] as usize] = slot;
        }
        self.heads = heads;
        for slot in self.slots.iter_mut().filter(|slot| slot.group != NONE) {
            slot.group = numbers[slot.group as usize];
        }
    }

    /// The columns of the kept rows, part by part, and their slots, `NONE` where a row went.
    pub fn parts(&self) -> impl Iterator<Item = (&[ArrayRef], &[u32])> {
        self.rows.chunks()
    }

    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
            + self.slots.capacity() * size_of::<Slot>()
            + (self.free.capacity() + self.heads.capacity()) * size_of::<u32>()
            + (self.weights.capacity() + self.matches.capacity() + self.times.capacity()) * size_of::<i64>()
            + self.index.as_ref().map_or(0, Index::memory_bytes)
            + self.expiry.as_ref().map_or(0, Expiry::memory_bytes)
    }

    /// A new slot, at the head of its group's list. Its row has no place yet.
    fn link(&mut self, arrival: &Arrival, row: usize) -> u32 {
        let group = arrival.groups[row];
        let next = self.heads[group];
        let taken = Slot { place: Place::NOWHERE, group: group as u32, next, previous: NONE };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = taken;
                slot
            }
            None => {
                self.slots.push(taken);
                (self.slots.len() - 1) as u32
            }
        };
        self.heads[group] = slot;
        if next != NONE {
            self.slots[next as usize].previous = slot;
        }
        let at = slot as usize;
        if self.layout.changes {
            set(&mut self.weights, at, arrival.weight(row));
        }
        if self.layout.counted {
            set(&mut self.matches, at, arrival.matches(row));
        }
        if let (Some(horizon), Some(expiry)) = (&self.layout.horizon, &mut self.expiry) {
            set(&mut self.times, at, arrival.times[row]);
            expiry.insert(horizon.deadline_us(self.layout.side, arrival.times[row]), slot);
        }
        slot
    }

    /// Adds the weights of rows to those of equal rows. Returns rows that were not there yet, and their slots.
    fn add_weights(&mut self, arrival: &Arrival, rows: &[u32]) -> Result<(Vec<u32>, Vec<u32>)> {
        let Some(index) = &self.index else { return Ok((Vec::new(), Vec::new())) };
        let hashes = index.hash(arrival)?;
        let (mut new, mut zero) = (Vec::new(), Vec::new());
        for row in rows.iter().map(|row| *row as usize) {
            let found = self.index.as_ref().and_then(|index| index.find(hashes[row]));
            match found {
                Some(slot) => {
                    let weight = &mut self.weights[slot as usize];
                    *weight += arrival.weight(row);
                    if *weight == 0 {
                        zero.push(slot);
                    }
                }
                None => {
                    let slot = self.link(arrival, row);
                    if let Some(index) = &mut self.index {
                        index.insert(hashes[row], slot);
                    }
                    new.push((row as u32, slot));
                }
            }
        }
        // Only now, because a row may have come back within the batch; and it may be named more than once.
        for slot in zero {
            if self.is_taken(slot) && self.weights[slot as usize] == 0 {
                self.remove(slot);
            }
        }
        Ok(new.into_iter().filter(|(_, slot)| self.is_taken(*slot)).unzip())
    }

    fn is_taken(&self, slot: u32) -> bool {
        self.slots[slot as usize].group != NONE
    }

    /// Gives the taken slots the lowest numbers, in the order in which they are.
    fn renumber(&mut self) {
        let mut numbers = vec![NONE; self.slots.len()];
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.group != NONE);
        let taken: Vec<usize> = taken.map(|(slot, _)| slot).collect();
        for (number, slot) in taken.iter().enumerate() {
            numbers[*slot] = number as u32;
        }
        let number_of = |slot: u32| if slot == NONE { NONE } else { numbers[slot as usize] };
        let moved = |slot: &usize| {
            let slot = self.slots[*slot];
            Slot { next: number_of(slot.next), previous: number_of(slot.previous), ..slot }
        };
        self.slots = taken.iter().map(moved).collect();
        for values in [&mut self.weights, &mut self.matches, &mut self.times] {
            if !values.is_empty() {
                *values = taken.iter().map(|slot| values[*slot]).collect();
            }
        }
        for (number, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.previous == NONE) {
            self.heads[slot.group as usize] = number as u32;
        }
        self.free = Vec::new();
        self.rows.renumber(&numbers);
        if let Some(index) = &mut self.index {
            index.renumber(&taken);
        }
        if let (Some(horizon), Some(expiry)) = (&self.layout.horizon, &mut self.expiry) {
            *expiry = Expiry::default();
            for (slot, time_us) in self.times.iter().enumerate() {
                expiry.insert(horizon.deadline_us(self.layout.side, *time_us), slot as u32);
            }
        }
    }
}

fn set(values: &mut Vec<i64>, at: usize, value: i64) {
    if at == values.len() {
        values.push(value);
    } else {
        values[at] = value;
    }
}

/// Finds a row of a changelog by all of its columns. 128 bits stand for the row: among a billion rows, chances that any
/// two differ and hash alike are one in 10^20.
#[derive(Debug)]
struct Index {
    converter: RowConverter,
    /// By slot.
    hashes: Vec<u128>,
    slots: HashTable<u32>,
}

impl Index {
    fn new(types: &[DataType]) -> Result<Self> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)?, hashes: Vec::new(), slots: HashTable::new() })
    }

    fn hash(&self, arrival: &Arrival) -> Result<Vec<u128>> {
        if arrival.columns.is_empty() {
            return Ok(vec![0; arrival.n_rows]);
        }
        let rows = self.converter.convert_columns(&arrival.columns)?;
        Ok(rows.iter().map(|row| xxh3_128(row.data())).collect())
    }

    fn find(&self, hash: u128) -> Option<u32> {
        self.slots.find(hash as u64, |slot| self.hashes[*slot as usize] == hash).copied()
    }

    fn insert(&mut self, hash: u128, slot: u32) {
        let at = slot as usize;
        if at == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[at] = hash;
        }
        let hashes = &self.hashes;
        self.slots.insert_unique(hash as u64, slot, |slot| hashes[*slot as usize] as u64);
    }

    fn remove(&mut self, slot: u32) {
        let hash = self.hashes[slot as usize] as u64;
        if let Ok(entry) = self.slots.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    /// `taken`: the old numbers of the slots, by their new ones.
    fn renumber(&mut self, taken: &[usize]) {
        self.hashes = taken.iter().map(|slot| self.hashes[*slot]).collect();
        let hashes = &self.hashes;
        self.slots = HashTable::with_capacity(hashes.len());
        for (slot, hash) in hashes.iter().enumerate() {
            self.slots.insert_unique(*hash as u64, slot as u32, |slot| hashes[*slot as usize] as u64);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.converter.size() + self.hashes.capacity() * size_of::<u128>() + self.slots.allocation_size()
    }
}
