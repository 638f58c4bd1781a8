//! The book alone, driven through whole lives of jobs: no master, no agent, no clock.

mod elastic;
mod evaluator;
mod gang;
mod models;
mod preemption;
mod region;
mod runs;
mod schedules;
mod sweeps;

use super::job::Record;
use super::placement::HeldOffer;
use super::{Book, Command, Config, Event, Framework, Launch, Payload, Prepared, Resume, Status};
use crate::view::JobView;
use jobs::{CommandBody, JobBody, JobId, JobSpec, Reason, Resources, Restart, Rules, StreamBody, TaskId, TaskState};
use std::collections::BTreeMap;
use streaming::control::{Manifest, Order, Report};
use streaming::functions::Versions;

fn streams() -> Framework {
    let [streams, _] = Framework::usual();
    streams
}

fn training() -> Framework {
    let [_, training] = Framework::usual();
    training
}

struct World {
    book: Book,
    now_ms: u64,
    /// Everything that was asked for since it was last looked at.
    commands: Vec<Command>,
    /// The store: what a next runner would find.
    records: BTreeMap<JobId, Record>,
}

fn config() -> Config {
    Config { endpoint: "http://127.0.0.1:1".into(), data_dir: "/nowhere".into(), hold_ms: 3_000 }
}

fn stream() -> JobBody {
    JobBody::Stream(StreamBody {
        sql: String::new(),
        statements: vec![0],
        base_dir: "/".into(),
        checkpoint_interval_ms: 1_000,
        checkpoint_dir: None,
        checkpoint_retain: 3,
        state_memory_bytes: None,
        models: Vec::new(),
        keeps_versions: false,
        fingerprint: "f".into(),
        bounded: true,
        exchanges: true,
        batch: false,
    })
}

fn command() -> JobBody {
    JobBody::Command(CommandBody { argv: vec!["true".into()], ..CommandBody::default() })
}

/// Two tasks of one core each.
fn spec(name: &str, body: JobBody) -> JobSpec {
    JobSpec {
        id: JobId::of("g", name),
        group: "g".into(),
        name: name.into(),
        role: "default".into(),
        priority: 0,
        rules: Rules::default(),
        parallelism: 2,
        resources: Resources::new().cpus(1.0),
        n_ports: 0,
        restart: Restart::OnFailure,
        kill_grace_ms: 5_000,
        start_within_ms: 0,
        max_completion_ms: 0,
        unreachable_kill_ms: 0,
        volumes: BTreeMap::new(),
        user: None,
        after: Vec::new(),
        body,
    }
}

fn manifest(epoch: u64) -> Manifest {
    Manifest {
        format: streaming::coordinator::manifest::FORMAT,
        job: "g/s@sub".into(),
        generation: 1,
        epoch,
        fingerprint: "f".into(),
        claimed_us: 1,
        ..Manifest::default()
    }
}

impl World {
    /// Both frameworks are subscribed, and nothing was submitted.
    fn new() -> Self {
        Self::with(BTreeMap::new(), None)
    }

    fn with(records: BTreeMap<JobId, Record>, latest: Option<&Manifest>) -> Self {
        let kept = records.values().map(|record| (record.clone(), latest.cloned())).collect();
        let book = Book::new(config(), BTreeMap::new(), kept);
        let mut world = Self { book, now_ms: 1_000_000, commands: Vec::new(), records };
        for framework in Framework::usual() {
            let id = framework.name().into();
            world.apply(Event::Subscribed { framework, id });
        }
        world.seen();
        world
    }

    /// The runner dies and another takes its place.
    fn restarted(self, latest: Option<&Manifest>) -> Self {
        Self::with(self.records, latest)
    }

    fn carry(&mut self, commands: Vec<Command>) {
        for command in &commands {
            if let Command::Persist(record) = command {
                self.records.insert(record.spec.id.clone(), record.as_ref().clone());
            }
            if let Command::PersistTask { job, task } = command {
                let record = self.records.get_mut(job).expect("the record of its job is kept before");
                let at = record.place_of(&task.id).expect("it is one of the record's tasks");
                record.tasks[at] = task.as_ref().clone();
            }
            if let Command::Accept { launch, .. } = command {
                for launch in launch {
                    let known =
                        self.records.values().flat_map(|record| &record.tasks).any(|task| task.id == launch.task);
                    assert!(known, "{} is launched and no later runner would know it", launch.task);
                }
            }
        }
        self.commands.extend(commands);
    }

