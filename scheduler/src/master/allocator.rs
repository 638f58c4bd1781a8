//! Who is offered what: the next framework in the order of [turns](super::roles) that wants what is free on an agent
//! and did not refuse it gets all of it that its quota lets it have; then the next, while something is left.
//!
//! First come roles whose guarantees lack something, on all agents, then everybody. What is offered counts as held, so
//! to sit on offers costs the sitter. A framework that posted demand is offered only what brings its demand nearer, and
//! nothing once its offers can meet it.
//!
//! Invariant: only pairs that could have changed are looked at: an agent that got something back, or a framework that
//! wants more or may have more than before. A framework that is suppressed, met or gone costs nothing, nor does a role
//! that is at its limit.

use super::Master;
use super::agents::Spot;
use super::contest::Contest;
use super::frameworks::Framework;
use super::offers::Standing;
use super::roles::{RoleNumber, Turn};
use super::shapes::Wish;
use crate::model::{FrameworkEvent, Offer};
use jobs::{FrameworkId, Resources};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// What changed since the last allocation, besides the agents that were touched.
#[derive(Debug, Default)]
pub struct Dirty {
    /// They want more, or refuse less.
    pub frameworks: BTreeSet<FrameworkId>,
    /// What agents there are, or what they have.
    pub total: bool,
}

/// Agents are looked up in steps of this many: offers change the set that is walked through.
const AGENTS_AT_ONCE: usize = 256;

/// Who is looked at: on agents that changed everybody, on all others whoever may take more than before.
#[derive(Debug)]
struct Round {
    changed: BTreeSet<Spot>,
    /// All of them count as changed.
    everywhere: bool,
    wanting: Vec<u32>,
}

impl Master {
    pub(super) fn allocate(&mut self) {
        self.refresh_claims();
        let relieved = self.refresh();
        for agent in self.refresh_reserved() {
            self.agents.touch(&agent);
        }
        // Tasks that came with their agents may have filled guarantees, and what was kept free for them is free; those of a
        // framework that ended fill none, and others of its role, or of the role above, may have what they filled.
        let needs_otherwise = self.frameworks.roles.needs_changed();
        let is_clean = !self.agents.is_any_touched() && self.dirty.frameworks.is_empty() && relieved.is_empty();
        if is_clean && !needs_otherwise {
            return;
        }
        let changed = self.agents.take_touched();
        let dirty = std::mem::take(&mut self.dirty);
        let asking = dirty.frameworks.iter().filter_map(|id| self.frameworks.get(id));
        let mut wanting: BTreeSet<u32> = asking.filter(|asking| asking.turn.is_some()).map(|f| f.number).collect();
        for role in relieved {
            self.frameworks.roles.each_member(role, &mut |member| {
                wanting.insert(member);
            });
        }
        let needs_something = !self.frameworks.roles.need().is_empty();
        let mut round = Round {
            // What became free anywhere may be what had to be kept free elsewhere.
            everywhere: needs_otherwise || (needs_something && !changed.is_empty()),
            changed,
            wanting: wanting.into_iter().collect(),
        };
        loop {
            let needs_something = !self.frameworks.roles.need().is_empty();
            let keeps_something = needs_something || !self.reserved.idle.is_empty();
            let (n_before, _) = self.offers.counts();
            if needs_something {
                self.go_round(&mut round, true);
            }
            self.go_round(&mut round, false);
            if !keeps_something || self.offers.counts().0 == n_before {
                break;
            }
            // What was kept free, and is offered now or need not be kept any more, may be for others, wherever it is.
            round.everywhere = true;
        }
        self.frameworks.roles.settle_needs();
    }

    /// Finds whose turn or wish changed, and gives back the roles that may have more than before.
    fn refresh(&mut self) -> BTreeSet<RoleNumber> {
        let n_agents = self.agents.active.len();
        if self.n_agents != n_agents {
            self.n_agents = n_agents;
            // Each offer now counts for more or less, so that some may lack something again.
            let ids = self.frameworks.touch_wishes();
            self.dirty.frameworks.extend(ids);
        }
        if self.dirty.total {
            self.dirty.total = false;
            let mut total = self.cluster_total.clone();
            // With a resource, its kinds: those of GPUs are counted by model too.
            let is_scarce = |name: &str| {
                let scarce = |scarce: &String| {
                    name.strip_prefix(scarce.as_str()).is_some_and(|r| r.is_empty() || r.starts_with(':'))
                };
                self.config.scarce.iter().any(scarce)
            };
            let names: Vec<String> = total.iter().map(|(name, _)| name.to_string()).collect();
            for name in names.iter().filter(|name| is_scarce(name)) {
                total.set(name, 0);
            }
            if total != *self.frameworks.roles.fair_total() {
                self.frameworks.roles.set_fair_total(total);
                self.frameworks.touch_all();
                self.refresh_touched();
                self.frameworks.roles.reorder_all();
                return self.frameworks.roles.take_relieved();
            }
        }
        for role in self.refresh_touched() {
            self.frameworks.roles.reorder(role);
        }
        self.frameworks.roles.take_relieved()
    }

