//! How many tasks of a demanded shape fit where.
//!
//! Invariant: pure arithmetic over resources; who wants what from whom is not known here.

use crate::model::Demand;
use jobs::{Resources, Site};
use std::collections::BTreeMap;

/// Whether one task of this demand fits.
pub fn fits(room: &Resources, demand: &Demand) -> bool {
    how_many(room, demand, 1) == 1
}

/// How many tasks fit, at most `most`.
pub fn how_many(room: &Resources, demand: &Demand, most: u32) -> u32 {
    let mut n = i64::from(most);
    for (name, need) in demand.shape.scalars().filter(|(_, need)| *need > 0) {
        n = n.min(room.milli(name) / need);
    }
    if !demand.shape.ports().is_empty() {
        let named = Resources::new().with_ports(demand.shape.ports().iter().copied());
        n = n.min(if room.contains(&named) { 1 } else { 0 });
    }
    let any = i64::from(demand.n_ports);
    if any > 0 {
        n = n.min((room.n_ports() as i64 - demand.shape.n_ports() as i64).max(0) / any);
    }
    u32::try_from(n.max(0)).expect("not more than asked")
}

/// Takes `n` tasks out of the room, as far as counting goes: which ports and GPUs they get is theirs to choose.
pub fn take(room: &mut Resources, demand: &Demand, n: u32) {
    for _ in 0..n {
        let Some(placed) = room.place(&demand.shape, demand.n_ports as usize) else { return };
        room.subtract(&placed);
    }
}

/// What is left of a framework's demands after the offers that it holds.
///
/// Of each demand an offer counts only for an even share, `count / n_agents` rounded up: a framework that wants two
/// tasks and could have both on one agent is shown two agents, and chooses. Where the tasks are bound to each other, offers
/// count for as many as are of use beside each other.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Of each demand, in their order.
    left: Vec<u32>,
    /// Of demands whose tasks are bound to each other, by their place: how many fit in offers, by where these are.
    bound: BTreeMap<usize, Bound>,
}

/// How many tasks fit, by the value of the attribute that all of them have to have, and that of which only some may have the
/// same.
#[derive(Clone, Debug, Default)]
pub struct Bound(BTreeMap<(String, String), u64>);

impl Bound {
    /// The values that matter to a demand.
    fn values<'a>(demand: &Demand, site: Site<'a>) -> (&'a str, &'a str) {
        let value = |key: Option<&String>| key.and_then(|key| site.get(key)).unwrap_or_default();
        (value(demand.rules.together.as_ref()), value(demand.rules.spread.as_ref().map(|spread| &spread.key)))
    }

    pub fn add(&mut self, demand: &Demand, site: Site<'_>, n: u32) {
        let (together, apart) = Self::values(demand, site);
        *self.0.entry((together.to_string(), apart.to_string())).or_default() += u64::from(n);
    }

    /// For how many tasks there is room together, by the value that they would have in common.
    pub fn rooms(&self, demand: &Demand) -> BTreeMap<&str, u64> {
        let most = demand.rules.spread.as_ref().and_then(|spread| spread.most).map_or(u64::MAX, u64::from);
        let mut rooms: BTreeMap<&str, u64> = BTreeMap::new();
        for ((together, _), n) in &self.0 {
            *rooms.entry(together.as_str()).or_default() += n.min(&most);
        }
        rooms
    }

    /// Whether as many as may are there already.
    fn is_full(&self, demand: &Demand, site: Site<'_>) -> bool {
        let Some(most) = demand.rules.spread.as_ref().and_then(|spread| spread.most) else { return false };
        let (together, apart) = Self::values(demand, site);
        self.0.get(&(together.to_string(), apart.to_string())).is_some_and(|n| *n >= u64::from(most))
    }
}

impl Wish {
    pub fn new(demands: &[Demand]) -> Self {
        Self { left: demands.iter().map(|demand| demand.count).collect(), bound: BTreeMap::new() }
    }

    pub fn is_met(&self) -> bool {
        self.left.iter().all(|left| *left == 0)
    }

    /// The highest that something is still wanted for; 0 if nothing is.
    pub fn priority(&self, demands: &[Demand]) -> i32 {
        let wanted = demands.iter().zip(&self.left).filter(|(_, left)| **left > 0);
        wanted.map(|(demand, _)| demand.priority).max().unwrap_or(0)
    }

    /// Whether an offer of this would bring it nearer.
    pub fn wants(&self, demands: &[Demand], site: Site<'_>, room: &Resources) -> bool {
        demands.iter().zip(&self.left).enumerate().any(|(at, (demand, left))| {
            let is_full = || self.bound.get(&at).is_some_and(|bound| bound.is_full(demand, site));
            *left > 0 && demand.rules.allow(site) && fits(room, demand) && !is_full()
        })
    }

