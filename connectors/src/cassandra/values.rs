//! Values of one column as CQL has them, nested ones included.
//!
//! Invariant: a value is written in the server's type, as [`super::types::fits`] allowed it; what the server cannot hold (a
//! text that is no uuid, a null within a list) is an error.

use super::duration;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::net::IpAddr;
use std::sync::Arc;

/// One column, downcast once per batch.
pub enum Cells {
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
    Duration(StringArray),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64NanosecondType>),
    Decimal(Decimal128Array, i32),
    Varint(Decimal128Array),
    Bytes(BinaryArray),
    /// A list or set.
    List(Nested, Box<Cells>),
    /// So many values one after the other.
    Vector(Nested, u16, Box<Cells>),
    Map(Nested, Box<Cells>, Box<Cells>),
    /// The fields of a user-defined type or tuple in the server's order, nothing for one that is not among ours.
    Fields(Option<NullBuffer>, Vec<Option<Cells>>),
}

/// Where a row's values stand among those of all rows.
pub struct Nested {
    valid: Option<NullBuffer>,
    offsets: OffsetBuffer<i32>,
}

impl Nested {
    fn items(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let there = self.valid.as_ref().is_none_or(|valid| valid.is_valid(row));
        there.then(|| self.offsets[row] as usize..self.offsets[row + 1] as usize)
    }
}

impl Cells {
    /// `there` is the server's type.
    pub fn new(column: &ArrayRef, there: &ColumnType<'_>) -> Result<Self, String> {
        let unfit = || format!("no {} holds {}", super::types::cql_name(there), column.data_type());
        Ok(match (column.data_type(), there) {
            (_, ColumnType::Native(native)) => Self::plain(column, native)?,
            (DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..), _) => {
                let field = match column.data_type() {
                    DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field,
                    _ => return Err(unfit()),
                };
                let list = cast(column, &DataType::List(Arc::clone(field))).map_err(|why| why.to_string())?;
                let list = list.as_list::<i32>();
                let nested = Nested { valid: list.nulls().cloned(), offsets: list.offsets().clone() };
                let items = |kind: &ColumnType<'_>| Self::new(list.values(), kind).map(Box::new);
                match there {
                    ColumnType::Collection { typ: CollectionType::List(kind) | CollectionType::Set(kind), .. } => {
                        Self::List(nested, items(kind)?)
                    }
                    ColumnType::Vector { typ, dimensions } => Self::Vector(nested, *dimensions, items(typ)?),
                    _ => return Err(unfit()),
                }
            }
            (DataType::Map(..), ColumnType::Collection { typ: CollectionType::Map(key, value), .. }) => {
                let map = column.as_map();
                let nested = Nested { valid: map.nulls().cloned(), offsets: map.offsets().clone() };
                Self::Map(nested, Box::new(Self::new(map.keys(), key)?), Box::new(Self::new(map.values(), value)?))
            }
            (DataType::Struct(_), ColumnType::UserDefinedType { definition, .. }) => {
                let fields = column.as_struct();
                let of = |(name, kind): &(std::borrow::Cow<'_, str>, ColumnType<'_>)| {
                    fields.column_by_name(name).map(|column| Self::new(column, kind)).transpose()
                };
                let cells = definition.field_types.iter().map(of).collect::<Result<_, String>>()?;
                Self::Fields(fields.nulls().cloned(), cells)
            }
            (DataType::Struct(_), ColumnType::Tuple(kinds)) => {
                let fields = column.as_struct();
                let of = |(column, kind): (&ArrayRef, &ColumnType<'_>)| Self::new(column, kind).map(Some);
                let cells = fields.columns().iter().zip(kinds).map(of).collect::<Result<_, String>>()?;
                Self::Fields(fields.nulls().cloned(), cells)
            }
            _ => return Err(unfit()),
        })
    }

