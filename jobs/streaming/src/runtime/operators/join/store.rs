//! The rows of one side that later rows can meet.
//!
//! Each row has a slot; the slots of a group form a list in both directions, so that a row goes without its group being
//! searched. Of a changelog equal rows share a slot and their weights are added up, so a slot's weight may be above one,
//! and below zero while a row was taken back that has not come yet; a slot goes when its weight is zero.
//!
//! Invariant: a group's list holds exactly the rows whose weight is not zero and whose time has not run out.

use super::arrival::Arrival;
use super::expiry::Expiry;
use super::index::Index;
use super::lifetime::{UNDATED, until_us};
use super::rows::{NONE, Place, Rows};
use super::shape::Horizon;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};

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
    /// How long a row is kept after it came, where there is no horizon.
    pub ttl_us: Option<i64>,
}

impl Layout {
    /// Whether rows go with event time.
    pub fn expires(&self) -> bool {
        self.horizon.is_some() || self.ttl_us.is_some()
    }

    /// Once the watermark has passed this, a row of this time goes.
    pub fn deadline_us(&self, time_us: i64) -> i64 {
        match &self.horizon {
            Some(horizon) => horizon.deadline_us(self.side, time_us),
            // It goes as soon as its moment has come.
            None => time_us.saturating_sub(1),
        }
    }
}

/// A row that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub weight: i64,
    /// The sum of the weights of its matches, where they are counted.
    pub matches: i64,
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
    /// By slot, see [`Arrival::times`]; empty where nothing expires.
    times: Vec<i64>,
    /// Slots that may have no moment yet; others may be among them.
    undated: Vec<u32>,
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
            undated: Vec::new(),
            index,
            expiry: layout.expires().then(Expiry::default),
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

    pub fn group(&self, slot: u32) -> usize {
        self.slots[slot as usize].group as usize
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
        let Some(expiry) = &mut self.expiry else { return Vec::new() };
        let (slots, times, layout) = (&self.slots, &self.times, &self.layout);
        expiry.take(watermark_us, |slot| {
            let slot = slot as usize;
            (slots[slot].group != NONE).then(|| layout.deadline_us(times[slot]))
        })
    }

    /// No watermark before this one lets a row go that is missed; those that go in silence may wait for each other.
    pub fn next_expiry(&self) -> Option<i64> {
        let expiry = self.expiry.as_ref()?;
        match self.layout.ttl_us {
            None => expiry.next_us(),
            // No watermark but the next one gives rows without a moment theirs.
            Some(_) if self.undated().next().is_some() => Some(i64::MIN),
            Some(_) => expiry.half_us(),
        }
    }

    /// Gives rows without a moment theirs.
    pub fn date(&mut self, watermark_us: i64) {
        let Some(ttl_us) = self.layout.ttl_us else { return };
        for slot in std::mem::take(&mut self.undated) {
            if self.is_undated(slot) {
                self.times[slot as usize] = until_us(watermark_us, ttl_us);
                self.await_expiry(slot);
            }
        }
    }

    /// The rows without a moment.
    pub fn undated(&self) -> impl Iterator<Item = u32> {
        self.undated.iter().copied().filter(|slot| self.is_undated(*slot))
    }

    fn is_undated(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.group != NONE) && self.times[slot as usize] == UNDATED
    }

    /// Puts a row where it is found when its time has run out.
    fn await_expiry(&mut self, slot: u32) {
        let Some(expiry) = &mut self.expiry else { return };
        let time_us = self.times[slot as usize];
        match self.layout.ttl_us.is_some() && time_us == UNDATED {
            true => self.undated.push(slot),
            false => expiry.insert(self.layout.deadline_us(time_us), slot),
        }
    }

    /// The row came again.
    fn renew(&mut self, slot: u32, until_us: i64) {
        if self.layout.ttl_us.is_some() && until_us > self.times[slot as usize] {
            self.times[slot as usize] = until_us;
            self.await_expiry(slot);
        }
    }

    /// By row of a changelog: what stands for it, and the row here that it is equal to.
    pub fn kept(&self, arrival: &Arrival) -> Result<Vec<(u128, Option<Counted>)>> {
        let Some(index) = &self.index else { return Ok(Vec::new()) };
        let counted = |slot: u32| Counted { weight: self.weights[slot as usize], matches: self.matches(slot) };
        Ok(index.hash(arrival)?.into_iter().map(|hash| (hash, index.find(hash).map(counted))).collect())
    }

    /// Puts in order what many removals and small batches leave behind.
    pub fn tidy(&mut self) -> Result<()> {
        let slots = &mut self.slots;
        self.rows.tidy(|slot, place| slots[slot as usize].place = place)?;
        if self.free.len() > self.n_rows() + DEAD_MIN {
            self.renumber();
        }
        let n_rows = self.n_rows();
        if self.expiry.as_ref().is_some_and(|expiry| expiry.n_entries() > 2 * n_rows + DEAD_MIN) {
            self.await_all();
        }
        Ok(())
    }

    /// Puts all rows where they are found when their time has run out.
    fn await_all(&mut self) {
        (self.expiry, self.undated) = (self.layout.expires().then(Expiry::default), Vec::new());
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.group != NONE);
        for slot in taken.map(|(slot, _)| slot as u32).collect::<Vec<u32>>() {
            self.await_expiry(slot);
        }
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
            + (self.free.capacity() + self.heads.capacity() + self.undated.capacity()) * size_of::<u32>()
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
        if self.expiry.is_some() {
            set(&mut self.times, at, arrival.times[row]);
            self.await_expiry(slot);
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
                    if *weight == 0 && self.layout.counted {
                        // It went within the batch, and what was counted with it.
                        self.matches[slot as usize] = arrival.matches(row);
                    }
                    *weight += arrival.weight(row);
                    if *weight == 0 {
                        zero.push(slot);
                    }
                    if arrival.weight(row) > 0 && self.layout.ttl_us.is_some() {
                        self.renew(slot, arrival.times[row]);
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
        self.await_all();
    }
}

fn set(values: &mut Vec<i64>, at: usize, value: i64) {
    if at == values.len() {
        values.push(value);
    } else {
        values[at] = value;
    }
}
