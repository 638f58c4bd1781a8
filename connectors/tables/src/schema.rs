//! What the store knows of a table: its columns, its key, and how both are written down.
//!
//! Invariant: one type of text and one of bytes; the ways Arrow lays them out are not told apart here, so a table can be
//! written by one plan and read by another.

use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;

/// A table of the store. All columns may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub name: String,
    pub schema: SchemaRef,
    /// Indices into `schema`; empty where rows are only appended.
    pub primary_key: Vec<usize>,
    /// Names the rows' place in the file; a table that is dropped and made again gets another.
    pub(crate) id: u64,
}

impl TableInfo {
    pub fn new(name: &str, schema: &Schema, primary_key: &[usize]) -> Result<Self> {
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "{name:?} cannot be the name of a table; use 1 to 255 printable bytes"
            )));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let kind = stored_type(field.data_type());
            if type_name(&kind).is_none() {
                return Err(Error::Unsupported {
                    table: name.to_owned(),
                    column: field.name().clone(),
                    kind: field.data_type().to_string(),
                });
            }
            if fields.iter().any(|earlier| earlier.name() == field.name()) {
                return Err(Error::Invalid(format!("table '{name}' has two columns '{}'", field.name())));
            }
            fields.push(Field::new(field.name(), kind, true));
        }
        for (at, index) in primary_key.iter().enumerate() {
            if *index >= fields.len() || primary_key[..at].contains(index) {
                return Err(Error::Invalid(format!("the primary key of table '{name}' names no column by {index}")));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            schema: Arc::new(Schema::new(fields)),
            primary_key: primary_key.to_vec(),
            id: 0,
        })
    }

    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        self.schema == other.schema && self.primary_key == other.primary_key
    }

    pub(crate) fn to_catalog(&self) -> CatalogEntry {
        let columns = self.schema.fields().iter().map(|field| CatalogColumn {
            name: field.name().clone(),
            kind: type_name(field.data_type()).unwrap_or_default(),
        });
        CatalogEntry { codec: CODEC, id: self.id, columns: columns.collect(), primary_key: self.primary_key.clone() }
    }

    pub(crate) fn from_catalog(name: &str, entry: CatalogEntry) -> Result<Self> {
        if entry.codec != CODEC {
            return Err(Error::Corrupt(format!(
                "table '{name}' is written in encoding {}, and this version reads {CODEC}",
                entry.codec
            )));
        }
        let mut fields = Vec::with_capacity(entry.columns.len());
        for column in entry.columns {
            let kind = parse_type(&column.kind).ok_or_else(|| {
                Error::Corrupt(format!("column '{}' of table '{name}' has unknown type '{}'", column.name, column.kind))
            })?;
            fields.push(Field::new(column.name, kind, true));
        }
        if entry.primary_key.iter().any(|index| *index >= fields.len()) {
            return Err(Error::Corrupt(format!("the primary key of table '{name}' names no column")));
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { name: name.to_owned(), schema, primary_key: entry.primary_key, id: entry.id })
    }
}

impl fmt::Display for TableInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, field) in self.schema.fields().iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", field.name(), type_name(field.data_type()).unwrap_or_default())?;
        }
        f.write_str(")")?;
        if !self.primary_key.is_empty() {
            let names: Vec<&str> = self.primary_key.iter().map(|at| self.schema.field(*at).name().as_str()).collect();
            write!(f, " keyed by ({})", names.join(", "))?;
        }
        Ok(())
    }
}

/// The version of [`crate::codec`] that a table's rows are written in.
const CODEC: u32 = 1;

/// A table as the catalog keeps it, and as it is described to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogEntry {
    codec: u32,
    id: u64,
    pub columns: Vec<CatalogColumn>,
    pub primary_key: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableColumn)]
