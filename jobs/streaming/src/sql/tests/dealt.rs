//! Rows that already are where their keys are owned pass over no other exchange, and the answers are those of the batch.

use super::super::parse;
use super::super::plan::plan_now;
use super::running::{batch, lines};
use crate::dataflow::{Dataflow, Operator};
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, run};
use arrow::array::RecordBatch;
use std::path::Path;

const TABLES: &str = "
    CREATE TABLE rolls (id BIGINT, a BIGINT, b BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
    WITH (connector = 'datagen', rows = '4000', splits = '3', fields.id.kind = 'sequence', fields.a.min = '0',
      fields.a.max = '40', fields.b.min = '0', fields.b.max = '7');
    CREATE VIEW counts AS SELECT a, b, COUNT(*) AS n FROM rolls GROUP BY a, b;
    CREATE VIEW wins AS SELECT a, window_start AS ws, window_end AS we, COUNT(*) AS n
      FROM TABLE(HOP(TABLE rolls, DESCRIPTOR(ts), INTERVAL '1 second', INTERVAL '2 seconds'))
      GROUP BY a, window_start, window_end;";

fn planned(sql: &str) -> Dataflow {
    let text = format!("{TABLES} {sql}");
    let script = parse(&text).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    plan_now(&script, &statements, &Functions::new()).expect("it is planned")
}

fn answered(sql: &str, (tasks, slices): (u32, u32), folder: &Path) -> Vec<String> {
    let config = LocalConfig { tasks, slices, ..LocalConfig::new("test/dealt", folder.into(), folder.join("dead")) };
    let job = run(planned(sql), config).expect("the job starts");
    let batches: Vec<RecordBatch> = job.results.iter().collect();
    job.wait().expect("the job ends");
    lines(&batches)
}

#[test]
fn only_the_same_columns_in_the_same_order_need_no_exchange() {
    let folder = tempfile::tempdir().expect("a folder");
    for (sql, n_exchanges) in [
        ("SELECT a, b, MAX(n) AS most FROM counts WHERE n > 1 GROUP BY a, b", 1),
        ("SELECT b, a, MAX(n) AS most FROM counts GROUP BY b, a", 2),
        ("SELECT a, SUM(n) AS all_n FROM counts GROUP BY a", 2),
        // A column that is computed is another one.
        ("SELECT a + 0 AS a0, b, MAX(n) AS most FROM counts GROUP BY a + 0, b", 2),
        ("SELECT l.a, l.n, r.n AS rn FROM counts l JOIN counts r ON l.a = r.a AND l.b = r.b", 1),
        ("SELECT l.a, l.n, r.n AS rn FROM counts l JOIN counts r ON l.a = r.b AND l.b = r.a", 2),
        // What a join fills up with nulls is not where its key says.
        (
            "SELECT r.id, COUNT(*) AS n FROM rolls l LEFT JOIN (SELECT id FROM rolls WHERE b > 3) r ON l.id = r.id
             GROUP BY r.id",
            3,
        ),
        (
            "SELECT l.id, COUNT(*) AS n FROM rolls l LEFT JOIN (SELECT id FROM rolls WHERE b > 3) r ON l.id = r.id
             GROUP BY l.id",
            2,
        ),
        (
            "SELECT r.id, COUNT(*) AS n FROM rolls l JOIN (SELECT id FROM rolls WHERE b > 3) r ON l.id = r.id
             GROUP BY r.id",
            2,
        ),
        // By auction, the most by window, the counts by window; those that are compared are there already.
        (
            "SELECT c.a, c.n FROM wins c JOIN (SELECT ws, we, MAX(n) AS n FROM wins GROUP BY ws, we) m
             ON c.ws = m.ws AND c.we = m.we AND c.n >= m.n",
            3,
        ),
        (
            "SELECT a, MAX(n) AS most FROM (SELECT a, b, n FROM counts UNION ALL SELECT a, b, n FROM counts) GROUP BY a, b",
            1,
        ),
    ] {
        let exchanges =
            planned(sql).nodes.into_iter().filter(|node| matches!(node.operator, Operator::Exchange { .. }));
        assert_eq!(exchanges.count(), n_exchanges, "{sql}");
        let wanted = batch(TABLES, sql, folder.path());
        assert!(wanted.len() > 4, "{sql}: {wanted:?}");
        for shape in [(1, 1), (2, 1), (1, 3)] {
            assert_eq!(answered(sql, shape, folder.path()), wanted, "{sql} over {shape:?}");
        }
    }
}