    fn apply(&mut self, event: Event) {
        let commands = self.book.apply(self.now_ms, event);
        self.carry(commands);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.apply(Event::Tick);
    }

    fn submit(&mut self, specs: Vec<JobSpec>) {
        let (_, commands) = self.book.submit(self.now_ms, specs, "sub", Resume::Anew).expect("a new group");
        self.carry(commands);
    }

    fn offer(&mut self, framework: Framework, id: &str, agent: &str) {
        let offer = HeldOffer {
            id: id.into(),
            agent: agent.into(),
            host: "127.0.0.1".into(),
            resources: Resources::new().cpus(1.0),
            attributes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            drains: false,
            held_since_ms: self.now_ms,
        };
        self.apply(Event::Offer { framework, offer });
    }

    fn update_with(&mut self, task: &TaskId, state: TaskState, exit_code: i32) {
        let status = Status {
            task: task.clone(),
            agent: "a1".into(),
            state,
            reason: Reason::None,
            message: String::new(),
            uuid: "u".into(),
            exit_code,
        };
        self.apply(Event::Update { framework: streams(), status });
    }

    fn update(&mut self, task: &TaskId, state: TaskState) {
        self.update_with(task, state, 0);
    }

    fn report(&mut self, task: &TaskId, report: Report) {
        self.apply(Event::StreamReport { task: task.clone(), report });
    }

    fn job(&self, name: &str) -> JobView {
        let id = format!("g/{name}");
        self.book.job_views(self.now_ms).into_iter().find(|job| job.id == id).expect("the job")
    }

    fn seen(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Tasks launched since the last look.
    fn launched(&mut self) -> Vec<Launch> {
        self.seen()
            .into_iter()
            .filter_map(|command| if let Command::Accept { launch, .. } = command { Some(launch) } else { None })
            .flatten()
            .collect()
    }

    /// Answers the lookup of checkpoints, offers two agents, and gives the tasks that were launched.
    fn placed(&mut self, name: &str, latest: Option<Manifest>) -> Vec<Launch> {
        let generation = self.job(name).generation;
        let result = Ok(Prepared { claimed_us: generation as i64, latest, versions: Versions::new() });
        self.apply(Event::Prepared { job: JobId::of("g", name), generation, result });
        self.offer(streams(), &format!("o1-{generation}"), "a1");
        self.offer(streams(), &format!("o2-{generation}"), "a2");
        self.launched()
    }

    /// A stream of two tasks that run.
    fn running(&mut self, name: &str) -> Vec<TaskId> {
        let tasks: Vec<TaskId> = self.placed(name, None).into_iter().map(|launch| launch.task).collect();
        for task in &tasks {
            self.update(task, TaskState::Running);
            self.hello(name, task);
            self.report(task, Report::Ready);
        }
        assert_eq!(self.job(name).state, "running");
        tasks
    }

    fn hello(&mut self, name: &str, task: &TaskId) {
        let generation = self.job(name).generation;
        self.apply(Event::TaskHello { task: task.clone(), job: JobId::of("g", name), generation });
    }
}

fn demands(commands: &[Command], framework: Framework) -> Vec<u32> {
    let counts = commands.iter().filter_map(|command| match command {
        Command::Demand { framework: of, demands } if *of == framework => {
            Some(demands.iter().map(|demand| demand.count).sum())
        }
        _ => None,
    });
    counts.collect()
}

fn kills(commands: &[Command]) -> Vec<&TaskId> {
    commands
        .iter()
        .filter_map(|command| if let Command::Kill { task, .. } = command { Some(task) } else { None })
        .collect()
}

#[test]
fn what_happened_to_a_job_is_known_to_the_next_runner() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    for launch in world.placed("s", None) {
        world.update(&launch.task, TaskState::Running);
        world.report(&launch.task, Report::Ready);
    }
    let told = |world: &World| -> Vec<String> { world.job("s").events.into_iter().map(|event| event.text).collect() };
    let before = told(&world);
    assert!(before.iter().any(|text| text == "all 2 tasks of generation 1 run"), "{before:?}");
    let after = told(&world.restarted(None));
    assert_eq!(after[..before.len()], before);
}

