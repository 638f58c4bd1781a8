//! For every group an ordered multiset of values, with a count each.
//!
//! Invariant: a value whose count is zero is not there. A count below zero is of a value that was taken back before it came.

use super::coding::Coding;
use super::state::{EntryPart, PART_ENTRIES, marked, primitive};
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an allocation costs beside its bytes, roughly.
const ALLOCATION_BYTES: usize = 16;

#[derive(Debug)]
pub struct Multisets<C: Coding> {
    coding: C,
    groups: Vec<BTreeMap<C::Key, i64>>,
    n_values: usize,
    heap_bytes: usize,
}

impl<C: Coding> Multisets<C> {
    pub fn new(coding: C) -> Self {
        Self { coding, groups: Vec::new(), n_values: 0, heap_bytes: 0 }
    }

    pub fn coding(&self) -> &C {
        &self.coding
    }

    pub fn grow(&mut self, n_groups: usize) {
        self.groups.resize_with(n_groups, BTreeMap::new);
    }

    pub fn add(&mut self, group: usize, value: &C::Value, weight: i64) {
        let counts = &mut self.groups[group];
        let Some(count) = counts.get_mut(value) else {
            if weight != 0 {
                counts.insert(C::own(value), weight);
                self.n_values += 1;
                self.heap_bytes += C::heap_bytes(value);
            }
            return;
        };
        *count += weight;
        if *count == 0 {
            counts.remove(value);
            self.n_values -= 1;
            self.heap_bytes -= C::heap_bytes(value);
        }
    }

    /// The values that are there, in order, with their counts.
    pub fn values(&self, group: usize) -> impl DoubleEndedIterator<Item = (&C::Value, i64)> {
        let there = self.groups[group].iter().filter(|(_, count)| **count > 0);
        there.map(|(value, count)| (value.borrow(), *count))
    }

    pub fn holds(&self, group: usize) -> bool {
        !self.groups[group].is_empty()
    }

    /// Forgets the values of a group.
    pub fn clear(&mut self, group: usize) {
        let values = std::mem::take(&mut self.groups[group]);
        self.n_values -= values.len();
        self.heap_bytes -= values.keys().map(|value| C::heap_bytes(value.borrow())).sum::<usize>();
    }

    pub fn keep(&mut self, groups: &[usize]) {
        let mut all = std::mem::take(&mut self.groups);
        self.groups = groups.iter().map(|group| std::mem::take(&mut all[*group])).collect();
    }

    pub fn forget(&mut self, gone: &[bool]) {
        marked(gone).for_each(|group| self.clear(group));
    }

    pub fn memory_bytes(&self) -> usize {
        let per_value = size_of::<C::Key>() + size_of::<i64>();
        // Nodes of the trees are filled by two thirds or so; many of them have but a few values.
        let trees = self.n_values * per_value * 3 / 2 + self.groups.capacity() * size_of::<BTreeMap<C::Key, i64>>();
        let allocations = if self.heap_bytes > 0 { self.n_values * ALLOCATION_BYTES } else { 0 };
        trees + allocations + self.heap_bytes + self.coding.memory_bytes()
    }

    /// The columns of [`Multisets::save`].
    pub fn types(&self) -> Vec<DataType> {
        self.coding.types().iter().cloned().chain([DataType::Int64]).collect()
    }

    pub fn save(&self, groups: &[usize], part: &mut EntryPart<'_>) -> Result<()> {
        let (mut at, mut values, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (position, group) in groups.iter().enumerate() {
            for (value, count) in &self.groups[*group] {
                at.push(position as u32);
                values.push(value.borrow());
                counts.push(*count);
                if at.len() == PART_ENTRIES {
                    self.save_part(&mut at, &mut values, &mut counts, part)?;
                }
            }
        }
        if at.is_empty() { Ok(()) } else { self.save_part(&mut at, &mut values, &mut counts, part) }
    }

    fn save_part(
        &self,
        at: &mut Vec<u32>,
        values: &mut Vec<&C::Value>,
        counts: &mut Vec<i64>,
        part: &mut EntryPart<'_>,
    ) -> Result<()> {
        let mut columns = self.coding.decode(values.drain(..).map(Some))?;
        columns.push(Arc::new(Int64Array::from(std::mem::take(counts))));
        part(std::mem::take(at), columns)
    }

    pub fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let Some((counts, values)) = columns.split_last() else {
            return Err(DataFusionError::Internal("values without counts".into()));
        };
        let (counts, values) = (primitive::<Int64Type>(counts)?, self.coding.encode(values)?);
        for (row, group) in groups.iter().enumerate() {
            self.add(*group, C::value(&values, row), counts.value(row));
        }
        Ok(())
    }
}
