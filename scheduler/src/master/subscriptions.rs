//! Frameworks: they subscribe, say what they want, go away, come back, and end.
//!
//! Invariant: one connection for each framework; a newer one ends the older, and an ended framework's id is never
//! accepted again.

use super::frameworks::Framework;
use super::offers::OfferNumber;
use super::view::OfferState;
use super::{Alarm, Command, Master, Peer, Record};
use crate::model::{
    ConnectionId, Demand, FrameworkCall, FrameworkEvent, MAX_GROUP, PRIORITIES, is_good_id, is_good_role, is_sane,
};
use jobs::volumes::{VolumeClaim, check_claims};
use jobs::{FrameworkId, Resources, Rules};

/// Demands in one post: more than any job file has, few enough to look at for every offer.
const MAX_DEMANDS: usize = 10_000;

/// A framework that says in its first breath what it wants is not flooded with offers before that is read.
const SETTLE_MS: u64 = 20;

impl Master {
    pub(super) fn framework_says(&mut self, connection: ConnectionId, call: FrameworkCall) {
        let id = match self.peers.get(&connection) {
            Some(Peer::Framework(id)) => Some(id.clone()),
            Some(Peer::Agent(_)) => return self.refuse_framework(connection, "an agent's stream cannot subscribe"),
            None => None,
        };
        let Some(id) = id else {
            return match call {
                FrameworkCall::Subscribe { framework_id, name, role, failover_timeout_ms, constraints } => {
                    if let Some(id) = self.subscribe(connection, framework_id, name, role, failover_timeout_ms) {
                        self.frameworks.known(&id).rules = Rules { constraints, ..Rules::default() };
                    }
                }
                FrameworkCall::Demand { .. }
                | FrameworkCall::Accept { .. }
                | FrameworkCall::Decline { .. }
                | FrameworkCall::Revive
                | FrameworkCall::Suppress
                | FrameworkCall::Acknowledge(_)
                | FrameworkCall::Kill { .. }
                | FrameworkCall::Reconcile { .. }
                | FrameworkCall::Teardown => self.refuse_framework(connection, "subscribe before anything else"),
            };
        };
        match call {
            FrameworkCall::Subscribe { .. } => {
                self.refuse_framework(connection, "already subscribed on this stream; open another to subscribe again");
            }
            FrameworkCall::Demand { demands } => self.post_demand(connection, &id, demands),
            FrameworkCall::Accept { offer_ids, operations, launch, refuse_ms } => {
                self.accept(&id, &offer_ids, &operations, launch, refuse_ms);
            }
            FrameworkCall::Decline { offer_ids, refuse_ms } => self.decline(&id, &offer_ids, refuse_ms),
            FrameworkCall::Revive => {
                self.frameworks.known(&id).suppressed = false;
                self.forget_refusals(&id);
                self.wants_more(&id);
            }
            FrameworkCall::Suppress => {
                self.frameworks.known(&id).suppressed = true;
                self.frameworks.touch(&id);
            }
            FrameworkCall::Acknowledge(acknowledgement) => self.acknowledge(&id, acknowledgement),
            FrameworkCall::Kill { task_id, grace_ms } => self.kill(&id, task_id, grace_ms),
            FrameworkCall::Reconcile { task_ids } => self.reconcile(&id, task_ids),
            FrameworkCall::Teardown => self.end_framework(&id, "torn down by itself"),
        }
    }

    /// Says what is wrong and ends the stream.
    fn refuse_framework(&mut self, connection: ConnectionId, problem: &str) {
        let event = FrameworkEvent::Error { message: problem.to_string() };
        self.out.push(Command::ToFramework { connection, event });
        self.out.push(Command::Close { connection });
        if let Some(Peer::Framework(id)) = self.peers.remove(&connection) {
            self.framework_closed(&id, connection);
        }
    }

