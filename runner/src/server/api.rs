//! The runner's HTTP API: what the CLI, the page and notebooks use. One listener carries it, the tasks' control streams
//! and the table store.

mod agents;
mod dataflow;
mod events;
mod metrics;
mod models;
mod openapi;
mod roles;
mod runs;
mod sample;
mod schedules;
mod sql;
mod sweeps;

use super::control::Streams;
use super::convert;
use super::frameworks::Master;
use super::owner::Owner;
use super::queries::Queries;
use crate::book::Resume;
use crate::settle::{self, Settled};
use crate::traces::Parent;
use crate::view::{
    CheckpointsView, ClusterView, Failure, JobView, JobsView, PlanView, SavepointRequest, ScaleRequest, Stopped,
    SubmitRequest, Submitted, VersionView, WhyView,
};
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use daemon::door;
use jobs::Diagnostic;
use serde::Deserialize;
use std::path::PathBuf;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

#[derive(Clone)]
pub struct Api {
    pub owner: Owner,
    pub master: Master,
    pub http: reqwest::Client,
    pub model_dir: PathBuf,
    pub runs_dir: PathBuf,
    pub queries: Queries,
    pub streams: Streams,
}

pub fn router(api: Api) -> Router {
    documented().with_state(api).into()
}

/// What is served, each with its documentation: nothing else registers a route.
fn documented() -> OpenApiRouter<Api> {
    let model = routes!(models::of_model, models::publish).layer(DefaultBodyLimit::max(models::MOST_BYTES));
    OpenApiRouter::default()
        .routes(routes!(health))
        .routes(routes!(metrics::of_runner))
        .routes(routes!(metrics::targets))
        .routes(routes!(version))
        .routes(routes!(openapi::of_api))
        .routes(routes!(jobs, submit))
        .routes(routes!(job))
        .routes(routes!(dataflow::of_job))
        .routes(routes!(sample::of_operator))
        .routes(routes!(plan))
        .routes(routes!(sql::ask))
        .routes(routes!(sql::catalog::of_cluster))
        .routes(routes!(sql::live::ask))
        .routes(routes!(stop))
        .routes(routes!(checkpoint))
        .routes(routes!(kept, keep, drop_kept))
        .routes(routes!(scale))
        .routes(routes!(why))
        .routes(routes!(cluster))
        .routes(routes!(events::of_cluster))
        .routes(routes!(roles::set_quota, roles::remove_quota))
        .routes(routes!(roles::set_weight))
        .routes(routes!(agents::drain, agents::undrain))
        .routes(routes!(agents::gone))
        .routes(routes!(agents::reserve))
        .routes(routes!(agents::unreserve))
        .routes(routes!(agents::remove_volume))
        .routes(routes!(logs))
        .routes(routes!(models::all))
        .routes(model)
        .routes(routes!(models::package))
        .routes(routes!(models::version, models::remove))
        .routes(routes!(models::promote, models::rollback))
        .routes(routes!(schedules::all, schedules::add))
        .routes(routes!(schedules::remove))
        .routes(routes!(schedules::run))
        .routes(routes!(sweeps::all, sweeps::begin))
        .routes(routes!(sweeps::one))
        .routes(routes!(sweeps::resume))
        .routes(routes!(runs::all))
        .routes(routes!(runs::one))
        .routes(routes!(runs::compare))
}

/// Refuses what a page of another origin could make a browser send: a foreign `Host` (DNS rebinding) and writes with a
/// foreign `Origin`. A token guards against both, so this is asked of tokenless, local listeners only.
pub async fn local_only(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !door::names_this_machine(&request) {
        return failure(StatusCode::FORBIDDEN, format!("host '{host}' is not this machine; use 127.0.0.1"));
    }
    if let Some(origin) = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok())
        && origin.split_once("://").is_none_or(|(_, authority)| authority != host)
    {
        return failure(StatusCode::FORBIDDEN, format!("requests from the page of '{origin}' are refused"));
    }
    next.run(request).await
}

pub fn failure(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(Failure { error: error.into(), diagnostics: Vec::new() })).into_response()
}

/// The page for people, in one file. It has buttons that change things, so no other page may hold it.
pub fn page() -> Router {
    let framed = [(header::X_FRAME_OPTIONS, "DENY")];
    Router::new().route("/", get(move || async move { (framed, Html(include_str!("../../ui/dist/index.html"))) }))
}

