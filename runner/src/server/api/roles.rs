//! Quotas and weights of roles, and what else an operator says: handed on to the master, which decides and remembers.
//!
//! Does not know what a sound quota is.

use super::{Api, failure};
use crate::server::frameworks::OperateError;
use crate::view::{Changed, QuotaRequest, WeightRequest};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use wire::v1;
use wire::v1::operate_request::Call;

/// Sets what a role is guaranteed and what it may have at most.
#[utoipa::path(post, path = "/api/v1/quota/{*role}", tag = "cluster", operation_id = "set_quota",
    params(("role" = String, Path, description = "The role, a path such as `a/b`")),
    request_body = QuotaRequest,
    responses((status = 200, description = "It is set", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn set_quota(
    State(api): State<Api>,
    Path(role): Path<String>,
    request: Result<Json<QuotaRequest>, JsonRejection>,
) -> Response {
    let QuotaRequest { guarantee, limit, force } = match request {
        Ok(Json(request)) => request,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let quota = v1::SetQuota { role, guarantee: scalars(guarantee), limit: scalars(limit), force };
    operate(&api, Call::SetQuota(quota)).await
}

/// Removes a role's quota.
#[utoipa::path(delete, path = "/api/v1/quota/{*role}", tag = "cluster", operation_id = "remove_quota",
    params(("role" = String, Path, description = "The role, a path such as `a/b`")),
    responses((status = 200, description = "It is removed", body = Changed), (status = 409), (status = 503)))]
pub async fn remove_quota(State(api): State<Api>, Path(role): Path<String>) -> Response {
    operate(&api, Call::RemoveQuota(v1::RemoveQuota { role })).await
}

/// Sets a role's weight beside the others.
#[utoipa::path(post, path = "/api/v1/weight/{*role}", tag = "cluster", operation_id = "set_weight",
    params(("role" = String, Path, description = "The role, a path such as `a/b`")),
    request_body = WeightRequest,
    responses((status = 200, description = "It is set", body = Changed),
        (status = 400), (status = 409), (status = 503)))]
pub async fn set_weight(
    State(api): State<Api>,
    Path(role): Path<String>,
    request: Result<Json<WeightRequest>, JsonRejection>,
) -> Response {
    let WeightRequest { weight } = match request {
        Ok(Json(request)) => request,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.body_text()),
    };
    // What is no weight becomes 0, which the master refuses by name.
    let weight_milli = (weight * 1000.0).round().max(0.0) as u64;
    operate(&api, Call::SetWeight(v1::SetWeight { role, weight_milli })).await
}

pub(super) fn scalars(amounts: BTreeMap<String, f64>) -> Vec<v1::Scalar> {
    amounts.into_iter().map(|(name, amount)| v1::Scalar { name, milli: (amount * 1000.0).round() as i64 }).collect()
}

/// What the master made of it.
pub async fn operate(api: &Api, call: Call) -> Response {
    match api.master.operate(call).await {
        Ok(warnings) => Json(Changed { warnings }).into_response(),
        Err(OperateError::Refused(refusal)) => failure(StatusCode::CONFLICT, refusal),
        Err(OperateError::Unanswered(error)) => failure(StatusCode::SERVICE_UNAVAILABLE, format!("failed to {error}")),
    }
}
