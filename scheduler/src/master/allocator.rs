//! Who is offered what: dominant-resource fairness over roles, then over the frameworks of a role.
//!
//! An agent's whole free resources go to the first framework, in order of dominant shares, that wants them and did not
//! refuse them. What is offered counts as held, so to sit on offers costs the sitter. A framework that posted demand
//! is offered only what brings its demand nearer, and nothing once its offers can meet it.
//!
//! Invariant: only pairs that could have changed are looked at: an agent that got something back, or a framework that
//! wants more than before. A framework that is suppressed, met or gone costs nothing.

use super::Master;
use super::frameworks::Framework;
use super::offers::Standing;
use super::shapes::Wish;
use super::tally::{Share, Tally};
use crate::model::{FrameworkEvent, Offer};
use jobs::{AgentId, FrameworkId, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// What changed since the last allocation.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Something became free there.
    pub agents: BTreeSet<AgentId>,
    /// They want more, or refuse less.
    pub frameworks: BTreeSet<FrameworkId>,
}

/// One framework in the contest for free resources.
struct Contender<'a> {
    id: &'a FrameworkId,
    framework: &'a Framework,
    charged: Tally,
    n_offered: u64,
    /// `None`: takes whatever is free.
    wish: Option<Wish<'a>>,
    is_dirty: bool,
}

/// The contenders of one role, by their place in the list of all: share, times offered, place.
struct Queue {
    charged: Tally,
    n_offered: u64,
    order: BTreeSet<(Share, u64, usize)>,
}

impl Master {
    pub(super) fn allocate(&mut self) {
        if self.dirty.agents.is_empty() && self.dirty.frameworks.is_empty() {
            return;
        }
        for (agent_id, framework_id) in self.decide() {
            self.offer(&agent_id, &framework_id);
        }
        self.dirty = Dirty::default();
    }

    fn decide(&self) -> Vec<(AgentId, FrameworkId)> {
        let has_room = |id: &&AgentId| self.agents.get(id).is_some_and(|agent| !agent.ledger.free().is_empty());
        let is_active = |id: &&AgentId| self.agents.active.contains(*id);
        let agents: Vec<&AgentId> = match self.dirty.frameworks.is_empty() {
            true => self.dirty.agents.iter().filter(is_active).filter(has_room).collect(),
            false => self.agents.active.iter().filter(has_room).collect(),
        };
        if agents.is_empty() {
            return Vec::new();
        }
        let mut contenders = self.contenders();
        let mut queues = self.queues(&contenders);
        let mut role_order: BTreeSet<(Share, u64, &str)> = queues
            .iter()
            .map(|(role, queue)| (queue.charged.dominant_share(&self.cluster_total), queue.n_offered, *role))
            .collect();
        let mut decisions = Vec::new();
        for id in agents {
            let Some(free) = self.agents.get(id).map(|agent| agent.ledger.free()) else { continue };
            let is_dirty = self.dirty.agents.contains(id);
            let takes = |place: usize| {
                let contender = &contenders[place];
                (is_dirty || contender.is_dirty)
                    && self.is_wanted(contender, free)
                    && self.filters.refused_until(contender.id, id, free).is_none()
            };
            let winner = role_order.iter().find_map(|(_, _, role)| {
                let order = &queues.get(role)?.order;
                order.iter().find(|(_, _, place)| takes(*place)).map(|entry| (*role, *entry))
            });
            let Some((role, entry)) = winner else { continue };
            let Some(queue) = queues.get_mut(role) else { continue };
            let total = &self.cluster_total;
            role_order.remove(&(queue.charged.dominant_share(total), queue.n_offered, role));
            queue.order.remove(&entry);
            let contender = &mut contenders[entry.2];
            contender.charged.add(free);
            contender.n_offered += 1;
            queue.charged.add(free);
            queue.n_offered += 1;
            if let Some(wish) = &mut contender.wish {
                wish.count(free);
            }
            if contender.wish.as_ref().is_none_or(|wish| !wish.is_met()) {
                queue.order.insert((contender.charged.dominant_share(total), contender.n_offered, entry.2));
            }
            if !queue.order.is_empty() {
                role_order.insert((queue.charged.dominant_share(total), queue.n_offered, role));
            }
            decisions.push((id.clone(), contender.id.clone()));
        }
        decisions
    }

