//! What a stream is made of, operator by operator, and the text that it was made from.

use super::{Api, failure};
use crate::view::DataflowView;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jobs::JobBody;

/// Planned anew, as each task of it does; nothing but the text is there of a job that is no stream.
pub async fn of_job(State(api): State<Api>, Path((group, name)): Path<(String, String)>) -> Response {
    let id = format!("{group}/{name}");
    let spec = match api.owner.spec(id.clone()).await {
        Ok(Some(spec)) => spec,
        Ok(None) => return failure(StatusCode::NOT_FOUND, format!("there is no job '{id}'")),
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let body = match spec.body {
        JobBody::Stream(body) => body,
        JobBody::Train(body) => {
            return Json(DataflowView { text: shown(&body.sql), nodes: Vec::new() }).into_response();
        }
        JobBody::Command(_) | JobBody::Service(_) => return Json(DataflowView::default()).into_response(),
    };
    let functions = crate::functions::declared();
    let planned = match crate::functions::parse(&body.sql) {
        Ok(script) => streaming::sql::plan(&script, &body.statements, &functions).await,
        Err(mistakes) => Err(mistakes),
    };
    match planned.map(|dataflow| serde_json::from_value(streaming::sql::explain_json(&dataflow)["nodes"].take())) {
        Ok(Ok(nodes)) => Json(DataflowView { text: shown(&body.sql), nodes }).into_response(),
        Ok(Err(error)) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to tell the plan of {id}: {error}"))
        }
        Err(mistakes) => {
            let why = mistakes.first().map(ToString::to_string).unwrap_or_default();
            failure(StatusCode::CONFLICT, format!("failed to plan {id} again: {why}"))
        }
    }
}

/// Without the values of secret options.
fn shown(sql: &str) -> String {
    connectors::secrets::hide(sql).into_owned()
}
