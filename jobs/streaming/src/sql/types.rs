//! SQL types and their one Arrow type each.
//!
//! Invariant: event time is Timestamp(µs, UTC) and text is Utf8 wherever rows leave an expression, so that no connector,
//! exchange or result has to know a second form.

use super::lacking::written;
use super::nested::lowered;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, StructField, TimezoneInfo,
};
use jobs::Diagnostic;
use std::sync::Arc;

/// For people, and for suggesting the nearest.
const NAMES: [&str; 19] = [
    "BIGINT",
    "INT",
    "SMALLINT",
    "TINYINT",
    "DOUBLE",
    "FLOAT",
    "BOOLEAN",
    "VARCHAR",
    "TEXT",
    "STRING",
    "TIMESTAMP",
    "DATE",
    "TIME",
    "DECIMAL",
    "BYTES",
    "VARBINARY",
    "STRUCT",
    "ARRAY",
    "MAP",
];

pub(crate) fn event_time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of a column that is declared with `sql`.
pub(crate) fn arrow_type(sql: &SqlType) -> Result<DataType, Diagnostic> {
    known(sql).unwrap_or_else(|| {
        let written = sql.to_string();
        let word: String = written.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        Err(Diagnostic::new(format!("unknown type '{written}'")).suggest(&word, NAMES))
    })
}

fn known(sql: &SqlType) -> Option<Result<DataType, Diagnostic>> {
    use SqlType as S;
    Some(Ok(match sql {
        S::BigInt(_) | S::Int64 | S::Int8(_) => DataType::Int64,
        S::Int(_) | S::Integer(_) | S::Int4(_) | S::Int32 => DataType::Int32,
        S::SmallInt(_) | S::Int2(_) | S::Int16 => DataType::Int16,
        S::TinyInt(_) => DataType::Int8,
        S::Double(_) | S::DoublePrecision | S::Float8 | S::Float64 => DataType::Float64,
        S::Float(_) | S::Real | S::Float4 | S::Float32 => DataType::Float32,
        S::Boolean | S::Bool => DataType::Boolean,
        S::Varchar(_) | S::Text | S::String(_) | S::Char(_) | S::Character(_) | S::CharacterVarying(_) => {
            DataType::Utf8
        }
        // A column without a zone is taken as UTC: event time has one form.
        S::Timestamp(..) | S::TimestampNtz(_) | S::Datetime(_) => event_time(),
        S::Date | S::Date32 => DataType::Date32,
        S::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => time_of_day(),
        S::Bytes(_) | S::Varbinary(_) | S::Binary(_) | S::Bytea | S::Blob(_) => DataType::Binary,
        S::Decimal(info) | S::Numeric(info) | S::Dec(info) => return Some(decimal(info)),
        S::Struct(fields, _) => return Some(struct_type(fields)),
        S::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, _)) => {
            return Some(arrow_type(item).map(list_of));
        }
        S::Map(key, value) => return Some(map_type(key, value)),
        S::Custom(name, _) => {
            let name = name.to_string().to_ascii_uppercase();
            match name.as_str() {
                "TIMESTAMP_LTZ" | "TIMESTAMPTZ" | "TIMESTAMP_NTZ" => event_time(),
                _ => return None,
            }
        }
        _ => return None,
    }))
}

/// Fields may be NULL, as columns may.
fn struct_type(fields: &[StructField]) -> Result<DataType, Diagnostic> {
    if fields.is_empty() {
        return Err(Diagnostic::new("a STRUCT needs fields").help("write for example STRUCT<a BIGINT, b VARCHAR>"));
    }
    let mut found: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(name) = &field.field_name else {
            return Err(Diagnostic::new(format!("a field of type {} has no name", field.field_type)));
        };
        if found.iter().any(|earlier| earlier.name().to_lowercase() == name.value.to_lowercase()) {
            return Err(Diagnostic::new(format!("field '{}' is declared twice", name.value)));
        }
        found.push(Field::new(&name.value, arrow_type(&field.field_type)?, true));
    }
    Ok(DataType::Struct(found.into()))
}

