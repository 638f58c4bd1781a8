//! What happens on the machines: agents start, connect and are obeyed; processes live and end.
//!
//! Invariant: an agent's commands are carried out in their order, and it may be killed between any two of them.

use crate::hits::Fault;
use crate::host::{Host, Process};
use crate::invariants::room;
use crate::network::{Message, Peer, Side};
use crate::world::{Happening, World};
use jobs::{AgentId, Reason};
use rand::Rng;
use scheduler::agent::{self, Agent, Exit, Signal};
use scheduler::master;
use scheduler::model::{AgentCall, ConnectionId, TaskInfo, TaskKey};
use scheduler::volumes::{Volume, VolumeKey};
use std::collections::BTreeMap;

impl World {
    pub fn start_agent(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        let recovered = machine.recovered();
        Host::count_found(&recovered, &mut self.hits);
        let (agent, commands) = Agent::new(machine.config(), recovered, self.now_ms);
        machine.agent = Some(agent);
        let life = machine.life;
        self.obey_agent(host, commands);
        self.after(0, Happening::AgentConnect { host, life });
    }

    pub fn connect_agent(&mut self, host: usize) {
        if self.hosts[host].agent.is_none() || self.hosts[host].connection.is_some() {
            return;
        }
        if self.master.is_none() {
            let life = self.hosts[host].life;
            return self.after(300, Happening::AgentConnect { host, life });
        }
        let connection = self.network.open(Peer::Agent(host));
        self.hosts[host].connection = Some(connection);
        self.agent_event(host, agent::Event::Connected { connection });
    }

    pub fn forget_link(&mut self, host: usize, connection: ConnectionId) {
        if self.hosts[host].connection == Some(connection) {
            self.hosts[host].connection = None;
            let (life, pause_ms) = (self.hosts[host].life, self.rng.random_range(50..500));
            self.after(pause_ms, Happening::AgentConnect { host, life });
        }
    }

