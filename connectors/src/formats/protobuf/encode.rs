//! Writes rows as messages of one descriptor.
//!
//! The plan is that of reading, whose fields fit their columns; what could be read and not be written back is refused when
//! it is made.
//!
//! Invariant: what a message cannot hold is an error that names the column, never another value. Lists and maps that are
//! null are the exception: a message has them empty.

use super::plan::{Message, Read, Scalar, message_of};
use crate::formats::cells::{Cells, in_unit, items};
use crate::formats::wire::{put_varint, put_zigzag};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields};
use protox::prost_reflect::MessageDescriptor;

type Planned<T> = Result<T, String>;

const VARINT: u32 = 0;
const EIGHT: u32 = 1;
const LENGTH: u32 = 2;
const FOUR: u32 = 5;

#[derive(Debug)]
pub struct Writing {
    message: Message,
    names: Vec<String>,
}

impl Writing {
    pub fn new(message: &MessageDescriptor, columns: &Fields) -> Planned<Self> {
        check(message, columns)?;
        let names = columns.iter().map(|column| column.name().clone()).collect();
        Ok(Self { message: message_of(message, columns)?, names })
    }

    /// Appends each row, with `prefix` before it, and where it ends.
    pub fn rows(&self, batch: &RecordBatch, prefix: &[u8], out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Planned<()> {
        let columns: Vec<Cells> =
            batch.columns().iter().map(Cells::of).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(prefix);
            put_fields(&self.message, &columns, row, out)
                .map_err(|(column, why)| format!("column '{}' {why}", self.names[column]))?;
            ends.push(out.len());
        }
        Ok(())
    }
}

/// What could be read as these columns, and is not written from them.
fn check(message: &MessageDescriptor, columns: &Fields) -> Planned<()> {
    use protox::prost_reflect::Kind;
    let field_of = |name: &str| message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
    for column in columns {
        let name = column.name();
        let field = field_of(name).ok_or_else(|| format!("has no field for column '{name}'"))?;
        let unfit = |kind: &DataType| match (field.kind(), kind) {
            (_, DataType::Decimal128(..)) => true,
            (Kind::Double, DataType::Float64) => false,
            (_, DataType::Float64) => true,
            _ => false,
        };
        let kind = match column.data_type() {
            DataType::List(item) => item.data_type(),
            kind => kind,
        };
        match (field.kind(), kind) {
            (Kind::Message(inner), DataType::Struct(fields)) => {
                check(&inner, fields).map_err(|why| format!("has the field '{name}', which {why}"))?;
            }
            // Around one value.
            (Kind::Message(_), _) => {}
            (_, kind) if unfit(kind) => {
                return Err(format!("has the field '{name}', as which a column of type {kind} is not written"));
            }
            _ => {}
        }
    }
    let missing =
        message.fields().find(|field| field.is_required() && !columns.iter().any(|c| c.name() == field.name()));
    missing.map_or(Ok(()), |field| Err(format!("requires the field '{}', for which there is no column", field.name())))
}

/// The mistake with the place of its column.
fn put_fields(message: &Message, columns: &[Cells], row: usize, out: &mut Vec<u8>) -> Result<(), (usize, String)> {
    for (at, field) in message.fields.iter().enumerate() {
        let cells = &columns[field.column];
        if cells.is_null(row) {
            let scalar = matches!(field.read, Read::Scalar(_));
            if scalar && message.defaults.binary_search(&at).is_ok() {
                let why = "is null, which its field cannot say: declare the field 'optional'".to_owned();
                return Err((field.column, why));
            }
            continue;
        }
        put_field(field.number, &field.read, cells, row, out).map_err(|why| (field.column, why))?;
    }
    Ok(())
}

fn put_tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire), out);
}

/// Puts what `write` appends, with its length before it.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Planned<()>) -> Planned<()> {
    let begin = out.len();
    write(out)?;
    let end = out.len();
    put_varint((end - begin) as u64, out);
    let n = out.len() - end;
    out[begin..].rotate_right(n);
    Ok(())
}

