//! Clusters of the shapes that others have published figures for, to be measured.
//!
//! Invariant: a workload is the real master and what peers would say to it; whoever measures owns the clock. Agents and
//! frameworks are numbered, and no framework posts demand unless its workload says so.

use crate::Master;
use crate::master::{Command, Config, Event, Record};
use crate::model::{
    AgentCall, AgentInfo, AgentTask, ConnectionId, Demand, FrameworkCall, FrameworkEvent, Offer, OperatorCall, Quota,
    RequestId, TaskInfo,
};
use jobs::{FrameworkId, OfferId, Resources, TaskState};
use std::collections::BTreeMap;

/// Connections of frameworks are numbered from here, those of agents from 0.
const FRAMEWORKS: u64 = 1 << 32;

/// As many events are heard at once as the master's daemon takes in one turn.
const TURN: usize = 256;

const FOREVER_MS: u64 = u64::MAX;

/// A master, a clock, and the offers that stand.
#[derive(Debug)]
pub struct Cluster {
    pub master: Master,
    pub now_ms: u64,
    /// By framework: what it was offered and has not answered.
    pub offers: Vec<Vec<Offer>>,
}

/// Every second number of a range of ports, so many single ports.
fn fragmented(low: u16, n: u16) -> impl Iterator<Item = (u16, u16)> {
    (0..n).map(move |at| (low + 2 * at, low + 2 * at))
}

/// An agent of the benchmark `DeclineOffers`.
pub fn large_agent() -> Resources {
    Resources::new().cpus(24.0).mem_mib(4096.0).with("disk", 4096.0).with_ports([(31_000, 32_000)])
}

/// What is used of it.
pub fn large_agent_used() -> Resources {
    Resources::new().cpus(16.0).mem_mib(2014.0).with("disk", 1024.0).with_ports(fragmented(31_000, 16))
}

/// An agent of the benchmark `LargeAndSmallQuota`.
pub fn small_agent() -> Resources {
    Resources::new().cpus(2.0).mem_mib(2048.0).with("disk", 2048.0)
}

fn agent_info(at: usize, total: &Resources) -> AgentInfo {
    AgentInfo {
        agent_id: format!("agent-{at:05}").into(),
        host: format!("host-{at:05}"),
        total: total.clone(),
        attributes: BTreeMap::new(),
        http_endpoint: String::new(),
        reserved: Vec::new(),
    }
}

fn framework_id(at: usize) -> FrameworkId {
    FrameworkId::new(format!("f-1-{}", at + 1))
}

fn running(framework: usize, id: String, agent: usize, resources: Resources) -> AgentTask {
    let info = TaskInfo {
        task_id: id.into(),
        name: "service".into(),
        agent_id: format!("agent-{agent:05}").into(),
        resources,
        ..TaskInfo::default()
    };
    AgentTask { framework_id: framework_id(framework), info, state: TaskState::Running }
}

impl Cluster {
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        Self { master: Master::new(Config::default(), 1, 0, records), now_ms: 0, offers: Vec::new() }
    }

    /// Hears all of it at once.
    pub fn hear(&mut self, events: impl IntoIterator<Item = Event>) {
        for command in self.master.apply_all(self.now_ms, events) {
            if let Command::ToFramework { connection, event: FrameworkEvent::Offer(offer) } = command {
                self.offers[(connection.0 - FRAMEWORKS) as usize].push(offer);
            }
        }
    }

    /// Frameworks subscribe; nothing is offered to them before [`settle`](Self::settle).
    pub fn subscribe(&mut self, n: usize, role: impl Fn(usize) -> String) {
        let from = self.offers.len();
        self.offers.resize_with(from + n, Vec::new);
        let subscribe = |at: usize| FrameworkCall::Subscribe {
            framework_id: None,
            name: format!("framework {at}"),
            role: role(at),
            failover_timeout_ms: 60_000,
            constraints: Vec::new(),
        };
        let events: Vec<Event> = (from..from + n).map(|at| from_framework(at, subscribe(at))).collect();
        self.hear(events);
    }

    /// Agents register, as many in one turn as the daemon takes.
    pub fn register(&mut self, n: usize, total: &Resources, tasks: impl Fn(usize) -> Vec<AgentTask>) {
        let numbers: Vec<usize> = (0..n).collect();
        for turn in numbers.chunks(TURN) {
            let register = |at: &usize| Event::FromAgent {
                connection: ConnectionId(*at as u64),
                call: AgentCall::Register { agent: agent_info(*at, total), tasks: tasks(*at), volumes: Vec::new() },
            };
            let events: Vec<Event> = turn.iter().map(register).collect();
            self.hear(events);
        }
    }

    /// Frameworks that have just subscribed are offered what is free: one cycle over everything.
    pub fn settle(&mut self) {
        self.now_ms += 30;
        self.hear([Event::Tick]);
    }

    pub fn n_offers(&self) -> usize {
        self.offers.iter().map(Vec::len).sum()
    }

    /// Every framework declines all that it was offered; what that is is offered to others in the same cycle.
    pub fn decline_round(&mut self, refuse_ms: u64) {
        let decline = |(at, offers): (usize, &mut Vec<Offer>)| {
            let offer_ids = offers.drain(..).map(|offer| offer.offer_id).collect();
            from_framework(at, FrameworkCall::Decline { offer_ids, refuse_ms: Some(refuse_ms) })
        };
        let events: Vec<Event> = self.offers.iter_mut().enumerate().map(decline).collect();
        self.hear(events);
    }
}

