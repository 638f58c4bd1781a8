//! The least or greatest value where rows may be taken back: all values, in order, and of them the first or last.

use super::coding::Coding;
use super::extreme::End;
use super::multiset::Multisets;
use super::state::{EntryPart, Rows, State, mask};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;

#[derive(Debug)]
pub struct Ordered<C: Coding> {
    end: End,
    sets: Multisets<C>,
}

impl<C: Coding> Ordered<C> {
    pub fn new(end: End, coding: C) -> Self {
        Self { end, sets: Multisets::new(coding) }
    }
}

impl<C: Coding> State for Ordered<C> {
    fn grow(&mut self, n_groups: usize) {
        self.sets.grow(n_groups);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let mask = mask(filters[0], arguments);
        let column = self.sets.coding().encode(arguments)?;
        rows.each(mask.as_ref(), |group, row, weight| self.sets.add(group, C::value(&column, row), weight));
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let value = |group: &usize| {
            let mut values = self.sets.values(*group);
            let end = match self.end {
                End::Least => values.next(),
                End::Greatest => values.next_back(),
            };
            end.map(|(value, _)| value)
        };
        self.sets.coding().decode(groups.iter().map(value))
    }

    fn holds(&self, group: usize) -> bool {
        self.sets.holds(group)
    }

    fn keep(&mut self, groups: &[usize]) {
        self.sets.keep(groups);
    }

    fn forget(&mut self, gone: &[bool]) {
        self.sets.forget(gone);
    }

    fn memory_bytes(&self) -> usize {
        self.sets.memory_bytes()
    }

    fn types(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn save(&self, _: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn load(&mut self, _: &[usize], _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn entry_types(&self) -> Vec<DataType> {
        self.sets.types()
    }

    fn save_entries(&self, groups: &[usize], part: &mut EntryPart<'_>) -> Result<()> {
        self.sets.save(groups, part)
    }

    fn load_entries(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        self.sets.load(groups, columns)
    }
}
