//! What was written is there for the next runner, and nothing else.

use super::*;
use crate::book::job::Phase;
use jobs::{CommandBody, JobBody, JobSpec, Resources, Restart, Rules, TaskId, TaskState};

fn record(name: &str, n_tasks: u32) -> Record {
    let id = JobId::of("g", name);
    let spec = JobSpec {
        id: id.clone(),
        group: "g".into(),
        name: name.into(),
        role: "default".into(),
        priority: 0,
        rules: Rules::default(),
        parallelism: n_tasks,
        resources: Resources::new().cpus(1.0),
        n_ports: 0,
        restart: Restart::Never,
        kill_grace_ms: 0,
        start_within_ms: 0,
        max_completion_ms: 0,
        unreachable_kill_ms: 0,
        volumes: BTreeMap::new(),
        user: None,
        after: Vec::new(),
        body: JobBody::Command(CommandBody::default()),
    };
    let task = |index| TaskRecord {
        id: TaskId::of(&id, 1, index),
        index,
        life: 0,
        agent: "a".into(),
        offer: "o".into(),
        host: "h".to_string(),
        port: None,
        state: TaskState::Staging,
        reason: None,
        message: String::new(),
    };
    let tasks = (0..n_tasks).map(task).collect();
    Record { generation: 1, phase: Phase::Launching, tasks, ..Record::new(spec, "sub", 1) }
}

fn with(record: &Record, at: usize, state: TaskState) -> TaskRecord {
    TaskRecord { state, ..record.tasks[at].clone() }
}

fn states(record: &Record) -> Vec<TaskState> {
    record.tasks.iter().map(|task| task.state).collect()
}

#[test]
fn a_task_by_itself_is_newer_than_its_job() {
    use TaskState::{Finished, Running, Staging};
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (record("one", 3), record("other", 2));
    let store = Store::open(folder.path()).expect("a store");
    assert_eq!(store.jobs().expect("an empty store"), []);
    store.write(&[Change::Job(&one), Change::Job(&other)]).expect("room");
    let (of_one, of_other) = (with(&one, 2, Running), with(&other, 0, Finished));
    store.write(&[Change::Task(&one.spec.id, &of_one), Change::Task(&other.spec.id, &of_other)]).expect("room");
    drop(store);

    let store = Store::open(folder.path()).expect("the same store");
    let kept: Vec<_> = store.jobs().expect("two jobs").iter().map(states).collect();
    assert_eq!(kept, [vec![Staging, Staging, Running], vec![Finished, Staging]]);

    // The whole job is newer than what its tasks were; what comes with it and behind it is newer still.
    let again = with(&one, 0, Running);
    let gone = with(&one, 1, Finished);
    let changes = [Change::Task(&one.spec.id, &gone), Change::Job(&one), Change::Task(&one.spec.id, &again)];
    store.write(&changes).expect("room");
    assert_eq!(states(&store.jobs().expect("two jobs")[0]), [Running, Staging, Staging]);

    store.write(&[Change::Task(&one.spec.id, &gone), Change::NoJob(&one.spec.id)]).expect("room");
    assert_eq!(store.jobs().expect("one job").len(), 1);
    store.write(&[Change::Job(&one)]).expect("room");
    assert_eq!(states(&store.jobs().expect("two jobs")[0]), [Staging; 3], "its earlier tasks went with it");
}

#[test]
fn a_task_of_an_earlier_generation_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let one = record("one", 2);
    let earlier = TaskRecord { id: TaskId::of(&one.spec.id, 0, 1), ..with(&one, 1, TaskState::Running) };
    store.write(&[Change::Job(&one), Change::Task(&one.spec.id, &earlier)]).expect("room");
    assert_eq!(states(&store.jobs().expect("a job")[0]), [TaskState::Staging; 2]);
}

#[test]
fn frameworks_keep_their_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let [streams, training] = Framework::usual();
    let ids = ["f1", "f2", "f3"].map(FrameworkId::new);
    store.write(&[Change::Framework(&streams, &ids[0]), Change::Framework(&training, &ids[1])]).expect("room");
    store.write(&[Change::Framework(&streams, &ids[2])]).expect("room");
    let kept = store.frameworks().expect("two frameworks");
    assert_eq!(kept, BTreeMap::from([(streams, ids[2].clone()), (training, ids[1].clone())]));
    assert!(store.schedules().expect("none").is_empty() && store.sweeps().expect("none").is_empty());
}
