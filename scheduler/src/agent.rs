//! The agent: starts, ends and reports tasks.
//!
//! Invariant: a task is started once, whatever is repeated to it. Whatever happens to a task is persisted before it is
//! said, and said until it is acknowledged, over any number of connections, masters and processes of this agent. Only
//! the newest connection is obeyed, and only a master of the newest epoch seen.

pub mod events;
mod lending;
mod recovered;
mod updates;
mod volumes;
mod watched;

pub use events::{Command, Event, Exit, Record, Signal};
pub use recovered::{Found, Recovered, RecoveredTask};

use crate::alarms::Alarms;
use crate::model::{AgentCall, AgentInfo, AgentOrder, AgentTask, Cause, ConnectionId, TaskInfo, TaskKey, TaskStatus};
use crate::mutants::{self, Mutant};
use crate::volumes::{Volume, VolumeKey};
use jobs::{Reason, TaskState};
use std::collections::BTreeMap;
use updates::{Acknowledged, Updates};
use watched::Health;

/// The agent's numbers, with their defaults from [`Config::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub agent: AgentInfo,
    /// Between SIGTERM and SIGKILL for tasks that do not say.
    pub default_kill_grace_ms: u64,
    /// First wait before an update that nobody acknowledged is sent again; it doubles.
    pub resend_first_ms: u64,
    pub resend_most_ms: u64,
    /// Of what tasks were given and do not use, in thousandths, how much is lent to others; 0 is nothing.
    pub lend_milli: i64,
    /// What was not used for so long is lent.
    pub look_back_ms: u64,
}

