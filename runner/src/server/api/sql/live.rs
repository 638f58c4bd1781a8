//! `POST /api/v1/sql/stream`: the rows of one query as they come, also of one that never ends. It is ended by closing the
//! connection. As an Arrow IPC stream, or as a line of JSON for each message.

use super::{ARROW_STREAM, columns, failed, question, refusal, rows_as_json, taken};
use crate::server::api::openapi::ArrowStream;
use crate::server::api::{Api, failure};
use crate::server::queries::{Live, QueryError, Said};
use crate::view::QueryRequest;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;
use std::io;

/// There when rows are taken back.
const CHANGES: &str = "x-changes";
const JSON_LINES: &str = "application/x-ndjson";
/// Rows in one line: what a page can draw at once.
const LINE_ROWS: usize = 1_000;

/// Answers one query whose rows are sent as they come, also one that never ends.
///
/// It is ended by closing the connection. Whoever sends `Accept: application/x-ndjson` gets lines of JSON: first `columns`,
/// `types` and `changes` (whether the first column, `op`, says that a row came or was taken back), then `rows` and `notice` as
/// they come, at last `end` or `error`. Others get an Arrow IPC stream; where that ends too early, the query has failed.
#[utoipa::path(post, path = "/api/v1/sql/stream", tag = "sql", operation_id = "stream",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "The rows, for as long as somebody reads",
            content((ArrowStream = "application/vnd.apache.arrow.stream"), (String = "application/x-ndjson")),
            headers(("x-changes" = String, description = "`true`, of an Arrow stream, where rows are taken back"))),
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
    let mut live = match api.queries.live(question(request)).await {
        Ok(live) => live,
        Err(error) => return refusal(error),
    };
    if let Err(error) = live.begins().await {
        return refusal(error);
    }
    let wants_json = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == JSON_LINES.as_bytes());
    match wants_json {
        true => lines(live),
        false => arrow(live).unwrap_or_else(refusal),
    }
}

/// Where the text ends too early, the query has failed.
fn arrow(live: Live) -> Result<Response, QueryError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &live.schema).map_err(|error| failed(&error))?;
    let (head, changes) = (taken(&mut writer), live.changes);
    let body = stream::unfold((Some(head), Some(writer), live), |(head, writer, mut live)| async move {
        if let Some(head) = head {
            return Some((Ok(head), (None, writer, live)));
        }
        let mut writer = writer?;
        loop {
            let written = match live.next().await {
                Some(Said::Rows(batch)) => writer.write(&batch).map(|()| true),
                // There is no room for words beside the rows.
                Some(Said::Notice(_)) => continue,
                Some(Said::End) => writer.finish().map(|()| false),
                Some(Said::Failed(why)) => Err(ArrowError::IpcError(why)),
                None => Err(ArrowError::IpcError("the query was given up: nobody took its rows".to_string())),
            };
            return match written {
                Ok(goes_on) => Some((Ok(taken(&mut writer)), (None, goes_on.then_some(writer), live))),
                Err(error) => Some((Err(io::Error::other(error)), (None, None, live))),
            };
        }
    });
    let mut response = ([(header::CONTENT_TYPE, ARROW_STREAM)], Body::from_stream(body)).into_response();
    if changes {
        response.headers_mut().insert(CHANGES, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// What the columns are, then rows and notices as they come, then the end or an error.
fn lines(live: Live) -> Response {
    let (names, types) = columns(&live.schema);
    let head = json!({ "columns": names, "types": types, "changes": live.changes });
    let body = stream::unfold((Some(head), Some(live)), |(head, live)| async move {
        let mut live = live?;
        if let Some(head) = head {
            return Some((line(&head.to_string()), (None, Some(live))));
        }
        let (text, goes_on) = match live.next().await {
            Some(Said::Rows(batch)) => {
                let parts = (0..batch.num_rows().max(1)).step_by(LINE_ROWS);
                let parts = parts.map(|from| batch.slice(from, LINE_ROWS.min(batch.num_rows() - from)));
                let rows = parts.map(|part| rows_as_json(&[part]).map(|rows| format!("{{\"rows\":{rows}}}")));
                match rows.collect::<Result<Vec<String>, _>>() {
                    Ok(lines) => (lines.join("\n"), true),
                    Err(error) => (json!({ "error": format!("failed to show the rows: {error}") }).to_string(), false),
                }
            }
            Some(Said::Notice(text)) => (json!({ "notice": text }).to_string(), true),
            Some(Said::End) => (json!({ "end": true }).to_string(), false),
            Some(Said::Failed(why)) => (json!({ "error": why }).to_string(), false),
            None => (json!({ "error": "the query was given up: nobody took its rows" }).to_string(), false),
        };
        Some((line(&text), (None, goes_on.then_some(live))))
    });
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(body)).into_response()
}

fn line(text: &str) -> Result<Bytes, io::Error> {
    Ok(Bytes::from(format!("{text}\n")))
}
