//! Sweeps: begun, looked at, gone on with.

use super::{Api, Requested, failure, settled};
use crate::book::sweeps::{Standing, Sweep};
use crate::server::owner::now_ms;
use crate::settle::Swept;
use crate::view::{Stopped, SubmitRequest, Submitted, SweepDetail, SweepsView};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Lists sweeps, the newest first.
#[utoipa::path(get, path = "/api/v1/sweeps", tag = "training", operation_id = "list_sweeps",
    responses((status = 200, description = "The sweeps", body = SweepsView), (status = 503)))]
pub async fn all(State(api): State<Api>) -> Response {
    match api.owner.sweeps().await {
        Ok(sweeps) => Json(SweepsView { sweeps }).into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// Tells of one sweep how its trials go.
#[utoipa::path(get, path = "/api/v1/sweeps/{sweep}", tag = "training", operation_id = "get_sweep",
    params(("sweep" = String, Path, description = "The group of its trials")),
    responses((status = 200, description = "The sweep with its trials", body = SweepDetail), (status = 404)))]
pub async fn one(State(api): State<Api>, Path(sweep): Path<String>) -> Response {
    match api.owner.sweep(sweep).await {
        Ok(detail) => Json(detail).into_response(),
        Err(error) => failure(StatusCode::NOT_FOUND, error),
    }
}

/// Begins the sweep that a file describes.
#[utoipa::path(post, path = "/api/v1/sweeps", tag = "training", operation_id = "begin_sweep",
    request_body = SubmitRequest,
    responses((status = 201, description = "It begins", body = Submitted),
        (status = 400), (status = 409), (status = 422)))]
pub async fn begin(State(api): State<Api>, request: Requested) -> Response {
    let (request, settled) = match settled(request).await {
        Ok(settled) => settled,
        Err(answer) => return *answer,
    };
    let group = settled.group;
    let (Some(swept), Some(spec)) = (settled.sweep, settled.jobs.into_iter().next()) else {
        let refusal = format!(
            "{} describes no sweep: add [sweep] to a training file, or sweep.… to the WITH of its CREATE MODEL",
            request.file
        );
        return failure(StatusCode::CONFLICT, refusal);
    };
    let Swept { algorithm, parallel, course, settings } = *swept;
    let sweep = Sweep {
        name: group.clone(),
        submission: uuid::Uuid::new_v4().simple().to_string()[..8].to_string(),
        file: request.file,
        algorithm: algorithm.to_string(),
        began_ms: now_ms(),
        ended_ms: None,
        parallel,
        spec,
        settings,
        course,
        phase: Standing::Searching,
    };
    match api.owner.begin_sweep(sweep).await {
        Ok(jobs) => (StatusCode::CREATED, Json(Submitted { group, jobs })).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

/// Goes on with a sweep that was stopped.
#[utoipa::path(post, path = "/api/v1/sweeps/{sweep}/resume", tag = "training", operation_id = "resume_sweep",
    params(("sweep" = String, Path, description = "The group of its trials")),
    responses((status = 200, description = "The sweep's name", body = Stopped), (status = 409)))]
pub async fn resume(State(api): State<Api>, Path(sweep): Path<String>) -> Response {
    match api.owner.resume_sweep(sweep).await {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}