impl Config {
    pub fn new(agent: AgentInfo) -> Self {
        Self {
            agent,
            default_kill_grace_ms: 5_000,
            resend_first_ms: 1_000,
            resend_most_ms: 60_000,
            lend_milli: 0,
            look_back_ms: 60_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Starting,
    Running,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// Asked for before the process existed, with this grace.
    Wanted { grace_ms: u64 },
    /// SIGTERM was sent, SIGKILL follows then.
    Termed { kill_at_ms: u64 },
    /// SIGKILL was sent.
    Killed,
}

#[derive(Debug)]
struct Task {
    info: TaskInfo,
    process: Process,
    latest: TaskState,
    updates: Updates,
    kill: Option<Kill>,
    health: Option<Health>,
    /// When its process was first there.
    since_ms: u64,
    /// Why it is ended, if its framework did not ask for that.
    cause: Option<Cause>,
}

impl Task {
    fn new(info: TaskInfo, process: Process, latest: TaskState, updates: Updates) -> Self {
        let health = info.health.as_deref().cloned().map(Health::new);
        Self { info, process, latest, updates, kill: None, health, since_ms: 0, cause: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Heartbeat,
    Resend(TaskKey),
    Kill(TaskKey),
    Probe(TaskKey),
    /// It has run for as long as it may.
    Completion(TaskKey),
    /// It has run for as long as it may without a master.
    Unheard(TaskKey),
}

#[derive(Clone, Copy, Debug)]
struct Link {
    connection: ConnectionId,
    /// Known once the master said that we are registered.
    heartbeat_ms: Option<u64>,
}

/// The machine.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    now_ms: u64,
    link: Option<Link>,
    /// Newest seen; a master with an older one was replaced and does not know it.
    leader_epoch: u64,
    tasks: BTreeMap<TaskKey, Task>,
    /// With how much each has, in thousandths of a MiB.
    volumes: BTreeMap<VolumeKey, i64>,
    lending: lending::Lending,
    alarms: Alarms<Alarm>,
    /// Why the master wants us gone.
    shutdown: Option<String>,
    out: Vec<Command>,
}

impl Agent {
    /// The commands are what recovery asks for, and come before those of any event.
    pub fn new(config: Config, recovered: Recovered, now_ms: u64) -> (Self, Vec<Command>) {
        let mut agent = Self {
            config,
            now_ms,
            link: None,
            leader_epoch: 0,
            tasks: BTreeMap::new(),
            volumes: recovered.volumes.into_iter().map(|volume| (volume.key, volume.disk_milli)).collect(),
            lending: lending::Lending::default(),
            alarms: Alarms::default(),
            shutdown: None,
            out: Vec::new(),
        };
        for task in recovered.tasks {
            agent.recover(task);
        }
        let commands = std::mem::take(&mut agent.out);
        (agent, commands)
    }

    pub fn apply(&mut self, now_ms: u64, event: Event) -> Vec<Command> {
        self.now_ms = self.now_ms.max(now_ms);
        match event {
            Event::Connected { connection } => self.connected(connection),
            Event::Closed { connection } => {
                if self.link.is_some_and(|link| link.connection == connection) {
                    self.unlink();
                }
            }
            Event::FromMaster { connection, order } => {
                if let Some(link) = self.link.filter(|link| link.connection == connection) {
                    self.obey(link, order);
                }
            }
            Event::Started { task, pid } => self.started(task, pid),
            Event::StartFailed { task, reason, message } => self.start_failed(&task, reason, message),
            Event::Exited { task, exit } => self.exited(&task, exit),
            Event::Probed { task, outcome } => self.probed(&task, outcome),
            Event::Overdrawn { task, why } => self.end(&task, Reason::OutOfDisk, why),
            Event::VolumeRemoved { key } => self.volume_removed(key),
            Event::Measured { used } => self.measured(&used),
            Event::Tick => {}
        }
        while let Some(alarm) = self.alarms.due(self.now_ms) {
            match alarm {
                Alarm::Heartbeat => self.heartbeat(),
                Alarm::Resend(key) => self.send_update(&key),
                Alarm::Kill(key) => self.kill_now(&key),
                Alarm::Probe(key) => self.probe(&key),
                Alarm::Completion(key) => self.time_out(&key),
                Alarm::Unheard(key) => self.unheard(&key),
            }
        }
        if let Some(message) = &self.shutdown
            && self.tasks.values().all(|task| task.process == Process::Gone)
        {
            self.out.push(Command::Exit { message: message.clone() });
        }
        std::mem::take(&mut self.out)
    }

    /// When a [`Event::Tick`] is due, if at all.
    pub fn next_wakeup(&self) -> Option<u64> {
        self.alarms.next()
    }

    fn recover(&mut self, recovered: RecoveredTask) {
        let RecoveredTask { task: key, info, pid, found, latest, updates, n_updates, since_ms, cause } = recovered;
        let updates = Updates::new(updates, n_updates);
        let began_ms = since_ms.unwrap_or(self.now_ms);
        let task = Task { cause, since_ms: began_ms, ..Task::new(info, Process::Gone, latest, updates) };
        self.tasks.insert(key.clone(), task);
        if latest.is_terminal() {
            return;
        }
        match found {
            Found::Alive { pid: now } => {
                self.take_up(&key);
                if pid != Some(now) {
                    self.out.push(Command::Persist(Record::Started { task: key.clone(), pid: now }));
                }
                self.watch(&key, began_ms);
                if latest == TaskState::Staging {
                    self.report_start(&key);
                } else if latest == TaskState::Killing {
                    // Whoever asked for it was told that it is being ended, and may never ask again.
                    let kill_at_ms = self.now_ms.saturating_add(self.grace_of(&key));
                    self.start_kill(&key, kill_at_ms);
                }
            }
            Found::Ended(exit) => {
                self.take_up(&key);
                if latest == TaskState::Killing
                    && let Some(task) = self.tasks.get_mut(&key)
                {
                    task.kill = Some(Kill::Killed);
                }
                self.exited(&key, exit);
            }
            Found::Nothing => {
                let message = "the agent was restarted, and the process did not outlive it".to_string();
                self.report(&key, TaskState::Failed, Reason::AgentRestarted, message, 0);
            }
        }
    }

    /// Its process is there, or was until a moment ago.
    fn take_up(&mut self, key: &TaskKey) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.process = Process::Running;
        }
    }

    // ---- the master ----

    fn connected(&mut self, connection: ConnectionId) {
        if let Some(older) = self.link {
            self.out.push(Command::Close { connection: older.connection });
            self.unlink();
        }
        self.link = Some(Link { connection, heartbeat_ms: None });
        let tasks = self.tasks.iter().map(|(key, task)| AgentTask {
            framework_id: key.framework_id.clone(),
            info: task.info.clone(),
            state: task.latest,
        });
        let volumes = self.volumes.iter().map(|(key, milli)| Volume { key: key.clone(), disk_milli: *milli });
        let (tasks, volumes) = (tasks.collect(), volumes.collect());
        let call = AgentCall::Register { agent: self.config.agent.clone(), tasks, volumes };
        self.out.push(Command::Send { connection, call });
    }

    fn unlink(&mut self) {
        self.link = None;
        self.alarms.cancel(&Alarm::Heartbeat);
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.alarms.cancel(&Alarm::Resend(key.clone()));
            self.count_silence(&key);
        }
    }

