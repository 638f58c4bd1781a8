//! Why a demand is not met: one plain sentence with numbers.
//!
//! Invariant: the sentence names what stands in the way now, the most final reason first: the framework's own state,
//! then no agent, then no agent large enough, then a limit of its role, then no agent with enough free, then what
//! guarantees keep, then refusals and offers in flight.

use super::Master;
use super::agents::Agent;
use super::frameworks::Framework;
use super::holds::Hold;
use super::reserved::Unfilled;
use super::shapes::{Bound, fits, how_many};
use super::view::AgentState;
use crate::model::{Demand, amount_text, is_below};
use jobs::site::Is;
use jobs::{AgentId, Resources};
use std::collections::BTreeSet;

impl Master {
    pub(super) fn explain(&self, framework: &Framework, demand: &Demand, now_ms: u64) -> String {
        if demand.count == 0 {
            return "all of it is launched".into();
        }
        let needs = needs(demand);
        if framework.connection.is_none() {
            return format!("{needs}; its framework is not connected");
        }
        if framework.settling {
            return format!("{needs}; its framework has only just subscribed");
        }
        if framework.suppressed {
            return format!("{needs}; its framework asked for no offers (suppress)");
        }
        let active: Vec<&Agent> = self.agents.active.iter().filter_map(|id| self.agents.get(id)).collect();
        if active.is_empty() {
            let away = |state| self.agents.iter().filter(|agent| agent.state == state).count();
            let (disconnected, unreachable) = (away(AgentState::Disconnected), away(AgentState::Unreachable));
            return match (disconnected + unreachable, away(AgentState::Draining)) {
                (_, n) if n > 0 => format!("{needs}; every agent that is there is being drained ({n})"),
                (0, _) => format!("{needs}; no agent has registered"),
                _ => format!("{needs}; no agent is connected ({disconnected} disconnected, {unreachable} unreachable)"),
            };
        }
        if let Some(volumes) = self.volumes_in_the_way(&framework.role, &demand.volumes) {
            return format!("{needs}; {volumes}");
        }
        if let Some(kept) = self.kept_for(framework, demand, now_ms) {
            return format!("{needs}; {kept}");
        }
        let n_active = active.len();
        let takes = |agent: &&Agent| {
            let site = agent.info.site();
            demand.rules.allow(site) && framework.rules.allow(site)
        };
        let active: Vec<&Agent> = active.into_iter().filter(takes).collect();
        if active.is_empty() {
            return match n_active {
                1 => format!("{needs}; the only agent is not one of these"),
                n => format!("{needs}; none of the {n} agents is one of these"),
            };
        }
        if demand.shape.is_revocable() && !active.iter().any(|agent| agent.ledger.total().is_revocable()) {
            return format!(
                "{needs}; no agent lends any now: what tasks were given and do not use (smack agent --lend)"
            );
        }
        let large: Vec<&Agent> = active.iter().copied().filter(|agent| fits(agent.ledger.total(), demand)).collect();
        if large.is_empty() {
            return format!("{needs}; {}; none fits", largest(&active, demand));
        }
        if let Some(limit) = self.limit_in_the_way(framework, demand) {
            return format!("{needs}; {limit}");
        }
        if let Some(scattered) = self.scattered(framework, demand, &large) {
            return format!("{needs}; {scattered}");
        }
        let held = framework.offers.iter().filter_map(|number| Some((*number, self.offers.get(*number)?)));
        let held: Vec<String> = held
            .filter(|(_, offer)| fits(&offer.resources, demand))
            .map(|(number, offer)| format!("{} of {}", self.offers.id(number), offer.agent_id))
            .collect();
        if !held.is_empty() {
            let held = some_of(&held);
            return format!("{needs}; offered {held}, and waits for the framework to accept enough of it");
        }
        let left =
            |agent: &&Agent| fits(&self.room_for(&framework.role, &agent.info.agent_id, agent.ledger.free()), demand);
        let free: Vec<&Agent> = large.iter().copied().filter(left).collect();
        let (n, of) = (large.len(), active.len());
        if free.is_empty() {
            let roomy = |agent: &&Agent| {
                let mut room = agent.ledger.free().clone();
                room.add(agent.ledger.offered());
                fits(&room, demand)
            };
            if let Some(reserved) = self.reserved_for_others(framework, demand, &large) {
                return format!("{needs}; {reserved}");
            }
            if let Some(agent) = large.iter().find(|agent| fits(agent.ledger.free(), demand)) {
                let id = &agent.info.agent_id;
                let for_whom = self.holds.on(id).filter_map(|number| Some(self.holds.get(number)?.key.as_str()));
                let for_whom: BTreeSet<&str> = for_whom.collect();
                let for_whom = for_whom.into_iter().collect::<Vec<_>>().join(" and ");
                return format!("{needs}; what is free on {id} is kept for {for_whom}, for which others had to leave");
            }
            let elsewhere: Vec<String> =
                large.iter().copied().filter(roomy).map(|agent| agent.info.agent_id.to_string()).collect();
            return match elsewhere.is_empty() {
                false => {
                    format!("{needs}; {} could hold it and is offered to other frameworks now", some_of(&elsewhere))
                }
                true => format!("{needs}; {n} of {of} agents are large enough, and {}", freest(&large, demand)),
            };
        }
        if let Some(kept) = self.kept_for_others(framework, demand, &free) {
            return format!("{needs}; {kept}");
        }
        let refused = |agent: &&Agent| {
            let free = self.holds.left(&agent.info.agent_id, agent.ledger.free());
            let offered = self.would_be_offered(framework, agent, &free);
            let until = self.filters.refused_until(framework.number, agent.number(), &offered)?;
            Some(format!("{} for {:.1} s", agent.info.agent_id, until.saturating_sub(now_ms) as f64 / 1000.0))
        };
        let refused: Vec<String> = free.iter().filter_map(refused).collect();
        match refused.is_empty() {
            false => format!("{needs}; the framework refused {} more", some_of(&refused)),
            true => format!("{needs}; {} of {of} agents have it free and are offered next", free.len()),
        }
    }
}

