//! Numbers of agents, and their order.
//!
//! Agents are looked at in the order of their ids. Ids are texts that lie anywhere in memory, and an allocation would
//! compare them more often than anything else; so each agent has a number, which tables are kept by, and a place.
//!
//! Invariant: the places of any two agents are in the order of their ids. One that comes between two gets a place
//! between theirs; where there is none left, all get new ones.

use jobs::AgentId;
use std::collections::BTreeMap;

/// How far apart agents are that come in the order of their ids.
const STEP: u64 = 1 << 32;

/// One agent, in the order of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    place: u64,
    /// Free for another when the agent is gone.
    pub number: u32,
}

#[derive(Debug, Default)]
pub struct Order {
    by_id: BTreeMap<AgentId, Spot>,
    n_numbers: u32,
    unused: Vec<u32>,
}

impl Order {
    pub fn get(&self, id: &AgentId) -> Option<Spot> {
        self.by_id.get(id).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&AgentId, Spot)> {
        self.by_id.iter().map(|(id, spot)| (id, *spot))
    }

    /// A spot for an agent that has none; and whether all others have new places.
    pub fn add(&mut self, id: AgentId) -> (Spot, bool) {
        let number = self.unused.pop().unwrap_or_else(|| {
            self.n_numbers += 1;
            self.n_numbers - 1
        });
        let below = self.by_id.range(..&id).next_back().map_or(0, |(_, spot)| spot.place);
        let place = match self.by_id.range(&id..).next() {
            Some((_, above)) => Some(below + (above.place - below) / 2).filter(|place| *place > below),
            None => below.checked_add(STEP),
        };
        let spot = Spot { place: place.unwrap_or(below), number };
        self.by_id.insert(id.clone(), spot);
        if place.is_some() {
            return (spot, false);
        }
        for (spot, at) in self.by_id.values_mut().zip(1..) {
            spot.place = at * STEP;
        }
        (self.by_id[&id], true)
    }

    pub fn remove(&mut self, id: &AgentId) -> Option<Spot> {
        let spot = self.by_id.remove(id)?;
        self.unused.push(spot.number);
        Some(spot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places_are_in_order(order: &Order) -> bool {
        order.by_id.values().is_sorted_by(|a, b| a.place < b.place)
    }

    #[test]
    fn where_no_place_is_left_all_get_new_ones() {
        let mut order = Order::default();
        let mut n_moved = 0;
        for at in (0..100).rev() {
            n_moved += usize::from(order.add(AgentId::new(format!("a{at:02}"))).1);
            assert!(places_are_in_order(&order));
        }
        assert!((1..10).contains(&n_moved), "{n_moved}");
    }

    proptest! {
        #[test]
        fn places_are_in_the_order_of_ids(steps in prop::collection::vec((0u8..40, any::<bool>()), 1..200)) {
            let mut order = Order::default();
            for (id, add) in steps {
                let id = AgentId::new(format!("a{id}"));
                match (order.get(&id), add) {
                    (None, true) => drop(order.add(id)),
                    (Some(spot), false) => prop_assert_eq!(order.remove(&id), Some(spot)),
                    _ => {}
                }
                let mut numbers: Vec<u32> = order.iter().map(|(_, spot)| spot.number).collect();
                numbers.sort_unstable();
                numbers.dedup();
                prop_assert!(places_are_in_order(&order) && numbers.len() == order.by_id.len());
                prop_assert!(numbers.iter().all(|number| *number < order.n_numbers));
            }
        }
    }
}
