//! Agents that do not come back, because an operator says so.
//!
//! Invariant: an id that was declared gone is never accepted again, by any master: an agent that comes with it has to end its
//! tasks, for their frameworks were told that they are lost, and may have launched others in their place.

use super::{Alarm, Command, Master, Record};
use crate::model::{AgentOrder, TaskKey};
use jobs::{AgentId, Reason};

impl Master {
    /// Its tasks are lost from now on. `force`: also if it is connected, and would only have to be drained.
    pub(super) fn declare_gone(&mut self, id: &AgentId, force: bool) -> Result<Vec<String>, String> {
        self.find_agent(id)?;
        let connection = self.agents.connection(id);
        if connection.is_some() && !force {
            return Err(format!(
                "agent {id} is connected: `smack drain {id}` empties it, and --force ends its tasks here and now"
            ));
        }
        self.out.push(Command::Persist(Record::AgentGone { agent_id: id.clone() }));
        self.agents.gone.insert(id.clone());
        if let Some(connection) = connection {
            self.peers.remove(&connection);
            let order = AgentOrder::Shutdown { message: gone(id) };
            self.out.push(Command::ToAgent { connection, order });
            self.out.push(Command::Close { connection });
        }
        self.withdraw(id);
        self.agents.leave(id);
        let tasks: Vec<TaskKey> = self.agents.known(id).tasks.iter().cloned().collect();
        for key in tasks {
            match self.frameworks.has_ended(&key.framework_id) {
                true => self.forget(&key),
                false => self.lose_task(&key, Reason::AgentRemoved, gone(id)),
            }
        }
        self.alarms.cancel(&Alarm::AgentSilent(id.clone()));
        let number = self.agents.known(id).number();
        self.filters.clear_agent(number);
        if self.drain_of(id).is_some() {
            self.remember_drain(id.clone(), None);
            self.out.push(Command::Persist(Record::Drain { agent_id: id.clone(), drain: None }));
        }
        if !self.reserved.by_operators(id).is_empty() {
            self.reserved.put(id.clone(), Vec::new());
            self.out.push(Command::Persist(Record::Reserved { agent_id: id.clone(), reservations: Vec::new() }));
        }
        self.forget_volumes(id);
        self.agents.stale.insert(id.clone());
        self.agents.remove(id);
        self.answer_if_complete();
        Ok(Vec::new())
    }
}

/// What its tasks' frameworks are told, and the agent itself if it ever comes.
pub(super) fn gone(id: &AgentId) -> String {
    format!("an operator declared agent {id} gone for ever; a new one needs another id, in a folder of its own")
}
