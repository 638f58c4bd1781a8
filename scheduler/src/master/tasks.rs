//! Tasks: launched by an accept, followed through their updates, killed, lost and forgotten.
//!
//! Invariant: a task holds resources of its agent from its launch until its latest state is terminal or its agent is
//! withdrawn, and is forgotten when the acknowledgement of its terminal update passes. Updates are passed on, never
//! made up, except for what only the master can know (dropped, lost, unreachable); those carry no uuid.

use super::view::{AgentState, Change, TaskView};
use super::{Command, Master};
use crate::model::{Acknowledgement, AgentOrder, Cause, FrameworkEvent, TaskInfo, TaskKey, TaskStatus};
use crate::volumes::VolumeKey;
use jobs::{AgentId, FrameworkId, OfferId, Reason, Resources, TaskId, TaskState};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Task {
    pub name: String,
    pub agent_id: AgentId,
    /// `None` when it was launched under an earlier master.
    pub offer_id: Option<OfferId>,
    pub resources: Resources,
    /// What it holds in the ledger of its agent.
    pub charged: Option<Resources>,
    /// Latest state that its agent reported.
    pub latest: TaskState,
    /// Last state that the framework was told.
    pub told: Option<TaskState>,
    /// Update that the framework has not acknowledged. An agent sends one at a time, so there is one at most.
    pub in_flight: Option<TaskStatus>,
    /// It is ordered again whenever the agent comes back.
    pub kill: Option<KillAsked>,
    pub priority: i32,
    /// Leaves with the others of the group.
    pub group: String,
    pub volumes: Vec<VolumeKey>,
    /// When this master first knew of it.
    pub since_ms: u64,
    /// It has to leave by then.
    pub leave_by_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillAsked {
    pub grace_ms: Option<u64>,
    /// `None`: its framework asked for it.
    pub cause: Option<Cause>,
}

impl Task {
    pub fn launched(info: &TaskInfo, offer_id: OfferId, now_ms: u64) -> Self {
        let charged = Some(info.resources.clone());
        let agent_id = info.agent_id.clone();
        Self { offer_id: Some(offer_id), charged, ..Self::reported(info, agent_id, TaskState::Staging, now_ms) }
    }

    pub fn reported(info: &TaskInfo, agent_id: AgentId, latest: TaskState, now_ms: u64) -> Self {
        Self {
            name: info.name.clone(),
            agent_id,
            offer_id: None,
            resources: info.resources.clone(),
            charged: None,
            latest,
            told: None,
            in_flight: None,
            kill: None,
            priority: info.priority,
            group: info.group.clone(),
            volumes: info.volumes.iter().map(|claim| VolumeKey::of(claim, &info.role)).collect(),
            since_ms: now_ms,
            leave_by_ms: None,
        }
    }

    /// `state`: as people see it.
    pub fn view(&self, key: &TaskKey, state: TaskState, now_ms: u64) -> TaskView {
        TaskView {
            task_id: key.task_id.clone(),
            name: self.name.clone(),
            framework_id: key.framework_id.clone(),
            agent_id: self.agent_id.clone(),
            offer_id: self.offer_id.clone(),
            state,
            resources: self.resources.clone(),
            priority: self.priority,
            leaves_in_ms: self.leave_by_ms.map(|by_ms| by_ms.saturating_sub(now_ms)),
        }
    }
}

#[derive(Debug, Default)]
pub struct Tasks(BTreeMap<TaskKey, Task>);

impl Tasks {
    pub fn get(&self, key: &TaskKey) -> Option<&Task> {
        self.0.get(key)
    }

    /// A task that an agent of ours is known to have.
    pub fn known(&mut self, key: &TaskKey) -> &mut Task {
        self.0.get_mut(key).unwrap_or_else(|| panic!("task {key} is named and not known"))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TaskKey, &Task)> {
        self.0.iter()
    }

    pub fn of_framework(&self, id: &FrameworkId) -> impl Iterator<Item = (&TaskKey, &Task)> {
        let first = TaskKey::new(id.clone(), TaskId::default());
        self.0.range(first..).take_while(move |(key, _)| key.framework_id == *id)
    }
}

/// A task goes forward through these; an update that was delayed does not take it back.
fn progress(state: TaskState) -> u8 {
    match state {
        TaskState::Unreachable | TaskState::Unknown => 0,
        TaskState::Staging => 1,
        TaskState::Starting => 2,
        TaskState::Running => 3,
        TaskState::Killing => 4,
        TaskState::Finished | TaskState::Failed | TaskState::Killed | TaskState::Lost | TaskState::Dropped => 5,
    }
}

impl Master {
    /// Its agent is there.
    pub(super) fn add_task(&mut self, key: TaskKey, task: Task) {
        self.journal.step(|| Change::TaskAdded(task.view(&key, task.latest, self.now_ms)));
        self.tasks.0.insert(key, task);
    }

    /// It has to leave for others by then, or no more.
    pub(super) fn set_leave_by(&mut self, key: &TaskKey, leave_by_ms: Option<u64>) {
        let before = std::mem::replace(&mut self.tasks.known(key).leave_by_ms, leave_by_ms);
        if before != leave_by_ms {
            self.journal.step(|| Change::TaskLeaves { task: key.clone(), leave_by_ms });
        }
    }

    /// An update from an agent: remembered, and passed on.
    pub(super) fn update(&mut self, agent_id: &AgentId, framework_id: FrameworkId, status: TaskStatus) {
        let key = TaskKey::new(framework_id, status.task_id.clone());
        // An agent speaks for itself only.
        let status = TaskStatus { agent_id: agent_id.clone(), ..status };
        let is_ended = self.frameworks.has_ended(&key.framework_id);
        if !is_ended {
            self.adopt_framework(&key.framework_id);
        }
        let is_ours = self.tasks.get(&key).is_some_and(|task| task.agent_id == *agent_id);
        if is_ours {
            let task = self.tasks.known(&key);
            let before = task.latest;
            let in_flight = task.in_flight.as_ref().and_then(|update| update.uuid.as_ref());
            let is_repeated = status.uuid.is_none() || in_flight == status.uuid.as_ref();
            if progress(status.state) >= progress(task.latest) && !task.latest.is_terminal() {
                task.latest = status.state;
                if status.state.is_terminal() {
                    *self.counts.tasks_ended.entry(status.state).or_default() += 1;
                }
            }
            // An agent that registers may be ahead of its updates: how a task ended is known only when they say so.
            let says_how_it_ended = status.state.is_terminal() && !is_repeated;
            let is_news = task.latest == status.state && (before != status.state || says_how_it_ended);
            if status.uuid.is_some() {
                task.in_flight = Some(status.clone());
            }
            if is_news {
                self.note_status(&key.framework_id, &status);
            }
            if status.state.is_terminal() {
                self.release(&key);
            }
        }
        if is_ended {
            // Nobody is left to acknowledge it.
            if let Some(uuid) = status.uuid {
                let task_id = key.task_id.clone();
                self.pass_acknowledgement(&key, Acknowledgement { agent_id: agent_id.clone(), task_id, uuid });
            }
            return;
        }
        let state = status.state;
        if self.tell(&key.framework_id, FrameworkEvent::Update(status)) && is_ours {
            self.tasks.known(&key).told = Some(state);
        }
    }

    pub(super) fn acknowledge(&mut self, framework_id: &FrameworkId, acknowledgement: Acknowledgement) {
        let key = TaskKey::new(framework_id.clone(), acknowledgement.task_id.clone());
        self.pass_acknowledgement(&key, acknowledgement);
    }

    /// To the agent, if it is there; if not, it will send the update again.
    fn pass_acknowledgement(&mut self, key: &TaskKey, acknowledgement: Acknowledgement) {
        let Some(connection) = self.agents.connection(&acknowledgement.agent_id) else { return };
        if let Some(task) = self.tasks.0.get_mut(key).filter(|task| task.agent_id == acknowledgement.agent_id) {
            let uuid = task.in_flight.as_ref().and_then(|update| update.uuid.as_ref());
            if uuid == Some(&acknowledgement.uuid) {
                let is_last = task.in_flight.take().is_some_and(|update| update.state.is_terminal());
                if is_last {
                    self.forget(key);
                }
            }
        }
        let order = AgentOrder::Acknowledge { framework_id: key.framework_id.clone(), acknowledgement };
        self.out.push(Command::ToAgent { connection, order });
    }

    pub(super) fn kill(&mut self, framework_id: &FrameworkId, task_id: TaskId, grace_ms: Option<u64>) {
        let key = TaskKey::new(framework_id.clone(), task_id);
        if self.tasks.get(&key).is_none() {
            return self.kill_unknown(&key, grace_ms);
        }
        let task = self.tasks.known(&key);
        let asked = task.kill.get_or_insert_default();
        asked.grace_ms = match (asked.grace_ms, grace_ms) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        if !task.latest.is_terminal() {
            let (agent_id, cause) = (task.agent_id.clone(), asked.cause.clone());
            self.order_kill(&agent_id, &key, KillAsked { grace_ms, cause });
        }
    }

    /// Ends a task for the sake of something else, unless it is being ended already.
    pub(super) fn take_from(&mut self, key: &TaskKey, reason: Reason, message: &str) {
        let task = self.tasks.known(key);
        let because = || KillAsked { grace_ms: None, cause: Some(Cause { reason, message: message.to_string() }) };
        let asked = task.kill.get_or_insert_with(because);
        let (agent_id, cause) = (task.agent_id.clone(), asked.cause.clone());
        self.order_kill(&agent_id, key, KillAsked { grace_ms: None, cause });
    }

    /// The tasks of a framework that ends: killed where they can be reached. An agent that cannot be reached is told
    /// when it registers.
    pub(super) fn end_tasks_of(&mut self, id: &FrameworkId) {
        let keys: Vec<TaskKey> = self.tasks.of_framework(id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let task = self.tasks.known(&key);
            let asked = task.kill.get_or_insert_default().clone();
            let (agent_id, is_terminal) = (task.agent_id.clone(), task.latest.is_terminal());
            let uuid = task.in_flight.as_ref().and_then(|update| update.uuid.clone());
            if let Some(uuid) = uuid {
                let task_id = key.task_id.clone();
                let acknowledgement = Acknowledgement { agent_id: agent_id.clone(), task_id, uuid };
                self.pass_acknowledgement(&key, acknowledgement);
            }
            if self.agents.get(&agent_id).is_some_and(|agent| agent.state == AgentState::Unreachable) {
                self.forget(&key);
            } else if !is_terminal {
                self.order_kill(&agent_id, &key, KillAsked { grace_ms: None, ..asked });
            }
        }
    }

    /// An agent came back without it.
    pub(super) fn lose_task(&mut self, key: &TaskKey, reason: Reason, message: String) {
        let task = self.tasks.known(key);
        let agent_id = task.agent_id.clone();
        // It had ended, and the framework was told or would have been: what it ended as is still true.
        let state = if task.latest.is_terminal() { task.latest } else { TaskState::Lost };
        let (is_ended, is_told) = (task.latest.is_terminal(), task.told == Some(state));
        if !is_ended {
            *self.counts.tasks_ended.entry(state).or_default() += 1;
            self.note_state(key, &agent_id, state, reason, &message);
        }
        self.release(key);
        self.forget(key);
        if !is_told {
            let status = self.own_status(key.task_id.clone(), agent_id, state, reason, message);
            self.tell(&key.framework_id, FrameworkEvent::Update(status));
        }
    }

    /// Gives back what it holds.
    fn release(&mut self, key: &TaskKey) {
        let task = self.tasks.known(key);
        let (agent_id, volumes) = (task.agent_id.clone(), std::mem::take(&mut task.volumes));
        if let Some(charged) = task.charged.take() {
            let priority = task.priority;
            self.agents.books(&agent_id, |ledger| ledger.release(&charged));
            self.frameworks.discharge(&key.framework_id, &charged);
            self.frameworks.count_running(&key.framework_id, priority, -1);
            self.agents.touch(&agent_id);
        }
        self.let_go_of_volumes(key, &agent_id, volumes);
        self.has_left(key);
    }

    pub(super) fn forget(&mut self, key: &TaskKey) {
        if let Some(task) = self.tasks.0.remove(key) {
            self.let_go_of_volumes(key, &task.agent_id, task.volumes);
            assert!(task.charged.is_none(), "task {key} is forgotten and still holds {:?}", task.charged);
            self.agents.known(&task.agent_id).tasks.remove(key);
            self.journal.step(|| Change::TaskForgotten { task: key.clone() });
        }
    }

    /// Passes on again what a framework may not have received before it went away.
    pub(super) fn tell_in_flight(&mut self, id: &FrameworkId) {
        let updates: Vec<TaskStatus> =
            self.tasks.of_framework(id).filter_map(|(_, task)| task.in_flight.clone()).collect();
        for status in updates {
            self.tasks.known(&TaskKey::new(id.clone(), status.task_id.clone())).told = Some(status.state);
            self.tell(id, FrameworkEvent::Update(status));
        }
    }

    pub(super) fn own_status(
        &self,
        task_id: TaskId,
        agent_id: AgentId,
        state: TaskState,
        reason: Reason,
        message: String,
    ) -> TaskStatus {
        TaskStatus { task_id, agent_id, state, reason, message, uuid: None, at_ms: self.now_ms, exit_code: 0 }
    }
}
