//! The memory that one slice has for state, and who of its operators may take how much of it.
//!
//! Nothing is divided beforehand: an operator takes what it needs as long as all of them fit. When they no longer do, the
//! largest of those that can put state on disk lets go of enough that a quarter of the memory is free again.
//!
//! Invariant: measuring costs nothing per row, and is the rarer the more is free. Between two measurements the slice takes
//! bytes in proportion to what is free, or to the memory; so much may be held beyond it, and one copy of what is being
//! moved.

use arrow::array::RecordBatch;

/// What is taken between two measurements is this part of the memory, or this part of what was free, if that is more.
const MEMORY_SHARE: usize = 32;
const FREE_SHARE: usize = 8;

/// A row costs an operator this much at least, however few bytes it has.
const ROW_BYTES: usize = 64;

#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// Taken since the last measurement.
    taken: usize,
    /// With how much it is time for the next.
    due: usize,
}

/// What an operator holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub bytes: usize,
    pub can_spill: bool,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: 0, due: limit / MEMORY_SHARE }
    }

    /// An operator with state took these rows.
    pub fn took(&mut self, batch: &RecordBatch) {
        let bytes = batch.get_array_memory_size().max(batch.num_rows() * ROW_BYTES);
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Whether it is time to measure.
    pub fn is_due(&self) -> bool {
        self.taken > self.due
    }

    /// What each operator may hold from now on: what it has and all that is free, or less where too much is taken.
    pub fn allot(&mut self, held: &[Held]) -> Vec<usize> {
        let total: usize = held.iter().map(|held| held.bytes).sum();
        self.taken = 0;
        self.due = (self.limit.saturating_sub(total) / FREE_SHARE).max(self.limit / MEMORY_SHARE);
        let target = self.limit - self.limit / 4;
        let free = target.saturating_sub(total);
        let mut allowed: Vec<usize> = held.iter().map(|held| held.bytes + free).collect();
        if total <= self.limit {
            return allowed;
        }
        let mut excess = total - target;
        let mut largest: Vec<usize> = (0..held.len()).filter(|at| held[*at].can_spill).collect();
        largest.sort_by_key(|at| std::cmp::Reverse(held[*at].bytes));
        for at in largest {
            let taken = excess.min(held[at].bytes);
            allowed[at] -= taken;
            excess -= taken;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_can_lets_go_first() {
        let mut budget = Budget::new(1000);
        let held = |bytes: usize| Held { bytes, can_spill: true };
        let fixed = |bytes: usize| Held { bytes, can_spill: false };
        assert_eq!(budget.allot(&[held(100), fixed(200)]), [550, 650]);
        assert_eq!(budget.allot(&[held(400), held(450)]), [400, 450]);
        assert_eq!(budget.allot(&[held(400), held(700), fixed(100)]), [400, 250, 100]);
        assert_eq!(budget.allot(&[held(300), held(200), fixed(1000)]), [0, 0, 1000]);
        assert_eq!(budget.allot(&[]), [] as [usize; 0]);
    }
}
