//! Arrow rows as CQL values, written straight from the columns into the request.
//!
//! Invariant: a value is written in the server's type, as [`super::types::fits`] allowed it; a text that is no uuid or
//! address where the server wants one is an error that names column and text.

use crate::api::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
};
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use std::net::IpAddr;

/// One column, downcast once per batch.
enum Cells {
    Boolean(BooleanArray),
    TinyInt(PrimitiveArray<Int8Type>),
    SmallInt(PrimitiveArray<Int16Type>),
    Int(PrimitiveArray<Int32Type>),
    BigInt(PrimitiveArray<Int64Type>),
    Float(PrimitiveArray<Float32Type>),
    Double(PrimitiveArray<Float64Type>),
    Text(StringArray),
    Uuid(StringArray),
    Inet(StringArray),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64NanosecondType>),
    Decimal(Decimal128Array, i32),
    Varint(Decimal128Array),
    Bytes(BinaryArray),
}

/// The columns of one batch.
pub struct Columns {
    cells: Vec<(String, Cells)>,
}

/// One row of them, with its write timestamp.
pub struct Row<'a> {
    pub columns: &'a Columns,
    pub row: usize,
    pub timestamp_us: i64,
    /// A DELETE names its timestamp before the key, an INSERT behind the values.
    pub timestamp_first: bool,
}

/// One row of them, as the values of a key.
pub struct Key<'a> {
    pub columns: &'a Columns,
    pub row: usize,
}

