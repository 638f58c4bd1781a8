//! What operators ask about agents: `/api/v1/drain/{agent}`.

use super::roles::operate;
use super::{Api, failure};
use crate::view::{Changed, DrainRequest};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use wire::v1;
use wire::v1::operate_request::Call;

/// Empties an agent, now or in time for a window of maintenance: nothing is offered of it any more.
#[utoipa::path(post, path = "/api/v1/drain/{agent}", tag = "cluster", operation_id = "drain_agent",
    params(("agent" = String, Path, description = "The agent's id")),
    request_body = DrainRequest,
    responses((status = 200, description = "It is drained", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn drain(
    State(api): State<Api>,
    Path(agent_id): Path<String>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(DrainRequest { deadline_ms, at_ms, for_ms })) => {
            operate(&api, Call::Drain(v1::DrainAgent { agent_id, deadline_ms, at_ms, for_ms })).await
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

/// Takes an agent back into use.
#[utoipa::path(delete, path = "/api/v1/drain/{agent}", tag = "cluster", operation_id = "undrain_agent",
    params(("agent" = String, Path, description = "The agent's id")),
    responses((status = 200, description = "It is offered again", body = Changed), (status = 409), (status = 503)))]
pub async fn undrain(State(api): State<Api>, Path(agent_id): Path<String>) -> Response {
    operate(&api, Call::Undrain(v1::UndrainAgent { agent_id })).await
}
