//! The owner of the agent machine: what happened goes in, what is to be done is done, in that order.
//!
//! Invariant: within one turn everything to persist is on disk before a process is started or anything is said.
//! Invariant: the owner waits for the disk, never for the thread that starts tasks or for the master.

use super::AgentError;
use super::artifacts::{Fetched, Fetcher, Outcome};
use super::connection::Connection;
use super::consumption::{Gauge, Measured};
use super::counts::Counts;
use super::link::Input;
use super::nursery::{Nursery, Order, Report, Reports};
use super::probes::{Answers, Probes};
use super::tasklog::TaskLog;
use super::usage::{Meter, Overdrawn};
use super::volumes;
use crate::clock::Clock;
use jobs::Reason;
use scheduler::agent::{Agent, Command, Event, Record, Signal};
use scheduler::model::{ConnectionId, TaskInfo, TaskKey};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Of an agent that is asked to stop: until its tasks get SIGKILL, and until it stops waiting for them.
const STOP_GRACE_MS: u64 = 5_000;
const STOP_MOST_MS: u64 = 6_000;

/// Inputs taken in one turn, so that a burst shares one write to the log and one message.
const INPUTS_PER_TURN: usize = 32;
const REPORTS_PER_TURN: usize = 256;

/// By which it has things done.
pub(super) struct Hands {
    pub nursery: Nursery,
    pub fetcher: Fetcher,
    pub probes: Probes,
    pub meter: Meter,
    pub gauge: Gauge,
}

/// What was seen of tasks by those who look.
pub(super) struct Seen {
    pub answers: Answers,
    pub fetched: Fetched,
    pub overdrawn: Overdrawn,
    pub measured: Measured,
}

pub(super) struct Owner {
    machine: Agent,
    clock: Clock,
    log: TaskLog,
    nursery: Nursery,
    fetcher: Fetcher,
    probes: Probes,
    meter: Meter,
    gauge: Gauge,
    agent_id_path: PathBuf,
    connection: Option<Connection>,
    /// Processes that were ordered, or found, and are not known to have ended.
    running: BTreeSet<TaskKey>,
    counts: Counts,
    /// Set when the agent was asked to stop.
    stopping_since_ms: Option<u64>,
    /// Of this turn.
    records: Vec<Record>,
    orders: Vec<Order>,
    to_fetch: Vec<(TaskKey, Box<TaskInfo>)>,
    given_up: Vec<TaskKey>,
    sent_away: Option<String>,
}

impl Owner {
    pub fn new(
        machine: Agent,
        clock: Clock,
        log: TaskLog,
        hands: Hands,
        running: impl IntoIterator<Item = TaskKey>,
        agent_id_path: PathBuf,
    ) -> Self {
        let Hands { nursery, fetcher, probes, meter, gauge } = hands;
        Self {
            machine,
            clock,
            log,
            nursery,
            fetcher,
            probes,
            meter,
            gauge,
            agent_id_path,
            connection: None,
            running: running.into_iter().collect(),
            counts: Counts::default(),
            stopping_since_ms: None,
            records: Vec::new(),
            orders: Vec::new(),
            to_fetch: Vec::new(),
            given_up: Vec::new(),
            sent_away: None,
        }
    }

