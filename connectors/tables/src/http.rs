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

use crate::{Applied, Commit, Error, Result, Store};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// One request's body. A writer splits larger epochs into parts.
const MOST_BODY_BYTES: usize = 64 << 20;
/// The keys of one lookup.
const MOST_KEYS_BYTES: usize = 8 << 20;
/// Bodies held at the same time; with [`MOST_BODY_BYTES`] this bounds the memory, and more would only queue at the disk.
const MOST_COMMITS: usize = 8;
/// Batches encoded ahead of a slow reader: one on its way, one in the making.
const BATCHES_AHEAD: usize = 2;

#[derive(Clone)]
struct Door {
    store: Arc<Store>,
    commits: Arc<Semaphore>,
}

pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/tables", get(list))
        .route("/tables/{table}", get(describe).put(create).delete(drop_table))
        .route("/tables/{table}/commits", axum::routing::post(commit))
        .route("/tables/{table}/rows", get(rows).delete(truncate))
        .route("/tables/{table}/lookup", axum::routing::post(lookup))
        .with_state(Door { store, commits: Arc::new(Semaphore::new(MOST_COMMITS)) })
}

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

async fn list(State(door): State<Door>) -> Result<Json<Value>> {
    let names: Vec<String> = door.store.list().iter().map(|info| info.name.clone()).collect();
    let tables = blocking(move || {
        // A table dropped since it was listed is left out.
        names.iter().filter_map(|name| description(&door.store, name).transpose()).collect::<Result<Vec<Value>>>()
    });
    Ok(Json(json!({ "tables": tables.await? })))
}

async fn describe(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<Value>> {
    let described = blocking(move || match description(&door.store, &table)? {
        Some(found) => Ok(found),
        None => door.store.describe(&table).map(|_| Value::Null),
    });
    described.await.map(Json)
}

fn description(store: &Store, name: &str) -> Result<Option<Value>> {
    let (info, count) = match (store.describe(name), store.count(name)) {
        (Ok(info), Ok(count)) => (info, count),
        (Err(Error::NoSuchTable { .. }), _) | (_, Err(Error::NoSuchTable { .. })) => return Ok(None),
        (Err(why), _) | (_, Err(why)) => return Err(why),
    };
    let entry = info.to_catalog();
    let key: Vec<&str> = entry.primary_key.iter().map(|at| entry.columns[*at].name.as_str()).collect();
    Ok(Some(json!({ "name": name, "columns": entry.columns, "primary_key": key, "rows": count })))
}

#[derive(Deserialize)]
struct CreateQuery {
    #[serde(default)]
    key: String,
}

async fn create(
    State(door): State<Door>,
    Path(table): Path<String>,
    Query(query): Query<CreateQuery>,
    body: Bytes,
) -> Result<Json<Value>> {
    let key: Option<Vec<usize>> =
        query.key.split(',').filter(|index| !index.is_empty()).map(|index| index.parse().ok()).collect();
    let key = key.ok_or_else(|| Error::Invalid(format!("'{}' is no list of column numbers", query.key)))?;
    blocking(move || door.store.create(&table, &read_stream(body)?.0, &key)).await?;
    Ok(Json(json!({})))
}

async fn drop_table(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<Value>> {
    blocking(move || door.store.drop_table(&table)).await?;
    Ok(Json(json!({})))
}

async fn truncate(State(door): State<Door>, Path(table): Path<String>) -> Result<Json<Value>> {
    blocking(move || door.store.truncate(&table)).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct CommitQuery {
    job: String,
    writer: String,
    generation: u64,
    epoch: u64,
    #[serde(default)]
    part: u64,
    #[serde(default)]
    changes: bool,
}

async fn commit(
    State(door): State<Door>,
    Path(table): Path<String>,
    Query(query): Query<CommitQuery>,
    body: Body,
) -> Result<Json<Value>> {
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
    let applied = applied.await?;
    Ok(Json(json!({ "applied": applied == Applied::Now })))
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

#[derive(Deserialize)]
struct RowsQuery {
    columns: Option<String>,
    #[serde(default)]
    offset: u64,
    limit: Option<u64>,
}

async fn rows(State(door): State<Door>, Path(table): Path<String>, Query(query): Query<RowsQuery>) -> Result<Response> {
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

/// Keys are no commits, and wait for none of them; the bound is on what they hold in memory.
async fn lookup(
    State(door): State<Door>,
    Path(table): Path<String>,
    Query(wanted): Query<Vec<(String, String)>>,
    body: Body,
) -> Result<Response> {
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
