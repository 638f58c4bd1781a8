//! Finds the rows of keys: one request per key, many of them under way at once.
//!
//! Rows are found by the whole partition key and, behind it, by as many clustering columns from the first on as are given;
//! or by a column with an index of its own. Which columns these are only the server knows, so the declaration's primary
//! key decides when a query is planned, and a declaration that differs is refused when the table is opened.
//!
//! Invariant: a key that the server cannot hold as it is (a text that is no uuid where it keeps uuids, a time between two
//! milliseconds) has no rows; it is not rounded to one that has.

use super::cells::{Columns, Key};
use super::rows;
use super::schema::{self, Found as Declared};
use super::session::{self, failed};
use super::settings::{Settings, quoted};
use crate::api::{Error, Found, Lookup, Result, TableDef};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use jobs::Diagnostic;
use scylla::client::session::Session;
use scylla::cluster::metadata::ColumnType;
use scylla::errors::PagerExecutionError;
use scylla::statement::bound::BoundStatement;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Attempts at one key, on top of the driver's own, before the runtime is told: few, because it looks for a stop only
/// between questions, and a node that does not answer has none of the keys.
const ATTEMPTS: u32 = 2;
const BACK_OFF: Duration = Duration::from_millis(100);
/// Rows that a node answers at once.
const PAGE_ROWS: i32 = 2000;

/// By which of the columns `equal` a table is looked up, as its declaration has it: those of its primary key, else one.
pub fn keys(table: &TableDef, equal: &[usize]) -> std::result::Result<Vec<usize>, Diagnostic> {
    let name = |column: &usize| table.schema.field(*column).name().as_str();
    if table.primary_key.is_empty() {
        let text = format!("'{}' cannot be looked up: its declaration has no primary key", table.name);
        return Err(Diagnostic::new(text).help("declare PRIMARY KEY (…) NOT ENFORCED with the partition key first"));
    }
    let mut keys: Vec<usize> = table.primary_key.clone();
    keys.retain(|column| equal.contains(column));
    match (keys.first() == table.primary_key.first(), equal) {
        (true, _) => Ok(keys),
        // If it has an index; the server says.
        (false, [one]) => Ok(vec![*one]),
        _ => {
            let all: Vec<&str> = table.primary_key.iter().map(name).collect();
            let text = format!(
                "'{}' cannot be looked up by these columns: its rows are found by the partition key, of PRIMARY KEY ({}), \
                 or by one column with an index",
                table.name,
                all.join(", ")
            );
            Err(Diagnostic::new(text).help(format!("join with ON … = {}", all[0])))
        }
    }
}

pub struct CassandraLookup {
    settings: Settings,
    session: Arc<Session>,
    select: PreparedStatement,
    /// The server's types of the key.
    there: Vec<ColumnType<'static>>,
    /// Whether the partition key is one column, the first of the key, which must not be empty then.
    single: bool,
    /// Whether a key has one row at most.
    whole: bool,
    wanted: SchemaRef,
}

impl CassandraLookup {
    pub fn open(settings: Settings, table: &TableDef, keys: &[usize], projection: &[usize]) -> Result<Self> {
        let session = session::connect(&settings)?;
        let names = |columns: &[usize]| -> Vec<String> {
            columns.iter().map(|column| table.schema.field(*column).name().clone()).collect()
        };
        let (asked, read) = (names(keys), names(projection));
        let (select, whole, single) = session::block_on(async {
            let declared = schema::find(&session, &settings, table, false).await?;
            if !by_key(&declared, &asked) && !indexed(&session, &settings, &asked).await? {
                return Err(refused(&settings, &declared, &asked));
            }
            let mut select = session::prepare(&session, &settings, &statement(&settings, &asked, &read)).await?;
            select.set_page_size(PAGE_ROWS);
            let n_key = declared.partition_key.len() + declared.clustering_key.len();
            let is_by_key = by_key(&declared, &asked);
            // Keys come in the order of the declaration, and its first column is the partition key's.
            let single =
                is_by_key && declared.partition_key.len() == 1 && asked.first() == declared.partition_key.first();
            Ok::<_, Error>((select, is_by_key && asked.len() == n_key, single))
        })??;
        let there = select.get_variable_col_specs().iter().map(|spec| spec.typ().clone()).collect();
        let fields: Vec<_> = projection.iter().map(|at| Arc::clone(&table.schema.fields()[*at])).collect();
        Ok(Self { settings, session, select, there, single, whole, wanted: Arc::new(Schema::new(fields)) })
    }

