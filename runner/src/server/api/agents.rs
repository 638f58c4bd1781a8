//! What operators ask about agents: `/api/v1/drain/{agent}`, `/api/v1/gone/{agent}`, `/api/v1/reserve/{agent}`,
//! `/api/v1/unreserve/{agent}`, `/api/v1/volumes/{name}`.

use super::roles::{operate, scalars};
use super::{Api, failure};
use crate::view::{Changed, DrainRequest, GoneRequest, ReserveRequest, UnreserveRequest, VolumePlace};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
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

/// Says that an agent does not come back: its tasks are lost, and its id is never accepted again.
#[utoipa::path(post, path = "/api/v1/gone/{agent}", tag = "cluster", operation_id = "agent_is_gone",
    params(("agent" = String, Path, description = "The agent's id")),
    request_body = GoneRequest,
    responses((status = 200, description = "It is gone", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn gone(
    State(api): State<Api>,
    Path(agent_id): Path<String>,
    request: Result<Json<GoneRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(GoneRequest { force })) => operate(&api, Call::Gone(v1::GoneAgent { agent_id, force })).await,
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

/// Keeps so much more of an agent for a role.
#[utoipa::path(post, path = "/api/v1/reserve/{agent}", tag = "cluster", operation_id = "reserve",
    params(("agent" = String, Path, description = "The agent's id")),
    request_body = ReserveRequest,
    responses((status = 200, description = "It is reserved", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn reserve(
    State(api): State<Api>,
    Path(agent_id): Path<String>,
    request: Result<Json<ReserveRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(ReserveRequest { role, amounts, labels, from, force })) => {
            let reservation = Some(v1::Reservation { role, amounts: scalars(amounts), labels });
            let from = from.unwrap_or_default();
            operate(&api, Call::Reserve(v1::Reserve { agent_id, reservation, from, force })).await
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

/// Keeps so much less of it.
#[utoipa::path(post, path = "/api/v1/unreserve/{agent}", tag = "cluster", operation_id = "unreserve",
    params(("agent" = String, Path, description = "The agent's id")),
    request_body = UnreserveRequest,
    responses((status = 200, description = "It is for everybody again", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn unreserve(
    State(api): State<Api>,
    Path(agent_id): Path<String>,
    request: Result<Json<UnreserveRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(UnreserveRequest { role, amounts, labels })) => {
            let reservation = Some(v1::Reservation { role, amounts: scalars(amounts), labels });
            operate(&api, Call::Unreserve(v1::Unreserve { agent_id, reservation })).await
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}

/// Removes a volume that no task has, with all that is in it. Its disk is free when its agent says that it is gone.
#[utoipa::path(delete, path = "/api/v1/volumes/{name}", tag = "cluster", operation_id = "remove_volume",
    params(("name" = String, Path, description = "The volume's name"), VolumePlace),
    responses((status = 200, description = "It is given up", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn remove_volume(
    State(api): State<Api>,
    Path(name): Path<String>,
    place: Result<Query<VolumePlace>, QueryRejection>,
) -> Response {
    match place {
        Ok(Query(VolumePlace { role, agent })) => {
            let agent_id = agent.unwrap_or_default();
            operate(&api, Call::RemoveVolume(v1::RemoveVolume { role, name, agent_id })).await
        }
        Err(rejection) => failure(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
}
