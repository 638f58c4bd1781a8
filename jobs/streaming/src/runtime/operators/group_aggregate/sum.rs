//! Sums of integers, decimals and durations. What was added can be taken away again, exactly; a result that has no room in
//! its type is an error.

use super::state::{Rows, State, kept, marked, mask, only, primitive};
use crate::functions::{Room, out_of_range};
use arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BooleanArray, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use std::fmt::Debug;
use std::sync::Arc;

#[derive(Debug)]
pub struct Sum<T: ArrowPrimitiveType<Native: Room>> {
    name: String,
    data_type: DataType,
    sums: Vec<<T::Native as Room>::Sum>,
    /// Values that are not null; without any the sum is null.
    counts: Vec<i64>,
}

impl<T: ArrowPrimitiveType<Native: Room>> Sum<T> {
    pub fn new(name: &str, data_type: DataType) -> Self {
        Self { name: name.to_string(), data_type, sums: Vec::new(), counts: Vec::new() }
    }

    fn sums(&self, groups: &[usize], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let sum = |group: &usize| T::Native::result(self.sums[*group]).ok_or_else(|| self.out_of_range());
        let sums = groups.iter().map(sum).collect::<Result<Vec<_>>>()?;
        let sums = PrimitiveArray::<T>::new(sums.into(), nulls);
        Ok(Arc::new(sums.with_data_type(self.data_type.clone())))
    }

    fn out_of_range(&self) -> DataFusionError {
        out_of_range(&self.name, &self.data_type)
    }
}

impl<T: ArrowPrimitiveType<Native: Room> + Debug> State for Sum<T> {
    fn grow(&mut self, n_groups: usize) {
        self.sums.resize(n_groups, <T::Native as Room>::Sum::ZERO);
        self.counts.resize(n_groups, 0);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let values = primitive::<T>(only(arguments)?)?.values();
        let mask = mask(filters[0], arguments);
        let mut overflows = false;
        rows.each(mask.as_ref(), |group, row, weight| {
            let sum = &mut self.sums[group];
            match values[row].times(weight).and_then(|value| sum.add_checked(value).ok()) {
                Some(now) => *sum = now,
                None => overflows = true,
            }
            self.counts[group] += weight;
        });
        if overflows { Err(self.out_of_range()) } else { Ok(()) }
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let some = groups.iter().map(|group| self.counts[*group] != 0).collect();
        Ok(vec![self.sums(groups, Some(NullBuffer::new(some)))?])
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
            self.sums[group] = <T::Native as Room>::Sum::ZERO;
            self.counts[group] = 0;
        }
    }

    fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<<T::Native as Room>::Sum>() + self.counts.capacity() * size_of::<i64>()
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.data_type.clone(), DataType::Int64]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.sums(groups, None)?, Arc::new(Int64Array::from(kept(&self.counts, groups)))])
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = columns else {
            return Err(DataFusionError::Internal(format!("{} columns of a sum", columns.len())));
        };
        let (sums, counts) = (primitive::<T>(sums)?, primitive::<Int64Type>(counts)?);
        for (row, group) in groups.iter().enumerate() {
            self.sums[*group] = sums.value(row).times(1).ok_or_else(|| self.out_of_range())?;
            self.counts[*group] = counts.value(row);
        }
        Ok(())
    }
}
