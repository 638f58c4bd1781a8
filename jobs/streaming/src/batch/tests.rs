//! INSERTs as batches: what is written, what a failed run leaves, and when a batch is taken at all.

mod parameters;

use super::{BatchContext, Engine, Error, Insert, Written, choose, collect, explain, insert};
use crate::batch::Shown;
use crate::functions::Functions;
use crate::sql::{parse, plan_now};
use connectors::Context;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::runtime::Runtime;

const TABLES: &str = "
CREATE TABLE payments (id BIGINT, card BIGINT, amount BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
  WITH (connector = 'datagen', rows = 3000, splits = 3, fields.id.kind = sequence, fields.card.min = 0, fields.card.max = 6,
    fields.amount.min = 0, fields.amount.max = 100);
CREATE TABLE endless (id BIGINT) WITH (connector = 'datagen');
CREATE TABLE kept (card BIGINT, n BIGINT, \"Note\" VARCHAR) WITH (connector = 'files', path = 'kept');
CREATE TABLE strict (id BIGINT, n BIGINT NOT NULL) WITH (connector = 'files', path = 'strict');
CREATE TABLE keyed (card BIGINT PRIMARY KEY, n BIGINT);
CREATE TABLE printed (card BIGINT, n BIGINT) WITH (connector = 'stdout');
";

static RUNS: AtomicI64 = AtomicI64::new(1);

pub(super) fn context(folder: &Path) -> BatchContext {
    BatchContext::new(Context {
        job: "test/insert".into(),
        generation: 1,
        claimed_us: 1,
        // Each run is another life.
        begun_us: RUNS.fetch_add(1, Ordering::Relaxed),
        slot: 0,
        n_slots: 1,
        base_dir: folder.into(),
        tables_endpoint: None,
        token: None,
    })
}

fn run(sql: &str, folder: &Path) -> Result<Written, Error> {
    let script = parse(&format!("{TABLES}{sql}")).expect("the file is right");
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let functions = Functions::new();
    let job = Insert {
        script: &script,
        statements: &statements,
        functions: &functions,
        open: context(folder),
        rows_out: Arc::new(AtomicU64::new(0)),
        tell: Arc::new(|_| {}),
    };
    Runtime::new().expect("a runtime").block_on(insert(job))
}

/// Files that a reader of the table sees.
fn visible(folder: &Path) -> usize {
    let Ok(files) = std::fs::read_dir(folder) else { return 0 };
    files.filter(|file| !file.as_ref().expect("a file").file_name().to_string_lossy().starts_with(['.', '_'])).count()
}

#[test]
fn rows_are_written_once_all_of_them_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = run(
        "INSERT INTO kept (n, card) SELECT COUNT(*), card FROM payments GROUP BY card;
         INSERT INTO kept SELECT card, CAST(amount AS INT), 'x' FROM payments ORDER BY id LIMIT 5",
        folder.path(),
    );
    let Written { rows_in, rows_out, rows_bad } = written.expect("it runs");
    assert_eq!((rows_in, rows_out, rows_bad), (6000, 12, 0));
    let script = parse(TABLES).expect("the file is right");
    let asked = "SELECT COUNT(*) AS rows, SUM(n) AS n, COUNT(\"Note\") AS notes FROM kept WHERE \"Note\" IS NULL";
    let functions = Functions::new();
    let rows = collect(&script, asked, &functions, context(folder.path()));
    let rows = Runtime::new().expect("a runtime").block_on(rows).expect("it is read");
    let shown = arrow::util::pretty::pretty_format_batches(&rows).expect("text").to_string();
    assert!(shown.contains("| 7    | 3000 | 0     |"), "{shown}");
}

#[test]
fn a_failed_run_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("INSERT INTO kept SELECT card, 100 / (id - 2999), NULL FROM payments", "Divide by zero"),
        (
            "INSERT INTO strict SELECT id, CASE WHEN id < 2999 THEN card END FROM payments",
            "column 'n' of table 'strict' is NOT NULL, and this row has none for it: id = 2999, n = NULL",
        ),
        (
            "INSERT INTO kept SELECT card, n, NULL FROM (SELECT card, COUNT(*) AS n FROM payments GROUP BY card);
             INSERT INTO strict SELECT id, 1 / (id - 2999) FROM payments",
            "run the INSERT INTO strict",
        ),
    ];
    for (sql, wanted) in cases {
        let error = run(sql, folder.path()).expect_err(sql).to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(visible(&folder.path().join("kept")) + visible(&folder.path().join("strict")), 0, "of {sql}");
    }
    let sql =
        "SET sink.not_null = 'drop'; INSERT INTO strict SELECT id, CASE WHEN id < 2990 THEN card END FROM payments";
    assert_eq!(run(sql, folder.path()).expect("it runs").rows_out, 2990);
}

