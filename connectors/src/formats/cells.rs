//! Columns to be written row by row: few kinds, whichever way Arrow lays them out.
//!
//! Invariant: a cell is what its column says; only the width of numbers and the layout of bytes are made alike, once for a
//! whole column.

use super::is_text;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use std::ops::Range;
use std::sync::Arc;

pub enum Cells {
    Booleans(BooleanArray),
    /// Numbers, and times in the unit of their column.
    Integers(Int64Array),
    Floats(Float32Array),
    Doubles(Float64Array),
    Decimals(Decimal128Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Struct {
        nulls: Option<NullBuffer>,
        fields: Vec<Cells>,
    },
    List {
        nulls: Option<NullBuffer>,
        offsets: OffsetBuffer<i32>,
        items: Box<Cells>,
    },
    Map {
        nulls: Option<NullBuffer>,
        offsets: OffsetBuffer<i32>,
        keys: StringArray,
        values: Box<Cells>,
    },
}

impl Cells {
    pub fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        use DataType as D;
        let integers =
            |column: &ArrayRef| Ok(Self::Integers(cast(column, &D::Int64)?.as_primitive::<Int64Type>().clone()));
        match column.data_type() {
            D::Boolean => Ok(Self::Booleans(column.as_boolean().clone())),
            D::Date32 | D::Time32(_) => integers(&cast(column, &D::Int32)?),
            D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => integers(column),
            D::Timestamp(..) | D::Time64(_) => integers(column),
            D::Float32 => Ok(Self::Floats(column.as_primitive::<Float32Type>().clone())),
            D::Float64 => Ok(Self::Doubles(column.as_primitive::<Float64Type>().clone())),
            D::Decimal128(..) => Ok(Self::Decimals(column.as_primitive::<Decimal128Type>().clone())),
            kind if is_text(kind) => Ok(Self::Text(cast(column, &D::Utf8)?.as_string::<i32>().clone())),
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => {
                Ok(Self::Bytes(cast(column, &D::Binary)?.as_binary::<i32>().clone()))
            }
            D::Struct(_) => {
                let column = column.as_struct();
                let fields = column.columns().iter().map(Self::of).collect::<Result<_, _>>()?;
                Ok(Self::Struct { nulls: column.nulls().cloned(), fields })
            }
            D::List(_) => {
                let column = column.as_list::<i32>();
                let items = Box::new(Self::of(column.values())?);
                Ok(Self::List { nulls: column.nulls().cloned(), offsets: column.offsets().clone(), items })
            }
            D::Map(..) => {
                let column = column.as_map();
                Ok(Self::Map {
                    nulls: column.nulls().cloned(),
                    offsets: column.offsets().clone(),
                    keys: cast(column.keys(), &D::Utf8)?.as_string::<i32>().clone(),
                    values: Box::new(Self::of(column.values())?),
                })
            }
            other => Err(ArrowError::NotYetImplemented(format!("values of type {other}"))),
        }
    }

    pub fn is_null(&self, row: usize) -> bool {
        let within = |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        match self {
            Self::Booleans(column) => column.is_null(row),
            Self::Integers(column) => column.is_null(row),
            Self::Floats(column) => column.is_null(row),
            Self::Doubles(column) => column.is_null(row),
            Self::Decimals(column) => column.is_null(row),
            Self::Text(column) => column.is_null(row),
            Self::Bytes(column) => column.is_null(row),
            Self::Struct { nulls, .. } | Self::List { nulls, .. } | Self::Map { nulls, .. } => within(nulls),
        }
    }
}

/// The items of a row.
pub fn items(offsets: &OffsetBuffer<i32>, row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// The number times `wanted` over `had` units in a second, rounded down; none where it is out of range.
pub fn in_unit(value: i64, had: i64, wanted: i64) -> Option<i64> {
    if wanted >= had { value.checked_mul(wanted / had) } else { Some(value.div_euclid(had / wanted)) }
}

/// How many of a unit are in a second.
pub fn per_second_in(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A map from text, whose values may be null.
pub fn map_of_text(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

/// The value of a map's entries.
pub fn map_value(entries: &FieldRef) -> Option<&FieldRef> {
    match entries.data_type() {
        DataType::Struct(fields) => fields.get(1),
        _ => None,
    }
}
