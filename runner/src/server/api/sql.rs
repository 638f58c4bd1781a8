//! `POST /api/v1/sql`: one query, its rows as an Arrow IPC stream, or as JSON for who asks for that.

pub mod catalog;
pub mod live;

use super::openapi::ArrowStream;
use super::{Api, failure, unsettled};
use crate::server::queries::{Answer, QueryError, Question};
use crate::view::{Parameter, QueryRequest, RowsView};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use serde::Serialize;
use std::io;
use streaming::sql::sql_name;

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";
/// Rows of a JSON answer, without a `limit` and at most: a page can show no more, and it is made in memory.
const ROWS: u64 = 1_000;
const ROWS_MAX: u64 = 100_000;
const BYTES_MAX: usize = 32 << 20;

/// Answers one query over the tables of the cluster.
///
/// Whoever sends `Accept: application/json` gets JSON, and at most `limit` rows; others get an Arrow IPC stream, and where that
/// ends too early, the query has failed.
#[utoipa::path(post, path = "/api/v1/sql", tag = "sql", operation_id = "query",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "The rows",
            content((ArrowStream = "application/vnd.apache.arrow.stream"), (RowsView = "application/json"))),
        (status = 400), (status = 422), (status = 500), (status = 503),
    ))]
pub async fn ask(
    State(api): State<Api>,
    headers: HeaderMap,
    request: Result<Json<QueryRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let limit = request.limit.unwrap_or(ROWS).min(ROWS_MAX);
    let answer = match api.queries.ask(question(request)).await {
        Ok(answer) => answer,
        Err(error) => return refusal(error),
    };
    let wants_json = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/json");
    let result = match wants_json {
        true => json(answer, limit).await,
        false => arrow(answer).await,
    };
    result.unwrap_or_else(refusal)
}

fn question(request: QueryRequest) -> Question {
    Question { text: request.sql, parameters: request.parameters.into_iter().map(value).collect() }
}

fn value(parameter: Option<Parameter>) -> ScalarValue {
    match parameter {
        None => ScalarValue::Null,
        Some(Parameter::Boolean(value)) => value.into(),
        Some(Parameter::Integer(value)) => value.into(),
        Some(Parameter::Number(value)) => value.into(),
        Some(Parameter::Text(value)) => value.as_str().into(),
    }
}

fn refusal(error: QueryError) -> Response {
    match error {
        QueryError::Wrong(wrong) => unsettled(wrong),
        QueryError::Busy(why) => failure(StatusCode::SERVICE_UNAVAILABLE, why),
        QueryError::Failed(why) => failure(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}

fn failed(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::Failed(format!("failed to run the query: {error}"))
}

/// What goes wrong before the first rows is said so; after them the body ends too early.
async fn arrow(answer: Answer) -> Result<Response, QueryError> {
    let Answer { schema, rows } = answer;
    let mut rows = rows.fuse();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|error| failed(&error))?;
    if let Some(first) = rows.next().await {
        let first = first.map_err(|error| failed(&error.strip_backtrace()))?;
        writer.write(&first).map_err(|error| failed(&error))?;
    }
    let body = futures::stream::unfold(Some((writer, rows)), |left| async move {
        let (mut writer, mut rows) = left?;
        if !writer.get_ref().is_empty() {
            return Some((Ok(taken(&mut writer)), Some((writer, rows))));
        }
        let written = match rows.next().await {
            Some(Ok(batch)) => writer.write(&batch).map(|()| true),
            Some(Err(error)) => {
                tracing::warn!(%error, "a query failed in the middle of its rows");
                return Some((Err(io::Error::other(error)), None));
            }
            None => writer.finish().map(|()| false),
        };
        match written {
            Ok(more) => Some((Ok(taken(&mut writer)), more.then_some((writer, rows)))),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, ARROW_STREAM)], Body::from_stream(body)).into_response())
}

fn taken(writer: &mut StreamWriter<Vec<u8>>) -> Bytes {
    Bytes::from(std::mem::take(writer.get_mut()))
}

/// Names and types of columns, as SQL has them.
pub fn columns(schema: &SchemaRef) -> (Vec<String>, Vec<String>) {
    schema.fields().iter().map(|field| (field.name().clone(), sql_name(field.data_type()))).unzip()
}

/// A list of objects, with every column in each: numbers have all of their digits.
pub fn rows_as_json(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut text);
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    match text.is_empty() {
        true => Ok("[]".to_string()),
        false => String::from_utf8(text).map_err(|error| ArrowError::JsonError(error.to_string())),
    }
}

/// The rows as their writer spells them: numbers with all of their digits.
async fn json(answer: Answer, limit: u64) -> Result<Response, QueryError> {
    let Answer { schema, mut rows } = answer;
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut text);
    let (mut left, mut truncated) = (limit, false);
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| failed(&error.strip_backtrace()))?;
        let n_rows = batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX));
        truncated = n_rows < batch.num_rows();
        left -= n_rows as u64;
        writer.write(&batch.slice(0, n_rows)).map_err(|error| failed(&error))?;
        if truncated {
            break;
        }
        if writer.get_mut().len() > BYTES_MAX {
            truncated = true;
            break;
        }
    }
    writer.finish().map_err(|error| failed(&error))?;
    let rows = match text.is_empty() {
        true => "[]".to_string(),
        false => String::from_utf8(text).map_err(|error| failed(&error))?,
    };
    let (columns, types) = columns(&schema);
    with_rows(&RowsView { columns, types, truncated, rows: Vec::new() }, &rows).map_err(|error| failed(&error))
}

/// An answer whose last field, `rows`, which is empty, becomes this list: as text numbers keep all of their digits.
pub fn with_rows(view: &impl Serialize, rows: &str) -> Result<Response, serde_json::Error> {
    let mut body = serde_json::to_string(view)?;
    body.truncate(body.len() - "[]}".len());
    body.extend([rows, "}"]);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
