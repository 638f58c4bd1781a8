//! A stream over input that ends gives the batch answer, at every parallelism.

use super::super::{parse, plan};
use crate::batch::{BatchContext, collect, query};
use crate::functions::{Functions, declared_predict};
use crate::runtime::local::{LocalConfig, run};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connectors::Context;
use std::io::Write;
use std::path::Path;
use tokio::runtime::Runtime;

const TABLES: &str = "
CREATE TABLE payments (
  id BIGINT, Card BIGINT, amount BIGINT, rate DOUBLE, shop VARCHAR, ts TIMESTAMP,
  twice AS amount * 2,
  WATERMARK FOR ts AS ts - INTERVAL '1 second'
) WITH (connector = 'datagen', rows = 3000, splits = 3, fields.Card.min = 0, fields.Card.max = 6,
  fields.amount.min = 0, fields.amount.max = 100, fields.shop.distinct = 4);
CREATE VIEW big AS SELECT card, amount, twice, shop, ts FROM payments WHERE amount > 30;
";

fn context(folder: &Path) -> Context {
    Context {
        job: "test/query".into(),
        generation: 1,
        claimed_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: folder.into(),
        tables_endpoint: None,
        token: None,
    }
}

/// The column names, then the rows in order of their text.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that prints"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join(" "));
        }
    }
    lines.sort();
    if let Some(batch) = batches.first() {
        let names: Vec<String> =
            batch.schema().fields().iter().map(|field| format!("{}:{}", field.name(), field.data_type())).collect();
        lines.insert(0, names.join(" "));
    }
    lines
}

pub(super) fn batch(text: &str, sql: &str, folder: &Path) -> Vec<String> {
    let script = parse(text).expect("the file is right");
    let functions = Functions::new().with(declared_predict());
    let answer = collect(&script, sql, &functions, BatchContext::new(context(folder)));
    lines(&Runtime::new().expect("a runtime").block_on(answer).expect("the query runs"))
}

pub(super) fn streamed(text: &str, sql: &str, tasks: u32, slices: u32, folder: &Path) -> Vec<String> {
    let script = parse(&format!("{text};{sql}")).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let functions = Functions::new();
    let planned = plan(&script, &statements, &functions);
    let dataflow = Runtime::new().expect("a runtime").block_on(planned).expect("the query is fit for streams");
    assert!(dataflow.bounded());
    let config = LocalConfig { tasks, slices, ..LocalConfig::new("test/query", folder.into(), folder.join("dead")) };
    let job = run(dataflow, config).expect("the job starts");
    let batches: Vec<RecordBatch> = job.results.iter().collect();
    job.wait().expect("the job ends");
    lines(&batches)
}

fn check(sql: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = batch(TABLES, sql, folder.path());
    assert!(wanted.len() > 3, "too few rows to tell: {wanted:?}");
    for (tasks, slices) in [(1, 1), (2, 2)] {
        let found = streamed(TABLES, sql, tasks, slices, folder.path());
        let differs = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "at {tasks} tasks of {slices} slices: {} rows for {}, first difference {differs:?} of {sql}",
            found.len(),
            wanted.len()
        );
    }
}

#[test]
fn rows_one_by_one() {
    check(
        "SELECT id, CARD, upper(shop) || '-' || card AS Place, twice + 1 AS t FROM payments WHERE amount > 50 AND shop IS NOT NULL",
    );
    check("SELECT card, amount FROM big UNION ALL SELECT id, twice FROM payments WHERE id < 100");
}

#[test]
fn tumbling_windows() {
    check(
        "SELECT card, window_start, window_end, window_time, COUNT(*) AS n, SUM(amount) AS total, MAX(rate), COUNT(DISTINCT shop),
           AVG(amount), SUM(twice) FILTER (WHERE shop LIKE '%a%') AS some
         FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '250 milliseconds'))
         GROUP BY card, window_start, window_end, window_time HAVING COUNT(*) > 1",
    );
    check(
        "SELECT tumble(INTERVAL '100 milliseconds')['end'] AS e, MIN(amount) FROM big GROUP BY tumble(INTERVAL '100 milliseconds')",
    );
    check(
        "SELECT card, window_start FROM TABLE(TUMBLE(TABLE big, DESCRIPTOR(ts), INTERVAL '1 second')) WHERE window_end > TIMESTAMP '2026-01-01T00:00:01'",
    );
}

#[test]
fn hopping_windows() {
    for (slide, width) in [(100, 400), (150, 400), (400, 150), (200, 200)] {
        check(&format!(
            "SELECT card % 3 AS k, window_start, COUNT(*) AS n, SUM(amount) AS s
             FROM TABLE(HOP(TABLE big, DESCRIPTOR(ts), INTERVAL '{slide} milliseconds', INTERVAL '{width} milliseconds'))
             GROUP BY k, window_start, window_end"
        ));
    }
    check("SELECT shop, COUNT(*) FROM payments GROUP BY shop, hop(INTERVAL '1 second', INTERVAL '2 seconds')");
}

#[test]
fn windows_over_windows() {
    check(
        "WITH counts AS (
           SELECT card, COUNT(*) AS n, window_time AS t
           FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '100 milliseconds')) GROUP BY card, window_start, window_time)
         SELECT tumble(INTERVAL '500 milliseconds')['start'] AS s, MAX(n) AS most, COUNT(*) FROM counts
         GROUP BY tumble(INTERVAL '500 milliseconds')",
    );
}

#[test]
fn batch_queries_do_what_streams_cannot() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = std::fs::File::create(folder.path().join("people.jsonl")).expect("a file");
    for (name, age) in [("Ada", 36), ("Grace", 85), ("Alan", 41)] {
        writeln!(file, "{{\"Name\":\"{name}\",\"age\":{age}}}").expect("a line");
    }
    let text = "CREATE TABLE people (\"Name\" STRING, age INT, half AS age / 2) WITH (connector = 'files', path = 'people.jsonl')";
    let answer = |sql: &str| batch(text, sql, folder.path());
    assert_eq!(
        answer("SELECT name, HALF, COUNT(*) OVER () AS \"All\" FROM people ORDER BY age DESC LIMIT 2"),
        ["Name:Utf8 half:Int64 All:Int64", "Alan 20 3", "Grace 42 3"]
    );
    assert_eq!(answer("SELECT COUNT(*) AS n FROM people WHERE age > 40"), ["n:Int64", "2"]);
}

#[test]
fn mistakes_of_batch_queries_have_their_place() {
    let text = format!("{TABLES} CREATE TABLE endless (a BIGINT) WITH (connector = 'datagen'); SELECT b FROM endless");
    let script = parse(&text).expect("the file is right");
    let mistake = |sql: &str| {
        let functions = Functions::new();
        let rows = query(&script, sql, &functions, BatchContext::new(context(Path::new("."))));
        match Runtime::new().expect("a runtime").block_on(rows) {
            Err(crate::batch::Error::Query(errors)) => (errors[0].to_string(), errors[0].span.expect("a place")),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("the query runs"),
        }
    };
    let (message, span) = mistake("SELECT a FROM endless");
    assert_eq!(
        message,
        "'endless' never ends, and this query needs all of its rows (write INSERT INTO for a stream, or give the table an end)"
    );
    assert_eq!(&"SELECT a FROM endless"[span.0..span.1], "endless");
    // The text of this one stands in the file.
    let (message, span) = mistake("SELECT b FROM endless");
    assert_eq!((message.as_str(), &text[span.0..span.1]), ("unknown column 'b' (known: a)", "b"));
    assert_eq!(span.0, text.len() - "b FROM endless".len());
}
