//! `GET /api/v1/jobs/GROUP/NAME/sample/OPERATOR`: rows that leave an operator just now.

use super::sql::{columns, rows_as_json};
use super::{Api, failure};
use arrow::array::RecordBatch;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jobs::TaskId;
use serde::Deserialize;
use std::time::{Duration, Instant};
use streaming::runtime::samples;

/// Without `rows`.
const ROWS: u32 = 20;
/// Beyond what the tasks wait themselves: for the way there and back.
const ON_THE_WAY: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub struct SampleQuery {
    #[serde(default)]
    rows: Option<u32>,
}

pub async fn of_operator(
    State(api): State<Api>,
    Path((group, name, operator)): Path<(String, String, String)>,
    Query(query): Query<SampleQuery>,
) -> Response {
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
    let rows = match rows_as_json(batches) {
        Ok(rows) => rows,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to show the rows: {error}")),
    };
    let schema = batches.first().map(RecordBatch::schema);
    let (names, types) = schema.as_ref().map(columns).unwrap_or_default();
    let view = crate::view::SampleView {
        operator: operator.to_string(),
        changes: names.first().is_some_and(|name| name == streaming::runtime::operators::changes::OP),
        columns: names,
        types,
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    };
    let mut body = serde_json::to_string(&view).unwrap_or_default();
    // The rows are text already, with all digits of their numbers.
    body.pop();
    body.push_str(&format!(",\"rows\":{rows}}}"));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
