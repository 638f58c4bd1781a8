//! A stream over input that ends gives the batch answer, at every parallelism.

use super::super::{parse, plan};
use crate::batch::{BatchContext, collect, query};
use crate::functions::{Functions, declared_predict};
use crate::runtime::local::{LocalConfig, STATE_MEMORY, run};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connectors::Context;
use std::io::Write;
use std::path::Path;
use tokio::runtime::Runtime;

pub(super) const TABLES: &str = "
CREATE TABLE payments (
  id BIGINT, Card BIGINT, amount BIGINT, rate DOUBLE, shop VARCHAR, ts TIMESTAMP,
  twice AS amount * 2,
  WATERMARK FOR ts AS ts - INTERVAL '1 second'
) WITH (connector = 'datagen', rows = 3000, splits = 3, fields.id.kind = sequence, fields.Card.min = 0, fields.Card.max = 6,
  fields.amount.min = 0, fields.amount.max = 100, fields.shop.distinct = 4);
CREATE VIEW big AS SELECT card, amount, twice, shop, ts FROM payments WHERE amount > 30;
";

pub(super) fn context(folder: &Path) -> Context {
    Context {
        job: "test/query".into(),
        generation: 1,
        claimed_us: 0,
        begun_us: 0,
        slot: 0,
        n_slots: 1,
        base_dir: folder.into(),
        tables_endpoint: None,
        token: None,
    }
}

/// The column names, then the rows in order of their text; of a changelog what is left when it is added up.
pub(super) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    let mut gone: Vec<String> = Vec::new();
    let changes = batches.first().is_some_and(|batch| batch.schema().field(0).name() == "op");
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type that prints"))
            .collect();
        for row in 0..batch.num_rows() {
            let mut cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            match changes.then(|| cells.remove(0)).as_deref() {
                Some("-") => gone.push(cells.join(" ")),
                _ => lines.push(cells.join(" ")),
            }
        }
    }
    lines.sort();
    gone.sort();
    for line in gone {
        let at = lines.binary_search(&line).unwrap_or_else(|_| panic!("'{line}' was taken back and never came"));
        lines.remove(at);
    }
    if let Some(batch) = batches.first() {
        let schema = batch.schema();
        let fields = schema.fields().iter().skip(usize::from(changes));
        let names: Vec<String> = fields.map(|field| format!("{}:{}", field.name(), field.data_type())).collect();
        lines.insert(0, names.join(" "));
    }
    lines
}

pub(super) fn batch(text: &str, sql: &str, folder: &Path) -> Vec<String> {
    let script = parse(text).expect("the file is right");
    let functions = declared_predict();
    let answer = collect(&script, sql, &functions, BatchContext::new(context(folder)));
    lines(&Runtime::new().expect("a runtime").block_on(answer).expect("the query runs"))
}

pub(super) fn streamed(text: &str, sql: &str, tasks: u32, slices: u32, folder: &Path) -> Vec<String> {
    streamed_within(STATE_MEMORY, text, sql, (tasks, slices), folder)
}

/// With so many bytes for the state of each task.
pub(super) fn streamed_within(
    state_memory: u64,
    text: &str,
    sql: &str,
    (tasks, slices): (u32, u32),
    folder: &Path,
) -> Vec<String> {
    let script = parse(&format!("{text};{sql}")).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let functions = Functions::new();
    let planned = plan(&script, &statements, &functions);
    let dataflow = Runtime::new().expect("a runtime").block_on(planned).expect("the query is fit for streams");
    assert!(dataflow.bounded());
    let config = LocalConfig {
        tasks,
        slices,
        state_memory,
        ..LocalConfig::new("test/query", folder.into(), folder.join("dead"))
    };
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
fn cumulating_windows() {
    check(
        "SELECT card, window_start, window_end, COUNT(*) AS n, SUM(amount) AS s
         FROM TABLE(CUMULATE(TABLE big, DESCRIPTOR(ts), INTERVAL '100 milliseconds', INTERVAL '400 milliseconds'))
         GROUP BY card, window_start, window_end",
    );
}

#[test]
fn session_windows() {
    check(
        "SELECT card, window_start, window_end, COUNT(*) AS n, SUM(amount) AS s, COUNT(DISTINCT shop)
         FROM TABLE(SESSION(TABLE big PARTITION BY card, DESCRIPTOR(ts), INTERVAL '15 milliseconds'))
         GROUP BY card, window_start, window_end",
    );
    check("SELECT card, shop, MAX(amount) FROM big GROUP BY card, shop, session(INTERVAL '25 milliseconds')");
}

#[test]
fn aggregates_without_a_window() {
    check(
        "SELECT card, COUNT(*) AS n, COUNT(DISTINCT shop), SUM(amount), MIN(rate), MAX(shop), AVG(amount),
           COUNT(*) FILTER (WHERE amount > 50) AS large, SUM(twice) FILTER (WHERE shop LIKE '%a%') AS some
         FROM payments GROUP BY card HAVING COUNT(*) > 3",
    );
    check(
        "SELECT shop, median(amount), array_agg(id ORDER BY id DESC), round(stddev(amount), 6) FROM payments WHERE id < 500 GROUP BY shop",
    );
    // What is taken back by one aggregation reaches the next.
    check(
        "SELECT n, COUNT(*) AS cards, MAX(card), MIN(total), median(total), COUNT(DISTINCT total) FROM (
           SELECT card, shop, COUNT(*) / 20 AS n, SUM(amount) AS total FROM payments GROUP BY card, shop) GROUP BY n",
    );
    check("SELECT DISTINCT card, shop FROM payments");
    check("SELECT card FROM payments UNION SELECT amount FROM payments");
}

