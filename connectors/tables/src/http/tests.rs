//! The door as a client sees it.

use super::*;
use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use axum::http::{Method, Request};
use serde_json::Value;
use tower::ServiceExt;

fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(ids))]).unwrap()
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

async fn call(router: &Router, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, to_bytes(response.into_body(), usize::MAX).await.unwrap())
}

#[tokio::test]
async fn a_table_is_made_written_read_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(Arc::new(Store::open(dir.path()).unwrap()));
    let made = call(&router, Method::PUT, "/tables/a%20b%2Fc?key=0", stream(&[batch(0..0)])).await;
    assert_eq!(made.0, StatusCode::OK, "{made:?}");
    let path = "/tables/a%20b%2Fc/commits?job=g/j&writer=0&generation=1&epoch=1";
    let body = stream(&[batch(0..20_000), batch(10_000..30_000)]);
    assert_eq!(call(&router, Method::POST, path, body.clone()).await.1, "{\"applied\":true}");
    assert_eq!(call(&router, Method::POST, path, body).await.1, "{\"applied\":false}");
    let (status, described) = call(&router, Method::GET, "/tables/a%20b%2Fc", Vec::new()).await;
    let described: Value = serde_json::from_slice(&described).unwrap();
    assert_eq!((status, &described["rows"]), (StatusCode::OK, &json!(30_000)));
    assert_eq!(described["columns"], json!([{ "name": "id", "type": "int64" }]));
    let (_, all) = call(&router, Method::GET, "/tables", Vec::new()).await;
    assert_eq!(serde_json::from_slice::<Value>(&all).unwrap()["tables"], json!([described]));
    let (_, rows) =
        call(&router, Method::GET, "/tables/a%20b%2Fc/rows?columns=id&offset=5&limit=20000", Vec::new()).await;
    let read: Vec<i64> = read_stream(rows)
        .unwrap()
        .1
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(read, (5..20_005).collect::<Vec<i64>>());
    assert_eq!(call(&router, Method::DELETE, "/tables/a%20b%2Fc/rows", Vec::new()).await.0, StatusCode::OK);
    let (_, rows) = call(&router, Method::GET, "/tables/a%20b%2Fc/rows", Vec::new()).await;
    assert!(read_stream(rows).unwrap().1.is_empty());
    assert_eq!(call(&router, Method::DELETE, "/tables/a%20b%2Fc", Vec::new()).await.0, StatusCode::OK);
    assert_eq!(call(&router, Method::GET, "/tables/a%20b%2Fc", Vec::new()).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn changes_remove_rows_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let router = router(store.clone());
    call(&router, Method::PUT, "/tables/t?key=0", stream(&[batch(0..0)])).await;
    let commit = "/tables/t/commits?job=j&writer=0&generation=1&epoch=";
    call(&router, Method::POST, &format!("{commit}1"), stream(&[batch(0..5)])).await;
    let weights: ArrayRef = Arc::new(Int8Array::from(vec![-1, 1]));
    let changes = RecordBatch::try_from_iter([("id", batch(4..6).column(0).clone()), ("weight", weights)]).unwrap();
    let path = format!("{commit}2&changes=true");
    assert_eq!(
        call(&router, Method::POST, &path, stream(std::slice::from_ref(&changes))).await.1,
        "{\"applied\":true}"
    );
    assert_eq!(
        call(&router, Method::POST, &path, stream(std::slice::from_ref(&changes))).await.1,
        "{\"applied\":false}"
    );
    assert_eq!(store.count("t"), Ok(5));
    // Without the word for it, the weight is one column too many.
    assert_eq!(call(&router, Method::POST, &format!("{commit}3"), stream(&[changes])).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn rows_are_looked_up_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(Arc::new(Store::open(dir.path()).unwrap()));
    call(&router, Method::PUT, "/tables/t?key=0", stream(&[batch(0..0)])).await;
    let commit = "/tables/t/commits?job=j&writer=0&generation=1&epoch=1";
    call(&router, Method::POST, commit, stream(&[batch(0..10)])).await;
    let keys = stream(&[batch(8..12), batch(3..4)]);
    let (status, answer) = call(&router, Method::POST, "/tables/t/lookup?column=id", keys).await;
    assert_eq!(status, StatusCode::OK, "{answer:?}");
    let (_, found) = read_stream(answer).unwrap();
    assert_eq!(found[0].column(0).as_primitive::<arrow::datatypes::UInt32Type>().values(), &[0, 1, 4]);
    assert_eq!(found[0].column(1).as_primitive::<Int64Type>().values(), &[8, 9, 3]);
    for (path, status, word) in
        [("/tables/t/lookup?column=nope", 400, "'nope'"), ("/tables/u/lookup?column=id", 404, "'u'")]
    {
        let (got, text) = call(&router, Method::POST, path, stream(&[batch(0..1)])).await;
        assert!(got.as_u16() == status && String::from_utf8_lossy(&text).contains(word), "{path}: {got} {text:?}");
    }
    let (got, _) = call(&router, Method::POST, "/tables/t/lookup?column=id", vec![0; MOST_KEYS_BYTES + 1]).await;
    assert_eq!(got, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn mistakes_have_a_status_and_a_text() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(Arc::new(Store::open(dir.path()).unwrap()));
    call(&router, Method::PUT, "/tables/t", stream(&[batch(0..0)])).await;
    let commit = "/tables/t/commits?job=j&writer=0&epoch=1&generation=";
    call(&router, Method::POST, &format!("{commit}7"), stream(&[batch(0..1)])).await;
    for (method, path, body, status, word) in [
        (Method::PUT, "/tables/t?key=0".to_owned(), stream(&[batch(0..0)]), 409, "keyed by"),
        (Method::PUT, "/tables/u?key=x".to_owned(), stream(&[batch(0..0)]), 400, "'x'"),
        (Method::PUT, "/tables/u".to_owned(), b"junk".to_vec(), 400, "IPC"),
        (Method::POST, format!("{commit}6"), stream(&[batch(0..1)]), 409, "stale"),
        (Method::POST, format!("{commit}7"), b"junk".to_vec(), 400, "IPC"),
        (Method::POST, format!("{commit}7"), stream(&[batch(0..9)])[..200].to_vec(), 400, "IPC"),
        (Method::POST, format!("{commit}7"), vec![0; MOST_BODY_BYTES + 1], 413, "parts"),
        (Method::GET, "/tables/t/rows?columns=nope".to_owned(), Vec::new(), 400, "'nope'"),
        (Method::GET, "/tables/u/rows".to_owned(), Vec::new(), 404, "'u'"),
    ] {
        let (got, text) = call(&router, method, &path, body).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(got.as_u16() == status && text.contains(word), "{path}: {got} {text}");
    }
}

#[test]
fn nothing_is_served_but_with_its_documentation() {
    assert!(!include_str!("../http.rs").contains(".route("));
    assert_eq!(document().paths.paths.len(), 5);
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(Arc::new(Store::open(dir.path()).unwrap()));
    for (method, path, said) in [
        (Method::POST, "/tables/t/commits?job=j", "writer"),
        (Method::GET, "/tables/t/rows?offset=x", "offset"),
        (Method::PUT, "/tables/t?key=a", "'a'"),
    ] {
        let (status, body) = call(&router, method, path, Vec::new()).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(body["error"].as_str().is_some_and(|error| error.contains(said)), "{path}: {body}");
    }
}
