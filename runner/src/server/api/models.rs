//! Models: versions, what they come from, and the aliases that queries call them by.

use super::openapi::File;
use super::{Api, failure};
use crate::models::{self, UsedBy};
use crate::server::owner::now_ms;
use crate::view::{ModelDetail, ModelsView, PromoteRequest, Promoted, Published};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::path::PathBuf;

/// Lists every version of every model, oldest first.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The versions", body = ModelsView), (status = 500), (status = 503)))]
pub async fn all(State(api): State<Api>) -> Response {
    with_use(&api, StatusCode::INTERNAL_SERVER_ERROR, |folder, used| models::list(&folder, None, &used)).await
}

/// Lists the versions of one model.
#[utoipa::path(get, path = "/api/v1/models/{model}", tag = "models", operation_id = "list_versions",
    params(("model" = String, Path, description = "The model's name")),
    responses((status = 200, description = "Its versions", body = ModelsView),
        (status = 404), (status = 500), (status = 503)))]
pub async fn of_model(State(api): State<Api>, Path(model): Path<String>) -> Response {
    with_use(&api, StatusCode::NOT_FOUND, move |folder, used| models::list(&folder, Some(&model), &used)).await
}

/// Tells of one version where it comes from and what it is worth.
#[utoipa::path(get, path = "/api/v1/models/{model}/{which}", tag = "models", operation_id = "get_version",
    params(
        ("model" = String, Path, description = "The model's name"),
        ("which" = String, Path, description = "A version's number or an alias; `-` is what a query means by the name alone"),
    ),
    responses((status = 200, description = "The version", body = ModelDetail),
        (status = 404), (status = 500), (status = 503)))]
pub async fn version(State(api): State<Api>, Path((model, which)): Path<(String, String)>) -> Response {
    let reference = if which == "-" { model } else { format!("{model}@{which}") };
    with_use(&api, StatusCode::NOT_FOUND, move |folder, used| models::show(&folder, &reference, &used)).await
}

/// Gives a version as one file, for who writes it in another form.
#[utoipa::path(get, path = "/api/v1/models/{model}/{which}/package", tag = "models", operation_id = "get_package",
    params(
        ("model" = String, Path, description = "The model's name"),
        ("which" = String, Path, description = "A version's number or an alias; `-` is what a query means by the name alone"),
    ),
    responses((status = 200, description = "The file", body = File, content_type = "application/octet-stream"),
        (status = 404), (status = 500)))]
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

/// Takes over a file as the next version of a model.
#[utoipa::path(post, path = "/api/v1/models/{model}", tag = "models", operation_id = "publish_model",
    params(("model" = String, Path, description = "The model's name")),
    request_body(content = File, content_type = "application/octet-stream", description = "As `get_package` gives it"),
    responses((status = 200, description = "The version that it became", body = Published),
        (status = 400), (status = 413), (status = 500)))]
pub async fn publish(
    State(api): State<Api>,
    Path(model): Path<String>,
    package: Result<Bytes, BytesRejection>,
) -> Response {
    let package = match package {
        Ok(package) => package,
        Err(rejection) => return failure(rejection.status(), rejection.body_text()),
    };
    answered(&api, StatusCode::BAD_REQUEST, move |folder| models::publish(&folder, &model, &package)).await
}

/// Has an alias mean a version of a model.
#[utoipa::path(post, path = "/api/v1/models/{model}/aliases/{alias}", tag = "models", operation_id = "promote_version",
    params(
        ("model" = String, Path, description = "The model's name"),
        ("alias" = String, Path, description = "The alias"),
    ),
    request_body = PromoteRequest,
    responses((status = 200, description = "What it means now", body = Promoted),
        (status = 400), (status = 409), (status = 500)))]
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

/// Has an alias mean again what it meant before.
#[utoipa::path(delete, path = "/api/v1/models/{model}/aliases/{alias}", tag = "models", operation_id = "roll_back_alias",
    params(
        ("model" = String, Path, description = "The model's name"),
        ("alias" = String, Path, description = "The alias"),
    ),
    responses((status = 200, description = "What it means now", body = Promoted), (status = 409), (status = 500)))]
pub async fn rollback(State(api): State<Api>, Path((model, alias)): Path<(String, String)>) -> Response {
    let rollback = move |folder: PathBuf| {
        let version = models::rollback(&folder, &model, &alias, now_us())?;
        Ok(Promoted { model, alias, version })
    };
    answered(&api, StatusCode::CONFLICT, rollback).await
}

/// Removes a version that no job uses and no alias means.
#[utoipa::path(delete, path = "/api/v1/models/{model}/{which}", tag = "models", operation_id = "remove_version",
    params(
        ("model" = String, Path, description = "The model's name"),
        ("which" = u64, Path, description = "The version's number"),
    ),
    responses((status = 200, description = "The versions of all models that are left", body = ModelsView),
        (status = 400), (status = 409), (status = 500), (status = 503)))]
pub async fn remove(State(api): State<Api>, which: Result<Path<(String, u64)>, PathRejection>) -> Response {
    let Path((model, version)) = match which {
        Ok(which) => which,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
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
