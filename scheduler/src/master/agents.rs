//! Agents: they register with their tasks, are heard, fall silent, and come back.
//!
//! Invariant: only an active agent is offered. The resources of an unreachable one count nowhere; its tasks stay
//! known, because they may still run, and what it reports when it returns is believed: a task that it lacks is lost.

mod order;
mod table;

pub use order::Spot;
pub use table::Agents;

use super::gone::gone;
use super::ledger::Ledger;
use super::offers::OfferNumber;
use super::reserved::check_reservation;
use super::tasks::{KillAsked, Task};
use super::view::{AgentState, OfferState};
use super::{Alarm, Command, Master, Peer, Record};
use crate::model::{AgentCall, AgentInfo, AgentOrder, AgentTask, ConnectionId, TaskKey, is_good_id, is_sane};
use crate::mutants::{self, Mutant};
use crate::volumes::{Volume, VolumeKey};
use jobs::{AgentId, Reason, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug)]
pub struct Agent {
    spot: Spot,
    pub info: AgentInfo,
    /// As offers show it.
    pub host: Arc<str>,
    pub attributes: Arc<BTreeMap<String, String>>,
    pub connection: Option<ConnectionId>,
    pub state: AgentState,
    pub heard_ms: u64,
    /// Empty until it registers with this master, and while it is unreachable.
    pub ledger: Ledger,
    /// Oldest first; hardly ever more than a few.
    pub offers: Vec<OfferNumber>,
    pub tasks: BTreeSet<TaskKey>,
    /// Something of it is reserved.
    pub keeps: bool,
    /// It is active, and something is free.
    is_roomy: bool,
    /// It is among those that are to be looked at.
    is_touched: bool,
}

impl Agent {
    fn new(info: AgentInfo, heard_ms: u64) -> Self {
        Self {
            spot: Spot::default(),
            host: info.host.as_str().into(),
            attributes: Arc::new(info.attributes.clone()),
            info,
            connection: None,
            state: AgentState::Disconnected,
            heard_ms,
            ledger: Ledger::default(),
            offers: Vec::new(),
            tasks: BTreeSet::new(),
            keeps: false,
            is_roomy: false,
            is_touched: false,
        }
    }

    /// Its place in tables that are kept for all agents.
    pub fn number(&self) -> u32 {
        self.spot.number
    }

    /// As people see it.
    pub fn shown_state(&self) -> AgentState {
        match self.state {
            AgentState::Draining if self.ledger.used().is_empty() => AgentState::Drained,
            state => state,
        }
    }
}

impl Master {
    /// An agent that the registry knows: it is expected to come back.
    pub(super) fn expect_agent(&mut self, info: AgentInfo) {
        let id = info.agent_id.clone();
        self.agents.awaited.insert(id.clone());
        self.agents.keeps_questions = true;
        self.alarms.set(Alarm::AgentSilent(id), self.now_ms + self.config.recovery_ms);
        self.agents.insert(Agent::new(info, self.now_ms));
    }

