//! The table as the server has it: creating it where asked, and comparing it with the SQL declaration.
//!
//! Invariant: nothing is read or written before every declared column was found there with a type that holds it; else
//! the error shows both declarations.

use super::session::change_schema;
use super::settings::{Settings, quoted};
use super::types;
use crate::api::{Context, Error, Result, TableDef};
use arrow::datatypes::DataType;
use jobs::Diagnostic;
use scylla::client::session::Session;
use scylla::cluster::ClusterState;
use scylla::cluster::metadata::{ColumnKind, Table};
use std::time::{Duration, Instant};

/// How long slices wait for the table that slice 0 creates.
const CREATED_WITHIN: Duration = Duration::from_secs(30);

/// Columns that no Cassandra table can hold.
pub fn check(table: &TableDef) -> Vec<Diagnostic> {
    let unfit = table.schema.fields().iter().filter(|field| !types::holds(field.data_type()));
    unfit
        .map(|field| {
            Diagnostic::new(format!(
                "column '{}' of table '{}' has type {}, which connector 'cassandra' cannot hold",
                field.name(),
                table.name,
                types::sql_name(field.data_type())
            ))
            .help("cast it to one of BOOLEAN, the integer types, REAL, DOUBLE, DECIMAL, VARCHAR, VARBINARY, DATE, TIME, TIMESTAMP, or to an ARRAY, MAP or STRUCT of them")
        })
        .collect()
}

/// Creates what is missing and may be created.
pub async fn create(session: &Session, settings: &Settings, table: &TableDef, context: &Context) -> Result<()> {
    if context.slot != 0 {
        // Two schema changes at once can leave Cassandra with two tables of one name, so one slice makes them for all.
        return wait_for_table(session, settings).await;
    }
    if settings.create_keyspace && session.get_cluster_state().get_keyspace(&settings.keyspace).is_none() {
        let statement = format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', \
             'replication_factor': {}}}",
            quoted(&settings.keyspace),
            settings.replication
        );
        change_schema(session, settings, "create the keyspace", &statement).await?;
    }
    if settings.create_table && !exists(session, settings) {
        for statement in create_statements(settings, table)? {
            change_schema(session, settings, "create the table", &statement).await?;
        }
        refresh(session, settings).await?;
    }
    Ok(())
}

fn exists(session: &Session, settings: &Settings) -> bool {
    session
        .get_cluster_state()
        .get_keyspace(&settings.keyspace)
        .is_some_and(|keyspace| keyspace.tables.contains_key(&settings.table))
}

async fn wait_for_table(session: &Session, settings: &Settings) -> Result<()> {
    let until = Instant::now() + CREATED_WITHIN;
    while settings.create_table && !exists(session, settings) {
        if Instant::now() >= until {
            return Err(Error::Transient(format!(
                "{}: table {} is not there yet; the job's first slice creates it",
                settings.place(),
                settings.quoted_table()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        refresh(session, settings).await?;
    }
    Ok(())
}

pub async fn refresh(session: &Session, settings: &Settings) -> Result<()> {
    session
        .refresh_metadata()
        .await
        .map_err(|why| Error::Transient(format!("{} does not tell its tables: {why}", settings.place())))
}

/// The types that it has, each after those within it, then the table.
fn create_statements(settings: &Settings, table: &TableDef) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let mut columns = Vec::with_capacity(table.schema.fields().len());
    for field in table.schema.fields() {
        let name = format!("{}_{}", settings.table, field.name());
        let Some(kind) = named(settings, field.data_type(), &name, &mut statements) else {
            return Err(Error::Fatal(format!(
                "column '{}' of table '{}' has type {}, which Cassandra cannot hold",
                field.name(),
                table.name,
                types::sql_name(field.data_type())
            )));
        };
        columns.push(format!("{} {kind}", quoted(field.name())));
    }
    let key: Vec<String> = table.primary_key.iter().map(|at| quoted(table.schema.field(*at).name())).collect();
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({}))",
        settings.quoted_table(),
        columns.join(", "),
        key.join(", ")
    ));
    Ok(statements)
}

/// A name of a type that needs no quotes: the driver cannot read others, nor then any table of the cluster.
fn plain(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("of_{}", name.chars().map(fits).collect::<String>())
}

/// A column's type; that of a structure is called after table and column, and those within it after it and their field.
fn named(settings: &Settings, kind: &DataType, name: &str, statements: &mut Vec<String>) -> Option<String> {
    // A list of structures within a map of structures: both are of one column.
    let mut count = 0;
    types::created_as(kind, &mut |fields| {
        let name = if count == 0 { name.to_owned() } else { format!("{name}_{count}") };
        count += 1;
        let mut parts = Vec::with_capacity(fields.len());
        for field in fields {
            let inner = format!("{name}_{}", field.name());
            let kind = named(settings, field.data_type(), &inner, statements)?;
            let nested = types::nested(field.data_type());
            let kind = if nested { format!("frozen<{kind}>") } else { kind };
            parts.push(format!("{} {kind}", quoted(field.name())));
        }
        let full = format!("{}.{}", quoted(&settings.keyspace), plain(&name));
        statements.push(format!("CREATE TYPE IF NOT EXISTS {full} ({})", parts.join(", ")));
        Some(full)
    })
}

