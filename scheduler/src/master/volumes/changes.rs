//! How volumes come and go.
//!
//! Invariant: what of a volume's disk is used is in the books of its agent and of its role, or of neither.

use super::super::{Command, Master, Record};
use super::Held;
use crate::model::{AgentOrder, ConnectionId, TaskKey, amount_text};
use crate::volumes::{Volume, VolumeKey, disk};
use jobs::{AgentId, FrameworkId, Resources, Scalars};
use std::collections::BTreeMap;

fn only(amounts: &Scalars) -> Resources {
    Resources::new().with_amounts(amounts.clone())
}

impl Master {
    /// What a registering agent has is settled with what is known of it. Its ledger is new.
    pub(in crate::master) fn take_over_volumes(
        &mut self,
        id: &AgentId,
        connection: ConnectionId,
        reported: Vec<Volume>,
    ) {
        let known = self.volumes.kept(id);
        let reported: BTreeMap<VolumeKey, i64> = reported.into_iter().map(|v| (v.key, v.disk_milli)).collect();
        for volume in known.iter().map(|kept| &kept.volume).filter(|volume| !reported.contains_key(&volume.key)) {
            self.volumes.remove(id, &volume.key);
        }
        for (key, disk_milli) in reported {
            let before = self.volumes.get(id, &key);
            let is_leaving = before.is_some_and(|held| held.is_leaving);
            let wanted_milli = before.map_or(disk_milli, |held| held.disk_milli.max(disk_milli));
            if is_leaving {
                let order = AgentOrder::DestroyVolume { key: key.clone() };
                self.out.push(Command::ToAgent { connection, order });
            } else if wanted_milli > disk_milli {
                // It grew on the day that its agent went away.
                let volume = Volume { key: key.clone(), disk_milli: wanted_milli };
                self.out.push(Command::ToAgent { connection, order: AgentOrder::KeepVolume { volume } });
            }
            // The agent may have come back smaller than what it has promised.
            let charged = self.agents.books(id, |ledger| ledger.claim(&only(&disk(wanted_milli)))).amounts().clone();
            self.frameworks.roles.charge_named(&key.role, &charged);
            self.volumes.put(id, key, Held { disk_milli: wanted_milli, is_leaving, charged, user: None });
        }
        if self.volumes.kept(id) != known {
            self.remember_volumes(id);
        }
    }

    /// The books of its agent are closed.
    pub(in crate::master) fn withdraw_volumes(&mut self, id: &AgentId) {
        let keys: Vec<VolumeKey> = self.volumes.on(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let charged = self.volumes.get_mut(id, &key).map(|held| std::mem::take(&mut held.charged));
            self.frameworks.roles.discharge_named(&key.role, &charged.unwrap_or_default());
            self.volumes.changed.insert(key.role);
        }
    }

    /// Its agent does not come back.
    pub(in crate::master) fn forget_volumes(&mut self, id: &AgentId) {
        if self.volumes.on(id).next().is_some() {
            self.volumes.expect(id.clone(), Vec::new());
            self.remember_volumes(id);
        }
    }

    /// Makes it, or has it grow, out of what was offered to a framework.
    pub(in crate::master) fn keep_volume(&mut self, framework: &FrameworkId, agent: &AgentId, volume: Volume) {
        let before = self.volumes.get(agent, &volume.key).map_or(0, |held| held.disk_milli);
        if volume.disk_milli <= before {
            return;
        }
        let more = disk(volume.disk_milli - before);
        self.agents.books(agent, |ledger| ledger.launch(&only(&more)));
        self.frameworks.discharge(framework, &only(&more));
        self.frameworks.roles.charge_named(&volume.key.role, &more);
        match self.volumes.get_mut(agent, &volume.key) {
            Some(held) => {
                held.disk_milli = volume.disk_milli;
                held.charged.add(&more);
            }
            None => {
                let held = Held { disk_milli: volume.disk_milli, is_leaving: false, charged: more, user: None };
                self.volumes.put(agent, volume.key.clone(), held);
            }
        }
        self.remember_volumes(agent);
        if let Some(connection) = self.agents.connection(agent) {
            self.out.push(Command::ToAgent { connection, order: AgentOrder::KeepVolume { volume } });
        }
    }

