//! Frameworks that take whatever they are offered, in roles of several depths and weights, on a cluster that is full:
//! what any task leaves goes to whoever has the least share by weight. Weights change meanwhile.

use crate::invariants::fairness::Shares;
use jobs::{Reason, Resources, Scalars, TaskState};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scheduler::Master;
use scheduler::master::{Command, Config, Event};
use scheduler::model::{
    AgentCall, AgentInfo, ConnectionId, FrameworkCall, FrameworkEvent, OperatorCall, RequestId, TaskInfo, TaskStatus,
};
use std::collections::{BTreeMap, VecDeque};

const ROLES: [&str; 6] = ["a/x", "a/y", "b", "c/x/y", "c/x/z", "c/w"];
/// Those above them have weights too.
const WEIGHED: [&str; 8] = ["a", "a/x", "a/y", "b", "c", "c/x", "c/x/y", "c/w"];
const FRAMEWORKS: u64 = 1_000;
const STEPS: usize = 400;

struct Running {
    framework: usize,
    framework_id: String,
    agent: u64,
    resources: Resources,
}

struct Cluster {
    master: Master,
    shares: Shares,
    ids: BTreeMap<usize, String>,
    running: BTreeMap<String, Running>,
    n_offers: usize,
}

impl Cluster {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let config = Config { missed_heartbeats: 1 << 40, offer_expiry_ms: 1 << 40, ..Config::default() };
        let (shares, master) = (Shares::default(), Master::new(config, 1, 0, []));
        let mut cluster = Self { master, shares, ids: BTreeMap::new(), running: BTreeMap::new(), n_offers: 0 };
        for (at, role) in ROLES.iter().enumerate() {
            cluster.shares.held.insert(role.to_string(), Scalars::new());
            let call = FrameworkCall::Subscribe {
                framework_id: None,
                name: role.to_string(),
                role: role.to_string(),
                failover_timeout_ms: 1,
                constraints: Vec::new(),
            };
            cluster.apply(0, Event::FromFramework { connection: ConnectionId(FRAMEWORKS + at as u64), call });
        }
        cluster.apply(100, Event::Tick);
        for at in 0..rng.random_range(8..24) {
            let cpus = rng.random_range(1..5);
            let total = Resources::new().cpus(f64::from(cpus)).mem_mib(f64::from(rng.random_range(1..5)) * 256.0);
            // A new agent is counted before any of it is offered.
            cluster.shares.total.add(total.amounts());
            let agent = AgentInfo {
                agent_id: format!("agent-{at}").into(),
                host: String::new(),
                total,
                attributes: BTreeMap::new(),
                http_endpoint: String::new(),
                reserved: Vec::new(),
            };
            let call = AgentCall::Register { agent, tasks: vec![], volumes: vec![] };
            cluster.apply(100, Event::FromAgent { connection: ConnectionId(at), call });
        }
        cluster
    }

    fn apply(&mut self, now_ms: u64, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut offers = Vec::new();
            for command in self.master.apply(now_ms, event) {
                let Command::ToFramework { connection, event } = command else { continue };
                let framework = (connection.0 - FRAMEWORKS) as usize;
                match event {
                    FrameworkEvent::Subscribed { framework_id, .. } => {
                        self.ids.insert(framework, framework_id.to_string());
                    }
                    FrameworkEvent::Offer(offer) => {
                        let role = ROLES[framework];
                        self.shares.check(role);
                        self.shares.held.entry(role.into()).or_default().add(offer.resources.amounts());
                        self.n_offers += 1;
                        offers.push((framework, offer));
                    }
                    _ => {}
                }
            }
            for (framework, offer) in offers {
                let task_id = offer.offer_id.to_string();
                let agent = offer.agent_id.as_str().trim_start_matches("agent-").parse().expect("agents are numbered");
                let framework_id = self.ids[&framework].clone();
                let running = Running { framework, framework_id, agent, resources: offer.resources.clone() };
                self.running.insert(task_id.clone(), running);
                let launch = vec![TaskInfo {
                    task_id: task_id.into(),
                    agent_id: offer.agent_id,
                    resources: offer.resources,
                    ..TaskInfo::default()
                }];
                let call = FrameworkCall::Accept {
                    offer_ids: vec![offer.offer_id],
                    operations: Vec::new(),
                    launch,
                    refuse_ms: Some(0),
                };
                events
                    .push_back(Event::FromFramework { connection: ConnectionId(FRAMEWORKS + framework as u64), call });
            }
        }
    }

    fn step(&mut self, rng: &mut ChaCha8Rng) {
        if rng.random_bool(0.1) {
            let role = WEIGHED[rng.random_range(0..WEIGHED.len())];
            let weight_milli = rng.random_range(500..4_000);
            self.shares.weights.insert(role.into(), weight_milli as f64 / 1000.0);
            let call = OperatorCall::SetWeight { role: role.into(), weight_milli };
            return self.apply(100, Event::FromOperator { request: RequestId(0), call });
        }
        let Some(id) = self.running.keys().choose(rng).cloned() else { return };
        let Some(ended) = self.running.remove(&id) else { return };
        if let Some(held) = self.shares.held.get_mut(ROLES[ended.framework]) {
            held.subtract(ended.resources.amounts());
        }
        let status = TaskStatus {
            task_id: id.into(),
            agent_id: format!("agent-{}", ended.agent).into(),
            state: TaskState::Finished,
            reason: Reason::Exited,
            message: String::new(),
            uuid: Some("u".into()),
            at_ms: 0,
            exit_code: 0,
        };
        let call = AgentCall::Update { framework_id: ended.framework_id.into(), status };
        self.apply(100, Event::FromAgent { connection: ConnectionId(ended.agent), call });
    }
}

#[test]
fn the_hungry_share_by_weight() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut cluster = Cluster::new(&mut rng);
        for _ in 0..STEPS {
            cluster.step(&mut rng);
        }
        assert!(cluster.n_offers > STEPS / 2, "seed {seed} made {} offers only", cluster.n_offers);
    }
}
