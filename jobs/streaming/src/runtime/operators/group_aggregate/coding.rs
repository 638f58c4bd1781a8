//! Values of any type as keys of maps that are ordered as the values are: whole numbers as `i64`, all others as the bytes of
//! Arrow's row format. In memory only: what is written down is columns.

use super::state::primitive;
use crate::runtime::operators::canonical::canonical;
use crate::runtime::operators::stateful::external;
use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, new_null_array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;
use std::borrow::Borrow;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

pub trait Coding: Debug + Send + 'static {
    /// A value that is kept.
    type Key: Borrow<Self::Value> + Ord + Debug + Send;
    /// A value that is looked at.
    type Value: ?Sized + Ord + Hash + Debug;
    /// The values of a batch.
    type Column;

    fn encode(&self, columns: &[ArrayRef]) -> Result<Self::Column>;

    fn value(column: &Self::Column, row: usize) -> &Self::Value;

    fn own(value: &Self::Value) -> Self::Key;

    /// Bytes of a key outside of itself.
    fn heap_bytes(value: &Self::Value) -> usize;

    /// The columns of these values; where there is none, null.
    fn decode<'a>(&self, values: impl Iterator<Item = Option<&'a Self::Value>>) -> Result<Vec<ArrayRef>>
    where
        Self::Value: 'a;

    /// The columns of [`Coding::decode`].
    fn types(&self) -> &[DataType];

    fn memory_bytes(&self) -> usize;
}

/// Calls a macro with the Arrow type, for the types whose values are whole numbers of at most 64 bits.
macro_rules! whole {
    ($data_type:expr, $helper:ident) => {
        match $data_type {
            DataType::Int8 => $helper!(Int8Type),
            DataType::Int16 => $helper!(Int16Type),
            DataType::Int32 => $helper!(Int32Type),
            DataType::Int64 => $helper!(Int64Type),
            DataType::UInt8 => $helper!(UInt8Type),
            DataType::UInt16 => $helper!(UInt16Type),
            DataType::UInt32 => $helper!(UInt32Type),
            DataType::UInt64 => $helper!(UInt64Type),
            DataType::Date32 => $helper!(Date32Type),
            DataType::Date64 => $helper!(Date64Type),
            DataType::Time32(TimeUnit::Second) => $helper!(Time32SecondType),
            DataType::Time32(TimeUnit::Millisecond) => $helper!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => $helper!(Time64MicrosecondType),
            DataType::Time64(TimeUnit::Nanosecond) => $helper!(Time64NanosecondType),
            DataType::Timestamp(TimeUnit::Second, _) => $helper!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $helper!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $helper!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $helper!(TimestampNanosecondType),
            DataType::Duration(TimeUnit::Second) => $helper!(DurationSecondType),
            DataType::Duration(TimeUnit::Millisecond) => $helper!(DurationMillisecondType),
            DataType::Duration(TimeUnit::Microsecond) => $helper!(DurationMicrosecondType),
            DataType::Duration(TimeUnit::Nanosecond) => $helper!(DurationNanosecondType),
            DataType::Decimal32(_, _) => $helper!(Decimal32Type),
            DataType::Decimal64(_, _) => $helper!(Decimal64Type),
            _ => None,
        }
    };
}

/// A native value as an `i64` of the same order.
trait Whole: Copy {
    fn to_i64(self) -> i64;
    fn from_i64(value: i64) -> Self;
}

macro_rules! impl_whole {
    ($($native:ty),+) => {
        $(impl Whole for $native {
            fn to_i64(self) -> i64 {
                i64::from(self)
            }

            fn from_i64(value: i64) -> Self {
                value as $native
            }
        })+
    };
}

impl_whole!(i8, i16, i32, i64, u8, u16, u32);

impl Whole for u64 {
    fn to_i64(self) -> i64 {
        (self ^ (1 << 63)) as i64
    }

    fn from_i64(value: i64) -> Self {
        value as u64 ^ (1 << 63)
    }
}

type Encode = fn(&ArrayRef) -> Result<Vec<i64>>;
type Decode = fn(&mut dyn Iterator<Item = Option<i64>>, &DataType) -> ArrayRef;

/// One column of whole numbers. Its nulls are not told from other values.
#[derive(Debug)]
pub struct Integers {
    types: [DataType; 1],
    encode: Encode,
    decode: Decode,
}

impl Integers {
    /// `None`: values of this type are no whole numbers of at most 64 bits.
    pub fn new(data_type: &DataType) -> Option<Self> {
        macro_rules! functions {
            ($type:ty) => {
                Some((encode::<$type> as Encode, decode::<$type> as Decode))
            };
        }
        let (encode, decode) = whole!(data_type, functions)?;
        Some(Self { types: [data_type.clone()], encode, decode })
    }
}

fn encode<T: ArrowPrimitiveType<Native: Whole>>(column: &ArrayRef) -> Result<Vec<i64>> {
    Ok(primitive::<T>(column)?.values().iter().map(|value| value.to_i64()).collect())
}

fn decode<T: ArrowPrimitiveType<Native: Whole>>(
    values: &mut dyn Iterator<Item = Option<i64>>,
    data_type: &DataType,
) -> ArrayRef {
    let values: PrimitiveArray<T> = values.map(|value| value.map(T::Native::from_i64)).collect();
    Arc::new(values.with_data_type(data_type.clone()))
}

