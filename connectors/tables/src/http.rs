//! The store's door: HTTP with Arrow IPC streams.
//!
//! - `GET /tables`: all tables as JSON
//! - `PUT /tables/{t}?key=0,2`: make it; the body is an IPC stream whose schema is the table's
//! - `GET /tables/{t}`: columns, key and row count as JSON; `DELETE /tables/{t}` drops it
//! - `POST /tables/{t}/commits?job=&writer=&generation=&epoch=&part=&changes=`: the body is an IPC stream of rows; with
//!   `changes=true` of rows with their weight, see [`Commit::changes`]
//! - `GET /tables/{t}/rows?columns=a,b&offset=&limit=`: an IPC stream of rows
//! - `DELETE /tables/{t}/rows`: remove all rows
//! - `POST /tables/{t}/lookup?column=a&column=b`: the body is an IPC stream of keys, see [`Store::lookup`]; the answer is one
//!   of the number of each row's key and of the row
//!
//! Invariant: the async threads never touch the disk; every call of the store runs on a blocking thread. Whoever mounts
//! this router checks who may call it.

use crate::schema::CatalogColumn;
use crate::{Applied, Commit, Error, Result, Store};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// One request's body. A writer splits larger epochs into parts.
const MOST_BODY_BYTES: usize = 64 << 20;
/// A table's schema.
const MOST_SCHEMA_BYTES: usize = 2 << 20;
/// The keys of one lookup.
const MOST_KEYS_BYTES: usize = 8 << 20;
/// Bodies held at the same time; with [`MOST_BODY_BYTES`] this bounds the memory, and more would only queue at the disk.
const MOST_COMMITS: usize = 8;
/// Batches encoded ahead of a slow reader: one on its way, one in the making.
const BATCHES_AHEAD: usize = 2;

/// An Arrow IPC stream.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is of use")]
struct ArrowStream(Vec<u8>);

#[derive(Clone)]
struct Door {
    store: Arc<Store>,
    commits: Arc<Semaphore>,
}

pub fn router(store: Arc<Store>) -> Router {
    documented().with_state(Door { store, commits: Arc::new(Semaphore::new(MOST_COMMITS)) }).into()
}

/// What [`router`] serves, in OpenAPI 3.1. Of answers that are no success it says the status alone; the body is an object with
/// a sentence under `error`.
pub fn document() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<Door> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(describe, create, drop_table))
        .routes(routes!(commit))
        .routes(routes!(rows, truncate))
        .routes(routes!(lookup))
}

/// What the store holds.
#[derive(Serialize, ToSchema)]
struct TablesView {
    tables: Vec<TableView>,
}

/// A table of the store.
#[derive(Serialize, ToSchema)]
struct TableView {
    name: String,
    columns: Vec<CatalogColumn>,
    /// Names of columns.
    primary_key: Vec<String>,
    rows: u64,
}

/// What became of a commit.
#[derive(Serialize, ToSchema)]
struct AppliedView {
    /// Not if it had been applied before.
    applied: bool,
}

/// Nothing more is to be said.
#[derive(Serialize, ToSchema)]
struct Done {}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Error::NoSuchTable { .. } => StatusCode::NOT_FOUND,
            Error::DifferentSchema { .. } | Error::Stale { .. } => StatusCode::CONFLICT,
            Error::Unsupported { .. } | Error::Unfit { .. } | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Open { .. } | Error::Storage(_) | Error::Corrupt(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Runs a call of the store where waiting for the disk hurts nobody.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(why) => Err(Error::Storage(format!("a call ended early: {why}"))),
    }
}

/// Lists the tables of the store.
#[utoipa::path(get, path = "/tables", tag = "tables", operation_id = "list_tables",
    responses((status = 200, description = "The tables", body = TablesView), (status = 500)))]
async fn list(State(door): State<Door>) -> Result<Json<TablesView>> {
    let names: Vec<String> = door.store.list().iter().map(|info| info.name.clone()).collect();
    let tables = blocking(move || {
        // A table dropped since it was listed is left out.
        let described = names.iter().filter_map(|name| match description(&door.store, name) {
            Err(Error::NoSuchTable { .. }) => None,
            described => Some(described),
        });
        described.collect::<Result<Vec<TableView>>>()
    });
    Ok(Json(TablesView { tables: tables.await? }))
}

/// Tells of a table its columns, its key and how many rows it has.
#[utoipa::path(get, path = "/tables/{table}", tag = "tables", operation_id = "describe_table",
    params(("table" = String, Path, description = "The table's name")),
    responses((status = 200, description = "The table", body = TableView), (status = 404), (status = 500)))]
