//! One column in the making.
//!
//! Nulls are what is not there: a null or missing value appends nothing, and the gap is filled at once when the next
//! value comes, or at the end. Wide records of which most fields are null so cost little.
//!
//! How a value is read is the format's matter; what it becomes is here.
//!
//! Invariant: a column never has more rows than its parent has begun; a second value for a row replaces the first.

use super::is_text;
use super::json::{Map, Object};
use super::timestamp::TimestampForm;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int64Array, ListArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Int8Type, Int16Type, Int32Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Room made in advance for the next batch, at most.
const MOST_ROOM_BYTES: usize = 8 << 20;

pub struct Column {
    field: FieldRef,
    /// Counts the rows, too.
    nulls: NullBufferBuilder,
    pub values: Values,
}

pub enum Values {
    Integer {
        values: Vec<i64>,
        least: i64,
        most: i64,
    },
    Float(Vec<f64>),
    Float32(Vec<f32>),
    Boolean(BooleanBufferBuilder),
    /// `ends` begins with a zero.
    Text {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Timestamp {
        values: Vec<i64>,
        unit: TimeUnit,
        form: TimestampForm,
    },
    Struct(Object),
    List {
        ends: Vec<i32>,
        items: Box<Column>,
    },
    Map(Map),
    Date(Vec<i32>),
    Time {
        values: Vec<i64>,
        unit: TimeUnit,
    },
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Bytes {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
}

impl Values {
    fn of(kind: &DataType, form: TimestampForm) -> Option<Self> {
        let integer = |least, most| Self::Integer { values: Vec::new(), least, most };
        Some(match kind {
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => integer(0, u8::MAX.into()),
            DataType::UInt16 => integer(0, u16::MAX.into()),
            DataType::UInt32 => integer(0, u32::MAX.into()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float(Vec::new()),
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            kind if is_text(kind) => Self::Text { bytes: Vec::new(), ends: vec![0] },
            DataType::Timestamp(unit, _) => Self::Timestamp { values: Vec::new(), unit: *unit, form },
            DataType::Struct(fields) => Self::Struct(Object::new(fields, form)?),
            DataType::List(item) => Self::List { ends: vec![0], items: Box::new(Column::new(item, form)?) },
            DataType::Map(entries, _) => Self::Map(Map::new(entries, form)?),
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time { values: Vec::new(), unit: *unit },
            DataType::Decimal128(precision, scale) => {
                Self::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Self::Bytes { bytes: Vec::new(), ends: vec![0] }
            }
            _ => return None,
        })
    }
}

impl Column {
    /// None for a type that no format fills.
    pub fn new(field: &FieldRef, form: TimestampForm) -> Option<Self> {
        let values = Values::of(field.data_type(), form)?;
        Some(Self { field: field.clone(), nulls: NullBufferBuilder::new(0), values })
    }

    pub fn name(&self) -> &str {
        self.field.name()
    }

    pub fn is_nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// Rows up to the last that has a value.
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Makes ready for the value of row number `row`, which is pushed to `values` next and then told by
    /// [`Column::taken`].
    #[inline(always)]
    pub fn begin(&mut self, row: usize) {
        if self.len() > row {
            self.truncate(row);
        }
        if self.len() < row {
            self.pad(row);
        }
    }

    /// The value of the row that was begun is there.
    #[inline(always)]
    pub fn taken(&mut self) {
        self.nulls.append_non_null();
    }

    /// Nulls up to a row.
    #[inline(never)]
    fn pad(&mut self, rows: usize) {
        self.nulls.append_n_nulls(rows - self.len());
        match &mut self.values {
            Values::Integer { values, .. } | Values::Timestamp { values, .. } | Values::Time { values, .. } => {
                values.resize(rows, 0)
            }
            Values::Date(values) => values.resize(rows, 0),
            Values::Decimal { values, .. } => values.resize(rows, 0),
            Values::Map(map) => map.pad(rows),
            Values::Float(values) => values.resize(rows, 0.0),
            Values::Float32(values) => values.resize(rows, 0.0),
            Values::Boolean(values) => values.append_n(rows - values.len(), false),
            Values::Text { ends, .. } | Values::List { ends, .. } | Values::Bytes { ends, .. } => {
                ends.resize(rows + 1, last(ends))
            }
            // Its columns are filled when they come to a value, or at the end.
            Values::Struct(_) => {}
        }
    }

    /// Cuts off what came at and after a row, even a value that was begun only.
    pub fn truncate(&mut self, rows: usize) {
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
        match &mut self.values {
            Values::Integer { values, .. } | Values::Timestamp { values, .. } | Values::Time { values, .. } => {
                values.truncate(rows)
            }
            Values::Date(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Map(map) => map.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Boolean(values) => {
                if values.len() > rows {
                    values.truncate(rows);
                }
            }
            Values::Text { bytes, ends } | Values::Bytes { bytes, ends } => {
                ends.truncate(rows + 1);
                bytes.truncate(last(ends) as usize);
            }
            Values::Struct(object) => object.truncate(rows),
            Values::List { ends, items } => {
                ends.truncate(rows + 1);
                items.truncate(last(ends) as usize);
            }
        }
    }

    /// The column with so many rows, leaving this one empty.
    pub fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.len() < rows {
            self.pad(rows);
        }
        let nulls = self.nulls.finish();
        let kind = self.field.data_type();
        Ok(match &mut self.values {
            Values::Integer { values, .. } => integers(emptied(values), nulls, kind)?,
            Values::Float(values) => Arc::new(Float64Array::try_new(emptied(values).into(), nulls)?),
            Values::Float32(values) => Arc::new(Float32Array::try_new(emptied(values).into(), nulls)?),
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Text { bytes, ends } => {
                let text = StringArray::try_new(offsets(ends), Buffer::from_vec(emptied(bytes)), nulls)?;
                if *kind == DataType::Utf8 { Arc::new(text) } else { cast(&text, kind)? }
            }
            Values::Timestamp { values, unit, .. } => {
                let values = emptied(values).into();
                match unit {
                    TimeUnit::Second => in_unit::<TimestampSecondType>(values, nulls, kind)?,
                    TimeUnit::Millisecond => in_unit::<TimestampMillisecondType>(values, nulls, kind)?,
                    TimeUnit::Microsecond => in_unit::<TimestampMicrosecondType>(values, nulls, kind)?,
                    TimeUnit::Nanosecond => in_unit::<TimestampNanosecondType>(values, nulls, kind)?,
                }
            }
            Values::Struct(object) => {
                let DataType::Struct(fields) = kind else { return Err(unlike(kind)) };
                let columns = object.finish(rows)?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)?)
            }
            Values::List { ends, items } => {
                let DataType::List(item) = kind else { return Err(unlike(kind)) };
                let n_items = last(ends) as usize;
                Arc::new(ListArray::try_new(item.clone(), offsets(ends), items.finish(n_items)?, nulls)?)
            }
            Values::Map(map) => map.finish(kind, nulls)?,
            Values::Date(values) => Arc::new(Date32Array::try_new(emptied(values).into(), nulls)?),
            Values::Time { values, .. } => {
                let times: ArrayRef = Arc::new(Int64Array::try_new(emptied(values).into(), nulls)?);
                match kind {
                    DataType::Time32(_) => cast(&cast(&times, &DataType::Int32)?, kind)?,
                    _ => cast(&times, kind)?,
                }
            }
            Values::Decimal { values, precision, scale } => {
                let values = Decimal128Array::try_new(emptied(values).into(), nulls)?;
                Arc::new(values.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Bytes { bytes, ends } => {
                let bytes = BinaryArray::try_new(offsets(ends), Buffer::from_vec(emptied(bytes)), nulls)?;
                if *kind == DataType::Binary { Arc::new(bytes) } else { cast(&bytes, kind)? }
            }
        })
    }
}

pub fn unlike(kind: &DataType) -> ArrowError {
    ArrowError::JsonError(format!("{kind} is not what was read"))
}

pub fn last(ends: &[i32]) -> i32 {
    ends.last().copied().unwrap_or(0)
}

/// Takes the values and leaves room for about as many.
fn emptied<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len().min(MOST_ROOM_BYTES / size_of::<T>());
    std::mem::replace(values, Vec::with_capacity(room))
}

pub fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = emptied(ends);
    ends.push(0);
    OffsetBuffer::new(taken.into())
}

fn integers(values: Vec<i64>, nulls: Option<NullBuffer>, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    // The range was checked when they came.
    fn narrow<T: ArrowPrimitiveType>(
        values: &[i64],
        nulls: Option<NullBuffer>,
        to: impl Fn(i64) -> T::Native,
    ) -> Result<ArrayRef, ArrowError> {
        let values: Vec<T::Native> = values.iter().map(|value| to(*value)).collect();
        Ok(Arc::new(PrimitiveArray::<T>::try_new(values.into(), nulls)?))
    }
    match kind {
        DataType::Int8 => narrow::<Int8Type>(&values, nulls, |value| value as i8),
        DataType::Int16 => narrow::<Int16Type>(&values, nulls, |value| value as i16),
        DataType::Int32 => narrow::<Int32Type>(&values, nulls, |value| value as i32),
        DataType::UInt8 => narrow::<UInt8Type>(&values, nulls, |value| value as u8),
        DataType::UInt16 => narrow::<UInt16Type>(&values, nulls, |value| value as u16),
        DataType::UInt32 => narrow::<UInt32Type>(&values, nulls, |value| value as u32),
        _ => Ok(Arc::new(Int64Array::try_new(values.into(), nulls)?)),
    }
}

fn in_unit<T: ArrowPrimitiveType<Native = i64>>(
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
    kind: &DataType,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?.with_data_type(kind.clone())))
}
