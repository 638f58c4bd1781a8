//! What is lent, and taken back.

use super::*;

fn given(cores: f64, mib: f64) -> Resources {
    Resources::new().cpus(cores).mem_mib(mib)
}

impl Desk {
    /// An agent of 4 cores and 4,096 MiB that lends four fifths of what was not used for ten seconds.
    fn lending() -> Self {
        let mut config = config();
        config.agent.total = given(4.0, 4096.0);
        let config = Config { lend_milli: 800, look_back_ms: 10_000, ..config };
        let (agent, _) = Agent::new(config, Recovered::default(), 0);
        let mut desk = Self { agent, now_ms: 0, log: Vec::new() };
        desk.apply(Event::Connected { connection: ConnectionId(1) });
        desk.registered(1, 5);
        desk
    }

    fn running_on(&mut self, id: &str, resources: Resources, priority: i32) {
        let task = TaskInfo { task_id: id.into(), resources, priority, ..Default::default() };
        self.order(1, AgentOrder::Launch { framework_id: "f".into(), task: Box::new(task) });
        self.apply(Event::Started { task: key(id), pid: 7 });
    }

    /// What the tasks use at a time: cores and MiB.
    fn measure(&mut self, at_ms: u64, used: &[(&str, f64, f64)]) -> Vec<String> {
        self.now_ms = at_ms;
        let used = used.iter().map(|(id, cores, mib)| (key(id), given(*cores, *mib).amounts().clone())).collect();
        let commands = self.apply(Event::Measured { used });
        brief(&commands)
            .into_iter()
            .filter(|command| !["log", "send"].iter().any(|other| command.starts_with(other)))
            .collect()
    }
}

#[test]
fn what_was_not_used_for_a_while_is_lent_and_less_of_it_at_once() {
    let mut desk = Desk::lending();
    desk.running_on("t", given(3.0, 3072.0), 0);
    assert_eq!(desk.measure(1_000, &[("t", 0.5, 512.0)]), [""; 0], "it has only begun");
    assert_eq!(desk.measure(9_000, &[("t", 0.5, 512.0)]), [""; 0]);
    // What it used while it was young counts as all that it was given.
    assert_eq!(desk.measure(11_000, &[("t", 0.5, 512.0)]), [""; 0]);
    assert_eq!(desk.measure(19_001, &[("t", 0.5, 512.0)]), ["lends 2000 cpus 2048000 mem"]);
    assert_eq!(
        desk.measure(20_000, &[("t", 0.52, 520.0)]),
        ["lends 1900 cpus 1984000 mem"],
        "whole steps of four fifths"
    );
    assert_eq!(desk.measure(21_000, &[("t", 0.52, 520.0)]), [""; 0]);
    assert_eq!(
        desk.measure(22_000, &[("t", 5.0, 512.0)]),
        ["lends 0 cpus 1984000 mem"],
        "more than it was given is no loan"
    );
    assert_eq!(desk.measure(31_000, &[("t", 0.5, 512.0)]), [""; 0], "the most of the last ten seconds counts");
    assert_eq!(desk.measure(33_000, &[("t", 0.5, 512.0)]), ["lends 2000 cpus 2048000 mem"]);
    assert_eq!(desk.measure(34_000, &[]), ["lends 0 cpus 0 mem"], "of which nothing is known");
}

