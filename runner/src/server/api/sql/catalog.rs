//! `GET /api/v1/sql/catalog`: what a query may name.

use super::refusal;
use crate::server::api::Api;
use crate::view::CatalogView;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

/// Lists what a query may name: tables, functions and models.
#[utoipa::path(get, path = "/api/v1/sql/catalog", tag = "sql", operation_id = "catalog",
    responses((status = 200, description = "The names", body = CatalogView), (status = 500), (status = 503)))]
pub async fn of_cluster(State(api): State<Api>) -> Response {
    match api.queries.catalog().await {
        Ok(catalog) => Json(catalog).into_response(),
        Err(error) => refusal(error),
    }
}
