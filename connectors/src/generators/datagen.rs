//! The `datagen` connector: rows of random values for any columns.
//!
//! Invariant: a value is a pure function of the seed, the column's name and the row's number, so that adding a column
//! changes none of the others.

use super::cards::start_us;
use super::noise::Draws;
use super::paced::{Pace, PacedReader, Rows};
use super::{RATE, ROWS, SEED, SPLITS, START};
use crate::formats::is_text;
use crate::{
    Connector, Context, Error, OptionEntry, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef,
};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use jobs::Diagnostic;
use std::sync::Arc;

const FIELD_PREFIX: &str = "fields.";
const SETTINGS: [&str; 5] = ["kind", "min", "max", "length", "distinct"];

/// Documented here and passed by prefix, because the names hold the columns' names.
const FIELDS: OptionInfo = OptionInfo {
    name: "fields.COLUMN.SETTING",
    kind: "text",
    default: None,
    required: false,
    doc: "kind = random or sequence; min and max of numbers; length of text; distinct: how many different values",
};

static OPTIONS: [OptionInfo; 6] = [ROWS, RATE, SPLITS, SEED, START, FIELDS];

pub static CONNECTOR: DatagenConnector = DatagenConnector;

#[derive(Debug)]
pub struct DatagenConnector;

impl Connector for DatagenConnector {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn doc(&self) -> &'static str {
        "generated rows of random values, the same for the same seed"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn option_prefixes(&self) -> &'static [&'static str] {
        &[FIELD_PREFIX]
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong = Vec::new();
        wrong.extend(Pace::of(table).err());
        wrong.extend(start_us(&Options::new(table)).err());
        wrong.extend(Options::new(table).number::<u64>(SEED.name).err());
        wrong.extend(table.options.iter().filter_map(|entry| check_field_option(table, entry)));
        for at in 0..table.schema.fields().len() {
            wrong.extend(Column::of(table, at).err());
        }
        wrong
    }

    fn bounded(&self, table: &TableDef) -> bool {
        table.option(ROWS.name).is_some()
    }

    fn splits(&self, table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(Pace::of(table)?.split_names())
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let schema = table.schema.project(projection).map_err(|why| Error::Fatal(why.to_string()))?;
        let columns: std::result::Result<Vec<Column>, Diagnostic> =
            projection.iter().map(|at| Column::of(table, *at)).collect();
        let pace = Pace::of(table)?;
        let options = Options::new(table);
        let rows = RandomRows {
            schema: Arc::new(schema),
            columns: columns?,
            seed: options.number(SEED.name)?.unwrap_or(1),
            start_us: start_us(&options)?,
            // Without a rate event time goes on by a millisecond per row.
            spacing_us: if pace.rate > 0.0 { 1e6 / pace.rate } else { 1e3 },
        };
        Ok(Box::new(PacedReader::new(rows, pace, &table.name, splits)?))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal(format!("table '{}' has connector 'datagen', which cannot be written", table.name)))
    }
}

fn check_field_option(table: &TableDef, entry: &OptionEntry) -> Option<Diagnostic> {
    let (column, setting) = entry.key.strip_prefix(FIELD_PREFIX)?.rsplit_once('.').unwrap_or(("", ""));
    let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut wrong = if !names.contains(&column) {
        Diagnostic::new(format!("option '{}' names column '{column}', which is not declared", entry.key))
            .suggest(column, names.iter().copied())
    } else if !SETTINGS.contains(&setting) {
        Diagnostic::new(format!("option '{}' has unknown setting '{setting}'", entry.key)).suggest(setting, SETTINGS)
    } else {
        return None;
    };
    wrong.span = entry.key_span;
    Some(wrong)
}

/// How one column is made.
#[derive(Debug)]
struct Column {
    /// Hash of the name.
    purpose: u64,
    how: How,
    distinct: u64,
}

#[derive(Debug)]
enum How {
    Sequence { from: i64 },
    Whole { min: i64, max: i64 },
    Decimal { min: f64, max: f64 },
    Boolean,
    Text { length: usize },
    Time,
}