    pub(super) fn agent_says(&mut self, connection: ConnectionId, call: AgentCall) {
        let id = match self.peers.get(&connection) {
            Some(Peer::Agent(id)) => Some(id.clone()),
            Some(Peer::Framework(_)) => {
                return self.refuse_agent(connection, "a framework's stream cannot register an agent");
            }
            None => None,
        };
        match (id, call) {
            (id, AgentCall::Register { agent, tasks, volumes }) => {
                if let Some(id) = id.filter(|id| *id != agent.agent_id) {
                    return self.refuse_agent(connection, &format!("this stream belongs to agent {id} already"));
                }
                match check_registration(&agent, &tasks, &volumes) {
                    Ok(()) if self.agents.gone.contains(&agent.agent_id) => {
                        self.refuse_agent(connection, &gone(&agent.agent_id));
                    }
                    Ok(()) => self.register(connection, agent, tasks, volumes),
                    Err(problem) => self.refuse_agent(connection, &problem),
                }
            }
            (Some(id), AgentCall::Heartbeat) => self.agents.known(&id).heard_ms = self.now_ms,
            (Some(_), AgentCall::Update { framework_id, status })
                if !is_good_id(framework_id.as_str()) || !is_good_id(status.task_id.as_str()) =>
            {
                let problem = format!("an update names task '{}' of framework '{framework_id}'", status.task_id);
                self.refuse_agent(connection, &problem);
            }
            (Some(id), AgentCall::Update { framework_id, status }) => {
                self.agents.known(&id).heard_ms = self.now_ms;
                self.update(&id, framework_id, status);
            }
            (Some(id), AgentCall::VolumeDestroyed { key }) => self.volume_destroyed(&id, &key),
            (Some(id), AgentCall::Lends { lent }) => self.lends(connection, &id, lent),
            // The stream of a master that was replaced, or of an agent that was declared unreachable: it must
            // register again.
            (
                None,
                AgentCall::Heartbeat
                | AgentCall::Update { .. }
                | AgentCall::VolumeDestroyed { .. }
                | AgentCall::Lends { .. },
            ) => self.out.push(Command::Close { connection }),
        }
    }

    pub(super) fn refuse_agent(&mut self, connection: ConnectionId, problem: &str) {
        let order = AgentOrder::Shutdown { message: problem.to_string() };
        self.out.push(Command::ToAgent { connection, order });
        self.out.push(Command::Close { connection });
        if let Some(Peer::Agent(id)) = self.peers.remove(&connection) {
            self.agent_closed(&id, connection);
        }
    }

    fn register(&mut self, connection: ConnectionId, info: AgentInfo, reported: Vec<AgentTask>, volumes: Vec<Volume>) {
        let id = info.agent_id.clone();
        self.agents.awaited.remove(&id);
        self.agents.unheard.remove(&id);
        let before = self.agents.get(&id);
        let before_is_known = before.is_some();
        let was_unreachable = before.is_some_and(|agent| agent.state == AgentState::Unreachable);
        let is_news = before.is_none_or(|agent| agent.info != info);
        let attributes_changed = before.is_some_and(|agent| agent.info.attributes != info.attributes);
        if let Some(older) = before.and_then(|agent| agent.connection).filter(|older| *older != connection) {
            self.peers.remove(&older);
            self.out.push(Command::Close { connection: older });
        }
        if before_is_known {
            self.withdraw(&id);
        }
        if let Some(known) = self.agents.get(&id).filter(|_| attributes_changed) {
            self.filters.clear_agent(known.number());
        }
        if is_news {
            self.out.push(Command::Persist(Record::Agent(info.clone())));
        }
        let ledger = Ledger::new(info.total.clone());
        self.cluster_total.add(ledger.total().amounts());
        self.dirty.total = true;
        let missing = match before_is_known {
            true => std::mem::take(&mut self.agents.known(&id).tasks),
            false => BTreeSet::new(),
        };
        let keeps = !info.reserved.is_empty() || !self.reserved.by_operators(&id).is_empty();
        let agent = Agent::new(info, self.now_ms);
        self.agents.insert(Agent { connection: Some(connection), ledger, keeps, ..agent });
        self.agents.set_state(&id, AgentState::Active);
        self.peers.insert(connection, Peer::Agent(id.clone()));
        self.alarms.set(Alarm::AgentSilent(id.clone()), self.now_ms + self.silence_ms());
        let order = AgentOrder::Registered {
            agent_id: id.clone(),
            heartbeat_ms: self.config.heartbeat_ms,
            leader_epoch: self.leader_epoch,
        };
        self.out.push(Command::ToAgent { connection, order });
        self.agents.touch(&id);
        self.take_over_volumes(&id, connection, volumes);
        self.take_over_tasks(&id, reported, missing, was_unreachable);
        self.hold_back(&id);
        self.answer_if_complete();
    }

