//! What the agent promises: one start for each task, reliable updates, kills that only get shorter, recovery.

mod lending;

use super::*;
use crate::model::Acknowledgement;
use jobs::volumes::VolumeClaim;
use jobs::{Artifact, Resources};

struct Desk {
    agent: Agent,
    now_ms: u64,
    log: Vec<Record>,
}

fn config() -> Config {
    Config::new(AgentInfo {
        agent_id: "a".into(),
        host: "localhost".into(),
        total: Resources::new().cpus(4.0),
        attributes: BTreeMap::new(),
        http_endpoint: String::new(),
        reserved: Vec::new(),
    })
}

fn key(id: &str) -> TaskKey {
    TaskKey::new("f".into(), id.into())
}

impl Desk {
    /// Registered with a master of epoch 5 on connection 1.
    fn new() -> Self {
        let mut desk = Self::recovered(Vec::new(), |_| {}).0;
        desk.apply(Event::Connected { connection: ConnectionId(1) });
        desk.registered(1, 5);
        desk
    }

    /// A new process over an old log.
    fn recovered(log: Vec<Record>, look: impl Fn(&mut RecoveredTask)) -> (Self, Vec<Command>) {
        let mut recovered = Recovered::replay(log.clone());
        recovered.tasks.iter_mut().for_each(look);
        let (agent, commands) = Agent::new(config(), recovered, 0);
        let mut desk = Self { agent, now_ms: 0, log };
        desk.keep(&commands);
        (desk, commands)
    }

    fn keep(&mut self, commands: &[Command]) {
        let persisted = commands.iter().filter_map(|command| match command {
            Command::Persist(record) => Some(record.clone()),
            _ => None,
        });
        self.log.extend(persisted);
    }

    fn apply(&mut self, event: Event) -> Vec<Command> {
        let commands = self.agent.apply(self.now_ms, event);
        self.keep(&commands);
        commands
    }

    fn at(&mut self, now_ms: u64) -> Vec<Command> {
        self.now_ms = now_ms;
        self.apply(Event::Tick)
    }

    fn order(&mut self, connection: u64, order: AgentOrder) -> Vec<Command> {
        self.apply(Event::FromMaster { connection: ConnectionId(connection), order })
    }

    fn registered(&mut self, connection: u64, leader_epoch: u64) -> Vec<Command> {
        // Beats so rare that only what a test is about happens.
        let order = AgentOrder::Registered { agent_id: "a".into(), heartbeat_ms: 10_000_000, leader_epoch };
        self.order(connection, order)
    }

    fn launch(&mut self, id: &str) -> Vec<Command> {
        let task = TaskInfo { task_id: id.into(), kill_grace_ms: 3_000, ..Default::default() };
        self.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) })
    }

    fn running(&mut self, id: &str) {
        self.launch(id);
        self.apply(Event::Started { task: key(id), pid: 7 });
    }

    fn kill(&mut self, id: &str, grace_ms: Option<u64>) -> Vec<Command> {
        self.order(1, AgentOrder::Kill { framework_id: "f".into(), task_id: id.into(), grace_ms, cause: None })
    }

    fn acknowledge(&mut self, connection: u64, id: &str, uuid: &str) -> Vec<Command> {
        let acknowledgement = Acknowledgement { agent_id: "a".into(), task_id: id.into(), uuid: uuid.into() };
        self.order(connection, AgentOrder::Acknowledge { framework_id: "f".into(), acknowledgement })
    }
}

