//! Which CQL type holds which SQL type.
//!
//! Invariant: what [`fits`] accepts, [`super::cells`] writes and [`super::rows`] reads without loss, but for a
//! timestamp's microseconds.

use arrow::datatypes::DataType;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};

/// The CQL type of a column in a table that we create; `None` where there is none.
pub fn created_as(kind: &DataType) -> Option<NativeType> {
    Some(match kind {
        DataType::Boolean => NativeType::Boolean,
        DataType::Int8 => NativeType::TinyInt,
        DataType::Int16 => NativeType::SmallInt,
        DataType::Int32 => NativeType::Int,
        DataType::Int64 => NativeType::BigInt,
        DataType::Float32 => NativeType::Float,
        DataType::Float64 => NativeType::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => NativeType::Text,
        DataType::Timestamp(..) => NativeType::Timestamp,
        DataType::Date32 => NativeType::Date,
        DataType::Time64(_) => NativeType::Time,
        DataType::Decimal128(..) => NativeType::Decimal,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            NativeType::Blob
        }
        _ => return None,
    })
}

/// Whether a column of the server can hold the column of the SQL table.
pub fn fits(kind: &DataType, there: &ColumnType<'_>) -> bool {
    let ColumnType::Native(there) = there else { return false };
    let also: &[NativeType] = match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            &[NativeType::Ascii, NativeType::Uuid, NativeType::Timeuuid, NativeType::Inet]
        }
        DataType::Decimal128(_, 0) => &[NativeType::Varint],
        DataType::FixedSizeBinary(16) => &[NativeType::Uuid, NativeType::Timeuuid],
        _ => &[],
    };
    created_as(kind).as_ref() == Some(there) || also.contains(there)
}

/// The CQL name of a type.
pub fn cql_name(kind: &ColumnType<'_>) -> String {
    match kind {
        ColumnType::Native(native) => native_name(native).to_owned(),
        ColumnType::Collection { frozen, typ } => {
            let plain = match typ {
                CollectionType::List(item) => format!("list<{}>", cql_name(item)),
                CollectionType::Set(item) => format!("set<{}>", cql_name(item)),
                CollectionType::Map(key, value) => format!("map<{}, {}>", cql_name(key), cql_name(value)),
                other => format!("{other:?}"),
            };
            if *frozen { format!("frozen<{plain}>") } else { plain }
        }
        ColumnType::Vector { typ, dimensions } => format!("vector<{}, {dimensions}>", cql_name(typ)),
        ColumnType::UserDefinedType { definition, .. } => definition.name.to_string(),
        ColumnType::Tuple(items) => format!("tuple<{}>", items.iter().map(cql_name).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}

pub fn native_name(kind: &NativeType) -> &'static str {
    match kind {
        NativeType::Ascii => "ascii",
        NativeType::Boolean => "boolean",
        NativeType::Blob => "blob",
        NativeType::Counter => "counter",
        NativeType::Date => "date",
        NativeType::Decimal => "decimal",
        NativeType::Double => "double",
        NativeType::Duration => "duration",
        NativeType::Float => "float",
        NativeType::Int => "int",
        NativeType::BigInt => "bigint",
        NativeType::Text => "text",
        NativeType::Timestamp => "timestamp",
        NativeType::Inet => "inet",
        NativeType::SmallInt => "smallint",
        NativeType::TinyInt => "tinyint",
        NativeType::Time => "time",
        NativeType::Timeuuid => "timeuuid",
        NativeType::Uuid => "uuid",
        NativeType::Varint => "varint",
        _ => "a type that this build does not know",
    }
}

/// The SQL name of a column's type, as a user writes it.
pub fn sql_name(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Timestamp(..) => "TIMESTAMP".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(_) => "TIME".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY".to_owned(),
        other => other.to_string(),
    }
}