fn from_framework(at: usize, call: FrameworkCall) -> Event {
    Event::FromFramework { connection: ConnectionId(FRAMEWORKS + at as u64), call }
}

/// The benchmark `DeclineOffers`, complete with used resources and fragmented ports; nothing is offered yet.
pub fn declines(n_agents: usize, n_frameworks: usize) -> Cluster {
    let mut cluster = Cluster::new([]);
    cluster.subscribe(n_frameworks, |_| "*".into());
    let used = large_agent_used();
    let task = |at: usize| running(at % n_frameworks, format!("t-{at}"), at, used.clone());
    cluster.register(n_agents, &large_agent(), |at| vec![task(at)]);
    cluster
}

impl Cluster {
    /// One round of `DeclineOffers`.
    pub fn decline_for_ever(&mut self) {
        self.decline_round(FOREVER_MS);
    }
}

/// What a failed-over master knows before anybody came back: agents and frameworks of its registry.
pub fn failed_over(n_agents: usize, n_frameworks: usize) -> Cluster {
    let agents = (0..n_agents).map(|at| Record::Agent(agent_info(at, &failover_agent())));
    let frameworks = (0..n_frameworks).map(|at| Record::Framework {
        framework_id: framework_id(at),
        name: format!("framework {at}"),
        role: format!("role-{}", at % 10),
        failover_timeout_ms: 600_000,
    });
    Cluster::new(agents.chain(frameworks))
}

fn failover_agent() -> Resources {
    Resources::new().cpus(20.0).mem_mib(10_240.0)
}

/// What its agents say when they come back, turn by turn.
pub fn registrations(n_agents: usize, n_tasks_each: usize, n_frameworks: usize) -> Vec<Vec<Event>> {
    let shape = Resources::new().cpus(0.1).mem_mib(5.0);
    let register = |at: usize| {
        let task = |n: usize| running((at + n) % n_frameworks, format!("t-{at}-{n}"), at, shape.clone());
        Event::FromAgent {
            connection: ConnectionId(at as u64),
            call: AgentCall::Register {
                agent: agent_info(at, &failover_agent()),
                tasks: (0..n_tasks_each).map(task).collect(),
                volumes: Vec::new(),
            },
        }
    };
    let mut turns = Vec::new();
    for from in (0..n_agents).step_by(TURN) {
        turns.push((from..n_agents.min(from + TURN)).map(register).collect());
    }
    turns
}

/// Agents, and one framework that will want a task on each of them.
pub fn gang(n_agents: usize) -> Cluster {
    let mut cluster = Cluster::new([]);
    cluster.register(n_agents, &large_agent(), |_| Vec::new());
    cluster.subscribe(1, |_| "ml".into());
    cluster
}

impl Cluster {
    /// The gang's demand: as many tasks as there are agents, each of which has room for one. It is met by offers.
    pub fn want_gang(&mut self, count: u32) {
        let shape = Resources::new().cpus(16.0).mem_mib(2048.0);
        let demands = vec![Demand { name: "gang".into(), shape, n_ports: 1, count, ..Demand::default() }];
        self.hear([from_framework(0, FrameworkCall::Demand { demands })]);
    }

    /// One accept of all of it. Answers how many tasks were launched.
    pub fn accept_gang(&mut self) -> usize {
        let offers = std::mem::take(&mut self.offers[0]);
        let task = |offer: &Offer| TaskInfo {
            task_id: format!("worker-{}", offer.agent_id).into(),
            name: "worker".into(),
            agent_id: offer.agent_id.clone(),
            resources: Resources::new().cpus(16.0).mem_mib(2048.0).with_ports([(31_000, 31_000)]),
            ..TaskInfo::default()
        };
        let launch: Vec<TaskInfo> = offers.iter().map(task).collect();
        let offer_ids: Vec<OfferId> = offers.into_iter().map(|offer| offer.offer_id).collect();
        let accept =
            from_framework(0, FrameworkCall::Accept { offer_ids, operations: Vec::new(), launch, refuse_ms: None });
        let commands = self.master.apply(self.now_ms, accept);
        commands.iter().filter(|command| matches!(command, Command::ToAgent { .. })).count()
    }
}