impl Column {
    fn of(table: &TableDef, at: usize) -> std::result::Result<Self, Diagnostic> {
        let field = table.schema.field(at);
        let options = Options::new(table);
        let key = |setting: &str| format!("{FIELD_PREFIX}{}.{setting}", field.name());
        let sequence = options.one_of(&key("kind"), &["random", "sequence"])? == Some("sequence");
        let how = match field.data_type() {
            kind if kind.is_integer() => {
                let most = match kind {
                    DataType::Int8 => i64::from(i8::MAX),
                    DataType::Int16 => i64::from(i16::MAX),
                    _ => 1_000_000,
                };
                let min = options.number::<i64>(&key("min"))?.unwrap_or(0);
                let max = options.number::<i64>(&key("max"))?.unwrap_or(most);
                if min > max {
                    return Err(options.wrong(&key("min"), format!("min {min} is above max {max}")));
                }
                if sequence { How::Sequence { from: min } } else { How::Whole { min, max } }
            }
            kind if kind.is_floating() || kind.is_decimal() => How::Decimal {
                min: options.number(&key("min"))?.unwrap_or(0.0),
                max: options.number(&key("max"))?.unwrap_or(1000.0),
            },
            DataType::Boolean => How::Boolean,
            kind if is_text(kind) => {
                How::Text { length: options.number_within(&key("length"), 1, 65_536)?.unwrap_or(10) }
            }
            DataType::Timestamp(..) => How::Time,
            other => {
                return Err(Diagnostic::new(format!(
                    "connector 'datagen' makes no values of type {other} for column '{}'",
                    field.name()
                )));
            }
        };
        let purpose = field.name().bytes().fold(17, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let distinct = options.number_within::<u64>(&key("distinct"), 1, u64::MAX)?.unwrap_or(u64::MAX);
        Ok(Self { purpose, how, distinct })
    }

    fn draws(&self, seed: u64, number: u64) -> Draws {
        if self.distinct == u64::MAX {
            return Draws::new(seed, self.purpose, number);
        }
        let which = Draws::new(seed, self.purpose, number).below(self.distinct);
        Draws::new(seed, !self.purpose, which)
    }
}

struct RandomRows {
    schema: SchemaRef,
    columns: Vec<Column>,
    seed: u64,
    start_us: i64,
    spacing_us: f64,
}

impl Rows for RandomRows {
    fn rows(&self, first: u64, step: u64, count: u64) -> Result<RecordBatch> {
        let failed = |why: arrow::error::ArrowError| Error::Fatal(why.to_string());
        let numbers = || (0..count).map(|at| first + at * step);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            let draws = |number| column.draws(self.seed, number);
            let array: ArrayRef = match column.how {
                How::Sequence { from } => {
                    Arc::new(Int64Array::from_iter_values(numbers().map(|n| from.wrapping_add(n as i64))))
                }
                How::Whole { min, max } => {
                    let width = (max.wrapping_sub(min) as u64).saturating_add(1);
                    let value = |n| min.wrapping_add(draws(n).below(width) as i64);
                    Arc::new(Int64Array::from_iter_values(numbers().map(value)))
                }
                How::Decimal { min, max } => {
                    Arc::new(Float64Array::from_iter_values(numbers().map(|n| min + (max - min) * draws(n).unit())))
                }
                How::Boolean => Arc::new(numbers().map(|n| Some(draws(n).chance(0.5))).collect::<BooleanArray>()),
                How::Text { length } => {
                    Arc::new(StringArray::from_iter_values(numbers().map(|n| text(&mut draws(n), length))))
                }
                How::Time => {
                    let at = |n| self.start_us + (n as f64 * self.spacing_us) as i64;
                    Arc::new(TimestampMicrosecondArray::from_iter_values(numbers().map(at)).with_timezone("UTC"))
                }
            };
            arrays.push(if array.data_type() == field.data_type() {
                array
            } else {
                cast(&array, field.data_type()).map_err(failed)?
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count as usize));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(failed)
    }
}

fn text(draws: &mut Draws, length: usize) -> String {
    (0..length).map(|_| char::from(b'a' + draws.below(26) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Polled;
    use crate::testing::{context, table};
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimeUnit};
    use std::collections::HashSet;
    use std::time::Duration;

    fn batch(table: &TableDef) -> RecordBatch {
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let start = SplitStart { split: "0".to_owned(), from: None };
        let mut reader = CONNECTOR.open_source(table, &all, &[start], &context(std::path::Path::new("/"))).unwrap();
        match reader.poll(Duration::from_secs(1)).unwrap() {
            Polled::Batch { batch, .. } => batch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_usual_type_is_made_within_its_bounds() {
        let columns = [
            ("n", DataType::Int64),
            ("k", DataType::Int32),
            ("x", DataType::Float64),
            ("d", DataType::Decimal128(10, 2)),
            ("b", DataType::Boolean),
            ("s", DataType::Utf8View),
            ("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ];
        let options = [
            ("rows", "1000"),
            ("splits", "1"),
            ("fields.n.kind", "sequence"),
            ("fields.k.min", "-5"),
            ("fields.k.max", "5"),
            ("fields.s.distinct", "3"),
        ];
        let table = table(&columns, &options);
        assert_eq!(CONNECTOR.check(&table), vec![]);
        let rows = batch(&table);
        assert_eq!(rows, batch(&table));
        assert_eq!((rows.num_rows(), rows.schema()), (1000, table.schema.clone()));
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(999), 999);
        let words: HashSet<&str> = rows.column(5).as_string_view().iter().flatten().collect();
        assert_eq!(words.len(), 3);
    }

    #[test]
    fn mistakes_are_told() {
        let table =
            table(&[("n", DataType::Int64), ("x", DataType::Null)], &[("fields.m.min", "1"), ("fields.n.mim", "1")]);
        let wrong = CONNECTOR.check(&table);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
