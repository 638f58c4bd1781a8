//! Persistent volumes: where they are, what they hold, and which task has each.
//!
//! A volume is made by the first task that claims it, or by its role's word, and stays when the task has gone: whoever claims
//! it next is offered the agent that has it, and nothing else. Its disk is used for as long as it is there and counts as its
//! role's, as a task's would.
//!
//! Invariant: where a volume is is in the registry before its agent is told to make it, so no master makes another one of its
//! name while its agent is away. It is one task's at a time. It goes by a word only: of its role, of an operator, or because
//! its agent does not come back or comes without it.

mod changes;
mod claims;

pub use claims::Asked;

use super::Master;
use super::journal::Touched;
use super::view::{AgentState, VolumeView};
use crate::model::{TaskKey, amount_text};
use crate::volumes::{Volume, VolumeKey};
use jobs::volumes::VolumeClaim;
use jobs::{AgentId, FrameworkId, Scalars};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A volume as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub volume: Volume,
    /// It was given up, and its agent has not yet said that it is gone.
    pub is_leaving: bool,
}

/// One that is there.
#[derive(Clone, Debug)]
pub struct Held {
    pub disk_milli: i64,
    pub is_leaving: bool,
    /// What of its disk is in the books of its agent; nothing while that is away.
    pub charged: Scalars,
    /// It may still run, also on an agent that is away.
    pub user: Option<TaskKey>,
}

#[derive(Debug, Default)]
pub struct Volumes {
    by_agent: BTreeMap<AgentId, BTreeMap<VolumeKey, Held>>,
    /// One agent, unless registries were mixed up.
    homes: BTreeMap<VolumeKey, BTreeSet<AgentId>>,
    /// Whose demands name volumes.
    claimers: BTreeSet<FrameworkId>,
    /// Something of these roles' volumes changed since their demands were last looked at.
    changed: BTreeSet<String>,
    /// Agents, by whatever watchers are told of volumes.
    pub noted: Touched<AgentId>,
}

impl Volumes {
    pub fn expect(&mut self, agent: AgentId, kept: Vec<Kept>) {
        for key in self.by_agent.remove(&agent).unwrap_or_default().into_keys() {
            self.forget_home(&agent, &key);
        }
        for Kept { volume: Volume { key, disk_milli }, is_leaving } in kept {
            self.put(&agent, key, Held { disk_milli, is_leaving, charged: Scalars::new(), user: None });
        }
    }

    fn put(&mut self, agent: &AgentId, key: VolumeKey, held: Held) {
        self.changed.insert(key.role.clone());
        self.noted.note(agent);
        self.homes.entry(key.clone()).or_default().insert(agent.clone());
        self.by_agent.entry(agent.clone()).or_default().insert(key, held);
    }

    fn remove(&mut self, agent: &AgentId, key: &VolumeKey) -> Option<Held> {
        let of_agent = self.by_agent.get_mut(agent)?;
        let removed = of_agent.remove(key);
        if of_agent.is_empty() {
            self.by_agent.remove(agent);
        }
        self.forget_home(agent, key);
        removed
    }

    fn forget_home(&mut self, agent: &AgentId, key: &VolumeKey) {
        self.noted.note(agent);
        self.changed.insert(key.role.clone());
        if let Some(homes) = self.homes.get_mut(key) {
            homes.remove(agent);
            if homes.is_empty() {
                self.homes.remove(key);
            }
        }
    }

    /// Somebody else may claim those of this role.
    pub fn look_again(&mut self, role: &str) {
        self.changed.insert(role.to_string());
    }

