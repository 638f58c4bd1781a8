//! One task of a stream is lost, and the others go on; or cannot.

use super::*;
use streaming::control::TaskSnapshot;

fn alone() -> JobBody {
    match stream() {
        JobBody::Stream(body) => JobBody::Stream(StreamBody { exchanges: false, ..body }),
        other => other,
    }
}

impl World {
    /// A stream of two tasks that run, with this many checkpoints.
    fn with_checkpoints(body: JobBody, n_epochs: u64) -> (Self, Vec<TaskId>) {
        let mut world = World::new();
        world.submit(vec![spec("s", body)]);
        let tasks = world.running("s");
        for epoch in 1..=n_epochs {
            world.checkpoint(&tasks, epoch);
        }
        world.seen();
        (world, tasks)
    }

    fn prepare(&mut self, tasks: &[TaskId], epoch: u64) {
        let (_, commands) = self.book.checkpoint(self.now_ms, "g").expect("it runs");
        self.carry(commands);
        for (index, task) in (0..).zip(tasks) {
            let snapshot = TaskSnapshot { index, ..TaskSnapshot::default() };
            self.report(task, Report::Snapshotted { epoch, snapshot, last: false });
        }
    }

    fn written(&mut self, epoch: u64) {
        self.apply(Event::ManifestWritten { job: JobId::of("g", "s"), generation: 1, epoch, result: Ok(()) });
    }

    fn checkpoint(&mut self, tasks: &[TaskId], epoch: u64) {
        self.prepare(tasks, epoch);
        self.written(epoch);
        for task in tasks {
            self.report(task, Report::Committed { epoch });
        }
    }

    /// Its agent saw the process end.
    fn exits(&mut self, task: &TaskId) {
        let status = Status {
            task: task.clone(),
            agent: "a1".into(),
            state: TaskState::Failed,
            reason: Reason::Exited,
            message: "signal 9".into(),
            uuid: "u".into(),
            exit_code: 0,
        };
        self.apply(Event::Update { framework: streams(), status });
    }

    fn told(&self) -> Vec<String> {
        self.job("s").events.into_iter().map(|event| event.text).collect()
    }

    fn barriers(&mut self) -> Vec<(TaskId, u64)> {
        let barrier = |command| match command {
            Command::Order { task, order: Order::Barrier { epoch, .. } } => Some((task, epoch)),
            _ => None,
        };
        self.seen().into_iter().filter_map(barrier).collect()
    }
}

#[test]
fn a_lost_task_starts_again_from_the_checkpoint_and_the_other_goes_on() {
    let (mut world, tasks) = World::with_checkpoints(alone(), 2);
    let metrics = streaming::control::Metrics { rows_in: 70, ..Default::default() };
    world.report(&tasks[1], Report::Metrics(metrics));
    world.exits(&tasks[1]);
    let commands = world.seen();
    assert!(kills(&commands).is_empty(), "{commands:?}");
    assert_eq!(demands(&commands, streams()), [1]);
    let job = world.job("s");
    assert_eq!((job.state.as_str(), job.generation, job.restarts, job.metrics.rows_in), ("running", 1, 1, 70));
    assert!(job.why.contains("task 1 starts again from checkpoint 2; needs 1 task of"), "{}", job.why);
    let wanted = "task 1 of 2 starts again from checkpoint 2; the other one goes on";
    assert!(world.told().iter().any(|text| text == wanted), "{:?}", world.told());

    // What the process said last is heard now, and is no longer true.
    world.report(&tasks[1], Report::InputEnded);
    world.report(&tasks[0], Report::InputEnded);
    world.hello("s", &tasks[1]);
    let commands = world.seen();
    assert_eq!(commands, [Command::Order { task: tasks[1].clone(), order: Order::Stop }]);

    world.offer(streams(), "o9", "a3");
    let launched = world.launched();
    assert_eq!(launched.len(), 1);
    let Payload::Plan(plan) = &launched[0].payload else { panic!("{launched:?}") };
    assert_eq!((plan.index, plan.life, plan.generation, plan.restore_epoch), (1, 1, 1, Some(2)));
    assert_eq!((plan.peers.len(), plan.claimed_us), (2, 1), "others are fenced by the same claim as before");
    assert!(plan.begun_us > plan.claimed_us);
    let second = launched[0].task.clone();
    assert_ne!(second, tasks[1], "a task id is never used again");
    world.update(&second, TaskState::Running);
    world.hello("s", &second);
    let barriers = world.barriers();
    assert!(barriers.is_empty(), "none is due: {barriers:?}");
    let restoring =
        streaming::control::Metrics { restore_bytes: 4_000_000, restored_bytes: 1_000_000, ..Default::default() };
    world.report(&second, Report::Metrics(restoring));
    let job = world.job("s");
    assert_eq!((job.metrics.restored_bytes, job.metrics.restore_bytes), (Some(1_000_000), Some(4_000_000)));
    assert!(job.why.contains(": 1.0 MB of 4.0 MB of state are read"), "{}", job.why);
    world.report(&second, Report::Ready);
    assert_eq!(world.job("s").metrics.restore_bytes, None, "it has all of it");
    assert_eq!(world.told().last().map(String::as_str), Some("task 1 of 2 runs again"));
    world.pass(2_000);
    let barriers = world.barriers();
    assert_eq!(barriers, [(tasks[0].clone(), 3), (second.clone(), 3)]);

    // The dead one is a stranger from now on.
    world.report(&tasks[1], Report::Snapshotted { epoch: 3, snapshot: TaskSnapshot::default(), last: false });
    world.update(&tasks[1], TaskState::Running);
    assert_eq!(kills(&world.seen()), [&tasks[1]]);
    let snapshot = TaskSnapshot::default();
    world.report(&tasks[0], Report::Snapshotted { epoch: 3, snapshot, last: false });
    assert!(
        !world.seen().iter().any(|command| matches!(command, Command::WriteManifest { .. })),
        "one share is missing"
    );

    // A third life begins later than the second, and not at once.
    world.exits(&second);
    assert!(world.told().iter().any(|text| text.contains("from checkpoint 2 in 200 ms")), "{:?}", world.told());
    world.offer(streams(), "o10", "a3");
    assert!(world.launched().is_empty());
    world.pass(200);
    world.offer(streams(), "o11", "a3");
    let third = world.launched();
    let Payload::Plan(later) = &third[0].payload else { panic!("{third:?}") };
    assert!((later.life, later.restore_epoch) == (2, Some(2)) && later.begun_us > plan.begun_us, "{later:?}");
}

