//! Agents that operators want empty: nothing new comes to them, and what is there is moved or ended.
//!
//! Invariant: a drained agent is offered to nobody, also by the next master: the registry has it. Frameworks are told until
//! when their tasks may stay, again whenever they or the agent come back; then the tasks that are left are killed.

use super::view::AgentState;
use super::{Alarm, Command, Master, Record};
use crate::model::{FrameworkEvent, TaskKey};
use jobs::{AgentId, FrameworkId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When the tasks that are left are killed; `None`: they may stay.
    pub until_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Drains(BTreeMap<AgentId, Drain>);

impl Master {
    /// What the registry says.
    pub(super) fn remember_drain(&mut self, id: AgentId, drain: Option<Drain>) {
        if let Some(until_ms) = drain.and_then(|drain| drain.until_ms) {
            // One that is over is seen to with the next event, and not in the past.
            self.alarms.set(Alarm::DrainEnds(id.clone()), until_ms.max(self.now_ms + 1));
        }
        match drain {
            Some(drain) => self.drains.0.insert(id, drain),
            None => self.drains.0.remove(&id),
        };
    }

    /// A second word replaces the first.
    pub(super) fn drain(&mut self, id: AgentId, deadline_ms: Option<u64>) -> Result<Vec<String>, String> {
        self.find_agent(&id)?;
        let until_ms = deadline_ms.map(|deadline_ms| self.now_ms.saturating_add(deadline_ms));
        let drain = Some(Drain { until_ms });
        self.alarms.cancel(&Alarm::DrainEnds(id.clone()));
        self.remember_drain(id.clone(), drain);
        self.out.push(Command::Persist(Record::Drain { agent_id: id.clone(), drain }));
        self.hold_back(&id);
        Ok(Vec::new())
    }

    pub(super) fn undrain(&mut self, id: &AgentId) -> Result<Vec<String>, String> {
        self.find_agent(id)?;
        if self.drains.0.remove(id).is_none() {
            return Err(format!("agent {id} is not being drained"));
        }
        self.alarms.cancel(&Alarm::DrainEnds(id.clone()));
        self.out.push(Command::Persist(Record::Drain { agent_id: id.clone(), drain: None }));
        if self.agents.known(id).state == AgentState::Draining {
            self.agents.set_state(id, AgentState::Active);
            self.dirty.agents.insert(id.clone());
        }
        Ok(Vec::new())
    }

    fn find_agent(&self, id: &AgentId) -> Result<(), String> {
        if self.agents.get(id).is_some() {
            return Ok(());
        }
        let known = self.agents.by_id.keys().map(AgentId::as_str);
        Err(match jobs::text::nearest(id.as_str(), known) {
            Some(near) => format!("there is no agent '{id}'; did you mean '{near}'?"),
            None => format!("there is no agent '{id}'; `smack agents` lists them"),
        })
    }

    /// Takes an agent that is there out of what is offered, if it is being drained.
    pub(super) fn hold_back(&mut self, id: &AgentId) {
        let Some(drain) = self.drains.0.get(id).copied() else { return };
        if self.agents.known(id).state == AgentState::Active {
            self.agents.set_state(id, AgentState::Draining);
            self.rescind_offers_on(id);
        }
        match drain.until_ms {
            Some(until_ms) if until_ms <= self.now_ms => self.drain_ends(id),
            Some(until_ms) => {
                let frameworks: BTreeSet<FrameworkId> =
                    self.tasks_left_on(id).into_iter().map(|key| key.framework_id).collect();
                for framework in frameworks {
                    self.tell_drain(&framework, id, until_ms);
                }
            }
            None => {}
        }
    }

    /// A framework that is back may not have heard it.
    pub(super) fn tell_drains(&mut self, framework: &FrameworkId) {
        let drains: Vec<(AgentId, u64)> =
            self.drains.0.iter().filter_map(|(id, drain)| Some((id.clone(), drain.until_ms?))).collect();
        for (id, until_ms) in drains {
            if self.tasks_left_on(&id).iter().any(|key| key.framework_id == *framework) {
                self.tell_drain(framework, &id, until_ms);
            }
        }
    }

    fn tell_drain(&mut self, framework: &FrameworkId, id: &AgentId, until_ms: u64) {
        let ends_in_ms = until_ms.saturating_sub(self.now_ms);
        self.tell(framework, FrameworkEvent::AgentDrains { agent_id: id.clone(), ends_in_ms });
    }

    fn tasks_left_on(&mut self, id: &AgentId) -> Vec<TaskKey> {
        let Some(agent) = self.agents.get(id) else { return Vec::new() };
        let left = agent.tasks.iter().filter(|key| self.tasks.get(key).is_some_and(|task| !task.latest.is_terminal()));
        left.cloned().collect()
    }

    /// An agent that is away is told when it comes back.
    pub(super) fn drain_ends(&mut self, id: &AgentId) {
        for key in self.tasks_left_on(id) {
            self.tasks.known(&key).kill.get_or_insert(None);
            self.order_kill(id, &key, None);
        }
    }
}