    /// `None`: it was refused.
    fn subscribe(
        &mut self,
        connection: ConnectionId,
        id: Option<FrameworkId>,
        name: String,
        role: String,
        failover_timeout_ms: u64,
    ) -> Option<FrameworkId> {
        if !is_good_role(&role) {
            let problem =
                format!("'{role}' cannot be a role: its parts, between slashes, are short and without blanks");
            self.refuse_framework(connection, &problem);
            return None;
        }
        let id = match id {
            None => self.frameworks.new_id(self.leader_epoch),
            Some(id) if !is_good_id(id.as_str()) => {
                let problem =
                    format!("'{id}' cannot be a framework's id: it must be short, printable and without blanks");
                self.refuse_framework(connection, &problem);
                return None;
            }
            Some(id) if self.frameworks.has_ended(&id) => {
                let problem = format!("framework {id} has ended; subscribe without an id to begin a new one");
                self.refuse_framework(connection, &problem);
                return None;
            }
            Some(id) => id,
        };
        if let Some(older) = self.frameworks.get(&id).and_then(|framework| framework.connection) {
            self.tell_on(older, FrameworkEvent::Error { message: "subscribed again on another stream".into() });
            self.out.push(Command::Close { connection: older });
            self.peers.remove(&older);
            self.frameworks.known(&id).connection = None;
            self.rescind_offers_to(&id);
            self.forget_refusals(&id);
        }
        let known = self.frameworks.get(&id);
        let is_news = known.is_none_or(|known| {
            let recorded = (&known.name, &*known.role, known.failover_timeout_ms);
            !known.is_recorded || recorded != (&name, role.as_str(), failover_timeout_ms)
        });
        match known.is_some() {
            true => {
                self.frameworks.move_to_role(&id, &role);
                self.volumes.look_again(&role);
                self.reservations_change_hands();
            }
            false => self.frameworks.insert(id.clone(), name.clone(), role.clone(), failover_timeout_ms),
        }
        if is_news {
            let (framework_id, name, role) = (id.clone(), name.clone(), role);
            self.out.push(Command::Persist(Record::Framework { framework_id, name, role, failover_timeout_ms }));
        }
        let framework = self.frameworks.known(&id);
        framework.is_recorded = true;
        framework.name = name;
        framework.failover_timeout_ms = failover_timeout_ms;
        framework.connection = Some(connection);
        framework.suppressed = false;
        framework.settling = true;
        self.frameworks.touch(&id);
        self.peers.insert(connection, Peer::Framework(id.clone()));
        self.alarms.cancel(&Alarm::FrameworkAway(id.clone()));
        self.alarms.set(Alarm::FrameworkSettled(id.clone()), self.now_ms + SETTLE_MS);
        let heartbeat_ms = self.config.heartbeat_ms;
        self.tell(&id, FrameworkEvent::Subscribed { framework_id: id.clone(), heartbeat_ms });
        self.tell_in_flight(&id);
        self.tell_drains(&id);
        self.tell_preempted(&id);
        Some(id)
    }

    /// A framework of which only tasks are known. It has time to come back, and is then ended with its tasks.
    pub(super) fn adopt_framework(&mut self, id: &FrameworkId) {
        if self.frameworks.get(id).is_none() {
            let timeout_ms = self.config.orphan_timeout_ms;
            self.frameworks.insert(id.clone(), String::new(), "*".into(), timeout_ms);
            self.frameworks.known(id).is_recorded = false;
            self.alarms.set(Alarm::FrameworkAway(id.clone()), self.now_ms.saturating_add(timeout_ms));
        }
    }

    /// A framework that the registry knows: its time to come back starts now.
    pub(super) fn expect_framework(&mut self, id: FrameworkId, name: String, role: String, failover_timeout_ms: u64) {
        // At least as long as agents are given, for a framework that asked for no time could else never outlive a
        // restart of the master.
        let wait_ms = failover_timeout_ms.max(self.config.recovery_ms);
        self.alarms.set(Alarm::FrameworkAway(id.clone()), self.now_ms.saturating_add(wait_ms));
        self.frameworks.insert(id, name, role, failover_timeout_ms);
    }