fn time_of_day() -> DataType {
    DataType::Time64(TimeUnit::Microsecond)
}

fn map_type(key: &SqlType, value: &SqlType) -> Result<DataType, Diagnostic> {
    let (key, value) = (arrow_type(key)?, arrow_type(value)?);
    if key != DataType::Utf8 {
        return Err(Diagnostic::new(format!("the keys of a MAP are VARCHAR, not {}", sql_name(&key))));
    }
    Ok(map_of(value))
}

/// The one form of maps: keys are text, and nothing else of them is named.
pub(crate) fn map_of(value: DataType) -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry.into()), false)), false)
}

/// The type of a map's values; of one whose keys are text.
pub(crate) fn map_value(data_type: &DataType) -> Option<&DataType> {
    let DataType::Map(entries, _) = data_type else { return None };
    match entries.data_type() {
        DataType::Struct(entry) if entry.len() == 2 && canonical(entry[0].data_type()) == DataType::Utf8 => {
            Some(entry[1].data_type())
        }
        _ => None,
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType, Diagnostic> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(Diagnostic::new(format!("DECIMAL({precision}, {scale}) is out of range"))
            .help("precision is 1 to 38 and scale 0 to the precision")),
    }
}

/// The type as a person writes it.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "BIGINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "VARCHAR".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTES".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", written(field.name()), sql_name(field.data_type())))
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("ARRAY<{}>", sql_name(item.data_type()))
        }
        map if map_value(map).is_some() => {
            format!("MAP<VARCHAR, {}>", map_value(map).map(sql_name).unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// The form in which values of this type travel between operators.
pub(crate) fn canonical(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(..) => event_time(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => time_of_day(),
        DataType::Dictionary(_, value) => canonical(value),
        DataType::Struct(fields) => DataType::Struct(
            fields.iter().map(|field| field.as_ref().clone().with_data_type(canonical(field.data_type()))).collect(),
        ),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(canonical(item.data_type()))))
        }
        map if map_value(map).is_some() => map_value(map).map_or_else(|| map.clone(), |value| map_of(canonical(value))),
        other => other.clone(),
    }
}

/// `expr`, cast to its canonical form where it has another, under the name it had.
pub(crate) fn canonical_expr(expr: Expr, schema: &DFSchema) -> PlanResult<Expr> {
    let Ok(data_type) = expr.get_type(schema) else { return Ok(expr) };
    let wanted = canonical(&data_type);
    if wanted == data_type {
        return Ok(expr);
    }
    let (qualifier, name) = expr.qualified_name();
    Ok(cast(expr.unalias(), wanted).alias_qualified(qualifier, name))
}

/// Gives casts and literals the same types as columns.
#[derive(Debug)]
pub(crate) struct ScriptTypes;

impl TypePlanner for ScriptTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> PlanResult<Option<FieldRef>> {
        let data_type = known(sql_type).and_then(Result::ok).map(|data_type| lowered(&data_type));
        Ok(data_type.map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}

/// Whether a value of one type may be written to a column of another without the author saying CAST: never where a
/// value could silently become another one. (Integers that do not fit fail the job aloud.)
pub(crate) fn assignable(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let integer =
        |t: &D| matches!(t, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64);
    let float = |t: &D| matches!(t, D::Float16 | D::Float32 | D::Float64);
    let decimal = |t: &D| matches!(t, D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..));
    let (from, to) = (lowered(&canonical(from)), lowered(&canonical(to)));
    from == to
        || from == D::Null
        || (integer(&from) && (integer(&to) || float(&to) || decimal(&to)))
        || (float(&from) && float(&to))
        || (decimal(&from) && float(&to))
        || matches!((&from, &to), (D::Decimal128(_, a), D::Decimal128(_, b)) if a <= b)
        || (from == D::Date32 && to == event_time())
}
