//! Volumes: whoever claims one again finds what the task before it left; no two tasks have one at a time, and none is there
//! twice.

use crate::hits::{Fault, Hits};
use crate::host::Host;
use jobs::AgentId;
use scheduler::model::{TaskInfo, TaskKey};
use scheduler::volumes::VolumeKey;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Volumes {
    made: u64,
    /// Which one of its name each task had last, and where.
    last: BTreeMap<VolumeKey, (u64, AgentId)>,
}

impl Volumes {
    /// A number that says which one it is, in place of what is in it.
    pub fn make(&mut self, key: &VolumeKey, on: &AgentId, hosts: &[Host], is_gone: impl Fn(&AgentId) -> bool) -> u64 {
        let elsewhere = |host: &&Host| host.info.agent_id != *on && !is_gone(&host.info.agent_id);
        let other = hosts.iter().filter(elsewhere).find(|host| host.volumes.contains_key(key));
        assert!(other.is_none(), "volume {key} is made on {on} and is on {} too", other.expect("there").info.agent_id);
        self.made += 1;
        self.made
    }

    /// It is removed, or the machine it is on is.
    pub fn removed(&mut self, key: &VolumeKey, number: u64) {
        if self.last.get(key).is_some_and(|(last, _)| *last == number) {
            self.last.remove(key);
        }
    }

    /// A task begins on a host. What was on agents that are gone is gone with them.
    pub fn begins(
        &mut self,
        host: &Host,
        task: &TaskKey,
        info: &TaskInfo,
        is_gone: impl Fn(&AgentId) -> bool,
        hits: &mut Hits,
    ) {
        for claim in &info.volumes {
            let key = VolumeKey::of(claim, &info.role);
            let Some((number, disk_milli)) = host.volumes.get(&key).copied() else {
                panic!("{task} begins on {} without its volume {key}", host.info.agent_id)
            };
            assert!(disk_milli >= claim.disk_milli, "{task} has {disk_milli} of volume {key}, and claimed {claim:?}");
            let has = |info: &TaskInfo| info.volumes.iter().any(|other| VolumeKey::of(other, &info.role) == key);
            let other = host.processes.iter().find(|(other, process)| *other != task && has(&process.info));
            assert!(other.is_none(), "{task} begins with volume {key}, which {} has", other.expect("there").0);
            let before = self.last.insert(key.clone(), (number, host.info.agent_id.clone()));
            if let Some((last, place)) = before.filter(|(_, place)| !is_gone(place)) {
                assert!(
                    last == number,
                    "{task} finds another volume {key} than the task before it, which was on {place}"
                );
                hits.fault(Fault::VolumeFoundAgain);
            }
        }
    }
}