/// Each command in a few letters.
fn brief(commands: &[Command]) -> Vec<String> {
    let brief = |command: &Command| match command {
        Command::KeepVolume { volume } => format!("keep {}", volume.key),
        Command::RemoveVolume { key } => format!("remove {key}"),
        Command::Persist(Record::Launched { .. }) => "log launched".to_string(),
        Command::Persist(Record::Started { pid, .. }) => format!("log pid {pid}"),
        Command::Persist(Record::Update { status, .. }) => format!("log {}", status.state),
        Command::Persist(Record::Acknowledged { uuid, .. }) => format!("log ack {uuid}"),
        Command::Persist(Record::Removed { .. }) => "log removed".into(),
        Command::Send { call: AgentCall::Update { status, .. }, .. } => format!("send {}", status.state),
        Command::Send { call: AgentCall::Register { tasks, .. }, .. } => format!("register {}", tasks.len()),
        Command::Send { call: AgentCall::VolumeDestroyed { key }, .. } => format!("destroyed {key}"),
        Command::Send { call: AgentCall::Lends { lent }, .. } => {
            format!("lends {} cpus {} mem", lent.get("cpus:revocable"), lent.get("mem:revocable"))
        }
        Command::Send { call: AgentCall::Heartbeat, .. } => "beat".into(),
        Command::Close { connection } => format!("close {}", connection.0),
        Command::Start { .. } => "start".into(),
        Command::Signal { signal, .. } => format!("{signal:?}").to_lowercase(),
        Command::Probe { timeout_ms, .. } => format!("probe {timeout_ms}"),
        Command::GiveUp { task } => format!("give up {}", task.task_id),
        Command::Exit { message } => format!("exit: {message}"),
    };
    commands.iter().map(brief).collect()
}

#[test]
fn a_task_is_started_once_and_persisted_before_it_is_told() {
    let mut desk = Desk::new();
    assert_eq!(brief(&desk.launch("t")), ["log launched", "start"]);
    assert_eq!(brief(&desk.launch("t")), [""; 0]);
    let started = desk.apply(Event::Started { task: key("t"), pid: 7 });
    assert_eq!(brief(&started), ["log pid 7", "log running", "send running"]);
    assert_eq!(brief(&desk.apply(Event::Started { task: key("t"), pid: 8 })), [""; 0]);
    let exited = desk.apply(Event::Exited { task: key("t"), exit: Exit::Code(0) });
    assert_eq!(brief(&exited), ["log finished"], "the first update is still in flight");
    assert_eq!(brief(&desk.acknowledge(1, "t", "t-1")), ["log ack t-1", "send finished"]);
    assert_eq!(brief(&desk.acknowledge(1, "t", "t-1")), [""; 0]);
    assert_eq!(brief(&desk.acknowledge(1, "t", "t-2")), ["log ack t-2", "log removed"]);
    assert_eq!(desk.agent.next_wakeup(), Some(10_000_000), "only the heartbeat is left");
}

#[test]
fn a_task_that_is_fetched_for_is_given_up_when_it_is_killed() {
    let mut desk = Desk::new();
    let fetching = |desk: &mut Desk, id: &str| {
        let artifacts = vec![Artifact { from: "/a".into(), path: "a".into(), ..Default::default() }];
        let task = TaskInfo { task_id: id.into(), artifacts, ..Default::default() };
        desk.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) })
    };
    let unfetched =
        |id: &str| Event::StartFailed { task: key(id), reason: Reason::FetchFailed, message: "there is no /a".into() };
    let end_of = |commands: Vec<Command>| {
        commands.into_iter().find_map(|command| match command {
            Command::Persist(Record::Update { status, .. }) => Some((status.state, status.reason)),
            _ => None,
        })
    };
    assert_eq!(brief(&fetching(&mut desk, "t")), ["log launched", "start", "log staging", "send staging"]);
    assert_eq!(end_of(desk.apply(unfetched("t"))), Some((TaskState::Failed, Reason::FetchFailed)));
    fetching(&mut desk, "killed");
    assert_eq!(brief(&desk.kill("killed", None)), ["give up killed"]);
    assert_eq!(end_of(desk.apply(unfetched("killed"))), Some((TaskState::Killed, Reason::KillRequested)));
    // It was too late to give it up.
    fetching(&mut desk, "late");
    desk.kill("late", Some(100));
    assert!(brief(&desk.apply(Event::Started { task: key("late"), pid: 7 })).contains(&"term".to_string()));
}