/// Whoever asks for what is not there hears so in his own protocol.
pub async fn nothing_there(request: Request) -> Response {
    let is_grpc =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|is| is.as_bytes().starts_with(b"application/grpc"));
    match is_grpc {
        true => tonic::Status::unimplemented("there is no such service here").into_http(),
        false => failure(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.uri().path())),
    }
}

/// Says that the runner is there.
#[utoipa::path(get, path = "/health", tag = "watching", operation_id = "health",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain; charset=utf-8")))]
async fn health() -> &'static str {
    "ok"
}

/// Of the API; the document says it too.
const VERSION: &str = "v1";

/// Tells the versions of the program and of its API.
#[utoipa::path(get, path = "/api/v1/version", tag = "watching", operation_id = "version",
    responses((status = 200, description = "The versions", body = VersionView)))]
async fn version() -> Json<VersionView> {
    Json(VersionView { version: env!("CARGO_PKG_VERSION").to_string(), api: VERSION.to_string() })
}

/// Lists jobs as they are now.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs",
    responses((status = 200, description = "The jobs", body = JobsView), (status = 503)))]
async fn jobs(State(api): State<Api>) -> Response {
    match api.owner.jobs().await {
        Ok(jobs) => Json(JobsView { jobs }).into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// Tells of one job how it is now.
#[utoipa::path(get, path = "/api/v1/jobs/{group}/{name}", tag = "jobs", operation_id = "get_job",
    params(
        ("group" = String, Path, description = "The job's group"),
        ("name" = String, Path, description = "The job's name in it"),
    ),
    responses((status = 200, description = "The job", body = JobView), (status = 404), (status = 503)))]
async fn job(State(api): State<Api>, Path((group, name)): Path<(String, String)>) -> Response {
    let id = format!("{group}/{name}");
    match api.owner.jobs().await {
        Ok(jobs) => match jobs.into_iter().find(|job| job.id == id) {
            Some(job) => Json(job).into_response(),
            None => failure(StatusCode::NOT_FOUND, format!("there is no job '{id}'")),
        },
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

type Requested = Result<Json<SubmitRequest>, JsonRejection>;

/// A file that was sent, and its jobs; or the answer that says what is wrong with it.
async fn settled(request: Requested) -> Result<(SubmitRequest, Settled), Box<Response>> {
    let refuse = |rejection: JsonRejection| Box::new(failure(StatusCode::BAD_REQUEST, rejection.body_text()));
    let Json(request) = request.map_err(refuse)?;
    let settled =
        settle::settle_for_cluster(&request.text, &request.file, std::path::Path::new(&request.base_dir)).await;
    Ok((request, settled.map_err(|mistakes| Box::new(unsettled(mistakes)))?))
}

/// Submits the jobs of a file.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", operation_id = "submit",
    request_body = SubmitRequest,
    responses((status = 201, description = "They are written down and start", body = Submitted),
        (status = 400), (status = 409), (status = 422)))]