    fn obey(&mut self, link: Link, order: AgentOrder) {
        match order {
            AgentOrder::Registered { agent_id: _, heartbeat_ms, leader_epoch } => {
                self.registered(link.connection, heartbeat_ms, leader_epoch);
            }
            AgentOrder::Shutdown { message } => self.shut_down(message),
            AgentOrder::Launch { .. }
            | AgentOrder::Kill { .. }
            | AgentOrder::Acknowledge { .. }
            | AgentOrder::KeepVolume { .. }
            | AgentOrder::DestroyVolume { .. }
                if link.heartbeat_ms.is_none() =>
            {
                // It has not said which epoch it leads, so it may have been replaced.
                self.out.push(Command::Close { connection: link.connection });
                self.unlink();
            }
            AgentOrder::Launch { framework_id, task } => {
                self.launch(TaskKey::new(framework_id, task.task_id.clone()), *task);
            }
            AgentOrder::Kill { framework_id, task_id, grace_ms, cause } => {
                self.kill(&TaskKey::new(framework_id, task_id), grace_ms, cause);
            }
            AgentOrder::Acknowledge { framework_id, acknowledgement } => {
                self.acknowledged(&TaskKey::new(framework_id, acknowledgement.task_id), acknowledgement.uuid);
            }
            AgentOrder::KeepVolume { volume } => self.keep_volume(volume),
            AgentOrder::DestroyVolume { key } => self.destroy_volume(link.connection, key),
        }
    }

