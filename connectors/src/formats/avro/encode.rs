//! Writes rows by a schema.
//!
//! The schema is compiled once against the columns; a batch is then written row after row into one buffer.
//!
//! Invariant: what the schema cannot hold is an error that names the column, never another value. Two things are looser:
//! a timestamp is cut to the schema's unit, and fields that have no column get the schema's default.

use super::schema::{Logical, Named, Node, Schema};
use crate::formats::cells::{Cells, in_unit, items, map_value, per_second_in};
use crate::formats::is_text;
use crate::formats::wire::put_zigzag;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field as Column, Fields};
use serde_json::Value;
use std::collections::HashMap;

type Planned<T> = Result<T, String>;

/// How rows become records of a schema.
#[derive(Debug)]
pub struct Writing {
    fields: Vec<Source>,
}

/// What a field of the schema is made of.
#[derive(Debug)]
enum Source {
    Column { at: usize, name: String, write: Write },
    Constant(Vec<u8>),
}

#[derive(Debug)]
enum Write {
    Boolean,
    Integer,
    /// Units to the second in the column and in the schema.
    Scaled(i64, i64),
    /// A whole number or a float as a double.
    Double,
    Float,
    Bytes,
    Fixed(usize),
    Uuid,
    Symbols(HashMap<String, i64>),
    Decimal {
        size: Option<usize>,
        of_column: i8,
        precision: u8,
        scale: i8,
    },
    Record(Vec<Source>),
    List(Box<Write>),
    Map(Box<Write>),
    /// A branch of a union, and that of null.
    Branch {
        null: Option<i64>,
        at: i64,
        write: Box<Write>,
    },
}

impl Writing {
    pub fn new(schema: &Schema, columns: &Fields) -> Planned<Self> {
        Ok(Self { fields: sources(schema, schema.root(), columns)? })
    }

    /// Appends each row, with `prefix` before it, and where it ends.
    pub fn rows(&self, batch: &RecordBatch, prefix: &[u8], out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Planned<()> {
        let columns: Vec<Cells> =
            batch.columns().iter().map(Cells::of).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(prefix);
            put_fields(&self.fields, &columns, row, out)?;
            ends.push(out.len());
        }
        Ok(())
    }
}

fn sources(schema: &Schema, node: &Node, columns: &Fields) -> Planned<Vec<Source>> {
    let fields = match node {
        Node::Named(at) => match schema.named(*at) {
            Named::Record { fields, .. } => fields,
            _ => return Err(format!("is {}, no record", schema.describe(node))),
        },
        _ => return Err(format!("is {}, no record", schema.describe(node))),
    };
    if let Some(lost) = columns.iter().find(|column| !fields.iter().any(|field| field.name == *column.name())) {
        return Err(format!("has no field for column '{}'", lost.name()));
    }
    fields
        .iter()
        .map(|field| {
            let within = |why| format!("has the field '{}': it {why}", field.name);
            match columns.iter().position(|column| *column.name() == field.name) {
                Some(at) => Ok(Source::Column {
                    at,
                    name: field.name.clone(),
                    write: write(schema, &field.node, &columns[at]).map_err(within)?,
                }),
                None => match &field.default {
                    Some(default) => default_bytes(schema, &field.node, default).map(Source::Constant).map_err(within),
                    None => Err(format!("has the field '{}', which has neither a column nor a default", field.name)),
                },
            }
        })
        .collect()
}

