//! Upserts rows by primary key, and deletes them by it.
//!
//! Promises: each batch gets a write timestamp of its own, later batches and later lives larger ones, deletions and
//! insertions alike; of rows with one key in a batch the last counts, since Cassandra would decide between equal timestamps
//! by value, or for the deletion. When `prepare` returns, every row that was appended is acknowledged at the table's
//! consistency; changes are written when their epoch is committed, see [`super::held`].
//!
//! Writes are under way while `write` has long returned, `max_in_flight` requests at most; a batch's order does not depend on
//! when they arrive, but on their timestamps. Rows of one partition go together, see [`super::writes`].

use super::cells::{BadValue, Columns, Encoded};
use super::held::Held;
use super::session::{self, failed};
use super::settings::{Settings, quoted};
use super::writes::{self, Request, execute};
use super::{schema, types};
use crate::api::{Context, Error, Result, Sink, TableDef};
use crate::changes;
use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, RecordBatch};
use arrow::row::{RowConverter, SortField};
use scylla::client::session::Session;
use scylla::cluster::metadata::ColumnType;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::warn;

/// Batches that a slice inherits have timestamps below this, those of its own changes above: far more batches than an
/// epoch has, and far less time than a process needs to start again.
const INHERITED_MAX_US: i64 = 10_000;

pub struct CassandraSink {
    settings: Arc<Settings>,
    session: Arc<Session>,
    runtime: Handle,
    insert: Prepared,
    delete: Prepared,
    primary_key: Vec<usize>,
    keys: RowConverter,
    /// The first timestamp of this life.
    begun_us: i64,
    /// What tells the partition of a row, where several rows may have the same.
    partition: Option<(Vec<usize>, RowConverter)>,
    /// Of the next batch.
    timestamp_us: i64,
    held: Held,
    in_flight: Arc<Semaphore>,
    unwritten: Arc<Mutex<Unwritten>>,
}

struct Prepared {
    statement: PreparedStatement,
    /// The server's types of the columns, without the timestamp.
    there: Vec<ColumnType<'static>>,
}

/// Rows that were given up for now: they are tried again before anything else is taken.
#[derive(Default)]
struct Unwritten {
    requests: Vec<Request>,
    last: Option<ExecutionError>,
}

impl CassandraSink {
    pub fn open(settings: Settings, table: &TableDef, context: &Context) -> Result<Self> {
        if table.primary_key.is_empty() {
            return Err(Error::Fatal(format!(
                "table '{}' has no primary key, by which connector 'cassandra' writes; add PRIMARY KEY (…) NOT ENFORCED",
                table.name
            )));
        }
        let runtime = session::handle()?;
        let session = session::connect(&settings)?;
        let (found, insert, delete) = session::block_on(async {
            schema::create(&session, &settings, table, context).await?;
            let found = schema::find(&session, &settings, table, true).await?;
            let insert = session::prepare(&session, &settings, &insert_statement(&settings, table)).await?;
            let delete = session::prepare(&session, &settings, &delete_statement(&settings, table)).await?;
            Ok::<_, Error>((found, insert, delete))
        })??;
        let kinds = |statement: &PreparedStatement, skip: usize, n: usize| {
            statement.get_variable_col_specs().iter().skip(skip).take(n).map(|spec| spec.typ().clone()).collect()
        };
        let insert = Prepared { there: kinds(&insert, 0, table.schema.fields().len()), statement: insert };
        let delete = Prepared { there: kinds(&delete, 1, table.primary_key.len()), statement: delete };
        let keys = converter(table, &table.primary_key)?;
        let partition = match found.clustering_key.is_empty() {
            true => None,
            false => {
                let columns: Vec<usize> =
                    found.partition_key.iter().filter_map(|name| table.schema.index_of(name).ok()).collect();
                let converter = converter(table, &columns)?;
                Some((columns, converter))
            }
        };
        Ok(Self {
            in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
            settings: Arc::new(settings),
            session,
            runtime,
            insert,
            delete,
            primary_key: table.primary_key.clone(),
            keys,
            begun_us: context.begun_us,
            timestamp_us: context.begun_us,
            partition,
            held: Held::default(),
            unwritten: Arc::default(),
        })
    }

