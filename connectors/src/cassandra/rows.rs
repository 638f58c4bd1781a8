//! CQL values as Arrow columns.
//!
//! Invariant: a value that the column cannot hold without loss is an error that names column and value, never a null.

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, Time64NanosecondArray,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use scylla::value::{CqlDecimal, CqlValue, Row};
use std::sync::Arc;

type Cells = Vec<Option<CqlValue>>;

/// Rows whose columns are those of `schema`, or more.
pub fn batch(schema: &SchemaRef, rows: Vec<Row>) -> Result<RecordBatch, String> {
    let n_rows = rows.len();
    let mut columns: Vec<Cells> = schema.fields().iter().map(|_| Vec::with_capacity(n_rows)).collect();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row.columns) {
            column.push(cell);
        }
    }
    let arrays = schema.fields().iter().zip(columns).map(|(field, cells)| column(field, cells));
    let arrays = arrays.collect::<Result<Vec<ArrayRef>, String>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(|why| why.to_string())
}

/// One column of one batch.
pub fn column(field: &Field, cells: Cells) -> Result<ArrayRef, String> {
    let array: ArrayRef = match field.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::from(all(field, cells, |cell| cell.as_boolean())?)),
        DataType::Int8 => Arc::new(Int8Array::from(all(field, cells, |cell| cell.as_tinyint())?)),
        DataType::Int16 => Arc::new(Int16Array::from(all(field, cells, |cell| cell.as_smallint())?)),
        DataType::Int32 => Arc::new(Int32Array::from(all(field, cells, |cell| cell.as_int())?)),
        DataType::Int64 => Arc::new(Int64Array::from(all(field, cells, |cell| cell.as_bigint())?)),
        DataType::Float32 => Arc::new(Float32Array::from(all(field, cells, |cell| cell.as_float())?)),
        DataType::Float64 => Arc::new(Float64Array::from(all(field, cells, |cell| cell.as_double())?)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Arc::new(StringArray::from(all(field, cells, text)?))
        }
        DataType::Timestamp(..) => Arc::new(TimestampMillisecondArray::from(all(field, cells, |cell| {
            cell.as_cql_timestamp().map(|timestamp| timestamp.0)
        })?)),
        DataType::Date32 => Arc::new(Date32Array::from(all(field, cells, |cell| {
            // CQL counts days from 2^31 days before 1970.
            cell.as_cql_date().map(|date| (date.0 ^ 0x8000_0000) as i32)
        })?)),
        DataType::Time64(_) => {
            Arc::new(Time64NanosecondArray::from(all(field, cells, |cell| cell.as_cql_time().map(|time| time.0))?))
        }
        DataType::Decimal128(precision, scale) => {
            let scale = i32::from(*scale);
            let most = 10i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            let numbers = all(field, cells, |cell| {
                let number = match cell {
                    CqlValue::Decimal(decimal) => rescaled(decimal, scale),
                    CqlValue::Varint(number) => wide(number.as_signed_bytes_be_slice()),
                    _ => None,
                };
                number.filter(|number| (-most < *number) && (*number < most))
            })?;
            let array = Decimal128Array::from(numbers).with_precision_and_scale(*precision, scale as i8);
            Arc::new(array.map_err(|why| format!("column '{}': {why}", field.name()))?)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let blobs: Vec<Option<Vec<u8>>> = all(field, cells, |cell| match cell {
                CqlValue::Blob(bytes) => Some(bytes.clone()),
                CqlValue::Uuid(uuid) => Some(uuid.as_bytes().to_vec()),
                CqlValue::Timeuuid(uuid) => Some(uuid.as_bytes().to_vec()),
                _ => None,
            })?;
            Arc::new(BinaryArray::from_iter(blobs))
        }
        other => return Err(format!("column '{}': no CQL type is {other}", field.name())),
    };
    cast(&array, field.data_type()).map_err(|why| format!("column '{}': {why}", field.name()))
}

fn all<T>(field: &Field, cells: Cells, read: impl Fn(&CqlValue) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    let one = |cell: CqlValue| {
        // Thrift's heritage: an empty value of any type, which is no value.
        if cell == CqlValue::Empty {
            return Ok(None);
        }
        match read(&cell) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("column '{}': {cell:?} is not a {}", field.name(), field.data_type())),
        }
    };
    cells.into_iter().map(|cell| cell.map_or(Ok(None), one)).collect()
}

fn text(cell: &CqlValue) -> Option<String> {
    match cell {
        CqlValue::Text(text) | CqlValue::Ascii(text) => Some(text.clone()),
        CqlValue::Uuid(uuid) => Some(uuid.to_string()),
        CqlValue::Timeuuid(uuid) => Some(uuid::Uuid::from_bytes(*uuid.as_bytes()).to_string()),
        CqlValue::Inet(address) => Some(address.to_string()),
        _ => None,
    }
}

/// A big-endian two's complement number, if 128 bits hold it.
fn wide(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let excess = bytes.len().saturating_sub(16);
    if bytes[..excess].iter().any(|byte| *byte != sign) {
        return None;
    }
    let kept = &bytes[excess..];
    let mut full = [sign; 16];
    full[16 - kept.len()..].copy_from_slice(kept);
    let number = i128::from_be_bytes(full);
    ((number < 0) == negative).then_some(number)
}

/// The number at another scale, if nothing of it is lost.
fn rescaled(decimal: &CqlDecimal, scale: i32) -> Option<i128> {
    let (bytes, there) = decimal.as_signed_be_bytes_slice_and_exponent();
    let number = wide(bytes)?;
    let by = scale.checked_sub(there)?;
    let factor = 10i128.checked_pow(by.unsigned_abs());
    if by >= 0 {
        return if number == 0 { Some(0) } else { number.checked_mul(factor?) };
    }
    match factor {
        Some(factor) => (number % factor == 0).then_some(number / factor),
        None => (number == 0).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_change_scale_only_without_loss() {
        let decimal =
            |number: i64, scale| CqlDecimal::from_signed_be_bytes_slice_and_exponent(&number.to_be_bytes(), scale);
        assert_eq!(rescaled(&decimal(-1250, 3), 2), Some(-125));
        assert_eq!(rescaled(&decimal(-1251, 3), 2), None);
        assert_eq!(rescaled(&decimal(5, -2), 2), Some(50_000));
        assert_eq!(rescaled(&decimal(5, 0), 60), None);
        assert_eq!(wide(&[]), Some(0));
        assert_eq!(wide(&[0xff; 20]), Some(-1));
        assert_eq!(wide(&[0x01; 17]), None);
    }
}
