//! Models: versions, what they come from, and the aliases that queries call them by.

use super::{Api, failure};
use crate::models::{self, UsedBy};
use crate::server::owner::now_ms;
use crate::view::{PromoteRequest, Promoted};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::path::PathBuf;

/// Every version of every model, oldest first.
pub async fn all(State(api): State<Api>) -> Response {
    with_use(&api, StatusCode::INTERNAL_SERVER_ERROR, |folder, used| models::list(&folder, None, &used)).await
}

/// Those of one model.
pub async fn of_model(State(api): State<Api>, Path(model): Path<String>) -> Response {
    with_use(&api, StatusCode::NOT_FOUND, move |folder, used| models::list(&folder, Some(&model), &used)).await
}

/// One version: `which` is its number or an alias; `-` is what a query means by the name alone.
pub async fn version(State(api): State<Api>, Path((model, which)): Path<(String, String)>) -> Response {
    let reference = if which == "-" { model } else { format!("{model}@{which}") };
    with_use(&api, StatusCode::NOT_FOUND, move |folder, used| models::show(&folder, &reference, &used)).await
}

/// A version as one file, for who writes it in another form.
pub async fn package(State(api): State<Api>, Path((model, which)): Path<(String, String)>) -> Response {
    let reference = if which == "-" { model } else { format!("{model}@{which}") };
    let folder = api.model_dir.clone();
    match tokio::task::spawn_blocking(move || models::package(&folder, &reference)).await {
        Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(Err(error)) => failure(StatusCode::NOT_FOUND, format!("failed to {error}")),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Of a model that is sent.
pub const MOST_BYTES: usize = 1 << 32;

/// The next version of a model, as one file.
pub async fn publish(State(api): State<Api>, Path(model): Path<String>, package: Bytes) -> Response {
    answered(&api, StatusCode::BAD_REQUEST, move |folder| models::publish(&folder, &model, &package)).await
}

pub async fn promote(
    State(api): State<Api>,
    Path((model, alias)): Path<(String, String)>,
    request: Result<Json<PromoteRequest>, JsonRejection>,
) -> Response {
    let version = match request {
        Ok(Json(PromoteRequest { version })) => version,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let promote = move |folder: PathBuf| {
        models::promote(&folder, &model, version, &alias, now_us())?;
        Ok(Promoted { model, alias, version })
    };
    answered(&api, StatusCode::CONFLICT, promote).await
}

pub async fn rollback(State(api): State<Api>, Path((model, alias)): Path<(String, String)>) -> Response {
    let rollback = move |folder: PathBuf| {
        let version = models::rollback(&folder, &model, &alias, now_us())?;
        Ok(Promoted { model, alias, version })
    };
    answered(&api, StatusCode::CONFLICT, rollback).await
}

pub async fn remove(State(api): State<Api>, Path((model, version)): Path<(String, u64)>) -> Response {
    let remove = move |folder: PathBuf, used: UsedBy| {
        models::remove(&folder, &model, version, &used)?;
        models::list(&folder, None, &used)
    };
    with_use(&api, StatusCode::CONFLICT, remove).await
}

fn now_us() -> i64 {
    now_ms() as i64 * 1000
}

/// As [`answered`], for what has to know which jobs use which versions.
async fn with_use<T: Serialize + Send + 'static>(
    api: &Api,
    refused: StatusCode,
    work: impl FnOnce(PathBuf, UsedBy) -> Result<T, String> + Send + 'static,
) -> Response {
    match api.owner.jobs().await {
        Ok(jobs) => answered(api, refused, move |folder| work(folder, models::used_by(&jobs))).await,
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// What came of work on the registry's folder, which waits for the disk.
async fn answered<T: Serialize + Send + 'static>(
    api: &Api,
    refused: StatusCode,
    work: impl FnOnce(PathBuf) -> Result<T, String> + Send + 'static,
) -> Response {
    let folder = api.model_dir.clone();
    match tokio::task::spawn_blocking(move || work(folder)).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error)) => failure(refused, format!("failed to {error}")),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
