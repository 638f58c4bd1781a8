//! What goes wrong, at random, until the cluster is left in peace.

use crate::client::{Character, Client, ROLES, Slot};
use crate::hits::Fault;
use crate::network::{Peer, Side};
use crate::world::{Happening, World};
use jobs::Scalars;
use rand::Rng;
use rand::seq::{IndexedRandom, IteratorRandom};
use scheduler::agent::{self, Exit};
use scheduler::master;
use scheduler::model::{ConnectionId, FrameworkCall, OperatorCall, Quota, RequestId, Reservation, Window};

/// How long tasks go on without their agent.
const RECOVERY_TIMEOUT_MS: u64 = 20_000;

impl World {
    /// Something goes wrong now.
    pub fn strike(&mut self) {
        self.measure();
        match self.rng.random_range(0..120) {
            0..25 => {
                let working = self.network.working(None);
                if let Some(connection) = working.choose(&mut self.rng) {
                    self.hits.fault(Fault::ConnectionCut);
                    self.cut(*connection);
                }
            }
            25..32 => self.kill_master(Fault::MasterKilled),
            32..37 => self.master_fuse = Some(self.rng.random_range(0..4)),
            37..52 => {
                let host = self.rng.random_range(0..self.hosts.len());
                let with_tasks = self.rng.random_bool(0.4);
                self.kill_agent(
                    host,
                    with_tasks,
                    if with_tasks { Fault::AgentKilledWithTasks } else { Fault::AgentKilledAlone },
                );
            }
            52..60 => {
                let host = self.rng.random_range(0..self.hosts.len());
                self.hosts[host].fuse = Some(self.rng.random_range(0..4));
            }
            60..70 => {
                let host = self.rng.random_range(0..self.hosts.len());
                self.hits.fault(Fault::AgentFrozen);
                self.hosts[host].frozen_until_ms = self.now_ms + self.rng.random_range(500..12_000);
            }
            70..90 => {
                let client = self.rng.random_range(0..self.clients.len());
                self.hits.fault(Fault::FrameworkKilled);
                let down_ms = self.rng.random_range(50..5_000);
                self.kill_client(client, down_ms);
            }
            90..93 => {
                let client = self.rng.random_range(0..self.clients.len());
                self.hits.fault(Fault::FrameworkAwayTooLong);
                let down_ms = self.clients[client].failover_timeout_ms + self.rng.random_range(15_000..30_000);
                self.kill_client(client, down_ms);
            }
            93..94 => self.tear_down(),
            100..115 => self.change_role(),
            118 => self.give_up_volume(),
            119.. => self.overdraw(),
            115..118 => self.change_reservations(),
            94..97 => self.change_agent(),
            _ => {
                let client = self.rng.random_range(0..self.clients.len());
                if let Some(connection) = self.clients[client].connection {
                    self.hits.fault(Fault::SubscribedTwice);
                    self.network.cut(connection);
                    self.network.leave(connection, Side::Peer);
                    self.after(12_000, Happening::Notice { connection, side: Side::Master });
                    self.clients[client].disconnected();
                    self.after(0, Happening::ClientConnect { client, life: self.clients[client].life });
                }
            }
        }
    }

    /// An operator changes what a role is promised.
    fn change_role(&mut self) {
        let known = [&ROLES[..], &["web"][..]].concat();
        let role = known[self.rng.random_range(0..known.len())].to_string();
        let call = match self.rng.random_range(0..18) {
            10.. => return self.promise(),
            0..3 => OperatorCall::SetWeight { role, weight_milli: self.rng.random_range(200..5_000) },
            3..5 => OperatorCall::RemoveQuota { role },
            _ => {
                let mut quota = Quota::default();
                if self.rng.random_bool(0.6) {
                    quota.guarantee.set("cpus", self.rng.random_range(0..8) * 500);
                }
                if self.rng.random_bool(0.6) {
                    quota.limit.insert("cpus".into(), self.rng.random_range(0..8) * 500);
                }
                if self.rng.random_bool(0.3) {
                    quota.limit.insert("mem".into(), self.rng.random_range(0..20) * 64_000);
                }
                OperatorCall::SetQuota { role, quota, force: self.rng.random_bool(0.3) }
            }
        };
        self.operator_says(call);
    }

    /// A role that wants something is guaranteed more than it has.
    fn promise(&mut self) {
        let is_wanting = |client: &&Client| client.is_up && client.slots.contains(&Slot::Wanting);
        let Some(wanting) = self.clients.iter().filter(is_wanting).choose(&mut self.rng) else { return };
        let mut quota = Quota::default();
        quota.guarantee.set("cpus", 12_000);
        self.operator_says(OperatorCall::SetQuota { role: wanting.role.clone(), quota, force: true });
    }