/// What runs an INSERT: `batch`, or why it is a stream.
fn engine(sql: &str) -> String {
    let script = parse(&format!("{TABLES}{sql}")).expect("the file is right");
    let statements: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
    let functions = Functions::new();
    let dataflow = plan_now(&script, &statements, &functions).expect("it is fit for streams");
    match choose(&script, &statements, Some(&dataflow), &functions) {
        Engine::Batch => "batch".into(),
        Engine::Stream { because } => because.unwrap_or_else(|| "endless".into()),
    }
}

#[test]
fn a_batch_is_taken_where_it_is_equal_and_faster() {
    let grouped = "INSERT INTO keyed SELECT card, COUNT(*) FROM payments GROUP BY card";
    let cases = [
        (grouped.to_string(), "batch"),
        (format!("SET execution.mode = 'streaming'; {grouped}"), "execution.mode is streaming"),
        (format!("SET execution.mode = 'batch'; {grouped}"), "batch"),
        ("INSERT INTO kept SELECT id, id + 1, NULL FROM endless".into(), "endless"),
        ("INSERT INTO kept SELECT id, card, NULL FROM payments".into(), "it neither aggregates nor joins"),
        (
            "INSERT INTO printed SELECT card, COUNT(*) FROM payments GROUP BY card".into(),
            "'printed' is told every change",
        ),
        (
            "INSERT INTO keyed SELECT amount, COUNT(*) FROM payments GROUP BY card, amount".into(),
            "of several rows of a key 'keyed' keeps the last",
        ),
        (
            "INSERT INTO kept SELECT card, COUNT(*), NULL FROM payments GROUP BY card, tumble(INTERVAL '1 second')"
                .into(),
            "a window leaves out rows that come late",
        ),
        (
            "INSERT INTO kept SELECT a.id, b.id, NULL FROM payments a JOIN payments b ON a.id = b.amount".into(),
            "a batch would read 'payments' 2 times",
        ),
        (
            "INSERT INTO kept SELECT id, SUM(card) OVER (ORDER BY ts), NULL FROM payments".into(),
            "OVER the event time leaves out rows that come late",
        ),
    ];
    for (sql, wanted) in cases {
        assert_eq!(engine(&sql), wanted, "of {sql}");
    }
}

#[test]
fn explain_tells_the_engine() {
    let show = |sql: &str| {
        let script = parse(&format!("{TABLES}{sql}")).expect("the file is right");
        let at = script.statements.len() - 1;
        let folder = tempfile::tempdir().expect("a folder");
        let functions = Functions::new();
        let shown = explain(&script, at, &functions, context(folder.path()));
        match Runtime::new().expect("a runtime").block_on(shown).expect("it is explained") {
            Shown::Batch { tree, .. } => tree,
            Shown::Stream { dataflow, because } => format!("{} {because:?}", dataflow.nodes.len()),
        }
    };
    assert!(show("EXPLAIN SELECT card FROM payments ORDER BY card LIMIT 3").contains("Sort"));
    assert!(show("EXPLAIN INSERT INTO keyed SELECT card, COUNT(*) FROM payments GROUP BY card").contains("Aggregate"));
    assert!(show("EXPLAIN CREATE VIEW v AS SELECT card, MAX(id) FROM payments GROUP BY card").contains("Aggregate"));
    assert!(show("EXPLAIN CREATE TABLE t AS SELECT DISTINCT card FROM payments").contains("Aggregate"));
    assert!(
        show("CREATE VIEW V AS SELECT card, MAX(id) AS m FROM payments GROUP BY card; EXPLAIN v").contains("Aggregate")
    );
    assert_eq!(show("EXPLAIN INSERT INTO kept SELECT id, id + 1, NULL FROM endless"), "3 None");
    let stream = show("EXPLAIN INSERT INTO kept SELECT id, id + 1, NULL FROM payments");
    assert_eq!(stream, "3 Some(\"it neither aggregates nor joins\")");
}