#[test]
fn an_agent_that_begins_anew_looks_for_as_long_first() {
    let mut desk = Desk::lending();
    desk.running_on("t", given(1.0, 1024.0), 0);
    desk.measure(1_000, &[("t", 0.0, 0.0)]);
    assert_eq!(desk.measure(50_000, &[("t", 0.0, 0.0)]), ["lends 800 cpus 768000 mem"]);
    let mut recovered = Recovered::replay(desk.log.clone());
    recovered.tasks[0].found = Found::Alive { pid: 7 };
    let config = desk.agent.config.clone();
    let (agent, _) = Agent::new(config, recovered, 60_000);
    let mut desk = Desk { agent, now_ms: 60_000, log: desk.log };
    desk.apply(Event::Connected { connection: ConnectionId(2) });
    desk.registered(2, 6);
    assert_eq!(desk.measure(60_000, &[("t", 0.0, 0.0)]), [""; 0]);
    assert_eq!(desk.measure(69_999, &[("t", 0.0, 0.0)]), [""; 0]);
    assert_eq!(desk.measure(80_000, &[("t", 0.0, 0.0)]), ["lends 800 cpus 768000 mem"]);
}

#[test]
fn a_new_master_hears_what_is_lent() {
    let mut desk = Desk::lending();
    desk.running_on("t", given(1.0, 1024.0), 0);
    desk.measure(11_000, &[("t", 0.0, 0.0)]);
    desk.apply(Event::Closed { connection: ConnectionId(1) });
    assert_eq!(desk.measure(22_000, &[("t", 0.0, 0.0)]), [""; 0]);
    desk.apply(Event::Connected { connection: ConnectionId(2) });
    let said = brief(&desk.registered(2, 6));
    assert_eq!(said[0], "lends 800 cpus 768000 mem", "{said:?}");
}

#[test]
fn who_runs_on_what_is_used_after_all_is_ended_the_least_important_and_latest_first() {
    let mut desk = Desk::lending();
    desk.running_on("owner", given(4.0, 3072.0), 0);
    desk.running_on("old", given(1.0, 256.0).revocable(), 0);
    desk.now_ms = 50;
    desk.running_on("important", given(1.0, 256.0).revocable(), 5);
    desk.running_on("young", given(1.0, 256.0).revocable(), 0);
    let quiet = |desk: &mut Desk, at_ms, cores, mib| {
        let said = desk.measure(at_ms, &[("owner", cores, mib)]);
        said.into_iter().filter(|command| !command.starts_with("lends")).collect::<Vec<String>>()
    };
    assert_eq!(quiet(&mut desk, 1_000, 1.0, 1024.0), [""; 0], "there is room for all of them");
    assert_eq!(quiet(&mut desk, 2_000, 2.5, 1024.0), [""; 0], "once may be a moment");
    assert_eq!(quiet(&mut desk, 3_000, 1.0, 1024.0), [""; 0]);
    assert_eq!(quiet(&mut desk, 4_000, 2.5, 1024.0), [""; 0]);
    assert_eq!(quiet(&mut desk, 5_000, 2.5, 1024.0), ["term", "term"], "1.5 cores are left, so one may stay");
    for ended in ["young", "old"] {
        let exited = desk.apply(Event::Exited { task: key(ended), exit: Exit::Signal(15) });
        let status = exited.iter().find_map(|command| match command {
            Command::Persist(Record::Update { status, .. }) => Some(status.clone()),
            _ => None,
        });
        let status = status.expect("it is written down");
        assert_eq!((status.state, status.reason), (TaskState::Killed, Reason::Revoked));
        let why = "ran on cpus 1, which was only lent: those to whom it was given use cpus 2.5 of cpus 4 now; it ended by signal 15";
        assert_eq!(status.message, why);
    }
    // A task that begins takes nothing away before it uses it.
    desk.running_on("new", given(0.0, 1024.0), 0);
    // Memory is not shared for a moment, and what was given to nobody serves as well.
    assert_eq!(quiet(&mut desk, 6_000, 0.0, 3840.0), [""; 0]);
    assert_eq!(quiet(&mut desk, 7_000, 0.0, 3841.0), ["term"]);
}

#[test]
fn who_lends_nothing_does_not_look() {
    let mut desk = Desk::new();
    desk.running_on("t", given(1.0, 1024.0), 0);
    assert_eq!(desk.measure(100_000, &[("t", 0.0, 0.0)]), [""; 0]);
}
