//! A watcher has what the master has: whoever begins with the view of some moment and takes in every change after it knows
//! all agents, frameworks, tasks, roles and volumes as the view of any later moment shows them, and was told nothing that it
//! knew.

use crate::hits::Hits;
use jobs::{AgentId, FrameworkId, TaskState};
use scheduler::Master;
use scheduler::master::{
    Change, ClusterView, Noted, TaskView, VolumeView, WatchedAgent, WatchedFramework, WatchedRole,
};
use scheduler::model::TaskKey;
use scheduler::volumes::VolumeKey;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A watcher begins so many events after the last has gone, stays for so long, and looks whether it is right so often.
const BEGINS_EVERY: u64 = 64;
const STAYS: u64 = 1_024;
const LOOKS_EVERY: u64 = 32;

#[derive(Debug, Default)]
pub struct Watchers {
    watching: Option<Watching>,
}

#[derive(Debug)]
struct Watching {
    since: u64,
    /// Of the latest change.
    number: u64,
    has: Picture,
}

/// What can be known of a cluster by its changes.
#[derive(Debug, Default, PartialEq)]
struct Picture {
    agents: BTreeMap<AgentId, WatchedAgent>,
    frameworks: BTreeMap<FrameworkId, WatchedFramework>,
    tasks: BTreeMap<TaskKey, Task>,
    roles: BTreeMap<String, WatchedRole>,
    volumes: BTreeMap<(AgentId, VolumeKey), VolumeView>,
}

#[derive(Clone, Debug, PartialEq)]
struct Task {
    view: TaskView,
    leave_by_ms: Option<u64>,
}

impl Watchers {
    /// The master begins anew, and knows nobody who watches.
    pub fn master_starts(&mut self) {
        self.watching = None;
    }

    /// After each event. `view` if somebody looks.
    pub fn look(
        &mut self,
        master: &mut Master,
        view: Option<&ClusterView>,
        n_events: u64,
        now_ms: u64,
        hits: &mut Hits,
    ) {
        let changes = master.take_changes();
        match &mut self.watching {
            None => assert!(changes.is_empty(), "nobody watches, and noted is {changes:?}"),
            Some(watching) => {
                hits.count("changes that were watched".into(), changes.len() as u64);
                for noted in changes {
                    watching.hears(noted);
                }
                if let Some(view) = view.filter(|_| n_events.is_multiple_of(LOOKS_EVERY)) {
                    hits.count("looks of watchers".into(), 1);
                    watching.has.compare(Picture::of(view, now_ms), now_ms);
                }
                if watching.since + STAYS < n_events {
                    master.watch(false);
                    self.watching = None;
                }
            }
        }
        if let Some(view) = view.filter(|_| self.watching.is_none() && n_events.is_multiple_of(BEGINS_EVERY)) {
            master.watch(true);
            let (number, has) = (master.latest_change(), Picture::of(view, now_ms));
            self.watching = Some(Watching { since: n_events, number, has });
        }
    }
}

impl Watching {
    fn hears(&mut self, noted: Noted) {
        let Noted { number, change, .. } = noted;
        assert!(number == self.number + 1, "change {number} comes after {}: {change:?}", self.number);
        self.number = number;
        self.has.take_in(change);
    }
}

fn add<K: Ord + Debug, V: Debug>(known: &mut BTreeMap<K, V>, key: K, value: V) {
    if let Some(before) = known.get(&key) {
        panic!("{key:?} is added, and was there as {before:?}");
    }
    known.insert(key, value);
}

fn change<K: Ord + Debug, V: Debug + PartialEq>(known: &mut BTreeMap<K, V>, key: K, value: V) {
    let before = known.get(&key);
    assert!(before.is_some_and(|before| *before != value), "{key:?} is changed from {before:?} to {value:?}");
    known.insert(key, value);
}

fn remove<K: Ord + Debug, V>(known: &mut BTreeMap<K, V>, key: &K) {
    assert!(known.remove(key).is_some(), "{key:?} is removed, and was not there");
}

impl Picture {
    fn of(view: &ClusterView, now_ms: u64) -> Self {
        let agents = view.agents.iter().map(|agent| WatchedAgent {
            agent: Box::new(agent.agent.clone()),
            state: agent.state,
            reserved: agent.reserved.clone(),
            drain: agent.drain,
        });
        let frameworks = view.frameworks.iter().map(|framework| WatchedFramework {
            framework_id: framework.framework_id.clone(),
            name: framework.name.clone(),
            role: framework.role.clone(),
            connected: framework.connected,
            suppressed: framework.suppressed,
        });
        let roles = view.roles.iter().map(|role| WatchedRole {
            role: role.role.clone(),
            weight: role.weight,
            guarantee: role.guarantee.clone(),
            limit: role.limit.clone(),
        });
        let tasks = view.tasks.iter().map(|task| Task::of(task.clone(), now_ms));
        let volumes = view.volumes.iter().map(|view| ((view.agent_id.clone(), view.volume.key.clone()), view.clone()));
        Self {
            agents: agents.map(|agent| (agent.agent.agent_id.clone(), agent)).collect(),
            frameworks: frameworks.map(|framework| (framework.framework_id.clone(), framework)).collect(),
            tasks: tasks.map(|task| (task.key(), task)).collect(),
            roles: roles.map(|role| (role.role.clone(), role)).collect(),
            volumes: volumes.collect(),
        }
    }