    pub(super) fn framework_settled(&mut self, id: &FrameworkId) {
        self.frameworks.known(id).settling = false;
        self.wants_more(id);
    }

    pub(super) fn wants_more(&mut self, id: &FrameworkId) {
        self.frameworks.touch(id);
        self.dirty.frameworks.insert(id.clone());
    }

    fn forget_refusals(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.get(id) {
            self.filters.clear_framework(framework.number);
        }
    }

    pub(super) fn framework_closed(&mut self, id: &FrameworkId, connection: ConnectionId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        if framework.connection != Some(connection) {
            return;
        }
        framework.connection = None;
        let timeout_ms = framework.failover_timeout_ms;
        self.drop_holds_for(id);
        self.frameworks.touch(id);
        self.alarms.cancel(&Alarm::FrameworkSettled(id.clone()));
        self.rescind_offers_to(id);
        self.forget_refusals(id);
        if timeout_ms == 0 {
            self.end_framework(id, "it went away, and its failover timeout is 0");
        } else {
            self.alarms.set(Alarm::FrameworkAway(id.clone()), self.now_ms.saturating_add(timeout_ms));
        }
    }

    /// The alarm of a framework that did not come back in time.
    pub(super) fn framework_away(&mut self, id: &FrameworkId) {
        self.end_framework(id, "it stayed away longer than its failover timeout");
    }

    fn end_framework(&mut self, id: &FrameworkId, why: &str) {
        self.drop_holds_for(id);
        self.rescind_offers_to(id);
        self.forget_refusals(id);
        self.alarms.cancel(&Alarm::FrameworkSettled(id.clone()));
        self.alarms.cancel(&Alarm::FrameworkAway(id.clone()));
        self.alarms.cancel(&Alarm::DemandsDue(id.clone()));
        self.out.push(Command::Persist(Record::FrameworkEnded { framework_id: id.clone() }));
        if let Some(connection) = self.frameworks.known(id).connection.take() {
            self.tell_on(connection, FrameworkEvent::Error { message: format!("framework {id} has ended: {why}") });
            self.out.push(Command::Close { connection });
            self.peers.remove(&connection);
        }
        self.frameworks.remember_ended(id.clone());
        self.end_tasks_of(id);
        self.frameworks.remove(id);
        self.note_claimer(id, false);
        self.reservations_change_hands();
        self.dirty.frameworks.remove(id);
    }

    fn rescind_offers_to(&mut self, id: &FrameworkId) {
        let offers: Vec<OfferNumber> = self.frameworks.known(id).offers.iter().copied().collect();
        for number in offers {
            self.rescind(number, OfferState::Rescinded);
        }
    }

