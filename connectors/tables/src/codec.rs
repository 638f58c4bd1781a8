//! Rows as bytes: our own encoding, fixed for ever by the golden vectors at the foot.
//!
//! A row is its columns one after another, each a byte 0 for null, or 1 and the value. Numbers are big-endian with
//! their sign bit flipped (negative floats with all bits flipped), so that bytes compare as the numbers do. Text and
//! bytes are a 32-bit length and the bytes; in keys they are instead escaped (0 becomes 0 255) and ended by 0 1, so
//! that keys compare as their values do, column by column, nulls first.
//!
//! Invariant: `decode(encode(rows)) == rows`, and for keys, equal values give equal bytes: negative zero is written as
//! zero. Both work through one column at a time, so that the type is looked at once per column, not once per value.

use crate::{Error, Result};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanBuilder, PrimitiveArray, PrimitiveBuilder,
    StringBuilder,
};
use arrow::datatypes::*;
use std::sync::Arc;

/// Encoded rows back to back.
#[derive(Debug)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// Where each row begins, and the end of the last.
    offsets: Vec<usize>,
}

impl EncodedRows {
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn row(&self, at: usize) -> &[u8] {
        &self.bytes[self.offsets[at]..self.offsets[at + 1]]
    }
}

/// What rows are encoded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Key,
    Value,
}

/// A value of fixed width whose bytes compare as it does.
trait Ordered: Copy {
    const WIDTH: usize;
    fn put(self, out: &mut [u8]);
    fn take(bytes: &[u8]) -> Self;
    /// The one representation among equal ones.
    fn canonical(self) -> Self {
        self
    }
}

macro_rules! ordered_integers {
    ($($kind:ty, $flip:expr);+ $(;)?) => {
        $(impl Ordered for $kind {
            const WIDTH: usize = size_of::<$kind>();
            fn put(self, out: &mut [u8]) {
                out[..Self::WIDTH].copy_from_slice(&(self ^ $flip).to_be_bytes());
            }
            fn take(bytes: &[u8]) -> Self {
                let mut word = [0; Self::WIDTH];
                word.copy_from_slice(&bytes[..Self::WIDTH]);
                <$kind>::from_be_bytes(word) ^ $flip
            }
        })+
    };
}

ordered_integers!(
    u8, 0; u16, 0; u32, 0; u64, 0;
    i8, i8::MIN; i16, i16::MIN; i32, i32::MIN; i64, i64::MIN; i128, i128::MIN;
);

macro_rules! ordered_floats {
    ($($kind:ty, $bits:ty);+ $(;)?) => {
        $(impl Ordered for $kind {
            const WIDTH: usize = size_of::<$kind>();
            fn put(self, out: &mut [u8]) {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits = self.to_bits();
                (if bits & SIGN == 0 { bits ^ SIGN } else { !bits }).put(out);
            }
            fn take(bytes: &[u8]) -> Self {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits = <$bits>::take(bytes);
                <$kind>::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN })
            }
            fn canonical(self) -> Self {
                if self == 0.0 {
                    0.0
                } else if self.is_nan() {
                    <$kind>::NAN
                } else {
                    self
                }
            }
        })+
    };
}

ordered_floats!(f32, u32; f64, u64);

/// Calls `$go!(ArrowType)` for a type of fixed width, else evaluates `$other`.
macro_rules! by_fixed_type {
    ($kind:expr, $go:ident, $other:expr) => {
        match $kind {
            DataType::Int8 => $go!(Int8Type),
            DataType::Int16 => $go!(Int16Type),
            DataType::Int32 => $go!(Int32Type),
            DataType::Int64 => $go!(Int64Type),
            DataType::UInt8 => $go!(UInt8Type),
            DataType::UInt16 => $go!(UInt16Type),
            DataType::UInt32 => $go!(UInt32Type),
            DataType::UInt64 => $go!(UInt64Type),
            DataType::Float32 => $go!(Float32Type),
            DataType::Float64 => $go!(Float64Type),
            DataType::Date32 => $go!(Date32Type),
            DataType::Date64 => $go!(Date64Type),
            DataType::Time32(TimeUnit::Second) => $go!(Time32SecondType),
            DataType::Time32(TimeUnit::Millisecond) => $go!(Time32MillisecondType),
            DataType::Time64(TimeUnit::Microsecond) => $go!(Time64MicrosecondType),
            DataType::Time64(TimeUnit::Nanosecond) => $go!(Time64NanosecondType),
            DataType::Timestamp(TimeUnit::Second, _) => $go!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $go!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $go!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $go!(TimestampNanosecondType),
            DataType::Decimal128(..) => $go!(Decimal128Type),
            _ => $other,
        }
    };
}

