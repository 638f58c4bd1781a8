//! One agent's free resources, and the framework that they are offered to next.
//!
//! Invariant: nothing is changed here. A framework that refused is passed over without being looked at: refusals of an
//! agent are marked once, when the first in order refused: the first few, where there are many refusals to mark.

use super::Master;
use super::agents::Agent;
use super::filters::OnAgent;
use super::frameworks::Framework;
use super::holds::HoldNumber;
use jobs::{Resources, Scalars, Site};
use std::borrow::Cow;

/// To mark so many refusals costs about as much as to ask one framework.
const MARKED_AS_ONE_IS_ASKED: usize = 128;

#[derive(Debug)]
pub struct Contest {
    for_guarantees: bool,
    /// By framework: the agent, counted, on which it was last found to refuse.
    refused: Vec<u32>,
    n_agents: u32,
}

/// Who is offered something next.
#[derive(Debug)]
pub struct Won {
    pub framework: u32,
    pub resources: Resources,
    /// It was kept for it.
    pub hold: Option<HoldNumber>,
}

/// What is the same for all who are asked about an agent.
struct Terms<'a> {
    site: Site<'a>,
    free: &'a Resources,
    agent: &'a Agent,
    /// What of all that is free nobody's guarantee needs; `None` where no guarantee lacks anything.
    surplus: Option<Scalars>,
    /// Whether there is so much that anybody takes it.
    is_allocatable: bool,
    /// Some of it is only lent.
    has_lent: bool,
}

impl Contest {
    /// So many frameworks are looked at one by one, without walking through the order of all.
    pub const FEW: usize = 16;

    pub fn new(n_frameworks: usize, for_guarantees: bool) -> Self {
        Self { for_guarantees, refused: vec![0; n_frameworks], n_agents: 0 }
    }

    /// Who is next, and what for. `among`: only these.
    pub fn winner(&mut self, master: &Master, agent: u32, among: Option<&[u32]>) -> Option<Won> {
        let agent = master.agents.numbered(agent)?;
        let free = agent.ledger.free();
        if free.is_empty() {
            return None;
        }
        if let Some(won) = master.kept_part(agent, free) {
            return Some(won);
        }
        let free = &*master.holds.left(&agent.info.agent_id, free);
        let roles = &master.frameworks.roles;
        if roles.n_demanding() == 0 && !master.is_allocatable(free) {
            return None;
        }
        let terms = master.terms(agent, free);
        let mut won = None;
        self.n_agents += 1;
        let mut n_refused = 0;
        let refusals = master.filters.of_agent(agent.number());
        let n_unmarked = 1 + refusals.map_or(0, OnAgent::n) / MARKED_AS_ONE_IS_ASKED;
        let mut takes = |number: u32| {
            if self.refused[number as usize] == self.n_agents {
                return false;
            }
            let Some(framework) = master.frameworks.numbered(number) else { return false };
            if self.for_guarantees && master.needed_by(framework.role_number).is_empty() {
                return false;
            }
            let Some(resources) = master.share_for(framework, &terms) else { return false };
            if refusals.is_some_and(|refusals| refusals.refused_until(number, &resources).is_some()) {
                n_refused += 1;
                if let Some(refusals) = refusals.filter(|_| n_refused == n_unmarked) {
                    // Who refused all of it refused any part of it.
                    refusals.each_refuser(free, |number| self.refused[number as usize] = self.n_agents);
                }
                return false;
            }
            won = Some(Won { framework: number, resources: resources.into_owned(), hold: None });
            true
        };
        match among.filter(|among| among.len() <= Self::FEW) {
            Some(few) => {
                let turns = |number: &u32| {
                    let framework = master.frameworks.numbered(*number)?;
                    Some((roles.turns(framework.role_number, framework.turn?)?, *number))
                };
                let mut few: Vec<_> = few.iter().filter_map(turns).collect();
                few.sort_unstable();
                few.into_iter().map(|(_, number)| number).find(|number| takes(*number));
            }
            None => {
                let mut takes =
                    |number| among.is_none_or(|among| among.binary_search(&number).is_ok()) && takes(number);
                if self.for_guarantees {
                    roles.first_needy(&mut takes)
                } else {
                    roles.first(&mut takes)
                };
            }
        }
        won
    }
}

