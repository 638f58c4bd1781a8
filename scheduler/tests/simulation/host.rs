//! One machine: the agent machine, its log on disk, the processes that it had started, and what their supervisors wrote
//! down.
//!
//! Invariant: the log, the processes and the word of how they ended outlive the agent's process as they would in truth;
//! what the agent machine knew is gone when it is killed.

use crate::hits::{Fault, Hits};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use scheduler::agent::{Agent, Config, Exit, Found, Record, Recovered};
use scheduler::model::{AgentInfo, ConnectionId, TaskInfo, TaskKey};
use scheduler::volumes::{Volume, VolumeKey};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Process {
    pub info: TaskInfo,
    pub pid: u32,
    /// Until then it is only an order, which may be lost with the agent.
    pub is_begun: bool,
    pub is_ill: bool,
    /// Nobody wants it any more, and what it needs was still being fetched.
    pub is_given_up: bool,
}

impl Process {
    pub fn new(info: TaskInfo) -> Self {
        Self { info, pid: 0, is_begun: false, is_ill: false, is_given_up: false }
    }
}

#[derive(Debug)]
pub struct Host {
    pub info: AgentInfo,
    pub log: Vec<Record>,
    pub processes: BTreeMap<TaskKey, Process>,
    /// How processes ended, in the words of their supervisors.
    pub ended: BTreeMap<TaskKey, Exit>,
    /// Which one each is, and its disk.
    pub volumes: BTreeMap<VolumeKey, (u64, i64)>,
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
            ended: BTreeMap::new(),
            volumes: BTreeMap::new(),
            agent: None,
            connection: None,
            life: 0,
            tick_ms: None,
            frozen_until_ms: 0,
            fuse: None,
        }
    }

    /// A new agent, on the same machine, which nothing is left on.
    pub fn renew(&mut self) {
        let id = format!("{}+", self.info.agent_id);
        let life = self.life + 1;
        *self = Self { life, ..Self::new(AgentInfo { agent_id: id.as_str().into(), ..self.info.clone() }) };
    }

    /// Whether every update was acknowledged.
    pub fn is_quiet(&self) -> bool {
        self.agent.is_some() && self.recovered().tasks.iter().all(|task| task.updates.is_empty())
    }

    /// What a new process of the agent finds.
    pub fn recovered(&self) -> Recovered {
        let mut recovered = Recovered::replay(self.log.iter().cloned());
        for task in &mut recovered.tasks {
            task.found = match (self.processes.get(&task.task), self.ended.get(&task.task)) {
                (Some(process), _) => Found::Alive { pid: process.pid },
                (None, Some(exit)) => Found::Ended(*exit),
                (None, None) => Found::Nothing,
            };
        }
        let volumes = self.volumes.iter();
        recovered.volumes = volumes.map(|(key, (_, milli))| Volume { key: key.clone(), disk_milli: *milli }).collect();
        recovered
    }

    pub fn count_found(recovered: &Recovered, hits: &mut Hits) {
        for task in recovered.tasks.iter().filter(|task| !task.latest.is_terminal()) {
            hits.fault(match task.found {
                Found::Alive { .. } if task.pid.is_none() => Fault::TaskFoundBeforeItWasWrittenDown,
                Found::Alive { .. } => Fault::TaskFoundAlive,
                Found::Ended(_) => Fault::TaskEndedUnwatched,
                Found::Nothing => Fault::TaskFoundGone,
            });
        }
    }

    pub fn config(&self) -> Config {
        Config { lend_milli: 800, look_back_ms: 2_000, ..Config::new(self.info.clone()) }
    }

    /// The agent's process ends, alone or with all of its tasks and their supervisors.
    pub fn kill(&mut self, rng: &mut ChaCha8Rng, with_tasks: bool) {
        self.agent = None;
        self.connection = None;
        self.life += 1;
        self.tick_ms = None;
        self.fuse = None;
        self.frozen_until_ms = 0;
        self.processes
            .retain(|_, process| !with_tasks && (process.is_begun || !process.is_given_up && rng.random_bool(0.5)));
        for process in self.processes.values_mut() {
            process.is_begun = true;
        }
    }

    /// Writes a record, and drops what a removal makes useless.
    pub fn write(&mut self, record: Record) {
        match &record {
            Record::Removed { task } => {
                self.log.retain(|older| older.task() != task);
                self.ended.remove(task);
            }
            Record::Launched { .. } | Record::Started { .. } | Record::Update { .. } | Record::Acknowledged { .. } => {
                self.log.push(record);
            }
        }
    }
}