#[test]
fn ends_are_told_apart() {
    let mut desk = Desk::new();
    let end_of = |commands: Vec<Command>| {
        commands.into_iter().find_map(|command| match command {
            Command::Persist(Record::Update { status, .. }) => Some((status.state, status.reason, status.exit_code)),
            _ => None,
        })
    };
    desk.launch("unstarted");
    let failed = desk.apply(Event::StartFailed {
        task: key("unstarted"),
        reason: Reason::LaunchFailed,
        message: "no such file".into(),
    });
    assert_eq!(end_of(failed), Some((TaskState::Failed, Reason::LaunchFailed, 0)));
    for (id, exit, expected) in [
        ("done", Exit::Code(0), (TaskState::Finished, Reason::None, 0)),
        ("wrong", Exit::Code(3), (TaskState::Failed, Reason::Exited, 3)),
        ("crashed", Exit::Signal(11), (TaskState::Failed, Reason::Exited, -11)),
        ("abandoned", Exit::Abandoned, (TaskState::Failed, Reason::AgentRestarted, 0)),
        ("unseen", Exit::Unseen, (TaskState::Failed, Reason::Exited, 0)),
    ] {
        desk.running(id);
        assert_eq!(end_of(desk.apply(Event::Exited { task: key(id), exit })), Some(expected));
    }
    desk.running("killed");
    desk.kill("killed", None);
    let killed = desk.apply(Event::Exited { task: key("killed"), exit: Exit::Signal(15) });
    assert_eq!(end_of(killed), Some((TaskState::Killed, Reason::KillRequested, -15)));
}

#[test]
fn who_is_ended_for_others_is_told_what_for_over_a_restart_too() {
    let updates = |commands: &[Command]| -> Vec<TaskStatus> {
        let updates = commands.iter().filter_map(|command| match command {
            Command::Persist(Record::Update { status, .. }) => Some(status.clone()),
            _ => None,
        });
        updates.collect()
    };
    let preempted = || Cause { reason: Reason::Preempted, message: "has to leave for urgent".into() };
    let kill = |cause| AgentOrder::Kill { framework_id: "f".into(), task_id: "t".into(), grace_ms: None, cause };
    let mut desk = Desk::new();
    desk.running("t");
    let killing = updates(&desk.order(1, kill(Some(preempted()))));
    assert_eq!((killing[0].state, killing[0].reason), (TaskState::Killing, Reason::Preempted));
    assert_eq!(updates(&desk.order(1, kill(None))), [], "its framework may say the same, and changes nothing of why");
    let log = desk.log.clone();
    let ended = updates(&desk.apply(Event::Exited { task: key("t"), exit: Exit::Signal(15) }));
    let (_, commands) = Desk::recovered(log, |task| task.found = Found::Ended(Exit::Signal(15)));
    for ended in [&ended[0], &updates(&commands)[0]] {
        assert_eq!((ended.state, ended.reason, ended.exit_code), (TaskState::Killed, Reason::Preempted, -15));
        assert_eq!(ended.message, "has to leave for urgent; it ended by signal 15");
    }
    // The same, where it has not begun yet.
    let mut desk = Desk::new();
    desk.launch("t");
    assert_eq!(updates(&desk.order(1, kill(Some(preempted())))), []);
    let started = updates(&desk.apply(Event::Started { task: key("t"), pid: 7 }));
    assert_eq!((started[1].state, started[1].reason), (TaskState::Killing, Reason::Preempted));
}