pub(crate) struct CatalogColumn {
    pub name: String,
    /// As the store names it, for example `int64`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The type that values of `kind` are kept as.
pub(crate) fn stored_type(kind: &DataType) -> DataType {
    match kind {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

const UNITS: [(TimeUnit, &str); 4] = [
    (TimeUnit::Second, "s"),
    (TimeUnit::Millisecond, "ms"),
    (TimeUnit::Microsecond, "us"),
    (TimeUnit::Nanosecond, "ns"),
];

const PLAIN: [(DataType, &str); 15] = [
    (DataType::Boolean, "boolean"),
    (DataType::Int8, "int8"),
    (DataType::Int16, "int16"),
    (DataType::Int32, "int32"),
    (DataType::Int64, "int64"),
    (DataType::UInt8, "uint8"),
    (DataType::UInt16, "uint16"),
    (DataType::UInt32, "uint32"),
    (DataType::UInt64, "uint64"),
    (DataType::Float32, "float32"),
    (DataType::Float64, "float64"),
    (DataType::Utf8, "text"),
    (DataType::Binary, "bytes"),
    (DataType::Date32, "date"),
    (DataType::Date64, "date_ms"),
];

/// The name under which a type is kept; part of the file's format.
fn type_name(kind: &DataType) -> Option<String> {
    let unit = |unit: &TimeUnit| UNITS.iter().find(|(known, _)| known == unit).map_or("", |(_, name)| *name);
    match kind {
        DataType::Timestamp(of, None) => Some(format!("timestamp_{}", unit(of))),
        DataType::Timestamp(of, Some(zone)) => Some(format!("timestamp_{}@{zone}", unit(of))),
        DataType::Time32(of) | DataType::Time64(of) => Some(format!("time_{}", unit(of))),
        DataType::Decimal128(precision, scale) => Some(format!("decimal_{precision}_{scale}")),
        plain => PLAIN.iter().find(|(known, _)| known == plain).map(|(_, name)| (*name).to_owned()),
    }
}

fn parse_type(name: &str) -> Option<DataType> {
    let unit = |name: &str| UNITS.iter().find(|(_, known)| *known == name).map(|(unit, _)| *unit);
    if let Some((_, plain)) = PLAIN.iter().map(|(kind, known)| (*known, kind)).find(|(known, _)| *known == name) {
        return Some(plain.clone());
    }
    if let Some(rest) = name.strip_prefix("timestamp_") {
        return match rest.split_once('@') {
            Some((of, zone)) => Some(DataType::Timestamp(unit(of)?, Some(zone.into()))),
            None => Some(DataType::Timestamp(unit(rest)?, None)),
        };
    }
    if let Some(of) = name.strip_prefix("time_") {
        let of = unit(of)?;
        let short = matches!(of, TimeUnit::Second | TimeUnit::Millisecond);
        return Some(if short { DataType::Time32(of) } else { DataType::Time64(of) });
    }
    let (precision, scale) = name.strip_prefix("decimal_")?.split_once('_')?;
    Some(DataType::Decimal128(precision.parse().ok()?, scale.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_type_has_a_name_that_is_read_back() {
        let mut kinds: Vec<DataType> = PLAIN.iter().map(|(kind, _)| kind.clone()).collect();
        for (unit, _) in UNITS {
            kinds.push(DataType::Timestamp(unit, None));
            kinds.push(DataType::Timestamp(unit, Some("UTC".into())));
        }
        kinds.push(DataType::Time32(TimeUnit::Second));
        kinds.push(DataType::Time64(TimeUnit::Nanosecond));
        kinds.push(DataType::Decimal128(38, -2));
        for kind in kinds {
            assert_eq!(parse_type(&type_name(&kind).unwrap()), Some(kind));
        }
        assert_eq!(type_name(&DataType::Null), None);
        assert_eq!(parse_type("timestamp_h"), None);
    }

    #[test]
    fn impossible_tables_are_refused() {
        let columns =
            |kind: DataType| Schema::new(vec![Field::new("a", DataType::Int8, true), Field::new("b", kind, false)]);
        assert!(TableInfo::new("", &columns(DataType::Utf8), &[]).is_err());
        assert!(TableInfo::new("t", &columns(DataType::Utf8), &[2]).is_err());
        assert!(TableInfo::new("t", &columns(DataType::Utf8), &[1, 1]).is_err());
        let why = TableInfo::new("t", &columns(DataType::Null), &[]).unwrap_err().to_string();
        assert!(why.contains("'b'") && why.contains("Null"), "{why}");
        let info = TableInfo::new("t", &columns(DataType::Utf8View), &[1]).unwrap();
        assert_eq!(info.to_string(), "(a int8, b text) keyed by (b)");
        assert_eq!(TableInfo::from_catalog("t", info.to_catalog()).unwrap(), info);
    }
}