#[test]
fn one_row_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    for sql in [
        "SELECT COUNT(*) AS n, SUM(amount) AS total, MAX(shop) FROM payments",
        "SELECT COUNT(*) AS n, SUM(amount) AS total FROM payments WHERE amount > 1000",
    ] {
        let wanted = batch(TABLES, sql, folder.path());
        for (tasks, slices) in [(1, 1), (2, 2)] {
            assert_eq!(streamed(TABLES, sql, tasks, slices, folder.path()), wanted, "of {sql}");
        }
    }
}

#[test]
fn joins() {
    let counts = "SELECT card, COUNT(*) AS n FROM payments WHERE amount > 60 AND id < 700 GROUP BY card";
    check("SELECT a.id, b.id AS other, a.shop FROM payments a JOIN payments b ON a.id = b.amount WHERE b.card = 3");
    for kind in ["LEFT", "RIGHT", "FULL"] {
        check(&format!(
            "SELECT a.id, b.card, b.amount FROM (SELECT * FROM payments WHERE id < 100) a
             {kind} JOIN (SELECT card, amount FROM payments WHERE rate < 100) b ON a.id = b.amount AND a.card < b.card"
        ));
    }
    // One side takes rows back, then both do.
    check(&format!("SELECT p.id, c.n FROM payments p JOIN ({counts}) c ON p.card = c.card WHERE p.id < 300"));
    check(&format!(
        "SELECT p.card, p.shop, c.n FROM (SELECT card, shop, COUNT(*) AS m FROM payments GROUP BY card, shop) p
         LEFT JOIN ({counts}) c ON p.card = c.card AND p.m > c.n"
    ));
    check(&format!(
        "SELECT id, card FROM payments WHERE id < 400 AND card IN (SELECT card FROM ({counts}) WHERE n > 30)"
    ));
    check("SELECT id FROM payments p WHERE NOT EXISTS (SELECT 1 FROM payments q WHERE q.amount = p.id AND q.card > 2)");
    check("SELECT card FROM payments WHERE id < 9 INTERSECT SELECT amount FROM payments");
    check("SELECT amount FROM payments EXCEPT SELECT card FROM payments");
    check("SELECT id, amount FROM payments WHERE amount > (SELECT AVG(amount) FROM payments) AND id < 200");
    check("SELECT a.id, b.id FROM payments a, payments b WHERE a.id < 5 AND b.id < 3");
}

#[test]
fn joins_in_time() {
    check(
        "SELECT a.id, b.id, b.ts FROM payments a JOIN payments b
         ON a.card = b.card AND b.ts BETWEEN a.ts - INTERVAL '5 milliseconds' AND a.ts + INTERVAL '10 milliseconds'
         WHERE a.shop = b.shop",
    );
    for kind in ["LEFT", "FULL"] {
        check(&format!(
            "WITH many AS (SELECT card, window_start, window_end, COUNT(*) AS n
               FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '100 milliseconds')) GROUP BY card, window_start, window_end),
             large AS (SELECT shop, card, window_start, window_end, MAX(amount) AS most FROM TABLE(TUMBLE(TABLE big,
               DESCRIPTOR(ts), INTERVAL '100 milliseconds')) WHERE amount > 80 GROUP BY shop, card, window_start, window_end)
             SELECT many.card, many.window_end, n, shop, most FROM many
             {kind} JOIN large ON many.window_start = large.window_start AND many.card = large.card"
        ));
    }
    // The most of each window, found by a second aggregation of windows that are over.
    check(
        "WITH counts AS (SELECT card, COUNT(*) AS n, window_start AS s, window_end AS e
           FROM TABLE(HOP(TABLE payments, DESCRIPTOR(ts), INTERVAL '50 milliseconds', INTERVAL '200 milliseconds'))
           GROUP BY card, window_start, window_end)
         SELECT counts.s, counts.card, counts.n FROM counts
         JOIN (SELECT MAX(n) AS most, s, e FROM counts GROUP BY s, e) best ON counts.s = best.s AND counts.e = best.e AND n >= most",
    );
}

#[test]
fn first_rows_of_an_order() {
    check(
        "SELECT card, id, amount, rn FROM (
           SELECT card, id, amount, ROW_NUMBER() OVER (PARTITION BY card ORDER BY amount DESC, id) AS rn FROM payments)
         WHERE rn <= 3",
    );
    check(
        "SELECT shop, id FROM (SELECT shop, id, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY ts DESC, id DESC) AS rn FROM payments)
         WHERE rn = 1 AND id > 10",
    );
    check(
        "SELECT card, n FROM (SELECT card, n, ROW_NUMBER() OVER (ORDER BY n DESC, card) AS rn
           FROM (SELECT card, COUNT(*) AS n FROM payments GROUP BY card)) WHERE rn < 4",
    );
}

#[test]
fn functions_over_rows() {
    check(
        "SELECT id, card, SUM(amount) OVER w AS so_far, lag(amount) OVER w AS before, row_number() OVER w AS n
         FROM payments WINDOW w AS (PARTITION BY card ORDER BY ts, id)",
    );
    check(
        "SELECT id, AVG(amount) OVER (PARTITION BY shop ORDER BY ts ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS a FROM payments",
    );
    check(
        "SELECT id, lead(id) OVER (PARTITION BY card ORDER BY id) AS next, rank() OVER (PARTITION BY card ORDER BY amount) AS r
         FROM payments WHERE id < 600",
    );
    check(
        "SELECT card, n, SUM(n) OVER (ORDER BY card) AS running FROM (SELECT card, COUNT(*) AS n FROM payments GROUP BY card)",
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