    /// Settles what the agent reports with what was known of it: `missing` is what it had.
    fn take_over_tasks(
        &mut self,
        id: &AgentId,
        reported: Vec<AgentTask>,
        mut missing: BTreeSet<TaskKey>,
        was_unreachable: bool,
    ) {
        for AgentTask { framework_id, info, state } in reported {
            let key = TaskKey::new(framework_id, info.task_id.clone());
            let is_ended = self.frameworks.has_ended(&key.framework_id);
            if !is_ended {
                self.adopt_framework(&key.framework_id);
            }
            let was_known = missing.remove(&key);
            if !was_known && self.tasks.get(&key).is_some() {
                // The same id runs elsewhere, or the agent named it twice. This copy is not the one to keep.
                self.order_kill(id, &key, KillAsked::default());
                continue;
            }
            if !was_known {
                self.add_task(key.clone(), Task::reported(&info, id.clone(), state, self.now_ms));
            }
            if !state.is_terminal() {
                for claim in &info.volumes {
                    self.volumes.set_user(id, &VolumeKey::of(claim, &info.role), Some(key.clone()));
                }
            }
            let agent = self.agents.known(id);
            agent.tasks.insert(key.clone());
            if mutants::is_on(Mutant::LaunchedAgain)
                && state == TaskState::Staging
                && let Some(connection) = agent.connection
            {
                let order = AgentOrder::Launch { framework_id: key.framework_id.clone(), task: Box::new(info) };
                self.out.push(Command::ToAgent { connection, order });
            }
            let task = self.tasks.known(&key);
            let shown =
                if was_unreachable && !task.latest.is_terminal() { TaskState::Unreachable } else { task.latest };
            task.latest = state;
            if !state.is_terminal() {
                let claimed = self.agents.books(id, |ledger| ledger.claim(&task.resources));
                self.frameworks.charge(&key.framework_id, &claimed);
                task.charged = Some(claimed);
                self.frameworks.count_running(&key.framework_id, task.priority, 1);
            }
            if let Some(grace_ms) = self.frameworks.take_early_kill(&key) {
                task.kill = Some(KillAsked { grace_ms, cause: None });
            }
            if is_ended {
                task.kill.get_or_insert_default();
            }
            if let Some(asked) = task.kill.clone().filter(|_| !state.is_terminal()) {
                self.order_kill(id, &key, asked);
            }
            let message = || format!("agent {id} is back and has the task");
            if was_known && shown != state {
                self.note_state(&key, id, state, Reason::Reconciliation, &message());
            }
            if !state.is_terminal() && (was_unreachable || !was_known) {
                self.tell_state(&key, Reason::Reconciliation, message());
            }
        }
        for key in missing {
            self.lose_task(&key, Reason::AgentRestarted, format!("agent {id} came back without the task"));
        }
    }

    pub(super) fn agent_closed(&mut self, id: &AgentId, connection: ConnectionId) {
        let agent = self.agents.known(id);
        if agent.connection != Some(connection) {
            return;
        }
        agent.connection = None;
        self.agents.set_state(id, AgentState::Disconnected);
        self.rescind_offers_on(id);
    }

    /// The alarm of an agent: it is unreachable, unless it was heard since the alarm was set.
    pub(super) fn agent_silent(&mut self, id: &AgentId) {
        let is_awaited = self.agents.awaited.contains(id);
        let silence_ms = self.silence_ms();
        let agent = self.agents.known(id);
        if !is_awaited && agent.heard_ms + silence_ms > self.now_ms {
            let at_ms = agent.heard_ms + silence_ms;
            self.alarms.set(Alarm::AgentSilent(id.clone()), at_ms);
            return;
        }
        let heard_ms_ago = self.now_ms - agent.heard_ms;
        if let Some(connection) = agent.connection.take() {
            self.peers.remove(&connection);
            self.out.push(Command::Close { connection });
        }
        self.withdraw(id);
        let agent = self.agents.known(id);
        let tasks: Vec<TaskKey> = agent.tasks.iter().cloned().collect();
        self.agents.set_state(id, AgentState::Unreachable);
        if self.agents.awaited.remove(id) {
            self.agents.unheard.insert(id.clone());
        }
        for key in tasks {
            if self.frameworks.has_ended(&key.framework_id) {
                // Nobody asks for it any more; if the agent ever comes back with it, it is killed then.
                self.forget(&key);
            } else if !self.tasks.known(&key).latest.is_terminal() {
                let message = format!("agent {id} was not heard for {heard_ms_ago} ms");
                self.note_state(&key, id, TaskState::Unreachable, Reason::AgentUnreachable, &message);
                self.tell_state(&key, Reason::AgentUnreachable, message);
            }
        }
        self.answer_if_complete();
    }

