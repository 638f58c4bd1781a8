//! Reads a table through once, in sixteen ranges of its token ring.
//!
//! Promises: every row that was there all the time is read once. Position is the count of rows of the range that were
//! given; going on from one reads the range again up to there, which is the same rows if the table does not change.

use super::rows;
use super::schema;
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
    schema: SchemaRef,
    /// Splits yet to be read, the front one now.
    splits: VecDeque<Split>,
    stream: Option<TypedRowStream<Row>>,
}

struct Split {
    /// Index into the list that the reader was opened with.
    at: usize,
    range: u32,
    next: Position,
    ended: bool,
}

impl Source {
    pub fn open(settings: Settings, table: &TableDef, projection: &[usize], splits: &[SplitStart]) -> Result<Self> {
        let session = session::connect(&settings)?;
        let select = session::block_on(async {
            let found = schema::find(&session, &settings, table, false).await?;
            let mut names: Vec<String> = projection.iter().map(|at| quoted(table.schema.field(*at).name())).collect();
            let key: Vec<String> = found.partition_key.iter().map(|name| quoted(name)).collect();
            if names.is_empty() {
                // Only the number of rows is wanted, but CQL wants a column.
                names.push(key[0].clone());
            }
            let token = format!("token({})", key.join(", "));
            let statement = format!(
                "SELECT {} FROM {} WHERE {token} >= ? AND {token} <= ?",
                names.join(", "),
                settings.quoted_table()
            );
            let mut select = session::prepare(&session, &settings, &statement).await?;
            select.set_consistency(settings.consistency);
            select.set_is_idempotent(true);
            select.set_page_size(PAGE_ROWS);
            Ok::<_, Error>(select)
        })??;
        let mut queue = VecDeque::with_capacity(splits.len());
        for (at, start) in splits.iter().enumerate() {
            let range = start.split.parse::<u32>().ok().filter(|range| *range < SPLITS).ok_or_else(|| {
                Error::Fatal(format!("'{}' is not a range of table '{}'", start.split, settings.name))
            })?;
            queue.push_back(Split { at, range, next: start.from.unwrap_or(0), ended: false });
        }
        let fields: Vec<_> = projection.iter().map(|at| Arc::clone(&table.schema.fields()[*at])).collect();
        Ok(Self { settings, session, select, schema: Arc::new(Schema::new(fields)), splits: queue, stream: None })
    }

    /// Up to a batch of rows; fewer at the end of the range.
    async fn rows(&mut self, range: u32, skip: Position) -> Result<Vec<Row>> {
        let lost = |settings: &Settings, why: String| {
            Error::Transient(format!("{}, table {}: read: {why}", settings.place(), settings.quoted_table()))
        };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let (first, last) = bounds(range);
                let pager = self.session.execute_iter(self.select.clone(), (first, last)).await;
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

/// First and last token of a range.
fn bounds(range: u32) -> (i64, i64) {
    let width = (1i128 << 64) / i128::from(SPLITS);
    let first = i128::from(i64::MIN) + width * i128::from(range);
    (first as i64, (first + width - 1) as i64)
}

impl SourceReader for Source {
    fn poll(&mut self, _wait: Duration) -> Result<Polled> {
        let Some(split) = self.splits.front() else { return Ok(Polled::End) };
        let (at, range, next) = (split.at, split.range, split.next);
        if split.ended {
            self.splits.pop_front();
            return Ok(Polled::SplitEnd { split: at });
        }
        let rows = session::block_on(self.rows(range, next))??;
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
