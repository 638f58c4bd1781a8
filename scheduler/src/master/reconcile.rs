//! What a task's state is, for a framework that asks or must be told.
//!
//! Invariant: nobody is told that a task is unknown while an agent that may have it has not come back to this master, nor that
//! it has ended before the update that says so. While such agents are expected back at any moment nothing is said; of one that
//! was given up it is said that the task is unreachable, until the agent is back or is declared gone.

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
            } else {
                self.answer_of_absent(&key);
            }
        }
    }

    /// A kill for a task that is not in the books.
    pub(super) fn kill_unknown(&mut self, key: &TaskKey, grace_ms: Option<u64>) {
        if !self.agents.awaited.is_empty() || !self.agents.unheard.is_empty() {
            self.frameworks.known(&key.framework_id).remember_kill(key.task_id.clone(), grace_ms);
        }
        self.answer_of_absent(key);
    }

    /// Of a task that no agent that is there has.
    fn answer_of_absent(&mut self, key: &TaskKey) {
        let (is_recovering, is_complete) = (!self.agents.awaited.is_empty(), self.agents.unheard.is_empty());
        if is_recovering || !is_complete {
            self.frameworks.known(&key.framework_id).remember_question(key.task_id.clone(), !is_recovering);
        }
        match (is_recovering, is_complete) {
            (true, _) => {}
            (false, false) => self.tell_unreachable(key),
            (false, true) => self.tell_unknown(key),
        }
    }

    fn tell_unreachable(&mut self, key: &TaskKey) {
        let who: Vec<&str> = self.agents.unheard.iter().take(3).map(AgentId::as_str).collect();
        let more = match self.agents.unheard.len() - who.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let message =
            format!("no agent that is there has it; not heard since this master began: {}{more}", who.join(", "));
        let (state, reason) = (TaskState::Unreachable, Reason::AgentUnreachable);
        let status = self.own_status(key.task_id.clone(), AgentId::default(), state, reason, message);
        self.tell(&key.framework_id, FrameworkEvent::Update(status));
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

    /// An agent of the registry is back, or was given up.
    pub(super) fn answer_if_complete(&mut self) {
        // Nothing is kept any more once all of them are back.
        if !self.agents.awaited.is_empty() || !self.agents.keeps_questions {
            return;
        }
        if !self.agents.unheard.is_empty() {
            let mut unreachable = Vec::new();
            for framework in self.frameworks.iter_mut() {
                let untold = framework.unanswered.iter_mut().filter(|(_, is_told)| !**is_told);
                for (task_id, is_told) in untold {
                    *is_told = true;
                    unreachable.push(TaskKey::new(framework.id.clone(), task_id.clone()));
                }
            }
            unreachable.sort();
            return unreachable.iter().for_each(|key| self.tell_unreachable(key));
        }
        self.agents.keeps_questions = false;
        let mut unknown = Vec::new();
        for framework in self.frameworks.iter_mut() {
            framework.early_kills.clear();
            let asked = std::mem::take(&mut framework.unanswered);
            unknown.extend(asked.into_keys().map(|task_id| TaskKey::new(framework.id.clone(), task_id)));
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
            Alarm::DemandsDue(id) => self.demands_due(&id),
            Alarm::Heartbeats => self.send_heartbeats(),
            Alarm::HoldDue(number) => self.hold_due(number),
            Alarm::WeighDemands => self.weigh_demands(),
        }
    }
}