async fn describe(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<TableView>> {
    blocking(move || description(&door.store, &table)).await.map(Json)
}

fn description(store: &Store, name: &str) -> Result<TableView> {
    let (entry, rows) = (store.describe(name)?.to_catalog(), store.count(name)?);
    let primary_key = entry.primary_key.iter().map(|at| entry.columns[*at].name.clone()).collect();
    Ok(TableView { name: name.to_owned(), columns: entry.columns, primary_key, rows })
}

/// A query that does not say what is asked.
fn unread(rejection: QueryRejection) -> Error {
    Error::Invalid(rejection.body_text())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CreateQuery {
    /// Numbers of the columns of the primary key, from 0, with commas between them.
    #[serde(default)]
    key: String,
}

/// Makes a table; one that is there already with the same columns and key stays.
#[utoipa::path(put, path = "/tables/{table}", tag = "tables", operation_id = "create_table",
    params(("table" = String, Path, description = "The table's name"), CreateQuery),
    request_body(content = ArrowStream, content_type = "application/vnd.apache.arrow.stream",
        description = "A stream whose schema is the table's"),
    responses((status = 200, description = "It is there", body = Done),
        (status = 400), (status = 409), (status = 413), (status = 500)))]
async fn create(
    State(door): State<Door>,
    Path(table): Path<String>,
    query: std::result::Result<Query<CreateQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<Done>> {
    let Query(query) = query.map_err(unread)?;
    let body = to_bytes(body, MOST_SCHEMA_BYTES).await.map_err(|_| Error::TooLarge { most: MOST_SCHEMA_BYTES })?;
    let key: Option<Vec<usize>> =
        query.key.split(',').filter(|index| !index.is_empty()).map(|index| index.parse().ok()).collect();
    let key = key.ok_or_else(|| Error::Invalid(format!("'{}' is no list of column numbers", query.key)))?;
    blocking(move || door.store.create(&table, &read_stream(body)?.0, &key)).await?;
    Ok(Json(Done {}))
}

/// Drops a table with all its rows.
#[utoipa::path(delete, path = "/tables/{table}", tag = "tables", operation_id = "drop_table",
    params(("table" = String, Path, description = "The table's name")),
    responses((status = 200, description = "It is gone", body = Done), (status = 404), (status = 500)))]
async fn drop_table(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<Done>> {
    blocking(move || door.store.drop_table(&table)).await?;
    Ok(Json(Done {}))
}

/// Removes all rows of a table.
#[utoipa::path(delete, path = "/tables/{table}/rows", tag = "tables", operation_id = "truncate_table",
    params(("table" = String, Path, description = "The table's name")),
    responses((status = 200, description = "It is empty", body = Done), (status = 404), (status = 500)))]
async fn truncate(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<Done>> {
    blocking(move || door.store.truncate(&table)).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CommitQuery {
    /// As `group/name`.
    job: String,
    /// Which of the job's writers it is.
    writer: String,
    /// One that is lower than another that has written is refused.
    generation: u64,
    /// Rises with each commit of a writer; one that was applied is not applied again.
    epoch: u64,
    /// Of an epoch that is sent in several, from 0.
    #[serde(default)]
    part: u64,
    /// The last column, `weight`, says whether a row comes (1) or goes (-1).
    #[serde(default)]
    changes: bool,
}

/// Writes a writer's rows of one epoch, once.
#[utoipa::path(post, path = "/tables/{table}/commits", tag = "tables", operation_id = "commit_rows",
    params(("table" = String, Path, description = "The table's name"), CommitQuery),
    request_body(content = ArrowStream, content_type = "application/vnd.apache.arrow.stream",
        description = "The rows, at most 64 MiB"),
    responses((status = 200, description = "They are on disk", body = AppliedView),
        (status = 400), (status = 404), (status = 409), (status = 413), (status = 500)))]
async fn commit(
    State(door): State<Door>,
    Path(table): Path<String>,
    query: std::result::Result<Query<CommitQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<AppliedView>> {
    let Query(query) = query.map_err(unread)?;
    let permit = door.commits.acquire_owned().await;
    let _permit = permit.map_err(|why| Error::Storage(why.to_string()))?;
    let body = to_bytes(body, MOST_BODY_BYTES).await.map_err(|why| {
        // A body that breaks off fails here too; its sender is gone and reads no answer.
        tracing::debug!(%why, "a commit was not read to its end");
        Error::TooLarge { most: MOST_BODY_BYTES }
    })?;
    let applied = blocking(move || {
        let (_, batches) = read_stream(body)?;
        let CommitQuery { job, writer, generation, epoch, part, changes } = query;
        door.store.commit(Commit { table, job, writer, generation, epoch, part, changes, batches })
    });
    let applied = applied.await? == Applied::Now;
    Ok(Json(AppliedView { applied }))
}

/// The schema and the rows of a body. Lengths that a body claims are never believed beyond what it holds.
fn read_stream(body: Bytes) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let wrong = |why: String| Error::Invalid(format!("the body is no Arrow IPC stream: {why}"));
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(body);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut buffer).map_err(|why| wrong(why.to_string()))? {
        batches.push(batch);
    }
    decoder.finish().map_err(|why| wrong(why.to_string()))?;
    let schema = decoder.schema().ok_or_else(|| wrong("it has no schema".to_owned()))?;
    Ok((schema, batches))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RowsQuery {
    /// Names with commas between them; all columns if it is not said.
    columns: Option<String>,
    /// Rows that are passed over first.
    #[serde(default)]
    offset: u64,
    /// Rows at most.
    limit: Option<u64>,
}

