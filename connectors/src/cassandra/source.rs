//! Reads a table through once, in sixteen ranges of its token ring; or the rows of some keys ([`super::found`]).
//!
//! Promises: every row that was there all the time is read once. Position is the count of rows of the range that were
//! given; going on from one reads the range again up to there, which is the same rows if the table does not change.

use super::cells::{Columns, Key};
use super::rows;
use super::schema::{self, Found};
use super::session::{self, failed};
use super::settings::{Settings, quoted};
use crate::api::{Error, Polled, Position, Result, SourceReader, SplitStart, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use scylla::client::pager::TypedRowStream;
use scylla::client::session::Session;
use scylla::errors::{ExecutionError, PagerExecutionError};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub const SPLITS: u32 = 16;
const BATCH_ROWS: usize = 4096;
/// Rows a node answers at once; the driver holds two pages at most.
const PAGE_ROWS: i32 = 2000;

pub struct Source {
    settings: Settings,
    session: Arc<Session>,
    select: PreparedStatement,
    /// Those that are asked for, where it is not all rows.
    keys: Option<Columns>,
    schema: SchemaRef,
    /// Splits yet to be read, the front one now.
    splits: VecDeque<Split>,
    stream: Option<TypedRowStream<Row>>,
}

#[derive(Clone, Copy)]
enum Part {
    Range(u32),
    /// By its row among the keys.
    Key(usize),
}

struct Split {
    /// Index into the list that the reader was opened with.
    at: usize,
    part: Part,
    next: Position,
    ended: bool,
}

impl Source {
    pub fn open(settings: Settings, table: &TableDef, projection: &[usize], splits: &[SplitStart]) -> Result<Self> {
        let session = session::connect(&settings)?;
        let select = session::block_on(async {
            let found = schema::find(&session, &settings, table, false).await?;
            let key: Vec<String> = found.partition_key.iter().map(|name| quoted(name)).collect();
            let token = format!("token({})", key.join(", "));
            let condition = format!("{token} >= ? AND {token} <= ?");
            prepare(&session, &settings, table, projection, &found, &condition).await
        })??;
        let mut queue = VecDeque::with_capacity(splits.len());
        for (at, start) in splits.iter().enumerate() {
            let range = start.split.parse::<u32>().ok().filter(|range| *range < SPLITS).ok_or_else(|| {
                Error::Fatal(format!("'{}' is not a range of table '{}'", start.split, settings.name))
            })?;
            queue.push_back(Split { at, part: Part::Range(range), next: start.from.unwrap_or(0), ended: false });
        }
        let schema = projected(table, projection);
        Ok(Self { settings, session, select, keys: None, schema, splits: queue, stream: None })
    }

    /// Reads the rows of these keys, one after the other. `select` asks for one.
    pub fn of_keys(
        settings: Settings,
        session: Arc<Session>,
        select: PreparedStatement,
        schema: SchemaRef,
        keys: Columns,
        asked: impl Iterator<Item = usize>,
    ) -> Self {
        let splits = asked.map(|row| Split { at: 0, part: Part::Key(row), next: 0, ended: false }).collect();
        Self { settings, session, select, keys: Some(keys), schema, splits, stream: None }
    }

    /// Up to a batch of rows; fewer at the end of the part.
    async fn rows(&mut self, part: Part, skip: Position) -> Result<Vec<Row>> {
        let lost = |settings: &Settings, why: String| {
            Error::Transient(format!("{}, table {}: read: {why}", settings.place(), settings.quoted_table()))
        };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let pager = match (part, &self.keys) {
                    (Part::Key(row), Some(columns)) => {
                        self.session.execute_iter(self.select.clone(), Key { columns, row }).await
                    }
                    (Part::Range(range), _) => self.session.execute_iter(self.select.clone(), bounds(range)).await,
                    (Part::Key(_), None) => return Ok(Vec::new()),
                };
                let pager = pager.map_err(|why| match why {
                    PagerExecutionError::PrepareError(why) => session::unprepared(&self.settings, &why),
                    PagerExecutionError::SerializationError(why) => {
                        failed(&self.settings, "read", &ExecutionError::from(why))
                    }
                    other => lost(&self.settings, other.to_string()),
                })?;
                let mut stream = pager
                    .rows_stream::<Row>()
                    .map_err(|why| Error::Fatal(format!("{}: {why}", self.settings.place())))?;
                for _ in 0..skip {
                    if let Some(Err(why)) = stream.next().await {
                        return Err(lost(&self.settings, why.to_string()));
                    }
                }
                stream
            }
        };
        let mut rows = Vec::with_capacity(BATCH_ROWS);
        while rows.len() < BATCH_ROWS {
            match stream.next().await {
                Some(Ok(row)) => rows.push(row),
                // The stream is gone; the next poll opens it again and skips what was given.
                Some(Err(why)) => return Err(lost(&self.settings, why.to_string())),
                None => return Ok(rows),
            }
        }
        self.stream = Some(stream);
        Ok(rows)
    }

    fn batch(&self, rows: Vec<Row>) -> Result<RecordBatch> {
        let unfit = |why: String| Error::Fatal(format!("table '{}': {why}", self.settings.name));
        rows::batch(&self.schema, rows).map_err(unfit)
    }
}

pub fn projected(table: &TableDef, projection: &[usize]) -> SchemaRef {
    let fields: Vec<_> = projection.iter().map(|at| Arc::clone(&table.schema.fields()[*at])).collect();
    Arc::new(Schema::new(fields))
}

/// Asks for the wanted columns of the rows of which this is so.
pub async fn prepare(
    session: &Session,
    settings: &Settings,
    table: &TableDef,
    projection: &[usize],
    found: &Found,
    condition: &str,
) -> Result<PreparedStatement> {
    let mut names: Vec<String> = projection.iter().map(|at| quoted(table.schema.field(*at).name())).collect();
    if names.is_empty() {
        // Only the number of rows is wanted, but CQL wants a column.
        names.push(quoted(&found.partition_key[0]));
    }
    let statement = format!("SELECT {} FROM {} WHERE {condition}", names.join(", "), settings.quoted_table());
    let mut select = session::prepare(session, settings, &statement).await?;
    select.set_page_size(PAGE_ROWS);
    Ok(select)
}

/// First and last token of a range.
fn bounds(range: u32) -> (i64, i64) {
    let width = (1i128 << 64) / i128::from(SPLITS);
    let first = i128::from(i64::MIN) + width * i128::from(range);
    (first as i64, (first + width - 1) as i64)
}

impl SourceReader for Source {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let is_of_keys = self.keys.is_some();
        // All keys together are one split.
        self.splits.pop_front_if(|split| is_of_keys && split.ended);
        let Some(split) = self.splits.front() else { return Ok(Polled::End) };
        let (at, part, next) = (split.at, split.part, split.next);
        if split.ended {
            self.splits.pop_front();
            return Ok(Polled::SplitEnd { split: at });
        }
        let rows = session::block_on(self.rows(part, next))??;
        let next = next + rows.len() as Position;
        let ended = rows.len() < BATCH_ROWS;
        let batch = self.batch(rows)?;
        if let Some(split) = self.splits.front_mut() {
            (split.next, split.ended) = (next, ended);
        }
        Ok(Polled::Batch { split: at, batch, next, bad: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_the_ring_without_overlap() {
        assert_eq!(bounds(0).0, i64::MIN);
        assert_eq!(bounds(SPLITS - 1).1, i64::MAX);
        for range in 1..SPLITS {
            assert_eq!(bounds(range - 1).1 + 1, bounds(range).0);
        }
    }
}
