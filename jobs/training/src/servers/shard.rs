//! What one server holds: where its parameters lie among all, and among its own.
//!
//! Invariant: in the shard's own arrays its parameters stand in the order of their names, as in a graph that had these alone, so
//! that an optimizer moves them as it moves those of a graph.

use crate::graph::operation::RowGradients;
use crate::graph::{Gradients, Slot, SlotPlace};
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Shard {
    /// With places among the shard's own arrays.
    pub slots: Vec<Slot>,
    /// Where each of them lies among all weights.
    all: Vec<Slot>,
    /// Values of all of them.
    pub len: usize,
    /// Values of those that are no tables.
    pub whole_len: usize,
}

impl Shard {
    /// `picked`: indices among `slots`, which are those of the graph.
    pub fn new(slots: &[Slot], picked: &[usize]) -> Self {
        let (mut len, mut whole_len, mut tables) = (0, 0, 0);
        let own = |slot: &Slot| {
            let size = slot.range.len();
            let range = len..len + size;
            len += size;
            let gradient = match slot.gradient {
                SlotPlace::Whole(_) => {
                    whole_len += size;
                    SlotPlace::Whole(whole_len - size..whole_len)
                }
                SlotPlace::Rows(_) => {
                    tables += 1;
                    SlotPlace::Rows(tables - 1)
                }
            };
            Slot { range, gradient, ..slot.clone() }
        };
        let all: Vec<Slot> = picked.iter().map(|slot| slots[*slot].clone()).collect();
        let slots = all.iter().map(own).collect();
        Self { slots, all, len, whole_len }
    }

    /// Rows and width of each table.
    pub fn tables(&self) -> Vec<(usize, usize)> {
        let tables = self.slots.iter().filter(|slot| matches!(slot.gradient, SlotPlace::Rows(_)));
        tables.map(|slot| (slot.dims[0], slot.width())).collect()
    }

    /// The numbers that its tables have among all tables.
    pub fn table_numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.all.iter().filter_map(|slot| match slot.gradient {
            SlotPlace::Rows(table) => Some(table),
            SlotPlace::Whole(_) => None,
        })
    }

    /// Its part of an array that has a value for each weight.
    pub fn take(&self, all: &[f32]) -> Vec<f32> {
        let mut own = Vec::with_capacity(self.len);
        self.all.iter().for_each(|slot| own.extend_from_slice(&all[slot.range.clone()]));
        own
    }

    /// Puts its part of such an array back.
    pub fn put(&self, own: &[f32], all: &mut [f32]) {
        for (slot, whole) in self.slots.iter().zip(&self.all) {
            all[whole.range.clone()].copy_from_slice(&own[slot.range.clone()]);
        }
    }

    /// Of each parameter: where its gradient is among all, where it lies among all weights, and the values of a row.
    pub fn places(&self) -> impl Iterator<Item = (&SlotPlace, Range<usize>, usize)> + '_ {
        self.all.iter().map(|slot| (&slot.gradient, slot.range.clone(), slot.width()))
    }

    /// Its gradients among all: those of whole parameters, and of each table.
    pub fn gradients<'a>(&self, all: &'a Gradients<'_, f32>) -> (Vec<&'a [f32]>, Vec<&'a RowGradients<f32>>) {
        let (mut whole, mut tables) = (Vec::new(), Vec::new());
        for slot in &self.all {
            match &slot.gradient {
                SlotPlace::Whole(range) => whole.push(&all.whole[range.clone()]),
                SlotPlace::Rows(table) => tables.push(&all.tables[*table]),
            }
        }
        (whole, tables)
    }
}
