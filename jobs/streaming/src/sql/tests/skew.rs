//! One key has nine rows of ten: what an aggregation in two phases sends over the exchange, and that it answers the same.

use super::super::parse;
use super::super::plan::plan_now;
use super::running::{batch, lines};
use crate::dataflow::Operator;
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, run};
use arrow::array::RecordBatch;
use std::path::Path;

const ROWS: u64 = 60_000;

fn tables() -> String {
    format!(
        "CREATE TABLE rolls (id BIGINT, roll BIGINT, amount BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
         WITH (connector = 'datagen', rows = '{ROWS}', splits = '3', fields.id.kind = 'sequence', fields.roll.min = '0',
           fields.roll.max = '99', fields.amount.min = '-50', fields.amount.max = '50');
         CREATE VIEW skewed AS SELECT CASE WHEN roll < 90 THEN 0 ELSE roll END AS hot, amount, ts FROM rolls;"
    )
}

/// The answer, and how many rows went over exchanges.
fn answered(two_phase: &str, sql: &str, (tasks, slices): (u32, u32), folder: &Path) -> (Vec<String>, u64) {
    let text = format!("SET optimizer.two_phase = '{two_phase}'; {} {sql}", tables());
    let script = parse(&text).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let dataflow = plan_now(&script, &statements, &Functions::new()).expect("it is planned");
    let exchanges = dataflow.nodes.iter().filter(|node| matches!(node.operator, Operator::Exchange { .. }));
    let exchanges: Vec<String> = exchanges.map(|node| node.id.clone()).collect();
    assert_eq!(exchanges.len(), 1, "{sql}");
    let config = LocalConfig { tasks, slices, ..LocalConfig::new("test/skew", folder.into(), folder.join("dead")) };
    let job = run(dataflow, config).expect("the job starts");
    let batches: Vec<RecordBatch> = job.results.iter().collect();
    let status = std::sync::Arc::clone(&job.status);
    job.wait().expect("the job ends");
    let metrics = status.lock().expect("lock").metrics.clone();
    assert_eq!(metrics.rows_in, ROWS);
    let crossed = metrics.operators.iter().filter(|operator| exchanges.contains(&operator.id));
    (lines(&batches), crossed.map(|operator| operator.rows_in).sum())
}

#[test]
fn a_hot_key_crosses_the_exchange_as_few_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    for sql in [
        "SELECT hot, COUNT(*) AS n, SUM(amount) AS s, MIN(amount) AS low, MAX(amount) AS high,
           COUNT(amount) FILTER (WHERE amount > 0) AS gains FROM skewed GROUP BY hot",
        "SELECT hot, window_start, COUNT(*) AS n, SUM(amount) AS s, AVG(amount) AS a, MAX(amount) AS high
         FROM TABLE(TUMBLE(TABLE skewed, DESCRIPTOR(ts), INTERVAL '20 seconds')) GROUP BY hot, window_start, window_end",
    ] {
        let wanted = batch(&tables(), sql, folder.path());
        assert!(wanted.len() > 10, "{wanted:?}");
        for shape in [(2, 1), (3, 1), (1, 3), (2, 2)] {
            let (found, crossed) = answered("off", sql, shape, folder.path());
            assert_eq!(found, wanted, "in one phase, {shape:?}");
            assert_eq!(crossed, ROWS, "in one phase every row crosses");
            let (found, crossed) = answered("on", sql, shape, folder.path());
            assert_eq!(found, wanted, "in two phases, {shape:?}");
            assert!(crossed < ROWS / 10, "{crossed} of {ROWS} rows cross in two phases, {shape:?}");
        }
    }
}
