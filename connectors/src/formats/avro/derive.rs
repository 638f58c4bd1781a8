//! The schema of a table's rows, for tables that give none.
//!
//! Every field may be null, and is null by default: so columns that come or go later are changes that readers bear.

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::{Value, json};

/// The text of the schema of a record `name`, or why a column has no place in one.
pub fn schema_of(name: &str, columns: &Fields) -> Result<String, String> {
    let (namespace, short) = name.rsplit_once('.').map_or((None, name), |(space, short)| (Some(space), short));
    let mut record = record(short, columns)?;
    if let (Some(namespace), Value::Object(record)) = (namespace, &mut record) {
        record.insert("namespace".to_owned(), namespace.into());
    }
    Ok(record.to_string())
}

fn record(name: &str, columns: &Fields) -> Result<Value, String> {
    check_name(name)?;
    let fields = columns.iter().map(|column| {
        check_name(column.name())?;
        let kind = kind(&format!("{name}_{}", column.name()), column)?;
        Ok(match column.is_nullable() {
            true => json!({"name": column.name(), "type": ["null", kind], "default": null}),
            false => json!({"name": column.name(), "type": kind}),
        })
    });
    let fields: Vec<Value> = fields.collect::<Result<_, String>>()?;
    Ok(json!({"type": "record", "name": name, "fields": fields}))
}

/// `name` is that of a record, if the column is one.
fn kind(name: &str, column: &Field) -> Result<Value, String> {
    use DataType as D;
    let item = |field: &Field| -> Result<Value, String> {
        let kind = kind(name, field)?;
        Ok(if field.is_nullable() { json!(["null", kind]) } else { kind })
    };
    Ok(match column.data_type() {
        D::Boolean => json!("boolean"),
        D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16 => json!("int"),
        D::Int64 | D::UInt32 => json!("long"),
        D::Float32 => json!("float"),
        D::Float64 => json!("double"),
        kind if crate::formats::is_text(kind) => json!("string"),
        D::Binary | D::LargeBinary | D::BinaryView => json!("bytes"),
        D::Timestamp(..) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        D::Date32 => json!({"type": "int", "logicalType": "date"}),
        D::Time32(_) | D::Time64(_) => json!({"type": "long", "logicalType": "time-micros"}),
        D::Decimal128(precision, scale) if *scale >= 0 => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        D::Struct(fields) => record(name, fields)?,
        D::List(of) => json!({"type": "array", "items": item(of)?}),
        D::Map(entries, _) => match crate::formats::cells::map_value(entries) {
            Some(of) => json!({"type": "map", "values": item(of)?}),
            None => return Err(format!("column '{}' has no form in Avro", column.name())),
        },
        other => return Err(format!("column '{}' is of type {other}, which has no form in Avro", column.name())),
    })
}

fn check_name(name: &str) -> Result<(), String> {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    match begins && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => Err(format!("'{name}' is no name in Avro, which has ASCII letters, digits and '_' only")),
    }
}
