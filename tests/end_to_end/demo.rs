//! The demo, as a newcomer starts it.

use crate::cluster::Turn;
use crate::processes;
use crate::program::{Ran, command, ended, interrupted};
use crate::wait::wait_for;
use std::path::Path;

/// They come every five seconds; with so many there are enough windows for an AUC to mean something.
const LINES_WITH_AUC: usize = 3;

#[track_caller]
fn nothing_is_left(folders: [&Path; 2]) {
    for folder in folders {
        assert_eq!(std::fs::read_dir(folder).expect("the folder").count(), 0, "stray files");
        // Tasks that are left follow the demo within a moment.
        wait_for("end of every process", || match processes::below(folder) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }
}

#[test]
fn the_fraud_demo_sums_up_and_leaves_nothing() {
    let _turn = Turn::take();
    let (here, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // The story has all the time that it needs; where it does not come to an end, what is missing is seen below.
    let mut demo = command(here.path(), &["demo", "fraud", "--for", "110s", "-o", "json"]);
    demo.env("TMPDIR", temporary.path());
    let is_told = |so_far: &Ran| so_far.err.lines().filter(|line| line.contains(", auc ")).count() >= LINES_WITH_AUC;
    let ran = interrupted(demo, is_told).expect(0);
    let summary = ran.json();
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("no {name} in {summary:#}\n{}", ran.err));
    for name in ["rows_in", "rows_out", "alerts", "scored"] {
        assert!(number(name) > 0.0, "{name} in {summary:#}");
    }
    assert!(number("auc") >= 0.9, "{summary:#}");
    assert!(number("auc_amount_alone") <= 0.85, "the amount alone must not tell: {summary:#}");
    assert!(number("auc_best_reachable") >= number("auc") - 0.02, "nothing beats the best: {summary:#}");
    assert_eq!(number("restarts"), 0.0, "{summary:#}");
    let tasks = summary["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 6, "{summary:#}");
    for kind in ["stream", "train"] {
        assert!(tasks.iter().any(|task| task["kind"] == kind), "a {kind} task in {summary:#}");
    }
    for task in tasks {
        for name in ["id", "agent", "offer", "state"] {
            assert!(task[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {task}");
        }
    }
    nothing_is_left([here.path(), temporary.path()]);
}

#[test]
fn it_ends_by_itself_when_its_time_is_over() {
    let _turn = Turn::take();
    let (here, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut demo = command(here.path(), &["demo", "fraud", "--for", "1s", "-o", "json"]);
    demo.env("TMPDIR", temporary.path());
    let ran = ended(demo).expect(0);
    assert!(ran.json()["seconds"].as_f64() >= Some(1.0), "{}", ran.out);
    nothing_is_left([here.path(), temporary.path()]);
}

#[test]
fn ctrl_c_ends_it_cleanly() {
    let _turn = Turn::take();
    let (here, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut demo = command(here.path(), &["demo", "-o", "json"]);
    demo.env("TMPDIR", temporary.path());
    let tasks_run = |_: &Ran| processes::below(temporary.path()).iter().any(|process| process.task().is_some());
    let ran = interrupted(demo, tasks_run).expect(0);
    assert!(ran.json()["tasks"].is_array(), "{}", ran.out);
    nothing_is_left([here.path(), temporary.path()]);
}

/// The demo has no file of its own: what it prints is what is shipped.
#[test]
fn it_prints_the_shipped_file() {
    let here = tempfile::tempdir().expect("a folder");
    let ran = crate::program::smack(here.path(), &["demo", "fraud", "--print"]).expect(0);
    assert_eq!(ran.out, std::fs::read_to_string(crate::program::example("fraud.sql")).expect("the example"));
}