/// Encodes `n_rows` rows of these columns, whose types must be ones that a table can have.
pub fn encode(columns: &[ArrayRef], n_rows: usize, purpose: Purpose) -> Result<EncodedRows> {
    let mut offsets = vec![0usize; n_rows + 1];
    for column in columns {
        add_lengths(column, purpose, &mut offsets[1..])?;
    }
    for at in 0..n_rows {
        offsets[at + 1] += offsets[at];
    }
    let mut bytes = vec![0u8; offsets[n_rows]];
    let mut cursors = offsets[..n_rows].to_vec();
    for column in columns {
        put_column(column, purpose, &mut bytes, &mut cursors)?;
    }
    assert!(cursors.iter().zip(&offsets[1..]).all(|(cursor, end)| cursor == end), "lengths and bytes of rows differ");
    Ok(EncodedRows { bytes, offsets })
}

fn unsupported(kind: &DataType) -> Error {
    Error::Invalid(format!("values of type {kind} cannot be kept"))
}

fn add_lengths(column: &ArrayRef, purpose: Purpose, lengths: &mut [usize]) -> Result<()> {
    let mut add = |length: &dyn Fn(usize) -> usize| {
        for (row, total) in lengths.iter_mut().enumerate() {
            *total += 1 + if column.is_null(row) { 0 } else { length(row) };
        }
    };
    macro_rules! fixed {
        ($kind:ty) => {
            add(&|_| <<$kind as ArrowPrimitiveType>::Native as Ordered>::WIDTH)
        };
    }
    by_fixed_type!(
        column.data_type(),
        fixed,
        match column.data_type() {
            DataType::Boolean => add(&|_| 1),
            DataType::Utf8 => add(&|row| bytes_length(column.as_string::<i32>().value(row).as_bytes(), purpose)),
            DataType::Binary => add(&|row| bytes_length(column.as_binary::<i32>().value(row), purpose)),
            other => return Err(unsupported(other)),
        }
    );
    Ok(())
}

fn bytes_length(value: &[u8], purpose: Purpose) -> usize {
    match purpose {
        Purpose::Value => 4 + value.len(),
        Purpose::Key => value.len() + value.iter().filter(|byte| **byte == 0).count() + 2,
    }
}

fn put_column(column: &ArrayRef, purpose: Purpose, bytes: &mut [u8], cursors: &mut [usize]) -> Result<()> {
    macro_rules! fixed {
        ($kind:ty) => {
            put_fixed::<$kind>(column.as_primitive::<$kind>(), purpose, bytes, cursors)
        };
    }
    by_fixed_type!(
        column.data_type(),
        fixed,
        match column.data_type() {
            DataType::Boolean => {
                let values = column.as_boolean();
                put_each(column, bytes, cursors, |row, out| {
                    out[0] = u8::from(values.value(row));
                    1
                });
            }
            DataType::Utf8 => {
                let values = column.as_string::<i32>();
                put_each(column, bytes, cursors, |row, out| put_bytes(values.value(row).as_bytes(), purpose, out));
            }
            DataType::Binary => {
                let values = column.as_binary::<i32>();
                put_each(column, bytes, cursors, |row, out| put_bytes(values.value(row), purpose, out));
            }
            other => return Err(unsupported(other)),
        }
    );
    Ok(())
}

fn put_each(
    column: &ArrayRef,
    bytes: &mut [u8],
    cursors: &mut [usize],
    mut put: impl FnMut(usize, &mut [u8]) -> usize,
) {
    for (row, cursor) in cursors.iter_mut().enumerate() {
        let present = column.is_valid(row);
        bytes[*cursor] = u8::from(present);
        *cursor += 1;
        if present {
            *cursor += put(row, &mut bytes[*cursor..]);
        }
    }
}

fn put_fixed<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    purpose: Purpose,
    bytes: &mut [u8],
    cursors: &mut [usize],
) where
    T::Native: Ordered,
{
    for (row, cursor) in cursors.iter_mut().enumerate() {
        let present = values.is_valid(row);
        bytes[*cursor] = u8::from(present);
        *cursor += 1;
        if present {
            let value = values.value(row);
            let value = if purpose == Purpose::Key { value.canonical() } else { value };
            value.put(&mut bytes[*cursor..]);
            *cursor += T::Native::WIDTH;
        }
    }
}