    /// Whether it can be given up.
    pub(in crate::master) fn check_unused(&self, agent: &AgentId, key: &VolumeKey) -> Result<(), String> {
        let Some(held) = self.volumes.get(agent, key) else {
            return Err(format!("there is no volume {key} on agent {agent}"));
        };
        match &held.user {
            Some(user) => Err(format!("volume {key} on agent {agent} is task {}'s", user.task_id)),
            None => Ok(()),
        }
    }

    /// Those of a task that has them no more. One that was given up goes now: its agent did not remove it under a task.
    pub(in crate::master) fn let_go_of_volumes(&mut self, task: &TaskKey, agent: &AgentId, volumes: Vec<VolumeKey>) {
        for key in volumes {
            self.volumes.let_go(agent, &key, task);
            let goes = self.volumes.get(agent, &key).is_some_and(|held| held.is_leaving && held.user.is_none());
            if let Some(connection) = self.agents.connection(agent).filter(|_| goes) {
                self.out.push(Command::ToAgent { connection, order: AgentOrder::DestroyVolume { key } });
            }
        }
    }

    /// It goes, with all that is in it. Its disk is free when its agent says that it is gone.
    pub(in crate::master) fn give_up_volume(&mut self, agent: &AgentId, key: &VolumeKey) {
        let Some(held) = self.volumes.get_mut(agent, key) else { return };
        held.is_leaving = true;
        self.volumes.changed.insert(key.role.clone());
        self.remember_volumes(agent);
        if let Some(connection) = self.agents.connection(agent) {
            let order = AgentOrder::DestroyVolume { key: key.clone() };
            self.out.push(Command::ToAgent { connection, order });
        }
    }

    /// Its agent said so.
    pub(in crate::master) fn volume_destroyed(&mut self, agent: &AgentId, key: &VolumeKey) {
        if !self.volumes.get(agent, key).is_some_and(|held| held.is_leaving) {
            return;
        }
        if let Some(held) = self.volumes.remove(agent, key) {
            self.agents.books(agent, |ledger| ledger.release(&only(&held.charged)));
            self.frameworks.roles.discharge_named(&key.role, &held.charged);
            self.agents.touch(agent);
            self.remember_volumes(agent);
        }
    }

    fn remember_volumes(&mut self, id: &AgentId) {
        let volumes = self.volumes.kept(id);
        self.out.push(Command::Persist(Record::Volumes { agent_id: id.clone(), volumes }));
    }

    /// An operator's word. `agent`: where it is, if it is on several.
    pub(in crate::master) fn remove_volume(
        &mut self,
        key: &VolumeKey,
        agent: Option<&AgentId>,
    ) -> Result<Vec<String>, String> {
        let homes: Vec<AgentId> = self.volumes.homes.get(key).into_iter().flatten().cloned().collect();
        let home = match (&homes[..], agent) {
            ([], _) => return Err(format!("there is no volume {key}; `smack volumes` lists those that there are")),
            (homes, Some(agent)) => match homes.contains(agent) {
                true => agent.clone(),
                false => return Err(format!("volume {key} is on agent {}, and not on {agent}", homes[0])),
            },
            ([home], None) => home.clone(),
            (homes, None) => {
                let homes: Vec<&str> = homes.iter().map(AgentId::as_str).collect();
                return Err(format!(
                    "volume {key} is on several agents ({}): say which with --agent",
                    homes.join(", ")
                ));
            }
        };
        self.check_unused(&home, key)?;
        self.give_up_volume(&home, key);
        let disk = amount_text("disk", self.volumes.get(&home, key).map_or(0, |held| held.disk_milli));
        Ok(match self.agents.connection(&home) {
            Some(_) => Vec::new(),
            None => {
                vec![format!("agent {home} is not connected: {disk} are free when it has come back and removed it")]
            }
        })
    }
}