impl Columns {
    /// `there` are the server's types, in the order of the batch's columns.
    pub fn new(batch: &RecordBatch, there: &[ColumnType<'static>]) -> Result<Self> {
        assert_eq!(batch.num_columns(), there.len(), "columns of a batch and of a prepared statement");
        let mut cells = Vec::with_capacity(there.len());
        for ((field, column), kind) in batch.schema().fields().iter().zip(batch.columns()).zip(there) {
            let unfit = |why: String| Error::Fatal(format!("column '{}' cannot be written: {why}", field.name()));
            let ColumnType::Native(native) = kind else { return Err(unfit(format!("{kind:?}"))) };
            let column = Cells::new(column, native).map_err(unfit)?;
            cells.push((field.name().clone(), column));
        }
        Ok(Self { cells })
    }

    /// Whether the server can hold just these values: else no row there is equal to this one.
    pub fn can_be_there(&self, row: usize) -> bool {
        self.cells.iter().all(|(_, cells)| match cells {
            Cells::Timestamp(cells) => cells.is_null(row) || cells.value(row) % 1000 == 0,
            Cells::Uuid(cells) => text(cells, row).is_none_or(|text| uuid::Uuid::parse_str(text).is_ok()),
            Cells::Inet(cells) => text(cells, row).is_none_or(|text| text.parse::<IpAddr>().is_ok()),
            _ => true,
        })
    }

    /// Whether all of the row's values are of no bytes: the server takes no such key.
    pub fn is_empty(&self, row: usize) -> bool {
        self.cells.iter().all(|(_, cells)| match cells {
            Cells::Text(cells) => text(cells, row).is_some_and(str::is_empty),
            Cells::Bytes(cells) => cells.is_valid(row) && cells.value(row).is_empty(),
            _ => false,
        })
    }
}

impl Cells {
    fn new(column: &ArrayRef, there: &NativeType) -> std::result::Result<Self, String> {
        let to = |kind: DataType| cast(column, &kind).map_err(|why| why.to_string());
        Ok(match (column.data_type(), there) {
            (DataType::Boolean, _) => Self::Boolean(column.as_boolean().clone()),
            (DataType::Int8, _) => Self::TinyInt(column.as_primitive().clone()),
            (DataType::Int16, _) => Self::SmallInt(column.as_primitive().clone()),
            (DataType::Int32, _) => Self::Int(column.as_primitive().clone()),
            (DataType::Int64, _) => Self::BigInt(column.as_primitive().clone()),
            (DataType::Float32, _) => Self::Float(column.as_primitive().clone()),
            (DataType::Float64, _) => Self::Double(column.as_primitive().clone()),
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, kind) => {
                let text = to(DataType::Utf8)?.as_string::<i32>().clone();
                match kind {
                    NativeType::Uuid | NativeType::Timeuuid => Self::Uuid(text),
                    NativeType::Inet => Self::Inet(text),
                    _ => Self::Text(text),
                }
            }
            (DataType::Timestamp(..), _) => {
                let micros = to(DataType::Timestamp(TimeUnit::Microsecond, None))?;
                Self::Timestamp(micros.as_primitive().clone())
            }
            (DataType::Date32, _) => Self::Date(column.as_primitive().clone()),
            (DataType::Time64(_), _) => Self::Time(to(DataType::Time64(TimeUnit::Nanosecond))?.as_primitive().clone()),
            (DataType::Decimal128(..), NativeType::Varint) => {
                Self::Varint(column.as_primitive::<Decimal128Type>().clone())
            }
            (DataType::Decimal128(_, scale), _) => {
                Self::Decimal(column.as_primitive::<Decimal128Type>().clone(), i32::from(*scale))
            }
            (DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_), _) => {
                Self::Bytes(to(DataType::Binary)?.as_binary::<i32>().clone())
            }
            (other, _) => return Err(format!("no CQL type holds {other}")),
        })
    }

    /// Appends one value, or null.
    fn write(&self, row: usize, writer: &mut RowWriter<'_>) -> std::result::Result<(), String> {
        match self {
            Self::Boolean(cells) => {
                let bytes = cells.is_valid(row).then(|| [u8::from(cells.value(row))]);
                put(writer, bytes.as_ref().map(<[u8; 1]>::as_slice))
            }
            Self::TinyInt(cells) => put(writer, fixed(cells, row, i8::to_be_bytes).as_ref().map(<[u8; 1]>::as_slice)),
            Self::SmallInt(cells) => put(writer, fixed(cells, row, i16::to_be_bytes).as_ref().map(<[u8; 2]>::as_slice)),
            Self::Int(cells) => put(writer, fixed(cells, row, i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice)),
            Self::BigInt(cells) => put(writer, fixed(cells, row, i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            Self::Float(cells) => put(writer, fixed(cells, row, f32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice)),
            Self::Double(cells) => put(writer, fixed(cells, row, f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            Self::Timestamp(cells) => {
                // Rounds down, so that a time before 1970 does not move forward.
                let millis = fixed(cells, row, |micros| micros.div_euclid(1000).to_be_bytes());
                put(writer, millis.as_ref().map(<[u8; 8]>::as_slice))
            }
            Self::Date(cells) => {
                // CQL counts days from 2^31 days before 1970.
                let days = fixed(cells, row, |days| (days as u32 ^ 0x8000_0000).to_be_bytes());
                put(writer, days.as_ref().map(<[u8; 4]>::as_slice))
            }
            Self::Time(cells) => put(writer, fixed(cells, row, i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            Self::Decimal(cells, scale) => {
                let bytes = cells.is_valid(row).then(|| {
                    let mut bytes = scale.to_be_bytes().to_vec();
                    bytes.extend_from_slice(shortest(&cells.value(row).to_be_bytes()));
                    bytes
                });
                put(writer, bytes.as_deref())
            }
            Self::Varint(cells) => {
                let wide = fixed(cells, row, i128::to_be_bytes);
                put(writer, wide.as_ref().map(|bytes| shortest(bytes)))
            }
            Self::Text(cells) => put(writer, text(cells, row).map(str::as_bytes)),
            Self::Uuid(cells) => {
                let uuid = text(cells, row).map(|text| {
                    uuid::Uuid::parse_str(text).map_err(|_| format!("'{text}' is not a uuid, which the server wants"))
                });
                put(writer, uuid.transpose()?.as_ref().map(|uuid| uuid.as_bytes().as_slice()))
            }
            Self::Inet(cells) => {
                let address = text(cells, row).map(|text| {
                    text.parse::<IpAddr>().map_err(|_| format!("'{text}' is not an IP address, which the server wants"))
                });
                match address.transpose()? {
                    None => put(writer, None),
                    Some(IpAddr::V4(address)) => put(writer, Some(&address.octets())),
                    Some(IpAddr::V6(address)) => put(writer, Some(&address.octets())),
                }
            }
            Self::Bytes(cells) => put(writer, cells.is_valid(row).then(|| cells.value(row))),
        }
    }
}

fn put(writer: &mut RowWriter<'_>, bytes: Option<&[u8]>) -> std::result::Result<(), String> {
    let cell = writer.make_cell_writer();
    match bytes {
        None => {
            cell.set_null();
            Ok(())
        }
        Some(bytes) => cell.set_value(bytes).map(|_| ()).map_err(|why| why.to_string()),
    }
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(
    cells: &PrimitiveArray<T>,
    row: usize,
    bytes: impl Fn(T::Native) -> [u8; N],
) -> Option<[u8; N]> {
    cells.is_valid(row).then(|| bytes(cells.value(row)))
}

fn text(cells: &StringArray, row: usize) -> Option<&str> {
    cells.is_valid(row).then(|| cells.value(row))
}

/// A big-endian two's complement number without the leading bytes that its sign repeats.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, second, ..] = bytes {
        let repeats = (*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0);
        if !repeats {
            break;
        }
        bytes = &bytes[1..];
    }
    bytes
}

/// A value that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("column '{column}': {why}")]
struct BadValue {
    column: String,
    why: String,
}

impl SerializeRow for Row<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        assert_eq!(context.columns().len(), self.columns.cells.len() + 1, "values of a prepared statement");
        let timestamp = self.timestamp_us.to_be_bytes();
        if self.timestamp_first {
            writer.make_cell_writer().set_value(&timestamp).map_err(SerializationError::new)?;
        }
        for (name, cells) in &self.columns.cells {
            cells
                .write(self.row, writer)
                .map_err(|why| SerializationError::new(BadValue { column: name.clone(), why }))?;
        }
        if !self.timestamp_first {
            writer.make_cell_writer().set_value(&timestamp).map_err(SerializationError::new)?;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl SerializeRow for Key<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        assert_eq!(context.columns().len(), self.columns.cells.len(), "values of a prepared statement");
        for (name, cells) in &self.columns.cells {
            cells
                .write(self.row, writer)
                .map_err(|why| SerializationError::new(BadValue { column: name.clone(), why }))?;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::shortest;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_shortest_form_is_the_same_number_and_cannot_be_shorter(number in any::<i128>(), shift in 0u32..128) {
            let number = number >> shift;
            let bytes = number.to_be_bytes();
            let short = shortest(&bytes);
            let sign = if number < 0 { 0xff } else { 0 };
            let mut wide = [sign; 16];
            wide[16 - short.len()..].copy_from_slice(short);
            prop_assert_eq!(i128::from_be_bytes(wide), number);
            if let [first, second, ..] = short {
                prop_assert!(!(*first == 0 && *second < 0x80));
                prop_assert!(!(*first == 0xff && *second >= 0x80));
            }
        }
    }
}
