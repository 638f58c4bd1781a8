//! The spans of a job, told from records made here.

use super::*;
use crate::book::job::TaskRecord;
use jobs::{CommandBody, JobBody, JobSpec, Resources, Restart, Rules, TaskState};
use streaming::control::{Manifest, Metrics, TaskSnapshot};
use streaming::functions::Versions;

fn record(phase: Phase, generation: u64, tasks: &[&str]) -> Record {
    let spec = JobSpec {
        id: JobId::of("g", "j"),
        group: "g".to_string(),
        name: "j".to_string(),
        role: "default".to_string(),
        priority: 0,
        rules: Rules::default(),
        parallelism: 2,
        resources: Resources::new(),
        n_ports: 0,
        restart: Restart::Never,
        kill_grace_ms: 0,
        start_within_ms: 0,
        max_completion_ms: 0,
        unreachable_kill_ms: 0,
        volumes: Default::default(),
        user: None,
        after: Vec::new(),
        body: JobBody::Command(CommandBody::default()),
    };
    let task = |(index, id): (usize, &&str)| TaskRecord {
        id: TaskId::new(*id),
        index: index as u32,
        life: 0,
        agent: "a".into(),
        offer: "o".into(),
        host: "h".to_string(),
        port: None,
        state: TaskState::Running,
        reason: None,
        message: String::new(),
    };
    let mut record = Record::new(spec, "sub", 1_000);
    record.phase = phase;
    record.generation = generation;
    record.tasks = tasks.iter().enumerate().map(task).collect();
    record
}

/// What the watch says to these records and reports, each at its time.
struct World {
    watch: Watch,
    spans: Vec<Span>,
}

impl World {
    fn new() -> Self {
        Self { watch: Watch::new([7; 16]), spans: Vec::new() }
    }

    fn persist(&mut self, now_ms: u64, phase: Phase, generation: u64, tasks: &[&str]) {
        let commands = [Command::Persist(Box::new(record(phase, generation, tasks)))];
        self.spans.extend(self.watch.decided(now_ms, &commands));
    }

    fn report(&mut self, now_ms: u64, task: &str, report: Report) {
        self.watch.heard(now_ms, &Event::StreamReport { task: TaskId::new(task), report });
        self.spans.extend(self.watch.decided(now_ms, &[]));
    }

    fn told(&self) -> Vec<(&str, u64, u64)> {
        self.spans.iter().map(|span| (span.name, span.start_ms, span.end_ms)).collect()
    }
}

fn flows() -> Report {
    Report::Metrics(Metrics { rows_in: 1, ..Metrics::default() })
}

fn started(world: &mut World) {
    world.persist(1_001, Phase::Waiting, 0, &[]);
    world.persist(1_002, Phase::Preparing, 1, &[]);
    world.persist(1_010, Phase::Placing, 1, &[]);
    world.persist(1_020, Phase::Launching, 1, &["t0", "t1"]);
    world.report(1_030, "t0", Report::Ready);
    // Rows of one flow while the other is not ready.
    world.report(1_035, "t0", flows());
    world.report(1_040, "t1", Report::Ready);
    world.persist(1_040, Phase::Running, 1, &["t0", "t1"]);
    world.report(1_050, "t1", flows());
}

