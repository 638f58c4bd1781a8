//! The allocator as one would explain it: every agent, every framework, everything computed anew each time.
//!
//! Invariant: nothing is remembered but the books themselves, so nothing can be forgotten.

use jobs::{Resources, Scalars};
use scheduler::model::Demand;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Naive {
    pub now_ms: u64,
    pub agents: BTreeMap<String, Agent>,
    pub frameworks: Vec<Framework>,
    /// With all above them, in the order in which they were first named.
    pub roles: Vec<Role>,
    pub refusals: Vec<Refusal>,
    pub min_allocatable: Vec<Resources>,
    pub scarce: Vec<String>,
}

#[derive(Debug)]
pub struct Agent {
    pub total: Resources,
    pub free: Resources,
    pub is_active: bool,
}

#[derive(Debug)]
pub struct Framework {
    pub role: String,
    pub is_there: bool,
    pub demands: Option<Vec<Demand>>,
    /// By number, oldest first.
    pub offers: BTreeMap<u64, (String, Resources)>,
    pub charged: Scalars,
    pub n_offered: u64,
}

#[derive(Debug)]
pub struct Role {
    pub path: String,
    pub weight: f64,
    pub guarantee: Scalars,
    pub limit: BTreeMap<String, i64>,
    pub n_offered: u64,
    pub own_n_offered: u64,
}

#[derive(Debug)]
pub struct Refusal {
    pub framework: usize,
    pub agent: String,
    pub refused: Resources,
    pub until_ms: u64,
}

struct Moment {
    total: Scalars,
    need: Scalars,
    available: Scalars,
    /// By role.
    needed_by: BTreeMap<String, Scalars>,
}

/// An agent, a framework, and what it is offered.
pub type Decision = (String, usize, Resources);

/// Share by weight, times offered, number: of each level from the root down.
type Place = Vec<(f64, u64, usize)>;

fn is_at_or_below(role: &str, above: &str) -> bool {
    role == above || role.starts_with(&format!("{above}/"))
}

/// `a/b/c`: a, a/b, a/b/c.
fn ancestors(role: &str) -> Vec<&str> {
    let ends = role.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| at).chain([role.len()]);
    ends.map(|end| &role[..end]).collect()
}

impl Naive {
    pub fn name_role(&mut self, role: &str) {
        for path in ancestors(role) {
            if self.roles.iter().all(|known| known.path != path) {
                let (guarantee, limit) = (Scalars::new(), BTreeMap::new());
                let path = path.to_string();
                self.roles.push(Role { path, weight: 1.0, guarantee, limit, n_offered: 0, own_n_offered: 0 });
            }
        }
    }

    pub fn role(&mut self, path: &str) -> &mut Role {
        self.roles.iter_mut().find(|role| role.path == path).expect("roles are named first")
    }

    fn total(&self) -> Scalars {
        let mut total = Scalars::new();
        for agent in self.agents.values() {
            total.add(agent.total.amounts());
        }
        for name in &self.scarce {
            total.set(name, 0);
        }
        total
    }

    fn held(&self, counts: impl Fn(&str) -> bool) -> Scalars {
        let mut held = Scalars::new();
        for framework in self.frameworks.iter().filter(|framework| counts(&framework.role)) {
            held.add(&framework.charged);
        }
        held
    }

    fn held_by(&self, role: &str) -> Scalars {
        self.held(|other| is_at_or_below(other, role))
    }

    fn children(&self, role: &str) -> impl Iterator<Item = &Role> {
        let depth = role.matches('/').count() + 1;
        self.roles.iter().filter(move |child| {
            child.path.starts_with(&format!("{role}/")) && child.path.matches('/').count() == depth
        })
    }

    fn unsatisfied(&self, role: &Role) -> Scalars {
        role.guarantee.beyond(&self.held_by(&role.path))
    }

    fn need(&self, role: &Role) -> Scalars {
        self.unsatisfied(role).most(&self.sum_of_needs(&role.path))
    }

    fn sum_of_needs(&self, role: &str) -> Scalars {
        let mut sum = Scalars::new();
        for child in self.children(role) {
            sum.add(&self.need(child));
        }
        sum
    }

    fn need_of_all(&self) -> Scalars {
        let mut sum = Scalars::new();
        for role in self.roles.iter().filter(|role| !role.path.contains('/')) {
            sum.add(&self.need(role));
        }
        sum
    }

    /// What guarantees of the role and above it lack, as far as it is not a sibling's.
    fn needed_by(&self, role: &str) -> Scalars {
        let path = ancestors(role);
        let mut needed = Scalars::new();
        for (at, above) in path.iter().enumerate() {
            let above = self.roles.iter().find(|known| known.path == *above).expect("known");
            let towards = path.get(at + 1);
            let mut siblings = Scalars::new();
            for child in self.children(&above.path).filter(|child| Some(&child.path.as_str()) != towards) {
                siblings.add(&self.need(child));
            }
            needed = needed.most(&self.unsatisfied(above).beyond(&siblings));
        }
        needed
    }

    fn place(&self, number: usize, total: &Scalars) -> Place {
        let framework = &self.frameworks[number];
        let mut place: Place = Vec::new();
        for path in ancestors(&framework.role) {
            let at = self.roles.iter().position(|known| known.path == path).expect("known");
            let role = &self.roles[at];
            let share = self.held_by(path).largest_part_of(total) / role.weight;
            place.push((share, role.n_offered, at + 1));
        }
        let own = self.held(|role| role == framework.role).largest_part_of(total);
        let role = self.roles.iter().find(|known| known.path == framework.role).expect("known");
        place.push((own, role.own_n_offered, 0));
        place.push((framework.charged.largest_part_of(total), framework.n_offered, number));
        place
    }