    /// The rows to write: of each key the last, in order.
    fn last_of_each_key(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let mut key_columns = Vec::with_capacity(self.primary_key.len());
        for at in &self.primary_key {
            let column = batch.column(*at);
            if column.null_count() > 0 {
                return Err(Error::Fatal(format!(
                    "column '{}' of table '{}' belongs to the primary key, but is null in {} of {} rows; filter them \
                     out with WHERE {} IS NOT NULL",
                    batch.schema().field(*at).name(),
                    self.settings.name,
                    column.null_count(),
                    batch.num_rows(),
                    batch.schema().field(*at).name()
                )));
            }
            key_columns.push(Arc::clone(column));
        }
        let keys = self.keys.convert_columns(&key_columns).map_err(|why| {
            Error::Fatal(format!("the primary key of table '{}' cannot be compared: {why}", self.settings.name))
        })?;
        let mut seen = HashSet::with_capacity(batch.num_rows());
        let mut rows: Vec<usize> = (0..batch.num_rows()).rev().filter(|row| seen.insert(keys.row(*row))).collect();
        rows.reverse();
        Ok(rows)
    }

    /// Writes a batch under the next timestamp, or removes those of its rows that are not `there`.
    fn put(&mut self, batch: &RecordBatch, there: Option<&BooleanArray>) -> Result<()> {
        self.retry()?;
        let rows = self.last_of_each_key(batch)?;
        let keys = batch.project(&self.primary_key).map_err(|why| Error::Fatal(why.to_string()))?;
        let (columns, keys) = (Columns::new(batch, &self.insert.there)?, Columns::new(&keys, &self.delete.there)?);
        let timestamp_us = self.timestamp_us;
        self.timestamp_us += 1;
        let encode = |row: usize| match there.is_none_or(|there| there.value(row)) {
            true => self.encode(&self.insert, columns.encode(row, timestamp_us, false)),
            false => self.encode(&self.delete, keys.encode(row, timestamp_us, true)),
        };
        let Some((partition, converter)) = &self.partition else {
            return rows.into_iter().try_for_each(|row| {
                writes::requests(vec![encode(row)?]).into_iter().try_for_each(|request| self.send(request))
            });
        };
        let partition: Vec<ArrayRef> = partition.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        let partition = converter.convert_columns(&partition).map_err(|why| Error::Fatal(why.to_string()))?;
        let mut by_partition: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            by_partition.entry(partition.row(row)).or_default().push(encode(row)?);
        }
        by_partition.into_values().flat_map(writes::requests).try_for_each(|request| self.send(request))
    }

    fn encode(
        &self,
        prepared: &Prepared,
        encoded: std::result::Result<Encoded, BadValue>,
    ) -> Result<(PreparedStatement, Encoded)> {
        let encoded = encoded.map_err(|why| {
            let kinds: Vec<String> = prepared.there.iter().map(types::cql_name).collect();
            Error::Fatal(format!(
                "{}, table {}: a row cannot be written as ({}): {why}",
                self.settings.place(),
                self.settings.quoted_table(),
                kinds.join(", ")
            ))
        })?;
        Ok((prepared.statement.clone(), encoded))
    }

    /// Sends what it is given, waiting only where too many are under way.
    fn send(&self, request: Request) -> Result<()> {
        let permit = match Arc::clone(&self.in_flight).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => session::block_on(Arc::clone(&self.in_flight).acquire_owned())?
                .unwrap_or_else(|_| panic!("the semaphore of a sink is never closed")),
        };
        let (session, unwritten) = (Arc::clone(&self.session), Arc::clone(&self.unwritten));
        let settings = Arc::clone(&self.settings);
        self.runtime.spawn(async move {
            if let Err(why) = execute(&session, &settings, &request).await {
                let mut unwritten = unwritten.lock().unwrap_or_else(PoisonError::into_inner);
                unwritten.requests.push(request);
                unwritten.last = Some(why);
            }
            drop(permit);
        });
        Ok(())
    }

    /// Returns when everything that was sent is acknowledged.
    fn acknowledged(&self, epoch: u64) -> Result<()> {
        self.settle()?;
        self.retry().inspect_err(|why| {
            warn!(table = %self.settings.name, epoch, %why, "rows are not yet written");
        })
    }

    /// Writes the changes of this epoch and of those before it; they are forgotten once they are acknowledged.
    fn write_due(&mut self, epoch: u64) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        let put = held.due(epoch).try_for_each(|(batch, weights)| {
            let there = changes::there(&self.settings.name, batch, weights)?;
            self.put(batch, Some(&there))
        });
        self.held = held;
        put?;
        self.acknowledged(epoch)?;
        self.held.forget(epoch);
        Ok(())
    }

    /// Waits until nothing is under way.
    fn settle(&self) -> Result<()> {
        let all = u32::try_from(self.settings.max_in_flight).unwrap_or(u32::MAX);
        let permits = session::block_on(self.in_flight.acquire_many(all))?;
        drop(permits);
        Ok(())
    }

    /// Tries again what was given up; what it still cannot write is told and kept.
    fn retry(&self) -> Result<()> {
        let take = || std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        let earlier = take();
        if earlier.requests.is_empty() {
            return Ok(());
        }
        earlier.requests.into_iter().try_for_each(|request| self.send(request))?;
        self.settle()?;
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        match &unwritten.last {
            None => Ok(()),
            Some(why) => {
                let n_rows: usize = unwritten.requests.iter().map(Request::n_rows).sum();
                Err(failed(&self.settings, &format!("write {n_rows} rows"), why))
            }
        }
    }
}

