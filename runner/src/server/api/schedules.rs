//! Job files that are submitted by the clock.

use super::{Api, failure, unsettled};
use crate::book::schedules::Schedule;
use crate::settle;
use crate::view::{ScheduleRequest, SchedulesView, Stopped};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jobs::{JobBody, JobSpec};
use std::collections::VecDeque;

/// Lists schedules and what became of each time.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", operation_id = "list_schedules",
    responses((status = 200, description = "The schedules", body = SchedulesView), (status = 503)))]
pub async fn all(State(api): State<Api>) -> Response {
    match api.owner.schedules().await {
        Ok(schedules) => Json(SchedulesView { schedules }).into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// Has a file submitted by the clock.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", operation_id = "add_schedule",
    request_body = ScheduleRequest,
    responses((status = 200, description = "The schedule's name", body = Stopped),
        (status = 400), (status = 409), (status = 422)))]
pub async fn add(State(api): State<Api>, request: Result<Json<ScheduleRequest>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    if let Err(refusal) = settle::plain_name(&request.name) {
        return failure(StatusCode::BAD_REQUEST, refusal);
    }
    let settled =
        settle::settle_for_cluster(&request.text, &request.file, std::path::Path::new(&request.base_dir)).await;
    let settled = match settled {
        Ok(settled) => settled,
        Err(mistakes) => return unsettled(mistakes),
    };
    if settled.sweep.is_some() {
        return failure(StatusCode::CONFLICT, settle::is_a_sweep(&request.file));
    }
    if settled.jobs.is_empty() {
        let refusal =
            format!("there is nothing to submit in {}: it has no INSERT INTO and no CREATE MODEL", request.file);
        return failure(StatusCode::CONFLICT, refusal);
    }
    if let Some(endless) = settled.jobs.iter().find(|job| is_endless(job)) {
        let kind = endless.body.kind();
        let refusal = format!(
            "job {} is a {kind} that never ends, so the next run could never begin; schedule training runs, commands, and \
             streams over input that ends",
            endless.id
        );
        return failure(StatusCode::CONFLICT, refusal);
    }
    let schedule = Schedule {
        name: request.name,
        cron: request.cron,
        zone: request.zone,
        catch_up: request.catch_up,
        overlap: request.overlap,
        text: request.text,
        file: request.file,
        base_dir: request.base_dir,
        group: settled.group,
        next_ms: None,
        waiting: VecDeque::new(),
        under_way: None,
        history: VecDeque::new(),
    };
    answered(api.owner.schedule(schedule).await)
}

fn is_endless(job: &JobSpec) -> bool {
    match &job.body {
        JobBody::Stream(body) => !body.bounded,
        JobBody::Service(_) => true,
        JobBody::Command(_) => job.restart == jobs::Restart::Always,
        JobBody::Train(_) => false,
    }
}

/// Removes a schedule; what it submitted goes on.
#[utoipa::path(delete, path = "/api/v1/schedules/{name}", tag = "schedules", operation_id = "remove_schedule",
    params(("name" = String, Path, description = "The schedule's name")),
    responses((status = 200, description = "The schedule's name", body = Stopped), (status = 409)))]
pub async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Response {
    answered(api.owner.unschedule(name).await)
}

/// Submits now what a schedule submits when it is due.
#[utoipa::path(post, path = "/api/v1/schedules/{name}/run", tag = "schedules", operation_id = "run_schedule",
    params(("name" = String, Path, description = "The schedule's name")),
    responses((status = 200, description = "The schedule's name", body = Stopped), (status = 409)))]
pub async fn run(State(api): State<Api>, Path(name): Path<String>) -> Response {
    answered(api.owner.run_now(name).await)
}

/// The schedule that was meant, or why not.
fn answered(result: Result<Vec<String>, String>) -> Response {
    match result {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}
