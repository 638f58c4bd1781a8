//! The document against the router, and against itself.

use super::*;
use crate::server::{api, control, frameworks, owner, queries};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tower::ServiceExt;

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// As `/path`, method and operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().iter().filter(|(key, _)| METHODS.contains(&key.as_str()));
        operations.map(|(method, operation)| (path.clone(), method.clone(), operation.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// Everything that is served under the document's name, with nobody behind it.
fn router(dir: &std::path::Path) -> axum::Router {
    let tables = Arc::new(::tables::Store::open(&dir.join("tables")).unwrap());
    let (owner, inbox) = owner::channel();
    drop(inbox);
    let queries = queries::Queries::new(
        Arc::clone(&tables),
        Some(owner.clone()),
        "http://127.0.0.1:1".to_string(),
        None,
        dir.join("models"),
        dir.to_path_buf(),
    );
    let api = api::Api {
        owner,
        master: frameworks::Master { address: "127.0.0.1:1".to_string(), token: None },
        http: reqwest::Client::new(),
        model_dir: dir.join("models"),
        runs_dir: dir.join("runs"),
        queries: queries.unwrap(),
        streams: control::Streams::default(),
    };
    api::router(api)
        .merge(::tables::router(tables))
        .fallback(|| async { StatusCode::IM_A_TEAPOT })
        .method_not_allowed_fallback(|| async { StatusCode::IM_A_TEAPOT })
}

/// With a letter for each parameter.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn what_is_documented_is_served_and_no_other_method() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(dir.path());
    let operations = operations(&json!(document()));
    let paths: BTreeSet<&str> = operations.iter().map(|(path, ..)| path.as_str()).collect();
    let documented: BTreeMap<(&str, &str), &Value> =
        operations.iter().map(|(path, method, operation)| ((path.as_str(), method.as_str()), operation)).collect();
    assert!(paths.len() > 40 && paths.contains("/api/v1/openapi.json") && paths.contains("/tables"), "{paths:?}");
    for path in paths {
        for method in METHODS {
            let request = Request::builder()
                .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
                .uri(filled(path))
                .body(Body::empty());
            let status = router.clone().oneshot(request.unwrap()).await.unwrap().status();
            match documented.get(&(path, method)) {
                Some(operation) => {
                    let known = operation["responses"].get(status.as_str()).is_some();
                    assert!(known, "{method} {path} answers {status}, which is not documented: {operation}");
                }
                None => assert_eq!(status, StatusCode::IM_A_TEAPOT, "{method} {path} is served and not documented"),
            }
        }
    }
}

#[test]
fn nothing_is_served_but_with_its_documentation() {
    // The page is no part of the API.
    assert_eq!(include_str!("../../api.rs").matches(".route(").count(), 1);
}

#[test]
fn operations_have_names_of_their_own_and_parameters_where_the_path_has_them() {
    let document = json!(document());
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap_or_default().to_string();
        assert!(!name.is_empty() && names.insert(name.clone()), "{method} {path}: '{name}'");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(summary.ends_with('.') && !summary.contains('\n'), "{method} {path}: '{summary}'");
        assert!(!operation["tags"][0].is_null(), "{method} {path}");
        let of_path: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let said = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let said: BTreeSet<&str> = said.filter_map(|parameter| parameter["name"].as_str()).collect();
        assert_eq!(of_path, said, "{method} {path}");
        assert!(parameters.iter().all(|parameter| parameter["description"].is_string()), "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(
                response["description"].as_str().is_some_and(|words| !words.is_empty()),
                "{method} {path} {status}"
            );
            assert!(response["content"].is_object(), "{method} {path} {status}");
        }
    }
}

#[test]
fn what_is_referred_to_is_there() {
    let document = json!(document());
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let named: BTreeSet<&str> =
        text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let known: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(named, known);
    assert_eq!((&document["openapi"], &document["info"]["version"]), (&json!("3.1.0"), &json!("v1")));
    assert!(!text.contains("{*"));
    // Those of the store are ours or others: of two schemas with one name one would be lost.
    let of_store = json!(::tables::document());
    for (name, schema) in of_store["components"]["schemas"].as_object().unwrap() {
        assert_eq!(schemas.get(name), Some(schema), "{name}");
    }
}

#[test]
fn a_parameter_that_takes_the_rest_of_the_path_says_so() {
    let document = json!(document());
    let words = &document["paths"]["/api/v1/why/{subject}"]["get"]["parameters"][0]["description"];
    assert!(words.as_str().unwrap_or_default().ends_with("its slashes may stand as they are, or as `%2F`"), "{words}");
}

#[test]
fn a_diagnostic_is_what_its_schema_says() {
    let said = json!(jobs::Diagnostic::new("wrong").at((1, 2)).help("help"));
    let schema = &json!(document())["components"]["schemas"]["DiagnosticView"];
    let said: BTreeSet<&String> = said.as_object().unwrap().keys().collect();
    let known: BTreeSet<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(said, known);
}