    /// Frameworks that want something, in order of their ids.
    fn contenders(&self) -> Vec<Contender<'_>> {
        let asking =
            self.frameworks.by_id.iter().filter(|(_, framework)| {
                framework.connection.is_some() && !framework.suppressed && !framework.settling
            });
        asking
            .map(|(id, framework)| Contender {
                id,
                framework,
                charged: framework.charged.clone(),
                n_offered: framework.n_offered,
                wish: self.wish(framework),
                is_dirty: self.dirty.frameworks.contains(id),
            })
            .filter(|contender| contender.wish.as_ref().is_none_or(|wish| !wish.is_met()))
            .collect()
    }

    fn queues<'a>(&'a self, contenders: &[Contender<'a>]) -> BTreeMap<&'a str, Queue> {
        let mut queues: BTreeMap<&str, Queue> = BTreeMap::new();
        for (place, contender) in contenders.iter().enumerate() {
            let role = contender.framework.role.as_str();
            let queue = queues.entry(role).or_insert_with(|| {
                let (charged, n_offered) = match self.frameworks.roles.get(role) {
                    Some(role) => (role.charged.clone(), role.n_offered),
                    None => (Tally::default(), 0),
                };
                Queue { charged, n_offered, order: BTreeSet::new() }
            });
            let share = contender.charged.dominant_share(&self.cluster_total);
            queue.order.insert((share, contender.n_offered, place));
        }
        queues
    }

    /// What is left of a framework's demand after the offers that it holds.
    pub(super) fn wish<'a>(&self, framework: &'a Framework) -> Option<Wish<'a>> {
        let demands = framework.demands.as_ref()?;
        let mut wish = Wish::new(demands, self.agents.active.len());
        for offer in framework.offers.iter().filter_map(|number| self.offers.get(*number)) {
            wish.count(&offer.resources);
        }
        Some(wish)
    }

    fn is_wanted(&self, contender: &Contender<'_>, free: &Resources) -> bool {
        match &contender.wish {
            Some(wish) => wish.wants(free),
            None => self.config.min_allocatable.iter().any(|least| free.contains(least)),
        }
    }

    fn offer(&mut self, agent_id: &AgentId, framework_id: &FrameworkId) {
        let agent = self.agents.known(agent_id);
        let resources = agent.ledger.free().clone();
        agent.ledger.offer(&resources);
        let framework = self.frameworks.known(framework_id);
        framework.n_offered += 1;
        let role = framework.role.clone();
        let standing = Standing {
            framework_id: framework_id.clone(),
            agent_id: agent_id.clone(),
            role: role.clone(),
            resources: resources.clone(),
            made_ms: self.now_ms,
            expires_ms: self.now_ms + self.config.offer_expiry_ms,
        };
        let offer = Offer {
            agent_id: agent_id.clone(),
            host: agent.info.host.clone(),
            role: role.clone(),
            resources,
            attributes: agent.info.attributes.clone(),
            expires_in_ms: self.config.offer_expiry_ms,
            offer_id: Default::default(),
        };
        let number = self.offers.make(standing);
        agent.offers.insert(number);
        framework.offers.insert(number);
        self.frameworks.charge(framework_id, &offer.resources);
        if let Some(role) = self.frameworks.roles.get_mut(&role) {
            role.n_offered += 1;
        }
        let offer = Offer { offer_id: self.offers.id(number), ..offer };
        self.tell(framework_id, FrameworkEvent::Offer(offer));
    }
}
