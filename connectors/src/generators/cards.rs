//! The `cards` connector: an endless stream of card transactions, some of them fraudulent.
//!
//! Invariant: event `n` is a pure function of the options and `n`, see [`model`].

mod model;
mod reachable;

pub use model::{Event, Model};
pub use reachable::{Reachable, best_reachable_auc};

use super::paced::{Pace, PacedReader, Rows};
use super::{RATE, ROWS, SEED, SPLITS, START};
use crate::formats::{is_text, timestamp};
use crate::{
    Columns, Connector, Context, Error, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef,
};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use jobs::Diagnostic;
use std::sync::Arc;

const DEFAULT_START_US: i64 = 1_767_225_600_000_000;
const NAMES: &[&str] = &["id", "card", "ts", "amount", "merchant", "country", "online", "fraud"];

const CARDS: OptionInfo = OptionInfo {
    name: "cards",
    kind: "number",
    default: Some("2000"),
    required: false,
    doc: "how many cards there are",
};
const SPEED: OptionInfo = OptionInfo {
    name: "speed",
    kind: "number",
    default: Some("60"),
    required: false,
    doc: "seconds of event time per second of wall clock; without a rate there is one event per card and minute",
};
const DISORDER: OptionInfo = OptionInfo {
    name: "disorder",
    kind: "duration",
    default: Some("2s"),
    required: false,
    doc: "by how much an event's time can lie before that of an earlier one of its split",
};

static OPTIONS: [OptionInfo; 8] = [CARDS, RATE, SPEED, ROWS, SPLITS, SEED, START, DISORDER];

pub static CONNECTOR: CardsConnector = CardsConnector;

#[derive(Debug)]
pub struct CardsConnector;

/// The start of event time, in microseconds since 1970.
pub(super) fn start_us(options: &Options<'_>) -> std::result::Result<i64, Diagnostic> {
    match options.text(START.name) {
        None => Ok(DEFAULT_START_US),
        Some(text) => timestamp::parse(text).ok_or_else(|| {
            options
                .wrong(START.name, format!("option 'start' is '{text}', which is not a timestamp"))
                .help("write for example '2026-01-01T00:00:00Z'")
        }),
    }
}

impl Model {
    /// The model that a table's options describe.
    pub fn of(table: &TableDef) -> std::result::Result<Self, Diagnostic> {
        let options = Options::new(table);
        let cards = options.number_within::<u64>(CARDS.name, 20, 100_000_000)?.unwrap_or(2000);
        let speed = options.number_within::<f64>(SPEED.name, 0.001, 1e6)?.unwrap_or(60.0);
        let rate = Pace::of(table)?.rate;
        // One event per card and minute gives bursts of some five events a minute.
        let spacing_us = if rate > 0.0 { speed * 1e6 / rate } else { 60e6 / cards as f64 };
        let disorder_us = options.duration(DISORDER.name)?.map_or(2_000_000, |span| span.as_micros() as u64);
        let seed = options.number::<u64>(SEED.name)?.unwrap_or(1);
        Ok(Model::new(seed, cards, start_us(&options)?, spacing_us, disorder_us))
    }
}

impl Connector for CardsConnector {
    fn name(&self) -> &'static str {
        "cards"
    }

    fn doc(&self) -> &'static str {
        "generated card transactions whose fraud label hides behind the latent state of the card"
    }

    fn options(&self) -> &'static [OptionInfo] {
        &OPTIONS
    }

    fn is_source(&self) -> bool {
        true
    }

    fn is_sink(&self) -> bool {
        false
    }

    fn check(&self, table: &TableDef) -> Vec<Diagnostic> {
        let mut wrong: Vec<Diagnostic> = Vec::new();
        wrong.extend(Model::of(table).err());
        for field in table.schema.fields() {
            let (name, kind) = (field.name(), field.data_type());
            let fits = match name.as_str() {
                "id" | "card" | "merchant" => kind.is_integer(),
                "amount" => kind.is_floating(),
                "ts" => matches!(kind, DataType::Timestamp(..)),
                "country" => is_text(kind),
                "online" | "fraud" => *kind == DataType::Boolean,
                _ => {
                    wrong.push(
                        Diagnostic::new(format!("connector 'cards' has no column '{name}'"))
                            .suggest(name, NAMES.iter().copied()),
                    );
                    continue;
                }
            };
            if !fits {
                wrong.push(Diagnostic::new(format!("column '{name}' of connector 'cards' cannot have type {kind}")).help(
                    "use id, card, merchant BIGINT, ts TIMESTAMP, amount DOUBLE, country VARCHAR, online, fraud BOOLEAN",
                ));
            }
        }
        wrong
    }

    fn columns(&self, _table: &TableDef, _context: &Context) -> Result<Option<Columns>> {
        let kind = |name: &str| match name {
            "amount" => DataType::Float64,
            "ts" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "country" => DataType::Utf8,
            "online" | "fraud" => DataType::Boolean,
            _ => DataType::Int64,
        };
        let columns = NAMES.iter().map(|name| ((*name).to_owned(), kind(name))).collect();
        Ok(Some(Columns { columns, primary_key: Vec::new() }))
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
        let rows = CardRows { model: Model::of(table)?, schema: Arc::new(schema) };
        Ok(Box::new(PacedReader::new(rows, Pace::of(table)?, &table.name, splits)?))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal(format!("table '{}' has connector 'cards', which cannot be written", table.name)))
    }
}

struct CardRows {
    model: Model,
    schema: SchemaRef,
}

impl Rows for CardRows {
    fn rows(&self, first: u64, step: u64, count: u64) -> Result<RecordBatch> {
        let failed = |why: arrow::error::ArrowError| Error::Fatal(why.to_string());
        let events: Vec<Event> = (0..count).map(|at| self.model.event(first + at * step)).collect();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let column: ArrayRef = match field.name().as_str() {
                "id" => Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.id as i64))),
                "card" => Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.card as i64))),
                "merchant" => Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.merchant as i64))),
                "ts" => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.ts_us))
                        .with_timezone("UTC"),
                ),
                "amount" => Arc::new(Float64Array::from_iter_values(events.iter().map(|event| event.amount))),
                "country" => Arc::new(StringArray::from_iter_values(events.iter().map(|event| event.country))),
                "online" => Arc::new(events.iter().map(|event| Some(event.online)).collect::<BooleanArray>()),
                "fraud" => Arc::new(events.iter().map(|event| Some(event.fraud)).collect::<BooleanArray>()),
                other => return Err(Error::Fatal(format!("connector 'cards' has no column '{other}'"))),
            };
            let fits = match (column.data_type(), field.data_type()) {
                (DataType::Timestamp(TimeUnit::Microsecond, _), wanted) if wanted == column.data_type() => column,
                (made, wanted) if made == wanted => column,
                (_, wanted) => cast(&column, wanted).map_err(failed)?,
            };
            columns.push(fits);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
