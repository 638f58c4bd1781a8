//! What a stream is made of, operator by operator, and the text that it was made from.

use super::{Api, failure};
use crate::view::{DataflowView, NodeView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jobs::JobBody;
use streaming::dataflow::Dataflow;

/// Tells what a stream is made of, operator by operator.
///
/// It is planned anew, as each task of it does; nothing but the text is there of a job that is no stream.
#[utoipa::path(get, path = "/api/v1/jobs/{group}/{name}/dataflow", tag = "jobs", operation_id = "job_dataflow",
    params(
        ("group" = String, Path, description = "The job's group"),
        ("name" = String, Path, description = "The job's name in it"),
    ),
    responses((status = 200, description = "Its operators and its text", body = DataflowView),
        (status = 404), (status = 409), (status = 500), (status = 503)))]
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
    match planned.map(|dataflow| nodes(&dataflow, &body.sql)) {
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

fn nodes(dataflow: &Dataflow, sql: &str) -> Result<Vec<NodeView>, serde_json::Error> {
    let mut nodes: Vec<NodeView> = serde_json::from_value(streaming::sql::explain_json(dataflow)["nodes"].take())?;
    for (view, node) in nodes.iter_mut().zip(&dataflow.nodes) {
        view.lines = lines(&node.spans, sql);
    }
    Ok(nodes)
}

/// The lines, from 1, that these parts of a text stand on: the first and the last of each stretch.
fn lines(spans: &[(usize, usize)], text: &str) -> Vec<(u32, u32)> {
    let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() as u32;
    let mut lines: Vec<(u32, u32)> = Vec::new();
    for (from, to) in spans {
        let (from, to) = (line(*from), line(to.saturating_sub(1).max(*from)));
        match lines.last_mut() {
            Some(last) if from <= last.1 + 1 => last.1 = last.1.max(to),
            _ => lines.push((from, to)),
        }
    }
    lines
}

/// Without the values of secret options.
fn shown(sql: &str) -> String {
    connectors::secrets::hide(sql).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_text_become_stretches_of_lines() {
        let text = "a\nbb\nccc\n\nd";
        assert_eq!(lines(&[(0, 1)], text), [(1, 1)]);
        assert_eq!(lines(&[(0, 1), (2, 4), (10, 11)], text), [(1, 2), (5, 5)]);
        assert_eq!(lines(&[(2, 9)], text), [(2, 3)]);
        assert_eq!(lines(&[], text), []);
    }
}
