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

/// Texts and bytes. The values lie end to end: one of its own for each would cost a call of the allocator for each, most of
/// all when a large state is read, and lie anywhere.
#[derive(Debug)]
pub struct BytesExtreme {
    data_type: DataType,
    end: End,
    bytes: Vec<u8>,
    /// By group.
    places: Vec<Place>,
    /// Bytes that are no group's any more.
    n_dead: usize,
}

/// Where the value of a group is.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: usize,
    length: usize,
}

impl Place {
    const NONE: Self = Self { from: usize::MAX, length: 0 };

    fn is_some(self) -> bool {
        self.from != usize::MAX
    }
}

/// Fewer dead bytes are left where they are.
const DEAD_ENOUGH: usize = 64 * 1024;

impl BytesExtreme {
    /// `None`: values of this type are no texts or bytes.
    pub fn new(end: End, data_type: &DataType) -> Option<Self> {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
        matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView).then(|| Self {
            data_type: data_type.clone(),
            end,
            bytes: Vec::new(),
            places: Vec::new(),
            n_dead: 0,
        })
    }

    fn value(&self, group: usize) -> Option<&[u8]> {
        let place = self.places[group];
        place.is_some().then(|| &self.bytes[place.from..place.from + place.length])
    }

    fn take(&mut self, group: usize, value: &[u8]) {
        let better = match (self.value(group), self.end) {
            (None, _) => true,
            (Some(best), End::Least) => value < best,
            (Some(best), End::Greatest) => value > best,
        };
        if better {
            self.put(group, value);
        }
    }

    fn put(&mut self, group: usize, value: &[u8]) {
        let Place { from, length } = self.places[group];
        if self.places[group].is_some() && value.len() <= length {
            self.bytes[from..from + value.len()].copy_from_slice(value);
            self.places[group].length = value.len();
            self.n_dead += length - value.len();
            return;
        }
        self.n_dead += length;
        if self.bytes.capacity() - self.bytes.len() < value.len() {
            // By a quarter and not to twice as much: this may be most of the memory.
            self.bytes.reserve_exact((self.bytes.len() / 4).max(value.len()));
        }
        self.places[group] = Place { from: self.bytes.len(), length: value.len() };
        self.bytes.extend_from_slice(value);
    }

    /// Moves what is alive together.
    fn compact(&mut self) {
        let before = std::mem::take(&mut self.bytes);
        self.bytes = Vec::with_capacity(before.len() - self.n_dead);
        for place in self.places.iter_mut().filter(|place| place.is_some()) {
            let from = self.bytes.len();
            self.bytes.extend_from_slice(&before[place.from..place.from + place.length]);
            place.from = from;
        }
        self.n_dead = 0;
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
        if self.n_dead > DEAD_ENOUGH.max(self.bytes.len() / 2) {
            self.compact();
        }
        Ok(())
    }
}

impl State for BytesExtreme {
    fn grow(&mut self, n_groups: usize) {
        self.places.resize(n_groups, Place::NONE);
    }

    fn update(&mut self, rows: Rows<'_>, arguments: &[ArrayRef], filters: &[Option<&BooleanArray>]) -> Result<()> {
        self.take_rows(rows, only(arguments)?, filters[0])
    }

    fn values(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let values: BinaryArray = groups.iter().map(|group| self.value(*group)).collect();
        Ok(vec![cast(&values, &self.data_type)?])
    }

    fn holds(&self, group: usize) -> bool {
        self.places[group].is_some()
    }

    fn keep(&mut self, groups: &[usize]) {
        self.places = kept(&self.places, groups);
        self.n_dead = self.bytes.len() - self.places.iter().map(|place| place.length).sum::<usize>();
        self.compact();
    }

    fn forget(&mut self, gone: &[bool]) {
        for group in marked(gone) {
            self.n_dead += std::mem::replace(&mut self.places[group], Place::NONE).length;
        }
        if self.n_dead > DEAD_ENOUGH.max(self.bytes.len() / 2) {
            self.compact();
        }
    }

    fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.bytes.capacity()
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