    /// What it will have done.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    pub async fn run(
        mut self,
        commands: Vec<Command>,
        mut inputs: mpsc::Receiver<Input>,
        mut reports: Reports,
        mut seen: Seen,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), AgentError> {
        self.carry_out(commands);
        self.finish_turn().await?;
        let mut said = Vec::with_capacity(INPUTS_PER_TURN);
        let mut reported = Vec::with_capacity(REPORTS_PER_TURN);
        loop {
            let wakeup = self.machine.next_wakeup().into_iter().chain(self.stop_wakeup()).min();
            tokio::select! {
                n_said = inputs.recv_many(&mut said, INPUTS_PER_TURN) => if n_said == 0 {
                    return Err(AgentError::Defect { part: "link" });
                },
                n_reported = reports.recv_many(&mut reported, REPORTS_PER_TURN) => if n_reported == 0 {
                    return Err(AgentError::Defect { part: "nursery" });
                },
                Some(answer) = seen.answers.recv() => {
                    let (task, outcome) = answer;
                    self.tell(Event::Probed { task, outcome });
                }
                Some((task, outcome)) = seen.fetched.recv() => self.fetched(task, outcome),
                Some((task, why)) = seen.overdrawn.recv() => self.tell(Event::Overdrawn { task, why }),
                Some(used) = seen.measured.recv() => self.tell(Event::Measured { used }),
                () = self.clock.reached(wakeup) => {}
                // An error means that the handle of this agent is gone: it is dropped with us.
                _ = stopped.wait_for(|stopped| *stopped), if self.stopping_since_ms.is_none() => self.begin_to_stop(),
            }
            for input in said.drain(..) {
                self.take(input);
            }
            for report in reported.drain(..) {
                self.hear(report);
            }
            if self.machine.next_wakeup().is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
                self.tell(Event::Tick);
            }
            self.press_to_stop();
            self.finish_turn().await?;
            let (running, connected) = (self.running.len() as u64, self.connection.is_some());
            self.counts.change(|numbers| (numbers.running, numbers.connected) = (running, connected));
            if let Some(message) = self.sent_away.take() {
                // A new start is a new agent. If the file stays, that start is sent away again and says so.
                if let Err(error) = std::fs::remove_file(&self.agent_id_path) {
                    warn!(path = %self.agent_id_path.display(), %error, "failed to remove the agent's id");
                }
                volumes::set_aside(&self.agent_id_path);
                return Err(AgentError::SentAway { message });
            }
            if self.is_done_stopping() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connected { connection, calls, hold } => {
                self.connection = Some(Connection::new(connection, calls, hold));
                self.counts.change(|numbers| numbers.connections += 1);
                self.tell(Event::Connected { connection });
            }
            Input::Said(connection, orders) => {
                for order in orders {
                    self.tell(Event::FromMaster { connection, order });
                }
            }
            Input::Closed(connection) => self.hang_up(connection),
        }
    }

    fn hear(&mut self, report: Report) {
        let event = match report {
            Report::Started { task, pid } => {
                info!(%task, pid, "task started");
                self.counts.change(|numbers| numbers.started += 1);
                self.gauge.began(&task, pid);
                Event::Started { task, pid }
            }
            Report::StartFailed { task, message } => return self.not_started(task, Reason::LaunchFailed, message),
            Report::Exited { task, exit } => {
                info!(%task, ?exit, "task ended");
                self.counts.change(|numbers| numbers.exited(&exit));
                self.running.remove(&task);
                self.meter.ended(&task);
                self.gauge.ended(&task);
                Event::Exited { task, exit }
            }
            Report::VolumeRemoved(key) => Event::VolumeRemoved { key },
        };
        self.tell(event);
    }

    fn fetched(&mut self, task: TaskKey, outcome: Outcome) {
        self.fetcher.ended(&task);
        match outcome {
            Ok(_) if self.stopping_since_ms.is_some() => {
                self.fetcher.discard(&task);
                self.not_started(task, Reason::LaunchFailed, "failed to start: the agent is stopping".into());
            }
            Ok(info) => self.orders.push(Order::Start { task, info }),
            Err((reason, message)) => self.not_started(task, reason, message),
        }
    }

    fn not_started(&mut self, task: TaskKey, reason: Reason, message: String) {
        warn!(%task, message, "task not started");
        self.counts.change(|numbers| numbers.not_started += 1);
        self.running.remove(&task);
        self.meter.ended(&task);
        self.tell(Event::StartFailed { task, reason, message });
    }

    fn tell(&mut self, event: Event) {
        let commands = self.machine.apply(self.clock.now_ms(), event);
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Persist(record) => self.records.push(record),
                Command::Send { connection, call } => {
                    if let Some(open) = self.connection.as_mut().filter(|open| open.id == connection) {
                        open.say(call);
                    }
                }
                Command::Close { connection } => self.hang_up(connection),
                Command::Start { task, .. } if self.stopping_since_ms.is_some() => {
                    let message = "failed to start: the agent is stopping".to_string();
                    self.tell(Event::StartFailed { task, reason: Reason::LaunchFailed, message });
                }
                Command::Start { task, info } => {
                    self.running.insert(task.clone());
                    self.meter.begins(&task, &info);
                    match info.artifacts.is_empty() {
                        true => self.orders.push(Order::Start { task, info }),
                        false => self.to_fetch.push((task, info)),
                    }
                }
                Command::GiveUp { task } => self.given_up.push(task),
                Command::KeepVolume { volume } => self.orders.push(Order::KeepVolume(volume)),
                Command::RemoveVolume { key } => self.orders.push(Order::RemoveVolume(key)),
                Command::Signal { task, signal } => self.orders.push(Order::Signal { task, signal }),
                Command::Probe { task, probe, timeout_ms } => self.probes.ask(task, probe, timeout_ms),
                Command::Exit { message } => self.sent_away = Some(message),
            }
        }
    }

    fn hang_up(&mut self, connection: ConnectionId) {
        if self.connection.take_if(|open| open.id == connection).is_some() {
            self.tell(Event::Closed { connection });
        }
    }

    /// Writes, then starts and signals, then sends; again, if that had consequences.
    async fn finish_turn(&mut self) -> Result<(), AgentError> {
        loop {
            if !self.records.is_empty() {
                self.log.append(std::mem::take(&mut self.records)).await?;
            }
            for (task, info) in std::mem::take(&mut self.to_fetch) {
                self.fetcher.begin(task, info);
            }
            for task in std::mem::take(&mut self.given_up) {
                self.fetcher.give_up(&task);
            }
            for order in std::mem::take(&mut self.orders) {
                if self.nursery.order(order).is_err() {
                    return Err(AgentError::Defect { part: "nursery" });
                }
            }
            match self.connection.as_mut().and_then(Connection::flush) {
                Some(stuck) => self.hang_up(stuck),
                None => return Ok(()),
            }
        }
    }

    // ---- stopping: the tasks are asked to end, then made to ----

    fn begin_to_stop(&mut self) {
        info!(n_tasks = self.running.len(), "agent stops; its tasks are asked to end");
        self.stopping_since_ms = Some(self.clock.now_ms());
        self.fetcher.give_up_all();
        self.signal_all(Signal::Term);
    }

    fn stop_wakeup(&self) -> Option<u64> {
        self.stopping_since_ms.map(|since_ms| {
            let now_ms = self.clock.now_ms();
            if now_ms < since_ms + STOP_GRACE_MS { since_ms + STOP_GRACE_MS } else { since_ms + STOP_MOST_MS }
        })
    }

    fn press_to_stop(&mut self) {
        if self.stopping_since_ms.is_some_and(|since_ms| self.clock.now_ms() >= since_ms + STOP_GRACE_MS) {
            self.signal_all(Signal::Kill);
        }
    }

    fn is_done_stopping(&self) -> bool {
        self.stopping_since_ms
            .is_some_and(|since_ms| self.running.is_empty() || self.clock.now_ms() >= since_ms + STOP_MOST_MS)
    }

    fn signal_all(&mut self, signal: Signal) {
        self.orders.extend(self.running.iter().map(|task| Order::Signal { task: task.clone(), signal }));
    }
}
