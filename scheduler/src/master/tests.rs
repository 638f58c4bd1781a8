//! What the master promises to a few agents and frameworks, step by step.

mod deadlines;
mod journal;
mod lending;
mod preemption;
mod reserved;
mod roles;
mod volumes;

use super::*;
use crate::model::*;
use jobs::{Reason, Resources, TaskState};

/// A master, a clock, and what was said on each connection since it was last read.
struct Desk {
    master: Master,
    now_ms: u64,
    to_agents: Vec<(u64, AgentOrder)>,
    to_frameworks: Vec<(u64, FrameworkEvent)>,
    closed: Vec<u64>,
    /// To operators.
    answers: Vec<Result<Vec<String>, String>>,
    registry: BTreeMap<String, Record>,
}

fn machine(cpus: f64) -> Resources {
    Resources::new().cpus(cpus).mem_mib(1000.0 * cpus).with_ports([(31000, 31009)])
}

fn agent_info(id: &str, cpus: f64) -> AgentInfo {
    AgentInfo {
        agent_id: id.into(),
        host: format!("{id}.local"),
        total: machine(cpus),
        attributes: BTreeMap::new(),
        http_endpoint: String::new(),
        reserved: Vec::new(),
    }
}

fn task(id: &str, agent: &str, cpus: f64) -> TaskInfo {
    TaskInfo {
        task_id: id.into(),
        agent_id: agent.into(),
        resources: Resources::new().cpus(cpus),
        ..Default::default()
    }
}

fn demand(cpus: f64, count: u32) -> Demand {
    Demand { name: "d".into(), shape: Resources::new().cpus(cpus), count, ..Demand::default() }
}

impl Desk {
    fn new() -> Self {
        Self::with_registry(1, 0, [])
    }

    fn with_registry(epoch: u64, now_ms: u64, records: impl IntoIterator<Item = Record>) -> Self {
        let records: Vec<Record> = records.into_iter().collect();
        let registry = records.iter().map(|record| (record.key(), record.clone())).collect();
        let master = Master::new(Config::default(), epoch, now_ms, records);
        let (to_agents, to_frameworks, closed, answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { master, now_ms, to_agents, to_frameworks, closed, answers, registry }
    }

    fn apply(&mut self, event: Event) {
        for command in self.master.apply(self.now_ms, event) {
            match command {
                Command::Persist(record) => drop(self.registry.insert(record.key(), record)),
                Command::ToAgent { connection, order } => self.to_agents.push((connection.0, order)),
                Command::ToFramework { connection, event } => self.to_frameworks.push((connection.0, event)),
                Command::Answer { answer, .. } => self.answers.push(answer),
                Command::Close { connection } => self.closed.push(connection.0),
            }
        }
    }

    /// Lets time pass; agents on `alive` connections are heard all the while.
    fn pass(&mut self, ms: u64, alive: &[u64]) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            let wakeup = self.master.next_wakeup().expect("heartbeats never end");
            self.now_ms = wakeup.clamp(self.now_ms, until_ms);
            for agent in alive {
                self.agent(*agent, AgentCall::Heartbeat);
            }
            self.apply(Event::Tick);
        }
    }

    fn agent(&mut self, connection: u64, call: AgentCall) {
        self.apply(Event::FromAgent { connection: ConnectionId(connection), call });
    }

    fn framework(&mut self, connection: u64, call: FrameworkCall) {
        self.apply(Event::FromFramework { connection: ConnectionId(connection), call });
    }

    fn close(&mut self, connection: u64) {
        self.apply(Event::Closed { connection: ConnectionId(connection) });
    }

    fn register(&mut self, connection: u64, id: &str, cpus: f64, tasks: Vec<AgentTask>) {
        self.agent(connection, AgentCall::Register { agent: agent_info(id, cpus), tasks, volumes: vec![] });
    }

    /// Subscribes and gives back the framework's id.
    fn subscribe(&mut self, connection: u64, id: Option<&str>, role: &str, failover_timeout_ms: u64) -> FrameworkId {
        let (framework_id, name, role) = (id.map(FrameworkId::from), role.to_string(), role.to_string());
        let constraints = Vec::new();
        let call = FrameworkCall::Subscribe { framework_id, name, role, failover_timeout_ms, constraints };
        self.framework(connection, call);
        let said = self.said_to(connection);
        let id = said.iter().find_map(|event| match event {
            FrameworkEvent::Subscribed { framework_id, .. } => Some(framework_id.clone()),
            _ => None,
        });
        self.to_frameworks.extend(said.into_iter().map(|event| (connection, event)));
        id.unwrap_or_default()
    }

    fn want(&mut self, connection: u64, demands: &[Demand]) {
        self.framework(connection, FrameworkCall::Demand { demands: demands.to_vec() });
    }

    fn said_to(&mut self, connection: u64) -> Vec<FrameworkEvent> {
        let (said, rest) = std::mem::take(&mut self.to_frameworks).into_iter().partition(|(to, _)| *to == connection);
        self.to_frameworks = rest;
        said.into_iter().map(|(_, event)| event).collect()
    }

    fn offers_to(&mut self, connection: u64) -> Vec<Offer> {
        let offers = self.said_to(connection).into_iter();
        offers.filter_map(|event| if let FrameworkEvent::Offer(offer) = event { Some(offer) } else { None }).collect()
    }

    /// Task, state, reason, and whether it must be acknowledged.
    fn updates_to(&mut self, connection: u64) -> Vec<(String, TaskState, Reason, bool)> {
        let updates = self.said_to(connection).into_iter().filter_map(|event| match event {
            FrameworkEvent::Update(update) => {
                Some((update.task_id.to_string(), update.state, update.reason, update.uuid.is_some()))
            }
            _ => None,
        });
        updates.collect()
    }

    fn orders_to(&mut self, connection: u64) -> Vec<AgentOrder> {
        let (said, rest) = std::mem::take(&mut self.to_agents).into_iter().partition(|(to, _)| *to == connection);
        self.to_agents = rest;
        said.into_iter().map(|(_, order)| order).collect()
    }

    fn accept(&mut self, connection: u64, offers: &[&Offer], launch: Vec<TaskInfo>) {
        let offer_ids = offers.iter().map(|offer| offer.offer_id.clone()).collect();
        self.framework(
            connection,
            FrameworkCall::Accept { offer_ids, operations: Vec::new(), launch, refuse_ms: None },
        );
    }

    fn report(&mut self, connection: u64, framework: &FrameworkId, id: &str, state: TaskState) {
        let status = TaskStatus {
            task_id: id.into(),
            agent_id: "ignored".into(),
            state,
            reason: Reason::None,
            message: String::new(),
            uuid: Some(format!("{id}-{state}")),
            at_ms: self.now_ms,
            exit_code: 0,
        };
        self.agent(connection, AgentCall::Update { framework_id: framework.clone(), status });
    }

    fn acknowledge(&mut self, connection: u64, agent: &str, id: &str, state: TaskState) {
        let uuid = format!("{id}-{state}");
        let acknowledgement = Acknowledgement { agent_id: agent.into(), task_id: id.into(), uuid };
        self.framework(connection, FrameworkCall::Acknowledge(acknowledgement));
    }

    fn reconcile(&mut self, connection: u64, ids: &[&str]) -> Vec<(String, TaskState, Reason, bool)> {
        let task_ids = ids.iter().map(|id| (*id).into()).collect();
        self.framework(connection, FrameworkCall::Reconcile { task_ids });
        self.updates_to(connection)
    }

    fn waiting(&self) -> Vec<String> {
        self.master.view(self.now_ms).frameworks.into_iter().flat_map(|framework| framework.waiting).collect()
    }
}