    fn post_demand(&mut self, connection: ConnectionId, id: &FrameworkId, demands: Vec<Demand>) {
        if demands.len() > MAX_DEMANDS {
            let problem = format!("{} demands in one post are more than the {MAX_DEMANDS} allowed", demands.len());
            return self.refuse_framework(connection, &problem);
        }
        if let Some(demand) = demands.iter().find(|demand| !is_sane(&demand.shape) || demand.n_ports > 65_536) {
            let Demand { name, shape, n_ports, .. } = demand;
            let problem = format!("demand '{name}' cannot be met: one task would need {shape} and {n_ports} ports");
            return self.refuse_framework(connection, &problem);
        }
        let is_odd = |demand: &&Demand| !PRIORITIES.contains(&demand.priority) || demand.group.len() > MAX_GROUP;
        if let Some(Demand { name, priority, .. }) = demands.iter().find(is_odd) {
            let (lowest, highest) = (PRIORITIES.start(), PRIORITIES.end());
            let problem = format!(
                "demand '{name}' has priority {priority}: priorities go from {lowest} to {highest}, and a group's name has \
                 {MAX_GROUP} bytes at most"
            );
            return self.refuse_framework(connection, &problem);
        }
        if let Some((name, problem)) = demands.iter().find_map(|demand| Some((&demand.name, claims_problem(demand)?))) {
            let problem = format!("demand '{name}' cannot be met: {problem}");
            return self.refuse_framework(connection, &problem);
        }
        let asked = Self::asked(&demands);
        let mut demands = demands;
        let role = self.frameworks.known(id).role.clone();
        self.resolve(&role, &mut demands, &asked);
        self.note_claimer(id, !asked.is_empty());
        if !asked.is_empty() {
            self.tell_homes(id, &demands);
        }
        let framework = self.frameworks.known(id);
        // What it refused while it wanted less says nothing about what it wants now.
        let wants_more = match &framework.demands {
            None => false,
            Some(before) => demands.iter().any(|demand| {
                let same = |old: &&Demand| {
                    (&old.shape, old.n_ports, &old.rules) == (&demand.shape, demand.n_ports, &demand.rules)
                };
                before.iter().find(same).is_none_or(|old| old.count < demand.count)
            }),
        };
        // It is counted as one that posts demand, or not, by its turn; it has none until that is found anew.
        let number = framework.number;
        self.frameworks.set_turn(number, None);
        let framework = self.frameworks.known_numbered(number);
        framework.demands = Some(demands);
        framework.asked = asked;
        framework.settling = false;
        self.frameworks.touch_wish(id);
        self.alarms.cancel(&Alarm::FrameworkSettled(id.clone()));
        self.note_wants(id);
        if wants_more {
            self.forget_refusals(id);
        }
        self.wants_more(id);
    }

    /// Says it if the framework is connected, and whether it is.
    pub(super) fn tell(&mut self, id: &FrameworkId, event: FrameworkEvent) -> bool {
        let connection = self.frameworks.get(id).and_then(|framework| framework.connection);
        if let Some(connection) = connection {
            self.tell_on(connection, event);
        }
        connection.is_some()
    }

    pub(super) fn tell_on(&mut self, connection: ConnectionId, event: FrameworkEvent) {
        self.out.push(Command::ToFramework { connection, event });
    }

    pub(super) fn send_heartbeats(&mut self) {
        let connected: Vec<ConnectionId> = self.frameworks.iter().filter_map(|f| f.connection).collect();
        for connection in connected {
            self.tell_on(connection, FrameworkEvent::Heartbeat);
        }
        self.alarms.set(Alarm::Heartbeats, self.now_ms + self.config.heartbeat_ms);
    }

    /// Takes launched tasks off what the framework wants: one of each demand that has exactly their shape, and
    /// names the same volumes.
    pub(super) fn count_as_met(&mut self, id: &FrameworkId, launched: &[(Resources, Vec<VolumeClaim>)]) {
        self.frameworks.touch_wish(id);
        let Framework { demands: Some(demands), asked, .. } = self.frameworks.known(id) else { return };
        let mut is_less_wanted = false;
        for (resources, volumes) in launched {
            let is_met = |(at, demand): &(usize, &mut Demand)| {
                let shape = asked.get(at).map_or(&demand.shape, |(shape, _)| shape);
                demand.count > 0 && demand.volumes == *volumes && is_shaped(resources, shape, demand.n_ports)
            };
            if let Some((_, demand)) = demands.iter_mut().enumerate().find(is_met) {
                demand.count -= 1;
                is_less_wanted |= demand.count == 0;
            }
        }
        // Until then nothing of it has changed but numbers.
        if is_less_wanted {
            self.note_wants(id);
        }
    }
}

fn is_shaped(resources: &Resources, shape: &Resources, n_ports: u32) -> bool {
    resources.scalars().eq(shape.scalars()) && resources.n_ports() == shape.n_ports() + n_ports as usize
}

fn claims_problem(demand: &Demand) -> Option<String> {
    if demand.count > 1 && !demand.volumes.is_empty() {
        return Some(format!("{} tasks cannot have the same volumes: each needs a demand of its own", demand.count));
    }
    check_claims(&demand.volumes).err()
}
