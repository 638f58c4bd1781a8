//! What an operator holds for each key: states found by key, which of them have something to say at the next flush, and
//! which of them were touched since the last snapshot.
//!
//! Keys are numbered by DataFusion's group tables, which take whole columns at once but cannot forget a single key. So
//! states that hold nothing stay where they are until they are the greater part; then all others are numbered anew.
//!
//! Invariant: a number is good until the next [`Partitions::settle`].

use super::stateful::Scope;
use super::touched::{Selection, Touched, hash_new, selected};
use crate::state::hashes::Hashes;
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use std::sync::Arc;

/// Below this many, states that hold nothing are not worth a new numbering.
const EMPTY_ENOUGH: usize = 64;

/// Numbers for keys, from zero on without gaps.
pub struct Keys {
    schema: SchemaRef,
    /// Absent without keys: all rows have number zero then.
    values: Option<Box<dyn GroupValues>>,
}

impl Keys {
    /// For these columns of the input.
    pub fn new(input: &Schema, keys: &[usize]) -> Result<Self> {
        let schema = Arc::new(Schema::new(keys.iter().map(|key| input.field(*key).clone()).collect::<Vec<_>>()));
        let mut this = Self { schema, values: None };
        this.clear()?;
        Ok(this)
    }

    pub fn clear(&mut self) -> Result<()> {
        self.values = match self.schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(Arc::clone(&self.schema), &GroupOrdering::None)?),
        };
        Ok(())
    }

    /// By row: the number of its key. A key that was not seen before gets the next one.
    pub fn number(&mut self, keys: &[ArrayRef], n_rows: usize) -> Result<Vec<usize>> {
        let Some(values) = &mut self.values else { return Ok(vec![0; n_rows]) };
        let mut numbers = Vec::with_capacity(n_rows);
        if n_rows > 0 {
            values.intern(keys, &mut numbers)?;
        }
        Ok(numbers)
    }

    /// Forgets all but these; gives, for each of them, the number that it has now.
    fn keep(&mut self, numbers: &[u32]) -> Result<Vec<usize>> {
        let Some(values) = &mut self.values else { return Ok(vec![0; numbers.len()]) };
        let columns = values.emit(EmitTo::All)?;
        self.clear()?;
        let rows = UInt32Array::from(numbers.to_vec());
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        self.number(&columns, numbers.len())
    }

    pub fn memory_bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size())
    }
}

/// The state of one key.
pub trait Partition: Default {
    /// Whether it can be forgotten.
    fn is_empty(&self) -> bool;
}

#[derive(Debug, Default)]
struct Slot<P> {
    state: P,
    dirty: bool,
    /// Whether it was found to hold something when it was last settled.
    full: bool,
}

pub struct Partitions<P> {
    keys: Keys,
    slots: Vec<Slot<P>>,
    /// By number: the hash of the key.
    hashes: Vec<u64>,
    dirty: Vec<usize>,
    n_full: usize,
    touched: Touched,
}

impl<P> std::fmt::Debug for Partitions<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitions").field("n_slots", &self.slots.len()).field("n_full", &self.n_full).finish()
    }
}