/// One agent of 4 cpus on connection 1, one framework on 10 with one task `t` running.
fn with_running_task() -> (Desk, FrameworkId) {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.want(10, &[demand(1.0, 1)]);
    let offers = desk.offers_to(10);
    desk.accept(10, &[&offers[0]], vec![task("t", "a", 1.0)]);
    desk.report(1, &id, "t", TaskState::Running);
    desk.acknowledge(10, "a", "t", TaskState::Running);
    desk.to_agents.clear();
    desk.to_frameworks.clear();
    (desk, id)
}

fn reported(framework: &FrameworkId, id: &str, state: TaskState) -> AgentTask {
    AgentTask { framework_id: framework.clone(), info: task(id, "a", 1.0), state }
}

#[test]
fn a_plain_framework_is_offered_whatever_is_free_and_gets_back_at_once_what_a_task_leaves() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 0);
    assert_eq!(desk.offers_to(10), [], "it may be about to say what it wants");
    desk.pass(20, &[1]);
    let offer = desk.offers_to(10).remove(0);
    assert_eq!((offer.resources.clone(), &*offer.host), (machine(4.0), "a.local"));
    desk.accept(10, &[&offer], vec![task("t", "a", 4.0)]);
    assert!(matches!(&desk.orders_to(1)[..], [_, AgentOrder::Launch { task, .. }] if task.task_id == "t".into()));
    assert_eq!(desk.offers_to(10), [], "the rest is refused for 5 s");
    desk.report(1, &id, "t", TaskState::Finished);
    let again = desk.offers_to(10).remove(0);
    assert_eq!(again.resources, machine(4.0), "more than was refused is offered in the same step");
    assert_ne!(again.offer_id, offer.offer_id);
}

