//! Many agents in one process that start nothing, to measure a master under their load.
//!
//! Each has a machine and a connection of its own, as every agent has, and says nothing that is not on disk; all write to one
//! log, where one commit takes in all that waits for it.

use super::connection::Connection;
use super::link::{self, Input};
use super::tasklog::{LogError, TaskLog};
use super::{AgentError, LINK_INPUTS};
use crate::clock::Clock;
use crate::door::Token;
use jobs::Resources;
use scheduler::agent::{Agent, Command, Config, Event, Record, Recovered};
use scheduler::model::AgentInfo;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Requests to write; each agent has one at a time.
const JOURNAL_QUEUE: usize = 4096;
const INPUTS_PER_TURN: usize = 32;
/// Of a process that is none.
const NO_PID: u32 = 1;

/// They end with it.
pub struct Fleet {
    all: JoinSet<Result<(), AgentError>>,
    commits: Arc<AtomicU64>,
}

impl Fleet {
    /// Starts `n` agents of `total` each, whose log is to be at `log`.
    pub async fn start(
        master: &str,
        token: Option<&Token>,
        n: usize,
        total: &Resources,
        log: &Path,
    ) -> Result<Self, AgentError> {
        let (log, _) = TaskLog::open(log).await?;
        let commits = Arc::new(AtomicU64::new(0));
        let (journal, asked) = mpsc::channel(JOURNAL_QUEUE);
        let mut all = JoinSet::new();
        all.spawn(write_down(log, asked, Arc::clone(&commits)));
        for number in 0..n {
            let info = AgentInfo {
                agent_id: format!("agent-{number}").into(),
                host: "127.0.0.1".to_string(),
                total: total.clone(),
                attributes: BTreeMap::new(),
                http_endpoint: String::new(),
                reserved: Vec::new(),
            };
            let clock = Clock::start();
            let (machine, _) = Agent::new(Config::new(info), Recovered::default(), clock.now_ms());
            let (sender, inputs) = mpsc::channel(LINK_INPUTS);
            all.spawn({
                let (master, token) = (master.to_string(), token.cloned());
                async move {
                    link::run(master, token, sender).await;
                    Ok(())
                }
            });
            let journal = journal.clone();
            all.spawn(
                One { machine, clock, journal, connection: None, records: Vec::new(), starts: Vec::new() }.run(inputs),
            );
        }
        Ok(Self { all, commits })
    }

    /// Of the log.
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Why one of them ended, should one.
    pub async fn ended(&mut self) -> Option<AgentError> {
        match self.all.join_next().await? {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(AgentError::Defect { part: "agent of a fleet" }),
        }
    }
}

type Asked = (Vec<Record>, oneshot::Sender<()>);

async fn write_down(
    mut log: TaskLog,
    mut asked: mpsc::Receiver<Asked>,
    commits: Arc<AtomicU64>,
) -> Result<(), AgentError> {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, JOURNAL_QUEUE).await > 0 {
        let (records, written): (Vec<Vec<Record>>, Vec<oneshot::Sender<()>>) = waiting.drain(..).unzip();
        log.append(records.into_iter().flatten().collect()).await?;
        commits.fetch_add(1, Relaxed);
        for written in written {
            // Of an agent that has ended.
            let _ = written.send(());
        }
    }
    Ok(())
}

struct One {
    machine: Agent,
    clock: Clock,
    journal: mpsc::Sender<Asked>,
    connection: Option<Connection>,
    /// Of this turn.
    records: Vec<Record>,
    starts: Vec<Event>,
}

impl One {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> Result<(), AgentError> {
        let mut said = Vec::with_capacity(INPUTS_PER_TURN);
        loop {
            tokio::select! {
                n_said = inputs.recv_many(&mut said, INPUTS_PER_TURN) => if n_said == 0 {
                    return Ok(());
                },
                () = self.clock.reached(self.machine.next_wakeup()) => {}
            }
            for input in said.drain(..) {
                self.take(input);
            }
            if self.machine.next_wakeup().is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
                self.tell(Event::Tick);
            }
            self.finish_turn().await?;
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connected { connection, calls, hold } => {
                self.connection = Some(Connection::new(connection, calls, hold));
                self.tell(Event::Connected { connection });
            }
            Input::Said(connection, orders) => {
                orders.into_iter().for_each(|order| self.tell(Event::FromMaster { connection, order }));
            }
            Input::Closed(connection) => {
                self.connection.take_if(|open| open.id == connection);
                self.tell(Event::Closed { connection });
            }
        }
    }

    fn tell(&mut self, event: Event) {
        for command in self.machine.apply(self.clock.now_ms(), event) {
            match command {
                Command::Persist(record) => self.records.push(record),
                Command::Send { connection, call } => {
                    if let Some(open) = self.connection.as_mut().filter(|open| open.id == connection) {
                        open.say(call);
                    }
                }
                Command::Start { task, .. } => self.starts.push(Event::Started { task, pid: NO_PID }),
                Command::Close { connection } => {
                    self.connection.take_if(|open| open.id == connection);
                }
                Command::RemoveVolume { key } => self.starts.push(Event::VolumeRemoved { key }),
                // There is no process, and no directory.
                Command::Signal { .. }
                | Command::GiveUp { .. }
                | Command::Probe { .. }
                | Command::Exit { .. }
                | Command::KeepVolume { .. } => {}
            }
        }
    }

    /// Writes, then starts, then says; again, if that had consequences.
    async fn finish_turn(&mut self) -> Result<(), AgentError> {
        while !self.records.is_empty() || !self.starts.is_empty() {
            let (written, done) = oneshot::channel();
            let asked = self.journal.send((std::mem::take(&mut self.records), written)).await;
            if asked.is_err() || done.await.is_err() {
                return Err(LogError::Thread.into());
            }
            std::mem::take(&mut self.starts).into_iter().for_each(|started| self.tell(started));
        }
        if let Some(connection) = self.connection.as_mut().and_then(Connection::flush) {
            self.connection = None;
            self.tell(Event::Closed { connection });
        }
        Ok(())
    }
}
