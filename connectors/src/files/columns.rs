//! The columns of a table of files that declares none: as the first of its files says them of itself, or as its first records
//! show them. Those of PARTITIONED BY that are not in the file are text.

use super::hive::PARTITIONED_BY;
use super::read::{arrow_schema, avro_schema, parquet};
use super::stored::{Stored, read_failed};
use super::{FileFormat, has_header, is_changelog, path_of, pattern, read};
use crate::formats::{LineSplitter, Sample, columns_of_avro, map_of_text};
use crate::{Columns, Context, Error, Result, TableDef};
use ::arrow::array::AsArray;
use ::arrow::csv::ReaderBuilder;
use ::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use std::sync::Arc;

/// Records that are looked at where a file does not say its columns.
const SAMPLE: usize = 1000;

pub fn columns(table: &TableDef, context: &Context) -> Result<Option<Columns>> {
    let format = FileFormat::of(table)?;
    if format == FileFormat::Raw || is_changelog(table)? {
        return Ok(None);
    }
    let partitions: Vec<&str> =
        table.option(PARTITIONED_BY.name).map(|names| names.split(',').map(str::trim).collect()).unwrap_or_default();
    let path = path_of(table)?;
    let found = pattern::find(&context.base_dir, path, !partitions.is_empty())?;
    let paths: Vec<String> = found.into_iter().map(|found| found.path).collect();
    let Some(first) = paths.first() else {
        return Err(Error::Fatal(format!(
            "table '{}' declares no columns, and there is no file at '{path}' yet that would say them; declare them",
            table.name
        )));
    };
    let mut columns = match format {
        FileFormat::Parquet => {
            let footer = parquet::footer(&Stored::open(&context.base_dir, first)?)?;
            of_schema(table, first, &*parquet::schema(first, footer)?)?
        }
        FileFormat::Arrow => of_schema(table, first, &*arrow_schema(Stored::open(&context.base_dir, first)?)?)?,
        FileFormat::Avro => {
            let schema = avro_schema(Stored::open(&context.base_dir, first)?)?;
            columns_of_avro(&schema).map_err(|why| untold(table, first, &format!("its schema {why}")))?
        }
        FileFormat::Json | FileFormat::Csv => sampled(table, format, &paths, context)?.columns,
        FileFormat::Raw => return Ok(None),
    };
    for name in partitions {
        if !columns.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            columns.push((name.to_owned(), DataType::Utf8));
        }
    }
    Ok(Some(Columns { columns, primary_key: Vec::new() }))
}

fn untold(table: &TableDef, path: &str, why: &str) -> Error {
    Error::Fatal(format!("the columns of table '{}' do not follow from '{path}': {why}; declare them", table.name))
}

fn of_schema(table: &TableDef, path: &str, schema: &Schema) -> Result<Vec<(String, DataType)>> {
    let column = |field: &Arc<Field>| match declared(field.data_type()) {
        Some(kind) => Ok((field.name().clone(), kind)),
        None => {
            let why = format!("its column '{}' is {}, for which SQL has no type", field.name(), field.data_type());
            Err(untold(table, path, &why))
        }
    };
    schema.fields().iter().map(column).collect()
}

/// The type with which a column is declared that a file has as this one.
fn declared(kind: &DataType) -> Option<DataType> {
    use DataType as D;
    let within = |field: &Field| Some(Field::new(field.name(), declared(field.data_type())?, true));
    Some(match kind {
        D::Boolean | D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64 | D::Date32 => kind.clone(),
        D::UInt8 => D::Int16,
        D::UInt16 => D::Int32,
        D::UInt32 => D::Int64,
        D::Float16 => D::Float32,
        D::Date64 => D::Date32,
        D::Null | D::Utf8 | D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => D::Binary,
        D::Timestamp(..) => D::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        D::Time32(_) | D::Time64(_) => D::Time64(TimeUnit::Microsecond),
        D::Decimal32(precision, scale) | D::Decimal64(precision, scale) | D::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            D::Decimal128(*precision, *scale)
        }
        D::Dictionary(_, values) => declared(values)?,
        D::Struct(fields) if !fields.is_empty() => {
            D::Struct(fields.iter().map(|field| within(field)).collect::<Option<Vec<Field>>>()?.into())
        }
        D::List(item) | D::LargeList(item) => {
            D::List(Arc::new(Field::new_list_field(declared(item.data_type())?, true)))
        }
        D::Map(entries, _) => match entries.data_type() {
            D::Struct(entry) if entry.len() == 2 && declared(entry[0].data_type())? == D::Utf8 => {
                map_of_text(declared(entry[1].data_type())?)
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// From the first records of the files, one file after another.
fn sampled(table: &TableDef, format: FileFormat, paths: &[String], context: &Context) -> Result<Columns> {
    let splitter = LineSplitter::of(table)?;
    let delimiter = splitter.delimiter().unwrap_or(b',');
    let (mut sample, mut record) = (Sample::default(), Vec::new());
    for path in paths {
        let file = Stored::open(&context.base_dir, path)?;
        let at = file.path.clone();
        let failed = |why: std::io::Error| read_failed(&at, &why);
        let stream = read::text(file)?;
        let mut lines = splitter.split(stream);
        let names = match format == FileFormat::Csv {
            true if !lines.next_record(&mut record).map_err(failed)? => continue,
            true if has_header(table)? => read::header(&record, splitter, &at)?,
            true => {
                let why = "csv.header = 'false' leaves them without names";
                return Err(untold(table, path, why));
            }
            false => Vec::new(),
        };
        while sample.len() < SAMPLE && lines.next_record(&mut record).map_err(failed)? {
            if record.trim_ascii().is_empty() {
                continue;
            }
            match format {
                FileFormat::Csv => {
                    // One that has another number of values is a bad record when it is read.
                    if let Some(values) = cut(&record, delimiter, names.len()) {
                        sample.csv(&names, values.iter().map(String::as_str));
                    }
                }
                _ => sample.json(&record).map_err(|why| untold(table, path, &why))?,
            }
        }
        if sample.len() >= SAMPLE {
            break;
        }
    }
    match (sample.is_empty(), paths) {
        (true, [first, ..]) => Err(untold(table, first, "no record in it says any")),
        _ => Ok(sample.columns()),
    }
}

/// The values of one record.
fn cut(record: &[u8], delimiter: u8, n_values: usize) -> Option<Vec<String>> {
    let fields: Vec<Field> = (0..n_values).map(|at| Field::new(at.to_string(), DataType::Utf8, true)).collect();
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(false).with_delimiter(delimiter);
    let batch = reader.build(record).ok()?.next()?.ok()?;
    let value = |at: usize| {
        let column = batch.column(at).as_string::<i32>();
        column.iter().next().flatten().unwrap_or_default().to_owned()
    };
    Some((0..n_values).map(value).collect())
}