    fn registered(&mut self, connection: ConnectionId, heartbeat_ms: u64, leader_epoch: u64) {
        if leader_epoch < self.leader_epoch {
            self.out.push(Command::Close { connection });
            return self.unlink();
        }
        self.leader_epoch = leader_epoch;
        // A beat of 0 would never let time pass.
        let heartbeat_ms = heartbeat_ms.max(1);
        self.link = Some(Link { connection, heartbeat_ms: Some(heartbeat_ms) });
        self.alarms.set(Alarm::Heartbeat, self.now_ms + heartbeat_ms);
        self.lend_again(connection);
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.alarms.cancel(&Alarm::Unheard(key.clone()));
            if let Some(task) = self.tasks.get_mut(&key) {
                task.updates.start_over();
            }
            self.send_update(&key);
        }
    }

    fn heartbeat(&mut self) {
        if let Some(Link { connection, heartbeat_ms: Some(heartbeat_ms) }) = self.link {
            self.out.push(Command::Send { connection, call: AgentCall::Heartbeat });
            self.alarms.set(Alarm::Heartbeat, self.now_ms + heartbeat_ms);
        }
    }

    fn shut_down(&mut self, message: String) {
        self.shutdown = Some(message);
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.kill(&key, None, None);
        }
    }

    // ---- the life of a task ----

    fn launch(&mut self, key: TaskKey, info: TaskInfo) {
        if (self.tasks.contains_key(&key) && !mutants::is_on(Mutant::LaunchedAgain)) || self.shutdown.is_some() {
            return;
        }
        self.out.push(Command::Persist(Record::Launched { task: key.clone(), info: Box::new(info.clone()) }));
        let taken =
            info.volumes.iter().find_map(|claim| Some((claim, self.user_of(&VolumeKey::of(claim, &info.role))?)));
        if let Some((claim, user)) = taken {
            let message = format!("volume {} is still task {}'s", claim.name, user.task_id);
            self.tasks.insert(key.clone(), Task::new(info, Process::Gone, TaskState::Staging, Updates::new([], 0)));
            return self.report(&key, TaskState::Failed, Reason::LaunchFailed, message, 0);
        }
        self.out.push(Command::Start { task: key.clone(), info: Box::new(info.clone()) });
        let n_artifacts = info.artifacts.len();
        self.tasks.insert(key.clone(), Task::new(info, Process::Starting, TaskState::Staging, Updates::new([], 0)));
        if n_artifacts > 0 {
            // It may take long, and people want to know what it waits for.
            let message = format!("{n_artifacts} artifacts are fetched for it");
            self.report(&key, TaskState::Staging, Reason::None, message, 0);
        }
    }

    fn started(&mut self, key: TaskKey, pid: u32) {
        let Some(task) = self.tasks.get_mut(&key).filter(|task| task.process == Process::Starting) else { return };
        task.process = Process::Running;
        task.since_ms = self.now_ms;
        let (wanted, cause) = (task.kill.take(), task.cause.take());
        self.out.push(Command::Persist(Record::Started { task: key.clone(), pid }));
        self.report_start(&key);
        self.watch(&key, self.now_ms);
        if let Some(Kill::Wanted { grace_ms }) = wanted {
            self.kill(&key, Some(grace_ms), cause);
        }
    }

    fn start_failed(&mut self, key: &TaskKey, reason: Reason, message: String) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.process == Process::Starting) else { return };
        task.process = Process::Gone;
        match (task.kill, task.cause.clone()) {
            (Some(_), Some(cause)) => self.report(key, TaskState::Killed, cause.reason, cause.message, 0),
            (Some(_), None) => self.report(key, TaskState::Killed, Reason::KillRequested, message, 0),
            (None, _) => self.report(key, TaskState::Failed, reason, message, 0),
        }
    }

    fn exited(&mut self, key: &TaskKey, exit: Exit) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.process != Process::Gone) else { return };
        task.process = Process::Gone;
        for alarm in [Alarm::Kill, Alarm::Probe, Alarm::Completion, Alarm::Unheard] {
            self.alarms.cancel(&alarm(key.clone()));
        }
        let (was_killed, cause) = (task.kill.is_some(), task.cause.clone());
        let (exit_code, how) = match exit {
            Exit::Code(code) => (code, format!("exited with code {code}")),
            Exit::Signal(signal) => (-signal, format!("ended by signal {signal}")),
            Exit::OutOfMemory { used_mib, limit_mib } => {
                (-9, format!("out of memory: used {used_mib} MiB of its limit of {limit_mib} MiB"))
            }
            Exit::Abandoned => (0, "was ended, because its agent was gone for too long".to_string()),
            Exit::Unseen => (0, "ended together with its supervisor, so that nobody saw how".to_string()),
        };
        if let Some(Cause { reason, message }) = cause.filter(|_| was_killed) {
            let state = if reason.is_for_others() { TaskState::Killed } else { TaskState::Failed };
            return self.report(key, state, reason, format!("{message}; it {how}"), exit_code);
        }
        let (state, reason) = match exit {
            _ if was_killed => (TaskState::Killed, Reason::KillRequested),
            Exit::Code(0) => (TaskState::Finished, Reason::None),
            Exit::Code(_) | Exit::Signal(_) | Exit::Unseen => (TaskState::Failed, Reason::Exited),
            Exit::Abandoned => (TaskState::Failed, Reason::AgentRestarted),
            Exit::OutOfMemory { .. } => (TaskState::Failed, Reason::OutOfMemory),
        };
        self.report(key, state, reason, how, exit_code);
    }

    /// SIGTERM, and SIGKILL after the grace. A repeated kill can only shorten it, and changes nothing of why.
    fn kill(&mut self, key: &TaskKey, grace_ms: Option<u64>, cause: Option<Cause>) {
        let grace_ms = grace_ms.unwrap_or_else(|| self.grace_of(key));
        let Some(task) = self.tasks.get_mut(key) else { return };
        let kill_at_ms = self.now_ms.saturating_add(grace_ms);
        match (task.process, task.kill) {
            (Process::Gone, _) | (Process::Running, Some(Kill::Killed)) => {}
            (Process::Starting, before) => {
                let shortest = match before {
                    Some(Kill::Wanted { grace_ms: before }) => before.min(grace_ms),
                    Some(Kill::Termed { .. } | Kill::Killed) | None => {
                        task.cause = cause;
                        grace_ms
                    }
                };
                task.kill = Some(Kill::Wanted { grace_ms: shortest });
                if !task.info.artifacts.is_empty() {
                    self.out.push(Command::GiveUp { task: key.clone() });
                }
            }
            (Process::Running, Some(Kill::Termed { kill_at_ms: before })) => {
                let kill_at_ms = before.min(kill_at_ms);
                task.kill = Some(Kill::Termed { kill_at_ms });
                self.alarms.set(Alarm::Kill(key.clone()), kill_at_ms);
            }
            (Process::Running, Some(Kill::Wanted { .. }) | None) => {
                task.cause.clone_from(&cause);
                let Cause { reason, message } = cause.unwrap_or_else(|| Cause {
                    reason: Reason::KillRequested,
                    message: format!("has {grace_ms} ms to end"),
                });
                self.report(key, TaskState::Killing, reason, message, 0);
                self.start_kill(key, kill_at_ms);
            }
        }
    }

    fn start_kill(&mut self, key: &TaskKey, kill_at_ms: u64) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.kill = Some(Kill::Termed { kill_at_ms });
            self.alarms.set(Alarm::Kill(key.clone()), kill_at_ms);
            self.out.push(Command::Signal { task: key.clone(), signal: Signal::Term });
        }
    }

    /// The process is there. A task that is watched is only starting until it was seen to do its work.
    fn report_start(&mut self, key: &TaskKey) {
        let is_watched = self.tasks.get(key).is_some_and(|task| task.health.is_some());
        let state = if is_watched { TaskState::Starting } else { TaskState::Running };
        self.report(key, state, Reason::None, String::new(), 0);
    }

    /// The task's own grace, or the default.
    fn grace_of(&self, key: &TaskKey) -> u64 {
        let of_task = self.tasks.get(key).map_or(0, |task| task.info.kill_grace_ms);
        if of_task == 0 { self.config.default_kill_grace_ms } else { of_task }
    }

    fn kill_now(&mut self, key: &TaskKey) {
        if let Some(task) = self.tasks.get_mut(key).filter(|task| task.process == Process::Running) {
            task.kill = Some(Kill::Killed);
            self.out.push(Command::Signal { task: key.clone(), signal: Signal::Kill });
        }
    }

    // ---- updates ----

    /// Persists an update, and sends it if none is in flight before it.
    fn report(&mut self, key: &TaskKey, state: TaskState, reason: Reason, message: String, exit_code: i32) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.latest = state;
        let status = task.updates.push(TaskStatus {
            task_id: key.task_id.clone(),
            agent_id: self.config.agent.agent_id.clone(),
            state,
            reason,
            message,
            uuid: None,
            at_ms: self.now_ms,
            exit_code,
        });
        let persist = Command::Persist(Record::Update { task: key.clone(), status: status.clone() });
        let is_single = task.updates.is_single();
        if mutants::is_on(Mutant::SentBeforePersisted) && is_single {
            self.send_update(key);
            return self.out.push(persist);
        }
        self.out.push(persist);
        if is_single {
            self.send_update(key);
        }
    }

    /// Sends the update in flight, if we are registered, and sets the time to send it again.
    fn send_update(&mut self, key: &TaskKey) {
        let Some(Link { connection, heartbeat_ms: Some(_) }) = self.link else { return };
        let Some(task) = self.tasks.get_mut(key) else { return };
        let (first_ms, most_ms) = (self.config.resend_first_ms, self.config.resend_most_ms);
        if let Some((status, wait_ms)) = task.updates.send(first_ms, most_ms) {
            let call = AgentCall::Update { framework_id: key.framework_id.clone(), status: status.clone() };
            self.out.push(Command::Send { connection, call });
            self.alarms.set(Alarm::Resend(key.clone()), self.now_ms + wait_ms);
        }
    }

    fn acknowledged(&mut self, key: &TaskKey, uuid: String) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let outcome = task.updates.acknowledge(&uuid);
        if outcome == Acknowledged::Ignored {
            return;
        }
        self.alarms.cancel(&Alarm::Resend(key.clone()));
        self.out.push(Command::Persist(Record::Acknowledged { task: key.clone(), uuid }));
        if outcome == Acknowledged::Last {
            self.tasks.remove(key);
            self.out.push(Command::Persist(Record::Removed { task: key.clone() }));
        } else {
            self.send_update(key);
        }
    }
}

#[cfg(test)]
mod tests;