#[test]
fn an_update_is_sent_again_until_acknowledged_and_on_every_registration() {
    let mut desk = Desk::new();
    desk.running("t");
    assert_eq!(brief(&desk.at(999)), [""; 0]);
    assert_eq!(brief(&desk.at(1_000)), ["send running"]);
    assert_eq!(brief(&desk.at(2_999)), [""; 0]);
    assert_eq!(brief(&desk.at(3_000)), ["send running"]);
    desk.apply(Event::Closed { connection: ConnectionId(1) });
    assert_eq!(brief(&desk.at(100_000)), [""; 0], "nobody would hear it");
    assert_eq!(brief(&desk.apply(Event::Connected { connection: ConnectionId(2) })), ["register 1"]);
    assert_eq!(brief(&desk.registered(2, 5)), ["send running"]);
    assert_eq!(brief(&desk.at(101_000)), ["send running"], "the back-off begins anew");
}

#[test]
fn a_kill_ends_in_force_and_a_second_one_only_sooner() {
    let mut desk = Desk::new();
    desk.running("t");
    desk.acknowledge(1, "t", "t-1");
    assert_eq!(brief(&desk.kill("t", None)), ["log killing", "send killing", "term"]);
    desk.kill("t", Some(60_000));
    desk.kill("t", Some(2_000));
    desk.acknowledge(1, "t", "t-2");
    assert_eq!(brief(&desk.at(1_999)), [""; 0]);
    assert_eq!(brief(&desk.at(2_000)), ["kill"]);
    assert_eq!(brief(&desk.kill("t", None)), [""; 0]);
    desk.running("now");
    assert_eq!(brief(&desk.kill("now", Some(0))), ["log killing", "term", "kill"]);
}

#[test]
fn a_kill_before_the_start_waits_for_the_process() {
    let mut desk = Desk::new();
    desk.launch("t");
    assert_eq!(brief(&desk.kill("t", Some(100))), [""; 0]);
    let started = desk.apply(Event::Started { task: key("t"), pid: 7 });
    assert_eq!(brief(&started), ["log pid 7", "log running", "send running", "log killing", "term"]);
    assert_eq!(brief(&desk.at(100)), ["kill"]);
}

#[test]
fn only_the_newest_connection_and_epoch_are_obeyed() {
    let mut desk = Desk::new();
    assert_eq!(brief(&desk.apply(Event::Connected { connection: ConnectionId(2) })), ["close 1", "register 0"]);
    assert_eq!(brief(&desk.launch("from an older stream")), [""; 0]);
    assert_eq!(brief(&desk.registered(2, 4)), ["close 2"], "a master that was replaced");
    desk.apply(Event::Connected { connection: ConnectionId(1) });
    assert_eq!(brief(&desk.launch("from a stranger")), ["close 1"]);
}

#[test]
fn a_new_process_goes_on_where_the_log_ends() {
    let mut desk = Desk::new();
    for id in ["alive", "dead", "done", "gone", "missed"] {
        desk.running(id);
        desk.acknowledge(1, id, &format!("{id}-1"));
    }
    desk.launch("unstarted");
    desk.apply(Event::Exited { task: key("done"), exit: Exit::Code(0) });
    desk.apply(Event::Exited { task: key("gone"), exit: Exit::Code(0) });
    desk.acknowledge(1, "gone", "gone-2");
    let (mut desk, commands) = Desk::recovered(desk.log, |task| {
        task.found = match task.task.task_id.as_str() {
            "alive" => Found::Alive { pid: 7 },
            "missed" => Found::Ended(Exit::Code(0)),
            _ => Found::Nothing,
        };
    });
    let expected = ["log failed", "log finished", "log failed"];
    assert_eq!(brief(&commands), expected, "the dead one, the one that ended meanwhile, the one that never was");
    assert_eq!(brief(&desk.apply(Event::Connected { connection: ConnectionId(1) })), ["register 5"]);
    assert_eq!(brief(&desk.registered(1, 6)), ["send failed", "send finished", "send finished", "send failed"]);
    assert_eq!(brief(&desk.acknowledge(1, "dead", "dead-2")), ["log ack dead-2", "log removed"]);
    let exited = desk.apply(Event::Exited { task: key("alive"), exit: Exit::Unseen });
    assert_eq!(brief(&exited), ["log failed", "send failed"]);
    assert_eq!(brief(&desk.acknowledge(1, "alive", "alive-2")), ["log ack alive-2", "log removed"]);
}