impl Master {
    /// The limit of the framework's role, or of one above it, that does not let one task of this in any more.
    fn limit_in_the_way(&self, framework: &Framework, demand: &Demand) -> Option<String> {
        let holds_enough = framework.offers.iter().filter_map(|number| self.offers.get(*number));
        if holds_enough.map(|offer| &offer.resources).any(|offered| fits(offered, demand)) {
            return None;
        }
        for (_, role) in self.frameworks.roles.path(framework.role_number) {
            for (name, need) in demand.shape.scalars() {
                let Some(limit) = role.terms.limit.get(name) else { continue };
                let left = (limit - role.charged.get(name)).max(0);
                if left < need {
                    let (role, limit, left) = (&role.name, amount_text(name, *limit), amount_text(name, left));
                    return Some(match left.starts_with("0 ") {
                        true => format!("role {role} is at its limit of {limit}"),
                        false => format!("role {role} has {left} left to its limit of {limit}"),
                    });
                }
            }
        }
        None
    }

    /// Whether its tasks are bound to each other, and there is room for them, but not where all of them could be.
    fn scattered(&self, framework: &Framework, demand: &Demand, agents: &[&Agent]) -> Option<String> {
        if !demand.rules.bind_tasks() {
            return None;
        }
        let mut bound = Bound::default();
        for agent in agents {
            let id = &agent.info.agent_id;
            let mut room = self.room_for(&framework.role, id, agent.ledger.free()).into_owned();
            let offers = agent.offers.iter().filter_map(|number| self.offers.get(*number));
            for offer in offers.filter(|offer| offer.framework_id == framework.id) {
                room.add(&offer.resources);
            }
            bound.add(demand, agent.info.site(), how_many(&room, demand, demand.count));
        }
        let rooms = bound.rooms(demand);
        let (value, most) = rooms.into_iter().max_by_key(|(_, n)| *n)?;
        if most >= u64::from(demand.count) {
            return None;
        }
        let tasks = if most == 1 { "1 of them".to_string() } else { format!("{most} of them") };
        Some(match &demand.rules.together {
            Some(key) if most > 0 => format!("no {key} has room for all now, {value} has room for {tasks}"),
            Some(key) => format!("no {key} has room for any now"),
            None => format!("there is room for {tasks} now"),
        })
    }

    /// Whether others have to leave for it.
    fn kept_for(&self, framework: &Framework, demand: &Demand, now_ms: u64) -> Option<String> {
        let is_for_it = |hold: &&Hold| hold.wanted.iter().any(|wanted| wanted.name == demand.name);
        let hold = self.holds.of_framework(&framework.id).map(|(_, hold)| hold).find(is_for_it)?;
        let agents: Vec<String> = hold.places.keys().map(AgentId::to_string).collect();
        Some(match hold.leaving.len() {
            0 => format!("room is kept for it on {}, and offered when all of it is free", some_of(&agents)),
            n => {
                let (tasks, leave) = if n == 1 { ("task", "leaves") } else { ("tasks", "leave") };
                let left_s = hold.leave_by_ms.saturating_sub(now_ms) as f64 / 1000.0;
                format!("{n} {tasks} {leave} for it, within {left_s:.0} s; room is kept on {}", some_of(&agents))
            }
        })
    }