    pub fn agent_event(&mut self, host: usize, event: agent::Event) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        self.n_events += 1;
        let commands = agent.apply(self.now_ms, event);
        self.obey_agent(host, commands);
    }

    pub fn obey_agent(&mut self, host: usize, commands: Vec<agent::Command>) {
        let fuse = self.hosts[host].fuse.take();
        if fuse.is_some() && commands.is_empty() {
            self.hosts[host].fuse = fuse;
        }
        for (at, command) in commands.into_iter().enumerate() {
            if fuse == Some(at) {
                let with_tasks = self.rng.random_bool(0.5);
                return self.kill_agent(host, with_tasks, Fault::AgentKilledAmidCommands);
            }
            match command {
                agent::Command::Persist(record) => {
                    self.updates.persisted(&record);
                    self.hosts[host].write(record);
                }
                agent::Command::Send { connection, call } => {
                    match &call {
                        AgentCall::Update { framework_id, status } => self.updates.sent(framework_id, status),
                        AgentCall::Lends { lent } if lent.is_empty() => self.hits.fault(Fault::LentNoMore),
                        AgentCall::Lends { .. } => self.hits.fault(Fault::Lent),
                        AgentCall::Register { .. } | AgentCall::Heartbeat | AgentCall::VolumeDestroyed { .. } => {}
                    }
                    self.send(connection, Side::Master, Message::FromAgent(call));
                }
                agent::Command::Close { connection } => {
                    self.close(connection, Side::Peer);
                    self.forget_link(host, connection);
                }
                agent::Command::KeepVolume { volume } => self.keep_volume(host, volume),
                agent::Command::RemoveVolume { key } => self.remove_volume(host, key),
                agent::Command::Start { task, info } => self.spawn(host, task, *info),
                agent::Command::GiveUp { task } => self.give_up(host, task),
                agent::Command::Signal { task, signal } => self.signal(host, task, signal),
                agent::Command::Probe { task, .. } => self.probe(host, task),
                agent::Command::Exit { message } => {
                    let id = &self.hosts[host].info.agent_id;
                    let gone = master::Record::AgentGone { agent_id: id.clone() };
                    assert!(self.registry.get(&gone.key()) == Some(&gone), "agent {host} was told to go: {message}");
                    return self.replace(host);
                }
            }
        }
        let Some(wakeup_ms) = self.hosts[host].agent.as_ref().and_then(Agent::next_wakeup) else { return };
        assert!(wakeup_ms > self.now_ms, "agent {host} wants to be woken in the past");
        let at_ms = wakeup_ms + self.rng.random_range(0..5);
        if self.hosts[host].tick_ms.is_none_or(|set_ms| set_ms > at_ms) {
            self.hosts[host].tick_ms = Some(at_ms);
            let life = self.hosts[host].life;
            self.at(at_ms, Happening::AgentTick { host, life });
        }
    }

    /// Its agent was declared gone, and has gone: another one begins there.
    fn replace(&mut self, host: usize) {
        self.hits.fault(Fault::AgentCameBackGone);
        assert!(self.hosts[host].processes.is_empty(), "agent {host} goes and leaves tasks");
        for task in self.hosts[host].recovered().tasks {
            self.updates.given_up(task.task);
        }
        self.drop_connections(Side::Peer, Some(Peer::Agent(host)));
        for (key, (number, _)) in std::mem::take(&mut self.hosts[host].volumes) {
            self.volumes.removed(&key, number);
        }
        self.hosts[host].renew();
        self.after(100, Happening::AgentStart { host });
    }

    fn keep_volume(&mut self, host: usize, volume: Volume) {
        let Volume { key, disk_milli } = volume;
        let number = match self.hosts[host].volumes.get(&key) {
            Some((number, before)) => {
                assert!(disk_milli > *before, "volume {key} on host {host} shrinks to {disk_milli}");
                self.hits.fault(Fault::VolumeGrown);
                *number
            }
            None => {
                self.hits.fault(Fault::VolumeMade);
                let is_gone = |id: &AgentId| is_gone(&self.registry, id);
                self.volumes.make(&key, &self.hosts[host].info.agent_id, &self.hosts, is_gone)
            }
        };
        self.hosts[host].volumes.insert(key, (number, disk_milli));
        room::check(&self.hosts[host]);
    }

    fn remove_volume(&mut self, host: usize, key: VolumeKey) {
        self.hits.fault(Fault::VolumeRemoved);
        let machine = &mut self.hosts[host];
        let has = |info: &TaskInfo| info.volumes.iter().any(|claim| VolumeKey::of(claim, &info.role) == key);
        let user = machine.processes.iter().find(|(_, process)| has(&process.info));
        assert!(user.is_none(), "volume {key} is removed, and {} has it", user.expect("there").0);
        if let Some((number, _)) = machine.volumes.remove(&key) {
            self.volumes.removed(&key, number);
        }
        let (life, delay_ms) = (machine.life, self.rng.random_range(1..300));
        self.after(delay_ms, Happening::VolumeRemoved { host, life, key });
    }

    pub fn spawn(&mut self, host: usize, task: TaskKey, info: TaskInfo) {
        self.started_once.started(&task, host);
        let is_gone = |id: &AgentId| is_gone(&self.registry, id);
        self.volumes.begins(&self.hosts[host], &task, &info, is_gone, &mut self.hits);
        let (is_batch, is_filler) = (info.name == "batch", info.name == "filler");
        let fetches = !info.artifacts.is_empty();
        let process = Process { pid: self.rng.random_range(2..30_000), ..Process::new(info) };
        self.hosts[host].processes.insert(task.clone(), process);
        room::check(&self.hosts[host]);
        let most_ms = if fetches { 5_000 } else { 500 };
        let (life, delay_ms) = (self.hosts[host].life, self.rng.random_range(1..most_ms));
        self.after(delay_ms, Happening::Spawned { host, life, task: task.clone() });
        // Its fate is its own, whatever becomes of the agent.
        let crashes = !self.is_calm && self.rng.random_bool(0.2);
        if is_batch || is_filler || crashes {
            let exit = match crashes {
                true if self.rng.random_bool(0.2) => Exit::OutOfMemory { used_mib: 64, limit_mib: 64 },
                true if self.rng.random_bool(0.5) => Exit::Signal(11),
                true => Exit::Code(1),
                false => Exit::Code(0),
            };
            if crashes {
                self.hits.fault(Fault::TaskCrashed);
            }
            let most_ms = if is_filler && !crashes { 150_000 } else { 30_000 };
            let life_ms = self.rng.random_range(10..most_ms);
            self.after(delay_ms + life_ms, Happening::ProcessEnds { host, task, exit });
        }
    }

    /// What is not yet there is not started; what is on its way is.
    fn give_up(&mut self, host: usize, task: TaskKey) {
        let process = self.hosts[host].processes.get_mut(&task);
        if let Some(process) = process.filter(|process| !process.is_begun && !process.info.artifacts.is_empty()) {
            process.is_given_up = true;
            let life = self.hosts[host].life;
            self.after(1, Happening::Spawned { host, life, task });
        }
    }

    /// Why it cannot be started, if it cannot.
    fn not_started(&mut self, host: usize, task: &TaskKey) -> Option<(Fault, Reason)> {
        let process = self.hosts[host].processes.get(task).filter(|process| !process.is_begun)?;
        let (is_given_up, fetches) = (process.is_given_up, !process.info.artifacts.is_empty());
        if is_given_up {
            return Some((Fault::FetchGivenUp, Reason::FetchFailed));
        }
        if self.is_calm || !self.rng.random_bool(0.05) {
            return None;
        }
        match fetches && self.rng.random_bool(0.5) {
            true => Some((Fault::FetchFailed, Reason::FetchFailed)),
            false => Some((Fault::StartFailed, Reason::LaunchFailed)),
        }
    }

    pub fn spawned(&mut self, host: usize, task: TaskKey) {
        if let Some((fault, reason)) = self.not_started(host, &task) {
            self.hosts[host].processes.remove(&task);
            self.hits.fault(fault);
            let message = "failed to start it: no such file".to_string();
            return self.agent_event(host, agent::Event::StartFailed { task, reason, message });
        }
        let Some(process) = self.hosts[host].processes.get_mut(&task) else { return };
        process.is_begun = true;
        let pid = process.pid;
        self.agent_event(host, agent::Event::Started { task, pid });
    }

    /// A task that does not do its work any more never does again.
    pub fn probe(&mut self, host: usize, task: TaskKey) {
        let is_calm = self.is_calm;
        let falls_ill = !is_calm && self.rng.random_bool(0.02);
        let is_ill = match self.hosts[host].processes.get_mut(&task) {
            Some(process) => {
                process.is_ill |= falls_ill;
                process.is_ill
            }
            None => true,
        };
        if is_ill {
            self.hits.fault(Fault::ProbeFailed);
        }
        let outcome = if is_ill { Err("no answer".to_string()) } else { Ok(()) };
        let (life, delay_ms) = (self.hosts[host].life, self.rng.random_range(1..900));
        self.after(delay_ms, Happening::Probed { host, life, task, outcome });
    }

    pub fn signal(&mut self, host: usize, task: TaskKey, signal: Signal) {
        match signal {
            Signal::Term if self.rng.random_bool(0.2) => self.hits.fault(Fault::TermIgnored),
            Signal::Term => {
                let delay_ms = self.rng.random_range(0..1_000);
                self.after(delay_ms, Happening::ProcessEnds { host, task, exit: Exit::Signal(15) });
            }
            Signal::Kill => self.after(20, Happening::ProcessEnds { host, task, exit: Exit::Signal(9) }),
        }
    }

    pub fn process_ends(&mut self, host: usize, task: TaskKey, exit: Exit) {
        if self.hosts[host].processes.remove(&task).is_some() {
            self.hosts[host].ended.insert(task.clone(), exit);
            let life = self.hosts[host].life;
            self.after(0, Happening::Reaped { host, life, task, exit });
        }
    }
}

/// Whether an operator declared an agent gone, whatever it knows of that.
fn is_gone(registry: &BTreeMap<String, master::Record>, id: &AgentId) -> bool {
    let gone = master::Record::AgentGone { agent_id: id.clone() };
    registry.get(&gone.key()) == Some(&gone)
}