fn write(schema: &Schema, node: &Node, column: &Column) -> Planned<Write> {
    use DataType as D;
    let kind = column.data_type();
    let narrow = matches!(kind, D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16);
    let whole = narrow || matches!(kind, D::Int64 | D::UInt32);
    let bytes = matches!(kind, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_));
    let unfit = || Err(format!("is {}, which a column of type {kind} is not written as", schema.describe(node)));
    Ok(match (node, kind) {
        (Node::Union(branches), _) => {
            let null = branches.iter().position(|branch| *branch == Node::Null).map(|at| at as i64);
            let mut first_why = None;
            for (at, branch) in branches.iter().enumerate() {
                match write(schema, branch, column) {
                    Ok(write) => return Ok(Write::Branch { null, at: at as i64, write: Box::new(write) }),
                    Err(why) if *branch != Node::Null => _ = first_why.get_or_insert(why),
                    Err(_) => {}
                }
            }
            return first_why.map_or_else(unfit, Err);
        }
        (Node::Boolean, D::Boolean) => Write::Boolean,
        (Node::Int(None), _) if narrow => Write::Integer,
        (Node::Long(None), _) if whole => Write::Integer,
        (Node::Int(Some(Logical::Date)), D::Date32) => Write::Integer,
        (Node::Long(Some(Logical::Timestamp { per_second })), D::Timestamp(unit, _)) => {
            Write::Scaled(per_second_in(*unit), *per_second)
        }
        (Node::Int(Some(Logical::TimeMillis)), D::Time32(unit) | D::Time64(unit)) => {
            Write::Scaled(per_second_in(*unit), 1000)
        }
        (Node::Long(Some(Logical::TimeMicros)), D::Time32(unit) | D::Time64(unit)) => {
            Write::Scaled(per_second_in(*unit), 1_000_000)
        }
        (Node::Float, D::Float32) => Write::Float,
        (Node::Double, D::Float32 | D::Float64) => Write::Double,
        (Node::Double, _) if narrow => Write::Double,
        (Node::Text(_), kind) if is_text(kind) => Write::Bytes,
        (Node::Bytes(None), kind) if is_text(kind) || bytes => Write::Bytes,
        (Node::Bytes(Some(Logical::Decimal { precision, scale })), D::Decimal128(_, of_column)) => {
            Write::Decimal { size: None, of_column: *of_column, precision: *precision, scale: *scale }
        }
        (Node::Array(item), D::List(of_column)) => {
            Write::List(Box::new(write(schema, item, of_column).map_err(|why| format!("has items: one {why}"))?))
        }
        (Node::Map(value), D::Map(entries, _)) => match map_value(entries) {
            Some(of_column) => {
                Write::Map(Box::new(write(schema, value, of_column).map_err(|why| format!("has values: one {why}"))?))
            }
            None => return unfit(),
        },
        (Node::Named(at), _) => match (schema.named(*at), kind) {
            (Named::Record { .. }, D::Struct(fields)) => Write::Record(sources(schema, node, fields)?),
            (Named::Enum { symbols, .. }, kind) if is_text(kind) => {
                Write::Symbols(symbols.iter().enumerate().map(|(at, symbol)| (symbol.clone(), at as i64)).collect())
            }
            (
                Named::Fixed { size, logical: Some(Logical::Decimal { precision, scale }), .. },
                D::Decimal128(_, of_column),
            ) => Write::Decimal { size: Some(*size), of_column: *of_column, precision: *precision, scale: *scale },
            (Named::Fixed { logical: Some(Logical::Uuid), .. }, kind) if is_text(kind) => Write::Uuid,
            (Named::Fixed { size, .. }, _) if bytes => Write::Fixed(*size),
            _ => return unfit(),
        },
        _ => return unfit(),
    })
}

fn put_fields(fields: &[Source], columns: &[Cells], row: usize, out: &mut Vec<u8>) -> Planned<()> {
    for field in fields {
        match field {
            Source::Constant(bytes) => out.extend_from_slice(bytes),
            Source::Column { at, name, write } => {
                put(write, &columns[*at], row, out).map_err(|why| format!("column '{name}' {why}"))?;
            }
        }
    }
    Ok(())
}

