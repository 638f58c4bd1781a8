//! What is answered when, and what is refused.

use super::*;
use crate::Polled;
use crate::testing::table;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use reqwest::blocking::{Client, Response};
use std::time::{Duration, Instant};

fn posts(options: &[(&str, &str)]) -> TableDef {
    table(
        &[("id", DataType::Int64), ("name", DataType::Utf8)],
        &[&[("connector", "http"), ("listen", "127.0.0.1:0")], options].concat(),
    )
}

fn open(options: &[(&str, &str)], from: Option<u64>) -> source::HttpReader {
    let table = posts(options);
    assert_eq!(CONNECTOR.check(&table), vec![]);
    let start = SplitStart { split: "http".to_owned(), from };
    source::HttpReader::open(&table, &[0], &[start], Settings::of(&table).unwrap()).unwrap()
}

fn post(reader: &source::HttpReader, body: &str, token: Option<&str>) -> std::thread::JoinHandle<Response> {
    let (url, body, token) = (format!("http://{}/rows", reader.address()), body.to_owned(), token.map(str::to_owned));
    std::thread::spawn(move || {
        let request = Client::new().post(url).body(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().unwrap()
    })
}

/// Polls until rows come, or nothing for a while.
fn ids(reader: &mut source::HttpReader, least: usize) -> (Vec<i64>, u64) {
    let (mut ids, mut at, began) = (Vec::new(), 0, Instant::now());
    while ids.len() < least && began.elapsed() < Duration::from_secs(20) {
        if let Polled::Batch { batch, next, .. } = reader.poll(Duration::from_millis(20)).unwrap() {
            ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
            at = next;
        }
    }
    (ids, at)
}

#[test]
fn the_answer_comes_with_the_checkpoint() {
    let mut reader = open(&[], Some(100));
    let asked = post(&reader, "{\"id\":1}\n{\"id\":2}\n\n", None);
    assert_eq!(ids(&mut reader, 2), (vec![1, 2], 104));
    let later = post(&reader, "{\"id\":3}", None);
    assert_eq!(ids(&mut reader, 1), (vec![3], 105));
    reader.checkpointed(&[(0, 103)]);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!asked.is_finished() && !later.is_finished());
    reader.checkpointed(&[(0, 104)]);
    let answer = asked.join().unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().unwrap().as_str()), (200, "{\"rows\":2}\n"));
    assert!(!later.is_finished());
    // Whoever waits when the job goes away is told that nothing is sure.
    drop(reader);
    let answer = later.join().unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[test]
fn bad_lines_refuse_their_request_or_are_set_aside() {
    let mut reader = open(&[("ack", "received")], None);
    let asked = post(&reader, "{\"id\":1}\n\n{\"id\":true}\n{\"id\":2}\nx", None);
    let good = post(&reader, "{\"id\":7}", None);
    assert_eq!(ids(&mut reader, 1).0, [7]);
    assert_eq!(good.join().unwrap().status().as_u16(), 200);
    while !asked.is_finished() {
        assert!(matches!(reader.poll(Duration::from_millis(5)).unwrap(), Polled::Idle));
    }
    let answer = asked.join().unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let told: serde_json::Value = answer.json().unwrap();
    let lines: Vec<u64> = told["bad"].as_array().unwrap().iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 5]);

    let mut reader = open(&[("ack", "received"), ("bad_data", "dead_letter")], Some(10));
    let asked = post(&reader, "{\"id\":1}\nx\n{\"id\":2}", None);
    let Polled::Batch { batch, bad, next, .. } = reader.poll(Duration::from_secs(10)).unwrap() else {
        panic!("no rows")
    };
    assert_eq!(
        (batch.num_rows(), next, bad.len(), bad[0].position, bad[0].bytes.as_slice()),
        (2, 13, 1, 11, &b"x"[..])
    );
    assert_eq!(asked.join().unwrap().text().unwrap(), "{\"rows\":2}\n");
}

#[test]
fn what_is_not_read_holds_others_back() {
    let mut reader = open(&[("queue", "8MB"), ("ack", "received")], None);
    let line = format!("{{\"id\":1,\"name\":\"{}\"}}\n", "x".repeat(5 << 20));
    let first = post(&reader, &line, None);
    let began = Instant::now();
    while reader.queued_bytes() < 5 << 20 {
        assert!(began.elapsed() < Duration::from_secs(20), "it did not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = post(&reader, &line, None).join().unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(ids(&mut reader, 1).0, [1]);
    assert_eq!(first.join().unwrap().status().as_u16(), 200);
    let again = post(&reader, &line, None);
    assert_eq!(ids(&mut reader, 1).0, [1]);
    assert_eq!(again.join().unwrap().status().as_u16(), 200);
    let huge = post(&reader, &"x".repeat(9 << 20), None);
    assert_eq!(huge.join().unwrap().status().as_u16(), 413);
}

#[test]
fn a_token_guards_it() {
    let reader = open(&[("token", "secret"), ("ack", "received")], None);
    for (token, status) in [(None, 401), (Some("secreT"), 401), (Some("secret2"), 401)] {
        assert_eq!(post(&reader, "{\"id\":1}", token).join().unwrap().status().as_u16(), status);
    }
    let mut reader = reader;
    let asked = post(&reader, "{\"id\":1}", Some("secret"));
    assert_eq!(ids(&mut reader, 1).0, [1]);
    assert_eq!(asked.join().unwrap().status().as_u16(), 200);
    let asked = Client::new().get(format!("http://{}/", reader.address())).bearer_auth("secret").send().unwrap();
    assert_eq!(asked.status().as_u16(), 405);
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (options, why) in [
        (vec![("listen", "0.0.0.0:8088")], "no token guards it"),
        (vec![("listen", "localhost")], "no address and port"),
        (vec![("listen", "127.0.0.1:1"), ("queue", "1k")], "room for a request"),
        (vec![("listen", "127.0.0.1:1"), ("ack", "never")], "must be one of checkpoint, received"),
        (vec![("listen", "127.0.0.1:1"), ("token", "")], "visible ASCII"),
    ] {
        let wrong = CONNECTOR.check(&table(&[("id", DataType::Int64)], &options));
        assert!(wrong.iter().any(|wrong| wrong.message.contains(why)), "{options:?}: {wrong:?}");
    }
}
