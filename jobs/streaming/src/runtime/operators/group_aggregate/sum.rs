//! Sums that wrap around: of integers, decimals and durations. What was added can be taken away again, exactly.

use super::state::{Rows, State, kept, marked, mask, only, primitive};
use arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BooleanArray, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use std::fmt::Debug;
use std::sync::Arc;

#[derive(Debug)]
pub struct Sum<T: ArrowPrimitiveType> {
    data_type: DataType,
    sums: Vec<T::Native>,
    /// Values that are not null; without any the sum is null.
    counts: Vec<i64>,
}

impl<T: ArrowPrimitiveType> Sum<T> {
    pub fn new(data_type: DataType) -> Self {
        Self { data_type, sums: Vec::new(), counts: Vec::new() }
    }

    fn sums(&self, groups: &[usize], nulls: Option<NullBuffer>) -> ArrayRef {
        let sums = PrimitiveArray::<T>::new(kept(&self.sums, groups).into(), nulls);
        Arc::new(sums.with_data_type(self.data_type.clone()))
    }
}

impl<T: ArrowPrimitiveType + Debug> State for Sum<T> {
    fn grow(&mut self, n_groups: usize) {
        self.sums.resize(n_groups, T::Native::ZERO);
        self.counts.resize(n_groups, 0);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let values = primitive::<T>(only(arguments)?)?.values();
        let mask = mask(filters[0], arguments);
        rows.each(mask.as_ref(), |group, row, weight| {
            let (sum, value) = (&mut self.sums[group], values[row]);
            match weight {
                1 => *sum = sum.add_wrapping(value),
                -1 => *sum = sum.sub_wrapping(value),
                more if more > 0 => (0..more).for_each(|_| *sum = sum.add_wrapping(value)),
                less => (less..0).for_each(|_| *sum = sum.sub_wrapping(value)),
            }
            self.counts[group] += weight;
        });
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let some = groups.iter().map(|group| self.counts[*group] != 0).collect();
        Ok(vec![self.sums(groups, Some(NullBuffer::new(some)))])
    }

    fn holds(&self, group: usize) -> bool {
        self.counts[group] != 0 || !self.sums[group].is_zero()
    }

    fn keep(&mut self, groups: &[usize]) {
        self.sums = kept(&self.sums, groups);
        self.counts = kept(&self.counts, groups);
    }

    fn forget(&mut self, gone: &[bool]) {
        for group in marked(gone) {
            self.sums[group] = T::Native::ZERO;
            self.counts[group] = 0;
        }
    }

    fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.counts.capacity() * size_of::<i64>()
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.data_type.clone(), DataType::Int64]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.sums(groups, None), Arc::new(Int64Array::from(kept(&self.counts, groups)))])
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = columns else {
            return Err(DataFusionError::Internal(format!("{} columns of a sum", columns.len())));
        };
        let (sums, counts) = (primitive::<T>(sums)?, primitive::<Int64Type>(counts)?);
        for (row, group) in groups.iter().enumerate() {
            self.sums[*group] = sums.value(row);
            self.counts[*group] = counts.value(row);
        }
        Ok(())
    }
}
