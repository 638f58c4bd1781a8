//! The `.proto` text of a table's rows, for tables that give none.
//!
//! Fields have the numbers of their columns' places and are `optional`, so that null can be told: columns may be added at
//! the end, and none may change its place.

use arrow::datatypes::{DataType, Field, Fields};
use std::fmt::Write as _;

const TIMESTAMP: &str = "google/protobuf/timestamp.proto";

/// The text of a file with a message `name`, or why a column has no place in one.
pub fn proto_of(name: &str, columns: &Fields) -> Result<String, String> {
    let (package, short) = name.rsplit_once('.').map_or((None, name), |(package, short)| (Some(package), short));
    let mut body = String::new();
    let mut with_time = false;
    message(short, columns, 0, &mut body, &mut with_time)?;
    let mut text = "syntax = \"proto3\";\n".to_owned();
    if let Some(package) = package {
        text += &format!("package {package};\n");
    }
    if with_time {
        text += &format!("import \"{TIMESTAMP}\";\n");
    }
    Ok(text + &body)
}

fn message(name: &str, columns: &Fields, depth: usize, out: &mut String, with_time: &mut bool) -> Result<(), String> {
    check_name(name)?;
    let indent = "  ".repeat(depth);
    let put = |out: &mut String, line: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{indent}{line}");
    };
    put(out, format!("message {name} {{"));
    for (at, column) in columns.iter().enumerate() {
        check_name(column.name())?;
        let number = at + 1;
        if (19_000..20_000).contains(&number) {
            return Err("there are more columns than Protobuf has numbers for".to_owned());
        }
        let nested = |kind: &Field, out: &mut String, with_time: &mut bool| -> Result<String, String> {
            let inner = format!("{}_row", column.name());
            if let DataType::Struct(fields) = kind.data_type() {
                message(&inner, fields, depth + 1, out, with_time)?;
                return Ok(inner);
            }
            *with_time |= matches!(kind.data_type(), DataType::Timestamp(..));
            scalar(column.name(), kind.data_type())
        };
        let line = match column.data_type() {
            DataType::List(item) => {
                format!("repeated {} {} = {number};", nested(item, out, with_time)?, column.name())
            }
            DataType::Map(entries, _) => match crate::formats::cells::map_value(entries) {
                Some(value) => {
                    format!("map<string, {}> {} = {number};", nested(value, out, with_time)?, column.name())
                }
                None => return Err(format!("column '{}' has no form in Protobuf", column.name())),
            },
            _ => format!("optional {} {} = {number};", nested(column, out, with_time)?, column.name()),
        };
        put(out, format!("  {line}"));
    }
    put(out, "}".to_owned());
    Ok(())
}

fn scalar(name: &str, kind: &DataType) -> Result<String, String> {
    use DataType as D;
    Ok(match kind {
        D::Boolean => "bool",
        D::Int8 | D::Int16 | D::Int32 => "int32",
        D::UInt8 | D::UInt16 | D::UInt32 => "uint32",
        D::Int64 => "int64",
        D::Float32 => "float",
        D::Float64 => "double",
        kind if crate::formats::is_text(kind) => "string",
        D::Binary | D::LargeBinary | D::BinaryView => "bytes",
        D::Timestamp(..) => "google.protobuf.Timestamp",
        other => {
            return Err(format!(
                "column '{name}' is of type {other}, which has no form in Protobuf; cast it to VARCHAR, for example"
            ));
        }
    }
    .to_owned())
}

fn check_name(name: &str) -> Result<(), String> {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    match begins && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => Err(format!("'{name}' is no name in Protobuf, which has ASCII letters, digits and '_' only")),
    }
}
