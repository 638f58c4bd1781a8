//! What agents keep for roles: reservations, by the agents themselves (static) and by operators (dynamic).
//!
//! So much of one agent is for a role and those below it. Which cores and which bytes does not matter: what offers and tasks
//! of these roles hold there fills the reservation, that of the role furthest down first, and what is not filled is offered
//! to nobody else. So a task need not say what it runs on, and nothing is ever scattered over reservations that are too
//! small each by itself.
//!
//! Invariant: what is kept is never offered to others. What others hold already they may keep until they give it back; then
//! it is kept before they are offered anything again.

mod orders;
mod unfilled;

pub use orders::{add_reservation, check_reservation, take_reservation};
pub use unfilled::Unfilled;

use super::Master;
use super::agents::Agent;
use super::frameworks::Framework;
use super::roles::{ROOT, RoleNumber};
use super::view::AgentState;
use crate::model::Reservation;
use jobs::{AgentId, Resources, Scalars};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Reserved {
    /// What operators said; agents know what they keep themselves.
    by_operators: BTreeMap<AgentId, Vec<Reservation>>,
    /// Of agents that are active and keep something.
    unfilled: BTreeMap<AgentId, Unfilled>,
    /// Sum of what is not filled, by role.
    pub idle: BTreeMap<String, Scalars>,
}

impl Reserved {
    /// `None` where nothing is reserved.
    pub fn on(&self, agent: &AgentId) -> Option<&Unfilled> {
        self.unfilled.get(agent)
    }

    pub fn by_operators(&self, agent: &AgentId) -> &[Reservation] {
        self.by_operators.get(agent).map(Vec::as_slice).unwrap_or_default()
    }

    /// What the registry says, or an operator.
    pub fn put(&mut self, agent: AgentId, reservations: Vec<Reservation>) {
        match reservations.is_empty() {
            true => self.by_operators.remove(&agent),
            false => self.by_operators.insert(agent, reservations),
        };
    }

    /// Whether something else is kept than before.
    fn set(&mut self, agent: AgentId, unfilled: Option<Unfilled>) -> bool {
        if self.unfilled.get(&agent) == unfilled.as_ref() {
            return false;
        }
        let change = |idle: &mut BTreeMap<String, Scalars>, unfilled: &Unfilled, change: fn(&mut Scalars, &Scalars)| {
            for (role, amounts) in unfilled.iter() {
                let sum = idle.entry(role.to_string()).or_default();
                change(sum, amounts);
                if sum.is_empty() {
                    idle.remove(role);
                }
            }
        };
        if let Some(unfilled) = &unfilled {
            change(&mut self.idle, unfilled, Scalars::add);
        }
        let before = match unfilled {
            Some(unfilled) => self.unfilled.insert(agent, unfilled),
            None => self.unfilled.remove(&agent),
        };
        if let Some(before) = before {
            change(&mut self.idle, &before, Scalars::subtract);
        }
        true
    }
}

impl Master {
    /// Finds anew what is not filled where that may have changed. Answers the agents on which it has.
    pub(super) fn refresh_reserved(&mut self) -> Vec<AgentId> {
        let mut changed = Vec::new();
        while let Some(id) = self.agents.stale.pop_first() {
            let unfilled = self.agents.get(&id).and_then(|agent| self.unfilled(agent));
            if self.reserved.set(id.clone(), unfilled) {
                changed.push(id);
            }
        }
        if !changed.is_empty() {
            // It counts for guarantees, which may need more or less of what is free elsewhere.
            self.frameworks.roles.touch_needs();
        }
        changed
    }

    /// A framework is in another role, or is no more: what it holds anywhere counts for others.
    pub(super) fn reservations_change_hands(&mut self) {
        self.agents.stale.extend(self.reserved.unfilled.keys().cloned());
    }

    fn unfilled(&self, agent: &Agent) -> Option<Unfilled> {
        if agent.state != AgentState::Active {
            return None;
        }
        let reserved: Vec<&Reservation> = self.reservations_on(agent).collect();
        (!reserved.is_empty()).then(|| {
            let reserved = reserved.into_iter().map(|reservation| (reservation.role.as_str(), &reservation.amounts));
            Unfilled::new(reserved, self.held_by_roles(agent))
        })
    }

    /// All of an agent, its own first.
    pub(super) fn reservations_on<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Reservation> {
        agent.info.reserved.iter().chain(self.reserved.by_operators(&agent.info.agent_id))
    }