impl<P: Partition> Partitions<P> {
    pub fn new(input: &Schema, keys: &[usize]) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(input, keys)?,
            slots: Vec::new(),
            hashes: Vec::new(),
            dirty: Vec::new(),
            n_full: 0,
            touched: Touched::default(),
        })
    }

    /// By row: the number of its state.
    pub fn number(&mut self, keys: &[ArrayRef], n_rows: usize) -> Result<Vec<usize>> {
        let numbers = self.keys.number(keys, n_rows)?;
        if let Some(last) = numbers.iter().max()
            && *last >= self.slots.len()
        {
            self.slots.resize_with(last + 1, Slot::default);
            hash_new(&mut self.hashes, keys, &numbers, last + 1)?;
        }
        Ok(numbers)
    }

    pub fn get(&self, number: usize) -> &P {
        &self.slots[number].state
    }

    /// The state, without marking it dirty.
    pub fn get_mut(&mut self, number: usize) -> &mut P {
        &mut self.slots[number].state
    }

    /// The state, to be changed: it has something to say at the next flush, and goes to the next snapshot.
    pub fn touch(&mut self, number: usize) -> &mut P {
        let slot = &mut self.slots[number];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(number);
            self.touched.mark(number);
        }
        &mut slot.state
    }

    /// The states that were touched, in the order in which they were. They must be given back to `settle`.
    pub fn take_dirty(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.dirty)
    }

    /// These have said what they had to say: those that hold nothing any more may go, and numbers change.
    pub fn settle(&mut self, numbers: &[usize]) -> Result<()> {
        for number in numbers {
            let slot = &mut self.slots[*number];
            slot.dirty = false;
            let full = !slot.state.is_empty();
            match (slot.full, full) {
                (false, true) => self.n_full += 1,
                (true, false) => self.n_full -= 1,
                _ => {}
            }
            slot.full = full;
        }
        let n_empty = self.slots.len() - self.n_full;
        if n_empty > self.n_full.max(EMPTY_ENOUGH) {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let worth = |slot: &Slot<P>| slot.dirty || !slot.state.is_empty();
        let kept: Vec<u32> =
            self.slots.iter().enumerate().filter(|(_, slot)| worth(slot)).map(|(number, _)| number as u32).collect();
        let numbers = self.keys.keep(&kept)?;
        let mut kept_now = vec![0; kept.len()];
        kept.iter().zip(&numbers).for_each(|(old, new)| kept_now[*new] = *old as usize);
        self.touched.renumber(&kept_now, &self.hashes);
        self.hashes = kept_now.iter().map(|old| self.hashes[*old]).collect();
        let mut before = std::mem::take(&mut self.slots);
        self.slots.resize_with(kept.len(), Slot::default);
        self.dirty.clear();
        self.n_full = 0;
        for (old, new) in kept.into_iter().zip(numbers) {
            let mut slot = std::mem::take(&mut before[old as usize]);
            if slot.dirty {
                self.dirty.push(new);
            }
            slot.full = !slot.state.is_empty();
            self.n_full += usize::from(slot.full);
            self.slots[new] = slot;
        }
        Ok(())
    }

    /// Forgets these keys, told by hash; `gone` gets the states that held something. No state is dirty.
    pub fn forget(&mut self, keys: &Hashes, mut gone: impl FnMut(P)) -> Result<()> {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if keys.contains(self.hashes[number]) && !slot.state.is_empty() {
                gone(std::mem::take(&mut slot.state));
                self.touched.mark(number);
                self.n_full -= usize::from(std::mem::take(&mut slot.full));
            }
        }
        self.settle(&[])
    }

    /// The state has changed without having anything to say.
    pub fn mark_touched(&mut self, number: usize) {
        self.touched.mark(number);
    }

    /// A key with this hash is touched that may have no state yet.
    pub fn note_touched(&mut self, hash: u64) {
        self.touched.note(hash);
    }

    pub fn note_all_touched(&mut self, hashes: &[u64]) {
        hashes.iter().for_each(|hash| self.touched.note(*hash));
    }

    /// The states are as files say.
    pub fn forget_touched(&mut self) {
        self.touched.clear();
    }

    /// What a snapshot of this scope selects; see [`Touched::take`]. `n_others`: keys with something that is not held here.
    pub fn take_touched(&mut self, scope: Scope, n_others: usize) -> Option<Selection> {
        self.touched.take(scope, &self.hashes, self.n_full + n_others)
    }

    /// The states that hold something and are selected, by what [`Partitions::take_touched`] gave.
    pub fn selected<'a>(&'a self, selection: Option<&'a Selection>) -> impl Iterator<Item = &'a P> {
        let numbers = selected(selection, &self.hashes).into_iter();
        numbers.map(|number| &self.slots[number].state).filter(|state| !state.is_empty())
    }

    /// All numbers in use.
    pub fn n_slots(&self) -> usize {
        self.slots.len()
    }

    /// Of keys and the table of states; what the states point to is for the operator to count.
    pub fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes()
            + self.slots.capacity() * size_of::<Slot<P>>()
            + self.hashes.capacity() * size_of::<u64>()
            + self.touched.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field};

    impl Partition for Vec<i64> {
        fn is_empty(&self) -> bool {
            self.is_empty()
        }
    }

    #[test]
    fn what_holds_nothing_goes_and_the_rest_is_found_again() {
        let input = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)]);
        for keys in [vec![0], vec![0, 1]] {
            let mut partitions = Partitions::<Vec<i64>>::new(&input, &keys).expect("partitions");
            let columns = |rows: std::ops::Range<i64>| -> Vec<ArrayRef> {
                let one: ArrayRef = Arc::new(rows.map(|key| (key != 7).then_some(key)).collect::<Int64Array>());
                vec![one; keys.len()]
            };
            for (key, number) in partitions.number(&columns(0..1000), 1000).expect("numbers").into_iter().enumerate() {
                partitions.touch(number).push(key as i64);
            }
            let dirty = partitions.take_dirty();
            partitions.settle(&dirty).expect("settle");
            for (key, number) in partitions.number(&columns(0..1000), 1000).expect("numbers").into_iter().enumerate() {
                if key % 5 != 2 {
                    partitions.touch(number).clear();
                }
            }
            let dirty = partitions.take_dirty();
            partitions.settle(&dirty).expect("settle");
            assert_eq!(partitions.n_slots(), 200);
            for (key, number) in partitions.number(&columns(0..10), 10).expect("numbers").into_iter().enumerate() {
                let expected = if key % 5 == 2 { vec![key as i64] } else { vec![] };
                assert_eq!(partitions.get(number), &expected, "key {key}");
            }
        }
    }
}
