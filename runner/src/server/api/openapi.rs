//! `GET /api/v1/openapi.json`: this API in OpenAPI 3.1. Each handler says beside its code what it takes and what it answers;
//! here is what all of them have in common.
//!
//! Invariant: what is served is documented, because one registration does both.

use crate::view::Failure;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::OnceLock;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, ResponseBuilder, Type, schema};
use utoipa::{OpenApi, ToSchema};

/// An Arrow IPC stream.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is of use")]
pub struct ArrowStream(Vec<u8>);

/// A model as one file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its schema is of use")]
pub struct File(Vec<u8>);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "smack",
        version = super::VERSION,
        description = "What a runner answers over HTTP: jobs, queries, models, training runs, the cluster and the tables of its \
                       store. A runner that was started with a token wants it with every request. Whatever is no success is a \
                       `Failure`.",
    ),
    tags(
        (name = "jobs", description = "Files that are submitted, and the jobs that come of them"),
        (name = "sql", description = "Queries over the tables of the cluster"),
        (name = "tables", description = "The tables of the cluster's store, as Arrow"),
        (name = "models", description = "Versions of models, and the aliases that queries call them by"),
        (name = "training", description = "The history of training runs, and sweeps"),
        (name = "schedules", description = "Files that are submitted by the clock"),
        (name = "cluster", description = "Agents, frameworks, offers and roles, and what operators say"),
        (name = "watching", description = "For those who watch over the runner, and what this API is"),
    ),
    components(schemas(Failure)),
)]
struct Common;

/// Tells what this API is, in OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "watching", operation_id = "openapi",
    responses((status = 200, description = "This document", body = Object)))]
pub async fn of_api() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| serde_json::json!(document()).to_string());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str()).into_response()
}

/// The same for every runner of this version.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Common::openapi();
    document.merge(super::documented().into_openapi());
    document.merge(tables::document());
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The text of the token file"));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    let none: [&str; 0] = [];
    document.security = Some(vec![SecurityRequirement::new("token", none), SecurityRequirement::default()]);
    let paths = std::mem::take(&mut document.paths.paths).into_iter().map(|(path, mut item)| {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten();
        for operation in operations {
            slashes(&path, operation);
            failures(operation);
        }
        // OpenAPI has no word for a parameter that takes the rest of the path.
        (path.replace("{*", "{"), item)
    });
    document.paths.paths = paths.collect();
    document
}

/// Says of the parameter that takes the rest of the path that it does.
fn slashes(path: &str, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if path.contains(&format!("{{*{}}}", parameter.name)) {
            let words = parameter.description.take().unwrap_or_default();
            parameter.description = Some(format!("{words}; its slashes may stand as they are, or as `%2F`"));
        }
    }
}

/// What a handler answers that is no success has one form, and so have the refusals at the door.
fn failures(operation: &mut Operation) {
    let said = operation.responses.responses.keys().filter(|status| !status.starts_with('2'));
    let said: Vec<String> = said.cloned().collect();
    for status in said.iter().map(String::as_str).chain(["401", "403"]) {
        let words = match status {
            "400" => "The request cannot be read, or asks for what cannot be",
            "401" => "The token is missing, or not the cluster's",
            "403" => "Without a token: the page of another origin, or a name that is not this machine's, asks",
            "404" => "There is no such thing",
            "409" => "It cannot be done as things are",
            "413" => "The body is too large",
            "422" => "The text has mistakes; `diagnostics` says where",
            "503" => "The runner cannot answer now, or does not reach the master; later it may",
            _ => "It failed in the runner",
        };
        let (kind, body) = match status {
            "401" => ("text/plain; charset=utf-8", RefOr::T(schema::Object::with_type(Type::String).into())),
            _ => ("application/json", Ref::from_schema_name("Failure").into()),
        };
        let content = ContentBuilder::new().schema(Some(body)).build();
        let response = ResponseBuilder::new().description(words).content(kind, content).build();
        operation.responses.responses.insert(status.to_string(), RefOr::T(response));
    }
}

#[cfg(test)]
mod tests;