    /// Counts an offer of this, on an agent that is there.
    pub fn count(&mut self, demands: &[Demand], n_agents: usize, site: Site<'_>, room: &Resources) {
        if self.is_met() {
            return;
        }
        let n_agents = u32::try_from(n_agents.max(1)).unwrap_or(u32::MAX);
        // Only what is left after one demand matters to the next.
        let mut rest: Option<Resources> = None;
        let last = self.left.len() - 1;
        for (at, (demand, left)) in demands.iter().zip(&mut self.left).enumerate() {
            if *left == 0 || !demand.rules.allow(site) {
                continue;
            }
            let room_left = rest.as_ref().unwrap_or(room);
            let n = match demand.rules.bind_tasks() {
                false => {
                    let n = how_many(room_left, demand, (*left).min(demand.count.div_ceil(n_agents)));
                    *left -= n;
                    n
                }
                true => {
                    let n = how_many(room_left, demand, demand.count);
                    let bound = self.bound.entry(at).or_default();
                    bound.add(demand, site, n);
                    let together = bound.rooms(demand).into_values().max().unwrap_or(0);
                    *left = demand.count.saturating_sub(u32::try_from(together).unwrap_or(u32::MAX));
                    n
                }
            };
            if n > 0 && at < last {
                take(rest.get_or_insert_with(|| room.clone()), demand, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::Rules;
    use jobs::site::Spread;

    fn here() -> Site<'static> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        Site { agent: "a", host: "h", attributes: &NONE }
    }

    fn demand(cpus: f64, n_ports: u32, count: u32) -> Demand {
        Demand { shape: Resources::new().cpus(cpus), n_ports, count, ..Demand::default() }
    }

    #[test]
    fn scalars_and_ports_both_limit() {
        let room = Resources::new().cpus(4.0).with_ports([(10, 14)]);
        assert_eq!(how_many(&room, &demand(1.0, 0, 0), 9), 4);
        assert_eq!(how_many(&room, &demand(1.0, 2, 0), 9), 2);
        assert_eq!(how_many(&room, &demand(1.0, 2, 0), 1), 1);
        assert_eq!(how_many(&room, &demand(0.0, 0, 0), 9), 9);
        let mut named = demand(1.0, 0, 1);
        named.shape = named.shape.with_ports([(10, 10)]);
        assert_eq!(how_many(&room, &named, 9), 1);
        named.shape = named.shape.with_ports([(9, 9)]);
        assert_eq!(how_many(&room, &named, 9), 0);
    }

    #[test]
    fn an_offer_counts_for_an_even_share() {
        let room = Resources::new().cpus(8.0);
        let demands = [demand(1.0, 0, 3)];
        let mut wish = Wish::new(&demands);
        wish.count(&demands, 2, here(), &room);
        assert!(!wish.is_met() && wish.wants(&demands, here(), &room));
        wish.count(&demands, 2, here(), &room);
        assert!(wish.is_met() && !wish.wants(&demands, here(), &room));
        let mut alone = Wish::new(&demands);
        alone.count(&demands, 1, here(), &room);
        assert!(alone.is_met());
    }

    #[test]
    fn room_is_not_counted_twice() {
        let demands = [demand(2.0, 1, 1), demand(2.0, 1, 1)];
        let mut wish = Wish::new(&demands);
        wish.count(&demands, 1, here(), &Resources::new().cpus(3.0).with_ports([(1, 9)]));
        assert!(!wish.is_met());
        wish.count(&demands, 1, here(), &Resources::new().cpus(3.0).with_ports([(1, 1)]));
        assert!(wish.is_met());
    }

    #[test]
    fn offers_count_where_tasks_are_of_use_beside_each_other() {
        let attributes = |rack: &str| BTreeMap::from([("rack".to_string(), rack.to_string())]);
        let (r1, r2) = (attributes("r1"), attributes("r2"));
        let site = |agent, attributes| Site { agent, host: agent, attributes };
        let mut rules = Rules { together: Some("rack".into()), ..Rules::default() };
        let demands = [Demand { rules: rules.clone(), ..demand(1.0, 0, 4) }];
        let room = Resources::new().cpus(2.0);
        let mut wish = Wish::new(&demands);
        assert!(!wish.wants(&demands, here(), &room), "it is in no rack");
        for (agent, rack) in [("a", &r1), ("b", &r2)] {
            wish.count(&demands, 9, site(agent, rack), &room);
        }
        assert!(!wish.is_met(), "two in each are not four in one");
        wish.count(&demands, 9, site("c", &r2), &room);
        assert!(wish.is_met());
        rules = Rules { spread: Some(Spread { key: "host".into(), most: Some(1) }), ..Rules::default() };
        let demands = [Demand { rules, ..demand(1.0, 0, 2) }];
        let mut wish = Wish::new(&demands);
        wish.count(&demands, 1, site("a", &r1), &room);
        assert!(!wish.is_met() && !wish.wants(&demands, site("a", &r1), &room), "one is there already");
        assert!(wish.wants(&demands, site("b", &r1), &room));
    }
}
