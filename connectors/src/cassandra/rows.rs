//! CQL values as Arrow columns.
//!
//! Invariant: a value that the column cannot hold without loss is an error that names column and value, never a null.

use super::duration::Duration;
use super::values::item;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    Time64NanosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use scylla::value::{CqlDecimal, CqlDuration, CqlValue, Row};
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
        DataType::Struct(fields) => structure(field, fields, cells)?,
        DataType::Map(entries, ordered) => map(field, entries, *ordered, cells)?,
        other => match item(other) {
            Some(item) => list(field, item, cells)?,
            None => return Err(format!("column '{}': no CQL type is {other}", field.name())),
        },
    };
    cast(&array, field.data_type()).map_err(|why| format!("column '{}': {why}", field.name()))
}

/// Where the values of each row begin, and which rows have none.
#[derive(Default)]
struct Lengths {
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Lengths {
    fn push(&mut self, length: Option<usize>) {
        self.lengths.push(length.unwrap_or(0));
        self.valid.push(length.is_some());
    }

    fn buffers(self) -> (OffsetBuffer<i32>, NullBuffer) {
        (OffsetBuffer::from_lengths(self.lengths), NullBuffer::from(self.valid))
    }
}

fn unfit(field: &Field, cell: &CqlValue) -> String {
    format!("column '{}': {cell:?} is not a {}", field.name(), field.data_type())
}

/// A null, or Thrift's heritage: an empty value of any type, which is no value.
fn there(cell: Option<CqlValue>) -> Option<CqlValue> {
    cell.filter(|cell| *cell != CqlValue::Empty)
}

fn list(field: &Field, item: &Arc<Field>, cells: Cells) -> Result<ArrayRef, String> {
    let (mut lengths, mut items) = (Lengths::default(), Vec::new());
    for cell in cells {
        match there(cell) {
            None => lengths.push(None),
            Some(CqlValue::List(values) | CqlValue::Set(values) | CqlValue::Vector(values)) => {
                lengths.push(Some(values.len()));
                items.extend(values.into_iter().map(Some));
            }
            Some(cell) => return Err(unfit(field, &cell)),
        }
    }
    let (offsets, valid) = lengths.buffers();
    let items = column(item, items)?;
    let array = ListArray::try_new(Arc::clone(item), offsets, items, Some(valid)).map_err(|why| why.to_string())?;
    Ok(Arc::new(array))
}

fn map(field: &Field, entries: &Arc<Field>, ordered: bool, cells: Cells) -> Result<ArrayRef, String> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(format!("column '{}': no CQL type is {}", field.name(), field.data_type()));
    };
    let (mut lengths, mut keys, mut values) = (Lengths::default(), Vec::new(), Vec::new());
    for cell in cells {
        match there(cell) {
            None => lengths.push(None),
            Some(CqlValue::Map(pairs)) => {
                lengths.push(Some(pairs.len()));
                for (key, value) in pairs {
                    keys.push(Some(key));
                    values.push(Some(value));
                }
            }
            Some(cell) => return Err(unfit(field, &cell)),
        }
    }
    let (offsets, valid) = lengths.buffers();
    let columns = vec![column(&pair[0], keys)?, column(&pair[1], values)?];
    let inner = StructArray::try_new(pair.clone(), columns, None).map_err(|why| why.to_string())?;
    let array = MapArray::try_new(Arc::clone(entries), offsets, inner, Some(valid), ordered);
    Ok(Arc::new(array.map_err(|why| why.to_string())?))
}

/// Of a user-defined type by name, of a tuple by place. A field that the server's value lacks was added to its type later.
fn structure(field: &Field, fields: &Fields, cells: Cells) -> Result<ArrayRef, String> {
    let n_rows = cells.len();
    let mut columns: Vec<Cells> = fields.iter().map(|_| Vec::with_capacity(n_rows)).collect();
    let mut valid = Vec::with_capacity(n_rows);
    for cell in cells {
        let cell = there(cell);
        valid.push(cell.is_some());
        match cell {
            None => columns.iter_mut().for_each(|column| column.push(None)),
            Some(CqlValue::UserDefinedType { fields: mut found, .. }) => {
                for (field, column) in fields.iter().zip(&mut columns) {
                    let at = found.iter().position(|(name, _)| name == field.name());
                    column.push(at.and_then(|at| found.swap_remove(at).1));
                }
            }
            Some(CqlValue::Tuple(values)) => {
                let mut values = values.into_iter();
                columns.iter_mut().for_each(|column| column.push(values.next().flatten()));
            }
            Some(cell) => return Err(unfit(field, &cell)),
        }
    }
    let arrays = fields.iter().zip(columns).map(|(field, cells)| column(field, cells));
    let arrays = arrays.collect::<Result<Vec<ArrayRef>, String>>()?;
    let array = StructArray::try_new_with_length(fields.clone(), arrays, Some(NullBuffer::from(valid)), n_rows);
    Ok(Arc::new(array.map_err(|why| why.to_string())?))
}

fn all<T>(field: &Field, cells: Cells, read: impl Fn(&CqlValue) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    let one = |cell: CqlValue| read(&cell).map(Some).ok_or_else(|| unfit(field, &cell));
    cells.into_iter().map(|cell| there(cell).map_or(Ok(None), one)).collect()
}

fn text(cell: &CqlValue) -> Option<String> {
    match cell {
        CqlValue::Text(text) | CqlValue::Ascii(text) => Some(text.clone()),
        CqlValue::Uuid(uuid) => Some(uuid.to_string()),
        CqlValue::Timeuuid(uuid) => Some(uuid::Uuid::from_bytes(*uuid.as_bytes()).to_string()),
        CqlValue::Inet(address) => Some(address.to_string()),
        CqlValue::Duration(CqlDuration { months, days, nanoseconds }) => {
            Some(Duration { months: *months, days: *days, nanoseconds: *nanoseconds }.to_string())
        }
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
