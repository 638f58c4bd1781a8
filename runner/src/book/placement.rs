//! Which offers hold the tasks of a job: all of them or none.
//!
//! Invariant: pure; takes nothing from an offer that it does not return in a placement.

use jobs::{AgentId, OfferId, Resources};

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

/// Places `count` tasks of `shape` with `n_ports` ports each, spread over as many agents as can be, or gives `None`.
pub fn place(offers: &[HeldOffer], shape: &Resources, n_ports: usize, count: usize) -> Option<Vec<Placement>> {
    let mut left: Vec<(usize, Resources)> = offers.iter().map(|offer| (0, offer.resources.clone())).collect();
    let mut placements = Vec::with_capacity(count);
    for _ in 0..count {
        let (at, resources) = left
            .iter()
            .enumerate()
            .filter_map(|(at, (used, free))| Some((*used, at, free.place(shape, n_ports)?)))
            .min_by_key(|(used, at, _)| (agent_load(&placements, &offers[*at].agent), *used, *at))
            .map(|(_, at, resources)| (at, resources))?;
        let ports = resources.ports().iter().flat_map(|(low, high)| *low..=*high).collect();
        left[at].1.subtract(&resources);
        left[at].0 += 1;
        placements.push(Placement {
            offer: offers[at].id.clone(),
            agent: offers[at].agent.clone(),
            host: offers[at].host.clone(),
            resources,
            ports,
        });
    }
    Some(placements)
}

fn agent_load(placements: &[Placement], agent: &AgentId) -> usize {
    placements.iter().filter(|placement| placement.agent == *agent).count()
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

    #[test]
    fn spreads_over_agents() {
        let offers = [offer("o1", "a1", 2.0), offer("o2", "a2", 2.0)];
        let placed = place(&offers, &Resources::new().cpus(0.5), 1, 2).unwrap();
        assert_ne!(placed[0].agent, placed[1].agent);
    }

    #[test]
    fn all_or_none() {
        let offers = [offer("o1", "a1", 1.0), offer("o2", "a2", 1.0)];
        assert!(place(&offers, &Resources::new().cpus(1.0), 1, 3).is_none());
        // Ports bound a placement as much as cpus do.
        assert!(place(&offers, &Resources::new().cpus(0.1), 1, 5).is_none());
        let four = place(&offers, &Resources::new().cpus(0.1), 1, 4).unwrap();
        let mut ports: Vec<_> = four.iter().map(|placed| (placed.agent.clone(), placed.ports[0])).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 4, "no port is given twice on one agent");
    }
}