    /// Takes an agent's resources out of the cluster: nothing of it is free, offered or used any more.
    pub(super) fn withdraw(&mut self, id: &AgentId) {
        self.rescind_offers_on(id);
        let agent = self.agents.known(id);
        let tasks: Vec<TaskKey> = agent.tasks.iter().cloned().collect();
        for key in &tasks {
            let task = self.tasks.known(key);
            if let Some(charged) = task.charged.take() {
                self.frameworks.discharge(&key.framework_id, &charged);
                self.frameworks.count_running(&key.framework_id, task.priority, -1);
            }
            // It may run on, and be asked again when its agent is back.
            self.set_leave_by(key, None);
            self.has_left(key);
        }
        self.withdraw_volumes(id);
        self.cluster_total.subtract(&self.agents.known(id).ledger.total().amounts().own());
        self.dirty.total = true;
        self.agents.books(id, |ledger| *ledger = Ledger::default());
    }

    /// Nothing of it is offered, or kept for anybody, any more.
    pub(super) fn rescind_offers_on(&mut self, id: &AgentId) {
        self.drop_holds_on(id);
        self.take_back_offers_on(id);
    }

    pub(super) fn take_back_offers_on(&mut self, id: &AgentId) {
        let offers = self.agents.known(id).offers.clone();
        for number in offers {
            self.rescind(number, OfferState::Rescinded);
        }
    }

    pub(super) fn order_kill(&mut self, agent: &AgentId, key: &TaskKey, asked: KillAsked) {
        if let Some(connection) = self.agents.connection(agent) {
            let TaskKey { framework_id, task_id } = key.clone();
            let KillAsked { grace_ms, cause } = asked;
            let order = AgentOrder::Kill { framework_id, task_id, grace_ms, cause };
            self.out.push(Command::ToAgent { connection, order });
        }
    }

    fn silence_ms(&self) -> u64 {
        self.config.heartbeat_ms * self.config.missed_heartbeats
    }
}

fn check_registration(agent: &AgentInfo, tasks: &[AgentTask], volumes: &[Volume]) -> Result<(), String> {
    let id = &agent.agent_id;
    if !is_good_id(id.as_str()) {
        return Err(format!("'{id}' cannot be an agent's id: it must be short, printable and without blanks"));
    }
    if !is_sane(&agent.total) || !agent.total.has_the_gpus_it_counts() || agent.total.is_revocable() {
        return Err(format!("agent {id} cannot have {}", agent.total));
    }
    for reservation in &agent.reserved {
        check_reservation(reservation).map_err(|problem| format!("agent {id}: {problem}"))?;
    }
    if let Some(Volume { key, disk_milli }) = volumes.iter().find(|volume| !volume.is_good()) {
        return Err(format!("agent {id} reports volume {key} with {disk_milli} thousandths of a MiB"));
    }
    for AgentTask { framework_id, info, .. } in tasks {
        if !is_good_id(framework_id.as_str()) || !is_good_id(info.task_id.as_str()) || !is_sane(&info.resources) {
            let (task, resources) = (&info.task_id, &info.resources);
            return Err(format!("agent {id} reports task '{task}' of framework '{framework_id}' with {resources}"));
        }
    }
    Ok(())
}
