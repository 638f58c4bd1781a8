//! The memory that one slice has for state, and who of its operators may take how much of it.
//!
//! Nothing is divided beforehand: an operator takes what it needs as long as all of them fit. When they no longer do, the
//! largest of those that can put state on disk lets go of enough that a quarter of the memory is free again.
//!
//! Invariant: measuring costs nothing per row. Between two measurements the slice takes a bounded number of rows, and
//! bytes in proportion to the memory; so much may be held beyond it, and one copy of what is being moved.

use arrow::array::RecordBatch;

/// Between two measurements.
const ROWS: usize = 8192;
const BYTES_SHARE: usize = 32;

#[derive(Debug)]
pub struct Budget {
    limit: usize,
    rows: usize,
    bytes: usize,
}

/// What an operator holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub bytes: usize,
    pub can_spill: bool,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, rows: 0, bytes: 0 }
    }

    /// An operator with state took these rows.
    pub fn took(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes = self.bytes.saturating_add(batch.get_array_memory_size());
    }

    /// Whether it is time to measure; asked again, it is not.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.rows >= ROWS || self.bytes > self.limit / BYTES_SHARE;
        if is_due {
            (self.rows, self.bytes) = (0, 0);
        }
        is_due
    }

    /// What each operator may hold from now on: what it has and all that is free, or less where too much is taken.
    pub fn allot(&self, held: &[Held]) -> Vec<usize> {
        let total: usize = held.iter().map(|held| held.bytes).sum();
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
        let budget = Budget::new(1000);
        let held = |bytes: usize| Held { bytes, can_spill: true };
        let fixed = |bytes: usize| Held { bytes, can_spill: false };
        assert_eq!(budget.allot(&[held(100), fixed(200)]), [550, 650]);
        assert_eq!(budget.allot(&[held(400), held(450)]), [400, 450]);
        assert_eq!(budget.allot(&[held(400), held(700), fixed(100)]), [400, 250, 100]);
        assert_eq!(budget.allot(&[held(300), held(200), fixed(1000)]), [0, 0, 1000]);
        assert_eq!(budget.allot(&[]), [] as [usize; 0]);
    }
}