#[test]
fn demand_is_offered_only_what_serves_it_and_only_as_much() {
    let mut desk = Desk::new();
    desk.subscribe(10, None, "r", 0);
    desk.want(10, &[demand(2.0, 2)]);
    desk.register(1, "small", 1.0, vec![]);
    assert_eq!(desk.offers_to(10), []);
    for (connection, agent) in [(2, "b"), (3, "c"), (4, "d")] {
        desk.register(connection, agent, 4.0, vec![]);
    }
    let offers = desk.offers_to(10);
    let agents: Vec<&str> = offers.iter().map(|offer| offer.agent_id.as_str()).collect();
    assert_eq!(agents, ["b", "c"], "two of them, although one could hold both tasks");
    desk.accept(10, &[&offers[0], &offers[1]], vec![task("t0", "b", 2.0), task("t1", "c", 2.0)]);
    assert_eq!(desk.waiting(), ["all of it is launched"]);
    desk.pass(60_000, &[1, 2, 3, 4]);
    assert_eq!(desk.offers_to(10), []);
    desk.want(10, &[demand(2.0, 1)]);
    assert_eq!(desk.offers_to(10).len(), 1, "what was refused for less demand is offered for more");
}

#[test]
fn an_unmet_demand_says_why_with_numbers() {
    let mut desk = Desk::new();
    desk.subscribe(10, None, "r", 0);
    let big = Demand { shape: Resources::new().cpus(64.0).mem_mib(512.0), ..demand(64.0, 2) };
    desk.want(10, &[big]);
    assert_eq!(desk.waiting(), ["needs 2 tasks of cpus 64, mem 512 MiB; no agent has registered"]);
    desk.register(1, "agent-1", 2.0, vec![]);
    let expected = "needs 2 tasks of cpus 64, mem 512 MiB; the largest agent has cpus 2 (agent-1); none fits";
    assert_eq!(desk.waiting(), [expected]);
    desk.want(10, &[Demand { n_ports: 11, ..demand(1.0, 1) }]);
    let expected = "needs 1 task of cpus 1 and 11 ports; the largest agent has 10 ports (agent-1); none fits";
    assert_eq!(desk.waiting(), [expected]);
    desk.want(10, &[demand(2.0, 1)]);
    let expected =
        "needs 1 task of cpus 2; offered o-1-1 of agent-1, and waits for the framework to accept enough of it";
    assert_eq!(desk.waiting(), [expected]);
    let offer = desk.offers_to(10).remove(0);
    desk.framework(10, FrameworkCall::Decline { offer_ids: vec![offer.offer_id], refuse_ms: Some(2_500) });
    assert_eq!(desk.waiting(), ["needs 1 task of cpus 2; the framework refused agent-1 for 2.5 s more"]);
    desk.framework(10, FrameworkCall::Revive);
    let offer = desk.offers_to(10).remove(0);
    desk.accept(10, &[&offer], vec![task("t", "agent-1", 1.5)]);
    let expected =
        "needs 1 task of cpus 2; 1 of 1 agents are large enough, and too little of them is free: agent-1 has cpus 0.5";
    assert_eq!(desk.waiting(), [expected]);
    desk.framework(10, FrameworkCall::Suppress);
    assert_eq!(desk.waiting(), ["needs 1 task of cpus 2; its framework asked for no offers (suppress)"]);
    desk.close(1);
    desk.framework(10, FrameworkCall::Revive);
    let expected = "needs 1 task of cpus 2; no agent is connected (1 disconnected, 0 unreachable)";
    assert_eq!(desk.waiting(), [expected]);
}

