//! The history of training runs.

use super::{Api, failure};
use crate::runs;
use crate::view::RunsView;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub async fn all(State(api): State<Api>) -> Response {
    answered(&api, |folder| Ok(RunsView { runs: runs::list(&folder)? })).await
}

pub async fn one(State(api): State<Api>, Path(run): Path<String>) -> Response {
    answered(&api, move |folder| runs::find(&folder, &run)).await
}

#[derive(Deserialize)]
pub struct CompareQuery {
    /// With commas between them.
    ids: String,
}

pub async fn compare(State(api): State<Api>, Query(CompareQuery { ids }): Query<CompareQuery>) -> Response {
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