/// Gives the rows of a table by rising key.
#[utoipa::path(get, path = "/tables/{table}/rows", tag = "tables", operation_id = "read_rows",
    params(("table" = String, Path, description = "The table's name"), RowsQuery),
    responses(
        (status = 200, description = "The rows as they are at one moment", body = ArrowStream,
            content_type = "application/vnd.apache.arrow.stream"),
        (status = 400), (status = 404), (status = 500),
    ))]
async fn rows(
    State(door): State<Door>,
    Path(table): Path<String>,
    query: std::result::Result<Query<RowsQuery>, QueryRejection>,
) -> Result<Response> {
    let Query(query) = query.map_err(unread)?;
    let scan = blocking(move || {
        let info = door.store.describe(&table)?;
        let columns = query.columns.as_deref().map(|names| columns(&info, names)).transpose()?;
        door.store.scan(&table, columns.as_deref(), query.offset, query.limit)
    });
    let scan = scan.await?;
    Ok(stream(scan.schema(), scan))
}

fn stream(schema: SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static) -> Response {
    let (chunks, mut receiver) = tokio::sync::mpsc::channel(BATCHES_AHEAD);
    tokio::task::spawn_blocking(move || send_rows(&schema, batches, &chunks));
    let body = Body::from_stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context)));
    ([(header::CONTENT_TYPE, ARROW_STREAM)], body).into_response()
}

/// Gives the rows that have given keys.
///
/// Keys are no commits, and wait for none of them; the bound is on what they hold in memory.
#[utoipa::path(post, path = "/tables/{table}/lookup", tag = "tables", operation_id = "look_up_rows",
    params(
        ("table" = String, Path, description = "The table's name"),
        ("column" = Option<Vec<String>>, Query, description = "A column of the answer, once for each"),
    ),
    request_body(content = ArrowStream, content_type = "application/vnd.apache.arrow.stream",
        description = "The keys, at most 8 MiB"),
    responses(
        (status = 200, description = "The number of each row's key, and the row", body = ArrowStream,
            content_type = "application/vnd.apache.arrow.stream"),
        (status = 400), (status = 404), (status = 413), (status = 500),
    ))]
async fn lookup(
    State(door): State<Door>,
    Path(table): Path<String>,
    wanted: std::result::Result<Query<Vec<(String, String)>>, QueryRejection>,
    body: Body,
) -> Result<Response> {
    let Query(wanted) = wanted.map_err(unread)?;
    let body = to_bytes(body, MOST_KEYS_BYTES).await.map_err(|_| Error::TooLarge { most: MOST_KEYS_BYTES })?;
    let found = blocking(move || {
        let info = door.store.describe(&table)?;
        let names = wanted.iter().filter(|(name, _)| name == "column").map(|(_, column)| column.as_str());
        let columns = names.map(|name| column(&info, name)).collect::<Result<Vec<usize>>>()?;
        let (schema, batches) = read_stream(body)?;
        let keys = concat_batches(&schema, &batches).map_err(|why| Error::Invalid(why.to_string()))?;
        door.store.lookup(&table, &keys, &columns)
    });
    let found = found.await?;
    Ok(stream(found.schema(), found))
}

fn columns(info: &crate::TableInfo, names: &str) -> Result<Vec<usize>> {
    names.split(',').filter(|name| !name.is_empty()).map(|name| column(info, name)).collect()
}

fn column(info: &crate::TableInfo, name: &str) -> Result<usize> {
    info.schema.index_of(name).map_err(|_| Error::Invalid(format!("table '{}' has no column '{name}'", info.name)))
}

type Chunk = std::io::Result<Bytes>;

/// Ends early when the reader has gone. A failure breaks the stream off, which the reader sees as such.
fn send_rows(
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    chunks: &tokio::sync::mpsc::Sender<Chunk>,
) {
    let sent = (|| -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        for batch in batches {
            writer.write(&batch?)?;
            chunks.blocking_send(Ok(std::mem::take(writer.get_mut()).into()))?;
        }
        writer.finish()?;
        chunks.blocking_send(Ok(std::mem::take(writer.get_mut()).into()))?;
        Ok(())
    })();
    if let Err(why) = sent {
        tracing::debug!(%why, "a scan ended early");
        let _ = chunks.blocking_send(Err(std::io::Error::other(why.to_string())));
    }
}

#[cfg(test)]
mod tests;
