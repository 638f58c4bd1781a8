//! Tables of Parquet and Arrow files, in directories by their columns, through stops at other parallelisms.

use super::super::{StatementBody, parse, plan};
use super::running::{context, lines};
use crate::batch::{BatchContext, collect};
use crate::functions::Functions;
use crate::runtime::local::{LocalConfig, LocalRun, run};
use crate::runtime::{Folder, Outcome};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const MADE: &str = "
CREATE TABLE made (id BIGINT, amount BIGINT, shop VARCHAR) WITH (connector = 'datagen', rows = 200000, splits = 2, rate = 0,
  fields.id.kind = sequence, fields.amount.min = 0, fields.amount.max = 100, fields.shop.distinct = 3);
CREATE TABLE stored (id BIGINT, amount BIGINT, shop VARCHAR)
  WITH (connector = 'files', path = 'stored', format = 'parquet', rolling.size = '300k');
CREATE TABLE sorted (id BIGINT, amount BIGINT, shop VARCHAR) PARTITIONED BY (shop)
  WITH (connector = 'files', path = 'sorted', format = 'FORMAT');
";

fn start(folder: &Path, text: &str, checkpoints: Option<Folder>, slices: u32) -> LocalRun {
    let script = parse(text).expect("the file is right");
    let statements = script.statements.iter().enumerate();
    let inserts = statements.filter(|(_, statement)| matches!(statement.body, StatementBody::Insert(_)));
    let inserts: Vec<usize> = inserts.map(|(at, _)| at).collect();
    let runtime = Runtime::new().expect("a runtime");
    let planned = runtime.block_on(plan(&script, &inserts, &Functions::new())).expect("a dataflow");
    let config = LocalConfig {
        slices,
        checkpoints,
        checkpoint_interval_ms: 5,
        ..LocalConfig::new("test/stored", folder.into(), folder.join("dead"))
    };
    run(planned, config).expect("the job starts")
}

fn batch(folder: &Path, text: &str, query: &str) -> Vec<String> {
    let script = parse(text).expect("the file is right");
    let open = BatchContext::new(context(folder));
    let rows = Runtime::new().expect("a runtime").block_on(collect(&script, query, &Functions::new(), open));
    lines(&rows.expect("rows"))
}

#[test]
fn rows_come_once_through_stops_in_the_middle_of_files() {
    for format in ["parquet", "arrow"] {
        let folder = tempfile::tempdir().expect("a folder");
        let text = MADE.replace("FORMAT", format);
        let made = format!("{text} INSERT INTO stored SELECT id, amount, shop FROM made;");
        assert_eq!(start(folder.path(), &made, None, 2).wait().expect("it ends"), Outcome::Finished);
        let copied = format!("{text} INSERT INTO sorted SELECT id, amount, shop FROM stored WHERE amount > 10;");
        let checkpoints = Folder::memory();
        let mut stopped = 0;
        for slices in [2, 3, 1] {
            let job = start(folder.path(), &copied, Some(checkpoints.clone()), slices);
            let (began, first) = (Instant::now(), job.status().view.epoch);
            while job.status().view.epoch == first && began.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            job.stop();
            stopped += u32::from(job.wait().expect("it stops") == Outcome::Stopped);
        }
        assert!(stopped > 0, "no run was stopped in the middle");
        let last = start(folder.path(), &copied, Some(checkpoints), 2);
        assert_eq!(last.wait().expect("it ends"), Outcome::Finished);
        let by = |table: &str| {
            batch(
                folder.path(),
                &text,
                &format!(
                    "SELECT shop, COUNT(*) AS n, COUNT(DISTINCT id) AS ids, SUM(id) AS s FROM {table} WHERE amount > 10 GROUP BY shop"
                ),
            )
        };
        assert_eq!(by("sorted"), by("stored"), "{format}");
        assert_eq!(by("sorted").len(), 4, "a heading and three shops");
        let one = batch(folder.path(), &text, "SELECT COUNT(*) AS n FROM sorted");
        let other = batch(folder.path(), &text, "SELECT COUNT(*) AS n FROM stored WHERE amount > 10");
        assert_eq!(one, other, "{format}");
    }
}
