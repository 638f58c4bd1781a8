//! The `nexmark` connector: the auction site of the Nexmark benchmark, as the `nexmark` crate makes it up.
//!
//! Of every fifty events one is a new person, three are new auctions and the rest are bids. A table gives either the
//! events of one kind with that kind's columns, or all of them with a struct per kind, of which one is not null.
//!
//! Invariant: event `n` is a pure function of the options `start` and `event.rate`, and of `n`; its random numbers come
//! from `n` alone, so there is no seed. Positions and `events` count events of all kinds, so that tables
//! of different kinds with the same options are views of one and the same stream.

mod channels;
mod columns;
mod events;
mod gather;
mod random;

use super::cards::start_us;
use super::paced::{Pace, PacedReader, Rows};
use super::{RATE, SPLITS, START};
use crate::{Connector, Context, Error, OptionInfo, Options, Result, Sink, SourceReader, SplitStart, TableDef};
use arrow::array::{ArrayRef, BooleanBufferBuilder, Int32Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use columns::{Kind, Output, Shape};
use events::Events;
use gather::{Columns, times};
use jobs::Diagnostic;
use std::sync::Arc;

const EVENTS: OptionInfo = OptionInfo {
    name: "events",
    kind: "number",
    default: None,
    required: false,
    doc: "how many events there are in all, of whatever kind; without it they never end",
};
const KIND: OptionInfo = OptionInfo {
    name: "kind",
    kind: "all|person|auction|bid",
    default: Some("all"),
    required: false,
    doc: "the events of one kind with its columns, or all with event_type 0, 1 or 2 and a struct per kind",
};
const EVENT_RATE: OptionInfo = OptionInfo {
    name: "event.rate",
    kind: "number",
    default: Some("10000"),
    required: false,
    doc: "events per second of event time",
};

static OPTIONS: [OptionInfo; 6] = [EVENTS, KIND, RATE, SPLITS, START, EVENT_RATE];

pub static CONNECTOR: NexmarkConnector = NexmarkConnector;

#[derive(Debug)]
pub struct NexmarkConnector;

fn pace(table: &TableDef) -> std::result::Result<Pace, Diagnostic> {
    Pace::counted_by(table, EVENTS.name)
}

fn shape(table: &TableDef) -> std::result::Result<Shape, Diagnostic> {
    Ok(match Options::new(table).one_of(KIND.name, &["all", "person", "auction", "bid"])? {
        Some("person") => Shape::One(Kind::Person),
        Some("auction") => Shape::One(Kind::Auction),
        Some("bid") => Shape::One(Kind::Bid),
        _ => Shape::All,
    })
}

fn events(table: &TableDef) -> std::result::Result<Events, Diagnostic> {
    let options = Options::new(table);
    let rate = options.number_within::<u64>(EVENT_RATE.name, 1, 1_000_000_000)?.unwrap_or(10_000);
    Ok(Events::new(start_us(&options)?, rate))
}

impl Connector for NexmarkConnector {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn doc(&self) -> &'static str {
        "generated persons, auctions and bids of the Nexmark benchmark, the same in every run"
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
        let mut wrong = Vec::new();
        wrong.extend(pace(table).err());
        wrong.extend(events(table).err());
        match shape(table) {
            Ok(shape) => wrong.extend(table.schema.fields().iter().filter_map(|field| shape.output(field).err())),
            Err(unknown) => wrong.push(unknown),
        }
        wrong
    }

    fn columns(&self, table: &TableDef, _context: &Context) -> Result<Option<crate::Columns>> {
        Ok(Some(crate::Columns { columns: shape(table)?.columns(), primary_key: Vec::new() }))
    }

    fn bounded(&self, table: &TableDef) -> bool {
        table.option(EVENTS.name).is_some()
    }

    fn splits(&self, table: &TableDef, _context: &Context) -> Result<Vec<String>> {
        Ok(pace(table)?.split_names())
    }

    fn open_source(
        &self,
        table: &TableDef,
        projection: &[usize],
        splits: &[SplitStart],
        _context: &Context,
    ) -> Result<Box<dyn SourceReader>> {
        let schema = Arc::new(table.schema.project(projection).map_err(|why| Error::Fatal(why.to_string()))?);
        let shape = shape(table)?;
        let outputs: std::result::Result<Vec<Output>, Diagnostic> =
            schema.fields().iter().map(|field| shape.output(field)).collect();
        let (events, pace) = (events(table)?, pace(table)?);
        let rows = NexmarkRows { shape, outputs: outputs?, schema, second: events.rate() / pace.splits, events };
        Ok(Box::new(PacedReader::new(rows, pace, &table.name, splits)?))
    }

    fn open_sink(&self, table: &TableDef, _context: &Context) -> Result<Box<dyn Sink>> {
        Err(Error::Fatal(format!("table '{}' has connector 'nexmark', which cannot be written", table.name)))
    }
}

