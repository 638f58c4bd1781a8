//! `kill -9` of a task in the middle of each query of Nexmark, with its answer in a table: what is there at the end is the
//! batch answer; of the query on the clock, whose windows are those of the day, it has each bid once.
//!
//! Invariant: every query loses a task after it has a checkpoint and before its input has ended.

use crate::cluster::Cluster;
use crate::program::{example, smack};
use crate::rows;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::ScopedJoinHandle;

/// Queries that run beside each other.
const AT_ONCE: usize = 6;
/// Over how many seconds the events are spread. Before they are over a query must have two checkpoints and be looked at,
/// on a machine that does other things too.
const SECONDS: u64 = 12;
/// On the wall clock: there is no batch answer but each bidder's bids in all windows together.
const ON_THE_CLOCK: usize = 12;

/// How many events; a larger proof sets the variable.
fn events() -> u64 {
    // Of the proof that the runtime's own tests give with so many, this is the part with processes.
    let said = std::env::var("SMACK_NEXMARK_EVENTS").ok();
    said.map_or(12_000, |events| events.parse::<u64>().expect("SMACK_NEXMARK_EVENTS is a number").max(12_000))
}

/// The tables that a query reads, and the query. Where nothing tells its rows apart, how often each is there does.
fn query(n: usize) -> (String, String) {
    let path = example("nexmark").join(format!("q{n}.sql"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (tables, rest) = text.split_once("CREATE TABLE result").expect("a table for the result");
    let (declared, select) = rest.split_once("INSERT INTO result\n").expect("one INSERT");
    let select = select.trim().trim_end_matches(';').to_string();
    let select = match n {
        6 | 19 => {
            let columns = columns(declared);
            format!("SELECT {columns}, COUNT(*) AS n FROM ({select}) GROUP BY {columns}")
        }
        // So that windows end before the kill and after it, and some lie across.
        ON_THE_CLOCK => select.replace("INTERVAL '10 seconds'", "INTERVAL '200 milliseconds'"),
        _ => select,
    };
    (tables.to_string(), select)
}

/// The names of the columns between the first parenthesis and that of the options.
fn columns(declared: &str) -> String {
    let (columns, _) = declared.split_once(") WITH").expect("a table with options");
    let columns = columns.trim().trim_start_matches('(').replace("TIMESTAMP(3)", "TIMESTAMP");
    let names: Vec<&str> = columns.split(',').filter_map(|column| column.split_whitespace().next()).collect();
    names.join(", ")
}

fn over(tables: &str, paced: &str) -> String {
    // Few events to the second, so that there are several windows.
    tables.replace("'1000000'", &format!("'{}', event.rate = '200'{paced}", events()))
}

fn submit(cluster: &Cluster, n: usize) -> String {
    let (tables, select) = query(n);
    let tables = over(&tables, &format!(", rate = '{}'", events() / SECONDS));
    let settings = format!(
        "SET job.name = 'q{n}'; SET job.parallelism = '2'; SET job.cpus = '0.15'; SET checkpoint.interval = '500ms';"
    );
    let text = format!("{settings}\n{tables}\nCREATE MATERIALIZED VIEW answer_{n} AS\n{select};\n");
    let jobs = cluster.submit(&format!("q{n}.sql"), &text);
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs[0].clone()
}

fn batch_answer(folder: &Path, n: usize) -> Vec<String> {
    let (tables, mut select) = query(n);
    if n == ON_THE_CLOCK {
        select = "SELECT bidder, COUNT(*) AS bid_count FROM bid GROUP BY bidder".to_string();
    }
    let file = format!("batch{n}.sql");
    std::fs::write(folder.join(&file), format!("{}{select};", over(&tables, ""))).expect("a file");
    rows::canonical(&smack(folder, &["run", &file, "-o", "json"]).expect(0).out)
}

/// What is the same in every run.
fn settled(n: usize, rows: Vec<String>) -> Vec<String> {
    if n != ON_THE_CLOCK {
        return rows;
    }
    let mut bids: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let cells: BTreeMap<&str, &str> = row.split(' ').filter_map(|cell| cell.split_once('=')).collect();
        *bids.entry(cells["bidder"].to_string()).or_default() += cells["bid_count"].parse::<u64>().expect("a number");
    }
    let mut rows: Vec<String> =
        bids.into_iter().map(|(bidder, count)| format!("bid_count={count} bidder={bidder}")).collect();
    rows.sort();
    rows
}

/// Submits the query and kills one of its tasks after the second checkpoint.
fn disturbed(cluster: &Cluster, n: usize) -> String {
    let job = submit(cluster, n);
    let before = cluster.wait_for(&job, "second checkpoint", |job| job.metrics.checkpoint_epoch >= Some(2));
    assert_eq!((before.state.as_str(), before.generation), ("running", 1), "q{n}: {before:?}");
    cluster.task(&before.tasks[n % 2].id).kill();
    job
}

#[test]
fn each_query_of_nexmark_survives_the_kill_of_a_task() {
    let all: Vec<usize> = (0..=22).collect();
    let cluster = &Cluster::start();
    std::fs::copy(example("nexmark/side_input.csv"), cluster.path("side_input.csv")).expect("a copy");
    for some in all.chunks(AT_ONCE) {
        // Each by itself: were one looked at only when all are submitted, it might have read everything by then.
        let jobs: Vec<(usize, String)> = std::thread::scope(|scope| {
            let begun: Vec<_> = some.iter().map(|n| scope.spawn(move || (*n, disturbed(cluster, *n)))).collect();
            let result = |thread: ScopedJoinHandle<'_, (usize, String)>| match thread.join() {
                Ok(job) => job,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            begun.into_iter().map(result).collect()
        });
        for (n, job) in &jobs {
            let job = cluster.wait_until(job, "finished");
            assert!(job.restarts >= 1 && job.told().contains("from checkpoint"), "q{n}: {}", job.told());
            assert_eq!((job.metrics.rows_late, job.metrics.rows_bad), (0, 0), "q{n}");
            let wanted = batch_answer(cluster.folder(), *n);
            assert!(!wanted.is_empty(), "q{n} has no rows");
            rows::assert_same(&format!("q{n}"), &settled(*n, cluster.rows(&format!("answer_{n}"))), &wanted);
        }
    }
}