    /// What is reserved for other roles, if without that it would fit.
    fn reserved_for_others(&self, framework: &Framework, demand: &Demand, agents: &[&Agent]) -> Option<String> {
        let would_fit = |agent: &&&Agent| fits(&self.holds.left(&agent.info.agent_id, agent.ledger.free()), demand);
        let would_fit: Vec<&Agent> = agents.iter().filter(would_fit).copied().collect();
        let unfilled = would_fit.iter().filter_map(|agent| self.reserved.on(&agent.info.agent_id));
        let roles: BTreeSet<&str> = unfilled.flat_map(Unfilled::iter).map(|(role, _)| role).collect();
        let roles: Vec<String> =
            roles.into_iter().filter(|role| !is_below(&framework.role, role)).map(String::from).collect();
        let agents: Vec<String> = would_fit.iter().map(|agent| agent.info.agent_id.to_string()).collect();
        (!agents.is_empty() && !roles.is_empty())
            .then(|| format!("what is free on {} is reserved for {}", some_of(&agents), some_of(&roles)))
    }

    /// What guarantees of other roles keep free, if without that it would fit on one of these.
    fn kept_for_others(&self, framework: &Framework, demand: &Demand, agents: &[&Agent]) -> Option<String> {
        let need = self.frameworks.roles.need();
        let (needed, surplus) = (self.needed_by(framework.role_number), self.surplus()?);
        let short = |agent: &Agent| {
            let reserved = self.kept_for_role(framework, &agent.info.agent_id);
            let room = |name: &str| needed.get(name) + surplus.get(name) + reserved.get(name);
            demand.shape.scalars().find(|(name, milli)| need.get(name) > 0 && room(name) < *milli).map(|(name, _)| name)
        };
        let short: Option<Vec<&str>> = agents.iter().map(|agent| short(agent)).collect();
        let name = *short?.first()?;
        Some(format!("{} of what is free is kept for guarantees of other roles", amount_text(name, need.get(name))))
    }
}

fn needs(demand: &Demand) -> String {
    let Demand { shape, n_ports, count, rules, volumes, .. } = demand;
    let tasks = if *count == 1 { "task" } else { "tasks" };
    let ports = match n_ports {
        0 => String::new(),
        1 => " and 1 port".to_string(),
        n => format!(" and {n} ports"),
    };
    let volumes: Vec<&str> = volumes.iter().map(|claim| claim.name.as_str()).collect();
    let volumes = match volumes[..] {
        [] => String::new(),
        [one] => format!(" with volume {one}"),
        _ => format!(" with volumes {}", volumes.join(", ")),
    };
    // A volume that nobody can have now is named by itself.
    let mut rules = rules.clone();
    rules.constraints.retain(|constraint| constraint.is != Is::OneOf(Vec::new()));
    let places = match rules.to_string() {
        nothing if nothing.is_empty() => nothing,
        said => format!(", on agents with {said}"),
    };
    format!("needs {count} {tasks} of {shape}{ports}{volumes}{places}")
}

/// The first resource of which no agent has enough, or that no agent has all of them together.
fn largest(agents: &[&Agent], demand: &Demand) -> String {
    for (name, need) in demand.shape.scalars() {
        let most = agents.iter().max_by_key(|agent| agent.ledger.total().milli(name));
        if let Some(agent) = most.filter(|agent| agent.ledger.total().milli(name) < need) {
            return format!("the largest agent has {} ({})", one(agent.ledger.total(), name), agent.info.agent_id);
        }
    }
    let most_ports = agents.iter().max_by_key(|agent| agent.ledger.total().n_ports());
    if let Some(agent) = most_ports.filter(|agent| agent.ledger.total().n_ports() < demand.n_ports as usize) {
        return format!("the largest agent has {} ports ({})", agent.ledger.total().n_ports(), agent.info.agent_id);
    }
    format!(
        "no agent has all of it at once: {}",
        list(agents.iter().map(|a| (&a.info.agent_id, a.ledger.total())), demand)
    )
}

/// What is free on those that are large enough.
fn freest(agents: &[&Agent], demand: &Demand) -> String {
    let free = agents.iter().map(|agent| (&agent.info.agent_id, agent.ledger.free()));
    format!("too little of them is free: {}", list(free, demand))
}

/// A few agents with what they have of what is asked for.
fn list<'a>(rooms: impl Iterator<Item = (&'a AgentId, &'a Resources)>, demand: &Demand) -> String {
    let shown = |(id, room): (&AgentId, &Resources)| {
        let mut parts: Vec<String> = demand.shape.scalars().map(|(name, _)| one(room, name)).collect();
        if demand.n_ports > 0 || !demand.shape.ports().is_empty() {
            parts.push(format!("{} ports", room.n_ports()));
        }
        format!("{id} has {}", parts.join(", "))
    };
    some_of(&rooms.map(shown).collect::<Vec<_>>())
}

/// The first three, and how many more.
fn some_of(texts: &[String]) -> String {
    match texts.len() {
        0..=3 => texts.join("; "),
        n => format!("{}; and {} more", texts[..3].join("; "), n - 3),
    }
}

fn one(resources: &Resources, name: &str) -> String {
    match resources.milli(name) {
        0 => format!("{name} 0"),
        milli => {
            let mut alone = Resources::new();
            alone.set_milli(name, milli);
            alone.to_string()
        }
    }
}
