//! One cluster: what happens when, and who is told.
//!
//! Invariant: everything follows from the seed. Commands are carried out in their order, and a process may be killed
//! between any two of them.

use crate::client::{CHARACTERS, Client};
use crate::hits::{Fault, Hits};
use crate::host::Host;
use crate::invariants::{
    all_or_none, books, lent, no_starvation, nothing_forgotten, placed, preemption, quota, reserved,
    started_once::StartedOnce, updates::Updates, volumes, watched, where_it_may, windows,
};
use crate::network::{Message, Network, Peer, Side};
use jobs::{Resources, TaskId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scheduler::agent::{self, Exit};
use scheduler::master::{self, ClusterView, Config, Master};
use scheduler::model::{AgentInfo, AgentOrder, ConnectionId, FrameworkEvent, OperatorCall, RequestId, TaskKey};
use scheduler::volumes::VolumeKey;
use std::collections::BTreeMap;

/// In peace a cluster must be as wanted within this.
const PEACE_MS: u64 = 400_000;
/// How long a task has to have run before it has to leave for others, and how long it is given.
const MIN_RUN_MS: u64 = 2_000;
const NOTICE_MS: u64 = 4_000;
/// Agents are in so many zones.
pub const ZONES: usize = 3;
/// What operators ask about roles; what they ask about agents has numbers of its own, from 1.
const OF_ROLES: RequestId = RequestId(0);

#[derive(Debug)]
pub enum Happening {
    Deliver {
        connection: ConnectionId,
        to: Side,
        message: Message,
    },
    /// A side learns that its connection is gone.
    Notice {
        connection: ConnectionId,
        side: Side,
    },
    MasterStart,
    MasterTick {
        life: u64,
    },
    AgentStart {
        host: usize,
    },
    AgentConnect {
        host: usize,
        life: u64,
    },
    AgentTick {
        host: usize,
        life: u64,
    },
    Spawned {
        host: usize,
        life: u64,
        task: TaskKey,
    },
    ProcessEnds {
        host: usize,
        task: TaskKey,
        exit: Exit,
    },
    Reaped {
        host: usize,
        life: u64,
        task: TaskKey,
        exit: Exit,
    },
    VolumeRemoved {
        host: usize,
        life: u64,
        key: VolumeKey,
    },
    Probed {
        host: usize,
        life: u64,
        task: TaskKey,
        outcome: Result<(), String>,
    },
    ClientStart {
        client: usize,
    },
    ClientConnect {
        client: usize,
        life: u64,
    },
    ClientWake {
        client: usize,
        life: u64,
    },
    Fault,
}

pub struct World {
    pub rng: ChaCha8Rng,
    pub now_ms: u64,
    pub queue: BTreeMap<(u64, u64), Happening>,
    pub n_queued: u64,
    pub network: Network,
    pub master: Option<Master>,
    pub master_life: u64,
    pub master_tick_ms: Option<u64>,
    /// It is killed after this many commands of its next step.
    pub master_fuse: Option<usize>,
    pub leader_epoch: u64,
    pub registry: BTreeMap<String, master::Record>,
    pub hosts: Vec<Host>,
    pub clients: Vec<Client>,
    pub started_once: StartedOnce,
    pub updates: Updates,
    pub volumes: volumes::Volumes,
    pub watchers: watched::Watchers,
    pub begun: preemption::Begun,
    pub told_to_leave: preemption::Told,
    pub hits: Hits,
    pub n_events: u64,
    /// Of operators.
    pub n_requests: u64,
    pub is_calm: bool,
    /// Happenings in whose text this occurs are printed.
    pub trace: Option<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n_hosts = rng.random_range(5..8);
        let host = |rng: &mut ChaCha8Rng, at: usize| {
            let total = Resources::new().cpus(f64::from(rng.random_range(4..9))).mem_mib(4096.0).with("disk", 1500.0);
            Host::new(AgentInfo {
                agent_id: format!("agent-{at}").into(),
                host: "127.0.0.1".into(),
                total: total.with_ports([(31_000, 31_009)]),
                attributes: BTreeMap::from([("zone".to_string(), format!("z{}", at % ZONES))]),
                http_endpoint: String::new(),
                reserved: Vec::new(),
            })
        };
        let hosts = (0..n_hosts).map(|at| host(&mut rng, at)).collect();
        let clients = CHARACTERS.into_iter().enumerate().map(|(at, character)| Client::new(&mut rng, at, character));
        let clients = clients.collect();
        let mut world = Self {
            rng,
            now_ms: 1_000,
            queue: BTreeMap::new(),
            n_queued: 0,
            network: Network::default(),
            master: None,
            master_life: 0,
            master_tick_ms: None,
            master_fuse: None,
            leader_epoch: 0,
            registry: BTreeMap::new(),
            hosts,
            clients,
            started_once: StartedOnce::default(),
            updates: Updates::default(),
            volumes: volumes::Volumes::default(),
            watchers: watched::Watchers::default(),
            begun: preemption::Begun::default(),
            told_to_leave: preemption::Told::default(),
            hits: Hits::default(),
            n_events: 0,
            n_requests: 0,
            is_calm: false,
            trace: std::env::var("SMACK_TRACE").ok(),
        };
        world.after(0, Happening::MasterStart);
        for host in 0..n_hosts {
            world.after(10, Happening::AgentStart { host });
        }
        for client in 0..world.clients.len() {
            world.after(20, Happening::ClientStart { client });
        }
        world.after(3_000, Happening::Fault);
        world
    }

    pub fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.at(self.now_ms + delay_ms, happening);
    }

    pub fn at(&mut self, at_ms: u64, happening: Happening) {
        self.n_queued += 1;
        self.queue.insert((at_ms, self.n_queued), happening);
    }

    pub fn live_with_faults(&mut self, n_events: u64) {
        while self.n_events < n_events {
            self.step();
        }
    }

    /// No more faults; everything that is down comes up by itself. All that is wanted must run.
    pub fn live_in_peace(&mut self) {
        self.is_calm = true;
        self.master_fuse = None;
        for host in &mut self.hosts {
            host.fuse = None;
        }
        self.end_fillers();
        let deadline_ms = self.now_ms + PEACE_MS;
        let mut look_ms = self.now_ms;
        loop {
            self.step();
            if self.now_ms < look_ms {
                continue;
            }
            look_ms = self.now_ms + 500;
            self.undrain_all();
            self.unreserve_all();
            let has_quota = |role: &master::RoleView| !role.limit.is_empty() || !role.guarantee.is_empty();
            let view = self.master.as_ref().map(|master| master.view(self.now_ms));
            if view.as_ref().is_some_and(|view| view.roles.iter().any(has_quota)) {
                self.remove_quotas();
            }
            let mut missing = placed::missing(&self.clients, &self.hosts, view.as_ref());
            if missing.is_empty() && self.hosts.iter().all(Host::is_quiet) {
                break;
            }
            if self.now_ms > deadline_ms {
                let unsaid =
                    self.hosts.iter().filter(|host| !host.is_quiet()).map(|host| host.info.agent_id.to_string());
                missing.extend(unsaid.map(|agent| format!("{agent} has updates that nobody acknowledged")));
                panic!("after {PEACE_MS} ms of peace: {missing:#?}\n{}", self.describe());
            }
        }
        self.updates.check_all_delivered();
    }

    pub fn finish(mut self) -> Hits {
        self.count_offers();
        self.hits.count("events".into(), self.n_events);
        self.hits.count("simulated seconds".into(), self.now_ms / 1_000);
        self.hits.count("tasks started".into(), self.started_once.n() as u64);
        self.hits.count("updates received".into(), self.updates.n_received);
        self.hits.count("updates received again".into(), self.updates.n_repeated);
        self.hits
    }

    fn step(&mut self) {
        let ((at_ms, _), happening) = self.queue.pop_first().expect("a master always has a next tick");
        self.now_ms = at_ms;
        if let Some(word) = &self.trace {
            let text = format!("{happening:?}");
            if text.contains(word.as_str()) {
                eprintln!("{at_ms:>8} {text}");
            }
        }
        if let Some(host) = self.stopped_host(&happening) {
            return self.at(self.hosts[host].frozen_until_ms, happening);
        }
        match happening {
            Happening::Deliver { connection, to, message } => self.deliver(connection, to, message),
            Happening::Notice { connection, side } => self.closed(connection, side),
            Happening::MasterStart => self.start_master(),
            Happening::MasterTick { life } if life == self.master_life && is_due(self.master_tick_ms, self.now_ms) => {
                self.master_tick_ms = None;
                self.master_event(master::Event::Tick);
            }
            Happening::AgentStart { host } => self.start_agent(host),
            Happening::AgentConnect { host, life } if life == self.hosts[host].life => self.connect_agent(host),
            Happening::AgentTick { host, life }
                if life == self.hosts[host].life && is_due(self.hosts[host].tick_ms, self.now_ms) =>
            {
                self.hosts[host].tick_ms = None;
                self.agent_event(host, agent::Event::Tick);
            }
            Happening::Spawned { host, life, task } if life == self.hosts[host].life => self.spawned(host, task),
            Happening::ProcessEnds { host, task, exit } => self.process_ends(host, task, exit),
            Happening::Reaped { host, life, task, exit } if life == self.hosts[host].life => {
                self.agent_event(host, agent::Event::Exited { task, exit });
            }
            Happening::VolumeRemoved { host, life, key } if life == self.hosts[host].life => {
                self.agent_event(host, agent::Event::VolumeRemoved { key });
            }
            Happening::Probed { host, life, task, outcome } if life == self.hosts[host].life => {
                self.agent_event(host, agent::Event::Probed { task, outcome });
            }
            Happening::ClientStart { client } => {
                self.clients[client].is_up = true;
                let life = self.clients[client].life;
                self.after(0, Happening::ClientConnect { client, life });
                self.after(100, Happening::ClientWake { client, life });
            }
            Happening::ClientConnect { client, life } if life == self.clients[client].life => {
                self.connect_client(client);
            }
            Happening::ClientWake { client, life } if life == self.clients[client].life => self.wake_client(client),
            Happening::Fault if !self.is_calm => {
                self.strike();
                let pause_ms = self.rng.random_range(200..2_500);
                self.after(pause_ms, Happening::Fault);
            }
            // Of a process that is gone, or of a fault that peace forestalled.
            Happening::MasterTick { .. }
            | Happening::AgentConnect { .. }
            | Happening::AgentTick { .. }
            | Happening::Spawned { .. }
            | Happening::Reaped { .. }
            | Happening::VolumeRemoved { .. }
            | Happening::Probed { .. }
            | Happening::ClientConnect { .. }
            | Happening::ClientWake { .. }
            | Happening::Fault => {}
        }
    }

    /// The host that should take part in it, and is stopped.
    fn stopped_host(&self, happening: &Happening) -> Option<usize> {
        let host = match happening {
            Happening::Deliver { connection, to: Side::Peer, .. }
            | Happening::Notice { connection, side: Side::Peer } => {
                match self.network.is_open(*connection, Side::Peer).then(|| self.network.peer(*connection)) {
                    Some(Peer::Agent(host)) => host,
                    Some(Peer::Framework(_)) | None => return None,
                }
            }
            Happening::AgentConnect { host, .. }
            | Happening::AgentTick { host, .. }
            | Happening::Spawned { host, .. }
            | Happening::Reaped { host, .. }
            | Happening::VolumeRemoved { host, .. }
            | Happening::Probed { host, .. } => *host,
            Happening::Deliver { to: Side::Master, .. }
            | Happening::Notice { side: Side::Master, .. }
            | Happening::MasterStart
            | Happening::MasterTick { .. }
            | Happening::AgentStart { .. }
            | Happening::ProcessEnds { .. }
            | Happening::ClientStart { .. }
            | Happening::ClientConnect { .. }
            | Happening::ClientWake { .. }
            | Happening::Fault => return None,
        };
        (self.hosts[host].frozen_until_ms > self.now_ms).then_some(host)
    }

    // ---- connections ----

    pub fn send(&mut self, connection: ConnectionId, to: Side, message: Message) {
        if let Some(at_ms) = self.network.send(&mut self.rng, self.now_ms, connection, to) {
            self.at(at_ms, Happening::Deliver { connection, to, message });
        }
    }

    /// A side ends a connection; the other hears it after all that was said before.
    pub fn close(&mut self, connection: ConnectionId, by: Side) {
        let other = match by {
            Side::Peer => Side::Master,
            Side::Master => Side::Peer,
        };
        self.send(connection, other, Message::End);
        self.network.leave(connection, by);
    }

    fn deliver(&mut self, connection: ConnectionId, to: Side, message: Message) {
        if !self.network.hears(connection, to) {
            return;
        }
        match message {
            Message::End => self.closed(connection, to),
            Message::FromAgent(call) => self.master_event(master::Event::FromAgent { connection, call }),
            Message::FromFramework(call) => self.master_event(master::Event::FromFramework { connection, call }),
            Message::Order(order) => {
                if let Peer::Agent(host) = self.network.peer(connection) {
                    self.agent_event(host, agent::Event::FromMaster { connection, order });
                }
            }
            Message::Event(event) => {
                if let Peer::Framework(client) = self.network.peer(connection) {
                    self.client_hears(client, connection, event);
                }
            }
        }
    }

    fn closed(&mut self, connection: ConnectionId, side: Side) {
        if !self.network.is_open(connection, side) {
            return;
        }
        let peer = self.network.peer(connection);
        self.network.leave(connection, side);
        match (side, peer) {
            (Side::Master, _) => self.master_event(master::Event::Closed { connection }),
            (Side::Peer, Peer::Agent(host)) => {
                self.agent_event(host, agent::Event::Closed { connection });
                self.forget_link(host, connection);
            }
            (Side::Peer, Peer::Framework(client)) => {
                if self.clients[client].connection == Some(connection) {
                    self.clients[client].disconnected();
                    self.reconnect_client(client);
                }
            }
        }
    }

    // ---- the master ----

    fn start_master(&mut self) {
        self.leader_epoch += 1;
        let records = self.registry.values().cloned();
        // Every look at the books copies the history.
        let config = Config {
            offer_history: 32,
            preempt_after_ms: 200,
            preempt_min_run_ms: MIN_RUN_MS,
            preempt_notice_ms: NOTICE_MS,
            ..Config::default()
        };
        self.master = Some(Master::new(config, self.leader_epoch, self.now_ms, records));
        self.watchers.master_starts();
        self.schedule_master_tick();
    }

    pub fn master_event(&mut self, event: master::Event) {
        let Some(master) = &mut self.master else { return };
        self.n_events += 1;
        let call = match &event {
            master::Event::FromFramework { call, .. } => Some(call.clone()),
            master::Event::FromAgent { .. }
            | master::Event::FromOperator { .. }
            | master::Event::Closed { .. }
            | master::Event::Tick => None,
        };
        // Time alone kills nothing but what is left on an agent that should be empty, or where others come.
        let is_tick = matches!(event, master::Event::Tick);
        let commands = master.apply(self.now_ms, event);
        if let Some(call) = call {
            all_or_none::check(&call, &commands);
        }
        let has_offers = commands
            .iter()
            .any(|command| matches!(command, master::Command::ToFramework { event: FrameworkEvent::Offer(_), .. }));
        let view = (self.n_events.is_multiple_of(8) || has_offers).then(|| master.view(self.now_ms));
        if let Some(view) = &view {
            quota::check(&commands, view);
            reserved::check(&commands, view);
            where_it_may::check(&commands, view, &self.clients);
            lent::check(&commands, view);
            no_starvation::check(view, &mut self.hits);
        }
        self.watchers.look(master, view.as_ref(), self.n_events, self.now_ms, &mut self.hits);
        if self.n_events.is_multiple_of(8) {
            nothing_forgotten::check(master, &commands);
        }
        if let Some(view) = view.filter(|_| self.n_events.is_multiple_of(8)) {
            books::check(&view);
            windows::check(&view, self.now_ms, &mut self.hits);
        }
        self.begun.look(&commands, self.now_ms);
        let is_over = |command: &master::Command| {
            matches!(command, master::Command::Persist(master::Record::Drain { drain: None, .. }))
        };
        commands.iter().filter(|command| is_tick && is_over(command)).for_each(|_| self.hits.fault(Fault::WindowOver));
        for key in commands.iter().filter_map(killed).filter(|_| is_tick) {
            let had_its_time = self.told_to_leave.is_due(&key, self.now_ms);
            self.hits.fault(if had_its_time { Fault::PreemptKilled } else { Fault::DrainKilled });
        }
        let fuse = self.master_fuse.take();
        if fuse.is_some() && commands.is_empty() {
            self.master_fuse = fuse;
        }
        for (at, command) in commands.into_iter().enumerate() {
            if fuse == Some(at) {
                return self.kill_master(Fault::MasterKilledAmidCommands);
            }
            match command {
                master::Command::Persist(record) => {
                    if let master::Record::FrameworkEnded { framework_id } = &record {
                        self.updates.framework_ended(framework_id.clone());
                    }
                    self.registry.insert(record.key(), record);
                }
                master::Command::ToAgent { connection, order } => {
                    let is_repeatable = matches!(order, AgentOrder::Launch { .. } | AgentOrder::Kill { .. });
                    if is_repeatable && !self.is_calm && self.rng.random_bool(0.02) {
                        self.hits.fault(Fault::OrderRepeated);
                        self.send(connection, Side::Peer, Message::Order(order.clone()));
                    }
                    self.send(connection, Side::Peer, Message::Order(order));
                }
                master::Command::ToFramework { connection, event } => {
                    if let FrameworkEvent::Preempted { task_ids, ends_in_ms, message } = &event {
                        self.has_to_leave(connection, task_ids, *ends_in_ms, message);
                    }
                    self.send(connection, Side::Peer, Message::Event(event));
                }
                master::Command::Answer { request, answer } => {
                    if let Err(refusal) = answer {
                        if request == OF_ROLES {
                            self.hits.fault(Fault::QuotaRefused);
                        }
                        self.hits.count(format!("operator refused: {}", no_names(&refusal)), 1);
                    }
                }
                master::Command::Close { connection } => self.close(connection, Side::Master),
            }
        }
        self.schedule_master_tick();
    }

    fn has_to_leave(&mut self, connection: ConnectionId, task_ids: &[TaskId], ends_in_ms: u64, message: &str) {
        let Peer::Framework(client) = self.network.peer(connection) else { panic!("an agent is told: {message}") };
        let to = &self.clients[client];
        let notice = preemption::Notice { to, task_ids, message, now_ms: self.now_ms, min_run_ms: MIN_RUN_MS };
        preemption::check(&notice, &self.clients, &self.registry, &self.begun);
        if message.contains("is guaranteed") {
            self.hits.fault(Fault::PreemptedForGuarantee);
        }
        for id in task_ids {
            let key = TaskKey::new(to.id.clone().unwrap_or_default(), id.clone());
            self.told_to_leave.told(key, self.now_ms + ends_in_ms);
        }
    }

    /// The master hears it at once, if there is one; an operator waits for the answer.
    pub fn operator_says(&mut self, call: OperatorCall) {
        if self.master.is_none() {
            return;
        }
        self.hits.fault(match &call {
            OperatorCall::SetQuota { .. } => Fault::QuotaSet,
            OperatorCall::RemoveQuota { .. } => Fault::QuotaRemoved,
            OperatorCall::SetWeight { .. } => Fault::WeightSet,
            OperatorCall::Drain { .. }
            | OperatorCall::Undrain { .. }
            | OperatorCall::Gone { .. }
            | OperatorCall::Reserve { .. }
            | OperatorCall::Unreserve { .. }
            | OperatorCall::RemoveVolume { .. } => unreachable!("agents have a way of their own"),
        });
        self.master_event(master::Event::FromOperator { request: OF_ROLES, call });
    }

    fn schedule_master_tick(&mut self) {
        let Some(wakeup_ms) = self.master.as_ref().and_then(Master::next_wakeup) else { return };
        assert!(wakeup_ms > self.now_ms, "the master wants to be woken in the past");
        let at_ms = wakeup_ms + self.rng.random_range(0..5);
        if self.master_tick_ms.is_none_or(|set_ms| set_ms > at_ms) {
            self.master_tick_ms = Some(at_ms);
            self.at(at_ms, Happening::MasterTick { life: self.master_life });
        }
    }

    /// What the master believes, for whoever looks at a failed seed.
    fn describe(&self) -> String {
        let Some(master) = &self.master else { return "no master".into() };
        let view = master.view(self.now_ms);
        let agents = view.agents.iter().map(|agent| {
            let (id, state, free, used) = (&agent.agent.agent_id, agent.state.as_str(), &agent.free, &agent.used);
            format!("{id} is {state}: free {free}; offered {}; used {used}", agent.offered)
        });
        let frameworks = view.frameworks.iter().map(|framework| {
            let (id, name, connected) = (&framework.framework_id, &framework.name, framework.connected);
            format!("{id} ({name}), connected: {connected}: {}", framework.waiting.join("; "))
        });
        let tasks = view
            .tasks
            .iter()
            .map(|task| format!("{}/{} on {} is {}", task.framework_id, task.task_id, task.agent_id, task.state));
        agents.chain(frameworks).chain(tasks).collect::<Vec<_>>().join("\n")
    }

    fn count_offers(&mut self) {
        let view: Option<ClusterView> = self.master.as_ref().map(|master| master.view(self.now_ms));
        for offer in view.into_iter().flat_map(|view| view.offers) {
            self.hits.offer(offer.state, 1);
        }
    }
}

/// The task that a command ends.
fn killed(command: &master::Command) -> Option<TaskKey> {
    match command {
        master::Command::ToAgent { order: AgentOrder::Kill { framework_id, task_id, .. }, .. } => {
            Some(TaskKey::new(framework_id.clone(), task_id.clone()))
        }
        _ => None,
    }
}

/// A sentence about any agent, volume and task.
fn no_names(text: &str) -> String {
    let is_name = |word: &str| word.contains("agent-") || ["v-", "f-", "extra-"].iter().any(|of| word.starts_with(of));
    text.split(' ').filter(|word| !is_name(word)).collect::<Vec<_>>().join(" ")
}

/// Whether a tick that fires now is the one that was set; an earlier one may have taken its place.
fn is_due(tick_ms: Option<u64>, now_ms: u64) -> bool {
    tick_ms.is_some_and(|at_ms| at_ms <= now_ms)
}