impl Master {
    /// What is kept here for a framework, once it is all there.
    fn kept_part(&self, agent: &Agent, free: &Resources) -> Option<Won> {
        let (id, site) = (&agent.info.agent_id, agent.info.site());
        self.holds.open_on(id).find_map(|(number, hold)| {
            let framework = self.frameworks.get(&hold.framework_id).filter(|framework| framework.turn.is_some())?;
            let resources = hold.part(id, free)?;
            let is_refused = |refusals: &OnAgent| refusals.refused_until(framework.number, &resources).is_some();
            let amounts = resources.amounts();
            let is_let_in = self.frameworks.roles.within_limits(framework.role_number, amounts) == *amounts;
            let is_wanted =
                framework.rules.allow(site) && framework.wish.wants(framework.demands.as_deref()?, site, &resources);
            let is_good = is_let_in && is_wanted && !self.filters.of_agent(agent.number()).is_some_and(is_refused);
            is_good.then_some(Won { framework: framework.number, resources, hold: Some(number) })
        })
    }

    pub(super) fn is_allocatable(&self, resources: &Resources) -> bool {
        self.config.min_allocatable.iter().any(|least| resources.contains(least))
    }

    fn terms<'a>(&self, agent: &'a Agent, free: &'a Resources) -> Terms<'a> {
        Terms {
            site: agent.info.site(),
            free,
            agent,
            surplus: self.surplus(),
            is_allocatable: self.is_allocatable(free),
            has_lent: free.is_revocable(),
        }
    }

    /// What of this a framework would be offered; all of it, if it wants nothing of it.
    pub(super) fn would_be_offered(&self, framework: &Framework, agent: &Agent, free: &Resources) -> Resources {
        self.share_for(framework, &self.terms(agent, free)).map_or_else(|| free.clone(), Cow::into_owned)
    }

    /// What a framework would be offered of what is free: what limits let in, and of what guarantees still need only
    /// what is needed here or left over, besides what is reserved for its role. `None` if it does not want that.
    fn share_for<'a>(&self, framework: &Framework, terms: &Terms<'a>) -> Option<Cow<'a, Resources>> {
        let (roles, role) = (&self.frameworks.roles, framework.role_number);
        if (framework.demands.is_none() && !terms.is_allocatable) || !framework.rules.allow(terms.site) {
            return None;
        }
        let (kept_from, kept_for) = match self.reserved.on(&terms.agent.info.agent_id) {
            Some(unfilled) => (unfilled.kept_from(&framework.role), unfilled.kept_for(&framework.role)),
            None => Default::default(),
        };
        let amounts = terms.free.amounts();
        let mut most = roles.within_limits(role, amounts);
        if terms.has_lent && !framework.takes_lent() {
            most = most.own();
        }
        if !kept_from.is_empty() {
            most = most.least(&amounts.beyond(&kept_from));
        }
        if let Some(surplus) = &terms.surplus {
            let needed = self.needed_by(role);
            for (name, _) in roles.need().iter() {
                let room = needed.get(name) + surplus.get(name) + kept_for.get(name);
                if most.get(name) > room {
                    most.set(name, room);
                }
            }
        }
        // Cores without memory, or memory without cores, would be of no use to most, and lost to others.
        let is_stripped = ["cpus", "mem"].iter().any(|name| amounts.get(name) > 0 && most.get(name) == 0);
        if framework.demands.is_none() && is_stripped {
            return None;
        }
        let resources = match most == *amounts {
            true => Cow::Borrowed(terms.free),
            false => Cow::Owned(part_of(terms.free, most, framework.demands.is_some())),
        };
        let is_wanted = match &framework.demands {
            Some(demands) => framework.wish.wants(demands, terms.site, &resources),
            // That all of it is was said above.
            None => matches!(resources, Cow::Borrowed(_)) || self.is_allocatable(&resources),
        };
        is_wanted.then_some(resources)
    }
}

/// A part of what is free. Ports go along in the same proportion, so that whoever gets the rest has some too; who
/// posted demand takes what it needs of them and gives the others back.
fn part_of(free: &Resources, most: Scalars, with_all_ports: bool) -> Resources {
    if with_all_ports {
        return free.part(most, free.ports().iter().copied());
    }
    let part = most.largest_part_of(free.amounts());
    let n_ports = (free.n_ports() as f64 * part).ceil() as usize;
    free.part(most, free.first_ports(n_ports))
}
