//! What is to be said with the next flush: the groups that rows came for, and what had been said of them before.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::concat;
use arrow::compute::kernels::cmp;
use datafusion::error::Result;

#[derive(Debug, Default)]
pub struct Pending {
    /// Rows taken.
    pub n_rows: usize,
    /// By group: whether it is among those below.
    touched: Vec<bool>,
    /// Groups of which nothing had been said.
    fresh: Vec<usize>,
    /// Groups that are out, with their results as they are out.
    known: Vec<usize>,
    before: Vec<Vec<ArrayRef>>,
}

/// Groups that are out, and their results by aggregate.
#[derive(Debug)]
pub struct Known {
    pub groups: Vec<usize>,
    pub results: Vec<ArrayRef>,
}

impl Pending {
    pub fn grow(&mut self, n_groups: usize) {
        self.touched.resize(n_groups, false);
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.fresh.is_empty()
    }

    /// Notes these groups and gives those that were not noted before and are out: [`Pending::remember`] wants their results.
    pub fn touch(&mut self, groups: &[usize], is_out: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut known = Vec::new();
        for group in groups {
            if !std::mem::replace(&mut self.touched[*group], true) {
                if is_out(*group) { &mut known } else { &mut self.fresh }.push(*group);
            }
        }
        known
    }

    /// The results of groups that are out, as they are out.
    pub fn remember(&mut self, groups: Vec<usize>, results: Vec<ArrayRef>) {
        self.known.extend(groups);
        self.before.push(results);
    }

    /// What was noted; nothing is pending any more.
    pub fn take(&mut self) -> Result<(Vec<usize>, Known)> {
        let (fresh, groups) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.known));
        fresh.iter().chain(&groups).for_each(|group| self.touched[*group] = false);
        let before = std::mem::take(&mut self.before);
        self.n_rows = 0;
        let n_columns = before.first().map_or(0, Vec::len);
        let column = |at: usize| {
            let parts: Vec<&dyn Array> = before.iter().map(|columns| columns[at].as_ref()).collect();
            Ok(concat(&parts)?)
        };
        let results = (0..n_columns).map(column).collect::<Result<_>>()?;
        Ok((fresh, Known { groups, results }))
    }

    pub fn memory_bytes(&self) -> usize {
        let results = self.before.iter().flatten().map(|column| column.get_array_memory_size()).sum::<usize>();
        self.touched.capacity() + (self.fresh.capacity() + self.known.capacity()) * size_of::<usize>() + results
    }
}

/// By row: whether any column has another value. Floats are compared by their bits.
pub fn differ(before: &[ArrayRef], now: &[ArrayRef], n_rows: usize) -> Result<BooleanArray> {
    let mut all = BooleanBuffer::new_unset(n_rows);
    for (before, now) in before.iter().zip(now) {
        let differs = match before.data_type().is_nested() || before.data_type().is_null() {
            false => cmp::distinct(before, now)?.values().clone(),
            true => {
                BooleanBuffer::collect_bool(n_rows, |row| before.slice(row, 1).as_ref() != now.slice(row, 1).as_ref())
            }
        };
        all = &all | &differs;
    }
    Ok(BooleanArray::new(all, None))
}