    /// The rows of one key.
    async fn find(&self, number: u32, bound: BoundStatement) -> Result<(u32, Vec<Row>)> {
        let mut back_off = BACK_OFF;
        let mut attempt = 1;
        loop {
            match self.ask(&bound).await {
                Err(Error::Transient(_)) if attempt < ATTEMPTS => {
                    tokio::time::sleep(back_off).await;
                    back_off *= 2;
                    attempt += 1;
                }
                settled => return settled.map(|rows| (number, rows)),
            }
        }
    }

    async fn ask(&self, bound: &BoundStatement) -> Result<Vec<Row>> {
        let unread = |why: &dyn std::fmt::Display| Error::Fatal(format!("{}: {why}", self.settings.place()));
        if self.whole {
            let result = self.session.execute_bound_unpaged(bound).await;
            let result = result.map_err(|why| failed(&self.settings, "look up", &why))?;
            let result = result.into_rows_result().map_err(|why| unread(&why))?;
            let rows = result.rows::<Row>().map_err(|why| unread(&why))?;
            return rows.map(|row| row.map_err(|why| unread(&why))).collect();
        }
        let pager = self.session.execute_bound_iter(bound.clone()).await.map_err(|why| match why {
            PagerExecutionError::PrepareError(why) => session::unprepared(&self.settings, &why),
            PagerExecutionError::SerializationError(why) => failed(&self.settings, "look up", &why.into()),
            other => self.lost(&other),
        })?;
        let rows = pager.rows_stream::<Row>();
        let rows = rows.map_err(|why| unread(&why))?;
        rows.try_collect().await.map_err(|why| self.lost(&why))
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> Error {
        let (place, table) = (self.settings.place(), self.settings.quoted_table());
        Error::Transient(format!("{place}, table {table}: look up: {why}"))
    }
}

impl Lookup for CassandraLookup {
    fn get(&mut self, keys: &RecordBatch) -> Result<Found> {
        let columns = Columns::new(keys, &self.there)?;
        let can_be_there = |row: &usize| columns.can_be_there(*row) && !(self.single && columns.begins_empty(*row));
        let asked = (0..keys.num_rows()).filter(can_be_there).map(|row| {
            let bound = self.select.clone().bind(&Key { columns: &columns, row });
            let bound = bound.map_err(|why| {
                let (place, table) = (self.settings.place(), self.settings.quoted_table());
                Error::Fatal(format!("{place}, table {table}: a key cannot be asked for: {why}"))
            })?;
            Ok((row as u32, bound))
        });
        let asked = asked.collect::<Result<Vec<(u32, BoundStatement)>>>()?;
        let answers = futures::stream::iter(asked)
            .map(|(number, bound)| self.find(number, bound))
            .buffer_unordered(self.settings.max_in_flight)
            .try_collect::<Vec<(u32, Vec<Row>)>>();
        let (mut rows, mut of) = (Vec::new(), Vec::new());
        for (number, found) in session::block_on(answers)?? {
            of.extend(std::iter::repeat_n(number, found.len()));
            rows.extend(found);
        }
        let rows = rows::batch(&self.wanted, rows)
            .map_err(|why| Error::Fatal(format!("table '{}': {why}", self.settings.name)))?;
        Ok(Found { rows, keys: of })
    }
}

/// Whether these are the whole partition key and then the first clustering columns, or none of them; in any order, since
/// conditions have none.
fn by_key(declared: &Declared, asked: &[String]) -> bool {
    let (partition, clustering) = (&declared.partition_key, &declared.clustering_key);
    let n_clustering = clustering.iter().take_while(|name| asked.contains(name)).count();
    partition.iter().all(|name| asked.contains(name)) && asked.len() == partition.len() + n_clustering
}

/// Whether this is one column with an index of its own.
async fn indexed(session: &Session, settings: &Settings, asked: &[String]) -> Result<bool> {
    let [column] = asked else { return Ok(false) };
    let statement = "SELECT options FROM system_schema.indexes WHERE keyspace_name = ? AND table_name = ?";
    let rows = session.query_unpaged(statement, (&settings.keyspace, &settings.table)).await;
    let rows = rows.map_err(|why| failed(settings, "find the indexes", &why))?;
    let unread = |why: String| Error::Fatal(format!("{} does not tell its indexes: {why}", settings.place()));
    let rows = rows.into_rows_result().map_err(|why| unread(why.to_string()))?;
    let mut targets = Vec::new();
    for row in rows.rows::<(HashMap<String, String>,)>().map_err(|why| unread(why.to_string()))? {
        let (mut options,) = row.map_err(|why| unread(why.to_string()))?;
        targets.extend(options.remove("target"));
    }
    Ok(targets.iter().any(|target| target == column || *target == quoted(column)))
}

fn refused(settings: &Settings, declared: &Declared, asked: &[String]) -> Error {
    let clustering: String = declared.clustering_key.iter().map(|name| format!(", {name}")).collect();
    Error::Fatal(format!(
        "table '{}' cannot be looked up by ({}): table {} on {} has PRIMARY KEY (({}){clustering}), and is looked up by the \
         whole partition key and the first clustering columns, or by one column with an index; join by these, and declare \
         PRIMARY KEY in this order",
        settings.name,
        asked.join(", "),
        settings.quoted_table(),
        settings.place(),
        declared.partition_key.join(", ")
    ))
}

fn statement(settings: &Settings, asked: &[String], read: &[String]) -> String {
    let read: Vec<String> = read.iter().map(|name| quoted(name)).collect();
    let asked: Vec<String> = asked.iter().map(|name| format!("{} = ?", quoted(name))).collect();
    format!("SELECT {} FROM {} WHERE {}", read.join(", "), settings.quoted_table(), asked.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;
    use arrow::datatypes::DataType;

    #[test]
    fn a_table_is_looked_up_by_its_partition_key_and_what_follows_it() {
        let columns = ["a", "b", "c", "n"].map(|name| (name, DataType::Int64));
        let mut table = table(&columns, &[("connector", "cassandra"), ("contact_points", "h"), ("keyspace", "ks")]);
        assert!(keys(&table, &[0]).unwrap_err().to_string().contains("no primary key"));
        table.primary_key = vec![1, 0, 2];
        assert_eq!(keys(&table, &[0, 1, 3]), Ok(vec![1, 0]));
        assert_eq!(keys(&table, &[3]), Ok(vec![3]));
        let why = keys(&table, &[0, 3]).unwrap_err().to_string();
        assert!(why.contains("PRIMARY KEY (b, a, c)") && why.contains("ON … = b"), "{why}");

        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let declared = Declared { partition_key: names(&["b"]), clustering_key: names(&["a", "c"]) };
        for (asked, fits) in
            [(&["b"][..], true), (&["a", "b"], true), (&["b", "c"], false), (&["a"], false), (&["b", "n"], false)]
        {
            assert_eq!(by_key(&declared, &names(asked)), fits, "{asked:?}");
        }
        let settings = Settings::of(&table).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!(
            statement(&settings, &names(&["b", "a"]), &names(&["n"])),
            r#"SELECT "n" FROM "ks"."t" WHERE "b" = ? AND "a" = ?"#
        );
    }
}