fn converter(table: &TableDef, columns: &[usize]) -> Result<RowConverter> {
    let fields = columns.iter().map(|at| SortField::new(table.schema.field(*at).data_type().clone()));
    RowConverter::new(fields.collect())
        .map_err(|why| Error::Fatal(format!("the primary key of table '{}' cannot be compared: {why}", table.name)))
}

fn insert_statement(settings: &Settings, table: &TableDef) -> String {
    let names: Vec<String> = table.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let marks = vec!["?"; names.len()].join(", ");
    let ttl = settings.ttl_s.map(|ttl_s| format!(" AND TTL {ttl_s}")).unwrap_or_default();
    format!("INSERT INTO {} ({}) VALUES ({marks}) USING TIMESTAMP ?{ttl}", settings.quoted_table(), names.join(", "))
}

fn delete_statement(settings: &Settings, table: &TableDef) -> String {
    let key = table.primary_key.iter().map(|at| format!("{} = ?", quoted(table.schema.field(*at).name())));
    let key: Vec<String> = key.collect();
    format!("DELETE FROM {} USING TIMESTAMP ? WHERE {}", settings.quoted_table(), key.join(" AND "))
}

impl Sink for CassandraSink {
    /// On a transient error none of `batch` was taken, so it can be written again.
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.put(batch, None)
    }

    fn change(&mut self, batch: &RecordBatch, weights: &Int8Array) -> Result<()> {
        // What cannot be written is told now, not when its epoch is durable and nothing can be done.
        changes::there(&self.settings.name, batch, weights)?;
        self.last_of_each_key(batch)?;
        self.held.push(batch, weights);
        Ok(())
    }

    fn prepare(&mut self, epoch: u64) -> Result<Vec<u8>> {
        self.acknowledged(epoch)?;
        self.held.end(epoch, &self.settings.name)
    }

    fn commit(&mut self, epoch: u64) -> Result<()> {
        // Later than what any slice of this generation inherited: a key may have been on another one then.
        self.timestamp_us = self.timestamp_us.max(self.begun_us + INHERITED_MAX_US);
        self.write_due(epoch)
    }

    fn restore(&mut self, epoch: u64, states: Vec<Vec<u8>>) -> Result<()> {
        // Tried again from the beginning.
        self.held = Held::default();
        self.held.inherit(&states, &self.settings.name)?;
        self.timestamp_us = self.begun_us;
        self.write_due(epoch)?;
        self.held = Held::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::datatypes::DataType;

    #[test]
    fn rows_are_written_whole_and_deleted_by_their_full_key() {
        let options =
            [("connector", "cassandra"), ("contact_points", "a"), ("keyspace", "Ks"), ("table", "t"), ("ttl", "1h")];
        let columns = [("n", DataType::Int64), ("user", DataType::Utf8), ("Day", DataType::Date32)];
        let mut table = table(&columns, &options);
        table.primary_key = vec![1, 2];
        let settings = Settings::of(&table).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let insert = r#"INSERT INTO "Ks"."t" ("n", "user", "Day") VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL 3600"#;
        assert_eq!(insert_statement(&settings, &table), insert);
        let delete = r#"DELETE FROM "Ks"."t" USING TIMESTAMP ? WHERE "user" = ? AND "Day" = ?"#;
        assert_eq!(delete_statement(&settings, &table), delete);
    }
}
