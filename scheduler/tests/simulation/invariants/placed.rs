//! Liveness: once faults stop, whatever a framework wants runs, and nothing that nobody wants. Only who is bound to a place
//! where others' tasks leave no room waits.

use crate::client::{Client, Slot};
use crate::host::Host;
use scheduler::master::ClusterView;
use scheduler::model::TaskKey;
use scheduler::volumes::VolumeKey;
use std::collections::BTreeSet;

/// What is not yet as it should be.
pub fn missing(clients: &[Client], hosts: &[Host], view: Option<&ClusterView>) -> Vec<String> {
    let running: BTreeSet<&TaskKey> = hosts.iter().flat_map(|host| host.processes.keys()).collect();
    let mut wanted: BTreeSet<TaskKey> = BTreeSet::new();
    let mut missing = Vec::new();
    for client in clients.iter().filter(|client| !client.has_torn_down) {
        let name = format!("{:?}-{}", client.character, client.index);
        for (at, slot) in client.slots.iter().enumerate() {
            match (slot, &client.id) {
                (Slot::Done, _) => {}
                (Slot::Filled(task_id), Some(id)) => {
                    let key = TaskKey::new(id.clone(), task_id.clone());
                    if client.is_batch || !running.contains(&key) {
                        missing.push(format!("slot {at} of {name}: {key} is not as wanted"));
                    }
                    wanted.insert(key);
                }
                (Slot::Wanting, Some(_)) if view.is_some_and(|view| has_no_room(client, at, view)) => {}
                (Slot::Wanting, _) | (Slot::Filled(_), None) => missing.push(format!("slot {at} of {name} is empty")),
            }
        }
    }
    missing.extend(running.into_iter().filter(|key| !wanted.contains(*key)).map(|key| format!("{key} still runs")));
    missing
}

/// Whether what runs where this one's tasks may be leaves no room for another of them.
fn has_no_room(client: &Client, slot: usize, view: &ClusterView) -> bool {
    let claims = client.claims(slot);
    let homes: Vec<_> = claims
        .iter()
        .filter_map(|claim| view.volumes.iter().find(|volume| volume.volume.key == VolumeKey::of(claim, &client.role)))
        .collect();
    let is_home =
        |agent: &&scheduler::master::AgentView| homes.iter().all(|home| home.agent_id == agent.agent.agent_id);
    let allowed = view.agents.iter().filter(|agent| client.rules.allow(agent.agent.site())).filter(is_home);
    let has_milli: i64 = homes.iter().map(|home| home.volume.disk_milli).sum();
    let mut needs = client.shape.clone();
    needs.set_milli("disk", (claims.iter().map(|claim| claim.disk_milli).sum::<i64>() - has_milli).max(0));
    let has_room = |agent: &scheduler::master::AgentView| {
        let mut left = agent.free.clone();
        left.add(&agent.offered);
        left.place(&needs, 0).is_some()
    };
    (!client.rules.constraints.is_empty() || !claims.is_empty()) && !allowed.into_iter().any(has_room)
}
