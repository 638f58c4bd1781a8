//! What is told, when, to whom, and under which ids.

use super::*;
use crate::testing::{context, table};
use arrow::array::{Int8Array, Int64Array, RecordBatch};
use arrow::datatypes::DataType;
use reqwest::blocking::{Client, Response};
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

fn told(options: &[(&str, &str)]) -> TableDef {
    table(&[("id", DataType::Int64)], &[&[("connector", "sse"), ("listen", "127.0.0.1:0")], options].concat())
}

fn open(table: &TableDef, slot: u32) -> sink::SseSink {
    assert_eq!(CONNECTOR.check(table), vec![]);
    let context = Context { slot, n_slots: 2, begun_us: 0xabc, ..context(std::path::Path::new(".")) };
    sink::SseSink::open(table, Settings::of(table).unwrap(), &context).unwrap()
}

fn rows(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids.to_vec())) as _)]).unwrap()
}

/// A reader that is connected.
struct Reader(BufReader<Response>);

impl Reader {
    fn connect(sink: &sink::SseSink, query: &str, last: Option<&str>) -> Self {
        let client = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let request = client.get(format!("http://{}/{query}", sink.address()));
        let request = match last {
            Some(id) => request.header("Last-Event-ID", id),
            None => request,
        };
        let answer = request.send().unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self(BufReader::new(answer))
    }

    /// The next event, as `id data`.
    fn next(&mut self) -> String {
        let mut parts = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "it ended after {parts:?}");
            match line.trim_end() {
                "" if parts.is_empty() => {}
                "" => return parts.join(" "),
                line => parts.extend(line.split_once(": ").map(|(_, value)| value.to_owned())),
            }
        }
    }

    fn is_over(&mut self) -> bool {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap() == 0
    }
}

#[test]
fn rows_are_told_as_they_come_and_a_reader_that_comes_back_goes_on() {
    let mut sink = open(&told(&[]), 0);
    sink.write(&rows(&[1, 2])).unwrap();
    let mut late = Reader::connect(&sink, "", None);
    let mut early = Reader::connect(&sink, "any/path?from=earliest", None);
    sink.write(&rows(&[3])).unwrap();
    assert_eq!(late.next(), "abc-0-2 {\"id\":3}", "from when it connected");
    assert_eq!([early.next(), early.next()], ["abc-0-0 {\"id\":1}", "abc-0-1 {\"id\":2}"]);
    let mut again = Reader::connect(&sink, "", Some("abc-0-0"));
    assert_eq!([again.next(), again.next()], ["abc-0-1 {\"id\":2}", "abc-0-2 {\"id\":3}"]);
    let weights = Int8Array::from(vec![-1, 1]);
    sink.change(&rows(&[3, 4]), &weights).unwrap();
    assert_eq!([late.next(), late.next()], ["abc-0-3 {\"op\":\"-\",\"id\":3}", "abc-0-4 {\"op\":\"+\",\"id\":4}"]);
    assert_eq!(sink.prepare(1).unwrap(), b"", "nothing has to be kept");
    drop(sink);
    let heard = [again.next(), again.next()];
    assert_eq!(
        heard,
        ["abc-0-3 {\"op\":\"-\",\"id\":3}", "abc-0-4 {\"op\":\"+\",\"id\":4}"],
        "also what was told last"
    );
    assert!(late.is_over());
}

#[test]
fn with_checkpoints_nobody_hears_of_what_a_crash_takes_back() {
    let table = told(&[("visible", "checkpoint")]);
    let mut sink = open(&table, 1);
    let mut reader = Reader::connect(&sink, "", None);
    sink.write(&rows(&[1])).unwrap();
    sink.prepare(7).unwrap();
    sink.write(&rows(&[2])).unwrap();
    let state = sink.prepare(8).unwrap();
    sink.write(&rows(&[3])).unwrap();
    assert_eq!(sink.door_events(), 0, "nothing is durable yet");
    sink.commit(7).unwrap();
    assert_eq!(reader.next(), "7-1-0 {\"id\":1}");
    drop(sink);
    assert!(reader.is_over());
    // The life after the crash, in which another slice has the state: what may have been told has the ids that it had.
    let mut sink = open(&table, 0);
    sink.restore(8, vec![state, Vec::new()]).unwrap();
    sink.write(&rows(&[33])).unwrap();
    sink.prepare(9).unwrap();
    sink.commit(9).unwrap();
    let mut reader = Reader::connect(&sink, "?from=earliest", None);
    let heard = [reader.next(), reader.next(), reader.next()];
    assert_eq!(heard, ["7-1-0 {\"id\":1}", "8-1-0 {\"id\":2}", "9-0-0 {\"id\":33}"]);
    assert!(sink.restore(9, vec![b"rubbish".to_vec()]).unwrap_err().to_string().contains("unreadable"));
}

#[test]
fn slices_of_a_task_share_a_door_and_other_tables_do_not() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let listen = [("listen", free.as_str())];
    let mut own = table(&[("id", DataType::Int64)], &[&[("connector", "sse")], &listen[..]].concat());
    let (mut first, mut second) = (open(&own, 0), open(&own, 1));
    let mut reader = Reader::connect(&first, "", None);
    first.write(&rows(&[1])).unwrap();
    second.write(&rows(&[2])).unwrap();
    assert_eq!([reader.next(), reader.next()], ["abc-0-0 {\"id\":1}", "abc-1-0 {\"id\":2}"]);
    own.name = "other".to_owned();
    let refused = CONNECTOR.open_sink(&own, &context(std::path::Path::new("."))).err().expect("refused").to_string();
    assert!(refused.contains("give each an address of its own"), "{refused}");
    drop(first);
    second.write(&rows(&[3])).unwrap();
    assert_eq!(reader.next(), "abc-1-1 {\"id\":3}", "it is open while one of them is");
    drop(second);
    assert!(reader.is_over());
    assert!(CONNECTOR.open_sink(&own, &context(std::path::Path::new("."))).is_ok(), "the address is free again");
}

#[test]
fn who_may_listen_and_how() {
    let sink = open(&told(&[("token", "secret"), ("allow_origin", "https://example.org")]), 0);
    let url = format!("http://{}/", sink.address());
    let client = Client::new();
    assert_eq!(client.get(&url).send().unwrap().status(), 401);
    assert_eq!(client.get(&url).bearer_auth("secre").send().unwrap().status(), 401);
    assert_eq!(client.post(&url).bearer_auth("secret").send().unwrap().status(), 405);
    let answer = client.get(&url).bearer_auth("secret").send().unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (200, &"https://example.org".parse().unwrap())
    );
    let asked = client.request("OPTIONS".parse().unwrap(), &url).send().unwrap();
    assert_eq!((asked.status().as_u16(), asked.headers().contains_key("access-control-allow-headers")), (204, true));

    let here = ("listen", "127.0.0.1:0");
    for (options, text) in [
        ([("listen", "0.0.0.0:80"), ("keep", "1MB")], "no token guards it"),
        ([here, ("visible", "later")], "visible"),
        ([here, ("keep", "much")], "option 'keep' is no size"),
        ([here, ("allow_origin", "a\nb")], "visible ASCII characters"),
    ] {
        let options = [&[("connector", "sse")][..], &options].concat();
        let wrong = crate::check_table(&table(&[("id", DataType::Int64)], &options));
        assert!(wrong.iter().any(|wrong| wrong.message.contains(text)), "{text}: {wrong:?}");
    }
}
