//! Which CQL type holds which SQL type.
//!
//! Invariant: what [`fits`] accepts, [`super::cells`] writes and [`super::rows`] reads without loss, but for a
//! timestamp's microseconds.

use super::values::{fixed_length, item};
use crate::formats::map_of_text;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::sync::Arc;

/// Whether Cassandra has a type for it.
pub fn holds(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| holds(field.data_type())),
        DataType::Map(entries, _) => {
            entry(entries).is_some_and(|(key, value)| holds(key.data_type()) && holds(value.data_type()))
        }
        _ => match item(kind) {
            Some(item) => holds(item.data_type()),
            None => plain(kind).is_some(),
        },
    }
}

/// Whether it has types within.
pub fn nested(kind: &DataType) -> bool {
    matches!(kind, DataType::Struct(_) | DataType::Map(..)) || item(kind).is_some()
}

/// Of a map.
pub fn entry(entries: &Field) -> Option<(&Field, &Field)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

/// A column's type in a table that we create, in CQL. A structure is a user-defined type, which `define` names and makes sure
/// of. Within other types all are frozen: Cassandra has no other.
pub fn created_as(kind: &DataType, define: &mut impl FnMut(&Fields) -> Option<String>) -> Option<String> {
    let mut inner = |kind: &DataType| {
        let name = created_as(kind, define)?;
        Some(if nested(kind) { format!("frozen<{name}>") } else { name })
    };
    match kind {
        DataType::Struct(fields) => define(fields),
        DataType::Map(entries, _) => {
            let (key, value) = entry(entries)?;
            Some(format!("map<{}, {}>", inner(key.data_type())?, inner(value.data_type())?))
        }
        _ => match item(kind) {
            Some(item) => Some(format!("list<{}>", inner(item.data_type())?)),
            None => plain(kind).as_ref().map(|native| native_name(native).to_owned()),
        },
    }
}

fn plain(kind: &DataType) -> Option<NativeType> {
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

/// What a column is declared as that nobody declared: DECIMAL has as many digits as it can, 18 of them behind the point, and
/// what has no type of its own is text.
pub fn declared(there: &ColumnType<'_>) -> Option<DataType> {
    use NativeType as N;
    let list = |item: &ColumnType<'_>| Some(DataType::List(Arc::new(Field::new_list_field(declared(item)?, true))));
    Some(match there {
        ColumnType::Native(native) => match native {
            N::Boolean => DataType::Boolean,
            N::TinyInt => DataType::Int8,
            N::SmallInt => DataType::Int16,
            N::Int => DataType::Int32,
            N::BigInt => DataType::Int64,
            N::Float => DataType::Float32,
            N::Double => DataType::Float64,
            N::Text | N::Ascii | N::Uuid | N::Timeuuid | N::Inet | N::Duration => DataType::Utf8,
            N::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            N::Date => DataType::Date32,
            N::Time => DataType::Time64(TimeUnit::Microsecond),
            N::Decimal => DataType::Decimal128(38, 18),
            N::Varint => DataType::Decimal128(38, 0),
            N::Blob => DataType::Binary,
            _ => return None,
        },
        ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. } => list(item)?,
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => match declared(key)? {
            DataType::Utf8 => map_of_text(declared(value)?),
            _ => return None,
        },
        ColumnType::Vector { typ, .. } if fixed_length(typ) => list(typ)?,
        ColumnType::UserDefinedType { definition, .. } => {
            let fields = definition.field_types.iter();
            let fields = fields.map(|(name, kind)| Some(Field::new(name.to_string(), declared(kind)?, true)));
            DataType::Struct(fields.collect::<Option<Vec<Field>>>()?.into())
        }
        ColumnType::Tuple(kinds) => {
            let field =
                |(at, kind): (usize, &ColumnType<'_>)| Some(Field::new(format!("f{at}"), declared(kind)?, true));
            DataType::Struct(kinds.iter().enumerate().map(field).collect::<Option<Vec<Field>>>()?.into())
        }
        _ => return None,
    })
}

/// Whether a column of the server can hold the column of the SQL table.
pub fn fits(kind: &DataType, there: &ColumnType<'_>) -> bool {
    let there = match (kind, there) {
        (_, ColumnType::Native(there)) => there,
        (DataType::Map(entries, _), ColumnType::Collection { typ: CollectionType::Map(key, value), .. }) => {
            return entry(entries).is_some_and(|(k, v)| fits(k.data_type(), key) && fits(v.data_type(), value));
        }
        // A field that is not declared here is null in what is written.
        (DataType::Struct(fields), ColumnType::UserDefinedType { definition, .. }) => {
            let of = |name: &str| definition.field_types.iter().find(|(there, _)| there == name).map(|(_, kind)| kind);
            return fields.iter().all(|field| of(field.name()).is_some_and(|kind| fits(field.data_type(), kind)));
        }
        (DataType::Struct(fields), ColumnType::Tuple(kinds)) => {
            let mut pairs = fields.iter().zip(kinds);
            return fields.len() == kinds.len() && pairs.all(|(field, kind)| fits(field.data_type(), kind));
        }
        (_, ColumnType::Collection { typ: CollectionType::List(there) | CollectionType::Set(there), .. }) => {
            return item(kind).is_some_and(|item| fits(item.data_type(), there));
        }
        (_, ColumnType::Vector { typ, .. }) => {
            return fixed_length(typ) && item(kind).is_some_and(|item| fits(item.data_type(), typ));
        }
        _ => return false,
    };
    let also: &[NativeType] = match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            &[NativeType::Ascii, NativeType::Uuid, NativeType::Timeuuid, NativeType::Inet, NativeType::Duration]
        }
        DataType::Decimal128(_, 0) => &[NativeType::Varint],
        DataType::FixedSizeBinary(16) => &[NativeType::Uuid, NativeType::Timeuuid],
        _ => &[],
    };
    plain(kind).as_ref() == Some(there) || also.contains(there)
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
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entry(entries) {
            Some((key, value)) => format!("MAP<{}, {}>", sql_name(key.data_type()), sql_name(value.data_type())),
            None => kind.to_string(),
        },
        other => item(other).map_or_else(|| other.to_string(), |item| format!("ARRAY<{}>", sql_name(item.data_type()))),
    }
}
