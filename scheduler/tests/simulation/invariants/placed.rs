//! Liveness: once faults stop, whatever a framework wants runs, and nothing that nobody wants.

use crate::client::{Client, Slot};
use crate::host::Host;
use scheduler::model::TaskKey;
use std::collections::BTreeSet;

/// What is not yet as it should be.
pub fn missing(clients: &[Client], hosts: &[Host]) -> Vec<String> {
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
                (Slot::Wanting, _) | (Slot::Filled(_), None) => missing.push(format!("slot {at} of {name} is empty")),
            }
        }
    }
    missing.extend(running.into_iter().filter(|key| !wanted.contains(*key)).map(|key| format!("{key} still runs")));
    missing
}