fn put_bytes(value: &[u8], purpose: Purpose, out: &mut [u8]) -> usize {
    match purpose {
        Purpose::Value => {
            // Arrow's 32-bit offsets bound a value far below this.
            (value.len() as u32).put(out);
            out[4..4 + value.len()].copy_from_slice(value);
            4 + value.len()
        }
        Purpose::Key => {
            let mut at = 0;
            for byte in value {
                out[at] = *byte;
                at += 1;
                if *byte == 0 {
                    out[at] = 255;
                    at += 1;
                }
            }
            out[at..at + 2].copy_from_slice(&[0, 1]);
            at + 2
        }
    }
}

/// Reads the columns `projection` (rising or not) out of rows that were encoded as values of `schema`.
pub fn decode(rows: &[&[u8]], schema: &Schema, projection: &[usize]) -> Result<Vec<ArrayRef>> {
    let mut cursors = vec![0usize; rows.len()];
    let last = projection.iter().copied().max();
    let mut decoded: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
    for (at, field) in schema.fields().iter().enumerate() {
        if last.is_none_or(|last| at > last) {
            break;
        }
        if projection.contains(&at) {
            decoded[at] = Some(take_column(rows, &mut cursors, field.data_type())?);
        } else {
            skip_column(rows, &mut cursors, field.data_type())?;
        }
    }
    let column = |at: &usize| {
        decoded.get(*at).cloned().flatten().ok_or_else(|| Error::Invalid(format!("there is no column number {at}")))
    };
    projection.iter().map(column).collect()
}

fn cut() -> Error {
    Error::Corrupt("a row ends within a value".to_owned())
}

/// The next value's bytes, `None` for null; the cursor goes behind them.
fn take_value<'a>(row: &'a [u8], cursor: &mut usize, width: Width) -> Result<Option<&'a [u8]>> {
    match row.get(*cursor) {
        None => return Err(cut()),
        Some(0) => {
            *cursor += 1;
            return Ok(None);
        }
        Some(1) => {}
        Some(other) => return Err(Error::Corrupt(format!("a value begins with {other}"))),
    }
    let mut begin = *cursor + 1;
    let width = match width {
        Width::Fixed(width) => width,
        Width::Counted => {
            let count = u32::take(row.get(begin..begin + 4).ok_or_else(cut)?) as usize;
            begin += 4;
            count
        }
    };
    *cursor = begin + width;
    row.get(begin..*cursor).map(Some).ok_or_else(cut)
}

#[derive(Clone, Copy)]
enum Width {
    Fixed(usize),
    Counted,
}

fn width(kind: &DataType) -> Result<Width> {
    macro_rules! fixed {
        ($kind:ty) => {
            Width::Fixed(<<$kind as ArrowPrimitiveType>::Native as Ordered>::WIDTH)
        };
    }
    Ok(by_fixed_type!(
        kind,
        fixed,
        match kind {
            DataType::Boolean => Width::Fixed(1),
            DataType::Utf8 | DataType::Binary => Width::Counted,
            other => return Err(unsupported(other)),
        }
    ))
}

fn skip_column(rows: &[&[u8]], cursors: &mut [usize], kind: &DataType) -> Result<()> {
    let width = width(kind)?;
    for (row, cursor) in rows.iter().zip(cursors) {
        take_value(row, cursor, width)?;
    }
    Ok(())
}

