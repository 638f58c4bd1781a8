//! The least or greatest value where rows are never taken back: one value per group.

use super::state::{Rows, State, kept, marked, mask, only, primitive};
use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use std::fmt::Debug;
use std::sync::Arc;

/// Which end of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Least,
    Greatest,
}

#[derive(Debug)]
pub struct Extreme<T: ArrowPrimitiveType> {
    data_type: DataType,
    end: End,
    values: Vec<T::Native>,
    /// Whether there is a value.
    some: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Extreme<T> {
    pub fn new(end: End, data_type: DataType) -> Self {
        Self { data_type, end, values: Vec::new(), some: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType + Debug> State for Extreme<T> {
    fn grow(&mut self, n_groups: usize) {
        self.values.resize(n_groups, T::Native::ZERO);
        self.some.resize(n_groups, false);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        let values = primitive::<T>(only(arguments)?)?.values();
        let mask = mask(filters[0], arguments);
        macro_rules! take {
            ($beats:ident) => {
                rows.each(mask.as_ref(), |group, row, _| {
                    // The order of floats is total, with NaN at its end.
                    if !self.some[group] || values[row].$beats(self.values[group]) {
                        self.values[group] = values[row];
                        self.some[group] = true;
                    }
                })
            };
        }
        match self.end {
            End::Least => take!(is_lt),
            End::Greatest => take!(is_gt),
        }
        Ok(())
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let nulls = NullBuffer::from(kept(&self.some, groups));
        let values = PrimitiveArray::<T>::new(kept(&self.values, groups).into(), Some(nulls));
        Ok(vec![Arc::new(values.with_data_type(self.data_type.clone()))])
    }

    fn holds(&self, group: usize) -> bool {
        self.some[group]
    }

    fn keep(&mut self, groups: &[usize]) {
        self.values = kept(&self.values, groups);
        self.some = kept(&self.some, groups);
    }

    fn forget(&mut self, gone: &[bool]) {
        marked(gone).for_each(|group| self.some[group] = false);
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.some.capacity()
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.values(groups)
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        let values = primitive::<T>(only(columns)?)?;
        for (row, group) in groups.iter().enumerate() {
            self.values[*group] = values.value(row);
            self.some[*group] = values.is_valid(row);
        }
        Ok(())
    }
}

/// Texts and bytes.
#[derive(Debug)]
pub struct BytesExtreme {
    data_type: DataType,
    end: End,
    values: Vec<Option<Box<[u8]>>>,
    heap_bytes: usize,
}

impl BytesExtreme {
    /// `None`: values of this type are no texts or bytes.
    pub fn new(end: End, data_type: &DataType) -> Option<Self> {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
        matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView).then(|| Self {
            data_type: data_type.clone(),
            end,
            values: Vec::new(),
            heap_bytes: 0,
        })
    }

    fn take(&mut self, group: usize, value: &[u8]) {
        let better = match (&self.values[group], self.end) {
            (None, _) => true,
            (Some(best), End::Least) => value < &best[..],
            (Some(best), End::Greatest) => value > &best[..],
        };
        if better {
            self.heap_bytes += value.len();
            if let Some(before) = self.values[group].replace(value.into()) {
                self.heap_bytes -= before.len();
            }
        }
    }

    fn take_rows(&mut self, rows: Rows<'_>, column: &ArrayRef, filter: Option<&BooleanArray>) -> Result<()> {
        let mask = mask(filter, std::slice::from_ref(column));
        macro_rules! take {
            ($values:expr, $bytes:expr) => {{
                let values = $values;
                rows.each(mask.as_ref(), |group, row, _| self.take(group, $bytes(values.value(row))));
            }};
        }
        match column.data_type() {
            DataType::Utf8 => take!(column.as_string::<i32>(), str::as_bytes),
            DataType::LargeUtf8 => take!(column.as_string::<i64>(), str::as_bytes),
            DataType::Utf8View => take!(column.as_string_view(), str::as_bytes),
            DataType::Binary => take!(column.as_binary::<i32>(), std::convert::identity),
            DataType::LargeBinary => take!(column.as_binary::<i64>(), std::convert::identity),
            DataType::BinaryView => take!(column.as_binary_view(), std::convert::identity),
            other => return Err(DataFusionError::Internal(format!("the least or greatest of {other} as bytes"))),
        }
        Ok(())
    }
}

impl State for BytesExtreme {
    fn grow(&mut self, n_groups: usize) {
        self.values.resize(n_groups, None);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        self.take_rows(rows, only(arguments)?, filters[0])
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let values: BinaryArray = groups.iter().map(|group| self.values[*group].as_deref()).collect();
        Ok(vec![cast(&values, &self.data_type)?])
    }

    fn holds(&self, group: usize) -> bool {
        self.values[group].is_some()
    }

    fn keep(&mut self, groups: &[usize]) {
        self.values = groups.iter().map(|group| self.values[*group].take()).collect();
    }

    fn forget(&mut self, gone: &[bool]) {
        let values = marked(gone).filter_map(|group| self.values[group].take());
        self.heap_bytes -= values.map(|value| value.len()).sum::<usize>();
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<Option<Box<[u8]>>>() + self.heap_bytes
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn save(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        self.values(groups)
    }

    fn load(&mut self, groups: &[usize], columns: &[ArrayRef]) -> Result<()> {
        self.take_rows(Rows { groups, weights: None }, only(columns)?, None)
    }
}
