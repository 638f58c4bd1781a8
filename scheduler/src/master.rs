//! The master: knows agents, frameworks, offers and tasks, and decides who is offered what.
//!
//! Invariant: after every event the books agree (on each agent free + offered + used = total) and whatever became free
//! was offered to whoever wants it, in the same step. All state but the registry's records is soft: a new master
//! learns it from the agents and frameworks that come back.

mod agents;
mod allocator;
mod answers;
pub mod config;
mod contest;
mod deadlines;
mod drains;
pub mod events;
mod explain;
mod filters;
mod frameworks;
mod gone;
mod holds;
pub mod journal;
mod ledger;
mod lending;
mod offers;
mod operations;
mod preemption;
mod quota;
mod reconcile;
mod report;
mod reserved;
mod roles;
mod shapes;
mod share;
mod subscriptions;
mod tasks;
#[cfg(test)]
mod tests;
mod victims;
pub mod view;
pub mod volumes;

pub use config::Config;
pub use drains::Drain;
pub use events::{Command, Event, Record};
pub use journal::Noted;
pub use reserved::check_reservation;
pub use view::{
    AgentState, AgentView, Change, ClusterView, Counts, FrameworkSummary, FrameworkView, OfferState, OfferView,
    RoleView, Summary, TaskView, VolumeView, WatchedAgent, WatchedFramework, WatchedRole,
};

use crate::alarms::Alarms;
use crate::model::ConnectionId;
use jobs::{AgentId, FrameworkId, Scalars};
use std::collections::BTreeMap;

/// Who speaks on a connection.
#[derive(Debug)]
enum Peer {
    Agent(AgentId),
    Framework(FrameworkId),
}

/// What is to be done at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    AgentSilent(AgentId),
    DrainBegins(AgentId),
    DrainEnds(AgentId),
    DrainOver(AgentId),
    FrameworkAway(FrameworkId),
    FrameworkSettled(FrameworkId),
    /// Something that it wants was to be met by then.
    DemandsDue(FrameworkId),
    Heartbeats,
    /// Tasks that have to leave should have, or what is kept for others was kept for long enough.
    HoldDue(holds::HoldNumber),
    /// Whether somebody has to leave for what is wanted.
    WeighDemands,
}

/// The machine.
#[derive(Debug)]
pub struct Master {
    config: Config,
    leader_epoch: u64,
    /// Time of the latest event; it never goes back.
    now_ms: u64,
    peers: BTreeMap<ConnectionId, Peer>,
    agents: agents::Agents,
    frameworks: frameworks::Frameworks,
    tasks: tasks::Tasks,
    offers: offers::Offers,
    filters: filters::Filters,
    drains: drains::Drains,
    holds: holds::Holds,
    reserved: reserved::Reserved,
    volumes: volumes::Volumes,
    alarms: Alarms<Alarm>,
    /// Sum of the ledgers' totals.
    cluster_total: Scalars,
    /// Active agents, as of the latest allocation.
    n_agents: usize,
    dirty: allocator::Dirty,
    /// Those of offers are with these.
    counts: Counts,
    journal: journal::Journal,
    out: Vec<Command>,
}

impl Master {
    /// A master that starts from what the registry holds. `leader_epoch` must be larger than that of any earlier
    /// master of this cluster: ids are made from it.
    pub fn new(config: Config, leader_epoch: u64, now_ms: u64, registry: impl IntoIterator<Item = Record>) -> Self {
        let roles = roles::Roles::new(config.min_allocatable.iter().map(|least| least.amounts().clone()).collect());
        let mut master = Self {
            offers: offers::Offers::new(leader_epoch, config.offer_history),
            config,
            leader_epoch,
            now_ms,
            peers: BTreeMap::new(),
            agents: agents::Agents::default(),
            frameworks: frameworks::Frameworks::new(roles),
            tasks: tasks::Tasks::default(),
            filters: filters::Filters::default(),
            drains: drains::Drains::default(),
            holds: holds::Holds::default(),
            reserved: reserved::Reserved::default(),
            volumes: volumes::Volumes::default(),
            alarms: Alarms::default(),
            cluster_total: Scalars::new(),
            n_agents: 0,
            dirty: allocator::Dirty::default(),
            counts: Counts::default(),
            journal: journal::Journal::default(),
            out: Vec::new(),
        };
        for record in registry {
            match record {
                Record::Agent(info) => master.expect_agent(info),
                Record::Framework { framework_id, name, role, failover_timeout_ms } => {
                    master.expect_framework(framework_id, name, role, failover_timeout_ms);
                }
                Record::Role { role, weight_milli, quota } => master.expect_role(&role, weight_milli, quota),
                Record::FrameworkEnded { framework_id } => master.frameworks.remember_ended(framework_id),
                Record::Drain { agent_id, drain } => master.remember_drain(agent_id, drain),
                Record::Reserved { agent_id, reservations } => master.reserved.put(agent_id, reservations),
                Record::Volumes { agent_id, volumes } => master.volumes.expect(agent_id, volumes),
                Record::AgentGone { agent_id } => drop(master.agents.gone.insert(agent_id)),
            }
        }
        master.alarms.set(Alarm::Heartbeats, now_ms + master.config.heartbeat_ms);
        master
    }

    pub fn apply(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        self.apply_all(now_ms, [event])
    }

    /// The same for several events that came at once. What they free is offered when all of them were heard.
    pub fn apply_all(&mut self, now_ms: u64, events: impl IntoIterator<Item = Event>) -> Vec<Command> {
        self.now_ms = self.now_ms.max(now_ms);
        self.pass_time();
        for event in events {
            self.hear(event);
            self.note_changes();
        }
        self.allocate();
        std::mem::take(&mut self.out)
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::FromAgent { connection, call } => self.agent_says(connection, call),
            Event::FromFramework { connection, call } => self.framework_says(connection, call),
            Event::Closed { connection } => match self.peers.remove(&connection) {
                Some(Peer::Agent(id)) => self.agent_closed(&id, connection),
                Some(Peer::Framework(id)) => self.framework_closed(&id, connection),
                None => {}
            },
            Event::FromOperator { request, call } => self.operator_says(request, call),
            Event::Tick => {}
        }
    }

    fn pass_time(&mut self) {
        while let Some(number) = self.offers.expired(self.now_ms) {
            self.expire(number);
        }
        for agent in self.filters.expire(self.now_ms) {
            self.agents.touch_numbered(agent);
        }
        while let Some(alarm) = self.alarms.due(self.now_ms) {
            self.set_off(alarm);
            self.note_changes();
        }
    }

    /// Looks at every agent with room again, as an allocator would that does not know what changed. Since it is known,
    /// this offers nothing; benches and tests ask for it.
    pub fn look_everywhere(&mut self) -> Vec<Command> {
        self.agents.touch_roomy();
        self.allocate();
        std::mem::take(&mut self.out)
    }

    /// Refusals that are in force, over all frameworks and agents.
    pub fn n_refusals(&self) -> usize {
        self.filters.n()
    }

    /// When a [`Event::Tick`] is due, if at all.
    pub fn next_wakeup(&self) -> Option<u64> {
        [self.offers.next_expiry(), self.filters.next_end(), self.alarms.next()].into_iter().flatten().min()
    }
}
