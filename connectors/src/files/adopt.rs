//! Columns of a file as the columns that its table declares.
//!
//! A file says of itself what its columns are: names are bound by written case, else without regard to case, and a column
//! that has its declared type already is handed on as it is. Types that hold less than the declared one are widened.
//!
//! Invariant: no value is lost or changed on the way; finer times than microseconds are cut to them. A column or field that
//! the file lacks, or that does not fit, is refused with both schemas.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::path::Path;
use std::sync::Arc;

/// The file's fields in place of the wanted ones, with as much of their structs as is wanted: what is to be decoded.
pub fn bind(path: &Path, file: &Schema, wanted: &Schema) -> Result<Schema> {
    let bound: std::result::Result<Fields, String> =
        wanted.fields().iter().map(|field| bound_field(file.fields(), field, "")).collect();
    bound.map(Schema::new).map_err(|why| {
        Error::Fatal(format!(
            "'{}' does not fit its table: {why}\nthe table reads: {}\nthe file has:    {}\ndeclare the columns as the file \
             has them",
            path.display(),
            spelled(wanted.fields()),
            spelled(file.fields())
        ))
    })
}

fn spelled(fields: &Fields) -> String {
    let columns: Vec<String> = fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    columns.join(", ")
}

/// The field called so.
pub fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a FieldRef> {
    let exact = fields.iter().find(|field| field.name() == name);
    exact.or_else(|| fields.iter().find(|field| field.name().to_lowercase() == name.to_lowercase()))
}

fn bound_field(fields: &Fields, wanted: &Field, within: &str) -> std::result::Result<FieldRef, String> {
    let name = format!("{within}{}", wanted.name());
    let field = find(fields, wanted.name()).ok_or_else(|| format!("it has no column '{name}'"))?;
    let kind = bound_type(field.data_type(), wanted.data_type(), &name)?;
    Ok(Arc::new(Field::new(field.name(), kind, field.is_nullable())))
}

fn bound_type(file: &DataType, wanted: &DataType, name: &str) -> std::result::Result<DataType, String> {
    use DataType as D;
    let again = |field: &FieldRef, wanted: &FieldRef| -> std::result::Result<FieldRef, String> {
        let kind = bound_type(field.data_type(), wanted.data_type(), name)?;
        Ok(Arc::new(field.as_ref().clone().with_data_type(kind)))
    };
    match (file, wanted) {
        (D::Struct(file), D::Struct(wanted)) => {
            let within = format!("{name}.");
            let fields: std::result::Result<Fields, String> =
                wanted.iter().map(|field| bound_field(file, field, &within)).collect();
            fields.map(D::Struct)
        }
        (D::List(file), D::List(wanted)) => Ok(D::List(again(file, wanted)?)),
        (D::LargeList(file), D::List(wanted)) => Ok(D::LargeList(again(file, wanted)?)),
        (D::Map(file, sorted), D::Map(wanted, _)) => {
            let (D::Struct(file_entries), D::Struct(entries)) = (file.data_type(), wanted.data_type()) else {
                return Err(misfit(name, file.data_type(), wanted.data_type()));
            };
            // Keys and values are told by their place; their names differ between programs.
            let both: std::result::Result<Fields, String> =
                file_entries.iter().zip(entries).map(|(file, wanted)| again(file, wanted)).collect();
            Ok(D::Map(Arc::new(file.as_ref().clone().with_data_type(D::Struct(both?))), *sorted))
        }
        _ if fits(file, wanted) => Ok(file.clone()),
        _ => Err(misfit(name, file, wanted)),
    }
}

fn misfit(name: &str, file: &DataType, wanted: &DataType) -> String {
    format!("column '{name}' is {file}, and {wanted} is wanted")
}

/// Whether every value of the one is a value of the other.
fn fits(file: &DataType, wanted: &DataType) -> bool {
    use DataType as D;
    let bits = |kind: &DataType| kind.primitive_width().unwrap_or(0) * 8;
    let digits = |kind: &DataType| match kind {
        D::Decimal32(precision, scale) | D::Decimal64(precision, scale) | D::Decimal128(precision, scale) => {
            Some((i32::from(*precision), i32::from(*scale)))
        }
        _ => None,
    };
    match (file, wanted) {
        _ if file == wanted => true,
        (D::Null, _) => true,
        (D::Dictionary(_, values), _) => fits(values, wanted),
        _ if file.is_signed_integer() && wanted.is_signed_integer() => bits(file) <= bits(wanted),
        _ if file.is_unsigned_integer() && wanted.is_integer() => {
            bits(file) < bits(wanted) || wanted.is_unsigned_integer() && bits(file) == bits(wanted)
        }
        (D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16 | D::UInt32, D::Float64) => true,
        (D::Float16, D::Float32) | (D::Float16 | D::Float32, D::Float64) => true,
        // Text that is not declared as such is checked when it is read.
        (D::LargeUtf8 | D::Utf8View | D::Binary | D::LargeBinary | D::BinaryView, D::Utf8) => true,
        (D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), D::Binary) => true,
        (D::Date64, D::Date32) => true,
        (D::Timestamp(..), D::Timestamp(TimeUnit::Microsecond, _)) => true,
        (D::Time32(_) | D::Time64(_), D::Time64(TimeUnit::Microsecond)) => true,
        (_, D::Decimal128(precision, scale)) => digits(file).is_some_and(|(from_precision, from_scale)| {
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            from_scale <= scale && from_precision - from_scale <= precision - scale
        }),
        _ => false,
    }
}