#[test]
fn an_accept_launches_on_all_its_agents_or_on_none() {
    let mut desk = Desk::new();
    desk.subscribe(10, None, "r", 0);
    desk.want(10, &[demand(2.0, 2)]);
    desk.register(1, "a", 2.0, vec![]);
    desk.register(2, "b", 2.0, vec![]);
    let offers = desk.offers_to(10);
    let gang = |first: f64, second: f64| vec![task("t0", "a", first), task("t1", "b", second)];
    let dropped = |reason| {
        [("t0".to_string(), TaskState::Dropped, reason, false), ("t1".to_string(), TaskState::Dropped, reason, false)]
    };
    desk.accept(10, &[&offers[0], &offers[1]], gang(2.0, 2.001));
    let events = desk.said_to(10);
    let again: Vec<Offer> = events
        .iter()
        .filter_map(|event| if let FrameworkEvent::Offer(offer) = event { Some(offer.clone()) } else { None })
        .collect();
    assert_eq!(again.len(), 2, "both are offered again in the same step, without a filter");
    desk.to_frameworks.extend(events.into_iter().map(|event| (10, event)));
    assert_eq!(desk.updates_to(10), dropped(Reason::InvalidTask));
    desk.close(2);
    desk.accept(10, &[&again[0], &again[1]], gang(2.0, 2.0));
    assert_eq!(desk.updates_to(10), dropped(Reason::InvalidOffer));
    desk.register(3, "b", 2.0, vec![]);
    let standing: Vec<Offer> = desk.offers_to(10);
    let view = desk.master.view(desk.now_ms);
    let ids = view.offers.iter().filter(|offer| offer.state == OfferState::Outstanding);
    let ids: Vec<Offer> = ids.map(|offer| offer.offer.clone()).collect();
    assert_eq!((ids.len(), standing.len()), (2, 1));
    desk.to_agents.clear();
    desk.accept(10, &[&ids[0], &ids[1]], gang(2.0, 2.0));
    assert_eq!((desk.orders_to(1).len(), desk.orders_to(3).len()), (1, 1));
    let accepted = desk.master.view(desk.now_ms).offers.into_iter().filter(|offer| offer.state == OfferState::Accepted);
    assert_eq!(accepted.map(|offer| offer.task_ids.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_is_malformed_is_refused_and_frees_nothing() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 0);
    desk.want(10, &[demand(1.0, 1)]);
    let offer = desk.offers_to(10).remove(0);
    desk.accept(10, &[&offer], vec![task("t", "a", -1.0)]);
    assert_eq!(desk.updates_to(10), [("t".to_string(), TaskState::Dropped, Reason::InvalidTask, false)]);
    desk.want(10, &[demand(-1.0, 1)]);
    assert!(matches!(&desk.said_to(10)[..], [FrameworkEvent::Error { .. }]));
    assert_eq!(desk.closed, [10]);
    desk.framework(11, FrameworkCall::Revive);
    assert!(matches!(&desk.said_to(11)[..], [FrameworkEvent::Error { message }] if message.starts_with("subscribe")));
    desk.agent(2, AgentCall::Heartbeat);
    desk.agent(3, AgentCall::Register { agent: agent_info("two words", 1.0), tasks: vec![], volumes: vec![] });
    assert!(matches!(&desk.orders_to(3)[..], [AgentOrder::Shutdown { .. }]));
    assert_eq!(desk.closed, [10, 11, 2, 3]);
    assert_eq!(desk.master.view(0).agents[0].free, machine(4.0));
}

#[test]
fn an_ignored_offer_goes_to_somebody_else() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 0);
    desk.pass(20, &[1]);
    let ignored = desk.offers_to(10).remove(0);
    desk.subscribe(11, None, "r", 0);
    desk.pass(29_000, &[1]);
    assert_eq!(desk.offers_to(11), []);
    desk.pass(1_000, &[1]);
    assert_eq!(desk.offers_to(11).len(), 1);
    assert!(desk.said_to(10).contains(&FrameworkEvent::Rescind { offer_id: ignored.offer_id }));
    desk.pass(30_000, &[1]);
    assert_eq!(desk.offers_to(10).len(), 1, "the other ignores it too");
}

#[test]
fn a_decline_hides_the_same_for_five_seconds() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 0);
    desk.pass(20, &[1]);
    let offer = desk.offers_to(10).remove(0);
    desk.framework(10, FrameworkCall::Decline { offer_ids: vec![offer.offer_id], refuse_ms: None });
    desk.pass(4_999, &[1]);
    assert_eq!(desk.offers_to(10), []);
    desk.pass(1, &[1]);
    let offer = desk.offers_to(10).remove(0);
    desk.framework(10, FrameworkCall::Decline { offer_ids: vec![offer.offer_id], refuse_ms: Some(0) });
    let offer = desk.offers_to(10).remove(0);
    desk.framework(10, FrameworkCall::Suppress);
    desk.framework(10, FrameworkCall::Decline { offer_ids: vec![offer.offer_id], refuse_ms: None });
    desk.pass(60_000, &[1]);
    assert_eq!(desk.offers_to(10), []);
    desk.framework(10, FrameworkCall::Revive);
    assert_eq!(desk.offers_to(10).len(), 1);
}

#[test]
fn the_least_served_role_and_framework_come_first() {
    let mut desk = Desk::new();
    for (connection, role) in [(10, "many"), (11, "many"), (12, "few")] {
        desk.subscribe(connection, None, role, 0);
    }
    desk.pass(20, &[]);
    for at in 0..8 {
        desk.register(at, &format!("a{at}"), 1.0, vec![]);
    }
    let counts: Vec<usize> = [10, 11, 12].map(|connection| desk.offers_to(connection).len()).to_vec();
    assert_eq!(counts, [2, 2, 4], "roles first, then the frameworks of each");
}

#[test]
fn updates_pass_to_the_framework_and_acknowledgements_back() {
    let (mut desk, id) = with_running_task();
    desk.report(1, &id, "t", TaskState::Finished);
    desk.report(1, &id, "t", TaskState::Finished);
    let finished = ("t".to_string(), TaskState::Finished, Reason::None, true);
    assert_eq!(desk.updates_to(10), [finished.clone(), finished]);
    assert_eq!(desk.master.view(0).agents[0].used, Resources::new());
    assert_eq!(desk.master.view(0).tasks.len(), 1);
    desk.acknowledge(10, "a", "t", TaskState::Finished);
    assert!(matches!(&desk.orders_to(1)[..], [AgentOrder::Acknowledge { .. }]));
    assert_eq!(desk.master.view(0).tasks, []);
    assert_eq!(desk.reconcile(10, &["t"]), [("t".to_string(), TaskState::Unknown, Reason::Reconciliation, false)]);
}