#[test]
fn a_stream_is_placed_runs_and_goes_on_from_its_checkpoint() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    assert!(
        world.seen().iter().any(|command| matches!(command, Command::Prepare { generation: 1, .. })),
        "its folder is claimed before anything is asked for"
    );
    let first = world.placed("s", None);
    let agents: Vec<&str> = first.iter().map(|launch| launch.agent.as_str()).collect();
    assert_eq!(agents, ["a1", "a2"]);
    for launch in &first {
        let Payload::Plan(plan) = &launch.payload else { panic!("{launch:?}") };
        assert_eq!((plan.generation, plan.restore_epoch, plan.peers.len()), (1, None, 2));
    }
    for launch in &first {
        world.update(&launch.task, TaskState::Running);
        assert_eq!(world.job("s").state, "launching", "a process that runs is not ready yet");
        world.report(&launch.task, Report::Ready);
    }
    assert_eq!(world.job("s").state, "running");
    assert_eq!(demands(&world.seen(), streams()), [] as [u32; 0], "what is placed is asked for no more");

    world.update(&first[0].task, TaskState::Failed);
    assert_eq!(kills(&world.seen()), [&first[1].task], "a generation ends as a whole");
    world.pass(10_000);
    assert_eq!(world.job("s").generation, 1, "the old generation is waited for");
    world.update(&first[1].task, TaskState::Killed);
    assert_eq!((world.job("s").generation, world.job("s").restarts), (2, 1));
    let second = world.placed("s", Some(manifest(7)));
    assert_eq!(second.len(), 2);
    for (before, after) in first.iter().zip(&second) {
        let Payload::Plan(plan) = &after.payload else { panic!("{after:?}") };
        assert_eq!((plan.generation, plan.restore_epoch), (2, Some(7)));
        assert_ne!(before.task, after.task, "a task id is never used again");
    }
}

#[test]
fn demand_is_posted_once_and_cleared_when_it_is_met() {
    let mut world = World::new();
    world.submit(vec![spec("c", command())]);
    assert_eq!(demands(&world.seen(), training()), [2]);
    world.pass(50);
    assert_eq!(demands(&world.seen(), training()), [] as [u32; 0], "it has not changed");
    world.offer(training(), "o1", "a1");
    world.offer(training(), "o2", "a2");
    assert_eq!(demands(&world.seen(), training()), [0]);
    // A master that was away knows nothing of it.
    world.submit(vec![JobSpec { group: "h".into(), id: JobId::of("h", "c"), ..spec("c", command()) }]);
    assert_eq!(demands(&world.seen(), training()), [2]);
    world.apply(Event::Disconnected { framework: training() });
    world.apply(Event::Subscribed { framework: training(), id: "smack-training".into() });
    assert_eq!(demands(&world.seen(), training()), [2]);
}

#[test]
fn a_gang_is_placed_whole_or_not_at_all() {
    let mut world = World::new();
    world.submit(vec![spec("c", command())]);
    world.seen();
    world.offer(training(), "o1", "a1");
    world.pass(1_000);
    assert!(world.launched().is_empty(), "one core is not two");
    world.pass(3_000);
    let declined = world.seen();
    assert!(
        declined.iter().any(|command| matches!(command, Command::Decline { refuse_ms, .. } if *refuse_ms > 0)),
        "what does not suffice is given back for others to use: {declined:?}"
    );
    world.offer(training(), "o2", "a1");
    world.apply(Event::Rescinded { framework: training(), offer: "o2".into() });
    world.offer(training(), "o3", "a2");
    assert!(world.launched().is_empty(), "an offer that was taken back is not used");
    world.offer(training(), "o4", "a1");
    assert_eq!(world.launched().len(), 2);
}

#[test]
fn offers_that_nobody_needs_are_given_back_at_once() {
    let mut world = World::new();
    world.offer(streams(), "o1", "a1");
    let commands = world.seen();
    let given_back = Command::Decline { framework: streams(), offers: vec!["o1".into()], refuse_ms: 0 };
    assert!(commands.contains(&given_back), "{commands:?}");
}

