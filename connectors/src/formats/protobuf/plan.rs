//! How messages of one descriptor become rows: compiled once for a descriptor and the wanted columns.
//!
//! Fields are bound to columns by name, or by their name in JSON; a column without a field is null.
//!
//! Invariant: a plan fits the columns that it was made for, and is as deep as they are, not as the message.

use crate::formats::cells::per_second_in;
use crate::formats::is_text;
use arrow::datatypes::{DataType, Field as Column, Fields};
use protox::prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

type Planned<T> = Result<T, String>;

/// Numbers below this are found by one step.
const DIRECT: usize = 256;

#[derive(Debug)]
pub struct Message {
    /// Wanted fields, by number.
    pub fields: Vec<Field>,
    /// By number: the place of a field, and one more.
    direct: Vec<u16>,
    /// The fields that have a value though they are not sent.
    pub defaults: Vec<usize>,
}

#[derive(Debug)]
pub struct Field {
    pub number: u32,
    pub column: usize,
    pub read: Read,
    /// The columns of the other members of its `oneof`: they are null when this one comes.
    pub instead_of: Vec<usize>,
}

#[derive(Debug)]
pub enum Read {
    Scalar(Scalar),
    Struct(Box<Message>),
    /// `google.protobuf.Timestamp`, in units to the second.
    Timestamp(i64),
    /// A message around one value.
    Wrapped(Scalar),
    /// Several of one of the above.
    List(Box<Read>),
    /// By text; the read is that of a value.
    Map(Box<Read>),
}

#[derive(Debug)]
pub enum Scalar {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Float,
    Double,
    Bytes,
    /// Bytes that are UTF-8.
    Text,
    /// An enum's names, by number.
    Names(Vec<(i32, String)>),
}

impl Message {
    #[inline(always)]
    pub fn field(&self, number: u32) -> Option<&Field> {
        match self.direct.get(number as usize) {
            Some(0) => None,
            Some(place) => Some(&self.fields[usize::from(*place) - 1]),
            None => self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|at| &self.fields[at]),
        }
    }
}

/// The plan of a message's fields for columns.
pub fn message_of(message: &MessageDescriptor, columns: &Fields) -> Planned<Message> {
    let mut bound: Vec<(FieldDescriptor, usize)> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let by_name = message.get_field_by_name(column.name());
        match by_name.or_else(|| message.get_field_by_json_name(column.name())) {
            Some(field) => match bound.iter().find(|(other, _)| *other == field) {
                Some(_) => return Err(format!("has the field '{}' for two columns", field.name())),
                None => bound.push((field, at)),
            },
            None if column.is_nullable() => {}
            None => return Err(format!("has no field for column '{}', which must have a value", column.name())),
        }
    }
    bound.sort_by_key(|(field, _)| field.number());
    let mut fields = Vec::with_capacity(bound.len());
    let mut defaults = Vec::new();
    for (field, column) in &bound {
        let read =
            read(field, &columns[*column]).map_err(|why| format!("has the field '{}', which {why}", field.name()))?;
        if !field.supports_presence() {
            defaults.push(fields.len());
        }
        let instead_of = match field.containing_oneof() {
            None => Vec::new(),
            Some(group) => bound
                .iter()
                .filter(|(other, at)| at != column && other.containing_oneof().as_ref() == Some(&group))
                .map(|(_, at)| *at)
                .collect(),
        };
        fields.push(Field { number: field.number(), column: *column, read, instead_of });
    }
    let n = fields.iter().map(|field| field.number as usize + 1).max().unwrap_or(0).min(DIRECT);
    let mut direct = vec![0; n];
    for (at, field) in fields.iter().enumerate() {
        if let Some(place) = direct.get_mut(field.number as usize) {
            *place = u16::try_from(at + 1).map_err(|_| "has too many fields".to_owned())?;
        }
    }
    Ok(Message { fields, direct, defaults })
}