    pub fn on<'a>(&'a self, agent: &AgentId) -> impl Iterator<Item = (&'a VolumeKey, &'a Held)> + use<'a> {
        self.by_agent.get(agent).into_iter().flatten()
    }

    pub fn get(&self, agent: &AgentId, key: &VolumeKey) -> Option<&Held> {
        self.by_agent.get(agent)?.get(key)
    }

    fn get_mut(&mut self, agent: &AgentId, key: &VolumeKey) -> Option<&mut Held> {
        self.noted.note(agent);
        self.by_agent.get_mut(agent)?.get_mut(key)
    }

    /// Where it is.
    pub fn home(&self, key: &VolumeKey) -> Option<(&AgentId, &Held)> {
        let agent = self.homes.get(key)?.first()?;
        Some((agent, self.get(agent, key)?))
    }

    /// Those of an agent that a framework of this role may claim now.
    pub fn open_to(&self, agent: &AgentId, role: &str) -> Vec<Volume> {
        let open = self.on(agent).filter(|(key, held)| key.role == role && !held.is_leaving && held.user.is_none());
        open.map(|(key, held)| Volume { key: key.clone(), disk_milli: held.disk_milli }).collect()
    }

    /// A task has it, or has let go of it.
    pub fn set_user(&mut self, agent: &AgentId, key: &VolumeKey, user: Option<TaskKey>) {
        if let Some(held) = self.get_mut(agent, key) {
            held.user = user;
            self.changed.insert(key.role.clone());
        }
    }

    /// Lets go of it, if it is this task's.
    pub fn let_go(&mut self, agent: &AgentId, key: &VolumeKey, task: &TaskKey) {
        if self.get(agent, key).is_some_and(|held| held.user.as_ref() == Some(task)) {
            self.set_user(agent, key, None);
        }
    }

    pub fn kept(&self, agent: &AgentId) -> Vec<Kept> {
        let kept = self.on(agent).map(|(key, held)| Kept {
            volume: Volume { key: key.clone(), disk_milli: held.disk_milli },
            is_leaving: held.is_leaving,
        });
        kept.collect()
    }

    pub fn views(&self) -> Vec<VolumeView> {
        self.by_agent.keys().flat_map(|agent| self.views_on(agent)).collect()
    }

    pub fn views_on(&self, agent: &AgentId) -> impl Iterator<Item = VolumeView> {
        self.on(agent).map(|(key, held)| VolumeView {
            agent_id: agent.clone(),
            volume: Volume { key: key.clone(), disk_milli: held.disk_milli },
            user: held.user.clone(),
            is_leaving: held.is_leaving,
        })
    }
}

impl Master {
    /// Why what a task claims cannot be had now, wherever there is room.
    pub(super) fn volumes_in_the_way(&self, role: &str, claims: &[VolumeClaim]) -> Option<String> {
        let mut homes: BTreeMap<&AgentId, &str> = BTreeMap::new();
        for claim in claims {
            let Some((agent, held)) = self.volumes.home(&VolumeKey::of(claim, role)) else { continue };
            let (name, state) = (&claim.name, self.agents.get(agent).map(|agent| agent.state));
            if held.is_leaving {
                return Some(format!("volume {name} is being removed from {agent}"));
            }
            match state {
                Some(AgentState::Active) => {}
                Some(state) => return Some(format!("volume {name} is on {agent}, which is {}", state.as_str())),
                None => return Some(format!("volume {name} is on {agent}, which has not registered")),
            }
            if let Some(user) = &held.user {
                return Some(format!("volume {name} on {agent} is still task {}'s", user.task_id));
            }
            homes.insert(agent, name);
        }
        (homes.len() > 1).then(|| {
            let places: Vec<String> = homes.iter().map(|(agent, name)| format!("{name} on {agent}")).collect();
            format!("its volumes are on different agents: {}", places.join(", "))
        })
    }

    /// What of a volume is not there yet, in thousandths of a MiB.
    pub(super) fn missing_of(&self, agent: &AgentId, role: &str, claim: &VolumeClaim) -> i64 {
        let has = self.volumes.get(agent, &VolumeKey::of(claim, role)).map_or(0, |held| held.disk_milli);
        (claim.disk_milli - has).max(0)
    }

    /// Whether a task on this agent may have what it claims; the message says why not.
    pub(super) fn check_claimed(&self, agent: &AgentId, role: &str, claim: &VolumeClaim) -> Result<(), String> {
        let (key, name) = (VolumeKey::of(claim, role), &claim.name);
        match self.volumes.get(agent, &key) {
            Some(held) if held.is_leaving => Err(format!("volume {name} is being removed from agent {agent}")),
            Some(Held { user: Some(user), .. }) => {
                Err(format!("volume {name} on agent {agent} is task {}'s", user.task_id))
            }
            Some(_) => Ok(()),
            None => match self.volumes.home(&key) {
                Some((home, held)) => {
                    let disk = amount_text("disk", held.disk_milli);
                    Err(format!("volume {name}, with {disk}, is on agent {home}, and not on {agent}"))
                }
                None => Ok(()),
            },
        }
    }
}
