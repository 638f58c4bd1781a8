//! One machine: the agent machine, its log on disk, and the processes that it started.
//!
//! Invariant: the log and the processes outlive the agent's process as they would in truth; what the agent machine
//! knew is gone when it is killed.

use scheduler::agent::{Agent, Config, Record, Recovered};
use scheduler::model::{AgentInfo, ConnectionId, TaskInfo, TaskKey};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Process {
    pub info: TaskInfo,
    /// Reported as started, so that a later agent process finds it.
    pub is_reported: bool,
    /// Started by an earlier process of the agent.
    pub is_orphan: bool,
}

#[derive(Debug)]
pub struct Host {
    pub info: AgentInfo,
    pub log: Vec<Record>,
    pub processes: BTreeMap<TaskKey, Process>,
    pub agent: Option<Agent>,
    pub connection: Option<ConnectionId>,
    /// Which process of the agent this is.
    pub life: u64,
    /// The earliest tick that is on its way.
    pub tick_ms: Option<u64>,
    /// Stopped: it hears, says and does nothing until then.
    pub frozen_until_ms: u64,
    /// Killed after this many commands of its next step.
    pub fuse: Option<usize>,
}

impl Host {
    pub fn new(info: AgentInfo) -> Self {
        Self {
            info,
            log: Vec::new(),
            processes: BTreeMap::new(),
            agent: None,
            connection: None,
            life: 0,
            tick_ms: None,
            frozen_until_ms: 0,
            fuse: None,
        }
    }

    /// Whether every update was acknowledged.
    pub fn is_quiet(&self) -> bool {
        self.agent.is_some() && self.recovered().tasks.iter().all(|task| task.updates.is_empty())
    }

    /// What a new process of the agent finds.
    pub fn recovered(&self) -> Recovered {
        let mut recovered = Recovered::replay(self.log.iter().cloned());
        for task in &mut recovered.tasks {
            task.alive = task.pid.is_some() && self.processes.contains_key(&task.task);
        }
        recovered
    }

    pub fn config(&self) -> Config {
        Config::new(self.info.clone())
    }

    /// The agent's process ends. Processes that it did not get to know die with it.
    pub fn kill(&mut self, with_tasks: bool) {
        self.agent = None;
        self.connection = None;
        self.life += 1;
        self.tick_ms = None;
        self.fuse = None;
        self.frozen_until_ms = 0;
        self.processes.retain(|_, process| !with_tasks && process.is_reported);
        for process in self.processes.values_mut() {
            process.is_orphan = true;
        }
    }

    /// Writes a record, and drops what a removal makes useless.
    pub fn write(&mut self, record: Record) {
        match &record {
            Record::Removed { task } => self.log.retain(|older| older.task() != task),
            Record::Launched { .. } | Record::Started { .. } | Record::Update { .. } | Record::Acknowledged { .. } => {
                self.log.push(record);
            }
        }
    }
}
