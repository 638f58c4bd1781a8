//! Which offers hold the tasks of a job: all of them or none.
//!
//! Invariant: pure; takes nothing from an offer that it does not return in a placement.

use jobs::{AgentId, Need, OfferId, Resources, things};
use std::cmp::Reverse;

/// An offer that a framework holds and has not answered.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOffer {
    pub id: OfferId,
    pub agent: AgentId,
    pub host: String,
    pub resources: Resources,
    pub held_since_ms: u64,
}

/// Where one task goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub offer: OfferId,
    pub agent: AgentId,
    pub host: String,
    /// The job's shape with the ports and GPUs that were chosen.
    pub resources: Resources,
    pub ports: Vec<u16>,
}

/// Places all tasks that are needed, spread over as many agents as can be, or gives `None`. In the order of the tasks.
pub fn place(offers: &[HeldOffer], needs: &[Need<'_>]) -> Option<Vec<Placement>> {
    let mut left: Vec<(usize, Resources)> = offers.iter().map(|offer| (0, offer.resources.clone())).collect();
    // What is large is placed first: what is small finds room beside it, and not the other way round.
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|role| Reverse(size(needs[*role].resources)));
    let mut placements: Vec<Vec<Placement>> = vec![Vec::new(); needs.len()];
    for role in order {
        for _ in 0..needs[role].count {
            let placed = place_one(offers, &mut left, &placements, &needs[role])?;
            placements[role].push(placed);
        }
    }
    Some(placements.into_iter().flatten().collect())
}

/// GPUs are the scarcest, then cores.
fn size(shape: &Resources) -> [i64; 3] {
    [things::GPUS, "cpus", "mem"].map(|name| shape.milli(name))
}

fn place_one(
    offers: &[HeldOffer],
    left: &mut [(usize, Resources)],
    before: &[Vec<Placement>],
    need: &Need<'_>,
) -> Option<Placement> {
    let (at, resources) = left
        .iter()
        .enumerate()
        .filter_map(|(at, (used, free))| Some((*used, at, free.place(need.resources, need.n_ports as usize)?)))
        .min_by_key(|(used, at, _)| (agent_load(before, &offers[*at].agent), *used, *at))
        .map(|(_, at, resources)| (at, resources))?;
    let ports = resources.ports().iter().flat_map(|(low, high)| *low..=*high).collect();
    left[at].1.subtract(&resources);
    left[at].0 += 1;
    Some(Placement {
        offer: offers[at].id.clone(),
        agent: offers[at].agent.clone(),
        host: offers[at].host.clone(),
        resources,
        ports,
    })
}

fn agent_load(placements: &[Vec<Placement>], agent: &AgentId) -> usize {
    placements.iter().flatten().filter(|placement| placement.agent == *agent).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, agent: &str, cpus: f64) -> HeldOffer {
        HeldOffer {
            id: id.into(),
            agent: agent.into(),
            host: "127.0.0.1".into(),
            resources: Resources::new().cpus(cpus).mem_mib(1000.0).with_ports([(31000, 31001)]),
            held_since_ms: 0,
        }
    }

    fn need(resources: &Resources, n_ports: u32, count: u32) -> Need<'_> {
        Need { member: None, count, resources, n_ports }
    }

    #[test]
    fn spreads_over_agents() {
        let offers = [offer("o1", "a1", 2.0), offer("o2", "a2", 2.0)];
        let placed = place(&offers, &[need(&Resources::new().cpus(0.5), 1, 2)]).unwrap();
        assert_ne!(placed[0].agent, placed[1].agent);
    }

    #[test]
    fn large_roles_are_placed_first_and_stand_in_their_order() {
        let offers = [offer("o1", "a1", 2.0), offer("o2", "a2", 3.0)];
        let (small, large) = (Resources::new().cpus(0.5), Resources::new().cpus(3.0));
        let placed = place(&offers, &[need(&small, 1, 2), need(&large, 1, 1)]).unwrap();
        let places: Vec<(&str, f64)> =
            placed.iter().map(|placed| (placed.agent.as_str(), placed.resources.amount("cpus"))).collect();
        assert_eq!(places, [("a1", 0.5), ("a1", 0.5), ("a2", 3.0)]);
        assert!(place(&offers, &[need(&small, 1, 1), need(&large, 1, 2)]).is_none(), "all of them or none");
    }

    #[test]
    fn all_or_none() {
        let offers = [offer("o1", "a1", 1.0), offer("o2", "a2", 1.0)];
        let (whole, tenth) = (Resources::new().cpus(1.0), Resources::new().cpus(0.1));
        assert!(place(&offers, &[need(&whole, 1, 3)]).is_none());
        // Ports bound a placement as much as cpus do.
        assert!(place(&offers, &[need(&tenth, 1, 5)]).is_none());
        let four = place(&offers, &[need(&tenth, 1, 4)]).unwrap();
        let mut ports: Vec<_> = four.iter().map(|placed| (placed.agent.clone(), placed.ports[0])).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 4, "no port is given twice on one agent");
    }
}