struct NexmarkRows {
    shape: Shape,
    /// Parallel to the schema's fields.
    outputs: Vec<Output>,
    schema: SchemaRef,
    events: Events,
    /// How many events of a split are a second of event time.
    second: u64,
}

impl Rows for NexmarkRows {
    /// Persons and auctions are few among the events, and passing over the others costs next to nothing. The benchmark wants
    /// a watermark for each second of event time at least.
    fn at_once(&self) -> u64 {
        let most = match self.shape {
            Shape::One(Kind::Person | Kind::Auction) => 16_384,
            Shape::One(Kind::Bid) | Shape::All => 4096,
        };
        most.min(self.second).max(1)
    }

    fn rows(&self, first: u64, step: u64, count: u64) -> Result<RecordBatch> {
        let of = |number| self.shape.gives(Kind::of(number));
        let numbers: Vec<u64> = (0..count).map(|at| first + at * step).filter(|number| of(*number)).collect();
        let mut kinds = Kind::EACH.map(|kind| Gathered::new(kind, &self.outputs, numbers.len()));
        for (row, number) in numbers.iter().enumerate() {
            let kind = Kind::of(*number);
            let gathered = &mut kinds[kind as usize];
            if gathered.nested {
                gathered.mark(row);
            }
            if gathered.wanted {
                gathered.columns.pad(row);
                self.events.add(kind, *number, &mut gathered.columns);
            }
        }
        let finish = |output: &Output| self.finish(output, &numbers, &mut kinds);
        let columns = self.outputs.iter().map(finish).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|why| Error::Fatal(why.to_string()))
    }
}

impl NexmarkRows {
    fn finish(&self, output: &Output, numbers: &[u64], kinds: &mut [Gathered; 3]) -> Result<ArrayRef> {
        let failed = |why: arrow::error::ArrowError| Error::Fatal(why.to_string());
        Ok(match output {
            Output::EventType => {
                Arc::new(Int32Array::from_iter_values(numbers.iter().map(|number| Kind::of(*number) as i32)))
            }
            Output::Time => times(numbers.iter().map(|number| self.events.time_us(*number)).collect(), None),
            Output::Flat(kind, at) => kinds[*kind as usize].columns.finish(*at, None).map_err(failed)?,
            Output::Struct(kind, fields, positions) => {
                let gathered = &mut kinds[*kind as usize];
                gathered.columns.pad(numbers.len());
                gathered.present.append_n(numbers.len() - gathered.present.len(), false);
                // The fields of a row without this kind are null themselves: reading one does not look at the struct.
                let present = NullBuffer::new(gathered.present.finish());
                let parts = positions.iter().map(|at| match at {
                    Some(at) => gathered.columns.finish(*at, Some(&present)),
                    None => {
                        Ok(times(numbers.iter().map(|number| self.events.time_us(*number)).collect(), Some(&present)))
                    }
                });
                let parts = parts.collect::<std::result::Result<Vec<ArrayRef>, _>>().map_err(failed)?;
                Arc::new(StructArray::try_new(fields.clone(), parts, Some(present)).map_err(failed)?)
            }
        })
    }
}

/// The events of one kind in a batch.
struct Gathered {
    /// Whether any column needs more of them than number and time.
    wanted: bool,
    /// Whether they are in a struct, beside rows of other kinds.
    nested: bool,
    columns: Columns,
    /// Which rows are of this kind, as far as rows were looked at.
    present: BooleanBufferBuilder,
}

impl Gathered {
    fn new(kind: Kind, outputs: &[Output], rows: usize) -> Self {
        let mut positions = Vec::new();
        let mut nested = false;
        for output in outputs {
            match output {
                Output::Flat(of, at) if *of == kind => positions.push(*at),
                Output::Struct(of, _, parts) if *of == kind => {
                    nested = true;
                    positions.extend(parts.iter().flatten());
                }
                _ => {}
            }
        }
        let wanted = !positions.is_empty();
        Self {
            wanted,
            nested,
            columns: Columns::new(kind, &positions, if wanted { rows } else { 0 }),
            present: BooleanBufferBuilder::new(if nested { rows } else { 0 }),
        }
    }

    fn mark(&mut self, row: usize) {
        self.present.append_n(row - self.present.len(), false);
        self.present.append(true);
    }
}

#[cfg(test)]
mod tests;