/// What the rest of the connector needs to know of the server's table.
pub struct Found {
    /// The partition key's columns, in order.
    pub partition_key: Vec<String>,
    /// The clustering columns, in order.
    pub clustering_key: Vec<String>,
}

/// The driver asks for tables and for columns one after the other, so it can see a table that is just being created
/// without its columns. A table that is not there at all is asked for once more and not waited for.
pub async fn wait_until_whole(session: &Session, settings: &Settings) -> Result<()> {
    let until = Instant::now() + CREATED_WITHIN;
    let columns = || {
        let state = session.get_cluster_state();
        let table = state.get_keyspace(&settings.keyspace)?.tables.get(&settings.table)?;
        Some(table.columns.len())
    };
    let mut asked = false;
    loop {
        match columns() {
            Some(1..) => return Ok(()),
            None if asked => return Ok(()),
            Some(_) if Instant::now() >= until => {
                return Err(Error::Transient(format!(
                    "{} does not tell the columns of table {}",
                    settings.place(),
                    settings.quoted_table()
                )));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            None => {}
        }
        asked = true;
        refresh(session, settings).await?;
    }
}

/// The server's table, or which one is nearest.
pub fn table_of<'a>(state: &'a ClusterState, settings: &Settings) -> Result<&'a Table> {
    let Some(keyspace) = state.get_keyspace(&settings.keyspace) else {
        let names: Vec<&str> = state.keyspaces_iter().map(|(name, _)| name).collect();
        return Err(absent(settings, "keyspace", &settings.keyspace, "create_keyspace", &names));
    };
    keyspace.tables.get(&settings.table).ok_or_else(|| {
        let names: Vec<&str> = keyspace.tables.keys().map(String::as_str).collect();
        absent(settings, "table", &settings.quoted_table(), "create_table", &names)
    })
}

/// Finds the server's table and compares. `writing` also compares the keys, by which rows replace each other.
pub async fn find(session: &Session, settings: &Settings, table: &TableDef, writing: bool) -> Result<Found> {
    wait_until_whole(session, settings).await?;
    let state = session.get_cluster_state();
    let there = table_of(&state, settings)?;
    let mut wrong = Vec::new();
    for field in table.schema.fields() {
        let (name, here) = (field.name(), field.data_type());
        match there.columns.get(name) {
            None => wrong.push(format!("column '{name}' is not there")),
            Some(column) if !types::fits(here, &column.typ) => wrong.push(format!(
                "column '{name}' is {} here and {} there",
                types::sql_name(here),
                types::cql_name(&column.typ)
            )),
            Some(_) => {}
        }
    }
    let mut key_there: Vec<&str> =
        there.partition_key.iter().chain(&there.clustering_key).map(String::as_str).collect();
    let mut key_here: Vec<&str> = table.primary_key.iter().map(|at| table.schema.field(*at).name().as_str()).collect();
    key_there.sort_unstable();
    key_here.sort_unstable();
    if writing && key_here != key_there {
        wrong.push("the primary keys differ".to_owned());
    }
    if wrong.is_empty() {
        return Ok(Found { partition_key: there.partition_key.clone(), clustering_key: there.clustering_key.clone() });
    }
    Err(Error::Fatal(format!(
        "table '{}' does not fit table {} on {}: {}; here: {}; there: {}",
        table.name,
        settings.quoted_table(),
        settings.place(),
        wrong.join(", "),
        shown_here(table),
        shown_there(there)
    )))
}

fn absent(settings: &Settings, what: &str, name: &str, option: &str, all: &[&str]) -> Error {
    let bare = if what == "table" { &settings.table } else { &settings.keyspace };
    let near = jobs::text::nearest(bare, all.iter().copied())
        .map(|near| format!("did you mean '{near}'? Else "))
        .unwrap_or_default();
    Error::Fatal(format!(
        "{what} {name} of table '{}' does not exist on {}; {near}create it, or add {option} = 'true'",
        settings.name,
        settings.place()
    ))
}

fn shown_here(table: &TableDef) -> String {
    let mut parts: Vec<String> = table
        .schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), types::sql_name(field.data_type())))
        .collect();
    let key: Vec<&str> = table.primary_key.iter().map(|at| table.schema.field(*at).name().as_str()).collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("({})", parts.join(", "))
}

fn shown_there(table: &Table) -> String {
    let key: Vec<&String> = table.partition_key.iter().chain(&table.clustering_key).collect();
    let mut others: Vec<&String> = table.columns.keys().filter(|name| !key.contains(name)).collect();
    others.sort();
    let mut parts: Vec<String> = key
        .iter()
        .chain(&others)
        .filter_map(|name| {
            let column = table.columns.get(*name)?;
            let fixed = if column.kind == ColumnKind::Static { " STATIC" } else { "" };
            Some(format!("{name} {}{fixed}", types::cql_name(&column.typ)))
        })
        .collect();
    let clustering: String = table.clustering_key.iter().map(|name| format!(", {name}")).collect();
    parts.push(format!("PRIMARY KEY (({}){clustering})", table.partition_key.join(", ")));
    format!("({})", parts.join(", "))
}