#[test]
fn a_kill_outlives_the_agent_that_was_asked_for_it() {
    let mut desk = Desk::new();
    desk.running("t");
    desk.kill("t", Some(60_000));
    let log = desk.log;
    let (mut desk, commands) = Desk::recovered(log.clone(), |task| task.found = Found::Alive { pid: 7 });
    assert_eq!(brief(&commands), ["term"]);
    assert_eq!(brief(&desk.at(3_000)), ["kill"]);
    let (_, commands) = Desk::recovered(log, |task| task.found = Found::Ended(Exit::Signal(15)));
    assert_eq!(brief(&commands), ["log killed"]);
}

#[test]
fn a_process_that_was_started_and_not_written_down_is_found() {
    let mut desk = Desk::new();
    desk.launch("t");
    let (_, commands) = Desk::recovered(desk.log, |task| task.found = Found::Alive { pid: 9 });
    assert_eq!(brief(&commands), ["log pid 9", "log running"]);
}

#[test]
fn an_agent_that_is_not_wanted_ends_its_tasks_first() {
    let mut desk = Desk::new();
    desk.running("t");
    let shutdown = desk.order(1, AgentOrder::Shutdown { message: "the id is taken".into() });
    assert_eq!(brief(&shutdown), ["log killing", "term"]);
    let exited = desk.apply(Event::Exited { task: key("t"), exit: Exit::Signal(15) });
    assert_eq!(brief(&exited), ["log killed", "exit: the id is taken"]);
}

impl Desk {
    /// Asked every 10 s, 5 s of grace, two failures.
    fn launch_watched(&mut self, id: &str) {
        let probe = jobs::Probe::Tcp { port: 80 };
        let health = jobs::HealthCheck { probe, interval_ms: 10_000, timeout_ms: 900, grace_ms: 5_000, failures: 2 };
        let task = TaskInfo { task_id: id.into(), health: Some(Box::new(health)), ..Default::default() };
        self.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) });
    }

    fn probed(&mut self, id: &str, healthy: bool) -> Vec<Command> {
        let outcome = if healthy { Ok(()) } else { Err("nobody listens".to_string()) };
        self.apply(Event::Probed { task: key(id), outcome })
    }
}

fn said(commands: &[Command]) -> Option<&TaskStatus> {
    commands.iter().find_map(|command| match command {
        Command::Persist(Record::Update { status, .. }) => Some(status),
        _ => None,
    })
}

#[test]
fn a_watched_task_runs_once_it_is_healthy_and_is_ended_when_it_is_no_longer() {
    let mut desk = Desk::new();
    desk.launch_watched("t");
    let started = desk.apply(Event::Started { task: key("t"), pid: 7 });
    assert_eq!(brief(&started), ["log pid 7", "log starting", "send starting"]);
    desk.acknowledge(1, "t", "t-1");
    assert_eq!(brief(&desk.at(1_000)), ["probe 900"], "sooner than its interval, until it was healthy");
    assert_eq!(brief(&desk.at(1_900)), [""; 0], "one question at a time");
    assert_eq!(brief(&desk.probed("t", false)), [""; 0], "it has its grace");
    assert_eq!(brief(&desk.at(2_900)), ["probe 900"]);
    assert_eq!(brief(&desk.probed("t", true)), ["log running", "send running"]);
    desk.acknowledge(1, "t", "t-2");
    assert_eq!(brief(&desk.at(12_899)), [""; 0]);
    for (at_ms, healthy) in [(12_900, false), (22_900, true), (32_900, false)] {
        assert_eq!(brief(&desk.at(at_ms)), ["probe 900"]);
        assert_eq!(brief(&desk.probed("t", healthy)), [""; 0], "not in a row");
    }
    desk.at(42_900);
    let ended = desk.probed("t", false);
    assert_eq!(brief(&ended), ["log killing", "send killing", "term"]);
    let status = said(&ended).expect("an update");
    assert_eq!(status.reason, Reason::Unhealthy);
    assert_eq!(status.message, "2 health checks in a row failed, the last: nobody listens");
    assert_eq!(brief(&desk.probed("t", true)), [""; 0], "too late");

    // Also the next agent knows why it ends the task.
    let (_, commands) = Desk::recovered(desk.log.clone(), |task| task.found = Found::Ended(Exit::Signal(9)));
    let told = said(&commands).expect("an update");
    assert_eq!((told.state, told.reason, told.exit_code), (TaskState::Failed, Reason::Unhealthy, -9));
    let exited = desk.apply(Event::Exited { task: key("t"), exit: Exit::Code(0) });
    let told = said(&exited).expect("an update");
    assert_eq!((told.state, told.reason), (TaskState::Failed, Reason::Unhealthy), "{told:?}");
    assert!(told.message.ends_with("nobody listens; it exited with code 0"), "{told:?}");
    assert_eq!(desk.agent.next_wakeup(), Some(42_900 + 1_000), "of its updates, and no question");
}

