//! Volumes on the agent: directories that outlive tasks.
//!
//! Invariant: what is on the disk is what there is; the master is told of it whenever the agent registers. No two processes
//! have one volume, and none has one that is removed.

use super::{Agent, Command, Process};
use crate::model::{AgentCall, ConnectionId, TaskKey};
use crate::volumes::{Volume, VolumeKey};

impl Agent {
    pub(super) fn keep_volume(&mut self, volume: Volume) {
        let has = self.volumes.get(&volume.key).copied().unwrap_or(0);
        if volume.disk_milli > has {
            self.volumes.insert(volume.key.clone(), volume.disk_milli);
            self.out.push(Command::KeepVolume { volume });
        }
    }

    pub(super) fn destroy_volume(&mut self, connection: ConnectionId, key: VolumeKey) {
        if !self.volumes.contains_key(&key) {
            return self.out.push(Command::Send { connection, call: AgentCall::VolumeDestroyed { key } });
        }
        // The master asks again when this agent registers; a task that it does not know of has it until then.
        if self.user_of(&key).is_none() {
            self.out.push(Command::RemoveVolume { key });
        }
    }

    pub(super) fn volume_removed(&mut self, key: VolumeKey) {
        self.volumes.remove(&key);
        if let Some(link) = self.link.filter(|link| link.heartbeat_ms.is_some()) {
            let call = AgentCall::VolumeDestroyed { key };
            self.out.push(Command::Send { connection: link.connection, call });
        }
    }

    /// Which task has it.
    pub(super) fn user_of(&self, key: &VolumeKey) -> Option<&TaskKey> {
        let has =
            |info: &crate::model::TaskInfo| info.volumes.iter().any(|claim| VolumeKey::of(claim, &info.role) == *key);
        let living = self.tasks.iter().filter(|(_, task)| task.process != Process::Gone);
        living.filter(|(_, task)| has(&task.info)).map(|(user, _)| user).next()
    }
}
