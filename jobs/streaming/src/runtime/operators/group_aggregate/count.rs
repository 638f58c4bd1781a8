//! How many rows there are, or how many without a null in some columns.

use super::state::{Rows, State, kept, marked, mask, only, primitive};
use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Count {
    counts: Vec<i64>,
}

impl State for Count {
    fn grow(&mut self, n_groups: usize) {
        self.counts.resize(n_groups, 0);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let mask = mask(filters[0], arguments);
        rows.each(mask.as_ref(), |group, _, weight| self.counts[group] += weight);
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Int64Array::from(kept(&self.counts, groups)))])
    }

    fn holds(&self, group: usize) -> bool {
        self.counts[group] != 0
    }

    fn keep(&mut self, groups: &[usize]) {
        self.counts = kept(&self.counts, groups);
    }

    fn forget(&mut self, gone: &[bool]) {
        marked(gone).for_each(|group| self.counts[group] = 0);
    }

    fn memory_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }

    fn types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.values(groups)
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let counts = primitive::<Int64Type>(only(columns)?)?;
        groups.iter().zip(counts.values()).for_each(|(group, count)| self.counts[*group] = *count);
        Ok(())
    }
}