async fn submit(State(api): State<Api>, headers: HeaderMap, request: Requested) -> Response {
    let (request, settled) = match settled(request).await {
        Ok(settled) => settled,
        Err(answer) => return *answer,
    };
    if settled.sweep.is_some() {
        return failure(StatusCode::CONFLICT, settle::is_a_sweep(&request.file));
    }
    if settled.jobs.is_empty() {
        return unsettled(vec![
            Diagnostic::new("there is nothing to submit: the file has no INSERT INTO and no CREATE MODEL")
                .help("`smack run` shows the result of a SELECT, an EXPLAIN, a DESCRIBE and a SHOW"),
        ]);
    }
    let submission = uuid::Uuid::new_v4().simple().to_string()[..8].to_string();
    let resume = match (request.resume, request.resume_from) {
        (false, _) => Resume::Anew,
        (true, None) => Resume::Latest,
        (true, Some(from)) => {
            if let Err(error) = super::savepoints::check(&api.owner, &settled.jobs, &from).await {
                return failure(StatusCode::CONFLICT, error);
            }
            Resume::From(from)
        }
    };
    let parent = headers.get("traceparent").and_then(|parent| Parent::read(parent.to_str().ok()?));
    match api.owner.submit(settled.jobs, submission, resume, parent).await {
        Ok(jobs) => (StatusCode::CREATED, Json(Submitted { group: settled.group, jobs })).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

fn unsettled(diagnostics: Vec<Diagnostic>) -> Response {
    let error = match diagnostics.as_slice() {
        [one] => one.to_string(),
        many => format!("the file has {} mistakes", many.len()),
    };
    (StatusCode::UNPROCESSABLE_ENTITY, Json(Failure { error, diagnostics })).into_response()
}

/// Stops jobs, or a sweep.
#[utoipa::path(post, path = "/api/v1/stop/{*subject}", tag = "jobs", operation_id = "stop",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    responses((status = 200, description = "The jobs that were told", body = Stopped), (status = 404)))]
async fn stop(State(api): State<Api>, Path(subject): Path<String>) -> Response {
    match api.owner.stop(subject).await {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::NOT_FOUND, error),
    }
}

/// Has streams take a checkpoint now.
#[utoipa::path(post, path = "/api/v1/checkpoint/{*subject}", tag = "jobs", operation_id = "checkpoint",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    responses((status = 200, description = "The jobs that were told", body = Stopped), (status = 409)))]
async fn checkpoint(State(api): State<Api>, Path(subject): Path<String>) -> Response {
    match api.owner.checkpoint(subject).await {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

/// Lists the checkpoints of streams that are kept, of each the oldest first.
#[utoipa::path(get, path = "/api/v1/savepoints/{*subject}", tag = "jobs", operation_id = "list_savepoints",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    responses((status = 200, description = "The checkpoints", body = CheckpointsView), (status = 409)))]
async fn kept(State(api): State<Api>, Path(subject): Path<String>) -> Response {
    match super::savepoints::list(&api.owner, subject).await {
        Ok(checkpoints) => Json(CheckpointsView { checkpoints }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

/// Keeps the last checkpoint of streams under a name.
#[utoipa::path(post, path = "/api/v1/savepoints/{*subject}", tag = "jobs", operation_id = "make_savepoint",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    request_body = SavepointRequest,
    responses((status = 200, description = "Those that are kept under it", body = CheckpointsView),
        (status = 400), (status = 409)))]
async fn keep(
    State(api): State<Api>,
    Path(subject): Path<String>,
    request: Result<Json<SavepointRequest>, JsonRejection>,
) -> Response {
    let name = match request {
        Ok(Json(SavepointRequest { name })) => name,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    if let Some(refusal) = streaming::coordinator::savepoints::refuse_name(&name) {
        return failure(StatusCode::BAD_REQUEST, refusal);
    }
    match super::savepoints::make(&api.owner, subject, &name).await {
        Ok(checkpoints) => Json(CheckpointsView { checkpoints }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

/// Keeps the checkpoints of that name no longer.
#[utoipa::path(delete, path = "/api/v1/savepoints/{*subject}", tag = "jobs", operation_id = "drop_savepoint",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    request_body = SavepointRequest,
    responses((status = 200, description = "The jobs that had one", body = Stopped), (status = 400), (status = 404)))]
async fn drop_kept(
    State(api): State<Api>,
    Path(subject): Path<String>,
    request: Result<Json<SavepointRequest>, JsonRejection>,
) -> Response {
    let name = match request {
        Ok(Json(SavepointRequest { name })) => name,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    match super::savepoints::remove(&api.owner, subject, &name).await {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::NOT_FOUND, error),
    }
}

/// More tasks than this for one stream are a slip of the finger.
const PARALLELISM_MAX: u32 = 1024;

/// Has streams go on from their last checkpoint as that many tasks.
#[utoipa::path(post, path = "/api/v1/scale/{*subject}", tag = "jobs", operation_id = "scale",
    params(("subject" = String, Path, description = "A group, or a job as `group/name`")),
    request_body = ScaleRequest,
    responses((status = 200, description = "The jobs that were told", body = Stopped), (status = 400), (status = 409)))]
async fn scale(
    State(api): State<Api>,
    Path(subject): Path<String>,
    request: Result<Json<ScaleRequest>, JsonRejection>,
) -> Response {
    let parallelism = match request {
        Ok(Json(ScaleRequest { parallelism })) => parallelism,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    if !(1..=PARALLELISM_MAX).contains(&parallelism) {
        let text = format!("{parallelism} tasks are not possible; give a number from 1 to {PARALLELISM_MAX}");
        return failure(StatusCode::BAD_REQUEST, text);
    }
    match api.owner.scale(subject, parallelism).await {
        Ok(jobs) => Json(Stopped { jobs }).into_response(),
        Err(error) => failure(StatusCode::CONFLICT, error),
    }
}

/// Says what would become of the state of each stream of a file, were it submitted with `resume`.
#[utoipa::path(post, path = "/api/v1/plan", tag = "jobs", operation_id = "plan",
    request_body = SubmitRequest,
    responses((status = 200, description = "Operator by operator", body = PlanView),
        (status = 400), (status = 409), (status = 422), (status = 503)))]
async fn plan(State(api): State<Api>, request: Requested) -> Response {
    let (_, settled) = match settled(request).await {
        Ok(settled) => settled,
        Err(answer) => return *answer,
    };
    let folders = match api.owner.checkpoint_folders().await {
        Ok(folders) => folders,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let mut jobs = Vec::new();
    for spec in settled.jobs {
        match super::upgrade::plan(&spec, folders.get(&spec.id)).await {
            Ok(job) => jobs.extend(job),
            Err(error) => return failure(StatusCode::CONFLICT, error),
        }
    }
    Json(PlanView { jobs }).into_response()
}

/// Says in one sentence why something is as it is.
#[utoipa::path(get, path = "/api/v1/why/{*subject}", tag = "jobs", operation_id = "why",
    params(("subject" = String, Path, description = "A group, a job as `group/name`, or a task")),
    responses((status = 200, description = "The sentence, with what it follows from", body = WhyView), (status = 404)))]
async fn why(State(api): State<Api>, Path(subject): Path<String>) -> Response {
    match api.owner.why(subject).await {
        Ok(why) => Json(why).into_response(),
        Err(error) => failure(StatusCode::NOT_FOUND, error),
    }
}

/// Tells of agents, frameworks, offers and roles, as the master has them now.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", operation_id = "cluster",
    responses((status = 200, description = "The cluster", body = ClusterView), (status = 503)))]