#[test]
fn a_framework_that_comes_back_hears_what_it_has_not_acknowledged() {
    let (mut desk, id) = with_running_task();
    desk.close(10);
    desk.report(1, &id, "t", TaskState::Finished);
    desk.subscribe(11, Some(id.as_str()), "r", 60_000);
    assert_eq!(desk.updates_to(11), [("t".to_string(), TaskState::Finished, Reason::None, true)]);
    assert_eq!(desk.updates_to(10), []);
}

#[test]
fn tasks_of_a_silent_agent_are_unreachable_until_it_returns() {
    let (mut desk, id) = with_running_task();
    desk.pass(4_999, &[]);
    assert_eq!(desk.updates_to(10), []);
    desk.pass(1, &[]);
    let unreachable = ("t".to_string(), TaskState::Unreachable, Reason::AgentUnreachable, false);
    assert_eq!(desk.updates_to(10), [unreachable]);
    assert_eq!(desk.closed, [1]);
    let view = desk.master.view(desk.now_ms);
    assert_eq!((view.agents[0].state, view.tasks[0].state), (AgentState::Unreachable, TaskState::Unreachable));
    assert_eq!((&view.agents[0].used, view.frameworks[0].dominant_share), (&Resources::new(), 0.0));
    desk.register(2, "a", 4.0, vec![reported(&id, "t", TaskState::Running)]);
    assert_eq!(desk.updates_to(10), [("t".to_string(), TaskState::Running, Reason::Reconciliation, false)]);
    let view = desk.master.view(desk.now_ms);
    assert_eq!((&view.agents[0].used, view.frameworks[0].dominant_share), (&Resources::new().cpus(1.0), 0.25));
}

#[test]
fn a_task_that_an_agent_comes_back_without_is_lost() {
    let (mut desk, _) = with_running_task();
    desk.register(2, "a", 4.0, vec![]);
    assert_eq!(desk.closed, [1], "the newer stream ends the older");
    assert_eq!(desk.updates_to(10), [("t".to_string(), TaskState::Lost, Reason::AgentRestarted, false)]);
    assert_eq!(desk.master.view(0).agents[0].free, machine(4.0));
    desk.close(1);
    assert_eq!(desk.master.view(0).agents[0].state, AgentState::Active, "the end of the older changes nothing");
}

#[test]
fn a_kill_reaches_an_agent_that_was_away() {
    let (mut desk, id) = with_running_task();
    desk.close(1);
    desk.framework(10, FrameworkCall::Kill { task_id: "t".into(), grace_ms: Some(9_000) });
    desk.framework(10, FrameworkCall::Kill { task_id: "t".into(), grace_ms: Some(7_000) });
    desk.register(2, "a", 4.0, vec![reported(&id, "t", TaskState::Running)]);
    let kill = AgentOrder::Kill { framework_id: id, task_id: "t".into(), grace_ms: Some(7_000), cause: None };
    assert_eq!(desk.orders_to(2)[1..], [kill]);
}

#[test]
fn a_framework_has_one_stream_and_its_timeout_to_come_back() {
    let (mut desk, id) = with_running_task();
    desk.subscribe(11, Some(id.as_str()), "r", 3_000);
    assert!(matches!(&desk.said_to(10)[..], [FrameworkEvent::Error { .. }]));
    assert_eq!(desk.closed, [10]);
    desk.close(10);
    assert!(desk.master.view(0).frameworks[0].connected);
    desk.close(11);
    desk.pass(2_999, &[1]);
    assert_eq!(desk.orders_to(1), []);
    desk.pass(1, &[1]);
    assert!(matches!(&desk.orders_to(1)[..], [AgentOrder::Kill { .. }]));
    desk.subscribe(12, Some(id.as_str()), "r", 3_000);
    assert!(matches!(&desk.said_to(12)[..], [FrameworkEvent::Error { message }] if message.contains("has ended")));
    desk.report(1, &id, "t", TaskState::Killed);
    assert!(matches!(&desk.orders_to(1)[..], [AgentOrder::Acknowledge { .. }]), "nobody else is left to do it");
    let view = desk.master.view(0);
    assert_eq!((view.tasks.len(), view.frameworks.len(), &view.agents[0].free), (0, 0, &machine(4.0)));
    assert_eq!(desk.registry[&format!("framework/{id}")], Record::FrameworkEnded { framework_id: id });
}

#[test]
fn without_a_failover_timeout_the_stream_is_the_framework() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 0);
    desk.subscribe(11, Some(id.as_str()), "r", 0);
    assert_eq!(desk.master.view(0).frameworks.len(), 1, "to subscribe again is not to go away");
    desk.close(11);
    assert_eq!(desk.master.view(0).frameworks, []);
}

