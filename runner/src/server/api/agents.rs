//! What operators ask about agents: `/api/v1/drain/{agent}`.

use super::roles::operate;
use super::{Api, failure};
use crate::view::DrainRequest;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use wire::v1;
use wire::v1::operate_request::Call;

pub async fn drain(
    State(api): State<Api>,
    Path(agent_id): Path<String>,
    request: Result<Json<DrainRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(DrainRequest { deadline_ms })) => {
            operate(&api, Call::Drain(v1::DrainAgent { agent_id, deadline_ms })).await
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

pub async fn undrain(State(api): State<Api>, Path(agent_id): Path<String>) -> Response {
    operate(&api, Call::Undrain(v1::UndrainAgent { agent_id })).await
}
