//! What a task's state is, for a framework that asks or must be told.
//!
//! Invariant: nobody is told that a task is unknown while an agent that may have it is still expected back, nor that
//! it has ended before the update that says so.

use super::view::AgentState;
use super::{Alarm, Master};
use crate::model::{FrameworkEvent, TaskKey};
use jobs::{AgentId, FrameworkId, Reason, TaskId, TaskState};

impl Master {
    pub(super) fn reconcile(&mut self, framework_id: &FrameworkId, task_ids: Vec<TaskId>) {
        let keys: Vec<TaskKey> = match task_ids.is_empty() {
            true => self.tasks.of_framework(framework_id).map(|(key, _)| key.clone()).collect(),
            false => task_ids.into_iter().map(|task_id| TaskKey::new(framework_id.clone(), task_id)).collect(),
        };
        for key in keys {
            if self.tasks.get(&key).is_some() {
                self.tell_state(&key, Reason::Reconciliation, "as asked".into());
            } else if self.is_recovering() {
                self.frameworks.known(framework_id).remember_question(key.task_id);
            } else {
                self.tell_unknown(&key);
            }
        }
    }

    /// A kill for a task that is not in the books.
    pub(super) fn kill_unknown(&mut self, key: &TaskKey, grace_ms: Option<u64>) {
        if self.is_recovering() {
            let framework = self.frameworks.known(&key.framework_id);
            framework.remember_kill(key.task_id.clone(), grace_ms);
            framework.remember_question(key.task_id.clone());
        } else {
            self.tell_unknown(key);
        }
    }

    fn tell_unknown(&mut self, key: &TaskKey) {
        let message = "no agent has it and no offer launched it".to_string();
        let (state, reason) = (TaskState::Unknown, Reason::Reconciliation);
        let status = self.own_status(key.task_id.clone(), AgentId::default(), state, reason, message);
        self.tell(&key.framework_id, FrameworkEvent::Update(status));
    }

    /// Tells a known task's state without waiting for its next update. An end is not told ahead of its own update.
    pub(super) fn tell_state(&mut self, key: &TaskKey, reason: Reason, message: String) {
        let task = self.tasks.known(key);
        let (agent_id, told, latest) = (task.agent_id.clone(), task.told, task.latest);
        let is_unreachable = self.agents.known(&agent_id).state == AgentState::Unreachable;
        let state = match latest.is_terminal() {
            true if told == Some(latest) => latest,
            true => match told {
                Some(told) => told,
                None => return,
            },
            false if is_unreachable => TaskState::Unreachable,
            false => latest,
        };
        let status = self.own_status(key.task_id.clone(), agent_id, state, reason, message);
        if self.tell(&key.framework_id, FrameworkEvent::Update(status)) {
            self.tasks.known(key).told = Some(state);
        }
    }

    pub(super) fn is_recovering(&self) -> bool {
        !self.agents.awaited.is_empty()
    }

    /// All agents of the registry are back, or were given up.
    pub(super) fn end_recovery_if_complete(&mut self) {
        // Nothing is kept until recovery ends once it has.
        if self.is_recovering() || !std::mem::take(&mut self.agents.keeps_questions) {
            return;
        }
        let mut unknown = Vec::new();
        for framework in self.frameworks.iter_mut() {
            framework.early_kills.clear();
            let asked = std::mem::take(&mut framework.unanswered);
            unknown.extend(asked.into_iter().map(|task_id| TaskKey::new(framework.id.clone(), task_id)));
        }
        unknown.sort();
        for key in unknown {
            self.tell_unknown(&key);
        }
    }

    pub(super) fn set_off(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::AgentSilent(id) => self.agent_silent(&id),
            Alarm::DrainBegins(id) => self.hold_back(&id),
            Alarm::DrainEnds(id) => self.drain_ends(&id),
            Alarm::DrainOver(id) => self.drain_over(&id),
            Alarm::FrameworkAway(id) => self.framework_away(&id),
            Alarm::FrameworkSettled(id) => self.framework_settled(&id),
            Alarm::Heartbeats => self.send_heartbeats(),
            Alarm::HoldDue(number) => self.hold_due(number),
            Alarm::WeighDemands => self.weigh_demands(),
        }
    }
}
