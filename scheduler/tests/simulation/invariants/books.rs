//! Conservation: on each agent free + offered + used = total, offered is the sum of its standing offers, which do not
//! overlap, and used is the sum of its tasks that have not ended, and of its volumes. What it lends is there besides.

use jobs::{AgentId, Resources};
use scheduler::master::{AgentState, ClusterView, OfferState};
use std::collections::BTreeMap;

pub fn check(view: &ClusterView) {
    let mut offered: BTreeMap<&AgentId, Resources> = BTreeMap::new();
    for offer in view.offers.iter().filter(|offer| offer.state == OfferState::Outstanding) {
        add(offered.entry(&offer.offer.agent_id).or_default(), &offer.offer.resources);
    }
    let mut used: BTreeMap<&AgentId, Resources> = BTreeMap::new();
    for task in view.tasks.iter().filter(|task| !task.state.is_terminal()) {
        add(used.entry(&task.agent_id).or_default(), &task.resources);
    }
    for volume in &view.volumes {
        add(used.entry(&volume.agent_id).or_default(), &Resources::new().with_amounts(volume.volume.amounts()));
    }
    for agent in &view.agents {
        let id = &agent.agent.agent_id;
        let expected = offered.remove(id).unwrap_or_default();
        assert!(agent.offered == expected, "offered of {id} is {}, its offers sum to {expected}", agent.offered);
        let mut sum = agent.free.clone();
        add(&mut sum, &agent.offered);
        add(&mut sum, &agent.used);
        let is_counted = !sum.is_empty();
        match agent.state {
            AgentState::Active => assert!(is_counted, "nothing of active {id} is counted"),
            AgentState::Draining | AgentState::Drained => {
                assert!(is_counted, "nothing of draining {id} is counted");
                assert!(agent.offered.is_empty(), "{} of draining {id} is offered", agent.offered);
            }
            AgentState::Disconnected => {}
            AgentState::Unreachable => assert!(!is_counted, "{sum} of unreachable {id} is counted"),
        }
        if is_counted {
            let (total, used) = (&agent.agent.total, used.remove(id).unwrap_or_default());
            let own = sum.clone().with_amounts(sum.amounts().own());
            assert!(own == *total, "free, offered and used of {id} sum to {sum}, its total is {total}");
            assert!(agent.used == used, "used of {id} is {}, its tasks sum to {used}", agent.used);
        }
    }
    assert!(offered.is_empty(), "offers of agents that are not known: {offered:?}");
}

/// A sum in which no port may come twice.
fn add(sum: &mut Resources, more: &Resources) {
    let n_ports = sum.n_ports() + more.n_ports();
    sum.add(more);
    assert!(sum.n_ports() == n_ports, "ports are held twice: {more} is in {sum}");
}