    /// Peace knows no limits: all that is wanted is to run.
    pub fn remove_quotas(&mut self) {
        for role in [&ROLES[..], &["web"][..]].concat() {
            self.operator_says(OperatorCall::RemoveQuota { role: role.to_string() });
        }
    }

    /// Both sides learn of it, now or much later.
    fn cut(&mut self, connection: ConnectionId) {
        self.network.cut(connection);
        for side in [Side::Peer, Side::Master] {
            let is_late = self.rng.random_bool(0.3);
            if is_late {
                self.hits.fault(Fault::CutNoticedLate);
            }
            let delay_ms = if is_late { self.rng.random_range(300..12_000) } else { self.rng.random_range(0..300) };
            self.after(delay_ms, Happening::Notice { connection, side });
        }
    }

    /// Its side of the connections ends with its process; the other sides learn of it.
    pub fn drop_connections(&mut self, side: Side, of: Option<Peer>) {
        for connection in self.network.held(side, of) {
            self.network.cut(connection);
            let delay_ms = if self.rng.random_bool(0.2) { self.rng.random_range(300..12_000) } else { 10 };
            let other = match side {
                Side::Peer => Side::Master,
                Side::Master => Side::Peer,
            };
            self.network.leave(connection, side);
            self.after(delay_ms, Happening::Notice { connection, side: other });
        }
    }

    pub fn kill_master(&mut self, fault: Fault) {
        if self.master.take().is_some() {
            self.hits.fault(fault);
            self.master_life += 1;
            self.master_tick_ms = None;
            self.master_fuse = None;
            self.drop_connections(Side::Master, None);
            let down_ms = self.rng.random_range(50..4_000);
            self.after(down_ms, Happening::MasterStart);
        }
    }

    pub fn kill_agent(&mut self, host: usize, with_tasks: bool, fault: Fault) {
        if self.hosts[host].agent.is_some() {
            self.hits.fault(fault);
            self.hosts[host].kill(&mut self.rng, with_tasks);
            self.drop_connections(Side::Peer, Some(Peer::Agent(host)));
            let mut down_ms = self.rng.random_range(50..12_000);
            if !self.is_calm && self.rng.random_bool(0.1) {
                self.hits.fault(Fault::AgentAwayTooLong);
                down_ms += RECOVERY_TIMEOUT_MS;
                for task in self.hosts[host].processes.keys().cloned().collect::<Vec<_>>() {
                    self.after(RECOVERY_TIMEOUT_MS, Happening::ProcessEnds { host, task, exit: Exit::Abandoned });
                }
            }
            self.after(down_ms, Happening::AgentStart { host });
        }
    }

    fn kill_client(&mut self, client: usize, down_ms: u64) {
        if self.clients[client].is_up {
            self.clients[client].kill();
            self.drop_connections(Side::Peer, Some(Peer::Framework(client)));
            self.after(down_ms, Happening::ClientStart { client });
        }
    }

    /// An operator wants an agent empty, or in use again.
    fn change_agent(&mut self) {
        let host = self.rng.random_range(0..self.hosts.len());
        let agent_id = self.hosts[host].info.agent_id.clone();
        let (fault, call) = match self.rng.random_range(0..9) {
            8 => {
                let force = self.rng.random_bool(0.5);
                (Fault::AgentGone, OperatorCall::Gone { agent_id, force })
            }
            0..2 => (Fault::DrainCancelled, OperatorCall::Undrain { agent_id }),
            2..4 => {
                (Fault::AgentCordoned, OperatorCall::Drain { agent_id, deadline_ms: None, window: Window::default() })
            }
            4..6 => {
                let deadline_ms = Some(self.rng.random_range(0..8_000));
                (Fault::AgentDrained, OperatorCall::Drain { agent_id, deadline_ms, window: Window::default() })
            }
            _ => {
                let deadline_ms = Some(self.rng.random_range(0..4_000));
                let at_ms = Some(self.now_ms + self.rng.random_range(0..6_000));
                let window = Window { at_ms, for_ms: Some(self.rng.random_range(0..6_000)) };
                (Fault::WindowPlanned, OperatorCall::Drain { agent_id, deadline_ms, window })
            }
        };
        if self.master.is_some() {
            self.hits.fault(fault);
            self.ask_master(call);
        }
    }

