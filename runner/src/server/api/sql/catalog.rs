//! `GET /api/v1/sql/catalog`: what a query may name.

use super::refusal;
use crate::server::api::Api;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

pub async fn of_cluster(State(api): State<Api>) -> Response {
    match api.queries.catalog().await {
        Ok(catalog) => Json(catalog).into_response(),
        Err(error) => refusal(error),
    }
}
