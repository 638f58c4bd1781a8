//! The columns of a table whose rows are the records of a schema.
//!
//! Invariant: each has a type into which [`super::plan`] reads whatever the schema allows.

use super::schema::{Logical, Named, Node, Schema};
use crate::formats::cells::map_of_text;
use arrow::datatypes::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// By name; or why a schema has none, or one that no column holds.
pub fn columns(schema: &Schema) -> Result<Vec<(String, DataType)>, String> {
    let root = match schema.root() {
        Node::Union(branches) => {
            match branches.iter().filter(|branch| **branch != Node::Null).collect::<Vec<_>>()[..] {
                [only] => only,
                _ => return Err(format!("is {}, no record", schema.describe(schema.root()))),
            }
        }
        root => root,
    };
    let Node::Named(at) = root else { return Err(format!("is {}, no record", schema.describe(root))) };
    let Named::Record { fields, .. } = schema.named(*at) else {
        return Err(format!("is {}, no record", schema.describe(root)));
    };
    let column = |field: &super::schema::Field| {
        let kind = kind(schema, &field.node, &mut vec![*at]);
        Ok((field.name.clone(), kind.map_err(|why| format!("has the field '{}', which {why}", field.name))?))
    };
    fields.iter().map(column).collect()
}

/// `within`: the records around it.
fn kind(schema: &Schema, node: &Node, within: &mut Vec<usize>) -> Result<DataType, String> {
    let time = || DataType::Time64(TimeUnit::Microsecond);
    Ok(match node {
        Node::Null => DataType::Utf8,
        Node::Boolean => DataType::Boolean,
        Node::Int(Some(Logical::Date)) => DataType::Date32,
        Node::Int(Some(Logical::TimeMillis)) | Node::Long(Some(Logical::TimeMicros)) => time(),
        Node::Int(_) => DataType::Int32,
        Node::Long(Some(Logical::Timestamp { .. })) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Node::Long(_) => DataType::Int64,
        Node::Float => DataType::Float32,
        Node::Double => DataType::Float64,
        Node::Bytes(Some(Logical::Decimal { precision, scale })) => DataType::Decimal128(*precision, *scale),
        Node::Bytes(_) => DataType::Binary,
        Node::Text(_) => DataType::Utf8,
        Node::Array(item) => DataType::List(Arc::new(Field::new_list_field(kind(schema, item, within)?, true))),
        Node::Map(value) => map_of_text(kind(schema, value, within)?),
        Node::Union(branches) => {
            let mut kinds = Vec::new();
            for branch in branches.iter().filter(|branch| **branch != Node::Null) {
                kinds.push(kind(schema, branch, within)?);
            }
            kinds.dedup();
            match &kinds[..] {
                [] => DataType::Utf8,
                [only] => only.clone(),
                // Every int is a long, and every float a double.
                [DataType::Int32 | DataType::Int64, DataType::Int32 | DataType::Int64] => DataType::Int64,
                [DataType::Float32 | DataType::Float64, DataType::Float32 | DataType::Float64] => DataType::Float64,
                _ => return Err(format!("is a {}, of which no column holds all", schema.describe(node))),
            }
        }
        Node::Named(at) => match schema.named(*at) {
            Named::Record { name, .. } if within.contains(at) => return Err(format!("is record {name} within itself")),
            Named::Record { fields, name } => {
                if fields.is_empty() {
                    return Err(format!("is record {name}, which has no fields"));
                }
                within.push(*at);
                let mut inner = Vec::with_capacity(fields.len());
                for field in fields {
                    inner.push(Field::new(&field.name, kind(schema, &field.node, within)?, true));
                }
                within.pop();
                DataType::Struct(inner.into())
            }
            Named::Enum { .. } | Named::Fixed { logical: Some(Logical::Uuid), .. } => DataType::Utf8,
            Named::Fixed { logical: Some(Logical::Decimal { precision, scale }), .. } => {
                DataType::Decimal128(*precision, *scale)
            }
            Named::Fixed { .. } => DataType::Binary,
            Named::Begun => return Err("is not defined".to_owned()),
        },
    })
}