#[test]
fn what_comes_after_waits_and_says_for_whom() {
    let mut world = World::new();
    let after = JobSpec { after: vec![JobId::of("g", "s")], ..spec("c", command()) };
    world.submit(vec![spec("s", stream()), after]);
    let tasks = world.running("s");
    let waiting = world.job("c");
    assert_eq!((waiting.state.as_str(), waiting.why.as_str()), ("waiting", "waits for g/s (running)"));
    assert_eq!(demands(&world.seen(), training()), [] as [u32; 0]);
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    assert_eq!(world.job("s").state, "finished");
    assert_eq!(world.job("c").state, "placing");
    assert_eq!(demands(&world.seen(), training()), [2]);
}

#[test]
fn an_end_that_cannot_be_helped_fails_the_job() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.update_with(&tasks[1], TaskState::Failed, super::EXIT_FATAL);
    assert_eq!(world.job("s").state, "failed");
    assert_eq!(kills(&world.seen()), [&tasks[0]]);
}

#[test]
fn a_command_may_end_with_any_code_and_is_started_again_as_it_asks() {
    let ends = [
        (Restart::OnFailure, TaskState::Failed, "placing"),
        (Restart::OnFailure, TaskState::Finished, "finished"),
        (Restart::Always, TaskState::Finished, "placing"),
        (Restart::Never, TaskState::Failed, "failed"),
    ];
    for (restart, end, state) in ends {
        let mut world = World::new();
        world.submit(vec![JobSpec { restart, parallelism: 1, ..spec("c", command()) }]);
        world.offer(training(), "o1", "a1");
        let launched = world.launched();
        world.update(&launched[0].task, TaskState::Running);
        assert_eq!(world.job("c").state, "running");
        world.update_with(&launched[0].task, end, super::EXIT_FATAL);
        assert_eq!(world.job("c").state, state, "{restart:?} {end:?}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_can_be_mended() {
    for (restart, state) in [(Restart::OnFailure, "restarting"), (Restart::Never, "failed")] {
        let mut world = World::new();
        world.submit(vec![JobSpec { restart, ..spec("s", stream()) }]);
        let result = Err("failed to read x: it is damaged".to_string());
        world.apply(Event::Prepared { job: JobId::of("g", "s"), generation: 1, result });
        let job = world.job("s");
        assert_eq!(job.state, state);
        assert!(job.why.contains("failed to read x: it is damaged"), "{}", job.why);
    }
}

/// Also by a runner that was not there when it was asked for.
#[test]
fn a_stop_takes_a_last_checkpoint() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.seen();
    let (_, commands) = world.book.stop(world.now_ms, "g").expect("the group");
    let last = |command: &Command| matches!(command, Command::Order { order: Order::Barrier { last: true, .. }, .. });
    assert_eq!(commands.iter().filter(|command| last(command)).count(), 2, "{commands:?}");
    world.carry(commands);

    let mut world = world.restarted(None);
    for task in &tasks {
        world.hello("s", task);
    }
    assert_eq!(world.seen().iter().filter(|command| last(command)).count(), 2);
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    assert_eq!(world.job("s").state, "stopped", "not finished: there was more to read");
}

#[test]
fn a_kill_that_was_lost_is_said_again() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.update(&tasks[0], TaskState::Failed);
    world.seen();
    world.apply(Event::Disconnected { framework: streams() });
    world.apply(Event::Subscribed { framework: streams(), id: "smack-streams".into() });
    assert_eq!(kills(&world.seen()), [&tasks[1]]);
}

#[test]
fn a_task_that_nobody_wants_is_killed_and_its_end_acknowledged() {
    let mut world = World::new();
    let stranger = TaskId::new("g.s.9.0.old");
    world.update(&stranger, TaskState::Running);
    assert_eq!(kills(&world.seen()), [&stranger]);
    world.update(&stranger, TaskState::Killed);
    let commands = world.seen();
    assert!(kills(&commands).is_empty());
    assert!(commands.iter().any(|command| matches!(command, Command::Acknowledge { .. })), "{commands:?}");
    world.apply(Event::TaskHello { task: stranger.clone(), job: "g/s".into(), generation: 9 });
    assert!(world.seen().contains(&Command::Order { task: stranger, order: Order::Stop }));
}

