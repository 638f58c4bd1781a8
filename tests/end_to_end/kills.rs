//! `kill -9` of any process in the middle of a stream: it goes on by itself, and its results are those of a batch query
//! over the same rows, each exactly once.

use crate::cluster::{Cluster, Job};
use crate::program::smack;
use crate::rows;
use crate::wait::wait_for;
use std::sync::OnceLock;

const ROWS: u64 = 150_000;
/// Rows per second. At the first of them the job lasts for ten seconds; a machine that does other things too may need
/// most of these for three checkpoints, and then a slower one leaves time to disturb it.
const PACES: [u64; 3] = [15_000, 5_000, 2_500];

/// Their times do not depend on the pace: a hundred cards that pay once a minute each.
fn payments(rate: &str) -> String {
    format!(
        "CREATE TABLE payments (
            id BIGINT, card BIGINT, ts TIMESTAMP, amount DOUBLE, merchant BIGINT,
            WATERMARK FOR ts AS ts - INTERVAL '2 seconds'
        ) WITH (connector = 'cards', cards = '100', rows = '{ROWS}'{rate});"
    )
}

const SUMS: &str = "
    SELECT card, window_start, COUNT(*) AS n, SUM(id) AS ids, MAX(amount) AS largest, COUNT(DISTINCT merchant) AS shops
    FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10 minutes'))
    GROUP BY card, window_start, window_end";

/// A join of an aggregation and of first rows, each of which takes rows back all the time.
const CARDS: &str = "
    SELECT t.card, n, ids, shops, best FROM (
        SELECT card, COUNT(*) AS n, SUM(id) AS ids, COUNT(DISTINCT merchant) AS shops FROM payments GROUP BY card) t
    JOIN (SELECT card, id AS best FROM (
        SELECT card, id, ROW_NUMBER() OVER (PARTITION BY card ORDER BY amount DESC, id) AS place FROM payments)
        WHERE place = 1) b ON t.card = b.card";

/// Named after the first of the tables that it fills.
const JOB: &str = "windows/cards";

fn job_file(pace: u64) -> String {
    format!(
        "SET job.name = 'windows'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '500ms';
        {payments}
        CREATE TABLE totals (
            card BIGINT, window_start TIMESTAMP, n BIGINT, ids BIGINT, largest DOUBLE, shops BIGINT,
            PRIMARY KEY (card, window_start) NOT ENFORCED
        );
        CREATE TABLE files (
            card BIGINT, window_start TIMESTAMP, n BIGINT, ids BIGINT, largest DOUBLE, shops BIGINT
        ) WITH (connector = 'files', path = 'out', format = 'json');
        CREATE TABLE cards (
            card BIGINT, n BIGINT, ids BIGINT, shops BIGINT, best BIGINT, PRIMARY KEY (card) NOT ENFORCED
        );
        INSERT INTO cards {CARDS};
        CREATE VIEW sums AS {SUMS};
        INSERT INTO totals SELECT card, window_start, n, ids, largest, shops FROM sums;
        INSERT INTO files SELECT card, window_start, n, ids, largest, shops FROM sums;",
        payments = payments(&format!(", rate = '{pace}', speed = '{}'", pace * 3 / 5))
    )
}

/// What the batch engine says.
fn batch_answers() -> &'static [Vec<String>; 2] {
    static ANSWERS: OnceLock<[Vec<String>; 2]> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        [SUMS, CARDS].map(|query| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            std::fs::write(folder.path().join("query.sql"), format!("{}{query};", payments(""))).expect("a file");
            let ran = smack(folder.path(), &["run", "query.sql", "-o", "json"]).expect(0);
            rows::canonical(&ran.out)
        })
    })
}

/// A cluster with the job at this pace, which has its third checkpoint, unless it is then no longer far from its end.
fn start(pace: u64) -> Option<(Cluster, Job)> {
    let cluster = Cluster::start();
    assert_eq!(cluster.submit("windows.sql", &job_file(pace)), [JOB]);
    let job = wait_for("third checkpoint", || match cluster.look(JOB)? {
        job if job.is_over() || job.metrics.checkpoint_epoch >= Some(3) => Ok(job),
        job => Err(format!("{job:?}")),
    });
    assert!(matches!(job.state.as_str(), "running" | "finished"), "{job:?}");
    let is_early = job.state == "running" && job.metrics.rows_in < ROWS / 2;
    is_early.then_some((cluster, job))
}

/// Runs the job, does the deed once it has a checkpoint and is far from its end, and compares what comes out.
fn survives(deed: impl FnOnce(&mut Cluster, &Job)) -> Job {
    let [right, right_cards] = batch_answers();
    let (mut cluster, before) = PACES.into_iter().find_map(start).expect("a pace that leaves time to disturb it");
    assert_eq!(before.tasks.len(), 2);
    assert_ne!(before.tasks[0].agent, before.tasks[1].agent, "tasks are spread over agents");
    deed(&mut cluster, &before);
    let job = cluster.wait_until(JOB, "finished");
    assert_eq!(job.metrics.rows_late, 0);
    rows::assert_same("table", &cluster.rows("totals"), right);
    rows::assert_same("changes by key", &cluster.rows("cards"), right_cards);
    rows::assert_same("files", &rows::of_files(&cluster.path("out")), right);
    job
}

#[test]
fn nothing_is_killed() {
    let job = survives(|_, _| {});
    assert_eq!((job.restarts, job.generation, job.metrics.rows_in), (0, 1, ROWS));
}

#[test]
fn a_task_is_killed() {
    let job = survives(|cluster, job| cluster.task(&job.tasks[1].id).kill());
    assert!(job.restarts >= 1 && job.generation >= 2, "{job:?}");
    assert!(job.told().contains("goes on from checkpoint"), "{}", job.told());
}

/// Its tasks go on without it, and the next one finds them.
#[test]
fn an_agent_is_killed() {
    let job = survives(|cluster, job| {
        let tasks = cluster.tasks_of(job);
        cluster.kill_agent_of(&job.tasks[0]);
        assert_eq!(cluster.tasks_of(job), tasks, "the same processes");
    });
    assert_eq!((job.restarts, job.generation, job.metrics.rows_in), (0, 1, ROWS), "{job:?}");
}

/// Its tasks go on without it, and it finds them again.
#[test]
fn the_runner_is_killed() {
    let job = survives(|cluster, _| {
        let runner = cluster.member("runner");
        runner.kill();
        cluster.wait_for_new("runner", &runner);
    });
    assert_eq!((job.restarts, job.generation), (0, 1), "{job:?}");
}

/// Nothing but placing needs it.
#[test]
fn the_master_is_killed() {
    let job = survives(|cluster, _| {
        let master = cluster.member("master");
        master.kill();
        cluster.wait_for_new("master", &master);
    });
    assert_eq!((job.restarts, job.generation, job.metrics.rows_in), (0, 1, ROWS), "{job:?}");
}

/// As when the machine loses power, except that the disk remembers.
#[test]
fn everything_is_killed() {
    let job = survives(|cluster, _| cluster.crash());
    assert!(job.generation >= 2, "{job:?}");
    assert!(job.told().contains("goes on from checkpoint"), "{}", job.told());
}

/// Nobody was killed, but every process is another afterwards.
#[test]
fn the_cluster_is_ended_and_started_again() {
    let job = survives(|cluster, _| cluster.restart());
    assert!(job.generation >= 2, "{job:?}");
    assert!(job.told().contains("goes on from checkpoint"), "{}", job.told());
}