fn read(field: &FieldDescriptor, column: &Column) -> Planned<Read> {
    match column.data_type() {
        DataType::Map(entries, _) if field.is_map() => {
            let Kind::Message(entry) = field.kind() else { return Err("is no map".to_owned()) };
            if entry.map_entry_key_field().kind() != Kind::String {
                return Err("is a map whose keys are no text".to_owned());
            }
            let value = crate::formats::cells::map_value(entries).ok_or("is a map")?;
            let value =
                one(&entry.map_entry_value_field().kind(), value).map_err(|why| format!("has values: one {why}"))?;
            Ok(Read::Map(Box::new(value)))
        }
        DataType::List(item) if field.is_list() => {
            let one = one(&field.kind(), item).map_err(|why| format!("has items: one {why}"))?;
            Ok(Read::List(Box::new(one)))
        }
        kind if field.is_list() || field.is_map() => Err(format!("is repeated, and the column {kind}")),
        _ => one(&field.kind(), column),
    }
}

fn one(field: &Kind, column: &Column) -> Planned<Read> {
    let kind = column.data_type();
    if let Kind::Message(message) = field {
        return match (message.full_name(), kind) {
            ("google.protobuf.Timestamp", DataType::Timestamp(unit, _)) => Ok(Read::Timestamp(per_second_in(*unit))),
            (_, DataType::Struct(fields)) => message_of(message, fields).map(|message| Read::Struct(Box::new(message))),
            (name, _) if is_wrapper(name) => match message.get_field(1) {
                Some(field) => scalar(&field.kind(), kind).map(Read::Wrapped),
                None => Err(format!("is a {name} without a value")),
            },
            (name, kind) => Err(format!("is a message {name}, which a column of type {kind} does not hold")),
        };
    }
    scalar(field, kind).map(Read::Scalar)
}

pub fn is_wrapper(name: &str) -> bool {
    let Some(name) = name.strip_prefix("google.protobuf.") else { return false };
    ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"]
        .iter()
        .any(|kind| name.strip_suffix("Value") == Some(kind))
}

fn scalar(field: &Kind, column: &DataType) -> Planned<Scalar> {
    use DataType as D;
    let whole = matches!(
        column,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 | D::Decimal128(..)
    );
    let bytes = matches!(column, D::Binary | D::LargeBinary | D::BinaryView);
    // Every number of 32 bits is a double.
    let narrow = whole || *column == D::Float64;
    Ok(match field {
        Kind::Int32 if narrow => Scalar::Int32,
        Kind::Sint32 if narrow => Scalar::Sint32,
        Kind::Sfixed32 if narrow => Scalar::Sfixed32,
        Kind::Uint32 if narrow => Scalar::Uint32,
        Kind::Fixed32 if narrow => Scalar::Fixed32,
        Kind::Int64 if whole => Scalar::Int64,
        Kind::Sint64 if whole => Scalar::Sint64,
        Kind::Sfixed64 if whole => Scalar::Sfixed64,
        Kind::Uint64 if whole => Scalar::Uint64,
        Kind::Fixed64 if whole => Scalar::Fixed64,
        Kind::Enum(_) if whole => Scalar::Int32,
        Kind::Enum(of) if is_text(column) => {
            let mut names: Vec<(i32, String)> =
                of.values().map(|value| (value.number(), value.name().to_owned())).collect();
            // Of several names for a number the first one is meant.
            names.sort_by_key(|(number, _)| *number);
            names.dedup_by_key(|(number, _)| *number);
            Scalar::Names(names)
        }
        Kind::Bool if *column == D::Boolean => Scalar::Bool,
        Kind::Float if matches!(column, D::Float32 | D::Float64) => Scalar::Float,
        Kind::Double if *column == D::Float64 => Scalar::Double,
        Kind::String if is_text(column) || bytes => Scalar::Text,
        Kind::Bytes if is_text(column) || bytes => Scalar::Bytes,
        other => return Err(format!("is {other:?}, which a column of type {column} does not hold")),
    })
}