    /// An operator keeps something of an agent for a role, or no more.
    fn change_reservations(&mut self) {
        let host = self.rng.random_range(0..self.hosts.len());
        let agent_id = self.hosts[host].info.agent_id.clone();
        let known = [&ROLES[..], &["web"][..]].concat();
        let role = known[self.rng.random_range(0..known.len())].to_string();
        let mut reservation = Reservation { role, ..Reservation::default() };
        if self.rng.random_bool(0.2) {
            reservation.labels.insert("disk".into(), "fast".into());
        }
        reservation.amounts.set("cpus", self.rng.random_range(1..6) * 500);
        if self.rng.random_bool(0.5) {
            reservation.amounts.set("mem", self.rng.random_range(1..6) * 64_000);
        }
        let force = self.rng.random_bool(0.4);
        let (fault, call) = match (self.rng.random_range(0..6), reservation.role.rsplit_once('/')) {
            (0, _) => {
                reservation.amounts = Scalars::new();
                (Fault::Unreserved, OperatorCall::Unreserve { agent_id, reservation })
            }
            (1..3, Some((above, _))) => {
                let from = Some(above.to_string());
                (Fault::Refined, OperatorCall::Reserve { agent_id, reservation, from, force })
            }
            _ => (Fault::Reserved, OperatorCall::Reserve { agent_id, reservation, from: None, force }),
        };
        if self.master.is_some() {
            self.hits.fault(fault);
            self.ask_master(call);
        }
    }

    /// A task has written more than it may, and its agent has seen it.
    fn overdraw(&mut self) {
        let host = self.rng.random_range(0..self.hosts.len());
        let task = self.hosts[host].processes.keys().choose(&mut self.rng).cloned();
        if let Some(task) = task.filter(|_| self.hosts[host].frozen_until_ms <= self.now_ms) {
            self.hits.fault(Fault::Overdrawn);
            self.agent_event(host, agent::Event::Overdrawn { task, why: "it has too much".into() });
        }
    }

    /// An agent looks at what its tasks use: mostly little, and else all cores and more memory than they were given.
    fn measure(&mut self) {
        let host = self.rng.random_range(0..self.hosts.len());
        if self.hosts[host].frozen_until_ms > self.now_ms {
            return;
        }
        let (cpus, mem) = if self.rng.random_bool(0.7) { (10, 10) } else { (100, 1_000) };
        let used = self.hosts[host].processes.iter().map(|(task, process)| {
            let given = &process.info.resources;
            (
                task.clone(),
                [("cpus", cpus), ("mem", mem)]
                    .map(|(name, percent)| (name, given.milli(name) * percent / 100))
                    .into_iter()
                    .collect(),
            )
        });
        let used = used.collect();
        self.agent_event(host, agent::Event::Measured { used });
    }

    /// An operator wants a volume gone, whether a task has it or not.
    fn give_up_volume(&mut self) {
        let kept = self.registry.values().filter_map(|record| match record {
            master::Record::Volumes { volumes, .. } => Some(volumes.iter().map(|kept| kept.volume.key.clone())),
            _ => None,
        });
        let Some(key) = kept.flatten().choose(&mut self.rng) else { return };
        if self.master.is_some() {
            self.hits.fault(Fault::VolumeGivenUp);
            self.ask_master(OperatorCall::RemoveVolume { key, agent_id: None });
        }
    }

    /// In peace nothing is kept for anybody.
    pub fn unreserve_all(&mut self) {
        let reserved = self.registry.values().filter_map(|record| match record {
            master::Record::Reserved { agent_id, reservations } => Some((agent_id.clone(), reservations.clone())),
            _ => None,
        });
        for (agent_id, reservations) in reserved.collect::<Vec<_>>() {
            for reservation in reservations {
                self.ask_master(OperatorCall::Unreserve { agent_id: agent_id.clone(), reservation });
            }
        }
    }

    fn ask_master(&mut self, call: OperatorCall) {
        self.n_requests += 1;
        let request = RequestId(self.n_requests);
        self.master_event(master::Event::FromOperator { request, call });
    }

    /// In peace every agent is in use.
    pub fn undrain_all(&mut self) {
        let is_drained = |record: &master::Record| match record {
            master::Record::Drain { agent_id, drain: Some(_) } => Some(agent_id.clone()),
            _ => None,
        };
        for agent_id in self.registry.values().filter_map(is_drained).collect::<Vec<_>>() {
            self.ask_master(OperatorCall::Undrain { agent_id });
        }
    }

    /// Those that want more than there is go, so that it can be seen whether all others get what they want.
    pub fn end_fillers(&mut self) {
        for client in 0..self.clients.len() {
            let filler = &mut self.clients[client];
            if filler.character == Character::Filler && !filler.has_torn_down {
                filler.has_torn_down = true;
                if let Some(connection) = filler.connection.filter(|_| filler.is_subscribed) {
                    self.client_calls(connection, vec![FrameworkCall::Teardown]);
                }
            }
        }
    }

    /// One framework in a cluster's life may have had enough.
    fn tear_down(&mut self) {
        let client = self.rng.random_range(0..self.clients.len());
        let is_first = self.clients.iter().all(|client| !client.has_torn_down);
        let torn = &mut self.clients[client];
        if is_first
            && torn.is_subscribed
            && let Some(connection) = torn.connection
        {
            torn.has_torn_down = true;
            self.hits.fault(Fault::FrameworkTornDown);
            self.client_calls(connection, vec![FrameworkCall::Teardown]);
        }
    }
}