fn put(write: &Write, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Planned<()> {
    if let Write::Branch { null, at, write } = write {
        return match (cells.is_null(row), null) {
            (true, Some(null)) => {
                put_zigzag(*null, out);
                Ok(())
            }
            _ => {
                put_zigzag(*at, out);
                put(write, cells, row, out)
            }
        };
    }
    if cells.is_null(row) {
        return Err("is null, which the schema has no place for".to_owned());
    }
    match (write, cells) {
        (Write::Integer, Cells::Integers(column)) => put_zigzag(column.value(row), out),
        (Write::Scaled(had, wanted), Cells::Integers(column)) => {
            let value = column.value(row);
            let value = in_unit(value, *had, *wanted).ok_or_else(|| format!("holds {value}, which is out of range"))?;
            put_zigzag(value, out);
        }
        (Write::Boolean, Cells::Booleans(column)) => out.push(column.value(row).into()),
        (Write::Double, Cells::Doubles(column)) => out.extend_from_slice(&column.value(row).to_le_bytes()),
        (Write::Double, Cells::Floats(column)) => out.extend_from_slice(&f64::from(column.value(row)).to_le_bytes()),
        (Write::Double, Cells::Integers(column)) => out.extend_from_slice(&(column.value(row) as f64).to_le_bytes()),
        (Write::Float, Cells::Floats(column)) => out.extend_from_slice(&column.value(row).to_le_bytes()),
        (Write::Bytes, Cells::Text(column)) => put_bytes(column.value(row).as_bytes(), out),
        (Write::Bytes, Cells::Bytes(column)) => put_bytes(column.value(row), out),
        (Write::Fixed(size), Cells::Bytes(column)) => match column.value(row) {
            bytes if bytes.len() == *size => out.extend_from_slice(bytes),
            bytes => return Err(format!("holds {} bytes where the schema has {size}", bytes.len())),
        },
        (Write::Uuid, Cells::Text(column)) => {
            let text = column.value(row);
            let uuid = uuid::Uuid::try_parse(text).map_err(|_| format!("holds '{text}', which is no UUID"))?;
            out.extend_from_slice(uuid.as_bytes());
        }
        (Write::Symbols(symbols), Cells::Text(column)) => {
            let text = column.value(row);
            put_zigzag(
                *symbols.get(text).ok_or_else(|| format!("holds '{text}', which the schema's enum has not"))?,
                out,
            );
        }
        (Write::Decimal { size, of_column, precision, scale }, Cells::Decimals(column)) => {
            let value = rescaled(column.value(row), *of_column, *scale, *precision)?;
            put_unscaled(value, *size, out)?;
        }
        (Write::Record(fields), Cells::Struct { fields: columns, .. }) => put_fields(fields, columns, row, out)?,
        (Write::List(write), Cells::List { offsets, items: cells, .. }) => {
            let items = items(offsets, row);
            if !items.is_empty() {
                put_zigzag(items.len() as i64, out);
                for item in items {
                    put(write, cells, item, out).map_err(|why| format!("has an item that {why}"))?;
                }
            }
            out.push(0);
        }
        (Write::Map(write), Cells::Map { offsets, keys, values, .. }) => {
            let entries = items(offsets, row);
            if !entries.is_empty() {
                put_zigzag(entries.len() as i64, out);
                for entry in entries {
                    put_bytes(keys.value(entry).as_bytes(), out);
                    put(write, values, entry, out).map_err(|why| format!("has a value that {why}"))?;
                }
            }
            out.push(0);
        }
        _ => return Err("is not of the type that was planned for".to_owned()),
    }
    Ok(())
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_zigzag(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

fn rescaled(value: i128, had: i8, wanted: i8, precision: u8) -> Planned<i128> {
    let factor = 10_i128.checked_pow((i32::from(wanted) - i32::from(had)).unsigned_abs());
    let value = match factor {
        Some(factor) if wanted >= had => value.checked_mul(factor),
        Some(divisor) if value % divisor == 0 => Some(value / divisor),
        _ => None,
    };
    // Of more digits than these every number is one.
    let bound = 10_u128.checked_pow(precision.into()).unwrap_or(u128::MAX);
    value
        .filter(|value| value.unsigned_abs() < bound)
        .ok_or_else(|| format!("holds a decimal that is none of {precision} digits, {wanted} behind the point"))
}

/// In two's complement, the highest byte first, as short as it goes or of a given size.
fn put_unscaled(value: i128, size: Option<usize>, out: &mut Vec<u8>) -> Planned<()> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let begin = (0..15).find(|at| bytes[*at] != sign || (bytes[at + 1] ^ sign) & 0x80 != 0).unwrap_or(15);
    let short = &bytes[begin..];
    match size {
        None => put_bytes(short, out),
        Some(size) if size >= short.len() => {
            out.extend(std::iter::repeat_n(sign, size - short.len()));
            out.extend_from_slice(short);
        }
        Some(size) => return Err(format!("holds a decimal of more than {size} bytes")),
    }
    Ok(())
}

/// The bytes that a default stands for.
pub fn default_bytes(schema: &Schema, node: &Node, default: &Value) -> Planned<Vec<u8>> {
    let mut out = Vec::new();
    match put_default(schema, node, default, &mut out, 0) {
        true => Ok(out),
        false => Err(format!("has the default {default}, which is no {}", schema.describe(node))),
    }
}

fn put_default(schema: &Schema, node: &Node, default: &Value, out: &mut Vec<u8>, depth: u32) -> bool {
    if depth > crate::formats::wire::MOST_DEPTH {
        return false;
    }
    // Bytes are written as the characters of the same numbers.
    let raw = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    match (node, default) {
        (Node::Null, Value::Null) => {}
        (Node::Boolean, Value::Bool(value)) => out.push((*value).into()),
        (Node::Int(_) | Node::Long(_), Value::Number(number)) => match number.as_i64() {
            Some(value) => put_zigzag(value, out),
            None => return false,
        },
        (Node::Float, Value::Number(number)) => {
            out.extend_from_slice(&(number.as_f64().unwrap_or(f64::NAN) as f32).to_le_bytes());
        }
        (Node::Double, Value::Number(number)) => {
            out.extend_from_slice(&number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        (Node::Text(_), Value::String(text)) => put_bytes(text.as_bytes(), out),
        (Node::Bytes(_), Value::String(text)) => match raw(text) {
            Some(bytes) => put_bytes(&bytes, out),
            None => return false,
        },
        (Node::Array(item), Value::Array(values)) => {
            if !values.is_empty() {
                put_zigzag(values.len() as i64, out);
            }
            if !values.iter().all(|value| put_default(schema, item, value, out, depth + 1)) {
                return false;
            }
            out.push(0);
        }
        (Node::Map(of), Value::Object(values)) => {
            if !values.is_empty() {
                put_zigzag(values.len() as i64, out);
            }
            for (key, value) in values {
                put_bytes(key.as_bytes(), out);
                if !put_default(schema, of, value, out, depth + 1) {
                    return false;
                }
            }
            out.push(0);
        }
        (Node::Union(branches), _) => {
            let begin = out.len();
            for (at, branch) in branches.iter().enumerate() {
                out.truncate(begin);
                put_zigzag(at as i64, out);
                if put_default(schema, branch, default, out, depth + 1) {
                    return true;
                }
            }
            return false;
        }
        (Node::Named(at), _) => match (schema.named(*at), default) {
            (Named::Enum { symbols, .. }, Value::String(text)) => {
                match symbols.iter().position(|symbol| symbol == text) {
                    Some(at) => put_zigzag(at as i64, out),
                    None => return false,
                }
            }
            (Named::Fixed { size, .. }, Value::String(text)) => match raw(text) {
                Some(bytes) if bytes.len() == *size => out.extend_from_slice(&bytes),
                _ => return false,
            },
            (Named::Record { fields, .. }, Value::Object(values)) => {
                return fields.iter().all(|field| match values.get(&field.name).or(field.default.as_ref()) {
                    Some(value) => put_default(schema, &field.node, value, out, depth + 1),
                    None => false,
                });
            }
            _ => return false,
        },
        _ => return false,
    }
    true
}