#[test]
fn a_new_master_learns_from_those_who_come_back() {
    let (mut desk, id) = with_running_task();
    let ended = desk.subscribe(12, None, "r", 0);
    desk.close(12);
    let registry: Vec<Record> = desk.registry.into_values().collect();
    let mut desk = Desk::with_registry(2, 1_000, registry);
    desk.subscribe(10, Some(id.as_str()), "r", 60_000);
    assert_eq!(desk.reconcile(10, &["t", "nowhere"]), [], "the agent may have them");
    desk.framework(10, FrameworkCall::Kill { task_id: "early".into(), grace_ms: None });
    let tasks = vec![
        reported(&id, "t", TaskState::Running),
        reported(&id, "early", TaskState::Running),
        reported(&ended, "left-over", TaskState::Running),
    ];
    desk.register(1, "a", 4.0, tasks);
    let told = |id: &str, state| (id.to_string(), state, Reason::Reconciliation, false);
    let expected =
        [told("t", TaskState::Running), told("early", TaskState::Running), told("nowhere", TaskState::Unknown)];
    assert_eq!(desk.updates_to(10), expected);
    let killed: Vec<String> = desk
        .orders_to(1)
        .into_iter()
        .filter_map(|order| if let AgentOrder::Kill { task_id, .. } = order { Some(task_id.to_string()) } else { None })
        .collect();
    assert_eq!(killed, ["early", "left-over"]);
    assert_eq!(desk.master.view(desk.now_ms).agents[0].used, Resources::new().cpus(3.0));
    desk.want(10, &[demand(1.0, 1)]);
    assert!(desk.offers_to(10)[0].offer_id.as_str().starts_with("o-2-"));
}

#[test]
fn what_an_agent_may_have_that_was_given_up_is_unreachable_until_it_is_back_or_gone() {
    let (mut desk, id) = with_running_task();
    desk.register(2, "b", 4.0, vec![]);
    let registry: Vec<Record> = desk.registry.into_values().collect();
    for ends_by in ["coming back", "being gone"] {
        let mut desk = Desk::with_registry(2, 1_000, registry.clone());
        desk.subscribe(10, Some(id.as_str()), "r", 60_000);
        desk.register(2, "b", 4.0, vec![]);
        assert_eq!(desk.reconcile(10, &["t"]), [], "it is expected at any moment");
        desk.pass(700_000, &[2]);
        let told = |id: &str, state, reason| (id.to_string(), state, reason, false);
        let unreachable = |id| told(id, TaskState::Unreachable, Reason::AgentUnreachable);
        assert_eq!(desk.updates_to(10), [unreachable("t")]);
        assert_eq!(desk.reconcile(10, &["nowhere", "t"]), [unreachable("nowhere"), unreachable("t")]);
        desk.framework(10, FrameworkCall::Kill { task_id: "t".into(), grace_ms: Some(70) });
        assert_eq!(desk.updates_to(10), [unreachable("t")]);
        desk.close(2);
        desk.register(3, "b", 4.0, vec![]);
        assert_eq!(desk.updates_to(10), [], "it was told");
        let unknown = |id| told(id, TaskState::Unknown, Reason::Reconciliation);
        if ends_by == "being gone" {
            desk.operate(OperatorCall::Gone { agent_id: "a".into(), force: false }).expect("it is away");
            assert_eq!(desk.updates_to(10), [unknown("nowhere"), unknown("t")]);
            continue;
        }
        desk.register(1, "a", 4.0, vec![reported(&id, "t", TaskState::Running)]);
        let back = told("t", TaskState::Running, Reason::Reconciliation);
        assert_eq!(desk.updates_to(10), [back, unknown("nowhere")]);
        let orders = desk.orders_to(1);
        let is_kill = |order: &AgentOrder| matches!(order, AgentOrder::Kill { grace_ms: Some(70), cause: None, .. });
        assert!(orders.iter().any(is_kill), "{orders:?}");
        assert_eq!(desk.reconcile(10, &["nowhere"]), [unknown("nowhere")]);
    }
}

#[test]
fn a_master_without_a_registry_adopts_the_framework_of_a_task() {
    let mut desk = Desk::with_registry(5, 0, []);
    let id = FrameworkId::from("f-4-1");
    desk.register(1, "a", 4.0, vec![reported(&id, "t", TaskState::Running)]);
    assert!(!desk.master.view(0).frameworks[0].connected);
    desk.subscribe(10, Some("f-4-1"), "r", 1_000);
    assert_eq!(desk.reconcile(10, &[]), [("t".to_string(), TaskState::Running, Reason::Reconciliation, false)]);
    assert_eq!(desk.master.view(0).frameworks[0].dominant_share, 0.25);
    assert!(desk.registry.contains_key("framework/f-4-1"));
    assert_eq!(desk.subscribe(11, None, "r", 0).as_str(), "f-5-1");
}

