//! `/metrics` of the runner, and where those of all members are, for Prometheus' HTTP service discovery.

use super::{Api, failure};
use crate::view::TargetView;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;

/// Numbers of the runner and of all jobs, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "watching", operation_id = "metrics",
    responses(
        (status = 200, description = "Families in Prometheus' text format", body = String,
            content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 503),
    ))]
pub async fn of_runner(State(api): State<Api>) -> Response {
    match api.owner.metrics().await {
        Ok(of_jobs) => {
            let mut families = daemon::metrics::process("runner");
            families.extend(of_jobs);
            daemon::metrics::answer(&families)
        }
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// Says where the `/metrics` of all members are, as Prometheus' HTTP service discovery asks.
///
/// The master, the agents that it knows now, and this runner, as whoever asks reached it.
#[utoipa::path(get, path = "/api/v1/targets", tag = "watching", operation_id = "targets",
    responses((status = 200, description = "One of each member", body = Vec<TargetView>), (status = 503)))]
pub async fn targets(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Response {
    let state = match api.master.state().await {
        Ok(state) => state,
        Err(error) => return failure(StatusCode::SERVICE_UNAVAILABLE, format!("failed to {error}")),
    };
    let mut targets = vec![target(&api.master.address, "master", "")];
    // HTTP/2 says it in the address alone.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host.or(uri.authority().map(|authority| authority.as_str())) {
        targets.push(target(host, "runner", ""));
    }
    let agents = state.agents.into_iter().filter_map(|agent| agent.agent);
    targets.extend(agents.map(|agent| target(&agent.http_endpoint, "agent", &agent.agent_id)));
    Json(targets).into_response()
}

fn target(address: &str, role: &str, agent: &str) -> TargetView {
    let address = address.split_once("://").map_or(address, |(_, address)| address);
    let mut labels =
        BTreeMap::from([("role".to_string(), role.to_string()), ("__scheme__".to_string(), tls::scheme().to_string())]);
    if !agent.is_empty() {
        labels.insert("agent".to_string(), agent.to_string());
    }
    TargetView { targets: vec![address.trim_end_matches('/').to_string()], labels }
}
