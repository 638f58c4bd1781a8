//! `GET /api/v1/events`: what the master tells watchers, passed on as it comes.

use super::{Api, failure};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

/// Watches the cluster: what there is, and then every change, as server-sent events.
///
/// The names of the events and what they have are in `docs/events.md`. The answer ends with the master.
#[utoipa::path(get, path = "/api/v1/events", tag = "cluster", operation_id = "watch",
    responses((status = 200, description = "Events, without end", body = String, content_type = "text/event-stream"),
        (status = 503)))]
pub async fn of_cluster(State(api): State<Api>) -> Response {
    let address = &api.master.address;
    let mut call = api.http.get(format!("{}://{address}/events", tls::scheme()));
    if let Some(token) = &api.master.token {
        call = call.header(header::AUTHORIZATION, token.bearer());
    }
    let unanswered = |why: String| {
        failure(StatusCode::SERVICE_UNAVAILABLE, format!("failed to watch the master at {address}: {why}"))
    };
    match call.send().await {
        Ok(answer) if answer.status().is_success() => {
            let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
        Ok(answer) => unanswered(format!("it answers {}", answer.status())),
        Err(error) => unanswered(super::super::owner::chain(&error)),
    }
}