    /// Of each demand, what is not met by the offers that are held.
    fn left(&self, framework: &Framework) -> Vec<u32> {
        let n_agents = self.agents.values().filter(|agent| agent.is_active).count().max(1) as u32;
        let demands = framework.demands.as_deref().unwrap_or_default();
        let mut left: Vec<u32> = demands.iter().map(|demand| demand.count).collect();
        for (_, offered) in framework.offers.values() {
            let mut room = offered.clone();
            for (demand, left) in demands.iter().zip(&mut left) {
                let mut counted = 0;
                while *left > 0 && counted < demand.count.div_ceil(n_agents) && room.contains(&demand.shape) {
                    room.subtract(&demand.shape);
                    *left -= 1;
                    counted += 1;
                }
            }
        }
        left
    }

    fn is_allocatable(&self, resources: &Resources) -> bool {
        self.min_allocatable.iter().any(|least| resources.contains(least))
    }

    fn share_for(&self, framework: &Framework, free: &Resources, moment: &Moment) -> Option<Resources> {
        if framework.demands.is_none() && !self.is_allocatable(free) {
            return None;
        }
        let mut most = free.amounts().clone();
        for path in ancestors(&framework.role) {
            let role = self.roles.iter().find(|known| known.path == path).expect("known");
            if !role.limit.is_empty() {
                let held = self.held_by(path);
                for (name, limit) in &role.limit {
                    most.set(name, most.get(name).min((limit - held.get(name)).max(0)));
                }
            }
        }
        let surplus = moment.available.beyond(&moment.need);
        for (name, _) in moment.need.iter() {
            most.set(name, most.get(name).min(moment.needed_by[&framework.role].get(name) + surplus.get(name)));
        }
        let is_stripped = |name: &str| free.milli(name) > 0 && most.get(name) == 0;
        if framework.demands.is_none() && (is_stripped("cpus") || is_stripped("mem")) {
            return None;
        }
        let part = most.largest_part_of(free.amounts());
        let n_ports = match framework.demands.is_some() || most == *free.amounts() {
            true => free.n_ports(),
            false => (free.n_ports() as f64 * part).ceil() as usize,
        };
        let offered = Resources::new().with_amounts(most).with_ports(free.first_ports(n_ports));
        let is_wanted = match &framework.demands {
            None => self.is_allocatable(&offered),
            Some(demands) => {
                let left = self.left(framework);
                demands.iter().zip(left).any(|(demand, left)| left > 0 && offered.contains(&demand.shape))
            }
        };
        is_wanted.then_some(offered)
    }

    /// What is the same for all frameworks, until something is offered.
    fn moment(&self) -> Moment {
        let mut available = Scalars::new();
        for agent in self.agents.values().filter(|agent| agent.is_active) {
            available.add(agent.free.amounts());
        }
        let need = self.need_of_all();
        let needed = |role: &String| if need.is_empty() { Scalars::new() } else { self.needed_by(role) };
        let needed_by =
            self.frameworks.iter().map(|framework| (framework.role.clone(), needed(&framework.role))).collect();
        Moment { total: self.total(), need, available, needed_by }
    }

    fn refuses(&self, number: usize, agent: &str, offered: &Resources) -> bool {
        self.refusals.iter().any(|refusal| {
            refusal.framework == number
                && refusal.agent == agent
                && refusal.until_ms > self.now_ms
                && refusal.refused.contains(offered)
        })
    }

    fn best(&self, agent: &str, for_guarantees: bool) -> Option<(usize, Resources)> {
        let free = &self.agents[agent].free;
        let moment = self.moment();
        let mut best: Option<(Place, usize, Resources)> = None;
        for (number, framework) in self.frameworks.iter().enumerate() {
            let is_met = framework.demands.is_some() && self.left(framework).iter().all(|left| *left == 0);
            if !framework.is_there || is_met || (for_guarantees && moment.needed_by[&framework.role].is_empty()) {
                continue;
            }
            let Some(offered) = self.share_for(framework, free, &moment) else { continue };
            if self.refuses(number, agent, &offered) {
                continue;
            }
            let place = self.place(number, &moment.total);
            if best.as_ref().is_none_or(|(other, ..)| place < *other) {
                best = Some((place, number, offered));
            }
        }
        best.map(|(_, number, offered)| (number, offered))
    }

    /// All that is offered now. What is decided is in the books, but for the offers' numbers.
    pub fn allocate(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let ids: Vec<String> = self.agents.keys().cloned().collect();
        let stages: &[bool] = if self.need_of_all().is_empty() { &[false] } else { &[true, false] };
        for for_guarantees in stages {
            for id in &ids {
                while self.agents[id].is_active && !self.agents[id].free.is_empty() {
                    let Some((number, offered)) = self.best(id, *for_guarantees) else { break };
                    self.agents.get_mut(id).expect("known").free.subtract(&offered);
                    let framework = &mut self.frameworks[number];
                    framework.charged.add(offered.amounts());
                    framework.n_offered += 1;
                    // Later than all that have numbers.
                    let unnumbered = u64::MAX - 100_000 + decisions.len() as u64;
                    framework.offers.insert(unnumbered, (id.clone(), offered.clone()));
                    let role = framework.role.clone();
                    self.role(&role).own_n_offered += 1;
                    for path in ancestors(&role) {
                        self.role(path).n_offered += 1;
                    }
                    decisions.push((id.clone(), number, offered));
                }
            }
        }
        decisions
    }
}
