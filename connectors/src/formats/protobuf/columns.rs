//! The columns of a table whose rows are the messages of a descriptor.
//!
//! Invariant: each has a type into which [`super::plan`] reads whatever the message allows.

use super::plan::is_wrapper;
use crate::formats::cells::map_of_text;
use arrow::datatypes::{DataType, Field, TimeUnit};
use protox::prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::sync::Arc;

/// By name; or why a message has none, or one that no column holds.
pub fn columns(message: &MessageDescriptor) -> Result<Vec<(String, DataType)>, String> {
    fields(message, &mut Vec::new())
}

fn fields(message: &MessageDescriptor, within: &mut Vec<String>) -> Result<Vec<(String, DataType)>, String> {
    if within.iter().any(|around| around == message.full_name()) {
        return Err(format!("is a message {} within itself", message.full_name()));
    }
    within.push(message.full_name().to_owned());
    let mut columns = Vec::new();
    for field in message.fields() {
        let kind = whole(&field, within).map_err(|why| format!("has the field '{}', which {why}", field.name()))?;
        columns.push((field.name().to_owned(), kind));
    }
    within.pop();
    match columns.is_empty() {
        true => Err(format!("is a message {} without fields", message.full_name())),
        false => Ok(columns),
    }
}

fn whole(field: &FieldDescriptor, within: &mut Vec<String>) -> Result<DataType, String> {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        return match entry.map_entry_key_field().kind() {
            Kind::String => Ok(map_of_text(one(&entry.map_entry_value_field().kind(), within)?)),
            _ => Err("is a map whose keys are no text".to_owned()),
        };
    }
    let kind = one(&field.kind(), within)?;
    Ok(match field.is_list() {
        true => DataType::List(Arc::new(Field::new_list_field(kind, true))),
        false => kind,
    })
}

fn one(kind: &Kind, within: &mut Vec<String>) -> Result<DataType, String> {
    Ok(match kind {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            name if is_wrapper(name) => match message.get_field(1) {
                Some(field) => one(&field.kind(), within)?,
                None => return Err(format!("is a {name} without a value")),
            },
            _ => {
                let inner = fields(message, within)?.into_iter().map(|(name, kind)| Field::new(name, kind, true));
                DataType::Struct(inner.collect())
            }
        },
        Kind::Bool => DataType::Boolean,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
        // Those without a sign do not fit into as many bits with one.
        Kind::Uint32 | Kind::Fixed32 | Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => DataType::Int64,
        Kind::Uint64 | Kind::Fixed64 => DataType::Decimal128(20, 0),
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::String | Kind::Enum(_) => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
    })
}
