//! Columns that stand in the names of directories: `a=1/b=x/part.parquet`, as Hive and those after it write them.
//!
//! Invariant: what is written is read again, whatever the value holds: bytes with a meaning in paths are written as `%3A`,
//! and a missing value has a name of its own.

use crate::{Error, OptionInfo, Options, Result, TableDef};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use jobs::Diagnostic;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

pub const PARTITIONED_BY: OptionInfo = OptionInfo {
    name: "partitioned_by",
    kind: "text",
    default: None,
    required: false,
    doc: "columns, with commas between them, whose values stand in the names of directories (a=1/b=2) and not in the files; \
          the same as PARTITIONED BY (a, b) behind the columns",
};

const ABSENT: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns of a table that stand in directory names, as places in its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitioning {
    pub columns: Vec<usize>,
}

impl Partitioning {
    pub fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let Some(text) = options.text(PARTITIONED_BY.name) else { return Ok(Self::default()) };
        let mut columns = Vec::new();
        for name in text.split(',').map(str::trim) {
            let fields = table.schema.fields();
            let same = |field: &&Arc<arrow::datatypes::Field>| field.name().eq_ignore_ascii_case(name);
            let Some((at, field)) = fields.iter().enumerate().find(|(_, field)| same(field)) else {
                let wrong = options.wrong(PARTITIONED_BY.name, format!("unknown column '{name}'"));
                return Err(wrong.suggest(name, fields.iter().map(|field| field.name().as_str())));
            };
            if !stands_in_names(field.data_type()) {
                let text = format!("column '{name}' is {}, which cannot stand in a path", field.data_type());
                return Err(options.wrong(PARTITIONED_BY.name, text).help("take a number, text, a date or a time"));
            }
            if columns.contains(&at) {
                return Err(options.wrong(PARTITIONED_BY.name, format!("column '{name}' is named twice")));
            }
            columns.push(at);
        }
        if columns.len() == table.schema.fields().len() {
            let wrong = options.wrong(PARTITIONED_BY.name, "all columns stand in directory names, so files hold none");
            return Err(wrong.help("leave at least one column to the files"));
        }
        Ok(Self { columns })
    }

    pub fn is_none(&self) -> bool {
        self.columns.is_empty()
    }

    /// The other columns: those of the files.
    pub fn stored(&self, table: &TableDef) -> Vec<usize> {
        (0..table.schema.fields().len()).filter(|column| !self.columns.contains(column)).collect()
    }

    /// The table as its files have it.
    pub fn in_files(&self, table: &TableDef) -> Result<TableDef> {
        if self.is_none() {
            return Ok(table.clone());
        }
        let stored = self.stored(table);
        let schema = table.schema.project(&stored).map_err(|why| Error::Fatal(why.to_string()))?;
        let key = table.primary_key.iter().filter_map(|key| stored.iter().position(|column| column == key)).collect();
        Ok(TableDef { schema: Arc::new(schema), primary_key: key, ..table.clone() })
    }

    /// The values that a path gives to these columns, one row each, in the order of `columns`.
    pub fn values(&self, table: &TableDef, path: &str) -> Result<Vec<ArrayRef>> {
        self.columns.iter().map(|column| self.value(table, path, *column)).collect()
    }

    fn value(&self, table: &TableDef, path: &str, column: usize) -> Result<ArrayRef> {
        let field = table.schema.field(column);
        let directories = path.rsplit('/').skip(1);
        let mut pairs = directories.filter_map(|directory| directory.split_once('='));
        let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(field.name()));
        let (_, text) = found.ok_or_else(|| {
            Error::Fatal(format!(
                "no directory of '{path}' is called '{}=…', and table '{}' is partitioned by this column",
                field.name(),
                table.name
            ))
        })?;
        if text == ABSENT {
            return Ok(new_null_array(field.data_type(), 1));
        }
        let unfit = |why: &dyn std::fmt::Display| {
            Error::Fatal(format!(
                "the directory '{}={text}' in '{path}' is no {}: {why}",
                field.name(),
                field.data_type()
            ))
        };
        let text = decoded(text).map_err(|why| unfit(&why))?;
        let one: ArrayRef = Arc::new(StringArray::from(vec![text]));
        checked_cast(&one, field.data_type()).map_err(|why| unfit(&why))
    }

    /// The rows by directory, in order within each, with the columns of `stored` only.
    pub fn split(
        &self,
        batch: &RecordBatch,
        stored: &[usize],
    ) -> std::result::Result<Vec<(String, RecordBatch)>, ArrowError> {
        let rest = batch.project(stored)?;
        if self.is_none() {
            return Ok(vec![(String::new(), rest)]);
        }
        let schema = batch.schema();
        let names: Vec<&str> = self.columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
        let texts = self.columns.iter().map(|column| checked_cast(batch.column(*column), &DataType::Utf8));
        let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|text| text.as_string()).collect();
        let value = |text: &StringArray, row: usize| text.is_valid(row).then(|| text.value(row).to_owned());
        let mut known: HashMap<Vec<Option<String>>, usize> = HashMap::new();
        let mut rows: Vec<(String, Vec<u32>)> = Vec::new();
        let mut last: Option<usize> = None;
        for row in 0..batch.num_rows() {
            // Neighbours are often of one directory.
            let same = row > 0
                && texts.iter().all(|text| match (text.is_valid(row - 1), text.is_valid(row)) {
                    (true, true) => text.value(row - 1) == text.value(row),
                    (before, now) => before == now,
                });
            let at = match last.filter(|_| same) {
                Some(at) => at,
                None => {
                    let values: Vec<Option<String>> = texts.iter().map(|text| value(text, row)).collect();
                    match known.get(&values) {
                        Some(at) => *at,
                        None => {
                            rows.push((directory(&names, &values), Vec::new()));
                            known.insert(values, rows.len() - 1);
                            rows.len() - 1
                        }
                    }
                }
            };
            rows[at].1.push(row as u32);
            last = Some(at);
        }
        if let [(directory, _)] = rows.as_slice() {
            return Ok(vec![(directory.clone(), rest)]);
        }
        let taken = rows.into_iter().map(|(directory, rows)| {
            let taken = take_record_batch(&rest, &UInt32Array::from(rows))?;
            Ok((directory, taken))
        });
        taken.collect()
    }
}