    fn take_in(&mut self, told: Change) {
        match told {
            Change::AgentAdded(agent) => add(&mut self.agents, agent.agent.agent_id.clone(), agent),
            Change::AgentChanged(agent) => change(&mut self.agents, agent.agent.agent_id.clone(), agent),
            Change::AgentRemoved { agent_id } => {
                let left: Vec<_> = self.tasks.iter().filter(|(_, task)| task.view.agent_id == agent_id).collect();
                assert!(left.is_empty(), "{agent_id} is removed, and has {left:?}");
                remove(&mut self.agents, &agent_id);
            }
            Change::FrameworkAdded(framework) => {
                self.has_role(&framework.role);
                add(&mut self.frameworks, framework.framework_id.clone(), framework);
            }
            Change::FrameworkChanged(framework) => {
                self.has_role(&framework.role);
                change(&mut self.frameworks, framework.framework_id.clone(), framework);
            }
            Change::FrameworkRemoved { framework_id } => remove(&mut self.frameworks, &framework_id),
            Change::TaskAdded(view) => {
                assert!(self.agents.contains_key(&view.agent_id), "{view:?} is on an agent that was not told");
                let task = Task { view, leave_by_ms: None };
                add(&mut self.tasks, task.key(), task);
            }
            Change::TaskUpdated { framework_id, status } => {
                let key = TaskKey::new(framework_id, status.task_id.clone());
                let Some(task) = self.tasks.get_mut(&key) else { panic!("{key} is not known, and is {status:?}") };
                assert!(task.view.agent_id == status.agent_id, "{task:?} is told to be elsewhere: {status:?}");
                let is_news = task.view.state != status.state || status.state.is_terminal();
                assert!(is_news, "{task:?} is told to be what it is: {status:?}");
                task.view.state = status.state;
            }
            Change::TaskLeaves { task: key, leave_by_ms } => {
                let Some(task) = self.tasks.get_mut(&key) else { panic!("{key} is not known, and leaves") };
                assert!(task.leave_by_ms != leave_by_ms, "{task:?} is told to leave when it leaves");
                task.leave_by_ms = leave_by_ms;
            }
            Change::TaskForgotten { task: key } => {
                // Of an agent that was given up nobody will ever know more.
                let state = self.tasks.get(&key).map(|task| task.view.state);
                let is_over = state.is_some_and(|state| state.is_terminal() || state == TaskState::Unreachable);
                let has_framework = self.frameworks.contains_key(&key.framework_id);
                assert!(is_over || !has_framework, "{key} is forgotten as {state:?}");
                remove(&mut self.tasks, &key);
            }
            Change::RoleAdded(role) => add(&mut self.roles, role.role.clone(), role),
            Change::RoleChanged(role) => change(&mut self.roles, role.role.clone(), role),
            Change::RoleRemoved { role } => remove(&mut self.roles, &role),
            Change::VolumeAdded(view) => {
                add(&mut self.volumes, (view.agent_id.clone(), view.volume.key.clone()), view);
            }
            Change::VolumeChanged(view) => {
                change(&mut self.volumes, (view.agent_id.clone(), view.volume.key.clone()), view);
            }
            Change::VolumeRemoved { agent_id, key } => remove(&mut self.volumes, &(agent_id, key)),
        }
    }

    fn has_role(&self, role: &str) {
        assert!(self.roles.contains_key(role), "role {role} was not told before its framework");
    }

    /// With what the master says that there is.
    fn compare(&self, truth: Self, now_ms: u64) {
        compare(&self.agents, &truth.agents);
        compare(&self.frameworks, &truth.frameworks);
        let tasks = self.tasks.values().map(|task| (task.key(), task.as_of(now_ms)));
        compare(&tasks.collect(), &truth.tasks);
        compare(&self.roles, &truth.roles);
        compare(&self.volumes, &truth.volumes);
    }
}

fn compare<K: Ord + Debug, V: Debug + PartialEq>(has: &BTreeMap<K, V>, truth: &BTreeMap<K, V>) {
    if has != truth {
        let differs = |key: &&K| has.get(key) != truth.get(key);
        let (key, known) = has.keys().chain(truth.keys()).find(differs).map(|key| (key, has.get(key))).expect("one");
        panic!("a watcher knows {key:?} as {known:?}, and the master has {:?}", truth.get(key));
    }
}

impl Task {
    fn of(view: TaskView, now_ms: u64) -> Self {
        let leave_by_ms = view.leaves_in_ms.map(|in_ms| now_ms + in_ms);
        Self { view: TaskView { leaves_in_ms: None, ..view }, leave_by_ms }
    }

    fn key(&self) -> TaskKey {
        TaskKey::new(self.view.framework_id.clone(), self.view.task_id.clone())
    }

    /// The view says only that it should have left.
    fn as_of(&self, now_ms: u64) -> Self {
        Self { view: self.view.clone(), leave_by_ms: self.leave_by_ms.map(|by_ms| by_ms.max(now_ms)) }
    }
}
