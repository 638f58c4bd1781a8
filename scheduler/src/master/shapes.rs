//! How many tasks of a demanded shape fit where.
//!
//! Invariant: pure arithmetic over resources; who wants what from whom is not known here.

use crate::model::Demand;
use jobs::Resources;

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
/// tasks and could have both on one agent is shown two agents, and chooses.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Of each demand, in their order.
    left: Vec<u32>,
}

impl Wish {
    pub fn new(demands: &[Demand]) -> Self {
        Self { left: demands.iter().map(|demand| demand.count).collect() }
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
    pub fn wants(&self, demands: &[Demand], room: &Resources) -> bool {
        demands.iter().zip(&self.left).any(|(demand, left)| *left > 0 && fits(room, demand))
    }

    /// Counts an offer of this.
    pub fn count(&mut self, demands: &[Demand], n_agents: usize, room: &Resources) {
        if self.is_met() {
            return;
        }
        let n_agents = u32::try_from(n_agents.max(1)).unwrap_or(u32::MAX);
        // Only what is left after one demand matters to the next.
        let mut rest: Option<Resources> = None;
        let last = self.left.len() - 1;
        for (at, (demand, left)) in demands.iter().zip(&mut self.left).enumerate() {
            let n = how_many(rest.as_ref().unwrap_or(room), demand, (*left).min(demand.count.div_ceil(n_agents)));
            if n > 0 {
                *left -= n;
                if at < last {
                    take(rest.get_or_insert_with(|| room.clone()), demand, n);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        wish.count(&demands, 2, &room);
        assert!(!wish.is_met() && wish.wants(&demands, &room));
        wish.count(&demands, 2, &room);
        assert!(wish.is_met() && !wish.wants(&demands, &room));
        let mut alone = Wish::new(&demands);
        alone.count(&demands, 1, &room);
        assert!(alone.is_met());
    }

    #[test]
    fn room_is_not_counted_twice() {
        let demands = [demand(2.0, 1, 1), demand(2.0, 1, 1)];
        let mut wish = Wish::new(&demands);
        wish.count(&demands, 1, &Resources::new().cpus(3.0).with_ports([(1, 9)]));
        assert!(!wish.is_met());
        wish.count(&demands, 1, &Resources::new().cpus(3.0).with_ports([(1, 1)]));
        assert!(wish.is_met());
    }
}