fn stands_in_names(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..) | DataType::Decimal128(..)
        )
}

fn checked_cast(array: &ArrayRef, kind: &DataType) -> std::result::Result<ArrayRef, ArrowError> {
    cast_with_options(array, kind, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Puts columns that have one value in all rows between those that were read.
pub fn with_constants(
    batch: RecordBatch,
    wanted: &SchemaRef,
    constants: &[(usize, ArrayRef)],
) -> std::result::Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let zeros = UInt32Array::from(vec![0; rows]);
    let mut columns = batch.columns().to_vec();
    for (at, value) in constants {
        columns.insert(*at, take(value, &zeros, None)?);
    }
    RecordBatch::try_new(Arc::clone(wanted), columns)
}

fn directory(names: &[&str], values: &[Option<String>]) -> String {
    let parts: Vec<String> = names
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{}={}", encoded(name), value.as_deref().map_or(ABSENT.to_owned(), encoded)))
        .collect();
    parts.join("/")
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decoded(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "its bytes are no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::array::{Date32Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::TimeUnit;

    #[test]
    fn values_come_back_from_their_names() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns = [
            ("n", DataType::Int64),
            ("Text", DataType::Utf8),
            ("day", DataType::Date32),
            ("at", utc),
            ("v", DataType::Int64),
        ];
        let table = table(&columns, &[("partitioned_by", "text, n,day,at")]);
        let partitioning = Partitioning::of(&table).unwrap();
        assert_eq!(partitioning.columns, [1, 0, 2, 3]);
        let texts = vec![Some("a/b=c%é *"), None, Some(""), Some("a/b=c%é *"), Some("..")];
        let rows = RecordBatch::try_new(
            table.schema.clone(),
            vec![
                Arc::new(Int64Array::from(vec![Some(-1), Some(2), None, Some(-1), Some(3)])),
                Arc::new(StringArray::from(texts)),
                Arc::new(Date32Array::from(vec![Some(0), None, Some(19_000), Some(0), Some(1)])),
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(1_500_000), Some(-7), None, Some(1_500_000), Some(2)])
                        .with_timezone("UTC"),
                ),
                Arc::new(Int64Array::from_iter_values(0..5)),
            ],
        )
        .unwrap();
        let split = partitioning.split(&rows, &[4]).unwrap();
        assert_eq!(split.len(), 4);
        for (directory, part) in &split {
            let first = part.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0) as usize;
            let values = partitioning.values(&table, &format!("out/{directory}/part.parquet")).unwrap();
            for (column, value) in partitioning.columns.iter().zip(&values) {
                assert_eq!(&rows.column(*column).slice(first, 1), value, "{directory}");
            }
        }
        assert_eq!(split[0].1.num_rows(), 2);
        let wanted = Arc::new(table.schema.project(&[1, 4]).unwrap());
        let values = partitioning.values(&table, &format!("{}/x", split[0].0)).unwrap();
        let whole = with_constants(split[0].1.clone(), &wanted, &[(0, values[0].clone())]).unwrap();
        let texts: Vec<Option<&str>> = whole.column(0).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("a/b=c%é *"); 2]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let columns = [("n", DataType::Int64), ("x", DataType::Float64)];
        for (by, why) in
            [("m", "unknown column 'm'"), ("x", "cannot stand"), ("n,N", "twice"), ("n, x", "cannot stand")]
        {
            let wrong = Partitioning::of(&table(&columns, &[("partitioned_by", by)])).unwrap_err();
            assert!(wrong.message.contains(why), "{wrong}");
        }
        let only = Partitioning::of(&table(&[("n", DataType::Int64)], &[("partitioned_by", "n")])).unwrap_err();
        assert!(only.message.contains("all columns"), "{only}");
        let table = table(&columns, &[("partitioned_by", "n")]);
        let partitioning = Partitioning::of(&table).unwrap();
        for path in ["out/part.json", "out/n=x/part.json"] {
            let why = partitioning.values(&table, path).unwrap_err().to_string();
            assert!(why.contains("n=") && why.contains(path), "{why}");
        }
    }
}
