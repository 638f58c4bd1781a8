//! The processes on a machine never need more than it has, whatever the master believes, but for those that run on what is
//! lent.

use crate::host::Host;
use jobs::Resources;
use scheduler::volumes::disk;

pub fn check(host: &Host) {
    let mut needed = Resources::new();
    for process in host.processes.values() {
        needed.add(&process.info.resources);
    }
    for (_, disk_milli) in host.volumes.values() {
        needed.add(&Resources::new().with_amounts(disk(*disk_milli)));
    }
    let own = needed.amounts().own();
    let (needed, total) = (needed.with_amounts(own), &host.info.total);
    assert!(total.contains(&needed), "processes on {} need {needed}, it has {total}", host.info.agent_id);
}