/// The benchmark `LargeAndSmallQuota`: one framework in each role, a guarantee for each role, and as many agents as the
/// guarantees take whole. The first cycle is still to come.
///
/// With limits, the quota is a limit too, as it was when the benchmark was published: then the first cycle leaves a
/// quarter of the cluster free, and every role is at its limit.
pub fn quota_roles(n_small: usize, n_large: usize, with_limits: bool) -> Cluster {
    let mut cluster = Cluster::new([]);
    cluster.register(n_small / 5 + n_large * 5, &small_agent(), |_| Vec::new());
    let of_size = |size: i64| [("cpus", size), ("mem", size * 1024), ("disk", size * 1024)];
    let quota = |at: usize| {
        let amounts = of_size(if at < n_small { 1_000 } else { 4_000 });
        let limit = amounts.iter().filter(|_| with_limits).map(|(name, milli)| (name.to_string(), *milli)).collect();
        let quota = Quota { guarantee: amounts.into_iter().collect(), limit };
        let call = OperatorCall::SetQuota { role: quota_role(at), quota, force: false };
        Event::FromOperator { request: RequestId(at as u64), call }
    };
    let events: Vec<Event> = (0..n_small + n_large).map(quota).collect();
    cluster.hear(events);
    cluster.subscribe(n_small + n_large, quota_role);
    cluster
}

fn quota_role(at: usize) -> String {
    format!("role-{at:05}")
}

impl Cluster {
    /// Every framework takes all but a little of what it was offered, so that it wants more than any agent has left.
    pub fn use_nearly_all(&mut self) {
        // So little that what two offers of one agent leave is nothing to anybody.
        let left = Resources::new().cpus(0.002).mem_mib(4.0);
        let offers: Vec<Vec<Offer>> = self.offers.iter_mut().map(std::mem::take).collect();
        let mut events = Vec::new();
        for (at, offers) in offers.into_iter().enumerate() {
            for offer in offers {
                let mut resources = offer.resources;
                if !resources.contains(&left) {
                    continue;
                }
                resources.subtract(&left);
                let task = TaskInfo {
                    task_id: format!("t-{}", offer.offer_id).into(),
                    agent_id: offer.agent_id,
                    resources,
                    ..TaskInfo::default()
                };
                let (offer_ids, launch, refuse_ms) = (vec![offer.offer_id], vec![task], Some(0));
                events.push(from_framework(
                    at,
                    FrameworkCall::Accept { offer_ids, operations: Vec::new(), launch, refuse_ms },
                ));
            }
        }
        self.hear(events);
    }

    /// A cycle over every agent, after which nothing is offered that was not before. Answers how many offers it made.
    pub fn no_op_cycle(&mut self) -> usize {
        self.master.look_everywhere().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_filled_and_then_nothing_is_left_to_do() {
        let mut cluster = quota_roles(20, 5, true);
        cluster.settle();
        assert_eq!(cluster.n_offers(), 30, "as published: one for each small quota, two for each large one");
        assert_eq!(cluster.no_op_cycle(), 0);
        let mut hungry = quota_roles(20, 5, false);
        hungry.settle();
        hungry.use_nearly_all();
        assert!(hungry.master.view(0).agents.iter().all(|agent| !agent.free.is_empty()));
        assert_eq!(hungry.no_op_cycle(), 0);
    }

    #[test]
    fn every_agent_is_offered_once_to_everybody_who_declines() {
        let (n_agents, n_frameworks) = (20, 5);
        let mut cluster = declines(n_agents, n_frameworks);
        cluster.settle();
        for _ in 0..n_frameworks {
            assert_eq!(cluster.n_offers(), n_agents);
            cluster.decline_for_ever();
        }
        assert_eq!(cluster.n_offers(), 0);
        assert_eq!(cluster.master.n_refusals(), n_agents * n_frameworks);
    }

    #[test]
    fn agents_come_back_with_all_their_tasks() {
        let mut cluster = failed_over(30, 7);
        for turn in registrations(30, 10, 7) {
            cluster.hear(turn);
        }
        assert_eq!(cluster.master.view(0).tasks.len(), 300);
    }

    #[test]
    fn a_gang_is_placed_by_one_accept() {
        let mut cluster = gang(50);
        cluster.want_gang(50);
        assert_eq!(cluster.n_offers(), 50);
        assert_eq!(cluster.accept_gang(), 50);
    }
}
