//! Functions of things that get newer versions while a stream runs.

use super::super::{parse, plan};
use crate::coordinator::manifest;
use crate::functions::{Callable, InUse, Versioned, Versions, declared_predict, predict};
use crate::runtime::Outcome;
use crate::runtime::local::{LocalConfig, LocalRun, run};
use crate::runtime::store::Folder;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::runtime::Runtime;

/// Version v of it multiplies by v. Versions from 100 on do not load.
#[derive(Debug)]
struct Times(AtomicU64);

#[derive(Debug)]
struct By(u64);

impl Callable for By {
    fn call(&self, arguments: &[ArrayRef], n_rows: usize) -> Result<Float64Array> {
        let numbers = cast(&arguments[0], &DataType::Float64)?;
        assert_eq!(numbers.len(), n_rows);
        Ok(numbers.as_primitive::<Float64Type>().unary(|number| number * self.0 as f64))
    }
}

impl Versioned for Times {
    fn load(&self, _: &str, version: u64) -> std::result::Result<Arc<dyn Callable>, String> {
        if version >= 100 { Err(format!("version {version} is damaged")) } else { Ok(Arc::new(By(version))) }
    }

    fn wanted(&self, in_use: &Versions) -> (Versions, Vec<String>) {
        (in_use.keys().map(|name| (name.clone(), self.0.load(SeqCst))).collect(), Vec::new())
    }
}

const TABLES: &str = "CREATE TABLE t (id BIGINT, card BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (
    connector = 'datagen', rate = 4000, splits = 4, fields.card.min = 0, fields.card.max = 9);";

fn m(version: u64) -> Versions {
    Versions::from([("m".to_string(), version)])
}

/// A job of two tasks with two slices each.
fn start(query: &str, source: &Arc<Times>, first: u64, checkpoints: &Folder, folder: &Path) -> LocalRun {
    let script = parse(&format!("{TABLES} {query}")).expect("the file is right");
    let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
    let in_use = InUse::new(Arc::clone(source) as Arc<dyn Versioned>, &m(first)).expect("it loads");
    let functions = predict(in_use);
    let planned = Runtime::new().expect("a runtime").block_on(plan(&script, &statements, &functions));
    let config = LocalConfig {
        tasks: 2,
        slices: 2,
        checkpoints: Some(checkpoints.clone()),
        // Barriers come for newer versions, and for nothing else.
        checkpoint_interval_ms: 0,
        versioned: Some(Arc::clone(source) as Arc<dyn Versioned>),
        versions: m(first),
        ..LocalConfig::new("test/query", folder.into(), folder.join("dead"))
    };
    run(planned.expect("the query is fit for streams"), config).expect("the job starts")
}

/// Takes rows until one was done with `version`, and checks all of them; the versions in the order in which they came.
fn seen(job: &LocalRun, version: u64) -> Vec<i64> {
    let mut seen = Vec::new();
    for batch in job.results.iter() {
        let columns: Vec<ArrayRef> =
            batch.columns().iter().map(|column| cast(column, &DataType::Int64).expect("a number")).collect();
        let [n, value, used] = &columns[..] else { panic!("three columns: {batch:?}") };
        let used = used.as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let (n, value) = (n.as_primitive::<Int64Type>().value(row), value.as_primitive::<Int64Type>().value(row));
            assert_eq!(value, n * used.value(row), "a row is told with the version that it was done with");
        }
        let one = used.value(0);
        assert!(used.iter().all(|used| used == Some(one)), "a batch is done as a whole");
        if seen.last() != Some(&one) {
            seen.push(one);
        }
        if seen.contains(&(version as i64)) {
            return seen;
        }
    }
    panic!("ended before version {version}: {seen:?}, {:?}", job.notices.try_iter().collect::<Vec<_>>());
}

fn changes_over(query: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = Folder::local(&folder.path().join("checkpoints")).expect("a folder");
    let source = Arc::new(Times(AtomicU64::new(1)));
    let job = start(query, &source, 1, &checkpoints, folder.path());
    assert_eq!(seen(&job, 1), [1]);
    source.0.store(2, SeqCst);
    assert_eq!(seen(&job, 2).last(), Some(&2), "without a restart, and without another reason for a checkpoint");
    job.drain();
    assert_eq!(job.wait().expect("it ends well"), Outcome::Drained);
    let read = |checkpoints: &Folder| {
        let latest = Runtime::new().expect("a runtime").block_on(manifest::latest(checkpoints));
        latest.expect("read").expect("a manifest").versions
    };
    assert_eq!(read(&checkpoints), m(2));

    // What a checkpoint says counts, not what is the newest by now, nor what a job without one would begin with.
    source.0.store(3, SeqCst);
    let job = start(query, &source, 1, &checkpoints, folder.path());
    assert_eq!(seen(&job, 2), [2]);
    assert_eq!(seen(&job, 3).last(), Some(&3));
    // Back again, as after a rollback.
    source.0.store(1, SeqCst);
    assert_eq!(seen(&job, 1).last(), Some(&1));
    job.stop();
    job.wait().expect("it ends well");
}

#[test]
fn a_stream_changes_over_at_a_barrier() {
    changes_over("SELECT id, predict('m', id) AS p, predict_version('m') AS v FROM t");
}

#[test]
fn behind_an_exchange_too() {
    changes_over(
        "SELECT n, predict('M', n) AS p, predict_version('m') AS v FROM (
            SELECT card, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '20 milliseconds'))
            GROUP BY card, window_start, window_end) WHERE predict('m', n) >= 0",
    );
}

#[test]
fn a_version_that_does_not_load_ends_the_task_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Arc::new(Times(AtomicU64::new(1)));
    let query = "SELECT id, predict('m', id) AS p, predict_version('m') AS v FROM t";
    let job = start(query, &source, 1, &Folder::memory(), folder.path());
    assert_eq!(seen(&job, 1), [1]);
    source.0.store(100, SeqCst);
    let text = job.wait().expect_err("it cannot go on").to_string();
    assert!(text.contains("load what operator project-") && text.contains("version 100 is damaged"), "{text}");
}

#[test]
fn rows_that_may_be_taken_back_keep_their_version() {
    let keeps = |query: &str| {
        let script = parse(&format!("{TABLES} {query}")).expect("the file is right");
        let statements: Vec<usize> = script.queries().map(|(at, _)| at).collect();
        let planned = Runtime::new()
            .expect("a runtime")
            .block_on(plan(&script, &statements, &declared_predict()))
            .expect("a plan");
        (planned.has_versions(), planned.keeps_versions())
    };
    assert_eq!(keeps("SELECT id FROM t"), (false, false));
    assert_eq!(keeps("SELECT predict('m', id) AS p FROM t"), (true, false));
    assert_eq!(
        keeps("SELECT card, predict('m', n) AS p FROM (SELECT card, COUNT(*) AS n FROM t GROUP BY card)"),
        (true, true)
    );
    assert_eq!(keeps("SELECT card, MAX(predict('m', id)) AS p FROM t GROUP BY card"), (true, false));
    assert_eq!(keeps("SELECT id FROM t WHERE predict_version('m') > 1"), (true, false));
}