impl Coding for Integers {
    type Key = i64;
    type Value = i64;
    type Column = Vec<i64>;

    fn encode(&self, columns: &[ArrayRef]) -> Result<Vec<i64>> {
        (self.encode)(super::state::only(columns)?)
    }

    #[inline]
    fn value(column: &Vec<i64>, row: usize) -> &i64 {
        &column[row]
    }

    #[inline]
    fn own(value: &i64) -> i64 {
        *value
    }

    fn heap_bytes(_: &i64) -> usize {
        0
    }

    fn decode<'a>(&self, values: impl Iterator<Item = Option<&'a i64>>) -> Result<Vec<ArrayRef>> {
        Ok(vec![(self.decode)(&mut values.map(|value| value.copied()), &self.types[0])])
    }

    fn types(&self) -> &[DataType] {
        &self.types
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Any number of columns, in an order; nulls are values.
#[derive(Debug)]
pub struct Bytes {
    types: Vec<DataType>,
    converter: RowConverter,
    nulls: Box<[u8]>,
    /// Floats that are equal are one value.
    canonical: bool,
}

impl Bytes {
    pub fn new(columns: Vec<(DataType, SortOptions)>) -> Result<Self> {
        let types: Vec<DataType> = columns.iter().map(|(data_type, _)| data_type.clone()).collect();
        let fields = columns.into_iter().map(|(data_type, options)| SortField::new_with_options(data_type, options));
        let converter = RowConverter::new(fields.collect())?;
        let nulls: Vec<ArrayRef> = types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        let nulls = converter.convert_columns(&nulls)?.row(0).data().into();
        Ok(Self { types, converter, nulls, canonical: false })
    }

    /// As [`Bytes::new`], with floats that are equal as one value.
    pub fn canonical(columns: Vec<(DataType, SortOptions)>) -> Result<Self> {
        Ok(Self { canonical: true, ..Self::new(columns)? })
    }
}

impl Coding for Bytes {
    type Key = Box<[u8]>;
    type Value = [u8];
    type Column = Rows;

    fn encode(&self, columns: &[ArrayRef]) -> Result<Rows> {
        if !self.canonical {
            return self.converter.convert_columns(columns).map_err(external);
        }
        let columns = columns.iter().map(canonical).collect::<Result<Vec<_>>>()?;
        self.converter.convert_columns(&columns).map_err(external)
    }

    #[inline]
    fn value(column: &Rows, row: usize) -> &[u8] {
        column.row(row).data()
    }

    fn own(value: &[u8]) -> Box<[u8]> {
        value.into()
    }

    fn heap_bytes(value: &[u8]) -> usize {
        value.len()
    }

    fn decode<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let values: Vec<&[u8]> = values.map(|value| value.unwrap_or(&self.nulls)).collect();
        let columns = self.converter.convert_rows(values.iter().map(|value| parser.parse(value)))?;
        // Rows know no dictionaries.
        let typed = columns.into_iter().zip(&self.types).map(|(column, data_type)| {
            if column.data_type() == data_type { Ok(column) } else { Ok(cast(&column, data_type)?) }
        });
        typed.collect()
    }

    fn types(&self) -> &[DataType] {
        &self.types
    }

    fn memory_bytes(&self) -> usize {
        self.converter.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, Float64Array, Int8Array, StringArray, TimestampSecondArray, UInt64Array};

    fn check<C: Coding>(coding: &C, column: ArrayRef) {
        let keys = coding.encode(std::slice::from_ref(&column)).expect("encode");
        let keys: Vec<&C::Value> = (0..column.len()).map(|row| C::value(&keys, row)).collect();
        assert!(keys.is_sorted(), "{keys:?} of {column:?}");
        assert_eq!(coding.decode(keys.iter().map(|key| Some(*key))).expect("decode"), [column]);
    }

    #[test]
    fn keys_are_ordered_as_their_values_and_come_back() {
        let columns: [ArrayRef; 3] = [
            Arc::new(Int8Array::from(vec![i8::MIN, -1, 0, 1, i8::MAX])),
            Arc::new(UInt64Array::from(vec![0, 1, u64::MAX / 2 + 1, u64::MAX])),
            Arc::new(TimestampSecondArray::from(vec![-1, 1]).with_timezone("+00:00")),
        ];
        for column in columns {
            check(&Integers::new(column.data_type()).expect("whole numbers"), column);
        }
        let columns: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(vec![None, Some(f64::NEG_INFINITY), Some(-0.0), Some(0.0), Some(f64::NAN)])),
            Arc::new(StringArray::from(vec![None, Some(""), Some("a"), Some("ab"), Some("b")])),
        ];
        for column in columns {
            check(&Bytes::new(vec![(column.data_type().clone(), SortOptions::default())]).expect("rows"), column);
        }
    }

    #[test]
    fn what_is_not_there_is_null() {
        let types = vec![(DataType::Utf8, SortOptions::default()), (DataType::Int64, SortOptions::default())];
        let columns = Bytes::new(types).expect("rows").decode([None, None].into_iter()).expect("decode");
        assert_eq!(columns.iter().map(|column| column.null_count()).collect::<Vec<_>>(), [2, 2]);
        let column = Integers::new(&DataType::Int64).expect("whole").decode([None].into_iter()).expect("decode");
        assert_eq!(column[0].null_count(), 1);
    }
}