#[test]
fn asking_twice_for_a_task_does_not_drop_the_one_that_runs() {
    let (mut desk, _) = with_running_task();
    desk.want(10, &[demand(1.0, 1)]);
    let offer = desk.offers_to(10).remove(0);
    desk.accept(10, &[&offer], vec![task("t", "a", 1.0)]);
    assert_eq!(desk.updates_to(10), [("t".to_string(), TaskState::Running, Reason::InvalidTask, false)]);
}

impl Desk {
    fn operate(&mut self, call: OperatorCall) -> Result<Vec<String>, String> {
        self.apply(Event::FromOperator { request: RequestId(1), call });
        self.answers.pop().expect("an answer")
    }

    fn drain(&mut self, id: &str, deadline_ms: Option<u64>) -> Result<Vec<String>, String> {
        self.operate(OperatorCall::Drain { agent_id: id.into(), deadline_ms, window: Window::default() })
    }

    fn state_of(&self, id: &str) -> AgentState {
        let view = self.master.view(self.now_ms);
        view.agents.iter().find(|agent| agent.agent.agent_id.as_str() == id).expect("it is known").state
    }
}

#[test]
fn a_drained_agent_is_offered_to_nobody_and_empty_in_time_also_under_the_next_master() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.pass(1_000, &[1]);
    let offers = desk.offers_to(10);
    let [offer] = offers.as_slice() else { panic!("{offers:?}") };
    desk.accept(10, &[offer], vec![task("t", "a", 1.0)]);
    desk.report(1, &id, "t", TaskState::Running);
    desk.pass(6_000, &[1]);
    assert_eq!(desk.offers_to(10).len(), 1, "what is left is offered again");

    assert_eq!(desk.drain("b", None), Err("there is no agent 'b'; `smack agents` lists them".to_string()));
    let undrain = OperatorCall::Undrain { agent_id: "a".into() };
    assert_eq!(desk.operate(undrain.clone()), Err("agent a is not being drained".to_string()));
    assert_eq!(desk.drain("a", None), Ok(vec![]));
    assert!(matches!(desk.said_to(10).as_slice(), [FrameworkEvent::Rescind { .. }]), "its task may stay");
    assert_eq!(desk.state_of("a"), AgentState::Draining);
    assert_eq!(desk.drain("a", Some(10_000)), Ok(vec![]));
    let told = FrameworkEvent::AgentDrains { agent_id: "a".into(), ends_in_ms: 10_000 };
    assert_eq!(desk.said_to(10), [told]);

    // The next master knows it before it hears the agent, and says it again.
    let records: Vec<Record> = desk.registry.values().cloned().collect();
    let mut desk = Desk::with_registry(2, desk.now_ms + 4_000, records);
    desk.subscribe(10, Some(id.as_str()), "r", 60_000);
    let info = TaskInfo { task_id: "t".into(), resources: Resources::new().cpus(1.0), ..Default::default() };
    let running = AgentTask { framework_id: id.clone(), info, state: TaskState::Running };
    desk.register(1, "a", 4.0, vec![running]);
    let told = FrameworkEvent::AgentDrains { agent_id: "a".into(), ends_in_ms: 6_000 };
    assert!(desk.said_to(10).contains(&told));
    desk.orders_to(1);
    desk.pass(5_999, &[1]);
    assert!(desk.offers_to(10).is_empty() && desk.orders_to(1).is_empty());
    desk.pass(1, &[1]);
    let orders = desk.orders_to(1);
    let [AgentOrder::Kill { grace_ms: None, cause: Some(cause), .. }] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!((cause.reason, cause.message.as_str()), (Reason::AgentDrained, "agent a is drained"));
    desk.report(1, &id, "t", TaskState::Killed);
    assert_eq!(desk.state_of("a"), AgentState::Drained);
    desk.pass(60_000, &[1]);
    assert!(desk.offers_to(10).is_empty());

    assert_eq!(desk.operate(undrain), Ok(vec![]));
    assert_eq!((desk.state_of("a"), desk.offers_to(10).len()), (AgentState::Active, 1));
    assert_eq!(desk.registry["drain/a"], Record::Drain { agent_id: "a".into(), drain: None });
}

#[test]
fn an_agent_that_was_away_when_it_should_have_been_empty_is_emptied_when_it_comes_back() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.pass(1_000, &[1]);
    let offers = desk.offers_to(10);
    desk.accept(10, &[&offers[0]], vec![task("t", "a", 1.0)]);
    desk.report(1, &id, "t", TaskState::Running);
    desk.close(1);
    assert_eq!(desk.drain("a", Some(1_000)), Ok(vec![]));
    desk.pass(2_000, &[]);
    let info = TaskInfo { task_id: "t".into(), resources: Resources::new().cpus(1.0), ..Default::default() };
    let running = AgentTask { framework_id: id.clone(), info, state: TaskState::Running };
    desk.orders_to(1);
    desk.register(2, "a", 4.0, vec![running]);
    let orders = desk.orders_to(2);
    let is_for_the_drain = |cause: &Option<Cause>| cause.as_ref().is_some_and(|c| c.reason == Reason::AgentDrained);
    let is_kill = |order: &AgentOrder| matches!(order, AgentOrder::Kill { cause, .. } if is_for_the_drain(cause));
    assert!(orders.iter().any(is_kill), "{orders:?}");
    assert_eq!(desk.state_of("a"), AgentState::Draining);
}