/// Rows of the fields that [`bind`] gave, whatever their order, as rows of the wanted ones.
pub fn adopt(path: &Path, batch: &RecordBatch, bound: &Schema, wanted: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(wanted.fields().len());
    let failed = |why: ArrowError| Error::Fatal(format!("'{}' cannot be read: {why}", path.display()));
    for (field, wanted) in bound.fields().iter().zip(wanted.fields()) {
        let column = batch.column_by_name(field.name()).ok_or_else(|| {
            Error::Fatal(format!("'{}' is damaged: its rows lack column '{}'", path.display(), field.name()))
        })?;
        columns.push(adopted(column, wanted.data_type()).map_err(failed)?);
    }
    if columns.is_empty() {
        return Ok(crate::formats::without_columns(Arc::clone(wanted), batch.num_rows()));
    }
    RecordBatch::try_new(Arc::clone(wanted), columns).map_err(failed)
}

fn adopted(array: &ArrayRef, wanted: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    use DataType as D;
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), wanted) {
        (D::Struct(fields), D::Struct(wanted_fields)) => {
            let whole = array.as_struct();
            let mut children = Vec::with_capacity(wanted_fields.len());
            for field in wanted_fields {
                let name = find(fields, field.name()).map_or(field.name(), |field| field.name());
                let child = whole
                    .column_by_name(name)
                    .ok_or_else(|| ArrowError::SchemaError(format!("a struct lacks its field '{}'", field.name())))?;
                children.push(adopted(child, field.data_type())?);
            }
            let nulls = whole.nulls().cloned();
            let made = StructArray::try_new_with_length(wanted_fields.clone(), children, nulls, whole.len())?;
            Ok(Arc::new(made))
        }
        (D::List(_), D::List(field)) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, adopted(&values, field.data_type())?, nulls)?))
        }
        (D::LargeList(field), D::List(_)) => adopted(&cast(array, &D::List(Arc::clone(field)))?, wanted),
        (D::Map(..), D::Map(field, sorted)) => {
            let (_, offsets, entries, nulls, _) = array.as_map().clone().into_parts();
            let D::Struct(fields) = field.data_type() else {
                return Err(ArrowError::SchemaError(format!("a map of {}", field.data_type())));
            };
            let children = entries.columns().iter().zip(fields).map(|(child, field)| adopted(child, field.data_type()));
            let children = children.collect::<std::result::Result<Vec<_>, _>>()?;
            let entries = StructArray::try_new(fields.clone(), children, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted)?))
        }
        // A time without a zone is one of UTC.
        _ => cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray, TimestampNanosecondArray};

    #[test]
    fn columns_are_bound_by_name_and_widened() {
        let inner: Fields = vec![Field::new("B", DataType::Int16, false), Field::new("a", DataType::Utf8, true)].into();
        let file = Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("Id", DataType::Int32, false),
            Field::new("s", DataType::Struct(inner.clone()), true),
            Field::new("unread", DataType::Boolean, true),
        ]);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let wanted_inner: Fields = vec![Field::new("b", DataType::Int64, true)].into();
        let wanted = Arc::new(Schema::new(vec![
            Field::new("s", DataType::Struct(wanted_inner), true),
            Field::new("id", DataType::Int64, true),
            Field::new("at", utc, true),
        ]));
        let path = Path::new("x.parquet");
        let bound = bind(path, &file, &wanted).unwrap();
        let names: Vec<&str> = bound.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["s", "Id", "at"]);
        let s = StructArray::new(
            inner,
            vec![Arc::new(arrow::array::Int16Array::from(vec![7, 8])), Arc::new(StringArray::from(vec!["x", "y"]))],
            Some(vec![true, false].into()),
        );
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_999, 2_000])) as ArrayRef, true),
            ("Id", Arc::new(Int32Array::from(vec![1, 2])), false),
            ("s", Arc::new(s), true),
        ])
        .unwrap();
        let rows = adopt(path, &batch, &bound, &wanted).unwrap();
        assert_eq!(rows.schema(), wanted);
        assert!(rows.column(0).is_null(1));
        let text = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap().to_string();
        assert!(text.contains("| {b: 7} | 1  | 1970-01-01T00:00:00.000001Z |"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_schemas() {
        let file = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
        for (wanted, why) in [
            (Field::new("id", DataType::Int32, true), "column 'id' is Int64, and Int32 is wanted"),
            (Field::new("nmae", DataType::Utf8, true), "it has no column 'nmae'"),
            (Field::new("name", DataType::Boolean, true), "column 'name' is Utf8"),
        ] {
            let text = bind(Path::new("x"), &file, &Schema::new(vec![wanted])).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("the file has:    id Int64, name Utf8"), "{text}");
        }
    }

    #[test]
    fn only_what_loses_nothing_fits() {
        use DataType as D;
        for (file, wanted, expected) in [
            (D::UInt32, D::Int64, true),
            (D::UInt32, D::Int32, false),
            (D::UInt64, D::Int64, false),
            (D::Int64, D::Float64, false),
            (D::Decimal128(10, 2), D::Decimal128(12, 4), true),
            (D::Decimal128(10, 2), D::Decimal128(11, 4), false),
            (D::Decimal128(10, 4), D::Decimal128(20, 2), false),
            (D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8)), D::Utf8, true),
            (D::Float64, D::Float32, false),
            (D::Utf8, D::Binary, false),
        ] {
            assert_eq!(fits(&file, &wanted), expected, "{file} {wanted}");
        }
    }
}
