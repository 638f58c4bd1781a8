//! `kill -9` of one task of a stream whose tasks exchange nothing: the other one goes on in the same process, and each row is
//! there once.

use crate::cluster::{Cluster, Job};
use crate::processes::Process;
use crate::program::smack;
use crate::rows;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROWS: u64 = 40_000;
/// Named after the first of the tables that it fills.
const JOB: &str = "alone/kept";

fn numbers(rate: &str) -> String {
    format!(
        "CREATE TABLE numbers (id BIGINT, amount BIGINT)
         WITH (connector = 'datagen', rows = '{ROWS}', splits = '2', fields.id.kind = 'sequence'{rate});"
    )
}

const PICKED: &str = "SELECT id, amount % 1000 AS amount FROM numbers WHERE id % 7 <> 3";

/// With its first checkpoint, and far from its end.
fn start(interval: &str) -> (Cluster, Job) {
    let cluster = Cluster::start();
    let text = format!(
        "SET job.name = 'alone'; SET job.parallelism = '2'; SET job.cpus = '0.3'; SET checkpoint.interval = '{interval}';
         {}
         CREATE TABLE kept (id BIGINT, amount BIGINT);
         CREATE TABLE files (id BIGINT, amount BIGINT) WITH (connector = 'files', path = 'out', format = 'json');
         INSERT INTO kept {PICKED};
         INSERT INTO files {PICKED};",
        numbers(", rate = '2000'")
    );
    assert_eq!(cluster.submit("alone.sql", &text), [JOB]);
    let job = cluster.wait_for(JOB, "first checkpoint", |job| job.metrics.checkpoint_epoch >= Some(1));
    assert!(job.state == "running" && job.metrics.rows_in < ROWS / 2, "too late to disturb it: {job:?}");
    (cluster, job)
}

/// The job once another process has taken the place of this task, and the other one, whose process this is, is as it was.
fn waits_for_new_life(cluster: &Cluster, before: &Job, lost: usize, other: &Process) -> Job {
    let job = cluster.wait_for(JOB, "new life of the task", |job| {
        job.tasks[lost].id != before.tasks[lost].id && job.told().contains(&format!("task {lost} of 2 runs again"))
    });
    assert_eq!((job.state.as_str(), &job.tasks[1 - lost].id), ("running", &before.tasks[1 - lost].id));
    assert_eq!(cluster.task(&job.tasks[1 - lost].id), *other, "the other one goes on");
    job
}

fn ends_with_each_row_once(cluster: &Cluster, restarts: u64) {
    let job = cluster.wait_until(JOB, "finished");
    assert_eq!((job.generation, job.restarts), (1, restarts), "{}", job.told());
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("query.sql"), format!("{}{PICKED};", numbers(""))).expect("a file");
    let right = rows::canonical(&smack(folder.path(), &["run", "query.sql", "-o", "json"]).expect(0).out);
    rows::assert_same("table", &cluster.rows("kept"), &right);
    rows::assert_same("files", &rows::of_files(&cluster.path("out")), &right);
}

#[test]
fn a_task_starts_again_and_the_other_goes_on() {
    let (cluster, before) = start("300ms");
    let other = cluster.task(&before.tasks[0].id);
    cluster.task(&before.tasks[1].id).kill();
    let job = waits_for_new_life(&cluster, &before, 1, &other);
    assert!(job.told().contains("task 1 of 2 starts again from checkpoint"), "{}", job.told());
    assert!(job.told().contains("; the other one goes on"), "{}", job.told());
    // Now the one that went on, after a checkpoint that has both.
    let epoch = job.metrics.checkpoint_epoch;
    let job = cluster.wait_for(JOB, "checkpoint of both", |job| job.metrics.checkpoint_epoch > epoch);
    let other = cluster.task(&job.tasks[1].id);
    cluster.task(&job.tasks[0].id).kill();
    waits_for_new_life(&cluster, &job, 0, &other);
    ends_with_each_row_once(&cluster, 2);
}

/// Task 1 has prepared an epoch, and no manifest names it, because task 0 stands still.
#[test]
fn a_task_is_killed_between_prepare_and_manifest() {
    let (cluster, before) = start("1s");
    let tasks = [cluster.task(&before.tasks[0].id), cluster.task(&before.tasks[1].id)];
    let checkpoints = checkpoints_below(&cluster.path(".smack")).expect("a folder of checkpoints");
    let prepared = loop {
        // Right after an epoch that both have committed: where it had to commit one, no other would begin.
        let epoch = cluster.look(JOB).expect("the job").metrics.checkpoint_epoch;
        cluster.wait_for(JOB, "next checkpoint", |job| job.metrics.checkpoint_epoch > epoch);
        tasks[0].signal(Signal::SIGSTOP);
        let until = Instant::now() + Duration::from_secs(3);
        let found = std::iter::repeat_with(|| prepared_after_manifests(&checkpoints))
            .inspect(|_| std::thread::sleep(Duration::from_millis(20)))
            .find(|found| found.is_some() || Instant::now() > until);
        // Who is told to stand still may go on for a moment, so what was seen counts if it is still so after one.
        std::thread::sleep(Duration::from_millis(200));
        if let Some(Some(epoch)) = found.filter(|found| *found == prepared_after_manifests(&checkpoints)) {
            break epoch;
        }
        tasks[0].signal(Signal::SIGCONT);
    };
    tasks[1].kill();
    let job = cluster.wait_for(JOB, "word of the loss", |job| job.told().contains("starts again from checkpoint"));
    assert!(job.told().contains(&format!("starts again from checkpoint {}", prepared - 1)), "{}", job.told());
    tasks[0].signal(Signal::SIGCONT);
    waits_for_new_life(&cluster, &before, 1, &tasks[0]);
    ends_with_each_row_once(&cluster, 1);
}

fn checkpoints_below(folder: &Path) -> Option<PathBuf> {
    let folders: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    let here = folders.iter().find(|path| path.ends_with("checkpoints")).cloned();
    here.or_else(|| folders.iter().find_map(|path| checkpoints_below(path)))
}

/// The epoch that the sinks of slice 1 have prepared and those of slice 0 have not begun to, if it is later than all
/// manifests: while slice 0 stands still, no manifest can come of it.
fn prepared_after_manifests(checkpoints: &Path) -> Option<u64> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let number = |name: &String| name.trim_end_matches(".json").parse::<u64>().ok();
    let newest = names(&checkpoints.join("manifests")).iter().filter_map(number).max()?;
    let epochs = checkpoints.join("epochs");
    names(&epochs).iter().filter_map(number).filter(|epoch| *epoch > newest).find(|epoch| {
        // Both sinks, in the only generation.
        let files = names(&epochs.join(format!("{epoch:010}/1")));
        let of_slice = |slice: u32| files.iter().filter(|name| name.ends_with(&format!("-{slice}.sink"))).count();
        (of_slice(0), of_slice(1)) == (0, 2)
    })
}
