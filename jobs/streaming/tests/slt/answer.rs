//! Rows as text, as `.slt` files hold them.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::{ColumnType, DBOutput};
use std::collections::BTreeMap;

/// The letters that stand behind `query`, which are those of DataFusion's own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Date,
    Integer,
    Timestamp,
    Real,
    Text,
    Other,
}

const LETTERS: [(Kind, char); 7] = [
    (Kind::Boolean, 'B'),
    (Kind::Date, 'D'),
    (Kind::Integer, 'I'),
    (Kind::Timestamp, 'P'),
    (Kind::Real, 'R'),
    (Kind::Text, 'T'),
    (Kind::Other, '?'),
];

impl ColumnType for Kind {
    fn from_char(letter: char) -> Option<Self> {
        LETTERS.iter().find(|(_, of)| *of == letter).map(|(kind, _)| *kind)
    }

    fn to_char(&self) -> char {
        LETTERS.iter().find(|(kind, _)| kind == self).map_or('?', |(_, letter)| *letter)
    }
}

impl From<&DataType> for Kind {
    fn from(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            // A stream knows no type of nothing but NULL, and calls it text.
            DataType::Utf8 | DataType::Null => Self::Text,
            integer if integer.is_integer() => Self::Integer,
            real if real.is_floating() || real.is_decimal() => Self::Real,
            _ => Self::Other,
        }
    }
}

/// The rows of `batches`. Of a changelog, whose first column says what becomes of each row, what is left in the end.
pub fn answer(schema: &Schema, batches: &[RecordBatch], changes: bool) -> Result<DBOutput<Kind>, String> {
    let types: Vec<Kind> = schema.fields().iter().map(|field| Kind::from(field.data_type())).collect();
    let mut counts: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for batch in batches {
        for mut row in cells(batch)? {
            let weight = match changes {
                false => 1,
                true => match row.remove(0).as_str() {
                    "+" => 1,
                    "-" => -1,
                    op => return Err(format!("a row of a changelog begins with '{op}'")),
                },
            };
            if row.len() != types.len() {
                return Err(format!("a row of {} columns where {} are expected", row.len(), types.len()));
            }
            *counts.entry(row).or_default() += weight;
        }
    }
    if let Some((row, count)) = counts.iter().find(|(_, count)| **count < 0) {
        return Err(format!("'{}' is taken back {} times more often than it comes", row.join(" "), -count));
    }
    let rows = counts.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count as usize)).collect();
    Ok(DBOutput::Rows { types, rows })
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let cell = |column: &ArrayFormatter<'_>, row: usize| match column.value(row).to_string() {
        // Nothing at all could not be told from a column that is missing.
        text if text.is_empty() => "(empty)".to_string(),
        text => text,
    };
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect())
}
