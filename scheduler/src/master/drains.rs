//! Agents that operators want empty: nothing new comes to them, and what is there is moved or ended.
//!
//! Invariant: a drained agent is offered to nobody, also by the next master: the registry has it. Frameworks are told until
//! when their tasks may stay, again whenever they or the agent come back; then the tasks that are left are killed.
//! A drain that is planned begins so long before its window that the agent is empty when that opens, whoever is master then.

use super::view::AgentState;
use super::{Alarm, Command, Master, Record};
use crate::model::{FrameworkEvent, TaskKey, Window};
use jobs::{AgentId, FrameworkId, Reason};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When the tasks that are left are killed; `None`: they may stay.
    pub until_ms: Option<u64>,
    /// Nothing is asked of it before; `None`: it has begun.
    #[serde(default)]
    pub from_ms: Option<u64>,
    /// It is offered again then; `None`: when an operator says so.
    #[serde(default)]
    pub over_ms: Option<u64>,
}

impl Drain {
    fn has_begun(&self, now_ms: u64) -> bool {
        self.from_ms.is_none_or(|from_ms| from_ms <= now_ms)
    }
}

#[derive(Debug, Default)]
pub struct Drains(BTreeMap<AgentId, Drain>);

impl Master {
    /// What the registry says.
    pub(super) fn remember_drain(&mut self, id: AgentId, drain: Option<Drain>) {
        let at = |moment: fn(Drain) -> Option<u64>| drain.and_then(moment);
        for (alarm, at_ms) in [
            (Alarm::DrainBegins(id.clone()), at(|drain| drain.from_ms)),
            (Alarm::DrainEnds(id.clone()), at(|drain| drain.until_ms)),
            (Alarm::DrainOver(id.clone()), at(|drain| drain.over_ms)),
        ] {
            match at_ms {
                // One that has passed is seen to with the next event, and not in the past.
                Some(at_ms) => self.alarms.set(alarm, at_ms.max(self.now_ms + 1)),
                None => self.alarms.cancel(&alarm),
            }
        }
        self.agents.noted.note(&id);
        match drain {
            Some(drain) => self.drains.0.insert(id, drain),
            None => self.drains.0.remove(&id),
        };
    }

    /// A second word replaces the first.
    pub(super) fn drain(
        &mut self,
        id: AgentId,
        deadline_ms: Option<u64>,
        window: Window,
    ) -> Result<Vec<String>, String> {
        self.find_agent(&id)?;
        let now_ms = self.now_ms;
        if let Some(late_ms) = window.at_ms.and_then(|at_ms| now_ms.checked_sub(at_ms)).filter(|late_ms| *late_ms > 0) {
            return Err(format!("the window begins {:.1} s in the past", late_ms as f64 / 1000.0));
        }
        let (from_ms, empty_ms) = match window.at_ms {
            Some(at_ms) => (Some(at_ms.saturating_sub(deadline_ms.unwrap_or(0))), at_ms),
            None => (None, now_ms.saturating_add(deadline_ms.unwrap_or(0))),
        };
        let drain = Drain {
            until_ms: deadline_ms.map(|_| empty_ms),
            from_ms: from_ms.filter(|from_ms| *from_ms > now_ms),
            over_ms: window.for_ms.map(|for_ms| empty_ms.saturating_add(for_ms)),
        };
        self.remember_drain(id.clone(), Some(drain));
        self.out.push(Command::Persist(Record::Drain { agent_id: id.clone(), drain: Some(drain) }));
        if !drain.has_begun(now_ms) {
            self.give_back(&id);
            // They come again with the word that it is not for long.
            self.take_back_offers_on(&id);
        }
        self.hold_back(&id);
        Ok(Vec::new())
    }

    /// The window is over: nobody need say so.
    pub(super) fn drain_over(&mut self, id: &AgentId) {
        self.remember_drain(id.clone(), None);
        self.out.push(Command::Persist(Record::Drain { agent_id: id.clone(), drain: None }));
        self.give_back(id);
    }

    /// Offers an agent again that was held back.
    fn give_back(&mut self, id: &AgentId) {
        if self.agents.get(id).is_some_and(|agent| agent.state == AgentState::Draining) {
            self.agents.set_state(id, AgentState::Active);
            self.agents.touch(id);
        }
    }

    /// How long work that begins there now can last, where that is planned.
    pub(super) fn drains_in_ms(&self, id: &AgentId) -> Option<u64> {
        let drain = self.drain_of(id)?;
        Some(drain.until_ms.or(drain.from_ms)?.saturating_sub(self.now_ms))
    }

    pub(super) fn drain_of(&self, id: &AgentId) -> Option<Drain> {
        self.drains.0.get(id).copied()
    }

    pub(super) fn undrain(&mut self, id: &AgentId) -> Result<Vec<String>, String> {
        self.find_agent(id)?;
        if !self.drains.0.contains_key(id) {
            return Err(format!("agent {id} is not being drained"));
        }
        let is_planned = self.drain_of(id).is_some_and(|drain| !drain.has_begun(self.now_ms));
        self.drain_over(id);
        if is_planned {
            self.take_back_offers_on(id);
        }
        Ok(Vec::new())
    }

    pub(super) fn find_agent(&self, id: &AgentId) -> Result<(), String> {
        if self.agents.get(id).is_some() {
            return Ok(());
        }
        let known = self.agents.iter().map(|agent| agent.info.agent_id.as_str());
        Err(match jobs::text::nearest(id.as_str(), known) {
            Some(near) => format!("there is no agent '{id}'; did you mean '{near}'?"),
            None => format!("there is no agent '{id}'; `smack agents` lists them"),
        })
    }

    /// Takes an agent that is there out of what is offered, if it is being drained.
    pub(super) fn hold_back(&mut self, id: &AgentId) {
        let Some(drain) = self.drain_of(id).filter(|drain| drain.has_begun(self.now_ms)) else { return };
        if self.agents.get(id).is_none() {
            // It is told when it comes.
            return;
        }
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
            self.begun_drains().filter_map(|(id, drain)| Some((id.clone(), drain.until_ms?))).collect();
        for (id, until_ms) in drains {
            if self.tasks_left_on(&id).iter().any(|key| key.framework_id == *framework) {
                self.tell_drain(framework, &id, until_ms);
            }
        }
    }

    fn begun_drains(&self) -> impl Iterator<Item = (&AgentId, &Drain)> {
        self.drains.0.iter().filter(|(_, drain)| drain.has_begun(self.now_ms))
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
            self.take_from(&key, Reason::AgentDrained, &format!("agent {id} is drained"));
        }
    }
}
