//! The history of training runs.

use super::{Api, failure};
use crate::runs;
use crate::view::{ComparisonView, RunDetail, RunsView};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Lists training runs, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "training", operation_id = "list_runs",
    responses((status = 200, description = "The runs", body = RunsView), (status = 404), (status = 500)))]
pub async fn all(State(api): State<Api>) -> Response {
    answered(&api, |folder| Ok(RunsView { runs: runs::list(&folder)? })).await
}

/// Tells of one training run how it went.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "training", operation_id = "get_run",
    params(("run" = String, Path, description = "Its id, or how one alone begins or ends")),
    responses((status = 200, description = "The run with its curve", body = RunDetail), (status = 404), (status = 500)))]
pub async fn one(State(api): State<Api>, Path(run): Path<String>) -> Response {
    answered(&api, move |folder| runs::find(&folder, &run)).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CompareQuery {
    /// Of runs, with commas between them.
    ids: String,
}

/// Says in which settings runs differ, and what came of it.
#[utoipa::path(get, path = "/api/v1/compare/runs", tag = "training", operation_id = "compare_runs",
    params(CompareQuery),
    responses((status = 200, description = "Run by run", body = ComparisonView),
        (status = 400), (status = 404), (status = 500)))]
pub async fn compare(State(api): State<Api>, query: Result<Query<CompareQuery>, QueryRejection>) -> Response {
    let ids = match query {
        Ok(Query(CompareQuery { ids })) => ids,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let compare = move |folder: PathBuf| {
        let found = ids.split(',').map(|id| runs::find(&folder, id)).collect::<Result<Vec<_>, _>>()?;
        Ok(runs::compare(found))
    };
    answered(&api, compare).await
}

/// What came of looking into the runs' folder, which waits for the disk.
async fn answered<T: Serialize + Send + 'static>(
    api: &Api,
    work: impl FnOnce(PathBuf) -> Result<T, String> + Send + 'static,
) -> Response {
    let folder = api.runs_dir.clone();
    match tokio::task::spawn_blocking(move || work(folder)).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error)) => failure(StatusCode::NOT_FOUND, error),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