#[test]
fn a_window_empties_an_agent_in_time_and_gives_it_back_also_under_the_next_master() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    let id = desk.subscribe(10, None, "r", 60_000);
    desk.pass(1_000, &[1]);
    let offers = desk.offers_to(10);
    assert_eq!(offers[0].drains_in_ms, None);
    desk.accept(10, &[&offers[0]], vec![task("t", "a", 1.0)]);
    desk.report(1, &id, "t", TaskState::Running);
    desk.pass(6_000, &[1]);
    assert_eq!(desk.offers_to(10).len(), 1, "what is left");

    let at_ms = desk.now_ms + 60_000;
    let planned = |at_ms, for_ms| OperatorCall::Drain {
        agent_id: "a".into(),
        deadline_ms: Some(10_000),
        window: Window { at_ms: Some(at_ms), for_ms },
    };
    let past = desk.operate(planned(desk.now_ms - 1_500, None));
    assert_eq!(past, Err("the window begins 1.5 s in the past".to_string()));
    assert_eq!(desk.operate(planned(at_ms, Some(30_000))), Ok(vec![]));
    let said = desk.said_to(10);
    let [FrameworkEvent::Rescind { .. }, FrameworkEvent::Offer(offer)] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((offer.drains_in_ms, desk.state_of("a")), (Some(60_000), AgentState::Active));
    desk.pass(49_999, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Active);
    desk.said_to(10);
    desk.pass(1, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Draining);
    let told = FrameworkEvent::AgentDrains { agent_id: "a".into(), ends_in_ms: 10_000 };
    assert!(desk.said_to(10).contains(&told));

    // The next master comes in the middle, and knows all of it.
    let records: Vec<Record> = desk.registry.values().cloned().collect();
    let mut desk = Desk::with_registry(2, at_ms - 5_000, records);
    desk.subscribe(10, Some(id.as_str()), "r", 60_000);
    let info = TaskInfo { task_id: "t".into(), resources: Resources::new().cpus(1.0), ..Default::default() };
    let running = AgentTask { framework_id: id.clone(), info, state: TaskState::Running };
    desk.register(1, "a", 4.0, vec![running]);
    desk.orders_to(1);
    desk.pass(5_000, &[1]);
    let orders = desk.orders_to(1);
    assert!(orders.iter().any(|order| matches!(order, AgentOrder::Kill { grace_ms: None, .. })), "{orders:?}");
    desk.report(1, &id, "t", TaskState::Killed);
    assert_eq!(desk.state_of("a"), AgentState::Drained);
    desk.offers_to(10);
    desk.pass(29_999, &[1]);
    assert_eq!((desk.state_of("a"), desk.offers_to(10).len()), (AgentState::Drained, 0));
    desk.pass(1, &[1]);
    assert_eq!((desk.state_of("a"), desk.offers_to(10).len()), (AgentState::Active, 1));
    assert_eq!(desk.registry["drain/a"], Record::Drain { agent_id: "a".into(), drain: None });
    desk.pass(600_000, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Active);
}

#[test]
fn a_window_can_be_moved_or_cancelled_and_need_not_begin_later() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 60_000);
    desk.pass(1_000, &[1]);
    let drain = |at_ms, for_ms| OperatorCall::Drain {
        agent_id: "a".into(),
        deadline_ms: None,
        window: Window { at_ms, for_ms },
    };
    let now_ms = desk.now_ms;
    desk.operate(drain(Some(now_ms + 4_000), None)).expect("is planned");
    desk.operate(drain(Some(now_ms + 20_000), None)).expect("is moved");
    desk.pass(8_000, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Active);
    desk.operate(OperatorCall::Undrain { agent_id: "a".into() }).expect("is cancelled");
    assert_eq!(desk.offers_to(10).last().map(|offer| offer.drains_in_ms), Some(None), "it is as good as any again");
    desk.pass(8_000, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Active);
    // From now on for a while; then what was begun is put off.
    desk.operate(drain(None, Some(5_000))).expect("is drained");
    assert_eq!(desk.state_of("a"), AgentState::Drained);
    desk.pass(5_000, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Active);
    desk.operate(drain(None, None)).expect("is drained");
    let now_ms = desk.now_ms;
    desk.operate(drain(Some(now_ms + 1_000), None)).expect("is put off");
    assert_eq!(
        (desk.state_of("a"), desk.offers_to(10).last().map(|offer| offer.drains_in_ms)),
        (AgentState::Active, Some(Some(1_000)))
    );
    desk.pass(1_000, &[1]);
    assert_eq!(desk.state_of("a"), AgentState::Drained);
}