fn put_field(number: u32, read: &Read, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Planned<()> {
    match (read, cells) {
        (Read::Scalar(scalar), _) => {
            put_tag(number, wire_of(scalar), out);
            put(scalar, cells, row, out)
        }
        (Read::Wrapped(scalar), _) => {
            put_tag(number, LENGTH, out);
            with_length(out, |out| {
                put_tag(1, wire_of(scalar), out);
                put(scalar, cells, row, out)
            })
        }
        (Read::Struct(message), Cells::Struct { fields, .. }) => {
            put_tag(number, LENGTH, out);
            with_length(out, |out| {
                put_fields(message, fields, row, out).map_err(|(field, why)| format!("has field {field}, which {why}"))
            })
        }
        (Read::Timestamp(per_second), Cells::Integers(column)) => {
            let value = column.value(row);
            put_tag(number, LENGTH, out);
            with_length(out, |out| {
                let (seconds, rest) = (value.div_euclid(*per_second), value.rem_euclid(*per_second));
                let nanos = in_unit(rest, *per_second, 1_000_000_000).unwrap_or(0);
                put_tag(1, VARINT, out);
                put_varint(seconds as u64, out);
                if nanos != 0 {
                    put_tag(2, VARINT, out);
                    put_varint(nanos as u64, out);
                }
                Ok(())
            })
        }
        (Read::List(item), Cells::List { offsets, items: cells, .. }) => {
            let items = items(offsets, row);
            if items.clone().any(|item| cells.is_null(item)) {
                return Err("has an item that is null, which a list in Protobuf cannot say".to_owned());
            }
            match &**item {
                Read::Scalar(scalar) if wire_of(scalar) != LENGTH => {
                    if items.is_empty() {
                        return Ok(());
                    }
                    put_tag(number, LENGTH, out);
                    with_length(out, |out| items.into_iter().try_for_each(|item| put(scalar, cells, item, out)))
                }
                read => items.into_iter().try_for_each(|item| put_field(number, read, cells, item, out)),
            }
        }
        (Read::Map(read), Cells::Map { offsets, keys, values, .. }) => {
            for entry in items(offsets, row) {
                if values.is_null(entry) {
                    return Err("has a value that is null, which a map in Protobuf cannot say".to_owned());
                }
                put_tag(number, LENGTH, out);
                with_length(out, |out| {
                    put_tag(1, LENGTH, out);
                    put_bytes(keys.value(entry).as_bytes(), out);
                    put_field(2, read, values, entry, out)
                })?;
            }
            Ok(())
        }
        _ => Err(unplanned()),
    }
}

fn unplanned() -> String {
    "is not of the type that was planned for".to_owned()
}

fn wire_of(scalar: &Scalar) -> u32 {
    match scalar {
        Scalar::Fixed32 | Scalar::Sfixed32 | Scalar::Float => FOUR,
        Scalar::Fixed64 | Scalar::Sfixed64 | Scalar::Double => EIGHT,
        Scalar::Bytes | Scalar::Text => LENGTH,
        _ => VARINT,
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put(scalar: &Scalar, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Planned<()> {
    fn fits<T: TryFrom<i64>>(value: i64) -> Planned<T> {
        T::try_from(value).map_err(|_| format!("holds {value}, which is out of range for its field"))
    }
    match (scalar, cells) {
        (Scalar::Bool, Cells::Booleans(column)) => out.push(column.value(row).into()),
        (Scalar::Float, Cells::Floats(column)) => out.extend_from_slice(&column.value(row).to_le_bytes()),
        (Scalar::Double, Cells::Doubles(column)) => out.extend_from_slice(&column.value(row).to_le_bytes()),
        (Scalar::Text | Scalar::Bytes, Cells::Text(column)) => put_bytes(column.value(row).as_bytes(), out),
        (Scalar::Bytes, Cells::Bytes(column)) => put_bytes(column.value(row), out),
        (Scalar::Text, Cells::Bytes(column)) => match std::str::from_utf8(column.value(row)) {
            Ok(text) => put_bytes(text.as_bytes(), out),
            Err(_) => return Err("holds bytes that are not UTF-8, for a field of text".to_owned()),
        },
        (Scalar::Names(names), Cells::Text(column)) => {
            let text = column.value(row);
            let number = match names.iter().find(|(_, name)| name == text) {
                Some((number, _)) => *number,
                None => text.parse().map_err(|_| format!("holds '{text}', which its enum has not"))?,
            };
            put_varint(i64::from(number) as u64, out);
        }
        (scalar, Cells::Integers(column)) => {
            let value = column.value(row);
            match scalar {
                Scalar::Int64 => put_varint(value as u64, out),
                Scalar::Int32 => put_varint(i64::from(fits::<i32>(value)?) as u64, out),
                Scalar::Uint32 => put_varint(u64::from(fits::<u32>(value)?), out),
                Scalar::Uint64 => put_varint(fits::<u64>(value)?, out),
                Scalar::Sint32 => put_zigzag(i64::from(fits::<i32>(value)?), out),
                Scalar::Sint64 => put_zigzag(value, out),
                Scalar::Fixed32 => out.extend_from_slice(&fits::<u32>(value)?.to_le_bytes()),
                Scalar::Sfixed32 => out.extend_from_slice(&fits::<i32>(value)?.to_le_bytes()),
                Scalar::Fixed64 => out.extend_from_slice(&fits::<u64>(value)?.to_le_bytes()),
                Scalar::Sfixed64 => out.extend_from_slice(&value.to_le_bytes()),
                _ => return Err(unplanned()),
            }
        }
        _ => return Err(unplanned()),
    }
    Ok(())
}
