//! The processes on a machine never need more than it has, whatever the master believes.

use crate::host::Host;
use jobs::Resources;

pub fn check(host: &Host) {
    let mut needed = Resources::new();
    for process in host.processes.values() {
        needed.add(&process.info.resources);
    }
    let total = &host.info.total;
    assert!(total.contains(&needed), "processes on {} need {needed}, it has {total}", host.info.agent_id);
}