#[test]
fn where_it_starts_again_is_decided_by_the_manifest_that_is_being_written() {
    let (mut world, tasks) = World::with_checkpoints(alone(), 1);
    world.prepare(&tasks, 2);
    world.exits(&tasks[1]);
    assert_eq!(demands(&world.seen(), streams()), [] as [u32; 0], "nobody knows yet what it would begin from");
    let why = world.job("s").why;
    assert!(why.contains("once the checkpoint that is being written is durable"), "{why}");
    world.written(2);
    world.offer(streams(), "o9", "a3");
    let launched = world.launched();
    let Payload::Plan(plan) = &launched[0].payload else { panic!("{launched:?}") };
    assert_eq!((plan.life, plan.restore_epoch), (1, Some(2)));
    // It finishes what was prepared for epoch 2, is told to commit it, and only then is the epoch complete.
    world.report(&tasks[0], Report::Committed { epoch: 2 });
    world.hello("s", &launched[0].task);
    let commit = Command::Order { task: launched[0].task.clone(), order: Order::Commit { epoch: 2 } };
    assert!(world.seen().contains(&commit));
    world.report(&launched[0].task, Report::Committed { epoch: 2 });
    assert!(world.seen().iter().any(|command| matches!(command, Command::CollectGarbage { .. })));
}

#[test]
fn all_start_again_where_one_alone_cannot() {
    // Rows pass between the tasks; or no checkpoint says yet what the task had.
    for (body, n_epochs) in [(stream(), 2), (alone(), 0)] {
        let (mut world, tasks) = World::with_checkpoints(body, n_epochs);
        world.exits(&tasks[1]);
        assert_eq!(kills(&world.seen()), [&tasks[0]]);
        assert_eq!((world.job("s").state.as_str(), world.job("s").restarts), ("restarting", 1));
    }
    // Whether the process has ended is not known, or it can do no better.
    for state in [TaskState::Unreachable, TaskState::Lost, TaskState::Unknown, TaskState::Killed] {
        let (mut world, tasks) = World::with_checkpoints(alone(), 2);
        world.update(&tasks[1], state);
        assert!(kills(&world.seen()).contains(&&tasks[0]), "{state}");
    }
    let (mut world, tasks) = World::with_checkpoints(alone(), 2);
    world.update_with(&tasks[1], TaskState::Failed, super::super::EXIT_FATAL);
    assert_eq!((world.job("s").state.as_str(), kills(&world.seen())), ("failed", vec![&tasks[0]]));
}

#[test]
fn a_runner_that_is_new_starts_all_again() {
    let (mut world, tasks) = World::with_checkpoints(alone(), 2);
    world.exits(&tasks[1]);
    let mut world = world.restarted(Some(&manifest(2)));
    assert_eq!(world.job("s").state, "restarting");
    world.update(&tasks[0], TaskState::Killed);
    world.pass(1);
    assert_eq!(world.job("s").generation, 2);
    // One that was given its new place already is found again.
    let (mut world, tasks) = World::with_checkpoints(alone(), 2);
    world.exits(&tasks[1]);
    world.offer(streams(), "o9", "a3");
    let launched = world.launched();
    let mut world = world.restarted(Some(&manifest(2)));
    for task in [&tasks[0], &launched[0].task] {
        world.update(task, TaskState::Running);
        world.hello("s", task);
    }
    assert_eq!((world.job("s").state.as_str(), world.job("s").generation), ("running", 1));
}

#[test]
fn a_stop_does_not_wait_for_a_task_that_is_missing() {
    let (mut world, tasks) = World::with_checkpoints(alone(), 2);
    world.exits(&tasks[1]);
    world.seen();
    let (_, commands) = world.book.stop(world.now_ms, "g").expect("it runs");
    assert_eq!(kills(&commands), [&tasks[0]]);
    world.carry(commands);
    world.offer(streams(), "o9", "a3");
    assert!(world.launched().is_empty());
    world.update(&tasks[0], TaskState::Killed);
    assert_eq!(world.job("s").state, "stopped");
}

/// Between whose tasks rows pass, they begin again together; the jobs of a file are apart from each other also then.
#[test]
fn a_lost_task_starts_no_other_job_of_its_file_again() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream()), spec("t", stream())]);
    let (tasks, others) = (world.running("s"), world.running("t"));
    world.seen();
    world.exits(&tasks[0]);
    assert_eq!(kills(&world.seen()), [&tasks[1]]);
    world.update(&tasks[1], TaskState::Killed);
    let (job, other) = (world.job("s"), world.job("t"));
    assert_eq!((job.generation, job.restarts), (2, 1));
    assert_eq!((other.state.as_str(), other.generation, other.restarts), ("running", 1, 0));
    let running: Vec<&str> = other.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(running, others.iter().map(TaskId::as_str).collect::<Vec<_>>());
}