#[test]
fn a_restarted_agent_goes_on_asking_and_counting_time() {
    let mut desk = Desk::new();
    desk.launch_watched("t");
    desk.apply(Event::Started { task: key("t"), pid: 7 });
    let task = TaskInfo { task_id: "long".into(), max_completion_ms: 60_000, ..Default::default() };
    desk.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) });
    desk.at(10_000);
    desk.apply(Event::Started { task: key("long"), pid: 8 });

    let mut recovered = Recovered::replay(desk.log.clone());
    recovered.tasks.iter_mut().for_each(|task| task.found = Found::Alive { pid: 7 });
    let (mut agent, _) = Agent::new(config(), recovered, 50_000);
    assert_eq!(brief(&agent.apply(51_000, Event::Tick)), ["probe 900"]);
    let failing = Event::Probed { task: key("t"), outcome: Err("no".into()) };
    assert_eq!(brief(&agent.apply(51_100, failing)), [""; 0], "its grace is over, and this is the first failure");
    assert_eq!(brief(&agent.apply(69_999, Event::Tick)), ["probe 900"]);
    let timed_out = agent.apply(70_000, Event::Tick);
    assert_eq!(brief(&timed_out), ["log killing", "term"]);
    assert_eq!(said(&timed_out).map(|status| status.reason), Some(Reason::TimedOut));
    let ended = agent.apply(75_000, Event::Tick);
    assert_eq!(brief(&ended), ["kill"]);
    let exited = agent.apply(75_001, Event::Exited { task: key("long"), exit: Exit::Signal(9) });
    let told = said(&exited).expect("an update");
    assert_eq!((told.state, told.reason), (TaskState::Failed, Reason::TimedOut), "{told:?}");
    assert_eq!(told.message, "ran for longer than the 60000 ms that it may; it ended by signal 9");
}

#[test]
fn out_of_memory_is_said_with_numbers() {
    let mut desk = Desk::new();
    desk.running("t");
    let exited =
        desk.apply(Event::Exited { task: key("t"), exit: Exit::OutOfMemory { used_mib: 512, limit_mib: 512 } });
    let told = said(&exited).expect("an update");
    assert_eq!((told.state, told.reason), (TaskState::Failed, Reason::OutOfMemory));
    assert_eq!(told.message, "out of memory: used 512 MiB of its limit of 512 MiB");
}

