//! The journal: what changed, for those who watch.
//!
//! Invariant: whoever has the view of a moment and takes in all that is noted after it has the view of now, as far as
//! changes tell of it. Nothing is missing, nothing is told twice, and what a change names was told before.
//! While nobody watches nothing is noted, and what would be costs one `if`.
//!
//! A task is followed step by step, because each of its states is news, also one that lasts no longer than a turn. Of all
//! else only which was touched is kept; it is looked at when an event was heard, and compared with what was told last, so
//! that whoever changes something has to know no more than that.
//!
//! Offers are left out, and so are shares, demands and what of an agent is free: they come and go by the thousand, and the
//! view shows them to whoever asks.

use super::Master;
use super::roles::Role;
use super::view::{Change, VolumeView, WatchedAgent, WatchedFramework, WatchedRole};
use crate::model::{TaskKey, TaskStatus};
use crate::volumes::VolumeKey;
use jobs::{AgentId, FrameworkId, Reason, TaskState};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    /// One more than that of the change before it, in all of a master's life.
    pub number: u64,
    pub at_ms: u64,
    pub change: Change,
}

#[derive(Debug, Default)]
pub struct Journal {
    /// `None`: nobody watches.
    told: Option<Box<Told>>,
    /// Of the latest change.
    number: u64,
}

/// As watchers have it, and what they are to be told.
#[derive(Debug, Default)]
struct Told {
    roles: BTreeMap<String, WatchedRole>,
    frameworks: BTreeMap<FrameworkId, WatchedFramework>,
    agents: BTreeMap<AgentId, WatchedAgent>,
    volumes: BTreeMap<AgentId, BTreeMap<VolumeKey, VolumeView>>,
    /// What tasks did since an event was last heard to its end.
    steps: Vec<Change>,
    noted: Vec<Noted>,
}

impl Journal {
    pub fn is_kept(&self) -> bool {
        self.told.is_some()
    }

    /// What a task did.
    pub fn step(&mut self, change: impl FnOnce() -> Change) {
        if let Some(told) = &mut self.told {
            told.steps.push(change());
        }
    }
}

/// Those of a kind that may be other than they were told, while somebody watches.
#[derive(Debug)]
pub struct Touched<K>(Option<BTreeSet<K>>);

impl<K> Default for Touched<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord> Touched<K> {
    pub fn note<Q: Ord + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(touched) = self.0.as_mut().filter(|touched| !touched.contains(key)) {
            touched.insert(key.to_owned());
        }
    }

    fn keep(&mut self, all: Option<BTreeSet<K>>) {
        self.0 = all;
    }

    fn take(&mut self) -> BTreeSet<K> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

enum Became<V> {
    New(V),
    Other(V),
    Gone,
}

/// Takes down what one of a kind is now, and answers whether that is news.
fn settle<K: Ord + Clone, V: Clone + PartialEq>(
    told: &mut BTreeMap<K, V>,
    key: &K,
    now: Option<V>,
) -> Option<Became<V>> {
    let Some(now) = now else { return told.remove(key).map(|_| Became::Gone) };
    match told.get_mut(key) {
        None => {
            told.insert(key.clone(), now.clone());
            Some(Became::New(now))
        }
        Some(before) if *before == now => None,
        Some(before) => {
            before.clone_from(&now);
            Some(Became::Other(now))
        }
    }
}

impl Master {
    /// From now on changes are noted, or no more. Whoever begins to watch takes [`Master::view`] at the same moment, and
    /// [`Master::latest_change`], which is the last that it need not be told.
    pub fn watch(&mut self, is_watched: bool) {
        if is_watched == self.journal.is_kept() {
            return;
        }
        let all_agents = || self.agents.iter().map(|agent| agent.info.agent_id.clone()).collect();
        let agents = is_watched.then(all_agents);
        let frameworks = is_watched.then(|| self.frameworks.iter().map(|framework| framework.id.clone()).collect());
        let roles = is_watched.then(|| self.frameworks.roles.iter().map(|role| role.name.clone()).collect());
        let with_volumes = is_watched.then(|| self.volumes.views().into_iter().map(|view| view.agent_id).collect());
        self.agents.noted.keep(agents);
        self.frameworks.noted.keep(frameworks);
        self.frameworks.roles.noted.keep(roles);
        self.volumes.noted.keep(with_volumes);
        self.journal.told = is_watched.then(Box::default);
        // All that there is is taken down as told, for the view tells it.
        let number = self.journal.number;
        self.note_changes();
        self.journal.number = number;
        self.take_changes();
    }