async fn cluster(State(api): State<Api>) -> Response {
    match api.master.state().await {
        Ok(state) => Json(convert::cluster_view(state)).into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, format!("failed to {error}")),
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// `stdout`, which it is if it is not said, or `stderr`.
    #[serde(default)]
    stream: Option<String>,
    /// The byte to begin with.
    #[serde(default)]
    offset: u64,
}

/// Gives what a task wrote, also one that ended long ago: at most 1 MiB in one answer.
///
/// It is found on whichever agent has the task's sandbox. Whoever follows it asks again from where the answer ended.
#[utoipa::path(get, path = "/api/v1/logs/{task}", tag = "jobs", operation_id = "logs",
    params(("task" = String, Path, description = "The task's id"), LogsQuery),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/plain; charset=utf-8",
            headers(
                ("x-size" = u64, description = "Bytes that there are in all, now"),
                ("x-offset" = u64, description = "Where the answer begins: later than asked for if that part is gone"),
            )),
        (status = 400), (status = 404), (status = 503),
    ))]
async fn logs(
    State(api): State<Api>,
    Path(task): Path<String>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let stream = match query.stream.as_deref() {
        None | Some("stdout") => "stdout",
        Some("stderr") => "stderr",
        Some(other) => {
            return failure(StatusCode::BAD_REQUEST, format!("unknown stream '{other}'; it is stdout or stderr"));
        }
    };
    let state = match api.master.state().await {
        Ok(state) => state,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, format!("failed to {error}")),
    };
    for agent in state.agents.into_iter().filter_map(|agent| agent.agent) {
        let url = format!("{}/sandboxes/{task}/{stream}?offset={}", agent.http_endpoint, query.offset);
        let mut request = api.http.get(url);
        if let Some(token) = &api.master.token {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        let Ok(answer) = request.send().await else { continue };
        if !answer.status().is_success() {
            continue;
        }
        let kept = ["x-size", "x-offset"].map(|name| (name, answer.headers().get(name).cloned()));
        let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        for (name, value) in kept {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        return response;
    }
    failure(StatusCode::NOT_FOUND, format!("no agent has the sandbox of task '{task}'; `smack ps` lists tasks"))
}