#[test]
fn a_stream_changes_its_tasks_also_when_the_runner_dies_in_between() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.seen();
    let (told, commands) = world.book.scale(world.now_ms, "g", 1).expect("it runs");
    world.carry(commands);
    assert_eq!(told, ["g/s"]);
    let last = |command: &Command| matches!(command, Command::Order { order: Order::Barrier { last: true, .. }, .. });
    assert!(world.seen().iter().any(last), "a last checkpoint comes first");
    let mut world = world.restarted(Some(&manifest(3)));
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    let job = world.job("s");
    assert_eq!((job.generation, job.parallelism, job.restarts), (2, 1, 0));
    let launched = world.placed("s", Some(manifest(3)));
    let Payload::Plan(plan) = &launched[0].payload else { panic!("{launched:?}") };
    assert_eq!((launched.len(), plan.restore_epoch), (1, Some(3)));
    assert!(world.book.scale(world.now_ms, "nobody", 1).is_err());
}

#[test]
fn a_stopped_stream_is_gone_on_with_under_its_old_name() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let refused =
        world.book.submit(world.now_ms, vec![spec("s", stream())], "new", Resume::Latest).expect_err("it runs");
    assert!(refused.contains("already there"), "{refused}");
    let tasks = world.running("s");
    let (_, commands) = world.book.stop(world.now_ms, "g").expect("it runs");
    world.carry(commands);
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    assert_eq!(world.job("s").state, "stopped");
    world.seen();
    let changed = JobSpec { parallelism: 1, ..spec("s", stream()) };
    let (_, commands) = world.book.submit(world.now_ms, vec![changed], "new", Resume::Latest).expect("it is stopped");
    world.carry(commands);
    assert!(!world.seen().iter().any(|command| matches!(command, Command::Forget(_))), "its folder stays");
    let launched = world.placed("s", Some(manifest(9)));
    let Payload::Plan(plan) = &launched[0].payload else { panic!("{launched:?}") };
    assert_eq!((plan.submission.as_str(), plan.generation, plan.restore_epoch), ("sub", 2, Some(9)));
}

#[test]
fn a_stopped_stream_goes_back_to_a_savepoint_once() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    let (_, commands) = world.book.stop(world.now_ms, "g").expect("it runs");
    world.carry(commands);
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    world.seen();
    let resume = Resume::From("before".to_string());
    let (_, commands) =
        world.book.submit(world.now_ms, vec![spec("s", stream())], "new", resume).expect("it is stopped");
    world.carry(commands);
    let from = world.seen().into_iter().find_map(|command| match command {
        Command::Prepare { from, .. } => from,
        _ => None,
    });
    assert_eq!(from.as_deref(), Some("before"));
    world.placed("s", Some(manifest(9)));
    // The next generation goes on from what this one leaves.
    assert_eq!(world.book.jobs[&JobId::of("g", "s")].record.resume_from, None);
}

#[test]
fn checkpoints_on_s3_have_a_place_for_each_submission() {
    let JobBody::Stream(body) = stream() else { panic!("a stream") };
    let place = |dir: Option<&str>| {
        let body = StreamBody { checkpoint_dir: dir.map(str::to_string), ..body.clone() };
        let record = Record::new(spec("s", JobBody::Stream(body)), "sub", 0);
        super::checkpoint_folder(&config(), &record)
    };
    assert_eq!(place(Some("s3://bucket/a/")), "s3://bucket/a/g/s/sub");
    assert_eq!(place(Some("s3://bucket")), "s3://bucket/g/s/sub");
    assert_eq!(place(Some("/kept")), "/kept/g/s/sub");
    assert!(place(None).ends_with("jobs/g/s/sub/checkpoints"), "{}", place(None));
}

#[test]
fn what_runs_on_a_drained_agent_moves_and_nothing_else() {
    let mut world = World::new();
    world.submit(vec![spec("s", stream())]);
    let tasks = world.running("s");
    world.seen();
    let drains = |agent: &str, framework| Event::Draining { framework, agent: agent.into(), ends_in_ms: 60_000 };
    world.apply(drains("a9", streams()));
    world.apply(drains("a1", training()));
    assert_eq!(world.job("s").state, "running", "it has nothing there");
    world.apply(drains("a1", streams()));
    assert_eq!(world.job("s").state, "stopping", "a last checkpoint comes first");
    world.apply(drains("a1", streams()));
    for task in &tasks {
        world.update(task, TaskState::Finished);
    }
    let job = world.job("s");
    assert_eq!((job.state.as_str(), job.generation, job.restarts), ("placing", 2, 0), "{job:?}");
    assert_eq!(world.placed("s", Some(manifest(3))).len(), 2);
}