    /// What was noted since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Noted> {
        self.journal.told.as_mut().map(|told| std::mem::take(&mut told.noted)).unwrap_or_default()
    }

    /// The number of the latest change that was noted.
    pub fn latest_change(&self) -> u64 {
        self.journal.number
    }

    /// Notes what an event has changed. First whatever tasks may name, then what these did, at last what is no more.
    pub(super) fn note_changes(&mut self) {
        let Some(mut told) = self.journal.told.take() else { return };
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for id in self.frameworks.noted.take() {
            match settle(&mut told.frameworks, &id, self.watched_framework(&id)) {
                None => {}
                Some(Became::New(framework)) => changes.push(Change::FrameworkAdded(framework)),
                Some(Became::Other(framework)) => changes.push(Change::FrameworkChanged(framework)),
                Some(Became::Gone) => gone.push(Change::FrameworkRemoved { framework_id: id }),
            }
        }
        for id in self.agents.noted.take() {
            match settle(&mut told.agents, &id, self.watched_agent(&id)) {
                None => {}
                Some(Became::New(agent)) => changes.push(Change::AgentAdded(agent)),
                Some(Became::Other(agent)) => changes.push(Change::AgentChanged(agent)),
                Some(Became::Gone) => gone.push(Change::AgentRemoved { agent_id: id }),
            }
        }
        let mut new_roles = Vec::new();
        for role in self.frameworks.roles.noted.take() {
            match settle(&mut told.roles, &role, self.watched_role(&role)) {
                None => {}
                Some(Became::New(role)) => new_roles.push(Change::RoleAdded(role)),
                Some(Became::Other(role)) => new_roles.push(Change::RoleChanged(role)),
                Some(Became::Gone) => gone.push(Change::RoleRemoved { role }),
            }
        }
        changes.splice(0..0, new_roles);
        changes.append(&mut told.steps);
        for agent in self.volumes.noted.take() {
            self.note_volumes(told.volumes.entry(agent.clone()).or_default(), &agent, &mut changes);
        }
        told.volumes.retain(|_, volumes| !volumes.is_empty());
        changes.append(&mut gone);
        let at_ms = self.now_ms;
        for change in changes {
            self.journal.number += 1;
            told.noted.push(Noted { number: self.journal.number, at_ms, change });
        }
        self.journal.told = Some(told);
    }

    fn note_volumes(&self, told: &mut BTreeMap<VolumeKey, VolumeView>, agent: &AgentId, changes: &mut Vec<Change>) {
        let mut now: BTreeMap<VolumeKey, VolumeView> =
            self.volumes.views_on(agent).map(|view| (view.volume.key.clone(), view)).collect();
        let keys: BTreeSet<VolumeKey> = told.keys().chain(now.keys()).cloned().collect();
        for key in keys {
            changes.extend(settle(told, &key, now.remove(&key)).map(|became| match became {
                Became::New(volume) => Change::VolumeAdded(volume),
                Became::Other(volume) => Change::VolumeChanged(volume),
                Became::Gone => Change::VolumeRemoved { agent_id: agent.clone(), key },
            }));
        }
    }

    fn watched_framework(&self, id: &FrameworkId) -> Option<WatchedFramework> {
        let framework = self.frameworks.get(id)?;
        Some(WatchedFramework {
            framework_id: id.clone(),
            name: framework.name.clone(),
            role: framework.role.to_string(),
            connected: framework.connection.is_some(),
            suppressed: framework.suppressed,
        })
    }

    fn watched_agent(&self, id: &AgentId) -> Option<WatchedAgent> {
        let agent = self.agents.get(id)?;
        Some(WatchedAgent {
            agent: Box::new(agent.info.clone()),
            state: agent.shown_state(),
            reserved: self.reserved.by_operators(id).to_vec(),
            drain: self.drain_of(id),
        })
    }

    fn watched_role(&self, role: &str) -> Option<WatchedRole> {
        let Role { name, terms, .. } = self.frameworks.roles.get(self.frameworks.roles.number(role)?);
        let (guarantee, limit) = (terms.guarantee.clone(), terms.limit.clone());
        Some(WatchedRole { role: name.clone(), weight: terms.weight, guarantee, limit })
    }

    /// A task is in another state, by its agent's word. Who acknowledges that is its framework.
    pub(super) fn note_status(&mut self, framework_id: &FrameworkId, status: &TaskStatus) {
        self.journal.step(|| Change::TaskUpdated {
            framework_id: framework_id.clone(),
            status: TaskStatus { uuid: None, ..status.clone() },
        });
    }

    /// The same by what the master knows.
    pub(super) fn note_state(&mut self, key: &TaskKey, agent: &AgentId, state: TaskState, reason: Reason, why: &str) {
        if self.journal.is_kept() {
            let status = self.own_status(key.task_id.clone(), agent.clone(), state, reason, why.to_string());
            self.note_status(&key.framework_id, &status);
        }
    }
}
