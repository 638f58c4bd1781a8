//! `GET /api/v1/jobs/GROUP/NAME/sample/OPERATOR`: rows that leave an operator just now.

use super::sql::{columns, rows_as_json, with_rows};
use super::{Api, failure};
use crate::view::SampleView;
use arrow::array::RecordBatch;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jobs::TaskId;
use serde::Deserialize;
use std::time::{Duration, Instant};
use streaming::runtime::samples;

/// Without `rows`.
const ROWS: u32 = 20;
/// Beyond what the tasks wait themselves: for the way there and back.
const ON_THE_WAY: Duration = Duration::from_secs(2);

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SampleQuery {
    /// At most; 20 if it is not said.
    #[serde(default)]
    rows: Option<u32>,
}

/// Shows rows that leave an operator of a stream just now.
///
/// It waits for some seconds until there are any.
#[utoipa::path(get, path = "/api/v1/jobs/{group}/{name}/sample/{operator}", tag = "jobs", operation_id = "sample_operator",
    params(
        ("group" = String, Path, description = "The job's group"),
        ("name" = String, Path, description = "The job's name in it"),
        ("operator" = String, Path, description = "As the job's `operators` name it"),
        SampleQuery,
    ),
    responses((status = 200, description = "The rows; none if none came", body = SampleView),
        (status = 400), (status = 404), (status = 409), (status = 500), (status = 503)))]
pub async fn of_operator(
    State(api): State<Api>,
    Path((group, name, operator)): Path<(String, String, String)>,
    query: Result<Query<SampleQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let id = format!("{group}/{name}");
    let jobs = match api.owner.jobs().await {
        Ok(jobs) => jobs,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let Some(job) = jobs.into_iter().find(|job| job.id == id) else {
        return failure(StatusCode::NOT_FOUND, format!("there is no job '{id}'"));
    };
    if job.kind != "stream" {
        return failure(
            StatusCode::CONFLICT,
            format!("{id} is a {} and no stream: it has no rows to look at", job.kind),
        );
    }
    if job.state != "running" {
        return failure(StatusCode::CONFLICT, format!("{id} is {}: no rows pass through it ({})", job.state, job.why));
    }
    let n_rows = query.rows.unwrap_or(ROWS).clamp(1, samples::MOST_ROWS);
    let tasks: Vec<TaskId> = job
        .tasks
        .iter()
        .filter(|task| task.generation == job.generation)
        .map(|task| TaskId::new(task.id.clone()))
        .collect();
    let asked = Instant::now();
    match gather(&api, &tasks, &operator, n_rows).await {
        Ok(batches) => shown(&operator, &batches, asked.elapsed()),
        Err(why) => failure(StatusCode::CONFLICT, format!("failed to look at {operator} of {id}: {why}")),
    }
}

/// From whichever tasks have some first.
async fn gather(api: &Api, tasks: &[TaskId], operator: &str, n_rows: u32) -> Result<Vec<RecordBatch>, String> {
    let mut sample = api.streams.sample(tasks, operator, n_rows);
    if sample.n_asked == 0 {
        return Err("none of its tasks is connected with this runner; try again in some seconds".to_string());
    }
    let deadline = tokio::time::Instant::now() + samples::WAITS + ON_THE_WAY;
    let (mut batches, mut left, mut trouble) = (Vec::new(), n_rows as usize, None);
    for _ in 0..sample.n_asked {
        match tokio::time::timeout_at(deadline, sample.answers.recv()).await {
            Ok(Some(Ok(rows))) => {
                for batch in rows {
                    let taken = batch.slice(0, batch.num_rows().min(left));
                    left -= taken.num_rows();
                    batches.push(taken);
                }
                if left == 0 {
                    break;
                }
            }
            Ok(Some(Err(why))) => trouble = Some(why),
            // Whoever did not answer is busy.
            Ok(None) | Err(_) => break,
        }
    }
    match trouble {
        Some(why) if batches.is_empty() => Err(why),
        _ => Ok(batches),
    }
}

fn shown(operator: &str, batches: &[RecordBatch], waited: Duration) -> Response {
    let schema = batches.first().map(RecordBatch::schema);
    let (names, types) = schema.as_ref().map(columns).unwrap_or_default();
    let view = SampleView {
        operator: operator.to_string(),
        changes: names.first().is_some_and(|name| name == streaming::runtime::operators::changes::OP),
        columns: names,
        types,
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        rows: Vec::new(),
    };
    let rows = rows_as_json(batches).map_err(|error| error.to_string());
    let shown = rows.and_then(|rows| with_rows(&view, &rows).map_err(|error| error.to_string()));
    shown
        .unwrap_or_else(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to show the rows: {error}")))
}