    fn refresh_touched(&mut self) -> BTreeSet<RoleNumber> {
        let mut roles = BTreeSet::new();
        for number in self.frameworks.take_touched() {
            let Some(framework) = self.frameworks.numbered(number) else { continue };
            roles.insert(framework.role_number);
            if framework.is_wish_stale {
                let wish = self.wish(framework);
                let framework = self.frameworks.known_numbered(number);
                (framework.wish, framework.is_wish_stale) = (wish, false);
            }
            self.find_turn(number);
        }
        roles
    }

    fn find_turn(&mut self, number: u32) {
        let Some(framework) = self.frameworks.numbered(number) else { return };
        let is_there = framework.connection.is_some() && !framework.suppressed && !framework.settling;
        let is_met = framework.demands.is_some() && framework.wish.is_met();
        let demands = framework.demands.as_deref().unwrap_or_default();
        let turn = (is_there && !is_met).then(|| Turn {
            priority: Reverse(framework.wish.priority(demands)),
            share: self.frameworks.roles.share(&framework.charged, 1.0),
            n_offered: framework.n_offered,
            number: framework.number,
        });
        self.frameworks.set_turn(number, turn);
    }

    /// What is left of a framework's demands after the offers that it holds.
    fn wish(&self, framework: &Framework) -> Wish {
        let demands = framework.demands.as_deref().unwrap_or_default();
        let mut wish = Wish::new(demands);
        if demands.is_empty() {
            return wish;
        }
        for offer in framework.offers.iter().filter_map(|number| self.offers.get(*number)) {
            if let Some(agent) = self.agents.numbered(offer.agent) {
                wish.count(demands, self.n_agents, agent.info.site(), &offer.resources);
            }
        }
        wish
    }

    /// Every agent with room in turn, in order of ids.
    fn go_round(&mut self, round: &mut Round, for_guarantees: bool) {
        let mut after: Bound<Spot> = Bound::Unbounded;
        let mut contest = Contest::new(self.frameworks.n_slots(), for_guarantees);
        loop {
            let all = round.everywhere || !round.wanting.is_empty();
            let agents = if all { &self.agents.roomy } else { &round.changed };
            let agents = agents.range((after, Bound::Unbounded)).take(AGENTS_AT_ONCE).copied().collect::<Vec<Spot>>();
            let Some(last) = agents.last() else { return };
            after = Bound::Excluded(*last);
            for agent in agents {
                let is_changed = !all || round.everywhere || round.changed.contains(&agent);
                if !is_changed && round.wanting.is_empty() {
                    continue;
                }
                let wanting = std::mem::take(&mut round.wanting);
                let mut among = (!is_changed).then_some(wanting.as_slice());
                while let Some(won) = contest.winner(self, agent.number, among) {
                    self.offer(agent.number, won.framework, won.resources);
                    // Who fills what is kept for it leaves as much to others as before.
                    self.refresh_reserved();
                    if let Some(hold) = won.hold {
                        let id = &self.agents.known_numbered(agent.number).info.agent_id;
                        self.holds.took(hold, id);
                    }
                    // What is left may be for somebody to whom all of it was not, now or in the next round.
                    among = None;
                    if !is_changed {
                        round.changed.insert(agent);
                    }
                }
                round.wanting = wanting;
                if !is_changed {
                    let frameworks = &self.frameworks;
                    let can_take = |number: &u32| frameworks.numbered(*number).is_some_and(|f| f.turn.is_some());
                    if for_guarantees || round.wanting.len() > Contest::FEW {
                        continue;
                    }
                    round.wanting.retain(can_take);
                }
            }
        }
    }

    fn offer(&mut self, at: u32, number: u32, resources: Resources) {
        let Some(framework) = self.frameworks.numbered(number) else { return };
        let (role, role_number) = (Arc::clone(&framework.role), framework.role_number);
        let (framework_id, connection) = (framework.id.clone(), framework.connection);
        self.agents.books_numbered(at, |ledger| ledger.offer(&resources));
        let agent_id = self.agents.known_numbered(at).info.agent_id.clone();
        let offer_number = self.offers.make(Standing {
            framework_id,
            agent_id: agent_id.clone(),
            framework: number,
            agent: at,
            role: Arc::clone(&role),
            resources: resources.clone(),
            made_ms: self.now_ms,
            expires_ms: self.now_ms + self.config.offer_expiry_ms,
        });
        self.frameworks.charge_numbered(number, &resources);
        self.frameworks.roles.count_offer(role_number);
        let n_agents = self.n_agents;
        let agent = self.agents.known_numbered(at);
        agent.offers.push(offer_number);
        let framework = self.frameworks.known_numbered(number);
        framework.n_offered += 1;
        framework.offers.insert(offer_number);
        if let Some(demands) = &framework.demands {
            framework.wish.count(demands, n_agents, agent.info.site(), &resources);
        }
        let (host, attributes) = (Arc::clone(&agent.host), Arc::clone(&agent.attributes));
        self.find_turn(number);
        self.frameworks.roles.reorder(role_number);
        let Some(connection) = connection else { return };
        let offer = Offer {
            offer_id: self.offers.id(offer_number),
            host,
            role: Arc::clone(&role),
            resources,
            attributes,
            expires_in_ms: self.config.offer_expiry_ms,
            drains_in_ms: self.drains_in_ms(&agent_id),
            volumes: self.volumes.open_to(&agent_id, &role),
            agent_id,
        };
        self.tell_on(connection, FrameworkEvent::Offer(offer));
    }
}