#[test]
fn a_task_may_say_how_long_it_goes_on_without_a_master() {
    let mut desk = Desk::new();
    for (id, unreachable_kill_ms) in [("patient", 0), ("impatient", 30_000)] {
        let task = TaskInfo { task_id: id.into(), unreachable_kill_ms, ..Default::default() };
        desk.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) });
        desk.apply(Event::Started { task: key(id), pid: 7 });
        desk.acknowledge(1, id, &format!("{id}-1"));
    }
    desk.apply(Event::Closed { connection: ConnectionId(1) });
    desk.at(20_000);
    // A connection alone is no master; one that registers it is.
    desk.apply(Event::Connected { connection: ConnectionId(2) });
    desk.apply(Event::Closed { connection: ConnectionId(2) });
    desk.at(25_000);
    desk.apply(Event::Connected { connection: ConnectionId(3) });
    desk.registered(3, 5);
    assert_eq!(brief(&desk.at(40_000)), [""; 0]);
    desk.apply(Event::Closed { connection: ConnectionId(3) });
    desk.apply(Event::Connected { connection: ConnectionId(4) });
    assert_eq!(brief(&desk.at(69_999)), [""; 0]);
    let ended = desk.at(70_000);
    assert_eq!(brief(&ended), ["log killing", "term"]);
    let told = said(&ended).expect("an update");
    assert_eq!((told.task_id.as_str(), told.reason), ("impatient", Reason::AgentUnreachable));
    assert_eq!(told.message, "its agent heard no master for 30000 ms");
}

#[test]
fn a_volume_is_one_tasks_and_goes_when_nobody_has_it() {
    let mut desk = Desk::new();
    let key_of = |name: &str| VolumeKey::new("ml", name);
    let keep = |mib: i64| AgentOrder::KeepVolume { volume: Volume { key: key_of("data"), disk_milli: mib * 1000 } };
    assert_eq!(brief(&desk.order(1, keep(5))), ["keep data of role ml"]);
    assert_eq!(brief(&desk.order(1, keep(5))), [""; 0]);
    let launch = |id: &str| {
        let claim = VolumeClaim { name: "data".into(), disk_milli: 5_000, path: String::new() };
        let info = TaskInfo { task_id: id.into(), volumes: vec![claim], role: "ml".into(), ..TaskInfo::default() };
        AgentOrder::Launch { framework_id: "f".into(), task: Box::new(info) }
    };
    assert_eq!(brief(&desk.order(1, launch("t"))), ["log launched", "start"]);
    desk.apply(Event::Started { task: key("t"), pid: 7 });
    let second = desk.order(1, launch("u"));
    assert_eq!(brief(&second), ["log launched", "log failed", "send failed"]);
    let destroy = || AgentOrder::DestroyVolume { key: key_of("data") };
    assert_eq!(brief(&desk.order(1, destroy())), [""; 0], "a task has it");
    desk.apply(Event::Exited { task: key("t"), exit: Exit::Code(0) });
    assert_eq!(brief(&desk.order(1, destroy())), ["remove data of role ml"]);
    assert_eq!(brief(&desk.apply(Event::VolumeRemoved { key: key_of("data") })), ["destroyed data of role ml"]);
    assert_eq!(brief(&desk.order(1, destroy())), ["destroyed data of role ml"], "it is gone already");
}

#[test]
fn a_task_that_has_more_than_it_may_is_ended() {
    let mut desk = Desk::new();
    desk.launch("t");
    desk.apply(Event::Started { task: key("t"), pid: 7 });
    let why = "its sandbox has 12.0 MiB in it, and may have 10 MiB".to_string();
    let ended = desk.apply(Event::Overdrawn { task: key("t"), why });
    assert_eq!(brief(&ended), ["log killing", "term"]);
    desk.acknowledge(1, "t", "a-0");
    let told = desk.apply(Event::Exited { task: key("t"), exit: Exit::Signal(15) });
    let status = told.iter().find_map(|command| match command {
        Command::Persist(Record::Update { status, .. }) => Some(status.clone()),
        _ => None,
    });
    let status = status.expect("it is written down");
    assert_eq!((status.state, status.reason), (TaskState::Failed, Reason::OutOfDisk));
    assert!(status.message.starts_with("its sandbox has 12.0 MiB"), "{}", status.message);
}
