//! A task that stands still holds those back that send to it; they do not fill their memory instead.

use crate::cluster::{Cluster, Job};
use crate::processes::Process;
use crate::program::smack;
use crate::rows;
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::time::Duration;

const ROWS: u64 = 1_200_000;
const JOB: &str = "pause/sums";
/// Longer than between two reports of a task.
const A_WHILE: Duration = Duration::from_millis(2_500);
/// What a sender would need in that time, were nothing to hold it back, is ten times as much.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// Every row crosses the exchange, with half a kilobyte of its own.
fn query(rate: &str) -> [String; 2] {
    let table = format!(
        "CREATE TABLE numbers (id BIGINT)
         WITH (connector = 'datagen', rows = '{ROWS}', splits = '2', fields.id.kind = 'sequence'{rate});
         CREATE VIEW padded AS SELECT id, id % 1009 AS bucket, repeat(CAST(id AS VARCHAR), 90) AS pad FROM numbers;"
    );
    let sums = "SELECT bucket, COUNT(*) AS n, SUM(id) AS ids, character_length(MAX(pad)) AS length FROM padded GROUP BY bucket";
    [table, sums.to_string()]
}

fn rss_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

/// The job once none of its tasks has read a row for a while, and then for as long again: reports may be late.
fn stands_still(cluster: &Cluster) -> Job {
    let before = Cell::new((None, 0));
    cluster.wait_for(JOB, "standstill", |job| {
        let (rows_in, n_equal) = before.get();
        let n_equal = if rows_in == Some(job.metrics.rows_in) { n_equal + 1 } else { 0 };
        before.set((Some(job.metrics.rows_in), n_equal));
        if n_equal < 2 {
            std::thread::sleep(A_WHILE);
        }
        n_equal == 2
    })
}

#[test]
fn a_task_that_stands_still_holds_its_senders_back() {
    let cluster = Cluster::start();
    let [table, sums] = query(", rate = '80000'");
    let settings =
        "SET job.name = 'pause'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '500ms';";
    assert_eq!(
        cluster.submit("pause.sql", &format!("{settings} {table} CREATE MATERIALIZED VIEW sums AS {sums};")),
        [JOB]
    );
    let job = cluster.wait_for(JOB, "first checkpoint", |job| job.metrics.checkpoint_epoch >= Some(1));
    let [sender, paused] = [&job.tasks[0], &job.tasks[1]].map(|task| cluster.task(&task.id));
    paused.signal(Signal::SIGSTOP);
    let still = stands_still(&cluster);
    assert!(still.metrics.rows_in < ROWS, "all is read, and nobody could take it: {still:?}");
    let full_bytes = rss_bytes(&sender);
    std::thread::sleep(A_WHILE);
    let grown_bytes = rss_bytes(&sender).saturating_sub(full_bytes);
    assert!(grown_bytes < GROWTH_BYTES_MAX, "{grown_bytes} bytes more while nothing could be sent");
    assert_eq!(cluster.look(JOB).expect("the job").metrics.rows_in, still.metrics.rows_in);
    paused.signal(Signal::SIGCONT);
    let job = cluster.wait_until(JOB, "finished");
    assert_eq!((job.restarts, job.metrics.rows_in), (0, ROWS), "{}", job.told());
    let [table, sums] = query("");
    std::fs::write(cluster.path("batch.sql"), format!("{table}{sums};")).expect("a file");
    let right = rows::canonical(&smack(cluster.folder(), &["run", "batch.sql", "-o", "json"]).expect(0).out);
    rows::assert_same("sums", &cluster.rows("sums"), &right);
}