fn take_column(rows: &[&[u8]], cursors: &mut [usize], kind: &DataType) -> Result<ArrayRef> {
    let width = width(kind)?;
    let mut each = rows.iter().zip(cursors).map(|(row, cursor)| take_value(row, cursor, width));
    macro_rules! fixed {
        ($kind:ty) => {{
            let mut builder = PrimitiveBuilder::<$kind>::with_capacity(rows.len());
            for value in each {
                builder.append_option(value?.map(<$kind as ArrowPrimitiveType>::Native::take));
            }
            Arc::new(builder.finish().with_data_type(kind.clone()))
        }};
    }
    Ok(by_fixed_type!(
        kind,
        fixed,
        match kind {
            DataType::Boolean => {
                let mut builder = BooleanBuilder::with_capacity(rows.len());
                for value in each {
                    builder.append_option(value?.map(|byte| byte[0] != 0));
                }
                Arc::new(builder.finish())
            }
            DataType::Utf8 => {
                let mut builder = StringBuilder::new();
                for value in each {
                    let text = value?.map(std::str::from_utf8).transpose();
                    builder.append_option(text.map_err(|_| Error::Corrupt("a text is not UTF-8".to_owned()))?);
                }
                Arc::new(builder.finish())
            }
            _ => {
                let mut builder = BinaryBuilder::new();
                each.try_for_each(|value| value.map(|bytes| builder.append_option(bytes)))?;
                Arc::new(builder.finish())
            }
        }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use proptest::prelude::*;

    #[test]
    fn golden_vectors() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(-2), None])),
            Arc::new(StringArray::from(vec![Some("a\0b"), Some("")])),
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(1.5)])),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(UInt16Array::from(vec![Some(258), Some(0)])),
        ];
        let values = encode(&columns, 2, Purpose::Value).unwrap();
        #[rustfmt::skip]
        assert_eq!(values.row(0), [
            1, 127, 255, 255, 255, 255, 255, 255, 254, 1, 0, 0, 0, 3, 97, 0, 98,
            1, 127, 255, 255, 255, 255, 255, 255, 255, 1, 1, 1, 1, 2,
        ]);
        assert_eq!(values.row(1), [0, 1, 0, 0, 0, 0, 1, 191, 248, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        let keys = encode(&columns, 2, Purpose::Key).unwrap();
        #[rustfmt::skip]
        assert_eq!(keys.row(0), [
            1, 127, 255, 255, 255, 255, 255, 255, 254, 1, 97, 0, 255, 98, 0, 1,
            1, 128, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2,
        ]);
        let more: Vec<ArrayRef> = vec![
            Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(10, 2).unwrap()),
            Arc::new(TimestampMicrosecondArray::from(vec![-1]).with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![1])),
            Arc::new(BinaryArray::from(vec![&b"\xff"[..]])),
            Arc::new(Float32Array::from(vec![-1.0])),
            Arc::new(Int8Array::from(vec![-128])),
        ];
        #[rustfmt::skip]
        assert_eq!(encode(&more, 1, Purpose::Value).unwrap().row(0), [
            1, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 127, 255, 255, 255, 255, 255, 255, 255,
            1, 128, 0, 0, 1, 1, 0, 0, 0, 1, 255, 1, 64, 127, 255, 255, 1, 0,
        ]);
    }

    type Row = (Option<i32>, Option<String>, Option<f64>, Option<Vec<u8>>);

    fn arrays(rows: &[Row]) -> Vec<ArrayRef> {
        vec![
            Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
            Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.3.clone()).collect::<BinaryArray>()),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let text = prop::collection::vec(prop::sample::select(vec!['\0', '\u{1}', 'a', 'ß']), 0..4);
        let row = (
            prop::option::of(-3..3i32),
            prop::option::of(text.prop_map(String::from_iter)),
            prop::option::of(any::<f64>().prop_filter("NaN is equal to nothing", |x| !x.is_nan())),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
        );
        prop::collection::vec(row, 1..20)
    }

    proptest! {
        #[test]
        fn rows_are_read_back(rows in rows()) {
            let columns = arrays(&rows);
            let fields: Vec<Field> =
                columns.iter().enumerate().map(|(at, c)| Field::new(at.to_string(), c.data_type().clone(), true)).collect();
            let schema = Schema::new(fields);
            let encoded = encode(&columns, rows.len(), Purpose::Value).unwrap();
            let all: Vec<&[u8]> = (0..encoded.len()).map(|at| encoded.row(at)).collect();
            prop_assert_eq!(&decode(&all, &schema, &[0, 1, 2, 3]).unwrap(), &columns);
            let some = decode(&all, &schema, &[3, 1]).unwrap();
            prop_assert_eq!(&some, &vec![columns[3].clone(), columns[1].clone()]);
            // Cut rows are refused, never misread or a panic.
            let cut: Vec<&[u8]> = all.iter().map(|row| &row[..row.len() - 1]).collect();
            prop_assert!(decode(&cut, &schema, &[0, 1, 2, 3]).is_err());
        }

        #[test]
        fn keys_compare_as_rows_do(rows in rows()) {
            let encoded = encode(&arrays(&rows), rows.len(), Purpose::Key).unwrap();
            for a in 0..rows.len() {
                for b in 0..rows.len() {
                    let expected = rows[a].partial_cmp(&rows[b]).unwrap();
                    prop_assert_eq!(encoded.row(a).cmp(encoded.row(b)), expected, "{:?} {:?}", rows[a], rows[b]);
                }
            }
        }
    }
}