    fn plain(column: &ArrayRef, there: &NativeType) -> Result<Self, String> {
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
                    NativeType::Duration => Self::Duration(text),
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

    /// Whether the server can hold just this value: else no row there is equal to it.
    pub fn can_be_there(&self, row: usize) -> bool {
        match self {
            Self::Timestamp(cells) => cells.is_null(row) || cells.value(row) % 1000 == 0,
            Self::Uuid(cells) => text(cells, row).is_none_or(|text| uuid::Uuid::parse_str(text).is_ok()),
            Self::Inet(cells) => text(cells, row).is_none_or(|text| text.parse::<IpAddr>().is_ok()),
            _ => true,
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self, row: usize) -> bool {
        match self {
            Self::Text(cells) => text(cells, row).is_some_and(str::is_empty),
            Self::Bytes(cells) => cells.is_valid(row) && cells.value(row).is_empty(),
            _ => false,
        }
    }

    /// Appends one value's bytes, without their length. False, and nothing appended, for null.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<bool, String> {
        Ok(match self {
            Self::Boolean(cells) => put(out, cells.is_valid(row).then(|| [u8::from(cells.value(row))])),
            Self::TinyInt(cells) => put(out, fixed(cells, row, i8::to_be_bytes)),
            Self::SmallInt(cells) => put(out, fixed(cells, row, i16::to_be_bytes)),
            Self::Int(cells) => put(out, fixed(cells, row, i32::to_be_bytes)),
            Self::BigInt(cells) => put(out, fixed(cells, row, i64::to_be_bytes)),
            Self::Float(cells) => put(out, fixed(cells, row, f32::to_be_bytes)),
            Self::Double(cells) => put(out, fixed(cells, row, f64::to_be_bytes)),
            // Rounds down, so that a time before 1970 does not move forward.
            Self::Timestamp(cells) => put(out, fixed(cells, row, |micros| micros.div_euclid(1000).to_be_bytes())),
            // CQL counts days from 2^31 days before 1970.
            Self::Date(cells) => put(out, fixed(cells, row, |days| (days as u32 ^ 0x8000_0000).to_be_bytes())),
            Self::Time(cells) => put(out, fixed(cells, row, i64::to_be_bytes)),
            Self::Decimal(cells, scale) => {
                if cells.is_valid(row) {
                    out.extend_from_slice(&scale.to_be_bytes());
                }
                let wide = fixed(cells, row, i128::to_be_bytes);
                put(out, wide.as_ref().map(|bytes| shortest(bytes)))
            }
            Self::Varint(cells) => {
                let wide = fixed(cells, row, i128::to_be_bytes);
                put(out, wide.as_ref().map(|bytes| shortest(bytes)))
            }
            Self::Text(cells) => put(out, text(cells, row)),
            Self::Uuid(cells) => {
                let uuid = text(cells, row).map(|text| {
                    uuid::Uuid::parse_str(text).map_err(|_| format!("'{text}' is not a uuid, which the server wants"))
                });
                put(out, uuid.transpose()?.as_ref().map(|uuid| uuid.as_bytes()))
            }
            Self::Inet(cells) => {
                let address = text(cells, row).map(|text| {
                    text.parse::<IpAddr>().map_err(|_| format!("'{text}' is not an IP address, which the server wants"))
                });
                match address.transpose()? {
                    None => false,
                    Some(IpAddr::V4(address)) => put(out, Some(address.octets())),
                    Some(IpAddr::V6(address)) => put(out, Some(address.octets())),
                }
            }
            Self::Duration(cells) => match text(cells, row) {
                None => false,
                Some(text) => {
                    duration::parse(text)?.encode(out);
                    true
                }
            },
            Self::Bytes(cells) => put(out, cells.is_valid(row).then(|| cells.value(row))),
            Self::List(nested, cells) => {
                let Some(items) = nested.items(row) else { return Ok(false) };
                out.extend_from_slice(&(items.len() as i32).to_be_bytes());
                items.into_iter().try_for_each(|item| within(cells, item, "list", out))?;
                true
            }
            Self::Vector(nested, dimensions, cells) => {
                let Some(items) = nested.items(row) else { return Ok(false) };
                if items.len() != usize::from(*dimensions) {
                    return Err(format!("a list of {} values is no vector of {dimensions}", items.len()));
                }
                for item in items {
                    if !cells.encode(item, out)? {
                        return Err("a vector holds no NULL there".to_owned());
                    }
                }
                true
            }
            Self::Map(nested, keys, values) => {
                let Some(items) = nested.items(row) else { return Ok(false) };
                out.extend_from_slice(&(items.len() as i32).to_be_bytes());
                for item in items {
                    within(keys, item, "map", out)?;
                    within(values, item, "map", out)?;
                }
                true
            }
            Self::Fields(valid, fields) => {
                if valid.as_ref().is_some_and(|valid| valid.is_null(row)) {
                    return Ok(false);
                }
                for cells in fields {
                    match cells {
                        Some(cells) => sized(cells, row, out).map(|_| ())?,
                        None => out.extend_from_slice(&NULL),
                    }
                }
                true
            }
        })
    }
}

/// The length of what is null.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// A value behind its length; whether there is one.
fn sized(cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<bool, String> {
    let at = out.len();
    out.extend_from_slice(&NULL);
    let there = cells.encode(row, out)?;
    if there {
        let length = (out.len() - at - NULL.len()) as i32;
        out[at..at + NULL.len()].copy_from_slice(&length.to_be_bytes());
    }
    Ok(there)
}

fn within(cells: &Cells, row: usize, what: &str, out: &mut Vec<u8>) -> Result<(), String> {
    match sized(cells, row, out)? {
        true => Ok(()),
        false => Err(format!("a {what} holds no NULL there")),
    }
}

/// Of fixed length on the wire: only vectors of such values are written without lengths.
pub fn fixed_length(there: &ColumnType<'_>) -> bool {
    use NativeType as N;
    matches!(there, ColumnType::Native(N::Float | N::Double | N::Int | N::BigInt | N::Boolean | N::Timestamp | N::Uuid))
}

/// The item of a list, whatever its offsets are.
pub fn item(kind: &DataType) -> Option<&Arc<Field>> {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, bytes: Option<impl AsRef<[u8]>>) -> bool {
    if let Some(bytes) = &bytes {
        out.extend_from_slice(bytes.as_ref());
    }
    bytes.is_some()
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