    /// What frameworks of each role hold there.
    fn held_by_roles(&self, agent: &Agent) -> BTreeMap<&str, Scalars> {
        let mut held: BTreeMap<&str, Scalars> = BTreeMap::new();
        for offer in agent.offers.iter().filter_map(|number| self.offers.get(*number)) {
            held.entry(&*offer.role).or_default().add(offer.resources.amounts());
        }
        for key in &agent.tasks {
            let charged = self.tasks.get(key).and_then(|task| task.charged.as_ref());
            if let (Some(charged), Some(framework)) = (charged, self.frameworks.get(&key.framework_id)) {
                held.entry(&*framework.role).or_default().add(charged.amounts());
            }
        }
        for (key, volume) in self.volumes.on(&agent.info.agent_id) {
            held.entry(key.role.as_str()).or_default().add(&volume.charged);
        }
        held
    }

    /// What of the free room of an agent is kept neither for whom others had to leave nor for a role that this one is not
    /// below.
    pub(super) fn room_for<'a>(&self, role: &str, agent: &AgentId, free: &'a Resources) -> Cow<'a, Resources> {
        let left = self.holds.left(agent, free);
        match self.reserved.on(agent).map(|unfilled| unfilled.kept_from(role)).filter(|kept| !kept.is_empty()) {
            None => left,
            Some(kept) => {
                let amounts = left.amounts().beyond(&kept);
                Cow::Owned(left.part(amounts, left.ports().iter().copied()))
            }
        }
    }

    /// Whether more is kept from a role on an agent than is free there, so that it gets nothing of what becomes free.
    pub(super) fn is_owed_to_others(&self, role: &str, agent: &Agent) -> bool {
        let unfilled = self.reserved.on(&agent.info.agent_id);
        unfilled.is_some_and(|unfilled| !agent.ledger.free().amounts().contains(&unfilled.kept_from(role)))
    }

    /// What is free on active agents, and neither reserved nor needed for what roles are guaranteed. `None` where no
    /// guarantee lacks anything.
    pub(super) fn surplus(&self) -> Option<Scalars> {
        let need = self.frameworks.roles.need();
        if need.is_empty() {
            return None;
        }
        Some(self.free_for_all().beyond(&self.need_of_free()))
    }

    /// What is free on active agents and not reserved.
    fn free_for_all(&self) -> Scalars {
        let mut free = self.agents.available.clone();
        for idle in self.reserved.idle.values() {
            free = free.beyond(idle);
        }
        free
    }

    /// What guarantees lack beyond what is reserved for their roles.
    fn need_of_free(&self) -> Scalars {
        let roles = &self.frameworks.roles;
        let need = roles.need();
        if self.reserved.idle.is_empty() {
            return need.clone();
        }
        // From the roles furthest down upwards: of what is reserved below a role no more counts than the role needs.
        let mut covered: BTreeMap<(Reverse<usize>, RoleNumber), Scalars> = BTreeMap::new();
        let place = |number| (Reverse(roles.path(number).count()), number);
        // A role that is not known needs nothing, so what is reserved for it counts for nobody.
        let known = self.reserved.idle.iter().filter_map(|(role, idle)| Some((roles.number(role)?, idle)));
        for (number, idle) in known {
            covered.entry(place(number)).or_default().add(idle);
        }
        while let Some(((_, number), idle)) = covered.pop_first() {
            let role = roles.get(number);
            if number == ROOT {
                return need.beyond(&idle);
            }
            let counts = idle.least(role.need());
            covered.entry(place(role.parent)).or_default().add(&counts);
        }
        need.clone()
    }

    /// What the guarantees of a role and those above it lack, beyond what is reserved for it.
    pub(super) fn needed_by(&self, number: RoleNumber) -> Scalars {
        let roles = &self.frameworks.roles;
        let mut needed = roles.needed_by(number);
        if !needed.is_empty() && !self.reserved.idle.is_empty() {
            for (_, role) in roles.path(number) {
                if let Some(idle) = self.reserved.idle.get(&role.name) {
                    needed = needed.beyond(idle);
                }
            }
        }
        needed
    }

    /// What guarantees need that is not free.
    pub(super) fn lacking(&self) -> Scalars {
        self.need_of_free().beyond(&self.free_for_all())
    }

    /// What of an agent is kept for a framework's role and not filled.
    pub(super) fn kept_for_role(&self, framework: &Framework, agent: &AgentId) -> Scalars {
        self.reserved.on(agent).map(|unfilled| unfilled.kept_for(&framework.role)).unwrap_or_default()
    }
}
