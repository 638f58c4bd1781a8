//! All agents that are known, by number and by id.
//!
//! Invariant: `roomy` and `available` are what the agents' books and states say, because whatever changes either goes
//! through here. Whoever has an agent's number looks up no text.

use super::super::journal::Touched;
use super::super::ledger::Ledger;
use super::super::view::AgentState;
use super::Agent;
use super::order::{Order, Spot};
use crate::model::ConnectionId;
use jobs::{AgentId, Scalars};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Agents {
    order: Order,
    /// By number.
    slots: Vec<Option<Box<Agent>>>,
    pub active: BTreeSet<AgentId>,
    /// Active, and something is free.
    pub roomy: BTreeSet<Spot>,
    /// Something became free there since the last allocation.
    touched: Vec<u32>,
    /// Free on active agents.
    pub available: Scalars,
    /// Operators said that these do not come back.
    pub gone: BTreeSet<AgentId>,
    /// Known from the registry and not yet heard by this master.
    pub awaited: BTreeSet<AgentId>,
    /// Of these, whoever was given up.
    pub unheard: BTreeSet<AgentId>,
    /// Who holds what on them changed since what is reserved there and not filled was found.
    pub stale: BTreeSet<AgentId>,
    /// What frameworks ask about tasks that nobody knows is kept, for not all agents are back.
    pub keeps_questions: bool,
    /// By whatever watchers are told of agents.
    pub noted: Touched<AgentId>,
}

impl Agents {
    pub fn get(&self, id: &AgentId) -> Option<&Agent> {
        self.numbered(self.order.get(id)?.number)
    }

    pub fn numbered(&self, number: u32) -> Option<&Agent> {
        self.slots.get(number as usize)?.as_deref()
    }

    /// In order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.order.iter().filter_map(|(_, spot)| self.numbered(spot.number))
    }

    /// An agent that a standing offer or a known task names.
    pub fn known(&mut self, id: &AgentId) -> &mut Agent {
        let number = self.order.get(id).map(|spot| spot.number);
        number
            .and_then(|number| self.slots.get_mut(number as usize)?.as_deref_mut())
            .unwrap_or_else(|| panic!("agent {id} is named by an offer or a task and not known"))
    }

    /// The same by its number.
    pub fn known_numbered(&mut self, number: u32) -> &mut Agent {
        let agent = self.slots.get_mut(number as usize).and_then(Option::as_deref_mut);
        agent.unwrap_or_else(|| panic!("agent {number} is named by an offer and not known"))
    }

    /// One that is new, or takes the place of what was known of it.
    pub fn insert(&mut self, agent: Agent) {
        let id = &agent.info.agent_id;
        self.noted.note(id);
        let (spot, all_moved) = self.order.get(id).map_or_else(|| self.order.add(id.clone()), |spot| (spot, false));
        let at = spot.number as usize;
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at] = Some(Box::new(Agent { spot, ..agent }));
        self.roomy.remove(&spot);
        if all_moved {
            for (_, spot) in self.order.iter() {
                if let Some(agent) = &mut self.slots[spot.number as usize] {
                    agent.spot = spot;
                }
            }
            let roomy = self.slots.iter().flatten().filter(|agent| agent.is_roomy);
            self.roomy = roomy.map(|agent| agent.spot).collect();
        }
    }

    pub fn remove(&mut self, id: &AgentId) {
        self.noted.note(id);
        if let Some(spot) = self.order.remove(id) {
            self.slots[spot.number as usize] = None;
            self.roomy.remove(&spot);
        }
    }

    /// Something became free there: it is looked at with the next allocation.
    pub fn touch(&mut self, id: &AgentId) {
        if let Some(spot) = self.order.get(id) {
            self.touch_numbered(spot.number);
        }
    }

    pub fn touch_numbered(&mut self, number: u32) {
        let agent = self.slots.get_mut(number as usize).and_then(Option::as_deref_mut);
        if let Some(agent) = agent.filter(|agent| !agent.is_touched) {
            agent.is_touched = true;
            self.touched.push(number);
        }
    }

    pub fn touch_roomy(&mut self) {
        let roomy: Vec<u32> = self.roomy.iter().map(|spot| spot.number).collect();
        for number in roomy {
            self.touch_numbered(number);
        }
    }

    pub fn is_any_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Those with room that were touched since this was last asked, in order of ids. A number may have changed hands since;
    /// who has it now is meant.
    pub fn take_touched(&mut self) -> BTreeSet<Spot> {
        let Self { slots, touched, .. } = self;
        let spot = |number: u32| {
            let agent = slots[number as usize].as_deref_mut()?;
            agent.is_touched = false;
            agent.is_roomy.then_some(agent.spot)
        };
        touched.drain(..).filter_map(spot).collect()
    }

    /// Moves something in an agent's books.
    pub fn books<R>(&mut self, id: &AgentId, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let number = self.known(id).spot.number;
        self.books_numbered(number, change)
    }

    pub fn books_numbered<R>(&mut self, number: u32, change: impl FnOnce(&mut Ledger) -> R) -> R {
        let agent = self.slots.get_mut(number as usize).and_then(Option::as_deref_mut);
        let agent = agent.unwrap_or_else(|| panic!("agent {number} has no books"));
        if agent.state != AgentState::Active {
            // It may be empty now, which is a state of its own for people.
            self.noted.note(&agent.info.agent_id);
            return change(&mut agent.ledger);
        }
        self.available.subtract(agent.ledger.free().amounts());
        let changed = change(&mut agent.ledger);
        self.available.add(agent.ledger.free().amounts());
        if agent.keeps {
            self.stale.insert(agent.info.agent_id.clone());
        }
        note_room(&mut self.roomy, agent);
        changed
    }

    /// What is free on an agent counts while it is active.
    pub fn set_state(&mut self, id: &AgentId, state: AgentState) {
        self.noted.note(id);
        let number = self.known(id).spot.number;
        let Some(agent) = self.slots[number as usize].as_deref_mut() else { return };
        let before = std::mem::replace(&mut agent.state, state);
        if before == AgentState::Active {
            self.available.subtract(agent.ledger.free().amounts());
        }
        if state == AgentState::Active {
            self.available.add(agent.ledger.free().amounts());
            self.active.insert(id.clone());
        } else {
            self.active.remove(id);
        }
        if agent.keeps {
            self.stale.insert(id.clone());
        }
        note_room(&mut self.roomy, agent);
    }

    /// It is on its way out: nothing of it counts any more.
    pub fn leave(&mut self, id: &AgentId) {
        self.set_state(id, AgentState::Disconnected);
        self.known(id).connection = None;
        self.awaited.remove(id);
        self.unheard.remove(id);
    }

    pub fn connection(&self, id: &AgentId) -> Option<ConnectionId> {
        self.get(id)?.connection
    }
}

fn note_room(roomy: &mut BTreeSet<Spot>, agent: &mut Agent) {
    let is_roomy = agent.state == AgentState::Active && !agent.ledger.free().is_empty();
    if is_roomy != agent.is_roomy {
        agent.is_roomy = is_roomy;
        match is_roomy {
            true => roomy.insert(agent.spot),
            false => roomy.remove(&agent.spot),
        };
    }
}
