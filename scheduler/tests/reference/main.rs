//! The master's offers are exactly those of a naive allocator that looks at everything each time, whatever happens:
//! nested roles with weights and quotas, demand, refusals, agents that go and come.

mod naive;

use jobs::{AgentId, FrameworkId, OfferId, Reason, Resources, Scalars, TaskId, TaskState};
use naive::{Agent, Decision, Framework, Naive, Refusal};
use proptest::prelude::*;
use scheduler::Master;
use scheduler::master::{Command, Config, Event};
use scheduler::model::{
    AgentCall, AgentInfo, AgentTask, ConnectionId, Demand, FrameworkCall, FrameworkEvent, OperatorCall, Quota,
    RequestId, TaskInfo, TaskStatus,
};
use std::collections::BTreeMap;

const N_AGENTS: usize = 100;
const N_FRAMEWORKS: usize = 20;
const ROLES: [&str; 6] = ["a", "b", "a/x", "a/y", "b/z/deep", "c"];
/// Every role that can have terms: those above others too.
const ALL_ROLES: [&str; 7] = ["a", "b", "a/x", "a/y", "b/z", "b/z/deep", "c"];
const FRAMEWORKS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Step {
    Decline {
        framework: usize,
        most: usize,
        refuse_ms: u64,
    },
    /// Launches on so many offers a task that takes so many quarters of each.
    Accept {
        framework: usize,
        most: usize,
        quarters: i64,
    },
    Finish {
        task: usize,
    },
    Suppress {
        framework: usize,
    },
    Revive {
        framework: usize,
    },
    Demand {
        framework: usize,
        cpus: i64,
        count: u32,
    },
    Pass {
        ms: u64,
    },
    AgentGoes {
        agent: usize,
    },
    AgentComes {
        agent: usize,
    },
    Quota {
        role: usize,
        guarantee: i64,
        limit: Option<i64>,
    },
    Weight {
        role: usize,
        milli: u64,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let framework = 0..N_FRAMEWORKS;
    prop_oneof![
        4 => (framework.clone(), 1usize..8, prop_oneof![Just(0), Just(500), Just(5_000)])
            .prop_map(|(framework, most, refuse_ms)| Step::Decline { framework, most, refuse_ms }),
        4 => (framework.clone(), 1usize..4, 1i64..5)
            .prop_map(|(framework, most, quarters)| Step::Accept { framework, most, quarters }),
        3 => any::<usize>().prop_map(|task| Step::Finish { task }),
        1 => framework.clone().prop_map(|framework| Step::Suppress { framework }),
        2 => framework.clone().prop_map(|framework| Step::Revive { framework }),
        3 => (framework, 1i64..9, 0u32..6)
            .prop_map(|(framework, cpus, count)| Step::Demand { framework, cpus: cpus * 500, count }),
        2 => (1u64..3_000).prop_map(|ms| Step::Pass { ms }),
        1 => (0..N_AGENTS).prop_map(|agent| Step::AgentGoes { agent }),
        2 => (0..N_AGENTS).prop_map(|agent| Step::AgentComes { agent }),
        2 => (0..ALL_ROLES.len(), 0i64..60, prop::option::of(0i64..120))
            .prop_map(|(role, guarantee, limit)| Step::Quota { role, guarantee, limit }),
        1 => (0..ALL_ROLES.len(), 500u64..4_000).prop_map(|(role, milli)| Step::Weight { role, milli }),
    ]
}

struct Running {
    key: (usize, String),
    agent: String,
    resources: Resources,
}

struct Both {
    master: Master,
    naive: Naive,
    ids: Vec<FrameworkId>,
    running: Vec<Running>,
    n_tasks: usize,
    n_offers: usize,
}

fn agent_name(at: usize) -> String {
    format!("agent-{at:03}")
}

fn machine(at: usize) -> Resources {
    let cpus = [2.0, 4.0, 8.0][at % 3];
    Resources::new().cpus(cpus).mem_mib(cpus * 1024.0).with_ports([(31_000, 31_019)])
}

impl Both {
    fn new() -> Self {
        let config = Config {
            missed_heartbeats: 1_000_000,
            offer_expiry_ms: 1_000_000_000,
            scarce: Vec::new(),
            ..Config::default()
        };
        let naive = Naive { min_allocatable: config.min_allocatable.clone(), ..Naive::default() };
        let (ids, running) = (Vec::new(), Vec::new());
        let mut both = Self { master: Master::new(config, 1, 0, []), naive, ids, running, n_tasks: 0, n_offers: 0 };
        for at in 0..N_FRAMEWORKS {
            let role = ROLES[at * 7 % ROLES.len()];
            both.naive.name_role(role);
            both.naive.frameworks.push(Framework {
                role: role.to_string(),
                is_there: false,
                demands: None,
                offers: BTreeMap::new(),
                charged: Scalars::new(),
                n_offered: 0,
            });
            let call = FrameworkCall::Subscribe {
                framework_id: None,
                name: String::new(),
                role: role.into(),
                failover_timeout_ms: 1_000_000,
                constraints: Vec::new(),
            };
            both.say(at, call);
        }
        for at in 0..N_AGENTS {
            both.come(at);
        }
        for framework in &mut both.naive.frameworks {
            framework.is_there = true;
        }
        both.naive.now_ms = 30;
        both.apply(Event::Tick);
        both
    }

    fn say(&mut self, framework: usize, call: FrameworkCall) {
        self.apply(Event::FromFramework { connection: ConnectionId(FRAMEWORKS + framework as u64), call });
    }

    fn come(&mut self, at: usize) {
        let id = agent_name(at);
        let total = machine(at);
        let mut free = total.clone();
        let here = self.running.iter().filter(|running| running.agent == id);
        let tasks = here.map(|running| {
            free.subtract(&running.resources);
            let info = TaskInfo {
                task_id: running.key.1.as_str().into(),
                agent_id: id.as_str().into(),
                resources: running.resources.clone(),
                ..TaskInfo::default()
            };
            AgentTask { framework_id: self.ids[running.key.0].clone(), info, state: TaskState::Running }
        });
        let tasks: Vec<AgentTask> = tasks.collect();
        self.naive.agents.insert(id.clone(), Agent { total: total.clone(), free, is_active: true });
        let agent = AgentInfo {
            agent_id: id.as_str().into(),
            host: id,
            total,
            attributes: BTreeMap::new(),
            http_endpoint: String::new(),
            reserved: Vec::new(),
        };
        let connection = ConnectionId(at as u64);
        self.apply(Event::FromAgent { connection, call: AgentCall::Register { agent, tasks, volumes: vec![] } });
    }

    /// Both hear it; what the naive one does to its books must be done already.
    fn apply(&mut self, event: Event) {
        let shown = format!("{event:?}");
        let mut offered: Vec<(u64, Decision)> = Vec::new();
        for command in self.master.apply(self.naive.now_ms, event) {
            let Command::ToFramework { connection, event } = command else { continue };
            let framework = (connection.0 - FRAMEWORKS) as usize;
            match event {
                FrameworkEvent::Subscribed { framework_id, .. } => self.ids.push(framework_id),
                FrameworkEvent::Offer(offer) => {
                    let number = number(&offer.offer_id);
                    offered.push((number, (offer.agent_id.to_string(), framework, offer.resources)));
                }
                FrameworkEvent::Rescind { offer_id } => self.take_back(framework, number(&offer_id)),
                _ => {}
            }
        }
        let expected = self.naive.allocate();
        let decisions: Vec<&Decision> = offered.iter().map(|(_, decision)| decision).collect();
        assert_eq!(decisions, expected.iter().collect::<Vec<_>>(), "after {shown}");
        self.n_offers += offered.len();
        for framework in &mut self.naive.frameworks {
            framework.offers.retain(|number, _| *number < u64::MAX / 2);
        }
        for (number, (agent, framework, resources)) in offered {
            self.naive.frameworks[framework].offers.insert(number, (agent, resources));
        }
    }

    fn take_back(&mut self, framework: usize, number: u64) {
        let (agent, resources) = self.naive.frameworks[framework].offers.remove(&number).expect("it stood");
        self.give_back(framework, &agent, &resources);
    }

    fn give_back(&mut self, framework: usize, agent: &str, resources: &Resources) {
        self.naive.frameworks[framework].charged.subtract(resources.amounts());
        self.naive.agents.get_mut(agent).expect("known").free.add(resources);
    }

    fn refuse(&mut self, framework: usize, agent: &str, refused: Resources, refuse_ms: u64) {
        let (until_ms, agent) = (self.naive.now_ms + refuse_ms, agent.to_string());
        if refuse_ms > 0 && !refused.is_empty() {
            self.naive.refusals.push(Refusal { framework, agent, refused, until_ms });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Decline { framework, most, refuse_ms } => {
                let offers: Vec<u64> = self.naive.frameworks[framework].offers.keys().copied().take(most).collect();
                for number in &offers {
                    let (agent, resources) = self.naive.frameworks[framework].offers[number].clone();
                    self.take_back(framework, *number);
                    self.refuse(framework, &agent, resources, refuse_ms);
                }
                let offer_ids = offers.iter().map(|number| offer_id(*number)).collect();
                self.say(framework, FrameworkCall::Decline { offer_ids, refuse_ms: Some(refuse_ms) });
            }
            Step::Accept { framework, most, quarters } => self.accept(framework, most, quarters),
            Step::Finish { task } => {
                let connected: Vec<usize> = (0..self.running.len())
                    .filter(|at| self.naive.agents[&self.running[*at].agent].is_active)
                    .collect();
                if !connected.is_empty() {
                    self.finish(connected[task % connected.len()]);
                }
            }
            Step::Suppress { framework } => {
                self.naive.frameworks[framework].is_there = false;
                self.say(framework, FrameworkCall::Suppress);
            }
            Step::Revive { framework } => {
                self.naive.frameworks[framework].is_there = true;
                self.naive.refusals.retain(|refusal| refusal.framework != framework);
                self.say(framework, FrameworkCall::Revive);
            }
            Step::Demand { framework, cpus, count } => {
                let shape = Resources::new().with_amounts([("cpus", cpus), ("mem", 256_000)].into_iter().collect());
                let demand = Demand { name: "d".into(), shape, count, ..Demand::default() };
                let wants_more = match &self.naive.frameworks[framework].demands {
                    None => false,
                    Some(before) => before.iter().all(|old| old.shape != demand.shape || old.count < count),
                };
                if wants_more {
                    self.naive.refusals.retain(|refusal| refusal.framework != framework);
                }
                self.naive.frameworks[framework].demands = Some(vec![demand.clone()]);
                self.say(framework, FrameworkCall::Demand { demands: vec![demand] });
            }
            Step::Pass { ms } => {
                self.naive.now_ms += ms;
                self.apply(Event::Tick);
            }
            Step::AgentGoes { agent } => {
                let known = self.naive.agents.get_mut(&agent_name(agent)).expect("known");
                if known.is_active {
                    known.is_active = false;
                    self.apply(Event::Closed { connection: ConnectionId(agent as u64) });
                }
            }
            Step::AgentComes { agent } => {
                if !self.naive.agents[&agent_name(agent)].is_active {
                    self.come(agent);
                }
            }
            Step::Quota { role, guarantee, limit } => {
                let (role, guarantee) = (ALL_ROLES[role], Scalars::from_iter([("cpus", guarantee * 1_000)]));
                let limit: BTreeMap<String, i64> = limit.iter().map(|n| ("cpus".to_string(), n * 1_000)).collect();
                let quota = Quota { guarantee: guarantee.clone(), limit: limit.clone() };
                let call = OperatorCall::SetQuota { role: role.into(), quota, force: true };
                // Whether it is valid is the master's to say; here only what follows from it.
                let sound = self.is_valid(&call);
                if sound {
                    let known = self.naive.role(role);
                    (known.guarantee, known.limit) = (guarantee, limit);
                    self.apply(Event::FromOperator { request: RequestId(1), call });
                }
            }
            Step::Weight { role, milli } => {
                let role = ALL_ROLES[role].to_string();
                self.naive.role(&role).weight = milli as f64 / 1000.0;
                let call = OperatorCall::SetWeight { role, weight_milli: milli };
                self.apply(Event::FromOperator { request: RequestId(1), call });
            }
        }
        self.check();
    }

    /// The rules of quotas, told again.
    fn is_valid(&self, call: &OperatorCall) -> bool {
        let OperatorCall::SetQuota { role, quota, .. } = call else { return true };
        let guarantee = |of: &str| {
            let known = self.naive.roles.iter().find(|known| known.path == of);
            if of == role { quota.guarantee.get("cpus") } else { known.map_or(0, |known| known.guarantee.get("cpus")) }
        };
        let limit = |of: &str| {
            let known = self.naive.roles.iter().find(|known| known.path == of);
            let limits = if of == role { Some(&quota.limit) } else { known.map(|known| &known.limit) };
            limits.and_then(|limits| limits.get("cpus")).copied().unwrap_or(i64::MAX)
        };
        if guarantee(role) > limit(role) {
            return false;
        }
        let family = [role.as_str(), role.rsplit_once('/').map_or("", |(above, _)| above)];
        family.iter().filter(|above| !above.is_empty()).all(|above| {
            let depth = above.matches('/').count() + 1;
            let children = self.naive.roles.iter().map(|known| known.path.as_str());
            let below = |path: &&str| path.starts_with(&format!("{above}/")) && path.matches('/').count() == depth;
            let sum: i64 = children.filter(below).map(guarantee).sum();
            (guarantee(above) == 0 || sum <= guarantee(above)) && sum <= limit(above)
        })
    }

    fn accept(&mut self, framework: usize, most: usize, quarters: i64) {
        let held = &self.naive.frameworks[framework].offers;
        let offers: Vec<(u64, String, Resources)> = held
            .iter()
            .take(most)
            .map(|(number, (agent, offered))| (*number, agent.clone(), offered.clone()))
            .collect();
        if offers.is_empty() {
            return;
        }
        let mut pools: BTreeMap<String, Resources> = BTreeMap::new();
        for (number, agent, offered) in &offers {
            self.naive.frameworks[framework].offers.remove(number);
            pools.entry(agent.clone()).or_default().add(offered);
        }
        let mut launch = Vec::new();
        let mut shapes = Vec::new();
        for (agent, pool) in &mut pools {
            let amounts: Vec<(&str, i64)> = pool.scalars().map(|(name, milli)| (name, milli * quarters / 4)).collect();
            let resources = Resources::new().with_amounts(amounts.into_iter().collect());
            let task_id = format!("t-{}", self.n_tasks);
            self.n_tasks += 1;
            pool.subtract(&resources);
            shapes.push(resources.clone());
            let key = (framework, task_id.clone());
            self.running.push(Running { key, agent: agent.clone(), resources: resources.clone() });
            launch.push(TaskInfo {
                task_id: TaskId::from(task_id),
                agent_id: AgentId::from(agent.as_str()),
                resources,
                ..TaskInfo::default()
            });
        }
        for (agent, left) in pools {
            self.give_back(framework, &agent, &left);
            self.refuse(framework, &agent, left, 5_000);
        }
        for resources in &shapes {
            let demands = self.naive.frameworks[framework].demands.iter_mut().flatten();
            let mut met = demands.filter(|demand| demand.count > 0 && demand.shape == *resources);
            if let Some(demand) = met.next() {
                demand.count -= 1;
            }
        }
        let offer_ids = offers.iter().map(|(number, ..)| offer_id(*number)).collect();
        self.say(framework, FrameworkCall::Accept { offer_ids, operations: Vec::new(), launch, refuse_ms: None });
    }

    fn finish(&mut self, at: usize) {
        let Running { key, agent, resources } = self.running.swap_remove(at);
        self.give_back(key.0, &agent, &resources);
        let connection: u64 = agent.rsplit_once('-').expect("numbered").1.parse().expect("a number");
        let status = TaskStatus {
            task_id: key.1.into(),
            agent_id: agent.into(),
            state: TaskState::Finished,
            reason: Reason::Exited,
            message: String::new(),
            uuid: Some("u".into()),
            at_ms: 0,
            exit_code: 0,
        };
        let call = AgentCall::Update { framework_id: self.ids[key.0].clone(), status };
        self.apply(Event::FromAgent { connection: ConnectionId(connection), call });
    }

    /// What the master shows is what the naive one has in its books.
    fn check(&self) {
        let view = self.master.view(self.naive.now_ms);
        for agent in &view.agents {
            assert_eq!(agent.free, self.naive.agents[agent.agent.agent_id.as_str()].free);
        }
        for role in &self.naive.roles {
            let shown = view.roles.iter().find(|shown| shown.role == role.path);
            let frameworks = self.naive.frameworks.iter();
            let mut held = Scalars::new();
            for framework in
                frameworks.filter(|f| f.role == role.path || f.role.starts_with(&format!("{}/", role.path)))
            {
                held.add(&framework.charged);
            }
            assert_eq!(shown.map(|shown| &shown.held), Some(&held), "{}", role.path);
        }
    }
}

fn number(id: &OfferId) -> u64 {
    id.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok()).expect("ids end in a number")
}

fn offer_id(number: u64) -> OfferId {
    OfferId::new(format!("o-1-{number}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn offers_are_those_of_a_naive_allocator(steps in prop::collection::vec(steps(), 30..60)) {
        let mut both = Both::new();
        for step in steps {
            both.step(step);
        }
        prop_assert!(both.n_offers >= N_AGENTS);
    }
}