#[test]
fn a_submission_is_followed_to_its_first_row() {
    let mut world = World::new();
    world.watch.submitted(&["g/j".to_string()], Parent { trace: [9; 16], span: [8; 8] });
    started(&mut world);
    let expected = [
        ("wait for jobs before it", 1_001, 1_002),
        ("look up the last checkpoint", 1_002, 1_010),
        ("wait for offers", 1_010, 1_020),
        ("start task", 1_020, 1_030),
        ("start task", 1_020, 1_040),
        ("launch", 1_020, 1_040),
        ("wait for the first record", 1_040, 1_050),
        ("submit", 1_000, 1_050),
    ];
    assert_eq!(world.told(), expected);
    let (root, parts) = world.spans.split_last().expect("spans");
    assert_eq!((root.trace, root.parent), ([9; 16], Some([8; 8])));
    assert!(parts.iter().all(|part| part.parent == Some(root.id) && part.trace == root.trace));
    let ids: BTreeSet<[u8; 8]> = world.spans.iter().map(|span| span.id).collect();
    assert_eq!(ids.len(), world.spans.len());
    // More rows are no news; another generation is a trace of its own.
    world.report(1_060, "t1", flows());
    world.persist(2_000, Phase::Restarting { until_ms: 2_100 }, 1, &["t0", "t1"]);
    assert_eq!(world.spans.len(), expected.len());
    world.persist(2_100, Phase::Preparing, 2, &[]);
    world.persist(2_200, Phase::Failed { error: "no disk".to_string() }, 2, &[]);
    let last = world.spans.last().expect("a span");
    assert_eq!((last.name, last.start_ms, last.end_ms), ("start again", 2_100, 2_200));
    assert!(last.error.as_deref() == Some("no disk") && last.trace != [9; 16] && last.parent.is_none(), "{last:?}");
}

#[test]
fn a_checkpoint_is_followed_from_its_barrier_to_the_last_commit() {
    let mut world = World::new();
    started(&mut world);
    world.spans.clear();
    let barrier = |task: &str, epoch| Command::Order {
        task: TaskId::new(task),
        order: Order::Barrier { epoch, last: false, versions: Versions::new() },
    };
    let snapshot = |epoch| Report::Snapshotted { epoch, snapshot: TaskSnapshot::default(), last: false };
    world.spans.extend(world.watch.decided(2_000, &[barrier("t0", 1), barrier("t1", 1)]));
    world.report(2_010, "t0", snapshot(1));
    world.report(2_020, "t1", snapshot(1));
    let manifest = Box::new(Manifest { epoch: 1, ..Manifest::default() });
    let write = Command::WriteManifest { job: JobId::of("g", "j"), folder: String::new(), manifest };
    world.spans.extend(world.watch.decided(2_020, &[write]));
    let written = |result| Event::ManifestWritten { job: JobId::of("g", "j"), generation: 1, epoch: 1, result };
    world.watch.heard(2_030, &written(Ok(())));
    world.report(2_040, "t0", Report::Committed { epoch: 1 });
    world.report(2_050, "t1", Report::Committed { epoch: 1 });
    let expected = [
        ("snapshot", 2_000, 2_010),
        ("snapshot", 2_000, 2_020),
        ("manifest", 2_020, 2_030),
        ("commit", 2_030, 2_040),
        ("commit", 2_030, 2_050),
        ("checkpoint", 2_000, 2_050),
    ];
    assert_eq!(world.told(), expected);
    assert!(world.spans.iter().all(|span| span.error.is_none() && span.trace == world.spans[0].trace));

    // One that a newer one takes the place of came to nothing.
    world.spans.clear();
    world.spans.extend(world.watch.decided(3_000, &[barrier("t0", 2)]));
    world.spans.extend(world.watch.decided(4_000, &[barrier("t0", 3)]));
    assert_eq!(world.told(), [("checkpoint", 3_000, 4_000)]);
    assert_eq!(world.spans[0].error.as_deref(), Some("given up"));
    // What is forgotten is not remembered.
    let gone = Command::Forget(Box::new(record(Phase::Stopped, 1, &[])));
    world.watch.decided(5_000, &[gone]);
    assert!(world.watch.starts.is_empty() && world.watch.epochs.is_empty() && world.watch.jobs.is_empty());
}

#[test]
fn the_header_of_a_trace_is_read_as_the_w3c_says() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let good = format!("00-{trace}-00f067aa0ba902b7-01");
    let parent = Parent::read(&good).expect("a parent");
    assert_eq!((parent.trace[0], parent.span[7]), (0x4b, 0xb7));
    // A version of later years may say more.
    assert!(Parent::read(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
    for bad in [
        String::new(),
        "00-1-2-3".to_string(),
        format!("{good}-more"),
        format!("ff-{trace}-00f067aa0ba902b7-01"),
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00-{trace}-0000000000000000-01"),
        format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
    ] {
        assert_eq!(Parent::read(&bad), None, "{bad}");
    }
}
